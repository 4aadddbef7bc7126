"""NAT of each packet: rewriting headers and their checksums (net/netfilter/nf_nat_proto.c).

Checksums are updated incrementally (RFC 1624), also those that a NIC will complete. A packet quoted
in an ICMP error is translated in the opposite direction, so that its sender recognizes it.
"""

from __future__ import annotations

from fastpath.base import skbuff
from fastpath.base.csum import csum_fold, csum_ipv6_magic, csum_replace2, csum_replace4
from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_checksum, skb_cow
from fastpath.net.hdr import icmphdr_at, iphdr_at, ipv6hdr_at, tcphdr_at, udphdr_at
from stack.core.netfilter import NF_INET_PRE_ROUTING, NFPROTO_IPV4
from stack.core.rows import narrow, wide
from stack.core.uapi import (
    ICMP_HLEN,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    TCP_HLEN,
)
from stack.ipv4.icmp_codes import ICMP_REDIRECT
from stack.ipv6.ip6_icmp import NDISC_REDIRECT
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import Tuple, ctinfo2dir, nf_conn
from stack.netfilter.nf_conntrack_sum import nf_checksum
from stack.netfilter.nf_conntrack_tuple import nf_ct_invert_tuple, nf_ct_l4_offset
from stack.netfilter.nf_nat_core import HOOK2MANIP, NF_NAT_MANIP_SRC

M16 = 0xFFFF
M32 = 0xFFFFFFFF
CSUM_MANGLED_0 = 0xFFFF
PORTS_HLEN = 8
ICMP_QUERIES = frozenset((0, 8, 13, 14, 15, 16, 17, 18))
ICMPV6_QUERIES = frozenset((128, 129))


def csum_replace_addr(check: int, old: wide, new: wide, pf: int) -> int:
    """Update a checksum for a changed address in its pseudo header."""
    check = csum_replace4(check, narrow(old & M32), narrow(new & M32))
    if pf != NFPROTO_IPV4:
        check = csum_replace4(check, narrow(old >> 32 & M32), narrow(new >> 32 & M32))
        check = csum_replace4(check, narrow(old >> 64 & M32), narrow(new >> 64 & M32))
        check = csum_replace4(check, narrow(old >> 96 & M32), narrow(new >> 96 & M32))
    return check


def inet_proto_csum_replace(check: int, old: wide, new: wide, pf: int, partial: bool) -> int:
    """net/core/utils.c inet_proto_csum_replace4/16 with pseudohdr: an address changed.

    `partial`: the field holds only the pseudo header's sum, not complemented.
    """
    if partial:
        return ~csum_replace_addr(~check & M16, old, new, pf) & M16
    return csum_replace_addr(check, old, new, pf)


def tcp_manip_pkt(
    skb: sk_buff, off: int, port: int, maniptype: int, old: wide, new: wide, pf: int, inner: bool
) -> None:
    """net/netfilter/nf_nat_proto.c: ports and checksum of a TCP header. One quoted in an ICMP error
    may be truncated after the ports.
    """
    whole = skb.len >= off + TCP_HLEN and pskb_may_pull(skb, off + TCP_HLEN)
    ports = udphdr_at(skb, off)
    before = ports.source if maniptype == NF_NAT_MANIP_SRC else ports.dest
    if maniptype == NF_NAT_MANIP_SRC:
        ports.source = port
    else:
        ports.dest = port
    if not whole:
        return
    th = tcphdr_at(skb, off)
    partial = skb.ip_summed == skbuff.CHECKSUM_PARTIAL and not inner
    check = inet_proto_csum_replace(th.check, old, new, pf, partial)
    if not partial:
        check = csum_replace2(check, before, port)
    th.check = check


def udp_manip_pkt(
    skb: sk_buff, off: int, port: int, maniptype: int, old: wide, new: wide, pf: int, inner: bool
) -> None:
    """net/netfilter/nf_nat_proto.c: ports and checksum of a UDP header; a checksum of 0 stays."""
    uh = udphdr_at(skb, off)
    before = uh.source if maniptype == NF_NAT_MANIP_SRC else uh.dest
    if maniptype == NF_NAT_MANIP_SRC:
        uh.source = port
    else:
        uh.dest = port
    partial = skb.ip_summed == skbuff.CHECKSUM_PARTIAL and not inner
    if skb.gso_type & skbuff.SKB_GSO_ENCAP:  # that sum belongs to an inner packet
        partial = False
    check = uh.check
    if not check and not partial:
        return
    check = inet_proto_csum_replace(check, old, new, pf, partial)
    if not partial:
        check = csum_replace2(check, before, port) or CSUM_MANGLED_0
    uh.check = check


def icmp_manip_pkt(
    skb: sk_buff, off: int, proto: int, ident: int, old: wide, new: wide, pf: int
) -> None:
    """net/netfilter/nf_nat_proto.c: a query's identifier, and ICMPv6's sum for its addresses."""
    icmph = icmphdr_at(skb, off)
    check = icmph.checksum
    if proto == IPPROTO_ICMPV6:
        partial = skb.ip_summed == skbuff.CHECKSUM_PARTIAL
        check = inet_proto_csum_replace(check, old, new, pf, partial)
    queries = ICMP_QUERIES if proto == IPPROTO_ICMP else ICMPV6_QUERIES
    if icmph.type in queries:
        check = csum_replace2(check, icmph.id, ident)
        icmph.id = ident
    icmph.checksum = check


