"""The elements of sets (net/netfilter/nft_set_hash.c, nft_set_rbtree.c, nft_set_pipapo.c).

    nft_hash        single keys
    nft_rbtree      intervals of one field: one element for its start, another for its end
    nft_pipapo      concatenations with a range in each field: a key and the key of its end

All keys are bytes, compared like memcmp. An expired element does not match; it
is removed when the set changes or is dumped.
"""

from __future__ import annotations

import errno
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from functools import partial

from stack.netfilter.nf_tables import (
    NFT_SET_CONCAT,
    NFT_SET_ELEM_INTERVAL_END,
    NFT_SET_INTERVAL,
    nft_set,
    nft_set_elem,
)
from stack.netfilter.nft_setelem import elem_release
from stack.netlink.nlattr import NlError

WORD = 4
"""Fields of a concatenation begin at multiples of this."""


class nft_set_elems:
    """The base class of set types: struct nft_set_ops. `now()`: the clock, ns."""

    def __init__(self, now: Callable[[], int]) -> None:
        self.now = now
        self.catchall: nft_set_elem | None = None
        """The element that matches if no other does (nft_set_catchall)."""

    def __len__(self) -> int:
        raise NotImplementedError

    def walk(self) -> Iterator[nft_set_elem]:
        """Each element except the catchall, including expired ones."""
        raise NotImplementedError

    def find(self, key: bytes) -> nft_set_elem | None:
        """The element that matches a packet's key."""
        raise NotImplementedError

    def same(self, elem: nft_set_elem) -> nft_set_elem | None:
        """The existing element equal to another.

        Raises: NlError ENOTEMPTY: the new one overlaps with an existing one.
        """
        raise NotImplementedError

    def put(self, elem: nft_set_elem) -> None:
        """Insert."""
        raise NotImplementedError

    def remove(self, elem: nft_set_elem) -> None:
        """Remove an existing element."""
        raise NotImplementedError

    def undo_remove(self, elem: nft_set_elem) -> Callable[[], None]:
        """Return a function that restores an element; call this before `remove`."""
        return partial(self.put, elem)

    def deactivate(self, elem: nft_set_elem) -> nft_set_elem | None:
        """The element that a program wants to delete."""
        return self.same(elem)

    def get(self, elem: nft_set_elem) -> nft_set_elem | None:
        """The element that `nft get element` requests."""
        return self.same(elem)

    def expired(self, elem: nft_set_elem) -> bool:
        """Whether an element has expired (nft_set_elem_expired)."""
        return bool(elem.timeout) and elem.expires <= self.now()

    def lookup(self, key: bytes) -> nft_set_elem | None:
        """nft_set_ops.lookup: the element for a packet."""
        found = self.find(key)
        if found is None or self.expired(found):
            found = self.catchall
        return None if found is None or self.expired(found) else found

    def all(self) -> list[nft_set_elem]:
        """Each element, after expired ones are removed; the catchall is the last."""
        self.collect()
        return [*self.walk()] if self.catchall is None else [*self.walk(), self.catchall]

    def collect(self) -> None:
        """nft_set_gc: remove expired elements."""
        for elem in [one for one in self.walk() if self.expired(one)]:
            elem_release(elem)
            self.remove(elem)
        if self.catchall is not None and self.expired(self.catchall):
            elem_release(self.catchall)
            self.catchall = None


