"""Random MMIO, configuration cycles, descriptors, frames, link and time: the device must survive.

Right in every case (device.md section 3): bounded work, no access outside the memory given, and a
device that works after CTRL.RST.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.registers.regs import BAR0_BYTES, TABLE
from e1000emu.testing.bench import BENCH_MAC
from tests.e1000emu.common import off, wr
from tests.e1000emu.fuzzing.program import BASE
from tests.e1000emu.fuzzing.targets import OnClock
from tests.support import examples

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
    st.tuples(st.just("room"), st.integers(0, 2)),
)


@settings(max_examples=examples(150))
@given(st.lists(STEPS, max_size=60))
def test_any_sequence_leaves_a_device_that_works(steps: list[tuple[object, ...]]) -> None:
    target = OnClock("82540EM")
    for what in steps:
        target.do(what)
    target.finish()
    target.nic.counters()
    target.works()


@settings(max_examples=examples(60))
@given(st.lists(STEPS, max_size=30), st.lists(STEPS, max_size=15))
def test_snapshot_anywhere_restores_the_same_state(
    before: list[tuple[object, ...]], after: list[tuple[object, ...]]
) -> None:
    target = OnClock("82540EM")
    for what in before:
        target.do(what)
    target.nic.slot.config_write(0xE0, 0, 2)
    saved = target.nic.state()
    target.nic.load_state(saved)
    assert target.nic.state() == saved
    for what in after:
        target.do(what)
    target.works()


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
    target = OnClock("82540EM")
    bench, nic = target.bench, target.nic
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
    target.works()
