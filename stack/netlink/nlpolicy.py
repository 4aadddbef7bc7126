"""net/netlink/policy.c: export attribute policies to programs: which attributes a command
takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from stack.netlink.nlattr import S32, U32, U64, Attr, AttrTable

TYPES = (
    *("INVALID", "FLAG", "U8", "U16", "U32", "U64", "S8", "S16", "S32", "S64"),
    *("BINARY", "STRING", "NUL_STRING", "NESTED"),
)
"""enum netlink_attribute_type."""
POLICY = AttrTable(
    "NL_POLICY_TYPE_ATTR",
    Attr("NL_POLICY_TYPE_ATTR_TYPE", 1, U32),
    Attr("NL_POLICY_TYPE_ATTR_MIN_VALUE_U", 4, U64),
    Attr("NL_POLICY_TYPE_ATTR_MAX_VALUE_U", 5, U64),
    Attr("NL_POLICY_TYPE_ATTR_MIN_LENGTH", 6, U32),
    Attr("NL_POLICY_TYPE_ATTR_MAX_LENGTH", 7, U32),
    Attr("NL_POLICY_TYPE_ATTR_POLICY_IDX", 8, U32),
    Attr("NL_POLICY_TYPE_ATTR_POLICY_MAXTYPE", 9, U32),
    Attr("NL_POLICY_TYPE_ATTR_MASK", 12, U64),
)


def policies_of(tables: Iterable[AttrTable]) -> dict[AttrTable, int]:
    """net/netlink/policy.c netlink_policy_dump_add_policy: tables and those nested, numbered."""
    found: dict[AttrTable, int] = {}
    for table in tables:
        found.setdefault(table, len(found))
    queue = list(found)
    for table in queue:
        for row in table.by_number.values():
            if row.policed and row.inner is not None and row.inner not in found and not row.told:
                found[row.inner] = len(found)
                queue.append(row.inner)
    return found


def policy_attributes(
    table: AttrTable, tables: dict[AttrTable, int]
) -> Iterator[tuple[int, bytes]]:
    """net/netlink/policy.c netlink_policy_dump_write: number and description of each attribute."""
    for row in sorted(table.by_number.values(), key=lambda row: row.number):
        if not row.told:
            yield row.number, attribute_policy(row, tables)


def attribute_policy(row: Attr, tables: dict[AttrTable, int]) -> bytes:
    """net/netlink/policy.c __netlink_policy_dump_write_attr: type and bounds of an attribute."""
    told: dict[str, Any] = {}
    if row.mask:
        told["NL_POLICY_TYPE_ATTR_MASK"] = row.mask
    elif row.type.size and row.type is not S32:
        last = (1 << 8 * row.type.size) - 1
        least, most = (row.legal[0], row.legal[-1]) if row.legal is not None else (0, last)
        told["NL_POLICY_TYPE_ATTR_MIN_VALUE_U"] = least
        told["NL_POLICY_TYPE_ATTR_MAX_VALUE_U"] = most
    elif row.policed and row.inner is not None:
        told["NL_POLICY_TYPE_ATTR_POLICY_IDX"] = tables[row.inner]
        told["NL_POLICY_TYPE_ATTR_POLICY_MAXTYPE"] = row.inner.last
    elif row.legal is not None:  # BINARY: bytes
        told["NL_POLICY_TYPE_ATTR_MIN_LENGTH"] = row.legal[0]
        told["NL_POLICY_TYPE_ATTR_MAX_LENGTH"] = row.legal[-1]
    elif row.most:
        told["NL_POLICY_TYPE_ATTR_MAX_LENGTH"] = row.most
    told["NL_POLICY_TYPE_ATTR_TYPE"] = TYPES.index(row.type.name)
    return POLICY.build(told)
