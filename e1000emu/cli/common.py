"""What several commands share: their common options, and one host on one link."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.addressing import Addressing, address_options, configure, no_router_advertisements
from e1000emu.cli.linkspec import LINKS, Link, needs_loop, open_link
from e1000emu.cli.params import FAULTS, IMPAIR, OUT_FILE, Duration
from e1000emu.errors import E1000Error
from e1000emu.quantities import show_duration

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from stack.host import Host

_json = click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
_output = click.option(
    "-o", "--output", type=OUT_FILE, help="Write the report to this file, not to standard output."
)


def report_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--json` (its argument `as_json`) and `-o FILE`, which takes what it prints.

    The file is opened before the command does anything: a path that cannot be written is known
    before a minute of work.
    """

    @functools.wraps(command)
    def run(*args: Any, output: Path | None, **options: Any) -> Any:
        if output is None:
            return command(*args, **options)
        with output.open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            return command(*args, **options)

    return _output(_json(run))


def emit_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    click.echo(json.dumps(value, indent=2))


def emit_event(value: dict[str, Any]) -> None:
    """Write one line of JSON to standard output and flush it, for commands that keep running."""
    click.echo(json.dumps(value))
    if sys.stdout is not None:
        sys.stdout.flush()


def only_once(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str:
    """Refuse an option that is given twice; click would silently take the last one."""
    if len(values) > 1:
        raise click.BadParameter(
            f"given {len(values)} times; a host here has one link", ctx=ctx, param=param
        )
    return values[0]


def link_option(*, switch: bool = False, default: str | None = None) -> Callable[..., Any]:
    """Return `--link`; `switch` can join the NICs of several sockets."""
    return click.option(
        "--link",
        "link_spec",
        type=Link(switch=switch),
        required=default is None,
        default=None if default is None else [default],
        show_default=default or False,
        multiple=True,
        callback=only_once,
        metavar="LINK",
        help="Link of the NIC: " + ", ".join(kind.form for kind in LINKS.values()) + ".",
    )


def autoneg_option(default_ns: int) -> Callable[..., Any]:
    """Return `--autoneg`; its default is 0 for our hosts, AUTONEG_NS for a guest's driver."""
    return click.option(
        "--autoneg",
        "autoneg_ns",
        type=Duration(),
        default=show_duration(default_ns),
        help="How long autonegotiation takes; on a real cable 1s to 3s.",
    )


capture_option = click.option(
    "--capture", type=OUT_FILE, help="Write every frame on the link to this pcapng file."
)
impair_option = click.option(
    "--impair",
    type=IMPAIR,
    help="Impair the link: loss=5%, reorder=2%, duplicate=1%, corrupt=0.1%, delay=5ms, "
    "jitter=1ms, rate=100Mbit, seed=7 and the other arguments of `Impair`, with commas between.",
)
faults_option = click.option(
    "--faults",
    type=FAULTS,
    help="Let the NIC's hardware fail, the same way for the same seed: flap=5s, down=200ms, "
    "phy_busy=10%, phy_busy_ns=1ms, eeprom_bits=1, abort=tx-data:3, irq_lost=1%, irq_late=10%, "
    "irq_late_ns=1ms, overrun=1%, writeback=1ms, reset=30s, remove=60s, seed=7: the arguments of "
    "`Faults`, with commas between.",
)


LAST_FRAMES_NS = 20_000_000
"""Time for the last packets (the release of a lease) to leave."""


@dataclass(slots=True)
class Station:
    """One host on one link, with everything that must be closed in the end."""

    clock: Any
    wrapped: list[Any]
    """The link, wrapped by impairment and capture."""
    host: Host = None  # type: ignore[assignment]  # while it is built
    clients: list[Any] = field(default_factory=list)

    def close(self) -> None:
        """Give a lease back, take the interface down and close the link; safe to call twice."""
        from e1000emu.links.caps import close_link

        if self.clients and not self.host.closed:
            for client in self.clients:
                client.stop()
            self.clock.wait(lambda: False, LAST_FRAMES_NS)
        if self.host is not None:
            self.host.close()
        for layer in self.wrapped:
            close_link(layer)


@dataclass(frozen=True, slots=True)
class StationOptions:
    """A command's options for its host: link, addresses, and impairment of the wire."""

    link: str
    own: Addressing
    autoneg_ns: int = 0
    capture: Path | None = None
    impair: dict[str, Any] | None = None

    def start(self, clock: Any) -> Station:
        """Build link, NIC, host and driver on `clock`, and bring `eth0` up with its addresses.

        Raises: E1000Error.
        """
        from e1000emu.lab import add_nic
        from e1000emu.links import Capture, Impair
        from stack.host import Host

        own, autoneg_ns = self.own, self.autoneg_ns
        mac = own.mac(self.link)
        link = open_link(
            self.link, clock, mac=mac, addr=own.first(4), gw=own.gateway(4), autoneg_ns=autoneg_ns
        )
        station = Station(clock, [link])
        try:
            if self.impair is not None:
                link = Impair(link, clock=clock, **self.impair)
                station.wrapped.insert(0, link)
            if self.capture is not None:
                link = Capture(link, self.capture, clock=clock)
                station.wrapped.insert(0, link)
            station.host = host = Host(name="e1000emu", clock=clock)
            if not own.slaac:
                no_router_advertisements(host)
            add_nic(host, link, mac=mac, autoneg_ns=autoneg_ns)
            station.clients = configure(host, own)
        except BaseException:
            station.close()
            raise
        return station

    @contextlib.contextmanager
    def blocking(self) -> Iterator[Station]:
        """Build the host on a `blocking_clock`, and close both in the end."""
        with blocking_clock(self.link) as clock, contextlib.closing(self.start(clock)) as station:
            yield station


def station_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of its host on a link, as its argument `at`."""

    @functools.wraps(command)
    def run(*args: Any, link_spec: str, **options: Any) -> Any:
        of_host = {name: options.pop(name) for name in ("own", "autoneg_ns", "capture", "impair")}
        return command(*args, at=StationOptions(link_spec, **of_host), **options)

    with_wire = autoneg_option(0)(capture_option(impair_option(run)))
    return link_option()(address_options(with_wire))


def fast_loop() -> Callable[[], AbstractEventLoop] | None:
    """Return uvloop's loop factory if it is installed, else None: asyncio's own.

    A single packet costs an iteration of the loop; uvloop's is compiled.
    """
    try:
        import uvloop
    except ImportError:
        return None
    make: Callable[[], AbstractEventLoop] = uvloop.new_event_loop
    return make


@contextlib.contextmanager
def blocking_clock(link_spec: str) -> Iterator[Any]:
    """Give a clock on which a command's blocking calls work, as `link_spec` requires.

    Services at the far end of a `stack:` link are coroutines: they run in an asyncio loop, which
    goes on while a call here waits. Other links need no loop, and start faster.
    """
    from e1000emu.clock import AsyncioClock, RealClock

    if not needs_loop(link_spec):
        clock = RealClock()
        with contextlib.closing(clock), clock.lock:
            yield clock
        return
    import asyncio

    with asyncio.Runner() as runner:
        yield AsyncioClock(runner.get_loop())


NET_REMEDIES = {
    errno.ECONNREFUSED: "nothing listens on that port",
    errno.ECONNRESET: "the server broke the connection",
    errno.EHOSTUNREACH: "no neighbour answers for it, or there is no route; --gw names a gateway",
    errno.ENETUNREACH: "it is not on our own network; --gw names a gateway",
    errno.EACCES: "a broadcast address; give one host's",
}


SOURCES = {"dhcp4": "DHCP", "dhcp6": "DHCPv6"}
"""Names of sources of name servers; other sources are shown as they are, as --dns."""


def describe(error: OSError, host: Host | None = None) -> str:
    """Return a socket error of our stack, with its meaning or the remedy.

    `host` is whose socket it is: for a failed look-up, the servers it asked.
    """
    number = error.errno or 0
    if isinstance(error, socket.gaierror):
        return f"{error.strerror}{_asked(host) if number == socket.EAI_AGAIN else ''}"
    text = os.strerror(number) if number else str(error)
    return f"{text}; {NET_REMEDIES[number]}" if number in NET_REMEDIES else text


def _asked(host: Host | None) -> str:
    """Say which name servers a host has, and from which source."""
    if host is None:
        return ""
    known = []
    for source, (servers, _) in host.names.learned.items():
        of = SOURCES.get(source.partition(" ")[0], source)
        for server in servers:
            kind = IPv4Address if server.family == socket.AF_INET else IPv6Address
            known.append(f"{kind(server.addr)} (from {of})")
    if not known:
        return "; --dns names one"
    return f"; no answer from {', '.join(known)}"


def open_output(path: Path | None) -> Any:
    """Return a binary file: `path`, or standard output."""
    if path is not None:
        return path.open("wb")
    if sys.stdout is None:
        raise E1000Error("standard output is closed; name a file with -o")
    out: Any = sys.stdout.buffer
    if isinstance(out, io.RawIOBase):
        # PYTHONUNBUFFERED: write() leaves the rest to its caller when a signal stops it half-way
        out = os.fdopen(out.fileno(), "wb", closefd=False)
    return out
