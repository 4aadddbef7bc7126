"""Writes an initramfs: the "newc" form of cpio that the kernel unpacks.

The source is the kernel's own Documentation/driver-api/early-userspace/buffer-format.rst. Owners
are all root and times all zero, so the same content gives the same bytes and needs no root.
"""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
ALIGN = 4


class Initramfs:
    """Files, directories, links and device nodes by their path in the guest.

    Directories above an entry are made by themselves; an entry given again replaces the first.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def __contains__(self, path: str) -> bool:
        return _clean(path) in self._entries

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self._add(path, stat.S_IFREG | mode, content)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link that holds `target`."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node."""
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def _add(self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = _clean(path)
        for parent in reversed(PurePosixPath(name).parents):
            if str(parent) != "." and str(parent) not in self._entries:
                self._entries[str(parent)] = (stat.S_IFDIR | 0o755, b"", (0, 0))
        self._entries[name] = (mode, content, device)

    def emit(self) -> bytes:
        """Return the archive, not compressed: the guest would inflate it at an emulated
        processor's pace."""
        out = bytearray()
        entries = [*self._entries.items(), (TRAILER, (0, b"", (0, 0)))]
        for inode, (name, (mode, content, device)) in enumerate(entries, 1):
            encoded = name.encode() + b"\0"
            links = 2 if stat.S_ISDIR(mode) else 1
            fields = (inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(encoded), 0)
            out += MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
            out += bytes(-len(out) % ALIGN)
            out += content
            out += bytes(-len(out) % ALIGN)
        return bytes(out)

    def write(self, path: Path) -> None:
        """Write the archive to `path`."""
        path.write_bytes(self.emit())


def _clean(path: str) -> str:
    name = str(PurePosixPath(path.lstrip("/")))
    if name == "." or ".." in PurePosixPath(name).parts:
        raise ValueError(f"path {path!r}: not a path below the root")
    return name
