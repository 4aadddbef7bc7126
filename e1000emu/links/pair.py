"""A cable between two ports: lossless, with push-back, delay and rate when asked for.

Batches change hands, frames are not touched: a batch costs one call on the clock however many
frames it has.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from e1000emu.links import pool
from e1000emu.links.base import DEFAULT_QUEUE_FRAMES, BaseLink

if TYPE_CHECKING:
    from e1000emu.ports import Clock
    from fastpath.batch import FrameBatch

__all__ = ["PairEnd", "pair"]

# Preamble, start delimiter, FCS and the gap between frames (IEEE 802.3 4.2.3.2), in bytes.
WIRE_OVERHEAD_BYTES = 8 + 4 + 12


class PairEnd(BaseLink):
    """One end of a cable. Frames sent into it come out at `peer`'s port."""

    peer: PairEnd

    def __init__(
        self,
        clock: Clock,
        *,
        latency_ns: int = 0,
        rate_bps: int | None = None,
        queue_frames: int = DEFAULT_QUEUE_FRAMES,
    ) -> None:
        super().__init__(clock)
        self._latency_ns = latency_ns
        self._rate_bps = rate_bps
        self._queue_frames = queue_frames
        # Towards this end's port: [batch, index of the first frame not taken, when it arrives].
        self._queue: deque[list] = deque()
        self._queued = 0
        self._busy_ns = 0
        self._cable = True
        self._scheduled = False
        self._delivering = False
        self._held = False  # the port left frames and has not called rx_ready since
        self._starved = False  # the peer's port was told that there is no room

    def __repr__(self) -> str:
        return f"PairEnd(carrier={self._carrier}, queued={self._queued})"

    def _attached(self) -> None:
        # The port that is plugged in reads the carrier itself; only the far one is told.
        self._carrier = self._cable and self.peer.port is not None
        self.peer._set_carrier(self._carrier)

    def _detached(self) -> None:
        self.stats.drop("unplugged", self._queued)
        for batch, _, _ in self._queue:
            pool.put(batch)
        self._queue.clear()
        self._queued = 0
        self._held = False
        self._both_carriers()
        self._offer_room()

    def plug(self, connected: bool) -> None:
        """Connect or cut the cable; what is on it when it is cut still arrives."""
        self._cable = self.peer._cable = connected
        self._both_carriers()

    def _both_carriers(self) -> None:
        up = self._cable and self.port is not None and self.peer.port is not None
        self._set_carrier(up)
        self.peer._set_carrier(up)

    def tx_room(self) -> int:
        """Return how many frames the cable takes now; 0 promises a `tx_ready` later."""
        room = self.peer._queue_frames - self.peer._queued
        if room > 0:
            return room
        self.peer._starved = True
        return 0

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames, also more than `tx_room`. Takes ownership of `batch`."""
        n = len(batch)
        if not self._carrier or not n:
            self.stats.drop("no carrier", n)
            pool.put(batch)
            return
        nbytes = batch.nbytes
        stats = self.stats
        stats.tx_frames += n
        stats.tx_bytes += nbytes
        when = 0
        if self._latency_ns or self._rate_bps:
            when = self.clock.now_ns()
            if self._rate_bps:
                bits = 8 * (nbytes + n * WIRE_OVERHEAD_BYTES)
                when = max(when, self._busy_ns) + bits * 1_000_000_000 // self._rate_bps
                self._busy_ns = when
            when += self._latency_ns
        peer = self.peer
        peer._queue.append([batch, 0, when])
        peer._queued += n
        peer._schedule()

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self._schedule()

    def _schedule(self) -> None:
        if self._scheduled or self._delivering or self._held or not self._queue:
            return
        self._scheduled = True
        when = self._queue[0][2]
        if when > self.clock.now_ns():
            self.clock.call_at(when, self._deliver)
        else:
            self.clock.call_soon(self._deliver)

    def _deliver(self) -> None:
        """Hand the batches that have arrived to the port until it holds."""
        self._scheduled = False
        self._delivering = True
        queue = self._queue
        try:
            while queue and not self._held and self.port is not None:
                entry = queue[0]
                batch, start, when = entry
                if when and when > self.clock.now_ns():
                    break
                # A port that frees descriptors inside receive() calls rx_ready() before it returns.
                self._held = True
                end = self.port.receive(batch, start, True)
                if not queue or queue[0] is not entry:
                    continue  # unplugged meanwhile
                n = len(batch)
                if end >= n:
                    self._held = False
                    queue.popleft()
                    self.stats.rx_frames += n
                    self.stats.rx_bytes += batch.nbytes
                    pool.put(batch)
                    self._queued -= n - start
                else:
                    entry[1] = end
                    self._queued -= end - start
                    if end <= start:
                        break  # nothing taken: try again only after the clock's other events
        finally:
            self._delivering = False
        self._schedule()
        self._offer_room()

    def _offer_room(self) -> None:
        if self._starved and self._queued < self._queue_frames:
            self._starved = False
            if self.peer.port is not None:
                self.peer.port.tx_ready()


def pair(
    clock: Clock,
    *,
    latency_ns: int = 0,
    rate_bps: int | None = None,
    queue_frames: int = DEFAULT_QUEUE_FRAMES,
) -> tuple[PairEnd, PairEnd]:
    """Make a cable and return its two ends; `queue_frames` bounds each direction.

    With `rate_bps` a batch arrives when its last bit does, `latency_ns` later.
    """
    a, b = (
        PairEnd(clock, latency_ns=latency_ns, rate_bps=rate_bps, queue_frames=queue_frames)
        for _ in range(2)
    )
    a.peer, b.peer = b, a
    return a, b
