"""The whole path, two stacks and two NICs in one process, beside the kernel's loopback.

The kernel is reached through the standard library's sockets, both ends in this thread.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from e1000emu.lab import pump, two_hosts
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server

from . import Work, row, size_bytes

B = "10.0.0.2"
UDP_SIZES, TCP_SIZES = ("64B", "1472B"), ("64KiB", "1MiB")
PACKETS = 1920
"""Of one run: a multiple of the batch of 64."""
VOLUME = 256 << 20
"""Bytes of one TCP run; fewer would measure the first touch of the memory more than the path."""
KERNEL_WRITE = 1 << 18


@contextmanager
def _hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on a wire, closed in the end."""
    a, b = two_hosts()
    with a, b:
        yield a, b


@row("stack__udp__single", group="udp", unit="k/s", sizes=UDP_SIZES, quick=("64B",))
def udp_single(size: str) -> Iterator[Work]:
    """One sendto() and one recvfrom() for each datagram."""
    with (
        _hosts() as (a, b),
        Socket(b, AF_INET, SOCK_DGRAM) as receiver,
        Socket(a, AF_INET, SOCK_DGRAM) as sender,
    ):
        receiver.bind((B, 9001))
        payload, dest = bytes(size_bytes(size)), (B, 9001)

        def run(packets: int = PACKETS) -> None:
            for _ in range(packets):
                sender.sendto(payload, dest)
                receiver.recvfrom(2048)

        run(20)  # ARP and route are resolved, pools are warm
        yield Work(run, PACKETS)


@row("stack__udp__mmsg64", group="udp", unit="k/s", sizes=UDP_SIZES, quick=("64B",))
def udp_batch(size: str) -> Iterator[Work]:
    """64 datagrams for each sendmmsg() and recvmmsg()."""
    with (
        _hosts() as (a, b),
        Socket(b, AF_INET, SOCK_DGRAM) as receiver,
        Socket(a, AF_INET, SOCK_DGRAM) as sender,
    ):
        receiver.bind((B, 9001))
        messages = [(bytes(size_bytes(size)), (B, 9001))] * 64
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
    with _hosts() as (a, b), create_server(b, (B, 5001)) as listener:
        block = memoryview(bytearray(size_bytes(size)))
        ends: list[Socket] = []

        def close() -> None:
            while ends:
                ends.pop().close()

        def prepare() -> None:
            close()
            ends.append(create_connection(a, (B, 5001)))
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


ROWS = (udp_single, udp_batch, udp_kernel, tcp_bulk, tcp_kernel)
