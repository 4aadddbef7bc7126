"""Destination address selection (RFC 6724 6): in which order a name's addresses are tried.

No I/O: the caller provides the source address that the host would use for each destination. IPv4
addresses are v4-mapped. getaddrinfo calls `destination_sort`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from stack.core.rows import wide
from stack.ipv6.addr import (
    IPV6_ADDR_SCOPE_GLOBAL,
    IPV6_ADDR_SCOPE_LINKLOCAL,
    ipv6_addr_diff,
    ipv6_addr_scope,
    ipv6_addr_v4mapped,
)
from stack.ipv6.addrlabel import ip6addrlbl_table

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The source address a host would use for a destination, and what is known of it.

    `addr` is a 128-bit int (v4-mapped for IPv4), `prefix_len` the length of its prefix (at most 32
    for IPv4), `native` False when packets would be sent in a tunnel.
    """

    addr: wide
    prefix_len: int = 64
    deprecated: bool = False
    home: bool = False
    native: bool = True


def destination_scope(addr: wide) -> int:
    """RFC 6724 3.1, 3.2: the scope; of IPv4 addresses loopback and 169.254/16 are link-local."""
    if not ipv6_addr_v4mapped(addr):
        return ipv6_addr_scope(addr)
    v4 = addr & 0xFFFFFFFF
    if v4 >> 24 == 127 or v4 >> 16 == 0xA9FE:
        return IPV6_ADDR_SCOPE_LINKLOCAL
    return IPV6_ADDR_SCOPE_GLOBAL


def destination_key(
    table: ip6addrlbl_table, daddr: wide, source: SourceChoice | None
) -> tuple[int, ...]:
    """The sort key of a destination by rules 1 to 8; the smallest comes first."""
    if source is None:
        return (1,)  # rule 1: avoid unusable destinations
    row = table.lookup(daddr)
    scope = destination_scope(daddr)
    return (
        0,
        scope != destination_scope(source.addr),  # rule 2: matching scope
        source.deprecated,  # rule 3
        not source.home,  # rule 4
        row.label != table.lookup(source.addr).label,  # rule 5: matching label
        -row.precedence,  # rule 6
        not source.native,  # rule 7
        scope,  # rule 8: smaller scope
    )


def common_prefix(daddr: wide, source: SourceChoice) -> int:
    """Rule 9's length: bits of the destination that match the source, at most its prefix.

    For IPv4 it counts only within the source's own network. Beyond that similar addresses do not
    mean a short distance, and the name server's order is better.
    """
    if ipv6_addr_v4mapped(daddr):
        plen = 96 + source.prefix_len
        return plen if ipv6_addr_diff(daddr, source.addr) >= plen else 0
    return min(ipv6_addr_diff(daddr, source.addr), source.prefix_len)


def destination_sort(
    destinations: Iterable[T],
    address: Callable[[T], wide],
    source: Callable[[T], SourceChoice | None],
    table: ip6addrlbl_table | None = None,
) -> list[T]:
    """The destinations in the order to try them; equal ones stay in their order (rule 10).

    `address` returns a destination's 128-bit address, `source` the source address for it (None:
    no route, or no address).
    """
    rows = table if table is not None else ip6addrlbl_table()
    decorated: list[tuple[tuple[int, ...], int, T]] = []
    for item in destinations:
        daddr, choice = address(item), source(item)
        match = common_prefix(daddr, choice) if choice is not None else 0
        decorated.append((destination_key(rows, daddr, choice), -match, item))
    # Addresses of two families never have equal keys: precedence or label tells them apart.
    decorated.sort(key=lambda d: d[:2])
    return [d[2] for d in decorated]
