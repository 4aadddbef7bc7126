"""Reassembly of IPv4 fragments (net/ipv4/ip_fragment.c, net/ipv4/inet_fragment.c; RFC 791, 815).

Fragments that overlap throw their whole datagram away (as RFC 5722 asks of IPv6 and Linux does
here); exact repeats are dropped alone. Memory and time are bounded by sysctls ipfrag_*.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from fastpath.hdr import ip_hdr, ip_send_check
from fastpath.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_UNNECESSARY,
    alloc_skb,
    kfree_skb,
    pskb_trim,
    sk_buff,
    skb_add_data,
    skb_copy_bits,
    skb_network_header_len,
    skb_network_offset,
    skb_pull,
    skb_push,
    skb_put_data,
    skb_reset_network_header,
    skb_reset_transport_header,
    skb_try_coalesce,
    skb_unclone,
)
from stack.core.drop_reason import (
    SKB_DROP_REASON_DUP_FRAG,
    SKB_DROP_REASON_FRAG_REASM_TIMEOUT,
    SKB_DROP_REASON_FRAG_TOO_FAR,
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_NOMEM,
    SKB_DROP_REASON_NOT_SPECIFIED,
    SKB_DROP_REASON_PKT_TOO_BIG,
    kfree_skb_reason,
)
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.ipv4.ip_output import IPSKB_FRAG_COMPLETE, IPSKB_FRAG_PMTU
from stack.ipv4.route import IP_DF, IP_MF, IP_OFFSET, inet_getpeer_v4, ip_route_input

IP_DEFRAG_LOCAL_DELIVER = 0

COMPACT_ABOVE = 500  # fragments; an sk_buff holds 1100 pieces
LL_ROOM = 64

INET_FRAG_FIRST_IN = 1
INET_FRAG_LAST_IN = 2
INET_FRAG_COMPLETE = 4

INET_ECN_NOT_ECT = 0
INET_ECN_CE = 3


class ipq:
    """struct ipq: one datagram being put together. Offsets and lengths in bytes of payload."""

    __slots__ = (
        "dev",
        "ecn",
        "ends",
        "flags",
        "key",
        "len",
        "max_df_size",
        "max_size",
        "meat",
        "mem",
        "net",
        "offsets",
        "rid",
        "skbs",
        "timer",
    )

    def __init__(self, net: Any, key: tuple[int, int, int, int, int]) -> None:
        self.net = net
        self.key = key
        self.offsets: list[int] = []  # sorted, in step with ends and skbs
        self.ends: list[int] = []
        self.skbs: list[sk_buff] = []
        self.flags = 0
        self.len = 0
        self.meat = 0
        self.mem = 0
        self.ecn = 0
        self.max_size = 0
        self.max_df_size = 0
        self.rid = 0
        self.dev: Any = None
        self.timer = timer_list(net.machine, ip_expire, data=self)


class fqdir:
    """struct fqdir: the datagrams of one host that wait for fragments; `mem` in bytes."""

    __slots__ = ("mem", "queues")

    def __init__(self) -> None:
        self.queues: dict[tuple[int, int, int, int, int], ipq] = {}
        self.mem = 0


def ip_defrag(net: Any, skb: sk_buff, user: int) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: add a fragment; the whole packet when it was the last one missing.

    Data at the IP header. Takes ownership of skb.
    """
    net.mib.ip.ReasmReqds += 1
    iph = ip_hdr(skb)
    qp = ip_find(net, iph, user)
    if qp is None:
        net.mib.ip.ReasmFails += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
        return None
    return ip_frag_queue(qp, skb)


