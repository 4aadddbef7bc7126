"""A NIC with a worker thread is recorded too, and does the same again without the thread."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import e1000emu.embed.vfio_user.server as server_module
import e1000emu.links.tap as tap_module
from e1000emu.clock import RealClock
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.insight.faults import Faults
from e1000emu.links import Hub
from e1000emu.links.tap import Tap
from e1000emu.record.recorder import Edges, Recorder
from e1000emu.record.recording import Kind
from e1000emu.record.replay import Replay, replay
from e1000emu.testing.bench import BENCH_MAC
from e1000emu.testing.guest import Ctrl, GuestRings, Int, Rctl, Reg
from e1000emu.testing.recorders import RecordingController, RecordingLink
from fastpath.base.batch import FrameBatch
from fastpath.nic.irqblock import EventLine
from tests.e1000emu.common import frame
from tests.e1000emu.embed.fakeclient import TIMEOUT_NS, FakeClient
from tests.e1000emu.fuzzing.fuzzer import corpus
from tests.e1000emu.fuzzing.program import CLOCK
from tests.e1000emu.fuzzing.targets import OnThreads
from tests.e1000emu.record.test_record import (
    changed,
    events,
    first,
    flip,
    judge,
    judge_exchanged,
    scalars,
)
from tests.support import examples, run_to_end

RX_ON = Rctl.EN | Rctl.BAM | Rctl.SECRC
CAUSES = Int.RXT0 | Int.TXDW | Int.LSC
GPRC, GPTC = 0x4074, 0x4080
PAUSE = bytes.fromhex("0180c200000102000000000188080001ffff").ljust(60, b"\0")


class Rig:
    """A recorded server with threads, and a client whose driver is up."""

    def __init__(
        self,
        path: Path,
        link: Any,
        clock: RealClock,
        far: socket.socket | None,
        *,
        threads: bool = True,
        by_message: bool = False,
        faults: Faults | None = None,
        record: bool = True,
        management: RecordingController | None = None,
    ) -> None:
        self.clock, self.link, self.far = clock, link, far
        self._got = 0
        self.server = VfioUserServer(
            path.with_name("socket"), link=link, clock=clock, mac=BENCH_MAC, autoneg_ns=0,
            threads=threads, record=path if record else None, report=lambda _: None, faults=faults,
            management=management,
        )  # fmt: skip
        assert (self.server.data is not None) == threads
        self.client = FakeClient(self.server.path, clock)
        self.client.threaded = threads
        self.rings: GuestRings = self.client.start(by_message=by_message)
        self.rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
        self.until(self._link_up)

    def _link_up(self) -> bool:
        if not self.rings.read(Reg.CTRL) & 0x40:  # SLU: the device has reset itself meanwhile
            self.rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
        return bool(self.rings.read(Reg.STATUS) & 2)

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic_ns() + TIMEOUT_NS
        while not done():
            assert time.monotonic_ns() < end
            self.client.poll()
            self.wait(200_000)

    def wait(self, ns: int) -> None:
        with self.clock.lock:
            self.clock.run(timeout_ns=ns)

    def give(self, *frames: bytes) -> None:
        """Frames come over the wire."""
        if self.far is not None:
            for one in frames:
                self.far.send(one)
            return
        with self.clock.lock:
            self.link.inject(*frames)

    def sent(self) -> int:
        """How many frames the wire has had."""
        if self.far is None:
            return len(self.link.frames)
        with suppress(BlockingIOError):
            while self.far.recv(1 << 16):
                self._got += 1
        return self._got

    def close(self) -> None:
        self.client.close()
        with self.clock.lock:
            self.server.close()
        self.state = self.server.nic.regs.file.state(), self.server.nic.stats.state()


@contextmanager
def rig(
    path: Path,
    *,
    solo: bool = False,
    tap: bool = False,
    link: Callable[[RealClock], Any] | None = None,
    **options: Any,
) -> Iterator[Rig]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    near.setblocking(False)
    far.setblocking(False)
    clock = RealClock()
    opened = os.dup(near.fileno())
    with (
        near, far,
        mock.patch.object(server_module, "one_for_all", return_value=solo),
        mock.patch.object(tap_module, "_open", lambda name, offload: (opened, name, 0, ())),
    ):  # fmt: skip
        wire: Any = RecordingLink() if link is None else link(clock)
        if tap:
            wire = Tap("fake0", clock)
        made = Rig(path, wire, clock, far if tap else None, **options)
        try:
            yield made
        finally:
            made.close()
            with clock.lock:
                if tap:
                    wire.close()
                else:
                    os.close(opened)
            clock.close()


def same(path: Path, state: tuple[bytes, bytes] | None = None) -> Replay:
    threads = threading.active_count()
    done = replay(path)
    assert done.divergence is None, str(done.divergence)
    assert done.complete
    assert done.events == len(events(path)) - 1, "all but END"
    assert threading.active_count() == threads
    if state is not None:
        assert done.nic is not None
        assert (done.nic.regs.file.state(), done.nic.stats.state()) == state
    return done


def traffic(rig: Rig) -> None:
    """Frames both ways, delays that end, a handler for each interrupt."""
    rings = rig.rings
    for reg, value in ((Reg.RDTR, 100), (Reg.RADV, 300), (Reg.TIDV, 50), (Reg.ITR, 200)):
        rings.write(reg, value)
    for round_, size in enumerate((60, 300, 1514)):
        rings.post_legacy(frame(size), cmd=0x8B)  # IDE
        rings.post_legacy(frame(size))
        rings.kick()
        rig.give(frame(size), frame(size, b"\xff" * 6))
        rig.until(lambda want=2 * round_ + 2: rig.sent() >= want)  # type: ignore[misc]
        rig.until(lambda want=2 * round_ + 2: rings.read(Reg.RDH) >= want)  # type: ignore[misc]
        rig.until(lambda: rig.client.interrupts() > 0)
        assert rings.read(Reg.ICR)
        rig.client.unmask()
        rings.reap()
        assert [len(one.data) for one in rings.receive()] == [size, size]
    assert rings.read(GPTC) == 6
    assert rings.read(GPRC) == 6


KINDS = [(solo, tap) for solo in (False, True) for tap in (False, True)]


@pytest.mark.parametrize(("solo", "tap"), KINDS)
def test_a_worker_does_the_same_again(solo: bool, tap: bool, path: Path) -> None:
    with rig(path, solo=solo, tap=tap) as made:
        traffic(made)
        assert made.server.data is not None
        assert made.server.data.tx_batches
        assert made.server.data.rx_batches
    kinds = Counter(kind for _, _, kind, _ in events(path))
    for kind in (Kind.SEND, Kind.STORE, Kind.HOT_READ, Kind.HOT_WRITE, Kind.TICK, Kind.LEVEL):
        assert kinds[kind], kind
    assert not kinds[Kind.RECEIVE]
    same(path, made.state)


ARP = (b"\xff" * 6 + bytes.fromhex("020000000001080600010800060400010000")).ljust(60, b"\0")


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("by_message", [False, True])
@pytest.mark.parametrize(("solo", "tap"), KINDS)
def test_a_management_controller_beside_a_worker(
    tmp_path: Path, solo: bool, tap: bool, by_message: bool, record: bool
) -> None:
    """Its frames are told apart from the driver's, and it sends between the driver's."""
    path, controller = tmp_path / "x", RecordingController()
    options = {"by_message": by_message, "record": record, "management": controller}
    with rig(path, solo=solo, tap=tap, **options) as made:
        rings, server = made.rings, made.server
        with made.clock.lock, server.guard:
            controller.port.receive_enable(("ARP_EN",))
        for n in range(1, 4):
            made.give(ARP, frame(70), ARP)
            made.until(lambda want=2 * n: len(controller.frames) >= want)  # type: ignore[misc]
            made.until(lambda want=n: rings.read(Reg.RDH) >= want)  # type: ignore[misc]
            rings.post_legacy(frame(80))
            rings.kick()
            with made.clock.lock, server.guard:
                assert controller.port.send(frame(90))
            made.until(lambda want=2 * n: made.sent() >= want)  # type: ignore[misc]
        assert [one.data for one in rings.receive()] == [frame(70)] * 3
        assert controller.frames == [ARP] * 6
        assert [rings.read(at) for at in (0x40B4, 0x40B8, 0x40BC)] == [6, 0, 3]
        assert (rings.read(GPRC), rings.read(GPTC)) == (9, 6)
    if record:
        assert sum(kind is Kind.ALERT for _, _, kind, _ in events(path)) == 6
        same(path, made.state)


@pytest.mark.parametrize("solo", [False, True])
def test_symbol_errors_that_a_worker_meets_reach_the_phy(solo: bool, path: Path) -> None:
    with rig(path, solo=solo) as made:
        for _ in range(3):
            with made.clock.lock:
                made.link.inject(frame(60), frame(61), flags=[8, 0])

        def counted() -> bool:
            made.rings.write(Reg.MDIC, 2 << 26 | 1 << 21 | 21 << 16)
            seen.append(made.rings.read(Reg.MDIC) & 0xFFFF)
            return sum(seen) == 3

        seen: list[int] = []
        made.until(counted)
        made.until(lambda: made.rings.read(Reg.RDH) == 3)
    same(path, made.state)


# --- memory that is reached by messages ----------------------------------------------------------


@pytest.mark.parametrize(("threads", "tap"), [(False, False), (True, False), (True, True)])
def test_memory_that_is_not_shared(threads: bool, tap: bool, path: Path) -> None:
    with rig(path, tap=tap, threads=threads, by_message=True) as made:
        traffic(made)
        assert made.client.dma_reads
        assert made.client.dma_writes
    kinds = Counter(kind for _, _, kind, _ in events(path))
    assert kinds[Kind.STAGE]
    assert not kinds[Kind.STORE]
    called = {args[1] for _, _, kind, args in events(path) if kind is Kind.CALL}
    assert called >= {
        "tx.use_stage", "rx.use_stage", "tx.run_to", "tx.settle", "rx.settle", "rx.fetched",
    }  # fmt: skip
    same(path, made.state)


def test_a_delay_ends_before_a_frame_comes_or_after_it(tmp_path: Path) -> None:
    """The clock has the rings, the worker the interrupts: neither enters the other's event."""
    path, plain = tmp_path / "x", Recorder.enter

    def slowly(self: Recorder, fn: Callable[[], Any], kind: Kind, *args: Any) -> Any:
        def run() -> Any:
            if kind is Kind.RECEIVE:
                time.sleep(0.01)
            return fn()

        return plain(self, run, kind, *args)

    with rig(path, by_message=True) as made:
        made.rings.write(Reg.RDTR, 10_000)  # of 1.024 us
        made.rings.read(Reg.STATUS)
        made.give(frame(100))
        made.until(lambda: made.rings.read(Reg.RDH) == 1 and made.server.dma.idle)
        with made.server.guard:  # the worker waits for it when the delay ends
            time.sleep(0.02)
        with mock.patch.object(Recorder, "enter", slowly):
            made.give(frame(200))
            made.until(lambda: made.rings.read(Reg.RDH) == 2)
        made.until(lambda: made.client.interrupts() > 0)
    same(path, made.state)


