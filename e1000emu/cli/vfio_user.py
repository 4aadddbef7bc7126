"""`e1000emu vfio-user`: our NICs as PCI devices of QEMU, or of any other vfio-user client."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import emit_event, link_option
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.explain import lines
from e1000emu.cli.live import Row, live_counters
from e1000emu.cli.params import OUT_FILE, Duration
from e1000emu.cli.plugs import DEFAULT_MAC, Plug, nic_macs, nic_options, open_links, plug_in
from e1000emu.cli.signals import end_cleanly_before_serving, handle_signals
from e1000emu.cli.up import Failure
from e1000emu.cli.wake import WAKE, Wake, Waker
from e1000emu.device.eepromfile import eeprom_bytes, eeprom_doubts, words_of
from e1000emu.device.flash import flash_size_code
from e1000emu.device.interrupts import MODERATIONS
from e1000emu.embed.vfio_user.beside import BUSY_POLL_NS
from e1000emu.errors import E1000Error
from e1000emu.guest.image import QEMU, find_qemu
from e1000emu.insight.faults import Faults
from e1000emu.quantities import show_duration
from e1000emu.registers.models import MODELS


def qemu_program() -> tuple[list[str], str]:
    """Return the command of a QEMU with vfio-user-pci, and a note on it."""
    try:
        found = find_qemu()
    except E1000Error:  # $E1000EMU_QEMU names another
        found = None
    if found is not None:
        return [QEMU if found.origin == shutil.which(QEMU) else found.origin], found.version
    own = ["e1000emu"] if shutil.which("e1000emu") else [sys.executable, "-m", "e1000emu"]
    return [*own, "qemu", "--"], ""


def qemu_arguments(
    sockets: Sequence[Path], ram: str = "1G", program: Sequence[str] = (QEMU,)
) -> list[str]:
    """Return the options of QEMU 10.1 or newer besides its disks: shared RAM and the devices.

    Without `-nic none` it adds an e1000 of its own, which the guest finds first.
    """
    words = [*program, "-m", ram]
    words += ["-object", f"memory-backend-memfd,id=mem,share=on,size={ram}"]
    words += ["-machine", "pc,memory-backend=mem", "-nic", "none"]
    for path in sockets:
        device = {
            "driver": "vfio-user-pci",
            "socket": {"type": "unix", "path": os.fspath(path.absolute())},
        }
        words += ["-device", json.dumps(device, separators=(",", ":"))]
    return words


def cloud_hypervisor_arguments(sockets: Sequence[Path]) -> list[str]:
    """Return Cloud Hypervisor's options besides kernel and disks (its docs/vfio-user.md)."""
    words = ["cloud-hypervisor", "--memory", "size=1G,shared=on", "--user-device"]
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


