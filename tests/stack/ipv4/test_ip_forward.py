"""stack/ipv4/ip_forward.py"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import (
    ICMP,
    IP,
    UDP,
    IPOption_LSRR,
    IPOption_Router_Alert,
    IPOption_RR,
    IPOption_SSRR,
)
from scapy.packet import Raw

from stack.core.bsd_socket import sys_recv, sys_setsockopt, sys_socket
from stack.core.dev import dev_set_mtu
from stack.core.netfilter import NF_DROP, NF_INET_FORWARD, nf_register_net_hook
from stack.core.uapi import (
    AF_INET,
    IP_ROUTER_ALERT,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    RTN_PROHIBIT,
    RTN_UNREACHABLE,
    SO_BINDTODEVICE,
    SOCK_RAW,
    SOL_IP,
    SOL_SOCKET,
)
from stack.ipv4.arp import arp_req_set
from stack.ipv4.route import rt_tos2priority
from tests.stack.ipv4.net import GW, ME, PEER, Net, ip4, one_host
from tests.support import examples

OUT = "10.1.0.1"
BEYOND = "10.1.0.2"


@pytest.fixture
def net() -> Net:
    return router()


def router(**sysctl: int) -> Net:
    net = one_host(addrs=(f"{ME}/24", f"{OUT}/24"), sysctl={"ip_forward": 1, **sysctl})
    arp_req_set(net.wires[1].dev, ip4(BEYOND), b"\x02\0\0\0\1\2")
    return net


@settings(max_examples=examples(30))
@given(ttl=st.integers(2, 255), size=st.integers(0, 1400), tos=st.integers(0, 255))
def test_packets_cross_with_ttl_less_one(ttl: int, size: int, tos: int) -> None:
    net = router()
    sent = (
        IP(src=PEER, dst=BEYOND, ttl=ttl, tos=tos, id=99) / UDP(sport=1, dport=2) / Raw(bytes(size))
    )
    net.inject(sent)
    (packet,) = net.ip_sent(wire=1)
    assert (packet.ttl, packet.tos, packet.id) == (ttl - 1, tos, 99)
    assert bytes(packet.payload) == bytes(sent.payload)
    assert net.host.mib.ip.ForwDatagrams == 1
    assert net.host.skb_small.in_use == 0


@pytest.mark.parametrize("ttl", [0, 1])
def test_expired_ttl_is_answered(net: Net, ttl: int) -> None:
    net.inject(IP(src=PEER, dst=BEYOND, ttl=ttl) / UDP(sport=1, dport=2) / Raw(bytes(20)))
    assert net.ip_sent(wire=1) == []
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code, packet.src) == (11, 0, ME)


def test_df_and_small_mtu_need_fragmentation(net: Net) -> None:
    dev_set_mtu(net.wires[1].dev, 600)
    net.inject(IP(src=PEER, dst=BEYOND, flags="DF") / UDP(sport=1, dport=2) / Raw(bytes(1000)))
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code, packet[ICMP].nexthopmtu) == (3, 4, 600)
    assert net.host.mib.ip.FragFails == 1
    net.inject(IP(src=PEER, dst=BEYOND, id=5) / UDP(sport=1, dport=2) / Raw(bytes(1000)))
    parts = net.ip_sent(wire=1)
    assert len(parts) == 2
    assert sum(len(p.payload) for p in parts) == 1008
    assert {p.id for p in parts} == {5}


def test_redirect_to_a_neighbour_of_the_sender(net: Net) -> None:
    net.host.route_add("192.0.2.0/24", via=GW)
    for _ in range(3):
        net.inject(IP(src=PEER, dst="192.0.2.9") / UDP(sport=1, dport=2))
    sent = net.ip_sent()
    redirects = [p for p in sent if ICMP in p]
    forwarded = [p for p in sent if ICMP not in p]
    assert len(forwarded) == 3
    assert len(redirects) == 1
    assert (redirects[0][ICMP].type, redirects[0][ICMP].gw) == (5, GW)


def test_redirects_can_be_switched_off() -> None:
    net = router(send_redirects=0)
    net.host.route_add("192.0.2.0/24", via=GW)
    net.inject(IP(src=PEER, dst="192.0.2.9") / UDP(sport=1, dport=2))
    assert [ICMP in p for p in net.ip_sent()] == [False]


@pytest.mark.parametrize(("rtype", "code"), [(RTN_UNREACHABLE, 1), (RTN_PROHIBIT, 13), (None, 0)])
def test_no_route_is_answered(net: Net, rtype: int | None, code: int) -> None:
    if rtype is not None:
        net.host.route_add("192.0.2.0/24", rtype=rtype)
    net.inject(IP(src=PEER, dst="192.0.2.9") / UDP(sport=1, dport=2))
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (3, code)


def test_forward_hook_can_drop(net: Net) -> None:
    seen = []

    def hook(skb, state):
        seen.append((state.indev.name, state.outdev.name))
        return NF_DROP

    nf_register_net_hook(net.host, NF_INET_FORWARD, hook)
    net.inject(IP(src=PEER, dst=BEYOND) / UDP(sport=1, dport=2))
    assert seen == [("eth0", "eth1")]
    assert net.ip_sent(wire=1) == []
    assert net.host.skb_small.in_use == 0


def test_link_broadcast_and_multicast_frames_are_not_forwarded(net: Net) -> None:
    net.inject(IP(src=PEER, dst=BEYOND) / UDP(sport=1, dport=2), dst=b"\xff" * 6)
    assert net.ip_sent(wire=1) == []


def test_record_route_takes_the_outgoing_address(net: Net) -> None:
    net.inject(
        IP(src=PEER, dst=BEYOND, options=[IPOption_RR(routers=["0.0.0.0"] * 3)])
        / UDP(sport=1, dport=2)
    )
    (packet,) = net.ip_sent(wire=1)
    assert packet.options[0].routers[0] == OUT


def test_record_route_takes_the_address_that_the_route_prefers(net: Net) -> None:
    net.host.route_add("192.0.2.0/24", via=BEYOND, src=ME)
    header = IP(src=PEER, dst="192.0.2.9", options=[IPOption_RR(routers=["0.0.0.0"] * 3)])
    net.inject(header / UDP(sport=1, dport=2))
    (packet,) = net.ip_sent(wire=1)
    assert packet.options[0].routers[0] == ME


def test_a_bound_socket_takes_router_alerts_of_its_device_only(net: Net) -> None:
    raw = sys_socket(net.host, AF_INET, SOCK_RAW, IPPROTO_UDP)
    sys_setsockopt(net.host, raw, SOL_IP, IP_ROUTER_ALERT, 1)
    sys_setsockopt(net.host, raw, SOL_SOCKET, SO_BINDTODEVICE, b"eth1")
    alert = IP(src=PEER, dst=BEYOND, options=[IPOption_Router_Alert()]) / UDP(sport=1, dport=2)
    net.inject(alert)
    assert len(net.ip_sent(wire=1)) == 1
    net.inject(alert, wire=1)
    assert sys_recv(net.host, raw, bytearray(99), MSG_DONTWAIT) == 32
    assert net.ip_sent(wire=1) == []


def test_source_routes_are_dropped_by_default_and_followed_when_allowed() -> None:
    header = IP(src=PEER, dst=ME, options=[IPOption_LSRR(routers=[BEYOND])])
    packet = IP(bytes(header / UDP(sport=1, dport=2)))
    net = router()
    net.inject(packet)
    assert net.ip_sent(wire=1) == []
    net = router(accept_source_route=1)
    net.inject(packet)
    # scapy would judge the checksum by the option's last slot, which is a recorded hop by now.
    (frame,) = net.frames(wire=1)
    out = IP(frame[14:])
    assert out.dst == BEYOND
    assert bytes(out[UDP]) == bytes(packet[UDP])
    assert out.options[0].routers == [OUT]
    assert out.options[0].pointer == 8


def test_strict_source_route_through_a_gateway_fails() -> None:
    net = router(accept_source_route=1)
    net.host.route_add("192.0.2.0/24", via=BEYOND)
    net.inject(
        IP(src=PEER, dst=ME, options=[IPOption_SSRR(routers=["192.0.2.9"])]) / UDP(sport=1, dport=2)
    )
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (3, 5)


def test_fragments_are_forwarded_as_they_are(net: Net) -> None:
    for off, more in ((0, 1), (10, 0)):
        net.inject(IP(src=PEER, dst=BEYOND, proto=17, id=3, frag=off, flags=more) / Raw(bytes(80)))
    assert [(p.frag, int(p.flags)) for p in net.ip_sent(wire=1)] == [(0, 1), (10, 0)]


def test_priority_follows_tos() -> None:
    assert [rt_tos2priority(t) for t in (0, 0x10, 0x08, 0x02)] == [0, 6, 2, 1]


def test_unanswered_next_hop_is_host_unreachable(net: Net) -> None:
    net.inject(IP(src=PEER, dst="10.1.0.77") / UDP(sport=1, dport=2))
    net.run(5 * 10**9)
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (3, 1)
