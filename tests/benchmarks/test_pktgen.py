"""benchmarks.pktgen: generator and sink against their twins, and the whole path ring to ring."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.pktgen import RxSink, TxGen, attach, pump
from benchmarks.rows.device import Engines, udp_frame
from fastpath._ref import rxring as ref_rxring
from fastpath._ref import txring as ref_txring
from fastpath._ref.rxfilter import RxFilter as RefFilter
from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable, HostMemory
from fastpath.nic.regfile import Stats
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine
from tests.benchmarks import pktgen_twin as ref
from tests.fastpath.rings import MAC, registers, set_address
from tests.support import examples


@settings(max_examples=examples(30))
@given(
    st.lists(st.binary(min_size=60, max_size=300), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=12),
    st.booleans(),
)
def test_generator_equals_reference(frames, steps, offload) -> None:
    rings = []
    for module in (TxGen, ref.TxGen):
        mem = HostMemory(1 << 18)
        gen = module(mem, 16, 512)
        gen.load(frames)
        gen.offload = offload
        rings.append((mem, gen))
    for want, done in steps:
        results = []
        for mem, gen in rings:
            posted = gen.post(want)
            if done:
                for i in range(16):
                    mem.write(gen.dma + 16 * i + 12, b"\x01")
            results.append((posted, gen.reap(), gen.tail, gen.posted, gen.done))
            results[-1] += (mem.read(gen.dma, 256),)
        assert results[0] == results[1]


def path(reference: bool, frames: list[bytes]) -> tuple:
    mem = HostMemory(1 << 20)
    dma = DmaTable()
    dma.add(mem.base, mem.buffer)
    regs = registers(reference=reference)
    if reference:
        gen, sink = ref.TxGen(mem, 16), ref.RxSink(mem, 16)
        tx = ref_txring.TxEngine(dma, Stats(), regs.file)
        rx = ref_rxring.RxEngine(dma, Stats(), RefFilter(regs.file))
    else:
        gen, sink = TxGen(mem, 16), RxSink(mem, 16)
        tx = TxEngine(dma, Stats(), regs.file)
        rx = RxEngine(dma, Stats(), RxFilter(regs.file))
    set_address(regs, 0, MAC)
    gen.load(frames)
    regs["TCTL"], regs["RCTL"], regs["RXCSUM"] = 2, 2 | 1 << 15, 0x300
    (ref.attach if reference else attach)(gen, tx, sink, rx)
    moved = (ref.pump if reference else pump)(gen, tx, FrameBatch(), rx, sink, 7, 5)
    return (
        moved,
        (sink.frames, sink.descriptors, sink.octets, sink.csum_ok, sink.errors),
        (gen.posted, gen.done),
        tx.stats.as_dict(),
        rx.stats.as_dict(),
        mem.read(0, 1 << 20),
    )


@pytest.mark.parametrize("size", [60, 300, 1514])
def test_pump_equals_reference(size: int) -> None:
    frames = [udp_frame(size), bytes(6) + udp_frame(size)[6:]]
    ours, twin = path(False, frames), path(True, frames)
    assert ours[:-1] == twin[:-1]
    assert ours[-1] == twin[-1]
    assert ours[0] == 35


def test_benchmark_pair_verifies_every_frame() -> None:
    pair = Engines(60, offload=True, fcs=False, burst=32)
    pair.run(1024)
    assert pair.sink.csum_ok == pair.sink.frames == 1024
    assert pair.rx.stats["GPRC"] == pair.tx.stats["GPTC"]


def test_bad_arguments_are_refused() -> None:
    mem = HostMemory(8 << 20)
    for count, size in ((7, 2048), (12, 2048), (8192, 64), (16, 10), (16, 1 << 20)):
        with pytest.raises(ValueError, match="need"):
            TxGen(mem, count, size)
        with pytest.raises(ValueError, match="need"):
            RxSink(mem, count, size)
    with pytest.raises(ValueError, match="no frame"):
        TxGen(mem).load([])
    with pytest.raises(ValueError, match="buffers hold"):
        TxGen(mem).load([bytes(4096)])


def test_regions_stay_while_an_engine_runs_in_another_thread() -> None:
    pair = Engines(1514, offload=True, fcs=False, burst=32)
    extra = bytearray(4096)
    done = threading.Event()

    def work() -> None:
        for _ in range(20):
            pair.run(20_000)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        with suppress(BufferError):  # refused while the engine runs
            pair.tx.dma.add(1 << 40, extra)
            pair.tx.dma.remove(1 << 40, 4096)
        done.wait(0.001)
    thread.join()
    assert pair.sink.errors == 0
    assert pair.sink.frames == 20 * 20_000
