"""A driver's registers in plain Python: the twin of ``fastpath.nic.mmio``."""

from __future__ import annotations

from collections.abc import Callable


def readl(bar_read: Callable[[int, int, int], int], off: int) -> int:
    """Read a register."""
    return bar_read(0, off, 4)


def writel(bar_write: Callable[[int, int, int, int], None], off: int, value: int) -> None:
    """Write a register."""
    bar_write(0, off, value, 4)
