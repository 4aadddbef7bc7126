"""net/core/dev.c, skbuff.c: turn a packet sent by one device into one received by another."""

from __future__ import annotations

from fastpath.base import skbuff
from fastpath.base.skbuff import sk_buff
from fastpath.net.zerocopy import skb_orphan_frags
from stack.core import drop_reason, netdevice
from stack.core.backlog import drop_received
from stack.core.netdevice import net_device
from stack.ethernet.eth import eth_type_trans


def is_skb_forwardable(dev: net_device, skb: sk_buff) -> bool:
    """net/core/dev.c: whether `dev` is up and accepts this size. data at the MAC header."""
    if not dev.flags & netdevice.IFF_UP:
        return False
    return skb.len <= dev.mtu + dev.hard_header_len + netdevice.VLAN_HLEN or skb.gso_size != 0


def skb_forward_csum(skb: sk_buff) -> None:
    """include/linux/skbuff.h: discard a received checksum, which is of no use for sending."""
    if skb.ip_summed == skbuff.CHECKSUM_COMPLETE:
        skb.ip_summed = skbuff.CHECKSUM_NONE


def skb_scrub_packet(skb: sk_buff, xnet: bool) -> None:
    """net/core/skbuff.c: clear the sender's state; with `xnet`, also of its namespace."""
    skb.pkt_type = skbuff.PACKET_HOST
    skb.skb_iif = 0
    skb.ignore_df = False
    skb.dst = None
    skb.nfct = None  # nf_reset_ct
    skb.nfctinfo = 0
    skb.nf_trace = 0  # nf_reset_trace
    if xnet:
        skb.mark = 0
        skb.tstamp_ns = 0


def dev_count_rx(dev: net_device, nbytes: int, success: bool, multicast: bool) -> None:
    """macvlan_count_rx, ipvlan_count_rx: count a frame that was received or dropped."""
    stats = dev.stats
    if success:
        stats.rx_packets += 1
        stats.rx_bytes += nbytes
        if multicast:
            stats.multicast += 1
    else:
        stats.rx_errors += 1
        stats.rx_dropped += 1


def dev_count_tx(dev: net_device, nbytes: int, ret: int) -> None:
    """Count a frame forwarded by a software device, by the NET_XMIT_* result."""
    stats = dev.stats
    if ret in (netdevice.NET_XMIT_SUCCESS, netdevice.NET_XMIT_CN):
        stats.tx_packets += 1
        stats.tx_bytes += nbytes
    else:
        stats.tx_dropped += 1


def dev_wants_group(dev: net_device, dest: bytes) -> bool:
    """Whether it receives this group (`mc_filter` of macvlan, `mac_filters` of ipvlan)."""
    if dev.flags & (netdevice.IFF_PROMISC | netdevice.IFF_ALLMULTI):
        return True
    return dest in dev.mc or dest == dev.broadcast


def __dev_forward_skb(dev: net_device, skb: sk_buff) -> int:
    """net/core/dev.c: prepare skb, data at its MAC header, for `dev` to receive. 0 or NET_RX_DROP.

    Takes ownership of skb when it is dropped.
    """
    sender: net_device = skb.dev
    if skb.data_len and not skb_orphan_frags(skb, dev.machine.skb_pages):
        return drop_received(dev, skb, drop_reason.SKB_DROP_REASON_NOMEM)
    if not is_skb_forwardable(dev, skb):
        up = dev.flags & netdevice.IFF_UP
        reason = (
            drop_reason.SKB_DROP_REASON_PKT_TOO_BIG if up else drop_reason.SKB_DROP_REASON_DEV_READY
        )
        return drop_received(dev, skb, reason)
    skb_scrub_packet(skb, sender.net is not dev.net)
    skb.priority = 0
    eth_type_trans(skb, dev)
    return 0
