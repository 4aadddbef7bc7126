"""The server with threads: the same answers as without, frames beside them, nothing left behind."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import e1000emu.embed.vfio_user.server as server_module
import e1000emu.links.tap as tap_module
from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device import pci
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.hot import hot_messages
from e1000emu.embed.vfio_user.protocol import Command
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.errors import ArgumentError
from e1000emu.links import pair
from e1000emu.links.base import Middleware
from e1000emu.links.handover import Handover
from e1000emu.links.tap import Tap
from e1000emu.registers.regs import STATISTICS, reg
from e1000emu.testing.guest import Ctrl, GuestRings, Int, Rctl, Reg
from fastpath._ref import datapath as ref
from fastpath.base.batch import FrameBatch
from fastpath.lifecycle import RunState
from fastpath.nic.datapath import (
    MESSAGE_READ,
    MESSAGE_UNMASK,
    MESSAGE_WRITE,
    POLLING,
    MessageTable,
    Polling,
)
from tests.e1000emu.embed.fakeclient import TIMEOUT_NS, FakeClient
from tests.e1000emu.embed.test_vfio_user_msgdma import post_tso
from tests.support import examples

MAC = bytes.fromhex("525400123456")


def frame(number: int, size: int = 60) -> bytes:
    """Make a broadcast frame that can be told from others."""
    return (b"\xff" * 6 + b"\x02\0\0\0\0\1\x88\xb5" + struct.pack(">I", number)).ljust(size, b"x")


@dataclass
class Rig:
    """A server with threads; a datagram socket is its TAP, `far` the other end of the cable."""

    path: Path
    clock: RealClock
    tap: Tap
    far: socket.socket
    server: VfioUserServer
    log: list[str]
    clients: list[FakeClient] = field(default_factory=list)

    def client(self) -> FakeClient:
        client = FakeClient(self.path, self.clock)
        client.threaded = True
        self.clients.append(client)
        return client

    def up(
        self, *, ims: int = Int.RXT0 | Int.LSC, by_message: bool = False
    ) -> tuple[FakeClient, GuestRings]:
        """Connect a client and bring its driver up."""
        client = self.client()
        rings = client.start(by_message=by_message)
        rings.up(mac=MAC, rctl=Rctl.EN | Rctl.BAM | Rctl.SECRC, ims=ims)
        self.until(client, lambda: bool(rings.read(Reg.STATUS) & 2))
        rings.read(Reg.ICR)
        client.interrupts()
        client.unmask()
        return client, rings

    def until(self, client: FakeClient, done: Callable[[], bool]) -> None:
        end = time.monotonic_ns() + TIMEOUT_NS
        while not done():
            assert time.monotonic_ns() < end
            with self.clock.lock:
                self.clock.run(timeout_ns=200_000)

    def stuck(self) -> bool:
        """Whether the server has stopped to read its client's messages."""
        with self.clock.lock:
            client = self.server._client
            return client is not None and client._stuck

    def wire(self, client: FakeClient, count: int) -> list[bytes]:
        """Wait for frames at the far end."""
        got: list[bytes] = []

        def look() -> bool:
            client.poll()  # the frames of memory by message wait for its answers
            try:
                while True:
                    got.append(self.far.recv(1 << 16))
            except BlockingIOError:
                return len(got) >= count

        self.until(client, look)
        return got


@contextmanager
def flooded(*sends: Callable[[], object]) -> Iterator[None]:
    """Call each of `sends` in a thread of its own, again and again."""
    ended = threading.Event()

    def flood(send: Callable[[], object]) -> None:
        while not ended.is_set():
            with suppress(OSError):
                send()

    threads = [threading.Thread(target=flood, args=(send,)) for send in sends]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


KINDS = {
    "two threads": (False, False),
    "one for all": (True, False),
    "two threads, handed over": (False, True),
    "one for all, handed over": (True, True),
}


def only(*, handed_over: bool) -> pytest.MarkDecorator:
    """Run a test with a TAP in the data path's hands only, or with any other link only."""
    kinds = {name: kind for name, kind in KINDS.items() if kind[1] == handed_over}
    return pytest.mark.parametrize("rig", kinds.values(), ids=list(kinds), indirect=True)


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    solo, handed_over, *offloads = request.param
    monkeypatch.setattr(server_module, "one_for_all", lambda cpus: solo)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    far.setblocking(False)
    fd = os.dup(near.fileno())
    near.close()
    opened = (fd, "fake0", 10 if offloads else 0, tuple(offloads))
    monkeypatch.setattr(tap_module, "_open", lambda name, offload: opened)
    before = set(os.listdir("/proc/self/fd"))
    clock = RealClock()
    log: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "nic"
        tap = Tap("fake0", clock)
        link: Any = Middleware(tap) if handed_over else tap
        server = VfioUserServer(
            path, link=link, clock=clock, mac=MAC, report=log.append, autoneg_ns=1_000_000,
            threads=True,
        )  # fmt: skip
        assert server.data is not None
        rig = Rig(path, clock, tap, far, server, log)
        try:
            yield rig
        finally:
            for client in rig.clients:
                client.close()
            with clock.lock:
                server.close()
                tap.close()
            clock.close()
            far.close()
    assert not [t.name for t in threading.enumerate() if t.name.startswith("vfio-user")]
    assert len(set(os.listdir("/proc/self/fd")) - before) == 0


