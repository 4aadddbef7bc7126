"""State declared once: the fields of sockets as rows.

A class under `@state` lists its fields in its body, one row each:

    @state
    class tcp_sock(inet_connection_sock):
        snd_cwnd: int = row(TCP_INIT_CWND, clone=FRESH, ss="cwnd")
        nonagle: int = row(0)

From the rows come the slots, the initialisation of a new object, the copy that accept() makes of a
listener, and what `ss` shows. Both functions are generated as straight-line code when the class is
made, so nothing is looked up by name while packets flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

__all__ = ["FRESH", "KEEP", "Row", "clone_state", "row", "rows_of", "state"]

T = TypeVar("T")


class _Policy:
    """What a clone gets of a field; two values exist."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


KEEP: Final = _Policy("KEEP")
"""The clone gets the original's value: a setting."""
FRESH: Final = _Policy("FRESH")
"""The clone gets what a new object has: state of one connection."""

_IMMUTABLE = (int, float, str, bytes, bool, frozenset, type(None))


class Row:
    """One field: `name` and `type` (as written) come from the class body.

    `default` is the value of a new object, `make()` or `of(self)` make one for each object.
    `clone` is KEEP, FRESH or a function from the original's value to the clone's.
    `ss` is the label under which `ss` shows the field, "" for none.
    """

    __slots__ = ("clone", "default", "make", "name", "of", "ss", "type")

    def __init__(
        self,
        default: Any,
        make: Callable[[], Any] | None,
        of: Callable[[Any], Any] | None,
        clone: _Policy | Callable[[Any], Any],
        ss: str,
    ) -> None:
        self.name = ""
        self.type = ""
        self.default = default
        self.make = make
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
) -> Any:
    """Declare a field of a class under `@state` (see Row).

    Raises:
        TypeError: a mutable default, which all objects would share: use `make`.
    """
    parts = default if isinstance(default, tuple) else (default,)
    if make is None and of is None and not all(isinstance(part, _IMMUTABLE) for part in parts):
        raise TypeError(f"a row's default {default!r} would be shared; use make=")
    return Row(default, make, of, clone, ss)


def state(cls: type[T]) -> type[T]:
    """Class decorator: slots, `__init__` and cloning from the rows of `cls` and of its bases.

    A class whose objects are made of something (a request of its listener) writes an `__init__` of
    its own, which calls `init_state`. `__init__(self, net)` is generated for the others.
    Methods of the class cannot use super() without arguments: the class is made anew.
    """
    own: dict[str, Row] = {}
    namespace = dict(cls.__dict__)
    for name, kind in namespace.get("__annotations__", {}).items():
        declared = namespace.get(name)
        if isinstance(declared, Row):
            declared.name, declared.type = name, str(kind)
            own[name] = declared
            del namespace[name]
    for gone in ("__dict__", "__weakref__"):
        namespace.pop(gone, None)
    inherited: dict[str, Row] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited |= getattr(base, "__rows__", {})
    rows = inherited | own
    namespace["__rows__"] = rows
    weak = ("__weakref__",) if cls.__bases__ == (object,) else ()
    namespace["__slots__"] = (*weak, *(name for name in own if name not in inherited))
    made = _compile(cls.__name__, rows.values())
    namespace["init_state"] = made["init_state"]
    namespace["clone_state"] = made["clone_state"]
    if "__init__" not in namespace and "net" in rows:
        namespace["__init__"] = made["__init__"]
    return cast("type[T]", type(cls.__name__, cls.__bases__, namespace))


def _compile(name: str, rows: Any) -> dict[str, Any]:
    """The three generated functions of a class, as straight-line code."""
    env: dict[str, Any] = {}
    init = ["def init_state(self):", "    pass"]
    clone = ["def clone_state(self, new):", "    pass"]

    def fresh(target: str, entry: Row) -> str:
        if entry.make is not None:
            env[f"make_{entry.name}"] = entry.make
            return f"    {target}.{entry.name} = make_{entry.name}()"
        if entry.of is not None:
            env[f"of_{entry.name}"] = entry.of
            return f"    {target}.{entry.name} = of_{entry.name}({target})"
        return f"    {target}.{entry.name} = {entry.default!r}"

    for entry in rows:
        if entry.name != "net":
            init.append(fresh("self", entry))
        if entry.clone is KEEP:
            clone.append(f"    new.{entry.name} = self.{entry.name}")
        elif entry.clone is FRESH:
            clone.append(fresh("new", entry))
        else:
            env[f"copy_{entry.name}"] = entry.clone
            clone.append(f"    new.{entry.name} = copy_{entry.name}(self.{entry.name})")
    clone.append("    return new")
    first = ["def __init__(self, net):", "    self.net = net", *init[1:]]
    source = "\n".join(["\n".join(part) for part in (init, clone, first)])
    exec(compile(source, f"<rows of {name}>", "exec"), env)
    return env


def clone_state(original: T) -> T:
    """A new object of the original's class, each field as its row says."""
    new = object.__new__(type(original))
    clone: T = original.clone_state(new)  # type: ignore[attr-defined]
    return clone


def rows_of(cls: type) -> dict[str, Row]:
    """The rows of a class under `@state`, inherited ones first, by field name."""
    rows: dict[str, Row] = cls.__rows__  # type: ignore[attr-defined]
    return rows
