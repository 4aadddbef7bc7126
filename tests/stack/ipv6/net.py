"""One host with a recording interface: IPv6 packets are put in by hand, what it sends is read back.

    net = one_host6()
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6EchoRequest())
    reply = net.ip_sent()[-1]

Packets are built and judged by scapy: `ip_sent` refuses wrong lengths and checksums.
"""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from e1000emu.clock import VirtualClock
from stack.core.dev import dev_open
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import __neigh_lookup, neigh_update
from stack.core.uapi import NUD_PERMANENT
from stack.host import Host
from stack.ipv6.addr import parse_addr6, parse_ifaddr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.ipv6.mcast import ipv6_dev_mc_inc
from tests.stack.core.wire import QUIET6, add_wire_device
from tests.stack.ipv4.net import GW_MAC, PEER_MAC, SEC, Net

ME = "2001:db8::1"
PEER = "2001:db8::2"
GW = "2001:db8::fe"
FAR = "2001:db8:ffff::7"
OUT = "2001:db8:1::1"
BEYOND = "2001:db8:1::2"
ME_LL = "fe80::1"
PEER_LL = "fe80::2"
ME_MAC = b"\x02\x00\x00\x00\x00\x01"
BEYOND_MAC = b"\x02\x00\x00\x00\x01\x02"


def ip6(text: str) -> int:
    """Host-order int of an address."""
    return parse_addr6(text)


class Net6(Net):
    """A host and its interfaces; `wire` is the first one."""

    def inject(
        self, packet: Any, *, wire: int = 0, dst: bytes | None = None, src: bytes = PEER_MAC
    ) -> None:
        """Let a packet (scapy or bytes) arrive; runs what follows at once."""
        device = self.wires[wire]
        raw = bytes(packet)
        if dst is None:
            dst = device.dev.dev_addr
            if raw[24:25] == b"\xff":
                dst = b"\x33\x33" + raw[36:40]
        device.receive((dst + src + b"\x86\xdd" + raw).ljust(60, b"\0"))
        self.clock.run_for(1000)

    def ip_sent(self, *, wire: int = 0) -> list[Any]:
        """IPv6 packets sent since the last call, checked; neighbour discovery and MLD left out."""
        return [p for p in self.all_sent(wire=wire) if not is_nd(p)]

    def all_sent(self, *, wire: int = 0) -> list[Any]:
        """Every IPv6 packet sent since the last call, checked."""
        out = []
        for frame in self.frames(wire=wire):
            packet = Ether(frame)
            assert IPv6 in packet, packet.summary()
            check_ip6(packet[IPv6])
            out.append(packet[IPv6])
        return out

    def mib(self) -> dict[str, int]:
        """The Ip6 counters that moved."""
        return self.host.mib.ip6.nonzero()


def is_nd(packet: Any) -> bool:
    """A message of neighbour discovery or MLD."""
    raw = bytes(packet)
    if raw[6] == 58:
        return 130 <= raw[40] <= 137 or raw[40] == 143
    return raw[6] == 0 and raw[40] == 58 and raw[48] in (130, 131, 132, 143)


def check_ip6(packet: Any) -> None:
    """Lengths and checksums as scapy computes them."""
    raw = bytes(packet)
    assert packet.version == 6
    assert packet.plen == len(raw) - 40, f"plen {packet.plen} in {len(raw)} bytes"
    if packet.nh in (43, 44):  # the checksum needs the rest, or the last stop
        return
    for layer in packet.layers():
        field = "cksum" if layer.__name__.startswith("ICMPv6") else "chksum"
        if layer not in (UDP, TCP) and field != "cksum":
            continue
        if not hasattr(packet[layer], field):
            continue
        sent = getattr(packet[layer], field)
        fresh = IPv6(raw)
        delattr(fresh[layer], field)
        assert getattr(IPv6(bytes(fresh))[layer], field) == sent, layer.__name__
        break


def add_addr(dev: Any, text: str) -> None:
    """An address that may be used at once, with its routes and groups (no detection)."""
    addr, plen = parse_ifaddr6(text)
    inet6_addr_add(dev, addr, plen, flags=IFA_F_NODAD)


def join(dev: Any, group: int) -> None:
    """Listen to a group."""
    ipv6_dev_mc_inc(dev, group)


def static_neigh(dev: Any, addr: str, mac: bytes) -> None:
    """A neighbour for good."""
    neigh_update(
        neighbour_of(dev, addr), mac, NUD_PERMANENT, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN
    )


def one_host6(
    *, addrs: tuple[str, ...] = (f"{ME}/64",), sysctl: dict[str, Any] | None = None
) -> Net6:
    """A host with one interface per address, neighbours PEER and GW known on the first."""
    clock = VirtualClock()
    host = Host(name="h", clock=clock, drivers=False, sysctl={**QUIET6, **(sysctl or {})})
    wires = []
    for i, addr in enumerate(addrs):
        wire = add_wire_device(host, b"\x02\x00\x00\x00\x00" + bytes([i + 1]))
        assert dev_open(wire.dev) == 0
        add_addr(wire.dev, f"fe80::{i + 1}/64")
        add_addr(wire.dev, addr)
        wires.append(wire)
    for addr, lladdr in ((PEER, PEER_MAC), (PEER_LL, PEER_MAC), (GW, GW_MAC)):
        static_neigh(wires[0].dev, addr, lladdr)
    clock.run_for(10 * SEC)
    for wire in wires:
        wire.sent.clear()
    return Net6(host, wires)


def neighbour_of(dev: Any, addr: str) -> Any:
    """The neighbour entry of an address, made when missing."""
    n = __neigh_lookup(dev.net.ipv6.nd_tbl, ip6(addr), dev, True)
    assert n is not None
    return n
