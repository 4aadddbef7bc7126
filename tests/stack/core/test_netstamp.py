"""When packets came: asked for by a socket, it is their arrival, not the reading; else nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.api.fcntl import ioctl
from stack.core import uapi
from stack.host import Host
from stack.socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    POLLIN,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    Socket,
    create_server,
)

SEC = 1_000_000_000
SIOCGSTAMPNS = 0x8907
PORT = 7
TESTED = 253  # a protocol number for experiments (RFC 3692)
Hosts = tuple[Host, Host]


@pytest.fixture
def ab() -> Iterator[Hosts]:
    a, b = two_hosts(VirtualClock(), latency_ns=12_345)
    a.ifconfig("eth0", "fd00::1/64")
    b.ifconfig("eth0", "fd00::2/64")
    a.clock.run_for(3 * SEC)
    with a, b:
        yield a, b


def asked(b: Host) -> int:
    return b.machine.net_hotdata.netstamp_needed


def pair_of(ab: Hosts, kind: str) -> tuple[Socket, Socket]:
    """A socket of `a` connected to one of `b` that reads."""
    a, b = ab
    family = AF_INET6 if kind.endswith("6") else AF_INET
    there = "fd00::2" if family == AF_INET6 else "10.0.0.2"
    if kind.startswith("tcp"):
        listener = create_server(b, (there, PORT), family=family)
        client = a.socket(family, SOCK_STREAM)
        client.connect((there, PORT))
        server, _ = listener.accept()
        listener.close()
        return client, server
    type_, proto = (SOCK_RAW, TESTED) if kind.startswith("raw") else (SOCK_DGRAM, 0)
    server, client = b.socket(family, type_, proto), a.socket(family, type_, proto)
    server.bind((there, 0 if proto else PORT))
    client.connect((there, 0 if proto else PORT))
    if kind == "packet":
        server = b.socket(AF_PACKET, SOCK_DGRAM, 0x0800 << 8 & 0xFF00 | 0x08)
        server.bind(("eth0", 0x0800))
    return client, server


def came(b: Host, sock: Socket) -> int:
    """Wall time at which the next packet reaches `sock`; then let two seconds pass."""
    b.clock.wait(lambda: bool(sock.poll() & POLLIN), 5 * SEC)
    assert sock.poll() & POLLIN
    when = b.machine.realtime_ns()
    b.clock.run_for(2 * SEC)
    return when


KINDS = ["udp", "udp6", "raw", "raw6", "packet", "tcp", "tcp6"]


@pytest.mark.parametrize("size", [1, 4000])
@pytest.mark.parametrize("kind", KINDS)
def test_the_stamp_is_the_instant_of_arrival(ab: Hosts, kind: str, size: int) -> None:
    if kind == "packet" and size > 1500:
        size = 1400
    client, server = pair_of(ab, kind)
    server.setsockopt(SOL_SOCKET, uapi.SO_TIMESTAMPNS, 1)
    assert asked(ab[1]) == 1
    client.send(bytes(size))
    when = came(ab[1], server)
    _, control, _, _ = server.recvmsg(10_000, 200)
    stamps = [struct.unpack("=qq", d) for _, number, d in control if number == uapi.SCM_TIMESTAMPNS]
    assert stamps == [divmod(when, SEC)]
    server.close()
    client.close()
    ab[1].clock.run_for(300 * SEC)
    assert asked(ab[1]) == 0


def test_each_of_a_burst_has_its_own_instant(ab: Hosts) -> None:
    """Datagrams that are merged on their way up, with UDP_GRO off at the socket."""
    client, server = pair_of(ab, "udp")
    server.setsockopt(SOL_SOCKET, uapi.SO_TIMESTAMPNS, 1)
    for _ in range(20):
        client.send(bytes(100))
    when = came(ab[1], server)
    stamps = []
    for _ in range(20):
        [(_, _, data)] = server.recvmsg(200, 200)[1]
        sec, nsec = struct.unpack("=qq", data)
        stamps.append(sec * SEC + nsec)
    assert stamps[0] == when
    assert stamps == sorted(stamps)
    assert stamps[-1] < when + SEC // 1000


def test_nothing_is_stamped_before_somebody_asks(ab: Hosts) -> None:
    client, server = pair_of(ab, "udp")
    assert asked(ab[1]) == 0
    client.send(b"x")
    came(ab[1], server)
    assert [skb.tstamp_ns for skb in server.sk.sk_receive_queue] == [0]


def test_siocgstamp_asks_from_the_first_time_on(ab: Hosts) -> None:
    client, server = pair_of(ab, "udp")
    with pytest.raises(OSError, match="no packet"):
        ioctl(ab[1], server.host_fd, SIOCGSTAMPNS, None)
    assert asked(ab[1]) == 1
    client.send(b"x")
    when = came(ab[1], server)
    server.recv(1)
    stamp = bytearray(16)
    ioctl(ab[1], server.host_fd, SIOCGSTAMPNS, stamp)
    assert struct.unpack("=qq", stamp) == divmod(when, SEC)


def test_what_a_listener_asks_its_children_ask(ab: Hosts) -> None:
    a, b = ab
    with create_server(b, ("", PORT)) as listener:
        listener.setsockopt(SOL_SOCKET, uapi.SO_TIMESTAMP, 1)
        with a.socket() as client:
            client.connect(("10.0.0.2", PORT))
            server, _ = listener.accept()
            assert asked(b) == 2
            server.close()
    b.clock.run_for(300 * SEC)
    assert asked(b) == 0


@pytest.mark.parametrize("type_", [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET])
def test_unix_sockets_ask_no_device(ab: Hosts, type_: int) -> None:
    one, other = ab[0].socketpair(uapi.AF_UNIX, type_)
    one.setsockopt(SOL_SOCKET, uapi.SO_TIMESTAMP, 1)
    assert asked(ab[0]) == 0
    one.close()
    other.close()
    assert asked(ab[0]) == 0
