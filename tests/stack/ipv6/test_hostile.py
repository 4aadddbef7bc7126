"""Hostile IPv6: bounded time and memory, a named reason for each drop, nothing left behind."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6ND_Redirect, ICMPv6PacketTooBig, IPv6
from scapy.packet import Raw

from fastpath.base.skbuff import SkbPool
from stack.ipv6.addr import format_addr6
from stack.ipv6.ip6_fib import fib6_get_table
from tests.stack.ipv6.conformance import (
    DEST,
    FRAGMENT,
    HOP,
    ICMPV6,
    ROUTING,
    echo,
    fragment,
    opt,
    options,
    pieces,
    routing,
    v6,
)
from tests.stack.ipv6.net import FAR, GW, ME, PEER, SEC, Net6, ip6, one_host6
from tests.support import examples

BIG = echo(data=bytes(i * 7 & 255 for i in range(1200)))


def in_use(net: Net6) -> int:
    """Packet buffers that somebody holds."""
    pools: list[SkbPool] = [net.host.skb_small, net.host.skb_pages, net.host.skb_small_head]
    return sum(pool.in_use for pool in pools)


def only(net: Net6, *reasons: str) -> None:
    """The drops have these names and no other."""
    names = {name.removeprefix("SKB_DROP_REASON_") for name in net.drops()}
    assert names == set(reasons)


# --- fragments -----------------------------------------------------------------------------


def test_a_flood_of_first_fragments_stops_at_the_memory_limit() -> None:
    net = one_host6(
        sysctl={"net.ipv6.ip6frag_low_thresh": 0, "net.ipv6.ip6frag_high_thresh": 60000}
    )
    for ident in range(400):
        net.inject(v6(FRAGMENT, fragment(ICMPV6, 0, True, ident, BIG[:800])))
    frags = net.host.ipv6.frags
    assert 60000 < frags.mem < 64000
    assert len(frags.queues) < 40
    only(net, "NOMEM")
    net.inject(v6(FRAGMENT, fragment(ICMPV6, 800, False, 0, BIG[800:])))
    assert net.ip_sent() == []
    net.run(61 * SEC)
    assert (frags.mem, frags.queues) == (0, {})
    only(net, "NOMEM", "FRAG_REASM_TIMEOUT")


def test_tiny_fragments_are_joined_within_the_limit(net: Net6) -> None:
    """8 bytes each: 150 of them make the packet, and nothing is left."""
    before = in_use(net)
    for piece in reversed(pieces(BIG, range(8, len(BIG), 8))):
        net.inject(piece)
    (reply,) = net.ip_sent()
    assert bytes(reply[ICMPv6EchoReply].data) == BIG[8:]
    assert in_use(net) == before


def test_teardrop_and_every_other_overlap_drop_the_packet(net: Net6) -> None:
    for ident, (a, b, c, d) in enumerate(
        [(0, 800, 400, 1208), (400, 1208, 0, 808), (0, 808, 800, 1208)]
    ):
        net.inject(v6(FRAGMENT, fragment(ICMPV6, a, b < 1208, ident, BIG[a:b])))
        net.inject(v6(FRAGMENT, fragment(ICMPV6, c, d < 1208, ident, BIG[c:d])))
    only(net, "FRAG_OVERLAP")
    assert net.ip_sent() == []
    assert net.host.ipv6.frags.mem == 0


@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_fragments_in_any_order_with_repeats_give_the_packet_once(data: Any) -> None:
    net = one_host6()
    before = in_use(net)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(BIG) // 8 - 1), min_size=1, max_size=12)))
    whole = pieces(BIG, [c * 8 for c in cuts])
    repeats = data.draw(st.lists(st.sampled_from(whole[:-1]), max_size=4))
    order = data.draw(st.permutations(whole))
    for n, piece in enumerate(order[:-1]):
        net.inject(piece)
        if n < len(repeats) and repeats[n] in order[: n + 1]:
            net.inject(repeats[n])
    assert net.ip_sent() == []
    net.inject(order[-1])
    (reply,) = net.ip_sent()
    assert bytes(reply[ICMPv6EchoReply].data) == BIG[8:]
    assert in_use(net) == before


@settings(max_examples=examples(80), deadline=None)
@given(data=st.data())
def test_an_overlap_never_delivers_wrong_bytes(data: Any) -> None:
    net = one_host6()
    cuts = [320, 640, 960]
    whole = pieces(BIG, cuts)
    start = data.draw(st.integers(0, 140)) * 8
    size = data.draw(st.integers(1, 40)) * 8
    evil = v6(FRAGMENT, fragment(ICMPV6, start, start + size < 1208, 7, b"\xee" * size))
    for piece in data.draw(st.permutations([*whole, evil])):
        net.inject(piece)
    for reply in net.ip_sent():
        if reply.nh == ICMPV6 and ICMPv6EchoReply in reply:
            assert bytes(reply[ICMPv6EchoReply].data) == BIG[8:]
    net.run(61 * SEC)
    assert net.host.ipv6.frags.mem == 0


# --- chains and lies -----------------------------------------------------------------------


def test_a_chain_of_extension_headers_as_long_as_the_packet(net: Net6) -> None:
    """180 headers of 8 bytes: walked once, answered."""
    chain = b"".join(options(DEST, b"") for _ in range(179)) + options(ICMPV6, b"")
    net.inject(v6(DEST, chain + echo()))
    assert len(net.ip_sent()) == 1


def test_a_chain_with_an_end_that_is_not_there(net: Net6) -> None:
    net.inject(v6(DEST, b"".join(options(DEST, b"") for _ in range(180))))
    only(net, "IPV6_BAD_EXTHDR")


def test_a_header_full_of_options_ends_at_the_limit(net: Net6) -> None:
    for nexthdr in (HOP, DEST):
        net.inject(v6(nexthdr, options(ICMPV6, opt(0x1E) * 9) + echo()))
        net.inject(v6(nexthdr, options(ICMPV6, opt(0x1E) * 8) + echo()))
    only(net, "IP_INHDR")
    assert len(net.ip_sent()) == 2


def test_routing_headers_one_after_the_other_lead_nowhere() -> None:
    """RFC 5095: the amplification that type 0 made possible."""
    net = one_host6(sysctl={"net.ipv6.conf.all.forwarding": 1})
    stops = [PEER, ME] * 10
    net.inject(v6(ROUTING, routing(ICMPV6, 0, len(stops), stops) + echo()))
    only(net, "IPV6_BAD_EXTHDR")
    assert [p.dst for p in net.ip_sent()] == [PEER]  # one parameter problem


@pytest.mark.parametrize("size", [0, 65535, 65536, 70000, 2**32 - 1])
@pytest.mark.parametrize("plen", [0, 24])
def test_jumbo_lies(size: int, plen: int, net: Net6) -> None:
    lie = options(ICMPV6, opt(0xC2, size.to_bytes(4, "big")))
    net.inject(v6(HOP, lie + echo(), plen=plen))
    assert set(net.drops()) <= {"SKB_DROP_REASON_IP_INHDR", "SKB_DROP_REASON_PKT_TOO_SMALL"}
    assert sum(net.drops().values()) == 1


# --- spoofed errors ------------------------------------------------------------------------


def test_a_flood_of_packet_too_big_keeps_to_the_limit() -> None:
    net = one_host6(sysctl={"net.ipv6.route.max_size": 64})
    net.host.route_add("::/0", via=GW)
    for n in range(500):
        inner = bytes(IPv6(src=ME, dst=f"2001:db8:ffff::{n:x}") / ICMPv6EchoReply())
        net.inject(IPv6(src=GW, dst=ME) / ICMPv6PacketTooBig(mtu=1280) / Raw(inner))
    assert net.host.ipv6.rt6_exceptions == 64
    kept = sum(len(r.fib6_nh.exceptions) for r in fib6_get_table(net.host, 254).routes())
    assert kept == 64
    net.run(700 * SEC)
    assert net.host.ipv6.rt6_exceptions == 0


@pytest.mark.parametrize("mtu", [0, 1, 68, 1279])
def test_packet_too_big_below_1280_makes_no_small_packets(mtu: int, net: Net6) -> None:
    inner = bytes(IPv6(src=ME, dst=PEER) / ICMPv6EchoReply(data=bytes(1200)))
    net.inject(IPv6(src=GW, dst=ME) / ICMPv6PacketTooBig(mtu=mtu) / Raw(inner))
    net.inject(v6(ICMPV6, echo(data=bytes(1200))))
    (reply,) = net.ip_sent()
    assert len(bytes(reply)) == 1248


def test_a_redirect_of_who_is_not_the_router_is_ignored(net: Net6) -> None:
    """RFC 4861 8.1: from another link-local address, and from beyond the link."""
    net.host.route_add("::/0", via="fe80::fe", dev="eth0")
    for src in ("fe80::66", GW):
        redirect = ICMPv6ND_Redirect(tgt="fe80::66", dst=FAR)
        inner = bytes(IPv6(src=ME, dst=FAR) / ICMPv6EchoReply())
        net.inject(IPv6(src=src, dst=ME, hlim=255) / redirect / Raw(inner))
    assert net.host.ipv6.rt6_exceptions == 0


def test_errors_that_echo_make_no_storm(net: Net6) -> None:
    """An error about each packet: at most what the buckets hold."""
    for n in range(300):
        net.inject(v6(253, bytes(8), src=format_addr6(ip6(PEER) + n)))
    assert len(net.ip_sent()) <= 60
    assert net.host.mib.icmp.OutRateLimitGlobal >= 240


# --- anything ------------------------------------------------------------------------------


@settings(max_examples=examples(300), deadline=None)
@given(
    nexthdr=st.sampled_from([0, 43, 44, 50, 51, 58, 59, 60, 135, 253]),
    body=st.binary(max_size=200),
    dst=st.sampled_from([ME, "ff02::1", "fe80::1"]),
    plen=st.none() | st.integers(0, 0xFFFF),
)
def test_any_bytes_behind_the_header(nexthdr: int, body: bytes, dst: str, plen: int | None) -> None:
    """Nothing raises, nothing stays."""
    net = one_host6()
    before = in_use(net)
    net.inject(v6(nexthdr, body, dst=dst, **({} if plen is None else {"plen": plen})))
    net.run(62 * SEC)
    net.all_sent()
    assert in_use(net) == before


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_any_chain_of_headers(data: Any) -> None:
    """Headers of every kind, well formed and not, in any order."""
    net = one_host6()
    before = in_use(net)
    body = echo()
    nexthdr = ICMPV6
    for kind in data.draw(st.lists(st.sampled_from([HOP, DEST, ROUTING, FRAGMENT]), max_size=6)):
        if kind in (HOP, DEST):
            body = options(nexthdr, data.draw(st.binary(max_size=20))) + body
        elif kind == ROUTING:
            left = data.draw(st.integers(0, 2))
            body = routing(nexthdr, data.draw(st.integers(0, 255)), left, [ME]) + body
        else:
            body = fragment(
                nexthdr, data.draw(st.integers(0, 8)) * 8, data.draw(st.booleans()), 1, body
            )
        nexthdr = kind
    net.inject(v6(nexthdr, body))
    net.run(62 * SEC)
    assert in_use(net) == before
