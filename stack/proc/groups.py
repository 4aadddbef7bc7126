"""/proc/net/igmp, mcfilter, igmp6, mcfilter6, dev_mcast: the groups of each interface."""

from __future__ import annotations

from collections.abc import Iterator

from stack.core.time64 import TICK_NS
from stack.ipv4.devinet import in_device
from stack.ipv4.igmp import igmp_v1_seen, igmp_v2_seen
from stack.ipv4.mc_list import ip_mc_list
from stack.ipv6.addr import (
    IN6ADDR_LINKLOCAL_ALLNODES,
    IPV6_ADDR_SCOPE_LINKLOCAL,
    ipv6_addr_mc_scope,
)
from stack.ipv6.if_inet6 import ifmcaddr6, inet6_dev
from stack.net import Net
from stack.proc.text import le_word, text


def dev_mcast(net: Net) -> str:
    """net/core/net-procfs.c: dev_mc_seq_show: addresses, their users, those of SIOCADDMULTI."""
    return "".join(
        f"{dev.ifindex:<4d} {dev.name:<15} {dev.mc.users(addr):<5d} "
        f"{addr in dev.mc.global_use:<5d} {addr.hex()}\n"
        for dev in net.dev_base_head
        for addr in dev.mc
    )


def _groups(net: Net) -> Iterator[tuple[in_device, list[ip_mc_list]]]:
    """Each interface with IPv4, and its groups, the newest first."""
    for dev in net.dev_base_head:
        in_dev: in_device | None = dev.ip_ptr
        if in_dev is not None and in_dev.mc_list:
            yield in_dev, in_dev.mc_list


def igmp(net: Net) -> str:
    """net/ipv4/igmp.c: igmp_mc_seq_show: groups, their listeners, time to a report."""
    lines = ["Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter"]
    now = net.now()
    for in_dev, groups in _groups(net):
        querier = "V1" if igmp_v1_seen(in_dev) else "V2" if igmp_v2_seen(in_dev) else "V3"
        dev = in_dev.dev
        lines.append(f"{dev.ifindex}\t{dev.name:<10}: {len(groups):5d} {querier:>7}")
        for im in groups:
            # Linux repeats changes (version 3) by a timer of the interface, which is not shown.
            running = im.timer.pending and not (im.changes and querier == "V3")
            ticks = (im.timer.expires - now) // TICK_NS if running else 0
            lines.append(
                f"\t\t\t\t{le_word(im.multiaddr)} {im.users:5d} {running:d}:{ticks:08X}\t\t"
                f"{im.reporter:d}"
            )
    return text(lines)


def mcfilter(net: Net) -> str:
    """net/ipv4/igmp.c: igmp_mcf_seq_show: how many include and exclude each source."""
    lines = [f"Idx {'Device':>6} {'MCA':>10} {'SRC':>10} {'INC':>6} {'EXC':>6}"]
    for in_dev, groups in _groups(net):
        dev = in_dev.dev
        for im in groups:
            for source, (exclude, include) in im.filter.sources.items():
                lines.append(
                    f"{dev.ifindex:3d} {dev.name:>6.6s} 0x{im.multiaddr:08x} 0x{source:08x} "
                    f"{include:6d} {exclude:6d}"
                )
    return text(lines)


def _groups6(net: Net) -> Iterator[ifmcaddr6]:
    for dev in net.dev_base_head:
        idev: inet6_dev | None = dev.ip6_ptr
        if idev is not None:
            yield from reversed(idev.mc_list.values())


MAF_TIMER_RUNNING, MAF_LAST_REPORTER, MAF_LOADED, MAF_NOREPORT, MAF_GSQUERY = 1, 2, 4, 8, 16


def igmp6(net: Net) -> str:
    """net/ipv6/mcast.c: igmp6_mc_seq_show: groups, their listeners, flags, time to a report."""
    lines = []
    now = net.now()
    for mc in _groups6(net):
        flags, ticks = 0, 0
        if mc.timer.pending:
            flags |= MAF_TIMER_RUNNING
            ticks = (mc.timer.expires - now) // TICK_NS
        flags |= mc.last_reporter * MAF_LAST_REPORTER | mc.loaded * MAF_LOADED
        flags |= bool(mc.gsquery) * MAF_GSQUERY
        if (
            mc.mca_addr == IN6ADDR_LINKLOCAL_ALLNODES
            or ipv6_addr_mc_scope(mc.mca_addr) < IPV6_ADDR_SCOPE_LINKLOCAL
        ):
            flags |= MAF_NOREPORT
        dev = mc.idev.dev
        lines.append(
            f"{dev.ifindex:<4d} {dev.name:<15} {mc.mca_addr:032x} {mc.filter.users:5d} "
            f"{flags:08X} {ticks}"
        )
    return text(lines)


def mcfilter6(net: Net) -> str:
    """net/ipv6/mcast.c: igmp6_mcf_seq_show: how many include and exclude each source."""
    head = f"{'Idx':>3} {'Device':>6} {'Multicast Address':>32} {'Source Address':>32}"
    lines = [f"{head} {'INC':>6} {'EXC':>6}"]
    for mc in _groups6(net):
        dev = mc.idev.dev
        for source, (exclude, include) in mc.filter.sources.items():
            lines.append(
                f"{dev.ifindex:3d} {dev.name:>6.6s} {mc.mca_addr:032x} {source:032x} "
                f"{include:6d} {exclude:6d}"
            )
    return text(lines)
