"""From doorbell to interrupt: what is sent and stored, when, and what is left to Python.

Frames leave and come in order, none twice, and only while nothing stops them; that they leave at
last is checked at the end of each run. Drivers, ours and Linux's, judge the whole device.
"""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref.e1000_hw import CTRL_RFCE, CTRL_TFCE
from fastpath._ref.e1000_hw import REGISTERS as OFFSETS
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic import macpath
from fastpath.nic.irqblock import REGISTERS, IrqBlock
from fastpath.nic.regfile import RegFile, Stats
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine
from tests.fastpath.rings import registers

IMS, RDTR, TIDV = (REGISTERS[name] for name in ("IMS", "RDTR", "TIDV"))
TXDW, RXT0 = 0x1, 0x80
TX_RING, RX_RING = 64, 32


class Line:
    def set_level(self, level: bool) -> None:
        self.level = level


class Clock:
    def now_ns(self) -> int:
        return 1000

    def call_at(self, when: int, fn: Any) -> Any:
        return self

    def cancel(self) -> None:
        pass


def irq_of() -> IrqBlock:
    """Return an interrupt block with all causes enabled and a delay each way."""
    irq, file = IrqBlock(), RegFile(0x1000)
    for off in REGISTERS.values():
        file.define(off // 4)
    irq._bind(file, Clock(), Line())
    for off, value in ((IMS, 0x1FFFF), (RDTR, 5), (TIDV, 5)):
        file.poke(off, value)
    return irq


class Link:
    """Takes `room` frames; calls the port back `again` times from within."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.room = self.again = 0
        self.port: Any = None

    def tx_room(self) -> int:
        return self.room

    def transmit(self, batch: FrameBatch) -> None:
        self.room -= len(batch)
        self.frames += batch
        if self.again:
            self.again -= 1
            self.port.pump()


class Tx(macpath.TxPort):
    """Posts descriptors of frames, and notes what is left to Python."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.memory, dma = HostMemory(1 << 20), DmaTable()
        dma.add(self.memory.base, self.memory.buffer)
        dma.enabled = True
        self.shared, self.link, self.irq, self.regs = (
            macpath.MacState(),
            Link(),
            irq_of(),
            registers(),
        )
        ring = self.memory.alloc(16 * TX_RING)
        self.regs["TDBAL"], self.regs["TDLEN"], self.regs["TCTL"] = ring, 16 * TX_RING, 2
        engine = TxEngine(dma, Stats(), self.regs.file)
        self._bind(engine, self.shared, self.irq, self.reset)
        self._use(self.link)
        self.link.port, self.open = self, True
        self.buffers = [self.memory.alloc(128) for _ in range(TX_RING)]
        self.posted: list[bytes] = []

    def reset(self) -> None:
        self.shared.reset_pending = False
        self.log.append("reset")

    def post(self, count: int, cmd: int) -> None:
        """Give as many frames as the ring has room for."""
        for _ in range(min(count, TX_RING - 1 - len(self.posted) + len(self.link.frames))):
            number = len(self.posted)
            at, frame = number % TX_RING, struct.pack(">I", number) * 15 + bytes(number % 10)
            self.memory.write(self.buffers[at], frame)
            desc = struct.pack("<QHBBBBH", self.buffers[at], len(frame), 0, cmd, 0, 0, 0)
            self.memory.write(self.engine.base + 16 * at, desc)
            self.posted.append(frame)
        self.regs["TDT"] = len(self.posted) % TX_RING

    def _explain(self) -> None:
        self.log.append("explain")

    def _odd_tail(self) -> None:
        self.log.append("odd tail")

    def _later(self) -> None:
        self.log.append("later")

    def _rest(self) -> None:
        self.log.append("rest")

    def _rare(self, flags: int) -> None:
        self.log.append(flags)


TX_OPS = st.lists(
    st.tuples(
        st.sampled_from(
            (
                *("post", "room", "pump", "again", "open"),
                *("pause", "reset", "tctl", "credit", "rest", "still"),
            )
        ),
        st.integers(0, 20),
    ),
    max_size=30,
)


def test_a_tail_of_the_rings_size_is_told() -> None:
    tx = Tx()
    tx.regs.file.define(OFFSETS["TDT"] // 4, rw=0xFFFFFFFF, on_write=tx)
    for value in (0, 63, 64, 65):
        tx.regs.file.write32(OFFSETS["TDT"], value)
    assert tx.log.count("odd tail") == 1
    assert tx.doorbells == 4


def still(port: Any, on: bool) -> None:
    """Pause the device, or let it go on."""
    port.shared.still = on
    if not on:
        port.go_on()


@given(TX_OPS)
def test_frames_leave_in_order_while_nothing_stops_them(
    ops: list[tuple[str, int]],
) -> None:
    tx = Tx()
    link = tx.link
    for name, value in [*ops, *GO]:
        before, credit = len(link.frames), tx.credit
        if name == "again":
            link.again = value
        elif name == "open":
            tx.open = bool(value % 4)
        elif name == "pause":
            tx.paused = bool(value % 3)
        elif name == "reset":
            tx.shared.reset_pending = value > 15
        elif name == "credit":
            tx.credit = credit = value
        elif name == "rest":
            tx.resting = bool(value % 2)
        elif name == "still":
            still(tx, bool(value % 2))
        elif name == "tctl":
            tx.regs["TCTL"] = 2 if value % 5 else 0
        else:
            if name == "room":
                link.room += value
            elif name == "post":
                tx.post(value, 0x8B if value % 3 else 0x0B)  # with and without IDE
            tx.pump()
        assert tx.stopped_by == (
            macpath.TX_DISABLED * (not tx.regs["TCTL"] & 2)
            | macpath.TX_NO_LINK * (not tx.open)
            | macpath.TX_XOFF * tx.paused
            | macpath.TX_STILL * tx.shared.still
            | macpath.TX_RESTING * tx.resting
        )
        sent = len(link.frames) - before
        assert link.frames == tx.posted[: before + sent]
        assert not (sent and tx.stopped_by)
        assert tx.credit == credit - sent
        assert tx.engine.head == len(link.frames) % TX_RING
        assert tx.put_off <= tx.shared.still
        assert (tx._pumping, tx.shared.in_engine) == (False, False)
        assert tx.room() == min(link.room, macpath.BATCH_FRAMES)
        waits = bool(tx.irq.causes & TXDW or tx.irq._next_due())
        assert waits == bool(link.frames)
    assert link.frames == tx.posted


GO = [
    *[("tctl", 1), ("open", 1), ("pause", 0), ("rest", 0), ("again", 0), ("reset", 0)],
    *[("still", 0), ("credit", 10**6), ("room", 1000), ("pump", 0)],
]
"""With this nothing stops frames."""


class Rx(macpath.RxPort):
    """Stores frames, and notes what is left to Python."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        memory, dma = HostMemory(1 << 20), DmaTable()
        dma.add(memory.base, memory.buffer)
        dma.enabled = True
        self.shared, self.stats = macpath.MacState(), Stats()
        self.irq, self.regs = irq_of(), registers()
        ring = memory.alloc(16 * RX_RING)
        self.regs["RDBAL"], self.regs["RDLEN"], self.regs["RCTL"] = ring, 16 * RX_RING, 0x2 | 0x8
        engine = RxEngine(dma, self.stats, RxFilter(self.regs.file))
        where = memory.alloc(2048)
        for i in range(RX_RING):
            memory.write64(ring + 16 * i, where)
        self._bind(engine, self.shared, self.irq, self.reset)
        self.fifo_changed = lambda: self.log.append("fifo")
        self.open = True

    def reset(self) -> None:
        self.shared.reset_pending = False
        self.log.append("reset")

    def _odd_tail(self) -> None:
        self.log.append("odd tail")

    def _release(self) -> None:
        self._held = False

    def _asleep(self, batch: FrameBatch, start: int) -> bool:
        self.log.append("asleep")
        return len(batch) % 2 == 0

    def _managed(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.log.append("managed")
        return start if len(batch) % 3 == 0 else self._pass_on(batch, start, hold)

    def _with_control(self, batch: FrameBatch, start: int, first: int, hold: bool) -> int:
        self.log.append(("control", first))
        return len(batch)


RX_OPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("frames", "held", "tail", "open", "reset", "watch", "wake", "xoff", "control", "still")
        ),
        st.integers(0, 40),
    ),
    max_size=30,
)


def test_an_odd_tail_is_told() -> None:
    rx = Rx()
    rx.regs.file.define(OFFSETS["RDT"] // 4, rw=0xFFFFFFFF, on_write=rx)
    for value in (0, 31, 32, 33):
        rx.regs.file.write32(OFFSETS["RDT"], value)
    assert rx.log.count("odd tail") == 2
    assert rx.doorbells == 4


def take(rx: Rx, value: int, hold: bool) -> None:
    """Bring `value` frames of as many types, and check what becomes of them."""
    frames = [bytes(12) + struct.pack(">H", 0x8808 + i) + bytes(60) for i in range(value)]
    start, before = min(value, 2), len(rx.log)
    counted, wanted = rx.stats["TPR"], rx.regs["FCT"] - 0x8808
    left = rx.shared.still and (hold or start == value)  # before anything looks at them
    asked = rx.watching if rx.open and not left else 0
    end = rx.receive(FrameBatch(frames), start, hold)
    told = rx.log[before:]
    stored = rx.stats["TPR"] - counted
    assert start <= end <= value
    assert stored in (0, end - start)
    if not rx.open or (rx.shared.still and hold):
        assert not stored
        assert end == (start if hold and rx.shared.still and start < value else value)
    elif asked & macpath.WATCH_MANAGEMENT:
        assert "managed" in told
    elif asked and value % 2 == 0:
        assert told == ["asleep"]
        assert (stored, end) == (0, value)
    elif rx.regs["CTRL"] & CTRL_RFCE and start <= wanted < value:
        assert ("control", wanted) in told
        assert not stored
    else:
        assert stored == end - start
        assert hold or end == value
        assert rx._held or end == value


@given(RX_OPS)
def test_frames_are_stored_or_left_to_whom_they_are_for(ops: list[tuple[str, int]]) -> None:
    rx = Rx()
    rx.regs.file.define(OFFSETS["RDT"] // 4, rw=0xFFFFFFFF, on_write=rx)
    for name, value in ops:
        if name in ("frames", "held"):
            take(rx, value, name == "held")
        elif name == "tail":
            rx.regs.file.write32(OFFSETS["RDT"], value)
        elif name == "open":
            rx.open = bool(value % 4)
        elif name == "reset":
            rx.shared.reset_pending = value > 30
        elif name == "watch":
            rx.regs["CTRL"] ^= CTRL_TFCE * (value % 2)
            rx.regs["FCRTH"] = value << 3
        elif name == "still":
            still(rx, bool(value % 2))
        elif name == "wake":
            rx.watching = value % 4
        elif name == "xoff":
            rx.xoff_sent = bool(value % 2)
        else:
            rx.regs["CTRL"] ^= CTRL_RFCE * (value % 2)
            rx.regs["FCT"] = 0x8808 + value
        used, high = rx.engine.fifo_used, rx.regs["FCRTH"]
        crossed = used == 0 if rx.xoff_sent else used > high  # FCRTL is 0
        assert rx.pause_due == bool(rx.regs["CTRL"] & CTRL_TFCE and high and crossed)
        assert rx.put_off <= rx.shared.still
        assert not rx.shared.in_engine
        stored = rx.stats["TPR"] - rx.engine.fifo_frames - rx.stats["MPC"]
        assert bool(rx.irq.causes & RXT0 or rx.irq._next_due()) == bool(stored)


@given(
    st.integers(-1, 3),
    st.sampled_from((-4, 0, 2, 4, 8, 1 << 40)),
    st.sampled_from((1, 2, 4, 8)),
    st.booleans(),
    st.sampled_from((-1, 0, 5, 0xFFFFFFFF, 1 << 40)),
)
def test_a_window_serves_dwords_and_leaves_the_rest(
    bar: int, off: int, size: int, on: bool, value: int
) -> None:
    log: list[Any] = []

    class Slot(macpath.BarWindow):
        def _slow_read(self, *args: int) -> int:
            log.append(args)
            return 7

        def _slow_write(self, *args: int) -> None:
            log.append(args)

    file, mac, slot = RegFile(4), macpath.MacState(), Slot()
    for i in range(4):
        file.define(i, rw=0xFFFFFFFF)
    mac.memory_on = on
    slot._bind(file, mac)
    slot.bar_write(bar, off, value, size)
    read = slot.bar_read(bar, off, size)
    if on and bar == 0 and size == 4 and off >= 0 and off % 4 == 0:
        assert log == []
        assert read == (value & 0xFFFFFFFF if off < 16 else 0)
    else:
        assert log == [(bar, off, value, size), (bar, off, size)]
        assert read == 7
        assert file.state() == bytes(16)