class nft_hash(nft_set_elems):
    """net/netfilter/nft_set_hash.c: single keys."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__(now)
        self.table: dict[bytes, nft_set_elem] = {}

    def __len__(self) -> int:
        return len(self.table)

    def walk(self) -> Iterator[nft_set_elem]:
        return iter(list(self.table.values()))

    def find(self, key: bytes) -> nft_set_elem | None:
        return self.table.get(key)

    def same(self, elem: nft_set_elem) -> nft_set_elem | None:
        return self.table.get(elem.key)

    def put(self, elem: nft_set_elem) -> None:
        self.table[elem.key] = elem

    def remove(self, elem: nft_set_elem) -> None:
        del self.table[elem.key]


class nft_rbtree(nft_set_elems):
    """net/netfilter/nft_set_rbtree.c: intervals. Adjacent ones have an end and a start."""

    def __init__(self, now: Callable[[], int]) -> None:
        super().__init__(now)
        self.order: list[tuple[bytes, bool]] = []
        """Key, and whether an interval begins there: an end comes before a beginning."""
        self.elems: list[nft_set_elem] = []

    def __len__(self) -> int:
        return len(self.elems)

    @staticmethod
    def place(elem: nft_set_elem) -> tuple[bytes, bool]:
        """An element's sort position."""
        return elem.key, not elem.flags & NFT_SET_ELEM_INTERVAL_END

    def walk(self) -> Iterator[nft_set_elem]:
        return iter(self.elems[::-1])

    def find(self, key: bytes) -> nft_set_elem | None:
        at = bisect_right(self.order, (key, True)) - 1
        if at < 0 or not self.order[at][1]:
            return None
        return self.elems[at]

    def same(self, elem: nft_set_elem) -> nft_set_elem | None:
        place = self.place(elem)
        at = bisect_left(self.order, place)
        if at < len(self.order) and self.order[at] == place:
            return self.elems[at]
        within = at and self.order[at - 1][1] and at < len(self.order) and not self.order[at][1]
        if place[1] and within:  # it would begin within an interval that has an end
            raise NlError(errno.ENOTEMPTY)
        return None

    def put(self, elem: nft_set_elem) -> None:
        place = self.place(elem)
        at = bisect_left(self.order, place)
        self.order.insert(at, place)
        self.elems.insert(at, elem)

    def remove(self, elem: nft_set_elem) -> None:
        at = bisect_left(self.order, self.place(elem))
        del self.order[at]
        del self.elems[at]

    def get(self, elem: nft_set_elem) -> nft_set_elem | None:
        """net/netfilter/nft_set_rbtree.c nft_rbtree_get: the start or end of its interval."""
        key, begins = self.place(elem)
        if begins:
            return self.find(key)
        at = bisect_left(self.order, (key, False))
        if at < len(self.order) and not self.order[at][1]:
            return self.elems[at]
        return None


class nft_pipapo(nft_set_elems):
    """net/netfilter/nft_set_pipapo.c: a range in each field. The first inserted match wins."""

    def __init__(self, now: Callable[[], int], field_len: tuple[int, ...]) -> None:
        super().__init__(now)
        self.elems: list[nft_set_elem] = []
        self.fields: list[tuple[int, int]] = []
        at = 0
        for size in field_len:
            self.fields.append((at, at + size))
            at += -(-size // WORD) * WORD

    def __len__(self) -> int:
        return len(self.elems)

    def walk(self) -> Iterator[nft_set_elem]:
        return iter(list(self.elems))

    def covers(self, elem: nft_set_elem, key: bytes) -> bool:
        """Whether an element's ranges contain a key."""
        end = elem.key if elem.key_end is None else elem.key_end
        return all(elem.key[a:b] <= key[a:b] <= end[a:b] for a, b in self.fields)

    def find(self, key: bytes) -> nft_set_elem | None:
        for elem in self.elems:
            if self.covers(elem, key) and not self.expired(elem):
                return elem
        return None

    def same(self, elem: nft_set_elem) -> nft_set_elem | None:
        low, high = elem.key, elem.key if elem.key_end is None else elem.key_end
        for one in self.elems:
            if one.key == low and (one.key_end or one.key) == high:
                return one
        for one in self.elems:
            if self.covers(one, low) or self.covers(one, high):
                raise NlError(errno.ENOTEMPTY)
        return None

    def put(self, elem: nft_set_elem) -> None:
        self.elems.append(elem)

    def remove(self, elem: nft_set_elem) -> None:
        self.elems.remove(elem)

    def undo_remove(self, elem: nft_set_elem) -> Callable[[], None]:
        return partial(self.elems.insert, self.elems.index(elem), elem)

    def deactivate(self, elem: nft_set_elem) -> nft_set_elem | None:
        """net/netfilter/nft_set_pipapo.c nft_pipapo_deactivate: the match of the lower key."""
        return self.find(elem.key)

    def get(self, elem: nft_set_elem) -> nft_set_elem | None:
        """net/netfilter/nft_set_pipapo.c nft_pipapo_get: the same."""
        return self.find(elem.key)


def nft_select_set_ops(desc: nft_set, now: Callable[[], int]) -> nft_set_elems:
    """net/netfilter/nf_tables_api.c: choose the type of a set."""
    if not desc.flags & NFT_SET_INTERVAL:
        return nft_hash(now)
    if desc.flags & NFT_SET_CONCAT:
        return nft_pipapo(now, desc.field_len)
    return nft_rbtree(now)
