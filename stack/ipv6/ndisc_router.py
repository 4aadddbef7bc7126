"""net/ipv6/ndisc.c: messages of routers: advertisements (RFC 4861 6.3.4) and redirects (8.1).

Functions that take a message borrow its skb, with data at the ICMPv6 header. They return 0 or a
drop reason. route_learned.py applies redirects to routes.
"""

from __future__ import annotations

import logging

from fastpath.base.skbuff import sk_buff, skb_pull, skb_to_bytes
from fastpath.net.hdr import ipv6_hdr
from stack.core import drop_reason
from stack.core.neigh_table import (
    NEIGH_UPDATE_F_ISROUTER,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_OVERRIDE_ISROUTER,
    NEIGH_UPDATE_F_WEAK_OVERRIDE,
    neigh_rand_reach_time,
)
from stack.core.neighbour import __neigh_lookup, neigh_update
from stack.core.netdevice import net_device
from stack.core.ratelimit import net_ratelimit
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.uapi import INFINITY_LIFE_TIME, IPV6_MIN_MTU, NTF_ROUTER, NUD_STALE
from stack.ipv6 import if_inet6, ip6_fib, nd_options
from stack.ipv6.addr import ipv6_addr_is_linklocal
from stack.ipv6.addrconf_prefix import addrconf_prefix_rcv, ra_route_room
from stack.ipv6.icmp import icmpv6_notify
from stack.ipv6.if_inet6 import inet6_dev, ipv6_accept_ra, ipv6_chk_addr
from stack.ipv6.ip6_fib import fib6_del, fib6_get_table, fib6_info, fib6_set_expires
from stack.ipv6.ip6_icmp import NDISC_REDIRECT
from stack.ipv6.nd_messages import RA_LEN, RD_LEN, Redirect, RouterAdvertisement
from stack.ipv6.nd_options import ndisc_options, ndisc_parse_options
from stack.ipv6.route_learned import (
    ip6_redirect_no_header,
    rt6_add_dflt_router,
    rt6_get_dflt_router,
    rt6_mtu_change,
    rt6_route_rcv,
    rtf_pref,
)
from stack.net import Net

log = logging.getLogger(__name__)

MAX_DNS = 16
"""Name servers and search domains kept of an interface's RAs."""
_LEARN = NEIGH_UPDATE_F_WEAK_OVERRIDE | NEIGH_UPDATE_F_OVERRIDE | NEIGH_UPDATE_F_OVERRIDE_ISROUTER


def ndisc_router_discovery(skb: sk_buff) -> int:
    """net/ipv6/ndisc.c: process a router advertisement. Borrows skb."""
    dev: net_device = skb.dev
    net = dev.net
    idev: inet6_dev | None = dev.ip6_ptr
    saddr = ipv6_hdr(skb).saddr
    data = skb_to_bytes(skb)
    message = RouterAdvertisement.parse(data)
    if message is None:
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    if idev is None or not ipv6_addr_is_linklocal(saddr):
        return drop_reason.SKB_DROP_REASON_NOT_SPECIFIED
    options = ndisc_parse_options(data[RA_LEN:], dev.addr_len)
    if options is None:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    if idev.nd.on_ra is not None:
        idev.nd.on_ra(saddr, message, options)
    accept = ipv6_accept_ra(idev)
    own = not idev.cnf.accept_ra_from_local and ipv6_chk_addr(net, saddr, dev, False)
    rt: fib6_info | None = None
    if accept:
        _remember_flags(idev, message)
        if idev.cnf.accept_ra_defrtr and not own:
            rt = _default_router(idev, saddr, message)
            lifetime = message.router_lifetime
            wanted = lifetime and lifetime >= idev.cnf.accept_ra_min_lft
            if rt is None and wanted and ra_route_room(idev):
                # Somebody has set the same route, and Linux goes no further.
                return drop_reason.SKB_DROP_REASON_NOT_SPECIFIED
        _neighbour_times(idev, message)
    neigh = __neigh_lookup(net.ipv6.nd_tbl, saddr, dev, True)
    if neigh is None:
        return drop_reason.SKB_DROP_REASON_NEIGH_QUEUEFULL
    if options.src_lladdr == b"":
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    neigh_update(neigh, options.src_lladdr, NUD_STALE, _LEARN | NEIGH_UPDATE_F_ISROUTER)
    if rt is not None:
        neigh.flags |= NTF_ROUTER
    if not accept:
        return 0
    if idev.cnf.accept_ra_rtr_pref and not own:
        _routes(idev, saddr, options)
    if idev.cnf.accept_ra_pinfo:
        for prefix in options.prefixes:
            addrconf_prefix_rcv(dev, prefix, options.src_lladdr is not None)
    if options.mtu is not None and idev.cnf.accept_ra_mtu:
        _mtu(idev, options.mtu, rt)
    _name_service(idev, options)
    return 0


