"""fastpath.nic.misuselog against its twin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._ref import misuselog as ref
from fastpath.nic.misuselog import MisuseLog

u64 = st.integers(0, (1 << 64) - 1)
RULES = 5
note = st.tuples(
    st.integers(-1, RULES), st.integers(-(1 << 62), 1 << 62), st.lists(u64, max_size=4),
    st.sampled_from([1, 2, (1 << 64) - 1]),
)  # fmt: skip


@given(st.integers(1, 9), st.lists(st.one_of(note, st.just(None)), max_size=40))
def test_log_equals_reference(capacity: int, steps: list) -> None:
    ours, twin = MisuseLog(RULES, capacity), ref.MisuseLog(RULES, capacity)
    for step in steps:
        for log in (ours, twin):
            if step is None:
                log.clear()
                continue
            rule, when, values, n = step
            if 0 <= rule < RULES:
                log.note(rule, when, n, *values)
            else:
                with pytest.raises(IndexError):
                    log.note(rule, when, n, *values)
        assert ours.cases() == twin.cases()
        assert len(ours) == len(twin)
        assert [ours.count(i) for i in range(RULES)] == [twin.count(i) for i in range(RULES)]
        assert [ours.last(i) for i in range(RULES)] == [twin.last(i) for i in range(RULES)]


@pytest.mark.parametrize("size", [(0, 1), (1025, 1), (1, 0), (1, (1 << 20) + 1)])
def test_sizes_that_cannot_be_are_refused(size: tuple[int, int]) -> None:
    for log in (MisuseLog, ref.MisuseLog):
        with pytest.raises(ValueError, match="MisuseLog"):
            log(*size)


def test_values_that_do_not_fit_are_refused() -> None:
    log = MisuseLog(1)
    with pytest.raises(OverflowError):
        log.note(0, 0, 1, 1 << 64)
    with pytest.raises(IndexError):
        log.count(1)
    assert len(log) == 0
