"""Write-backs that take time: what the device has written shows in memory later, and in order.

A bench's device writes its results at once, so a driver that does not wait for DD works there and
nowhere else. `SlowWriteBack` keeps each write, and the interrupt that reports it, for a time of the
virtual clock. `WatchedMemory` sees what the driver reads meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from e1000emu.device.tx import NO_ROOM
from e1000emu.registers.regs import reg
from fastpath.base.dma import HostMemory
from fastpath.nic.txring import RUN_MORE

if TYPE_CHECKING:
    from e1000emu.clock import VirtualClock
    from e1000emu.device.nic import Nic
    from fastpath.base.dma import DmaTable

RDT, TDT = reg("RDT").offset, reg("TDT").offset
DESC_BYTES, STATUS_AT = 16, 12


class WatchedMemory(HostMemory):
    """Host memory that reports reads by its methods to a callback."""

    on_read: Callable[[int, int], object] | None = None
    """Takes address and number of bytes, before they are read; `buffer` is not watched."""

    def _told(self, addr: int, n: int) -> None:
        if self.on_read is not None:
            self.on_read(addr, n)

    def read(self, addr: int, n: int) -> bytes:
        """Return `n` bytes."""
        self._told(addr, n)
        return super().read(addr, n)

    def view(self, addr: int, n: int) -> memoryview:
        """Return `n` bytes to read and write."""
        self._told(addr, n)
        return super().view(addr, n)

    def read32(self, addr: int) -> int:
        """Return a little-endian dword."""
        self._told(addr, 4)
        return super().read32(addr)

    def read64(self, addr: int) -> int:
        """Return a little-endian quadword."""
        self._told(addr, 8)
        return super().read64(addr)


class SlowWriteBack:
    """What a device writes, until it shows `delay_ns` later; it is the memory of its `DmaTable`."""

    def __init__(self, memory: WatchedMemory, table: DmaTable, clock: VirtualClock, delay_ns: int):
        self._memory, self._clock, self._delay_ns = memory, clock, delay_ns
        self._queue: deque[tuple[int, int, int, bytes | Callable[[], object]]] = deque()
        """When it shows, the resets before it, the address, and data; or what is done then."""
        self._named: set[tuple[int, int]] = set()
        """Descriptors already reported, and when their write-backs are due."""
        self._tails = {"tx": 0, "rx": 0}
        self._resets = 0
        table.set_message_dma(self._read, self._write)

    def stand_before(self, nic: Nic) -> None:
        """Take the doorbells of `nic`, which works its rings after the event that rings them."""
        self._nic = nic
        nic.defer_doorbells()
        nic.tx.use_stage(_TxStage(self, nic))
        nic.rx.use_stage(_RxStage(self, nic))
        self._memory.on_read = self._driver_reads

    @property
    def busy(self) -> bool:
        """Something has not shown yet."""
        return bool(self._queue)

    def _read(self, addr: int, n: int) -> bytes:
        return HostMemory.read(self._memory, addr, n)

    def _write(self, addr: int, data: bytes) -> None:
        HostMemory.read(self._memory, addr, len(data))  # there is memory, or the bus aborts
        self._put(addr, data)

    def then(self, fn: Callable[[], object]) -> None:
        """Call `fn` when all that was written so far shows."""
        self._put(0, fn)

    def _put(self, addr: int, what: bytes | Callable[[], object]) -> None:
        due = self._clock.now_ns() + self._delay_ns
        if not self._queue or self._queue[-1][0] != due:
            self._clock.call_at(due, self._show)
        self._queue.append((due, self._nic.resets, addr, what))

    def _show(self) -> None:
        now = self._clock.now_ns()
        while self._queue and self._queue[0][0] <= now:
            _, resets, addr, what = self._queue.popleft()
            if resets != self._nic.resets:
                continue  # a reset has ended it
            if callable(what):
                what()
            else:
                self._memory.write(addr, what)
        if not self._queue:
            self._named.clear()

    # --- what a driver does too early ------------------------------------------------------------

    def _index(self, which: str, addr: int) -> int:
        """Return the descriptor of a ring that `addr` is in, or -1."""
        engine = self._nic.rx.engine if which == "rx" else self._nic.tx.engine
        return (addr - engine.base) // DESC_BYTES if 0 <= addr - engine.base < engine.len else -1

    def _name(self, which: str, index: int, due: int) -> None:
        if (index, due) not in self._named:
            self._named.add((index, due))
            self._nic.misuse.note(f"{which}-before-dd", index, due - self._clock.now_ns())

    def _driver_reads(self, addr: int, n: int) -> None:
        """Report a descriptor whose length or data is read; a read with the status in it polls."""
        early = False
        for due, resets, at, what in self._queue:
            if callable(what) or resets != self._nic.resets:
                continue
            over = addr < at + len(what) and at < addr + n
            index = self._index("rx", at)
            if index < 0:
                early = early or (over and self._index("tx", at) < 0)
                continue
            status = self._nic.rx.engine.base + index * DESC_BYTES + STATUS_AT
            if early or (over and not addr <= status < addr + n):
                self._name("rx", index, due)
                early = False  # the data's descriptor follows it

    def given(self, which: str, tail: int, count: int) -> None:
        """Descriptors up to `tail` were given: report those whose write-back has not shown."""
        if self._resets != self._nic.resets:
            self._resets, self._tails = self._nic.resets, {"tx": 0, "rx": 0}
        first, self._tails[which] = self._tails[which], tail
        if not count > 0 or max(first, tail) > count:
            return
        new = (tail - first) % count
        for due, resets, at, what in list(self._queue):
            index = -1 if callable(what) else self._index(which, at)
            if index >= 0 and resets == self._nic.resets and (index - first) % count < new:
                self._name(which, index, due)


class _Stage:
    """What stands before an engine of the NIC."""

    def __init__(self, slow: SlowWriteBack, nic: Nic) -> None:
        self._slow, self._nic = slow, nic

    @property
    def busy(self) -> bool:
        return self._slow.busy


class _TxStage(_Stage):
    """Lets the transmit engine run, and reports that when its write-backs are visible."""

    def run(self) -> None:
        nic, tx = self._nic, self._nic.tx
        self._slow.given("tx", nic.regs.peek(TDT), tx.engine.len // DESC_BYTES)
        tail = tx.runnable_end()
        if tail < 0:
            tx.pump_now()  # says why, or has nothing to do
            return
        result = tx.run_to(tail)
        if result != NO_ROOM:
            frames, flags = result >> 32, result & 0xFFFFFFFF
            self._slow.then(lambda: tx.settle(flags, frames))
            if flags & RUN_MORE:
                tx.pump()

    def forget(self) -> None:
        pass

    def after(self, causes: int) -> None:
        pass


class _RxStage(_Stage):
    """Gives the receive engine its descriptors, and reports frames late."""

    def run(self) -> None:
        rx, tail = self._nic.rx, self._nic.regs.peek(RDT)
        self._slow.given("rx", tail, rx.engine.len >> 4)
        rx.fetched(tail)
        rx.kick_now()

    def forget(self) -> None:
        self._nic.rx.fetched(self._nic.rx.engine.head)
        self._nic.rx.kick()

    def after(self, causes: int) -> None:
        rx = self._nic.rx
        self._slow.then(lambda: rx.settle(causes))
