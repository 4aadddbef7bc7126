"""What could go on at one instant of virtual time for ever: time moves, and `run_for` returns."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from e1000emu.clock import EVENT_NS, INSTANT_EVENTS, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.device.tx import REST_FRAMES, REST_NS
from e1000emu.links import NullLink, Switch, pair
from e1000emu.testing.bench import BENCH_MAC, Bench, enable_bus_master
from e1000emu.testing.guest import GuestRings, Int, Rctl, TxCmd
from e1000emu.testing.recorders import RecordingLine
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic.macpath import CREDIT_MAX
from tests.e1000emu.common import RX_ON, frame, off, rd, running, wr

MS = 1_000_000
COUNT, MEGABYTE = 65_528, 0xFFFFF
CMD = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS


class Echo:
    """A port that sends back whatever it gets."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.frames = 0
        end.attach(self)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.frames += len(batch) - start
        self.end.transmit(FrameBatch([bytes(batch[i]) for i in range(start, len(batch))]))
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """No matter."""

    def tx_ready(self) -> None:
        """It never asks for room."""


class Sink(Echo):
    """A port that only counts."""

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.frames += len(batch) - start
        return len(batch)


def device_on(link: Any, clock: VirtualClock, *, rctl: int = RX_ON, tx_count: int = 256) -> Bench:
    """A device on `link`, up."""
    memory, dma, line = HostMemory(16 << 20, base=0x10_0000), DmaTable(), RecordingLine(clock)
    dma.add(memory.base, memory.buffer)
    nic = Nic(memory=dma, irq=line, link=link, clock=clock, mac=BENCH_MAC)
    enable_bus_master(nic)
    guest = GuestRings(nic.slot, memory, tx_count=tx_count)
    guest.up(mac=BENCH_MAC, rctl=rctl)
    clock.run_for(5_000 * MS)
    return Bench.of(nic, memory, dma, line, link, clock, guest)


def hostile_ring(link: Any, clock: VirtualClock) -> Bench:
    """A device whose transmit ring holds 64 GB for segments of one byte."""
    bench = device_on(link, clock, tx_count=COUNT)
    memory, ring = bench.memory, bench.guest.tx
    payload = memory.alloc(MEGABYTE, 64)
    header = bytes.fromhex(
        "020000000001525400123456080045000028000040004006000009000001"
    ) + bytes.fromhex("09000002000a000b00000001000000015018100000000000")
    memory.write(payload, header)
    bench.guest.post_context(
        ipcss=14, ipcso=24, ipcse=33, tucss=34, tucso=50, paylen=MEGABYTE - len(header),
        tucmd=0x27, hdrlen=len(header), mss=1,
    )  # fmt: skip
    word = MEGABYTE | 1 << 20 | (CMD | TxCmd.DEXT | TxCmd.TSE) << 24
    memory.write(ring.address(1), struct.pack("<QII", payload, word, 3 << 8) * (COUNT - 2))
    wr(bench.nic, "TDT", COUNT - 1)
    return bench


