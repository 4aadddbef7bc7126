"""Descriptors written back by messages, as the hardest client applies them.

A client may copy what a DMA_WRITE brings in any order and store bytes of it twice, while the
guest's processors run. glibc's memcpy of 8 to 15 bytes is two stores of 8 that overlap. Only a
single byte is stored once. A driver that polls owns a descriptor as soon as it sees DD, and gives
it back
at once: whatever is stored there afterwards undoes that.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import pytest

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.protocol import Command, Message
from e1000emu.testing.guest import GuestRings, Rctl, Reg, RxStatus, TxCmd
from tests.e1000emu.embed.fakeclient import FakeClient, Rig

DESC_BYTES, STATUS_AT = 16, 12
SIZES = [60, 1514, 2052, 9000]
POISON = b"\xee"


def frames_of(size: int, count: int) -> list[bytes]:
    """Return frames that all differ, throughout."""
    head = b"\xff" * 6 + b"\x52\x54\x00\x12\x34\x56\x08\x00"
    return [head + random.Random(n).randbytes(size - 14) for n in range(count)]


def forwards(addr: int, count: int) -> list[int]:
    return list(range(count))


def backwards(addr: int, count: int) -> list[int]:
    return list(range(count))[::-1]


def status_first(addr: int, count: int) -> list[int]:
    """What a driver polls comes before what it tells of."""
    return sorted(range(count), key=lambda i: (addr + i) % DESC_BYTES != STATUS_AT)


def status_last(addr: int, count: int) -> list[int]:
    return sorted(range(count), key=lambda i: (addr + i) % DESC_BYTES == STATUS_AT)


def shuffled(addr: int, count: int) -> list[int]:
    return random.Random(addr).sample(range(count), count)


Order = Callable[[int, int], list[int]]
ORDERS: list[Order] = [forwards, backwards, status_first, status_last, shuffled]


class BytewiseClient(FakeClient):
    """Stores what goes to the rings byte by byte, all of it twice; the driver runs in between."""

    order: Order
    driver: Callable[[], None]
    rings: tuple[range, ...] = ()

    def answer_dma(self, message: Message) -> None:
        addr, count = vu.DMA_ACCESS.unpack_from(message.payload)
        if message.command != Command.DMA_WRITE or not any(addr in ring for ring in self.rings):
            super().answer_dma(message)
            return
        self.dma_log.append((message.command, addr, count))
        assert self.memory is not None
        data = message.payload[vu.DMA_ACCESS.size :]
        order = self.order(addr, count)
        for at in order * 2 if count > 1 else order:
            self.memory.write(addr + at, data[at : at + 1])
            self.driver()
        self.say(vu.reply(message, message.payload[: vu.DMA_ACCESS.size]))


def up(rig: Rig, order: Order) -> tuple[BytewiseClient, GuestRings]:
    client = BytewiseClient(rig.path, rig.clock)
    rig.clients.append(client)
    client.order, client.driver = order, lambda: None
    guest = client.start(by_message=True)
    guest.up(rctl=Rctl.EN | Rctl.BAM | Rctl.SECRC | Rctl.LPE)
    client.run(lambda: rig.server.nic.link_up)
    client.settle()
    client.rings = tuple(range(r.base, r.base + r.size_bytes) for r in (guest.rx, guest.tx))
    return client, guest


class PollingReceiver:
    """Takes frames and gives each descriptor back at once, with another buffer, as DPDK's em."""

    def __init__(self, guest: GuestRings) -> None:
        self.guest = guest
        self.ring = guest.rx
        self.size = guest.rx_buffer_bytes
        self.given = [addr for addr, _ in self.ring.buffers]
        self.spare = [guest.memory.alloc(self.size, 16) for _ in range(self.ring.count)]
        self.next = 0
        self.open = b""
        self.frames: list[bytes] = []
        self.wrong: list[str] = []

    def poll(self) -> None:
        memory = self.guest.memory
        while True:
            at = self.ring.address(self.next)
            address, length, _, status, errors, _ = struct.unpack(
                "<QHHBBH", memory.read(at, DESC_BYTES)
            )
            if not status & RxStatus.DD:
                return
            mine = self.given[self.next]
            if address != mine or errors:
                self.wrong.append(f"{self.next}: {address:#x} for {mine:#x}, errors {errors:#x}")
            self.open += memory.read(mine, min(length, self.size))
            if status & RxStatus.EOP:
                self.frames.append(self.open)
                self.open = b""
            memory.write(mine, POISON * self.size)
            self.spare.append(mine)
            self.given[self.next] = self.spare.pop(0)
            memory.write(at, struct.pack("<Q", self.given[self.next]))
            memory.write(at + STATUS_AT, b"\0")
            self.next = (self.next + 1) % self.ring.count

    def give(self) -> None:
        """Move the tail."""
        self.guest.write(Reg.RDT, (self.next - 1) % self.ring.count)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ORDERS)
