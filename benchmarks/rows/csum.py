"""Internet checksum: every vector level and the copying form, beside loops in C."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from fastpath.base import csum

from . import Row, Unavailable, Work, row, size_bytes
from .peer import load

SIZES = ("20B", "64B", "1500B", "65536B")
QUICK = ("64B", "1500B", "65536B")
BYTES_A_RUN = 2_000_000
LOOPS = ("loop_sse2", "loop_avx2", "intrin_avx2")
LEVELS = ("portable", "avx2", "avx512", "avx512vnni")


def _data(size: str) -> tuple[bytes, int]:
    """Return the bytes to sum and how often a run does it."""
    n = size_bytes(size)
    return bytes((i * 31 + 7) & 0xFF for i in range(n)), 1 + BYTES_A_RUN // (n + 64)


@row("csum__partial__best", group="csum", unit="GB/s", sizes=SIZES, quick=QUICK)
def partial(size: str) -> Iterator[Work]:
    """The level that is chosen for this processor."""
    data, times = _data(size)
    yield Work(lambda: csum.repeat(data, times), len(data) * times)


@row("csum__and_copy__best", group="csum", unit="GB/s", sizes=SIZES, quick=QUICK)
def and_copy(size: str) -> Iterator[Work]:
    """Sum and copy in one pass."""
    data, times = _data(size)
    into = bytearray(len(data))
    yield Work(lambda: csum.repeat(data, times, into), len(data) * times)


def _level(name: str, size: str) -> Iterator[Work]:
    data, times = _data(size)
    chosen = csum.level()
    if name not in csum.levels():
        raise Unavailable(f"this processor has no {name}")

    def run() -> None:
        csum.set_level(name)
        csum.repeat(data, times)
        csum.set_level(chosen)

    yield Work(run, len(data) * times)


def _loop(name: str, size: str) -> Iterator[Work]:
    data, times = _data(size)
    _, peer = load("csum_peer")
    if peer.csum_peer(name.encode(), data, len(data), 1) < 0:
        raise Unavailable(f"this processor cannot run {name}")
    yield Work(lambda: peer.csum_peer(name.encode(), data, len(data), times), len(data) * times)


AT_LEVEL: dict[str, Row] = {
    name: row(f"csum__partial__{name}", group="csum", unit="GB/s", sizes=SIZES, quick=("1500B",))(
        functools.partial(_level, name)
    )
    for name in LEVELS
}
PEERS: dict[str, Row] = {
    name: row(
        f"csum__peer__{name}", group="csum", unit="GB/s", sizes=SIZES, quick=QUICK, peer=f"C {name}"
    )(functools.partial(_loop, name))
    for name in LOOPS
}
ROWS = (partial, and_copy, *AT_LEVEL.values(), *PEERS.values())
