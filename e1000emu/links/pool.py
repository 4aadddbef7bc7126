"""Frame batches that go round: who consumes a batch puts it back, who sends takes a fresh one."""

from __future__ import annotations

from collections import deque

from fastpath.batch import FrameBatch

__all__ = ["BatchPool", "get", "put"]

# A batch that grew past this goes back to the allocator instead of holding its arena for ever.
KEEP_BYTES = 4 << 20


class BatchPool:
    """A free list of empty batches. Safe from any thread (a deque's ends are atomic)."""

    __slots__ = ("_free", "made", "returned")

    def __init__(self, keep: int = 64) -> None:
        self._free: deque[FrameBatch] = deque(maxlen=keep)
        self.made = 0
        self.returned = 0

    def get(self) -> FrameBatch:
        """Return an empty batch. Gives ownership to the caller."""
        try:
            return self._free.pop()
        except IndexError:
            self.made += 1
            return FrameBatch()

    def put(self, batch: FrameBatch) -> None:
        """Empty `batch` and keep it for the next `get`. Takes ownership of `batch`."""
        large = batch.nbytes > KEEP_BYTES
        batch.clear()
        self.returned += 1
        if not large:
            self._free.append(batch)


# Empty batches carry no state, so all links of a process share one free list.
_shared = BatchPool()
get = _shared.get
put = _shared.put
