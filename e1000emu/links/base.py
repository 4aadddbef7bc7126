"""Common part of all links: the attached port, the carrier and the counters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.caps import LinkCaps, close_link, link_caps
from fastpath.errors import check_clock, check_methods, whole_number
from fastpath.nic.cable import LinkStats

if TYPE_CHECKING:
    from e1000emu.links.farend import FarEnd
    from e1000emu.ports import Clock, Link, LinkPort
    from fastpath.base.batch import FrameBatch

__all__ = ["DEFAULT_QUEUE_FRAMES", "BaseLink", "LinkStats", "Middleware", "ReadingLink"]

DEFAULT_QUEUE_FRAMES = 4096
SPEEDS_MBPS = (10, 100, 1000)


def whole(link: object, name: str, value: Any, low: int, *, unit: str = "") -> int:
    """Return `value` as an int of `low` or more. Raises: LinkError naming link, argument, value."""
    where = link if isinstance(link, str) else type(link).__name__
    return whole_number(where, name, value, low, unit=unit, error=LinkError)


def optional_rate(link: object, name: str, value: Any) -> int | None:
    """Return a rate above 0, None for no limit. Raises: LinkError, a negative one too."""
    return None if value is None else whole(link, name, value, 1)


def send_copies(link: Link, batch: FrameBatch, start: int) -> int:
    """Send copies of the frames from `start` on; return the index of the first without room."""
    n = len(batch)
    # Until the link returns 0, which promises a tx_ready().
    while start < n and (room := link.tx_room()) > 0:
        end = min(n, start + room)
        own = pool.get()
        own.extend(batch, start, end)
        start = end
        link.transmit(own)
    return start


class BaseLink(ABC):
    """One place to plug a port into. Subclasses carry the frames.

    Call every method with the clock's lock held.
    """

    full_duplex = True
    """Full duplex."""
    far_end: FarEnd | None = None
    """What the far end advertises in autonegotiation; None: everything the link supports."""

    def __init__(self, clock: Clock, *, speed_mbps: int = 1000) -> None:
        check_clock(type(self).__name__, clock)
        if speed_mbps not in SPEEDS_MBPS:
            raise LinkError(
                f"{type(self).__name__}: speed_mbps={speed_mbps!r}; an 8254x knows 10, 100 and 1000"
            )
        self.clock = clock
        self.speed_mbps = speed_mbps
        self.port: LinkPort | None = None
        self.stats = LinkStats()
        self._carrier = False

    @property
    def carrier(self) -> bool:
        """Whether the far end is connected."""
        return self._carrier

    @property
    def caps(self) -> LinkCaps:
        """Its capabilities besides frames and a carrier."""
        return LinkCaps(negotiation=self, clock=self.clock, stats=self.stats)

    def attach(self, port: LinkPort) -> None:
        """Plug `port` in. It reads `carrier` itself and is notified of later changes."""
        if self.port is not None:
            raise LinkError(f"{self!r}: a port is plugged in already; detach() it first")
        self.port = port
        self._attached()

    def detach(self) -> None:
        """Unplug the port; frames in flight to it are lost."""
        if self.port is not None:
            self.port = None
            self._detached()

    def _attached(self) -> None:
        """React to a port that was plugged in."""

    def _detached(self) -> None:
        """React to a port that was unplugged."""

    def _set_carrier(self, up: bool) -> None:
        """Change the carrier and notify the port, if it differs."""
        if up != self._carrier:
            self._carrier = up
            if self.port is not None:
                self.port.link_changed(up, self.speed_mbps, self.full_duplex)

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        return DEFAULT_QUEUE_FRAMES

    @abstractmethod
    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""

    def rx_ready(self) -> None:
        """The port has room again; a link without a buffer does nothing."""

    def close(self) -> None:
        """Release the link's resources. Harmless when repeated."""
        self.detach()


