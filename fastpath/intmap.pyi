from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Generic, TypeVar

V = TypeVar("V")
D = TypeVar("D")

class IntMap(Generic[V]):
    """A dict with int keys of 64 bits, in the order in which they came. `items` to begin with.

    Raises OverflowError for a longer key, TypeError for what is no int.
    """

    def __init__(self, items: Mapping[int, V] | Iterable[tuple[int, V]] = ()) -> None: ...
    def find(self, key: int) -> V | None:
        """The value of `key`, or None."""

    def __getitem__(self, key: int) -> V: ...
    def __setitem__(self, key: int, value: V) -> None: ...
    def __delitem__(self, key: int) -> None: ...
    def __contains__(self, key: object) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...
    def get(self, key: int, default: V | None = None) -> V | None:
        """The value of `key`, or `default`."""

    def setdefault(self, key: int, default: V) -> V:
        """The value of `key`, which is `default` from now on when there was none."""

    def pop(self, key: int, default: V | D = ...) -> V | D:
        """Take `key` out: its value, or `default`. Raises KeyError without one."""

    def clear(self) -> None:
        """Take everything out."""

    def keys(self) -> KeysView[int]:
        """As dict.keys()."""

    def values(self) -> ValuesView[V]:
        """As dict.values()."""

    def items(self) -> ItemsView[int, V]:
        """As dict.items()."""
