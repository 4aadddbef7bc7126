"""Conformance to RFC 8200 (with 4291, 5095, 5722, 6946, 7112, 8021): packets in, packets out."""

from __future__ import annotations

import pytest

from tests.stack.ipv6.conformance import (
    DEST,
    FRAGMENT,
    HOP,
    ICMPV6,
    NONE,
    ROUTING,
    Packet,
    Row,
    echo,
    fragment,
    opt,
    options,
    pieces,
    routing,
    run,
    v6,
)
from tests.stack.ipv6.net import BEYOND, ME, OUT, SEC

BCAST = b"\xff" * 6
GROUP = "ff02::1"
BIG = echo(data=bytes(i & 255 for i in range(2000)))
SKIP, DROP, REPORT, REPORT_UNICAST = 0x1E, 0x5E, 0x9E, 0xDE  # by the two high bits of the type


def through(body: bytes = b"", **ip: object) -> bytes:
    """An echo request that the router should pass on."""
    return v6(ICMPV6, body or echo(dst=BEYOND), dst=BEYOND, **ip)  # type: ignore[arg-type]


HEADER = [
    Row(
        "RFC 8200 3", "version 4 is none", [v6(ICMPV6, echo(), version=4)], [], ["UNHANDLED_PROTO"]
    ),
    Row(
        "RFC 8200 3",
        "version 15 is none",
        [v6(ICMPV6, echo(), version=15)],
        [],
        ["UNHANDLED_PROTO"],
    ),
    Row(
        "RFC 8200 3",
        "length beyond the frame",
        [v6(ICMPV6, echo(), plen=500)],
        [],
        ["PKT_TOO_SMALL"],
    ),
    Row(
        "RFC 8200 3",
        "bytes behind the length are none",
        [v6(ICMPV6, echo(), plen=12) + b"junk"],
        ["reply 4"],
    ),
    Row("RFC 8200 3", "hop limit 0 is for us still", [v6(ICMPV6, echo(), hlim=0)], ["reply 4"]),
    Row("RFC 8200 3", "hop limit 1 is for us still", [v6(ICMPV6, echo(), hlim=1)], ["reply 4"]),
    Row("RFC 8200 3", "a router takes one off", [through()], ["1:forwarded 63"], router=True),
    Row(
        "RFC 8200 3",
        "hop limit 1 ends at a router",
        [through(hlim=1)],
        ["exceeded 0"],
        ["IP_INHDR"],
        router=True,
    ),
    Row(
        "RFC 8200 3",
        "hop limit 0 ends at a router",
        [through(hlim=0)],
        ["exceeded 0"],
        ["IP_INHDR"],
        router=True,
    ),
    Row(
        "RFC 8200 3",
        "a host does not forward",
        [through()],
        [],
        ["IP_INADDRERRORS"],
        prepare=lambda net: net.host.route_add("2001:db8:1::/64", dev="eth0"),
    ),
    Row("RFC 8200 7", "any traffic class", [v6(ICMPV6, echo(), tc=0xFF)], ["reply 4"]),
]

ADDRESSES = [
    Row(
        "RFC 4291 2.5.3",
        "the loopback address as source",
        [v6(ICMPV6, echo(), src="::1")],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 4291 2.5.3",
        "the loopback address as destination",
        [v6(ICMPV6, echo(), dst="::1")],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 4291 2.5.2",
        "a router passes nothing from nobody",
        [through(src="::")],
        [],
        ["IP_INADDRERRORS"],
        router=True,
    ),
    Row(
        "RFC 4291 2.5.6",
        "a link-local source stays on its link",
        [through(src="fe80::2")],
        ["unreachable 2"],
        ["IP_INADDRERRORS"],
        router=True,
    ),
    Row(
        "RFC 4291 2.5.6",
        "a link-local destination stays on its link",
        [v6(ICMPV6, echo(dst="fe80::99"), dst="fe80::99")],
        [],
        ["IP_INADDRERRORS"],
        prepare=lambda net: net.host.sysctl.__setitem__("net.ipv6.conf.all.forwarding", 0),
    ),
    Row(
        "RFC 4291 2.7",
        "a group is no source",
        [v6(ICMPV6, echo(), src="ff02::1")],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 4291 2.7", "scope 0 is dropped", [v6(ICMPV6, echo(), dst="ff00::1")], [], ["IP_INHDR"]
    ),
    Row(
        "RFC 4291 2.7",
        "interface-local scope does not come by wire",
        [v6(ICMPV6, echo(), dst="ff01::1")],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 4291 2.7",
        "a group that nobody joined",
        [v6(ICMPV6, echo(dst="ff02::77"), dst="ff02::77")],
        [],
        ["NOT_SPECIFIED"],
    ),
    Row("RFC 4291 2.8", "all nodes", [v6(ICMPV6, echo(dst=GROUP), dst=GROUP)], ["reply 4"]),
    Row(
        "RFC 4291 2.8",
        "the solicited-node group",
        [v6(ICMPV6, echo(dst="ff02::1:ff00:1"), dst="ff02::1:ff00:1")],
        ["reply 4"],
    ),
    Row(
        "RFC 8200 3",
        "what came as a broadcast is not forwarded",
        [Packet(through(), mac=BCAST)],
        [],
        ["NOT_SPECIFIED"],
        router=True,
    ),
]

