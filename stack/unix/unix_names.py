"""Names of AF_UNIX sockets: abstract ones, and paths in the net's own name space.

Paths never reach the file system of the machine that runs this. A net has its own tree in memory,
which holds only sockets. `bind` makes the folders of its path (Linux: ENOENT), and a folder exists
as long as something is below it. Relative paths begin at "/". As on Linux a name outlives its
socket until `sys_unlink` removes it.
"""

from __future__ import annotations

import errno

from stack.core.errors import os_error
from stack.core.sockaddr import sockaddr, sockaddr_un
from stack.core.uapi import AF_UNIX
from stack.net import Net
from stack.unix.unix_sock import UNIX_PATH_MAX, netns_unix, unix_sock

AUTOBIND_NAMES = 1 << 20
NAME_MAX = 255


def unix_validate_addr(uaddr: sockaddr | None) -> sockaddr_un:
    """net/unix/af_unix.c: an address of the family with a name. Raises: OSError EINVAL."""
    if uaddr is None or uaddr.family != AF_UNIX or not isinstance(uaddr, sockaddr_un):
        raise os_error(errno.EINVAL, f"{uaddr!r} is no address of AF_UNIX")
    if not 0 < len(uaddr.path) <= UNIX_PATH_MAX:
        raise os_error(
            errno.EINVAL, f"a name has 1 to {UNIX_PATH_MAX} bytes, not {len(uaddr.path)}"
        )
    return uaddr


def unix_mkname_bsd(sunaddr: sockaddr_un) -> bytes:
    """net/unix/af_unix.c: the path, which ends at the first NUL."""
    return sunaddr.path.split(b"\0", 1)[0]


def unix_path(path: bytes) -> bytes:
    """Normalize a path: absolute, without ".", ".." and doubled slashes.

    A slash at the end is kept, because it means that the path is a folder.
    Raises: OSError ENAMETOOLONG.
    """
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if len(part) > NAME_MAX:
            raise os_error(errno.ENAMETOOLONG, f"{part!r} has more than {NAME_MAX} bytes")
        if part == b"..":
            del parts[-1:]
        elif part and part != b".":
            parts.append(part)
    slash = b"/" if parts and path.endswith((b"/", b"/.", b"/..")) else b""
    return b"/" + b"/".join(parts) + slash


def folders_of(path: bytes) -> list[bytes]:
    """The folders above a normalized path, the nearest first."""
    found: list[bytes] = []
    at = path.rfind(b"/")
    while at > 0:
        found.append(path[:at])
        at = path.rfind(b"/", 0, at)
    return found


def kern_path(unx: netns_unix, path: bytes) -> bytes:
    """fs/namei.c: normalize a path and check that it leads through folders only.

    Raises: OSError ENOTDIR, ENAMETOOLONG.
    """
    found = unix_path(path)
    for folder in folders_of(found):
        if folder in unx.paths:
            raise os_error(errno.ENOTDIR, f"{folder!r} is a socket")
    return found


def unix_bind_bsd(sk: unix_sock, sunaddr: sockaddr_un) -> int:
    """net/unix/af_unix.c: bind to a path. Raises: OSError EADDRINUSE, EINVAL, ENOENT, ENOTDIR."""
    unx: netns_unix = sk.net.unx
    name = unix_mkname_bsd(sunaddr)
    given = unix_path(name)
    path = kern_path(unx, given.rstrip(b"/") or given)
    if path in unx.paths or path in unx.folders or path == b"/":
        raise os_error(errno.EADDRINUSE, f"{name!r} exists")
    if path != given:
        raise os_error(errno.ENOENT, f"{name!r}: a socket is no folder")
    if sk.addr is not None:
        raise os_error(errno.EINVAL, "the socket has a name")
    unx.paths[path] = sk
    for folder in folders_of(path):
        unx.folders[folder] = unx.folders.get(folder, 0) + 1
    sk.path = path
    sk.addr = sockaddr_un(name)
    return 0


