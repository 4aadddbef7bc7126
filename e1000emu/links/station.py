"""A MAC on a shared wire (`links.hub`)."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

GAP_BYTES, SENSE_BYTES = 12, 8


class Station:
    """How a MAC uses a shared wire.  A NIC brings its own; other ports get this one."""

    full_duplex = False
    """It ignores carrier and collisions: a duplex mismatch, if the others do not."""
    retries = 15
    """Collisions after which a frame is retried; after one more it is dropped."""
    retry_late = False
    """Whether a late collision is retried; otherwise it ends the frame."""
    defer_bytes = GAP_BYTES
    """The gap after other stations' frames, in byte times."""
    sense_bytes = SENSE_BYTES
    """The first part of that gap, in which a carrier restarts it, in byte times."""

    def deferred(self) -> None:
        """A frame must wait: the wire is busy."""

    def collided(self) -> None:
        """A collision in time."""

    def collided_late(self) -> None:
        """A late collision: all others should have detected the frame by then."""

    def excessive(self) -> None:
        """The sixteenth collision of a frame."""

    def sent(self, collisions: int, frame: bytes, with_fcs: bool = False) -> None:
        """A frame was sent after `collisions` collisions; `with_fcs`: it includes its FCS."""

    def over(self) -> None:
        """No more attempts at a frame: it was sent or dropped."""


def _of_station(name: str) -> Any:
    return property(attrgetter(f"_station.{name}"), doc="The station's.")


class RelayedStation(Station):
    """Has the attributes of `station`, and calls it by `tell(name, fn, *arguments)`."""

    def __init__(self, station: Station, tell: Callable[..., object]) -> None:
        self._station = station
        self._tell = tell

    full_duplex = _of_station("full_duplex")
    retries = _of_station("retries")
    retry_late = _of_station("retry_late")
    defer_bytes = _of_station("defer_bytes")
    sense_bytes = _of_station("sense_bytes")

    def deferred(self) -> None:
        """A frame must wait."""
        self._tell("deferred", self._station.deferred)

    def collided(self) -> None:
        """A collision in time."""
        self._tell("collided", self._station.collided)

    def collided_late(self) -> None:
        """A late collision."""
        self._tell("collided_late", self._station.collided_late)

    def excessive(self) -> None:
        """The sixteenth collision."""
        self._tell("excessive", self._station.excessive)

    def sent(self, collisions: int, frame: bytes, with_fcs: bool = False) -> None:
        """A frame was sent."""
        self._tell("sent", self._station.sent, collisions, frame, with_fcs)

    def over(self) -> None:
        """No more attempts at a frame."""
        self._tell("over", self._station.over)
