"""Two whole Nics on a cable: doorbell by MMIO, cable, clock, interrupt causes, RDT by MMIO.

`bench_device` measures the engines alone; this adds everything that a batch costs between them.
Run it with ``python benchmarks/bench_nic.py``.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_device import MAC, RCTL_BAM, RCTL_EN, RCTL_SECRC, RXCSUM_BOTH, udp_frame
from e1000emu.clock import VirtualClock
from e1000emu.links import pair
from e1000emu.nic import Nic
from e1000emu.regs import reg
from fastpath.dma import DmaTable, HostMemory
from fastpath.pktgen import RxSink, TxGen, attach

TDT, RDT = reg("TDT").offset, reg("RDT").offset
COMMAND, MEMORY_AND_MASTER = 4, 6
CTRL_SLU_FD = 0x41
TCTL_EN_PSP = 0xA


class NoLine:
    """An interrupt line that nobody listens to."""

    def set_level(self, level: bool) -> None:
        """Do nothing."""


class NicPair:
    """Two Nics, link up, checksum offload both ways; frames prepared and reaped in bulk."""

    def __init__(self, size_bytes: int) -> None:
        self.clock = VirtualClock()
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
        self.gen.load([udp_frame(size_bytes)])
        attach(self.gen, tx.tx.engine, self.sink, rx.rx.engine)
        self.gen.set_context(tx.tx.engine)
        self.gen.offload = True

    def measure(self, packets: int, burst: int) -> float:
        """Move `packets`; CPU nanoseconds for each. Raises RuntimeError when one is lost or bad."""
        gen, sink, clock = self.gen, self.sink, self.clock
        doorbell, give = self.nics[0].mmio_write, self.nics[1].mmio_write
        before = sink.frames, sink.csum_ok
        start = time.thread_time_ns()
        for _ in range(packets // burst):
            gen.post(burst)
            doorbell(TDT, gen.tail)
            clock.run_for(0)
            sink.reap()
            give(RDT, sink.tail)
            gen.reap()
        ns = time.thread_time_ns() - start
        moved = packets // burst * burst
        if sink.frames - before[0] != moved or sink.csum_ok - before[1] != moved:
            raise RuntimeError(f"nic pair: {sink.frames - before[0]} of {moved} frames arrived")
        return ns / moved


def _show(size_bytes: int, burst: int) -> None:
    bench = NicPair(size_bytes)
    ns = statistics.median(bench.measure(200_000, burst) for _ in range(5))
    name = f"bench_nic__pair__batch{burst}[{size_bytes}B]"
    print(f"{name}: compiled, {1e3 / ns:.2f} Mpps, {ns:.1f} ns per packet")


def bench_nic__pair__batch32_60B() -> None:
    """Two Nics, 32 frames of 60 bytes for each doorbell."""
    _show(60, 32)


def bench_nic__pair__batch1_60B() -> None:
    """Two Nics, a doorbell for each frame of 60 bytes."""
    _show(60, 1)


def bench_nic__pair__batch32_1514B() -> None:
    """Two Nics, 32 full frames for each doorbell."""
    _show(1514, 32)


if __name__ == "__main__":
    bench_nic__pair__batch32_60B()
    bench_nic__pair__batch1_60B()
    bench_nic__pair__batch32_1514B()
