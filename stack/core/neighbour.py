"""net/core/neighbour.c, include/net/neighbour.h: who is behind a next-hop address.

A neighbour is INCOMPLETE while it is asked for (packets wait in `arp_queue`), REACHABLE while
confirmed, then STALE until used again, DELAY while an upper layer may still confirm it, PROBE while
it is asked by unicast, FAILED when it did not answer. `output` is the slow function in every state
but the connected ones. The family (ARP) gives constructor, solicit and error report.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any

from fastpath.hdr import ip_hdr
from fastpath.skbuff import (
    consume_skb,
    sk_buff,
    sk_buff_head,
    skb_clone,
    skb_network_offset,
    skb_pull,
    skb_push_data,
)
from stack.core.dev import dev_queue_xmit
from stack.core.drop_reason import (
    SKB_DROP_REASON_NEIGH_DEAD,
    SKB_DROP_REASON_NEIGH_FAILED,
    SKB_DROP_REASON_NEIGH_HH_FILLFAIL,
    SKB_DROP_REASON_NEIGH_QUEUEFULL,
    kfree_skb_reason,
)
from stack.core.netdevice import net_device
from stack.core.snmp import _Mib
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_delete, timer_list

# include/uapi/linux/neighbour.h
NUD_INCOMPLETE = 0x01
NUD_REACHABLE = 0x02
NUD_STALE = 0x04
NUD_DELAY = 0x08
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_NOARP = 0x40
NUD_PERMANENT = 0x80
NUD_NONE = 0x00
NUD_IN_TIMER = NUD_INCOMPLETE | NUD_REACHABLE | NUD_DELAY | NUD_PROBE
NUD_VALID = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
NUD_CONNECTED = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE
_NO_EVENT = NUD_CONNECTED | NUD_DELAY | NUD_PROBE

NUD_NAMES = {
    NUD_NONE: "NONE",
    NUD_INCOMPLETE: "INCOMPLETE",
    NUD_REACHABLE: "REACHABLE",
    NUD_STALE: "STALE",
    NUD_DELAY: "DELAY",
    NUD_PROBE: "PROBE",
    NUD_FAILED: "FAILED",
    NUD_NOARP: "NOARP",
    NUD_PERMANENT: "PERMANENT",
}

NEIGH_UPDATE_F_OVERRIDE = 0x1
NEIGH_UPDATE_F_WEAK_OVERRIDE = 0x2
NEIGH_UPDATE_F_ADMIN = 0x80000000

SEC = 1_000_000_000
MIN_TIMER = SEC // 100


class neigh_parms:
    """struct neigh_parms: /proc/sys/net/ipv4/neigh/default. Times in ns."""

    __slots__ = (
        "anycast_delay",
        "app_probes",
        "base_reachable_time",
        "delay_probe_time",
        "gc_staletime",
        "locktime",
        "mcast_probes",
        "mcast_reprobes",
        "queue_len_bytes",
        "reachable_time",
        "retrans_time",
        "ucast_probes",
    )

    def __init__(self) -> None:
        self.mcast_probes = 3
        self.ucast_probes = 3
        self.app_probes = 0
        self.mcast_reprobes = 0
        self.retrans_time = 1 * SEC
        self.base_reachable_time = 30 * SEC
        self.reachable_time = 30 * SEC
        self.delay_probe_time = 5 * SEC
        self.gc_staletime = 60 * SEC
        self.queue_len_bytes = 212992
        self.anycast_delay = 1 * SEC
        self.locktime = 1 * SEC


class neigh_ops:
    """struct neigh_ops: what the family does. `solicit(neigh, skb)`, `error_report(neigh, skb)`."""

    __slots__ = ("connected_output", "error_report", "output", "solicit")

    def __init__(
        self,
        solicit: Callable[[neighbour, Any], None],
        error_report: Callable[[neighbour, Any], None],
        output: Callable[[neighbour, sk_buff], int],
        connected_output: Callable[[neighbour, sk_buff], int],
    ) -> None:
        self.solicit = solicit
        self.error_report = error_report
        self.output = output
        self.connected_output = connected_output


class hh_cache:
    """struct hh_cache: the ready link-layer header (`hh_len` 0: none yet)."""

    __slots__ = ("hh_data", "hh_len")

    def __init__(self) -> None:
        self.hh_len = 0
        self.hh_data = b""


class neigh_statistics(_Mib):
    """struct neigh_statistics: /proc/net/stat/arp_cache."""

    names = (
        "allocs",
        "destroys",
        "forced_gc_runs",
        "hits",
        "lookups",
        "periodic_gc_runs",
        "rcv_probes_mcast",
        "rcv_probes_ucast",
        "res_failed",
        "table_fulls",
        "unres_discards",
    )
    __slots__ = names


class neighbour:
    """struct neighbour: one next hop. `primary_key` is its address (host-order int)."""

    __slots__ = (
        "__weakref__",
        "arp_queue",
        "arp_queue_len_bytes",
        "confirmed",
        "dead",
        "dev",
        "ha",
        "hh",
        "net",
        "nud_state",
        "ops",
        "output",
        "parms",
        "primary_key",
        "probes",
        "tbl",
        "timer",
        "type",
        "updated",
        "used",
    )

    def __init__(self, tbl: neigh_table, dev: net_device, key: int) -> None:
        net = dev.net
        now = net.clock.now_ns()
        self.tbl = tbl
        self.dev = dev
        self.net = net
        self.primary_key = key
        self.parms = tbl.parms
        self.nud_state = NUD_NONE
        self.ha = bytes(dev.addr_len)
        self.hh = hh_cache()
        self.type = 0
        self.dead = False
        self.probes = 0
        self.arp_queue = sk_buff_head()
        self.arp_queue_len_bytes = 0
        self.confirmed = self.updated = self.used = now
        self.ops: Any = None
        self.output: Callable[[neighbour, sk_buff], int] = neigh_blackhole
        self.timer = timer_list(net, neigh_timer_handler, data=self)

    def __repr__(self) -> str:
        return (
            f"<neighbour {self.primary_key:#x} dev {self.dev.name} "
            f"{NUD_NAMES.get(self.nud_state)} {self.ha.hex(':')}>"
        )


class neigh_table:
    """struct neigh_table: the cache of one family on one host.

    `constructor(neigh) -> 0 | -errno` sets type, state, ops and output of a new entry.
    """

    __slots__ = (
        "constructor",
        "entries",
        "family",
        "gc_thresh1",
        "gc_thresh2",
        "gc_thresh3",
        "gc_timer",
        "hash",
        "id",
        "last_flush",
        "last_rand",
        "net",
        "parms",
        "stats",
    )

    def __init__(
        self, net: Any, table_id: str, family: int, constructor: Callable[[neighbour], int]
    ) -> None:
        self.net = net
        self.id = table_id
        self.family = family
        self.constructor = constructor
        self.parms = neigh_parms()
        self.hash: dict[int, neighbour] = {}
        self.gc_thresh1 = 128
        self.gc_thresh2 = 512
        self.gc_thresh3 = 1024
        self.stats = neigh_statistics()
        now = net.clock.now_ns()
        self.last_flush = self.last_rand = now
        self.parms.reachable_time = neigh_rand_reach_time(net, self.parms.base_reachable_time)
        self.gc_timer = timer_list(net, neigh_periodic_work, TIMER_DEFERRABLE, data=self)
        mod_timer(self.gc_timer, now + self.parms.base_reachable_time // 2)

    def __iter__(self) -> Iterator[neighbour]:
        return iter(tuple(self.hash.values()))

    def __len__(self) -> int:
        return len(self.hash)


def neigh_init(net: Any) -> None:
    """net/core/neighbour.c: the tables are made by their families."""


def neigh_rand_reach_time(net: Any, base_ns: int) -> int:
    """net/core/neighbour.c: between half and one and a half of `base_ns` (RFC 4861 6.3.2)."""
    return net.random.randrange(base_ns) + base_ns // 2 if base_ns else 0


def _key(dev: net_device, addr: int) -> int:
    return addr << 16 | dev.ifindex


# --- look-up -----------------------------------------------------------------------------------


def neigh_lookup(tbl: neigh_table, addr: int, dev: net_device) -> neighbour | None:
    """net/core/neighbour.c: the entry, or None."""
    stats = tbl.stats
    stats.lookups += 1
    n = tbl.hash.get(_key(dev, addr))
    if n is not None:
        stats.hits += 1
    return n


def neigh_create(tbl: neigh_table, addr: int, dev: net_device) -> neighbour | None:
    """net/core/neighbour.c: a new entry (or the one that exists). None when the table is full."""
    n = tbl.hash.get(_key(dev, addr))
    if n is not None:
        return n
    entries = len(tbl.hash)
    now = dev.net.clock.now_ns()
    full = entries >= tbl.gc_thresh3
    if full or (entries >= tbl.gc_thresh2 and now > tbl.last_flush + 5 * SEC):
        neigh_forced_gc(tbl)
        if len(tbl.hash) >= tbl.gc_thresh3:
            tbl.stats.table_fulls += 1
            return None
    n = neighbour(tbl, dev, addr)
    if tbl.constructor(n):
        return None
    n.confirmed = now - 2 * n.parms.base_reachable_time
    tbl.hash[_key(dev, addr)] = n
    tbl.stats.allocs += 1
    return n


def __neigh_lookup(
    tbl: neigh_table, addr: int, dev: net_device, creat: bool = False
) -> neighbour | None:
    """include/net/neighbour.h: look up, and create when asked to."""
    n = neigh_lookup(tbl, addr, dev)
    if n is not None or not creat:
        return n
    return neigh_create(tbl, addr, dev)


def ip_neigh_gw4(dev: net_device, daddr: int) -> neighbour | None:
    """include/net/route.h: the entry for an IPv4 next hop, made when missing."""
    if dev.flags & 0x18:  # IFF_LOOPBACK | IFF_POINTOPOINT: one entry stands for every address
        daddr = 0
    tbl = dev.net.arp_tbl
    n = tbl.hash.get(daddr << 16 | dev.ifindex)
    if n is None:
        n = neigh_create(tbl, daddr, dev)
    return n


def ip_neigh_for_gw(rt: Any, skb: sk_buff) -> neighbour | None:
    """include/net/route.h: the neighbour a routed packet goes to next. None when the table is full.

    The route remembers its neighbour (a route here is per destination or per gateway).
    """
    n = rt.neigh
    if n is not None and not n.dead:
        return n
    n = ip_neigh_gw4(rt.dev, rt.rt_gw4 or ip_hdr(skb).daddr)
    rt.neigh = n
    return n


# --- output ------------------------------------------------------------------------------------


def neigh_output(n: neighbour, skb: sk_buff, skip_cache: bool = False) -> int:
    """include/net/neighbour.h: send a network-layer packet to `n`. Takes ownership of skb."""
    if n.nud_state & NUD_CONNECTED and not skip_cache:
        data = n.hh.hh_data
        if data:
            skb_push_data(skb, data)
            return dev_queue_xmit(skb)
    output = n.output
    return output(n, skb)


def neigh_hh_output(hh: hh_cache, skb: sk_buff) -> int:
    """include/net/neighbour.h: prepend the ready header and send. Takes ownership of skb."""
    skb_push_data(skb, hh.hh_data)
    return dev_queue_xmit(skb)


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
        kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_HH_FILLFAIL)
        return -errno.EINVAL
    return dev_queue_xmit(skb)


def neigh_direct_output(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: no header needed. Takes ownership of skb."""
    return dev_queue_xmit(skb)


