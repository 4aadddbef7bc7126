"""Recorders: an interrupt line, a link and a management controller that only remember what the
device did to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from e1000emu.links.caps import LinkCaps
from fastpath.base.batch import FrameBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from e1000emu.links.farend import FarEnd


class RecordingLine:
    """An ``InterruptLine`` that counts its edges.

    ``level`` is the line now, ``rises`` how often it went up, ``edges`` the list of
    ``(time in ns, level)``. `on_rise` is called at each rising edge: the place for a fake handler.
    """

    def __init__(self, clock: Any = None, *, on_rise: Callable[[], object] | None = None) -> None:
        """Make a line that is low; with `clock` its edges carry the time, else 0."""
        self.clock = clock
        self.on_rise = on_rise
        self.level = False
        self.edges: list[tuple[int, bool]] = []

    @property
    def rises(self) -> int:
        """How often the line went from low to high."""
        return sum(1 for _, level in self.edges if level)

    def set_level(self, level: bool) -> None:
        """Take the device's level; a repeated level is no edge."""
        level = bool(level)
        if level == self.level:
            return
        self.level = level
        self.edges.append((self.clock.now_ns() if self.clock is not None else 0, level))
        if level and self.on_rise is not None:
            self.on_rise()

    def clear(self) -> None:
        """Forget the edges; the level stays."""
        self.edges.clear()


class RecordingController:
    """A management controller: counts alerts, and reads its frames at each when `reads`."""

    def __init__(self, *, reset_on_force: bool = True, reads: bool = True) -> None:
        self.reset_on_force = reset_on_force
        self.reads = reads
        self.port: Any = None
        self.alerts = 0
        self.frames: list[bytes] = []

    def attach(self, port: Any) -> None:
        """Remember the port."""
        self.port = port

    def alert(self) -> None:
        """Count the call, and read."""
        self.alerts += 1
        if self.reads:
            self.drain()

    def drain(self) -> list[bytes]:
        """Read all that waits."""
        while (frame := self.port.read()) is not None:
            self.frames.append(frame)
        return self.frames


class RecordingLink:
    """A ``Link`` that keeps what is sent, and into which a test injects what is to be received.

    ``frames`` and ``flags`` hold the frames sent. `room` is how many more frames the link takes
    (None: any number); :meth:`open_room` gives more and tells the port. ``batches`` counts calls of
    ``transmit``. `gap_bytes` is what a NIC sets; frames take no time here.
    """

    def __init__(
        self,
        *,
        carrier: bool = True,
        speed_mbps: int = 1000,
        room: int | None = None,
        gso_max_bytes: int = 0,
    ) -> None:
        """Make a link without a port."""
        self.carrier = carrier
        self.speed_mbps = speed_mbps
        self.full_duplex = True
        self.far_end: FarEnd | None = None
        self.gap_bytes = self.busy_ns = 0
        self.caps = LinkCaps(gso_max_bytes=gso_max_bytes, timed=self, negotiation=self)
        self.room = room
        self.port: Any = None
        self.frames: list[bytes] = []
        self.flags: list[int] = []
        self.batches = 0
        self.rx_ready_calls = 0

    # -- the Link protocol -------------------------------------------------------------------------

    def attach(self, port: Any) -> None:
        """Remember the port that plugs in."""
        self.port = port

    def detach(self) -> None:
        """Forget the port."""
        self.port = None

    def tx_room(self) -> int:
        """Return how many frames the link takes now."""
        return 1 << 20 if self.room is None else self.room

    def transmit(self, batch: FrameBatch) -> None:
        """Take the frames of `batch`. Copies them out; the batch goes back empty."""
        self.batches += 1
        for index in range(len(batch)):
            self.frames.append(bytes(batch[index]))
            self.flags.append(batch.flags(index))
        if self.room is not None:
            self.room = max(0, self.room - len(batch))
        batch.clear()

    def rx_ready(self) -> None:
        """Count the port's call that it has room again."""
        self.rx_ready_calls += 1

    # -- what the test does ------------------------------------------------------------------------

    def inject(self, *frames: bytes, flags: Iterable[int] | None = None, hold: bool = False) -> int:
        """Hand `frames` to the port in one batch; return how many it consumed."""
        batch = FrameBatch()
        marks = list(flags) if flags is not None else [0] * len(frames)
        for frame, mark in zip(frames, marks, strict=True):
            batch.append(frame, mark)
        return self.port.receive(batch, 0, hold)

    def open_room(self, frames: int | None) -> None:
        """Let the link take `frames` more (None: any number) and tell the port."""
        self.room = frames
        if self.port is not None:
            self.port.tx_ready()

    def set_carrier(self, up: bool, *, speed_mbps: int = 1000, full_duplex: bool = True) -> None:
        """Plug or pull the cable."""
        self.carrier = up
        self.speed_mbps = speed_mbps
        self.full_duplex = full_duplex
        if self.port is not None:
            self.port.link_changed(up, speed_mbps, full_duplex)

    def take(self) -> list[bytes]:
        """Return the frames sent since the last call and forget them."""
        frames, self.frames = self.frames, []
        self.flags = []
        return frames
