"""`--virtual`: a clock of virtual time for the links that can be simulated."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import AbstractEventLoop
from collections.abc import Iterator

from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.linkspec import LINKS
from e1000emu.clock import VirtualClock
from stack.aio import VirtualTimeLoop

BEGIN_S = 0.001


class SimulatedClock(VirtualClock):
    """A VirtualClock with a loop for the coroutines at the far end of a link."""

    __slots__ = ("loop",)

    loop: AbstractEventLoop

    def begin(self) -> None:
        """Start the far end of the link: servers listen then."""
        self.loop.run_until_complete(asyncio.sleep(BEGIN_S))


@contextlib.contextmanager
def simulated_clock(link_spec: str) -> Iterator[SimulatedClock]:
    """Return a clock whose loop runs everything on the link.

    Raises: ArgumentError: the link's far end has real time.
    """
    if not LINKS[link_spec.partition(":")[0]].simulated:
        known = ", ".join(kind.form for kind in LINKS.values() if kind.simulated)
        raise ArgumentError(
            f"--virtual: what --link {link_spec!r} leads to has real time; use {known}"
        )
    clock = SimulatedClock()
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(clock)) as runner:
        clock.loop = runner.get_loop()
        yield clock
