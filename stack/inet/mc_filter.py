"""Source filters of a multicast group, and the reports of their changes to routers.

The kernel has this code once per family (ip_sf_list in net/ipv4/igmp.c, ip6_sf_list in
net/ipv6/mcast.c). The filters of a group's listeners are merged by RFC 3376 3.2 and RFC 3810 4.2;
changes are reported by RFC 3376 5.1 and RFC 3810 6.1. Addresses are ints of either family.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from stack.core.rows import wide

MCAST_EXCLUDE = 0
MCAST_INCLUDE = 1

# record types of IGMPv3 (RFC 3376 4.2.12) and MLDv2 (RFC 3810 5.2.12)
MODE_IS_INCLUDE = 1
MODE_IS_EXCLUDE = 2
CHANGE_TO_INCLUDE = 3
CHANGE_TO_EXCLUDE = 4
ALLOW_NEW_SOURCES = 5
BLOCK_OLD_SOURCES = 6


class mc_state(NamedTuple):
    """An interface's filter of a group: receive all sources but `sources`, or only those."""

    mode: int
    sources: frozenset[wide]

    @property
    def empty(self) -> bool:
        """Whether the filter refuses every source, because nobody listens."""
        return self.mode == MCAST_INCLUDE and not self.sources

    def wants(self, source: wide) -> bool:
        """Whether packets of `source` are wanted."""
        return (source in self.sources) == (self.mode == MCAST_INCLUDE)


NOBODY = mc_state(MCAST_INCLUDE, frozenset())
ANY_SOURCE = mc_state(MCAST_EXCLUDE, frozenset())


@dataclass(slots=True)
class mc_filter:
    """How many of a group's listeners have each filter: struct ip_sf_list, mca_sfcount.

    `sfcount` and each source's pair of counts are indexed by MCAST_EXCLUDE and MCAST_INCLUDE.
    `wants`, which is asked for each packet, builds no set.
    """

    sfcount: list[int] = field(default_factory=lambda: [0, 0])
    sources: dict[wide, list[int]] = field(default_factory=dict)

    def add(self, mode: int, sources: Collection[wide] = ()) -> None:
        """Count the filter of a new listener."""
        self.sfcount[mode] += 1
        for source in sources:
            self.sources.setdefault(source, [0, 0])[mode] += 1

    def remove(self, mode: int, sources: Collection[wide] = ()) -> None:
        """Take back `add` of the same filter."""
        self.sfcount[mode] -= 1
        for source in sources:
            counts = self.sources[source]
            counts[mode] -= 1
            if not any(counts):
                del self.sources[source]

    @property
    def users(self) -> int:
        """Listeners of any kind."""
        return self.sfcount[0] + self.sfcount[1]

    def wants(self, source: wide) -> bool:
        """Does any listener want packets of `source`?"""
        counts = self.sources.get(source)
        excluders = self.sfcount[MCAST_EXCLUDE]
        if counts is None:
            return excluders != 0
        return counts[MCAST_INCLUDE] != 0 or counts[MCAST_EXCLUDE] != excluders

    def state(self) -> mc_state:
        """Merge the listeners' filters into the interface's (RFC 3376 3.2, RFC 3810 4.2)."""
        excluders = self.sfcount[MCAST_EXCLUDE]
        if excluders:
            blocked = (s for s, (ex, inc) in self.sources.items() if ex == excluders and not inc)
            return mc_state(MCAST_EXCLUDE, frozenset(blocked))
        return mc_state(MCAST_INCLUDE, frozenset(s for s, (_, inc) in self.sources.items() if inc))


Record = tuple[int, tuple[wide, ...]]
"""A record's type and its sources, sorted."""


@dataclass(slots=True)
class mc_changes:
    """Reports of a group's changes that are still to be sent (RFC 3376 5.1, RFC 3810 6.1).

    `mode_count` and each source's count are the reports still to send. A report has the state at
    the time when it is sent, so a later change replaces an earlier one.
    """

    mode_count: int = 0
    sources: dict[wide, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.mode_count > 0 or bool(self.sources)

    def changed(self, before: mc_state, after: mc_state, robustness: int) -> bool:
        """Note a change, to be sent in `robustness` reports; False when nothing changed."""
        if before == after:
            return False
        if before.mode != after.mode:
            self.mode_count = robustness
            self.sources.clear()
            return True
        for source in before.sources ^ after.sources:
            self.sources[source] = robustness
        return True

    def records(self, now: mc_state) -> list[Record]:
        """The records of the next report; counts it as sent."""
        if self.mode_count:
            self.mode_count -= 1
            kind = CHANGE_TO_EXCLUDE if now.mode == MCAST_EXCLUDE else CHANGE_TO_INCLUDE
            for source in tuple(self.sources):
                self._sent(source)
            return [(kind, tuple(sorted(now.sources)))]
        allow = tuple(sorted(s for s in self.sources if now.wants(s)))
        block = tuple(sorted(s for s in self.sources if not now.wants(s)))
        for source in tuple(self.sources):
            self._sent(source)
        out: list[Record] = []
        if allow:
            out.append((ALLOW_NEW_SOURCES, allow))
        if block:
            out.append((BLOCK_OLD_SOURCES, block))
        return out

    def _sent(self, source: wide) -> None:
        self.sources[source] -= 1
        if not self.sources[source]:
            del self.sources[source]


def current_record(now: mc_state, asked: Collection[wide] = ()) -> Record | None:
    """The answer to a query of the group (RFC 3376 5.2, RFC 3810 6.2).

    `asked`: the sources of a group-and-source-specific query; the answer names those of them that
    are wanted. None: no answer is due.
    """
    if asked:
        wanted = tuple(sorted(s for s in asked if now.wants(s)))
        return (MODE_IS_INCLUDE, wanted) if wanted else None
    if now.empty:
        return None
    kind = MODE_IS_EXCLUDE if now.mode == MCAST_EXCLUDE else MODE_IS_INCLUDE
    return kind, tuple(sorted(now.sources))
