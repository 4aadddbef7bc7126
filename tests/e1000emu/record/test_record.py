"""Record and replay: what the device did it does again, to the byte; damage is named."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.cli.record import live
from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.embed.vfio_user.server import VfioUserServer
from e1000emu.errors import E1000Error
from e1000emu.insight.faults import Faults
from e1000emu.insight.misuse import MisuseError
from e1000emu.links import FarEnd, Hub
from e1000emu.record.recorder import Recorder
from e1000emu.record.recording import Kind, Reader, RecordingError, describe
from e1000emu.record.replay import Replay, replay
from e1000emu.testing.bench import BENCH_MAC, POISON, Bench, enable_bus_master
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from tests.e1000emu.common import RX_ON, frame, rd, wr
from tests.e1000emu.embed.fakeclient import FakeClient
from tests.support import examples, run_to_end


def recorded(path: Path, **options: Any) -> tuple[Bench, Recorder]:
    """Return a bench whose NIC is recorded, and the recorder."""
    clock = VirtualClock()
    memory = HostMemory(16 << 20, base=0x10_0000, poison=POISON)
    dma = DmaTable()
    dma.add(memory.base, memory.buffer)
    line, link = RecordingLine(clock), RecordingLink()
    link.far_end = options.pop("far_end", None)
    recorder = Recorder(path, flush=options.pop("flush", False))
    nic = Nic(
        memory=dma, irq=line, link=link, clock=clock, mac=BENCH_MAC, record=recorder, **options
    )
    enable_bus_master(nic)
    return Bench.of(nic, memory, dma, line, link, clock, GuestRings(nic.slot, memory)), recorder


def up(bench: Bench) -> None:
    bench.guest.up(mac=BENCH_MAC, ims=0xFFFF)
    bench.clock.run_for(5_000_000_000)


def traffic(bench: Bench) -> None:
    """Frames both ways, delays, PAUSE, a link that goes, a register of each kind."""
    up(bench)
    wr(bench.nic, "RDTR", 100)
    wr(bench.nic, "ITR", 300)
    for size in (60, 300, 1514):
        bench.guest.post_legacy(frame(size))
        wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
        bench.link.inject(frame(size), frame(size, b"\xff" * 6))
        bench.clock.run_for(50_000)
        rd(bench.nic, "ICR")
    bench.nic.mmio_read(0x5818, 2)
    bench.nic.io_write(0, 0x38)
    bench.nic.io_read(4)
    bench.link.set_carrier(False)
    bench.clock.run_for(1_000_000)
    bench.link.set_carrier(True)
    bench.clock.run_for(2_000_000_000)


def recording(path: Path, act: Callable[[Bench], object], **options: Any) -> Path:
    bench, recorder = recorded(path, **options)
    act(bench)
    recorder.close()
    return path


def same(path: Path) -> Replay:
    done = replay(path)
    assert done.divergence is None, str(done.divergence)
    assert done.complete
    return done


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recording(tmp_path_factory.mktemp("rec") / "busy", traffic)


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rec") / "life"
    found = live(path, total_bytes=100_000)
    assert found["self_test"]
    assert found["tcp_bytes"] == 200_000
    return path


def events(path: Path) -> list[tuple[int, int, Kind, tuple[Any, ...]]]:
    with Reader(path) as reader:
        return [tuple(event) for event in reader]  # type: ignore[misc]


# --- equal ---------------------------------------------------------------------------------------


def test_what_a_bench_did_is_done_again(busy: Path) -> None:
    done = same(busy)
    assert done.events == len(events(busy)) - 1
    kinds = {kind for _, _, kind, _ in events(busy)}
    assert kinds >= {
        Kind.READ, Kind.WRITE, Kind.CONFIG_WRITE, Kind.RECEIVE, Kind.LINK, Kind.TIMER, Kind.CALL,
        Kind.DMA_READ, Kind.DMA_WRITE, Kind.TRANSMIT, Kind.LEVEL, Kind.AT, Kind.TX_ROOM, Kind.END,
    }  # fmt: skip


@pytest.mark.parametrize("model", ["82540EM", "82545EM", "82544GC"])
def test_a_driver_s_whole_life(model: str, tmp_path: Path) -> None:
    """Probe, link, ping's kin, TCP both ways, ethtool -t, down, unplugged."""
    path = tmp_path / "life"
    assert live(path, model=model, total_bytes=50_000)["self_test"]
    done = same(path)
    assert done.header.model == model
    assert done.nic is not None


