"""Stub of the compiled module; the docstring is in macctrl.pyx."""

from fastpath.batch import FrameBatch

def find_mac_control(batch: FrameBatch, start: int, ethertype: int) -> int: ...
