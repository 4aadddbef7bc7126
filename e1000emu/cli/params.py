"""The kinds of argument that commands take; a wrong one is one line and exit status 2."""

from __future__ import annotations

import contextlib
import inspect
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeAlias

import click

from e1000emu.cli.errors import ArgumentError, did_you_mean
from e1000emu.errors import E1000Error
from e1000emu.insight.faults import Faults
from e1000emu.quantities import duration_ns, rate_bps, share, show_duration

Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

UNITS = "KMGT"
SIZE = re.compile(r"(\d+)(?:\.(\d+))?\s*(?:([kmgt])(i?b)?|b)?", re.IGNORECASE)


class Read(click.ParamType):
    """The result of a subclass's `read`; a value that is not a string is unchanged."""

    def read(self, text: str) -> Any:
        """Return the value of `text`.  Raises: ValueError that says what to write."""
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value."""
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Parsed(Read):
    """The result of the function `read`."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name = name
        self.read = read  # type: ignore[assignment, method-assign]


def parse_cidr(text: str) -> Interface:
    """Return the interface of `10.9.0.2/24` or `2001:db8::2/64`; without a prefix length the error
    says what to add."""
    example = "2001:db8::2/64" if ":" in text else "10.9.0.2/24"
    if "/" not in text:
        length = 64 if ":" in text else 24
        raise ValueError(f"{text!r} has no prefix length; write for instance {text}/{length}")
    try:
        address = ipaddress.ip_interface(text)
    except ValueError as error:
        raise ValueError(f"{error}; write for instance {example}") from None
    if wrong := not_a_host(address):
        raise ValueError(f"{text} {wrong}; give a host's own address")
    return address


def not_a_host(address: Interface) -> str:
    """Return why `address` cannot be an interface's own (RFC 1122 3.2.1.3, RFC 4291 2.5), or
    return ""."""
    ip, network = address.ip, address.network
    if ip.is_multicast or ip.is_loopback:
        return "is a multicast address" if ip.is_multicast else "is a loopback address"
    if isinstance(ip, ipaddress.IPv6Address):
        if isinstance(address, ipaddress.IPv6Interface) and address.scope_id is not None:
            return "has a scope, which is its interface"
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


def parse_address(text: str) -> Address:
    """Return an address of either family."""
    example = "2001:db8::1" if ":" in text else "10.9.0.1"
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{error}; write for instance {example}") from None


def parse_host(text: str) -> str:
    """Return an address, or a name for the resolver, as it is; anything else is refused
    before anything is opened."""
    if wrong := not_a_name(text):
        raise ValueError(f"{text!r}: {wrong}; give an address (10.9.0.1, 2001:db8::1) or a name")
    return text


NAME_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")


def not_a_name(text: str) -> str:
    """Return why `text` is neither an address nor a host's name (RFC 1123 2.1), or return ""."""
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


class Size(Read):
    """A number of bytes; as dd has it, `64K`, `256M`, `1GiB` count in 1024s, `256MB` in 1000s."""

    name = "SIZE"

    def __init__(self, least: int = 0, most: int | None = None) -> None:
        self.least = least
        self.most = most

    def read(self, text: str) -> int:
        """Return the bytes."""
        match = SIZE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no size; write bytes, or 64K, 256M, 1G")
        whole, decimals, unit, form = match.groups(default="")
        power = UNITS.index(unit.upper()) + 1 if unit else 0
        scaled = int(whole + decimals) * (1000 if form.lower() == "b" else 1024) ** power
        size, rest = divmod(scaled, 10 ** len(decimals))
        if rest:
            raise ValueError(f"{text!r} is not a whole number of bytes")
        if size < self.least or (self.most is not None and size > self.most):
            most = "or more" if self.most is None else f"to {show_size(self.most)}"
            raise ValueError(f"{text} is not {show_size(self.least)} {most}")
        return size


def show_size(size_bytes: int) -> str:
    """Return `256M` for a whole number of MiB, plain digits for others."""
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
        """Return the Path; a missing directory is an error before any work is done."""
        path: Path = super().convert(value, param, ctx)  # type: ignore[assignment]
        if not path.parent.is_dir():
            self.fail(f"{path}: {path.parent} is not a directory; give a path that exists",
                      param, ctx)  # fmt: skip
        return path


