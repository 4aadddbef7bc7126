"""Compare our sockets, over IPv4 and IPv6, with those of this machine's Linux over its loopback.

Each case runs one behaviour in one family on both, and fails if the results differ. These cases are
separate from the tables of the tests.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from e1000emu.campaign import Campaign, Case, Limits, Result

FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
WAIT_S = 5.0
LINUX = {"ipv4": ("127.0.0.1", "127.0.0.1"), "ipv6": ("::1", "::1")}
OURS = {"ipv4": ("10.0.0.1", "10.0.0.2"), "ipv6": ("fd00::1", "fd00::2")}


class Pair:
    """Two hosts, or this machine twice, in one family."""

    def __init__(self, family: str, addrs: tuple[str, str], make: tuple[Any, Any]) -> None:
        self.family = FAMILIES[family]
        self.addrs = addrs
        self._make = make
        self.open: list[Any] = []

    def socket(self, which: int, kind: int) -> Any:
        """Return a socket of host 0 or 1, with a time-out."""
        made = self._make[which](self.family, kind)
        made.settimeout(WAIT_S)
        self.open.append(made)
        return made

    def udp(self, which: int) -> Any:
        """Return a bound UDP socket."""
        made = self.socket(which, socket.SOCK_DGRAM)
        made.bind((self.addrs[which], 0))
        return made

    def listener(self, which: int) -> Any:
        """Return a listening TCP socket."""
        made = self.socket(which, socket.SOCK_STREAM)
        made.bind((self.addrs[which], 0))
        made.listen(2)
        return made

    def tcp(self) -> tuple[Any, Any]:
        """Return two connected sockets, host 0's first."""
        listener = self.listener(1)
        one = self.socket(0, socket.SOCK_STREAM)
        one.connect(listener.getsockname()[:2])
        two, _ = listener.accept()
        two.settimeout(WAIT_S)
        self.open.append(two)
        return one, two

    def free_port(self, kind: int) -> tuple[str, int]:
        """Return an address of host 1 without a listener."""
        made = self.socket(1, kind)
        made.bind((self.addrs[1], 0))
        found: tuple[str, int] = made.getsockname()[:2]
        made.close()
        return found

    def close(self) -> None:
        """Close every socket."""
        for made in self.open:
            made.close()


def why(call: Callable[..., Any], *args: Any) -> str:
    """Return the name of the error of a call, or what it returned."""
    try:
        return repr(call(*args))
    except TimeoutError:
        return "timeout"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))


