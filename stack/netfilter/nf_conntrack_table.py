"""The connection table: look up, insert, allocate (net/netfilter/nf_conntrack_core.c)."""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.netfilter import NF_ACCEPT, NF_DROP, nf_hook_state
from stack.core.uapi import IPPROTO_TCP
from stack.net import Net
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import Tuple, netns_ct, nf_conn, nf_conntrack_tuple_hash
from stack.netfilter.nf_conntrack_ecache import (
    IPCT_NEW,
    nf_conntrack_event_cache,
    nf_ct_deliver_cached_events,
    nf_ct_ecache_ext_add,
)
from stack.netfilter.nf_conntrack_life import (
    early_drop,
    gc_start,
    nf_ct_count,
    nf_ct_delete,
    nf_ct_is_expired,
    nf_nat_bysource_add,
)

CONFIRMED_AND_EVENTS = nf_conntrack.IPS_CONFIRMED | nf_conntrack.IPS_EVENTS


def nf_conntrack_find_get(net: Net, tup: Tuple) -> nf_conntrack_tuple_hash | None:
    """net/netfilter/nf_conntrack_core.c: find a tuple; an expired connection is deleted."""
    found: nf_conntrack_tuple_hash | None = net.ct.hash.get(tup)
    if found is None:
        return None
    ct: nf_conn = found.ct
    if nf_ct_is_expired(ct):
        nf_ct_delete(ct)
        return None
    return found


def nf_conntrack_alloc(net: Net, orig: Tuple, reply: Tuple) -> nf_conn | None:
    """net/netfilter/nf_conntrack_core.c: create a connection, not yet in the table; None: the table
    has nf_conntrack_max.
    """
    table: netns_ct = net.ct
    limit = net.sysctl.nf_conntrack_max
    if limit and table.count >= limit and not early_drop(table):
        return None
    ct = nf_conn(net, orig[0], orig[1])
    ct.orig = nf_conntrack_tuple_hash(ct, nf_conntrack.IP_CT_DIR_ORIGINAL, orig)
    ct.reply = nf_conntrack_tuple_hash(ct, nf_conntrack.IP_CT_DIR_REPLY, reply)
    nf_ct_ecache_ext_add(ct)
    return ct


def nf_conntrack_tuple_taken(tup: Tuple, ignored: nf_conn) -> bool:
    """net/netfilter/nf_conntrack_core.c: whether another connection has this tuple."""
    found = nf_conntrack_find_get(ignored.net, tup)
    return found is not None and found.ct is not ignored


def nf_conntrack_confirm(skb: sk_buff, state: nf_hook_state) -> int:
    """net/netfilter/nf_conntrack_core.c: the last hook: insert the packet's connection, and send
    its events.
    """
    ct: nf_conn | None = skb.nfct
    if ct is None or ct.status & CONFIRMED_AND_EVENTS == nf_conntrack.IPS_CONFIRMED:
        return NF_ACCEPT
    if not ct.status & nf_conntrack.IPS_CONFIRMED:
        if skb.nfctinfo >= nf_conntrack.IP_CT_IS_REPLY:
            return NF_ACCEPT
        ret = __nf_conntrack_confirm(skb, ct)
        if ret != NF_ACCEPT:
            return ret
        ct = skb.nfct
    if ct is not None:
        nf_ct_deliver_cached_events(ct)
    return NF_ACCEPT


def __nf_conntrack_confirm(skb: sk_buff, ct: nf_conn) -> int:
    """net/netfilter/nf_conntrack_core.c: insert a connection whose tuples are not in the table."""
    net: Net = ct.net
    table: netns_ct = net.ct
    if ct.status & nf_conntrack.IPS_DYING:
        table.stat.insert_failed += 1
        return NF_DROP
    other = nf_conntrack_find_get(net, ct.orig.tuple)
    if other is None:
        other = nf_conntrack_find_get(net, ct.reply.tuple)
    if other is not None:
        return nf_ct_resolve_clash(skb, ct, other)
    ct.timeout += net.clock.now_ns()
    __nf_conntrack_hash_insert(ct)
    if ct.status & nf_conntrack.IPS_SRC_NAT_DONE:
        nf_nat_bysource_add(table, ct)
    nf_conntrack_event_cache(IPCT_NEW, ct)
    return NF_ACCEPT


def __nf_conntrack_hash_insert(ct: nf_conn) -> None:
    """net/netfilter/nf_conntrack_core.c: insert a connection into the table, with IPS_CONFIRMED."""
    table: netns_ct = ct.net.ct
    ct.status |= nf_conntrack.IPS_CONFIRMED
    table.hash[ct.orig.tuple] = ct.orig
    table.hash[ct.reply.tuple] = ct.reply
    if not ct.status & nf_conntrack.IPS_ASSURED:
        table.unassured[ct] = None
    nf_ct_count(table, 1)
    table.stat.insert += 1
    gc_start(table)


def nf_ct_join(skb: sk_buff, ct: nf_conn) -> nf_conn:
    """Before source NAT: the packet's connection, or one of the same flow confirmed meanwhile.

    Packets of one flow that were received as one list are all looked up before the first one is
    confirmed. The kernel handles this in nf_nat_used_tuple_new and nf_ct_resolve_clash, for UDP.
    """
    found: nf_conntrack_tuple_hash | None = ct.net.ct.hash.get(ct.orig.tuple)
    if found is None or found.ct is ct or ct.protonum == IPPROTO_TCP:
        return ct
    same: nf_conn = found.ct
    mine, theirs = ct.reply.tuple, same.reply.tuple
    if mine[2] != theirs[2] or mine[5] != theirs[5] or nf_ct_is_expired(same):
        return ct  # different destinations: one will be dropped
    nf_ct_delete(ct)
    ct.net.ct.stat.clash_resolve += 1
    skb.nfct = same
    return same


def nf_ct_resolve_clash(skb: sk_buff, ct: nf_conn, other: nf_conntrack_tuple_hash) -> int:
    """net/netfilter/nf_conntrack_core.c: confirm the second of two packets of one flow, both looked
    up before either was confirmed. It joins the first one's connection if the tuples agree, else it
    is dropped. The kernel lets only UDP join (allow_clash); here all but TCP do.
    """
    table: netns_ct = ct.net.ct
    same: nf_conn = other.ct
    if (
        ct.protonum != IPPROTO_TCP
        and same.orig.tuple == ct.orig.tuple
        and same.reply.tuple == ct.reply.tuple
    ):
        nf_ct_delete(ct)
        skb.nfct = same
        table.stat.clash_resolve += 1
        return NF_ACCEPT
    nf_ct_delete(ct)
    table.stat.insert_failed += 1
    table.stat.drop += 1
    return NF_DROP
