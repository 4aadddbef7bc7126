"""net/netfilter/nfnetlink.c: NETLINK_NETFILTER: the subsystems of netfilter, and their messages.

    nfnetlink_rcv_msg           the subsystem and its message by the two bytes of the type
        CALLBACKS               with the attributes, checked by the callback's table

A message behind the netlink header:

    | family 1 | version 1 | res_id 2, big-endian | attributes |

All of it is for root, asking too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from stack.net import Net
from stack.netlink import ctnetlink as ct
from stack.netlink.af_netlink import netlink_capable
from stack.netlink.ct_attrs import CTA, CTA_EXPECT, NFGENMSG
from stack.netlink.netlink_sock import NETLINK_NETFILTER, NLMSG_HDRLEN, netlink_protocol, nlmsg
from stack.netlink.nlattr import LIBERAL, Attrs, AttrTable, NlError

NFNL_MSG_BATCH_BEGIN = 16
NFNLGRP_MAX = 9
CONNTRACK_GROUPS = range(ct.NFNLGRP_CONNTRACK_NEW, ct.NFNLGRP_CONNTRACK_DESTROY + 1)


CALLBACKS: dict[tuple[int, int], tuple[Callable[[nlmsg, Attrs], None], AttrTable]] = {
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_NEW): (ct.ctnetlink_new_conntrack, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET): (ct.ctnetlink_get_conntrack, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_DELETE): (ct.ctnetlink_del_conntrack, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET_CTRZERO): (ct.ctnetlink_get_conntrack, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET_STATS_CPU): (ct.ctnetlink_stat_ct_cpu, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET_STATS): (ct.ctnetlink_stat_ct, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET_DYING): (ct.ctnetlink_get_ct_dying, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK, ct.CT_GET_UNCONFIRMED): (ct.ctnetlink_get_ct_dying, CTA),
    (ct.NFNL_SUBSYS_CTNETLINK_EXP, ct.EXP_GET): (ct.ctnetlink_get_expect, CTA_EXPECT),
}
"""struct nfnl_callback: what answers a message, and its attributes; by subsystem and message."""


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
    call, table = row
    call(nlh, table.parse(nlh.whole, NLMSG_HDRLEN + NFGENMSG.size, LIBERAL))


def nfnetlink_net_init(net: Net) -> None:
    """net/netfilter/nfnetlink.c: NETLINK_NETFILTER in a namespace."""

    def bind() -> None:
        """nfnetlink_bind_event: connections that begin while nobody listens have no events."""
        net.ct.ctnetlink_has_listener = any(group in proto.listeners for group in CONNTRACK_GROUPS)
        net.ct.nf_conntrack_event_cb = ct.ctnetlink_conntrack_event

    proto = netlink_protocol(NETLINK_NETFILTER, NFNLGRP_MAX, nfnetlink_rcv_msg, bind=bind)
    net.nl_table.protocols[NETLINK_NETFILTER] = proto
