"""Two NICs, ring to ring; the rows are in `rows/device.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import device
from .sized import sized


@sized(device.OFFLOAD)
def bench_device__pair__offload(measured: Measured, size: str) -> None:
    measured(device.OFFLOAD, size)


@sized(device.BATCH1)
def bench_device__pair__batch1(measured: Measured, size: str) -> None:
    measured(device.BATCH1, size)


@sized(device.BATCH250)
def bench_device__pair__batch250(measured: Measured, size: str) -> None:
    measured(device.BATCH250, size)


@sized(device.PLAIN)
def bench_device__pair__plain(measured: Measured, size: str) -> None:
    measured(device.PLAIN, size)


@sized(device.FCS)
def bench_device__pair__fcs(measured: Measured, size: str) -> None:
    measured(device.FCS, size)


@sized(device.NIC)
def bench_nic__pair__batch32(measured: Measured, size: str) -> None:
    measured(device.NIC, size)


@sized(device.NIC1)
def bench_nic__pair__batch1(measured: Measured, size: str) -> None:
    measured(device.NIC1, size)


@sized(device.MODEL)
def bench_device__peer__ring_model(measured: Measured, size: str) -> None:
    measured(device.MODEL, size)


@sized(device.COPY)
def bench_device__peer__ring_copy(measured: Measured, size: str) -> None:
    measured(device.COPY, size)
