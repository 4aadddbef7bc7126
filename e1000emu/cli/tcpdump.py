"""`e1000emu tcpdump`: what crosses an interface of one of our hosts, or what a capture holds."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.addressing import Addressing, address_options
from e1000emu.cli.common import (
    StationOptions,
    autoneg_option,
    emit_event,
    only_once,
    report_options,
)
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.framelines import frame_line, hex_lines
from e1000emu.cli.linkspec import Link
from e1000emu.cli.params import OUT_FILE
from e1000emu.errors import E1000Error


class Lines:
    """Prints frames itself."""

    def __init__(self, *, link_level: bool, contents: bool) -> None:
        self._link_level = link_level
        self._contents = contents

    def put(self, record: Any, name: str) -> None:
        """Print one frame."""
        click.echo(frame_line(record, link_level=self._link_level))
        if self._contents:
            for line in hex_lines(record.data[14:]):
                click.echo(line)
        sys.stdout.flush()

    def close(self) -> None:
        """Nothing is open."""


class Objects:
    """Prints frames as JSON."""

    def put(self, record: Any, name: str) -> None:
        """Print one frame."""
        emit_event(
            {
                "ns": record.when_ns,
                "interface": name,
                "direction": ("", "in", "out")[record.direction],
                "length": record.length,
                "data": record.data.hex(),
            }
        )

    def close(self) -> None:
        """Nothing is open."""


class Capture:
    """Writes frames to a pcapng file, which may be a program's standard input."""

    def __init__(self, file: Any, program: subprocess.Popen[bytes] | None = None) -> None:
        from e1000emu.capture import PcapngWriter

        self._program = program
        self._writer = PcapngWriter(file)
        self._numbers: dict[str, int] = {}

    def put(self, record: Any, name: str) -> None:
        """Write one frame; flush it if a program shows it."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = self._writer.add_interface(name)
        self._writer.put_record(record, number)
        if self._program is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write the rest; a program reads the end of file, and ends."""
        self._writer.close()
        if self._program is not None:
            self._program.wait()


def printer(kind: str, *, link_level: bool, verbose: int, contents: bool, names: bool) -> Any:
    """Return the printer of frames: tcpdump if installed, else tshark, else our own lines."""
    if kind in ("auto", "tcpdump") and shutil.which("tcpdump"):
        words = ["tcpdump", "-l", "-r", "-", *["-v"] * verbose]
        words += ["-e"] * link_level + ["-X"] * contents + ["-n"] * (not names)
    elif ((kind == "auto" and not link_level) or kind == "tshark") and shutil.which("tshark"):
        words = ["tshark", "-l", "-r", "-", *["-V"] * bool(verbose)]
        words += ["-x"] * contents + ["-n"] * (not names)
    elif kind in ("auto", "own"):
        return Lines(link_level=link_level, contents=contents)
    else:
        raise ArgumentError(f"--print {kind}: it is not installed; apt-get install {kind}")
    program = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=sys.stdout,  # a file, with -o
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # SIGINT is for us; it ends when its input does
    )
    assert program.stdin is not None
    return Capture(program.stdin, program)


def from_file(path: Path, expression: str) -> Iterator[tuple[Any, str]]:
    """Yield the frames of a capture that match, with the name of an interface."""
    from e1000emu.capture import LINKTYPE_ETHERNET, read_capture
    from fastpath.base.bpf import bpf_filter, bpf_prog
    from stack.api.pcap import compile_filter

    prog = bpf_prog(compile_filter(expression)) if expression else None
    for record in read_capture(path):
        if record.linktype != LINKTYPE_ETHERNET:
            raise E1000Error(f"{path}: link type {record.linktype}; only Ethernet can be shown")
        if prog is None or bpf_filter(prog, record.data, record.length):
            yield record, f"if{record.interface}"


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the work as SIGINT does."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def from_link(at: StationOptions, make: Callable[[Any], Any]) -> Iterator[tuple[Any, str]]:
    """Yield the frames of a host that we put on a link; `make(host)` opens its Sniffer."""
    with at.blocking() as station, make(station.host) as sniffer:
        try:
            click.echo("listening; SIGINT or SIGTERM ends it", err=True)
            while True:
                record = sniffer.read()
                assert record is not None
                yield record, sniffer.interfaces[record.interface]
        finally:
            packets, drops = sniffer.statistics()
            click.echo(
                f"{sniffer.frames} frames shown, {packets} passed the filter, "
                f"{drops} dropped for want of room",
                err=True,
            )