def ip_find(net: Any, iph: Any, user: int) -> ipq | None:
    """net/ipv4/ip_fragment.c: the queue of a fragment, made when new; None above the limit."""
    fq = net.ipv4.frags
    key = (iph.id, iph.saddr, iph.daddr, iph.protocol, user)
    qp = fq.queues.get(key)
    if qp is None:
        if fq.mem > net.sysctl.ipfrag_high_thresh:
            return None
        qp = fq.queues[key] = ipq(net, key)
        if net.sysctl.ipfrag_max_dist:
            qp.rid = inet_getpeer_v4(net, iph.saddr).rid
        mod_timer(qp.timer, net.clock.now_ns() + net.sysctl.ipfrag_time * 1_000_000_000)
    return qp


def inet_frag_kill(qp: ipq) -> None:
    """net/ipv4/inet_fragment.c: no more fragments for this datagram."""
    if qp.flags & INET_FRAG_COMPLETE:
        return
    qp.flags |= INET_FRAG_COMPLETE
    timer_delete(qp.timer)
    fq = qp.net.ipv4.frags
    if fq.queues.get(qp.key) is qp:
        del fq.queues[qp.key]


def inet_frag_purge(qp: ipq, reason: int) -> None:
    """net/ipv4/inet_fragment.c: free the fragments that were collected."""
    net = qp.net
    for skb in qp.skbs:
        kfree_skb_reason(net, skb, reason)
    qp.skbs.clear()
    qp.offsets.clear()
    qp.ends.clear()
    net.ipv4.frags.mem -= qp.mem
    qp.mem = 0


def ip_expire(timer: timer_list) -> None:
    """net/ipv4/ip_fragment.c: time is over for a datagram; ICMP when its head is here."""
    qp: ipq = timer.data
    if qp.flags & INET_FRAG_COMPLETE:
        return
    net = qp.net
    inet_frag_kill(qp)
    net.mib.ip.ReasmFails += 1
    net.mib.ip.ReasmTimeout += 1
    if qp.flags & INET_FRAG_FIRST_IN and qp.skbs and qp.dev is not None:
        from stack.ipv4.icmp import ICMP_EXC_FRAGTIME, ICMP_TIME_EXCEEDED, icmp_send

        head = qp.skbs[0]
        head.dev = qp.dev
        iph = ip_hdr(head)
        if not ip_route_input(head, iph.daddr, iph.saddr, iph.tos, qp.dev):
            icmp_send(head, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME, 0)
    inet_frag_purge(qp, SKB_DROP_REASON_FRAG_REASM_TIMEOUT)


def ip_frag_too_far(qp: ipq, saddr: int) -> bool:
    """net/ipv4/ip_fragment.c: too many other fragments of this sender since this queue began."""
    limit = qp.net.sysctl.ipfrag_max_dist
    if not limit:
        return False
    peer = inet_getpeer_v4(qp.net, saddr)
    start = qp.rid
    peer.rid += 1
    qp.rid = peer.rid
    return bool(qp.skbs) and peer.rid - start > limit


def ip_frag_reinit(qp: ipq) -> None:
    """net/ipv4/ip_fragment.c: the id came round again: start over."""
    net = qp.net
    mod_timer(qp.timer, net.clock.now_ns() + net.sysctl.ipfrag_time * 1_000_000_000)
    inet_frag_purge(qp, SKB_DROP_REASON_FRAG_TOO_FAR)
    qp.flags = 0
    qp.len = 0
    qp.meat = 0
    qp.ecn = 0
    qp.max_size = 0
    qp.max_df_size = 0
    qp.dev = None


def discard_qp(qp: ipq, skb: sk_buff, reason: int) -> None:
    """Throw the whole datagram and the fragment at hand away."""
    net = qp.net
    inet_frag_kill(qp)
    inet_frag_purge(qp, reason)
    net.mib.ip.ReasmFails += 1
    kfree_skb_reason(net, skb, reason)


