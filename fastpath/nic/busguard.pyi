"""Stub of the compiled module; the docstrings are in busguard.pyx."""

from typing_extensions import Buffer

SLOTS: int

class BusGuard:
    def __init__(self, buffer: Buffer, page_bytes: int = 4096) -> None: ...
    @property
    def faults(self) -> int: ...
    def close(self) -> None: ...
