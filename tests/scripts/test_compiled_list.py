"""The packet path is compiled: a module of stack/ that takes packets is, or it says why not."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from stackc.tree import compiled_modules  # noqa: E402


def takes_packets(tree: ast.Module) -> bool:
    """Whether some function has a parameter annotated with sk_buff."""
    return any(
        param.annotation is not None
        and any(
            isinstance(part, ast.Name) and part.id == "sk_buff"
            for part in ast.walk(param.annotation)
        )
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for param in function.args.args
        if not isinstance(param.annotation, ast.Subscript)
    )


def modules() -> dict[str, ast.Module]:
    """The modules of stack/ by name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text())
        for path in sorted((ROOT / "stack").rglob("*.py"))
    }


def excused() -> dict[str, str]:
    """The modules that python.txt lists, and the reason of each."""
    lines = (ROOT / "scripts/stackc/python.txt").read_text().splitlines()
    rows = (line.partition("#") for line in lines if line.strip() and not line.startswith("#"))
    return {name.strip(): reason.strip() for name, _, reason in rows}


def test_what_takes_packets_is_compiled_or_says_why_not() -> None:
    taking = {name for name, tree in modules().items() if takes_packets(tree)}
    assert len(taking) > 80
    missing = sorted(taking - set(compiled_modules()) - excused().keys())
    assert not missing, (
        "these take an sk_buff: put each into scripts/stackc/compiled.txt, or with a reason into "
        f"python.txt beside it: {missing}"
    )


def test_the_lists_name_what_there_is() -> None:
    there = set(modules())
    assert sorted(set(compiled_modules()) - there) == []
    assert sorted(excused().keys() - there) == []
    assert sorted(excused().keys() & set(compiled_modules())) == []
    assert [name for name, reason in excused().items() if not reason] == []


def is_slot(field: ast.stmt) -> bool:
    """Whether a field's annotation names a function's arguments: `Callable[[int], None] | None`."""
    return isinstance(field, ast.AnnAssign) and any(
        isinstance(part, ast.Subscript)
        and ast.unparse(part.value) == "Callable"
        and isinstance(part.slice, ast.Tuple)
        and isinstance(part.slice.elts[0], ast.List)
        for part in ast.walk(field.annotation)
    )


def test_no_slot_has_a_function_with_default_arguments() -> None:
    """Such a function has not the slot's shape: each call would go through Python."""
    there = modules()
    slots = {
        (cls.name, field.target.id)
        for tree in there.values()
        for cls in tree.body
        if isinstance(cls, ast.ClassDef)
        for field in cls.body
        if is_slot(field)
        and isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
    }
    assert {("proto", "recvmsg"), ("proto_ops", "poll"), ("proto", "release_cb")} <= slots
    defaults = {
        function.name: name
        for name in compiled_modules()
        for function in there[name].body
        if isinstance(function, ast.FunctionDef) and function.args.defaults
    }
    found = [
        f"{name}: {given.arg}={given.value.id}, of {defaults[given.value.id]}"
        for name, tree in there.items()
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
        for given in call.keywords
        if (call.func.id, given.arg) in slots
        and isinstance(given.value, ast.Name)
        and given.value.id in defaults
    ]
    assert not found
