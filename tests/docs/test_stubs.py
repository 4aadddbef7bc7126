"""The API reference: docstrings are shown as they stand, and every public name is there."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from pathlib import Path

import pytest
from docutils.core import publish_doctree

import fastpath

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from stubs import as_rst  # noqa: E402 - beside conf.py, where Sphinx finds it

PACKAGES = ("e1000emu", "e1000emu.links", "e1000emu.testing", "stack.socket", "stack.aio")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fold `acc` to 16 bits", "fold acc to 16 bits"),
        ("tell sleeping `wait`ers", "tell sleeping waiters"),
        ("``*_header`` counts", "*_header counts"),
        ("a *_header, **kw or word_ is plain", "a *_header, **kw or word_ is plain"),
        ("2 * 3 * 4 | 5", "2 * 3 * 4 | 5"),
        ("an open ` backtick", "an open ` backtick"),
        ("C:\\dir", "C:\\dir"),
        ("a line\n    set in\nand out again", "a line\n\nset in\n\nand out again"),
        ("first:\n* one\n  more\n* two\nlast", "first:\n\none\nmore\n\ntwo\n\nlast"),
        ("1. one\n2. two", "one\n\ntwo"),
        (
            "text\n\n    with f(*a) as b:\n        `b`\n\nmore",
            "text\n\nwith f(*a) as b:\n    `b`\n\nmore",
        ),
    ],
)
def test_a_docstring_is_shown_as_it_stands(text: str, shown: str) -> None:
    tree = publish_doctree(as_rst(text), settings_overrides={"report_level": 1, "halt_level": 1})
    assert tree.astext() == shown


def ids() -> set[str]:
    """Return the anchors of all API pages."""
    pages = (ROOT / "site" / "api").glob("*.html")
    return {name for page in pages for name in re.findall(r' id="([^"]+)"', page.read_text())}


def test_every_public_name_has_an_entry() -> None:
    found, missing = ids(), []
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            # what a package hands on from a compiled module is described there
            names = {f"{package}.{name}", f"{getattr(value, '__module__', '')}.{name}"}
            if callable(value) and not names & found:
                missing.append(f"{package}.{name}")
    assert missing == []


def test_every_definition_of_a_stub_has_an_entry() -> None:
    found, missing = ids(), []
    for name in fastpath.MODULES:
        for node in ast.parse((ROOT / "fastpath" / f"{name}.pyi").read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                entry = f"fastpath.{name}.{node.name}"
                missing += [entry] if entry not in found else []
    assert missing == []
