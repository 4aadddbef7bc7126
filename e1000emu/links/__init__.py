"""What a NIC's frames travel over: one file for each kind; middleware wraps a link and is one."""

from e1000emu.links.base import LinkStats
from e1000emu.links.pair import PairEnd, pair

__all__ = ["LinkStats", "PairEnd", "pair"]
