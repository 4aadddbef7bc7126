"""Fragments in a caller's memory: who holds it, and when it comes back."""

from __future__ import annotations

import gc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import zerocopy as ref
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import (
    SkbPool,
    alloc_skb,
    kfree_skb,
    pskb_trim,
    sk_buff,
    skb_add_data,
    skb_clone,
    skb_pull,
    skb_to_bytes,
)
from fastpath.net.zerocopy import (
    skb_copy_ubufs,
    skb_orphan_frags,
    skb_zcopy,
    skb_zcopy_map,
    ubuf_info,
    zc_page,
)

MEMORY = HostMemory(4 << 20)
HEADS = SkbPool(MEMORY, 640, 256)
PAGES = SkbPool(MEMORY, 4096, 256)


def packet() -> sk_buff:
    skb = alloc_skb(HEADS, 0, 64)
    assert skb is not None
    return skb


class Sender:
    """A socket that sends; `kicks` counts how often it was told that buffers came back."""

    def __init__(self) -> None:
        self.done: list[zc_page] = []
        self.kicks = 0

    def kick(self) -> None:
        self.kicks += 1

    def ubuf(self) -> ubuf_info:
        return ubuf_info(self, self.done, self.kick, 0, 0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["new", "add", "add", "data", "clone", "trim", "pull", "orphan", "free"]),
        st.integers(0, 9), st.integers(0, 9000), st.integers(0, 9000),
    ),
    max_size=40,
)  # fmt: skip


@given(STEPS)
def test_pages_come_back_when_the_twin_says_so(steps: list[tuple[str, int, int, int]]) -> None:
    sender = Sender()
    pairs: list[tuple[sk_buff, ref.Packet]] = [(packet(), ref.Packet())]
    buffers = [bytearray(bytes([i]) * 5000) for i in range(3)]
    ours = [sender.ubuf() for _ in buffers]
    theirs = [ref.Ubuf() for _ in buffers]
    for uarg, twin, buffer in zip(ours, theirs, buffers, strict=True):
        twin.pages.append(ref.Page(twin, buffer))
        keep = packet()  # so that the page is there from the beginning
        uarg.add(keep, buffer, 0, 1)
        kfree_skb(keep)
    for what, which, x, y in steps:
        skb, twin = pairs[which % len(pairs)]
        n = skb.len
        if what == "new":
            pairs.append((packet(), ref.Packet()))
        elif what == "add":
            at = which % len(buffers)
            off, size = x % 5000, y % 5000
            size = min(size, 5000 - off)
            if size:
                assert ours[at].add(skb, buffers[at], off, size) == size
                twin.add(theirs[at].pages[0], off, size)
        elif what == "data":
            data = bytes([x & 255]) * (y % 300)
            assert skb_add_data(skb, PAGES, data, 0, len(data)) == len(data)
            twin.copy(data)
        elif what == "clone":
            other = skb_clone(skb)
            pairs.append((other, twin.clone()))
        elif what == "trim":
            pskb_trim(skb, x % (n + 1))
            twin.trim(x % (n + 1))
        elif what == "pull":
            skb_pull(skb, x % (n + 1))
            twin.pull(x % (n + 1))
        elif what == "orphan":
            before = skb.truesize
            assert skb_orphan_frags(skb, PAGES)
            twin.orphan()
            assert skb.truesize == before
        elif len(pairs) > 1:
            pairs.remove((skb, twin))
            kfree_skb(skb)
            twin.free()
        for mine, model in pairs:
            assert skb_to_bytes(mine) == model.payload()
            found = skb_zcopy(mine)
            expected = model.ubuf()
            assert (found is None) == (expected is None)
            assert found is None or theirs[ours.index(found)] is expected
    for buffer in buffers:  # what was not copied changes with its owner, what was does not
        buffer[:] = bytes(5000)
    for mine, model in pairs:
        assert skb_to_bytes(mine) == model.payload()
    for uarg, twin_owner in zip(ours, theirs, strict=True):
        uarg.end_add()
        twin_owner.pages[0].holders -= 1
    for skb, twin in pairs:
        held = sum(owner.pages[0].holders > 0 for owner in theirs)
        assert len(sender.done) == len(ours) - held
        kfree_skb(skb)
        twin.free()
    assert len(sender.done) == len(ours)
    assert sender.kicks == 1
    assert [u.zerocopy for u in ours] == [t.zerocopy for t in theirs]
    for page in sender.done:
        page.finish()
    for buffer in buffers:
        buffer.append(1)  # nobody exports it
    assert HEADS.in_use == 0


