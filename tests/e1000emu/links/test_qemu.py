"""QEMU's socket framings, against plain sockets that play QEMU."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import AsyncioClock, RealClock, VirtualClock
from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.qemu import BATCH_FRAMES, MAX_FRAME_BYTES, QemuDgram, QemuStream
from fastpath.base.batch import FB_BAD_CRC, FB_HAS_FCS
from tests.e1000emu.links.ports import RecordingPort, frame, number
from tests.support import examples

SECOND_NS = 1_000_000_000


def until(clock: RealClock, cond) -> bool:
    return clock.run(until=cond, timeout_ns=20 * SECOND_NS)


def framed(*frames: bytes) -> bytes:
    return b"".join(len(f).to_bytes(4, "big") + f for f in frames)


def read_exactly(sock: socket.socket, n: int) -> bytes:
    sock.settimeout(20)
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        assert piece
        data += piece
    return data


ends: list = []
"""The ends of the links that a test has made."""


@pytest.fixture(autouse=True)
def closed():
    yield
    while ends:
        ends.pop().close()


def stream(clock, **options):
    ours, qemu = socket.socketpair()
    ends.extend((qemu, QemuStream(ours, clock, **options)))
    return ends[-1], qemu


def dgram(clock, **options):
    ours, qemu = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ends.extend((qemu, QemuDgram(ours, clock, **options)))
    return ends[-1], qemu


# --- stream ---------------------------------------------------------------------------------------


def test_stream_frames_have_their_length_before_them(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    port.send(frame(1), frame(2, 1514))
    assert read_exactly(qemu, 60 + 1514 + 8) == framed(frame(1), frame(2, 1514))
    qemu.sendall(framed(frame(3), frame(4, 9000)))
    assert until(clock, lambda: len(port.frames) == 2)
    assert port.frames == [frame(3), frame(4, 9000)]
    assert (link.stats.tx_frames, link.stats.tx_bytes) == (2, 1574)
    assert (link.stats.rx_frames, link.stats.rx_bytes) == (2, 9060)


def test_stream_pads_what_qemu_leaves_short(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    qemu.sendall(framed(b"\xff" * 42, b"x"))
    assert until(clock, lambda: len(port.frames) == 2)
    assert port.frames == [b"\xff" * 42 + bytes(18), b"x" + bytes(59)]


def test_stream_sends_no_fcs_and_no_damaged_frame(clock) -> None:
    link, qemu = stream(clock)
    RecordingPort(link)
    batch = pool.get()
    batch.append(frame(1) + b"FCS!", FB_HAS_FCS)
    batch.append(frame(2), FB_BAD_CRC)
    batch.append(b"FCS!", FB_HAS_FCS)
    batch.append(frame(3))
    link.transmit(batch)
    assert read_exactly(qemu, 128) == framed(frame(1), frame(3))
    assert link.stats.drops == {"bad frame": 2}


@settings(max_examples=examples(30))
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=20), st.data())
def test_stream_is_read_wherever_it_is_cut(sizes, data) -> None:
    clock = VirtualClock()
    link, qemu = stream(clock, poll_ns=1000)
    port = RecordingPort(link)
    frames = [bytes([n & 0xFF]) * size for n, size in enumerate(sizes)]
    wire = framed(*frames)
    at = 0
    while at < len(wire):
        step = data.draw(st.integers(1, len(wire) - at))
        qemu.sendall(wire[at : at + step])
        clock.run_for(2000)
        at += step
    assert port.frames == [f.ljust(60, b"\0") for f in frames]


@pytest.mark.parametrize("size", [0, MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_stream_with_a_length_that_cannot_be_is_given_up(clock, size) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    qemu.sendall(framed(frame(1)) + size.to_bytes(4, "big") + frame(2))
    assert until(clock, lambda: not link.carrier)
    assert port.frames == [frame(1)]
    assert port.changes == [False]
    assert link.stats.drops == {"bad length": 1}
    assert read_closed(qemu)
    port.send(frame(3))
    assert link.stats.drops["no peer"] == 1


def read_closed(sock: socket.socket) -> bool:
    sock.settimeout(20)
    try:
        return sock.recv(100) == b""
    except ConnectionResetError:
        return True


def test_stream_that_ends_inside_a_frame_counts_it(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    qemu.sendall(framed(frame(1)) + b"\0\0\0\x3c" + b"half")
    qemu.close()
    assert until(clock, lambda: not link.carrier)
    assert port.frames == [frame(1)]
    assert link.stats.drops == {"half a frame": 1}
    link.close()


@pytest.mark.parametrize("make", [stream, dgram])
def test_frames_wait_while_the_port_has_no_room(clock, make) -> None:
    link, qemu = make(clock)
    port = RecordingPort(link, room=3)
    for n in range(8):
        qemu.send(framed(frame(n)) if make is stream else frame(n))
    assert until(clock, lambda: len(port.frames) == 3)
    clock.run(timeout_ns=20_000_000)
    assert len(port.frames) == 3
    port.give_room(None)
    assert until(clock, lambda: len(port.frames) == 8)
    assert [number(f) for f in port.frames] == list(range(8))


def test_stream_gives_every_frame_of_a_large_piece(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    count = 3 * BATCH_FRAMES + 7
    qemu.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    qemu.sendall(framed(*(frame(n) for n in range(count))))
    assert until(clock, lambda: len(port.frames) == count)
    assert [number(f) for f in port.frames] == list(range(count))


def test_stream_pushes_back_while_qemu_does_not_read(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link)
    sent = 0
    while link.tx_room() and sent < 20_000:
        port.send(frame(sent, 1514))
        sent += 1
    assert link.tx_room() == 0
    assert port.ready == 0
    qemu.setblocking(False)
    got = bytearray()

    def drain() -> bool:
        try:
            while True:
                got.extend(qemu.recv(1 << 20))
        except BlockingIOError:
            return len(got) == sent * 1518

    assert until(clock, drain)
    assert port.ready >= 1
    assert link.tx_room() > 0
    assert got == framed(*(frame(n, 1514) for n in range(sent)))


def test_a_listening_stream_takes_one_qemu_after_the_other(clock, tmp_path) -> None:
    path = tmp_path / "net"
    link = QemuStream.listen(path, clock)
    port = RecordingPort(link)
    assert not link.carrier
    port.send(frame(0))
    assert link.stats.drops == {"no peer": 1}
    for n in range(2):
        qemu = socket.socket(socket.AF_UNIX)
        qemu.connect(str(path))
        qemu.sendall(framed(frame(n)))
        assert until(clock, lambda n=n: len(port.frames) == n + 1)
        assert link.carrier
        qemu.close()
        assert until(clock, lambda: not link.carrier)
    assert port.changes == [True, False, True, False]
    link.close()
    link.close()
    assert not path.exists()


def test_a_stream_connects_to_a_qemu_that_listens(clock, tmp_path) -> None:
    path = tmp_path / "net"
    with pytest.raises(LinkError, match=r"server=on,addr\.type=unix,addr\.path="):
        QemuStream.connect(path, clock)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    link = QemuStream.connect(path, clock)
    qemu, _ = listener.accept()
    port = RecordingPort(link)
    port.send(frame(5))
    assert read_exactly(qemu, 64) == framed(frame(5))
    link.close()
    assert path.exists()  # it is QEMU's
    qemu.close()
    listener.close()


# --- datagrams ------------------------------------------------------------------------------------


def test_dgram_has_a_frame_in_each(clock) -> None:
    link, qemu = dgram(clock)
    port = RecordingPort(link)
    assert link.carrier
    port.send(frame(1), frame(2, 1514))
    qemu.settimeout(20)
    assert [qemu.recv(70000), qemu.recv(70000)] == [frame(1), frame(2, 1514)]
    qemu.send(b"\xff" * 42)
    qemu.send(frame(4, 9000))
    assert until(clock, lambda: len(port.frames) == 2)
    assert port.frames == [b"\xff" * 42 + bytes(18), frame(4, 9000)]


def test_dgram_keeps_what_a_full_queue_does_not_take(clock) -> None:
    link, qemu = dgram(clock)
    port = RecordingPort(link)
    count = 3000
    for n in range(count):
        port.send(frame(n))
    assert link.tx_room() < 4096
    qemu.setblocking(False)
    got: list[int] = []

    def drain() -> bool:
        try:
            while True:
                got.append(number(qemu.recv(70000)))
        except BlockingIOError:
            return len(got) == count

    assert until(clock, drain)
    assert got == list(range(count))
    assert until(clock, lambda: link.tx_room() == 4096)


def test_dgram_paths_survive_a_qemu_that_starts_anew(clock, tmp_path) -> None:
    here, there = tmp_path / "ours", tmp_path / "qemus"
    link = QemuDgram.open(here, there, clock)
    port = RecordingPort(link)
    port.send(frame(0))
    assert link.stats.drops == {"no peer": 1}
    for n in range(2):
        qemu = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        qemu.bind(str(there))
        qemu.settimeout(20)
        port.send(frame(10 + n))  # the second time this finds out that the first QEMU is gone
        port.send(frame(20 + n))
        assert number(qemu.recv(70000)) in (10 + n, 20 + n)
        qemu.sendto(frame(n), str(here))
        assert until(clock, lambda n=n: len(port.frames) == n + 1)
        qemu.close()
        there.unlink()
    link.close()
    assert not here.exists()


# --- clocks and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [stream, dgram])
def test_a_virtual_clock_polls(make) -> None:
    clock = VirtualClock()
    link, qemu = make(clock, poll_ns=10_000)
    port = RecordingPort(link)
    qemu.send(framed(frame(1)) if make is stream else frame(1))
    assert clock.wait(lambda: bool(port.frames), SECOND_NS)
    assert port.times == [10_000]
    assert clock.run_until_idle()  # polling alone keeps nobody waiting
    link.detach()
    qemu.send(framed(frame(2)) if make is stream else frame(2))
    clock.run_for(SECOND_NS)
    assert len(port.frames) == 1
    again = RecordingPort(link)
    assert clock.wait(lambda: bool(again.frames), SECOND_NS)


@pytest.mark.parametrize("make", [stream, dgram])
def test_an_asyncio_loop_carries_frames(make) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        clock = AsyncioClock(loop)
        link, qemu = make(clock)
        port = RecordingPort(link)
        qemu.setblocking(False)
        qemu.send(framed(frame(1)) if make is stream else frame(1))
        port.send(frame(2))
        got = await asyncio.wait_for(loop.sock_recv(qemu, 70000), 20)
        assert got == (framed(frame(2)) if make is stream else frame(2))
        while not port.frames:
            await asyncio.sleep(0)
        assert port.frames == [frame(1)]
        link.close()
        qemu.close()
        clock.close()

    asyncio.run(run())


@pytest.mark.parametrize("make", [stream, dgram])
def test_a_virtual_clock_needs_an_interval(make) -> None:
    link, qemu = make(VirtualClock())
    with pytest.raises(LinkError, match="poll_ns=50_000"):
        RecordingPort(link)
    link.close()
    qemu.close()
    with pytest.raises(LinkError, match="give 1 or more"):
        make(VirtualClock(), poll_ns=0)


def test_unplugging_loses_what_was_held(clock) -> None:
    link, qemu = stream(clock)
    port = RecordingPort(link, room=1)
    qemu.sendall(framed(*(frame(n) for n in range(5))))
    assert until(clock, lambda: len(port.frames) == 1)
    link.detach()
    assert link.stats.drops == {"unplugged": 4}


def test_paths_that_cannot_be_had(clock, tmp_path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("no socket")
    for path, text in (
        (taken, "exists"),
        (tmp_path / "no" / "where", "does not exist"),
        (Path("x" * 200), "107 bytes"),
        (Path(os.sep) / "proc" / "x", "dgram|stream"),
    ):
        with pytest.raises(LinkError, match=text):
            QemuStream.listen(path, clock)
        with pytest.raises(LinkError, match=text):
            QemuDgram.open(path, tmp_path / "other", clock)
    assert taken.read_text() == "no socket"
    with pytest.raises(LinkError, match="remote"):
        QemuDgram.open(tmp_path / "x", "", clock)