class ReadingLink(BaseLink):
    """A link that reads batches from a source, and keeps frames that its port does not accept.

    Reading stops while a batch is pending, so the sender must wait too.
    """

    def __init__(self, clock: Clock, *, speed_mbps: int = 1000) -> None:
        super().__init__(clock, speed_mbps=speed_mbps)
        self._batch: FrameBatch | None = None  # frames that the port did not accept
        self._at = 0
        self._held = False

    @abstractmethod
    def _resume(self) -> None:
        """Start reading if a port is attached."""

    @abstractmethod
    def _pause(self) -> None:
        """Stop reading."""

    def _attached(self) -> None:
        self._resume()

    def _detached(self) -> None:
        self._pause()
        self._drop_held("unplugged")

    def _drop_held(self, why: str) -> None:
        if self._batch is not None:
            self.stats.drop(why, len(self._batch) - self._at)
            pool.put(self._batch)
            self._batch = None
        self._held = False

    def _give(self) -> None:
        """Offer the pending frames until the port has accepted all or has no room."""
        while self._batch is not None and self.port is not None:
            batch = self._batch
            self._held = True
            end = self.port.receive(batch, self._at, True)
            # another batch, or none: unplugged on receiving
            if self._batch is not batch or not self._took(end):
                return
        self._resume()

    def _took(self, end: int) -> bool:
        """The port has accepted frames up to `end`. False if it has no room now."""
        batch = self._batch
        assert batch is not None
        if end >= len(batch):
            self._held = False
            self._batch = None
            pool.put(batch)
            return True
        if not self._held and end != self._at:
            self._at = end
            return True
        self._at = end
        self._pause()
        if not self._held:
            self._held = True
            self.clock.call_soon(self.rx_ready)
        return False


class Middleware:
    """A link around a link: a `Link` for the port above, a `LinkPort` for the link below.

    This class passes everything through; a subclass overrides some methods. It sees single
    frames, never super-frames, even if the link below accepts those.
    """

    def __init__(self, link: Link, *, clock: Clock | None = None) -> None:
        below = link_caps(type(self).__name__, link)
        found = clock if clock is not None else below.clock
        if found is None:
            raise LinkError(f"{type(self).__name__}: {link!r} has no clock; pass clock=...")
        where = type(self).__name__
        check_methods(
            where, "link", link, ("attach", "transmit"), "a link, such as an end of pair()"
        )
        check_clock(where, found)
        self.link = link
        self.below = below
        """The capabilities of the link below."""
        self.clock: Clock = found
        self.port: LinkPort | None = None
        self.stats = LinkStats()

    @property
    def carrier(self) -> bool:
        """The carrier of the link below."""
        return self.link.carrier

    @property
    def speed_mbps(self) -> int:
        """The speed of the link below."""
        return self.link.speed_mbps

    @property
    def caps(self) -> LinkCaps:
        """The capabilities of the link below, for single frames."""
        return self.below.for_middleware(self.clock, self.stats)

    def attach(self, port: LinkPort) -> None:
        """Plug in `port`, and this into the link below."""
        if self.port is not None:
            raise LinkError(f"{self!r}: a port is plugged in already; detach() it first")
        self.port = port
        self.link.attach(self)

    def detach(self) -> None:
        """Unplug the port, and this from the link below."""
        if self.port is not None:
            self.port = None
            self.link.detach()

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        return self.link.tx_room()

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames. Takes ownership of `batch`."""
        self.link.transmit(batch)

    def rx_ready(self) -> None:
        """The port above has room again."""
        self.link.rx_ready()

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive frames from the link below. Borrows `batch` until return."""
        if self.port is None:
            self.stats.drop("no port", len(batch) - start)
            return len(batch)
        return self.port.receive(batch, start, hold)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Pass a change of carrier up."""
        if self.port is not None:
            self.port.link_changed(up, speed_mbps, full_duplex)

    def tx_ready(self) -> None:
        """Pass up that the link below has room again."""
        if self.port is not None:
            self.port.tx_ready()

    def close(self) -> None:
        """Detach, and close the link below if it can be closed."""
        self.detach()
        close_link(self.link)