CHAINS = [
    Row(
        "RFC 8200 4", "an unknown next header", [v6(253, bytes(8))], ["problem 1@6"], ["IP_NOPROTO"]
    ),
    Row(
        "RFC 8200 4",
        "an unknown one behind options",
        [v6(DEST, options(253, b"") + bytes(8))],
        ["problem 1@40"],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 8200 4",
        "an unknown one behind two headers",
        [v6(DEST, options(ROUTING, b"") + routing(254, 0, 0) + bytes(8))],
        ["problem 1@48"],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 8200 4",
        "hop-by-hop options only come first",
        [v6(DEST, options(HOP, b"") + options(ICMPV6, b"") + echo())],
        ["problem 1@40"],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 8200 4",
        "and once",
        [v6(HOP, options(HOP, b"") + options(ICMPV6, b"") + echo())],
        ["problem 1@40"],
        ["IP_NOPROTO"],
    ),
    Row(
        "RFC 8200 4.1",
        "destination options twice",
        [v6(DEST, options(DEST, b"") + options(ICMPV6, b"") + echo())],
        ["reply 4"],
    ),
    Row(
        "RFC 8200 4.1",
        "in another order than the usual",
        [v6(DEST, options(ROUTING, b"") + routing(DEST, 0, 0) + options(ICMPV6, b"") + echo())],
        ["reply 4"],
    ),
    Row(
        "RFC 8200 4.1",
        "all of them in the usual order",
        [
            v6(
                HOP,
                options(DEST, b"")
                + options(ROUTING, b"")
                + routing(FRAGMENT, 0, 0)
                + fragment(DEST, 0, False, 3, options(ICMPV6, b"") + echo()),
            )
        ],
        ["reply 4"],
    ),
    Row("RFC 8200 4.7", "no next header", [v6(NONE, b"")], []),
    Row("RFC 8200 4.7", "what follows it is ignored", [v6(NONE, echo())], []),
    Row(
        "RFC 8200 4.7",
        "a router passes it on whole",
        [v6(NONE, b"what follows", dst=BEYOND)],
        ["1:forwarded 63 nh 59"],
        router=True,
    ),
    Row(
        "RFC 8200 4",
        "a router does not look at destination options",
        [v6(DEST, options(ICMPV6, opt(DROP)) + echo(dst=BEYOND), dst=BEYOND)],
        ["1:forwarded 63"],
        router=True,
    ),
]


def unknown(nexthdr: int, kind: int, **ip: object) -> bytes:
    """An echo request behind an option nobody knows."""
    dst = str(ip.get("dst", ME))
    return v6(nexthdr, options(ICMPV6, opt(kind, b"\1\2")) + echo(dst=dst), **ip)  # type: ignore[arg-type]


