"""`e1000emu transfer`: one TCP transfer between two hosts, its window, RTT and rate over time."""

from __future__ import annotations

import errno
import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE, Duration, Parsed, Rate, Share, Size
from e1000emu.clock import SimulationDeadlock
from e1000emu.errors import E1000Error
from e1000emu.lab import pump, two_hosts
from e1000emu.lab.measure import TcpSampler, write_csv, write_figure
from e1000emu.quantities import show_duration, show_rate
from stack.core.sysctl_net_core import SysctlError
from stack.socket import create_connection, create_server

BLOCK_BYTES = 64 << 10
PORT = 5001


def run_transfer(
    total_bytes: int, *, every_ns: int = 1_000_000, **wire: Any
) -> tuple[TcpSampler, dict[str, Any]]:
    """Send `total_bytes` over one connection in virtual time; returns the samples and the result.

    `wire` are arguments of `two_hosts`: rate_bps, latency_ns, impair, mtu, seed, capture, sysctl,
    bus.
    """
    a, b = two_hosts(**wire)
    block = memoryview(bytes(BLOCK_BYTES))
    sent = 0

    def source() -> memoryview | None:
        nonlocal sent
        piece = block[: total_bytes - sent]
        sent += len(piece)
        return piece if len(piece) else None

    with a, b, create_server(b, ("10.0.0.2", PORT)) as listener:
        start_ns, cpu_s = a.clock.now_ns(), time.process_time()
        try:
            client = create_connection(a, ("10.0.0.2", PORT))
        except OSError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
            raise E1000Error(
                "transfer: no answer to ARP within 3 s on this wire: give less --delay (a number "
                "without a unit is in seconds; write 20ms), more --rate or less --loss"
            ) from None
        try:
            server, _ = listener.accept()
            with client, server, TcpSampler(client, every_ns=every_ns) as sampler:
                received = pump(client, server, source, lambda piece: None)
        except (OSError, SimulationDeadlock) as error:
            at_s = (a.clock.now_ns() - start_ns) / 1e9
            why = error.strerror if isinstance(error, OSError) else "one end gave up, silently"
            raise E1000Error(
                f"transfer: the connection broke after {at_s:.1f} s of virtual time ({why}): the "
                "wire loses too much or is too slow; give less --loss, less --delay or more --rate"
            ) from None
        seconds = (a.clock.now_ns() - start_ns) / 1e9
        cpu_s = time.process_time() - cpu_s
    if received != total_bytes:
        raise E1000Error(f"transfer: {received} of {total_bytes} bytes arrived")
    rows = sampler.samples
    rtt_ms = rows["rtt"][rows["rtt"] > 0] / 1e3
    return sampler, {
        "bytes": received,
        "seconds": seconds,
        "goodput_bps": received * 8 / seconds if seconds else None,
        "retransmitted_segments": int(rows["total_retrans"][-1]),
        "cwnd_max_segments": int(rows["snd_cwnd"].max()),
        "rtt_ms": _quartiles(rtt_ms),
        "samples": len(rows),
        "cpu_seconds": cpu_s,
    }


def _quartiles(values: Any) -> dict[str, float] | None:
    if not len(values):
        return None
    low, middle, high = np.percentile(values, [0, 50, 100])
    return {"min": float(low), "median": float(middle), "max": float(high)}


def parse_setting(text: str) -> tuple[str, str]:
    """Return the sysctl and the value of `tcp_sack=0`."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError(f"{text!r} is no setting; write for instance tcp_sack=0")
    return name.strip(), value.strip()


@dataclass(frozen=True, slots=True)
class Run:
    """What distinguishes one run from the others."""

    congestion: str | None
    rate_bps: int | None
    delay_ns: int
    loss: float
    reorder: float

    def words(self) -> tuple[str, ...]:
        """Return the text of each of its options."""
        return (
            self.congestion or "",
            show_rate(self.rate_bps) if self.rate_bps else "no limit",
            f"delay {show_duration(self.delay_ns)}",
            f"loss {self.loss * 100:g}%",
            f"reorder {self.reorder * 100:g}%",
        )


def named(runs: Sequence[Run]) -> dict[str, Run]:
    """Return the runs by name: the options in which they differ."""
    words = [run.words() for run in runs]
    differ = [i for i in range(len(words[0])) if len({word[i] for word in words}) > 1]
    return {", ".join(word[i] for i in differ): run for word, run in zip(words, runs, strict=True)}


def _several(*names: str, **options: Any) -> Callable[..., Any]:
    """Return an option that may be repeated: a run for each value."""
    help_ = options.pop("help")
    return click.option(*names, multiple=True, help=f"{help_} Repeated: a run each.", **options)


def _measures(found: dict[str, Any]) -> dict[str, str]:
    """Return the text of a run's result."""
    rtt, goodput = found["rtt_ms"], found["goodput_bps"]
    return {
        "bytes": f"{found['bytes']:,}",
        "virtual time": f"{found['seconds']:.6g} s",
        "goodput": show_rate(goodput) if goodput else "no time passed",
        "retransmitted": f"{found['retransmitted_segments']:,} segments",
        "largest window": f"{found['cwnd_max_segments']:,} segments",
        "RTT": "0 ms" if rtt is None else "{min:.3g} / {median:.3g} / {max:.3g} ms".format(**rtt),
        "samples": f"{found['samples']:,}",
        "CPU time": f"{found['cpu_seconds']:.2f} s",
    }


