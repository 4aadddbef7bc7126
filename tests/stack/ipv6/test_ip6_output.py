"""Sending: extension headers (RFC 8200 4.1), fragments of them, groups, hooks, hop limits."""

from __future__ import annotations

import errno
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    defragment6,
)

from fastpath.base.skbuff import alloc_skb, kfree_skb, skb_from_bytes, skb_put_data
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV6,
    nf_register_net_hook,
)
from stack.core.uapi import AF_INET6
from stack.inet.flow import flowi
from stack.inet.icmp_limit import icmp_bxm
from stack.inet.inet_sock import inet_sock
from stack.ipv6.icmp_send import icmpv6_transmit
from stack.ipv6.ip6_append import ipcm6_init_sk
from stack.ipv6.ip6_output import ip6_xmit
from stack.ipv6.pinfo import ipv6_pinfo
from stack.ipv6.route import ip6_route_output_flow
from stack.ipv6.txoptions import fl6_update_dst, ipv6_txoptions
from tests.stack.ipv6.conformance import ICMPV6, echo, opt, options, routing, v6
from tests.stack.ipv6.net import BEYOND, GW, ME, PEER, Net6, ip6, one_host6
from tests.support import examples

HOPS = options(0, opt(0x1E, b"hop"))
DST0 = options(0, opt(0x1E, b"on the way"))
DST1 = options(0, opt(0x1E, b"end"))
ALL = ipv6_txoptions(HOPS, DST0, routing(0, 0, 2, [GW, BEYOND]), DST1)


def send(net: Net6, size: int = 8, to: str = PEER, *, oif: int = 0, **cookie: Any) -> list[Any]:
    """Send an echo request of `size` bytes; the packets as scapy reads them."""
    host = net.host
    fl6 = flowi(AF_INET6, ip6(to), flowi_oif=oif, flowi_proto=58, fl_sport=128)
    opts: ipv6_txoptions | None = cookie.get("opt")
    first = fl6_update_dst(fl6.daddr, opts)
    fl6.daddr = first or fl6.daddr
    rt = ip6_route_output_flow(host, fl6)
    fl6.daddr = ip6(to)
    skb = skb_from_bytes(host.skb_pages, bytes(i & 255 for i in range(size)))
    assert skb is not None
    ipc6 = ipcm6_init_sk(host.ipv6.icmp_sk)
    for name, value in cookie.items():
        setattr(ipc6, name, value)
    msg = icmp_bxm(128, 0, 0x10002, skb, 0)
    icmpv6_transmit(host.ipv6.icmp_sk, msg, size, ipc6, fl6, rt)
    kfree_skb(skb)
    net.run(1000)
    return [IPv6(frame[14:]) for frame in net.frames()]


def kinds(packet: Any) -> list[str]:
    return [layer.__name__ for layer in packet.layers()]


def test_extension_headers_stand_in_the_order_of_rfc_8200() -> None:
    (packet,) = send(one_host6(), opt=ALL)
    assert kinds(packet)[:5] == [
        "IPv6",
        "IPv6ExtHdrHopByHop",
        "IPv6ExtHdrDestOpt",
        "IPv6ExtHdrRouting",
        "IPv6ExtHdrDestOpt",
    ]
    assert ICMPv6EchoRequest in packet
    assert packet.plen == len(bytes(packet)) - 40


def test_a_routing_header_sends_to_its_first_hop_and_keeps_the_end_for_last() -> None:
    (packet,) = send(one_host6(), opt=ipv6_txoptions(srcrt=ALL.srcrt))
    assert packet.dst == GW
    assert packet[IPv6ExtHdrRouting].addresses == [BEYOND, PEER]
    # RFC 8200 8.1: the sum is over the last stop.
    whole = IPv6(src=packet.src, dst=PEER) / packet[ICMPv6EchoRequest]
    del whole[ICMPv6EchoRequest].cksum
    assert IPv6(bytes(whole))[ICMPv6EchoRequest].cksum == packet[ICMPv6EchoRequest].cksum


def test_each_fragment_has_the_headers_for_the_way_and_the_first_those_for_the_end() -> None:
    sent = send(one_host6(), 4000, opt=ALL)
    assert len(sent) == 3
    for packet in sent:
        assert kinds(packet)[:5] == [
            "IPv6",
            "IPv6ExtHdrHopByHop",
            "IPv6ExtHdrDestOpt",
            "IPv6ExtHdrRouting",
            "IPv6ExtHdrFragment",
        ]
        assert len(bytes(packet)) <= 1500
    assert sent[0][IPv6ExtHdrFragment].nh == 60
    assert len({p[IPv6ExtHdrFragment].id for p in sent}) == 1


@settings(max_examples=examples(40), deadline=None)
@given(size=st.integers(0, 65507), mtu=st.integers(1280, 1500))
def test_scapy_puts_our_fragments_together(size: int, mtu: int) -> None:
    net = one_host6()
    net.host.sysctl["net.ipv6.conf.eth0.mtu"] = mtu
    sent = send(net, size)
    assert all(len(bytes(p)) <= mtu for p in sent)
    if len(sent) > 1:
        assert all(p[IPv6ExtHdrFragment].id for p in sent)
        whole = defragment6(sent)
    else:
        whole = sent[0]
    request = IPv6(bytes(whole))[ICMPv6EchoRequest]
    assert bytes(request.data) == bytes(i & 255 for i in range(size))


