"""Network files that a program opens: those of the host, not of the machine.

    /etc/resolv.conf  /etc/hosts      files of the host's resolver (stack.clients.resolvconf)
    /proc/net/PATH                    stack.api.net_proc
    /proc/sys/net/PATH                stack.api.net_procsys
    /sys/class/net/PATH               stack.api.net_sysfs
    /dev/net/tun                      stack.drivers.tun_chr

The program gets a copy of the current text (sysfs.Tree). /proc/PID/net of any
process is that of the host, as a program only sees programs of its own host. For /dev/net/tun it
gets an open file.
"""

from __future__ import annotations

import errno
import os
import re
import stat

from fastpath.base.seccomp import read_memory
from stack.api.programs.sysfs import Tree, find, mode_of
from stack.api.programs.virtual import task_tgid_vnr
from stack.core.errors import os_error
from stack.core.rows import narrow, wide
from stack.core.sock import ns_capable
from stack.core.uapi import CAP_NET_ADMIN
from stack.net import Net

PAGE, PATH_BYTES = 4096, 256
TUN = b"/dev/net/tun"
ROOTS = (b"/proc/net", b"/proc/sys/net", b"/sys/class/net")
FILES = frozenset((b"/etc/resolv.conf", b"/etc/hosts", *ROOTS, TUN))
DIRECTORIES = tuple(root + b"/" for root in ROOTS)
OF_PROCESS = re.compile(rb"/proc/(thread-self|self|\d+)(/task/\d+)?/net(/|\Z)")
OWN = (b"self", b"thread-self")
OWN_ADDRESS = "127.0.1.1"


def string_at(tid: int, addr: wide, size: int = PATH_BYTES) -> bytes | None:
    """A string in a program's memory; None if it takes more than `size` bytes with its end."""
    # Not beyond a page, since the next one may be unmapped.
    room = narrow(PAGE - addr % PAGE)
    data = bytes(read_memory(tid, addr, min(room, size)))
    if room < size and b"\0" not in data:
        data += bytes(read_memory(tid, addr + room, size - room))
    text, end, _ = data.partition(b"\0")
    return text if end else None


def path_at(tid: int, addr: wide, tree: Tree, directory: int) -> str | None:
    """A path in a program's memory; None if it is not handled here.

    A path in /proc/PID/net maps to /proc/net/. A relative path starts at the
    descriptor `directory`.
    """
    text = string_at(tid, addr)
    if not text:
        return None
    if text[:1] != b"/":
        below = tree.below(tid, directory, os.fsdecode(text))
        if below is None:
            return None
        text = os.fsencode(below)
    if text in FILES or text.startswith(DIRECTORIES):
        return os.fsdecode(text)
    found = OF_PROCESS.match(text) if text.startswith(b"/proc/") else None
    if found is None:
        return None
    process, task, _ = found.groups()
    if task or process not in OWN:
        if not process.isdigit():
            process = b"%d" % task_tgid_vnr(tid)
        there = b"/proc/%d/root/proc/%b%b" % (tid, process, task or b"")
        if not os.path.exists(there):
            return None  # the kernel returns the error
    return "/proc/net/" + os.fsdecode(text[found.end() :])


def text_of(net: Net, path: str) -> str | None:
    """The text of a file of the host; None if it is not such a file.

    Raises: OSError ENOENT, EISDIR ...
    """
    if path == "/etc/resolv.conf":
        return net.names.current.emit()
    if path == "/etc/hosts":
        return net.names.hosts.emit() + own_name(net)
    at = find(path)
    return None if at is None else at.tree.show(net, at.path)


def own_name(net: Net) -> str:
    """The line of /etc/hosts for the host name of uname(2), as Debian's installer
    writes it; none if the hosts table has it."""
    name = os.uname().nodename
    if any(name in names for _, _, names in net.names.hosts.entries):
        return ""
    return f"{OWN_ADDRESS}\t{name}\n"


def open_file(net: Net, tree: Tree, path: str, flags: int) -> int | None:
    """A descriptor for a program that opens a path of `path_at`; None: the kernel opens it.

    Raises: OSError.
    """
    at = find(path)
    if at is not None:
        if flags & os.O_ACCMODE and not ns_capable(net, CAP_NET_ADMIN):
            raise os_error(errno.EACCES, f"only root may write {path}")
        fd = tree.open(net, at, flags)
        if fd is not None:
            return fd
    elif flags & os.O_DIRECTORY:
        return None
    text = text_of(net, path)
    if text is None:
        return None
    if flags & os.O_ACCMODE:
        raise os_error(errno.EACCES, f"{path} of a host is read only")
    there = tree.file(path if at is None else f"{at}", text, _mode(net, path))
    return os.open(there, os.O_RDONLY | os.O_CLOEXEC)


def stat_file(net: Net, tree: Tree, path: str) -> tuple[os.stat_result, int] | None:
    """The stat(2) result of a path of `path_at`, and the size. Other fields match fstat(2) of
    the opened file.

    None: the kernel handles it. Raises: OSError ENOENT.
    """
    at = find(path)
    if at is None:
        text = text_of(net, path)
        if text is None:
            return None
        found = os.stat(tree.file(path, text, _mode(net, path)))
        return found, found.st_size
    if at.tree.names(net, at.path) is not None:
        return os.stat(tree.directory(at)), 0
    return os.stat(tree.file(f"{at}", None, _mode(net, path))), at.tree.FILE_BYTES


def _mode(net: Net, path: str) -> int:
    """Permissions of a file."""
    at = find(path)
    if at is not None:
        return stat.S_IMODE(mode_of(net, at))
    return 0o444 if path.startswith("/proc/") else 0o644
