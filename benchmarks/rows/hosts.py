"""What a host costs, by their number: `e1000emu.lab.lan` builds them, each with a NIC, on a switch.

`build` is the processor's time for one, until its link is up; the facts say what closing one takes
and the memory of one before any traffic. `idle` is a round trip between two of them beside the
others. There is no peer: no other stack runs so many hosts in virtual time.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from e1000emu.lab import close_hosts, lan
from stack.socket import AF_INET, SOCK_DGRAM, Socket

from . import Row, Work, clock, number, row

if TYPE_CHECKING:
    from stack.host import Host

COUNTS = ("10hosts", "100hosts", "1000hosts", "10000hosts")
QUICK_COUNTS = ("10hosts", "1000hosts")
"""Ten thousand take 4 GB and half a minute of processor time a round."""
NETWORK = "10.0.0.0/16"
BOUND = 1.5
"""As in `growth.py`."""
TRIPS = 256
PAGE_BYTES = 4096
SETTLED_NS = 10_000_000_000
"""By then all have announced themselves."""
ALONE = "hosts of virtual time"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def _build(size: str) -> Iterator[Work]:
    """Build so many hosts; closing those of the run before is not timed."""
    count = int(number(size))
    hosts: list[Host] = []
    facts: dict[str, float] = {}

    def close() -> None:
        start = clock()
        close_hosts(hosts)
        if hosts:
            facts["close_ns"] = (clock() - start) / count * 1e9
        hosts.clear()
        gc.collect()

    def run() -> None:
        before = _resident_bytes()
        hosts.extend(lan(count, network=NETWORK))
        facts.setdefault("bytes_a_host", (_resident_bytes() - before) / count)

    yield Work(run, count, close, facts=lambda: facts)
    close()


def _idle(size: str) -> Iterator[Work]:
    """Round trips between two hosts beside the others, which have nothing to do."""
    hosts = lan(int(number(size)), network=NETWORK)
    near, far = hosts[:2]
    near.clock.run_for(SETTLED_NS)
    with Socket(near, AF_INET, SOCK_DGRAM) as client, Socket(far, AF_INET, SOCK_DGRAM) as server:
        server.bind(("10.0.0.2", 7))
        client.bind(("10.0.0.1", 7))

        def run() -> None:
            for _ in range(TRIPS):
                client.sendto(b"x", ("10.0.0.2", 7))
                server.sendto(server.recv(9), ("10.0.0.1", 7))
                client.recv(9)

        yield Work(run, TRIPS)
    close_hosts(hosts)


def _row(name: str, group: str, unit: str, start: Callable[[str], Iterator[Work]]) -> Row:
    made = row(
        name, group=group, unit=unit, sizes=COUNTS, quick=QUICK_COUNTS, growth=BOUND, alone=ALONE
    )
    return made(start)


build = _row("lab__hosts__build", "hosts_build", "ms", _build)
idle = _row("lab__hosts__idle", "hosts_idle", "k/s", _idle)
ROWS = (build, idle)
