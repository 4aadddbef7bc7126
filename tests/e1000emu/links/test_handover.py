"""Handover: frames to and from a link that another thread's data path works through a queue."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest

from e1000emu.clock import RealClock
from e1000emu.links.base import BaseLink
from e1000emu.links.caps import LinkCaps
from e1000emu.links.handover import Handover, guard_port
from fastpath.base.batch import FB_BAD_CRC, FrameBatch
from tests.e1000emu.links.ports import RecordingPort, frame


class Wire(BaseLink):
    """A link with room for `room` frames that keeps what is sent."""

    def __init__(self, clock: RealClock) -> None:
        super().__init__(clock)
        self.room = 100
        self.sent: list[bytes] = []
        self.ready = 0
        self.inside = False
        self.eager = True  # to say that there is room while it sends

    @property
    def caps(self) -> LinkCaps:
        return replace(super().caps, gso_max_bytes=4711)

    def tx_room(self) -> int:
        return self.room

    def transmit(self, batch: FrameBatch) -> None:
        assert not self.inside, "a batch while one is being sent"
        assert len(batch) <= self.room
        self.inside = True
        self.sent += batch
        self.room -= len(batch)
        if self.port is not None and self.room and self.eager:
            self.port.tx_ready()
        self.inside = False

    def rx_ready(self) -> None:
        self.ready += 1


def turn(clock: RealClock) -> None:
    with clock.lock:
        clock.run(timeout_ns=2_000_000)


def made(clock: RealClock) -> tuple[Wire, Handover, RecordingPort]:
    wire = Wire(clock)
    link = Handover(wire)
    return wire, link, RecordingPort(link)


def test_nobody_borrows_and_everything_passes(clock: RealClock) -> None:
    wire, link, port = made(clock)
    assert link.caps.gso_max_bytes == 4711
    assert link.stats is wire.stats
    port.send(frame(1))
    assert wire.sent == [frame(1)]
    assert link.tx_room() == 99
    assert link.receive(FrameBatch([frame(2), frame(3)]), 1, True) == 2
    assert port.frames == [frame(3)]
    link.tx_ready()
    assert port.ready == 2
    port.give_room(None)
    assert wire.ready == 1
    wire._set_carrier(True)
    assert port.changes == [True]


def test_what_the_borrower_writes_goes_out_as_the_link_has_room(clock: RealClock) -> None:
    wire, link, port = made(clock)
    queue = link.lend()
    wire.room = 2
    queue.write(FrameBatch([frame(n) for n in range(5)]))
    turn(clock)
    assert wire.sent == [frame(0), frame(1)]
    wire.room = 1
    link.tx_ready()
    wire.room = 100
    link.tx_ready()
    assert wire.sent == [frame(n) for n in range(5)]
    assert port.ready == 0  # the port sends nothing itself
    queue.write(FrameBatch([frame(5)]))
    link.settle()
    assert wire.sent[5:] == [frame(5)]


def test_frames_of_the_link_wait_for_the_borrower(clock: RealClock) -> None:
    wire, link, port = made(clock)
    queue = link.lend()
    many = FrameBatch([frame(n) for n in range(queue.max_frames + 3)])
    many.set_flags(0, FB_BAD_CRC)
    many.set_tstamp_ns(0, 77)
    assert link.receive(many, 0, True) == queue.max_frames
    assert link.receive(FrameBatch([frame(0)]), 0, False) == 1
    assert link.stats.drops == {"no room": 1}
    port.give_room(None)
    turn(clock)
    assert wire.ready == 0
    got = FrameBatch()
    queue.read(got, queue.max_frames // 2)
    turn(clock)
    assert wire.ready == 1
    assert link.receive(many, queue.max_frames, True) == len(many)
    queue.read(got, 10_000)
    assert list(got) == list(many)
    assert (got.flags(0), got.tstamp_ns(0)) == (FB_BAD_CRC, 77)
    assert port.frames == []


def test_reclaimed_it_gives_what_was_left_and_sends_what_was_written_first(
    clock: RealClock,
) -> None:
    wire, link, port = made(clock)
    wire.eager = False
    queue = link.lend()
    wire.room = 0
    queue.write(FrameBatch([frame(1)]))
    link.receive(FrameBatch([frame(13), frame(14)]), 0, True)
    link.reclaim((FrameBatch([frame(10), frame(11), frame(12)]), 1))
    assert link.tx_room() == 0
    assert link.receive(FrameBatch([frame(15)]), 0, True) == 1  # not before those that were left
    assert port.frames == [frame(n) for n in (11, 12, 13, 14, 15)]
    wire.room = 5
    turn(clock)
    assert wire.sent == [frame(1)]
    assert port.ready == 1  # it was told that there is no room
    assert link.tx_room() == 4
    port.send(frame(2))
    assert wire.sent == [frame(1), frame(2)]


@pytest.mark.parametrize("lent", [False, True])
def test_a_link_held_back_goes_on_after_it_is_reclaimed(clock: RealClock, lent: bool) -> None:
    wire, link, port = made(clock)
    queue = link.lend()
    many = FrameBatch([frame(n) for n in range(queue.max_frames + 1)])
    end = link.receive(many, 0, True)
    link.reclaim()
    if lent:  # before the clock had its turn
        assert link.lend() is queue
        queue.read(FrameBatch(), 10_000)
    turn(clock)
    assert wire.ready == 1
    assert len(port.frames) == (0 if lent else end)


class Guard(contextlib.AbstractContextManager[None]):
    """Notes what `port` has had whenever it is taken or left."""

    def __init__(self, port: RecordingPort) -> None:
        self.port = port
        self.seen: list[tuple[int, int, int]] = []

    def __enter__(self) -> None:
        self.seen.append((len(self.port.frames), len(self.port.changes), self.port.ready))

    def __exit__(self, *error: object) -> None:
        self.__enter__()


@pytest.mark.parametrize("handover", [True, False])
def test_the_guard_is_held_whatever_the_port_hears(clock: RealClock, handover: bool) -> None:
    wire = Wire(clock)
    link = Handover(wire) if handover else wire
    guard = Guard(RecordingPort(link))
    guard_port(link, guard)
    assert wire.port is not None
    assert wire.port.receive(FrameBatch([frame(1)]), 0, True) == 1
    wire._set_carrier(True)
    wire.port.tx_ready()
    assert guard.seen == [(0, 0, 0), (1, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 0), (1, 1, 1)]


def test_unplugged_it_counts_what_is_lost_and_lets_go(clock: RealClock) -> None:
    wire, link, port = made(clock)
    queue = link.lend()
    wire.room = 0
    queue.write(FrameBatch([frame(1), frame(2)]))
    link.reclaim((FrameBatch([frame(3)]), 0))
    link.detach()
    link.detach()
    turn(clock)
    assert link.stats.drops == {"unplugged": 2}
    assert (queue.fd, queue.ready_fd, wire.port, port.frames) == (-1, -1, None, [])
    link.close()
