"""net/bridge/br_input.c: receiving a frame at a port: learn, then forward or pass up."""

from __future__ import annotations

from fastpath.base import skbuff
from fastpath.base.skbuff import sk_buff, skb_share_check
from fastpath.net.hdr import eth_hdr
from stack.bridge import br_private
from stack.bridge.br_fdb import br_fdb_find_rcu, br_fdb_update
from stack.bridge.br_forward import br_flood, br_forward, br_multicast_flood
from stack.bridge.br_multicast_msg import MROUTERS_ONLY
from stack.bridge.br_multicast_rcv import (
    br_mdb_entry_skb_get,
    br_multicast_is_router,
    br_multicast_querier_exists,
    br_multicast_rcv,
)
from stack.bridge.br_private import (
    net_bridge,
    net_bridge_fdb_entry,
    net_bridge_mdb_entry,
    net_bridge_port,
)
from stack.core import drop_reason, netdevice
from stack.core.dev_receive import netif_receive_skb
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import net_device
from stack.ethernet.eth import ETH_BROADCAST, is_link_local_ether_addr, is_valid_ether_addr


def br_handle_frame(skb: sk_buff) -> int:
    """net/bridge/br_input.c: the rx_handler of a port. RX_HANDLER_*.

    Takes ownership of skb (data past the MAC header), unless RX_HANDLER_PASS is returned: the port
    itself receives link-local frames (pause frames are dropped).
    """
    if skb.pkt_type == skbuff.PACKET_LOOPBACK:
        return netdevice.RX_HANDLER_PASS
    dev: net_device = skb.dev
    eth = eth_hdr(skb)
    source = eth.h_source
    if not is_valid_ether_addr(source):
        kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_MAC_INVALID_SOURCE)
        return netdevice.RX_HANDLER_CONSUMED
    dest = eth.h_dest
    p: net_bridge_port = dev.rx_handler_data
    if dest[0] & 1 and is_link_local_ether_addr(dest):
        group = dest[5]
        mask = p.group_fwd_mask | p.br.group_fwd_mask
        if not group:
            # Without STP, BPDUs are forwarded: other bridges may detect loops.
            mask = p.group_fwd_mask | (p.br.stp_enabled == br_private.BR_NO_STP)
        if not mask >> (group & 15) & 1:
            if group == 1:
                kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_MAC_IEEE_MAC_CONTROL)
                return netdevice.RX_HANDLER_CONSUMED
            br_handle_local_finish(p, source)
            return netdevice.RX_HANDLER_PASS
    state = p.state
    if state != br_private.BR_STATE_FORWARDING and state != br_private.BR_STATE_LEARNING:
        kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_BRIDGE_INGRESS_STP_STATE)
        return netdevice.RX_HANDLER_CONSUMED
    shared = skb_share_check(skb)
    if shared is None:
        return netdevice.RX_HANDLER_CONSUMED
    if dest == p.br.dev.dev_addr:
        shared.pkt_type = skbuff.PACKET_HOST
    br_handle_frame_finish(p, shared, source, dest)
    return netdevice.RX_HANDLER_CONSUMED


def br_handle_local_finish(p: net_bridge_port, source: bytes) -> None:
    """net/bridge/br_input.c: learn from a link-local frame."""
    if p.flags & br_private.BR_LEARNING and p.state in (
        br_private.BR_STATE_LEARNING,
        br_private.BR_STATE_FORWARDING,
    ):
        br_fdb_update(p.br, p, source)


def br_handle_frame_finish(p: net_bridge_port, skb: sk_buff, source: bytes, dest: bytes) -> int:
    """net/bridge/br_input.c: learn, look up, forward or flood; pass up frames for the host. 0.

    Takes ownership of skb.
    """
    br: net_bridge = p.br
    brdev: net_device = br.dev
    dst: net_bridge_fdb_entry | None = None
    mdst: net_bridge_mdb_entry | None = None
    mcast_hit = False
    igmp = 0
    if p.flags & br_private.BR_LEARNING:
        br_fdb_update(br, p, source)
    local_rcv = brdev.flags & netdevice.IFF_PROMISC != 0
    pkt_type = br_private.BR_PKT_UNICAST
    if dest[0] & 1:
        pkt_type = br_private.BR_PKT_MULTICAST
        if dest == ETH_BROADCAST:
            pkt_type = br_private.BR_PKT_BROADCAST
            local_rcv = True
        else:
            igmp = br_multicast_rcv(br, p, skb)
            if igmp < 0:
                kfree_skb_reason(brdev.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
                return 0
    if p.state == br_private.BR_STATE_LEARNING:
        kfree_skb_reason(brdev.net, skb, drop_reason.SKB_DROP_REASON_BRIDGE_INGRESS_STP_STATE)
        return 0
    if pkt_type == br_private.BR_PKT_UNICAST:
        dst = br_fdb_find_rcu(br, dest)
    elif pkt_type == br_private.BR_PKT_MULTICAST:
        mdst = br_mdb_entry_skb_get(br, skb, dest, igmp)
        if mdst is not None or igmp & MROUTERS_ONLY:
            mcast_hit = br_multicast_querier_exists(br.multicast_ctx, skb.protocol, mdst)
        if (
            not mcast_hit
            or (mdst is not None and mdst.host_joined)
            or brdev.flags & netdevice.IFF_ALLMULTI
            or br_multicast_is_router(br.multicast_ctx, skb.protocol)
        ):
            local_rcv = True
            brdev.stats.multicast += 1
    if dst is not None:
        if dst.is_local:
            return br_pass_frame_up(br, skb)
        dst.used = brdev.machine.clock.now_ns()
        br_forward(dst.dst, skb, local_rcv, False)
    elif mcast_hit:
        br_multicast_flood(br, mdst, skb, local_rcv, False)
    else:
        br_flood(br, skb, pkt_type, local_rcv, False)
    return br_pass_frame_up(br, skb) if local_rcv else 0


def br_pass_frame_up(br: net_bridge, skb: sk_buff) -> int:
    """net/bridge/br_input.c: the bridge's own device receives it. NET_RX_*. Takes ownership."""
    brdev: net_device = br.dev
    stats = brdev.stats
    stats.rx_packets += 1
    stats.rx_bytes += skb.len
    skb.dev = brdev
    return netif_receive_skb(skb)
