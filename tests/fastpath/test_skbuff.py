"""sk_buff, queues and pools: each law by itself, and a stateful comparison with the twin."""

import ctypes
import gc
import os
import random
import weakref
from functools import lru_cache
from types import BuiltinFunctionType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fastpath._ref import skbuff as R
from fastpath.base import seccomp
from fastpath.base import skbuff as S
from fastpath.base.csum import csum_fold, csum_partial, csum_tcpudp_nofold
from fastpath.base.dma import HostMemory
from fastpath.net import gso, hdr, hdr6, inet, inetkey, parse, retransmit_queue
from fastpath.net.rings_driver import TxRing
from tests.support import end_of_memory, examples


@pytest.fixture
def mem() -> HostMemory:
    return HostMemory(8 << 20)


@pytest.fixture
def pool(mem: HostMemory) -> S.SkbPool:
    return S.SkbPool(mem, 2048, 64)


@pytest.fixture
def pages(mem: HostMemory) -> S.SkbPool:
    return S.SkbPool(mem, 4096, 200)


@lru_cache(maxsize=8)
def pattern(n: int, start: int = 0) -> bytes:
    return bytes((start + i * 7 + (i >> 8)) & 0xFF for i in range(n))


def filled(pool: S.SkbPool, pages: S.SkbPool, linear: int, paged: int) -> tuple[S.sk_buff, bytes]:
    data = pattern(linear + paged)
    skb = S.alloc_skb(pool, linear, 128)
    assert skb is not None
    S.skb_put_data(skb, data[:linear])
    assert S.skb_add_data(skb, pages, data, linear, paged) == paged
    return skb, data


# -- pools -----------------------------------------------------------------------------------------
def test_pool_gives_memory_back_when_pool_and_last_skb_are_gone(mem: HostMemory) -> None:
    before = mem.allocated_bytes
    pool = S.SkbPool(mem, 2048, 8)
    skb = S.skb_from_bytes(pool, b"abc")
    del pool
    assert mem.allocated_bytes > before
    assert S.skb_to_bytes(skb) == b"abc"
    S.kfree_skb(skb)
    assert mem.allocated_bytes == before


def test_pool_outlives_host_memory_object() -> None:
    mem = HostMemory(1 << 20)
    skb = S.skb_from_bytes(S.SkbPool(mem, 2048, 8), b"abc")
    del mem
    gc.collect()
    assert S.skb_to_bytes(skb) == b"abc"


def test_pool_exhaustion_gives_none_and_counts(pool: S.SkbPool) -> None:
    skbs = [S.alloc_skb(pool, 1) for _ in range(64)]
    assert S.alloc_skb(pool, 1) is None
    assert (pool.failures, pool.available, pool.in_use) == (1, 0, 64)
    S.kfree_skb_list(skbs)
    assert (pool.available, pool.gets, pool.puts) == (64, 64, 64)


@pytest.mark.parametrize(
    ("size", "count"), [(63, 1), (2048, 0), (100, 1), (1 << 25, 1), (2048, 1 << 30)]
)
def test_pool_arguments_are_checked(mem: HostMemory, size: int, count: int) -> None:
    with pytest.raises((ValueError, MemoryError)):
        S.SkbPool(mem, size, count)


def test_dma_address_is_where_the_bytes_are(
    mem: HostMemory, pool: S.SkbPool, pages: S.SkbPool
) -> None:
    skb, data = filled(pool, pages, 100, 9000)
    got = mem.read(skb.data_dma, 100)
    for i in range(skb.nr_frags):
        got += mem.read(*skb.frag(i))
    assert got == data


# -- a freed sk_buff -------------------------------------------------------------------------------
def test_freed_skb_is_harmless(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, b"abcdef")
    skb.dev, skb.sk, skb.cb = object(), object(), object()
    S.kfree_skb(skb)
    assert (skb.len, skb.data_len, skb.users, skb.headroom, skb.tailroom, skb.nr_frags) == (0,) * 6
    assert skb.dev is skb.sk is skb.cb is None
    other = S.skb_from_bytes(pool, b"x" * 100)
    q = S.sk_buff_head()
    for op in (
        lambda: S.skb_put(skb, 1),
        lambda: S.skb_put(skb, 0),
        lambda: S.skb_push(skb, 0),
        lambda: S.skb_pull(skb, 0),
        lambda: S.skb_trim(skb, 0),
        lambda: S.skb_reserve(skb, 0),
        lambda: S.skb_clone(skb),
        lambda: S.skb_copy(skb),
        lambda: S.pskb_copy(skb),
        lambda: S.skb_get(skb),
        lambda: S.kfree_skb(skb),
        lambda: S.skb_copy_bits(skb, 0, 0),
        lambda: S.skb_to_bytes(skb),
        lambda: S.skb_store_bits(skb, 0, b""),
        lambda: S.skb_checksum(skb, 0, 0),
        lambda: S.skb_checksum_help(skb),
        lambda: S.skb_checksum_complete(skb),
        lambda: S.skb_checksum_init(skb, 6, 0, 0),
        lambda: S.skb_split(skb, other, 0),
        lambda: S.skb_split(other, skb, 0),
        lambda: S.skb_shift(other, skb, 0),
        lambda: S.skb_try_coalesce(skb, other),
        lambda: S.skb_try_coalesce(other, skb),
        lambda: S.skb_append_frags(other, skb, 0, 0),
        lambda: S.skb_add_data(skb, pool, b"x", 0, 1),
        lambda: S.skb_append_linear(skb, b"x", 0, 1),
        lambda: S.skb_copy_datagram_iter(skb, 0, bytearray(4), 0, 4),
        lambda: S.skb_cow_head(skb, 0),
        lambda: S.skb_unclone(skb),
        lambda: S.skb_linearize(skb),
        lambda: S.skb_header_release(skb),
        lambda: S.skb_header_cloned(skb),
        lambda: S.skb_orphan(skb),
        lambda: S.skb_set_network_header(skb, 0),
        lambda: q.queue_tail(skb),
        lambda: skb.data_dma,
    ):
        with pytest.raises(ValueError, match="freed"):
            op()
    assert not S.pskb_may_pull(skb, 1)
    assert not skb.cloned
    with pytest.raises(IndexError):
        skb.frag(0)
    S.kfree_skb(None)
    assert "freed" in repr(skb)


