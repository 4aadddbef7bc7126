from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Generic, TypeVar, final

_V = TypeVar("_V")
_D = TypeVar("_D")

@final
class IntMap(Generic[_V]):
    """A dict with int keys of 64 bits, in the order in which they came. `items` to begin with.

    Raises OverflowError for a longer key, TypeError for what is no int.
    """

    def __init__(self, items: Mapping[int, _V] | Iterable[tuple[int, _V]] = ()) -> None: ...
    def find(self, key: int) -> _V | None:
        """The value of `key`, or None."""

    def __getitem__(self, key: int, /) -> _V: ...
    def __setitem__(self, key: int, value: _V, /) -> None: ...
    def __delitem__(self, key: int, /) -> None: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __len__(self) -> int: ...
    def get(self, key: int, default: _V | None = None) -> _V | None:
        """The value of `key`, or `default`."""

    def setdefault(self, key: int, default: _V) -> _V:
        """The value of `key`, which is `default` from now on when there was none."""

    def pop(self, key: int, default: _V | _D = ...) -> _V | _D:
        """Take `key` out: its value, or `default`. Raises KeyError without one."""

    def clear(self) -> None:
        """Take everything out."""

    def keys(self) -> KeysView[int]:
        """As dict.keys()."""

    def values(self) -> ValuesView[_V]:
        """As dict.values()."""

    def items(self) -> ItemsView[int, _V]:
        """As dict.items()."""
