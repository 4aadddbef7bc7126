"""A TAP queue with virtio-net headers in plain Python: the twin of ``fastpath.nic.tap_gso``."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

from fastpath._ref import gso, tap_gro
from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.wire import GSO_TCPV4, GSO_TCPV6, wire_count

HAS_FCS, ANY_ERR = 1, 2 | 4 | 8
NEEDS_CSUM = 1
NONE, TCPV4, TCPV6, UDP_L4, ECN = 0, 1, 4, 5, 0x80
HEADER = struct.Struct("=BBHHHH")
ROOM = 65536 + 128


def _layout(frame: bytes, kind: int, l4: int) -> int | None:
    """Return the offset of the network header if it fits `kind` and `l4`."""
    l3, tags = 14, 0
    while frame[l3 - 2 : l3] in (b"\x81\0", b"\x88\xa8") and tags < 2:
        l3, tags = l3 + 4, tags + 1
    ethertype = frame[l3 - 2 : l3]
    proto = 17 if kind == UDP_L4 else 6
    if ethertype == b"\x86\xdd":
        direct = l4 == l3 + 40 and frame[l3 + 6] == proto
        good = frame[l3] >> 4 == 6 and (direct or l4 > l3 + 40) and kind != TCPV4
    elif ethertype == b"\x08\0":
        ihl = (frame[l3] & 15) * 4
        good = frame[l3] >> 4 == 4 and ihl >= 20 and l4 == l3 + ihl and frame[l3 + 9] == proto
        good = good and kind != TCPV6
    else:
        good = False
    return l3 if good else None


def cut(packet: bytes) -> tuple[list[bytes], str]:
    """Return the frames of a virtio_net_hdr with its frame, or the reason to drop it."""
    flags, gso_type, hdr_len, gso_size, start, offset = HEADER.unpack_from(packet)
    frame = packet[HEADER.size :]
    kind = gso_type & ~ECN
    if gso_type == NONE:
        if hdr_len > len(frame):
            return [], "vnet hdr_len"
        if not flags & NEEDS_CSUM:
            return [frame], ""
        at = start + offset
        if start >= len(frame) or at + 2 > len(frame):
            return [], "vnet csum_start"
        check = csum_fold(csum_partial(frame[start:]))
        if check == 0 and offset == 6:
            check = 0xFFFF
        return [frame[:at] + check.to_bytes(2, "big") + frame[at + 2 :]], ""
    if kind not in (TCPV4, TCPV6, UDP_L4) or gso_type == UDP_L4 | ECN:
        return [], "vnet gso_type"
    if gso_size == 0:
        return [], "vnet gso_size"
    if hdr_len > len(frame):
        return [], "vnet hdr_len"
    l4len = 8 if kind == UDP_L4 else 20
    if not flags & NEEDS_CSUM or start + l4len > len(frame):
        return [], "vnet csum_start"
    if offset != (6 if kind == UDP_L4 else 16):
        return [], "vnet csum_start"
    l3 = _layout(frame, kind, start) if len(frame) >= 34 else None
    if l3 is None:
        return [], "vnet gso headers"
    if kind != UDP_L4:
        l4len = (frame[start + 12] >> 4) * 4
        if l4len < 20 or start + l4len > len(frame):
            return [], "vnet gso headers"
    linux_type = gso.SKB_GSO_UDP_L4 if kind == UDP_L4 else gso.SKB_GSO_TCPV4
    frames = gso.segment(frame, l3, start, gso_size, linux_type)
    return [_from_seed(f, start, offset, frame) for f in frames], ""


def _from_seed(frame: bytes, l4: int, offset: int, whole: bytes) -> bytes:
    """Use the pseudo header's sum in the packet instead of computing it from addresses."""
    at = l4 + offset
    seed = int.from_bytes(whole[at : at + 2], "big") + 2 * 0xFFFF - (len(whole) - l4)
    body = frame[l4:at] + b"\0\0" + frame[at + 2 :]
    check = csum_fold(csum_partial(body, seed + len(body)))
    if check == 0 and offset == 6:
        check = 0xFFFF
    return frame[:at] + check.to_bytes(2, "big") + frame[at + 2 :]


