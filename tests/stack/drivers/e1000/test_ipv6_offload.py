"""IPv6 through the driver: segmentation, checksums both ways, merging. The twins are the judge."""

from __future__ import annotations

from typing import Any

import pytest

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_TCPV6,
    skb_from_bytes,
    skb_to_bytes,
)
from fastpath.net.hdr import eth_header_push
from stack.core.dev_queue import dev_queue_xmit
from stack.core.dev_receive import dev_add_pack
from stack.core.ethtool import ethtool_set_features
from stack.core.netdevice import (
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_TSO,
    NETIF_F_TSO6,
    packet_type,
)
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000 import main
from tests.fastpath.frames import ipv6, tcp, udp
from tests.stack.core.wire import heard
from tests.stack.drivers.e1000.machine import (
    FD00_1,
    MAC_A,
    MAC_B,
    Machine,
    cabled,
    ipv6_frames,
    ipv6_super_packet,
    recorded,
)


def body(length: int) -> bytes:
    return bytes(number % 249 for number in range(length))


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("length", [1, 1432, 2864, 60_000])
def test_super_packet_is_cut_by_the_part(length: int, udp: bool, machine: Machine) -> None:
    skb = ipv6_super_packet(machine.host, machine.dev, body(length), mss=1432, udp=udp)
    dev_queue_xmit(skb)
    assert machine.link.take() == ipv6_frames(machine.dev, body(length), 1432, udp=udp)


def test_super_packet_beyond_64_kib_is_cut_by_the_part(machine: Machine) -> None:
    dev_queue_xmit(ipv6_super_packet(machine.host, machine.dev, body(100_000), mss=1440))
    assert machine.link.take() == ipv6_frames(machine.dev, body(100_000), 1440)


@pytest.mark.parametrize("udp", [False, True])
@pytest.mark.parametrize("length", [0, 1, 33, 1400])
def test_checksum_of_a_plain_packet_is_filled_in_by_the_part(
    length: int, udp: bool, machine: Machine
) -> None:
    skb = ipv6_super_packet(machine.host, machine.dev, body(length), mss=0, udp=udp)
    dev_queue_xmit(skb)
    assert machine.link.take() == ipv6_frames(machine.dev, body(length), 1500, udp=udp)
    assert machine.adapter.tx_ring.csum_start == 54


