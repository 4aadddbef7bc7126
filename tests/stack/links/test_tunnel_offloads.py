"""Offloads of tunnels: super-packets get headers once, and the wire is as without offloads.

The frames of a stream are compared with those that the same host sends with the tunnel's offloads
off. There each segment gets its own headers. tshark judges every checksum, too
(tests/stack/conftest.py).
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from scapy.all import ARP, IP, TCP, UDP, Ether

from e1000emu.capture import read_capture
from e1000emu.clock import VirtualClock
from fastpath.base.skbuff import CHECKSUM_PARTIAL, SKB_GSO_ENCAP
from stack.core.ethtool import ethtool_set_features
from stack.core.netdevice import (
    ETH_P_ALL,
    NETIF_F_GSO_SOFTWARE,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
)
from stack.host import Host
from stack.netfilter.nat import dnat, masquerade
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM
from stack.tunnel.vxlan import vxlan_config, vxlan_newlink
from tests.stack.core.wire import QUIET6, assert_no_leak, heard
from tests.stack.links.test_geneve import geneve
from tests.stack.links.test_tunnels import OUTSIDE4, OUTSIDE6, Pair
from tests.stack.links.test_veth import stream

SIZE = 200_000
INSIDE = {False: ("192.168.0.1", "192.168.0.2"), True: ("fd01::1", "fd01::2")}
CASES: dict[str, tuple[str, bool, dict[str, object]]] = {
    "ipip": ("ipip", False, {}),
    "sit": ("sit", True, {}),
    "gre": ("gre", False, {}),
    "gre, a key and a checksum": ("gre", True, {"key": 7, "csum": True}),
    "gretap": ("gretap", False, {}),
    "gretap, a checksum": ("gretap", True, {"csum": True}),
    "ip6tnl, IPv4": ("ip6tnl", False, {}),
    "ip6tnl, IPv6": ("ip6tnl", True, {}),
    "ip6gre": ("ip6gre", True, {}),
    "ip6gretap, a checksum": ("ip6gretap", False, {"csum": True}),
    "vxlan": ("vxlan", False, {"udp_csum": False}),
    "vxlan, a checksum": ("vxlan", True, {"udp_csum": True}),
    "vxlan over IPv6": ("vxlan6", False, {}),
    "geneve": ("geneve", True, {"udp_csum": False}),
    "geneve over IPv6": ("geneve6", False, {}),
}
"""Kind of the tunnel, whether IPv6 is inside, and words."""


def number(text: str) -> int:
    """An address as the stack has it."""
    return int(ipaddress.ip_address(text))


def join(
    host: Host, kind: str, ends: tuple[str, str], name: str = "t0", link: str = "eth0", **words: Any
) -> None:
    """A tunnel from `ends[0]` to `ends[1]`."""
    if kind.startswith("geneve"):
        geneve(host, name, ends[1], **words)
    elif kind.startswith("vxlan"):
        cfg = vxlan_config()
        cfg.vni, cfg.dst_port = 7, 4789
        cfg.family = 10 if kind.endswith("6") else 2
        cfg.local, cfg.remote = (number(end) for end in ends)
        for word, value in words.items():
            setattr(cfg, word, value)
        with host.lock:
            cfg.link = host.dev(link).ifindex
            vxlan_newlink(host, name, cfg)
        host.ifconfig(name, up=True)
    else:
        host.add_tunnel(name, kind, local=ends[0], remote=ends[1], up=True, **words)


def addresses(host: Host, kind: str, at: int) -> None:
    """Those inside."""
    if kind != "sit":
        host.ifconfig("t0", f"{INSIDE[False][at]}/24")
    if kind != "ipip":
        host.ifconfig("t0", f"{INSIDE[True][at]}/64")


def joined(wire: Pair, kind: str, **words: object) -> None:
    """The tunnel on both hosts of a wire."""
    ends = OUTSIDE6 if kind.endswith("6") or kind.startswith("ip6") else OUTSIDE4
    for at, host in enumerate(wire.hosts):
        join(host, kind, (ends[at], ends[1 - at]), **words)
        addresses(host, kind, at)
    wire.clock.run_for(3 * 10**9)


def tap(net: Host, name: str) -> list[tuple[int, int, int, int]]:
    """(bytes, segments, kind of tunnel, ip_summed) of every packet that a device carries."""

    def look(skb: Any) -> tuple[int, int, int, int]:
        return skb.len, skb.gso_segs, skb.gso_type & SKB_GSO_ENCAP, skb.ip_summed

    return heard(net, ETH_P_ALL, look, net.dev(name))


def sent(path: Path, kind: str, six: bool, words: dict[str, object], off: str) -> list[bytes]:
    """The wire's frames of a stream. `off`: features of the sender's tunnel that are off."""
    wire = Pair(path)
    joined(wire, kind, **words)
    t0 = wire.a.dev("t0")
    assert t0.features & NETIF_F_GSO_SOFTWARE == NETIF_F_GSO_SOFTWARE
    assert t0.features & NETIF_F_HW_CSUM
    assert t0.features & NETIF_F_SG
    ethtool_set_features(t0, dict.fromkeys(off.split(), False))
    ethtool_set_features(wire.b.dev("t0"), {"gro": False})  # what it acknowledges follows no poll
    upper, lower = tap(wire.a, "t0"), tap(wire.a, "eth0")
    stream(wire.a, wire.b, INSIDE[six][1], SIZE)
    large = [segs for _, segs, _, _ in upper if segs > 1]
    if off:
        assert not large
        assert CHECKSUM_PARTIAL not in [summed for *_, summed in upper]
    else:  # the NIC cuts no tunnels: the frames reach it one by one
        assert max(large) > 10
    assert max(length for length, *_ in lower) <= 1514
    assert {(segs, summed) for _, segs, _, summed in lower} <= {(0, 0), (0, 1)}
    wire.capture.writer.flush()
    frames = [one.data for one in read_capture(path)]
    assert_no_leak(*wire.hosts)
    return frames


class Spaces:
    """Two namespaces of one host, each with an end of a veth."""

    def __init__(self, kind: str, **words: object) -> None:
        self.clock = VirtualClock()
        self.host = Host("h", clock=self.clock, sysctl=QUIET6)
        self.other = self.host.netns_add("other", sysctl=QUIET6)
        self.host.add_veth("eth0", (self.other, "eth0"), up=True)
        self.nets = (self.host, self.other)
        for at, net in enumerate(self.nets):
            net.ifconfig("eth0", f"{OUTSIDE4[at]}/24", up=True)
            net.ifconfig("eth0", f"{OUTSIDE6[at]}/64")
        six = kind.endswith("6") or kind.startswith("ip6")
        self.ends = OUTSIDE6 if six else OUTSIDE4
        for at, net in enumerate(self.nets):
            if words.get("one_end") and at:
                continue
            inside = {word: value for word, value in words.items() if word != "one_end"}
            join(net, kind, (self.ends[at], self.ends[1 - at]), **inside)
            addresses(net, kind, at)
        self.clock.run_for(3 * 10**9)


@pytest.mark.parametrize("name", CASES)
def test_what_comes_out_of_a_tunnel_is_merged(tmp_path: Path, name: str) -> None:
    """By the receiver's tunnel, unless `gro off`; sit has none, as on Linux."""
    kind, six, words = CASES[name]
    wire = Pair(tmp_path / "wire.pcapng")
    joined(wire, kind, **words)
    seen = tap(wire.b, "t0")
    stream(wire.a, wire.b, INSIDE[six][1], SIZE)
    most = max(segs for _, segs, _, _ in seen)
    assert most == 0 if kind == "sit" else most > 3
    del seen[:]
    ethtool_set_features(wire.b.dev("t0"), {"gro": False})
    stream(wire.a, wire.b, INSIDE[six][1], SIZE)
    assert max(segs for _, segs, _, _ in seen) == 0
    for host in wire.hosts:
        host.del_link("t0")
    assert_no_leak(*wire.hosts)


