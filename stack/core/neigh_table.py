"""include/net/neighbour.h: the data of neighbour tables: entries, parameters, statistics, proxies.

A family (ARP, ND) adds a `neigh_table` with a constructor for its entries, and `neigh_ops` for
solicitations. The code is in neighbour.py (lookup, states, output) and neigh_gc.py (removal).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Any, Final

from fastpath.base.skbuff import sk_buff, sk_buff_head
from stack.core import uapi
from stack.core.drop_reason import SKB_DROP_REASON_NEIGH_DEAD, kfree_skb_reason
from stack.core.netdevice import net_device
from stack.core.rows import row, state, wide
from stack.core.snmp import _Mib
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import timer_list
from stack.net import Net as Net

NUD_NAMES = {
    uapi.NUD_NONE: "NONE",
    uapi.NUD_INCOMPLETE: "INCOMPLETE",
    uapi.NUD_REACHABLE: "REACHABLE",
    uapi.NUD_STALE: "STALE",
    uapi.NUD_DELAY: "DELAY",
    uapi.NUD_PROBE: "PROBE",
    uapi.NUD_FAILED: "FAILED",
    uapi.NUD_NOARP: "NOARP",
    uapi.NUD_PERMANENT: "PERMANENT",
}

NEIGH_UPDATE_F_OVERRIDE = 0x1
NEIGH_UPDATE_F_WEAK_OVERRIDE = 0x2
NEIGH_UPDATE_F_OVERRIDE_ISROUTER = 0x4
NEIGH_UPDATE_F_ISROUTER = 0x40000000
NEIGH_UPDATE_F_FLAGS = 0x100
"""Not Linux's: flags have changed, of which listeners hear (neigh_update_flags)."""
NEIGH_UPDATE_F_ADMIN = 0x80000000

MIN_TIMER = NSEC_PER_SEC // 100


@state
class neigh_parms:
    """struct neigh_parms: /proc/sys/net/FAMILY/neigh/DEV. Times in ns, queues as named."""

    mcast_probes: int = 3
    ucast_probes: int = 3
    app_probes: int = 0
    mcast_reprobes: int = 0
    retrans_time: int = 1 * NSEC_PER_SEC
    interval_probe_time: int = 5 * NSEC_PER_SEC
    base_reachable_time: int = 30 * NSEC_PER_SEC
    reachable_time: int = 30 * NSEC_PER_SEC
    delay_probe_time: int = 5 * NSEC_PER_SEC
    gc_staletime: int = 60 * NSEC_PER_SEC
    queue_len_bytes: int = 212992
    anycast_delay: int = 1 * NSEC_PER_SEC  # reported, but unused, as on Linux
    proxy_delay: int = 8 * NSEC_PER_SEC // 10
    proxy_qlen: int = 64  # packets of the table that wait for proxy_delay
    locktime: int = 1 * NSEC_PER_SEC
    dev: net_device | None = None  # None: the defaults of a new interface
    data_state: frozenset[str] = row(make=frozenset)
    """Set for `dev`: later defaults do not change these."""


@state
class neigh_ops:
    """struct neigh_ops: a family's functions. solicit borrows its packet, the others own it."""

    solicit: Callable[[neighbour, sk_buff | None], None]
    error_report: Callable[[neighbour, sk_buff], None]
    output: Callable[[neighbour, sk_buff], int]
    connected_output: Callable[[neighbour, sk_buff], int]


@state
class hh_cache:
    """struct hh_cache: the ready link-layer header (`hh_len` 0: none yet)."""

    hh_len: int = row(0)
    hh_data: bytes = row(b"")


@state
class neigh_statistics(_Mib):
    """struct neigh_statistics: /proc/net/stat/arp_cache, ndisc_cache."""

    allocs: int = row(0)
    destroys: int = row(0)
    forced_gc_runs: int = row(0)
    hits: int = row(0)
    lookups: int = row(0)
    periodic_gc_runs: int = row(0)
    rcv_probes_mcast: int = row(0)
    rcv_probes_ucast: int = row(0)
    res_failed: int = row(0)
    table_fulls: int = row(0)
    unres_discards: int = row(0)


