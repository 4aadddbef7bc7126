"""Middleware for a port served by another thread: frames pass to that thread through a queue.

A TAP's descriptor can be read and written by any thread; every other link is Python on the clock.
To avoid that rings wait for it, a `fastpath.nic.datapath.DataPath` gets a `HandoverQueue`
in place of the wire, and `Handover` moves frames between the queue and the link.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from e1000emu.links import pool
from e1000emu.links.base import Middleware
from e1000emu.links.station import RelayedStation, Station
from fastpath.nic.wire import HandoverQueue

if TYPE_CHECKING:
    from e1000emu.links.base import BaseLink
    from e1000emu.links.caps import FibreWire, LinkCaps, SharedWire
    from e1000emu.ports import Clock, Link, LinkPort
    from fastpath.base.batch import FrameBatch

QUEUE_FRAMES = 1024


class Handover(Middleware):
    """`Handover(link, clock=clock)`; passes everything through except from `lend` to `reclaim`.

    Needs a clock that can wait for file descriptors.  At most `queue_frames` wait in each
    direction.  `guard_port` for a port that several threads call.
    """

    def __init__(
        self, link: Link, *, clock: Clock | None = None, queue_frames: int = QUEUE_FRAMES
    ) -> None:
        super().__init__(link, clock=clock)
        self.stats = self.below.stats or self.stats
        self.queue = HandoverQueue(queue_frames)
        self.guard: AbstractContextManager[Any] = nullcontext()
        self._lent = False
        self._watched = False
        self._refused = False  # the link has frames that did not fit the queue
        self._sending = False
        self._left: tuple[FrameBatch, int] | None = None

    def __repr__(self) -> str:
        return f"Handover({self.link!r}, lent={self._lent})"

    @property
    def caps(self) -> LinkCaps:
        """The capabilities of the link below; its calls of the port hold the guard."""
        below = self.below
        return replace(
            below,
            shared=below.shared and _GuardedStation(self, below.shared),
            fibre=below.fibre and _GuardedFibre(self, below.fibre),
            clock=self.clock,
            stats=self.stats,
        )

    def lend(self) -> HandoverQueue:
        """Let the caller read and write `queue`, in a thread of its own."""
        if not self._watched:
            self.clock.add_reader(self.queue.ready_fd, self._ready)
            self._watched = True
        self._lent = True
        left, self._left = self._left, None
        if left is not None:
            batch, at = left
            self.stats.drop("lent", len(batch) - self.queue.give(batch, at))
            pool.put(batch)
        return self.queue

    def reclaim(self, left: tuple[FrameBatch, int] | None = None) -> None:
        """Deliver the port's frames in this thread again; the borrower has stopped.

        `left` is a batch that the borrower has read, and the index of its first undelivered frame.
        Frames that the borrower has written are sent first.
        """
        self._lent = False
        batch, at = left if left is not None else (pool.get(), 0)
        self.queue.read(batch, self.queue.max_frames)
        self._left = batch, at
        self.clock.call_soon(self._give_left)

    def settle(self) -> None:
        """Send the frames that the borrower has written."""
        self._send()

    def failed(self, error: int) -> bool:
        """No effect, since a queue has no read errors."""
        return True

    # --- called by the clock and the link ---------------------------------------------------------

    def _ready(self) -> None:
        """The borrower has written something, or has made room."""
        self.queue.clear()
        self.tx_ready()
        if self._refused and self.queue.room:
            self._refused = False
            self.link.rx_ready()

    def _send(self) -> None:
        if self._sending:
            return  # the link requests more while accepting some
        self._sending = True
        try:
            while self.queue.waiting:
                room = self.link.tx_room()
                if room <= 0:
                    return
                self.link.transmit(self.queue.take(pool.get(), room))
        finally:
            self._sending = False

    def _give_left(self) -> None:
        if self._left is None:
            return
        (batch, at), self._left = self._left, None
        if self.port is not None and at < len(batch):
            self.port.receive(batch, at, False)
        pool.put(batch)
        if self._refused:
            self._refused = False
            self.link.rx_ready()

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive frames from the link below. Borrows `batch` until return."""
        if not self._lent or self.port is None:
            self._give_left()
            return super().receive(batch, start, hold)
        end = self.queue.give(batch, start)
        if end == len(batch):
            return end
        if hold:
            self._refused = True
            return end
        self.stats.drop("no room", len(batch) - end)
        return len(batch)

    def tx_ready(self) -> None:
        """The link below has room again, or frames are pending here."""
        self._send()
        if not self._lent and not self.queue.waiting:
            super().tx_ready()

    # --- called by the port ----------------------------------------------------------------------

    def tx_room(self) -> int:
        """Return how many frames `transmit` accepts now."""
        return 0 if self.queue.waiting else super().tx_room()

    def rx_ready(self) -> None:
        """The port above has room again."""
        if not self._lent:
            super().rx_ready()

    def detach(self) -> None:
        """Unplug the port, and this from the link below; queued frames are lost."""
        if self.port is None:
            return
        if self._watched:
            self._watched = False
            self.clock.remove_reader(self.queue.ready_fd)
        if self.queue.waiting:
            self.stats.drop("unplugged", self.queue.waiting)
        self.queue.close()
        self._left = None
        super().detach()


def guard_port(wire: Handover | BaseLink, guard: AbstractContextManager[Any]) -> None:
    """Hold `guard` when `wire` calls its port, as another thread serves the port's rings
    or, after `reclaim`, its interrupts."""
    assert wire.port is not None
    wire.port = _GuardedPort(wire.port, guard)
    if isinstance(wire, Handover):
        wire.guard = guard


class _GuardedPort:
    """A `LinkPort` that is called with `guard` held."""

    def __init__(self, port: LinkPort, guard: AbstractContextManager[Any]) -> None:
        self._port = port
        self._guard = guard

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Receive frames.  Borrows `batch` until return."""
        with self._guard:
            return self._port.receive(batch, start, hold)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """Handle a change of carrier."""
        with self._guard:
            self._port.link_changed(up, speed_mbps, full_duplex)

    def tx_ready(self) -> None:
        """The link has room again."""
        with self._guard:
            self._port.tx_ready()


class _GuardedStation:
    """The shared wire below; it calls the port's station with the guard held."""

    def __init__(self, handover: Handover, below: SharedWire) -> None:
        self._handover = handover
        self._below = below

    @property
    def station(self) -> Station:
        """The port's station."""
        return self._below.station

    @station.setter
    def station(self, station: Station) -> None:
        self._below.station = RelayedStation(station, self._tell)

    def _tell(self, name: str, fn: Callable[..., object], *args: Any) -> None:
        with self._handover.guard:
            fn(*args)


class _GuardedFibre:
    """The fibre below; it notifies the port with the guard held."""

    def __init__(self, handover: Handover, below: FibreWire) -> None:
        self._handover = handover
        self._below = below

    @property
    def tx_config(self) -> int | None:
        """What the port sends besides frames."""
        return self._below.tx_config

    @tx_config.setter
    def tx_config(self, value: int | None) -> None:
        self._below.tx_config = value

    @property
    def rx_config(self) -> int | None:
        """What the far end sends."""
        return self._below.rx_config

    @property
    def on_rx_config(self) -> Callable[[], object] | None:
        """The callback for changes."""
        return self._below.on_rx_config

    @on_rx_config.setter
    def on_rx_config(self, fn: Callable[[], object] | None) -> None:
        self._below.on_rx_config = None if fn is None else lambda: self._tell(fn)

    def _tell(self, fn: Callable[[], object]) -> None:
        with self._handover.guard:
            fn()
