"""What `--serve` and `stack:…,serve=` name: the services of `e1000emu.cli.services`, with ports."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.errors import ArgumentError, did_you_mean
from e1000emu.cli.params import Duration, Parsed
from e1000emu.quantities import SECOND_NS

NAMES = ("echo", "http", "discard", "chargen", "iperf3", "dhcp")
IPERF3_PORT = 5201
DHCP_PORT = 67


@dataclass(slots=True)
class Service:
    """One entry of --serve, with its counters."""

    name: str
    port: int
    root: Path | None = None
    addresses: str = ""
    """The range that dhcp gives out."""
    lease_s: int = 3600
    connections: int = 0
    active: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    requests: int = 0
    sockets: list[Any] = field(default_factory=list)
    dhcpd: Any = None
    """The DHCP server, while it runs."""

    def count(self) -> None:
        """Bring the counters up to date: `connections` counts dhcp's leases, `active`
        the current ones."""
        if self.dhcpd is not None:
            core = self.dhcpd.core
            self.connections = core.messages["ACK"]
            self.active = len(core.leases(self.dhcpd.net.now()))


def parse_serve(text: str) -> list[Service]:
    """Parse `echo:7,http:80:DIR,dhcp:FIRST-LAST`; raises ArgumentError naming the bad entry."""
    services: list[Service] = []
    for entry in text.split(","):
        name, _, rest = entry.strip().partition(":")
        port_text, _, directory = rest.partition(":")
        if name not in NAMES:
            guess = did_you_mean(name, NAMES)
            known = ", ".join(NAMES)
            raise ArgumentError(f"--serve {entry!r}: no such service{guess}; known: {known}")
        if name == "dhcp":
            if any(s.name == "dhcp" for s in services):
                raise ArgumentError(f"--serve {entry!r}: dhcp is named twice; give one range")
            services.append(_dhcp(entry, rest))
            continue
        if name == "iperf3" and not rest:
            port_text = str(IPERF3_PORT)
        digits = port_text.isascii() and port_text.isdecimal()
        if not digits or not 1 <= int(port_text) <= 65535:
            raise ArgumentError(
                f"--serve {entry!r}: the port must be 1 to 65535, as in {name}:8000"
            )
        root = None
        if directory:
            if name != "http":
                raise ArgumentError(f"--serve {entry!r}: only http takes a directory")
            root = Path(directory)
            if not root.is_dir():
                raise ArgumentError(f"--serve {entry!r}: {directory} is not a directory")
        if any(s.port == int(port_text) for s in services):
            raise ArgumentError(f"--serve {entry!r}: port {port_text} is named twice")
        services.append(Service(name, int(port_text), root))
    return services


def _dhcp(entry: str, rest: str) -> Service:
    """`dhcp:FIRST-LAST[:LEASE]`; raises ArgumentError."""
    addresses, colon, lease = rest.partition(":")
    try:
        first, last = map(IPv4Address, addresses.split("-"))
    except ValueError:
        raise ArgumentError(
            f"--serve {entry!r}: {addresses!r} is no range; write dhcp:10.9.0.50-10.9.0.99"
        ) from None
    service = Service("dhcp", DHCP_PORT, addresses=f"{first}-{last}")
    if colon:
        try:
            service.lease_s = (
                Duration(SECOND_NS, 0xFFFFFFFF * SECOND_NS).convert(lease, None, None) // SECOND_NS
            )
        except click.BadParameter as error:
            raise ArgumentError(f"--serve {entry!r}: lease: {error.message}") from None
    return service


SERVICES = Parsed("NAME:PORT,…", parse_serve)
