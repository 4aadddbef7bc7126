"""net/bridge/br_multicast.c: the querier, router ports, and the settings.

    br_multicast_open, br_multicast_enable_port     the bridge, a port comes up: query soon
        br_multicast_query_expired => br_multicast_send_query
    br_multicast_query_received         another querier (br_multicast_rcv.py): send no queries
        br_multicast_select_querier         the lowest address wins (RFC 2236 3, RFC 2710 5)
        br_multicast_mark_router            that port leads to a router
        br_multicast_querier_expired        it was silent too long: send queries again
    br_multicast_toggle, br_multicast_set_querier, ...          IFLA_BR_MCAST_*

State: `net_bridge_mcast` of a bridge with a `bridge_mcast_pf` for each of IPv4 and IPv6, and
`bridge_mcast_port_pf` of each port. Read br_multicast_send_query first. All timers are
housekeeping: alone they do not keep a simulation going. Times are ns. Functions with a result
return 0 or -errno.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import alloc_skb, skb_pull, skb_put_data, skb_reset_mac_header
from stack.bridge import br_private
from stack.bridge.br_mdb import br_mdb_flush, br_multicast_del_port_groups
from stack.bridge.br_multicast_query import br_multicast_alloc_query
from stack.bridge.br_private import (
    MDB_RTR_TYPE_DISABLED,
    MDB_RTR_TYPE_PERM,
    MDB_RTR_TYPE_TEMP,
    MDB_RTR_TYPE_TEMP_QUERY,
    br_timer,
    bridge_mcast_pf,
    bridge_mcast_port_pf,
    mod_timer_in,
    net_bridge,
    net_bridge_mcast,
    net_bridge_port,
)
from stack.core.backlog import netif_rx
from stack.core.dev_queue import dev_queue_xmit
from stack.core.netdevice import ETH_HLEN, ETH_P_IP, ETH_P_IPV6, net_device, netif_running
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import timer_delete, timer_list, timer_shutdown
from stack.core.uapi import RTM_DELMDB, RTM_NEWMDB
from stack.inet.mc_filter import ANY_SOURCE
from stack.ipv4.igmp import ip_mc_change, ip_mc_inc_group
from stack.ipv6.mcast import ipv6_dev_mc_dec, ipv6_dev_mc_inc

PROTOS = (ETH_P_IP, ETH_P_IPV6)
"""The families: index 0 and 1 of `pf` of a bridge and `mcast` of a port."""
BR_MULTICAST_QUERY_INTVL_MIN = NSEC_PER_SEC
BR_MULTICAST_QUERY_INTVL_MAX = 86400 * NSEC_PER_SEC
INADDR_ALLSNOOPERS_GROUP = 0xE000006A
IN6ADDR_ALLSNOOPERS = 0xFF02 << 112 | 0x6A


# --- adding and removing bridges and ports --------------------------------------------------------


def br_multicast_init(br: net_bridge) -> None:
    """net/bridge/br_multicast.c: a new bridge."""
    ctx = br.multicast_ctx = net_bridge_mcast(br)
    for at in range(len(PROTOS)):
        pf = bridge_mcast_pf()
        pf.own_query = br_timer(br.dev, br_multicast_query_expired, (br, at))
        pf.other_query = br_timer(br.dev, br_multicast_querier_expired, (br, at))
        pf.delay = br_timer(br.dev, _nothing, None)
        pf.mc_router_timer = br_timer(br.dev, _nothing, None)
        ctx.pf.append(pf)


def _nothing(timer: timer_list) -> None:
    """Only whether the timer is pending matters."""


def br_multicast_dev_del(br: net_bridge) -> None:
    """net/bridge/br_multicast.c: a bridge is deleted."""
    br_mdb_flush(br)
    for pf in br.multicast_ctx.pf:
        for timer in (pf.own_query, pf.other_query, pf.delay, pf.mc_router_timer):
            timer_shutdown(timer)


def br_multicast_add_port(p: net_bridge_port) -> None:
    """net/bridge/br_multicast.c: a new port."""
    for at in range(len(PROTOS)):
        pf = bridge_mcast_port_pf()
        pf.own_query = br_timer(p.dev, br_multicast_port_query_expired, (p, at))
        pf.mc_router_timer = br_timer(p.dev, br_multicast_router_expired, (p, at))
        p.mcast.append(pf)


def br_multicast_del_port(p: net_bridge_port) -> None:
    """net/bridge/br_multicast.c: a port leaves."""
    br_multicast_del_port_groups(p, True)
    for pf in p.mcast:
        timer_shutdown(pf.own_query)
        timer_shutdown(pf.mc_router_timer)


def br_multicast_open(br: net_bridge) -> None:
    """net/bridge/br_multicast.c: the bridge comes up."""
    for pf in br.multicast_ctx.pf:
        pf.startup_sent = 0
        if br.multicast_ctx.enabled:
            mod_timer_in(pf.own_query, 0)


def br_multicast_stop(br: net_bridge) -> None:
    """net/bridge/br_multicast.c: the bridge goes down."""
    for pf in br.multicast_ctx.pf:
        for timer in (pf.own_query, pf.other_query, pf.delay, pf.mc_router_timer):
            timer_delete(timer)


def br_multicast_enable(pf: bridge_mcast_port_pf) -> None:
    """net/bridge/br_multicast.c: begin to send queries through a port."""
    pf.startup_sent = 0
    mod_timer_in(pf.own_query, 0)


def br_multicast_enable_port(p: net_bridge_port) -> None:
    """net/bridge/br_multicast.c: a port is no longer disabled."""
    br = p.br
    if not br.multicast_ctx.enabled or not netif_running(br.dev):
        return
    for at, pf in enumerate(p.mcast):
        br_multicast_enable(pf)
        if p.multicast_router == MDB_RTR_TYPE_PERM:
            br_multicast_add_router(p, at)


def br_multicast_disable_port(p: net_bridge_port) -> None:
    """net/bridge/br_multicast.c: a port is disabled: remove its groups and router mark."""
    br_multicast_del_port_groups(p, False)
    br_multicast_rport_del(p, range(len(PROTOS)))
    for pf in p.mcast:
        timer_delete(pf.mc_router_timer)
        timer_delete(pf.own_query)


def br_multicast_join_snoopers(br: net_bridge) -> None:
    """net/bridge/br_multicast.c: learn routers that advertise themselves (RFC 4286)."""
    dev, ctx = br.dev, br.multicast_ctx
    if ctx.snoopers_joined:
        return
    ctx.snoopers_joined = True
    if dev.ip_ptr is not None:
        ip_mc_inc_group(dev.ip_ptr, INADDR_ALLSNOOPERS_GROUP)
    if dev.ip6_ptr is not None:
        ipv6_dev_mc_inc(dev, IN6ADDR_ALLSNOOPERS)


def br_multicast_leave_snoopers(br: net_bridge) -> None:
    """net/bridge/br_multicast.c."""
    dev, ctx = br.dev, br.multicast_ctx
    if not ctx.snoopers_joined:
        return
    ctx.snoopers_joined = False
    if dev.ip_ptr is not None:
        ip_mc_change(dev.ip_ptr, INADDR_ALLSNOOPERS_GROUP, ANY_SOURCE, None)
    if dev.ip6_ptr is not None:
        ipv6_dev_mc_dec(dev, IN6ADDR_ALLSNOOPERS)


# --- sending queries ------------------------------------------------------------------------------


def __br_multicast_send_query(
    ctx: net_bridge_mcast, p: net_bridge_port | None, proto: int, group: bytes
) -> None:
    """net/bridge/br_multicast.c: send a query out of a port, or to the host itself (`p` None)."""
    br = ctx.br
    frame = br_multicast_alloc_query(ctx, proto, group)
    if frame is None:
        return
    dev: net_device = br.dev if p is None else p.dev
    skb = alloc_skb(dev.net.skb_small, len(frame), dev.needed_headroom + 2)
    if skb is None:
        return
    skb_put_data(skb, frame)
    skb.dev = dev
    skb.protocol = proto
    skb_reset_mac_header(skb)
    if p is not None:
        dev_queue_xmit(skb)
        return
    saddr = frame[26:30] if proto == ETH_P_IP else frame[22:38]
    br_multicast_select_querier(ctx, None, PROTOS.index(proto), saddr)
    skb_pull(skb, ETH_HLEN)
    netif_rx(skb)


def br_multicast_send_query(ctx: net_bridge_mcast, p: net_bridge_port | None, at: int) -> None:
    """net/bridge/br_multicast.c: send a general query, unless there is another querier; rearm."""
    br, pf = ctx.br, ctx.pf[at]
    own: bridge_mcast_port_pf = pf if p is None else p.mcast[at]
    if own.startup_sent < ctx.multicast_startup_query_count:
        own.startup_sent += 1
    if not netif_running(br.dev) or not ctx.enabled or not ctx.multicast_querier:
        return
    if pf.other_query.pending:
        return
    if p is None and pf.querier_ifindex:  # from now on it is this bridge
        pf.querier_addr, pf.querier_ifindex = b"", 0
    __br_multicast_send_query(ctx, p, PROTOS[at], b"")
    interval = ctx.multicast_query_interval
    if own.startup_sent < ctx.multicast_startup_query_count:
        interval = ctx.multicast_startup_query_interval
    mod_timer_in(own.own_query, interval)


def br_multicast_query_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: query the host itself."""
    br, at = timer.data
    br_multicast_send_query(br.multicast_ctx, None, at)


