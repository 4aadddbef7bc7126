"""net/core/neighbour.c: /proc/sys/net/FAMILY/neigh/DEV, for both families, as rows.

`default` has the initial values of an interface. A write there also changes interfaces without a
value of their own. Once an interface has an IPv4 address, all its values are its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stack.core.neigh_table import neigh_copy_dflt_parms, neigh_parms, neigh_table, neigh_var_set
from stack.core.sysctl_net_core import INT_MAX, Sysctl
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC, TICK_NS

DEFAULT = "default"
SKB_BYTES = 2090
"""SKB_TRUESIZE(ETH_FRAME_LEN): bytes of a packet when a queue's length is given in packets."""
GC_INTERVAL_S = 30
"""Nothing reads it, as on Linux."""
LONGEST = INT_MAX // 250
"""Of a time in any unit."""
IPV6 = "net.ipv6."
HZ_NS = NSEC_PER_SEC // 250


@dataclass(frozen=True, slots=True)
class neigh_sysctl_row:
    """A file; `field` of neigh_parms has its value times `unit`."""

    sysctl: Sysctl
    field: str
    unit: int = 1


def _row(
    path: str, name: str, field: str, what: str, unit: int = 1, most: int = INT_MAX
) -> neigh_sysctl_row:
    default = 0 if path.startswith(IPV6) and field == "locktime" else getattr(neigh_parms(), field)
    sysctl = Sysctl(path, name, default // unit, what, 0, most)
    return neigh_sysctl_row(sysctl, field, unit)


def neigh_rows(family: str) -> dict[str, neigh_sysctl_row]:
    """The files of a family by name."""
    path = f"net.{family}.neigh.{DEFAULT}"
    retrans = TICK_NS if family == "ipv4" else HZ_NS
    packets = "packets that wait for an address"
    rows = (
        _row(path, "app_solicit", "app_probes", "requests to programs that listen on netlink"),
        _row(
            path,
            "mcast_resolicit",
            "mcast_reprobes",
            "requests by broadcast after those by unicast",
        ),
        _row(path, "mcast_solicit", "mcast_probes", "requests by broadcast or multicast"),
        _row(path, "ucast_solicit", "ucast_probes", "unicast requests to a known address"),
        _row(path, "proxy_qlen", "proxy_qlen", "most requests that wait for proxy_delay"),
        _row(path, "unres_qlen_bytes", "queue_len_bytes", f"bytes of {packets}"),
        _row(path, "unres_qlen", "queue_len_bytes", packets, SKB_BYTES, INT_MAX // SKB_BYTES),
        *_times(path, "base_reachable_time", "mean time that a neighbour counts as reachable"),
        _time(
            path,
            "delay_first_probe_time",
            "delay_probe_time",
            "s until a stale neighbour that is used is probed",
        ),
        _time(
            path,
            "gc_stale_time",
            "gc_staletime",
            "s after which an unused neighbour may be forgotten",
        ),
        _time(
            path,
            "locktime",
            "locktime",
            "1/100 s for which an address is not replaced by a later answer",
            TICK_NS,
        ),
        _time(path, "anycast_delay", "anycast_delay", "1/100 s; nothing uses it", TICK_NS),
        _time(
            path, "proxy_delay", "proxy_delay", "1/100 s that a proxy's answer is delayed", TICK_NS
        ),
        neigh_sysctl_row(
            Sysctl(
                path,
                "interval_probe_time_ms",
                5000,
                "ms between probes of managed neighbours",
                1,
                LONGEST,
            ),
            "interval_probe_time",
            NSEC_PER_MSEC,
        ),
        *_times(path, "retrans_time", "time between questions", retrans),
    )
    return {row.sysctl.name: row for row in rows}


def _time(
    path: str, name: str, field: str, what: str, unit: int = NSEC_PER_SEC
) -> neigh_sysctl_row:
    return _row(path, name, field, what, unit, LONGEST)


def _times(
    path: str, field: str, what: str, unit: int = NSEC_PER_SEC
) -> tuple[neigh_sysctl_row, ...]:
    return (
        _time(path, field, field, f"{what}; {field}_ms is finer", unit),
        _time(path, f"{field}_ms", field, f"{what}, ms", NSEC_PER_MSEC),
    )


class neigh_values:
    """The values of one interface, or of `default`, by the names of files."""

    def __init__(
        self, tbl: neigh_table, parms: neigh_parms, rows: dict[str, neigh_sysctl_row]
    ) -> None:
        self.tbl, self.parms, self.rows = tbl, parms, rows

    def __getitem__(self, name: str) -> int:
        row = self.rows[name]
        value: int = getattr(self.parms, row.field)
        return value // row.unit

    def __setitem__(self, name: str, value: Any) -> None:
        row = self.rows[name]
        neigh_var_set(self.tbl, self.parms, row.field, row.sysctl.parse(value) * row.unit)
        if self.parms is self.tbl.parms:
            neigh_copy_dflt_parms(self.tbl, row.field)
