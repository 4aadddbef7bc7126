"""Segmentation: against the twin, scapy as the foreign judge, and hostile headers."""

import contextlib
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import gso as ref
from fastpath.base import skbuff as S
from fastpath.base.csum import csum_ipv6_magic
from fastpath.base.dma import HostMemory
from fastpath.net.gso import skb_gso_segment, skb_gso_validate_network_len, udp_rcv_segment
from tests.fastpath.frames import tcp, udp
from tests.support import examples

TS = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2"


class Host:
    def __init__(self) -> None:
        self.mem = HostMemory(8 << 20)
        self.small = S.SkbPool(self.mem, 2048, 512)
        self.pages = S.SkbPool(self.mem, 32768, 64)

    def skb(
        self, frame: bytes, size: int, kind: int, *, net: int = 14, l4: int = 34, linear: int = 0
    ) -> S.sk_buff:
        """The frame with its payload in pages, headers (and `linear` bytes more) in the head."""
        n = min(len(frame), (l4 + 60 if linear == 0 else linear))
        skb = S.alloc_skb(self.small, n, 64)
        S.skb_put_data(skb, frame[:n])
        S.skb_add_data(skb, self.pages, frame, n, len(frame) - n)
        S.skb_reset_mac_header(skb)
        S.skb_set_network_header(skb, net)
        S.skb_set_transport_header(skb, l4)
        skb.gso_size, skb.gso_type, skb.ip_summed = size, kind, S.CHECKSUM_PARTIAL
        return skb


def cut(h: Host, skb: S.sk_buff, **kw: bool) -> list[bytes]:
    segs = skb_gso_segment(skb, h.small, **kw)
    out = [S.skb_to_bytes(s) for s in segs]
    S.kfree_skb_list(segs)
    return out


@settings(max_examples=examples(60), deadline=None)
@given(
    n=st.integers(1, 6000),
    size=st.integers(100, 1500),
    is_udp=st.booleans(),
    seq=st.sampled_from([1, 0xFFFFFF00]),
    at=st.integers(-5, 9000),
)
def test_one_segment_asks_for_the_time_stamp(
    n: int, size: int, is_udp: bool, seq: int, at: int
) -> None:
    frame = udp(bytes(n)) if is_udp else tcp(bytes(n), seq=seq)
    h = Host()
    skb = h.skb(frame, size, S.SKB_GSO_UDP_L4 if is_udp else S.SKB_GSO_TCPV4)
    skb.tx_flags, skb.tskey = 2, (seq + at) & 0xFFFFFFFF
    segs = skb_gso_segment(skb, h.small)
    asks = [i for i, seg in enumerate(segs) if seg.tx_flags]
    want = ref.stamped(seq, len(segs), size, skb.tskey, tcp=not is_udp)
    assert asks == [] if want is None else asks == [want]
    assert {seg.tskey for seg in segs} == {skb.tskey}
    S.kfree_skb_list(segs)
    S.kfree_skb(skb)


