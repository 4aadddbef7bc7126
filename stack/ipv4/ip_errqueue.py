"""The error queue of IPv4 sockets, IP_RECVERR (net/ipv4/ip_sockglue.c)."""

from __future__ import annotations

import struct

from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
)
from fastpath.net.hdr import icmp_hdr, ip_hdr, iphdr_at
from stack.core import uapi
from stack.core.errqueue import is_stamp, sock_exterr_skb, sock_next_error, sock_recv_errqueue
from stack.core.iov import msghdr
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import put_cmsg
from stack.core.uapi import SOL_IP
from stack.inet.af_ops import af_ops_of
from stack.inet.datagram import inet_icmp_error, inet_local_error
from stack.inet.inet_sock import inet_sock
from stack.ipv4.icmp_codes import ICMP_DEST_UNREACH, ICMP_PARAMETERPROB, ICMP_TIME_EXCEEDED
from stack.ipv4.ip_options import received_options

HAVE_EXTENSIONS = (ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB)
SOCKADDR_IN = struct.Struct("=H2s4s8x")


def net_addr(addr: int) -> bytes:
    """The bytes of an address in network order, as in structs."""
    return addr.to_bytes(4, "big")


def sockaddr_in(name: sockaddr | None) -> bytes:
    """struct sockaddr_in; zeros for None."""
    if name is None:
        return bytes(SOCKADDR_IN.size)
    return SOCKADDR_IN.pack(name.family, name.port.to_bytes(2, "big"), net_addr(name.addr))


def ip_icmp_error(
    sk: inet_sock, skb: sk_buff, err: int, port: int, info: int, payload_off: int
) -> None:
    """net/ipv4/ip_sockglue.c: put an ICMP error on the error queue, with the quoted payload.

    `skb` (borrowed): data at the embedded IP header; `payload_off` = where its payload begins.
    """
    icmph = icmp_hdr(skb)
    name = sockaddr(uapi.AF_INET, iphdr_at(skb, 0).daddr, port)
    serr = sock_exterr_skb(err, uapi.SO_EE_ORIGIN_ICMP, icmph.type, icmph.code, info, name)
    serr.opt = received_options(skb)
    at = 5 if sk.recverr_rfc4884 and icmph.type in HAVE_EXTENSIONS else 0
    inet_icmp_error(sk, skb, serr, payload_off, at, 4)


def ip_local_error(sk: inet_sock, err: int, daddr: int, port: int, info: int) -> None:
    """net/ipv4/ip_sockglue.c: queue an error of this host (a datagram above the path MTU)."""
    if sk.recverr:
        name = sockaddr(uapi.AF_INET, daddr, port)
        inet_local_error(sk, sock_exterr_skb(err, uapi.SO_EE_ORIGIN_LOCAL, 0, 0, info, name))


def ipv4_datagram_support_cmsg(sk: inet_sock, skb: sk_buff, serr: sock_exterr_skb) -> bool:
    """net/ipv4/ip_sockglue.c: whether `skb` has a packet header for control messages.

    ICMP errors and time-stamped packets have one; errors of this host do not.
    """
    if is_stamp(serr):
        return bool(skb.skb_iif and sk.sk_tsflags & uapi.SOF_TIMESTAMPING_OPT_CMSG)
    return serr.ee_origin == uapi.SO_EE_ORIGIN_ICMP


def ip_recv_error(sk: inet_sock, msg: msghdr, length: int) -> int:
    """net/ipv4/ip_sockglue.c: recvmsg with MSG_ERRQUEUE: the failed packet's payload and its error.

    Raises: BlockingIOError when the queue is empty.
    """
    copied, skb = sock_recv_errqueue(sk, msg, length)
    serr = skb.cb
    if isinstance(serr, sock_exterr_skb):
        msg.msg_name = serr.name
        if ipv4_datagram_support_cmsg(sk, skb, serr):
            serr.offender = sockaddr(uapi.AF_INET, ip_hdr(skb).saddr)
            if sk.cmsg_flags:
                af_ops_of[uapi.AF_INET].cmsg_recv(msg, sk, skb, 0, 0)
        put_cmsg(msg, SOL_IP, uapi.IP_RECVERR, serr.pack() + sockaddr_in(serr.offender))
    sock_next_error(sk, serr)
    consume_skb(skb)
    return copied
