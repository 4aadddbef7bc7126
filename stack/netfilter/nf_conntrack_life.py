"""How long a connection is tracked: timeouts, the table's limit, early drop, garbage collection.

net/netfilter/nf_conntrack_core.c.
"""

from __future__ import annotations

from fastpath.base.skbuff import sk_buff
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.net import Net
from stack.netfilter import nf_conntrack
from stack.netfilter.nf_conntrack import netns_ct, nf_conn
from stack.netfilter.nf_conntrack_ecache import (
    IPCT_ASSURED,
    IPCT_DESTROY,
    nf_conntrack_event_cache,
    nf_conntrack_eventmask_report,
)

GC_SCAN_INTERVAL_MIN_NS = 1 * NSEC_PER_SEC
GC_SCAN_INTERVAL_MAX_NS = 60 * NSEC_PER_SEC


def nf_ct_is_expired(ct: nf_conn) -> bool:
    """include/net/netfilter/nf_conntrack.h: the connection has timed out."""
    now: int = ct.net.clock.now_ns()
    return ct.timeout <= now


def nf_ct_expires(ct: nf_conn) -> int:
    """include/net/netfilter/nf_conntrack.h: ns until the connection times out, at least 0."""
    now: int = ct.net.clock.now_ns()
    return max(ct.timeout - now, 0)


def nf_ct_acct_update(ct: nf_conn, ctinfo: int, skb: sk_buff) -> None:
    """net/netfilter/nf_conntrack_core.c: count packet and bytes (sysctl nf_conntrack_acct)."""
    if not ct.net.sysctl.nf_conntrack_acct:
        return
    if ctinfo >= nf_conntrack.IP_CT_IS_REPLY:
        ct.reply_packets += 1
        ct.reply_bytes += skb.len
    else:
        ct.orig_packets += 1
        ct.orig_bytes += skb.len


def nf_ct_refresh_acct(ct: nf_conn, ctinfo: int, skb: sk_buff, extra_ns: int) -> None:
    """net/netfilter/nf_conntrack_core.c: restart the timeout with `extra_ns`; count the packet."""
    if ct.status & nf_conntrack.IPS_CONFIRMED:
        extra_ns += ct.net.clock.now_ns()
    ct.timeout = extra_ns
    nf_ct_acct_update(ct, ctinfo, skb)


def nf_ct_assured(ct: nf_conn) -> None:
    """Set IPS_ASSURED: a full table does not drop it early."""
    ct.status |= nf_conntrack.IPS_ASSURED
    ct.net.ct.unassured.pop(ct, None)
    nf_conntrack_event_cache(IPCT_ASSURED, ct)


def nf_ct_all(table: netns_ct) -> list[nf_conn]:
    """Each connection of the table. A socket that sends to itself has one tuple for both
    directions, so only the reply is found there, as on Linux."""
    return [one.ct for one in table.hash.values() if not one.dir or one.tuple == one.ct.orig.tuple]


def nf_ct_count(table: netns_ct, delta: int) -> None:
    """Change the number of connections, and sysctl nf_conntrack_count."""
    table.count += delta
    table.net.sysctl.publish("nf_conntrack_count", table.count)


def nf_ct_delete(ct: nf_conn, portid: int = 0, report: bool = False) -> bool:
    """net/netfilter/nf_conntrack_core.c: delete from the table; False: it was already deleted.

    `portid`, `report`: see nf_conntrack_eventmask_report.
    """
    if ct.status & nf_conntrack.IPS_DYING:
        return False
    ct.status |= nf_conntrack.IPS_DYING
    if not ct.status & nf_conntrack.IPS_CONFIRMED:
        return True
    if ct.ecache is not None:
        nf_conntrack_eventmask_report(IPCT_DESTROY, ct, portid, report)
    table: netns_ct = ct.net.ct
    table.unassured.pop(ct, None)
    for one in (ct.orig, ct.reply):
        if table.hash.get(one.tuple) is one:
            del table.hash[one.tuple]
    if ct.status & nf_conntrack.IPS_SRC_NAT_DONE:
        nf_nat_cleanup_conntrack(table, ct)
    nf_ct_count(table, -1)
    return True


def nf_nat_bysource_add(table: netns_ct, ct: nf_conn) -> None:
    """net/netfilter/nf_nat_core.c (in nf_nat_setup_info): list the connection by its source."""
    tup = ct.orig.tuple
    table.nat_bysource.setdefault((tup[0], tup[1], tup[2], tup[3]), []).append(ct)


def nf_nat_cleanup_conntrack(table: netns_ct, ct: nf_conn) -> None:
    """net/netfilter/nf_nat_core.c: remove the connection from the list of its source."""
    tup = ct.orig.tuple
    key = tup[0], tup[1], tup[2], tup[3]
    same = table.nat_bysource.get(key)
    if same is not None and ct in same:
        same.remove(ct)
        if not same:
            del table.nat_bysource[key]


def nf_ct_kill_acct(ct: nf_conn, ctinfo: int, skb: sk_buff) -> None:
    """net/netfilter/nf_conntrack_core.c: count a connection's last packet and delete it."""
    nf_ct_acct_update(ct, ctinfo, skb)
    nf_ct_delete(ct)


def early_drop(table: netns_ct) -> bool:
    """net/netfilter/nf_conntrack_core.c: make room in a full table. Deletes the oldest connection
    that is not assured. False: all are assured.

    The kernel searches eight hash chains for one.
    """
    for ct in table.unassured:
        nf_ct_delete(ct)
        table.stat.early_drop += 1
        return True
    return False


def gc_worker(timer: timer_list) -> None:
    """net/netfilter/nf_conntrack_core.c: delete connections that timed out. Runs again at the next
    timeout, after a second at the earliest and a minute at the latest, unless the table is empty.
    """
    table: netns_ct = timer.data
    now = table.net.clock.now_ns()
    soonest = now + GC_SCAN_INTERVAL_MAX_NS
    over: list[nf_conn] = []
    ct: nf_conn
    for ct in nf_ct_all(table):
        if ct.timeout <= now:
            over.append(ct)
        elif ct.timeout < soonest:
            soonest = ct.timeout
    for ct in over:
        nf_ct_delete(ct)
    if table.hash:
        mod_timer(timer, max(soonest, now + GC_SCAN_INTERVAL_MIN_NS))


def gc_start(table: netns_ct) -> None:
    """Start garbage collection, unless it runs: the table has got a connection."""
    timer = table.gc_timer
    if timer is None:
        machine = table.net.machine
        timer = table.gc_timer = timer_list(machine, gc_worker, TIMER_DEFERRABLE, data=table)
    if not timer.pending:
        mod_timer(timer, table.net.clock.now_ns() + GC_SCAN_INTERVAL_MIN_NS)


def nf_conntrack_cleanup_net(net: Net) -> None:
    """net/netfilter/nf_conntrack_core.c: nobody tracks connections any more, or the namespace ends:
    delete all of them.
    """
    table: netns_ct = net.ct
    for one in list(table.hash.values()):
        nf_ct_delete(one.ct)
    if table.gc_timer is not None:
        timer_delete(table.gc_timer)
