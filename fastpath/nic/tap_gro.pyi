"""Stub of the compiled module; the docstrings are in tap_gro.pyx."""

from fastpath.base.batch import FrameBatch

def merged(batch: FrameBatch, start: int = 0) -> tuple[int, int, int, bytes]: ...
