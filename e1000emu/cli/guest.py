"""`e1000emu guest`: a Linux guest in QEMU, whose network card is ours."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.addressing import check_gateways
from e1000emu.cli.common import emit_json, link_option, open_output
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.params import CIDR, IP, Address, Duration, Interface
from e1000emu.cli.plugs import DEFAULT_MAC, nic_options, open_links, parse_mac, plug_in
from e1000emu.cli.up import Failure
from e1000emu.errors import E1000Error
from e1000emu.guest.image import KERNELS, SUITE
from e1000emu.insight.faults import Faults
from e1000emu.quantities import show_duration

if TYPE_CHECKING:
    from e1000emu.guest import Completed, GuestImage, GuestLinux

DEFAULT_LINK = "stack:10.9.0.1/24,serve=echo:7+http:80"
DEFAULT_ADDR = "10.9.0.2/24"
INTERFACE = "eth0"
POLL_S = 0.3
"""The interval of reading a running command's output."""


class _Stopped(Exception):
    """A signal ended it; the argument is the status to end with, as a shell has it."""


def setup_commands(addrs: Sequence[Interface], gws: Sequence[Address]) -> str:
    """Return what configures the interface in the guest and waits, at most 20 s, for its link."""
    lines = [f"ip addr add {addr} dev {INTERFACE}" for addr in addrs]
    lines.append(f"ip link set {INTERFACE} up")
    lines.append(
        f'for i in $(seq 100); do [ "$(cat /sys/class/net/{INTERFACE}/carrier)" = 1 ] && break; '
        "sleep 0.2; done"
    )
    lines += [f"ip -{gw.version} route add default via {gw} dev {INTERFACE}" for gw in gws]
    return "\n".join(lines)


def describe(image: GuestImage, seconds: float) -> dict[str, Any]:
    """Return what was prepared, for --json."""
    return {
        "kernel": str(image.kernel),
        "release": image.release,
        "initrd": str(image.initrd),
        "qemu": list(image.qemu.command),
        "qemu_version": image.qemu.version,
        "qemu_origin": image.qemu.origin,
        "packages": list(image.packages),
        "seconds": round(seconds, 1),
    }


def _ready(image: GuestImage, seconds: float) -> str:
    """Return what was prepared, for people."""
    return (
        f"Linux {image.release} for QEMU {image.qemu.version} ({image.qemu.origin}), "
        f"ready after {seconds} s in {image.kernel.parent.parent}"
    )


def _until_done(guest: GuestLinux, text: str, timeout_ns: int, show: bool) -> Completed:
    """Run a command to its end; what it writes is shown as it comes."""
    job = guest.spawn(text)
    deadline = time.monotonic() + timeout_ns / 1e9
    out = open_output(None) if show else None
    shown = 0

    def write(output: bytes) -> None:
        nonlocal shown
        if out is not None and output:
            out.write(output)
            out.flush()
            shown += len(output)

    while job.completed is None and not job.lost:
        if time.monotonic() > deadline:
            raise E1000Error(
                f"guest: {text!r} runs for more than {show_duration(timeout_ns)}; "
                "--timeout allows more"
            )
        time.sleep(POLL_S)
        guest.check()
        if show:
            write(job.output(shown))
    completed = job.wait()
    write(completed.output[shown:])
    return completed


