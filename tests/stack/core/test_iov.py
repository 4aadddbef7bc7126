"""stack/core/iov.py"""

from __future__ import annotations

import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import SkbPool, alloc_skb, skb_from_bytes, skb_to_bytes
from stack.core.iov import (
    add_to_skb,
    as_buffer,
    copy_to_skb,
    iov_iter,
    msghdr,
    skb_copy_datagram_iter,
)
from tests.support import examples

MEM = HostMemory(8 << 20)
SMALL = SkbPool(MEM, 2048, 64)
PAGES = SkbPool(MEM, 4096, 64)

pieces = st.lists(st.binary(max_size=700), max_size=6)


@settings(max_examples=examples(80))
@given(pieces, st.integers(0, 1500))
def test_data_go_into_an_skb_in_order(bufs: list[bytes], linear: int) -> None:
    whole = b"".join(bufs)
    msg = msghdr(None, bufs)
    skb = alloc_skb(SMALL, 1500)
    assert skb is not None
    first = copy_to_skb(msg, skb, min(linear, len(whole)))
    assert first == min(linear, len(whole))
    assert add_to_skb(msg, skb, PAGES, len(whole) - first) == len(whole) - first
    assert skb_to_bytes(skb) == whole
    assert msg.count == 0


@settings(max_examples=examples(80))
@given(st.binary(max_size=1800), st.lists(st.integers(0, 500), max_size=8), st.integers(0, 50))
def test_data_come_out_in_order(data: bytes, sizes: list[int], offset: int) -> None:
    skb = skb_from_bytes(SMALL, data, 0)
    assert skb is not None
    bufs = [bytearray(n) for n in sizes]
    offset = min(offset, len(data))
    msg = msghdr(None, bufs)
    room = sum(sizes)
    n = skb_copy_datagram_iter(skb, offset, msg, len(data) - offset)
    assert n == min(room, len(data) - offset)
    assert b"".join(bufs)[:n] == data[offset : offset + n]


@given(pieces, st.data())
def test_take_and_advance_agree(bufs: list[bytes], data) -> None:
    whole = b"".join(bufs)
    it = iov_iter(bufs)
    n = data.draw(st.integers(0, len(whole)))
    assert it.take(n) == whole[:n]
    m = data.draw(st.integers(0, len(whole) - n))
    it.advance(m)
    assert it.take(len(whole)) == whole[n + m :]
    assert it.count == 0


@given(st.binary(max_size=100), st.lists(st.integers(0, 40), max_size=5))
def test_put_fills_what_fits(data: bytes, sizes: list[int]) -> None:
    bufs = [bytearray(n) for n in sizes]
    n = iov_iter(bufs).put(data)
    assert n == min(len(data), sum(sizes))
    assert b"".join(bufs)[:n] == data[:n]


def test_any_buffer_counts_in_bytes() -> None:
    words = array.array("I", [1, 2, 3])
    assert len(as_buffer(words)) == 12
    assert msghdr(None, words).count == 12
    assert msghdr(None, memoryview(b"abc")).count == 3
    assert msghdr(None, [words, b"x"]).count == 13
    with pytest.raises(TypeError):
        msghdr(None, "text")
