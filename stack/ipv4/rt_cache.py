"""Cached routes of a net: dropping them when a table, an address or a path changes."""

from __future__ import annotations

from stack.core.dst import DST_OBSOLETE_KILL
from stack.net import Net

RT_CACHE_MAX = 8192


def rt_cache_flush(net: Net) -> None:
    """net/ipv4/route.c: make every cached route obsolete."""
    ipv4 = net.ipv4
    ipv4.rt_genid += 1
    for rt in (*ipv4.rt_cache_out.values(), *ipv4.rth_input.values(), *ipv4.rth_checked.values()):
        rt.obsolete = DST_OBSOLETE_KILL
        rt.neigh = None
    ipv4.rt_cache_out.clear()
    ipv4.rth_input.clear()
    ipv4.rth_checked.clear()
    ipv4.rt_by_daddr.clear()


def rt_flush_exceptions(net: Net) -> None:
    """net/ipv4/route.c ipv4_sysctl_rtcache_flush: forget also learned path MTUs and redirects."""
    net.ipv4.fnhe.clear()
    rt_cache_flush(net)


def rt_kill_daddr(net: Net, daddr: int) -> None:
    """Make the cached output routes to one destination obsolete."""
    ipv4 = net.ipv4
    for key in ipv4.rt_by_daddr.pop(daddr, ()):
        rt = ipv4.rt_cache_out.pop(key, None)
        if rt is not None:
            rt.obsolete = DST_OBSOLETE_KILL
