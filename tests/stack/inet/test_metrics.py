"""Metrics of routes (stack/inet/metrics.py): what they do to connections and packets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fastpath.errors import ArgumentError
from stack.inet.tcp_const import TCP_RTO_MIN
from stack.inet.tcp_sock import TCP_ECN_MODE_ANY
from stack.ipv4.route import ip_route_output, ipv4_mtu
from tests.stack.inet.tcpnet import ACK, MS, SYN, A, B, S, TcpNet, build_segment, dest_unreach

LOCK_MTU, LOCK_RTO_MIN = 1 << 2, 1 << 13
FRAG_NEEDED = 4


@pytest.fixture
def net() -> Iterator[TcpNet]:
    with TcpNet() as made:
        yield made


def route(net: TcpNet, **metrics: Any) -> None:
    """A route from a to b."""
    net.a.route_add("10.0.0.2/32", dev=net.a.dev_by_index[2].name, **metrics)


def test_windows(net: TcpNet) -> None:
    route(net, initcwnd=3, initrwnd=5, window=9000)
    client, _server = net.pair()
    assert client.sk.snd_cwnd == 3
    assert client.sk.window_clamp == 9000
    (syn,) = [s for s in net.log if s.flags & (SYN | ACK) == SYN]
    assert syn.window == 5 * 1460


@pytest.mark.parametrize("cookies", [0, 2])
@pytest.mark.parametrize("where", ["client", "server", "both", "neither"])
def test_features_ecn_asks_and_grants_where_tcp_ecn_is_off(where: str, cookies: int) -> None:
    off = {"tcp_ecn": 0, "tcp_syncookies": cookies}
    with TcpNet(sysctl=off, sysctl_b=off) as net:
        if where in ("client", "both"):
            route(net, features=1)
        if where in ("server", "both"):
            net.b.route_add("10.0.0.1/32", dev=net.b.dev_by_index[2].name, features=1)
        client, server = net.pair()
        syn, synack = [s for s in net.log if s.flags & SYN][:2]
        assert bool(syn.flags & 0xC0) == (where in ("client", "both"))
        assert bool(synack.flags & 0x40) == (where == "both")
        for end in (client, server):
            assert bool(end.sk.ecn_flags & TCP_ECN_MODE_ANY) == (where == "both")


@pytest.mark.parametrize(("lock", "least_ns"), [(LOCK_RTO_MIN, 30 * MS), (0, TCP_RTO_MIN)])
def test_rto_min_counts_when_it_is_locked(lock: int, least_ns: int) -> None:
    with TcpNet(latency_ns=MS) as net:
        route(net, rto_min=30, lock=lock)
        client, _server = net.pair()
        client.send(b"x")
        net.run(S)
        assert least_ns < client.sk.icsk_rto <= least_ns + 10 * MS


def test_quickack_acknowledges_each_segment(net: TcpNet) -> None:
    route(net, quickack=1)
    client, server = net.pair()
    for _ in range(20):  # longer than a connection does so by itself
        server.send(b"x")
        net.run(net.latency_ns + MS)
        acks = [s for s in net.log if s.src == A and s.flags & ACK]
        assert acks[-1].ack == server.sk.snd_nxt
        net.run(S)
        client.recv_all()


def test_a_locked_mtu_is_not_changed_by_routers_and_lets_packets_be_cut(net: TcpNet) -> None:
    route(net, mtu=1400, lock=LOCK_MTU)
    client, _server = net.pair()
    sk = client.sk
    quoted = build_segment(A, sk.inet_sport, 80, sk.snd_una, 0, ACK)
    net.inject(dest_unreach(quoted, FRAG_NEEDED, 600))
    assert sk.icsk_pmtu_cookie == 1400
    rt = ip_route_output(net.a, B)
    assert (ipv4_mtu(rt), rt.rt_mtu_locked) == (1400, True)


def test_an_unknown_metric_is_named(net: TcpNet) -> None:
    with pytest.raises(ArgumentError, match="initcwd"):
        route(net, initcwd=3)
    with pytest.raises(OSError, match="feature"):
        route(net, features=64)
