"""fastpath.nic.tap_end: frames pass in order, and what happens seldom is left to its heir.

The kernel judges it in tests/e1000emu/links/test_tap.py.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath.base.batch import FB_BAD_CRC, FrameBatch
from fastpath.nic.cable import LinkStats
from fastpath.nic.tap_end import TapEnd
from fastpath.nic.tap_gso import TapQueue
from tests.support import examples


class Link(TapEnd):
    """A link that notes what it is asked to do seldom."""

    def __init__(self, fd: int) -> None:
        self.stats = LinkStats()
        self.queue = TapQueue(fd, 10, 0)
        self._batch_frames, self._queue_frames = 3, 8
        self._held, self._reading, self._at = False, True, 0
        self.port: Any = self
        self.log: list[Any] = []
        self.take = 10
        self.offered: list[bytes] = []
        self.dropped = 0

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        assert hold
        self.offered += list(batch)
        return min(len(batch), start + self.take)

    def failed(self, error: int) -> bool:
        self.log.append(("failed", error))
        self.port = None
        return False

    def _count_drops(self) -> None:
        self.dropped += sum(self.queue.take_drops().values())

    def _given(self, end: int) -> None:
        assert self._batch is not None
        assert end < len(self._batch) or not self._reading
        assert self._held
        self._batch = None

    def _left(self, batch: Any, end: int, dropped: int, error: int) -> None:
        self.log.append(("left", list(batch), end, dropped, error))
        self._unsent.append([batch, end])
        self._unsent_frames += len(batch) - end


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("far"), st.integers(0, 40)),
        st.tuples(st.just("read"), st.integers(0, 4)),
        st.tuples(st.just("pause"), st.booleans()),
        st.tuples(st.just("write"), st.lists(st.integers(1, 30), max_size=4)),
        st.tuples(st.just("spoil"), st.integers(1, 30)),
        st.tuples(st.just("end"), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=examples(150))
@given(steps=STEPS)
def test_frames_pass_in_order_and_each_is_counted(steps: list[Any]) -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, near:
        far.setblocking(False)
        near.setblocking(False)
        end = Link(near.fileno())
        came: list[bytes] = []
        written: list[bytes] = []
        for step, value in steps:
            writes = not end._unsent and end.queue.fd >= 0
            if step == "far":
                far.send(bytes(10) + b"r" * value)
                came.append(b"r" * value)
            elif step == "read":
                end.take = value
                end._readable()
            elif step == "pause":
                end._reading = value
            elif step == "write":
                frames = [b"w" * n for n in value]
                end.transmit(FrameBatch(frames))
                written += frames * writes
            elif step == "spoil":
                batch = FrameBatch([b"a"])
                batch.append(b"s" * value, FB_BAD_CRC)
                end.transmit(batch)
                written += [b"a"] * writes
                assert end.log[-1][2:] == ((2, 1, 0) if writes else (0, 0, 0))
            else:
                end.queue.fd = -1
            assert end.offered == [frame for frame in came if frame][: len(end.offered)]
            assert end.dropped <= came.count(b"")
            assert end.stats.rx_frames == len(end.offered)
            assert end._batch is None
            assert end.tx_room() == max(0, 8 - sum(len(b) - at for b, at in end._unsent))
        for frame in written:
            assert far.recv(100) == bytes(10) + frame
        with pytest.raises(BlockingIOError):
            far.recv(100)


def test_a_read_error_is_told_before_what_was_read_is_given_up() -> None:
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    end = Link(r)
    end._readable()
    assert end.log == [("failed", errno.EBADF)]
    end._readable()  # nothing: its port is gone
    assert end.log == [("failed", errno.EBADF)]


def test_a_port_that_unplugs_itself_keeps_the_link_from_the_batch() -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, near:
        near.setblocking(False)
        end = Link(near.fileno())

        def unplug(take: Callable[..., int]) -> Callable[..., int]:
            def receive(*args: Any) -> int:
                end._batch = None
                return take(*args)

            return receive

        end.receive = unplug(end.receive)
        far.send(bytes(10) + b"x")
        end._readable()
        assert end.offered == [b"x"]
        assert end._held
