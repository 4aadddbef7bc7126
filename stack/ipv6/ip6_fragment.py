"""Cutting packets into fragments (net/ipv6/ip6_output.c; RFC 8200 4.5, RFC 7739).

Only the sender fragments; a router answers packet too big.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastpath.hdr import ipv6_hdr
from fastpath.skbuff import (
    CHECKSUM_PARTIAL,
    alloc_skb,
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_append_frags,
    skb_checksum_help,
    skb_copy_bits,
    skb_put_data,
    skb_reset_network_header,
    skb_set_transport_header,
)
from stack.core.drop_reason import (
    SKB_DROP_REASON_IP_INHDR,
    SKB_DROP_REASON_NOMEM,
    SKB_DROP_REASON_PKT_TOO_BIG,
    kfree_skb_reason,
)
from stack.core.netdevice import NETIF_F_SG
from stack.core.sock import skb_set_owner_w
from stack.ipv6.ip6_icmp import ICMPV6_PKT_TOOBIG, icmpv6_send
from stack.ipv6.protocol import NEXTHDR_DEST, NEXTHDR_FRAGMENT, NEXTHDR_HOP, NEXTHDR_ROUTING

if TYPE_CHECKING:
    from stack.core.sock import sock
    from stack.net import Net

FRAG_HLEN = 8
IPV6_HLEN = 40
LL_ROOM = 32

FinishOutput = Callable[["Net", "sock | None", sk_buff], int]


def ipv6_select_ident(net: Net) -> int:
    """net/ipv6/output_core.c: an identification that nobody can guess, never 0 (RFC 7739 5.3)."""
    return net.random.randrange(1, 1 << 32)


def ip6_find_1stfragopt(skb: sk_buff) -> tuple[int, int]:
    """net/ipv6/output_core.c: (offset of the fragment header, offset of the field that names it).

    The fragment header is behind hop-by-hop options, a routing header and the destination options
    before that (RFC 8200 4.5: per-fragment headers). (-1, 0) when the headers are cut off.
    """
    at, nhoff = IPV6_HLEN, 6
    kind = ipv6_hdr(skb).nexthdr
    found_rhdr = False
    while at <= skb.len:
        if kind == NEXTHDR_ROUTING:
            found_rhdr = True
        elif kind == NEXTHDR_DEST:
            if found_rhdr:
                return at, nhoff
        elif kind != NEXTHDR_HOP:
            return at, nhoff
        if at + 2 > skb.len:
            break
        head = skb_copy_bits(skb, at, 2)
        nhoff = at
        kind = head[0]
        at += (head[1] + 1) * 8
        if at > 0xFFFF:
            break
    return -1, 0


def ip6_fragment(net: Net, sk: sock | None, skb: sk_buff, mtu: int, output: FinishOutput) -> int:
    """net/ipv6/ip6_output.c: fragment our packet, refuse a forwarded one. Takes ownership of skb.

    Fragments refer to the original's payload where the device can gather. 0 or a negative errno.
    """
    mib = net.mib.ip6
    hlen, nhoff = ip6_find_1stfragopt(skb)
    if hlen < 0:
        mib.FragFails += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_IP_INHDR)
        return -errno.EINVAL
    # RFC 8200 5: a forwarded packet, or one with IPV6_DONTFRAG, must not be fragmented.
    if not skb.ignore_df and skb.len > mtu:
        return _too_big(net, skb, mtu)
    if skb.frag_max_size:
        if skb.frag_max_size > mtu:
            return _too_big(net, skb, mtu)
        # A packet that was reassembled on the way leaves in fragments of the original size.
        mtu = max(skb.frag_max_size, 1280)
    if skb.len <= mtu:
        return output(net, sk, skb)  # RFC 8021: a whole packet must not become a fragment
    if mtu < hlen + FRAG_HLEN + 8:
        return _too_big(net, skb, mtu)
    if skb.ip_summed == CHECKSUM_PARTIAL and not skb_checksum_help(skb):
        mib.FragFails += 1
        kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
        return -errno.EINVAL
    nexthdr = skb_copy_bits(skb, nhoff, 1)[0]
    header = bytearray(skb_copy_bits(skb, 0, hlen))
    header[nhoff] = NEXTHDR_FRAGMENT
    ident = ipv6_select_ident(net)
    chunk = (mtu - hlen - FRAG_HLEN) & ~7
    left = skb.len - hlen
    at = hlen
    err = 0
    dev = skb.dst.dev
    gather = bool(dev.features & NETIF_F_SG)
    owner = skb.sk if skb.destructor is not None else None
    while left > 0:
        length = left if left <= mtu - hlen - FRAG_HLEN else chunk
        header[4:6] = (hlen - IPV6_HLEN + FRAG_HLEN + length).to_bytes(2, "big")
        offset = at - hlen | (length < left)
        fh = bytes((nexthdr, 0)) + offset.to_bytes(2, "big") + ident.to_bytes(4, "big")
        room = LL_ROOM + dev.hard_header_len
        frag = _frag_alloc(net, skb, bytes(header) + fh, at, length, room, gather)
        if frag is None:
            mib.FragFails += 1
            kfree_skb_reason(net, skb, SKB_DROP_REASON_NOMEM)
            return -errno.ENOMEM
        ip6_copy_metadata(frag, skb)
        if owner is not None:
            skb_set_owner_w(frag, owner)
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


def _too_big(net: Net, skb: sk_buff, mtu: int) -> int:
    """Send packet too big and drop the packet. Takes ownership of skb."""
    icmpv6_send(skb, ICMPV6_PKT_TOOBIG, 0, mtu)
    net.mib.ip6.FragFails += 1
    kfree_skb_reason(net, skb, SKB_DROP_REASON_PKT_TOO_BIG)
    return -errno.EMSGSIZE


def _frag_alloc(
    net: Net, skb: sk_buff, header: bytes, at: int, length: int, room: int, gather: bool
) -> sk_buff | None:
    """Make a fragment of `header` and `length` bytes of `skb` from `at`; None without memory.

    The bytes are shared with skb, or copied for a device that cannot gather.
    """
    need = len(header) + (0 if gather else length)
    small = need + room <= net.skb_small.buf_bytes
    frag = alloc_skb(net.skb_small if small else net.skb_pages, need, room)
    if frag is None:
        return None
    skb_put_data(frag, header)
    skb_reset_network_header(frag)
    skb_set_transport_header(frag, len(header))
    if not gather:
        skb_put_data(frag, skb_copy_bits(skb, at, length))
    elif not skb_append_frags(frag, skb, at, length):
        kfree_skb(frag)
        return None
    return frag


def ip6_copy_metadata(to: sk_buff, frm: sk_buff) -> None:
    """net/ipv6/ip6_output.c: copy a packet's metadata to its fragment."""
    to.pkt_type = frm.pkt_type
    to.priority = frm.priority
    to.protocol = frm.protocol
    to.skb_iif = frm.skb_iif
    to.dst = frm.dst
    to.dev = frm.dev
    to.mark = frm.mark
    to.hash = frm.hash
    to.ip_cb_flags = frm.ip_cb_flags
    to.queue_mapping = frm.queue_mapping
    to.nfct = frm.nfct
    to.nfctinfo = frm.nfctinfo
