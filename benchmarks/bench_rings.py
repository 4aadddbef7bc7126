"""The driver's rings and GRO; the rows are in `rows/rings.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import rings
from .sized import sized


@sized(rings.map_clean)
def bench_tx_ring__map__clean(measured: Measured, size: str) -> None:
    measured(rings.map_clean, size)


@sized(rings.map_clean_twin)
def bench_tx_ring__twin__map_clean(measured: Measured, size: str) -> None:
    measured(rings.map_clean_twin, size)


@sized(rings.clean_gro)
def bench_rx_ring__clean__gro(measured: Measured, size: str) -> None:
    measured(rings.clean_gro, size)


@sized(rings.clean_gro6)
def bench_rx_ring__clean__gro6(measured: Measured, size: str) -> None:
    measured(rings.clean_gro6, size)


@sized(rings.gro_twin)
def bench_gro__twin__receive(measured: Measured, size: str) -> None:
    measured(rings.gro_twin, size)


@sized(rings.refill)
def bench_rx_ring__refill__bulk(measured: Measured, size: str) -> None:
    measured(rings.refill, size)


@sized(rings.refill_twin)
def bench_rx_ring__twin__refill(measured: Measured, size: str) -> None:
    measured(rings.refill_twin, size)
