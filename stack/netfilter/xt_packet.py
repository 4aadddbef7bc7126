"""Matches about the headers of a packet, and its sender: net/netfilter/xt_iprange.c, xt_length.c,
xt_hl.c, xt_dscp.c, xt_pkttype.c, xt_mac.c, xt_mark.c, xt_owner.c."""

from __future__ import annotations

import errno
import struct

from fastpath.base.skbuff import skb_mac_header_was_set
from fastpath.net.hdr import ETH_HLEN, eth_hdr, iphdr_at, ipv6hdr_at
from stack.core.netdevice import ARPHRD_ETHER
from stack.core.netfilter import (
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
)
from stack.core.rows import wide
from stack.core.uapi import IPV6_HLEN
from stack.netfilter.nf_tables import nft_pktinfo
from stack.netfilter.nft_meta import packet_type
from stack.netfilter.x_tables import (
    BOTH,
    xt_match,
    xt_mtchk_param,
    xt_register_match,
)
from stack.netlink.nlattr import NlError

IPRANGE_SRC, IPRANGE_DST, IPRANGE_SRC_INV, IPRANGE_DST_INV = 1 << 0, 1 << 1, 1 << 4, 1 << 5
IPT_TTL_EQ, IPT_TTL_NE, IPT_TTL_LT, IPT_TTL_GT = 0, 1, 2, 3
XT_OWNER_UID, XT_OWNER_GID, XT_OWNER_SOCKET, XT_OWNER_SUPPL_GROUPS = 1, 2, 4, 8


def addresses(pkt: nft_pktinfo) -> tuple[wide, wide]:
    """Source and destination."""
    if pkt.pf == NFPROTO_IPV4:
        iph = iphdr_at(pkt.skb, 0)
        return iph.saddr, iph.daddr
    ip6h = ipv6hdr_at(pkt.skb, 0)
    return ip6h.saddr, ip6h.daddr


def dsfield(pkt: nft_pktinfo) -> int:
    """ipv4_get_dsfield, ipv6_get_dsfield."""
    skb = pkt.skb
    return iphdr_at(skb, 0).tos if pkt.pf == NFPROTO_IPV4 else ipv6hdr_at(skb, 0).priority


class xt_iprange_mtinfo(xt_match):
    """struct xt_iprange_mtinfo: `-m iprange`: whether source or destination are within ranges."""

    name = "iprange"
    revision = 1
    families = BOTH
    size = 68

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        alen = 4 if par.family == NFPROTO_IPV4 else 16
        self.ends = [int.from_bytes(info[at : at + alen], "big") for at in range(0, 64, 16)]
        self.flags = info[64]

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_iprange.c iprange_mt4, iprange_mt6."""
        saddr, daddr = addresses(pkt)
        s_min, s_max, d_min, d_max = self.ends
        flags = self.flags
        if flags & IPRANGE_SRC and (s_min <= saddr <= s_max) == bool(flags & IPRANGE_SRC_INV):
            return False
        return not flags & IPRANGE_DST or (d_min <= daddr <= d_max) != bool(flags & IPRANGE_DST_INV)


class xt_length_info(xt_match):
    """struct xt_length_info: `-m length`, of the packet with its IP header."""

    name = "length"
    families = BOTH
    size = 6
    low: int
    high: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.low, self.high, invert = struct.unpack_from("=HHB", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_length.c length_mt, length_mt6."""
        if pkt.pf == NFPROTO_IPV4:
            size = iphdr_at(pkt.skb, 0).tot_len or pkt.skb.len
        else:
            size = ipv6hdr_at(pkt.skb, 0).payload_len + IPV6_HLEN
        return (self.low <= size <= self.high) != self.invert


class ipt_ttl_info(xt_match):
    """struct ipt_ttl_info: `-m ttl`: compare the TTL (IPT_TTL_*)."""

    name = "ttl"
    families = (NFPROTO_IPV4,)
    size = 2

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mode, self.ttl = info[:2]

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_hl.c ttl_mt, hl_mt6."""
        skb = pkt.skb
        ttl = iphdr_at(skb, 0).ttl if pkt.pf == NFPROTO_IPV4 else ipv6hdr_at(skb, 0).hop_limit
        if self.mode == IPT_TTL_EQ:
            return ttl == self.ttl
        if self.mode == IPT_TTL_NE:
            return ttl != self.ttl
        if self.mode == IPT_TTL_LT:
            return ttl < self.ttl
        return self.mode == IPT_TTL_GT and ttl > self.ttl


class ip6t_hl_info(ipt_ttl_info):
    """struct ip6t_hl_info: `-m hl`: compare the hop limit."""

    name = "hl"
    families = (NFPROTO_IPV6,)


class xt_tos_match_info(xt_match):
    """struct xt_tos_match_info: `-m tos`: compare masked bits of TOS, or of the traffic class."""

    name = "tos"
    revision = 1
    families = BOTH
    size = 3

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mask, self.value, invert = info[:3]
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_dscp.c tos_mt."""
        return (dsfield(pkt) & self.mask == self.value) != self.invert


