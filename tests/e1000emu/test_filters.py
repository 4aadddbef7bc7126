"""The compiled filter follows the registers, also over reset and narrow writes."""

from __future__ import annotations

from e1000emu.regs import reg
from e1000emu.testing.fixtures import make_bench
from tests.e1000emu.common import PEER


def test_filter_copies_equal_the_registers() -> None:
    nic = make_bench().nic
    for name, get in (("MTA", nic.filters.engine.mta), ("VFTA", nic.filters.engine.vfta)):
        for i, offset in enumerate(reg(name).offsets):
            nic.mmio_write(offset, 0x01010101 * i & 0xFFFFFFFF)
            assert get(i) == nic.mmio_read(offset)
    for i in range(16):
        nic.mmio_write(reg("RAL").offsets[i], 0xDDCCBB00 + i)
        nic.mmio_write(reg("RAH").offsets[i], 0xFFFFFFFF)
        assert nic.filters.engine.ral(i) == 0xDDCCBB00 + i
        assert nic.filters.engine.rah(i) == 0x8003FFFF
    nic.mmio_write(reg("RAL").offsets[2] + 1, 0x77, 1)
    assert nic.filters.engine.ral(2) == 0xDDCC7702


def test_set_mac_is_entry_0_and_valid() -> None:
    nic = make_bench().nic
    nic.filters.set_mac(PEER)
    assert nic.mac == PEER
    assert nic.filters.any_address()
    nic.filters.reset()
    assert not nic.filters.any_address()
    assert nic.mac == PEER
