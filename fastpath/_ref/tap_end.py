"""What a TAP link does for every batch, in plain Python: the twin of ``fastpath.nic.tap_end``."""

from __future__ import annotations

import errno
from typing import Any

from fastpath.nic.cable import shared
from fastpath.nic.wire import wire_count


class TapEnd:
    """The descriptor's side of a `Link`: `_readable`, `transmit`, `tx_room`."""

    _batch: Any = None
    _unsent_frames = 0
    _unsent: list[Any]
    _told = 0

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made: Any = super().__new__(cls)
        made._unsent = []
        return made

    def tx_room(self: Any) -> int:
        """Return how many frames `transmit` takes now."""
        return max(0, self._queue_frames - self._unsent_frames)

    def transmit(self: Any, batch: Any) -> None:
        """Write the frames. Takes ownership of `batch`."""
        frames, nbytes = wire_count(batch)
        self.stats.tx_frames += frames
        self.stats.tx_bytes += nbytes
        end = dropped = error = 0
        if not self._unsent and self.queue.fd >= 0:
            end, dropped, error = self.queue.write(batch, 0)
            if end == len(batch) and not dropped:
                shared.put(batch)
                return
        self._left(batch, end, dropped, error)

    def _readable(self: Any) -> None:
        """Read one batch and give it to the port."""
        queue = self.queue
        if queue.fd < 0 or self.port is None or self._batch is not None:
            return
        batch = shared.get()
        before = queue.rx_bytes
        frames, error = queue.read(batch, self._batch_frames)
        if error not in (0, errno.EAGAIN):
            self.failed(error)
        if queue.dropped != self._told:
            self._told = queue.dropped
            self._count_drops()
        if not frames:
            shared.put(batch)
            return
        self.stats.rx_frames += frames
        self.stats.rx_bytes += queue.rx_bytes - before
        if self.port is None:
            self.stats.drop("unplugged", frames)
            shared.put(batch)
            return
        self._batch, self._at, self._held = batch, 0, True
        end = self.port.receive(batch, 0, True)
        if self._batch is not batch:
            return
        if end < len(batch) or not self._reading:
            self._given(end)
            return
        self._held = False
        self._batch = None
        shared.put(batch)
