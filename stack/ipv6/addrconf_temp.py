"""net/ipv6/addrconf.c: lifetimes of addresses (RFC 4862 5.5.4), temporary ones (RFC 8981)."""

from __future__ import annotations

import logging

from stack.core import uapi
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import INFINITY_LIFE_TIME, RTM_NEWADDR
from stack.ipv6 import if_inet6
from stack.ipv6.addrconf_addr import (
    addrconf_dad_start,
    ifa6_config,
    inet6_ifa_notify,
    ipv6_add_addr,
    ipv6_del_addr,
)
from stack.ipv6.if_inet6 import for_each_ifaddr6, inet6_dev, inet6_ifaddr
from stack.ipv6.stable import IID_MASK, ipv6_gen_rnd_iid
from stack.net import Net

log = logging.getLogger(__name__)

ADDR_CHECK_FREQUENCY_NS = 120 * NSEC_PER_SEC


def ipv6_get_regen_advance(idev: inet6_dev) -> int:
    """net/ipv6/addrconf.c: seconds before the end at which the successor is made (RFC 8981 3.8)."""
    cnf = idev.cnf
    retrans_s = max(idev.nd_parms.retrans_time, NSEC_PER_SEC // 100) // NSEC_PER_SEC
    tries: int = idev.net.ipv6.sysctl.idgen_retries
    return cnf.regen_min_advance + tries * cnf.dad_transmits * retrans_s


def ipv6_create_tempaddr(ifp: inet6_ifaddr) -> inet6_ifaddr | None:
    """net/ipv6/addrconf.c: make a temporary address for the public one `ifp` (RFC 8981 3.4).

    None when its lifetime would be too short, or too many tries failed.
    """
    idev = ifp.idev
    cnf = idev.cnf
    net = idev.net
    if cnf.use_tempaddr <= 0:
        return None
    if ifp.regen_count >= cnf.regen_max_retry:
        cnf.store("use_tempaddr", -1)
        log.warning("%s: no free temporary address found: support disabled", idev.dev.name)
        return None
    ifp.regen_count += 1
    now = net.now()
    age = (now - ifp.tstamp) // NSEC_PER_SEC
    regen_advance = ipv6_get_regen_advance(idev)
    most = min(cnf.max_desync_factor, cnf.temp_prefered_lft - regen_advance)
    nd = idev.nd
    if most <= 0:
        nd.desync_factor = 0
    elif not nd.desync_factor or nd.desync_factor > most:
        nd.desync_factor = net.random.randrange(most)
    valid = min(ifp.valid_lft, cnf.temp_valid_lft + age)
    prefered = min(ifp.prefered_lft, cnf.temp_prefered_lft + age - nd.desync_factor)
    if prefered <= regen_advance + age:
        prefered = regen_advance + age + 1
        if prefered > valid or prefered > ifp.prefered_lft:
            return None
    flags = if_inet6.IFA_F_TEMPORARY | (ifp.flags & if_inet6.IFA_F_OPTIMISTIC)
    addr = ifp.addr & ~IID_MASK | ipv6_gen_rnd_iid(net.random)
    try:
        ift = ipv6_add_addr(idev, ifa6_config(addr, ifp.prefix_len, flags, valid, prefered))
    except OSError:
        return None
    ift.ifpub = ifp
    ift.cstamp = now
    ift.tstamp = ifp.tstamp
    addrconf_dad_start(ift)
    return ift


def manage_tempaddrs(
    idev: inet6_dev, ifp: inet6_ifaddr, valid_lft: int, prefered_lft: int, create: bool, now: int
) -> None:
    """net/ipv6/addrconf.c: apply a public address's new lifetimes to its temporary addresses.

    Since an address's creation they total at most TEMP_VALID_LIFETIME, and
    TEMP_PREFERRED_LIFETIME - DESYNC_FACTOR (RFC 8981 3.4).
    """
    cnf = idev.cnf
    for ift in idev.nd.tempaddr_list:
        if ift.ifpub is not ifp:
            continue
        age = (now - ift.cstamp) // NSEC_PER_SEC
        ift.valid_lft = min(valid_lft, max(cnf.temp_valid_lft - age, 0))
        most = max(cnf.temp_prefered_lft - idev.nd.desync_factor - age, 0)
        ift.prefered_lft = min(prefered_lft, most)
        ift.tstamp = now
        if ift.prefered_lft > 0:
            ift.flags &= ~if_inet6.IFA_F_DEPRECATED
        if not ift.flags & if_inet6.IFA_F_TENTATIVE:
            inet6_ifa_notify(RTM_NEWADDR, ift)
    if not idev.nd.tempaddr_list and (valid_lft or prefered_lft):
        create = True
    if create and cnf.use_tempaddr > 0:
        ipv6_create_tempaddr(ifp)


def addrconf_verify(net: Net) -> None:
    """net/ipv6/addrconf.c: deprecate and remove old addresses; set the timer for the next one.

    Temporary addresses get their successors REGEN_ADVANCE before they are deprecated.
    """
    now = net.now()
    next_ns = now + ADDR_CHECK_FREQUENCY_NS
    for ifp in tuple(for_each_ifaddr6(net)):
        if ifp.flags & uapi.IFA_F_PERMANENT and ifp.prefered_lft == INFINITY_LIFE_TIME:
            continue
        age = (now - ifp.tstamp) // NSEC_PER_SEC
        if (
            ifp.flags & if_inet6.IFA_F_TEMPORARY
            and not ifp.flags & if_inet6.IFA_F_TENTATIVE
            and ifp.prefered_lft != INFINITY_LIFE_TIME
            and not ifp.regen_count
            and ifp.ifpub is not None
        ):
            regen_advance = ipv6_get_regen_advance(ifp.idev)
            if age + regen_advance >= ifp.prefered_lft:
                ifp.regen_count += 1
                ifp.ifpub.regen_count = 0
                ipv6_create_tempaddr(ifp.ifpub)
            else:
                next_ns = min(
                    next_ns, ifp.tstamp + (ifp.prefered_lft - regen_advance) * NSEC_PER_SEC
                )
        if ifp.valid_lft != INFINITY_LIFE_TIME and age >= ifp.valid_lft:
            ipv6_del_addr(ifp)
            continue
        if ifp.prefered_lft == INFINITY_LIFE_TIME:
            continue
        if age >= ifp.prefered_lft:
            if not ifp.flags & if_inet6.IFA_F_DEPRECATED:
                ifp.flags |= if_inet6.IFA_F_DEPRECATED
                inet6_ifa_notify(RTM_NEWADDR, ifp)
            if ifp.valid_lft != INFINITY_LIFE_TIME:
                next_ns = min(next_ns, ifp.tstamp + ifp.valid_lft * NSEC_PER_SEC)
        else:
            next_ns = min(next_ns, ifp.tstamp + ifp.prefered_lft * NSEC_PER_SEC)
    mod_timer(net.ipv6.addr_chk_timer, max(next_ns, now + NSEC_PER_SEC // 10))


def addr_chk_work(timer: timer_list) -> None:
    """net/ipv6/addrconf.c addrconf_verify_work."""
    addrconf_verify(timer.data)


def addr_chk_init(net: Net) -> None:
    """Make the timer, and check addresses for the first time."""
    net.ipv6.addr_chk_timer = timer_list(net.machine, addr_chk_work, TIMER_DEFERRABLE, data=net)
    addrconf_verify(net)


def addr_chk_exit(net: Net) -> None:
    """The namespace ends."""
    timer_delete(net.ipv6.addr_chk_timer)
