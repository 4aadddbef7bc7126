"""Learned routes: path MTUs (RFC 8201), redirects (RFC 4861 8), routers' routes (RFC 4191).

net/ipv6/route.c. Who calls in:

    packet too big: ip6_update_pmtu; udpv6_err, rawv6_err -> ip6_sk_update_pmtu
                    TCP -> dst_ops.update_pmtu => ip6_rt_update_pmtu
        __ip6_rt_update_pmtu -> rt6_insert_exception    the destination gets a route of its own
    redirect: ndisc_redirect_rcv -> ip6_redirect_no_header; error handlers -> ip6_sk_redirect
        __ip6_route_redirect                only the current first hop may redirect
        rt6_do_redirect -> rt6_insert_exception
    ndisc_router_discovery -> rt6_add_dflt_router, rt6_route_rcv    routes with a lifetime
    addrconf_notify -> rt6_mtu_change       the link's MTU changed

State: each fib6_nh has `exceptions` by destination, at most `route.max_size` in the namespace; the
oldest goes first. An exception replaces the shared route, so that one becomes obsolete and sockets
look up again. `ip6_dst_ops` is the family's vector. Read __ip6_rt_update_pmtu first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff, skb_copy_bits, skb_transport_offset
from fastpath.net.hdr import ipv6_hdr, ipv6hdr_at
from fastpath.net.hdr6 import rd_msg_at
from stack.core import uapi
from stack.core.dst import DST_OBSOLETE_KILL, RTAX_LOCK_MTU, dst_metric_locked, dst_ops
from stack.core.fib_rules import LOOPBACK_IFINDEX
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ISROUTER,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_OVERRIDE_ISROUTER,
    NEIGH_UPDATE_F_WEAK_OVERRIDE,
    neigh_key,
)
from stack.core.neighbour import neigh_confirm, neigh_update
from stack.core.rows import wide
from stack.core.sock import sk_dst_check
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET6, INFINITY_LIFE_TIME, IPV6_MIN_MTU, NUD_STALE
from stack.inet.flow import flowi
from stack.ipv4.neigh import ip_neigh_gw6
from stack.ipv6.addr import (
    IPV6_ADDR_LINKLOCAL,
    IPV6_ADDR_UNICAST,
    ipv6_addr_is_multicast,
    ipv6_addr_type,
)
from stack.ipv6.if_inet6 import ipv6_chk_addr
from stack.ipv6.ip6_fib import (
    IP6_RT_PRIO_USER,
    RT6_TABLE_MAIN,
    RTF_ADDRCONF,
    RTF_CACHE,
    RTF_DEFAULT,
    RTF_DYNAMIC,
    RTF_LOCAL,
    RTF_ROUTEINFO,
    fib6_add,
    fib6_add_once,
    fib6_check_expired,
    fib6_clean_expires,
    fib6_del,
    fib6_get_table,
    fib6_info,
    fib6_nh,
    fib6_rule_tables,
    fib6_run_gc,
    fib6_set_expires,
    fib6_start_gc,
)
from stack.ipv6.ip6_icmp import ICMPV6_ADDR_UNREACH, ICMPV6_DEST_UNREACH, icmpv6_send
from stack.ipv6.nd_messages import RD_LEN
from stack.ipv6.nd_options import ICMPV6_ROUTER_PREF_MEDIUM, ndisc_parse_options
from stack.ipv6.route import ip6_route_output
from stack.ipv6.rt6_info import (
    ip6_default_advmss,
    ip6_dst_check,
    ip6_mtu,
    ip6_null_entry,
    ip6_rt_cache_alloc,
    rt6_exception,
    rt6_info,
)

if TYPE_CHECKING:
    from stack.core.netdevice import net_device
    from stack.inet.inet_sock import inet_sock
    from stack.ipv6.if_inet6 import inet6_dev
    from stack.net import Net

_IS_ROUTER = NEIGH_UPDATE_F_OVERRIDE_ISROUTER | NEIGH_UPDATE_F_ISROUTER


# --- exceptions ----------------------------------------------------------------------------


def rt6_insert_exception(net: Net, rt: rt6_info, f6i: fib6_info) -> None:
    """net/ipv6/route.c: store a destination's own route; at route.max_size drop the oldest."""
    exceptions = f6i.fib6_nh.exceptions
    old = exceptions.pop(rt.rt6i_dst, None)
    if old is not None:
        old.rt6i.kill()
        net.ipv6.rt6_exceptions -= 1
    limit = net.ipv6.sysctl.ip6_rt_max_size
    if net.ipv6.rt6_exceptions >= limit:
        if not exceptions:
            return
        rt6_remove_oldest_exception(net, f6i)
    exceptions[rt.rt6i_dst] = rt6_exception(rt, net.now())
    net.ipv6.rt6_exceptions += 1
    net.ipv6.rt_live.append(rt)
    # Make the shared route obsolete, so that sockets look up the destination's own route.
    shared = f6i.fib6_nh.rt6i_pcpu
    if shared is not None:
        shared.kill()
        f6i.fib6_nh.rt6i_pcpu = None
    fib6_start_gc(net)


