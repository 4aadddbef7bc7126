"""Ping sockets over IPv4: ICMP echo without privileges (net/ipv4/ping.c)."""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.hdr import icmp_hdr, icmp_push, iphdr_at
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import l3mdev_fib_table_by_index
from stack.core.proto import proto
from stack.core.rows import narrow
from stack.core.sock import lock_sock, release_sock, sk_dst_check, sk_dst_set, sk_error_report
from stack.core.sock_flags import SOCK_BROADCAST
from stack.core.sockaddr import sockaddr
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, ICMP_HLEN, IPPROTO_ICMP
from stack.inet.af_ops import af_ops_of
from stack.inet.append import ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err, udp_disconnect
from stack.inet.flow import flowi
from stack.inet.inet_sock import inet_can_nonlocal_bind
from stack.inet.ping import (
    ping_bind_to,
    ping_close,
    ping_common_sendmsg,
    ping_get_port,
    ping_init_sock,
    ping_lookup,
    ping_queue_rcv_skb,
    ping_recvmsg,
    ping_sock,
    ping_unhash,
)
from stack.inet.raw import raise_sent
from stack.ipv4 import fib, icmp_codes
from stack.ipv4.datagram import check_bind_sockaddr, check_sockaddr, ip4_datagram_connect
from stack.ipv4.fib import inet_addr_type_table
from stack.ipv4.icmp import icmp_out_count
from stack.ipv4.ip_errqueue import ip_icmp_error
from stack.ipv4.ip_output import (
    ip_append_data,
    ip_datagram_flow,
    ip_finish_skb,
    ip_push_pending_frames,
    ipcm_init_sk,
)
from stack.ipv4.ip_sockglue import ip_cmsg_send, ip_getsockopt, ip_setsockopt
from stack.ipv4.route import (
    RTCF_BROADCAST,
    ip_route_output_flow,
    ipv4_redirect,
    ipv4_sk_redirect,
    ipv4_update_pmtu,
)


