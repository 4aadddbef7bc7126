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
