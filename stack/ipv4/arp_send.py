"""Building and sending ARP packets (net/ipv4/arp.c, RFC 826)."""

from __future__ import annotations

from fastpath.base.skbuff import alloc_skb, kfree_skb, sk_buff
from fastpath.net.hdr import arp_put
from stack.core.dev_queue import dev_queue_xmit
from stack.core.neighbour import dev_hard_header
from stack.core.netdevice import ETH_P_ARP, IFF_NOARP, net_device

ARPOP_REQUEST = 1
ARPOP_REPLY = 2
ARP_HDR_LEN = 28


def arp_mc_map(addr: int, dev: net_device) -> bytes:
    """include/net/ip.h ip_eth_mc_map: 01:00:5e and the low 23 bits (RFC 1112 6.4)."""
    return b"\x01\x00\x5e" + (addr & 0x7FFFFF).to_bytes(3, "big")


def arp_create(
    op: int,
    ptype: int,
    dest_ip: int,
    dev: net_device,
    src_ip: int,
    dest_hw: bytes | None = None,
    src_hw: bytes | None = None,
    target_hw: bytes | None = None,
) -> sk_buff | None:
    """net/ipv4/arp.c: an ARP packet with its Ethernet header. None when memory is short.

    dest_hw None: broadcast; src_hw None: the device's; target_hw None: zeros.
    """
    src_hw = dev.dev_addr if src_hw is None else src_hw
    dest_hw = dev.broadcast if dest_hw is None else dest_hw
    headroom = dev.hard_header_len + dev.needed_headroom + 2
    skb = alloc_skb(dev.net.skb_small, ARP_HDR_LEN + 18, headroom)
    if skb is None:
        return None
    arp_put(skb, op, src_hw, src_ip, target_hw if target_hw is not None else bytes(6), dest_ip)
    skb.dev = dev
    skb.protocol = ETH_P_ARP
    skb.priority = 7  # TC_PRIO_CONTROL
    if dev_hard_header(skb, dev, ptype, dest_hw, src_hw, skb.len) < 0:
        kfree_skb(skb)
        return None
    return skb


def arp_xmit(skb: sk_buff) -> int:
    """net/ipv4/arp.c: send it. Takes ownership of skb."""
    return dev_queue_xmit(skb)


def arp_send(
    op: int,
    ptype: int,
    dest_ip: int,
    dev: net_device,
    src_ip: int,
    dest_hw: bytes | None,
    src_hw: bytes | None,
    target_hw: bytes | None,
) -> None:
    """net/ipv4/arp.c: create and send; nothing on a device without ARP."""
    if dev.flags & IFF_NOARP:
        return
    skb = arp_create(op, ptype, dest_ip, dev, src_ip, dest_hw, src_hw, target_hw)
    if skb is not None:
        arp_xmit(skb)


def arp_send_gratuitous(dev: net_device, addr: int) -> None:
    """net/ipv4/devinet.c inetdev_send_gratuitous_arp: announce an address of ours."""
    arp_send(ARPOP_REQUEST, ETH_P_ARP, addr, dev, addr, None, dev.dev_addr, None)