def rt6_remove_oldest_exception(net: Net, f6i: fib6_info) -> None:
    """net/ipv6/route.c: drop the oldest exception to make room."""
    exceptions = f6i.fib6_nh.exceptions
    oldest = next(iter(exceptions))  # a dict keeps the order of insertion
    exceptions.pop(oldest).rt6i.kill()
    net.ipv6.rt6_exceptions -= 1


def __ip6_rt_update_pmtu(rt: rt6_info, daddr: wide, mtu: int) -> None:
    """net/ipv6/route.c: store a path MTU of `mtu` bytes; less than 1280 is none (RFC 8201 4)."""
    if rt.rt6i_flags & RTF_LOCAL and rt.rt6i_flags & RTF_CACHE == 0:
        return
    if dst_metric_locked(rt, RTAX_LOCK_MTU):
        return
    if mtu < IPV6_MIN_MTU or mtu >= ip6_mtu(rt):
        return
    net = rt.net
    f6i = rt.from6
    if f6i is None:
        return
    if rt.rt6i_flags & RTF_CACHE and rt.obsolete != DST_OBSOLETE_KILL:
        rt6_do_update_pmtu(rt, mtu)
        return
    nrt = ip6_rt_cache_alloc(net, f6i, daddr)
    rt6_do_update_pmtu(nrt, mtu)
    rt6_insert_exception(net, nrt, f6i)


def rt6_do_update_pmtu(rt: rt6_info, mtu: int) -> None:
    """net/ipv6/route.c"""
    rt.metrics["mtu"] = mtu
    expires_ns = rt.net.ipv6.sysctl.ip6_rt_mtu_expires * NSEC_PER_SEC
    rt.expires = rt.net.now() + expires_ns if expires_ns else 0


def ip6_rt_update_pmtu(
    dst: rt6_info, sk: object, skb: sk_buff | None, mtu: int, confirm_neigh: bool = True
) -> None:
    """net/ipv6/route.c: dst_ops.update_pmtu. `skb` has data at the packet that was too big."""
    daddr = ipv6_hdr(skb).daddr if skb is not None else dst.rt6i_dst
    if skb is None and dst.rt6i_plen != 128:
        daddr = getattr(sk, "inet_daddr", 0)
    if daddr:
        __ip6_rt_update_pmtu(dst, daddr, mtu)


def ip6_update_pmtu(skb: sk_buff, net: Net, mtu: int, oif: int, mark: int = 0) -> None:
    """net/ipv6/route.c: store the MTU of a packet too big; skb data at the embedded header."""
    iph = ipv6hdr_at(skb, 0)
    fl6 = flowi(AF_INET6, iph.daddr, iph.saddr, oif, flowi_mark=mark)
    rt = ip6_route_output(net, None, fl6)
    if not rt.error:
        __ip6_rt_update_pmtu(rt, fl6.daddr, mtu)


