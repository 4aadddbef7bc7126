"""The compiled address value: what fits, what is equal, and bytes as `struct` reads them."""

from __future__ import annotations

import pickle
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.net.sockaddr import (
    sockaddr,
    sockaddr_from,
    sockaddr_ll,
    sockaddr_ll_make,
    sockaddr_un,
)

FIELDS = ("family", "addr", "port", "flowinfo", "scope_id")
numbers = st.one_of(st.integers(-2, 1 << 17), st.integers(0, 1 << 33), st.integers(0, 1 << 129))
rows = st.tuples(st.sampled_from([0, 2, 10, 70000]), numbers, numbers, numbers, numbers)
valid = st.one_of(
    st.tuples(st.just(2), st.integers(0, 3), st.integers(0, 2)),
    st.tuples(st.just(10), st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)),
    st.tuples(*[st.just(10), st.integers(0, (1 << 128) - 1), st.integers(0, 1), st.just(0)]),
)


def fit(row: tuple[int, ...], bits: tuple[int, ...]) -> bool:
    """Whether each number has no more bits than its field."""
    return all(0 <= value < 1 << n for value, n in zip(row, bits, strict=False))


@given(rows)
def test_what_does_not_fit_is_refused(row: tuple[int, ...]) -> None:
    if not fit(row, (16, 128 if row[0] == 10 else 32, 16, 32, 32)):
        with pytest.raises(ValueError, match=r"^sockaddr: "):
            sockaddr(*row)
        return
    got = sockaddr(*row)
    assert tuple(getattr(got, f) for f in FIELDS) == row
    assert eval(repr(got), {"sockaddr": sockaddr}) == got
    assert pickle.loads(pickle.dumps(got)) == got


@given(valid, valid)
def test_equal_when_all_fields_are(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    one, two = sockaddr(*a), sockaddr(*b)
    assert (one == two) == ((*a, 0, 0)[:5] == (*b, 0, 0)[:5])
    if one == two:
        assert hash(one) == hash(two)
    assert one != a


def test_no_field_can_be_written() -> None:
    name = sockaddr(2, 0x0A000001, 80)
    for field in FIELDS:
        with pytest.raises(AttributeError):
            setattr(name, field, 1)


LL = st.tuples(
    st.integers(-1, 0x10000),
    st.integers(-1, 1 << 32),
    st.integers(-1, 0x10000),
    st.integers(-1, 256),
    st.binary(max_size=9),
)


@given(LL, LL)
def test_sockaddr_ll_is_its_five_fields(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    made = []
    for row in (a, b):
        if not fit(row[:4], (16, 32, 16, 8)) or len(row[4]) > 8:
            with pytest.raises(ValueError, match=r"^sockaddr_ll: "):
                sockaddr_ll(*row)
            return
        got = sockaddr_ll(*row)
        assert (got.family, got.addr) == (17, 0)
        assert (got.protocol, got.ifindex, got.hatype, got.pkttype, got.lladdr) == row
        assert eval(repr(got), {"sockaddr_ll": sockaddr_ll}) == got == sockaddr_ll_make(*row)
        assert pickle.loads(pickle.dumps(got)) == got
        assert hash(got) == hash(sockaddr_ll(*row))
        assert got != sockaddr(2, 0)
        made.append(got)
    assert (made[0] == made[1]) == (a == b)


@given(st.binary(max_size=108), st.binary(max_size=108))
def test_a_name_of_af_unix_is_its_bytes(path: bytes, other: bytes) -> None:
    one = sockaddr_un(path)
    assert isinstance(one, sockaddr)
    assert (one.family, one.path) == (1, path)
    assert (one == sockaddr_un(other)) == (path == other)
    assert hash(one) == hash(sockaddr_un(bytearray(path)))
    assert one != sockaddr(1, 0)
    assert pickle.loads(pickle.dumps(one)) == one


families = st.sampled_from([0, 1, 2, 10, 16, 17, 99]).map(lambda f: f.to_bytes(2, sys.byteorder))
raw = st.one_of(
    st.binary(max_size=130),
    st.builds(lambda family, rest: family + rest, families, st.binary(max_size=127)),
)


def unpacked(data: bytes) -> sockaddr:
    """The address in the bytes of a struct sockaddr, zeros behind them."""
    raw = data.ljust(128, b"\0")
    (family,), (port,) = struct.unpack_from("=H", raw), struct.unpack_from("!H", raw, 2)
    if family == 1 and len(data) >= 2:
        return sockaddr_un(data[2:])
    if family == 17:
        return sockaddr_ll(port, *struct.unpack_from("=IHB", raw, 4), raw[12:20])
    if family == 10:
        flow, high, low = struct.unpack_from("!IQQ", raw, 4)
        return sockaddr(10, high << 64 | low, port, flow, *struct.unpack_from("=I", raw, 24))
    if family == 16:
        pid, groups = struct.unpack_from("=II", raw, 4)
        return sockaddr(16, pid, 0, groups)
    return sockaddr(family, *struct.unpack_from("!I", raw, 4), port)


@given(raw)
def test_bytes_are_read_as_struct_reads_them(data: bytes) -> None:
    if len(data) > 128:
        with pytest.raises(ValueError, match=r"^sockaddr_from: "):
            sockaddr_from(data)
        return
    got = sockaddr_from(data)
    assert got == unpacked(data)
    assert got.sa_len == (len(data) or 1)
