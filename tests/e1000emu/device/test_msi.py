"""Message signalled interrupts: a write by the bus master instead of INTA# (PCI 2.2, 6.8)."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.memory import host_memory
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import rd, wr
from tests.e1000emu.witness import witness

CONTROL, ADDRESS, DATA = 0xF2, 0xF4, 0xFC
LSC, RXT0 = 4, 0x80
WHERE = 0x10_8000  # in the fixture's RAM


@pytest.fixture(params=["82545EM", "82544GC"])
def bench(request: pytest.FixtureRequest) -> Bench:
    made = make_bench(model=request.param)
    slot = made.nic.slot
    slot.config_write(4, 7, 2)
    slot.config_write(ADDRESS, WHERE, 4)
    slot.config_write(DATA, 0x4041, 2)
    wr(made.nic, "IMS", LSC | RXT0)
    rd(made.nic, "ICR")
    made.line.clear()
    return made


def messages(bench: Bench) -> int:
    """Return the dword at the message's address, and clear it."""
    value = int.from_bytes(bench.memory.read(WHERE, 4), "little")
    bench.memory.write(WHERE, bytes(4))
    return value


def enable(bench: Bench, on: int = 1) -> None:
    bench.memory.write(WHERE, bytes(4))
    bench.nic.slot.config_write(CONTROL, on, 2)


@witness("PCI:MSI_CONTROL.ENABLE", "PCI:MSI_ADDRESS.ADDRESS", "PCI:MSI_DATA.VALUE")
def test_a_message_is_written_at_each_rise(bench: Bench) -> None:
    enable(bench)
    for _ in range(3):
        wr(bench.nic, "ICS", LSC)
        assert messages(bench) == 0x4041
        wr(bench.nic, "ICS", RXT0)  # the level is high already
        assert messages(bench) == 0
        assert rd(bench.nic, "ICR") == LSC | RXT0
    assert bench.line.edges == []


def test_what_waits_when_messages_come_on_is_told_by_one(bench: Bench) -> None:
    wr(bench.nic, "ICS", LSC)
    assert bench.line.level
    enable(bench)
    assert not bench.line.level
    assert messages(bench) == 0x4041
    enable(bench, 0)
    assert bench.line.level
    assert messages(bench) == 0


def test_the_intx_bit_of_the_command_register_does_not_hold_messages(bench: Bench) -> None:
    enable(bench)
    bench.nic.slot.config_write(4, 0x407, 2)
    wr(bench.nic, "ICS", LSC)
    assert messages(bench) == 0x4041
    assert not bench.line.level


def test_only_a_bus_master_sends(bench: Bench) -> None:
    enable(bench)
    bench.nic.slot.config_write(4, 3, 2)
    wr(bench.nic, "ICS", LSC)
    assert messages(bench) == 0


def test_a_reset_of_the_bus_goes_back_to_the_line(bench: Bench) -> None:
    enable(bench)
    bench.nic.reset()
    bench.nic.slot.config_write(4, 7, 2)
    wr(bench.nic, "IMS", LSC)
    wr(bench.nic, "ICS", LSC)
    assert bench.line.level
    assert messages(bench) == 0


def test_a_restored_nic_sends_messages(bench: Bench) -> None:
    enable(bench)
    other = make_bench(model=bench.nic.model.name)
    other.nic.load_state(bench.nic.state())
    wr(other.nic, "ICS", LSC)
    assert messages(other) == 0x4041
    assert not other.line.level


@witness("PCI:MSI_ADDRESS_HIGH.VALUE")
def test_an_embedder_takes_messages_itself() -> None:
    seen: list[tuple[int, int]] = []
    _, dma = host_memory(1 << 16)
    nic = Nic(
        memory=dma,
        irq=RecordingLine(),
        link=RecordingLink(),
        clock=VirtualClock(),
        model="82545EM",
        on_message=lambda address, data: seen.append((address, data)),
    )
    slot = nic.slot
    slot.config_write(4, 7, 2)
    slot.config_write(ADDRESS, 0xFEE01004, 4)
    slot.config_write(ADDRESS + 4, 1, 4)
    slot.config_write(DATA, 0x31, 2)
    slot.config_write(CONTROL, 1, 2)
    wr(nic, "IMS", LSC)
    wr(nic, "ICS", LSC)
    assert seen == [(0x1_FEE01004, 0x31)]


def test_the_82540em_has_none() -> None:
    nic = make_bench().nic
    nic.slot.config_write(CONTROL, 1, 2)
    assert nic.slot.config_read(CONTROL, 2) == 0
