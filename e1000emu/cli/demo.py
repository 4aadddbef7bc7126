"""`e1000emu demo`: the main job. Two hosts, each with its driver and emulated NIC, joined by a
wire."""

from __future__ import annotations

import contextlib
import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

from e1000emu.capture import PcapngWriter
from e1000emu.cli.common import emit_json, report_options
from e1000emu.cli.output import console, plain_table
from e1000emu.cli.params import OUT_FILE, Share, Size
from e1000emu.cli.profile import with_margin
from e1000emu.clock import VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.lab import pump, two_hosts
from stack.core.dev import dev_get_stats
from stack.host import Host
from stack.tools.profile import Profile

MIB = 1 << 20
A, B = "10.0.0.1", "10.0.0.2"
# The impairment of the capture's second transfer.
CAPTURED_WIRE = {"loss": 0.01, "corrupt": 0.005, "crc_error": 0.005, "seed": 3}
# What is sampled of the traffic whose rate was measured: enough for a thousand samples or so.
SAMPLE_S = 0.0002
SAMPLED_EXCHANGES = 5000
SAMPLED_BYTES, SAMPLED_LOSSY_BYTES = 256 * MIB, 32 * MIB


@dataclass(slots=True)
class Rate:
    """The result of one phase. `packets` counts frames on the wire, both directions; times are CPU
    seconds."""

    name: str
    packets: int = 0
    payload_bytes: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    virtual_s: float = 0.0
    note: str = ""
    layers: dict[str, float] = field(default_factory=dict)
    """Share of the CPU time by layer; `layer_margins` are their 95 % margins. Both are sampled in a
    run of their own, for sampling costs several per cent."""
    layer_margins: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    unattributed: float = 0.0
    """Share of the CPU time that belongs to no layer."""

    def take_shares(self, profile: Profile) -> None:
        """Keep the shares by layer that a profile of the same traffic found."""
        self.samples = profile.samples
        self.unattributed = profile.unattributed_ns / profile.cpu_ns if profile.cpu_ns else 0.0
        for row in profile.layers():
            self.layers[row.name] = row.share
            self.layer_margins[row.name] = row.margin

    @property
    def pps(self) -> float:
        """Frames per CPU second."""
        return self.packets / self.cpu_s if self.cpu_s else 0.0

    @property
    def gbit(self) -> float:
        """Payload in Gbit per CPU second."""
        return self.payload_bytes * 8 / self.cpu_s / 1e9 if self.cpu_s else 0.0

    @property
    def ns_per_packet(self) -> float:
        """CPU nanoseconds per frame."""
        return self.cpu_s * 1e9 / self.packets if self.packets else 0.0


class Meter:
    """Measure one phase: CPU and wall time, frames on the wire, and shares by layer in `profile`.

    What is done inside `excluded()` is neither timed nor sampled.
    """

    def __init__(self, name: str, hosts: tuple[Host, Host], profile: Profile | None) -> None:
        self.rate = Rate(name)
        self._hosts = hosts
        self._profile = profile
        self._excluded_cpu_s = self._excluded_wall_s = 0.0

    def _frames(self) -> int:
        return sum(dev_get_stats(host.dev("eth0")).tx_packets for host in self._hosts)

    @contextlib.contextmanager
    def excluded(self) -> Iterator[None]:
        """Leave out what is done inside."""
        cpu, wall = time.thread_time(), time.perf_counter()
        with self._profile.paused() if self._profile is not None else contextlib.nullcontext():
            yield
        self._excluded_cpu_s += time.thread_time() - cpu
        self._excluded_wall_s += time.perf_counter() - wall

    def __enter__(self) -> Meter:
        self._packets = self._frames()
        self._virtual = self._hosts[0].clock.now_ns()
        if self._profile is not None:
            self._profile.__enter__()
        self._cpu, self._wall = time.thread_time(), time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        rate = self.rate
        rate.cpu_s = time.thread_time() - self._cpu - self._excluded_cpu_s
        rate.wall_s = time.perf_counter() - self._wall - self._excluded_wall_s
        if self._profile is not None:
            self._profile.__exit__(*exc)
        rate.virtual_s = (self._hosts[0].clock.now_ns() - self._virtual) / 1e9
        rate.packets = self._frames() - self._packets


