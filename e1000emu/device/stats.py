"""The statistics registers (SDM 13.7): counted by the engines, read-clear, sticky at FFFFFFFF.

The counters themselves are the compiled `Stats`; this file names them for reports.
"""

from __future__ import annotations

from e1000emu.registers.regs import STATISTICS, reg
from fastpath.nic.regfile import Stats

__all__ = ["STATISTICS", "Stats", "describe_statistics", "load_statistics"]


def describe_statistics() -> dict[str, str]:
    """Return what each statistics register counts, by name in the order of the offsets."""
    return {name: reg(name).title for name in STATISTICS}


def load_statistics(stats: Stats, saved: dict[str, int]) -> None:
    """Take back `Stats.as_dict()`; one that is not in it is 0.  Raises: OverflowError."""
    stats.reset()
    known = set(stats)
    for name, value in saved.items():
        if name in known:
            stats[name] = value
