"""Three hosts in a row: what a router does to whole transfers, with real drivers and NICs."""

from __future__ import annotations

from contextlib import suppress

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from stack.core.dev import dev_set_mtu
from stack.host import Host
from stack.socket import Socket

# A frame crosses two wires, so tshark would see each segment twice and call the second one old.
# What a router quotes of a merged segment carries that segment's unfinished checksum.
pytestmark = pytest.mark.sends_bad_frames

DATA = bytes(i * 31 % 251 for i in range(251)) * (1 << 12)


class Row:
    """a - router - b"""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.a = Host(name="a", clock=self.clock)
        self.b = Host(name="b", clock=self.clock)
        self.router = Host(name="r", clock=self.clock, sysctl={"ip_forward": 1})
        left, right = pair(self.clock), pair(self.clock)
        add_nic(self.a, left[0], mac=b"\x52\x54\0\0\0\1", addr="10.0.0.1/24", wait=False)
        add_nic(self.router, left[1], mac=b"\x52\x54\0\0\0\2", addr="10.0.0.254/24", wait=False)
        add_nic(self.router, right[0], mac=b"\x52\x54\0\0\0\3", addr="10.1.0.254/24", wait=False)
        add_nic(self.b, right[1], mac=b"\x52\x54\0\0\0\4", addr="10.1.0.1/24", wait=False)
        for host, dev in ((self.a, "eth0"), (self.router, "eth0"), (self.router, "eth1")):
            assert host.wait_carrier(dev)
        assert self.b.wait_carrier("eth0")
        self.a.route_add("default", via="10.0.0.254")
        self.b.route_add("default", via="10.1.0.254")

    def shrink(self, mtu: int) -> None:
        """Make the second link's MTU smaller."""
        assert dev_set_mtu(self.router.dev("eth1"), mtu) == 0
        assert dev_set_mtu(self.b.dev("eth0"), mtu) == 0

    def connect(self) -> tuple[Socket, Socket]:
        """A TCP connection from a to b."""
        server = self.b.socket()
        server.bind(("", 80))
        server.listen(1)
        client = self.a.socket()
        client.connect(("10.1.0.1", 80))
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


@pytest.fixture
def row():
    row = Row()
    yield row
    for host in (row.a, row.b, row.router):
        host.close()


def test_merged_segments_are_forwarded_whole_and_cut_again(row: Row) -> None:
    client, accepted = row.connect()
    assert row.move(DATA, client, accepted) == DATA
    mib = row.router.mib.ip
    assert mib.ForwDatagrams < mib.InReceives / 2
    assert row.a.mib.tcp.RetransSegs == 0
    assert row.move(DATA, accepted, client) == DATA


def test_tcp_finds_the_path_mtu(row: Row) -> None:
    client, accepted = row.connect()
    row.shrink(1000)
    assert row.move(DATA, client, accepted) == DATA
    assert row.router.mib.icmp.OutDestUnreachs >= 1
    assert row.router.mib.ip.FragFails >= 1
    assert row.router.mib.ip.FragCreates == 0


def test_udp_is_cut_by_the_router_or_told(row: Row) -> None:
    row.shrink(600)
    tx, rx = row.a.socket(2, 2), row.b.socket(2, 2)
    rx.bind(("", 9))
    rx.settimeout(5)
    tx.sendto(DATA[:5000], ("10.1.0.1", 9))
    assert rx.recv(9000) == DATA[:5000]
    assert row.router.mib.ip.FragCreates >= 8
    tx.sendto(DATA[:1400], ("10.1.0.1", 9))
    row.clock.run_for(10_000_000)
    assert row.router.mib.icmp.OutDestUnreachs == 1
    tx.sendto(DATA[:1400], ("10.1.0.1", 9))
    assert rx.recv(9000) == DATA[:1400]


def test_traceroute_sees_every_hop(row: Row) -> None:
    from stack.core.uapi import IP_RECVERR, IP_TTL, MSG_ERRQUEUE, SOL_IP

    probe = row.a.socket(2, 2)
    probe.setsockopt(SOL_IP, IP_RECVERR, 1)
    hops = []
    for ttl in (1, 2):
        probe.setsockopt(SOL_IP, IP_TTL, ttl)
        probe.sendto(b"probe", ("10.1.0.1", 33434))
        row.clock.run_for(10_000_000)
        _, control, _, _ = probe.recvmsg(100, 200, MSG_ERRQUEUE)
        offender = control[0][2][20:24]
        hops.append((control[0][2][5], ".".join(map(str, offender))))
    assert hops == [(11, "10.0.0.254"), (3, "10.1.0.1")]


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
