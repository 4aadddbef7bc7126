"""socket() and socketpair() with every family, type and protocol, including invalid ones."""

from __future__ import annotations

import socket
from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX

from tests.linux.calls.world import World

TYPES = (-1, 0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 15, 16, 1 | 0x10, 1 | 0x800, 2 | 0x80000, 1 | 0x4000)
PROTOCOLS = (-1, 0, 1, 2, 3, 6, 17, 41, 58, 136, 200, 254, 255, 256, 257, 1 << 16, 1 << 30)
FAMILIES = (-1, 0, AF_UNIX, AF_INET, AF_INET6, AF_PACKET, 45, 46, 47, 100, 1 << 16)


def creation(w: World) -> None:
    """Create them."""
    for family in FAMILIES:
        for kind in TYPES:
            for protocol in PROTOCOLS:
                w.socket(family, kind, protocol)
    for family in (-1, 0, AF_UNIX, AF_INET, AF_INET6, AF_PACKET, 46):
        for kind in (-1, 0, 1, 2, 3, 5, 11, 1 | socket.SOCK_NONBLOCK, 1 | 0x4000):
            for protocol in (-1, 0, 1, 6, 256):

                def call(args: tuple[int, int, int] = (family, kind, protocol)) -> None:
                    for fd in w.raw.socketpair(*args):
                        w.raw.close(fd)

                w.row(f"socketpair({family}, {kind:#x}, {protocol})", call)
