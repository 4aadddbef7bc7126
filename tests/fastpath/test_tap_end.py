"""fastpath.nic.tap_end against its twin: the same reads, writes, counters and slow calls."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import tap_end as ref
from fastpath.base.batch import FrameBatch
from fastpath.nic import tap_end
from fastpath.nic.cable import LinkStats
from fastpath.nic.tap_gso import TapQueue
from tests.support import examples


def link(base: type[Any]) -> type[Any]:
    """A link on `base` that notes what it is asked to do seldom."""

    class Link(base):
        def __init__(self, fd: int) -> None:
            self.stats = LinkStats()
            self.queue = TapQueue(fd, 10, 0)
            self._batch_frames, self._queue_frames = 3, 8
            self._held, self._reading, self._at = False, True, 0
            self.port: Any = self
            self.log: list[Any] = []
            self.take = 10
            self.kept: list[Any] = []

        def receive(self, batch: Any, start: int, hold: bool) -> int:
            end = min(len(batch), start + self.take)
            self.log.append(("receive", [bytes(batch[i]) for i in range(start, end)], hold))
            return end

        def failed(self, error: int) -> bool:
            self.log.append(("failed", error))
            self.port = None
            return False

        def _count_drops(self) -> None:
            self.log.append(("drops", self.queue.take_drops()))

        def _given(self, end: int) -> None:
            batch = self._batch
            self.log.append(("given", end, None if batch is None else len(batch), self._held))
            self._batch = None

        def _left(self, batch: Any, end: int, dropped: int, error: int) -> None:
            self.log.append(("left", list(batch), end, dropped, error))
            self._unsent.append([batch, end])
            self._unsent_frames += len(batch) - end

    return Link


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


def run(base: type[Any], steps: list[Any]) -> Any:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, near:
        far.setblocking(False)
        near.setblocking(False)
        end = link(base)(near.fileno())
        log = end.log
        for step, value in steps:
            if step == "far":
                far.send(bytes(10) + b"r" * value)
            elif step == "read":
                end.take = value
                end._readable()
            elif step == "pause":
                end._reading = value
            elif step == "write":
                end.transmit(FrameBatch([b"w" * n for n in value]))
            elif step == "spoil":
                batch = FrameBatch([b"a"])
                batch.append(b"s" * value, 2)
                end.transmit(batch)
            else:
                end.queue.fd = -1
            log.append((end.tx_room(), end._held, end._batch is None, repr(end.stats)))
        got = []
        while True:
            try:
                got.append(far.recv(100))
            except BlockingIOError:
                return log, got


@settings(max_examples=examples(150))
@given(steps=STEPS)
def test_the_compiled_end_does_what_its_twin_does(steps: list[Any]) -> None:
    assert run(tap_end.TapEnd, steps) == run(ref.TapEnd, steps)


bases = pytest.mark.parametrize("base", [tap_end.TapEnd, ref.TapEnd], ids=["compiled", "twin"])


@bases
def test_a_read_error_is_told_before_what_was_read_is_given_up(base: type[Any]) -> None:
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    end = link(base)(r)
    end._readable()
    assert end.log == [("failed", errno.EBADF)]
    end._readable()  # nothing: its port is gone
    assert end.log == [("failed", errno.EBADF)]


@bases
def test_a_port_that_unplugs_itself_keeps_the_link_from_the_batch(base: type[Any]) -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with far, near:
        near.setblocking(False)
        end = link(base)(near.fileno())

        def unplug(take: Callable[..., int]) -> Callable[..., int]:
            def receive(*args: Any) -> int:
                end._batch = None
                return take(*args)

            return receive

        end.receive = unplug(end.receive)
        far.send(bytes(10) + b"x")
        end._readable()
        assert end.log == [("receive", [b"x"], True)]
        assert end._held
