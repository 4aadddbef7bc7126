"""Sockets in every state of the tables, created by the same calls in both worlds."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM

from tests.linux.calls.world import ADDR4, ADDR6, NOBODY4, NOBODY6, World, sin, sin6, sll, sun

SOCK_SEQPACKET = socket.SOCK_SEQPACKET
SOL_SOCKET, SO_LINGER, SO_REUSEADDR = 1, 13, 2
RAW_PROTOCOL = 200
PORT = 7000


@dataclass(frozen=True)
class Family:
    """The data of IPv4 or IPv6 for the states."""

    name: str
    af: int
    lo: str
    own: str
    nobody: str
    icmp: int

    def at(self, host: str, port: int) -> bytes:
        """A struct sockaddr of the family."""
        return sin(host, port) if self.af == AF_INET else sin6(host, port)


V4 = Family("v4", AF_INET, "127.0.0.1", ADDR4, NOBODY4, socket.IPPROTO_ICMP)
V6 = Family("v6", AF_INET6, "::1", ADDR6, NOBODY6, socket.IPPROTO_ICMPV6)
FAMILIES = (V4, V6)


def reset_on_close(w: World, fd: int) -> None:
    """Make close() send a reset."""
    w.raw.setsockopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("=ii", 1, 0))


def drop(w: World, fd: int) -> None:
    """Close a socket from `make`."""
    w._open.remove(fd)
    w.raw.close(fd)


def started(w: World, fd: int, addr: bytes) -> int:
    """Connect; over loopback the handshake is over when the call returns, or soon after."""
    try:
        w.raw.connect(fd, addr)
    except OSError:
        w.settle()
    return fd


def tcp_new(w: World, f: Family) -> int:
    return w.make(f.af, SOCK_STREAM)


def tcp_bound(w: World, f: Family) -> int:
    fd = tcp_new(w, f)
    w.raw.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, b"\1\0\0\0")
    w.raw.bind(fd, f.at(f.lo, PORT))
    return fd


def tcp_listening(w: World, f: Family) -> int:
    fd = tcp_bound(w, f)
    w.raw.listen(fd, 5)
    return fd


def tcp_pair(w: World, f: Family) -> tuple[int, int]:
    """Return client and server of a connection."""
    listener = tcp_listening(w, f)
    client = started(w, tcp_new(w, f), f.at(f.lo, PORT))
    w.settle()
    server, _ = w.raw.accept(listener, socket.SOCK_NONBLOCK)
    w.keep(server)
    drop(w, listener)
    # The pair's server leaves no TIME_WAIT behind that a later listener would meet.
    reset_on_close(w, server)
    reset_on_close(w, client)
    return client, server


def tcp_pending(w: World, f: Family) -> int:
    fd = tcp_listening(w, f)
    client = started(w, tcp_new(w, f), f.at(f.lo, PORT))
    reset_on_close(w, client)
    w.settle()
    return fd


def tcp_connecting(w: World, f: Family) -> int:
    return started(w, tcp_new(w, f), f.at(f.nobody, PORT))


def tcp_connected(w: World, f: Family) -> int:
    return tcp_pair(w, f)[0]


def tcp_accepted(w: World, f: Family) -> int:
    return tcp_pair(w, f)[1]


def tcp_data(w: World, f: Family) -> int:
    client, server = tcp_pair(w, f)
    w.raw.sendto(server, b"hello, world", 0, None)
    w.settle()
    return client


def tcp_urgent(w: World, f: Family) -> int:
    client, server = tcp_pair(w, f)
    w.raw.sendto(server, b"abc", 0, None)
    w.raw.sendto(server, b"X", socket.MSG_OOB, None)
    w.raw.sendto(server, b"def", 0, None)
    w.settle()
    return client


def tcp_shut(how: int) -> Callable[[World, Family], int]:
    def state(w: World, f: Family) -> int:
        client, _ = tcp_pair(w, f)
        w.raw.shutdown(client, how)
        w.settle()
        return client

    return state


def tcp_fin(w: World, f: Family) -> int:
    """The peer sent data and its end."""
    client, server = tcp_pair(w, f)
    w.raw.sendto(server, b"bye", 0, None)
    w.raw.shutdown(server, 1)
    w.settle()
    return client


def tcp_both_fin(w: World, f: Family) -> int:
    client, server = tcp_pair(w, f)
    w.raw.shutdown(server, 1)
    w.settle()
    w.raw.shutdown(client, 1)
    w.settle()
    return client


def tcp_reset(w: World, f: Family) -> int:
    client, server = tcp_pair(w, f)
    drop(w, server)
    w.settle()
    return client


def tcp_reset_data(w: World, f: Family) -> int:
    client, server = tcp_pair(w, f)
    w.raw.sendto(server, b"last", 0, None)
    w.settle()
    drop(w, server)
    w.settle()
    return client


def tcp_refused(w: World, f: Family) -> int:
    return started(w, tcp_new(w, f), f.at(f.lo, PORT + 1))


def tcp_dissolved(w: World, f: Family) -> int:
    client, _ = tcp_pair(w, f)
    w.raw.connect(client, bytes(16))
    return client


def tcp_stopped(w: World, f: Family) -> int:
    """A listener after shutdown."""
    fd = tcp_listening(w, f)
    w.raw.shutdown(fd, 2)
    return fd


TCP_STATES: dict[str, Callable[[World, Family], int]] = {
    "new": tcp_new,
    "bound": tcp_bound,
    "listening": tcp_listening,
    "pending": tcp_pending,
    "connecting": tcp_connecting,
    "connected": tcp_connected,
    "accepted": tcp_accepted,
    "data": tcp_data,
    "urgent": tcp_urgent,
    "shut_rd": tcp_shut(0),
    "shut_wr": tcp_shut(1),
    "shut_rdwr": tcp_shut(2),
    "fin": tcp_fin,
    "both_fin": tcp_both_fin,
    "reset": tcp_reset,
    "reset_data": tcp_reset_data,
    "refused": tcp_refused,
    "dissolved": tcp_dissolved,
    "stopped": tcp_stopped,
}


def dgram_states(
    make: Callable[[World, Family], int], port: int, payload: bytes
) -> dict[str, Callable[[World, Family], int]]:
    """Return the states of a datagram socket; packets to itself return over loopback."""

    def bound(w: World, f: Family) -> int:
        fd = make(w, f)
        w.raw.bind(fd, f.at(f.lo, port))
        return fd

    def connected(w: World, f: Family) -> int:
        fd = bound(w, f)
        w.raw.connect(fd, f.at(f.lo, port))
        return fd

    def data(w: World, f: Family) -> int:
        fd = connected(w, f)
        w.raw.sendto(fd, payload, 0, None)
        w.settle()
        return fd

    def two(w: World, f: Family) -> int:
        fd = data(w, f)
        w.raw.sendto(fd, payload + b"second", 0, None)
        w.settle()
        return fd

    def dissolved(w: World, f: Family) -> int:
        fd = connected(w, f)
        w.raw.connect(fd, bytes(16))
        return fd

    def shut(how: int) -> Callable[[World, Family], int]:
        def state(w: World, f: Family) -> int:
            fd = connected(w, f)
            w.raw.shutdown(fd, how)
            return fd

        return state

    def data_shut(w: World, f: Family) -> int:
        fd = data(w, f)
        w.raw.shutdown(fd, 0)
        return fd

    return {
        "new": make,
        "bound": bound,
        "connected": connected,
        "data": data,
        "two": two,
        "dissolved": dissolved,
        "shut_rd": shut(0),
        "shut_wr": shut(1),
        "shut_rdwr": shut(2),
        "data_shut_rd": data_shut,
    }


def udp_new(w: World, f: Family) -> int:
    return w.make(f.af, SOCK_DGRAM)


def udp_refused(w: World, f: Family) -> int:
    """With a pending ICMP error."""
    fd = udp_new(w, f)
    w.raw.connect(fd, f.at(f.lo, PORT + 1))
    w.raw.sendto(fd, b"nobody", 0, None)
    w.settle()
    return fd


def udp_errqueue(w: World, f: Family) -> int:
    """The same with the error queue on: it is IP_RECVERR 11, IPV6_RECVERR 25."""
    fd = udp_new(w, f)
    level, name = (0, 11) if f is V4 else (41, 25)
    w.raw.setsockopt(fd, level, name, b"\1\0\0\0")
    w.raw.connect(fd, f.at(f.lo, PORT + 1))
    w.raw.sendto(fd, b"nobody", 0, None)
    w.settle()
    return fd


UDP_STATES = {
    **dgram_states(udp_new, PORT, b"hello"),
    "refused": udp_refused,
    "errqueue": udp_errqueue,
}


def raw_new(w: World, f: Family) -> int:
    return w.make(f.af, SOCK_RAW, RAW_PROTOCOL)


def ping_new(w: World, f: Family) -> int:
    return w.make(f.af, SOCK_DGRAM, f.icmp)


RAW_STATES = dgram_states(raw_new, 0, b"raw data")
ECHO = {V4: b"\x08\0\0\0\0\0\0\1", V6: b"\x80\0\0\0\0\0\0\1"}


def ping_states(f: Family) -> dict[str, Callable[[World, Family], int]]:
    """Return the states of a ping socket; it receives the host's own echo."""
    return dgram_states(ping_new, 77, ECHO[f] + b"ping")


