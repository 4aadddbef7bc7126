"""Batch pool, link counters and cable in plain Python: the twin of ``fastpath.nic.cable``."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from fastpath.base.batch import FrameBatch

KEEP_BYTES = 4 << 20
GAP_BYTES = 12
WIRE_OVERHEAD_BYTES = 8 + 4 + GAP_BYTES


@dataclass(slots=True)
class LinkStats:
    """Counted by the batch."""

    tx_frames: int = 0
    tx_bytes: int = 0
    rx_frames: int = 0
    rx_bytes: int = 0
    drops: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, frames: int) -> None:
        """Count `frames` lost for `reason`."""
        if frames:
            self.drops[reason] = self.drops.get(reason, 0) + frames


class BatchPool:
    """A free list of empty batches."""

    def __init__(self, keep: int = 64) -> None:
        self._free: list[FrameBatch] = []
        self.keep = keep
        self.made = 0
        self.returned = 0

    def get(self) -> FrameBatch:
        """Return an empty batch."""
        if self._free:
            return self._free.pop()
        self.made += 1
        return FrameBatch()

    def put(self, batch: FrameBatch) -> None:
        """Empty `batch` and keep it."""
        large = batch.nbytes > KEEP_BYTES
        batch.clear()
        self.returned += 1
        if not large and len(self._free) < self.keep:
            self._free.append(batch)


shared = BatchPool()


class CableEnd:
    """One end of a lossless cable with push-back."""

    def __init__(self) -> None:
        self.clock: Any = None
        self.port: Any = None
        self.stats = LinkStats()
        self.peer: Any = None
        self._carrier = False
        self._queue: deque[list[Any]] = deque()  # [batch, first frame not taken, arrival]
        self._queued = 0
        self.busy_ns = 0
        self._scheduled = self._delivering = self._held = self._starved = False
        self.gap_bytes = GAP_BYTES
        self.sink: Any = None
        self._fresh = False

    def _shape(self, latency_ns: int, rate_bps: int, queue_frames: int) -> None:
        self.latency_ns = latency_ns
        self.rate_bps = rate_bps
        self.queue_frames = queue_frames

    def _flush(self) -> int:
        lost, self._queued = self._queued, 0
        for batch, _, _ in self._queue:
            shared.put(batch)
        self._queue.clear()
        self._held = False
        return lost

    def tx_room(self) -> int:
        """Return how many frames the cable takes now."""
        room: int = self.peer.queue_frames - self.peer._queued
        if room > 0:
            return room
        self.peer._starved = True
        return 0

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames."""
        n = len(batch)
        if not self._carrier or not n:
            self.stats.drop("no carrier", n)
            shared.put(batch)
            return
        self.stats.tx_frames += n
        self.stats.tx_bytes += batch.nbytes
        when = done = 0
        peer = self.peer
        if self.latency_ns or self.rate_bps:
            when = self.clock.now_ns()
            if self.rate_bps:
                bits = 8 * (batch.nbytes + n * (WIRE_OVERHEAD_BYTES - GAP_BYTES + self.gap_bytes))
                when = max(when, self.busy_ns) + bits * 1_000_000_000 // self.rate_bps
                self.busy_ns = when
            when += self.latency_ns
        elif peer.sink is not None and not (peer._queue or peer._held or peer._delivering):
            done = peer.sink.store(batch)
            peer._fresh = peer._fresh or done > 0
        if done == n:
            peer.stats.rx_frames += n
            peer.stats.rx_bytes += batch.nbytes
            shared.put(batch)
        else:
            peer._queue.append([batch, done, when])
            peer._queued += n - done
        peer._schedule()

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self._schedule()

    def _schedule(self) -> None:
        if self._scheduled or self._delivering or self._held:
            return
        if not self._queue and not self._fresh:
            return
        self._scheduled = True
        when = 0 if self._fresh else self._queue[0][2]
        if when > self.clock.now_ns():
            self.clock.call_at(when, self._deliver)
        else:
            self.clock.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        self._delivering = True
        queue = self._queue
        try:
            if self._fresh:
                self._fresh = False
                if self.sink is not None:
                    self.sink.stored()
            while queue and not self._held and self.port is not None:
                entry = queue[0]
                batch, start, when = entry
                if when > self.clock.now_ns():
                    break
                self._held = True
                end = self.port.receive(batch, start, True)
                if not queue or queue[0] is not entry:
                    continue
                n = len(batch)
                if end >= n:
                    self._held = False
                    queue.popleft()
                    self._queued -= n - start
                    self.stats.rx_frames += n
                    self.stats.rx_bytes += batch.nbytes
                    shared.put(batch)
                else:
                    entry[1] = end
                    self._queued -= end - start
                    if end <= start:
                        break
        finally:
            self._delivering = False
        self._schedule()
        self._offer_room()

    def _offer_room(self) -> None:
        if self._starved and self._queued < self.queue_frames:
            self._starved = False
            if self.peer.port is not None:
                self.peer.port.tx_ready()
