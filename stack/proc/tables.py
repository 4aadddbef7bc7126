"""/proc/net/arp, route, rt_cache, ipv6_route, if_inet6, anycast6 and others."""

from __future__ import annotations

from stack.core.neigh_table import neigh_table, neighbour
from stack.core.rows import narrow
from stack.core.uapi import NUD_NOARP
from stack.ipv4.arp import arp_state_to_flags
from stack.ipv4.fib import fib_dump, format_addr
from stack.ipv6.if_inet6 import for_each_ifaddr6, inet6_dev
from stack.ipv6.ip6_fib import RTF_NONEXTHOP
from stack.ipv6.route_config import fib6_dump
from stack.net import Net
from stack.proc.text import le_word, stat, text


def arp(net: Net) -> str:
    """net/ipv4/arp.c: arp_seq_show."""
    lines = ["IP address       HW type     Flags       HW address            Mask     Device"]
    entries: list[neighbour] = list(net.arp_tbl)
    for n in entries:
        if n.nud_state & NUD_NOARP:
            continue
        lines.append(
            f"{format_addr(narrow(n.primary_key)):<16} 0x{n.dev.type:<10x}"
            f"0x{arp_state_to_flags(n):<10x}{n.ha.hex(':'):<17}     *        {n.dev.name}"
        )
    return text(lines)


RTF_UP, RTF_GATEWAY, RTF_HOST, RTF_REJECT = 0x1, 0x2, 0x4, 0x200
RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, RTN_UNREACHABLE, RTN_PROHIBIT = 2, 3, 5, 7, 8


def route(net: Net) -> str:
    """net/ipv4/fib_trie.c: fib_route_seq_show (main table)."""
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
    lines = [f"{head:<127}"]
    # In the trie's order: by address, for one address the longest prefix first.
    for row in sorted(fib_dump(net), key=lambda row: (row["dst"], -row["plen"])):
        if row["type"] in (RTN_BROADCAST, RTN_MULTICAST):
            continue
        flags = RTF_UP
        if row["type"] in (RTN_UNREACHABLE, RTN_PROHIBIT):
            flags |= RTF_REJECT
        if row["gw"] or row["gw6"]:
            flags |= RTF_GATEWAY
        if row["plen"] == 32:
            flags |= RTF_HOST
        mask = 0xFFFFFFFF << (32 - row["plen"]) & 0xFFFFFFFF
        metrics = row["metrics"]
        mtu = metrics["advmss"] + 40 if "advmss" in metrics else 0
        line = (
            f"{row['dev'] or '*'}\t{le_word(row['dst'])}\t{le_word(row['gw'])}\t{flags:04X}\t0\t0\t"
            f"{row['metric']}\t{le_word(mask)}\t{mtu}\t"
            f"{metrics.get('window', 0)}\t{metrics.get('rtt', 0) >> 3}"
        )
        lines.append(f"{line:<127}")
    return text(lines)


RT_CACHE_COLUMNS = (
    "Iface\tDestination\tGateway \tFlags\t\tRefCnt\tUse\tMetric\tSource\t\tMTU\tWindow\tIRTT\tTOS\t"
    "HHRef\tHHUptod\tSpecDst"
)
RT_CACHE_STAT_COLUMNS = (
    "entries in_hit in_slow_tot in_slow_mc in_no_route in_brd in_martian_dst in_martian_src "
    "out_hit out_slow_tot out_slow_mc gc_total gc_ignored gc_goal_miss gc_dst_overflow "
    "in_hlist_search out_hlist_search"
)
RT_ACCT_BYTES = 256 * 16
"""struct ip_rt_acct of each of 256 realms."""


def rt_cache(net: Net) -> str:
    """net/ipv4/route.c rt_cache_seq_show: the heading alone, as in Linux since 3.6."""
    return text([f"{RT_CACHE_COLUMNS:<127}"])


def rt_acct(net: Net) -> str:
    """net/ipv4/route.c rt_acct_proc_show: traffic by realm; no route here has one."""
    return "\0" * RT_ACCT_BYTES


def stat_rt_cache(net: Net) -> str:
    """net/ipv4/route.c rt_cpu_seq_show.

    Linux has no cache that the columns `hit`, `gc` and `hlist` could count any more.
    """
    ipv4 = net.ipv4
    values = {
        "entries": len(ipv4.rt_cache_out) + len(ipv4.rth_input) + len(ipv4.rth_checked),
        "in_slow_tot": ipv4.in_slow_tot,
        "in_slow_mc": ipv4.in_slow_mc,
        "in_no_route": ipv4.in_no_route,
        "in_brd": ipv4.in_brd,
        "in_martian_dst": ipv4.in_martian_dst,
        "in_martian_src": ipv4.in_martian_src,
        "out_slow_tot": ipv4.out_slow_tot,
        "out_slow_mc": ipv4.out_slow_mc,
    }
    return stat(RT_CACHE_STAT_COLUMNS, values)


NEIGH_STAT_COLUMNS = (
    "entries allocs destroys hash_grows lookups hits res_failed rcv_probes_mcast rcv_probes_ucast "
    "periodic_gc_runs forced_gc_runs unresolved_discards table_fulls"
)


def neigh_stat(tbl: neigh_table | None) -> str:
    """net/core/neighbour.c: neigh_stat_seq_show."""
    if tbl is None:
        return stat(NEIGH_STAT_COLUMNS)
    own = {"entries": len(tbl.hash), "unresolved_discards": tbl.stats.unres_discards}
    return stat(NEIGH_STAT_COLUMNS, dict(tbl.stats.items()) | own)


def ipv6_route(net: Net) -> str:
    """net/ipv6/route.c: ipv6_route_seq_show, all tables.

    A table without a default route shows the "unreachable" route of its root.
    """
    source, use, lines = f"{0:032x} 00", f"{1:08x} {0:08x}", []
    for tb_id in sorted(net.ipv6.fib6.tables, key=lambda tb_id: (tb_id & 0xFF, tb_id)):
        rows = fib6_dump(net, tb_id)
        for row in rows:
            lines.append(
                f"{row['dst']:032x} {row['plen']:02x} {source} {row['gw']:032x} "
                f"{row['metric']:08x} {use} {row['flags']:08x} {row['dev']:>8}"
            )
        if not any(row["plen"] == 0 for row in rows):
            root = f"{0:032x} 00 {source} {0:032x} {0xFFFFFFFF:08x} {use}"
            lines.append(f"{root} {RTF_REJECT | RTF_NONEXTHOP:08x} {'lo':>8}")
    return text(lines)


def if_inet6(net: Net) -> str:
    """net/ipv6/addrconf.c: if6_seq_show: address, interface, prefix length, scope, flags, name."""
    return text(
        [
            f"{ifp.addr:032x} {ifp.idev.dev.ifindex:02x} {ifp.prefix_len:02x} {ifp.scope:02x} "
            f"{ifp.flags & 0xFF:02x} {ifp.idev.dev.name:>8}"
            for ifp in for_each_ifaddr6(net)
        ]
    )


def anycast6(net: Net) -> str:
    """net/ipv6/anycast.c ac6_seq_show: index, interface, address, users."""
    idevs: list[inet6_dev] = [dev.ip6_ptr for dev in net.dev_base_head if dev.ip6_ptr is not None]
    return "".join(
        f"{idev.dev.ifindex:<4d} {idev.dev.name:<15} {aca.aca_addr:032x} {aca.aca_users:5d}\n"
        for idev in idevs
        for aca in reversed(idev.ac_list.values())
    )
