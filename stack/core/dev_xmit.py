"""net/core/dev.c: the last steps of transmit: features, taps, ndo_start_xmit.

Offloads that the device lacks (segmentation, checksums, tags) are done here in software.
"""

from __future__ import annotations

from typing import Any

from fastpath.base import skbuff
from fastpath.base.skbuff import (
    consume_skb,
    kfree_skb,
    sk_buff,
    skb_checksum_help,
    skb_clone,
    skb_linearize,
    skb_reset_mac_header,
    skb_reset_network_header,
)
from fastpath.net.gso import skb_gso_segment
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core import drop_reason, netdevice
from stack.core.drop_reason import kfree_skb_reason
from stack.core.if_vlan import (
    __vlan_hwaccel_push_inside,
    skb_vlan_tagged,
    skb_vlan_tagged_multi,
    vlan_get_protocol,
    vlan_hw_offload_capable,
)
from stack.core.netdevice import net_device, netif_queue_stopped, packet_type
from stack.core.netstamp import net_timestamp_set
from stack.core.sock import sock, sock_wfree
from stack.net import Net

_CSUM_SG = netdevice.NETIF_F_HW_CSUM | netdevice.NETIF_F_SG


def gso_feature(kind: int) -> int:
    """The feature bit of devices that segment packets of `kind` (SKB_GSO_*), or 0."""
    if kind == skbuff.SKB_GSO_TCPV4:
        return netdevice.NETIF_F_TSO
    if kind == skbuff.SKB_GSO_UDP_L4:
        return netdevice.NETIF_F_GSO_UDP_L4
    return netdevice.NETIF_F_TSO6 if kind == skbuff.SKB_GSO_TCPV6 else 0


_TAGS_TX = netdevice.NETIF_F_HW_VLAN_CTAG_TX | netdevice.NETIF_F_HW_VLAN_STAG_TX
_MULTI_TAGGED = (
    netdevice.NETIF_F_SG
    | netdevice.NETIF_F_HIGHDMA
    | netdevice.NETIF_F_HW_CSUM
    | netdevice.NETIF_F_FRAGLIST
    | _TAGS_TX
)
"""include/linux/if_vlan.h vlan_features_check: the features for a frame with several tags."""


_GSO_ENCAP = skbuff.SKB_GSO_ENCAP
_GSO_KINDS = skbuff.SKB_GSO_TCPV4 | skbuff.SKB_GSO_TCPV6 | skbuff.SKB_GSO_UDP_L4


def dev_hard_start_xmit(
    first: sk_buff, dev: net_device, skbs: list[sk_buff] | None = None
) -> list[sk_buff] | None:
    """net/core/dev.c: pass packets to taps and driver; returns those the driver rejected, or None.

    `skbs` is the whole list when `first` is not alone. Takes ownership of the packets that are not
    returned. `dev.xmit_more` is true for all but the last.
    """
    start_xmit = dev.netdev_ops.ndo_start_xmit
    if skbs is None or len(skbs) == 1:
        dev_queue_xmit_nit(first, dev)
        return [first] if start_xmit(first, dev) else None
    last = len(skbs) - 1
    try:
        for index, skb in enumerate(skbs):
            dev.xmit_more = index < last
            dev_queue_xmit_nit(skb, dev)
            if start_xmit(skb, dev):  # NETDEV_TX_BUSY: we still own it
                return skbs[index:]
            if netif_queue_stopped(dev) and index < last:
                return skbs[index + 1 :]
    finally:
        dev.xmit_more = False
    return None


def skb_loop_sk(ptype: packet_type, sk: sock) -> bool:
    """net/core/dev.c: whether a tap belongs to the sender."""
    if ptype.id_match is not None:
        return ptype.id_match(ptype.af_packet_priv, sk)
    return ptype.af_packet_priv is sk


