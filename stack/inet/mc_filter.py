"""Source filters of a multicast group, and the reports of their changes to routers.

The kernel has this code once per family (ip_sf_list in net/ipv4/igmp.c, ip6_sf_list in
net/ipv6/mcast.c). The filters of a group's listeners are merged by RFC 3376 3.2 and RFC 3810 4.2;
changes are reported by RFC 3376 5.1 and RFC 3810 6.1. Addresses are ints of either family.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stack.core.errors import os_error
from stack.core.rows import row, state, wide
from stack.core.sockopt_table import SockOpt, opt_struct, structure

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
        """Whether the filter blocks every source, because there is no listener."""
        return self.mode == MCAST_INCLUDE and not self.sources

    def wants(self, source: wide) -> bool:
        """Whether packets of `source` are accepted."""
        return (source in self.sources) == (self.mode == MCAST_INCLUDE)


NOBODY = mc_state(MCAST_INCLUDE, frozenset())
ANY_SOURCE = mc_state(MCAST_EXCLUDE, frozenset())


def need_sources(count: int, limit: int, sysctl: str) -> None:
    """Check a filter's number of sources. Raises: OSError ENOBUFS."""
    if count > limit:
        raise os_error(errno.ENOBUFS, f"{sysctl} reached")


@state
class ip_mc_socklist:
    """struct ip_mc_socklist, ipv6_mc_socklist: one multicast membership of a socket.

    `sflist`: the sources of the filter of mode `sfmode`. `filtered`: there is a list, possibly
    empty.
    """

    multiaddr: wide
    ifindex: int
    sfmode: int
    sflist: list[wide] = row(make=list)
    filtered: bool = row(False)

    def state(self) -> mc_state:
        """The filter."""
        return mc_state(self.sfmode, frozenset(self.sflist))

    def set_mode(self, mode: int) -> None:
        """Change the mode. Raises: OSError EINVAL: the list of the other mode has been made."""
        if self.sfmode != mode and self.filtered:
            raise os_error(errno.EINVAL, "the membership has the other mode")
        self.sfmode = mode

    def edit(self, add: bool, source: wide, limit: int, sysctl: str) -> None:
        """Put a source on the list, or take it off; `limit`: the value of `sysctl`.

        Raises: OSError EADDRNOTAVAIL: it is listed already, or is not; ENOBUFS.
        """
        if not add:
            if source not in self.sflist:
                raise os_error(errno.EADDRNOTAVAIL, "this source is not listed")
            self.sflist.remove(source)
            return
        need_sources(len(self.sflist) + 1, limit, sysctl)
        self.filtered = True
        if source in self.sflist:
            raise os_error(errno.EADDRNOTAVAIL, "this source is listed already")
        self.sflist.append(source)

    def replace(self, mode: int, sources: Collection[wide]) -> None:
        """Set mode and list at once."""
        self.sfmode = mode
        self.sflist = list(dict.fromkeys(sources))
        self.filtered = bool(self.sflist)


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
        """Whether any listener accepts packets of `source`."""
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
GroupRecord = tuple[int, wide, tuple[wide, ...]]
"""A record of a report: its type, group and sources."""
REPORT_LEN = 8  # a report without records


