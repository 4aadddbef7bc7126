"""The error queue of IPv4 sockets, IP_RECVERR (net/ipv4/ip_sockglue.c)."""

from __future__ import annotations

import errno
import struct
from typing import Any

from fastpath.hdr import icmp_hdr, ip_hdr, ip_push, iphdr_at
from fastpath.skbuff import alloc_skb, consume_skb, kfree_skb, sk_buff, skb_clone, skb_pull
from stack.core import uapi
from stack.core.iov import msghdr, skb_copy_datagram_iter
from stack.core.sock import sock_queue_err_skb
from stack.core.sockaddr import sockaddr
from stack.core.sockopt import put_cmsg, sock_recv_cmsgs
from stack.core.uapi import SOL_IP

EXTENDED_ERR = struct.Struct("=IBBBBII")


SOCKADDR_IN = struct.Struct("=H2s4s8x")


def net_addr(addr: int) -> bytes:
    """An address as it stands in structs: network order."""
    return addr.to_bytes(4, "big")


def sockaddr_in(name: sockaddr | None) -> bytes:
    """struct sockaddr_in; zeros for None."""
    if name is None:
        return bytes(SOCKADDR_IN.size)
    return SOCKADDR_IN.pack(name.family, name.port.to_bytes(2, "big"), net_addr(name.addr))


class sock_exterr_skb:
    """struct sock_exterr_skb (skb.cb on the error queue): the extended error and where it is from.

    `name`: the destination that the failed packet went to; `offender`: who complained, or None.
    """

    __slots__ = (
        "ee_code",
        "ee_data",
        "ee_errno",
        "ee_info",
        "ee_origin",
        "ee_type",
        "name",
        "offender",
    )

    def __init__(
        self, err: int, origin: int, kind: int, code: int, info: int, name: sockaddr
    ) -> None:
        self.ee_errno = err
        self.ee_origin = origin
        self.ee_type = kind
        self.ee_code = code
        self.ee_info = info
        self.ee_data = 0
        self.name = name
        self.offender: sockaddr | None = None


def ip_icmp_error(sk: Any, skb: sk_buff, err: int, port: int, info: int, payload_off: int) -> None:
    """net/ipv4/ip_sockglue.c: put an ICMP error on the error queue, with the quoted payload.

    `skb` (borrowed): data at the embedded IP header; `payload_off` = where its payload begins.
    """
    clone = skb_clone(skb)
    if clone is None:
        return
    icmph = icmp_hdr(skb)
    name = sockaddr(uapi.AF_INET, iphdr_at(skb, 0).daddr, port)
    serr = sock_exterr_skb(err, uapi.SO_EE_ORIGIN_ICMP, icmph.type, icmph.code, info, name)
    serr.offender = sockaddr(uapi.AF_INET, ip_hdr(skb).saddr)
    clone.cb = serr
    if payload_off <= clone.len:
        skb_pull(clone, payload_off)
        if not sock_queue_err_skb(sk, clone):
            return
    kfree_skb(clone)


def ip_local_error(sk: Any, err: int, daddr: int, port: int, info: int) -> None:
    """net/ipv4/ip_sockglue.c: an error found here (a datagram over the path MTU)."""
    if not sk.recverr:
        return
    skb = alloc_skb(sk.net.skb_small, 0, 20)
    if skb is None:
        return
    # A bare header for the address, as in the kernel; the reader gets no payload.
    ip_push(skb, 0, 20, 0, 0, 0, 0, 0, daddr)
    skb_pull(skb, 20)
    name = sockaddr(uapi.AF_INET, daddr, port)
    skb.cb = sock_exterr_skb(err, uapi.SO_EE_ORIGIN_LOCAL, 0, 0, info, name)
    if sock_queue_err_skb(sk, skb):
        kfree_skb(skb)


def ip_recv_error(sk: Any, msg: msghdr, length: int) -> int:
    """net/ipv4/ip_sockglue.c: recvmsg with MSG_ERRQUEUE: the payload that failed, and why.

    Raises: BlockingIOError when the queue is empty.
    """
    skb = sk.sk_error_queue.dequeue()
    if skb is None:
        raise BlockingIOError(errno.EAGAIN, "the error queue is empty")
    copied = skb.len
    if copied > length:
        msg.msg_flags |= uapi.MSG_TRUNC
        copied = length
    try:
        if copied:
            skb_copy_datagram_iter(skb, 0, msg, copied)
    except (ValueError, BufferError, TypeError) as exc:
        kfree_skb(skb)
        raise OSError(errno.EFAULT, f"cannot write to the caller's buffer: {exc}") from exc
    sock_recv_cmsgs(msg, sk, skb)
    serr = skb.cb
    if isinstance(serr, sock_exterr_skb):
        msg.msg_name = serr.name
        offender = serr.offender
        data = EXTENDED_ERR.pack(
            serr.ee_errno,
            serr.ee_origin,
            serr.ee_type,
            serr.ee_code,
            0,
            serr.ee_info & 0xFFFFFFFF,
            serr.ee_data,
        )
        put_cmsg(msg, SOL_IP, uapi.IP_RECVERR, data + sockaddr_in(offender))
    msg.msg_flags |= uapi.MSG_ERRQUEUE
    # The next error in the queue becomes the pending one.
    head = sk.sk_error_queue.peek()
    sk.sk_err = head.cb.ee_errno if head is not None and isinstance(head.cb, sock_exterr_skb) else 0
    if sk.sk_err:
        sk.sk_error_report()
    consume_skb(skb)
    return copied
