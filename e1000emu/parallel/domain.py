"""Clock domains: nodes joined by links without delay share a clock, and nothing with others.

A simulation has the same domains with any number of processes, with equal behaviour. Frames from
another domain come before a domain's own events of that time, in the order of `Arrival` (time,
link, side, sequence).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from e1000emu.clock import ClockError, VirtualClock
from e1000emu.parallel.cutlink import Arrival, CutEnd
from e1000emu.parallel.window import NEVER_NS

if TYPE_CHECKING:
    from e1000emu.topology import Running


class DomainClock(VirtualClock):
    """A VirtualClock that tracks its cooperative threads, and does not run by itself."""

    __slots__ = ("alone", "building", "spawned")

    def __init__(self) -> None:
        super().__init__()
        self.building = True
        """Hosts are being built: a sleeping driver continues at once, without time passing."""
        self.alone = False
        """The simulation has ended: no more input from other domains, so it may run by itself."""
        self.spawned: list[Any] = []
        """Tasks not known to have ended."""

    def spawn(self, fn: Callable[..., Any], *args: Any, name: str | None = None) -> Any:
        """`VirtualClock.spawn`; an exception in the thread ends the simulation."""
        task = super().spawn(fn, *args, name=name)
        self.spawned.append(task)
        return task

    def check(self) -> None:
        """Raise what a cooperative thread has raised."""
        ended = [task for task in self.spawned if task.done]
        if ended:
            self.spawned = [task for task in self.spawned if not task.done]
        for task in ended:
            if task.error is not None:
                raise task.error

    def _run_on(self, cond: Callable[[], bool], deadline: int | None) -> bool:
        if self.alone:
            return super()._run_on(cond, deadline)
        if deadline is not None and (self.building or deadline <= self.now_ns()):
            return bool(cond())
        raise ClockError(
            "a blocking call outside of a cooperative thread: other hosts have clocks of their "
            "own, which would stand still; make it in a function for clock.spawn(fn)"
        )


class Domain:
    """The nodes of one clock. Frames of other domains wait in the inbox until their time."""

    def __init__(self, number: int, nodes: Iterable[str]) -> None:
        self.number = number
        self.nodes = tuple(nodes)
        self.clock = DomainClock()
        self.ends: dict[tuple[int, int], CutEnd] = {}
        """(number of the link, own side): its end here."""
        self.sent: list[Arrival] = []
        self.due_ns = 0
        """Time of the next event, NEVER_NS without one. The first run starts the threads."""
        self.running: Running | None = None
        """The programs of the topology's hosts here."""
        self._inbox: list[Arrival] = []

    @property
    def busy(self) -> bool:
        """Whether a cooperative thread or a program that ends by itself still runs."""
        return bool(self.clock.spawned) or (self.running is not None and self.running.busy)

    def put(self, arrival: Arrival) -> None:
        """Queue frames that arrive later."""
        heapq.heappush(self._inbox, arrival)
        self.due_ns = min(self.due_ns, arrival.when_ns)

    def run_before(self, end_ns: int) -> None:
        """Run all events and receive all frames due before `end_ns`."""
        clock, inbox = self.clock, self._inbox
        run_before = clock.run_before
        if self.running is not None:
            run_before = partial(run_loop_before, self.running.loop, clock)
        while inbox and inbox[0].when_ns < end_ns:
            when = inbox[0].when_ns
            run_before(when)
            clock.move_to(when)
            while inbox and inbox[0].when_ns == when:
                arrival = heapq.heappop(inbox)
                self.ends[arrival.link, 1 - arrival.side].arrive(arrival)
        due = run_before(end_ns)
        clock.check()
        self.due_ns = NEVER_NS if due is None else due
        if inbox:
            self.due_ns = min(self.due_ns, inbox[0].when_ns)


def run_loop_before(loop: Any, clock: DomainClock, end_ns: int) -> int | None:
    """`clock.run_before`, with the coroutines and timers of an asyncio loop on that clock."""
    ready, timers = loop._ready, loop._scheduled
    while True:
        if clock._tasks and clock._turn(end_ns - 1):
            continue
        due = clock.due_ns()
        if not ready:
            timer_ns = math.ceil(timers[0]._when * 1e9) if timers else NEVER_NS
            if due is not None and due < timer_ns:
                if due >= end_ns:
                    return due
                clock.step()
                continue
            if timer_ns >= end_ns:
                return timer_ns if timers else due
            clock.move_to(timer_ns)
        loop.stop()  # after one turn
        loop.run_forever()


class Rank:
    """The domains that one process runs, and the frames between them and to other ranks.

    `homes`: (link, side) -> rank and domain of that end. `delay_ns`: the least delay of links
    between two domains of this rank.
    """

    def __init__(
        self,
        number: int,
        domains: Mapping[int, Domain],
        homes: Mapping[tuple[int, int], tuple[int, int]],
        delay_ns: int,
    ) -> None:
        self.number = number
        self.domains = domains
        self.runs = 0
        """Number of runs of domains."""
        self.running: int | None = None
        """The domain that runs, or that has raised an exception."""
        self.arrivals: dict[int, int] = {}
        """Rank -> the first arrival among `outbox`."""
        self.outbox: dict[int, list[Arrival]] = {}
        self._homes = homes
        self._delay_ns = delay_ns
        # A domain has at least one entry with its due_ns; others are outdated.
        self._due = [(domain.due_ns, number) for number, domain in domains.items()]
        heapq.heapify(self._due)

    @property
    def due_ns(self) -> int:
        """Time of the next event, NEVER_NS without one."""
        due = self._due
        while due and self.domains[due[0][1]].due_ns != due[0][0]:
            heapq.heappop(due)
        return due[0][0] if due else NEVER_NS

    @property
    def busy(self) -> bool:
        """Whether a domain is busy."""
        return any(domain.busy for domain in self.domains.values())

    def put(self, arrival: Arrival) -> None:
        """Queue frames of another rank."""
        self._put(self._homes[arrival.link, 1 - arrival.side][1], arrival)

    def _put(self, number: int, arrival: Arrival) -> None:
        domain = self.domains[number]
        before = domain.due_ns
        domain.put(arrival)
        if domain.due_ns < before:
            heapq.heappush(self._due, (domain.due_ns, number))

    def run_before(self, end_ns: int) -> None:
        """Run everything due before `end_ns`; frames for other ranks are then in `outbox`."""
        while (first := self.due_ns) < end_ns:
            stop = min(end_ns, first + self._delay_ns)
            ready: set[int] = set()
            while self._due and self._due[0][0] < stop:
                when, number = heapq.heappop(self._due)
                if self.domains[number].due_ns == when:
                    ready.add(number)
            for number in sorted(ready):
                self.running = number
                domain = self.domains[number]
                domain.run_before(stop)
                heapq.heappush(self._due, (domain.due_ns, number))
                self.runs += 1
            for number in sorted(ready):
                domain = self.domains[number]
                for arrival in domain.sent:
                    self._send(arrival)
                domain.sent.clear()
        self.running = None

    def _send(self, arrival: Arrival) -> None:
        rank, number = self._homes[arrival.link, 1 - arrival.side]
        if rank == self.number:
            self._put(number, arrival)
            return
        self.outbox.setdefault(rank, []).append(arrival)
        self.arrivals[rank] = min(self.arrivals.get(rank, NEVER_NS), arrival.when_ns)

    def take_outbox(self) -> dict[int, list[Arrival]]:
        """Return and remove the frames for other ranks."""
        taken, self.outbox, self.arrivals = self.outbox, {}, {}
        return taken