def unix_bind_abstract(sk: unix_sock, sunaddr: sockaddr_un) -> int:
    """net/unix/af_unix.c: bind to an abstract name. Raises: OSError EINVAL, EADDRINUSE."""
    if sk.addr is not None:
        raise os_error(errno.EINVAL, "the socket has a name")
    key = sk.sk_type, sunaddr.path
    abstract = sk.net.unx.abstract
    if key in abstract:
        raise os_error(errno.EADDRINUSE, f"{sunaddr.path!r} is taken")
    abstract[key] = sk
    sk.addr = sunaddr
    return 0


def unix_autobind(sk: unix_sock) -> int:
    """net/unix/af_unix.c: bind to a free abstract name of five digits. Raises: OSError ENOSPC."""
    if sk.addr is not None:
        return 0
    net = sk.net
    abstract = net.unx.abstract
    first = net.random.getrandbits(20)
    for step in range(AUTOBIND_NAMES):
        number = (first + 1 + step) % AUTOBIND_NAMES
        path = b"\0%05x" % number
        if (sk.sk_type, path) not in abstract:
            abstract[sk.sk_type, path] = sk
            sk.addr = sockaddr_un(path)
            return 0
    raise os_error(errno.ENOSPC, "every name is taken")


def unix_find_bsd(net: Net, sunaddr: sockaddr_un, kind: int) -> unix_sock:
    """net/unix/af_unix.c: the path's socket. Raises: OSError ENOENT, ECONNREFUSED, EPROTOTYPE."""
    unx: netns_unix = net.unx
    name = unix_mkname_bsd(sunaddr)
    path = kern_path(unx, name)
    if path not in unx.paths:
        if path == b"/" or path.rstrip(b"/") in unx.folders:
            raise os_error(errno.ECONNREFUSED, f"{name!r} is no socket")
        raise os_error(errno.ENOENT, f"{net.name} has no {name!r}")
    sk = unx.paths[path]
    if sk is None:
        raise os_error(errno.ECONNREFUSED, f"the socket of {name!r} is closed")
    if sk.sk_type != kind:
        raise os_error(errno.EPROTOTYPE, f"{name!r} is a socket of type {sk.sk_type}")
    return sk


def unix_find_abstract(net: Net, sunaddr: sockaddr_un, kind: int) -> unix_sock:
    """net/unix/af_unix.c: the abstract name's socket. Raises: OSError ECONNREFUSED."""
    sk: unix_sock | None = net.unx.abstract.get((kind, sunaddr.path))
    if sk is None:
        raise os_error(errno.ECONNREFUSED, f"nobody is {sunaddr.path!r}")
    return sk


def unix_find_other(net: Net, sunaddr: sockaddr_un, kind: int) -> unix_sock:
    """net/unix/af_unix.c: the socket of type `kind` with that name. Raises: OSError."""
    if sunaddr.path[0]:
        return unix_find_bsd(net, sunaddr, kind)
    return unix_find_abstract(net, sunaddr, kind)


def unix_remove_socket(sk: unix_sock) -> None:
    """net/unix/af_unix.c: the socket ends: free its abstract name; a path stays."""
    unx: netns_unix = sk.net.unx
    unx.sockets.pop(sk.sk_cookie, None)
    addr = sk.addr
    if sk.path:
        if unx.paths.get(sk.path) is sk:
            unx.paths[sk.path] = None
    elif addr is not None:
        key = sk.sk_type, addr.path
        if unx.abstract.get(key) is sk:
            del unx.abstract[key]


def sys_unlink(net: Net, path: bytes) -> None:
    """unlink(2) in the net's name space: remove a name; a socket that has it stays open.

    Raises: OSError ENOENT, EISDIR, ENOTDIR, ENAMETOOLONG.
    """
    unx: netns_unix = net.unx
    name = path.split(b"\0", 1)[0]
    if not name:
        raise os_error(errno.ENOENT, "a path has one byte at least")
    found = kern_path(unx, name)
    if found not in unx.paths:
        if found == b"/" or found.rstrip(b"/") in unx.folders:
            raise IsADirectoryError(errno.EISDIR, f"{name!r} is a folder")
        raise os_error(errno.ENOENT, f"{net.name} has no {name!r}")
    sk = unx.paths.pop(found)
    if sk is not None:
        sk.path = b""
    for folder in folders_of(found):
        unx.folders[folder] -= 1
        if not unx.folders[folder]:
            del unx.folders[folder]
