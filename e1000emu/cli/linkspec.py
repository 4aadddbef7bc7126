"""`--link`: what stands at the other end of the cable, from its one-line name to a `Link`."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from e1000emu.errors import E1000Error
from e1000emu.links.pair import PairEnd

if TYPE_CHECKING:
    from e1000emu.cli.services import Service
    from stack.host import Host

__all__ = ["LINKS", "SWITCH", "StackHost", "StackLink", "open_link", "parse_stack"]

SWITCH = "switch"
MTU_RANGE = range(68, 16110 - 14 - 4 + 1)
"""RFC 791's least to what fits the longest frame of an 82540EM with its header and FCS."""


@dataclass(frozen=True, slots=True)
class StackSpec:
    """What `stack:ADDR/PREFIX[,gw=ADDR][,mtu=BYTES][,serve=NAME:PORT+…]` says."""

    addr: ipaddress.IPv4Interface
    gw: ipaddress.IPv4Address | None = None
    mtu: int | None = None
    services: list[Service] = field(default_factory=list)


def parse_stack(spec: str) -> StackSpec:
    """Parse `spec`, with `stack:` in front; raises E1000Error naming the part and the remedy."""
    from e1000emu.cli.common import not_a_host
    from e1000emu.cli.services import parse_serve

    def wrong(why: str) -> E1000Error:
        return E1000Error(
            f"--link {spec!r}: {why}; write for instance "
            "stack:10.9.0.1/24,serve=echo:7+http:80 (and gw=ADDR, mtu=BYTES)"
        )

    address, *options = spec.removeprefix("stack:").split(",")
    if "/" not in address:
        raise wrong(f"{address!r} has no prefix length")
    try:
        addr = ipaddress.IPv4Interface(address)
    except ValueError as error:
        raise wrong(str(error)) from None
    if reason := not_a_host(addr):
        raise wrong(f"{address} {reason}")
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
                values["gw"] = ipaddress.IPv4Address(value)
            except ValueError as error:
                raise wrong(str(error)) from None
            if values["gw"] not in addr.network:
                raise wrong(f"gateway {value} is not inside {addr.network}")
        elif key == "mtu":
            if not value.isdecimal() or int(value) not in MTU_RANGE:
                raise wrong(f"mtu {value!r} is not {MTU_RANGE[0]} to {MTU_RANGE[-1]}")
            values["mtu"] = int(value)
        else:
            raise wrong(f"no option {option!r}")
    return StackSpec(addr, **values)


class StackHost:
    """A host of our own stack on `link`, in this process, with its services running.

    Services are coroutines: they need an `AsyncioClock`, and start when its loop runs. What ends
    one before `close()` goes to the loop's exception handler. Raises: E1000Error.
    """

    def __init__(self, spec: str, link: Any, clock: Any) -> None:
        from e1000emu.cli.common import mac_for
        from e1000emu.cli.services import serve
        from e1000emu.clock import AsyncioClock
        from e1000emu.lab import add_nic
        from stack.host import Host

        wanted = parse_stack(spec)
        if wanted.services and not isinstance(clock, AsyncioClock):
            raise E1000Error(
                f"--link {spec!r}: only `e1000emu up` and `e1000emu vfio-user` run services; "
                "leave serve= out"
            )
        self.services = wanted.services
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self.host: Host = Host(name="stack", clock=clock)
        try:
            add_nic(
                self.host,
                link,
                mac=mac_for(wanted.addr.ip),
                addr=str(wanted.addr),
                mtu=wanted.mtu,
                wait=False,
            )
            if wanted.gw is not None:
                self.host.route_add("0.0.0.0/0", via=str(wanted.gw))
        except BaseException:
            self.host.close()
            raise
        for service in self.services:
            task = clock.loop.create_task(serve(self.host, service))
            task.add_done_callback(self._ended)
            self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._clock.loop.call_exception_handler({"message": str(error), "exception": error})

    def close(self) -> None:
        """End the services, take the interface down; harmless when repeated."""
        for task in self._tasks:
            task.cancel()
        if self._tasks and not self._clock.loop.is_running():
            for task in self._tasks:
                with suppress(asyncio.CancelledError, Exception):
                    self._clock.loop.run_until_complete(task)
        self._tasks.clear()
        self.host.close()


