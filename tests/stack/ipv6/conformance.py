"""Rows of the conformance tables: packets in, packets out, each with its section.

A row's packets are put on the wires of a host (or of a router with two wires) one after the other.
`want` is what it sends, in words (`say`), on wire 0 and after "1:" on wire 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)

from tests.stack.ipv6.net import (
    BEYOND,
    BEYOND_MAC,
    GW,
    ME,
    OUT,
    PEER,
    Net6,
    ip6,
    one_host6,
    static_neigh,
)

ICMPV6, HOP, ROUTING, FRAGMENT, NONE, DEST = 58, 0, 43, 44, 59, 60


@dataclass(frozen=True)
class Packet:
    """A packet of a row: its bytes, the wire, the frame's destination, the wait before it."""

    raw: bytes
    wire: int = 0
    mac: bytes | None = None
    wait_ns: int = 0


@dataclass(frozen=True)
class Row:
    """One law. `drops`: the drop reasons that must be counted, and no others."""

    section: str
    law: str
    send: Sequence[bytes | Packet]
    want: Sequence[str]
    drops: Sequence[str] = ()
    router: bool = False
    sysctl: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Net6], None] | None = None
    wait_ns: int = 0

    @property
    def name(self) -> str:
        return f"{self.section}: {self.law}".replace("/", "-")


def v6(
    nexthdr: int, body: bytes, src: str = PEER, dst: str = ME, hlim: int = 64, **more: Any
) -> bytes:
    """An IPv6 packet. `plen`: payload length if it is not the body's."""
    plen = more.get("plen", len(body))
    head = (more.get("version", 6) << 28 | more.get("tc", 0) << 20).to_bytes(4, "big")
    head += plen.to_bytes(2, "big") + bytes((nexthdr, hlim))
    return head + ip6(src).to_bytes(16, "big") + ip6(dst).to_bytes(16, "big") + body


def echo(src: str = PEER, dst: str = ME, data: bytes = b"ping") -> bytes:
    """An echo request with its checksum, without an IPv6 header."""
    return bytes(IPv6(src=src, dst=dst) / ICMPv6EchoRequest(id=1, seq=2, data=data))[40:]


def options(nexthdr: int, opts: bytes) -> bytes:
    """A hop-by-hop or destination options header, padded by PadN."""
    pad = -(len(opts) + 2) % 8
    if pad == 1:
        opts += b"\0"
    elif pad:
        opts += bytes((1, pad - 2)) + bytes(pad - 2)
    return bytes((nexthdr, (len(opts) + 2) // 8 - 1)) + opts


def opt(kind: int, data: bytes = b"") -> bytes:
    """One option."""
    return bytes((kind, len(data))) + data


def routing(nexthdr: int, kind: int, left: int, addresses: Sequence[str] = ()) -> bytes:
    """A routing header."""
    body = b"".join(ip6(a).to_bytes(16, "big") for a in addresses)
    return bytes((nexthdr, len(body) // 8, kind, left)) + bytes(4) + body


def fragment(
    nexthdr: int, offset: int, more: bool, ident: int, data: bytes, reserved: int = 0
) -> bytes:
    """A fragment header and its data; `offset` in bytes."""
    off = offset & ~7 | reserved << 1 & 6 | more
    return (
        bytes((nexthdr, reserved & 0xFF)) + off.to_bytes(2, "big") + ident.to_bytes(4, "big") + data
    )


def pieces(payload: bytes, cuts: Sequence[int], ident: int = 7, **ip: Any) -> list[bytes]:
    """The fragments of an ICMPv6 payload cut at `cuts`."""
    edges = [0, *cuts, len(payload)]
    return [
        v6(FRAGMENT, fragment(ICMPV6, a, b < len(payload), ident, payload[a:b]), **ip)
        for a, b in pairwise(edges)
    ]


def say(packet: Any) -> str:
    """What a packet that was sent is, in words."""
    if packet.nh == FRAGMENT:
        return "fragment"
    if ICMPv6EchoReply in packet:
        return f"reply {len(bytes(packet[ICMPv6EchoReply].data))}"
    if ICMPv6ParamProblem in packet:
        problem = packet[ICMPv6ParamProblem]
        return f"problem {problem.code}@{problem.ptr}"
    for layer, word in (
        (ICMPv6DestUnreach, "unreachable"),
        (ICMPv6TimeExceeded, "exceeded"),
    ):
        if layer in packet:
            return f"{word} {packet[layer].code}"
    if ICMPv6PacketTooBig in packet:
        return f"too big {packet[ICMPv6PacketTooBig].mtu}"
    if ICMPv6EchoRequest in packet:
        return f"forwarded {packet.hlim}"
    return f"forwarded {packet.hlim} nh {packet.nh}"


def run(row: Row) -> Net6:
    """Put the packets of a row in and judge what comes out."""
    if row.router:
        net = one_host6(
            addrs=(f"{ME}/64", f"{OUT}/64"),
            sysctl={"net.ipv6.conf.all.forwarding": 1, **row.sysctl},
        )
        static_neigh(net.wires[1].dev, BEYOND, BEYOND_MAC)
    else:
        net = one_host6(sysctl=row.sysctl or None)
        net.host.route_add("::/0", via=GW)
    if row.prepare is not None:
        row.prepare(net)
        for wire in net.wires:
            wire.sent.clear()
    before = net.drops()
    for each in row.send:
        packet = each if isinstance(each, Packet) else Packet(each)
        net.run(packet.wait_ns)
        net.inject(packet.raw, wire=packet.wire, dst=packet.mac)
    net.run(row.wait_ns)
    said = [say(p) for p in net.ip_sent()]
    if row.router:
        said += [f"1:{say(p)}" for p in net.ip_sent(wire=1)]
    assert said == list(row.want)
    drops = {
        name.removeprefix("SKB_DROP_REASON_"): count - before.get(name, 0)
        for name, count in net.drops().items()
    }
    assert sorted(n for n, count in drops.items() if count) == sorted(set(row.drops))
    return net
