from collections.abc import Iterator
from typing import Generic, TypeVar, final

from fastpath.base.skbuff import sk_buff
from fastpath.net.inetkey import InetEnds
from fastpath.wide import wide

_V = TypeVar("_V")

@final
class InetHash(Generic[_V]):
    """A dict by inet_key (family, saddr, sport, daddr, dport), in the order of coming.

    A key that is none raises TypeError, ValueError or OverflowError.
    """

    def get(self, key: tuple[int, wide, int, wide, int] | None) -> _V | None:
        """The value of `key`, or None; of None, too."""

    def find(self, ends: InetEnds) -> _V | None:
        """The value of ends.key(), or None."""

    def find_skb(self, skb: sk_buff) -> _V | None:
        """The value of inet_key(skb), or None. Raises as inet_key."""

    def __getitem__(self, key: tuple[int, wide, int, wide, int], /) -> _V: ...
    def __setitem__(self, key: tuple[int, wide, int, wide, int], value: _V, /) -> None: ...
    def __delitem__(self, key: tuple[int, wide, int, wide, int], /) -> None: ...
    def __contains__(self, key: tuple[int, wide, int, wide, int], /) -> bool: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[int, wide, int, wide, int]]: ...
    def keys(self) -> list[tuple[int, wide, int, wide, int]]:
        """All keys, as a list."""

    def values(self) -> list[_V]:
        """All values, as a list."""

    def items(self) -> list[tuple[tuple[int, wide, int, wide, int], _V]]:
        """All (key, value), as a list."""

    def clear(self) -> None:
        """Take everything out."""
