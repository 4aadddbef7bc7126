"""Protocols of the faults and of blocks that are made after transmit and receive, which call them.

So a block's file imports no file that imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from fastpath.base.batch import FrameBatch


class Verdict(Enum):
    """The handling of a received MAC control frame."""

    FILTER = "the address filters decide"
    PASS = "the host gets it whatever the filters say"
    DROP = "the host does not get it"


class FaultHooks(Protocol):
    """The injector of hardware faults (`insight.faults.Injector`)."""

    def schedule(self, fn: Callable[[], Any], /) -> None:
        """Run `fn`, which serves a ring, after this event."""

    def mdio(self, operation: Callable[[], None], /) -> bool:
        """Return whether `operation` happens late; it is called then."""

    def receive(self, batch: FrameBatch, start: int, hold: bool, /) -> int:
        """Pass frames to the Nic, or lose them."""

    def staged(self, fn: Callable[[], Any], end: int = -1, /) -> Any:
        """Send frames that a stage has fetched."""

    def fetched(self, fn: Callable[[], Any], /) -> Any:
        """Run the transmit engine for data that a bus has transferred."""


class PauseFrames(Protocol):
    """Flow control."""

    def fifo_changed(self) -> None:
        """The receive FIFO has crossed a threshold."""

    def control_frame(self, frame: bytes) -> Verdict:
        """Process a frame; return whether the host gets it."""


class Controller(Protocol):
    """The management controller's side of the part."""

    def find(self, batch: FrameBatch, start: int) -> tuple[int, bytes]:
        """Return the index of the first frame that is the controller's, and the frame."""

    def take(self, frame: bytes) -> None:
        """Keep a frame for the controller."""


class WakeFilters(Protocol):
    """The wake-up filters."""

    def frames(self, batch: FrameBatch, start: int) -> None:
        """Look at the frames of `batch`."""


class ErrorCount(Protocol):
    """The PHY, or the optics."""

    def count_errors(self, frames: int) -> None:
        """Count frames with a symbol error."""
