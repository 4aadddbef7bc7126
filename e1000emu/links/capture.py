"""Middleware that writes passing frames to a pcapng file, seen from the port above it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, PcapngWriter
from e1000emu.clock import VirtualClock
from e1000emu.links.base import Middleware, whole
from fastpath.errors import check_type

if TYPE_CHECKING:
    from e1000emu.ports import Clock, Link
    from fastpath.base.batch import FrameBatch

# A file that is watched while the clock is real shows frames this late at most.
FLUSH_NS = 500_000_000


class Capture(Middleware):
    """`Capture(link, "a.pcapng")`: every frame of `link`, with direction, in one write for a batch.

    `path` may be a PcapngWriter that several captures share; an own writer is closed with the
    capture. Times are the time of day under a real clock. Under a virtual one they are its epoch
    plus its time, the same in each run. Frames are written in the order of their transfer: a
    received one before its effects.
    """

    def __init__(
        self,
        link: Link,
        path: str | os.PathLike[str] | PcapngWriter,
        *,
        name: str = "eth0",
        snap_bytes: int = 262144,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(link, clock=clock)
        snap_bytes = whole(self, "snap_bytes", snap_bytes, 1)
        check_type(type(self).__name__, "name", name, str, "the interface's name, text")
        self._owned = not isinstance(path, PcapngWriter)
        self.writer = path if isinstance(path, PcapngWriter) else PcapngWriter(path)
        self._interface = self.writer.add_interface(
            name, speed_bps=link.speed_mbps * 1_000_000, snap_bytes=snap_bytes
        )
        self._virtual = isinstance(self.clock, VirtualClock)
        now_ns = getattr(self.clock, "realtime_ns", time.time_ns)()
        self._epoch_ns = now_ns - self.clock.now_ns()
        self._flushing = False
        self._offered = 0  # frames already written that the port has not accepted

    def __repr__(self) -> str:
        return f"Capture({self.link!r}, {str(self.writer.path)!r})"

    def _write(self, batch: FrameBatch, start: int, stop: int, direction: int) -> None:
        self.writer.write(
            batch,
            start,
            stop,
            interface=self._interface,
            now_ns=self.clock.now_ns(),
            epoch_ns=self._epoch_ns,
            direction=direction,
        )
        if not self._virtual and not self._flushing:
            self._flushing = True
            self.clock.call_at(self.clock.now_ns() + FLUSH_NS, self._flush)

    def _flush(self) -> None:
        self._flushing = False
        self.writer.flush()

    def transmit(self, batch: FrameBatch) -> None:
        """Write and send the frames. Takes ownership of `batch`."""
        self._write(batch, 0, len(batch), DIRECTION_OUT)
        self.link.transmit(batch)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Write new frames and pass them on. Borrows `batch` until return."""
        n = len(batch)
        if self.port is None:
            return super().receive(batch, start, hold)
        fresh = min(start + self._offered, n)
        self._write(batch, fresh, n, DIRECTION_IN)
        self._offered = max(self._offered, n - start)
        end = self.port.receive(batch, start, hold)
        self._offered = max(0, self._offered - (end - start))
        return end

    def detach(self) -> None:
        """Unplug the port; frames that it has not accepted are lost."""
        super().detach()
        self._offered = 0

    def close(self) -> None:
        """Write the buffer, close the file if it was opened here, close the link below."""
        try:
            if self._owned:
                self.writer.close()
            else:
                self.writer.flush()
        finally:
            super().close()