@settings(max_examples=examples(80), deadline=None)
@given(
    n=st.integers(0, 9000),
    size=st.integers(1, 3000),
    v6=st.booleans(),
    is_udp=st.booleans(),
    flags=st.sampled_from([0x10, 0x18, 0x19, 0x99, 0xD8]),
    fixed=st.booleans(),
    options=st.sampled_from([b"", TS]),
    seq=st.sampled_from([1, 0xFFFFFFF0]),
)
def test_segments_equal_the_twins(
    n: int, size: int, v6: bool, is_udp: bool, flags: int, fixed: bool, options: bytes, seq: int
) -> None:
    size = max(size, n // 300 + 1)
    payload = bytes(i * 31 & 0xFF for i in range(n))
    if is_udp:
        frame, kind = udp(payload, v6=v6), S.SKB_GSO_UDP_L4
    else:
        frame = tcp(payload, v6=v6, flags=flags, options=options, seq=seq)
        kind = S.SKB_GSO_TCPV6 if v6 else S.SKB_GSO_TCPV4
    if fixed:
        kind |= S.SKB_GSO_TCP_FIXEDID
    h = Host()
    skb = h.skb(frame, size, kind, l4=54 if v6 else 34)
    want = ref.segment(frame, 14, 54 if v6 else 34, size, kind)
    assert cut(h, skb) == want
    for s in skb_gso_segment(skb, h.small, csum_partial=True):
        assert s.ip_summed == S.CHECKSUM_PARTIAL
        assert S.skb_checksum_help(s)
        expected = bytearray(want.pop(0))
        place = (54 if v6 else 34) + (6 if is_udp else 16)
        if expected[place : place + 2] == b"\0\0":
            expected[place : place + 2] = b"\xff\xff"  # CSUM_MANGLED_0, for TCP too
        assert S.skb_to_bytes(s) == expected
        S.kfree_skb(s)
    assert not want
    assert skb.users == 1
    S.kfree_skb(skb)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


def test_scapy_finds_right_lengths_and_checksums() -> None:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.l2 import Ether

    h = Host()
    skb = h.skb(tcp(bytes(range(256)) * 40, flags=0x19, options=TS), 1448, S.SKB_GSO_TCPV4)
    frames = cut(h, skb)
    assert len(frames) == 8
    for i, f in enumerate(frames):
        p = Ether(f)
        assert p[TCP].flags == ("FPA" if i == 7 else "A")
        assert (p[IP].id, p[TCP].seq) == (i, 1 + 1448 * i)
        del p[IP].chksum, p[IP].len, p[TCP].chksum
        assert bytes(p) == f


SUMS = S.SKB_GSO_UDP_TUNNEL_CSUM
TUNNELS: dict[str, tuple[int, str]] = {
    "ipip": (S.SKB_GSO_IPXIP4, "IP(id=ident)"),
    "ip6tnl with options": (S.SKB_GSO_IPXIP6, "IPv6()/IPv6ExtHdrDestOpt()"),
    "gre": (S.SKB_GSO_GRE, "IP(id=ident)/GRE(key_present=1, key=5)"),
    "gre, a checksum": (S.SKB_GSO_GRE_CSUM, "IP(id=ident)/GRE(chksum_present=1)"),
    "gretap": (S.SKB_GSO_GRE_CSUM, "IP(id=ident)/GRE(chksum_present=1)/Ether()/Dot1Q(vlan=9)"),
    "ip6gre": (S.SKB_GSO_GRE_CSUM, "IPv6()/GRE(chksum_present=1)/Ether()"),
    "vxlan": (S.SKB_GSO_UDP_TUNNEL, "IP(id=ident)/UDP(chksum=0)/VXLAN(vni=7)/Ether()"),
    "vxlan, a checksum": (SUMS, "IP(id=ident)/UDP(sport=9)/VXLAN(vni=7)/Ether()"),
    "vxlan over IPv6": (SUMS, "IPv6()/UDP(sport=9)/VXLAN(vni=7)/Ether()/Dot1Q(vlan=9)"),
    "geneve": (SUMS, "IP(id=ident)/UDP(sport=9, dport=6081)/GENEVE(proto=0x6558, vni=7)/Ether()"),
    "geneve with options": (
        SUMS,
        "IPv6()/UDP(dport=6081)/GENEVE(proto=0x6558, optionlen=2, options=bytes(8))/Ether()",
    ),
}
"""Kind, and what is in front of the packet inside, in scapy's words."""


def in_tunnel(outside: str, inside: bytes, v6: bool, segment: int = 0) -> bytes:
    """The frame that scapy makes, with the checksums of the headers outside."""
    from scapy.all import GRE, IP, UDP, Dot1Q, Ether, IPv6, IPv6ExtHdrDestOpt
    from scapy.contrib.geneve import GENEVE
    from scapy.layers.vxlan import VXLAN

    ether = partial(Ether, dst="02:00:00:00:00:02", src="02:00:00:00:00:01")  # else scapy asks ARP
    layers = (GRE, IP, UDP, Dot1Q, IPv6, IPv6ExtHdrDestOpt)
    known: dict[str, Any] = {one.__name__: one for one in layers}
    known |= {"Ether": ether, "GENEVE": GENEVE, "VXLAN": VXLAN, "ident": 0xFFFE + segment & 0xFFFF}
    made: bytes = bytes(ether() / eval(outside, known) / (IPv6 if v6 else IP)(inside))
    return made


@pytest.mark.parametrize("name", TUNNELS)
@settings(max_examples=examples(10), deadline=None)
@given(
    n=st.integers(1, 5000),
    size=st.integers(200, 1500),
    v6=st.booleans(),
    fixed=st.booleans(),
    partial=st.booleans(),
)
def test_scapy_makes_the_same_segments_in_tunnels(
    name: str, n: int, size: int, v6: bool, fixed: bool, partial: bool
) -> None:
    kind, outside = TUNNELS[name]
    kind |= S.SKB_GSO_TCPV6 if v6 else S.SKB_GSO_TCPV4
    kind |= S.SKB_GSO_TCP_FIXEDID if fixed else 0
    payload = bytes(i * 37 & 0xFF for i in range(n))
    whole = tcp(payload, v6=v6, flags=0x19, options=TS)
    first = 34 if "IPv6" not in outside else 54
    frame = in_tunnel(outside, whole[14:], v6)
    start = len(frame) - len(whole) + 14 + (40 if v6 else 20)
    h = Host()
    skb = h.skb(frame, size, kind, l4=first, linear=min(len(frame), start + 32))
    skb.csum_start = S.skb_headroom(skb) + start
    assert skb_gso_validate_network_len(skb, start - 14 + 32 + size)
    assert not skb_gso_validate_network_len(skb, start - 14 + 31 + size)
    inner_kind = kind & ~S.SKB_GSO_ENCAP
    inside = ref.segment(whole, 14, 54 if v6 else 34, size, inner_kind)
    want = [in_tunnel(outside, one[14:], v6, i) for i, one in enumerate(inside)]
    segs = skb_gso_segment(skb, h.small, csum_partial=partial)
    for seg in segs:
        assert seg.ip_summed == (S.CHECKSUM_PARTIAL if partial else S.CHECKSUM_NONE)
        assert seg.gso_type == (kind & S.SKB_GSO_ENCAP if partial else 0)
        S.skb_checksum_help(seg)
    assert [S.skb_to_bytes(seg) for seg in segs] == want
    S.kfree_skb_list(segs)
    S.kfree_skb(skb)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


@settings(max_examples=examples(300), deadline=None)
@given(
    name=st.sampled_from(list(TUNNELS)),
    at=st.integers(0, 90),
    value=st.integers(0, 255),
    cut_off=st.integers(0, 200),
    move=st.integers(-90, 90),
)
def test_hostile_headers_of_tunnels_raise_or_segment(
    name: str, at: int, value: int, cut_off: int, move: int
) -> None:
    kind, outside = TUNNELS[name]
    frame = bytearray(in_tunnel(outside, tcp(bytes(300))[14:], False))
    start = len(frame) - 320 + move
    frame[14 + at] = value
    h = Host()
    skb = h.skb(bytes(frame[: len(frame) - cut_off]), 100, kind | S.SKB_GSO_TCPV4)
    skb.csum_start = S.skb_headroom(skb) + start
    with contextlib.suppress(ValueError):
        S.kfree_skb_list(skb_gso_segment(skb, h.small))
    skb.ip_summed = S.CHECKSUM_NONE
    with pytest.raises(ValueError, match="checksum"):
        skb_gso_segment(skb, h.small)
    S.kfree_skb(skb)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


@pytest.mark.parametrize("chain", ["options", "routing"])
@pytest.mark.parametrize("is_udp", [False, True])
def test_scapy_agrees_behind_extension_headers(chain: str, is_udp: bool) -> None:
    """The sum is over the final destination, which a routing header keeps to itself."""
    from scapy.layers.inet import TCP, UDP
    from scapy.layers.inet6 import (
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        PadN,
    )
    from scapy.layers.l2 import Ether

    head = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    head /= IPv6(src="2001:db8::1", dst="2001:db8::2", fl=0x12345, tc=8)
    final = 0x20010DB8 << 96 | 2
    if chain == "options":
        head /= IPv6ExtHdrHopByHop(options=[PadN(optdata=b"abc")]) / IPv6ExtHdrDestOpt()
    else:
        final = 0x20010DB8 << 96 | 0x77
        head /= IPv6ExtHdrRouting(addresses=["2001:db8::77"])
    payload = bytes(range(256)) * 9
    transport = UDP(sport=1, dport=2) if is_udp else TCP(sport=1, dport=2, seq=9, flags="A")
    whole = bytearray(bytes(head / transport / payload))
    l4, place, proto = len(bytes(head)), (6 if is_udp else 16), (17 if is_udp else 6)
    seed = csum_ipv6_magic(0x20010DB8 << 96 | 1, final, len(whole) - l4, proto) ^ 0xFFFF
    whole[l4 + place : l4 + place + 2] = seed.to_bytes(2, "big")
    h = Host()
    kind = S.SKB_GSO_UDP_L4 if is_udp else S.SKB_GSO_TCPV6
    skb = h.skb(bytes(whole), 1000, kind, l4=l4)
    want = []
    for at in range(0, len(payload), 1000):
        if not is_udp:
            transport.seq = 9 + at
        want.append(bytes(head / transport / payload[at : at + 1000]))
    assert cut(h, skb) == want
    for seg in skb_gso_segment(skb, h.small, csum_partial=True):
        assert S.skb_checksum_help(seg)
        assert S.skb_to_bytes(seg) == want.pop(0)
        S.kfree_skb(seg)
    S.kfree_skb(skb)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


def test_segments_keep_what_belongs_to_the_packet() -> None:
    h = Host()
    skb = h.skb(tcp(bytes(3000)), 1000, S.SKB_GSO_TCPV4)
    skb.dev, skb.dst, skb.sk, skb.destructor = object(), object(), object(), lambda s: None
    skb.priority, skb.mark, skb.vlan_tci, skb.vlan_proto, skb.protocol = 1, 2, 3, 0x8100, 0x800
    for s in skb_gso_segment(skb, h.small):
        assert (s.dev, s.dst, s.sk, s.destructor) == (skb.dev, skb.dst, skb.sk, None)
        assert (s.priority, s.mark, s.vlan_tci, s.vlan_proto, s.protocol) == (
            1,
            2,
            3,
            0x8100,
            0x800,
        )
        assert (s.gso_size, s.gso_segs, s.gso_type) == (0, 0, 0)
        assert (S.skb_network_offset(s), S.skb_transport_offset(s)) == (14, 34)


def test_large_segments_go_by_reference() -> None:
    h = Host()
    frame = tcp(bytes(range(256)) * 100)
    skb = h.skb(frame, 9000, S.SKB_GSO_TCPV4)
    assert cut(h, skb) == ref.segment(frame, 14, 34, 9000, S.SKB_GSO_TCPV4)


def test_exhaustion_leaks_nothing() -> None:
    h = Host()
    few = S.SkbPool(h.mem, 2048, 4)
    skb = h.skb(tcp(bytes(10000)), 1000, S.SKB_GSO_TCPV4)
    with pytest.raises(MemoryError, match="exhausted"):
        skb_gso_segment(skb, few)
    assert few.in_use == 0
    S.kfree_skb(skb)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.binary(min_size=0, max_size=120),
    st.integers(0, 130),
    st.integers(0, 130),
    st.integers(0, 70000),
    st.sampled_from([0, 1, 16, 1 << 17, 9, 0xFFFFFFFF]),
    st.booleans(),
)
def test_hostile_headers_raise_or_segment(
    data: bytes, net: int, l4: int, size: int, kind: int, plausible: bool
) -> None:
    h = Host()
    if plausible:
        data = tcp(b"x" * 30)[: len(data)]
    skb = S.skb_from_bytes(h.small, data, 64)
    skb.network_header, skb.transport_header = 64 + net, 64 + l4
    skb.gso_size, skb.gso_type = size, kind
    with contextlib.suppress(ValueError):
        S.kfree_skb_list(skb_gso_segment(skb, h.small))
    S.kfree_skb(skb)
    assert h.small.in_use == 0


