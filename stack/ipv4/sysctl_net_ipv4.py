"""The sysctls of net.ipv4 (net/ipv4/sysctl_net_ipv4.c, route.c, devinet.c), as rows.

A row has a name, a default, a range and a description; see sysctl_net_core. The functions at the
beginning make rows of one type or of one directory. stack/ipv4/sysctl_names.py finds rows by name.

Times have Linux's units: seconds, or ms where the name or the text says so. Linux's jiffies are ms
here (HZ = 1000).
"""

from __future__ import annotations

from typing import Any

from stack.core.sysctl_net_core import (
    INT_MAX,
    INT_MIN,
    KEYS,
    LONG_MAX,
    NAME,
    NAMES,
    NO_KEY,
    PORTS,
    UINT_MAX,
    Sysctl,
)
from stack.inet.multipath import FIELDS_ALL, FIELDS_DEFAULT
from stack.ipv4.devconf import CONF4_ROWS

IPV4, ROUTE = "net.ipv4", "net.ipv4.route"
NEIGH = "net.ipv4.neigh.default"


def _int(
    name: str, default: Any, what: str, low: int = INT_MIN, high: int = INT_MAX, count: int = 1
) -> Sysctl:
    """proc_dointvec_minmax, proc_doulongvec_minmax: `count` numbers."""
    return Sysctl(IPV4, name, default, what, low, high, count)


def _u8(name: str, default: int, what: str, low: int = 0, high: int = 255) -> Sysctl:
    """proc_dou8vec_minmax."""
    return Sysctl(IPV4, name, default, what, low, high)


def _bool(name: str, default: int, what: str) -> Sysctl:
    return Sysctl(IPV4, name, default, what, 0, 1)


def _route(name: str, default: int, what: str, low: int = INT_MIN) -> Sysctl:
    return Sysctl(ROUTE, name, default, what, low)


def ipfrag_high(ram_bytes: int) -> int:
    """ipfrag_high_thresh, ip6frag_high_thresh: a 32nd of the RAM, at least 256 KiB.

    It is at most 4 MiB, as in Linux. The limit protects receive buffers, of which a small host has
    few (see proto_mem_of_ram). A short fragment counts as 896 bytes (copybreak).
    """
    return min(4 << 20, max(ram_bytes >> 5, 1 << 18))


