"""The part of one process in a simulation: it builds its clock domains, runs them by windows,
and returns their results."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Protocol

import msgspec

from e1000emu.lab.hosts import counters_text
from e1000emu.parallel.captures import LinkCapture, Spool
from e1000emu.parallel.cutlink import Arrival, CutEnd, pack, unpack
from e1000emu.parallel.domain import Domain, Rank
from e1000emu.parallel.partition import Partition
from e1000emu.parallel.window import Report, Windows
from e1000emu.record.snapshot import save
from e1000emu.topology import Flat, FlatLink, Running, RunResult, TopologyLab, build


@dataclass(frozen=True)
class Simulation:
    """The input of `simulate`: a topology, and the behaviour of its hosts."""

    flat: Flat
    begin: Callable[[TopologyLab], object] | None = None
    """Called at virtual time 0 with each part of the topology with its own clock: creates
    sockets, and threads by `lab.clock.spawn`. `name in lab` is whether it has the host."""
    figures: Callable[[TopologyLab], Mapping[str, Any]] | None = None
    """Called at the end with each part; returns numbers, text and lists of them by name."""


class Done(msgspec.Struct, tag=True):
    """The result of one rank."""

    rank: int
    frames: dict[str, str]
    """Number and side of a link between domains -> hash of all frames sent there, with times."""
    counters: dict[str, str]
    """Host -> hash."""
    registers: dict[str, str]
    figures: dict[str, Any]
    programs: list[RunResult]
    """The result of each program of the topology's hosts."""
    drops: dict[str, int]
    events: int
    windows: int
    runs: int
    """Number of runs of domains."""
    end_ns: int
    """The virtual time of the end."""
    waited_s: float
    """Seconds of waiting for other ranks, at the ends of windows."""
    cpu_s: float
    """Processor time, including building the hosts."""


class Transport(Protocol):
    """Carries reports and frames between ranks."""

    def send(self, report: Report, parcels: Mapping[int, bytes]) -> None:
        """Send the report to every other rank, with that rank's parcel."""

    def receive(self) -> list[tuple[Report, bytes]]:
        """Wait for some reports of others; each with its parcel."""


class NoTransport:
    """The transport of a single rank."""

    def send(self, report: Report, parcels: Mapping[int, bytes]) -> None:
        """No effect."""

    def receive(self) -> list[tuple[Report, bytes]]:
        """Never called: a single rank waits for no other."""
        raise AssertionError


class Share:
    """The part of a simulation that one rank runs."""

    def __init__(
        self,
        simulation: Simulation,
        partition: Partition,
        number: int,
        *,
        captures: Mapping[int, int] | None = None,
        spool: str | os.PathLike[str] | None = None,
    ) -> None:
        """Build the rank's hosts. `captures`: number of a link -> its place in its file."""
        self._begun_s = time.process_time()
        self.simulation = simulation
        self.partition = partition
        self.labs: list[TopologyLab] = []
        self._closing = ExitStack()
        self.spool = None if spool is None else Spool(spool)
        flat = simulation.flat
        domains = {}
        try:
            if self.spool is not None:
                self._closing.callback(self.spool.close)
            for domain_number, nodes in enumerate(partition.domains):
                if partition.rank_of[domain_number] != number:
                    continue
                domain = domains[domain_number] = Domain(domain_number, nodes)
                self._closing.callback(domain.clock.close)
                lab = build(
                    flat,
                    domain.clock,
                    nodes=nodes,
                    cut=partial(self._cut, domain),
                    captures=self._writers(nodes, captures or {}),
                    wait=False,
                )
                self._closing.callback(lab.close)
                domain.clock.building = False
                self.labs.append(lab)
                if any(flat.nodes[name].run for name in nodes):
                    domain.running = Running(lab)
                    self._closing.callback(domain.running.close)
                if simulation.begin is not None:
                    simulation.begin(lab)
        except BaseException:
            self.close()
            raise
        self.rank = Rank(number, domains, partition.homes(), partition.inner_delay_ns(number))

    def _cut(self, domain: Domain, link: FlatLink, side: int) -> CutEnd:
        end = CutEnd(
            domain.clock,
            domain.sent.append,
            number=link.number,
            side=side,
            delay_ns=link.delay_ns,
            rate_bps=link.rate_bps,
            queue_frames=link.queue_frames,
        )
        domain.ends[link.number, side] = end
        return end

    def _writers(self, nodes: tuple[str, ...], places: Mapping[int, int]) -> dict[int, LinkCapture]:
        """Return the writers of captures, for links whose side 0 is one of `nodes`."""
        if self.spool is None:
            return {}
        links = self.simulation.flat.links
        return {
            number: LinkCapture(self.spool, number, place)
            for number, place in places.items()
            if links[number].ends[0][0] in nodes
        }

    def close(self) -> None:
        """Close the built hosts."""
        self._closing.close()

    def done(self, stop_ns: int, *, windows: int = 0, waited_s: float = 0.0) -> Done:
        """Advance all clocks to `stop_ns`, and return the result."""
        frames, counters, registers = {}, {}, {}
        figures: dict[str, Any] = {}
        programs: list[RunResult] = []
        drops: Counter[str] = Counter()
        events = 0
        for domain, lab in zip(self.rank.domains.values(), self.labs, strict=True):
            domain.clock.move_to(stop_ns)
            events += domain.clock.events
            drops.update(lab.drops())
            for (number, side), end in domain.ends.items():
                frames[f"{number}/{side}"] = end.sent.hexdigest()
            for host in lab:
                counted, kept = sha256(), sha256()
                for nic in host.nics.values():
                    counted.update(msgspec.msgpack.encode(nic.stats.as_dict()))
                    kept.update(save(nic))
                counted.update(counters_text(host))
                counters[host.name], registers[host.name] = counted.hexdigest(), kept.hexdigest()
            domain.clock.alone = True
            if domain.running is not None:
                domain.running.close()  # servers report their totals
                programs += domain.running.results
            if self.simulation.figures is not None:
                figures |= self.simulation.figures(lab)
        return Done(
            self.rank.number,
            frames,
            counters,
            registers,
            figures,
            programs,
            dict(drops),
            events,
            windows,
            self.rank.runs,
            stop_ns,
            waited_s,
            time.process_time() - self._begun_s,
        )


def parcels(sent: Mapping[int, list[Arrival]]) -> dict[int, bytes]:
    """Return, for each rank, its frames as bytes."""
    return {rank: b"".join(map(pack, arrivals)) for rank, arrivals in sent.items()}


def drive(
    share: Share,
    windows: Windows,
    transport: Transport,
    on_window: Callable[[int], None],
) -> Done:
    """Run the share to the end. `on_window` is called with the time of the next event."""
    rank, spool, waited_s = share.rank, share.spool, 0.0
    while True:
        due_ns = rank.due_ns
        on_window(due_ns)
        busy = windows.check_ns is not None and due_ns > windows.stop_ns and rank.busy
        report = windows.report(due_ns, rank.arrivals, busy=busy)
        transport.send(report, parcels(rank.take_outbox()))
        begun = time.perf_counter()
        while not windows.complete:
            for other, parcel in transport.receive():
                for arrival in unpack(parcel):
                    rank.put(arrival)
                windows.received(other)
        waited_s += time.perf_counter() - begun
        if windows.finished:
            return share.done(windows.stop_ns, windows=windows.window, waited_s=waited_s)
        rank.run_before(windows.end_ns)
        if spool is not None:
            spool.write()