class BrokenSocket:
    """A socket whose peer closed it with unread data in it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def recv(self, *args: object) -> bytes:
        raise ConnectionResetError(104, "Connection reset by peer")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_a_client_that_broke_off_makes_room_for_the_next(rig: Rig) -> None:
    client = rig.client()
    client.version()
    connected = rig.server._client
    with rig.clock.lock:
        assert connected is not None
        connected._sock = BrokenSocket(connected._sock)  # type: ignore[assignment]
        rig.server._connection()
    assert rig.log[-1].endswith("client gone: Connection reset by peer")
    rig.client().version()


def test_frames_go_both_ways_beside_the_accesses(rig: Rig) -> None:
    client, rings = rig.up()
    rings.send(frame(1), frame(2, 1514))
    assert rig.wire(client, 2) == [frame(1), frame(2, 1514)]
    rig.until(client, lambda: rings.read(Reg.TDH) == rings.read(Reg.TDT))
    rings.reap()
    rig.far.send(frame(3))
    rig.until(client, lambda: client.interrupts() > 0)
    assert rings.read(Reg.ICR) & Int.RXT0
    (got,) = rings.receive()
    assert got.data == frame(3)
    counters = rig.server.counters()
    assert counters["interrupts"] >= 1
    assert counters["posted_writes"] > 20
    assert (rig.tap.stats.tx_frames, rig.tap.stats.rx_frames) == (2, 1)


@pytest.mark.parametrize("rig", [(False, False, "csum", "tso4")], ids=["offloads"], indirect=True)
def test_a_super_frame_is_as_much_work_as_its_frames(rig: Rig) -> None:
    """One alone is 42 frames, which come thick: their interrupts are kept apart."""
    client, rings = rig.up(ims=Int.TXDW)
    header = bytes.fromhex(
        "525400aabbcc5254001234560800"
        "4500000000010000400600000a0000010a000002"
        "1389138900000001000000015010ffff14090000"  # seeded, as a driver does
    )
    path, interrupts = rig.server.data, rig.server.nic.interrupts
    assert path is not None
    now = time.monotonic_ns()
    for _ in range(2):
        now += 1_000_000  # apart, whatever this machine does meanwhile
        post_tso(rings, header, bytes(60_000))
        batch = FrameBatch()
        with path:
            rings.kick()
            rig.until(client, lambda: rig.server.nic.regs.peek(Reg.TDT) == rings.tx.next_to_use)
            path.run_tx(batch, 64, now)
        assert len(batch) == 1, "it crosses in one piece"
        assert rings.read(Reg.ICR) & Int.TXDW
    with rig.clock.lock:
        assert interrupts.policy.floor_ns > 0


COUNTED = {"GPTC": 1, "TPT": 1, "BPTC": 1, "GOTCL": 64, "TOTL": 64, "PTC64": 1}
"""What a broadcast frame of 60 bytes and its FCS is to a sender."""


def test_hot_messages_never_reach_python(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client, rings = rig.up()
    asked: list[int] = []
    serve = rig.server.serve

    def noted(client: Any, message: vu.Message) -> bytes:
        asked.append(message.command)
        return serve(client, message)

    monkeypatch.setattr(rig.server, "serve", noted)
    rings.read(Reg.ICR)
    client.unmask()
    rings.write(Reg.IMC, 0xFFFFFFFF)
    rings.read(Reg.STATUS)
    rings.write(Reg.IMS, int(Int.RXT0))
    rings.write(Reg.ITR, 100)
    rings.post_legacy(frame(7))
    rings.kick()
    rig.wire(client, 1)
    rig.until(client, lambda: rings.read(Reg.TDH) == rings.read(Reg.TDT))
    assert {name: rings.read(reg(name).offset) for name in STATISTICS} == {
        name: COUNTED.get(name, 0) for name in STATISTICS
    }
    assert not any(rings.read(reg(name).offset) for name in STATISTICS), "a read clears"
    assert asked == []
    rings.read(Reg.EECD)
    assert asked == [Command.REGION_READ]


def test_what_waits_in_the_fifo_is_stored_without_python(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a flood: the ring is full, RDT moves, and the FIFO crosses no threshold of PAUSE."""
    client, rings = rig.up()
    rings.write(reg("FCRTL").offset, 0x8000)
    rings.write(reg("FCRTH").offset, 0x8008)
    rings.write(Reg.CTRL, rings.read(Reg.CTRL) | Ctrl.TFCE)
    assert rings.read(Reg.CTRL) & Ctrl.TFCE
    data, nic = rig.server.data, rig.server.nic
    assert data is not None
    asked: list[int] = []
    monkeypatch.setattr(rig.server, "serve", lambda _, message: asked.append(message.command))
    monkeypatch.setattr(nic.flow, "fifo_changed", lambda: asked.append(-1))

    def sent(number: int) -> bool:
        with suppress(BlockingIOError):
            rig.far.send(frame(number))
            return True
        return False

    def waiting() -> int:
        with data:
            return nic.rx.engine.fifo_frames

    for number in range(40):
        rig.until(client, lambda number=number: sent(number))
    rig.until(client, lambda: waiting() == 40 - 15)
    got: list[bytes] = []

    def more() -> bool:
        got.extend(f.data for f in rings.receive())
        return len(got) == 40

    rig.until(client, more)
    assert got == [frame(number) for number in range(40)]
    assert asked == []


