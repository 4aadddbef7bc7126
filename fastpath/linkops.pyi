"""Stub of the compiled module; the docstrings are in linkops.pyx."""

from fastpath.batch import FrameBatch

def epb_encode(
    batch: FrameBatch,
    start: int,
    stop: int,
    interface: int,
    now_ns: int,
    epoch_ns: int,
    direction: int,
    snap_bytes: int,
) -> bytes: ...
def tap_read(
    fd: int, batch: FrameBatch, max_frames: int, header_bytes: int = 0, min_bytes: int = 60
) -> tuple[int, int]: ...
def tap_write(
    fd: int, batch: FrameBatch, start: int, header_bytes: int = 0
) -> tuple[int, int, int]: ...
def address_runs(batch: FrameBatch, start: int = 0) -> list[tuple[int, int, int, int]]: ...