UNIX_KINDS = {"stream": SOCK_STREAM, "dgram": SOCK_DGRAM, "seqpacket": SOCK_SEQPACKET}
NAME = sun(b"\0calls")


def unix_states(kind: int) -> dict[str, Callable[[World], int]]:
    """Return the states of a socket of AF_UNIX."""

    def new(w: World) -> int:
        return w.make(AF_UNIX, kind)

    def bound(w: World) -> int:
        fd = new(w)
        w.raw.bind(fd, NAME)
        return fd

    def joined(w: World) -> int:
        return w.make_pair(kind)[0]

    def data(w: World) -> int:
        one, two = w.make_pair(kind)
        w.raw.sendto(two, b"hello", 0, None)
        return one

    def two(w: World) -> int:
        one, two = w.make_pair(kind)
        w.raw.sendto(two, b"hello", 0, None)
        w.raw.sendto(two, b"second", 0, None)
        return one

    def gone(w: World) -> int:
        one, two = w.make_pair(kind)
        drop(w, two)
        return one

    def gone_unread(w: World) -> int:
        one, two = w.make_pair(kind)
        w.raw.sendto(one, b"unread", 0, None)
        drop(w, two)
        return one

    def shut(how: int) -> Callable[[World], int]:
        def state(w: World) -> int:
            fd = joined(w)
            w.raw.shutdown(fd, how)
            return fd

        return state

    def listening(w: World) -> int:
        fd = bound(w)
        w.raw.listen(fd, 3)
        return fd

    def pending(w: World) -> int:
        fd = listening(w)
        w.raw.connect(new(w), NAME)
        return fd

    def client(w: World) -> int:
        fd = listening(w)
        made = new(w)
        w.raw.connect(made, NAME)
        w.keep(w.raw.accept(fd, socket.SOCK_NONBLOCK)[0])
        return made

    def connected(w: World) -> int:
        bound(w)
        fd = new(w)
        w.raw.connect(fd, NAME)
        return fd

    states = {
        "new": new,
        "bound": bound,
        "pair": joined,
        "data": data,
        "two": two,
        "gone": gone,
        "gone_unread": gone_unread,
        "shut_rd": shut(0),
        "shut_wr": shut(1),
        "shut_rdwr": shut(2),
    }
    if kind == SOCK_DGRAM:
        return {**states, "connected": connected}
    return {**states, "listening": listening, "pending": pending, "client": client}


