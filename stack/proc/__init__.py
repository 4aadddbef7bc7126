"""/proc/net as Linux prints it: dev, snmp, netstat, arp, route, tcp, udp, softnet_stat ...

`read(net, "dev")` returns the file's text; `FILES` lists the files. `nstat(net)` and `ss(net)`
return the output of the tools with these names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stack.proc.conntrack import nf_conntrack, stat_nf_conntrack, xfrm_stat
from stack.proc.counters import netstat, nstat, snmp, snmp6
from stack.proc.devices import dev, interrupts, psched, ptype, softirqs, softnet_stat
from stack.proc.groups import dev_mcast, igmp, igmp6, mcfilter, mcfilter6
from stack.proc.mroute import ip6_mr_cache, ip6_mr_vif, ip_mr_cache, ip_mr_vif
from stack.proc.protocols import protocols
from stack.proc.sockets import (
    icmp,
    icmp6,
    netlink,
    packet,
    raw,
    raw6,
    sockstat,
    sockstat6,
    tcp,
    tcp6,
    udp,
    udp6,
)
from stack.proc.ss import ss
from stack.proc.tables import (
    anycast6,
    arp,
    arp_cache,
    if_inet6,
    ipv6_route,
    ndisc_cache,
    route,
    rt_acct,
    rt_cache,
    stat_rt_cache,
)
from stack.proc.trie import fib_trie, fib_triestat
from stack.proc.unix import unix
from stack.proc.xtp import xtp

if TYPE_CHECKING:
    from stack.net import Net

__all__ = ["FILES", "nstat", "read", "ss"]

FILES: dict[str, Callable[[Net], str]] = {
    "dev": dev,
    "snmp": snmp,
    "snmp6": snmp6,
    "netstat": netstat,
    "arp": arp,
    "route": route,
    "rt_cache": rt_cache,
    "rt_acct": rt_acct,
    "fib_trie": fib_trie,
    "fib_triestat": fib_triestat,
    "protocols": protocols,
    "anycast6": anycast6,
    "ipv6_route": ipv6_route,
    "if_inet6": if_inet6,
    "igmp": igmp,
    "mcfilter": mcfilter,
    "igmp6": igmp6,
    "ip_mr_vif": ip_mr_vif,
    "ip_mr_cache": ip_mr_cache,
    "ip6_mr_vif": ip6_mr_vif,
    "ip6_mr_cache": ip6_mr_cache,
    "mcfilter6": mcfilter6,
    "dev_mcast": dev_mcast,
    "icmp": icmp,
    "icmp6": icmp6,
    "netlink": netlink,
    "ptype": ptype,
    "tcp": tcp,
    "tcp6": tcp6,
    "udp": udp,
    "udp6": udp6,
    "raw": raw,
    "raw6": raw6,
    "unix": unix,
    "nf_conntrack": nf_conntrack,
    "stat/arp_cache": arp_cache,
    "stat/rt_cache": stat_rt_cache,
    "stat/ndisc_cache": ndisc_cache,
    "stat/nf_conntrack": stat_nf_conntrack,
    "xfrm_stat": xfrm_stat,
    "packet": packet,
    "psched": psched,
    "xtp": xtp,
    "sockstat": sockstat,
    "sockstat6": sockstat6,
    "softnet_stat": softnet_stat,
    "softirqs": softirqs,
    "interrupts": interrupts,
}
"""The files below /proc/net, each with the function that makes its text."""


def read(net: Net, name: str) -> str:
    """The text of /proc/net/`name` on host `net`.

    Raises:
        FileNotFoundError: no such file; the message lists those there are.
    """
    show = FILES.get(name)
    if show is None:
        raise FileNotFoundError(f"/proc/net/{name}: there are {', '.join(FILES)}")
    with net.lock:
        return show(net)
