"""Middleware that delays frames according to the speed that a NIC has negotiated.

A wire in software is as fast as the program. With `Pace` a frame arrives when its last bit would,
in both directions; with half duplex the two share the wire.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from e1000emu.links import pool
from e1000emu.links.base import Middleware, send_copies
from e1000emu.links.caps import LinkCaps, StackedWire
from e1000emu.links.pair import WIRE_OVERHEAD_BYTES

if TYPE_CHECKING:
    from e1000emu.ports import Clock, Link
    from fastpath.base.batch import FrameBatch

BACKLOG_NS = 2_000_000
"""Wire time of frames accepted before the sender is pushed back: it hides a late timer."""
GRAIN_NS = 100_000
"""Frames may arrive this much early, so that one timer serves several of them."""
SHORTEST_BYTES = 60
"""The shortest frame on the wire, without its FCS: shorter ones are padded."""


class _Wire:
    """The time when the wire is free; one for each direction, or one for both."""

    __slots__ = ("busy_ns",)

    def __init__(self) -> None:
        self.busy_ns = 0


class _Way:
    """Frames in flight in one direction, each with the arrival time of its last bit."""

    def __init__(self, pace: Pace, offer: Callable[[FrameBatch, int], int]) -> None:
        self._pace = pace
        self._clock = pace.clock
        self._offer = offer
        self._queue: deque[tuple[FrameBatch, list[int]]] = deque()
        self._at = 0
        self._held = self._offering = False
        self._timer_ns = math.inf

    @property
    def backlog_ns(self) -> int:
        """How long the wire is busy with accepted frames."""
        return max(0, self._pace.wire(self).busy_ns - self._clock.now_ns())

    def put(self, batch: FrameBatch) -> None:
        """Accept the frames. Takes ownership of `batch`."""
        wire, bit_ps = self._pace.wire(self), 1_000_000 // self._pace.speed()[0]
        when_ps = max(self._clock.now_ns(), wire.busy_ns) * 1000
        due = []
        for i in range(len(batch)):
            frame_bytes = max(SHORTEST_BYTES, batch.frame_len(i)) + WIRE_OVERHEAD_BYTES
            when_ps += 8 * frame_bytes * bit_ps
            due.append(when_ps // 1000)
        wire.busy_ns = when_ps // 1000
        self._queue.append((batch, due))
        self.run()

    def run(self) -> None:
        """Deliver due frames until they are not accepted."""
        if self._offering:
            return
        self._offering = True
        try:
            while self._queue and not self._held and self._step():
                pass
        finally:
            self._offering = False
        if self._queue and not self._held:
            when = self._queue[0][1][self._at]
            if when < self._timer_ns:
                self._timer_ns = when
                self._clock.call_at(when, self._timer)

    def _timer(self) -> None:
        self._timer_ns = math.inf
        self.run()

    def _step(self) -> bool:
        """Offer the due frames of the first batch; False if there are none."""
        batch, due = self._queue[0]
        limit, end, start = self._clock.now_ns() + GRAIN_NS, self._at, self._at
        while end < len(due) and due[end] <= limit:
            end += 1
        if end == start:
            return False
        part = pool.get()
        part.extend(batch, start, end)
        self._held = True
        taken = self._offer(part, 0)
        pool.put(part)
        if not self._queue or self._queue[0][0] is not batch:
            return False  # unplugged meanwhile
        self._at = start + taken
        if self._at == end:
            self._held = False
        if self._at == len(due):
            self._queue.popleft()
            self._at = 0
            pool.put(batch)
        return not self._held

    def resume(self) -> None:
        """The receiver has room again."""
        self._held = False
        self.run()

    def clear(self) -> int:
        """Drop all frames in flight; return their number."""
        lost = sum(len(due) for _, due in self._queue) - self._at
        self._queue.clear()
        self._at = 0
        self._held = False
        return lost


class Pace(Middleware):
    """`Pace(link, clock=clock)`: `link` at the speed of `speed()`, (Mbit/s, full duplex).

    Until `speed` is replaced, it is the link's.  Nothing is dropped: a sender is pushed back
    once BACKLOG_NS of frames are queued.
    """

    def __init__(self, link: Link, *, clock: Clock | None = None) -> None:
        super().__init__(link, clock=clock)
        self.stats = self.below.stats or self.stats
        self.speed: Callable[[], tuple[int, bool]] = lambda: (
            self.speed_mbps,
            self.below.full_duplex,
        )
        self._wires = _Wire(), _Wire()
        self._tx = _Way(self, self._offer_down)
        self._rx = _Way(self, self._offer_up)
        self._starved = self._pushed = False
        """The port above, or the link below, waits for room."""
        self._waits = False
        """`_look` is scheduled."""

    def __repr__(self) -> str:
        return f"Pace({self.link!r})"

    def wire(self, way: _Way) -> _Wire:
        """Return the wire of a direction."""
        return self._wires[way is self._rx and self.speed()[1]]

    @property
    def caps(self) -> LinkCaps:
        """The capabilities of the link below; frames take time."""
        wire = StackedWire(self.below.timed, lambda: self.wire(self._tx).busy_ns)
        return replace(super().caps, timed=wire)

    def _frames(self, way: _Way) -> int:
        """Return how many frames of maximum length fit into the backlog, at least one."""
        left = BACKLOG_NS - way.backlog_ns
        longest_ns = 8 * (1518 + WIRE_OVERHEAD_BYTES) * 1000 // self.speed()[0]
        return 0 if left <= 0 else 1 + left // longest_ns

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        room = self._frames(self._tx)
        if not room and not self._starved:
            self._starved = True
            self._call_when_room()
        return room

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""
        self._tx.put(batch)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive frames from the link below. Borrows `batch` until return."""
        if self.port is None:
            return super().receive(batch, start, hold)
        end = len(batch)
        if hold:
            end = min(end, start + self._frames(self._rx))
            if end < len(batch):
                self._pushed = True
                self._call_when_room()
        if end > start:
            own = pool.get()
            own.extend(batch, start, end)
            self._rx.put(own)
        return end

    def _call_when_room(self) -> None:
        """Schedule a check when half of the backlog was sent."""
        if self._waits:
            return
        self._waits = True
        busy_ns = max(self._tx.backlog_ns, self._rx.backlog_ns)
        wait_ns = max(GRAIN_NS, busy_ns - BACKLOG_NS // 2)
        self.clock.call_at(self.clock.now_ns() + wait_ns, self._look)

    def _look(self) -> None:
        self._waits = False
        if self._starved and self._frames(self._tx):
            self._starved = False
            if self.port is not None:
                self.port.tx_ready()
        if self._pushed and self._frames(self._rx):
            self._pushed = False
            self.link.rx_ready()
        if self._starved or self._pushed:
            self._call_when_room()

    def _offer_down(self, batch: FrameBatch, start: int) -> int:
        return send_copies(self.link, batch, start)

    def _offer_up(self, batch: FrameBatch, start: int) -> int:
        if self.port is None:
            self.stats.drop("no port", len(batch) - start)
            return len(batch)
        return self.port.receive(batch, start, True)

    def tx_ready(self) -> None:
        """The link below has room again."""
        self._tx.resume()

    def rx_ready(self) -> None:
        """The port above has room again."""
        self._rx.resume()

    def detach(self) -> None:
        """Unplug the port; frames in flight are lost."""
        super().detach()
        self.stats.drop("unplugged", self._tx.clear() + self._rx.clear())
        self._starved = self._pushed = False
