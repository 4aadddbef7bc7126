"""The compiled filter follows the registers, also over reset and narrow writes."""

from __future__ import annotations

from e1000emu.device.nic import Nic
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import PEER, frame


def test_what_is_written_counts_from_the_next_frame_on(bench: Bench, nic: Nic) -> None:
    to = bytes.fromhex("02 77 cc dd ff ff")

    def taken(frame_of: bytes) -> bool:
        bench.link.inject(frame(60, frame_of))
        return bool(bench.guest.receive())

    assert not taken(to)
    nic.mmio_write(reg("RAL").offsets[2], int.from_bytes(b"\x02\x00\xcc\xdd", "little"))
    nic.mmio_write(reg("RAH").offsets[2], 0x8000FFFF)
    assert not taken(to)
    nic.mmio_write(reg("RAL").offsets[2] + 1, 0x77, 1)
    assert taken(to)
    nic.mmio_write(reg("RAH").offsets[2], 0x0000FFFF)
    assert not taken(to)
    group = bytes.fromhex("01005e000001")  # hash 010h with RCTL.MO 0
    assert not taken(group)
    index = int.from_bytes(group[4:], "little") >> 4
    nic.mmio_write(reg("MTA").offsets[index >> 5], 1 << (index & 31))
    assert taken(group)


def test_set_mac_is_entry_0_and_valid() -> None:
    nic = make_bench().nic
    nic.filters.set_mac(PEER)
    assert nic.mac == PEER
    assert nic.filters.any_address()
    nic.filters.reset()
    assert not nic.filters.any_address()
    assert nic.mac == PEER
