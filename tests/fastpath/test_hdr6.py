"""IPv6's checks and writer against the twin, messages by scapy; test_hdr.py has the views."""

from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath._ref import hdr6 as ref
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net import hdr6 as H
from tests.support import examples

POOL = S.SkbPool(HostMemory(4 << 20), 2048, 64)


def packet_of(data: bytes, paged: bool) -> S.sk_buff:
    """A sk_buff of `data`, in its linear part or in fragments."""
    skb = S.alloc_skb(POOL, 0, 16)
    if paged:
        S.skb_add_data(skb, POOL, data, 0, len(data))
    else:
        S.skb_put_data(skb, data)
    return skb


addresses = st.sampled_from(
    [0, 1, 2, 0xFE80 << 112 | 1, *(0xFF00 << 112 | s << 112 | 1 for s in (0, 1, 2, 5, 14))]
)


@settings(max_examples=examples(300), deadline=None)
@given(
    st.binary(max_size=60),
    addresses,
    addresses,
    st.sampled_from((6, 6, 6, 4)),
    st.integers(-2, 2),
    st.sampled_from((0, 6, 17, 60)),
    st.tuples(*[st.booleans()] * 4),
)
@example(b"", 2, 3, 6, 0, 0, (False,) * 4)
def test_ipv6_hdr_validate_equals_the_twin(
    body: bytes,
    src: int,
    dst: int,
    version: int,
    longer: int,
    nexthdr: int,
    how: tuple[bool, bool, bool, bool],
) -> None:
    loopback, gso, paged, no_length = how
    length = 0 if no_length else max(0, len(body) + longer)
    data = bytes([version << 4, 0, 0, 0]) + length.to_bytes(2, "big") + bytes([nexthdr, 64])
    data += src.to_bytes(16, "big") + dst.to_bytes(16, "big") + body
    for cut in (0, 1, len(body) + 1):
        given_ = data[: len(data) - cut]
        skb = packet_of(given_, paged)
        skb.gso_size = 100 * gso
        skb.ip_summed = S.CHECKSUM_COMPLETE
        verdict, keep = ref.ipv6_hdr_validate(given_, loopback=loopback, gso=gso)
        assert H.ipv6_hdr_validate(skb, loopback) == verdict
        if verdict == 0:
            assert S.skb_to_bytes(skb) == given_[:keep]
            assert (skb.network_header, skb.transport_header - 40) == (skb.data_offset,) * 2
            trimmed = keep < len(given_)
            assert skb.ip_summed == (S.CHECKSUM_NONE if trimmed else S.CHECKSUM_COMPLETE)
        else:
            assert S.skb_to_bytes(skb) == given_
        S.kfree_skb(skb)


headers = st.sampled_from((0, 43, 44, 51, 59, 60, 60, 6))


@settings(max_examples=examples(300), deadline=None)
@given(
    st.lists(
        st.tuples(headers, st.integers(0, 3), st.sampled_from((0, 1, 6, 8, 0xFFF8))), max_size=6
    ),
    headers,
    st.integers(0, 40),
    st.booleans(),
)
@example([], 59, 0, False)
def test_skipping_extension_headers_equals_the_twin(
    chain: list[tuple[int, int, int]], first: int, cut: int, paged: bool
) -> None:
    data, kind = b"", first
    for nexthdr, units, word in chain:
        size = 8 if kind == 44 else (units + 2) * 4 if kind == 51 else (units + 1) * 8
        data += (bytes([nexthdr, units]) + word.to_bytes(2, "big") + bytes(40))[:size]
        kind = nexthdr
    data = (data + bytes(20))[: max(0, len(data) + 20 - cut)]
    skb = packet_of(data, paged)
    for start in (0, 8, len(data), len(data) + 1, -1):
        want = (-1, first, 0)
        if 0 <= start <= len(data):
            want = ref.ipv6_skip_exthdr(data, start, first)
        assert H.ipv6_skip_exthdr(skb, start, first) == want
    S.kfree_skb(skb)


