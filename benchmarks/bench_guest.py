"""A stock Linux on our NIC beside the same Linux on QEMU's own e1000: TCP, UDP, pktgen, ping.

Both guests stay up. Each round runs every measurement on one and then on the other, in alternating
order; the result is the median. A figure is taken at the receiver, never at the sender. Beside it
are shown the interrupts, frames and vfio-user messages per second, and the CPU time.

Run it with ``make bench-guest``, or ``sudo .venv/bin/python benchmarks/bench_guest.py --quick``.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click
from rich.console import Console
from rich.table import Table

from benchmarks.guest_rig import (
    GUEST,
    HOST,
    BenchError,
    Side,
    builtin_side,
    idle_cpu,
    our_side,
    prepared_image,
    sweep,
)
from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.output import console
from e1000emu.errors import E1000Error

__all__ = ["MEASUREMENTS", "Measurement", "Settings", "collect", "row"]

DATAGRAM_BYTES = 1400
SMALL_BYTES = 18
"""Bytes of UDP payload in a frame of 64 bytes, Ethernet's smallest."""
LEAST_PPS, MOST_PPS = 1_000, 85_000
"""Where the load without loss is looked for: a gigabit wire carries 85,266 such frames a second
(1400 bytes, 46 of headers and FCS, 20 of preamble and gap)."""
LOST_AT_MOST = 0.01
TRIALS = 6
STEPS_DOWN, STEP_DOWN = 4, 0.85
ATTEMPTS = 3
PKTGEN_BYTES = 60
"""64 on the wire: pktgen does not count the FCS."""
SETTLE_S = 0.3
FLOW_S = 20.0
GRACE_S = 60.0
IDLE_S = 2.0
IDLE_MOST = 0.1
"""A warning is printed when an idle guest or other programs use more of a processor."""
CLOCK_MOST = 0.01


@dataclass(frozen=True, slots=True)
class Settings:
    """The amount of work of each measurement."""

    seconds: int = 4
    """Of each transfer; iperf3 takes whole ones, and 0 as without end."""
    pings: int = 200
    adaptive_pings: int = 5000


@dataclass(slots=True)
class Run:
    """The result of one run: the figure, and the duration of its traffic.

    `counted` names the counter whose increase per second is the figure instead of `value`.
    """

    seconds: float
    value: float = 0.0
    counted: str = ""
    extra: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row."""

    name: str
    title: str
    unit: str
    run: Callable[[Side, Settings], Run]
    lower_is_better: bool = False
    search: Callable[[Side, Settings], Callable[[Side, Settings], Run]] | None = None
    """Finds the parameters of a run, if they depend on the side; its costs are not counted."""


# --- measurements --------------------------------------------------------------------------------


def _iperf(side: Side, seconds: int, *options: str) -> dict[str, Any]:
    """Run iperf3's client in the guest and return the end of its report.  Raises: BenchError."""
    words = ["iperf3", "-J", "-c", HOST, "-t", str(seconds), *options]
    made = side.guest.run(shlex.join(words), timeout_s=seconds + GRACE_S)
    try:
        report = json.loads(made.stdout)
    except ValueError:
        raise BenchError(f"{shlex.join(words)}: {made.stdout.strip()[:200]}") from None
    if "error" in report:
        raise BenchError(f"{shlex.join(words)}: {report['error']}")
    end: dict[str, Any] = report["end"]
    return end


def _tcp(*options: str) -> Callable[[Side, Settings], Run]:
    def run(side: Side, settings: Settings) -> Run:
        end = _iperf(side, settings.seconds, *options)
        got = end["sum_received"]
        extra = {"retransmits": float(end["sum_sent"].get("retransmits", 0))}
        return Run(got["seconds"], got["bits_per_second"] / 1e6, extra=extra)

    return run


def _udp(
    counted: str, *options: str, size: int = DATAGRAM_BYTES
) -> Callable[[Side, Settings], Run]:
    def run(side: Side, settings: Settings) -> Run:
        words = ["-u", "-l", str(size), *options]
        end = _iperf(side, settings.seconds, *words)
        sent, got = end["sum_sent"], end["sum_received"]
        extra = {
            # Two releases of iperf3 agree on bytes, not on what they call packets and lost.
            "offered_pps": sent["bytes"] / size / sent["seconds"],
            "lost": max(0.0, 1 - got["bytes"] / max(1, sent["bytes"])),
        }
        return Run(got["seconds"], counted=counted, extra=extra)

    return run


