"""Raw sockets over IPv6: payloads of one protocol, no IP header (net/ipv6/raw.c; RFC 3542 3).

    ip6_input_finish -> raw6_local_deliver -> raw_v6_input      each header's packet, before its
        raw_match, icmpv6_filter                                handler
        rawv6_rcv -> raw_rcv_skb            verify the checksum (IPV6_CHECKSUM), queue a clone
    icmpv6_notify -> rawv6_icmp_error -> rawv6_err              an ICMPv6 error
    inet_sendmsg => rawv6_sendmsg           destination, control messages, route; then
        rawv6_send_hdrinc                   IPV6_HDRINCL: the caller brings the header
        ip6_append_data
        rawv6_push_pending_frames           fill the checksum in, send

State: `raw6_sock.offset` is the offset of the checksum (-1: none, ICMPv6: always 2), `filter` has a
bit for each ICMPv6 type that it blocks, `inet_num` is the protocol. `rawv6_prot` at the end lists
the functions; those without v6 in their name are in stack/inet/raw.py. Read rawv6_sendmsg first.
"""

from __future__ import annotations

import errno
from typing import Any

from fastpath.base.csum import csum_fold, csum_ipv6_nofold
from fastpath.base.skbuff import (
    CHECKSUM_UNNECESSARY,
    sk_buff,
    skb_checksum,
    skb_clone,
    skb_copy_bits,
    skb_store_bits,
)
from fastpath.net.hdr import ipv6_hdr, ipv6hdr_at
from stack.core import drop_reason, uapi
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif
from stack.core.netdevice import NET_RX_DROP
from stack.core.rows import replace, row, state, wide
from stack.core.sock import lock_sock, release_sock, sk_common_release, sk_dst_reset
from stack.core.sockaddr import SIN6_LEN_RFC2133, need_sa_len, sockaddr
from stack.core.sockopt import sockcm_cookie
from stack.core.tcp_states import TCP_CLOSE, TCP_ESTABLISHED
from stack.core.uapi import IPV6_HLEN
from stack.inet.af_ops import af_ops_of
from stack.inet.append import ip_generic_getfrag
from stack.inet.datagram import sk_icmp_err
from stack.inet.flow import flowi
from stack.inet.mroute_sockopt import mroute_ioctl, mroute_sk_done
from stack.inet.raw import (
    ra_drop,
    raise_sent,
    raw_hdrinc_skb,
    raw_icmp_error,
    raw_local_deliver,
    raw_match,
    raw_rcv_skb,
    raw_recvmsg,
    raw_sock,
)
from stack.inet.xfrm_policy import XFRM_POLICY_IN, xfrm6_policy_check
from stack.ipv4.raw import raw_prot
from stack.ipv6.addr import ipv6_addr_is_multicast, ipv6_addr_v4mapped
from stack.ipv6.bind import inet6_bind_check
from stack.ipv6.datagram import (
    ip6_datagram_connect_v6_only,
    ipv6_local_error,
    ipv6_recv_rxpmtu,
    sendmsg_flow,
    sendmsg_options,
)
from stack.ipv6.ip6_append import (
    ip6_append_data,
    ip6_finish_skb,
    ip6_flush_pending_frames,
    ip6_push_pending_frames,
    ipcm6_init_sk,
)
from stack.ipv6.ip6_cmsg import ip6_datagram_send_ctl
from stack.ipv6.ip6_output import ip6_send_skb
from stack.ipv6.ip6mr import ip6mr_ops
from stack.ipv6.ip6mr_sockopt import ip6mr_family
from stack.ipv6.mcast import inet6_mc_check
from stack.ipv6.pinfo import np_of
from stack.ipv6.raw_sockopt import rawv6_getsockopt, rawv6_setsockopt
from stack.ipv6.route import ip6_dst_lookup_flow
from stack.ipv6.rt6_info import rt6_info

