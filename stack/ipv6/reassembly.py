"""Reassembly of IPv6 fragments (net/ipv6/reassembly.c; RFC 8200 4.5, RFC 5722, 6946, 8021).

A fragment that is a whole packet (offset 0, no more fragments) is processed alone, even if others
with its identification wait (RFC 6946). The first fragment must hold all headers (RFC 7112). Memory
and time are bounded by sysctls ip6frag_*.
"""

from __future__ import annotations

from fastpath.base.skbuff import (
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_network_offset,
    skb_orphan,
    skb_pull,
    skb_push,
    skb_reset_network_header,
    skb_set_transport_header,
    skb_store_bits,
    skb_transport_offset,
)
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import frag_hdr_at, ipv6_skip_exthdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.rows import row, state
from stack.core.timer import timer_list
from stack.core.uapi import IPV6_HLEN
from stack.inet.inet_fragment import (
    IP_MAX_LEN,
    IPFRAG_OK,
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
from stack.ipv6 import protocol
from stack.ipv6.addr import rt6_need_strict
from stack.ipv6.ip6_cb import IP6CB, IP6SKB_FRAGMENTED, ip6cb_nhoff
from stack.ipv6.ip6_icmp import (
    ICMPV6_EXC_FRAGTIME,
    ICMPV6_HDR_FIELD,
    ICMPV6_HDR_INCOMP,
    ICMPV6_TIME_EXCEED,
    icmpv6_param_prob,
    icmpv6_send,
)
from stack.ipv6.protocol import inet6_add_protocol, inet6_protocol
from stack.net import Net

# enum ip6_defrag_users: the callers of reassembly; each reassembles separately
IP6_DEFRAG_LOCAL_DELIVER = 0
IP6_DEFRAG_CONNTRACK_IN = 1
IP6_DEFRAG_CONNTRACK_OUT = 2

FRAG_HLEN = 8
IP6_OFFSET = 0xFFF8
IP6_MF = 0x0001


@state
class frag_queue(inet_frag_queue):
    """struct frag_queue: one packet being put together.

    The packet gets the unfragmentable part of the first fragment. There `nhoff` is the offset of
    the field that names the fragment header, `hlen` the bytes before that header, and `nexthdr` the
    header behind it.
    """

    nhoff: int = row(0)
    hlen: int = row(IPV6_HLEN)
    nexthdr: int = row(protocol.NEXTHDR_NONE)


def ipv6_frag_rcv(skb: sk_buff) -> int:
    """net/ipv6/reassembly.c: handler of fragment headers, data at one. 1: go on; else skb is gone.

    Takes ownership of skb.
    """
    net: Net = skb.dev.net
    mib = net.mib.ip6
    at = skb_transport_offset(skb)
    off = at - skb_network_offset(skb)
    # A fragment of a fragment is invalid, and so is one of a jumbogram (RFC 2675 3).
    again = skb.ip_cb_flags & IP6SKB_FRAGMENTED
    if not again:
        mib.ReasmReqds += 1
    if again or not ipv6_hdr(skb).payload_len or not pskb_may_pull(skb, at + FRAG_HLEN):
        mib.InHdrErrors += 1
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, off, drop_reason.SKB_DROP_REASON_IPV6_BAD_EXTHDR)
        return -1
    fhdr = frag_hdr_at(skb, at)
    frag_off = fhdr.frag_off
    if not frag_off & (IP6_OFFSET | IP6_MF):
        mib.ReasmOKs += 1
        skb_set_transport_header(skb, at + FRAG_HLEN)
        IP6CB(skb).nhoff = off
        skb.ip_cb_flags |= IP6SKB_FRAGMENTED
        skb.frag_max_size = IPV6_HLEN + ipv6_hdr(skb).payload_len
        return 1
    if not frag_off & IP6_OFFSET and ipv6frag_thdr_truncated(skb, at, fhdr.nexthdr):
        mib.InHdrErrors += 1
        icmpv6_param_prob(skb, ICMPV6_HDR_INCOMP, 0, drop_reason.SKB_DROP_REASON_IPV6_BAD_EXTHDR)
        return -1
    fq = fq_find(net, fhdr.identification, skb, IP6_DEFRAG_LOCAL_DELIVER)
    if fq is None:
        mib.ReasmFails += 1
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return -1
    whole = ip6_frag_queue(fq, skb, frag_off)
    if whole is not None:
        net.ipv6.steps.input_finish(net, None, whole)
    return -1


def ipv6frag_thdr_truncated(skb: sk_buff, at: int, nexthdr: int) -> bool:
    """net/ipv6/exthdrs_core.c: whether the first fragment does not hold all headers.

    `at`: the offset of its fragment header. RFC 8200 4.5, RFC 7112 5.
    """
    offset, nexthdr, _ = ipv6_skip_exthdr(skb, at + FRAG_HLEN, nexthdr)
    # As on Linux a truncated extension header is accepted here. The whole transport header must be
    # there, and one byte of an unknown one.
    if offset < 0:
        return False
    need = {protocol.NEXTHDR_TCP: 20, protocol.NEXTHDR_UDP: 8, protocol.NEXTHDR_ICMP: 8}.get(
        nexthdr, 1
    )
    return offset + need > skb.len