def test_faults_go_wrong_again(tmp_path: Path) -> None:
    faults = Faults(
        seed=3, flap_ns=400_000_000, down_ns=50_000_000, phy_busy=0.2, irq_late=0.3,
        overrun=0.1, writeback_ns=100_000, abort=(("tx-data", 2), ("rx-descriptor", 2)),
    )  # fmt: skip
    same(recording(tmp_path / "x", traffic, faults=faults))


def test_recording_changes_nothing_of_a_run(tmp_path: Path) -> None:
    """Registers, counters, memory, interrupt edges: as without a recorder, at the same times."""
    from e1000emu.testing.bench import make_bench

    plain = make_bench()
    bench, recorder = recorded(tmp_path / "x")
    for one in (plain, bench):
        traffic(one)
    recorder.close()
    assert bench.line.edges == plain.line.edges
    assert bench.link.frames == plain.link.frames
    assert bench.nic.counters() == plain.nic.counters()
    assert bytes(bench.memory.buffer) == bytes(plain.memory.buffer)
    assert bench.nic.state() == plain.nic.state()
    replayed = same(tmp_path / "x").nic
    assert replayed is not None
    assert replayed.regs.file.state() == plain.nic.regs.file.state()
    assert replayed.stats.state() == plain.nic.stats.state()


def test_a_handler_that_comes_back_while_the_line_rises(tmp_path: Path) -> None:
    bench, recorder = recorded(tmp_path / "x")
    bench.line.on_rise = lambda: rd(bench.nic, "ICR")
    traffic(bench)
    recorder.close()
    order = [kind for _, _, kind, _ in events(tmp_path / "x")]
    assert (Kind.LEVEL, Kind.READ) in set(itertools.pairwise(order))
    same(tmp_path / "x")


def test_the_gap_between_frames_reaches_the_link(tmp_path: Path) -> None:
    bench, recorder = recorded(tmp_path / "x")
    wr(bench.nic, "TIPG", 100)
    assert bench.link.gap_bytes == 104
    recorder.close()
    same(tmp_path / "x")
    assert (Kind.GAP, (104,)) in [event[2:] for event in events(tmp_path / "x")]