ICMPV6_HDRLEN = 4


@state
class raw6_sock(raw_sock):
    """struct raw6_sock. `offset`: where the kernel puts a checksum (IPV6_CHECKSUM), -1: nowhere."""

    offset: int = row(-1)


# --- receiving -----------------------------------------------------------------------------


def raw6_local_deliver(skb: sk_buff, nexthdr: int) -> bool:
    """net/ipv6/raw.c: give a clone to each raw socket that matches the packet. Borrows skb."""
    return bool(raw_local_deliver(skb, uapi.AF_INET6, nexthdr))


def raw_v6_input(sk: raw6_sock, skb: sk_buff) -> int:
    """net/ipv6/raw.c (ipv6_raw_deliver): give a clone to one socket; 1 when the packet matches."""
    iph = ipv6_hdr(skb)
    saddr, daddr = iph.saddr, iph.daddr
    if not raw_match(sk, saddr, daddr, skb.skb_iif, inet_sdif(skb)):
        return 0
    if ipv6_addr_is_multicast(daddr) and not inet6_mc_check(sk, daddr, saddr):
        return 0
    if (
        (sk.filter or skb.len < ICMPV6_HDRLEN)
        and sk.inet_num == uapi.IPPROTO_ICMPV6
        and icmpv6_filter(sk, skb)
    ):
        return 1
    clone = skb_clone(skb)
    clone.dst = skb.dst
    clone.dev = skb.dev
    rawv6_rcv(sk, clone)
    return 1


def icmpv6_filter(sk: raw6_sock, skb: sk_buff) -> bool:
    """net/ipv6/raw.c: True when ICMPV6_FILTER blocks the message, or it is truncated."""
    if skb.len < ICMPV6_HDRLEN:
        return True
    return bool(sk.filter >> skb_copy_bits(skb, 0, 1)[0] & 1)


def rawv6_rcv(sk: raw6_sock, skb: sk_buff) -> int:
    """net/ipv6/raw.c: verify the checksum of IPV6_CHECKSUM, and queue. Takes ownership of skb."""
    if not xfrm6_policy_check(sk, XFRM_POLICY_IN, skb):
        sk.sk_drops += 1
        kfree_skb_reason(sk.net, skb, drop_reason.SKB_DROP_REASON_XFRM_POLICY)
        return NET_RX_DROP
    if (
        sk.offset >= 0
        and skb.ip_summed != CHECKSUM_UNNECESSARY
        and transport_sum(skb, ipv6_hdr(skb).saddr, ipv6_hdr(skb).daddr, sk.inet_num)
    ):
        sk.sk_drops += 1
        kfree_skb_reason(sk.net, skb, drop_reason.SKB_DROP_REASON_SKB_CSUM)
        return 0
    return raw_rcv_skb(sk, skb)


def transport_sum(skb: sk_buff, saddr: wide, daddr: wide, protocol: int) -> int:
    """The checksum of pseudo header and data; 0 if the data include a correct one."""
    pseudo = csum_ipv6_nofold(saddr, daddr, skb.len, protocol)
    return csum_fold(skb_checksum(skb, 0, skb.len, pseudo))


def rawv6_err(sk: raw6_sock, skb: sk_buff, offset: int, info: int) -> None:
    """net/ipv6/raw.c: sk_icmp_err, for a connected socket or one with an error queue. Borrows."""
    recverr = np_of(sk).recverr
    if recverr or sk.sk_state == TCP_ESTABLISHED:
        whole = 0 if sk.hdrincl else offset
        sk_icmp_err(sk, skb, af_ops_of[uapi.AF_INET6], recverr, 0, whole, info)


def rawv6_icmp_error(skb: sk_buff, nexthdr: int, offset: int, info: int) -> None:
    """net/ipv6/raw.c raw6_icmp_error: data at the embedded IPv6 header. Borrows skb."""
    iph = ipv6hdr_at(skb, 0)
    raw_icmp_error(skb, uapi.AF_INET6, nexthdr, iph.daddr, iph.saddr, offset, info)


