"""net/core/rtnetlink.c: NETLINK_ROUTE: the handlers of messages; notifications.

    rtnetlink_rcv_msg => HANDLERS[family, type]     doit, or dumpit with NLM_F_DUMP
    rtnl_event, rtmsg_ifinfo                        changes, for the multicast groups

The stack calls `net.rtnl(RTM_NEWROUTE, route)` and others only while there are listeners.
Read HANDLERS first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

from stack.bridge.br_private import net_bridge_port
from stack.core import netdevice, uapi
from stack.core.dev_notifier import register_netdevice_notifier
from stack.core.extack import ExtAckError
from stack.core.neigh_table import neighbour
from stack.core.netdevice import net_device
from stack.inet.ipmr_base import RTNL_FAMILY_IP6MR, RTNL_FAMILY_IPMR, mr_report
from stack.ipv4.devinet import in_ifaddr
from stack.ipv4.fib import fib_alias
from stack.ipv6.if_inet6 import inet6_ifaddr
from stack.net import Net
from stack.netlink import (
    rt_action,
    rt_addr,
    rt_addrlabel,
    rt_fdb,
    rt_filter,
    rt_getroute,
    rt_link,
    rt_mdb,
    rt_mroute,
    rt_neigh,
    rt_neightbl,
    rt_netconf,
    rt_newlink,
    rt_nexthop,
    rt_nexthop_bucket,
    rt_qdisc,
    rt_route,
    rt_rule,
    rt_stats,
)
from stack.netlink.af_netlink import netlink_capable, netlink_dump_start, nlmsg_notify
from stack.netlink.netlink_sock import (
    NETLINK_ROUTE,
    NLM_F_BULK,
    NLM_F_DUMP,
    NLM_F_ECHO,
    netlink_callback,
    netlink_protocol,
    nlmsg,
)
from stack.netlink.nexthop import nexthop, nexthop_net_init
from stack.netlink.nlattr import NlError
from stack.sched.cls_api import tcf_chain

# include/uapi/linux/rtnetlink.h: multicast groups
RTNLGRP_LINK = 1
RTNLGRP_IPV4_IFADDR = 5
RTNLGRP_IPV4_MROUTE = 6
RTNLGRP_IPV4_ROUTE = 7
RTNLGRP_IPV6_IFADDR = 9
RTNLGRP_IPV4_RULE = 8
RTNLGRP_IPV6_MROUTE = 10
RTNLGRP_IPV6_ROUTE = 11
RTNLGRP_IPV6_RULE = 19
RTNLGRP_MDB = 26
RTNLGRP_IPV4_MROUTE_R = 30
RTNLGRP_IPV6_MROUTE_R = 31
RTNLGRP_NEXTHOP = 32
RTNLGRP_MAX = 39

RTM_BASE, RTM_MAX = 16, 123
KIND_DEL, KIND_GET = 1, 2

Doit = Callable[[nlmsg], None]
Dumpit = Callable[[nlmsg], Iterator[bytes]]


def rtnl_dump_all(*dumps: Dumpit) -> Dumpit:
    """net/core/rtnetlink.c: the dumps of all families, one after the other."""

    def dump(nlh: nlmsg) -> Iterator[bytes]:
        return chain.from_iterable(one(nlh) for one in dumps)

    return dump


# fmt: off
HANDLERS: dict[tuple[int, int], tuple[Doit | None, Dumpit | None]] = {
    (uapi.AF_UNSPEC, uapi.RTM_GETLINK): (rt_link.rtnl_getlink, rt_link.rtnl_dump_ifinfo),
    (uapi.AF_UNSPEC, uapi.RTM_NEWLINK): (rt_newlink.rtnl_newlink, None),
    (uapi.AF_UNSPEC, uapi.RTM_SETLINK): (rt_link.rtnl_setlink, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELLINK): (rt_link.rtnl_dellink, None),
    (uapi.AF_UNSPEC, uapi.RTM_NEWLINKPROP): (rt_link.rtnl_linkprop, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELLINKPROP): (rt_link.rtnl_linkprop, None),
    (uapi.AF_INET6, uapi.RTM_GETLINK): (None, rt_link.inet6_dump_ifinfo),
    (uapi.AF_BRIDGE, uapi.RTM_GETLINK): (None, rt_link.rtnl_bridge_getlink),
    (uapi.AF_BRIDGE, uapi.RTM_SETLINK): (rt_link.rtnl_bridge_setlink, None),
    (uapi.AF_BRIDGE, uapi.RTM_DELLINK): (rt_link.rtnl_bridge_dellink, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETADDR):
        (None, rtnl_dump_all(rt_addr.inet_dump_ifaddr, rt_addr.inet6_dump_addr)),
    (uapi.AF_INET, uapi.RTM_GETADDR): (None, rt_addr.inet_dump_ifaddr),
    (uapi.AF_INET, uapi.RTM_NEWADDR): (rt_addr.inet_rtm_newaddr, None),
    (uapi.AF_INET, uapi.RTM_DELADDR): (rt_addr.inet_rtm_deladdr, None),
    (uapi.AF_INET6, uapi.RTM_GETADDR): (rt_addr.inet6_rtm_getaddr, rt_addr.inet6_dump_addr),
    (uapi.AF_INET6, uapi.RTM_NEWADDR): (rt_addr.inet6_rtm_newaddr, None),
    (uapi.AF_INET6, uapi.RTM_DELADDR): (rt_addr.inet6_rtm_deladdr, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETNEIGH): (rt_neigh.neigh_get, rt_neigh.neigh_dump_info),
    (uapi.AF_UNSPEC, uapi.RTM_NEWNEIGH): (rt_neigh.neigh_add, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELNEIGH): (rt_neigh.neigh_delete, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETNEIGHTBL): (None, rt_neightbl.neightbl_dump_info),
    (uapi.AF_UNSPEC, uapi.RTM_SETNEIGHTBL): (rt_neightbl.neightbl_set, None),
    (uapi.AF_BRIDGE, uapi.RTM_GETNEIGH): (rt_fdb.rtnl_fdb_get, rt_fdb.rtnl_fdb_dump),
    (uapi.AF_BRIDGE, uapi.RTM_NEWNEIGH): (rt_fdb.rtnl_fdb_add, None),
    (uapi.AF_BRIDGE, uapi.RTM_DELNEIGH): (rt_fdb.rtnl_fdb_del, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETMDB): (rt_mdb.rtnl_mdb_get, rt_mdb.rtnl_mdb_dump),
    (uapi.AF_UNSPEC, uapi.RTM_NEWMDB): (rt_mdb.rtnl_mdb_add, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELMDB): (rt_mdb.rtnl_mdb_del, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETROUTE):
        (None, rtnl_dump_all(rt_route.inet_dump_fib, rt_route.inet6_dump_fib)),
    (RTNL_FAMILY_IPMR, uapi.RTM_GETROUTE):
        (rt_mroute.ipmr_rtm_getroute, rt_mroute.ipmr_rtm_dumproute),
    (RTNL_FAMILY_IP6MR, uapi.RTM_GETROUTE):
        (rt_mroute.ip6mr_rtm_getroute, rt_mroute.ip6mr_rtm_dumproute),
    (uapi.AF_INET, uapi.RTM_GETROUTE): (rt_getroute.inet_rtm_getroute, rt_route.inet_dump_fib),
    (uapi.AF_INET, uapi.RTM_NEWROUTE): (rt_route.inet_rtm_newroute, None),
    (uapi.AF_INET, uapi.RTM_DELROUTE): (rt_route.inet_rtm_delroute, None),
    (uapi.AF_INET6, uapi.RTM_GETROUTE): (rt_getroute.inet6_rtm_getroute, rt_route.inet6_dump_fib),
    (uapi.AF_INET6, uapi.RTM_NEWROUTE): (rt_route.inet6_rtm_newroute, None),
    (uapi.AF_INET6, uapi.RTM_DELROUTE): (rt_route.inet6_rtm_delroute, None),
    (uapi.AF_UNSPEC, uapi.RTM_NEWRULE): (rt_rule.fib_nl_newrule, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELRULE): (rt_rule.fib_nl_delrule, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETRULE): (None, rt_rule.fib_nl_dumprule),
    (uapi.AF_UNSPEC, uapi.RTM_NEWQDISC): (rt_qdisc.tc_modify_qdisc, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELQDISC): (rt_qdisc.tc_get_qdisc, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETQDISC): (rt_qdisc.tc_get_qdisc, rt_qdisc.tc_dump_qdisc),
    (uapi.AF_UNSPEC, uapi.RTM_NEWTCLASS): (rt_qdisc.tc_ctl_tclass, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELTCLASS): (rt_qdisc.tc_ctl_tclass, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETTCLASS): (rt_qdisc.tc_ctl_tclass, rt_qdisc.tc_dump_tclass),
    (uapi.AF_UNSPEC, uapi.RTM_NEWTFILTER): (rt_filter.tc_new_tfilter, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELTFILTER): (rt_filter.tc_del_tfilter, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETTFILTER): (rt_filter.tc_get_tfilter, rt_filter.tc_dump_tfilter),
    (uapi.AF_UNSPEC, uapi.RTM_NEWACTION): (rt_action.tc_ctl_action, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELACTION): (rt_action.tc_ctl_action, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETACTION): (rt_action.tc_ctl_action, rt_action.tc_dump_action),
    (uapi.AF_UNSPEC, uapi.RTM_NEWCHAIN): (rt_filter.tc_ctl_chain, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELCHAIN): (rt_filter.tc_ctl_chain, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETCHAIN): (rt_filter.tc_ctl_chain, rt_filter.tc_dump_chain),
    (uapi.AF_UNSPEC, uapi.RTM_NEWNEXTHOP): (rt_nexthop.rtm_new_nexthop, None),
    (uapi.AF_UNSPEC, uapi.RTM_DELNEXTHOP): (rt_nexthop.rtm_del_nexthop, None),
    (uapi.AF_UNSPEC, uapi.RTM_GETNEXTHOP):
        (rt_nexthop.rtm_get_nexthop, rt_nexthop.rtm_dump_nexthop),
    (uapi.AF_UNSPEC, uapi.RTM_GETNEXTHOPBUCKET):
        (rt_nexthop_bucket.rtm_get_nexthop_bucket, rt_nexthop_bucket.rtm_dump_nexthop_bucket),
    (uapi.AF_UNSPEC, uapi.RTM_GETNSID): (rt_netconf.rtnl_net_getid, rt_netconf.rtnl_net_dumpid),
    (uapi.AF_INET6, uapi.RTM_NEWADDRLABEL): (rt_addrlabel.ip6addrlbl_newdel, None),
    (uapi.AF_INET6, uapi.RTM_DELADDRLABEL): (rt_addrlabel.ip6addrlbl_newdel, None),
    (uapi.AF_INET6, uapi.RTM_GETADDRLABEL):
        (rt_addrlabel.ip6addrlbl_get, rt_addrlabel.ip6addrlbl_dump),
    (uapi.AF_UNSPEC, uapi.RTM_GETNETCONF): (None, rt_netconf.inet_netconf_dump_devconf),
    (uapi.AF_INET, uapi.RTM_GETNETCONF):
        (rt_netconf.inet_netconf_get_devconf, rt_netconf.inet_netconf_dump_devconf),
    (uapi.AF_INET6, uapi.RTM_GETNETCONF):
        (rt_netconf.inet_netconf_get_devconf, rt_netconf.inet_netconf_dump_devconf),
    (uapi.AF_UNSPEC, uapi.RTM_GETSTATS): (rt_stats.rtnl_stats_get, rt_stats.rtnl_stats_dump),
}
"""rtnl_register: the functions for one object and for a dump; by family and message. A
missing one falls back to AF_UNSPEC's."""
# fmt: on


