"""The operations of an address family: what the shared protocols ask of IPv4 or IPv6.

TCP, UDP, raw and ping sockets know addresses as ints and a family as this table: `sk.sk_af` is the
table of what a socket has on the wire (`inet_saddr`, `inet_daddr`, its hash key). On an AF_INET6
socket with a v4-mapped peer that is IPv4's, while `sk.sk_family` stays what the application made.

Each family fills one table and registers it (`inet_register_af_ops`) when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stack.inet.inet_sock import inet_sock
    from stack.inet.inet_timewait_sock import inet_timewait_sock

InetKey = tuple[int, int, int, int, int]
"""(family, saddr, sport, daddr, dport) of the packets that a socket receives."""


class sock_common(Protocol):
    """What full sockets, requests and TIME_WAIT remnants have in common (struct sock_common)."""

    sk_af: inet_af_ops
    inet_daddr: int
    inet_dport: int
    inet_rcv_saddr: int
    inet_num: int


@dataclass(slots=True, eq=False, kw_only=True)
class inet_af_ops:
    """One family. `header_len`: bytes of its IP header without options.

    `takes(sk, family)`: whether the socket, whose own table this is, also receives packets of the
    other `family` (an IPv6 socket bound to no address and without IPV6_V6ONLY).
    """

    family: int
    header_len: int
    takes: Callable[[inet_sock | inet_timewait_sock, int], bool]
    is_loopback: Callable[[int], bool]


af_ops_of: dict[int, inet_af_ops] = {}
"""The table of an address family."""


def inet_register_af_ops(af: inet_af_ops) -> inet_af_ops:
    """Make a family's table known under its number."""
    af_ops_of[af.family] = af
    return af


def inet_sk_key(sk: sock_common) -> InetKey:
    """The key under which a connected socket, request or TIME_WAIT remnant stands in its table."""
    return sk.sk_af.family, sk.inet_daddr, sk.inet_dport, sk.inet_rcv_saddr, sk.inet_num


def inet_sk_takes(sk: inet_sock, family: int) -> bool:
    """Whether packets of `family` may be for the socket."""
    af = sk.sk_af
    return af.family == family or af.takes(sk, family)


def inet_rcv_saddr_equal(sk: inet_sock, sk2: inet_sock | inet_timewait_sock) -> bool:
    """net/ipv4/inet_connection_sock.c: could both sockets get the same packet, by their addresses?

    A socket bound to no address gets those of every address of its families.
    """
    af, af2 = sk.sk_af, sk2.sk_af
    a, b = sk.inet_rcv_saddr, sk2.inet_rcv_saddr
    if af is af2:
        return a == b or not a or not b
    return af.takes(sk, af2.family) or af2.takes(sk2, af.family)
