"""The request to every process of a simulation, and its execution."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from e1000emu.campaign.forkserver import Target, load
from e1000emu.errors import ArgumentTypeError
from e1000emu.parallel.partition import Partition
from e1000emu.parallel.share import Done, Share, Simulation, Transport, drive
from e1000emu.parallel.window import Windows
from e1000emu.quantities import show_duration

MOST_NAMES = 5


class Request(msgspec.Struct):
    """The simulation to run."""

    target: Target
    arguments: bytes
    """Pickled: a tuple, and a dict of those with names."""
    processes: int
    until_ns: int
    check_ns: int | None = None
    captures: dict[int, int] = {}
    """Number of a link -> its place in its file."""
    directory: str = ""
    """Directory of the spools; empty: no captures."""


class Failed(msgspec.Struct, tag=True):
    """The error that ended a simulation early."""

    text: str
    traceback: str = ""


def prepare(request: Request) -> Simulation:
    """Call the function that defines the simulation."""
    args, named = pickle.loads(request.arguments)
    return checked(load(request.target)(*args, **named))


def checked(made: Any) -> Simulation:
    """Check the result of a build function.  Raises: ArgumentTypeError."""
    if not isinstance(made, Simulation):
        raise ArgumentTypeError(f"simulate: build returned {made!r}; return a Simulation")
    return made


def spool_path(directory: str, rank: int) -> Path:
    """Return the spool of a rank."""
    return Path(directory, f"spool-{rank}")


def names(nodes: list[str] | tuple[str, ...]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(nodes[:MOST_NAMES])
    more = len(nodes) - MOST_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown


def place(simulation: Simulation, found: Partition, rank: int) -> str:
    """Return the name of a rank for messages: its number, its nodes, the seed."""
    return (
        f"process {rank} of {found.ranks} ({names(found.nodes(rank))}; "
        f"seed {simulation.flat.seed!r})"
    )


def attempt(
    request: Request,
    simulation: Simulation,
    found: Partition,
    number: int,
    transport: Transport,
    on_window: Callable[[int], None],
) -> Done | Failed:
    """Run a rank of the request in this process; return its result or exception."""
    share: Share | None = None
    try:
        spool = spool_path(request.directory, number) if request.directory else None
        share = Share(simulation, found, number, captures=request.captures, spool=spool)
        distances = found.distances()
        windows = Windows(number, distances, until_ns=request.until_ns, check_ns=request.check_ns)
        done = drive(share, windows, transport, on_window)
        share.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        at = "while it builds its hosts"
        if share is not None:
            at = f"at {show_duration(share.rank.due_ns)}"
            if share.rank.running is not None:
                domain = share.rank.domains[share.rank.running]
                at = f"{names(domain.nodes)} at {show_duration(domain.clock.now_ns())}"
        text = "".join(traceback.format_exception_only(error)).rstrip()
        where = place(simulation, found, number)
        return Failed(f"{where}: {at}: {text}", "".join(traceback.format_exception(error)))
    return done
