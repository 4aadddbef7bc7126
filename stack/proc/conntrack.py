"""/proc/net/nf_conntrack, stat/nf_conntrack, netfilter/nfnetlink_log, _queue and xfrm_stat."""

from __future__ import annotations

from stack.core.netfilter import NFPROTO_IPV4
from stack.core.rows import narrow, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP
from stack.ipv4.fib import format_addr
from stack.net import Net
from stack.netfilter.nf_conntrack import IPS_ASSURED, IPS_SEEN_REPLY, Tuple, nf_conn
from stack.netfilter.nf_conntrack_life import nf_ct_all, nf_ct_expires, nf_ct_is_expired
from stack.netfilter.nf_conntrack_proto_tcp import TCP_CONNTRACK_NAMES
from stack.netfilter.nf_log import nfnl_log_pernet
from stack.netfilter.nfnl_queue import instances_listed
from stack.proc.text import full6, text

L4_NAMES = {
    IPPROTO_TCP: "tcp",
    IPPROTO_UDP: "udp",
    IPPROTO_ICMP: "icmp",
    IPPROTO_ICMPV6: "icmpv6",
}
STAT_COLUMNS = (
    "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop "
    "early_drop icmp_error  expect_new expect_create expect_delete search_restart"
)


def _addr(l3num: int, addr: wide) -> str:
    """As the kernel prints it: an IPv6 address in full (%pI6)."""
    return format_addr(narrow(addr)) if l3num == NFPROTO_IPV4 else full6(addr)


def print_tuple(tup: Tuple) -> str:
    """net/netfilter/nf_conntrack_standalone.c: one direction."""
    l3num, proto, saddr, sport, daddr, dport = tup
    words = f"src={_addr(l3num, saddr)} dst={_addr(l3num, daddr)} "
    if proto in (IPPROTO_TCP, IPPROTO_UDP):
        words += f"sport={sport} dport={dport} "
    elif proto in (IPPROTO_ICMP, IPPROTO_ICMPV6):
        words += f"type={dport >> 8} code={dport & 0xFF} id={sport} "
    return words


def ct_seq_show(ct: nf_conn) -> str:
    """net/netfilter/nf_conntrack_standalone.c: a line of the listing."""
    l3name = "ipv4" if ct.l3num == NFPROTO_IPV4 else "ipv6"
    l4name = L4_NAMES.get(ct.protonum, "unknown")
    acct = ct.net.sysctl.nf_conntrack_acct
    words = f"{l3name:<8} {ct.l3num} {l4name:<8} {ct.protonum} {nf_ct_expires(ct) // NSEC_PER_SEC} "
    if ct.tcp is not None:
        words += f"{TCP_CONNTRACK_NAMES[ct.tcp.state]} "
    words += print_tuple(ct.orig.tuple)
    if acct:
        words += f"packets={ct.orig_packets} bytes={ct.orig_bytes} "
    if not ct.status & IPS_SEEN_REPLY:
        words += "[UNREPLIED] "
    words += print_tuple(ct.reply.tuple)
    if acct:
        words += f"packets={ct.reply_packets} bytes={ct.reply_bytes} "
    if ct.status & IPS_ASSURED:
        words += "[ASSURED] "
    return f"{words}mark={ct.mark} zone=0 use=2"


def nf_conntrack(net: Net) -> str:
    """net/netfilter/nf_conntrack_standalone.c: every tracked connection."""
    return "".join(f"{ct_seq_show(ct)}\n" for ct in nf_ct_all(net.ct) if not nf_ct_is_expired(ct))


def stat_nf_conntrack(net: Net) -> str:
    """net/netfilter/nf_conntrack_standalone.c: the counters, of one CPU, in hexadecimal."""
    stat = net.ct.stat
    row = (
        *(net.ct.count, stat.clash_resolve, stat.found, 0, stat.invalid, 0, 0, 0),
        *(stat.insert, stat.insert_failed, stat.drop, stat.early_drop, stat.error),
        *(0, 0, 0, stat.search_restart),
    )
    return text((STAT_COLUMNS, " ".join(f"{value:08x}" for value in row)))


def nfnetlink_log(net: Net) -> str:
    """net/netfilter/nfnetlink_log.c seq_show: the groups that programs have bound."""
    return "".join(
        f"{inst.group_num:5} {inst.peer_portid:6} {inst.qlen:5} {inst.copy_mode} "
        f"{inst.copy_range:5} {inst.flushtimeout:6}  1\n"
        for inst in nfnl_log_pernet(net).instances.values()
    )


def nfnetlink_queue(net: Net) -> str:
    """net/netfilter/nfnetlink_queue.c seq_show: the queues that programs have bound."""
    return "".join(
        f"{queue.queue_num:5} {queue.peer_portid:6} {len(queue.queue_list):5} {queue.copy_mode} "
        f"{queue.copy_range:5} {queue.queue_dropped:5} {queue.queue_user_dropped:5} "
        f"{queue.id_sequence:8}  1\n"
        for queue in instances_listed(net)
    )


def xfrm_stat(net: Net) -> str:
    """net/xfrm/xfrm_proc.c: counters of IPsec errors."""
    return text(f"{name:<24}\t{value}" for name, value in net.mib.xfrm.items())
