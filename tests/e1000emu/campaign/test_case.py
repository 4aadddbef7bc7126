"""Axes, cases, their keys and labels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.campaign import Campaign, Case, Limits
from e1000emu.campaign.case import canonical, label
from e1000emu.errors import E1000Error
from e1000emu.insight.faults import Faults
from tests.e1000emu.campaign import cases

PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.builds(Faults, seed=st.integers(), irq_lost=st.floats(0, 1)),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Equality that tells 1, 1.0 and True apart, and takes one NaN for another."""
    return repr(a) == repr(b) if isinstance(a, float) else type(a) is type(b) and a == b


@given(PLAIN)
def test_a_value_that_was_carried_elsewhere_has_the_same_text(value: Any) -> None:
    assert canonical(pickle.loads(pickle.dumps(value))) == canonical(value)
    assert isinstance(label(value), str)


ONE = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary())


@given(ONE, ONE)
def test_two_values_have_two_texts(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == same(a, b)


@given(st.dictionaries(st.text(), st.integers()), st.sets(st.integers()))
def test_the_order_of_a_mapping_or_set_does_not_matter(one: dict[str, int], few: set[int]) -> None:
    assert canonical(one) == canonical(dict(reversed(one.items())))
    assert canonical(few) == canonical(frozenset(sorted(few, reverse=True)))


class Colour(Enum):
    RED = 1


@dataclass
class Other:
    irq_lost: float = 0.0


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (None, float("inf")),
        (None, float("nan")),
        (b"\xff\xff\xff", "////"),
        (1, 1.0),
        (1, True),
        ({1: 2}, {"1": 2}),
        (Other(), Faults()),
        (Colour.RED, 1),
        (1 << 70, str(1 << 70)),
    ],
)
def test_values_that_json_takes_for_one_are_two(a: Any, b: Any) -> None:
    assert canonical(a) != canonical(b)
    assert Case(0, {"x": a}).hash != Case(0, {"x": b}).hash


def test_the_hash_is_the_same_on_every_machine() -> None:
    case = Case(3, {"model": "82540EM", "faults": Faults(irq_lost=0.25), "seed": 7})
    assert case.hash == HASH
    assert pickle.loads(pickle.dumps(case)).hash == case.hash
    assert Case(9, case.values).hash == case.hash  # the number is not part of it
    assert Case(3, case.values, keep=frozenset({1})).hash != case.hash


HASH = "da7faf62b699a12a"


def test_cases_are_every_combination_and_where_leaves_some_out() -> None:
    campaign = Campaign("c", {"a": [1, 2], "b": range(3)}, where=lambda c: c.a != c.b)
    assert [(c.a, c.b) for c in campaign] == [(1, 0), (1, 2), (2, 0), (2, 1)]
    assert [c.number for c in campaign] == [0, 2, 3, 4]
    assert len(campaign) == 4
    assert len(Campaign("c", {})) == 1
    assert repr(campaign) == "Campaign('c': 2 a x 3 b)"


