"""fastpath.base.batch: FrameBatch against lists, and what a batch promises about its memory."""

from __future__ import annotations

import gc
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS, FrameBatch
from fastpath.nic.cable import BatchPool
from tests.support import examples

ROW = struct.Struct("=IIIIQ")
frames = st.binary(min_size=1, max_size=200)


class BatchMachine(RuleBasedStateMachine):
    """Two batches, so that extend and swap have a partner, and the lists that they are to equal.

    A frame of a list is [bytes, flags, mark, time].
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[memoryview, bytes]] = []
        self.ours = [FrameBatch(arena_bytes=64, max_frames=1), FrameBatch()]
        self.lists: list[list[list[Any]]] = [[], []]

    @rule(frame=frames, flags=st.integers(0, 31), which=st.integers(0, 1))
    def append(self, frame: bytes, flags: int, which: int) -> None:
        self.ours[which].append(frame, flags)
        self.lists[which].append([frame, flags, 0, 0])

    @rule(which=st.integers(0, 1), start=st.integers(0, 5), stop=st.none() | st.integers(0, 9))
    def extend(self, which: int, start: int, stop: int | None) -> None:
        if len(self.lists[which]) < 200:
            self.ours[which].extend(self.ours[1 - which], start, stop)
            self.lists[which] += [list(frame) for frame in self.lists[1 - which][start:stop]]

    @rule(which=st.integers(0, 1), count=st.integers(-1, 5))
    def drop(self, which: int, count: int) -> None:
        self.ours[which].drop(count)
        del self.lists[which][: max(count, 0)]

    @rule()
    def swap(self) -> None:
        self.ours[0].swap(self.ours[1])
        self.lists.reverse()

    @rule(which=st.integers(0, 1))
    def clear(self, which: int) -> None:
        self.ours[which].clear()
        self.lists[which].clear()

    @precondition(lambda self: self.lists[0] and not self.looks)  # views show such changes
    @rule(value=st.integers(0, 2**32 - 1), pick=st.integers(0, 1000))
    def marks(self, value: int, pick: int) -> None:
        i = pick % len(self.lists[0])
        batch, data = self.ours[0], self.lists[0][i][0]
        batch.set_mark(i, value)
        batch.set_flags(i, value & 31)
        batch.set_tstamp_ns(i, value << 20)
        batch.view(i)[0] = value & 0xFF
        self.lists[0][i] = [bytes([value & 0xFF]) + data[1:], value & 31, value, value << 20]

    @invariant()
    def equal(self) -> None:
        for ours, wanted in zip(self.ours, self.lists, strict=True):
            assert len(ours) == len(wanted)
            assert list(ours) == [frame[0] for frame in wanted]
            assert ours.nbytes == sum(len(frame[0]) for frame in wanted)
            memory = ours.memory()
            rows = list(ROW.iter_unpack(ours.rows()))
            assert len(rows) == len(wanted)
            for i, (frame, (at, *row)) in enumerate(zip(wanted, rows, strict=True)):
                data, *fields = frame
                assert [ours.flags(i), ours.mark(i), ours.tstamp_ns(i)] == fields
                assert ours.frame_len(i) == len(data)
                assert row == [len(data), *fields]
                assert bytes(memory[at : at + len(data)]) == data
        for view, shown in self.looks:
            assert bytes(view) == shown

    @rule(which=st.integers(0, 1))
    def look(self, which: int) -> None:
        """Keep what is seen now of a batch; whatever becomes of it, nothing else shows there."""
        ours = self.ours[which]
        self.looks += [(view, bytes(view)) for view in (ours.rows(), ours.memory())]

    @rule()
    def look_away(self) -> None:
        self.looks.clear()


BatchMachine.TestCase.settings = settings(max_examples=examples(40), stateful_step_count=25)
TestBatch = BatchMachine.TestCase


def test_index_out_of_range_is_an_index_error() -> None:
    batch = FrameBatch([b"a", b"b"])
    assert batch[-1] == b"b"
    for i in (2, -3, 1 << 40):
        with pytest.raises(IndexError):
            batch[i]
    with pytest.raises(IndexError):
        batch.extend(batch, -1)


def test_empty_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        FrameBatch([b""])


def test_flags_travel_with_frames() -> None:
    batch = FrameBatch()
    batch.append(b"x" * 64, FB_HAS_FCS | FB_BAD_CRC)
    other = FrameBatch()
    other.extend(batch)
    assert other.flags(0) == FB_HAS_FCS | FB_BAD_CRC


def test_view_survives_growth_of_the_arena() -> None:
    batch = FrameBatch([b"first"], arena_bytes=64)
    view = batch.view(0)
    for _ in range(200):
        batch.append(bytes(1514))
    assert bytes(view) == b"first"
    batch.swap(FrameBatch())
    assert len(batch) == 0
    batch.append(b"other")
    assert bytes(view) == b"first"


def test_views_outlive_whatever_becomes_of_the_batch() -> None:
    batch = FrameBatch([b"first", b"second"])
    frame, rows, memory = batch.view(1), batch.rows(), batch.memory()
    seen = bytes(rows), bytes(memory)
    frame[0] = ord("S")
    assert batch[1] == b"Second"  # the same memory
    assert bytes(memory[64:70]) == b"Second"
    seen = bytes(rows), bytes(memory)
    batch.clear()
    batch.append(b"third, and longer")
    assert (bytes(rows), bytes(memory), bytes(frame)) == (*seen, b"Second")
    with pytest.raises(TypeError):
        rows[0] = 1
    del batch
    gc.collect()
    assert (bytes(rows), bytes(memory), bytes(frame)) == (*seen, b"Second")


def test_a_pooled_batch_does_not_write_where_somebody_looks() -> None:
    pool = BatchPool()
    batch = pool.get()
    batch.append(b"mine")
    memory = batch.memory()
    pool.put(batch)
    again = pool.get()
    again.append(b"else")
    assert again is batch
    assert bytes(memory[:4]) == b"mine"


def test_clearing_without_views_keeps_the_memory() -> None:
    batch = FrameBatch([bytes(1000)])
    first = batch.view(0)
    at = np.frombuffer(first, "u1").ctypes.data
    del first
    batch.clear()
    batch.append(bytes(1000))
    assert np.frombuffer(batch.view(0), "u1").ctypes.data == at


def test_extend_with_itself() -> None:
    batch = FrameBatch([bytes(4000), b"a", b"bb"], arena_bytes=4160, max_frames=1)
    batch.drop(1)
    batch.extend(batch)
    assert list(batch) == [b"a", b"bb", b"a", b"bb"]


def test_queue_that_never_empties_stays_bounded() -> None:
    batch = FrameBatch(arena_bytes=4096)
    for i in range(200_000):
        batch.append(i.to_bytes(4, "big") * 300)
        if len(batch) > 5:
            assert batch[0][:4] == (i - 5).to_bytes(4, "big")
            batch.drop(1)
    assert batch.arena_bytes <= 64 << 10
    assert len(batch) == 5


def test_limits_are_checked() -> None:
    with pytest.raises(ValueError, match="max_frames"):
        FrameBatch(max_frames=0)
    with pytest.raises(ValueError, match="arena_bytes"):
        FrameBatch(arena_bytes=1 << 40)