def rtnl_get_link(family: int, kind: int, dump: bool) -> Any:
    """net/core/rtnetlink.c: the function for a message. Raises: NlError EOPNOTSUPP."""
    for each in (family, uapi.AF_UNSPEC):
        found = HANDLERS.get((each, kind), (None, None))[dump]
        if found is not None:
            return found
    raise NlError(errno.EOPNOTSUPP)


def rtnetlink_rcv_msg(nlh: nlmsg) -> None:
    """net/core/rtnetlink.c: answer one message. Raises: OSError."""
    if nlh.type > RTM_MAX:
        raise NlError(errno.EOPNOTSUPP)
    payload = nlh.payload
    if not payload:
        return
    kind = (nlh.type - RTM_BASE) & 3
    if kind != KIND_GET and not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    if kind == KIND_GET and nlh.flags & NLM_F_DUMP:
        dumpit: Dumpit = rtnl_get_link(payload[0], nlh.type, True)
        netlink_dump_start(nlh, netlink_callback(nlh, dumpit(nlh), dump_seq(nlh)))
        return
    doit: Doit = rtnl_get_link(payload[0], nlh.type, False)
    if kind == KIND_DEL and nlh.flags & NLM_F_BULK and doit is not rt_fdb.rtnl_fdb_del:
        raise NlError(errno.EOPNOTSUPP, "Bulk delete is not supported")
    net = nlh.sk.net
    heard = net.rtnl
    if nlh.flags & NLM_F_ECHO and heard is None:
        net.rtnl = partial(rtnl_event, net)  # for the requester
    try:
        doit(nlh)
    except ExtAckError:
        raise
    except OSError as exc:
        # The texts are for Python callers: Linux reports only the errno.
        raise NlError(exc.errno or errno.EIO) from None
    finally:
        net.rtnl = heard


