"""Dependencies of an ELF file, for building an initramfs.

Sources: the System V ABI's chapters 4 and 5 (program header, dynamic section); for kernel modules
the `.modinfo` strings that the kernel's scripts/mod/modpost.c writes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
DYN = struct.Struct("<qQ")
NHDR = struct.Struct("<III")
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
NOTE_ALIGN = 4
DT_NULL, DT_NEEDED, DT_STRTAB = 0, 1, 5


def needed(image: bytes) -> tuple[str, list[str]]:
    """Return the interpreter ("" for none) and the libraries that a 64-bit ELF file names.

    A file that is no ELF file (a script), or is linked statically, needs nothing.
    Raises: ValueError when the file ends before its own tables.
    """
    loads: list[tuple[int, int, int]] = []
    interpreter = ""
    dynamic = (0, 0)
    names, strings = [], None
    with _complete():
        for kind, offset, vaddr, size in _headers(image):
            if kind == PT_LOAD:
                loads.append((vaddr, offset, size))
            elif kind == PT_INTERP:
                interpreter = _text(image, offset)
            elif kind == PT_DYNAMIC:
                dynamic = (offset, size)
        for at in range(dynamic[0], sum(dynamic), DYN.size):
            tag, value = DYN.unpack_from(image, at)
            if tag == DT_NULL:
                break
            if tag == DT_NEEDED:
                names.append(value)
            elif tag == DT_STRTAB:
                strings = next((o + value - v for v, o, n in loads if v <= value < v + n), None)
    if names and strings is None:
        raise ValueError("ELF file names libraries and has no strings for them")
    return interpreter, [_text(image, (strings or 0) + name) for name in names]


def notes(image: bytes) -> set[tuple[str, int]]:
    """Return owner and type of each note of a 64-bit ELF file; none of any other.

    Raises: ValueError when the file ends before its own tables.
    """
    found = set()
    with _complete():
        for kind, at, _, size in _headers(image):
            end = min(at + size, len(image)) if kind == PT_NOTE else 0
            while at + NHDR.size <= end:
                name_bytes, data_bytes, number = NHDR.unpack_from(image, at)
                at += NHDR.size
                found.add((_text(image, at), number))
                at += name_bytes + -name_bytes % NOTE_ALIGN + data_bytes + -data_bytes % NOTE_ALIGN
    return found


@contextmanager
def _complete() -> Iterator[None]:
    """Turn a read behind the end of a file into a ValueError."""
    try:
        yield
    except (struct.error, OverflowError):
        raise ValueError("ELF file is cut short") from None


def _headers(image: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield type, offset in the file, address and size of each segment of a 64-bit ELF file."""
    if image[:6] != b"\x7fELF\x02\x01":
        return
    _, _, _, _, _, phoff, _, _, _, phentsize, phnum, *_ = EHDR.unpack_from(image)
    for i in range(phnum):
        kind, _, offset, vaddr, _, size, _, _ = PHDR.unpack_from(image, phoff + i * phentsize)
        yield kind, offset, vaddr, size


def module_depends(image: bytes) -> list[str]:
    """Return the names of the modules that a kernel module (`.ko`, not compressed) depends on."""
    at = image.find(b"\0depends=")
    if at < 0:
        return []
    text = _text(image, at + len(b"\0depends="))
    return [name for name in text.split(",") if name]


def _text(image: bytes, at: int) -> str:
    end = image.find(b"\0", at)
    if not 0 <= at < len(image) or end < 0:
        raise ValueError("ELF file is cut short")
    return image[at:end].decode("ascii", "replace")