def test_a_snapshot_is_an_event(tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        up(bench)
        state = bench.nic.state()
        bench.nic.reset()
        bench.nic.load_state(state)
        bench.link.inject(frame())
        rd(bench.nic, "ICR")

    same(recording(tmp_path / "x", act))


def test_a_nic_at_a_shared_wire(tmp_path: Path) -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    memory = HostMemory(1 << 20, base=0x10_0000)
    dma = DmaTable()
    dma.add(memory.base, memory.buffer)
    got: list[bytes] = []

    class Far:
        def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
            got.extend(batch[i] for i in range(start, len(batch)))
            return len(batch)

        def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
            pass

        def tx_ready(self) -> None:
            pass

    hub.ports[1].attach(Far())
    with Recorder(tmp_path / "x") as recorder:
        nic = Nic(
            memory=dma, irq=RecordingLine(clock), link=hub.ports[0], clock=clock, record=recorder
        )
        enable_bus_master(nic)
        guest = GuestRings(nic.slot, memory)
        guest.up(mac=BENCH_MAC)
        clock.run_for(5_000_000_000)
        guest.post_legacy(frame(100))
        wr(nic, "TDT", guest.tx.next_to_use)
        clock.run_for(1_000_000)
        assert rd(nic, "STATUS") & 1 == 0, "half duplex"
        assert rd(nic, "GPTC") == 1
    assert [len(one) for one in got] == [100]
    same(tmp_path / "x")


def at_one_wire(path: Path | None, seed: int, delay_bytes: int) -> tuple[Nic, Nic, dict[str, int]]:
    """Two NICs at a Hub with frames at the same time; the first is recorded into `path`."""
    clock = VirtualClock()
    hub = Hub(clock, delay_ns=delay_bytes * 800, seed=seed)
    recorder = None if path is None else Recorder(path)
    nics = []
    for n, port in enumerate(hub.ports):
        memory = HostMemory(1 << 20, base=0x10_0000)
        dma = DmaTable()
        dma.add(memory.base, memory.buffer)
        mac = bytes([2, 0, 0, 0, 0, n])
        nic = Nic(
            memory=dma, irq=RecordingLine(clock), link=port, clock=clock, mac=mac,
            record=None if n else recorder,
        )  # fmt: skip
        enable_bus_master(nic)
        guest = GuestRings(nic.slot, memory)
        guest.up(mac=mac, rctl=0x0400800A)  # EN, UPE, BAM, SECRC
        nics.append((nic, guest))
    clock.run_for(5_000_000_000)
    for nic, guest in nics:
        wr(nic, "TCTL", 0x010000FA)  # RTLC, CT=15, PSP, EN
        for _ in range(20):
            guest.post_legacy(frame(600))
        wr(nic, "TDT", guest.tx.next_to_use)
    clock.run_for(1_000_000_000)
    names = ("GPTC", "GPRC", "SCC", "MCC", "ECOL", "COLC", "LATECOL", "DC")
    seen = {name: rd(nics[0][0], name) for name in names}
    if recorder is not None:
        recorder.close()
    return nics[0][0], nics[1][0], seen


@pytest.mark.parametrize("delay_bytes", [0, 70])
def test_collisions_come_again(tmp_path: Path, delay_bytes: int) -> None:
    """What the wire does to frames is counted as without a recorder, and in a replay."""
    nic, _, seen = at_one_wire(tmp_path / "x", 1, delay_bytes)
    plain, _, expected = at_one_wire(None, 1, delay_bytes)
    assert seen == expected
    assert seen["COLC"]
    assert seen["DC"]
    assert bool(seen["LATECOL"]) == bool(delay_bytes)
    assert nic.state() == plain.state()
    done = same(tmp_path / "x")
    assert done.nic is not None
    assert done.nic.regs.file.state() == plain.regs.file.state()
    assert done.nic.stats.state() == plain.stats.state()
    told = {args[1] for _, _, kind, args in events(tmp_path / "x") if kind is Kind.CALL}
    assert told >= {"station.deferred", "station.collided", "station.sent"}


def test_a_far_end_that_says_something(tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        bench.nic.mmio_write(0x20, 0x0424_8DE1)  # ANAR.NP
        bench.clock.run_for(2_000_000_000)
        bench.nic.mmio_write(0x20, 0x0427_2001)
        bench.clock.run_for(2_000_000_000)
        bench.nic.mmio_write(0x20, 0x0828_0000)
        assert bench.nic.mmio_read(0x20) & 0x7FF == 0x345

    path = recording(tmp_path / "x", act, far_end=FarEnd(next_pages=(0x2345,), on_page=print))
    same(path)


def test_a_strict_device_s_refusal_is_an_event(tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        with pytest.raises(MisuseError):
            rd(bench.nic, "TDT") or bench.nic.mmio_read(0x5818)

    path = recording(tmp_path / "x", act, strict=True)
    same(path)
    assert any(kind is Kind.RETURN and args[1] for _, _, kind, args in events(path))


def test_memory_that_is_not_there(tmp_path: Path) -> None:
    def act(bench: Bench) -> None:
        up(bench)
        wr(bench.nic, "TDBAH", 5)
        bench.guest.post_legacy(frame())
        wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
        wr(bench.nic, "RDBAH", 5)
        bench.link.inject(frame())
        assert bench.nic.memory.aborts

    same(recording(tmp_path / "x", act))


@settings(max_examples=examples(40))
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("write"), st.integers(0, 0x5900), st.integers(0, 0xFFFFFFFF)),
            st.tuples(st.just("read"), st.integers(0, 0x5900), st.just(0)),
            st.tuples(st.just("frame"), st.integers(1, 3000), st.just(0)),
            st.tuples(st.just("send"), st.integers(1, 3000), st.just(0)),
            st.tuples(st.just("run"), st.integers(1, 3_000_000), st.just(0)),
        ),
        max_size=30,
    )
)
def test_any_run_is_the_same_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    bench, recorder = recorded(tmp_path_factory.mktemp("any") / "x")
    up(bench)
    for what, a, b in steps:
        match what:
            case "write":
                bench.nic.slot.bar_write(0, a & ~3, b, 4)
            case "read":
                bench.nic.slot.bar_read(0, a, 4)
            case "frame":
                bench.link.inject(frame(a))
            case "send":
                bench.guest.post_legacy(frame(a))
                wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
            case _:
                bench.clock.run_for(a)
    recorder.close()
    same(recorder._writer.path)


