"""`e1000emu trace`: the chain of calls a packet takes, by the kernel's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any

import click

from e1000emu.cli.common import report_options
from e1000emu.cli.output import console
from e1000emu.lab import two_hosts
from fastpath.calltrace import Classes
from stack.host import Host
from stack.socket import (
    AF_INET,
    IPPROTO_ICMP,
    SOCK_DGRAM,
    Socket,
    create_connection,
    create_server,
)
from stack.trace import Call, Tracer, alike, calibrate, net_times, typical
from stack.trace_format import FORMATS, render, render_text

__all__ = ["KINDS", "Measured", "command", "measure", "record"]


# What makes one figure: rounds that are thrown away, rounds that count, and how often both are
# done, with the recorder and without it in turns.
WARM, ROUNDS, TURNS = 10, 15, 3
# The same where a round makes two new hosts.
SLOW_KINDS = {"arp": (3, 8, 1)}

# `with trace(host):` records what is called meanwhile, for one host or for all (None).
Trace = Callable[[Any], AbstractContextManager[Any]]
Round = Callable[[Trace], None]


def _of_host(host: Host) -> Callable[[str, Mapping[str, Any]], bool]:
    """Return a root filter that keeps the calls made for one host (all hosts share this
    process)."""

    def root(name: str, arguments: Mapping[str, Any]) -> bool:
        own = id(host), id(host.machine)
        if any(id(arguments.get(name)) in own for name in ("net", "machine", "self")):
            return True
        owner = next((arguments[k] for k in ("self", "timer", "napi", "dev") if k in arguments), 0)
        return any(id(getattr(owner, name, None)) in own for name in ("net", "machine", "host"))

    return root


class Scene:
    """Two hosts on a wire, warmed up (addresses resolved, connection made) so that a trace shows
    one packet only."""

    def __init__(self) -> None:
        self.a, self.b = two_hosts()
        self.clock = self.a.clock

    def close(self) -> None:
        """Close both hosts."""
        self.a.close()
        self.b.close()

    def settle(self, seconds: float = 0.3) -> None:
        """Let timers and late acknowledgements pass."""
        self.clock.run_for(int(seconds * 1e9))

    def udp(self) -> tuple[Any, Any]:
        """Return a connected sender on a and a bound receiver on b, ARP resolved."""
        receiver = Socket(self.b, AF_INET, SOCK_DGRAM)
        receiver.bind(("10.0.0.2", 9000))
        sender = Socket(self.a, AF_INET, SOCK_DGRAM)
        sender.sendto(b"warm", ("10.0.0.2", 9000))
        receiver.recvfrom(100)
        self.settle()
        return sender, receiver

    def tcp(self) -> tuple[Any, Any]:
        """Return both ends of an established connection, quiet."""
        listener = create_server(self.b, ("10.0.0.2", 9000))
        client = create_connection(self.a, ("10.0.0.2", 9000))
        server, _ = listener.accept()
        client.sendall(b"warm")
        server.recv(100)
        self.settle()
        return client, server


def _udp_send(scene: Scene) -> Round:
    sender, receiver = scene.udp()

    def one(trace: Trace) -> None:
        with trace(None):
            sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
        scene.settle(0.001)
        receiver.recvfrom(100)

    return one


def _udp_recv(scene: Scene) -> Round:
    sender, receiver = scene.udp()

    def one(trace: Trace) -> None:
        sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
        with trace(scene.b):
            scene.settle(0.001)
        with trace(None):
            receiver.recvfrom(100)
        scene.settle(0.001)

    return one


def _tcp_send(scene: Scene) -> Round:
    client, server = scene.tcp()

    def one(trace: Trace) -> None:
        with trace(None):
            client.send(b"x" * 64)
        scene.settle()
        server.recv(100)

    return one


def _tcp_recv(scene: Scene) -> Round:
    # The first segment that a connecting side gets finds header prediction not armed yet (with a
    # window scale it is set by the first segment), so it takes the slow path, which shows more.
    listener = create_server(scene.a, ("10.0.0.1", 9000))

    def one(trace: Trace) -> None:
        receiver = create_connection(scene.b, ("10.0.0.1", 9000))
        sender, _ = listener.accept()
        scene.settle()
        sender.send(b"x" * 64)
        with trace(scene.b):
            scene.settle(0.001)
        with trace(None):
            receiver.recv(100)
        sender.close()
        receiver.close()
        scene.settle()

    return one


def _tcp_connect(scene: Scene) -> Round:
    scene.udp()
    listener = create_server(scene.b, ("10.0.0.2", 9000))

    def one(trace: Trace) -> None:
        with trace(scene.a):
            client = create_connection(scene.a, ("10.0.0.2", 9000))
        server, _ = listener.accept()
        client.close()
        server.close()
        scene.settle()

    return one


def _arp(scene: Scene) -> Round:
    def one(trace: Trace) -> None:
        # neighbours that know each other cannot be asked again: two new ones each time
        fresh = Scene()
        try:
            sender = Socket(fresh.a, AF_INET, SOCK_DGRAM)
            with trace(None):
                sender.sendto(b"x" * 64, ("10.0.0.2", 9000))
            with trace(fresh.b):
                fresh.settle(0.0005)
            with trace(fresh.a):
                fresh.settle(0.0005)
        finally:
            fresh.close()

    return one


def _icmp(scene: Scene) -> Round:
    scene.udp()
    sender = Socket(scene.a, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)

    def one(trace: Trace) -> None:
        with trace(None):
            sender.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x01" + b"x" * 56, ("10.0.0.2", 0))
        with trace(scene.b):
            scene.settle(0.001)
        sender.recv(100)
        scene.settle()

    return one


def _socket(scene: Scene) -> Round:
    def one(trace: Trace) -> None:
        with trace(None):
            Socket(scene.a).close()

    return one


KINDS: dict[str, tuple[str, Callable[[Scene], Round]]] = {
    "udp-send": ("sendto() of 64 bytes to the doorbell", _udp_send),
    "udp-recv": ("interrupt to recvfrom() of 64 bytes", _udp_recv),
    "tcp-send": ("send() of 64 bytes to the doorbell", _tcp_send),
    "tcp-recv": ("interrupt to recv() of 64 bytes, with the acknowledgement", _tcp_recv),
    "tcp-connect": ("connect(): the client's side of the handshake", _tcp_connect),
    "arp": ("first packet to an unknown neighbour: request, reply, packet", _arp),
    "icmp": ("echo request out, and its answer on the other host", _icmp),
    "socket": ("socket() and close()", _socket),
}


@dataclass(slots=True)
class Measured:
    """The chain of a packet. `untraced_ns` is what its outermost calls took together with nothing
    recorded below them, `call_ns` what recording one call cost and was subtracted."""

    calls: list[Call]
    untraced_ns: int
    call_ns: float
    rounds: int

    @property
    def self_ns(self) -> int:
        """The sum of all self times."""
        return sum(call.self_ns for call in self.calls)


def _record(one: Round, classes: Classes, *, roots_only: bool) -> list[Call]:
    """Do one round and return its calls with raw times."""
    parts: list[Tracer] = []

    def trace(net: Any) -> Tracer:
        root = _of_host(net) if net is not None else None
        parts.append(Tracer(root=root, roots_only=roots_only, classes=classes))
        return parts[-1]

    one(trace)
    return [call for part in parts for call in part.calls]


def measure(kind: str, counts: tuple[int, int, int] | None = None) -> Measured:
    """Record one of `KINDS` many times: medians, with the recorder's cost subtracted.

    `counts` are rounds to warm up, rounds that count, and turns of both.
    """
    warm, rounds, turns = counts or SLOW_KINDS.get(kind, (WARM, ROUNDS, TURNS))
    scene = Scene()
    runs: list[list[Call]] = []
    untraced: list[int] = []
    try:
        one = KINDS[kind][1](scene)
        cost, classes = calibrate(), Tracer().classes
        for _ in range(turns):
            for counted in [False] * warm + [True] * rounds:
                calls = _record(one, classes, roots_only=False)
                if counted:
                    runs.append(calls)
            for counted in [False] * warm + [True] * rounds:
                calls = _record(one, classes, roots_only=True)
                if counted:
                    untraced.append(round(sum(call.ns for call in calls)))
    finally:
        scene.close()
    runs = alike(runs)
    cost = cost.fitted(runs, median(untraced))
    chain = typical([net_times(run, cost) for run in runs])
    return Measured(chain, round(median(untraced)), cost.inner_ns + cost.outer_ns, len(runs))


def record(kind: str) -> list[Call]:
    """Record the chain of one of `KINDS`, warmed up, for its structure: times are of a few runs."""
    return measure(kind, (1, 3, 1)).calls


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
)
@report_options
def command(kind: str, form: str, as_json: bool) -> None:
    """Print the chain of calls that a packet of this KIND takes, each with its own time and the
    time with its callees: medians of many packets, without what recording costs.

    \b
    udp-send udp-recv tcp-send tcp-recv tcp-connect arp icmp socket
    """
    measured = measure(kind)
    form = "json" if as_json else form
    title = f"{kind}: {KINDS[kind][0]}"
    if form != "text":
        click.echo(render(measured.calls, form, title))
        return
    click.echo(render_text(measured.calls, title, console().width))
    click.echo(
        f"\nSelf times together {measured.self_ns / 1000:.1f} us, the same packet untraced "
        f"{measured.untraced_ns / 1000:.1f} us:\nmedians of {measured.rounds}, without the "
        f"{measured.call_ns:.0f} ns that recording a call costs."
    )
