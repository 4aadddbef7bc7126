"""Conformance to RFC 4443 (ICMPv6) and 8201 (path MTU): packets in, packets out."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Raw

from stack.core.uapi import RTN_BLACKHOLE, RTN_PROHIBIT, RTN_UNREACHABLE
from tests.stack.ipv6.conformance import DEST, HOP, ICMPV6, Packet, Row, echo, opt, options, run, v6
from tests.stack.ipv6.net import BEYOND, FAR, GW, ME, OUT, PEER, SEC, Net6, one_host6

GROUP = "ff02::1"
BCAST = b"\xff" * 6
UNKNOWN = v6(253, bytes(8))


def icmp(message: Any, src: str = PEER, dst: str = ME, hlim: int = 64) -> bytes:
    """An IPv6 packet with a message of scapy's."""
    return bytes(IPv6(src=src, dst=dst, hlim=hlim) / message)


def about(message: Any, inner: bytes, src: str = GW) -> bytes:
    """An ICMPv6 error about the packet `inner`."""
    return icmp(message / Raw(inner), src)


def add(prefix: str, **how: Any) -> Any:
    """Prepare: a route more."""
    return lambda net: net.host.route_add(prefix, **how)


def cut(mtu: int) -> Any:
    """Prepare: the second link takes `mtu` bytes."""
    return lambda net: net.wires[1].dev.ip6_ptr.cnf.store("mtu", mtu)


def far(src: str = PEER, size: int = 4, hlim: int = 64) -> bytes:
    return v6(ICMPV6, echo(src, FAR, bytes(size)), src, FAR, hlim)


def through(size: int = 4, src: str = PEER) -> bytes:
    return v6(ICMPV6, echo(src, BEYOND, bytes(size)), src, BEYOND)


