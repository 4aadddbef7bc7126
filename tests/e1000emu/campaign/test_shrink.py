"""Smaller cases: the search ends, and at a case of which nothing can be left out."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.campaign import Campaign, CampaignError, Case, shrink
from e1000emu.campaign.run import target_of
from e1000emu.campaign.shrink import ddmin, smaller
from e1000emu.insight.faults import Faults
from tests.e1000emu.campaign import cases

VALUES = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(10**6), 10**6),
        st.floats(),
        st.binary(max_size=5),
        st.text(max_size=3),
        st.builds(Faults, seed=st.integers(0, 9), irq_lost=st.floats(0, 1)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner)),
    max_leaves=5,
)


@given(st.lists(st.integers(0, 30), unique=True), st.sets(st.integers(0, 30), max_size=4))
def test_ddmin_finds_what_is_needed_and_no_more(items: list[int], needed: set[int]) -> None:
    needed &= set(items)
    assert ddmin(items, lambda part: needed <= set(part)) == [i for i in items if i in needed]


@given(st.lists(st.integers(), max_size=12), st.randoms(use_true_random=False))
def test_of_what_ddmin_returns_no_item_can_be_left_out(items: list[int], rng: Any) -> None:
    answers: dict[tuple[int, ...], bool] = {tuple(items): True}

    def fails(part: list[int]) -> bool:
        return answers.setdefault(tuple(part), rng.random() < 0.5)

    kept = ddmin(items, fails)
    assert answers[tuple(kept)]
    assert not any(fails(kept[:at] + kept[at + 1 :]) for at in range(len(kept)))


@settings(deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_whatever_smaller_value_is_taken_there_comes_an_end(value: Any, rng: Any) -> None:
    for _ in range(3000):
        found = list(smaller(value))
        assert all(repr(less) != repr(value) for less in found)
        if not found:
            return
        value = rng.choice(found)
    pytest.fail(f"{value!r} is still not the smallest")


class Size(IntEnum):
    LARGE = 9


@pytest.mark.parametrize("value", [Size.LARGE, "text", None, float("inf"), float("nan"), int])
def test_values_without_an_order_of_their_own_have_little_below_them(value: Any) -> None:
    assert list(smaller(value)) in ([], [0.0])


def test_a_case_is_made_as_small_as_it_fails() -> None:
    target = target_of(cases.SIXES, None)
    heard: list[Case] = []
    found, outcome = shrink(target, next(iter(cases.SIXES)), cases.SIXES, told=heard.append)
    assert found.keep == {3, 6}
    assert found.values == {"number_of": 50, "faults": Faults()}
    assert str(found) == "number_of=50, faults=none, steps=[3, 6]"
    assert outcome.text.endswith("AssertionError: three and six")
    assert heard[-1].hash == found.hash


def test_what_the_campaign_leaves_out_is_not_tried() -> None:
    wanted = Campaign("c", cases.SIXES.axes, where=lambda c: c.faults is None or c.faults.irq_lost)
    wanted.case(cases.sixes)
    found, _ = shrink(target_of(wanted, None), next(iter(wanted)), wanted)
    assert found.faults.irq_lost
    assert not found.faults.flap_ns


def test_a_case_that_passes_cannot_be_smaller() -> None:
    case = Case(0, {"number_of": 1, "faults": None})
    with pytest.raises(CampaignError, match="passes here"):
        shrink(target_of(cases.SIXES, None), case, cases.SIXES)
