"""`e1000emu record`: a NIC's whole life under our driver, written down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.common import emit_json, faults_option, report_options
from e1000emu.cli.params import OUT_FILE, Size
from e1000emu.cli.plugs import model_option
from e1000emu.errors import E1000Error
from e1000emu.insight.faults import Faults

A, B = "10.0.0.1", "10.0.0.2"
ECHOES = 20


def _pieces(total_bytes: int) -> list[memoryview | None]:
    """Return what a stream sends, last first: all of it, and the end."""
    return [None, memoryview(bytes(range(256)) * (total_bytes // 256 + 1))[:total_bytes]]


def _forget(piece: memoryview) -> None:
    """Take what came."""


def live(
    path: Path, *, model: str = "82540EM", total_bytes: int = 1 << 20, faults: Faults | None = None
) -> dict[str, Any]:
    """Record a NIC to `path`: probe, link, UDP, TCP both ways, self-test, down, unplugged.

    Faults may lose datagrams; TCP sends again.
    Returns: the number of events, whether the self-test passed, UDP echoes that were answered,
    bytes that TCP moved, and what stopped it, None if nothing did.
    Raises: RecordingError; OSError when a fault keeps the driver from probing.
    """
    from e1000emu.clock import VirtualClock
    from e1000emu.lab import add_nic, mac_address, pump
    from e1000emu.links import pair
    from e1000emu.record.recorder import Recorder
    from stack.core.ethtool import ethtool_self_test
    from stack.host import Host
    from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server

    clock = VirtualClock()
    ends = pair(clock)
    with (
        Recorder(path) as recorder,
        Host(name="a", clock=clock) as a,
        Host(name="b", clock=clock) as b,
    ):
        nic = add_nic(
            a,
            ends[0],
            mac=mac_address(1),
            addr=f"{A}/24",
            model=model,
            wait=False,
            record=recorder,
            faults=faults,
        )
        add_nic(b, ends[1], mac=mac_address(2), addr=f"{B}/24", wait=False)
        moved = echoed = 0
        stopped = None
        try:
            if not (a.wait_carrier("eth0") and b.wait_carrier("eth0")):
                raise E1000Error("record: there is no link")
            with Socket(a, AF_INET, SOCK_DGRAM) as near, Socket(b, AF_INET, SOCK_DGRAM) as far:
                far.bind((B, 7))
                far.settimeout(5)
                near.settimeout(5)
                for number in range(ECHOES):
                    try:
                        near.sendto(bytes([number]) * (1 + 60 * number), (B, 7))
                        data, source = far.recvfrom(2048)
                        far.sendto(data, source)
                        near.recv(2048)
                        echoed += 1
                    except TimeoutError:
                        if faults is None:
                            raise
            listener = create_server(b, (B, 5001))
            client = create_connection(a, (B, 5001))
            server, _ = listener.accept()
            for sender, receiver in ((client, server), (server, client)):
                moved += pump(sender, receiver, _pieces(total_bytes).pop, _forget)
            for sock in (client, server, listener):
                sock.close()
        except OSError as error:
            if faults is None:
                raise
            stopped = os.strerror(error.errno or 0)
        passed, _ = ethtool_self_test(a.dev("eth0"))
        a.ifconfig("eth0", up=False)
        nic.halt()
    return {
        "events": recorder.events,
        "self_test": passed,
        "udp_echoes": echoed,
        "tcp_bytes": moved,
        "stopped": stopped,
        "file": str(path),
    }


@click.command()
@click.argument("file", type=OUT_FILE)
@click.option("--bytes", "total", type=Size(1), default="1M", help="TCP data, in each direction.")
@model_option
@faults_option
@report_options
def command(file: Path, total: int, model: str, faults: Faults | None, as_json: bool) -> None:
    """Record a NIC's whole life under our own driver to FILE: probe, traffic, self-test, removal.

    `vfio-user --record` records the NIC of a virtual machine, `Nic(record=Recorder(path))` any
    other. `e1000emu replay FILE` replays it.
    """
    found = live(file, model=model, total_bytes=total, faults=faults)
    if as_json:
        emit_json(found)
    else:
        test = "passed" if found["self_test"] else "failed"
        click.echo(
            f"{file}: {found['events']:,} events, {found['udp_echoes']} of {ECHOES} UDP echoes, "
            f"{found['tcp_bytes']:,} bytes by TCP, self-test {test}"
        )
    if found["stopped"] is not None:
        raise E1000Error(
            f"record: the faults stopped TCP after {found['tcp_bytes']:,} of {2 * total:,} bytes: "
            f"{found['stopped']}; {file} can be replayed all the same"
        )
