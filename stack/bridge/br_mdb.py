"""net/bridge/br_mdb.c, br_multicast.c: the multicast database: groups and their member ports.

An address is the group's, followed by the source's in entries of one source; see
`net_bridge_mdb_entry.addr`. Functions with a result return 0 or -errno unless they say otherwise.
"""

from __future__ import annotations

import errno
from typing import Any

from stack.bridge.br_private import (
    MDB_PG_FLAGS_FAST_LEAVE,
    MDB_PG_FLAGS_PERMANENT,
    br_timer,
    mod_timer_in,
    net_bridge,
    net_bridge_mdb_entry,
    net_bridge_port,
    net_bridge_port_group,
)
from stack.core.netdevice import netif_running
from stack.core.timer import timer_delete, timer_list, timer_shutdown
from stack.core.uapi import RTM_DELMDB, RTM_NEWMDB

RTPROT_KERNEL, RTPROT_STATIC = 2, 4
L2_GROUP_BYTES = 6


def br_group_is_l2(group: bytes) -> bool:
    """net/bridge/br_private.h."""
    return len(group) == L2_GROUP_BYTES


def br_multicast_is_star_g(group: bytes) -> bool:
    """net/bridge/br_private.h: whether senders do not matter."""
    return len(group) in (4, 16)


def br_mdb_notify(
    mp: net_bridge_mdb_entry, pg: net_bridge_port_group | None, kind: int = RTM_NEWMDB
) -> None:
    """net/bridge/br_mdb.c: notify listeners of a change of a group; `pg` None: the host's."""
    rtnl = mp.br.dev.net.rtnl
    if rtnl is not None:
        rtnl(kind, (mp, pg), 0)


def br_multicast_new_group(br: net_bridge, group: bytes) -> net_bridge_mdb_entry | None:
    """net/bridge/br_multicast.c: the entry of a group, made when needed.

    None: there are `hash_max`. As in Linux, snooping is then disabled, and all groups are flooded.
    """
    ctx = br.multicast_ctx
    mp: net_bridge_mdb_entry | None = ctx.mdb.get(group)
    if mp is None:
        if len(ctx.mdb) >= ctx.hash_max:
            ctx.enabled = False
            return None
        mp = net_bridge_mdb_entry(br, group)
        mp.timer = br_timer(br.dev, br_multicast_group_expired, mp)
        ctx.mdb[group] = mp
    return mp


def br_multicast_del_mdb_entry(mp: net_bridge_mdb_entry) -> None:
    """net/bridge/br_multicast.c."""
    timer_shutdown(mp.timer)
    mp.br.multicast_ctx.mdb.pop(mp.addr, None)


def br_multicast_group_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: the host has left a group, or the group has no members."""
    mp: net_bridge_mdb_entry = timer.data
    if not netif_running(mp.br.dev):
        return
    br_multicast_host_leave(mp, True)
    if not mp.ports:
        br_multicast_del_mdb_entry(mp)


def br_multicast_host_join(mp: net_bridge_mdb_entry, notify: bool) -> None:
    """net/bridge/br_multicast.c: the bridge's own device joins a group."""
    if not mp.host_joined:
        mp.host_joined = True
        if notify:
            br_mdb_notify(mp, None)
    if not br_group_is_l2(mp.addr):
        mod_timer_in(mp.timer, mp.br.multicast_ctx.multicast_membership_interval)


def br_multicast_host_leave(mp: net_bridge_mdb_entry, notify: bool) -> None:
    """net/bridge/br_multicast.c."""
    if mp.host_joined:
        mp.host_joined = False
        if notify:
            br_mdb_notify(mp, None, RTM_DELMDB)


def br_multicast_find_port(
    mp: net_bridge_mdb_entry, port: net_bridge_port
) -> net_bridge_port_group | None:
    """net/bridge/br_multicast.c: a port's entry for a group; None: there is none."""
    return next((pg for pg in mp.ports if pg.port is port), None)


def br_multicast_new_port_group(
    mp: net_bridge_mdb_entry, port: net_bridge_port, flags: int, rt_protocol: int
) -> net_bridge_port_group | None:
    """net/bridge/br_multicast.c: a port joins a group; None: it has `mdb_max_entries`."""
    if port.mdb_max_entries and port.mdb_n_entries >= port.mdb_max_entries:
        return None
    port.mdb_n_entries += 1
    pg = net_bridge_port_group(port, mp, flags, rt_protocol)
    pg.timer = br_timer(port.dev, br_multicast_port_group_expired, pg)
    mp.ports.append(pg)
    mp.ports.sort(key=lambda each: -each.port.port_no)
    return pg


def br_multicast_del_pg(pg: net_bridge_port_group) -> None:
    """net/bridge/br_multicast.c: a port leaves a group; later the group too, if empty."""
    mp = pg.mdb
    timer_shutdown(pg.timer)
    mp.ports.remove(pg)
    pg.port.mdb_n_entries -= 1
    br_mdb_notify(mp, pg, RTM_DELMDB)
    if not mp.ports and not mp.host_joined and netif_running(mp.br.dev):
        mod_timer_in(mp.timer, 0)


