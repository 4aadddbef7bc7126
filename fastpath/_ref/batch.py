"""FrameBatch in plain Python: the twin of ``fastpath.base.batch``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FB_HAS_FCS = 1
FB_BAD_CRC = 2
FB_ALIGN_ERR = 4
FB_SYMBOL_ERR = 8
FB_CARRIER_EXT = 16
FB_GSO_TCPV4 = 32
FB_GSO_TCPV6 = 64
FB_GSO_UDP = 128


@dataclass(slots=True)
class _Frame:
    data: bytearray
    flags: int = 0
    mark: int = 0
    tstamp_ns: int = 0


class FrameBatch:
    """Frames in wire order with their flags, marks and times."""

    def __init__(
        self, frames: Iterable[bytes] = (), *, arena_bytes: int = 0, max_frames: int = 1
    ) -> None:
        self._frames: list[_Frame] = []
        for frame in frames:
            self.append(frame)

    def __len__(self) -> int:
        return len(self._frames)

    def _at(self, i: int) -> _Frame:
        if not -len(self._frames) <= i < len(self._frames):
            raise IndexError("FrameBatch: frame index out of range")
        return self._frames[i]

    def __getitem__(self, i: int) -> bytes:
        return bytes(self._at(i).data)

    def __iter__(self) -> Iterator[bytes]:
        return (bytes(frame.data) for frame in self._frames)

    @property
    def nbytes(self) -> int:
        """Sum of the frames' lengths."""
        return sum(len(frame.data) for frame in self._frames)

    def append(self, data: bytes, flags: int = 0) -> None:
        """Copy `data` in as the next frame."""
        if not data:
            raise ValueError("FrameBatch.append: a frame has at least one byte")
        self._frames.append(_Frame(bytearray(data), flags))

    def extend(self, other: FrameBatch, start: int = 0, stop: int | None = None) -> None:
        """Copy frames [start, stop) of `other`."""
        if start < 0 or (stop is not None and stop < 0):
            raise IndexError("FrameBatch.extend: negative index")
        self._frames += [
            _Frame(bytearray(f.data), f.flags, f.mark, f.tstamp_ns)
            for f in other._frames[start:stop]
        ]

    def clear(self) -> None:
        """Forget every frame."""
        self._frames.clear()

    def drop(self, count: int) -> None:
        """Forget the first `count` frames."""
        del self._frames[: max(count, 0)]

    def swap(self, other: FrameBatch) -> None:
        """Exchange contents with `other`."""
        self._frames, other._frames = other._frames, self._frames

    def frame_len(self, i: int) -> int:
        """Length of frame `i`."""
        return len(self._at(i).data)

    def flags(self, i: int) -> int:
        """FB_* flags of frame `i`."""
        return self._at(i).flags

    def set_flags(self, i: int, flags: int) -> None:
        """Replace the flags of frame `i`."""
        self._at(i).flags = flags

    def mark(self, i: int) -> int:
        """Mark of frame `i`."""
        return self._at(i).mark

    def set_mark(self, i: int, mark: int) -> None:
        """Set the mark of frame `i`."""
        self._at(i).mark = mark

    def tstamp_ns(self, i: int) -> int:
        """Time stamp of frame `i`."""
        return self._at(i).tstamp_ns

    def set_tstamp_ns(self, i: int, when: int) -> None:
        """Set the time stamp of frame `i`."""
        self._at(i).tstamp_ns = when

    def view(self, i: int) -> memoryview:
        """Writable view of frame `i`."""
        return memoryview(self._at(i).data)
