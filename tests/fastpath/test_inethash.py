"""Connections by their two ends, against the twin."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import inethash as ref
from fastpath._ref.inetkey import Key
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net.inethash import InetHash
from fastpath.net.inetkey import inet_key, inet_skb_ends
from fastpath.net.parse import skb_parse
from tests.fastpath.frames import tcp, udp
from tests.support import examples

POOL = S.SkbPool(HostMemory(4 << 20), 2048, 64)
PORTS = st.integers(0, 2) | st.integers(0, 0xFFFF)
ADDRS = st.integers(0, 2) | st.integers(0, 0xFFFFFFFF)
ADDRS6 = st.integers(0, 2).map(lambda n: n << 32 * n) | st.integers(0, (1 << 128) - 1)
KEYS = st.tuples(st.just(2), ADDRS, PORTS, ADDRS, PORTS) | st.tuples(
    st.just(10), ADDRS6, PORTS, ADDRS6, PORTS
)
STEPS = st.tuples(st.sampled_from(("set", "set", "set", "del", "clear")), KEYS)


@given(st.lists(STEPS, max_size=150), st.data())
def test_inet_hash_equals_reference(steps: list[tuple[str, Key]], data: st.DataObject) -> None:
    ours: InetHash[int] = InetHash()
    twin: ref.InetHash[int] = ref.InetHash()
    for n, (what, any_key) in enumerate(steps):
        there = list(twin)
        key = data.draw(st.sampled_from(there)) if there and n % 3 == 0 else any_key
        match what:
            case "set":
                ours[key] = twin[key] = n
            case "del" if key in twin:
                del ours[key]
                del twin[key]
            case "del":
                with pytest.raises(KeyError):
                    del ours[key]
            case "clear" if n % 40 == 0:
                ours.clear()
                twin.clear()
        assert ours.get(key) == twin.get(key)
        assert (key in ours) == (key in twin)
        assert len(ours) == len(twin)
    assert list(ours) == ours.keys() == list(twin)
    assert ours.values() == list(twin.values())
    assert ours.items() == list(twin.items())
    assert [ours[key] for key in twin] == list(twin.values())
    assert bool(ours) == bool(twin)


@settings(max_examples=examples(50), deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_packet_finds_its_connection(v6: bool, stream: bool, parsed: bool, known: bool) -> None:
    """Whether its headers are parsed or not, as its key does."""
    frame = bytes((tcp if stream else udp)(b"data", v6=v6))
    skb = S.skb_from_bytes(POOL, frame)
    l4 = 54 if v6 else 34
    skb.protocol = 0x86DD if v6 else 0x0800
    skb.network_header, skb.transport_header = 14, l4
    S.skb_pull(skb, 14)
    if parsed:
        assert skb_parse(skb)
        skb.transport_header = l4
    key = inet_key(skb)
    ours: InetHash[str] = InetHash()
    twin: ref.InetHash[str] = ref.InetHash()
    family, saddr, sport, daddr, dport = key
    for near in (
        (family, daddr, sport, saddr, dport),
        (family, saddr, dport, daddr, sport),
        (family, saddr ^ 1 << 31, sport, daddr, dport),
        (family, saddr, sport, daddr ^ 1 << 31, dport),
        (12 - family, saddr & 0xFFFFFFFF, sport, daddr & 0xFFFFFFFF, dport),
    ):
        ours[near] = twin[near] = "another"
    if known:
        ours[key] = twin[key] = "its own"
    assert ours.find(inet_skb_ends(skb)) == ours.find_skb(skb)
    assert ours.find_skb(skb) == twin.find_packet(frame, 14, l4) == ("its own" if known else None)
    S.kfree_skb(skb)


def test_a_packet_without_headers() -> None:
    skb = S.skb_from_bytes(POOL, bytes(30))
    skb.network_header, skb.transport_header = 0, 20
    table: InetHash[int] = InetHash()
    with pytest.raises(ValueError, match="version 0"):
        table.find_skb(skb)
    skb.transport_header = 40
    with pytest.raises(IndexError):
        table.find_skb(skb)
    S.kfree_skb(skb)
    with pytest.raises(TypeError):
        table.find_skb(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        table.find(None)  # type: ignore[arg-type]


def test_what_is_no_key() -> None:
    table: InetHash[int] = InetHash()
    assert table.get(None) is None
    for wrong, error in (
        ((2, 1, 1, 1), ValueError),
        ((2, 1 << 32, 1, 1, 1), OverflowError),
        ((2, 1, 1 << 16, 1, 1), OverflowError),
        ((2, 1, 1, -1, 1), OverflowError),
        ((10, "::1", 1, 1, 1), TypeError),
        ([2, 1, 1, 1, 1], TypeError),
    ):
        with pytest.raises(error):
            table[wrong] = 1  # type: ignore[index]
        with pytest.raises(error):
            table.get(wrong)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        table[2, 1, 1, 1, 1]
    assert not table
    assert table.values() == []


class Value:
    """Something that can be referred to weakly, and tells what it finds when it ends."""

    def __init__(self, table: InetHash[Value] | None = None) -> None:
        self.table = table
        self.found: list[int] = []

    def __del__(self) -> None:
        if self.table is not None:
            self.found.append(len(self.table))


KEY = (2, 1, 2, 3, 4)


def test_values_are_let_go_when_the_map_is_as_it_is_to_be() -> None:
    table: InetHash[Value] = InetHash()
    for take_out, left in (
        (lambda: table.__delitem__(KEY), 0),
        (lambda: table.__setitem__(KEY, Value()), 1),
        (table.clear, 0),
    ):
        table[KEY] = value = Value(table)
        found = value.found
        del value
        take_out()
        assert found == [left]


def test_a_circle_is_collected() -> None:
    table: InetHash[object] = InetHash()
    holder = Value()
    gone = weakref.ref(holder)
    table[KEY] = [table, holder]
    del table, holder
    assert gone() is not None
    gc.collect()
    assert gone() is None