def _remember_flags(idev: inet6_dev, message: RouterAdvertisement) -> None:
    """Store the M and O flags, for DHCPv6; a router's answer ends solicitation (RFC 7559)."""
    if idev.if_flags & if_inet6.IF_RS_SENT and message.router_lifetime:
        idev.if_flags |= if_inet6.IF_RA_RCVD
    flags = idev.if_flags & ~(if_inet6.IF_RA_MANAGED | if_inet6.IF_RA_OTHERCONF)
    if message.managed:
        flags |= if_inet6.IF_RA_MANAGED
    if message.other:
        flags |= if_inet6.IF_RA_OTHERCONF
    idev.if_flags = flags


def _default_router(idev: inet6_dev, saddr: wide, message: RouterAdvertisement) -> fib6_info | None:
    """RFC 4861 6.3.4: add, refresh or remove the router's default route; take its hop limit."""
    net, dev, cnf = idev.net, idev.dev, idev.cnf
    lifetime = message.router_lifetime
    if lifetime and lifetime < cnf.accept_ra_min_lft:
        return None
    pref = message.router_pref
    if pref == nd_options.ICMPV6_ROUTER_PREF_INVALID or not cnf.accept_ra_rtr_pref:
        pref = nd_options.ICMPV6_ROUTER_PREF_MEDIUM
    rt = rt6_get_dflt_router(net, saddr, dev)
    if rt is not None and (not lifetime or rt.fib6_metric != cnf.ra_defrtr_metric):
        fib6_del(net, rt)
        rt = None
    if rt is None and lifetime:
        if not ra_route_room(idev):
            return None
        rt = rt6_add_dflt_router(net, saddr, dev, pref, cnf.ra_defrtr_metric, lifetime)
        if rt is None:
            return None
    elif rt is not None and rt.fib6_flags & ip6_fib.RTF_PREF_MASK != rtf_pref(pref):
        rt.fib6_flags = rt.fib6_flags & ~ip6_fib.RTF_PREF_MASK | rtf_pref(pref)
        net.ipv6.rt_cache_flush()
    if rt is not None:
        fib6_set_expires(net, rt, net.now() + lifetime * NSEC_PER_SEC)
    hop_limit = message.hop_limit
    if hop_limit and cnf.accept_ra_min_hop_limit <= hop_limit:
        cnf.store("hop_limit", hop_limit)
        if rt is not None:
            rt.fib6_metrics["hoplimit"] = hop_limit
    return rt