def comes_up(made: Rig, *, by_message: bool) -> None:
    """The client maps its memory anew, and a driver sends and receives a frame."""
    client = made.client
    assert client.memory is not None
    client.dma_unmap(client.memory.base, len(client.memory.buffer))
    client.map_ram(by_message=by_message)
    assert client.memory is not None
    rings = made.rings = GuestRings(client, client.memory, tx_count=16, rx_count=16)

    def up() -> None:
        rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
        made.until(lambda: bool(rings.read(Reg.STATUS) & 2))

    up()
    client.answers_dma = False
    rings.post_legacy(frame(100))
    rings.kick()
    made.wait(1_000_000)
    client.answers_dma = True
    rings.write(Reg.CTRL, rings.read(Reg.CTRL) | Ctrl.RST)
    up()
    before = made.sent()
    rings.post_legacy(frame(200))
    rings.kick()
    made.give(frame(300))
    made.until(lambda: made.sent() > before)
    made.until(lambda: rings.read(Reg.RDH) == 1)


def test_memory_that_comes_and_goes(path: Path) -> None:
    """Rings in shared memory, then not, then again; a reset while answers are awaited."""
    with rig(path) as made:
        comes_up(made, by_message=True)
        comes_up(made, by_message=False)
    kinds = Counter(kind for _, _, kind, _ in events(path))
    assert kinds[Kind.STAGE]
    assert kinds[Kind.SEND]
    assert kinds[Kind.STORE]
    same(path, made.state)


