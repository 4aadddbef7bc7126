"""`e1000emu exec`: an unmodified program whose network is a host of ours."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.addressing import Addressing, address_options
from e1000emu.cli.common import (
    autoneg_option,
    blocking_clock,
    capture_option,
    impair_option,
    link_option,
    make_station,
)

__all__ = ["command"]


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("argv", metavar="PROGRAM [ARGS]...", nargs=-1, required=True)
@link_option()
@address_options
@click.option("--trace", is_flag=True, help="Print each call that the host answers.")
@autoneg_option(0)
@capture_option
@impair_option
def command(
    argv: tuple[str, ...],
    link_spec: str,
    own: Addressing,
    trace: bool,
    autoneg_ns: int,
    capture: Path | None,
    impair: dict[str, Any] | None,
) -> None:
    """Run PROGRAM with the sockets of a host on a link: curl, ssh, iperf3 or a server.

    The program is not changed. Its calls about IPv4, IPv6 and packet sockets go to our own stack
    and NIC, those of its child processes too; files and AF_UNIX stay the kernel's. Without a
    network there is a server at the far end of --link stack:10.9.0.1/24,serve=http:80.
    """
    from stack.api.programs import start

    with contextlib.ExitStack() as stack:
        clock = stack.enter_context(blocking_clock(link_spec))
        station = make_station(
            clock, link_spec, own, capture=capture, impair=impair, autoneg_ns=autoneg_ns
        )
        stack.callback(station.close)
        program = stack.enter_context(start(station.host, argv, trace=trace or None))
        ended = os.pidfd_open(program.pid)
        stack.callback(os.close, ended)
        clock.add_reader(ended, lambda: clock.remove_reader(ended))
        # The terminal sends its own to the program, too; others end the program first.
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: program.send_signal(number))
        clock.wait(lambda: program.poll() is not None)
        status = program.returncode
    raise SystemExit(status if status >= 0 else 128 - status)
