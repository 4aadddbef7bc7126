"""net/ipv6/addrlabel.c: the policy table of address selection (RFC 6724 2.1).

Each prefix has a precedence and a label; the longest prefix that matches an address applies. Labels
have Linux's numbers (`ip addrlabel`) and are only compared for equality. Precedences are the RFC's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.core.rows import wide
from stack.ipv6.addr import MASKS6, parse_prefix6


@dataclass(frozen=True, slots=True)
class ip6addrlbl_entry:
    """struct ip6addrlbl_entry: one row. `ifindex` 0: for every interface."""

    prefix: wide
    prefixlen: int
    label: int
    precedence: int = 40
    ifindex: int = 0


def _row(prefix: str, precedence: int, label: int) -> ip6addrlbl_entry:
    network, plen = parse_prefix6(prefix)
    return ip6addrlbl_entry(network, plen, label, precedence)


DEFAULT_TABLE = (
    _row("::1/128", 50, 0),
    _row("::ffff:0:0/96", 35, 4),
    _row("::/96", 1, 3),
    _row("2001::/32", 5, 6),  # Teredo
    _row("2001:10::/28", 40, 7),  # ORCHID (RFC 4843)
    _row("2002::/16", 30, 2),  # 6to4
    _row("3ffe::/16", 1, 12),  # 6bone
    _row("fec0::/10", 1, 11),  # site-local
    _row("fc00::/7", 3, 5),  # unique local (RFC 4193)
    _row("::/0", 40, 1),
)


@dataclass(slots=True)
class ip6addrlbl_table:
    """The table of a namespace, longest prefix first."""

    rows: list[ip6addrlbl_entry] = field(default_factory=lambda: list(DEFAULT_TABLE))

    def lookup(self, addr: wide, ifindex: int = 0) -> ip6addrlbl_entry:
        """net/ipv6/addrlabel.c __ipv6_addr_label: the row of the longest prefix of `addr`."""
        for row in self.rows:
            if row.ifindex and row.ifindex != ifindex:
                continue
            if not (addr ^ row.prefix) & MASKS6[row.prefixlen]:
                return row
        return DEFAULT_TABLE[-1]

    def add(self, entry: ip6addrlbl_entry) -> None:
        """net/ipv6/addrlabel.c: `ip addrlabel add`; replaces the row of the same prefix."""
        self.remove(entry.prefix, entry.prefixlen, entry.ifindex)
        self.rows.append(entry)
        self.rows.sort(key=lambda row: (-row.prefixlen, not row.ifindex))

    def remove(self, prefix: wide, prefixlen: int, ifindex: int = 0) -> bool:
        """net/ipv6/addrlabel.c: `ip addrlabel del`. False when there is no such row."""
        kept = [
            r
            for r in self.rows
            if (r.prefix, r.prefixlen, r.ifindex) != (prefix, prefixlen, ifindex)
        ]
        found = len(kept) != len(self.rows)
        self.rows = kept
        return found