def ip_frag_queue(qp: ipq, skb: sk_buff) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: put one fragment into its place. Takes ownership of skb."""
    net = qp.net
    iph = ip_hdr(skb)
    if ip_frag_too_far(qp, iph.saddr):
        net.mib.ip.ReasmFails += 1
        ip_frag_reinit(qp)
    ecn = 1 << (iph.tos & 3)
    frag_off = iph.frag_off
    offset = (frag_off & IP_OFFSET) << 3
    ihl = skb_network_header_len(skb)
    end = offset + skb.len - skb_network_offset(skb) - ihl
    if not frag_off & IP_MF:
        # The last one: nothing may lie beyond it, and its end must not move.
        if end < qp.len or (qp.flags & INET_FRAG_LAST_IN and end != qp.len):
            discard_qp(qp, skb, SKB_DROP_REASON_NOT_SPECIFIED)
            return None
        qp.flags |= INET_FRAG_LAST_IN
        qp.len = end
    else:
        if end & 7:
            end &= ~7
            if skb.ip_summed != CHECKSUM_UNNECESSARY:
                skb.ip_summed = CHECKSUM_NONE
        if end > qp.len:
            if qp.flags & INET_FRAG_LAST_IN:
                discard_qp(qp, skb, SKB_DROP_REASON_NOT_SPECIFIED)
                return None
            qp.len = end
    if end <= offset:
        discard_qp(qp, skb, SKB_DROP_REASON_IP_INHDR)
        return None
    skb_pull(skb, ihl)
    pskb_trim(skb, end - offset)
    verdict = inet_frag_queue_insert(qp, skb, offset, end)
    if verdict == IPFRAG_DUP:
        kfree_skb_reason(net, skb, SKB_DROP_REASON_DUP_FRAG)
        return None
    if verdict == IPFRAG_OVERLAP:
        net.mib.ipext.ReasmOverlaps += 1
        discard_qp(qp, skb, SKB_DROP_REASON_NOT_SPECIFIED)
        return None
    qp.dev = skb.dev
    qp.meat += skb.len
    qp.ecn |= ecn
    qp.mem += skb.truesize
    net.ipv4.frags.mem += skb.truesize
    if offset == 0:
        qp.flags |= INET_FRAG_FIRST_IN
    fragsize = skb.len + ihl
    if fragsize > qp.max_size:
        qp.max_size = fragsize
    if frag_off & IP_DF and fragsize > qp.max_df_size:
        qp.max_df_size = fragsize
    if (
        qp.flags & (INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN)
        == INET_FRAG_FIRST_IN | INET_FRAG_LAST_IN
        and qp.meat == qp.len
    ):
        return ip_frag_reasm(qp)
    skb.dst = None
    return None


IPFRAG_OK = 0
IPFRAG_DUP = 1
IPFRAG_OVERLAP = 2


def inet_frag_queue_insert(qp: ipq, skb: sk_buff, offset: int, end: int) -> int:
    """net/ipv4/inet_fragment.c: keep the fragments sorted; find repeats and overlaps."""
    offsets, ends = qp.offsets, qp.ends
    if not ends or offset >= ends[-1]:
        offsets.append(offset)
        ends.append(end)
        qp.skbs.append(skb)
        return IPFRAG_OK
    at = bisect_left(offsets, offset)
    clash_before = at > 0 and ends[at - 1] > offset
    clash_after = at < len(offsets) and offsets[at] < end
    if not clash_before and not clash_after:
        offsets.insert(at, offset)
        ends.insert(at, end)
        qp.skbs.insert(at, skb)
        return IPFRAG_OK
    # Inside a run of adjacent fragments: everything is here already.
    first = at - 1 if clash_before else at
    if offsets[first] > offset:
        return IPFRAG_OVERLAP
    reach = ends[first]
    i = first + 1
    while reach < end and i < len(offsets) and offsets[i] == reach:
        reach = ends[i]
        i += 1
    return IPFRAG_DUP if reach >= end else IPFRAG_OVERLAP


def ip_frag_ecn(ecn: int) -> int:
    """net/ipv4/inet_fragment.c ip_frag_ecn_table (RFC 3168 5.3): bits to OR into TOS, 255 = drop.

    `ecn` has bit n set when a fragment carried codepoint n.
    """
    if ecn & 1 << INET_ECN_NOT_ECT:
        return 0 if ecn == 1 << INET_ECN_NOT_ECT else 255
    return INET_ECN_CE if ecn & 1 << INET_ECN_CE else 0


def ip_frag_reasm(qp: ipq) -> sk_buff | None:
    """net/ipv4/ip_fragment.c: join the fragments under the first one's header."""
    net = qp.net
    inet_frag_kill(qp)
    head = qp.skbs[0]
    ihl = skb_network_header_len(head)
    total = ihl + qp.len
    ecn = ip_frag_ecn(qp.ecn)
    if total > 65535 or ecn == 255:
        inet_frag_purge(qp, SKB_DROP_REASON_PKT_TOO_BIG)
        net.mib.ip.ReasmFails += 1
        return None
    rest = qp.skbs[1:]
    net.ipv4.frags.mem -= qp.mem
    qp.mem = 0
    qp.skbs = []
    joined = inet_frag_reasm_join(net, head, rest, ihl)
    if joined is None:
        net.mib.ip.ReasmFails += 1
        return None
    head = joined
    skb_push(head, ihl)
    head.ip_summed = CHECKSUM_NONE
    iph = ip_hdr(head)
    iph.tot_len = total
    iph.tos |= ecn
    # DF comes back when the largest fragment had it: path MTU discovery of the sender goes on.
    if qp.max_df_size == qp.max_size:
        head.ip_cb_flags |= IPSKB_FRAG_PMTU
        iph.frag_off = IP_DF
    else:
        iph.frag_off = 0
    ip_send_check(iph)
    head.frag_max_size = max(qp.max_df_size, qp.max_size)
    head.ip_cb_flags |= IPSKB_FRAG_COMPLETE
    head.dev = qp.dev
    if head.dst is None:
        reason = ip_route_input(head, iph.daddr, iph.saddr, iph.tos, qp.dev)
        if reason:
            kfree_skb_reason(net, head, reason)
            net.mib.ip.ReasmFails += 1
            return None
    net.mib.ip.ReasmOKs += 1
    return head


