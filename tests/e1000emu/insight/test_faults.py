"""Injected faults, seen from the bus: what each does, and that nothing else happens."""

from __future__ import annotations

from typing import Any

import pytest

from e1000emu import E1000Error
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.params import parse_faults
from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.insight.faults import ABORTS, Faults
from e1000emu.testing.bench import BENCH_MAC, POISON, Bench, enable_bus_master
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import frame, rd, wr

MS, SECOND = 1_000_000, 1_000_000_000
READY = 1 << 28


def failing(**faults: Any) -> Bench:
    """Return a bench whose hardware fails, brought up by the fake driver."""
    clock = VirtualClock()
    memory = HostMemory(16 << 20, base=0x10_0000, poison=POISON)
    dma = DmaTable()
    dma.add(memory.base, memory.buffer)
    line, link = RecordingLine(clock), RecordingLink()
    nic = Nic(memory=dma, irq=line, link=link, clock=clock, faults=Faults(**faults))
    enable_bus_master(nic)
    bench = Bench.of(nic, memory, dma, line, link, clock, GuestRings(nic.slot, memory))
    bench.guest.up(mac=BENCH_MAC, ims=0)
    clock.run_for(5 * SECOND)
    rd(nic, "ICR")
    line.clear()
    return bench


def injected(bench: Bench) -> dict[str, int]:
    assert bench.nic.faults is not None
    return dict(bench.nic.faults.counts)


def send(bench: Bench, n: int = 1) -> None:
    for _ in range(n):
        bench.guest.post_legacy(frame())
        bench.guest.kick()
    bench.clock.run_for(0)


def test_no_fault_changes_nothing() -> None:
    bench = failing()
    send(bench, 3)
    bench.link.inject(frame())
    assert len(bench.link.frames) == 3
    assert len(bench.guest.receive()) == 1
    assert injected(bench) == {}


def test_a_flap_takes_the_link_and_gives_it_back() -> None:
    bench = failing(flap_ns=20 * SECOND, down_ns=100 * MS)
    nic = bench.nic
    for _ in range(400):
        if not nic.link_up:
            break
        bench.clock.run_for(99 * MS)
    assert not nic.link_up
    assert rd(nic, "ICR") & 4
    nic.link_changed(True, 1000, True)  # the far end does not help meanwhile
    assert not nic.phy.cable_up
    bench.clock.run_for(3 * SECOND)
    assert nic.link_up
    assert injected(bench)["flap"] >= 1


def test_what_fails_can_be_changed_while_it_runs() -> None:
    bench = failing(phy_busy=1.0)
    faults = bench.nic.faults
    assert faults is not None
    faults.change(Faults(abort=(("tx-descriptor", 2),), flap_ns=SECOND, down_ns=100 * MS))
    wr(bench.nic, "MDIC", 0x0822_0000)
    assert rd(bench.nic, "MDIC") & READY
    for n in (1, 2):
        send(bench)
        assert bench.nic.misuse.count("tx-abort") == n - 1
    bench.clock.run_for(2 * SECOND)
    assert injected(bench)["flap"] >= 1
    faults.change(Faults())
    flaps = injected(bench)["flap"]
    bench.clock.run_for(10 * SECOND)
    assert bench.nic.link_up
    assert injected(bench)["flap"] == flaps


def test_mdio_is_ready_late() -> None:
    bench = failing(phy_busy=1.0, phy_busy_ns=MS)
    wr(bench.nic, "MDIC", 0x0822_0000)
    assert not rd(bench.nic, "MDIC") & READY
    bench.clock.run_for(MS)
    assert rd(bench.nic, "MDIC") & (READY | 0xFFFF) == READY | 0x0141


def test_bits_of_the_eeprom_are_wrong_from_the_start() -> None:
    good, bad = failing(), failing(eeprom_bits=1, seed=2)
    differ = [
        a ^ b for a, b in zip(good.nic.eeprom.words, bad.nic.eeprom.words, strict=True) if a != b
    ]
    assert len(differ) == 1
    assert differ[0].bit_count() == 1
    assert any("EEPROM" in line for line in bad.nic.explain())
    assert not any("EEPROM" in line for line in good.nic.explain())


@pytest.mark.parametrize("kind", ABORTS)
def test_the_chosen_access_aborts_and_no_other(kind: str) -> None:
    bench = failing(abort=((kind, 3),))
    rule = kind.replace("descriptor", "abort").replace("data", "data-abort")
    for n in range(1, 6):
        aborts = bench.dma.aborts
        if kind.startswith("tx"):
            send(bench)
        else:
            bench.link.inject(frame())
            bench.clock.run_for(0)
        assert (bench.dma.aborts > aborts) == (n == 3), n
    assert bench.nic.misuse.count(rule) == 1
    assert injected(bench) == {f"abort {kind}": 1}
    assert bench.nic.slot.config_read(6, 2) & 0x2000  # received master abort
    if kind.startswith("tx"):
        assert bench.guest.reap() is not None