def neigh_blackhole(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: output of a dead entry. Takes ownership of skb."""
    kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
    return -errno.ENETDOWN


def _no_solicit(neigh: neighbour, skb: sk_buff | None) -> None:
    """`solicit` of an entry that its family has not set up: do nothing."""


neigh_null_ops = neigh_ops(_no_solicit, lambda n, skb: None, neigh_blackhole, neigh_blackhole)


@state
class neighbour:
    """struct neighbour: one next hop. `primary_key` is its address (host-order int)."""

    tbl: neigh_table
    """The table that it is in: ARP's or ND's."""
    dev: net_device
    """The interface over which it is reached."""
    primary_key: wide
    """Its network address."""
    timer_handler: Callable[[timer_list], None]
    """neigh_timer_handler, which `timer` calls."""
    net: Net = row(of=lambda neigh: neigh.dev.net)
    """The namespace of `dev`."""
    parms: neigh_parms = row(of=lambda neigh: neigh.tbl.parms)
    """Times and limits of its interface."""
    nud_state: int = row(uapi.NUD_NONE)
    """NUD_*."""
    flags: int = row(0)
    """Bits NTF_*: is it a router; from bit NTF_EXT_SHIFT those of NDA_FLAGS_EXT."""
    protocol: int = row(0)
    """RTPROT_* of the program that added it, 0: none."""
    ha: bytes = row(of=lambda neigh: bytes(neigh.dev.addr_len))
    """Its link-layer address; zeros until it is known."""
    hh: hh_cache = row(make=hh_cache)
    """The ready link-layer header."""
    type: int = row(0)
    """RTN_*: unicast, multicast, broadcast, local."""
    dead: bool = row(False)
    """Whether it was removed from the table."""
    probes: int = row(0)
    """Number of solicitations in this state."""
    arp_queue: sk_buff_head = row(make=sk_buff_head)
    """Packets that wait for its address."""
    arp_queue_len_bytes: int = row(0)
    """Bytes of truesize in arp_queue."""
    confirmed: int = row(of=lambda neigh: neigh.net.clock.now_ns())
    """When it was last known to be reachable, ns."""
    updated: int = row(of=lambda neigh: neigh.confirmed)
    """When its state or address last changed, ns."""
    used: int = row(of=lambda neigh: neigh.confirmed)
    """When the slow output was last used, ns."""
    ops: neigh_ops = row(of=lambda _: neigh_null_ops)
    """Its family's functions to solicit and send."""
    output: Callable[[neighbour, sk_buff], int] = row(neigh_blackhole)
    """(neigh, skb): what neigh_output calls; takes ownership of skb."""
    timer: timer_list = row(
        of=lambda neigh: timer_list(neigh.net.machine, neigh.timer_handler, data=neigh)
    )
    """Ends REACHABLE, DELAY and the waits between probes."""

    def __repr__(self) -> str:
        return (
            f"<neighbour {self.primary_key:#x} dev {self.dev.name} "
            f"{NUD_NAMES.get(self.nud_state)} {self.ha.hex(':')}>"
        )


@state
class pneigh_entry:
    """struct pneigh_entry: an address that this host answers for (`ip neigh add proxy`).

    `dev` None: on every interface.
    """

    key: wide
    dev: net_device | None
    flags: int = 0
    protocol: int = 0


@state
class neigh_table:
    """struct neigh_table: the cache of one family on one host; `neigh_table_init` starts it.

    `parms` are those that a new interface begins with, `parms_list` the interfaces' own.
    `constructor(neigh) -> 0 | -errno` sets type, state, ops and output of a new entry;
    `pconstructor(entry)`, `pdestructor(entry)` follow proxies come and go; `proxy_redo(skb)` takes
    ownership of a solicitation whose answer was held back.
    """

    net: Net
    id: str
    family: int
    constructor: Callable[[neighbour], int]
    parms: neigh_parms = row(make=neigh_parms)
    parms_list: list[neigh_parms] = row(make=list)
    hash: dict[wide, neighbour] = row(make=dict)
    gc_thresh1: int = row(128)
    gc_thresh2: int = row(512)
    gc_thresh3: int = row(1024)
    stats: neigh_statistics = row(make=neigh_statistics)
    last_flush: int = row(of=lambda tbl: tbl.net.clock.now_ns())
    last_rand: int = row(of=lambda tbl: tbl.last_flush)
    gc_timer: timer_list | None = row()
    managed_timer: timer_list | None = row()
    """Expires when the managed neighbours are asked again; pending while there are any."""
    phash: dict[tuple[wide, int], pneigh_entry] = row(make=dict)
    pconstructor: Callable[[pneigh_entry], None] | None = row()
    pdestructor: Callable[[pneigh_entry], None] | None = row()
    proxy_redo: Callable[[sk_buff], Any] | None = row()
    proxy_queue: list[tuple[int, sk_buff]] = row(make=list)
    proxy_timer: timer_list | None = row()

    def __iter__(self) -> Iterator[neighbour]:
        return iter(tuple(self.hash.values()))

    def __len__(self) -> int:
        return len(self.hash)


def neigh_key(dev: net_device, addr: wide) -> wide:
    """Key of `neigh_table.hash`: an address on an interface."""
    return addr << 16 | dev.ifindex


def neigh_rand_reach_time(net: Net, base_ns: int) -> int:
    """net/core/neighbour.c: between half and one and a half of `base_ns` (RFC 4861 6.3.2)."""
    return net.random.randrange(base_ns) + base_ns // 2 if base_ns else 0


NEIGH_VARS: Final = (
    *("mcast_probes", "ucast_probes", "app_probes", "mcast_reprobes", "retrans_time"),
    "interval_probe_time",
    *("base_reachable_time", "reachable_time", "delay_probe_time", "gc_staletime"),
    *("queue_len_bytes", "anycast_delay", "proxy_delay", "proxy_qlen", "locktime"),
)
"""What neigh_parms has that an interface begins with."""


def neigh_parms_alloc(dev: net_device, tbl: neigh_table) -> neigh_parms:
    """net/core/neighbour.c: the parameters of a new interface."""
    parms = neigh_parms()
    for name in NEIGH_VARS:
        setattr(parms, name, getattr(tbl.parms, name))
    parms.dev = dev
    tbl.parms_list.append(parms)
    return parms


def neigh_parms_release(tbl: neigh_table, parms: neigh_parms) -> None:
    """net/core/neighbour.c: the interface goes."""
    if parms in tbl.parms_list:
        tbl.parms_list.remove(parms)


def neigh_parms_data_state_setall(parms: neigh_parms) -> None:
    """include/net/neighbour.h: later defaults no longer change them."""
    parms.data_state = frozenset(NEIGH_VARS)


def neigh_var_set(tbl: neigh_table, parms: neigh_parms, name: str, value: int) -> None:
    """include/net/neighbour.h: set a parameter. The reachable time is drawn anew from its base."""
    setattr(parms, name, value)
    if name == "base_reachable_time":
        parms.reachable_time = neigh_rand_reach_time(tbl.net, value)
    parms.data_state |= {name}


def neigh_copy_dflt_parms(tbl: neigh_table, name: str) -> None:
    """net/core/neighbour.c: a default goes to the interfaces that have no value of their own."""
    for parms in tbl.parms_list:
        if name not in parms.data_state:
            setattr(parms, name, getattr(tbl.parms, name))
