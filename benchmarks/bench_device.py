"""Two NICs, ring to ring: transmit engine, frame batch, receive engine, against C twins.

Descriptors are prepared and reaped in bulk by `fastpath.pktgen`; everything from the doorbells on
is what a driver would set off. The headline rows insert IP and UDP checksums, filter, verify, count
and write back, as `peers/ring_model.c` does; `peers/ring_copy.c` only copies frames and is the
ceiling. Peers are compiled here, and every round runs ours and theirs in turn; figures are medians
of the CPU time of the one thread that works.

Run it with ``python benchmarks/bench_device.py``; ``collect()`` gives ``e1000emu bench`` its rows.
"""

from __future__ import annotations

import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from fastpath.batch import FrameBatch
from fastpath.dma import DmaTable, HostMemory
from fastpath.pktgen import RxSink, TxGen, attach, pump
from fastpath.regfile import Stats
from fastpath.rxfilter import RxFilter
from fastpath.rxring import RxEngine
from fastpath.txring import TxEngine

PEERS = Path(__file__).parent / "peers"
MAC = bytes.fromhex("525400123456")
RCTL_EN, RCTL_BAM, RCTL_SECRC = 1 << 1, 1 << 15, 1 << 26
RXCSUM_BOTH = 3 << 8


@dataclass(slots=True)
class Row:
    """One figure: `value` in `unit`, `peer` what it is compared with, `ratio` value to peer."""

    name: str
    value: float
    unit: str
    peer: str | None
    ratio: float | None
    ns_per_packet: float


def udp_frame(size_bytes: int) -> bytes:
    """A UDP frame as a driver leaves it: IP check 0, UDP check seeded with the pseudo header."""
    ip = struct.pack(
        ">BBHHHBBHII", 0x45, 0, size_bytes - 14, 1, 0, 64, 17, 0, 0x0A000001, 0x0A000002
    )
    seed = 0x0A00 * 2 + 1 + 2 + 17 + size_bytes - 34
    udp = struct.pack(">HHHH", 7, 9, size_bytes - 34, seed)
    head = MAC + b"\x02\0\0\0\0\1" + b"\x08\0" + ip + udp
    return head + bytes(i * 7 & 0xFF for i in range(size_bytes - len(head)))


class Pair:
    """Two hosts, two NICs' engines, one ring of prepared frames and one sink."""

    def __init__(
        self, size_bytes: int, *, offload: bool = True, fcs: bool = False, burst: int = 32
    ) -> None:
        a, b = HostMemory(4 << 20), HostMemory(4 << 20)
        dma_a, dma_b = DmaTable(), DmaTable()
        dma_a.add(a.base, a.buffer)
        dma_b.add(b.base, b.buffer)
        address = RxFilter()
        address.set_ral(0, int.from_bytes(MAC[:4], "little"))
        address.set_rah(0, 1 << 31 | int.from_bytes(MAC[4:], "little"))
        self.tx, self.rx = TxEngine(dma_a, Stats()), RxEngine(dma_b, Stats(), address)
        self.gen, self.sink = TxGen(a), RxSink(b)
        self.batch, self.burst = FrameBatch(), burst
        self.gen.load([udp_frame(size_bytes)])
        self.tx.tctl = 0xA
        self.rx.rctl = RCTL_EN | RCTL_BAM | (0 if fcs else RCTL_SECRC)
        self.rx.rxcsum = RXCSUM_BOTH if offload else 0
        attach(self.gen, self.tx, self.sink, self.rx)
        if offload:
            self.gen.set_context(self.tx)
            self.gen.offload = True
        self._offload = offload
        self.measure(1000)

    def measure(self, packets: int) -> float:
        """Move `packets`; CPU nanoseconds for each. Raises RuntimeError when one is lost or bad."""
        before = self.sink.frames, self.sink.csum_ok
        t = time.thread_time_ns()
        moved = pump(
            self.gen, self.tx, self.batch, self.rx, self.sink, packets // self.burst + 1, self.burst
        )
        t = time.thread_time_ns() - t
        arrived = self.sink.frames - before[0]
        checked = self.sink.csum_ok - before[1]
        if arrived != moved or (self._offload and checked != moved) or self.sink.errors:
            raise RuntimeError(
                f"device pair: sent {moved}, arrived {arrived}, verified {checked}, "
                f"errors {self.sink.errors}"
            )
        return t / moved


