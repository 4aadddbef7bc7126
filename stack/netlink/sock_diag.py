"""net/core/sock_diag.c: NETLINK_SOCK_DIAG, the requests of `ss`, by the family of the sockets."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from stack.core.uapi import AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX
from stack.net import Net
from stack.netlink.inet_diag import SOCK_DIAG_BY_FAMILY, inet_diag_cmd
from stack.netlink.netlink_sock import NETLINK_SOCK_DIAG, netlink_protocol, nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.other_diag import netlink_diag_cmd, packet_diag_cmd, unix_diag_cmd

SOCK_DESTROY = 21
SOCK_DIAG_REQ = struct.Struct("=BB")
AF_MAX = 46

HANDLERS: dict[int, Callable[[nlmsg, bool], None]] = {
    AF_INET: inet_diag_cmd,
    AF_INET6: inet_diag_cmd,
    AF_UNIX: unix_diag_cmd,
    AF_PACKET: packet_diag_cmd,
    AF_NETLINK: netlink_diag_cmd,
}
"""`(request, destroy)` by family."""


def sock_diag_rcv_msg(nlh: nlmsg) -> None:
    """net/core/sock_diag.c: answer one request. Raises: OSError."""
    if nlh.type not in (SOCK_DIAG_BY_FAMILY, SOCK_DESTROY):
        raise NlError(errno.EINVAL)
    if len(nlh.payload) < SOCK_DIAG_REQ.size:
        raise NlError(errno.EINVAL)
    family, _ = SOCK_DIAG_REQ.unpack_from(nlh.payload)
    if family >= AF_MAX:
        raise NlError(errno.EINVAL)
    handler = HANDLERS.get(family)
    if handler is None:
        raise NlError(errno.ENOENT)
    handler(nlh, nlh.type == SOCK_DESTROY)


def sock_diag_net_init(net: Net) -> None:
    """net/core/sock_diag.c: NETLINK_SOCK_DIAG in a namespace."""
    net.nl_table.protocols[NETLINK_SOCK_DIAG] = netlink_protocol(
        NETLINK_SOCK_DIAG, 4, sock_diag_rcv_msg, nonroot_recv=True
    )
