"""/sys/class/net for programs: a host's files in place of the machine's (stack.api.net_sysfs).

Files are opened as those of /proc/net are. Three things more are needed, for scripts look around:

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

from stack.api import net_sysfs
from stack.core.errors import os_error
from stack.net import Net

ROOT = "/sys/class/net"
WRITERS = 64
"""Descriptors for writing that are remembered."""
ATTRIBUTE_BYTES = 4096
STAT = {
    # struct stat: device, inode, then what the two machines order differently; times are 0.
    "x86_64": (struct.Struct("=QQQIII4xQqqq72x"), "nlink mode"),
    "aarch64": (struct.Struct("=QQIIIIQ8xqi4xq56x"), "mode nlink"),
}
STATX = struct.Struct("=IIQIIIH2xQQQQ64x4I112x")
STATX_BASIC_STATS = 0x7FF


class Tree:
    """What programs of one host have opened below /sys/class/net."""

    def __init__(self) -> None:
        self._directory = ""
        self.writers: dict[int, str] = {}
        """By the inode of a descriptor for writing: its file."""

    def open(self, net: Net, path: str, flags: int) -> int | None:
        """A descriptor of a directory, or for writing a file; None: of a file, to be read.

        Raises: OSError ENOENT, EISDIR, ENOTDIR, EACCES.
        """
        names = net_sysfs.names(net, path)
        if names is not None:
            if flags & os.O_ACCMODE:
                raise os_error(errno.EISDIR, f"{ROOT}/{path}")
            return self._open_directory(net, path, names)
        if flags & os.O_DIRECTORY:
            raise os_error(errno.ENOTDIR, f"{ROOT}/{path}")
        if not flags & os.O_ACCMODE:
            return None
        if not mode_of(net, path) & stat.S_IWUSR or flags & os.O_ACCMODE == os.O_RDWR:
            raise os_error(errno.EACCES, f"{ROOT}/{path} cannot be written so")
        ours, theirs = socket.socketpair()
        ours.close()
        if len(self.writers) >= WRITERS:
            del self.writers[next(iter(self.writers))]
        fd = theirs.detach()
        self.writers[os.fstat(fd).st_ino] = path
        return fd

    def _open_directory(self, net: Net, path: str, names: tuple[str, ...]) -> int:
        """A real directory with these names."""
        if not self._directory:
            self._directory = tempfile.mkdtemp()
        # An interface's name has no slash, so the parts of a path are names of files here, too.
        there = os.path.join(self._directory, path)
        shutil.rmtree(there, ignore_errors=True)
        os.makedirs(there)
        for name in names:
            at = os.path.join(there, name)
            if stat.S_ISDIR(mode_of(net, os.path.join(path, name))):
                os.mkdir(at)
            else:
                os.close(os.open(at, os.O_CREAT | os.O_WRONLY, 0o444))
        return os.open(there, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove what was made."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""
        self.writers.clear()


def below(path: str) -> str | None:
    """The path below /sys/class/net; None when it is elsewhere."""
    if path != ROOT and not path.startswith(f"{ROOT}/"):
        return None
    return os.path.normpath(path[len(ROOT) :].strip("/") or ".").removeprefix(".")


def mode_of(net: Net, path: str) -> int:
    """Kind and permissions of a file. Raises: OSError ENOENT."""
    if net_sysfs.names(net, path) is not None:
        return stat.S_IFDIR | 0o755
    writable = path.rpartition("/")[2] in net_sysfs.WRITABLE
    return stat.S_IFREG | (0o644 if writable else 0o444)


def stat_of(net: Net, path: str, machine: str) -> bytes:
    """The file's struct stat. Raises: OSError ENOENT."""
    mode = mode_of(net, path)
    size = 0 if stat.S_ISDIR(mode) else ATTRIBUTE_BYTES
    layout, order = STAT[machine]
    first = (1, mode) if order == "nlink mode" else (mode, 1)
    return layout.pack(0, _inode(path), *first, 0, 0, 0, size, ATTRIBUTE_BYTES, 0)


def statx_of(net: Net, path: str) -> bytes:
    """The file's struct statx. Raises: OSError ENOENT."""
    mode = mode_of(net, path)
    size = 0 if stat.S_ISDIR(mode) else ATTRIBUTE_BYTES
    owner = (1, 0, 0)
    numbers = (_inode(path), size, 0, 0)
    return STATX.pack(STATX_BASIC_STATS, ATTRIBUTE_BYTES, 0, *owner, mode, *numbers, 0, 0, 0, 0)


def _inode(path: str) -> int:
    """A number that is the file's, and no other's as far as its bits reach."""
    return int.from_bytes(path.encode()[-7:], "little") + 1 + len(path)
