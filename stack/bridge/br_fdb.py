"""net/bridge/br_fdb.c: the forwarding database, which maps addresses to ports."""

from __future__ import annotations

import errno

from stack.bridge.br_private import (
    BR_STATE_FORWARDING,
    BR_STATE_LEARNING,
    net_bridge,
    net_bridge_fdb_entry,
    net_bridge_port,
)
from stack.core import uapi
from stack.core.uapi import NLM_F_CREATE, NLM_F_EXCL
from stack.core.workqueue import cancel_delayed_work, schedule_delayed_work
from stack.ethernet.eth import is_valid_ether_addr

GC_MIN_NS = 10_000_000
"""The collector runs a hundred times a second at most."""
FDB_STICKY, FDB_EXT_LEARNED = 1, 2
"""Bits of `flags`: it does not move to another port; a program has learned it."""
FDB_LOCAL, FDB_STATIC, FDB_BY_USER = 4, 8, 16
"""Further conditions of br_fdb_flush."""


def fdb_notify(br: net_bridge, fdb: net_bridge_fdb_entry, kind: int) -> None:
    """net/bridge/br_fdb.c: notify listeners of a new, changed or removed entry."""
    rtnl = br.dev.net.rtnl
    if rtnl is not None:
        rtnl(kind, (br, fdb), 0)


def fdb_to_nud(br: net_bridge, fdb: net_bridge_fdb_entry) -> int:
    """net/bridge/br_fdb.c: NUD_* of an entry."""
    if fdb.is_local:
        return uapi.NUD_PERMANENT
    if fdb.is_static:
        return uapi.NUD_NOARP
    return uapi.NUD_STALE if has_expired(br, fdb) else uapi.NUD_REACHABLE


def br_fdb_find_rcu(br: net_bridge, addr: bytes) -> net_bridge_fdb_entry | None:
    """net/bridge/br_fdb.c: the entry of an address, or None."""
    found: net_bridge_fdb_entry | None = br.fdb_hash.get(addr)
    return found


def hold_time(br: net_bridge) -> int:
    """net/bridge/br_fdb.c: ns after the last frame from an address until it is removed."""
    return br.forward_delay if br.topology_change else br.ageing_time


def has_expired(br: net_bridge, fdb: net_bridge_fdb_entry) -> bool:
    """net/bridge/br_fdb.c: whether the collector's next run removes the entry."""
    now: int = br.dev.machine.clock.now_ns()
    return fdb_ages(fdb) and fdb.updated + hold_time(br) <= now


def fdb_ages(fdb: net_bridge_fdb_entry) -> bool:
    """Whether the collector removes the entry when it is old; programs remove what they learned."""
    return not fdb.is_static and not fdb.flags & FDB_EXT_LEARNED


def fdb_is_learned(fdb: net_bridge_fdb_entry) -> bool:
    """BR_FDB_DYNAMIC_LEARNED: whether the entry counts for `fdb_max_learned`."""
    return not fdb.is_local and not fdb.added_by_user


def fdb_create(
    br: net_bridge, source: net_bridge_port | None, addr: bytes, local: bool, static: bool
) -> net_bridge_fdb_entry:
    """net/bridge/br_fdb.c: a new entry."""
    fdb = net_bridge_fdb_entry(addr, source)
    fdb.is_local = local
    fdb.is_static = static or local
    fdb.updated = fdb.used = br.dev.machine.clock.now_ns()
    br.fdb_hash[addr] = fdb
    return fdb


def fdb_delete(br: net_bridge, fdb: net_bridge_fdb_entry) -> None:
    """net/bridge/br_fdb.c: forget an address."""
    if br.fdb_hash.pop(fdb.addr, None) is None:
        return
    if fdb_is_learned(fdb):
        br.fdb_n_learned -= 1
    fdb_notify(br, fdb, uapi.RTM_DELNEIGH)


