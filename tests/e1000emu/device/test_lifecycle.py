"""pause, resume, reset, halt: the table, each promise, random sequences on both schedulers."""

from __future__ import annotations

import itertools
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.embed.vfio_user.beside import GuardedClock, start_thread
from e1000emu.errors import LifecycleError
from e1000emu.links.handover import Handover, guard_port
from e1000emu.testing.bench import BENCH_MAC, Bench, enable_bus_master
from e1000emu.testing.guest import Ctrl, GuestRings, Int, Reg, TxCmd
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.lifecycle import REMEDIES, TABLE, Call, RunState
from fastpath.nic.datapath import DataPath
from fastpath.nic.irqblock import EventLine
from tests.e1000emu.common import frame, rd, running, wr
from tests.support import examples

RUNNING, PAUSING, PAUSED, HALTED = RunState
NO = "\N{EN DASH}"
PAGE = Path(__file__).parents[3] / "docs" / "architecture.md"
CALLS: dict[Call, Callable[[Nic], Any]] = {
    Call.PAUSE: lambda nic: nic.pause(),
    Call.RESUME: lambda nic: nic.resume(),
    Call.RESET: lambda nic: nic.reset(),
    Call.SAVE: lambda nic: nic.state(),
    Call.RESTORE: lambda nic: nic.load_state(nic.__dict__["saved"]),
    Call.HALT: lambda nic: nic.halt(),
}


@pytest.fixture
def bench() -> Bench:
    return running(ims=Int.RXT0 | Int.TXDW)


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", Call)
@pytest.mark.parametrize("state", [RUNNING, PAUSED, HALTED])
def test_every_call_in_every_state(state: RunState, call: Call, nic: Nic) -> None:
    nic.__dict__["saved"] = nic.state()
    if state is not RUNNING:
        nic.pause() if state is PAUSED else nic.halt()
    allowed = TABLE[call].get(state)
    if allowed is None:
        with pytest.raises(LifecycleError, match=state.value) as caught:
            CALLS[call](nic)
        assert REMEDIES[state] in str(caught.value)
        allowed = state
    else:
        CALLS[call](nic)
    assert nic.run_state is (PAUSED if allowed is PAUSING else allowed)


@pytest.mark.parametrize("call", Call)
def test_every_call_while_pausing(call: Call) -> None:
    bench = in_callback(lambda nic: seen.append(attempt(nic, call)), pause_first=True)
    seen: list[tuple[bool, RunState]] = []
    bench.nic.__dict__["saved"] = bench.nic.state()
    bench.guest.post_legacy(frame(100))
    bench.guest.kick()
    quiet = call in (Call.SAVE, Call.RESTORE)
    assert seen[0][0] == (PAUSING in TABLE[call] and not quiet)
    assert seen[0][1] is TABLE[call].get(PAUSING, PAUSING)


def attempt(nic: Nic, call: Call) -> tuple[bool, RunState]:
    """Return whether the call is let through, and the state after it; end a life that it ended."""
    if call is Call.HALT:  # not from inside an engine: the table only
        return True, HALTED
    try:
        CALLS[call](nic)
    except LifecycleError:
        return False, nic.run_state
    return True, nic.run_state


def in_callback(then: Callable[[Nic], object], *, pause_first: bool = False) -> Bench:
    """Return a bench that calls `then` once, from inside an engine's read of a frame."""
    bench = running()
    memory, place = bench.memory, 1 << 40
    asked: list[int] = []

    def read(addr: int, n: int) -> bytes:
        if not asked:
            asked.append(addr)
            if pause_first:
                bench.nic.pause()
            then(bench.nic)
        return bytes(memory.read(addr - place, n))

    bench.dma.set_message_dma(read, lambda addr, data: True)
    post = bench.guest.post_legacy

    def outside(data: bytes, **options: Any) -> None:
        """Post a frame whose buffer lies where only the callback reaches it."""
        post(data, **options)
        ring = bench.guest.tx
        at = ring.address(ring.next_to_use - 1)
        (where,) = struct.unpack("<Q", memory.read(at, 8))
        memory.write(at, struct.pack("<Q", where + place))

    bench.guest.post_legacy = outside  # type: ignore[method-assign]
    return bench


