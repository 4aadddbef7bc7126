"""fastpath.nic.wire: the queue between two threads against its twin, and between two threads."""

from __future__ import annotations

import errno
import os
import select
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastpath._ref import wire as ref
from fastpath.base.batch import FrameBatch
from fastpath.nic import wire
from fastpath.nic.datapath import BusPump, DataPath
from fastpath.nic.wire import FrameQueue, HandoverQueue
from tests.support import examples


@given(
    st.lists(
        st.tuples(st.integers(1, 5000), st.sampled_from([0, 1, 32, 64]), st.integers(0, 2**32 - 1)),
        max_size=8,
    ),
    st.integers(0, 9),
)
def test_wire_count_equals_reference(items: list[tuple[int, int, int]], start: int) -> None:
    batch = FrameBatch()
    for i, (size, flags, mark) in enumerate(items):
        batch.append(bytes(size), flags)
        batch.set_mark(i, mark)
    assert wire.wire_count(batch, start) == ref.wire_count(batch, start)


Frame = tuple[bytes, int, int, int]


def batch_of(frames: list[Frame]) -> FrameBatch:
    batch = FrameBatch()
    for i, (data, flags, mark, when) in enumerate(frames):
        batch.append(data, flags)
        batch.set_mark(i, mark)
        batch.set_tstamp_ns(i, when)
    return batch


def frames_of(batch: FrameBatch) -> list[Frame]:
    return [
        (data, batch.flags(i), batch.mark(i), batch.tstamp_ns(i)) for i, data in enumerate(batch)
    ]


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


FRAMES = st.lists(
    st.tuples(
        st.binary(min_size=1, max_size=200),
        st.integers(0, 127),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**63),
    ),
    max_size=12,
)


class Handover(RuleBasedStateMachine):
    """Both sides in any order; the twin is two lists."""

    @initialize(room=st.integers(1, 8))
    def start(self, room: int) -> None:
        self.queue, self.twin = HandoverQueue(room), ref.HandoverQueue(room)
        self.read_frames = self.written = 0

    @rule(frames=FRAMES, start=st.integers(0, 3))
    def give(self, frames: list[Frame], start: int) -> None:
        start = min(start, len(frames))
        end = self.queue.give(batch_of(frames), start)
        assert end - start == self.twin.give(frames[start:])

    @rule(most=st.integers(0, 9))
    def take(self, most: int) -> None:
        assert frames_of(self.queue.take(FrameBatch(), most)) == self.twin.take(most)

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        self.twin.clear()

    @rule(most=st.integers(1, 9), before=st.integers(0, 2))
    def read(self, most: int, before: int) -> None:
        first: list[Frame] = [(b"first", 0, 0, 0)] * before
        batch = batch_of(first)
        frames, error = self.queue.read(batch, most)
        wanted, wanted_error = self.twin.read(most)
        assert frames_of(batch) == first + wanted
        assert (frames, error) == (len(wanted), wanted_error)
        self.read_frames += frames

    @rule(frames=FRAMES, start=st.integers(0, 3))
    def write(self, frames: list[Frame], start: int) -> None:
        start = min(start, len(frames))
        end, dropped, error = self.queue.write(batch_of(frames), start)
        fits, wanted = self.twin.write(frames[start:])
        assert (end - start, dropped, error) == (fits, 0, wanted)
        self.written += fits

    @invariant()
    def same(self) -> None:
        assert self.queue.waiting == self.twin.waiting
        assert self.queue.room == self.twin.room
        assert readable(self.queue.fd) == self.twin.readable
        assert readable(self.queue.ready_fd) == self.twin.ready
        assert self.queue.rx_frames >= self.read_frames
        assert self.queue.tx_frames >= self.written

    def teardown(self) -> None:
        if "queue" in self.__dict__:
            self.queue.close()


Handover.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)
TestHandover = Handover.TestCase


