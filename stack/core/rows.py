"""State declared once: the fields of a structure as rows of its class body.

    @state
    class tcp_sock(inet_connection_sock):
        snd_cwnd: int = row(TCP_INIT_CWND, clone=FRESH, ss="cwnd")
        nonagle: int = row(0)

    @state
    class flowi:
        family: int
        daddr: wide = 0
        ident: int = row(-1)

A field without `row` is a parameter of the constructor, as in a dataclass: `flowi(AF_INET, daddr)`.
A field with `row` is not. It starts with the row's default (None in `row()`), the result of
`make()` or that of `of(self)`.

The fields define the slots, the constructor, `init_state`, the copy of a listener that accept()
makes, and what `ss` shows. These functions are generated as straight-line code when the class is
made, so that no packet pays for a look-up by name.

The compiled stack makes a C structure of each such class, and replaces the generated functions by C
code over a table of its fields. This needs of the class body:
* exact types: `int` is a signed 64-bit integer. `u8`, `u16`, `u32` and `i32` are stored in as many
  bits. `bool` is a truth value, `wide` an int of any size, any other type an object,
* one base class at most,
* defaults that are literals or names of constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import get_annotations
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast, dataclass_transform, overload

from fastpath.wide import narrow, wide
from stack import COMPILED

__all__ = [
    "FRESH",
    "KEEP",
    "REQUIRED",
    "Row",
    "clone_state",
    "i32",
    "narrow",
    "replace",
    "row",
    "rows_of",
    "state",
    "u8",
    "u16",
    "u32",
    "wide",
]

T = TypeVar("T")

STATE: Any = import_module("stack._state") if COMPILED else None
LAYOUTS: dict[tuple[str, str], tuple[Any, list[str]]] = STATE.CLASSES if COMPILED else {}
"""The extension type and the fields of each compiled class, by module and name."""

u8: TypeAlias = int
u16: TypeAlias = int
u32: TypeAlias = int
i32: TypeAlias = int
"""Field types of the width that the kernel's structure has.

The compiled stack stores the field in so many bits; a value that does not fit is an OverflowError.
Variables and arguments of these types are ordinary `int`s: arithmetic has no limit.
"""


class _Policy:
    """Markers: KEEP and FRESH say what a clone's field gets, REQUIRED stands for no default."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


KEEP: Final = _Policy("KEEP")
"""The clone gets the original's value: a setting."""
FRESH: Final = _Policy("FRESH")
"""The clone gets what a new object has: state of one connection."""
REQUIRED: Final = _Policy("REQUIRED")
"""`default` of a field whose constructor parameter has none."""

