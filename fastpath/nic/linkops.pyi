from fastpath.base.batch import FrameBatch

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
def dgram_read(
    fd: int, batch: FrameBatch, max_frames: int, min_bytes: int = 60
) -> tuple[int, int]: ...
def dgram_write(fd: int, batch: FrameBatch, start: int) -> tuple[int, int, int]: ...
def address_runs(batch: FrameBatch, start: int = 0) -> list[tuple[int, int, int, int]]: ...
