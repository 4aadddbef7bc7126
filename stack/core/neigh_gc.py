"""net/core/neighbour.c: removal of neighbours: garbage collection, thresholds, devices going down.

A table holds at most `gc_thresh3` entries. From `gc_thresh2` on old ones are dropped by force. From
`gc_thresh1` on the periodic work drops those that were not used. Proxies (`pneigh`) are here too.
"""

from __future__ import annotations

from fastpath.base.skbuff import kfree_skb, sk_buff
from stack.core import drop_reason, uapi
from stack.core.drop_reason import kfree_skb_reason
from stack.core.neigh_table import (
    neigh_blackhole,
    neigh_key,
    neigh_parms,
    neigh_rand_reach_time,
    neigh_table,
    neighbour,
    pneigh_entry,
)
from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import RTM_DELNEIGH


def neigh_table_init(tbl: neigh_table) -> None:
    """net/core/neighbour.c: start the table's periodic work and its proxies' queue."""
    net = tbl.net
    parms = tbl.parms
    parms.reachable_time = neigh_rand_reach_time(net, parms.base_reachable_time)
    tbl.gc_timer = timer_list(net.machine, neigh_periodic_work, TIMER_DEFERRABLE, data=tbl)
    tbl.proxy_timer = timer_list(net.machine, neigh_proxy_process, data=tbl)
    mod_timer(tbl.gc_timer, net.clock.now_ns() + parms.base_reachable_time // 2)


# --- removal -----------------------------------------------------------------------------------


def neigh_remove_one(n: neighbour) -> None:
    """net/core/neighbour.c: unlink, stop the timer, free what waits."""
    tbl = n.tbl
    key = neigh_key(n.dev, n.primary_key)
    if tbl.hash.get(key) is n:
        del tbl.hash[key]
    n.dead = True
    if n.net.rtnl is not None:
        n.net.rtnl(RTM_DELNEIGH, n, 0)
    timer_delete(n.timer)
    for skb in n.arp_queue:
        n.arp_queue.unlink(skb)
        kfree_skb_reason(n.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_DEAD)
    n.arp_queue_len_bytes = 0
    n.output = neigh_blackhole
    n.nud_state = uapi.NUD_NOARP if n.nud_state & uapi.NUD_VALID else uapi.NUD_NONE
    n.hh.hh_len = 0
    n.hh.hh_data = b""
    tbl.stats.destroys += 1


def neigh_forced_gc(tbl: neigh_table) -> int:
    """net/core/neighbour.c: make room: drop old entries that are not in use. How many."""
    max_clean = len(tbl.hash) - tbl.gc_thresh2
    tbl.stats.forced_gc_runs += 1
    now = tbl.net.clock.now_ns()
    shrunk = 0
    # Oldest first: the dict keeps the order of creation.
    for n in tbl:
        if shrunk >= max_clean:
            break
        if (
            n.nud_state & uapi.NUD_PERMANENT
            or n.flags & uapi.NTF_EXT_LEARNED
            or (n.arp_queue.qlen and n.nud_state != uapi.NUD_INCOMPLETE)
        ):
            continue
        if (
            n.nud_state == uapi.NUD_FAILED
            or n.nud_state == uapi.NUD_NOARP
            or now > n.updated + 5 * NSEC_PER_SEC
        ):
            neigh_remove_one(n)
            shrunk += 1
    tbl.last_flush = now
    return shrunk


def neigh_periodic_work(timer: timer_list) -> None:
    """net/core/neighbour.c: remove entries unused for long; new random reachable time."""
    tbl: neigh_table = timer.data
    now = tbl.net.clock.now_ns()
    tbl.stats.periodic_gc_runs += 1
    if now > tbl.last_rand + 300 * NSEC_PER_SEC:
        tbl.last_rand = now
        for parms in (tbl.parms, *tbl.parms_list):
            parms.reachable_time = neigh_rand_reach_time(tbl.net, parms.base_reachable_time)
    if len(tbl.hash) >= tbl.gc_thresh1:
        for n in tbl:
            if (
                n.nud_state & (uapi.NUD_PERMANENT | uapi.NUD_IN_TIMER)
                or n.flags & uapi.NTF_EXT_LEARNED
            ):
                continue
            n.used = max(n.used, n.confirmed)
            if n.nud_state == uapi.NUD_FAILED or now > n.used + n.parms.gc_staletime:
                neigh_remove_one(n)
    mod_timer(timer, now + tbl.parms.base_reachable_time // 2)


def neigh_flush_dev(tbl: neigh_table, dev: net_device | None, skip_perm: bool) -> None:
    """net/core/neighbour.c: remove the entries of a device (None: all)."""
    for n in tbl:
        if dev is not None and n.dev is not dev:
            continue
        if skip_perm and n.nud_state & uapi.NUD_PERMANENT:
            continue
        neigh_remove_one(n)


def neigh_changeaddr(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: our own MAC address changed: drop learned entries."""
    neigh_flush_dev(tbl, dev, False)


def neigh_ifdown(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: the interface went down: remove its entries and proxies."""
    neigh_flush_dev(tbl, dev, False)
    pneigh_ifdown(tbl, dev)


def neigh_carrier_down(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: the link went down; administrator's entries stay."""
    neigh_flush_dev(tbl, dev, True)


def neigh_table_clear(tbl: neigh_table) -> None:
    """net/core/neighbour.c: the host ends."""
    if tbl.gc_timer is not None:
        timer_delete(tbl.gc_timer)
    for timer in (tbl.managed_timer, tbl.proxy_timer):
        if timer is not None:
            timer_delete(timer)
    pneigh_queue_purge(tbl, None)
    neigh_flush_dev(tbl, None, False)


# --- proxies -----------------------------------------------------------------------------------


def pneigh_lookup(tbl: neigh_table, key: wide, dev: net_device) -> pneigh_entry | None:
    """net/core/neighbour.c: the proxy entry of an address, for this interface or for all."""
    phash = tbl.phash
    if not phash:
        return None
    return phash.get((key, dev.ifindex)) or phash.get((key, 0))


def pneigh_create(tbl: neigh_table, key: wide, dev: net_device | None) -> pneigh_entry:
    """net/core/neighbour.c: answer for `key` (`ip neigh add proxy`); or the entry that exists."""
    where = (key, dev.ifindex if dev is not None else 0)
    entry = tbl.phash.get(where)
    if entry is None:
        entry = tbl.phash[where] = pneigh_entry(key, dev)
        if tbl.pconstructor is not None:
            tbl.pconstructor(entry)
    return entry


def pneigh_delete(tbl: neigh_table, key: wide, dev: net_device | None) -> bool:
    """net/core/neighbour.c: answer no more. False when there was no such entry."""
    entry = tbl.phash.pop((key, dev.ifindex if dev is not None else 0), None)
    if entry is not None and tbl.pdestructor is not None:
        tbl.pdestructor(entry)
    return entry is not None


def pneigh_ifdown(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: remove the interface's proxies and their delayed solicitations."""
    for entry in tuple(tbl.phash.values()):
        if entry.dev is dev:
            pneigh_delete(tbl, entry.key, dev)
    pneigh_queue_purge(tbl, dev)


def pneigh_queue_purge(tbl: neigh_table, dev: net_device | None) -> None:
    """net/core/neighbour.c: free the solicitations that wait (of one interface, None: of all)."""
    kept = []
    for when, skb in tbl.proxy_queue:
        if dev is None or skb.dev is dev:
            kfree_skb(skb)
        else:
            kept.append((when, skb))
    tbl.proxy_queue = kept


def pneigh_enqueue(tbl: neigh_table, p: neigh_parms, skb: sk_buff) -> None:
    """net/core/neighbour.c: hold a solicitation back for a random part of proxy_delay.

    A station that really has the address answers first. Takes ownership of skb.
    """
    if len(tbl.proxy_queue) >= p.proxy_qlen or tbl.proxy_timer is None:
        kfree_skb_reason(tbl.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_QUEUEFULL)
        return
    when = tbl.net.clock.now_ns() + tbl.net.random.randrange(max(p.proxy_delay, 1))
    skb.dst = None
    tbl.proxy_queue.append((when, skb))
    if not tbl.proxy_timer.pending or when < tbl.proxy_timer.expires:
        mod_timer(tbl.proxy_timer, when)


def neigh_proxy_process(timer: timer_list) -> None:
    """net/core/neighbour.c: answer solicitations whose delay is over."""
    tbl: neigh_table = timer.data
    now = tbl.net.clock.now_ns()
    due = [skb for when, skb in tbl.proxy_queue if when <= now]
    tbl.proxy_queue = [item for item in tbl.proxy_queue if item[0] > now]
    if tbl.proxy_queue:
        mod_timer(timer, min(when for when, _ in tbl.proxy_queue))
    for skb in due:
        if tbl.proxy_redo is not None and skb.dev.net is tbl.net:
            tbl.proxy_redo(skb)
        else:
            kfree_skb(skb)
