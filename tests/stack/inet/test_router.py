"""Three hosts in a row: what a router does to whole transfers, with real drivers and NICs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from stack.core.dev import dev_set_mtu
from stack.core.uapi import (
    IP_RECVERR,
    IP_TTL,
    IPPROTO_IPV6,
    IPV6_RECVERR,
    IPV6_UNICAST_HOPS,
    MSG_ERRQUEUE,
    SOL_IP,
)
from stack.host import Host
from stack.ipv6.addr import format_addr6
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket

# A frame crosses two wires, so tshark would see each segment twice and call the second one old.
# What a router quotes of a merged segment carries that segment's unfinished checksum.
pytestmark = pytest.mark.sends_bad_frames

DATA = bytes(i * 31 % 251 for i in range(251)) * (1 << 12)


@dataclass(frozen=True)
class Family:
    """The addresses of a, b and the router's two ends, and the sysctl by which it forwards."""

    family: int
    any: str
    a: str
    b: str
    left: str
    right: str
    length: int
    forward: str


V4 = Family(
    AF_INET, "0.0.0.0", "10.0.0.1", "10.1.0.1", "10.0.0.254", "10.1.0.254", 24, "ip_forward"
)
V6 = Family(
    AF_INET6,
    "::",
    "2001:db8:a::1",
    "2001:db8:b::1",
    "2001:db8:a::fe",
    "2001:db8:b::fe",
    64,
    "net.ipv6.conf.all.forwarding",
)


class Row:
    """a - router - b"""

    def __init__(self, v: Family) -> None:
        self.v = v
        self.clock = VirtualClock()
        self.a = Host(name="a", clock=self.clock)
        self.b = Host(name="b", clock=self.clock)
        self.router = Host(name="r", clock=self.clock, sysctl={v.forward: 1})
        left, right = pair(self.clock), pair(self.clock)
        ends = ((self.a, left[0], v.a), (self.router, left[1], v.left))
        ends += ((self.router, right[0], v.right), (self.b, right[1], v.b))
        for n, (host, link, addr) in enumerate(ends):
            add_nic(host, link, mac=bytes((0x52, 0x54, 0, 0, 0, n + 1)), wait=False)
            host.ifconfig("eth1" if addr == v.right else "eth0", f"{addr}/{v.length}", up=True)
        for host, dev in ((self.a, "eth0"), (self.router, "eth0"), (self.router, "eth1")):
            assert host.wait_carrier(dev)
        assert self.b.wait_carrier("eth0")
        self.clock.run_for(5_000_000_000)  # the detection of duplicate addresses
        self.a.route_add(f"{v.any}/0", via=v.left)
        self.b.route_add(f"{v.any}/0", via=v.right)

    def shrink(self, mtu: int) -> None:
        """Make the second link's MTU smaller."""
        assert dev_set_mtu(self.router.dev("eth1"), mtu) == 0
        assert dev_set_mtu(self.b.dev("eth0"), mtu) == 0

    def connect(self) -> tuple[Socket, Socket]:
        """A TCP connection from a to b."""
        server = self.b.socket(self.v.family)
        server.bind((self.v.any, 80))
        server.listen(1)
        client = self.a.socket(self.v.family)
        client.connect((self.v.b, 80))
        accepted, _ = server.accept()
        client.setblocking(False)
        accepted.setblocking(False)
        return client, accepted

    def move(self, data: bytes, sender: Socket, receiver: Socket) -> bytes:
        """Send `data` and return what arrives."""
        got = bytearray()
        sent = 0
        while len(got) < len(data):
            if sent < len(data):
                with suppress(BlockingIOError):
                    sent += sender.send(data[sent : sent + 262144])
            try:
                got += receiver.recv(1 << 20)
            except BlockingIOError:
                self.clock.run_for(100_000)
        return bytes(got)


@pytest.fixture(params=[V4, V6], ids=["IPv4", "IPv6"])
def row(request: pytest.FixtureRequest) -> Iterator[Row]:
    row = Row(request.param)
    yield row
    for host in (row.a, row.b, row.router):
        host.close()


def over(family: Family) -> pytest.MarkDecorator:
    """Run a test with a row of one family only."""
    return pytest.mark.parametrize("row", [family], indirect=True, ids=[""])


def test_merged_segments_are_forwarded_whole_and_cut_again(row: Row) -> None:
    client, accepted = row.connect()
    assert row.move(DATA, client, accepted) == DATA
    ip, ip6 = row.router.mib.ip, row.router.mib.ip6
    forwarded, received = (
        (ip.ForwDatagrams, ip.InReceives) if row.v is V4 else (ip6.OutForwDatagrams, ip6.InReceives)
    )
    assert forwarded < received / 2
    assert row.a.mib.tcp.RetransSegs == 0
    assert row.move(DATA, accepted, client) == DATA


@over(V4)
def test_tcp_finds_the_path_mtu(row: Row) -> None:
    client, accepted = row.connect()
    row.shrink(1000)
    assert row.move(DATA, client, accepted) == DATA
    assert row.router.mib.icmp.OutDestUnreachs >= 1
    assert row.router.mib.ip.FragFails >= 1
    assert row.router.mib.ip.FragCreates == 0


