"""The common part of raw sockets of both families: their table, delivery, reading.

net/ipv4/raw.c, net/ipv6/raw.c
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_clone,
    skb_put_data,
    skb_reset_network_header,
    skb_set_transport_header,
)
from fastpath.net.inetkey import inet_name
from stack.core import uapi
from stack.core.datagram import skb_recv_datagram
from stack.core.drop_reason import kfree_skb_reason
from stack.core.dst import dst_entry
from stack.core.errors import os_error
from stack.core.iov import msghdr, skb_read_datagram
from stack.core.l3mdev import inet_bound_dev_eq, inet_sdif
from stack.core.netdevice import LL_MAX_HEADER
from stack.core.rows import row, state, wide
from stack.core.sk_mem import proto_mem_of_ram
from stack.core.sock import lock_sock, release_sock, sock_alloc_send_skb, sock_queue_rcv_skb_reason
from stack.core.sockopt import sock_recv_cmsgs, sockcm_cookie
from stack.core.tstamp import skb_setup_tx_timestamp
from stack.inet.af_ops import af_ops_of
from stack.inet.append import ip_generic_getfrag
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_sock
from stack.net import Net


@state
class raw_sock(inet_sock):
    """struct raw_sock. `filter`: ICMP types (bit mask) that the socket does not receive."""

    filter: wide = row(0)
    raw_hashed: bool = row(False)


# --- table and receive -------------------------------------------------------------------


def raw_hash_sk(sk: raw_sock) -> int:
    """net/ipv4/raw.c: list the sock under its family and protocol."""
    sk.net.raw_hash.setdefault((sk.sk_family, sk.inet_num), []).append(sk)
    sk.raw_hashed = True
    return 0


def raw_unhash_sk(sk: raw_sock) -> None:
    """net/ipv4/raw.c"""
    if sk.raw_hashed:
        key = sk.sk_family, sk.inet_num
        bucket = sk.net.raw_hash[key]
        bucket.remove(sk)
        if not bucket:
            del sk.net.raw_hash[key]
        sk.raw_hashed = False


def raw_local_deliver(skb: sk_buff, family: int, protocol: int) -> int:
    """net/ipv4/raw.c, net/ipv6/raw.c: give a clone to each raw socket that matches the packet.

    1 when one matched, else 0. Data at the transport header. Borrows skb.
    """
    raw_hash = skb.dst.net.raw_hash
    bucket = raw_hash.get((family, protocol)) if raw_hash else None
    if bucket is None:
        return 0
    af = af_ops_of[family]
    delivered = 0
    for sk in tuple(bucket):
        delivered |= af.raw_input(sk, skb)
    return delivered


def raw_match(sk: raw_sock, raddr: wide, laddr: wide, dif: int, sdif: int) -> bool:
    """net/ipv4/raw.c (raw_v4_match): whether a packet from raddr to laddr is for the sock."""
    return (
        (not sk.inet_daddr or sk.inet_daddr == raddr)
        and (not sk.inet_rcv_saddr or sk.inet_rcv_saddr == laddr)
        and raw_sk_bound_dev_eq(sk, dif, sdif)
    )


def raw_sk_bound_dev_eq(sk: inet_sock, dif: int, sdif: int) -> bool:
    """include/net/raw.h: whether a socket gets packets from this interface."""
    if not sk.sk_bound_dev_if and not sdif:
        return True
    return inet_bound_dev_eq(bool(sk.net.sysctl.raw_l3mdev_accept), sk.sk_bound_dev_if, dif, sdif)


def raw_icmp_error(
    skb: sk_buff, family: int, protocol: int, raddr: wide, laddr: wide, offset: int, info: int
) -> None:
    """net/ipv4/raw.c, net/ipv6/raw.c (rawv6_icmp_error): report an ICMP error about our packet.

    `laddr`, `raddr`: source and destination of our packet; `offset`: of its payload behind the
    embedded IP header. Borrows skb.
    """
    net = skb.dst.net
    bucket = net.raw_hash.get((family, protocol))
    if bucket is None:
        return
    dif, sdif = skb.dev.ifindex if skb.dev is not None else 0, inet_sdif(skb)
    af = af_ops_of[family]
    for sk in tuple(bucket):
        if raw_match(sk, raddr, laddr, dif, sdif):
            af.raw_err(sk, skb, offset, info)


def raw_rcv_skb(sk: raw_sock, skb: sk_buff) -> int:
    """net/ipv4/raw.c: 0 (NET_RX_SUCCESS) or 1. Takes ownership of skb."""
    reason = sock_queue_rcv_skb_reason(sk, skb)
    if reason:
        kfree_skb_reason(sk.net, skb, reason)
        return 1
    return 0


# --- router alert: (protocol or value of the alert, socket) ----------------------------------


def ra_control(chain: list[tuple[int, inet_sock]], sk: inet_sock, sel: int) -> None:
    """ip_ra_control, ip6_ra_control: add the socket with the selector `sel`; below 0: remove it.

    Raises: OSError EADDRINUSE, ENOBUFS (there is nothing to remove).
    """
    if sel >= 0:
        if ra_has(chain, sk):
            raise os_error(errno.EADDRINUSE, "the socket has the router alert option already")
        chain.append((sel, sk))
    elif not ra_drop(chain, sk):
        raise os_error(errno.ENOBUFS, "the socket does not have the router alert option")


def ra_has(chain: list[tuple[int, inet_sock]], sk: inet_sock) -> bool:
    """Whether the socket is in the chain."""
    return any(one is sk for _, one in chain)


def ra_drop(chain: list[tuple[int, inet_sock]], sk: inet_sock) -> bool:
    """Remove the socket; False: it was not in the chain."""
    before = len(chain)
    chain[:] = [entry for entry in chain if entry[1] is not sk]
    return len(chain) < before


def ra_wanted(chain: list[tuple[int, inet_sock]], sel: int, ifindex: int) -> list[inet_sock]:
    """The sockets with the selector `sel` that get packets of this interface."""
    return [sk for one, sk in chain if one == sel and sk.sk_bound_dev_if in (0, ifindex)]


def ra_deliver(family: int, socks: list[inet_sock], skb: sk_buff) -> None:
    """Give a packet to each of `socks`, at least one. Takes ownership of skb."""
    raw_rcv = af_ops_of[family].raw_rcv
    for sk in socks[:-1]:
        raw_rcv(sk, skb_clone(skb))
    raw_rcv(socks[-1], skb)


# --- sending -----------------------------------------------------------------------------


def raise_sent(err: int, recverr: bool) -> None:
    """Raise a failed send as OSError; congestion (ENOBUFS) for sockets with IP_RECVERR only."""
    if err and (err != -errno.ENOBUFS or recverr):
        raise os_error(err)


def raw_hdrinc_skb(
    sk: raw_sock,
    header: bytes,
    msg: msghdr,
    length: int,
    fl: flowi,
    rt: dst_entry,
    flags: int,
    sockc: sockcm_cookie | None,
) -> sk_buff:
    """Make a packet of `length` bytes that begins with the caller's IP `header` (IP_HDRINCL).

    May sleep. Raises: OSError ENOBUFS, EAGAIN, EPIPE.
    """
    net = sk.net
    headroom = LL_MAX_HEADER + rt.dev.needed_headroom
    size = min(length, net.skb_small.buf_bytes - headroom)
    skb = sock_alloc_send_skb(sk, size, flags & uapi.MSG_DONTWAIT, headroom)
    before = skb.truesize
    skb_put_data(skb, header)
    try:
        ip_generic_getfrag(msg, skb, length - len(header), net.skb_pages)
    except OSError:
        kfree_skb(skb)
        raise
    sk.sk_wmem_alloc += skb.truesize - before
    skb.priority = sk.sk_priority
    skb.mark = fl.flowi_mark
    if sockc is not None:
        skb_setup_tx_timestamp(skb, sk, sockc)
    skb.dst = rt
    skb_reset_network_header(skb)
    skb_set_transport_header(skb, len(header))
    skb.ip_summed = CHECKSUM_NONE
    return skb


# --- socket calls ------------------------------------------------------------------------


def raw_recvmsg(sk: raw_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv4/raw.c: read one packet. Bytes copied. Raises: OSError."""
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "raw sockets have no urgent data")
    return recv_packet(sk, msg, length, flags)


