from typing import Any

from fastpath.base.batch import FrameBatch

KEEP_BYTES: int
"""A batch that grew past this goes back to the allocator instead of holding its arena for ever."""
WIRE_OVERHEAD_BYTES: int
GAP_BYTES: int
"""Preamble, start delimiter, FCS and the gap between frames (IEEE 802.3 4.2.3.2)."""

class LinkStats:
    tx_frames: int
    tx_bytes: int
    rx_frames: int
    rx_bytes: int
    drops: dict[str, int]
    def __init__(self) -> None: ...
    def drop(self, reason: str, frames: int) -> None: ...

class BatchPool:
    keep: int
    made: int
    returned: int
    def __init__(self, keep: int = 64) -> None: ...
    def get(self) -> FrameBatch: ...
    def put(self, batch: FrameBatch) -> None: ...

shared: BatchPool
"""The one that all links of the process use."""

class FrameSink:
    def store(self, batch: FrameBatch) -> int: ...
    def stored(self) -> int: ...

class CableEnd:
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
    def tx_room(self) -> int: ...
    def transmit(self, batch: FrameBatch) -> None: ...
    def rx_ready(self) -> None: ...
    def _shape(self, latency_ns: int, rate_bps: int, queue_frames: int) -> None: ...
    def _flush(self) -> int: ...
    def _offer_room(self) -> None: ...
    def _deliver(self) -> None: ...
