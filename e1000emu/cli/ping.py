"""`e1000emu ping`: ICMP echo through our own stack and NIC."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import struct
import sys
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import (
    IP,
    addr_option,
    capture_option,
    describe,
    emit_json,
    gw_option,
    impair_option,
    json_option,
    link_option,
    make_station,
)

__all__ = ["Pinger", "command"]

ICMP_ECHO, ICMP_ECHOREPLY = 8, 0


class Pinger:
    """Send echo requests from a ping socket (SOCK_DGRAM/IPPROTO_ICMP) and match the answers.

    Works under any clock; times are the host's clock in ns.
    """

    def __init__(self, host: Any, dest: str, *, size_bytes: int = 56) -> None:
        from stack.socket import AF_INET, IPPROTO_ICMP, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET, Socket

        self.host = host
        self.dest = dest
        self.sequence = 0
        self.payload = bytes(i & 0xFF for i in range(size_bytes))
        self.rtts_ns: list[int] = []
        self.sock = Socket(host, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
        self.sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)

    def ping(self, timeout_s: float) -> int | None:
        """Send one request and wait for its own reply; return the round trip in ns, or None when
        none came."""
        clock = self.host.clock
        self.sequence = (self.sequence + 1) & 0xFFFF
        header = struct.pack("!BBHHH", ICMP_ECHO, 0, 0, 0, self.sequence)
        start = clock.now_ns()
        deadline = start + int(timeout_s * 1e9)
        self.sock.sendto(header + self.payload, (self.dest, 0))
        while True:
            left = deadline - clock.now_ns()
            if left <= 0:
                return None
            self.sock.settimeout(left / 1e9)
            try:
                data, _ = self.sock.recvfrom(65536)
            except TimeoutError:
                return None
            kind, _, _, _, sequence = struct.unpack_from("!BBHHH", data)
            if kind == ICMP_ECHOREPLY and sequence == self.sequence and data[8:] == self.payload:
                rtt = int(clock.now_ns() - start)
                self.rtts_ns.append(rtt)
                return rtt

    def summary(self) -> dict[str, Any]:
        """Return what `ping` prints at the end; times in ms."""
        rtts = [ns / 1e6 for ns in self.rtts_ns]
        mean = sum(rtts) / len(rtts) if rtts else 0.0
        return {
            "transmitted": self.sequence,
            "received": len(rtts),
            "loss": 1 - len(rtts) / self.sequence if self.sequence else 0.0,
            "min_ms": min(rtts, default=None),
            "avg_ms": mean if rtts else None,
            "max_ms": max(rtts, default=None),
            "mdev_ms": math.sqrt(sum((r - mean) ** 2 for r in rtts) / len(rtts)) if rtts else None,
        }

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def _one(pinger: Pinger, timeout_s: float, as_json: bool) -> None:
    """Send one request and say what came of it."""
    outcome = "no answer"
    try:
        rtt = pinger.ping(timeout_s)
        if rtt is not None:
            if not as_json:
                click.echo(
                    f"{len(pinger.payload) + 8} bytes from {pinger.dest}: "
                    f"icmp_seq={pinger.sequence} time={rtt / 1e6:.3f} ms"
                )
            return
    except OSError as error:
        outcome = describe(error)
    click.echo(f"icmp_seq={pinger.sequence}: {outcome}", err=as_json)


@click.command()
@click.argument("dest", type=IP)
@link_option
@addr_option
@gw_option
@click.option("-c", "--count", type=click.IntRange(1), default=4, show_default=True)
@click.option(
    "-s",
    "--size",
    type=click.IntRange(0, 65507),
    default=56,
    show_default=True,
    help="Payload bytes.",
)
@click.option(
    "-i", "--interval", type=click.FloatRange(0), default=1.0, show_default=True, help="Seconds."
)
@click.option(
    "-W", "--timeout", type=click.FloatRange(0.001), default=2.0, show_default=True, help="Seconds."
)
@capture_option
@impair_option
@json_option
def command(
    dest: ipaddress.IPv4Address,
    link_spec: str,
    addr: ipaddress.IPv4Interface,
    gw: ipaddress.IPv4Address | None,
    count: int,
    size: int,
    interval: float,
    timeout: float,
    capture: Path | None,
    impair: str | None,
    as_json: bool,
) -> None:
    """Ping DEST through our own stack; the exit status is 0 when an answer came."""
    from e1000emu import RealClock

    clock = RealClock()
    with clock.lock:
        station = make_station(clock, link_spec, addr, gw, capture=capture, impair=impair)
        try:
            pinger = Pinger(station.host, str(dest), size_bytes=size)
            if not as_json:
                click.echo(f"PING {dest} from {addr.ip}: {size} data bytes")
            with contextlib.suppress(KeyboardInterrupt):  # which ends it early, with the summary
                for number in range(count):
                    _one(pinger, timeout, as_json)
                    if number + 1 < count and interval:
                        clock.wait(lambda: False, int(interval * 1e9))
            summary = pinger.summary()
            pinger.close()
        finally:
            station.close()
    if as_json:
        emit_json(summary)
    else:
        click.echo(
            f"{summary['transmitted']} transmitted, {summary['received']} received, "
            f"{summary['loss']:.0%} loss"
        )
        if summary["received"]:
            click.echo(
                "rtt min/avg/max/mdev = "
                "{min_ms:.3f}/{avg_ms:.3f}/{max_ms:.3f}/{mdev_ms:.3f} ms".format(**summary)
            )
    sys.exit(0 if summary["received"] else 1)
