"""net/ipv6/addrconf.c: duplicate address detection and router solicitation.

    addrconf_dad_work (timer `dad_work`), by the address's state:
        PREDAD -> DAD       addrconf_dad_begin: join the group; no DAD needed, or no link?
                                addrconf_dad_kick           a random delay (RFC 4862 5.4.2)
        DAD                 a probe is left: ndisc_send_ns, and wait
        DAD -> POSTDAD      none is left: addrconf_dad_completed
                                ipv6_ifa_up; with the first link-local address: addrconf_rs_start
        ERRDAD              addrconf_dad_stop: keep it as failed, or remove it
    ndisc_recv_ns, ndisc_recv_na -> addrconf_dad_failure    another station has the address
        -> ERRDAD; a stable address is replaced by the next one (RFC 7217 6)
    addrconf_rs_start, addrconf_rs_timer -> ndisc_send_rs   until a router answers

DAD: RFC 4862 5.4, RFC 4429 (optimistic), RFC 7527 (nonces against loops). Solicitation: RFC 4861
6.3.7, RFC 7559 (endless backoff). State: `state`, `dad_probes` and `dad_nonce` of the address,
`rs_probes` and `rs_interval` of the interface. Read addrconf_dad_work first.
"""

from __future__ import annotations

import logging

from stack.core import uapi
from stack.core.netdevice import IFF_LOOPBACK, IFF_NOARP
from stack.core.ratelimit import net_ratelimit
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_delete, timer_list
from stack.core.uapi import RTM_NEWADDR
from stack.ipv6 import if_inet6
from stack.ipv6.addr import (
    IN6ADDR_ANY,
    IN6ADDR_LINKLOCAL_ALLNODES,
    IN6ADDR_LINKLOCAL_ALLROUTERS,
    IPV6_ADDR_LINKLOCAL,
    addrconf_addr_solict_mult,
    format_addr6,
)
from stack.ipv6.addrconf_addr import (
    addrconf_del_dad_work,
    addrconf_join_solict,
    addrconf_mod_dad_work,
    ifa6_config,
    ifa_route_up,
    inet6_ifa_notify,
    ipv6_add_addr,
    ipv6_del_addr,
    ipv6_ifa_up,
)
from stack.ipv6.addrconf_temp import addrconf_verify, ipv6_create_tempaddr
from stack.ipv6.if_inet6 import inet6_dev, inet6_ifaddr, ipv6_accept_ra
from stack.ipv6.mld import ipv6_mc_dad_complete
from stack.ipv6.ndisc_send import ndisc_send_na, ndisc_send_ns, ndisc_send_rs
from stack.ipv6.saddr import ipv6_get_lladdr
from stack.ipv6.stable import ipv6_generate_eui64, ipv6_generate_stable_address
from stack.net import Net

log = logging.getLogger(__name__)

_NOT_YET = if_inet6.IFA_F_TENTATIVE | if_inet6.IFA_F_OPTIMISTIC | if_inet6.IFA_F_DADFAILED
FE80 = 0xFE80 << 112


