"""The whole path, two stacks and two NICs in one process, beside the kernel's loopback.

The kernel is reached through the standard library's sockets, both ends in this thread.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from e1000emu.lab import pump, two_hosts
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, Socket

from . import Work, row, size_bytes

B, A6, B6 = "10.0.0.2", "2001:db8::1", "2001:db8::2"
ADDRESS = {AF_INET: B, AF_INET6: B6}
UDP_SIZES, TCP_SIZES = ("64B", "1472B"), ("64KiB", "1MiB")
UDP6_SIZES = ("64B",)
"""1472 bytes fill an IPv4 packet; over IPv6 they would be two fragments."""
PACKETS = 1920
"""Of one run: a multiple of the batch of 64."""
VOLUME = 256 << 20
"""Bytes of one TCP run; fewer would measure the first touch of the memory more than the path."""
KERNEL_WRITE = 1 << 18


@contextmanager
def _hosts(family: int) -> Iterator[tuple[Host, Host]]:
    """Two hosts on a wire, closed in the end; with IPv6 addresses for AF_INET6."""
    a, b = two_hosts()
    with a, b:
        if family == AF_INET6:
            for host, addr in ((a, A6), (b, B6)):
                dev = host.dev_by_name["eth0"]
                inet6_addr_add(dev, parse_addr6(addr), 64, flags=IFA_F_NODAD)
        yield a, b


@row("stack__udp__single", group="udp", unit="k/s", sizes=UDP_SIZES, quick=("64B",))
def udp_single(size: str) -> Iterator[Work]:
    """One sendto() and one recvfrom() for each datagram."""
    yield from _udp_single(size, AF_INET)


@row("stack__udp6__single", group="udp", unit="k/s", sizes=UDP6_SIZES, quick=("64B",))
def udp6_single(size: str) -> Iterator[Work]:
    """The same over IPv6."""
    yield from _udp_single(size, AF_INET6)


def _udp_single(size: str, family: int) -> Iterator[Work]:
    with (
        _hosts(family) as (a, b),
        Socket(b, family, SOCK_DGRAM) as receiver,
        Socket(a, family, SOCK_DGRAM) as sender,
    ):
        dest = (ADDRESS[family], 9001)
        receiver.bind(dest)
        payload = bytes(size_bytes(size))

        def run(packets: int = PACKETS) -> None:
            for _ in range(packets):
                sender.sendto(payload, dest)
                receiver.recvfrom(2048)

        run(20)  # ARP and route are resolved, pools are warm
        yield Work(run, PACKETS)


@row("stack__udp__mmsg64", group="udp", unit="k/s", sizes=UDP_SIZES, quick=("64B",))
def udp_batch(size: str) -> Iterator[Work]:
    """64 datagrams for each sendmmsg() and recvmmsg()."""
    yield from _udp_batch(size, AF_INET)


@row("stack__udp6__mmsg64", group="udp", unit="k/s", sizes=UDP6_SIZES, quick=("64B",))
def udp6_batch(size: str) -> Iterator[Work]:
    """The same over IPv6."""
    yield from _udp_batch(size, AF_INET6)


def _udp_batch(size: str, family: int) -> Iterator[Work]:
    with (
        _hosts(family) as (a, b),
        Socket(b, family, SOCK_DGRAM) as receiver,
        Socket(a, family, SOCK_DGRAM) as sender,
    ):
        dest = (ADDRESS[family], 9001)
        receiver.bind(dest)
        messages = [(bytes(size_bytes(size)), dest)] * 64
        buffers = [bytearray(2048) for _ in messages]

        def run(rounds: int = PACKETS // 64) -> None:
            for _ in range(rounds):
                sender.sendmmsg(messages)
                if len(receiver.recvmmsg(buffers)) != 64:
                    raise RuntimeError("udp: a datagram was lost")

        run(2)
        yield Work(run, PACKETS)


@row(
    "stack__peer__udp_single",
    group="udp",
    unit="k/s",
    sizes=UDP_SIZES,
    quick=("64B",),
    peer="Linux loopback",
)
def udp_kernel(size: str) -> Iterator[Work]:
    """The standard library's sendto() and recvfrom() over the kernel's loopback."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        payload, dest = bytes(size_bytes(size)), receiver.getsockname()

        def run() -> None:
            for _ in range(PACKETS):
                sender.sendto(payload, dest)
                receiver.recvfrom(2048)

        yield Work(run, PACKETS)


@row("stack__tcp__bulk", group="tcp", unit="Gbit/s", sizes=TCP_SIZES, quick=("1MiB",))
def tcp_bulk(size: str) -> Iterator[Work]:
    """One connection, MSS 1460, checksums and copies real; `size` is that of a write."""
    yield from _tcp_bulk(size, AF_INET)


@row("stack__tcp6__bulk", group="tcp", unit="Gbit/s", sizes=TCP_SIZES, quick=("1MiB",))
def tcp6_bulk(size: str) -> Iterator[Work]:
    """The same over IPv6, MSS 1440."""
    yield from _tcp_bulk(size, AF_INET6)


def _tcp_bulk(size: str, family: int) -> Iterator[Work]:
    with _hosts(family) as (a, b), Socket(b, family, SOCK_STREAM) as listener:
        listener.bind((ADDRESS[family], 5001))
        listener.listen(1)
        block = memoryview(bytearray(size_bytes(size)))
        ends: list[Socket] = []

        def close() -> None:
            while ends:
                ends.pop().close()

        def prepare() -> None:
            close()
            client = Socket(a, family, SOCK_STREAM)
            ends.append(client)
            client.connect((ADDRESS[family], 5001))
            ends.append(listener.accept()[0])

        def run() -> None:
            pieces = iter([block] * (VOLUME // len(block)))
            client, server = ends
            if pump(client, server, lambda: next(pieces, None), lambda piece: None) != VOLUME:
                raise RuntimeError("tcp: bytes were lost")

        yield Work(run, VOLUME, prepare)
        close()


@row(
    "stack__peer__tcp_bulk",
    group="tcp",
    unit="Gbit/s",
    sizes=TCP_SIZES,
    quick=("1MiB",),
    peer="Linux loopback",
)
def tcp_kernel(size: str) -> Iterator[Work]:
    """The standard library's TCP on loopback, MTU 65536, with the kernel's offloads."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        client.setblocking(False)
        block = memoryview(bytearray(min(size_bytes(size), KERNEL_WRITE)))
        buffer = bytearray(1 << 20)

        def run() -> None:
            sent = received = 0
            while received < VOLUME:
                while sent < VOLUME:
                    try:
                        sent += client.send(block[: VOLUME - sent])
                    except BlockingIOError:
                        break
                received += server.recv_into(buffer)

        yield Work(run, VOLUME)


ROWS = (
    udp_single,
    udp6_single,
    udp_batch,
    udp6_batch,
    udp_kernel,
    tcp_bulk,
    tcp6_bulk,
    tcp_kernel,
)