@pytest.mark.parametrize("cable", [False, True], ids=["null", "cable"])
def test_a_ring_that_holds_more_than_a_wire_carries_in_a_day(cable: bool) -> None:
    clock = VirtualClock()
    near, far = pair(clock) if cable else (NullLink(clock), None)
    if far is not None:
        Sink(far)
    bench = hostile_ring(near, clock)
    start = clock.now_ns()
    clock.run_for(20 * MS)
    assert clock.now_ns() == start + 20 * MS
    sent = bench.nic.stats.as_dict()["TPT"]
    assert sent == pytest.approx(CREDIT_MAX + 20 * MS // REST_NS * REST_FRAMES, rel=0.1)
    # It goes on, and ends at a reset as it should.
    clock.run_for(REST_NS)
    assert bench.nic.stats.as_dict()["TPT"] > sent
    assert 0 < rd(bench.nic, "TDH") < COUNT - 1
    bench.guest.up(mac=BENCH_MAC)
    clock.run_for(20 * MS)
    assert rd(bench.nic, "TDH") == 0
    assert bench.guest.send(frame()) == 1


def test_two_runs_of_a_hostile_ring_are_the_same() -> None:
    seen = []
    for _ in range(2):
        clock = VirtualClock()
        bench = hostile_ring(NullLink(clock), clock)
        clock.run_for(7 * MS)
        seen.append((bench.nic.stats.as_dict(), rd(bench.nic, "TDH"), clock.now_ns()))
    assert seen[0] == seen[1]


def test_ports_that_echo_each_other() -> None:
    clock = VirtualClock()
    a, b = map(Echo, pair(clock))
    a.end.transmit(FrameBatch([frame()]))
    clock.run_for(10 * MS)
    assert clock.now_ns() == 10 * MS
    assert a.frames + b.frames == pytest.approx(INSTANT_EVENTS + 10 * MS // EVENT_NS, rel=0.01)


def test_switches_in_a_ring_with_a_broadcast() -> None:
    clock = VirtualClock()
    one, two = Switch(clock), Switch(clock)
    for _ in range(2):
        near, far = pair(clock)
        Bridge(near, one.port())
        Bridge(far, two.port())
    host = one.port()
    Sink(host)
    host.transmit(FrameBatch([frame(dst=b"\xff" * 6)]))
    clock.run_for(10 * MS)
    assert clock.now_ns() == 10 * MS


class Bridge:
    """Joins the end of a cable and a port of a switch."""

    def __init__(self, a: Any, b: Any) -> None:
        for here, there in ((a, b), (b, a)):
            here.attach(_Half(there))


class _Half:
    def __init__(self, there: Any) -> None:
        self.there = there

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.there.transmit(FrameBatch([bytes(batch[i]) for i in range(start, len(batch))]))
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """No matter."""

    def tx_ready(self) -> None:
        """It never asks for room."""


def test_loopback_with_a_handler_that_always_sends() -> None:
    bench = running(rctl=RX_ON | Rctl.LBM_MAC, ims=int(Int.TXDW))
    guest, handled = bench.guest, []

    def handler() -> None:
        handled.append(bench.clock.now_ns())
        rd(bench.nic, "ICR")
        guest.post_legacy(frame())
        bench.clock.call_soon(guest.kick)

    bench.line.on_rise = handler
    guest.post_legacy(frame())
    guest.kick()
    start = bench.clock.now_ns()
    bench.clock.run_for(10 * MS)
    assert bench.clock.now_ns() == start + 10 * MS
    assert len(handled) > INSTANT_EVENTS // 2


def test_a_handler_that_sets_its_own_cause_again() -> None:
    """ITR is 0: nothing keeps two interrupts apart."""
    bench = running(ims=int(Int.RXT0))
    risen = 0

    def handler() -> None:
        nonlocal risen
        risen += 1
        rd(bench.nic, "ICR")
        bench.clock.call_soon(lambda: wr(bench.nic, "ICS", Int.RXT0))

    bench.line.on_rise = handler
    wr(bench.nic, "ICS", Int.RXT0)
    start = bench.clock.now_ns()
    bench.clock.run_for(10 * MS)
    assert bench.clock.now_ns() == start + 10 * MS
    assert risen == pytest.approx(INSTANT_EVENTS + 10 * MS // EVENT_NS, rel=0.01)


def test_pause_frames_that_come_back() -> None:
    """XOFF at a full FIFO, answered by frames and by our own PAUSE, for ever."""
    clock = VirtualClock()
    near, far = pair(clock)
    echo = Echo(far)
    bench = device_on(near, clock, rctl=RX_ON | Rctl.UPE)
    ctrl = rd(bench.nic, "CTRL")
    for name, value in (
        ("FCAL", 0x00C28001), ("FCAH", 0x100), ("FCT", 0x8808), ("FCTTV", 0),
        ("FCRTH", 64), ("FCRTL", 8 | 1 << 31), ("CTRL", ctrl | 3 << 27),
    ):  # fmt: skip
        wr(bench.nic, name, value)
    for _ in range(20):
        far.transmit(FrameBatch([frame(1500)] * 40))
        wr(bench.nic, "TCTL", rd(bench.nic, "TCTL") | 1 << 22)  # SWXOFF
    start = clock.now_ns()
    clock.run_for(10 * MS)
    assert clock.now_ns() == start + 10 * MS
    assert echo.frames


class Ready(Sink):
    """Says that it has room while it takes nothing."""

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.frames += 1
        self.end.rx_ready()
        return start


def test_a_port_that_is_ready_and_takes_nothing() -> None:
    clock = VirtualClock()
    near, far = pair(clock)
    port = Ready(far)
    Sink(near)
    near.transmit(FrameBatch([frame()]))
    clock.run_for(10 * MS)
    assert clock.now_ns() == 10 * MS
    assert port.frames > INSTANT_EVENTS


def test_descriptors_without_buffers_are_given_back_once() -> None:
    """The ring is walked once, not in a circle."""
    bench = running(rctl=RX_ON)
    for index in range(bench.guest.rx.count):
        bench.memory.write(bench.guest.rx.address(index), bytes(16))
    wr(bench.nic, "RDH", 0)
    bench.link.inject(frame())
    bench.clock.run_for(10 * MS)
    assert rd(bench.nic, "RDH") == rd(bench.nic, "RDT")
    assert off("RDH") == 0x2810
