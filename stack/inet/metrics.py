"""net/ipv4/metrics.c: the metrics of a route, of either family.

    window, initcwnd, initrwnd, quickack, congctl   TCP: of connections over the route
    features                                        RTAX_FEATURE_ECN: TCP asks for ECN and grants it
    rto_min                                         TCP, in ms, if `lock` has it too
    fastopen_no_cookie                              TCP Fast Open without a cookie
    mtu, advmss, hoplimit                           of all that goes over it
    rtt, rttvar, ssthresh, cwnd, reordering         where a peer's metrics start (tcp_metrics.py)

`lock` has a bit for each metric (1 << RTAX_*): that of mtu lets no router change it, and packets
have no DF. Those of the last line let no connection change it.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import Any, Final

from fastpath.errors import known_words
from stack.core.dst import RTAX_ADVMSS_MAX, RTAX_CC_ALGO, RTAX_MTU_MAX
from stack.core.extack import ExtAckError
from stack.inet.tcp_cong import tcp_ca_get_key_by_name, tcp_ca_key
from stack.net import Net

METRICS: Final = (
    "lock", "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering",
    "hoplimit", "initcwnd", "features", "rto_min", "initrwnd", "quickack", RTAX_CC_ALGO,
    "fastopen_no_cookie",
)  # fmt: skip
"""RTAX_* from 1 on, by the names of `ip route`."""
FEATURES: Final = 0x1F
"""RTAX_FEATURE_MASK."""
LARGEST: Final = {"mtu": RTAX_MTU_MAX, "advmss": RTAX_ADVMSS_MAX, "hoplimit": 255}


def ip_metrics_convert(net: Net, given: Mapping[str, Any]) -> dict[str, int]:
    """net/ipv4/metrics.c: what a route keeps of the metrics; 0 is none.

    Raises: ArgumentError: no such metric. OSError EINVAL: no such feature, or congestion control.
    """
    known_words("route", given, METRICS)
    metrics: dict[str, int] = {}
    for name in METRICS:
        value = given.get(name)
        if value and name == RTAX_CC_ALGO:
            metrics[name] = tcp_ca_get_key_by_name(net, value)
        elif value:
            metrics[name] = min(value, LARGEST.get(name, 0xFFFFFFFF))
    if metrics.get("features", 0) & ~FEATURES:
        raise ExtAckError(errno.EINVAL, "Unknown flag set in feature mask in metrics attribute")
    return metrics


def fib_metrics_match(metrics: Mapping[str, int], wanted: Mapping[str, Any]) -> bool:
    """net/ipv4/fib_semantics.c: whether a route's `metrics` are `wanted`, as far as those go."""
    for name, value in wanted.items():
        want = tcp_ca_key(value) if name == RTAX_CC_ALGO else value
        if metrics.get(name, 0) != want:
            return False
    return True