def nf_nat_manip_pkt(
    skb: sk_buff, nhoff: int, target: Tuple, maniptype: int, pf: int, inner: bool
) -> bool:
    """net/netfilter/nf_nat_proto.c nf_nat_ipv4_manip_pkt, nf_nat_ipv6_manip_pkt: give the packet at
    `nhoff` (from data) the source or destination of `target`. False: it cannot be written.

    `inner`: the packet is quoted in an ICMP error.
    """
    off, proto = nf_ct_l4_offset(skb, nhoff, pf)
    if off < 0:
        return False
    new: wide = target[2] if maniptype == NF_NAT_MANIP_SRC else target[4]
    port: int = target[3] if maniptype == NF_NAT_MANIP_SRC else target[5]
    if pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, nhoff)
        old: wide = iph.saddr if maniptype == NF_NAT_MANIP_SRC else iph.daddr
    else:
        ip6h = ipv6hdr_at(skb, nhoff)
        old = ip6h.saddr if maniptype == NF_NAT_MANIP_SRC else ip6h.daddr
    need = off + (PORTS_HLEN if proto in (IPPROTO_TCP, IPPROTO_UDP) else ICMP_HLEN)
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        if skb.len < need or not pskb_may_pull(skb, need):
            return False
        if proto == IPPROTO_TCP:
            tcp_manip_pkt(skb, off, port, maniptype, old, new, pf, inner)
        else:
            udp_manip_pkt(skb, off, port, maniptype, old, new, pf, inner)
    elif proto == (IPPROTO_ICMP if pf == NFPROTO_IPV4 else IPPROTO_ICMPV6):
        if skb.len < need or not pskb_may_pull(skb, need):
            return False
        icmp_manip_pkt(skb, off, proto, target[3], old, new, pf)
    if pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, nhoff)
        iph.check = csum_replace4(iph.check, narrow(old), narrow(new))
        if maniptype == NF_NAT_MANIP_SRC:
            iph.saddr = narrow(new)
        else:
            iph.daddr = narrow(new)
    else:
        ip6h = ipv6hdr_at(skb, nhoff)
        if maniptype == NF_NAT_MANIP_SRC:
            ip6h.saddr = new
        else:
            ip6h.daddr = new
    return True


def nf_nat_writable(skb: sk_buff) -> bool:
    """skb_ensure_writable: unshare the headers. CHECKSUM_COMPLETE is dropped."""
    if skb.ip_summed == skbuff.CHECKSUM_COMPLETE:
        skb.ip_summed = skbuff.CHECKSUM_NONE
    return skb_cow(skb, 0)


def statusbit_of(maniptype: int, direction: int) -> int:
    """The bit (IPS_SRC_NAT or IPS_DST_NAT) for translation of packets of a direction."""
    bit = nf_conntrack.IPS_SRC_NAT if maniptype == NF_NAT_MANIP_SRC else nf_conntrack.IPS_DST_NAT
    return bit ^ nf_conntrack.IPS_NAT_MASK if direction else bit


def nf_nat_packet(ct: nf_conn, ctinfo: int, hook: int, skb: sk_buff, pf: int) -> bool:
    """net/netfilter/nf_nat_core.c: translate a packet; False: drop it."""
    maniptype = HOOK2MANIP(hook)
    direction = ctinfo2dir(ctinfo)
    if not ct.status & statusbit_of(maniptype, direction):
        return True
    target = nf_ct_invert_tuple(ct.orig.tuple if direction else ct.reply.tuple)
    if target is None or not nf_nat_writable(skb):
        return False
    return nf_nat_manip_pkt(skb, 0, target, maniptype, pf, False)


def nf_nat_icmp_reply_translation(
    skb: sk_buff, ct: nf_conn, ctinfo: int, hook: int, pf: int, off: int
) -> bool:
    """net/netfilter/nf_nat_proto.c (and nf_nat_icmpv6_reply_translation): translate an ICMP error:
    its own header as the connection's replies, the quoted packet as the original. `off`: the offset
    of the ICMP header. False: drop the packet.
    """
    if skb.len < off + ICMP_HLEN or not pskb_may_pull(skb, off + ICMP_HLEN):
        return False
    proto = IPPROTO_ICMP if pf == NFPROTO_IPV4 else IPPROTO_ICMPV6
    if hook == NF_INET_PRE_ROUTING and nf_checksum(skb, off, proto, pf):
        return False
    redirect = ICMP_REDIRECT if pf == NFPROTO_IPV4 else NDISC_REDIRECT
    if icmphdr_at(skb, off).type == redirect and (
        ct.status & nf_conntrack.IPS_NAT_DONE_MASK != nf_conntrack.IPS_NAT_DONE_MASK
        or ct.status & nf_conntrack.IPS_NAT_MASK
    ):
        return False  # it redirects to a translated address
    maniptype = HOOK2MANIP(hook)
    direction = ctinfo2dir(ctinfo)
    if not ct.status & statusbit_of(maniptype, direction):
        return True
    other = ct.orig.tuple if direction else ct.reply.tuple
    target = nf_ct_invert_tuple(other)
    if target is None or not nf_nat_writable(skb):
        return False
    if not nf_nat_manip_pkt(skb, off + ICMP_HLEN, other, 1 - maniptype, pf, True):
        return False
    if skb.ip_summed != skbuff.CHECKSUM_PARTIAL:
        icmph = icmphdr_at(skb, off)
        icmph.checksum = 0
        n = skb.len - off
        acc = skb_checksum(skb, off, n)
        if pf == NFPROTO_IPV4:
            check = csum_fold(acc)
        else:
            ip6h = ipv6hdr_at(skb, 0)
            check = csum_ipv6_magic(ip6h.saddr, ip6h.daddr, n, proto, acc)
        icmphdr_at(skb, off).checksum = check
    return nf_nat_manip_pkt(skb, 0, target, maniptype, pf, False)
