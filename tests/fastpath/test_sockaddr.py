"""The compiled address value against its twin."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref.sockaddr import sockaddr as twin
from fastpath._ref.sockaddr import sockaddr_from as twin_from
from fastpath._ref.sockaddr import sockaddr_ll as twin_ll
from fastpath._ref.sockaddr import sockaddr_un as twin_un
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


@given(rows)
def test_values_and_refusals_equal_the_twin(row: tuple[int, ...]) -> None:
    try:
        want = twin(*row)
    except ValueError:
        with pytest.raises(ValueError, match=r"^sockaddr: "):
            sockaddr(*row)
        return
    got = sockaddr(*row)
    assert [getattr(got, f) for f in FIELDS] == [getattr(want, f) for f in FIELDS]
    assert eval(repr(got), {"sockaddr": sockaddr}) == got
    assert pickle.loads(pickle.dumps(got)) == got


@given(valid, valid)
def test_equal_and_hash_as_the_twin(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    one, two = sockaddr(*a), sockaddr(*b)
    assert (one == two) == (twin(*a) == twin(*b))
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
def test_sockaddr_ll_is_its_twin(a: tuple[int, int, int, int, bytes], b: tuple[Any, ...]) -> None:
    made = []
    for row in (a, b):
        try:
            want = twin_ll(*row)
        except ValueError:
            with pytest.raises(ValueError, match=r"^sockaddr_ll: "):
                sockaddr_ll(*row)
            return
        got = sockaddr_ll(*row)
        assert (got.family, got.addr, got.protocol, got.ifindex) == (17, 0, row[0], row[1])
        assert (got.hatype, got.pkttype, got.lladdr) == row[2:]
        assert eval(repr(got), {"sockaddr_ll": sockaddr_ll}) == got == sockaddr_ll_make(*row)
        assert pickle.loads(pickle.dumps(got)) == got
        assert hash(got) == hash(sockaddr_ll(*row))
        assert got != sockaddr(2, 0)
        made.append((got, want))
    (one, ref_one), (two, ref_two) = made
    assert (one == two) == (ref_one == ref_two)


@given(st.binary(max_size=108), st.binary(max_size=108))
def test_a_name_of_af_unix_is_its_bytes(path: bytes, other: bytes) -> None:
    one, two = sockaddr_un(path), twin_un(path)
    assert isinstance(one, sockaddr)
    assert (one.family, one.path) == (two.family, two.path) == (1, path)
    assert (one == sockaddr_un(other)) == (two == twin_un(other)) == (path == other)
    assert hash(one) == hash(sockaddr_un(bytearray(path)))
    assert one != sockaddr(1, 0)
    assert pickle.loads(pickle.dumps(one)) == one


families = st.sampled_from([0, 1, 2, 10, 17, 99]).map(lambda f: f.to_bytes(2, sys.byteorder))
raw = st.one_of(
    st.binary(max_size=130),
    st.builds(lambda family, rest: family + rest, families, st.binary(max_size=127)),
)


@given(raw)
def test_bytes_are_read_as_the_twin_reads_them(data: bytes) -> None:
    if len(data) > 128:
        with pytest.raises(ValueError, match=r"^sockaddr_from: "):
            sockaddr_from(data)
        return
    got, want = sockaddr_from(data), twin_from(data)
    assert type(got).__name__ == type(want).__name__
    assert got.sa_len == want.sa_len == (len(data) or 1)
    for name in (*FIELDS, "path", "protocol", "ifindex", "hatype", "pkttype", "lladdr"):
        assert getattr(got, name, None) == getattr(want, name, None)