def test_a_buffer_is_exported_until_its_page_is_finished() -> None:
    sender, buffer = Sender(), bytearray(100)
    uarg, skb = sender.ubuf(), packet()
    assert uarg.add(skb, buffer, 10, 20) == 20
    assert uarg.add(skb, buffer, 30, 20) == 20
    assert (skb.len, skb.nr_frags) == (40, 1)
    with pytest.raises(BufferError):
        buffer.append(1)
    kfree_skb(skb)
    assert not sender.done  # the call goes on
    uarg.end_add()
    (page,) = sender.done
    with pytest.raises(BufferError):
        buffer.append(1)
    assert (page.size, page.dma, page.mapped) == (90, 0, False)
    assert page.finish() is uarg
    buffer.append(1)
    with pytest.raises(RuntimeError, match="given back"):
        page.finish()
    with pytest.raises(TypeError, match="made by"):
        zc_page()


def test_what_is_not_there_is_refused() -> None:
    sender, skb = Sender(), packet()
    uarg = sender.ubuf()
    for off, n in ((-1, 1), (0, 11), (5, 6), (11, 1), (0, -1)):
        with pytest.raises(ValueError, match=r"ubuf_info\.add"):
            uarg.add(skb, bytes(10), off, n)
    with pytest.raises(TypeError):
        uarg.add(skb, "text", 0, 1)
    with pytest.raises(TypeError):
        skb_copy_ubufs(skb, None)  # type: ignore[arg-type]
    assert skb.len == 0
    kfree_skb(skb)
    uarg.end_add()


def test_the_bytes_there_are_counted_not_what_len_says() -> None:
    class Longer(bytes):
        def __len__(self) -> int:
            return 1000

    sender, skb = Sender(), packet()
    uarg = sender.ubuf()
    with pytest.raises(ValueError, match=r"ubuf_info\.add"):
        uarg.add(skb, Longer(b"abc"), 10, 5)
    assert skb.len == 0
    uarg.end_add()
    words = array("I", range(8))
    assert uarg.add(skb, words, 8, 12) == 12
    assert skb_to_bytes(skb) == words.tobytes()[8:20]
    kfree_skb(skb)
    uarg.end_add()
    assert sender.done[-1].memory.tobytes() == words.tobytes()[8:]


def test_copying_needs_memory() -> None:
    sender, skb = Sender(), packet()
    uarg = sender.ubuf()
    assert uarg.add(skb, bytes(10000), 0, 10000) == 10000
    uarg.end_add()
    assert not skb_copy_ubufs(skb, SkbPool(MEMORY, 4096, 2))
    kfree_skb(skb)
    assert len(sender.done) == 1
    assert not uarg.zerocopy


def test_every_page_is_shown_to_a_device_once() -> None:
    sender, skb = Sender(), packet()
    shown: list[bytes] = []

    def mapper(memory: memoryview) -> int:
        shown.append(bytes(memory))
        return 0x1000 * len(shown)

    uarg = sender.ubuf()
    first, second = b"abcdef", bytearray(b"ghi")
    uarg.add(skb, first, 2, 3)
    uarg.add(skb, second, 0, 3)
    assert skb_zcopy_map(skb, mapper)
    assert skb_zcopy_map(skb, mapper)
    assert shown == [b"cdef", b"ghi"]
    other = packet()
    uarg.add(other, b"x", 0, 1)
    assert not skb_zcopy_map(other, lambda memory: 0)
    for each in (skb, other):
        kfree_skb(each)
    uarg.end_add()
    assert sorted(page.dma for page in sender.done) == [0, 0x1000, 0x2000]
    for page in sender.done:
        page.finish()


def test_nothing_is_leaked_when_nobody_finishes() -> None:
    buffer = bytearray(100)

    def lose() -> None:
        sender, skb = Sender(), packet()
        uarg = sender.ubuf()
        uarg.add(skb, memoryview(buffer)[1:], 0, 99)
        uarg.end_add()
        kfree_skb(skb)

    lose()
    gc.collect()
    buffer.append(1)
