"""The EEPROM's chip at its pins, against its twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import microwire as ref
from fastpath.nic.microwire import PHASES, WRITE_ALL_NS, WRITE_NS, Microwire

SK, CS, DI = 1, 2, 4
READ, WRITE, ERASE = 0b10, 0b01, 0b11
EWEN, EWDS, ERAL, WRAL = 0b11, 0b00, 0b10, 0b01


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def now_ns(self) -> int:
        return self.now


class Pins:
    """Both chips at the same pins; whatever they show is compared."""

    def __init__(self, words: list[int]) -> None:
        self.chips = Microwire(words), ref.Microwire(words)
        self.clock = Clock()

    def set(self, pins: int) -> bool:
        levels = bool(pins & CS), bool(pins & SK), bool(pins & DI)
        ours, theirs = self.chips
        ours.set_pins(*levels, self.clock)
        theirs.set_pins(*levels, self.clock.now)
        assert (ours.words, ours.writes) == (theirs.words, theirs.writes)
        if not pins & CS:
            assert ours.write_enabled == theirs.write_enabled
        out = ours.data_out(self.clock)
        assert out == theirs.data_out(self.clock.now)
        return out

    def shift(self, value: int, bits: int) -> int:
        """Clock `bits` in, most significant first; return what came out meanwhile."""
        out = 0
        for at in range(bits - 1, -1, -1):
            di = DI if value >> at & 1 else 0
            self.set(CS | di)
            out = out << 1 | self.set(CS | SK | di)
        return out

    def command(self, opcode: int, address: int, *data: int) -> int:
        """One whole command with its data; return the last 16 bits that came out."""
        width = self.chips[0].address_bits
        self.set(0)
        self.set(CS)
        self.shift(0b100 | opcode, 3)
        self.shift(address, width)
        out = 0
        for word in data or (0,) * (opcode == READ):
            out = self.shift(word, 16)
        self.set(0)
        return out

    def extended(self, what: int, *data: int) -> int:
        return self.command(0b00, what << self.chips[0].address_bits - 2, *data)


@given(
    st.sampled_from([64, 256]),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 3_000_000)), max_size=300),
)
def test_any_pins_do_the_same(size: int, steps: list[tuple[int, int]]) -> None:
    both = Pins([0x1234] * size)
    for pins, wait in steps:
        both.clock.now += wait
        both.set(pins)


COMMANDS = st.one_of(
    st.tuples(st.sampled_from([READ, ERASE]), st.integers(0, 255), st.just(())),
    st.tuples(st.just(WRITE), st.integers(0, 255), st.tuples(st.integers(0, 0xFFFF))),
    st.tuples(st.just(0), st.sampled_from([EWEN, EWDS, ERAL]), st.just(())),
    st.tuples(st.just(0), st.just(WRAL), st.tuples(st.integers(0, 0xFFFF))),
)


@given(
    st.sampled_from([64, 256]),
    st.lists(st.tuples(COMMANDS, st.sampled_from([0, WRITE_NS - 1, WRITE_NS, WRITE_ALL_NS]))),
)
def test_any_commands_do_the_same(
    size: int, commands: list[tuple[tuple[int, int, tuple[int, ...]], int]]
) -> None:
    both = Pins(list(range(size)))
    for (opcode, address, data), wait in commands:
        if opcode:
            both.command(opcode, address % size, *data)
        else:
            both.extended(address, *data)
        both.clock.now += wait


@pytest.mark.parametrize("size", [64, 256])
def test_a_write_is_read_back_and_sequential_reads_go_on(size: int) -> None:
    both = Pins([0] * size)
    both.extended(EWEN)
    both.command(WRITE, size - 1, 0xBEEF)
    assert not both.set(CS)  # busy
    both.clock.now += WRITE_NS
    assert both.set(CS)
    both.command(WRITE, 0, 0xCAFE)
    both.clock.now += WRITE_NS
    assert both.command(READ, size - 1) == 0xBEEF
    both.set(CS)
    both.shift(0b110, 3)
    both.shift(size - 1, both.chips[0].address_bits)
    assert [both.shift(0, 16) for _ in range(2)] == [0xBEEF, 0xCAFE]
    assert both.chips[0].writes == 2


@given(st.lists(st.integers(0, 7), max_size=120), st.lists(st.integers(0, 7), max_size=40))
def test_a_state_that_was_saved_goes_on_the_same(before: list[int], after: list[int]) -> None:
    both = Pins([0x1234] * 64)
    both.extended(EWEN)
    for pins in before:
        both.set(pins)
    state = both.chips[0].state()
    assert state["phase"] in PHASES
    copy = Microwire([0] * 64)
    copy.load(state)
    for pins in after:
        copy.set_pins(bool(pins & CS), bool(pins & SK), bool(pins & DI), both.clock)
        both.set(pins)
        assert copy.state() == both.chips[0].state()
        assert copy.data_out(both.clock) == both.chips[0].data_out(both.clock)
