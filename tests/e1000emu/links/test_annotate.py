"""Packet comments of a capture: who dropped a frame, and why."""

from __future__ import annotations

from itertools import pairwise

import pytest

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, read_capture
from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from e1000emu.links import AnnotatedCapture, Impair, pair
from e1000emu.links.annotate import DEVICE_DROPS
from fastpath.base.batch import FB_BAD_CRC, FrameBatch
from stack.socket import AF_INET, SOCK_DGRAM, Socket
from tests.e1000emu.links.ports import RecordingPort
from tests.support import require, run_to_end

FRAME = bytes(range(12)) + b"\x88\xb5" + bytes(range(46))
EPOCH = 1_800_000_000 * 10**9


def wired(tmp_path, **impair):
    clock = VirtualClock(epoch_ns=EPOCH)
    near, far = pair(clock)
    capture = AnnotatedCapture(Impair(near, **impair), tmp_path / "a.pcapng")
    RecordingPort(far)
    return clock, capture, far


def test_loss_on_the_way_out_is_the_frames_comment(tmp_path):
    clock, capture, far = wired(tmp_path, loss=0.3, seed=1)
    RecordingPort(capture)
    for n in range(5):
        capture.transmit(FrameBatch([FRAME + bytes([n, k]) for k in range(8)]))
    clock.run_for(1_000_000)
    capture.close()
    records = list(read_capture(tmp_path / "a.pcapng"))
    arrived = {bytes(frame) for frame in far.port.frames}
    assert len(records) == 40
    assert 0 < len(arrived) < 40
    for record in records:
        lost = record.data not in arrived
        assert record.comments == (("dropped by the wire: loss",) if lost else ())
        assert record.direction == DIRECTION_OUT
        assert record.when_ns == EPOCH


def test_what_is_lost_on_the_way_in_is_written_all_the_same(tmp_path):
    clock, capture, far = wired(tmp_path, loss=0.3, seed=1, direction="rx")
    port = RecordingPort(capture)
    far.transmit(FrameBatch([FRAME + bytes([k]) for k in range(40)]))
    clock.run_for(1_000_000)
    capture.close()
    records = list(read_capture(tmp_path / "a.pcapng"))
    assert len(records) == 40
    assert {r.data for r in records if not r.comments} == {bytes(f) for f in port.frames}
    assert {r.comments for r in records} == {(), ("dropped by the wire: loss",)}


def test_a_frame_that_waits_for_the_port_is_noted_once(tmp_path):
    clock, capture, far = wired(tmp_path)
    port = RecordingPort(capture, room=0)
    far.transmit(FrameBatch([FRAME + bytes([k]) for k in range(6)]))
    for _ in range(3):
        port.room = 2
        capture.rx_ready()
        clock.run_for(1_000_000)
    capture.close()
    assert [r.data[-1] for r in read_capture(tmp_path / "a.pcapng")] == list(range(6))


def test_a_frame_that_waited_while_another_was_sent_gets_its_own_comment(tmp_path):
    clock, capture, far = wired(tmp_path)
    port = RecordingPort(capture, room=0)
    counts = dict.fromkeys((*DEVICE_DROPS, "TPR", "GPRC"), 0)
    capture.watch_device(lambda: dict(counts))
    far.transmit(FrameBatch([FRAME]))
    clock.run_for(1_000_000)
    capture.transmit(FrameBatch([FRAME]))
    port.room = 1
    capture.rx_ready()
    clock.run_for(1_000_000)
    capture.close()
    said = {r.direction: r.comments for r in read_capture(tmp_path / "a.pcapng")}
    assert said == {DIRECTION_IN: ("dropped by the device: receiver off",), DIRECTION_OUT: ()}


def test_frames_are_written_after_a_second_at_the_latest(tmp_path):
    clock, capture, _ = wired(tmp_path)
    RecordingPort(capture)
    for _ in range(3):
        capture.transmit(FrameBatch([FRAME]))
        clock.run_for(1_500_000_000)
    assert capture.writer.frames == 2
    capture.close()
    assert capture.writer.frames == 3


def comments(path) -> dict[str, bytes]:
    return {text: r.data for r in read_capture(path) for text in r.comments}


def test_device_and_stacks_say_what_they_drop(tmp_path):
    path = tmp_path / "a.pcapng"
    a, b = two_hosts(capture=path, annotate=True)
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as near, Socket(b, AF_INET, SOCK_DGRAM) as far:
        near.sendto(b"nobody listens at b", ("10.0.0.2", 9))
        far.sendto(b"nobody listens at a", ("10.0.0.1", 9))
        a.clock.run_for(10_000_000)
        wrong = FrameBatch([b"\x02" + FRAME[1:], a.nics["eth0"].mac + FRAME[6:]])
        wrong.set_flags(1, FB_BAD_CRC)
        b.nics["eth0"].link.transmit(wrong)
        a.clock.run_for(10_000_000)
    found = comments(path)
    assert b"nobody listens at b" in found["dropped by b's stack: SKB_DROP_REASON_NO_SOCKET"]
    assert b"nobody listens at a" in found["dropped by a's stack: SKB_DROP_REASON_NO_SOCKET"]
    assert found["dropped by the device: no filter matched"][:1] == b"\x02"
    assert found["dropped by the device: wrong CRC (CRCERRS)"][6:] == FRAME[6:]


def test_tshark_reads_the_comments(tmp_path):
    require.tool("tshark")
    path = tmp_path / "a.pcapng"
    a, b = two_hosts(VirtualClock(epoch_ns=EPOCH), capture=path, annotate=True)
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as near:
        near.sendto(b"x", ("10.0.0.2", 9))
        a.clock.run_for(10_000_000)
    fields = ["-e", "udp.dstport", "-e", "frame.comment", "-e", "frame.time_epoch"]
    shown = run_to_end(
        ["tshark", "-r", path, "-Y", "frame.comment", "-T", "fields", *fields], check=True
    ).stdout.splitlines()
    (line,) = [line for line in shown if line.startswith("9\t")]
    assert "dropped by b's stack: SKB_DROP_REASON_NO_SOCKET" in line
    assert line.split("\t")[2].startswith("180000000")


@pytest.mark.parametrize("annotate", [False, True])
def test_on_a_paced_wire_each_frame_has_its_own_time(tmp_path, annotate):
    path = tmp_path / "a.pcapng"
    a, b = two_hosts(rate_bps=10**9, queue_frames=1, capture=path, annotate=annotate)
    with a, b, Socket(a, AF_INET, SOCK_DGRAM) as near, Socket(b, AF_INET, SOCK_DGRAM) as far:
        far.bind(("10.0.0.2", 9))
        near.sendto(b"warm", ("10.0.0.2", 9))
        far.recv(10)
        near.sendto(bytes(60000), ("10.0.0.2", 9))
        far.recv(65536)
    full = [r for r in read_capture(path) if r.length == 1514 and r.direction == DIRECTION_OUT]
    assert len(full) == 40
    # 1514 bytes, CRC, preamble and gap take 12.304 us of a gigabit
    assert {y.when_ns - x.when_ns for x, y in pairwise(full)} == {12304}
    assert {r.direction for r in read_capture(path)} == {DIRECTION_IN, DIRECTION_OUT}