def test_receive_survives_bytewise_stores(rig: Rig, order: Order, size: int) -> None:
    client, guest = up(rig, order)
    driver = PollingReceiver(guest)
    client.driver = driver.poll
    sent = frames_of(size, 60)
    at, step = 0, max(1, guest.rx.count // (size // guest.rx_buffer_bytes + 1) // 2)
    for _ in range(len(sent) * 4):
        if at < len(sent):
            at += rig.link.inject(*sent[at : at + step], hold=True)
        client.settle()
        driver.give()
        client.settle()
        if len(driver.frames) >= len(sent):
            break
    driver.poll()
    assert driver.wrong == []
    assert [frame[:40] for frame in driver.frames] == [frame[:40] for frame in sent]
    assert driver.frames == sent
    for index, address in enumerate(driver.given):
        assert guest.memory.read64(guest.rx.address(index)) == address


class PollingSender:
    """Keeps the ring full: a descriptor that shows DD is used again at once."""

    def __init__(self, guest: GuestRings, frames: list[bytes]) -> None:
        self.guest = guest
        self.ring = guest.tx
        self.todo = list(frames)
        self.clean = self.use = 0
        self.size = max(map(len, frames))
        self.buffers = [guest.memory.alloc(self.size, 16) for _ in range(self.ring.count)]
        self.posted: dict[int, bytes] = {}
        self.wrong: list[str] = []

    def post(self) -> None:
        memory = self.guest.memory
        while self.todo and (self.use + 1) % self.ring.count != self.clean:
            frame, at = self.todo.pop(0), self.ring.address(self.use)
            memory.write(self.buffers[self.use], frame)
            desc = struct.pack(
                "<QHBBBBH", self.buffers[self.use], len(frame), 0,
                TxCmd.EOP | TxCmd.IFCS | TxCmd.RS, 0, 0, 0,
            )  # fmt: skip
            memory.write(at, desc)
            self.posted[self.use] = desc
            self.use = (self.use + 1) % self.ring.count

    def poll(self) -> None:
        memory = self.guest.memory
        while self.clean != self.use:
            at = self.ring.address(self.clean)
            desc = memory.read(at, DESC_BYTES)
            if not desc[STATUS_AT] & 1:
                break
            if desc[:STATUS_AT] != self.posted[self.clean][:STATUS_AT]:
                self.wrong.append(f"{self.clean}: {desc.hex()}")
            self.clean = (self.clean + 1) % self.ring.count
            self.post()


@pytest.mark.parametrize("order", ORDERS)
def test_transmit_survives_bytewise_stores(rig: Rig, order: Order) -> None:
    client, guest = up(rig, order)
    sent = [frames_of(60 + n, 1)[0] for n in range(200)]
    driver = PollingSender(guest, sent)
    client.driver = driver.poll
    driver.post()
    for _ in range(100):
        guest.kick(driver.use)
        rig.link.open_room(5)  # the ring goes in several runs
        client.settle()
        if driver.clean == driver.use and not driver.todo:
            break
    assert driver.wrong == []
    assert rig.link.take() == sent


def test_what_the_driver_owns_is_never_sent_back(rig: Rig) -> None:
    """Addresses are the driver's; of a transmit descriptor all but the status is."""
    client, guest = up(rig, forwards)
    client.dma_log.clear()
    guest.send(*frames_of(200, 12))
    rig.link.inject(*frames_of(3000, 4))
    client.settle()
    assert len(guest.receive()) == 4
    rx, tx = client.rings
    writes = [(at, n) for command, at, n in client.dma_log if command == Command.DMA_WRITE]
    to_rx = [(at - rx.start, n) for at, n in writes if at in rx]
    to_tx = [(at - tx.start, n) for at, n in writes if at in tx]
    assert to_tx == [(DESC_BYTES * i + STATUS_AT, 1) for i in range(12)]
    touched = {at + i for at, n in to_rx for i in range(n)}
    assert touched == {DESC_BYTES * i + k for i in range(8) for k in range(8, 16)}
