"""Ready-made traffic between two hosts, for `e1000emu profile`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from e1000emu.lab import pump, two_hosts
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, Socket, create_connection, create_server

A, B, PORT = "10.0.0.1", "10.0.0.2", 9000
BATCH = 64

# A workload sets up what it needs, then does one round for each `next`.
Workload = Callable[[Host, Host], Iterator[None]]


def udp(a: Host, b: Host) -> Iterator[None]:
    """Send 50 datagrams of 64 bytes a round, each received before the next is sent."""
    with Socket(a, AF_INET, SOCK_DGRAM) as sender, Socket(b, AF_INET, SOCK_DGRAM) as receiver:
        receiver.bind((B, PORT))
        payload, to = bytes(64), (B, PORT)
        while True:
            for _ in range(50):
                sender.sendto(payload, to)
                receiver.recvfrom(2048)
            yield


def udp_batch(a: Host, b: Host) -> Iterator[None]:
    """Send 64 datagrams of 64 bytes by one sendmmsg a round, and take them by one recvmmsg."""
    with Socket(a, AF_INET, SOCK_DGRAM) as sender, Socket(b, AF_INET, SOCK_DGRAM) as receiver:
        receiver.bind((B, PORT))
        messages = [(bytes(64), (B, PORT))] * BATCH
        buffers = [bytearray(2048) for _ in range(BATCH)]
        while True:
            sender.sendmmsg(messages)
            receiver.recvmmsg(buffers)
            yield


def tcp_bulk(a: Host, b: Host) -> Iterator[None]:
    """Move 32 MiB over one connection a round, in writes of 1 MiB."""
    with create_server(b, (B, PORT)) as listener:
        block = memoryview(bytes(1 << 20))
        while True:
            client = create_connection(a, (B, PORT))
            server, _ = listener.accept()
            pieces = iter([block] * 32)
            with client, server:
                pump(client, server, lambda pieces=pieces: next(pieces, None), lambda piece: None)  # type: ignore[misc]
            yield


def tcp_rr(a: Host, b: Host) -> Iterator[None]:
    """Exchange 50 requests and answers of 64 bytes over one connection a round."""
    with create_server(b, (B, PORT)) as listener:
        client = create_connection(a, (B, PORT))
        server, _ = listener.accept()
        message = bytes(64)
        with client, server:
            while True:
                for _ in range(50):
                    client.send(message)
                    server.send(server.recv(2048))
                    client.recv(2048)
                yield


def connect(a: Host, b: Host) -> Iterator[None]:
    """Open, accept and close 10 connections a round."""
    with create_server(b, (B, PORT)) as listener:
        while True:
            for _ in range(10):
                client = create_connection(a, (B, PORT))
                server, _ = listener.accept()
                client.close()
                server.close()
            # TIME_WAIT is a minute (TCP_TIMEWAIT_LEN), or the ports run out
            a.clock.run_for(61_000_000_000)
            yield


WORKLOADS: dict[str, Workload] = {
    "udp": udp,
    "udp-batch": udp_batch,
    "tcp-bulk": tcp_bulk,
    "tcp-rr": tcp_rr,
    "connect": connect,
}


def run(name: str, cpu_s: float, begin: Callable[[], object], end: Callable[[], object]) -> int:
    """Run a workload for about `cpu_s` seconds of CPU time; return how many rounds it did.

    `begin` is called after set-up and a round that resolves and warms up, `end` before it is all
    torn down.
    """
    a, b = two_hosts()
    with a, b:
        rounds = WORKLOADS[name](a, b)
        next(rounds)
        begin()
        stop, count = time.thread_time() + cpu_s, 0
        while time.thread_time() < stop:
            next(rounds)
            count += 1
        end()
        rounds.close()  # type: ignore[attr-defined]
    return count
