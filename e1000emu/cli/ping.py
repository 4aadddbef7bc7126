"""`e1000emu ping`: ICMP echo through our own stack and NIC, in the format of iputils' ping.

It prints what iputils prints, line by line, so that programs can parse either. Its exit
status and options are iputils' too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import click

from e1000emu.cli.addressing import DEVICE, addresses_of
from e1000emu.cli.common import (
    Station,
    StationOptions,
    describe,
    emit_json,
    report_options,
    station_options,
)
from e1000emu.cli.errors import ArgumentError, CommandError, explain_os_error
from e1000emu.cli.params import HOST, Duration, Size
from e1000emu.cli.pinger import MAX_PAYLOAD_BYTES, Pinger, PingError, Reply, source_address
from e1000emu.errors import E1000Error
from stack.socket import AF_INET, AF_INET6, SOCK_RAW, getaddrinfo

FLOOD_NS = 10_000_000
"""With `-i 0` the next request is sent after an answer, or after this time."""
LINGER_RTTS = 2
NO_REPLY, FAILED = 1, 2
"""Exit statuses, iputils'."""


def show_time(rtt_ns: int) -> str:
    """Return a round trip in ms with four digits or so, as ping shows it."""
    us = rtt_ns // 1000
    if us >= 100_000 - 50:
        return f"{(us + 500) // 1000}"
    if us >= 10_000 - 5:
        return f"{(us + 50) // 1000}.{(us + 50) % 1000 // 100}"
    if us >= 1000:
        return f"{(us + 5) // 1000}.{(us + 5) % 1000 // 10:02}"
    return f"{us // 1000}.{us % 1000:03}"


@dataclass
class Run:
    """One run of ping: when to send, what to print, when to end."""

    pinger: Pinger
    count: int | None
    interval_ns: int
    timeout_ns: int
    deadline_ns: int | None
    quiet: bool
    stamps: bool
    errors_aside: bool
    interrupted: bool = False
    status_wanted: bool = False

    def __post_init__(self) -> None:
        self.clock = self.pinger.host.clock
        self.started_ns = self.last_ns = self.clock.now_ns()

    def _line(self, text: str, err: bool = False) -> None:
        now = time.time_ns() // 1000
        stamp = f"[{now // 1_000_000}.{now % 1_000_000:06}] " if self.stamps else ""
        click.echo(stamp + text, err=err)

    def _show(self, came: Reply | PingError) -> None:
        if isinstance(came, PingError):
            if not self.quiet or self.errors_aside:
                text = f"From {came.source} icmp_seq={came.sequence} {came.text}"
                self._line(text, err=self.errors_aside)
            return
        if self.quiet:
            return
        line = (
            f"{came.size_bytes} bytes from {came.source}: icmp_seq={came.sequence} "
            f"ttl={came.ttl} time={show_time(came.rtt_ns)} ms"
        )
        if came.duplicate:
            line += " (DUP!)"
        if came.wrong_byte is not None:
            line += f"\nwrong data byte #{came.wrong_byte}"
        self._line(line)

    def _receive(self) -> bool:
        came = self.pinger.receive()
        if came is not None:
            self.last_ns = self.clock.now_ns()
            self._show(came)
        return came is not None

    def _send(self) -> None:
        self.last_ns = self.clock.now_ns()
        try:
            self.pinger.send()
        except OSError as error:
            if not self._receive():
                text = os.strerror(error.errno) if error.errno else str(error)
                click.echo(f"e1000emu: sendmsg: {text}", err=True)

    def _done(self) -> bool:
        counts = self.pinger.counts
        answered = counts.received + counts.errors
        return self.interrupted or (self.count is not None and answered >= self.count)

    def _may_send(self) -> bool:
        # with a deadline, requests are sent until enough answers have arrived
        return (
            self.count is None
            or self.pinger.counts.transmitted < self.count
            or self.deadline_ns is not None
        )

    def _linger_ns(self) -> int:
        """How long to wait for the last answers: two round trips, where there were any, and at
        least as long as from one request to the next (iputils' `__schedule_exit`)."""
        counts = self.pinger.counts
        if not counts.rtts:
            return self.timeout_ns
        return max(LINGER_RTTS * counts.max_ns, self.interval_ns or FLOOD_NS)

    def _awake(self) -> bool:
        return self.interrupted or self.status_wanted or self.pinger.waiting()

    def run(self) -> None:
        """Send and receive until done, interrupted or out of time."""
        send_ns = self.clock.now_ns()
        while not self._done():
            now = self.clock.now_ns()
            if self._may_send() and now >= send_ns:
                self._send()
                send_ns = now + (self.interval_ns or FLOOD_NS)
            until = send_ns
            if not self._may_send():  # the last was sent one interval before the next would be
                until += self._linger_ns() - (self.interval_ns or FLOOD_NS)
            if self.deadline_ns is not None:
                end = self.started_ns + self.deadline_ns
                if now >= end:
                    return
                until = min(until, end)
            elif not self._may_send() and now >= until:
                return
            self.clock.wait(self._awake, max(0, until - self.clock.now_ns()))
            if self.status_wanted:
                self.status_wanted = False
                self._status()
            while self._receive():
                if not self.interval_ns:
                    send_ns = 0

    def _status(self) -> None:
        counts = self.pinger.counts
        line = (
            f"{counts.received}/{counts.transmitted} packets, {int(self.pinger.loss() * 100)}% loss"
        )
        if counts.rtts:
            times = (counts.min_ns, counts.mean_ns(), counts.ewma_ns, counts.max_ns)
            line += ", min/avg/ewma/max = " + "/".join(f"{ns / 1e6:.3f}" for ns in times) + " ms"
        click.echo(f"\r{line}", err=True)

    def finish(self) -> None:
        """Print the statistics."""
        counts = self.pinger.counts
        parts = [f"{counts.transmitted} packets transmitted, {counts.received} received"]
        if counts.duplicates:
            parts.append(f"+{counts.duplicates} duplicates")
        if counts.errors:
            parts.append(f"+{counts.errors} errors")
        if counts.transmitted:
            parts.append(f"{self.pinger.loss() * 100:g}% packet loss")
            parts.append(f"time {(self.last_ns - self.started_ns + 500_000) // 1_000_000}ms")
        click.echo(f"\n--- {self.pinger.name} ping statistics ---\n{', '.join(parts)}")
        parts = []
        if counts.rtts:
            times = (counts.min_ns, counts.mean_ns(), counts.max_ns, counts.mdev_ns())
            shown = "/".join(f"{math.floor(ns / 1000) / 1000:.3f}" for ns in times)
            parts.append(f"rtt min/avg/max/mdev = {shown} ms")
        if counts.pipe > 1:
            parts.append(f"pipe {counts.pipe}")
        click.echo(", ".join(parts))

    def status(self) -> int:
        """Return the exit status: 0 when answers came, with a deadline and a count all of them."""
        received = self.pinger.counts.received
        short = self.deadline_ns is not None and self.count is not None and received < self.count
        return NO_REPLY if not received or short else 0


