"""`e1000emu exec`: an unmodified program whose network is a host of ours."""

from __future__ import annotations

import contextlib
import os
import signal
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.common import StationOptions, blocking_clock, station_options
from e1000emu.cli.errors import CommandError

if TYPE_CHECKING:
    from e1000emu.cli.simulated import SimulatedClock
    from stack.api.programs import Program


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("argv", metavar="PROGRAM [ARGS]...", nargs=-1, required=True)
@station_options
@click.option(
    "--virtual",
    is_flag=True,
    help="In virtual time: it moves when all threads wait, so `sleep 3600` ends at once.",
)
@click.option("--trace", is_flag=True, help="Print each call that the host answers.")
def command(argv: tuple[str, ...], at: StationOptions, virtual: bool, trace: bool) -> None:
    """Run PROGRAM with the sockets of a host on a link: curl, ssh, iperf3 or a server.

    The program is not changed. Its calls about IPv4, IPv6 and packet sockets go to our own stack
    and NIC, those of its child processes too; files and AF_UNIX stay the kernel's. Without a
    network there is a server at the far end of --link stack:10.9.0.1/24,serve=http:80.
    """
    from stack.api.programs import start

    with contextlib.ExitStack() as stack:
        clock = stack.enter_context(clock_of(at.link, virtual))
        station = stack.enter_context(contextlib.closing(at.start(clock)))
        if virtual:
            clock.begin()
        program = stack.enter_context(start(station.host, argv, trace=trace or None))
        # The terminal sends its own to the program, too; others end the program first.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: program.send_signal(number))
        wait = in_virtual_time if virtual else in_real_time
        wait(clock, program)
        status = program.returncode
    raise SystemExit(status if status >= 0 else 128 - status)


def clock_of(link_spec: str, virtual: bool) -> AbstractContextManager[Any]:
    """Return a clock for the link.  Raises: ArgumentError."""
    if not virtual:
        return blocking_clock(link_spec)
    from e1000emu.cli.simulated import simulated_clock

    return simulated_clock(link_spec)


def in_real_time(clock: Any, program: Program) -> None:
    """Run the clock until the program has ended."""
    ended = os.pidfd_open(program.pid)
    try:
        clock.add_reader(ended, lambda: clock.remove_reader(ended))
        clock.wait(lambda: program.poll() is not None)
    finally:
        os.close(ended)


def in_virtual_time(clock: SimulatedClock, program: Program) -> None:
    """The same where time is virtual.  Raises: CommandError."""
    from e1000emu.clock import SimulationDeadlock

    try:
        clock.loop.run_until_complete(program.ended())
    except SimulationDeadlock:
        program.close()
        raise CommandError(
            "the program waits for what cannot come: nothing is left that happens in virtual time; "
            "whoever writes or types from outside has none, so leave --virtual out for that",
            1,
        ) from None
