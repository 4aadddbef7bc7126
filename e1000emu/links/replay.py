"""A link whose far end is a capture file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from e1000emu.capture import LINKTYPE_ETHERNET, Record, read_capture
from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.null import NullLink
from fastpath.errors import check_type, real_number

if TYPE_CHECKING:
    from e1000emu.ports import Clock
    from fastpath.base.batch import FrameBatch

BATCH_FRAMES = 256


class PcapReplay(NullLink):
    """Plays the frames of a pcap or pcapng file to its port; frames from the port are discarded.

    Frames are sent at the recorded intervals divided by `speed`, from when a port is plugged in;
    time without a port does not count. `speed=None` sends them as fast as possible. A file is read
    as it is played. A damaged one ends the replay: `error` then has the position. The first record
    is checked when the link is created, so a file of another kind raises LinkError.
    """

    def __init__(
        self, path: str | os.PathLike[str], clock: Clock, *, speed: float | None = 1.0
    ) -> None:
        check_type("PcapReplay", "path", path, (str, os.PathLike), "the path of a capture file")
        super().__init__(clock)
        if speed is not None:
            speed = real_number(
                "PcapReplay",
                "speed",
                speed,
                1e-9,
                1e12,
                takes="a factor above 0, or None for no pause",
                error=LinkError,
            )
        self.path = os.fspath(path)
        self.error: LinkError | None = None
        self._speed = speed
        self._records = read_capture(path)
        self._next: Record | None = next(self._records, None)
        self._check()
        self._first_ns = self._next.when_ns if self._next else 0
        self._began_ns = self._unplugged_ns = 0
        self._batch: FrameBatch | None = None
        self._at = 0
        self._held = False
        self._scheduled = False

    def __repr__(self) -> str:
        return f"PcapReplay({self.path!r}, sent={self.stats.rx_frames})"

    @property
    def done(self) -> bool:
        """Whether the port has accepted every frame of the file."""
        return self._next is None and self._batch is None

    def _check(self) -> None:
        if self._next is not None and self._next.linktype != LINKTYPE_ETHERNET:
            raise LinkError(
                f"capture {self.path!r}: link type {self._next.linktype} is not Ethernet (1)"
            )

    def _attached(self) -> None:
        self._began_ns += self.clock.now_ns() - self._unplugged_ns
        self._held = False
        self._schedule()

    def _detached(self) -> None:
        self._unplugged_ns = self.clock.now_ns()

    def rx_ready(self) -> None:
        """The port has room again."""
        if self._held:
            self._held = False
            self._schedule()

    def close(self) -> None:
        """Stop, and close the file."""
        super().close()
        self._records.close()  # type: ignore[attr-defined]
        self._next = None
        if self._batch is not None:
            pool.put(self._batch)
            self._batch = None

    def _due_ns(self, record: Record) -> int:
        if self._speed is None:
            return 0
        return self._began_ns + int((record.when_ns - self._first_ns) / self._speed)

    def _schedule(self) -> None:
        if self._scheduled or self._held or self.done or self.port is None:
            return
        self._scheduled = True
        due = 0 if self._batch is not None or self._next is None else self._due_ns(self._next)
        if due > self.clock.now_ns():
            self.clock.call_at(due, self._play)
        else:
            self.clock.call_soon(self._play)

    def _fill(self) -> FrameBatch:
        batch = pool.get()
        now = self.clock.now_ns()
        while self._next is not None and self._due_ns(self._next) <= now:
            if self._next.data:
                batch.append(self._next.data)
            try:
                self._next = next(self._records, None)
                self._check()
            except LinkError as error:
                self.error = error
                self._next = None
            if len(batch) >= BATCH_FRAMES:
                break
        return batch

    def _play(self) -> None:
        self._scheduled = False
        if self.port is None:
            return
        if self._batch is None:
            self._batch, self._at = self._fill(), 0
        batch, start = self._batch, self._at
        self._held = True
        end = self.port.receive(batch, start, True) if len(batch) else 0
        if self._batch is not batch:
            return  # closed on receiving
        self.stats.rx_frames += end - start
        if end >= len(batch):
            self.stats.rx_bytes += batch.nbytes
            self._held = False
            self._batch = None
            pool.put(batch)
        else:
            self._at = end
        self._schedule()
