"""The borders as C pointers: no frame is lost, each change of a line is told, DMA by C functions.

What a program in C sees of them is in tests/e1000emu/embed/capi/conformance.c.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic import c_abi
from fastpath.nic.cable import shared


class Frame(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_size_t))


IRQ = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
TX = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Frame), ctypes.c_size_t)
READY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
READ = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t
)


def address(fn: Any) -> int:
    value = ctypes.cast(fn, ctypes.c_void_p).value
    assert value is not None
    return value


def contents(frames: Any, n: int) -> list[bytes]:
    return [ctypes.string_at(frames[i].data, frames[i].size) for i in range(n)]


class Link:
    """A `CallbackLink` that takes functions and frames of Python."""

    def __init__(self) -> None:
        self.link = c_abi.CallbackLink()
        self.keep: Any = None

    def connect_tx(self, fn: Any) -> None:
        self.keep = TX(lambda _, frames, n: fn(contents(frames, n))) if fn else None
        self.link.connect_tx(address(self.keep) if fn else 0, 0)

    def poll(self, room: int) -> list[bytes]:
        frames = (Frame * max(room, 1))()
        return contents(frames, self.link.poll(ctypes.addressof(frames), room))

    def push(self, given_frames: Sequence[bytes]) -> int:
        frames = (Frame * max(len(given_frames), 1))()
        for i, frame in enumerate(given_frames):
            frames[i].data = ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p)
            frames[i].size = len(frame)
        return self.link.push(ctypes.addressof(frames), len(given_frames))


class Port:
    """A port that takes a given number of frames, then holds."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.room = self.ready = 0

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        assert hold
        end = min(len(batch), start + self.room)
        self.room -= end - start
        self.got += [batch[i] for i in range(start, end)]
        return end

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        self.link = up, speed_mbps, full_duplex

    def tx_ready(self) -> None:
        self.ready += 1


FRAMES = st.lists(st.binary(min_size=1, max_size=80), max_size=6)
BULK = st.builds(lambda n: [bytes([i & 0xFF]) * 60 for i in range(n)], st.integers(500, 1500))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("transmit"), FRAMES | BULK),
        st.tuples(st.just("poll"), st.integers(0, 2000)),
        st.tuples(st.just("push"), FRAMES | BULK),
        st.tuples(st.just("room"), st.integers(0, 1200)),
        st.tuples(st.just("callback"), st.booleans()),
        st.tuples(st.just("carrier"), st.booleans()),
    ),
    max_size=30,
)


@given(STEPS)
def test_frames_keep_their_order_and_none_is_lost(steps: list[tuple[str, Any]]) -> None:
    link, port = Link(), Port()
    link.link.attach(port)
    sent: list[bytes] = []
    got: list[bytes] = []
    pushed: list[bytes] = []
    lost = 0
    for what, value in steps:
        match what:
            case "transmit":
                link.link.transmit(FrameBatch(value))
                if link.link.carrier:
                    sent += value
                else:
                    lost += len(value)
            case "poll":
                got += link.poll(value)
            case "push":
                pushed += value[: link.push(value)]
            case "room":
                port.room = value
            case "callback":
                link.connect_tx(got.extend if value else None)
            case "carrier":
                link.link.set_carrier(value, 100)
                assert port.link == (value, 100, True)
        assert got == sent[: len(got)]
        assert port.got == pushed
        waiting = len(sent) - len(got)
        assert link.link.tx_room() == max(c_abi.QUEUE_FRAMES - waiting, 0)
    link.link.detach()
    stats, drops = link.link.stats, {"no carrier": lost, "unplugged": len(sent) - len(got)}
    assert (stats.tx_frames, stats.tx_bytes) == (len(sent), sum(map(len, sent)))
    assert (stats.rx_frames, stats.rx_bytes) == (len(pushed), sum(map(len, pushed)))
    assert stats.drops == {reason: n for reason, n in drops.items() if n}


def test_who_found_no_room_is_told_of_it_once() -> None:
    link, port, told = Link(), Port(), []
    link.link.attach(port)
    ready = READY(lambda _: told.append("ready"))
    link.link.connect_ready(address(ready), 0)
    link.link.transmit(FrameBatch([b"x"] * c_abi.QUEUE_FRAMES))
    assert link.link.tx_room() == 0
    for _ in range(2):
        link.poll(1)
        assert port.ready == 1
    link.link.rx_ready()
    assert told == ["ready"]


def test_polled_frames_stay_until_the_next_poll() -> None:
    link = c_abi.CallbackLink()
    link.transmit(FrameBatch([b"one", b"two"]))
    frames = (Frame * 4)()
    assert link.poll(ctypes.addressof(frames), 4) == 2
    for i in range(100):  # would take their batch from the pool, had it gone back
        link.transmit(FrameBatch([bytes([i]) * 60]))
    assert contents(frames, 2) == [b"one", b"two"]
    assert link.poll(ctypes.addressof(frames), 4) == 4


def test_polled_frames_stay_though_the_rest_of_their_batch_goes_to_a_function() -> None:
    link = Link()
    link.link.transmit(FrameBatch([b"one", b"two", b"six"]))
    frames, rest = (Frame * 1)(), list[bytes]()
    assert link.link.poll(ctypes.addressof(frames), 1) == 1
    link.connect_tx(rest.extend)
    for batch in [shared.get() for _ in range(3)]:
        batch.append(b"new")
    assert contents(frames, 1) == [b"one"]
    assert rest == [b"two", b"six"]


@given(st.lists(st.booleans()))
def test_each_change_of_the_line_is_told(levels: list[bool]) -> None:
    seen: list[bool] = []
    fn = IRQ(lambda opaque, level: seen.append(bool(level)))
    line = c_abi.CallbackLine()
    line.connect(address(fn), 0)
    for level in levels:
        line.set_level(level)
        assert line.level == level
    assert seen == [level for before, level in pairwise([False, *levels]) if level != before]


def test_dma_by_functions_serves_what_no_region_holds() -> None:
    table = DmaTable()
    region = bytearray(b"R" * 16)
    table.add(0x100, region)
    asked: list[tuple[int, int]] = []
    ram = bytearray(range(256)) * 4

    def read(opaque: int, addr: int, to: int, n: int) -> int:
        asked.append((addr, n))
        if addr + n > len(ram):
            return -1
        ctypes.memmove(to, bytes(ram[addr : addr + n]), n)
        return 0

    def write(opaque: int, addr: int, source: int, n: int) -> int:
        ram[addr : addr + n] = ctypes.string_at(source, n)
        return 0

    r, w = READ(read), READ(write)
    c_abi.connect_dma(table, address(r), address(w), 0)
    assert table.read(0xF8, 0x20) == bytes(range(0xF8, 0x100)) + b"R" * 16 + bytes(range(16, 24))
    assert asked == [(0xF8, 8), (0x110, 8)]
    table.write(0x10E, b"abcd")
    assert region[14:] == b"ab"
    assert ram[0x110:0x112] == b"cd"
    assert table.aborts == 0
    assert table.read(1 << 40, 4) == b"\xff" * 4
    assert table.aborts == 1
    c_abi.connect_dma(table, 0, 0, 0)
    assert table.read(0, 1) == b"\xff"
    assert table.aborts == 2


def test_a_cnic_wants_a_window_of_registers() -> None:
    with pytest.raises(TypeError):
        c_abi.CNic(object(), c_abi.CallbackLink(), None, lambda error: 0)
    assert len(set(c_abi.entries())) == len(c_abi.entries())
