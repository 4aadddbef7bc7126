"""net/core/neighbour.c: RTM_*NEIGHTBL: parameters of neighbour tables and interfaces.

RTM_GETNEIGHTBL    neightbl_dump_info => neightbl_fill_info, neightbl_fill_parms: `ip ntable show`
RTM_SETNEIGHTBL    neightbl_set: `ip ntable change`

Times are in ms.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

from stack.core.neigh_sysctl import GC_INTERVAL_S, SKB_BYTES
from stack.core.neigh_table import neigh_parms, neigh_table, neigh_var_set
from stack.core.time64 import NSEC_PER_MSEC
from stack.core.uapi import AF_INET, AF_INET6, RTM_NEWNEIGHTBL
from stack.net import Net
from stack.netlink.af_netlink import nlmsg_part
from stack.netlink.netlink_sock import nlmsg
from stack.netlink.nlattr import NlError
from stack.netlink.rt_attrs import NDTA
from stack.netlink.rt_link import header, nlmsg_parse
from stack.netlink.rt_neigh import ADDR_BYTES, neigh_find_table

NDTMSG = struct.Struct("=BBH")
NDT_CONFIG = struct.Struct("=HHIIIIIII")
NDT_STATS = struct.Struct("=11Q")
ENTRY_BYTES = 392
"""sizeof(struct neighbour), without its key."""
TIMES = {
    "NDTPA_REACHABLE_TIME": "reachable_time",
    "NDTPA_BASE_REACHABLE_TIME": "base_reachable_time",
    "NDTPA_GC_STALETIME": "gc_staletime",
    "NDTPA_DELAY_PROBE_TIME": "delay_probe_time",
    "NDTPA_RETRANS_TIME": "retrans_time",
    "NDTPA_ANYCAST_DELAY": "anycast_delay",
    "NDTPA_PROXY_DELAY": "proxy_delay",
    "NDTPA_LOCKTIME": "locktime",
    "NDTPA_INTERVAL_PROBE_TIME_MS": "interval_probe_time",
}
NUMBERS = {
    "NDTPA_QUEUE_LENBYTES": "queue_len_bytes",
    "NDTPA_PROXY_QLEN": "proxy_qlen",
    "NDTPA_APP_PROBES": "app_probes",
    "NDTPA_UCAST_PROBES": "ucast_probes",
    "NDTPA_MCAST_PROBES": "mcast_probes",
    "NDTPA_MCAST_REPROBES": "mcast_reprobes",
}
THRESHOLDS = {f"NDTA_THRESH{n}": f"gc_thresh{n}" for n in (1, 2, 3)}


def neightbl_fill_parms(parms: neigh_parms) -> dict[str, Any]:
    """net/core/neighbour.c: NDTA_PARMS."""
    return {
        "NDTPA_IFINDEX": parms.dev.ifindex if parms.dev is not None else None,
        "NDTPA_REFCNT": 1,
        **{name: getattr(parms, field) for name, field in NUMBERS.items()},
        "NDTPA_QUEUE_LEN": parms.queue_len_bytes // SKB_BYTES,
        **{name: getattr(parms, field) // NSEC_PER_MSEC for name, field in TIMES.items()},
    }


def neightbl_fill_info(tbl: neigh_table, family: int) -> dict[str, Any]:
    """net/core/neighbour.c: a table's parameters and statistics, and the defaults of interfaces."""
    now, key = tbl.net.clock.now_ns(), ADDR_BYTES[family]
    ages = ((now - at) // NSEC_PER_MSEC & 0xFFFFFFFF for at in (tbl.last_flush, tbl.last_rand))
    config = (key, ENTRY_BYTES + key, len(tbl.hash), *ages, 0, 7, 0, len(tbl.proxy_queue))
    s = tbl.stats
    stats = (s.allocs, s.destroys, 0, s.res_failed, s.lookups, s.hits, s.rcv_probes_mcast)
    runs = (s.rcv_probes_ucast, s.periodic_gc_runs, s.forced_gc_runs, s.table_fulls)
    return {
        "NDTA_NAME": tbl.id,
        "NDTA_GC_INTERVAL": GC_INTERVAL_S * 1000,
        **{name: getattr(tbl, field) for name, field in THRESHOLDS.items()},
        "NDTA_CONFIG": NDT_CONFIG.pack(*config),
        "NDTA_STATS": NDT_STATS.pack(*stats, *runs),
        "NDTA_PARMS": neightbl_fill_parms(tbl.parms),
    }


def tables(net: Net, family: int) -> Iterator[tuple[int, neigh_table]]:
    """The tables of a family; 0: both."""
    for each in (AF_INET, AF_INET6):
        tbl = neigh_find_table(net, each)
        if tbl is not None and family in (0, each):
            yield each, tbl


def neightbl_dump_info(nlh: nlmsg) -> Iterator[bytes]:
    """net/core/neighbour.c: RTM_GETNEIGHTBL of all: each table, then each of its interfaces."""
    sk, what = nlh.sk, "neighbor table dump request"
    if sk.strict_chk:
        _, pad1, pad2 = header(nlh, NDTMSG, f"Invalid header for {what}")
        if pad1 or pad2:
            raise NlError(errno.EINVAL, f"Invalid values in header for {what}")
        if len(nlh.payload) > NDTMSG.size:
            raise NlError(errno.EINVAL, f"Invalid data after header in {what}")
    for family, tbl in tables(sk.net, nlh.payload[0]):
        own = (
            {"NDTA_NAME": tbl.id, "NDTA_PARMS": neightbl_fill_parms(p)}
            for p in reversed(tbl.parms_list)
        )
        for part in (neightbl_fill_info(tbl, family), *own):
            payload = NDTMSG.pack(family, 0, 0) + NDTA.build(part)
            yield nlmsg_part(nlh, RTM_NEWNEIGHTBL, payload)


def neightbl_set(nlh: nlmsg) -> None:
    """net/core/neighbour.c: RTM_SETNEIGHTBL. Raises: NlError EINVAL, ENOENT."""
    net = nlh.sk.net
    (family, _, _), tb = nlmsg_parse(nlh, NDTMSG, NDTA)
    if "NDTA_NAME" not in tb:
        raise NlError(errno.EINVAL)
    tbl = next((tbl for _, tbl in tables(net, family) if tbl.id == tb["NDTA_NAME"]), None)
    if tbl is None:
        raise NlError(errno.ENOENT)
    if "NDTA_PARMS" in tb:
        given = tb["NDTA_PARMS"]
        index = given.get("NDTPA_IFINDEX", 0)
        own = (p for p in tbl.parms_list if p.dev is not None and p.dev.ifindex == index)
        parms = next(own, None) if index else tbl.parms
        if parms is None:
            raise NlError(errno.ENOENT)
        if "NDTPA_QUEUE_LEN" in given:
            neigh_var_set(tbl, parms, "queue_len_bytes", given["NDTPA_QUEUE_LEN"] * SKB_BYTES)
        for name, field in NUMBERS.items():
            if name in given:
                neigh_var_set(tbl, parms, field, given[name])
        for name, field in TIMES.items():
            if name in given and field != "reachable_time":
                neigh_var_set(tbl, parms, field, given[name] * NSEC_PER_MSEC)
    for name, field in THRESHOLDS.items():
        if name in tb:
            setattr(tbl, field, tb[name])
