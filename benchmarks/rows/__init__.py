"""All rows of `e1000emu bench`, which pytest-benchmark runs as well.

A `Row` is one operation in one variant, at several sizes; with a size it is a `Case`. A size is a
point on one of `AXES`: bytes, messages of a call, flows, routes, loss. Cases of one group, ours and
its peers, do the same work and are measured in turn. Rates are per second of the process's CPU
time, user and system, with everything that runs in it: both stacks, both NICs, the wire.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

__all__ = [
    "AXES",
    "UNITS",
    "Case",
    "Row",
    "Unit",
    "Work",
    "clock",
    "every_row",
    "number",
    "row",
    "size_words",
    "words",
]

clock = time.process_time
"""The clock of all rates, in seconds."""


@dataclass(frozen=True, slots=True)
class Unit:
    """`scale` of what is counted for one of the unit; `inverse`: time for one, so less is better"""

    name: str
    scale: float
    inverse: bool = False

    def value(self, amount: float, seconds: float) -> float:
        """Return the figure for `amount` things done in `seconds` of CPU time."""
        if self.inverse:
            return seconds / amount / self.scale
        return amount / seconds / self.scale

    def better(self, value: float, than: float) -> float:
        """Return how many times as good `value` is; above 1 it is better."""
        return than / value if self.inverse else value / than


UNITS = {
    unit.name: unit
    for unit in (
        Unit("Mpps", 1e6),
        Unit("k/s", 1e3),
        Unit("Gbit/s", 1e9 / 8),
        Unit("GB/s", 1e9),
        Unit("ns", 1e-9, inverse=True),
        Unit("ms", 1e-3, inverse=True),
    )
}
"""By name. What is counted are packets, bytes (Gbit/s and GB/s) or operations."""

BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
AXES = {
    **dict.fromkeys(BYTES, "bytes"),
    "msgs": "messages of a call",
    "flows": "flows",
    "conns": "open connections",
    "routes": "routes",
    "neighs": "neighbours",
    "socks": "sockets",
    "hosts": "hosts",
    "pct": "loss in per cent",
    "ms": "round-trip time in ms",
}
"""What a size counts, by its suffix."""


SIZE_WORDS = {
    "B": "bytes", "msgs": "messages", "conns": "connections", "neighs": "neighbours",
    "pct": "% of loss", "ms": "ms",
}  # fmt: skip
NAME_WORDS = {
    "csum": "checksum", "rr": "round trips", "mmsg": "sendmmsg", "mmsg64": "sendmmsg of 64",
    "skb": "sk_buff", "tx": "transmit", "rx": "receive", "mmio": "register access",
    "neighs": "neighbours", "trip": "round trip", "udp6": "UDP IPv6", "tcp6": "TCP IPv6",
    "ip6": "IPv6", "unix": "AF_UNIX", "eth": "Ethernet", "dgram": "datagrams", "lwip": "lwIP",
    "pytcp": "PyTCP", "dpdk": "DPDK", "best": "fastest form", "c": "in C", "fan": "fan-out",
    "rtt": "round-trip time", "tcp4": "TCP IPv4", "gro6": "GRO IPv6", "push6": "push IPv6",
    "batch1": "batch of 1", "batch32": "batch of 32", "intrin": "intrinsics", "twin": "Python twin",
    "regfile": "register file", "for": "as for", "alone": "without it",
    **{
        name: name.upper()
        for name in ("tcp", "udp", "gso", "gro", "ip", "nic", "icr", "ims", "sse2", "avx2")
    },
}  # fmt: skip


def words(name: str) -> str:
    """Return the name of a row or case in words: `stack__tcp__bulk[1MiB]` is "stack: TCP bulk, 1
    MiB"."""
    name, _, size = name.removesuffix("]").partition("[")
    layer, *rest = [
        " ".join(NAME_WORDS.get(word, word) for word in part.split("_"))
        for part in name.split("__")
    ]
    said = f"{layer}: {' '.join(rest)}" if rest else layer
    if rest[:1] == ["peer"]:
        said = f"{layer}, peer: {' '.join(rest[1:])}"
    return f"{said}, {size_words(size)}" if size else said


def size_words(size: str) -> str:
    """Return a size in words: `1conns` is "1 connection"."""
    count = re.fullmatch(r"([\d.]+)([A-Za-z]+)", size)
    if count is None:
        return size
    unit = SIZE_WORDS.get(count[2], count[2])
    if count[1] == "1" and count[2] in ("B", "msgs", "flows", "conns", "routes", "neighs"):
        unit = unit.removesuffix("s")
    return f"{count[1]} {unit}"