@pytest.mark.parametrize("name", CASES)
def test_super_packets_stay_whole_over_veth(name: str) -> None:
    kind, six, words = CASES[name]
    spaces = Spaces(kind, **words)
    lower, upper = tap(spaces.other, "eth0"), tap(spaces.other, "t0")
    stream(spaces.host, spaces.other, INSIDE[six][1], SIZE)
    kinds = {encap for length, segs, encap, _ in lower if segs > 1}
    assert len(kinds) == 1
    assert kinds != {0}
    assert max(segs for _, segs, _, _ in upper) > 5
    assert {encap for _, _, encap, _ in upper} == {0}
    del lower[:], upper[:]
    off = {"tx-gre-segmentation", "tx-gre-csum-segmentation", "tx-ipxip4-segmentation"}
    off |= {"tx-ipxip6-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"}
    ethtool_set_features(spaces.host.dev("eth0"), dict.fromkeys(off, False))
    stream(spaces.host, spaces.other, INSIDE[six][1], SIZE)
    assert max(length for length, _, encap, _ in lower) <= 1514
    assert {summed for *_, summed in upper if summed} <= {CHECKSUM_PARTIAL}
    assert_no_leak(spaces.host)


def test_a_socket_that_is_no_tunnel_gets_single_datagrams() -> None:
    """As on the wire: a header of VXLAN and one frame, whose checksum is made.

    A packet that is no super-packet has its sum from nobody, as on Linux over a veth.
    """
    spaces = Spaces("vxlan", one_end=True, udp_csum=True)
    host, other = spaces.nets
    mac = "02:00:00:00:00:0b"
    head = bytes((8, 0, 0, 0, 0, 0, 7, 0))
    with other.socket(AF_INET, SOCK_DGRAM) as sock, host.socket(AF_INET, SOCK_STREAM) as client:
        sock.bind((OUTSIDE4[1], 4789))
        sock.settimeout(5)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect((INSIDE[False][1], 80))
        asked = Ether(sock.recv(65536)[8:])
        reply = ARP(op=2, hwsrc=mac, psrc=INSIDE[False][1], hwdst=asked.src, pdst=asked[ARP].psrc)
        sock.sendto(head + bytes(Ether(src=mac, dst=asked.src) / reply), (OUTSIDE4[0], 4789))
        syn = Ether(sock.recv(65536)[8:])
        answer: Any = Ether(src=mac, dst=syn.src) / IP(src=syn[IP].dst, dst=syn[IP].src)
        answer /= TCP(
            sport=80, dport=syn[TCP].sport, flags="SA", seq=7, ack=syn[TCP].seq + 1,
            options=[("MSS", 1000)], window=60000,
        )  # fmt: skip
        sock.sendto(head + bytes(answer), (OUTSIDE4[0], 4789))
        spaces.clock.run_for(10**6)
        client.send(bytes(8000))
        got = b""
        while len(got) < 8000:
            datagram = sock.recv(65536)
            assert datagram[:8] == head
            frame = Ether(datagram[8:])
            assert frame[IP].len <= 1040
            if frame[TCP].payload:
                scapy_sums(datagram[8:])
                got += bytes(frame[TCP].payload)
        assert got == bytes(8000)
    host.close()


