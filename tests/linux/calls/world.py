"""The interface for tables of calls: the same calls for Linux and our host.

`Calls` is one world's system calls with plain arguments: addresses as the bytes of a struct
sockaddr, option values as bytes. `World` makes them for a table, and keeps each result under
a name that is the same in both worlds. This module imports nothing of ours: the kernel's half runs
in a process that has not loaded the stack.
"""

from __future__ import annotations

import errno
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

Control: TypeAlias = list[tuple[int, int, bytes]]
Outcome: TypeAlias = Any
"""An errno's name, or the call's result: an int, bytes, or a list of such."""

ADDR4, ADDR6 = "10.9.0.1", "2001:db8:9::1"
NOBODY4, NOBODY6 = "10.9.0.77", "2001:db8:9::77"
FAR4, FAR6 = "192.0.2.1", "2001:db8:ffff::1"
"""Our own address on eth0, an unused one of its network, and an unreachable one."""

GIVEN = frozenset([0, 77, 200, 7000, 7001, 7100, 7200, 7777])
"""Ports and identifiers that tables name; others were chosen by bind."""


def sin(host: str, port: int, family: int = socket.AF_INET) -> bytes:
    """Return a struct sockaddr_in."""
    return struct.pack("=H", family) + struct.pack(">H", port) + socket.inet_aton(host) + bytes(8)


def sin6(
    host: str, port: int, scope: int = 0, flow: int = 0, family: int = socket.AF_INET6
) -> bytes:
    """Return a struct sockaddr_in6."""
    addr = socket.inet_pton(socket.AF_INET6, host)
    return (
        struct.pack("=H", family) + struct.pack(">HI", port, flow) + addr + struct.pack("=I", scope)
    )


def sun(path: str | bytes) -> bytes:
    """Return a struct sockaddr_un as long as its name."""
    return struct.pack("=H", socket.AF_UNIX) + (path.encode() if isinstance(path, str) else path)


def sll(ifindex: int, protocol: int = 0, lladdr: bytes = b"", pkttype: int = 0) -> bytes:
    """Return a struct sockaddr_ll."""
    head = struct.pack("=H", socket.AF_PACKET) + struct.pack(">H", protocol)
    return head + struct.pack("=iHBB", ifindex, 0, pkttype, len(lladdr)) + lladdr.ljust(8, b"\0")


def same_name(addr: bytes) -> bytes:
    """Return an address without the parts chosen by a world: ports, abstract names."""
    family = int.from_bytes(addr[:2], "little")
    if (
        family in (socket.AF_INET, socket.AF_INET6)
        and int.from_bytes(addr[2:4], "big") not in GIVEN
    ):
        return addr[:2] + b"\xff\xff" + addr[4:]
    if family == socket.AF_UNIX and addr[2:3] == b"\0" and len(addr) == 8:
        return addr[:3] + b"*****"
    return addr


def chosen_name(addr: bytes) -> bytes:
    """Return an address whose port the world chose, which can be one of `GIVEN` by chance."""
    return same_name(addr[:2] + b"\xff\xff" + addr[4:])


def same_packet(data: bytes) -> bytes:
    """Return an IPv4 packet without its identification and checksum."""
    return (data[:4] + b"id" + data[6:10] + b"ck" + data[12:])[: len(data)]


class Calls(ABC):
    """The calls of one world. Each raises OSError or returns its result."""

    @abstractmethod
    def socket(self, family: int, kind: int, protocol: int) -> int:
        """Return a descriptor."""

    @abstractmethod
    def socketpair(self, family: int, kind: int, protocol: int) -> tuple[int, int]:
        """Return two descriptors."""

    @abstractmethod
    def close(self, fd: int) -> None:
        """Close it."""

    @abstractmethod
    def bind(self, fd: int, addr: bytes) -> None:
        """Name it."""

    @abstractmethod
    def connect(self, fd: int, addr: bytes) -> None:
        """Give it a peer."""

    @abstractmethod
    def listen(self, fd: int, backlog: int) -> None:
        """Listen."""

    @abstractmethod
    def accept(self, fd: int, flags: int) -> tuple[int, bytes]:
        """Return a descriptor and the peer's address."""

    @abstractmethod
    def shutdown(self, fd: int, how: int) -> None:
        """Close one direction or both."""

    @abstractmethod
    def getsockname(self, fd: int) -> bytes:
        """Return its address."""

    @abstractmethod
    def getpeername(self, fd: int) -> bytes:
        """Return its peer's."""

    @abstractmethod
    def sendto(self, fd: int, data: bytes, flags: int, addr: bytes | None) -> int:
        """Return the bytes sent."""

    @abstractmethod
    def recvfrom(self, fd: int, size: int, flags: int) -> tuple[int, bytes, bytes]:
        """Return the result, the buffer's content, and the address."""

    @abstractmethod
    def sendmsg(
        self, fd: int, bufs: list[bytes], control: Control, flags: int, addr: bytes | None
    ) -> int:
        """Return the bytes sent."""

    @abstractmethod
    def recvmsg(
        self, fd: int, sizes: list[int], room: int, flags: int
    ) -> tuple[int, bytes, Control, int, bytes]:
        """Return the result, the bytes, control messages, flags and the address."""

    @abstractmethod
    def setsockopt(self, fd: int, level: int, name: int, value: bytes) -> None:
        """Set an option."""

    @abstractmethod
    def getsockopt(self, fd: int, level: int, name: int, size: int) -> bytes:
        """Return an option's value, in a buffer of `size` bytes."""

    @abstractmethod
    def ioctl(self, fd: int, request: int, value: int) -> int:
        """Return the int written to its argument, which holds `value`."""

    @abstractmethod
    def poll(self, fds: list[tuple[int, int]]) -> list[int]:
        """Return the bits of each now."""

    @abstractmethod
    def settle(self) -> None:
        """Wait for packets in flight."""

    @abstractmethod
    def rest(self) -> None:
        """Wait for events delayed by jiffies: a pure ACK."""


