"""The format of addresses, groups and lines in /proc/net."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stack.core.rows import wide


def le_word(addr: wide) -> str:
    """A host-order address as a little-endian CPU prints its network-order word with %08X."""
    return f"{int.from_bytes(addr.to_bytes(4, 'big'), 'little'):08X}"


def le_words(addr: wide) -> str:
    """The same for an IPv6 address: four words, each as a little-endian CPU prints it."""
    return "".join(le_word(addr >> shift & 0xFFFFFFFF) for shift in (96, 64, 32, 0))


def full6(addr: wide) -> str:
    """An IPv6 address with all its digits, as %pI6 prints it."""
    return addr.to_bytes(16, "big").hex(":", 2)


def group(name: str, items: Iterable[tuple[str, int]]) -> list[str]:
    """Two lines: the names of a group's counters, and their values."""
    pairs = list(items)
    names = " ".join(key for key, _ in pairs)
    values = " ".join(str(value) for _, value in pairs)
    return [f"{name}: {names}", f"{name}: {values}"]


def stat(columns: str, values: Mapping[str, int] | None = None) -> str:
    """A file of /proc/net/stat: headings, and a row for the one CPU, in hexadecimal.

    Values missing in `values` are 0; None: no row.
    """
    names = columns.split()
    lines = [" ".join(f"{name:<8}" for name in names)]
    if values is not None:
        row = (f"{values.get(name, 0):08x}".ljust(len(name)) for name in names)
        lines.append(" ".join(row).rstrip())
    return text(lines)


def text(lines: Iterable[str]) -> str:
    """The lines as a file's text."""
    return "\n".join(lines) + "\n"
