"""The interrupt block against its twin: on a clock, and for several threads."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.registers.regs import reg
from fastpath._ref import irqblock as ref
from fastpath._ref import moderation as ref_moderation
from fastpath.nic.irqblock import NEVER_NS, REGISTERS, EventLine, IrqBlock, LineFaults, Worker
from fastpath.nic.moderation import PARAMETERS, POLICIES, Moderation
from fastpath.nic.regfile import RegFile

US = 1000


class Line:
    """Notes each change of the level, with its time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.edges: list[tuple[int, bool]] = []

    def set_level(self, level: bool) -> None:
        self.edges.append((self.clock.now_ns(), level))


Policy = str | tuple[str, dict[str, int]]
"""The name of a policy, with parameters of its own or without."""


def made_policy(policy: Policy) -> Moderation:
    name, chosen = policy if isinstance(policy, tuple) else (policy, {})
    return POLICIES[name](**chosen)


def twin_policy(policy: Policy) -> ref_moderation.Moderation:
    name, chosen = policy if isinstance(policy, tuple) else (policy, {})
    given = {key: value for key, (value, _) in PARAMETERS.items()} | chosen
    return ref_moderation.POLICIES[name](**given if name == "adaptive" else {})


class OnClock:
    """The block on a clock: reads and writes go through the register file, time through it."""

    def __init__(self, policy: Policy, *faults: Any) -> None:
        self.clock = VirtualClock()
        self.line = Line(self.clock)
        self.irq = IrqBlock()
        self.file = RegFile(0x1000)
        for name, off in REGISTERS.items():
            r = reg(name)
            served = name not in ("RADV", "TADV")
            self.file.define(
                off // 4,
                rmask=r.rmask,
                rw=r.stored_mask,
                w1c=r.w1c_mask,
                w1s=r.w1s_mask,
                act=r.act_mask,
                on_read=self.irq if name == "ICR" else None,
                on_write=self.irq if served else None,
                hot=served,
            )
        self.irq._bind(self.file, self.clock, self.line)
        self.irq._set_policy(made_policy(policy))
        if faults:
            self.irq._fail(LineFaults(*faults))

    @property
    def now(self) -> int:
        return self.clock.now_ns()

    def wait(self, ns: int) -> None:
        self.clock.run_for(ns)

    def write(self, name: str, value: int) -> None:
        self.file.write32(REGISTERS[name], value)

    def read_icr(self) -> int:
        return self.file.read32(REGISTERS["ICR"])

    def edges(self) -> list[tuple[int, bool]]:
        return self.line.edges


class Threaded(OnClock):
    """The same block as threads have it: fed by hand, with an eventfd that tells of rises."""

    def __init__(self, policy: Policy, *faults: Any) -> None:
        super().__init__(policy, *faults)
        self.fd = os.eventfd(0, os.EFD_NONBLOCK)
        self.events = EventLine()
        self.events.automask = False
        self.events.attach(self.fd)
        self.irq._go_threaded(self.events, Worker())
        self.rises: list[tuple[int, bool]] = []

    def look(self) -> None:
        rises = self.events.fired - sum(level for _, level in self.rises)
        assert rises in (0, 1)
        if rises:
            self.rises.append((self.now, True))
        if self.rises and self.rises[-1][1] and not self.events.level:
            self.rises.append((self.now, False))

    def wait(self, ns: int) -> None:
        end = self.now + ns
        while (due := self.irq._next_due()) and due <= end:
            self.clock.run_until(max(due, self.now))
            self.irq._tick_at(self.now)
            self.look()
        self.clock.run_until(end)

    def write(self, name: str, value: int) -> None:
        super().write(name, value)
        self.look()

    def read_icr(self) -> int:
        value = super().read_icr()
        self.look()
        return value

    def edges(self) -> list[tuple[int, bool]]:
        os.close(self.fd)
        return self.rises


class Twin:
    """The twin, asked by hand whenever something is due."""

    def __init__(self, policy: Policy, *faults: Any) -> None:
        self.now = 0
        self.seen: list[tuple[int, bool]] = []
        self.irq = ref.IrqBlock(
            lambda level: self.seen.append((self.now, level)),
            twin_policy(policy),
            ref.LineFaults(*faults) if faults else None,
        )

    def wait(self, ns: int) -> None:
        end = self.now + ns
        while (due := self.irq.next_due()) and due <= end:
            self.now = max(due, self.now)
            self.irq.tick(self.now)
        self.now = end

    def write(self, name: str, value: int) -> None:
        self.irq.write(name, value, self.now)

    def read_icr(self) -> int:
        return self.irq.read_icr(self.now)

    def edges(self) -> list[tuple[int, bool]]:
        return self.seen


NAMES = ("ICR", "ITR", "ICS", "IMS", "IMC", "RDTR", "RADV", "TIDV", "TADV")
VALUES = (0, 1, 2, 4, 0x80, 0x81, 0xFF, 0x1FFFF, 0xFFFFFFFF, 1 << 31 | 9, 7, 40)
OPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)),
        st.tuples(st.sampled_from(("rx", "tx", "ide")), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.sampled_from(("read", "disable", "room", "pause")), st.integers(0, 1)),
    ),
    max_size=50,
)


