"""`e1000emu vfio-user`: our NICs as PCI devices of QEMU, or of any other vfio-user client."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.common import (
    NANO,
    autoneg_option,
    capture_option,
    emit_event,
    impair_option,
    link_option,
    report_options,
)
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.linkspec import SWITCH, check_link, open_link
from e1000emu.cli.live import Row, live_counters
from e1000emu.cli.params import OUT_FILE
from e1000emu.cli.stackhost import StackHost
from e1000emu.cli.up import Failure
from e1000emu.embed.vfio_user.beside import BUSY_POLL_NS
from e1000emu.models import MODELS
from e1000emu.phy import AUTONEG_NS

if TYPE_CHECKING:
    from e1000emu.embed.vfio_user.server import VfioUserServer

__all__ = [
    "Plug",
    "cloud_hypervisor_arguments",
    "command",
    "nic_macs",
    "open_links",
    "parse_mac",
    "plug_in",
    "qemu_arguments",
]

DEFAULT_MAC = "52:54:00:12:34:56"

model_option = click.option(
    "--model",
    type=click.Choice(list(MODELS)),
    default="82540EM",
    show_default=True,
    help="Which part to be.",
)


def parse_mac(text: str) -> bytes:
    """Turn `52:54:00:12:34:56` into six bytes; raises ArgumentError with the remedy."""
    parts = text.replace("-", ":").split(":")
    try:
        if any(len(part) != 2 for part in parts):
            raise ValueError
        mac = bytes(int(part, 16) for part in parts)
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise ArgumentError(
            f"--mac {text!r}: not a unicast address; write for instance {DEFAULT_MAC}"
        )
    return mac


def nic_macs(texts: Sequence[str], count: int) -> list[bytes]:
    """Return `count` addresses: those given, or counted up from the one that is.

    The vendor's half stays. Raises: ArgumentError for another number of them, or one given twice.
    """
    macs = [parse_mac(text) for text in texts] or [parse_mac(DEFAULT_MAC)]
    if len(macs) == 1:
        vendor, first = macs[0][:3], int.from_bytes(macs[0][3:], "big")
        macs = [vendor + (first + n & 0xFFFFFF).to_bytes(3, "big") for n in range(count)]
    if len(macs) != count:
        raise ArgumentError(
            f"--mac: {len(macs)} addresses for {count} --socket; give one for each, or one to "
            "count up from"
        )
    for mac in macs:
        if macs.count(mac) > 1:
            raise ArgumentError(f"--mac {mac.hex(':')}: given twice; each NIC needs its own")
    return macs


def qemu_arguments(sockets: Sequence[Path], ram: str = "1G") -> list[str]:
    """Return what QEMU 10.1 or newer needs beside its disks: shared RAM and the devices."""
    words = ["qemu-system-x86_64", "-m", ram]
    words += ["-object", f"memory-backend-memfd,id=mem,share=on,size={ram}"]
    words += ["-machine", "pc,memory-backend=mem"]
    for path in sockets:
        device = {
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": os.fspath(path.absolute())},
        }
        words += ["-device", json.dumps(device, separators=(",", ":"))]
    return words


def cloud_hypervisor_arguments(sockets: Sequence[Path], ram: str = "1G") -> list[str]:
    """Return what Cloud Hypervisor needs beside its kernel and disks (its docs/vfio-user.md)."""
    words = ["cloud-hypervisor", "--memory", f"size={ram},shared=on", "--user-device"]
    return words + [f"socket={path.absolute()}" for path in sockets]


def parse_cpus(text: str) -> frozenset[int]:
    """Turn `1` or `2,3` into processors that exist.  Raises: E1000Error."""
    allowed = os.sched_getaffinity(0)
    try:
        cpus = frozenset(int(part) for part in text.split(","))
    except ValueError:
        cpus = frozenset()
    if not cpus or not cpus <= allowed:
        have = ",".join(str(cpu) for cpu in sorted(allowed))
        raise ArgumentError(f"--cpus {text!r}: give one or more of {have}, with commas between")
    return cpus


def open_links(
    spec: str, count: int, clock: Any, stack: ExitStack, *, autoneg_ns: int = AUTONEG_NS
) -> list[Any]:
    """Open the `count` links that `spec` stands for; `stack` closes them.

    `switch[:UPLINK]` makes any number, every other link one. Raises: E1000Error.
    """
    from e1000emu.links import Patch, Switch

    check_link(spec, switch=True)
    name, _, uplink = spec.partition(":")
    if name != SWITCH:
        if count > 1:
            raise ArgumentError(
                f"--link {spec!r}: one link for {count} --socket; join them with "
                f"--link {SWITCH}:{spec}, or --link {SWITCH} among themselves"
            )
        link = open_link(spec, clock, autoneg_ns=autoneg_ns)
        stack.callback(link.close)
        return [link]
    switch = Switch(clock)
    if uplink.startswith("stack:"):
        host = StackHost(uplink, switch.port(), clock, autoneg_ns=autoneg_ns)
        stack.callback(host.close)
    elif uplink:
        far = open_link(uplink, clock, autoneg_ns=autoneg_ns)
        stack.callback(far.close)
        stack.callback(Patch(switch.port(), far).close)
    ports = [switch.port() for _ in range(count)]
    for port in ports:
        stack.callback(port.close)
    return ports


@dataclass(frozen=True, slots=True)
class Plug:
    """One NIC: its server and the link below whatever wraps it."""

    server: VfioUserServer
    link: Any
    mac: bytes

    def counters(self) -> dict[str, int]:
        """Return the server's counters with the link's frames, which no guest can clear."""
        stats = self.link.stats
        return self.server.counters() | {
            "tx_frames": stats.tx_frames,
            "rx_frames": stats.rx_frames,
        }


def plug_in(
    sockets: Sequence[Path],
    links: Sequence[Any],
    macs: Sequence[bytes],
    clock: Any,
    stack: ExitStack,
    *,
    model: str = "82540EM",
    capture: Path | None = None,
    impair: dict[str, Any] | None = None,
    report: Callable[[str], None] | None = None,
    states: Sequence[Path] = (),
    **server_options: Any,
) -> list[Plug]:
    """Start a server for each socket; `stack` ends them.

    All write to one capture file, an interface each; all wires are impaired alike, each with a
    seed of its own. `states` are the files that the NICs' states live in while no server does.
    Raises: E1000Error.
    """
    from e1000emu.capture import PcapngWriter
    from e1000emu.embed.vfio_user.server import VfioUserServer
    from e1000emu.links import Capture, Impair

    if states and (len(states) != len(sockets) or len({*states}) != len(states)):
        raise ArgumentError(f"--state: {len(states)} files for {len(sockets)} --socket; one each")
    writer = stack.enter_context(PcapngWriter(capture)) if capture is not None else None
    plugs = []
    for number, (path, link, mac) in enumerate(zip(sockets, links, macs, strict=True)):
        top = link
        if impair is not None:
            seed = impair.get("seed", 0) + number
            top = Impair(top, clock=clock, **(impair | {"seed": seed}))
            stack.callback(top.close)
        if writer is not None:
            top = Capture(top, writer, clock=clock, name=f"nic{number}")
            stack.callback(top.close)
        server = VfioUserServer(
            path,
            link=top,
            clock=clock,
            model=model,
            mac=mac,
            report=report,
            state=states[number] if states else None,
            **server_options,
        )
        stack.callback(server.close)
        plugs.append(Plug(server, link, mac))
    return plugs


def greet(plugs: Sequence[Plug], model: str, spec: str, say: Callable[[str], None]) -> None:
    """Say what is offered, and what to paste where."""
    sockets = [plug.server.path for plug in plugs]
    for plug in plugs:
        say(f"{model} {plug.mac.hex(':')} on {spec}, listening at {plug.server.path}")
    say("QEMU 10.1 or newer, with your disk or kernel added:")
    say("  " + shlex.join(qemu_arguments(sockets)))
    say("Cloud Hypervisor, tried by its client library only:")
    say("  " + shlex.join(cloud_hypervisor_arguments(sockets)))
    if os.geteuid() == 0:
        user = os.environ.get("SUDO_USER", "USER")
        say("This server runs as root; to let another user's QEMU connect:")
        say("  " + shlex.join(["chown", user, *(os.fspath(path) for path in sockets)]))


def ready_event(plugs: Sequence[Plug], model: str, spec: str) -> dict[str, Any]:
    """Return the first line of --json: the sockets listen."""
    sockets = [plug.server.path for plug in plugs]
    return {
        "event": "ready",
        "pid": os.getpid(),
        "link": spec,
        "nics": [
            {
                "socket": os.fspath(plug.server.path.absolute()),
                "model": model,
                "mac": plug.mac.hex(":"),
            }
            for plug in plugs
        ],
        "qemu": qemu_arguments(sockets),
        "cloud_hypervisor": cloud_hypervisor_arguments(sockets),
    }


def counters_event(plugs: Sequence[Plug], name: str) -> dict[str, Any]:
    """Return a line of --json: the counters so far, summed and for each NIC."""
    each = [plug.counters() for plug in plugs]
    total = {key: sum(counters[key] for counters in each) for key in each[0]}
    nics = [
        {"socket": os.fspath(plug.server.path.absolute())} | counters
        for plug, counters in zip(plugs, each, strict=True)
    ]
    return {"event": name} | total | {"nics": nics}


def summary(counters: dict[str, Any]) -> str:
    """Return the counters that matter most, for people."""
    return (
        f"{counters['clients']} clients, {counters['messages']} messages, "
        f"{counters['interrupts']} interrupts; sent {counters['tx_frames']} frames, "
        f"received {counters['rx_frames']}"
    )


def live_rows(plugs: Sequence[Plug]) -> list[Row]:
    """Return what is shown while it serves: a row for each NIC."""
    rows: list[Row] = []
    for number, plug in enumerate(plugs):
        counters = plug.counters()
        shown = {
            "clients": counters["clients"],
            "messages/s": counters["messages"],
            "interrupts/s": counters["interrupts"],
            "sent/s": counters["tx_frames"],
            "received/s": counters["rx_frames"],
        }
        rows.append((f"nic{number}", shown))
    return rows


async def _until_signal(failure: Failure, read: Callable[[], Sequence[Row]]) -> None:
    with live_counters(read):
        await failure.stop.wait()
    failure.check()


@click.command("vfio-user")
@click.option(
    "--socket",
    "sockets",
    type=OUT_FILE,
    required=True,
    multiple=True,
    help="UNIX socket to listen at; QEMU connects to it. Repeated: one NIC each, on --link switch.",
)
@link_option(switch=True)
@model_option
@click.option(
    "--mac",
    "mac_texts",
    multiple=True,
    metavar="MAC",
    help=f"Address in the EEPROM, for each NIC or to count up from. [default: {DEFAULT_MAC}]",
)
@click.option(
    "--state",
    "states",
    type=OUT_FILE,
    multiple=True,
    help="Save the NIC's state here at the end, and go on from it at the start; one for each NIC.",
)
@click.option(
    "--busy-poll",
    type=click.IntRange(0, 1_000_000),
    default=BUSY_POLL_NS // 1000,
    show_default=True,
    metavar="US",
    help="Microseconds to look for a guest's next access before sleeping.",
)
@click.option(
    "--cpus",
    default=None,
    metavar="LIST",
    help="Processors for the server's threads, 1 or 2,3; with one, a single thread serves accesses "
    "and rings. [default: any]",
)
@autoneg_option(AUTONEG_NS / NANO)
@capture_option
@impair_option
@report_options
def command(
    sockets: tuple[Path, ...],
    link_spec: str,
    model: str,
    mac_texts: tuple[str, ...],
    states: tuple[Path, ...],
    busy_poll: int,
    cpus: str | None,
    autoneg_s: float,
    capture: Path | None,
    impair: dict[str, Any] | None,
    as_json: bool,
) -> None:
    """Offer a NIC over vfio-user until SIGINT or SIGTERM; a guest's own e1000 driver binds to it.

    Prints the command lines to paste. Clients come and go; each finds a NIC after reset.
    --link switch[:LINK] joins the NICs of several --socket, and LINK when given, by a switch.
    With --json standard output has one object a line: first "event": "ready" as soon as the
    sockets listen, last "event": "end" with the counters; what happens goes to standard error.
    With --state a client that goes finds the NIC as it left it, also behind a new server.
    SIGUSR1 shows the counters so far, with --json as "event": "counters"; on a terminal they stay
    in view.
    """
    from e1000emu import AsyncioClock
    from e1000emu.embed.vfio_user.caretaker import Caretaker

    macs = nic_macs(mac_texts, len(sockets))
    processors = None if cpus is None else parse_cpus(cpus)
    autoneg_ns = int(autoneg_s * NANO)

    def say(line: str) -> None:
        click.echo(line, err=as_json)
        (sys.stderr if as_json else sys.stdout).flush()

    with asyncio.Runner() as runner, ExitStack() as stack:
        failure = Failure()
        runner.get_loop().set_exception_handler(failure.handle)
        clock = AsyncioClock(runner.get_loop())
        links = open_links(link_spec, len(sockets), clock, stack, autoneg_ns=autoneg_ns)
        plugs = plug_in(
            sockets,
            links,
            macs,
            clock,
            stack,
            model=model,
            capture=capture,
            impair=impair,
            report=say,
            states=states,
            threads=True,
            busy_poll_ns=busy_poll * 1000,
            cpus=processors,
            autoneg_ns=autoneg_ns,
            caretaker=stack.enter_context(Caretaker()),
        )

        def show() -> None:
            result = counters_event(plugs, "counters")
            if as_json:
                emit_event(result)
            else:
                say(summary(result))

        # Before anybody can know of us: a signal ends a process that does not expect it.
        for number in (signal.SIGINT, signal.SIGTERM):
            runner.get_loop().add_signal_handler(number, failure.stop.set)
        runner.get_loop().add_signal_handler(signal.SIGUSR1, show)
        greet(plugs, model, link_spec, say)
        if as_json:
            emit_event(ready_event(plugs, model, link_spec))
        runner.run(_until_signal(failure, lambda: live_rows(plugs)))
        result = counters_event(plugs, "end")
    if as_json:
        emit_event(result)
    else:
        click.echo(summary(result))
