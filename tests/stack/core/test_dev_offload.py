"""What validate_xmit_skb does in software for a device that offers less: GSO, checksums, SG."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    SKB_GSO_TCPV4,
    SKB_GSO_UDP_L4,
    alloc_skb,
    skb_add_data,
    skb_to_bytes,
)
from fastpath.net.hdr import (
    eth_header_push,
    ip_push,
    tcp_push,
    tcp_v4_send_check,
    udp4_send_check,
    udp_push,
)
from stack.core.dev import netdev_update_features, netif_set_gro_max_size
from stack.core.dev_queue import dev_queue_xmit
from stack.core.drop_reason import SKB_DROP_REASON_NOMEM, SKB_DROP_REASON_SKB_GSO_SEG
from stack.core.napi import napi_gro_enable
from stack.core.netdevice import (
    NETIF_F_GSO_UDP_L4,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
)
from stack.core.softirq import local_bh_disable, local_bh_enable
from tests.stack.core.wire import assert_no_leak, heard, wired_pair

SRC, DST = 0x0A000001, 0x0A000002


@pytest.fixture
def pair():
    clock, a, b, wa, wb = wired_pair()
    wa.peer = None
    yield clock, a, b, wa, wb
    assert_no_leak(a, b)


def super_packet(host, dev, payload, *, proto=6, gso_size=1460):
    skb = alloc_skb(host.skb_small, 0, 128)
    assert skb_add_data(skb, host.skb_pages, payload, 0, len(payload)) == len(payload)
    skb.ip_summed = CHECKSUM_PARTIAL
    if proto == 6:
        tcp_push(skb, 1000, 2000, 0x11223344, 0x55667788, 0x18, 500, 0)
        tcp_v4_send_check(skb, SRC, DST)
        kind = SKB_GSO_TCPV4
    else:
        udp_push(skb, 1000, 2000, 8 + len(payload), 0)
        udp4_send_check(skb, SRC, DST)
        kind = SKB_GSO_UDP_L4
    if len(payload) > gso_size:
        skb.gso_size = gso_size
        skb.gso_segs = -(-len(payload) // gso_size)
        skb.gso_type = kind
    ip_push(skb, 0, skb.len + 20, 77, 0x4000, 64, proto, SRC, DST)
    eth_header_push(skb, b"\x02\x00\x00\x00\x00\x02", dev.dev_addr, 0x0800)
    skb.dev = dev
    skb.protocol = 0x0800
    return skb


def judge(frame):
    """Parse with scapy; its checksums must be the frame's."""
    parsed = Ether(frame)
    ip = parsed[IP]
    l4 = ip.payload
    again = Ether(frame)
    del again[IP].chksum
    del again[type(l4)].chksum
    rebuilt = Ether(bytes(again))
    assert rebuilt[IP].chksum == ip.chksum
    assert rebuilt[type(l4)].chksum == l4.chksum
    return ip, l4, bytes(l4.payload)


def set_features(wa, features):
    wa.dev.hw_features |= features
    wa.dev.wanted_features = wa.dev.wanted_features | features
    netdev_update_features(wa.dev)


@pytest.mark.parametrize("features", [0, NETIF_F_SG])
def test_tcp_super_packets_are_cut_and_summed_in_software(pair, features):
    _clock, a, _b, wa, _wb = pair
    set_features(wa, features)
    payload = bytes(i * 7 & 255 for i in range(10_000))
    assert dev_queue_xmit(super_packet(a, wa.dev, payload)) == 0
    out = b""
    for index, frame in enumerate(wa.sent):
        ip, tcp, data = judge(frame)
        assert isinstance(tcp, TCP)
        assert ip.id == 77 + index
        assert tcp.seq == 0x11223344 + len(out)
        assert bool(tcp.flags.P) == (index == 6)
        out += data
    assert out == payload
    assert [len(f) for f in wa.sent] == [1514] * 6 + [54 + 10_000 - 6 * 1460]
    assert wa.more == [True] * 6 + [False]


def test_udp_super_packets_are_cut_in_software(pair):
    _clock, a, _b, wa, _wb = pair
    payload = bytes(range(256)) * 10
    dev_queue_xmit(super_packet(a, wa.dev, payload, proto=17, gso_size=1000))
    datagrams = []
    for frame in wa.sent:
        _ip, udp, data = judge(frame)
        assert isinstance(udp, UDP)
        assert udp.len == 8 + len(data)
        datagrams.append(data)
    assert datagrams == [payload[:1000], payload[1000:2000], payload[2000:]]


@pytest.mark.parametrize(
    ("most", "lengths"), [(None, [10_040]), (5000, [4420, 4420, 1280])], ids=["as made", "less"]
)
def test_gro_puts_together_what_gso_cut(most, lengths):
    """A device without merging of its own gets a GRO table in its NAPI context."""
    clock, a, b, wa, wb = wired_pair()
    napi_gro_enable(wb.napi)
    if most is not None:
        netif_set_gro_max_size(wb.dev, most)
    got = heard(b, 0x0800, lambda skb: (skb.len, skb.gso_size, skb_to_bytes(skb)[40:]))
    payload = bytes(i * 3 & 255 for i in range(10_000))
    local_bh_disable(b.machine)  # all seven frames arrive before the softirq looks
    dev_queue_xmit(super_packet(a, wa.dev, payload))
    clock.run_until_idle()
    local_bh_enable(b.machine)
    clock.run_until_idle()
    assert [length for length, _, _ in got] == lengths
    assert {size for length, size, _ in got if length > 1500} == {1460}
    assert b"".join(data for _, _, data in got) == payload
    assert_no_leak(a, b)


def test_one_packet_gets_its_checksum_in_software(pair):
    _clock, a, _b, wa, _wb = pair
    dev_queue_xmit(super_packet(a, wa.dev, b"odd", proto=17))
    _ip, _udp, data = judge(wa.sent[0])
    assert data == b"odd"


def test_a_capable_device_gets_the_super_packet_whole(pair):
    _clock, a, _b, wa, _wb = pair
    set_features(wa, NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_GSO_UDP_L4)
    dev_queue_xmit(super_packet(a, wa.dev, bytes(5000)))
    dev_queue_xmit(super_packet(a, wa.dev, bytes(5000), proto=17))
    assert [len(f) for f in wa.sent] == [5054, 5042]


def test_more_than_the_device_takes_is_cut_in_software(pair):
    _clock, a, _b, wa, _wb = pair
    set_features(wa, NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO)
    wa.dev.gso_max_size = 4000
    dev_queue_xmit(super_packet(a, wa.dev, bytes(5000)))
    assert [len(f) for f in wa.sent] == [1514, 1514, 1514, 674]


def test_a_malformed_super_packet_is_dropped(pair):
    _clock, a, _b, wa, _wb = pair
    skb = super_packet(a, wa.dev, bytes(5000))
    skb.network_header = 0xFFFFFFFF
    dev_queue_xmit(skb)
    assert wa.sent == []
    assert a.drop_reasons == {SKB_DROP_REASON_SKB_GSO_SEG: 1}
    assert wa.dev.stats.tx_dropped == 1


def test_segmenting_without_memory_drops_and_leaks_nothing(pair):
    _clock, a, _b, wa, _wb = pair
    skb = super_packet(a, wa.dev, bytes(60_000))
    hoard = []
    while a.skb_small.available > 3:
        hoard.append(alloc_skb(a.skb_small, 1))
    dev_queue_xmit(skb)
    assert wa.sent == []
    assert a.drop_reasons == {SKB_DROP_REASON_NOMEM: 1}
    assert a.skb_small.available == 4
    hoard.clear()