def br_multicast_port_group_expired(timer: timer_list) -> None:
    """net/bridge/br_multicast.c: no report was received for too long."""
    pg: net_bridge_port_group = timer.data
    if netif_running(pg.port.br.dev) and not pg.flags & MDB_PG_FLAGS_PERMANENT:
        br_multicast_del_pg(pg)


def br_multicast_fast_leave(pg: net_bridge_port_group) -> None:
    """net/bridge/br_multicast.c: the only host behind a port left."""
    if not pg.flags & MDB_PG_FLAGS_PERMANENT:
        pg.flags |= MDB_PG_FLAGS_FAST_LEAVE
        br_multicast_del_pg(pg)


def br_multicast_del_port_groups(p: net_bridge_port, everything: bool) -> None:
    """Remove groups of a disabled port; with `everything` (removed) also permanent ones."""
    for mp in reversed(list(p.br.multicast_ctx.mdb.values())):
        pg = br_multicast_find_port(mp, p)
        if pg is not None and (everything or not pg.flags & MDB_PG_FLAGS_PERMANENT):
            br_multicast_del_pg(pg)


def br_mdb_flush(br: net_bridge) -> None:
    """net/bridge/br_multicast.c br_multicast_dev_del: the bridge is removed."""
    for mp in list(br.multicast_ctx.mdb.values()):
        for pg in mp.ports:
            timer_shutdown(pg.timer)
        br_multicast_del_mdb_entry(mp)


# --- entries set by programs ----------------------------------------------------------------------


class mdb_error(OSError):
    """An invalid entry: the errno and the text of the extended acknowledgement."""

    def __init__(self, err: int, msg: str) -> None:
        super().__init__(err, msg)
        self.msg = f"bridge: {msg}" if msg else ""


def br_mdb_add(
    br: net_bridge,
    p: net_bridge_port | None,
    group: bytes,
    permanent: bool,
    replace: bool = False,
    rt_protocol: int = RTPROT_STATIC,
) -> None:
    """net/bridge/br_mdb.c: `bridge mdb add dev BR port PORT grp GROUP`; None: the host.

    Raises: mdb_error EINVAL, EEXIST, E2BIG.
    """
    if p is None and not br_group_is_l2(group):
        if permanent:
            raise mdb_error(errno.EINVAL, "Flags are not allowed for host groups")
        if not br_multicast_is_star_g(group):
            text = "Groups with sources cannot be manually host joined"
            raise mdb_error(errno.EINVAL, text)
    if br_group_is_l2(group) and not permanent:
        raise mdb_error(errno.EINVAL, "Only permanent L2 entries allowed")
    if p is not None and not p.state and not permanent:
        text = "Port is in disabled state and entry is not permanent"
        raise mdb_error(errno.EINVAL, text)
    mp = br_multicast_new_group(br, group)
    if mp is None:
        raise mdb_error(errno.E2BIG, "")
    if p is None:
        if mp.host_joined and not replace:
            raise mdb_error(errno.EEXIST, "Group is already joined by host")
        br_multicast_host_join(mp, False)
        br_mdb_notify(mp, None)
        return
    pg = br_multicast_find_port(mp, p)
    flags = MDB_PG_FLAGS_PERMANENT if permanent else 0
    if pg is not None and not replace:
        kind = "(*, G)" if br_multicast_is_star_g(group) else "(S, G)"
        raise mdb_error(errno.EEXIST, f"{kind} group is already joined by port")
    if pg is None:
        pg = br_multicast_new_port_group(mp, p, flags, rt_protocol)
        if pg is None:
            text = f"Port is already in {p.mdb_n_entries} groups, and mcast_max_groups={{}}"
            raise mdb_error(errno.E2BIG, text.format(p.mdb_max_entries))
    pg.flags, pg.rt_protocol = flags, rt_protocol
    if permanent:
        timer_delete(pg.timer)
    else:
        mod_timer_in(pg.timer, br.multicast_ctx.multicast_membership_interval)
    br_mdb_notify(mp, pg)


def br_mdb_del(br: net_bridge, p: net_bridge_port | None, group: bytes) -> int:
    """net/bridge/br_mdb.c: `bridge mdb del`. -EINVAL: there is no such entry."""
    mp: net_bridge_mdb_entry | None = br.multicast_ctx.mdb.get(group)
    if mp is None:
        return -errno.EINVAL
    if p is None:
        if not mp.host_joined:
            return -errno.EINVAL
        br_multicast_host_leave(mp, False)
        br_mdb_notify(mp, None, RTM_DELMDB)
        if not mp.ports and netif_running(br.dev):
            mod_timer_in(mp.timer, 0)
        return 0
    pg = br_multicast_find_port(mp, p)
    if pg is None:
        return -errno.EINVAL
    br_multicast_del_pg(pg)
    return 0


def mdb_entries(br: net_bridge) -> list[tuple[net_bridge_mdb_entry, Any]]:
    """Entries of a dump, the newest group first: (entry, port group; None: the host)."""
    found: list[tuple[net_bridge_mdb_entry, Any]] = []
    for mp in reversed(list(br.multicast_ctx.mdb.values())):
        if mp.host_joined:
            found.append((mp, None))
        found += [(mp, pg) for pg in mp.ports]
    return found