LO_INDEX = 1


def packet_states(kind: int) -> dict[str, Callable[[World], int]]:
    """Return the states of a packet socket."""

    def new(w: World) -> int:
        return w.make(AF_PACKET, kind)

    def bound(w: World) -> int:
        fd = new(w)
        w.raw.bind(fd, sll(LO_INDEX, 0x88B5))
        return fd

    def data(w: World) -> int:
        fd = bound(w)
        if kind == SOCK_RAW:
            w.raw.sendto(fd, bytes(12) + b"\x88\xb5" + b"frame of a packet socket", 0, None)
        else:
            addr = sll(LO_INDEX, 0x88B5, bytes(6))
            w.raw.sendto(fd, b"frame of a packet socket", 0, addr)
        w.settle()
        return fd

    return {"new": new, "bound": bound, "data": data}


@dataclass(frozen=True)
class State:
    """One socket in one state, of any family."""

    name: str
    kind: str
    make: Callable[[World], int]
    family: Family | None = None


def _states() -> Iterator[State]:
    def of(make: Callable[[World, Family], int], f: Family) -> Callable[[World], int]:
        return lambda w: make(w, f)

    for f in FAMILIES:
        for kind, states in (
            ("tcp", TCP_STATES),
            ("udp", UDP_STATES),
            ("raw", RAW_STATES),
            ("ping", ping_states(f)),
        ):
            for name, make in states.items():
                yield State(name, f"{kind}{f.name[1]}", of(make, f), f)
    for kind_name, kind_number in UNIX_KINDS.items():
        for name, made in unix_states(kind_number).items():
            yield State(name, f"unix_{kind_name}", made)
    for kind_name, kind_number in (("raw", SOCK_RAW), ("dgram", SOCK_DGRAM)):
        for name, made in packet_states(kind_number).items():
            yield State(name, f"packet_{kind_name}", made)


STATES = tuple(_states())
KINDS = tuple(dict.fromkeys(state.kind for state in STATES))
"""tcp4 udp4 raw4 ping4 ... unix_stream ... packet_dgram."""


def fresh(w: World, kind: str) -> int:
    """Return a new socket of that kind."""
    return next(s for s in STATES if s.kind == kind and s.name == "new").make(w)
