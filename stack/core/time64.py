"""include/vdso/time64.h: units of time. Clocks and timers count nanoseconds."""

from __future__ import annotations

NSEC_PER_USEC = 1_000
NSEC_PER_MSEC = 1_000_000
NSEC_PER_SEC = 1_000_000_000
USEC_PER_SEC = 1_000_000
TICK_NS = NSEC_PER_SEC // 100
"""USER_HZ is 100: the unit of ages and lifetimes that applications see."""