def test_two_threads_lose_nothing_and_keep_the_order() -> None:
    """What one side writes the other gives back: each waits on its descriptor only."""
    queue = HandoverQueue(16)
    total = 20_000
    stop, said = os.eventfd(0, os.EFD_CLOEXEC), []

    def far() -> None:
        back = FrameBatch()
        while True:
            ready, _, _ = select.select([queue.ready_fd, stop], [], [], 30)
            if stop in ready or not ready:
                said.append("stopped" if ready else "nothing to do for 30 s")
                return
            queue.clear()
            while True:
                if len(back):
                    back.drop(queue.give(back))
                    if len(back):
                        break  # there will be room
                if not queue.waiting:
                    break
                back = queue.take(FrameBatch(), 7)

    thread = threading.Thread(target=far)
    thread.start()
    sent, got = 0, []
    batch = FrameBatch()
    try:
        while len(got) < total:
            if not len(batch) and sent < total:
                for _ in range(min(sent % 29 + 1, total - sent)):
                    batch.append(sent.to_bytes(4, "big") * (1 + sent % 5))
                    sent += 1
            batch.drop(queue.write(batch)[0])
            into = FrameBatch()
            if not queue.read(into, 13)[0] and (len(batch) or sent == total):
                assert select.select([queue.fd], [], [], 30)[0]
            got += list(into)
    finally:
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)
        queue.close()
    assert said == ["stopped"]
    assert got == [i.to_bytes(4, "big") * (1 + i % 5) for i in range(total)]


def test_who_was_refused_is_told_of_room_whatever_fits_meanwhile() -> None:
    queue = HandoverQueue(4)
    assert queue.give(FrameBatch([b"x"] * 5)) == 4
    queue.read(FrameBatch(), 1)
    assert queue.give(FrameBatch([b"y"])) == 1
    assert (queue.room, readable(queue.ready_fd)) == (False, False)
    queue.read(FrameBatch(), 2)
    assert (queue.room, readable(queue.ready_fd)) == (True, True)


def test_a_batch_that_is_no_empty_spare_and_bad_indices_are_refused() -> None:
    queue = HandoverQueue()
    full: Any = FrameBatch([b"x"])
    with pytest.raises(ValueError, match="take: the spare batch holds 1 frames"):
        queue.take(full, 1)
    for start in (-1, 2):
        with pytest.raises(IndexError, match=f"give: frame {start} of a batch of 1"):
            queue.give(full, start)
        with pytest.raises(IndexError, match=f"HandoverQueue.write: frame {start} of a batch of 1"):
            queue.write(full, start)
    with pytest.raises(ValueError, match="max_frames 0 is below 1"):
        HandoverQueue(0)
    queue.close()
    queue.close()
    assert (queue.fd, queue.ready_fd) == (-1, -1)


@pytest.mark.parametrize(
    ("kind", "given"), [(HandoverQueue, "many"), (DataPath, None), (BusPump, None)]
)
def test_one_whose_arguments_were_refused_closes_no_descriptor(kind: Any, given: Any) -> None:
    """Its own are 0 then, which is the process's standard input."""
    kept = os.dup(0)
    try:
        with pytest.raises(TypeError):
            kind(given)
        os.fstat(0)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_a_queue_of_nothing_has_nothing() -> None:
    queue = FrameQueue()
    assert queue.read(FrameBatch(), 5) == (0, errno.EAGAIN)
    assert queue.write(FrameBatch([b"x"])) == (0, 0, errno.EAGAIN)


def test_threads_may_write_beside_each_other() -> None:
    """Frames that are not of the ring come from another thread than the data path's."""
    queue, each = HandoverQueue(4096), 500

    def write(first: int) -> None:
        for i in range(each):
            batch = FrameBatch()
            batch.append(bytes([first]) * (60 + i))
            assert queue.write(batch) == (1, 0, 0)

    threads = [threading.Thread(target=write, args=(n,)) for n in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    frames = list(queue.take(FrameBatch(), 4096))
    for n in (1, 2):
        assert [len(f) - 60 for f in frames if f[0] == n] == list(range(each))
    assert queue.tx_frames == 2 * each
    queue.close()