@click.command()
@link_option(default=DEFAULT_LINK)
@click.option(
    "--addr",
    "addrs",
    type=CIDR,
    multiple=True,
    default=[DEFAULT_ADDR],
    help="The guest's address, of either family; may be repeated.",
)
@click.option(
    "--gw", "gws", type=IP, multiple=True, help="The guest's default gateway; one for each family."
)
@click.option("--run", "text", metavar="COMMAND", help="Run this in the guest, and end with it.")
@click.option(
    "--timeout", "timeout_ns", type=Duration(10**9), default="1h", help="Longest time for --run."
)
@click.option("--prepare-only", is_flag=True, help="Make the guest's image, and do not boot it.")
@click.option(
    "--kernel",
    type=click.Choice(KERNELS),
    default=SUITE,
    help="Debian suite whose kernel to boot.",
)
@click.option("--refresh", is_flag=True, help="Fetch the packages again, even if they are cached.")
@click.option(
    "--qemu",
    type=click.Path(dir_okay=False),
    help="Which qemu-system-x86_64 to use (10.1 or newer).  [default: the installed one, or "
    "Debian's newest, fetched]",
)
@click.option("--mac", default=DEFAULT_MAC, help="Address in the EEPROM.")
@nic_options
def command(
    link_spec: str,
    addrs: tuple[Interface, ...],
    gws: tuple[Address, ...],
    text: str | None,
    timeout_ns: int,
    prepare_only: bool,
    kernel: str,
    refresh: bool,
    qemu: str | None,
    model: str,
    mac: str,
    autoneg_ns: int,
    capture: Path | None,
    impair: dict[str, Any] | None,
    faults: Faults | None,
    as_json: bool,
) -> None:
    """Boot a stock Debian Linux in QEMU on our NIC: a shell in it, or one command by --run.

    Kernel, tools and, where the installed one is too old, QEMU come from Debian's packages; they
    are kept in the user's cache ($E1000EMU_GUEST_CACHE), and nothing of it needs root.
    """
    from e1000emu.guest import prepare

    def say(line: str) -> None:
        click.echo(f"guest: {line}", err=True)

    address = parse_mac(mac)
    check_gateways(gws, addrs)
    if qemu is not None and shutil.which(qemu) is None:
        raise ArgumentError(f"--qemu {qemu}: no such program; give a qemu-system-x86_64")
    if text is None and not prepare_only and not (sys.stdin and sys.stdin.isatty()):
        raise ArgumentError("standard input is no terminal for a shell; give a command by --run")
    started = time.monotonic()
    image = prepare(qemu=qemu, kernel=kernel, refresh=refresh, say=say)
    report: dict[str, Any] = describe(image, time.monotonic() - started)
    if prepare_only:
        if as_json:
            emit_json(report)
        else:
            click.echo(_ready(image, report["seconds"]))
        return
    with asyncio.Runner() as runner, ExitStack() as stack:
        failure = Failure()
        runner.get_loop().set_exception_handler(failure.handle)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e1000emu-")))
        from e1000emu import AsyncioClock

        clock = AsyncioClock(runner.get_loop())
        link = open_links(link_spec, 1, clock, stack, autoneg_ns=autoneg_ns)
        plugs = plug_in(
            [directory / "nic"],
            link,
            [address],
            clock,
            stack,
            model=model,
            capture=capture,
            impair=impair,
            faults=faults,
            autoneg_ns=autoneg_ns,
            threads=True,
            report=lambda line: None,
        )
        session = _Session(
            image=image,
            socket=plugs[0].server.path,
            setup=setup_commands(addrs, gws),
            text=text,
            timeout_ns=timeout_ns,
            failure=failure,
            say=say,
            show=not as_json,
        )
        try:
            completed = runner.run(session.run())
        except _Stopped as stopped:
            sys.exit(stopped.args[0])
        report |= plugs[0].counters()
    if as_json:
        if completed is not None:
            report |= {
                "command": completed.command,
                "returncode": completed.returncode,
                "output": completed.stdout,
            }
        emit_json(report)
    if completed is not None:
        sys.exit(completed.returncode)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    """One boot: the guest's task, and the output to report to."""

    image: GuestImage
    socket: Path
    setup: str
    text: str | None
    """The command; None for a shell on this terminal."""
    timeout_ns: int
    failure: Failure
    say: Callable[[str], None]
    show: bool

    async def run(self) -> Completed | None:
        """Boot, run it and power off.  Returns the command's result, None for a shell."""
        return await (self._interactive() if self.text is None else self._command(self.text))

    async def _command(self, text: str) -> Completed:
        """Boot, configure, run one command, power off."""
        from e1000emu.guest import GuestLinux, VfioUserNic

        self.say(f"booting Linux {self.image.release}")
        guest = GuestLinux(self.image, nic=VfioUserNic(self.socket), wait=False)
        try:

            def work() -> Completed:
                guest.wait_boot()
                guest.run(self.setup).check()
                completed = _until_done(guest, text, self.timeout_ns, self.show)
                guest.shutdown()
                return completed

            return await _or_stopped(asyncio.to_thread(work), guest, self.failure)
        finally:
            guest.close()

    async def _interactive(self) -> None:
        """Boot with a shell on this terminal and wait for the end of it."""
        from e1000emu.guest import GuestLinux, VfioUserNic

        release = self.image.release
        self.say(f"booting Linux {release}; `exit` switches it off, Ctrl-A X ends QEMU at once")
        columns, rows = shutil.get_terminal_size()
        setup = f"{self.setup}\nstty -F /dev/ttyS0 rows {rows} cols {columns}\n"
        setup += f"echo {shlex.quote(f'{INTERFACE} is our NIC')}"
        nic = VfioUserNic(self.socket)
        guest = GuestLinux(self.image, nic=nic, setup=setup, interactive=True)
        try:
            code = await _or_stopped(asyncio.to_thread(guest.wait_end), guest, self.failure)
            if code:
                raise E1000Error(f"guest: QEMU ended with {code}: {guest.qemu_messages()}")
        finally:
            guest.close()


async def _or_stopped(work: Any, guest: GuestLinux, failure: Failure) -> Any:
    """Await `work`, which runs in a thread; SIGINT, SIGTERM or a broken link ends the guest."""
    loop = asyncio.get_running_loop()
    numbers: list[int] = []

    def signalled(number: int) -> None:
        numbers.append(number)
        failure.stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled, number)
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(failure.stop.wait())
    await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        stop.cancel()
        return task.result()
    guest.close()
    await asyncio.wait([task])
    task.exception()
    failure.check()
    raise _Stopped(128 + numbers[0])
