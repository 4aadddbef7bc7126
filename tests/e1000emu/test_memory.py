"""Host memory behind a region table."""

from __future__ import annotations

from e1000emu import host_memory
from e1000emu.ports import DmaMemory


def test_table_reaches_the_memory_at_its_base() -> None:
    ram, dma = host_memory(1 << 20, base=0x100000)
    assert isinstance(dma, DmaMemory)
    dma.write(0x100010, b"hello")
    assert ram.read(0x100010, 5) == b"hello"
    assert dma.read(0, 4) == b"\xff" * 4
    assert dma.aborts == 1