def _neighbour_times(idev: inet6_dev, message: RouterAdvertisement) -> None:
    """RFC 4861 6.3.4: RetransTimer and ReachableTime of the interface."""
    parms = idev.nd_parms
    if message.retrans_timer:
        parms.retrans_time = max(message.retrans_timer * NSEC_PER_MSEC, NSEC_PER_SEC // 100)
        idev.tstamp = idev.net.now()
    if message.reachable_time:
        base = max(message.reachable_time * NSEC_PER_MSEC, NSEC_PER_SEC // 10)
        if base != parms.base_reachable_time:
            parms.base_reachable_time = base
            parms.gc_staletime = 3 * base
            parms.reachable_time = neigh_rand_reach_time(idev.net, base)
            idev.tstamp = idev.net.now()


def _routes(idev: inet6_dev, saddr: wide, options: ndisc_options) -> None:
    """RFC 4191 4: routes to prefixes over this router."""
    cnf = idev.cnf
    for option in options.routes:
        plen, lifetime = option.prefix_len, option.lifetime
        if not plen and not cnf.accept_ra_defrtr:
            continue
        if lifetime and lifetime < cnf.accept_ra_min_lft:
            continue
        if not cnf.accept_ra_rt_info_min_plen <= plen <= cnf.accept_ra_rt_info_max_plen:
            continue
        # RFC 4191 2.3: an option with the reserved preference is ignored.
        if option.pref == nd_options.ICMPV6_ROUTER_PREF_INVALID or (
            lifetime and not ra_route_room(idev)
        ):
            continue
        prefix = option.prefix >> (128 - plen) << (128 - plen) if plen else 0
        rt6_route_rcv(idev.net, idev.dev, prefix, plen, option.pref, lifetime, saddr)


def _mtu(idev: inet6_dev, mtu: int, rt: fib6_info | None) -> None:
    """RFC 4861 6.3.4: set the link's MTU, if the device allows it."""
    if not IPV6_MIN_MTU <= mtu <= idev.dev.mtu:
        if net_ratelimit(idev.net):
            log.warning("%s: invalid MTU %d in a router advertisement", idev.dev.name, mtu)
        return
    if idev.cnf.mtu != mtu:
        if rt is not None:
            rt.fib6_metrics["mtu"] = mtu
        rt6_mtu_change(idev.dev, mtu)


def _name_service(idev: inet6_dev, options: ndisc_options) -> None:
    """RFC 8106 5.3: store name servers and search domains with their lifetimes, at most MAX_DNS."""
    nd = idev.nd
    now = idev.net.now()

    def ends(lifetime: int) -> int | None:
        return None if lifetime == INFINITY_LIFE_TIME else now + lifetime * NSEC_PER_SEC

    for servers in options.rdnss:
        nd.dns_servers.update((server, ends(servers.lifetime)) for server in servers.servers)
    for search in options.dnssl:
        nd.dns_search.update((domain, ends(search.lifetime)) for domain in search.domains)
    nd.dns_servers = {k: end for k, end in nd.dns_servers.items() if end is None or end > now}
    nd.dns_search = {k: end for k, end in nd.dns_search.items() if end is None or end > now}
    while len(nd.dns_servers) > MAX_DNS:
        nd.dns_servers.popitem()
        nd.ra_refused += 1
    while len(nd.dns_search) > MAX_DNS:
        nd.dns_search.popitem()
        nd.ra_refused += 1


def rt6_clean_tohost(net: Net, gateway: wide) -> None:
    """net/ipv6/route.c: `gateway` is no router any more: remove the routes that it advertised."""
    for f6i in tuple(fib6_get_table(net, ip6_fib.RT6_TABLE_MAIN).routes()):
        learned = f6i.fib6_flags & (ip6_fib.RTF_ADDRCONF | ip6_fib.RTF_DEFAULT)
        if learned and f6i.fib6_nh.fib_nh_gw6 == gateway:
            fib6_del(net, f6i)


def ndisc_redirect_rcv(skb: sk_buff) -> int:
    """net/ipv6/ndisc.c: process a redirect (RFC 4861 8.1). Borrows skb.

    rt6_do_redirect checks its sender and target against the route.
    """
    dev: net_device = skb.dev
    net = dev.net
    saddr = ipv6_hdr(skb).saddr
    data = skb_to_bytes(skb)
    if Redirect.parse(data) is None:
        return drop_reason.SKB_DROP_REASON_PKT_TOO_SMALL
    if not ipv6_addr_is_linklocal(saddr):
        return drop_reason.SKB_DROP_REASON_NOT_SPECIFIED
    options = ndisc_parse_options(data[RD_LEN:], dev.addr_len)
    if options is None:
        return drop_reason.SKB_DROP_REASON_IPV6_NDISC_BAD_OPTIONS
    if options.redirected is None:
        ip6_redirect_no_header(skb, net, dev.ifindex)
        return 0
    # Report the redirect to the quoted packet's transport, which updates the socket's route.
    at = data.index(options.redirected, RD_LEN) if options.redirected else len(data)
    skb_pull(skb, at)
    return icmpv6_notify(skb, NDISC_REDIRECT, 0, 0)
