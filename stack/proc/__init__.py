"""/proc/net as Linux prints it: dev, snmp, netstat, arp, route, tcp, udp, softnet_stat ...

`read(net, "dev")` returns the file's text; `FILES` lists the files. `nstat(net)` and `ss(net)`
return the output of the tools with these names.
"""

from __future__ import annotations

from collections.abc import Callable

from stack.net import Net
from stack.proc import (
    conntrack,
    counters,
    devices,
    groups,
    mroute,
    protocols,
    sockets,
    tables,
    trie,
    unix,
)
from stack.proc import xtp as xtp_file
from stack.proc.counters import nstat
from stack.proc.ss import ss

__all__ = ["FILES", "nstat", "read", "ss"]

FILES: dict[str, Callable[[Net], str]] = {
    "dev": devices.dev,
    "snmp": counters.snmp,
    "snmp6": counters.snmp6,
    "netstat": counters.netstat,
    "arp": tables.arp,
    "route": tables.route,
    "rt_cache": tables.rt_cache,
    "rt_acct": tables.rt_acct,
    "fib_trie": trie.fib_trie,
    "fib_triestat": trie.fib_triestat,
    "protocols": protocols.protocols,
    "anycast6": tables.anycast6,
    "ipv6_route": tables.ipv6_route,
    "if_inet6": tables.if_inet6,
    "igmp": groups.igmp,
    "mcfilter": groups.mcfilter,
    "igmp6": groups.igmp6,
    "ip_mr_vif": mroute.ip_mr_vif,
    "ip_mr_cache": mroute.ip_mr_cache,
    "ip6_mr_vif": mroute.ip6_mr_vif,
    "ip6_mr_cache": mroute.ip6_mr_cache,
    "mcfilter6": groups.mcfilter6,
    "dev_mcast": groups.dev_mcast,
    "netlink": sockets.netlink,
    "ptype": devices.ptype,
    **sockets.FILES,
    "unix": unix.unix,
    "nf_conntrack": conntrack.nf_conntrack,
    "stat/arp_cache": lambda net: tables.neigh_stat(net.arp_tbl),
    "stat/rt_cache": tables.stat_rt_cache,
    "stat/ndisc_cache": lambda net: tables.neigh_stat(net.ipv6.nd_tbl),
    "stat/nf_conntrack": conntrack.stat_nf_conntrack,
    "netfilter/nfnetlink_log": conntrack.nfnetlink_log,
    "netfilter/nfnetlink_queue": conntrack.nfnetlink_queue,
    "xfrm_stat": conntrack.xfrm_stat,
    "packet": sockets.packet,
    "psched": devices.psched,
    "xtp": xtp_file.xtp,
    "sockstat": sockets.sockstat,
    "sockstat6": sockets.sockstat6,
    "softnet_stat": devices.softnet_stat,
    "softirqs": devices.softirqs,
    "interrupts": devices.interrupts,
}
"""The files below /proc/net, each with the function that builds its text."""


def read(net: Net, name: str) -> str:
    """The text of /proc/net/`name` on host `net`.

    Raises: FileNotFoundError: no such file; the message lists those there are.
    """
    show = FILES.get(name)
    if show is None:
        raise FileNotFoundError(f"/proc/net/{name}: there are {', '.join(FILES)}")
    with net.lock:
        return show(net)
