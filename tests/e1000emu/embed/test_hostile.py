"""Clients that mean no good, one after the other: the next one must find a NIC that works.

Random, from a seed. Messages are mostly well formed, for only such messages get far. Rings point
into memory that is mapped, unmapped and shortened meanwhile. Descriptors are of every kind, and the
end comes anywhere in a message. Nothing may be left over: no descriptor, no thread, no mapping.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

import e1000emu.links.tap as tap_module
from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.links import Tap
from e1000emu.ports import Link
from e1000emu.testing.guest import Int, Reg
from e1000emu.testing.recorders import RecordingLink
from tests.e1000emu.embed.fakeclient import TIMEOUT_NS, FakeClient, VfioError

CFG = vu.VFIO_PCI_CONFIG_REGION_INDEX
FRAME = b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56" + b"\x08\x00" + bytes(range(50))
CLIENTS, STEPS = 25, 80
HOME = 1 << 24
REGISTERS = [int(reg) for reg in Reg]
RING = (Reg.TDBAL, Reg.TDLEN, Reg.TDH, Reg.TDT, Reg.RDBAL, Reg.RDLEN, Reg.RDH, Reg.RDT)
ENDED = (BrokenPipeError, ConnectionResetError)


class Wire(Protocol):
    """The far end of the NIC's cable."""

    def inject(self, *frames: bytes) -> object:
        """Send frames to the NIC."""

    def take(self) -> list[bytes]:
        """Return what the NIC has sent since the last call."""


@dataclass
class Target:
    """The server that is attacked."""

    path: Path
    clock: RealClock
    wire: Wire
    server: VfioUserServer
    log: list[str]
    came: int = 0
    threaded: bool = False

    def client(self) -> FakeClient:
        """Connect one more client."""
        self.came += 1
        client = FakeClient(self.path, self.clock)
        client.threaded = self.threaded
        return client

    def idle(self) -> None:
        """Let the server go on until it has seen its last client come and go."""

        def over() -> bool:
            return self.server.clients == self.came and not self.server.connected

        assert self.clock.run(over, timeout_ns=TIMEOUT_NS)


@contextmanager
def listening(path: Path, clock: RealClock, link: Link, wire: Wire) -> Iterator[Target]:
    """A server that listens; what it held must be free in the end."""
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    log: list[str] = []
    server = VfioUserServer(path, link=link, clock=clock, report=log.append, autoneg_ns=0)
    yield Target(path, clock, wire, server, log)
    with clock.lock:
        server.close()
    gc.collect()
    assert descriptors() <= before
    assert threading.active_count() == threads


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    """A server in one thread, on a link that only records."""
    clock, link = RealClock(), RecordingLink()
    with listening(tmp_path / "s", clock, link, link) as made:
        yield made
    clock.close()


