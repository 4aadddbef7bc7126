"""net/ipv6/addrlabel.c: the policy table of address selection (RFC 6724 2.1).

Each prefix has a precedence and a label; the longest prefix that matches an address applies. Labels
have Linux's numbers (`ip addrlabel`) and are only compared for equality. Precedences are the RFC's.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from stack.core.errors import os_error
from stack.core.rows import wide
from stack.ipv6.addr import (
    IPV6_ADDR_LOOPBACK,
    IPV6_ADDR_MAPPED,
    MASKS6,
    IPV6_ADDR_COMPATv4,
    ipv6_addr_type,
    parse_prefix6,
)


@dataclass(frozen=True, slots=True)
class ip6addrlbl_entry:
    """struct ip6addrlbl_entry: one row. `ifindex` 0: for every interface."""

    prefix: wide
    prefixlen: int
    label: int
    precedence: int = 40
    ifindex: int = 0
    addrtype: int = 0
    """The type of address, of TYPES, that alone it matches; 0: any."""


TYPES = {IPV6_ADDR_LOOPBACK: 128, IPV6_ADDR_COMPATv4: 96}
"""Types of addresses whose rows match no others, and the length that such a row has."""
TYPE_MASK = IPV6_ADDR_LOOPBACK | IPV6_ADDR_COMPATv4


def ip6addrlbl_alloc(
    prefix: wide, plen: int, label: int, precedence: int = 40, ifindex: int = 0
) -> ip6addrlbl_entry:
    """net/ipv6/addrlabel.c. Raises: OSError EINVAL: more bits than those of a mapped prefix."""
    kind = ipv6_addr_type(prefix)
    if kind & IPV6_ADDR_MAPPED and plen > 96:
        raise os_error(errno.EINVAL, "a prefix of mapped addresses has at most 96 bits")
    kind &= TYPE_MASK
    addrtype = kind if TYPES.get(kind) == plen else 0
    return ip6addrlbl_entry(prefix & MASKS6[plen], plen, label, precedence, ifindex, addrtype)


def _row(prefix: str, precedence: int, label: int) -> ip6addrlbl_entry:
    return ip6addrlbl_alloc(*parse_prefix6(prefix), label, precedence)


IPV6_ADDR_LABEL_DEFAULT = 0xFFFFFFFF
"""The label of an address that no row has."""
NO_ROW = ip6addrlbl_entry(0, 0, IPV6_ADDR_LABEL_DEFAULT)
DEFAULT_TABLE = (
    _row("::1/128", 50, 0),
    _row("::/96", 1, 3),
    _row("::ffff:0:0/96", 35, 4),
    _row("2001::/32", 5, 6),  # Teredo
    _row("2001:10::/28", 40, 7),  # ORCHID (RFC 4843)
    _row("3ffe::/16", 1, 12),  # 6bone
    _row("2002::/16", 30, 2),  # 6to4
    _row("fec0::/10", 1, 11),  # site-local
    _row("fc00::/7", 3, 5),  # unique local (RFC 4193)
    _row("::/0", 40, 1),
)


@dataclass(slots=True)
class ip6addrlbl_table:
    """The table of a namespace, longest prefix first, with an interface before without."""

    rows: list[ip6addrlbl_entry] = field(default_factory=lambda: list(DEFAULT_TABLE))
    seq: int = len(DEFAULT_TABLE)
    """How often a row was added."""

    def lookup(self, addr: wide, ifindex: int = 0) -> ip6addrlbl_entry:
        """net/ipv6/addrlabel.c ipv6_addr_label: the row of the longest prefix of `addr`."""
        return self.lookup_type(addr, ipv6_addr_type(addr) & TYPE_MASK, ifindex)

    def lookup_type(self, addr: wide, addrtype: int, ifindex: int) -> ip6addrlbl_entry:
        """net/ipv6/addrlabel.c __ipv6_addr_label: also without the rows of other types."""
        for row in self.rows:
            if row.ifindex and row.ifindex != ifindex:
                continue
            if row.addrtype and row.addrtype != addrtype:
                continue
            if not (addr ^ row.prefix) & MASKS6[row.prefixlen]:
                return row
        return NO_ROW

    def add(self, new: ip6addrlbl_entry, replace: bool = False) -> None:
        """net/ipv6/addrlabel.c __ip6addrlbl_add.

        As in Linux, a row that stands behind another of its length is not found: it is added again.
        Raises: FileExistsError.
        """
        for i, row in enumerate(self.rows):
            if _key(row) == _key(new):
                if not replace:
                    raise os_error(errno.EEXIST, "this prefix has a label")
                self.rows[i] = new
                break
            if row.prefixlen < new.prefixlen or (
                row.prefixlen == new.prefixlen and not row.ifindex
            ):
                self.rows.insert(i, new)
                break
        else:
            self.rows.append(new)
        self.seq += 1

    def remove(self, prefix: wide, prefixlen: int, ifindex: int = 0) -> None:
        """net/ipv6/addrlabel.c __ip6addrlbl_del. Raises: ProcessLookupError: no such row."""
        for row in self.rows:
            if _key(row) == (prefix, prefixlen, ifindex):
                self.rows.remove(row)
                return
        raise os_error(errno.ESRCH, "this prefix has no label")


def _key(row: ip6addrlbl_entry) -> tuple[wide, int, int]:
    return row.prefix, row.prefixlen, row.ifindex
