"""fastpath.net.udp_batches beside its twin: folding rows, reading merged sk_buffs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import udp_batches as ref
from fastpath.base import skbuff as S
from fastpath.base.dma import HostMemory
from fastpath.net.gso import skb_gso_segment
from fastpath.net.inet import UdpFlow
from fastpath.net.sockaddr import sockaddr
from fastpath.net.udp_batches import (
    mmsg_recv,
    mmsg_send,
    udp_carve,
    udp_carve_all,
    udp_charge_split,
)
from tests.support import examples

MEM = HostMemory(8 << 20)
POOL, SMALL, PAGES = S.SkbPool(MEM, 2048, 512), S.SkbPool(MEM, 256, 1024), S.SkbPool(MEM, 4096, 64)
POOLS = POOL, SMALL, PAGES
HEADROOM = 96
A, B = 0x0A000001, 0x0A000002


def a_flow(family: int = 2, small: bool = True, mtu: int = 1500) -> UdpFlow:
    return UdpFlow(
        "sk", "dst", None, POOL, HEADROOM, A, B, 5000, 7, tos=0, ttl=64, df=True, ignore_df=True,
        small=SMALL if small else None, family=family, mtu=mtu,
    )  # fmt: skip


def told(_: object, name: object) -> str:
    """What stands for a socket's functions that make and show addresses."""
    return str(name)


def spare() -> list[int]:
    return [pool.available for pool in POOLS]


payloads = st.one_of(
    st.integers(0, 300).map(lambda n: bytes([n % 251]) * n),
    st.sampled_from([b"x" * 64, b"y" * 64, b"z" * 1400, b"w" * 1472]),
)
rows_of = st.lists(
    st.tuples(payloads, st.sampled_from([("h", 1), ("h", 2), None])), min_size=1, max_size=40
) | st.tuples(payloads, st.integers(1, 200)).map(lambda p: [(p[0], ("h", 1))] * p[1])


@settings(max_examples=examples(150), deadline=None)
@given(
    rows=rows_of,
    start=st.integers(0, 3),
    room=st.integers(-1, 200_000),
    most=st.integers(0, 128),
    family=st.sampled_from([2, 10]),
    small=st.booleans(),
    kind=st.sampled_from([bytes, bytearray, memoryview]),
)
def test_folding_equals_the_twin(
    rows: list, start: int, room: int, most: int, family: int, small: bool, kind: type
) -> None:
    before = spare()
    flow = a_flow(family, small)
    vec = mmsg_send([(kind(data), to) for data, to in rows], lambda _, address: address)
    skb = vec.fold(flow, start, room, most, PAGES)
    head_len = 20 if family == 2 else 40
    count, size, data, truesize = ref.fold(
        rows, start, room, most, head_len=head_len, largest=flow.room,
        small_room=SMALL.buf_bytes - HEADROOM if small else -1, small_bytes=SMALL.buf_bytes,
        pool_bytes=POOL.buf_bytes,
    )  # fmt: skip
    if skb is None:
        assert not count
    else:
        assert (skb.gso_segs, skb.gso_size, skb.truesize) == (count, size, truesize)
        assert S.skb_copy_bits(skb, 8, len(skb) - 8) == data
        assert (skb.sk, skb.dst, skb.gso_type) == ("sk", "dst", S.SKB_GSO_UDP_L4)
        flow.push_ip(skb, 7)
        segs = skb_gso_segment(skb, POOL)
        whole = b"".join(S.skb_copy_bits(s, head_len + 8, len(s) - head_len - 8) for s in segs)
        assert (len(segs), whole) == (count, data)
        S.kfree_skb_list(segs)
        S.kfree_skb(skb)
    assert spare() == before or spare()[:2] == before[:2]  # a page may stay half filled


def test_rows_that_are_no_rows_are_left_to_the_caller() -> None:
    before = spare()[:2]
    for rows in (
        [(b"a" * 9, ["h", 1]), (b"b" * 9, ["h", 1])],  # equal, but neither tuple nor None
        [(b"a" * 9, None), "xy"],
        [(b"a" * 9, None), (object(), None)],
        [(object(), None), (b"a" * 9, None)],
        [(b"a" * 9, None), (b"b" * 9, None, 0)],
        [(b"a" * 9, None)],
        [],
    ):
        vec = mmsg_send(rows, told)
        assert vec.fold(a_flow(), 0, 1 << 20, 128, PAGES) is None
    assert mmsg_send([(b"b", 1)], told).row(0) == (b"b", "1")
    rows = mmsg_send([(b"ab", None), (b"a", None), (b"ab", None), (b"ab", ("h", 1))], told)
    assert [rows.alike(i) for i in range(-1, 5)] == [False, True, False, False, False, False]
    assert spare()[:2] == before


