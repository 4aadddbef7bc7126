"""Generator and sink in plain Python: the twin of ``benchmarks.pktgen``, over any host memory."""

from __future__ import annotations

from collections.abc import Iterable
from struct import pack, unpack
from typing import Any

CMD_EOP, CMD_IFCS, CMD_RS, CMD_DEXT = 0x01, 0x02, 0x08, 0x20


class TxGen:
    """Transmit ring over buffers with prepared frames."""

    def __init__(self, mem: Any, count: int = 256, buf_bytes: int = 2048) -> None:
        self.mem, self.count, self.buf_bytes = mem, count, buf_bytes
        self.size_bytes = count * 16
        self.dma = mem.alloc(count * 16, 4096)
        self._bufs = mem.alloc(count * buf_bytes, 4096)
        mem.write(self.dma, bytes(count * 16))
        self._lengths = [0] * count
        self.tail = self._clean = 0
        self.cmd = CMD_EOP | CMD_IFCS | CMD_RS
        self.offload = False
        self.posted = self.done = 0

    def load(self, frames: Iterable[bytes]) -> None:
        """Copy `frames` into the buffers, round robin."""
        frames = list(frames)
        for i in range(self.count):
            frame = frames[i % len(frames)]
            self.mem.write(self._bufs + i * self.buf_bytes, frame)
            self._lengths[i] = len(frame)

    def post(self, want: int) -> int:
        """Write up to `want` descriptors; returns the number written."""
        want = min(want, (self._clean - self.tail - 1) % self.count)
        for _ in range(want):
            low = self._lengths[self.tail] | self.cmd << 24
            popts = 0
            if self.offload:
                low |= 1 << 20 | CMD_DEXT << 24
                popts = 3
            addr = self._bufs + self.tail * self.buf_bytes
            self.mem.write(self.dma + self.tail * 16, pack("<QIBBH", addr, low, 0, popts, 0))
            self.tail = (self.tail + 1) % self.count
        self.posted += want
        return want

    def reap(self) -> int:
        """Count the completed descriptors."""
        out = 0
        while self._clean != self.tail and self.mem.read(self.dma + self._clean * 16, 16)[12] & 1:
            self._clean = (self._clean + 1) % self.count
            out += 1
        self.done += out
        return out


class RxSink:
    """Receive ring whose buffers are returned once counted."""

    def __init__(self, mem: Any, count: int = 256, buf_bytes: int = 2048) -> None:
        self.mem, self.count, self.buf_bytes = mem, count, buf_bytes
        self.size_bytes = count * 16
        self.dma = mem.alloc(count * 16, 4096)
        self._bufs = mem.alloc(count * buf_bytes, 4096)
        for i in range(count):
            self._give(i)
        self.tail = count - 1
        self._next = 0
        self.frames = self.descriptors = self.octets = self.csum_ok = self.errors = 0

    def _give(self, i: int) -> None:
        self.mem.write(self.dma + i * 16, pack("<QQ", self._bufs + i * self.buf_bytes, 0))

    def reap(self, budget: int = 1 << 30) -> int:
        """Count received frames and return the descriptors."""
        out = 0
        while out < budget:
            raw = self.mem.read(self.dma + self._next * 16, 16)
            _addr, length, _csum, status, errors, _special = unpack("<QHHBBH", raw)
            if not status & 1:
                break
            self.octets += length
            if status & 2:
                self.frames += 1
                self.errors += bool(errors)
                self.csum_ok += bool(not errors and status & 0x20)
            self._give(self._next)
            self.tail = self._next
            self._next = (self._next + 1) % self.count
            out += 1
        self.descriptors += out
        return out


def attach(gen: Any, tx: Any, sink: Any, rx: Any) -> None:
    """Program the rings into engines."""
    if gen is not None and tx is not None:
        tx.regs["TDBAL"], tx.regs["TDBAH"] = gen.dma & 0xFFFFFFFF, gen.dma >> 32
        tx.regs["TDLEN"], tx.regs["TDT"] = gen.size_bytes, gen.tail
    if sink is not None and rx is not None:
        rx.regs["RDBAL"], rx.regs["RDBAH"] = sink.dma & 0xFFFFFFFF, sink.dma >> 32
        rx.regs["RDLEN"], rx.regs["RDT"] = sink.size_bytes, sink.tail


def pump(gen: Any, tx: Any, batch: Any, rx: Any, sink: Any, rounds: int, burst: int) -> int:
    """Move bursts from ring to ring; returns the frames sent by the transmit engine."""
    moved = 0
    for _ in range(rounds):
        batch.clear()
        gen.post(burst)
        tx.regs["TDT"] = gen.tail
        tx.run(batch)
        moved += len(batch)
        rx.receive(batch, 0, False)
        sink.reap()
        rx.regs["RDT"] = sink.tail
        gen.reap()
    batch.clear()
    return moved
