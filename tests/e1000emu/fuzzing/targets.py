"""A fresh device to run a program against: on a virtual clock, or behind vfio-user with threads.

Each step of a program is a method here. What a step may meet is what its caller was promised: the
slot's accesses raise nothing, a vfio-user client may get an error as its answer. `works` is the
promise for the end: after CTRL.RST a driver gets a working device.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import e1000emu.embed.vfio_user.server as server_module
import e1000emu.links.tap as tap_module
from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.links import Tap
from e1000emu.links.base import Middleware
from e1000emu.registers.models import MODELS
from e1000emu.registers.regs import BAR0_BYTES, reg
from e1000emu.testing.bench import BENCH_MAC, make_bench
from e1000emu.testing.guest import GuestRings, Reg
from e1000emu.testing.recorders import RecordingController
from tests.e1000emu.common import RX_ON, frame
from tests.e1000emu.embed.fakeclient import FakeClient, VfioError
from tests.e1000emu.fuzzing.program import BASE, CLOCK, KINDS, Program, Step

RAM, GUARD = 1 << 20, 0x4_0000
LINK_UP_NS = 5_000_000_000
"""Autonegotiation takes less."""
PATIENCE_S = 20.0
LONGEST_PAUSE_NS = 2_000_000
"""A step of time, where time is real."""
MDIC_WRITE = 1 << 26 | 1 << 21
PM_CAPABILITY = 1
STATUS_LU = 2


def controller_of(model: str) -> RecordingController | None:
    """Return a management controller, which a program lets frames in for by MANC, where it is."""
    return None if "MANC" in MODELS[model].lacks else RecordingController()


class Target:
    """What both kinds share."""

    slot: Any
    guest: GuestRings
    nic: Any
    late_frames = False
    """What a program had put on the cable, either way, may still arrive after the reset."""

    def do(self, step: Step) -> None:
        """Do one step."""
        name, *args = step
        getattr(self, name)(*args)

    def write(self, offset: int, value: int, size: int) -> None:
        self.slot.bar_write(0, offset, value, size)

    def read(self, offset: int, size: int) -> None:
        assert 0 <= self.slot.bar_read(0, offset, size) < 1 << 8 * size

    def io(self, address: int, value: int) -> None:
        self.slot.bar_write(self.io_bar(), 0, address, 4)
        self.slot.bar_write(self.io_bar(), 4, value, 4)
        self.slot.bar_read(self.io_bar(), 4, 4)

    def config(self, offset: int, value: int, size: int) -> None:
        self.slot.config_write(offset, value, size)
        self.slot.config_write(4, 7, 2)

    def phy(self, number: int, value: int) -> None:
        """Write a register of the PHY."""
        self.write(reg("MDIC").offset, MDIC_WRITE | number << 16 | value, 4)

    def post(self, descriptors: list[bytes]) -> None:
        """Post descriptors as they are, and ring."""
        for each in descriptors:
            self.guest.post_raw(each.ljust(16, b"\0")[:16])
        self.guest.kick()

    def ours(self, size: int, hold: bool) -> None:
        """Send two frames that the device takes."""
        self.arrive([frame(size), frame(size)], hold=bool(hold))

    def frames(self, frames: list[bytes]) -> None:
        self.arrive(frames)

    def up(self, rctl: int) -> None:
        """Bring the driver up."""
        self.guest.up(mac=BENCH_MAC, rctl=rctl or RX_ON)
        self.wait_link()

    def io_bar(self) -> int:
        return next(bar for bar in (4, 2, 1) if self.slot.config_read(0x10 + 4 * bar, 4) & 1)

    def works(self) -> None:
        """Check the promise."""
        slot = self.slot
        slot.config_write(4, 7, 2)
        at = slot.config_read(0x34, 1)
        while slot.config_read(at, 1) != PM_CAPABILITY:
            at = slot.config_read(at + 1, 1)
        slot.config_write(at + 4, 0, 2)  # D0
        slot.config_write(4, 7, 2)
        for number, value in ((4, 0x0DE1), (9, 0x0F00), (0, 0x9340)):
            self.phy(number, value)
        # no reset restores it, and a driver whose frames are to fit writes it
        self.write(reg("PBA").offset, 48, 4)
        self.cable(True)
        self.room(0)
        self.guest.up(mac=BENCH_MAC, rctl=RX_ON)
        self.write(reg("VET").offset, 0x8100, 4)
        self.wait_link()
        self.sent()
        self.guest.receive()
        out: list[bytes] = []
        got: list[bytes] = []

        def has_left() -> bool:
            out.extend(self.sent())
            return frame(77) in out

        def has_come() -> bool:
            got.extend(each.data for each in self.guest.receive())
            return frame(88) in got

        self.guest.post_legacy(frame(77))
        self.guest.kick()
        self.until(has_left, "no frame leaves the device")
        assert self.late_frames or out == [frame(77)]
        self.arrive([frame(88)])
        self.until(has_come, "no frame arrives in the ring")
        assert self.late_frames or got == [frame(88)]

    def counted(self) -> Iterator[tuple[str, int]]:
        """What the device counted and noted, by name."""
        yield from self.nic.counters().items()
        for event in self.nic.misuse.events():
            yield f"misuse {event.name}", event.count

    # Each kind's own.

    def memory(self, offset: int, data: bytes) -> None:
        """Write where the rings and buffers are."""
        raise NotImplementedError

    def arrive(self, frames: list[bytes], *, hold: bool = False) -> None:
        """Let frames come by the cable."""
        raise NotImplementedError

    def sent(self) -> list[bytes]:
        """Return what left by the cable since the last call."""
        raise NotImplementedError

    def until(self, done: Callable[[], bool], why: str) -> None:
        """Wait.  Raises: AssertionError with `why`."""
        raise NotImplementedError

    def wait_link(self) -> None:
        raise NotImplementedError

    def time(self, ns: int) -> None:
        raise NotImplementedError

    def cable(self, plugged: bool) -> None:
        raise NotImplementedError

    def room(self, how: int) -> None:
        """Let the link take no frame, one, or (0) any number."""
        raise NotImplementedError

    def finish(self) -> None:
        """See that nothing was touched that is not the device's."""

    def close(self) -> None:
        raise NotImplementedError


