"""The Internet checksum in plain Python: the twin of ``fastpath.base.csum`` and its oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_M16 = 0xFFFF
_M32 = 0xFFFFFFFF


def _fold16(acc: int) -> int:
    while acc > _M16:
        acc = (acc & _M16) + (acc >> 16)
    return acc


def csum_add(a: int, b: int) -> int:
    """Add two accumulators with end-around carry."""
    s = a + b
    return (s & _M32) + (s >> 32)


def csum_sub(a: int, b: int) -> int:
    """Subtract accumulator `b` from `a`."""
    return csum_add(a, ~b & _M32)


def csum_partial(data: Buffer, acc: int = 0) -> int:
    """Sum the big-endian 16-bit words of `data` into `acc` (RFC 1071)."""
    raw = bytes(data)
    raw += bytes(len(raw) & 1)
    words = sum(int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2))
    return csum_add(acc, _fold16(words))


def csum_fold(acc: int) -> int:
    """Fold `acc` to 16 bits and complement it: the value that goes into a header."""
    return ~_fold16(acc) & _M16


def csum_block_add(a: int, b: int, offset: int) -> int:
    """Join the sum `b` of a block that began `offset` bytes after where `a` began."""
    if offset & 1:
        b = b >> 8 | (b & 0xFF) << 24
    return csum_add(a, b)


def csum_block_sub(a: int, b: int, offset: int) -> int:
    """Subtract the sum `b` of a block at `offset` from `a`."""
    return csum_block_add(a, ~b & _M32, offset)


def csum_tcpudp_nofold(saddr: int, daddr: int, length: int, proto: int, acc: int) -> int:
    """Sum the IPv4 pseudo header into `acc`; addresses in host order (RFC 9293 3.1)."""
    s = saddr + daddr + length + proto + acc
    s = (s & _M32) + (s >> 32)
    return (s & _M32) + (s >> 32)


def csum_tcpudp_magic(saddr: int, daddr: int, length: int, proto: int, acc: int) -> int:
    """Fold `acc` and the IPv4 pseudo header into the value of a check field."""
    return csum_fold(csum_tcpudp_nofold(saddr, daddr, length, proto, acc))


def csum_ipv6_nofold(saddr: int, daddr: int, length: int, proto: int, acc: int = 0) -> int:
    """Sum the IPv6 pseudo header into `acc`; addresses are 128-bit ints (RFC 8200 8.1)."""
    acc = csum_partial(daddr.to_bytes(16, "big"), csum_partial(saddr.to_bytes(16, "big"), acc))
    return csum_add(csum_add(acc, length), proto)


def csum_ipv6_magic(saddr: int, daddr: int, length: int, proto: int, acc: int = 0) -> int:
    """Fold `acc` and the IPv6 pseudo header into the value of a check field."""
    return csum_fold(csum_ipv6_nofold(saddr, daddr, length, proto, acc))


def csum_replace2(check: int, old: int, new: int) -> int:
    """Update `check` for a 16-bit word that changed (RFC 1624 equation 3)."""
    return ~_fold16((~check & _M16) + (~old & _M16) + new) & _M16


def csum_replace4(check: int, old: int, new: int) -> int:
    """Update `check` for a 32-bit word that changed (RFC 1624 equation 3)."""
    return ~_fold16((~check & _M16) + (~old & _M32) + new) & _M16


def ip_compute_csum(data: Buffer) -> int:
    """Return the check of `data`: 0 when `data` contains its correct check (RFC 1071)."""
    return csum_fold(csum_partial(data))