def test_an_interrupt_masks_itself_and_comes_again_while_the_level_is_high(rig: Rig) -> None:
    client, rings = rig.up()
    rig.far.send(frame(1))
    rig.until(client, lambda: client.interrupts() == 1)
    rig.far.send(frame(2))
    rig.until(client, lambda: rings.read(Reg.RDH) == 2)
    assert client.interrupts() == 0
    client.unmask()  # nobody read ICR: the level is high
    rig.until(client, lambda: client.interrupts() == 1)
    assert rings.read(Reg.ICR) & Int.RXT0
    client.unmask()
    client.settle()
    assert client.interrupts() == 0


def test_a_mask_holds_a_cause_back_until_it_is_lifted(rig: Rig) -> None:
    client, rings = rig.up()
    rings.write(Reg.IMC, 0xFFFFFFFF)
    rings.read(Reg.STATUS)
    rig.far.send(frame(1))
    rig.until(client, lambda: rings.read(Reg.RDH) == 1)
    assert client.interrupts() == 0
    rings.write(Reg.IMS, int(Int.RXT0))
    rig.until(client, lambda: client.interrupts() == 1)


def test_delays_of_both_directions_expire(rig: Rig) -> None:
    client, rings = rig.up(ims=Int.RXT0 | Int.TXDW)
    rings.write(Reg.RDTR, 200)
    rings.write(Reg.RADV, 400)
    rings.write(Reg.TIDV, 200)
    rings.write(Reg.TADV, 400)
    rings.read(Reg.STATUS)
    rig.far.send(frame(1))
    rig.until(client, lambda: client.interrupts() == 1)
    assert rings.read(Reg.ICR) & Int.RXT0
    client.unmask()
    rings.post_legacy(frame(2), cmd=0x8B)  # IDE
    rings.kick()
    rig.until(client, lambda: client.interrupts() == 1)
    assert rings.read(Reg.ICR) & Int.TXDW


def test_a_full_ring_holds_frames_back_and_loses_none(rig: Rig) -> None:
    client, rings = rig.up()
    sent = 0
    got: list[bytes] = []
    while len(got) < 200:
        while sent < 200:
            try:
                rig.far.send(frame(sent))
            except BlockingIOError:
                break
            sent += 1
        client.settle()
        got += [f.data for f in rings.receive()]
    assert got == [frame(n) for n in range(200)]


def test_a_wire_without_room_holds_the_ring_back_and_loses_none(rig: Rig) -> None:
    client, rings = rig.up()
    sent = 0
    got: list[bytes] = []
    for _ in range(60):
        free = rings.tx_unused()
        for _ in range(free):
            rings.post_legacy(frame(sent))
            sent += 1
        rings.kick()
        client.settle()
        rings.reap()
    while len(got) < sent:
        got += rig.wire(client, 1)
        client.settle()
    assert got == [frame(n) for n in range(sent)]
    assert rig.server.data is not None
    assert rig.server.data.counters()["refused"] == 0


def test_a_ring_where_no_memory_is_waits_for_the_driver(rig: Rig) -> None:
    client, rings = rig.up()
    data = rig.server.data
    assert data is not None
    rings.write(Reg.TDBAH, 0x7FFF)
    rings.post_legacy(frame(1))
    rings.kick()
    rig.until(client, lambda: client.config_read(pci.STATUS, 2) & pci.STATUS_MASTER_ABORT != 0)
    end = time.monotonic_ns() + 50_000_000
    rig.until(client, lambda: time.monotonic_ns() > end)
    with data:
        aborts = data.tx.engine.desc_aborts
    assert 1 <= aborts <= 2  # once more when the worker had not gone to sleep yet
    rings.write(Reg.TDBAH, 0)
    assert rig.wire(client, 1) == [frame(1)]


