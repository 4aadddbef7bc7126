"""Fragmentation: the part that IPv4 and IPv6 share.

net/ipv4/ip_output.c (ip_do_fragment), net/ipv6/ip6_output.c (ip6_fragment). The family checks that
the packet may be fragmented, and passes a fragment's headers and a function that completes them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    alloc_skb,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_append_frags,
    skb_checksum_help,
    skb_copy_bits,
    skb_pull,
    skb_push,
    skb_put_data,
    skb_reset_network_header,
    skb_set_transport_header,
)
from fastpath.net.gso import skb_gso_segment, skb_gso_validate_network_len
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import ETH_HLEN, NETIF_F_SG, net_device
from stack.core.snmp import ipstats6_mib, ipstats_mib
from stack.core.sock import skb_set_owner_w, sock
from stack.net import Net

LL_ROOM = 32
"""Bytes of headroom of a fragment, besides its link-layer header."""

FinishOutput = Callable[["Net", "sock | None", sk_buff], int]
"""ip_finish_output2, ip6_finish_output2: send a packet to its neighbour."""

FragNext = Callable[[sk_buff, bytearray, int, int, bool], None]
"""(fragment, headers of the next ones, offset and bytes of its payload, whether more follow):
complete its headers. ip_frag_next, ip6_frag_next.
"""


def inet_pkt_too_big(skb: sk_buff, mtu: int) -> bool:
    """ip_exceeds_mtu, ip6_pkt_too_big: whether a packet that must stay whole exceeds `mtu`."""
    if skb.len <= mtu:
        return False
    # A packet that was reassembled here must be forwarded in fragments of the original size.
    if skb.frag_max_size > mtu:
        return True
    if skb.ignore_df:
        return False
    return not (skb.gso_size and skb_gso_validate_network_len(skb, mtu))


def inet_gso_slowpath(
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    mtu: int,
    fragment: Callable[[Net, sock | None, sk_buff, int, FinishOutput], int],
    output: FinishOutput,
) -> int:
    """Split a super-packet and fragment its segments, of which some exceed the MTU.

    0 or the first error. Takes ownership of skb.
    """
    flags = skb.ip_cb_flags
    segs = inet_gso_segment(net, skb)
    ret = 0 if segs else -errno.ENOMEM
    for seg in segs:
        seg.ip_cb_flags = flags
        err = fragment(net, sk, seg, mtu, output)
        if err and not ret:
            ret = err
    return ret


def inet_gso_segment(net: Net, skb: sk_buff) -> list[sk_buff]:
    """The packets of a super-packet, data at their IP headers; none if they cannot be made.

    Takes ownership of skb.
    """
    try:
        skb_push(skb, ETH_HLEN)
        segs = skb_gso_segment(skb, net.skb_small)
    except (ValueError, MemoryError):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_SKB_GSO_SEG)
        return []
    consume_skb(skb)
    for seg in segs:
        skb_pull(seg, ETH_HLEN)
    return segs


def inet_fragment_ready(net: Net, skb: sk_buff, mib: ipstats_mib | ipstats6_mib) -> bool:
    """Compute a checksum that was left to the device. Takes ownership of skb when False."""
    if skb.ip_summed != CHECKSUM_PARTIAL or skb_checksum_help(skb):
        return True
    mib.FragFails += 1
    kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
    return False


def inet_do_fragment(
    net: Net,
    sk: sock | None,
    skb: sk_buff,
    hlen: int,
    headers: bytearray,
    most: int,
    frag_next: FragNext,
    output: FinishOutput,
    mib: ipstats_mib | ipstats6_mib,
) -> int:
    """Send skb in fragments of `headers` and at most `most` bytes of its payload, behind `hlen`.

    Fragments refer to the payload where the device can gather. Takes ownership of skb. 0, a
    NET_XMIT_* code or a negative errno.
    """
    left = skb.len - hlen
    at = 0
    err = 0
    dev: net_device = skb.dst.dev
    gather = bool(dev.features & NETIF_F_SG)
    owner = skb.sk if skb.destructor is not None else None
    while left > 0:
        length = left if left <= most else most & ~7
        frag = inet_frag_alloc(net, skb, headers, hlen + at, length, dev, gather)
        if frag is None:
            mib.FragFails += 1
            kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
            return -errno.ENOMEM
        ip_copy_metadata(frag, skb)
        if owner is not None:
            skb_set_owner_w(frag, owner)
        if not at:  # as in the kernel, the first fragment is the datagram's own sk_buff
            frag.tx_flags = skb.tx_flags
            frag.tskey = skb.tskey
        frag_next(frag, headers, at, length, length < left)
        at += length
        left -= length
        mib.FragCreates += 1
        err = output(net, sk, frag)
        if err:
            break
    if err:
        mib.FragFails += 1
        kfree_skb(skb)
    else:
        mib.FragOKs += 1
        consume_skb(skb)
    return err


def inet_frag_alloc(
    net: Net,
    skb: sk_buff,
    headers: bytearray,
    at: int,
    length: int,
    dev: net_device,
    gather: bool,
) -> sk_buff | None:
    """Make a fragment of `headers` and `length` bytes of skb from `at`; None without memory.

    The bytes are shared with skb, or copied for a device that cannot gather.
    """
    hlen = len(headers)
    room = LL_ROOM + dev.hard_header_len
    need = hlen if gather else hlen + length
    fits = need + room <= net.skb_small.buf_bytes
    frag = alloc_skb(net.skb_small if fits else net.skb_pages, need, room)
    if frag is None:
        return None
    skb_put_data(frag, headers)
    skb_reset_network_header(frag)
    skb_set_transport_header(frag, hlen)
    if not gather:
        skb_put_data(frag, skb_copy_bits(skb, at, length))
    elif not skb_append_frags(frag, skb, at, length):
        kfree_skb(frag)
        return None
    return frag


def ip_copy_metadata(to: sk_buff, frm: sk_buff) -> None:
    """net/ipv4/ip_output.c (and ip6_copy_metadata): metadata to or from a fragment."""
    to.pkt_type = frm.pkt_type
    to.priority = frm.priority
    to.protocol = frm.protocol
    to.skb_iif = frm.skb_iif
    to.dst = frm.dst
    to.dev = frm.dev
    to.mark = frm.mark
    to.tx_tstamp_ns = frm.tx_tstamp_ns
    to.hash = frm.hash
    to.ip_cb_flags = frm.ip_cb_flags
    to.queue_mapping = frm.queue_mapping
    to.nfct = frm.nfct
    to.nfctinfo = frm.nfctinfo
