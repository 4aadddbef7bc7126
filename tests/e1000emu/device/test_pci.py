"""Configuration space: ids, BAR sizing, command and status, power states; the slot's decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.memory import host_memory
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import frame, off, rd, running, wr
from tests.e1000emu.witness import witness


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


@witness(
    "PCI:BAR0.ADDRESS",
    "PCI:BAR2.ADDRESS",
    "PCI:BAR0.SPACE",
    "PCI:BAR0.TYPE",
    "PCI:BAR0.PREFETCH",
    "PCI:BAR0.SIZE",
    "PCI:BAR2.SPACE",
    "PCI:BAR2.SIZE",
    "PCI:BAR3.VALUE",
    "PCI:BAR4.VALUE",
    "PCI:BAR5.VALUE",
)
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


@witness("PCI:COMMAND.IO")
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


@witness("PCI:COMMAND.MASTER")
def test_bus_master_gates_dma(bench: Bench) -> None:
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


@witness("PCI:COMMAND.INTX_OFF", "PCI:STATUS.INTERRUPT")
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


@witness("PCI:STATUS.MASTER_ABORT")
def test_master_abort_sets_status_and_clears_by_one(bench: Bench) -> None:
    nic, slot = bench.nic, bench.nic.slot
    assert not slot.config_read(6, 2) & 0x2000
    wr(nic, "TDBAH", 0x12)
    bench.guest.post_legacy(frame())
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    assert slot.config_read(6, 2) & 0x2000
    assert nic.misuse.count("tx-abort") == 1
    slot.config_write(6, 0x2000, 2)
    assert not slot.config_read(6, 2) & 0x2000


@witness("PCI:PMCSR.STATE")
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


@witness("PCI:PMCSR.DATA_SELECT", "PCI:PMCSR.DATA_SCALE", "PCI:PM_DATA.VALUE")
def test_the_data_register_shows_what_the_eeprom_says_of_power(nic: Nic) -> None:
    slot = nic.slot
    assert power_data(nic) == {0: 15, 4: 15, 3: 4, 7: 4}  # tenths of a watt
    nic.eeprom.words[0x22] = 0x1234
    assert power_data(nic)[0] == 15  # the word is not loaded yet
    nic.power_on_reset()
    assert slot.config_read(0xE0, 4) == 0x12 << 24 | 1 << 13  # DATA_SELECT is 0 again
    loaded = {0: 0x12, 4: 0x12, 3: 0x34, 7: 0x34}
    assert power_data(nic) == loaded
    slot.config_write(0xE0, 0xFF00 << 16 | 0x6000, 4)  # read-only, both
    assert slot.config_read(0xE0, 4) == 0x12 << 24 | 1 << 13
    nic.eeprom.words[0x22] = 0
    again = make_bench().nic
    again.load_state(nic.state())
    assert power_data(again) == loaded


def power_data(nic: Nic) -> dict[int, int]:
    """Return what PM_DATA shows for each DATA_SELECT that has data."""
    shown = {}
    for select in range(16):
        nic.slot.config_write(0xE0, select << 9, 2)
        pmcsr = nic.slot.config_read(0xE0, 4)
        assert pmcsr >> 9 & 15 == select
        if pmcsr >> 13 & 3:
            shown[select] = pmcsr >> 24
        else:
            assert not pmcsr >> 24
    return shown


def test_bus_reset_clears_commands_and_bars(bench: Bench) -> None:
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


@witness(
    "STATUS.FUNC_ID",
    "STATUS.TBIMODE",
    "MANC.ASF_EN",
)
def test_the_bus_and_the_management_that_are_not_there() -> None:
    nic = running().nic
    wr(nic, "STATUS", 0xFFFFFFFF)
    wr(nic, "MANC", 0xFFFFFFFF)
    assert rd(nic, "STATUS") == 0x83
    assert rd(nic, "MANC") == 0x2FF00


HEADER_BYTES = {
    # offset, size: value of an 82540EM that has been reset; every row that nothing changes
    ("COMMAND", 4, 2): (0, "SPECIAL VGA STEPPING FAST_B2B"),
    ("STATUS", 6, 2): (0x0230, "CAPABILITIES 66MHZ FAST_B2B DEVSEL"),
    ("REVISION", 8, 1): (2, "VALUE"),
    ("CLASS", 9, 3): (0x020000, "VALUE"),
    ("LATENCY", 0x0D, 1): (0, "LOW"),
    ("HEADER_TYPE", 0x0E, 1): (0, "VALUE"),
    ("BIST", 0x0F, 1): (0, "VALUE"),
    ("CARDBUS", 0x28, 4): (0, "VALUE"),
    ("CAP_POINTER", 0x34, 1): (0xDC, "VALUE"),
    ("INTERRUPT_PIN", 0x3D, 1): (1, "VALUE"),
    ("MIN_GRANT", 0x3E, 1): (0xFF, "VALUE"),
    ("MAX_LATENCY", 0x3F, 1): (0, "VALUE"),
    ("PM_ID", 0xDC, 1): (1, "VALUE"),
    ("PMC", 0xDE, 2): (0xC822, "VERSION CLOCK DSI AUX D1 D2 PME"),
    ("PM_BRIDGE", 0xE2, 1): (0, "VALUE"),
}
CAPABILITY_BYTES = {
    # of the 82545EM, which has all three
    ("PM_NEXT", 0xDD, 1): (0xE4, "VALUE"),
    ("PCIX_ID", 0xE4, 1): (7, "VALUE"),
    ("PCIX_NEXT", 0xE5, 1): (0xF0, "VALUE"),
    ("PCIX_STATUS", 0xE8, 4): (0x0443FFF8, "FUNCTION 64BIT 133MHZ BRIDGE DMMRBC DMOST DMCRS"),
    ("MSI_ID", 0xF0, 1): (5, "VALUE"),
    ("MSI_NEXT", 0xF1, 1): (0, "VALUE"),
    ("MSI_CONTROL", 0xF2, 2): (0x80, "CAPABLE 64BIT"),
    ("MSI_ADDRESS", 0xF4, 4): (0, "DWORD"),
}
FIXED = [
    (model, *place, value, fields)
    for model, rows in (("82540EM", HEADER_BYTES), ("82545EM", CAPABILITY_BYTES))
    for place, (value, fields) in rows.items()
]


@pytest.mark.parametrize(
    ("model", "name", "offset", "size", "value"),
    [
        pytest.param(*row[:5], marks=witness(*(f"PCI:{row[1]}.{f}" for f in row[5].split())))
        for row in FIXED
    ],
)
def test_what_the_part_is_stays_whatever_a_host_writes(
    model: str, name: str, offset: int, size: int, value: int
) -> None:
    slot = make_bench(model=model).nic.slot
    constant = {"COMMAND": 0x02A8, "STATUS": 0x06B0, "LATENCY": 3, "PMCSR": 0x6000}.get(name)
    constant = {"MSI_CONTROL": 0x8E, "MSI_ADDRESS": 3}.get(name, constant)
    mask = (1 << 8 * size) - 1 if constant is None else constant
    for i in range(size):
        slot.config_write(offset + i, 0xFF, 1)
    got = sum(slot.config_read(offset + i, 1) << 8 * i for i in range(size))
    assert got & mask == value & mask


@witness(
    "PCI:VENDOR_ID.VALUE",
    "PCI:DEVICE_ID.VALUE",
    "PCI:SUBSYSTEM_VENDOR.VALUE",
    "PCI:SUBSYSTEM_ID.VALUE",
)
def test_ids_come_from_the_eeprom_of_the_board(nic: Nic) -> None:
    """SDM 5.6.9: words 0Bh to 0Eh, as word 0Ah says."""
    nic.eeprom.words[0x0B:0x0F] = [0x1111, 0x2222, 0x3333, 0x4444]
    nic.eeprom.words[0x0A] |= 3
    nic.power_on_reset()
    read = nic.slot.config_read
    assert (read(0, 4), read(0x2C, 4)) == (0x33334444, 0x11112222)
    nic.eeprom.words[0x0A] &= ~3
    nic.power_on_reset()
    assert (read(0, 4), read(0x2C, 4)) == (0x100E8086, 0x00008086)
