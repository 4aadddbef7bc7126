"""IPv4 addresses of applications, ("10.0.0.1", 80), and of the sys_* calls, (0x0A000001, 80)."""

from __future__ import annotations

import errno
from typing import Any, TypeAlias

Address: TypeAlias = tuple[str | int, int]
"""(dotted quad or host-order int, port)."""
RetAddress: TypeAlias = Any
"""(dotted quad, port) of a peer; None where a stream has none to tell. Any, as in typeshed."""

CACHED = 1024


def inet_aton(text: str) -> int:
    """Dotted quad to host-order int; "" is any address, "<broadcast>" is 255.255.255.255.

    Raises:
        OSError: not an IPv4 address. There is no name service here.
    """
    if text == "":
        return 0
    if text == "<broadcast>":
        return 0xFFFFFFFF
    if text == "localhost":
        return 0x7F000001
    parts = text.split(".")
    if len(parts) == 4 and all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        a, b, c, d = map(int, parts)
        if a | b | c | d < 256:
            return a << 24 | b << 16 | c << 8 | d
    raise OSError(errno.EINVAL, f"{text!r} is not a dotted IPv4 address")


def inet_ntoa(addr: int) -> str:
    """Host-order int to dotted quad."""
    return f"{addr >> 24}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def parse(address: Address) -> tuple[int, int]:
    """An application's address as the sys_* calls take it.

    Raises:
        TypeError: not a pair. OverflowError: no port. OSError: not an IPv4 address.
    """
    try:
        host, port = address
    except (TypeError, ValueError):
        raise TypeError(f"address {address!r} is not a (host, port) pair") from None
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise OverflowError(f"port {port!r} must be 0-65535")
    return (host if isinstance(host, int) else inet_aton(host)), port
