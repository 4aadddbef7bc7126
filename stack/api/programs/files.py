"""Files about the network that a program opens: the host's in place of the machine's.

    /etc/resolv.conf  /etc/hosts      what the host's resolver uses (stack.clients.resolvconf)
    /proc/net/NAME                    stack.proc
    /proc/sys/net/PATH                stack.api.net_procsys
    /sys/class/net/PATH               stack.api.net_sysfs

The program gets a copy of the text as it is at that moment.
"""

from __future__ import annotations

import errno
import fcntl
import os

from fastpath.base.seccomp import read_memory
from stack import proc
from stack.api.programs.sysfs import find
from stack.core.errors import os_error
from stack.core.rows import narrow, wide
from stack.net import Net

PAGE, PATH_BYTES = 4096, 256
FILES = (b"/etc/resolv.conf", b"/etc/hosts", b"/sys/class/net", b"/proc/sys/net")
DIRECTORIES = (b"/proc/net/", b"/proc/self/net/", b"/proc/sys/net/", b"/sys/class/net/")
SEALS = 0xF
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE: nothing may be changed."""


def string_at(tid: int, addr: wide, size: int = PATH_BYTES) -> bytes | None:
    """A string in a program's memory; None if it takes more than `size` bytes with its end."""
    # Not over the end of a page: the next one may not be there.
    room = narrow(PAGE - addr % PAGE)
    data = bytes(read_memory(tid, addr, min(room, size)))
    if room < size and b"\0" not in data:
        data += bytes(read_memory(tid, addr + room, size - room))
    text, end, _ = data.partition(b"\0")
    return text if end else None


def path_at(tid: int, addr: wide) -> str | None:
    """A path in a program's memory; None when it is none of those that are told here."""
    text = string_at(tid, addr)
    if text is None or not (text in FILES or text.startswith(DIRECTORIES)):
        return None
    return os.fsdecode(text)


def text_of(net: Net, path: str) -> str | None:
    """The text of a file of the host; None when the host has no such kind of file.

    Raises: OSError ENOENT, EISDIR ...
    """
    path = path.replace("/proc/self/net/", "/proc/net/", 1)
    if path == "/etc/resolv.conf":
        return net.names.current.emit()
    if path == "/etc/hosts":
        return net.names.hosts.emit()
    if path.startswith("/proc/net/"):
        try:
            return proc.read(net, path.removeprefix("/proc/net/"))
        except FileNotFoundError as exc:
            raise os_error(errno.ENOENT, str(exc)) from None
    at = find(path)
    return None if at is None else at.tree.show(net, at.path)


def memory_file(name: str, text: str) -> int:
    """A descriptor that reads `text` and cannot be written."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, text.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
