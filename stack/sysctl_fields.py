"""The knobs of net.core and net.ipv4 as typed fields; rows of SYSCTLS have their other properties.

tests/stack/test_sysctl.py compares the two.
"""

from __future__ import annotations

from stack.core.rows import state


@state
class sysctl_fields:
    """One field per row of SYSCTLS, which has its initial value (stack/sysctl.py)."""

    dev_weight: int
    default_qdisc: str
    error_burst: int
    error_cost: int
    fib_multipath_hash_fields: int
    fib_multipath_hash_policy: int
    fib_multipath_hash_seed: int
    fib_multipath_use_neigh: int
    flush: int
    fwmark_reflect: int
    gc_thresh1: int
    gc_thresh2: int
    gc_thresh3: int
    gro_normal_batch: int
    icmp_echo_enable_probe: int
    icmp_echo_ignore_all: int
    icmp_echo_ignore_broadcasts: int
    icmp_errors_use_inbound_ifaddr: int
    icmp_ignore_bogus_error_responses: int
    icmp_msgs_burst: int
    icmp_msgs_per_sec: int
    icmp_ratelimit: int
    icmp_ratemask: int
    igmp_link_local_mcast_reports: int
    igmp_max_memberships: int
    igmp_max_msf: int
    igmp_qrv: int
    ip_autobind_reuse: int
    ip_default_ttl: int
    ip_early_demux: int
    ip_forward_update_priority: int
    ip_forward_use_pmtu: int
    ip_local_port_range: tuple[int, int]
    ip_local_reserved_ports: frozenset[int]
    ip_no_pmtu_disc: int
    ip_nonlocal_bind: int
    ip_unprivileged_port_start: int
    ipfrag_high_thresh: int
    ipfrag_low_thresh: int
    ipfrag_max_dist: int
    ipfrag_time: int
    max_dgram_qlen: int
    min_adv_mss: int
    min_pmtu: int
    mtu_expires: int
    netdev_budget: int
    netdev_max_backlog: int
    nexthop_compat_mode: int
    nf_conntrack_acct: int
    nf_conntrack_buckets: int
    nf_conntrack_checksum: int
    nf_conntrack_count: int
    nf_conntrack_events: int
    nf_conntrack_generic_timeout: int
    nf_conntrack_icmp_timeout: int
    nf_conntrack_icmpv6_timeout: int
    nf_conntrack_max: int
    nf_conntrack_tcp_be_liberal: int
    nf_conntrack_tcp_ignore_invalid_rst: int
    nf_conntrack_tcp_loose: int
    nf_conntrack_tcp_max_retrans: int
    nf_conntrack_tcp_timeout_close: int
    nf_conntrack_tcp_timeout_close_wait: int
    nf_conntrack_tcp_timeout_established: int
    nf_conntrack_tcp_timeout_fin_wait: int
    nf_conntrack_tcp_timeout_last_ack: int
    nf_conntrack_tcp_timeout_max_retrans: int
    nf_conntrack_tcp_timeout_syn_recv: int
    nf_conntrack_tcp_timeout_syn_sent: int
    nf_conntrack_tcp_timeout_time_wait: int
    nf_conntrack_tcp_timeout_unacknowledged: int
    nf_conntrack_udp_timeout: int
    nf_conntrack_udp_timeout_stream: int
    optmem_max: int
    ping_group_range: tuple[int, int]
    raw_l3mdev_accept: int
    redirect_load: int
    redirect_number: int
    redirect_silence: int
    rmem_default: int
    rmem_max: int
    somaxconn: int
    strict_mode: int
    tcp_abort_on_overflow: int
    tcp_adv_win_scale: int
    tcp_allowed_congestion_control: str
    tcp_app_win: int
    tcp_autocorking: int
    tcp_available_congestion_control: str
    tcp_backlog_ack_defer: int
    tcp_base_mss: int
    tcp_challenge_ack_limit: int
    tcp_comp_sack_delay_ns: int
    tcp_comp_sack_nr: int
    tcp_comp_sack_rtt_percent: int
    tcp_comp_sack_slack_ns: int
    tcp_congestion_control: str
    tcp_dsack: int
    tcp_early_demux: int
    tcp_early_retrans: int
    tcp_ecn: int
    tcp_ecn_fallback: int
    tcp_ecn_option: int
    tcp_ecn_option_beacon: int
    tcp_fastopen: int
    tcp_fastopen_blackhole_timeout_sec: int
    tcp_fastopen_key: str
    tcp_fack: int
    tcp_fin_timeout: int
    tcp_fwmark_accept: int
    tcp_frto: int
    tcp_invalid_ratelimit: int
    tcp_keepalive_intvl: int
    tcp_keepalive_probes: int
    tcp_keepalive_time: int
    tcp_l3mdev_accept: int
    tcp_limit_output_bytes: int
    tcp_low_latency: int
    tcp_max_orphans: int
    tcp_max_reordering: int
    tcp_max_syn_backlog: int
    tcp_max_tw_buckets: int
    tcp_mem: tuple[int, int, int]
    tcp_min_rtt_wlen: int
    tcp_min_snd_mss: int
    tcp_min_tso_segs: int
    tcp_moderate_rcvbuf: int
    tcp_mtu_probe_floor: int
    tcp_mtu_probing: int
    tcp_no_metrics_save: int
    tcp_no_ssthresh_metrics_save: int
    tcp_notsent_lowat: int
    tcp_orphan_retries: int
    tcp_pacing_ca_ratio: int
    tcp_pacing_ss_ratio: int
    tcp_pingpong_thresh: int
    tcp_probe_interval: int
    tcp_probe_threshold: int
    tcp_recovery: int
    tcp_reflect_tos: int
    tcp_reordering: int
    tcp_retrans_collapse: int
    tcp_retries1: int
    tcp_retries2: int
    tcp_rfc1337: int
    tcp_rmem: tuple[int, int, int]
    tcp_rto_max_ms: int
    tcp_rto_min_us: int
    tcp_sack: int
    tcp_shrink_window: int
    tcp_slow_start_after_idle: int
    tcp_stdurg: int
    tcp_syn_linear_timeouts: int
    tcp_syn_retries: int
    tcp_synack_retries: int
    tcp_syncookies: int
    tcp_thin_linear_timeouts: int
    tcp_timestamps: int
    tcp_tso_rtt_log: int
    tcp_tso_win_divisor: int
    tcp_tw_reuse: int
    tcp_tw_reuse_delay: int
    tcp_window_scaling: int
    tcp_wmem: tuple[int, int, int]
    tcp_workaround_signed_windows: int
    udp_early_demux: int
    udp_l3mdev_accept: int
    udp_rmem_min: int
    udp_wmem_min: int
    tstamp_allow_data: int
    wmem_default: int
    wmem_max: int