@click.command()
@click.option(
    "--link",
    "link_spec",
    type=Link(switch=False),
    multiple=True,
    callback=lambda ctx, param, values: only_once(ctx, param, values) if values else None,
    metavar="LINK",
    help="Put a host of ours on this link, as `e1000emu up` does, and look at its interface.",
)
@address_options
@autoneg_option(0)
@click.option("-r", "source", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              metavar="FILE", help="Read frames of this pcap or pcapng file instead.")  # fmt: skip
@click.option("-i", "interface", default="any", metavar="NAME",
              help="Interface of the host: eth0, lo, any.")  # fmt: skip
@click.option("-n", "numeric", is_flag=True, help="Do not turn numbers into names.")
@click.option("-e", "link_level", is_flag=True, help="Show the link-level header.")
@click.option(
    "-v",
    "verbose",
    count=True,
    show_default=False,
    help="Show more detail (-vv, -vvv: still more); needs tcpdump or tshark.",
)
@click.option("-X", "contents", is_flag=True, help="Show the contents in hex and ASCII.")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", help="End after N frames.")
@click.option("-s", "snap", type=click.IntRange(0, 262144), metavar="BYTES",
              help="Keep this much of each frame; 0: all.")  # fmt: skip
@click.option("-Q", "direction", type=click.Choice(["in", "out", "inout"]), default="inout",
              help="Direction of the frames.")  # fmt: skip
@click.option("-w", "target", type=OUT_FILE, metavar="FILE",
              help="Write pcapng to this file and print nothing.")  # fmt: skip
@click.option("--print", "show", type=click.Choice(["auto", "tcpdump", "tshark", "own"]),
              default="auto", help="Program that prints the lines.")  # fmt: skip
@report_options
@click.argument("expression", nargs=-1)
def command(
    link_spec: str | None,
    own: Addressing,
    autoneg_ns: int,
    source: Path | None,
    interface: str,
    numeric: bool,
    link_level: bool,
    verbose: int,
    contents: bool,
    count: int | None,
    snap: int | None,
    direction: str,
    target: Path | None,
    show: str,
    as_json: bool,
    expression: tuple[str, ...],
) -> None:
    """Show the frames that match EXPRESSION, in tcpdump's language, on a host of ours.

    The host's own AF_PACKET socket reads them; libpcap compiles the expression. tcpdump prints the
    lines where it is installed, else tshark, else a short printer of ours. With --json each frame
    is an object on a line of its own.
    """
    from e1000emu.cli.sniffer import Sniffer

    if (link_spec is None) == (source is None):
        raise ArgumentError("give --link LINK for a host of ours, or -r FILE for a capture")
    text = " ".join(expression)

    def make(host: Any) -> Sniffer:
        return Sniffer(
            host,
            text,
            interface=None if interface == "any" else interface,
            direction=direction,
            snap_bytes=snap or 262144,
        )

    frames = (
        from_file(source, text)
        if source is not None
        else from_link(StationOptions(str(link_spec), own, autoneg_ns), make)
    )
    out: Any = None
    seen = 0
    try:
        with stopped_by_sigterm():
            for record, name in frames:
                if out is None:
                    if target is not None:
                        out = Capture(target.open("wb"))
                    elif as_json:
                        out = Objects()
                    else:
                        out = printer(show, link_level=link_level, verbose=verbose,
                                      contents=contents, names=not numeric)  # fmt: skip
                out.put(record, name)
                seen += 1
                if count is not None and seen >= count:
                    break
    except KeyboardInterrupt:
        pass
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()
        if out is None and target is not None:
            out = Capture(target.open("wb"))
        if out is not None:
            out.close()
