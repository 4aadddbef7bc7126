"""The host's memory as the device sees it: the compiled region table, and RAM to put behind it."""

from __future__ import annotations

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.errors import whole_number

__all__ = ["DmaTable", "FrameBatch", "HostMemory", "host_memory"]


def host_memory(size_bytes: int = 64 << 20, *, base: int = 0) -> tuple[HostMemory, DmaTable]:
    """Return RAM of `size_bytes` at bus address `base` and a table through which it is reached."""
    size_bytes = whole_number("host_memory", "size_bytes", size_bytes, 1, unit="bytes")
    base = whole_number("host_memory", "base", base, 0)
    ram = HostMemory(size_bytes, base=base)
    dma = DmaTable()
    dma.add(ram.base, ram.buffer)
    return ram, dma
