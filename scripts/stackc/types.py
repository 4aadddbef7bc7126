"""From Python's annotations to C types."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path

_PLAIN = {"int": "long long", "bool": "bint", "float": "double"}
NARROW = {"u8": "unsigned char", "u16": "unsigned short", "u32": "unsigned int", "i32": "int"}
"""Fields of fewer bits (narrow.py); everything else of such a type is a `long long`."""
_PLAIN |= dict.fromkeys(NARROW, "long long")
_BUILTIN = {"list", "dict"}
_CDEF_CLASS = re.compile(r"^cdef class (\w+)", re.M)
_CPDEF = re.compile(r"^cpdef\b(?: \([^)\n]*\))?[^(\n]*?(\w+)\(", re.M)

OBJECT = "object"
EXCEPT = dict.fromkeys(_PLAIN.values(), "except? -1")
"""How a C function with this result says that it has raised an exception."""


def alias_of(module: str) -> str:
    """The name under which generated text knows a cimported module."""
    return "_c_" + module.replace(".", "_")


def cimport(module: str) -> str:
    """The cimport lines of a module; Cython's search for dependencies reads the first."""
    package, _, name = module.rpartition(".")
    return f"cimport {module}\nfrom {package} cimport {name} as {alias_of(module)}"


class ExtensionTypes:
    """The extension types and direct functions that generated code can name.

    `state` maps the (module, class) of each `@state` class; `fastpath` is read from its .pxd files.
    """

    def __init__(self, root: Path, state: Mapping[tuple[str, str], str]) -> None:
        self.state = state
        self.classes: dict[tuple[str, str], str] = {}
        self.functions: set[tuple[str, str]] = set()
        for pxd in sorted((root / "fastpath").rglob("*.pxd")):
            module = ".".join(pxd.relative_to(root).with_suffix("").parts)
            text = pxd.read_text()
            for name in _CDEF_CLASS.findall(text):
                self.classes[module, name] = module
            for name in _CPDEF.findall(text):
                self.functions.add((module, name))

    def c_type(
        self, node: ast.expr | None, origin: Mapping[str, tuple[str, str]], modules: set[str]
    ) -> str:
        """Return the C type of an annotation; add the required cimports to `modules`.

        `origin` says where each imported or own name of the module is defined.
        """
        match node:
            case ast.Constant(value=str(text)):
                return self.c_type(ast.parse(text, mode="eval").body, origin, modules)
            case ast.Name(id=name) if name in _PLAIN:
                return _PLAIN[name]
            case ast.Name(id=name) if name in _BUILTIN:
                return name
            case ast.Name(id=name):
                return self._extension(name, origin, modules)
            case ast.Attribute(value=ast.Name(id=base), attr=name) if base in origin:
                module = ".".join(origin[base])
                return self._extension(name, {name: (module, name)}, modules)
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                found = self.c_type(left, origin, modules)
                return OBJECT if found in _PLAIN.values() else found
            case ast.Subscript(value=ast.Name(id=name)) if name in _BUILTIN:
                return name
            case ast.Subscript(value=ast.Name(id=name)) if origin.get(name) in self.classes:
                return self._extension(name, origin, modules)
        return OBJECT

    def _extension(
        self, name: str, origin: Mapping[str, tuple[str, str]], modules: set[str]
    ) -> str:
        where = origin.get(name)
        if where is None:
            return OBJECT
        if where in self.state:
            modules.add("stack._state")
            return f"{alias_of('stack._state')}.{self.state[where]}"
        if where in self.classes:
            modules.add(where[0])
            return f"{alias_of(where[0])}.{name}"
        return OBJECT
