"""The search for MAC control frames in plain Python: the twin of ``fastpath.macctrl``."""

from __future__ import annotations

from collections.abc import Sequence


def find_mac_control(batch: Sequence[bytes], start: int, ethertype: int) -> int:
    """Return the index of the first frame from `start` on with type `ethertype`, or len."""
    wanted = (ethertype & 0xFFFF).to_bytes(2, "big")
    for i in range(max(0, start), len(batch)):
        if batch[i][12:14] == wanted:
            return i
    return max(0, start, len(batch))