_OF_EVERY_CLASS = {
    *("__module__", "__qualname__", "__doc__", "__annotations__", "__firstlineno__"),
    *("__static_attributes__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
}
_LITERAL = (int, float, str, bytes, bool, tuple, type(None))
_IMMUTABLE = (*_LITERAL, frozenset)


class Row:
    """One field: `name` and `type` (as written) come from the class body.

    `default` is the value of a new object; `make()` or `of(self)` makes one for each object.
    `shared` allows a mutable default, which all new objects share as "empty". Code that adds to it
    must first give the object a value of its own.
    `hot` marks fields that each packet touches. They come first in their class, as in the kernel's
    __cacheline_group_begin groups: with many sockets every other cache line is a miss.
    `init` says whether the constructor has a parameter for it.
    `clone` is KEEP, FRESH or a function from the original's value to the clone's.
    `ss` is the label under which `ss` shows the field, "" for none.
    """

    __slots__ = ("clone", "default", "hot", "init", "make", "name", "of", "ss", "type")

    def __init__(
        self,
        default: Any,
        make: Callable[[], Any] | None = None,
        of: Callable[[Any], Any] | None = None,
        clone: _Policy | Callable[[Any], Any] = KEEP,
        ss: str = "",
        shared: bool = False,
        hot: bool = False,
    ) -> None:
        parts = default if isinstance(default, tuple) else (default,)
        if (
            default is not REQUIRED
            and not shared
            and not all(isinstance(part, _IMMUTABLE) or callable(part) for part in parts)
        ):
            raise TypeError(f"a row's default {default!r} would be shared; use make=")
        self.name = ""
        self.type = ""
        self.default = default
        self.init = False
        self.make = make
        self.hot = hot
        self.of = of
        self.clone = clone
        self.ss = ss

    def __repr__(self) -> str:
        return f"<row {self.name}: {self.type}>"


def row(
    default: Any = None,
    *,
    make: Callable[[], Any] | None = None,
    of: Callable[[Any], Any] | None = None,
    clone: _Policy | Callable[[Any], Any] = KEEP,
    ss: str = "",
    shared: bool = False,
    hot: bool = False,
    init: Literal[False] = False,
) -> Any:
    """Declare a field of a `@state` class that is no parameter of its constructor (see Row).

    `init` is for type checkers only.

    Raises: TypeError: a mutable default, which all objects would share: use `make`.
    """
    return Row(default, make, of, clone, ss, shared, hot)


@overload
def state(cls: type[T], /) -> type[T]: ...
@overload
def state(*, weakref: bool = False) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(eq_default=False, field_specifiers=(row,))
def state(cls: type[Any] | None = None, /, *, weakref: bool = False) -> Any:
    """Class decorator: slots, `__init__` and cloning from the rows of `cls` and of its bases.

    A class may write an `__init__` of its own, which must set every field or call `init_state`
    first; subclasses inherit it. `@state(weakref=True)` allows weak references to the objects.
    """
    if cls is None:
        return lambda cls: _made_anew(cls, weakref)
    return _made_anew(cls, weakref)


def _made_anew(cls: type[T], weakref: bool) -> type[T]:
    """Make `cls` again with slots, which an existing class cannot be given."""
    namespace = dict(cls.__dict__)
    own: dict[str, Row] = {}
    for name, kind in get_annotations(cls).items():
        declared = namespace.pop(name, REQUIRED)
        if not isinstance(declared, Row):
            declared = Row(declared)
            declared.init = True
        declared.name, declared.type = name, str(kind)
        own[name] = declared
    for gone in ("__dict__", "__weakref__"):
        namespace.pop(gone, None)
    if (cls.__module__, cls.__name__) in LAYOUTS:
        return _on_layout(cls, namespace, own)
    inherited: dict[str, Row] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited |= getattr(base, "__rows__", {})
    rows = inherited | own
    namespace["__rows__"] = rows
    weak = ("__weakref__",) if weakref else ()
    namespace["__slots__"] = (*weak, *(name for name in own if name not in inherited))
    made = _compile(cls.__name__, rows.values())
    namespace["init_state"] = made["init_state"]
    namespace["clone_state"] = made["clone_state"]
    namespace.setdefault("__init__", made["__init__"])
    return _type_anew(cls, cls.__bases__, namespace)


def _on_layout(cls: type[T], namespace: dict[str, Any], own: dict[str, Row]) -> type[T]:
    """Make `cls` a subclass of the extension type with its fields, or that type if it adds nothing.

    Raises: ImportError: the extension type was made from other rows.
    """
    layout, names = LAYOUTS[cls.__module__, cls.__name__]
    if list(own) != names:
        raise ImportError(
            f"{cls.__module__}.{cls.__name__} has changed since it was compiled: run `make build`, "
            "or set E1000EMU_UNCOMPILED=1"
        )
    STATE.bind(layout, own, (REQUIRED, KEEP, FRESH))
    rows: dict[str, Row] = layout.__rows__
    for base in reversed(cls.__mro__[1:]):
        rows |= getattr(base, "__rows__", {})
    rows |= own
    bases = tuple(base for base in cls.__bases__ if not issubclass(layout, base))
    if not bases and not namespace.keys() - _OF_EVERY_CLASS:
        return cast("type[T]", layout)
    namespace["__slots__"] = ()
    if any("__init__" in base.__dict__ for base in cls.__mro__[1:-1]):
        namespace.setdefault("__init__", layout.__init__)
    return _type_anew(cls, (*bases, layout), namespace)


def _type_anew(cls: type[T], bases: tuple[type, ...], namespace: dict[str, Any]) -> type[T]:
    """Make `cls` again with these bases and this namespace."""
    new: type[T] = type(cls.__name__, bases, namespace)
    for value in namespace.values():  # super() refers to the class by a closure cell
        function = getattr(value, "__func__", value)  # __new__ is a static method
        for cell in getattr(function, "__closure__", None) or ():
            if cell.cell_contents is cls:
                cell.cell_contents = new
    return new


def _compile(name: str, rows: Iterable[Row]) -> dict[str, Any]:
    """The three generated functions of a class, as straight-line code."""
    env: dict[str, Any] = {}
    init = ["def init_state(self):", "    pass"]
    clone = ["def clone_state(self, new):", "    pass"]
    parameters: list[str] = []
    given: list[str] = []
    rest: list[str] = []

    def value_of(entry: Row) -> str:
        if isinstance(entry.default, _LITERAL):
            return repr(entry.default)
        env[f"default_{entry.name}"] = entry.default
        return f"default_{entry.name}"

    def fresh(target: str, entry: Row) -> str:
        if entry.make is not None:
            env[f"make_{entry.name}"] = entry.make
            return f"    {target}.{entry.name} = make_{entry.name}()"
        if entry.of is not None:
            env[f"of_{entry.name}"] = entry.of
            return f"    {target}.{entry.name} = of_{entry.name}({target})"
        return f"    {target}.{entry.name} = {value_of(entry)}"

    for entry in rows:
        required = entry.default is REQUIRED
        if not required:
            init.append(fresh("self", entry))
        if entry.init:
            parameters.append(entry.name if required else f"{entry.name}={value_of(entry)}")
            given.append(f"    self.{entry.name} = {entry.name}")
        else:
            rest.append(fresh("self", entry))
        if entry.clone is KEEP:
            clone.append(f"    new.{entry.name} = self.{entry.name}")
        elif entry.clone is FRESH:
            clone.append(fresh("new", entry))
        else:
            env[f"copy_{entry.name}"] = entry.clone
            clone.append(f"    new.{entry.name} = copy_{entry.name}(self.{entry.name})")
    clone.append("    return new")
    # Parameters are stored first: `of(self)` may read them.
    first = [f"def __init__({', '.join(['self', *parameters])}):", "    pass", *given, *rest]
    source = "\n".join(["\n".join(part) for part in (init, clone, first)])
    exec(compile(source, f"<rows of {name}>", "exec"), env)
    return env


def clone_state(original: T) -> T:
    """A new object of the original's class, each field as its row says."""
    cls = type(original)
    new = cls.__new__(cls)
    clone: T = original.clone_state(new)  # type: ignore[attr-defined]
    return clone


def replace(original: T, **changes: Any) -> T:
    """As dataclasses.replace: a new object, made of the original's parameters and of `changes`."""
    given = {name: getattr(original, name) for name, e in rows_of(type(original)).items() if e.init}
    return type(original)(**given | changes)


def rows_of(cls: type) -> dict[str, Row]:
    """The rows of a class under `@state`, inherited ones first, by field name."""
    rows: dict[str, Row] = cls.__rows__  # type: ignore[attr-defined]
    return rows
