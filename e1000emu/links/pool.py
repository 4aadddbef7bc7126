"""Frame batches that go round: a consumer puts its batch back, a sender takes a fresh one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.nic.cable import KEEP_BYTES, BatchPool, shared

if TYPE_CHECKING:
    from e1000emu.ports import Link
    from fastpath.base.batch import FrameBatch

__all__ = ["KEEP_BYTES", "BatchPool", "get", "put", "send_copies"]

# Empty batches carry no state, so all links of a process share one free list.
get = shared.get
put = shared.put


def send_copies(link: Link, batch: FrameBatch, start: int) -> int:
    """Send copies of the frames from `start` on; return the index of the first that has no room."""
    n = len(batch)
    # Until the link says 0, which makes it promise a tx_ready().
    while start < n and (room := link.tx_room()) > 0:
        end = min(n, start + room)
        own = get()
        own.extend(batch, start, end)
        start = end
        link.transmit(own)
    return start