def test_the_page_shows_the_table() -> None:
    page = PAGE.read_text().split("## The life of a device")[1]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:6]] for line in page.splitlines()]
    shown = {row[0]: row[1:] for row in rows if row and row[0] in {call.value for call in Call}}
    assert shown == {
        call.value: [after[state].value if state in after else NO for state in RunState]
        for call, after in TABLE.items()
    }


# --- each promise --------------------------------------------------------------------------------


def test_a_pause_without_events_leaves_no_trace(bench: Bench) -> None:
    bench.guest.post_legacy(frame(100))  # nobody rings for it
    wr(bench.nic, "RDTR", 100)
    bench.link.inject(frame(80))
    before = bench.nic.state()
    bench.nic.pause()
    assert bench.nic.state() == before
    bench.nic.resume()
    assert bench.nic.state() == before
    assert bench.link.frames == []


def test_what_was_asked_for_while_paused_is_done_at_the_resume(bench: Bench) -> None:
    nic, guest, link = bench.nic, bench.guest, bench.link
    nic.pause("a reason")
    assert any("a reason" in line for line in nic.explain())
    guest.post_legacy(frame(100))
    guest.kick()
    assert link.inject(frame(80), frame(81), hold=True) == 0
    bench.clock.run_for(10_000_000)
    assert (link.frames, rd(nic, "TDH"), rd(nic, "RDH")) == ([], 0, 0)
    assert bench.line.edges == []
    nic.resume()
    assert link.take() == [frame(100)]
    assert link.rx_ready_calls == 1
    assert link.inject(frame(80), frame(81), hold=True) == 2
    assert bench.line.level
    assert not any("a reason" in line for line in nic.explain())


def test_frames_of_a_link_that_does_not_hold_wait_in_the_fifo(bench: Bench) -> None:
    nic, sizes = bench.nic, [80, *[1500] * 40]
    nic.pause()
    assert bench.link.inject(*map(frame, sizes)) == len(sizes)
    assert bench.guest.receive() == []
    missed = rd(nic, "MPC")
    assert 0 < missed < 20, "48 KiB hold about thirty"
    assert rd(nic, "ICR") & Int.RXO
    assert bench.line.edges == []
    nic.resume()
    assert [got.data for got in bench.guest.receive()] == [*map(frame, sizes)][:-missed]


def test_a_pause_amid_an_engine_ends_when_the_frame_is_out() -> None:
    states: list[RunState] = []
    bench = in_callback(lambda nic: states.append(nic.run_state), pause_first=True)
    for size in (100, 101):
        bench.guest.post_legacy(frame(size))
    bench.guest.kick()
    assert states == [PAUSING]
    assert bench.nic.run_state is PAUSED
    sent = bench.link.take()
    assert sent == [frame(100), frame(101)][: len(sent)]
    bench.nic.resume()
    assert sent + bench.link.take() == [frame(100), frame(101)]


def test_a_handler_that_pauses_stops_the_ring(bench: Bench) -> None:
    nic, guest, link = bench.nic, bench.guest, bench.link
    link.tx_room = lambda: 1  # type: ignore[method-assign]
    bench.line.on_rise = nic.pause
    for size in range(100, 104):
        guest.post_legacy(frame(size))
    guest.kick()
    assert (nic.run_state, link.frames) == (PAUSED, [frame(100)])
    bench.line.on_rise = None
    nic.resume()
    assert link.frames == [frame(n) for n in range(100, 104)]


def test_a_delay_that_ends_while_paused_interrupts_at_the_resume(bench: Bench) -> None:
    wr(bench.nic, "RDTR", 100)
    bench.link.inject(frame(80))
    bench.nic.pause()
    bench.clock.run_for(10_000_000)
    assert not bench.line.level
    assert not bench.nic.interrupts.causes & Int.RXT0
    bench.nic.resume()
    assert bench.line.level
    assert bench.nic.interrupts.causes & Int.RXT0


def test_the_line_keeps_its_level_while_the_registers_answer(bench: Bench, nic: Nic) -> None:
    wr(nic, "ICS", int(Int.RXT0))
    nic.pause()
    assert rd(nic, "ICR") & Int.RXT0
    assert bench.line.level
    nic.resume()
    assert not bench.line.level


