"""The compiled steps of IP and UDP against their twins."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import inet as ref
from fastpath._ref.parse import parse
from fastpath.base.dma import HostMemory
from fastpath.base.intmap import IntMap
from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    PACKET_OTHERHOST,
    SKB_GSO_UDP_L4,
    SkbPool,
    kfree_skb,
    sk_buff,
    sk_buff_head,
    skb_checksum_help,
    skb_from_bytes,
    skb_pull,
    skb_reset_network_header,
    skb_set_transport_header,
    skb_to_bytes,
)
from fastpath.net import inet

MEMORY = HostMemory(1 << 20)
POOL = SkbPool(MEMORY, 2048, 64)
HEADS = SkbPool(MEMORY, 640, 8)
U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)


def packet(data: bytes) -> sk_buff:
    skb = skb_from_bytes(POOL, data, 64)
    assert skb is not None
    skb_reset_network_header(skb)
    return skb


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 70000), st.integers(0, 300)), max_size=40)
)
def test_identifications_equal_reference(steps: list[tuple[int, int, int]]) -> None:
    first = [Random(1).getrandbits(16) for _ in range(1024)]
    ours, theirs = inet.IpIdents(first), ref.IpIdents(first)
    r1, r2, now = Random(2), Random(2), 0
    for slot, segs, later in steps:
        now += later
        got = ours.reserve(slot, segs, now, r1.randrange)
        assert got == theirs.reserve(slot, segs, now, r2.randrange)


def test_identifications_need_all_generators() -> None:
    with pytest.raises(ValueError, match="1024"):
        inet.IpIdents([1, 2])


def flow(**options: Any) -> inet.UdpFlow:
    given = {"tos": 0, "ttl": 64, "df": True, "ignore_df": True} | options
    return inet.UdpFlow("sk", "dst", len, POOL, 60, 0x0A000001, 0x0A000002, 7, 9, **given)


@given(
    st.binary(max_size=1900), U32, U32, U16, U16, st.integers(0, 255), st.integers(0, 255),
    st.booleans(), U16, st.integers(0, 20), st.booleans(),
)  # fmt: skip
def test_datagram_equals_reference(
    data: bytes, saddr: int, daddr: int, sport: int, dport: int, tos: int, ttl: int, df: bool,
    ident: int, off: int, small: bool,
) -> None:  # fmt: skip
    payload = data[off:]
    made = inet.UdpFlow(
        "sk", "dst", None, POOL, 60, saddr, daddr, sport, dport, tos=tos, ttl=ttl, df=df,
        ignore_df=not df, mark=5, priority=6, ident_slot=3, idents=inet.IpIdents([ident] * 1024),
        small=HEADS if small else None,
    )  # fmt: skip
    skb = made.datagram(data, min(off, len(data)), len(payload))
    assert skb is not None
    assert HEADS.in_use == (small and len(payload) <= 640 - 60)
    if df:
        made.push_ip(skb, ident)
    else:
        made.push_ip_at(skb, 1)
    wanted = ref.datagram(saddr, daddr, sport, dport, tos, ttl, df, ident, payload)
    assert skb_to_bytes(skb) == wanted
    assert (skb.ip_summed, skb.csum_offset) == (CHECKSUM_PARTIAL, 6)
    assert skb.csum_start == skb.transport_header == skb.network_header + 20
    assert (skb.sk, skb.dst, skb.mark, skb.priority, skb.protocol) == ("sk", "dst", 5, 6, 0x0800)
    assert bool(skb.ignore_df) is not df
    assert made.counted is not df
    kfree_skb(skb)


U128 = st.integers(0, (1 << 128) - 1)


@given(st.sampled_from([2, 10]), U16, U16, st.integers(0, 0xFFFFF), st.integers(0, 0xFFFFF))
def test_an_aimed_flow_is_one_made_for_that_port(
    family: int, before: int, port: int, label: int, last: int
) -> None:
    def one(dport: int, flowlabel: int) -> inet.UdpFlow:
        return inet.UdpFlow(
            "sk", "dst", None, POOL, 80, 0x0A000001, 0x0A000002, 7, dport, tos=4, ttl=64,
            df=False, ignore_df=True, family=family, flowlabel=flowlabel,
        )  # fmt: skip

    frames = []
    aimed = one(before, last)
    aimed.aim(port, label)
    assert (aimed.saddr, aimed.daddr) == (0x0A000001, 0x0A000002)
    for made in (aimed, one(port, label)):
        skb = made.datagram(b"payload", 0, 7)
        assert skb is not None
        made.push_ip(skb, 1)
        frames.append(skb_to_bytes(skb))
        kfree_skb(skb)
    assert frames[0] == frames[1]
    for numbers in ((0x10000, 0), (-1, 0), (1, 1 << 20), (1, -1)):
        with pytest.raises(ValueError, match="aim"):
            aimed.aim(*numbers)


@given(
    st.binary(max_size=1900), U128, U128, U16, U16, st.integers(0, 255), st.integers(0, 255),
    st.integers(0, 0xFFFFF), st.booleans(),
)  # fmt: skip
def test_datagram_over_ipv6_equals_reference(
    payload: bytes, saddr: int, daddr: int, sport: int, dport: int, tclass: int, hops: int,
    label: int, ignore_df: bool,
) -> None:  # fmt: skip
    made = inet.UdpFlow(
        "sk", "dst", None, POOL, 80, saddr, daddr, sport, dport, tos=tclass, ttl=hops, df=False,
        ignore_df=ignore_df, mark=5, priority=6, idents=inet.IpIdents([1] * 1024),
        family=10, flowlabel=label,
    )  # fmt: skip
    skb = made.datagram(payload, 0, len(payload))
    assert skb is not None
    assert not made.counted
    made.push_ip_at(skb, 1) if ignore_df else made.push_ip(skb, 7)
    wanted = ref.datagram6(saddr, daddr, sport, dport, tclass, hops, label, payload)
    assert skb_to_bytes(skb) == wanted
    assert (skb.ip_summed, skb.csum_offset) == (CHECKSUM_PARTIAL, 6)
    assert skb.csum_start == skb.transport_header == skb.network_header + 40
    assert (skb.sk, skb.dst, skb.mark, skb.priority, skb.protocol) == ("sk", "dst", 5, 6, 0x86DD)
    assert bool(skb.ignore_df) is ignore_df
    kfree_skb(skb)


def test_scapy_agrees_on_a_datagram_over_ipv6() -> None:
    from scapy.layers.inet import UDP
    from scapy.layers.inet6 import IPv6

    made = flow(family=10, flowlabel=0xABCDE, tos=0x28, ttl=9, df=False)
    skb = made.datagram(b"hello", 0, 5)
    assert skb is not None
    made.push_ip(skb, 0)
    assert skb_checksum_help(skb)
    head = IPv6(src="::a00:1", dst="::a00:2", tc=0x28, fl=0xABCDE, hlim=9)
    assert skb_to_bytes(skb) == bytes(head / UDP(sport=7, dport=9) / b"hello")
    kfree_skb(skb)


@given(
    st.integers(0, 66000), st.integers(-1, 9000), st.integers(0, 300), st.booleans(),
    st.sampled_from([1500, 9000]), st.booleans(), U16,
)  # fmt: skip
def test_super_packet_equals_reference(
    n: int, size: int, off: int, v6: bool, mtu: int, small: bool, ident: int
) -> None:
    pages = SkbPool(MEMORY, 32768, 4)
    saddr, daddr = 0x0A000001, 0x0A000002
    given: dict[str, Any] = {"family": 10} if v6 else {}
    made = inet.UdpFlow(
        "sk", "dst", None, POOL, 80, saddr, daddr, 7, 9, tos=4, ttl=64, df=True, ignore_df=False,
        mark=5, priority=6, small=HEADS if small else None, mtu=mtu, **given,
    )  # fmt: skip
    data = bytes(range(256)) * (1 + (n + off) // 256)
    cut = ref.segments(n, size, mtu - (48 if v6 else 28), 40 if v6 else 20)
    assert made.cuts(n, size) is bool(cut)
    if not cut:
        with pytest.raises(ValueError, match="in datagrams of"):
            made.segments(data, off, n, size, pages)
        return
    skb = made.segments(data, off, n, size, pages)
    assert skb is not None
    assert (skb.gso_size, skb.gso_segs, skb.gso_type) == (size, len(cut), SKB_GSO_UDP_L4)
    made.push_ip(skb, ident)
    payload = data[off : off + n]
    if v6:
        wanted = ref.datagram6(saddr, daddr, 7, 9, 4, 64, 0, payload)
    else:
        wanted = ref.datagram(saddr, daddr, 7, 9, 4, 64, True, ident, payload)
    assert skb_to_bytes(skb) == wanted
    assert (skb.sk, skb.dst, skb.mark, skb.priority) == ("sk", "dst", 5, 6)
    assert (skb.ip_summed, skb.csum_offset) == (CHECKSUM_PARTIAL, 6)
    assert skb.csum_start == skb.transport_header
    kfree_skb(skb)
    assert POOL.in_use == HEADS.in_use == 0


def test_super_packet_says_when_buffers_are_out_and_bytes_are_not_there() -> None:
    pages = SkbPool(MEMORY, 4096, 2)
    made = flow(small=HEADS)
    with pytest.raises(ValueError, match="shorter buffer"):
        made.segments(bytes(3999), 0, 4000, 100, pages)
    assert made.segments(bytes(9000), 0, 9000, 100, pages) is None
    assert POOL.in_use == HEADS.in_use == 0
    pages = SkbPool(MEMORY, 4096, 2)
    taken = [skb_from_bytes(POOL, b"x", 0) for _ in range(64)]
    heads = [skb_from_bytes(HEADS, b"x", 0) for _ in range(8)]
    assert made.segments(bytes(4000), 0, 4000, 100, pages) is None
    for skb in taken + heads:
        assert skb is not None
        kfree_skb(skb)


def test_flow_wants_a_family_and_addresses_of_it() -> None:
    with pytest.raises(ValueError, match="family 1"):
        flow(family=1)
    for family, saddr in ((2, 1 << 32), (2, -1)):
        with pytest.raises(OverflowError):
            inet.UdpFlow(
                0, 0, 0, POOL, 80, saddr, 0, 0, 0, tos=0, ttl=0, df=True, ignore_df=True,
                family=family,
            )  # fmt: skip
    with pytest.raises(ValueError, match="headroom 47"):
        inet.UdpFlow(
            0, 0, 0, POOL, 47, 0, 0, 0, 0, tos=0, ttl=0, df=True, ignore_df=True, family=10
        )


def test_datagram_refuses_what_is_not_there() -> None:
    made = flow()
    for off, n in ((-1, 1), (0, -1), (0, 4), (4, 1), (3, 1), (0, made.room + 1)):
        with pytest.raises(ValueError, match="bytes"):
            made.datagram(b"abc", off, n)
    with pytest.raises(TypeError):
        made.datagram("text", 0, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="headroom"):
        inet.UdpFlow(0, 0, 0, POOL, 20, 0, 0, 0, 0, tos=0, ttl=0, df=True, ignore_df=True)


def test_short_datagrams_take_large_buffers_when_the_small_ones_are_out() -> None:
    one = SkbPool(MEMORY, 640, 1)
    made = flow(small=one)
    sent = [made.datagram(bytes(580), 0, n) for n in (580, 1, 0)]
    assert [skb.truesize - 256 for skb in sent if skb is not None] == [640, 2048, 2048]
    for skb in sent:
        kfree_skb(skb)
    assert not one.in_use


def test_datagram_says_when_the_pool_is_empty() -> None:
    small = SkbPool(MEMORY, 256, 1)
    made = inet.UdpFlow(0, 0, None, small, 60, 1, 2, 3, 4, tos=0, ttl=1, df=True, ignore_df=True)
    first = made.datagram(b"x", 0, 1)
    assert made.datagram(b"x", 0, 1) is None
    kfree_skb(first)
    again = made.datagram(b"y" * made.room, 0, made.room)
    kfree_skb(again)


@given(st.binary(max_size=80), st.data())
def test_received_header_equals_reference(tail: bytes, data: st.DataObject) -> None:
    whole = bytearray(ref.datagram(1, 2, 3, 4, 5, 6, True, 7, tail))
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.integers(1, len(whole)))]
    skb = packet(bytes(whole))
    seen = parse(bytes(whole))
    if seen is not None and seen.family == 2:
        assert inet.ip_route_fields(skb) == ref.route_fields(whole)
        assert inet.ip_is_fragment(skb) is (ref.route_fields(whole)[4] == 0)
        skb.pkt_type = PACKET_OTHERHOST
        assert inet.ip_route_fields(skb)[4] == min(ref.route_fields(whole)[4], 1)
        skb.transport_header = skb.network_header + seen.l4
        assert inet.ip_pull_header(skb) == whole[9]
        assert skb_to_bytes(skb) == whole[seen.l4 :]
    else:
        for step in (inet.ip_route_fields, inet.ip_is_fragment, inet.ip_pull_header):
            with pytest.raises(IndexError):
                step(skb)
    kfree_skb(skb)


@given(
    st.binary(max_size=60),
    st.sampled_from((1, 2, 0xFE80 << 112 | 1, 0xFF01 << 112 | 1, 0xFF02 << 112 | 1)),
    st.sampled_from((1, 2, *(n << 112 | 1 for n in (0xFF00, 0xFF01, 0xFF02, 0xFE80, 0xFEC0)))),
    st.data(),
)
def test_received_ipv6_header_equals_reference(
    tail: bytes, saddr: int, daddr: int, data: st.DataObject
) -> None:
    whole = bytearray(ref.datagram6(saddr, daddr, 3, 4, 5, 6, 7, tail))
    whole[6] = data.draw(st.sampled_from((17, 17, 17, 0, 43, 44, 51, 59, 60, 6)))
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, 7))] ^= data.draw(st.integers(0, 255))
    whole = whole[: data.draw(st.sampled_from((len(whole), len(whole), 41, 40, 39, 1)))]
    skb = packet(bytes(whole))
    seen = parse(bytes(whole))
    if seen is not None and seen.family == 10:
        assert inet.ip6_rcv_fields(skb) == ref.rcv_fields6(whole)
    else:
        with pytest.raises(IndexError):
            inet.ip6_rcv_fields(skb)
    if len(whole) >= 40:
        assert inet.ip6_to_group(skb) is (whole[24] == 0xFF)
        for ifindex in (0, 1, 0xFFFF, 0x10000):
            assert inet.ip6_neigh_key(skb, ifindex) == ref.neigh_key6(whole, ifindex)
    else:
        for step in (
            inet.ip6_pull_header,
            inet.ip6_to_group,
            lambda skb: inet.ip6_neigh_key(skb, 1),
        ):
            with pytest.raises(IndexError):
                step(skb)
    if len(whole) > 40:
        skb.transport_header = skb.network_header + 40
        with pytest.raises(IndexError):
            inet.ip6_pull_header(skb, 40)
        assert inet.ip6_pull_header(skb) == whole[6]
        assert skb_to_bytes(skb) == whole[40:]
        skb.transport_header = skb.data_offset + min(8, skb.len)
        assert inet.ip6_pull_header(skb, 39) == whole[39]
        assert skb_to_bytes(skb) == whole[40 + min(8, len(whole) - 40) :]
        assert inet.ip6_to_group(skb) is (whole[24] == 0xFF)
    kfree_skb(skb)


def test_queue_takes_packets_without_owner_only() -> None:
    queue, freed = sk_buff_head(), []
    data = ref.datagram(1, 2, 3, 4, 0, 9, True, 7, b"hello")
    skb = packet(data)
    skb_set_transport_header(skb, 20)
    skb_pull(skb, 20)
    size = skb.truesize
    assert inet.skb_queue_owned(queue, skb, "sk", freed.append, 8, size - 1) == 0
    assert inet.skb_queue_owned(queue, skb, "sk", freed.append, 8, size) == size
    assert (skb.sk, skb_to_bytes(skb), queue.qlen) == ("sk", b"hello", 1)
    other = packet(data)
    other.destructor = freed.append
    assert not inet.skb_queue_owned(queue, other, "sk", len, 8, 1 << 40)
    assert queue.qlen == 1
    with pytest.raises(ValueError, match="bytes"):
        inet.skb_queue_owned(queue, packet(b"x"), "sk", len, 8, 1 << 40)
    elsewhere = sk_buff_head()
    elsewhere.queue_tail(packet(data))
    with pytest.raises(ValueError, match="already"):
        inet.skb_queue_owned(queue, elsewhere.peek(), "sk", len, 8, 1 << 40)
    assert (elsewhere.peek().sk, elsewhere.peek().destructor) == (None, None)
    elsewhere.purge()
    queue.purge()
    kfree_skb(other)
    assert freed == [skb, other]
    del freed


def test_network_layer_starts_at_data() -> None:
    skb = packet(bytes(40))
    skb_pull(skb, 14)
    skb.protocol = 0x0800
    skb.vlan_proto = 0x8100
    before = skb.network_header
    assert inet.skb_enter_network(skb, 7) == -1
    assert (skb.network_header, skb.skb_iif) == (before, 0)
    skb.vlan_proto = 0
    assert inet.skb_enter_network(skb, 7) == 0x0800
    assert (skb.network_header, skb.skb_iif) == (before + 14, 7)
    kfree_skb(skb)


@given(
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=4),
    st.lists(st.integers(0, 0xFFFFFFFF), max_size=4),
    st.integers(0, 0xFFFFFFFF) | st.sampled_from([0x7F000001, 0xE0000001, 0x00FFFFFF, 0x01000000]),
    st.integers(0, 255),
    st.integers(1, 1 << 20),
)
def test_rth_find_equals_reference(kept, own, saddr, tos, ifindex):
    routes = {ref.rth_key(daddr, tos, ifindex): object() for daddr in kept}
    mine = dict.fromkeys(own, 1)
    routes_map, mine_map = IntMap(routes), IntMap(mine)
    for daddr in (*kept, *own, saddr):
        assert inet.rth_key(daddr, tos, ifindex) == ref.rth_key(daddr, tos, ifindex)
        for source in (saddr, *own):
            found = inet.rth_find(routes_map, mine_map, daddr, source, tos, ifindex)
            assert found is ref.rth_find(routes, mine, daddr, source, tos, ifindex)
