"""Links without a far end: one that discards frames, one that generates them."""

from __future__ import annotations

from collections.abc import Iterable

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import BaseLink, whole
from e1000emu.ports import Clock
from fastpath.base.batch import FrameBatch
from fastpath.errors import check_methods, check_type, real_number


class NullLink(BaseLink):
    """A far end with a carrier that accepts everything and sends nothing."""

    def __init__(self, clock: Clock, *, speed_mbps: int = 1000) -> None:
        super().__init__(clock, speed_mbps=speed_mbps)
        self._carrier = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}(tx_frames={self.stats.tx_frames})"

    def transmit(self, batch: FrameBatch) -> None:
        """Count and discard the frames. Takes ownership of `batch`."""
        self.stats.tx_frames += len(batch)
        self.stats.tx_bytes += batch.nbytes
        pool.put(batch)


class Generator(NullLink):
    """Sends `frames` over and over: `count` in all (None: no end), at `rate_pps` (None: no limit).

    One batch is offered repeatedly, so a round costs no copy. Frames that the port sends are
    counted and discarded.
    """

    def __init__(
        self,
        clock: Clock,
        frames: Iterable[bytes],
        *,
        count: int | None = None,
        rate_pps: float | None = None,
        batch_frames: int = 64,
        speed_mbps: int = 1000,
    ) -> None:
        super().__init__(clock, speed_mbps=speed_mbps)
        takes = "a list of frames, each of bytes"
        check_methods("Generator", "frames", frames, ("__iter__",), takes)
        once = list(frames)
        if not once:
            raise LinkError("Generator: frames is empty; give at least one frame")
        for number, frame in enumerate(once):
            kinds = (bytes, bytearray, memoryview)
            check_type("Generator", f"frames[{number}]", frame, kinds, takes)
        if rate_pps is not None:
            rate_pps = real_number(
                "Generator",
                "rate_pps",
                rate_pps,
                1e-9,
                1e12,
                takes="a rate above 0, or None for no limit",
                error=LinkError,
            )
        if count is not None:
            count = whole(self, "count", count, 0)
        batch_frames = whole(self, "batch_frames", batch_frames, 1)
        rounds = max(1, batch_frames // len(once))
        self._batch = FrameBatch(once * rounds)
        self._tail = FrameBatch()  # the last round, if count is not a multiple of the batch
        self._left = count
        self._step_ns = None if rate_pps is None else round(len(self._batch) * 1e9 / rate_pps)
        self._next_ns = 0
        self._at = 0
        self._held = False
        self._scheduled = False

    def _attached(self) -> None:
        self._next_ns = self.clock.now_ns()
        self._held = False
        self._schedule()

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self._schedule()

    @property
    def done(self) -> bool:
        """Whether `count` frames have been accepted."""
        return self._left == 0

    def _schedule(self) -> None:
        if self._scheduled or self._held or self._left == 0 or self.port is None:
            return
        self._scheduled = True
        if self._step_ns is not None and self._next_ns > self.clock.now_ns():
            self.clock.call_at(self._next_ns, self._send)
        else:
            self.clock.call_soon(self._send)

    def _send(self) -> None:
        self._scheduled = False
        if self.port is None or self._left == 0:
            return
        batch, start = self._batch, self._at
        if self._left is not None and self._left < len(batch) - start:
            self._tail.clear()
            self._tail.extend(batch, start, start + self._left)
            batch, start = self._tail, 0
        self._held = True
        end = self.port.receive(batch, start, True)
        taken = end - start
        if self._left is not None:
            self._left -= taken
        self.stats.rx_frames += taken
        self._at = (self._at + taken) % len(self._batch)
        if end >= len(batch):
            self.stats.rx_bytes += batch.nbytes
            self._held = False
            if self._step_ns is not None:
                self._next_ns += self._step_ns
        self._schedule()