def _show(found: dict[str, dict[str, Any]]) -> None:
    """Print a run's measures below each other, or several runs' side by side."""
    runs = [_measures(one) for one in found.values()]
    if len(runs) == 1:
        table = plain_table("", "value", right=("value",))
        for label, value in runs[0].items():
            table.add_row(label, value)
    else:
        labels = ("goodput", "retransmitted", "largest window", "RTT")
        table = plain_table("run", *labels, right=labels, folded="run")
        for name, run in zip(found, runs, strict=True):
            table.add_row(name, *(run[label].removesuffix(" segments") for label in labels))
    console().print(table)


@click.command()
@click.option("--bytes", "total", type=Size(1), default="64M", help="How much to send.")
@_several("--rate", "rates", type=Rate(), help="Rate of the wire  [default: no limit].")
@_several("--delay", "delays", type=Duration(), default=["0s"], help="Delay of the wire, one way.")
@_several("--loss", "losses", type=Share(0.5), default=["0%"], help="Share of frames lost.")
@_several(
    "--reorder", "reorders", type=Share(0.5), default=["0%"], help="Share of frames out of order."
)
@_several(
    "--congestion",
    "congestions",
    metavar="NAME",
    help="Congestion control of both hosts, as cubic or reno  [default: cubic].",
)
@click.option(
    "--sysctl",
    "settings",
    type=Parsed("NAME=VALUE", parse_setting),
    multiple=True,
    help="Setting of both hosts, as tcp_sack=0; may be repeated.",
)
@click.option("--mtu", type=click.IntRange(576, 16110), help="MTU of both hosts  [default: 1500].")
@click.option(
    "--bus",
    metavar="BUS",
    help="Bus of both NICs, as pci or pci-66; pci-66,latency=200ns adds 200 ns to each "
    "transaction  [default: takes no time].",
)
@click.option("--seed", type=int, default=0, help="Decides which frames are lost.")
@click.option(
    "--interval",
    "interval_ns",
    type=Duration(above=True),
    default="1ms",
    help="Virtual time between two samples.",
)
@click.option("--csv", "csv_file", type=OUT_FILE, help="Write the samples to this file.")
@click.option(
    "--figure",
    type=OUT_FILE,
    help="Draw the samples, all runs in one figure: .svg, .png or .pdf (needs matplotlib).",
)
@click.option("--capture", type=OUT_FILE, help="Write every frame of the run to this pcapng file.")
@report_options
def command(
    total: int,
    rates: tuple[int, ...],
    delays: tuple[int, ...],
    losses: tuple[float, ...],
    reorders: tuple[float, ...],
    congestions: tuple[str, ...],
    settings: tuple[tuple[str, str], ...],
    mtu: int | None,
    bus: str | None,
    seed: int,
    interval_ns: int,
    csv_file: Path | None,
    figure: Path | None,
    capture: Path | None,
    as_json: bool,
) -> None:
    """Send one TCP stream over a wire of your making, in virtual time; sample cwnd, RTT and rate.

    The same options give the same samples, to the last digit. An option that is repeated makes a
    run for each of its values, several such options one for each combination; all share one
    table, figure and CSV file.
    """
    if figure is not None:
        importlib.import_module("e1000emu.lab.figures")  # fails now if the package is missing
    combined = product(congestions or (None,), rates or (None,), delays, losses, reorders)
    runs = named([Run(*values) for values in dict.fromkeys(combined)])
    if capture is not None and len(runs) > 1:
        raise ArgumentError(f"--capture: holds one run, and these are {len(runs)}")
    samplers: dict[str, TcpSampler] = {}
    found: dict[str, dict[str, Any]] = {}
    for name, run in runs.items():
        sysctl = dict(settings)
        if run.congestion is not None:
            sysctl["tcp_congestion_control"] = run.congestion
        impair = {key: p for key, p in (("loss", run.loss), ("reorder", run.reorder)) if p}
        try:
            samplers[name], found[name] = run_transfer(
                total,
                every_ns=interval_ns,
                rate_bps=run.rate_bps,
                latency_ns=run.delay_ns,
                impair=impair or None,
                mtu=mtu,
                seed=seed,
                capture=capture,
                sysctl=sysctl,
                bus=bus,
            )
        except SysctlError as error:
            raise ArgumentError(f"--congestion, --sysctl: {error.strerror}") from None
    if csv_file is not None:
        write_csv(csv_file, samplers)
    if figure is not None:
        write_figure(figure, samplers)
    if not as_json:
        _show(found)
    elif len(runs) == 1:
        emit_json(*found.values())
    else:
        emit_json([asdict(run) | found[name] for name, run in runs.items()])