def dump_seq(nlh: nlmsg) -> Callable[[], Any] | None:
    """net/core/rtnetlink.c nl_dump_check_consistent: what must stay the same during a dump."""
    table = nlh.sk.net.nl_table
    if nlh.type == uapi.RTM_GETLINK:
        return lambda: table.dev_base_seq
    if nlh.type == uapi.RTM_GETADDR:
        return lambda: (table.dev_base_seq, table.ifaddr_seq)
    return None


# --- notifications ------------------------------------------------------------------------------

FIRST_EVENTS = (
    *(netdevice.NETDEV_UP, netdevice.NETDEV_DOWN),
    *(netdevice.NETDEV_CHANGEMTU, netdevice.NETDEV_CHANGEADDR),
    *(netdevice.NETDEV_CHANGENAME, netdevice.NETDEV_CHANGEUPPER, netdevice.NETDEV_BONDING_FAILOVER),
    *(netdevice.NETDEV_NOTIFY_PEERS, netdevice.NETDEV_RESEND_IGMP),
)
"""Sent before their consequences, such as deleted routes."""
LAST_EVENTS = netdevice.NETDEV_REGISTER, netdevice.NETDEV_UNREGISTER, netdevice.NETDEV_CHANGE


def rtnetlink_event(event: int, dev: net_device) -> int:
    """net/core/rtnetlink.c: notify of an interface before other handlers act."""
    if event in FIRST_EVENTS:
        rtmsg_ifinfo(uapi.RTM_NEWLINK, dev, 0)
    return 0


