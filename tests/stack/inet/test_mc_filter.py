"""stack/inet/mc_filter.py: filters of listeners against sets, reports against a router's state."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stack.inet.mc_filter import (
    ALLOW_NEW_SOURCES,
    ANY_SOURCE,
    BLOCK_OLD_SOURCES,
    CHANGE_TO_EXCLUDE,
    CHANGE_TO_INCLUDE,
    MCAST_EXCLUDE,
    MCAST_INCLUDE,
    MODE_IS_EXCLUDE,
    MODE_IS_INCLUDE,
    NOBODY,
    Record,
    current_record,
    mc_changes,
    mc_filter,
    mc_state,
)

SOURCES = range(6)
modes = st.sampled_from((MCAST_EXCLUDE, MCAST_INCLUDE))
listeners = st.tuples(modes, st.frozensets(st.sampled_from(SOURCES)))
states = st.builds(mc_state, modes, st.frozensets(st.sampled_from(SOURCES)))


@given(st.lists(listeners, max_size=6), st.data())
def test_the_interface_wants_what_any_listener_wants(
    members: list[tuple[int, frozenset[int]]], data: st.DataObject
) -> None:
    f = mc_filter()
    for member in members:
        f.add(*member)
    while True:
        state = f.state()
        for source in range(7):
            wanted = any(mc_state(*member).wants(source) for member in members)
            assert state.wants(source) is wanted
            assert f.wants(source) is wanted
        assert f.users == len(members)
        if not members:
            break
        f.remove(*members.pop(data.draw(st.integers(0, len(members) - 1))))
    assert (f.sources, f.state()) == ({}, NOBODY)


class Router:
    """What a router that hears every report believes (RFC 3810 7.4.2, without its timers)."""

    def __init__(self, state: mc_state) -> None:
        self.state = state

    def heard(self, records: list[Record]) -> None:
        for kind, listed in records:
            mode, sources = self.state
            if kind in (CHANGE_TO_EXCLUDE, MODE_IS_EXCLUDE):
                self.state = mc_state(MCAST_EXCLUDE, frozenset(listed))
            elif kind in (CHANGE_TO_INCLUDE, MODE_IS_INCLUDE):
                self.state = mc_state(MCAST_INCLUDE, frozenset(listed))
            elif (kind == ALLOW_NEW_SOURCES) == (mode == MCAST_INCLUDE):
                self.state = mc_state(mode, sources | frozenset(listed))
            else:
                assert kind in (ALLOW_NEW_SOURCES, BLOCK_OLD_SOURCES)
                self.state = mc_state(mode, sources - frozenset(listed))


@given(st.lists(st.tuples(states, st.integers(0, 3)), max_size=8), st.integers(1, 3))
def test_a_router_that_hears_all_reports_knows_the_state(
    history: list[tuple[mc_state, int]], robustness: int
) -> None:
    changes, router, now = mc_changes(), Router(NOBODY), NOBODY
    for after, reports in history:
        changes.changed(now, after, robustness)
        now = after
        for _ in range(reports):
            if changes:
                router.heard(changes.records(now))
    rounds = 0
    while changes:
        router.heard(changes.records(now))
        rounds += 1
    assert rounds <= 2 * robustness
    assert router.state == now


@given(states, states, st.integers(1, 4))
def test_a_change_is_told_as_often_as_robustness_says(
    before: mc_state, after: mc_state, robustness: int
) -> None:
    changes = mc_changes()
    assert changes.changed(before, after, robustness) is (before != after)
    told = []
    while changes:
        told.append(changes.records(after))
    assert len(told) == (robustness if before != after else 0)
    assert all(records == told[0] and records for records in told)


def test_answers_to_queries() -> None:
    assert current_record(ANY_SOURCE) == (MODE_IS_EXCLUDE, ())
    assert current_record(NOBODY) is None
    some = mc_state(MCAST_INCLUDE, frozenset((3, 1)))
    assert current_record(some) == (MODE_IS_INCLUDE, (1, 3))
    assert current_record(some, (1, 2)) == (MODE_IS_INCLUDE, (1,))
    assert current_record(some, (2,)) is None
    but_1 = mc_state(MCAST_EXCLUDE, frozenset((1,)))
    assert current_record(but_1, (1, 2)) == (MODE_IS_EXCLUDE, (1,))
    assert current_record(but_1, (1,)) is None