def test_loopback_stays_inside(rig: Rig) -> None:
    client, rings = rig.up()
    rings.write(Reg.RCTL, Rctl.EN | Rctl.BAM | Rctl.SECRC | 1 << 6)  # LBM: MAC
    rings.send(frame(9))
    got: list[bytes] = []

    def received() -> bool:
        got.extend(f.data for f in rings.receive())
        return bool(got)

    rig.until(client, received)
    assert got == [frame(9)]
    with pytest.raises(BlockingIOError):
        rig.far.recv(2048)
    rings.write(Reg.RCTL, Rctl.EN | Rctl.BAM | Rctl.SECRC)
    rings.send(frame(10))
    assert rig.wire(client, 1) == [frame(10)]


def test_a_received_pause_holds_the_transmitter(rig: Rig) -> None:
    client, rings = rig.up()
    for offset, value in ((0x28, 0x00C28001), (0x2C, 0x100), (0x30, 0x8808)):  # FCAL, FCAH, FCT
        rings.write(offset, value)
    rings.write(Reg.CTRL, rings.read(Reg.CTRL) | Ctrl.RFCE)
    rings.read(Reg.STATUS)
    pause = bytes.fromhex("0180c2000001020000000001880800010000").ljust(60, b"\0")
    # 0xFFFF quanta of 512 bit times at 1 Gbit/s: 34 ms
    held = False

    def paused() -> bool:
        if rings.read(Reg.STATUS) & 0x10:
            return True
        with suppress(BlockingIOError):  # what came before may have run out unseen
            rig.far.send(pause[:16] + b"\xff\xff" + pause[18:])
        return False

    while not held:
        begin = time.monotonic_ns()
        rig.until(client, paused)
        rings.send(frame(1))
        rings.read(Reg.STATUS)
        try:
            rig.far.recv(2048)
        except BlockingIOError:
            held = True
        else:
            assert time.monotonic_ns() - begin > 33_000_000, "a busy machine may let it pass"
    assert rig.wire(client, 1) == [frame(1)]


def test_reset_in_mid_traffic_and_on(rig: Rig) -> None:
    client, rings = rig.up()
    for turn in range(10):
        for n in range(8):
            rig.far.send(frame(n))
            rings.post_legacy(frame(turn))
        rings.kick()
        rings.reset()
        rings.up(mac=MAC, rctl=Rctl.EN | Rctl.BAM | Rctl.SECRC, ims=Int.RXT0)
        rig.until(client, lambda: bool(rings.read(Reg.STATUS) & 2))
    rings.send(frame(99))
    rig.until(client, lambda: frame(99) in rig.wire(client, 1))


def test_the_client_goes_in_mid_traffic_and_the_next_finds_a_reset_nic(rig: Rig) -> None:
    client, rings = rig.up()
    for n in range(8):
        rings.post_legacy(frame(n))
    rings.kick()
    client.close()
    for n in range(30):
        rig.far.send(frame(n))
    client, rings = rig.up()
    while True:
        try:
            rig.far.recv(2048)
        except BlockingIOError:
            break
    rings.send(frame(77))
    assert rig.wire(client, 1) == [frame(77)]
    assert any("gone" in line for line in rig.log)


def test_a_client_that_has_gone_with_messages_unread_does_not_bar_the_next(rig: Rig) -> None:
    client, _ = rig.up()
    config = vu.REGION_ACCESS.pack(0, 7, 4)
    client.sock.send(vu.pack(1, Command.REGION_READ, config))
    time.sleep(0.02)  # the thread has it, and waits for the clock
    client.sock.send(vu.pack(2, Command.REGION_READ, config))
    client.close()
    _, rings = rig.up()
    rings.send(frame(1))
    assert not any("turned away" in line for line in rig.log)


def test_ram_by_messages_leaves_the_rings_to_the_clock_and_the_next_client_has_threads(
    rig: Rig,
) -> None:
    assert rig.server.data is not None
    for by_message in (True, False, True):
        client, rings = rig.up(by_message=by_message)
        assert (rig.server.data.run_state is RunState.PAUSED) == by_message
        for n in range(40):
            rings.send(frame(n))
            rings.reap()
            rig.far.send(frame(100 + n))
            got: list[bytes] = []

            def received(
                client: FakeClient = client, rings: GuestRings = rings, got: list[bytes] = got
            ) -> bool:
                client.poll()  # what the server asks of RAM
                got.extend(f.data for f in rings.receive())
                return bool(got)

            rig.until(client, received)
            assert got == [frame(100 + n)]
        assert rig.wire(client, 40) == [frame(n) for n in range(40)]
        client.close()
        with rig.clock.lock:
            rig.server.disconnect()
    assert not rig.tap.stats.drops