def peer(name: str, directory: Path) -> Callable[[int, int, int], float] | None:
    """Compile a C twin; a function of (frame bytes, burst, packets) giving ns, None without cc."""
    cc = shutil.which("cc") or shutil.which("gcc")
    if cc is None:
        return None
    binary = directory / name
    subprocess.run([cc, "-O3", "-o", str(binary), str(PEERS / f"{name}.c")], check=True)

    def run(size_bytes: int, burst: int, packets: int) -> float:
        args = [str(binary), str(size_bytes), str(burst), str(packets)]
        return float(subprocess.run(args, check=True, capture_output=True, text=True).stdout)

    return run


VARIANTS: dict[str, dict[str, object]] = {
    "": {},
    "_batch1": {"burst": 1},
    "_batch256": {"burst": 250},
    "_plain": {"offload": False},
    "_fcs": {"fcs": True},
}


def collect(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure and return the rows; ratios are to `ring_model` of the same rounds (1 = as fast)."""
    rounds, packets = (3, 100_000) if quick else (7, 1_000_000)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as tmp:
        model, copy = (peer(name, Path(tmp)) for name in ("ring_model", "ring_copy"))
        for size in (60, 1514):
            chosen = {"": VARIANTS[""]} if quick else VARIANTS
            ours: dict[str, list[float]] = {name: [] for name in chosen}
            theirs: dict[str, list[float]] = {"ring_model": [], "ring_copy": []}
            pairs = {name: Pair(size, **kind) for name, kind in chosen.items()}  # type: ignore[arg-type]
            for _ in range(rounds):
                for name, pair in pairs.items():
                    ours[name].append(pair.measure(packets))
                if model is not None and copy is not None:
                    theirs["ring_model"].append(model(size, 32, packets))
                    theirs["ring_copy"].append(copy(size, 32, packets))
            base = statistics.median(theirs["ring_model"]) if theirs["ring_model"] else None
            for name, times in ours.items():
                ns = statistics.median(times)
                rival = "C ring_model" if base else None
                ratio = base / ns if base else None
                rows.append(Row(f"device_pair_{size}B{name}", 1e3 / ns, "Mpps", rival, ratio, ns))
            for name, times in theirs.items():
                if times:
                    ns = statistics.median(times)
                    rows.append(Row(f"peer_{name}_{size}B", 1e3 / ns, "Mpps", None, None, ns))
    return [asdict(row) for row in rows]


def _show(name: str, pair: Pair) -> None:
    ns = statistics.median(pair.measure(200_000) for _ in range(5))
    print(f"{name}: compiled, {1e3 / ns:.2f} Mpps, {ns:.1f} ns per packet")


def bench_device_pair__offload__batch32_60B() -> None:
    """Ring to ring with checksum insertion and verification, 60-byte frames."""
    _show("bench_device_pair__offload__batch32[60B]", Pair(60))


def bench_device_pair__offload__batch32_1514B() -> None:
    """Ring to ring with checksum insertion and verification, full frames."""
    _show("bench_device_pair__offload__batch32[1514B]", Pair(1514))


def bench_device_pair__fcs__batch32_1514B() -> None:
    """The same with the FCS computed and written to host memory (RCTL.SECRC clear)."""
    _show("bench_device_pair__fcs__batch32[1514B]", Pair(1514, fcs=True))


def main() -> int:
    """Print the table, or with --json the rows."""
    rows = collect(quick="--quick" in sys.argv)
    if "--json" in sys.argv:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        ratio = f"{row['ratio']:.2f} x {row['peer']}" if row["ratio"] else ""
        print(f"{row['name']:32} {row['value']:8.2f} Mpps {row['ns_per_packet']:8.1f} ns  {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
