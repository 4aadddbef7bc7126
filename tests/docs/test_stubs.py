"""The API reference: docstrings are shown as they stand, and every public name is there."""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import re
import sys
import textwrap
from pathlib import Path

import pytest
from docutils.core import publish_doctree

import fastpath

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from stubs import as_rst  # noqa: E402 - beside conf.py, where Sphinx finds it

NO_API = ("e1000emu.cli", "stack.core.uapi")
"""The commands, which docs/cli.md has, and the kernel's own constants."""


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


def public_names() -> set[tuple[str, str]]:
    """Return (module, name) of what packages list in `__all__`, and of what the pages, the README
    and the examples import."""
    found = set()
    for path in (*ROOT.glob("e1000emu/**/__init__.py"), *ROOT.glob("stack/**/__init__.py")):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        for name in getattr(importlib.import_module(package), "__all__", ()):
            found.add((package, name))
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    programs = [
        textwrap.dedent(text)
        for page in pages
        for text in re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(), re.M | re.S)
    ]
    programs += [path.read_text() for path in (ROOT / "examples").rglob("*.py")]
    for text in programs:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {(node.module, alias.name) for alias in node.names}
    mine = {(module, name) for module, name in found if module.startswith(("e1000emu", "stack"))}
    return {(module, name) for module, name in mine if not module.startswith(NO_API)}


def documented() -> set[str]:
    """Return the modules that the API pages have."""
    pages = (ROOT / "docs" / "api").glob("*.md")
    return {name for page in pages for name in re.findall(r"module:: (\S+)", page.read_text())}


def test_every_public_name_has_an_entry() -> None:
    found, modules, missing = ids(), documented(), []
    for module, name in sorted(public_names()):
        package = importlib.import_module(module)
        with contextlib.suppress(ImportError):  # a module that nobody has imported yet
            importlib.import_module(f"{module}.{name}")
        value = getattr(package, name)
        if isinstance(value, int) and name.isupper():  # a constant of Linux or of a protocol
            continue
        if inspect.ismodule(value):
            known = value in map(sys.modules.get, modules)  # under either of two names
            there = known or not hasattr(value, "__all__")
        else:
            # it may be described where it is defined, or where a package hands it on
            names = {f"{module}.{name}", f"{getattr(value, '__module__', '')}.{name}"}
            names |= {
                f"{m}.{name}" for m in modules if getattr(sys.modules.get(m), name, 0) is value
            }
            there = bool(names & found)
        if not there:
            missing.append(f"{module}.{name}")
    assert missing == []


def test_every_definition_of_a_stub_has_an_entry() -> None:
    found, missing = ids(), []
    for name in fastpath.MODULES:
        stub = ROOT / "fastpath" / f"{name.replace('.', '/')}.pyi"
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                entry = f"fastpath.{name}.{node.name}"
                missing += [entry] if entry not in found else []
    assert missing == []