def read_flash(path: Path) -> bytes:
    """Return a file's contents, for a boot flash.  Raises: E1000Error."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArgumentError(f"--flash {path}: cannot be read: {error.strerror}") from None
    flash_size_code(data)
    return data


def read_eeprom(path: Path, model: str, say: Callable[[str], None]) -> bytes:
    """Return the raw image in a file; report what a driver will not expect.  Raises: E1000Error."""
    try:
        image = eeprom_bytes(path.read_bytes())
    except OSError as error:
        raise ArgumentError(f"--eeprom {path}: cannot be read: {error.strerror}") from None
    except E1000Error as error:
        raise ArgumentError(f"--eeprom {path}: {error}") from None
    for doubt in eeprom_doubts(words_of(image), MODELS[model]):
        say(f"--eeprom {path}: {doubt}")
    return image


def greet(
    plugs: Sequence[Plug],
    model: str,
    spec: str,
    say: Callable[[str], None],
    program: Sequence[str],
    version: str,
) -> None:
    """Print what is offered, and the commands to paste."""
    sockets = [plug.server.path for plug in plugs]
    for plug in plugs:
        say(f"{model} {plug.mac.hex(':')} on {spec}, listening at {plug.server.path}")
    if version:
        say(f"QEMU {version}, with your disk or kernel added:")
    else:
        say("No QEMU installed here has vfio-user-pci (10.1 or newer has).")
        say("`e1000emu qemu` fetches one; with your disk or kernel added:")
    say("  " + shlex.join(qemu_arguments(sockets, program=program)))
    say("Cloud Hypervisor, tried by its client library only:")
    say("  " + shlex.join(cloud_hypervisor_arguments(sockets)))
    if os.geteuid() == 0:
        user = os.environ.get("SUDO_USER", "USER")
        say("This server runs as root; to let another user's QEMU connect:")
        say("  " + shlex.join(["chown", user, *(os.fspath(path) for path in sockets)]))


def ready_event(
    plugs: Sequence[Plug], model: str, spec: str, program: Sequence[str]
) -> dict[str, Any]:
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
        "qemu": qemu_arguments(sockets, program=program),
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


def _say(as_json: bool, line: str) -> None:
    click.echo(line, err=as_json)
    (sys.stderr if as_json else sys.stdout).flush()


def _show(plugs: Sequence[Plug], as_json: bool) -> None:
    """Show the counters so far (SIGUSR1)."""
    result = counters_event(plugs, "counters")
    if as_json:
        emit_event(result)
    else:
        _say(False, summary(result))


def _explain(plugs: Sequence[Plug], as_json: bool) -> None:
    """Say why frames or interrupts do not move (SIGUSR2)."""
    reports = [{"socket": os.fspath(p.server.path.absolute())} | p.explain() for p in plugs]
    if as_json:
        emit_event({"event": "explain", "nics": reports})
        return
    for found in reports:
        for line in lines(found):
            _say(False, line)


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
    "--record",
    "records",
    type=OUT_FILE,
    multiple=True,
    help="Write all that crosses the NIC's ports here, for `e1000emu replay`; one for each NIC.",
)
@click.option(
    "--flash",
    "flash_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the boot flash of each NIC holds, an option ROM; the guest's writes to it go into "
    "--state, not into the file. [default: no flash]",
)
@click.option(
    "--eeprom",
    "eeprom_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the EEPROM of each NIC holds: what `ethtool -e eth0` prints, or writes with "
    "`raw on`. --mac, --flash and --wide-bars change it; with several --socket the addresses "
    "count up. [default: a new board's]",
)
@click.option(
    "--wide-bars",
    is_flag=True,
    help="Memory windows of 64 bits, which firmware may place above 4 GiB: the EEPROM of each NIC "
    "has ICW1.BAR32 clear.",
)
@click.option(
    "--busy-poll",
    "busy_poll_ns",
    type=Duration(0, 10**9),
    default=show_duration(BUSY_POLL_NS),
    help="How long to look for a guest's next access before sleeping.",
)
@click.option(
    "--pace",
    type=click.Choice(["link"]),
    help="link: frames take their time at the speed and duplex that the driver has negotiated. "
    "[default: as fast as they can]",
)
@click.option(
    "--wake",
    "wakes",
    type=WAKE,
    multiple=True,
    help="Wake the sleeping guest when its NIC asserts PME#: over QMP by the socket of QEMU's "
    "option -qmp unix:PATH,server=on,wait=off, or by a shell's command. One, or one for each NIC.",
)
@click.option(
    "--moderation",
    type=click.Choice(MODERATIONS),
    default="adaptive",
    help="How interrupts are held back: by the datasheet's timers alone, or until one brings much.",
)
@click.option(
    "--cpus",
    metavar="LIST",
    help="Processors for the server's threads, 1 or 2,3; with one, a single thread serves accesses "
    "and rings. [default: any]",
)
@nic_options
def command(
    sockets: tuple[Path, ...],
    link_spec: str,
    model: str,
    mac_texts: tuple[str, ...],
    states: tuple[Path, ...],
    records: tuple[Path, ...],
    flash_path: Path | None,
    eeprom_path: Path | None,
    wide_bars: bool,
    busy_poll_ns: int,
    pace: str | None,
    wakes: tuple[Wake, ...],
    moderation: str,
    cpus: str | None,
    autoneg_ns: int,
    capture: Path | None,
    impair: dict[str, Any] | None,
    faults: Faults | None,
    as_json: bool,
) -> None:
    """Offer a NIC over vfio-user until SIGINT, SIGTERM or SIGHUP; a guest's own e1000 driver binds.

    Prints the command lines to paste. Clients may reconnect; each gets a NIC after reset.
    --link switch[:LINK] joins the NICs of several --socket, and LINK when given, by a switch.
    With --json standard output has one object a line: first "event": "ready" as soon as the
    sockets listen, last "event": "end" with the counters. Messages go to standard error.
    With --state a client that reconnects gets the NIC as it left it, also from a new server.
    SIGUSR1 shows the counters so far, with --json as "event": "counters"; on a terminal they stay
    in view. SIGUSR2 says why frames or interrupts do not move, with --json as "event": "explain".
    """
    from e1000emu import AsyncioClock
    from e1000emu.embed.vfio_user.caretaker import Caretaker

    end_cleanly_before_serving()
    if len(wakes) not in (0, 1, len(sockets)):
        raise ArgumentError(f"--wake: {len(wakes)} for {len(sockets)} --socket; one, or one each")
    wakes = wakes * len(sockets) if len(wakes) == 1 else wakes
    processors = None if cpus is None else parse_cpus(cpus)

    say = partial(_say, as_json)
    eeprom = None if eeprom_path is None else read_eeprom(eeprom_path, model, say)
    macs: Sequence[bytes | None] = [None]
    if eeprom is None or mac_texts or len(sockets) > 1:
        first = DEFAULT_MAC if eeprom is None else eeprom[:6].hex(":")
        macs = nic_macs(mac_texts, len(sockets), first)
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
            faults=faults,
            report=say,
            states=states,
            records=records,
            flash=None if flash_path is None else read_flash(flash_path),
            eeprom=eeprom,
            pace=pace is not None,
            wide_bars=wide_bars,
            threads=True,
            busy_poll_ns=busy_poll_ns,
            on_pmes=[Waker(how, runner.get_loop(), say).pme for how in wakes],
            moderation=moderation,
            cpus=processors,
            autoneg_ns=autoneg_ns,
            caretaker=stack.enter_context(Caretaker()),
        )
        # First, because a signal would end the process as soon as others know of it.
        shows = {
            signal.SIGUSR1: partial(_show, plugs, as_json),
            signal.SIGUSR2: partial(_explain, plugs, as_json),
        }
        handle_signals(runner.get_loop(), failure.stop.set, shows)
        program, version = qemu_program()
        greet(plugs, model, link_spec, say, program, version)
        if as_json:
            emit_event(ready_event(plugs, model, link_spec, program))
        runner.run(_until_signal(failure, lambda: live_rows(plugs)))
        result = counters_event(plugs, "end")
    if as_json:
        emit_event(result)
    else:
        click.echo(summary(result))