def test_the_rings_change_hands_amid_a_flood(rig: Rig) -> None:
    with flooded(lambda: rig.far.send(frame(1))):
        for turn in range(8):
            client, rings = rig.up(by_message=turn % 2 == 0)
            got = 0

            def enough(client: FakeClient = client, rings: GuestRings = rings) -> bool:
                nonlocal got
                client.poll()
                received = rings.receive()
                assert all(one.data == frame(1) for one in received)
                got += len(received)
                return got > 30

            rig.until(client, enough)
            client.close()
            with rig.clock.lock:
                rig.server.disconnect()


def test_messages_in_any_pieces_are_answered_in_order(rig: Rig) -> None:
    client, _ = rig.up()
    read = vu.REGION_ACCESS.pack(Reg.STATUS, 0, 4)
    data = b""
    for ident in range(100, 140):
        kind = ident % 4
        if kind == 0:
            data += vu.pack(ident, Command.REGION_READ, read)
        elif kind == 1:  # not for the pump
            data += vu.pack(ident, Command.REGION_READ, vu.REGION_ACCESS.pack(0, 7, 4))
        elif kind == 2:
            data += vu.pack(
                ident, Command.REGION_WRITE,
                vu.REGION_ACCESS.pack(Reg.IMS, 0, 4) + bytes(4), flags=vu.NO_REPLY,
            )  # fmt: skip
        else:
            data += vu.pack(ident, Command.DEVICE_SET_IRQS, vu.IRQ_SET.pack(20, 0x11, 0, 0, 1))
    for step in (1, 7, 40, 1000):
        for at in range(0, len(data), step):
            client.say(data[at : at + step])
            if step < 1000:
                client.poll()
        got: list[int] = []

        def answered(got: list[int] = got) -> bool:
            client.poll()
            got.extend(message.id for message in client.got)
            client.got.clear()
            return len(got) >= 30

        rig.until(client, answered)
        assert got == [ident for ident in range(100, 140) if ident % 4 != 2]


def test_a_client_is_let_go_while_messages_and_frames_never_end(rig: Rig) -> None:
    client, _rings = rig.up()
    post = vu.pack(
        7, Command.REGION_WRITE, vu.REGION_ACCESS.pack(Reg.IMC, 0, 4) + bytes(4), flags=vu.NO_REPLY
    )
    client.sock.setblocking(True)
    with flooded(lambda: client.sock.send(post * 50), lambda: rig.far.send(frame(1))):
        time.sleep(0.05)
        with rig.clock.lock:
            rig.server.disconnect()
        assert not rig.server.connected


def test_a_client_that_reads_no_answer_is_not_read_from(rig: Rig) -> None:
    client, _ = rig.up()
    message = vu.pack(1, Command.REGION_READ, vu.REGION_ACCESS.pack(Reg.STATUS, 0, 4))
    wanted = 50_000  # more than the sockets and the server's patience hold
    todo = memoryview(message * wanted)
    full = False
    while todo and not (full and rig.stuck()):
        full = rig.stuck()  # nobody reads from now on: what the socket takes is the last
        with suppress(BlockingIOError):
            while todo:
                todo = todo[client.sock.send(todo) :]
        with rig.clock.lock:
            rig.clock.run(timeout_ns=1_000_000)
    with pytest.raises(BlockingIOError):
        client.sock.send(message)
    asked = wanted - len(todo) // len(message)
    assert 0 < asked < wanted
    got = 0

    def drain() -> bool:
        nonlocal got, todo
        before = got
        client.poll()
        got += len(client.got)
        client.got.clear()
        if todo:
            with suppress(BlockingIOError):
                todo = todo[client.sock.send(todo) :]
        return got > before

    while got < wanted:
        rig.until(client, drain)
    assert got == wanted


