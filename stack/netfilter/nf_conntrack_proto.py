"""Connections of UDP, ICMP, ICMPv6 and of any other protocol.

net/netfilter/nf_conntrack_proto_udp.c, _icmp.c, _icmpv6.c, _generic.c.
"""

from __future__ import annotations

from fastpath.base.skbuff import pskb_may_pull, sk_buff
from fastpath.net.hdr import icmphdr_at, iphdr_at, ipv6hdr_at, udphdr_at
from stack.core import netfilter
from stack.core.netfilter import nf_hook_state
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import ICMP_HLEN, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_UDP
from stack.inet.udp_flow import UDP_HLEN
from stack.ipv4.icmp_codes import NR_ICMP_TYPES
from stack.ipv6.addr import ipv6_addr_is_linklocal
from stack.ipv6.ip6_icmp import NDISC_REDIRECT
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import nf_conn, nf_conntrack_tuple_hash
from stack.netfilter.nf_conntrack_life import nf_ct_assured, nf_ct_refresh_acct
from stack.netfilter.nf_conntrack_sum import nf_ct_sum_wrong
from stack.netfilter.nf_conntrack_table import nf_conntrack_find_get
from stack.netfilter.nf_conntrack_tuple import nf_ct_get_tuplepr, nf_ct_invert_tuple, skb_bytes

ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))
"""Unreachable, source quench, redirect, time exceeded, parameter problem."""
ICMP_VALID_NEW = frozenset((8, 13, 15, 17))
"""Echo, time stamp, information and address mask requests."""
ICMPV6_VALID_NEW = frozenset((128, 139))
"""Echo and node information requests."""
ICMPV6_NOCT = frozenset((130, 131, 132, 133, 134, 135, 136, 143, 151, 152))
"""Listener discovery, routers and neighbours, which are never tracked (noct_valid_new)."""
RD_MSG_BYTES, ND_OPT_REDIRECT_HDR = 40, 4
STREAM_AFTER_NS = 2 * NSEC_PER_SEC


def udp_error(skb: sk_buff, dataoff: int, state: nf_hook_state) -> bool:
    """net/netfilter/nf_conntrack_proto_udp.c: truncated, wrong length or wrong checksum."""
    left = skb.len - dataoff
    if left < UDP_HLEN or not pskb_may_pull(skb, dataoff + UDP_HLEN):
        return True
    uh = udphdr_at(skb, dataoff)
    size = uh.len
    if (size > left or size < UDP_HLEN) and not skb.gso_size:
        return True
    return uh.check != 0 and nf_ct_sum_wrong(skb, dataoff, IPPROTO_UDP, state)


def nf_conntrack_udp_packet(
    ct: nf_conn, skb: sk_buff, dataoff: int, ctinfo: int, state: nf_hook_state
) -> int:
    """net/netfilter/nf_conntrack_proto_udp.c: NF_ACCEPT, or -NF_ACCEPT for an INVALID packet.

    A flow with answers counts as a stream after two seconds.
    """
    if udp_error(skb, dataoff, state):
        return -netfilter.NF_ACCEPT
    sysctl = ct.net.sysctl
    now = ct.net.clock.now_ns()
    if not ct.status & nf_conntrack.IPS_CONFIRMED:
        ct.stream_ts = now + STREAM_AFTER_NS
    extra = sysctl.nf_conntrack_udp_timeout
    if ct.status & nf_conntrack.IPS_SEEN_REPLY and now > ct.stream_ts:
        extra = sysctl.nf_conntrack_udp_timeout_stream
        if not ct.status & nf_conntrack.IPS_ASSURED:
            nf_ct_assured(ct)
    nf_ct_refresh_acct(ct, ctinfo, skb, extra * NSEC_PER_SEC)
    return netfilter.NF_ACCEPT