def _udp_at(pps: float) -> Callable[[Side, Settings], Run]:
    return _udp(INTO_GUEST, "-R", "-b", f"{pps * DATAGRAM_BYTES * 8:.0f}")


def _lossless(side: Side, settings: Settings) -> Callable[[Side, Settings], Run]:
    """Find by bisection the highest load with next to no loss (RFC 2544 26.1)."""
    # Datagrams before the first run of the guest's receiver are lost with any card: some 250
    # datagrams, more than a hundredth of a second's.
    short = replace(settings, seconds=3)
    low, high = float(LEAST_PPS), float(MOST_PPS)
    for _ in range(TRIALS):
        middle = math.sqrt(low * high)
        if _udp_at(middle)(side, short).extra["lost"] <= LOST_AT_MOST:
            low = middle
        else:
            high = middle
    for _ in range(STEPS_DOWN):  # a load without loss for a short time may lose frames later
        if _udp_at(low)(side, settings).extra["lost"] <= LOST_AT_MOST:
            break
        low *= STEP_DOWN
    return _udp_at(low)


def _pktgen(side: Side, settings: Settings) -> Run:
    """Let the guest's kernel send at full rate; count the packets at the TAP."""
    guest = side.guest
    guest.run(
        f"""
        set -e
        put() {{ echo "$2" >"/proc/net/pktgen/$1"; }}
        put kpktgend_0 rem_device_all
        put kpktgend_0 "add_device eth0"
        put eth0 "count 0"
        put eth0 "delay 0"
        put eth0 "clone_skb 1000"
        put eth0 "pkt_size {PKTGEN_BYTES}"
        put eth0 "dst {HOST}"
        put eth0 "dst_mac {side.far.mac()}"
        """
    ).check()
    idle = side.far.tap_packets()[0]
    job = guest.spawn("echo start >/proc/net/pktgen/pgctrl")
    try:
        deadline = time.monotonic() + FLOW_S
        while side.far.tap_packets()[0] < idle + 100:
            if time.monotonic() > deadline:
                raise BenchError(f"pktgen: nothing comes out of the TAP in {FLOW_S:g} s")
            time.sleep(0.01)
        time.sleep(SETTLE_S)
        before, start = side.far.tap_packets()[0], time.monotonic()
        time.sleep(settings.seconds)
        after, end = side.far.tap_packets()[0], time.monotonic()
    finally:
        guest.run("echo stop >/proc/net/pktgen/pgctrl", timeout_s=GRACE_S)
    job.wait(GRACE_S)
    said = guest.run("cat /proc/net/pktgen/eth0").check().stdout
    found = re.search(r"Result: OK: (\d+)\(", said)
    if found is None:
        raise BenchError(f"pktgen: {said.strip()[-200:]}")
    return Run(int(found[1]) / 1e6, (after - before) / (end - start))


ROUND_TRIP = re.compile(r"time=([\d.]+) ms")
RECEIVED = re.compile(r"(\d+) packets transmitted, (\d+) received.* time (\d+)ms", re.DOTALL)


def _ping_report(command: str, text: str) -> tuple[int, int, float]:
    """Return sent, received, and the seconds that it took.  Raises: BenchError."""
    found = RECEIVED.search(text)
    if found is None or not int(found[2]):
        raise BenchError(f"{command}: no answer: {text.strip()[-200:]}")
    return int(found[1]), int(found[2]), max(int(found[3]), 1) / 1e3


def _latency(command: str, text: str) -> Run:
    sent, received, seconds = _ping_report(command, text)
    times = [float(ms) * 1e3 for ms in ROUND_TRIP.findall(text)]
    return Run(seconds, statistics.median(times), extra={"lost": float(sent - received)})


def _ping_from_guest(side: Side, settings: Settings) -> Run:
    command = f"ping -n -c {settings.pings} -i 0.01 {HOST}"
    return _latency(command, side.guest.run(command).stdout)


