"""The host's memory as the device sees it: the compiled region table, and RAM to put behind it."""

from __future__ import annotations

from fastpath.batch import FrameBatch
from fastpath.dma import DmaTable, HostMemory

__all__ = ["DmaTable", "FrameBatch", "HostMemory", "host_memory"]


def host_memory(size_bytes: int = 64 << 20, *, base: int = 0) -> tuple[HostMemory, DmaTable]:
    """Return RAM of `size_bytes` at bus address `base` and a table through which it is reached."""
    ram = HostMemory(size_bytes, base=base)
    dma = DmaTable()
    dma.add(ram.base, ram.buffer)
    return ram, dma