class FarEnd:
    """The other end of a TAP that is a datagram socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def inject(self, *frames: bytes) -> None:
        with suppress(BlockingIOError):  # its queue is full
            for frame in frames:
                self.sock.send(frame)

    def take(self) -> list[bytes]:
        out: list[bytes] = []
        with suppress(BlockingIOError):
            while True:
                out.append(self.sock.recv(1 << 16))
        return out


@pytest.fixture
def threaded_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A server with its threads beside the clock's, on what it takes for a TAP."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (near, far):
        sock.setblocking(False)
    monkeypatch.setattr(tap_module, "_open", lambda name, offload: (near.detach(), name, 0, ()))
    clock = RealClock()
    tap = Tap("fake0", clock)
    with listening(tmp_path / "s", clock, tap, FarEnd(far)) as made:
        assert made.server.data is not None
        made.threaded = True
        yield made
    tap.close()
    far.close()
    clock.close()


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(os.listdir("/proc/self/fd"))


class Attacker:
    """One client; each method is a step, and `run` takes them at random."""

    def __init__(self, target: Target, rng: random.Random) -> None:
        self.target = target
        self.rng = rng
        self.client = target.client()
        self.client.answers_dma = False
        self.files: list[int] = []
        self.sizes: list[int] = []
        self.other: list[int] = []
        self.maps: list[tuple[int, int]] = []
        self._open()

    def _open(self) -> None:
        for sealed in (False, False, True):
            flags = os.MFD_CLOEXEC | (os.MFD_ALLOW_SEALING if sealed else 0)
            fd = os.memfd_create("attack", flags)
            size = self.rng.randrange(1, 65) * mmap.PAGESIZE
            os.ftruncate(fd, size)
            os.pwrite(fd, self.rng.randbytes(min(size, 1 << 16)), 0)
            if sealed:
                fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            self.files.append(fd)
            self.sizes.append(size)
        self.other += os.pipe()
        self.other.append(os.eventfd(0, os.EFD_NONBLOCK))
        for path, flags in (
            ("/dev/null", os.O_RDWR),
            ("/dev/zero", os.O_RDWR),
            ("/proc/self/maps", os.O_RDONLY),
            ("/", os.O_RDONLY),
            (os.fspath(Path(__file__)), os.O_PATH),
        ):
            self.other.append(os.open(path, flags))

    def close(self) -> None:
        for fd in (*self.files, *self.other):
            os.close(fd)
        self.client.close()

    # --- steps -----------------------------------------------------------------------------------

    def version(self) -> None:
        self.client.post(Command.VERSION, bytes(4) + self.rng.choice([b"", b"{}\0", b"[]\0", b"{"]))

    def map(self) -> None:
        rng = self.rng
        which = rng.randrange(len(self.files))
        pages = self.sizes[which] // mmap.PAGESIZE
        first = rng.randrange(pages)
        size = rng.randint(1, pages - first) * mmap.PAGESIZE
        iova = rng.randrange(0, 1 << 22, mmap.PAGESIZE)
        if rng.random() < 0.1:
            iova, size = rng.getrandbits(64), rng.getrandbits(rng.randint(1, 64))
        fds = [self.files[which]]
        if rng.random() < 0.2:
            fds = rng.choices(self.other + self.files, k=rng.choice([0, 1, 1, 2, 16]))
        payload = vu.DMA_MAP.pack(32, rng.randrange(4), first * mmap.PAGESIZE, iova, size)
        self.client.post(Command.DMA_MAP, payload, fds)
        self.maps.append((iova, size))

    def unmap(self) -> None:
        flags = 0
        iova, size = self.rng.choice(self.maps) if self.maps else (0, 4096)
        if self.rng.random() < 0.1:
            flags, iova, size = 2, 0, 0
        self.client.post(Command.DMA_UNMAP, vu.DMA_UNMAP.pack(24, flags, iova, size))

    def home(self) -> None:
        """Map one file where the rings and buffers are most of the time."""
        payload = vu.DMA_MAP.pack(32, 3, 0, HOME, self.sizes[0])
        self.client.post(Command.DMA_MAP, payload, self.files[:1])

    def address(self) -> int:
        if self.rng.random() < 0.6:
            return HOME + self.rng.randrange(0, self.sizes[0], 256)
        if not self.maps or self.rng.random() < 0.1:
            return self.rng.getrandbits(32)
        iova, size = self.rng.choice(self.maps)
        return (iova + self.rng.randrange(0, max(size, 1) & 0xFFFFF | 1)) & 0xFFFF_FFF0

    def drive(self) -> None:
        """Set both rings up in memory that is mapped, as a driver does, and let them go."""
        if not self.maps:
            self.map()
        rng = self.rng
        for base, length, head, tail in (RING[:4], RING[4:]):
            self.poke(base, self.address() & -4096 if rng.random() < 0.8 else self.address())
            self.poke(length, rng.choice([128, 128, 4096]))
            self.poke(head, 0)
            self.poke(tail, rng.randrange(9))
        self.poke(Reg.CTRL, 0x40 | rng.choice([0, 1]))  # SLU, FD
        self.poke(Reg.IMS, rng.getrandbits(16))
        self.poke(
            Reg.RCTL, 0x8002 | rng.choice([0, 0x18, rng.getrandbits(26)])
        )  # BAM, EN; UPE, MPE
        self.poke(Reg.TCTL, 0x0A | rng.choice([0, rng.getrandbits(24)]))  # PSP, EN
        self.turn()
        self.poke(Reg.TDT, rng.randrange(9))

    def scribble(self) -> None:
        """Fill a page with descriptors: some that a driver could have written, some not."""
        rng = self.rng
        which = rng.choice([0, 0, 1, 2])
        page = rng.randrange(self.sizes[which] // mmap.PAGESIZE)
        out = []
        for _ in range(64):
            length = rng.choice([0, 14, 60, 1514, 1514, 9000, rng.getrandbits(20)])
            command = (
                length | rng.choice([0x0B, 0x09, 0x2B, 0x24, 0xFF]) << 24
            )  # EOP, RS, DEXT, TSE
            if rng.random() < 0.2:
                command |= rng.getrandbits(32)
            out.append(struct.pack("<QII", self.address(), command, rng.getrandbits(32)))
        os.pwrite(self.files[which], b"".join(out), page * mmap.PAGESIZE)

    def shorten(self) -> None:
        """Take pages away from under the server, or give them back as zeros."""
        which = self.rng.randrange(2)  # the third is sealed
        os.ftruncate(self.files[which], self.rng.choice([0, 4096, self.sizes[which]]))

    def poke(self, reg: int, value: int) -> None:
        self.client.bar_write(0, int(reg), value, 4)

    def write(self) -> None:
        rng = self.rng
        reg = rng.choice(RING) if rng.random() < 0.5 else rng.choice(REGISTERS)
        value = rng.getrandbits(32)
        if reg in (Reg.TDBAL, Reg.RDBAL):
            value = self.address()
        elif reg in RING:
            value = rng.choice([0, 1, 7, 8, 128, 4096, 0x8000, value])
        elif reg in (Reg.TCTL, Reg.RCTL):
            value |= 2
        elif reg == Reg.CTRL:
            value &= 0x0FFF_FFFF
        self.poke(reg, value)

    def bus_master(self) -> None:
        head = vu.REGION_ACCESS.pack(4, CFG, 2)
        value = self.rng.choice([0, 3, 7, 7, 7, 7, 7, 0x407])
        self.client.post(Command.REGION_WRITE, head + value.to_bytes(2, "little"))

    def access(self) -> None:
        rng = self.rng
        size = rng.choice([0, 1, 2, 4, 8, 3, 256, 70000, rng.getrandbits(32)])
        offset = rng.choice([rng.randrange(0x2_0004), rng.getrandbits(64)])
        head = vu.REGION_ACCESS.pack(offset, rng.choice([0, 2, 7, rng.getrandbits(32)]), size)
        if rng.random() < 0.5:
            self.client.post(Command.REGION_READ, head)
        else:
            data = rng.randbytes(size if size <= 256 else rng.randrange(64))
            flags = rng.choice([0, vu.NO_REPLY])
            self.client.post(Command.REGION_WRITE, head + data, flags=flags)

    def interrupts(self) -> None:
        rng = self.rng
        flags = rng.choice([0x24, 0x21, 0x11, 0x09, 0x14, rng.getrandbits(6)])
        fds = rng.choices(self.other, k=rng.choice([0, 1, 1, 3]))
        payload = vu.IRQ_SET.pack(20, flags, rng.choice([0, 0, 3, 9]), 0, rng.choice([0, 1, 2]))
        self.client.post(Command.DEVICE_SET_IRQS, payload, fds)

    def reset(self) -> None:
        self.client.post(Command.DEVICE_RESET)

    def unknown(self) -> None:
        rng = self.rng
        self.client.post(
            rng.choice([*Command, 0, 14, 16, 0xFFFF]),
            rng.randbytes(rng.randrange(80)),
            rng.choices(self.other, k=rng.choice([0, 0, 4])),
            flags=rng.choice([0, 0, 0x10, 0x20]),
        )

    def receive(self) -> None:
        self.target.wire.inject(*[FRAME] * self.rng.randint(1, 40))

    def turn(self) -> None:
        self.target.clock.run(timeout_ns=self.rng.choice([1, 1000, 200_000]))

    def read(self) -> None:
        """Read what was answered, which is not looked at."""
        with suppress(BlockingIOError):
            while self.client.sock.recv(1 << 16):
                pass

    def garbage(self) -> None:
        rng = self.rng
        head = vu.HEADER.pack(
            rng.getrandbits(16),
            rng.choice([*Command]),
            rng.choice([0, 15, 16, 70000, (1 << 32) - 1, rng.getrandbits(32)]),
            rng.choice([0, 1, 0x10]),
            0,
        )
        data = rng.choice([head, head[: rng.randrange(16)], rng.randbytes(rng.randrange(1, 200))])
        socket.send_fds(self.client.sock, [data], rng.choices(self.other, k=rng.randrange(17)))

    def run(self) -> None:
        """Take steps until it ends, one way or another."""
        rng = self.rng
        steps: list[tuple[Callable[[], None], float]] = [
            (self.map, 4), (self.unmap, 2), (self.write, 20), (self.bus_master, 2),
            (self.access, 6), (self.interrupts, 3), (self.reset, 0.5), (self.unknown, 2),
            (self.receive, 3), (self.turn, 10), (self.read, 5), (self.version, 0.3),
            (self.garbage, 0.1), (self.drive, 3), (self.scribble, 4),
            (self.shorten, 1),
        ]  # fmt: skip
        calls, weights = zip(*steps, strict=True)
        try:
            if rng.random() < 0.9:
                self.client.version()
                self.client.config_write(4, 7, 2)
                self.home()
                self.scribble()
            for step in rng.choices(calls, weights, k=rng.randrange(STEPS)):
                step()
            if rng.random() < 0.5:
                self.client.sock.shutdown(rng.choice([socket.SHUT_WR, socket.SHUT_RDWR]))
                self.turn()
        except (*ENDED, VfioError):
            pass


def works(target: Target) -> None:
    """A client as QEMU is one finds the NIC as after RST#, and frames cross."""
    client = target.client()
    guest = client.start()
    assert len(target.server.memory) == 1
    assert client.bar_read(0, Reg.IMS, 4) == 0
    guest.pci_enable()
    guest.write(Reg.PBA, 48)  # no reset restores it, and a driver whose frames are to fit writes it
    guest.up(ims=int(Int.RXT0))
    client.run(lambda: target.server.nic.link_up)
    target.wire.take()
    guest.send(FRAME)
    client.run(lambda: FRAME in target.wire.take())
    target.wire.inject(FRAME)
    got: list[bytes] = []

    def came() -> bool:
        got.extend(frame.data for frame in guest.receive())
        return FRAME in got

    client.run(came)
    client.close()
    target.idle()


def attack(target: Target, seed: int | str, clients: int = CLIENTS) -> None:
    """Send clients, one after the other."""
    rng = random.Random(f"hostile {seed}")
    for number in range(clients):
        said = len(target.log)
        attacker = Attacker(target, rng)
        attacker.run()
        attacker.close()
        target.idle()
        target.wire.take()
        # What is said of one client is bounded, whatever it does.
        assert len(target.log) - said <= 40, target.log[said:]
        assert len(target.server.memory) == 0
        if number % 5 == 4:
            works(target)
    # It was hostile, and not only at the door: rings were walked into memory that is not there.
    assert target.server.refusals > clients
    assert target.server.memory.table.aborts > 0


@pytest.mark.parametrize("seed", range(8))
def test_hostile_clients_leave_nothing_behind(target: Target, seed: int) -> None:
    attack(target, seed)


@pytest.mark.parametrize("seed", range(4))
def test_hostile_clients_leave_nothing_behind_in_threads(
    threaded_target: Target, seed: int
) -> None:
    attack(threaded_target, f"in threads {seed}")