@contextlib.contextmanager
def signals(run: Run) -> Iterator[None]:
    """SIGINT ends `run` with its statistics, SIGQUIT shows them so far."""
    wake = getattr(run.clock, "request_stop", lambda: None)  # ends a RealClock's sleep

    def interrupt(number: int, frame: object) -> None:
        run.interrupted = True
        wake()

    def status(number: int, frame: object) -> None:
        run.status_wanted = True
        wake()

    before = {
        number: signal.signal(number, handler)
        for number, handler in ((signal.SIGINT, interrupt), (signal.SIGQUIT, status))
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def bind_to(text: str | None, addrs: list[str]) -> tuple[str | None, str | None]:
    """Return (device, source address) of `-I`.  Raises: ArgumentError for what is not ours."""
    if text is None:
        return None, None
    if text == DEVICE:
        return DEVICE, None
    own = [addr.partition("/")[0] for addr in addrs]
    if text in own:
        return None, text
    raise ArgumentError(
        f"-I {text}: this host has {DEVICE} with {', '.join(own)} only; name one of them"
    )


@dataclass(frozen=True, slots=True)
class Target:
    """The target of ping: the address, and its printed form."""

    text: str
    version: int


def find(station: Station, dest: str, version: int) -> Target:
    """The first address of `dest`, of IP version 4 or 6 if requested.

    Raises: CommandError.
    """
    family = {0: 0, 4: AF_INET, 6: AF_INET6}[version]
    if "%" not in dest and ":" in dest and ipaddress.IPv6Address(dest).is_link_local:
        dest += f"%{DEVICE}"  # there is only one interface
    try:
        rows = getaddrinfo(station.host, dest, None, family, SOCK_RAW)
    except OSError as error:
        raise CommandError(f"{dest}: {describe(error, station.host)}", FAILED) from None
    found, _, _, _, address = rows[0]
    text = str(address[0])
    if found == AF_INET6 and address[3]:
        text += f"%{DEVICE}"
    return Target(text, 4 if found == AF_INET else 6)


@click.command()
@click.argument("dest", type=HOST)
@click.option("-4", "only4", is_flag=True, help="IPv4 only.")
@click.option("-6", "only6", is_flag=True, help="IPv6 only.")
@station_options
@click.option(
    "-c",
    "--count",
    type=click.IntRange(1),
    help="Stop after this number of replies. [default: never]",
)
@click.option(
    "-i",
    "--interval",
    "interval_ns",
    type=Duration(),
    default="1s",
    help="Time between requests; 0: the next one follows each answer.",
)
@click.option(
    "-I",
    "--interface",
    metavar="NAME|ADDR",
    help=f"Interface ({DEVICE}) or own address to send from.",
)
@click.option("-s", "--size", type=Size(0, MAX_PAYLOAD_BYTES), default=56, help="Bytes of payload.")
@click.option("-t", "--ttl", type=click.IntRange(1, 255), help="Time to live. [default: 64]")
@click.option(
    "-W",
    "--timeout",
    "timeout_ns",
    type=Duration(above=True),
    default="10s",
    help="How long to wait at the end for a first reply; after an earlier one, two round trips "
    "or --interval, the longer.",
)
@click.option(
    "-w", "--deadline", "deadline_ns", type=Duration(above=True), help="End after this time."
)
@click.option("-q", "--quiet", is_flag=True, help="Only the first lines and the statistics.")
@click.option("-D", "--timestamps", is_flag=True, help="Begin each line with the time.")
@report_options
def command(
    dest: str,
    only4: bool,
    only6: bool,
    at: StationOptions,
    count: int | None,
    interval_ns: int,
    interface: str | None,
    size: int,
    ttl: int | None,
    timeout_ns: int,
    deadline_ns: int | None,
    quiet: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Ping DEST through our own stack until interrupted, or -c replies were received.

    Options, lines and exit status are iputils'. SIGQUIT (Ctrl-\\) shows the statistics so far. DEST
    is an address or a name, which is resolved by the servers of --dns or --dhcp.
    """
    if only4 and only6:
        raise ArgumentError("-4 -6: only one family can be the only one; give one of them")
    check_dest(dest, 4 if only4 else 6 if only6 else 0)
    with contextlib.ExitStack() as stack:
        try:
            station = stack.enter_context(at.blocking())
            device, source = bind_to(interface, addresses_of(station.host))
            target = find(station, dest, 4 if only4 else 6 if only6 else 0)
            ours = route(station, target, device)
            pinger = Pinger(
                station.host,
                target.text,
                name=dest,
                size_bytes=size,
                ttl=ttl,
                source=source,
                device=device,
            )
            stack.callback(pinger.close)
        except CommandError:
            raise
        except E1000Error as error:
            raise CommandError(str(error), FAILED) from None
        except OSError as error:
            raise CommandError(explain_os_error(error), FAILED) from None
        if not as_json:
            bound = f"from {source or ours} {device or ''}: " if interface is not None else ""
            if target.version == 4:
                click.echo(f"PING {dest} ({target.text}) {bound}{size}({size + 28}) bytes of data.")
            else:
                click.echo(f"PING {dest}({target.text}) {bound}{size} data bytes")
        run = Run(
            pinger,
            count=count,
            interval_ns=interval_ns,
            timeout_ns=timeout_ns,
            deadline_ns=deadline_ns,
            quiet=quiet or as_json,
            stamps=timestamps,
            errors_aside=as_json,
        )
        with signals(run):
            run.run()
        if as_json:
            emit_json(pinger.summary())
        else:
            run.finish()
        exit_status = run.status()
    sys.exit(exit_status)


def check_dest(dest: str, version: int) -> None:
    """Refuse an address that -4 or -6 excludes.  Raises: ArgumentError."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(dest)
        if version not in (0, address.version):
            raise ArgumentError(f"-{version}: {dest} is IPv{address.version}; leave -{version} out")


def route(station: Station, target: Target, device: str | None) -> str:
    """Return the address that requests to `target` are sent from.  Raises: CommandError."""
    try:
        return source_address(station.host, target.text, device)
    except OSError as error:
        raise CommandError(f"{target.text}: {describe(error, station.host)}", FAILED) from None