def test_a_lost_interrupt_is_not_seen_and_the_device_says_that_it_waits() -> None:
    bench = failing(irq_lost=1.0)
    wr(bench.nic, "IMS", 4)
    wr(bench.nic, "ICS", 4)
    assert bench.nic.interrupts.asserted
    assert not bench.line.level
    assert any("nobody has read ICR since" in line for line in bench.nic.explain())


def test_a_late_interrupt_comes_late_and_not_after_its_cause_is_gone() -> None:
    bench = failing(irq_late=1.0, irq_late_ns=MS)
    wr(bench.nic, "IMS", 4)
    wr(bench.nic, "ICS", 4)
    assert not bench.line.level
    bench.clock.run_for(MS)
    assert bench.line.level
    rd(bench.nic, "ICR")
    wr(bench.nic, "ICS", 4)
    rd(bench.nic, "ICR")
    bench.clock.run_for(MS)
    assert not bench.line.level


def test_an_overrun_is_counted_as_the_part_counts_it() -> None:
    bench = failing(overrun=1.0)
    bench.link.inject(frame(), frame())
    assert bench.guest.receive() == []
    assert rd(bench.nic, "MPC") == 2
    assert rd(bench.nic, "ICR") & 0x40


def test_write_back_comes_late_and_in_order() -> None:
    bench = failing(writeback_ns=5 * MS)
    for _ in range(4):
        bench.guest.post_legacy(frame())
        bench.guest.kick()
    assert rd(bench.nic, "TDH") == 0
    bench.clock.run_for(5 * MS)
    assert rd(bench.nic, "TDH") == 4
    assert len(bench.link.frames) == 4


def test_a_reset_of_its_own_clears_the_rings() -> None:
    bench = failing(reset_ns=10 * SECOND)
    resets = bench.nic.resets
    bench.clock.run_for(16 * SECOND)
    assert bench.nic.resets > resets
    assert rd(bench.nic, "RCTL") == 0
    assert "RCTL.EN is 0" in " ".join(bench.nic.explain())


def test_a_device_that_is_gone_reads_ones_and_does_nothing() -> None:
    bench = failing(remove_ns=6 * SECOND)
    send(bench)
    bench.clock.run_for(2 * SECOND)
    slot, sent = bench.nic.slot, len(bench.link.frames)
    for read in (slot.bar_read(0, 8, 4), slot.bar_read(2, 0, 4), slot.config_read(0, 4)):
        assert read == 0xFFFFFFFF
    slot.config_write(4, 7, 2)
    slot.bar_write(0, 0x3818, 5, 4)
    bench.link.inject(frame())
    bench.clock.run_for(SECOND)
    assert len(bench.link.frames) == sent
    assert bench.guest.receive() == []
    assert not bench.line.level
    assert bench.nic.misuse.count("decode-off") == 0


def test_one_kind_does_not_change_another() -> None:
    def losses(**faults: Any) -> list[int]:
        bench = failing(overrun=0.5, seed=9, **faults)
        out = []
        for _ in range(40):
            bench.link.inject(frame())
            out.append(rd(bench.nic, "MPC"))
            send(bench)
            bench.clock.run_for(MS)
        return out

    assert losses() == losses(irq_late=0.5, writeback_ns=MS)


@pytest.mark.parametrize(
    "bad",
    [{"overrun": 2}, {"irq_lost": -0.1}, {"flap_ns": -1}, {"abort": (("tx", 1),)},
     {"abort": (("tx-data", 0),)}],
)  # fmt: skip
def test_faults_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(E1000Error):
        Faults(**bad)


def test_the_command_line_makes_them() -> None:
    text = (
        "seed=7,flap=5s,down_ns=200000000,overrun=10%,abort=tx-data:3,abort=rx-data:4,remove=1min"
    )
    assert parse_faults(text) == Faults(
        seed=7, flap_ns=5 * SECOND, down_ns=200 * MS, overrun=0.1, remove_ns=60 * SECOND,
        abort=(("tx-data", 3), ("rx-data", 4)),
    )  # fmt: skip
    for wrong in (
        "what=1",
        "overrun=2",
        "abort=x:1",
        "flap=-1s",
        "flap",
        "seed=x",
        "flap=nan",
        "phy_busy=1ms",
    ):
        with pytest.raises(ArgumentError, match="--faults"):
            parse_faults(wrong)
