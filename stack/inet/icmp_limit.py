"""Rate limits of ICMP errors, for both families: net/ipv4/icmp.c, net/ipv4/inetpeer.c.

A namespace has one bucket of tokens. Each peer has one too, which holds nanoseconds.
"""

from __future__ import annotations

from stack.core.rows import row, state, wide
from stack.net import Net

PEERS_MAX = 4096
MINUTE = 60_000_000_000
SECOND = 1_000_000_000
STEP_NS = 20_000_000
XRLIM_BURST_FACTOR = 6


@state
class icmp_global_state:
    """The namespace's token bucket (sysctl icmp_msgs_per_sec, icmp_msgs_burst)."""

    credit: int
    stamp_ns: int


def icmp_global_allow(net: Net) -> bool:
    """net/ipv4/icmp.c: take one token; it refills at icmp_msgs_per_sec, in steps of 20 ms."""
    state: icmp_global_state = net.ipv4.icmp_global
    sysctl = net.sysctl
    now = net.clock.now_ns()
    delta = min(now - state.stamp_ns, SECOND)
    if delta >= STEP_NS:
        gain = sysctl.icmp_msgs_per_sec * delta // SECOND
        if gain:
            state.stamp_ns = now
            state.credit = min(state.credit + gain, sysctl.icmp_msgs_burst)
    if state.credit > 0:
        state.credit -= 1
        return True
    return False


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
