"""queues.svg: queue length, and the delay of another flow, under three queueing disciplines.

A TCP connection sends at full speed over a link of 10 Mbit/s, and another flow sends a datagram
every 10 ms. Time is virtual, so the picture is the same on every machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_STREAM, Socket

MS = 1_000_000
RATE = 1_250_000
"""Bytes per second."""
SECONDS = 4
STEP_MS, ROUND_TRIP_MS = 10, 10
DISCIPLINES = {"pfifo": {"limit": 200}, "codel": {}, "fq_codel": {}}
COLOURS = {"pfifo": "#b2452d", "codel": "#3a6ea5", "fq_codel": "#2f7d4f"}
WIDTH, HEIGHT, LEFT, TOP, GAP = 720, 170, 64, 34, 60


@dataclass(frozen=True)
class Sample:
    """At `ms`: bytes in the queue, and the one-way delay of a datagram in milliseconds."""

    ms: float
    queued: int
    delay_ms: float


def samples(kind: str) -> Iterator[Sample]:
    """Run one discipline below a token bucket."""
    clock = VirtualClock()
    a, b = two_hosts(clock, latency_ns=ROUND_TRIP_MS * MS // 2)
    a.qdisc_add("eth0", "tbf", handle="1:", rate=RATE, burst=3028, limit=400_000)
    a.qdisc_add("eth0", kind, parent="1:1", handle="2:", **DISCIPLINES[kind])
    with contextlib.ExitStack() as opened:

        def made(host: object, type_: int) -> Socket:
            return opened.enter_context(Socket(host, AF_INET, type_))

        listener, client = made(b, SOCK_STREAM), made(a, SOCK_STREAM)
        listener.bind(("10.0.0.2", 80))
        listener.listen()
        client.connect(("10.0.0.2", 80))
        server = opened.enter_context(listener.accept()[0])
        probe, ear = made(a, SOCK_DGRAM), made(b, SOCK_DGRAM)
        ear.bind(("10.0.0.2", 9))
        for sock in (client, server, ear):
            sock.setblocking(False)
        began = clock.now_ns()
        sent, heard = 0, []
        for _ in range(SECONDS * 1000 // STEP_MS):
            probe.sendto(clock.now_ns().to_bytes(8, "big"), ("10.0.0.2", 9))
            for _ in range(STEP_MS):
                with contextlib.suppress(BlockingIOError):
                    while True:
                        sent += client.send(bytes(1 << 16))
                clock.run_for(MS)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        server.recv(1 << 20)
                with contextlib.suppress(BlockingIOError):
                    while True:
                        heard.append((clock.now_ns(), int.from_bytes(ear.recv(8), "big")))
            waits = next(q["backlog"] for q in a.qdisc_show("eth0") if q["handle"] == "2:")
            if heard:
                came, left = heard[-1]
                yield Sample((clock.now_ns() - began) / MS, waits, (came - left) / MS)


def panel(top: int, title: str, lines: dict[str, list[tuple[float, float]]]) -> list[str]:
    """One chart: a line for each discipline over time."""
    most = max(y for line in lines.values() for _, y in line)
    wide = WIDTH - LEFT - 20
    out = [f'<text x="{LEFT}" y="{top - 10}" font-weight="bold">{title}</text>']
    for share in (0, 0.5, 1):
        y = top + HEIGHT - share * HEIGHT
        out.append(
            f'<path d="M{LEFT} {y:.0f} H{LEFT + wide}" stroke="#dddddd"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{most * share:.0f}</text>'
        )
    for second in range(SECONDS + 1):
        x = LEFT + wide * second / SECONDS
        out.append(
            f'<text x="{x:.0f}" y="{top + HEIGHT + 16}" text-anchor="middle">{second} s</text>'
        )
    for kind, line in lines.items():
        points = " ".join(
            f"{LEFT + wide * ms / 1000 / SECONDS:.1f},{top + HEIGHT - y / most * HEIGHT:.1f}"
            for ms, y in line
        )
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[kind]}"/>')
    return out


def picture() -> str:
    """Return the SVG."""
    runs = {kind: list(samples(kind)) for kind in DISCIPLINES}
    height = TOP + 2 * HEIGHT + GAP + 28
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for n, kind in enumerate(runs):
        x = WIDTH - 250 + 80 * n
        out.append(f'<text x="{x}" y="{TOP - 10}" fill="{COLOURS[kind]}">{kind}</text>')
    queued = {kind: [(s.ms, s.queued / 1000) for s in run] for kind, run in runs.items()}
    delays = {kind: [(s.ms, s.delay_ms) for s in run] for kind, run in runs.items()}
    out += panel(TOP, "waiting, in kB", queued)
    out += panel(TOP + HEIGHT + GAP, "delay of another flow's datagrams, in ms", delays)
    return "\n".join([*out, "</svg>"]) + "\n"
