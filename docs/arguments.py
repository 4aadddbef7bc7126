"""Tables of what `impair` and `faults` take, from the docstrings of `Impair` and `Faults`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import blocks

from e1000emu.insight.faults import Faults
from e1000emu.links import Impair
from e1000emu.quantities import show_duration

__all__ = ["filled", "said_of_faults", "said_of_impair"]

EXAMPLES = {"float": "2%", "str": "tx", "int": "7", "int | None": "7"}


def said_of_impair() -> dict[str, str]:
    """Return what the docstring of `Impair` says of each argument: lines `name: what it is`."""
    return dict(re.findall(r"^    ([a-z_]+): (.*)$", Impair.__doc__ or "", re.MULTILINE))


def said_of_faults() -> dict[str, str]:
    """Return the first paragraph of the docstring below each field of `Faults`."""
    (body,) = ast.parse(inspect.getsource(Faults)).body
    assert isinstance(body, ast.ClassDef)
    said = {}
    for field, words in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(words, ast.Expr):
            text = inspect.cleandoc(ast.literal_eval(words.value)).partition("\n\n")[0]
            said[ast.unparse(field.target)] = " ".join(text.split()).removesuffix(".")
    return said


def table(of: Callable[..., object], said: dict[str, str]) -> str:
    """Return a row for each argument of `of`: in Python, on the command line, what it is."""
    found = inspect.signature(of).parameters
    lines = []
    for name, text in said.items():
        kind, default = str(found[name].annotation), found[name].default
        if name.endswith("_ns"):
            short = name.removesuffix("_ns")
            typed = f"{name if short in said else short}=5ms"
            shown = show_duration(default) if default else "0"
        elif name.endswith("_bps"):
            typed, shown = f"{name.removesuffix('_bps')}=10Mbit", "no limit"
        elif kind.startswith("tuple"):
            typed, shown = f"{name}=tx-data:3", "none"
        else:
            typed, shown = f"{name}={EXAMPLES[kind]}", str(default).removesuffix(".0")
        lines.append([f"`{name}`", f"`{typed}`", shown, text[0].upper() + text[1:]])
    return blocks.grid(["in Python", "on the command line", "default", "what it is"], lines)


BLOCKS: dict[str, Callable[[], str]] = {
    "faults": lambda: table(Faults, said_of_faults()),
    "impair": lambda: table(Impair, said_of_impair()),
}


def filled(path: Path) -> str:
    """Return the page's text with its tables made anew."""
    return blocks.filled(path, BLOCKS)
