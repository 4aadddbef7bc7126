"""net/ipv4/tcp_metrics.c: what is remembered of a peer between connections.

Linux keeps round-trip times and thresholds there too. Here it is the cookies of TCP Fast Open alone
(RFC 7413 4.1.3): new connections start with defaults. `ip tcp_metrics` shows and forgets them
(stack/netlink/tcp_metrics_nl.py).
"""

from __future__ import annotations

from stack.core.rows import row, state, wide
from stack.inet.tcp_const import TCP_TIMEOUT_FALLBACK
from stack.inet.tcp_sock import TCP_INFINITE_SSTHRESH, tcp_fastopen_cookie, tcp_sock

TCP_METRICS_MAX = 4096
"""Peers that are remembered; a new one takes the place of the oldest."""


@state
class tcp_fastopen_metrics:
    """struct tcp_fastopen_metrics: what a peer said about Fast Open."""

    mss: int = row(0)
    """The MSS of its last SYN-ACK, bytes; 0: none."""
    syn_loss: int = row(0)
    """SYNs with data that were lost since one arrived."""
    last_syn_loss: int = row(0)
    """When the last one was lost, ns."""
    stamp: int = row(0)
    """When this was changed, ns."""
    try_exp: int = row(0)
    """1: ask by the experimental option next time; 2: that had no answer either."""
    cookie: tcp_fastopen_cookie = row(make=tcp_fastopen_cookie)
    """The cookie for the next SYN."""


def tcp_get_metrics(sk: tcp_sock, create: bool) -> tcp_fastopen_metrics | None:
    """What is remembered of sk's peer; None when that is nothing, and it is not to be made."""
    table = sk.net.tcp_metrics
    key: tuple[int, wide, wide] = (sk.sk_af.family, sk.inet_saddr, sk.inet_daddr)
    found = table.get(key)
    if found is None and create:
        if len(table) >= TCP_METRICS_MAX:
            del table[next(iter(table))]
        found = table[key] = tcp_fastopen_metrics()
    return found


def tcp_init_metrics(sk: tcp_sock) -> None:
    """Start a connection: what was lost in the handshake says nothing about the path.

    Without a round trip of the handshake its segments were sent again, so be careful with data
    (RFC 6298 5.7).
    """
    sk.snd_ssthresh = TCP_INFINITE_SSTHRESH
    if not sk.srtt_us:
        sk.rttvar_us = sk.mdev_us = sk.mdev_max_us = TCP_TIMEOUT_FALLBACK // 1000
        sk.icsk_rto = TCP_TIMEOUT_FALLBACK


def tcp_fastopen_cache_get(sk: tcp_sock, cookie: tcp_fastopen_cookie) -> int:
    """Copy the peer's cookie into `cookie`; returns its MSS, 0 when that is not known."""
    tfom = tcp_get_metrics(sk, False)
    if tfom is None:
        return 0
    cookie.val = tfom.cookie.val or b""
    cookie.exp = tfom.cookie.exp
    if not cookie.val and tfom.try_exp == 1:
        cookie.exp = True
    return tfom.mss


def tcp_fastopen_cache_set(
    sk: tcp_sock, mss: int, cookie: tcp_fastopen_cookie | None, syn_lost: bool, try_exp: int
) -> None:
    """Remember what a SYN-ACK said, or that a SYN with data was lost."""
    if sk.sk_dst_cache is None:
        return
    tfom = tcp_get_metrics(sk, True)
    assert tfom is not None
    if mss:
        tfom.mss = mss
    if cookie is not None and cookie.val:
        tfom.cookie = cookie
    elif try_exp > tfom.try_exp and not tfom.cookie.val and not tfom.cookie.exp:
        tfom.try_exp = try_exp
    tfom.stamp = sk.net.clock.now_ns()
    if syn_lost:
        tfom.syn_loss += 1
        tfom.last_syn_loss = tfom.stamp
    else:
        tfom.syn_loss = 0