def test_identifications_are_not_to_be_guessed(net: Net6) -> None:
    """RFC 7739: no sequence, none twice."""
    idents = [send(net, 2000)[0][IPv6ExtHdrFragment].id for _ in range(50)]
    assert len(set(idents)) == 50
    steps = {b - a for a, b in pairwise(idents)}
    assert len(steps) == 49


def test_dont_fragment_refuses_what_is_too_big(net: Net6) -> None:
    assert send(net, 2000, dontfrag=True) == []
    assert net.host.mib.icmp6.OutErrors == 1
    assert len(send(net, 1400, dontfrag=True)) == 1


def test_hop_limit_and_traffic_class_of_the_message() -> None:
    (packet,) = send(one_host6(), hlimit=9, tclass=0xB8)
    assert (packet.hlim, packet.tc) == (9, 0xB8)


def test_hop_limit_of_the_route_of_the_interface_and_of_groups(net: Net6) -> None:
    net.host.route_add("2001:db8:ffff::/48", via=GW, hoplimit=33)
    oif = net.wire.dev.ifindex
    assert send(net, to="2001:db8:ffff::1")[0].hlim == 33
    assert send(net)[0].hlim == 64
    net.host.sysctl["net.ipv6.conf.eth0.hop_limit"] = 20
    assert send(net)[0].hlim == 20
    assert send(net, to="ff02::1", oif=oif)[0].hlim == 1


def test_what_we_send_to_a_group_of_ours_we_hear(net: Net6) -> None:
    """And answer: our request to all nodes reaches ourselves."""
    sent = send(net, to="ff02::1", oif=net.wire.dev.ifindex)
    assert [p.dst for p in sent] == ["ff02::1"]
    assert net.host.mib.icmp6msg.intype[128] == 1


def test_hop_limit_0_to_a_group_stays_in_the_host(net: Net6) -> None:
    assert send(net, to="ff02::1", oif=net.wire.dev.ifindex, hlimit=0) == []
    assert net.host.mib.icmp6msg.intype[128] == 1


def test_interface_local_groups_stay_in_the_host(net: Net6) -> None:
    assert send(net, to="ff01::1", oif=net.wire.dev.ifindex) == []


def test_to_ourselves_over_lo(net: Net6) -> None:
    for to in (ME, "::1"):
        assert send(net, 20000, to=to) == []
    assert net.host.mib.icmp6msg.intype == {128: 2, 129: 2}
    assert net.drops() == {}


def transport(net: Net6, size: int, **np: Any) -> tuple[int, list[Any]]:
    """A transport's segment through ip6_xmit: what it returns, and what was sent."""
    sk = inet_sock(net.host)
    sk.pinet6 = ipv6_pinfo(**np)
    fl6 = flowi(AF_INET6, ip6(PEER), flowi_proto=253)
    rt = ip6_route_output_flow(net.host, fl6)
    skb = alloc_skb(net.host.skb_pages, size, 128)
    assert skb is not None
    skb_put_data(skb, bytes(size))
    skb.dst = rt
    err = ip6_xmit(sk, skb, fl6, 0, None, 0x20, 0)
    net.run(1000)
    return err, [IPv6(frame[14:]) for frame in net.frames()]


def test_ip6_xmit_sends_what_fits_and_refuses_the_rest(net: Net6) -> None:
    err, (packet,) = transport(net, 1460, hop_limit=5)
    assert (err, packet.nh, packet.hlim, packet.tc, packet.plen) == (0, 253, 5, 0x20, 1460)
    told = []
    net.host.ipv6.sockets.local_error = lambda sk, err, fl6, info: told.append((err, info))
    assert transport(net, 1461) == (-errno.EMSGSIZE, [])
    assert told == [(errno.EMSGSIZE, 1500)]
    assert net.mib()["FragFails"] == 1


@pytest.mark.parametrize(
    "hook",
    [NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING],
    ids=["pre", "out", "post"],
)
def test_hooks_see_packets_and_drop_them(hook: int, net: Net6) -> None:
    seen = []

    def look(skb: Any, state: Any) -> int:
        seen.append(skb.protocol)
        return NF_DROP if len(seen) > 1 else NF_ACCEPT

    nf_register_net_hook(net.host, hook, look, NFPROTO_IPV6)
    for _ in range(2):
        net.inject(v6(ICMPV6, echo()))
    assert len(net.ip_sent()) == 1
    assert seen == [0x86DD, 0x86DD]
    assert net.drops() == {"SKB_DROP_REASON_NETFILTER_DROP": 1}


def test_options_headers_are_read_by_scapy() -> None:
    (packet,) = send(one_host6(), opt=ipv6_txoptions(hopopt=HOPS, dst1opt=DST1))
    assert bytes(packet[IPv6ExtHdrHopByHop].options[0].optdata) == b"hop"
    assert bytes(packet[IPv6ExtHdrDestOpt].options[0].optdata) == b"end"
