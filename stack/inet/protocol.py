"""The tables that join families, socket types, protocols and packets.

net/ipv4/protocol.c, include/net/protocol.h, include/net/sock.h (struct proto),
include/linux/net.h (struct proto_ops, struct net_proto_family).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stack.core.uapi import MAX_INET_PROTOS, SOCK_MAX
from stack.inet.inet_sock import inet_sock

Fn = Callable[..., Any]
UNSET: Any = None
"""A slot that the protocol does not have, as a null pointer in the kernel's tables."""

INET_PROTOSW_REUSE = 0x01
INET_PROTOSW_PERMANENT = 0x02
INET_PROTOSW_ICSK = 0x04


@dataclass(slots=True, eq=False)
class net_protocol:
    """struct net_protocol: what IP calls for one protocol number.

    `handler(skb) -> int` takes ownership of skb (data at the transport header).
    `err_handler(skb, info) -> int` borrows it (data at the embedded IP header).
    """

    handler: Callable[..., int]
    err_handler: Callable[..., Any] | None = None
    no_policy: bool = False
    icmp_strict_tag_validation: bool = False
    flags: int = 0


@dataclass(slots=True, eq=False)
class proto:
    """struct proto: the protocol-level vector. Unset slots are None."""

    name: str
    close: Fn = UNSET
    connect: Fn = UNSET
    disconnect: Fn = UNSET
    accept: Fn = UNSET
    ioctl: Fn = UNSET
    init: Fn = UNSET
    destroy: Fn = UNSET
    shutdown: Fn = UNSET
    setsockopt: Fn = UNSET
    getsockopt: Fn = UNSET
    keepalive: Fn = UNSET
    sendmsg: Fn = UNSET
    recvmsg: Fn = UNSET
    sendpage: Fn = UNSET
    bind: Fn = UNSET
    bind_add: Fn = UNSET
    backlog_rcv: Fn = UNSET
    release_cb: Fn = UNSET
    hash: Fn = UNSET
    unhash: Fn = UNSET
    rehash: Fn = UNSET
    get_port: Fn = UNSET
    put_port: Fn = UNSET
    pre_connect: Fn = UNSET
    stream_memory_free: Fn = UNSET
    enter_memory_pressure: Fn = UNSET
    leave_memory_pressure: Fn = UNSET
    sysctl_rmem: str = ""  # the sysctl whose first number each sock may always have
    sysctl_wmem: str = ""
    sock_is_readable: Fn = UNSET
    diag_destroy: Fn = UNSET
    compat_setsockopt: Fn = UNSET
    compat_getsockopt: Fn = UNSET
    init_cgroup: Fn = UNSET
    destroy_cgroup: Fn = UNSET
    proto_cgroup: Fn = UNSET
    clear_sk: Fn = UNSET
    h: dict[str, Any] = field(default_factory=dict)  # h["hashinfo"](net) gives the table
    no_autobind: bool = False
    max_header: int = 0
    sock_class: type = inet_sock
    twsk_prot: Any = None
    rsk_prot: Any = None
    owner: str = "e1000emu"


@dataclass(slots=True, eq=False)
class proto_ops:
    """struct proto_ops: the socket-level vector. Unset slots are None."""

    family: int
    release: Fn = UNSET
    bind: Fn = UNSET
    connect: Fn = UNSET
    socketpair: Fn = UNSET
    accept: Fn = UNSET
    getname: Fn = UNSET
    poll: Fn = UNSET
    ioctl: Fn = UNSET
    listen: Fn = UNSET
    shutdown: Fn = UNSET
    setsockopt: Fn = UNSET
    getsockopt: Fn = UNSET
    sendmsg: Fn = UNSET
    recvmsg: Fn = UNSET
    mmap: Fn = UNSET
    sendpage: Fn = UNSET
    splice_read: Fn = UNSET
    compat_setsockopt: Fn = UNSET
    compat_getsockopt: Fn = UNSET
    compat_ioctl: Fn = UNSET
    gettstamp: Fn = UNSET
    set_rcvlowat: Fn = UNSET
    owner: str = "e1000emu"
    plain: proto_ops | None = None  # what stack.core.readyfd.watched_ops stands for


@dataclass(slots=True, eq=False)
class net_proto_family:
    """struct net_proto_family: `create(net, sock, protocol, kern)` of one address family."""

    family: int
    create: Callable[..., Any]
    owner: str = "e1000emu"


@dataclass(slots=True, eq=False)
class inet_protosw:
    """struct inet_protosw: joins (type, protocol) to proto and proto_ops."""

    type: int
    protocol: int
    prot: proto
    ops: proto_ops
    flags: int = 0


def new_inet_protos() -> list[net_protocol | None]:
    """An empty inet_protos table (index = protocol number)."""
    return [None] * MAX_INET_PROTOS


def new_inetsw() -> list[list[inet_protosw]]:
    """An empty inetsw table (index = socket type, each a list searched in order)."""
    return [[] for _ in range(SOCK_MAX)]


def inet_add_protocol(net: Any, prot: net_protocol, protocol: int) -> int:
    """net/ipv4/protocol.c: 0, or -1 when the number is taken."""
    if net.inet_protos[protocol] is not None:
        return -1
    net.inet_protos[protocol] = prot
    return 0


def inet_del_protocol(net: Any, prot: net_protocol, protocol: int) -> int:
    """net/ipv4/protocol.c: 0, or -1 when another one sits there."""
    if net.inet_protos[protocol] is not prot:
        return -1
    net.inet_protos[protocol] = None
    return 0


def proto_register(net: Any, prot: proto, alloc_slab: int = 1) -> int:
    """net/core/sock.c: list `prot` so that /proc/net/protocols shows it."""
    if prot not in net.proto_list:
        net.proto_list.append(prot)
    return 0


def proto_unregister(net: Any, prot: proto) -> None:
    """net/core/sock.c"""
    if prot in net.proto_list:
        net.proto_list.remove(prot)