class Quantity(Read):
    """A number with a unit; a subclass says which, in `read` and `write`."""

    least: Any = None
    most: Any = None
    above = False

    def write(self, value: Any) -> str:
        """Return a bound as it would be typed."""
        return str(value)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value; a value out of bounds is refused, with the bounds."""
        if not isinstance(value, str):
            return value
        found = super().convert(value, param, ctx)
        least, most = self.least, self.most
        if least is not None and (found < least or (self.above and found == least)):
            bound = self.write(least)
            bound = f"more than {bound}" if self.above else f"{bound} or more"
            self.fail(f"{value} is not {bound}", param, ctx)
        if most is not None and found > most:
            self.fail(f"{value} is more than {self.write(most)}", param, ctx)
        return found


class Duration(Quantity):
    """`20ms`, `1.5s`, `100us`, a number of seconds; in ns, `least` or more (`above`: more)."""

    name = "DURATION"

    def __init__(self, least: int = 0, most: int | None = None, *, above: bool = False) -> None:
        self.least, self.most, self.above = least, most, above

    def read(self, text: str) -> int:
        """Return nanoseconds."""
        return duration_ns(text)

    def write(self, value: int) -> str:
        """Return `20ms`."""
        return show_duration(value)


class Rate(Quantity):
    """`10Mbit`, `2.5G`, `1e9`: bits per second."""

    name = "RATE"

    def read(self, text: str) -> int:
        """Return bits per second."""
        return rate_bps(text)


class Share(Quantity):
    """`2%` or `0.02`: a part of 1, `most` at most."""

    name = "SHARE"

    def __init__(self, most: float = 1.0) -> None:
        self.most = most

    def read(self, text: str) -> float:
        """Return the part of 1."""
        return share(text, most=self.most)


def parse_impair(text: str) -> dict[str, Any]:
    """Turn `loss=5%,delay=5ms` into arguments of `Impair`; ArgumentError names the bad part."""
    from e1000emu.clock import VirtualClock
    from e1000emu.links import Impair, NullLink

    kinds = {
        name: str(found.annotation)
        for name, found in inspect.signature(Impair).parameters.items()
        if name not in ("link", "clock")
    }

    def check(found: dict[str, Any]) -> None:
        Impair(NullLink(VirtualClock()), **found)

    return _parse("--impair", text, kinds, check)


def parse_faults(text: str) -> Faults:
    """Turn `flap=5s,irq_lost=1%,abort=tx-data:3` into `Faults`; ArgumentError names the part."""
    kinds = {found.name: str(found.type) for found in fields(Faults)}
    return Faults(**_parse("--faults", text, kinds, lambda found: Faults(**found)))


def _parse(
    option: str, text: str, kinds: Mapping[str, str], check: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Read `KEY=VALUE,…`, whose keys are arguments of Python, named with their annotations.

    A key may leave its unit out: `delay=5ms` is `delay_ns`, if no other key is called `delay`.
    """
    out: dict[str, Any] = {}
    for part in text.split(","):
        word, equals, value = part.strip().partition("=")
        key = next((k for k in (word, f"{word}_ns", f"{word}_bps") if k in kinds), "")
        try:
            if not key:
                known = [_short(k, kinds) for k in kinds]
                raise ValueError(f"unknown key{did_you_mean(word, known)}")
            if not equals:
                raise ValueError("no '='")
            found = _read(key, kinds[key], value, "ns" if key == word else "s")
            out[key] = out[key] + found if isinstance(found, tuple) and key in out else found
            check(out)
        except (E1000Error, ValueError, OverflowError) as error:
            keys = ", ".join(_short(k, kinds) for k in kinds)
            raise ArgumentError(f"{option} {part.strip()!r}: {error}; keys: {keys}") from None
    return out


def _short(key: str, kinds: Mapping[str, str]) -> str:
    """Return a key as help writes it: without its unit, where no other key is called so."""
    short = key.removesuffix("_ns").removesuffix("_bps")
    return key if short in kinds else short


def _read(key: str, kind: str, text: str, unit: str) -> Any:
    """Return what `text` says for an argument with the annotation `kind`.  Raises: ValueError."""
    if key.endswith("_ns"):
        return duration_ns(text, unit=unit)
    if key.endswith("_bps"):
        return rate_bps(text)
    if kind == "float":
        return share(text)
    if kind == "int":
        return int(text)
    if kind == "str":
        return text
    name, _, number = text.partition(":")  # abort=KIND:RUN
    return ((name, int(number)),)


CIDR = Parsed("ADDR/PREFIX", parse_cidr)
IP = Parsed("ADDR", parse_address)
HOST = Parsed("HOST", parse_host)
IMPAIR = Parsed("KEY=VALUE,…", parse_impair)
FAULTS = Parsed("KEY=VALUE,…", parse_faults)
OUT_FILE = OutFile()
