from fastpath.base.dma import DmaTable
from fastpath.nic.pktbuf import PacketBuffer
from fastpath.nic.regfile import RegFile, Stats

class DescriptorRing:
    """What the transmit and the receive engine have alike."""

    @property
    def base(self) -> int:
        """TDBAH:TDBAL or RDBAH:RDBAL, bits 3:0 being 0: where the ring begins."""
    @property
    def len(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def tail(self) -> int: ...
    @property
    def dma(self) -> DmaTable: ...
    @property
    def stats(self) -> Stats: ...
    @property
    def buffer(self) -> PacketBuffer: ...
    @property
    def regs(self) -> RegFile: ...
    hold: int
    """Descriptors that a write-back waits for: WTHRESH of TXDCTL or RXDCTL in descriptors.  To
    send: 1: each is written back, 0: those that ask for it. To receive: up to 1: none waits.
    reset() keeps it."""
    misdirect: int
    """Bits of the ring's address that are the other way round on the bus (fault injection)."""
    ring_errors: int
    desc_aborts: int
    data_aborts: int
    def drop(self) -> None: ...
    def cached(self) -> int: ...
