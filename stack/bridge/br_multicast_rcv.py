"""net/bridge/br_multicast.c: functions called for every multicast frame through a bridge.

br_multicast_rcv            is it IGMP or MLD? (processed by br_multicast_msg.py)
br_mdb_entry_skb_get        the group's entry, if snooping found one
br_multicast_querier_exists without a querier there are no reports: flood
br_multicast_is_router      does the host receive what routers receive?
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from stack.bridge.br_mdb import br_group_is_l2
from stack.bridge.br_multicast_msg import (
    IPPROTO_HOPOPTS,
    IPPROTO_PIM,
    br_multicast_ipv4_rcv,
    br_multicast_ipv6_rcv,
)
from stack.bridge.br_private import (
    MDB_RTR_TYPE_PERM,
    MDB_RTR_TYPE_TEMP_QUERY,
    bridge_mcast_pf,
    net_bridge,
    net_bridge_mcast,
    net_bridge_mdb_entry,
    net_bridge_port,
)
from stack.core.netdevice import ETH_P_IP, ETH_P_IPV6
from stack.core.uapi import IPPROTO_IGMP

IP_HLEN_MAX, IPV6_HLEN = 60, 40
IGMP_MASK = 0xFF


def br_multicast_rcv(br: net_bridge, p: net_bridge_port | None, skb: sk_buff) -> int:
    """net/bridge/br_multicast.c: look at a multicast frame that came in at `p` (None: the host's).

    BR_INPUT_SKB_CB igmp, plus MROUTERS_ONLY: only routers get it; or -errno: drop it. Borrows skb
    (data past the MAC header).
    """
    ctx: net_bridge_mcast = br.multicast_ctx
    proto: int = skb.protocol
    if not ctx.enabled:
        return 0
    length: int = skb.len
    if proto == ETH_P_IP:
        packet = skb_copy_bits(skb, 0, min(length, IP_HLEN_MAX))
        if length > IP_HLEN_MAX and packet[9] in (IPPROTO_IGMP, IPPROTO_PIM):
            packet = skb_copy_bits(skb, 0, length)
        return br_multicast_ipv4_rcv(ctx, p, packet, length)
    if proto == ETH_P_IPV6:
        packet = skb_copy_bits(skb, 0, min(length, IPV6_HLEN))
        if length > IPV6_HLEN and packet[6] == IPPROTO_HOPOPTS:
            packet = skb_copy_bits(skb, 0, length)
        return br_multicast_ipv6_rcv(ctx, p, packet, length)
    return 0


def br_mdb_entry_skb_get(
    br: net_bridge, skb: sk_buff, dest: bytes, flags: int
) -> net_bridge_mdb_entry | None:
    """net/bridge/br_multicast.c: the entry of the group that a frame goes to, or None.

    `flags` is what br_multicast_rcv said. IGMP and MLD have none. Borrows skb.
    """
    ctx: net_bridge_mcast = br.multicast_ctx
    mp: net_bridge_mdb_entry | None
    proto: int = skb.protocol
    pair: bytes
    if not ctx.mdb or not ctx.enabled or flags & IGMP_MASK:
        return None
    if proto == ETH_P_IP:
        pair = skb_copy_bits(skb, 12, 8)
        group, source, newest = pair[4:], pair[:4], ctx.multicast_igmp_version == 3
    elif proto == ETH_P_IPV6:
        pair = skb_copy_bits(skb, 8, 32)
        group, source, newest = pair[16:], pair[:16], ctx.multicast_mld_version == 2
    else:
        mp = ctx.mdb.get(dest)
        return mp
    mp = None
    if newest:
        mp = ctx.mdb.get(group + source)
    if mp is None:
        mp = ctx.mdb.get(group)
    return mp


def br_multicast_querier_exists(
    ctx: net_bridge_mcast, proto: int, mp: net_bridge_mdb_entry | None
) -> bool:
    """net/bridge/br_private.h: whether there is a querier, so that the database is complete."""
    pf: bridge_mcast_pf
    if proto == ETH_P_IP:
        pf = ctx.pf[0]
        own = ctx.multicast_querier
    elif proto == ETH_P_IPV6:
        pf = ctx.pf[1]
        own = ctx.multicast_querier and ctx.has_ipv6_addr
    else:
        return mp is not None and br_group_is_l2(mp.addr)
    return not pf.delay.pending and (own or pf.other_query.pending)


def br_multicast_is_router(ctx: net_bridge_mcast, proto: int) -> bool:
    """net/bridge/br_private.h: whether the host itself receives what routers receive."""
    pf: bridge_mcast_pf
    if ctx.multicast_router == MDB_RTR_TYPE_PERM:
        return True
    if ctx.multicast_router != MDB_RTR_TYPE_TEMP_QUERY or proto not in (ETH_P_IP, ETH_P_IPV6):
        return False
    pf = ctx.pf[0 if proto == ETH_P_IP else 1]
    return pf.mc_router_timer.pending
