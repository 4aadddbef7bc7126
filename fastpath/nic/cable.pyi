from typing import Any

from fastpath.base.batch import FrameBatch

KEEP_BYTES: int
"""A batch that grew past this goes back to the allocator instead of holding its arena for ever."""
WIRE_OVERHEAD_BYTES: int
GAP_BYTES: int
"""Preamble, start delimiter, FCS and the gap between frames (IEEE 802.3 4.2.3.2)."""

class LinkStats:
    """Counted by the batch: `tx` from the port into the link, `rx` from the link to the port."""

    tx_frames: int
    tx_bytes: int
    rx_frames: int
    rx_bytes: int
    drops: dict[str, int]
    def __init__(self) -> None: ...
    def drop(self, reason: str, frames: int) -> None:
        """Count `frames` lost for `reason`."""

class BatchPool:
    """A free list of at most `keep` empty batches. Safe from any thread."""

    keep: int
    made: int
    returned: int
    def __init__(self, keep: int = 64) -> None: ...
    def get(self) -> FrameBatch:
        """Return an empty batch. Gives ownership to the caller."""
    def put(self, batch: FrameBatch) -> None:
        """Empty `batch` and keep it for the next `get`. Takes ownership of `batch`."""

shared: BatchPool
"""The one that all links of the process use."""

class FrameSink:
    """A port that stores frames at once and tells its host by a later event."""

    def store(self, batch: FrameBatch) -> int:
        """Borrow `batch`, take its first frames; how many: `receive` is for the rest.

        Its host is not to be told before `stored`.
        """
    def stored(self) -> int:
        """Tell the host of what `store` has taken."""

class CableEnd:
    """One end of a lossless cable with push-back; frames sent into it come out at `peer`'s port.

    A batch costs one call on the clock however many frames it has. Without delay and rate a port's
    `sink` takes frames into its host's memory while they are still in the sender's cache. An event
    brings the interrupt, as it brings the frames to other ports. `links.pair.PairEnd` adds
    plugging.
    """

    clock: Any
    port: Any
    stats: LinkStats
    peer: Any
    sink: FrameSink | None
    """The port's sink; None: it takes frames by `receive` only."""
    _carrier: bool
    latency_ns: int
    rate_bps: int
    queue_frames: int
    busy_ns: int
    """When the frames sent into this end are on the wire, where there is a rate."""
    gap_bytes: int
    """The gap between frames sent into this end, where there is a rate; 12 is IEEE 802.3's."""
    _queued: int
    def tx_room(self) -> int:
        """Return how many frames the cable takes now; 0 promises a `tx_ready` later."""
    def transmit(self, batch: FrameBatch) -> None:
        """Send the frames, also more than `tx_room`. Takes ownership of `batch`."""
    def rx_ready(self) -> None:
        """The port has room again."""
    def _shape(self, latency_ns: int, rate_bps: int, queue_frames: int) -> None:
        """Set delay, rate (0 = no limit) and how many frames may be on the way to this end."""
    def _flush(self) -> int:
        """Drop the frames on the way to this end; return their number."""
    def _offer_room(self) -> None:
        """Tell the peer's port when it waits and there is room."""
    def _deliver(self) -> None:
        """Hand the batches that have arrived to the port until it holds."""