def run_arp(a: Any, b: Any) -> str:
    """Resolve b's address from a by the first datagram; return what a's neighbour table holds."""
    from stack import proc
    from stack.socket import AF_INET, SOCK_DGRAM, Socket

    with Socket(a, AF_INET, SOCK_DGRAM) as sock:
        sock.sendto(b"who has", (B, 9))
    a.clock.run_for(1_000_000)
    line = next((line for line in proc.read(a, "arp").splitlines() if line.startswith(B)), None)
    if line is None:
        raise E1000Error(f"demo: {B} was not resolved by ARP")
    return line


def run_ping(a: Any, *, count: int = 5, size: int = 56) -> dict[str, Any]:
    """Ping b from a; raises E1000Error when a reply is missing."""
    from e1000emu.cli.pinger import Pinger

    pinger = Pinger(a, B, size_bytes=size)
    for _ in range(count):
        if pinger.ping(1.0) is None:
            raise E1000Error(f"demo: ping of {size} bytes to {B} was not answered")
    pinger.close()
    return pinger.summary()


def run_udp(a: Any, b: Any, *, exchanges: int = 5000, profile: Profile | None = None) -> Rate:
    """Send `exchanges` datagrams of 64 bytes to b, which answers each; check every byte."""
    from stack.socket import AF_INET, SOCK_DGRAM, Socket

    with Socket(b, AF_INET, SOCK_DGRAM) as server, Socket(a, AF_INET, SOCK_DGRAM) as client:
        server.bind((B, 7))
        client.connect((B, 7))
        client.send(b"warm")
        server.recvfrom(64)
        with Meter("UDP echo, 64 bytes", (a, b), profile) as meter:
            for number in range(exchanges):
                message = number.to_bytes(8, "big") * 8
                client.send(message)
                data, source = server.recvfrom(2048)
                server.sendto(data, source)
                if client.recv(2048) != message:
                    raise E1000Error(f"demo: UDP echo {number} came back changed")
        meter.rate.payload_bytes = 2 * exchanges * 64
    return meter.rate


def run_tcp(
    a: Any,
    b: Any,
    *,
    total_bytes: int = 256 * MIB,
    name: str = "TCP bulk",
    progress: Any = None,
    profile: Profile | None = None,
) -> Rate:
    """Send `total_bytes` from a to b over one connection; the SHA-256 of what was sent must equal
    what arrived.

    Hashing and making the data are excluded from the rate and the shares.
    """
    from stack.socket import create_connection, create_server

    block = bytearray(random.Random(1).randbytes(MIB))
    view = memoryview(block)
    sent_hash, got_hash = hashlib.sha256(), hashlib.sha256()
    sent = received = 0

    def source() -> memoryview | None:
        nonlocal sent
        if sent == total_bytes:
            return None
        with meter.excluded():
            block[:8] = sent.to_bytes(8, "big")  # so that no two blocks are alike
            piece = view[: min(MIB, total_bytes - sent)]
            sent_hash.update(piece)
            sent += len(piece)
        return piece

    def sink(piece: memoryview) -> None:
        nonlocal received
        with meter.excluded():
            got_hash.update(piece)
            received += len(piece)
            if progress is not None:
                progress(received)

    listener = create_server(b, (B, 5001))
    client = create_connection(a, (B, 5001))
    server, _ = listener.accept()
    with Meter(name, (a, b), profile) as meter:
        pump(client, server, source, sink)
    server.close()
    client.close()
    listener.close()
    if received != total_bytes or sent_hash.digest() != got_hash.digest():
        raise E1000Error(
            f"demo: {name}: {received} of {total_bytes} bytes arrived, "
            f"SHA-256 {got_hash.hexdigest()[:16]}… instead of {sent_hash.hexdigest()[:16]}…"
        )
    meter.rate.payload_bytes = total_bytes
    meter.rate.note = f"SHA-256 {got_hash.hexdigest()[:16]}… ok"
    return meter.rate


