"""The kinds of argument that commands take; a wrong one is one line and exit status 2."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import re
from pathlib import Path
from typing import Any, TypeAlias

import click

from e1000emu.cli.errors import ArgumentError
from e1000emu.errors import E1000Error
from e1000emu.faults import Faults

__all__ = [
    "CIDR",
    "HOST",
    "IP",
    "OUT_FILE",
    "Cidr",
    "FaultList",
    "HostName",
    "Impairment",
    "Ip",
    "OutFile",
    "Seconds",
    "Size",
    "not_a_host",
    "not_a_name",
    "parse_faults",
    "parse_impair",
    "show_size",
]

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

UNITS = "KMGT"
SIZE = re.compile(r"(\d+)(?:\.(\d+))?\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)


class Cidr(click.ParamType):
    """An address with its prefix length, `10.9.0.2/24` or `2001:db8::2/64`."""

    name = "ADDR/PREFIX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Interface:
        """Return an IPv4Interface or IPv6Interface; without a prefix length the error says what to
        add."""
        if isinstance(value, Interface):
            return value
        text = str(value)
        example = "2001:db8::2/64" if ":" in text else "10.9.0.2/24"
        if "/" not in text:
            length = 64 if ":" in text else 24
            self.fail(f"{value!r} has no prefix length; write for instance {value}/{length}",
                      param, ctx)  # fmt: skip
        try:
            address = ipaddress.ip_interface(text)
        except ValueError as error:
            self.fail(f"{error}; write for instance {example}", param, ctx)
        if wrong := not_a_host(address):
            self.fail(f"{value} {wrong}; give a host's own address", param, ctx)
        return address


def not_a_host(address: Interface) -> str:
    """Say why `address` cannot be an interface's own (RFC 1122 3.2.1.3, RFC 4291 2.5), or
    return ""."""
    ip, network = address.ip, address.network
    if ip.is_multicast or ip.is_loopback:
        return "is a multicast address" if ip.is_multicast else "is a loopback address"
    if isinstance(ip, ipaddress.IPv6Address):
        if isinstance(address, ipaddress.IPv6Interface) and address.scope_id is not None:
            return "has a scope, which the interface is"
        if ip.is_unspecified:
            return "names no host"
        return "is an IPv4 address in IPv6's form" if ip.ipv4_mapped is not None else ""
    if ip == ipaddress.IPv4Address("255.255.255.255"):
        return "is the broadcast address"
    if ip in ipaddress.IPv4Network("0.0.0.0/8"):
        return "names no host"
    if network.prefixlen < 31 and ip in (network.network_address, network.broadcast_address):
        what = "network" if ip == network.network_address else "broadcast"
        return f"is the {what} address of {network}"
    return ""


class Ip(click.ParamType):
    """An address of either family."""

    name = "ADDR"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Return an IPv4Address or IPv6Address."""
        example = "2001:db8::1" if ":" in str(value) else "10.9.0.1"
        try:
            address = ipaddress.ip_address(value)
        except ValueError as error:
            self.fail(f"{error}; write for instance {example}", param, ctx)
        return address


class HostName(click.ParamType):
    """An address, or a name for the resolver: what a host is called by."""

    name = "HOST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text as it is; what can be neither is refused before anything is opened."""
        text = str(value)
        if wrong := not_a_name(text):
            self.fail(
                f"{text!r}: {wrong}; give an address (10.9.0.1, 2001:db8::1) or a name", param, ctx
            )
        return text


NAME_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def not_a_name(text: str) -> str:
    """Say why `text` is neither an address nor a host's name (RFC 1123 2.1), or return ""."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text)
        return ""
    if ":" in text or re.fullmatch(r"[0-9./]*", text):
        return "is no address"
    try:
        ascii_ = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError as error:
        return f"is no name: {error}"
    labels = ascii_.removesuffix(".").split(".")
    if len(ascii_) > 253 or not all(NAME_LABEL.fullmatch(label) for label in labels):
        return "is no address and no name"
    return ""


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


class FaultList(click.ParamType):
    """What `--faults` says, as `Faults`."""

    name = "KEY=VALUE,…"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Faults:
        """Return the faults."""
        return value if isinstance(value, Faults) else parse_faults(str(value))


FAULT_TIMES = {
    "flap_s": 1e9, "down_ms": 1e6, "phy_busy_ms": 1e6, "irq_late_ms": 1e6, "writeback_ms": 1e6,
    "reset_s": 1e9, "remove_s": 1e9,
}  # fmt: skip
"""Keys that are times, and the nanoseconds of one."""
FAULT_NUMBERS = {
    "seed": int, "phy_busy": float, "eeprom_bits": int, "irq_lost": float, "irq_late": float,
    "overrun": float,
}  # fmt: skip


def parse_faults(text: str) -> Faults:
    """Turn `flap_s=5,irq_lost=0.01,abort=tx-data:3` into `Faults`; ArgumentError names the part."""
    out: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        try:
            if key == "abort":
                kind, _, n = value.partition(":")
                out["abort"] = (*out.get("abort", ()), (kind, int(n)))
            elif key in FAULT_TIMES:
                name = key.rpartition("_")[0] + "_ns"
                out[name] = int(float(value) * FAULT_TIMES[key])
            else:
                out[key] = FAULT_NUMBERS[key](value)
            Faults(**out)
        except (E1000Error, KeyError, ValueError, OverflowError) as error:
            known = ", ".join((*FAULT_NUMBERS, *FAULT_TIMES, "abort=KIND:RUN"))
            why = "unknown key" if isinstance(error, KeyError) else error
            raise ArgumentError(f"--faults {part.strip()!r}: {why}; keys: {known}") from None
    return Faults(**out)


CIDR = Cidr()
IP = Ip()
HOST = HostName()
OUT_FILE = OutFile()
