"""A vfio-user client like QEMU, in the same thread as its server.

It answers the server's DMA requests whenever it reads its socket (`poll`), from `memory`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command, Message, MessageReader
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLink
from fastpath.base.dma import HostMemory

TIMEOUT_NS = 60_000_000_000
LOOK_NS, LONGEST_LOOK_NS = 200_000, 20_000_000
QEMU_VERSION = (
    b'{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, '
    b'"max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, '
    b'"pgsize": 4096}, "write_multiple": true}}\0'
)
RAM_BASE = 0x10_0000
RAM_BYTES = 16 << 20


class VfioError(Exception):
    """An error reply; `number` is its errno."""

    def __init__(self, number: int) -> None:
        super().__init__(os.strerror(number))
        self.number = number


class FakeClient:
    """Connects, and offers each request as a method.  It is a `Slot` for GuestRings too."""

    def __init__(self, path: Path, clock: RealClock) -> None:
        self.clock = clock
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(path))
        self.sock.setblocking(False)
        self.reader = MessageReader()
        self.got: list[Message] = []
        self.gone = False
        self.ident = 0
        self.trigger = -1
        self.memory: HostMemory | None = None
        self.threaded = False
        """Whether the server has its own threads."""
        self.dma_reads = self.dma_writes = 0
        self.dma_log: list[tuple[int, int, int]] = []
        """(command, address, count) of each DMA request."""
        self.answers_dma = True
        """False: they are kept in `unanswered`."""
        self.unanswered: list[Message] = []

    def close(self) -> None:
        """Close without a message, like a killed QEMU."""
        self.sock.close()
        if self.trigger >= 0:
            os.close(self.trigger)
            self.trigger = -1

    # --- messages --------------------------------------------------------------------------------

    def run(self, until: Callable[[], bool]) -> None:
        """Run the server until `until()`."""
        end = time.monotonic_ns() + TIMEOUT_NS
        # A server with threads answers without waking the clock: look again and again, each time
        # for longer. Where looking alone takes that long the clock would never get its turn.
        pause_ns = LOOK_NS if self.threaded else TIMEOUT_NS
        while True:
            with self.clock.lock:
                if self.clock.wait(until, pause_ns):
                    return
            assert time.monotonic_ns() < end
            pause_ns = min(2 * pause_ns, LONGEST_LOOK_NS)

    def gather(self, wanted: int) -> None:
        """Run the server until `wanted` messages have arrived, as long as some arrive."""

        def more() -> bool:
            return self.poll() and len(self.got) > had

        while (had := len(self.got)) < wanted and not self.gone:
            self.run(more)

    def poll(self) -> bool:
        """Read from the server; return whether there is a message or the end."""
        while not self.gone:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                data = b""
            self.gone = not data
            for message in self.reader.feed(data):
                if message.is_reply:
                    self.got.append(message)
                elif self.answers_dma:
                    self.answer_dma(message)
                else:
                    self.unanswered.append(message)
            assert not self.reader.error
        return self.gone or bool(self.got)

    def settle(self) -> None:
        """Let the server finish its work, and answer its DMA."""
        for _ in range(8):
            with self.clock.lock:
                self.clock.run(timeout_ns=100_000)
            self.poll()

    def answer_dma(self, message: Message) -> None:
        """Serve a DMA request as QEMU does: ENODEV if there is no memory."""
        addr, count = vu.DMA_ACCESS.unpack_from(message.payload)
        self.dma_log.append((message.command, addr, count))
        memory, head = self.memory, message.payload[:16]
        assert memory is not None
        try:
            if message.command == Command.DMA_READ:
                self.dma_reads += 1
                answer = vu.reply(message, head + memory.read(addr, count))
            else:
                assert message.command == Command.DMA_WRITE
                assert len(message.payload) == 16 + count
                self.dma_writes += 1
                memory.write(addr, message.payload[16:])
                answer = vu.reply(message, head)
        except IndexError:
            answer = vu.error_reply(message, errno.ENODEV)
        self.say(answer)

    def say(self, data: bytes) -> None:
        """Send raw bytes."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                with self.clock.lock:
                    self.clock.run(timeout_ns=100_000)

    def post(
        self, command: int, payload: bytes = b"", fds: Sequence[int] = (), *, flags: int = 0
    ) -> int:
        """Send one message by one sendmsg; return its id."""
        self.ident = ident = self.ident + 1 & 0xFFFF
        data = vu.pack(ident, command, payload, flags=flags)
        while True:
            try:
                assert socket.send_fds(self.sock, [data], list(fds)) == len(data)
                return ident
            except BlockingIOError:
                self.clock.run(timeout_ns=1_000_000)  # the socket is full: the server's turn

    def answer(self, ident: int) -> bytes:
        """Wait for the answer to message `ident`, which must be the next one."""
        self.run(lambda: bool(self.got) or self.poll())
        if not self.got:
            raise ConnectionResetError
        message = self.got.pop(0)
        assert message.id == ident
        if message.flags & vu.ERROR:
            assert message.flags == vu.TYPE_REPLY | vu.ERROR
            assert message.payload == b""
            raise VfioError(message.error)
        assert message.flags == vu.TYPE_REPLY
        assert message.error == 0
        return message.payload

    def request(self, command: int, payload: bytes = b"", fds: Sequence[int] = ()) -> bytes:
        """Send a request and wait for its answer."""
        return self.answer(self.post(command, payload, fds))

    # --- requests --------------------------------------------------------------------------------

    def version(self) -> bytes:
        """Shake hands."""
        return self.request(Command.VERSION, bytes(4) + QEMU_VERSION)

    def dma_map(
        self, iova: int, size: int, fd: int | None = None, *, offset: int = 0, flags: int = 3
    ) -> bytes:
        """Map a piece."""
        payload = vu.DMA_MAP.pack(32, flags, offset, iova, size)
        return self.request(Command.DMA_MAP, payload, () if fd is None else (fd,))

    def dma_unmap(self, iova: int, size: int, *, flags: int = 0) -> int:
        """Unmap; return the size in the reply."""
        payload = self.request(Command.DMA_UNMAP, vu.DMA_UNMAP.pack(24, flags, iova, size))
        return int(vu.DMA_UNMAP.unpack(payload)[3])

    def region_read(self, region: int, offset: int, size: int) -> bytes:
        """Read a region."""
        head = vu.REGION_ACCESS.pack(offset, region, size)
        payload = self.request(Command.REGION_READ, head)
        assert payload[:16] == head
        assert len(payload) == 16 + size
        return payload[16:]

    def region_write(self, region: int, offset: int, data: bytes) -> None:
        """Write a region and wait."""
        head = vu.REGION_ACCESS.pack(offset, region, len(data))
        assert self.request(Command.REGION_WRITE, head + data) == head

    def set_irqs(
        self, flags: int, count: int = 1, fds: Sequence[int] = (), *, index: int = 0
    ) -> None:
        """Send SET_IRQS."""
        payload = vu.IRQ_SET.pack(20, flags, index, 0, count)
        assert self.request(Command.DEVICE_SET_IRQS, payload, fds) == b""

    # --- PciSlot ---------------------------------------------------------------------------------

    def config_read(self, off: int, size: int) -> int:
        """Read configuration space."""
        return int.from_bytes(
            self.region_read(vu.VFIO_PCI_CONFIG_REGION_INDEX, off, size), "little"
        )

    def config_write(self, off: int, value: int, size: int) -> None:
        """Write configuration space."""
        data = value.to_bytes(size, "little")
        self.region_write(vu.VFIO_PCI_CONFIG_REGION_INDEX, off, data)

    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read a BAR."""
        return int.from_bytes(self.region_read(bar, off, size), "little")

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write a BAR: posted when it is memory."""
        data = value.to_bytes(size, "little")
        if bar:
            self.region_write(bar, off, data)
        else:
            head = vu.REGION_ACCESS.pack(off, bar, size)
            self.post(Command.REGION_WRITE, head + data, flags=vu.NO_REPLY)

    def bar_size(self, bar: int) -> int:
        """Ask for a BAR's size."""
        payload = self.request(
            Command.DEVICE_GET_REGION_INFO, vu.REGION_INFO.pack(32, 0, bar, 0, 0, 0)
        )
        return int(vu.REGION_INFO.unpack(payload)[4])

    # --- the start of QEMU -----------------------------------------------------------------------

    def map_ram(self, *, by_message: bool = False) -> HostMemory:
        """Create the guest's RAM in a memfd and map it, or announce it without a descriptor."""
        if by_message:
            self.memory = HostMemory(RAM_BYTES, base=RAM_BASE)
            self.dma_map(RAM_BASE, RAM_BYTES)
            return self.memory
        fd = os.memfd_create("guest-ram")
        os.ftruncate(fd, RAM_BYTES)
        self.memory = HostMemory(RAM_BYTES, base=RAM_BASE, fd=fd)
        self.dma_map(RAM_BASE, RAM_BYTES, fd)
        os.close(fd)
        return self.memory

    def new_trigger(self) -> None:
        """Give the server a fresh eventfd for INTx."""
        if self.trigger >= 0:
            os.close(self.trigger)
        self.trigger = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.set_irqs(0x24, 1, [self.trigger])

    def interrupts(self) -> int:
        """Number of writes to the eventfd since the last call."""
        try:
            return os.eventfd_read(self.trigger)
        except BlockingIOError:
            return 0

    def unmask(self) -> None:
        """Unmask, as after the guest's first register access following an interrupt."""
        self.set_irqs(0x11)

    def start_function(self) -> None:
        """Set up INTx, place BAR 0, enable decoding and bus mastering."""
        self.new_trigger()
        self.config_write(0x10, 0xFEBC_0000, 4)
        self.config_write(0x04, 0x0007, 2)

    def start(self, *, by_message: bool = False) -> GuestRings:
        """Shake hands, map RAM, set INTx up, enable the function; return the fake driver."""
        self.version()
        memory = self.map_ram(by_message=by_message)
        self.start_function()
        return GuestRings(self, memory, tx_count=16, rx_count=16, step=self.settle)


def u32(data: bytes) -> int:
    """Return four little-endian bytes as a number."""
    return int(struct.unpack("<I", data)[0])


@dataclass
class Rig:
    """One server on a recording link, and its clients."""

    path: Path
    clock: RealClock
    link: RecordingLink
    server: VfioUserServer
    log: list[str]
    clients: list[FakeClient]

    def client(self) -> FakeClient:
        """Connect another client."""
        client = FakeClient(self.path, self.clock)
        self.clients.append(client)
        return client


def error_of(call: object, *args: object, **fields: object) -> int:
    """Call, expect an error reply, and return its errno."""
    with pytest.raises(VfioError) as caught:
        call(*args, **fields)  # type: ignore[operator]
    return caught.value.number
