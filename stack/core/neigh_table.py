"""include/net/neighbour.h: the data of neighbour tables: entries, parameters, statistics, proxies.

What a family adds (ARP, ND) is a `neigh_table` with a constructor for its entries, and `neigh_ops`
for how they ask. The code is in neighbour.py (look-up, states, output) and neigh_gc.py (removal).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastpath.skbuff import sk_buff, sk_buff_head
from stack.core.drop_reason import SKB_DROP_REASON_NEIGH_DEAD, kfree_skb_reason
from stack.core.netdevice import net_device
from stack.core.rows import wide
from stack.core.snmp import _Mib
from stack.core.timer import timer_list

if TYPE_CHECKING:
    from stack.net import Net as Net

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

NTF_PROXY = 0x08
NTF_ROUTER = 0x80

NEIGH_UPDATE_F_OVERRIDE = 0x1
NEIGH_UPDATE_F_WEAK_OVERRIDE = 0x2
NEIGH_UPDATE_F_OVERRIDE_ISROUTER = 0x4
NEIGH_UPDATE_F_ISROUTER = 0x40000000
NEIGH_UPDATE_F_ADMIN = 0x80000000

SEC = 1_000_000_000
MIN_TIMER = SEC // 100


@dataclass(slots=True)
class neigh_parms:
    """struct neigh_parms: /proc/sys/net/FAMILY/neigh/DEV. Times in ns, queues as named."""

    mcast_probes: int = 3
    ucast_probes: int = 3
    app_probes: int = 0
    mcast_reprobes: int = 0
    retrans_time: int = 1 * SEC
    base_reachable_time: int = 30 * SEC
    reachable_time: int = 30 * SEC
    delay_probe_time: int = 5 * SEC
    gc_staletime: int = 60 * SEC
    queue_len_bytes: int = 212992
    anycast_delay: int = 1 * SEC
    proxy_delay: int = 8 * SEC // 10
    proxy_qlen: int = 64  # packets of the table that wait for proxy_delay
    locktime: int = 1 * SEC


@dataclass(slots=True, frozen=True)
class neigh_ops:
    """struct neigh_ops: what the family does. solicit borrows its packet, the others own theirs."""

    solicit: Callable[[neighbour, sk_buff | None], None]
    error_report: Callable[[neighbour, sk_buff], None]
    output: Callable[[neighbour, sk_buff], int]
    connected_output: Callable[[neighbour, sk_buff], int]


class hh_cache:
    """struct hh_cache: the ready link-layer header (`hh_len` 0: none yet)."""

    __slots__ = ("hh_data", "hh_len")

    def __init__(self) -> None:
        self.hh_len = 0
        self.hh_data = b""


class neigh_statistics(_Mib):
    """struct neigh_statistics: /proc/net/stat/arp_cache, ndisc_cache."""

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


def neigh_blackhole(neigh: neighbour, skb: sk_buff) -> int:
    """net/core/neighbour.c: output of a dead entry. Takes ownership of skb."""
    kfree_skb_reason(neigh.net, skb, SKB_DROP_REASON_NEIGH_DEAD)
    return -errno.ENETDOWN


def _no_solicit(neigh: neighbour, skb: sk_buff | None) -> None:
    """An entry that the family has not set up asks nobody."""


neigh_null_ops = neigh_ops(_no_solicit, lambda n, skb: None, neigh_blackhole, neigh_blackhole)


class neighbour:
    """struct neighbour: one next hop. `primary_key` is its address (host-order int)."""

    __slots__ = (
        "__weakref__",
        "arp_queue",
        "arp_queue_len_bytes",
        "confirmed",
        "dead",
        "dev",
        "flags",
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

    def __init__(
        self,
        tbl: neigh_table,
        dev: net_device,
        key: wide,
        timer_handler: Callable[[timer_list], None],
    ) -> None:
        net: Net = dev.net
        now = net.clock.now_ns()
        self.tbl = tbl
        self.dev = dev
        self.net = net
        self.primary_key = key
        self.parms = tbl.parms
        self.nud_state = NUD_NONE
        self.flags = 0
        self.ha = bytes(dev.addr_len)
        self.hh = hh_cache()
        self.type = 0
        self.dead = False
        self.probes = 0
        self.arp_queue = sk_buff_head()
        self.arp_queue_len_bytes = 0
        self.confirmed = self.updated = self.used = now
        self.ops: neigh_ops = neigh_null_ops
        self.output: Callable[[neighbour, sk_buff], int] = neigh_blackhole
        self.timer = timer_list(net.machine, timer_handler, data=self)

    def __repr__(self) -> str:
        return (
            f"<neighbour {self.primary_key:#x} dev {self.dev.name} "
            f"{NUD_NAMES.get(self.nud_state)} {self.ha.hex(':')}>"
        )


class pneigh_entry:
    """struct pneigh_entry: an address that this host answers for (`ip neigh add proxy`).

    `dev` None: on every interface.
    """

    __slots__ = ("dev", "flags", "key")

    def __init__(self, key: wide, dev: net_device | None, flags: int = 0) -> None:
        self.key = key
        self.dev = dev
        self.flags = flags


class neigh_table:
    """struct neigh_table: the cache of one family on one host; `neigh_table_init` starts it.

    `constructor(neigh) -> 0 | -errno` sets type, state, ops and output of a new entry;
    `pconstructor(entry)`, `pdestructor(entry)` follow proxies come and go; `proxy_redo(skb)` takes
    ownership of a solicitation whose answer was held back.
    """

    __slots__ = (
        "constructor",
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
        "pconstructor",
        "pdestructor",
        "phash",
        "proxy_queue",
        "proxy_redo",
        "proxy_timer",
        "stats",
    )

    def __init__(
        self, net: Net, table_id: str, family: int, constructor: Callable[[neighbour], int]
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
        self.last_flush = self.last_rand = net.clock.now_ns()
        self.gc_timer: timer_list | None = None
        self.phash: dict[tuple[int, int], pneigh_entry] = {}
        self.pconstructor: Callable[[pneigh_entry], None] | None = None
        self.pdestructor: Callable[[pneigh_entry], None] | None = None
        self.proxy_redo: Callable[[sk_buff], Any] | None = None
        self.proxy_queue: list[tuple[int, sk_buff]] = []
        self.proxy_timer: timer_list | None = None

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
