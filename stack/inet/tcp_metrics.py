"""net/ipv4/tcp_metrics.c: cached metrics of a peer between connections.

tcp_update_metrics, when a connection ends by a FIN, stores the round-trip time, the window and how
far segments were reordered. tcp_init_metrics gives a new one what it can use: the first
retransmission timeout, ssthresh, the reordering. tcp_fastopen_cache_* cache what a peer sent about
TCP Fast Open (RFC 7413 4.1.3). A peer's metrics start as the route's, and the route's `lock` keeps
them there. `ip tcp_metrics` shows and deletes them (stack/netlink/tcp_metrics_nl.py).
"""

from __future__ import annotations

from stack.core.dst import (
    RTAX_LOCK_CWND,
    RTAX_LOCK_REORDERING,
    RTAX_LOCK_RTT,
    RTAX_LOCK_RTTVAR,
    RTAX_LOCK_SSTHRESH,
    dst_entry,
)
from stack.core.rows import row, state, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.inet.inet_connection_sock import request_sock
from stack.inet.tcp_const import TCP_TIMEOUT_FALLBACK
from stack.inet.tcp_rtt import tcp_rto_min
from stack.inet.tcp_sock import (
    TCP_INFINITE_SSTHRESH,
    TCP_CA_Open,
    tcp_fastopen_cookie,
    tcp_sock,
)
from stack.net import Net

TCP_METRICS_MAX = 4096
"""Maximum number of cached peers; a new one replaces the oldest."""
TCP_METRICS_TIMEOUT = 3600 * NSEC_PER_SEC
"""Older metrics are replaced by the route's."""


@state
class tcp_fastopen_metrics:
    """struct tcp_fastopen_metrics: a peer's Fast Open state."""

    mss: int = row(0)
    """The MSS of its last SYN-ACK, bytes; 0: none."""
    syn_loss: int = row(0)
    """SYNs with data that were lost since one arrived."""
    last_syn_loss: int = row(0)
    """When the last one was lost, ns."""
    try_exp: int = row(0)
    """1: use the experimental option next time; 2: it had no answer either."""
    cookie: tcp_fastopen_cookie = row(make=tcp_fastopen_cookie)
    """The cookie for the next SYN."""


@state
class tcp_metrics_block:
    """struct tcp_metrics_block: cached metrics of a peer. 0: unknown."""

    tcpm_stamp: int = row(0)
    """When the metrics were taken, from a route or a connection, ns."""
    tcpm_lock: int = row(0)
    """Bits RTAX_LOCK_*: metrics that no connection changes."""
    rtt: int = row(0)
    """Round-trip time, us times 8."""
    rttvar: int = row(0)
    """Its deviation, us times 4."""
    ssthresh: int = row(0)
    """Where slow start ends, segments."""
    cwnd: int = row(0)
    """The congestion window, segments."""
    reordering: int = row(0)
    """Segments that may overtake one another."""
    tcpm_fastopen: tcp_fastopen_metrics = row(make=tcp_fastopen_metrics)
    """Its Fast Open state."""


def tcpm_suck_dst(tm: tcp_metrics_block, dst: dst_entry, now: int) -> None:
    """Initialise from the metrics of a route."""
    metrics = dst.metrics
    tm.tcpm_stamp = now
    tm.tcpm_lock = metrics.get("lock", 0)
    tm.rtt = metrics.get("rtt", 0) * 1000
    tm.rttvar = metrics.get("rttvar", 0) * 1000
    tm.ssthresh = metrics.get("ssthresh", 0)
    tm.cwnd = metrics.get("cwnd", 0)
    tm.reordering = metrics.get("reordering", 0)


def __tcp_get_metrics(
    net: Net, dst: dst_entry, peer: tuple[int, wide, wide], create: bool
) -> tcp_metrics_block | None:
    """Return a peer's cached metrics; None if there are none and `create` is not set."""
    table = net.tcp_metrics
    found: tcp_metrics_block | None = table.get(peer)
    if found is None and not create:
        return None
    now = net.clock.now_ns()
    if found is None:
        if len(table) >= TCP_METRICS_MAX:
            del table[next(iter(table))]
        found = table[peer] = tcp_metrics_block()
        tcpm_suck_dst(found, dst, now)
    elif now - found.tcpm_stamp > TCP_METRICS_TIMEOUT:
        tcpm_suck_dst(found, dst, now)
    return found


def tcp_get_metrics(sk: tcp_sock, dst: dst_entry, create: bool) -> tcp_metrics_block | None:
    """Return the cached metrics of sk's peer."""
    return __tcp_get_metrics(sk.net, dst, (sk.sk_af.family, sk.inet_saddr, sk.inet_daddr), create)


