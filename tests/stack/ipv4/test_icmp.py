"""stack/ipv4/icmp.py"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP, IPOption_RR
from scapy.packet import Raw

from stack.core.bsd_socket import sys_connect
from stack.core.drop_reason import drop_names
from stack.ipv4.icmp_codes import icmp_err_convert
from stack.ipv4.route import ip_route_output, ipv4_mtu
from tests.stack.ipv4.net import FAR, GW, ME, PEER, SEC, Net, at, ip4, one_host, udp_socket
from tests.support import examples


@settings(max_examples=examples(40))
@given(size=st.integers(0, 3000), ident=st.integers(0, 65535), seq=st.integers(0, 65535))
def test_echo_is_answered_with_its_data(size: int, ident: int, seq: int) -> None:
    net = one_host()
    data = bytes(i % 251 for i in range(size))
    request = IP(src=PEER, dst=ME, tos=0x10) / ICMP(id=ident, seq=seq) / Raw(data)
    if size > 1472:
        net.wire.dev.mtu = 1500
    net.inject(request)
    parts = net.ip_sent()
    assert all((p.src, p.dst, p.tos) == (ME, PEER, 0x10) for p in parts)
    reply = ICMP(b"".join(bytes(p.payload) for p in parts))
    assert (reply.type, reply.code, reply.id, reply.seq) == (0, 0, ident, seq)
    assert bytes(reply.payload) == data
    assert net.host.mib.icmp.OutEchoReps == net.host.mib.icmp.InEchos == 1
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


def test_echo_may_be_ignored(net: Net) -> None:
    net.host.sysctl.icmp_echo_ignore_all = 1
    net.inject(IP(src=PEER, dst=ME) / ICMP())
    assert net.ip_sent() == []


def test_broadcast_echo_is_ignored_unless_allowed(net: Net) -> None:
    request = IP(src=PEER, dst="10.0.0.255") / ICMP()
    net.inject(request, dst=b"\xff" * 6)
    assert net.ip_sent() == []
    net.host.sysctl.icmp_echo_ignore_broadcasts = 0
    net.inject(request, dst=b"\xff" * 6)
    (packet,) = net.ip_sent()
    assert packet.src == ME


def test_bad_checksum_and_short_messages_are_counted(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME) / ICMP(chksum=1))
    net.inject(IP(src=PEER, dst=ME, proto=1) / Raw(b"\x08"))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=200))
    assert net.host.mib.icmp.InCsumErrors >= 1
    assert net.host.mib.icmp.InErrors == 3
    assert net.ip_sent() == []


def test_timestamp_reply(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=13, id=5, seq=6, ts_ori=1234))
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].id, packet[ICMP].seq) == (14, 5, 6)
    assert packet[ICMP].ts_ori == 1234
    since_noon = net.clock.now_ns() // 10**6  # when a VirtualClock starts
    assert packet[ICMP].ts_rx == packet[ICMP].ts_tx == 12 * 3_600_000 + since_noon


@pytest.mark.parametrize("code", [0, 1, 255])
def test_an_echo_reply_keeps_the_code(net: Net, code: int) -> None:
    """RFC 792: addresses, type and checksum change, nothing else; as Linux has it."""
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=8, code=code, id=5, seq=6) / Raw(b"data"))
    (packet,) = net.ip_sent()
    reply = packet[ICMP]
    assert (reply.type, reply.code, reply.id, reply.seq) == (0, code, 5, 6)


def test_no_error_about_errors_broadcasts_or_later_fragments(net: Net) -> None:
    inner = bytes(IP(src=ME, dst=PEER, proto=200) / Raw(bytes(16)))
    net.inject(IP(src=PEER, dst=ME, proto=200, frag=5) / Raw(bytes(16)))
    net.inject(IP(src=PEER, dst="10.0.0.255", proto=200) / Raw(bytes(16)), dst=b"\xff" * 6)
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=1) / Raw(inner))
    net.run(40 * SEC)
    assert all(p[ICMP].type == 11 for p in net.ip_sent())
    assert net.host.mib.icmp.OutDestUnreachs == 0


def test_errors_quote_at_most_576_bytes(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(bytes(1400)))
    (packet,) = net.ip_sent()
    assert packet.len == 576
    assert packet.tos == 0xC0


def test_errors_are_limited_per_destination_and_host(net: Net) -> None:
    for _ in range(20):
        net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(bytes(8)))
    assert len(net.ip_sent()) == 6
    assert net.host.mib.icmp.OutRateLimitHost == 14
    net.run(2 * SEC)
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(bytes(8)))
    assert len(net.ip_sent()) == 1


def test_host_wide_limit(net: Net) -> None:
    net.host.sysctl.icmp_msgs_per_sec = 0
    net.host.ipv4.icmp_global.credit = 3
    for i in range(5):
        net.inject(IP(src=f"10.0.0.{100 + i}", dst=ME, proto=200) / Raw(bytes(8)))
    assert net.host.mib.icmp.OutRateLimitGlobal == 2


def test_a_limited_destination_takes_nothing_of_the_hosts(net: Net) -> None:
    net.host.sysctl.icmp_msgs_per_sec = 0
    net.host.ipv4.icmp_global.credit = 7
    for _ in range(20):
        net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(bytes(8)))
    assert len(net.ip_sent()) == 6
    net.inject(IP(src="10.0.0.100", dst=ME, proto=200) / Raw(bytes(8)))
    assert net.host.mib.icmp.OutRateLimitGlobal == 0
    assert net.host.ipv4.icmp_global.credit == 0


def test_echo_is_not_limited(net: Net) -> None:
    for i in range(200):
        net.inject(IP(src=PEER, dst=ME) / ICMP(seq=i))
    assert len(net.ip_sent()) == 200


def test_reply_to_record_route(net: Net) -> None:
    request = IP(src=PEER, dst=ME, options=[IPOption_RR(routers=["0.0.0.0"] * 3)]) / ICMP()
    net.inject(request)
    (packet,) = net.ip_sent()
    option = packet.options[0]
    assert option.routers[0] == ME
    assert option.routers[1] == ME
    assert packet[ICMP].type == 0


def test_redirect_is_obeyed_from_the_present_gateway_only(net: Net) -> None:
    net.host.route_add("192.0.2.0/24", via=GW)
    rt = ip_route_output(net.host, ip4(FAR))
    assert rt.rt_gw4 == ip4(GW)
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=1, dport=2) / Raw(bytes(8)))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=5, code=1, gw="10.0.0.66") / Raw(inner))
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4(GW)
    fd = udp_socket(net, 1)
    sys_connect(net.host, fd, at(FAR, 2))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=5, code=1, gw="198.51.100.1") / Raw(inner))
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4(GW)
    net.inject(IP(src=GW, dst=ME) / ICMP(type=5, code=1, gw="10.0.0.66") / Raw(inner))
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4("10.0.0.66")
    net.host.sysctl.accept_redirects = 0
    net.inject(IP(src="10.0.0.66", dst=ME) / ICMP(type=5, code=1, gw="10.0.0.67") / Raw(inner))
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4("10.0.0.66")


def test_a_redirect_lasts_five_minutes(net: Net) -> None:
    """The sysctl mtu_expires is for path MTUs only."""
    net.host.route_add("192.0.2.0/24", via=GW)
    sys_connect(net.host, udp_socket(net, 1), at(FAR, 2))
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=1, dport=2) / Raw(bytes(8)))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=5, code=1, gw="10.0.0.66") / Raw(inner))
    net.run(299 * SEC)
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4("10.0.0.66")
    net.run(2 * SEC)
    assert ip_route_output(net.host, ip4(FAR)).rt_gw4 == ip4(GW)


def test_an_old_router_that_gives_no_mtu_lowers_it_to_min_pmtu(net: Net) -> None:
    net.host.route_add("192.0.2.0/24", via=GW)
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=1, dport=2))
    fd = udp_socket(net, 1)
    sys_connect(net.host, fd, at(FAR, 2))
    net.inject(IP(src=GW, dst=ME) / ICMP(type=3, code=4, nexthopmtu=0) / Raw(inner))
    assert ipv4_mtu(ip_route_output(net.host, ip4(FAR))) == net.host.sysctl.min_pmtu


def test_every_unreachable_code_has_an_errno() -> None:
    assert len(icmp_err_convert) == 16
    assert all(e.errno > 0 for e in icmp_err_convert)


@settings(max_examples=examples(200))
@given(kind=st.integers(0, 40), code=st.integers(0, 20), data=st.binary(max_size=80))
def test_no_message_crashes_the_receiver(kind: int, code: int, data: bytes) -> None:
    net = _fuzz_net()
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=kind, code=code) / Raw(data))
    inner = bytes(IP(src=ME, dst=PEER, proto=17) / Raw(data))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=kind, code=code) / Raw(inner))
    net.frames()
    assert net.host.skb_small.in_use == 0
    assert drop_names(net.host) is not None


_FUZZ: list[Net] = []


def _fuzz_net() -> Net:
    if not _FUZZ:
        _FUZZ.append(one_host())
    return _FUZZ[0]