@dataclass(slots=True)
class Work:
    """What is timed: `run` does `amount` of it, the same throughout a group; `prepare` goes before
    each run, untimed.

    `timed`, of work that another process does or that the clock on the wall is to measure, runs it
    so many times and returns the seconds.
    `samples` are the CPU nanoseconds of single operations, which `run` appends. `facts` tells what
    else was found, by name: the goodput in virtual time, the memory of a connection.
    """

    run: Callable[[], object]
    amount: float
    prepare: Callable[[], object] | None = None
    timed: Callable[[int], float] | None = None
    samples: list[int] | None = None
    facts: Callable[[], Mapping[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One operation in one variant: `name` is layer__operation__variant.

    `peer` is the peer's name in tables, None for ours. A `ceiling` does less work than ours, or is
    ours in another form; it is shown, but no ratio is taken to it. An `extra` peer needs root, a
    package or a program and is measured with `--peers` only. `start(size)` sets the work up and is
    left after the measurement; it raises `Unavailable` where this machine cannot run the row.

    `growth` bounds the cost at the last size, as a multiple of the cost at the first; the sizes of
    such a row are measured in turn. `alone` says why a group has no peer. The time of
    a `layered` row is also shown by layer.
    """

    name: str
    group: str
    unit: str
    start: Callable[[str], AbstractContextManager[Work]]
    sizes: tuple[str, ...]
    quick: tuple[str, ...]
    peer: str | None = None
    ceiling: bool = False
    extra: bool = False
    growth: float | None = None
    alone: str = ""
    layered: bool = False

    def cases(self, *, quick: bool = False) -> Iterator[Case]:
        """Yield a case for each size; `quick` keeps those that the quick run measures."""
        for size in self.quick if quick else self.sizes:
            yield Case(self, size)


@dataclass(frozen=True, slots=True)
class Case:
    """A row at one size."""

    row: Row
    size: str
    name: str = field(init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.row.name}[{self.size}]")
        object.__setattr__(self, "group", f"{self.row.group}[{self.size}]")

    @property
    def unit(self) -> Unit:
        """The unit of its figure."""
        return UNITS[self.row.unit]

    def start(self) -> AbstractContextManager[Work]:
        """Set the work up."""
        return self.row.start(self.size)


class Unavailable(Exception):
    """A row that this machine cannot run: no C compiler, no such instruction set."""


def row(
    name: str,
    *,
    group: str,
    unit: str,
    sizes: tuple[str, ...],
    quick: tuple[str, ...] | None = None,
    peer: str | None = None,
    ceiling: bool = False,
    extra: bool = False,
    growth: float | None = None,
    alone: str = "",
    layered: bool = False,
) -> Callable[[Callable[[str], Iterator[Work]]], Row]:
    """Make a row of a generator function that sets up, yields its `Work` and takes down."""

    def made(start: Callable[[str], Iterator[Work]]) -> Row:
        return Row(
            name,
            group,
            unit,
            contextmanager(start),
            sizes,
            sizes if quick is None else quick,
            peer,
            ceiling,
            extra,
            growth,
            alone,
            layered,
        )

    return made


def point(size: str) -> tuple[float, str]:
    """Return 64KiB as (64.0, "KiB"), 10000flows as (10000.0, "flows"). Raises: ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(\D+)", size)
    if found is None or found[2] not in AXES:
        raise ValueError(f"size {size!r} is no number with one of {', '.join(AXES)}")
    return float(found[1]), found[2]


def number(size: str) -> float:
    """Return the number that a size stands for on its axis: bytes, flows, per cent."""
    value, unit = point(size)
    return value * BYTES.get(unit, 1)


def size_bytes(size: str) -> int:
    """Return the bytes that a size such as 60B, 64KiB or 256MiB means."""
    if point(size)[1] not in BYTES:
        raise ValueError(f"size {size!r} does not end in B, KiB or MiB")
    return int(number(size))


@functools.cache
def every_row() -> tuple[Row, ...]:
    """Return the rows in the order in which they are shown."""
    from . import (
        csum,
        device,
        growth,
        gso,
        hosts,
        lossy,
        packaged,
        packet,
        pytcp,
        registers,
        remote,
        rings,
        skbuff,
        tables,
        tcp,
        udp,
        unix,
    )

    modules = (
        device,
        csum,
        udp,
        tcp,
        unix,
        packet,
        growth,
        tables,
        hosts,
        lossy,
        skbuff,
        gso,
        rings,
        registers,
        packaged,
        pytcp,
        remote,
    )
    return tuple(made for module in modules for made in module.ROWS)