def test_a_flush_while_paused_writes_back_at_the_resume(bench: Bench) -> None:
    nic, guest = bench.nic, bench.guest
    wr(nic, "RXDCTL", 4 << 16 | 1 << 24)  # WTHRESH 4, GRAN
    wr(nic, "RDTR", 0xFFFF)
    bench.link.inject(frame(80))
    assert guest.receive() == []
    nic.pause()
    wr(nic, "RDTR", 0xFFFF | 1 << 31)
    assert guest.receive() == []
    state = nic.state()
    nic.resume()
    assert [got.data for got in guest.receive()] == [frame(80)]
    nic.pause()
    nic.load_state(state)
    assert nic.interrupts.flushed == Int.RXT0


@pytest.mark.parametrize("name", ["RXDCTL", "TXDCTL"])
def test_a_threshold_that_changes_while_paused_writes_back_at_the_resume(
    bench: Bench, name: str
) -> None:
    nic, guest = bench.nic, bench.guest
    wr(nic, name, 4 << 16 | 1 << 24)  # WTHRESH 4, GRAN
    for delay in ("RDTR", "TIDV"):
        wr(nic, delay, 0xFFFF)
    bench.link.inject(frame(80))
    guest.post_legacy(frame(80), cmd=TxCmd.EOP | TxCmd.IFCS | TxCmd.RS | TxCmd.IDE)
    guest.kick()
    nic.pause()
    image = bytes(bench.memory.buffer)
    wr(nic, name, 1 << 24)
    assert bytes(bench.memory.buffer) == image
    nic.resume()
    assert bytes(bench.memory.buffer) != image
    assert guest.tx_done(0)
    assert len(guest.receive()) == 1


def test_xoff_waits_for_the_resume(bench: Bench, nic: Nic) -> None:
    for name, value in (("FCAL", 0x00C28001), ("FCAH", 0x100), ("FCT", 0x8808), ("FCTTV", 7)):
        wr(nic, name, value)
    nic.pause()
    wr(nic, "TCTL", rd(nic, "TCTL") | 1 << 22)  # SWXOFF
    assert bench.link.frames == []
    state = nic.state()
    nic.load_state(state)
    nic.resume()
    (sent,) = bench.link.take()
    assert sent[12:18] == bytes.fromhex("880800010007")


def test_a_message_for_a_cause_that_came_while_paused_is_not_lost() -> None:
    bench = running(model="82545EM", ims=Int.RXT0)
    nic = bench.nic
    messages: list[tuple[int, int]] = []
    nic.pci._message = lambda address, data: messages.append((address, data))
    for at, value, size in ((0xF4, 0xFEE0_0000, 4), (0xF2, 0x81, 2), (0xFC, 0x33, 2)):
        nic.slot.config_write(at, value, size)
    nic.pause()
    wr(nic, "ICS", int(Int.RXT0))
    assert messages == []
    nic.resume()
    assert len(messages) == 1


def test_a_snapshot_from_inside_an_engine_is_refused() -> None:
    refused: list[str] = []

    def save(nic: Nic) -> None:
        with pytest.raises(LifecycleError) as caught:
            nic.state()
        refused.append(str(caught.value))

    bench = in_callback(save)
    bench.guest.post_legacy(frame(100))
    bench.guest.kick()
    assert "engine is at work" in refused[0]
    assert bench.link.take() == [frame(100)]


def test_a_doorbell_put_off_is_in_the_snapshot(bench: Bench) -> None:
    bench.nic.pause()
    bench.guest.post_legacy(frame(100))
    bench.guest.kick()
    state = bench.nic.state()
    link = RecordingLink()
    other = Nic(memory=bench.dma, irq=RecordingLine(), link=link, clock=bench.clock, mac=BENCH_MAC)
    other.pause()
    other.load_state(state)
    assert (other.run_state, link.frames) == (PAUSED, [])
    other.resume()
    assert link.frames == [frame(100)]


def test_a_bus_reset_from_inside_an_engine_waits_for_it() -> None:
    alive: list[int] = []

    def reset(nic: Nic) -> None:
        nic.reset()
        wr(nic, "CTRL", int(Ctrl.RST))
        alive.append(rd(nic, "TCTL"))

    bench = in_callback(reset)
    bench.guest.post_legacy(frame(100))
    bench.guest.kick()
    assert alive[0] & 2
    assert rd(bench.nic, "TCTL") & 2 == 0
    assert bench.nic.slot.config_read(4, 2) == 0, "RST#, not only CTRL.RST"


