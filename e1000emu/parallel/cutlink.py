"""The end of a cable whose other end is on another clock: frames cross as bytes with a time.

It replaces an end of `links.pair` with the same delay, rate and queue. Its answers to the sender
do not depend on the receiver, because this side cannot know the receiver's state now. Frames for
a full port wait at the receiver's end.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from e1000emu.links import pool
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES, BaseLink
from e1000emu.quantities import SECOND_NS
from fastpath.nic.cable import GAP_BYTES, WIRE_OVERHEAD_BYTES

if TYPE_CHECKING:
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock
    from fastpath.base.batch import FrameBatch

HEAD = struct.Struct("<qIBIII")


class Arrival(NamedTuple):
    """Frames that were sent together, and their arrival time. Arrivals are sorted in this order."""

    when_ns: int
    link: int
    side: int
    """The sender's side."""
    sequence: int
    """Number of arrivals sent by this side of the link."""
    frame_count: int
    frames: bytes
    """Length and FB_* flags of each frame (4 bytes each), then the frames."""


def pack(arrival: Arrival) -> bytes:
    """Return it as bytes with their length for `unpack`."""
    return HEAD.pack(*arrival[:5], len(arrival.frames)) + arrival.frames


def unpack(data: bytes | memoryview) -> list[Arrival]:
    """Return the arrivals that were packed one after the other."""
    found, at = [], 0
    while at < len(data):
        *head, size = HEAD.unpack_from(data, at)
        at += HEAD.size
        found.append(Arrival._make((*head, bytes(data[at : at + size]))))
        at += size
    return found


def encode(batch: FrameBatch) -> bytes:
    """Return the frames of a batch as bytes.  Borrows `batch` until return."""
    words = []
    for i in range(len(batch)):
        words += [batch.frame_len(i), batch.flags(i)]
    return struct.pack(f"<{len(words)}I", *words) + b"".join(batch)


def decode(arrival: Arrival, batch: FrameBatch) -> None:
    """Append the frames to `batch`."""
    words = struct.unpack_from(f"<{2 * arrival.frame_count}I", arrival.frames)
    view, at = memoryview(arrival.frames), 8 * arrival.frame_count
    for length, flags in zip(words[::2], words[1::2], strict=True):
        batch.append(view[at : at + length], flags)
        at += length


class CutEnd(BaseLink):
    """One end of a cable. `send` is called with sent frames; call `arrive` with received ones.

    There is a carrier as long as a port is plugged in. Frames that wait for the port beyond
    `queue_frames` are dropped.
    """

    def __init__(
        self,
        clock: Clock,
        send: Callable[[Arrival], None],
        *,
        number: int,
        side: int,
        delay_ns: int,
        rate_bps: int | None = None,
        queue_frames: int = DEFAULT_QUEUE_FRAMES,
    ) -> None:
        super().__init__(clock)
        self.number = number
        self.side = side
        self.sent = sha256()
        """The digest of all sent frames, with their times."""
        self.gap_bytes = GAP_BYTES
        self.busy_ns = 0
        self._send = send
        self._delay_ns = delay_ns
        self._rate_bps = rate_bps
        self._queue_frames = queue_frames
        self._sequence = 0
        self._on_way: deque[tuple[int, int]] = deque()  # arrival time, number of frames
        self._on_way_frames = 0
        self._starved = False
        self._waiting: deque[list[Any]] = deque()  # a batch, its first undelivered frame
        self._waiting_frames = 0
        self._held = False

    def __repr__(self) -> str:
        return f"CutEnd(link {self.number}, side {self.side})"

    @property
    def caps(self) -> LinkCaps:
        """Frames take time."""
        return replace(super().caps, timed=self)

    def _attached(self) -> None:
        self._carrier = True

    def _detached(self) -> None:
        self._carrier = False
        self.stats.drop("unplugged", self._waiting_frames)
        while self._waiting:
            pool.put(self._waiting.popleft()[0])
        self._waiting_frames = 0
        self._held = False
        self.gap_bytes = GAP_BYTES

    # --- sending -----------------------------------------------------------------

    def tx_room(self) -> int:
        """Return how many frames the cable accepts now; 0 promises a `tx_ready` later."""
        now = self.clock.now_ns()
        while self._on_way and self._on_way[0][0] <= now:
            self._on_way_frames -= self._on_way.popleft()[1]
        room = self._queue_frames - self._on_way_frames
        if room > 0:
            return room
        if not self._starved:
            self._starved = True
            self.clock.call_at(self._on_way[0][0], self._offer_room)
        return 0

    def _offer_room(self) -> None:
        self._starved = False
        if self.port is not None and self.tx_room():
            self.port.tx_ready()

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""
        count, size, when = len(batch), batch.nbytes, self.clock.now_ns()
        if count:
            if self._rate_bps is not None:
                bits = 8 * (size + count * (WIRE_OVERHEAD_BYTES - GAP_BYTES + self.gap_bytes))
                when = max(when, self.busy_ns) + bits * SECOND_NS // self._rate_bps
                self.busy_ns = when
            when += self._delay_ns
            arrival = Arrival(when, self.number, self.side, self._sequence, count, encode(batch))
            self._sequence += 1
            self.stats.tx_frames += count
            self.stats.tx_bytes += size
            self._on_way.append((when, count))
            self._on_way_frames += count
            self.sent.update(HEAD.pack(*arrival[:5], len(arrival.frames)))
            self.sent.update(arrival.frames)
            self._send(arrival)
        pool.put(batch)

    # --- receiving ------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> None:
        """Offer received frames to the port; call at their arrival time."""
        if self.port is None:
            self.stats.drop("no port", arrival.frame_count)
            return
        if self._waiting_frames + arrival.frame_count > self._queue_frames:
            self.stats.drop("queue full", arrival.frame_count)
            return
        batch = pool.get()
        decode(arrival, batch)
        self.stats.rx_frames += arrival.frame_count
        self.stats.rx_bytes += batch.nbytes
        self._waiting.append([batch, 0])
        self._waiting_frames += arrival.frame_count
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting and not self._held and self.port is not None:
            entry = self._waiting[0]
            batch, start = entry
            self._held = True
            end = self.port.receive(batch, start, True)
            if not self._waiting or self._waiting[0] is not entry:
                return  # unplugged on receiving
            self._waiting_frames -= end - start
            entry[1] = end
            if end >= len(batch):
                self._held = False
                self._waiting.popleft()
                pool.put(batch)
            elif end <= start:
                return  # nothing accepted: retry after the clock's other events

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self.clock.call_soon(self._deliver)
