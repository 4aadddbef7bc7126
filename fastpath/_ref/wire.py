"""Sources and sinks of frames in plain Python: the twin of ``fastpath.nic.wire``."""

from __future__ import annotations

import errno
from typing import Any

GSO_TCPV4, GSO_TCPV6 = 32, 64


def wire_count(batch: Any, start: int = 0) -> tuple[int, int]:
    """Frames and bytes, without FCS, of `batch` from `start` on a wire."""
    frames = nbytes = 0
    for i in range(start, len(batch)):
        size, mark = len(batch[i]), batch.mark(i)
        mss, hdrlen = mark & 0xFFFF, mark >> 16 & 0xFF
        cuts = 1
        if batch.flags(i) & (GSO_TCPV4 | GSO_TCPV6) and mss:
            cuts = max(1, -(-(size - hdrlen) // mss))
        frames += cuts
        nbytes += size + (cuts - 1) * hdrlen
    return frames, nbytes


class HandoverQueue:
    """Two lists; `readable` and `ready` are the states of the descriptors."""

    def __init__(self, max_frames: int = 1024) -> None:
        self.max_frames = max_frames
        self.inbox: list[Any] = []
        self.outbox: list[Any] = []
        self.room = True
        self.full = self.readable = self.ready = False

    @property
    def waiting(self) -> int:
        """Waiting frames."""
        return len(self.outbox)

    def clear(self) -> None:
        """Clear the descriptors that signal frames to take, or room."""
        self.ready = False

    def give(self, frames: list[Any]) -> int:
        """Pass frames; returns how many fit."""
        fits = min(len(frames), self.max_frames - len(self.inbox))
        self.inbox += frames[:fits]
        self.readable |= bool(self.inbox)
        self.room &= fits == len(frames)
        return fits

    def take(self, max_frames: int) -> list[Any]:
        """Return at most `max_frames` waiting frames."""
        out, self.outbox = self.outbox[:max_frames], self.outbox[max_frames:]
        if self.full and len(self.outbox) <= self.max_frames // 2:
            self.full, self.readable = False, True
        return out

    def read(self, max_frames: int) -> tuple[list[Any], int]:
        """Return the passed frames and an errno."""
        if not self.inbox and not self.readable:
            return [], errno.EAGAIN
        out, self.inbox = self.inbox[:max_frames], self.inbox[max_frames:]
        if not self.inbox:
            self.readable = False
        if not self.room and len(self.inbox) <= self.max_frames // 2:
            self.room = self.ready = True
        return out, 0 if self.inbox else errno.EAGAIN

    def write(self, frames: list[Any]) -> tuple[int, int]:
        """Append to the waiting frames; returns how many fit, and an errno."""
        fits = min(len(frames), self.max_frames - len(self.outbox))
        self.ready |= not self.outbox and fits > 0
        self.outbox += frames[:fits]
        if fits < len(frames):
            self.full = True
        return fits, errno.EAGAIN if fits < len(frames) else 0
