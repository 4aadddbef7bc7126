"""The address of socket calls in plain Python: the twin of ``fastpath.sockaddr``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class sockaddr:
    """struct sockaddr_in and sockaddr_in6 in one value."""

    family: int
    addr: int
    port: int = 0
    flowinfo: int = 0
    scope_id: int = 0

    def __post_init__(self) -> None:
        bits = 128 if self.family == 10 else 32
        if not isinstance(self.addr, int) or self.addr < 0 or self.addr >> bits:
            raise ValueError(f"{self.addr!r} is no address of {bits} bits")
        for name, limit in (("family", 16), ("port", 16), ("flowinfo", 32), ("scope_id", 32)):
            value = getattr(self, name)
            if value < 0 or value >> limit:
                raise ValueError(f"{name} {value} has more than {limit} bits")
