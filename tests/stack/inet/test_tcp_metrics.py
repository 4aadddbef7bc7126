"""What is remembered of peers (stack/inet/tcp_metrics.py), and what connections begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stack.core.dst import (
    RTAX_LOCK_CWND,
    RTAX_LOCK_REORDERING,
    RTAX_LOCK_RTT,
    RTAX_LOCK_RTTVAR,
    RTAX_LOCK_SSTHRESH,
)
from stack.core.uapi import AF_INET
from stack.inet.tcp_metrics import TCP_METRICS_MAX, tcp_metrics_block, tcp_update_metrics
from stack.inet.tcp_sock import TCP_INFINITE_SSTHRESH, TCP_CA_Open, TCP_CA_Recovery
from tests.stack.inet.tcpnet import ACK, MS, RST, SYN, A, B, S, Sock, TcpNet, build_segment

KEY = (AF_INET, A, B)
SSTHRESH_TOO = {"tcp_no_ssthresh_metrics_save": 0}


@pytest.fixture
def net() -> Iterator[TcpNet]:
    with TcpNet(sysctl=SSTHRESH_TOO) as made:
        yield made


def saved(net: TcpNet) -> tcp_metrics_block:
    """What a has of b."""
    found: tcp_metrics_block = net.a.tcp_metrics[KEY]
    return found


def connection(net: TcpNet) -> Sock:
    """One that carried a byte each way, and ended; the client."""
    a, b = net.pair()
    for tx, rx in ((a, b), (b, a)):
        tx.send(b"x")
        net.run(S)
        assert rx.recv() == b"x"
    a.close()
    net.run(S)
    b.close()
    net.run(S)
    return a


def route(net: TcpNet, **metrics: Any) -> None:
    """A route from a to b."""
    net.a.route_add("10.0.0.2/32", dev=net.a.dev_by_index[2].name, **metrics)


def test_both_ends_remember_a_connection_that_ended_by_fins(net: TcpNet) -> None:
    connection(net)
    for table in (net.a.tcp_metrics, net.b.tcp_metrics):
        (tm,) = table.values()
        assert 10_000 << 3 <= tm.rtt < 40_000 << 3
        assert tm.cwnd == 10
        assert not tm.ssthresh
        assert not tm.reordering


@pytest.mark.parametrize("sender", [A, B])
def test_a_reset_leaves_nothing(net: TcpNet, sender: int) -> None:
    a, b = net.pair()
    one, other = (a.sk, b.sk) if sender == A else (b.sk, a.sk)
    seq, ack = one.snd_nxt, one.rcv_nxt
    net.inject(build_segment(sender, one.inet_sport, one.inet_dport, seq, ack, RST))
    assert other.sk_err
    a.close()
    b.close()
    net.run(S)
    assert not net.a.tcp_metrics
    assert not net.b.tcp_metrics


def test_a_long_round_trip_makes_the_next_first_timeout_longer(net: TcpNet) -> None:
    net.latency_ns = 200 * MS
    connection(net)
    net.latency_ns = 5 * MS
    a, _ = net.pair()
    assert a.sk.srtt_us == 10_000 << 3
    assert a.sk.icsk_rto == 3 * (saved(net).rtt >> 3) * 1000 >= 1200 * MS
    a.send(b"x")
    net.run(S)
    assert a.sk.icsk_rto < 300 * MS


def test_a_short_one_does_not(net: TcpNet) -> None:
    connection(net)
    net.latency_ns = 200 * MS
    a, _ = net.pair()
    assert a.sk.icsk_rto == 1200 * MS


@pytest.mark.parametrize("known", [False, True])
def test_without_a_round_trip_of_the_handshake_the_known_one_counts(known: bool) -> None:
    with TcpNet(sysctl={"tcp_timestamps": 0}, latency_ns=50 * MS) as net:
        expected = 3 * S
        if known:
            connection(net)
            expected = 3 * (saved(net).rtt >> 3) * 1000
        del net.log[:]
        net.filter = lambda s: len(net.log) > 1  # the first SYN is lost
        a, _ = net.pair()
        assert not a.sk.srtt_us
        assert a.sk.icsk_rto == expected


def test_a_route_has_the_first_say_and_its_lock_the_last(net: TcpNet) -> None:
    metrics = {"rtt": 300 << 3, "rttvar": 50 << 2, "ssthresh": 4, "cwnd": 5, "reordering": 9}
    lock = (
        RTAX_LOCK_RTT
        | RTAX_LOCK_RTTVAR
        | RTAX_LOCK_SSTHRESH
        | RTAX_LOCK_CWND
        | RTAX_LOCK_REORDERING
    )
    route(net, lock=lock, **metrics)
    first = connection(net)  # makes the row, from the route
    assert first.sk.snd_ssthresh == TCP_INFINITE_SSTHRESH
    for _ in range(2):
        tm = saved(net)
        assert (tm.rtt, tm.rttvar) == (2_400_000, 200_000)
        assert (tm.ssthresh, tm.cwnd, tm.reordering) == (4, 5, 9)
        sk = connection(net).sk
        assert (sk.snd_ssthresh, sk.snd_cwnd, sk.snd_cwnd_clamp, sk.reordering) == (4, 5, 5, 9)


def test_without_a_lock_connections_correct_what_a_route_says(net: TcpNet) -> None:
    route(net, rtt=300 << 3, rttvar=1 << 2, cwnd=20, reordering=9)
    change = 2_400_000 - connection(net).sk.srtt_us
    tm = saved(net)
    assert tm.rtt == 2_400_000 - (change >> 3)
    assert tm.rttvar == change >> 1
    assert tm.cwnd == 20  # the most, while slow start lasts
    again = connection(net).sk
    assert (again.snd_cwnd, again.reordering) == (10, 9)


@pytest.mark.parametrize(
    ("ca_state", "cwnd", "ssthresh", "expected"),
    [
        (TCP_CA_Open, 30, TCP_INFINITE_SSTHRESH, (15, 30, 3)),
        (TCP_CA_Open, 10, TCP_INFINITE_SSTHRESH, (8, 20, 3)),
        (TCP_CA_Open, 30, 12, (15, 25, 3)),
        (TCP_CA_Open, 30, 20, (20, 25, 3)),
        (TCP_CA_Recovery, 30, 12, (12, 16, 7)),
        (TCP_CA_Open, 8, 12, (12, 16, 7)),
        (TCP_CA_Open, 2, 6, (8, 13, 7)),
    ],
)
def test_what_the_window_tells_depends_on_slow_start(
    net: TcpNet, ca_state: int, cwnd: int, ssthresh: int, expected: tuple[int, ...]
) -> None:
    connection(net)
    a, _ = net.pair()
    tm = saved(net)
    tm.ssthresh, tm.cwnd, tm.reordering = 8, 20, 3
    sk = a.sk
    before = sk.icsk_ca_state, sk.snd_cwnd, sk.snd_ssthresh, sk.reordering
    sk.icsk_ca_state, sk.snd_cwnd, sk.snd_ssthresh, sk.reordering = ca_state, cwnd, ssthresh, 7
    tcp_update_metrics(sk)
    assert (tm.ssthresh, tm.cwnd, tm.reordering) == expected
    sk.icsk_ca_state, sk.snd_cwnd, sk.snd_ssthresh, sk.reordering = before


def test_an_end_that_had_to_be_sent_again_forgets_the_round_trip(net: TcpNet) -> None:
    connection(net)
    a, _ = net.pair()
    cwnd = saved(net).cwnd
    a.sk.icsk_backoff = 1
    tcp_update_metrics(a.sk)
    assert (saved(net).rtt, saved(net).cwnd) == (0, cwnd)
    a.sk.icsk_backoff = 0


def test_after_an_hour_what_the_route_says_counts_again(net: TcpNet) -> None:
    connection(net)
    route(net, reordering=9)
    net.run(3500 * S)
    assert connection(net).sk.reordering == 3
    net.run(3700 * S)
    assert connection(net).sk.reordering == 9
    assert saved(net).reordering == 9


def test_without_cookies_the_last_quarter_of_requests_is_for_known_peers() -> None:
    with TcpNet(sysctl_b={"tcp_syncookies": 0, "tcp_max_syn_backlog": 8}) as net:
        connection(net)
        net.listening(100)
        net.filter = lambda s: s.src != B  # no SYN-ACK arrives

        def flood(count: int, first: int) -> int:
            del net.log[:]
            for n in range(count):
                net.inject(build_segment(A, first + n, 80, 1000 * n, 0, SYN), net.b)
                net.run(MS)
            return len({s.dport for s in net.log if s.flags & (SYN | ACK) == SYN | ACK})

        proven = net.b.tcp_metrics.pop((AF_INET, B, A))
        assert flood(20, 10_000) == 7
        net.b.tcp_metrics[AF_INET, B, A] = proven
        assert flood(5, 20_000) == 5


def test_the_table_has_an_end(net: TcpNet) -> None:
    table = net.a.tcp_metrics
    for i in range(TCP_METRICS_MAX):
        table[AF_INET, A, i] = tcp_metrics_block()
    connection(net)
    assert len(table) == TCP_METRICS_MAX
    assert (next(iter(table)), next(reversed(table))) == ((AF_INET, A, 1), KEY)
