"""LEDs as LEDCTL says."""

from __future__ import annotations

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.leds import MODES, Led
from e1000emu.device.nic import Nic
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable
from tests.e1000emu.common import frame, rd, wr
from tests.e1000emu.witness import witness


def test_reset_modes_follow_link_and_activity(bench: Bench) -> None:
    link, activity, hundred, gigabit = bench.nic.leds()
    assert (link.mode, link.lit) == ("link up", True)
    assert activity.mode == "activity"
    assert not hundred.lit
    assert gigabit.lit
    bench.link.set_carrier(False)
    assert not any(led.lit for led in bench.nic.leds())


def test_activity_lights_and_goes_out(bench: Bench) -> None:
    wr(bench.nic, "LEDCTL", 0x0303)
    bench.nic.leds()
    bench.link.inject(frame())
    assert bench.nic.leds()[0].lit
    bench.clock.run_for(1_000_000_000)
    assert not bench.nic.leds()[0].lit


def test_blinking_and_inversion(bench: Bench) -> None:
    wr(bench.nic, "LEDCTL", 0x8E | 0xAE << 8 | 0x4E << 16 | 0x0F << 24)
    seen = set()
    for _ in range(10):
        slow, fast, inverted, off = bench.nic.leds()
        seen.add((slow.lit, fast.lit))
        assert slow.blinking
        assert fast.blinking
        assert fast.period_ns < slow.period_ns
        assert inverted.lit
        assert not inverted.high
        assert not off.lit
        bench.clock.run_for(83_000_000)
    assert len(seen) > 1


@pytest.mark.parametrize("mode", range(16))
def test_every_mode_has_a_name_and_a_state(mode: int, bench: Bench) -> None:
    wr(bench.nic, "LEDCTL", mode)
    assert bench.nic.leds()[0].mode == MODES[mode]


@witness(
    "LEDCTL.LED{n}_MODE", "LEDCTL.LED{n}_BLINK", "LEDCTL.LED{n}_BLINK_RATE", "LEDCTL.LED{n}_IVRT"
)
@pytest.mark.parametrize("n", range(4))
def test_each_led_has_its_byte(n: int, bench: Bench) -> None:
    def led(byte: int) -> Led:
        wr(bench.nic, "LEDCTL", byte << 8 * n)
        return bench.nic.leds()[n]

    on, off, invert, fast, blink = 14, 15, 1 << 6, 1 << 5, 1 << 7
    assert led(on).lit
    assert not led(off).lit
    assert not led(on | invert).high
    assert led(off | invert).high
    assert not led(on).blinking
    assert led(on | blink).blinking
    assert led(on | blink).period_ns == 200_000_000
    assert led(on | blink | fast).period_ns == 83_000_000


@pytest.mark.parametrize(
    ("bus", "lit"),
    [
        ("pci", ()),
        ("pci-66", (11,)),
        ("pci-64", (12,)),
        ("pci-x-66", (8, 12)),
        ("pci-x-133", (8, 11, 12)),
    ],
)
def test_the_bus_lights_its_modes(bus: str, lit: tuple[int, ...]) -> None:
    clock = VirtualClock()
    nic = Nic(
        memory=DmaTable(), irq=RecordingLine(), link=RecordingLink(), clock=clock,
        model="82545EM", bus=bus,
    )  # fmt: skip
    for mode in (8, 11, 12):
        wr(nic, "LEDCTL", mode)
        assert nic.leds()[0].lit == (mode in lit)


def test_collisions_light_an_led() -> None:
    nic = make_bench().nic
    wr(nic, "LEDCTL", 10)
    assert not nic.leds()[0].lit
    nic.stats["COLC"] += 1
    assert nic.leds()[0].lit


def test_reading_the_statistics_is_no_activity(bench: Bench) -> None:
    wr(bench.nic, "LEDCTL", 3)
    bench.link.inject(frame())
    bench.nic.leds()
    bench.clock.run_for(1_000_000_000)
    rd(bench.nic, "TPR")
    assert not bench.nic.leds()[0].lit
