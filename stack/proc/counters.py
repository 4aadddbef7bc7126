"""/proc/net/snmp and /proc/net/netstat, and all counters in the way of nstat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stack.proc.text import group, text

if TYPE_CHECKING:
    from stack.net import Net


def snmp(net: Net) -> str:
    """net/ipv4/proc.c: snmp_seq_show."""
    mib = net.mib
    mib.ip.Forwarding = 1 if net.sysctl.ip_forward else 2
    mib.ip.DefaultTTL = net.sysctl.ip_default_ttl
    lines = group("Ip", mib.ip.items())
    lines += group("Icmp", mib.icmp.items())
    if mib.icmpmsg.intype or mib.icmpmsg.outtype:
        lines += group("IcmpMsg", mib.icmpmsg.items())
    lines += group("Tcp", mib.tcp.items())
    lines += group("Udp", mib.udp.items())
    lines += group("UdpLite", mib.udplite.items())
    return text(lines)


def netstat(net: Net) -> str:
    """net/ipv4/proc.c: netstat_seq_show."""
    return text(group("TcpExt", net.mib.linux.items()) + group("IpExt", net.mib.ipext.items()))


def counters(net: Net) -> Iterator[tuple[str, int]]:
    """Every counter of the net under the name that nstat has for it (IpInReceives ...)."""
    for listing in (snmp(net), netstat(net)):
        lines = listing.splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                yield prefix.rstrip(":") + key, int(value)


def nstat(net: Net, *, zeros: bool = False) -> str:
    """The counters as `nstat -as` prints them, both families; `zeros` shows those at 0 too."""
    with net.lock:
        pairs = [(name, value) for name, value in counters(net) if value or zeros]
    return text(["#kernel", *(f"{name:<31} {value:<18} 0.0" for name, value in pairs)])