OPTIONS = [
    row
    for nexthdr, where in ((HOP, "4.3"), (DEST, "4.6"))
    for row in (
        Row(f"RFC 8200 4.2, {where}", "type 00: skipped", [unknown(nexthdr, SKIP)], ["reply 4"]),
        Row(
            f"RFC 8200 4.2, {where}",
            "type 01: dropped",
            [unknown(nexthdr, DROP)],
            [],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "type 10: reported",
            [unknown(nexthdr, REPORT)],
            ["problem 2@42"],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "type 11: reported",
            [unknown(nexthdr, REPORT_UNICAST)],
            ["problem 2@42"],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "type 10 to a group: reported",
            [unknown(nexthdr, REPORT, dst=GROUP)],
            ["problem 2@42"],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "type 11 to a group: dropped",
            [unknown(nexthdr, REPORT_UNICAST, dst=GROUP)],
            [],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "the pointer finds the second option",
            [v6(nexthdr, options(ICMPV6, opt(SKIP) + opt(REPORT, b"\0\0")) + echo())],
            ["problem 2@44"],
            ["UNHANDLED_PROTO"],
        ),
        Row(
            f"RFC 8200 4.2, {where}",
            "an option beyond its header",
            [v6(nexthdr, bytes((ICMPV6, 0, SKIP, 9)) + bytes(4) + echo())],
            [],
            ["IP_INHDR"],
        ),
        Row(
            f"RFC 8200 {where}",
            "a header beyond the packet",
            [v6(nexthdr, bytes((ICMPV6, 200)) + bytes(6) + echo())],
            [],
            ["IPV6_BAD_EXTHDR"],
        ),
        Row(
            f"RFC 8200 {where}",
            "six bytes of Pad1",
            [v6(nexthdr, bytes((ICMPV6, 0)) + bytes(6) + echo())],
            ["reply 4"],
        ),
        Row(
            f"RFC 4942 2.1.9.5, {where}",
            "eight bytes of padding are seven too many",
            [v6(nexthdr, bytes((ICMPV6, 1)) + bytes(14) + echo())],
            [],
            ["IP_INHDR"],
        ),
        Row(
            f"RFC 4942 2.1.9.5, {where}",
            "PadN with something in it",
            [v6(nexthdr, bytes((ICMPV6, 0, 1, 4)) + b"\0\0\0\1" + echo())],
            [],
            ["IP_INHDR"],
        ),
    )
]

HOP_BY_HOP = [
    Row(
        "RFC 2711 2.1",
        "a router alert",
        [v6(HOP, options(ICMPV6, opt(5, b"\0\0")) + echo())],
        ["reply 4"],
    ),
    Row(
        "RFC 2711 2.1",
        "a router alert of a wrong length",
        [v6(HOP, options(ICMPV6, opt(5, b"\0")) + echo())],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 8200 4.3",
        "a router steps over what it may",
        [unknown(HOP, SKIP, dst=BEYOND)],
        ["1:forwarded 63"],
        router=True,
    ),
    Row(
        "RFC 8200 4.3",
        "a router reports what it must",
        [unknown(HOP, REPORT, dst=BEYOND)],
        ["problem 2@42"],
        ["UNHANDLED_PROTO"],
        router=True,
    ),
    Row(
        "RFC 2675 3",
        "a jumbo length that is none",
        [v6(HOP, options(ICMPV6, opt(0xC2, (100).to_bytes(4, "big"))) + echo(), plen=0)],
        ["problem 0@44"],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 2675 3",
        "a jumbo length beside a length",
        [v6(HOP, options(ICMPV6, opt(0xC2, (70000).to_bytes(4, "big"))) + echo())],
        ["problem 0@42"],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 2675 3",
        "a jumbo length of more than came",
        [v6(HOP, options(ICMPV6, opt(0xC2, (70000).to_bytes(4, "big"))) + echo(), plen=0)],
        [],
        ["PKT_TOO_SMALL"],
    ),
    Row(
        "RFC 2675 2",
        "a jumbo option at a wrong place",
        [v6(HOP, options(ICMPV6, b"\0" + opt(0xC2, (70000).to_bytes(4, "big"))) + echo(), plen=0)],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 2675 3",
        "no length and no jumbo option",
        [v6(HOP, options(ICMPV6, b"") + echo(), plen=0)],
        ["reply 4"],
    ),
]

ROUTING_HEADER = (
    [
        Row(
            "RFC 8200 4.4",
            f"type {kind}, all segments behind it: ignored",
            [v6(ROUTING, routing(ICMPV6, kind, 0, [OUT]) + echo())],
            ["reply 4"],
        )
        for kind in (0, 2, 253)
    ]
    + [
        Row(
            "RFC 5095 3" if not kind else "RFC 8200 4.4",
            f"type {kind} with segments left: reported",
            [v6(ROUTING, routing(ICMPV6, kind, 1, [OUT]) + echo())],
            ["problem 0@42"],
            ["IPV6_BAD_EXTHDR"],
        )
        for kind in (0, 2, 253)
    ]
    + [
        Row(
            "RFC 6554, RFC 8754",
            f"type {kind} with {left} segments left: dropped, as seg6_enabled and its kin are off",
            [v6(ROUTING, routing(ICMPV6, kind, left, [OUT]) + echo())],
            [],
            ["NOT_SPECIFIED"],
        )
        for kind in (3, 4)
        for left in (0, 1)
    ]
    + [
        Row(
            "RFC 8200 4.4",
            "the pointer counts from the packet",
            [v6(DEST, options(ROUTING, b"") + routing(ICMPV6, 0, 1, [OUT]) + echo())],
            ["problem 0@50"],
            ["IPV6_BAD_EXTHDR"],
        ),
        Row(
            "RFC 8200 4.4",
            "not to a group",
            [v6(ROUTING, routing(ICMPV6, 0, 0, [OUT]) + echo(dst=GROUP), dst=GROUP)],
            [],
            ["IP_INADDRERRORS"],
        ),
        Row(
            "RFC 8200 4.4",
            "a router does not look at it",
            [v6(ROUTING, routing(ICMPV6, 0, 1, [OUT]) + echo(dst=BEYOND), dst=BEYOND)],
            ["1:forwarded 63"],
            router=True,
        ),
    ]
)