def br_multicast_port_query_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: query through a port."""
    p, at = timer.data
    if p.state in (br_private.BR_STATE_DISABLED, br_private.BR_STATE_BLOCKING):
        return
    br_multicast_send_query(p.br.multicast_ctx, p, at)


def br_multicast_start_querier(br: net_bridge, at: int) -> None:
    """net/bridge/br_multicast.c: begin to send queries through all ports."""
    pf = br.multicast_ctx.pf[at]
    pf.startup_sent = 0
    if br.multicast_ctx.enabled:
        mod_timer_in(pf.own_query, 0)
    for p in br.port_list:
        if p.state not in (br_private.BR_STATE_DISABLED, br_private.BR_STATE_BLOCKING):
            br_multicast_enable(p.mcast[at])


# --- other queriers -------------------------------------------------------------------------------


def br_multicast_select_querier(
    ctx: net_bridge_mcast, p: net_bridge_port | None, at: int, saddr: bytes
) -> bool:
    """net/bridge/br_multicast.c: whether `saddr` is the querier: the lowest address."""
    pf = ctx.pf[at]
    asked = pf.own_query.pending or pf.other_query.pending
    if asked and any(pf.querier_addr) and saddr > pf.querier_addr:
        return False
    pf.querier_addr = saddr
    pf.querier_ifindex = p.dev.ifindex if p is not None else 0
    return True


def br_multicast_query_received(
    ctx: net_bridge_mcast, p: net_bridge_port | None, at: int, saddr: bytes, max_delay: int
) -> None:
    """net/bridge/br_multicast.c: process a general query; answers follow within `max_delay`."""
    pf = ctx.pf[at]
    if not br_multicast_select_querier(ctx, p, at, saddr):
        return
    if not pf.other_query.pending:
        mod_timer_in(pf.delay, max_delay)
    mod_timer_in(pf.other_query, ctx.multicast_querier_interval)
    br_multicast_mark_router(ctx, p, at)


def br_multicast_querier_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: the other querier was silent for too long."""
    br, at = timer.data
    if netif_running(br.dev) and br.multicast_ctx.enabled:
        br_multicast_start_querier(br, at)