@pytest.mark.parametrize("size", [-1, 0, 0x10000, 0xFFFFFFFF, 1 << 32 | 100])
def test_a_segment_size_of_more_than_16_bits_is_refused(size: int) -> None:
    h = Host()
    skb = h.skb(tcp(bytes(100)), size, S.SKB_GSO_TCPV4)
    with pytest.raises(ValueError, match=f"gso_size is {size}"):
        skb_gso_segment(skb, h.small)
    S.kfree_skb(skb)
    assert h.small.in_use == 0


def test_seglen() -> None:
    h = Host()
    skb = h.skb(tcp(bytes(5000), options=TS), 1448, S.SKB_GSO_TCPV4)
    assert skb_gso_validate_network_len(skb, 1500)
    assert not skb_gso_validate_network_len(skb, 1499)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("size", [64, 1500])
def test_udp_rcv_segment_gives_the_datagrams_back(size: int, v6: bool) -> None:
    h = Host()
    payload = bytes(i & 0xFF for i in range(size * 4 + 10))
    frame, l4 = (udp(payload, v6=True, src=5), 54) if v6 else (udp(payload, saddr=5), 34)
    skb = h.skb(frame, size, S.SKB_GSO_UDP_L4, l4=l4)
    S.skb_pull(skb, l4)
    segs = udp_rcv_segment(skb, h.small)
    assert skb.users == 0
    got = b""
    for s in segs:
        assert s.transport_header == s.data_offset
        assert S.skb_csum_unnecessary(s)
        assert S.skb_copy_bits(s, -20 if v6 else -8, 4) == (5).to_bytes(4, "big")
        got += S.skb_to_bytes(s)[8:]
    assert [len(s) - 8 for s in segs] == [size] * 4 + [10]
    assert got == payload
    S.kfree_skb_list(segs)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)


def test_udp_rcv_segment_frees_malformed() -> None:
    h = Host()
    skb = h.skb(tcp(bytes(100)), 10, S.SKB_GSO_TCPV4)
    S.skb_pull(skb, 34)
    with pytest.raises(ValueError, match="not UDP"):
        udp_rcv_segment(skb, h.small)
    assert (h.small.in_use, h.pages.in_use) == (0, 0)