def test_a_dry_pool_folds_nothing_and_loses_nothing() -> None:
    pool = S.SkbPool(MEM, 4096, 1)
    vec = mmsg_send([(b"x" * 1400, None)] * 9, told)
    before = spare()[:2]
    assert vec.fold(a_flow(), 0, 1 << 20, 128, pool) is None  # 12600 bytes of 4096
    assert spare()[:2] == before
    held = [S.alloc_skb(SMALL, 0) for _ in range(SMALL.available)]
    heads = [S.alloc_skb(POOL, 0) for _ in range(POOL.available)]
    assert vec.fold(a_flow(), 0, 1 << 20, 128, PAGES) is None
    S.kfree_skb_list(held)
    S.kfree_skb_list(heads)
    assert spare()[:2] == before


def queued(packets: list[ref.Merged]) -> tuple[S.sk_buff_head, list[int]]:
    """What UDP's receive path leaves in a queue; and what was freed of it."""
    queue, freed = S.sk_buff_head(), []
    for packet in packets:
        flow = UdpFlow(
            None, None, None, POOL, HEADROOM, packet.sender, B, 5000, 7, tos=0, ttl=1, df=False,
            ignore_df=False,
        )  # fmt: skip
        skb = flow.datagram(packet.data[: packet.size or None], 0, packet.size or len(packet.data))
        for piece in packet.datagrams()[1:]:
            more = S.skb_from_bytes(POOL, piece)
            assert S.skb_try_coalesce(skb, more)
        flow.push_ip(skb, 0)
        S.skb_pull(skb, 20)
        if packet.size:
            skb.gso_size, skb.gso_segs = packet.size, len(packet.datagrams())
            skb.gso_type = S.SKB_GSO_UDP_L4
            udp_charge_split(skb)
            assert skb.truesize == skb.gso_segs * (2048 + 256)
        S.skb_pull(skb, 8)
        skb.destructor = lambda skb: freed.append(skb.truesize)
        queue.queue_tail(skb)
    return queue, freed


merged = st.builds(
    lambda n, size, last, sender: ref.Merged(
        bytes(i % 249 for i in range(n * size + min(last, size))), size, sender
    ),
    st.integers(1, 20), st.integers(1, 90), st.integers(1, 90), st.sampled_from([A, A + 7]),
)  # fmt: skip
single = st.builds(
    lambda n, sender: ref.Merged(bytes(i % 249 for i in range(n)), 0, sender),
    st.integers(0, 300),
    st.sampled_from([A, A + 7]),
)


@settings(max_examples=examples(150), deadline=None)
@given(
    packets=st.lists(merged | single, max_size=6),
    steps=st.lists(st.integers(0, 30), max_size=8),
    size=st.integers(0, 120),
    kind=st.sampled_from(["bytearrays", "views", "flat", "bytes"]),
    carve=st.sampled_from([0, 1, 2]),
)
def test_reading_equals_the_twin(
    packets: list[ref.Merged], steps: list[int], size: int, kind: str, carve: int
) -> None:
    before = spare()
    queue, freed = queued(packets)
    charged = sum(skb.truesize for skb in queue)
    room = 60
    bufs: list = [bytearray(size) for _ in range(room)]
    if kind == "views":
        bufs = [memoryview(b) for b in bufs]
    flat = bytearray(size * room)

    def show(_: object, name: sockaddr | None) -> tuple[int, int]:
        assert name is not None
        return name.addr, name.port

    vec = {
        "bytearrays": lambda: mmsg_recv(show, None, bufs),
        "views": lambda: mmsg_recv(show, None, bufs),
        "flat": lambda: mmsg_recv(show, None, None, flat, room, size),
        "bytes": lambda: mmsg_recv(show, None, None, None, room, size),
    }[kind]()
    done = released = 0
    for most in steps:
        if carve == 1:
            assert udp_carve(queue)
        if carve == 2:
            assert udp_carve_all(queue)
        done += vec.take(queue, 2, most)
        released += vec.released
        assert charged == released + sum(freed) + sum(skb.truesize for skb in queue)
        assert len(vec.got) == done
    want = ref.take(packets, [size] * room, sum(steps))
    assert [address for _, address in vec.got] == [(sender, 5000) for _, sender in want]
    if kind == "bytes":
        assert [data for data, _ in vec.got] == [data for data, _ in want]
    else:
        assert [n for n, _ in vec.got] == [len(data) for data, _ in want]
        for i, (data, _) in enumerate(want):
            where = flat[i * size : (i + 1) * size] if kind == "flat" else bufs[i]
            assert bytes(where[: len(data)]) == data
    left = [data for packet in packets for data in packet.datagrams()][done:]
    assert udp_carve_all(queue)
    assert [S.skb_to_bytes(skb) for skb in queue] == left
    queue.purge()
    assert charged == released + sum(freed)
    assert spare() == before


