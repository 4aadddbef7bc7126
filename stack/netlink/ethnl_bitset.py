"""net/ethtool/bitset.c: sets of bits in messages of the ethtool family, compact or bit by bit.

    SIZE 10  VALUE 0x003  MASK 0x00f            compact
    SIZE 10  BITS [ BIT [INDEX 0 NAME "rx" VALUE]  BIT [INDEX 1 ...] ]

With NOMASK it is a list of the bits that are set; else the mask has the bits that count. Values are
ints here: bit 0 is the first.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from stack.netlink.ethnl_attrs import BIT, BITSET
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import (
    NLA_F_NESTED,
    NLA_HDRLEN,
    NLA_TYPE_MASK,
    STRICT,
    Attrs,
    NlError,
    nest,
    nla_for_each,
)

NESTED_BIT = 1 | NLA_F_NESTED


def ethnl_put_bitset(
    value: int, mask: int | None, size: int, names: Sequence[str], compact: bool
) -> bytes:
    """net/ethtool/bitset.c: a set of `size` bits; mask None: a list."""
    out: dict[str, Any] = {"NOMASK": True if mask is None else None, "SIZE": size}
    if compact:
        room = (size + 31) // 32 * 4
        out["VALUE"] = value.to_bytes(room, "little")
        out["MASK"] = None if mask is None else mask.to_bytes(room, "little")
        return BITSET.build(out)
    bits = b""
    shown = value if mask is None else mask
    for index in range(size):
        if shown >> index & 1:
            is_set = mask is not None and value >> index & 1
            told = {
                "INDEX": index,
                "NAME": names[index] if names else None,
                "VALUE": True if is_set else None,
            }
            bits += nest(NESTED_BIT, BIT.build(told))
    out["BITS"] = bits
    return BITSET.build(out)


def ethnl_parse_bitset(
    nlh: nlmsg, tb: Attrs, name: str, size: int, names: Sequence[str]
) -> tuple[int, int]:
    """net/ethtool/bitset.c: (value, mask) of a request's attribute. Raises: NlError EINVAL."""
    at, end = tb.span(name)
    found = BITSET.parse(nlh.whole, at, STRICT, end)
    no_mask = "NOMASK" in found
    if "BITS" in found:
        for wrong in ("VALUE", "MASK"):
            if wrong in found:
                raise found.wrong(wrong, f"{wrong.lower()} only allowed in compact bitset")
        return _verbose(nlh, found, size, names, no_mask)
    if no_mask and "MASK" in found:
        raise found.wrong("MASK", "mask not allowed in list bitset")
    return _compact(found, tb.at[name], size, no_mask)


def _compact(found: Attrs, at: int, size: int, no_mask: bool) -> tuple[int, int]:
    """net/ethtool/bitset.c ethnl_compact_sanity_checks. Raises: NlError."""
    for needed, text in (
        ("SIZE", "missing size in compact bitset"),
        ("VALUE", "missing value in compact bitset"),
        ("MASK", "missing mask in compact nonlist bitset"),
    ):
        if needed not in found and not (needed == "MASK" and no_mask):
            raise NlError(errno.EINVAL, text, at)
    room = (found["SIZE"] + 31) // 32 * 4
    for part in ("VALUE", "MASK"):
        if part in found and len(found[part]) != room:
            raise found.wrong(part, f"bitset {part.lower()} length does not match size")
    value = int.from_bytes(found["VALUE"], "little")
    mask = (1 << size) - 1 if no_mask else int.from_bytes(found["MASK"], "little")
    checked = value if no_mask else mask
    if found["SIZE"] > size and (checked & (1 << found["SIZE"]) - 1) >> size:
        part = "VALUE" if no_mask else "MASK"
        raise found.wrong(part, "cannot modify bits past kernel bitset size")
    every = (1 << min(size, found["SIZE"])) - 1
    return value & every, mask & (every if not no_mask else (1 << size) - 1)


def _verbose(
    nlh: nlmsg, found: Attrs, size: int, names: Sequence[str], no_mask: bool
) -> tuple[int, int]:
    """net/ethtool/bitset.c ethnl_update_bitset32_verbose. Raises: NlError."""
    value = mask = 0
    for kind, at, end in nla_for_each(nlh.whole, *found.span("BITS")):
        if not kind & NLA_F_NESTED:
            raise NlError(errno.EINVAL, "NLA_F_NESTED is missing", at)
        if kind & NLA_TYPE_MASK != 1:
            text = "only ETHTOOL_A_BITSET_BITS_BIT allowed in ETHTOOL_A_BITSET_BITS"
            raise NlError(errno.EINVAL, text, at)
        bit = BIT.parse(nlh.whole, at + NLA_HDRLEN, STRICT, end)
        index = _index(bit, at, size, names)
        mask |= 1 << index
        if no_mask or "VALUE" in bit:
            value |= 1 << index
    return value, (1 << size) - 1 if no_mask else mask


def _index(bit: Attrs, at: int, size: int, names: Sequence[str]) -> int:
    """net/ethtool/bitset.c ethnl_parse_bit: the bit that is meant. Raises: NlError."""
    if "INDEX" in bit:
        index: int = bit["INDEX"]
        if index >= size:
            raise bit.wrong("INDEX", "bit index too high", errno.EOPNOTSUPP)
        if "NAME" in bit and names and names[index] != bit["NAME"]:
            raise NlError(errno.EINVAL, "bit index and name mismatch", at)
        return index
    if "NAME" in bit:
        if not bit["NAME"] or bit["NAME"] not in names:
            raise bit.wrong("NAME", "bit name not found", errno.EOPNOTSUPP)
        return names.index(bit["NAME"])
    raise NlError(errno.EINVAL, "neither bit index nor name specified", at)
