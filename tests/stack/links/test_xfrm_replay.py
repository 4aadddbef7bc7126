"""The replay window against a plain twin, which keeps every number that came."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stack.netlink.nlattr import Attrs
from stack.netlink.xfrm_user import get_replay, put_esn
from stack.xfrm.xfrm_replay import (
    GOOD,
    OLD,
    TWICE,
    xfrm_replay,
    xfrm_replay_advance,
    xfrm_replay_check,
    xfrm_replay_overflow,
    xfrm_replay_seqhi,
)
from stack.xfrm.xfrm_state import XFRM_STATE_ESN
from tests.support import examples

STEPS = st.lists(st.integers(-150, 150), max_size=80)


@given(
    steps=STEPS, window=st.integers(1, 128), start=st.integers(0, 1 << 33), genuine=st.booleans()
)
@settings(max_examples=examples(300))
def test_a_window_takes_each_number_once(
    steps: list[int], window: int, start: int, genuine: bool
) -> None:
    r = xfrm_replay(window, True)
    r.seq = start
    top, seen = start, set()
    for step in steps:
        number = top + step
        if not 0 < number < 1 << 64:
            continue
        known = xfrm_replay_check(r, number)
        if number in seen and top - number < window:
            assert known == TWICE
        elif top - number >= window:
            assert known == OLD
        else:
            assert known == GOOD
            if genuine or number % 3:
                xfrm_replay_advance(r, number)
                seen.add(number)
                top = max(top, number)
        assert r.seq == top
        assert r.bitmap < 1 << window


@given(
    top=st.integers(0, 1 << 40),
    window=st.integers(1, 4096),
    ahead=st.integers(-4095, (1 << 31) - 1),
)
@settings(max_examples=examples(300))
def test_the_high_half_is_that_of_the_number_in_or_above_the_window(
    top: int, window: int, ahead: int
) -> None:
    number = top + max(ahead, 1 - window)
    if number <= 0:
        return
    r = xfrm_replay(window, True)
    r.seq = top
    assert xfrm_replay_seqhi(r, number & 0xFFFFFFFF) == number


def test_numbers_without_esn_end_and_may_wrap() -> None:
    r = xfrm_replay(32)
    r.oseq = 0xFFFFFFFE
    assert not xfrm_replay_overflow(r, False)
    assert r.oseq == 0xFFFFFFFF
    assert xfrm_replay_overflow(r, False)
    assert r.oseq == 0xFFFFFFFF
    assert not xfrm_replay_overflow(r, True)
    assert r.oseq == 0
    assert xfrm_replay_seqhi(xfrm_replay(32), 7) == 7
    assert xfrm_replay_check(r, 0) == OLD
    assert xfrm_replay_check(xfrm_replay(0), 0) == GOOD


def test_esn_ends_after_64_bits() -> None:
    r = xfrm_replay(64, True)
    r.oseq = 0xFFFFFFFF
    assert not xfrm_replay_overflow(r, False)
    assert r.oseq == 1 << 32
    r.oseq = (1 << 64) - 1
    assert xfrm_replay_overflow(r, True)


@given(window=st.integers(1, 256), top=st.integers(1, 1 << 40), bits=st.integers(0, 1 << 256))
@settings(max_examples=examples(100))
def test_a_window_of_a_message_comes_back(window: int, top: int, bits: int) -> None:
    """What is dumped can be given to a new state, as a program does that moves it."""
    r = xfrm_replay(window, True)
    r.oseq, r.seq, r.bitmap = top // 2, top, bits % (1 << window)
    state: Any = SimpleNamespace(replay=r)
    for more in (b"", b"more"):  # as in Linux, the attribute may be longer
        tb = Attrs()
        tb["XFRMA_REPLAY_ESN_VAL"] = put_esn(state) + more
        again = get_replay(tb, XFRM_STATE_ESN, 0)
        assert (again.oseq, again.seq, again.window) == (r.oseq, r.seq, r.window)
        assert again.bitmap == r.bitmap
