"""What a link can do beside frames and a carrier: one object, read when a port is plugged in."""

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
        """The time, ns, until which the wire is busy with what it was given."""


class SharedWire(Protocol):
    """A wire that stations share (`links.Hub`): it reports the outcome of each frame."""

    station: Station
    """What the port does about the wire; a NIC sets it."""


class FibreWire(Protocol):
    """A wire that carries what boards with optics send beside frames."""

    tx_config: int | None
    """What the port sends: a /C/ word, IDLE or DARK (e1000emu/device/tbi.py); a NIC sets it."""
    on_rx_config: Callable[[], object] | None
    """Called when `rx_config` has changed; a NIC sets it."""

    @property
    def rx_config(self) -> int | None:
        """What the far end sends; None: no board with optics is there."""


class Negotiation(Protocol):
    """What a PHY receives in autonegotiation, besides the link's `speed_mbps`."""

    @property
    def full_duplex(self) -> bool:
        """Both ends may send at once."""

    @property
    def far_end(self) -> FarEnd | None:
        """What the far end advertises; None: all that the link supports."""


@known_fields
@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCaps:
    """What a link can do: its attribute `caps`. A link without one has what `LinkCaps()` says.

    A port reads it once, when it is plugged in. A part that not every link has is an object here
    and None elsewhere, usually the link itself; middleware hands on the object of the link below.
    Raises: ArgumentError for a value or an object that a port could not use.
    """

    gso_max_bytes: int = 0
    """IP bytes of the longest super-frame that `Link.transmit` takes; 0: frames of a wire only."""
    gso_udp: bool = False
    """`transmit` takes super-frames of UDP too."""
    timed: TimedWire | None = None
    """Frames take time; None: they leave at once."""
    shared: SharedWire | None = None
    """Stations share the wire; None: it is the port's alone."""
    fibre: FibreWire | None = None
    """It carries what optics send beside frames; None: a model of the far end answers them."""
    negotiation: Negotiation | None = None
    """What autonegotiation receives; None: full duplex, and all that the link supports."""
    clock: Clock | None = None
    """The clock of the link, for middleware around it that is given none."""
    stats: LinkStats | None = None
    """Its counters."""

    def __post_init__(self) -> None:
        whole_number("LinkCaps", "gso_max_bytes", self.gso_max_bytes, 0, GSO_IP_MAX, unit="bytes")
        check_type("LinkCaps", "gso_udp", self.gso_udp, bool, "True or False")
        for name, value in (
            ("timed", self.timed),
            ("shared", self.shared),
            ("fibre", self.fibre),
            ("negotiation", self.negotiation),
        ):
            if value is not None:
                _check_part(name, value)

    @property
    def full_duplex(self) -> bool:
        """Both ends may send at once, as the PHY hears now."""
        return self.negotiation is None or self.negotiation.full_duplex

    @property
    def far_end(self) -> FarEnd | None:
        """What the far end advertises now."""
        return None if self.negotiation is None else self.negotiation.far_end

    def for_middleware(self, clock: Clock, stats: LinkStats) -> LinkCaps:
        """Return what a middleware that sees single frames passes on of the link below."""
        return replace(self, gso_max_bytes=0, gso_udp=False, clock=clock, stats=stats)


PARTS: dict[str, tuple[str, ...]] = {
    "timed": ("gap_bytes", "busy_ns"),
    "shared": ("station",),
    "fibre": ("tx_config", "rx_config", "on_rx_config"),
    "negotiation": ("full_duplex", "far_end"),
}
"""The attributes of each part."""


def _check_part(name: str, value: Any) -> None:
    # Nothing is read from the object itself: with a recorder's link that would be an event. Asking
    # for its `__dict__` makes one, and CPython then reads the object's attributes more slowly.
    for attribute in (a for a in PARTS[name] if not hasattr(type(value), a)):
        if attribute not in getattr(value, "__dict__", ()):
            raise ArgumentTypeError(
                f"LinkCaps: {name}={value!r} is of type {type(value).__name__} without "
                f"{attribute}; give an object with {', '.join(PARTS[name])}, or None"
            )


class StackedWire:
    """The wire of a middleware that takes time itself, above one that may do so too."""

    def __init__(self, below: TimedWire | None, own_busy_ns: Callable[[], int]) -> None:
        self._below = below
        self._own_busy_ns = own_busy_ns

    @property
    def busy_ns(self) -> int:
        """When both are free."""
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
    """Return what `link` can do. A link of any class may leave `caps` out.

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
    """Close a link that can be closed."""
    close = getattr(link, "close", None)
    if close is not None:
        close()
