"""A dict with int keys, against Python's."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.intmap import IntMap

KEYS = st.integers(0, 20) | st.integers(-(1 << 63), (1 << 63) - 1)
"""Few, so that they come again, and any."""
STEPS = st.tuples(st.sampled_from(("set", "del", "pop", "setdefault", "clear", "find")), KEYS)


@given(st.dictionaries(KEYS, st.integers()), st.lists(STEPS, max_size=200))
def test_int_map_does_what_a_dict_does(first: dict[int, int], steps: list[tuple[str, int]]) -> None:
    ours, twin = IntMap(first), dict(first)
    asked = [*first, *(key for _, key in steps)]
    for n, (what, key) in enumerate(steps):
        match what:
            case "set":
                ours[key] = twin[key] = n
            case "del" if key in twin:
                del ours[key]
                del twin[key]
            case "del":
                with pytest.raises(KeyError):
                    del ours[key]
            case "pop":
                assert ours.pop(key, None) == twin.pop(key, None)
            case "setdefault":
                assert ours.setdefault(key, n) == twin.setdefault(key, n)
            case "clear" if n % 7 == 0:
                ours.clear()
                twin.clear()
        assert ours.find(key) == twin.get(key) == ours.get(key)
        assert (key in ours) == (key in twin)
        assert len(ours) == len(twin)
    assert [ours.find(key) for key in asked] == [twin.get(key) for key in asked]
    assert list(ours) == list(twin)
    assert list(ours.items()) == list(twin.items())
    assert (list(ours.keys()), list(ours.values())) == (list(twin), list(twin.values()))
    assert ours == twin
    assert ours == IntMap(twin.items())
    assert copy.copy(ours) == ours == pickle.loads(pickle.dumps(ours))


@given(st.integers(1, 12), st.integers(0, 63))
def test_keys_that_share_low_bits_are_told_apart(bits: int, shift: int) -> None:
    keys = [(i << shift) - (1 << 63) for i in range(1 << bits) if i << shift < 1 << 64]
    table = IntMap((key, key) for key in keys)
    for key in keys[::2]:
        del table[key]
    assert [table.find(key) for key in keys] == [
        None if i % 2 == 0 else key for i, key in enumerate(keys)
    ]


def test_what_is_no_key() -> None:
    table = IntMap({1: "one"})
    for wrong in (1 << 63, -(1 << 63) - 1):
        with pytest.raises(OverflowError):
            table[wrong] = "x"
        with pytest.raises(OverflowError):
            table.find(wrong)
        assert wrong not in table
        assert table.get(wrong, "none") == "none"
    for other in ("1", None, 1.5):
        with pytest.raises(TypeError):
            table[other] = "x"  # type: ignore[index]
        assert other not in table
    with pytest.raises(KeyError):
        table[2]
    with pytest.raises(KeyError):
        table.pop(2)
    assert table == {1: "one"}
    assert table != {1: "two"}
    assert repr(table) == "IntMap({1: 'one'})"


class Value:
    """Something that can be referred to weakly, and tells what it finds when it ends."""

    def __init__(self, table: IntMap[Value] | None = None) -> None:
        self.table = table
        self.found: list[bool] = []

    def __del__(self) -> None:
        if self.table is not None:
            self.found.append(self.table.find(1) is None)


def test_values_are_let_go() -> None:
    table: IntMap[Value] = IntMap()
    for take_out in (
        lambda: table.pop(1),
        lambda: table.__delitem__(1),
        lambda: table.__setitem__(1, Value()),
        table.clear,
    ):
        table[1] = value = Value()
        gone = weakref.ref(value)
        del value
        assert gone() is table.find(1)
        take_out()
        assert gone() is None


def test_values_end_with_the_map() -> None:
    value = Value()
    gone = weakref.ref(value)
    table = IntMap({1: value})
    del value
    assert gone() is table[1]
    del table
    assert gone() is None


def test_what_ends_finds_the_map_without_it() -> None:
    table: IntMap[Value] = IntMap()
    for take_out in (lambda: table.pop(1), table.clear):
        table[1] = value = Value(table)
        found = value.found
        del value
        take_out()
        assert found == [True]


def test_a_circle_is_collected() -> None:
    table: IntMap[object] = IntMap()
    holder = Value()
    gone = weakref.ref(holder)
    table[1] = [table, holder]
    del table, holder
    assert gone() is not None
    gc.collect()
    assert gone() is None
