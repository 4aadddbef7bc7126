"""ping's data for a family: sockets, options, messages, and texts for errors."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stack.api.sockaddr import inet6_ntoa, inet_ntoa
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    IP_RECVERR,
    IP_RECVTTL,
    IP_TTL,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    SO_EE_ORIGIN_ICMP,
)

HEADER = struct.Struct("!BBHHH")
"""An echo's header: type, code, checksum, id, sequence; the same in both families."""
EXTENDED_ERR = struct.Struct("=IBBBBII")
SOCKADDR_IN = struct.Struct("=HH4s")
SOCKADDR_IN6 = struct.Struct("=HHI16sI")

ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED = 3, 11
# linux/in6.h
IPV6_UNICAST_HOPS, IPV6_RECVERR, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 16, 25, 51, 52
SO_EE_ORIGIN_ICMP6 = 3

# ping's text for a type and code; programs that parse its output rely on it.
UNREACHABLE = (
    "Destination Net Unreachable",
    "Destination Host Unreachable",
    "Destination Protocol Unreachable",
    "Destination Port Unreachable",
    "Frag needed and DF set (mtu = {info})",
    "Source Route Failed",
    "Destination Net Unknown",
    "Destination Host Unknown",
    "Source Host Isolated",
    "Destination Net Prohibited",
    "Destination Host Prohibited",
    "Destination Net Unreachable for Type of Service",
    "Destination Host Unreachable for Type of Service",
    "Packet filtered",
    "Precedence Violation",
    "Precedence Cutoff",
)
EXCEEDED = ("Time to live exceeded", "Frag reassembly time exceeded")
UNREACHABLE6 = (
    "No route",
    "Administratively prohibited",
    "Beyond scope of source address",
    "Address unreachable",
    "Port unreachable",
    "Source address failed ingress/egress policy",
    "Reject route to destination",
)
EXCEEDED6 = ("Hop limit", "Defragmentation failure")
PARAMETER6 = ("Wrong header field", "Unknown header", "Unknown option")


def explain4(kind: int, code: int, info: int) -> str:
    """ping's text for an ICMP error."""
    if kind == ICMP_DEST_UNREACH:
        known = code < len(UNREACHABLE)
        text = UNREACHABLE[code] if known else f"Dest Unreachable, Bad Code: {code}"
        return text.format(info=info)
    if kind == ICMP_TIME_EXCEEDED:
        known = code < len(EXCEEDED)
        return EXCEEDED[code] if known else f"Time exceeded, Bad Code: {code}"
    return f"Bad ICMP type: {kind}"


def explain6(kind: int, code: int, info: int) -> str:
    """ping -6's text for an ICMPv6 error."""
    match kind:
        case 1:
            return f"Destination unreachable: {_word(UNREACHABLE6, code)}"
        case 2:
            return f"Packet too big: mtu={info}"
        case 3:
            return f"Time exceeded: {_word(EXCEEDED6, code)}"
        case 4:
            return f"Parameter problem: {_word(PARAMETER6, code)} at {info}"
    return f"unknown ICMPv6 error {kind}, code {code}"


def _word(words: Sequence[str], code: int) -> str:
    return words[code] if code < len(words) else f"Unknown code {code}"


def _offender4(name: bytes) -> str:
    return inet_ntoa(int.from_bytes(SOCKADDR_IN.unpack_from(name)[2], "big"))


def _offender6(name: bytes) -> str:
    return inet6_ntoa(int.from_bytes(SOCKADDR_IN6.unpack_from(name)[3], "big"))


@dataclass(frozen=True, slots=True)
class Family:
    """One family's numbers; `ttl_cmsg` is the control message that carries the time to live."""

    family: int
    proto: int
    level: int
    ttl: int
    recv_ttl: int
    ttl_cmsg: int
    recverr: int
    origin: int
    echo: int
    reply: int
    explain: Callable[[int, int, int], str]
    offender: Callable[[bytes], str]
    """The address in the sockaddr after a sock_extended_err."""


INET = Family(
    AF_INET, IPPROTO_ICMP, IPPROTO_IP, IP_TTL, IP_RECVTTL, IP_TTL, IP_RECVERR,
    SO_EE_ORIGIN_ICMP, 8, 0, explain4, _offender4,
)  # fmt: skip
INET6 = Family(
    AF_INET6, IPPROTO_ICMPV6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT,
    IPV6_RECVERR, SO_EE_ORIGIN_ICMP6, 128, 129, explain6, _offender6,
)  # fmt: skip


def family_of(address: str) -> Family:
    """The family of an address's text."""
    return INET6 if ":" in address else INET
