"""What several commands share: address and link arguments, output, one host on one link."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from e1000emu.cli.linkspec import LINKS, open_link
from e1000emu.errors import E1000Error

if TYPE_CHECKING:
    from stack.host import Host

# A pipe has no width of its own; tables that wrap at 80 columns help nobody there.
# Closed from the start (`>&-`) standard output is None.
_terminal = sys.stdout is not None and sys.stdout.isatty()
console = Console(highlight=False, width=None if _terminal else 132)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Report as JSON on standard output."
)


def emit_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    click.echo(json.dumps(value, indent=2))


class Cidr(click.ParamType):
    """An IPv4 address with its prefix length, `10.9.0.2/24`."""

    name = "ADDR/PREFIX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ipaddress.IPv4Interface:
        """Return an IPv4Interface; without a prefix length the error says what to add."""
        if isinstance(value, ipaddress.IPv4Interface):
            return value
        if "/" not in str(value):
            self.fail(f"{value!r} has no prefix length; write for instance {value}/24", param, ctx)
        try:
            address = ipaddress.IPv4Interface(value)
        except ValueError as error:
            self.fail(f"{error}; write for instance 10.9.0.2/24", param, ctx)
        if wrong := not_a_host(address):
            self.fail(f"{value} {wrong}; give a host's own address", param, ctx)
        return address


def not_a_host(address: ipaddress.IPv4Interface) -> str:
    """Say why `address` cannot be an interface's own (RFC 1122 3.2.1.3), or return ""."""
    ip, network = address.ip, address.network
    if ip.is_multicast or ip.is_loopback:
        return "is a multicast address" if ip.is_multicast else "is a loopback address"
    if ip == ipaddress.IPv4Address("255.255.255.255"):
        return "is the broadcast address"
    if ip in ipaddress.IPv4Network("0.0.0.0/8"):
        return "names no host"
    if network.prefixlen < 31 and ip in (network.network_address, network.broadcast_address):
        what = "network" if ip == network.network_address else "broadcast"
        return f"is the {what} address of {network}"
    return ""


def only_once(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> str:
    """Refuse an option that is given twice, of which click would silently take the last."""
    if len(values) > 1:
        raise click.BadParameter(
            f"given {len(values)} times; a host here has one link", ctx=ctx, param=param
        )
    return values[0]


class Ip(click.ParamType):
    """An IPv4 address."""

    name = "ADDR"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ipaddress.IPv4Address:
        """Return an IPv4Address."""
        try:
            return ipaddress.IPv4Address(value)
        except ValueError as error:
            self.fail(f"{error}; write for instance 10.9.0.1", param, ctx)


CIDR = Cidr()
IP = Ip()

link_option = click.option(
    "--link",
    "link_spec",
    required=True,
    multiple=True,
    callback=only_once,
    metavar="LINK",
    help=f"{', '.join(kind.form for kind in LINKS.values())}.",
)
addr_option = click.option("--addr", type=CIDR, required=True, help="Our address, 10.9.0.2/24.")
gw_option = click.option("--gw", type=IP, default=None, help="Default gateway.")
capture_option = click.option(
    "--capture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write every frame on the link to this pcapng file.",
)
impair_option = click.option(
    "--impair",
    default=None,
    metavar="KEY=VALUE,…",
    help="Mistreat the wire: loss=0.05,reorder=0.02,duplicate=0.01,delay_ms=5,jitter_ms=1,"
    "corrupt=0.001,rate_mbps=100,seed=7.",
)


def parse_impair(text: str) -> dict[str, Any]:
    """Turn `loss=0.05,delay_ms=5` into keyword arguments of `Impair`; raises E1000Error naming the
    bad part."""
    probabilities = {"loss", "reorder", "duplicate", "corrupt"}
    out: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.strip().partition("=")
        try:
            if not equals:
                raise ValueError("no '='")
            if key in probabilities:
                out[key] = float(value)
                if not 0 <= out[key] <= 1:
                    raise ValueError("not between 0 and 1")
            elif key in ("delay_ms", "jitter_ms"):
                out[key.removesuffix("_ms") + "_ns"] = int(float(value) * 1e6)
            elif key == "rate_mbps":
                out["rate_bps"] = int(float(value) * 1e6)
            elif key == "seed":
                out["seed"] = int(value)
            else:
                raise ValueError("unknown key")
        except ValueError as error:
            raise E1000Error(
                f"--impair {part.strip()!r}: {error}; keys: loss, reorder, duplicate, "
                "corrupt (0…1), "
                "delay_ms, jitter_ms, rate_mbps, seed"
            ) from None
    return out


@dataclass(slots=True)
class Station:
    """One host on one link, with everything that must be closed in the end."""

    host: Host
    nic: Any
    clock: Any
    link: Any
    wrapped: list[Any]

    def close(self) -> None:
        """Take the interface down and close the link; safe to call twice."""
        self.host.close()
        for layer in self.wrapped:
            close = getattr(layer, "close", None)
            if close is not None:
                close()


def make_station(
    clock: Any,
    link_spec: str,
    addr: ipaddress.IPv4Interface,
    gw: ipaddress.IPv4Address | None = None,
    *,
    capture: Path | None = None,
    impair: str | None = None,
    name: str = "e1000emu",
) -> Station:
    """Build clock, link, NIC, host and driver, and bring `eth0` up with `addr`."""
    from e1000emu.lab import add_nic
    from e1000emu.links import Capture, Impair
    from stack.host import Host

    if gw is not None and gw not in addr.network:
        raise E1000Error(f"--gw {gw}: not inside {addr.network}; give a gateway on our own network")
    options = parse_impair(impair) if impair else None
    link = open_link(link_spec, clock, addr=addr, gw=gw)
    wrapped = [link]
    try:
        if options is not None:
            link = Impair(link, clock=clock, **options)
            wrapped.insert(0, link)
        if capture is not None:
            link = Capture(link, capture, clock=clock)
            wrapped.insert(0, link)
        host = Host(name=name, clock=clock)
        nic = add_nic(host, link, mac=mac_for(addr.ip), addr=str(addr))
        if gw is not None:
            host.route_add("0.0.0.0/0", via=str(gw))
    except BaseException:
        for layer in wrapped:
            close = getattr(layer, "close", None)
            if close is not None:
                close()
        raise
    return Station(host, nic, clock, link, wrapped)


def mac_for(ip: ipaddress.IPv4Address) -> bytes:
    """Return a locally administered MAC derived from the address, so that a host keeps its MAC
    between runs."""
    return b"\x52\x54" + ip.packed


NET_REMEDIES = {
    errno.ECONNREFUSED: "nothing listens on that port",
    errno.ECONNRESET: "the server broke the connection",
    errno.EHOSTUNREACH: "nobody answers ARP for it, or there is no route; --gw names a gateway",
    errno.ENETUNREACH: "it is not on our own network; --gw names a gateway",
    errno.EACCES: "a broadcast address; give one host's",
}


def describe(error: OSError) -> str:
    """Return what a socket of our stack reports, with what it means or what to do."""
    number = error.errno or 0
    text = os.strerror(number) if number else str(error)
    return f"{text}; {NET_REMEDIES[number]}" if number in NET_REMEDIES else text


def open_output(path: Path | None) -> Any:
    """Return a binary file: `path`, or standard output."""
    if path is not None:
        return path.open("wb")
    if sys.stdout is None:
        raise E1000Error("standard output is closed; name a file with -o")
    return sys.stdout.buffer