def mc_reports(kind: int, records: Iterable[GroupRecord], room: int, size: int) -> Iterator[bytes]:
    """The messages of IGMPv3 or MLDv2 that report `records`, each of at most `room` bytes.

    `kind`: the message's type; `size`: bytes of an address. The checksum is 0. A record that does
    not fit is cut between its sources. A record of excluded sources is sent once, with as many as
    fit: a second one would replace the first (RFC 3376 4.2.16, RFC 3810 5.2.15).
    """
    limit = max((room - REPORT_LEN - 4 - size) // size, 1)
    report = bytearray()
    for record, group, sources in records:
        if record in (MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE):
            sources = sources[:limit]
        for start in range(0, max(len(sources), 1), limit):
            part = sources[start : start + limit]
            data = bytes((record, 0)) + len(part).to_bytes(2, "big")
            data += b"".join(addr.to_bytes(size, "big") for addr in (group, *part))
            if report and len(report) + len(data) > room:
                yield bytes(report)
                report = bytearray()
            if not report:
                report += bytes((kind, 0, 0, 0, 0, 0, 0, 0))
            report += data
            report[6:8] = (int.from_bytes(report[6:8], "big") + 1).to_bytes(2, "big")
    if report:
        yield bytes(report)


def mc_time_code(code: int) -> int:
    """IGMPV3_QQIC, IGMPV3_MRC, mldv2_qqic: the time of an 8-bit code (RFC 3376 4.1.1)."""
    if code < 0x80:
        return code
    return (code & 0xF | 0x10) << ((code >> 4 & 7) + 3)


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
        changed = sorted(self.sources)
        self.sources = {s: count - 1 for s, count in self.sources.items() if count > 1}
        if self.mode_count:
            self.mode_count -= 1
            kind = CHANGE_TO_EXCLUDE if now.mode == MCAST_EXCLUDE else CHANGE_TO_INCLUDE
            return [(kind, tuple(sorted(now.sources)))]
        allow = tuple(s for s in changed if now.wants(s))
        block = tuple(s for s in changed if not now.wants(s))
        out: list[Record] = []
        if allow:
            out.append((ALLOW_NEW_SOURCES, allow))
        if block:
            out.append((BLOCK_OLD_SOURCES, block))
        return out


def current_record(now: mc_state, asked: Collection[wide] = ()) -> Record | None:
    """The answer to a query of the group (RFC 3376 5.2, RFC 3810 6.2).

    `asked`: the sources of a group-and-source-specific query; the answer names those of them that
    are wanted, or, as Linux's does, all that are refused. None: no answer is due.
    """
    if asked and now.mode == MCAST_EXCLUDE:
        if now.sources.issuperset(asked):
            return None
    elif asked:
        wanted = tuple(sorted(s for s in asked if now.wants(s)))
        return (MODE_IS_INCLUDE, wanted) if wanted else None
    if now.empty:
        return None
    kind = MODE_IS_EXCLUDE if now.mode == MCAST_EXCLUDE else MODE_IS_INCLUDE
    return kind, tuple(sorted(now.sources))


@state
class mc_group:
    """A group that an interface listens to: what struct ip_mc_list and ifmcaddr6 have.

    `filter` counts the listeners and their sources, `changes` are reports still to be sent.
    `gsquery` are the sources that a specific query asked about. `loaded`: the group is in the NIC's
    filter.
    """

    filter: mc_filter = row(make=mc_filter)
    changes: mc_changes = row(make=mc_changes)
    gsquery: frozenset[wide] = row(make=frozenset)
    loaded: bool = row(False)

    def change(self, old: mc_state | None, new: mc_state | None) -> mc_state:
        """Replace a listener's filter `old` by `new`; returns the group's earlier one.

        `old` None: the listener joins. `new` None: it leaves.
        """
        before = self.filter.state()
        if old is not None:
            self.filter.remove(*old)
        if new is not None:
            self.filter.add(*new)
        return before

    def answer(self) -> list[Record]:
        """The records that answer the queries of the group; none is asked any more."""
        record = current_record(self.filter.state(), self.gsquery)
        self.gsquery = frozenset()
        return [record] if record is not None else []


# --- options for either family (RFC 3678) --------------------------------------------------------
# The structures are those of Linux on a 64-bit machine: `group_req` and `group_source_req` (index,
# padding, sockaddr_storage), `group_filter`.

STORAGE = 128  # sizeof(struct sockaddr_storage)
GROUP_REQ = 8 + STORAGE
GROUP_SOURCE_REQ = 8 + 2 * STORAGE
GROUP_FILTER = 8 + STORAGE + 8


def group_index(data: bytes) -> int:
    """The interface in each of these structures."""
    index: int = struct.unpack_from("=i", data)[0]
    return index


def group_filter(
    optval: Any, sockaddr: Callable[[bytes], Any], limit: int, sysctl: str
) -> tuple[int, Any, int, list[Any]]:
    """Interface, group, mode and sources of a struct group_filter.

    `sockaddr`: reads a family's address; `limit`: of sources, the value of `sysctl`. Raises:
    OSError EINVAL, ENOBUFS, and what `sockaddr` raises.
    """
    data = opt_struct(optval, GROUP_FILTER)
    mode, count = struct.unpack_from("=II", data, 8 + STORAGE)
    need_sources(count, limit, sysctl)
    data = opt_struct(data, GROUP_FILTER + STORAGE * count)
    group = sockaddr(data[8:])
    sources = [sockaddr(data[GROUP_FILTER + STORAGE * i :]) for i in range(count)]
    return group_index(data), group, mode, sources


def mcast_options(
    suffix: str,
    membership: Callable[..., None],
    join: Callable[..., Any],
    leave: Callable[..., Any],
    source: Callable[..., None],
    msfilter: Callable[..., None],
) -> tuple[SockOpt, ...]:
    """The rows of one family: `membership(join or leave, ...)`, `source(add, mode, ...)`."""
    # fmt: off
    return (
        structure(f"MCAST_BLOCK_SOURCE{suffix}", "block one source of a group of either family",
            source, True, MCAST_EXCLUDE),
        structure(f"MCAST_JOIN_GROUP{suffix}", "join a group of either family", membership, join),
        structure(f"MCAST_JOIN_SOURCE_GROUP{suffix}",
            "join one source of a group of either family", source, True, MCAST_INCLUDE),
        structure(f"MCAST_LEAVE_GROUP{suffix}", "leave a group of either family",
            membership, leave),
        structure(f"MCAST_LEAVE_SOURCE_GROUP{suffix}", "leave one source of a group of either "
            "family", source, False, MCAST_INCLUDE),
        structure(f"MCAST_MSFILTER{suffix}", "set the source filter of a group", msfilter),
        structure(f"MCAST_UNBLOCK_SOURCE{suffix}",
            "unblock one source of a group of either family", source, False, MCAST_EXCLUDE),
    )
    # fmt: on
