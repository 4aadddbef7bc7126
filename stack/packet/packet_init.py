"""net/packet/af_packet.c: the family: sockets from creation to release, and notifiers."""

from __future__ import annotations

import errno
import sys
from typing import Any

from stack.core.bsd_socket import sock_register, socket
from stack.core.dev_ioctl import family_ioctl
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.errors import os_error
from stack.core.net_namespace import pernet_operations
from stack.core.netdevice import NETDEV_DOWN, NETDEV_UNREGISTER, NETDEV_UP, net_device
from stack.core.proto import net_proto_family, proto, proto_ops, proto_register
from stack.core.sock import (
    ns_capable,
    sk_alloc,
    sk_free,
    sock_init_data,
    sock_no_accept,
    sock_no_listen,
    sock_no_socketpair,
    sock_orphan,
)
from stack.core.sockaddr import sockaddr, sockaddr_ll
from stack.core.uapi import AF_INET, AF_PACKET, CAP_NET_RAW, SIOCINQ, SIOCOUTQ, SOCK_DGRAM, SOCK_RAW
from stack.core.wait import wake_up
from stack.net import Net
from stack.packet.af_packet import (
    packet_do_bind,
    packet_down,
    packet_rcv,
    packet_recvmsg,
    register_prot_hook,
    unregister_prot_hook,
)
from stack.packet.packet_fanout import fanout_release
from stack.packet.packet_ring import packet_mmap, packet_poll, place_rings
from stack.packet.packet_snd import ll_address, packet_sendmsg
from stack.packet.packet_sock import packet_sock
from stack.packet.packet_sockopt import (
    packet_dev_mclist_delete,
    packet_flush_mclist,
    packet_getsockopt,
    packet_setsockopt,
)


def packet_create(net: Net, sock: socket, protocol: int, kern: bool) -> None:
    """net/packet/af_packet.c: a socket of `protocol`, an EtherType in network order as given.

    With one it receives from all interfaces at once. Raises: OSError EPERM, ESOCKTNOSUPPORT (also
    for the obsolete SOCK_PACKET).
    """
    if not kern and not ns_capable(net, CAP_NET_RAW):
        raise os_error(errno.EPERM, f"packet sockets: the host's user is {net.uid}, not root")
    if sock.type not in (SOCK_DGRAM, SOCK_RAW):
        raise os_error(errno.ESOCKTNOSUPPORT, "packet sockets are SOCK_RAW or SOCK_DGRAM")
    sock.ops = packet_ops
    sk: packet_sock = sk_alloc(net, AF_PACKET, 0, packet_proto, kern)
    sock_init_data(sock, sk)
    sk.prot_hook.func = packet_rcv
    sk.num = sk.prot_hook.type = ntohs(protocol & 0xFFFF)
    net.packet_sklist.append(sk)
    if sk.num:
        register_prot_hook(sk)


def ntohs(value: int) -> int:
    """Swap the 16 bits of a number in network order, as programs give protocols."""
    return int.from_bytes(value.to_bytes(2, sys.byteorder), "big")


def packet_release(sock: socket) -> int:
    """net/packet/af_packet.c: release a socket."""
    sk: packet_sock | None = sock.sk
    if sk is None:
        return 0
    sk.net.packet_sklist.remove(sk)
    unregister_prot_hook(sk)
    fanout_release(sk)
    packet_flush_mclist(sk)
    place_rings(sk, None, None)  # mappings of their pages remain
    sk.cached_dev = sk.prot_hook.dev = None
    sock_orphan(sk)
    sock.sk = None
    wake_up(sk.sk_wq)
    sk_free(sk)
    return 0


def packet_bind(sock: socket, uaddr: sockaddr, addr_len: int) -> int:
    """net/packet/af_packet.c: an interface (0: any) and a protocol (0: as before).

    Raises: OSError EINVAL, also for a socket of a fanout group; ENODEV.
    """
    name = ll_address(uaddr)
    err = packet_do_bind(sock.sk, name.ifindex, name.protocol)
    if err:
        what = "no interface" if err == -errno.ENODEV else "the socket is of a group; interface"
        raise os_error(-err, f"{what} {name.ifindex}")
    return 0


def packet_getname(sock: socket, uaddr: Any, addr_len: int, peer: int) -> sockaddr:
    """net/packet/af_packet.c. Raises: OSError EOPNOTSUPP: there is no peer."""
    if peer:
        raise os_error(errno.EOPNOTSUPP, "packet sockets have no peer")
    sk: packet_sock = sock.sk
    dev = sk.net.dev_by_index.get(sk.ifindex)
    if dev is None:
        return sockaddr_ll(sk.num, sk.ifindex & 0xFFFFFFFF)
    return sockaddr_ll(sk.num, sk.ifindex, dev.type, 0, dev.dev_addr)


def packet_ioctl(sock: socket, cmd: int, arg: Any = None) -> Any:
    """net/packet/af_packet.c: SIOCINQ, SIOCOUTQ; addresses, routes and ARP are IPv4's.

    Raises: OSError ENOTTY, or an error of IPv4's request.
    """
    sk: packet_sock = sock.sk
    if cmd == SIOCOUTQ:
        return int(sk.sk_wmem_alloc)
    if cmd == SIOCINQ:
        skb = sk.sk_receive_queue.peek()
        return 0 if skb is None else skb.len
    borrowed = family_ioctl.get(AF_INET)
    if borrowed is None:
        raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")
    return borrowed(sock, cmd, arg)


def packet_no(*args: Any) -> int:
    """net/core/sock.c sock_no_connect, sock_no_shutdown."""
    raise os_error(errno.EOPNOTSUPP, "packet sockets are not connected")


packet_proto = proto("PACKET", sock_class=packet_sock)

packet_ops = proto_ops(
    AF_PACKET,
    release=packet_release,
    bind=packet_bind,
    connect=packet_no,
    socketpair=sock_no_socketpair,
    accept=sock_no_accept,
    getname=packet_getname,
    poll=packet_poll,
    ioctl=packet_ioctl,
    listen=sock_no_listen,
    shutdown=packet_no,
    setsockopt=packet_setsockopt,
    getsockopt=packet_getsockopt,
    sendmsg=packet_sendmsg,
    recvmsg=packet_recvmsg,
    mmap=packet_mmap,
)

packet_family_ops = net_proto_family(AF_PACKET, packet_create)


def packet_notifier(msg: int, dev: net_device) -> int:
    """net/packet/af_packet.c: an interface went down or up, or was removed."""
    for sk in tuple(dev.net.packet_sklist):
        if msg == NETDEV_UNREGISTER:
            packet_dev_mclist_delete(dev, sk)
        if sk.ifindex != dev.ifindex:
            continue
        if msg in (NETDEV_DOWN, NETDEV_UNREGISTER):
            if sk.running:
                unregister_prot_hook(sk)
                packet_down(sk)
            if msg == NETDEV_UNREGISTER:
                sk.ifindex = -1
                sk.cached_dev = sk.prot_hook.dev = None
        elif msg == NETDEV_UP and sk.num:
            register_prot_hook(sk)
    return 0


def packet_net_init(net: Net) -> None:
    """net/packet/af_packet.c: create a namespace's list of sockets, and register the family."""
    net.packet_sklist = []
    net.packet_fanout_list = []
    net.packet_fanout_next_id = 0
    proto_register(net, packet_proto)
    sock_register(net, packet_family_ops)
    register_netdevice_notifier(net, packet_notifier)


packet_net_ops = pernet_operations(init=packet_net_init)
