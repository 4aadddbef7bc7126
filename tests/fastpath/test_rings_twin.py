"""The compiled ring engines against their twins: single random rings, and whole histories."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fastpath._ref.e1000_hw import REGISTERS
from fastpath.base.batch import FrameBatch
from fastpath.nic.txring import RUN_DELAYED, RUN_MORE, RUN_OFF, TXDW
from tests.fastpath.rings import (
    MAC,
    PEER,
    Rx,
    Tx,
    context,
    data,
    eth,
    ipv4,
    ipv6,
    legacy,
    pseudo6,
    tagged,
    tcp,
    udp,
)
from tests.support import examples

pytestmark = pytest.mark.fuzz

BODY = bytes((i * 7 + (i >> 8) * 13) & 0xFF for i in range(16384))
GROUP = bytes.fromhex("01005e000001")

# Transmit: descriptors of every kind, mostly sane, sometimes not

small = st.sampled_from([0, 1, 11, 12, 13, 14, 33, 34, 54, 60, 64, 100, 255])
lengths = st.one_of(st.integers(0, 200), st.sampled_from([1514, 4096, 16000, 16384]))
where = st.sampled_from(["buffer", "buffer", "buffer", "null", "outside", "edge"])
commands = st.integers(0, 0xFF)


@st.composite
def sane_context(draw) -> bytes:
    l4 = draw(st.sampled_from([34, 54]))
    proto = draw(st.integers(0, 1))
    return context(
        ip=(14, 24, draw(st.sampled_from([33, 0]))),
        tu=(l4, l4 + (16 if proto else 6), draw(st.sampled_from([0, 0, 60]))),
        paylen=draw(st.integers(0, 600)),
        hdrlen=l4 + draw(st.sampled_from([20, 28, 8])),
        mss=draw(st.integers(0, 300)),
        cmd=draw(st.integers(0, 7)) | proto | draw(st.sampled_from([0, 8, 0x88])),
    )


wild_context = st.builds(
    lambda raw, low: raw[:8] + struct.pack("<I", low | 0x20 << 24 & ~(0xF << 20)) + raw[12:],
    st.binary(min_size=16, max_size=16),
    st.builds(lambda paylen, cmd: paylen | (cmd | 0x20) << 24, st.integers(0, 3000), commands),
)
descriptor = st.one_of(
    st.tuples(st.just("context"), sane_context() | wild_context),
    st.tuples(
        st.just("legacy"),
        st.tuples(where, lengths, commands, small, small, st.integers(0, 0xFFFF)),
    ),
    st.tuples(
        st.just("data"),
        st.tuples(where, lengths, commands, st.integers(0, 3), st.integers(0, 0xFFFF)),
    ),
    st.tuples(st.just("data"), st.tuples(where, lengths, st.sampled_from([0x2D, 0x24, 0x2F, 0x25]),
                                         st.just(3), st.integers(0, 0xFFFF))),
)  # fmt: skip


def build(tx: Tx, kind: str, args: Any) -> bytes:
    if kind == "context":
        return args
    place, length, cmd, *rest = args
    addr = {
        "buffer": tx.bufs + length,
        "null": 0,
        "outside": 1 << 44,
        "edge": tx.ram.size_bytes - 100,
    }[place]
    if kind == "legacy":
        cso, css, tag = rest
        return legacy(addr, length, cmd & ~0x20, cso=cso, css=css, tag=tag)
    return data(addr, length, cmd, popts=rest[0], tag=rest[1])


COUNTERS_TX = [
    "mixed_drops",
    "oversize_drops",
    "tso_fails",
    "empty_frames",
    "csum_skips",
    "ring_errors",
]
COUNTERS_RX = ["frames_dropped_disabled", "frames_filtered", "frames_bad", "frames_missed"]


class TxMachine(RuleBasedStateMachine):
    """The same history on both engines, each with memory of its own."""

    @initialize()
    def start(self) -> None:
        self.ours, self.twin = Tx(count=32), Tx(reference=True, count=32)
        for tx in (self.ours, self.twin):
            tx.ram.write(tx.bufs, BODY * 4)
            tx.engine.buffer.exact = True
        self.paused = False
        self.frames: list[list[tuple[bytes, int]]] = [[], []]

    def both(self) -> list[Tx]:
        return [self.ours, self.twin]

    @rule(items=st.lists(descriptor, min_size=1, max_size=12))
    def post(self, items: list[tuple[str, Any]]) -> None:
        free = (self.ours.regs["TDH"] - self.ours.regs["TDT"] - 1) % 32
        for tx in self.both():
            tx.post(*[build(tx, *item) for item in items[:free]])

    @rule(
        tctl=st.sampled_from([2, 2, 10]),
        txdctl=st.sampled_from([0, 1 << 16, 1 << 25, 2 << 25, 3 << 16, 9 << 16, 20 << 16]),
        tidv=st.sampled_from([0, 5]),
        vme=st.booleans(),
        vet=st.sampled_from([0x8100, 0x88A8]),
        rps=st.booleans(),
        max_frame=st.sampled_from([16384, 1514]),
    )
    def registers(
        self, tctl: int, txdctl: int, tidv: int, vme: bool, vet: int, rps: bool, max_frame: int
    ) -> None:
        for tx in self.both():
            tx.regs["TCTL"], tx.regs["TXDCTL"], tx.regs["VET"] = tctl, txdctl, vet
            tx.regs["TIDV"] = tidv
            tx.engine.repay()  # as the device does, or what was held is counted wrongly
            tx.engine.hold = txdctl >> 16 & 0x3F
            tx.vme, tx.engine.rps, tx.engine.max_frame = vme, rps, max_frame

    @rule(limit=st.sampled_from([1, 3, 1000]), snapshot=st.booleans())
    def doorbell(self, limit: int, snapshot: bool) -> None:
        flags, total = RUN_MORE, 0
        rounds = 0
        while flags & RUN_MORE:
            before = len(self.ours.batch)
            flags = self.ours.engine.run(self.ours.batch, limit)
            assert len(self.ours.batch) - before <= limit
            if flags & TXDW:
                total &= ~RUN_DELAYED  # of the run before: the last descriptor decides
            total |= flags
            rounds += 1
            self.paused |= rounds > 1
            assert rounds < 100000
            if snapshot and rounds < 5:
                state = self.ours.engine.state()
                self.ours.engine.run(FrameBatch(), 0)
                keep = {name: getattr(self.ours.engine, name) for name in COUNTERS_TX}
                self.ours.engine.reset()
                self.ours.engine.load(state)
                for name, value in keep.items():
                    setattr(self.ours.engine, name, value)
        assert total & ~RUN_MORE == self.twin.engine.run(self.twin.batch)
        for tx, log in zip(self.both(), self.frames, strict=True):
            log += [(frame, tx.batch.flags(i)) for i, frame in enumerate(tx.batch)]
            tx.batch.clear()
        assert self.frames[0] == self.frames[1]
        self.frames = [[], []]

    @rule(low=st.sampled_from([0, 1, 4, 40]), host=st.sampled_from([0, 1, 4]))
    def thresholds(self, low: int, host: int) -> None:
        for tx in self.both():
            tx.engine.prefetch(low, host)

    @rule()
    def fill(self) -> None:
        assert self.ours.engine.fill() == self.twin.engine.fill()

    @rule(at=st.integers(0, 31), item=descriptor)
    def change_what_is_given(self, at: int, item: tuple[str, Any]) -> None:
        for tx in self.both():
            tx.ram.write(tx.ring + at * 16, build(tx, *item))

    @rule()
    def delay_ends(self) -> None:
        assert self.ours.engine.repay() == self.twin.engine.repay()

    @rule(
        head=st.integers(0, 31), tail=st.integers(0, 33), size=st.sampled_from([512, 512, 128, 64])
    )
    def move_ring(self, head: int, tail: int, size: int) -> None:
        self.abort()  # as each write to TDLEN or TDH does
        for tx in self.both():
            tx.regs["TDLEN"] = size
            tx.regs["TDH"], tx.regs["TDT"] = head, tail
        self.doorbell(100, False)
        self.abort()
        for tx in self.both():
            tx.regs["TDLEN"] = 512
            tx.regs["TDT"] = tx.regs["TDH"] = head

    @rule()
    def abort(self) -> None:
        for tx in self.both():
            tx.engine.ring_moved()

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "ours"):
            return
        a, b = self.ours, self.twin
        assert a.stats.as_dict() == b.stats.as_dict()
        assert a.ram.read(a.ring, 512) == b.ram.read(b.ring, 512)
        assert a.engine.cached() == b.engine.cached()
        assert (a.engine.head, a.engine.mid_frame()) == (b.engine.head, b.engine.mid_frame())
        for name in COUNTERS_TX:
            assert getattr(a.engine, name) == getattr(b.engine, name), name
        assert a.ram.read(a.bufs, len(BODY)) == BODY
        assert a.engine.buffer.pointers(True) == b.engine.buffer.pointers(True)
        if not self.paused:  # the twin has no pauses, in which a dropped frame leaves its beginning
            assert a.engine.buffer.memory() == b.engine.buffer.memory()


TxMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=20)
TestTransmit = TxMachine.TestCase


@settings(max_examples=examples(150))
@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=31), st.integers(1, 40))
def test_random_bytes_as_transmit_ring(ring: list[bytes], limit: int) -> None:
    """Any bytes at all: bounded, inside memory, and the ring ends at tail or with an abort."""
    tx = Tx(count=32)
    tx.vme = True
    fixed = [raw[:4] + b"\0\0\0\0" + raw[8:] for raw in ring]
    tx.post(*fixed)
    for _ in range(3):
        tx.engine.run(tx.batch, limit)
        assert len(tx.batch) <= limit
        assert all(1 <= len(f) <= 16384 + 4 for f in tx.batch)
        tx.batch.clear()
    tx.engine.reset()


# Receive


payloads = st.integers(0, 1600).map(lambda n: BODY[:n])
frames = st.one_of(
    st.builds(eth, payloads, st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100, 40]),
              dst=st.sampled_from([MAC, PEER, GROUP, b"\xff" * 6]),
              src=st.sampled_from([MAC, PEER])),
    st.builds(lambda p: eth(ipv4(udp(p), 17)), payloads),
    st.builds(lambda p: eth(ipv4(tcp(p), 6)), payloads),
    st.builds(lambda p: eth(ipv6(udp(p, pseudo6), 17), 0x86DD), payloads),
    st.builds(lambda p, t: tagged(eth(ipv4(udp(p), 17)), t), payloads, st.integers(0, 0xFFFF)),
    st.binary(min_size=1, max_size=80),
    st.builds(lambda n: eth(BODY[:n]), st.sampled_from([1504, 1505, 9000, 16366, 16367, 16384])),
)  # fmt: skip
flagged = st.tuples(
    frames,
    st.one_of(st.just(0), st.just(0), st.integers(0, 31)),
    st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), max_size=1),
)
rctl_bits = st.sets(st.sampled_from([2, 3, 4, 5, 8, 9, 12, 13, 15, 16, 17, 18, 19, 20, 25, 26]))


class RxMachine(RuleBasedStateMachine):
    """The same frames and register writes on both engines, each with memory of its own."""

    @initialize()
    def start(self) -> None:
        self.ours, self.twin = Rx(count=16), Rx(reference=True, count=16)

    @rule()
    def look(self) -> None:
        for rx in self.both():
            rx.engine.buffer.exact = True

    def both(self) -> list[Rx]:
        return [self.ours, self.twin]

    @rule(bits=rctl_bits, enabled=st.sampled_from([2, 2, 2, 0]))
    def rctl(self, bits: set[int], enabled: int) -> None:
        for rx in self.both():
            rx.regs["RCTL"] = enabled | sum(1 << b for b in bits)

    @rule(
        rxcsum=st.builds(lambda o, v6, p: o | v6 << 10 | p,
                         st.sampled_from([0, 0x100, 0x200, 0x300]), st.booleans(),
                         st.integers(0, 255)),
        vme=st.booleans(),
        vet=st.sampled_from([0x8100, 0x88A8]),
        rsrpd=st.sampled_from([0, 64, 200]),
        fifo_bytes=st.sampled_from([0, 2000, 49152]),
        pad_runts=st.booleans(),
    )  # fmt: skip
    def registers(
        self, rxcsum: int, vme: bool, vet: int, rsrpd: int, fifo_bytes: int, pad_runts: bool
    ) -> None:
        for rx in self.both():
            rx.regs["RXCSUM"], rx.regs["VET"], rx.regs["RSRPD"] = rxcsum, vet, rsrpd
            rx.vme, rx.engine.fifo_bytes, rx.engine.pad_runts = vme, fifo_bytes, pad_runts

    @rule(hold=st.sampled_from([0, 1, 2, 3, 9, 20]))
    def threshold(self, hold: int) -> None:
        for rx in self.both():
            rx.engine.repay()
            rx.engine.hold = hold

    @rule(low=st.sampled_from([0, 1, 4, 40]), host=st.sampled_from([0, 1, 4]))
    def thresholds(self, low: int, host: int) -> None:
        for rx in self.both():
            rx.engine.prefetch(low, host)
            rx.engine.kick()

    @rule(at=st.integers(0, 15), addr=st.sampled_from([0, 1 << 44]))
    def change_what_is_given(self, at: int, addr: int) -> None:
        for rx in self.both():
            rx.ram.write64(rx.ring + 16 * at, addr)

    @rule()
    def delay_ends(self) -> None:
        for rx in self.both():
            rx.engine.repay()

    @rule(
        i=st.integers(0, 3), mac=st.sampled_from([MAC, PEER, GROUP]), top=st.integers(0, 3),
        valid=st.booleans(), word=st.integers(0, 127), value=st.integers(0, 0xFFFFFFFF),
    )  # fmt: skip
    def filters(self, i: int, mac: bytes, top: int, valid: bool, word: int, value: int) -> None:
        for rx in self.both():
            rx.set_address(i, mac, top, valid=valid)
            rx.regs.file.poke(REGISTERS["MTA"] + 4 * word, value)
            rx.regs.file.poke(REGISTERS["VFTA"] + 4 * word, ~value & 0xFFFFFFFF)

    @rule(items=st.lists(flagged, min_size=1, max_size=12), hold=st.booleans())
    def receive(self, items: list[Any], hold: bool) -> None:
        batch = FrameBatch()
        for frame, flags, flips in items:
            raw = bytearray(frame)
            for at, xor in flips:
                raw[at % len(raw)] ^= xor
            batch.append(bytes(raw), flags)
        got = [rx.engine.receive(batch, 0, hold) for rx in self.both()]
        assert got[0] == got[1]

    @rule(n=st.integers(1, 15), null=st.sampled_from([None, None, 0, 1 << 44]))
    def refill(self, n: int, null: int | None) -> None:
        for rx in self.both():
            rx.reap()
            free = (rx.regs["RDH"] - rx.regs["RDT"] - 1) % rx.count
            at = rx.regs["RDT"]
            rx.refill(min(n, free))
            if null is not None and free:
                rx.ram.write64(rx.ring + 16 * at, null)
        kicked = [rx.engine.kick() for rx in self.both()]
        assert kicked[0] == kicked[1]

    @rule(on=st.booleans())
    def bus_master(self, on: bool) -> None:
        for rx in self.both():
            rx.dma.enabled = on

    @rule()
    def snapshot(self) -> None:
        state = self.ours.engine.state()
        keep = {name: getattr(self.ours.engine, name) for name in COUNTERS_RX}
        self.ours.engine.reset()
        self.ours.engine.load(state)
        assert self.ours.engine.state() == state
        for name, value in keep.items():
            setattr(self.ours.engine, name, value)

    @rule(head=st.integers(0, 17), tail=st.integers(0, 17), size=st.sampled_from([256, 128, 64]))
    def move_ring(self, head: int, tail: int, size: int) -> None:
        for rx in self.both():
            rx.regs["RDLEN"] = size
            rx.regs["RDH"], rx.regs["RDT"] = head, tail
            rx.engine.ring_moved()
            rx.next = head % 16

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "ours"):
            return
        a, b = self.ours, self.twin
        assert a.stats.as_dict() == b.stats.as_dict()
        assert a.engine.take_causes() == b.engine.take_causes()
        assert a.engine.head == b.engine.head
        assert (a.engine.fifo_frames, a.engine.fifo_used) == (
            b.engine.fifo_frames,
            b.engine.fifo_used,
        )
        assert a.engine.buffer.pointers() == b.engine.buffer.pointers()
        assert a.engine.buffer.memory() == b.engine.buffer.memory()
        assert a.engine.cached() == b.engine.cached()
        assert a.engine.free_descriptors() == b.engine.free_descriptors()
        assert a.dma.aborts == b.dma.aborts
        for name in (*COUNTERS_RX, "symbol_errors"):
            assert getattr(a.engine, name) == getattr(b.engine, name), name
        assert a.ram.read(a.ring, 256) == b.ram.read(b.ring, 256)
        for i in range(16):
            assert a.ram.read(a.buffer(i), 16384) == b.ram.read(b.buffer(i), 16384)


RxMachine.TestCase.settings = settings(max_examples=examples(150), stateful_step_count=20)
TestReceive = RxMachine.TestCase


@settings(max_examples=examples(100))
@given(
    st.lists(st.binary(min_size=16, max_size=16), min_size=16, max_size=16),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.lists(st.tuples(frames, st.integers(0, 31)), max_size=10),
)
def test_random_bytes_as_receive_ring(ring, rctl, head, tail, items) -> None:
    """Any ring, any RCTL, any index: bounded, and nothing outside memory is touched."""
    rx = Rx()
    rx.ram.write(rx.ring, b"".join(raw[:3] + bytes(5) + raw[8:] for raw in ring))
    rx.regs["RCTL"] = rctl | 2
    rx.regs["RDH"], rx.regs["RDT"] = head & 31, tail & 31
    batch = FrameBatch()
    for frame, flags in items:
        batch.append(frame, flags)
    assert rx.engine.receive(batch) == len(batch)
    rx.regs["RDT"] = 5
    rx.engine.kick()


def test_engines_refuse_to_run_inside_themselves() -> None:
    """Message DMA may call back into the device (row 17): the second run does nothing."""
    tx, rx = Tx(), Rx()
    inner: list[int] = []

    def read(addr: int, n: int) -> bytes:
        inner.append(tx.engine.run(FrameBatch()))
        try:
            tx.dma.remove(tx.ram.base, tx.ram.size_bytes)
        except BufferError:
            inner.append(-1)
        return b"\xaa" * n

    def write(addr: int, data: bytes) -> None:
        inner.append(rx.engine.receive(FrameBatch([eth(BODY[:60])])))
        inner.append(rx.engine.kick())

    tx.dma.set_message_dma(read)
    assert tx.send(legacy(1 << 40, 64)) == [b"\xaa" * 64]
    assert inner == [RUN_OFF, -1]
    rx.dma.set_message_dma(None, write)
    rx.ram.write64(rx.ring, 1 << 40)
    inner.clear()
    assert rx.receive(eth(BODY[:60]), eth(BODY[:60])) == 2
    assert inner == [0, 0]
    assert rx.stats["TPR"] == 2
