"""net/netlink/af_netlink.c: the family: sockets from creation to release, and its protocols."""

from __future__ import annotations

import errno
from typing import Any

from stack.core.bsd_socket import sock_register, socket
from stack.core.datagram import datagram_poll
from stack.core.errors import os_error
from stack.core.net_namespace import pernet_operations
from stack.core.proto import net_proto_family, proto, proto_ops, proto_register
from stack.core.sock import (
    sk_alloc,
    sk_free,
    sock_init_data,
    sock_no_accept,
    sock_no_listen,
    sock_no_mmap,
    sock_no_socketpair,
    sock_orphan,
)
from stack.core.sockaddr import SA_FAMILY_LEN, need_sa_len, sockaddr
from stack.core.uapi import AF_NETLINK, AF_UNSPEC, SOCK_DGRAM, SOCK_RAW
from stack.core.wait import wake_up
from stack.net import Net
from stack.netlink.af_netlink import (
    may_send,
    netlink_autobind,
    netlink_group_mask,
    netlink_insert,
    netlink_purge,
    netlink_recvmsg,
    netlink_sendmsg,
    nl_address,
    protocol_of,
)
from stack.netlink.ethnl import ethnl_net_init
from stack.netlink.genetlink import genl_net_init
from stack.netlink.netlink_sock import (
    MAX_LINKS,
    NETLINK_USERSOCK,
    netlink_protocol,
    netlink_sock,
    netlink_table,
)
from stack.netlink.netlink_sockopt import (
    may_listen,
    netlink_getsockopt,
    netlink_setsockopt,
    netlink_update_membership,
)
from stack.netlink.nfnetlink import nfnetlink_net_init
from stack.netlink.rtnetlink import rtnetlink_net_init
from stack.netlink.sock_diag import sock_diag_net_init
from stack.netlink.tcp_metrics_nl import tcp_metrics_net_init
from stack.netlink.xfrm_user import xfrm_user_net_init


def netlink_create(net: Net, sock: socket, protocol: int, kern: bool) -> None:
    """net/netlink/af_netlink.c: a socket. Raises: OSError ESOCKTNOSUPPORT, EPROTONOSUPPORT."""
    if sock.type not in (SOCK_RAW, SOCK_DGRAM):
        raise os_error(errno.ESOCKTNOSUPPORT, "netlink sockets are SOCK_RAW or SOCK_DGRAM")
    if not 0 <= protocol < MAX_LINKS or protocol not in net.nl_table.protocols:
        raise os_error(errno.EPROTONOSUPPORT, f"there is no netlink protocol {protocol}")
    sock.ops = netlink_ops
    sk: netlink_sock = sk_alloc(net, AF_NETLINK, 0, netlink_proto, kern)
    sock_init_data(sock, sk)
    sk.sk_protocol = protocol
    net.nl_table.sockets.append(sk)


def netlink_release(sock: socket) -> int:
    """net/netlink/af_netlink.c: release a socket."""
    sk: netlink_sock | None = sock.sk
    if sk is None:
        return 0
    for group in tuple(sk.groups):
        netlink_update_membership(sk, group, False)
    if sk.bound:
        proto = protocol_of(sk)
        del proto.by_portid[sk.portid]
        if proto.release is not None:
            proto.release(sk.portid)
    sk.net.nl_table.sockets.remove(sk)
    netlink_purge(sk)
    sock_orphan(sk)
    sock.sk = None
    wake_up(sk.sk_wq)
    sk_free(sk)
    return 0


def netlink_bind(sock: socket, uaddr: sockaddr, addr_len: int) -> int:
    """net/netlink/af_netlink.c: bind a port id (0: any free one) and groups, replacing others.

    Raises: OSError EINVAL, EPERM, EADDRINUSE.
    """
    sk: netlink_sock = sock.sk
    name = nl_address(uaddr)
    groups = name.flowinfo
    if groups:
        may_listen(sk)
        sk.listened = True
    if sk.bound and name.addr != sk.portid:
        raise os_error(errno.EINVAL, f"it is bound to port id {sk.portid}")
    if not sk.bound:
        if name.addr:
            netlink_insert(sk, name.addr)
        else:
            netlink_autobind(sk)
    for group in range(1, 33):
        netlink_update_membership(sk, group, bool(groups >> (group - 1) & 1))
    return 0


def netlink_connect(sock: socket, uaddr: sockaddr, addr_len: int, flags: int) -> int:
    """net/netlink/af_netlink.c: set the destination of messages without an address.

    Raises: OSError EINVAL, EPERM, EADDRINUSE.
    """
    sk: netlink_sock = sock.sk
    need_sa_len(uaddr, SA_FAMILY_LEN)
    if uaddr.family == AF_UNSPEC:
        sk.connected = False
        sk.dst_portid = sk.dst_group = 0
        return 0
    name = nl_address(uaddr)
    if name.addr or name.flowinfo:
        may_send(sk)
    if not sk.bound:
        netlink_autobind(sk)
    sk.connected = True
    sk.dst_portid = name.addr
    sk.dst_group = (name.flowinfo & -name.flowinfo).bit_length()
    return 0


def netlink_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/netlink/af_netlink.c: port id and groups, its own or the peer's."""
    sk: netlink_sock = sock.sk
    if peer:
        return sockaddr(AF_NETLINK, sk.dst_portid, 0, netlink_group_mask(sk.dst_group))
    groups = sum(1 << (group - 1) for group in sk.groups if group <= 32)
    return sockaddr(AF_NETLINK, sk.portid, 0, groups)


def netlink_ioctl(sock: socket, cmd: int, arg: Any = None) -> Any:
    """net/netlink/af_netlink.c: netlink has no requests of its own. Raises: OSError ENOTTY."""
    raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")


def netlink_no_shutdown(sock: socket, how: int) -> int:
    """net/core/sock.c sock_no_shutdown."""
    raise os_error(errno.EOPNOTSUPP, "netlink sockets have no connection to shut down")


netlink_proto = proto("NETLINK", sock_class=netlink_sock)

netlink_ops = proto_ops(
    AF_NETLINK,
    release=netlink_release,
    bind=netlink_bind,
    connect=netlink_connect,
    socketpair=sock_no_socketpair,
    accept=sock_no_accept,
    getname=netlink_getname,
    poll=datagram_poll,
    ioctl=netlink_ioctl,
    listen=sock_no_listen,
    shutdown=netlink_no_shutdown,
    setsockopt=netlink_setsockopt,
    getsockopt=netlink_getsockopt,
    sendmsg=netlink_sendmsg,
    recvmsg=netlink_recvmsg,
    mmap=sock_no_mmap,
)

netlink_family_ops = net_proto_family(AF_NETLINK, netlink_create)


def netlink_net_init(net: Net) -> None:
    """net/netlink/af_netlink.c: the family in a namespace, and its protocols."""
    net.nl_table = netlink_table()
    net.nl_table.protocols[NETLINK_USERSOCK] = netlink_protocol(
        NETLINK_USERSOCK, groups=32, nonroot_send=True
    )
    proto_register(net, netlink_proto)
    sock_register(net, netlink_family_ops)
    rtnetlink_net_init(net)
    sock_diag_net_init(net)
    genl_net_init(net)
    ethnl_net_init(net)
    tcp_metrics_net_init(net)
    nfnetlink_net_init(net)
    xfrm_user_net_init(net)


netlink_net_ops = pernet_operations(init=netlink_net_init)
