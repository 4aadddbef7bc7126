"""Packets of XTP: parsing undoes building, and nothing that arrives does harm."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from stack.xtp import packet as xtp
from stack.xtp.packet import (
    NOCHECK,
    XTP_CNTL,
    XTP_DATA,
    XTP_DIAG,
    XTP_ECNTL,
    XTP_FIRST,
    XTP_HLEN,
    XTP_RTN,
    XTP_TCNTL,
    xtp_build,
    xtp_checksum_ok,
    xtp_cntl_segment,
    xtp_diag_segment,
    xtp_ecntl_segment,
    xtp_first_segment,
    xtp_parse,
    xtp_tcntl_segment,
    xtp_tspec,
)

KEYS = st.integers(1, (1 << 63) - 1)
SEQ = st.integers(0, (1 << 62))
U32 = st.integers(0, (1 << 32) - 1)
OPTIONS = st.integers(0, (1 << 24) - 1)


@given(KEYS, st.booleans(), OPTIONS, SEQ, U32, st.integers(0, 65535), st.binary(max_size=2000))
@example(1, True, NOCHECK, 0, 0, 0, b"")
def test_data(
    key: int, rtn: bool, options: int, seq: int, sync: int, sort: int, data: bytes
) -> None:
    options &= ~xtp.BTAG
    raw = xtp_build(key | (XTP_RTN if rtn else 0), options, XTP_DATA, seq, sync, sort, b"", data)
    assert xtp_checksum_ok(raw)
    for trailer in (b"", b"\0" * 14):  # the padding of a short frame
        found = xtp_parse(raw + trailer)
        assert found is not None
        assert (found.key, found.rtn, found.options, found.format) == (key, rtn, options, XTP_DATA)
        assert (found.seq, found.sync, found.data) == (seq, sync, data)
        assert int.from_bytes(raw[18:20], "big") == sort
        assert found.echo == -1


def test_a_tag_is_not_data() -> None:
    raw = xtp_build(5, xtp.BTAG, XTP_DATA, 9, 0, 0, b"", b"12345678data")
    found = xtp_parse(raw)
    assert found is not None
    assert found.data == b"data"
    assert xtp_parse(xtp_build(5, xtp.BTAG, XTP_DATA, 9, 0, 0, b"", b"1234567")) is None


@given(
    KEYS, SEQ, SEQ, U32, st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), max_size=30)
)
def test_control(key: int, rseq: int, alloc: int, echo: int, steps: list[tuple[int, int]]) -> None:
    spans = []
    edge = rseq
    for gap, size in steps:
        spans.append((edge + gap, edge + gap + size))
        edge += gap + size
    tspec = xtp_tspec(4, 1, 2, 3, 4, 5)
    for form, segment in (
        (XTP_CNTL, xtp_cntl_segment(rseq, alloc, echo)),
        (XTP_ECNTL, xtp_ecntl_segment(rseq, alloc, echo, spans)),
        (XTP_TCNTL, xtp_tcntl_segment(rseq, alloc, echo, tspec)),
    ):
        found = xtp_parse(xtp_build(key, 0, form, 0, 0, 0, segment, b""))
        assert found is not None
        assert (found.rseq, found.alloc, found.echo) == (rseq, alloc, echo)
        assert found.spans == (spans[: xtp.XTP_MAX_SPANS] if form == XTP_ECNTL else [])
        if form == XTP_TCNTL:
            assert found.tspec is not None
            assert (found.tspec.service, found.tspec.outburst) == (4, 5)


@given(KEYS, U32, U32, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=99))
def test_first(key: int, saddr: int, daddr: int, sport: int, dport: int, data: bytes) -> None:
    segment = xtp_first_segment(saddr, sport, daddr, dport, xtp_tspec(3, inrate=7))
    found = xtp_parse(xtp_build(key, 0, XTP_FIRST, 0, 1, 0, segment, data))
    assert found is not None
    assert (found.sport, found.dport, found.data) == (sport, dport, data)
    assert found.tspec is not None
    assert (found.tspec.service, found.tspec.inrate) == (3, 7)


@given(KEYS, U32, U32)
def test_diag(key: int, code: int, value: int) -> None:
    raw = xtp_build(key, 0, XTP_DIAG, 0, 0, 0, xtp_diag_segment(code, value, "why"), b"")
    found = xtp_parse(raw)
    assert found is not None
    assert found.code == code
    assert raw[36:] == value.to_bytes(4, "big") + b"why"


@given(st.binary(max_size=200))
def test_anything_is_parsed_or_refused(raw: bytes) -> None:
    found = xtp_parse(raw)
    if len(raw) >= XTP_HLEN:
        xtp_checksum_ok(raw)
    assert found is None or len(raw) >= XTP_HLEN


@given(
    st.sampled_from([XTP_DATA, XTP_CNTL, XTP_FIRST, XTP_ECNTL, XTP_TCNTL, 7, XTP_DIAG, 9]),
    OPTIONS,
    st.binary(max_size=120),
)
def test_any_body_is_parsed_or_refused(form: int, options: int, body: bytes) -> None:
    found = xtp_parse(xtp_build(3, options, form, 0, 0, 0, b"", body))
    if found is not None:
        edge = found.rseq
        for left, right in found.spans:
            assert edge < left < right
            edge = right


@given(st.binary(min_size=1, max_size=300), st.integers(0, 2400))
def test_every_flipped_bit_is_found(data: bytes, bit: int) -> None:
    raw = bytearray(xtp_build(77, 0, XTP_DATA, 5, 6, 0, b"", data))
    bit %= len(raw) * 8
    raw[bit // 8] ^= 1 << (bit & 7)
    # a flipped NOCHECK bit changes what is summed too
    assert not xtp_checksum_ok(bytes(raw)) or raw[8] & 0x40


def test_what_no_packet_may_be() -> None:
    good = xtp_build(1, 0, XTP_DATA, 0, 0, 0, b"", b"abc")
    assert xtp_parse(good) is not None
    assert xtp_parse(good[:-1]) is None  # shorter than it says
    version = bytearray(good)
    version[11] = 2 << 5
    assert xtp_parse(bytes(version)) is None
    assert xtp_parse(xtp_build(1, 0, XTP_DATA, (1 << 63) - 2, 0, 0, b"", b"abc")) is None
    beyond = bytearray(good)
    beyond[24] = 0x80  # the sequence number passes 63 bits
    assert xtp_parse(bytes(beyond)) is None
    assert xtp_parse(xtp_build(1, 0, 7, 0, 0, 0, b"", b"")) is None  # JCNTL: multicast
