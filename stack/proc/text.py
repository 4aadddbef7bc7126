"""How /proc/net writes addresses, groups and lines."""

from __future__ import annotations

from collections.abc import Iterable

from stack.core.rows import wide

USER_HZ = 100
TICK_NS = 1_000_000_000 // USER_HZ


def dotted(addr: wide) -> str:
    """Host-order int to "10.0.0.1"."""
    return ".".join(str(addr >> shift & 255) for shift in (24, 16, 8, 0))


def le_word(addr: wide) -> str:
    """A host-order address as a little-endian CPU prints its network-order word with %08X."""
    return f"{int.from_bytes(addr.to_bytes(4, 'big'), 'little'):08X}"


def le_words(addr: wide) -> str:
    """The same for an IPv6 address: four words, each as a little-endian CPU prints it."""
    return "".join(le_word(addr >> shift & 0xFFFFFFFF) for shift in (96, 64, 32, 0))


def group(name: str, items: Iterable[tuple[str, int]]) -> list[str]:
    """Two lines: the names of a group's counters, and their values."""
    pairs = list(items)
    names = " ".join(key for key, _ in pairs)
    values = " ".join(str(value) for _, value in pairs)
    return [f"{name}: {names}", f"{name}: {values}"]


def text(lines: Iterable[str]) -> str:
    """The lines as a file's text."""
    return "\n".join(lines) + "\n"