def rtnetlink_last_event(event: int, dev: net_device) -> int:
    """net/core/dev.c: an interface was added, removed or changed; others have acted."""
    if event in LAST_EVENTS:
        kind = uapi.RTM_DELLINK if event == netdevice.NETDEV_UNREGISTER else uapi.RTM_NEWLINK
        rtmsg_ifinfo(kind, dev, 0 if event == netdevice.NETDEV_CHANGE else 0xFFFFFFFF)
    return 0


def rtmsg_ifinfo(kind: int, dev: net_device, change: int) -> None:
    """net/core/rtnetlink.c: notify of an interface."""
    net = dev.net
    net.nl_table.dev_base_seq += 1
    if net.nl_table.protocols[NETLINK_ROUTE].listeners.get(RTNLGRP_LINK):
        payload = rt_link.rtnl_fill_ifinfo(dev, change=change)
        nlmsg_notify(net, NETLINK_ROUTE, RTNLGRP_LINK, kind, payload)


def rtnl_event(net: Net, kind: int, what: Any, flags: int) -> None:
    """Notify the group of a neighbour, an address or a route of its change.

    `flags` are the message's (NLM_F_*). For IPv4 addresses, routes, rules and next hops it has
    port and number of the causing request; with NLM_F_ECHO the requester gets it, too.
    """
    by = rtnl_asked(net, kind)
    if kind in (uapi.RTM_NEWNEIGH, uapi.RTM_DELNEIGH, uapi.RTM_GETNEIGH):
        own = isinstance(what, neighbour)
        fill = rt_neigh.neigh_fill_info if own else lambda one: rt_fdb.fdb_fill_info(*one)
        portid = by.sk.portid if by is not None and own and kind == uapi.RTM_NEWNEIGH else 0
        _tell(net, rt_fdb.RTNLGRP_NEIGH, kind, fill, what, flags, portid=portid)
    elif isinstance(what, in_ifaddr):
        net.nl_table.ifaddr_seq += 1
        _tell(net, RTNLGRP_IPV4_IFADDR, kind, rt_addr.inet_fill_ifaddr, what, by=by)
    elif isinstance(what, inet6_ifaddr):
        net.nl_table.ifaddr_seq += 1
        _tell(net, RTNLGRP_IPV6_IFADDR, kind, rt_addr.inet6_fill_ifaddr, what)
    elif kind in (uapi.RTM_NEWNETCONF, uapi.RTM_DELNETCONF):
        group = rt_netconf.GROUPS[what[0]]
        _tell(net, group, kind, lambda one: rt_netconf.netconf_fill(*one), what)
    elif kind in (uapi.RTM_NEWRULE, uapi.RTM_DELRULE):
        ops, rule = what
        group = RTNLGRP_IPV6_RULE if ops.family == uapi.AF_INET6 else RTNLGRP_IPV4_RULE
        fill_rule = rt_rule.fib_nl_fill_rule
        _tell(net, group, kind, lambda one: fill_rule(net, ops, one), rule, by=by)
    elif isinstance(what, net_bridge_port):
        _tell(net, RTNLGRP_LINK, kind, lambda p: rt_link.br_fill_ifinfo(p.dev, p, kind), what)
    elif kind in (uapi.RTM_NEWMDB, uapi.RTM_DELMDB):
        _tell(net, RTNLGRP_MDB, kind, rt_mdb.nlmsg_populate_mdb_fill, what)
    elif kind in (uapi.RTM_NEWROUTE, uapi.RTM_DELROUTE) and isinstance(what, tuple):
        four = what[0].ops.family == RTNL_FAMILY_IPMR
        group = RTNLGRP_IPV4_MROUTE if four else RTNLGRP_IPV6_MROUTE
        _tell(net, group, kind, rt_mroute.ipmr_fill_mroute, what)
    elif isinstance(what, mr_report):
        four = what.mrt.ops.family == RTNL_FAMILY_IPMR
        group = RTNLGRP_IPV4_MROUTE_R if four else RTNLGRP_IPV6_MROUTE_R
        _tell(net, group, kind, rt_mroute.mr_fill_report, what)
    elif isinstance(what, tcf_chain):
        _tell(net, rt_qdisc.RTNLGRP_TC, kind, rt_filter.tc_chain_fill_node, what, flags)
    elif isinstance(what, nexthop):
        flags = by.flags if by is not None else 0
        node = rt_nexthop.nh_fill_node
        _tell(net, RTNLGRP_NEXTHOP, kind, lambda nh: node(nh, net.now()), what, flags, by)
    elif kind == uapi.RTM_NEWNEXTHOPBUCKET:
        nh, at = what
        bucket = rt_nexthop_bucket.nh_fill_res_bucket
        _tell(net, RTNLGRP_NEXTHOP, kind, lambda nh: bucket(nh, at, net.now()), nh)
    elif isinstance(what, fib_alias):
        route = rt_route.fib_dump_info
        _tell(net, RTNLGRP_IPV4_ROUTE, kind, lambda fa: route(net, fa), what, flags, by)
    else:
        route6 = rt_route.rt6_fill_node
        _tell(net, RTNLGRP_IPV6_ROUTE, kind, lambda rt: route6(net, rt), what, flags, by)