# --- different -----------------------------------------------------------------------------------


def changed(path: Path, to: Path, number: int, change: Callable[[list[Any]], None]) -> Path:
    """Copy a recording with one event changed."""
    data = path.read_bytes()
    (offset,) = [at for n, at, _, _ in events(path) if n == number]
    size = int.from_bytes(data[offset : offset + 4], "little")
    body = msgspec.msgpack.decode(data[offset + 4 : offset + 4 + size])
    change(body)
    new = msgspec.msgpack.encode(body)
    to.write_bytes(data[:offset] + len(new).to_bytes(4, "little") + new + data[offset + 4 + size :])
    return to


def first(path: Path, kind: Kind, fits: Callable[[tuple[Any, ...]], bool] = bool) -> int:
    return next(n for n, _, k, args in events(path) if k is kind and fits(args))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_one_byte_of_what_was_written_to_memory(life: Path, tmp_path: Path) -> None:
    number = first(life, Kind.DMA_WRITE, lambda args: len(args[1]) > 60)

    def change(body: list[Any]) -> None:
        body[2] = flip(body[2], 20)

    found = replay(changed(life, tmp_path / "x", number, change)).divergence
    assert found is not None
    assert found.number == number
    assert "byte 20" in found.came
    assert found.time_ns > 0


def test_one_byte_of_a_frame_that_came_shows_where_it_was_stored(
    life: Path, tmp_path: Path
) -> None:
    """The change is of what came in; the divergence is the first thing that it changes."""
    number = first(life, Kind.RECEIVE, lambda args: len(args[2][0]) > 100)

    def change(body: list[Any]) -> None:
        body[3][0] = flip(body[3][0], 90)

    found = replay(changed(life, tmp_path / "x", number, change)).divergence
    assert found is not None
    assert number < found.number < number + 20
    assert "DMA write" in found.expected
    assert "DMA write" in found.came


def _later(body: list[Any]) -> None:
    body[2] += 1


@pytest.mark.parametrize(
    ("kind", "words", "change"),
    [
        (Kind.RETURN, "returns", lambda body: body.__setitem__(1, 0x1234)),
        (Kind.TRANSMIT, "number 0 (byte 3", lambda b: b[1].__setitem__(0, flip(b[1][0], 3))),
        (Kind.LEVEL, "INTA#", lambda body: body.__setitem__(1, not body[1])),
        (Kind.AT, "timer", _later),
        (Kind.DMA_WRITE, "DMA write", _later),
        (Kind.DMA_READ, "DMA read", lambda body: body.__setitem__(1, body[1] + 16)),
    ],
)
def test_a_difference_of_any_kind_is_found_where_it_is(
    busy: Path, tmp_path: Path, kind: Kind, words: str, change: Callable[[list[Any]], None]
) -> None:
    number = first(busy, kind, lambda args: args[0] is not None)
    if kind is Kind.DMA_WRITE:

        def change(body: list[Any]) -> None:
            body[2] = flip(body[2], 0)

    found = replay(changed(busy, tmp_path / "x", number, change)).divergence
    assert found is not None
    assert found.number == number
    assert words in f"{found.expected} {found.came}"
    assert found.expected != found.came


def test_another_device_is_found(busy: Path, tmp_path: Path) -> None:
    """The header says an 82545EM with the same EEPROM: its ids are others."""
    data = busy.read_bytes().replace(b'"autoneg_ns":1000000000', b'"autoneg_ns":1000000001', 1)
    (tmp_path / "x").write_bytes(data)
    found = replay(tmp_path / "x").divergence
    assert found is not None
    assert "timer" in found.expected


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "offset 0: this is no recording"),
        (b"e1000emu-recording x\n", "offset 0: this is no recording"),
        (b"e1000emu-recording 2\n{}\n", "offset 0: version 2"),
        (b"e1000emu-recording 0\n{}\n", "offset 0: version 0"),
        (b"e1000emu-recording 1\n{}\n", "offset 21: the header is damaged"),
        (b"e1000emu-recording 1\n{}", "offset 21: the header has no end"),
    ],
)
def test_what_is_no_recording_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(RecordingError, match=words):
        replay(tmp_path / "x")
    with pytest.raises(RecordingError, match="cannot be read"):
        replay(tmp_path / "none")


