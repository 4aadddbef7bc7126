"""The recorders, and the fixtures as a user's conftest would take them."""

from __future__ import annotations

from e1000emu.clock import VirtualClock
from e1000emu.testing import RecordingLine, RecordingLink
from fastpath.base.batch import FrameBatch

pytest_plugins = ["pytester"]


class FakePort:
    """A port that takes at most `room` frames."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.got: list[tuple[bytes, int]] = []
        self.ready = 0
        self.changes: list[tuple[bool, int, bool]] = []

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        end = min(len(batch), start + self.room)
        self.got += [(bytes(batch[i]), batch.flags(i)) for i in range(start, end)]
        return end

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        self.changes.append((up, speed_mbps, full_duplex))

    def tx_ready(self) -> None:
        self.ready += 1


def test_line_records_edges_with_their_times() -> None:
    clock = VirtualClock()
    line = RecordingLine(clock)
    line.set_level(False)
    line.set_level(True)
    line.set_level(True)
    clock.run_for(500)
    line.set_level(False)
    assert line.edges == [(0, True), (500, False)]
    assert line.rises == 1
    line.clear()
    assert line.edges == []


def test_line_calls_its_handler_at_rising_edges_only() -> None:
    calls: list[int] = []
    line = RecordingLine(on_rise=lambda: calls.append(1))
    for level in (True, False, True):
        line.set_level(level)
    assert len(calls) == 2


def test_link_keeps_frames_and_flags_and_returns_the_batch_empty() -> None:
    link = RecordingLink()
    batch = FrameBatch([b"a" * 60, b"b" * 60])
    batch.append(b"c" * 64, 1)
    link.transmit(batch)
    assert link.frames == [b"a" * 60, b"b" * 60, b"c" * 64]
    assert link.flags == [0, 0, 1]
    assert len(batch) == 0
    assert len(link.take()) == 3
    assert link.frames == []


def test_link_with_limited_room() -> None:
    link = RecordingLink(room=2)
    port = FakePort()
    link.attach(port)
    assert link.tx_room() == 2
    link.transmit(FrameBatch([b"x" * 60]))
    assert link.tx_room() == 1
    link.open_room(None)
    assert port.ready == 1
    assert link.tx_room() > 1000


def test_injected_frames_reach_the_port_with_their_flags() -> None:
    link = RecordingLink()
    port = FakePort(room=2)
    link.attach(port)
    assert link.inject(b"1" * 60, b"2" * 60, b"3" * 60, flags=[0, 2, 4]) == 2
    assert port.got == [(b"1" * 60, 0), (b"2" * 60, 2)]


def test_carrier_changes_reach_the_port() -> None:
    link = RecordingLink()
    link.set_carrier(False)
    port = FakePort()
    link.attach(port)
    link.set_carrier(True, speed_mbps=100, full_duplex=False)
    assert port.changes == [(True, 100, False)]
    link.detach()
    assert link.port is None


def test_fixtures_work_from_another_conftest(pytester) -> None:  # type: ignore[no-untyped-def]
    pytester.makeconftest('pytest_plugins = ["e1000emu.testing.fixtures"]')
    pytester.makepyfile(
        """
        def test_bench(running_bench, bench_factory, guest_memory, recording_line, recording_link):
            running_bench.guest.send(b"\\xff" * 60)
            assert running_bench.link.take() == [b"\\xff" * 60]
            assert bench_factory(tx_count=8).guest.tx.count == 8
            assert guest_memory.read(guest_memory.base, 4) is not None
            assert recording_line.rises == 0
            assert recording_link.carrier
        """
    )
    pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider").assert_outcomes(passed=1)
