"""The kinds of argument that commands take; a wrong one is one line and exit status 2."""

from __future__ import annotations

import ipaddress
import math
import re
from pathlib import Path
from typing import Any

import click

from e1000emu.cli.errors import ArgumentError

__all__ = [
    "CIDR",
    "IP",
    "OUT_FILE",
    "Cidr",
    "Impairment",
    "Ip",
    "OutFile",
    "Seconds",
    "Size",
    "not_a_host",
    "parse_impair",
    "show_size",
]

UNITS = "KMGT"
SIZE = re.compile(r"(\d+)(?:\.(\d+))?\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)


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


class Size(click.ParamType):
    """A number of bytes; as dd has it, `64K`, `256M`, `1GiB` count in 1024s, `256MB` in 1000s."""

    name = "SIZE"

    def __init__(self, least: int = 0, most: int | None = None) -> None:
        self.least = least
        self.most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no size; write bytes, or 64K, 256M, 1G", param, ctx)
        whole, decimals, unit, form = match.groups(default="")
        power = UNITS.index(unit.upper()) + 1 if unit else 0
        scaled = int(whole + decimals) * (1000 if form.lower() == "b" else 1024) ** power
        size, rest = divmod(scaled, 10 ** len(decimals))
        if rest:
            self.fail(f"{value!r} is not a whole number of bytes", param, ctx)
        if size < self.least or (self.most is not None and size > self.most):
            most = "or more" if self.most is None else f"to {show_size(self.most)}"
            self.fail(f"{value} is not {show_size(self.least)} {most}", param, ctx)
        return size


def show_size(size_bytes: int) -> str:
    """Return `256M` for what is a whole number of MiB, plain digits for what is none."""
    power = 0
    while size_bytes and size_bytes % 1024 == 0 and power < len(UNITS):
        size_bytes //= 1024
        power += 1
    return f"{size_bytes}{UNITS[power - 1] if power else ''}"


class OutFile(click.Path):
    """A file to be written, whose directory exists."""

    name = "FILE"

    def __init__(self) -> None:
        super().__init__(dir_okay=False, readable=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the Path; a directory that is not there is said before any work is done."""
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        if not path.parent.is_dir():
            self.fail(f"{path}: {path.parent} is not a directory; give a path that exists",
                      param, ctx)  # fmt: skip
        return path


class Seconds(click.ParamType):
    """A duration in seconds, `least` or more (`above`: more than that)."""

    name = "SECONDS"

    def __init__(self, least: float = 0.0, *, above: bool = False) -> None:
        self.least = least
        self.above = above

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; what is not finite is refused."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is no duration; write seconds, as 0.2", param, ctx)
        if seconds < self.least or (self.above and seconds == self.least):
            bound = f"more than {self.least:g}" if self.above else f"{self.least:g} or more"
            self.fail(f"{value} s is not {bound}", param, ctx)
        return seconds


class Impairment(click.ParamType):
    """What `--impair` says, as arguments of `Impair`."""

    name = "KEY=VALUE,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the arguments."""
        return value if isinstance(value, dict) else parse_impair(str(value))


def parse_impair(text: str) -> dict[str, Any]:
    """Turn `loss=0.05,delay_ms=5` into keyword arguments of `Impair`; raises ArgumentError naming
    the bad part."""
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
                if float(value) < 0:
                    raise ValueError("negative")
            elif key == "rate_mbps":
                out["rate_bps"] = int(float(value) * 1e6)
                if out["rate_bps"] <= 0:
                    raise ValueError("not above 0")
            elif key == "seed":
                out["seed"] = int(value)
            else:
                raise ValueError("unknown key")
        except (ValueError, OverflowError) as error:
            raise ArgumentError(
                f"--impair {part.strip()!r}: {error}; keys: loss, reorder, duplicate, "
                "corrupt (0…1), delay_ms, jitter_ms, rate_mbps, seed"
            ) from None
    return out


CIDR = Cidr()
IP = Ip()
OUT_FILE = OutFile()
