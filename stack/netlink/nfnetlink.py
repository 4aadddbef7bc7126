"""net/netfilter/nfnetlink.c: NETLINK_NETFILTER: the subsystems of netfilter, and their messages.

    nfnetlink_rcv_msg           the subsystem and its message by the two bytes of the type
        nfnl_callback.call      with the attributes, checked by the callback's table

A message behind the netlink header:

    | family 1 | version 1 | res_id 2, big-endian | attributes |

All of it is for root, asking too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass

from stack.net import Net
from stack.netlink.af_netlink import netlink_capable
from stack.netlink.ct_attrs import CTA, CTA_EXPECT, NFGENMSG
from stack.netlink.ctnetlink import (
    CT_DELETE,
    CT_GET,
    CT_GET_CTRZERO,
    CT_GET_DYING,
    CT_GET_STATS,
    CT_GET_STATS_CPU,
    CT_GET_UNCONFIRMED,
    CT_NEW,
    EXP_GET,
    NFNL_SUBSYS_CTNETLINK,
    NFNL_SUBSYS_CTNETLINK_EXP,
    NFNLGRP_CONNTRACK_DESTROY,
    NFNLGRP_CONNTRACK_NEW,
    ctnetlink_conntrack_event,
    ctnetlink_del_conntrack,
    ctnetlink_get_conntrack,
    ctnetlink_get_ct_dying,
    ctnetlink_get_expect,
    ctnetlink_new_conntrack,
    ctnetlink_stat_ct,
    ctnetlink_stat_ct_cpu,
)
from stack.netlink.netlink_sock import NETLINK_NETFILTER, NLMSG_HDRLEN, netlink_protocol, nlmsg
from stack.netlink.nlattr import LIBERAL, Attrs, AttrTable, NlError

NFNL_MSG_BATCH_BEGIN = 16
NFNLGRP_MAX = 9
CONNTRACK_GROUPS = range(NFNLGRP_CONNTRACK_NEW, NFNLGRP_CONNTRACK_DESTROY + 1)


@dataclass(frozen=True, slots=True)
class nfnl_callback:
    """struct nfnl_callback: one message of a subsystem."""

    call: Callable[[nlmsg, Attrs], None]
    table: AttrTable


CALLBACKS: dict[tuple[int, int], nfnl_callback] = {
    (NFNL_SUBSYS_CTNETLINK, CT_NEW): nfnl_callback(ctnetlink_new_conntrack, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET): nfnl_callback(ctnetlink_get_conntrack, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_DELETE): nfnl_callback(ctnetlink_del_conntrack, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET_CTRZERO): nfnl_callback(ctnetlink_get_conntrack, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET_STATS_CPU): nfnl_callback(ctnetlink_stat_ct_cpu, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET_STATS): nfnl_callback(ctnetlink_stat_ct, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET_DYING): nfnl_callback(ctnetlink_get_ct_dying, CTA),
    (NFNL_SUBSYS_CTNETLINK, CT_GET_UNCONFIRMED): nfnl_callback(ctnetlink_get_ct_dying, CTA),
    (NFNL_SUBSYS_CTNETLINK_EXP, EXP_GET): nfnl_callback(ctnetlink_get_expect, CTA_EXPECT),
}
"""By subsystem and message."""


def nfnetlink_rcv_msg(nlh: nlmsg) -> None:
    """net/netfilter/nfnetlink.c: answer one message. Raises: NlError EPERM, EINVAL, EOPNOTSUPP."""
    if not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    if nlh.type == NFNL_MSG_BATCH_BEGIN:
        raise NlError(errno.EOPNOTSUPP)
    if len(nlh.payload) < NFGENMSG.size:
        return
    row = CALLBACKS.get((nlh.type >> 8, nlh.type & 0xFF))
    if row is None:
        raise NlError(errno.EINVAL)
    row.call(nlh, row.table.parse(nlh.whole, NLMSG_HDRLEN + NFGENMSG.size, LIBERAL))


def nfnetlink_net_init(net: Net) -> None:
    """net/netfilter/nfnetlink.c: NETLINK_NETFILTER in a namespace."""

    def bind() -> None:
        """nfnetlink_bind_event: connections that begin while nobody listens have no events."""
        net.ct.ctnetlink_has_listener = any(group in proto.listeners for group in CONNTRACK_GROUPS)
        net.ct.nf_conntrack_event_cb = ctnetlink_conntrack_event

    proto = netlink_protocol(NETLINK_NETFILTER, NFNLGRP_MAX, nfnetlink_rcv_msg, bind=bind)
    net.nl_table.protocols[NETLINK_NETFILTER] = proto