def test_never_initialised_objects_are_harmless() -> None:
    skb = S.sk_buff()
    assert skb.len == 0
    with pytest.raises(ValueError, match="freed"):
        S.skb_put(skb, 1)
    pool = S.SkbPool.__new__(S.SkbPool)
    with pytest.raises(ValueError, match="not initialised"):
        S.alloc_skb(pool, 1)


# -- reference counts and destructors --------------------------------------------------------------
def test_users_and_destructor(pool: S.SkbPool) -> None:
    calls: list[tuple[Any, int]] = []
    skb = S.skb_from_bytes(pool, b"abc")
    sock = object()
    skb.sk, skb.destructor = sock, lambda s: calls.append((s.sk, s.truesize))
    S.skb_get(skb)
    S.kfree_skb(skb)
    assert not calls
    S.kfree_skb(skb)
    assert calls == [(sock, 2048 + 256)]
    assert pool.in_use == 0


def test_forgotten_skb_returns_buffers_and_runs_destructor(pool: S.SkbPool) -> None:
    calls: list[int] = []
    kept: list[S.sk_buff] = []

    def destructor(s: S.sk_buff) -> None:
        calls.append(s.truesize)
        kept.append(s)  # even a destructor that keeps what it got is safe

    skb = S.skb_from_bytes(pool, bytes(5000))
    skb.destructor = destructor
    truesize = skb.truesize
    del skb
    assert calls == [truesize]
    assert pool.in_use == 0
    assert kept[0].len == 0


