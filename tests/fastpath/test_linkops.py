"""fastpath.nic.linkops against its twin."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import linkops as ref
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


@given(
    frames,
    st.lists(st.integers(0, 2**62), max_size=12),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.integers(0, 2),
    st.integers(0, 100),
)
def test_epb_encode_equals_reference(
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
        args = (start, len(items), interface, now, epoch, direction, snap)
        assert linkops.epb_encode(batch, *args) == ref.epb_encode(batch, *args)


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 3), (2, 1)])
def test_epb_encode_refuses_a_range_outside_the_batch(start: int, stop: int) -> None:
    batch = batch_of([(b"a" * 60, 0), (b"b" * 60, 0)])
    for module in (linkops, ref):
        with pytest.raises(IndexError, match="batch of 2"):
            module.epb_encode(batch, start, stop, 0, 0, 0, 0, 1 << 18)


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
def test_address_runs_equal_reference(items: list[tuple[bytes, int]], start: int) -> None:
    batch = batch_of(items)
    start = min(start, len(items))
    runs = linkops.address_runs(batch, start)
    assert runs == ref.address_runs(batch, start)
    assert [i for a, b, _, _ in runs for i in range(a, b)] == list(range(start, len(items)))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    # A SOCK_SEQPACKET pair keeps message borders and answers EAGAIN, as a TAP does.
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


@pytest.mark.parametrize("module", [linkops, ref])
def test_read_pads_short_frames_and_ends_with_eagain(
    module: object, ends: tuple[socket.socket, socket.socket]
) -> None:
    far, near = ends
    far.send(b"x" * 42)
    far.send(b"y" * 1514)
    batch = FrameBatch()
    assert module.dgram_read(near.fileno(), batch, 8) == (2, errno.EAGAIN)
    assert list(batch) == [b"x" * 42 + bytes(18), b"y" * 1514]


@pytest.mark.parametrize("module", [linkops, ref])
def test_read_stops_at_its_limit_and_appends(
    module: object, ends: tuple[socket.socket, socket.socket]
) -> None:
    far, near = ends
    for i in range(5):
        far.send(bytes([i]) * 60)
    batch = FrameBatch()
    assert module.dgram_read(near.fileno(), batch, 3) == (3, 0)
    assert module.dgram_read(near.fileno(), batch, 3) == (2, errno.EAGAIN)
    assert [f[0] for f in batch] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("module", [linkops, ref])
def test_write_strips_fcs_and_drops_bad_frames(
    module: object, ends: tuple[socket.socket, socket.socket]
) -> None:
    far, near = ends
    batch = batch_of([(b"a" * 60, 0), (b"b" * 60 + b"fcs!", 1), (b"c" * 64, 3), (b"d" * 60, 0)])
    assert module.dgram_write(near.fileno(), batch, 0) == (4, 1, 0)
    assert [far.recv(100) for _ in range(3)] == [b"a" * 60, b"b" * 60, b"d" * 60]


@pytest.mark.parametrize("module", [linkops, ref])
def test_write_stops_where_the_far_side_is_full(
    module: object, ends: tuple[socket.socket, socket.socket]
) -> None:
    far, near = ends
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    batch = batch_of([(bytes([i]) * 1500, 0) for i in range(200)])
    at, dropped, error = module.dgram_write(near.fileno(), batch, 0)
    assert (dropped, error) == (0, errno.EAGAIN)
    assert 0 < at < 200
    assert far.recv(2000)[0] == 0
    assert module.dgram_write(near.fileno(), batch, at)[0] > at


@pytest.mark.parametrize("module", [linkops, ref])
def test_errors_of_the_descriptor_are_reported(module: object) -> None:
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    batch = batch_of([(b"a" * 60, 0)])
    assert module.dgram_write(r, batch, 0) == (1, 1, errno.EBADF)
    assert module.dgram_read(r, batch, 4) == (0, errno.EBADF)