def fq_find(net: Net, ident: int, skb: sk_buff, user: int) -> frag_queue | None:
    """net/ipv6/reassembly.c: the queue of a fragment, made when new; None above the limit."""
    fq = net.ipv6.frags
    iph = ipv6_hdr(skb)
    daddr = iph.daddr
    iif = skb.dev.ifindex if rt6_need_strict(daddr) and skb.dev is not None else 0
    key = (ident, iph.saddr, daddr, iif, user)
    if inet_frag_full(fq, net.ipv6.sysctl.ip6frag_high_thresh):
        return None
    qp = fq.queues.get(key)
    if qp is None:
        qp = frag_queue(net, fq, key, ip6_frag_expire)
        inet_frag_start(qp, net.ipv6.sysctl.ip6frag_time)
    assert isinstance(qp, frag_queue)
    return qp


def ip6_frag_expire(timer: timer_list) -> None:
    """net/ipv6/reassembly.c: reassembly timed out; send ICMPv6 if the first fragment is here."""
    qp: frag_queue = timer.data
    head = inet_frag_expire(qp)
    if head is not None:
        icmpv6_send(head, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME, 0)
    inet_frag_purge(qp, drop_reason.SKB_DROP_REASON_FRAG_REASM_TIMEOUT)


def ip6_frag_queue(qp: frag_queue, skb: sk_buff, frag_off: int) -> sk_buff | None:
    """net/ipv6/reassembly.c: insert a fragment; returns the whole packet when it is complete.

    The transport header is its fragment header. Takes ownership of skb.
    """
    net = qp.net
    iph = ipv6_hdr(skb)
    hlen = skb_transport_offset(skb) - skb_network_offset(skb)
    offset = frag_off & IP6_OFFSET
    end = offset + iph.payload_len - (hlen - IPV6_HLEN) - FRAG_HLEN
    more = bool(frag_off & IP6_MF)
    # RFC 8200 4.5: a packet has at most 65535 bytes; all fragments but the last are multiples of 8.
    if end > IP_MAX_LEN:
        net.mib.ip6.InHdrErrors += 1
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, hlen + 2, drop_reason.SKB_DROP_REASON_PKT_TOO_BIG)
        return None
    if more and end & 7:
        net.mib.ip6.InHdrErrors += 1
        icmpv6_param_prob(skb, ICMPV6_HDR_FIELD, 4, drop_reason.SKB_DROP_REASON_IP_INHDR)
        return None
    nexthdr, ecn = skb_copy_bits(skb, skb_transport_offset(skb), 1)[0], iph.priority & 3
    skb_pull(skb, skb_transport_offset(skb) + FRAG_HLEN)
    if inet_frag_put(qp, skb, offset, end, more, ecn) != IPFRAG_OK:
        return None
    if not offset:
        qp.nhoff = ip6cb_nhoff(skb)
        qp.hlen = hlen
        qp.nexthdr = nexthdr
    if qp.complete:
        return ip6_frag_reasm(qp, skb)
    skb.dst = None
    skb_orphan(skb)
    return None


def ip6_frag_reasm(qp: frag_queue, last: sk_buff) -> sk_buff | None:
    """net/ipv6/reassembly.c: join the fragments under the first one's headers.

    `last` is the fragment that came last.
    """
    hlen = qp.hlen
    payload_len = hlen - IPV6_HLEN + qp.len
    head = inet_frag_reasm(qp, last, payload_len, hlen + FRAG_HLEN)
    if head is None:
        return None
    # Move the headers before the fragment header up to the data.
    header = bytearray(skb_copy_bits(head, -(hlen + FRAG_HLEN), hlen))
    header[qp.nhoff] = qp.nexthdr
    header[4:6] = payload_len.to_bytes(2, "big")
    header[1] |= ip_frag_ecn(qp.ecn) << 4
    skb_push(head, hlen)
    skb_store_bits(head, 0, bytes(header))
    skb_reset_network_header(head)
    skb_set_transport_header(head, hlen)
    IP6CB(head).nhoff = qp.nhoff
    head.ip_cb_flags |= IP6SKB_FRAGMENTED
    head.frag_max_size = qp.max_size
    return head


frag_protocol = inet6_protocol(handler=ipv6_frag_rcv, flags=protocol.INET6_PROTO_NOPOLICY)


def ipv6_frag_init(net: Net) -> None:
    """net/ipv6/reassembly.c"""
    net.ipv6.frags = fqdir(net.mib.ip6)
    inet6_add_protocol(net, frag_protocol, protocol.NEXTHDR_FRAGMENT)


def ipv6_frag_exit(net: Net) -> None:
    """net/ipv6/reassembly.c: free all packets in reassembly."""
    fqdir_exit(net.ipv6.frags, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
