"""Reusable frame batches: a consumer returns its batch, a sender takes an empty one."""

from __future__ import annotations

from fastpath.nic.cable import KEEP_BYTES, BatchPool, shared

__all__ = ["KEEP_BYTES", "BatchPool", "get", "put"]

# Empty batches carry no state, so all links of a process share one free list.
get = shared.get
put = shared.put
