"""`e1000emu trace`: the chain of calls a packet takes, by the kernel's names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import click

from e1000emu.cli.common import report_options
from e1000emu.cli.errors import did_you_mean
from e1000emu.cli.output import console
from e1000emu.cli.trace_calls import CALL_KINDS
from e1000emu.cli.trace_kinds import KINDS as SOCKET_KINDS
from e1000emu.cli.trace_kinds import Round, Scene
from e1000emu.cli.trace_links import LINK_KINDS
from fastpath.base.calltrace import Classes
from fastpath.errors import E1000Error
from stack import COMPILED
from stack.api.sockaddr import inet6_aton, inet6_ntoa, inet_aton, inet_ntoa
from stack.host import Host
from stack.tools.trace import Call, Tracer, alike, calibrate, net_times, typical
from stack.tools.trace_format import FORMATS, render, render_text

KINDS = SOCKET_KINDS | LINK_KINDS | CALL_KINDS

QUEUED = "no packet passes an empty queue by"
FIRST = "queued, no early demux, a first segment"
ALWAYS_QUEUED = """
    arp backlog bridge bridge-send calls calls6 forward forward6 icmp icmp-error icmp6 icmp6-error
    message nd packet-recv packet-send raw raw-send raw6-send tcp-close tcp-connect tcp-send
    tcp6-connect tcp6-send udp-send udp6-send vlan-send xtp
"""
STAGED = dict.fromkeys(ALWAYS_QUEUED.split(), QUEUED) | {
    "tcp-recv": FIRST,
    "tcp6-recv": FIRST,
    "completion": "no NAPI, queued",
}
"""Set-ups with which a kind shows more than an ordinary packet's path."""

# For one figure: rounds to warm up, rounds that count, and how often both are repeated, with and
# without the recorder in turns.
WARM, ROUNDS, TURNS = 10, 15, 3
# The same where a round makes two new hosts.
SLOW_KINDS = {"arp": (3, 8, 1), "nd": (3, 8, 1)}


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


def measure(
    kind: str, counts: tuple[int, int, int] | None = None, *, staged: bool = True
) -> Measured:
    """Record one of `KINDS` many times: medians, with the recorder's cost subtracted.

    `counts` are rounds to warm up, rounds that count, and turns of both.
    """
    warm, rounds, turns = counts or SLOW_KINDS.get(kind, (WARM, ROUNDS, TURNS))
    for cached in (inet_aton, inet6_aton, inet_ntoa, inet6_ntoa):  # of an earlier trace
        cached.cache_clear()
    scene = Scene(staged=staged)
    runs: list[list[Call]] = []
    roots: list[list[Call]] = []
    try:
        one = KINDS[kind][1](scene)
        cost, classes = calibrate(), Tracer().classes
        for _ in range(turns):
            for found in (runs, roots):
                for _ in range(warm):
                    _record(one, classes, roots_only=found is roots)
                found += [_record(one, classes, roots_only=found is roots) for _ in range(rounds)]
    finally:
        scene.close()
    untraced = [round(sum(call.ns for call in calls)) for calls in roots]
    runs = alike(runs)
    cost = cost.fitted(runs, median(untraced))
    chain = typical([net_times(run, cost) for run in runs])
    return Measured(chain, round(median(untraced)), cost.inner_ns + cost.outer_ns, len(runs))


def title_of(kind: str, *, staged: bool = True) -> str:
    """Return the title of a trace in one line."""
    arranged = f" (staged: {STAGED[kind]})" if staged and kind in STAGED else ""
    return f"{kind}: {KINDS[kind][0]}{arranged}"


class Kind(click.Choice[str]):
    """A kind of packet; an unknown word is answered with a similar one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the kind."""
        if value not in self.choices:
            guess = did_you_mean(str(value), self.choices)
            self.fail(
                f"{value!r} is no kind{guess or '; choose one that the help lists'}", param, ctx
            )
        return value


def record(kind: str) -> list[Call]:
    """Record the chain of one of `KINDS`, warmed up, for its structure: times are of a few runs.

    Another process does so where the stack is compiled.
    """
    if COMPILED:
        words = [sys.executable, "-m", "e1000emu", "trace", kind, "--json"]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise E1000Error(f"{' '.join(words[2:])} ended with status {done.returncode}")
        return [Call.of(row) for row in json.loads(done.stdout)]
    return measure(kind, (1, 3, 1)).calls


@click.command()
@click.argument("kind", type=Kind(list(KINDS)), metavar="KIND")
@click.option(
    "--format",
    "form",
    type=click.Choice(list(FORMATS)),
    default="text",
    help="Format of the chain.",
)
@click.option(
    "--ordinary",
    is_flag=True,
    help="Let packets take the short cuts of ordinary traffic: an empty queue is passed by, "
    "early demux finds the socket, connections have been in use.",
)
@report_options
def command(kind: str, form: str, ordinary: bool, as_json: bool) -> None:
    """Print the chain of calls that a packet of this KIND takes, each with its own time and the
    time with its callees. Times are medians of many packets, without the cost of recording.

    Many kinds are staged to show more, and say so in their first line.

    \b
    udp-send udp-recv tcp-send tcp-recv tcp-connect tcp-close socket
    tcp-server calls message backlog tcp-error udp-connect igmp
    arp icmp icmp-error raw packet-send packet-recv
    forward blocked-qdisc completion
    bridge bridge-recv bridge-send vlan-send vlan-recv veth
    udp6-send udp6-recv tcp6-send tcp6-recv tcp6-connect
    nd icmp6 icmp6-error forward6 socket6 tcp6-server calls6 tcp6-error
    raw-send raw6-send ping-recv ping6-recv loopback loopback6
    unix-send unix-recv unix-dgram xtp
    """
    if COMPILED:
        raise E1000Error(
            "trace: shows the stack's sources; import stack with E1000EMU_UNCOMPILED=1"
        )
    measured = measure(kind, staged=not ordinary)
    form = "json" if as_json else form
    title = title_of(kind, staged=not ordinary)
    if form != "text":
        click.echo(render(measured.calls, form, title))
        return
    if kind in STAGED and not ordinary:
        click.echo(f"{kind}, staged (--ordinary is not): {STAGED[kind]}")
        title = KINDS[kind][0]
    click.echo(render_text(measured.calls, title, console().width))
    click.echo(
        f"\nSelf times together {measured.self_ns / 1000:.1f} us, the same packet untraced "
        f"{measured.untraced_ns / 1000:.1f} us:\nmedians of {measured.rounds}, without the "
        f"{measured.call_ns:.0f} ns that recording a call costs."
    )
