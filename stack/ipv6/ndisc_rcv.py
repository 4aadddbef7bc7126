"""net/ipv6/ndisc.c: processing received solicitations and advertisements (RFC 4861 7).

    icmpv6_rcv -> ndisc_rcv                 hop limit 255, code 0, no fragment; then HANDLERS:
        ndisc_recv_ns       "who has": learn the sender, answer; or a duplicate of ours
            pneigh_enqueue => pndisc_redo   a proxy answers after a delay
        ndisc_recv_na       "I have": neigh_update, or a duplicate (addrconf_dad_failure)
        ndisc_recv_rs       a router learns the host, and its daemon answers (`on_rs`)
        ndisc_router_discovery, ndisc_redirect_rcv      in ndisc_router.py

     | Type 135, 136 | Code 0        | Checksum                      |
     |R|S|O| Reserved (R, S, O: advertisements only)                 |
     | Target Address, 16 bytes                                      |
     | Options: type 1, length in 8 bytes, value (1 source, 2 target link-layer address) |

Functions that take a message borrow its skb, with data at the ICMPv6 header. They return 0 or a
drop reason. State: `net.ipv6.nd_tbl` is the neighbour cache, `inet6_dev` has the settings. Read
ndisc_recv_ns first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fastpath.base import skbuff
from fastpath.base.skbuff import consume_skb, sk_buff, skb_clone, skb_copy_bits, skb_to_bytes
from fastpath.net.hdr import ipv6_hdr
from stack.core import drop_reason, neigh_table
from stack.core.drop_reason import kfree_skb_reason
from stack.core.neigh_gc import pneigh_enqueue, pneigh_lookup
from stack.core.neighbour import __neigh_lookup, neigh_create, neigh_lookup, neigh_update
from stack.core.netdevice import net_device
from stack.core.ratelimit import net_ratelimit
from stack.core.rows import wide
from stack.core.uapi import NTF_ROUTER, NUD_FAILED, NUD_REACHABLE, NUD_STALE
from stack.ipv6 import if_inet6, ip6_icmp, nd_messages
from stack.ipv6.addr import (
    IN6ADDR_ANY,
    IN6ADDR_LINKLOCAL_ALLNODES,
    format_addr6,
    ipv6_addr_is_multicast,
    ipv6_addr_is_solict_mult,
)
from stack.ipv6.addrconf_dad import addrconf_dad_failure
from stack.ipv6.if_inet6 import inet6_dev, ipv6_chk_acast_addr, ipv6_chk_prefix, ipv6_get_ifaddr
from stack.ipv6.ip6_cb import IP6SKB_FRAGMENTED
from stack.ipv6.nd_messages import NeighbourAdvertisement, NeighbourSolicitation
from stack.ipv6.nd_options import ndisc_parse_options
from stack.ipv6.ndisc_router import ndisc_redirect_rcv, ndisc_router_discovery, rt6_clean_tohost
from stack.ipv6.ndisc_send import ND_HOP_LIMIT, ndisc_send_na
from stack.net import Net

log = logging.getLogger(__name__)

_LEARN = neigh_table.NEIGH_UPDATE_F_WEAK_OVERRIDE | neigh_table.NEIGH_UPDATE_F_OVERRIDE
_INVALID = drop_reason.SKB_DROP_REASON_NOT_SPECIFIED


def ndisc_rcv(skb: sk_buff) -> int:
    """net/ipv6/ndisc.c: a message of types 133 to 137, checksum verified.

    Dropped are fragments (RFC 6980), messages from beyond the link (hop limit below 255) and those
    with a code other than 0 (RFC 4861 6.1, 7.1, 8.1). Borrows skb.
    """
    dev: net_device = skb.dev
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None:
        return _INVALID
    if skb.ip_cb_flags & IP6SKB_FRAGMENTED and idev.cnf.suppress_frag_ndisc:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_FRAG
    if skb.len < nd_messages.RS_LEN:
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    if ipv6_hdr(skb).hop_limit != ND_HOP_LIMIT:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_HOP_LIMIT
    kind, code = skb_copy_bits(skb, 0, 2)
    if code:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_CODE
    return HANDLERS[kind](skb)


def pndisc_is_router(net: Net, addr: wide, dev: net_device) -> bool | None:
    """net/ipv6/ndisc.c: whether to answer for `addr` as a router; None when we do not proxy it."""
    entry = pneigh_lookup(net.ipv6.nd_tbl, addr, dev)
    return bool(entry.flags & NTF_ROUTER) if entry is not None else None


def ndisc_recv_ns(skb: sk_buff, *, locally_enqueued: bool = False) -> int:
    """net/ipv6/ndisc.c: a neighbour solicitation (RFC 4861 7.1.1, 7.2.3; RFC 4862 5.4.3).

    `locally_enqueued`: skb has waited for the delay of a proxy or anycast answer. Borrows skb.
    """
    dev: net_device = skb.dev
    net = dev.net
    tbl = net.ipv6.nd_tbl
    idev: inet6_dev | None = dev.ip6_ptr
    iph = ipv6_hdr(skb)
    saddr, daddr = iph.saddr, iph.daddr
    dad = saddr == IN6ADDR_ANY
    data = skb_to_bytes(skb)
    msg = NeighbourSolicitation.parse(data)
    if msg is None:
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    target = msg.target
    if idev is None or ipv6_addr_is_multicast(target):
        return _INVALID
    if dad and not ipv6_addr_is_solict_mult(daddr):
        return _INVALID
    options = ndisc_parse_options(data[nd_messages.ND_MSG_LEN :], dev.addr_len)
    if options is None:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    lladdr = options.src_lladdr
    if lladdr == b"" or (lladdr is not None and dad):
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    inc = ipv6_addr_is_multicast(daddr)
    is_router: bool | None = None
    ifp = ipv6_get_ifaddr(net, target, dev, True)
    if ifp is not None:
        if ifp.flags & (if_inet6.IFA_F_TENTATIVE | if_inet6.IFA_F_OPTIMISTIC):
            if dad:
                # RFC 7527 4.2: our own solicitation was looped back.
                if options.nonce is not None and ifp.dad_nonce == options.nonce:
                    return 0
                # Another station runs DAD for the same address.
                addrconf_dad_failure(ifp, _mac_of(skb))
                return 0
            if not ifp.flags & if_inet6.IFA_F_OPTIMISTIC:
                return 0  # not ours yet
    else:
        proxy = net.ipv6.devconf_all.proxy_ndp or idev.cnf.proxy_ndp
        if idev.cnf.forwarding and proxy:
            is_router = pndisc_is_router(net, target, dev)
        if is_router is None and not ipv6_chk_acast_addr(net, dev, target):
            return drop_reason.SKB_DROP_REASON_IPV6_NDISC_NS_OTHERHOST
        if (
            not locally_enqueued
            and skb.pkt_type != skbuff.PACKET_HOST
            and inc
            and idev.nd_parms.proxy_delay
        ):
            # RFC 4861 7.2.7, 7.2.8: delay, so that the address's owner answers first.
            pneigh_enqueue(tbl, idev.nd_parms, skb_clone(skb))
            return 0
    if is_router is None:
        is_router = bool(idev.cnf.forwarding)
    if dad:
        ndisc_send_na(
            dev, IN6ADDR_LINKLOCAL_ALLNODES, target, is_router, False, ifp is not None, True
        )
        return 0
    if inc:
        tbl.stats.rcv_probes_mcast += 1
    else:
        tbl.stats.rcv_probes_ucast += 1
    learn = not inc or lladdr is not None or not dev.addr_len
    neigh = __neigh_lookup(tbl, saddr, dev, learn)
    if neigh is not None:
        neigh_update(neigh, lladdr, NUD_STALE, _LEARN)
    if neigh is not None or dev.header_ops is None:
        ndisc_send_na(dev, saddr, target, is_router, True, ifp is not None and inc, inc)
    return 0


def pndisc_redo(skb: sk_buff) -> None:
    """net/ipv6/ndisc.c: the delay is over: answer. Takes ownership of skb."""
    reason = ndisc_recv_ns(skb, locally_enqueued=True)
    if reason:
        kfree_skb_reason(skb.dev.net, skb, reason)
    else:
        consume_skb(skb)


def _mac_of(skb: sk_buff) -> str:
    """The sender's MAC address as text, for log messages."""
    parse = skb.dev.header_ops.parse if skb.dev.header_ops is not None else None
    return parse(skb).hex(":") if parse is not None else "somebody"


