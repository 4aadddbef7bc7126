"""`e1000emu transfer`: one TCP transfer between two hosts, its window, RTT and rate over time."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE, Duration, Rate, Share, Size
from e1000emu.errors import E1000Error
from e1000emu.lab import pump, two_hosts
from e1000emu.measure import TcpSampler
from stack.socket import create_connection, create_server

__all__ = ["command", "run_transfer"]

MIB = 1 << 20
BLOCK_BYTES = 64 << 10
PORT = 5001


def run_transfer(
    total_bytes: int,
    *,
    every_ns: int = 1_000_000,
    write_bytes: int = BLOCK_BYTES,
    **wire: Any,
) -> tuple[TcpSampler, dict[str, Any]]:
    """Send `total_bytes` over one connection in virtual time; the samples, and what came of it.

    `wire` are arguments of `two_hosts`: rate_bps, latency_ns, impair, mtu, seed, capture, sysctl,
    bus.
    """
    a, b = two_hosts(**wire)
    block = memoryview(bytes(write_bytes))
    sent = 0

    def source() -> memoryview | None:
        nonlocal sent
        piece = block[: total_bytes - sent]
        sent += len(piece)
        return piece if len(piece) else None

    with a, b, create_server(b, ("10.0.0.2", PORT)) as listener:
        start_ns, cpu_s = a.clock.now_ns(), time.process_time()
        client = create_connection(a, ("10.0.0.2", PORT))
        server, _ = listener.accept()
        with client, server:
            with TcpSampler(client, every_ns=every_ns) as sampler:
                received = pump(client, server, source, lambda piece: None)
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


@click.command()
@click.option("--bytes", "total", type=Size(1), default="64M", show_default=True, help="How much.")
@click.option("--rate", type=Rate(), help="Of the wire, in bits per second  [default: no limit].")
@click.option(
    "--delay", "delay_ns", type=Duration(), default="0s", show_default=True, help="Each way."
)
@click.option(
    "--loss", type=Share(0.5), default="0%", show_default=True, help="Of frames, each way."
)
@click.option(
    "--reorder", type=Share(0.5), default="0%", show_default=True, help="Of frames, each way."
)
@click.option("--mtu", type=click.IntRange(576, 16110), help="Of both hosts  [default: 1500].")
@click.option(
    "--bus",
    metavar="BUS",
    help="Of both NICs, which their frames cross first: pci, pci-66, and with ',latency=200ns' "
    "after it more for each transaction  [default: takes no time].",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of what the wire does.")
@click.option(
    "--interval",
    "interval_ns",
    type=Duration(above=True),
    default="1ms",
    show_default=True,
    help="Virtual time between two samples.",
)
@click.option("--csv", "csv_file", type=OUT_FILE, help="Write the samples to this file.")
@click.option("--figure", type=OUT_FILE, help="Draw them: .svg, .png or .pdf (needs matplotlib).")
@click.option("--capture", type=OUT_FILE, help="Write every frame to this pcapng file.")
@report_options
def command(
    total: int,
    rate: int | None,
    delay_ns: int,
    loss: float,
    reorder: float,
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

    The same options give the same samples, to the last digit.
    """
    if figure is not None:
        importlib.import_module("e1000emu.figures")  # says now what would be missing at the end
    impair = {name: p for name, p in (("loss", loss), ("reorder", reorder)) if p}
    sampler, found = run_transfer(
        total,
        every_ns=interval_ns,
        rate_bps=rate,
        latency_ns=delay_ns,
        impair=impair or None,
        mtu=mtu,
        seed=seed,
        capture=capture,
        bus=bus,
    )
    if csv_file is not None:
        sampler.write_csv(csv_file)
    if figure is not None:
        sampler.write_figure(figure)
    if as_json:
        emit_json(found)
        return
    table = plain_table("", "value", right=("value",))
    rtt = found["rtt_ms"]
    for label, value in (
        ("bytes", f"{found['bytes']:,}"),
        ("virtual time", f"{found['seconds']:.6g} s"),
        (
            "goodput",
            "" if not found["goodput_bps"] else f"{found['goodput_bps'] / 1e6:,.4g} Mbit/s",
        ),
        ("retransmitted", f"{found['retransmitted_segments']:,} segments"),
        ("largest window", f"{found['cwnd_max_segments']:,} segments"),
        ("RTT", "" if rtt is None else "{min:.3g} / {median:.3g} / {max:.3g} ms".format(**rtt)),
        ("samples", f"{found['samples']:,}"),
        ("CPU time", f"{found['cpu_seconds']:.2f} s"),
    ):
        table.add_row(label, value)
    console().print(table)