class World:
    """A table's calls in one world; `rows` has the results."""

    def __init__(self, calls: Calls) -> None:
        self.raw = calls
        self.rows: dict[str, Outcome] = {}
        self._at = ""
        self._open: list[int] = []

    # --- where we are

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Begin a group of calls; the sockets made in it are closed at its end."""
        before, self._at = self._at, f"{self._at}{name}/"
        mark = len(self._open)
        try:
            yield
        finally:
            while len(self._open) > mark:
                fd = self._open.pop()
                with suppress(OSError):
                    self.raw.close(fd)
            self._at = before

    def keep(self, fd: int) -> int:
        """Close it at the end of the group."""
        self._open.append(fd)
        return fd

    def row(self, label: str, call: Callable[..., Any], *args: Any) -> Any:
        """Make one call and record its result. Return its result, None if it failed."""
        name = self._at + label
        if name in self.rows:
            again = 2
            while f"{name} #{again}" in self.rows:
                again += 1
            name = f"{name} #{again}"
        try:
            result = call(*args)
        except OSError as error:
            self.rows[name] = errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
            return None
        except Exception as error:
            self.rows[name] = f"{type(error).__name__}: {error}"
            return None
        self.rows[name] = 0 if result is None else result
        return 0 if result is None else result

    def same_data(self, data: bytes) -> bytes:
        """Return received data without the parts chosen by the sender."""
        return same_packet(data) if "raw4" in self._at else data

    # --- calls that make sockets, for a case's preparation: they must work

    def make(self, family: int, kind: int, protocol: int = 0) -> int:
        """Return a socket that is non-blocking."""
        return self.keep(self.raw.socket(family, kind | socket.SOCK_NONBLOCK, protocol))

    def make_pair(self, kind: int) -> tuple[int, int]:
        """Return two joined sockets of AF_UNIX."""
        one, two = self.raw.socketpair(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK, 0)
        return self.keep(one), self.keep(two)

    # --- calls with their names

    def socket(self, family: int, kind: int, protocol: int) -> None:
        """socket(): only whether it works."""

        def call() -> None:
            self.raw.close(self.raw.socket(family, kind, protocol))

        self.row(f"socket({family}, {kind:#x}, {protocol})", call)

    def bind(self, fd: int, addr: bytes, label: str) -> None:
        """bind()."""
        self.row(f"bind({label})", self.raw.bind, fd, addr)

    def connect(self, fd: int, addr: bytes, label: str) -> None:
        """connect()."""
        self.row(f"connect({label})", self.raw.connect, fd, addr)

    def listen(self, fd: int, backlog: int) -> None:
        """listen()."""
        self.row(f"listen({backlog})", self.raw.listen, fd, backlog)

    def accept(self, fd: int, flags: int = 0) -> int | None:
        """accept4(); the new socket is kept."""

        def call() -> tuple[int, bytes]:
            made, addr = self.raw.accept(fd, flags)
            self.keep(made)
            made_fds.append(made)
            return 0, same_name(addr)

        made_fds: list[int] = []
        self.row(f"accept({flags:#x})", call)
        return made_fds[0] if made_fds else None

    def shutdown(self, fd: int, how: int) -> None:
        """shutdown()."""
        self.row(f"shutdown({how})", self.raw.shutdown, fd, how)

    def names(self, fd: int) -> None:
        """getsockname() and getpeername()."""
        own = chosen_name if "/ping" in self._at and "/new" in self._at else same_name
        self.row("getsockname", lambda: own(self.raw.getsockname(fd)))
        self.row("getpeername", lambda: same_name(self.raw.getpeername(fd)))

    def sendto(self, fd: int, data: bytes, flags: int, addr: bytes | None, label: str = "") -> None:
        """sendto()."""
        name = f"send({len(data)}, {flags:#x}{', ' * bool(label)}{label})"
        self.row(name, self.raw.sendto, fd, data, flags, addr)

    def recvfrom(self, fd: int, size: int, flags: int) -> None:
        """recvfrom()."""

        def call() -> tuple[int, bytes, bytes]:
            n, data, addr = self.raw.recvfrom(fd, size, flags)
            return n, self.same_data(data), same_name(addr)

        self.row(f"recv({size}, {flags:#x})", call)

    def sendmsg(
        self,
        fd: int,
        bufs: list[bytes],
        control: Control,
        flags: int = 0,
        addr: bytes | None = None,
        label: str = "",
    ) -> None:
        """sendmsg()."""
        self.row(f"sendmsg({label}, {flags:#x})", self.raw.sendmsg, fd, bufs, control, flags, addr)

    def recvmsg(
        self,
        fd: int,
        sizes: list[int],
        room: int = 512,
        flags: int = 0,
        label: str = "",
        same: Callable[[Control], Any] = lambda control: control,
    ) -> None:
        """recvmsg(); `same` removes inherent differences from its control messages."""

        def call() -> Any:
            n, data, control, got, addr = self.raw.recvmsg(fd, sizes, room, flags)
            return n, self.same_data(data), same(control), got, same_name(addr)

        self.row(f"recvmsg({label or sum(sizes)}, {room}, {flags:#x})", call)

    def poll(self, fd: int) -> None:
        """poll() for everything."""
        self.row("poll", lambda: self.raw.poll([(fd, 0x3FFF)])[0])

    def settle(self) -> None:
        """Wait for packets in flight."""
        self.raw.settle()
