"""stack/ipv4/ip_input.py"""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from stack.core.bsd_socket import sys_recvfrom
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
    NF_STOLEN,
    nf_register_net_hook,
    nf_unregister_net_hook,
)
from stack.core.uapi import MSG_DONTWAIT
from tests.stack.ipv4.net import ME, PEER, SEC, Net, one_host
from tests.support import examples


def good() -> bytearray:
    return bytearray(bytes(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"abcd"))


def fix(packet: bytearray) -> bytes:
    again = IP(bytes(packet))
    del again.chksum
    return bytes(again)


@pytest.mark.parametrize(
    ("offset", "value", "mend", "counters", "reason"),
    [
        (0, 0x65, True, {"InHdrErrors": 1}, "IP_INHDR"),
        (0, 0x44, False, {"InHdrErrors": 1}, "IP_INHDR"),
        (0, 0x4F, False, {"InHdrErrors": 1}, None),
        (10, 0xAA, False, {"InHdrErrors": 1}, "IP_CSUM"),
        (2, 0x05, True, {}, "PKT_TOO_SMALL"),
    ],
)
def test_header_errors_are_counted(
    net: Net, offset: int, value: int, mend: bool, counters: dict, reason: str | None
) -> None:
    packet = good()
    packet[offset] = value
    if mend:
        from fastpath.base.csum import ip_compute_csum

        packet[10:12] = b"\0\0"
        packet[10:12] = ip_compute_csum(bytes(packet[:20])).to_bytes(2, "big")
    net.inject(bytes(packet))
    for name, count in counters.items():
        assert getattr(net.host.mib.ip, name) == count
    drops = net.drops()
    assert sum(drops.values()) == 1
    if reason is not None:
        assert drops == {f"SKB_DROP_REASON_{reason}": 1}
    assert net.host.mib.ip.InDelivers == 0


def test_total_length_below_header_is_an_error(net: Net) -> None:
    net.inject(fix(bytearray(bytes(IP(src=PEER, dst=ME, len=19)))))
    assert net.host.mib.ip.InHdrErrors == 1


def test_checksum_counter(net: Net) -> None:
    packet = good()
    packet[10] ^= 0xFF
    net.inject(bytes(packet))
    assert net.host.mib.ipext.InCsumErrors == 1


def test_frames_for_others_are_not_ours(net: Net) -> None:
    net.wire.dev.promiscuity = 1
    net.inject(bytes(good()), dst=b"\x02\0\0\0\0\x99")
    assert net.drops() == {"SKB_DROP_REASON_OTHERHOST": 1}
    assert net.wire.dev.stats.rx_otherhost_dropped == 1
    assert net.host.mib.ip.InReceives == 0


def test_unknown_protocol_is_answered(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(b"what"))
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (3, 2)
    assert net.host.mib.ip.InUnknownProtos == 1


def test_not_our_address_without_forwarding(net: Net) -> None:
    net.inject(IP(src=PEER, dst="10.0.0.9") / UDP(dport=1))
    assert net.host.mib.ip.InAddrErrors == 1
    assert net.ip_sent() == []


@pytest.mark.parametrize("src", ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", ME])
def test_martian_sources(net: Net, src: str) -> None:
    net.inject(IP(src=src, dst=ME) / UDP(dport=1))
    assert net.host.ipv4.in_martian_src == 1
    assert net.host.mib.ip.InDelivers == 0
    assert net.ip_sent() == []


@pytest.mark.parametrize("dst", ["127.0.0.1", "0.0.0.0"])
def test_martian_destinations(net: Net, dst: str) -> None:
    net.inject(IP(src=PEER, dst=dst) / UDP(dport=1))
    assert net.host.ipv4.in_martian_dst == 1
    assert net.host.mib.ip.InDelivers == 0


def test_hooks_see_drop_and_steal(net: Net, fd: int) -> None:
    seen = []

    def pre(skb, state):
        seen.append((state.hook, state.indev.name))
        return NF_ACCEPT

    def local(skb, state):
        seen.append((state.hook, state.indev.name))
        return NF_DROP

    def steal(skb, state):
        from fastpath.base.skbuff import kfree_skb

        kfree_skb(skb)
        return NF_STOLEN

    nf_register_net_hook(net.host, NF_INET_PRE_ROUTING, pre)
    nf_register_net_hook(net.host, NF_INET_LOCAL_IN, local)
    net.inject(bytes(good()))
    assert seen == [(0, "eth0"), (1, "eth0")]
    assert net.drops() == {"SKB_DROP_REASON_NETFILTER_DROP": 1}
    nf_unregister_net_hook(net.host, NF_INET_LOCAL_IN, local)
    nf_register_net_hook(net.host, NF_INET_PRE_ROUTING, steal)
    net.inject(bytes(good()))
    nf_unregister_net_hook(net.host, NF_INET_PRE_ROUTING, steal)
    net.inject(bytes(good()))
    assert sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)[0] == 4
    assert net.host.skb_small.in_use == 0


_FUZZ: list[Net] = []


@settings(max_examples=examples(200))
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_packets_never_crash_or_leak(data: bytes, plausible: bool) -> None:
    if not _FUZZ:
        _FUZZ.append(one_host())
    net = _FUZZ[0]
    if plausible and len(data) >= 20:
        packet = bytearray(data)
        packet[0] = 0x45 + data[0] % 11
        packet[2:4] = len(data).to_bytes(2, "big")
        packet[12:20] = bytes([10, 0, 0, 2, 10, 0, 0, 1])
        hlen = min((packet[0] & 15) * 4, len(packet))
        from fastpath.base.csum import ip_compute_csum

        packet[10:12] = b"\0\0"
        packet[10:12] = ip_compute_csum(bytes(packet[:hlen])).to_bytes(2, "big")
        data = bytes(packet)
    net.inject(data)
    net.frames()
    net.run(40 * 10**9)
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


def martians_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name.startswith("stack.")]


def test_martians_are_logged_as_the_kernel_does(net: Net, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    net.inject(IP(src="127.0.0.1", dst=ME) / UDP(dport=1))
    assert martians_logged(caplog) == []
    net.host.sysctl.log_martians = 1
    net.inject(IP(src="127.0.0.1", dst=ME) / UDP(dport=1))
    net.inject(IP(src=PEER, dst="127.0.0.1") / UDP(dport=1))
    assert martians_logged(caplog) == [
        f"{net.host.name}: IPv4: martian source 10.0.0.1 from 127.0.0.1, on dev eth0",
        f"{net.host.name}: ll header: 00000000: 02 00 00 00 00 01 02 00 00 00 00 02 08 00",
        f"{net.host.name}: IPv4: martian destination 127.0.0.1 from 10.0.0.2, dev eth0",
    ]


def test_a_flood_of_martians_does_not_flood_the_log(
    net: Net, caplog: pytest.LogCaptureFixture
) -> None:
    """net_ratelimit: ten in five seconds, and then how many were left out."""
    caplog.set_level(logging.WARNING)
    net.host.sysctl.log_martians = 1
    for _ in range(100):
        net.inject(IP(src=PEER, dst="127.0.0.1") / UDP(dport=1))
    assert len(martians_logged(caplog)) == 10
    assert net.host.ipv4.in_martian_dst == 100
    net.run(5 * SEC)
    net.inject(IP(src=PEER, dst="127.0.0.1") / UDP(dport=1))
    assert martians_logged(caplog)[10:] == [
        f"{net.host.name}: net_ratelimit: 90 callbacks suppressed",
        f"{net.host.name}: IPv4: martian destination 127.0.0.1 from 10.0.0.2, dev eth0",
    ]
