"""net/core/neighbour.c, include/net/neighbour.h: link-layer addresses of next hops.

A neighbour is INCOMPLETE during resolution (packets wait in `arp_queue`), REACHABLE while
confirmed, then STALE until used again. It is in DELAY while an upper layer may still confirm it, in
PROBE while it is probed by unicast, and FAILED if it did not answer. `output` is the slow function
in every state but the connected ones. The family (ARP, ND) gives constructor, solicit and error
report.
"""

from __future__ import annotations

import errno

from fastpath.base.skbuff import (
    consume_skb,
    sk_buff,
    skb_clone,
    skb_network_offset,
    skb_pull,
    skb_push_data,
)
from stack.core import drop_reason, uapi
from stack.core.dev_queue import dev_queue_xmit
from stack.core.drop_reason import kfree_skb_reason
from stack.core.neigh_gc import neigh_forced_gc
from stack.core.neigh_table import (
    MIN_TIMER,
    NEIGH_UPDATE_F_ADMIN,
    NEIGH_UPDATE_F_FLAGS,
    NEIGH_UPDATE_F_ISROUTER,
    NEIGH_UPDATE_F_OVERRIDE,
    NEIGH_UPDATE_F_OVERRIDE_ISROUTER,
    NEIGH_UPDATE_F_WEAK_OVERRIDE,
    neigh_key,
    neigh_ops,
    neigh_table,
    neighbour,
)
from stack.core.netdevice import IFF_LOOPBACK, IFF_NOARP, IFF_POINTOPOINT, net_device
from stack.core.rows import wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list
from stack.core.uapi import NLM_F_REQUEST, RTM_GETNEIGH, RTM_NEWNEIGH, RTN_BROADCAST

_NO_EVENT = uapi.NUD_CONNECTED | uapi.NUD_DELAY | uapi.NUD_PROBE


# --- look-up -----------------------------------------------------------------------------------


def neigh_lookup(tbl: neigh_table, addr: wide, dev: net_device) -> neighbour | None:
    """net/core/neighbour.c: the entry, or None."""
    stats = tbl.stats
    stats.lookups += 1
    n = tbl.hash.get(neigh_key(dev, addr))
    if n is not None:
        stats.hits += 1
    return n


def neigh_create(tbl: neigh_table, addr: wide, dev: net_device) -> neighbour | None:
    """net/core/neighbour.c: a new entry (or the one that exists). None when the table is full."""
    n = tbl.hash.get(neigh_key(dev, addr))
    if n is not None:
        return n
    entries = len(tbl.hash)
    now = dev.net.clock.now_ns()
    full = entries >= tbl.gc_thresh3
    if full or (entries >= tbl.gc_thresh2 and now > tbl.last_flush + 5 * NSEC_PER_SEC):
        neigh_forced_gc(tbl)
        if len(tbl.hash) >= tbl.gc_thresh3:
            tbl.stats.table_fulls += 1
            return None
    n = neighbour(tbl, dev, addr, neigh_timer_handler)
    if tbl.constructor(n):
        return None
    key = neigh_key(dev, n.primary_key)  # the constructor may have made it another one
    there = tbl.hash.get(key)
    if there is not None:
        return there
    n.confirmed = now - 2 * n.parms.base_reachable_time
    tbl.hash[key] = n
    tbl.stats.allocs += 1
    return n


def __neigh_lookup(
    tbl: neigh_table, addr: wide, dev: net_device, creat: bool = False
) -> neighbour | None:
    """include/net/neighbour.h: look up, and create when asked to."""
    n = neigh_lookup(tbl, addr, dev)
    if n is not None or not creat:
        return n
    return neigh_create(tbl, addr, dev)


# --- output ------------------------------------------------------------------------------------


def neigh_output(n: neighbour, skb: sk_buff, skip_cache: bool = False) -> int:
    """include/net/neighbour.h: send a network-layer packet to `n`. Takes ownership of skb."""
    if n.nud_state & uapi.NUD_CONNECTED and not skip_cache:
        data = n.hh.hh_data
        if data:
            skb_push_data(skb, data)
            return dev_queue_xmit(skb)
    output = n.output
    return output(n, skb)


