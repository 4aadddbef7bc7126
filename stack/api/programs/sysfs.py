"""/proc/net, /proc/sys/net and /sys/class/net for programs: a host's files, not the machine's.

stack.api.net_proc, net_procsys and net_sysfs define their contents. A program opens real files, so
that fstat(2) and stat(2) agree:

    a file          a real file with the text, as for /etc
    a directory     a real directory with files of these names
    access          answered from the names that the host has
    writing         a special descriptor that passes the data to the host

readlink(2) returns the target of a symbolic link; stat, lstat and open show the directory there.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import struct
import tempfile
from dataclasses import dataclass
from typing import Protocol

from stack.api import net_proc, net_procsys, net_sysfs
from stack.core.errors import os_error
from stack.core.time64 import NSEC_PER_SEC
from stack.net import Net

WRITERS = 64
"""Maximum number of remembered descriptors for writing."""
MEMORY = "/dev/shm"
"""Parent directory: sysctl(8) takes the first two names for "." and "..", as they are in
/proc and on this file system, but not on all."""
STAT = {
    # struct stat: device, inode, then members whose order differs by machine; three times.
    "x86_64": (struct.Struct("=QQQIII4xQqqq6q24x"), "nlink mode"),
    "aarch64": (struct.Struct("=QQIIIIQ8xqi4xq6q8x"), "mode nlink"),
}
STATX = struct.Struct("=IIQIIIH2xQQQQqI4x16xqI4xqI4x4I112x")
STATX_BASIC_STATS = 0x7FF
AT_FDCWD = -100
"""For openat(2) etc: the current directory."""
MAKE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class Files(Protocol):
    """The files of a host below `ROOT`: the functions of net_sysfs and similar modules."""

    ROOT: str
    DIRECTORY_MODE: int
    """Permissions of directories."""
    FILE_BYTES: int
    """The size of files in stat(2). fstat(2) returns the length of the text."""

    def names(self, net: Net, path: str) -> tuple[str, ...] | None:
        """The names in a directory; None: it is a file. Raises: OSError ENOENT."""

    def show(self, net: Net, path: str) -> str:
        """A file's text. Raises: OSError."""

    def link(self, net: Net, path: str) -> str | None:
        """The target of a symbolic link, or None. Raises: OSError ENOENT."""

    def mode(self, net: Net, path: str) -> int:
        """Permissions of a file. Raises: OSError ENOENT."""

    def store(self, net: Net, path: str, text: str) -> None:
        """Write a file. Raises: OSError."""


TREES: tuple[Files, ...] = (net_proc, net_procsys, net_sysfs)


@dataclass(frozen=True, slots=True)
class At:
    """A file or directory: the tree, and the path below its root."""

    tree: Files
    path: str

    def __str__(self) -> str:
        return f"{self.tree.ROOT}/{self.path}"


def find(path: str) -> At | None:
    """The place of a path in one of the trees, or None."""
    for tree in TREES:
        if path == tree.ROOT or path.startswith(f"{tree.ROOT}/"):
            below = os.path.normpath(path[len(tree.ROOT) :].strip("/") or ".")
            return At(tree, below.removeprefix("."))
    return None