def br_fdb_update(br: net_bridge, source: net_bridge_port, addr: bytes) -> None:
    """net/bridge/br_fdb.c: learn `addr` from a frame received at `source`, unless it is ours.

    No new ones once `fdb_max_learned` are.
    """
    if not br.ageing_time:  # 0: always flood
        return
    fdb: net_bridge_fdb_entry | None = br.fdb_hash.get(addr)
    if fdb is None:
        if not br.fdb_max_learned or br.fdb_n_learned < br.fdb_max_learned:
            br.fdb_n_learned += 1
            fdb_notify(br, fdb_create(br, source, addr, False, False), uapi.RTM_NEWNEIGH)
        return
    if fdb.is_local:  # a loop, or another station uses our address
        return
    fdb.updated = br.dev.machine.clock.now_ns()
    if fdb.dst is not source and not fdb.flags & FDB_STICKY:
        fdb.dst = source
        fdb.flags = 0  # no longer as a program has learned it; a static entry stays static
        fdb_notify(br, fdb, uapi.RTM_NEWNEIGH)


def br_fdb_add_local(br: net_bridge, source: net_bridge_port | None, addr: bytes) -> int:
    """net/bridge/br_fdb.c: an address of a port, or of the bridge (`source` None). 0 or -EINVAL."""
    if not is_valid_ether_addr(addr):
        return -errno.EINVAL
    fdb = br_fdb_find_rcu(br, addr)
    if fdb is not None:
        if fdb.is_local:  # several ports may have one address: the first one is kept
            return 0
        fdb_delete(br, fdb)
    fdb_notify(br, fdb_create(br, source, addr, True, True), uapi.RTM_NEWNEIGH)
    return 0


def fdb_delete_local(br: net_bridge, fdb: net_bridge_fdb_entry) -> None:
    """net/bridge/br_fdb.c: forget an address; a local one stays while another port or the bridge
    has it too."""
    p = fdb.dst
    if fdb.is_local:
        others = [op for op in br.port_list if op is not p and op.dev.dev_addr == fdb.addr]
        if others or (p is not None and br.dev.dev_addr == fdb.addr):
            fdb.dst = others[0] if others else None
            fdb.added_by_user = False
            return
    fdb_delete(br, fdb)


def br_fdb_changeaddr(p: net_bridge_port, newaddr: bytes) -> None:
    """net/bridge/br_fdb.c: the address of a port changed."""
    br = p.br
    for fdb in list(br.fdb_hash.values())[::-1]:
        if fdb.is_local and fdb.dst is p and not fdb.added_by_user:
            fdb_delete_local(br, fdb)
    br_fdb_add_local(br, p, newaddr)


def br_fdb_change_mac_address(br: net_bridge, newaddr: bytes) -> None:
    """net/bridge/br_fdb.c: the address of the bridge changed."""
    fdb = br_fdb_find_rcu(br, br.dev.dev_addr)
    if fdb is not None and fdb.is_local and fdb.dst is None and not fdb.added_by_user:
        fdb_delete_local(br, fdb)
    br_fdb_add_local(br, None, newaddr)


def br_fdb_delete_by_port(br: net_bridge, p: net_bridge_port, do_all: bool) -> None:
    """net/bridge/br_fdb.c: forget addresses learned at a port; with `do_all` static ones too."""
    for fdb in list(br.fdb_hash.values())[::-1]:
        if fdb.dst is p and (do_all or not fdb.is_static):
            fdb_delete_local(br, fdb)


def br_fdb_flush(
    br: net_bridge, port_ifindex: int = 0, flags: int = 0, mask: int = FDB_STATIC
) -> None:
    """net/bridge/br_fdb.c: forget the entries of a port, or with its own index those
    of the bridge; 0: all. Only entries whose FDB_* bits in `mask` equal `flags`."""
    for fdb in list(br.fdb_hash.values())[::-1]:
        dev = br.dev if fdb.dst is None else fdb.dst.dev
        if port_ifindex not in (0, dev.ifindex):
            continue
        has = fdb.flags | FDB_LOCAL * fdb.is_local | FDB_STATIC * fdb.is_static
        if not mask or (has | FDB_BY_USER * fdb.added_by_user) & mask == flags:
            fdb_delete_local(br, fdb)