def ip6_sk_update_pmtu(skb: sk_buff, sk: inet_sock, mtu: int) -> None:
    """net/ipv6/route.c: ip6_update_pmtu for a socket, whose cached route is checked."""
    ip6_update_pmtu(skb, sk.net, mtu, sk.sk_bound_dev_if or skb.dev.ifindex)
    sk_dst_check(sk, 0)


def rt6_mtu_change(dev: net_device, mtu: int) -> None:
    """net/ipv6/route.c: set a link's MTU; adapt path MTUs above it, or equal to the old one."""
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    before = idev.cnf.mtu if idev is not None else mtu
    for tb in net.ipv6.fib6.tables.values():
        for f6i in tb.routes():
            if f6i.fib6_nh.fib_nh_dev is not dev:
                continue
            own = f6i.fib6_metrics.get("mtu", 0)
            if own and (own > mtu or own == before):
                f6i.fib6_metrics["mtu"] = mtu
            for ex in f6i.fib6_nh.exceptions.values():
                learned = ex.rt6i.metrics.get("mtu", 0)
                # RFC 8201 5.3: where the old link MTU was the limit, the new one may be.
                if learned > mtu or (learned and learned == before):
                    ex.rt6i.metrics["mtu"] = mtu
    if idev is not None:
        idev.cnf.store("mtu", mtu)
    net.ipv6.rt_cache_flush()


# --- redirects -----------------------------------------------------------------------------


def rt6_do_redirect(rt: rt6_info, skb: sk_buff) -> None:
    """net/ipv6/route.c: follow a redirect (RFC 4861 8.3). Borrows skb.

    skb's network header is that of the router's packet, its transport header at the redirect.
    """
    dev: net_device = skb.dev
    net = dev.net
    at = skb_transport_offset(skb)
    if skb.len - at < RD_LEN:
        return
    msg = rd_msg_at(skb, at)
    target, dest = msg.target, msg.dest
    if ipv6_addr_is_multicast(dest):
        return
    on_link = target == dest
    if not on_link and ipv6_addr_type(target) != IPV6_ADDR_UNICAST | IPV6_ADDR_LINKLOCAL:
        return
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or idev.cnf.forwarding or not idev.cnf.accept_redirects:
        return
    options = ndisc_parse_options(skb_copy_bits(skb, at + RD_LEN, skb.len - at - RD_LEN))
    if options is None or options.tgt_lladdr == b"":
        return
    if rt.rt6i_flags & uapi.RTF_REJECT or rt.from6 is None:
        return
    router = ip_neigh_gw6(dev, ipv6_hdr(skb).saddr)
    if router is not None:
        neigh_confirm(router)
    neigh = ip_neigh_gw6(dev, target)
    if neigh is None:
        return
    neigh_update(
        neigh,
        options.tgt_lladdr,
        NUD_STALE,
        NEIGH_UPDATE_F_WEAK_OVERRIDE | NEIGH_UPDATE_F_OVERRIDE | (0 if on_link else _IS_ROUTER),
    )
    nrt = ip6_rt_cache_alloc(net, rt.from6, dest)
    nrt.rt6i_flags = uapi.RTF_UP | RTF_DYNAMIC | RTF_CACHE | (0 if on_link else uapi.RTF_GATEWAY)
    nrt.rt6i_gateway = target
    learned = rt.metrics.get("mtu", 0) if rt.rt6i_flags & RTF_CACHE else 0
    if learned:
        rt6_do_update_pmtu(nrt, learned)
    rt6_insert_exception(net, nrt, rt.from6)


def __ip6_route_redirect(net: Net, daddr: wide, gateway: wide, oif: int) -> rt6_info | None:
    """net/ipv6/route.c: the route to `daddr` over the router that redirects, or None.

    Only the current first hop may redirect (RFC 4861 8.1).
    """
    for _, tb in fib6_rule_tables(net, flowi(AF_INET6, daddr, 0, oif), LOOPBACK_IFINDEX):
        if tb is None:
            return None
        for mask, leaves in tb.levels:
            for f6i in leaves.get(daddr & mask, ()):
                nh = f6i.fib6_nh
                if fib6_check_expired(f6i, net.now()) or nh.fib_nh_dev.ifindex != oif:
                    continue
                if f6i.fib6_flags & uapi.RTF_REJECT:
                    return None
                ex = nh.exceptions.get(daddr)
                if ex is not None and ex.rt6i.rt6i_gateway == gateway:
                    return ex.rt6i
                if nh.fib_nh_gw6 == gateway:
                    return ip6_route_output(net, None, flowi(AF_INET6, daddr, 0, oif))
    return None