def segment(packet: bytes, batch: Any, min_bytes: int = 60) -> str:
    """Append the frames of `packet` and return "", or the drop reason."""
    frames, reason = cut(packet)
    for frame in frames:
        batch.append(frame.ljust(min_bytes, b"\0"))
    return reason


class TapQueue:
    """Reads and writes the TAP `fd`, with a virtio_net_hdr of `header_bytes` per packet."""

    def __init__(
        self, fd: int, header_bytes: int = 0, min_bytes: int = 60, merge: bool = True
    ) -> None:
        self.fd, self.header_bytes, self.min_bytes = fd, header_bytes, min_bytes
        self.merge = merge and header_bytes > 0
        self.reads = self.writes = 0
        self.rx_frames = self.rx_bytes = self.tx_frames = self.tx_bytes = 0
        self.rx_packets = self.tx_packets = 0
        self._drops: dict[str, int] = {}

    def take_drops(self) -> dict[str, int]:
        """Return {reason: packets} that `read` dropped since the last call."""
        out, self._drops = self._drops, {}
        return out

    def _drop(self, reason: str) -> None:
        self._drops[reason] = self._drops.get(reason, 0) + 1

    def read(self, batch: Any, max_frames: int) -> tuple[int, int]:
        """Append pending frames until `batch` has `max_frames`; return (frames, errno)."""
        first = len(batch)
        failed = 0
        while len(batch) - first < max_frames:
            self.reads += 1
            try:
                data = os.read(self.fd, ROOM + self.header_bytes)
            except OSError as error:
                failed = error.errno or errno.EIO
                break
            if not data:
                break
            header = data[: self.header_bytes]
            frame = data[self.header_bytes :]
            if not frame:
                self._drop("vnet empty")
            elif len(frame) == ROOM:
                self._drop("vnet too long")
            else:
                header = header[: HEADER.size] or bytes(HEADER.size)
                reason = segment(header + frame, batch, self.min_bytes)
                if reason:
                    self._drop(reason)
                else:
                    self.rx_packets += 1
        frames, nbytes = wire_count(batch, first)
        self.rx_frames += frames
        self.rx_bytes += nbytes
        return len(batch) - first, failed

    def write(self, batch: Any, start: int = 0) -> tuple[int, int, int]:
        """Write frames from `start` on; return (next index, dropped, errno)."""
        if not 0 <= start <= len(batch):
            raise IndexError(f"TapQueue.write: frame {start} of a batch of {len(batch)}")
        end, dropped, failed = len(batch), 0, 0
        i, run = start, 0
        while i + run < len(batch):
            i, run = i + run, 1
            data, flags, mark = batch[i], batch.flags(i), batch.mark(i)
            if flags & HAS_FCS:
                data = data[:-4]
            header = bytes(self.header_bytes)
            if flags & (GSO_TCPV4 | GSO_TCPV6) and self.header_bytes:
                l4 = mark >> 24
                kind = TCPV4 if flags & GSO_TCPV4 else TCPV6
                kind |= ECN if data[l4 + 13 : l4 + 14] >= b"\x80" else 0
                header = HEADER.pack(1, kind, mark >> 16 & 0xFF, mark & 0xFFFF, l4, 16)
                header = header.ljust(self.header_bytes, b"\0")
            elif flags & (GSO_TCPV4 | GSO_TCPV6):
                flags |= ANY_ERR
            if flags & ANY_ERR:
                dropped += 1
                continue
            if self.merge:
                run, l4, mss, merged = tap_gro.merged(batch, i)
                if run > 1:
                    kind = TCPV6 if merged[12:14] == b"\x86\xdd" else TCPV4
                    pay = l4 + (merged[l4 + 12] >> 4) * 4
                    header = HEADER.pack(1, kind, pay, mss, l4, 16).ljust(self.header_bytes, b"\0")
                    data = merged
            self.writes += 1
            try:
                os.write(self.fd, header + data)
                self.tx_packets += 1
            except OSError as error:
                failed = error.errno or errno.EIO
                if failed in (errno.EAGAIN, errno.EWOULDBLOCK):
                    end = i
                    break
                dropped += run
        done = type(batch)()
        done.extend(batch, start, end)
        frames, nbytes = wire_count(done)
        self.tx_frames += frames
        self.tx_bytes += nbytes
        return end, dropped, failed