def test_a_buffer_that_cannot_be_written_to_stops_before_its_datagram() -> None:
    queue, _ = queued([ref.Merged(b"abcdef", 2, A)])
    vec = mmsg_recv(told, None, [bytearray(2), b"no", bytearray(2)])
    assert vec.take(queue, 2, 9) == 1
    assert vec.take(queue, 2, 9) == 0
    assert vec.room() == b"no"
    assert len(queue.peek()) == 4
    with pytest.raises(TypeError, match="cannot be written"):
        mmsg_recv(told, None, None, b"abc", 1, 3)
    with pytest.raises(ValueError, match="do not fit"):
        mmsg_recv(told, None, None, bytearray(5), 2, 3)
    with pytest.raises(ValueError, match="negative"):
        mmsg_recv(told, None, None, None, -1, 3)


def test_who_was_seen_last_is_not_shown_again() -> None:
    sender, other = sockaddr(2, A, 5000), sockaddr(2, B, 5000)
    for seen in (sender, other, None):
        asked: list[sockaddr | None] = []
        queue, _ = queued([ref.Merged(b"abcd", 2, A), ref.Merged(b"ef", 0, A)])
        vec = mmsg_recv(
            lambda owner, name: owner.append(name) or "asked", asked,
            [bytearray(2) for _ in range(3)], None, 0, 0, seen, "seen",
        )  # fmt: skip
        assert vec.take(queue, 2, 9) == 3
        assert asked == ([] if seen is sender else [sender])
        assert vec.got == [(2, "seen" if seen is sender else "asked")] * 3


def test_the_address_sent_to_last_is_not_resolved_again() -> None:
    last, asked = ("h", 1), []
    name = sockaddr(2, A, 1)
    for address in (last, tuple(last), ("h", 2), ("i", 1), None):
        vec = mmsg_send(
            [(b"x", address)], lambda to, one: to.append(one) or name, asked, last, name
        )
        want = None if address is None else sockaddr(2, A, address[1])
        assert vec.row(0) == (b"x", want)
    assert asked == [("i", 1)]


def test_rows_that_are_not_there_are_refused() -> None:
    vec = mmsg_send([(b"x", None)], lambda _, address: address)
    for i in (-1, 1, 1 << 40):
        with pytest.raises(IndexError, match=f"row {i} of 1"):
            vec.row(i)
    for buffers in ([bytearray(4)], None):
        full = mmsg_recv(lambda _, name: name, None, buffers, None, 1, 4)
        full.put(1, None, full.room())
        with pytest.raises(IndexError, match="all 1 rows"):
            full.room()
    for kind in (mmsg_send, mmsg_recv, UdpFlow):
        with pytest.raises(TypeError):
            kind.__new__(kind)


def test_rows_filled_one_by_one() -> None:
    vec = mmsg_recv(lambda _, name: name, None, None, None, 2, 4)
    room = vec.room()
    room[:2] = b"hi"
    vec.put(2, None, room)
    assert vec.got == [(b"hi", None)]
    flat = bytearray(8)
    vec = mmsg_recv(lambda _, name: name, None, None, flat, 2, 4)
    vec.put(4, None, vec.room())
    vec.room()[:] = b"late"
    assert flat == b"\0\0\0\0late"
