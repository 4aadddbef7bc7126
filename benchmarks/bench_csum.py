"""Internet checksum; the rows are in `rows/csum.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import csum
from .sized import sized


@sized(csum.partial)
def bench_csum__partial__best(measured: Measured, size: str) -> None:
    measured(csum.partial, size)


@sized(csum.and_copy)
def bench_csum__and_copy__best(measured: Measured, size: str) -> None:
    measured(csum.and_copy, size)


@sized(csum.AT_LEVEL["portable"])
def bench_csum__partial__portable(measured: Measured, size: str) -> None:
    measured(csum.AT_LEVEL["portable"], size)


@sized(csum.AT_LEVEL["avx2"])
def bench_csum__partial__avx2(measured: Measured, size: str) -> None:
    measured(csum.AT_LEVEL["avx2"], size)


@sized(csum.AT_LEVEL["avx512"])
def bench_csum__partial__avx512(measured: Measured, size: str) -> None:
    measured(csum.AT_LEVEL["avx512"], size)


@sized(csum.AT_LEVEL["avx512vnni"])
def bench_csum__partial__avx512vnni(measured: Measured, size: str) -> None:
    measured(csum.AT_LEVEL["avx512vnni"], size)


@sized(csum.PEERS["loop_sse2"])
def bench_csum__peer__loop_sse2(measured: Measured, size: str) -> None:
    measured(csum.PEERS["loop_sse2"], size)


@sized(csum.PEERS["loop_avx2"])
def bench_csum__peer__loop_avx2(measured: Measured, size: str) -> None:
    measured(csum.PEERS["loop_avx2"], size)


@sized(csum.PEERS["intrin_avx2"])
def bench_csum__peer__intrin_avx2(measured: Measured, size: str) -> None:
    measured(csum.PEERS["intrin_avx2"], size)
