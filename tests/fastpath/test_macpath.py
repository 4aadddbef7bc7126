"""The compiled path from doorbell to interrupt against its twin."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import irqblock as ref_irq
from fastpath._ref import macpath as ref
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

ICR, IMS, RDTR, TIDV = (REGISTERS[name] for name in ("ICR", "IMS", "RDTR", "TIDV"))


class Line:
    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def set_level(self, level: bool) -> None:
        self.log.append(("line", bool(level)))


class Clock:
    def now_ns(self) -> int:
        return 1000

    def call_at(self, when: int, fn: Any) -> Any:
        return self

    def cancel(self) -> None:
        pass


class RefIrq:
    """What the twins of the ports tell goes to the twin of the interrupt block."""

    def __init__(self, log: list[Any]) -> None:
        self.block = ref_irq.IrqBlock(lambda level: log.append(("line", level)))
        self.block.regs |= {"IMS": 0x1FFFF, "RDTR": 5, "TIDV": 5}

    def sent(self, *told: Any) -> None:
        self.block.sent(*told, 1000)

    def received(self, *told: Any) -> None:
        self.block.received(*told, 1000)

    def state(self) -> tuple[int, int]:
        return self.block.regs["ICR"], self.block.next_due()


def irq_of(kind: Any, log: list[Any]) -> Any:
    """Return an interrupt block with all causes enabled and a delay each way."""
    if kind is ref:
        return RefIrq(log)

    class Irq(IrqBlock):
        def state(self) -> tuple[int, int]:
            return self.causes, self._next_due()

    irq, file = Irq(), RegFile(0x1000)
    for off in REGISTERS.values():
        file.define(off // 4)
    irq._bind(file, Clock(), Line(log))
    for off, value in ((IMS, 0x1FFFF), (RDTR, 5), (TIDV, 5)):
        file.poke(off, value)
    return irq


class Link:
    """Takes `room` frames."""

    def __init__(self, log: list[Any]) -> None:
        self.log, self.room, self.again = log, 0, 0
        self.port: Any = None

    def tx_room(self) -> int:
        return self.room

    def transmit(self, batch: FrameBatch) -> None:
        self.room -= len(batch)
        self.log += list(batch)
        if self.again:
            self.again -= 1
            self.port.pump()


def tx_of(kind: Any) -> tuple[Any, HostMemory, Link, list[Any]]:
    log: list[Any] = []

    def finish_reset() -> None:
        mac.reset_pending = False
        log.append("reset")

    class Tx(kind.TxPort):
        def _explain(self) -> None:
            log.append("explain")

        def _odd_tail(self) -> None:
            log.append("odd tail")

        def _later(self) -> None:
            log.append("later")

        def _rest(self) -> None:
            log.append("rest")

        def _rare(self, flags: int) -> None:
            log.append(("rare", flags))

    memory, dma = HostMemory(1 << 20), DmaTable()
    dma.add(memory.base, memory.buffer)
    dma.enabled = True
    mac, tx, link = kind.MacState(), Tx(), Link(log)
    irq = irq_of(kind, log)
    regs = registers()
    engine = TxEngine(dma, Stats(), regs.file)
    regs["TDBAL"], regs["TDLEN"], regs["TCTL"] = memory.alloc(16 * 64), 16 * 64, 2
    tx._bind(engine, mac, irq, finish_reset)
    tx._use(link)
    link.port, tx.open = tx, True
    tx.shared, tx.irq_, tx.regs = mac, irq, regs
    return tx, memory, link, log


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


@pytest.mark.parametrize("kind", [macpath, ref])
def test_a_tail_of_the_rings_size_is_told(kind: Any) -> None:
    tx, _, _, log = tx_of(kind)
    for value in (0, 63, 64, 65):
        if kind is macpath:
            tx.regs.file.define(OFFSETS["TDT"] // 4, rw=0xFFFFFFFF, on_write=tx)
            tx.regs.file.write32(OFFSETS["TDT"], value)
        else:
            tx.on_write(value)
    assert log.count("odd tail") == 1
    assert tx.doorbells == 4


def still(port: Any, value: int) -> None:
    """Pause the device, or let it go on."""
    port.shared.still = bool(value % 2)
    if not value % 2:
        port.go_on()


def play_tx(kind: Any, ops: list[tuple[str, int]]) -> list[Any]:
    tx, memory, link, log = tx_of(kind)
    where = memory.alloc(2048)
    tail = 0
    for name, value in ops:
        if name == "post":
            for i in range(value):
                memory.write(where, struct.pack(">HI", value, i) * 12)
                cmd = 0x8B if value % 3 else 0x0B  # IDE
                desc = struct.pack("<QHBBBBH", where, 60 + i % 10, 0, cmd, 0, 0, 0)
                memory.write(tx.engine.base + 16 * tail, desc)
                tail = (tail + 1) % 64
            tx.regs["TDT"] = tail
            tx.pump()
        elif name == "room":
            link.room += value
            tx.pump()
        elif name == "again":
            link.again = value
        elif name == "open":
            tx.open = bool(value % 4)
        elif name == "pause":
            tx.paused = bool(value % 3)
        elif name == "reset":
            tx.shared.reset_pending = value > 15
        elif name == "credit":
            tx.credit = value
        elif name == "rest":
            tx.resting = bool(value % 2)
        elif name == "still":
            still(tx, value)
        elif name == "tctl":
            tx.regs["TCTL"] = 2 if value % 5 else 0
        else:
            tx.pump()
        log.append((tx.engine.head, tx.batches, tx.credit, tx._pumping, tx.shared.in_engine))
        log.append((tx.put_off, tx.stopped_by, tx.room()))
        log.append(tx.irq_.state())
    return log


@given(TX_OPS)
def test_transmit_equals_reference(ops: list[tuple[str, int]]) -> None:
    assert play_tx(macpath, ops) == play_tx(ref, ops)


def rx_of(kind: Any) -> tuple[Any, HostMemory, list[Any]]:
    log: list[Any] = []

    def finish_reset() -> None:
        mac.reset_pending = False
        log.append("reset")

    class Rx(kind.RxPort):
        def _unusual(self, causes: int) -> None:
            log.append(("unusual", causes))

        def _odd_tail(self) -> None:
            log.append("odd tail")

        def _release(self) -> None:
            self._held = False
            log.append("release")

        def _asleep(self, batch: FrameBatch, start: int) -> bool:
            log.append(("asleep", start, len(batch)))
            return len(batch) % 2 == 0

        def _managed(self, batch: FrameBatch, start: int, hold: bool) -> int:
            log.append(("managed", start, len(batch)))
            return start if len(batch) % 3 == 0 else self._pass_on(batch, start, hold)

        def _with_control(self, batch: FrameBatch, start: int, first: int, hold: bool) -> int:
            log.append(("control", start, first))
            return len(batch)

    memory, dma = HostMemory(1 << 20), DmaTable()
    dma.add(memory.base, memory.buffer)
    dma.enabled = True
    mac, rx = kind.MacState(), Rx()
    irq = irq_of(kind, log)
    regs = registers()
    engine = RxEngine(dma, Stats(), RxFilter(regs.file))
    regs["RDBAL"], regs["RDLEN"], regs["RCTL"] = memory.alloc(16 * 32), 16 * 32, 0x2 | 0x8
    where = memory.alloc(2048)
    for i in range(32):
        memory.write64(engine.base + 16 * i, where)
    rx._bind(engine, mac, irq, finish_reset)
    rx.fifo_changed = lambda: log.append("fifo")
    rx.open, rx.shared, rx.irq_, rx.regs = True, mac, irq, regs
    return rx, memory, log


RX_OPS = st.lists(
    st.tuples(
        st.sampled_from(
            ("frames", "held", "tail", "open", "reset", "watch", "wake", "xoff", "control", "still")
        ),
        st.integers(0, 40),
    ),
    max_size=30,
)


def play_rx(kind: Any, ops: list[tuple[str, int]]) -> list[Any]:
    rx, _, log = rx_of(kind)
    for name, value in ops:
        if name in ("frames", "held"):
            frames = [bytes(12) + struct.pack(">H", 0x8808 + i) + bytes(60) for i in range(value)]
            batch = FrameBatch(frames)
            log.append(rx.receive(batch, min(value, 2), name == "held"))
        elif name == "tail":
            if kind is macpath:
                rx.regs.file.define(OFFSETS["RDT"] // 4, rw=0xFFFFFFFF, on_write=rx)
                rx.regs.file.write32(OFFSETS["RDT"], value)
            else:
                rx.on_write(value)
        elif name == "open":
            rx.open = bool(value % 4)
        elif name == "reset":
            rx.shared.reset_pending = value > 30
        elif name == "watch":
            rx.regs["CTRL"] ^= CTRL_TFCE * (value % 2)
            rx.regs["FCRTH"] = value << 3
        elif name == "still":
            still(rx, value)
        elif name == "wake":
            rx.watching = value % 4
        elif name == "xoff":
            rx.xoff_sent = bool(value % 2)
        else:
            rx.regs["CTRL"] ^= CTRL_RFCE * (value % 2)
            rx.regs["FCT"] = 0x8808 + value
        log.append(
            (rx.put_off, rx._held, rx.engine.head, rx.engine.fifo_frames, rx.batches, rx.doorbells)
        )
        log.append(rx.pause_due)
        log.append(rx.irq_.state())
    return log


@given(RX_OPS)
def test_receive_equals_reference(ops: list[tuple[str, int]]) -> None:
    assert play_rx(macpath, ops) == play_rx(ref, ops)


@given(
    st.integers(-1, 3),
    st.sampled_from((-4, 0, 2, 4, 8, 1 << 40)),
    st.sampled_from((1, 2, 4, 8)),
    st.booleans(),
    st.sampled_from((-1, 0, 5, 0xFFFFFFFF, 1 << 40)),
)
def test_window_equals_reference(bar: int, off: int, size: int, on: bool, value: int) -> None:
    results = []
    for kind in (macpath, ref):
        log: list[Any] = []

        class Slot(kind.BarWindow):
            def _slow_read(self, *args: int, log: list[Any] = log) -> int:
                log.append(args)
                return 7

            def _slow_write(self, *args: int, log: list[Any] = log) -> None:
                log.append(args)

        file, mac, slot = RegFile(4), kind.MacState(), Slot()
        for i in range(4):
            file.define(i, rw=0xFFFFFFFF)
        mac.memory_on = on
        slot._bind(file, mac)
        slot.bar_write(bar, off, value, size)
        log.append(slot.bar_read(bar, off, size))
        log.append(file.state())
        results.append(log)
    assert results[0] == results[1]