def _ping_from_host(side: Side, settings: Settings) -> Run:
    words = ["ping", "-n", "-c", str(settings.pings), "-i", "0.01", GUEST]
    made = subprocess.run(
        side.far.command(*words), capture_output=True, text=True, timeout=GRACE_S, check=False
    )
    return _latency(shlex.join(words), made.stdout + made.stderr)


def _round_trips(side: Side, settings: Settings) -> Run:
    command = f"ping -n -q -A -c {settings.adaptive_pings} {HOST}"
    text = side.guest.run(command).stdout
    sent, received, seconds = _ping_report(command, text)
    return Run(seconds, received / seconds, extra={"lost": float(sent - received)})


FROM_GUEST, INTO_GUEST = "host_udp_received", "guest_udp_received"
FRAMES_INTO_GUEST = "guest_frames_received"
PPS = "packets/s"
MEASUREMENTS = (
    Measurement("tcp_guest_host", "TCP, guest to host", "Mbit/s", _tcp()),
    Measurement("tcp_host_guest", "TCP, host to guest", "Mbit/s", _tcp("-R")),
    Measurement("udp_guest_host", "UDP 1400 B, guest to host", PPS, _udp(FROM_GUEST, "-b", "0")),
    Measurement(
        "udp_host_guest", "UDP 1400 B, host to guest", PPS, _udp(INTO_GUEST, "-R", "-b", "0")
    ),
    Measurement(
        "udp_host_guest_lossless",
        "UDP 1400 B, to guest, no loss",
        PPS,
        _udp_at(LEAST_PPS),
        search=_lossless,
    ),
    Measurement(
        "udp_guest_host_64B",
        "UDP in 64 B, guest to host",
        PPS,
        _udp(FROM_GUEST, "-b", "0", size=SMALL_BYTES),
    ),
    Measurement(
        "udp_host_guest_64B",
        "UDP in 64 B, flood to guest",
        PPS,
        _udp(INTO_GUEST, "-R", "-b", "0", size=SMALL_BYTES),
    ),
    Measurement(
        "flood_frames_64B",
        "the same, frames in the guest",
        "frames/s",
        _udp(FRAMES_INTO_GUEST, "-R", "-b", "0", size=SMALL_BYTES),
    ),
    Measurement("pktgen_64B", "pktgen 64 B, guest to host", PPS, _pktgen),
    Measurement("ping_guest_host", "ping from guest, median", "us RTT", _ping_from_guest, True),
    Measurement("ping_host_guest", "ping from host, median", "us RTT", _ping_from_host, True),
    Measurement("ping_adaptive", "ping -A from guest", "round trips/s", _round_trips),
)


# --- rounds --------------------------------------------------------------------------------------

CPU = ("qemu_cpu_s", "server_cpu_s")
NOT_SHOWN = (*CPU, FROM_GUEST, INTO_GUEST, FRAMES_INTO_GUEST)


@dataclass(slots=True)
class Record:
    """The result of one run on one side, with its costs."""

    value: float
    per_second: dict[str, float]
    cpu_s: dict[str, float]
    seconds: float
    extra: dict[str, float]


def measure(measurement: Measurement, side: Side, settings: Settings) -> Record:
    """Run one measurement on one side.  Raises: BenchError, GuestError."""
    work = measurement.run if measurement.search is None else measurement.search(side, settings)
    before = side.snapshot()
    run = work(side, settings)
    gained = before.until(side.snapshot(after=True))
    if run.seconds <= 0:
        raise BenchError(f"{measurement.name} on {side.label}: it took no time")
    value = gained[run.counted] / run.seconds if run.counted else run.value
    if value <= 0:
        raise BenchError(f"{measurement.name} on {side.label}: nothing arrived")
    return Record(
        value,
        {name: n / run.seconds for name, n in gained.items() if name not in NOT_SHOWN},
        {name.removesuffix("_cpu_s"): gained[name] for name in CPU if name in gained},
        run.seconds,
        run.extra,
    )


