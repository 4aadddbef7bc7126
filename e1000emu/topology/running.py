"""Runs the programs of a built topology, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from e1000emu.clock import SimulationDeadlock, VirtualClock
from e1000emu.closing import Closing
from e1000emu.errors import ArgumentError, E1000Error
from e1000emu.topology.build import TopologyLab
from e1000emu.topology.flat import address_of
from e1000emu.topology.programs import Program, parse, told
from fastpath.errors import check_type
from stack.aio import VirtualTimeLoop
from stack.host import Host


class RunResult(msgspec.Struct):
    """The result of one program."""

    node: str
    program: str
    """The line of `run`."""
    state: str = "waiting"
    """"waiting" for the topology's start, "running", "stopped" at the end, "done" or "failed"."""
    error: str = ""
    figures: dict[str, Any] = {}


class Running(Closing):
    """The programs of a lab's nodes, each a coroutine on its host; started at `flat.start_ns`.

    with Running(lab) as running:
        running.run(for_ns=10_000_000_000)
    """

    def __init__(self, lab: TopologyLab) -> None:
        check_type("Running", "lab", lab, TopologyLab, "what build() returns")
        if not isinstance(lab.clock, VirtualClock):
            raise ArgumentError("Running: lab.clock is none; build the lab on a VirtualClock")
        self.lab = lab
        self.clock: VirtualClock = lab.clock
        self.results: list[RunResult] = []
        self._loop = VirtualTimeLoop(self.clock)
        self._waited: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._started = self._loop.create_future()
        self.clock.call_at(lab.flat.start_ns, self._start)
        for name, node in lab.flat.nodes.items():
            if name not in lab:
                continue
            if any(parse(line).looks_up for line in node.run):
                self._name_nodes(lab[name])
            for line in node.run:
                program, result = parse(line), RunResult(name, line)
                self.results.append(result)
                task = self._loop.create_task(self._run(lab[name], program, result))
                self._tasks.append(task)
                if not program.lasting:
                    self._waited.add(task)
                    task.add_done_callback(self._waited.discard)

    def _name_nodes(self, host: Host) -> None:
        """Add the names of all nodes to the host."""
        for name, node in self.lab.flat.nodes.items():
            for given in node.addresses.values():
                for address in given:
                    host.names.hosts.add(address.partition("/")[0], name)

    def _start(self) -> None:
        if not self._started.done():
            self._started.set_result(None)

    async def _run(self, host: Host, program: Program, result: RunResult) -> None:
        await asyncio.shield(self._started)
        result.state = "running"
        try:
            await program.start(host, self._address, result.figures)
        except asyncio.CancelledError:
            if result.state == "running":
                result.state = "stopped"
        except (OSError, E1000Error, BaseExceptionGroup) as error:
            result.state, result.error = "failed", told(error)
        else:
            result.state = "done"

    def _address(self, name: str) -> str:
        return address_of(self.lab.flat.nodes, name)

    @property
    def loop(self) -> VirtualTimeLoop:
        """The loop of the programs' coroutines."""
        return self._loop

    @property
    def busy(self) -> bool:
        """Whether a program that ends by itself still runs."""
        return bool(self._waited)

    @property
    def failures(self) -> list[RunResult]:
        """The failed programs."""
        return [result for result in self.results if result.state == "failed"]

    def run_until(self, when_ns: int) -> None:
        """Run up to the virtual time `when_ns`."""
        due = self._loop.create_future()
        self.clock.call_at(when_ns, lambda: due.set_result(None))
        self._loop.run_until_complete(due)

    def run(self, for_ns: int | None = None) -> None:
        """Run until the programs have ended, or for `for_ns` after their start.

        Does not wait for servers. A program that waits for an impossible event has failed.

        Raises:
            ArgumentError: the run would not end.
        """
        if for_ns is None and not self._waited:
            raise ArgumentError("Running.run: no program ends by itself; give for_ns")
        end = None if for_ns is None else max(self.lab.flat.start_ns, self.clock.now_ns()) + for_ns
        if end is not None and not self._waited:
            self.run_until(end)
            return
        try:
            self._loop.run_until_complete(self._ended(end))
        except SimulationDeadlock as error:
            for result in self.results:
                if result.state == "running" and not parse(result.program).lasting:
                    result.state, result.error = "failed", str(error)

    async def _ended(self, end_ns: int | None) -> None:
        due = self._loop.create_future()
        timer = None
        if end_ns is not None:
            timer = self.clock.call_at(end_ns, lambda: due.set_result(None))
        await self._started
        ended = asyncio.gather(*self._waited)
        await asyncio.wait([due, ended], return_when=asyncio.FIRST_COMPLETED)
        if timer is not None:
            timer.cancel()

    def close(self) -> None:
        """Stop running programs. Idempotent."""
        if self._loop.is_closed():
            return
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()
