"""Slots: fields of `@state` classes that hold functions, and calls through them in C.

A slot whose annotation names its arguments, `Callable[[sock, msghdr, int], int]`, is called through
a C pointer if it holds a compiled function with these arguments, otherwise through Python. The
calling functions are at the end of each module that uses them, because a .pxd would put all of them
into the C of every module. `slots.h` finds the pointers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .state import StateClass
from .types import EXCEPT, OBJECT, ExtensionTypes

MODULE = "stack._slots"
CALLER = "_slot_call_"
MAX_ARGS = 6
_LETTERS = {"long long": "L", "bint": "B", "double": "D"}
_BUILTINS = ("list", "dict")
Key = tuple[str, str]
CLOCKS: frozenset[Key] = frozenset({("stack.core.clock", n) for n in ("Clock", "HostClock")})
"""The types of clocks: not `@state` classes, but module.py must recognise them."""

PXD = """# What finds the C pointer of a slot; written by scripts/stackc.
cdef extern from "slots.h":
    ctypedef struct slot_way:
        void *call
    const slot_way *slot_find(object fn, const char *shape) noexcept
    bint slot_takes(const slot_way *way, int i, object arg) noexcept
"""


def shape_of(params: Iterable[str], result: str) -> str | None:
    """The shape (slots.h) of C types, None where a builtin container is among them."""
    kinds = [*params, result]
    if len(kinds) > MAX_ARGS + 1 or any(kind in _BUILTINS for kind in kinds):
        return None
    return "".join(_LETTERS.get(kind, "O") for kind in kinds)


class Caller(NamedTuple):
    """The function that calls a slot: its name, the type of its pointer, its text, and the modules
    that declare its types."""

    name: str
    pointer: str
    text: list[str]
    modules: set[str]


class Slots:
    """The slots of all state classes."""

    def __init__(
        self,
        classes: Mapping[Key, StateClass],
        types: ExtensionTypes,
        origins: Mapping[str, Mapping[str, Key]],
    ) -> None:
        self.classes = classes
        self.types = types
        self.origins = origins

    def owner(self, key: Key, name: str) -> StateClass | None:
        """The class that declares a state class's field: itself or a base; None: no such field."""
        cls = self.classes.get(key)
        while cls is not None and name not in cls.fields:
            base = self.origins[cls.module].get(cls.base[1]) if cls.base is not None else None
            cls = self.classes.get(base) if base is not None else None
        return cls

    def field_type(self, key: Key, name: str) -> Key | ast.expr | None:
        """The type of a state class's field: another such class, or its annotation."""
        cls = self.owner(key, name)
        if cls is None:
            return None
        entry = cls.fields[name]
        return self.state_class(entry.annotation, entry.module) or entry.annotation

    def state_class(self, annotation: ast.expr | None, module: str) -> Key | None:
        """The state class, or one of CLOCKS, that an annotation names (also `... | None`)."""
        match annotation:
            case ast.Constant(value=str(text)):
                return self.state_class(ast.parse(text, mode="eval").body, module)
            case ast.Name(id=name):
                where = self.origins[module].get(name)
                return where if where in self.classes or where in CLOCKS else None
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                return self.state_class(left, module)
        return None

    def caller(self, key: Key, name: str, given: int) -> Caller | None:
        """The function that calls slot `name` of class `key` with `given` arguments."""
        annotation = self.field_type(key, name)
        match annotation:
            case ast.BinOp(left=left, op=ast.BitOr(), right=ast.Constant(value=None)):
                annotation = left
        match annotation:
            case ast.Subscript(
                value=ast.Name(id="Callable"),
                slice=ast.Tuple(elts=[ast.List(elts=params), result]),
            ) if len(params) == given:
                pass
            case _:
                return None
        cls = self.owner(key, name)
        assert cls is not None, "field_type found it"
        origin = self.origins[cls.module]
        modules: set[str] = set()
        kinds = [self.types.c_type(p, origin, modules) for p in params]
        back = self.types.c_type(result, origin, modules)
        back = back if back in _LETTERS else OBJECT
        shape = shape_of(kinds, back)
        if shape is None:
            return None
        called = f"{CALLER}{cls.name}__{name}"
        pointer, text = _caller(called, kinds, back, shape)
        return Caller(called, pointer, text, modules)


def _caller(name: str, kinds: list[str], back: str, shape: str) -> tuple[str, list[str]]:
    """The type of the pointer, and the function."""
    params = ", ".join(f"{kind} a{i}" for i, kind in enumerate(kinds))
    plain = [kind if kind in _LETTERS else OBJECT for kind in kinds]
    tail = f" {EXCEPT[back]}" if back in EXCEPT else ""
    pointer = f"ctypedef {back} (*_p_{shape})({', '.join([*plain, 'int'])}){tail}"
    args = ", ".join(f"a{i}" for i in range(len(kinds)))
    checks = [f"slot_takes(way, {i}, a{i})" for i, kind in enumerate(plain) if kind == OBJECT]
    test = " and ".join(["way.call != NULL", *checks])
    result = "" if back == OBJECT else f"{back} "
    return pointer, [
        f"cdef inline {result}{name}(object fn, {params}){tail}:",
        f'    cdef const slot_way *way = slot_find(fn, b"{shape}")',
        f"    if {test}:",
        f"        return (<_p_{shape}>way.call)({args}, 0)",
        *(
            [f"    return fn({args})"]
            if back == OBJECT
            else [f"    said = fn({args})", "    return 0 if said is None else said"]
        ),
        "",
    ]


def shapes_line(signatures: Iterable[tuple[str, str, tuple[tuple[str, str, bool], ...]]]) -> str:
    """The table of a module's functions that slots can hold: (name, result, parameters) of each."""
    entries = []
    for name, result, params in signatures:
        back = result if result in _LETTERS else OBJECT
        shape = shape_of((kind for kind, _, _ in params), back)
        if shape is None or not params or any(default for _, _, default in params):
            continue
        types = [
            kind if kind not in _LETTERS and kind != OBJECT else "None" for kind, _, _ in params
        ]
        entries.append(f'"{name}": ("{shape}", ({", ".join(types)},))')
    return f"_slot_shapes = {{{', '.join(entries)}}}\n"