def nf_conntrack_icmp_packet(ct: nf_conn, skb: sk_buff, ctinfo: int, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_proto_icmp.c, _icmpv6.c: only requests begin a connection."""
    kind = ct.orig.tuple[5] >> 8
    if ct.protonum == IPPROTO_ICMP:
        if state.pf != netfilter.NFPROTO_IPV4 or kind not in ICMP_VALID_NEW:
            return -netfilter.NF_ACCEPT
        timeout = ct.net.sysctl.nf_conntrack_icmp_timeout
    else:
        if state.pf != netfilter.NFPROTO_IPV6 or kind not in ICMPV6_VALID_NEW:
            return -netfilter.NF_ACCEPT
        timeout = ct.net.sysctl.nf_conntrack_icmpv6_timeout
    nf_ct_refresh_acct(ct, ctinfo, skb, timeout * NSEC_PER_SEC)
    return netfilter.NF_ACCEPT


def nf_conntrack_generic_packet(ct: nf_conn, skb: sk_buff, ctinfo: int) -> int:
    """net/netfilter/nf_conntrack_proto_generic.c: track by addresses and protocol only."""
    nf_ct_refresh_acct(ct, ctinfo, skb, ct.net.sysctl.nf_conntrack_generic_timeout * NSEC_PER_SEC)
    return netfilter.NF_ACCEPT


def nf_conntrack_inet_error(
    skb: sk_buff, dataoff: int, state: nf_hook_state, outer_daddr: wide
) -> int:
    """net/netfilter/nf_conntrack_proto_icmp.c: make an ICMP error RELATED to the connection of the
    packet that it quotes at `dataoff`. -NF_ACCEPT: no such connection, or it is for another host.
    """
    inner = nf_ct_get_tuplepr(skb, dataoff, state.pf)
    if inner is None:
        return -netfilter.NF_ACCEPT
    inverse = nf_ct_invert_tuple(inner)
    if inverse is None:
        return -netfilter.NF_ACCEPT
    found: nf_conntrack_tuple_hash | None = nf_conntrack_find_get(state.net, inverse)
    # A genuine error goes to the source of the quoted packet.
    if found is None or found.tuple[4] != outer_daddr:
        return -netfilter.NF_ACCEPT
    skb.nfct = found.ct
    skb.nfctinfo = nf_conntrack.IP_CT_RELATED + (
        nf_conntrack.IP_CT_IS_REPLY if found.dir == nf_conntrack.IP_CT_DIR_REPLY else 0
    )
    return netfilter.NF_ACCEPT


def nf_conntrack_icmpv4_error(skb: sk_buff, dataoff: int, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_proto_icmp.c: check a message; an error gets its connection.
    NF_ACCEPT, or -NF_ACCEPT for an INVALID one.
    """
    if icmp_error(skb, dataoff, IPPROTO_ICMP, state):
        return -netfilter.NF_ACCEPT
    kind = icmphdr_at(skb, dataoff).type
    if kind > NR_ICMP_TYPES:
        return -netfilter.NF_ACCEPT
    if kind not in ICMP_ERRORS:
        return netfilter.NF_ACCEPT
    return nf_conntrack_inet_error(skb, dataoff + ICMP_HLEN, state, iphdr_at(skb, 0).daddr)


def nf_conntrack_icmpv6_error(skb: sk_buff, dataoff: int, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_proto_icmpv6.c: as for IPv4; neighbour discovery is untracked."""
    if icmp_error(skb, dataoff, IPPROTO_ICMPV6, state):
        return -netfilter.NF_ACCEPT
    kind = icmphdr_at(skb, dataoff).type
    if kind in ICMPV6_NOCT:
        skb.nfctinfo = nf_conntrack.IP_CT_UNTRACKED
        return netfilter.NF_ACCEPT
    if kind == NDISC_REDIRECT:
        return nf_conntrack_icmpv6_redirect(skb, dataoff, state)
    if kind >= 128:
        return netfilter.NF_ACCEPT
    return nf_conntrack_inet_error(skb, dataoff + ICMP_HLEN, state, ipv6hdr_at(skb, 0).daddr)


def nf_conntrack_icmpv6_redirect(skb: sk_buff, dataoff: int, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_proto_icmpv6.c: a redirect that quotes a packet is as an error."""
    head = skb_bytes(skb, dataoff, RD_MSG_BYTES + 2)
    if len(head) < RD_MSG_BYTES:
        return -netfilter.NF_ACCEPT
    if head[1]:
        return netfilter.NF_ACCEPT
    ip6h = ipv6hdr_at(skb, 0)
    if ip6h.hop_limit != 255 or not ipv6_addr_is_linklocal(ip6h.saddr):
        return -netfilter.NF_ACCEPT
    if len(head) < RD_MSG_BYTES + 2 or not head[RD_MSG_BYTES + 1]:
        return -netfilter.NF_ACCEPT
    if head[RD_MSG_BYTES] != ND_OPT_REDIRECT_HDR:
        return netfilter.NF_ACCEPT
    return nf_conntrack_inet_error(skb, dataoff + RD_MSG_BYTES + 8, state, ip6h.daddr)


def icmp_error(skb: sk_buff, dataoff: int, proto: int, state: nf_hook_state) -> bool:
    """Whether an ICMP message is truncated or has a wrong checksum."""
    if skb.len < dataoff + ICMP_HLEN or not pskb_may_pull(skb, dataoff + ICMP_HLEN):
        return True
    return nf_ct_sum_wrong(skb, dataoff, proto, state)