def attempted(
    measurement: Measurement, side: Side, settings: Settings, say: Callable[[str], None]
) -> Record:
    """Run one measurement, again when it fails: a flood may also break iperf3's own connection."""
    for _ in range(ATTEMPTS - 1):
        try:
            return measure(measurement, side, settings)
        except BenchError as error:
            say(f"once more: {error}")
    return measure(measurement, side, settings)


def _medians(dicts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in dicts) for name in dicts[0]}


def row(
    measurement: Measurement, label: str, ours: Sequence[Record], peer: Sequence[Record]
) -> dict[str, Any]:
    """Return medians, ratio (above 1: ours is better) and costs as one object of --json."""

    def better(ours: float, peer: float) -> float:
        return peer / ours if measurement.lower_is_better else ours / peer

    value = statistics.median(record.value for record in ours)
    theirs = statistics.median(record.value for record in peer)
    return {
        "name": measurement.name,
        "title": measurement.title,
        "value": value,
        "unit": measurement.unit,
        "peer": label,
        "peer_value": theirs,
        "ratio": better(value, theirs),
        "ratio_rounds": [better(a.value, b.value) for a, b in zip(ours, peer, strict=True)],
        "lower_is_better": measurement.lower_is_better,
        "rounds": [record.value for record in ours],
        "peer_rounds": [record.value for record in peer],
        "per_second": _medians([record.per_second for record in ours]),
        "peer_per_second": _medians([record.per_second for record in peer]),
        "cpu_s": _medians([record.cpu_s for record in ours]),
        "peer_cpu_s": _medians([record.cpu_s for record in peer]),
        "seconds": statistics.median(record.seconds for record in ours),
        "peer_seconds": statistics.median(record.seconds for record in peer),
        "extra": _medians([record.extra for record in ours]),
        "peer_extra": _medians([record.extra for record in peer]),
    }


def collect(
    measurements: Sequence[Measurement] = MEASUREMENTS,
    *,
    rounds: int = 5,
    settings: Settings | None = None,
    default_buffers: bool = False,
    qemu: str | None = None,
    qemu_arguments: Sequence[str] = (),
    server_arguments: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any]]:
    """Boot both guests, measure in turns, end everything; return a row for each measurement.

    Raises: BenchError, GuestError, E1000Error.
    """
    settings = settings if settings is not None else Settings()
    image = prepared_image(qemu)
    sweep()
    with ExitStack() as stack:
        say(f"booting Linux {image.release} twice, in QEMU {image.qemu.version}")
        ours = our_side(image, stack, list(qemu_arguments), list(server_arguments))
        peer = builtin_side(image, stack, list(qemu_arguments))
        sides = (peer, ours)
        for side in sides:
            side.wait_ready(default_buffers=default_buffers)
        for label, busy in idle_cpu(sides, IDLE_S).items():
            if busy > IDLE_MOST:
                who = f"{label} at rest takes" if label else "other programs here take"
                say(f"{who} {busy:.0%} of a processor: expect noise")
        # Warm up: QEMU translates guest code at its first run.
        for side in sides:
            say(f"warming up {side.label}")
            for options in ((), ("-R",)):
                _iperf(side, 1, *options)
        records: dict[tuple[str, str], list[Record]] = {}
        for number in range(rounds):
            for measurement in measurements:
                for side in sides if number % 2 == 0 else sides[::-1]:
                    record = attempted(measurement, side, settings, say)
                    records.setdefault((measurement.name, side.label), []).append(record)
                    say(
                        f"round {number + 1}/{rounds}: {measurement.title}: {side.label}: "
                        f"{record.value:,.0f} {measurement.unit}"
                    )
        for side in sides:
            ratio = side.clock_ratio()
            if abs(ratio - 1) > CLOCK_MOST:
                say(f"{side.label}: the guest's clock runs at {ratio:.3f} of ours, as do figures")
        setups = {"setup": ours.setup(), "peer_setup": peer.setup()}
    return [
        row(m, peer.label, records[m.name, ours.label], records[m.name, peer.label]) | setups
        for m in measurements
    ]


# --- the command ---------------------------------------------------------------------------------


