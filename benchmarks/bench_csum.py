"""Internet checksum: every vector level and the copying form against plain C in the same run.

Run it with ``python benchmarks/bench_csum.py``; ``collect()`` gives the rows to ``e1000emu bench``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fastpath import csum

PEER = Path(__file__).parent / "peers" / "csum_peer.c"


@dataclass(slots=True)
class Row:
    """One figure: `value` in `unit`, `peer` what it is compared with, `ratio` value to peer."""

    name: str
    value: float
    unit: str
    peer: str | None
    ratio: float | None


def run_peer(size_bytes: int, seconds: float) -> dict[str, float]:
    """Compile the C peer and return ns per call of each of its loops; empty without a compiler."""
    cc = shutil.which("cc") or shutil.which("gcc")
    if cc is None:
        return {}
    with tempfile.TemporaryDirectory() as tmp:
        binary = Path(tmp) / "csum_peer"
        subprocess.run([cc, "-O3", "-o", str(binary), str(PEER)], check=True)
        text = subprocess.run(
            [str(binary), str(size_bytes), str(seconds)], check=True, capture_output=True, text=True
        ).stdout
    return {name: float(ns) for name, ns, _ in (line.split() for line in text.splitlines())}


def best_ns(size_bytes: int, seconds: float, *, copy: bool = False) -> float:
    """Return the best ns per call over rounds that fill `seconds`."""
    data = bytes((i * 31 + 7) & 0xFF for i in range(size_bytes))
    dst = bytearray(size_bytes) if copy else None
    reps = 1 + 2_000_000 // (size_bytes + 64)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        t = time.perf_counter_ns()
        csum.repeat(data, reps, dst)
        best = min(best, (time.perf_counter_ns() - t) / reps)
    return best


def collect(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure and return the rows; ratios are to the best C loop of this run."""
    seconds = 0.05 if quick else 0.3
    rows: list[Row] = []
    chosen = csum.level()
    for size in (20, 64, 1500, 65536):
        peers = run_peer(size, seconds)
        rival = min(peers, key=peers.__getitem__) if peers else None
        rival_ns = peers[rival] if rival else None

        def row(name: str, ns: float, rival: str | None, rival_ns: float | None, n: int) -> Row:
            ratio = rival_ns / ns if rival_ns else None
            return Row(name, n / ns, "GB/s", f"C {rival}" if rival else None, ratio)

        rows.append(row(f"csum_{size}B", best_ns(size, seconds), rival, rival_ns, size))
        if size == 1500 or not quick:
            for level in csum.levels():
                csum.set_level(level)
                name = f"csum_{size}B_{level}"
                rows.append(row(name, best_ns(size, seconds), rival, rival_ns, size))
            csum.set_level(chosen)
            ns = best_ns(size, seconds, copy=True)
            rows.append(row(f"csum_and_copy_{size}B", ns, rival, rival_ns, size))
    return [asdict(r) for r in rows]


def main() -> None:
    """Print the rows as a table."""
    for r in collect(quick="--quick" in sys.argv):
        ratio = f"{r['ratio']:.2f}" if r["ratio"] is not None else "-"
        print(f"{r['name']:28} {r['value']:8.2f} {r['unit']}  {ratio:>6} x {r['peer']}")


if __name__ == "__main__":
    main()
