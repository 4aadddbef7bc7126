"""net/netfilter/nfnetlink.c: NETLINK_NETFILTER: the subsystems of netfilter, and their messages.

    nfnetlink_rcv               a batch (nf_tables), else message after message
        nfnetlink_rcv_batch     all or nothing; errors are sent at its end
        nfnetlink_rcv_msg       the subsystem and its message by the two bytes of the type
            CALLBACKS           with the attributes, checked by the callback's table

A message after the netlink header:

    | family 1 | version 1 | res_id 2, big-endian | attributes |

All messages need root, queries too.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from sys import byteorder

from stack.core.uapi import NLM_F_REQUEST
from stack.net import Net
from stack.netfilter.nf_tables import nft_pernet
from stack.netfilter.nft_attrs import NFNL_BATCH
from stack.netfilter.nft_expr_attrs import NFTA_COMPAT
from stack.netlink import ctnetlink as ct
from stack.netlink import nf_tables_api as nf_tables
from stack.netlink import nfnetlink_log as ulog
from stack.netlink import nfnetlink_queue as queue
from stack.netlink.af_netlink import messages_of, netlink_ack, netlink_capable
from stack.netlink.ct_attrs import CTA, CTA_EXPECT, NFGENMSG
from stack.netlink.netlink_sock import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NLMSG_HDRLEN,
    netlink_protocol,
    netlink_sock,
    nlmsg,
)
from stack.netlink.nf_tables_trans import (
    NEWRULE,
    NEWSETELEM,
    NFNL_SUBSYS_NFTABLES,
    NFNLGRP_NFTRACE,
    nft_trace_send,
)
from stack.netlink.nft_compat_api import (
    NFNL_MSG_COMPAT_GET,
    NFNL_SUBSYS_NFT_COMPAT,
    nfnl_compat_get,
)
from stack.netlink.nlattr import LIBERAL, Attrs, AttrTable, NlError, nla_for_each

NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END = 16, 17
NFNL_SUBSYS_COUNT = 13
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
    (NFNL_SUBSYS_NFT_COMPAT, NFNL_MSG_COMPAT_GET): (nfnl_compat_get, NFTA_COMPAT),
    (ulog.NFNL_SUBSYS_ULOG, ulog.NFULNL_MSG_PACKET): (ulog.nfulnl_recv_unsupp, AttrTable("NFULA")),
    (ulog.NFNL_SUBSYS_ULOG, ulog.NFULNL_MSG_CONFIG): (ulog.nfulnl_recv_config, ulog.NFULA_CFG),
    (queue.NFNL_SUBSYS_QUEUE, queue.NFQNL_MSG_PACKET): (
        queue.nfqnl_recv_unsupp,
        AttrTable("NFQA", last=queue.NFQA_MAX),
    ),
    (queue.NFNL_SUBSYS_QUEUE, queue.NFQNL_MSG_VERDICT): (
        queue.nfqnl_recv_verdict,
        queue.NFQA_VERDICT,
    ),
    (queue.NFNL_SUBSYS_QUEUE, queue.NFQNL_MSG_CONFIG): (queue.nfqnl_recv_config, queue.NFQA_CFG),
    (queue.NFNL_SUBSYS_QUEUE, queue.NFQNL_MSG_VERDICT_BATCH): (
        queue.nfqnl_recv_verdict_batch,
        queue.NFQA_VERDICT_BATCH,
    ),
    **{(NFNL_SUBSYS_NFTABLES, number): row for number, row in nf_tables.ASKED.items()},
}
"""struct nfnl_callback: the handler of a message, and its attributes; by subsystem and message."""


def attributes(nlh: nlmsg, table: AttrTable) -> Attrs:
    """The attributes of a message. Raises: NlError EINVAL, ERANGE."""
    return table.parse(nlh.whole, NLMSG_HDRLEN + NFGENMSG.size, LIBERAL)


def nfnetlink_rcv_msg(nlh: nlmsg) -> None:
    """net/netfilter/nfnetlink.c: answer one message. Raises: NlError EPERM, EINVAL."""
    if not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    if len(nlh.payload) < NFGENMSG.size:
        return
    row = CALLBACKS.get((nlh.type >> 8, nlh.type & 0xFF))
    if row is None:
        if nlh.type >> 8 == NFNL_SUBSYS_NFTABLES and nlh.type & 0xFF in nf_tables.BATCH:
            attributes(nlh, nf_tables.BATCH[nlh.type & 0xFF][1])
        raise NlError(errno.EINVAL)
    call, table = row
    call(nlh, attributes(nlh, table))


# --- batches --------------------------------------------------------------------------------------


def nfnetlink_rcv(sk: netlink_sock, data: bytes) -> bool:
    """net/netfilter/nfnetlink.c: process a batch; False: it is not a batch."""
    messages = messages_of(sk, data)
    first = next(messages, None)
    if first is None or first.type != NFNL_MSG_BATCH_BEGIN:
        return False
    if not netlink_capable(sk):
        netlink_ack(first, NlError(errno.EPERM))
    elif len(first.payload) >= NFGENMSG.size:
        nfnetlink_rcv_skb_batch(first, messages)
    return True


def nfnetlink_rcv_skb_batch(first: nlmsg, messages: Iterator[nlmsg | None]) -> None:
    """net/netfilter/nfnetlink.c: the subsystem and generation of a batch."""
    try:
        genid: int = attributes(first, NFNL_BATCH).get("NFNL_BATCH_GENID", 0)
    except NlError as exc:
        netlink_ack(first, NlError(exc.errno or errno.EINVAL))
        return
    subsys = NFGENMSG.unpack_from(first.payload)[2]
    if subsys == NFNL_SUBSYS_NFTABLES << 8 and byteorder == "little":
        subsys = NFNL_SUBSYS_NFTABLES  # an old nft, which did not swap the bytes
    if subsys >= NFNL_SUBSYS_COUNT:
        netlink_ack(first, NlError(errno.EINVAL))
    elif subsys != NFNL_SUBSYS_NFTABLES:
        netlink_ack(first, NlError(errno.EOPNOTSUPP))
    elif not nf_tables.nf_tables_valid_genid(first.sk.net, genid):
        netlink_ack(first, NlError(errno.ERESTART))
    else:
        nfnetlink_rcv_batch(first, list(messages), False)


def nfnetlink_rcv_batch(first: nlmsg, messages: list[nlmsg | None], validates: bool) -> None:
    """net/netfilter/nfnetlink.c: process each message, then commit or undo.

    Rules are validated at the end. If that fails, the batch is repeated with `validates` after each
    rule: then the error is assigned to the wrong message.
    """
    net = first.sk.net
    errors: list[tuple[nlmsg, NlError | None]] = []
    failed, done = False, False
    if first.flags & NLM_F_ACK:
        errors.append((first, None))
    for nlh in messages:
        if nlh is None or len(nlh.payload) < NFGENMSG.size or nlh.type == NFNL_MSG_BATCH_BEGIN:
            errors.clear()
            failed = True
            break
        done = nlh.type == NFNL_MSG_BATCH_END and bool(nlh.flags & NLM_F_REQUEST)
        wrong = None if done else batch_message(nlh, validates)
        if nlh.flags & NLM_F_ACK or wrong is not None:
            errors.append((nlh, wrong))
        if wrong is not None:
            failed = True
        if done:
            break
    if done and not failed:
        try:
            nf_tables.nf_tables_validate(net)
        except NlError as exc:
            nf_tables.nf_tables_abort(net)
            if not validates:
                nfnetlink_rcv_batch(first, messages, True)
                return
            errors.append((first, NlError(exc.errno or errno.EINVAL)))
        else:
            nf_tables.nf_tables_commit(net, messages[0] or first)
    else:
        nf_tables.nf_tables_abort(net)
    for asked, wrong in errors:
        netlink_ack(asked, wrong)


def batch_message(nlh: nlmsg, validates: bool) -> NlError | None:
    """Process one message of a batch; returns its error."""
    row = nf_tables.BATCH.get(nlh.type & 0xFF)
    ours = nlh.flags & NLM_F_REQUEST and nlh.type >> 8 == NFNL_SUBSYS_NFTABLES
    if row is None or not ours:
        return NlError(errno.EINVAL)
    call, table = row
    try:
        tb = attributes(nlh, table)
    except NlError as exc:
        top = {at for _, at, _ in nla_for_each(nlh.whole, NLMSG_HDRLEN + NFGENMSG.size)}
        return exc if exc.at in top else NlError(exc.errno or errno.EINVAL)
    try:
        call(nlh, tb)
        if validates and nlh.type & 0xFF in (NEWRULE, NEWSETELEM):
            nf_tables.nf_tables_validate(nlh.sk.net)
    except NlError as exc:
        # Errors in nested attributes have no text and no offset.
        return NlError(exc.errno or errno.EINVAL) if exc.msg else exc
    return None


def nfnetlink_net_init(net: Net) -> None:
    """net/netfilter/nfnetlink.c: NETLINK_NETFILTER in a namespace."""

    def bind() -> None:
        """nfnetlink_bind_event: connections created without listeners have no events."""
        net.ct.ctnetlink_has_listener = any(group in proto.listeners for group in CONNTRACK_GROUPS)
        net.ct.nf_conntrack_event_cb = ct.ctnetlink_conntrack_event
        traced = NFNLGRP_NFTRACE in proto.listeners
        nft_pernet(net).trace_send = partial(nft_trace_send, net) if traced else None

    def release(portid: int) -> None:
        """The notifiers of NETLINK_URELEASE."""
        nf_tables.nft_rcv_nl_event(net, portid)
        ulog.nfulnl_rcv_nl_event(net, portid)
        queue.nfqnl_rcv_nl_event(net, portid)

    nf_tables.nf_tables_net_init(net)
    ulog.nfnl_log_net_init(net)
    queue.nfnl_queue_net_init(net)
    proto = netlink_protocol(NETLINK_NETFILTER, NFNLGRP_MAX, nfnetlink_rcv_msg, bind=bind)
    proto.input = nfnetlink_rcv
    proto.release = release
    net.nl_table.protocols[NETLINK_NETFILTER] = proto
