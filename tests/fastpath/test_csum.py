"""fastpath.base.csum against its twin, at every vector level of the machine."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import csum as ref
from fastpath.base import csum
from tests.support import examples

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u128 = st.integers(0, (1 << 128) - 1)
# Lengths around the small path, the vector widths and the unrolled steps, and a few frames.
EDGES = sorted(
    {n + d for n in (0, 16, 32, 64, 66, 128, 192, 256, 320, 512, 1500) for d in (-1, 0, 1, 2, 3)}
    - {-1}
)


@pytest.fixture(params=csum.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    before = csum.level()
    csum.set_level(request.param)
    yield request.param
    csum.set_level(before)


def pattern(n: int, seed: int = 1) -> bytes:
    out = bytearray()
    x = seed
    while len(out) < n:
        x = (x * 6364136223846793005 + 1442695040888963407) & (1 << 64) - 1
        out += x.to_bytes(8, "little")
    return bytes(out[:n])


def test_rfc1071_example_gives_the_sum_of_the_rfc() -> None:
    # RFC 1071 section 3: 0001 f203 f4f5 f6f7 sums to 2ddf0, folds to ddf2.
    acc = csum.csum_partial(bytes.fromhex("0001f203f4f5f6f7"))
    assert acc == 0xDDF2
    assert csum.csum_fold(acc) == 0x220D


def test_every_length_and_address_equals_reference(level: str) -> None:
    data = pattern(2400)
    for n in [*range(200), *EDGES]:
        for at in (0, 1, 3, 7, 31, 63):
            view = memoryview(data)[at : at + n]
            assert csum.csum_partial(view, 7) == ref.csum_partial(view, 7), (n, at)


@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80])
@pytest.mark.parametrize("n", [70, 1500, 65535, 512 * 1024 - 1, 512 * 1024 + 66, (2 << 20) + 3])
def test_extreme_bytes_do_not_overflow_a_lane(level: str, fill: int, n: int) -> None:
    data = bytes([fill]) * n
    words = n // 2 * (fill << 8 | fill) + (fill << 8 if n & 1 else 0)
    want = 0 if words == 0 else (words - 1) % 0xFFFF + 1
    assert csum.csum_partial(data) == want
    assert csum.csum_and_copy(bytearray(n), data) == want


@given(st.binary(max_size=2000), u32)
@settings(max_examples=examples(150))
def test_csum_partial_equals_reference(data: bytes, acc: int) -> None:
    assert csum.csum_partial(data, acc) == ref.csum_partial(data, acc)


def test_copy_writes_exactly_the_source(level: str) -> None:
    data = pattern(2400, seed=5)
    for n in EDGES:
        for at, to in ((0, 0), (1, 0), (0, 1), (5, 3)):
            room = bytearray(b"\xa5" * (n + 80))
            view = memoryview(room)[to : to + n + 8]
            acc = csum.csum_and_copy(view, data[at : at + n], 0xFFFFFFFF)
            assert acc == ref.csum_partial(data[at : at + n], 0xFFFFFFFF)
            assert room[to : to + n] == data[at : at + n]
            assert set(room[:to]) | set(room[to + n :]) == {0xA5}, (n, at, to)


def test_copy_onto_itself_is_allowed_and_overlap_is_not() -> None:
    room = bytearray(pattern(300))
    want = bytes(room)
    assert csum.csum_and_copy(room, room) == ref.csum_partial(want)
    assert room == want
    with pytest.raises(ValueError, match="overlap"):
        csum.csum_and_copy(memoryview(room)[1:], memoryview(room)[:200])


def test_copy_refuses_a_short_or_constant_destination() -> None:
    with pytest.raises(ValueError, match="dst holds 3 bytes, src has 4"):
        csum.csum_and_copy(bytearray(3), b"abcd")
    with pytest.raises((BufferError, TypeError)):
        csum.csum_and_copy(b"abcd", b"abcd")


@given(st.binary(max_size=400), st.integers(0, 400))
def test_blocks_joined_at_any_offset_equal_the_whole(data: bytes, cut: int) -> None:
    cut = min(cut, len(data))
    head, tail = csum.csum_partial(data[:cut]), csum.csum_partial(data[cut:])
    whole = csum.csum_fold(csum.csum_partial(data))
    joined = csum.csum_block_add(head, tail, cut)
    assert csum.csum_fold(joined) == whole
    rest = csum.csum_block_sub(joined, tail, cut)
    assert csum.csum_fold(rest) % 0xFFFF == csum.csum_fold(head) % 0xFFFF


@given(u32, u32, st.integers(0, 1 << 32))
def test_scalar_functions_equal_reference(a: int, b: int, offset: int) -> None:
    assert csum.csum_add(a, b) == ref.csum_add(a, b)
    assert csum.csum_sub(a, b) == ref.csum_sub(a, b)
    assert csum.csum_fold(a) == ref.csum_fold(a)
    assert csum.csum_block_add(a, b, offset) == ref.csum_block_add(a, b, offset)
    assert csum.csum_block_sub(a, b, offset) == ref.csum_block_sub(a, b, offset)


@given(u32, u32, u32, st.integers(0, 255), u32)
def test_ipv4_pseudo_header_equals_its_bytes(s: int, d: int, n: int, proto: int, acc: int) -> None:
    got = csum.csum_tcpudp_nofold(s, d, n, proto, acc)
    assert got == ref.csum_tcpudp_nofold(s, d, n, proto, acc)
    header = struct.pack("!IIIBB", s, d, n, 0, proto)
    want = csum.csum_partial(header, acc)
    assert csum.csum_fold(got) == csum.csum_fold(want)
    assert csum.csum_tcpudp_magic(s, d, n, proto, acc) == csum.csum_fold(want)


@given(u128, u128, u32, u32)
def test_ipv6_pseudo_header_equals_its_bytes(s: int, d: int, n: int, acc: int) -> None:
    got = csum.csum_ipv6_nofold(s, d, n, 6, acc)
    assert got == ref.csum_ipv6_nofold(s, d, n, 6, acc)
    header = s.to_bytes(16, "big") + d.to_bytes(16, "big") + struct.pack("!IHBB", n, 0, 0, 6)
    want = csum.csum_fold(csum.csum_partial(header, acc))
    assert csum.csum_ipv6_magic(s, d, n, 6, acc) == ref.csum_ipv6_magic(s, d, n, 6, acc) == want


def test_ipv6_address_that_is_no_int_is_refused() -> None:
    with pytest.raises(TypeError, match="an IPv6 address is an int, not bytes"):
        csum.csum_ipv6_nofold(bytes(16), 0, 0, 6)  # type: ignore[arg-type]
    # as a header's members do, the low bits count
    ones = (1 << 128) - 1
    assert csum.csum_ipv6_nofold(-1, 1 << 128, 0, 6) == csum.csum_ipv6_nofold(ones, 0, 0, 6)


@given(st.binary(min_size=20, max_size=60).filter(lambda b: len(b) % 2 == 0 and any(b)), u32)
def test_incremental_update_equals_a_new_sum(data: bytes, new: int) -> None:
    check = csum.ip_compute_csum(data)
    old16, old32 = struct.unpack_from("!H", data)[0], struct.unpack_from("!I", data)[0]
    two = struct.pack("!H", new >> 16) + data[2:]
    four = struct.pack("!I", new) + data[4:]
    # Both forms of zero stand for one value when the rest of the data is zero (RFC 1624 section 3).
    if any(two):
        assert csum.csum_replace2(check, old16, new >> 16) == csum.ip_compute_csum(two)
    if any(four):
        assert csum.csum_replace4(check, old32, new) == csum.ip_compute_csum(four)


@given(u16, u32, u32)
def test_replace_equals_reference(check: int, old: int, new: int) -> None:
    assert csum.csum_replace4(check, old, new) == ref.csum_replace4(check, old, new)
    o, n = old & 0xFFFF, new & 0xFFFF
    assert csum.csum_replace2(check, o, n) == ref.csum_replace2(check, o, n)


@given(st.binary(min_size=18, max_size=58).filter(lambda b: len(b) % 2 == 0))
def test_data_with_its_check_sums_to_zero(data: bytes) -> None:
    check = csum.ip_compute_csum(data)
    assert csum.ip_compute_csum(data + struct.pack("!H", check)) == 0


def test_buffers_of_any_kind_are_read() -> None:
    data = pattern(100)
    want = ref.csum_partial(data)
    assert csum.csum_partial(bytearray(data)) == csum.csum_partial(memoryview(data)) == want
    with pytest.raises(TypeError):
        csum.csum_partial("text")  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        csum.csum_partial(memoryview(data)[::2])


def test_level_is_one_of_levels_and_an_unknown_one_is_refused() -> None:
    assert csum.level() in csum.levels()
    assert csum.levels()[0] == "portable"
    before = csum.level()
    with pytest.raises(ValueError, match="portable"):
        csum.set_level("mmx")
    assert csum.level() == before
