"""include/net/tcp.h: times (ns) and sizes that a connection starts with."""

from __future__ import annotations

from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC

TCP_DELACK_MIN = 40 * NSEC_PER_MSEC
TCP_TICK = NSEC_PER_MSEC
"""A jiffy of a kernel with HZ=1000: no timer of it fires sooner."""
TCP_DELACK_MAX = 200 * NSEC_PER_MSEC
TCP_ATO_MIN = 40 * NSEC_PER_MSEC
TCP_RTO_MIN = 200 * NSEC_PER_MSEC
TCP_RTO_MAX = 120 * NSEC_PER_SEC
TCP_TIMEOUT_MIN = 2 * NSEC_PER_MSEC
TCP_TIMEOUT_INIT = 1 * NSEC_PER_SEC
TCP_RESOURCE_PROBE_INTERVAL = NSEC_PER_SEC // 2
TCP_TIMEWAIT_LEN = 60 * NSEC_PER_SEC
TCP_FIN_TIMEOUT_MAX = 120 * NSEC_PER_SEC

TCP_MSS_DEFAULT = 536