@pytest.mark.parametrize("reset", ["reset", "power_on_reset"])
def test_a_reset_leaves_a_paused_device_paused(bench: Bench, reset: str, nic: Nic) -> None:
    nic.pause()
    getattr(nic, reset)()
    assert nic.run_state is PAUSED
    enable_bus_master(nic)
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(5_000_000_000)
    bench.guest.post_legacy(frame(100))
    bench.guest.kick()
    assert bench.link.frames == []
    nic.resume()
    assert bench.link.take() == [frame(100)]


@pytest.mark.parametrize("paused", [False, True])
def test_a_halted_device_calls_nobody(bench: Bench, paused: bool, nic: Nic) -> None:
    wr(nic, "ICS", int(Int.RXT0))
    wr(nic, "RDTR", 100)
    bench.link.inject(frame(80))
    port = bench.link.port
    if paused:
        nic.pause()
    nic.halt()
    nic.halt()
    assert not bench.line.level
    assert bench.link.port is None
    image, edges = bytes(bench.memory.buffer), len(bench.line.edges)
    bench.guest.write(Reg.TDT, 5)
    wr(nic, "ICS", int(Int.RXT0))
    assert port.receive(FrameBatch([frame(60)]), 0, True) == 1
    bench.clock.run_for(10_000_000_000)
    assert bytes(bench.memory.buffer) == image
    assert (bench.link.frames, len(bench.line.edges)) == ([], edges)


# --- random sequences ----------------------------------------------------------------------------

RING = 32
NUMBER = 14
WAIT_S = 30.0


def numbered(n: int) -> bytes:
    return frame(60 + n % 90)[:NUMBER] + n.to_bytes(4, "big") * (n % 12 + 12)


def number(data: bytes) -> int:
    n = int.from_bytes(data[NUMBER : NUMBER + 4], "big")
    assert data == numbered(n), data.hex()
    return n


def timeless(state: bytes) -> dict[str, Any]:
    """Return a snapshot without the time at which it was taken."""
    return {k: v for k, v in msgspec.msgpack.decode(state).items() if k != "now_ns"}


class Wire:
    """A far end that keeps what the device does not take, and offers it again when it may."""

    def __init__(self) -> None:
        self.carrier, self.speed_mbps, self.full_duplex = True, 1000, True
        self.port: Any = None
        self.sent: list[int] = []
        self.queue: list[int] = []
        self._full = False
        """The device left frames, and has not said that it has room again."""

    def attach(self, port: Any) -> None:
        self.port = port

    def detach(self) -> None:
        self.port = None

    def tx_room(self) -> int:
        return 5

    def transmit(self, batch: FrameBatch) -> None:
        self.sent += [number(bytes(batch[i])) for i in range(len(batch))]
        batch.clear()

    def rx_ready(self) -> None:
        self._full = False
        self.offer()

    def offer(self) -> None:
        """Hand over what waits, as far as it is taken; then only `rx_ready` goes on."""
        while self.queue and not self._full and self.port is not None:
            self._full = True  # until this call has ended, too
            batch = FrameBatch([numbered(n) for n in self.queue])
            taken = self.port.receive(batch, 0, True)
            del self.queue[:taken]
            if not self.queue:
                self._full = False


