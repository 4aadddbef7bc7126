from fastpath.batch import FrameBatch
from fastpath.dma import DmaTable
from fastpath.pktbuf import PacketBuffer
from fastpath.regfile import Stats

# Bits of what run() returns: ICR causes in place, then the run's own flags.
TXDW: int
"""ICR bit 0: a descriptor with RS and without IDE was written back."""
TXQE: int
"""ICR bit 1: the last descriptor was taken (head met tail)."""
TXD_LOW: int
"""ICR bit 15: pending descriptors fell to TXDCTL.LWTHRESH * 8."""
RUN_DELAYED: int
"""Bit 24: a descriptor with RS and IDE was written back: (re)start TIDV, start TADV if idle; TXDW
when they end."""
RUN_MORE: int
"""Bit 25: max_frames (or one ring's worth of descriptors) reached with work left: run again."""
RUN_ABORT: int
"""Bit 26: a descriptor fetch or write-back was a master abort; the engine stopped there."""
RUN_DATA_ABORT: int
"""Bit 27: a data fetch was a master abort; those bytes were sent as FF."""
RUN_OFF: int
"""Bit 28: nothing done: TCTL.EN clear, bus master off, ring below 8 descriptors, head or tail
beyond it."""

class TxEngine:
    """One transmit queue of the 8254x (SDM 3.3-3.5). Fields are registers: set them whenever
    written."""

    base: int
    """TDBAH:TDBAL (bits 3:0 ignored)."""
    len: int
    """TDLEN in bytes."""
    head: int
    tail: int
    tctl: int
    txdctl: int
    vet: int
    vme: bool
    """CTRL.VME: VLE inserts tags."""
    low_cause: int
    """The cause of LWTHRESH: TXD_LOW, or 0 for a part without. reset() keeps it."""
    rps: bool
    """82544: the RPS bit reports status as RS does."""
    max_frame: int
    """Frames longer than this (FCS not counted) are dropped; at most 16384."""
    gso_max_bytes: int
    """IP bytes of the longest super-frame the link takes (its `gso_max_bytes`); 0: cut everything
    here. A super-frame has FB_GSO_TCPV4 or FB_GSO_TCPV6 and a mark (fastpath/batch.pxd) and counts
    once in `max_frames`, but in the statistics as the frames it is on the wire. reset() keeps
    it."""
    gso_udp: bool
    """The link takes UDP super-frames too (its `gso_udp`), marked FB_GSO_UDP. reset() keeps it."""
    run_bytes: int
    """A run pauses between frames when its batch has got so many bytes; 0: no limit. reset() keeps
    it."""
    # Counters of misuse, for the explanations; never cleared but by reset().
    mixed_drops: int
    oversize_drops: int
    tso_fails: int
    empty_frames: int
    csum_skips: int
    ring_errors: int
    desc_aborts: int
    data_aborts: int
    buffer: PacketBuffer
    def __init__(self, dma: DmaTable, stats: Stats, buffer: PacketBuffer | None = None) -> None: ...
    def run(self, batch: FrameBatch, max_frames: int = 256) -> int:
        """Take descriptors until tail or the limit, append frames to `batch` (borrowed), write
        back.

        Never appends more than `max_frames`; a TSO frame may pause in the middle (RUN_MORE).
        Releases the GIL when 8 or more descriptors wait. Called again while it runs (from
        another thread, or from a message-DMA callback) it does nothing and returns RUN_OFF;
        `reset`, `load` and `abort_frame` then raise BufferError.
        """
    def pending(self) -> int:
        """Descriptors between head and tail (0 when the ring is off)."""
    def mid_frame(self) -> bool:
        """A frame is begun and not yet ended by EOP."""
    def abort_frame(self) -> None:
        """Forget the unfinished frame (TCTL.EN cleared, ring moved); contexts stay."""
    def reset(self) -> None:
        """CTRL.RST / power-on: ring registers, contexts and the unfinished frame go; TCTL=0."""
    def state(self) -> bytes: ...
    def load(self, data: bytes) -> None: ...
