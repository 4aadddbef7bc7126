"""Pace: a wire that is as fast as the NIC has negotiated, and lossless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.links.base import BaseLink
from e1000emu.links.pace import BACKLOG_NS, GRAIN_NS, Pace
from fastpath.base.batch import FrameBatch
from tests.e1000emu.links.ports import RecordingPort, frame

WIRE_BYTES = 24  # preamble, FCS and the gap of each frame
FULL = 1514


class Wire(BaseLink):
    """Notes when frames come out; has `room` for so many, if that is a number."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.sent: list[tuple[int, bytes]] = []
        self.room: int | None = None
        self.waiting: list[bytes] = []

    def tx_room(self) -> int:
        return 1000 if self.room is None else self.room

    def transmit(self, batch: FrameBatch) -> None:
        if self.room is not None:
            assert len(batch) <= self.room
            self.room -= len(batch)
        self.sent += [(self.clock.now_ns(), data) for data in batch]

    def flood(self, frames: list[bytes]) -> None:
        """Give the port frames whenever it takes some."""
        self.waiting += frames
        self.rx_ready()

    def rx_ready(self) -> None:
        while self.waiting and self.port is not None:
            taken = self.port.receive(FrameBatch(self.waiting), 0, True)
            del self.waiting[:taken]
            if not taken:
                return


class Sender(RecordingPort):
    """Sends as long as there is room."""

    def __init__(self, link: Pace) -> None:
        super().__init__(link)
        self.left: list[bytes] = []

    def flood(self, frames: list[bytes]) -> None:
        self.left += frames
        self.tx_ready()

    def tx_ready(self) -> None:
        while self.left and (room := self.link.tx_room()) > 0:
            self.link.transmit(FrameBatch(self.left[:room]))
            del self.left[:room]


def made(speed_mbps: int = 1000, full: bool = True) -> tuple[VirtualClock, Wire, Pace, Sender]:
    clock = VirtualClock()
    wire = Wire(clock)
    pace = Pace(wire, clock=clock)
    port = Sender(pace)
    pace.speed = lambda: (speed_mbps, full)
    return clock, wire, pace, port


def wire_ns(frames: list[bytes], speed_mbps: int) -> int:
    return sum(8 * (max(60, len(data)) + WIRE_BYTES) for data in frames) * 1000 // speed_mbps


def many(count: int, size: int = FULL) -> list[bytes]:
    return [frame(n).ljust(size, b"\0") for n in range(count)]


@pytest.mark.parametrize("speed_mbps", [10, 100, 1000])
@pytest.mark.parametrize("size", [60, FULL])
def test_each_direction_takes_the_time_of_its_bits(speed_mbps: int, size: int) -> None:
    clock, wire, _, port = made(speed_mbps)
    frames = many(500, size)
    port.flood(frames)
    wire.flood(frames)
    clock.run_until_idle()
    want = wire_ns(frames, speed_mbps)
    for times in ([when for when, _ in wire.sent], port.times):
        assert want - GRAIN_NS <= times[-1] <= want + GRAIN_NS
        assert len(times) == 500
    assert [data for _, data in wire.sent] == port.frames == frames


def test_half_duplex_shares_the_wire() -> None:
    clock, wire, _, port = made(10, full=False)
    frames = many(50)
    port.flood(frames)
    wire.flood(frames)
    clock.run_until_idle()
    want = 2 * wire_ns(frames, 10)
    last = max(wire.sent[-1][0], port.times[-1])
    assert want - GRAIN_NS <= last <= want + GRAIN_NS
    assert [data for _, data in wire.sent] == port.frames == frames


def test_one_frame_on_an_idle_wire_comes_when_its_last_bit_does() -> None:
    clock, wire, _, port = made(10)
    clock.run_for(5_000_000)
    port.flood(many(1))
    assert wire.sent == []
    clock.run_until_idle()
    assert wire.sent[0][0] == 5_000_000 + wire_ns(many(1), 10)


def test_a_sender_is_pushed_back_before_much_waits() -> None:
    clock, wire, pace, port = made(10)
    port.flood(many(100))
    assert pace.tx_room() == 0
    assert pace.caps.timed.busy_ns - clock.now_ns() < BACKLOG_NS + 2 * wire_ns(many(1), 10)
    wire.flood(many(100))
    assert len(wire.waiting) > 90


def test_a_wire_without_room_loses_nothing() -> None:
    clock, wire, pace, port = made(100)
    wire.room = 3
    frames = many(10)
    port.flood(frames)
    clock.run_for(50_000_000)
    assert len(wire.sent) == 3
    for _ in range(10):
        wire.room = 1
        pace.tx_ready()
        clock.run_for(10_000_000)
    assert [data for _, data in wire.sent] == frames


def test_a_port_without_room_loses_nothing() -> None:
    clock, wire, _, port = made(100)
    port.give_room(2)
    frames = many(10)
    wire.flood(frames)
    clock.run_for(50_000_000)
    assert port.frames == frames[:2]
    port.give_room(None)
    clock.run_until_idle()
    assert port.frames == frames


def test_another_speed_counts_for_what_comes_then() -> None:
    clock, wire, pace, port = made(1000)
    port.flood(many(1))
    clock.run_for(1_000_000)
    pace.speed = lambda: (10, True)
    start = clock.now_ns()
    port.flood(many(1))
    clock.run_until_idle()
    assert wire.sent[1][0] - start == wire_ns(many(1), 10)


def test_unplugging_counts_what_was_on_the_way() -> None:
    clock, wire, pace, port = made(10)
    port.flood(many(3))
    sent = 3 - len(port.left)
    pace.detach()
    clock.run_until_idle()
    assert wire.sent == []
    assert wire.stats.drops["unplugged"] == sent > 0


@given(
    st.sampled_from([10, 100, 1000]),
    st.booleans(),
    st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(14, FULL)), max_size=12),
)
def test_nothing_is_lost_or_overtaken_or_too_fast(
    speed_mbps: int, full: bool, bursts: list[tuple[bool, int, int]]
) -> None:
    clock, wire, _, port = made(speed_mbps, full)
    out: list[bytes] = []
    into: list[bytes] = []
    for number, (outward, count, size) in enumerate(bursts):
        frames = [bytes([number + 1]) * size] * count
        (out if outward else into).extend(frames)
        (port.flood if outward else wire.flood)(frames)
        clock.run_for(300_000)
    clock.run_until_idle()
    assert [data for _, data in wire.sent] == out
    assert port.frames == into
    least = wire_ns(out, speed_mbps), wire_ns(into, speed_mbps)
    ended = [wire.sent[-1][0]] if out else [], port.times[-1:]
    for times, want in zip(ended, least, strict=True):
        assert not times or times[0] >= want - GRAIN_NS
    if not full and out and into:
        assert max(ended[0][0], ended[1][0]) >= sum(least) - GRAIN_NS
