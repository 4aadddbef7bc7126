"""The free list of batches."""

from __future__ import annotations

from e1000emu.links.pool import KEEP_BYTES, BatchPool


def test_batch_comes_back_empty_and_is_used_again() -> None:
    pool = BatchPool()
    batch = pool.get()
    batch.append(b"x" * 60)
    pool.put(batch)
    again = pool.get()
    assert again is batch
    assert len(again) == 0
    assert pool.made == 1


def test_pool_keeps_neither_too_many_nor_too_large() -> None:
    pool = BatchPool(keep=2)
    batches = [pool.get() for _ in range(4)]
    for batch in batches:
        pool.put(batch)
    assert {id(pool.get()) for _ in range(2)} <= {id(b) for b in batches}
    large = BatchPool()
    batch = large.get()
    while batch.nbytes <= KEEP_BYTES:
        batch.append(bytes(1 << 20))
    large.put(batch)
    assert large.get() is not batch
