"""Two NICs, ring to ring, beside C models of two rings.

`device` rows run the compiled engines alone: transmit engine, frame batch, receive engine. `nic`
rows run two whole Nics on a cable: doorbells by MMIO, cable, clock, interrupt causes. Descriptors
are prepared and reaped in bulk by `benchmarks.pktgen`; the rest is as with a driver. The
usual variant inserts IP and UDP checksums, filters, verifies, counts and writes back, as
`peers/ring_model.c` does; `peers/ring_copy.c` only copies frames and is the ceiling.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.links import pair
from e1000emu.registers.regs import BAR0_BYTES, reg
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic.regfile import RegFile, Stats
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine

from ..pktgen import RxSink, TxGen, attach, pump
from . import Row, Work, row, size_bytes
from .peer import load

MAC = bytes.fromhex("525400123456")
RCTL_EN, RCTL_BAM, RCTL_SECRC = 1 << 1, 1 << 15, 1 << 26
RXCSUM_BOTH = 3 << 8
CTRL_SLU_FD, TCTL_EN_PSP = 0x41, 0xA
COMMAND, MEMORY_AND_MASTER = 4, 6
TDT, RDT = reg("TDT").offset, reg("RDT").offset

SIZES = ("60B", "256B", "594B", "1514B")
QUICK = ("60B", "1514B")
PACKETS = 48_000
"""Of one run: a multiple of every batch."""
BATCH = 32


def udp_frame(size: int) -> bytes:
    """A UDP frame as a driver leaves it: IP check 0, UDP check seeded with the pseudo header."""
    ip = struct.pack(">BBHHHBBHII", 0x45, 0, size - 14, 1, 0, 64, 17, 0, 0x0A000001, 0x0A000002)
    seed = 0x0A00 * 2 + 1 + 2 + 17 + size - 34
    udp = struct.pack(">HHHH", 7, 9, size - 34, seed)
    head = MAC + b"\x02\0\0\0\0\1" + b"\x08\0" + ip + udp
    return head + bytes(i * 7 & 0xFF for i in range(size - len(head)))


class Engines:
    """Two hosts, the engines of two NICs, one ring of prepared frames and one sink."""

    def __init__(self, size: int, *, offload: bool, fcs: bool, burst: int) -> None:
        a, b = HostMemory(4 << 20), HostMemory(4 << 20)
        dma_a, dma_b = DmaTable(), DmaTable()
        dma_a.add(a.base, a.buffer)
        dma_b.add(b.base, b.buffer)
        sender, receiver = RegFile(BAR0_BYTES // 4), RegFile(BAR0_BYTES // 4)
        self.tx = TxEngine(dma_a, Stats(), sender)
        self.rx = RxEngine(dma_b, Stats(), RxFilter(receiver))
        receiver.poke(reg("RAL").offset, int.from_bytes(MAC[:4], "little"))
        receiver.poke(reg("RAH").offset, 1 << 31 | int.from_bytes(MAC[4:], "little"))
        self.gen, self.sink = TxGen(a), RxSink(b)
        self.batch, self.burst, self.offload = FrameBatch(), burst, offload
        self.gen.load([udp_frame(size)])
        sender.poke(reg("TCTL").offset, TCTL_EN_PSP)
        receiver.poke(reg("RCTL").offset, RCTL_EN | RCTL_BAM | (0 if fcs else RCTL_SECRC))
        receiver.poke(reg("RXCSUM").offset, RXCSUM_BOTH if offload else 0)
        attach(self.gen, self.tx, self.sink, self.rx)
        if offload:
            self.gen.set_context(self.tx)
            self.gen.offload = True

    def run(self, packets: int) -> None:
        """Move `packets`, whole batches. Raises RuntimeError when one is lost or bad."""
        sink = self.sink
        frames, checked = sink.frames, sink.csum_ok
        rounds = packets // self.burst
        moved = pump(self.gen, self.tx, self.batch, self.rx, sink, rounds, self.burst)
        frames, checked = sink.frames - frames, sink.csum_ok - checked
        if frames != moved or (self.offload and checked != moved) or sink.errors:
            raise RuntimeError(
                f"device pair: sent {moved}, arrived {frames}, verified {checked}, "
                f"errors {sink.errors}"
            )


class NoLine:
    """An interrupt line without a listener."""

    def set_level(self, level: bool) -> None:
        """Do nothing."""


class Nics:
    """Two Nics, link up, checksum offload both ways; frames prepared and reaped in bulk."""

    def __init__(self, size: int, *, burst: int) -> None:
        self.clock, self.burst = VirtualClock(), burst
        self.nics, memories = [], []
        for end in pair(self.clock):
            memory, dma = HostMemory(4 << 20), DmaTable()
            dma.add(memory.base, memory.buffer)
            nic = Nic(memory=dma, irq=NoLine(), link=end, clock=self.clock, mac=MAC)
            nic.slot.config_write(COMMAND, MEMORY_AND_MASTER, 2)
            nic.mmio_write(reg("CTRL").offset, CTRL_SLU_FD)
            self.nics.append(nic)
            memories.append(memory)
        self.clock.run_for(5_000_000_000)
        tx, rx = self.nics
        tx.mmio_write(reg("TCTL").offset, TCTL_EN_PSP)
        rx.mmio_write(reg("RCTL").offset, RCTL_EN | RCTL_BAM | RCTL_SECRC)
        rx.mmio_write(reg("RXCSUM").offset, RXCSUM_BOTH)
        self.gen, self.sink = TxGen(memories[0]), RxSink(memories[1])
        self.gen.load([udp_frame(size)])
        attach(self.gen, tx.tx.engine, self.sink, rx.rx.engine)
        self.gen.set_context(tx.tx.engine)
        self.gen.offload = True

    def run(self, packets: int) -> None:
        """Move `packets`, whole batches. Raises RuntimeError when one is lost or bad."""
        gen, sink, clock, burst = self.gen, self.sink, self.clock, self.burst
        doorbell, give = self.nics[0].mmio_write, self.nics[1].mmio_write
        frames, checked = sink.frames, sink.csum_ok
        for _ in range(packets // burst):
            gen.post(burst)
            doorbell(TDT, gen.tail)
            clock.run_for(0)
            sink.reap()
            give(RDT, sink.tail)
            gen.reap()
        frames, checked = sink.frames - frames, sink.csum_ok - checked
        if frames != packets or checked != packets:
            raise RuntimeError(
                f"nic pair: {frames} of {packets} frames arrived, {checked} verified"
            )


def _engines(
    size: str, *, offload: bool = True, fcs: bool = False, burst: int = BATCH
) -> Iterator[Work]:
    made = Engines(size_bytes(size), offload=offload, fcs=fcs, burst=burst)
    yield Work(lambda: made.run(PACKETS), PACKETS)


def _nics(burst: int, size: str) -> Iterator[Work]:
    made = Nics(size_bytes(size), burst=burst)
    yield Work(lambda: made.run(PACKETS), PACKETS)


def _in_c(name: str, size: str) -> Iterator[Work]:
    ffi, peer = load(name)
    run: Any = getattr(peer, f"{name}_run")
    state = ffi.gc(
        getattr(peer, f"{name}_new")(size_bytes(size), BATCH), getattr(peer, f"{name}_free")
    )

    def checked() -> None:
        if run(state, PACKETS) != PACKETS:
            raise RuntimeError(f"{name}: a frame was lost or changed")

    yield Work(checked, PACKETS)


def _row(name: str, start: Callable[[str], Iterator[Work]], **options: Any) -> Row:
    options = {"sizes": SIZES, "quick": QUICK, **options}
    return row(name, group="two_nics", unit="Mpps", **options)(start)


ENDS = ("60B", "1514B")
ROWS = (
    _row("device__pair__offload", _engines),
    _row("device__pair__batch1", partial(_engines, burst=1), sizes=ENDS, quick=()),
    _row("device__pair__batch250", partial(_engines, burst=250), sizes=ENDS, quick=()),
    _row("device__pair__plain", partial(_engines, offload=False), sizes=ENDS, quick=()),
    _row("device__pair__fcs", partial(_engines, fcs=True), sizes=ENDS, quick=()),
    _row("nic__pair__batch32", partial(_nics, BATCH), sizes=ENDS, quick=("60B",)),
    _row("nic__pair__batch1", partial(_nics, 1), sizes=ENDS, quick=("60B",)),
    _row("device__peer__ring_model", partial(_in_c, "ring_model"), peer="C ring_model"),
    _row("device__peer__ring_copy", partial(_in_c, "ring_copy"), peer="C ring_copy", ceiling=True),
)