def inet_frag_reasm_join(net: Any, head: sk_buff, rest: list[sk_buff], ihl: int) -> sk_buff | None:
    """Append every fragment's data to `head` by moving buffers; None when memory runs out.

    Takes ownership of all. More pieces than an sk_buff has places for are copied together.
    """
    if len(rest) <= COMPACT_ABOVE and skb_unclone(head):
        while rest and skb_try_coalesce(head, rest[0]):
            del rest[0]
        if not rest:
            return head
    whole = alloc_skb(net.skb_small, ihl, LL_ROOM)
    if whole is not None:
        skb_put_data(whole, skb_copy_bits(head, -ihl, ihl))
        skb_reset_network_header(whole)
        skb_pull(whole, ihl)
        skb_reset_transport_header(whole)
        whole.protocol = head.protocol
        whole.pkt_type = head.pkt_type
        whole.tstamp_ns = head.tstamp_ns
        whole.dst = head.dst
        whole.cb = head.cb
    for skb in (head, *rest):
        data = skb_copy_bits(skb, 0, skb.len)
        if whole is not None and skb_add_data(whole, net.skb_pages, data, 0, len(data)) < len(data):
            kfree_skb_reason(net, whole, SKB_DROP_REASON_NOMEM)
            whole = None
        kfree_skb(skb)
    return whole


def ip_frags_init(net: Any) -> None:
    """net/ipv4/ip_fragment.c ipfrag_init."""
    net.ipv4.frags = fqdir()


def ip_frags_exit(net: Any) -> None:
    """net/ipv4/ip_fragment.c: free everything that waits."""
    for qp in list(net.ipv4.frags.queues.values()):
        inet_frag_kill(qp)
        inet_frag_purge(qp, SKB_DROP_REASON_NOT_SPECIFIED)
