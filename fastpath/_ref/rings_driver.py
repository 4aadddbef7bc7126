"""Plain-Python twin of ``fastpath.net.rings_driver``.

Transmit: packets as lists of (address, bytes); the twin keeps its own descriptor array. Receive:
the twin reads the ring in shared memory and returns the frames for clean(); it changes nothing.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

DD, EOP, IXSM, VP, TCPCS = 0x01, 0x02, 0x04, 0x08, 0x20
CE, SE, SEQ, CXE, TCPE, RXE = 0x01, 0x02, 0x04, 0x10, 0x20, 0x80
MAX_FRAGS = 1100


class Memory(Protocol):
    """The methods of HostMemory used by the twin."""

    def read(self, addr: int, n: int) -> bytes:
        """Bytes at a bus address."""


class TxRing:
    """Descriptors as written by the driver (SDM 3.3)."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.next_to_use = self.next_to_clean = 0
        self.ring = [bytes(16)] * count
        self.packets: deque[tuple[int, int, int, int]] = deque()
        # last descriptor, packets, bytes, bytes of the sk_buff

    def unused(self) -> int:
        """Free descriptors."""
        return (self.next_to_clean - self.next_to_use - 1) % self.count

    def _put(self, descriptor: bytes) -> int:
        at = self.next_to_use
        self.ring[at] = descriptor
        self.next_to_use = (at + 1) % self.count
        return at

    def put_context(
        self,
        ip: tuple[int, int, int],
        tu: tuple[int, int, int],
        paylen: int,
        hdrlen: int,
        mss: int,
        cmd: int,
    ) -> bool:
        """TCP/IP context descriptor (SDM 3.3.6)."""
        if not self.unused():
            return False
        word = paylen | (cmd | 0x20) << 24
        self._put(struct.pack("<BBHBBHIBBH", *ip, *tu, word, 0, hdrlen, mss))
        return True

    def map(
        self,
        pieces: list[tuple[int, int]],
        popts: int,
        cmd: int,
        vlan: int,
        step: int,
        counts: tuple[int, int],
    ) -> int:
        """Data descriptors (SDM 3.3.7); `counts` are the counts of clean() for the packet."""
        parts = [(a + o, min(step, n - o)) for a, n in pieces for o in range(0, n, step)]
        if len(parts) > self.unused():
            return -1
        cmd |= 0x20 | (0x40 if vlan >= 0 else 0)
        upper = popts << 8 | max(vlan, 0) << 16
        at = 0
        for i, (addr, n) in enumerate(parts):
            bits = cmd if i == len(parts) - 1 else cmd & ~0x09
            at = self._put(struct.pack("<QII", addr, n | 1 << 20 | bits << 24, upper))
        self.packets.append((at, *counts, sum(n for _, n in pieces)))
        return len(parts)

    def done(self, index: int) -> None:
        """The device set DD."""
        d = bytearray(self.ring[index])
        d[12] |= DD
        self.ring[index] = bytes(d)

    def clean(self) -> tuple[int, int, int]:
        """Packets, bytes and bytes of sk_buffs whose last descriptor has DD."""
        packets = size = held = 0
        while self.packets and self.ring[self.packets[0][0]][12] & DD:
            at, n, b, length = self.packets.popleft()
            packets, size, held = packets + n, size + b, held + length
            self.next_to_clean = (at + 1) % self.count
        return packets, size, held


def freed(packets: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """Calls (name, owner, truesize) of the packets' destructors; a packet with name "" has none.

    "runs" is called once for a run of packets with the same owner (free_in_runs).
    """
    calls: list[tuple[str, int, int]] = []
    for (name, owner), run in groupby(packets, key=lambda packet: packet[:2]):
        sizes = [size for _, _, size in run]
        if name:
            calls += [(name, owner, n) for n in ([sum(sizes)] if name == "runs" else sizes)]
    return calls


@dataclass(slots=True)
class Received:
    """One frame as clean() must deliver it."""

    data: bytes
    verified: bool
    vlan: int | None
    copied: bool = False


@dataclass(slots=True)
class RxVerdict:
    """The result of one clean() over the whole ring."""

    frames: list[Received] = field(default_factory=list)
    taken: int = 0
    crc_errors: int = 0
    frame_errors: int = 0
    length_errors: int = 0


def rx_clean(
    mem: Memory,
    dma: int,
    count: int,
    first: int,
    end: int,
    buf_bytes: int,
    *,
    strip_fcs: bool = True,
    copybreak: int = 0,
) -> RxVerdict:
    """Read descriptors first … end (exclusive) up to one without DD (SDM 3.2.3)."""
    out = RxVerdict()
    fcs = 4 if strip_fcs else 0
    chain: list[bytes] = []
    discard = False
    while first != end:
        addr, n, _, status, errors, special = struct.unpack(
            "<QHHBBH", mem.read(dma + 16 * first, 16)
        )
        if not status & DD:
            break
        first = (first + 1) % count
        last = bool(status & EOP)
        out.taken += last
        if n > buf_bytes:
            out.length_errors += 1
            chain, discard = [], not last
            continue
        if discard:
            discard = not last
            continue
        if last and errors & (CE | SE | SEQ | CXE | RXE):
            out.crc_errors += bool(errors & CE)
            out.frame_errors += not errors & CE
            chain = []
            continue
        copied = last and not chain and n <= copybreak
        if n or not chain:
            chain.append(mem.read(addr, n))
        if len(chain) > MAX_FRAGS + 1:
            out.length_errors += 1
            chain, discard = [], not last
            continue
        if not last:
            continue
        data, chain = b"".join(chain), []
        if len(data) < 14 + fcs:
            out.length_errors += 1
            continue
        verified = not status & IXSM and bool(status & TCPCS) and not errors & TCPE
        data = data[: len(data) - fcs]
        vlan = special if status & VP else None
        out.frames.append(Received(data, verified, vlan, copied))
    return out
