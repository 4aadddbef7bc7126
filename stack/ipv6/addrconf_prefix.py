"""net/ipv6/addrconf.c: prefixes of router advertisements (RFC 4862 5.5.3, RFC 4861 6.3.4)."""

from __future__ import annotations

import errno
import logging

from stack.core.extack import ExtAckError
from stack.core.netdevice import IFF_LOOPBACK, IFF_NOARP, net_device
from stack.core.ratelimit import net_ratelimit
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import INFINITY_LIFE_TIME, RTM_NEWADDR
from stack.ipv6 import if_inet6, ip6_fib
from stack.ipv6.addr import IPV6_ADDR_LINKLOCAL, IPV6_ADDR_MULTICAST, ipv6_addr_type
from stack.ipv6.addrconf_addr import (
    addrconf_dad_start,
    addrconf_get_prefix_route,
    addrconf_prefix_route,
    ifa6_config,
    inet6_ifa_notify,
    ipv6_add_addr,
)
from stack.ipv6.addrconf_dad import addrconf_rs_start
from stack.ipv6.addrconf_temp import addrconf_verify, manage_tempaddrs
from stack.ipv6.if_inet6 import (
    inet6_dev,
    inet6_ifaddr,
    ipv6_accept_ra,
    ipv6_get_ifaddr,
)
from stack.ipv6.ip6_fib import fib6_clean_expires, fib6_del, fib6_set_expires
from stack.ipv6.nd_options import prefix_info
from stack.ipv6.stable import (
    IID_MASK,
    ipv6_generate_eui64,
    ipv6_generate_stable_address,
    is_addr_mode_generate_stable,
)

log = logging.getLogger(__name__)

MIN_VALID_LIFETIME = 2 * 3600
"""Seconds below which an advertisement does not shorten a lifetime (RFC 4862 5.5.3 e)."""
MAX_RA_ROUTES = 64
"""Most routes an interface learns by RAs: of default routers, of prefixes, and of RFC 4191."""


def ra_route_room(idev: inet6_dev) -> bool:
    """Whether the interface may learn another route. Rejected ones are counted."""
    learned = sum(
        1
        for table in idev.net.ipv6.fib6.tables.values()
        for rt in table.routes()
        if rt.fib6_flags & ip6_fib.RTF_ADDRCONF and rt.fib6_nh.fib_nh_dev is idev.dev
    )
    if learned < MAX_RA_ROUTES:
        return True
    idev.nd.ra_refused += 1
    return False


def addrconf_prefix_rcv(dev: net_device, pinfo: prefix_info, sllao: bool) -> None:
    """net/ipv6/addrconf.c: process a prefix option: its on-link route and our address."""
    idev: inet6_dev | None = dev.ip6_ptr
    if idev is None or pinfo.prefix_len > 128:
        return
    if ipv6_addr_type(pinfo.prefix) & (IPV6_ADDR_MULTICAST | IPV6_ADDR_LINKLOCAL):
        return
    valid, prefered = pinfo.valid, pinfo.prefered
    if prefered > valid:
        if net_ratelimit(idev.net):
            log.warning("%s: prefix option has invalid lifetime", dev.name)
        return
    if valid and valid < idev.cnf.accept_ra_min_lft:
        return
    if pinfo.onlink:
        _prefix_route(idev, pinfo)
    if not pinfo.autoconf or not idev.cnf.autoconf or pinfo.prefix_len != 64:
        return
    addr: wide | None = None
    flags = 0
    if idev.nd.token:
        addr = pinfo.prefix & ~IID_MASK | idev.nd.token
    elif is_addr_mode_generate_stable(idev):
        addr = ipv6_generate_stable_address(idev, pinfo.prefix, 0)
        flags = if_inet6.IFA_F_STABLE_PRIVACY
    if addr is None:
        iid = ipv6_generate_eui64(dev)
        if iid is None:
            return
        addr = pinfo.prefix & ~IID_MASK | iid
        flags = 0
    addrconf_prefix_rcv_add_addr(idev, addr, flags, pinfo, sllao)