def accept_untracked_na(dev: net_device, saddr: wide) -> bool:
    """net/ipv6/ndisc.c: whether an unsolicited advertisement may make an entry (RFC 9131)."""
    idev: inet6_dev | None = dev.ip6_ptr
    mode = idev.cnf.accept_untracked_na if idev is not None else 0
    if mode == 2:
        return ipv6_chk_prefix(saddr, dev)
    return mode == 1


def ndisc_recv_na(skb: sk_buff) -> int:
    """net/ipv6/ndisc.c: a neighbour advertisement (RFC 4861 7.1.2, 7.2.5). Borrows skb."""
    dev: net_device = skb.dev
    net = dev.net
    tbl = net.ipv6.nd_tbl
    idev: inet6_dev | None = dev.ip6_ptr
    iph = ipv6_hdr(skb)
    saddr, daddr = iph.saddr, iph.daddr
    data = skb_to_bytes(skb)
    msg = NeighbourAdvertisement.parse(data)
    if msg is None:
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    target = msg.target
    if ipv6_addr_is_multicast(target) or (ipv6_addr_is_multicast(daddr) and msg.solicited):
        return _INVALID
    if not msg.solicited and idev is not None and idev.cnf.drop_unsolicited_na:
        return _INVALID
    options = ndisc_parse_options(data[nd_messages.ND_MSG_LEN :], dev.addr_len)
    if options is None:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    lladdr = options.tgt_lladdr
    if lladdr == b"":
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    ifp = ipv6_get_ifaddr(net, target, dev, True)
    if ifp is not None:
        if skb.pkt_type != skbuff.PACKET_LOOPBACK:
            if ifp.flags & if_inet6.IFA_F_TENTATIVE:
                addrconf_dad_failure(ifp, _mac_of(skb))
            elif net_ratelimit(net):
                # RFC 4862 5.4.4: the address has passed DAD, so it stays ours.
                mac = _mac_of(skb)
                log.warning("%s: %s advertises our %s", dev.name, mac, format_addr6(target))
        return _INVALID
    neigh = neigh_lookup(tbl, target, dev)
    state = NUD_REACHABLE if msg.solicited else NUD_STALE
    router = idev is not None and idev.cnf.forwarding
    if neigh is None and lladdr is not None and router and accept_untracked_na(dev, saddr):
        neigh = neigh_create(tbl, target, dev)
        state = NUD_STALE
    if neigh is None or neigh.nud_state & NUD_FAILED:
        return _INVALID
    all_ = net.ipv6.devconf_all
    if (
        lladdr == dev.dev_addr
        and all_.forwarding
        and all_.proxy_ndp
        and pneigh_lookup(tbl, target, dev) is not None
    ):
        return _INVALID  # our own proxy answer
    old_flags = neigh.flags
    flags = neigh_table.NEIGH_UPDATE_F_WEAK_OVERRIDE | neigh_table.NEIGH_UPDATE_F_OVERRIDE_ISROUTER
    if msg.override:
        flags |= neigh_table.NEIGH_UPDATE_F_OVERRIDE
    if msg.router:
        flags |= neigh_table.NEIGH_UPDATE_F_ISROUTER
    neigh_update(neigh, lladdr, state, flags)
    if old_flags & ~neigh.flags & NTF_ROUTER:
        # RFC 4861 7.2.5: remove the routes of a neighbour that is no router any more.
        rt6_clean_tohost(net, saddr)
    return 0


