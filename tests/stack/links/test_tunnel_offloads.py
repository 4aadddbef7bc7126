"""Offloads of tunnels: super-packets get headers once, and the wire is as without offloads.

The frames of a stream are compared with those that the same host sends with the tunnel's offloads
off. There each segment gets its own headers. tshark judges every checksum, too
(tests/stack/conftest.py).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from scapy.all import Ether

from e1000emu.capture import read_capture
from fastpath.base.skbuff import CHECKSUM_PARTIAL, SKB_GSO_ENCAP, consume_skb
from stack.core.dev_receive import dev_add_pack
from stack.core.ethtool import ethtool_set_features
from stack.core.netdevice import (
    ETH_P_ALL,
    NETIF_F_GSO_SOFTWARE,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    packet_type,
)
from stack.host import Host
from stack.tunnel.vxlan import vxlan_config, vxlan_newlink
from tests.stack.core.wire import assert_no_leak
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


def join(host: Host, kind: str, ends: tuple[str, str], **words: object) -> None:
    """`t0` from `ends[0]` to `ends[1]`."""
    if kind.startswith("geneve"):
        geneve(host, "t0", ends[1], **words)
    elif kind.startswith("vxlan"):
        cfg = vxlan_config()
        cfg.vni, cfg.dst_port = 7, 4789
        cfg.family = 10 if kind.endswith("6") else 2
        cfg.local, cfg.remote = (number(end) for end in ends)
        for word, value in words.items():
            setattr(cfg, word, value)
        with host.lock:
            cfg.link = host.dev("eth0").ifindex
            vxlan_newlink(host, "t0", cfg)
        host.ifconfig("t0", up=True)
    else:
        host.add_tunnel("t0", kind, local=ends[0], remote=ends[1], up=True, **words)


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
    seen: list[tuple[int, int, int, int]] = []

    def func(skb, dev, pt, orig_dev):
        seen.append((skb.len, skb.gso_segs, skb.gso_type & SKB_GSO_ENCAP, skb.ip_summed))
        consume_skb(skb)
        return 0

    dev_add_pack(net, packet_type(ETH_P_ALL, func, dev=net.dev(name)))
    return seen


def sent(path: Path, kind: str, six: bool, words: dict[str, object], off: str) -> list[bytes]:
    """The wire's frames of a stream. `off`: features of the sender's tunnel that are off."""
    wire = Pair(path)
    joined(wire, kind, **words)
    t0 = wire.a.dev("t0")
    assert t0.features & NETIF_F_GSO_SOFTWARE == NETIF_F_GSO_SOFTWARE
    assert t0.features & NETIF_F_HW_CSUM
    assert t0.features & NETIF_F_SG
    ethtool_set_features(t0, dict.fromkeys(off.split(), False))
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
