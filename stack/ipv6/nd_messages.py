"""include/net/ndisc.h, uapi/linux/icmpv6.h: the messages of Neighbor Discovery as values.

RFC 4861 4.1 to 4.5. `parse` takes the whole ICMPv6 message (from its type byte), returns None when
it is too short, and leaves the options to nd_options.py. `pack` returns a message with checksum 0.
ndisc_send.py sends messages; ndisc_rcv.py and ndisc_router.py process received ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.rows import wide
from stack.ipv6 import ip6_icmp

RS_LEN = 8
RA_LEN = 16
ND_MSG_LEN = 24  # solicitation and advertisement
RD_LEN = 40


@dataclass(frozen=True, slots=True)
class RouterSolicitation:
    """Router solicitation (RFC 4861 4.1)."""

    def pack(self, options: bytes = b"") -> bytes:
        """Return the message with its options, checksum 0."""
        return bytes((ip6_icmp.NDISC_ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0)) + options


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """Router advertisement (RFC 4861 4.2, preference RFC 4191 2.2).

    `router_lifetime` in s (0: no default router); `reachable_time` and `retrans_timer` in ms (0:
    unspecified).
    """

    hop_limit: int = 64
    managed: bool = False
    other: bool = False
    home_agent: bool = False
    router_pref: int = 0
    router_lifetime: int = 1800
    reachable_time: int = 0
    retrans_timer: int = 0

    def pack(self, options: bytes = b"") -> bytes:
        """Return the message with its options, checksum 0."""
        flags = (
            self.managed << 7 | self.other << 6 | self.home_agent << 5 | (self.router_pref & 3) << 3
        )
        return (
            bytes((ip6_icmp.NDISC_ROUTER_ADVERTISEMENT, 0, 0, 0, self.hop_limit, flags))
            + self.router_lifetime.to_bytes(2, "big")
            + self.reachable_time.to_bytes(4, "big")
            + self.retrans_timer.to_bytes(4, "big")
            + options
        )

    @classmethod
    def parse(cls, data: bytes) -> RouterAdvertisement | None:
        """The fixed part; None when it is incomplete."""
        if len(data) < RA_LEN:
            return None
        flags = data[5]
        return cls(
            data[4],
            bool(flags & 0x80),
            bool(flags & 0x40),
            bool(flags & 0x20),
            flags >> 3 & 3,
            int.from_bytes(data[6:8], "big"),
            int.from_bytes(data[8:12], "big"),
            int.from_bytes(data[12:16], "big"),
        )


@dataclass(frozen=True, slots=True)
class NeighbourSolicitation:
    """Neighbour solicitation (RFC 4861 4.3)."""

    target: wide

    def pack(self, options: bytes = b"") -> bytes:
        """Return the message with its options, checksum 0."""
        head = bytes((ip6_icmp.NDISC_NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0))
        return head + self.target.to_bytes(16, "big") + options

    @classmethod
    def parse(cls, data: bytes) -> NeighbourSolicitation | None:
        """The fixed part; None when it is incomplete."""
        return cls(int.from_bytes(data[8:24], "big")) if len(data) >= ND_MSG_LEN else None


@dataclass(frozen=True, slots=True)
class NeighbourAdvertisement:
    """Neighbour advertisement (RFC 4861 4.4)."""

    target: wide
    router: bool = False
    solicited: bool = False
    override: bool = False

    def pack(self, options: bytes = b"") -> bytes:
        """Return the message with its options, checksum 0."""
        flags = self.router << 7 | self.solicited << 6 | self.override << 5
        head = bytes((ip6_icmp.NDISC_NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0))
        return head + self.target.to_bytes(16, "big") + options

    @classmethod
    def parse(cls, data: bytes) -> NeighbourAdvertisement | None:
        """The fixed part; None when it is incomplete."""
        if len(data) < ND_MSG_LEN:
            return None
        flags = data[4]
        return cls(
            int.from_bytes(data[8:24], "big"),
            bool(flags & 0x80),
            bool(flags & 0x40),
            bool(flags & 0x20),
        )


@dataclass(frozen=True, slots=True)
class Redirect:
    """Redirect (RFC 4861 4.5): `target` is a better first hop for packets to `dest`."""

    target: wide
    dest: wide

    def pack(self, options: bytes = b"") -> bytes:
        """Return the message with its options, checksum 0."""
        head = bytes((ip6_icmp.NDISC_REDIRECT, 0, 0, 0, 0, 0, 0, 0))
        return head + self.target.to_bytes(16, "big") + self.dest.to_bytes(16, "big") + options

    @classmethod
    def parse(cls, data: bytes) -> Redirect | None:
        """The fixed part; None when it is incomplete."""
        if len(data) < RD_LEN:
            return None
        return cls(int.from_bytes(data[8:24], "big"), int.from_bytes(data[24:40], "big"))
