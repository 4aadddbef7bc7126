"""Descriptors on the chip in plain Python: the twin of ``fastpath.nic.desccache``."""

from __future__ import annotations

from typing import Any

SIZE = 64


class DescCache:
    """The fetched and unused descriptors of one ring, the oldest first."""

    def __init__(self, low: int) -> None:
        self.all: list[bytes] = []
        self.low, self.host = low, 0

    def wants(self, waiting: int) -> bool:
        """Whether to fetch now, with `waiting` descriptors in host memory."""
        have = len(self.all)
        if not have:
            return waiting > 0
        return have < self.low and waiting > have and waiting - have >= self.host

    def fetch(self, dma: Any, base: int, n: int, head: int, waiting: int) -> bool:
        """Fetch as many as fit; False if the first one cannot be read."""
        if not self.wants(waiting):
            return True
        for k in range(len(self.all), min(waiting, SIZE)):
            aborts = dma.aborts
            raw = dma.read(base + (head + k) % n * 16, 16)
            if dma.aborts != aborts:
                break
            self.all.append(raw)
        return bool(self.all)
