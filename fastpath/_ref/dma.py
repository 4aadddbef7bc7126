"""The bus-master's view of memory in plain Python: the light twin of ``fastpath.base.dma``."""

from __future__ import annotations

TOP = 1 << 64


class DmaTable:
    """Disjoint regions; an access outside them is a master abort, never an exception."""

    def __init__(self) -> None:
        self.enabled = True
        self.aborts = 0
        self._regions: list[tuple[int, memoryview, bool, bool]] = []

    def add(
        self, base: int, buffer: object, *, readable: bool = True, writable: bool = True
    ) -> None:
        """Map `buffer` at `base`. Raises ValueError on overlap, emptiness or a wrap past 2^64."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        size = len(view)
        if size == 0 or not 0 <= base <= TOP - size:
            raise ValueError(f"{base:#x} + {size:#x}")
        if any(base < b + len(v) and b < base + size for b, v, _, _ in self._regions):
            raise ValueError(f"{base:#x} overlaps")
        self._regions.append((base, view, readable, writable))
        self._regions.sort(key=lambda region: region[0])

    def regions(self) -> list[tuple[int, int, bool, bool]]:
        """List of (base, size_bytes, readable, writable)."""
        return [(b, len(v), r, w) for b, v, r, w in self._regions]

    def _find(self, addr: int, write: bool) -> tuple[memoryview, int] | None:
        for base, view, readable, writable in self._regions:
            if base <= addr < base + len(view):
                return (view, addr - base) if (writable if write else readable) else None
        return None

    def read(self, addr: int, n: int) -> bytes:
        """`n` bytes from `addr`; 0xFF outside all regions, one abort per call."""
        out = bytearray(b"\xff" * n)
        missing = not self.enabled and n > 0
        if self.enabled:
            for i in range(n):
                at = self._find(addr + i, False)
                if at is None:
                    missing = True
                else:
                    out[i] = at[0][at[1]]
        self.aborts += missing
        return bytes(out)

    def write(self, addr: int, data: bytes) -> None:
        """Store `data`; bytes outside all regions are lost, one abort per call."""
        missing = not self.enabled and len(data) > 0
        if self.enabled:
            for i, value in enumerate(bytes(data)):
                at = self._find(addr + i, True)
                if at is None:
                    missing = True
                else:
                    at[0][at[1]] = value
        self.aborts += missing
