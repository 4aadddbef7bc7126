"""Which registers' writes are reported to `Watch`: the same for all NICs of a model."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from e1000emu.insight.unmodelled import gap_mask
from e1000emu.registers.fields import Field
from e1000emu.registers.regs import TABLE, reg

ALL_ONES = 0xFFFFFFFF
RULED = frozenset(
    (
        *("CTRL", "MDIC", "FCRTH", "RCTL", "RDH", "TCTL", "TDH", "ICR", "ICS", "TADV", "RAH"),
        *("TDBAL", "TDBAH", "TDLEN", "RDBAL", "RDBAH", "RDLEN"),
    )
)
"""The registers for which `Watch` has a rule, besides reserved bits and legal values."""
RESERVED_ELSEWHERE = frozenset({"TDBAL", "RDBAL", "TDLEN", "RDLEN", "IMC", "ICR", "WUS"})
"""Registers whose reserved bits have a rule of their own, or that are written all ones to clear
them."""


class Watched(NamedTuple):
    """A register whose writes are reported to `Watch`, for `RegFile.watch`."""

    offset: int
    told: int
    absent: int
    every: bool
    reserved: int
    """Bits that a write must not set."""
    read_only: bool
    name: str
    limits: tuple[Field, ...] = ()
    """Fields whose value, if it is not legal, violates a rule."""


@cache
def watched(lacks: frozenset[str], features: frozenset[str]) -> tuple[Watched, ...]:
    """Return the registers of a part, without those in `lacks`, whose writes can be invalid."""
    rows = []
    for r in TABLE:
        if r.name in lacks or r.alias_of:
            continue
        r = r.on(features)
        reserved = sum(f.mask for f in r.fields if not f.name)
        read_only = not r.wmask and reserved != ALL_ONES and any(f.name for f in r.fields)
        if r.name in RESERVED_ELSEWHERE or r.wmask == 0:
            reserved = 0
        limits = tuple(f for f in r.fields if f.breaks)
        every = read_only or r.name in RULED or bool(limits)
        for at in r.offsets:
            told = reserved | gap_mask("bar0", at)
            if r.name == "ICR":
                rows.append(Watched(at, 0, reg("ICR").w1c_mask, False, 0, False, r.name))
            elif told or every:
                rows.append(Watched(at, told, 0, every, reserved, read_only, r.name, limits))
    return tuple(rows)


@cache
def watched_by_offset(lacks: frozenset[str], features: frozenset[str]) -> dict[int, Watched]:
    """Return the rows of `watched` by offset."""
    return {row.offset: row for row in watched(lacks, features)}
