"""readl and writel: our own NIC's window without Python, any other function as it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.nic import mmio
from fastpath.nic.macpath import BarWindow, MacState
from fastpath.nic.regfile import RegFile


class Slot(BarWindow):
    """A window of four registers that logs what is not plain."""

    def __init__(self, on: bool) -> None:
        self.log: list[Any] = []
        self.file, mac = RegFile(4), MacState()
        for i in range(4):
            self.file.define(i)
        mac.memory_on = on
        self._bind(self.file, mac)

    def _slow_read(self, *args: int) -> int:
        self.log.append(args)
        return 7

    def _slow_write(self, *args: int) -> None:
        self.log.append(args)


class Watched(Slot):
    """A window whose functions are its own."""

    def bar_read(self, bar: int, off: int, size: int) -> int:
        self.log.append(("read", bar, off, size))
        return super().bar_read(bar, off, size)

    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        self.log.append(("write", bar, off, value, size))
        super().bar_write(bar, off, value, size)


@given(
    st.sampled_from((-4, 0, 2, 4, 8, 1 << 20, 1 << 40)),
    st.integers(-(1 << 62), 1 << 62),
    st.booleans(),
    st.sampled_from((Slot, Watched)),
)
def test_registers_are_those_that_python_reaches(
    off: int, value: int, on: bool, kind: type[Slot]
) -> None:
    ours, plain = kind(on), kind(on)
    mmio.writel(ours.bar_write, off, value)
    plain.bar_write(0, off, value, 4)
    assert mmio.readl(ours.bar_read, off) == plain.bar_read(0, off, 4)
    assert (ours.log, ours.file.state()) == (plain.log, plain.file.state())


def test_functions_that_are_no_window() -> None:
    log: list[tuple[int, ...]] = []
    mmio.writel(lambda *args: log.append(args), 8, 9)
    assert log == [(0, 8, 9, 4)]
    assert mmio.readl(lambda *args: sum(args), 8) == 12
    assert mmio.readl(max, 3) == 4  # a built-in function, with no window either

    def fails(*args: int) -> int:
        raise OSError("gone")

    for call in (lambda: mmio.readl(fails, 0), lambda: mmio.writel(fails, 0, 1)):
        with pytest.raises(OSError, match="gone"):
            call()
