"""A cable between two ports: lossless, with push-back, delay and rate if configured.

Batches are passed without touching frames: a batch costs one call on the clock, however many
frames it contains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from e1000emu.links.base import DEFAULT_QUEUE_FRAMES, BaseLink, optional_rate, whole
from e1000emu.links.caps import LinkCaps
from e1000emu.ports import Clock
from fastpath.errors import check_clock
from fastpath.nic.cable import GAP_BYTES, WIRE_OVERHEAD_BYTES, CableEnd

__all__ = ["WIRE_OVERHEAD_BYTES", "PairEnd", "pair"]


class PairEnd(CableEnd, BaseLink):
    """One end of a cable. Frames sent into it arrive at `peer`'s port.

    The compiled base carries the frames (`tx_room`, `transmit`, `rx_ready`); plugging is here.
    """

    peer: PairEnd

    def __init__(
        self,
        clock: Clock,
        *,
        latency_ns: int = 0,
        rate_bps: int | None = None,
        queue_frames: int = DEFAULT_QUEUE_FRAMES,
    ) -> None:
        super().__init__(clock)
        self._shape(
            whole("pair", "latency_ns", latency_ns, 0, unit="ns"),
            optional_rate("pair", "rate_bps", rate_bps) or 0,
            whole("pair", "queue_frames", queue_frames, 1),
        )
        self._cable = True
        self._latency_ns = latency_ns
        self._tx_config: int | None = None
        self.rx_config: int | None = None
        """Signal from a fibre board at the far end; None: not a fibre board."""
        self.on_rx_config: Callable[[], object] | None = None
        """Called when it has changed."""

    def __repr__(self) -> str:
        return f"PairEnd(carrier={self._carrier}, queued={self._queued})"

    @property
    def caps(self) -> LinkCaps:
        """Frames take time, and it may be a fibre."""
        return replace(super().caps, timed=self, fibre=self)

    def _attached(self) -> None:
        # The port that is plugged in reads the carrier itself; only the far one is notified.
        self._carrier = self._cable and self.peer.port is not None
        self.sink = getattr(self.port, "sink", None)
        self.peer._set_carrier(self._carrier)

    def _detached(self) -> None:
        self.sink = None
        self._tx_config = self.peer.rx_config = self.on_rx_config = None
        self.gap_bytes = GAP_BYTES
        self.stats.drop("unplugged", self._flush())
        self._both_carriers()
        self._offer_room()

    @property
    def tx_config(self) -> int | None:
        """What the port's fibre board sends besides frames; None: not a fibre board."""
        return self._tx_config

    @tx_config.setter
    def tx_config(self, value: int | None) -> None:
        if value != self._tx_config:
            self._tx_config = value
            arrives = self.clock.now_ns() + self._latency_ns
            self.clock.call_at(arrives, lambda: self.peer._hear(value))

    def _hear(self, value: int | None) -> None:
        if self.peer.port is None:
            return  # unplugged meanwhile
        self.rx_config = value
        if self.on_rx_config is not None:
            self.on_rx_config()

    def plug(self, connected: bool) -> None:
        """Connect or cut the cable; frames in flight still arrive."""
        self._cable = self.peer._cable = connected
        self._both_carriers()

    def _both_carriers(self) -> None:
        up = self._cable and self.port is not None and self.peer.port is not None
        self._set_carrier(up)
        self.peer._set_carrier(up)


def pair(
    clock: Clock,
    *,
    latency_ns: int = 0,
    rate_bps: int | None = None,
    queue_frames: int = DEFAULT_QUEUE_FRAMES,
) -> tuple[PairEnd, PairEnd]:
    """Create a cable and return its two ends; `queue_frames` bounds each direction.

    With `rate_bps` a batch arrives when its last bit does, `latency_ns` later; None: no
    limit. Raises: LinkError for negative values or non-integers.
    """
    check_clock("pair", clock)
    a, b = (
        PairEnd(clock, latency_ns=latency_ns, rate_bps=rate_bps, queue_frames=queue_frames)
        for _ in range(2)
    )
    a.peer, b.peer = b, a
    return a, b