class StackLink(PairEnd):
    """One end of a cable whose other end is plugged into a `StackHost`."""

    def __init__(self, spec: str, clock: Any) -> None:
        super().__init__(clock)
        far = PairEnd(clock)
        self.peer, far.peer = far, self
        self.far = StackHost(spec, far, clock)

    def close(self) -> None:
        """Unplug, and close the host."""
        super().close()
        self.far.close()


def _open_tap(spec: str, name: str, clock: Any) -> Any:
    from e1000emu.links import Tap

    return Tap(name, clock)


def _open_qemu(spec: str, path: str, clock: Any) -> Any:
    from e1000emu.links import QemuStream

    return QemuStream.connect(path, clock)


def _open_stack(spec: str, rest: str, clock: Any) -> Any:
    return StackLink(spec, clock)


def _open_passt(
    spec: str,
    rest: str,
    clock: Any,
    addr: ipaddress.IPv4Interface | None = None,
    gw: ipaddress.IPv4Address | None = None,
) -> Any:
    import shlex

    from e1000emu.cli.common import mac_for
    from e1000emu.links.passt import Passt

    if rest and not rest.startswith("-"):
        return Passt(clock, path=rest)
    try:
        options = shlex.split(rest)
    except ValueError as error:
        raise E1000Error(
            f"--link {spec!r}: {error}; quote passt's options as for a shell"
        ) from None
    if addr is None:
        return Passt(clock, options=options)
    gateway = None if gw is None else str(gw)
    return Passt(clock, options=options, address=str(addr), gateway=gateway, mac=mac_for(addr.ip))


def _open_pcap(spec: str, path: str, clock: Any) -> Any:
    from e1000emu.links import PcapReplay

    if not Path(path).is_file():
        raise E1000Error(f"--link {spec}: no such file; give a pcap or pcapng file to replay")
    return PcapReplay(path, clock)


def _open_null(spec: str, rest: str, clock: Any) -> Any:
    from e1000emu.links import NullLink

    return NullLink(clock)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of link: how it is written, what it is, how it is opened."""

    form: str
    what: str
    open: Callable[[str, str, Any], Any]
    """`(whole spec, what follows the colon, clock)` to a `Link`; raises E1000Error."""

    @property
    def bare(self) -> bool:
        """Nothing need follow the name."""
        return ":" not in self.form or "[:" in self.form


LINKS: dict[str, Kind] = {
    "tap": Kind("tap:NAME", "a TAP device, made when missing and allowed", _open_tap),
    "qemu": Kind("qemu:PATH", "where -netdev stream listens", _open_qemu),
    "stack": Kind(
        "stack:ADDR/PREFIX[,serve=NAME:PORT+…]", "a host of this stack in this process", _open_stack
    ),
    "passt": Kind(
        "passt[:OPTIONS|:PATH]", "this machine's network, without privileges", _open_passt
    ),
    "pcap": Kind("pcap:FILE", "replay of a capture", _open_pcap),
    "null": Kind("null", "a far end that takes all and says nothing", _open_null),
}


def forms() -> str:
    """Return every way to write a link, for an error."""
    return ", ".join(f"{kind.form} ({kind.what})" for kind in LINKS.values())


def open_link(
    spec: str,
    clock: Any,
    *,
    addr: ipaddress.IPv4Interface | None = None,
    gw: ipaddress.IPv4Address | None = None,
) -> Any:
    """Open the link that `spec` names, one of `LINKS`; raises E1000Error with the remedy.

    `addr` and `gw` of the host that will use it, where they are known: passt has to know them too.
    """
    name, colon, rest = spec.partition(":")
    kind = LINKS.get(name)
    if kind is not None and (rest or (kind.bare and not colon)):
        if kind.open is _open_passt:
            return _open_passt(spec, rest, clock, addr, gw)
        return kind.open(spec, rest, clock)
    if name == SWITCH:
        raise E1000Error(
            f"--link {spec!r}: a switch joins the NICs of several --socket of "
            "`e1000emu vfio-user`; name one link here"
        )
    raise E1000Error(f"--link {spec!r}: not a link; use {forms()}")
