"""Software segmentation; the rows are in `rows/gso.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import gso
from .sized import sized


@sized(gso.segment)
def bench_gso__segment__tcp4(measured: Measured, size: str) -> None:
    measured(gso.segment, size)


@sized(gso.segment6)
def bench_gso__segment__tcp6(measured: Measured, size: str) -> None:
    measured(gso.segment6, size)


@sized(gso.segment_twin)
def bench_gso__twin__segment(measured: Measured, size: str) -> None:
    measured(gso.segment_twin, size)


@sized(gso.copy_segments)
def bench_gso__peer__memcpy(measured: Measured, size: str) -> None:
    measured(gso.copy_segments, size)