def br_fdb_cleanup(br: net_bridge) -> None:
    """net/bridge/br_fdb.c: the collector: forget old addresses, run again when the next is due."""
    delay = hold_time(br)
    now: int = br.dev.machine.clock.now_ns()
    work_delay = delay
    for fdb in list(br.fdb_hash.values())[::-1]:
        if not fdb_ages(fdb):
            continue
        left = fdb.updated + delay - now
        if left > 0:
            work_delay = min(work_delay, left)
        else:
            fdb_delete(br, fdb)
    br_fdb_gc(br, max(work_delay, GC_MIN_NS))


def br_fdb_gc(br: net_bridge, delay_ns: int) -> None:
    """Reschedule the collector to run in `delay_ns`."""
    cancel_delayed_work(br.gc_work)
    br.gc_due = br.dev.machine.clock.now_ns() + delay_ns
    schedule_delayed_work(br.gc_work, delay_ns)


def br_gc_value(br: net_bridge) -> int:
    """IFLA_BR_GC_TIMER: ns until the collector runs; 0: it is not due."""
    left = br.gc_due - br.dev.machine.clock.now_ns()
    return max(left, 0) if br.gc_work.pending else 0


def fdb_add_entry(
    br: net_bridge,
    source: net_bridge_port | None,
    addr: bytes,
    state: int,
    flags: int = 0,
    nlflags: int = NLM_F_CREATE,
) -> int:
    """net/bridge/br_fdb.c: `bridge fdb add ADDR dev PORT master`; of the bridge: `source` None.

    `state`: NUD_PERMANENT, the bridge's own; NUD_NOARP, static; NUD_REACHABLE, as if learned.
    0; -EINVAL: no address; -EPERM: the port does not learn; -ENOENT, -EEXIST: as
    `nlflags` say.
    """
    permanent, static = state & uapi.NUD_PERMANENT != 0, state & uapi.NUD_NOARP != 0
    if not any(addr):
        return -errno.EINVAL
    if source is None:
        if not permanent:
            return -errno.EINVAL
    elif not (permanent or static) and source.state not in (BR_STATE_LEARNING, BR_STATE_FORWARDING):
        return -errno.EPERM
    if permanent and flags & FDB_STICKY:
        return -errno.EINVAL
    fdb = br_fdb_find_rcu(br, addr)
    before: tuple[object, ...] = ()
    if fdb is None:
        if not nlflags & NLM_F_CREATE:
            return -errno.ENOENT
        fdb = fdb_create(br, source, addr, permanent, static)
    else:
        if nlflags & NLM_F_EXCL:
            return -errno.EEXIST
        before = (fdb.dst, fdb_to_nud(br, fdb), fdb.flags)
        br.fdb_n_learned -= int(fdb_is_learned(fdb))
        fdb.dst = source
        fdb.is_local = permanent
        fdb.is_static = permanent or static
    now: int = br.dev.machine.clock.now_ns()
    fdb.added_by_user = True
    fdb.flags = flags
    fdb.used = now
    if before != (source, state, flags):
        fdb.updated = now
        fdb_notify(br, fdb, uapi.RTM_NEWNEIGH)
    return 0


def br_fdb_external_learn_add(br: net_bridge, source: net_bridge_port | None, addr: bytes) -> None:
    """net/bridge/br_fdb.c: an address that a program has learned."""
    now: int = br.dev.machine.clock.now_ns()
    fdb = br_fdb_find_rcu(br, addr)
    if fdb is None:
        fdb = fdb_create(br, source, addr, source is None, False)
    elif fdb.dst is source and fdb.flags & FDB_EXT_LEARNED:
        fdb.updated = fdb.used = now
        return
    else:
        br.fdb_n_learned -= int(fdb_is_learned(fdb))
    fdb.dst = source
    fdb.added_by_user = True
    fdb.flags |= FDB_EXT_LEARNED
    fdb.updated = now
    fdb_notify(br, fdb, uapi.RTM_NEWNEIGH)


def fdb_delete_entry(br: net_bridge, p: net_bridge_port | None, addr: bytes) -> int:
    """net/bridge/br_fdb.c: `bridge fdb del ADDR dev PORT master`; of the bridge: `p` None.

    0 or -ENOENT.
    """
    fdb = br_fdb_find_rcu(br, addr)
    if fdb is None or fdb.dst is not p:
        return -errno.ENOENT
    fdb_delete(br, fdb)
    return 0