class xt_dscp_info(xt_match):
    """struct xt_dscp_info: `-m dscp`: compare the DSCP. EDOM: it is over 63."""

    name = "dscp"
    families = BOTH
    size = 2

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.dscp, self.invert = info[0], bool(info[1])
        if self.dscp > 63:
            raise NlError(errno.EDOM)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_dscp.c dscp_mt, dscp_mt6."""
        return (dsfield(pkt) >> 2 == self.dscp) != self.invert


class xt_pkttype_info(xt_match):
    """struct xt_pkttype_info: `-m pkttype`: compare the type of reception (PACKET_*)."""

    name = "pkttype"
    size = 8
    type: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.type, invert = struct.unpack_from("=ii", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_pkttype.c pkttype_mt."""
        return (packet_type(pkt) == self.type) != self.invert


def has_ethernet_header(pkt: nft_pktinfo) -> bool:
    """Whether the packet came with an Ethernet header."""
    skb = pkt.skb
    return (
        skb.dev is not None
        and skb.dev.type == ARPHRD_ETHER
        and skb_mac_header_was_set(skb)
        and skb.mac_header + ETH_HLEN <= skb.network_header
    )


class xt_mac_info(xt_match):
    """struct xt_mac_info: `-m mac`: compare the source in the Ethernet header, if it has one."""

    name = "mac"
    size = 12
    addr: bytes
    hooks = 1 << NF_INET_PRE_ROUTING | 1 << NF_INET_LOCAL_IN | 1 << NF_INET_FORWARD

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.addr, invert = struct.unpack_from("=6s2xi", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_mac.c mac_mt."""
        if not has_ethernet_header(pkt):
            return False
        return (eth_hdr(pkt.skb).h_source == self.addr) != self.invert


class xt_mark_mtinfo1(xt_match):
    """struct xt_mark_mtinfo1: `-m mark`: compare masked bits of the packet's mark."""

    name = "mark"
    revision = 1
    size = 12
    mark: int
    mask: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        self.mark, self.mask, invert = struct.unpack_from("=IIB", info)
        self.invert = bool(invert)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_mark.c mark_mt."""
        return (pkt.skb.mark & self.mask == self.mark) != self.invert


class xt_owner_match_info(xt_match):
    """struct xt_owner_match_info: `-m owner`: whether a socket of this host sends the packet, and
    whose it is: all are the one user's of the host. EOPNOTSUPP: supplementary groups.
    """

    name = "owner"
    revision = 1
    size = 20
    hooks = 1 << NF_INET_LOCAL_OUT | 1 << NF_INET_POST_ROUTING
    flags: int
    inv: int

    def __init__(self, par: xt_mtchk_param, info: bytes) -> None:
        *self.owners, self.flags, self.inv = struct.unpack_from("=IIIIBB", info)
        if self.flags & XT_OWNER_SUPPL_GROUPS:
            raise NlError(errno.EOPNOTSUPP)

    def match(self, pkt: nft_pktinfo) -> bool:
        """net/netfilter/xt_owner.c owner_mt."""
        sk = pkt.state.sk
        if sk is None:
            return self.flags == self.inv
        if self.flags & self.inv & XT_OWNER_SOCKET:
            return False
        if sk.sk_kern_sock:  # a kernel socket has no file and no owner
            return not (self.flags ^ self.inv) & (XT_OWNER_UID | XT_OWNER_GID)
        net, (uid_min, uid_max, gid_min, gid_max) = pkt.state.net, self.owners
        owned = uid_min <= net.uid <= uid_max
        if self.flags & XT_OWNER_UID and owned == bool(self.inv & XT_OWNER_UID):
            return False
        owned = gid_min <= net.gid <= gid_max
        return not self.flags & XT_OWNER_GID or owned != bool(self.inv & XT_OWNER_GID)


xt_register_match(
    xt_owner_match_info,
    xt_iprange_mtinfo,
    xt_length_info,
    ipt_ttl_info,
    ip6t_hl_info,
    xt_tos_match_info,
    xt_dscp_info,
    xt_pkttype_info,
    xt_mac_info,
    xt_mark_mtinfo1,
)