# --- router ports ---------------------------------------------------------------------------------


def br_rtr_notify(p: net_bridge_port, kind: int) -> None:
    """net/bridge/br_mdb.c: notify listeners that a port became a router port, or no longer is."""
    rtnl = p.dev.net.rtnl
    if rtnl is not None:
        rtnl(kind, (None, p), 0)


def is_rport(p: net_bridge_port) -> bool:
    """Whether a port leads to a router of any family."""
    return any(p in pf.mc_router_list for pf in p.br.multicast_ctx.pf)


def br_multicast_add_router(p: net_bridge_port, at: int) -> None:
    """net/bridge/br_multicast.c: add a router port; groups are also sent through it."""
    found = p.br.multicast_ctx.pf[at].mc_router_list
    if p in found:
        return
    known = is_rport(p)
    found.append(p)
    found.sort(key=lambda each: -each.port_no)
    if not known:
        br_rtr_notify(p, RTM_NEWMDB)


def br_multicast_rport_del(p: net_bridge_port, families: range) -> None:
    """net/bridge/br_multicast.c: remove a router port of these families."""
    known = is_rport(p)
    for at in families:
        found = p.br.multicast_ctx.pf[at].mc_router_list
        if p in found:
            found.remove(p)
    if known and not is_rport(p):
        br_rtr_notify(p, RTM_DELMDB)
        if p.multicast_router == MDB_RTR_TYPE_TEMP:
            p.multicast_router = MDB_RTR_TYPE_TEMP_QUERY


