"""net/core/secure_seq.c: unpredictable sequence numbers and offsets (RFC 6528, RFC 7323 5.4).

An address is an int of either width (32 or 128 bits), so one function serves both families.
"""

from __future__ import annotations

from fastpath.net.inetkey import inet_siphash
from stack.core.rows import wide
from stack.net import Net

M32 = 0xFFFFFFFF

# The purpose of a hash of two ends. It is the last word hashed, so that no hash reveals another.
SECURE_SEQ = 0
SECURE_PORT = 1
SECURE_EHASH = 2
SECURE_IP_ID = 3
SECURE_MULTIPATH = 4
SECURE_NAT = 5
SECURE_FLOWLABEL = 6


def secure_tcp_seq(net: Net, saddr: wide, daddr: wide, sport: int, dport: int) -> int:
    """Initial sequence number: keyed hash of the connection plus a clock of 64 ns.

    For IPv6 the kernel calls it secure_tcpv6_seq.
    """
    h = inet_siphash(net.secret, saddr, daddr, sport << 16 | dport, SECURE_SEQ)
    now: int = net.clock.now_ns()
    return (h + (now >> 6)) & M32


def secure_tcp_ts_off(net: Net, saddr: wide, daddr: wide) -> int:
    """Offset of our timestamps towards one peer (RFC 7323 5.4); 0 when tcp_timestamps is 2."""
    if net.sysctl.tcp_timestamps != 1:
        return 0
    return inet_siphash(net.secret, saddr, daddr, 0, SECURE_SEQ)


def secure_ipv4_port_ephemeral(net: Net, saddr: wide, daddr: wide, dport: int) -> int:
    """Where the search for a port to a destination begins (RFC 6056 algorithm 3)."""
    return inet_siphash(net.secret, saddr, daddr, dport, SECURE_PORT)
