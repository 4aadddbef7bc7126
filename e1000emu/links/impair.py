"""Middleware that impairs a link: loss, delay, jitter, reordering, duplicates, errors, rate.

What happens to the n-th frame of a direction depends on the seed and n alone, not on how frames
come in batches. Effects are drawn as distances to the next affected frame, so a batch without
one costs no work per frame; only jitter and a rate touch each frame.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import Middleware, optional_rate, whole
from e1000emu.links.caps import LinkCaps, StackedWire
from e1000emu.links.pair import WIRE_OVERHEAD_BYTES
from fastpath.base.batch import FB_BAD_CRC
from fastpath.errors import real_number

if TYPE_CHECKING:
    from e1000emu.ports import Clock, Link
    from fastpath.base.batch import FrameBatch

# A frame held back for reordering is sent at the latest after this.
REORDER_HOLD_NS = 2_000_000
DEFAULT_QUEUE_FRAMES = 1000
# With a rate, frames whose last bits arrive within this time are delivered together.
GRAIN_NS = 100_000
# The number of a frame that never comes.
NEVER = 1 << 62


class _Fate:
    """Numbers of the affected frames, `p` of all, in rising order."""

    __slots__ = ("_log", "next", "random")

    def __init__(self, p: float, seed: str) -> None:
        self.random = random.Random(seed)
        self._log = math.log1p(-p) if 0 < p < 1 else -math.inf
        self.next = NEVER if p == 0 else -1
        if p > 0:
            self.advance()

    def advance(self) -> None:
        """Advance to the next affected frame, at a geometric distance."""
        if self._log == -math.inf:
            self.next += 1
        else:
            self.next += 1 + int(min(math.log(1.0 - self.random.random()) / self._log, NEVER))


class _Direction:
    """One direction: effects, then rate and delay, then a queue in front of the receiver."""

    def __init__(
        self,
        clock: Clock,
        offer: Callable[[FrameBatch, int], int],
        *,
        seed: str,
        chances: dict[str, float],
        delay_ns: int,
        jitter_ns: int,
        rate_bps: int | None,
        reorder_span: int,
        count: Callable[[str, int], None],
        lost: Callable[[FrameBatch, int], None],
    ) -> None:
        self._clock = clock
        self._offer = offer
        self._count = count
        self._tell_lost = lost
        self._fates = {name: _Fate(p, f"{seed}/{name}") for name, p in chances.items()}
        self._next_fate = min(fate.next for fate in self._fates.values())
        self._jitter_random = random.Random(f"{seed}/jitter")
        self._span = reorder_span
        self._delay_ns = delay_ns
        self._jitter_ns = jitter_ns
        self._rate_bps = rate_bps
        self.busy_ns = 0
        self._number = 0  # of the next incoming frame
        # Held back: number of the frame before which it is released, order, a batch of this frame.
        self._back: list[tuple[int, int, FrameBatch]] = []
        self._order = 0
        self._slow = bool(delay_ns or jitter_ns or rate_bps)
        # In flight: due time, order, batch; then the due ones, with the first not accepted.
        self._coming: list[tuple[int, int, FrameBatch]] = []
        self._due: list[list] = []
        self.queued = 0
        self._timer_ns = math.inf
        self._held = False
        self._offering = False
        self._generation = 0

    def put(self, batch: FrameBatch) -> None:
        """Accept the frames. Takes ownership of `batch`."""
        n = len(batch)
        first, last = self._number, self._number + n
        if self._next_event() >= last:
            self._number = last
            self._send(batch)
            return
        out = pool.get()
        at = first
        while at < last:
            event = min(self._next_event(), last)
            out.extend(batch, at - first, event - first)
            at = event
            if at < last:
                self._happen(batch, at - first, at, out)
                at += 1
        self._number = last
        pool.put(batch)
        self._send(out)

    def _next_event(self) -> int:
        return min(self._next_fate, self._back[0][0]) if self._back else self._next_fate

    def _happen(self, batch: FrameBatch, i: int, number: int, out: FrameBatch) -> None:
        """Decide on frame `number`, which is `batch[i]`, and append the result to `out`."""
        while self._back and self._back[0][0] <= number:
            _, _, late = heapq.heappop(self._back)
            out.extend(late)
            pool.put(late)
        fates = self._fates
        hits = {name for name, fate in fates.items() if fate.next == number}
        lost, back, wrong = "loss" in hits, "reorder" in hits, "corrupt" in hits
        for name, fate in fates.items():
            if name in hits:
                fate.advance()
                if name == "loss" or not lost:
                    self._count(name.replace("_", " "), 1)
        self._next_fate = min(fate.next for fate in fates.values())
        # Drawn before the loss is checked: an effect must not depend on another's probability.
        bit = fates["corrupt"].random.getrandbits(32) if wrong else 0
        distance = fates["reorder"].random.randint(1, self._span) if back else 0
        if lost:
            self._tell_lost(batch, i)
            return
        target = out
        if back:
            target = pool.get()
        at = len(target)
        target.extend(batch, i, i + 1)
        if wrong:
            with target.view(at) as view:
                bit %= 8 * len(view)
                view[bit >> 3] ^= 1 << (bit & 7)
        if "crc_error" in hits:
            target.set_flags(at, target.flags(at) | FB_BAD_CRC)
        if "duplicate" in hits:
            target.extend(target, at, at + 1)
        if back:
            self._order += 1
            heapq.heappush(self._back, (number + 1 + distance, self._order, target))
            generation = self._generation
            order = self._order
            self._clock.call_at(
                self._clock.now_ns() + REORDER_HOLD_NS, lambda: self._let_go(generation, order)
            )

    def _let_go(self, generation: int, order: int) -> None:
        """Send a held frame that no later frame has overtaken."""
        if generation != self._generation:
            return
        for k, entry in enumerate(self._back):
            if entry[1] == order:
                del self._back[k]
                heapq.heapify(self._back)
                self._send(entry[2])
                return

    def _send(self, batch: FrameBatch) -> None:
        n = len(batch)
        if not n:
            pool.put(batch)
            return
        self.queued += n
        if not (self._slow or self._coming):
            self._due.append([batch, 0])
            self._offer_due()
            return
        now = self._clock.now_ns()
        for when, piece in self._pieces(batch, now):
            when += self._delay_ns
            if self._jitter_ns:
                off = self._jitter_random.randint(-self._jitter_ns, self._jitter_ns)
                when = max(now, when + off)
            if when > now or self._coming:
                self._order += 1
                heapq.heappush(self._coming, (when, self._order, piece))
            else:
                self._due.append([piece, 0])
        self.run()

    def _pieces(self, batch: FrameBatch, now: int) -> Iterator[tuple[int, FrameBatch]]:
        """Yield the frames that arrive together, and their time. Takes ownership of `batch`."""
        rate, grain_ns = self._rate_bps, 0 if self._jitter_ns else GRAIN_NS
        if not rate and grain_ns:
            yield now, batch
            return
        began = when = cut_ns = max(now, self.busy_ns) if rate else now
        bits = first = 0
        n = len(batch)
        for i in range(n):
            if rate:
                bits += 8 * (batch.frame_len(i) + WIRE_OVERHEAD_BYTES)
                when = began + bits * 1_000_000_000 // rate
            if i + 1 < n and when - cut_ns < grain_ns:
                continue
            self.busy_ns = cut_ns = when
            if i + 1 == n and not first:
                yield when, batch
                return
            piece = pool.get()
            piece.extend(batch, first, i + 1)
            first = i + 1
            yield when, piece
        pool.put(batch)

    def run(self) -> None:
        """Move due frames to the queue, and offer them until they are not accepted."""
        now = self._clock.now_ns()
        while self._coming and self._coming[0][0] <= now:
            self._due.append([heapq.heappop(self._coming)[2], 0])
        self._offer_due()
        if self._coming and self._coming[0][0] < self._timer_ns:
            self._timer_ns = self._coming[0][0]
            self._clock.call_at(self._coming[0][0], self._timer)

    def _offer_due(self) -> None:
        if self._offering:
            return
        self._offering = True
        try:
            while self._due and not self._held:
                self._offer_first()
        finally:
            self._offering = False

    def _timer(self) -> None:
        self._timer_ns = math.inf
        self.run()

    def _offer_first(self) -> None:
        entry = self._due[0]
        batch, start = entry
        n = len(batch)
        generation = self._generation
        self._held = True
        end = self._offer(batch, start)
        if generation != self._generation:
            return
        self.queued -= end - start
        entry[1] = end
        if end >= n:
            self._held = False
            self._due.pop(0)

    def resume(self) -> None:
        """The receiver has room again."""
        self._held = False
        if not self._offering:
            self.run()

    def clear(self) -> int:
        """Drop all frames in flight; return their number."""
        lost = self.queued + sum(len(entry[2]) for entry in self._back)
        self._generation += 1
        self._back.clear()
        self._coming.clear()
        self._due.clear()
        self.queued = 0
        self._held = False
        return lost


class Impair(Middleware):
    """`Impair(link, loss=0.01, reorder=0.02, seed=7)`: `link`, impaired in both directions.

    loss: share of frames that do not arrive, 0 to 1
    delay_ns: added delay of each frame
    jitter_ns: maximum deviation from `delay_ns`, either way; may reorder frames
    reorder: share of frames that are overtaken by later ones
    duplicate: share of frames that arrive twice
    corrupt: share of frames with one bit flipped but a correct CRC: only checksums above detect it
    crc_error: share of frames with a wrong CRC, which the adapter detects
    rate_bps: bits per second of the wire, its overhead included, in each direction
    seed: the same seed affects the same frames
    reorder_span: maximum number of frames that overtake a reordered one
    queue_frames: queued frames before the sender is pushed back; none is dropped
    direction: "tx" (from the port above), "rx" (to it) or "both"
    """

    def __init__(
        self,
        link: Link,
        *,
        loss: float = 0.0,
        delay_ns: int = 0,
        jitter_ns: int = 0,
        reorder: float = 0.0,
        duplicate: float = 0.0,
        corrupt: float = 0.0,
        crc_error: float = 0.0,
        rate_bps: int | None = None,
        seed: int = 0,
        clock: Clock | None = None,
        reorder_span: int = 3,
        queue_frames: int = DEFAULT_QUEUE_FRAMES,
        direction: str = "both",
    ) -> None:
        super().__init__(link, clock=clock)
        chances = {
            "loss": loss,
            "reorder": reorder,
            "duplicate": duplicate,
            "corrupt": corrupt,
            "crc_error": crc_error,
        }
        for name, p in chances.items():
            chances[name] = real_number(
                "Impair", name, p, 0, 1, takes="a probability, 0 to 1", error=LinkError
            )
        delay_ns = whole(self, "delay_ns", delay_ns, 0, unit="ns")
        jitter_ns = whole(self, "jitter_ns", jitter_ns, 0, unit="ns")
        rate_bps = optional_rate(self, "rate_bps", rate_bps)
        reorder_span = whole(self, "reorder_span", reorder_span, 1)
        queue_frames = whole(self, "queue_frames", queue_frames, 1)
        if direction not in ("tx", "rx", "both"):
            raise LinkError(f"Impair: direction={direction!r}; give 'tx', 'rx' or 'both'")
        self.events: dict[str, int] = {}
        self.on_loss: Callable[[str, FrameBatch, int], None] | None = None
        """Called with "tx" or "rx" and a frame of a batch that is lost; borrows the batch."""
        self._queue_frames = queue_frames
        self._rate_bps = rate_bps
        self._starved = False
        self._pushed = False  # the link below keeps frames because the queue is full

        def make(way: str, offer: Callable[[FrameBatch, int], int]) -> _Direction | None:
            if direction not in (way, "both"):
                return None
            return _Direction(
                self.clock,
                offer,
                seed=f"{seed}/{way}",
                count=self._event,
                lost=lambda batch, i: self._lost(way, batch, i),
                reorder_span=reorder_span,
                rate_bps=rate_bps,
                chances=chances,
                delay_ns=delay_ns,
                jitter_ns=jitter_ns,
            )

        self._tx = make("tx", self._offer_down)
        self._rx = make("rx", self._offer_up)

    def __repr__(self) -> str:
        return f"Impair({self.link!r}, {self.events})"

    def _lost(self, way: str, batch: FrameBatch, i: int) -> None:
        if self.on_loss is not None:
            self.on_loss(way, batch, i)

    def _event(self, name: str, frames: int) -> None:
        self.events[name] = self.events.get(name, 0) + frames

    @property
    def caps(self) -> LinkCaps:
        """The capabilities of the link below; with a rate, frames take time."""
        tx = self._tx
        if tx is None or not self._rate_bps:
            return super().caps
        return replace(super().caps, timed=StackedWire(self.below.timed, lambda: tx.busy_ns))

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        if self._tx is None:
            return self.link.tx_room()
        room = self._queue_frames - self._tx.queued
        if room > 0:
            return room
        self._starved = True
        return 0

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""
        if self._tx is None:
            self.link.transmit(batch)
        else:
            self._tx.put(batch)

    def _offer_down(self, batch: FrameBatch, start: int) -> int:
        n = len(batch)
        # Until the link returns 0, which promises a tx_ready().
        while start < n and (room := self.link.tx_room()) > 0:
            end = min(n, start + room)
            own = pool.get()
            if start == 0 and end == n:
                own.swap(batch)
            else:
                own.extend(batch, start, end)
            start = end
            if end == n:
                pool.put(batch)
            self.link.transmit(own)
        self._more_room()
        return start

    def _more_room(self) -> None:
        # Deferred, since offered frames count as queued until the link has accepted them.
        if self._starved:
            self.clock.call_soon(self._tell_room)

    def _tell_room(self) -> None:
        assert self._tx is not None
        if self._starved and self._tx.queued < self._queue_frames:
            self._starved = False
            if self.port is not None:
                self.port.tx_ready()

    def tx_ready(self) -> None:
        """The link below has room again."""
        if self._tx is None:
            super().tx_ready()
        else:
            self._tx.resume()
            self._more_room()

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive frames from the link below. Borrows `batch` until return."""
        if self._rx is None or self.port is None:
            return super().receive(batch, start, hold)
        n = len(batch)
        end = n
        if hold:
            end = min(n, start + max(0, self._queue_frames - self._rx.queued))
            self._pushed = end < n
        if end > start:
            own = pool.get()
            own.extend(batch, start, end)
            self._rx.put(own)
        return end

    def _offer_up(self, batch: FrameBatch, start: int) -> int:
        n = len(batch)
        if self.port is None:
            self.stats.drop("no port", n - start)
            end = n
        else:
            end = self.port.receive(batch, start, True)
        if end >= n:
            pool.put(batch)
        if end > start and self._pushed:
            self._pushed = False
            self.clock.call_soon(self.link.rx_ready)
        return end

    def rx_ready(self) -> None:
        """The port above has room again."""
        if self._rx is None:
            self.link.rx_ready()
        else:
            self._rx.resume()

    def detach(self) -> None:
        """Unplug the port; frames in flight are lost."""
        super().detach()
        for way in (self._tx, self._rx):
            if way is not None:
                self.stats.drop("unplugged", way.clear())
        self._starved = self._pushed = False