def rtnl_asked(net: Net, kind: int) -> nlmsg | None:
    """The request that caused such a change, or None."""
    nlh = net.nl_table.protocols[NETLINK_ROUTE].asked
    if nlh is None:
        return None
    # Routes change with an object that is replaced. Each object type has four consecutive numbers.
    of_object = nlh.type == uapi.RTM_NEWNEXTHOP and kind == uapi.RTM_NEWROUTE
    return nlh if of_object or nlh.type >> 2 == kind >> 2 else None


def _tell(
    net: Net,
    group: int,
    kind: int,
    fill: Callable[[Any], bytes],
    what: Any,
    flags: int = 0,
    by: nlmsg | None = None,
    portid: int = 0,
) -> None:
    """net/core/rtnetlink.c rtnl_notify: `by`: the causing request."""
    seq, echo = 0, False
    if by is not None:
        portid, seq, echo = by.sk.portid, by.seq, bool(by.flags & NLM_F_ECHO)
    if echo or net.nl_table.protocols[NETLINK_ROUTE].listeners.get(group):
        nlmsg_notify(net, NETLINK_ROUTE, group, kind, fill(what), flags, portid, echo, seq)


def rtnetlink_net_init(net: Net) -> None:
    """net/core/rtnetlink.c: NETLINK_ROUTE in a namespace."""

    rtnl = partial(rtnl_event, net)

    def bind() -> None:
        """Without listeners and dumps the calls are skipped."""
        net.rtnl = rtnl if proto.listeners else None

    proto = netlink_protocol(
        NETLINK_ROUTE, RTNLGRP_MAX, rtnetlink_rcv_msg, nonroot_recv=True, bind=bind
    )
    net.nl_table.protocols[NETLINK_ROUTE] = proto
    register_netdevice_notifier(net, rtnetlink_last_event)
    nexthop_net_init(net)
    net.netdev_chain.insert(0, rtnetlink_event)
