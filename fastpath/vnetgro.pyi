"""Stub of the compiled module; the docstrings are in vnetgro.pyx."""

from fastpath.batch import FrameBatch

def merged(batch: FrameBatch, start: int = 0) -> tuple[int, int, int, bytes]: ...
