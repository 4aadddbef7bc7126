"""net/ipv4/ipmr.c: register messages of PIM over IPv4 (see stack/inet/pimreg.py)."""

from __future__ import annotations

from fastpath.base.csum import ip_compute_csum
from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_copy_bits
from fastpath.net.hdr import iphdr_at
from stack.core.netdevice import ETH_P_IP
from stack.core.uapi import IP_HLEN
from stack.inet.pimreg import PIM_HLEN, mr_register_rcv, pim_drop, pim_is_register
from stack.inet.protocol import net_protocol
from stack.ipv4.addr import ipv4_is_multicast

PIM_V1_REGISTER = b"\x14\x01"
PIM_V1_VERSION = b"\x10\0\0\0"


def __pim_rcv(skb: sk_buff) -> bool:
    """net/ipv4/ipmr.c: decapsulate the packet of a register message, data at the message.

    Its destination must be a group, and its length valid. Takes ownership of skb when True.
    """
    if not pskb_may_pull(skb, PIM_HLEN + IP_HLEN):
        return False
    iph = iphdr_at(skb, PIM_HLEN)
    if not ipv4_is_multicast(iph.daddr) or not 0 < iph.tot_len <= skb.len - PIM_HLEN:
        return False
    return mr_register_rcv(skb.dev.net.ipv4.mrt, skb, ETH_P_IP)


def pim_rcv(skb: sk_buff) -> int:
    """net/ipv4/ipmr.c: PIM version 2. Takes ownership of skb."""
    if not pskb_may_pull(skb, PIM_HLEN + IP_HLEN) or not pim_is_register(skb):
        return pim_drop(skb)
    head, whole = skb_copy_bits(skb, 0, PIM_HLEN), skb_copy_bits(skb, 0, skb.len)
    if (ip_compute_csum(head) and ip_compute_csum(whole)) or not __pim_rcv(skb):
        return pim_drop(skb)
    return 0


def pim_rcv_v1(skb: sk_buff) -> int:
    """net/ipv4/ipmr.c: PIM version 1, an IGMP message, if the daemon enabled it (MRT_PIM).

    Takes ownership of skb.
    """
    mrt = skb.dev.net.ipv4.mrt
    head = skb_copy_bits(skb, 0, PIM_HLEN)
    wanted = head[:2] == PIM_V1_REGISTER and head[4:] == PIM_V1_VERSION
    if not wanted or mrt is None or not mrt.mroute_do_pim or not __pim_rcv(skb):
        return pim_drop(skb)
    return 0


pim_protocol = net_protocol(pim_rcv)