def show(rows: Sequence[dict[str, Any]], screen: Console) -> None:
    """Print the figures, then their costs."""
    figures = Table(box=None, pad_edge=False)
    figures.add_column("")
    for heading in ("built-in", "ours", "", "ratio", "of rounds"):
        figures.add_column(heading, justify="left" if not heading else "right")
    for entry in rows:
        low, high = min(entry["ratio_rounds"]), max(entry["ratio_rounds"])
        style = "green" if entry["ratio"] >= 1 else "red"
        figures.add_row(
            entry["title"],
            f"{entry['peer_value']:,.0f}",
            f"{entry['value']:,.0f}",
            entry["unit"],
            f"[{style}]{entry['ratio']:.2f}[/]",
            f"{low:.2f} … {high:.2f}",
        )
    screen.print(figures)
    costs = Table(box=None, pad_edge=False, title="\na second, and CPU time", title_justify="left")
    costs.add_column("", no_wrap=True)
    costs.add_column("")
    for heading in COSTS:
        costs.add_column(heading, justify="right")
    for entry in rows:
        for prefix, label in (("peer_", "built-in"), ("", "ours")):
            rates, seconds = entry[f"{prefix}per_second"], entry[f"{prefix}seconds"]
            cpu = {name: s / seconds for name, s in entry[f"{prefix}cpu_s"].items()}
            cells = []
            for name in COSTS.values():
                shown = f"{rates[name]:,.0f}" if name in rates else ""
                cells.append(f"{cpu[name]:.0%}" if name in cpu else shown)
            costs.add_row("" if label == "ours" else entry["name"], label, *cells)
    screen.print(costs)


COSTS = {
    "frames": "frames",
    "at TAP": "tap_packets",
    "irqs": "interrupts",
    "reads": "region_reads",
    "posted": "posted_writes",
    "unmasks": "unmasks",
    "QEMU": "qemu",
    "server": "server",
}


def _words(text: str, option: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BenchError(f"{option} {text!r}: {error}; quote it as for a shell") from None


ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupted(number: int, frame: object) -> None:
    """End in order, once; later signals do not interrupt the clean-up."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@click.command()
@click.option("--quick", is_flag=True, help="Two rounds of a second: a minute or two, and noise.")
@click.option("--rounds", type=click.IntRange(min=1), default=None, help="[default: 5]")
@click.option(
    "--seconds", type=click.IntRange(min=1), default=None, help="Of each transfer.  [default: 4]"
)
@click.option(
    "--only",
    multiple=True,
    type=click.Choice([m.name for m in MEASUREMENTS]),
    help="One measurement alone; can be repeated.",
)
@click.option(
    "--default-buffers",
    is_flag=True,
    help="The guests' sockets keep Linux's buffers (208 KiB), in place of 8 MiB.",
)
@click.option("--qemu", default=None, help="Which qemu-system-x86_64 to use (10.1 or newer).")
@click.option("--qemu-args", default="", help="More options for both QEMUs.")
@click.option("--server-args", default="", help="More options for `e1000emu vfio-user`.")
@report_options
def command(
    quick: bool,
    rounds: int | None,
    seconds: int | None,
    only: tuple[str, ...],
    default_buffers: bool,
    qemu: str | None,
    qemu_args: str,
    server_args: str,
    as_json: bool,
) -> None:
    """Measure a Linux guest's network on our NIC beside QEMU's own e1000, in turns."""
    progress = console(stderr=True)
    for number in ENDING:
        signal.signal(number, _interrupted)
    try:
        settings = Settings(1, 50, 1000) if quick else Settings()
        if seconds is not None:
            settings = Settings(seconds, settings.pings, settings.adaptive_pings)
        rows = collect(
            [m for m in MEASUREMENTS if not only or m.name in only],
            rounds=rounds if rounds is not None else 2 if quick else 5,
            settings=settings,
            default_buffers=default_buffers,
            qemu=qemu,
            qemu_arguments=_words(qemu_args, "--qemu-args"),
            server_arguments=_words(server_args, "--server-args"),
            say=lambda text: progress.print(text, style="dim", highlight=False),
        )
        if as_json:
            emit_json(rows)
        else:
            show(rows, console())
    except E1000Error as error:
        click.echo(f"bench-guest: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        click.echo("bench-guest: interrupted; all is cleaned up", err=True)
        sys.exit(130)


if __name__ == "__main__":
    command()
