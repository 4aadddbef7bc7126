"""A buffer that becomes a bytes object once filled: the twin of ``fastpath.base.freshbytes``."""

from __future__ import annotations


class FreshBytes:
    """Room for `size` bytes. A class cannot export a buffer before Python 3.12: use `view`."""

    def __init__(self, size: int) -> None:
        self._data: bytearray | None = bytearray(size)
        self.size = size

    def __len__(self) -> int:
        return self.size

    def view(self) -> memoryview:
        """The room, writable."""
        if self._data is None:
            raise BufferError("FreshBytes: its bytes are taken")
        return memoryview(self._data)

    def take(self, n: int) -> bytes:
        """The first `n` bytes; once."""
        if self._data is None:
            raise BufferError("FreshBytes: taken already")
        data, self._data, self.size = self._data, None, 0
        return bytes(data[:n])


def first_bytes(data: bytearray, n: int) -> bytes:
    """The first `n` bytes of `data`, as many as there are."""
    if n < 0:
        raise ValueError(f"first_bytes: n={n}: must not be negative")
    return bytes(data[:n])
