"""net/netfilter/nf_nat_redirect.c: redirecting connections to this host."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import ipv6hdr_at
from stack.core.netfilter import NF_DROP, NF_INET_LOCAL_OUT, NFPROTO_IPV4, nf_hook_state
from stack.core.rows import wide
from stack.ipv6.addr import IPV6_ADDR_MAPPED, IPV6_ADDR_SCOPE_MASK, ipv6_addr_type
from stack.ipv6.if_inet6 import IFA_F_OPTIMISTIC, IFA_F_TENTATIVE, inet6_ifaddr
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_nat_core import (
    NF_NAT_MANIP_DST,
    NF_NAT_RANGE_MAP_IPS,
    nf_nat_range2,
    nf_nat_setup_info,
)

INADDR_LOOPBACK, IN6_LOOPBACK = 0x7F000001, 1


def nf_nat_redirect_ipv6_usable(ifa: inet6_ifaddr, scope: int) -> bool:
    """net/netfilter/nf_nat_redirect.c: whether a connection of that scope may use the address."""
    kind = ipv6_addr_type(ifa.addr)
    if kind & IPV6_ADDR_MAPPED:
        return False
    if ifa.flags & IFA_F_TENTATIVE and not ifa.flags & IFA_F_OPTIMISTIC:
        return False
    return not scope or bool(scope & kind & IPV6_ADDR_SCOPE_MASK)


def redirect_addr(skb: sk_buff, state: nf_hook_state) -> wide:
    """The address of this host to which a packet is redirected; 0: there is none."""
    ipv4 = state.pf == NFPROTO_IPV4
    if state.hook == NF_INET_LOCAL_OUT:
        return INADDR_LOOPBACK if ipv4 else IN6_LOOPBACK
    dev = state.indev
    if ipv4:
        in_dev = None if dev is None else dev.ip_ptr
        return in_dev.ifa_list[0].ifa_local if in_dev is not None and in_dev.ifa_list else 0
    idev = None if dev is None else dev.ip6_ptr
    scope = ipv6_addr_type(ipv6hdr_at(skb, 0).daddr) & IPV6_ADDR_SCOPE_MASK
    for ifa in () if idev is None else idev.addr_list:
        if nf_nat_redirect_ipv6_usable(ifa, scope):
            return ifa.addr
    return 0


def nf_nat_redirect(skb: sk_buff, state: nf_hook_state, ct: nf_conn, rng: nf_nat_range2) -> int:
    """net/netfilter/nf_nat_redirect.c nf_nat_redirect_ipv4, _ipv6: a verdict. Ports and flags are
    those of `rng`."""
    addr = redirect_addr(skb, state)
    if not addr:
        return NF_DROP
    flags = rng.flags | NF_NAT_RANGE_MAP_IPS
    new = nf_nat_range2(flags, addr, addr, rng.min_proto, rng.max_proto)
    return nf_nat_setup_info(ct, new, NF_NAT_MANIP_DST)