def rawv6_recvmsg(sk: raw6_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv6/raw.c: read one payload. Bytes copied. Raises: OSError."""
    waits = np_of(sk).rx_pmtu is not None and not flags & uapi.MSG_ERRQUEUE
    if waits and ipv6_recv_rxpmtu(sk, msg):
        return 0
    return raw_recvmsg(sk, msg, length, flags)


# --- sending -------------------------------------------------------------------------------


def rawv6_sendmsg(sk: raw6_sock, msg: msghdr, length: int) -> int:
    """net/ipv6/raw.c: send a payload, or with IPV6_HDRINCL a whole packet. Returns `length`.

    Raises: OSError EMSGSIZE, EOPNOTSUPP, EDESTADDRREQ, EINVAL, routing errors.
    """
    if length > 0x7FFFFFFF:
        raise os_error(errno.EMSGSIZE, f"{length} bytes do not fit a packet")
    flags = msg.msg_flags
    if flags & uapi.MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "raw sockets have no urgent data")
    np = np_of(sk)
    protocol = sk.inet_num
    name = msg.msg_name
    if name is not None:
        need_sa_len(name, SIN6_LEN_RFC2133)
        if name.family not in (uapi.AF_UNSPEC, uapi.AF_INET6):
            raise os_error(errno.EAFNOSUPPORT, f"family {name.family} on an IPv6 socket")
        # RFC 2292: the port is 0 or the protocol, which one of IPPROTO_RAW may choose.
        if name.port:
            if protocol not in (name.port, uapi.IPPROTO_RAW) or name.port > 255:
                raise os_error(errno.EINVAL, f"port {name.port} on a raw socket of {protocol}")
            protocol = name.port
    elif sk.sk_state != TCP_ESTABLISHED:
        raise os_error(errno.EDESTADDRREQ, "no destination: not connected and no address given")
    fl6 = sendmsg_flow(sk, name, 0)
    fl6.fl_sport = 0
    fl6.flowi_proto = protocol
    ipc6 = ipcm6_init_sk(sk)
    if msg.msg_control:
        ip6_datagram_send_ctl(sk, msg.msg_control, fl6, ipc6)
    final = sendmsg_options(sk, fl6, ipc6)
    if length < 2 and protocol == uapi.IPPROTO_ICMPV6 and not sk.hdrincl:
        raise os_error(errno.EFAULT, f"{length} bytes have no type and code")
    rt = ip6_dst_lookup_flow(sk.net, sk, fl6, final, np.srcprefs)
    if sk.hdrincl:
        return rawv6_send_hdrinc(sk, msg, length, fl6, rt, flags, ipc6.sockc)
    lock_sock(sk)
    try:
        ip6_append_data(sk, ip_generic_getfrag, msg, length, 0, ipc6, fl6, rt, flags)
        if not flags & uapi.MSG_MORE:
            raise_sent(rawv6_push_pending_frames(sk, fl6), np.recverr)
    finally:
        release_sock(sk)
    return length


def rawv6_push_pending_frames(sk: raw6_sock, fl6: flowi) -> int:
    """net/ipv6/raw.c: fill in the checksum of IPV6_CHECKSUM and send. 0 or a negative errno.

    Raises: OSError EINVAL when the checksum's offset is behind the data.
    """
    skb = sk.sk_write_queue.peek()
    if skb is not None and sk.offset >= 0:
        if sk.offset + 2 > skb.len:
            ip6_flush_pending_frames(sk)
            raise os_error(errno.EINVAL, f"IPV6_CHECKSUM {sk.offset} in {skb.len} bytes")
        skb_store_bits(skb, sk.offset, bytes(2))  # whatever the caller has put there
        check = transport_sum(skb, fl6.saddr, fl6.daddr, fl6.flowi_proto)
        if not check and fl6.flowi_proto == uapi.IPPROTO_UDP:
            check = 0xFFFF  # 0 would say that there is none
        skb_store_bits(skb, sk.offset, check.to_bytes(2, "big"))
    return ip6_push_pending_frames(sk, ip6_finish_skb(sk, fl6))


def rawv6_send_hdrinc(
    sk: raw6_sock,
    msg: msghdr,
    length: int,
    fl6: flowi,
    rt: rt6_info,
    flags: int,
    sockc: sockcm_cookie | None,
) -> int:
    """net/ipv6/raw.c: send with the caller's IPv6 header. Raises: OSError EMSGSIZE, EINVAL."""
    net = sk.net
    if length > rt.dev.mtu:
        ipv6_local_error(sk, errno.EMSGSIZE, fl6, rt.dev.mtu)
        raise os_error(errno.EMSGSIZE, f"{length} bytes exceed the MTU of {rt.dev.name}")
    if length < IPV6_HLEN:
        raise os_error(errno.EINVAL, "the packet is shorter than an IPv6 header")
    if flags & uapi.MSG_PROBE:
        return length
    skb = raw_hdrinc_skb(sk, msg.take(IPV6_HLEN), msg, length, fl6, rt, flags, sockc)
    net.mib.ip6.OutRequests += 1
    raise_sent(ip6_send_skb(skb), np_of(sk).recverr)
    return length


# --- socket calls --------------------------------------------------------------------------


def rawv6_bind(sk: raw6_sock, uaddr: sockaddr, addr_len: int = 28) -> int:
    """net/ipv6/raw.c: receive only packets to this local address. Raises: OSError."""
    need_sa_len(uaddr, SIN6_LEN_RFC2133)
    if uaddr.family != uapi.AF_INET6:
        raise os_error(errno.EINVAL, f"family {uaddr.family} on an IPv6 socket")
    addr = uaddr.addr
    if ipv6_addr_v4mapped(addr):
        raise os_error(errno.EADDRNOTAVAIL, "raw sockets are IPv6's alone")
    lock_sock(sk)
    try:
        if sk.sk_state != TCP_CLOSE:
            raise os_error(errno.EINVAL, "the socket is connected")
        inet6_bind_check(sk, addr, uaddr.scope_id)
        sk.inet_rcv_saddr = addr
        sk.inet_saddr = 0 if ipv6_addr_is_multicast(addr) else addr
        sk_dst_reset(sk)
        return 0
    finally:
        release_sock(sk)


def rawv6_init_sk(sk: raw6_sock) -> int:
    """net/ipv6/raw.c: ICMPv6's checksum is always the kernel's (RFC 3542 3.1)."""
    if sk.inet_num == uapi.IPPROTO_ICMPV6:
        sk.offset = 2
    return 0


def rawv6_ioctl(sk: raw6_sock, cmd: int, arg: Any = None) -> Any:
    """net/ipv6/raw.c: those of multicast routing, and those of both families."""
    return mroute_ioctl(ip6mr_family, sk, cmd, arg)


def rawv6_close(sk: raw6_sock, timeout: int) -> None:
    """net/ipv6/raw.c"""
    mroute_sk_done(ip6mr_ops, sk)
    ra_drop(sk.net.ipv6.ra_chain, sk)
    sk_common_release(sk)


rawv6_prot = replace(
    raw_prot,
    name="RAWv6",
    memory="RAW",
    close=rawv6_close,
    connect=ip6_datagram_connect_v6_only,
    ioctl=rawv6_ioctl,
    init=rawv6_init_sk,
    setsockopt=rawv6_setsockopt,
    getsockopt=rawv6_getsockopt,
    sendmsg=rawv6_sendmsg,
    recvmsg=rawv6_recvmsg,
    bind=rawv6_bind,
    sock_class=raw6_sock,
)