class Tree:
    """The files in the trees opened by programs of one host."""

    def __init__(self) -> None:
        self._directory = ""
        self.writers: dict[int, At] = {}
        """Files by the inode of their descriptor for writing."""

    def open(self, net: Net, at: At, flags: int) -> int | None:
        """A descriptor of a directory, or for writing a file; None for reading a file.

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
        if not at.tree.mode(net, at.path) & 0o200:
            raise os_error(errno.EACCES, f"{at} cannot be written")
        ours, theirs = socket.socketpair()
        with ours:
            if access == os.O_RDWR:
                ours.setblocking(False)  # a list of ports may exceed the buffer
                ours.send(at.tree.show(net, at.path).encode())
        if len(self.writers) >= WRITERS:
            del self.writers[next(iter(self.writers))]
        fd = theirs.detach()
        self.writers[os.fstat(fd).st_ino] = at
        return fd

    def _place(self, path: str) -> str:
        """The name of the real file or directory for a path. Directories are not nested."""
        if not self._directory:
            self._directory = tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        return os.path.join(self._directory, path.replace("/", "%"))

    def below(self, tid: int, directory: int, path: str) -> str | None:
        """The absolute path that is `path` below a program's descriptor `directory`. AT_FDCWD is
        the current directory: one created here after fchdir(2), the machine's after chdir(2),
        whose path is still looked up on the host."""
        link = "cwd" if directory == AT_FDCWD else f"fd/{directory}"
        try:
            place = os.readlink(f"/proc/{tid}/{link}")
        except OSError:
            return None
        parent, _, name = place.rpartition("/")
        if self._directory and parent == self._directory:
            place = name.replace("%", "/")
        return os.path.normpath(os.path.join(place, path))

    def file(self, path: str, text: str | None, mode: int) -> str:
        """The name of the real file with this text, or any text. It stays the same
        (st_ino), unless a program reads another text in it."""
        there = self._place(path)
        data = None if text is None else text.encode(errors="surrogateescape")
        with contextlib.suppress(FileNotFoundError):
            os.chmod(there, 0o600)
        fd = os.open(there, MAKE, 0o600)
        try:
            if data is not None and os.pread(fd, len(data) + 1, 0) != data:
                if is_read(fd):
                    os.remove(there)
                    os.close(fd)
                    fd = os.open(there, MAKE, 0o600)
                os.ftruncate(fd, 0)
                os.pwrite(fd, data, 0)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)
        return there

    def directory(self, at: At) -> str:
        """The name of the real directory."""
        there = self._place(f"{at}")
        os.makedirs(there, exist_ok=True)
        os.chmod(there, at.tree.DIRECTORY_MODE)
        return there

    def _open_directory(self, net: Net, at: At, names: tuple[str, ...]) -> int:
        """A real directory with these names. A program may be reading it, so existing files
        stay."""
        there = self.directory(at)
        before = set(os.listdir(there))
        if before != set(names):
            os.chmod(there, 0o700)
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
        return os.open(self.directory(at), os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Remove the created files."""
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = ""
        self.writers.clear()


def mode_of(net: Net, at: At) -> int:
    """Kind and permissions of a file. Raises: OSError ENOENT."""
    if at.tree.names(net, at.path) is not None:
        return stat.S_IFDIR | at.tree.DIRECTORY_MODE
    return stat.S_IFREG | at.tree.mode(net, at.path)


def is_read(fd: int) -> bool:
    """Whether a file is also open elsewhere, which prevents a write lease (fcntl(2))."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError:
        return True
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def stat_of(found: os.stat_result, size: int, machine: str) -> bytes:
    """A file's struct stat, with another size."""
    layout, order = STAT[machine]
    both = (found.st_nlink, found.st_mode)
    return layout.pack(
        found.st_dev,
        found.st_ino,
        *(both if order == "nlink mode" else both[::-1]),
        *(found.st_uid, found.st_gid, found.st_rdev),
        *(size, found.st_blksize, found.st_blocks),
        *divmod(found.st_atime_ns, NSEC_PER_SEC),
        *divmod(found.st_mtime_ns, NSEC_PER_SEC),
        *divmod(found.st_ctime_ns, NSEC_PER_SEC),
    )


def statx_of(found: os.stat_result, size: int) -> bytes:
    """A file's struct statx, with another size."""
    return STATX.pack(
        *(STATX_BASIC_STATS, found.st_blksize, 0),
        *(found.st_nlink, found.st_uid, found.st_gid, found.st_mode),
        *(found.st_ino, size, found.st_blocks, 0),
        *divmod(found.st_atime_ns, NSEC_PER_SEC),
        *divmod(found.st_ctime_ns, NSEC_PER_SEC),
        *divmod(found.st_mtime_ns, NSEC_PER_SEC),
        *(os.major(found.st_rdev), os.minor(found.st_rdev)),
        *(os.major(found.st_dev), os.minor(found.st_dev)),
    )