def tcp_update_metrics(sk: tcp_sock) -> None:
    """A connection ends normally: store what it measured."""
    sysctl = sk.net.sysctl
    dst = sk.sk_dst_cache
    if sysctl.tcp_no_metrics_save or dst is None:
        return
    if sk.icsk_backoff or not sk.srtt_us:
        # Its last segments had no answer in time.
        stale = tcp_get_metrics(sk, dst, False)
        if stale is not None and not stale.tcpm_lock & RTAX_LOCK_RTT:
            stale.rtt = 0
        return
    tm = tcp_get_metrics(sk, dst, True)
    assert tm is not None
    tcp_update_rtt_metrics(sk, tm)
    locked: int = tm.tcpm_lock
    if sysctl.tcp_no_ssthresh_metrics_save:
        locked |= RTAX_LOCK_SSTHRESH
    cwnd, ssthresh = sk.snd_cwnd, sk.snd_ssthresh
    if ssthresh >= TCP_INFINITE_SSTHRESH:
        # Slow start has not ended, so this is a lower bound of what the path carries.
        if not locked & RTAX_LOCK_SSTHRESH and tm.ssthresh and cwnd >> 1 > tm.ssthresh:
            tm.ssthresh = cwnd >> 1
        if not locked & RTAX_LOCK_CWND and cwnd > tm.cwnd:
            tm.cwnd = cwnd
    elif cwnd >= ssthresh and sk.icsk_ca_state == TCP_CA_Open:
        if not locked & RTAX_LOCK_SSTHRESH:
            tm.ssthresh = max(cwnd >> 1, ssthresh)
        if not locked & RTAX_LOCK_CWND:
            tm.cwnd = tm.cwnd + cwnd >> 1
    else:
        # It slowed down and has not recovered: its window is meaningless.
        if not locked & RTAX_LOCK_CWND:
            tm.cwnd = tm.cwnd + ssthresh >> 1
        if not locked & RTAX_LOCK_SSTHRESH and tm.ssthresh and ssthresh > tm.ssthresh:
            tm.ssthresh = ssthresh
        if not locked & RTAX_LOCK_REORDERING:
            reordering = sk.reordering
            if tm.reordering < reordering and reordering != sysctl.tcp_reordering:
                tm.reordering = reordering
    tm.tcpm_stamp = sk.net.clock.now_ns()


def tcp_update_rtt_metrics(sk: tcp_sock, tm: tcp_metrics_block) -> None:
    """The part of tcp_update_metrics about times, which rise at once and fall slowly."""
    rtt, srtt = tm.rtt, sk.srtt_us
    change: int = max(rtt, srtt) - min(rtt, srtt)
    if not tm.tcpm_lock & RTAX_LOCK_RTT:
        tm.rtt = srtt if rtt <= srtt else rtt - (change >> 3)
    if not tm.tcpm_lock & RTAX_LOCK_RTTVAR:
        deviation = max(change >> 1, sk.mdev_us)
        var = tm.rttvar
        tm.rttvar = deviation if deviation >= var else var - (var - deviation >> 2)


def tcp_init_metrics(sk: tcp_sock) -> None:
    """Initialise a connection from the peer's cached metrics.

    Losses in the handshake say nothing about the path. A longer round trip than the
    handshake's counts for the first RTO only: its segments were small. Without any round trip the
    handshake's segments were sent again, so be careful with data (RFC 6298 5.7).
    """
    sk.sk_dst_pending_confirm = True
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    dst = sk.sk_dst_cache
    tm = None if dst is None else tcp_get_metrics(sk, dst, False)
    rtt: int = 0
    if tm is not None:
        rtt = tm.rtt
        if tm.tcpm_lock & RTAX_LOCK_CWND:
            sk.snd_cwnd_clamp = tm.cwnd
        if tm.ssthresh and not sk.net.sysctl.tcp_no_ssthresh_metrics_save:
            sk.snd_ssthresh = min(tm.ssthresh, sk.snd_cwnd_clamp)
        if tm.reordering:
            sk.reordering = tm.reordering
    if rtt > sk.srtt_us:
        rtt_ns: int = (rtt >> 3) * 1000
        sk.icsk_rto = rtt_ns + max(2 * rtt_ns, tcp_rto_min(sk))
    elif not sk.srtt_us:
        sk.rttvar_us = sk.mdev_us = sk.mdev_max_us = TCP_TIMEOUT_FALLBACK // 1000
        sk.icsk_rto = TCP_TIMEOUT_FALLBACK


def tcp_peer_is_proven(req: request_sock, dst: dst_entry) -> bool:
    """Whether a connection with the peer of a request has ended normally."""
    peer: tuple[int, wide, wide] = (req.sk_af.family, req.inet_rcv_saddr, req.inet_daddr)
    tm = __tcp_get_metrics(req.net, dst, peer, False)
    return tm is not None and tm.rtt != 0


def tcp_fastopen_cache_get(sk: tcp_sock, cookie: tcp_fastopen_cookie) -> int:
    """Copy the peer's cookie into `cookie`; returns its MSS, 0 if unknown."""
    dst = sk.sk_dst_cache
    tm = None if dst is None else tcp_get_metrics(sk, dst, False)
    if tm is None:
        return 0
    tfom = tm.tcpm_fastopen
    cookie.val = tfom.cookie.val or b""
    cookie.exp = tfom.cookie.exp
    if not cookie.val and tfom.try_exp == 1:
        cookie.exp = True
    return tfom.mss


def tcp_fastopen_cache_set(
    sk: tcp_sock, mss: int, cookie: tcp_fastopen_cookie | None, syn_lost: bool, try_exp: int
) -> None:
    """Store a SYN-ACK's Fast Open data, or that a SYN with data was lost."""
    dst = sk.sk_dst_cache
    if dst is None:
        return
    tm = tcp_get_metrics(sk, dst, True)
    assert tm is not None
    tfom = tm.tcpm_fastopen
    if mss:
        tfom.mss = mss
    if cookie is not None and cookie.val:
        tfom.cookie = cookie
    elif try_exp > tfom.try_exp and not tfom.cookie.val and not tfom.cookie.exp:
        tfom.try_exp = try_exp
    if syn_lost:
        tfom.syn_loss += 1
        tfom.last_syn_loss = sk.net.clock.now_ns()
    else:
        tfom.syn_loss = 0