@over(V6)
def test_tcp_finds_the_path_mtu_of_ipv6(row: Row) -> None:
    client, accepted = row.connect()
    row.shrink(1300)
    assert row.move(DATA, client, accepted) == DATA
    assert row.router.mib.icmp6msg.outtype[2] >= 1
    assert row.router.mib.ip6.InTooBigErrors >= 1
    assert row.router.mib.ip6.FragCreates == 0
    assert row.a.ipv6.rt6_exceptions == 1


@over(V4)
def test_udp_is_cut_by_the_router_or_told(row: Row) -> None:
    row.shrink(600)
    tx, rx = row.a.socket(AF_INET, SOCK_DGRAM), row.b.socket(AF_INET, SOCK_DGRAM)
    rx.bind(("", 9))
    rx.settimeout(5)
    tx.sendto(DATA[:5000], (V4.b, 9))
    assert rx.recv(9000) == DATA[:5000]
    assert row.router.mib.ip.FragCreates >= 8
    tx.sendto(DATA[:1400], (V4.b, 9))
    row.clock.run_for(10_000_000)
    assert row.router.mib.icmp.OutDestUnreachs == 1
    tx.sendto(DATA[:1400], (V4.b, 9))
    assert rx.recv(9000) == DATA[:1400]


@over(V4)
def test_traceroute_sees_every_hop(row: Row) -> None:
    probe = row.a.socket(AF_INET, SOCK_DGRAM)
    probe.setsockopt(SOL_IP, IP_RECVERR, 1)
    hops = []
    for ttl in (1, 2):
        probe.setsockopt(SOL_IP, IP_TTL, ttl)
        probe.sendto(b"probe", (V4.b, 33434))
        row.clock.run_for(10_000_000)
        _, control, _, _ = probe.recvmsg(100, 200, MSG_ERRQUEUE)
        offender = control[0][2][20:24]
        hops.append((control[0][2][5], ".".join(map(str, offender))))
    assert hops == [(11, V4.left), (3, V4.b)]


@over(V6)
def test_udp_is_told_and_then_cut_by_its_sender(row: Row) -> None:
    row.shrink(1280)
    tx, rx = row.a.socket(AF_INET6, SOCK_DGRAM), row.b.socket(AF_INET6, SOCK_DGRAM)
    rx.bind((V6.any, 9))
    rx.settimeout(5)
    tx.sendto(DATA[:1400], (V6.b, 9))
    row.clock.run_for(10_000_000)
    assert row.router.mib.icmp6msg.outtype[2] == 1
    for size in (1400, 5000):
        tx.sendto(DATA[:size], (V6.b, 9))
        assert rx.recv(9000) == DATA[:size]
    assert row.router.mib.ip6.FragCreates == 0
    assert row.a.mib.ip6.FragCreates >= 6


@over(V6)
def test_traceroute_sees_every_hop_of_ipv6(row: Row) -> None:
    probe = row.a.socket(AF_INET6, SOCK_DGRAM)
    probe.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, 1)
    hops = []
    for limit in (1, 2):
        probe.setsockopt(IPPROTO_IPV6, IPV6_UNICAST_HOPS, limit)
        probe.sendto(b"probe", (V6.b, 33434))
        row.clock.run_for(10_000_000)
        _, control, _, _ = probe.recvmsg(100, 200, MSG_ERRQUEUE)
        error = control[0][2]
        offender = int.from_bytes(error[24:40], "big")  # sockaddr_in6 behind sock_extended_err
        hops.append((error[5], error[6], format_addr6(offender)))
    assert hops == [(3, 0, V6.left), (1, 4, V6.b)]


@over(V6)
def test_a_neighbour_that_does_not_answer_is_reported(row: Row) -> None:
    """RFC 4443 3.1, code 3; RFC 4861 7.2.2."""
    tx = row.a.socket(AF_INET6, SOCK_DGRAM)
    tx.settimeout(10)
    tx.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, 1)
    tx.connect(("2001:db8:b::99", 9))
    tx.send(b"anybody?")
    with pytest.raises(OSError, match="No route to host"):
        tx.recv(10)
    assert row.router.mib.icmp6msg.outtype[1] == 1


@over(V6)
def test_the_router_says_that_it_is_no_detour(row: Row) -> None:
    """A host that sends a neighbour's packets to the router hears of the neighbour (RFC 4861 8)."""
    row.a.route_add("2001:db8:c::/64", via=V6.left)
    row.router.route_add("2001:db8:c::/64", dev="eth0")
    tx = row.a.socket(AF_INET6, SOCK_DGRAM)
    tx.sendto(b"over there", ("2001:db8:c::7", 9))
    row.clock.run_for(100_000_000)
    assert row.router.mib.icmp6msg.outtype.get(137) == 1


def test_nothing_leaks(row: Row) -> None:
    client, accepted = row.connect()
    row.move(DATA[:100_000], client, accepted)
    client.close()
    accepted.close()
    hosts = (row.a, row.b, row.router)
    for host in hosts:
        host.close()
    for host in hosts:
        assert host.skb_small.in_use == 0, host.name
        assert host.skb_pages.in_use == 0, host.name
