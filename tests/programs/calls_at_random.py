"""A program that makes calls at random on a few sockets and prints each result.

    python calls_at_random.py FIRST COUNT       sequences FIRST to FIRST + COUNT - 1

The sockets are non-blocking, streams and datagrams of both families, all on the loopback. After
each call it prints the call's result, what poll(2) says of each socket, and each stream's state.
"""

from __future__ import annotations

import ctypes
import errno
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
PORTS = 27001, 27002, 27003
ADDRESSES = {
    socket.AF_INET: ("127.0.0.1", "0.0.0.0", "127.0.0.2"),
    socket.AF_INET6: ("::1", "::", "::ffff:127.0.0.1"),
}
OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR),
    (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.SOL_SOCKET, socket.SO_OOBINLINE),
    (socket.SOL_SOCKET, socket.SO_BROADCAST),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    (socket.IPPROTO_TCP, socket.TCP_CORK),
    (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT),
    (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
)
FLAGS = 0, 0, socket.MSG_PEEK, socket.MSG_TRUNC, socket.MSG_OOB, socket.MSG_WAITALL
SIZES = 0, 1, 100, 5000
MOST = 6
POLLRDHUP, POLLWRBAND = 0x2000, 0x200
HUNG_UP = POLLRDHUP | select.POLLHUP
ABORT = struct.pack("ii", 1, 0)  # SO_LINGER: close() resets


def shown(address: Any) -> Any:
    """An address; a port chosen by the kernel is hidden."""
    if address and address[1] not in (0, *PORTS):
        return address[0], "chosen", *address[2:]
    return address


class Sequence:
    """The sockets of one sequence, and their operations."""

    def __init__(self, seed: int) -> None:
        self.pick = random.Random(seed)
        self.seed = seed
        self.socks: list[socket.socket | None] = []
        self.peers: list[tuple[str, ...]] = []
        """Addresses that each connects to: of IPv6 or v4-mapped ones, since Linux keeps some of
        the one family when a socket changes to the other."""
        self.hung: set[int] = set()
        """Those that have hung up. On a host of ours poll(2) always reports it."""

    def add(self, sock: socket.socket) -> None:
        """Add a socket, if there is room."""
        if len(self.socks) == MOST:
            sock.close()
            return
        sock.setblocking(False)
        self.socks.append(sock)
        addresses = ADDRESSES[sock.family]
        mapped = sock.family == socket.AF_INET6 and self.pick.randrange(2)
        self.peers.append(addresses[2:] if mapped else addresses[:2])

    def accept(self, sock: socket.socket) -> Any:
        conn, peer = sock.accept()
        self.add(conn)
        return shown(peer)

    def receive(self, sock: socket.socket, size: int, flags: int) -> Any:
        data, sender = sock.recvfrom(size, flags)
        return len(data), shown(sender)

    def set(self, sock: socket.socket, level: int, option: int, value: int) -> int:
        sock.setsockopt(level, option, value)
        return sock.getsockopt(level, option)

    def disconnect(self, sock: socket.socket) -> None:
        if LIBC.connect(sock.fileno(), bytes(16), 16):  # AF_UNSPEC
            raise OSError(ctypes.get_errno(), "connect")

    def close(self, sock: socket.socket) -> None:
        self.socks[self.socks.index(sock)] = None
        sock.close()

    def call(self, number: int, sock: socket.socket) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """A function and its arguments."""
        pick = self.pick
        port = pick.choice((0, *PORTS))
        peer = pick.choice(self.peers[number]), port
        size, flags = pick.choice(SIZES), pick.choice(FLAGS)
        calls = (
            (12, sock.bind, ((pick.choice(ADDRESSES[sock.family]), port),)),
            (10, sock.listen, (2,)),
            (16, sock.connect, (peer,)),
            (10, self.accept, (sock,)),
            (10, sock.send, (b"x" * size, flags | socket.MSG_NOSIGNAL)),
            (4, sock.sendto, (b"y" * size, socket.MSG_NOSIGNAL, peer)),
            (8, self.receive, (sock, size, flags)),
            (5, sock.shutdown, (pick.randrange(3),)),
            (3, self.close, (sock,)),
            (4, self.set, (sock, *pick.choice(OPTIONS), pick.randrange(2))),
            (1, self.disconnect, (sock,)),
            (1, sock.getsockopt, (socket.SOL_SOCKET, socket.SO_ERROR)),
            (2, lambda: shown(sock.getsockname()), ()),
            (2, lambda: shown(sock.getpeername()), ()),
        )
        (chosen,) = pick.choices(calls, [weight for weight, _, _ in calls])
        return chosen[1:]

    def step(self) -> None:
        """Create a socket, or a call on one."""
        pick = self.pick
        live = [number for number, sock in enumerate(self.socks) if sock is not None]
        if len(self.socks) < 2 or not live or (pick.random() < 0.12 and len(self.socks) < MOST):
            family = pick.choice((socket.AF_INET, socket.AF_INET, socket.AF_INET6))
            kind = pick.choice((socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM))
            self.add(socket.socket(family, kind))
            print(self.seed, "socket", family.name, kind.name)
            return
        number = pick.choice(live)
        sock = self.socks[number]
        assert sock is not None
        function, args = self.call(number, sock)
        name = function.__name__
        try:
            result = function(*args)
        except OSError as exc:
            result = errno.errorcode[exc.errno or 0]
        words = [f"{len(arg)} bytes" if isinstance(arg, bytes) else arg for arg in args]
        time.sleep(0.004)  # sent data arrives
        print(self.seed, number, name, [w for w in words if w is not sock], result, self.state())

    def state(self) -> str:
        """The poll(2) result of each socket, and the state of each stream."""
        poll = select.poll()
        numbers = {}
        for number, sock in enumerate(self.socks):
            if sock is not None and number not in self.hung:
                poll.register(sock, 0xFFFF)
                numbers[sock.fileno()] = number
        found = {numbers[fd]: events & ~POLLWRBAND for fd, events in poll.poll(0)}
        self.hung |= {number for number, bits in found.items() if bits & HUNG_UP == HUNG_UP}
        states = [
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            for sock in self.socks
            if sock is not None and sock.type == socket.SOCK_STREAM
        ]
        return f"{dict(sorted(found.items()))} {states}"

    def end(self) -> None:
        """Close all, and leave nothing in TIME_WAIT."""
        for sock in self.socks:
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
                sock.close()


def main(first: int, count: int) -> None:
    for seed in range(first, first + count):
        sequence = Sequence(seed)
        for _ in range(24):
            sequence.step()
        sequence.end()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
