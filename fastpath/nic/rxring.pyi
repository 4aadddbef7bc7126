from typing import Any, final

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic.pktbuf import PacketBuffer
from fastpath.nic.regfile import Stats
from fastpath.nic.ring import DescriptorRing
from fastpath.nic.rxfilter import RxFilter

# ICR causes collected in RxEngine.causes.
RXSEQ: int
"""Bit 3: a symbol (sequence) error arrived."""
RXDMT0: int
"""Bit 4: free descriptors fell to the RCTL.RDMTS fraction."""
RXO: int
"""Bit 6: a frame was lost because the FIFO was full."""
RXT0: int
"""Bit 7: at least one frame was stored; RDTR/RADV are the control plane's."""
SRPD: int
"""Bit 16: a frame of at most RSRPD bytes was stored (82540 and later)."""
RX_ABORT: int
"""Bit 26 of causes: a descriptor fetch or write-back was a master abort; reception stopped."""
RX_DATA_ABORT: int
"""Bit 27 of causes: data fell outside memory and vanished."""

def crc32(data: bytes, crc: int = 0) -> int: ...
def crc32_set_level(level: int = -1) -> int: ...

@final
class RxEngine(DescriptorRing):
    prefetched: int
    """Descriptors up to this index can be read now, since memory answers by messages; -1: all up
    to the tail."""
    promiscuous: bool
    """Runs take every address, whatever RCTL says: for MAC control frames that RCTL.PMCF passes."""
    fifo_bytes: int
    """Size of the receive FIFO: PBA.RXA * 1024. Setting it divides the packet buffer anew: what
    waits is forgotten."""
    pad_runts: bool
    """True (default): frames that came without FCS are padded to 60 bytes. False: they are runts
    (RUC)."""
    causes: int
    """Causes since the control plane last took them."""
    # Counters beside the registers; cleared by reset().
    frames_dropped_disabled: int
    frames_filtered: int
    frames_bad: int
    frames_missed: int
    @property
    def symbol_errors(self) -> int:
        """Frames amid which the PHY saw a symbol error (RX_ER); no reset makes it 0."""
    @property
    def filter(self) -> RxFilter: ...
    def __init__(
        self,
        dma: DmaTable,
        stats: Stats,
        filter: RxFilter,  # noqa: A002
        buffer: PacketBuffer | None = None,
    ) -> None: ...
    def receive(self, batch: FrameBatch, start: int = 0, hold: bool = False) -> int: ...
    def prefetch(self, low: int, host: int) -> None: ...
    def wants(self) -> bool: ...
    def fetch(self, end: int = -1) -> int: ...
    def turn(self, bits: int) -> bool: ...
    def ring_moved(self) -> None: ...
    def repay(self) -> None: ...
    def kick(self) -> int: ...
    def take_causes(self) -> int: ...
    def free_descriptors(self) -> int: ...
    def ready(self) -> bool: ...
    def takes(self, n: int) -> bool: ...
    def flush_fifo(self) -> None: ...
    @property
    def fifo_used(self) -> int: ...
    @property
    def fifo_frames(self) -> int: ...
    def reset(self) -> None: ...
    def state(self) -> dict[str, Any]: ...
    def load(self, state: dict[str, Any]) -> None: ...
