"""`e1000emu up`: a host of ours on a real network until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import (
    Station,
    addr_option,
    capture_option,
    emit_json,
    gw_option,
    impair_option,
    json_option,
    link_option,
    make_station,
)
from e1000emu.cli.services import Service, parse_serve, serve
from e1000emu.errors import E1000Error

__all__ = ["command"]


def report(station: Station, services: list[Service], seconds: float) -> dict[str, Any]:
    """Return the counters that are shown live and at the end."""
    from stack.core.dev import dev_get_stats

    stats = dev_get_stats(station.host.dev("eth0"))
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


async def _counters(station: Station, services: list[Service], started: float) -> None:
    """Keep one line of counters on the terminal."""
    last = report(station, services, 0.0)
    while True:
        await asyncio.sleep(1.0)
        now = report(station, services, time.monotonic() - started)
        span = max(now["seconds"] - last["seconds"], 1e-9)
        active = sum(s.active for s in services)
        line = (
            f"{now['seconds']:7.0f} s  "
            f"rx {(now['rx_packets'] - last['rx_packets']) / span:8.0f} p/s "
            f"{(now['rx_bytes'] - last['rx_bytes']) * 8 / span / 1e6:8.1f} Mbit/s  "
            f"tx {(now['tx_packets'] - last['tx_packets']) / span:8.0f} p/s "
            f"{(now['tx_bytes'] - last['tx_bytes']) * 8 / span / 1e6:8.1f} Mbit/s  "
            f"{active} connections"
        )
        click.echo(f"\r{line}", nl=False, err=True)
        last = now


class Failure:
    """Ends the run when a link cannot go on (the disk of the capture is full, say)."""

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
        """Raise what was kept."""
        if self.error is not None:
            raise self.error


async def _run(
    station: Station,
    services: list[Service],
    failure: Failure,
    title: str,
    as_json: bool,
) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, failure.stop.set)
    started = time.monotonic()
    tasks: list[asyncio.Task[None]] = []
    try:
        tasks += [asyncio.create_task(serve(station.host, service)) for service in services]
        waiter = asyncio.create_task(failure.stop.wait())
        if not as_json:
            names = ", ".join(f"{s.name}:{s.port}" for s in services) or "nothing"
            click.echo(f"{title}, serving {names}; SIGINT or SIGTERM ends it")
            sys.stdout.flush()
            if sys.stderr.isatty():
                tasks.append(asyncio.create_task(_counters(station, services, started)))
        done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiter:
                task.result()  # a service that could not listen says so
        failure.check()
        return report(station, services, time.monotonic() - started)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@click.command()
@link_option
@addr_option
@gw_option
@click.option(
    "--serve",
    "serve_text",
    default=None,
    metavar="NAME:PORT,…",
    help="echo:7,http:80[:DIR],discard:9,chargen:19",
)
@capture_option
@impair_option
@json_option
def command(
    link_spec: str,
    addr: ipaddress.IPv4Interface,
    gw: ipaddress.IPv4Address | None,
    serve_text: str | None,
    capture: Path | None,
    impair: str | None,
    as_json: bool,
) -> None:
    """Put a host of this stack on a real network: answers ARP and ping, serves what --serve
    names."""
    from e1000emu import AsyncioClock

    services = parse_serve(serve_text) if serve_text else []
    # The driver's probe sleeps, so the host comes up before the loop runs and goes down after it.
    with asyncio.Runner() as runner:
        failure = Failure()
        runner.get_loop().set_exception_handler(failure.handle)
        clock = AsyncioClock(runner.get_loop())
        station = make_station(clock, link_spec, addr, gw, capture=capture, impair=impair)
        try:
            title = f"eth0 {addr} on {link_spec}"
            result = runner.run(_run(station, services, failure, title, as_json))
        finally:
            station.close()
    if as_json:
        emit_json(result)
    else:
        click.echo(
            f"{'':1}\n{result['seconds']:.1f} s: received {result['rx_packets']} packets, "
            f"{result['rx_bytes']} bytes; "
            f"sent {result['tx_packets']} packets, {result['tx_bytes']} bytes"
        )