def recv_packet(sk: inet_sock, msg: msghdr, length: int, flags: int) -> int:
    """Read the next packet of a raw or ping socket or, with MSG_ERRQUEUE, the next error.

    Returns the bytes copied; for a raw socket with MSG_TRUNC the packet's length. Raises: OSError.
    """
    if flags & uapi.MSG_ERRQUEUE:
        return af_ops_of[sk.sk_family].recv_error(sk, msg, length)
    skb = skb_recv_datagram(sk, flags)
    if skb is None:
        return 0
    full = skb.len
    copied = skb_read_datagram(skb, msg, length)
    sock_recv_cmsgs(msg, sk, skb)
    msg.msg_name = inet_name(skb, sk.sk_family)
    if sk.cmsg_flags:
        af_ops_of[sk.sk_family].cmsg_recv(msg, sk, skb, 0, 0)
    consume_skb(skb)
    if sk.sk_type == uapi.SOCK_DGRAM:
        return copied  # a ping socket ignores MSG_TRUNC
    return full if flags & uapi.MSG_TRUNC else copied


def raw_ioctl(sk: inet_sock, cmd: int, arg: Any = None) -> int:
    """net/ipv4/raw.c: SIOCINQ, SIOCOUTQ. Raises: OSError ENOTTY."""
    if cmd == uapi.SIOCOUTQ:
        return int(sk.sk_wmem_alloc)
    if cmd == uapi.SIOCINQ:
        skb = sk.sk_receive_queue.peek()
        return 0 if skb is None else skb.len
    raise os_error(errno.ENOTTY, f"unknown request {cmd:#x}")


def raw_destroy(sk: raw_sock) -> None:
    """net/ipv4/raw.c, net/ipv6/raw.c (raw6_destroy): discard the corked datagram."""
    lock_sock(sk)
    af_ops_of[sk.sk_family].flush_pending_frames(sk)
    release_sock(sk)


def raw_init_net(net: Net) -> None:
    """net/ipv4/raw.c (raw_init): the table of one host."""
    net.raw_hash = {}
    if "RAW" not in net.prot_mem:
        net.prot_mem["RAW"] = proto_mem_of_ram(net, 1, 7)
