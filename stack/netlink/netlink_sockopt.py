"""net/netlink/af_netlink.c: the options of SOL_NETLINK, and memberships."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import socket
from stack.core.errors import os_error
from stack.core.sockopt_table import (
    Level,
    SockOpt,
    get_option,
    opt_bytes,
    opt_int,
    set_option,
    switch,
)
from stack.core.uapi import SOL_NETLINK
from stack.netlink import netlink_sock as names
from stack.netlink.af_netlink import netlink_capable, protocol_of
from stack.netlink.netlink_sock import NETLINK_GENERIC, netlink_sock


def netlink_update_membership(sk: netlink_sock, group: int, listens: bool) -> None:
    """net/netlink/af_netlink.c: join or leave one group."""
    proto = protocol_of(sk)
    if listens == (group in sk.groups):
        return
    if listens:
        sk.listened = True
        sk.groups.add(group)
        proto.listeners.setdefault(group, []).append(sk)
    else:
        sk.groups.remove(group)
        proto.listeners[group].remove(sk)
        if not proto.listeners[group]:
            del proto.listeners[group]
    if proto.bind is not None:
        proto.bind()


def may_listen(sk: netlink_sock) -> None:
    """Raises: OSError EPERM."""
    if not protocol_of(sk).nonroot_recv and not netlink_capable(sk):
        raise os_error(errno.EPERM, f"the host's user is {sk.net.uid}, not root")


def membership(sk: netlink_sock, group: int, listens: bool) -> None:
    """NETLINK_ADD_MEMBERSHIP, NETLINK_DROP_MEMBERSHIP. Raises: OSError EPERM, EINVAL."""
    may_listen(sk)
    sk.listened = True  # from the first attempt on, which allocates the groups
    if not 0 < group <= protocol_of(sk).groups:
        raise os_error(errno.EINVAL, f"no group {group}")
    netlink_update_membership(sk, group, listens)


def opt_netlink(optval: Any) -> int:
    """The int of an option value; 0 for fewer than 4 bytes."""
    return 0 if not isinstance(optval, int) and len(opt_bytes(optval)) < 4 else opt_int(optval)


def list_memberships(sk: netlink_sock) -> bytes:
    """NETLINK_LIST_MEMBERSHIPS: a bit for each group, once it has joined one."""
    if not sk.listened:
        return b""
    proto = protocol_of(sk)
    word = 64 if proto.number == NETLINK_GENERIC else 32  # NETLINK_GENERIC adds groups by longs
    bits = sum(1 << (group - 1) for group in sk.groups)
    return bits.to_bytes((proto.groups + word - 1) // word * word // 8, "little")


# fmt: off
NETLINK_LEVEL = Level("SOL_NETLINK", SOL_NETLINK, vars(names), (
    SockOpt("NETLINK_ADD_MEMBERSHIP", "listen to a multicast group",
        set=lambda sk, group: membership(sk, group, True)),
    switch("NETLINK_BROADCAST_ERROR", "broadcast_error",
        "a sender is told when this socket has no room", since="2.6.30", room=4),
    switch("NETLINK_CAP_ACK", "cap_ack", "errors quote the request's header only",
        since="4.3", room=4),
    SockOpt("NETLINK_DROP_MEMBERSHIP", "the opposite of NETLINK_ADD_MEMBERSHIP",
        set=lambda sk, group: membership(sk, group, False)),
    switch("NETLINK_EXT_ACK", "ext_ack", "errors say what is wrong, and where",
        since="4.12", room=4),
    switch("NETLINK_GET_STRICT_CHK", "strict_chk", "dumps check and obey what the request names",
        since="4.20", room=4),
    switch("NETLINK_LISTEN_ALL_NSID", "listen_all_nsid", "kept; other namespaces are not heard",
        since="4.2", room=4),
    SockOpt("NETLINK_LIST_MEMBERSHIPS", "the groups it listens to", "4.2", get=list_memberships),
    switch("NETLINK_NO_ENOBUFS", "no_enobufs", "lost messages are no error",
        since="2.6.30", room=4),
    switch("NETLINK_PKTINFO", "recv_pktinfo", "the group of a message, as a control message",
        since="2.6.14", room=4),
), takes=opt_netlink, length_first=False)
# fmt: on


def netlink_setsockopt(sock: socket, level: int, optname: int, optval: Any) -> None:
    """net/netlink/af_netlink.c. Raises: OSError ENOPROTOOPT, EINVAL, EPERM."""
    if level != SOL_NETLINK:
        raise os_error(errno.ENOPROTOOPT, f"netlink sockets have no options of level {level}")
    set_option(NETLINK_LEVEL, sock.sk, optname, optval)


def netlink_getsockopt(sock: socket, level: int, optname: int, optlen: int) -> Any:
    """net/netlink/af_netlink.c. Raises: OSError ENOPROTOOPT, EINVAL."""
    if level != SOL_NETLINK:
        raise os_error(errno.ENOPROTOOPT, f"netlink sockets have no options of level {level}")
    return get_option(NETLINK_LEVEL, sock.sk, optname, optlen)
