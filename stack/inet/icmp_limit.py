"""ICMP messages to send, for both families: their data, the socket, rate limits.

net/ipv4/icmp.c, net/ipv6/icmp.c, net/ipv4/inetpeer.c.
A namespace has one token bucket. Each peer has one, too, whose tokens are nanoseconds.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import SkbPool, sk_buff, skb_append_frags, skb_copy_bits, skb_put_data
from stack.core.errors import os_error
from stack.core.rows import row, state, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.inet.inet_sock import inet_sock
from stack.net import Net

PEERS_MAX = 4096
MINUTE = 60_000_000_000
STEP_NS = 20_000_000
XRLIM_BURST_FACTOR = 6


@state
class icmp_bxm:
    """struct icmp_bxm, icmpv6_msg: the header fields and the data of a message to send.

    The data are `head`, followed by `data_len` bytes of `skb` from `offset`.
    """

    type: int
    code: int
    un: int
    skb: sk_buff
    offset: int = 0
    data_len: int = 0
    head: bytes = row(b"")


def icmp_glue_bits(frm: icmp_bxm, skb: sk_buff, n: int, pages: SkbPool) -> None:
    """net/ipv4/icmp.c, net/ipv6/icmp.c (icmpv6_getfrag): append the message's data.

    They are copied if skb's head has room, else shared. Raises: OSError ENOBUFS.
    """
    if frm.head:
        skb_put_data(skb, frm.head)
    rest = n - len(frm.head)
    if rest <= 0:
        return
    if rest <= skb.tailroom:
        skb_put_data(skb, skb_copy_bits(frm.skb, frm.offset, rest))
    elif not skb_append_frags(skb, frm.skb, frm.offset, rest):
        raise os_error(errno.ENOBUFS)


def icmp_xmit_lock(sk: inet_sock) -> inet_sock | None:
    """net/ipv4/icmp.c, net/ipv6/icmp.c (icmpv6_xmit_lock): own the family's sending socket.

    None if it is already owned, because the error occurred while sending an ICMP message.
    """
    if sk.sk_lock_owned:
        return None
    sk.sk_lock_owned = True
    return sk


def icmp_xmit_unlock(sk: inet_sock) -> None:
    """net/ipv4/icmp.c"""
    sk.sk_lock_owned = False


@state
class icmp_global_state:
    """The namespace's token bucket (sysctl icmp_msgs_per_sec, icmp_msgs_burst)."""

    credit: int
    stamp_ns: int


def icmp_global_allow(net: Net) -> bool:
    """net/ipv4/icmp.c: whether there is a token, else count that; refilled every 20 ms."""
    state: icmp_global_state = net.ipv4.icmp_global
    sysctl = net.sysctl
    now = net.clock.now_ns()
    delta = min(now - state.stamp_ns, NSEC_PER_SEC)
    if delta >= STEP_NS:
        gain = sysctl.icmp_msgs_per_sec * delta // NSEC_PER_SEC
        if gain:
            state.stamp_ns = now
            state.credit = min(state.credit + gain, sysctl.icmp_msgs_burst)
    if state.credit > 0:
        return True
    net.mib.icmp.OutRateLimitGlobal += 1
    return False


def icmp_global_consume(net: Net) -> None:
    """net/ipv4/icmp.c: consume the token, after the destination's limit allowed the message, too.

    Before Linux 6.11 a limited destination used up the tokens of all others.
    """
    state: icmp_global_state = net.ipv4.icmp_global
    state.credit -= 1


@state
class inet_peer:
    """struct inet_peer: token buckets (in ns) and redirect counts for one address."""

    rate_last: int
    rate_tokens: int = row(0)
    n_redirects: int = row(0)
    rid: int = row(0)


def inet_getpeer(net: Net, peers: dict[wide, inet_peer], addr: wide) -> inet_peer:
    """net/ipv4/inetpeer.c: the record of `addr`, made when new; the table is bounded."""
    peer = peers.get(addr)
    if peer is None:
        if len(peers) >= PEERS_MAX:
            del peers[next(iter(peers))]
        peer = peers[addr] = inet_peer(net.clock.now_ns() - MINUTE)
    return peer


def inet_peer_xrlim_allow(
    net: Net, peer: inet_peer, cost_ns: int, burst_ns: int | None = None
) -> bool:
    """net/ipv4/inetpeer.c: one token of `cost_ns`, refilled by time, at most 6 in the bucket."""
    now: int = net.clock.now_ns()
    most = burst_ns or XRLIM_BURST_FACTOR * cost_ns
    token: int = min(peer.rate_tokens + now - peer.rate_last, most)
    peer.rate_last = now
    allowed = bool(token >= cost_ns)
    peer.rate_tokens = token - cost_ns if allowed else token
    return allowed