def _redirect(skb: sk_buff, net: Net, daddr: wide, oif: int) -> None:
    """Follow a redirect of packets to `daddr`, if its sender is the first hop. Borrows skb."""
    rt = __ip6_route_redirect(net, daddr, ipv6_hdr(skb).saddr, oif)
    if rt is not None:
        rt6_do_redirect(rt, skb)


def ip6_redirect(skb: sk_buff, net: Net, oif: int) -> None:
    """net/ipv6/route.c: follow a redirect about our packet; skb data at the embedded header."""
    _redirect(skb, net, ipv6hdr_at(skb, 0).daddr, oif)


def ip6_redirect_no_header(skb: sk_buff, net: Net, oif: int) -> None:
    """net/ipv6/route.c: follow a redirect that quotes no packet, and is not truncated.

    skb data at the ICMPv6 header.
    """
    _redirect(skb, net, rd_msg_at(skb, skb_transport_offset(skb)).dest, oif)


def ip6_sk_redirect(skb: sk_buff, sk: inet_sock) -> None:
    """net/ipv6/route.c"""
    ip6_redirect(skb, sk.net, sk.sk_bound_dev_if or skb.dev.ifindex)


# --- routers -------------------------------------------------------------------------------


def rt6_get_dflt_router(net: Net, addr: wide, dev: net_device) -> fib6_info | None:
    """net/ipv6/route.c: the default route that `addr` advertised on `dev`."""
    for f6i in fib6_get_table(net, RT6_TABLE_MAIN).leaf(0, 0):
        if (
            f6i.fib6_nh.fib_nh_dev is dev
            and f6i.fib6_flags & (RTF_ADDRCONF | RTF_DEFAULT) == RTF_ADDRCONF | RTF_DEFAULT
            and f6i.fib6_nh.fib_nh_gw6 == addr
        ):
            return f6i
    return None


def rt6_add_dflt_router(
    net: Net,
    gwaddr: wide,
    dev: net_device,
    pref: int = ICMPV6_ROUTER_PREF_MEDIUM,
    metric: int = IP6_RT_PRIO_USER,
    lifetime_s: int = INFINITY_LIFE_TIME,
) -> fib6_info | None:
    """net/ipv6/route.c: add a router's default route with the preference `pref` (RFC 4191).

    None: the router's address is our own, or another route has its place.
    """
    if ipv6_chk_addr(net, gwaddr, dev, False):
        return None
    rt = fib6_info(
        fib6_get_table(net, RT6_TABLE_MAIN),
        0,
        0,
        fib6_nh(dev, gwaddr),
        flags=uapi.RTF_GATEWAY | RTF_ADDRCONF | RTF_DEFAULT | uapi.RTF_UP | rtf_pref(pref),
        metric=metric or IP6_RT_PRIO_USER,
        protocol=uapi.RTPROT_RA,
    )
    _set_lifetime(net, rt, lifetime_s)
    try:
        fib6_add(net, rt)
    except OSError:
        return rt6_get_dflt_router(net, gwaddr, dev)
    return rt


def rtf_pref(pref: int) -> int:
    """include/uapi/linux/ipv6_route.h RTF_PREF: a router preference in the flags of a route."""
    return (pref & 3) << 27


def _set_lifetime(net: Net, rt: fib6_info, lifetime_s: int) -> None:
    if lifetime_s == INFINITY_LIFE_TIME:
        fib6_clean_expires(rt)
    else:
        fib6_set_expires(net, rt, net.now() + lifetime_s * NSEC_PER_SEC)


