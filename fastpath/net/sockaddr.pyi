"""Stub of the compiled module; the docstrings are in sockaddr.pyx."""

from typing import Any, final

from fastpath.wide import wide

class sockaddr:
    @property
    def family(self) -> int: ...
    @property
    def addr(self) -> int: ...
    @property
    def port(self) -> int: ...
    @property
    def flowinfo(self) -> int: ...
    @property
    def scope_id(self) -> int: ...
    @property
    def sa_len(self) -> int: ...
    def __init__(
        self, family: int, addr: wide, port: wide = 0, flowinfo: wide = 0, scope_id: wide = 0
    ) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class sockaddr_ll(sockaddr):
    @property
    def ifindex(self) -> int: ...
    @property
    def protocol(self) -> int: ...
    @property
    def hatype(self) -> int: ...
    @property
    def pkttype(self) -> int: ...
    @property
    def lladdr(self) -> bytes: ...
    def __init__(
        self,
        protocol: int,
        ifindex: int = 0,
        hatype: int = 0,
        pkttype: int = 0,
        lladdr: bytes | bytearray | memoryview = b"",
    ) -> None: ...

def sockaddr_ll_make(
    protocol: int, ifindex: int, hatype: int, pkttype: int, lladdr: bytes
) -> sockaddr_ll:
    """Make one of numbers that fit; the caller raises ValueError for others."""

def sockaddr_from(data: bytes | bytearray | memoryview) -> sockaddr:
    """The address in the bytes of a struct sockaddr."""

@final
class sockaddr_un(sockaddr):
    @property
    def path(self) -> bytes: ...
    def __init__(self, path: bytes | bytearray | memoryview) -> None: ...