def neigh_blackhole(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: output of a dead entry. Takes ownership of skb."""
    kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
    return -errno.ENETDOWN


def neigh_hh_init(n: neighbour) -> None:
    """net/core/neighbour.c: fill the header cache."""
    n.dev.header_ops.cache(n, n.hh, n.tbl.family)


def neigh_event_send(neigh: neighbour, skb: sk_buff | None) -> int:
    """include/net/neighbour.h: a packet wants out. 0: send it now; 1: skb was queued or dropped."""
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
            kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
        return 1
    immediate_probe = False
    state = neigh.nud_state
    if not state & (NUD_STALE | NUD_INCOMPLETE):
        if not parms.mcast_probes + parms.app_probes:
            neigh.nud_state = NUD_FAILED
            neigh.updated = now
            if skb is not None:
                kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_FAILED)
            return 1
        neigh.probes = parms.ucast_probes
        neigh.nud_state = NUD_INCOMPLETE
        neigh.updated = now
        mod_timer(neigh.timer, now + max(parms.retrans_time, MIN_TIMER))
        immediate_probe = True
    elif state & NUD_STALE:
        neigh.nud_state = NUD_DELAY
        neigh.updated = now
        mod_timer(neigh.timer, now + parms.delay_probe_time)
    rc = 0
    if neigh.nud_state == NUD_INCOMPLETE:
        if skb is not None:
            queue = neigh.arp_queue
            size = skb.truesize
            while queue.qlen and neigh.arp_queue_len_bytes + size > parms.queue_len_bytes:
                old = queue.dequeue()
                assert old is not None
                neigh.arp_queue_len_bytes -= old.truesize
                neigh.tbl.stats.unres_discards += 1
                kfree_skb_reason(neigh.net, old, SKB_DROP_REASON_NEIGH_QUEUEFULL)
            queue.queue_tail(skb)
            neigh.arp_queue_len_bytes += size
        rc = 1
    if immediate_probe:
        neigh_probe(neigh)
    return rc


def neigh_probe(neigh: neighbour) -> None:
    """net/core/neighbour.c: ask once (the newest waiting packet names the source address)."""
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
    """include/net/neighbour.h: an upper layer saw it answer."""
    n.confirmed = n.net.clock.now_ns()


# --- state machine -----------------------------------------------------------------------------


def neigh_max_probes(n: neighbour) -> int:
    """net/core/neighbour.c: how often to ask in this state."""
    p = n.parms
    more = p.mcast_reprobes if n.nud_state & NUD_PROBE else p.mcast_probes
    return p.ucast_probes + p.app_probes + more


def neigh_timer_handler(timer: timer_list) -> None:
    """net/core/neighbour.c: time passed in a state that has a timer."""
    neigh: neighbour = timer.data
    state = neigh.nud_state
    if not state & NUD_IN_TIMER or neigh.dead:
        return
    parms = neigh.parms
    now = neigh.net.clock.now_ns()
    next_ns = now + SEC
    if state & NUD_REACHABLE:
        if now < neigh.confirmed + parms.reachable_time:
            next_ns = neigh.confirmed + parms.reachable_time
        elif now <= neigh.used + parms.delay_probe_time:
            neigh.nud_state = NUD_DELAY
            neigh.updated = now
            neigh_suspect(neigh)
            next_ns = now + parms.delay_probe_time
        else:
            neigh.nud_state = NUD_STALE
            neigh.updated = now
            neigh_suspect(neigh)
    elif state & NUD_DELAY:
        if now <= neigh.confirmed + parms.delay_probe_time:
            neigh.nud_state = NUD_REACHABLE
            neigh.updated = now
            neigh_connect(neigh)
            next_ns = neigh.confirmed + parms.reachable_time
        else:
            neigh.nud_state = NUD_PROBE
            neigh.updated = now
            neigh.probes = 0
            next_ns = now + max(parms.retrans_time, MIN_TIMER)
    else:  # NUD_PROBE | NUD_INCOMPLETE
        next_ns = now + max(parms.retrans_time, MIN_TIMER)
    asking = neigh.nud_state & (NUD_INCOMPLETE | NUD_PROBE)
    if asking and neigh.probes >= neigh_max_probes(neigh):
        neigh.nud_state = NUD_FAILED
        neigh_invalidate(neigh)
        return
    if neigh.nud_state & NUD_IN_TIMER:
        mod_timer(timer, max(next_ns, now + MIN_TIMER))
    if asking:
        neigh_probe(neigh)


def neigh_invalidate(neigh: neighbour) -> None:
    """net/core/neighbour.c: resolution failed: report an error for each waiting packet."""
    neigh.tbl.stats.res_failed += 1
    neigh.updated = neigh.net.clock.now_ns()
    queue = neigh.arp_queue
    # The report (ICMP) may come back here and change the state, hence the look each time.
    while neigh.nud_state == NUD_FAILED:
        skb = queue.dequeue()
        if skb is None:
            break
        neigh.ops.error_report(neigh, skb)
    queue.purge()
    neigh.arp_queue_len_bytes = 0


def neigh_update(
    neigh: neighbour, lladdr: bytes | None, new: int, flags: int = 0, nlmsg_pid: int = 0
) -> int:
    """net/core/neighbour.c: news about a neighbour: its address and the state to go to.

    0, -EINVAL (dead entry, or no address known), -EPERM (a permanent entry, and not the
    administrator). `flags`: NEIGH_UPDATE_F_*.
    """
    old = neigh.nud_state
    now = neigh.net.clock.now_ns()
    if neigh.dead:
        return -errno.EINVAL
    if not flags & NEIGH_UPDATE_F_ADMIN and old & (NUD_NOARP | NUD_PERMANENT):
        return -errno.EPERM
    if not new & NUD_VALID:
        timer_delete(neigh.timer)
        if old & NUD_CONNECTED:
            neigh_suspect(neigh)
        neigh.nud_state = new
        if old & (NUD_INCOMPLETE | NUD_PROBE) and new & NUD_FAILED:
            neigh_invalidate(neigh)
        return 0
    if not neigh.dev.addr_len:
        lladdr = neigh.ha
    elif lladdr is None:
        if not old & NUD_VALID:
            return -errno.EINVAL
        lladdr = neigh.ha
    if new & NUD_CONNECTED:
        neigh.confirmed = now
    if old & NUD_VALID:
        if lladdr != neigh.ha and not flags & NEIGH_UPDATE_F_OVERRIDE:
            if not (flags & NEIGH_UPDATE_F_WEAK_OVERRIDE and old & NUD_CONNECTED):
                return 0
            lladdr = neigh.ha
            new = NUD_STALE
        elif lladdr == neigh.ha and new == NUD_STALE and not flags & NEIGH_UPDATE_F_ADMIN:
            new = old
    changed = lladdr != neigh.ha
    if new != old or changed:
        neigh.updated = now
    if new != old:
        timer_delete(neigh.timer)
        if new & NUD_PROBE:
            neigh.probes = 0
        if new & NUD_IN_TIMER:
            delay = neigh.parms.reachable_time if new & NUD_REACHABLE else 0
            mod_timer(neigh.timer, now + delay)
        neigh.nud_state = new
    if changed:
        neigh.ha = bytes(lladdr)
        neigh_update_hhs(neigh)
        if not new & NUD_CONNECTED:
            neigh.confirmed = now - 2 * neigh.parms.base_reachable_time
    if new == old:
        return 0
    if new & NUD_CONNECTED:
        neigh_connect(neigh)
        if not neigh.hh.hh_len and neigh.dev.header_ops is not None:
            neigh_hh_init(neigh)
    else:
        neigh_suspect(neigh)
    if not old & NUD_VALID:
        queue = neigh.arp_queue
        while neigh.nud_state & NUD_VALID:
            skb = queue.dequeue()
            if skb is None:
                break
            neigh.arp_queue_len_bytes -= skb.truesize
            neigh.output(neigh, skb)
        queue.purge()
        neigh.arp_queue_len_bytes = 0
    return 0


def neigh_update_hhs(neigh: neighbour) -> None:
    """net/core/neighbour.c: the address changed: so does the ready header."""
    ops = neigh.dev.header_ops
    if ops is not None and ops.cache_update is not None and neigh.hh.hh_len:
        ops.cache_update(neigh.hh, neigh.dev, neigh.ha)


def neigh_event_ns(
    tbl: neigh_table, lladdr: bytes | None, saddr: int, dev: net_device
) -> neighbour | None:
    """net/core/neighbour.c: somebody asks for us: remember where he is (STALE)."""
    neigh = __neigh_lookup(tbl, saddr, dev, lladdr is not None or not dev.addr_len)
    if neigh is not None:
        neigh_update(neigh, lladdr, NUD_STALE, NEIGH_UPDATE_F_OVERRIDE)
    return neigh


# --- removal -----------------------------------------------------------------------------------


def neigh_remove_one(n: neighbour) -> None:
    """net/core/neighbour.c: unlink, stop the timer, free what waits."""
    tbl = n.tbl
    key = _key(n.dev, n.primary_key)
    if tbl.hash.get(key) is n:
        del tbl.hash[key]
    n.dead = True
    timer_delete(n.timer)
    for skb in n.arp_queue:
        n.arp_queue.unlink(skb)
        kfree_skb_reason(n.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
    n.arp_queue_len_bytes = 0
    n.output = neigh_blackhole
    n.nud_state = NUD_NOARP if n.nud_state & NUD_VALID else NUD_NONE
    n.hh.hh_len = 0
    n.hh.hh_data = b""
    tbl.stats.destroys += 1


def neigh_forced_gc(tbl: neigh_table) -> int:
    """net/core/neighbour.c: make room: drop old entries that are not in use. How many."""
    max_clean = len(tbl.hash) - tbl.gc_thresh2
    tbl.stats.forced_gc_runs += 1
    now = tbl.net.clock.now_ns()
    shrunk = 0
    for n in sorted(tbl, key=lambda n: n.updated):
        if shrunk >= max_clean:
            break
        if n.nud_state & NUD_PERMANENT or (n.arp_queue.qlen and n.nud_state != NUD_INCOMPLETE):
            continue
        if n.nud_state == NUD_FAILED or n.nud_state == NUD_NOARP or now > n.updated + 5 * SEC:
            neigh_remove_one(n)
            shrunk += 1
    tbl.last_flush = now
    return shrunk


def neigh_periodic_work(timer: timer_list) -> None:
    """net/core/neighbour.c: forget what was not used for long; new random reachable time."""
    tbl: neigh_table = timer.data
    now = tbl.net.clock.now_ns()
    tbl.stats.periodic_gc_runs += 1
    if now > tbl.last_rand + 300 * SEC:
        tbl.last_rand = now
        tbl.parms.reachable_time = neigh_rand_reach_time(tbl.net, tbl.parms.base_reachable_time)
    if len(tbl.hash) >= tbl.gc_thresh1:
        for n in tbl:
            if n.nud_state & (NUD_PERMANENT | NUD_IN_TIMER):
                continue
            n.used = max(n.used, n.confirmed)
            if n.nud_state == NUD_FAILED or now > n.used + n.parms.gc_staletime:
                neigh_remove_one(n)
    mod_timer(timer, now + tbl.parms.base_reachable_time // 2)


def neigh_flush_dev(tbl: neigh_table, dev: net_device | None, skip_perm: bool) -> None:
    """net/core/neighbour.c: remove the entries of a device (None: all)."""
    for n in tbl:
        if dev is not None and n.dev is not dev:
            continue
        if skip_perm and n.nud_state & NUD_PERMANENT:
            continue
        neigh_remove_one(n)


def neigh_changeaddr(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: our own address changed: what was learnt holds no more."""
    neigh_flush_dev(tbl, dev, False)


def neigh_ifdown(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: the interface went down."""
    neigh_flush_dev(tbl, dev, False)


def neigh_carrier_down(tbl: neigh_table, dev: net_device) -> None:
    """net/core/neighbour.c: the link went down; administrator's entries stay."""
    neigh_flush_dev(tbl, dev, True)


def neigh_table_clear(tbl: neigh_table) -> None:
    """net/core/neighbour.c: the host ends."""
    timer_delete(tbl.gc_timer)
    neigh_flush_dev(tbl, None, False)