GENERAL = [
    Row(
        "RFC 4443 2.3",
        "a wrong checksum",
        [v6(ICMPV6, b"\x80\0\x12\x34" + bytes(8))],
        [],
        ["ICMP_CSUM"],
    ),
    Row("RFC 4443 2.3", "no checksum", [v6(ICMPV6, b"\x80\0\0\0" + bytes(8))], [], ["ICMP_CSUM"]),
    Row("RFC 4443 2.1", "shorter than its header", [v6(ICMPV6, b"\x80\0\0")], [], ["ICMP_CSUM"]),
    Row(
        "RFC 4443 2.4 (a)",
        "an error of an unknown type is taken",
        [about(ICMPv6DestUnreach(type=101), UNKNOWN)],
        [],
    ),
    Row(
        "RFC 4443 2.4 (b)",
        "information of an unknown type is dropped",
        [icmp(ICMPv6EchoRequest(type=200))],
        [],
    ),
    Row(
        "RFC 4443 2.4 (e.1)",
        "no error about an error",
        [v6(DEST, options(ICMPV6, opt(0x9E)) + icmp(ICMPv6DestUnreach() / Raw(bytes(48)))[40:])],
        [],
        ["UNHANDLED_PROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.1)",
        "but about an echo",
        [v6(DEST, options(ICMPV6, opt(0x9E)) + echo())],
        ["problem 2@42"],
        ["UNHANDLED_PROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.2)",
        "an error about a redirect, as on Linux",
        [v6(DEST, options(ICMPV6, opt(0x9E)) + b"\x89\0\0\0" + bytes(36))],
        ["problem 2@42"],
        ["UNHANDLED_PROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.3)",
        "no error to a group's packet",
        [v6(253, bytes(8), dst=GROUP)],
        [],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.3)",
        "but about an option that asks for it",
        [v6(DEST, options(ICMPV6, opt(0x9E)) + echo(dst=GROUP), dst=GROUP)],
        ["problem 2@42"],
        ["UNHANDLED_PROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.4)",
        "no error to a link-layer group's packet",
        [Packet(UNKNOWN, mac=b"\x33\x33\0\0\0\1")],
        [],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.5)",
        "no error to a link-layer broadcast",
        [Packet(UNKNOWN, mac=BCAST)],
        [],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 4443 2.4 (e.6)",
        "no error to nobody",
        [v6(253, bytes(8), src="::")],
        [],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 4443 2.4 (f)",
        "six at once to one peer, then as time allows",
        [UNKNOWN] * 9 + [Packet(UNKNOWN, wait_ns=SEC)],
        ["problem 1@6"] * 7,
        ["IP_NOPROTO"],
        sysctl={"net.ipv6.icmp.ratelimit": 2000},
    ),
    Row(
        "RFC 4443 2.4 (f)",
        "no limit",
        [UNKNOWN] * 12,
        ["problem 1@6"] * 12,
        ["IP_NOPROTO"],
        sysctl={"net.ipv6.icmp.ratelimit": 0},
    ),
    Row("RFC 4443 2.4 (f)", "answers are not limited", [v6(ICMPV6, echo())] * 60, ["reply 4"] * 60),
]

ERRORS = [
    Row(
        "RFC 4443 3.1",
        "code 0: no route",
        [far()],
        ["unreachable 0"],
        ["IP_INNOROUTES"],
        router=True,
    ),
    Row(
        "RFC 4443 3.1",
        "code 0: an unreachable route",
        [far()],
        ["unreachable 0"],
        ["IP_INNOROUTES"],
        router=True,
        prepare=add("2001:db8:ffff::/48", rtype=RTN_UNREACHABLE),
    ),
    Row(
        "RFC 4443 3.1",
        "code 1: prohibited",
        [far()],
        ["unreachable 1"],
        ["IP_INNOROUTES"],
        router=True,
        prepare=add("2001:db8:ffff::/48", rtype=RTN_PROHIBIT),
    ),
    Row(
        "RFC 4443 3.1",
        "a black hole says nothing",
        [far()],
        [],
        ["IP_INNOROUTES"],
        router=True,
        prepare=add("2001:db8:ffff::/48", rtype=RTN_BLACKHOLE),
    ),
    Row(
        "RFC 4443 3.1",
        "code 2: beyond the source's scope",
        [through(src="fe80::2")],
        ["unreachable 2"],
        ["IP_INADDRERRORS"],
        router=True,
    ),
    Row(
        "RFC 4443 3.2",
        "too big for the next link",
        [through(1400)],
        ["too big 1280"],
        ["PKT_TOO_BIG"],
        router=True,
        prepare=cut(1280),
    ),
    Row(
        "RFC 4443 3.2",
        "just right",
        [through(1232)],
        ["1:forwarded 63"],
        router=True,
        prepare=cut(1280),
    ),
    Row(
        "RFC 4443 3.2",
        "one byte more",
        [through(1233)],
        ["too big 1280"],
        ["PKT_TOO_BIG"],
        router=True,
        prepare=cut(1280),
    ),
    Row(
        "RFC 4443 3.2",
        "never limited by default",
        [through(1400)] * 20,
        ["too big 1280"] * 20,
        ["PKT_TOO_BIG"],
        router=True,
        prepare=cut(1280),
    ),
    Row(
        "RFC 4443 3.2",
        "a route's own MTU",
        [far(size=1400)],
        ["too big 1300"],
        ["PKT_TOO_BIG"],
        router=True,
        prepare=add("2001:db8:ffff::/48", via=BEYOND, mtu=1300),
    ),
    Row(
        "RFC 4443 3.3",
        "hop limit at its end",
        [v6(ICMPV6, echo(dst=BEYOND), dst=BEYOND, hlim=1)],
        ["exceeded 0"],
        ["IP_INHDR"],
        router=True,
    ),
    Row(
        "RFC 4443 3.4",
        "code 0 names the byte",
        [v6(HOP, options(ICMPV6, opt(0xC2, (9).to_bytes(4, "big"))) + echo(), plen=0)],
        ["problem 0@44"],
        ["IP_INHDR"],
    ),
    Row("RFC 4443 3.4", "code 1 names the byte", [UNKNOWN], ["problem 1@6"], ["IP_NOPROTO"]),
    Row(
        "RFC 4443 3.4",
        "code 2 names the byte",
        [v6(DEST, options(ICMPV6, opt(0x9E)) + echo())],
        ["problem 2@42"],
        ["UNHANDLED_PROTO"],
    ),
]

ECHO = [
    Row(
        "RFC 4443 4.2",
        f"{size} bytes come back",
        [v6(ICMPV6, echo(data=bytes(size)))],
        [f"reply {size}"],
    )
    for size in (0, 1, 56, 1452)
] + [
    Row("RFC 4443 4.2", "to a group", [v6(ICMPV6, echo(dst=GROUP), dst=GROUP)], ["reply 4"]),
    Row(
        "RFC 4443 4.2",
        "not to a group, if so set",
        [v6(ICMPV6, echo(dst=GROUP), dst=GROUP)],
        [],
        ["INVALID_PROTO"],
        sysctl={"net.ipv6.icmp.echo_ignore_multicast": 1},
    ),
    Row(
        "RFC 4443 4.2",
        "not at all, if so set",
        [v6(ICMPV6, echo())],
        [],
        sysctl={"net.ipv6.icmp.echo_ignore_all": 1},
    ),
    Row("RFC 4443 4.2", "an answer to nobody's question", [icmp(ICMPv6EchoReply())], []),
    Row(
        "RFC 4443 4.2",
        "from nobody",
        [v6(ICMPV6, echo(src="::"), src="::")],
        [],
        ["IP_INADDRERRORS"],
    ),
    Row(
        "RFC 4443 4.2",
        "of another interface of ours",
        [v6(ICMPV6, echo(dst=OUT), dst=OUT)],
        ["reply 4"],
        router=True,
    ),
    Row(
        "RFC 4443 4.1",
        "any code is taken",
        [icmp(ICMPv6EchoRequest(code=9, data=b"x"))],
        ["reply 1"],
    ),
]

MALFORMED = [
    Row("RFC 4443 3", f"type {kind}: nothing quoted", [v6(ICMPV6, body)], [], ["ICMP_CSUM"])
    for kind, body in ((1, b"\x01\0\0\0" + bytes(4)), (2, b"\x02\0\0\0" + bytes(4)))
] + [
    Row(
        "RFC 4443 3",
        "too little quoted",
        [about(ICMPv6DestUnreach(), v6(17, b"")[:20])],
        [],
        ["PKT_TOO_SMALL"],
    ),
    Row(
        "RFC 4443 3",
        "half a transport header quoted",
        [about(ICMPv6DestUnreach(), v6(17, bytes(4), ME, PEER))],
        [],
        ["PKT_TOO_SMALL"],
    ),
    Row(
        "RFC 4443 3",
        "a chain that ends nowhere quoted",
        [about(ICMPv6ParamProblem(), v6(DEST, b"\x3c\x50" + bytes(6), ME, PEER))],
        [],
        ["IPV6_BAD_EXTHDR"],
    ),
    Row(
        "RFC 4443 3",
        "an error about a protocol that is not there",
        [about(ICMPv6TimeExceeded(), v6(200, bytes(8), ME, PEER))],
        [],
    ),
]

TABLE = [*GENERAL, *ERRORS, *ECHO, *MALFORMED]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    run(row)


def test_the_table_has_its_size_and_no_law_twice() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) >= 45


# --- what a row cannot say -----------------------------------------------------------------


def test_an_error_quotes_as_much_as_fits_1280_bytes(net: Net6) -> None:
    """RFC 4443 2.4 (c)"""
    sent = v6(253, bytes(range(256)) * 5)
    net.inject(sent)
    (error,) = net.ip_sent()
    assert len(bytes(error)) == 1280
    assert bytes(error)[48:] == sent[: 1280 - 48]


def test_an_error_comes_from_the_address_that_was_meant(net: Net6) -> None:
    """RFC 4443 2.2 (a), (b)"""
    net.inject(UNKNOWN)
    assert net.ip_sent()[0].src == ME
    net.inject(v6(DEST, options(ICMPV6, opt(0x9E)) + echo(dst=GROUP), dst=GROUP))
    assert net.ip_sent()[0].src == ME  # a group is no source: a unicast address of the interface


def test_a_router_reports_from_the_interface_towards_the_sender() -> None:
    """RFC 4443 2.2 (c)"""
    net = run(Row("", "", [through()], ["1:forwarded 63"], router=True))
    net.inject(v6(ICMPV6, echo(dst=BEYOND), dst=BEYOND, hlim=1))
    (error,) = net.ip_sent()
    assert (error.src, error.dst) == (ME, PEER)


def path_mtu(net: Net6, size: int = 1452) -> int:
    """Length of the largest packet of an answer to an echo request of `size` bytes."""
    net.inject(v6(ICMPV6, echo(data=bytes(size))))
    return max(len(bytes(p)) for p in net.ip_sent())


def too_big(mtu: int, dst: str = PEER, src: str = ME) -> bytes:
    return about(
        ICMPv6PacketTooBig(mtu=mtu), icmp(ICMPv6EchoReply(data=bytes(1400)), src, dst)[:1000]
    )


@pytest.mark.parametrize(
    ("said", "then"), [(1400, 1400), (1281, 1280), (1280, 1280), (600, 1500), (0, 1500)]
)
def test_packet_too_big_lowers_the_path_mtu_to_1280_at_the_least(
    said: int, then: int, net: Net6
) -> None:
    """RFC 8201 4: less is ignored, so no fragment header comes into packets that fit (RFC 8021)."""
    assert path_mtu(net) == 1500
    net.inject(too_big(said))
    assert path_mtu(net) in range(then - 8, then + 1)
    net.inject(v6(ICMPV6, echo(data=bytes(1000))))
    (small,) = net.ip_sent()
    assert small.nh == ICMPV6


def test_packet_too_big_never_raises_the_path_mtu(net: Net6) -> None:
    """RFC 8201 4"""
    net.inject(too_big(1300))
    net.inject(too_big(1480))
    assert path_mtu(net) <= 1300
    net.inject(too_big(9000))
    assert path_mtu(net) <= 1300


def test_a_path_mtu_ages() -> None:
    """RFC 8201 5.3: after mtu_expires seconds it is forgotten."""
    net = one_host6(sysctl={"net.ipv6.route.mtu_expires": 30})
    net.inject(too_big(1300))
    net.run(29 * SEC)
    assert path_mtu(net) <= 1300
    net.run(2 * SEC)
    assert path_mtu(net) == 1500


def test_a_path_mtu_is_of_one_destination(net: Net6) -> None:
    """RFC 8201 5.2"""
    net.inject(too_big(1300, dst="2001:db8::3"))
    assert path_mtu(net) == 1500


def test_a_router_sends_packets_of_others_by_the_link_not_by_what_it_learnt() -> None:
    net = run(Row("", "", [through()], ["1:forwarded 63"], router=True))
    net.inject(too_big(1300, dst=BEYOND, src=OUT))
    net.inject(through(1400))
    assert len(net.ip_sent(wire=1)) == 1
