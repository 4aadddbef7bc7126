"""Segments of a connection merged for a TAP: the plain-Python twin of ``fastpath.nic.tap_gro``."""

from __future__ import annotations

from typing import Any

from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.gso import pseudo_header

HAS_FCS, UNFIT = 1, 2 | 4 | 8 | 16 | 32 | 64 | 128
FIN_PSH, ACK, ECE = 0x09, 0x10, 0x40
RUN_FRAMES = 64
L3 = 14


def _frame(batch: Any, i: int) -> bytes:
    """Frame `i` without its FCS; empty if it may not be merged."""
    data: bytes = batch[i]
    if batch.flags(i) & UNFIT:
        return b""
    return data[:-4] if batch.flags(i) & HAS_FCS else data


def _offsets(frame: bytes) -> tuple[int, int]:
    """Where TCP and its payload begin in a segment that may be merged; (0, 0) in another."""
    ethertype, ip = frame[12:14], frame[L3:]
    if len(frame) < L3 + 40:
        return 0, 0
    if ethertype == b"\x08\0":
        l4, length = L3 + 20, int.from_bytes(ip[2:4], "big")
        fits = ip[0] == 0x45 and ip[9] == 6 and not int.from_bytes(ip[6:8], "big") & 0x3FFF
    elif ethertype == b"\x86\xdd":
        l4, length = L3 + 40, int.from_bytes(ip[4:6], "big") + 40
        fits = ip[0] >> 4 == 6 and ip[6] == 6 and len(frame) >= l4 + 20
    else:
        return 0, 0
    if not fits or L3 + length != len(frame):
        return 0, 0
    pay = l4 + (frame[l4 + 12] >> 4) * 4
    if not l4 + 20 <= pay < len(frame) or frame[l4 + 13] & ~(FIN_PSH | ECE) != ACK:
        return 0, 0
    return l4, pay


def _sound(frame: bytes, l4: int) -> bool:
    """Whether the checksums are correct."""
    if l4 == L3 + 20 and csum_fold(csum_partial(frame[L3:l4])):
        return False
    pseudo = pseudo_header(frame[L3:], 6, len(frame) - l4)
    return not csum_fold(csum_partial(pseudo + frame[l4:]))


def _constant(frame: bytes, l4: int, pay: int, k: int) -> bytes:
    """The headers of the k-th segment, with variable fields set as in the first."""
    h = bytearray(frame[:pay])
    if l4 == L3 + 20:
        ident = int.from_bytes(h[L3 + 4 : L3 + 6], "big") - k & 0xFFFF
        h[L3 + 4 : L3 + 6] = ident.to_bytes(2, "big")
        h[L3 + 2 : L3 + 4] = h[L3 + 10 : L3 + 12] = bytes(2)
    else:
        h[L3 + 4 : L3 + 6] = bytes(2)
    h[l4 + 4 : l4 + 8] = bytes(4)
    h[l4 + 13] &= ~FIN_PSH
    h[l4 + 16 : l4 + 18] = bytes(2)
    return bytes(h)


def merged(batch: Any, start: int = 0) -> tuple[int, int, int, bytes]:
    """(frames, offset of TCP, payload per segment, super-packet) of frames from `start` on."""
    if not 0 <= start < len(batch):
        raise IndexError(f"merged: frame {start} of a batch of {len(batch)}")
    alone = 1, 0, 0, b""
    first = _frame(batch, start)
    l4, pay = _offsets(first)
    if not l4 or first[l4 + 13] & FIN_PSH or not _sound(first, l4):
        return alone
    same, seq = _constant(first, l4, pay, 0), int.from_bytes(first[l4 + 4 : l4 + 8], "big")
    mss, data, frames, flags = len(first) - pay, first[pay:], 1, first[l4 + 13]
    while start + frames < len(batch) and frames < RUN_FRAMES:
        frame = _frame(batch, start + frames)
        if _offsets(frame) != (l4, pay) or _constant(frame, l4, pay, frames) != same:
            break
        size = len(frame) - pay
        if int.from_bytes(frame[l4 + 4 : l4 + 8], "big") != (seq + len(data)) & 0xFFFFFFFF:
            break
        if size > mss or pay - L3 + len(data) + size > 65535 or not _sound(frame, l4):
            break
        data += frame[pay:]
        flags = frame[l4 + 13]
        frames += 1
        if size < mss or flags & FIN_PSH:
            break
    if frames == 1:
        return alone
    h = bytearray(first[:pay])
    length = pay - l4 + len(data)
    if l4 == L3 + 20:
        h[L3 + 2 : L3 + 4] = (length + 20).to_bytes(2, "big")
        h[L3 + 10 : L3 + 12] = bytes(2)
        h[L3 + 10 : L3 + 12] = csum_fold(csum_partial(bytes(h[L3:l4]))).to_bytes(2, "big")
    else:
        h[L3 + 4 : L3 + 6] = length.to_bytes(2, "big")
    h[l4 + 13] = flags
    seed = ~csum_fold(csum_partial(pseudo_header(bytes(h[L3:]), 6, length))) & 0xFFFF
    h[l4 + 16 : l4 + 18] = seed.to_bytes(2, "big")
    return frames, l4, mss, bytes(h) + data