@only(handed_over=False)
def test_a_wire_that_is_cut_is_told(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    client, rings = rig.up()
    failed: list[int] = []

    def note(error: int) -> bool:
        failed.append(error)
        return False

    monkeypatch.setattr(rig.tap, "failed", note)
    # A socket that was never connected: reading it fails for good.
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    os.dup2(other.fileno(), rig.tap.fileno())
    other.close()
    rig.far.close()
    rings.read(Reg.STATUS)
    assert rig.server.data is not None
    with rig.server.data:
        pass  # whoever holds it wakes it when he lets go
    rig.until(client, lambda: bool(failed))


@only(handed_over=True)
def test_a_carrier_that_goes_and_comes_is_told(rig: Rig) -> None:
    client, rings = rig.up()
    for up in (False, True):
        with rig.clock.lock:
            rig.tap._set_carrier(up)
        rig.until(client, lambda up=up: bool(rings.read(Reg.STATUS) & 2) == up)
        rig.until(client, lambda: client.interrupts() == 1)
        assert rings.read(Reg.ICR) & Int.LSC
        client.unmask()
    rings.send(frame(1))
    assert rig.wire(client, 1) == [frame(1)]


@only(handed_over=True)
def test_a_flood_that_nobody_takes_waits_on_the_wire(rig: Rig) -> None:
    """What rings and queue do not hold stays with the link, and comes when there is room."""
    client, rings = rig.up()
    assert isinstance(rig.server.nic.link, Handover)
    queue = rig.server.nic.link.queue
    sent = 0
    end = time.monotonic() + 30
    while queue.room:
        assert time.monotonic() < end
        with suppress(BlockingIOError):
            rig.far.send(frame(sent))
            sent += 1
        with rig.clock.lock:
            rig.clock.run(timeout_ns=10_000)
    assert sent > queue.max_frames
    got: list[bytes] = []

    def all_here() -> bool:
        got.extend(f.data for f in rings.receive())
        return len(got) == sent

    rig.until(client, all_here)
    assert got == [frame(n) for n in range(sent)]
    assert not rig.tap.stats.drops


def test_a_state_taken_from_threads_is_the_same_without(rig: Rig) -> None:
    client, rings = rig.up()
    rings.write(Reg.RDTR, 0xFFFF)
    rings.read(Reg.STATUS)
    for count in range(1, 8):
        rig.far.send(frame(1))
        rig.until(client, lambda count=count: rings.read(Reg.RDH) == count)
        with rig.server.guard:
            interrupts = rig.server.nic.interrupts
            before = interrupts.state()
            rig.server.nic.load_state(rig.server.nic.state())
            assert interrupts.state() == before
            armed = interrupts._times()[1] > 0
        if armed:  # a busy machine may be later than RDTR's 67 ms
            break
    assert armed


REGISTERS = st.sampled_from(
    [Reg.STATUS, Reg.ICR, Reg.IMS, Reg.IMC, Reg.ICS, Reg.ITR, Reg.CTRL, Reg.TDT, Reg.RDT, Reg.TDH,
     Reg.EERD, 0x10, 0x1FFFC, 0x20000, 0xFFFFFFFC, 0x5400, 0xC2]
)  # fmt: skip
OPS = st.lists(
    st.tuples(st.booleans(), REGISTERS, st.integers(0, 0xFFFFFFFF), st.sampled_from([1, 2, 4, 8])),
    max_size=25,
)


@given(ops=OPS)
@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_accesses_are_answered_as_without_threads(
    ops: list[tuple[bool, int, int, int]],
) -> None:
    answers = []
    for threads, solo, handed_over in (
        (False, False, False),
        *itertools.product((True,), (False, True), (False, True)),
    ):
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        near.setblocking(False)
        fd = os.dup(near.fileno())
        near.close()
        clock = RealClock()
        with mock.patch.object(tap_module, "_open", return_value=(fd, "fake0", 0, ())):
            tap = Tap("fake0", clock)
        out: list[bytes | int] = []
        with (
            tempfile.TemporaryDirectory() as directory,
            mock.patch.object(server_module, "one_for_all", return_value=solo),
        ):
            link: Any = Middleware(tap) if handed_over else tap
            server = VfioUserServer(
                Path(directory) / "nic", link=link, clock=clock, report=lambda line: None,
                autoneg_ns=10**12, threads=threads,
            )  # fmt: skip
            assert (server.data is not None) == threads
            client = FakeClient(Path(directory) / "nic", clock)
            client.threaded = threads
            client.start()
            for write, off, value, size in ops:
                head = vu.REGION_ACCESS.pack(off, 0, size)
                if write:
                    data = (value | value << 32).to_bytes(8, "little")[:size]
                    client.post(Command.REGION_WRITE, head + data, flags=vu.NO_REPLY)
                else:
                    ident = client.post(Command.REGION_READ, head)
                    try:
                        out.append(client.answer(ident))
                    except Exception as error:
                        out.append(getattr(error, "number", -1))
            client.region_read(7, 0, 4)
            out.append(server.refusals)
            client.close()
            with clock.lock:
                server.close()
                tap.close()
            clock.close()
            far.close()
        answers.append(out)
    assert all(answer == answers[0] for answer in answers)


class _RefNic:
    def __init__(self) -> None:
        self.log: list[tuple[str, int, int]] = []

    def read(self, off: int) -> int | None:
        self.log.append(("read", off, 0))
        return 0x80 if off == Reg.STATUS else None

    def write(self, off: int, value: int) -> bool:
        self.log.append(("write", off, value))
        return off == Reg.IMS

    def unmask(self) -> None:
        self.log.append(("unmask", 0, 0))


def test_the_plain_python_pump_says_which_messages_are_hot() -> None:
    nic = _RefNic()
    pump = ref.BusPump(nic)
    status = vu.REGION_ACCESS.pack(Reg.STATUS, 0, 4)
    answer = pump.serve(vu.pack(5, Command.REGION_READ, status))
    assert answer == vu.pack(5, Command.REGION_READ, status + b"\x80\0\0\0", flags=vu.TYPE_REPLY)
    ims = vu.REGION_ACCESS.pack(Reg.IMS, 0, 4) + b"\x80\0\0\0"
    assert pump.serve(vu.pack(6, Command.REGION_WRITE, ims, flags=vu.NO_REPLY)) == b""
    unmask = vu.pack(7, Command.DEVICE_SET_IRQS, vu.IRQ_SET.pack(20, 0x11, 0, 0, 1))
    assert pump.serve(unmask) == vu.pack(7, Command.DEVICE_SET_IRQS, b"", flags=vu.TYPE_REPLY)
    assert pump.serve(vu.pack(8, Command.VERSION, b"")) is None
    assert [what for what, *_ in nic.log] == ["read", "write", "unmask"]


HOT = {
    Command.REGION_READ: vu.REGION_ACCESS.pack(Reg.STATUS, 0, 4),
    Command.REGION_WRITE: vu.REGION_ACCESS.pack(Reg.IMS, 0, 4) + b"\x80\0\0\0",
    Command.DEVICE_SET_IRQS: vu.IRQ_SET.pack(20, 0x11, 0, 0, 1),
}


@given(
    ident=st.integers(0, 0xFFFF),
    command=st.sampled_from([*HOT, Command.DEVICE_RESET]),
    flags=st.sampled_from([0, 0x10, 0x10, 0x20, 0x1, 1 << 31]),
    of=st.sampled_from(list(HOT)),
    flips=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 255)), max_size=3),
    cut=st.sampled_from([0, 0, 0, 1, 4, 20]),
    more=st.sampled_from([b"", b"", b"\0", bytes(4)]),
)
@settings(max_examples=examples(300))
def test_the_compiled_pump_is_told_the_messages_that_the_plain_one_knows(
    ident: int,
    command: Command,
    flags: int,
    of: Command,
    flips: list[tuple[int, int]],
    cut: int,
    more: bytes,
) -> None:
    payload = bytearray(HOT[of])
    for at, byte in flips:
        payload[at % len(payload)] = byte
    text = vu.pack(ident, command, bytes(payload[: len(payload) - cut]) + more, flags=flags)
    log: list[tuple[int, int, int]] = []

    class Served:
        def read(self, off: int) -> int:
            log.append((MESSAGE_READ, off, 0))
            return 0x12345678

        def write(self, off: int, value: int) -> bool:
            log.append((MESSAGE_WRITE, off, value))
            return True

        def unmask(self) -> None:
            log.append((MESSAGE_UNMASK, 0, 0))

    answer = ref.BusPump(Served()).serve(text)
    found = hot_messages().read(text, 0x12345678)
    assert found == (None if answer is None else (*log[0], answer))