def udp_echo(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    a.sendto(b"ping", b.getsockname())
    data, source = b.recvfrom(100)
    b.sendto(data[::-1], source)
    return [a.recv(100), source[0] == p.addrs[0]]


def udp_to_nobody(p: Pair) -> list[object]:
    a = p.udp(0)
    a.connect(p.free_port(socket.SOCK_DGRAM))
    a.send(b"x")
    return [why(a.recv, 10), why(a.getsockopt, socket.SOL_SOCKET, socket.SO_ERROR)]


def udp_truncated(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    a.sendto(bytes(range(100)), b.getsockname())
    a.sendto(b"next", b.getsockname())
    data, _, flags, _ = b.recvmsg(10)
    return [data, bool(flags & socket.MSG_TRUNC), b.recv(10)]


def udp_empty(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    a.sendto(b"", b.getsockname())
    return [b.recv(10)]


def udp_too_large(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    return [why(a.sendto, bytes(70_000), b.getsockname())]


def udp_fragments(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    data = bytes(i % 251 for i in range(20_000))
    a.sendto(data, b.getsockname())
    return [b.recv(65_535) == data]


def udp_peek(p: Pair) -> list[object]:
    a, b = p.udp(0), p.udp(1)
    a.sendto(b"once", b.getsockname())
    return [b.recv(10, socket.MSG_PEEK), b.recv(10)]


def udp_connected_hears_one(p: Pair) -> list[object]:
    a, b, c = p.udp(0), p.udp(1), p.udp(1)
    a.connect(b.getsockname()[:2])
    c.sendto(b"stranger", a.getsockname())
    b.sendto(b"friend", a.getsockname())
    return [a.recv(20)]


def udp_address_in_use(p: Pair) -> list[object]:
    a, b = p.udp(0), p.socket(0, socket.SOCK_DGRAM)
    return [why(b.bind, a.getsockname()[:2])]


def udp_not_blocking(p: Pair) -> list[object]:
    a = p.udp(0)
    a.setblocking(False)
    return [why(a.recv, 10)]


def tcp_to_nobody(p: Pair) -> list[object]:
    return [why(p.socket(0, socket.SOCK_STREAM).connect, p.free_port(socket.SOCK_STREAM))]


def tcp_half_close(p: Pair) -> list[object]:
    a, b = p.tcp()
    a.sendall(b"last words")
    a.shutdown(socket.SHUT_WR)
    seen = [b.recv(100), b.recv(100)]
    b.sendall(b"still here")
    return [*seen, a.recv(100), why(a.send, b"x")]


def tcp_closed_with_data_unread(p: Pair) -> list[object]:
    a, b = p.tcp()
    a.sendall(b"never read")
    b.recv(1, socket.MSG_PEEK)
    b.close()
    return [why(a.recv, 10)]


def tcp_linger_zero(p: Pair) -> list[object]:
    a, b = p.tcp()
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    a.close()
    return [why(b.recv, 10)]


def tcp_not_connected(p: Pair) -> list[object]:
    a = p.socket(0, socket.SOCK_STREAM)
    return [why(a.send, b"x"), why(a.recv, 1), why(a.getpeername), why(a.shutdown, 1)]


def tcp_connected_twice(p: Pair) -> list[object]:
    a, _ = p.tcp()
    # After a connect with a time-out Linux says once more that it has succeeded.
    why(a.connect, a.getpeername()[:2])
    return [why(a.connect, a.getpeername()[:2])]


def tcp_urgent(p: Pair) -> list[object]:
    a, b = p.tcp()
    a.send(b"abc", socket.MSG_OOB)
    b.settimeout(None)  # with a time-out Python waits for data that are not urgent
    return [b.recv(10), why(b.recv, 1, socket.MSG_OOB)]


def tcp_wait_for_all(p: Pair) -> list[object]:
    a, b = p.tcp()
    for part in (b"one", b"two", b"three"):
        a.sendall(part)
    return [b.recv(11, socket.MSG_WAITALL)]


def tcp_much(p: Pair) -> list[object]:
    a, b = p.tcp()
    data = bytes(i % 251 for i in range(30_000))
    a.sendall(data)
    got = b""
    while len(got) < len(data):
        got += b.recv(65_536)
    return [got == data]


def tcp_peer_is_named(p: Pair) -> list[object]:
    a, b = p.tcp()
    return [a.getpeername() == b.getsockname(), b.getpeername() == a.getsockname()]


BEHAVIOURS = [
    *(udp_echo, udp_to_nobody, udp_truncated, udp_empty, udp_too_large, udp_fragments, udp_peek),
    *(udp_connected_hears_one, udp_address_in_use, udp_not_blocking, tcp_to_nobody),
    *(tcp_half_close, tcp_closed_with_data_unread, tcp_linger_zero, tcp_not_connected),
    *(tcp_connected_twice, tcp_urgent, tcp_wait_for_all, tcp_much, tcp_peer_is_named),
]
BY_NAME = {behaviour.__name__: behaviour for behaviour in BEHAVIOURS}

campaign = Campaign(
    "conformance",
    axes={"behaviour": list(BY_NAME), "family": list(FAMILIES)},
    limits=Limits(seconds=60),
    again=10,
)


@campaign.case
def case(c: Case) -> Result:
    """Do it on both; fail if they differ."""
    behave = BY_NAME[c.behaviour]
    hosts = c.hosts()
    if c.family == "ipv6":
        for host, addr in zip(hosts, OURS["ipv6"], strict=True):
            host.ifconfig("eth0", f"{addr}/64")
        hosts[0].clock.run_for(3_000_000_000)  # until the addresses are no longer tentative
    said = []
    for pair in (
        Pair(c.family, LINUX[c.family], (socket.socket, socket.socket)),
        Pair(c.family, OURS[c.family], (hosts[0].socket, hosts[1].socket)),
    ):
        try:
            said.append(behave(pair))
        finally:
            pair.close()
    linux, ours = said
    return Result(linux == ours, text=f"Linux {linux}, ours {ours}" if linux != ours else "")
