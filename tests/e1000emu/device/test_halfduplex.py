"""Two NICs at one wire: what TCTL and TIPG do, what is counted (SDM 13.4.33, 13.7.6 to 13.7.11)."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.links import Hub
from e1000emu.links.base import Middleware
from e1000emu.links.hub import HubPort
from e1000emu.testing.bench import Bench, enable_bus_master
from e1000emu.testing.guest import GuestRings, TxCmd
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import PEER, frame, rd, wr
from tests.e1000emu.witness import witness

BYTE_NS = 800
FD, SPEED = 1, 3 << 6
CT, COLD, RTLC, TCTL_ON = 4, 12, 1 << 24, 0x0A
COUNTERS = ("SCC", "MCC", "ECOL", "COLC", "LATECOL", "DC")
FRCDPLX, CTRL_FD = 1 << 12, 1


@dataclass
class Two:
    """Two NICs, one wire."""

    hub: Hub
    nics: list[Nic]
    guests: list[GuestRings]
    clock: VirtualClock

    def post(self, number: int, count: int, size: int = 60) -> None:
        guest = self.guests[number]
        for _ in range(count):
            guest.post_legacy(frame(size, PEER))
        wr(self.nics[number], "TDT", guest.tx.next_to_use)

    def counters(self, number: int) -> dict[str, int]:
        return {name: rd(self.nics[number], name) for name in COUNTERS}


def two(*, seed: int = 0, delay_bytes: int = 0, tctl: int = 0x0F << CT | TCTL_ON) -> Two:
    clock = VirtualClock()
    hub = Hub(clock, delay_ns=delay_bytes * BYTE_NS, seed=seed)
    nics, guests = [], []
    for n, port in enumerate(hub.ports):
        memory = HostMemory(4 << 20, base=0x10_0000)
        dma = DmaTable()
        dma.add(memory.base, memory.buffer)
        mac = bytes([2, 0, 0, 0, 0, n])
        nic = Nic(memory=dma, irq=RecordingLine(), link=port, clock=clock, mac=mac)
        enable_bus_master(nic)
        guest = GuestRings(nic.slot, memory)
        guest.up(mac=mac)
        nics.append(nic)
        guests.append(guest)
    clock.run_for(5_000_000_000)
    for nic in nics:
        wr(nic, "TCTL", tctl)
        wr(nic, "RCTL", 0x04008002 | 1 << 3)  # EN, UPE, BAM, SECRC
    return Two(hub, nics, guests, clock)


@witness("STATUS.SPEED")
def test_a_hub_is_negotiated_to_half_duplex() -> None:
    both = two()
    for nic in both.nics:
        assert rd(nic, "STATUS") & (FD | SPEED | 2) == 2
        assert not nic.phy.link.tx_pause
        assert nic.phy.read(5) & 0x0140 == 0  # the far end offers no full duplex


@witness("TCTL.CT", "SCC.COUNT", "MCC.COUNT", "COLC.COUNT", "DC.COUNT", "GPRC.COUNT")
def test_collisions_are_counted_and_everything_arrives() -> None:
    total = dict.fromkeys(COUNTERS, 0)
    for seed in (1, 2):
        both = two(seed=seed)
        for number in (0, 1):
            both.post(number, 30)
        both.clock.run_for(1_000_000_000)
        for number in (0, 1):
            got = both.counters(number)
            assert rd(both.nics[number], "GPRC") == 30
            assert got["COLC"] >= got["SCC"] + 2 * got["MCC"]
            assert got["ECOL"] == got["LATECOL"] == 0
            total = {name: total[name] + got[name] for name in COUNTERS}
            # a read has cleared them
            assert set(both.counters(number).values()) == {0}
    assert min(total[name] for name in ("SCC", "MCC", "COLC", "DC")) > 0


def test_the_counters_are_a_matter_of_the_seed() -> None:
    def run(seed: int) -> list[dict[str, int]]:
        both = two(seed=seed)
        for number in (0, 1):
            both.post(number, 20)
        both.clock.run_for(1_000_000_000)
        return [both.counters(0), both.counters(1)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_ct_says_when_a_frame_is_given_up() -> None:
    """CT=0: no second attempt; and ECOL stays 0 when CT is below 16 (13.7.7)."""
    both = two(tctl=TCTL_ON)
    both.post(0, 1)
    both.post(1, 1)
    both.clock.run_for(1_000_000_000)
    for number in (0, 1):
        assert both.counters(number) == dict.fromkeys(COUNTERS, 0) | {"COLC": 1}
        assert rd(both.nics[number], "GPRC") == 0
        assert both.hub.ports[number].stats.drops == {"excessive collisions": 1}


@witness("TCTL.RTLC", "LATECOL.COUNT")
def test_rtlc_tries_again_after_a_late_collision() -> None:
    got = []
    for rtlc in (0, RTLC):
        both = two(delay_bytes=100, tctl=0x0F << CT | TCTL_ON | rtlc)
        both.post(0, 1, 1000)
        start = both.clock.now_ns()
        both.clock.call_at(start + 90 * BYTE_NS, lambda both=both: both.post(1, 1, 1000))
        both.clock.run_for(1_000_000_000)
        assert rd(both.nics[0], "LATECOL") >= 1
        got.append(rd(both.nics[1], "GPRC"))
    assert got == [0, 1]


@witness("TIPG.IPGR2")
def test_ipgr2_is_the_gap_after_others() -> None:
    ends = []
    for ipgr2 in (6, 50):
        both = two()
        wr(both.nics[1], "TIPG", rd(both.nics[1], "TIPG") & ~(0x3FF << 20) | ipgr2 << 20)
        both.post(0, 1, 500)
        start = both.clock.now_ns()
        both.clock.call_at(start + BYTE_NS, lambda both=both: both.post(1, 1, 500))
        while not both.nics[0].stats["GPRC"]:
            both.clock.run_for(BYTE_NS)
        ends.append((both.clock.now_ns() - start) // BYTE_NS)
        assert both.counters(1)["DC"] == 1
    assert ends[1] - ends[0] == 44


@witness("TIPG.IPGR1")
def test_ipgr1_is_the_part_of_it_in_which_a_carrier_counts() -> None:
    """The far station begins within our gap: only in its first part we wait again."""
    collided = []
    for ipgr1 in (4, 40):
        both = two()
        tipg = rd(both.nics[1], "TIPG") & 0x3FF | 40 << 20 | ipgr1 << 10
        wr(both.nics[1], "TIPG", tipg)
        both.post(0, 2, 500)  # its second frame comes 12 byte times after the first
        start = both.clock.now_ns()
        both.clock.call_at(start + BYTE_NS, lambda both=both: both.post(1, 1, 500))
        both.clock.run_for(1_000_000_000)
        counters = both.counters(0)
        collided.append(counters["COLC"] + counters["LATECOL"] > 0)
    assert collided == [True, False]


@witness("CTRL.FRCDPLX")
def test_forced_full_duplex_does_not_listen() -> None:
    both = two()
    wr(both.nics[1], "CTRL", rd(both.nics[1], "CTRL") | FRCDPLX | CTRL_FD)
    both.post(0, 1, 1500)
    start = both.clock.now_ns()
    both.clock.call_at(start + 500 * BYTE_NS, lambda: both.post(1, 1))
    both.clock.run_for(1_000_000_000)
    assert both.counters(0)["LATECOL"] == 1
    assert set(both.counters(1).values()) == {0}


def test_nothing_is_counted_with_the_transmitter_off() -> None:
    both = two()
    both.post(0, 1, 1000)
    both.post(1, 1, 1000)
    for nic in both.nics:
        wr(nic, "TCTL", rd(nic, "TCTL") & ~2)
    both.clock.run_for(1_000_000_000)
    assert set(both.counters(0).values()) == {0}


def test_a_pause_and_a_link_that_is_down_defer_too(bench: Bench) -> None:
    """SDM 13.7.11; in full duplex as well."""
    nic, guest = bench.nic, bench.guest
    nic.tx.pause(bench.clock.now_ns() + 1000)
    guest.post_legacy(frame())
    wr(nic, "TDT", guest.tx.next_to_use)
    assert rd(nic, "DC") == 1
    bench.clock.run_for(2000)
    assert len(bench.link.take()) == 1
    assert rd(nic, "DC") == 0
    bench.link.set_carrier(False)
    guest.post_legacy(frame())
    wr(nic, "TDT", guest.tx.next_to_use)
    assert rd(nic, "DC") == 1


def jammed(hub: Hub) -> None:
    """Let somebody begin together with every frame of the first NIC."""
    start = hub.start

    def together(port: HubPort, data: bytes, flags: int, now_ns: int) -> object:
        sending = start(port, data, flags, now_ns)
        if port is hub.ports[0]:
            start(hub.ports[1], frame(), 0, now_ns)
        return sending

    hub.start = together  # type: ignore[method-assign, assignment]


SENT = ("TPT", "GPTC", "GOTCL", "TOTL", "PTC64", "BPTC")


@witness("ECOL.COUNT")
def test_a_frame_that_is_given_up_is_no_frame_sent() -> None:
    """SDM 13.7.7, 13.7.30, 13.7.44: sixteen collisions."""
    both = two()
    nic, guest = both.nics[0], both.guests[0]
    both.nics[1].halt()
    guest.post_legacy(frame(60, b"\xff" * 6))
    wr(nic, "TDT", guest.tx.next_to_use)
    both.clock.run_for(1_000_000)
    assert [rd(nic, name) for name in SENT] == [1, 1, 64, 64, 1, 1]
    assert (rd(nic, "GOTCH"), rd(nic, "TOTH")) == (0, 0)
    jammed(both.hub)
    guest.post_legacy(frame(60, b"\xff" * 6))
    wr(nic, "TDT", guest.tx.next_to_use)
    both.clock.run_for(1_000_000_000)
    assert both.counters(0) == dict.fromkeys(COUNTERS, 0) | {"ECOL": 1, "COLC": 16}
    assert [rd(nic, name) for name in SENT] == [0] * 6


def test_a_frame_with_its_own_fcs_is_as_long_at_a_hub_as_with_the_macs() -> None:
    both = two()
    (nic, far), (guest, other) = both.nics, both.guests
    plain = frame(60, PEER)
    guest.post_legacy(plain + crc32(plain).to_bytes(4, "little"), cmd=TxCmd.EOP | TxCmd.RS)
    guest.post_legacy(plain)
    wr(nic, "TDT", guest.tx.next_to_use)
    both.clock.run_for(1_000_000)
    assert (rd(nic, "GPTC"), rd(nic, "GOTCL"), rd(nic, "GOTCH")) == (2, 128, 0)
    assert [one.data for one in other.receive()] == [plain, plain]
    assert (rd(far, "GPRC"), rd(far, "GORCL"), rd(far, "CRCERRS")) == (2, 128, 0)


def test_a_looped_frame_counts_at_a_hub_too() -> None:
    both = two()
    nic = both.nics[0]
    wr(nic, "RCTL", rd(nic, "RCTL") | 1 << 6)
    both.post(0, 3)
    assert rd(nic, "GPTC") == 3


@pytest.mark.parametrize("shared", [True, False])
def test_frames_are_counted_once_through_a_layer_before_the_link(shared: bool) -> None:
    clock = VirtualClock()
    wire = Hub(clock).ports[0] if shared else RecordingLink()
    memory, dma = HostMemory(4 << 20, base=0x10_0000), DmaTable()
    dma.add(memory.base, memory.buffer)
    nic = Nic(memory=dma, irq=RecordingLine(), link=Middleware(wire, clock=clock), clock=clock)
    enable_bus_master(nic)
    guest = GuestRings(nic.slot, memory)
    guest.up()
    clock.run_for(5_000_000_000)
    guest.send(*[frame()] * 3)
    clock.run_for(1_000_000)
    assert [rd(nic, name) for name in ("GPTC", "TPT", "TOTL")] == [3, 3, 3 * 64]