def ping_bind(sk: ping_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/ping.c: local address and identifier. Raises: OSError EADDRNOTAVAIL, EADDRINUSE."""
    check_bind_sockaddr(uaddr)
    addr, ident = uaddr.addr, uaddr.port
    net = sk.net
    lock_sock(sk)
    try:
        tb_id = l3mdev_fib_table_by_index(net, sk.sk_bound_dev_if) or fib.RT_TABLE_LOCAL
        kind = inet_addr_type_table(net, addr, tb_id) if addr else uapi.RTN_LOCAL
        if kind in (uapi.RTN_MULTICAST, uapi.RTN_BROADCAST) or (
            kind != uapi.RTN_LOCAL and not inet_can_nonlocal_bind(sk, net.sysctl.ip_nonlocal_bind)
        ):
            raise os_error(errno.EADDRNOTAVAIL, "not an address of this host")
        return ping_bind_to(sk, addr, ident)
    finally:
        release_sock(sk)


def ping_v4_sendmsg(sk: ping_sock, msg: msghdr, length: int) -> int:
    """net/ipv4/ping.c: send an echo request: the data begin with its 8-byte header.

    The identifier is replaced by the socket's. Returns `length`. Raises: OSError.
    """
    kind, sequence = ping_common_sendmsg(
        msg, length, icmp_codes.ICMP_ECHO, icmp_codes.ICMP_EXT_ECHO
    )
    if msg.msg_name is not None:
        check_sockaddr(msg.msg_name)
        daddr = msg.msg_name.addr
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = narrow(sk.inet_daddr)
    ipc = ipcm_init_sk(sk)
    if msg.msg_control:
        ip_cmsg_send(sk, msg.msg_control, ipc)
    fl4 = ip_datagram_flow(sk, ipc, daddr, msg.msg_flags, IPPROTO_ICMP)
    rt = sk_dst_check(sk, 0) if msg.msg_name is None and not msg.msg_control else None
    if rt is None:
        try:
            rt = ip_route_output_flow(sk.net, fl4, sk)
        except OSError as exc:
            if exc.errno == errno.ENETUNREACH:
                sk.net.mib.ip.OutNoRoutes += 1
            raise
        if msg.msg_name is None:
            sk_dst_set(sk, rt)
    else:
        fl4.saddr = fl4.saddr or rt.rt_src
    if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
        raise os_error(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
    if not ipc.addr:
        ipc.addr = narrow(fl4.daddr)
    lock_sock(sk)
    try:
        ip_append_data(sk, fl4, ip_generic_getfrag, msg, length, ICMP_HLEN, ipc, rt, msg.msg_flags)
        raise_sent(ping_v4_push_pending_frames(sk, kind, sequence, fl4), sk.recverr)
    finally:
        release_sock(sk)
    return length


def ping_v4_push_pending_frames(sk: ping_sock, kind: int, sequence: int, fl4: flowi) -> int:
    """net/ipv4/ping.c: the echo header with checksum, then send."""
    skb = sk.sk_write_queue.peek()
    if skb is None:
        return 0
    icmp_push(skb, kind, 0, sk.inet_num << 16 | sequence)
    icmp_out_count(sk.net, kind)
    return ip_push_pending_frames(sk, ip_finish_skb(sk, fl4))


def ping_err(skb: sk_buff, offset: int, info: int) -> None:
    """net/ipv4/ping.c: an ICMP error about our echo request, quoted header at `offset`. Borrows."""
    net = skb.dst.net
    quoted = skb_copy_bits(skb, offset, 8)
    if quoted[0] not in (icmp_codes.ICMP_ECHO, icmp_codes.ICMP_EXT_ECHO):
        return
    ident = int.from_bytes(quoted[4:6], "big")
    sk = ping_lookup(net, AF_INET, ident, iphdr_at(skb, 0).saddr, skb)
    if sk is None:
        return
    if icmp_hdr(skb).type not in (icmp_codes.ICMP_SOURCE_QUENCH, icmp_codes.ICMP_REDIRECT):
        sk_icmp_err(sk, skb, af_ops_of[AF_INET], sk.recverr, 0, offset, info)
        return
    # These are not errors, but ping reports them.
    if icmp_hdr(skb).type == icmp_codes.ICMP_REDIRECT:
        ipv4_sk_redirect(skb, sk)
    if sk.recverr:
        ip_icmp_error(sk, skb, errno.EREMOTEIO, 0, info, offset)
        sk.sk_err = errno.EREMOTEIO
        sk_error_report(sk)


def icmp_err(skb: sk_buff, info: int) -> int:
    """net/ipv4/icmp.c: err_handler of ICMP itself: an error about one of our echo requests."""
    icmph = icmp_hdr(skb)
    net = skb.dst.net
    hlen = iphdr_at(skb, 0).ihl * 4
    if skb_copy_bits(skb, hlen, 1)[0] != icmp_codes.ICMP_ECHOREPLY:
        ping_err(skb, hlen, info)
        if icmph.type == icmp_codes.ICMP_DEST_UNREACH and icmph.code == icmp_codes.ICMP_FRAG_NEEDED:
            ipv4_update_pmtu(skb, net, info, 0, IPPROTO_ICMP)
        elif icmph.type == icmp_codes.ICMP_REDIRECT:
            ipv4_redirect(skb, net, 0, IPPROTO_ICMP)
    return 0


ping_prot = proto(
    name="PING",
    init=ping_init_sock,
    close=ping_close,
    connect=ip4_datagram_connect,
    disconnect=udp_disconnect,
    setsockopt=ip_setsockopt,
    getsockopt=ip_getsockopt,
    sendmsg=ping_v4_sendmsg,
    recvmsg=ping_recvmsg,
    bind=ping_bind,
    backlog_rcv=ping_queue_rcv_skb,
    unhash=ping_unhash,
    get_port=ping_get_port,
    sock_class=ping_sock,
)
