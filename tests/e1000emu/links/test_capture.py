"""The capture middleware and the replay of what it wrote."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, PcapngWriter, read_capture
from e1000emu.clock import RealClock, VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import Capture, Impair, NullLink, PcapReplay, pair
from fastpath.base.batch import FrameBatch
from tests.e1000emu.links.ports import RecordingPort, frame, number


def test_both_directions_are_written_with_time_and_order(tmp_path: Path) -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock, latency_ns=1000)
    capture = Capture(end_a, tmp_path / "a.pcapng")
    a, b = RecordingPort(capture), RecordingPort(end_b)
    a.send(frame(1), frame(2))
    clock.run_until_idle()
    b.send(frame(3))
    clock.run_until_idle()
    capture.close()
    assert b.frames == [frame(1), frame(2)]
    assert a.frames == [frame(3)]
    got = [
        (r.when_ns - clock.epoch_ns, number(r.data), r.direction)
        for r in read_capture(tmp_path / "a.pcapng")
    ]
    assert got == [
        (0, 1, DIRECTION_OUT),
        (0, 2, DIRECTION_OUT),
        (2000, 3, DIRECTION_IN),
    ]


def test_reply_sent_inside_receive_comes_after_what_caused_it(tmp_path: Path) -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    capture = Capture(end_a, tmp_path / "a.pcapng")
    a, b = RecordingPort(capture), RecordingPort(end_b)
    plain = a.receive

    def receive(batch: FrameBatch, start: int, hold: bool) -> int:
        a.send(frame(100 + number(batch[start])))
        return plain(batch, start, hold)

    a.receive = receive  # type: ignore[method-assign]
    b.send(frame(1))
    clock.run_until_idle()
    capture.close()
    assert [number(r.data) for r in read_capture(tmp_path / "a.pcapng")] == [1, 101]


def test_held_frames_are_written_once(tmp_path: Path) -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    capture = Capture(end_a, tmp_path / "a.pcapng")
    a, b = RecordingPort(capture, room=2), RecordingPort(end_b)
    b.send(*(frame(i) for i in range(5)))
    b.send(*(frame(i) for i in range(5, 8)))
    for _ in range(6):
        clock.run_until_idle()
        a.give_room(1)
    a.give_room(None)
    clock.run_until_idle()
    capture.close()
    assert [number(r.data) for r in read_capture(tmp_path / "a.pcapng")] == list(range(8))
    assert [number(f) for f in a.frames] == list(range(8))


def test_captures_of_two_links_share_one_file(tmp_path: Path) -> None:
    clock = VirtualClock()
    end_a, end_b = pair(clock)
    with PcapngWriter(tmp_path / "both.pcapng") as writer:
        a = RecordingPort(Capture(end_a, writer, name="a"))
        RecordingPort(Capture(Impair(end_b, loss=0.0, seed=7), writer, name="b"))
        a.send(frame(1))
        clock.run_until_idle()
    got = [(r.interface, r.direction) for r in read_capture(tmp_path / "both.pcapng")]
    assert got == [(0, DIRECTION_OUT), (1, DIRECTION_IN)]


def test_real_clock_shows_the_time_of_day_and_flushes_by_itself(
    tmp_path: Path, clock: RealClock
) -> None:
    path = tmp_path / "a.pcapng"
    capture = Capture(NullLink(clock), path)
    port = RecordingPort(capture)
    before = time.time_ns()
    port.send(frame(1))
    clock.run(until=lambda: path.stat().st_size > 0, timeout_ns=20_000_000_000)
    (record,) = read_capture(path)
    assert abs(record.when_ns - before) < 60_000_000_000
    capture.close()


def test_replay_keeps_the_distances(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as out:
        interface = out.add_interface("x")
        for i, when in enumerate((5000, 5000, 7000, 90_000)):
            out.write(FrameBatch([frame(i)]), 0, 1, interface=interface, now_ns=when)
    for speed, want in ((1.0, [0, 0, 2000, 85_000]), (2.0, [0, 0, 1000, 42_500]), (None, [0] * 4)):
        clock = VirtualClock()
        link = PcapReplay(path, clock, speed=speed)
        port = RecordingPort(link)
        clock.run_until_idle()
        assert port.times == want
        assert [number(f) for f in port.frames] == [0, 1, 2, 3]
        assert link.done
        assert link.carrier


def test_replay_waits_for_room(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as out:
        interface = out.add_interface("x")
        batch = FrameBatch([frame(i) for i in range(600)])
        out.write(batch, 0, 600, interface=interface, now_ns=0)
    clock = VirtualClock()
    port = RecordingPort(PcapReplay(path, clock), room=100)
    for _ in range(8):
        clock.run_until_idle()
        port.give_room(100)
    clock.run_until_idle()
    assert [number(f) for f in port.frames] == list(range(600))


def test_replay_of_a_damaged_file_plays_what_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as out:
        interface = out.add_interface("x")
        out.write(FrameBatch([frame(1), frame(2)]), 0, 2, interface=interface, now_ns=0)
    path.write_bytes(path.read_bytes()[:-10])
    clock = VirtualClock()
    link = PcapReplay(path, clock)
    port = RecordingPort(link)
    clock.run_until_idle()
    assert [number(f) for f in port.frames] == [1]
    assert "file ends" in str(link.error)
    link.close()


def test_replay_refuses_other_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"not a capture")
    with pytest.raises(LinkError, match="neither pcapng nor pcap"):
        PcapReplay(path, VirtualClock())
    with pytest.raises(LinkError, match="speed=0"):
        PcapReplay(path, VirtualClock(), speed=0)


def test_another_port_goes_on_with_the_replay_where_the_first_stopped(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as out:
        interface = out.add_interface("x")
        for i in range(3):
            out.write(FrameBatch([frame(i)]), 0, 1, interface=interface, now_ns=i * 1_000_000)
    clock = VirtualClock()
    link = PcapReplay(path, clock)
    first = RecordingPort(link, room=1)
    clock.run_for(1_500_000)
    link.detach()
    clock.run_for(10_000_000)
    port = RecordingPort(link)
    clock.run_until_idle()
    assert [number(f) for f in (*first.frames, *port.frames)] == [0, 1, 2]
    assert port.times == [11_500_000, 12_000_000]
    assert (link.stats.rx_frames, link.stats.rx_bytes) == (3, 180)
