"""A repeater: stations that share one wire, half duplex, by CSMA/CD (IEEE 802.3 clause 4).

A station with a frame waits until the wire has been idle for a gap, and sends. Stations
that begin before they detect each other collide. Each stops and retries after a random number
of slots, from a range that doubles each time. Everything is an event on the clock, and random
numbers come from a seed.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from e1000emu.errors import LinkError
from e1000emu.links import pool
from e1000emu.links.base import BaseLink, whole
from e1000emu.links.station import GAP_BYTES, Station
from fastpath.base.batch import FB_HAS_FCS

if TYPE_CHECKING:
    from e1000emu.links.caps import LinkCaps
    from e1000emu.ports import Clock, TimerHandle
    from fastpath.base.batch import FrameBatch

PREAMBLE_BYTES, FCS_BYTES, JAM_BYTES = 8, 4, 4
SLOT_BYTES = 64
"""At 10 and 100 Mb/s: the unit of the back-off and the collision window."""
BACKOFF_LIMIT = 10
"""Maximum exponent of the back-off (4.2.3.2.5)."""
EXCESSIVE = 16
QUEUE_FRAMES = 64


class _Sending:
    """A frame on the wire."""

    __slots__ = ("end_ns", "flags", "frame", "port", "spoiled", "start_ns", "stopped", "timer")

    def __init__(self, port: HubPort, frame: bytes, flags: int, start_ns: int, end_ns: int) -> None:
        self.port, self.frame, self.flags = port, frame, flags
        self.start_ns, self.end_ns = start_ns, end_ns
        self.spoiled = self.stopped = False
        self.timer: TimerHandle | None = None


class HubPort(BaseLink):
    """One plug of a hub: a link, for a NIC.  It does CSMA/CD as configured by its `station`."""

    full_duplex = False
    """Autonegotiation of the PHY: a hub is half duplex."""

    def __init__(self, hub: Hub, number: int, seed: int) -> None:
        super().__init__(hub.clock, speed_mbps=hub.speed_mbps)
        self.hub = hub
        self.number = number
        self.station = Station()
        self.gap_bytes = GAP_BYTES
        """The gap after an own frame; a NIC sets it."""
        self._random = random.Random(f"{seed}/{number}")
        self._queue: deque[tuple[bytes, int]] = deque()
        """Frames, and their FB_* flags."""
        self._starved = False
        self._sending: _Sending | None = None
        self._timer: TimerHandle | None = None
        self._deferring = False
        self._collisions = 0
        self._ready_ns = 0
        """No own frame may begin before this time: the gap after an own frame, or the back-off."""
        self._silent_ns = -(1 << 40)
        """When the last carrier of others ended."""
        self._counting = False
        """The gap after others' frames runs."""

    def __repr__(self) -> str:
        return f"HubPort({self.number}, carrier={self._carrier}, queued={len(self._queue)})"

    @property
    def caps(self) -> LinkCaps:
        """Frames take time on a shared wire."""
        return replace(super().caps, timed=self, shared=self)

    @property
    def busy_ns(self) -> int:
        """0: the wire reports the end of a frame (`Station.over`)."""
        return 0

    def _attached(self) -> None:
        self._carrier = True

    def _detached(self) -> None:
        self._carrier = False
        self.station = Station()
        if self._sending is not None:
            self._sending.stopped = True  # the rest of its frame never comes
        self.stats.drop("unplugged", len(self._queue))
        self._queue.clear()
        self._collisions = 0
        self._deferring = self._starved = self._counting = False

    def tx_room(self) -> int:
        """Return how many frames may wait here; 0 promises a `tx_ready`."""
        room = max(0, self.hub.queue_frames - len(self._queue))
        self._starved = not room
        return room

    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames when the wire is free. Takes ownership of `batch`."""
        self.stats.tx_frames += len(batch)
        self.stats.tx_bytes += batch.nbytes
        self._queue.extend((bytes(batch[i]), batch.flags(i)) for i in range(len(batch)))
        pool.put(batch)
        self._go()

    def hear(self, frame: bytes, flags: int) -> None:
        """A whole frame was received."""
        if self.port is None:
            return
        batch = pool.get()
        batch.append(frame, flags)
        self.stats.rx_frames += 1
        self.stats.rx_bytes += len(frame)
        self.port.receive(batch, 0, False)
        pool.put(batch)

    # --- access to the wire ---------------------------------------------------------------------

    def _go(self) -> None:
        """Look at the wire, unless that is to happen later."""
        if self._queue and self._sending is None and self._timer is None and not self._deferring:
            self._attempt()

    def _later(self, when_ns: int) -> None:
        self._timer = self.clock.call_at(when_ns, self._attempt)

    def _attempt(self) -> None:
        """Send the first frame, or compute how long to wait."""
        self._timer = None
        if not self._queue:
            return
        now, station = self.clock.now_ns(), self.station
        ready = self._ready_ns
        if not station.full_duplex:
            heard, self._counting = self.hub.heard(self, now), False
            if heard:
                self._deferring = True  # `silence` continues
                station.deferred()
                return
            after = self._silent_ns + self.hub.bytes_ns(station.defer_bytes)
            if after > max(now, ready):
                self._counting = True
                station.deferred()
            ready = max(ready, after)
        if ready > now:
            self._later(ready)
        else:
            self._sending = self.hub.start(self, *self._queue[0], now)

    def ignores(self, begin_ns: int) -> bool:
        """Return whether a carrier from `begin_ns` on is too late to restart the gap."""
        sense_ns = self.hub.bytes_ns(self.station.sense_bytes)
        return self._counting and begin_ns > self._silent_ns + sense_ns

    def silence(self, now_ns: int, *, all_silent: bool) -> None:
        """The frames of other stations have ended."""
        self._silent_ns = now_ns
        if self._deferring and all_silent:
            self._deferring = False
            if self._timer is None and self._sending is None:
                self._counting = True
                after = now_ns + self.hub.bytes_ns(self.station.defer_bytes)
                self._later(max(self._ready_ns, after))

    # --- the outcome of a frame ------------------------------------------------------------------

    def collided(self, sending: _Sending, *, late: bool) -> None:
        """A collision was detected in our frame; it stops at `sending.end_ns`."""
        station = self.station
        if late:
            station.collided_late()
            if not station.retry_late:
                self._done()
                return
        else:
            station.collided()
        self._collisions += 1
        if self._collisions == EXCESSIVE:
            station.excessive()
        if self._collisions > station.retries:
            self.stats.drop("excessive collisions", 1)
            self._done()
            return
        slots = self._random.randrange(1 << min(self._collisions, BACKOFF_LIMIT))
        self._ready_ns = sending.end_ns + self.hub.bytes_ns(slots * SLOT_BYTES)

    def ended(self, sending: _Sending) -> None:
        """Our frame has ended, complete or not."""
        self._sending = None
        if not sending.stopped and self._queue:
            frame, flags = self._queue[0]
            self.station.sent(self._collisions, frame, bool(flags & FB_HAS_FCS))
            self._done()
        gap_ns = self.hub.bytes_ns(self.gap_bytes)
        self._ready_ns = max(self._ready_ns, sending.end_ns + gap_ns)
        if self._starved and self.port is not None and len(self._queue) < self.hub.queue_frames:
            self._starved = False
            self.port.tx_ready()
        self._go()

    def _done(self) -> None:
        self._collisions = 0
        if self._queue:
            self._queue.popleft()
            self.station.over()


class Hub:
    """The wire and its plugs, `ports`, each of them a link.

    `delay_ns` is the propagation delay between any two plugs: stations that begin within it
    collide, late if it exceeds half a slot.  Call with the clock's lock held.
    Raises: LinkError for a speed other than 10 and 100, and for negative values.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ports: int = 2,
        speed_mbps: int = 10,
        delay_ns: int = 0,
        seed: int = 0,
        queue_frames: int = QUEUE_FRAMES,
    ) -> None:
        if speed_mbps not in (10, 100):
            raise LinkError(f"Hub: speed_mbps={speed_mbps!r}; a repeater has 10 or 100")
        self.clock = clock
        self.speed_mbps = speed_mbps
        self.delay_ns = whole("Hub", "delay_ns", delay_ns, 0, unit="ns")
        self.queue_frames = whole("Hub", "queue_frames", queue_frames, 1)
        count = whole("Hub", "ports", ports, 2)
        self.ports = tuple(HubPort(self, n, seed) for n in range(count))
        self._wire: list[_Sending] = []

    def bytes_ns(self, count: int) -> int:
        """Return the time of `count` bytes on the wire."""
        return count * 8_000 // self.speed_mbps

    def heard(self, port: HubPort, now_ns: int) -> bool:
        """Return whether `port` detects another station and must defer to it."""
        for sending in self._wire:
            begin = sending.start_ns + self.delay_ns
            if sending.port is port or not begin < now_ns < sending.end_ns + self.delay_ns:
                continue
            if not port.ignores(begin):
                return True
        return False

    def start(self, port: HubPort, frame: bytes, flags: int, now_ns: int) -> _Sending:
        """Put a frame on the wire; frames already on it or in flight collide."""
        fcs = 0 if flags & FB_HAS_FCS else FCS_BYTES
        length = self.bytes_ns(PREAMBLE_BYTES + len(frame) + fcs)
        new = _Sending(port, frame, flags, now_ns, now_ns + length)
        for old in self._wire:
            if old.port is port or now_ns >= old.end_ns + self.delay_ns:
                continue
            old.spoiled = new.spoiled = True
            self._notice(old, now_ns + self.delay_ns)
            self._notice(new, max(now_ns, old.start_ns + self.delay_ns))
        self._wire.append(new)
        new.timer = self.clock.call_at(new.end_ns, lambda: self._end(new))
        return new

    def _notice(self, sending: _Sending, when_ns: int) -> None:
        if not sending.port.station.full_duplex:
            self.clock.call_at(when_ns, lambda: self._collide(sending))

    def _collide(self, sending: _Sending) -> None:
        """A station detects another one during its frame: it jams and stops."""
        now = self.clock.now_ns()
        if sending.stopped or sending.timer is None or now >= sending.end_ns:
            return
        sending.timer.cancel()
        sending.stopped = True
        sending.end_ns = now + self.bytes_ns(JAM_BYTES)
        late = now - sending.start_ns > self.bytes_ns(PREAMBLE_BYTES + SLOT_BYTES)
        sending.port.collided(sending, late=late)
        sending.timer = self.clock.call_at(sending.end_ns, lambda: self._end(sending))

    def _end(self, sending: _Sending) -> None:
        sending.timer = None
        self.clock.call_at(sending.end_ns + self.delay_ns, lambda: self._arrive(sending))
        sending.port.ended(sending)

    def _arrive(self, sending: _Sending) -> None:
        """The end of a frame has reached the others."""
        now = self.clock.now_ns()
        self._wire.remove(sending)
        for port in self.ports:
            if port is sending.port:
                continue
            port.silence(now, all_silent=not self.heard(port, now))
            if not sending.spoiled and not sending.stopped:
                port.hear(sending.frame, sending.flags)
