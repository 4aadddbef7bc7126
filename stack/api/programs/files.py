"""Files about the network that a program opens: the host's in place of the machine's.

    /etc/resolv.conf  /etc/hosts      what the host's resolver uses (stack.clients.resolvconf)
    /proc/net/NAME                    stack.proc
    /proc/sys/net/PATH                stack.sysctl; they can be read only
    /sys/class/net/PATH               stack.api.programs.sysfs

The program gets a copy of the text as it is at that moment.
"""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Any

from fastpath.base.seccomp import read_memory
from stack import proc
from stack.api import net_sysfs
from stack.api.programs.sysfs import below
from stack.core.errors import os_error
from stack.core.rows import narrow, wide
from stack.net import Net

PAGE, PATH_BYTES = 4096, 256
FILES = (b"/etc/resolv.conf", b"/etc/hosts", b"/sys/class/net")
DIRECTORIES = (b"/proc/net/", b"/proc/self/net/", b"/proc/sys/net/", b"/sys/class/net/")
SEALS = 0xF
"""F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE: nothing may be changed."""


def path_at(tid: int, addr: wide) -> str | None:
    """A path in a program's memory; None when it is none of those that are told here."""
    # Not over the end of a page: the next one may not be there.
    room = narrow(PAGE - addr % PAGE)
    data = bytes(read_memory(tid, addr, min(room, PATH_BYTES)))
    if room < PATH_BYTES and b"\0" not in data:
        data += bytes(read_memory(tid, addr + room, PATH_BYTES - room))
    text, end, _ = data.partition(b"\0")
    if not end or not (text in FILES or text.startswith(DIRECTORIES)):
        return None
    return os.fsdecode(text)


def text_of(net: Net, path: str) -> str | None:
    """The text of a file of the host; None when the host has no such kind of file.

    Raises: OSError ENOENT.
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
    sys_path = below(path)
    if sys_path is not None:
        return net_sysfs.show(net, sys_path)
    if path.startswith("/proc/sys/net/"):
        return f"{shown(net.sysctl[path.removeprefix('/proc/sys/')])}\n"
    return None


def shown(value: Any) -> str:
    """A sysctl's value as its file has it."""
    if isinstance(value, list | tuple):
        return "\t".join(map(str, value))
    return str(int(value)) if isinstance(value, bool) else str(value)


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
