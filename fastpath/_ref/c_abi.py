"""The NIC's borders for a C program, in plain Python: the twin of ``fastpath.nic.c_abi``.

Frames are lists of bytes here, and C functions are callables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastpath.base.batch import FrameBatch
from fastpath.nic.cable import LinkStats

MAX_FRAME_BYTES = 65535
QUEUE_FRAMES = 4096
PUSH_FRAMES = 512


class CallbackLine:
    """An `InterruptLine` that tells a function."""

    def __init__(self) -> None:
        self.level = False
        self._fn: Callable[[bool], object] | None = None

    def connect(self, fn: Callable[[bool], object] | None) -> None:
        """Call `fn` at every change."""
        self._fn = fn

    def set_level(self, level: bool) -> None:
        """Drive the line."""
        if level != self.level:
            self.level = level
            if self._fn is not None:
                self._fn(level)


class CallbackLink:
    """A `Link` whose far end is given frames, or fetches them, and pushes its own."""

    def __init__(self) -> None:
        self.carrier = True
        self.speed_mbps = 1000
        self.stats = LinkStats()
        self.port: Any = None
        self._tx: Callable[[list[bytes]], object] | None = None
        self._ready: Callable[[], object] | None = None
        self._queue: list[bytes] = []
        self._starved = False

    def attach(self, port: Any) -> None:
        """Plug `port` in."""
        self.port = port

    def detach(self) -> None:
        """Unplug the port."""
        self.port = None
        self.stats.drop("unplugged", len(self._queue))
        self._queue.clear()

    def tx_room(self) -> int:
        """Return how many frames the link takes now."""
        if self._tx is not None:
            return QUEUE_FRAMES
        room = QUEUE_FRAMES - len(self._queue)
        if room > 0:
            return room
        self._starved = True
        return 0

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames."""
        frames = list(batch)
        batch.clear()
        if not self.carrier or not frames:
            self.stats.drop("no carrier", len(frames))
            return
        self.stats.tx_frames += len(frames)
        self.stats.tx_bytes += sum(map(len, frames))
        if self._tx is None:
            self._queue += frames
        else:
            self._tx(frames)

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._ready is not None:
            self._ready()

    def connect_tx(self, fn: Callable[[list[bytes]], object] | None) -> None:
        """Give frames to `fn` as they are sent; those that wait at once."""
        self._tx = fn
        if fn is not None:
            waiting, self._queue = self._queue, []
            if waiting:
                fn(waiting)
            self._offer_room()

    def connect_ready(self, fn: Callable[[], object] | None) -> None:
        """Call `fn` when the NIC takes frames again."""
        self._ready = fn

    def set_carrier(self, up: bool, speed_mbps: int) -> None:
        """Plug or pull the cable."""
        self.carrier = up
        self.speed_mbps = speed_mbps
        if self.port is not None:
            self.port.link_changed(up, speed_mbps, True)

    def _offer_room(self) -> None:
        if self._starved and len(self._queue) < QUEUE_FRAMES:
            self._starved = False
            if self.port is not None:
                self.port.tx_ready()

    def poll(self, room: int) -> list[bytes]:
        """Return at most `room` frames that were sent."""
        taken, self._queue = self._queue[:room], self._queue[room:]
        self._offer_room()
        return taken

    def push(self, frames: Sequence[bytes]) -> int:
        """Hand frames to the NIC; return how many it took."""
        done = 0
        while done < len(frames) and self.port is not None:
            part = frames[done : done + PUSH_FRAMES]
            taken = self.port.receive(FrameBatch(part), 0, True)
            self.stats.rx_frames += taken
            self.stats.rx_bytes += sum(map(len, part[:taken]))
            done += taken
            if taken < len(part):
                break
        return done
