"""net/core/secure_seq.c: sequence numbers and offsets nobody can guess (RFC 6528, RFC 7323 5.4).

An address is an int of either width (32 or 128 bits), so one function serves both families.
"""

from __future__ import annotations

from hashlib import blake2s
from struct import Struct
from typing import TYPE_CHECKING

from stack.core.rows import wide

if TYPE_CHECKING:
    from stack.net import Net


_WORDS = Struct("!QQQQI")
M32 = 0xFFFFFFFF
M64 = 0xFFFFFFFFFFFFFFFF


def secure_hash(
    net: Net, saddr: wide, daddr: wide, ports: int, size: int, more: bytes = b""
) -> wide:
    """`size` bytes (as an int) of a hash of the connection, keyed by the net's secret."""
    data = _WORDS.pack(saddr >> 64, saddr & M64, daddr >> 64, daddr & M64, ports) + more
    return int.from_bytes(blake2s(data, digest_size=size, key=net.tcp_secret).digest(), "big")


def secure_tcp_seq(net: Net, saddr: wide, daddr: wide, sport: int, dport: int) -> int:
    """Initial sequence number: keyed hash of the connection plus a clock of 64 ns.

    For IPv6 the kernel calls it secure_tcpv6_seq.
    """
    h = secure_hash(net, saddr, daddr, sport << 16 | dport, 8)
    return (h + (net.now() >> 6)) & M32


def secure_tcp_ts_off(net: Net, saddr: wide, daddr: wide) -> int:
    """Offset of our timestamps towards one peer (RFC 7323 5.4); 0 when tcp_timestamps is 2."""
    if net.sysctl.tcp_timestamps != 1:
        return 0
    return secure_hash(net, saddr, daddr, 0, 8) & M32