def test_a_file_that_was_cut_off_is_replayed_as_far_as_it_goes(busy: Path, tmp_path: Path) -> None:
    data = busy.read_bytes()
    some = events(busy)
    where = some[len(some) // 2]
    cut = tmp_path / "cut"
    for size in (where[1], where[1] + 2, where[1] + 6):
        cut.write_bytes(data[:size])
        with pytest.raises(RecordingError, match=f"offset {where[1]}: cut off after"):
            replay(cut)
        done = replay(cut, partial=True)
        assert (done.events, done.complete, done.divergence) == (where[0] - 1, False, None)


@pytest.mark.parametrize("flush", [False, True])
def test_with_flush_a_file_that_was_never_closed_has_every_event(
    tmp_path: Path, flush: bool
) -> None:
    bench, recorder = recorded(tmp_path / "r", flush=flush)
    bench.nic.slot.bar_read(0, 8, 4)
    there = len(list(Reader(tmp_path / "r", partial=True))) if flush else 0
    written = recorder.events
    assert written > 5
    assert there == (written if flush else 0)
    if flush:
        assert replay(tmp_path / "r", partial=True).divergence is None
    recorder.close()


def judge(path: Path, *, partial: bool = False) -> None:
    """Replay what may be damaged: equal, different at an event, or refused with the reason."""
    said = ""
    try:
        done = replay(path, partial=partial)
    except RecordingError as error:
        said = str(error)
    else:
        assert done.divergence is None or done.divergence.number == done.events + 1
    assert not said or f"{path}: at offset" in said or "the header asks for" in said


def judge_exchanged(path: Path, to: Path, number: int, at: int, value: Any) -> None:
    """`judge` a recording in which argument `at` (the last, beyond) of an event is `value`."""

    def change(body: list[Any]) -> None:
        body[min(at, len(body) - 1)] = value

    judge(changed(path, to, 1 + number % len(events(path)), change))


@settings(max_examples=examples(300))
@given(st.data())
def test_no_file_harms(
    tmp_path_factory: pytest.TempPathFactory, busy: Path, data: st.DataObject
) -> None:
    """A piece of a recording exchanged, cut out or put in: equal, different, or refused by name."""
    path = tmp_path_factory.mktemp("bad") / "x"
    good = busy.read_bytes()
    at = data.draw(st.integers(0, len(good)))
    out = data.draw(st.integers(0, 8))
    new = data.draw(st.binary(max_size=8))
    bad = good[:at] + new + good[at + out :]
    path.write_bytes(bad)
    judge(path, partial=data.draw(st.booleans()))


def scalars() -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.text(max_size=8),
        st.binary(max_size=40), st.lists(st.binary(max_size=70), max_size=3),
        st.sampled_from(["create", "restore", "close", "hold", "halt", "pause", "resume"]),
        st.sampled_from(["reset", "_mac_reset", "noticed", "attach_worker", "pause_worker"]),
    )  # fmt: skip


@settings(max_examples=examples(300))
@given(number=st.integers(0, 1 << 16), at=st.integers(0, 5), value=scalars())
def test_no_value_harms(
    tmp_path_factory: pytest.TempPathFactory, busy: Path, number: int, at: int, value: Any
) -> None:
    """Any argument of any event exchanged."""
    judge_exchanged(busy, tmp_path_factory.mktemp("bad") / "x", number, at, value)


@settings(max_examples=examples(100))
@given(st.text(alphabet="e1000mu-rcdig {}:\n", max_size=60), st.binary(max_size=200))
def test_noise_is_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("noise") / "x"
    path.write_bytes(b"e1000emu-recording 1\n" + text.encode() + noise)
    with pytest.raises(RecordingError, match="offset"):
        replay(path)


