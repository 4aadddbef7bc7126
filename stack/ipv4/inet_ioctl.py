"""ioctl(2) of IPv4's sockets (net/ipv4/af_inet.c)."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import socket
from stack.core.dev_ioctl import (
    IFREQ_BYTES,
    SIOCADDRT,
    SIOCDARP,
    SIOCDELRT,
    SIOCGARP,
    SIOCGIFPFLAGS,
    SIOCRTMSG,
    SIOCSARP,
    SIOCSIFFLAGS,
    SIOCSIFPFLAGS,
    family_ioctl,
)
from stack.core.errors import os_error
from stack.core.memory import copy_from_user, copy_to_user
from stack.core.uapi import AF_INET
from stack.inet.inet_common import sk_ioctl
from stack.ipv4.arp_ioctl import arp_ioctl
from stack.ipv4.devinet_ioctl import GETTING, SETTING, devinet_ioctl
from stack.ipv4.fib_ioctl import ip_rt_ioctl


def inet_ioctl(sock: socket, cmd: int, arg: Any = None) -> Any:
    """net/ipv4/af_inet.c: requests about routes, ARP and addresses; others go to the protocol.

    Returns None when the answer is in `arg`. Raises: OSError; ENOTTY for an unknown request.
    """
    net = sock.net
    if cmd in (SIOCADDRT, SIOCDELRT):
        ip_rt_ioctl(net, cmd, arg)
    elif cmd == SIOCRTMSG:
        raise os_error(errno.EINVAL, "SIOCRTMSG is long gone")
    elif cmd in (SIOCGIFPFLAGS, SIOCSIFPFLAGS):
        copy_from_user(arg, IFREQ_BYTES)
        raise os_error(errno.EINVAL, "an address has no flags of this kind")
    elif cmd in (SIOCDARP, SIOCGARP, SIOCSARP):
        arp_ioctl(net, cmd, arg)
    elif cmd in GETTING or cmd in SETTING or cmd == SIOCSIFFLAGS:
        ifr = copy_from_user(arg, IFREQ_BYTES)
        devinet_ioctl(net, cmd, ifr)
        if cmd in GETTING:
            copy_to_user(arg, ifr)
    else:
        return sk_ioctl(sock.sk, cmd, arg)
    return None


inet_compat_ioctl = inet_ioctl


def inet_lent_ioctl(sock: socket, cmd: int, arg: Any) -> Any:
    """inet_ioctl for packet sockets: all but the protocol's requests. Raises: OSError, ENOTTY."""
    wanted = (SIOCADDRT, SIOCDELRT, SIOCDARP, SIOCGARP, SIOCSARP, SIOCSIFFLAGS, *GETTING, *SETTING)
    if cmd not in wanted:
        raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")
    return inet_ioctl(sock, cmd, arg)


family_ioctl[AF_INET] = inet_lent_ioctl
