"""Per-host IPv4 state and its sysctls (include/net/netns/ipv4.h, net/ipv4/sysctl_net_ipv4.c)."""

from __future__ import annotations

from typing import Any

from fastpath.inet import IpIdents

SYSCTL_DEFAULTS: dict[str, Any] = {
    # net.core
    "rmem_default": 212992,
    "wmem_default": 212992,
    "rmem_max": 212992,
    "wmem_max": 212992,
    "optmem_max": 131072,
    "somaxconn": 4096,
    # net.ipv4
    "ip_forward": 0,
    "ip_default_ttl": 64,
    "ip_no_pmtu_disc": 0,
    "ip_forward_use_pmtu": 0,
    "ip_nonlocal_bind": 0,
    "ip_local_port_range": (32768, 60999),
    "ip_local_reserved_ports": frozenset(),
    "ip_unprivileged_port_start": 1024,
    "ip_early_demux": 1,
    "ipfrag_high_thresh": 4 << 20,
    "ipfrag_low_thresh": 3 << 20,
    "ipfrag_time": 30,
    "ipfrag_max_dist": 64,
    "icmp_echo_ignore_all": 0,
    "icmp_echo_ignore_broadcasts": 1,
    "icmp_ignore_bogus_error_responses": 1,
    "icmp_errors_use_inbound_ifaddr": 0,
    "icmp_ratelimit": 1000,
    "icmp_ratemask": 0x1818,
    "icmp_msgs_per_sec": 1000,
    "icmp_msgs_burst": 50,
    "igmp_max_memberships": 20,
    "igmp_max_msf": 10,
    "igmp_qrv": 2,
    "ping_group_range": (0, 2147483647),
    "udp_rmem_min": 4096,
    "udp_wmem_min": 4096,
    "udp_early_demux": 1,
    # net.ipv4.route (times in s)
    "mtu_expires": 600,
    "min_pmtu": 552,
    "min_adv_mss": 256,
    "redirect_load_ns": 20_000_000,
    "redirect_number": 9,
    "redirect_silence_ns": 20_480_000_000,
    "error_cost_ns": 1_000_000_000,
    "error_burst_ns": 5_000_000_000,
    # net.ipv4.conf.all/default
    "accept_redirects": 1,
    "secure_redirects": 1,
    "send_redirects": 1,
    "shared_media": 1,
    "accept_source_route": 0,
    "accept_local": 0,
    "rp_filter": 0,
    "log_martians": 0,
    "route_localnet": 0,
    "bc_forwarding": 0,
    "drop_unicast_in_l2_multicast": 0,
    "force_igmp_version": 0,
    "igmpv2_unsolicited_report_interval_ns": 10_000_000_000,
    "igmpv3_unsolicited_report_interval_ns": 1_000_000_000,
}


class netns_ipv4:
    """struct netns_ipv4: caches, generators and rate limits of one host."""

    __slots__ = (
        "fnhe",
        "frags",
        "icmp_global",
        "icmp_sk",
        "igmp_sk",
        "in_martian_dst",
        "in_martian_src",
        "ip_idents",
        "peers",
        "rt_by_daddr",
        "rt_cache_in",
        "rt_cache_out",
        "rt_genid",
        "secret",
    )

    def __init__(self, net: Any) -> None:
        self.rt_cache_out: dict[tuple[int, ...], Any] = {}
        self.rt_cache_in: dict[tuple[Any, ...], Any] = {}
        self.rt_by_daddr: dict[int, list[tuple[int, ...]]] = {}
        self.rt_genid = 0
        self.fnhe: dict[int, Any] = {}
        self.in_martian_src = 0
        self.in_martian_dst = 0
        self.secret = net.random.getrandbits(48)
        self.ip_idents = IpIdents([net.random.getrandbits(16) for _ in range(1024)])
        self.frags: Any = None
        self.icmp_sk: Any = None
        self.igmp_sk: Any = None
        self.icmp_global: Any = None
        self.peers: dict[int, Any] = {}


def ipv4_sysctl_init(net: Any) -> None:
    """net/ipv4/sysctl_net_ipv4.c: give every sysctl that is not set yet Linux's default."""
    sysctl = net.sysctl
    if not hasattr(sysctl, "ipfrag_high_thresh"):
        # Fragments hold receive buffers; see proto_mem_of_ram.
        sysctl.ipfrag_high_thresh = min(4 << 20, max(net.ram.size_bytes * 3 >> 7, 1 << 18))
        sysctl.ipfrag_low_thresh = sysctl.ipfrag_high_thresh * 3 // 4
    for name, value in SYSCTL_DEFAULTS.items():
        if not hasattr(sysctl, name):
            setattr(sysctl, name, value)


def in_dev_conf(in_dev: Any, name: str) -> int:
    """include/linux/inetdevice.h IN_DEV_*: a device's own setting, else the host's."""
    cnf = getattr(in_dev, "cnf", None)
    if cnf is not None:
        value = cnf.get(name) if isinstance(cnf, dict) else getattr(cnf, name, None)
        if value is not None:
            return int(value)
    return int(getattr(in_dev.dev.net.sysctl, name))


def in_dev_forward(in_dev: Any) -> bool:
    """include/linux/inetdevice.h IN_DEV_FORWARD."""
    cnf = getattr(in_dev, "cnf", None)
    if cnf is not None:
        value = cnf.get("forwarding") if isinstance(cnf, dict) else getattr(cnf, "forwarding", None)
        if value is not None:
            return bool(value)
    return bool(in_dev.dev.net.sysctl.ip_forward)
