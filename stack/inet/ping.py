"""The common part of ping sockets of both families (net/ipv4/ping.c).

A datagram socket of protocol ICMP sends echo requests whose identifier is its "port"; the replies
with that identifier come back to it.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import sk_buff, skb_clone, skb_push
from fastpath.net.inetkey import icmp_echo_key
from stack.core.drop_reason import kfree_skb_reason
from stack.core.errors import os_error
from stack.core.iov import msghdr
from stack.core.l3mdev import inet_sdif
from stack.core.rows import row, state, wide
from stack.core.sk_mem import proto_mem_of_ram
from stack.core.sock import sk_common_release, sock_queue_rcv_skb_reason
from stack.core.sock_flags import SOCK_BINDADDR_LOCK, SOCK_BINDPORT_LOCK
from stack.core.uapi import AF_INET6, ICMP_HLEN, MSG_OOB
from stack.inet.af_ops import af_ops_of
from stack.inet.inet_sock import inet_sock
from stack.inet.raw import recv_packet
from stack.net import Net


@state
class ping_sock(inet_sock):
    """A ping socket; `inet_num` is its identifier."""

    ping_hashed: bool = row(False)


def ping_get_port(sk: ping_sock, ident: int) -> int:
    """net/ipv4/ping.c: take an identifier (0 = a free one). 0, or 1 when taken."""
    net = sk.net
    table = net.ping_table
    if not ident:
        for _ in range(1 << 16):
            net.ping_rover = (net.ping_rover + 1) & 0xFFFF
            if net.ping_rover and net.ping_rover not in table:
                ident = net.ping_rover
                break
        else:
            return 1
    else:
        for other in table.get(ident, ()):
            if other is not sk and not (other.sk_reuse and sk.sk_reuse):
                return 1
    ping_unhash(sk)
    sk.inet_num = ident
    table.setdefault(ident, []).insert(0, sk)  # if there are several, the last one bound gets all
    sk.ping_hashed = True
    return 0


def ping_bind_to(sk: ping_sock, addr: wide, ident: int) -> int:
    """The end of ping_bind, `addr` having been checked. Returns 0. Raises: OSError.

    A chosen address or identifier is kept by connect(AF_UNSPEC).
    """
    if sk.inet_num:
        raise os_error(errno.EINVAL, "the socket is bound")
    sk.inet_rcv_saddr = sk.inet_saddr = addr
    if ping_get_port(sk, ident):
        sk.inet_saddr = sk.inet_rcv_saddr = 0
        raise os_error(errno.EADDRINUSE, f"identifier {ident} is taken")
    if addr:
        sk.sk_flags |= SOCK_BINDADDR_LOCK
    if ident:
        sk.sk_flags |= SOCK_BINDPORT_LOCK
    sk.inet_sport = sk.inet_num
    sk.inet_daddr = 0
    sk.inet_dport = 0
    return 0


def ping_unhash(sk: ping_sock) -> None:
    """net/ipv4/ping.c: release the identifier."""
    if sk.ping_hashed:
        bucket = sk.net.ping_table[sk.inet_num]
        bucket.remove(sk)
        if not bucket:
            del sk.net.ping_table[sk.inet_num]
        sk.ping_hashed = False
        sk.inet_num = 0
        sk.inet_sport = 0


def ping_lookup(net: Net, family: int, ident: int, laddr: wide, skb: sk_buff) -> ping_sock | None:
    """net/ipv4/ping.c: the socket of an identifier, local address and skb's interface, or None."""
    dif, sdif = skb.skb_iif, inet_sdif(skb)
    for sk in net.ping_table.get(ident, ()):
        if sk.sk_family != family:
            continue
        if sk.inet_rcv_saddr and sk.inet_rcv_saddr != laddr:
            continue
        if sk.sk_bound_dev_if and sk.sk_bound_dev_if not in (dif, sdif):
            continue
        return sk
    return None


def ping_init_sock(sk: ping_sock) -> int:
    """net/ipv4/ping.c: check that sysctl ping_group_range includes our group (Host.gid).

    Raises: OSError EACCES when it does not.
    """
    low, high = sk.net.sysctl.ping_group_range
    gid = sk.net.gid
    if not low <= gid <= high:
        raise os_error(
            errno.EACCES, f"group {gid} is not in sysctl ping_group_range, {low} to {high}"
        )
    if sk.sk_family == AF_INET6:
        sk.sk_ipv6only = True
    return 0


def ping_close(sk: ping_sock, timeout: int) -> None:
    """net/ipv4/ping.c"""
    sk_common_release(sk)


def ping_common_sendmsg(msg: msghdr, length: int, echo: int, ext_echo: int) -> tuple[int, int]:
    """net/ipv4/ping.c: take the echo request's header from the data; its type and sequence number.

    `echo`, `ext_echo`: the family's types of a request. Raises: OSError EMSGSIZE, EINVAL,
    EOPNOTSUPP.
    """
    if length > 0xFFFF:
        raise os_error(errno.EMSGSIZE, f"{length} bytes do not fit a packet")
    if length < ICMP_HLEN:
        raise os_error(errno.EINVAL, "an echo request has a header of 8 bytes")
    if msg.msg_flags & MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "ping sockets have no urgent data")
    head = msg.take(ICMP_HLEN)
    if head[0] not in (echo, ext_echo) or head[1] != 0:
        raise os_error(errno.EINVAL, "ping sockets send echo requests only")
    return head[0], int.from_bytes(head[6:8], "big")


def ping_recvmsg(sk: ping_sock, msg: msghdr, length: int, flags: int) -> int:
    """net/ipv4/ping.c: read one reply, ICMP header first. Bytes copied. Raises: OSError."""
    if flags & MSG_OOB:
        raise os_error(errno.EOPNOTSUPP, "ping sockets have no urgent data")
    return recv_packet(sk, msg, length, flags)


def ping_rcv(skb: sk_buff) -> bool:
    """net/ipv4/ping.c: an echo reply, data behind its ICMP header. Borrows skb."""
    net = skb.dst.net
    if not net.ping_table:
        return False
    family, _, _, laddr, ident = icmp_echo_key(skb)
    sk = ping_lookup(net, family, ident, laddr, skb)
    if sk is None:
        return False
    clone = skb_clone(skb)
    clone.dst = skb.dst
    clone.dev = skb.dev
    skb_push(clone, ICMP_HLEN)
    ping_queue_rcv_skb(sk, clone)
    return True


def ping_queue_rcv_skb(sk: ping_sock, skb: sk_buff) -> int:
    """net/ipv4/ping.c: 0 or -1. Takes ownership of skb."""
    if sk.cmsg_flags and sk.sk_family == AF_INET6:
        af_ops_of[AF_INET6].pktinfo_prepare(sk, skb)
    reason = sock_queue_rcv_skb_reason(sk, skb)
    if reason:
        kfree_skb_reason(sk.net, skb, reason)
        return -1
    return 0


def ping_init(net: Net) -> None:
    """net/ipv4/ping.c: the table of one host."""
    net.ping_table = {}
    if "PING" not in net.prot_mem:
        net.prot_mem["PING"] = proto_mem_of_ram(net, 1, 8)
    net.ping_rover = net.random.getrandbits(16)
