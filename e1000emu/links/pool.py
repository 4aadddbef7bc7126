"""Frame batches that go round: a consumer puts its batch back, a sender takes a fresh one."""

from __future__ import annotations

from fastpath.nic.cable import KEEP_BYTES, BatchPool, shared

__all__ = ["KEEP_BYTES", "BatchPool", "get", "put"]

# Empty batches carry no state, so all links of a process share one free list.
get = shared.get
put = shared.put