def rt6_purge_dflt_routers(net: Net) -> None:
    """net/ipv6/route.c: this host became a router: remove default routes of advertisements."""
    for tb in net.ipv6.fib6.tables.values():
        for f6i in tuple(tb.routes()):
            idev: inet6_dev | None = f6i.fib6_nh.fib_nh_dev.ip6_ptr
            if (
                f6i.fib6_flags & (RTF_DEFAULT | RTF_ADDRCONF)
                and f6i.fib6_protocol == uapi.RTPROT_RA
            ):
                if idev is not None and idev.cnf.accept_ra == 2:
                    continue
                fib6_del(net, f6i)


def rt6_route_rcv(
    net: Net, dev: net_device, prefix: wide, plen: int, pref: int, lifetime_s: int, gwaddr: wide
) -> None:
    """net/ipv6/route.c: process a route information option (RFC 4191 2.3) of the router `gwaddr`.

    Lifetime 0 removes the route. The prefix ::/0 is the router's default route.
    """
    found: fib6_info | None = None
    if not plen:
        found = rt6_get_dflt_router(net, gwaddr, dev)
    else:
        for f6i in fib6_get_table(net, RT6_TABLE_MAIN).leaf(prefix, plen):
            nh = f6i.fib6_nh
            if f6i.fib6_flags & RTF_ROUTEINFO and nh.fib_nh_dev is dev and nh.fib_nh_gw6 == gwaddr:
                found = f6i
    if found is not None and not lifetime_s:
        fib6_del(net, found)
        return
    if not lifetime_s:
        return
    if found is None:
        if not plen:
            made = rt6_add_dflt_router(net, gwaddr, dev, pref, lifetime_s=lifetime_s)
            if made is not None:
                made.fib6_flags |= RTF_ROUTEINFO
            return
        if ipv6_chk_addr(net, gwaddr, dev, False):
            return
        flags = uapi.RTF_GATEWAY | RTF_ADDRCONF | RTF_ROUTEINFO | uapi.RTF_UP | rtf_pref(pref)
        found = fib6_info(
            fib6_get_table(net, RT6_TABLE_MAIN),
            prefix,
            plen,
            fib6_nh(dev, gwaddr),
            flags=flags,
            protocol=uapi.RTPROT_RA,
        )
        _set_lifetime(net, found, lifetime_s)
        fib6_add_once(net, found)  # the administrator may have added the same one
        return
    found.fib6_flags = RTF_ROUTEINFO | found.fib6_flags & ~rtf_pref(3) | rtf_pref(pref)
    _set_lifetime(net, found, lifetime_s)
    net.ipv6.rt_cache_flush()


# --- the family's dst operations -----------------------------------------------------------


def ip6_link_failure(skb: sk_buff) -> None:
    """net/ipv6/route.c: the neighbour did not answer: send an ICMPv6 error (RFC 4861 7.2.2)."""
    icmpv6_send(skb, ICMPV6_DEST_UNREACH, ICMPV6_ADDR_UNREACH, 0)


def ip6_confirm_neigh(dst: rt6_info, daddr: wide) -> None:
    """net/ipv6/route.c: dst_ops.confirm_neigh."""
    n = dst.net.ipv6.nd_tbl.hash.get(neigh_key(dst.dev, dst.rt6i_gateway or daddr))
    if n is not None:
        neigh_confirm(n)


ip6_dst_ops = dst_ops(
    family=AF_INET6,
    check=ip6_dst_check,
    mtu=ip6_mtu,
    default_advmss=ip6_default_advmss,
    update_pmtu=ip6_rt_update_pmtu,
    link_failure=ip6_link_failure,
    confirm_neigh=ip6_confirm_neigh,
)


def ip6_route_net_init(net: Net) -> None:
    """net/ipv6/route.c: set up the dst operations and the null route.

    Call it when net.ipv6.steps is filled and lo exists.
    """
    net.ipv6.dst_ops = ip6_dst_ops
    net.ipv6.ip6_null_entry = ip6_null_entry(net)
    net.ipv6.sysctl.on_write("ip6_rt_flush", lambda _: fib6_run_gc(net, flush=True))
