"""ioctl(2) (fs/ioctl.c) and the requests for sockets (net/socket.c).

`arg` is None, a number, or the program's memory: a bytearray or other writable buffer, which holds
the request's struct and receives the answer. A request whose answer is an int returns it when no
memory is given; the kernel does that for some requests only.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.core import uapi
from stack.core.bsd_socket import socket
from stack.core.dev_ioctl import (
    ASKING,
    IFREQ_BYTES,
    SIOCGIFBR,
    SIOCGIFCONF,
    SIOCGIFHWADDR,
    SIOCGIFNAME,
    SIOCGIFVLAN,
    SIOCSIFBR,
    SIOCSIFVLAN,
    dev_ifconf,
    dev_ioctl,
)
from stack.core.errors import os_error
from stack.core.fasync import f_getown, f_setown
from stack.core.file import FASYNC, fget, struct_file
from stack.core.memory import copy_from_user, copy_to_user, get_user_int, put_user_int
from stack.core.sock import sock_enable_timestamp
from stack.core.sock_flags import SOCK_TIMESTAMP
from stack.core.time64 import NSEC_PER_SEC
from stack.net import Net

SOCK_IOC_TYPE = 0x89
ANSWERED = (SIOCGIFNAME, SIOCGIFHWADDR, *ASKING)


def sys_ioctl(net: Net, fd: int, cmd: int, arg: Any = None) -> Any:
    """ioctl(2): 0, or the request's answer. Raises: OSError EBADF, ENOTTY, EFAULT, EINVAL ..."""
    file: struct_file = fget(net, fd)
    cmd &= 0xFFFFFFFF
    if cmd == uapi.FIOCLEX:
        net.fdtable.close_on_exec.add(fd)
        return 0
    if cmd == uapi.FIONCLEX:
        net.fdtable.close_on_exec.discard(fd)
        return 0
    if cmd == uapi.FIONBIO:
        ioctl_fionbio(file, get_user_int(arg))
        return 0
    if cmd == uapi.FIOASYNC:
        ioctl_fioasync(fd, file, get_user_int(arg))
        return 0
    if file.sock is not None:
        return sock_ioctl(file, file.sock, cmd, arg)
    handler = file.f_op.unlocked_ioctl
    if handler is None:
        raise os_error(errno.ENOTTY, f"request {cmd:#x} is not for what is open")
    return handler(file, cmd, arg)


def ioctl_fionbio(file: struct_file, on: int) -> None:
    """fs/ioctl.c: O_NONBLOCK on or off."""
    if on:
        file.f_flags |= uapi.O_NONBLOCK
    else:
        file.f_flags &= ~uapi.O_NONBLOCK


def ioctl_fioasync(fd: int, file: struct_file, on: int) -> None:
    """fs/ioctl.c: O_ASYNC on or off. Raises: OSError ENOTTY."""
    flag = FASYNC if on else 0
    if (flag ^ file.f_flags) & FASYNC:
        fasync = file.f_op.fasync
        if fasync is None:
            raise os_error(errno.ENOTTY, "what is open sends no signals")
        fasync(fd, file, bool(on))


def sock_ioctl(file: struct_file, sock: socket, cmd: int, arg: Any) -> Any:
    """net/socket.c: requests to any socket, then those to its family. Raises: OSError ENOTTY."""
    if cmd in (uapi.FIOSETOWN, uapi.SIOCSPGRP):
        f_setown(file, get_user_int(arg))
        return 0
    if cmd in (uapi.FIOGETOWN, uapi.SIOCGPGRP):
        return put_user_int(f_getown(file), arg)
    if cmd in (uapi.SIOCGSTAMP, uapi.SIOCGSTAMPNS):
        if sock.ops.family in (uapi.PF_UNIX, uapi.AF_NETLINK):
            raise os_error(errno.ENOTTY, "messages of this host have no time of arrival")
        return sock_gettstamp(sock, cmd == uapi.SIOCGSTAMP, arg)
    if cmd == SIOCGIFCONF:
        dev_ifconf(sock.net, arg)
        return 0
    if cmd in (SIOCGIFBR, SIOCSIFBR):
        copy_from_user(arg, IFREQ_BYTES)
        raise os_error(errno.EOPNOTSUPP, "requests for bridges of Linux 2.4")
    if cmd in (SIOCGIFVLAN, SIOCSIFVLAN):
        raise os_error(errno.ENOPKG, "VLANs are made by rtnetlink")
    return sock_do_ioctl(sock, cmd, arg)


def sock_gettstamp(sock: socket, micro: bool, arg: Any) -> Any:
    """net/core/sock.c: when the last packet came: (seconds, us or ns). Raises: OSError ENOENT.

    Stamps are kept from the first request on. What was read before came now.
    """
    sk = sock.sk
    sock_enable_timestamp(sk, SOCK_TIMESTAMP)
    if sk.sk_stamp_ns < 0:
        raise os_error(errno.ENOENT, "no packet was received yet")
    if not sk.sk_stamp_ns:
        sk.sk_stamp_ns = sock.net.machine.realtime_ns()
    stamp = sk.sk_stamp_ns
    sec, nsec = divmod(stamp, NSEC_PER_SEC)
    found = sec, nsec // 1000 if micro else nsec
    if arg is None:
        return found
    copy_to_user(arg, b"".join(n.to_bytes(8, "little") for n in found))
    return 0


def sock_do_ioctl(sock: socket, cmd: int, arg: Any) -> Any:
    """net/socket.c: the family's and protocol's, else those of interfaces. Raises: OSError."""
    try:
        found = sock.ops.ioctl(sock, cmd, arg)
    except OSError as error:
        if error.errno != errno.ENOTTY or cmd >> 8 & 0xFF != SOCK_IOC_TYPE:
            raise
    else:
        return 0 if found is None else put_user_int(found, arg)
    ifr = copy_from_user(arg, IFREQ_BYTES)
    dev_ioctl(sock.net, cmd, ifr)
    if cmd in ANSWERED:
        copy_to_user(arg, ifr)
    return 0
