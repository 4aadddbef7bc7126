from typing import Any, final

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic.pktbuf import PacketBuffer
from fastpath.nic.regfile import RegFile, Stats
from fastpath.nic.ring import DescriptorRing

# Bits of what run() returns: ICR causes in place, then the run's own flags.
TXDW: int
"""ICR bit 0: a descriptor with RS and without IDE was written back."""
TXQE: int
"""ICR bit 1: the last descriptor was taken (head met tail)."""
TXD_LOW: int
"""ICR bit 15: pending descriptors fell to TXDCTL.LWTHRESH * 8."""
RUN_DELAYED: int
"""Bit 24: the last descriptor with RS that was written back had IDE: (re)start TIDV, start TADV if
idle, after what TXDW does; TXDW when they end."""
RUN_MORE: int
"""Bit 25: max_frames (or one ring's worth of descriptors) reached with work left: run again."""
RUN_ABORT: int
"""Bit 26: a descriptor fetch or write-back was a master abort; the engine stopped there."""
RUN_DATA_ABORT: int
"""Bit 27: a data fetch was a master abort; those bytes were sent as FF."""
RUN_OFF: int
"""Bit 28: nothing done: TCTL.EN clear, bus master off, ring below 8 descriptors, head or tail
beyond it."""

@final
class TxEngine(DescriptorRing):
    low_cause: int
    """The cause of LWTHRESH: TXD_LOW, or 0 for a part without. reset() keeps it."""
    rps: bool
    """82544: the RPS bit reports status as RS does. reset() keeps it."""
    max_frame: int
    """Frames longer than this (FCS not counted) are dropped; at most 16384."""
    gso_max_bytes: int
    """IP bytes of the longest super-frame the link takes (its `gso_max_bytes`); 0: cut everything
    here. A super-frame has FB_GSO_TCPV4 or FB_GSO_TCPV6 and a mark (fastpath/base/batch.pxd) and
    counts once in `max_frames`, but in the statistics as the frames it is on the wire. reset()
    keeps it."""
    gso_udp: bool
    """The link takes UDP super-frames too (its `gso_udp`), marked FB_GSO_UDP. reset() keeps it."""
    # Counters of misuse, for the explanations; never cleared but by reset().
    mixed_drops: int
    oversize_drops: int
    tso_fails: int
    empty_frames: int
    csum_skips: int
    def __init__(
        self, dma: DmaTable, stats: Stats, regs: RegFile, buffer: PacketBuffer | None = None
    ) -> None: ...
    uncounted: bool
    """Frames that leave are not counted: the wire, which may give them up, says so by `count`.
    reset() keeps it."""
    def count(self, frame: bytes, with_fcs: bool = False) -> None: ...
    def repay(self) -> int: ...
    def run(self, batch: FrameBatch, max_frames: int = 256, *, max_bytes: int = 0) -> int: ...
    def pending(self) -> int: ...
    def mid_frame(self) -> bool: ...
    def prefetch(self, low: int, host: int) -> None: ...
    def fetch(self, end: int = -1) -> int: ...
    def turn(self, bits: int) -> bool: ...
    def ahead(self) -> tuple[int, int, int, int, int, bool, bool] | None: ...
    def fill(self) -> int: ...
    def ring_moved(self) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...
