"""Knobs of net.netfilter (net/netfilter/nf_conntrack_standalone.c)."""

from __future__ import annotations

from typing import Any

from stack.core.sysctl_net_core import INT_MIN, Sysctl


def nf_conntrack_htable_size(ram_bytes: int) -> int:
    """net/netfilter/nf_conntrack_core.c: by the memory: 1024 at least, 262144 above 4 GiB."""
    if ram_bytes > 4 << 30:
        return 262144
    if ram_bytes > 1 << 30:
        return 65536
    return max(ram_bytes // 16384 // 8, 1024)


def _row(name: str, default: Any, what: str, low: int = 0, *rest: Any, **more: Any) -> Sysctl:
    return Sysctl("net.netfilter", f"nf_conntrack_{name}", default, what, low, *rest, **more)


NET_NETFILTER = (
    _row("acct", 0, "count packets and bytes of tracked connections", 0, 1),
    _row(
        "buckets",
        nf_conntrack_htable_size,
        "number of hash buckets; kept, nf_conntrack_max is the limit",
        mode=0o444,
    ),
    _row("checksum", 1, "verify checksums; packets with a wrong one are INVALID", 0, 1),
    _row("count", 0, "connections that are tracked", INT_MIN, mode=0o444),
    _row("events", 2, "send events about connections; 2: if a program listens", 0, 2),
    _row("generic_timeout", 600, "seconds without a packet of a protocol that is not known"),
    _row("icmp_timeout", 30, "seconds without a packet of an ICMP query"),
    _row("icmpv6_timeout", 30, "seconds without a packet of an ICMPv6 query"),
    _row("max", nf_conntrack_htable_size, "most connections that are tracked, 0: no limit"),
    _row("tcp_be_liberal", 0, "of packets out of the window only resets are INVALID", 0, 1),
    _row("tcp_ignore_invalid_rst", 0, "let resets pass that are behind the window", 0, 1),
    _row("tcp_loose", 1, "track connections whose beginning was not seen", 0, 1),
    _row(
        "tcp_max_retrans",
        3,
        "unanswered transmissions after which the timeout is tcp_timeout_max_retrans",
        0,
        255,
    ),
    _row("tcp_timeout_close", 10, "seconds after a reset"),
    _row("tcp_timeout_close_wait", 60, "seconds after a FIN was acknowledged"),
    _row("tcp_timeout_established", 432000, "seconds without a packet of an open connection"),
    _row("tcp_timeout_fin_wait", 120, "seconds after the first FIN"),
    _row("tcp_timeout_last_ack", 30, "seconds after the second FIN"),
    _row("tcp_timeout_max_retrans", 300, "seconds after tcp_max_retrans transmissions"),
    _row("tcp_timeout_syn_recv", 60, "seconds after a SYN-ACK"),
    _row("tcp_timeout_syn_sent", 120, "seconds after a SYN"),
    _row("tcp_timeout_time_wait", 120, "seconds after the last ACK"),
    _row("tcp_timeout_unacknowledged", 300, "seconds while data are not acknowledged"),
    _row("udp_timeout", 30, "seconds without a datagram while none was answered"),
    _row("udp_timeout_stream", 120, "seconds without a datagram of a stream"),
)
