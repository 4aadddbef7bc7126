"""NAT to the address of the outgoing interface (net/netfilter/nf_nat_masquerade.c).

Masqueraded connections end when the interface goes down or loses the address.
"""

from __future__ import annotations

from typing import Any

from fastpath.base.skbuff import sk_buff
from fastpath.net.hdr import iphdr_at, ipv6hdr_at
from stack.core.netdevice import NETDEV_DOWN, net_device
from stack.core.netfilter import NF_ACCEPT, NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6, nf_hook_state
from stack.core.rows import wide
from stack.core.uapi import RT_SCOPE_UNIVERSE
from stack.ipv4.devinet import register_inetaddr_notifier, unregister_inetaddr_notifier
from stack.ipv4.fib import inet_select_addr
from stack.ipv4.route import rtable
from stack.ipv6.addrconf_addr import register_inet6addr_notifier, unregister_inet6addr_notifier
from stack.ipv6.saddr import ipv6_dev_get_saddr
from stack.net import Net
from stack.netfilter import nf_nat_core
from stack.netfilter.nf_conntrack import nf_conn
from stack.netfilter.nf_conntrack_life import nf_ct_all, nf_ct_delete
from stack.netfilter.nf_nat_core import nf_nat_range2, nf_nat_setup_info


def nf_nat_masquerade(skb: sk_buff, state: nf_hook_state, ct: nf_conn, rng: nf_nat_range2) -> int:
    """net/netfilter/nf_nat_masquerade.c nf_nat_masquerade_ipv4, _ipv6: a verdict. Ports and flags
    are those of `rng`. Without a usable address the packet is dropped.
    """
    out: net_device = state.outdev  # type: ignore[assignment]
    src: wide = 0
    if state.pf == NFPROTO_IPV4:
        iph = iphdr_at(skb, 0)
        if not ct.orig.tuple[2]:
            return NF_ACCEPT  # such a host has no address yet
        rt: rtable = skb.dst
        src = inet_select_addr(out, rt.rt_gw4 or iph.daddr, RT_SCOPE_UNIVERSE)
    else:
        src = ipv6_dev_get_saddr(state.net, out, ipv6hdr_at(skb, 0).daddr)
    if not src:
        return NF_DROP
    ct.masq_index = out.ifindex
    flags = rng.flags | nf_nat_core.NF_NAT_RANGE_MAP_IPS
    new = nf_nat_range2(flags, src, src, rng.min_proto, rng.max_proto)
    return nf_nat_setup_info(ct, new, nf_nat_core.NF_NAT_MANIP_SRC)


def masquerade_cleanup(net: Net, ifindex: int, pf: int, addr: wide) -> None:
    """nf_ct_iterate_cleanup_net with device_cmp or inet_cmp: delete the connections of an
    interface, or of one of its addresses (`pf` and `addr` not 0).
    """
    for ct in nf_ct_all(net.ct):
        if ct.masq_index != ifindex:
            continue
        if not pf or (ct.l3num == pf and ct.reply.tuple[4] == addr):
            nf_ct_delete(ct)


def masq_device_event(event: int, dev: net_device) -> None:
    """net/netfilter/nf_nat_masquerade.c: an interface went down."""
    if event == NETDEV_DOWN and dev.net.ct.masq_refcnt:
        masquerade_cleanup(dev.net, dev.ifindex, 0, 0)


def masq_inet_event(event: int, ifa: Any) -> None:
    """net/netfilter/nf_nat_masquerade.c: an IPv4 address was deleted."""
    if event == NETDEV_DOWN:
        dev = ifa.ifa_dev.dev
        masquerade_cleanup(dev.net, dev.ifindex, NFPROTO_IPV4, ifa.ifa_local)


def masq_inet6_event(event: int, ifp: Any) -> None:
    """net/netfilter/nf_nat_masquerade.c: an IPv6 address was deleted."""
    if event == NETDEV_DOWN:
        dev = ifp.idev.dev
        masquerade_cleanup(dev.net, dev.ifindex, NFPROTO_IPV6, ifp.addr)


def nf_nat_masquerade_inet_register_notifiers(net: Net) -> None:
    """net/netfilter/nf_nat_masquerade.c: count a rule; the first registers the notifiers."""
    net.ct.masq_refcnt += 1
    if net.ct.masq_refcnt > 1:
        return
    net.netdev_chain.append(masq_device_event)
    register_inetaddr_notifier(net, masq_inet_event)
    register_inet6addr_notifier(net, masq_inet6_event)


def nf_nat_masquerade_inet_unregister_notifiers(net: Net) -> None:
    """net/netfilter/nf_nat_masquerade.c: uncount a rule; the last unregisters the notifiers."""
    net.ct.masq_refcnt -= 1
    if net.ct.masq_refcnt:
        return
    net.netdev_chain.remove(masq_device_event)
    unregister_inetaddr_notifier(net, masq_inet_event)
    unregister_inet6addr_notifier(net, masq_inet6_event)