@pytest.mark.parametrize("busy", [False, True])
def test_a_stage_s_answer_is_compared(tmp_path: Path, busy: bool, path: Path) -> None:
    with rig(path, threads=False, by_message=True) as made:
        traffic(made)
        with made.clock.lock:
            made.server.nic.pause("to look")
    kind = Kind.STAGE_BUSY if busy else Kind.STAGE
    number = first(path, kind)
    found = replay(changed(path, tmp_path / "y", number, lambda body: body.__setitem__(1, "no")))
    assert found.divergence is not None
    assert found.divergence.number == number


# --- hardware that fails -------------------------------------------------------------------------


def test_a_worker_whose_hardware_fails(path: Path) -> None:
    """A link that flaps, a PHY that is late, resets of the MAC's own, while rings are worked."""
    faults = Faults(seed=3, flap_ns=9_000_000, down_ns=2_000_000, phy_busy=0.5, reset_ns=40_000_000)
    with rig(path, faults=faults) as made:
        rings, nic = made.rings, made.server.nic
        assert nic.faults is not None
        resets, stored = 0, False
        # On a busy machine the link may be down, or the NIC reset, whenever we have our turn.
        while (
            min(nic.faults.counts[kind] for kind in ("flap", "phy_busy", "reset")) < 3
            or not made.sent()
            or not stored
        ):
            rings.write(0x20, 1 << 27 | 1 << 21 | 1 << 16)  # MDIC: read PHY register 1
            rings.post_legacy(frame(100))
            rings.kick()
            made.give(frame(200))
            made.wait(500_000)
            stored = stored or rings.read(Reg.RDH) > 0
            if nic.resets > resets:
                rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
                resets = nic.resets
        with made.clock.lock, made.server.guard:
            log = list(nic.faults.log)
    kinds = Counter(kind for _, _, kind, _ in events(path))
    assert kinds[Kind.SEND]
    assert kinds[Kind.STORE]
    done = same(path, made.state)
    assert done.nic is not None
    assert done.nic.faults is not None
    assert list(done.nic.faults.log)[: len(log)] == log


