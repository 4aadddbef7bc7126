"""/proc/net/snmp, /proc/net/snmp6, /proc/net/netstat, and all counters as nstat prints them."""

from __future__ import annotations

from collections.abc import Iterator

from stack.net import Net
from stack.proc.text import group, text


def snmp(net: Net) -> str:
    """net/ipv4/proc.c: snmp_seq_show."""
    mib = net.mib
    mib.ip.Forwarding = 1 if net.ipv4.devconf_all.forwarding else 2
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


def snmp6_items(net: Net) -> Iterator[tuple[str, int]]:
    """Every counter of IPv6 under its name in /proc/net/snmp6 (Ip6InReceives ...)."""
    mib = net.mib
    for name, value in mib.ip6.items():
        yield f"Ip6{name}", value
    for name, value in (*mib.icmp6.items(), *mib.icmp6msg.named(), *mib.icmp6msg.items()):
        yield f"Icmp6{name}", value
    for name, value in mib.udp6.items():
        yield f"Udp6{name}", value
    for name, value in mib.udplite.items():
        if name != "IgnoredMulti":
            yield f"UdpLite6{name}", value


def snmp6(net: Net) -> str:
    """net/ipv6/proc.c: snmp6_seq_show."""
    return text(f"{name:<32}\t{value}" for name, value in snmp6_items(net))


def counters(net: Net) -> Iterator[tuple[str, int]]:
    """Every counter of the net by its name in nstat (IpInReceives ...)."""
    for listing in (snmp(net), netstat(net)):
        lines = listing.splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=True):
            prefix, *keys = names.split()
            for key, value in zip(keys, values.split()[1:], strict=True):
                yield prefix.rstrip(":") + key, int(value)
    yield from snmp6_items(net)


def nstat(net: Net, *, zeros: bool = False) -> str:
    """The counters as `nstat -as` prints them, both families; `zeros` shows those at 0 too."""
    with net.lock:
        pairs = [(name, value) for name, value in counters(net) if value or zeros]
    return text(["#kernel", *(f"{name:<31} {value:<18} 0.0" for name, value in pairs)])
