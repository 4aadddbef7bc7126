"""The socket options by name: meaning, socket types, and whether it can be set.

setsockopt and getsockopt look up these rows; docs/knobs.md is generated from them too.
A test checks that no other option is supported, and that each matches its row.
"""

from __future__ import annotations

from stack.core.sockopt import SOCKET_LEVEL
from stack.core.sockopt_table import RW, UNIX, R, SockOpt, W
from stack.core.uapi import SOL_PACKET, SOL_SOCKET
from stack.inet.tcp_sockopt import TCP_LEVEL
from stack.inet.udp_sockopt import UDP_LEVEL
from stack.ipv4.ip_sockglue import IP_LEVEL
from stack.ipv4.raw import RAW_LEVEL
from stack.ipv6.ipv6_sockglue import IPV6_LEVEL
from stack.ipv6.raw_sockopt import ICMPV6_LEVEL, RAWV6_LEVEL
from stack.packet.packet_sockopt import PACKET_LEVEL

__all__ = ["OPTIONS", "RW", "SOCKET_OPTIONS", "SOCKOPTS", "R", "SockOpt", "W"]

LEVELS = (
    *(SOCKET_LEVEL, IP_LEVEL, TCP_LEVEL, UDP_LEVEL, RAW_LEVEL, IPV6_LEVEL, RAWV6_LEVEL),
    *(ICMPV6_LEVEL, PACKET_LEVEL),
)
OPTIONS = tuple(row for level in LEVELS for row in level)
SOCKOPTS = tuple(row for row in OPTIONS if row.sockets != UNIX and row.level != SOL_PACKET)
"""The options of AF_INET and AF_INET6 sockets."""
SOCKET_OPTIONS = tuple(row for row in SOCKOPTS if row.level == SOL_SOCKET)