CHOSEN = st.dictionaries(
    st.sampled_from(sorted(PARAMETERS)),
    st.one_of(st.integers(0, 40), st.sampled_from([64, 128, 1000])),
).map(
    lambda chosen: {
        name: value * 10_000 if name.endswith("_ns") else value for name, value in chosen.items()
    }
)


def play(made: Any, ops: list[tuple[str, int]]) -> tuple[list[Any], list[tuple[int, bool]]]:
    """Return what was seen after each step, and the line's edges with their times."""
    log: list[Any] = []
    irq, twin = made.irq, isinstance(made, Twin)
    for name, value in ops:
        if name in NAMES:
            made.write(name, value)
        elif name == "wait":
            made.wait(value * US)
        elif name == "read":
            log.append(made.read_icr())
        elif name == "disable":
            irq.disable(bool(value), made.now) if twin else irq._set_disabled(bool(value))
        elif name == "pause":
            if value:
                irq.freeze()
            else:
                irq.thaw(made.now) if twin else irq.thaw()
        elif name == "room":
            log.append(irq.policy.room(64, made.now) if twin else irq._room_at(64, made.now))
        elif name == "rx":
            if twin:
                irq.received(0x80, value, value, 256, made.now)
            else:
                irq._received_at(0x80, value, made.now, 256)
        elif twin:
            irq.sent(int(name == "tx"), name == "ide", value, value, 256, made.now)
        else:
            irq._sent_at(int(name == "tx"), name == "ide", value, made.now, 256)
        if isinstance(made, Threaded):
            made.look()
        log.append((name, irq.asserted, irq.assertions))
        log.append(irq.next_due() if twin else irq._next_due())
        log.append(irq.regs["ICR"] if twin else irq.causes)
    made.wait(100_000 * US)
    log.append((irq.asserted, irq.assertions))
    return log, made.edges()


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(ops=OPS)
def test_on_a_clock_the_block_equals_its_twin(policy: str, ops: list[tuple[str, int]]) -> None:
    assert play(OnClock(policy), ops) == play(Twin(policy), ops)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(ops=OPS)
def test_threaded_the_block_does_the_same(policy: str, ops: list[tuple[str, int]]) -> None:
    assert play(Threaded(policy), ops) == play(Twin(policy), ops)


@given(ops=OPS, chosen=CHOSEN)
def test_with_any_parameters_the_policy_equals_its_twin(
    ops: list[tuple[str, int]], chosen: dict[str, int]
) -> None:
    policy = "adaptive", chosen
    assert play(OnClock(policy), ops) == play(Twin(policy), ops)


FAULTS = st.tuples(
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 300 * US),
)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@given(ops=OPS, faults=FAULTS)
def test_a_line_that_fails_fails_the_same_everywhere(
    policy: str, ops: list[tuple[str, int]], faults: tuple[Any, ...]
) -> None:
    twin = Twin(policy, *faults)
    expected = play(twin, ops)
    failed = twin.irq.faults
    assert failed is not None
    lost = sum(kind == "irq_lost" for _, kind in failed.failed)
    for made in (OnClock(policy, *faults), Threaded(policy, *faults)):
        assert play(made, ops) == expected
        assert made.irq._failed() == (failed.failed, lost, len(failed.failed) - lost)
        assert made.irq._failed() == ([], 0, 0)


def test_only_the_latest_failures_are_kept_and_all_are_counted() -> None:
    made = OnClock("datasheet", 1, 2, 0.5, 1.0, 1)
    made.write("IMS", 4)
    for _ in range(3000):
        made.write("ICS", 4)
        made.read_icr()
    hits, lost, late = made.irq._failed()
    assert len(hits) == 1024
    assert lost + late == 3000
    assert 1300 < lost < 1700


def test_the_block_reads_the_registers_of_the_table() -> None:
    assert {name: reg(name).offset for name in REGISTERS} == REGISTERS
    assert ref.REGISTERS == REGISTERS
    assert ref.NEVER_NS == NEVER_NS


def test_a_policy_can_be_changed_while_a_cause_waits_for_it() -> None:
    made = OnClock("adaptive")
    made.write("IMS", 0x80)
    for _ in range(100):
        made.irq._sent_at(0, False, 1, made.now)
        made.irq._received_at(0x80, 10, made.now, 256)
        if made.irq.asserted:
            made.read_icr()
        made.wait(50 * US)
    made.irq._received_at(0x80, 1, made.now, 256)
    assert not made.irq.asserted
    made.irq._set_policy(POLICIES["datasheet"]())
    assert made.irq.asserted
    assert made.line.edges[-1] == (made.now, True)


def test_what_stops_the_block_takes_its_clock_event_back() -> None:
    made = OnClock("datasheet")
    made.write("IMS", 0x80)
    made.write("RDTR", 100)
    made.irq._received_at(0x80, 1, made.now)
    made.irq._stop()
    made.wait(1_000 * US)
    assert made.line.edges == []
    assert made.irq._times() == (NEVER_NS, 0, 0, 0, 0)
