"""fastpath.nic.linkops: pcapng as scapy reads it, datagrams of the kernel, runs of addresses."""

from __future__ import annotations

import errno
import io
import os
import socket
import struct
from collections.abc import Iterator
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from fastpath.base.batch import FrameBatch
from fastpath.nic import linkops

frames = st.lists(st.tuples(st.binary(min_size=1, max_size=80), st.integers(0, 31)), max_size=12)


def batch_of(items: list[tuple[bytes, int]], *stamps: int) -> FrameBatch:
    batch = FrameBatch()
    for data, flags in items:
        batch.append(data, flags)
    for i, stamp in enumerate(stamps[: len(items)]):
        batch.set_tstamp_ns(i, stamp)
    return batch


INTERFACE = struct.pack("=IIHHIHHB7xI", 1, 32, 1, 0, 0, 9, 1, 9, 32)
"""An Ethernet interface whose times are in ns (pcapng section 4.2, option if_tsresol)."""
SECTION = struct.pack("=IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28) + 3 * INTERFACE
ERRORS = {1: 4 << 5, 2: 1 << 24, 4: 1 << 28, 8: 1 << 31}
"""Bits of epb_flags (section 4.3.1) by the batch's: FCS of 4 bytes, CRC, alignment, symbol."""


@given(
    frames,
    st.lists(st.integers(0, 2**62), max_size=12),
    st.integers(0, 2),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.integers(0, 2),
    st.integers(0, 100),
)
def test_blocks_are_what_scapy_reads(
    items: list[tuple[bytes, int]],
    stamps: list[int],
    interface: int,
    now: int,
    epoch: int,
    direction: int,
    snap: int,
) -> None:
    batch = batch_of(items, *stamps)
    for start in (0, len(items) // 2):
        args = (interface, now, epoch, direction, snap)
        blocks = linkops.epb_encode(batch, start, len(items), *args)
        found = list(RawPcapNgReader(io.BytesIO(SECTION + blocks)))
        assert [data for data, _ in found] == [frame[:snap] for frame, _ in items[start:]]
        for i, (_, meta) in enumerate(found, start):
            when = (batch.tstamp_ns(i) or now) + epoch
            assert (meta.tshigh << 32 | meta.tslow, meta.tsresol) == (when, 10**9)
            assert (meta.wirelen, meta.direction or 0) == (len(items[i][0]), direction)
            one = linkops.epb_encode(batch, i, i + 1, *args)
            number, (flags,) = *struct.unpack_from("=I", one, 8), struct.unpack("=I", one[-12:-8])
            assert number == interface
            assert flags == direction | sum(ERRORS[bit] for bit in ERRORS if items[i][1] & bit)


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (2, 1)])
def test_epb_encode_refuses_a_range_outside_the_batch(start: int, stop: int) -> None:
    batch = batch_of([(b"a" * 60, 0), (b"b" * 60, 0)])
    with pytest.raises(IndexError, match="batch of 2"):
        linkops.epb_encode(batch, start, stop, 0, 0, 0, 0, 1 << 18)


macs = st.sampled_from([b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02", b"\xff" * 6])


@given(
    st.lists(
        st.tuples(
            st.builds(lambda d, s, n: (d + s + bytes(60))[:n], macs, macs, st.integers(11, 60)),
            st.sampled_from([0, 1, 2, 16]),
        ),
        max_size=20,
    ),
    st.integers(0, 5),
)
def test_runs_have_the_same_addresses(items: list[tuple[bytes, int]], start: int) -> None:
    batch = batch_of(items)
    start = min(start, len(items))

    def addresses(i: int) -> tuple[int, int]:
        frame, marks = items[i]
        if len(frame) < 14 or marks & 14:  # cut off, or with any error
            return -1, -1
        return int.from_bytes(frame[:6], "big"), int.from_bytes(frame[6:12], "big")

    want = []
    for key, run in groupby(range(start, len(items)), addresses):
        first, *rest = run
        want.append((first, (rest or [first])[-1] + 1, *key))
    assert linkops.address_runs(batch, start) == want


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    # A SOCK_SEQPACKET pair keeps message borders and answers EAGAIN, as a TAP does.
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


def test_read_pads_short_frames_and_ends_with_eagain(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    far, near = ends
    far.send(b"x" * 42)
    far.send(b"y" * 1514)
    batch = FrameBatch()
    assert linkops.dgram_read(near.fileno(), batch, 8) == (2, errno.EAGAIN)
    assert list(batch) == [b"x" * 42 + bytes(18), b"y" * 1514]


def test_read_stops_at_its_limit_and_appends(ends: tuple[socket.socket, socket.socket]) -> None:
    far, near = ends
    for i in range(5):
        far.send(bytes([i]) * 60)
    batch = FrameBatch()
    assert linkops.dgram_read(near.fileno(), batch, 3) == (3, 0)
    assert linkops.dgram_read(near.fileno(), batch, 3) == (2, errno.EAGAIN)
    assert [f[0] for f in batch] == [0, 1, 2, 3, 4]


def test_write_strips_fcs_and_drops_bad_frames(ends: tuple[socket.socket, socket.socket]) -> None:
    far, near = ends
    batch = batch_of([(b"a" * 60, 0), (b"b" * 60 + b"fcs!", 1), (b"c" * 64, 3), (b"d" * 60, 0)])
    assert linkops.dgram_write(near.fileno(), batch, 0) == (4, 1, 0)
    assert [far.recv(100) for _ in range(3)] == [b"a" * 60, b"b" * 60, b"d" * 60]


def test_write_stops_where_the_far_side_is_full(ends: tuple[socket.socket, socket.socket]) -> None:
    far, near = ends
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    batch = batch_of([(bytes([i]) * 1500, 0) for i in range(200)])
    at, dropped, error = linkops.dgram_write(near.fileno(), batch, 0)
    assert (dropped, error) == (0, errno.EAGAIN)
    assert 0 < at < 200
    assert far.recv(2000)[0] == 0
    assert linkops.dgram_write(near.fileno(), batch, at)[0] > at


def test_errors_of_the_descriptor_are_reported() -> None:
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    batch = batch_of([(b"a" * 60, 0)])
    assert linkops.dgram_write(r, batch, 0) == (1, 1, errno.EBADF)
    assert linkops.dgram_read(r, batch, 4) == (0, errno.EBADF)