def test_a_label_says_what_differs_from_the_defaults() -> None:
    assert label(Faults()) == "none"
    assert label(Faults(irq_lost=0.5, flap_ns=3)) == "flap_ns=3,irq_lost=0.5"
    assert str(Case(0, {"a": b"\x01", "b": [1, 2]})) == "a=01, b=1:2"


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Limits(seconds=0), "seconds=0"),
    (lambda: Limits(seconds=float("nan")), "seconds=nan"),
    (lambda: Limits(memory_bytes=1), "memory_bytes=1"),
    (lambda: Limits(memory_bytes=1e9), "memory_bytes=1000000000.0"),  # type: ignore[arg-type]
    (lambda: Campaign("", {}), "name=''"),
    (lambda: Campaign("a/b", {}), "name='a/b'"),
    (lambda: Campaign("a\0b", {}), r"name='a\x00b'"),
    (lambda: Campaign(3, {}), "name=3"),  # type: ignore[arg-type]
    (lambda: Campaign("c", [1]), "axes=[1]"),  # type: ignore[arg-type]
    (lambda: Campaign("c", {3: [1]}), "axes=3"),  # type: ignore[dict-item]
    (lambda: Campaign("c", {"values": [1]}), "'values'"),
    (lambda: Campaign("c", {"keep": [1]}), "'keep'"),
    (lambda: Campaign("c", {"bench": [1]}), "'bench'"),
    (lambda: Campaign("c", {"from": [1]}), "'from'"),
    (lambda: Campaign("c", {"two words": [1]}), "'two words'"),
    (lambda: Campaign("c", {"a": []}), "axis a has no values"),
    (lambda: Campaign("c", {"a": range(0)}), "axis a has no values"),
    (lambda: Campaign("c", {"a": "abc"}), "axis a='abc'"),
    (lambda: Campaign("c", {"a": 5}), "axis a=5"),  # type: ignore[dict-item]
    (lambda: Campaign("c", {"a": [1, 2, 1]}), "has 1 2 times"),
    (lambda: Campaign("c", {"a": [object]}), "plain value"),
    (lambda: Campaign("c", {"a": ["\udc80"]}), "axis a"),
    (lambda: Campaign("c", {}, again=-1), "again=-1"),
    (lambda: Campaign("c", {}, limits=5), "limits=5"),  # type: ignore[arg-type]
    (lambda: Campaign("c", {}, where=5), "where=5"),  # type: ignore[arg-type]
    (lambda: Campaign("c", {}).case(5), "function=5"),  # type: ignore[type-var]
    (lambda: Case(0, {}).watch(5), "what=5"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "text"), WRONG, ids=[text for _, text in WRONG])
def test_wrong_arguments_are_named(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(E1000Error) as caught:
        call()
    assert text in str(caught.value)


def test_a_missing_axis_is_named() -> None:
    with pytest.raises(AttributeError, match="no 'modle'; its axes are: model"):
        Case(0, {"model": 1}).modle  # noqa: B018


def test_the_digest_has_frames_counters_registers_and_time() -> None:
    def digest(**values: Any) -> dict[str, str]:
        case = Case(0, {"model": "82540EM", "faults": None, "seed": 1, **values})
        cases.traffic(case)
        return case.digest()

    one = digest()
    assert list(one) == ["frames", "counters", "registers", "end"]
    assert digest() == one
    other = digest(seed=2)
    assert other["frames"] != one["frames"]
    assert other["end"] == one["end"]


def test_the_digest_has_frames_that_a_bench_receives() -> None:
    def digest(frame: bytes) -> dict[str, str]:
        case = Case(0, {})
        with case.bench() as bench:
            bench.link.inject(frame)
        return case.digest()

    one, other = digest(bytes(60)), digest(bytes(59) + b"1")
    assert one != other
    assert one | {"frames": ""} == other | {"frames": ""}


def test_hosts_are_watched_and_closed() -> None:
    case = Case(0, {"seed": 0})
    cases.hosts(case)
    digest = case.digest()
    assert digest["end"] != "0 ns"
    case.close()
    case = Case(0, {"seed": 5})
    cases.hosts(case)
    assert case.digest()["frames"] != digest["frames"]
    assert case.digest()["counters"] != digest["counters"]
    case.close()


def test_two_benches_of_a_case_have_two_recordings(tmp_path: Path) -> None:
    case = Case(0, {})
    case._begin(tmp_path)
    case.bench()
    case.bench()
    case.capture("cable")
    case.capture("cable")
    case.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cable-2.pcapng",
        "cable.pcapng",
        "nic-2.pcapng",
        "nic-2.rec",
        "nic.pcapng",
        "nic.rec",
    ]


@given(st.sets(st.integers(0, 20)))
def test_steps_that_are_left_out_leave_the_others_as_they_are(keep: set[int]) -> None:
    case = Case(0, {}, keep=frozenset(keep))
    assert list(case.steps(i * i for i in range(15))) == [i * i for i in range(15) if i in keep]
    assert case._steps == 15
