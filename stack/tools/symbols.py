"""The name of a compiled function from its address in this process.

Sources: proc(5) for /proc/self/maps; the System V ABI's chapters 4 and 5 for the symbol tables of
the files mapped there.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

SHDR = struct.Struct("<IIQQQQIIQQ")
PHDR = struct.Struct("<IIQQQQQQ")
SYM = struct.Struct("<IBBHQQ")
PT_LOAD, SHT_SYMTAB, SHT_DYNSYM, STT_FUNC = 1, 2, 11, 2

CYTHON_PREFIX = re.compile(
    r"__pyx_(f|pw|pf|fuse_\d+pw|fuse|gb|tp_\w+?|getprop|setprop|mp_\w+?|sq_\w+?)_(?=\d)"
)
CLONE = re.compile(r"\.(?:part|isra|constprop|cold|lto_priv)\b.*$|\.\d+$")


@dataclass(frozen=True, slots=True)
class _Mapping:
    start: int
    stop: int
    offset: int
    path: str


class Images:
    """The executable files mapped into this process when it was made."""

    def __init__(self) -> None:
        self._mappings: list[_Mapping] = []
        for line in Path("/proc/self/maps").read_text().splitlines():
            span, _mode, offset, _device, _inode, *path = line.split(maxsplit=5)
            if path and path[0].startswith("/"):
                start, stop = (int(part, 16) for part in span.split("-"))
                self._mappings.append(_Mapping(start, stop, int(offset, 16), path[0]))
        self._starts = [m.start for m in self._mappings]
        self._symbols: dict[str, tuple[list[int], list[str]]] = {}

    def find(self, address: int) -> tuple[str, str]:
        """Return (file, symbol) of an address, each "" when unknown."""
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._mappings[at].stop:
            return "", ""
        found = self._mappings[at]
        if found.path not in self._symbols:
            try:
                self._symbols[found.path] = _functions(Path(found.path).read_bytes())
            except (OSError, struct.error, ValueError):
                self._symbols[found.path] = [], []
        offsets, names = self._symbols[found.path]
        at = bisect_right(offsets, address - found.start + found.offset) - 1
        return found.path, names[at] if at >= 0 else ""


def _functions(image: bytes) -> tuple[list[int], list[str]]:
    """Return the file offsets of a 64-bit ELF image's functions, ascending, and their names.

    Reads the full symbol table, or the exported symbols of a stripped file.
    """
    if image[:6] != b"\x7fELF\x02\x01":
        return [], []
    phoff, shoff = struct.unpack_from("<QQ", image, 32)
    phentsize, phnum, shentsize, shnum = struct.unpack_from("<HHHH", image, 54)
    loads = []
    for i in range(phnum):
        kind, _, offset, vaddr, _, filesz, _, _ = PHDR.unpack_from(image, phoff + i * phentsize)
        if kind == PT_LOAD:
            loads.append((vaddr, vaddr + filesz, offset))
    sections = [SHDR.unpack_from(image, shoff + i * shentsize) for i in range(shnum)]
    tables = {s[1]: s for s in sections if s[1] in (SHT_SYMTAB, SHT_DYNSYM)}
    table = tables.get(SHT_SYMTAB) or tables.get(SHT_DYNSYM)
    if table is None:
        return [], []
    strings = sections[table[6]][4]
    found = []
    for at in range(table[4], table[4] + table[5], SYM.size):
        name, info, _, section, value, _ = SYM.unpack_from(image, at)
        if info & 15 == STT_FUNC and section:
            offset = next((o + value - a for a, b, o in loads if a <= value < b), None)
            if offset is not None:
                end = image.index(b"\0", strings + name)
                found.append((offset, image[strings + name : end].decode("ascii", "replace")))
    found.sort()
    return [offset for offset, _ in found], [name for _, name in found]


def cython_name(symbol: str, modules: int) -> str:
    """Return a C function's name in the source: `__pyx_f_8fastpath_3nic_6rxring_6RxRing_run` is
    `RxRing.run`; "" for Cython's own helpers, whose time counts for their callers.

    `modules`: the number of leading names that are packages and module.
    """
    symbol = CLONE.sub("", symbol)
    if symbol.startswith(("__Pyx", "__pyx_insert", "__pyx_unpickle")):
        return ""
    prefix = CYTHON_PREFIX.match(symbol)
    if prefix is None:
        return "" if symbol.startswith("__pyx_") else symbol
    # Each enclosing scope has its length before it; Python's functions have a running number too.
    numbered = prefix[1].endswith(("pw", "pf"))
    rest, parts = symbol[prefix.end() :], []
    while digits := re.match(r"\d+", rest):
        name, end = rest[digits.end() :], int(digits[0])
        inner = name[end + 1 :]
        if len(name) > end and name[end] == "_" and (not numbered or inner[:1].isdigit()):
            parts.append(name[:end])
            rest = inner
        else:
            rest = name
            break
    return ".".join([*parts[modules:], rest])