A, B, C = pieces(BIG, [800, 1600])
FRAGMENTS = [
    Row("RFC 8200 4.5", "in order", [A, B, C], ["fragment", "fragment"]),
    Row("RFC 8200 4.5", "backwards", [C, B, A], ["fragment", "fragment"]),
    Row(
        "RFC 8200 4.5",
        "a repeat is ignored",
        [A, A, B, B, C],
        ["fragment", "fragment"],
        ["DUP_FRAG"],
    ),
    Row(
        "RFC 8200 4.5",
        "one short piece in the middle",
        pieces(echo(data=bytes(100)), [8, 16]),
        ["reply 100"],
    ),
    Row(
        "RFC 8200 4.5",
        "reserved bits are ignored",
        [
            v6(FRAGMENT, fragment(ICMPV6, 0, True, 9, echo(data=bytes(8))[:8], 3)),
            v6(FRAGMENT, fragment(ICMPV6, 8, False, 9, bytes(8), 3)),
        ],
        ["reply 8"],
    ),
    Row(
        "RFC 8200 4.5",
        "another identification is another packet",
        [A, *pieces(BIG, [800, 1600], 8)[1:]],
        [],
    ),
    Row(
        "RFC 8200 4.5",
        "another source is another packet",
        [A, *pieces(BIG, [800, 1600], src="2001:db8::3")[1:]],
        [],
    ),
    Row(
        "RFC 8200 4.5",
        "a piece that is no multiple of 8",
        [v6(FRAGMENT, fragment(ICMPV6, 0, True, 9, BIG[:801]))],
        ["problem 0@4"],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 8200 4.5",
        "beyond 65535 bytes",
        [v6(FRAGMENT, fragment(ICMPV6, 65528, True, 9, bytes(16)))],
        ["problem 0@42"],
        ["PKT_TOO_BIG"],
    ),
    Row(
        "RFC 8200 4.5",
        "the last byte that is possible",
        [v6(FRAGMENT, fragment(ICMPV6, 65528, False, 9, bytes(7)))],
        [],
    ),
    Row(
        "RFC 8200 4.5",
        "an empty piece",
        [v6(FRAGMENT, fragment(ICMPV6, 8, True, 9, b""))],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 8200 4.5",
        "an end that moves",
        [v6(FRAGMENT, fragment(ICMPV6, 800, False, 7, BIG[800:1600])), C],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 8200 4.5",
        "a piece behind the end",
        [
            v6(FRAGMENT, fragment(ICMPV6, 800, False, 7, BIG[800:1600])),
            v6(FRAGMENT, fragment(ICMPV6, 1600, True, 7, bytes(80))),
        ],
        [],
        ["IP_INHDR"],
    ),
    Row(
        "RFC 8200 4.5",
        "the next header of the first piece counts",
        [v6(FRAGMENT, fragment(99, 800, True, 7, BIG[800:1600])), A, C],
        ["fragment", "fragment"],
    ),
    Row(
        "RFC 8200 4.5",
        "options before the fragment header",
        [
            v6(HOP, options(FRAGMENT, b"") + fragment(ICMPV6, 0, True, 5, echo(data=bytes(8))[:8])),
            v6(HOP, options(FRAGMENT, b"") + fragment(ICMPV6, 8, False, 5, bytes(8))),
        ],
        ["reply 8"],
    ),
    Row(
        "RFC 8200 4.5",
        "options behind it",
        [
            v6(
                FRAGMENT, fragment(DEST, 0, True, 5, options(ICMPV6, b"") + echo(data=bytes(8))[:8])
            ),
            v6(FRAGMENT, fragment(DEST, 16, False, 5, bytes(8))),
        ],
        ["reply 8"],
    ),
    Row(
        "RFC 8200 4.5",
        "a fragment of a fragment",
        [v6(FRAGMENT, fragment(FRAGMENT, 0, False, 5, fragment(ICMPV6, 0, False, 6, echo())))],
        ["problem 0@48"],
        ["IPV6_BAD_EXTHDR"],
    ),
    Row(
        "RFC 8200 4.5, RFC 7112",
        "the first piece without the ICMPv6 header",
        [v6(FRAGMENT, fragment(DEST, 0, True, 5, options(ICMPV6, b"")))],
        ["problem 3@0"],
        ["IPV6_BAD_EXTHDR"],
    ),
    Row(
        "RFC 8200 4.5, RFC 7112",
        "the first piece with half a header",
        [v6(FRAGMENT, fragment(DEST, 0, True, 5, bytes((ICMPV6, 3)) + bytes(6)))],
        ["problem 3@0"],
        ["IPV6_BAD_EXTHDR"],
    ),
    Row(
        "RFC 8200 4.5, RFC 7112",
        "the first piece with half a UDP header",
        [v6(FRAGMENT, fragment(DEST, 0, True, 5, options(17, b"")[:8]))],
        ["problem 3@0"],
        ["IPV6_BAD_EXTHDR"],
    ),
    Row(
        "RFC 8200 4.5",
        "60 seconds after the first one that came",
        [A, C],
        ["exceeded 1"],
        ["FRAG_REASM_TIMEOUT"],
        wait_ns=61 * SEC,
    ),
    Row("RFC 8200 4.5", "not before", [A, C], [], wait_ns=59 * SEC),
    Row(
        "RFC 8200 4.5",
        "nothing is said without the first piece",
        [B, C],
        [],
        ["FRAG_REASM_TIMEOUT"],
        wait_ns=61 * SEC,
    ),
    Row(
        "RFC 8200 4.5",
        "too late",
        [A, B, Packet(C, wait_ns=61 * SEC)],
        ["exceeded 1"],
        ["FRAG_REASM_TIMEOUT"],
    ),
    Row(
        "RFC 5722 4",
        "an overlap in the middle",
        [A, v6(FRAGMENT, fragment(ICMPV6, 792, True, 7, bytes(16))), B, C],
        [],
        ["FRAG_OVERLAP"],
    ),
    Row(
        "RFC 5722 4",
        "an overlap of the first bytes",
        [B, v6(FRAGMENT, fragment(ICMPV6, 0, True, 7, BIG[:808]))],
        [],
        ["FRAG_OVERLAP"],
    ),
    Row(
        "RFC 5722 4",
        "an overlap of the end",
        [v6(FRAGMENT, fragment(ICMPV6, 1592, False, 7, BIG[1592:])), B],
        [],
        ["FRAG_OVERLAP"],
    ),
    Row(
        "RFC 6946 4",
        "a whole packet with a fragment header",
        [v6(FRAGMENT, fragment(ICMPV6, 0, False, 7, echo()))],
        ["reply 4"],
    ),
    Row(
        "RFC 6946 4",
        "it is apart from pieces of its identification",
        [A, v6(FRAGMENT, fragment(ICMPV6, 0, False, 7, echo())), B, C],
        ["reply 4", "fragment", "fragment"],
    ),
    Row(
        "RFC 3168 5.3",
        "one congestion mark marks the packet",
        pieces(echo(data=bytes(24)), [16], tc=2)[:1] + pieces(echo(data=bytes(24)), [16], tc=3)[1:],
        ["reply 24"],
    ),
    Row(
        "RFC 3168 5.3",
        "some capable and some not: dropped",
        pieces(echo(data=bytes(24)), [16], tc=2)[:1] + pieces(echo(data=bytes(24)), [16], tc=0)[1:],
        [],
        ["PKT_TOO_BIG"],
    ),
    Row(
        "RFC 8200 4.5",
        "a router does not reassemble",
        [v6(FRAGMENT, fragment(ICMPV6, 0, True, 7, echo(dst=BEYOND) + bytes(4)), dst=BEYOND)],
        ["1:fragment"],
        router=True,
    ),
]

TABLE = [*HEADER, *ADDRESSES, *CHAINS, *OPTIONS, *HOP_BY_HOP, *ROUTING_HEADER, *FRAGMENTS]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_row(row: Row) -> None:
    run(row)


def test_the_table_has_its_size_and_no_law_twice() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE) >= 90