def dev_queue_xmit_nit(skb: sk_buff, dev: net_device) -> None:
    """net/core/dev.c: pass an outgoing packet to the taps (ETH_P_ALL). Borrows skb."""
    net = dev.net
    if not net.ptype_all and not dev.ptype_specific:
        return
    sk = skb.sk
    ptype: packet_type
    for ptype in (*net.ptype_all, *dev.ptype_specific):
        if ptype.type != netdevice.ETH_P_ALL or ptype.ignore_outgoing:
            continue
        if ptype.dev is not None and ptype.dev is not dev:
            continue
        if sk is not None and skb_loop_sk(ptype, sk):
            continue
        clone = skb_clone(skb)
        if not skb_orphan_frags(clone, net.skb_pages):
            kfree_skb(clone)
            continue
        net_timestamp_set(clone, net.machine)
        clone.pkt_type = skbuff.PACKET_OUTGOING
        skb_reset_mac_header(clone)
        off = clone.network_header - clone.data_offset
        if off < 0 or off > clone.len:  # the protocol layer left it unset
            skb_reset_network_header(clone)
        ptype.func(clone, dev, ptype, dev)


def netif_skb_features(skb: sk_buff, dev: net_device) -> int:
    """net/core/dev.c: the device's features for this packet."""
    features = dev.features
    if skb.gso_size and (skb.gso_segs > dev.gso_max_segs or skb.len > dev.gso_max_size + 14):
        features &= ~(netdevice.NETIF_F_ALL_TSO | netdevice.NETIF_F_GSO_UDP_L4)
    if skb_vlan_tagged(skb):
        features = netdev_intersect_features(features, dev.vlan_features | _TAGS_TX)
        if skb_vlan_tagged_multi(skb):
            features &= _MULTI_TAGGED
    if skb.gso_type & _GSO_ENCAP:
        features &= hw_enc_features(skb, features)
    check = dev.netdev_ops.ndo_features_check
    if check is not None:
        features &= check(skb, dev, features)
    return features


def hw_enc_features(skb: sk_buff, features: int) -> int:
    """include/linux/netdevice.h: the features for a packet in a tunnel.

    Linux's drivers have more than NETIF_F_SG only if they segment some kind of tunnel. Inner
    datagrams are segmented by the first device, so that receivers get no merged ones in a tunnel.
    """
    if not features & netdevice.NETIF_F_GSO_ENCAP_ALL:
        return netdevice.NETIF_F_SG
    if skb.gso_type & skbuff.SKB_GSO_UDP_L4:
        return ~netdevice.NETIF_F_GSO_UDP_L4
    return features


def netdev_intersect_features(f1: int, f2: int) -> int:
    """include/linux/netdevice.h: the common features; HW_CSUM implies IP_CSUM and IPV6_CSUM."""
    if (f1 ^ f2) & netdevice.NETIF_F_HW_CSUM:
        if f1 & netdevice.NETIF_F_HW_CSUM:
            f1 |= netdevice.NETIF_F_IP_CSUM | netdevice.NETIF_F_IPV6_CSUM
        else:
            f2 |= netdevice.NETIF_F_IP_CSUM | netdevice.NETIF_F_IPV6_CSUM
    return f1 & f2


def validate_xmit_skb(skb: sk_buff, dev: net_device) -> list[sk_buff] | None:
    """net/core/dev.c: do VLAN tag, GSO and checksum in software if the device cannot.

    Takes ownership of skb. The frames to send, or None when it was dropped.
    """
    gso_type = skb.gso_type
    if dev.xmit_simple and not gso_type and not skb.vlan_proto:
        return [skb]  # the device does checksums and fragments
    gso_size = skb.gso_size
    skb_reset_mac_header(skb)
    features = dev.features
    if gso_type or skb_vlan_tagged(skb) or dev.netdev_ops.ndo_features_check is not None:
        features = netif_skb_features(skb, dev)
    if (
        skb.vlan_proto
        and not vlan_hw_offload_capable(features, skb.vlan_proto)
        and not __vlan_hwaccel_push_inside(skb)
    ):
        return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_NOMEM)
    if gso_size:
        if (
            features & gso_feature(gso_type & _GSO_KINDS)
            and features & netdevice.NETIF_F_SG
            and csum_ok(skb, features)
            and (not gso_type & _GSO_CWR or cwr_ok(gso_type, features))
            and (not gso_type & _GSO_ENCAP or encap_ok(gso_type, features))
        ):
            return [skb]
        return _gso_in_software(skb, dev, features)
    if skb.data_len and not features & netdevice.NETIF_F_SG and not skb_linearize(skb):
        return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_NOMEM)
    if skb.ip_summed == skbuff.CHECKSUM_PARTIAL and not csum_ok(skb, features):
        if not skb_checksum_help(skb):
            return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_SKB_CSUM)
        skb.gso_type = 0  # for the next tunnel it is an ordinary packet
    return [skb]