def test_how_a_pump_waits_has_parameters_with_reasons() -> None:
    for name, (value, reason) in POLLING.items():
        assert getattr(Polling(), name) == value
        assert len(reason.split()) > 5, name
    assert Polling(spin_ns=7).spin_ns == 7
    with pytest.raises(ArgumentError, match=r"Polling: no argument spin=7; .*; did you mean spin"):
        Polling(spin=7)
    with pytest.raises(ArgumentError, match="Polling: crowd_ns=-1 is out of range"):
        Polling(crowd_ns=-1)


def test_a_server_looks_for_messages_as_long_as_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="spin_ns=-1"):
        VfioUserServer(tmp_path / "nic", link=pair(VirtualClock())[0], busy_poll_ns=-1)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"mask": b"\xff" * 31}, "kind=0, 32 bytes, answer of 36"),
        ({"match": b"\0" * 41, "mask": b"\0" * 41}, "41 bytes"),
        ({"match": b"\0" * 8, "mask": b"\0" * 8}, "8 bytes"),
        ({"answer": b"\0" * 40, "echo": b"\0" * 40}, "answer of 40"),
        ({"kind": 3}, "kind=3"),
        ({"offset_at": 28}, "fields inside them"),
        ({"value_at": 33}, "fields inside them"),
        ({"offset_at": (1 << 32) - 8}, "fields inside them"),
        ({"value_at": (1 << 32) - 4}, "fields inside them"),
    ],
)
def test_a_table_refuses_a_form_that_would_read_past_its_message(
    given: dict[str, Any], wrong: str
) -> None:
    table = MessageTable(header_bytes=16, size_at=4, quiet_at=8, quiet_bits=16)
    form: dict[str, Any] = {
        "kind": MESSAGE_READ, "match": bytes(32), "mask": bytes(32), "echo": bytes(36),
        "answer": bytes(36), "offset_at": 16, "value_at": 32,
    } | given  # fmt: skip
    with pytest.raises(ArgumentError, match=wrong):
        table.add(form.pop("kind"), **form)
    for _ in range(8):
        table.add(MESSAGE_UNMASK, match=bytes(16), mask=bytes(16), echo=b"", answer=b"")
    with pytest.raises(ArgumentError, match="at most 8 forms"):
        table.add(MESSAGE_UNMASK, match=bytes(16), mask=bytes(16), echo=b"", answer=b"")
    for size_at in (13, (1 << 32) - 4):
        with pytest.raises(ArgumentError, match="fields inside a header"):
            MessageTable(header_bytes=16, size_at=size_at, quiet_at=8, quiet_bits=16)
    assert MessageTable(header_bytes=16, size_at=4, quiet_at=8, quiet_bits=16).read(b"") is None


