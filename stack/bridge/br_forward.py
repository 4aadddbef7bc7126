"""net/bridge/br_forward.c: send a frame through one port, or flood it."""

from __future__ import annotations

from fastpath.base.skbuff import (
    CHECKSUM_PARTIAL,
    sk_buff,
    skb_clone,
    skb_push,
    skb_set_network_header,
)
from stack.bridge import br_private
from stack.bridge.br_private import (
    bridge_mcast_pf,
    net_bridge,
    net_bridge_mdb_entry,
    net_bridge_port,
    net_bridge_port_group,
    netif_is_bridge_port,
)
from stack.core import drop_reason
from stack.core.dev_forward import is_skb_forwardable, skb_forward_csum
from stack.core.dev_queue import dev_queue_xmit
from stack.core.drop_reason import kfree_skb_reason
from stack.core.if_vlan import eth_type_vlan, vlan_depth
from stack.core.netdevice import ETH_HLEN, ETH_P_IPV6, IFF_UP, net_device


def should_deliver(p: net_bridge_port, skb: sk_buff) -> bool:
    """net/bridge/br_forward.c: whether the frame may leave through `p`."""
    dev: net_device = skb.dev
    if p.state != br_private.BR_STATE_FORWARDING:
        return False
    if dev is p.dev and not p.flags & br_private.BR_HAIRPIN_MODE:
        return False
    return not (p.flags & br_private.BR_ISOLATED and br_skb_isolated(dev))


def br_skb_isolated(dev: net_device) -> bool:
    """net/bridge/br_private.h: whether `dev` is an isolated port."""
    if not netif_is_bridge_port(dev):
        return False
    source: net_bridge_port = dev.rx_handler_data
    return bool(source.flags & br_private.BR_ISOLATED)


def br_dev_queue_push_xmit(skb: sk_buff) -> int:
    """net/bridge/br_forward.c: pass the frame to the port's device. 0. Takes ownership of skb."""
    dev: net_device = skb.dev
    skb_push(skb, ETH_HLEN)
    if not is_skb_forwardable(dev, skb):
        dev.stats.tx_dropped += 1
        up = dev.flags & IFF_UP
        reason = (
            drop_reason.SKB_DROP_REASON_PKT_TOO_BIG if up else drop_reason.SKB_DROP_REASON_DEV_READY
        )
        kfree_skb_reason(dev.net, skb, reason)
        return 0
    if skb.ip_summed == CHECKSUM_PARTIAL and eth_type_vlan(skb.protocol):
        depth = vlan_depth(skb)
        if not depth:
            kfree_skb_reason(dev.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)
            return 0
        skb_set_network_header(skb, depth)
    dev_queue_xmit(skb)
    return 0


def br_forward_finish(skb: sk_buff) -> int:
    """net/bridge/br_forward.c: 0. Takes ownership of skb."""
    skb.tstamp_ns = 0
    return br_dev_queue_push_xmit(skb)


def __br_forward(to: net_bridge_port, skb: sk_buff, local_orig: bool) -> None:
    """net/bridge/br_forward.c: out through `to`. Takes ownership of skb (data past MAC header)."""
    skb.dev = to.dev
    if not local_orig:
        skb_forward_csum(skb)
    br_forward_finish(skb)


def deliver_clone(prev: net_bridge_port, skb: sk_buff, local_orig: bool) -> None:
    """net/bridge/br_forward.c: a copy out through `prev`. Borrows skb."""
    __br_forward(prev, skb_clone(skb), local_orig)


def br_forward(to: net_bridge_port | None, skb: sk_buff, local_rcv: bool, local_orig: bool) -> None:
    """net/bridge/br_forward.c: forward through one port, if that is allowed.

    Takes ownership of skb unless it is received here too (`local_rcv`).
    """
    if to is not None and should_deliver(to, skb):
        if local_rcv:
            deliver_clone(to, skb, local_orig)
        else:
            __br_forward(to, skb, local_orig)
    elif not local_rcv:
        kfree_skb_reason(skb.dev.net, skb, drop_reason.SKB_DROP_REASON_NOT_SPECIFIED)


def br_flood(
    br: net_bridge, skb: sk_buff, pkt_type: int, local_rcv: bool, local_orig: bool
) -> None:
    """net/bridge/br_forward.c: forward through every port that floods such frames (BR_PKT_*).

    Takes ownership of skb unless it is received here too (`local_rcv`).
    """
    p: net_bridge_port
    prev: net_bridge_port | None = None
    if pkt_type == br_private.BR_PKT_UNICAST:
        wanted = br_private.BR_FLOOD
    elif pkt_type == br_private.BR_PKT_MULTICAST:
        wanted = 0 if local_orig else br_private.BR_MCAST_FLOOD
    else:
        wanted = 0 if local_orig else br_private.BR_BCAST_FLOOD
    for p in br.port_list:
        if p.flags & wanted != wanted or not should_deliver(p, skb):
            continue
        if prev is not None:
            deliver_clone(prev, skb, local_orig)
        prev = p
    br_flood_last(br, prev, skb, local_rcv, local_orig)


def br_flood_last(
    br: net_bridge, prev: net_bridge_port | None, skb: sk_buff, local_rcv: bool, local_orig: bool
) -> None:
    """The last of several ports gets the frame itself. Takes ownership of skb as br_flood."""
    if prev is None:
        if not local_rcv:
            kfree_skb_reason(br.dev.net, skb, drop_reason.SKB_DROP_REASON_NO_TX_TARGET)
    elif local_rcv:
        deliver_clone(prev, skb, local_orig)
    else:
        __br_forward(prev, skb, local_orig)


def br_multicast_flood(
    br: net_bridge,
    mdst: net_bridge_mdb_entry | None,
    skb: sk_buff,
    local_rcv: bool,
    local_orig: bool,
) -> None:
    """net/bridge/br_forward.c: forward to the ports of a group, and to those with routers.

    Takes ownership of skb unless it is received here too (`local_rcv`).
    """
    pf: bridge_mcast_pf = br.multicast_ctx.pf[1 if skb.protocol == ETH_P_IPV6 else 0]
    pg: net_bridge_port_group
    p: net_bridge_port
    prev: net_bridge_port | None = None
    done: list[net_bridge_port] = []
    if mdst is not None:
        for pg in mdst.ports:
            done.append(pg.port)
    for p in done + [p for p in pf.mc_router_list if p not in done]:
        if not should_deliver(p, skb):
            continue
        if prev is not None:
            deliver_clone(prev, skb, local_orig)
        prev = p
    br_flood_last(br, prev, skb, local_rcv, local_orig)
