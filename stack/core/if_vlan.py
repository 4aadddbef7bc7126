"""include/linux/if_vlan.h, net/8021q/vlan_core.c: tags of 802.1Q and 802.1ad and their devices.

A tag is beside the packet (skb.vlan_proto, skb.vlan_tci) where the hardware strips and inserts
tags; otherwise it is in the frame behind the addresses. stack/vlan makes and removes VLAN devices.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    pskb_may_pull,
    sk_buff,
    skb_copy_bits,
    skb_cow_head,
    skb_pull,
    skb_push_data,
    skb_reset_mac_header,
    skb_reset_mac_len,
    skb_reset_network_header,
    skb_share_check,
)
from fastpath.net.hdr import eth_hdr
from stack.core import drop_reason
from stack.core.drop_reason import kfree_skb_reason
from stack.core.netdevice import (
    ETH_HLEN,
    ETH_P_802_2,
    ETH_P_802_3,
    ETH_P_802_3_MIN,
    ETH_P_8021AD,
    ETH_P_8021Q,
    IFF_UP,
    NETIF_F_HW_VLAN_CTAG_FILTER,
    NETIF_F_HW_VLAN_CTAG_TX,
    NETIF_F_HW_VLAN_STAG_TX,
    VLAN_HLEN,
    VLAN_PRIO_SHIFT,
    net_device,
    vlan_info,
)

VLAN_MAX_DEPTH = 8


def eth_type_vlan(proto: int) -> bool:
    """include/linux/if_vlan.h: whether the EtherType is that of a tag."""
    return proto in (ETH_P_8021Q, ETH_P_8021AD)


def vlan_hw_offload_capable(features: int, proto: int) -> bool:
    """include/linux/if_vlan.h: whether the device inserts tags of this kind itself."""
    if proto == ETH_P_8021Q:
        return bool(features & NETIF_F_HW_VLAN_CTAG_TX)
    return bool(features & NETIF_F_HW_VLAN_STAG_TX)


def skb_vlan_tagged(skb: sk_buff) -> bool:
    """include/linux/if_vlan.h: whether there is a tag, in the metadata or in the frame."""
    return bool(skb.vlan_proto) or eth_type_vlan(skb.protocol)


def skb_vlan_tagged_multi(skb: sk_buff) -> bool:
    """include/linux/if_vlan.h: whether there are two tags or more. data at the MAC header."""
    proto = skb.protocol
    if not eth_type_vlan(proto):
        return False
    if skb.vlan_proto:
        return True
    if not pskb_may_pull(skb, ETH_HLEN + VLAN_HLEN):
        return False
    return eth_type_vlan(int.from_bytes(skb_copy_bits(skb, ETH_HLEN + 2, 2), "big"))


def vlan_get_protocol(skb: sk_buff) -> int:
    """include/linux/if_vlan.h: the EtherType behind the tags of a frame; 0 when it is cut off.

    data at the MAC header.
    """
    proto = skb.protocol
    if not eth_type_vlan(proto):
        return proto
    at = ETH_HLEN
    for _ in range(VLAN_MAX_DEPTH):
        if not pskb_may_pull(skb, at + VLAN_HLEN):
            return 0
        proto = int.from_bytes(skb_copy_bits(skb, at + 2, 2), "big")
        if not eth_type_vlan(proto):
            return proto
        at += VLAN_HLEN
    return 0


def vlan_depth(skb: sk_buff) -> int:
    """Bytes of the MAC header with its tags (as vlan_get_protocol_and_depth); 0: truncated.

    data at the MAC header, skb.protocol its h_proto.
    """
    proto = skb.protocol
    at = ETH_HLEN
    while eth_type_vlan(proto):
        if at >= ETH_HLEN + VLAN_MAX_DEPTH * VLAN_HLEN or not pskb_may_pull(skb, at + VLAN_HLEN):
            return 0
        proto = int.from_bytes(skb_copy_bits(skb, at + 2, 2), "big")
        at += VLAN_HLEN
    return at


def __vlan_hwaccel_put_tag(skb: sk_buff, proto: int, tci: int) -> None:
    """include/linux/if_vlan.h: a tag beside the packet."""
    skb.vlan_proto = proto
    skb.vlan_tci = tci


def __vlan_hwaccel_clear_tag(skb: sk_buff) -> None:
    """include/linux/if_vlan.h: no tag beside the packet."""
    skb.vlan_proto = 0
    skb.vlan_tci = 0


def vlan_insert_tag_set_proto(skb: sk_buff, proto: int, tci: int) -> bool:
    """include/linux/if_vlan.h: a tag into the frame, data at its MAC header. False: no memory."""
    if not skb_cow_head(skb, VLAN_HLEN):
        return False
    addrs = skb_copy_bits(skb, 0, 12)
    skb_pull(skb, 12)
    skb_push_data(skb, addrs + proto.to_bytes(2, "big") + tci.to_bytes(2, "big"))
    skb_reset_mac_header(skb)
    skb.protocol = proto
    return True


def __vlan_hwaccel_push_inside(skb: sk_buff) -> bool:
    """include/linux/if_vlan.h: put skb.vlan_tci into the frame. False when there is no memory."""
    if not vlan_insert_tag_set_proto(skb, skb.vlan_proto, skb.vlan_tci):
        return False
    __vlan_hwaccel_clear_tag(skb)
    return True


def skb_vlan_untag(skb: sk_buff) -> sk_buff | None:
    """net/core/skbuff.c: take the tag out of the frame into skb.vlan_*; None when it is too short.

    Takes ownership of skb; data and MAC header stay where a plain frame has them.
    """
    if skb.vlan_proto:  # the driver stripped the outer tag; the inner one is left alone
        return skb
    net = skb.dev.net
    shared = skb_share_check(skb)
    if shared is None:
        return None
    if not pskb_may_pull(shared, VLAN_HLEN + 2):
        kfree_skb_reason(net, shared, drop_reason.SKB_DROP_REASON_DEV_HDR)
        return None
    skb = shared
    if not skb_cow_head(skb, 0):
        kfree_skb_reason(net, skb, drop_reason.SKB_DROP_REASON_NOMEM)
        return None
    head = skb_copy_bits(skb, 0, VLAN_HLEN)
    proto = skb.protocol
    macs = skb_copy_bits(skb, -ETH_HLEN, 12)
    skb_pull(skb, VLAN_HLEN)
    skb.vlan_proto = proto
    skb.vlan_tci = int.from_bytes(head[:2], "big")
    inner = int.from_bytes(head[2:], "big")
    skb_push_data(skb, macs + head[2:])
    skb_reset_mac_header(skb)
    skb_pull(skb, ETH_HLEN)
    skb_reset_network_header(skb)
    skb_reset_mac_len(skb)
    if inner < ETH_P_802_3_MIN:  # vlan_set_encap_proto: a length
        inner = ETH_P_802_3 if skb_copy_bits(skb, 0, 2) == b"\xff\xff" else ETH_P_802_2
    skb.protocol = inner
    return skb


def vlan_find_dev(real_dev: net_device, proto: int, vid: int) -> net_device | None:
    """net/8021q/vlan.h: the VLAN device of this id on `real_dev`."""
    info: vlan_info | None = real_dev.vlan_info
    if info is None:
        return None
    found: net_device | None = info.vlan_group.get(proto << 16 & 0xFFFF0000 | vid)
    return found


def vlan_do_receive(skb: sk_buff, vlan_dev: net_device) -> sk_buff | None:
    """net/8021q/vlan_core.c: move the packet to its VLAN device; None when that is down.

    `vlan_dev` is what vlan_find_dev found for the tag. Takes ownership of skb.
    """
    shared = skb_share_check(skb)
    if shared is None:
        return None
    skb = shared
    if not vlan_dev.flags & IFF_UP:
        kfree_skb_reason(vlan_dev.net, skb, drop_reason.SKB_DROP_REASON_DEV_READY)
        return None
    skb.dev = vlan_dev
    stats = vlan_dev.stats
    pkt_type = skb.pkt_type
    if pkt_type == PACKET_OTHERHOST:
        # A VLAN device may have another MAC address than `real_dev`.
        if eth_hdr(skb).h_dest == vlan_dev.dev_addr:
            skb.pkt_type = PACKET_HOST
    elif pkt_type == PACKET_MULTICAST:
        stats.multicast += 1
    skb.priority = vlan_ingress_priority(vlan_dev, skb.vlan_tci)
    skb.vlan_proto = 0
    skb.vlan_tci = 0
    stats.rx_packets += 1
    stats.rx_bytes += skb.len
    return skb


def vlan_ingress_priority(vlan_dev: net_device, tci: int) -> int:
    """net/8021q/vlan_core.c vlan_get_ingress_priority: the map's value for the three bits, or 0."""
    ingress = vlan_dev.vlan_ingress
    return ingress.get(tci >> VLAN_PRIO_SHIFT & 7, 0) if ingress else 0


