"""The address of socket calls in plain Python: the twin of ``fastpath.net.sockaddr``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class sockaddr:
    """struct sockaddr_in and sockaddr_in6 in one value."""

    family: int
    addr: int
    port: int = 0
    flowinfo: int = 0
    scope_id: int = 0
    sa_len: int = field(default=0, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        bits = 128 if self.family == 10 else 32
        if not isinstance(self.addr, int) or self.addr < 0 or self.addr >> bits:
            raise ValueError(f"{self.addr!r} is no address of {bits} bits")
        for name, limit in (("family", 16), ("port", 16), ("flowinfo", 32), ("scope_id", 32)):
            value = getattr(self, name)
            if value < 0 or value >> limit:
                raise ValueError(f"{name} {value} has more than {limit} bits")


class sockaddr_ll(sockaddr):
    """struct sockaddr_ll."""

    __slots__ = ("hatype", "ifindex", "lladdr", "pkttype", "protocol")
    protocol: int
    ifindex: int
    hatype: int
    pkttype: int
    lladdr: bytes

    def __init__(
        self,
        protocol: int,
        ifindex: int = 0,
        hatype: int = 0,
        pkttype: int = 0,
        lladdr: bytes | bytearray | memoryview = b"",
    ) -> None:
        super().__init__(17, 0)
        for name, value, bits in (
            ("protocol", protocol, 16),
            ("ifindex", ifindex, 32),
            ("hatype", hatype, 16),
            ("pkttype", pkttype, 8),
        ):
            if value < 0 or value >> bits:
                raise ValueError(f"{name} {value} has more than {bits} bits")
            object.__setattr__(self, name, value)
        if len(lladdr) > 8:
            raise ValueError("a hardware address has 8 bytes at most")
        object.__setattr__(self, "lladdr", bytes(lladdr))

    def _key(self) -> tuple[object, ...]:
        return self.protocol, self.ifindex, self.hatype, self.pkttype, self.lladdr

    def __eq__(self, other: object) -> bool:
        return type(other) is sockaddr_ll and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


sockaddr_ll_make = sockaddr_ll


class sockaddr_un(sockaddr):
    """struct sockaddr_un: `path` is sun_path."""

    __slots__ = ("path",)
    path: bytes

    def __init__(self, path: bytes | bytearray | memoryview) -> None:
        super().__init__(1, 0)
        object.__setattr__(self, "path", bytes(path))

    def __eq__(self, other: object) -> bool:
        return type(other) is sockaddr_un and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)


def sockaddr_from(data: bytes | bytearray | memoryview) -> sockaddr:
    """The address in the bytes of a struct sockaddr."""
    raw = bytes(data)
    if len(raw) > 128:
        raise ValueError(f"{len(raw)} bytes are no address")
    padded = raw + bytes(128 - len(raw))

    def number(start: int, end: int, order: Literal["big", "little"] = sys.byteorder) -> int:
        return int.from_bytes(padded[start:end], order)

    family, port = number(0, 2), number(2, 4, "big")
    name: sockaddr
    if family == 1 and len(raw) >= 2:
        name = sockaddr_un(raw[2:])
    elif family == 17:
        name = sockaddr_ll(port, number(4, 8), number(8, 10), padded[10], padded[12:20])
    elif family == 10:
        flow, addr = number(4, 8, "big"), number(8, 24, "big")
        name = sockaddr(10, addr, port, flow, number(24, 28))
    elif family == 16:
        name = sockaddr(16, number(4, 8), 0, number(8, 12))
    else:
        name = sockaddr(family, number(4, 8, "big"), port)
    object.__setattr__(name, "sa_len", len(raw) or 1)
    return name
