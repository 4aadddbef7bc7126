"""net/ipv6/mcast.c: Multicast Listener Discovery, the listener side.

RFC 3810 6 (version 2), RFC 3810 8 and RFC 2710 (version 1, while there is a router of version 1),
RFC 3590 (source :: without an address). An interface reports a change of its groups `qrv` times.
It answers a query after a random time, at most the query's maximum response delay.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastpath.base.skbuff import PACKET_BROADCAST, PACKET_MULTICAST, sk_buff, skb_to_bytes
from fastpath.net.hdr import ipv6_hdr
from stack.core.drop_reason import SKB_DROP_REASON_MLD_INHDR, SKB_DROP_REASON_NOT_SPECIFIED
from stack.core.netdevice import IFF_LOOPBACK, IFF_MULTICAST, IFF_UP
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.inet import mc_filter
from stack.inet.mc_filter import GroupRecord, current_record, mc_changes, mc_state, mc_time_code
from stack.ipv6.addr import (
    IN6ADDR_ANY,
    IN6ADDR_LINKLOCAL_ALLNODES,
    IN6ADDR_LINKLOCAL_ALLROUTERS,
    IPV6_ADDR_SCOPE_LINKLOCAL,
    ipv6_addr_is_linklocal,
    ipv6_addr_is_multicast,
    ipv6_addr_mc_scope,
)
from stack.ipv6.if_inet6 import ifmcaddr6, inet6_dev
from stack.ipv6.ip6_cb import IP6CB, IP6SKB_ROUTERALERT
from stack.ipv6.ip6_icmp import ICMPV6_MGM_QUERY, ICMPV6_MGM_REPORT, ICMPV6_MLD2_REPORT
from stack.ipv6.mld_messages import MldMessage, MldQuery
from stack.ipv6.ndisc_send import ndisc_send_skb
from stack.ipv6.saddr import ipv6_get_lladdr

IN6ADDR_MLD2_ALL_MCR = 0xFF02 << 112 | 0x16
MLD_QRV_DEFAULT = 2
MLD_QI_DEFAULT_NS = 125 * NSEC_PER_SEC
MLDV1_MRD_MAX_COMPAT = (1 << 15) - 1
IPV6_OPT_ROUTERALERT_MLD = 0
HBH_ROUTER_ALERT = bytes((58, 0, 5, 2, 0, IPV6_OPT_ROUTERALERT_MLD, 1, 0))
"""Hop-by-hop options of every MLD message: router alert (RFC 2711), PadN."""


# --- versions and times --------------------------------------------------------------------


def mld_in_v1_mode(idev: inet6_dev) -> bool:
    """net/ipv6/mcast.c: whether version 1 is used: forced, or queried for recently."""
    force = idev.net.ipv6.devconf_all.force_mld_version or idev.cnf.force_mld_version
    if force:
        return force == 1
    return idev.mld.v1_seen > idev.net.now()


def unsolicited_report_interval_ns(idev: inet6_dev) -> int:
    """net/ipv6/mcast.c: the time within which a change is repeated."""
    cnf = idev.cnf
    ms = (
        cnf.mldv1_unsolicited_report_interval
        if mld_in_v1_mode(idev)
        else cnf.mldv2_unsolicited_report_interval
    )
    return ms * NSEC_PER_MSEC


def mld_reportable(mc: ifmcaddr6) -> bool:
    """Whether to report the group: not all-nodes, nor groups that stay in the host (RFC 3810 6)."""
    dev = mc.idev.dev
    return (
        mc.mca_addr != IN6ADDR_LINKLOCAL_ALLNODES
        and ipv6_addr_mc_scope(mc.mca_addr) >= IPV6_ADDR_SCOPE_LINKLOCAL
        and not dev.flags & IFF_LOOPBACK
        and bool(dev.flags & IFF_MULTICAST)
    )


def _random(idev: inet6_dev, limit_ns: int) -> int:
    return idev.net.random.randrange(max(limit_ns, 1))


def _arm(idev: inet6_dev, timer: timer_list, delay_ns: int) -> None:
    mod_timer(timer, idev.net.now() + delay_ns)


# --- changes -------------------------------------------------------------------------------


def mld_init_dev(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c ipv6_mc_init_dev: the timers of an interface."""
    mld, net = idev.mld, idev.net
    mld.gq_timer = timer_list(net.machine, mld_gq_work, TIMER_DEFERRABLE, data=idev)
    mld.ifc_timer = timer_list(net.machine, mld_ifc_work, TIMER_DEFERRABLE, data=idev)
    mld.dad_timer = timer_list(net.machine, mld_dad_work, TIMER_DEFERRABLE, data=idev)