def vlan_vid_add(dev: net_device, proto: int, vid: int) -> int:
    """net/8021q/vlan_core.c: add a user of an id; the first sets the filter. 0 or -errno."""
    info: vlan_info | None = dev.vlan_info
    if info is None:
        info = vlan_info()
    key = proto << 16 & 0xFFFF0000 | vid
    users = info.vid_list.get(key, 0)
    if not users and proto == ETH_P_8021Q and dev.features & NETIF_F_HW_VLAN_CTAG_FILTER:
        add = dev.netdev_ops.ndo_vlan_rx_add_vid
        err = add(dev, proto, vid) if add is not None else -errno.ENODEV
        if err:
            return err
    info.vid_list[key] = users + 1
    dev.vlan_info = info
    return 0


def vlan_vid_del(dev: net_device, proto: int, vid: int) -> None:
    """net/8021q/vlan_core.c: remove a user; the last removes the id from the filter."""
    info: vlan_info | None = dev.vlan_info
    if info is None:
        return
    key = proto << 16 & 0xFFFF0000 | vid
    users = info.vid_list.get(key, 0)
    if users > 1:
        info.vid_list[key] = users - 1
    elif users:
        del info.vid_list[key]
        kill = dev.netdev_ops.ndo_vlan_rx_kill_vid
        if proto == ETH_P_8021Q and dev.features & NETIF_F_HW_VLAN_CTAG_FILTER and kill is not None:
            kill(dev, proto, vid)
    if not info.vid_list and not info.vlan_group:
        dev.vlan_info = None
