"""The lease in a DHCPv4 ACK: its address, times and parameters."""

from __future__ import annotations

from dataclasses import dataclass

from stack.clients.action import MessageError
from stack.clients.dhcp4_wire import Dhcp4Message, Option, Route, address_list, classless_routes
from stack.clients.dnsname import name_to_text, parse_names
from stack.core.time64 import NSEC_PER_SEC

INFINITE = 0xFFFFFFFF
"""A lease without end, in seconds (RFC 2131 3.3)."""
MIN_MTU = 68


@dataclass(frozen=True, slots=True)
class Lease:
    """An address with its lease time, and the network's parameters; addresses are in host order.

    Attributes:
        routes: of option 121, or from options 33 and 3 (RFC 3442); the default is (0, 0, GW).
        t1_ns, t2_ns, expires_ns: in the time of the core's caller; None for a lease without end.
    """

    address: int
    prefixlen: int
    server: int
    broadcast: int
    routes: tuple[Route, ...]
    dns: tuple[int, ...]
    domain: str
    search: tuple[str, ...]
    hostname: str
    ntp: tuple[int, ...]
    mtu: int
    """The server's address, 0 if it sent none."""
    t1_ns: int | None
    t2_ns: int | None
    expires_ns: int | None


def plausible(address: int) -> bool:
    """Whether a host can have the address (RFC 1122 3.2.1.3)."""
    return 0 < address >> 24 < 224 and address >> 24 != 127


def usable(message: Dhcp4Message) -> bool:
    """Whether an OFFER or ACK has all that RFC 2131 table 3 requires, and a host's address."""
    return (
        plausible(message.yiaddr)
        and plausible(message.address(Option.SERVER_ID))
        and bool(message.number(Option.LEASE_TIME, 4))
    )


def prefix_of(message: Dhcp4Message, address: int) -> int:
    """The prefix length of option 1, or of the address's class if missing or not contiguous."""
    mask = message.number(Option.SUBNET_MASK, 4)
    if mask is not None:
        length = mask.bit_count()
        if mask == 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF and length:
            return length
    return 8 if address >> 31 == 0 else 16 if address >> 30 == 2 else 24


def routes_of(message: Dhcp4Message) -> tuple[Route, ...]:
    """The routes of option 121 if it is valid (RFC 3442), else those of options 33 and 3."""
    value = message.options.get(Option.CLASSLESS_ROUTES)
    if value:
        try:
            return classless_routes(value)
        except MessageError:
            pass
    routes: list[Route] = []
    pairs = address_list(message.options.get(Option.STATIC_ROUTE, b""))
    for to, via in zip(pairs[::2], pairs[1::2], strict=False):
        if to:  # RFC 2132 5.8: this option excludes the default route
            routes.append((to, 32, via))
    for gateway in address_list(message.options.get(Option.ROUTER, b"")):
        if plausible(gateway):
            routes.append((0, 0, gateway))
            break
    return tuple(routes)


def lease_of(message: Dhcp4Message, asked_ns: int, *, address: int = 0) -> Lease:
    """The lease in an ACK whose REQUEST was sent at `asked_ns`; `address` is for INFORM."""
    own = address or message.yiaddr
    prefixlen = prefix_of(message, own)
    host_bits = (1 << 32 - prefixlen) - 1
    try:
        search = parse_names(message.options.get(Option.DOMAIN_SEARCH, b""))
    except MessageError:
        search = ()
    mtu = message.number(Option.INTERFACE_MTU, 2) or 0
    lease_s = 0 if address else message.number(Option.LEASE_TIME, 4) or 0
    t1, t2, end = _times(message, lease_s, asked_ns)
    return Lease(
        address=own,
        prefixlen=prefixlen,
        server=message.address(Option.SERVER_ID),
        broadcast=message.address(Option.BROADCAST_ADDRESS) or own | host_bits,
        routes=routes_of(message),
        dns=tuple(a for a in address_list(message.options.get(Option.DNS_SERVERS, b"")) if a),
        domain=message.text(Option.DOMAIN_NAME),
        search=tuple(map(name_to_text, search)),
        hostname=message.text(Option.HOST_NAME),
        ntp=address_list(message.options.get(Option.NTP_SERVERS, b"")),
        mtu=mtu if mtu >= MIN_MTU else 0,
        t1_ns=t1,
        t2_ns=t2,
        expires_ns=end,
    )


def _times(
    message: Dhcp4Message, lease_s: int, asked_ns: int
) -> tuple[int | None, int | None, int | None]:
    """T1, T2 and the end (RFC 2131 4.4.5); 1/2 and 7/8 of the lease if the server's are invalid."""
    if lease_s in (0, INFINITE):
        return None, None, None
    t1 = message.number(Option.RENEWAL_TIME, 4)
    t2 = message.number(Option.REBINDING_TIME, 4)
    t2_ns = (t2 if t2 is not None and t2 < lease_s else 0) * NSEC_PER_SEC
    t2_ns = t2_ns or lease_s * NSEC_PER_SEC * 7 // 8
    t1_ns = (t1 or 0) * NSEC_PER_SEC
    if not 0 < t1_ns < t2_ns:
        t1_ns = min(lease_s * NSEC_PER_SEC // 2, t2_ns)
    return asked_ns + t1_ns, asked_ns + t2_ns, asked_ns + lease_s * NSEC_PER_SEC
