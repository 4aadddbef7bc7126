"""A capture whose packet comments state where and why a frame was dropped."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from e1000emu.capture import DIRECTION_IN, DIRECTION_OUT, PcapngWriter, with_comments
from e1000emu.links import pool
from e1000emu.links.capture import Capture
from e1000emu.links.impair import Impair
from fastpath.nic.linkops import epb_encode

if TYPE_CHECKING:
    from e1000emu.ports import Clock, Link
    from fastpath.base.batch import FrameBatch

# Frames are kept this long before they are written: a later comment is lost.
HOLD_NS = 1_000_000_000
HOLD_FRAMES = 65536
SNAP_BYTES = 262144
ETHERNET_BYTES = 14
# The bytes of an IPv4 packet not changed by GRO and checksum offload: no length, no checksum.
SAME = (slice(4, 10), slice(12, 64))

# The statistics registers that count a frame which did not reach the host (SDM 13.7).
DEVICE_DROPS = {
    "CRCERRS": "wrong CRC",
    "ALGNERRC": "alignment error",
    "RXERRC": "receive error",
    "RUC": "undersize",
    "RFC": "fragment",
    "ROC": "oversize",
    "RJC": "jabber",
    "MPC": "missed: no descriptor and no room in the FIFO",
}


@dataclass(slots=True)
class _Held:
    when_ns: int
    block: bytes
    frame: bytes
    direction: int
    comments: list[str] = field(default_factory=list)


class AnnotatedCapture(Capture):
    """`AnnotatedCapture(Impair(link, loss=0.01), "a.pcapng")`: a capture with packet comments.

    Comments mark frames lost by the wire if `link` is an `Impair`, dropped by the device above
    (`watch_device`) and by a stack (`dropped_by_stack`). Frames that the wire loses before
    they reach the port are written too. Frames are delivered one by one and written a second of
    the clock later, so this is for inspection, not for measurements.
    """

    def __init__(
        self,
        link: Link,
        path: str | os.PathLike[str] | PcapngWriter,
        *,
        name: str = "eth0",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(link, path, name=name, snap_bytes=SNAP_BYTES, clock=clock)
        self._held: deque[_Held] = deque()
        self._sending: list[_Held] = []
        self._asked: _Held | None = None
        """The frame that the port was last offered."""
        self._statistics: Callable[[], Mapping[str, int]] | None = None
        if isinstance(link, Impair):
            link.on_loss = self._lost

    def watch_device(self, statistics: Callable[[], Mapping[str, int]]) -> None:
        """Comment on frames dropped by the port above, from its statistics registers by name."""
        self._statistics = statistics

    def dropped_by_stack(self, who: str, packet: bytes, reason: str, *, received: bool) -> None:
        """Comment on the newest frame that carries `packet`, the first bytes of an IPv4 or other
        packet after the Ethernet header; `received` by the port above, or sent by it."""
        direction = DIRECTION_IN if received else DIRECTION_OUT
        for held in reversed(self._held):
            if held.direction == direction and _same_packet(held.frame, packet):
                held.comments.append(f"dropped by {who}: {reason}")
                return

    def _lost(self, way: str, batch: FrameBatch, i: int) -> None:
        if way == "tx":
            held = self._sending[i]
        else:
            (held,) = self._hold(batch, i, i + 1, DIRECTION_IN)
        held.comments.append("dropped by the wire: loss")

    def _write(self, batch: FrameBatch, start: int, stop: int, direction: int) -> None:
        self._hold(batch, start, stop, direction)

    def _hold(self, batch: FrameBatch, start: int, stop: int, direction: int) -> list[_Held]:
        now = self.clock.now_ns()
        new = []
        for i in range(start, stop):
            block = epb_encode(
                batch, i, i + 1, self._interface, now, self._epoch_ns, direction, SNAP_BYTES
            )
            new.append(_Held(now, block, batch[i], direction))
        self._held += new
        while self._held and (
            self._held[0].when_ns + HOLD_NS < now or len(self._held) > HOLD_FRAMES
        ):
            self._write_first()
        return new

    def _write_first(self) -> None:
        held = self._held.popleft()
        self.writer.append(
            with_comments(held.block, held.comments) if held.comments else held.block
        )

    def transmit(self, batch: FrameBatch) -> None:
        """Record and send the frames. Takes ownership of `batch`."""
        self._sending = self._hold(batch, 0, len(batch), DIRECTION_OUT)
        self.link.transmit(batch)
        self._sending = []

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Record new frames and pass them on one by one. Borrows `batch` until
        return."""
        if self.port is None:
            return super().receive(batch, start, hold)
        for i in range(start, len(batch)):
            held = self._asked if self._offered else None
            if held is None:
                (held,) = self._hold(batch, i, i + 1, DIRECTION_IN)
            self._asked, self._offered = held, 1
            if not self._give(batch, i, hold, held):
                return i
            self._offered = 0
        return len(batch)

    def _give(self, batch: FrameBatch, i: int, hold: bool, held: _Held) -> bool:
        """Offer the port one frame; return whether it was accepted."""
        assert self.port is not None
        before = self._statistics() if self._statistics is not None else {}
        one = pool.get()
        one.extend(batch, i, i + 1)
        taken = self.port.receive(one, 0, hold) > 0
        pool.put(one)
        if taken and self._statistics is not None:
            why = _device_drop(before, self._statistics())
            if why:
                held.comments.append(f"dropped by the device: {why}")
        return taken

    def close(self) -> None:
        """Write the buffered frames, and close as a capture does."""
        while self._held:
            self._write_first()
        super().close()


def _device_drop(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    for name, why in DEVICE_DROPS.items():
        if after[name] > before[name]:
            return f"{why} ({name})"
    if after["TPR"] > before["TPR"] and after["GPRC"] == before["GPRC"]:
        return "no filter matched"
    return "" if after["TPR"] > before["TPR"] else "receiver off"


def _same_packet(frame: bytes, packet: bytes) -> bool:
    of_frame = frame[ETHERNET_BYTES : ETHERNET_BYTES + len(packet)]
    return len(packet) >= 20 and all(of_frame[part] == packet[part] for part in SAME)
