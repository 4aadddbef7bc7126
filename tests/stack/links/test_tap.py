"""A TAP on a link: an interface without a NIC, beside others and beside one with a NIC."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic, pump
from e1000emu.links import NullLink, pair
from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS, FrameBatch
from fastpath.base.skbuff import SKB_GSO_TCPV4, SKB_GSO_TCPV6, kfree_skb, skb_from_bytes
from fastpath.errors import ArgumentError
from stack.api.links import ip_link
from stack.core.ethtool import ethtool_get_drvinfo
from stack.core.netdevice import netif_carrier_ok
from stack.drivers import tun
from stack.drivers.tun import LinkPort
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.stack.links.switch import refused

MS = 1_000_000


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    clock = VirtualClock()
    one, two = (Host(name, clock=clock, sysctl=QUIET6) for name in "ab")
    yield one, two
    for host in (one, two):
        assert_no_leak(host)


def joined(one: Host, two: Host, *, nic: bool = False, mtu: int | None = None, **wire: Any) -> None:
    """A TAP of one's, 10.0.0.1, and a TAP or NIC of two's, 10.0.0.2, on a cable."""
    a, b = pair(one.clock, **wire)
    one.add_tap("eth0", a, mtu=mtu, up=True)
    if nic:
        add_nic(two, b, mtu=mtu, wait=False)
    else:
        two.add_tap("eth0", b, mtu=mtu, up=True)
    one.ifconfig("eth0", "10.0.0.1/24")
    two.ifconfig("eth0", "10.0.0.2/24")
    assert one.wait_carrier("eth0")
    assert two.wait_carrier("eth0")


def moved(one: Host, two: Host, to: str, size: int) -> int:
    """Send a stream and return how many of its bytes came out right."""
    data = memoryview(bytes(range(251)) * (size // 251 + 1))[:size]
    pieces, got = iter([data]), bytearray()
    with create_server(two, (to, 80)) as listener:
        client = create_connection(one, (to, 80))
        server, _ = listener.accept()
        with client, server:
            pump(client, server, lambda: next(pieces, None), got.extend)
    return len(got) if got == data else -1


@pytest.mark.parametrize("nic", [False, True])
@pytest.mark.parametrize("mtu", [None, 9000])
@pytest.mark.parametrize(
    "wire",
    [{}, {"latency_ns": MS}, {"rate_bps": 10**8, "queue_frames": 1}, {"queue_frames": 3}],
    ids=str,
)
def test_streams_both_ways(
    hosts: tuple[Host, Host], nic: bool, mtu: int | None, wire: dict[str, int]
) -> None:
    one, two = hosts
    joined(one, two, nic=nic, mtu=mtu, **wire)
    assert moved(one, two, "10.0.0.2", 1_000_000) == 1_000_000
    assert moved(two, one, "10.0.0.1", 1_000_000) == 1_000_000
    assert not one.dev("eth0").stats.rx_errors
    assert not one.dev("eth0").stats.tx_dropped


def test_a_burst_waits_for_room_and_none_is_lost(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    joined(one, two, queue_frames=2, latency_ns=MS)
    with Socket(one, AF_INET, SOCK_DGRAM) as out, Socket(two, AF_INET, SOCK_DGRAM) as inside:
        inside.bind(("10.0.0.2", 7))
        for i in range(100):
            out.sendto(bytes([i]), ("10.0.0.2", 7))
        assert [inside.recv(9)[0] for _ in range(100)] == list(range(100))


def test_super_frames_leave_as_frames_with_checksums(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    seen: list[bytes] = []
    a, b = pair(one.clock)
    one.add_tap("eth0", a, up=True)
    two.add_tap("eth0", b, up=True)
    take = b.port.receive

    def receive(batch: FrameBatch, start: int, hold: bool) -> int:
        seen.extend(batch[i] for i in range(start, len(batch)))
        return take(batch, start, hold)

    b.port.receive = receive
    one.ifconfig("eth0", "10.0.0.1/24")
    two.ifconfig("eth0", "10.0.0.2/24")
    assert moved(one, two, "10.0.0.2", 100_000) == 100_000
    assert max(map(len, seen)) == 1514
    scapy = pytest.importorskip("scapy.all")
    for frame in seen:
        packet = scapy.Ether(frame)
        if scapy.TCP in packet:
            given = packet[scapy.TCP].chksum
            del packet[scapy.TCP].chksum
            assert scapy.Ether(bytes(packet))[scapy.TCP].chksum == given


def test_bad_frames_are_counted(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    joined(one, two)
    dev = one.dev("eth0")
    batch = FrameBatch()
    header = dev.dev_addr + bytes(6) + b"\x88\xb5"
    batch.append(header + bytes(46), FB_BAD_CRC)
    batch.append(header[:13])
    batch.append(header + bytes(50), FB_HAS_FCS)
    before = dev.stats.rx_bytes
    assert LinkPort(dev).receive(batch, 0, True) == 3
    assert dev.stats.rx_errors == 2
    assert dev.stats.rx_bytes - before == 14 + 46
    one.ifconfig("eth0", up=False)
    dropped = dev.stats.rx_dropped
    assert LinkPort(dev).receive(batch, 1, True) == 3
    assert dev.stats.rx_dropped == dropped + 2


def test_a_packet_of_several_segments_has_their_size(hosts: tuple[Host, Host]) -> None:
    """IFF_VNET_HDR: only of TCP, and only if it is more than one."""
    one, two = hosts
    joined(one, two)
    dev = one.dev("eth0")
    seen: list[tuple[int, int, int]] = []
    scapy = pytest.importorskip("scapy.all")
    four, six = scapy.IP(dst="10.0.0.1"), scapy.IPv6(dst="fe80::1")
    options = scapy.TCP(options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)])
    for packet in (
        four / scapy.TCP() / bytes(4000),
        six / options / bytes(2001),
        four / scapy.TCP() / bytes(1000),
        four / scapy.UDP() / bytes(4000),
        scapy.Raw(bytes(3)),
        scapy.Raw(b"\x4f" + bytes(8) + b"\x06" + bytes(30)),
        six,
    ):
        frame = dev.dev_addr + bytes(6) + b"\x08\0" + bytes(packet)
        skb = skb_from_bytes(one.machine.skb_small, frame[:100])
        tun.virtio_net_hdr_to_skb(skb, memoryview(frame), len(frame), 14, tun.virtio_net_hdr(1000))
        seen.append((skb.gso_type, skb.gso_size, skb.gso_segs))
        kfree_skb(skb)
        LinkPort(dev).receive_gso(frame, 1000)
    none = (0, 0, 0)
    four_segs, three = (SKB_GSO_TCPV4, 1000, 4), (SKB_GSO_TCPV6, 1000, 3)
    assert seen == [four_segs, three, none, none, none, none, none]
    one.ifconfig("eth0", up=False)
    dropped = dev.stats.rx_dropped
    LinkPort(dev).receive_gso(bytes(60), 1000)
    assert dev.stats.rx_dropped == dropped + 1


@pytest.mark.parametrize(
    ("size", "truesize"),
    # of 6.18: 4,040 bytes of IP take two pages, 10,040 three, 20,040 five, and each an sk_buff
    [(4040, 8448), (10_040, 12_544), (20_040, 20_736)],
)
def test_a_large_frame_counts_what_linux_takes_for_it(size: int, truesize: int) -> None:
    assert tun.tun_truesize(14 + size) == truesize


def test_carrier_follows_the_cable(hosts: tuple[Host, Host]) -> None:
    one, two = hosts
    a, b = pair(one.clock)
    dev = one.add_tap("eth0", a, up=True)
    assert not netif_carrier_ok(dev)
    two.add_tap("eth0", b, up=True)
    assert netif_carrier_ok(dev)
    a.plug(False)
    assert not netif_carrier_ok(dev)
    a.plug(True)
    assert netif_carrier_ok(dev)
    two.del_link("eth0")
    assert not netif_carrier_ok(dev)
    assert b.port is None


def test_ip_and_ethtool_show_a_tun(hosts: tuple[Host, Host]) -> None:
    one, _ = hosts
    link = NullLink(one.clock)
    one.add_tap("tap7", link, mac=b"\x02" + bytes(5), mtu=1400)
    shown = ip_link(one)
    assert "tap7: <BROADCAST,MULTICAST> mtu 1400" in shown
    assert "    tun\n" in shown
    assert ethtool_get_drvinfo(one.dev("tap7")).driver == "tun"
    with refused(errno.EEXIST):
        one.add_tap("tap7", NullLink(one.clock))
    with pytest.raises(ArgumentError, match="add_tap: link=3 is of type int; give a link"):
        one.add_tap("tap8", 3)  # type: ignore[arg-type]
