"""net/netfilter/xt_tcpudp.c, xt_multiport.c, xt_tcpmss.c: ports, flags and options of TCP, ports of
UDP, kinds of ICMP."""

from __future__ import annotations

import errno
import struct

from fastpath.net.hdr import tcphdr_at
from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP, TCP_HLEN
from stack.netfilter.nf_conntrack_tuple import skb_bytes
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.x_tables import (
    BOTH,
    xt_hotdrop,
    xt_match,
    xt_mtchk_param,
    xt_register_match,
)
from stack.netlink.nlattr import NlError

IPPROTO_DCCP, IPPROTO_SCTP, IPPROTO_UDPLITE = 33, 132, 136
XT_TCP_INV_SRCPT, XT_TCP_INV_DSTPT, XT_TCP_INV_FLAGS, XT_TCP_INV_OPTION = 1, 2, 4, 8
XT_UDP_INV_SRCPT, XT_UDP_INV_DSTPT = 1, 2
TCPOPT_NOP, TCPOPT_MSS = 1, 2
XT_MULTIPORT_SOURCE, XT_MULTIPORT_DESTINATION, XT_MULTIPORT_EITHER = 0, 1, 2
XT_MULTI_PORTS = 15
WITH_PORTS = (IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP, IPPROTO_DCCP)
ICMP_ANY = 0xFF


def port_match(low: int, high: int, port: int, invert: bool) -> bool:
    """net/netfilter/xt_tcpudp.c: whether the port is in the range; `invert`: outside."""
    return (low <= port <= high) != invert


def l4_bytes(pkt: nft_pktinfo, size: int) -> bytes:
    """The first bytes of the transport header. Raises: xt_hotdrop: the packet is too short."""
    data = skb_bytes(pkt.skb, pkt.thoff, size)
    if len(data) < size:
        raise xt_hotdrop
    return data


def tcp_options(pkt: nft_pktinfo) -> list[tuple[int, int, int]]:
    """Kind, offset after the TCP header, and length of each option.

    Raises: xt_hotdrop: the header is truncated.
    """
    l4_bytes(pkt, TCP_HLEN)
    end = tcphdr_at(pkt.skb, pkt.thoff).doff * 4
    if end < TCP_HLEN:
        raise xt_hotdrop
    data = l4_bytes(pkt, end)
    found = []
    at = TCP_HLEN
    while at < end:
        size = 1 if data[at] <= TCPOPT_NOP else data[at + 1] if at + 1 < end else 0
        found.append((data[at], at, size))
        at += size or 1
    return found


class xt_tcp(xt_match):
    """struct xt_tcp: `-p tcp`: compare ports, flags, and whether there is an option. EINVAL: an
    unknown flag.
    """

    name = "tcp"
    families = BOTH
    size = 12
    proto = IPPROTO_TCP

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        *self.ports, self.option, self.mask, self.cmp, self.inv = struct.unpack_from("=4H4B", info)
        if self.inv & ~0xF:
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_tcpudp.c tcp_mt."""
        if pkt.fragoff:
            if pkt.fragoff == 1:  # it would overwrite the flags of the first fragment
                raise xt_hotdrop
            return False
        data = l4_bytes(pkt, TCP_HLEN)
        source, dest = struct.unpack_from(">HH", data)
        inv = self.inv
        s_low, s_high, d_low, d_high = self.ports
        if not port_match(s_low, s_high, source, bool(inv & XT_TCP_INV_SRCPT)):
            return False
        if not port_match(d_low, d_high, dest, bool(inv & XT_TCP_INV_DSTPT)):
            return False
        if (data[13] & self.mask == self.cmp) == bool(inv & XT_TCP_INV_FLAGS):
            return False
        if not self.option:
            return True
        has = any(kind == self.option for kind, _, _ in tcp_options(pkt))
        return has != bool(inv & XT_TCP_INV_OPTION)


class xt_udp(xt_match):
    """struct xt_udp: `-p udp`: compare ports. EINVAL: an unknown flag."""

    name = "udp"
    families = BOTH
    size = 10
    proto = IPPROTO_UDP

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        *self.ports, self.inv = struct.unpack_from("=4HB", info)
        if self.inv & ~0x3:
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_tcpudp.c udp_mt."""
        if pkt.fragoff:
            return False
        source, dest = struct.unpack_from(">HH", l4_bytes(pkt, 8))
        low, high, d_low, d_high = self.ports
        return port_match(low, high, source, bool(self.inv & XT_UDP_INV_SRCPT)) and port_match(
            d_low, d_high, dest, bool(self.inv & XT_UDP_INV_DSTPT)
        )