def mld_stop_dev(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c (in ipv6_mc_down): stop all reports of the interface."""
    mld = idev.mld
    for timer in (mld.gq_timer, mld.ifc_timer, mld.dad_timer):
        timer_delete(timer)
    mld.tomb.clear()


def mld_group_init(mc: ifmcaddr6) -> None:
    """net/ipv6/mcast.c mca_alloc: set a group's timer, and pending reports of its last leave."""
    idev = mc.idev
    mc.timer = timer_list(idev.net.machine, mld_mca_work, TIMER_DEFERRABLE, data=mc)
    buried = idev.mld.tomb.pop(mc.mca_addr, None)
    if buried is not None:
        mc.changes = buried.changes


def mld_group_stop(mc: ifmcaddr6) -> None:
    """Stop the timer of a group without listeners, or of an interface that goes down."""
    timer_delete(mc.timer)


def mld_changed(mc: ifmcaddr6, before: mc_state, after: mc_state) -> None:
    """net/ipv6/mcast.c (mld_ifc_event, igmp6_join_group, igmp6_leave_group): report a change."""
    idev = mc.idev
    if before == after or not mld_reportable(mc) or not idev.dev.flags & IFF_UP:
        return
    if mld_in_v1_mode(idev):
        if before.empty:
            igmp6_send(mc, done=False)
            mc.last_reporter = True
            _arm(idev, mc.timer, _random(idev, unsolicited_report_interval_ns(idev)))
        elif after.empty and mc.last_reporter:
            igmp6_send(mc, done=True)
        return
    mc.changes.changed(before, after, idev.mld.qrv)
    if after.empty:
        idev.mld.tomb[mc.mca_addr] = mc
    # Report within a millisecond, so that changes at the same time share a report.
    _arm(idev, idev.mld.ifc_timer, _random(idev, NSEC_PER_MSEC))


def mld_ifc_work(timer: timer_list) -> None:
    """net/ipv6/mcast.c: report changes; arm the timer again while any is to be repeated."""
    idev: inet6_dev = timer.data
    mld = idev.mld
    if not idev.dev.flags & IFF_UP or mld_in_v1_mode(idev):
        return
    records: list[GroupRecord] = []
    more = False
    for mc in (*reversed(mld.tomb.values()), *reversed(idev.mc_list.values())):
        if not mc.changes:
            continue
        now = mc.filter.state()
        records += ((kind, mc.mca_addr, src) for kind, src in mc.changes.records(now))
        more = more or bool(mc.changes)
    mld.tomb = {addr: mc for addr, mc in mld.tomb.items() if mc.changes}
    mld_sendpack(idev, records)
    if more:
        _arm(idev, timer, _random(idev, unsolicited_report_interval_ns(idev)))


def ipv6_mc_dad_complete(idev: inet6_dev) -> None:
    """net/ipv6/mcast.c: the first link-local address is usable: repeat the reports from it.

    RFC 3590: switches and routers may have dropped reports from ::.
    """
    idev.mld.dad_count = idev.mld.qrv
    mld_dad_work(idev.mld.dad_timer)


def mld_dad_work(timer: timer_list) -> None:
    """net/ipv6/mcast.c: mld_send_initial_cr: report every group as if it were new."""
    idev: inet6_dev = timer.data
    if not idev.dev.flags & IFF_UP or idev.mld.dad_count <= 0:
        return
    if mld_in_v1_mode(idev):
        for mc in tuple(reversed(idev.mc_list.values())):
            if mld_reportable(mc):
                igmp6_send(mc, done=False)
                mc.last_reporter = True
    else:
        records = []
        for mc in reversed(idev.mc_list.values()):
            if mld_reportable(mc):
                now = mc.filter.state()
                excludes = now.mode == mc_filter.MCAST_EXCLUDE
                kind = mc_filter.CHANGE_TO_EXCLUDE if excludes else mc_filter.ALLOW_NEW_SOURCES
                records.append((kind, mc.mca_addr, tuple(sorted(now.sources))))
        mld_sendpack(idev, records)
    idev.mld.dad_count -= 1
    if idev.mld.dad_count:
        _arm(idev, timer, _random(idev, unsolicited_report_interval_ns(idev)))


# --- queries -------------------------------------------------------------------------------


def mld_rcv(skb: sk_buff) -> int:
    """net/ipv6/mcast.c: a query or another listener's report. Borrows skb; a drop reason or 0."""
    idev: inet6_dev | None = skb.dev.ip6_ptr
    if idev is None:
        return SKB_DROP_REASON_NOT_SPECIFIED
    data = skb_to_bytes(skb)
    if data[0] == ICMPV6_MGM_QUERY:
        return igmp6_event_query(idev, skb, data)
    if data[0] == ICMPV6_MGM_REPORT:
        return igmp6_event_report(idev, skb, data)
    return 0  # version 2 reports and leaves are for routers


def igmp6_event_query(idev: inet6_dev, skb: sk_buff, data: bytes) -> int:
    """net/ipv6/mcast.c: process a router's query (RFC 3810 6.2).

    Valid only from a link-local address, with hop limit 1 and a router alert.
    """
    iph = ipv6_hdr(skb)
    if (
        not ipv6_addr_is_linklocal(iph.saddr)
        or iph.hop_limit != 1
        or not skb.ip_cb_flags & IP6SKB_ROUTERALERT
        or IP6CB(skb).ra != IPV6_OPT_ROUTERALERT_MLD
    ):
        return SKB_DROP_REASON_MLD_INHDR
    query = MldQuery.parse(data)
    if query is None or (query.group and not ipv6_addr_is_multicast(query.group)):
        return SKB_DROP_REASON_MLD_INHDR
    if query.version == 1 or mld_in_v1_mode(idev):
        if not mld_process_v1(idev, query):
            return SKB_DROP_REASON_MLD_INHDR
        most = query.mrc if query.version == 1 else min(query.mrc, MLDV1_MRD_MAX_COMPAT)
        max_delay = max(most * NSEC_PER_MSEC, 1)
        asked: frozenset[wide] = frozenset()
    else:
        mld_process_v2(idev, query)
        max_delay = idev.mld.maxdelay
        asked = frozenset(query.sources)
        if not query.group:
            if asked:
                return SKB_DROP_REASON_MLD_INHDR  # RFC 3810 5.1.10: a general query names none
            gq, delay = idev.mld.gq_timer, _random(idev, max_delay)
            if not gq.pending or idev.net.now() + delay < gq.expires:
                _arm(idev, gq, delay)
            return 0
    groups: Iterable[ifmcaddr6] = idev.mc_list.values()
    if query.group:
        mc = idev.mc_list.get(query.group)
        groups = (mc,) if mc is not None else ()
    for mc in groups:
        igmp6_group_queried(mc, max_delay, asked)
    return 0


def mld_process_v1(idev: inet6_dev, query: MldQuery) -> bool:
    """net/ipv6/mcast.c: use version 1 for a time (RFC 3810 9.12). False: version 2 is forced."""
    force = idev.net.ipv6.devconf_all.force_mld_version or idev.cnf.force_mld_version
    if force == 2:
        return False
    mld = idev.mld
    if query.version == 1:
        mld.v1_seen = idev.net.now() + mld.qrv * mld.qi + mld.qri
    timer_delete(mld.gq_timer)
    timer_delete(mld.ifc_timer)
    mld.tomb.clear()
    for mc in idev.mc_list.values():
        mc.changes = mc_changes()
    return True


def mld_process_v2(idev: inet6_dev, query: MldQuery) -> None:
    """net/ipv6/mcast.c: take the querier's robustness and intervals (RFC 3810 9)."""
    mld = idev.mld
    if query.qrv:
        mld.qrv = query.qrv
    mld.qrv = max(mld.qrv, min(idev.net.ipv6.sysctl.mld_qrv, MLD_QRV_DEFAULT))
    mld.qi = mc_time_code(query.qqic) * NSEC_PER_SEC or MLD_QI_DEFAULT_NS
    mld.maxdelay = max(query.max_delay_ms * NSEC_PER_MSEC, 1)
    mld.qri = mld.maxdelay


def igmp6_group_queried(mc: ifmcaddr6, max_delay: int, asked: frozenset[wide]) -> None:
    """net/ipv6/mcast.c: answer within `max_delay` ns; `asked`: only these sources."""
    if not mld_reportable(mc):
        return
    idev = mc.idev
    delay = max_delay
    if mc.timer.pending:
        # RFC 3810 6.2: a pending answer for the whole group covers this one.
        mc.gsquery = mc.gsquery | asked if mc.gsquery and asked else frozenset()
        delay = mc.timer.expires - idev.net.now()
    else:
        if asked and current_record(mc.filter.state(), asked) is None:
            return
        mc.gsquery = asked
    if delay >= max_delay:
        delay = _random(idev, max_delay)
    _arm(idev, mc.timer, delay)


def mld_mca_work(timer: timer_list) -> None:
    """net/ipv6/mcast.c: answer for one group, when its timer expires."""
    mc: ifmcaddr6 = timer.data
    idev = mc.idev
    if not idev.dev.flags & IFF_UP:
        return
    if mld_in_v1_mode(idev):
        igmp6_send(mc, done=False)
    else:
        mld_sendpack(idev, [(kind, mc.mca_addr, src) for kind, src in mc.answer()])
    mc.last_reporter = True


def mld_gq_work(timer: timer_list) -> None:
    """net/ipv6/mcast.c: answer a general query, when the timer expires."""
    idev: inet6_dev = timer.data
    records = []
    for mc in reversed(idev.mc_list.values()):
        record = current_record(mc.filter.state())
        if record is not None and mld_reportable(mc):
            records.append((record[0], mc.mca_addr, record[1]))
    mld_sendpack(idev, records)


def igmp6_event_report(idev: inet6_dev, skb: sk_buff, data: bytes) -> int:
    """net/ipv6/mcast.c: another host reported the group (version 1): cancel our report."""
    if skb.pkt_type not in (PACKET_MULTICAST, PACKET_BROADCAST):
        return 0  # the router may not have received it
    saddr = ipv6_hdr(skb).saddr
    message = MldMessage.parse(data)
    if message is None or (saddr and not ipv6_addr_is_linklocal(saddr)):
        return SKB_DROP_REASON_MLD_INHDR
    mc = idev.mc_list.get(message.group)
    if mc is not None and mld_in_v1_mode(idev):
        mld_group_stop(mc)
        mc.last_reporter = False
    return 0


# --- the wire ------------------------------------------------------------------------------


def _transmit(idev: inet6_dev, message: bytes, daddr: wide) -> None:
    saddr = ipv6_get_lladdr(idev.dev)
    ndisc_send_skb(
        idev.dev,
        message,
        daddr,
        IN6ADDR_ANY if saddr is None else saddr,
        options=HBH_ROUTER_ALERT,
        hop_limit=1,
        loops=True,
    )


def igmp6_send(mc: ifmcaddr6, *, done: bool) -> None:
    """net/ipv6/mcast.c: a version 1 report, or `done`."""
    to = IN6ADDR_LINKLOCAL_ALLROUTERS if done else mc.mca_addr
    _transmit(mc.idev, MldMessage(mc.mca_addr, done).pack(), to)


def mld_sendpack(idev: inet6_dev, records: list[GroupRecord]) -> None:
    """net/ipv6/mcast.c: version 2 reports, split by the MTU."""
    room = idev.cnf.mtu - 40 - len(HBH_ROUTER_ALERT)
    for report in mc_filter.mc_reports(ICMPV6_MLD2_REPORT, records, room, 16):
        _transmit(idev, report, IN6ADDR_MLD2_ALL_MCR)