def inet6_set_iftoken(idev: inet6_dev, token: wide) -> None:
    """net/ipv6/addrconf.c: set the interface identifier of SLAAC addresses; 0: the default one.

    Addresses of the previous token are removed, and routers are solicited. Raises: ExtAckError
    EINVAL if the interface does not accept advertisements.
    """
    flags = idev.dev.flags
    for wrong, why in (
        (flags & IFF_LOOPBACK, "ipv6: Device is loopback"),
        (flags & IFF_NOARP, "ipv6: Device does not do neighbour discovery"),
        (not ipv6_accept_ra(idev), "ipv6: Router advertisement is disabled on device"),
        (not idev.cnf.router_solicitations, "Router solicitation is disabled on device"),
    ):
        if wrong:
            raise ExtAckError(errno.EINVAL, why)
    idev.nd.token = token & IID_MASK
    if token and not idev.dead and idev.if_flags & if_inet6.IF_READY:
        addrconf_rs_start(idev)
    for ifp in idev.addr_list:
        if ifp.tokenized:
            ifp.valid_lft = ifp.prefered_lft = 0
    addrconf_verify(idev.net)


def _prefix_route(idev: inet6_dev, pinfo: prefix_info) -> None:
    """Add or refresh the route of an on-link prefix, or remove it (valid lifetime 0)."""
    net, dev = idev.net, idev.dev
    valid = pinfo.valid
    ends = 0 if valid == INFINITY_LIFE_TIME else net.now() + valid * NSEC_PER_SEC
    flags = ip6_fib.RTF_ADDRCONF | ip6_fib.RTF_PREFIX_RT
    rt = addrconf_get_prefix_route(dev, pinfo.prefix, pinfo.prefix_len, flags, ip6_fib.RTF_DEFAULT)
    if rt is not None:
        if not valid:
            fib6_del(net, rt)
        elif ends:
            fib6_set_expires(net, rt, ends)
        else:
            fib6_clean_expires(rt)
    elif valid and ra_route_room(idev):
        addrconf_prefix_route(dev, pinfo.prefix, pinfo.prefix_len, expires_ns=ends, flags=flags)


def _find_of_prefix(idev: inet6_dev, addr: wide, stable: bool) -> inet6_ifaddr | None:
    """The address that was created by an earlier advertisement of the prefix."""
    found = ipv6_get_ifaddr(idev.net, addr, idev.dev, True)
    if found is not None or not stable:
        return found
    # After a DAD conflict the prefix has another stable address than `addr`, the first one.
    for ifp in idev.addr_list:
        if ifp.flags & if_inet6.IFA_F_STABLE_PRIVACY and not (ifp.addr ^ addr) >> 64:
            return ifp
    return None


def addrconf_prefix_rcv_add_addr(
    idev: inet6_dev, addr: wide, flags: int, pinfo: prefix_info, sllao: bool
) -> None:
    """net/ipv6/addrconf.c: make the address of a prefix, or renew its lifetimes."""
    net = idev.net
    now = net.now()
    valid, prefered = pinfo.valid, pinfo.prefered
    ifp = _find_of_prefix(idev, addr, bool(flags & if_inet6.IFA_F_STABLE_PRIVACY))
    create = False
    if ifp is None:
        if not valid:
            return
        all_ = net.ipv6.devconf_all
        if (all_.optimistic_dad or idev.cnf.optimistic_dad) and not all_.forwarding and sllao:
            flags |= if_inet6.IFA_F_OPTIMISTIC
        limit = idev.cnf.max_addresses
        if limit and len(idev.addr_list) >= limit:
            idev.nd.ra_refused += 1
            return
        cfg = ifa6_config(addr, pinfo.prefix_len, flags, valid, prefered)
        try:
            ifp = ipv6_add_addr(idev, cfg)
        except OSError:
            return
        ifp.flags |= if_inet6.IFA_F_MANAGETEMPADDR
        ifp.tokenized = idev.nd.token != 0
        create = True
    else:
        stored = max(ifp.valid_lft - (now - ifp.tstamp) // NSEC_PER_SEC, 0)
        if ifp.valid_lft == INFINITY_LIFE_TIME:
            stored = INFINITY_LIFE_TIME
        if stored:
            if not idev.cnf.ra_honor_pio_life:
                valid = max(valid, min(stored, MIN_VALID_LIFETIME))
            ifp.valid_lft, ifp.prefered_lft, ifp.tstamp = valid, prefered, now
            ifp.flags &= ~if_inet6.IFA_F_DEPRECATED
            if not ifp.flags & if_inet6.IFA_F_TENTATIVE:
                inet6_ifa_notify(RTM_NEWADDR, ifp)
    manage_tempaddrs(idev, ifp, valid, prefered, create, now)
    if create:
        addrconf_dad_start(ifp)
    addrconf_verify(net)
