"""Register accesses; the rows are in `rows/registers.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import registers
from .sized import sized


@sized(registers.READ)
def bench_mmio__read__stored(measured: Measured, size: str) -> None:
    measured(registers.READ, size)


@sized(registers.READ_HOOK)
def bench_mmio__read__icr(measured: Measured, size: str) -> None:
    measured(registers.READ_HOOK, size)


@sized(registers.READ_FILE)
def bench_mmio__read__regfile(measured: Measured, size: str) -> None:
    measured(registers.READ_FILE, size)


@sized(registers.READ_TWIN)
def bench_mmio__twin__read(measured: Measured, size: str) -> None:
    measured(registers.READ_TWIN, size)


@sized(registers.WRITE)
def bench_mmio__write__stored(measured: Measured, size: str) -> None:
    measured(registers.WRITE, size)


@sized(registers.WRITE_HOOK)
def bench_mmio__write__ims(measured: Measured, size: str) -> None:
    measured(registers.WRITE_HOOK, size)


@sized(registers.WRITE_FILE)
def bench_mmio__write__regfile(measured: Measured, size: str) -> None:
    measured(registers.WRITE_FILE, size)


@sized(registers.WRITE_TWIN)
def bench_mmio__twin__write(measured: Measured, size: str) -> None:
    measured(registers.WRITE_TWIN, size)
