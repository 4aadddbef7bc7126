"""Twin of ``fastpath.nic.busguard``: Python cannot go on after SIGBUS, so nothing is guarded."""

from __future__ import annotations

SLOTS = 4096


class BusGuard:
    """The same interface; `faults` stays 0."""

    def __init__(self, buffer: bytes | bytearray | memoryview, page_bytes: int = 4096) -> None:
        if page_bytes <= 0 or page_bytes & (page_bytes - 1):
            raise ValueError(f"BusGuard: page_bytes {page_bytes} is no power of two")
        if memoryview(buffer).nbytes == 0:
            raise ValueError("BusGuard: buffer is empty")
        self.faults = 0

    def close(self) -> None:
        """Nothing is held."""
