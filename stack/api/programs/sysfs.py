"""/sys/class/net and /proc/sys/net for programs: a host's files in place of the machine's.

stack.api.net_sysfs and net_procsys say what is in them. Files are opened as those of /proc/net are.
Three things more are needed, for programs look around and configure:

    stat, access    answered from the names that the host has
    a directory     a real one with files of these names, which the program then reads
    writing         a descriptor of its own kind: what is written to it goes to the host

Symbolic links are shown as the directories that they lead to.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import struct
import tempfile
import zlib
from dataclasses import dataclass
from typing import Protocol

from stack.api import net_procsys, net_sysfs
from stack.core.errors import os_error
from stack.net import Net

WRITERS = 64
"""Descriptors for writing that are remembered."""
MEMORY = "/dev/shm"
"""Where directories are made: sysctl(8) takes the first two names for "." and "..", as they are in
/proc and on this file system, but not on all."""
BLOCK_BYTES = 4096
STAT = {
    # struct stat: device, inode, then what the two machines order differently; times are 0.
    "x86_64": (struct.Struct("=QQQIII4xQqqq72x"), "nlink mode"),
    "aarch64": (struct.Struct("=QQIIIIQ8xqi4xq56x"), "mode nlink"),
}
STATX = struct.Struct("=IIQIIIH2xQQQQ64x4I112x")
STATX_BASIC_STATS = 0x7FF


class Files(Protocol):
    """What a host has below `ROOT`: the functions of net_sysfs and net_procsys."""

    ROOT: str
    DIRECTORY_MODE: int
    """Permissions of directories."""
    FILE_BYTES: int
    """The size that stat(2) tells of files."""

    def names(self, net: Net, path: str) -> tuple[str, ...] | None:
        """The names in a directory; None: it is a file. Raises: OSError ENOENT."""

    def show(self, net: Net, path: str) -> str:
        """A file's text. Raises: OSError."""

    def writable(self, net: Net, path: str) -> bool:
        """Whether a file can be written. Raises: OSError ENOENT."""

    def store(self, net: Net, path: str, text: str) -> None:
        """Write a file. Raises: OSError."""


TREES: tuple[Files, ...] = (net_sysfs, net_procsys)


@dataclass(frozen=True, slots=True)
class At:
    """A file or directory: the tree, and the path below its root."""

    tree: Files
    path: str

    def __str__(self) -> str:
        return f"{self.tree.ROOT}/{self.path}"


def find(path: str) -> At | None:
    """Where a path is in one of the trees; None when it is elsewhere."""
    for tree in TREES:
        if path == tree.ROOT or path.startswith(f"{tree.ROOT}/"):
            below = os.path.normpath(path[len(tree.ROOT) :].strip("/") or ".")
            return At(tree, below.removeprefix("."))
    return None


class Tree:
    """What programs of one host have opened in the trees."""

    def __init__(self) -> None:
        self._directory = ""
        self.writers: dict[int, At] = {}
        """By the inode of a descriptor for writing: its file."""

    def open(self, net: Net, at: At, flags: int) -> int | None:
        """A descriptor of a directory, or for writing a file; None: of a file, to be read.

        Raises: OSError ENOENT, EISDIR, ENOTDIR, EACCES.
        """
        names = at.tree.names(net, at.path)
        access = flags & os.O_ACCMODE
        if names is not None:
            if access:
                raise os_error(errno.EISDIR, f"{at}")
            return self._open_directory(net, at, names)
        if flags & os.O_DIRECTORY:
            raise os_error(errno.ENOTDIR, f"{at}")
        if not access:
            return None
        if not at.tree.writable(net, at.path):
            raise os_error(errno.EACCES, f"{at} cannot be written")
        ours, theirs = socket.socketpair()
        with ours:
            if access == os.O_RDWR:
                ours.setblocking(False)  # a list of ports may be longer than what fits
                ours.send(at.tree.show(net, at.path).encode())
        if len(self.writers) >= WRITERS:
            del self.writers[next(iter(self.writers))]
        fd = theirs.detach()
        self.writers[os.fstat(fd).st_ino] = at
        return fd

    def _open_directory(self, net: Net, at: At, names: tuple[str, ...]) -> int:
        """A real directory with these names. Somebody may be reading it or the one above: what is
        there already stays, and no directory is in another one."""
        if not self._directory:
            self._directory = tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        there = os.path.join(self._directory, f"{at}".replace("/", "%"))
        os.makedirs(there, exist_ok=True)
        before = set(os.listdir(there))
        for name in before - set(names):
            entry = os.path.join(there, name)
            remove = os.rmdir if os.path.isdir(entry) else os.remove
            remove(entry)
        for name in set(names) - before:
            entry = os.path.join(there, name)
            if stat.S_ISDIR(mode_of(net, At(at.tree, os.path.join(at.path, name)))):
                os.mkdir(entry)
            else:
                os.close(os.open(entry, os.O_CREAT | os.O_WRONLY, 0o444))
        return os.open(there, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove what was made."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""
        self.writers.clear()


def mode_of(net: Net, at: At) -> int:
    """Kind and permissions of a file. Raises: OSError ENOENT."""
    if at.tree.names(net, at.path) is not None:
        return stat.S_IFDIR | at.tree.DIRECTORY_MODE
    return stat.S_IFREG | (0o644 if at.tree.writable(net, at.path) else 0o444)


def stat_of(net: Net, at: At, machine: str) -> bytes:
    """The file's struct stat. Raises: OSError ENOENT."""
    mode = mode_of(net, at)
    size = 0 if stat.S_ISDIR(mode) else at.tree.FILE_BYTES
    layout, order = STAT[machine]
    first = (1, mode) if order == "nlink mode" else (mode, 1)
    return layout.pack(0, _inode(at), *first, 0, 0, 0, size, BLOCK_BYTES, 0)


def statx_of(net: Net, at: At) -> bytes:
    """The file's struct statx. Raises: OSError ENOENT."""
    mode = mode_of(net, at)
    size = 0 if stat.S_ISDIR(mode) else at.tree.FILE_BYTES
    owner = (1, 0, 0)
    numbers = (_inode(at), size, 0, 0)
    return STATX.pack(STATX_BASIC_STATS, BLOCK_BYTES, 0, *owner, mode, *numbers, 0, 0, 0, 0)


def _inode(at: At) -> int:
    """A number that is the file's, and no other's as far as its bits reach."""
    path = at.path.encode()
    return zlib.crc32(path) << 16 | len(path) + 1
