"""TCP_INFO: what it tells of the delivery rate and of what limited the sender."""

from __future__ import annotations

from stack.inet.tcp_sockopt import tcp_get_info, tcp_info_dict
from tests.stack.inet.tcpnet import MS, S, TcpNet, transfer


def test_the_structure_is_as_long_as_linux_s() -> None:
    with TcpNet() as net:
        a, b = net.pair()
        assert len(tcp_get_info(a.sk)) == 280
        for sock in (a, b):
            sock.close()
        net.run(200 * S)


def test_the_delivery_rate_is_that_of_the_bottleneck() -> None:
    """10 Mbit/s carry 1448 bytes of payload in 1514 of frame."""
    with TcpNet(rate_bps=10_000_000, latency_ns=5 * MS) as net:
        a, b = net.pair()
        assert transfer(net, a, b, bytes(1_000_000)) == bytes(1_000_000)
        info = tcp_info_dict(a.sk)
        assert 0.9 < info["delivery_rate"] * 8 / (10_000_000 * 1448 / 1514) < 1.1
        assert info["busy_time"] > 0
        assert info["rwnd_limited"] + info["sndbuf_limited"] <= info["busy_time"]
        for sock in (a, b):
            sock.close()
        net.run(200 * S)


def test_timeouts_and_their_time_are_counted() -> None:
    with TcpNet() as net:
        a, b = net.pair()
        net.filter = lambda s: not s.payload
        a.send(b"lost")
        net.run(2 * S)
        net.filter = None
        net.run(10 * S)
        info = tcp_info_dict(a.sk)
        assert info["total_rto"] >= 2
        assert info["total_rto_recoveries"] == 1
        assert 1000 < info["total_rto_time"] < 10_000
        for sock in (a, b):
            sock.close()
        net.run(200 * S)
