"""The borders as C pointers: the link and the line against their twins, DMA by C functions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import c_abi as ref
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic import c_abi


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


class Compiled:
    """`c_abi.CallbackLink` with the twin's face."""

    def __init__(self) -> None:
        self.link = c_abi.CallbackLink()
        self.keep: list[Any] = []

    def connect_tx(self, fn: Any) -> None:
        if fn is None:
            self.link.connect_tx(0, 0)
            return
        wrapped = TX(lambda _, frames, n: fn(contents(frames, n)))
        self.keep.append(wrapped)
        self.link.connect_tx(address(wrapped), 0)

    def connect_ready(self, fn: Any) -> None:
        wrapped = READY(lambda _: fn())
        self.keep.append(wrapped)
        self.link.connect_ready(address(wrapped), 0)

    def poll(self, room: int) -> list[bytes]:
        frames = (Frame * max(room, 1))()
        return contents(frames, self.link.poll(ctypes.addressof(frames), room))

    def push(self, given_frames: Sequence[bytes]) -> int:
        frames = (Frame * max(len(given_frames), 1))()
        for i, frame in enumerate(given_frames):
            frames[i].data = ctypes.cast(ctypes.c_char_p(frame), ctypes.c_void_p)
            frames[i].size = len(frame)
        return self.link.push(ctypes.addressof(frames), len(given_frames))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.link, name)


class Port:
    """A port that takes a given number of frames, then holds."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.room = 0

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        assert hold
        end = min(len(batch), start + self.room)
        self.room -= end - start
        self.log.append(("receive", [batch[i] for i in range(start, end)]))
        return end

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        self.log.append(("link", up, speed_mbps, full_duplex))

    def tx_ready(self) -> None:
        self.log.append("tx_ready")


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
        st.tuples(st.just("rx_ready"), st.none()),
        st.tuples(st.just("tx_room"), st.none()),
    ),
    max_size=30,
)


def run(link: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    log: list[Any] = []
    port = Port(log)
    link.attach(port)
    link.connect_ready(lambda: log.append("ready"))
    sent: list[bytes] = []
    for what, value in steps:
        match what:
            case "transmit":
                link.transmit(FrameBatch(value))
            case "poll":
                log.append(link.poll(value))
            case "push":
                log.append(link.push(value))
            case "room":
                port.room = value
            case "callback":
                link.connect_tx(sent.extend if value else None)
            case "carrier":
                link.set_carrier(value, 100)
            case "rx_ready":
                link.rx_ready()
            case "tx_room":
                log.append(link.tx_room())
    link.detach()
    s = link.stats
    return [log, sent, s.tx_frames, s.tx_bytes, s.rx_frames, s.rx_bytes, s.drops]


@given(STEPS)
def test_link_equals_twin(steps: list[tuple[str, Any]]) -> None:
    assert run(Compiled(), steps) == run(ref.CallbackLink(), steps)


def test_polled_frames_stay_until_the_next_poll() -> None:
    link = c_abi.CallbackLink()
    link.transmit(FrameBatch([b"one", b"two"]))
    frames = (Frame * 4)()
    assert link.poll(ctypes.addressof(frames), 4) == 2
    for i in range(100):  # would take their batch from the pool, had it gone back
        link.transmit(FrameBatch([bytes([i]) * 60]))
    assert contents(frames, 2) == [b"one", b"two"]
    assert link.poll(ctypes.addressof(frames), 4) == 4


@given(st.lists(st.booleans()))
def test_line_equals_twin(levels: list[bool]) -> None:
    seen: list[bool] = []
    expected: list[bool] = []
    fn = IRQ(lambda opaque, level: seen.append(bool(level)))
    line, twin = c_abi.CallbackLine(), ref.CallbackLine()
    line.connect(address(fn), 0)
    twin.connect(expected.append)
    for level in levels:
        line.set_level(level)
        twin.set_level(level)
        assert line.level == twin.level
    assert seen == expected


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
