"""Durations, rates and shares in text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.quantities import duration_ns, rate_bps, share, show_duration, show_rate


@given(st.integers(0, 10**18))
def test_a_duration_that_is_shown_is_read_back(ns: int) -> None:
    assert duration_ns(show_duration(ns)) == ns


@pytest.mark.parametrize(
    ("text", "unit", "ns"),
    [("0.1ms", "s", 100_000), ("3", "ns", 3), ("3", "s", 3 * 10**9), ("1e-9", "s", 1),
     ("2 MIN", "s", 120 * 10**9), ("4.000000001s", "s", 4 * 10**9 + 1)],
)  # fmt: skip
def test_durations_are_exact(text: str, unit: str, ns: int) -> None:
    assert duration_ns(text, unit=unit) == ns


def test_what_cannot_be_says_what_to_write() -> None:
    for wrong in (lambda: duration_ns("soon"), lambda: duration_ns("1e30")):
        with pytest.raises(ValueError, match="write 20ms"):
            wrong()
    for text in ("0", "0.4", "10MB", "1e40", "fast"):
        with pytest.raises(ValueError, match="as 10Mbit"):
            rate_bps(text)
    for text in ("101%", "1.1", "half", "0.5.1"):
        with pytest.raises(ValueError, match=r"write 2% or 0\.02"):
            share(text)


def test_rates_and_shares() -> None:
    assert [rate_bps(text) for text in ("9600", "10Mbit", "2.5G", "1e9")] == [
        9600, 10**7, 2_500_000_000, 10**9,
    ]  # fmt: skip
    assert [show_rate(bps) for bps in (9600, 10**7, 2_500_000_000, 12)] == [
        "9.6 kbit/s", "10 Mbit/s", "2.5 Gbit/s", "12 bit/s",
    ]  # fmt: skip
    assert [share(text) for text in ("2%", "0.02", "100 %", "0")] == [0.02, 0.02, 1.0, 0.0]
