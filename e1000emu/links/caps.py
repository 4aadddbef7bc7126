"""Capabilities of a link besides frames and a carrier: one object, read when a port is attached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from fastpath.errors import ArgumentTypeError, check_type, known_fields, whole_number

if TYPE_CHECKING:
    from e1000emu.links.farend import FarEnd
    from e1000emu.links.station import Station
    from e1000emu.ports import Clock
    from fastpath.nic.cable import LinkStats

GSO_IP_MAX = 65535


class TimedWire(Protocol):
    """A wire on which frames take time."""

    gap_bytes: int
    """The gap between frames, byte times; a NIC sets it."""

    @property
    def busy_ns(self) -> int:
        """The time, ns, until which the wire is busy with accepted frames."""


class SharedWire(Protocol):
    """A wire that stations share (`links.Hub`): it reports the outcome of each frame."""

    station: Station
    """The port's station on the wire; a NIC sets it."""


class FibreWire(Protocol):
    """A wire that carries optical signals besides frames."""

    tx_config: int | None
    """What the port sends: a /C/ word, IDLE or DARK (e1000emu/device/tbi.py); a NIC sets it."""
    on_rx_config: Callable[[], object] | None
    """Called when `rx_config` has changed; a NIC sets it."""

    @property
    def rx_config(self) -> int | None:
        """What the far end sends; None: it is not a fibre board."""


class Negotiation(Protocol):
    """What a PHY receives in autonegotiation, in addition to the link's `speed_mbps`."""

    @property
    def full_duplex(self) -> bool:
        """Full duplex."""

    @property
    def far_end(self) -> FarEnd | None:
        """What the far end advertises; None: everything the link supports."""


@known_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCaps:
    """The capabilities of a link, its attribute `caps`. Without one a link has `LinkCaps()`.

    A port reads it once, when it is plugged in. An optional part is an object here
    and None elsewhere, usually the link itself; middleware passes on the object of the link below.
    Raises: ArgumentError for an unusable value or object.
    """

    gso_max_bytes: int = 0
    """IP bytes of the longest super-frame that `Link.transmit` accepts; 0: wire frames only."""
    gso_udp: bool = False
    """`transmit` also accepts super-frames of UDP."""
    timed: TimedWire | None = None
    """Timing of frames; None: they are sent at once."""
    shared: SharedWire | None = None
    """The shared wire; None: the port's own wire."""
    fibre: FibreWire | None = None
    """Optical signals besides frames; None: a model of the far end answers them."""
    negotiation: Negotiation | None = None
    """Result of autonegotiation; None: full duplex, and everything the link supports."""
    clock: Clock | None = None
    """The clock of the link, for middleware without its own clock."""
    stats: LinkStats | None = None
    """Its counters."""

    def __post_init__(self) -> None:
        whole_number("LinkCaps", "gso_max_bytes", self.gso_max_bytes, 0, GSO_IP_MAX, unit="bytes")
        check_type("LinkCaps", "gso_udp", self.gso_udp, bool, "True or False")
        for name in PARTS:
            value = getattr(self, name)
            if value is not None:
                _check_part(name, value)

    @property
    def full_duplex(self) -> bool:
        """Current full duplex state, as seen by the PHY."""
        return self.negotiation is None or self.negotiation.full_duplex

    @property
    def far_end(self) -> FarEnd | None:
        """What the far end advertises now."""
        return None if self.negotiation is None else self.negotiation.far_end

    def for_middleware(self, clock: Clock, stats: LinkStats) -> LinkCaps:
        """Return the capabilities of the link below that middleware for single frames passes on."""
        return replace(self, gso_max_bytes=0, gso_udp=False, clock=clock, stats=stats)


PARTS: dict[str, tuple[str, ...]] = {
    "timed": ("gap_bytes", "busy_ns"),
    "shared": ("station",),
    "fibre": ("tx_config", "rx_config", "on_rx_config"),
    "negotiation": ("full_duplex", "far_end"),
}
"""The attributes of each part."""


def _check_part(name: str, value: Any) -> None:
    # Nothing is read from the object itself: with a recorder's link that would be an event. Reading
    # its `__dict__` creates one, and CPython then reads the object's attributes more slowly.
    for attribute in (a for a in PARTS[name] if not hasattr(type(value), a)):
        if attribute not in getattr(value, "__dict__", ()):
            raise ArgumentTypeError(
                f"LinkCaps: {name}={value!r} is of type {type(value).__name__} without "
                f"{attribute}; give an object with {', '.join(PARTS[name])}, or None"
            )


class StackedWire:
    """The wire of a middleware with its own timing, above one that may have timing too."""

    def __init__(self, below: TimedWire | None, own_busy_ns: Callable[[], int]) -> None:
        self._below = below
        self._own_busy_ns = own_busy_ns

    @property
    def busy_ns(self) -> int:
        """The time, ns, when both are free."""
        own = self._own_busy_ns()
        return own if self._below is None else max(own, self._below.busy_ns)

    @property
    def gap_bytes(self) -> int:
        """The gap on the wire below; the middleware's own is IEEE 802.3's."""
        return 0 if self._below is None else self._below.gap_bytes

    @gap_bytes.setter
    def gap_bytes(self, value: int) -> None:
        if self._below is not None:
            self._below.gap_bytes = value


def link_caps(where: str, link: Any) -> LinkCaps:
    """Return the capabilities of `link`. Any link may omit `caps`.

    Raises: ArgumentTypeError for a `caps` that is no LinkCaps.
    """
    caps = getattr(link, "caps", None)
    if caps is None:
        return LinkCaps(clock=getattr(link, "clock", None), stats=getattr(link, "stats", None))
    takes = "a LinkCaps, or leave it out"
    check_type(where, f"{type(link).__name__}.caps", caps, LinkCaps, takes)
    found: LinkCaps = caps
    return found


def close_link(link: Any) -> None:
    """Close a link if it can be closed."""
    close = getattr(link, "close", None)
    if close is not None:
        close()