# --- a shared wire -------------------------------------------------------------------------------


class Neighbour:
    """Another station, which says something whenever it may."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        self.got.extend(batch[i] for i in range(start, len(batch)))
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        pass

    def tx_ready(self) -> None:
        pass


def test_a_worker_at_a_shared_wire(path: Path) -> None:
    """A carrier that takes 0.2 ms to the other end: both send before they hear each other."""
    neighbour = Neighbour()
    hubs: list[Hub] = []

    def link(clock: RealClock) -> Any:
        hubs.append(Hub(clock, speed_mbps=10, delay_ns=200_000, seed=5))
        hubs[0].ports[1].attach(neighbour)
        return hubs[0].ports[0]

    with rig(path, link=link) as made:
        rings, stats, posted = made.rings, made.server.nic.stats, 0
        rings.write(Reg.TCTL, 0xFA)  # CT=15, PSP, EN
        end = time.monotonic_ns() + TIMEOUT_NS
        # Who begins when is a matter of the machine's load: until both has happened.
        while posted < 10 or not (stats["GPTC"] and stats["COLC"] + stats["LATECOL"]):
            assert time.monotonic_ns() < end
            with made.clock.lock:
                hubs[0].ports[1].transmit(FrameBatch([frame(1000)] * 2))
            rings.post_legacy(frame(1000))
            rings.kick()
            posted += 1
            made.until(lambda: rings.read(Reg.TDH) == rings.read(Reg.TDT))
        made.until(lambda: stats["GPTC"] + stats["LATECOL"] + stats["ECOL"] == posted)
        told = stats["COLC"] + stats["LATECOL"]
        sent = stats["GPTC"]
    assert told
    assert sent
    called = Counter(args[1] for _, _, kind, args in events(path) if kind is Kind.CALL)
    assert called["station.collided"] + called["station.collided_late"] == told
    assert called["station.sent"] == sent
    kinds = Counter(kind for _, _, kind, _ in events(path))
    assert kinds[Kind.SEND]
    same(path, made.state)


def test_what_a_worker_leaves_for_python(path: Path) -> None:
    """A PAUSE frame, a ring where no memory is, a FIFO that crosses its threshold."""
    with rig(path) as made:
        rings = made.rings
        for reg, value in ((0x28, 0x00C28001), (0x2C, 0x100), (0x30, 0x8808), (0x2168, 0x100)):
            rings.write(reg, value)  # FCAL, FCAH, FCT, FCRTH
        rings.write(Reg.CTRL, rings.read(Reg.CTRL) | Ctrl.RFCE | Ctrl.TFCE)
        rings.read(Reg.STATUS)
        made.give(PAUSE)
        made.until(lambda: made.server.nic.stats["XOFFRXC"] > 0)  # its pause may be over by now
        made.until(lambda: not rings.read(Reg.STATUS) & 0x10)
        rings.write(Reg.RDBAH, 5)
        rings.read(Reg.STATUS)
        told: list[int] = []
        noticed = made.server.nic.noticed

        def note(tx_flags: int, causes: int, fifo: bool) -> None:
            told.append(causes)
            noticed(tx_flags, causes, fifo)

        def worker_aborts() -> bool:
            made.give(frame(60))
            return any(told)

        # Python's own turn may be the first to want descriptors; the next frame is the worker's.
        with mock.patch.object(made.server.nic, "noticed", note):
            made.until(worker_aborts)
        rings.write(Reg.RDBAH, 0)
        rings.read(Reg.STATUS)
        made.give(*[frame(1514)] * 300)
        made.until(lambda: made.sent() > 0)  # XOFF
    calls = [args[1:] for _, _, kind, args in events(path) if kind is Kind.CALL]
    kinds = Counter(kind for _, _, kind, _ in events(path))
    notices = [args for name, args in calls if name == "noticed"]
    assert any(causes for _, causes, _ in notices), f"{calls}, {kinds}"
    assert any(fifo for _, _, fifo in notices), f"{calls}, {kinds}"
    assert kinds[Kind.RECEIVE] == 1, "Python had the PAUSE frame first"
    same(path, made.state)


HOSTILE = {
    f"{program.kind} {program.name()}": program for program in corpus() if program.kind != CLOCK
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_fuzzer_has_found_is_done_again(tmp_path: Path, name: str) -> None:
    """Programs of the corpus that drive a server with threads, unshared memory among them."""
    program = HOSTILE[name]
    target = OnThreads(program.model, program.kind, tmp_path / "x")
    try:
        for step in program.steps:
            target.do(step)
        target.works()
    finally:
        target.close()
    same(tmp_path / "x", (target.nic.regs.file.state(), target.nic.stats.state()))


@pytest.mark.parametrize("faults", [None, "abort=tx-data:1,irq_late=50%,writeback=1ms"])
def test_the_command_records_its_threads(tmp_path: Path, faults: str | None) -> None:
    path, where = tmp_path / "x", tmp_path / "socket"
    command = [sys.executable, "-m", "e1000emu", "vfio-user", "--link", "null", "--autoneg", "0"]
    command += ["--mac", BENCH_MAC.hex(":"), "--socket", str(where), "--record", str(path)]
    command += [] if faults is None else ["--faults", faults]
    server = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["event"] == "ready"
        clock = RealClock()
        client = FakeClient(where, clock)
        client.threaded = True
        rings = client.start()
        rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
        rings.post_legacy(frame(100))
        rings.kick()
        while rings.read(Reg.TDH) != rings.read(Reg.TDT):
            pass
        client.close()
        clock.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0
    kinds = Counter(kind for _, _, kind, _ in events(path))
    assert kinds[Kind.SEND]
    assert kinds[Kind.HOT_READ]
    again = run_to_end([sys.executable, "-m", "e1000emu", "replay", path])
    assert (again.returncode, "all the same" in again.stdout) == (0, True), again.stdout


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 0x5900), st.integers(0, 0xFFFFFFFF)),
        st.tuples(
            st.just("write"),
            st.sampled_from([Reg.RDTR, Reg.TIDV, Reg.ITR, Reg.IMC, Reg.IMS, Reg.ICS, Reg.RDT]),
            st.integers(0, 0x1FF),
        ),
        st.tuples(st.just("read"), st.integers(0, 0x5900), st.just(0)),
        st.tuples(st.just("read"), st.just(int(Reg.ICR)), st.just(0)),
        st.tuples(st.just("frames"), st.integers(1, 1600), st.integers(1, 40)),
        st.tuples(st.just("send"), st.integers(1, 1600), st.integers(1, 20)),
        st.tuples(st.just("pause"), st.just(0), st.just(0)),
        st.tuples(st.just("wait"), st.integers(1, 2_000_000), st.just(0)),
    ),
    max_size=25,
)


def act(made: Rig, steps: list[tuple[str, int, int]]) -> None:
    for what, a, b in steps:
        match what:
            case "write":
                made.client.bar_write(0, a & ~3, b, 4)
            case "read":
                made.client.bar_read(0, a & ~3, 4)
            case "frames":
                made.give(*[frame(a)] * b)
            case "send":
                made.rings.reap()
                for _ in range(min(b, made.rings.tx_unused())):
                    made.rings.post_legacy(frame(a))
                made.client.bar_write(0, Reg.TDT, made.rings.tx.next_to_use, 4)
            case "pause":
                with made.clock.lock, made.server.guard:
                    made.server.nic.pause()
                    made.server.nic.resume()
            case _:
                made.wait(a)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, solo=st.booleans())
def test_any_run_of_a_worker_is_the_same_again(
    steps: list[tuple[str, int, int]], solo: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x"
        with rig(path, solo=solo) as made:
            act(made, steps)
        same(path, made.state)


# --- different -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("threads") / "x"
    with rig(path) as made:
        traffic(made)
    same(path, made.state)
    return path


def nth(kind: Kind) -> Callable[[tuple[Any, ...]], bool]:
    return lambda args: kind is not Kind.DMA_WRITE or len(args[1]) > 100


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.TRANSMIT, lambda body: body[1].__setitem__(0, flip(body[1][0], 30))),
        (Kind.DMA_WRITE, lambda body: body.__setitem__(2, flip(body[2], 50))),
        (Kind.LEVEL, lambda body: body.__setitem__(1, not body[1])),
    ],
)
def test_a_byte_that_differs_is_named(
    busy: Path, tmp_path: Path, kind: Kind, change: Callable[[list[Any]], None]
) -> None:
    number = first(busy, kind, nth(kind))
    found = replay(changed(busy, tmp_path / "x", number, change)).divergence
    assert found is not None
    assert found.number == number
    assert found.expected != found.came


@pytest.mark.parametrize("kind", [Kind.HOT_READ, Kind.SEND, Kind.STORE])
def test_what_a_step_gives_back_is_compared(busy: Path, tmp_path: Path, kind: Kind) -> None:
    depth, at = 0, first(busy, kind) - 1
    for _, _, what, _ in events(busy)[at:]:
        depth += what.opens - what.closes
        at += 1
        if not depth:
            break
    assert what is Kind.RETURN

    def change(body: list[Any]) -> None:
        body[1] ^= 1

    found = replay(changed(busy, tmp_path / "x", at, change)).divergence
    assert found is not None
    assert found.number == at
    assert "returns" in found.came


def test_a_byte_of_a_stored_frame_shows_in_memory(busy: Path, tmp_path: Path) -> None:
    number = first(busy, Kind.STORE, lambda args: len(args[1][0]) > 100)

    def change(body: list[Any]) -> None:
        body[2][0] = flip(body[2][0], 90)

    found = replay(changed(busy, tmp_path / "x", number, change)).divergence
    assert found is not None
    assert number < found.number < number + 20
    assert "DMA write" in found.came


def test_a_register_that_needs_python_is_not_hot(busy: Path, tmp_path: Path) -> None:
    number = first(busy, Kind.HOT_READ)
    bad = changed(busy, tmp_path / "x", number, lambda body: body.__setitem__(2, 0x10))  # EECD
    found = replay(bad).divergence
    assert found is not None
    assert (found.number, found.came) == (number, "an access that takes Python")


@pytest.fixture(scope="module")
def unshared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("messages") / "x"
    with rig(path, by_message=True) as made:
        traffic(made)
    return path


@settings(max_examples=examples(100), deadline=None)
@given(
    number=st.integers(0, 1 << 16), at=st.integers(0, 5), value=scalars(), messages=st.booleans()
)
def test_no_value_harms(
    tmp_path_factory: pytest.TempPathFactory,
    busy: Path,
    unshared: Path,
    number: int,
    at: int,
    value: Any,
    messages: bool,
) -> None:
    """Any argument of any event exchanged."""
    path = unshared if messages else busy
    judge_exchanged(path, tmp_path_factory.mktemp("bad") / "x", number, at, value)


@settings(max_examples=examples(60), deadline=None)
@given(data=st.data(), value=st.integers(0, 1 << 33))
def test_no_value_of_a_stage_harms(
    tmp_path_factory: pytest.TempPathFactory, unshared: Path, data: st.DataObject, value: int
) -> None:
    """The engines are told of descriptors that the ring has not, of frames that nobody sent."""
    calls = [
        number
        for number, (_, _, kind, args) in enumerate(events(unshared), start=1)
        if kind is Kind.CALL and args[2] and str(args[1]).startswith(("tx.", "rx."))
    ]
    path = tmp_path_factory.mktemp("bad") / "x"
    number = data.draw(st.sampled_from(calls))
    judge(changed(unshared, path, number, lambda body: body[3].__setitem__(0, value)))


def test_edges_are_counted() -> None:
    line = EventLine()
    edges = Edges(line)
    for level in (True, True, False, True, False, False, True):
        line.set_level(level)
    assert edges.take() == [True, False, True, False, True]
    assert edges.take() == []
    line.set_level(False)
    assert edges.take() == [False]
