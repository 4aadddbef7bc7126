"""Twin of ``fastpath.net.udp_batches`` on plain values: merging rows and reading merged ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SKB_OVERHEAD = 256


def fold(
    rows: Sequence[tuple[bytes, Any]], start: int, room: int, most: int, *,
    head_len: int, largest: int, small_room: int, small_bytes: int, pool_bytes: int,
) -> tuple[int, int, bytes, int]:  # fmt: skip
    """(rows merged, size of each, their bytes, truesize); none if fewer than two merge."""
    nothing = 0, 0, b"", 0
    if start < 0 or start >= len(rows):
        return nothing
    first, address = rows[start]
    size = len(first)
    if not 0 < size <= largest:
        return nothing
    most = min(most, (0xFFFF - 8 - head_len) // size)
    taken: list[bytes] = []
    truesize = 0
    for data, to in rows[start:]:
        if len(taken) >= most or room <= 0 or to != address or not 0 < len(data) <= size:
            break
        one = SKB_OVERHEAD + (small_bytes if len(data) <= small_room else pool_bytes)
        truesize += one
        room -= one
        taken.append(data)
        if len(data) < size:
            break
    if len(taken) < 2:
        return nothing
    return len(taken), size, b"".join(taken), truesize


@dataclass(slots=True)
class Merged:
    """A packet in a receive queue: datagrams of `size` bytes (0: it is one datagram)."""

    data: bytes
    size: int
    sender: Any

    def datagrams(self) -> list[bytes]:
        """The packet's datagrams."""
        if not self.size:
            return [self.data]
        return [self.data[i : i + self.size] for i in range(0, len(self.data), self.size)]


def take(queue: Sequence[Merged], rooms: Sequence[int], most: int) -> list[tuple[bytes, Any]]:
    """(bytes that fit, sender) of up to `most` datagrams; `rooms`: sizes of the buffers."""
    waiting = [(data, packet.sender) for packet in queue for data in packet.datagrams()]
    return [
        (data[:room], sender)
        for room, (data, sender) in list(zip(rooms, waiting, strict=False))[:most]
    ]