_GSO_CWR = skbuff.SKB_GSO_TCP_ECN | skbuff.SKB_GSO_TCP_ACCECN


def cwr_ok(gso_type: int, features: int) -> bool:
    """Whether the device sets CWR as the packet needs it: on the first segment, or on all."""
    if gso_type & skbuff.SKB_GSO_TCP_ACCECN:
        return features & netdevice.NETIF_F_GSO_ACCECN != 0
    return features & netdevice.NETIF_F_TSO_ECN != 0


def encap_ok(gso_type: int, features: int) -> bool:
    """The device segments packets in tunnels of these kinds."""
    kinds: int = gso_type & _GSO_ENCAP
    kinds <<= netdevice.NETIF_F_GSO_ENCAP_SHIFT
    return features & kinds == kinds


def csum_ok(skb: sk_buff, features: int) -> bool:
    """include/linux/netdevice.h can_checksum_protocol: the device completes this checksum."""
    if features & netdevice.NETIF_F_HW_CSUM:
        return True
    proto = vlan_get_protocol(skb)
    if proto == 0x0800:
        return bool(features & netdevice.NETIF_F_IP_CSUM)
    if proto == 0x86DD:
        return bool(features & netdevice.NETIF_F_IPV6_CSUM)
    return False


gso_owners: set[Any] = {sock_wfree}
"""Destructors that return truesize to skb.sk; the segments of a super-packet inherit them."""


def skb_gso_set_owner(skb: sk_buff, segs: list[sk_buff]) -> None:
    """tcp_gso_segment, __udp_gso_segment: charge its owner for the segments instead of skb."""
    sk: sock = skb.sk
    destructor = skb.destructor
    skb.destructor = None
    charged = -skb.truesize
    for seg in segs:
        seg.destructor = destructor
        charged += seg.truesize
    sk.sk_wmem_alloc += charged


def _gso_in_software(skb: sk_buff, dev: net_device, features: int) -> list[sk_buff] | None:
    """net/core/gso.c: segment a super-packet that the device cannot. Takes ownership of skb."""
    net = dev.net
    if skb.data_len and not skb_orphan_frags(skb, net.skb_pages):  # the pieces are copies
        return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_NOMEM)
    try:
        segs = skb_gso_segment(skb, net.skb_small, csum_partial=csum_ok(skb, features))
    except ValueError:
        return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_SKB_GSO_SEG)
    except MemoryError:
        return _drop_tx(skb, dev, drop_reason.SKB_DROP_REASON_NOMEM)
    if skb.destructor in gso_owners:
        skb_gso_set_owner(skb, segs)
    consume_skb(skb)
    if not features & netdevice.NETIF_F_SG:
        for seg in segs:
            if seg.data_len:
                skb_linearize(seg)
    return segs


def skb_gso_software(skb: sk_buff, dev: net_device) -> list[sk_buff] | None:
    """Segment a super-packet for a queue that needs single frames.

    None: it was dropped. Takes ownership of skb (data at the MAC header).
    """
    skb_reset_mac_header(skb)
    return _gso_in_software(skb, dev, netif_skb_features(skb, dev))


def _drop_tx(skb: sk_buff, dev: net_device, reason: int) -> list[sk_buff] | None:
    """Count and free a packet that cannot be sent as it is. Takes ownership of skb."""
    dev.stats.tx_dropped += 1
    kfree_skb_reason(dev.net, skb, reason)
    return None


def skb_list_free(net: Net, skbs: list[sk_buff], reason: int) -> None:
    """Drop several packets for one reason."""
    for skb in skbs:
        kfree_skb_reason(net, skb, reason)
