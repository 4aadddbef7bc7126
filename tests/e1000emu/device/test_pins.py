"""Software definable pins: a driver and the board on either end of them (SDM 13.4.1, 13.4.6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from e1000emu.device.nic import Nic
from e1000emu.device.pins import PINS
from e1000emu.errors import ArgumentError
from e1000emu.record.recorder import Recorder
from e1000emu.record.replay import replay
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import rd, running, wr
from tests.e1000emu.witness import witness

ROWS = {
    0: ("CTRL", 18, 22),
    1: ("CTRL", 19, 23),
    4: ("CTRL_EXT", 4, 8),
    6: ("CTRL_EXT", 6, 10),
    7: ("CTRL_EXT", 7, 11),
}
"""Register, data bit and direction bit of each pin; the 82544 has them all."""
GPI = {4: (0, 11), 6: (2, 13), 7: (3, 14)}
"""Enable in CTRL_EXT, cause in ICR."""


def wired(bench: Bench | None = None, **options: object) -> tuple[Nic, list[tuple[int, bool]]]:
    told: list[tuple[int, bool]] = []
    bench = bench or make_bench(model="82544GC")
    nic = Nic(
        memory=bench.dma,
        irq=RecordingLine(),
        link=RecordingLink(),
        clock=bench.clock,
        model=bench.nic.model,
        on_pin=lambda number, level: told.append((number, level)),
        **options,  # type: ignore[arg-type]
    )
    return nic, told


def put(nic: Nic, name: str, clear: int, bits: int) -> None:
    wr(nic, name, rd(nic, name) & ~clear | bits)


def test_the_pins_are_those_of_the_part() -> None:
    assert sorted(PINS) == sorted(ROWS)
    nic, _ = wired()
    for bad in (2, 5, -1, 8):
        with pytest.raises(ArgumentError, match="SDP 0, 1, 4, 6, 7"):
            nic.drive_pin(bad, True)


@pytest.mark.parametrize("model", ["82540EM", "82545EM"])
def test_pin_4_is_the_82544s_alone(model: str) -> None:
    nic, _ = wired(make_bench(model=model))
    with pytest.raises(ArgumentError, match="SDP 0, 1, 6, 7"):
        nic.drive_pin(4, True)
    put(nic, "CTRL_EXT", 0, 1 << 0 | 1 << 4 | 1 << 8)
    assert not rd(nic, "CTRL_EXT") & (1 << 0 | 1 << 4 | 1 << 8)


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=witness(f"{row[0]}.SDP{n}_DATA")) for n, row in ROWS.items()]
)
def test_an_input_reads_what_the_board_drives(number: int) -> None:
    name, data, _ = ROWS[number]
    nic, told = wired()
    assert not rd(nic, name) >> data & 1
    nic.drive_pin(number, True)
    assert rd(nic, name) >> data & 1
    assert nic.pins.level(number)
    put(nic, name, 1 << data, 0)  # nobody drives it from here
    assert rd(nic, name) >> data & 1
    nic.drive_pin(number, False)
    put(nic, name, 0, 1 << data)
    assert not rd(nic, name) >> data & 1
    assert told == []


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=witness(f"{row[0]}.SDP{n}_IODIR")) for n, row in ROWS.items()]
)
def test_an_output_is_what_software_writes(number: int) -> None:
    name, data, direction = ROWS[number]
    nic, told = wired()
    put(nic, name, 0, 1 << direction)
    assert told == [(number, False)]
    put(nic, name, 0, 1 << data)
    nic.drive_pin(number, False)
    assert rd(nic, name) >> data & 1
    put(nic, name, 1 << data, 0)
    put(nic, name, 0, 0)  # no change, nothing to tell
    nic.drive_pin(number, True)
    assert not rd(nic, name) >> data & 1
    assert told == [(number, False), (number, True), (number, False)]
    put(nic, name, 1 << direction, 0)
    assert rd(nic, name) >> data & 1, "an input again: the board drives it"


def test_a_reset_makes_inputs_of_them() -> None:
    nic, _ = wired()
    for number, (name, data, direction) in ROWS.items():
        put(nic, name, 0, 1 << direction | 1 << data)
        nic.drive_pin(number, number == 6)
    wr(nic, "CTRL", 1 << 26)
    for number, (name, data, direction) in ROWS.items():
        assert not rd(nic, name) >> direction & 1
        assert rd(nic, name) >> data & 1 == (number == 6)


def interrupting(number: int) -> tuple[Bench, int]:
    enable, cause = GPI[number]
    bench = running(ims=1 << cause, model="82544GC")
    put(bench.nic, "CTRL_EXT", 0, 1 << enable)
    return bench, 1 << cause


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(4, marks=witness("CTRL_EXT.GPI0_EN", "ICR.RSV11")),
        pytest.param(6, marks=witness("CTRL_EXT.GPI2_EN", "ICR.GPI_SDP6")),
        pytest.param(7, marks=witness("CTRL_EXT.GPI3_EN", "ICR.GPI_SDP7")),
    ],
)
def test_a_rising_input_interrupts(number: int) -> None:
    bench, cause = interrupting(number)
    bench.nic.drive_pin(number, True)
    assert bench.line.level
    assert rd(bench.nic, "ICR") == cause
    assert not bench.line.level
    bench.nic.drive_pin(number, True)
    assert rd(bench.nic, "ICR") == 0, "it has not risen again"
    bench.nic.drive_pin(number, False)
    assert rd(bench.nic, "ICR") == 0
    bench.nic.drive_pin(number, True)
    assert rd(bench.nic, "ICR") == cause


@pytest.mark.parametrize("number", GPI)
def test_without_enable_or_as_output_it_does_not(number: int) -> None:
    bench, cause = interrupting(number)
    nic, (enable, _), (name, data, direction) = bench.nic, GPI[number], ROWS[number]
    put(nic, "CTRL_EXT", 1 << enable, 0)
    nic.drive_pin(number, True)
    assert rd(nic, "ICR") == 0
    put(nic, "CTRL_EXT", 0, 1 << enable)
    assert rd(nic, "ICR") == cause, "it is high when it is looked at first"
    nic.drive_pin(number, False)
    put(nic, name, 0, 1 << direction)
    put(nic, name, 0, 1 << data)
    nic.drive_pin(number, True)
    assert rd(nic, "ICR") == 0
    assert not bench.line.level


def test_pins_of_the_other_register_do_not_interrupt() -> None:
    bench, _ = interrupting(6)
    for number in (0, 1, 4, 7):
        bench.nic.drive_pin(number, True)
    assert rd(bench.nic, "ICR") == 0


def test_a_restored_device_has_its_pins() -> None:
    bench, cause = interrupting(6)
    nic, (_, _, direction) = bench.nic, ROWS[0]
    nic.drive_pin(6, True)
    nic.drive_pin(1, True)
    put(nic, "CTRL", 0, 1 << direction | 1 << ROWS[0][1])
    assert rd(nic, "ICR") == cause
    copy, told = wired(bench)
    copy.load_state(nic.state())
    assert copy.state() == nic.state()
    assert rd(copy, "ICR") == 0
    assert [copy.pins.level(n) for n in ROWS] == [True, True, False, True, False]
    put(copy, "CTRL", 1 << ROWS[0][1], 0)
    assert told[-1] == (0, False)


def test_pins_are_recorded(tmp_path: Path) -> None:
    with Recorder(tmp_path / "x") as recorder:
        nic, told = wired(record=recorder)
        put(nic, "CTRL_EXT", 0, 1 << 2 | 1 << 11)
        nic.drive_pin(6, True)
        put(nic, "CTRL_EXT", 0, 1 << 7)
        assert told == [(7, False), (7, True)]
        rd(nic, "ICR")
    found = replay(tmp_path / "x")
    assert found.divergence is None
    assert found.nic is not None
    assert found.nic.pins.level(7)
