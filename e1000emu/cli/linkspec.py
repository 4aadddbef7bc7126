"""`--link`: turns the one-line name of the cable's other end into a `Link`."""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from e1000emu.cli.errors import ArgumentError, did_you_mean
from e1000emu.cli.params import Read
from e1000emu.cli.stackspec import mac_for, parse_stack

SWITCH = "switch"
IFNAMSIZ = 16
INTERFACES = Path("/sys/class/net")


def needs_loop(spec: str) -> bool:
    """Whether the link has coroutines at its far end, which only run in an asyncio loop."""
    return spec.startswith("stack:") and bool(parse_stack(spec).services)


@dataclass(frozen=True, slots=True)
class Opening:
    """What a link may need to know about its host."""

    spec: str
    clock: Any
    addr: ipaddress.IPv4Interface | None
    gw: ipaddress.IPv4Address | None
    mac: bytes | None
    autoneg_ns: int | None


# Each opener imports its own modules, because most commands need one kind of link and start sooner
# without the others.


def _open_tap(name: str, wanted: Opening) -> Any:
    from e1000emu.links.tap import Tap

    return Tap(name, wanted.clock)


def _check_tap(name: str) -> str:
    if len(name.encode()) >= IFNAMSIZ or "/" in name or name in (".", ".."):
        return f"{name!r} cannot name an interface; use up to {IFNAMSIZ - 1} bytes without /"
    return ""


def _open_qemu(path: str, wanted: Opening) -> Any:
    from e1000emu.links.qemu import QemuStream

    return QemuStream.connect(path, wanted.clock)


def _open_stack(rest: str, wanted: Opening) -> Any:
    from e1000emu.cli.stackhost import StackLink

    return StackLink(wanted.spec, wanted.clock, autoneg_ns=wanted.autoneg_ns)


def _check_stack(rest: str) -> str:
    parse_stack(f"stack:{rest}")
    return ""


def _open_passt(rest: str, wanted: Opening) -> Any:
    from e1000emu.links.passt import Passt

    if rest and not rest.startswith("-"):
        return Passt(wanted.clock, path=rest)
    options = shlex.split(rest)
    if wanted.addr is None:
        return Passt(wanted.clock, options=options)
    return Passt(
        wanted.clock,
        options=options,
        address=str(wanted.addr),
        gateway=None if wanted.gw is None else str(wanted.gw),
        mac=wanted.mac or mac_for(wanted.addr.ip),
    )


def _check_passt(rest: str) -> str:
    try:
        shlex.split(rest if rest.startswith("-") else "")
    except ValueError as error:
        return f"{error}; quote passt's options as for a shell"
    return ""


def _open_pcap(path: str, wanted: Opening) -> Any:
    from e1000emu.links.replay import PcapReplay

    return PcapReplay(path, wanted.clock)


def _check_pcap(path: str) -> str:
    return "" if Path(path).is_file() else "no such file; give a pcap or pcapng file to replay"


def _open_null(rest: str, wanted: Opening) -> Any:
    from e1000emu.links.null import NullLink

    return NullLink(wanted.clock)


def _no_more(rest: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of link: syntax, description, and how to open it."""

    form: str
    what: str
    open: Callable[[str, Opening], Any]
    """`(text after the colon, the host's data)` to a `Link`; raises E1000Error."""
    check: Callable[[str], str] = _no_more
    """The error in the text after the colon, without opening anything; or ""."""
    simulated: bool = False
    """Nothing at its far end has real time."""

    @property
    def bare(self) -> bool:
        """The text after the name is optional."""
        return ":" not in self.form or "[:" in self.form


LINKS: dict[str, Kind] = {
    "tap": Kind("tap:NAME", "a TAP device, made when missing and allowed", _open_tap, _check_tap),
    "qemu": Kind("qemu:PATH", "where -netdev stream listens", _open_qemu),
    "stack": Kind(
        "stack:ADDR/PREFIX[+ADDR/PREFIX][,serve=NAME:PORT+…]",
        "a host of this stack in this process",
        _open_stack,
        _check_stack,
        simulated=True,
    ),
    "passt": Kind(
        "passt[:OPTIONS|:PATH]",
        "this machine's network, without privileges",
        _open_passt,
        _check_passt,
    ),
    "pcap": Kind("pcap:FILE", "replay of a capture", _open_pcap, _check_pcap, simulated=True),
    "null": Kind("null", "a far end that takes all and says nothing", _open_null, simulated=True),
}


def forms() -> str:
    """Return every way to write a link, for an error."""
    return ", ".join(f"{kind.form} ({kind.what})" for kind in LINKS.values())


def check_link(spec: str, *, switch: bool = False) -> None:
    """Check `spec` before anything is opened.  Raises: ArgumentError.

    With `switch` it may be `switch[:LINK]` too.
    """
    name, colon, rest = spec.partition(":")
    if name == SWITCH:
        if not switch:
            raise ArgumentError(
                f"--link {spec!r}: a switch joins the NICs of several --socket of "
                "`e1000emu vfio-user`; name one link here"
            )
        if colon:
            check_link(rest)
        return
    kind = LINKS.get(name)
    if kind is None or not (rest or (kind.bare and not colon)):
        guess = did_you_mean(name, [*LINKS, SWITCH] if switch else LINKS) if kind is None else ""
        raise ArgumentError(f"--link {spec!r}: not a link{guess}; use {forms()}")
    if wrong := kind.check(rest):
        raise ArgumentError(f"--link {spec!r}: {wrong}")


def open_link(
    spec: str,
    clock: Any,
    *,
    addr: ipaddress.IPv4Interface | None = None,
    gw: ipaddress.IPv4Address | None = None,
    mac: bytes | None = None,
    autoneg_ns: int | None = None,
) -> Any:
    """Open the link that `spec` names, one of `LINKS`; raises E1000Error with the remedy.

    `addr`, `gw` and `mac` of the host that will use it, if known: passt needs
    them too.
    `autoneg_ns` is how long the NIC of a host at the far end negotiates, its own default if None.
    """
    check_link(spec)
    name, _, rest = spec.partition(":")
    return LINKS[name].open(rest, Opening(spec, clock, addr, gw, mac, autoneg_ns))


class Link(Read):
    """A link's name, checked as far as possible without opening it."""

    name = "LINK"

    def __init__(self, *, switch: bool = False) -> None:
        self.switch = switch

    def read(self, text: str) -> str:
        """Return the name as it is."""
        check_link(text, switch=self.switch)
        return text

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the kinds of links, and the TAP devices that there are."""
        kinds = [name if kind.bare else f"{name}:" for name, kind in LINKS.items()]
        kinds += [f"tap:{name}" for name in tap_devices()] + [SWITCH] * self.switch
        return [CompletionItem(word) for word in kinds if word.startswith(incomplete)]


def tap_devices() -> list[str]:
    """Return the names of this machine's TUN and TAP devices."""
    try:
        names = sorted(os.listdir(INTERFACES))
    except OSError:
        return []
    return [name for name in names if (INTERFACES / name / "tun_flags").exists()]
