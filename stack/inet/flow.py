"""struct flowi: the key of a route lookup, of either family (include/net/flow.h)."""

from __future__ import annotations

from stack.core.rows import row, state, u8, u16, u32, wide

FLOWI_FLAG_ANYSRC = 0x01


@state
class flowi:
    """struct flowi4 and flowi6. Addresses and ports in host order, of `family`.

    `flowi_tos` is the TOS (for IPv6 the traffic class), `flowlabel` 20 bits, `ident` the generator
    of IP identifications for this flow, once known (else -1), `flowi_scope` RT_SCOPE_* (0: any).
    `mp_hash`: the hash that selects one of several next hops; 0: computed from the flow.
    """

    family: u16
    daddr: wide = 0
    saddr: wide = 0
    flowi_oif: int = 0
    flowi_tos: u8 = 0
    flowi_proto: u16 = 0
    fl_dport: u16 = 0
    fl_sport: u16 = 0
    flowi_flags: u8 = 0
    flowi_mark: u32 = 0
    flowi_scope: u8 = 0
    flowlabel: u32 = 0
    ident: int = row(-1)
    mp_hash: u32 = row(0)

    def __repr__(self) -> str:
        return (
            f"<flowi family={self.family} {self.saddr:#x}:{self.fl_sport} -> "
            f"{self.daddr:#x}:{self.fl_dport} proto={self.flowi_proto} oif={self.flowi_oif}>"
        )
