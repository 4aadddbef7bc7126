"""The gap between frames on a link that takes time: TIPG and AIT (SDM 13.4.34, 13.4.35)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.links.capture import Capture
from e1000emu.links.pair import pair
from e1000emu.testing.bench import BENCH_MAC, enable_bus_master
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import frame, rd, wr
from tests.e1000emu.links.ports import RecordingPort
from tests.e1000emu.witness import witness

FRAMES, SIZE = 10, 60
PREAMBLE_AND_FCS = 12
RST = 1 << 26
TIPG = 0x00602008
"""What it is at reset, and in Linux on copper."""


class Sender:
    """A device on a cable of 1 Gbit/s, and who hears it."""

    def __init__(
        self, wrap: Callable[[object], object] = lambda link: link, model: str = "82540EM"
    ) -> None:
        self.clock = VirtualClock()
        near, far = pair(self.clock, rate_bps=1_000_000_000)
        memory, dma = HostMemory(1 << 20), DmaTable()
        dma.add(memory.base, memory.buffer)
        line = RecordingLine(self.clock)
        self.nic = Nic(memory=dma, irq=line, link=wrap(near), clock=self.clock, model=model)
        self.far = RecordingPort(far)
        enable_bus_master(self.nic)
        self.guest = GuestRings(self.nic.slot, memory)
        self.up()

    def up(self) -> None:
        self.guest.up(mac=BENCH_MAC)
        wr(self.nic, "TIPG", TIPG)
        self.clock.run_for(5_000_000_000)

    def gap(self) -> float:
        """Send back to back; the byte times (8 ns) between two frames."""
        start = self.clock.now_ns()
        for _ in range(FRAMES):
            self.guest.post_legacy(frame(SIZE))
        wr(self.nic, "TDT", self.guest.tx.next_to_use)
        self.clock.run_for(10_000_000)
        took = self.far.times[-1] - start
        return took / FRAMES / 8 - SIZE - PREAMBLE_AND_FCS


@pytest.fixture
def sender() -> Sender:
    return Sender()


def test_reset_value_is_the_gap_of_the_standard(sender: Sender) -> None:
    assert sender.gap() == 12
    wr(sender.nic, "TIPG", 0)
    wr(sender.nic, "CTRL", RST)
    assert rd(sender.nic, "TIPG") == TIPG
    assert sender.nic.link.gap_bytes == 12


@witness("TIPG.IPGT")
@pytest.mark.parametrize("ipgt", [0, 6, 10, 1023])
def test_four_clocks_are_added(sender: Sender, ipgt: int) -> None:
    wr(sender.nic, "TIPG", 0x00602000 | ipgt)
    assert sender.gap() == ipgt + 4


@pytest.mark.parametrize(
    ("ait", "gap"), [(7, 12), pytest.param(9, 13, marks=witness("AIT.AIFS")), (60_000, 60_004)]
)
def test_the_longer_one_counts(sender: Sender, ait: int, gap: int) -> None:
    wr(sender.nic, "AIT", ait)
    assert sender.gap() == gap


def test_ait_counts_time_and_tipg_clocks_of_the_speed(sender: Sender) -> None:
    """At 100 Mbit/s a clock is 80 ns: 100 units of 8 ns are ten of them."""
    nic = sender.nic
    wr(nic, "AIT", 100)
    wr(nic, "CTRL", rd(nic, "CTRL") & ~(3 << 8) | 1 << 8 | 1 << 11)
    assert nic.link_unit.speed_mbps == 100
    assert nic.link.gap_bytes == 10 + 4


def test_a_reset_and_a_snapshot_bring_their_gap(sender: Sender) -> None:
    wr(sender.nic, "TIPG", 100)
    state = sender.nic.state()
    wr(sender.nic, "CTRL", RST)
    sender.up()
    assert sender.gap() == 12
    sender.nic.load_state(state)
    assert sender.nic.link.gap_bytes == 104


def test_a_capture_between_them_changes_nothing(tmp_path) -> None:
    sender = Sender(lambda link: Capture(link, tmp_path / "a.pcapng"))
    wr(sender.nic, "TIPG", 20)
    assert sender.gap() == 24


def test_the_next_port_has_the_standard_gap(sender: Sender) -> None:
    wr(sender.nic, "TIPG", 20)
    link = sender.nic.link
    sender.nic.halt()
    assert link.gap_bytes == 12


@pytest.mark.parametrize(("ait", "gap"), [(0, 12), (7, 19), (9, 21)])
def test_the_82544_adds_them(ait: int, gap: int) -> None:
    sender = Sender(model="82544GC")
    wr(sender.nic, "AIT", ait)
    assert sender.gap() == gap
