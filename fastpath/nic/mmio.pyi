from collections.abc import Callable

def readl(bar_read: Callable[[int, int, int], int], off: int) -> int:
    """Read a register by any device's `bar_read`: `bar_read(0, off, 4)`.

    That of a `BarWindow` is reached without a call through Python.
    """

def writel(bar_write: Callable[[int, int, int, int], None], off: int, value: int) -> None: ...