def addrconf_dad_work(timer: timer_list) -> None:
    """net/ipv6/addrconf.c: the next step of an address's detection."""
    ifp: inet6_ifaddr = timer.data
    idev = ifp.idev
    if ifp.state == if_inet6.INET6_IFADDR_STATE_PREDAD:
        ifp.state = if_inet6.INET6_IFADDR_STATE_DAD
        addrconf_dad_begin(ifp)
        return
    if ifp.state == if_inet6.INET6_IFADDR_STATE_ERRDAD:
        ifp.state = if_inet6.INET6_IFADDR_STATE_POSTDAD
        disable = _disables_ipv6(ifp)
        addrconf_dad_stop(ifp, True)
        if disable:
            log.warning("%s: IPv6 being disabled", idev.dev.name)
            idev.cnf.disable_ipv6 = 1
        return
    if (
        idev.dead
        or not idev.if_flags & if_inet6.IF_READY
        or ifp.state != if_inet6.INET6_IFADDR_STATE_DAD
    ):
        return
    if not ifp.dad_probes:
        ifp.state = if_inet6.INET6_IFADDR_STATE_POSTDAD
        ifp.flags &= ~_NOT_YET
        addrconf_dad_completed(ifp, send_na=True)
        return
    ifp.dad_probes -= 1
    addrconf_mod_dad_work(ifp, max(idev.nd_parms.retrans_time, NSEC_PER_SEC // 100))
    group = addrconf_addr_solict_mult(ifp.addr)
    ndisc_send_ns(idev.dev, ifp.addr, group, IN6ADDR_ANY, ifp.dad_nonce)


def addrconf_dad_begin(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: join the solicited-node group; then start DAD, or use the address."""
    idev = ifp.idev
    dev = idev.dev
    addrconf_join_solict(dev, ifp.addr)
    if (
        dev.flags & (IFF_NOARP | IFF_LOOPBACK)
        or (idev.net.ipv6.devconf_all.accept_dad < 1 and idev.cnf.accept_dad < 1)
        or not ifp.flags & if_inet6.IFA_F_TENTATIVE
        or ifp.flags & if_inet6.IFA_F_NODAD
    ):
        announce = bool(
            ifp.flags & if_inet6.IFA_F_TENTATIVE and not ifp.flags & if_inet6.IFA_F_OPTIMISTIC
        )
        ifp.state = if_inet6.INET6_IFADDR_STATE_POSTDAD
        ifp.flags &= ~_NOT_YET
        addrconf_dad_completed(ifp, send_na=announce)
        return
    if not idev.if_flags & if_inet6.IF_READY:
        addrconf_dad_stop(ifp, False)
        return
    if ifp.flags & if_inet6.IFA_F_OPTIMISTIC:  # RFC 4429 3.3: it receives packets during DAD
        ifa_route_up(ifp)
    addrconf_dad_kick(ifp)


def addrconf_dad_kick(ifp: inet6_ifaddr) -> None:
    """net/ipv6/addrconf.c: send the first solicitation after a random delay.

    RFC 4862 5.4.2: hosts that start at the same time must not solicit at the same time.
    """
    idev = ifp.idev
    random = idev.net.random
    delay_s = idev.cnf.router_solicitation_delay
    delay = 0
    if not ifp.flags & if_inet6.IFA_F_OPTIMISTIC and delay_s:
        delay = random.randrange(delay_s * NSEC_PER_SEC)
    ifp.dad_nonce = b""
    if idev.cnf.enhanced_dad or idev.net.ipv6.devconf_all.enhanced_dad:
        ifp.dad_nonce = (random.randrange((1 << 48) - 1) + 1).to_bytes(6, "big")
    ifp.dad_probes = idev.cnf.dad_transmits
    addrconf_mod_dad_work(ifp, delay)


def addrconf_dad_stop(ifp: inet6_ifaddr, dad_failed: bool) -> None:
    """net/ipv6/addrconf.c: DAD failed or cannot run: keep a permanent address, marked as such.

    Other addresses that failed are removed; a temporary one gets a successor.
    """
    if dad_failed:
        ifp.flags |= if_inet6.IFA_F_DADFAILED
    if ifp.flags & if_inet6.IFA_F_TEMPORARY:
        public = ifp.ifpub
        ipv6_del_addr(ifp)
        if public is not None:
            ipv6_create_tempaddr(public)
    elif ifp.flags & uapi.IFA_F_PERMANENT or not dad_failed:
        addrconf_del_dad_work(ifp)
        ifp.flags |= if_inet6.IFA_F_TENTATIVE
        if dad_failed:
            ifp.flags &= ~if_inet6.IFA_F_OPTIMISTIC
            inet6_ifa_notify(RTM_NEWADDR, ifp)
    else:
        ipv6_del_addr(ifp)


def addrconf_dad_failure(ifp: inet6_ifaddr, who: str) -> None:
    """net/ipv6/addrconf.c: the station `who` uses or also probes the address (RFC 4862 5.4.5).

    For a stable address the next one is tried (RFC 7217 6).
    """
    if ifp.state != if_inet6.INET6_IFADDR_STATE_DAD:
        return
    ifp.state = if_inet6.INET6_IFADDR_STATE_POSTDAD
    idev = ifp.idev
    net = idev.net
    if net_ratelimit(net):
        name = idev.dev.name
        log.warning("%s: duplicate address %s used by %s", name, format_addr6(ifp.addr), who)
    if ifp.flags & if_inet6.IFA_F_STABLE_PRIVACY:
        _next_stable(ifp)
    ifp.state = if_inet6.INET6_IFADDR_STATE_ERRDAD
    addrconf_mod_dad_work(ifp, 0)


def _next_stable(ifp: inet6_ifaddr) -> None:
    """RFC 7217 6: count the conflict; after idgen_delay, try the address of the new count."""
    idev = ifp.idev
    net = idev.net
    retries = ifp.stable_privacy_retry + 1
    addr = ipv6_generate_stable_address(idev, ifp.addr, retries)
    limit = idev.cnf.max_addresses
    if addr is None or (limit and len(idev.addr_list) >= limit):
        return
    flags = ifp.flags & ~if_inet6.IFA_F_DADFAILED
    cfg = ifa6_config(addr, ifp.prefix_len, flags, ifp.valid_lft, ifp.prefered_lft)
    try:
        again = ipv6_add_addr(idev, cfg)
    except OSError:
        return
    again.stable_privacy_retry = retries
    again.state = if_inet6.INET6_IFADDR_STATE_PREDAD
    addrconf_mod_dad_work(again, net.ipv6.sysctl.idgen_delay * NSEC_PER_SEC)


def _disables_ipv6(ifp: inet6_ifaddr) -> bool:
    """Whether the duplicate disables IPv6: another station has our MAC (RFC 4862 5.4.5)."""
    idev = ifp.idev
    if max(idev.net.ipv6.devconf_all.accept_dad, idev.cnf.accept_dad) < 2:
        return False
    iid = ipv6_generate_eui64(idev.dev)
    stable = ifp.flags & if_inet6.IFA_F_STABLE_PRIVACY
    return iid is not None and not stable and ifp.addr == FE80 | iid


def addrconf_dad_completed(ifp: inet6_ifaddr, *, send_na: bool) -> None:
    """net/ipv6/addrconf.c: begin to use an address that has passed DAD.

    With the first link-local one, repeat MLD reports from it and solicit routers.
    """
    idev = ifp.idev
    dev = idev.dev
    net = idev.net
    addrconf_del_dad_work(ifp)
    ipv6_ifa_up(ifp)
    lonely = ifp.scope == IPV6_ADDR_LINKLOCAL and ipv6_lonely_lladdr(ifp)
    if lonely:
        ipv6_mc_dad_complete(idev)
    if send_na and (idev.cnf.ndisc_notify or net.ipv6.devconf_all.ndisc_notify):
        router = bool(idev.cnf.forwarding)
        ndisc_send_na(dev, IN6ADDR_LINKLOCAL_ALLNODES, ifp.addr, router, False, True, True)
    if (
        lonely
        and ipv6_accept_ra(idev)
        and idev.cnf.router_solicitations
        and not dev.flags & IFF_LOOPBACK
    ):
        addrconf_rs_start(idev)
    net.ipv6.rt_cache_flush()
    if ifp.flags & if_inet6.IFA_F_TEMPORARY:
        addrconf_verify(net)


def ipv6_lonely_lladdr(ifp: inet6_ifaddr) -> bool:
    """net/ipv6/addrconf.c: whether no other link-local address of the interface is usable yet."""
    for other in ifp.idev.addr_list:
        if other is ifp or other.scope != IPV6_ADDR_LINKLOCAL:
            continue
        if not other.flags & _NOT_YET and other.state == if_inet6.INET6_IFADDR_STATE_POSTDAD:
            return False
    return True


def addrconf_dad_run(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c: the link is up: run DAD for addresses that wait."""
    for ifp in tuple(idev.addr_list):
        if ifp.flags & if_inet6.IFA_F_TENTATIVE and ifp.state == if_inet6.INET6_IFADDR_STATE_DAD:
            addrconf_dad_kick(ifp)


# --- router solicitation -------------------------------------------------------------------


def rfc3315_s14_backoff_init(net: Net, irt_ns: int) -> int:
    """net/ipv6/addrconf.c: the first interval, 0.9 to 1.1 times the argument (RFC 7559 2)."""
    return irt_ns * net.random.randrange(900_000, 1_100_001) // 1_000_000


def rfc3315_s14_backoff_update(net: Net, rt_ns: int, mrt_ns: int) -> int:
    """net/ipv6/addrconf.c: about twice the last interval, at most about `mrt_ns`."""
    longer = rt_ns * net.random.randrange(1_900_000, 2_100_001) // 1_000_000
    if longer > mrt_ns:
        return rfc3315_s14_backoff_init(net, mrt_ns)
    return longer


def addrconf_rs_start(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c (end of addrconf_dad_completed): the first solicitation."""
    saddr = ipv6_get_lladdr(idev.dev)
    if saddr is None:
        return
    net, nd = idev.net, idev.nd
    idev.if_flags = idev.if_flags & ~if_inet6.IF_RA_RCVD | if_inet6.IF_RS_SENT
    nd.rs_probes = 1
    nd.rs_interval = rfc3315_s14_backoff_init(
        net, idev.cnf.router_solicitation_interval * NSEC_PER_SEC
    )
    mod_timer(nd.rs_timer, net.now() + nd.rs_interval)
    ndisc_send_rs(idev.dev, saddr, IN6ADDR_LINKLOCAL_ALLROUTERS)


def addrconf_rs_timer(timer: timer_list) -> None:
    """net/ipv6/addrconf.c: no router answered yet: solicit again, at growing intervals."""
    idev: inet6_dev = timer.data
    net, nd, cnf = idev.net, idev.nd, idev.cnf
    if idev.dead or not idev.if_flags & if_inet6.IF_READY or not ipv6_accept_ra(idev):
        return
    if idev.if_flags & if_inet6.IF_RA_RCVD:
        return
    if 0 <= cnf.router_solicitations <= nd.rs_probes:
        log.debug("%s: no IPv6 routers present", idev.dev.name)
        return
    saddr = ipv6_get_lladdr(idev.dev)
    if saddr is None:
        return
    nd.rs_probes += 1
    longest = cnf.router_solicitation_max_interval * NSEC_PER_SEC
    nd.rs_interval = rfc3315_s14_backoff_update(net, nd.rs_interval, longest)
    mod_timer(timer, net.now() + nd.rs_interval)
    ndisc_send_rs(idev.dev, saddr, IN6ADDR_LINKLOCAL_ALLROUTERS)


def addrconf_del_rs_timer(idev: inet6_dev) -> None:
    """net/ipv6/addrconf.c"""
    timer_delete(idev.nd.rs_timer)
