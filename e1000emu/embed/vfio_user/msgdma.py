"""DMA by messages: how the NIC reaches memory that the client does not share.

A DMA_READ or DMA_WRITE goes to the client, and its answer comes as any other message, so nothing
waits. The client's own requests are served meanwhile, in order, and a client whose processor waits
for a register does not wait for us.

Before a run of a ring engine, its *stage* fetches what the run will read (descriptors, then the
frames' bytes) in as few messages as it can. It sends what the engine writes without waiting, data
before descriptors and DD after all else. When the client has answered all of that, the stage raises
the run's interrupt causes. So a guest that reads ICR finds the descriptors written back.

An access that the client answers with an error is a PCI master abort.  One that it does not answer
in time is one too, and is reported.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from e1000emu.device.pci import COMMAND, COMMAND_MASTER
from e1000emu.device.tx import NO_ROOM
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.embed.vfio_user.guestmem import GuestMemory
from e1000emu.embed.vfio_user.protocol import Command, Message
from e1000emu.ports import Clock, TimerHandle
from e1000emu.registers.regs import reg
from fastpath.nic.txring import RUN_ABORT, RUN_MORE

if TYPE_CHECKING:
    from e1000emu.device.nic import Nic

TIMEOUT_NS = 5_000_000_000
"""Timeout of an answer: the same as in QEMU (x-msg-timeout)."""
MAX_REQUESTS = 64
MAX_BYTES = 256 << 10
"""Maximum numbers of requests and of their bytes in flight."""
READ_BYTES = 12 << 10
MAX_READ_BYTES = 4 * READ_BYTES
"""Maximum bytes of one DMA_READ, and of all in flight.

