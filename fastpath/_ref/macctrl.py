"""The searches of ``fastpath.nic.macctrl`` in plain Python: MAC control frames, magic packets."""

from __future__ import annotations

from collections.abc import Sequence


def find_mac_control(batch: Sequence[bytes], start: int, ethertype: int) -> int:
    """Return the index of the first frame from `start` on with type `ethertype`, or len."""
    wanted = (ethertype & 0xFFFF).to_bytes(2, "big")
    for i in range(max(0, start), len(batch)):
        if batch[i][12:14] == wanted:
            return i
    return max(0, start, len(batch))


def find_magic(batch: Sequence[bytes], start: int, mac: bytes) -> int:
    """Return the index of the first frame from `start` on with the magic of `mac`, or len."""
    if len(mac) != 6:
        raise ValueError(f"mac {mac!r}: give six bytes")
    for i in range(max(0, start), len(batch)):
        if b"\xff" * 6 + 16 * mac in batch[i][12:]:
            return i
    return max(0, start, len(batch))