def dev_hard_header(
    skb: sk_buff, dev: net_device, proto: int, daddr: bytes | None, saddr: bytes | None, length: int
) -> int:
    """include/linux/netdevice.h: link-layer header length, 0 without one, negative on failure."""
    ops = dev.header_ops
    if ops is None:
        return 0
    return ops.create(skb, dev, proto, daddr, saddr, length)


def neigh_resolve_output(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: slow output: resolve first, then header and send.

    Takes ownership of skb.
    """
    if neigh_event_send(neigh, skb):
        return 0  # queued or dropped
    dev = neigh.dev
    if dev.header_ops is not None and dev.header_ops.cache is not None and not neigh.hh.hh_len:
        neigh_hh_init(neigh)
    return neigh_connected_output(neigh, skb)


def neigh_connected_output(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: the address is known: header and send. Takes ownership of skb."""
    dev = neigh.dev
    offset = skb_network_offset(skb)
    if offset > 0:
        skb_pull(skb, offset)
    if dev_hard_header(skb, dev, skb.protocol, neigh.ha, None, skb.len) < 0:
        kfree_skb_reason(neigh.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_HH_FILLFAIL)
        return -errno.EINVAL
    return dev_queue_xmit(skb)


def neigh_direct_output(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: no header needed. Takes ownership of skb."""
    return dev_queue_xmit(skb)


def neigh_hh_init(n: neighbour) -> None:
    """net/core/neighbour.c: fill the header cache."""
    ops = n.dev.header_ops
    if ops is not None and ops.cache is not None:
        ops.cache(n, n.hh, n.tbl.family)


def neigh_setup(
    neigh: neighbour, kind: int, group_ha: bytes | None, hh_ops: neigh_ops, direct_ops: neigh_ops
) -> None:
    """What arp_constructor and ndisc_constructor do for a new entry whose parms are set.

    `kind`: RTN_*, the type of its address. `group_ha`: the hardware address of a multicast group.
    """
    dev = neigh.dev
    neigh.type = kind
    if dev.header_ops is None:
        neigh.nud_state = uapi.NUD_NOARP
        neigh.ops = direct_ops
    else:
        neigh.ops = hh_ops
        if group_ha is not None:
            neigh.ha = group_ha
        elif dev.flags & (IFF_NOARP | IFF_LOOPBACK):
            neigh.ha = dev.dev_addr
        elif kind == RTN_BROADCAST or dev.flags & IFF_POINTOPOINT:
            neigh.ha = dev.broadcast
        else:
            neigh.output = hh_ops.output
            return
        neigh.nud_state = uapi.NUD_NOARP
        neigh_hh_init(neigh)
    neigh.output = neigh.ops.connected_output


def neigh_event_send(neigh: neighbour, skb: sk_buff | None) -> int:
    """include/net/neighbour.h: resolve before sending. 0: send now; 1: skb was queued, dropped."""
    now = neigh.net.clock.now_ns()
    neigh.used = now
    if neigh.nud_state & _NO_EVENT:
        return 0
    return __neigh_event_send(neigh, skb, now)


def __neigh_event_send(neigh: neighbour, skb: sk_buff | None, now: int) -> int:
    """net/core/neighbour.c: start resolution of a NONE or FAILED entry; STALE goes to DELAY."""
    parms = neigh.parms
    if neigh.dead:
        if skb is not None:
            kfree_skb_reason(neigh.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_DEAD)
        return 1
    immediate_probe = False
    state = neigh.nud_state
    if not state & (uapi.NUD_STALE | uapi.NUD_INCOMPLETE):
        if not parms.mcast_probes + parms.app_probes:
            neigh.nud_state = uapi.NUD_FAILED
            neigh.updated = now
            if skb is not None:
                kfree_skb_reason(neigh.net, skb, drop_reason.SKB_DROP_REASON_NEIGH_FAILED)
            return 1
        neigh.probes = parms.ucast_probes
        neigh.nud_state = uapi.NUD_INCOMPLETE
        neigh.updated = now
        mod_timer(neigh.timer, now + max(parms.retrans_time, MIN_TIMER))
        immediate_probe = True
    elif state & uapi.NUD_STALE:
        neigh.nud_state = uapi.NUD_DELAY
        neigh.updated = now
        mod_timer(neigh.timer, now + parms.delay_probe_time)
    rc = 0
    if neigh.nud_state == uapi.NUD_INCOMPLETE:
        if skb is not None:
            queue = neigh.arp_queue
            size = skb.truesize
            while queue.qlen and neigh.arp_queue_len_bytes + size > parms.queue_len_bytes:
                old = queue.dequeue()
                assert old is not None
                neigh.arp_queue_len_bytes -= old.truesize
                neigh.tbl.stats.unres_discards += 1
                kfree_skb_reason(neigh.net, old, drop_reason.SKB_DROP_REASON_NEIGH_QUEUEFULL)
            queue.queue_tail(skb)
            neigh.arp_queue_len_bytes += size
        rc = 1
    if immediate_probe:
        neigh_probe(neigh)
    return rc


def neigh_probe(neigh: neighbour) -> None:
    """net/core/neighbour.c: solicit once (source address from the newest waiting packet)."""
    skb = neigh.arp_queue.peek_tail()
    if skb is not None:
        skb = skb_clone(skb)
    neigh.ops.solicit(neigh, skb)
    neigh.probes += 1
    if skb is not None:
        consume_skb(skb)


def neigh_suspect(neigh: neighbour) -> None:
    """net/core/neighbour.c: back to the slow output."""
    neigh.output = neigh.ops.output


def neigh_connect(neigh: neighbour) -> None:
    """net/core/neighbour.c: the fast output."""
    neigh.output = neigh.ops.connected_output


def neigh_confirm(n: neighbour) -> None:
    """include/net/neighbour.h: an upper layer confirms that it is reachable."""
    n.confirmed = n.net.clock.now_ns()


# --- state machine -----------------------------------------------------------------------------


def neigh_max_probes(n: neighbour) -> int:
    """net/core/neighbour.c: the maximum number of probes in this state."""
    p = n.parms
    more = p.mcast_reprobes if n.nud_state & uapi.NUD_PROBE else p.mcast_probes
    return p.ucast_probes + p.app_probes + more


def neigh_timer_handler(timer: timer_list) -> None:
    """net/core/neighbour.c: the timer of a state expired."""
    neigh: neighbour = timer.data
    state = neigh.nud_state
    if not state & uapi.NUD_IN_TIMER or neigh.dead:
        return
    parms = neigh.parms
    now = neigh.net.clock.now_ns()
    next_ns = now + NSEC_PER_SEC
    notify = False
    if state & uapi.NUD_REACHABLE:
        if now < neigh.confirmed + parms.reachable_time:
            next_ns = neigh.confirmed + parms.reachable_time
        elif now <= neigh.used + parms.delay_probe_time:
            neigh.nud_state = uapi.NUD_DELAY
            neigh.updated = now
            neigh_suspect(neigh)
            next_ns = now + parms.delay_probe_time
        else:
            neigh.nud_state = uapi.NUD_STALE
            neigh.updated = now
            neigh_suspect(neigh)
            notify = True
    elif state & uapi.NUD_DELAY:
        if now <= neigh.confirmed + parms.delay_probe_time:
            neigh.nud_state = uapi.NUD_REACHABLE
            neigh.updated = now
            neigh_connect(neigh)
            next_ns = neigh.confirmed + parms.reachable_time
            notify = True
        else:
            neigh.nud_state = uapi.NUD_PROBE
            neigh.updated = now
            neigh.probes = 0
            next_ns = now + max(parms.retrans_time, MIN_TIMER)
    else:  # NUD_PROBE | NUD_INCOMPLETE
        next_ns = now + max(parms.retrans_time, MIN_TIMER)
    asking = neigh.nud_state & (uapi.NUD_INCOMPLETE | uapi.NUD_PROBE)
    if asking and neigh.probes >= neigh_max_probes(neigh):
        neigh.nud_state = uapi.NUD_FAILED
        neigh_update_notify(neigh)
        neigh_invalidate(neigh)
        return
    if notify:
        neigh_update_notify(neigh)
    if neigh.nud_state & uapi.NUD_IN_TIMER:
        mod_timer(timer, max(next_ns, now + MIN_TIMER))
    if asking:
        neigh_probe(neigh)


def neigh_update_notify(neigh: neighbour) -> None:
    """net/core/neighbour.c: notify listeners such as `ip monitor` of the change."""
    rtnl = neigh.net.rtnl
    if rtnl is not None:
        rtnl(RTM_NEWNEIGH, neigh, 0)


def neigh_app_ns(neigh: neighbour) -> None:
    """net/core/neighbour.c: ask netlink listeners for the address (sysctl app_solicit)."""
    rtnl = neigh.net.rtnl
    if rtnl is not None:
        rtnl(RTM_GETNEIGH, neigh, NLM_F_REQUEST)


def neigh_invalidate(neigh: neighbour) -> None:
    """net/core/neighbour.c: resolution failed: report an error for each waiting packet."""
    neigh.tbl.stats.res_failed += 1
    neigh.updated = neigh.net.clock.now_ns()
    queue = neigh.arp_queue
    # The report (ICMP) may call this again and change the state, hence the check each time.
    while neigh.nud_state == uapi.NUD_FAILED:
        skb = queue.dequeue()
        if skb is None:
            break
        neigh.ops.error_report(neigh, skb)
    queue.purge()
    neigh.arp_queue_len_bytes = 0


def neigh_update_is_router(neigh: neighbour, flags: int) -> None:
    """net/core/neighbour.c: store whether the neighbour is a router."""
    if flags & NEIGH_UPDATE_F_ISROUTER:
        neigh.flags |= uapi.NTF_ROUTER
    else:
        neigh.flags &= ~uapi.NTF_ROUTER


def neigh_update(neigh: neighbour, lladdr: bytes | None, new: int, flags: int = 0) -> int:
    """net/core/neighbour.c: update a neighbour's address and state.

    0, -EINVAL (dead entry, or no address known), -EPERM (a permanent entry, and not the
    administrator). `flags`: NEIGH_UPDATE_F_*.
    """
    old = neigh.nud_state
    now = neigh.net.clock.now_ns()
    if neigh.dead:
        return -errno.EINVAL
    if not flags & NEIGH_UPDATE_F_ADMIN and old & (uapi.NUD_NOARP | uapi.NUD_PERMANENT):
        return -errno.EPERM
    if not new & uapi.NUD_VALID:
        timer_delete(neigh.timer)
        if old & uapi.NUD_CONNECTED:
            neigh_suspect(neigh)
        neigh.nud_state = new
        failed = old & (uapi.NUD_INCOMPLETE | uapi.NUD_PROBE) and new & uapi.NUD_FAILED
        if failed or old & uapi.NUD_VALID or flags & NEIGH_UPDATE_F_FLAGS:
            neigh_update_notify(neigh)
        if failed:
            neigh_invalidate(neigh)
        return 0
    if not neigh.dev.addr_len:
        lladdr = neigh.ha
    elif lladdr is None:
        if not old & uapi.NUD_VALID:
            return -errno.EINVAL
        lladdr = neigh.ha
    if new & uapi.NUD_CONNECTED:
        neigh.confirmed = now
    isrouter = flags & NEIGH_UPDATE_F_OVERRIDE_ISROUTER
    if old & uapi.NUD_VALID:
        if lladdr != neigh.ha and not flags & NEIGH_UPDATE_F_OVERRIDE:
            if not (flags & NEIGH_UPDATE_F_WEAK_OVERRIDE and old & uapi.NUD_CONNECTED):
                return 0
            isrouter = 0
            lladdr = neigh.ha
            new = uapi.NUD_STALE
        elif lladdr == neigh.ha and new == uapi.NUD_STALE and not flags & NEIGH_UPDATE_F_ADMIN:
            new = old
    if isrouter:
        was = neigh.flags
        neigh_update_is_router(neigh, flags)
        flags |= NEIGH_UPDATE_F_FLAGS if neigh.flags != was else 0
    changed = lladdr != neigh.ha
    if new != old or changed:
        neigh.updated = now
    if new != old:
        timer_delete(neigh.timer)
        if new & uapi.NUD_PROBE:
            neigh.probes = 0
        if new & uapi.NUD_IN_TIMER:
            delay = neigh.parms.reachable_time if new & uapi.NUD_REACHABLE else 0
            mod_timer(neigh.timer, now + delay)
        neigh.nud_state = new
    if changed:
        neigh.ha = bytes(lladdr)
        neigh_update_hhs(neigh)
        if not new & uapi.NUD_CONNECTED:
            neigh.confirmed = now - 2 * neigh.parms.base_reachable_time
    if new == old:
        if changed or flags & NEIGH_UPDATE_F_FLAGS:
            neigh_update_notify(neigh)
        return 0
    if new & uapi.NUD_CONNECTED:
        neigh_connect(neigh)
        if not neigh.hh.hh_len and neigh.dev.header_ops is not None:
            neigh_hh_init(neigh)
    else:
        neigh_suspect(neigh)
    if not old & uapi.NUD_VALID:
        queue = neigh.arp_queue
        while neigh.nud_state & uapi.NUD_VALID:
            skb = queue.dequeue()
            if skb is None:
                break
            neigh.arp_queue_len_bytes -= skb.truesize
            neigh.output(neigh, skb)
        queue.purge()
        neigh.arp_queue_len_bytes = 0
    neigh_update_notify(neigh)
    return 0


def neigh_update_hhs(neigh: neighbour) -> None:
    """net/core/neighbour.c: the address changed: update the cached header."""
    ops = neigh.dev.header_ops
    if ops is not None and ops.cache_update is not None and neigh.hh.hh_len:
        ops.cache_update(neigh.hh, neigh.dev, neigh.ha)


def neigh_managed_work(timer: timer_list) -> None:
    """net/core/neighbour.c: keep the managed neighbours resolved."""
    tbl: neigh_table = timer.data
    managed = [n for n in tbl if n.flags & uapi.NTF_MANAGED]
    for n in managed:
        neigh_event_send(n, None)
    if managed:
        mod_timer(timer, tbl.net.clock.now_ns() + tbl.parms.interval_probe_time)


def neigh_update_managed_list(n: neighbour) -> None:
    """net/core/neighbour.c: ask for a managed neighbour from now on."""
    tbl = n.tbl
    if not n.flags & uapi.NTF_MANAGED:
        return
    if tbl.managed_timer is None:
        tbl.managed_timer = timer_list(
            n.net.machine, neigh_managed_work, TIMER_DEFERRABLE, data=tbl
        )
    if not tbl.managed_timer.pending:
        mod_timer(tbl.managed_timer, n.net.clock.now_ns() + tbl.parms.interval_probe_time)


def neigh_event_ns(
    tbl: neigh_table, lladdr: bytes | None, saddr: wide, dev: net_device
) -> neighbour | None:
    """net/core/neighbour.c: a station solicits our address: learn its own (STALE)."""
    neigh = __neigh_lookup(tbl, saddr, dev, lladdr is not None or not dev.addr_len)
    if neigh is not None:
        neigh_update(neigh, lladdr, uapi.NUD_STALE, NEIGH_UPDATE_F_OVERRIDE)
    return neigh
