"""NICs of ours with their links and servers: used by `vfio-user` and `guest`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from e1000emu.cli.common import (
    autoneg_option,
    capture_option,
    faults_option,
    impair_option,
    report_options,
)
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.explain import report
from e1000emu.cli.linkspec import SWITCH, check_link, open_link
from e1000emu.cli.stackhost import StackHost
from e1000emu.device.phy import AUTONEG_NS
from e1000emu.registers.models import MODELS, mac_of

if TYPE_CHECKING:
    from e1000emu.device.wakeup import PmeCallback
    from e1000emu.embed.vfio_user.server import VfioUserServer

DEFAULT_MAC = "52:54:00:12:34:56"

model_option = click.option(
    "--model", type=click.Choice(list(MODELS)), default="82540EM", help="Part number of the NIC."
)


def nic_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that offers NICs `--model` and the options of cable, hardware and report."""
    run = capture_option(impair_option(faults_option(report_options(command))))
    return model_option(autoneg_option(AUTONEG_NS)(run))


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


def nic_macs(texts: Sequence[str], count: int, first: str = DEFAULT_MAC) -> list[bytes]:
    """Return `count` addresses: those given, or counted up from the one that is, or from `first`.

    The vendor's half stays. Raises: ArgumentError for another number of them, or one given twice.
    """
    macs = [parse_mac(text) for text in texts or (first,)]
    if len(macs) == 1:
        vendor, lowest = macs[0][:3], int.from_bytes(macs[0][3:], "big")
        macs = [vendor + (lowest + n & 0xFFFFFF).to_bytes(3, "big") for n in range(count)]
    if len(macs) != count:
        raise ArgumentError(
            f"--mac: {len(macs)} addresses for {count} --socket; give one for each, or one to "
            "count up from"
        )
    for mac in macs:
        if macs.count(mac) > 1:
            raise ArgumentError(f"--mac {mac.hex(':')}: given twice; each NIC needs its own")
    return macs


def open_links(
    spec: str, count: int, clock: Any, stack: ExitStack, *, autoneg_ns: int = AUTONEG_NS
) -> list[Any]:
    """Open the `count` links of `spec`; `stack` closes them.

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
    """One NIC: its server and the innermost link."""

    server: VfioUserServer
    link: Any

    @property
    def mac(self) -> bytes:
        """The address in its EEPROM."""
        return mac_of(self.server.nic.eeprom.words)

    def explain(self) -> dict[str, Any]:
        """Return why the NIC does not move (`e1000emu explain hang`)."""
        self.server.catch_up()
        with self.server.guard:
            return report(self.server.nic)

    def counters(self) -> dict[str, int]:
        """Return the server's counters with the link's frames, which no guest can clear."""
        stats = self.link.stats
        return self.server.counters() | {"tx_frames": stats.tx_frames, "rx_frames": stats.rx_frames}


def plug_in(
    sockets: Sequence[Path],
    links: Sequence[Any],
    macs: Sequence[bytes | None],
    clock: Any,
    stack: ExitStack,
    *,
    model: str = "82540EM",
    capture: Path | None = None,
    impair: dict[str, Any] | None = None,
    report: Callable[[str], None] | None = None,
    states: Sequence[Path] = (),
    records: Sequence[Path] = (),
    on_pmes: Sequence[PmeCallback] = (),
    **server_options: Any,
) -> list[Plug]:
    """Start a server for each socket; `stack` ends them.

    All write to one capture file, an interface each; all wires are impaired alike, each with a
    seed of its own. `states` are the files that keep the NICs' states between servers, `records`
    those that record the NICs' ports; each of `on_pmes` is called for its NIC's PME#.
    Raises: E1000Error.
    """
    from e1000emu.capture import PcapngWriter
    from e1000emu.embed.vfio_user.server import VfioUserServer
    from e1000emu.links import Capture, Impair

    for option, files in (("--state", states), ("--record", records)):
        if files and (len(files) != len(sockets) or len({*files}) != len(files)):
            raise ArgumentError(
                f"{option}: {len(files)} files for {len(sockets)} --socket; one each"
            )
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
            record=records[number] if records else None,
            on_pme=on_pmes[number] if on_pmes else None,
            **server_options,
        )
        stack.callback(server.close)
        plugs.append(Plug(server, link))
    return plugs