# --- memory that is not shared, a NIC that outlives the server -----------------------------------


def test_the_threads_leave_rings_and_tap_while_memory_is_reached_by_messages(rig: Rig) -> None:
    for by_message in (False, True, False):
        client = rig.client()
        rings = client.start(by_message=by_message)
        rings.up(mac=MAC, rctl=Rctl.EN | Rctl.BAM | Rctl.SECRC, ims=Int.RXT0)
        rig.until(client, lambda: bool(rings.read(Reg.STATUS) & 2))  # noqa: B023
        client.settle()
        assert rig.server.data is not None
        assert (rig.server.data.run_state is RunState.PAUSED) == by_message
        frames = [frame(n, 60 + n) for n in range(12)]
        for one in frames:
            rings.post_legacy(one)
        rings.kick()
        sent: list[bytes] = []

        def look() -> bool:
            client.poll()  # noqa: B023
            with suppress(BlockingIOError):
                sent.append(rig.far.recv(1 << 16))  # noqa: B023
            return len(sent) >= len(frames)  # noqa: B023

        rig.until(client, look)
        assert sent == frames
        for one in frames:
            rig.far.send(one)
        got: list[bytes] = []

        def collect() -> bool:
            client.poll()  # noqa: B023
            got.extend(one.data for one in rings.receive())  # noqa: B023
            return len(got) >= len(frames)  # noqa: B023

        rig.until(client, collect)
        assert got == frames
        assert (client.dma_writes > 0) == by_message
        client.close()
        rig.until(client, lambda: not rig.server.connected)
    assert rig.server.counters()["dma_errors"] == 0


def test_a_state_is_saved_from_threads_and_taken_up_by_threads(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    rig.server.state_path = state
    client, rings = rig.up()
    for n in range(5):
        rings.post_legacy(frame(n))
    rings.kick()
    assert rig.wire(client, 5) == [frame(n) for n in range(5)]
    rig.far.send(frame(10))
    rig.until(client, lambda: client.interrupts() > 0)
    with rig.server.guard:
        stats = rig.server.nic.stats.as_dict()
    rig.server.close()
    assert rig.server.nic.stats.as_dict() == stats
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    far.setblocking(False)
    again = os.dup(near.fileno())
    os.set_blocking(again, False)
    near.close()
    monkeypatch.setattr(tap_module, "_open", lambda name, offload: (again, name, 0, ()))
    tap = Tap("fake1", rig.clock)
    with VfioUserServer(
        rig.path, link=tap, clock=rig.clock, mac=MAC, autoneg_ns=0, state=state
    ) as server:
        assert server.data is not None
        with server.guard:
            assert server.nic.stats.as_dict() == stats
        far.send(frame(11))  # nobody is there: it waits
        for _ in range(20):
            rig.clock.run(timeout_ns=1_000_000)
        assert server.memory.table.aborts == 0
        assert client.memory is not None
        back = rig.client()
        back.version()
        # The memory is the old client's, still mapped there: by messages it needs no descriptor.
        back.memory = client.memory
        back.dma_map(client.memory.base, client.memory.size_bytes)
        back.new_trigger()
        rings.slot = back
        got: list[bytes] = []

        def collect() -> bool:
            back.poll()
            got.extend(one.data for one in rings.receive())
            return len(got) >= 2

        rig.until(back, collect)
        assert got == [frame(10), frame(11)]
        assert rings.read(Reg.ICR) & Int.RXT0
        rings.post_legacy(frame(5))
        rings.kick()
        sent: list[bytes] = []

        def look() -> bool:
            back.poll()
            with suppress(BlockingIOError):
                sent.append(far.recv(1 << 16))
            return bool(sent)

        rig.until(back, look)
        assert sent == [frame(5)]
    tap.close()
    far.close()
    back.close()
