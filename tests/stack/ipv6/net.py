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
from fastpath.skbuff import kfree_skb
from stack.core.dev import dev_open
from stack.core.drop_reason import drop_names
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_OVERRIDE,
    NUD_NOARP,
    NUD_PERMANENT,
    neigh_ops,
    neigh_table,
)
from stack.core.neighbour import (
    __neigh_lookup,
    neigh_connected_output,
    neigh_resolve_output,
    neigh_update,
)
from stack.core.netdevice import ETH_P_IPV6, IFF_LOOPBACK
from stack.host import Host
from stack.ipv6.addr import (
    IN6ADDR_LINKLOCAL_ALLNODES,
    IPV6_ADDR_SCOPE_MASK,
    MASKS6,
    addrconf_addr_solict_mult,
    ipv6_addr_type,
    ipv6_eth_mc_map,
    parse_addr6,
    parse_ifaddr6,
)
from stack.ipv6.devconf import ipv6_devconf
from stack.ipv6.if_inet6 import IFA_F_PERMANENT, ifmcaddr6, inet6_dev, inet6_ifaddr
from stack.ipv6.ip6_fib import (
    RT6_TABLE_LOCAL,
    RT6_TABLE_MAIN,
    RTF_LOCAL,
    RTF_NONEXTHOP,
    RTF_UP,
    RTN_LOCAL,
    RTN_MULTICAST,
    fib6_add,
    fib6_get_table,
    fib6_info,
    fib6_nh,
)
from tests.stack.core.wire import WireDevice, add_wire_device

ME = "2001:db8::1"
PEER = "2001:db8::2"
GW = "2001:db8::fe"
FAR = "2001:db8:ffff::7"
OUT = "2001:db8:1::1"
BEYOND = "2001:db8:1::2"
ME_LL = "fe80::1"
PEER_LL = "fe80::2"
ME_MAC = b"\x02\x00\x00\x00\x00\x01"
PEER_MAC = b"\x02\x00\x00\x00\x00\x02"
GW_MAC = b"\x02\x00\x00\x00\x00\xfe"
BEYOND_MAC = b"\x02\x00\x00\x00\x01\x02"
MILLI = 1_000_000
SEC = 1_000_000_000


def ip6(text: str) -> int:
    """Host-order int of an address."""
    return parse_addr6(text)


class Net6:
    """A host and its interfaces; `wire` is the first one."""

    def __init__(self, host: Host, wires: list[WireDevice]) -> None:
        self.host = host
        self.wires = wires
        self.wire = wires[0]
        self.clock = host.clock

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
        device = self.wires[wire]
        out = []
        for frame in device.sent:
            packet = Ether(frame)
            assert IPv6 in packet, packet.summary()
            check_ip6(packet[IPv6])
            out.append(packet[IPv6])
        device.sent.clear()
        return out

    def frames(self, *, wire: int = 0) -> list[bytes]:
        """Raw frames sent since the last call."""
        device = self.wires[wire]
        out = list(device.sent)
        device.sent.clear()
        return out

    def run(self, ns: int) -> None:
        """Let time pass."""
        self.clock.run_for(ns)

    def drops(self) -> dict[str, int]:
        """Drop counts by name."""
        return drop_names(self.host)

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
    net = dev.net
    if dev.ip6_ptr is None:
        cnf = ipv6_devconf(dev.name, net.ipv6.devconf_dflt)
        net.ipv6.sysctl.conf[dev.name] = cnf
        dev.ip6_ptr = inet6_dev(dev, cnf)
        cnf.store("mtu", dev.mtu)
        join(dev, IN6ADDR_LINKLOCAL_ALLNODES)
        table = fib6_get_table(net, RT6_TABLE_LOCAL)
        rt = fib6_info(table, 0xFF << 120, 8, fib6_nh(dev), rtype=RTN_MULTICAST, metric=256)
        if not dev.flags & IFF_LOOPBACK:
            fib6_add(net, rt)
    addr, plen = parse_ifaddr6(text)
    scope = ipv6_addr_type(addr) & IPV6_ADDR_SCOPE_MASK
    ifp = inet6_ifaddr(dev.ip6_ptr, addr, plen, scope, IFA_F_PERMANENT)
    dev.ip6_ptr.addr_list.append(ifp)
    net.ipv6.addr_hash.setdefault(addr, []).append(ifp)
    local = fib6_get_table(net, RT6_TABLE_LOCAL)
    flags = RTF_UP | RTF_LOCAL | RTF_NONEXTHOP
    ifp.rt = fib6_info(local, addr, 128, fib6_nh(dev), rtype=RTN_LOCAL, flags=flags, metric=0)
    fib6_add(net, ifp.rt)
    main = fib6_get_table(net, RT6_TABLE_MAIN)
    if plen < 128:
        fib6_add(net, fib6_info(main, addr & MASKS6[plen], plen, fib6_nh(dev), metric=256))
    join(dev, addrconf_addr_solict_mult(addr))


def join(dev: Any, group: int) -> None:
    mc = ifmcaddr6(dev.ip6_ptr, group)
    mc.filter.add(0)  # MCAST_EXCLUDE, no sources
    dev.ip6_ptr.mc_list[group] = mc


def static_neigh(dev: Any, addr: str, mac: bytes) -> None:
    """A neighbour for good."""
    n = __neigh_lookup(dev.net.ipv6.nd_tbl, ip6(addr), dev, True)
    assert n is not None
    neigh_update(n, mac, NUD_PERMANENT, NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_ADMIN)


def _constructor(n: Any) -> int:
    dev = n.dev
    n.ops = neigh_ops(
        lambda n, skb: None,
        lambda n, skb: kfree_skb(skb),
        neigh_resolve_output,
        neigh_connected_output,
    )
    if dev.flags & IFF_LOOPBACK:
        n.nud_state, n.ha = NUD_NOARP, bytes(6)
    elif n.primary_key >> 120 == 0xFF:
        n.nud_state, n.ha = NUD_NOARP, ipv6_eth_mc_map(n.primary_key)
    n.output = n.ops.connected_output if n.nud_state & NUD_NOARP else n.ops.output
    return 0


def one_host6(
    *, addrs: tuple[str, ...] = (f"{ME}/64",), sysctl: dict[str, Any] | None = None
) -> Net6:
    """A host with one interface per address, neighbours PEER and GW known on the first."""
    clock = VirtualClock()
    host = Host(name="h", clock=clock, drivers=False, sysctl=sysctl)
    if host.ipv6.nd_tbl is None:
        host.ipv6.nd_tbl = neigh_table(host, "ndisc_cache", ETH_P_IPV6, _constructor)
        add_addr(host.loopback_dev, "::1/128")
    wires = []
    for i, addr in enumerate(addrs):
        wire = add_wire_device(host, b"\x02\x00\x00\x00\x00" + bytes([i + 1]))
        assert dev_open(wire.dev) == 0
        add_addr(wire.dev, f"fe80::{i + 1}/64")
        add_addr(wire.dev, addr)
        wires.append(wire)
    dev = wires[0].dev
    for addr, lladdr in ((PEER, PEER_MAC), (PEER_LL, PEER_MAC), (GW, GW_MAC)):
        static_neigh(dev, addr, lladdr)
    clock.run_for(10 * SEC)
    for wire in wires:
        wire.sent.clear()
    return Net6(host, wires)


def neighbour_of(dev: Any, addr: str) -> Any:
    """The neighbour entry of an address, made when missing."""
    n = __neigh_lookup(dev.net.ipv6.nd_tbl, ip6(addr), dev, True)
    assert n is not None
    return n
