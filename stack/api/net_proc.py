"""/proc/net for programs: the files of stack.proc as a tree (fs/proc/proc_net.c)."""

from __future__ import annotations

import errno

from stack import proc
from stack.core.errors import os_error
from stack.net import Net

ROOT = "/proc/net"
DIRECTORY_MODE, FILE_BYTES = 0o555, 0
NAMES = tuple(name for name in proc.FILES if name not in ("interrupts", "softirqs"))
"""The files of Linux's directory; these two are in /proc."""


def names(net: Net, path: str) -> tuple[str, ...] | None:
    """The names in a directory; None if the path is a file. Raises: OSError ENOENT."""
    if path in NAMES:
        return None
    start = f"{path}/" if path else ""
    below = (name.removeprefix(start) for name in NAMES if name.startswith(start))
    found = dict.fromkeys(name.partition("/")[0] for name in below)
    if not found:
        raise os_error(errno.ENOENT, f"{ROOT}/{path}: there are {', '.join(NAMES)}")
    return tuple(sorted(found))


def link(net: Net, path: str) -> str | None:
    """There are no symbolic links. Raises: OSError ENOENT."""
    names(net, path)
    return None


def mode(net: Net, path: str) -> int:
    """Permissions of a file: read-only."""
    secret = path == "nf_conntrack" or path.startswith("netfilter/nfnetlink_")
    return 0o440 if secret else 0o444


def show(net: Net, path: str) -> str:
    """A file's text. Raises: OSError ENOENT, EISDIR."""
    if names(net, path) is not None:
        raise os_error(errno.EISDIR, f"{ROOT}/{path}")
    return proc.FILES[path](net)


def store(net: Net, path: str, text: str) -> None:
    """Never reached, as `mode` allows no writing. Raises: OSError EACCES."""
    raise os_error(errno.EACCES, f"{ROOT}/{path} is read only")