class ipt_icmp(xt_match):
    """struct ipt_icmp: `-p icmp --icmp-type`: compare type and code. EINVAL: an unknown flag."""

    name = "icmp"
    families = (NFPROTO_IPV4,)
    size = 4
    proto = IPPROTO_ICMP

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.type, self.low, self.high, inv = info[:4]
        self.invert = bool(inv & 1)
        if inv & ~1:
            raise NlError(errno.EINVAL)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_tcpudp.c icmp_match, icmp6_match."""
        if pkt.fragoff:
            return False
        kind, code = l4_bytes(pkt, 8)[:2]
        if self.proto == IPPROTO_ICMP and self.type == ICMP_ANY:
            return not self.invert
        return (kind == self.type and self.low <= code <= self.high) != self.invert


class ip6t_icmp(ipt_icmp):
    """struct ip6t_icmp: `-p icmpv6 --icmpv6-type`."""

    name = "icmp6"
    families = (NFPROTO_IPV6,)
    proto = IPPROTO_ICMPV6


class xt_multiport_v1(xt_match):
    """struct xt_multiport_v1: `-m multiport`: whether a port is on a list. A port whose flag is set
    begins a range.

    EINVAL: the rule's protocol has no ports, no such flags, more than 15 ports.
    """

    name = "multiport"
    revision = 1
    families = BOTH
    size = 48

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.flags, count = info[0], info[1]
        if (
            par.proto not in WITH_PORTS
            or par.inv_proto
            or self.flags > XT_MULTIPORT_EITHER
            or count > XT_MULTI_PORTS
        ):
            raise NlError(errno.EINVAL)
        ports = struct.unpack_from("=15H", info, 2)[:count]
        begins = info[32 : 32 + count]
        self.invert = bool(info[47])
        self.ranges: list[tuple[int, int]] = []
        at = 0
        while at < count:
            ranged = bool(begins[at]) and at + 1 < count
            self.ranges.append((ports[at], ports[at + ranged]))
            at += 1 + ranged

    def has(self, port: int) -> bool:
        """Whether a port is one of the list."""
        return any(low <= port <= high for low, high in self.ranges)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_multiport.c multiport_mt."""
        if pkt.fragoff:
            return False
        source, dest = struct.unpack(">HH", l4_bytes(pkt, 4))
        found = (self.flags != XT_MULTIPORT_DESTINATION and self.has(source)) or (
            self.flags != XT_MULTIPORT_SOURCE and self.has(dest)
        )
        return found != self.invert


class xt_tcpmss(xt_match):
    """struct xt_tcpmss_match_info: `-m tcpmss`: whether the MSS option is within two numbers."""

    name = "tcpmss"
    families = BOTH
    size = 6
    proto = IPPROTO_TCP
    low: int
    high: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.low, self.high, invert = struct.unpack_from("=HHB", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_tcpmss.c tcpmss_mt."""
        for kind, at, size in tcp_options(pkt):
            if kind == TCPOPT_MSS and size == 4:
                mss = int.from_bytes(l4_bytes(pkt, at + 4)[at + 2 :], "big")
                return (self.low <= mss <= self.high) != self.invert
        return self.invert


xt_register_match(xt_tcp, xt_udp, ipt_icmp, ip6t_icmp, xt_multiport_v1, xt_tcpmss)
