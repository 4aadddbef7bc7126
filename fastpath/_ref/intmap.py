"""A dict whose keys are 64-bit ints: the twin of ``fastpath.base.intmap``."""

from __future__ import annotations

from typing import TypeVar

V = TypeVar("V")


class IntMap(dict[int, V]):
    """A dict with int keys of 64 bits."""

    def find(self, key: int) -> V | None:
        """The value of `key`, or None."""
        if not -(1 << 63) <= key < 1 << 63:
            raise OverflowError(f"IntMap: {key} has more than 64 bits")
        return self.get(key)

    def __setitem__(self, key: int, value: V) -> None:
        if not -(1 << 63) <= key < 1 << 63:
            raise OverflowError(f"IntMap: {key} has more than 64 bits")
        super().__setitem__(key, value)
