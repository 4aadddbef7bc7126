"""`e1000emu vfio-user`: our NIC as a PCI device of QEMU, or of any other vfio-user client."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import (
    capture_option,
    emit_json,
    impair_option,
    json_option,
    link_option,
    open_link,
    parse_impair,
)
from e1000emu.errors import E1000Error

__all__ = ["command", "parse_mac", "qemu_arguments"]

DEFAULT_MAC = "52:54:00:12:34:56"


def parse_mac(text: str) -> bytes:
    """Turn `52:54:00:12:34:56` into six bytes; raises E1000Error with the remedy."""
    parts = text.replace("-", ":").split(":")
    try:
        if any(len(part) != 2 for part in parts):
            raise ValueError
        mac = bytes(int(part, 16) for part in parts)
    except ValueError:
        mac = b""
    if len(mac) != 6 or mac[0] & 1 or not any(mac):
        raise E1000Error(f"--mac {text!r}: not a unicast address; write for instance {DEFAULT_MAC}")
    return mac


def qemu_arguments(socket_path: Path, ram: str = "1G") -> list[str]:
    """Return what QEMU 10.1 or newer needs beside its disks: shared RAM and the device."""
    device = {
        "driver": "vfio-user-pci",
        "socket": {"type": "unix", "path": os.fspath(socket_path.absolute())},
    }
    return [
        "qemu-system-x86_64",
        "-m",
        ram,
        "-object",
        f"memory-backend-memfd,id=mem,share=on,size={ram}",
        "-machine",
        "pc,memory-backend=mem",
        "-device",
        json.dumps(device, separators=(",", ":")),
    ]


async def _until_signal() -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()


@click.command("vfio-user")
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="UNIX socket to listen at; QEMU connects to it.",
)
@link_option
@click.option("--model", default="82540EM", show_default=True, help="Which part to be.")
@click.option(
    "--mac", "mac_text", default=DEFAULT_MAC, show_default=True, help="Address in the EEPROM."
)
@capture_option
@impair_option
@json_option
def command(
    socket_path: Path,
    link_spec: str,
    model: str,
    mac_text: str,
    capture: Path | None,
    impair: str | None,
    as_json: bool,
) -> None:
    """Offer a NIC over vfio-user until SIGINT or SIGTERM; a guest's own e1000 driver binds to it.

    Prints the QEMU command line to paste. Clients come and go; each finds a NIC after reset. With
    --json the counters are printed at the end, and what happens goes to standard error.
    """
    from e1000emu import AsyncioClock
    from e1000emu.embed.vfio_user.server import VfioUserServer
    from e1000emu.links import Capture, Impair

    mac = parse_mac(mac_text)
    options = parse_impair(impair) if impair else None

    def say(line: str) -> None:
        click.echo(line, err=as_json)
        (sys.stderr if as_json else sys.stdout).flush()

    with asyncio.Runner() as runner:
        clock = AsyncioClock(runner.get_loop())
        link: Any = open_link(link_spec, clock)
        layers = [link]
        try:
            if options is not None:
                link = Impair(link, clock=clock, **options)
                layers.insert(0, link)
            if capture is not None:
                link = Capture(link, capture, clock=clock)
                layers.insert(0, link)
            with VfioUserServer(
                socket_path, link=link, clock=clock, model=model, mac=mac, report=say
            ) as server:
                say(f"{model} {mac.hex(':')} on {link_spec}, listening at {socket_path}")
                say("QEMU 10.1 or newer, with your disk or kernel added:")
                say("  " + shlex.join(qemu_arguments(socket_path)))
                runner.run(_until_signal())
                # The NIC's own counters are the guest's to clear; the link's are not.
                stats = layers[-1].stats
                counters = server.counters() | {
                    "tx_frames": stats.tx_frames,
                    "rx_frames": stats.rx_frames,
                }
        finally:
            for layer in layers:
                close = getattr(layer, "close", None)
                if close is not None:
                    close()
    if as_json:
        emit_json(counters)
    else:
        click.echo(
            f"{counters['clients']} clients, {counters['messages']} messages, "
            f"{counters['interrupts']} interrupts; sent {counters['tx_frames']} frames, "
            f"received {counters['rx_frames']}"
        )