def br_multicast_router_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: the router was silent for too long."""
    p, at = timer.data
    if p.multicast_router not in (MDB_RTR_TYPE_DISABLED, MDB_RTR_TYPE_PERM):
        br_multicast_rport_del(p, range(at, at + 1))


def br_multicast_mark_router(ctx: net_bridge_mcast, p: net_bridge_port | None, at: int) -> None:
    """net/bridge/br_multicast.c: a router was detected at a port, or the host (`p` None)."""
    interval = ctx.multicast_querier_interval
    if p is None:
        if ctx.multicast_router == MDB_RTR_TYPE_TEMP_QUERY:
            mod_timer_in(ctx.pf[at].mc_router_timer, interval)
    elif p.multicast_router not in (MDB_RTR_TYPE_DISABLED, MDB_RTR_TYPE_PERM):
        br_multicast_add_router(p, at)
        mod_timer_in(p.mcast[at].mc_router_timer, interval)


# --- settings -------------------------------------------------------------------------------------


def br_multicast_toggle(br: net_bridge, val: int) -> None:
    """net/bridge/br_multicast.c: `mcast_snooping`."""
    ctx = br.multicast_ctx
    if ctx.enabled == bool(val):
        return
    ctx.enabled = bool(val)
    if not val:
        for p in br.port_list:
            br_multicast_disable_port(p)
        br_multicast_leave_snoopers(br)
    elif netif_running(br.dev):
        br_multicast_open(br)
        for p in br.port_list:
            if p.state != br_private.BR_STATE_DISABLED:
                br_multicast_enable_port(p)
        br_multicast_join_snoopers(br)


def br_multicast_set_querier(br: net_bridge, val: int) -> None:
    """net/bridge/br_multicast.c: `mcast_querier`: send queries if there is no other querier."""
    ctx = br.multicast_ctx
    if ctx.multicast_querier == bool(val):
        return
    ctx.multicast_querier = bool(val)
    if val:
        for at, pf in enumerate(ctx.pf):
            if not pf.other_query.pending:
                mod_timer_in(pf.delay, ctx.multicast_query_response_interval)
            br_multicast_start_querier(br, at)


def br_multicast_set_router(br: net_bridge, val: int) -> int:
    """net/bridge/br_multicast.c: `mcast_router` of the bridge. -EINVAL: not 0 to 2."""
    if val > MDB_RTR_TYPE_PERM:
        return -errno.EINVAL
    br.multicast_ctx.multicast_router = val
    if val != MDB_RTR_TYPE_TEMP_QUERY:
        for pf in br.multicast_ctx.pf:
            timer_delete(pf.mc_router_timer)
    return 0


def br_multicast_set_port_router(p: net_bridge_port, val: int) -> int:
    """net/bridge/br_multicast.c: `mcast_router` of a port. -EINVAL: not 0 to 3."""
    ctx = p.br.multicast_ctx
    families = range(len(PROTOS))
    if val > MDB_RTR_TYPE_TEMP:
        return -errno.EINVAL
    if val == p.multicast_router:
        if val == MDB_RTR_TYPE_TEMP:
            for pf in p.mcast:
                mod_timer_in(pf.mc_router_timer, ctx.multicast_querier_interval)
        return 0
    p.multicast_router = val
    if val in (MDB_RTR_TYPE_DISABLED, MDB_RTR_TYPE_TEMP_QUERY):
        br_multicast_rport_del(p, families)
    if val in (MDB_RTR_TYPE_DISABLED, MDB_RTR_TYPE_PERM):
        for pf in p.mcast:
            timer_delete(pf.mc_router_timer)
    for at in families:
        if val == MDB_RTR_TYPE_PERM:
            br_multicast_add_router(p, at)
        elif val == MDB_RTR_TYPE_TEMP:
            br_multicast_mark_router(ctx, p, at)
    return 0


def br_multicast_set_igmp_version(br: net_bridge, val: int) -> int:
    """net/bridge/br_multicast.c. -EINVAL: not 2 or 3."""
    if val not in (2, 3):
        return -errno.EINVAL
    br.multicast_ctx.multicast_igmp_version = val
    return 0


def br_multicast_set_mld_version(br: net_bridge, val: int) -> int:
    """net/bridge/br_multicast.c. -EINVAL: not 1 or 2."""
    if val not in (1, 2):
        return -errno.EINVAL
    br.multicast_ctx.multicast_mld_version = val
    return 0


def br_multicast_query_intvl(val: int) -> int:
    """net/bridge/br_multicast.c br_multicast_set_query_intvl: 1 s to a day."""
    return min(max(val, BR_MULTICAST_QUERY_INTVL_MIN), BR_MULTICAST_QUERY_INTVL_MAX)