class OnClock:
    """A device on a virtual clock."""

    threaded = False

    def __init__(self) -> None:
        self.memory = HostMemory(1 << 18, base=0x10_0000)
        dma = DmaTable()
        dma.add(self.memory.base, self.memory.buffer)
        self.wire = Wire()
        self.make(dma)
        enable_bus_master(self.nic)
        self.guest = GuestRings(self, self.memory, tx_count=RING, rx_count=RING)

    def make(self, dma: DmaTable) -> None:
        self.clock: Any = VirtualClock()
        self.line: Any = RecordingLine(self.clock)
        self.nic = Nic(
            memory=dma, irq=self.line, link=self.wire, clock=self.clock, mac=BENCH_MAC,
            autoneg_ns=0, moderation="adaptive",
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        """The slot that the driver has."""
        inner = getattr(self.nic.slot, name)

        def call(*args: Any) -> Any:
            return self.do(lambda: inner(*args))

        return call

    def do(self, fn: Callable[[], Any]) -> Any:
        return fn()

    def edges(self) -> int:
        return len(self.line.edges)

    @property
    def level(self) -> bool:
        return bool(self.line.level)

    def pass_time(self) -> None:
        self.clock.run_for(3_000_000)

    def settle(self, done: Callable[[], bool]) -> None:
        """Let time pass until `done`."""
        for _ in range(10_000):
            if done():
                return
            self.clock.run_for(100_000)
        raise AssertionError("the device does not get there")

    def close(self) -> None:
        self.nic.halt()
        assert self.nic.run_state is HALTED


class Threaded(OnClock):
    """The same device with a worker thread, as the vfio-user server has it."""

    threaded = True

    def make(self, dma: DmaTable) -> None:
        self.clock = RealClock()
        guarded = GuardedClock(self.clock)
        self.link = Handover(self.wire, clock=self.clock)
        self.line = EventLine()
        self.line.automask = False
        self.nic = Nic(
            memory=dma, irq=self.line, link=self.link, clock=guarded, mac=BENCH_MAC, autoneg_ns=0,
            moderation="adaptive",
        )  # fmt: skip
        self.data = DataPath(self.nic.tx, self.nic.rx, self.nic.interrupts, self.link.lend())
        guarded.guard = self.data
        guard_port(self.link, self.data)
        self.data.attach(self.line)
        self.nic.defer_doorbells()
        self.thread = start_thread(self.data.run, "lifecycle data", None)

    def do(self, fn: Callable[[], Any]) -> Any:
        with self.clock.lock, self.data:
            return fn()

    def edges(self) -> int:
        return int(self.line.level)

    def pass_time(self) -> None:
        with self.clock.lock:
            self.clock.run(timeout_ns=1_000_000)
            self.link.settle()

    def settle(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, "the device does not get there"
            self.do(self.data.take_notices)
            with self.clock.lock:
                self.clock.run(timeout_ns=200_000)
                self.link.settle()

    def close(self) -> None:
        self.data.halt()
        self.thread.join()
        assert self.data.run_state is HALTED
        with self.clock.lock:
            self.do(self.nic.halt)
            self.data.close()
        self.clock.close()


class Lives(RuleBasedStateMachine):
    """Traffic both ways, and calls of the lifecycle in any order.

    Every frame that was sent or offered arrives once and in order, but for those that a reset or a
    wire that does not hold may take. Nothing moves while the device is paused.
    """

    kind: type[OnClock]

    @initialize()
    def power_on(self) -> None:
        self.rig = self.kind()
        self.nic = self.rig.nic
        self.numbers = itertools.count(1)
        self.state = RUNNING
        self.saved = self.rig.do(self.nic.state)
        self.posted: set[int] = set()
        self.offered: set[int] = set()
        self.missed: set[int] = set()
        self.may_go: set[int] = set()
        self.got: list[int] = []
        self.image: tuple[Any, ...] | None = None
        self.start()

    def start(self) -> None:
        """Do what a driver does after a reset."""
        guest, nic = self.rig.guest, self.nic
        self.rig.do(lambda: enable_bus_master(nic))
        guest.up(mac=BENCH_MAC, ims=int(Int.RXT0 | Int.TXDW))
        self.rig.settle(lambda: bool(guest.read(Reg.STATUS) & 2))
        self.look()

    def seen(self) -> tuple[Any, ...]:
        """All that the device could have touched."""
        return bytes(self.rig.memory.buffer), list(self.rig.wire.sent), self.rig.edges()

    def look(self) -> None:
        """The host has done something itself: what is there now is what must stay."""
        if self.state is PAUSED:
            self.image = self.seen()

    # --- traffic ---------------------------------------------------------------------------------

    @rule(count=st.integers(1, 6))
    def send(self, count: int) -> None:
        guest = self.rig.guest
        guest.reap()
        for _ in range(min(count, guest.tx_unused())):
            n = next(self.numbers)
            guest.post_legacy(numbered(n))
            self.posted.add(n)
        self.look()
        guest.kick()

    @rule(count=st.integers(1, 40))
    def offer(self, count: int) -> None:
        for _ in range(count):
            n = next(self.numbers)
            self.rig.wire.queue.append(n)
            self.offered.add(n)
        self.rig.wire.offer()

    @precondition(lambda self: not self.rig.threaded)
    @rule()
    def burst_of_a_wire_that_does_not_hold(self) -> None:
        if self.rig.wire.queue:
            return  # it would overtake what waits there
        n, before = next(self.numbers), self.nic.stats.as_dict()["MPC"]
        assert self.nic.receive(FrameBatch([numbered(n)]), 0, False) == 1
        lost = self.nic.stats.as_dict()["MPC"] - before
        (self.missed if lost else self.offered).add(n)

    @rule()
    def receive(self) -> None:
        self.got += [number(one.data) for one in self.rig.guest.receive()]
        self.look()

    @rule()
    def wait(self) -> None:
        self.rig.pass_time()

    @rule(delay=st.sampled_from([0, 1, 500]))
    def delays(self, delay: int) -> None:
        self.rig.guest.write(Reg.RDTR, delay)
        self.rig.guest.write(Reg.TIDV, delay)

    @rule()
    def acknowledge(self) -> None:
        self.rig.guest.read(Reg.ICR)

    # --- life ------------------------------------------------------------------------------------

    @rule(call=st.sampled_from([Call.PAUSE, Call.RESUME, Call.RESUME]))
    def pause_or_resume(self, call: Call) -> None:
        allowed = self.state in TABLE[call]
        try:
            self.rig.do(lambda: CALLS[call](self.nic))
        except LifecycleError:
            assert not allowed
            return
        assert allowed
        if call is Call.PAUSE:
            self.rig.settle(lambda: self.nic.run_state is PAUSED)
            self.state = PAUSED
            if self.rig.threaded:
                self.rig.do(lambda: None)
                self.rig.link.settle()  # type: ignore[attr-defined]
            self.look()
        else:
            assert self.nic.run_state is RUNNING
            self.state, self.image = RUNNING, None

    @rule(bus=st.booleans())
    def reset(self, bus: bool) -> None:
        self.may_go |= self.posted | self.offered
        if bus:
            self.rig.do(self.nic.reset)
        assert self.nic.run_state is self.state
        self.image = None
        self.start()

    @precondition(lambda self: self.nic.run_state is PAUSED)
    @rule()
    def save_and_restore(self) -> None:
        state = self.rig.do(self.nic.state)
        self.rig.do(lambda: self.nic.load_state(state))
        assert timeless(self.rig.do(self.nic.state)) == timeless(state)

    @rule()
    def wrong_time(self) -> None:
        """The worker's calls are its own: a device cannot resume what does not stand still."""
        if self.rig.threaded:
            data = self.rig.data  # type: ignore[attr-defined]
            with pytest.raises(LifecycleError, match=r"DataPath\.resume"):
                self.rig.do(data.resume)

    @invariant()
    def nothing_runs_while_paused(self) -> None:
        if getattr(self, "image", None) is None:
            return
        assert self.nic.run_state is PAUSED
        assert self.seen() == self.image

    def teardown(self) -> None:
        if "rig" not in self.__dict__:
            return
        try:
            if self.state is PAUSED:
                self.rig.do(self.nic.resume)
            sent, guest = self.rig.wire.sent, self.rig.guest
            posted, offered = self.posted - self.may_go, self.offered - self.may_go
            self.rig.guest.write(Reg.RDTR, 0)

            def all_there() -> bool:
                self.got += [number(one.data) for one in guest.receive()]
                return posted <= set(sent) and offered <= set(self.got)

            self.rig.settle(all_there)
            self.rig.pass_time()
            all_there()
            irq = self.nic.interrupts
            self.rig.settle(lambda: self.rig.level == bool(irq.causes & irq.masks))
            assert sent == sorted(set(sent)), "doubled, or out of order"
            assert self.got == sorted(set(self.got)), "doubled, or out of order"
            assert set(sent) <= self.posted
            assert set(self.got) <= self.offered
            assert not set(self.got) & self.missed
        finally:
            self.rig.close()


class LivesOnClock(Lives):
    kind = OnClock


class LivesThreaded(Lives):
    kind = Threaded


SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestLivesOnClock = LivesOnClock.TestCase
TestLivesOnClock.settings = settings(max_examples=examples(60), stateful_step_count=40, **SETTINGS)
TestLivesThreaded = LivesThreaded.TestCase
TestLivesThreaded.settings = settings(max_examples=examples(50), stateful_step_count=40, **SETTINGS)
