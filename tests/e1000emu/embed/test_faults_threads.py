"""Hardware that fails while threads work it: the same faults, by number and not by time."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.insight.faults import ABORTS, Faults, Injector
from e1000emu.record.recording import Kind
from e1000emu.testing.bench import BENCH_MAC
from e1000emu.testing.guest import Int, Rctl, Reg
from tests.e1000emu.common import frame, rd, wr
from tests.e1000emu.embed.test_record_threads import (
    CAUSES,
    RX_ON,
    STEPS,
    Rig,
    act,
    events,
    rig,
    same,
    traffic,
)
from tests.e1000emu.insight.test_faults import failing
from tests.support import examples

MS = 1_000_000
MPC = 0x4010
RXO = 0x40
PAUSE = bytes.fromhex("0180c200000102000000000188080001ffff").ljust(60, b"\0")
KINDS: dict[str, dict[str, Any]] = {
    "two threads": {"solo": False, "tap": False},
    "one for all": {"solo": True, "tap": False},
    "two threads, tap": {"solo": False, "tap": True},
    "one for all, tap": {"solo": True, "tap": True},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def numbered(n: int) -> bytes:
    return frame(14) + n.to_bytes(2, "big") + bytes(84)


def number(data: bytes) -> int:
    return int.from_bytes(data[14:16], "big")


def injected(made: Rig) -> dict[str, int]:
    faults = made.server.nic.faults
    assert faults is not None
    with made.clock.lock, made.server.guard:
        return dict(faults.counts)


def explained(made: Rig) -> str:
    with made.clock.lock, made.server.guard:
        return "\n".join(made.server.nic.explain())


def change(made: Rig, **what: Any) -> None:
    faults = made.server.nic.faults
    assert faults is not None
    with made.clock.lock, made.server.guard:
        faults.change(Faults(**what))


def send(made: Rig, first: int, count: int, *, at_once: bool) -> None:
    """Post frames, with one doorbell or one each, and let them leave."""
    rings, count_of = made.rings, made.server.nic.misuse.count
    aborts = count_of("tx-abort")

    def gone() -> bool:
        nonlocal aborts
        if count_of("tx-abort") != aborts:  # the ring stands still until the next doorbell
            aborts = count_of("tx-abort")
            rings.kick()
        return rings.read(Reg.TDH) == rings.read(Reg.TDT)

    for n in range(first, first + count):
        rings.post_legacy(numbered(n))
        if not at_once or n == first + count - 1:
            rings.kick()
            made.until(gone)
    rings.reap()


def arrive(made: Rig, frames: list[bytes], *, at_once: bool) -> list[int]:
    """Give frames to the device, together or one by one: which of them the driver gets."""
    rings, stats = made.rings, made.server.nic.stats

    def seen() -> int:
        with made.clock.lock, made.server.guard:
            return stats["TPR"] + stats["MPC"]

    got: list[int] = []
    all_seen = seen()
    for some in [frames] if at_once else [[one] for one in frames]:
        all_seen += len(some)
        made.give(*some)
        made.until(lambda want=all_seen: seen() >= want)  # type: ignore[misc]
        rings.read(Reg.STATUS)
        got += [number(one.data) for one in rings.receive()]
    return got


def offer(made: Rig, first: int, count: int, *, at_once: bool) -> list[int]:
    return arrive(made, [numbered(n) for n in range(first, first + count)], at_once=at_once)


# --- each kind -----------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [False, True], ids=["plain", "recorded"])
@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize("access", ABORTS)
def test_the_chosen_access_aborts_however_frames_come(
    access: str, at_once: bool, record: bool, path: Path
) -> None:
    rule = access.replace("descriptor", "abort").replace("data", "data-abort")
    with rig(path, faults=Faults(abort=((access, 3),)), record=record) as made:
        nic, got = made.server.nic, []
        if access.startswith("tx"):
            send(made, 0, 6, at_once=at_once)
            made.until(lambda: made.sent() >= 6)
            got = [number(one) for one in made.link.frames]
        else:
            got = offer(made, 0, 6, at_once=at_once)
        made.until(lambda: nic.misuse.count(rule) > 0)
        assert injected(made) == {f"abort {access}": 1}
        assert "outside the memory the device may reach" in explained(made)
        assert nic.misuse.count(rule) == 1
        if access.endswith("data"):
            assert got.pop(2) != 2  # ones were read, or nothing was stored
            got.insert(2, 2)
        assert got == [0, 1, 2, 3, 4, 5]
        assert made.client.config_read(6, 2) & 0x2000  # received master abort
        change(made)
        send(made, 10, 3, at_once=True)
        assert offer(made, 20, 3, at_once=True) == [20, 21, 22]
    if record:
        same(path, made.state)


@pytest.mark.parametrize("threads", [False, True], ids=["clock", "threads"])
@pytest.mark.parametrize("access", ABORTS)
def test_the_chosen_access_of_memory_that_is_not_shared_aborts(
    access: str, threads: bool, path: Path
) -> None:
    """A stage has fetched it before the engine runs, on the clock."""
    rule = access.replace("descriptor", "abort").replace("data", "data-abort")
    faults = Faults(abort=((access, 3),))
    with rig(path, faults=faults, by_message=True, threads=threads) as made:
        rings, count = made.rings, made.server.nic.misuse.count
        for n in range(6):
            if access == "tx-descriptor" and n == 2:  # it stands still until the next doorbell
                rings.post_legacy(numbered(n))
                rings.kick()
                made.until(lambda: count(rule) > 0)
                assert rings.read(Reg.TDH) == 2
            elif access.startswith("tx"):
                send(made, n, 1, at_once=True)
            else:
                arrive(made, [numbered(n)], at_once=True)
            made.until(lambda want=n >= 2: count(rule) == want)  # type: ignore[misc]
    same(path, made.state)


@every_kind
def test_the_same_frames_are_missed_however_they_come(tmp_path: Path, kind: dict[str, Any]) -> None:
    arrived = []
    for at_once in (False, True):
        path = tmp_path / "x"
        with rig(path, faults=Faults(seed=4, overrun=0.4), **kind) as made:
            arrived.append(
                [n for first in range(0, 40, 10) for n in offer(made, first, 10, at_once=at_once)]
            )
            missed = 40 - len(arrived[-1])
            assert injected(made) == {"overrun": missed}
            assert made.rings.read(MPC) == missed
            assert made.rings.read(Reg.ICR) & RXO
        same(path, made.state)
    assert arrived[0] == arrived[1]
    assert 8 < len(arrived[0]) < 32


@every_kind
def test_what_is_sent_is_written_back_late_and_in_order(kind: dict[str, Any], path: Path) -> None:
    with rig(path, faults=Faults(writeback_ns=20 * MS), **kind) as made:
        rings = made.rings
        times = []
        for round_ in range(5):
            began = made.clock.now_ns()
            for n in range(4):
                rings.post_legacy(numbered(4 * round_ + n))
                rings.kick()
            made.until(lambda: rings.read(Reg.TDH) == rings.read(Reg.TDT))
            times.append(made.clock.now_ns() - began)
            rings.reap()
        made.until(lambda: made.sent() >= 20)
        if not kind["tap"]:
            assert [number(one) for one in made.link.frames] == list(range(20))
        assert 5 <= injected(made)["writeback"] <= 20
        assert max(times) > MS
    same(path, made.state)


@every_kind
def test_interrupts_are_lost_and_the_device_says_that_it_waits(
    kind: dict[str, Any], path: Path
) -> None:
    with rig(path, faults=Faults(irq_lost=1.0), **kind) as made:
        rings, client = made.rings, made.client
        rings.read(Reg.ICR)
        client.interrupts()
        for n in range(1, 4):
            rings.write(Reg.ICS, Int.LSC)
            rings.read(Reg.STATUS)
            assert client.interrupts() == 0
            assert "nobody has read ICR since" in explained(made)
            assert rings.read(Reg.ICR) & Int.LSC
            assert injected(made)["irq_lost"] >= n
        change(made)
        rings.write(Reg.ICS, Int.LSC)
        made.until(lambda: client.interrupts() > 0)
    assert made.server.irqs.fired >= 1
    same(path, made.state)


@every_kind
def test_interrupts_come_late_and_not_after_their_cause_is_gone(
    kind: dict[str, Any], path: Path
) -> None:
    with rig(path, faults=Faults(irq_late=1.0, irq_late_ns=30 * MS), **kind) as made:
        rings, client = made.rings, made.client
        waits = []
        for _ in range(6):
            rings.read(Reg.ICR)
            client.interrupts()
            client.unmask()
            rings.write(Reg.ICS, Int.LSC)
            began = made.clock.now_ns()
            made.until(lambda: client.interrupts() > 0)
            waits.append(made.clock.now_ns() - began)
        assert max(waits) > 2 * MS
        rings.read(Reg.ICR)
        client.interrupts()
        client.unmask()
        change(made, irq_late=1.0, irq_late_ns=10**15)
        rings.write(Reg.ICS, Int.LSC)
        rings.read(Reg.ICR)
        made.wait(5 * MS)
        assert client.interrupts() == 0
    same(path, made.state)


def fates_on_a_clock(count: int, **what: Any) -> list[bool]:
    """Which of so many rises of the line a host sees at once."""
    bench = failing(**what)
    assert isinstance(bench.clock, VirtualClock)
    wr(bench.nic, "IMS", 4)
    out = []
    for _ in range(count):
        wr(bench.nic, "ICS", 4)
        out.append(bench.line.level)
        rd(bench.nic, "ICR")
    return out


def test_the_n_th_interrupt_has_the_same_fate_on_a_clock_and_with_threads(tmp_path: Path) -> None:
    what = {"seed": 9, "irq_lost": 0.3, "irq_late": 0.3, "irq_late_ns": 10**15}
    expected = fates_on_a_clock(60, **what)
    assert {True, False} == set(expected)
    with rig(tmp_path / "x", faults=Faults()) as made:
        rings, client = made.rings, made.client
        rings.read(Reg.ICR)
        change(made, **what)
        seen = []
        for _ in range(60):
            client.interrupts()
            rings.write(Reg.ICS, Int.LSC)
            rings.read(Reg.STATUS)
            seen.append(client.interrupts() > 0)
            rings.read(Reg.ICR)
            client.unmask()
    assert seen == expected
    same(tmp_path / "x", made.state)


# --- together ------------------------------------------------------------------------------------

EVERYTHING = Faults(
    seed=11, irq_lost=0.1, irq_late=0.3, irq_late_ns=MS, overrun=0.1, writeback_ns=MS,
    phy_busy=0.2, flap_ns=60 * MS, down_ns=3 * MS, reset_ns=150 * MS,
    abort=tuple((access, n) for access in ABORTS for n in (4, 9, 30)),
)  # fmt: skip


@pytest.mark.parametrize("by_message", [False, True], ids=["shared", "unshared"])
@every_kind
def test_a_driver_that_polls_survives_all_of_it(
    kind: dict[str, Any], by_message: bool, path: Path
) -> None:
    """Our test driver, which looks at its rings and starts again after a reset of the part's."""
    with rig(path, faults=EVERYTHING, by_message=by_message, **kind) as made:
        rings, nic, resets = made.rings, made.server.nic, made.server.nic.resets
        for n in range(120):
            if nic.resets > resets:
                rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
                resets = nic.resets
            if rings.tx_unused() > 2:
                rings.post_legacy(numbered(n))
                rings.kick()
            made.give(numbered(n), numbered(n))
            rings.read(Reg.ICR)
            made.client.interrupts()
            made.client.unmask()
            made.wait(MS)
            rings.reap()
            rings.receive()
        counts = injected(made)
        change(made)
        rings.up(mac=BENCH_MAC, rctl=RX_ON, ims=CAUSES)
        made.until(made._link_up)
        before = made.sent()
        send(made, 500, 3, at_once=True)
        made.until(lambda: made.sent() >= before + 3)
        assert offer(made, 600, 3, at_once=True)[-3:] == [600, 601, 602]
    assert counts["overrun"]
    assert counts["irq_lost"]
    assert counts["irq_late"]
    assert counts["writeback"]
    assert sum(n for what, n in counts.items() if what.startswith("abort"))
    assert counts["reset"]
    done = same(path, made.state)
    assert done.nic is not None
    assert done.nic.faults is not None
    assert made.server.nic.faults is not None
    assert done.nic.faults.log == made.server.nic.faults.log
    assert done.nic.faults.counts == made.server.nic.faults.counts


