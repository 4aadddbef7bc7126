"""Configuration space: ids, BAR sizing, command and status, power states; the slot's decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.memory import host_memory
from e1000emu.nic import Nic
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import frame, off, rd, running, wr


@pytest.fixture
def nic() -> Nic:
    clock = VirtualClock()
    _, dma = host_memory(1 << 20)
    return Nic(memory=dma, irq=RecordingLine(), link=RecordingLink(), clock=clock)


def test_identity(nic: Nic) -> None:
    read = nic.slot.config_read
    assert read(0, 4) == 0x100E8086
    assert read(8, 4) == 0x02000002
    assert read(0x0E, 1) == 0
    assert read(0x2C, 4) == 0x001E8086
    assert read(0x3D, 1) == 1
    assert read(6, 2) & 0x10
    assert read(0x34, 1) == 0xDC
    assert read(0xDC, 2) == 1
    assert read(0xDE, 2) & 7 == 2


def test_bars_size_themselves(nic: Nic) -> None:
    slot = nic.slot
    sizes = []
    for i in range(6):
        slot.config_write(0x10 + 4 * i, 0xFFFFFFFF, 4)
        sizes.append(slot.config_read(0x10 + 4 * i, 4))
    assert sizes == [0xFFFE0000, 0, 0xFFFFFFF9, 0, 0, 0]
    assert [slot.bar_size(i) for i in range(6)] == [0x20000, 0, 8, 0, 0, 0]
    slot.config_write(0x30, 0xFFFFFFFF, 4)
    assert slot.config_read(0x30, 4) == 0


def test_byte_and_word_writes_reach_their_bytes(nic: Nic) -> None:
    slot = nic.slot
    slot.config_write(0x12, 0xFEBC, 2)
    assert slot.config_read(0x10, 4) == 0xFEBC0000
    slot.config_write(0x3C, 11, 1)
    assert slot.config_read(0x3C, 4) & 0xFFFF == 0x010B
    slot.config_write(0x0C, 0xFFFF, 2)
    assert slot.config_read(0x0C, 2) == 0xFCFF


def test_registers_answer_only_when_decoding_is_on(nic: Nic) -> None:
    slot = nic.slot
    assert slot.bar_read(0, 8, 4) == 0xFFFFFFFF
    assert slot.bar_read(2, 0, 4) == 0xFFFFFFFF
    slot.bar_write(0, off("VET"), 0x1234, 4)
    assert nic.misuse.count("decode-off") == 3
    slot.config_write(4, 3, 2)
    assert slot.bar_read(0, off("VET"), 4) == 0x8100
    assert slot.bar_read(2, 0, 4) == 0
    assert slot.bar_read(1, 0, 2) == 0xFFFF


def test_bus_master_gates_dma() -> None:
    bench = running()
    nic, guest = bench.nic, bench.guest
    nic.slot.config_write(4, 3, 2)
    guest.post_legacy(frame())
    wr(nic, "TDT", guest.tx.next_to_use)
    bench.link.inject(frame())
    assert bench.link.take() == []
    assert nic.misuse.count("bus-master-off") == 1
    assert rd(nic, "RDH") == 0
    nic.slot.config_write(4, 7, 2)
    assert len(bench.link.take()) == 1


def test_intx_disable_and_interrupt_status() -> None:
    bench = running(ims=4)
    nic, slot = bench.nic, bench.nic.slot
    wr(nic, "ICS", 4)
    assert bench.line.level
    assert slot.config_read(6, 2) & 8
    slot.config_write(4, 0x407, 2)
    assert not bench.line.level
    assert slot.config_read(6, 2) & 8
    slot.config_write(4, 0x007, 2)
    assert bench.line.level
    rd(nic, "ICR")
    assert not slot.config_read(6, 2) & 8


def test_master_abort_sets_status_and_clears_by_one() -> None:
    bench = running()
    nic, slot = bench.nic, bench.nic.slot
    assert not slot.config_read(6, 2) & 0x2000
    wr(nic, "TDBAH", 0x12)
    bench.guest.post_legacy(frame())
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    assert slot.config_read(6, 2) & 0x2000
    assert nic.misuse.count("tx-abort") == 1
    slot.config_write(6, 0x2000, 2)
    assert not slot.config_read(6, 2) & 0x2000


def test_d3hot_silences_the_function_and_d0_resets_it() -> None:
    bench = running(ims=4)
    nic, slot = bench.nic, bench.nic.slot
    slot.config_write(0x10, 0xFEBC0000, 4)
    slot.config_write(0xE0, 3, 2)
    assert slot.bar_read(0, 8, 4) == 0xFFFFFFFF
    assert nic.misuse.count("power-state") == 1
    wr(nic, "ICS", 4)
    assert not bench.line.level
    bench.link.inject(frame())
    assert nic.rx.engine.head == 0
    slot.config_write(0xE0, 0, 2)
    assert slot.config_read(4, 2) == 0
    assert slot.config_read(0x10, 4) == 0
    assert rd(nic, "RCTL") == 0
    assert rd(nic, "IMS") == 0
    assert nic.mac == bytes.fromhex("525400123456")


def test_d1_and_d2_do_not_exist(nic: Nic) -> None:
    for state in (1, 2):
        nic.slot.config_write(0xE0, state, 2)
        assert nic.slot.config_read(0xE0, 2) & 3 == 0


def test_pme_enable_is_one_bit_in_two_places(nic: Nic) -> None:
    nic.slot.config_write(0xE0, 0x100, 2)
    assert rd(nic, "WUC") & 2
    wr(nic, "WUC", 0)
    assert not nic.slot.config_read(0xE0, 2) & 0x100


def test_bus_reset_clears_commands_and_bars() -> None:
    bench = running()
    slot = bench.nic.slot
    slot.config_write(0x10, 0xFEBC0000, 4)
    bench.nic.reset()
    assert slot.config_read(4, 2) == 0
    assert slot.config_read(0x10, 4) == 0
    assert slot.bar_read(0, 0, 4) == 0xFFFFFFFF


@given(
    st.lists(
        st.tuples(
            st.booleans(), st.integers(-8, 300), st.sampled_from((0, 1, 2, 3, 4, 8)), st.integers()
        ),
        max_size=60,
    )
)
def test_any_configuration_cycle_is_harmless(steps: list[tuple[bool, int, int, int]]) -> None:
    _, dma = host_memory(1 << 20)
    nic = Nic(memory=dma, irq=RecordingLine(), link=RecordingLink(), clock=VirtualClock())
    for write, offset, size, value in steps:
        if write:
            nic.slot.config_write(offset, value, size)
        else:
            assert nic.slot.config_read(offset, size) >= 0
    assert nic.slot.config_read(0, 4) == 0x100E8086
    assert len(nic.pci.config) == 256
