"""Ping sockets over IPv6: ICMPv6 echo without privileges (net/ipv6/ping.c)."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.hdr import ipv6hdr_at
from fastpath.net.hdr6 import icmp6_push
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import sk_dev_equal_l3scope
from stack.core.rows import replace, wide
from stack.core.sock import lock_sock, release_sock
from stack.core.sockaddr import SOCKADDR_IN6_LEN, need_sa_len, sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET6, ICMP_HLEN, IPPROTO_ICMPV6, MSG_DONTWAIT
from stack.inet.af_ops import af_ops_of
from stack.inet.append import ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err
from stack.inet.flow import flowi
from stack.inet.ping import ping_bind_to, ping_common_sendmsg, ping_lookup, ping_sock
from stack.inet.raw import raise_sent
from stack.ipv4.ping import ping_prot
from stack.ipv6.addr import ipv6_addr_is_multicast, ipv6_addr_v4mapped
from stack.ipv6.bind import inet6_bind_check
from stack.ipv6.datagram import default_oif, ip6_datagram_connect_v6_only, sendmsg_flow
from stack.ipv6.ip6_append import (
    ip6_append_data,
    ip6_finish_skb,
    ip6_push_pending_frames,
    ipcm6_init_sk,
)
from stack.ipv6.ip6_cmsg import iface_scope_id, ip6_datagram_send_ctl
from stack.ipv6.ip6_icmp import (
    ICMPV6_ECHO_REQUEST,
    ICMPV6_EXT_ECHO_REQUEST,
    icmp6_out_count,
)
from stack.ipv6.ipv6_sockglue import ipv6_getsockopt, ipv6_setsockopt
from stack.ipv6.pinfo import np_of
from stack.ipv6.route import ip6_dst_lookup_flow, ip6_sk_dst_lookup_flow


def ping_v6_bind(sk: ping_sock, uaddr: sockaddr, addr_len: int = 28) -> int:
    """net/ipv4/ping.c: local address and identifier. Raises: OSError EADDRNOTAVAIL, EADDRINUSE."""
    need_sa_len(uaddr, SOCKADDR_IN6_LEN)
    if uaddr.family != AF_INET6:
        raise os_error(errno.EAFNOSUPPORT, f"family {uaddr.family} on an IPv6 socket")
    addr, ident = uaddr.addr, uaddr.port
    lock_sock(sk)
    try:
        if ipv6_addr_v4mapped(addr) or ipv6_addr_is_multicast(addr):
            raise os_error(errno.EINVAL, "not an address of one host")
        dev = sk.net.dev_by_index.get(uaddr.scope_id)
        if uaddr.scope_id and dev is None:
            raise os_error(errno.ENODEV, f"no device with index {uaddr.scope_id}")
        inet6_bind_check(sk, addr, uaddr.scope_id, dev)
        return ping_bind_to(sk, addr, ident)
    finally:
        release_sock(sk)


def ping_v6_sendmsg(sk: ping_sock, msg: msghdr, length: int) -> int:
    """net/ipv6/ping.c: send an echo request: the data begin with its 8-byte header.

    The identifier is replaced by the socket's. Returns `length`. Raises: OSError.
    """
    kind, sequence = ping_common_sendmsg(msg, length, ICMPV6_ECHO_REQUEST, ICMPV6_EXT_ECHO_REQUEST)
    np = np_of(sk)
    name = msg.msg_name
    if name is not None:
        need_sa_len(name, SOCKADDR_IN6_LEN)
        if name.family != AF_INET6:
            raise os_error(errno.EAFNOSUPPORT, f"family {name.family} on an IPv6 socket")
        daddr: wide = name.addr
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = sk.inet_daddr
    if ipv6_addr_v4mapped(daddr):
        raise os_error(errno.EINVAL, "an ICMPv6 socket speaks IPv6")
    fl6 = sendmsg_flow(sk, name, 0)
    default_oif(sk, fl6)
    if iface_scope_id(daddr, 1) and not fl6.flowi_oif:
        raise os_error(errno.EINVAL, "a link-local address needs its interface (scope id)")
    if fl6.flowi_oif and not sk_dev_equal_l3scope(sk, fl6.flowi_oif):
        raise os_error(errno.EINVAL, f"the socket is bound to interface {sk.sk_bound_dev_if}")
    fl6.daddr = daddr  # :: is no loopback here
    fl6.flowi_proto = IPPROTO_ICMPV6
    ipc6 = ipcm6_init_sk(sk)
    if msg.msg_control:
        ip6_datagram_send_ctl(sk, msg.msg_control, fl6, ipc6)
    ipc6.opt = None  # as on Linux a ping socket sends no extension headers
    fl6.flowi_tos = max(ipc6.tclass, 0)
    if name is None and not msg.msg_control:
        rt = ip6_sk_dst_lookup_flow(sk, fl6, np.srcprefs)
        fl6.saddr = fl6.saddr or sk.inet_saddr
    else:
        rt = ip6_dst_lookup_flow(sk.net, sk, fl6, 0, np.srcprefs)
    lock_sock(sk)
    try:
        ip6_append_data(sk, ip_generic_getfrag, msg, length, ICMP_HLEN, ipc6, fl6, rt, MSG_DONTWAIT)
        raise_sent(ping_v6_push_pending_frames(sk, kind, sequence, fl6), np.recverr)
    finally:
        release_sock(sk)
    return length


def ping_v6_push_pending_frames(sk: ping_sock, kind: int, sequence: int, fl6: flowi) -> int:
    """net/ipv6/ping.c: the echo header with checksum, then send."""
    skb = sk.sk_write_queue.peek()
    if skb is None:
        return 0
    icmp6_push(skb, kind, 0, sk.inet_num << 16 | sequence, fl6.saddr, fl6.daddr)
    icmp6_out_count(sk.net, kind)
    return ip6_push_pending_frames(sk, ip6_finish_skb(sk, fl6))


def ping_v6_err(skb: sk_buff, offset: int, info: int) -> None:
    """net/ipv4/ping.c (ping_err): an ICMPv6 error about our echo request. Borrows skb.

    Data at the embedded IPv6 header, the quoted request `offset` bytes behind it.
    """
    net = skb.dev.net
    ident = int.from_bytes(skb_copy_bits(skb, offset, 8)[4:6], "big")
    sk = ping_lookup(net, AF_INET6, ident, ipv6hdr_at(skb, 0).saddr, skb)
    if sk is not None:
        sk_icmp_err(sk, skb, af_ops_of[AF_INET6], np_of(sk).recverr, 0, offset, info)


pingv6_prot = replace(
    ping_prot,
    name="PINGv6",
    memory="PING",
    connect=ip6_datagram_connect_v6_only,
    setsockopt=ipv6_setsockopt,
    getsockopt=ipv6_getsockopt,
    sendmsg=ping_v6_sendmsg,
    bind=ping_v6_bind,
)
