"""Routing decisions of IPv6: from flows and received packets to rt6_infos (net/ipv6/route.c).

    ip6_route_output_flow               a flow of ours: ip6_dst_lookup_tail chooses its source, too
        ip6_route_output_flags          one lookup; perhaps a route with an error
            l3mdev_link_scope_lookup    a link-local address or group on a port of a VRF
            ip6_pol_route               the tables that every lookup asks first
            fib6_rule_lookup            then the rules with conditions
    ip6_route_input                     a received packet: the same, by its own interface
    rt6_of_info                         of equal routes one; what its packets share, or an exception

Lookups raise OSError (ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL) where the kernel returns a dst
with an error, except for `ip6_route_output`, which returns the dst. State is in the tables
(ip6_fib.py); a route caches what its packets share in `rt6i_pcpu`. Read ip6_pol_route first.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_network_offset
from fastpath.net.hdr import ipv6_hdr
from fastpath.net.hdr6 import ipv6_skip_exthdr
from stack.core import uapi
from stack.core.errors import os_error
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.l3mdev import (
    IFF_L3MDEV,
    l3mdev_fib_table,
    l3mdev_flow_oif,
    l3mdev_master_dev,
    l3mdev_master_ifindex,
)
from stack.core.rows import wide
from stack.core.security import security_sk_classify_flow
from stack.core.sock import sk_dst_check, sk_dst_set
from stack.core.uapi import AF_INET6, IPPROTO_TCP, IPPROTO_UDP, IPV6_HLEN
from stack.inet.flow import flowi
from stack.inet.ipmr_base import ARPHRD_PIMREG
from stack.inet.xfrm_policy import xfrm_lookup
from stack.ipv6 import ip6_fib
from stack.ipv6.addr import ipv6_addr_is_linklocal, ipv6_addr_v4mapped, rt6_need_strict
from stack.ipv6.ip6_fib import fib6_info, fib6_select_path, fib6_table_lookup
from stack.ipv6.rt6_info import ip6_error_entry, rt6_info, rt6_make_pcpu_route
from stack.ipv6.saddr import ipv6_dev_get_saddr

if TYPE_CHECKING:
    from stack.core.netdevice import net_device
    from stack.inet.inet_sock import inet_sock
    from stack.net import Net

WITH_PORTS = (IPPROTO_TCP, IPPROTO_UDP)


def ip6_pol_route(
    net: Net, oif: int, daddr: wide, fl6: flowi | None, skb: sk_buff | None, strict: int
) -> rt6_info:
    """net/ipv6/route.c: the route of a flow, or of `skb`; ip6_null_entry when there is none.

    `oif`: the interface it must leave by (output) or came in by (input), 0: any.
    """
    ipv6 = net.ipv6
    if not ipv6.devconf_all.forwarding:
        strict |= ip6_fib.RT6_LOOKUP_F_REACHABLE
    f6i: fib6_info | None = None
    for tb in ipv6.fib6.rules:
        f6i = fib6_table_lookup(net, tb, daddr, oif, strict)
        if f6i is not None and f6i.fib6_type != uapi.RTN_THROW:
            break
    else:
        return ipv6.ip6_null_entry
    assert f6i is not None
    return rt6_of_info(net, f6i, oif, daddr, fl6, skb)


def rt6_of_info(
    net: Net, f6i: fib6_info, oif: int, daddr: wide, fl6: flowi | None, skb: sk_buff | None
) -> rt6_info:
    """net/ipv6/route.c (in ip6_pol_route): of equal routes one; what packets of it share."""
    if f6i.fib6_siblings and not oif:
        f6i = fib6_select_path(net, f6i, fl6 or flowi(AF_INET6, daddr), skb)
    nh = f6i.fib6_nh
    if nh.exceptions:
        rt = rt6_find_cached_rt(net, f6i, daddr)
        if rt is not None:
            return rt
    return nh.rt6i_pcpu or rt6_make_pcpu_route(net, f6i)


def rt6_find_cached_rt(net: Net, f6i: fib6_info, daddr: wide) -> rt6_info | None:
    """net/ipv6/route.c: the exception of `daddr`; None when there is none, or it expired."""
    ex = f6i.fib6_nh.exceptions.get(daddr)
    if ex is None:
        return None
    rt = ex.rt6i
    if rt.expires and net.clock.now_ns() >= rt.expires:
        rt.kill()
        del f6i.fib6_nh.exceptions[daddr]
        net.ipv6.rt6_exceptions -= 1
        return None
    return rt


def ip6_table_route(net: Net, vrf_dev: net_device, daddr: wide, oif: int) -> rt6_info:
    """drivers/net/vrf.c vrf_ip6_route_lookup: a route of a VRF over the interface `oif`.

    ip6_null_entry when there is none.
    """
    tb = net.ipv6.fib6.tables.get(l3mdev_fib_table(vrf_dev))
    strict = ip6_fib.RT6_LOOKUP_F_IFACE
    f6i = fib6_table_lookup(net, tb, daddr, oif, strict) if tb is not None else None
    if f6i is None:
        return net.ipv6.ip6_null_entry
    return rt6_of_info(net, f6i, oif, daddr, None, None)


def l3mdev_link_scope_lookup(net: Net, fl6: flowi) -> rt6_info | None:
    """net/l3mdev/l3mdev.c, vrf_link_scope_lookup: the route to a link-local address or group.

    None: no VRF is concerned. A VRF itself has no link.
    """
    dev = net.dev_by_index.get(fl6.flowi_oif)
    if dev is None or not dev.priv_flags & IFF_L3MDEV:
        return None
    master = l3mdev_master_dev(dev)
    if master is None or master is dev:
        return net.ipv6.ip6_null_entry
    return ip6_table_route(net, master, fl6.daddr, fl6.flowi_oif)


# --- input ---------------------------------------------------------------------------------


def ip6_route_input(skb: sk_buff, daddr: wide, need_strict: bool) -> None:
    """net/ipv6/route.c: set skb.dst of a packet received for `daddr`. Borrows skb.

    `need_strict`: rt6_need_strict(daddr); such an address is looked up on the packet's link only,
    if it has a link (not the register interface of PIM).
    """
    dev: net_device = skb.dev
    net = dev.net
    strict = 0
    if need_strict and dev.type != ARPHRD_PIMREG:
        strict = ip6_fib.RT6_LOOKUP_F_IFACE
    else:
        # The usual case is an address of ours: one lookup in the local table.
        leaf = net.ipv6.fib6.rules[0].leaf(daddr, 128)
        if leaf:
            nh = leaf[0].fib6_nh
            if nh.rt6i_pcpu is not None and not nh.exceptions:
                skb.dst = nh.rt6i_pcpu
                return
    oif = dev.ifindex if strict else 0
    rt = ip6_pol_route(net, oif, daddr, None, skb, strict)
    if rt is net.ipv6.ip6_null_entry and net.ipv6.fib6.ops.rest:
        rt = fib6_rule_lookup(net, input_flow(skb, daddr, oif), dev.ifindex, strict, skb)
    skb.dst = rt


def input_flow(skb: sk_buff, daddr: wide, oif: int) -> flowi:
    """include/net/ip6_fib.h fib6_rules_early_flow_dissect: what rules see of a received packet."""
    iph = ipv6_hdr(skb)
    fl6 = flowi(AF_INET6, daddr, iph.saddr, oif, iph.priority, flowi_mark=skb.mark)
    fl6.flowlabel = iph.flow_lbl
    at, proto, frag_off = ipv6_skip_exthdr(skb, skb_network_offset(skb) + IPV6_HLEN, iph.nexthdr)
    fl6.flowi_proto = proto
    if at >= 0 and proto in WITH_PORTS and not frag_off & ~7 and skb.len >= at + 4:
        ports = skb_copy_bits(skb, at, 4)
        fl6.fl_sport = ports[0] << 8 | ports[1]
        fl6.fl_dport = ports[2] << 8 | ports[3]
    return fl6


def fib6_rule_lookup(net: Net, fl6: flowi, iif: int, strict: int, skb: sk_buff | None) -> rt6_info:
    """net/ipv6/fib6_rules.c: the route by rules with conditions; perhaps one with an error."""
    daddr, oif = fl6.daddr, l3mdev_flow_oif(net, fl6.flowi_oif)
    if not net.ipv6.devconf_all.forwarding:
        strict |= ip6_fib.RT6_LOOKUP_F_REACHABLE
    for rule, tb in ip6_fib.fib6_rule_tables(net, fl6, iif):
        if rule is None:
            continue
        if tb is None:
            return ip6_error_entry(net, rule.action)
        f6i = fib6_table_lookup(net, tb, daddr, oif, strict)
        if (
            f6i is not None
            and f6i.fib6_type != uapi.RTN_THROW
            and not ip6_fib.fib6_rule_suppress(rule, f6i)
        ):
            return rt6_of_info(net, f6i, oif, daddr, fl6, skb)
    return net.ipv6.ip6_null_entry


# --- output --------------------------------------------------------------------------------


def ip6_route_output_flags(net: Net, sk: inet_sock | None, fl6: flowi, flags: int) -> rt6_info:
    """net/ipv6/route.c: the route of a flow, perhaps one with an error."""
    oif = fl6.flowi_oif
    if (
        (sk is not None and sk.sk_bound_dev_if)
        or rt6_need_strict(fl6.daddr)
        or (oif and not fl6.saddr)
    ):
        flags |= ip6_fib.RT6_LOOKUP_F_IFACE
    if oif:
        if fl6.daddr >> 120 == 0xFF or ipv6_addr_is_linklocal(fl6.daddr):
            scoped = l3mdev_link_scope_lookup(net, fl6)
            if scoped is not None:
                return scoped
        oif = l3mdev_flow_oif(net, oif)
    rt = ip6_pol_route(net, oif, fl6.daddr, fl6, None, flags)
    if rt is net.ipv6.ip6_null_entry and net.ipv6.fib6.ops.rest:
        rt = fib6_rule_lookup(net, fl6, LOOPBACK_IFINDEX, flags, None)
    return rt


def ip6_route_output(net: Net, sk: inet_sock | None, fl6: flowi) -> rt6_info:
    """include/net/ip6_route.h: the route of a flow; its `error` is not 0 when it drops packets."""
    return ip6_route_output_flags(net, sk, fl6, 0)


def rt6_lookup_dev(net: Net, daddr: wide) -> net_device | None:
    """net/ipv6/route.c rt6_lookup: the interface that an address's route names, also a local one.

    None without a usable route.
    """
    rt = ip6_route_output(net, None, flowi(AF_INET6, daddr))
    return None if rt.error or rt.from6 is None else rt.from6.fib6_nh.fib_nh_dev


def ip6_route_get_saddr(net: Net, rt: rt6_info, daddr: wide, prefs: int) -> wide:
    """include/net/ip6_route.h: the source address for a route: its own, else by RFC 6724.

    Raises: OSError EADDRNOTAVAIL.
    """
    f6i = rt.from6
    if f6i is not None and f6i.fib6_prefsrc:
        return f6i.fib6_prefsrc
    dev = f6i.fib6_nh.fib_nh_dev if f6i is not None else None
    saddr = ipv6_dev_get_saddr(net, dev, daddr, prefs)
    if not saddr:
        raise os_error(errno.EADDRNOTAVAIL)
    return saddr


def ip6_dst_lookup_tail(net: Net, sk: inet_sock | None, fl6: flowi, prefs: int) -> rt6_info:
    """net/ipv6/ip6_output.c: the route of a flow; sets its source address if that is unset.

    Raises: OSError ENETUNREACH, EHOSTUNREACH, EACCES, EADDRNOTAVAIL, EAFNOSUPPORT.
    """
    rt: rt6_info | None = None
    flags = 0
    if not fl6.saddr:
        rt = ip6_route_output(net, sk, fl6)
        if rt.from6 is not None and not rt.error:
            fl6.saddr = ip6_route_get_saddr(net, rt, fl6.daddr, prefs)
        if rt.error:
            rt = None
        if fl6.flowi_oif:
            flags |= ip6_fib.RT6_LOOKUP_F_IFACE
    if rt is None:
        rt = ip6_route_output_flags(net, sk, fl6, flags)
    if rt.error:
        if rt.error == errno.ENETUNREACH:
            net.mib.ip6.OutNoRoutes += 1
        raise os_error(rt.error)
    if ipv6_addr_v4mapped(fl6.saddr) and fl6.daddr and not ipv6_addr_v4mapped(fl6.daddr):
        raise os_error(errno.EAFNOSUPPORT)
    return rt


def ip6_route_output_flow(
    net: Net, fl6: flowi, sk: inet_sock | None = None, prefs: int = 0
) -> rt6_info:
    """The route of a flow, as ip_route_output_flow of IPv4; fills fl6.saddr.

    `prefs`: IPV6_PREFER_SRC_* of the socket. As in Linux bind() and IPV6_PKTINFO, not this, check
    that the source is ours. Raises: OSError as ip6_dst_lookup_tail; EINVAL for a group as source.
    """
    if fl6.saddr >> 120 == 0xFF:
        raise os_error(errno.EINVAL)
    if sk is not None and net.security is not None:
        security_sk_classify_flow(sk, fl6)
    rt = ip6_dst_lookup_tail(net, sk, fl6, prefs)
    if not net.xfrm.nopolicy:
        rt = xfrm_lookup(net, fl6, rt, sk)
    return rt


def ip6_dst_lookup_flow(
    net: Net, sk: inet_sock | None, fl6: flowi, final_dst: wide = 0, prefs: int = 0
) -> rt6_info:
    """net/ipv6/ip6_output.c: the route of a connect's flow. Raises: OSError.

    `final_dst`: the destination to store in the flow after the lookup, if a routing header has
    another first hop; else 0.
    """
    rt = ip6_route_output_flow(net, fl6, sk, prefs)
    if final_dst:
        fl6.daddr = final_dst
    return rt


def ip6_sk_dst_lookup_flow(sk: inet_sock, fl6: flowi, prefs: int) -> rt6_info:
    """net/ipv6/ip6_output.c: the cached route of a connected socket if valid, else a new one."""
    dst = sk_dst_check(sk, 0)
    rt: rt6_info
    if isinstance(dst, rt6_info):  # a v4-mapped peer's is none
        rt = dst
        if ip6_sk_dst_check(rt, fl6):
            return rt
    rt = ip6_dst_lookup_flow(sk.net, sk, fl6, 0, prefs)
    sk_dst_set(sk, rt)
    return rt


def ip6_sk_dst_check(rt: rt6_info, fl6: flowi) -> bool:
    """net/ipv6/ip6_output.c: whether the socket's cached route is valid for this flow."""
    if rt.rt6i_plen == 128 and rt.rt6i_dst != fl6.daddr:
        return False
    # A route for a whole prefix is valid: it is cached only for the connected peer.
    oif = fl6.flowi_oif
    return not oif or oif in (rt.dev.ifindex, l3mdev_master_ifindex(rt.dev))