u128 = st.integers(0, (1 << 128) - 1)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.integers(0, 255), st.integers(0, 255), st.integers(0, 0xFFFFFFFF), u128, u128,
    st.binary(max_size=80), st.booleans(),
)  # fmt: skip
def test_icmp6_push_and_its_checksum(
    kind: int, code: int, un: int, s: int, d: int, body: bytes, paged: bool
) -> None:
    skb = S.alloc_skb(POOL, 0, 128)
    if paged:
        S.skb_add_data(skb, POOL, body, 0, len(body))
    else:
        S.skb_put_data(skb, body)
    H.icmp6_push(skb, kind, code, un, s, d)
    assert S.skb_to_bytes(skb) == ref.icmp6_message(kind, code, un, s, d, body)
    assert skb.transport_header == skb.data_offset
    view = H.icmp6_hdr(skb)
    assert (view.icmp6_type, view.icmp6_code, view.icmp6_unused) == (kind, code, un)
    assert H.icmp6_csum(skb, s, d) == 0
    was, view.icmp6_cksum = view.icmp6_cksum, 0
    assert H.icmp6_csum(skb, s, d) == was
    S.kfree_skb(skb)
    with pytest.raises(ValueError, match="only 4"):
        H.icmp6_push(S.alloc_skb(POOL, 0, 4), 1, 0, 0, s, d)


def number(text: str) -> int:
    return int(IPv6Address(text))


def test_scapy_agrees_on_messages() -> None:
    from scapy.layers.inet6 import (
        ICMPv6EchoRequest,
        ICMPv6ND_NA,
        ICMPv6ND_RA,
        ICMPv6ND_Redirect,
        ICMPv6PacketTooBig,
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        PadN,
        RouterAlert,
    )

    def message(layer: object) -> S.sk_buff:
        skb = S.skb_from_bytes(POOL, bytes(IPv6(src="fe80::1", dst="ff02::1") / layer), 16)
        skb.network_header, skb.transport_header = 16, 56
        S.skb_pull(skb, 40)
        return skb

    skb = message(ICMPv6EchoRequest(id=0x1234, seq=5, data=b"x" * 9))
    icmp = H.icmp6_hdr(skb)
    assert (icmp.icmp6_type, icmp.icmp6_identifier, icmp.icmp6_sequence) == (128, 0x1234, 5)
    assert H.icmp6_csum(skb, number("fe80::1"), number("ff02::1")) == 0
    assert H.icmp6_hdr(message(ICMPv6PacketTooBig(mtu=1280))).icmp6_mtu == 1280

    skb = message(ICMPv6ND_NA(R=1, S=0, O=1, tgt="2001:db8::9"))
    icmp = H.icmp6_hdr(skb)
    assert (icmp.icmp6_router, icmp.icmp6_solicited, icmp.icmp6_override) == (1, 0, 1)

    skb = message(
        ICMPv6ND_RA(chlim=33, M=1, O=0, H=1, prf=3, routerlifetime=1800,
                    reachabletime=30000, retranstimer=1000)
    )  # fmt: skip
    icmp = H.icmp6_hdr(skb)
    assert (icmp.icmp6_hop_limit, icmp.icmp6_addrconf_managed, icmp.icmp6_addrconf_other) == (
        33, 1, 0,
    )  # fmt: skip
    assert (icmp.icmp6_home_agent, icmp.icmp6_router_pref, icmp.icmp6_rt_lifetime) == (1, 3, 1800)

    rd = H.rd_msg_at(message(ICMPv6ND_Redirect(tgt="fe80::3", dst="2001:db8::7")), 0)
    assert (rd.target, rd.dest) == (number("fe80::3"), number("2001:db8::7"))

    fragment = IPv6ExtHdrFragment(nh=17, res1=0x12, offset=0x345, res2=2, m=1, id=0x6789ABCD)
    frag = H.frag_hdr_at(S.skb_from_bytes(POOL, bytes(fragment)), 0)
    assert (frag.nexthdr, frag.reserved, frag.frag_off) == (17, 0x12, 0x345 << 3 | 5)
    assert frag.identification == 0x6789ABCD

    whole = IPv6(src="fe80::1", dst="fe80::2") / IPv6ExtHdrHopByHop(options=[RouterAlert()])
    whole /= IPv6ExtHdrRouting(addresses=["::9"]) / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"ab")])
    whole /= IPv6ExtHdrFragment(offset=0, m=1, id=0xCAFEBABE) / ICMPv6EchoRequest()
    skb = S.skb_from_bytes(POOL, bytes(whole))
    assert H.ipv6_skip_exthdr(skb, 40, 0) == (88, 58, 1)
    assert (H.frag_hdr_at(skb, 80).identification, H.frag_hdr_at(skb, 80).frag_off) == (
        0xCAFEBABE, 1,
    )  # fmt: skip
