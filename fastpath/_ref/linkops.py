"""Whole-batch work of the links in plain Python: the twin of ``fastpath.nic.linkops``."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

HAS_FCS, BAD_CRC, ALIGN_ERR, SYMBOL_ERR = 1, 2, 4, 8
ANY_ERR = BAD_CRC | ALIGN_ERR | SYMBOL_ERR


def epb_encode(
    batch: Any,
    start: int,
    stop: int,
    interface: int,
    now_ns: int,
    epoch_ns: int,
    direction: int,
    snap_bytes: int,
) -> bytes:
    """Return frames [start, stop) as pcapng Enhanced Packet Blocks (section 4.3), joined."""
    if not 0 <= start <= stop <= len(batch):
        raise IndexError(f"epb_encode: frames {start}..{stop} of a batch of {len(batch)}")
    out = []
    for i in range(start, stop):
        frame, marks = batch[i], batch.flags(i)
        kept = frame[:snap_bytes]
        flags = direction & 3
        flags |= 4 << 5 if marks & HAS_FCS else 0
        flags |= 1 << 24 if marks & BAD_CRC else 0
        flags |= 1 << 28 if marks & ALIGN_ERR else 0
        flags |= 1 << 31 if marks & SYMBOL_ERR else 0
        when = (batch.tstamp_ns(i) or now_ns) + epoch_ns
        padded = kept + bytes(-len(kept) % 4)
        size = 44 + len(padded)
        out.append(
            struct.pack(
                "=7I", 6, size, interface, when >> 32, when & 0xFFFFFFFF, len(kept), len(frame)
            )
            + padded
            + struct.pack("=HHIII", 2, 4, flags, 0, size)
        )
    return b"".join(out)


def dgram_read(fd: int, batch: Any, max_frames: int, min_bytes: int = 60) -> tuple[int, int]:
    """Append what waits on the datagram descriptor `fd`; return (frames, errno)."""
    frames = 0
    while frames < max_frames:
        try:
            data = os.read(fd, 65539)
        except OSError as error:
            return frames, error.errno or errno.EIO
        if not data:
            break
        batch.append(data.ljust(min_bytes, b"\0"))
        frames += 1
    return frames, 0


def dgram_write(fd: int, batch: Any, start: int) -> tuple[int, int, int]:
    """Write frames from `start` on, a datagram each; return (next index, dropped, errno)."""
    if not 0 <= start <= len(batch):
        raise IndexError(f"dgram_write: frame {start} of a batch of {len(batch)}")
    dropped, failed = 0, 0
    for i in range(start, len(batch)):
        data = batch[i]
        if batch.flags(i) & HAS_FCS:
            data = data[:-4]
        if batch.flags(i) & ANY_ERR:
            dropped += 1
            continue
        try:
            os.write(fd, data)
        except OSError as error:
            failed = error.errno or errno.EIO
            if failed in (errno.EAGAIN, errno.EWOULDBLOCK):
                return i, dropped, failed
            dropped += 1
    return len(batch), dropped, failed


def address_runs(batch: Any, start: int = 0) -> list[tuple[int, int, int, int]]:
    """Group neighbours with the same addresses: a list of (start, stop, destination, source)."""
    if not 0 <= start <= len(batch):
        raise IndexError(f"address_runs: frame {start} of a batch of {len(batch)}")
    out: list[tuple[int, int, int, int]] = []
    for i in range(start, len(batch)):
        frame = batch[i]
        key = (-1, -1)
        if len(frame) >= 14 and not batch.flags(i) & ANY_ERR:
            key = (int.from_bytes(frame[:6], "big"), int.from_bytes(frame[6:12], "big"))
        if out and out[-1][2:] == key:
            out[-1] = (out[-1][0], i + 1, *key)
        else:
            out.append((i, i + 1, *key))
    return out