def test_a_router_masquerades_tunnels(tmp_path: Path) -> None:
    """The addresses outside change, of super-packets and of single ones with a sum inside."""
    wire = Pair(tmp_path / "wire.pcapng", **{"net.ipv4.ip_forward": 1})
    inner = wire.a.netns_add("inner", sysctl=QUIET6)
    wire.a.add_veth("veth0", (inner, "eth0"), up=True)
    wire.a.ifconfig("veth0", "10.5.0.1/24", up=True)
    inner.ifconfig("eth0", "10.5.0.2/24", up=True)
    inner.route_add("10.0.0.0/24", via="10.5.0.1")
    masquerade(wire.a, oif="eth0")
    dnat(wire.a, "10.5.0.2:4789", iif="eth0", proto="udp", dport=4789)
    join(inner, "vxlan", ("10.5.0.2", OUTSIDE4[1]), udp_csum=True)
    join(wire.b, "vxlan", (OUTSIDE4[1], OUTSIDE4[0]), udp_csum=True)
    addresses(inner, "vxlan", 0)
    addresses(wire.b, "vxlan", 1)
    wire.clock.run_for(3 * 10**9)
    with inner.socket(AF_INET, SOCK_DGRAM) as tx, wire.b.socket(AF_INET, SOCK_DGRAM) as rx:
        rx.bind((INSIDE[False][1], 9))
        rx.settimeout(5)
        tx.sendto(b"x" * 1000, (INSIDE[False][1], 9))
        assert rx.recv(2000) == b"x" * 1000
    seen = tap(wire.a, "veth0")
    stream(inner, wire.b, INSIDE[False][1], SIZE)
    assert max(segs for _, segs, _, _ in seen) > 10
    frames = [one for one in wire.frames() if UDP in one and one[IP].src == OUTSIDE4[0]]
    assert len(frames) > SIZE // 1500
    for frame in frames[:: len(frames) // 20]:
        scapy_sums(bytes(frame))
    assert_no_leak(*wire.hosts)


@pytest.mark.parametrize("pair", [("vxlan", "gre"), ("gre", "vxlan"), ("ipip", "gretap")])
def test_tunnels_in_tunnels(tmp_path: Path, pair: tuple[str, str]) -> None:
    """The second one gets what the first has cut: two levels of headers are not for the device."""
    wire = Pair(tmp_path / "wire.pcapng")
    joined(wire, pair[0])
    for at, host in enumerate(wire.hosts):
        ends = INSIDE[False][at], INSIDE[False][1 - at]
        join(host, pair[1], ends, "t1", "t0")
        host.ifconfig("t1", f"192.168.9.{at + 1}/24")
    wire.clock.run_for(3 * 10**9)
    upper, lower = tap(wire.a, "t1"), tap(wire.a, "t0")
    stream(wire.a, wire.b, "192.168.9.2", SIZE)
    assert max(segs for _, segs, _, _ in upper) > 10
    assert {(segs, encap) for _, segs, encap, _ in lower} == {(0, 0)}
    data = [one for one in wire.frames() if len(one) > 1200]
    for frame in data[:: len(data) // 20]:
        scapy_sums(bytes(frame))
    assert_no_leak(*wire.hosts)


def scapy_sums(frame: bytes) -> None:
    """scapy makes each checksum that is there anew, to the same."""
    packet = Ether(frame)
    again = Ether(frame)
    layer = again
    while layer:
        for field in ("chksum", "cksum"):
            if layer.fields.get(field):
                delattr(layer, field)
        layer = layer.payload
    assert bytes(again) == bytes(packet)


@pytest.mark.parametrize("name", CASES)
def test_the_wire_is_as_without_offloads(tmp_path: Path, name: str) -> None:
    kind, six, words = CASES[name]
    with_offloads = sent(tmp_path / "on.pcapng", kind, six, words, "")
    without = sent(tmp_path / "off.pcapng", kind, six, words, "tso gso tx")
    assert with_offloads == without
    data = [one for one in with_offloads if len(one) > 1400]
    assert len(data) > SIZE // 1500
    for frame in data[:: len(data) // 20]:
        scapy_sums(frame)
