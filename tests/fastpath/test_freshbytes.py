"""Bytes filled in place, against slices of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.freshbytes import FreshBytes, first_bytes


@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 700))
def test_fresh_bytes_are_what_was_filled_in(data: bytes, more: int, n: int) -> None:
    size = len(data) + more
    fresh = FreshBytes(size)
    view = memoryview(fresh)
    view[: len(data)] = data
    view[len(data) :] = bytes(more)
    assert len(fresh) == fresh.size == size
    with pytest.raises(BufferError, match="in use"):
        fresh.take(n)
    view.release()
    got = fresh.take(n)
    assert got == (data + bytes(more))[:n]
    assert type(got) is bytes
    with pytest.raises(BufferError, match="taken already"):
        fresh.take(0)
    with pytest.raises(BufferError, match="taken"):
        memoryview(fresh)
    assert hash(got) == hash(bytes(bytearray(got)))


def test_no_room_and_none_of_it() -> None:
    assert FreshBytes(0).take(0) == b""
    assert FreshBytes(5).take(0) == b""
    with pytest.raises(ValueError, match="negative"):
        FreshBytes(-1)
    with pytest.raises(ValueError, match="negative"):
        FreshBytes(3).take(-1)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_first_bytes_are_a_slice(data: bytes, n: int) -> None:
    got = first_bytes(bytearray(data), n)
    assert type(got) is bytes
    assert got == data[:n]


def test_first_bytes_of_what_is_none() -> None:
    with pytest.raises(ValueError, match="negative"):
        first_bytes(bytearray(3), -1)
    for wrong in (b"abc", None, memoryview(b"abc")):
        with pytest.raises(TypeError):
            first_bytes(wrong, 1)  # type: ignore[arg-type]
