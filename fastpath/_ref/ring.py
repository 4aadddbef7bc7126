"""A ring of descriptors in plain Python: the twin of ``fastpath.nic.ring``."""

from __future__ import annotations

from typing import Any

from fastpath._ref.desccache import DescCache
from fastpath._ref.e1000_hw import Registers
from fastpath._ref.pktbuf import PacketBuffer

MIN_RING = 8


class DescriptorRing:
    """Common part of the transmit (`which` is "T") and receive engine ("R")."""

    def __init__(
        self, which: str, dma: Any, stats: Any, regs: Registers, buffer: PacketBuffer | None
    ) -> None:
        self.regs = regs
        self._which = which
        self.dma = dma
        self.stats = stats
        self.buffer = buffer or PacketBuffer()
        self.chip = DescCache(1)
        self.hold = 0
        self.ring_errors = self.desc_aborts = self.data_aborts = 0

    def _register(self, name: str) -> int:
        return self.regs[f"{self._which}D{name}"]

    @property
    def base(self) -> int:
        """Where the ring begins."""
        return self._register("BAH") << 32 | self._register("BAL") & ~15

    @property
    def len(self) -> int:
        """Bytes of the ring."""
        return self._register("LEN")

    @property
    def head(self) -> int:
        """TDH or RDH."""
        return self._register("H")

    @property
    def tail(self) -> int:
        """TDT or RDT."""
        return self._register("T")

    @property
    def off(self) -> bool:
        """Whether the ring is too short, or an index outside it."""
        n = self.len >> 4
        return n < MIN_RING or self.head >= n or self.tail > n

    def drop(self) -> None:
        """Drop the fetched descriptors."""
        self.chip.all.clear()

    def cached(self) -> int:
        """Number of fetched and unused descriptors."""
        return len(self.chip.all)
