"""The lease in DHCPv6 replies: addresses with their lifetimes, and other information."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stack.clients.action import MessageError
from stack.clients.dhcp6_wire import (
    INFINITY,
    Dhcp6Message,
    IaAddr,
    IaNa,
    Option,
    addresses_of,
    find,
)
from stack.clients.dnsname import name_to_text, parse_names
from stack.core.time64 import NSEC_PER_SEC

MULTICAST, LINK_LOCAL = 0xFF, 0xFE80 >> 6


@dataclass(frozen=True, slots=True)
class LeasedAddress:
    """An address with the ends of its preferred and valid lifetimes; None: never."""

    address: int
    preferred_ns: int | None
    valid_ns: int | None


@dataclass(frozen=True, slots=True)
class Lease6:
    """The addresses of our IA_NA and the network's parameters.

    Attributes:
        server: the server's DUID.
        t1_ns, t2_ns: None for never.
        dns: host-order 128-bit addresses.
    """

    server: bytes = b""
    addresses: tuple[LeasedAddress, ...] = ()
    t1_ns: int | None = None
    t2_ns: int | None = None
    dns: tuple[int, ...] = ()
    search: tuple[str, ...] = ()


def usable_address(address: int) -> bool:
    """Whether a server may assign the address: unicast, not ::, ::1 or link-local."""
    return address > 1 and address >> 120 != MULTICAST and address >> 118 != LINK_LOCAL


def ia_of(message: Dhcp6Message, iaid: int) -> IaNa | None:
    """Our IA_NA in a message; None if it is missing or malformed, or if RFC 8415 21.4 requires to
    discard it (0 < T2 < T1)."""
    for code, value in message.options:
        if code != Option.IA_NA:
            continue
        try:
            ia = IaNa.parse(value)
            if ia.iaid == iaid and not (ia.t1_s > ia.t2_s > 0):
                list(ia.addresses())
                return ia
        except MessageError:
            continue
    return None


def acceptable(ia: IaNa | None) -> list[IaAddr]:
    """The addresses of an IA_NA that may be used or ended (21.6: none with preferred > valid)."""
    if ia is None:
        return []
    return [a for a in ia.addresses() if usable_address(a.address) and a.preferred_s <= a.valid_s]


def information(message: Dhcp6Message, lease: Lease6) -> Lease6:
    """`lease` with the name servers and search list of a message."""
    try:
        names = parse_names(find(message.options, Option.DOMAIN_LIST) or b"")
    except MessageError:
        names = ()
    return replace(
        lease,
        dns=tuple(a for a in addresses_of(find(message.options, Option.DNS_SERVERS)) if a),
        search=tuple(map(name_to_text, names)),
    )


def merged(lease: Lease6, message: Dhcp6Message, ia: IaNa, now_ns: int) -> Lease6:
    """`lease` after a REPLY with our IA_NA at `now_ns` (18.2.10.1).

    Addresses in the reply get its lifetimes; a valid lifetime of 0 removes one. Others stay
    unchanged.
    """
    addresses = {a.address: a for a in lease.addresses}
    given = acceptable(ia)
    for a in given:
        if a.valid_s:
            addresses[a.address] = LeasedAddress(
                a.address, until(a.preferred_s, now_ns), until(a.valid_s, now_ns)
            )
        else:
            addresses.pop(a.address, None)
    shortest = min((a.preferred_s for a in given if a.preferred_s), default=INFINITY)
    t1, t2 = ia.t1_s, ia.t2_s
    # 21.4: 0 leaves the choice to us; 0.5 and 0.8 are its recommendation for servers
    if shortest == INFINITY:
        t1, t2 = t1 or INFINITY, t2 or INFINITY
    t2_ns = until(t2, now_ns) if t2 else now_ns + shortest * NSEC_PER_SEC * 8 // 10
    t1_ns = until(t1, now_ns) if t1 else now_ns + shortest * NSEC_PER_SEC // 2
    if t2_ns is not None and (t1_ns is None or t1_ns > t2_ns):
        t1_ns = t2_ns
    server = find(message.options, Option.SERVERID) or b""
    return information(message, Lease6(server, tuple(addresses.values()), t1_ns, t2_ns))


def until(seconds: int, now_ns: int) -> int | None:
    """The end of a lifetime that starts now; None if infinite."""
    return None if seconds == INFINITY else now_ns + seconds * NSEC_PER_SEC
