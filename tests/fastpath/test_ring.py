"""fastpath.nic.ring: the five registers of a ring, of both directions alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import rxfilter as ref_rxfilter
from fastpath._ref import rxring as ref_rxring
from fastpath._ref import txring as ref_txring
from fastpath.base.dma import DmaTable
from fastpath.nic.regfile import Stats
from fastpath.nic.ring import DescriptorRing
from fastpath.nic.rxfilter import RxFilter
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine
from tests.fastpath.rings import registers

PARTS = ("BAL", "BAH", "LEN", "H", "T")
U32 = st.integers(0, 0xFFFFFFFF)


def engine_of(side: str, regs: Any, *, reference: bool) -> Any:
    if side == "T":
        kind = ref_txring.TxEngine if reference else TxEngine
        return kind(DmaTable(), Stats(), regs.file)
    if reference:
        return ref_rxring.RxEngine(DmaTable(), Stats(), ref_rxfilter.RxFilter(regs.file))
    return RxEngine(DmaTable(), Stats(), RxFilter(regs.file))


@pytest.mark.parametrize("side", ["T", "R"])
@given(st.lists(U32, min_size=5, max_size=5))
def test_a_ring_is_where_its_registers_say(side: str, values: list[int]) -> None:
    seen = []
    for reference in (False, True):
        regs = registers(reference=reference)
        ring = engine_of(side, regs, reference=reference)
        for part, value in zip(PARTS, values, strict=True):
            regs[f"{side}D{part}"] = value
        seen.append((ring.base, ring.len, ring.head, ring.tail, ring.cached()))
    low, high, length, head, tail = values
    assert seen == [(high << 32 | low & ~15, length, head, tail, 0)] * 2


@pytest.mark.parametrize("side", ["T", "R"])
@given(st.sampled_from((0, 7, 8, 9, 64)), st.integers(0, 66), st.integers(0, 66), st.booleans())
def test_a_ring_that_is_off_has_no_descriptors(
    side: str, count: int, head: int, tail: int, twin: bool
) -> None:
    regs = registers(reference=twin)
    ring = engine_of(side, regs, reference=twin)
    ring.dma.enabled = True
    regs[f"{side}DLEN"], regs[f"{side}DH"], regs[f"{side}DT"] = count * 16, head, tail
    off = count < 8 or head >= count or tail > count
    if twin:
        assert ring.off is off
    else:
        assert isinstance(ring, DescriptorRing)
        found = ring.pending() if side == "T" else ring.free_descriptors()
        end = 0 if side == "T" and tail == count else tail
        assert found == (0 if off else end - head if end >= head else count - head + end)
