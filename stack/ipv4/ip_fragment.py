"""Reassembly of IPv4 fragments (net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c; RFC 791, 815).

An overlap discards the whole datagram (as Linux does, and RFC 5722 requires for IPv6); an exact
repeat is dropped alone. Memory and time are bounded by sysctls ipfrag_*.
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_UNNECESSARY,
    sk_buff,
    skb_network_header_len,
    skb_network_offset,
    skb_pull,
    skb_push,
)
from fastpath.net.hdr import ip_hdr, ip_send_check, iphdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.rows import row, state
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_list
from stack.core.uapi import RTN_LOCAL
from stack.inet.inet_fragment import (
    IPFRAG_OK,
    IPFRAG_OVERLAP,
    fqdir,
    fqdir_exit,
    inet_frag_expire,
    inet_frag_full,
    inet_frag_purge,
    inet_frag_put,
    inet_frag_queue,
    inet_frag_reasm,
    inet_frag_start,
    ip_frag_ecn,
)
from stack.ipv4.icmp import icmp_send
from stack.ipv4.icmp_codes import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED
from stack.ipv4.ip_output import IPSKB_FRAG_COMPLETE, IPSKB_FRAG_PMTU
from stack.ipv4.route import IP_DF, IP_MF, IP_OFFSET, inet_getpeer_v4
from stack.ipv4.route_input import ip_route_input
from stack.net import Net

# enum ip_defrag_users: the callers of ip_defrag; each reassembles separately
IP_DEFRAG_LOCAL_DELIVER = 0
IP_DEFRAG_CONNTRACK_IN = 2
IP_DEFRAG_CONNTRACK_OUT = 3


@state
class ipq(inet_frag_queue):
    """struct ipq: one datagram being put together."""

    max_df_size: int = row(0)
    rid: int = row(0)


def ip_defrag(net: Net, skb: sk_buff, user: int) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: add a fragment; returns the whole packet when it is complete.

    Data at the IP header. Takes ownership of skb.
    """
    net.mib.ip.ReasmReqds += 1
    iph = ip_hdr(skb)
    qp = ip_find(net, iph, user)
    if qp is None:
        net.mib.ip.ReasmFails += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return None
    return ip_frag_queue(qp, skb)


def ip_find(net: Net, iph: iphdr, user: int) -> ipq | None:
    """net/ipv4/ip_fragment.c: the queue of a fragment, made when new; None above the limit."""
    fq = net.ipv4.frags
    key = (iph.id, iph.saddr, iph.daddr, iph.protocol, user)
    if inet_frag_full(fq, net.sysctl.ipfrag_high_thresh):
        return None
    qp = fq.queues.get(key)
    if qp is None:
        qp = ipq(net, fq, key, ip_expire)
        if net.sysctl.ipfrag_max_dist:
            qp.rid = inet_getpeer_v4(net, iph.saddr).rid
        inet_frag_start(qp, net.sysctl.ipfrag_time)
    return qp


def ip_expire(timer: timer_list) -> None:
    """net/ipv4/ip_fragment.c: reassembly timed out; send ICMP if the first fragment is here."""
    qp: ipq = timer.data
    head = inet_frag_expire(qp)
    if head is not None:
        iph = ip_hdr(head)
        # RFC 792: an end host reports the timeout. A router with conntrack does not.
        if not ip_route_input(head, iph.daddr, iph.saddr, iph.tos, head.dev) and (
            qp.key[4] == IP_DEFRAG_LOCAL_DELIVER or head.dst.rt_type == RTN_LOCAL
        ):
            icmp_send(head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
    inet_frag_purge(qp, drop_reason.SKB_DROP_REASON_FRAG_REASM_TIMEOUT)


def ip_frag_too_far(qp: ipq, saddr: int) -> bool:
    """net/ipv4/ip_fragment.c: whether too many fragments of other packets arrived in between."""
    limit = qp.net.sysctl.ipfrag_max_dist
    if not limit:
        return False
    peer = inet_getpeer_v4(qp.net, saddr)
    start = qp.rid
    peer.rid += 1
    qp.rid = peer.rid
    return bool(qp.skbs) and peer.rid - start > limit


def ip_frag_reinit(qp: ipq) -> None:
    """net/ipv4/ip_fragment.c: the sender reused the id: discard the fragments and start over."""
    net = qp.net
    mod_timer(qp.timer, net.clock.now_ns() + net.sysctl.ipfrag_time * NSEC_PER_SEC)
    inet_frag_purge(qp, drop_reason.SKB_DROP_REASON_FRAG_TOO_FAR)
    qp.flags = 0
    qp.len = 0
    qp.meat = 0
    qp.ecn = 0
    qp.max_size = 0
    qp.max_df_size = 0
    qp.dev = None


def ip_frag_queue(qp: ipq, skb: sk_buff) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: insert a fragment into the queue. Takes ownership of skb."""
    net = qp.net
    iph = ip_hdr(skb)
    if ip_frag_too_far(qp, iph.saddr):
        net.mib.ip.ReasmFails += 1
        ip_frag_reinit(qp)
    frag_off = iph.frag_off
    offset = (frag_off & IP_OFFSET) << 3
    ihl = skb_network_header_len(skb)
    end = offset + skb.len - skb_network_offset(skb) - ihl
    more = bool(frag_off & IP_MF)
    if more and end & 7:
        end &= ~7
        if skb.ip_summed != CHECKSUM_UNNECESSARY:
            skb.ip_summed = CHECKSUM_NONE
    ecn = iph.tos & 3
    skb_pull(skb, ihl)
    verdict = inet_frag_put(qp, skb, offset, end, more, ecn)
    if verdict != IPFRAG_OK:
        net.mib.ipext.ReasmOverlaps += verdict == IPFRAG_OVERLAP
        return None
    if frag_off & IP_DF:
        qp.max_df_size = max(qp.max_df_size, ihl + skb.len)
    if qp.complete:
        return ip_frag_reasm(qp, skb)
    skb.dst = None
    return None


def ip_frag_reasm(qp: ipq, last: sk_buff) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: join the fragments, with the header of the first.

    `last` is the fragment that came last.
    """
    ihl = skb_network_header_len(qp.skbs[0])
    total = ihl + qp.len
    head = inet_frag_reasm(qp, last, total, ihl)
    if head is None:
        return None
    skb_push(head, ihl)
    iph = ip_hdr(head)
    iph.tot_len = total
    iph.tos |= ip_frag_ecn(qp.ecn)
    # Set DF if the largest fragment had it, so that the sender's path MTU discovery works.
    if qp.max_df_size == qp.max_size:
        head.ip_cb_flags |= IPSKB_FRAG_PMTU
        iph.frag_off = IP_DF
    else:
        iph.frag_off = 0
    ip_send_check(iph)
    head.frag_max_size = max(qp.max_df_size, qp.max_size)
    head.ip_cb_flags |= IPSKB_FRAG_COMPLETE
    return head


def ip_frags_init(net: Net) -> None:
    """net/ipv4/ip_fragment.c ipfrag_init."""
    net.ipv4.frags = fqdir(net.mib.ip)


def ip_frags_exit(net: Net) -> None:
    """net/ipv4/ip_fragment.c: free all packets in reassembly."""
    fqdir_exit(net.ipv4.frags, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
