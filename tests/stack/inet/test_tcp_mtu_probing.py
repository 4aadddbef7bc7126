"""tcp_mtu_probing (RFC 4821): the path MTU is found by TCP's own segments, without ICMP."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.stack.inet.tcpnet import MS, Sock, TcpNet
from tests.stack.ipv6.tcpnet6 import TcpNet6

SEC = 1000 * MS
HEADERS = 40 + 12
"""IPv4, TCP and its timestamps."""


def sent(net: TcpNet, start: int = 0) -> list[int]:
    """Bytes of the packets with data that `a` sent."""
    return [len(s.frame) - 14 for s in net.log[start:] if s.dport == 80 and s.payload]


def hole(net: TcpNet, most: int) -> None:
    """Drop packets above `most` bytes, without a word."""
    net.filter = lambda s: len(s.frame) - 14 <= most


def transfer(net: TcpNet, a: Sock, b: Sock, size: int, turns: int = 10_000) -> bytes:
    """Send so many bytes; what arrived."""
    data = bytes(i % 251 for i in range(size))
    got = b""
    done = 0
    for _ in range(turns):
        with suppress(BlockingIOError):
            while done < size:
                done += a.send(data[done:])
        net.run(20 * MS)
        with suppress(BlockingIOError):
            got += b.recv(1 << 20)
        if len(got) == size:
            break
    assert got == data
    return got


def drain(net: TcpNet, b: Sock) -> None:
    """Let everything arrive, so that no buffer is left."""
    net.filter = None
    net.run(300 * SEC)
    with suppress(BlockingIOError):
        b.recv(1 << 20)


def mib(net: TcpNet, name: str) -> int:
    return int(getattr(net.a.mib.linux, name))


def test_without_the_knob_a_black_hole_swallows_everything() -> None:
    with TcpNet(gso=False) as net:
        a, b = net.pair()
        hole(net, 1300)
        a.send(bytes(5000))
        net.run(60 * SEC)
        assert not b.readable
        assert not a.sk.mtup_enabled
        assert {n for n in sent(net) if n > 1300} == {1500}


FAMILIES = pytest.mark.parametrize("kind", [TcpNet, TcpNet6], ids=["v4", "v6"])


@FAMILIES
@pytest.mark.parametrize("most", [1300, 1150])
def test_after_timeouts_segments_shrink_and_the_search_begins(
    most: int, kind: type[TcpNet]
) -> None:
    with kind(gso=False, sysctl={"tcp_mtu_probing": 1}) as net:
        a, b = net.pair()
        hole(net, most)
        transfer(net, a, b, 2_000_000)
        assert a.sk.mtup_enabled
        assert mib(net, "TCPMTUPFail")
        assert mib(net, "TCPMTUPSuccess")
        # The search ends when its ends are less than tcp_probe_threshold apart.
        assert most - 8 < a.sk.mtup_search_low <= most
        assert max(sent(net)[-50:]) == a.sk.mtup_search_low
        at = len(net.log)
        transfer(net, a, b, 300_000)
        assert {n for n in sent(net, at) if n > a.sk.mtup_search_low} == set()


def test_a_hole_below_the_base_halves_the_segments() -> None:
    with TcpNet(gso=False, sysctl={"tcp_mtu_probing": 1}) as net:
        a, b = net.pair()
        hole(net, 500)
        transfer(net, a, b, 20_000)
        assert max(sent(net)[-10:]) <= 500
        assert a.sk.mss_cache == (1024 >> 2)


def test_the_floor_bounds_the_halving() -> None:
    with TcpNet(gso=False, sysctl={"tcp_mtu_probing": 1, "tcp_mtu_probe_floor": 600}) as net:
        a, b = net.pair()
        hole(net, 500)
        a.send(bytes(5000))
        net.run(400 * SEC)
        assert not b.readable
        assert a.sk.mss_cache == 600


@FAMILIES
@pytest.mark.parametrize("gso", [False, True])
def test_always_on_the_search_reaches_the_mtu_of_the_link(gso: bool, kind: type[TcpNet]) -> None:
    with kind(gso=gso, sysctl={"tcp_mtu_probing": 2, "tcp_base_mss": 512}) as net:
        a, b = net.pair()
        transfer(net, a, b, 4_000_000)
        assert sent(net)[0] == 512 + HEADERS + (20 if kind is TcpNet6 else 0)
        assert not mib(net, "TCPMTUPFail")
        assert 1500 - 8 < a.sk.mtup_search_low <= 1500
        assert not a.sk.total_retrans
        drain(net, b)
        assert not a.sk.sk_wmem_queued


def test_a_lost_probe_costs_no_window() -> None:
    with TcpNet(gso=False, sysctl={"tcp_mtu_probing": 2, "tcp_base_mss": 512}) as net:
        a, b = net.pair()
        hole(net, 700)
        transfer(net, a, b, 2_000_000)
        assert mib(net, "TCPMTUPFail")
        assert not mib(net, "TCPTimeouts")
        assert mib(net, "TCPSackRecovery") < mib(net, "TCPMTUPFail")
        assert 700 - 8 < a.sk.mtup_search_low <= 700


def test_after_a_while_a_better_path_is_found() -> None:
    with TcpNet(gso=False, sysctl={"tcp_mtu_probing": 2, "tcp_probe_interval": 30}) as net:
        a, b = net.pair()
        hole(net, 1200)
        transfer(net, a, b, 300_000)
        assert a.sk.mtup_search_low <= 1200
        net.filter = lambda s: True
        transfer(net, a, b, 300_000)
        net.run(31 * SEC)
        transfer(net, a, b, 3_000_000)
        assert a.sk.mtup_search_low > 1500 - 8


def test_a_probe_is_one_packet_of_what_waits() -> None:
    """Writes of many sizes, which the probe takes across and in part: the bytes stay in order."""
    with TcpNet(gso=False, sysctl={"tcp_mtu_probing": 2, "tcp_base_mss": 512}) as net:
        a, b = net.pair()
        hole(net, 900)
        got = b""
        data = b""
        for n in range(400):
            piece = bytes((n * 7 + i) % 253 for i in range(1 + n * 37 % 1900))
            with suppress(BlockingIOError):
                data += piece[: a.send(piece)]
            if n % 60 == 59:
                net.run(200 * MS)
                with suppress(BlockingIOError):
                    got += b.recv(1 << 20)
        net.run(5 * SEC)
        with suppress(BlockingIOError):
            got += b.recv(1 << 20)
        assert got == data
        assert mib(net, "TCPMTUPFail")
        assert mib(net, "TCPMTUPSuccess")
        drain(net, b)
        assert not a.sk.sk_wmem_queued
