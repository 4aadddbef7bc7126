"""struct flowi: what a route is asked for, of either family (include/net/flow.h)."""

from __future__ import annotations

from stack.core.rows import wide

FLOWI_FLAG_ANYSRC = 0x01
FLOWI_FLAG_KNOWN_NH = 0x02


class flowi:
    """struct flowi4 and flowi6. Addresses and ports in host order, of `family`.

    `flowi_tos` is the TOS (for IPv6 the traffic class), `flowlabel` 20 bits, `ident` the generator
    of IP identifications for this flow, once known (else -1), `flowi_scope` RT_SCOPE_* (0: any).
    """

    __slots__ = (
        "daddr",
        "family",
        "fl_dport",
        "fl_sport",
        "flowi_flags",
        "flowi_iif",
        "flowi_mark",
        "flowi_oif",
        "flowi_proto",
        "flowi_scope",
        "flowi_tos",
        "flowlabel",
        "ident",
        "saddr",
    )

    def __init__(
        self,
        family: int,
        daddr: wide = 0,
        saddr: wide = 0,
        flowi_oif: int = 0,
        flowi_tos: int = 0,
        flowi_proto: int = 0,
        fl_dport: int = 0,
        fl_sport: int = 0,
        flowi_flags: int = 0,
        flowi_mark: int = 0,
        flowi_scope: int = 0,
        flowlabel: int = 0,
    ) -> None:
        self.family = family
        self.daddr = daddr
        self.saddr = saddr
        self.flowi_oif = flowi_oif
        self.flowi_tos = flowi_tos
        self.flowi_proto = flowi_proto
        self.fl_dport = fl_dport
        self.fl_sport = fl_sport
        self.flowi_flags = flowi_flags
        self.flowi_mark = flowi_mark
        self.flowi_scope = flowi_scope
        self.flowlabel = flowlabel
        self.flowi_iif = 0
        self.ident = -1

    def __repr__(self) -> str:
        return (
            f"<flowi family={self.family} {self.saddr:#x}:{self.fl_sport} -> "
            f"{self.daddr:#x}:{self.fl_dport} proto={self.flowi_proto} oif={self.flowi_oif}>"
        )
