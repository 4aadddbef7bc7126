"""All tables of attributes that stack.netlink has, found in its modules, so that none is missed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import stack.netlink
from stack.netlink.nlattr import AttrTable

LEAST = 120
"""There are more; fewer are found if a walk misses those in rows or in others."""


def attr_tables() -> list[AttrTable]:
    """Those that are in modules, in rows of their tables, and nested in others; each once."""
    found: dict[int, AttrTable] = {}
    for info in pkgutil.iter_modules(stack.netlink.__path__):
        module = importlib.import_module(f"stack.netlink.{info.name}")
        for value in vars(module).values():
            for table in inside(value, 3):
                found.setdefault(id(table), table)
    return sorted(found.values(), key=lambda table: (table.name, sorted(table.by_number)))


def inside(value: object, depth: int) -> Iterator[AttrTable]:
    """The tables in a value of a module: in a container or a row, so many levels deep."""
    if isinstance(value, AttrTable):
        yield value
        for row in value.by_number.values():
            if row.inner is not None:
                yield from inside(row.inner, depth)
    elif depth and isinstance(value, (list, tuple, set)):
        for each in value:
            yield from inside(each, depth - 1)
    elif depth and isinstance(value, dict):
        for each in tuple(value.values()):
            yield from inside(each, depth - 1)
    elif depth and type(value).__module__.startswith("stack.netlink"):
        slots = getattr(type(value), "__slots__", ())
        for name in (*slots, *getattr(value, "__dict__", ())):
            yield from inside(getattr(value, name, None), depth - 1)


TABLES = attr_tables()