def frag_thresholds(path: str, prefix: str) -> tuple[Sysctl, Sysctl]:
    """The rows of the memory of packets in reassembly, in both families."""
    high, low = f"{prefix}_high_thresh", f"{prefix}_low_thresh"
    does = f"least value of {high}; nothing else since Linux 4.17"
    return (
        Sysctl(path, high, ipfrag_high, "bytes for packets in reassembly", 0, LONG_MAX),
        Sysctl(path, low, lambda ram: ipfrag_high(ram) * 3 // 4, does, 0, LONG_MAX),
    )


def neigh_thresholds(path: str) -> tuple[Sysctl, Sysctl, Sysctl]:
    """The rows of the size of a table of neighbours, in both families."""
    return (
        Sysctl(path, "gc_thresh1", 128, "neighbours below which nothing is forgotten", 0),
        Sysctl(path, "gc_thresh2", 512, "neighbours above which unused ones are dropped", 0),
        Sysctl(path, "gc_thresh3", 1024, "most neighbours", 1),
    )


def tcp_mem_pages(ram_bytes: int) -> tuple[int, int, int]:
    """tcp_mem in pages: shares of the RAM, so that unread sockets cannot use up all buffers."""
    pages = max(ram_bytes >> 12, 256)
    return pages * 3 >> 5, pages >> 3, pages * 3 >> 4


EVERY_VRF = "sockets of the protocol without a device serve every VRF"
IP = (
    _int("ip_forward", 0, "forward packets between interfaces"),
    _u8("ip_default_ttl", 64, "TTL of packets whose socket sets none", 1),
    _u8(
        "ip_no_pmtu_disc",
        0,
        "1: no DF; 2: also ignore fragmentation-needed; 3: only if a socket sent the packet",
    ),
    _u8("ip_early_demux", 1, "packets of a connection take its route: TCP, UDP"),
    _u8("tcp_early_demux", 1, "the same for TCP alone"),
    _u8("udp_early_demux", 1, "the same for connected UDP sockets alone"),
    _bool("ip_forward_update_priority", 1, "forwarded packets get the priority of their TOS"),
    _u8("ip_forward_use_pmtu", 0, "forwarding uses a learned path MTU"),
    _u8("fwmark_reflect", 0, "RST, ACKs without a socket and ICMP have the mark of their cause"),
    *(_bool(f"{p}_l3mdev_accept", n, EVERY_VRF) for p, n in {"tcp": 0, "udp": 0, "raw": 1}.items()),
    _u8(
        "fib_multipath_hash_policy",
        0,
        "choose a next hop by 0: addresses 1: ports 2: inner 3: fields",
        0,
        3,
    ),
    _int(
        "fib_multipath_hash_fields",
        FIELDS_DEFAULT,
        "fields that policy 3 hashes, as bits",
        1,
        FIELDS_ALL,
    ),
    _int("fib_multipath_hash_seed", 0, "seed of that hash", 0, UINT_MAX),
    _bool("fib_multipath_use_neigh", 0, "skip next hops whose neighbour does not answer"),
    _bool("nexthop_compat_mode", 1, "routes over objects also show the objects' gateways"),
    _u8("ip_nonlocal_bind", 0, "bind() accepts addresses that are not local"),
    _bool("ip_autobind_reuse", 0, "sockets with SO_REUSEADDR share a port if none is free"),
    _int(
        "ip_local_port_range",
        (32768, 60999),
        "ports for sockets that do not choose one",
        1,
        65535,
        2,
    ),
    Sysctl(
        IPV4,
        "ip_local_reserved_ports",
        frozenset(),
        "ports that are never chosen for a socket",
        0,
        65535,
        kind=PORTS,
    ),
    _int("ip_unprivileged_port_start", 1024, "ports below need privilege (Host.uid 0)", 0, 65535),
    *frag_thresholds(IPV4, "ipfrag"),
    _int("ipfrag_time", 30, "seconds until a packet in reassembly is given up", 0),
    _int("ipfrag_max_dist", 64, "packets of a peer that may overtake a fragment", 0),
    _bool("icmp_echo_enable_probe", 0, "answer questions about interfaces (RFC 8335)"),
    _bool("icmp_echo_ignore_all", 0, "ignore echo requests"),
    _bool(
        "icmp_echo_ignore_broadcasts",
        1,
        "ignore echo and timestamp requests to broadcast and multicast addresses",
    ),
    _bool("icmp_ignore_bogus_error_responses", 1, "0: ICMP errors about broadcasts count as wrong"),
    _bool("icmp_errors_use_inbound_ifaddr", 0, "ICMP errors carry the receiving interface's addr"),
    _int("icmp_ratelimit", 1000, "ms between ICMP errors to one host", 0),
    _int("icmp_ratemask", 0x1818, "ICMP types that the two limits count"),
    _int("icmp_msgs_per_sec", 1000, "ICMP errors a second, to all hosts together", 0),
    _int("icmp_msgs_burst", 50, "burst of ICMP errors, to all hosts together", 0),
    _u8("igmp_link_local_mcast_reports", 1, "report groups of 224.0.0.0/24, too"),
    _int("igmp_max_memberships", 20, "groups that a socket may join"),
    _int("igmp_max_msf", 10, "sources in a filter of a group"),
    _int("igmp_qrv", 2, "IGMP robustness: how many times a report is sent", 1),
    _int("ping_group_range", (0, INT_MAX), "group ids that may open ping sockets", 0, INT_MAX, 2),
    _int("udp_rmem_min", 4096, "receive bytes that a UDP socket has when memory is short", 1),
    Sysctl(
        IPV4,
        "udp_wmem_min",
        4096,
        "kept and checked; it does nothing on Linux either",
        1,
        obsolete="UDP does not account for the memory that it sends from, so it does nothing, as "
        "on Linux",
    ),
    Sysctl(ROUTE, "flush", 0, "any number: forget learned path MTUs and redirects", mode=0o200),
    _route("mtu_expires", 600, "seconds for which a learned path MTU holds"),
    _route("min_pmtu", 552, "smallest path MTU that is accepted, bytes", 68),
    _route("min_adv_mss", 256, "smallest MSS that is offered, bytes"),
    _route(
        "redirect_load",
        20,
        "ms before the next redirect to one host, doubled for each redirect sent",
    ),
    _route("redirect_number", 9, "most redirects to a host that ignores them"),
    _route("redirect_silence", 20480, "ms after which redirects to a host start again"),
    _route("error_cost", 1000, "ms of credit that one ICMP unreachable costs"),
    _route("error_burst", 5000, "ms of credit that may accumulate for a burst of unreachables"),
    *CONF4_ROWS.values(),
    *neigh_thresholds(NEIGH),
)

TCP = (
    _u8("tcp_abort_on_overflow", 0, "RST instead of silence when the accept queue is full"),
    Sysctl(
        IPV4,
        "tcp_adv_win_scale",
        1,
        "kept and checked; it does nothing since Linux 6.6",
        -31,
        31,
        obsolete="obsolete since Linux 6.6, where windows follow the packets' real overhead; it "
        "does nothing",
    ),
    _u8("tcp_app_win", 31, "window / 2^n is kept for the application's buffer", 0, 31),
    _int(
        "tcp_challenge_ack_limit",
        INT_MAX,
        "challenge ACKs a second, of all connections together (RFC 5961)",
    ),
    Sysctl(
        IPV4,
        "tcp_allowed_congestion_control",
        "reno cubic",
        "congestion controls that sockets may choose whose user is not root",
        kind=NAMES,
    ),
    _u8("tcp_autocorking", 1, "a small packet waits while an earlier one is in this host's queues"),
    Sysctl(
        IPV4,
        "tcp_available_congestion_control",
        "reno cubic",
        "congestion controls that are registered",
        kind=NAMES,
        mode=0o444,
    ),
    _bool(
        "tcp_backlog_ack_defer",
        1,
        "one ACK for all data that arrived while a call owned the socket",
    ),
    _int(
        "tcp_comp_sack_delay_ns",
        1_000_000,
        "ns for which ACKs of segments out of order are held back at most",
        0,
        LONG_MAX,
    ),
    _u8("tcp_comp_sack_nr", 44, "ACKs that may be merged into one; 0: none is held back"),
    _int(
        "tcp_comp_sack_rtt_percent",
        33,
        "share of a round trip for which they are held back (before Linux 6.19: 5)",
        1,
        1000,
    ),
    _int(
        "tcp_comp_sack_slack_ns",
        10_000,
        "ns of slack of their timer; it is late by all of it",
        0,
        LONG_MAX,
    ),
    Sysctl(IPV4, "tcp_congestion_control", "cubic", "congestion control of new sockets", kind=NAME),
    _u8("tcp_dsack", 1, "report duplicates (RFC 2883)"),
    _u8("tcp_early_retrans", 3, "3: tail loss probes", 0, 4),
    _u8(
        "tcp_ecn",
        2,
        "0: never; 1: ask for and grant ECN (RFC 3168); 2: grant it; 3: ask for and grant Accurate "
        "ECN (RFC 9768); 4: grant it, ask for ECN; 5: grant it",
        0,
        5,
    ),
    _u8("tcp_ecn_fallback", 1, "a lost SYN that requested ECN is repeated without it"),
    _u8("tcp_ecn_option", 2, "Accurate ECN's: 0: never; 1: after changes; 2: always", 0, 2),
    _u8("tcp_ecn_option_beacon", 3, "options in a round trip at least, if not always", 0, 3),
    _int(
        "tcp_fastopen",
        1,
        "TCP Fast Open, bits: 1 clients, 2 servers, 4 and 0x200 they need no cookies, 0x400 every "
        "listener",
    ),
    _int(
        "tcp_fastopen_blackhole_timeout_sec",
        0,
        "seconds without Fast Open when a path swallows it, doubled each time; 0: never",
        0,
    ),
    Sysctl(
        IPV4,
        "tcp_fastopen_key",
        NO_KEY,
        "key of Fast Open cookies, optionally followed by an old key",
        kind=KEYS,
        mode=0o600,
    ),
    *(
        Sysctl(
            IPV4,
            name,
            0,
            "kept and checked; it does nothing since Linux " + since,
            *within,
            obsolete=f"obsolete since Linux {since}; it does nothing",
        )
        for name, since, within in (
            ("tcp_fack", "4.15", (0, 255)),
            ("tcp_low_latency", "4.14", (0, 255)),
        )
    ),
    _int("tcp_fin_timeout", 60, "seconds in FIN_WAIT_2 without an owner"),
    _u8("tcp_frto", 2, "find spurious timeouts (RFC 5682)"),
    _u8(
        "tcp_fwmark_accept", 0, "a new connection takes the mark of its SYN if the socket has none"
    ),
    _int("tcp_invalid_ratelimit", 500, "ms between duplicate ACKs for segments out of window", 0),
    _int("tcp_keepalive_intvl", 75, "seconds between keepalive probes"),
    _u8("tcp_keepalive_probes", 9, "keepalive probes without an answer"),
    _int("tcp_keepalive_time", 7200, "seconds of silence before the first keepalive probe"),
    _int(
        "tcp_limit_output_bytes",
        4 << 20,
        "bytes of a connection in this host's queues and devices; more wait in the socket",
    ),
    _int("tcp_base_mss", 1024, "bytes of payload at which the search for the path MTU begins"),
    _int("tcp_max_orphans", 4096, "most sockets without an owner"),
    _int("tcp_max_reordering", 300, "segments that may arrive out of order before loss is seen", 1),
    _int("tcp_max_syn_backlog", 1024, "half-open connections when tcp_syncookies is 0"),
    _int("tcp_max_tw_buckets", 4096, "most sockets in TIME_WAIT"),
    Sysctl(
        IPV4,
        "tcp_mem",
        tcp_mem_pages,
        "pages of 4 KiB: low, pressure, high",
        0,
        LONG_MAX,
        3,
        machine=True,
    ),
    _int("tcp_min_rtt_wlen", 300, "seconds over which the least RTT is taken", 0, 86400),
    _int("tcp_min_snd_mss", 48, "least MSS, bytes", 48, 65535),
    _int(
        "tcp_mtu_probe_floor",
        48,
        "least payload to which a black hole shrinks segments, bytes",
        48,
        65535,
    ),
    _u8(
        "tcp_mtu_probing",
        0,
        "search the path MTU by larger segments (RFC 4821): 1 after timeouts in a row; 2 always",
    ),
    _int("tcp_probe_interval", 600, "seconds until the path MTU is searched again", 0),
    _int("tcp_probe_threshold", 8, "the search ends when its range is smaller than this, bytes"),
    _int("tcp_pacing_ss_ratio", 200, "% of a window per round trip, in slow start", 0, 1000),
    _int("tcp_pacing_ca_ratio", 120, "% of a window per round trip, after slow start", 0, 1000),
    _u8("tcp_tso_rtt_log", 9, "a round trip below 2^n us is near: larger packets"),
    _u8("tcp_min_tso_segs", 2, "packets that a slow flow gathers in a super-packet", 1),
    _u8("tcp_moderate_rcvbuf", 1, "tune receive buffers"),
    _u8("tcp_no_metrics_save", 0, "remember nothing of connections that end"),
    _bool("tcp_no_ssthresh_metrics_save", 1, "remember no ssthresh of connections that end"),
    _int(
        "tcp_notsent_lowat", UINT_MAX, "unsent bytes below which a socket is writable", 0, UINT_MAX
    ),
    _u8("tcp_orphan_retries", 0, "retransmissions of a closed socket; 0 is 8"),
    _u8(
        "tcp_pingpong_thresh",
        1,
        "replies after which a connection counts as interactive, so that ACKs are delayed",
        1,
    ),
    _u8("tcp_recovery", 1, "1: RACK; 2: static window; 4: no DupThresh"),
    _bool("tcp_reflect_tos", 0, "SYN-ACKs and new connections have the class of the SYN"),
    _int("tcp_reordering", 3, "first estimate of reordering, segments", 1),
    _u8("tcp_retrans_collapse", 1, "join small segments when retransmitting"),
    _int("tcp_rto_max_ms", 120_000, "ms of the longest retransmission timeout", 1000, 120_000),
    _int("tcp_rto_min_us", 200_000, "us of the shortest retransmission timeout, in whole ms", 1),
    _u8("tcp_retries1", 3, "timeouts before another route is looked for"),
    _u8("tcp_retries2", 15, "timeouts before a connection is given up"),
    _u8("tcp_rfc1337", 0, "RST does not end TIME_WAIT"),
    _int("tcp_rmem", (4096, 131072, 6 << 20), "bytes: least, default, most", 1, INT_MAX, 3),
    _u8("tcp_sack", 1, "selective acknowledgements (RFC 2018)"),
    _u8("tcp_shrink_window", 0, "take back offered window when memory is short (RFC 7323)", 0, 1),
    _u8("tcp_slow_start_after_idle", 1, "shrink the window after a pause (RFC 2861)"),
    _u8("tcp_stdurg", 0, "the urgent pointer as in RFC 1122"),
    _u8("tcp_syn_linear_timeouts", 4, "SYN timeouts before they double", 0, 127),
    _u8("tcp_syn_retries", 6, "SYN retransmissions", 1, 127),
    _u8("tcp_synack_retries", 5, "SYN-ACK retransmissions"),
    _u8("tcp_syncookies", 1, "1: when the queue is full; 2: always"),
    _u8("tcp_thin_linear_timeouts", 0, "no backoff for streams with few packets out"),
    _u8("tcp_timestamps", 1, "1: with a random offset; 2: without (RFC 7323)"),
    _u8("tcp_tso_win_divisor", 3, "part of the window that one super-packet may take"),
    _u8("tcp_tw_reuse", 2, "1: reuse TIME_WAIT ports when connecting; 2: on loopback", 0, 2),
    _int("tcp_tw_reuse_delay", 1000, "ms in TIME_WAIT before such a port is reused", 1, 60_000),
    _u8("tcp_window_scaling", 1, "window scaling (RFC 7323)"),
    _int("tcp_wmem", (4096, 16384, 4 << 20), "bytes: least, default, most", 1, INT_MAX, 3),
    _u8("tcp_workaround_signed_windows", 0, "offer unscaled windows below 32 KiB"),
)

NET_IPV4 = (*IP, *TCP)