def _sample(rates: list[Rate], *, exchanges: int, total: int, impair: dict[str, Any]) -> None:
    """Repeat the three phases under the profiler, shortened, for their shares by layer."""
    udp, clean, lossy = profiles = [Profile(SAMPLE_S) for _ in rates]
    a, b = two_hosts()
    run_udp(a, b, exchanges=min(exchanges, SAMPLED_EXCHANGES), profile=udp)
    run_tcp(a, b, total_bytes=min(total, SAMPLED_BYTES), profile=clean)
    a.close()
    b.close()
    a, b = two_hosts(impair=impair)
    run_tcp(a, b, total_bytes=min(total, SAMPLED_LOSSY_BYTES), profile=lossy)
    a.close()
    b.close()
    for rate, profile in zip(rates, profiles, strict=True):
        rate.take_shares(profile)


def _show_rates(screen: Console, rates: list[Rate]) -> None:
    """Print the rates, and what a packet costs in each layer as far as the samples tell."""
    screen.print("\n[bold]Rates[/] per CPU second of everything: both stacks, both NICs, the wire")
    figures = ("frames", "packets/s", "Gbit/s", "ns/packet", "wall s", "virtual s")
    table = plain_table("", *figures, right=figures)
    for r in rates:
        table.add_row(
            r.name,
            f"{r.packets:,}",
            f"{r.pps:,.0f}",
            f"{r.gbit:.2f}",
            f"{r.ns_per_packet:,.0f}",
            f"{r.wall_s:.2f}",
            f"{r.virtual_s:.3f}",
        )
    screen.print(table)
    for r in rates:
        if r.note:
            screen.print(f"{r.name}: {r.note}")
    if not any(r.layers for r in rates):
        return
    screen.print("\n[bold]ns per packet by layer[/], ± the margin that the samples leave (95 %)")
    names = [r.name for r in rates]
    table = plain_table("", *names, right=tuple(names))
    for layer in dict.fromkeys(layer for r in rates for layer in r.layers):
        table.add_row(
            layer,
            *(
                with_margin(
                    r.ns_per_packet * r.layers.get(layer, 0),
                    r.ns_per_packet * r.layer_margins.get(layer, 0),
                )
                for r in rates
            ),
        )
    table.add_row("unattributed", *(f"{r.unattributed:.1%}" for r in rates))
    table.add_row("samples, of a second run", *(f"{r.samples:,}" for r in rates))
    screen.print(table)


def _capture(writer: PcapngWriter, say: Callable[..., None], *, total_bytes: int) -> None:
    """Show ARP, ping, UDP and TCP on a wire of 1 Gbit/s, then TCP over a lossy one; the capture has
    the reason of every drop."""
    # One frame on the cable at a time: each is captured when the wire is free for it.
    wire: dict[str, Any] = {"rate_bps": 10**9, "queue_frames": 1, "capture": writer}
    clock = VirtualClock(epoch_ns=time.time_ns())
    a, b = two_hosts(clock, **wire, annotate=True)
    say("[bold]two hosts, two 82540EM, one wire[/]")
    say(f"      {A} ({_mac(a)})  {B} ({_mac(b)})")
    say(f"ARP   {' '.join(run_arp(a, b).split())}")
    summary = run_ping(a)
    say(
        f"ping  {summary['received']}/{summary['transmitted']} answered, "
        "then 65507 bytes in fragments: ",
        end="",
    )
    run_ping(a, count=1, size=65507)
    say("answered")
    run_udp(a, b, exchanges=20)
    run_tcp(a, b, total_bytes=total_bytes, name="captured")
    a.close()
    b.close()
    a, b = two_hosts(
        VirtualClock(epoch_ns=clock.realtime_ns()),
        **wire,
        annotate=True,
        latency_ns=200_000,
        impair={"queue_frames": 1, **CAPTURED_WIRE},
    )
    run_tcp(a, b, total_bytes=total_bytes, name="captured, mistreated")
    a.close()
    b.close()


