"""Random MMIO, configuration cycles, descriptors, frames, link and time: the device must survive.

Right in every case (device.md section 3): bounded work, no access outside the memory given, and a
device that works after CTRL.RST.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.regs import BAR0_BYTES, TABLE
from e1000emu.testing.fixtures import BENCH_MAC, Bench, make_bench
from tests.e1000emu.common import RX_ON, frame, off, wr
from tests.support import examples

BASE, RAM = 0x10_0000, 1 << 20
GUARD = 0xA5

OFFSETS = st.one_of(
    st.sampled_from([o for r in TABLE for o in r.offsets[:4]]),
    st.sampled_from(
        [off(n) for n in ("TDT", "TDH", "TDLEN", "TDBAL", "RDT", "RDH", "RDLEN", "RCTL", "TCTL")]
    ),
    st.integers(0, BAR0_BYTES + 64),
)
VALUES = st.one_of(
    st.integers(0, 0xFFFFFFFF),
    st.sampled_from((0, 1, 7, 8, 128, 255, 256, 4096, 0xFFFF, 0xFFFFFFFF, BASE, BASE + 0x8000)),
    st.integers(0, 600),
)
SIZES = st.sampled_from((4, 4, 4, 4, 4, 1, 2, 8))

STEPS = st.one_of(
    st.tuples(st.just("write"), OFFSETS, VALUES, SIZES),
    st.tuples(st.just("read"), OFFSETS, SIZES),
    st.tuples(st.just("io"), VALUES, VALUES),
    st.tuples(st.just("config"), st.integers(0, 255), VALUES, st.sampled_from((1, 2, 4))),
    st.tuples(st.just("memory"), st.integers(0, 0x9000), st.binary(min_size=16, max_size=128)),
    st.tuples(st.just("frames"), st.lists(st.binary(min_size=1, max_size=2000), max_size=5)),
    st.tuples(st.just("ours"), st.integers(1, 9000), st.booleans()),
    st.tuples(st.just("time"), st.integers(0, 3_000_000_000)),
    st.tuples(st.just("cable"), st.booleans()),
    st.tuples(st.just("room"), st.sampled_from((0, 1, None))),
)


def step(bench: Bench, what: tuple[object, ...]) -> None:
    """Do one thing to the device."""
    nic, link = bench.nic, bench.link
    match what:
        case ("write", int(offset), int(value), int(size)):
            nic.mmio_write(offset, value, size)
        case ("read", int(offset), int(size)):
            assert 0 <= nic.mmio_read(offset, size) < 1 << 8 * size
        case ("io", int(address), int(value)):
            nic.io_write(0, address)
            nic.io_write(4, value)
            nic.io_read(4)
        case ("config", int(offset), int(value), int(size)):
            nic.slot.config_write(offset, value, size)
            nic.slot.config_write(4, 7, 2)
        case ("memory", int(offset), bytes(data)):
            bench.memory.write(BASE + offset, data)
        case ("frames", list(frames)):
            link.inject(*frames)
        case ("ours", int(size), bool(hold)):
            link.inject(frame(size), frame(size), hold=hold)
        case ("time", int(ns)):
            bench.clock.run_for(ns)
        case ("cable", bool(up)):
            link.set_carrier(up)
        case ("room", room):
            link.open_room(room)  # type: ignore[arg-type]


def works(bench: Bench) -> None:
    """Check the promise: after CTRL.RST a driver gets a working device."""
    nic, link = bench.nic, bench.link
    nic.slot.config_write(0xE0, 0, 2)
    nic.slot.config_write(4, 7, 2)
    nic.mmio_write(0x20, 1 << 26 | 1 << 21 | 4 << 16 | 0x0DE1)
    nic.mmio_write(0x20, 1 << 26 | 1 << 21 | 9 << 16 | 0x0F00)
    nic.mmio_write(0x20, 1 << 26 | 1 << 21 | 0x9340)
    wr(nic, "PBA", 48)  # no reset restores it, and a driver whose frames are to fit writes it
    bench.guest.up(mac=BENCH_MAC, rctl=RX_ON)
    wr(nic, "VET", 0x8100)
    link.set_carrier(True)
    link.open_room(None)
    bench.clock.run_for(5_000_000_000)
    link.take()
    bench.guest.receive()
    bench.guest.post_legacy(frame(77))
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    assert link.take() == [frame(77)]
    link.inject(frame(88))
    assert [f.data for f in bench.guest.receive()] == [frame(88)]


@settings(max_examples=examples(150))
@given(st.lists(STEPS, max_size=60))
def test_any_sequence_leaves_a_device_that_works(steps: list[tuple[object, ...]]) -> None:
    bench = make_bench(ram_bytes=RAM + 0x40000)
    # What the device must never touch: memory behind a region that is not given to it.
    bench.dma.remove(bench.memory.base, bench.memory.size_bytes)
    bench.dma.add(BASE, bench.memory.buffer[:RAM])
    guard = bytes([GUARD]) * 0x40000
    bench.memory.write(BASE + RAM, guard)
    for what in steps:
        step(bench, what)
    assert bench.memory.read(BASE + RAM, len(guard)) == guard
    assert len(bench.link.frames) < 200_000
    bench.nic.counters()
    repr(bench.nic.regs)
    bench.nic.leds()
    works(bench)


@settings(max_examples=examples(60))
@given(st.lists(STEPS, max_size=30), st.lists(STEPS, max_size=15))
def test_snapshot_anywhere_restores_the_same_state(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    bench = make_bench(ram_bytes=RAM)
    for what in before:
        step(bench, what)
    bench.nic.slot.config_write(0xE0, 0, 2)
    saved = bench.nic.state()
    bench.nic.load_state(saved)
    assert bench.nic.state() == saved
    for what in after:
        step(bench, what)
    works(bench)


@settings(max_examples=examples(60))
@given(
    st.lists(st.binary(min_size=16, max_size=16), min_size=8, max_size=64),
    st.integers(0, 70),
    st.integers(0, 70),
    st.binary(max_size=300),
)
def test_any_transmit_ring_is_finished_or_stopped(
    ring: list[bytes], head: int, tail: int, data: bytes
) -> None:
    bench = make_bench(ram_bytes=RAM)
    nic = bench.nic
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(2_000_000_000)
    # Point half of the buffers into memory, so that frames really are made.
    laid = b"".join(
        d if i & 1 else (BASE + 0x8000 + 64 * i).to_bytes(8, "little") + d[8:]
        for i, d in enumerate(ring)
    )
    bench.memory.write(BASE, laid)
    bench.memory.write(BASE + 0x8000, data)
    wr(nic, "TDBAL", BASE)
    wr(nic, "TDLEN", len(ring) // 8 * 128)
    wr(nic, "TDH", head)
    wr(nic, "TDT", tail)
    bench.clock.run_for(1_000_000_000)
    count = len(ring) // 8 * 8
    if head < count and tail < count and not nic.tx.engine.desc_aborts:
        assert nic.mmio_read(off("TDH")) == tail
    assert all(len(f) <= 16384 + 4 for f in bench.link.frames)
    works(bench)