class OnClock(Target):
    """A device in process, on a virtual clock."""

    def __init__(self, model: str) -> None:
        bench = make_bench(
            model=model,
            ram_bytes=RAM + GUARD,
            management=controller_of(model),
            tx_count=32,
            rx_count=32,
        )
        # What the device must never touch: memory behind a region that is not given to it.
        bench.dma.remove(bench.memory.base, bench.memory.size_bytes)
        bench.dma.add(BASE, bench.memory.buffer[:RAM])
        self._guard = bytes([0xA5]) * GUARD
        bench.memory.write(BASE + RAM, self._guard)
        self.bench = bench
        self.nic, self.slot, self.guest = bench.nic, bench.nic.slot, bench.guest

    def memory(self, offset: int, data: bytes) -> None:
        self.bench.memory.write(BASE + offset, data)

    def arrive(self, frames: list[bytes], *, hold: bool = False) -> None:
        self.bench.link.inject(*frames, hold=hold)

    def sent(self) -> list[bytes]:
        return self.bench.link.take()

    def until(self, done: Callable[[], bool], why: str) -> None:
        assert done(), why

    def wait_link(self) -> None:
        self.bench.clock.run_for(LINK_UP_NS)

    def time(self, ns: int) -> None:
        self.bench.clock.run_for(ns)

    def cable(self, plugged: bool) -> None:
        self.bench.link.set_carrier(bool(plugged))

    def room(self, how: int) -> None:
        self.bench.link.open_room((None, 0, 1)[how])

    def counted(self) -> Iterator[tuple[str, int]]:
        yield from super().counted()
        for name, engine in (("tx", self.nic.tx.engine), ("rx", self.nic.rx.engine)):
            for key, value in engine.state().items():
                if isinstance(value, int):
                    yield f"{name} {key}", value

    def finish(self) -> None:
        bench = self.bench
        assert bench.memory.read(BASE + RAM, GUARD) == self._guard, "memory that is not its own"
        assert len(bench.link.frames) < 200_000, "unbounded work"
        repr(self.nic.regs)
        self.nic.leds()

    def close(self) -> None:
        self.nic.halt()


