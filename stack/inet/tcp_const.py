"""include/net/tcp.h: times (ns) and sizes that a connection starts with."""

from __future__ import annotations

MSEC = 1_000_000
SEC = 1_000_000_000

TCP_DELACK_MIN = 40 * MSEC
TCP_TICK = MSEC
"""A jiffy of a kernel with HZ=1000: no timer of it fires sooner."""
TCP_DELACK_MAX = 200 * MSEC
TCP_ATO_MIN = 40 * MSEC
TCP_RTO_MIN = 200 * MSEC
TCP_RTO_MAX = 120 * SEC
TCP_TIMEOUT_MIN = 2 * MSEC
TCP_TIMEOUT_INIT = 1 * SEC
TCP_RESOURCE_PROBE_INTERVAL = SEC // 2
TCP_TIMEWAIT_LEN = 60 * SEC
TCP_FIN_TIMEOUT_MAX = 120 * SEC

TCP_MSS_DEFAULT = 536
