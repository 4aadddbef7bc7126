"""net/ipv4/ip_tunnel_core.c: offloads of packets in tunnels.

A packet that enters a tunnel keeps its partial checksum, and stays a super-packet. SKB_GSO_ENCAP in
`gso_type` says that `csum_start` is that of the inner packet. The device below segments it and
computes checksums, or skb_gso_segment does.
"""

from __future__ import annotations

from fastpath.base.csum import csum_add, csum_fold, csum_ipv6_nofold, csum_tcpudp_nofold
from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    SKB_GSO_ENCAP,
    sk_buff,
    skb_checksum,
    skb_checksum_start_offset,
    skb_copy_bits,
    skb_store_bits,
)
from fastpath.net.hdr import udp4_send_check, udp6_send_check
from stack.core import netdevice
from stack.core.netdevice import net_device
from stack.core.rows import narrow, wide
from stack.core.uapi import AF_INET, IPPROTO_UDP
from stack.inet.flow import flowi
from stack.ipv4.route import ip_route_output_flow
from stack.ipv6.route import ip6_route_output
from stack.net import Net

GSO_ROOM = 128
"""Bytes left for outer headers: the length fields of UDP and IP include them."""


def fits_outside(skb: sk_buff) -> bool:
    """Whether a super-packet's length fits the fields of the outer headers. Borrows skb."""
    return skb.len <= 0xFFFF - GSO_ROOM


def tunnel_route_dev(net: Net, fl: flowi) -> net_device | None:
    """The device that packets of a flow will leave by; None: there is no route."""
    try:
        if fl.family == AF_INET:
            return ip_route_output_flow(net, fl).dev
        rt = ip6_route_output(net, None, fl)
    except OSError:
        return None
    return None if rt.error else rt.dev


def iptunnel_handle_offloads(skb: sk_buff, gso_type: int) -> bool:
    """net/ipv4/ip_tunnel_core.c: leave the inner checksum to the device below. Borrows skb.

    False: a super-packet with a complete checksum, which cannot be segmented.
    """
    if skb.ip_summed == CHECKSUM_PARTIAL:
        skb.gso_type |= gso_type
        return True
    skb.ip_summed = CHECKSUM_NONE
    skb.gso_type &= ~SKB_GSO_ENCAP
    return not skb.gso_size


def iptunnel_xmit_stats(dev: net_device, err: int, length: int) -> int:
    """include/net/ip_tunnels.h: count a packet, `length` without outer headers.

    NETDEV_TX_OK.
    """
    stats = dev.stats
    if err and err != netdevice.NET_XMIT_CN:
        stats.tx_errors += 1
        stats.tx_aborted_errors += 1
    else:
        stats.tx_packets += 1
        stats.tx_bytes += length
    return netdevice.NETDEV_TX_OK


def iptunnel_pull_offloads(skb: sk_buff) -> None:
    """include/net/ip_tunnels.h: a packet has left its tunnel; data at its own header. Borrows skb.

    A checksum that is not computed yet counts as right; any other is to be verified.
    """
    skb.gso_type &= ~SKB_GSO_ENCAP
    skb.csum_valid = False
    if skb.ip_summed != CHECKSUM_PARTIAL or skb_checksum_start_offset(skb) < 0:
        skb.ip_summed = CHECKSUM_NONE


def lco_csum(skb: sk_buff) -> int:
    """include/linux/skbuff.h: the sum of all bytes from data on, inner checksum included.

    That is not computed yet. With it, the bytes that it covers add up to the complement of the sum
    in its place, which is the pseudo header's. Borrows skb, which is CHECKSUM_PARTIAL.
    """
    start = skb_checksum_start_offset(skb)
    seed = int.from_bytes(skb_copy_bits(skb, start + skb.csum_offset, 2), "big")
    return skb_checksum(skb, 0, start, ~seed & 0xFFFF)


def udp_set_csum(skb: sk_buff, six: bool, saddr: wide, daddr: wide) -> None:
    """net/ipv4/udp.c, net/ipv6/ip6_checksum.c: the checksum of a tunnel's datagram. Borrows skb.

    Data at the UDP header. A super-packet gets the sum of the pseudo header only.
    """
    if skb.ip_summed != CHECKSUM_PARTIAL:
        if six:
            udp6_send_check(skb, saddr, daddr)
        else:
            udp4_send_check(skb, narrow(saddr), narrow(daddr))
        return
    if six:
        pseudo = csum_ipv6_nofold(saddr, daddr, skb.len, IPPROTO_UDP)
    else:
        pseudo = csum_tcpudp_nofold(narrow(saddr), narrow(daddr), skb.len, IPPROTO_UDP, 0)
    if skb.gso_size:
        check = ~csum_fold(pseudo) & 0xFFFF
    else:
        check = csum_fold(csum_add(lco_csum(skb), pseudo))
    skb_store_bits(skb, 6, (check or 0xFFFF).to_bytes(2, "big"))
