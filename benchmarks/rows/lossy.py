"""A stream over a wire that loses frames or is long, in virtual time.

The figure is the rate per CPU time. The goodput is measured in virtual time, so it depends on the
seed only, not on the machine. There is no peer, since no other stack runs in virtual time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from e1000emu.lab import pump
from stack.socket import AF_INET, AF_INET6, Socket

from . import Row, Work, number, row
from .ends import hosts
from .tcp import connected, listening

RATE_BPS = 1_000_000_000
SEED = 7
LOSS_DELAY_NS = 5_000_000
"""One way, where loss varies: a round trip is 10 ms."""
BLOCK = 1 << 16
VOLUMES = {"pct": 8 << 20, "ms": 32 << 20}
ALONE = "the wire is worked in virtual time"


def _stream(family: int, size: str, total: int, **wire: Any) -> Iterator[Work]:
    """Send `total` bytes over a new connection; count the virtual time as well."""
    with hosts(family, rate_bps=RATE_BPS, **wire) as (a, b), listening(b, family) as listener:
        block = memoryview(bytearray(BLOCK))
        ends: list[Socket] = []
        goodput: list[float] = []

        def close() -> None:
            while ends:
                ends.pop().close()

        def prepare() -> None:
            close()
            ends.extend(connected(a, listener, family))

        def run() -> None:
            pieces = iter([block] * (total // BLOCK))
            began = a.clock.now_ns()
            moved = pump(*ends, lambda: next(pieces, None), lambda piece: None)
            if moved != total:
                raise RuntimeError("tcp: bytes were lost")
            goodput.append(total * 8e3 / (a.clock.now_ns() - began))

        def facts() -> dict[str, float]:
            return {"goodput_mbit_s": goodput[0]}  # later runs know the path

        yield Work(run, total, prepare, facts=facts)
        close()


def _loss(family: int, size: str) -> Iterator[Work]:
    impair = {"loss": number(size) / 100, "seed": SEED}
    yield from _stream(family, size, VOLUMES["pct"], latency_ns=LOSS_DELAY_NS, impair=impair)


def _rtt(family: int, size: str) -> Iterator[Work]:
    latency = int(number(size) * 500_000)
    yield from _stream(family, size, VOLUMES["ms"], latency_ns=latency)


def _row(name: str, group: str, start: Any, sizes: tuple[str, ...], quick: tuple[str, ...]) -> Row:
    return row(name, group=group, unit="Gbit/s", sizes=sizes, quick=quick, alone=ALONE)(start)


LOSSES, LOSS_QUICK = ("0pct", "0.1pct", "1pct", "10pct"), ("1pct",)
RTTS, RTT_QUICK = ("0ms", "1ms", "10ms", "100ms"), ("10ms",)
loss = _row("stack__tcp__loss", "tcp_loss", partial(_loss, AF_INET), LOSSES, LOSS_QUICK)
loss6 = _row("stack__tcp6__loss", "tcp_loss", partial(_loss, AF_INET6), LOSSES, LOSS_QUICK)
rtt = _row("stack__tcp__rtt", "tcp_rtt", partial(_rtt, AF_INET), RTTS, RTT_QUICK)
rtt6 = _row("stack__tcp6__rtt", "tcp_rtt", partial(_rtt, AF_INET6), RTTS, RTT_QUICK)
ROWS = (loss, loss6, rtt, rtt6)
