"""Rows of the tables of RFC 4861 and 4862: messages in, messages out, each with its section.

A row's steps are packets that arrive (bytes), waits (ns) and functions of the rig; `want` is what
the host sends of neighbour discovery and echo, in words (`say_nd`). `seen` looks at what it
believes afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)

from e1000emu.clock import VirtualClock
from fastpath.base.csum import csum_fold, csum_ipv6_nofold, csum_partial
from stack.core.dev import dev_open
from stack.core.neigh_table import NUD_NAMES
from stack.core.uapi import NTF_ROUTER
from stack.host import Host
from stack.ipv6.addr import format_addr6
from stack.ipv6.if_inet6 import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_OPTIMISTIC,
    IFA_F_TEMPORARY,
    IFA_F_TENTATIVE,
)
from tests.stack.core.wire import QUIET6, add_wire_device
from tests.stack.ipv6.net import ME, ME_LL, ME_MAC, PEER, PEER_LL, PEER_MAC, Net6, add_addr, ip6

SEC = 1_000_000_000
ALL_NODES, ALL_ROUTERS = "ff02::1", "ff02::2"
ROUTER_LL, ROUTER_MAC = "fe80::fe", b"\x02\x00\x00\x00\x00\xfe"
OTHER_MAC = b"\x02\x00\x00\x00\x00\x77"
EUI = "ff:fe00:1"  # the interface identifier of ME_MAC
PREFIX = "2001:db8:5::"

Step = bytes | int | Callable[[Net6], None]


@dataclass(frozen=True)
class NdRow:
    """One law. `fresh`: the interface has just gone up; else it has ME and ME_LL for long."""

    section: str
    law: str
    steps: Sequence[Step]
    want: Sequence[str] = ()
    drops: Sequence[str] = ()
    seen: Callable[[Net6], Any] | None = None
    is_: Any = None
    fresh: bool = False
    sysctl: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.section}: {self.law}".replace("/", "-")


def solicited(addr: str) -> str:
    """The solicited-node group of an address."""
    return format_addr6(0xFF02 << 112 | 0x01FF << 24 | ip6(addr) & 0xFFFFFF)


def mac(addr: bytes) -> str:
    return addr.hex(":")


def nd(message: Any, src: str, dst: str, hlim: int = 255) -> bytes:
    """A message in its packet."""
    return bytes(IPv6(src=src, dst=dst, hlim=hlim) / message)


def ns(
    target: str = ME,
    src: str = PEER,
    dst: str | None = None,
    lladdr: bytes | None = PEER_MAC,
    hlim: int = 255,
    **fields: Any,
) -> bytes:
    message = ICMPv6ND_NS(tgt=target, **fields)
    if lladdr is not None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=mac(lladdr))
    return nd(message, src, solicited(target) if dst is None else dst, hlim)


def na(
    target: str = PEER,
    src: str = PEER,
    dst: str = ME,
    lladdr: bytes | None = PEER_MAC,
    flags: str = "SO",
    hlim: int = 255,
    **fields: Any,
) -> bytes:
    bits = {letter: int(letter in flags) for letter in "RSO"}
    message = ICMPv6ND_NA(tgt=target, **bits, **fields)
    if lladdr is not None:
        message /= ICMPv6NDOptDstLLAddr(lladdr=mac(lladdr))
    return nd(message, src, dst, hlim)


def prefix(text: str = PREFIX, plen: int = 64, **fields: Any) -> Any:
    settings = {"L": 1, "A": 1, "validlifetime": 7200, "preferredlifetime": 3600, **fields}
    return ICMPv6NDOptPrefixInfo(prefix=text, prefixlen=plen, **settings)


def ra(
    *options: Any,
    src: str = ROUTER_LL,
    lladdr: bytes | None = ROUTER_MAC,
    hlim: int = 255,
    life: int = 1800,
    **fields: Any,
) -> bytes:
    settings = {"chlim": 0, "prf": 0, **fields}
    message = ICMPv6ND_RA(routerlifetime=life, **settings)
    if lladdr is not None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=mac(lladdr))
    for option in options:
        message /= option
    return nd(message, src, ALL_NODES, hlim)


def rs(src: str = PEER_LL, lladdr: bytes | None = PEER_MAC, hlim: int = 255) -> bytes:
    message: Any = ICMPv6ND_RS()
    if lladdr is not None:
        message /= ICMPv6NDOptSrcLLAddr(lladdr=mac(lladdr))
    return nd(message, src, ALL_ROUTERS, hlim)


def redirect(
    target: str, dest: str, src: str = ROUTER_LL, hlim: int = 255, lladdr: bytes | None = None
) -> bytes:
    message: Any = ICMPv6ND_Redirect(tgt=target, dst=dest)
    if lladdr is not None:
        message /= ICMPv6NDOptDstLLAddr(lladdr=mac(lladdr))
    return nd(message, src, ME, hlim)


def ping(src: str = PEER, dst: str = ME) -> bytes:
    """An echo request: its answer shows where packets to `src` go."""
    return bytes(IPv6(src=src, dst=dst) / ICMPv6EchoRequest(id=1, seq=1))


def reseal(packet: bytes, at: int, new: bytes) -> bytes:
    """Change bytes of a message and put its checksum right."""
    raw = bytearray(packet)
    raw[at : at + len(new)] = new
    raw[42:44] = bytes(2)
    src, dst = (int.from_bytes(raw[i : i + 16], "big") for i in (8, 24))
    total = csum_partial(bytes(raw[40:]), csum_ipv6_nofold(src, dst, len(raw) - 40, 58))
    raw[42:44] = csum_fold(total).to_bytes(2, "big")
    return bytes(raw)


def say_nd(frame: bytes, packet: Any) -> str:
    """What was sent, in words."""
    to = packet.dst
    if ICMPv6ND_NS in packet:
        tgt = packet[ICMPv6ND_NS].tgt
        return f"NS {tgt}" + (" dad" if packet.src == "::" else " to it" if to == tgt else "")
    if ICMPv6ND_NA in packet:
        it = packet[ICMPv6ND_NA]
        flags = "".join(letter for letter in "RSO" if getattr(it, letter))
        tail = " with address" if ICMPv6NDOptDstLLAddr in packet else ""
        return f"NA {it.tgt} {flags or '-'} to {to}{tail}"
    if ICMPv6ND_RS in packet:
        return "RS" + (" with address" if ICMPv6NDOptSrcLLAddr in packet else "")
    if ICMPv6ND_RA in packet:
        return f"RA {packet[ICMPv6ND_RA].routerlifetime}"
    if ICMPv6ND_Redirect in packet:
        it = packet[ICMPv6ND_Redirect]
        return f"redirect {it.dst} to {it.tgt}"
    if ICMPv6EchoReply in packet:
        return f"reply to {frame[:6].hex(':')}"
    return str(packet.summary())


def make(*, fresh: bool, sysctl: dict[str, Any]) -> Net6:
    """The rig of a row."""
    quiet = {} if fresh else {**QUIET6, "net.ipv6.conf.default.router_solicitations": 0}
    clock = VirtualClock()
    host = Host(name="h", clock=clock, drivers=False, sysctl={**quiet, **sysctl})
    wire = add_wire_device(host, ME_MAC)
    assert dev_open(wire.dev) == 0
    if not fresh:
        add_addr(wire.dev, f"{ME_LL}/64")
        add_addr(wire.dev, f"{ME}/64")
        clock.run_for(10 * SEC)
        wire.sent.clear()
    return Net6(host, [wire])


def sent(net: Net6) -> list[str]:
    """What was sent since the last call, MLD left out."""
    frames = list(net.wire.sent)
    packets = net.all_sent()
    return [
        say_nd(frame, packet)
        for frame, packet in zip(frames, packets, strict=True)
        if bytes(packet)[6] != 0
    ]


def run_nd(row: NdRow) -> Net6:
    """Carry a row out and judge what comes of it."""
    net = make(fresh=row.fresh, sysctl=row.sysctl)
    before = net.drops()
    for step in row.steps:
        if isinstance(step, bytes):
            net.inject(step)
        elif isinstance(step, int):
            net.run(step)
        else:
            step(net)
    net.run(1000)
    assert sent(net) == list(row.want)
    drops = {
        name.removeprefix("SKB_DROP_REASON_"): count - before.get(name, 0)
        for name, count in net.drops().items()
    }
    assert sorted(n for n, count in drops.items() if count) == sorted(set(row.drops))
    if row.seen is not None:
        assert row.seen(net) == row.is_
    return net


# --- what the host believes ----------------------------------------------------------------


def neigh(addr: str = PEER) -> Callable[[Net6], Any]:
    """(state, MAC, "router" or "") of a neighbour, None when unknown."""

    def look(net: Net6) -> Any:
        n = net.host.ipv6.nd_tbl.hash.get(ip6(addr) << 16 | net.wire.dev.ifindex)
        if n is None:
            return None
        return (NUD_NAMES[n.nud_state], n.ha[5], "router" if n.flags & NTF_ROUTER else "")

    return look


def addresses(net: Net6) -> dict[str, str]:
    """Addresses of the interface and their states."""
    words = (
        (IFA_F_TENTATIVE, "tentative"),
        (IFA_F_OPTIMISTIC, "optimistic"),
        (IFA_F_DADFAILED, "failed"),
        (IFA_F_DEPRECATED, "deprecated"),
        (IFA_F_TEMPORARY, "temporary"),
    )
    return {
        format_addr6(ifp.addr): " ".join(word for bit, word in words if ifp.flags & bit)
        for ifp in net.wire.dev.ip6_ptr.addr_list
        if not ifp.flags & IFA_F_TEMPORARY
    }


def globals_(net: Net6) -> list[str]:
    """Addresses that router advertisements made."""
    return [a for a in addresses(net) if not a.startswith("fe80:") and a != ME]


def routes(net: Net6) -> list[str]:
    """Learnt routes: prefix, router, preference."""
    out = []
    for rt in net.host.ipv6.fib6.tables[254].routes():
        if rt.fib6_flags & 0x40000:  # RTF_ADDRCONF
            gw = rt.fib6_nh.fib_nh_gw6
            via = f" via {format_addr6(gw)}" if gw else ""
            pref = {0: "", 1: " high", 3: " low"}[rt.fib6_flags >> 27 & 3]
            out.append(f"{format_addr6(rt.fib6_dst)}/{rt.fib6_plen}{via}{pref}")
    return out


__all__ = ["PEER", "PEER_LL", "PEER_MAC", "NdRow", "run_nd"]