def ndisc_recv_rs(skb: sk_buff) -> int:
    """net/ipv6/ndisc.c: a router solicitation (RFC 4861 6.1.1, 6.2.6). Borrows skb."""
    dev: net_device = skb.dev
    net = dev.net
    tbl = net.ipv6.nd_tbl
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or not idev.cnf.forwarding:
        return _INVALID
    saddr = ipv6_hdr(skb).saddr
    data = skb_to_bytes(skb)
    options = ndisc_parse_options(data[nd_messages.RS_LEN :], dev.addr_len)
    if options is None or options.src_lladdr == b"":
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    if saddr == IN6ADDR_ANY:
        if options.src_lladdr is not None:
            return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    else:
        neigh = __neigh_lookup(tbl, saddr, dev, True)
        if neigh is not None:
            flags = _LEARN | neigh_table.NEIGH_UPDATE_F_OVERRIDE_ISROUTER
            neigh_update(neigh, options.src_lladdr, NUD_STALE, flags)
    if idev.nd.on_rs is not None:
        idev.nd.on_rs(saddr)
    return 0


HANDLERS: dict[int, Callable[[sk_buff], int]] = {
    ip6_icmp.NDISC_ROUTER_SOLICITATION: ndisc_recv_rs,
    ip6_icmp.NDISC_ROUTER_ADVERTISEMENT: ndisc_router_discovery,
    ip6_icmp.NDISC_NEIGHBOUR_SOLICITATION: ndisc_recv_ns,
    ip6_icmp.NDISC_NEIGHBOUR_ADVERTISEMENT: ndisc_recv_na,
    ip6_icmp.NDISC_REDIRECT: ndisc_redirect_rcv,
}


def ndisc_rcv_init(net: Net) -> None:
    """Register the handlers with ICMPv6 and the neighbour table."""
    net.ipv6.nd.ndisc_rcv = ndisc_rcv
    net.ipv6.nd_tbl.proxy_redo = pndisc_redo
