"""Goodput of our TCP beside Linux's over the same impaired wire.

    sudo .venv/bin/python -m benchmarks.bench_goodput [--seeds N] [--cells RE] [--out FILE]

A wire is a TAP in a network namespace and an `Impair` in front of it, in a worker process. At the
near end is the kernel. At the far end is our host on a NIC or, behind a second TAP, the kernel of
a second namespace. Both have the same addresses, and a seed loses the frames of the same numbers:
only the stack at the far end differs. `up` is towards it, `down` is from it.

A run opens some connections at once, sends for some seconds, and counts what was read at the other
end, in Mbit/s of real time. All use CUBIC, and the kernel's buffers have our limits. Each run has
namespaces of its own, since Linux caches path metrics.

Runs of Linux and of ours alternate, seed by seed, and each is a line of `--out`. A run that has a
line there is not repeated, so the same command goes on after an interruption. The table has by cell
the median of each over the seeds, with its quartiles, and the ratio of the medians. A run takes 4 s
without delay and 9 s with it, so all 32 cells, 20 seeds and two hosts take 40 minutes by four jobs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import logging
import os
import re
import socket
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.rows import Unavailable
from benchmarks.rows.ends import Namespace, namespace, wait_for_link
from e1000emu.clock import RealClock
from e1000emu.lab import add_nic
from e1000emu.links import Impair, Patch, Tap
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD

PORT = 27777
BLOCK = 1 << 16
HOSTS = ("linux", "ours")
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
NEAR = {4: "10.9.0.1", 6: "2001:db8:9::1"}
FAR = {4: "10.9.0.2", 6: "2001:db8:9::2"}
PREFIX = {4: 24, 6: 64}
DEVICE = "wire"
IMPAIRMENTS: dict[str, dict[str, float]] = {
    "none": {},
    "loss 1%": {"loss": 0.01},
    "loss 5%": {"loss": 0.05},
    "corrupt 1%": {"corrupt": 0.01},
}
SECONDS = {0: 3.0, 100: 8.0}
"""How long a run lasts, by delay in ms: forty round trips, and enough to average over losses."""
CONNECT_S = 30.0
"""How long a connection may take to open: several SYNs may be lost."""
TICK_S = 0.1

_numbers = itertools.count()


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    impairment: str
    delay_ms: int
    """One way."""
    direction: str
    family: int
    rate_bps: int
    """Of the wire, each way; 0: no limit."""
    streams: int
    seconds: float

    def __str__(self) -> str:
        delay = f"{self.delay_ms} ms"
        return f"{self.impairment:10} {delay:6} {self.direction:4} IPv{self.family}"

    def impair(self, seed: int) -> dict[str, Any]:
        """Return arguments of `Impair`."""
        return {
            **IMPAIRMENTS[self.impairment],
            "delay_ns": self.delay_ms * 1_000_000,
            "rate_bps": self.rate_bps or None,
            "seed": seed,
        }


def cells_of(pattern: str, rate_bps: int, streams: int, seconds: float) -> list[Cell]:
    """Return the cells whose line matches; `seconds` 0: as `SECONDS` has it."""
    made = (
        Cell(impairment, delay, direction, family, rate_bps, streams, seconds or SECONDS[delay])
        for impairment, delay, direction, family in itertools.product(
            IMPAIRMENTS, SECONDS, ("up", "down"), FAMILIES
        )
    )
    return [cell for cell in made if re.search(pattern, re.sub(" +", " ", str(cell)))]


@dataclass
class Kernel:
    """An end of the wire that is the kernel."""

    place: Namespace
    tap: Tap

    def socket(self, family: int, kind: int) -> socket.socket:
        """Make a socket there."""
        with self.place:
            return socket.socket(family, kind)


def kernel(stack: ExitStack, clock: RealClock, ours: Host, addr: dict[int, str]) -> Kernel:
    """Make a kernel behind a TAP; its buffers have the limits of a host of ours."""
    place = namespace(stack, f"goodput-{os.getpid()}-{next(_numbers)}")
    with place:
        for name in ("tcp_rmem", "tcp_wmem"):
            limits = " ".join(str(limit) for limit in getattr(ours.sysctl, name))
            Path("/proc/sys/net/ipv4", name).write_text(limits)
        tap = Tap(DEVICE, clock)
        stack.callback(tap.close)
    nodad = {4: [], 6: ["nodad"]}
    place.ip(
        *(
            ["addr", "add", f"{addr[family]}/{PREFIX[family]}", "dev", DEVICE, *nodad[family]]
            for family in FAMILIES
        ),
        ["link", "set", DEVICE, "up"],
    )
    wait_for_link(place.name, DEVICE)
    return Kernel(place, tap)


@contextlib.contextmanager
def ends(host: str, impair: dict[str, Any]) -> Iterator[tuple[Kernel, Kernel | Host]]:
    """The near end of a wire and the far one."""
    # A new TAP reports that it is down.
    logging.getLogger("e1000emu.links.tap").setLevel(logging.ERROR)
    with ExitStack() as stack:
        clock = RealClock()
        stack.callback(clock.close)
        ours = Host(name="ours", clock=clock, seed=impair["seed"])
        stack.callback(ours.close)
        near = kernel(stack, clock, ours, NEAR)
        wire = Impair(near.tap, **impair)
        far: Kernel | Host = ours
        if host == "linux":
            far = kernel(stack, clock, ours, FAR)
            Patch(wire, far.tap)
        clock.start()
        stack.callback(clock.stop)
        if host == "ours":
            add_nic(ours, wire, addr=f"{FAR[4]}/{PREFIX[4]}")
            with ours.lock:
                dev = ours.dev_by_name["eth0"]
                inet6_addr_add(dev, parse_addr6(FAR[6]), PREFIX[6], flags=IFA_F_NODAD)
        yield near, far


def connections(
    near: Kernel, far: Kernel | Host, family: int, streams: int
) -> Iterator[tuple[Any, Any]]:
    """Open connections from the near end; yield both ends of each."""
    listener: Any = far.socket(FAMILIES[family], socket.SOCK_STREAM)
    listener.settimeout(CONNECT_S)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    listener.bind((FAR[family], PORT))
    listener.listen(streams)
    for _ in range(streams):
        one = near.socket(FAMILIES[family], socket.SOCK_STREAM)
        one.settimeout(CONNECT_S)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        one.connect((FAR[family], PORT))
        other, _ = listener.accept()
        yield one, other
    listener.close()


class Stream:
    """One connection under load, by two threads that end within a tick of `stop`."""

    def __init__(self, sender: Any, reader: Any, stop: threading.Event) -> None:
        self.read = 0
        self._stop = stop
        self._ends = (sender, reader)
        for end in self._ends:
            end.settimeout(TICK_S)
        self._threads = [threading.Thread(target=loop) for loop in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        block = bytes(BLOCK)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self._ends[0].send(block)

    def _receive(self) -> None:
        block = memoryview(bytearray(4 * BLOCK))
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                self.read += self._ends[1].recv_into(block)

    def close(self) -> None:
        """End both threads and the connection."""
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()


def run(cell: Cell, host: str, seed: int) -> dict[str, Any]:
    """Measure once; the result is a line of the file."""
    stop = threading.Event()
    with ends(host, cell.impair(seed)) as (near, far):
        pairs = list(connections(near, far, cell.family, cell.streams))
        began = time.monotonic()
        ordered = pairs if cell.direction == "up" else [pair[::-1] for pair in pairs]
        streams = [Stream(sender, reader, stop) for sender, reader in ordered]
        time.sleep(cell.seconds)
        read = [stream.read for stream in streams]
        took = time.monotonic() - began
        stop.set()
        for stream in streams:
            stream.close()
    gc.collect()  # hosts are cycles, of some MB
    rates = [round(n * 8e-6 / took, 3) for n in read]
    return asdict(cell) | {
        "host": host,
        "seed": seed,
        "mbit_s": sum(rates),
        "streams_mbit_s": rates,
    }


def cell_of(line: dict[str, Any]) -> Cell:
    """Return the cell of a line of the file."""
    return Cell(**{field.name: line[field.name] for field in fields(Cell)})


def lines_of(path: Path | None) -> Iterator[dict[str, Any]]:
    """Yield the runs of a file."""
    if path is not None and path.exists():
        for text in path.read_text().splitlines():
            yield json.loads(text)


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third."""
    # Each value twice, so that a single run has quartiles.
    low, middle, high = statistics.quantiles(values * 2, n=4, method="inclusive")
    return low, middle, high


