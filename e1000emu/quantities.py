"""Durations, rates and shares as people write them: `20ms`, `10Mbit`, `2%`.

Without a unit a duration is in seconds, a rate in bits per second, a share a part of 1. `1e9` and
`2.5` are numbers too. Each function raises ValueError, which says what to write.
"""

from __future__ import annotations

import re
from decimal import Decimal

MS_NS, SECOND_NS = 10**6, 10**9
DURATIONS = {"ns": 1, "us": 10**3, "ms": MS_NS, "s": SECOND_NS}
DURATIONS |= {"min": 60 * SECOND_NS, "h": 3600 * SECOND_NS}
"""Nanoseconds of each unit; `µs` is `us` too."""
PREFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
LONGEST_NS = 1 << 62
NUMBER = r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?)"
DURATION = re.compile(NUMBER + r"\s*(ns|[uµμ]s|ms|s|min|h)?\s*", re.IGNORECASE)
RATE = re.compile(NUMBER + r"\s*([kmgt]?)(?:bit|bits|bit/s|bits/s|bps)?\s*", re.IGNORECASE)
SHARE = re.compile(NUMBER + r"\s*(%?)\s*", re.IGNORECASE)


def duration_ns(text: str, *, unit: str = "s") -> int:
    """Return the nanoseconds of `20ms`; a number alone counts in `unit`."""
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration; write 20ms, 1.5s or 100us")
    found = (match[2] or unit).lower().replace("µ", "u").replace("μ", "u")
    ns = round(Decimal(match[1]) * DURATIONS[found])
    if ns > LONGEST_NS:
        raise ValueError(f"{text!r} is more than a hundred years; write 20ms or 1.5s")
    return ns


def rate_bps(text: str) -> int:
    """Return the bits per second of `10Mbit`, `10M` or `1e7`: 1 or more; prefixes are 1000s."""
    match = RATE.fullmatch(text)
    bps = round(Decimal(match[1]) * PREFIXES[match[2].lower()]) if match else 0
    if match is None or not 1 <= bps <= 10**15:
        raise ValueError(f"{text!r} is no rate; write bits per second, as 10Mbit, 2.5G or 1e9")
    return bps


def share(text: str, *, most: float = 1.0) -> float:
    """Return the part of 1 that `2%` or `0.02` is, 0 to `most`."""
    match = SHARE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no share; write 2% or 0.02")
    found = float(Decimal(match[1]) / (100 if match[2] else 1))
    if found > most:
        raise ValueError(f"{text!r} is more than {most:.0%}; write 2% or 0.02")
    return found


def show_duration(ns: int) -> str:
    """Return `20ms` for a whole number of a unit, the largest of s, ms, us and ns that is one."""
    for unit in ("s", "ms", "us"):
        if ns % DURATIONS[unit] == 0:
            return f"{ns // DURATIONS[unit]}{unit}"
    return f"{ns}ns"


def show_rate(bps: float) -> str:
    """Return `10 Mbit/s`, with four digits."""
    for prefix, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if bps >= factor:
            return f"{bps / factor:.4g} {prefix}bit/s"
    return f"{bps:.4g} bit/s"
