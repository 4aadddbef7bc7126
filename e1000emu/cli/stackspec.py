"""`stack:…`, the link to a host of our own: its syntax."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.params import Address, Interface, not_a_host
from e1000emu.cli.servespec import Service, parse_serve

MTU_RANGE = range(68, 16110 - 14 - 4 + 1)
"""From RFC 791's minimum to what fits an 82540EM's longest frame beside header and FCS."""


@dataclass(frozen=True, slots=True)
class StackSpec:
    """What `stack:ADDR/PREFIX[+ADDR/PREFIX…][,gw=ADDR[+ADDR]][,mtu=BYTES][,serve=NAME:PORT+…]`
    says."""

    addrs: tuple[Interface, ...]
    gws: tuple[Address, ...] = ()
    mtu: int | None = None
    services: list[Service] = field(default_factory=list)


def parse_stack(spec: str) -> StackSpec:
    """Parse `spec`, with `stack:` in front; raises ArgumentError naming the part and the remedy."""

    def wrong(why: str) -> ArgumentError:
        return ArgumentError(
            f"--link {spec!r}: {why}; write for instance "
            "stack:10.9.0.1/24,serve=echo:7+http:80 (and gw=ADDR, mtu=BYTES)"
        )

    addresses, *options = spec.removeprefix("stack:").split(",")
    addrs = []
    for address in addresses.split("+"):
        if "/" not in address:
            raise wrong(f"{address!r} has no prefix length")
        try:
            addr = ipaddress.ip_interface(address)
        except ValueError as error:
            raise wrong(str(error)) from None
        if reason := not_a_host(addr):
            raise wrong(f"{address} {reason}")
        addrs.append(addr)
    values: dict[str, Any] = {}
    seen: set[str] = set()
    for option in options:
        key, _, value = option.partition("=")
        if key in seen:
            raise wrong(f"{key} is given twice")
        seen.add(key)
        if key == "serve":
            values["services"] = parse_serve(value.replace("+", ","))
        elif key == "gw":
            try:
                values["gws"] = tuple(map(ipaddress.ip_address, value.split("+")))
            except ValueError as error:
                raise wrong(str(error)) from None
            for gw in values["gws"]:
                networks = [a.network for a in addrs if a.version == gw.version]
                if not any(gw in network for network in networks):
                    inside = " or ".join(map(str, networks)) or f"an IPv{gw.version} network"
                    raise wrong(f"gateway {gw} is not inside {inside}")
        elif key == "mtu":
            if not value.isdecimal() or int(value) not in MTU_RANGE:
                raise wrong(f"mtu {value!r} is not {MTU_RANGE[0]} to {MTU_RANGE[-1]}")
            values["mtu"] = int(value)
        else:
            raise wrong(f"no option {option!r}")
    return StackSpec(tuple(addrs), **values)


def mac_for(ip: Address) -> bytes:
    """Return a locally administered MAC derived from the address (of IPv6's: its last four bytes),
    so that a host keeps its MAC between runs."""
    return b"\x52\x54" + ip.packed[-4:]