def table(cells: Iterable[Cell], lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of the table of these cells, as far as there are runs of both hosts."""
    found: dict[tuple[Cell, str], list[float]] = {}
    for line in lines:
        found.setdefault((cell_of(line), line["host"]), []).append(line["mbit_s"])
    yield f"{'':27} {'Linux, Mbit/s':>21} {'ours, Mbit/s':>21} {'runs':>5} ratio"
    for cell in cells:
        linux, ours = (found.get((cell, host), []) for host in HOSTS)
        if linux and ours:
            shown = [f"{m:.2f} [{a:.2f}, {b:.2f}]" for a, m, b in map(quartiles, (linux, ours))]
            ratio = statistics.median(ours) / max(statistics.median(linux), 1e-9)
            runs = min(len(linux), len(ours))
            yield f"{cell} {shown[0]:>21} {shown[1]:>21} {runs:5} {ratio:5.2f}"


def main() -> None:
    """Measure the runs missing in the file, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="runs of each cell and host")
    parser.add_argument("--cells", default="", help="a regular expression of lines of the table")
    parser.add_argument("--seconds", type=float, default=0, help="of a run; 0: 3, with delay 8")
    parser.add_argument("--streams", type=int, default=4, help="connections at once")
    parser.add_argument("--rate", type=float, default=50, help="of the wire, Mbit/s; 0: no limit")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path, help="the file of runs")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("bench_goodput: needs root, for namespaces and TAP devices")
    cells = cells_of(args.cells, int(args.rate * 1e6), args.streams, args.seconds)
    lines = list(lines_of(args.out))
    known = {(cell_of(line), line["host"], line["seed"]) for line in lines}
    with ProcessPoolExecutor(args.jobs) as pool, open(args.out or os.devnull, "a") as file:
        jobs = [
            pool.submit(run, cell, host, seed)
            for seed, cell, host in itertools.product(range(1, args.seeds + 1), cells, HOSTS)
            if (cell, host, seed) not in known
        ]
        for job in as_completed(jobs):
            try:
                lines.append(job.result())
            except (OSError, Unavailable) as error:
                # A bit error in an answer of ARP, for one, gives the wrong address for a minute.
                print(f"bench_goodput: a run failed: {error!r}", file=sys.stderr)
                continue
            file.write(json.dumps(lines[-1]) + "\n")
            file.flush()
    print(*table(cells, lines), sep="\n")


if __name__ == "__main__":
    main()