class OnThreads(Target):
    """A device behind vfio-user: a client like QEMU, a server with threads, a link."""

    late_frames = True

    def __init__(self, model: str, kind: str, record: Path | None = None) -> None:
        with ExitStack() as stack:
            near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for sock in (near, far):
                sock.setblocking(False)
            stack.callback(far.close)
            self._far = far
            self.clock = RealClock()
            stack.callback(self.clock.close)
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "nic"
            opened = (near.detach(), "fake0", 0, ())
            with mock.patch.object(tap_module, "_open", return_value=opened):
                tap = Tap("fake0", self.clock)
            stack.callback(tap.close)
            link: Any = Middleware(tap) if "handed over" in kind else tap
            one = kind.startswith("one")
            with mock.patch.object(server_module, "one_for_all", return_value=one):
                self.server = VfioUserServer(
                    path,
                    link=link,
                    clock=self.clock,
                    model=model,
                    mac=BENCH_MAC,
                    report=lambda text: None,
                    autoneg_ns=100_000,
                    threads=True,
                    record=record,
                    management=controller_of(model),
                )
            stack.callback(self._end)
            self.client = FakeClient(path, self.clock)
            self.client.threaded = True
            stack.callback(self.client.close)
            self.guest = self.client.start(by_message=kind == "unshared memory")
            self.slot, self.nic = self.client, self.server.nic
            self._stack = stack.pop_all()

    def _end(self) -> None:
        with self.clock.lock:
            self.server.close()

    def do(self, step: Step) -> None:
        with suppress(VfioError):
            super().do(step)

    def write(self, offset: int, value: int, size: int) -> None:
        value &= (1 << 8 * size) - 1
        # A posted write has no answer that could say no: this one waits for it now and then.
        if value & 1 or offset + size > BAR0_BYTES:
            self.client.region_write(0, offset, value.to_bytes(size, "little"))
        else:
            super().write(offset, value, size)

    def config(self, offset: int, value: int, size: int) -> None:
        super().config(offset, value & (1 << 8 * size) - 1, size)

    def memory(self, offset: int, data: bytes) -> None:
        assert self.client.memory is not None
        self.client.memory.write(BASE + offset, data)

    def arrive(self, frames: list[bytes], *, hold: bool = False) -> None:
        with suppress(BlockingIOError):  # its queue is full
            for each in frames:
                self._far.send(each)

    def sent(self) -> list[bytes]:
        out: list[bytes] = []
        with suppress(BlockingIOError):
            while True:
                out.append(self._far.recv(1 << 16))
        return out

    def until(self, done: Callable[[], bool], why: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, why
            self.time(200_000)

    def wait_link(self) -> None:
        with suppress(AssertionError):  # a program may have left it without one
            end = time.monotonic() + 0.05
            while not self.guest.read(Reg.STATUS) & STATUS_LU:
                assert time.monotonic() < end
                self.time(200_000)

    def time(self, ns: int) -> None:
        with self.clock.lock:
            self.clock.run(timeout_ns=min(ns, LONGEST_PAUSE_NS))
        self.client.poll()

    def cable(self, plugged: bool) -> None:
        with self.clock.lock, self.server.guard:
            self.nic.link.port.link_changed(bool(plugged), 1000, True)

    def room(self, how: int) -> None:
        if not how:
            self.sent()

    def works(self) -> None:
        super().works()
        assert self.client.gone is False

    def counted(self) -> Iterator[tuple[str, int]]:
        with self.clock.lock, self.server.guard:
            yield from list(super().counted())

    def close(self) -> None:
        self._stack.close()


def make(program: Program) -> Target:
    """Return the target that a program asks for."""
    assert program.kind in KINDS
    if program.kind == CLOCK:
        return OnClock(program.model)
    return OnThreads(program.model, program.kind)
