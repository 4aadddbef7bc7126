"""Raw sockets over IPv4: whole packets of one protocol (net/ipv4/raw.c).

    raw_local_deliver -> raw_v4_input       each received packet, before its protocol's handler
        raw_match, icmp_filter, ip_mc_sf_allow          does this socket receive it?
        raw_rcv -> raw_rcv_skb              a clone, with its IP header, into the queue
    raw_icmp_error -> raw_err               an ICMP error about a packet of this protocol
    inet_sendmsg => raw_sendmsg             route, control messages, options; then
        raw_send_hdrinc                     IP_HDRINCL: the caller supplies the header
        ip_append_data, ip_push_pending_frames          otherwise, like UDP
    recvmsg, hash, unhash, ioctl            stack/inet/raw.py, shared with IPv6

State: `net.raw_hash` finds sockets by family and protocol. `inet_num` is the protocol, `filter` the
types that ICMP_FILTER blocks (a bit each). `raw_prot` at the end lists the functions. Read
raw_sendmsg first.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.skbuff import (
    kfree_skb,
    sk_buff,
    skb_clone,
    skb_copy_bits,
    skb_network_offset,
    skb_push,
)
from fastpath.net.hdr import ip_hdr, ip_send_check
from stack.core import uapi
from stack.core.drop_reason import SKB_DROP_REASON_XFRM_POLICY, kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import NET_RX_DROP
from stack.core.proto import proto
from stack.core.rows import narrow
from stack.core.sock import lock_sock, release_sock, sk_common_release, sk_dst_reset
from stack.core.sock_flags import SOCK_BROADCAST
from stack.core.sockaddr import NO_NAME, SOCKADDR_IN_LEN, in_addr_of, need_sa_len, sockaddr
from stack.core.sockopt import sockcm_cookie
from stack.core.sockopt_table import (
    ORDER,
    RAW,
    Level,
    get_option,
    number,
    only,
    opt_bytes,
    opt_raw,
    set_option,
)
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.core.uapi import ICMP_HLEN, IP_HLEN
from stack.inet.af_ops import af_ops_of
from stack.inet.append import ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err, udp_disconnect
from stack.inet.flow import flowi
from stack.inet.mroute_sockopt import mroute_ioctl, mroute_sk_done
from stack.inet.raw import (
    ra_drop,
    raise_sent,
    raw_destroy,
    raw_hash_sk,
    raw_hdrinc_skb,
    raw_match,
    raw_rcv_skb,
    raw_recvmsg,
    raw_sock,
    raw_unhash_sk,
)
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm4_policy_check
from stack.ipv4.addr import ipv4_is_multicast
from stack.ipv4.datagram import check_destination, inet_bind_source, ip4_datagram_connect
from stack.ipv4.icmp import icmp_out_count
from stack.ipv4.igmp import ip_mc_sf_allow
from stack.ipv4.ip_errqueue import ip_local_error
from stack.ipv4.ip_output import (
    __ip_select_ident,
    ip_append_data,
    ip_datagram_flow,
    ip_finish_skb,
    ip_push_pending_frames,
    ip_send_skb,
    ipcm_init_sk,
)
from stack.ipv4.ip_sockglue import ip_cmsg_send, ip_getsockopt, ip_setsockopt, ipv4_pktinfo_prepare
from stack.ipv4.ipmr import ipmr_ops
from stack.ipv4.ipmr_sockopt import ipmr_family
from stack.ipv4.route import RTCF_BROADCAST, ip_route_output_flow, rtable

# --- receiving ---------------------------------------------------------------------------


def icmp_filter(sk: raw_sock, skb: sk_buff) -> bool:
    """net/ipv4/raw.c: True when ICMP_FILTER blocks the message, or it is truncated."""
    if skb.len < ICMP_HLEN:
        return True
    kind = skb_copy_bits(skb, 0, 1)[0]
    return kind < 32 and bool(1 << kind & sk.filter)


def raw_v4_input(sk: raw_sock, skb: sk_buff) -> int:
    """net/ipv4/raw.c: give a clone to one raw socket of the protocol; 1 when the packet matches it.

    Borrows skb.
    """
    iph = ip_hdr(skb)
    saddr, daddr = iph.saddr, iph.daddr
    dif, sdif = skb.skb_iif, inet_sdif(skb)
    if not raw_match(sk, saddr, daddr, dif, sdif):
        return 0
    if (
        (sk.filter or skb.len < ICMP_HLEN)
        and sk.inet_num == uapi.IPPROTO_ICMP
        and icmp_filter(sk, skb)
    ):
        return 1
    if ipv4_is_multicast(daddr) and not ip_mc_sf_allow(sk, daddr, saddr, sdif or dif):
        return 1
    clone = skb_clone(skb)
    clone.dst = skb.dst
    clone.dev = skb.dev
    raw_rcv(sk, clone)
    return 1


def raw_rcv(sk: raw_sock, skb: sk_buff) -> int:
    """net/ipv4/raw.c: queue a packet together with its IP header. Takes ownership of skb."""
    if not xfrm4_policy_check(sk, XFRM_POLICY_IN, skb):
        sk.sk_drops += 1
        kfree_skb_reason(sk.net, skb, SKB_DROP_REASON_XFRM_POLICY)
        return NET_RX_DROP
    offset = skb_network_offset(skb)
    if offset < 0:
        skb_push(skb, -offset)
    ipv4_pktinfo_prepare(sk, skb)
    return raw_rcv_skb(sk, skb)


# --- errors ------------------------------------------------------------------------------


def raw_err(sk: raw_sock, skb: sk_buff, offset: int, info: int) -> None:
    """net/ipv4/raw.c: sk_icmp_err. Borrows skb."""
    whole = 0 if sk.hdrincl else offset
    sk_icmp_err(sk, skb, af_ops_of[uapi.AF_INET], sk.recverr, 0, whole, info)


# --- sending -----------------------------------------------------------------------------


def raw_sendmsg(sk: raw_sock, msg: msghdr, length: int) -> int:
    """net/ipv4/raw.c: send a payload, or with IP_HDRINCL a whole packet. Returns `length`.

    Raises: OSError EMSGSIZE, EOPNOTSUPP, EDESTADDRREQ, EACCES, EINVAL, routing errors.
    """
    if length > 0xFFFF:
        raise os_error(errno.EMSGSIZE, f"{length} bytes do not fit an IPv4 packet")
    if msg.msg_flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "raw sockets have no urgent data")
    hdrincl = sk.hdrincl
    name = msg.msg_name
    if name is not None and name.sa_len != NO_NAME:
        check_destination(name)
        daddr = name.addr
    else:
        if sk.sk_state != TCP_ESTABLISHED:
            raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
        daddr = narrow(sk.inet_daddr)
    ipc = ipcm_init_sk(sk)
    if hdrincl:
        ipc.protocol = uapi.IPPROTO_RAW
    if msg.msg_control:
        ip_cmsg_send(sk, msg.msg_control, ipc)
    if hdrincl and (ipc.opt is not None or sk.inet_opt is not None):
        raise os_error(errno.EINVAL, "IP options and IP_HDRINCL exclude each other")
    protocol = uapi.IPPROTO_RAW if hdrincl else sk.sk_protocol
    fl4 = ip_datagram_flow(sk, ipc, daddr, msg.msg_flags, protocol)
    if length < 2 and protocol == uapi.IPPROTO_ICMP:
        raise os_error(errno.EFAULT, f"{length} bytes have no type and code")
    rt = ip_route_output_flow(sk.net, fl4, sk)
    if rt.rt_flags & RTCF_BROADCAST and not sk.sk_flags & SOCK_BROADCAST:
        raise os_error(errno.EACCES, "sending to a broadcast needs SO_BROADCAST")
    if hdrincl:
        return raw_send_hdrinc(sk, fl4, msg, length, rt, msg.msg_flags, ipc.sockc)
    if not ipc.addr:
        ipc.addr = narrow(fl4.daddr)
    lock_sock(sk)
    try:
        ip_append_data(sk, fl4, ip_generic_getfrag, msg, length, 0, ipc, rt, msg.msg_flags)
        if not msg.msg_flags & uapi.MSG_MORE:
            raise_sent(ip_push_pending_frames(sk, ip_finish_skb(sk, fl4)), sk.recverr)
    finally:
        release_sock(sk)
    return length


def raw_send_hdrinc(
    sk: raw_sock,
    fl4: flowi,
    msg: msghdr,
    length: int,
    rt: rtable,
    flags: int,
    sockc: sockcm_cookie | None,
) -> int:
    """net/ipv4/raw.c: send a packet with the caller's IP header; fill source, id, length, checksum.

    Raises: OSError EMSGSIZE, EINVAL, ENOBUFS.
    """
    net = sk.net
    if length > rt.dev.mtu:
        ip_local_error(sk, errno.EMSGSIZE, narrow(fl4.daddr), sk.inet_dport, rt.dev.mtu)
        raise os_error(errno.EMSGSIZE, f"{length} bytes exceed the MTU of {rt.dev.name}")
    if length < IP_HLEN:
        raise os_error(errno.EINVAL, "the packet is shorter than an IP header")
    if flags & uapi.MSG_PROBE:
        return length
    header = msg.take(IP_HLEN)
    ihl = (header[0] & 15) * 4
    if IP_HLEN <= ihl <= length:
        header += msg.take(ihl - IP_HLEN)
    skb = raw_hdrinc_skb(sk, header, msg, length, fl4, rt, flags, sockc)
    if ihl != len(header):
        kfree_skb(skb)
        raise os_error(errno.EINVAL, f"header length {ihl} in a packet of {length} bytes")
    iph = ip_hdr(skb)
    if not iph.saddr:
        iph.saddr = narrow(fl4.saddr)
    iph.tot_len = length
    if not iph.id:
        iph.id = __ip_select_ident(net, iph.daddr, iph.saddr, iph.protocol)
    ip_send_check(iph)
    if iph.protocol == uapi.IPPROTO_ICMP and length > ihl:
        icmp_out_count(net, skb_copy_bits(skb, ihl, 1)[0])
    raise_sent(ip_send_skb(net, skb), sk.recverr)
    return length


# --- socket calls ------------------------------------------------------------------------


def raw_bind(sk: raw_sock, uaddr: sockaddr, addr_len: int = 16) -> int:
    """net/ipv4/raw.c: receive only packets to this local address. Raises: OSError."""
    addr = in_addr_of(uaddr)
    lock_sock(sk)
    try:
        if sk.sk_state != TCP_CLOSE:
            raise os_error(errno.EINVAL, "the socket is connected")
        need_sa_len(uaddr, SOCKADDR_IN_LEN)
        source = inet_bind_source(sk, addr)
        sk.inet_rcv_saddr, sk.inet_saddr = addr, source
        sk_dst_reset(sk)
        return 0
    finally:
        release_sock(sk)


def raw_init(sk: raw_sock) -> int:
    """net/ipv4/raw.c (raw_sk_init): no ICMP type is filtered."""
    if sk.inet_num == uapi.IPPROTO_ICMP:
        sk.filter = 0
    return 0


def raw_close(sk: raw_sock, timeout: int) -> None:
    """net/ipv4/raw.c"""
    mroute_sk_done(ipmr_ops, sk)
    ra_drop(sk.net.ra_chain, sk)
    sk_common_release(sk)


only_icmp = only("inet_num", (uapi.IPPROTO_ICMP,), errno.EOPNOTSUPP, "ICMP_FILTER is for ICMP")


def raw_seticmpfilter(sk: raw_sock, optval: Any) -> None:
    """net/ipv4/raw.c: a bit for each blocked ICMP type; a short value keeps the other bits."""
    data = opt_bytes(optval)[:4]
    sk.filter = int.from_bytes(data + sk.filter.to_bytes(4, ORDER)[len(data) :], ORDER)


# fmt: off
RAW_LEVEL = Level("SOL_RAW", uapi.SOL_RAW, vars(uapi), (
    number("ICMP_FILTER", "filter", None, "ICMP types that are not received", sockets=RAW,
        takes=opt_raw, has=only_icmp, set=raw_seticmpfilter),
), length_first=False)
# fmt: on


def raw_setsockopt(sk: raw_sock, level: int, optname: int, optval: Any) -> None:
    """net/ipv4/raw.c: SOL_RAW ICMP_FILTER; other options are IP's. Raises: OSError."""
    if level != uapi.SOL_RAW:
        ip_setsockopt(sk, level, optname, optval)
        return
    set_option(RAW_LEVEL, sk, optname, optval)


def raw_getsockopt(sk: raw_sock, level: int, optname: int, optlen: int) -> Any:
    """net/ipv4/raw.c. Raises: OSError."""
    if level != uapi.SOL_RAW:
        return ip_getsockopt(sk, level, optname, optlen)
    return get_option(RAW_LEVEL, sk, optname)


def raw_v4_ioctl(sk: raw_sock, cmd: int, arg: Any = None) -> Any:
    """net/ipv4/raw.c raw_ioctl: those of multicast routing, and those of both families."""
    return mroute_ioctl(ipmr_family, sk, cmd, arg)


raw_prot = proto(
    name="RAW",
    close=raw_close,
    destroy=raw_destroy,
    connect=ip4_datagram_connect,
    disconnect=udp_disconnect,
    ioctl=raw_v4_ioctl,
    init=raw_init,
    setsockopt=raw_setsockopt,
    getsockopt=raw_getsockopt,
    sendmsg=raw_sendmsg,
    recvmsg=raw_recvmsg,
    bind=raw_bind,
    backlog_rcv=raw_rcv_skb,
    hash=raw_hash_sk,
    unhash=raw_unhash_sk,
    sock_class=raw_sock,
)