def _show_chain(screen: Console, kind: str, title: str) -> None:
    from e1000emu.cli.trace import record

    screen.print(f"\n[bold]{title}[/]")
    for call in record(kind):
        screen.print(f"  {'  ' * call.depth}{call.name} [dim]{call.layer}[/]")


def _advance(progress: Progress, task: TaskID, completed: int) -> None:
    progress.update(task, completed=completed)


@click.command()
@click.option("--bytes", "total", type=Size(1), default="256M", help="Size of each TCP transfer.")
@click.option(
    "--udp", "exchanges", type=click.IntRange(1), default=5000, help="How many UDP exchanges."
)
@click.option("--loss", type=Share(0.5), default="1%", help="Frames lost in the second transfer.")
@click.option(
    "--reorder", type=Share(0.5), default="1%", help="Frames out of order in the second transfer."
)
@click.option("--seed", type=int, default=1, help="Decides which frames those are.")
@click.option(
    "--capture", type=OUT_FILE, default="e1000emu-demo.pcapng", help="File to write the capture to."
)
@click.option("--no-trace", is_flag=True, help="Leave out the call chains of a packet.")
@report_options
def command(
    total: int,
    exchanges: int,
    loss: float,
    reorder: float,
    seed: int,
    capture: Path,
    no_trace: bool,
    as_json: bool,
) -> None:
    """Run the main job: ARP, ping, UDP, two TCP transfers (one over a lossy link), rates, call
    chains, a capture."""
    started = time.perf_counter()
    screen = console()
    say = (lambda *text, **how: None) if as_json else screen.print
    try:
        capture.touch()
    except OSError as error:
        raise E1000Error(
            f"--capture {capture}: {error.strerror}; give a path that can be written"
        ) from None

    # short runs of the same traffic for the capture; the rates below are measured without one
    with PcapngWriter(capture) as writer:
        _capture(writer, say, total_bytes=min(total, 2 * MIB))

    rates: list[Rate] = []
    with Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=screen,
        disable=as_json,
    ) as progress:
        lossy_wire = {"loss": loss, "reorder": reorder, "seed": seed}
        name = f"TCP, {loss:.0%} loss"
        for title, called, impair in (
            ("TCP, clean wire", "TCP, clean wire", None),
            (f"{name}, {reorder:.0%} reordered", name, lossy_wire),
        ):
            a, b = two_hosts(impair=impair)
            if impair is None:
                rates.append(run_udp(a, b, exchanges=exchanges))
            task = progress.add_task(title, total=total)
            done = partial(_advance, progress, task)
            rates.append(run_tcp(a, b, total_bytes=total, name=called, progress=done))
            if impair is not None:
                rates[-1].note += f", {a.mib.tcp.RetransSegs} retransmitted"
            a.close()
            b.close()
    if Profile.available():
        _sample(rates, exchanges=exchanges, total=total, impair=lossy_wire)
    if as_json:
        from e1000emu.cli.trace import record

        emit_json(
            {
                "rates": [
                    asdict(r)
                    | {"pps": r.pps, "gbit_per_s": r.gbit, "ns_per_packet": r.ns_per_packet}
                    for r in rates
                ],
                "sent": [] if no_trace else [c.as_dict() for c in record("udp-send")],
                "received": [] if no_trace else [c.as_dict() for c in record("udp-recv")],
                "capture": str(capture),
                "seconds": time.perf_counter() - started,
            }
        )
        return
    _show_rates(screen, rates)
    if not no_trace:
        _show_chain(screen, "udp-send", "One packet sent")
        _show_chain(screen, "udp-recv", "One packet received")
    say(
        f"\nCapture: {capture} (open it in Wireshark; frame.comment says who dropped what)   "
        f"{time.perf_counter() - started:.1f} s in all"
    )


def _mac(host: Any) -> str:
    return ":".join(f"{byte:02x}" for byte in host.dev_by_name["eth0"].dev_addr)