@pytest.mark.parametrize("udp", [False, True])
def test_a_part_of_qemu_gets_segments(udp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its payload lengths are 40 too large (tests/qemu); IPv4 and checksums stay its work."""
    monkeypatch.setattr(main, "PCI_VENDOR_ID_REDHAT_QUMRANET", 0x8086)
    machine = recorded()
    offered = machine.dev.hw_features | machine.dev.vlan_features
    assert not offered & NETIF_F_TSO6
    assert not machine.dev.features & NETIF_F_TSO6
    assert machine.dev.features & NETIF_F_TSO
    assert machine.dev.features & NETIF_F_HW_CSUM
    before = machine.adapter.tx_ring.next_to_use
    dev_queue_xmit(ipv6_super_packet(machine.host, machine.dev, body(9000), mss=1000, udp=udp))
    assert machine.link.take() == ipv6_frames(machine.dev, body(9000), 1000, udp=udp)
    assert machine.adapter.tx_ring.next_to_use - before >= 9
    assert machine.buffers_in_use() == 0


def test_features_are_those_of_the_part() -> None:
    dev = recorded().dev
    for feature in (NETIF_F_TSO6, NETIF_F_GSO_UDP_L4, NETIF_F_HW_CSUM, NETIF_F_RXCSUM):
        assert dev.features & feature
        assert dev.hw_features & feature


def taps(machine: Machine) -> list[tuple[int, int, bytes]]:
    """(ip_summed, gso_size, bytes) of the IPv6 packets that come up."""
    return heard(machine.host, 0x86DD, lambda skb: (skb.ip_summed, skb.gso_size, skb_to_bytes(skb)))


def send(machine: Machine, frame: bytes) -> None:
    skb = skb_from_bytes(machine.host.skb_small, MAC_B + MAC_A + frame[12:], 16)
    assert skb is not None
    skb.dev, skb.protocol = machine.dev, 0x86DD
    dev_queue_xmit(skb)


HOP = bytes([6, 0, 1, 4, 0, 0, 0, 0])
ROUTING = bytes([6, 0, 0, 0, 0, 0, 0, 0])


@pytest.mark.sends_bad_frames
@pytest.mark.parametrize("rx_csum", [1, 0])
def test_received_checksums_are_judged_by_the_part(rx_csum: int) -> None:
    """SDM 3.2.9: TCP and UDP over IPv6, also behind options; not behind a routing header."""
    a, b = cabled(XsumRX=rx_csum)
    asked = b.reg(d.E1000_RXCSUM) & d.E1000_RXCSUM_IPV6OFL
    assert bool(asked) is bool(rx_csum)
    ethtool_set_features(b.dev, {"gro": False})  # merging verifies what the device did not
    seen = taps(b)
    plain = tcp(b"", v6=True, src=FD00_1, flags=0x10)
    frames = [plain, udp(b"abc", v6=True, src=FD00_1, dport=9)]
    segment = plain[54:]
    frames += [
        plain[:14] + ipv6(ext + segment, n, src=FD00_1) for ext, n in ((HOP, 0), (ROUTING, 43))
    ]
    wrong = bytearray(udp(b"abc", v6=True, src=FD00_1, dport=9))
    wrong[-1] ^= 1
    unsummed = udp(b"abc", v6=True, src=FD00_1, dport=9, check=False)
    for frame in (*frames, bytes(wrong), unsummed):
        send(a, frame)
        a.run()
    judged = [CHECKSUM_UNNECESSARY] * 3 + [CHECKSUM_NONE] * 3
    assert [summed for summed, _, _ in seen] == (judged if rx_csum else [CHECKSUM_NONE] * 6)
    ring = b.adapter.rx_ring
    assert (ring.hw_csum_good, ring.hw_csum_err) == ((3, 1) if rx_csum else (0, 0))


@pytest.mark.parametrize("rx_csum", [1, 0])
def test_segments_merge_again_on_the_other_side(rx_csum: int) -> None:
    a, b = cabled(XsumRX=rx_csum)
    seen = taps(b)
    dev_queue_xmit(ipv6_super_packet(a.host, a.dev, body(100_000), mss=1440))
    a.run()
    assert b"".join(data[60:] for _, _, data in seen) == body(100_000)
    assert len(seen) <= 3
    assert all(summed == CHECKSUM_PARTIAL for summed, _, _ in seen[:-1])
    assert seen[0][1] == 1440
    assert a.buffers_in_use() == b.buffers_in_use() == 0


def test_a_merged_packet_can_be_sent_back() -> None:
    """As a router does: the part of the second machine cuts what its driver had merged."""
    a, b = cabled()
    kept: list[Any] = []

    def keep(skb: Any, dev: Any, pt: Any, orig: Any) -> int:
        kept.append(skb)
        return 0

    dev_add_pack(b.host, packet_type(0x86DD, keep))
    dev_queue_xmit(ipv6_super_packet(a.host, a.dev, body(50_000), mss=1440))
    a.run()
    (skb,) = kept
    assert (skb.gso_type, skb.gso_segs) == (SKB_GSO_TCPV6, 35)
    seen = taps(a)
    eth_header_push(skb, MAC_A, MAC_B, 0x86DD)
    skb.dev = b.dev
    dev_queue_xmit(skb)
    b.run()
    assert b"".join(data[60:] for _, _, data in seen) == body(50_000)
    assert b.adapter.tx_ring.next_to_use > 1
    assert a.buffers_in_use() == b.buffers_in_use() == 0