def test_failing_destructor_frees_all_the_same(
    pool: S.SkbPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", seen.append)
    skb = S.skb_from_bytes(pool, b"abc")
    skb.destructor = lambda s: 1 / 0
    S.kfree_skb(skb)
    assert len(seen) == 1
    assert pool.in_use == 0


def test_skb_orphan_runs_destructor_once(pool: S.SkbPool) -> None:
    calls: list[int] = []
    skb = S.skb_from_bytes(pool, b"abc")
    skb.sk, skb.destructor = object(), lambda s: calls.append(1)
    S.skb_orphan(skb)
    assert skb.sk is None
    S.kfree_skb(skb)
    assert calls == [1]


def test_clone_copies_fields_but_not_owner(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, b"abc")
    skb.seq, skb.mark, skb.tstamp_ns, skb.tx_in_flight, skb.gso_size = 1, 2, -3, 4, 5
    skb.dev, skb.sk, skb.destructor = object(), object(), lambda s: None
    for new in (S.skb_clone(skb), S.skb_copy(skb), S.pskb_copy(skb)):
        assert (new.seq, new.mark, new.tstamp_ns, new.tx_in_flight, new.gso_size) == (
            1,
            2,
            -3,
            4,
            5,
        )
        assert new.dev is skb.dev
        assert new.sk is None
        assert new.destructor is None
        assert new.users == 1
        S.kfree_skb(new)


def test_header_release_lets_clones_write_headers(pool: S.SkbPool) -> None:
    skb = S.alloc_skb(pool, 0, 128)
    S.skb_header_release(skb)
    clone = S.skb_clone(skb)
    assert S.skb_cloned(clone)
    assert not S.skb_header_cloned(clone)
    assert S.skb_cow_head(clone, 64)
    assert pool.in_use == 1
    second = S.skb_clone(skb)
    assert S.skb_header_cloned(second)
    assert S.skb_cow_head(second, 64)
    assert pool.in_use == 2
    for s in (skb, clone, second):
        S.kfree_skb(s)
    assert pool.in_use == 0


def test_share_check_and_unshare(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, b"abc")
    assert S.skb_share_check(skb) is skb
    S.skb_get(skb)
    other = S.skb_share_check(skb)
    assert other is not skb
    private = S.skb_unshare(other)
    S.skb_store_bits(private, 0, b"X")
    assert S.skb_to_bytes(skb) == b"abc"
    S.kfree_skb(private)
    S.kfree_skb(skb)
    assert pool.in_use == 0


# -- bytes -----------------------------------------------------------------------------------------
def test_super_packet_read_in_pieces(pool: S.SkbPool, pages: S.SkbPool) -> None:
    skb, data = filled(pool, pages, 10, 500_000)
    out = bytearray(len(data))
    rnd, off = random.Random(3), 0
    while off < len(data):
        off += S.skb_copy_datagram_iter(skb, off, out, off, rnd.randrange(1, 9000))
    assert out == data
    assert S.skb_copy_datagram_iter(skb, 5, out, 0, 20) == 20  # back to the start
    assert out[:20] == data[5:25]
    assert S.skb_copy_datagram_iter(skb, len(data), out, 0, 20) == 0
    assert S.skb_copy_datagram_iter(skb, 0, out, len(data), 20) == 0
    assert S.skb_copy_datagram_iter(skb, 0, memoryview(out)[:3], 1, 20) == 2


def test_copy_datagram_needs_a_writable_buffer_and_sane_arguments(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, b"abc")
    with pytest.raises(BufferError):
        S.skb_copy_datagram_iter(skb, 0, b"xxx", 0, 3)
    for bad in ((-1, 0, 1), (0, -1, 1), (0, 0, -1)):
        with pytest.raises(ValueError, match="negative"):
            S.skb_copy_datagram_iter(skb, bad[0], bytearray(3), bad[1], bad[2])


def test_add_data_shares_a_page_between_small_packets(pool: S.SkbPool, pages: S.SkbPool) -> None:
    skbs = []
    for i in range(30):
        skb = S.alloc_skb(pool, 0, 64)
        assert S.skb_add_data(skb, pages, bytes([i]) * 100, 0, 100) == 100
        skbs.append(skb)
    assert pages.in_use == 1
    assert [S.skb_to_bytes(s) for s in skbs] == [bytes([i]) * 100 for i in range(30)]
    S.kfree_skb_list(skbs)
    assert pages.in_use == 0


def test_add_data_stops_at_the_frag_limit_and_at_pool_exhaustion(
    mem: HostMemory, pool: S.SkbPool
) -> None:
    tiny = S.SkbPool(mem, 64, 2000)
    skb = S.alloc_skb(pool, 0)
    n = 64 * 2000
    assert S.skb_add_data(skb, tiny, bytes(n), 0, n) == 64 * S.MAX_SKB_FRAGS
    assert skb.nr_frags == S.MAX_SKB_FRAGS
    S.kfree_skb(skb)
    assert tiny.in_use == 0
    small = S.SkbPool(mem, 64, 3)
    skb = S.alloc_skb(pool, 0)
    assert S.skb_add_data(skb, small, bytes(1000), 0, 1000) == 192
    S.kfree_skb(skb)
    assert small.in_use == 0


@pytest.mark.parametrize(("off", "n"), [(-1, 1), (0, -1), (0, 4), (4, 0), (1 << 62, 1 << 62)])
def test_add_data_checks_the_callers_range(pool: S.SkbPool, off: int, n: int) -> None:
    skb = S.alloc_skb(pool, 0)
    with pytest.raises(ValueError, match="skb_add_data"):
        S.skb_add_data(skb, pool, b"abc", off, n)


@pytest.mark.skipif(not seccomp.available(), reason="needs Linux's process_vm_readv")
@given(
    head=st.integers(0, 40),
    paged=st.integers(0, 9000),
    there=st.integers(0, 20_000),
    claimed=st.integers(0, 24_000),
    off=st.integers(0, 5000),
    n=st.integers(0, 24_000),
    pages=st.booleans(),
)
def test_a_programs_memory_is_copied_as_a_buffer_is_and_a_hole_changes_nothing(
    head: int, paged: int, there: int, claimed: int, off: int, n: int, pages: bool
) -> None:
    """The memory has `there` bytes, of `claimed`; over 64 fragments are moved in several pieces."""
    mem = HostMemory(1 << 20)
    pool, small = S.SkbPool(mem, 2048, 8), S.SkbPool(mem, 256, 400)
    data = pattern(there)
    with end_of_memory(data) as addr:
        user = seccomp.UserBuffer(os.getpid(), addr, claimed)
        off = min(off, claimed)
        n = min(n, claimed - off)
        skb, before = filled(pool, small, head, paged)
        twin, _ = filled(pool, small, head, paged)
        plain = data.ljust(claimed, b"\0")

        def put(to: S.sk_buff, what: Any) -> int:
            if pages:
                return S.skb_add_data(to, small, what, off, n)
            return S.skb_append_linear(to, what, off, n)

        taken = put(twin, plain)
        truesize = skb.truesize
        if off + taken <= there or not taken:
            assert put(skb, user) == taken
            assert S.skb_to_bytes(skb) == S.skb_to_bytes(twin) == before + plain[off : off + taken]
            assert skb.truesize == twin.truesize
        else:
            with pytest.raises(OSError, match="memory of"):
                put(skb, user)
            assert S.skb_to_bytes(skb) == before
            assert (skb.len, skb.truesize) == (len(before), truesize)
            assert S.skb_add_data(skb, small, b"more", 0, 4) == 4
            assert S.skb_to_bytes(skb) == before + b"more"
        start = min(off, twin.len)
        room = bytearray(plain)
        gives = S.skb_copy_datagram_iter(twin, start, room, off, n)
        if off + gives <= there or not gives:
            assert S.skb_copy_datagram_iter(twin, start, user, off, n) == gives
            assert ctypes.string_at(addr, there) == room[:there]
        else:
            with pytest.raises(OSError, match="memory of"):
                S.skb_copy_datagram_iter(twin, start, user, off, n)
        for one in (skb, twin):
            S.kfree_skb(one)
        assert small.available == small.count, "no fragment is left behind"


def test_split_shift_coalesce_move_without_copying(pool: S.SkbPool, pages: S.SkbPool) -> None:
    skb, data = filled(pool, pages, 50, 20000)
    used = pages.in_use
    rest = S.alloc_skb(pool, 0, 64)
    S.skb_split(skb, rest, 7001)
    assert (S.skb_to_bytes(skb), S.skb_to_bytes(rest)) == (data[:7001], data[7001:])
    assert S.skb_shift(skb, rest, 500) == 500
    assert (S.skb_to_bytes(skb), S.skb_to_bytes(rest)) == (data[:7501], data[7501:])
    assert pages.in_use == used
    assert S.skb_try_coalesce(skb, rest)
    assert rest.users == 0
    assert S.skb_to_bytes(skb) == data
    S.kfree_skb(skb)
    assert (pool.in_use, pages.in_use) == (0, 0)


def test_truesize_follows_the_buffers(pool: S.SkbPool, pages: S.SkbPool) -> None:
    a, _ = filled(pool, pages, 0, 1000)
    b, _ = filled(pool, pages, 0, 500)
    c, _ = filled(pool, pages, 100, 0)
    assert (a.truesize, b.truesize, c.truesize) == (2304 + 1000, 2304 + 500, 2304)
    S.skb_try_coalesce(a, b)  # b's head buffer holds nothing and goes
    assert a.truesize == 2304 + 1500
    S.skb_try_coalesce(a, c)  # c's head buffer moves
    assert a.truesize == 2304 + 1500 + 2048
    d = S.alloc_skb(pool, 0)
    S.skb_shift(d, a, 700)
    assert (a.truesize, d.truesize) == (2304 + 800 + 2048, 2304 + 700)


def test_checksum_over_odd_fragments(pool: S.SkbPool, mem: HostMemory) -> None:
    odd = S.SkbPool(mem, 64, 64)
    skb = S.skb_from_bytes(pool, pattern(33))
    more = S.skb_from_bytes(odd, pattern(1001, 9))
    S.skb_pull(more, 3)
    S.skb_try_coalesce(skb, more)
    data = pattern(33) + pattern(1001, 9)[3:]
    for off, n in ((0, len(data)), (1, 500), (33, 777), (40, 0), (len(data), 0)):
        assert csum_fold(S.skb_checksum(skb, off, n)) == csum_fold(
            csum_partial(data[off : off + n], 0)
        )


def test_checksum_help_resolves_partial(pool: S.SkbPool, pages: S.SkbPool) -> None:
    skb, data = filled(pool, pages, 40, 3001)
    skb.ip_summed, skb.csum_start, skb.csum_offset = S.CHECKSUM_PARTIAL, skb.data_offset + 20, 16
    clone = S.skb_clone(skb)
    assert S.skb_checksum_help(clone)
    assert S.skb_to_bytes(skb) == data  # the clone took its own head
    got = S.skb_to_bytes(clone)
    assert csum_fold(csum_partial(data[20:], 0)) == int.from_bytes(got[36:38], "big")
    assert clone.ip_summed == S.CHECKSUM_NONE
    for start, off in ((0, 16), (skb.data_offset + 30, 9), (1 << 31, 0), (0xFFFFFFFF, 0xFFFFFFFF)):
        skb.csum_start, skb.csum_offset = start, off
        assert not S.skb_checksum_help(skb)


def test_checksum_init_and_complete(pool: S.SkbPool) -> None:
    body = bytearray(pattern(200))
    acc = csum_tcpudp_nofold(1, 2, 200, 6, 0)
    body[16:18] = b"\0\0"
    body[16:18] = csum_fold(csum_partial(bytes(body), acc)).to_bytes(2, "big")
    for spoil in (False, True):
        body[100] ^= spoil
        skb = S.skb_from_bytes(pool, body)
        assert S.skb_checksum_init(skb, 6, 1, 2) == 0  # longer than 76 bytes: later
        assert S.skb_checksum_complete(skb) == int(spoil)
        assert S.skb_csum_unnecessary(skb) is not spoil
        complete = S.skb_from_bytes(pool, body)
        complete.ip_summed, complete.csum = S.CHECKSUM_COMPLETE, csum_partial(bytes(body), 0)
        assert S.skb_checksum_init(complete, 6, 1, 2) == int(spoil)
    skb.ip_summed = S.CHECKSUM_UNNECESSARY
    assert S.skb_checksum_complete(skb) == 0


def test_trimming_keeps_a_complete_sum_right(pool: S.SkbPool) -> None:
    data = pattern(101)
    for n in (0, 1, 2, 33, 100):
        skb = S.skb_from_bytes(pool, data)
        skb.ip_summed, skb.csum = S.CHECKSUM_COMPLETE, csum_partial(data, 0)
        S.pskb_trim_rcsum(skb, n)
        assert (skb.csum - csum_partial(data[:n], 0)) % 0xFFFF == 0  # 0 and -0 are one


def test_header_offsets(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, pattern(100), 64)
    assert skb.mac_header == S.HEADER_UNSET
    assert not S.skb_mac_header_was_set(skb)
    S.skb_reset_mac_header(skb)
    S.skb_set_network_header(skb, 14)
    S.skb_set_transport_header(skb, 34)
    S.skb_pull(skb, 14)
    assert (S.skb_mac_offset(skb), S.skb_network_offset(skb), S.skb_transport_offset(skb)) == (
        -14,
        0,
        20,
    )
    assert S.skb_network_header_len(skb) == 20
    assert S.skb_copy_bits(skb, -14, 20) == pattern(100)[:20]
    clone = S.skb_clone(skb)
    assert S.skb_cow_head(clone, 200)
    assert (S.skb_mac_offset(clone), S.skb_network_offset(clone)) == (-14, 0)
    assert S.skb_copy_bits(clone, -14, 20) == pattern(100)[:20]
    for bad in (-(1 << 40), -79, 1 << 40):
        with pytest.raises(ValueError, match="outside"):
            S.skb_set_network_header(skb, bad)


@pytest.mark.parametrize("n", [-1, 1 << 31, 1 << 32, (1 << 63) - 1, -(1 << 63)])
def test_absurd_lengths_are_refused(pool: S.SkbPool, n: int) -> None:
    skb = S.skb_from_bytes(pool, b"abcdef", 64)
    for op in (S.skb_put, S.skb_push, S.skb_pull, S.skb_reserve):
        with pytest.raises(ValueError, match=r"bytes|holds"):
            op(skb, n)
    assert not S.pskb_may_pull(skb, n)
    with pytest.raises(ValueError, match="copy_bits"):
        S.skb_copy_bits(skb, 0, n)
    with pytest.raises(ValueError, match="copy_bits"):
        S.skb_copy_bits(skb, n if n != -1 else -65, 1)
    with pytest.raises(ValueError, match="store_bits"):
        S.skb_store_bits(skb, n, b"x")
    with pytest.raises(ValueError, match="checksum"):
        S.skb_checksum(skb, n, 1)
    with pytest.raises(ValueError, match="fit"):
        S.alloc_skb(pool, n)
    with pytest.raises(ValueError, match="fit"):
        S.alloc_skb(pool, 0, n)
    with pytest.raises(ValueError, match="headroom"):
        S.skb_from_bytes(pool, b"", n)
    assert S.skb_to_bytes(skb) == b"abcdef"


def test_linear_appends(pool: S.SkbPool) -> None:
    skb = S.skb_from_bytes(pool, b"abc")
    assert S.skb_append_linear(skb, b"0123456789", 2, 3) == 3
    assert S.skb_to_bytes(skb) == b"abc234"


def test_wrong_types_raise(pool: S.SkbPool) -> None:
    for bad in (None, 1, b"x"):
        with pytest.raises(TypeError):
            S.skb_put(bad, 1)
        with pytest.raises(TypeError):
            S.sk_buff_head().queue_tail(bad)
        with pytest.raises(TypeError):
            S.alloc_skb(bad, 1)


# -- queues ----------------------------------------------------------------------------------------
def seqs(q: S.sk_buff_head) -> list[int]:
    return [s.seq for s in q]


def numbered(pool: S.SkbPool, n: int) -> list[S.sk_buff]:
    out = []
    for i in range(n):
        skb = S.alloc_skb(pool, 8)
        skb.seq = i
        out.append(skb)
    return out


def test_queue_order_and_neighbours(pool: S.SkbPool) -> None:
    q, (a, b, c, d) = S.sk_buff_head(), numbered(pool, 4)
    q.queue_tail(b)
    q.queue_head(a)
    q.queue_tail(d)
    q.insert_before(d, c)
    assert seqs(q) == [0, 1, 2, 3]
    assert [s.seq for s in reversed(q)] == [3, 2, 1, 0]
    assert (q.peek(), q.peek_tail(), q.qlen, len(q)) == (a, d, 4, 4)
    assert (q.next(a), q.prev(a), q.next(d), q.prev(d)) == (b, None, None, c)
    assert a.list is q
    assert (a.next, b.prev) == (b, a)
    q.unlink(b)
    assert b.list is None
    q.insert_after(a, b)
    assert q.dequeue() is a
    assert q.dequeue_tail() is d
    other = S.sk_buff_head()
    other.queue_tail(a)
    other.splice_tail_init(q)
    assert seqs(other) == [0, 1, 2]
    assert (q.qlen, q.dequeue(), q.peek()) == (0, None, None)
    assert all(s.list is other for s in other)
    other.purge()
    assert (a.users, b.users, c.users) == (0, 0, 0)


def test_queue_walk_survives_unlinking_and_freeing(pool: S.SkbPool) -> None:
    q = S.sk_buff_head()
    skbs = numbered(pool, 6)
    for s in skbs:
        q.queue_tail(s)
    seen = []
    for s in q:
        seen.append(s.seq)
        if s.seq % 2:
            q.unlink(s)
        else:
            S.kfree_skb(s)  # leaves the queue by itself
    assert seen == [0, 1, 2, 3, 4, 5]
    assert q.qlen == 0


def test_queue_refuses_members_of_others(pool: S.SkbPool) -> None:
    q, p, (a, b) = S.sk_buff_head(), S.sk_buff_head(), numbered(pool, 2)
    q.queue_tail(a)
    for op in (q.queue_tail, p.queue_head):
        with pytest.raises(ValueError, match="already"):
            op(a)
    for op in (
        lambda: p.unlink(a),
        lambda: p.next(a),
        lambda: p.insert_after(a, b),
        lambda: q.unlink(b),
    ):
        with pytest.raises(ValueError, match="not on this queue"):
            op()
    with pytest.raises(ValueError, match="already"):
        q.insert_before(a, a)


def test_queue_frees_members_when_it_dies(pool: S.SkbPool) -> None:
    q = S.sk_buff_head()
    for s in numbered(pool, 5):
        q.queue_tail(s)
    del q, s
    assert pool.in_use == 0


# -- steady state ----------------------------------------------------------------------------------
def test_steady_state_is_balanced_and_allocates_no_fragment_array(
    pool: S.SkbPool, pages: S.SkbPool
) -> None:
    def once() -> None:
        skb, _ = filled(pool, pages, 60, 300_000)
        clone = S.skb_clone(skb)
        S.skb_push_data(clone, b"h" * 54)
        S.kfree_skb(clone)
        S.kfree_skb(skb)

    once()
    mallocs = S.frag_array_mallocs()
    for _ in range(100):
        once()
    assert S.frag_array_mallocs() == mallocs
    assert (pool.in_use, pages.in_use) == (0, 0)


def test_objects_are_let_go_at_once(pool: S.SkbPool) -> None:
    class Thing:
        pass

    thing = Thing()
    ref = weakref.ref(thing)
    skb = S.skb_from_bytes(pool, b"abc")
    skb.dev = skb.sk = skb.dst = skb.cb = thing
    del thing
    S.kfree_skb(skb)
    assert ref() is None


# -- against the twin ------------------------------------------------------------------------------
class AgainstTwin(RuleBasedStateMachine):
    """The same random operations on both; every byte, length, room and count must agree."""

    @initialize()
    def start(self) -> None:
        self.mem = HostMemory(1 << 20)
        self.pools = [S.SkbPool(self.mem, 256, 24), S.SkbPool(self.mem, 512, 24)]
        self.refs = [R.SkbPool(256, 24), R.SkbPool(512, 24)]
        self.pairs: list[tuple[S.sk_buff, R.sk_buff]] = []
        self.stamp = 0

    def data(self, n: int) -> bytes:
        self.stamp += 1
        return pattern(n, self.stamp)

    def both(self, real: Any, twin: Any, *args: Any) -> tuple[Any, Any]:
        """Call both; they must agree on raising ValueError."""
        try:
            want = twin()
        except ValueError:
            with pytest.raises(ValueError):  # noqa: PT011 - the wording is tested elsewhere
                real()
            return None, None
        return real(), want

    def keep(self, real: Any, twin: Any) -> None:
        assert (real is None) == (twin is None)
        if real is not None:
            self.pairs.append((real, twin))

    @rule(size=st.integers(0, 260), head=st.integers(0, 64))
    def alloc(self, size: int, head: int) -> None:
        self.keep(
            *self.both(
                lambda: S.alloc_skb(self.pools[0], size, head),
                lambda: R.alloc_skb(self.refs[0], size, head),
            )
        )

    def pick(self, i: int) -> tuple[S.sk_buff, R.sk_buff]:
        return self.pairs[i % len(self.pairs)]

    some = precondition(lambda self: bool(self.pairs))

    @some
    @rule(i=st.integers(0, 99), kind=st.sampled_from(["skb_clone", "skb_copy", "pskb_copy"]))
    def duplicate(self, i: int, kind: str) -> None:
        a, b = self.pick(i)
        self.keep(getattr(S, kind)(a), getattr(R, kind)(b))

    @some
    @rule(i=st.integers(0, 99))
    def free(self, i: int) -> None:
        a, b = self.pairs.pop(i % len(self.pairs))
        S.kfree_skb(a)
        R.kfree_skb(b)

    @some
    @rule(i=st.integers(0, 99), n=st.integers(0, 200), front=st.booleans())
    def put_or_push(self, i: int, n: int, front: bool) -> None:
        (a, b), data = self.pick(i), self.data(n)
        name = "skb_push_data" if front else "skb_put_data"
        self.both(lambda: getattr(S, name)(a, data), lambda: getattr(R, name)(b, data))

    @some
    @rule(i=st.integers(0, 99), n=st.integers(0, 1500))
    def add_data(self, i: int, n: int) -> None:
        (a, b), data = self.pick(i), self.data(n)
        assert S.skb_add_data(a, self.pools[1], data, 0, n) == R.skb_add_data(
            b, self.refs[1], data, 0, n
        )

    @some
    @rule(
        i=st.integers(0, 99),
        n=st.integers(0, 600),
        name=st.sampled_from(["skb_pull", "skb_trim", "skb_reserve"]),
    )
    def cut(self, i: int, n: int, name: str) -> None:
        a, b = self.pick(i)
        self.both(lambda: getattr(S, name)(a, n), lambda: getattr(R, name)(b, n))

    @some
    @rule(
        i=st.integers(0, 99),
        n=st.integers(0, 300),
        name=st.sampled_from(["pskb_may_pull", "skb_cow_head"]),
    )
    def rearrange(self, i: int, n: int, name: str) -> None:
        a, b = self.pick(i)
        assert getattr(S, name)(a, n) == getattr(R, name)(b, n)

    @some
    @rule(i=st.integers(0, 99))
    def linearize_or_release(self, i: int) -> None:
        a, b = self.pick(i)
        if i % 2:
            assert S.skb_linearize(a) == R.skb_linearize(b)
        else:
            S.skb_header_release(a)
            R.skb_header_release(b)

    @some
    @rule(
        i=st.integers(0, 99),
        j=st.integers(0, 99),
        n=st.integers(0, 600),
        name=st.sampled_from(["skb_split", "skb_shift"]),
    )
    def move(self, i: int, j: int, n: int, name: str) -> None:
        (a, b), (c, d) = self.pick(i), self.pick(j)
        got, want = self.both(lambda: getattr(S, name)(a, c, n), lambda: getattr(R, name)(b, d, n))
        assert got == want

    @some
    @rule(i=st.integers(0, 99), j=st.integers(0, 99))
    def coalesce(self, i: int, j: int) -> None:
        (a, b), (c, d) = self.pick(i), self.pick(j)
        got, want = self.both(lambda: S.skb_try_coalesce(a, c), lambda: R.skb_try_coalesce(b, d))
        assert got == want
        self.pairs = [p for p in self.pairs if p[0].users]

    @some
    @rule(i=st.integers(0, 99), off=st.integers(0, 600), n=st.integers(0, 100))
    def store(self, i: int, off: int, n: int) -> None:
        (a, b), data = self.pick(i), self.data(n)
        self.both(lambda: S.skb_store_bits(a, off, data), lambda: R.skb_store_bits(b, off, data))

    @some
    @rule(i=st.integers(0, 99), off=st.integers(0, 2000), n=st.integers(0, 2000))
    def read(self, i: int, off: int, n: int) -> None:
        a, b = self.pick(i)
        x, y = bytearray(700), bytearray(700)
        got = S.skb_copy_datagram_iter(a, off, x, 1, n)
        assert got == R.skb_copy_datagram_iter(b, off, y, 1, n)
        assert x == y
        got, want = self.both(lambda: S.skb_checksum(a, off, n), lambda: R.skb_checksum(b, off, n))
        if want is not None:
            assert csum_fold(got) == csum_fold(want)

    @invariant()
    def agree(self) -> None:
        for a, b in getattr(self, "pairs", ()):
            assert (a.len, a.data_len, a.nr_frags) == (len(b), b.data_len, len(b.frags))
            assert (a.headroom, a.tailroom, a.nohdr) == (b.data, b.tailroom, b.nohdr)
            assert S.skb_to_bytes(a) == R.skb_to_bytes(b)
            assert S.skb_header_cloned(a) == R.skb_header_cloned(b)
        for p, q in zip(getattr(self, "pools", ()), getattr(self, "refs", ()), strict=True):
            assert p.in_use == q.in_use

    def teardown(self) -> None:
        for a, _ in getattr(self, "pairs", ()):
            S.kfree_skb(a)
        assert all(p.in_use == 0 for p in getattr(self, "pools", ()))


AgainstTwin.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestAgainstTwin = AgainstTwin.TestCase


# -- cycles ----------------------------------------------------------------------------------------
class Owner:
    """Refers to a holder of packets that refer back."""

    holder: Any


def test_collector_finds_cycles_through_queues(pool: S.SkbPool) -> None:
    gc.collect()
    for member in ("dev", "sk", "dst", "cb", "destructor"):
        owner = Owner()
        owner.holder = S.sk_buff_head()
        ref = weakref.ref(owner)
        for _ in range(3):
            skb = S.skb_from_bytes(pool, b"abc")
            setattr(skb, member, owner if member != "destructor" else [owner].count)
            owner.holder.queue_tail(skb)
        del owner, skb
        gc.collect()
        assert ref() is None
        assert pool.in_use == 0


def test_collector_keeps_what_a_packet_in_use_refers_to(pool: S.SkbPool) -> None:
    owner = Owner()
    owner.holder = S.sk_buff_head()
    ref = weakref.ref(owner)
    skb = S.skb_from_bytes(pool, b"abc")
    skb.sk = owner
    owner.holder.queue_tail(skb)
    del owner
    gc.collect()
    assert ref() is skb.sk
    assert skb.sk.holder.peek() is skb
    assert S.skb_to_bytes(skb) == b"abc"


def test_collector_finds_cycles_through_rings_and_gro() -> None:
    from fastpath.net.gro import GroTable
    from fastpath.net.rings_driver import TxRing
    from tests.fastpath.frames import tcp

    mem = HostMemory(1 << 20)
    pool = S.SkbPool(mem, 2048, 8)
    for kind in ("tx", "gro"):
        owner = Owner()
        owner.holder = TxRing(mem, 8) if kind == "tx" else GroTable()
        ref = weakref.ref(owner)
        skb = S.skb_from_bytes(pool, tcp(b"abc"), 14)
        S.skb_pull(skb, 14)
        skb.dev, skb.protocol = owner, 0x800
        if kind == "tx":
            owner.holder.map(skb)
        else:
            owner.holder.receive(skb, [])
        del owner, skb
        gc.collect()
        assert ref() is None
        assert pool.in_use == 0


# -- fields out of range ---------------------------------------------------------------------------
EXTREMES = (
    -(1 << 63),
    -(1 << 32),
    -1,
    0,
    1,
    0xFFFF,
    0xFFFFFFEC,
    0xFFFFFFFF,
    1 << 33,
    (1 << 63) - 1,
)
WIDE_FIELDS = (
    "mac_header",
    "network_header",
    "transport_header",
    "csum_start",
    "csum_offset",
    "gso_size",
    "gso_segs",
    "frag_max_size",
    "truesize",
    "seq",
    "end_seq",
)


@pytest.mark.parametrize("field", WIDE_FIELDS)
def test_fields_out_of_range_reach_no_byte_outside_the_packet(
    mem: HostMemory, pool: S.SkbPool, field: str
) -> None:
    readers = [
        lambda skb: S.skb_checksum_help(skb),
        lambda skb: S.skb_copy(skb),
        lambda skb: S.skb_unclone(skb),
        lambda skb: S.skb_cow_head(skb, 200),
        lambda skb: S.skb_reset_mac_len(skb),
        lambda skb: S.skb_checksum_start_offset(skb),
        lambda skb: S.inet_checksum_init(skb, 17),
        lambda skb: hdr.eth_hdr(skb).h_proto,
        lambda skb: hdr.ip_hdr(skb).saddr,
        lambda skb: hdr.ipv6_hdr(skb).saddr,
        lambda skb: hdr.udp_hdr(skb).len,
        lambda skb: hdr.tcp_hdr(skb).seq,
        lambda skb: hdr.tcp_hdr_fields(skb),
        lambda skb: hdr.ip_send_check(skb),
        lambda skb: inet.ip_route_fields(skb),
        lambda skb: inet.ip_pull_header(skb),
        lambda skb: inet.ip_is_fragment(skb),
        lambda skb: inet.ip6_rcv_fields(skb),
        lambda skb: inet.ip6_to_group(skb),
        lambda skb: inet.ip6_pull_header(skb),
        lambda skb: parse.skb_parse(skb),
        lambda skb: hdr.ip_hdr_validate(skb),
        lambda skb: hdr.tcp_hdr_validate(skb),
        lambda skb: hdr.tcp_fill_cb(skb),
        lambda skb: hdr.tcp_parse_ts(skb),
        lambda skb: inetkey.inet_key(skb),
        lambda skb: inetkey.icmp_echo_key(skb),
        lambda skb: inetkey.udp_rcv_ends(skb),
        lambda skb: inetkey.inet_name(skb, 10),
        lambda skb: inetkey.udp_name(skb, 10),
        lambda skb: gso.skb_gso_segment(skb, pool),
        lambda skb: gso.skb_gso_validate_network_len(skb, 1500),
        lambda skb: gso.udp_rcv_segment(S.skb_get(skb), pool),
        lambda skb: TxRing(mem, 8).map(S.skb_get(skb)),
    ]
    for value in EXTREMES:
        for read in readers:
            for partial in (S.CHECKSUM_NONE, S.CHECKSUM_PARTIAL):
                skb = S.skb_from_bytes(pool, pattern(200), 128)
                assert skb is not None
                skb.network_header = 128 + 14
                skb.transport_header = 128 + 34
                S.skb_store_bits(skb, 14, b"\x45")
                skb.gso_size = 100
                skb.gso_type = S.SKB_GSO_UDP_L4
                skb.ip_summed = partial
                try:
                    setattr(skb, field, value)
                    read(skb)
                except (IndexError, ValueError, OverflowError, TypeError, MemoryError):
                    pass
                S.kfree_skb(skb)
    assert pool.available == pool.count


# -- None ------------------------------------------------------------------------------------------
# C functions take None for an object of any class, so each says itself that it wants another.
@pytest.mark.parametrize("module", [S, hdr, hdr6, inet, inetkey, gso, parse, retransmit_queue])
def test_none_is_refused_or_allowed_never_followed(pool: S.SkbPool, module: Any) -> None:
    functions = [f for f in vars(module).values() if isinstance(f, BuiltinFunctionType)]
    queue = S.sk_buff_head()
    methods = [getattr(queue, name) for name in dir(queue) if not name.startswith("_")]
    assert functions or module is retransmit_queue
    for function in functions + [m for m in methods if callable(m)]:
        for count in range(1, 11):
            for others in (None, 0, 1, b"", queue):
                for first in (None, others):
                    skb = S.skb_from_bytes(pool, b"\x45" * 64, 128)
                    try:
                        function(*[first] + [others] * (count - 1))
                        function(*[skb] + [others] * (count - 1))
                    except (
                        TypeError,
                        ValueError,
                        IndexError,
                        OverflowError,
                        MemoryError,
                        BufferError,
                    ):
                        pass
                    if skb is not None and skb.users:
                        S.kfree_skb(skb)
                    queue.purge()