QEMU 11.1 loses the rest of an answer that its socket does not accept at once, and both sides then
wait forever.  A socket takes an answer of this size whole or not at all (one socket buffer of the
kernel's, SKB_MAX_ALLOC), and so many of them fit (net.core.wmem_default).
"""
SEND_BYTES = 16 << 10
"""Bytes of messages written at once: they fit one socket buffer."""
MAX_LATE = 1024
"""Number of expired requests whose late answers are recognised."""
COMPLAINTS = 10
"""Number of rejected requests reported for each client; the rest are counted."""
TX_BYTES = 256 << 10
"""Approximate bytes of frames fetched for one run: one descriptor may exceed it."""
DESC_BYTES = 16
HALF_BYTES = 8
"""The half of a descriptor that the NIC may write: the first half belongs to the driver."""
DESC = struct.Struct("<QQ")
TXD_DEXT = 0x20
TXD_DATA = 1
DMA_READ, DMA_WRITE = int(Command.DMA_READ), int(Command.DMA_WRITE)
RDT = reg("RDT").offset
TXQE, TXD_LOW = reg("ICR").mask("TXQE"), reg("ICR").mask("TXD_LOW")
RXDMT0 = reg("ICR").mask("RXDMT0")


class Fetched:
    """Pieces of memory as read: disjoint, sorted, looked up by address."""

    __slots__ = ("_data", "_starts")

    def __init__(self, pieces: list[tuple[int, bytes]]) -> None:
        self._starts: list[int] = []
        self._data: list[bytearray] = []
        end = -1
        for addr, data in sorted(pieces):
            if addr == end:
                self._data[-1] += data
            else:
                self._starts.append(addr)
                self._data.append(bytearray(data))
            end = addr + len(data)

    def get(self, addr: int, n: int) -> bytes | None:
        """Return the `n` bytes at `addr`, None if any is missing."""
        i = bisect_right(self._starts, addr) - 1
        if i < 0:
            return None
        at = addr - self._starts[i]
        data = self._data[i]
        return bytes(data[at : at + n]) if at + n <= len(data) else None


class _Job:
    """Several reads that end together."""

    __slots__ = ("done", "left", "pieces")

    def __init__(self, done: Callable[[Fetched], None]) -> None:
        self.done = done
        self.left = 0
        self.pieces: list[tuple[int, bytes]] = []


class _Request:
    """One DMA_READ (with a job) or DMA_WRITE (with data)."""

    __slots__ = ("addr", "command", "count", "data", "head", "job", "resets", "serial", "when_ns")

    def __init__(
        self, serial: int, addr: int, count: int, data: bytes, job: _Job | None, resets: int
    ) -> None:
        self.serial = serial
        self.addr = addr
        self.count = count
        self.data = data
        self.job = job
        self.resets = resets
        self.when_ns = 0
        self.command = DMA_WRITE if job is None else DMA_READ
        self.head = vu.DMA_ACCESS.pack(addr, count)
        """Address and count, also contained in the answer."""

    def __str__(self) -> str:
        return f"{Command(self.command).name} of {self.count} bytes at {self.addr:#x}"


class _Barrier(NamedTuple):
    """A callback for when every write up to `serial` has been answered."""

    serial: int
    resets: int
    then: Callable[[], None]


class MessageDma:
    """The requests to one client and the two stages.  Call with the clock's lock held."""

    def __init__(
        self, nic: Nic, memory: GuestMemory, clock: Clock, report: Callable[[str], None]
    ) -> None:
        self.nic = nic
        self.memory = memory
        self.clock = clock
        self.report = report
        self.tx = TxStage(self)
        self.rx = RxStage(self)
        self.reads = self.writes = 0
        """Requests sent."""
        self.errors = 0
        """Requests that the client rejected or did not answer in time."""
        self._send: Callable[[bytes], None] | None = None
        self._max_xfer = vu.MAX_DMA_BYTES
        self._serial = 0
        self._ident = 0
        self._waiting: deque[_Request] = deque()
        self._out: dict[int, _Request] = {}
        self._out_bytes = self._reading_bytes = 0
        self._late: set[int] = set()
        self._writes: dict[int, None] = {}
        self._barriers: deque[_Barrier] = deque()
        self._data: list[tuple[int, bytes]] = []
        self._descs: list[tuple[int, bytes]] = []
        self._flush_soon = self._push_soon = False
        self._timer: TimerHandle | None = None
        self._said_slow = False
        self._complaints = 0
        self.ram_moved: Callable[[bool], None] = _nothing
        """Called, before any fetch, when guest RAM is (no longer) accessed by messages."""
        memory.table.set_message_dma(self._read, self._write)
        memory.changed = self._memory_changed

    # --- clients ---------------------------------------------------------------------------------

    def connect(self, send: Callable[[bytes], None], max_xfer: int) -> None:
        """Use `send` for requests of at most `max_xfer` bytes of data each."""
        self._send = send
        self._max_xfer = max_xfer
        self._said_slow = False
        self._complaints = 0

    def disconnect(self) -> None:
        """The client has disconnected: no more answers.  Pending causes are raised."""
        self._send = None
        self._waiting.clear()
        self._out.clear()
        self._out_bytes = self._reading_bytes = 0
        self._late.clear()
        self._data.clear()
        self._descs.clear()
        self._writes.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.tx.forget()
        self.rx.forget()
        self._pass()

    @property
    def idle(self) -> bool:
        """Whether all writes have been answered."""
        return not (self._writes or self._data or self._descs)

    @property
    def may_fetch(self) -> bool:
        """Whether the device is bus master and not paused, so that rings may be read."""
        return self.nic.memory.enabled and not self.nic.shared.still

    def _memory_changed(self) -> None:
        nic, memory = self.nic, self.memory
        if memory.ram_by_message and not self._said_slow:
            self._said_slow = True
            self.report(
                "guest RAM comes without a file descriptor: DMA goes by messages, which is slow; "
                "for speed start QEMU with -object memory-backend-memfd,id=mem,share=on,size=… "
                "and -machine memory-backend=mem"
            )
        self.tx.forget()
        self.rx.forget()
        if memory.ram_by_message != (nic.rx.stage is not None):
            self.ram_moved(memory.ram_by_message)
        if memory.any_by_message != (nic.tx.stage is not None):
            nic.tx.use_stage(self.tx if memory.any_by_message else None)
        self.rx.use(memory.ram_by_message)

    # --- requests of the engines ----------------------------------------------------------------

    def _read(self, addr: int, n: int) -> bytes:
        """Return fetched data to an engine; an exception is a master abort."""
        data = self.tx.get(addr, n)
        if data is None:
            data = self.rx.get(addr, n)
        if data is None:
            raise LookupError(addr)
        return data

    def _write(self, addr: int, data: bytes) -> bool:
        """Queue a write of an engine; True is a master abort."""
        n = len(data)
        # A receive descriptor may be in memory that is shared, beside some that is not.
        if not self.memory.takes(addr, n, write=True) and not self.memory.shares(addr, n):
            return True
        # Also the last few bytes of a frame; they must stay before its descriptor.
        if n <= HALF_BYTES:
            self._descs.append((addr, data))
        else:
            self._data.append((addr, data))
        if not self._flush_soon:
            self._flush_soon = True
            self.clock.call_soon(self._flush_later)
        return False

    def _flush_later(self) -> None:
        self._flush_soon = False
        self.flush()

    def flush(self) -> None:
        """Send the queued writes: the data, then the descriptors, each in the engine's order.

        A client may store the bytes of a message in any order and more than once. As soon as DD is
        set, a polling driver reuses the descriptor. So a status byte is sent separately, in
        the order of the ring, and no other part of the descriptor follows it. No address is sent at
        all, because it is the driver's. Descriptors that lie side by side are therefore not joined.
        """
        data, self._data = self._data, []
        descs, self._descs = self._descs, []
        for addr, piece in data:
            self._post_write(addr, piece)
        for addr, piece in descs:
            if self.memory.takes(addr, len(piece), write=True):
                self._post_write(addr, piece)
            else:  # shared: stored when the earlier data has arrived
                self._barriers.append(
                    _Barrier(self._serial, self.nic.resets, partial(self._store, addr, piece))
                )
        self._push()
        self._pass()

    def _store(self, addr: int, data: bytes) -> None:
        self.memory.table.write(addr, data)

    def _post_write(self, addr: int, data: bytes) -> None:
        for at in range(0, len(data), self._max_xfer):
            part = data[at : at + self._max_xfer]
            self._serial += 1
            self._writes[self._serial] = None
            self._waiting.append(
                _Request(self._serial, addr + at, len(part), part, None, self.nic.resets)
            )

    def barrier(self, then: Callable[[], None]) -> None:
        """Call `then` when all writes have reached the client's memory.

        A reset of the NIC in between cancels it.
        """
        self.flush()
        if self._writes:
            self._barriers.append(_Barrier(self._serial, self.nic.resets, then))
        else:
            then()

    def fetch(self, wanted: list[tuple[int, int]], done: Callable[[Fetched], None]) -> None:
        """Read `wanted` (address, bytes) and call `done` later with the readable data."""
        job = _Job(done)
        step = min(self._max_xfer, READ_BYTES)
        for addr, n in _merged(wanted):
            for at in range(addr, addr + n, step):
                count = min(step, addr + n - at)
                self._serial += 1
                job.left += 1
                self._waiting.append(_Request(self._serial, at, count, b"", job, self.nic.resets))
        if not job.left:
            self.clock.call_soon(lambda: done(Fetched([])))
        self._push()

    # --- requests and answers --------------------------------------------------------------------

    def _push(self) -> None:
        """Send queued messages within the window; join small ones."""
        now, master = self.clock.now_ns(), bool(self.nic.pci.get(COMMAND, 2) & COMMAND_MASTER)
        waiting, out = self._waiting, self._out
        together: list[bytes] = []
        size = 0
        while waiting and len(out) < MAX_REQUESTS and self._out_bytes < MAX_BYTES:
            request = waiting[0]
            reads = request.job is not None
            if reads and self._reading_bytes + request.count > MAX_READ_BYTES:
                break
            waiting.popleft()
            sends = self._send is not None and master and self._allowed(request)
            if together and (not sends or size + request.count > SEND_BYTES):
                self._send_together(together, now)
                together, size = [], 0
            if not sends:
                self._end(request, None)  # which may call this again
                continue
            request.when_ns = now
            self._ident = ident = self._free_ident()
            out[ident] = request
            self._out_bytes += request.count
            if reads:
                self.reads += 1
                self._reading_bytes += request.count
            else:
                self.writes += 1
            together.append(vu.pack(ident, request.command, request.head + request.data))
            size += len(together[-1])
        if together:
            self._send_together(together, now)

    def _send_together(self, messages: list[bytes], now: int) -> None:
        if self._timer is None:
            self._timer = self.clock.call_at(now + TIMEOUT_NS, self._overdue)
        if self._send is not None:
            self._send(b"".join(messages))

    def _push_later(self) -> None:
        self._push_soon = False
        self._push()

    def _answered(self, request: _Request) -> None:
        """Remove a pending request."""
        self._out_bytes -= request.count
        if request.job is not None:
            self._reading_bytes -= request.count

    def _free_ident(self) -> int:
        ident = self._ident + 1 & 0xFFFF
        while ident in self._out or ident in self._late:
            ident = ident + 1 & 0xFFFF
        return ident

    def _allowed(self, request: _Request) -> bool:
        """Return whether it may still be sent; the device may have changed while it waited."""
        if request.resets != self.nic.resets:
            return False
        return self.memory.takes(request.addr, request.count, write=request.job is None)

    def replied(self, message: Message) -> str:
        """Take an answer of the client; return its error, or ""."""
        request = self._out.get(message.id)
        if request is None:
            if message.id in self._late:
                self._late.discard(message.id)
                return ""
            return f"it answered what nobody asked (id {message.id})"
        if message.command != request.command:
            return f"it answered {request} (id {message.id}) as command {message.command}"
        data: bytes | None = b""
        if message.flags & vu.ERROR:
            self._abort(f"{request}: the client says {os.strerror(message.error)}")
            data = None
        else:
            size = len(message.payload)
            expected = vu.DMA_ACCESS.size + (request.count if request.job is not None else 0)
            if size != expected:
                return f"it answered {request} with {size} bytes of payload; {expected} are right"
            if not message.payload.startswith(request.head):
                return f"it answered {request} with another address or count"
            if request.job is not None:
                data = message.payload[vu.DMA_ACCESS.size :]
        del self._out[message.id]
        self._answered(request)
        self._end(request, data)
        if self._waiting and not self._push_soon:
            self._push_soon = True  # the answers that were read with this one also make room
            self.clock.call_soon(self._push_later)
        return ""

    def _abort(self, why: str) -> None:
        self.errors += 1
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            last = "; more of this client's are only counted" * (self._complaints == COMPLAINTS)
            self.report(f"{why}: a master abort{last}")

    def _end(self, request: _Request, data: bytes | None) -> None:
        """Finish one request; without `data` it is a master abort."""
        if request.job is None:
            del self._writes[request.serial]
            if data is None and request.resets == self.nic.resets:
                self.nic.memory.aborts += 1
            self._pass()
            return
        job = request.job
        if data is not None:
            job.pieces.append((request.addr, data))
        job.left -= 1
        if not job.left:
            # Deferred, because the caller may be inside another run or request.
            self.clock.call_soon(lambda: job.done(Fetched(job.pieces)))

    def _pass(self) -> None:
        """Run the completed barriers."""
        barriers = self._barriers
        while barriers:
            first = next(iter(self._writes), None)
            if first is not None and first <= barriers[0].serial:
                return
            barrier = barriers.popleft()
            if barrier.resets == self.nic.resets:
                barrier.then()

    def _overdue(self) -> None:
        """Expire requests that the client has not answered in time."""
        self._timer = None
        now = self.clock.now_ns()
        old = [(i, r) for i, r in self._out.items() if now - r.when_ns >= TIMEOUT_NS]
        if old:
            _, first = old[0]
            self.report(
                f"the client has not answered {len(old)} DMA requests for "
                f"{TIMEOUT_NS // 1_000_000_000} s, the first {first}: taken as master aborts"
            )
        for ident, request in old:
            del self._out[ident]
            self._answered(request)
            if len(self._late) < MAX_LATE:
                self._late.add(ident)
            self.errors += 1
            self._end(request, None)
        if self._out:
            first_ns = min(request.when_ns for request in self._out.values())
            self._timer = self.clock.call_at(first_ns + TIMEOUT_NS, self._overdue)
        self._push()


class FetchStage:
    """The stage before a ring engine, which fetches the data that the engine will read."""

    def __init__(self, dma: MessageDma) -> None:
        self._dma = dma
        self._nic = dma.nic
        self._memory = dma.memory
        self._epoch = 0
        """Generation: requests of an earlier one are for another ring or memory."""
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether the client has unanswered reads or writes."""
        return self._busy or not self._dma.idle

    def run(self) -> None:
        """Take one step: fetch, or let the engine run."""
        raise NotImplementedError

    def _fetch(self, wanted: list[tuple[int, int]], then: Callable[[Fetched], None]) -> None:
        """Fetch `wanted`, pass it to `then`, and take the next step."""
        epoch = self._epoch

        def done(got: Fetched) -> None:
            if epoch == self._epoch:
                self._busy = False
                if self._dma.may_fetch:
                    then(got)
                else:
                    self._refused()  # bus mastering was disabled meanwhile, or a pause began
                self.run()

        self._busy = True
        self._dma.fetch(wanted, done)

    def _refused(self) -> None:
        """Discard fetched data, which must be fetched again."""


class TxStage(FetchStage):
    """Fetches descriptors and frames, then lets the transmit engine run on them."""

    def __init__(self, dma: MessageDma) -> None:
        super().__init__(dma)
        self._clear()

    def _clear(self) -> None:
        self._ring: tuple[int, int, int] | None = None
        self._descs: Fetched | None = None
        self._known: int | None = None
        """Descriptors up to here are in `_descs` (or in shared memory)."""
        self._frames: Fetched | None = None
        self._end: int | None = None
        """The bytes of descriptors up to here are in `_frames` (or in shared memory)."""

    def forget(self) -> None:
        """Restart after a change of the ring or memory."""
        was, self._busy = self._busy or self._end is not None, False
        self._epoch += 1
        self._clear()
        if was:
            self._nic.tx.pump()

    def get(self, addr: int, n: int) -> bytes | None:
        """Return the data that the engine may read now."""
        for fetched in (self._descs, self._frames):
            if fetched is not None:
                data = fetched.get(addr, n)
                if data is not None:
                    return data
        return None

    def descriptor(self, addr: int) -> bytes | None:
        """Return the descriptor at `addr` as fetched."""
        return None if self._descs is None else self._descs.get(addr, DESC_BYTES)

    def after(self, causes: int) -> None:
        """Do nothing: for transmit `run` does it."""

    def run(self) -> None:
        """Take one step: fetch descriptors, fetch frames, or let the engine run."""
        nic, tx = self._nic, self._nic.tx
        engine = tx.engine
        if self._busy:
            return
        count, head = engine.len >> 4, engine.head
        tail = tx.runnable_end()
        if tail < 0:
            tx.pump_now()  # reports why, or has nothing to do
            return
        ring = (engine.base & ~(DESC_BYTES - 1), count, nic.resets)
        if ring != self._ring:
            self._clear()
            self._ring = ring
        if self._known is None:
            wanted = [
                part
                for at, n in _span(ring[0], count, head, tail)
                for part in self._memory.parts(at, n)
            ]
            if wanted:
                self._fetch(wanted, lambda got: self._have_descriptors(got, tail))
                return
            self._known = tail
        if self._end is None:
            end, wanted = self._plan(head, self._known)
            if wanted:
                self._fetch(wanted, lambda got: self._have_frames(got, end))
                return
            self._end = end
        if self._descs is None and self._frames is None and self._end == tail:
            self._clear()
            tx.pump_now()  # all of it is in shared memory
        else:
            self._run(self._end, tail)

    def _refused(self) -> None:
        self._clear()

    def _have_descriptors(self, got: Fetched, tail: int) -> None:
        self._descs, self._known = got, tail

    def _have_frames(self, got: Fetched, end: int) -> None:
        self._frames, self._end = got, end

    def _plan(self, head: int, known: int) -> tuple[int, list[tuple[int, int]]]:
        """Return the end of the next frames to send, and the data to fetch for them."""
        assert self._ring is not None
        base, count, _ = self._ring
        table, parts = self._nic.memory, self._memory.parts
        wanted: list[tuple[int, int]] = []
        total = 0
        index = head
        while index != known and total < TX_BYTES:
            at = base + index * DESC_BYTES
            index = index + 1 if index + 1 < count else 0
            desc = self.descriptor(at)
            if desc is None:
                if parts(at, DESC_BYTES):
                    break  # it could not be read: the engine gets the abort itself
                aborts = table.aborts
                desc = table.read(at, DESC_BYTES)
                if table.aborts != aborts:
                    table.aborts = aborts
                    break  # not shared either: the same
            addr, low = DESC.unpack(desc)
            if not low >> 24 & TXD_DEXT:
                n = low & 0xFFFF
            elif low >> 20 & 0xF == TXD_DATA:
                n = low & 0xFFFFF
            else:
                continue
            if addr and n:
                found = parts(addr, n)
                wanted += found
                total += n if found else 0
        return index, wanted

    def _run(self, end: int, tail: int) -> None:
        """Let the engine send up to `end`, as far as the link accepts it."""
        tx, dma = self._nic.tx, self._dma
        result = tx.run_to(end)
        if result == NO_ROOM:
            return  # tx_ready continues
        frames, flags = result >> 32, result & 0xFFFFFFFF
        engine = tx.engine
        if engine.head == end:
            self._frames = self._end = None
            if end == self._known:
                self._descs = self._known = None
        elif flags & RUN_ABORT:
            self._clear()
        if end != tail:
            flags &= ~(TXQE | TXD_LOW)  # the ring is not empty
        dma.barrier(lambda: tx.settle(flags, frames))
        if flags & RUN_MORE or (engine.head == end and end != tail):
            tx.pump()


class RxStage(FetchStage):
    """Fetches free descriptors as the guest posts them; the engine's tail follows."""

    def __init__(self, dma: MessageDma) -> None:
        super().__init__(dma)
        self._used = False
        self._have: dict[int, bytes] = {}

    def use(self, on: bool) -> None:
        """Fetch for the receive engine, or let it access memory directly."""
        # Also shared memory beside, and of a recorded NIC another table than its own.
        self._memory.table.ordered = on
        if on == self._used:
            return
        self._used = on
        self._drop()
        self._nic.rx.use_stage(self if on else None)

    def forget(self) -> None:
        """Discard fetched data after a change of the ring or memory."""
        rx = self._nic.rx
        self._drop()
        if self._used:
            rx.fetched(rx.engine.head)
            rx.kick()

    def _drop(self) -> None:
        self._epoch += 1
        self._busy = False
        self._have.clear()

    def get(self, addr: int, n: int) -> bytes | None:
        """Return part of a descriptor that was fetched."""
        at = addr & ~(DESC_BYTES - 1)
        desc = self._have.get(at)
        if desc is None or addr - at + n > DESC_BYTES:
            return None
        return desc[addr - at : addr - at + n]

    def run(self) -> None:
        """Fetch newly posted descriptors, or continue with the present ones."""
        nic, rx = self._nic, self._nic.rx
        engine = rx.engine
        count, head, have = engine.len >> 4, engine.head, engine.prefetched
        tail = nic.regs.peek(RDT)
        if self._busy:
            return
        base = engine.base & ~(DESC_BYTES - 1)
        if count < 8 or head >= count or tail > count or base + count * DESC_BYTES > 1 << 64:
            rx.fetched(tail)
            rx.kick_now()
            return
        if not self._dma.may_fetch:
            rx.kick_now()
            return
        # An index of `count` is outside the ring and means its rest.
        free = count - head if tail == count else (tail - head) % count
        fetched = count - head if have == count else (have - head) % count
        if free < fetched:  # the tail moved back
            self.forget()
            return
        if free > fetched:
            if have == count:
                have = 0
            spans = _span(base, count, have, 0 if tail == count else tail)
            wanted = [part for at, n in spans for part in self._memory.parts(at, n)]
            if wanted:
                self._fetch(wanted, lambda got: self._have_descriptors(got, tail, spans))
                return
            rx.fetched(tail)
        rx.kick_now()

    def _have_descriptors(self, got: Fetched, tail: int, spans: list[tuple[int, int]]) -> None:
        for start, n in spans:
            for at in range(start, start + n, DESC_BYTES):
                desc = got.get(at, DESC_BYTES)
                if desc is not None:
                    self._have[at] = desc
                else:
                    self._have.pop(at, None)
        self._nic.rx.fetched(tail)

    def after(self, causes: int) -> None:
        """Raise `causes` when all writes of the run are in memory."""
        rx = self._nic.rx
        if rx.engine.prefetched != self._nic.regs.peek(RDT):
            causes &= ~RXDMT0  # more are free than the engine sees
        self._dma.barrier(lambda: rx.settle(causes))


def _nothing(on: bool) -> None:
    pass


def _span(base: int, count: int, first: int, end: int) -> list[tuple[int, int]]:
    """Return where descriptors `first` … `end` of a ring lie, as one or two (address, bytes)."""
    if first <= end and (first != end):
        return [(base + first * DESC_BYTES, (end - first) * DESC_BYTES)]
    spans = [(base + first * DESC_BYTES, (count - first) * DESC_BYTES)]
    if end:
        spans.append((base, end * DESC_BYTES))
    return spans


def _merged(wanted: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join overlapping or adjacent ranges."""
    start = end = -1
    for addr, n in sorted(wanted):
        if addr > end:
            if end > start:
                yield start, end - start
            start, end = addr, addr + n
        else:
            end = max(end, addr + n)
    if end > start:
        yield start, end - start