FAULTS = st.builds(
    Faults,
    seed=st.integers(0, 9),
    irq_lost=st.sampled_from([0.0, 0.3]),
    irq_late=st.sampled_from([0.0, 0.5]),
    irq_late_ns=st.sampled_from([1, MS]),
    overrun=st.sampled_from([0.0, 0.3]),
    writeback_ns=st.sampled_from([0, MS]),
    abort=st.lists(st.tuples(st.sampled_from(ABORTS), st.integers(1, 9)), max_size=4).map(tuple),
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=STEPS,
    more=STEPS,
    faults=FAULTS,
    others=FAULTS,
    solo=st.booleans(),
    unshared=st.booleans(),
)
def test_any_run_of_a_worker_that_fails_is_the_same_again(
    steps: list[tuple[str, int, int]],
    more: list[tuple[str, int, int]],
    faults: Faults,
    others: Faults,
    solo: bool,
    unshared: bool,
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "x"
        with rig(path, solo=solo, faults=faults, by_message=unshared) as made:
            injector = made.server.nic.faults
            assert injector is not None
            act(made, steps)
            with made.clock.lock, made.server.guard:
                injector.change(others)
            act(made, more)
        done = same(path, made.state)
        assert done.nic is not None
        assert done.nic.faults is not None
        assert (done.nic.faults.counts, done.nic.faults.log) == (injector.counts, injector.log)


def test_python_has_its_frames_once(path: Path) -> None:
    """A PAUSE frame among others, which Python is to have first: it and they are drawn once."""
    outcomes = []
    for at_once in (False, True):
        with rig(path, faults=Faults(seed=2, overrun=0.3)) as made:
            rings = made.rings
            for reg, value in ((0x28, 0x00C28001), (0x2C, 0x100), (0x30, 0x8808)):
                rings.write(reg, value)  # FCAL, FCAH, FCT
            rings.write(Reg.CTRL, rings.read(Reg.CTRL) | 1 << 27)  # RFCE
            rings.write(Reg.RCTL, RX_ON | Rctl.UPE)
            rings.read(Reg.STATUS)
            frames = [PAUSE if n % 4 == 3 else numbered(n) for n in range(12)]
            got = arrive(made, frames, at_once=at_once)
            outcomes.append((got, rings.read(MPC)))
        same(path, made.state)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1]


