"""include/net/mld.h: Multicast Listener Discovery messages as values.

MLDv1 (RFC 2710 3), and the query of MLDv2 (RFC 3810 5.1), whose reports are made by mc_reports in
stack/inet/mc_filter.py. `parse` takes the whole ICMPv6 message from its type byte and returns None
when it is malformed; `pack` returns one with checksum 0. RFC 3810 5.1.3 and 5.1.9 define the codes
of response times and intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

from stack.core.rows import wide
from stack.ipv6 import ip6_icmp

MLD_V1_LEN = 24
MLD_V2_LEN = 28


def mldv2_mrc(code: int) -> int:
    """include/net/mld.h: Maximum Response Code of 16 bits to milliseconds (RFC 3810 5.1.3)."""
    if code < 0x8000:
        return code
    return (code & 0xFFF | 0x1000) << ((code >> 12 & 7) + 3)


@dataclass(frozen=True, slots=True)
class MldQuery:
    """A query of `version` 1 or 2; `mrc` as on the wire.

    `resv_suppress` is the S flag, `qrv` the robustness (0: unspecified).
    """

    group: wide = 0
    mrc: int = 10000
    version: int = 2
    resv_suppress: bool = False
    qrv: int = 2
    qqic: int = 125
    sources: tuple[wide, ...] = ()

    @property
    def max_delay_ms(self) -> int:
        """The time within which listeners must answer."""
        return self.mrc if self.version == 1 else mldv2_mrc(self.mrc)

    def pack(self) -> bytes:
        """Return the message, checksum 0."""
        head = (
            bytes((ip6_icmp.ICMPV6_MGM_QUERY, 0, 0, 0))
            + self.mrc.to_bytes(2, "big")
            + bytes(2)
            + self.group.to_bytes(16, "big")
        )
        if self.version == 1:
            return head
        return (
            head
            + bytes((self.resv_suppress << 3 | self.qrv & 7, self.qqic))
            + len(self.sources).to_bytes(2, "big")
            + b"".join(source.to_bytes(16, "big") for source in self.sources)
        )

    @classmethod
    def parse(cls, data: bytes) -> MldQuery | None:
        """RFC 3810 8.1: 24 bytes are version 1, 28 and more version 2, else malformed."""
        size = len(data)
        if size < MLD_V1_LEN:
            return None
        mrc = int.from_bytes(data[4:6], "big")
        group = int.from_bytes(data[8:24], "big")
        if size == MLD_V1_LEN:
            return cls(group, mrc, 1)
        if size < MLD_V2_LEN:
            return None
        count = int.from_bytes(data[26:28], "big")
        if size < MLD_V2_LEN + 16 * count:
            return None
        sources = tuple(
            int.from_bytes(data[i : i + 16], "big") for i in range(28, 28 + 16 * count, 16)
        )
        return cls(group, mrc, 2, bool(data[24] & 8), data[24] & 7, data[25], sources)


@dataclass(frozen=True, slots=True)
class MldMessage:
    """A version 1 report or done (`done`)."""

    group: wide
    done: bool = False

    def pack(self) -> bytes:
        """Return the message, checksum 0."""
        kind = ip6_icmp.ICMPV6_MGM_REDUCTION if self.done else ip6_icmp.ICMPV6_MGM_REPORT
        return bytes((kind, 0, 0, 0, 0, 0, 0, 0)) + self.group.to_bytes(16, "big")

    @classmethod
    def parse(cls, data: bytes) -> MldMessage | None:
        """None when it is too short."""
        if len(data) < MLD_V1_LEN:
            return None
        return cls(int.from_bytes(data[8:24], "big"), data[0] == ip6_icmp.ICMPV6_MGM_REDUCTION)