def test_a_full_disk_ends_the_recording_not_the_device(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    bench, recorder = recorded(Path("/dev/full"))
    traffic(bench)
    assert bench.link.frames
    with pytest.raises(RecordingError, match="No space"):
        recorder.close()
    recorder.close()
    with pytest.raises(RecordingError, match="cannot be written"):
        Recorder(tmp_path / "no" / "x")


def test_a_recorder_is_one_nic_s(tmp_path: Path) -> None:
    bench, recorder = recorded(tmp_path / "x")
    with pytest.raises(E1000Error, match="a Nic already"):
        Nic(memory=bench.dma, irq=bench.line, link=RecordingLink(), clock=bench.clock,
            record=recorder)  # fmt: skip
    recorder.close()


def test_after_the_end_the_device_goes_on(tmp_path: Path) -> None:
    bench, recorder = recorded(tmp_path / "x")
    recorder.close("enough")
    traffic(bench)
    assert len(bench.link.frames) == 3
    assert same(tmp_path / "x").why == "enough"


def test_every_event_has_words(life: Path) -> None:
    for _, _, kind, args in events(life):
        assert describe(kind, args)


# --- a virtual machine's NIC, the command line ---------------------------------------------------


def test_a_server_records_its_nic(tmp_path: Path) -> None:
    """A client over a socket, in real time: registers, rings and interrupts, and its end."""
    clock, link = RealClock(), RecordingLink()
    path = tmp_path / "x"
    with clock.lock:
        server = VfioUserServer(
            tmp_path / "s", link=link, clock=clock, record=path, autoneg_ns=0, report=lambda _: None
        )
        assert server.data is None
        client = FakeClient(server.path, clock)
        guest = client.start()
        guest.up(mac=BENCH_MAC, rctl=RX_ON, ims=0x9F)
        client.settle()
        for size in (60, 700):
            guest.post_legacy(frame(size))
            client.bar_write(0, 0x3818, guest.tx.next_to_use, 4)
            client.settle()
            link.inject(frame(size))
            client.settle()
            client.bar_read(0, 0xC0, 4)
        assert [len(f) for f in link.frames] == [60, 700]
        assert [len(f.data) for f in guest.receive()] == [60, 700]
        client.close()
        clock.run(timeout_ns=1_000_000)
        server.close()
    kinds = [kind for _, _, kind, _ in events(path)]
    assert kinds.count(Kind.TRANSMIT) == 2
    assert kinds.count(Kind.RECEIVE) == 2
    assert Kind.LEVEL in kinds
    same(path)


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, "-m", "e1000emu", *args])


def test_a_recording_whose_traffic_faults_stopped_says_so_and_fails(tmp_path: Path) -> None:
    path = tmp_path / "x"
    done = run("record", str(path), "--bytes", "10K", "--faults", "overrun=100%")
    assert done.returncode == 1
    assert "0 of 20 UDP echoes, 0 bytes by TCP" in done.stdout
    assert "stopped TCP after 0 of 20,480 bytes: No route to host; " in done.stderr
    assert "--gw" not in done.stderr  # which `record` has not
    assert done.stderr.count("\n") == 1
    assert run("replay", str(path)).returncode == 0


def test_a_lost_datagram_stops_no_recording(tmp_path: Path) -> None:
    faults = Faults(seed=7, irq_lost=0.01, overrun=0.05, abort=(("tx-data", 2),))
    found = live(tmp_path / "x", total_bytes=65536, faults=faults)
    assert (found["tcp_bytes"], found["stopped"]) == (131072, None)
    assert found["udp_echoes"] < 20


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    path = tmp_path / "x"
    done = run("record", str(path), "--bytes", "10K", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tcp_bytes"] == 20480
    again = json.loads(run("replay", str(path), "--json").stdout)
    assert (again["divergence"], again["complete"]) == (None, True)
    assert "all the same" in run("replay", str(path)).stdout
    listed = run("replay", str(path), "--list").stdout.splitlines()
    assert len(listed) == again["events"] + 1
    number = first(path, Kind.TRANSMIT)
    bad = changed(path, tmp_path / "bad", number, lambda b: b[1].__setitem__(0, flip(b[1][0], 9)))
    done = run("replay", str(bad))
    assert done.returncode == 1
    assert f"event {number} " in done.stdout
    told = json.loads(run("replay", str(bad), "--json").stdout)
    assert told["divergence"]["number"] == number == told["events"] + 1
    path.write_bytes(path.read_bytes()[:-3])
    done = run("replay", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cut off" in done.stderr
    assert run("replay", str(path), "--partial").returncode == 0
