"""`e1000emu up`: a host of ours on a real network until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import click

from e1000emu.cli.addressing import DEVICE, addresses_of
from e1000emu.cli.common import (
    Station,
    StationOptions,
    emit_event,
    fast_loop,
    report_options,
    station_options,
)
from e1000emu.cli.live import Row, live_counters
from e1000emu.cli.params import Duration
from e1000emu.cli.servespec import SERVICES, Service
from e1000emu.cli.services import listen, serve
from e1000emu.cli.signals import end_cleanly_before_serving, handle_signals
from e1000emu.errors import E1000Error


def report(station: Station, services: list[Service], seconds: float) -> dict[str, Any]:
    """Return the counters that are shown live and at the end."""
    from stack.core.dev import dev_get_stats

    stats = dev_get_stats(station.host.dev(DEVICE))
    for service in services:
        service.count()
    return {
        "seconds": seconds,
        "rx_packets": stats.rx_packets,
        "rx_bytes": stats.rx_bytes,
        "tx_packets": stats.tx_packets,
        "tx_bytes": stats.tx_bytes,
        "rx_dropped": stats.rx_dropped,
        "retransmitted": station.host.mib.tcp.RetransSegs,
        "services": {
            f"{s.name}:{s.port}": {
                "connections": s.connections,
                "active": s.active,
                "bytes_in": s.bytes_in,
                "bytes_out": s.bytes_out,
            }
            for s in services
        },
    }


def live_rows(station: Station, services: list[Service]) -> list[Row]:
    """Return what is shown while it runs."""
    now = report(station, services, 0.0)
    rows: list[Row] = [
        (
            DEVICE,
            {
                "packets in/s": now["rx_packets"],
                "bytes in/s": now["rx_bytes"],
                "packets out/s": now["tx_packets"],
                "bytes out/s": now["tx_bytes"],
            },
        )
    ]
    for name, counters in now["services"].items():
        shown = {
            "bytes in/s": counters["bytes_in"],
            "bytes out/s": counters["bytes_out"],
            "open": counters["active"],
            "in all": counters["connections"],
        }
        rows.append((name, shown))
    return rows


class Failure:
    """Ends the run if a link fails (for example, the capture's disk is full)."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.error: E1000Error | None = None

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep an E1000Error and stop; report anything else as asyncio does."""
        error = context.get("exception")
        if isinstance(error, E1000Error):
            self.error = self.error or error
            self.stop.set()
        else:
            loop.default_exception_handler(context)

    def check(self) -> None:
        """Raise the stored error."""
        if self.error is not None:
            raise self.error


def ready_event(station: Station, services: list[Service], spec: str) -> dict[str, Any]:
    """Return the first line of --json: the host answers and its services listen."""
    addrs = addresses_of(station.host)
    return {
        "event": "ready",
        "pid": os.getpid(),
        "link": spec,
        "addr": addrs[0] if addrs else None,
        "addrs": addrs,
        "mac": station.host.dev(DEVICE).dev_addr.hex(":"),
        "services": [{"name": s.name, "port": s.port} for s in services],
    }


def summary(counters: dict[str, Any]) -> str:
    """Return the counters that matter most, for people."""
    return (
        f"{counters['seconds']:.1f} s: received {counters['rx_packets']} packets, "
        f"{counters['rx_bytes']} bytes; "
        f"sent {counters['tx_packets']} packets, {counters['tx_bytes']} bytes"
    )


async def _run(
    station: Station,
    services: list[Service],
    failure: Failure,
    ready: Callable[[], None],
    show: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Serve until told to end; return the counters.  Raises: E1000Error."""
    loop = asyncio.get_running_loop()
    started = time.monotonic()

    def counters() -> dict[str, Any]:
        return report(station, services, time.monotonic() - started)

    for service in services:
        listen(station.host, service)
    # First, because a signal would end the process as soon as others know of it.
    handle_signals(loop, failure.stop.set, {signal.SIGUSR1: lambda: show(counters())})
    tasks = [asyncio.create_task(serve(station.host, service)) for service in services]
    waiter = asyncio.create_task(failure.stop.wait())
    try:
        ready()
        with live_counters(lambda: live_rows(station, services)):
            done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiter:
                task.result()  # raises a service's error
        failure.check()
        return counters()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@click.command()
@station_options
@click.option(
    "--serve",
    "services",
    type=SERVICES,
    help="Services to run: echo:7,http:80[:DIR],discard:9,chargen:19,iperf3[:5201],"
    "dhcp:FIRST-LAST[:LEASE].",
)
@click.option(
    "--busy-poll",
    "busy_poll_ns",
    type=Duration(0, 10**9),
    default="100us",
    help="While packets follow each other this closely, look for the next one instead of sleeping.",
)
@report_options
def command(
    at: StationOptions, services: list[Service] | None, busy_poll_ns: int, as_json: bool
) -> None:
    """Put a host of this stack on a real network until SIGINT, SIGTERM or SIGHUP.

    It answers ARP and ping, and serves what --serve names. On a terminal its counters stay in view.
    With --json standard output has one object a line: first "event": "ready" as soon as the
    services listen, last "event": "end" with the counters. SIGUSR1 shows the counters so far, with
    --json as "event": "counters".
    """
    from e1000emu.clock import AsyncioClock

    end_cleanly_before_serving()
    wanted = services or []

    def ready() -> None:
        if as_json:
            emit_event(ready_event(station, wanted, at.link))
            return
        names = ", ".join(f"{s.name}:{s.port}" for s in wanted) or "nothing"
        shown = " ".join(addresses_of(station.host))
        click.echo(f"{DEVICE} {shown} on {at.link}, serving {names}; SIGINT or SIGTERM ends it")

    def show(counters: dict[str, Any]) -> None:
        if as_json:
            emit_event({"event": "counters"} | counters)
        else:
            click.echo(summary(counters))

    # The driver's probe sleeps, so the host comes up before the loop runs and goes down after it.
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        failure = Failure()
        runner.get_loop().set_exception_handler(failure.handle)
        clock = AsyncioClock(runner.get_loop(), busy_poll_ns=busy_poll_ns)
        with contextlib.closing(at.start(clock)) as station:
            result = runner.run(_run(station, wanted, failure, ready, show))
    if as_json:
        emit_event({"event": "end"} | result)
    else:
        click.echo(summary(result))
