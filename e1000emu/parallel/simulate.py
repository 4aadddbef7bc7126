"""`simulate`: one simulation in any number of processes, with the same result."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import msgspec

from e1000emu.campaign.forkserver import find, receive, send, start
from e1000emu.cli.signals import signal_name
from e1000emu.errors import E1000Error
from e1000emu.parallel.captures import merge
from e1000emu.parallel.mpi import run, world
from e1000emu.parallel.partition import Partition, partition
from e1000emu.parallel.request import Failed, Request, attempt, checked, spool_path
from e1000emu.parallel.share import Done, NoTransport, Simulation
from e1000emu.parallel.supervisor import Answer
from fastpath.errors import check_callable, whole_number

if TYPE_CHECKING:
    from e1000emu.topology import Flat, RunResult

Path = str | os.PathLike[str]

HASH_DIGITS = 16


class SimulationError(E1000Error, RuntimeError):
    """A process of a simulation has failed; the text names it, its seed and the virtual time.

    `__notes__` has the traceback of an exception there.
    """


@dataclass(frozen=True)
class Outcome:
    """The result of a simulation."""

    partition: Partition
    done: tuple[Done, ...]
    """One for each process."""

    @cached_property
    def digest(self) -> dict[str, str]:
        """Hashes of frames between clock domains, of counters and of registers, and the virtual
        time of the end (ns). They are the same for any number of processes."""
        found = {}
        for kind in ("frames", "counters", "registers"):
            rows: dict[str, str] = {}
            for one in self.done:
                rows |= getattr(one, kind)
            text = msgspec.json.encode(sorted(rows.items()))
            found[kind] = sha256(text).hexdigest()[:HASH_DIGITS]
        return {**found, "end": str(self.end_ns)}

    @property
    def end_ns(self) -> int:
        """The virtual time of the end."""
        return self.done[0].end_ns

    @property
    def figures(self) -> dict[str, Any]:
        """The results of `Simulation.figures`, of all parts."""
        found: dict[str, Any] = {}
        for one in self.done:
            found |= one.figures
        return found

    @property
    def programs(self) -> list[RunResult]:
        """The result of each program of the topology's hosts, in the topology's order."""
        order = {name: number for number, name in enumerate(self.partition.domain_of)}
        found = [result for one in self.done for result in one.programs]
        return sorted(found, key=lambda result: order[result.node])

    @property
    def drops(self) -> dict[str, int]:
        """Frames and packets that did not arrive, by place and reason."""
        found: Counter[str] = Counter()
        for one in self.done:
            found.update(one.drops)
        return dict(sorted(found.items()))

    @property
    def events(self) -> int:
        """How many events all clocks have run."""
        return sum(one.events for one in self.done)

    @property
    def fingerprint(self) -> str:
        """One hash of `digest`."""
        return sha256(msgspec.json.encode(self.digest)).hexdigest()[:HASH_DIGITS]

    @property
    def windows(self) -> int:
        """Number of windows: how often the processes waited for each other."""
        return self.done[0].windows

    @property
    def advice(self) -> str:
        """Why more than one process hardly pays; "" when it may."""
        return self.partition.advice()


def simulate(
    build: Callable[..., Simulation],
    *args: Any,
    processes: int = 1,
    mpi: bool = False,
    until_ns: int,
    check_ns: int | None = None,
    seed: int | str | None = None,
    capture: Path | Mapping[int, Path] | None = None,
    links: Iterable[int] | None = None,
) -> Outcome:
    """Run the Simulation that `build(*args)` returns, divided among `processes`.

    Each process calls `build`, which is a function at the top level of a file; `args` can be
    pickled. `seed`, if given, is its argument of that name. The run ends at `until_ns`, or before
    that at a multiple of `check_ns` at which all cooperative threads have ended, and all programs
    of hosts that end by themselves. `capture` is a pcapng file of all links, or of those whose
    numbers `links` has. It may also map each link's number to a file.

    With `mpi` every rank that mpiexec has started calls `simulate`, and is one of the processes;
    rank 0 writes the capture.

    Raises:
        ArgumentError: an invalid argument, or links without delay leave fewer parts.
        SimulationError: a process has ended too early; the others were ended.
        E1000Error: no MPI.
    """
    comm = world() if mpi else None
    if comm is not None:
        processes = comm.size
    check_callable("simulate", "build", build)
    whole_number("simulate", "processes", processes, 1)
    whole_number("simulate", "until_ns", until_ns, 0, unit="ns")
    if check_ns is not None:
        whole_number("simulate", "check_ns", check_ns, 1, unit="ns")
    named = {} if seed is None else {"seed": seed}
    simulation = checked(build(*args, **named))
    found = partition(simulation.flat, processes)
    request = Request(
        find(build, "simulate: build"),
        pickle.dumps((args, named)),
        processes,
        until_ns,
        check_ns,
    )
    files = captured(simulation.flat, capture, links)
    for numbers in files.values():
        request.captures |= {number: place for place, number in enumerate(numbers)}
    with tempfile.TemporaryDirectory(prefix="e1000emu-simulate-") as directory:
        if files:
            request.directory = directory
        if comm is not None:
            answer = Answer(run(comm, request, simulation, found))
        elif processes == 1:
            answer = alone(request, simulation, found)
        else:
            answer = supervised(request)
        if answer.failed is not None:
            error = SimulationError(answer.failed.text)
            if answer.failed.traceback:
                error.add_note(answer.failed.traceback)
            raise error
        if comm is None or comm.rank == 0:
            spools = [spool_path(directory, rank) for rank in range(processes)]
            for path, numbers in files.items():
                merge(path, [simulation.flat.links[number] for number in numbers], spools)
    return Outcome(found, tuple(answer.done))


def captured(
    flat: Flat, capture: Path | Mapping[int, Path] | None, links: Iterable[int] | None
) -> dict[Path, list[int]]:
    """Return the numbers of the links in each file, in order.  Raises: ArgumentError."""
    if capture is None:
        return {}
    if not isinstance(capture, Mapping):
        numbers = range(len(flat.links)) if links is None else links
        capture = dict.fromkeys(numbers, capture)
    files: dict[Path, list[int]] = {}
    most = len(flat.links) - 1
    for link, path in capture.items():
        number = whole_number("simulate", "links", link, 0, most)
        files.setdefault(path, []).append(number)
    return {path: sorted(numbers) for path, numbers in files.items()}


def alone(request: Request, simulation: Simulation, found: Partition) -> Answer:
    """Run it in this process."""
    made = attempt(request, simulation, found, 0, NoTransport(), lambda due_ns: None)
    return Answer(failed=made) if isinstance(made, Failed) else Answer([made])


def supervised(request: Request) -> Answer:
    """Run it in processes of a supervisor, which ends with all of them when this process ends."""
    with start("e1000emu.parallel.supervisor") as supervisor:
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        try:
            send(supervisor.stdin, request)
            answer: Answer = receive(supervisor.stdout, Answer)
        except (EOFError, BrokenPipeError):
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()
            code = supervisor.wait()
            why = signal_name(-code) if code < 0 else f"exit status {code}"
            answer = Answer(failed=Failed(f"simulate: the processes' supervisor ended by {why}"))
        finally:
            with contextlib.suppress(BrokenPipeError):
                supervisor.stdin.close()  # it kills what runs, and ends
    return answer