# --- who injects nothing there pays nothing ------------------------------------------------------


@pytest.mark.parametrize("faults", [None, Faults(), Faults(irq_late=0.5, phy_busy=0.5)])
def test_no_step_asks_python_unless_rings_are_to_fail(
    tmp_path: Path, faults: Faults | None
) -> None:
    def never(*args: Any) -> Any:
        raise AssertionError("asked")

    with (
        mock.patch.object(Injector, "send", never),
        mock.patch.object(Injector, "store", never),
        rig(tmp_path / "x", faults=faults, record=False) as made,
    ):
        traffic(made)


def test_a_step_asks_from_the_change_on_and_no_longer(path: Path) -> None:
    asked: Counter[str] = Counter()
    plain = Injector.send

    def count(self: Injector, *args: Any) -> int:
        asked["send"] += 1
        return plain(self, *args)

    with mock.patch.object(Injector, "send", count), rig(path, faults=Faults()) as made:
        send(made, 0, 4, at_once=False)
        assert not asked
        change(made, overrun=1.0)
        send(made, 4, 4, at_once=False)
        assert asked["send"] >= 4
        assert offer(made, 0, 4, at_once=True) == []
        change(made)
        asked.clear()
        send(made, 8, 4, at_once=False)
        assert not asked
        assert offer(made, 0, 4, at_once=True) == [0, 1, 2, 3]
    called = [args[1] for _, _, kind, args in events(path) if kind is Kind.CALL]
    assert called.count("faults.change") == 2
    same(path, made.state)
