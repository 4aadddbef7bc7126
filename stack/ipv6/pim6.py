"""net/ipv6/ip6mr.c: register messages of PIM over IPv6 (see stack/inet/pimreg.py)."""

from __future__ import annotations

from fastpath.base.csum import csum_fold, csum_ipv6_nofold
from fastpath.base.skbuff import pskb_may_pull, sk_buff, skb_checksum
from fastpath.net.hdr import ipv6_hdr, ipv6hdr_at
from stack.core.netdevice import ETH_P_IPV6
from stack.core.uapi import IPV6_HLEN
from stack.inet.pimreg import IPPROTO_PIM, PIM_HLEN, mr_register_rcv, pim_drop, pim_is_register
from stack.ipv6.addr import ipv6_addr_is_multicast
from stack.ipv6.protocol import inet6_protocol


def pim6_rcv(skb: sk_buff) -> int:
    """net/ipv6/ip6mr.c: the packet in a register comes in. Takes ownership of skb.

    It must be for a group and as long as it says.
    """
    if not pskb_may_pull(skb, PIM_HLEN + IPV6_HLEN) or not pim_is_register(skb):
        return pim_drop(skb)
    iph = ipv6_hdr(skb)
    pseudo = csum_ipv6_nofold(iph.saddr, iph.daddr, PIM_HLEN, IPPROTO_PIM)
    wrong = csum_fold(skb_checksum(skb, 0, PIM_HLEN, pseudo))
    # A checksum of the whole message is verified without the pseudo header, as in the kernel.
    if wrong and csum_fold(skb_checksum(skb, 0, skb.len, 0)):
        return pim_drop(skb)
    inner = ipv6hdr_at(skb, PIM_HLEN)
    fits = 0 < inner.payload_len <= skb.len - PIM_HLEN
    if not fits or not ipv6_addr_is_multicast(inner.daddr):
        return pim_drop(skb)
    if not mr_register_rcv(skb.dev.net.ipv6.mrt, skb, ETH_P_IPV6):
        return pim_drop(skb)
    return 0


pim6_protocol = inet6_protocol(pim6_rcv)
