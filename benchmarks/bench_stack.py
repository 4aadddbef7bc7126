"""The whole path, two stacks and two NICs in one process: UDP datagrams one by one, and TCP bulk.

Every figure is per CPU second of everything that runs. The peer is the Linux kernel reached
through the standard
library's sockets on loopback, measured in the same run, interleaved.
"""

from __future__ import annotations

import socket
import time
from statistics import median

A, B = "10.0.0.1", "10.0.0.2"


def measure_udp(packets: int, *, size: int = 64) -> float:
    """Return datagrams per CPU second: one sendto() and one recvfrom() each, through both stacks
    and NICs."""
    from e1000emu.lab import two_hosts
    from stack.socket import AF_INET, SOCK_DGRAM, Socket

    a, b = two_hosts()
    receiver = Socket(b, AF_INET, SOCK_DGRAM)
    receiver.bind((B, 9001))
    sender = Socket(a, AF_INET, SOCK_DGRAM)
    payload = bytes(size)
    dest = (B, 9001)
    for _ in range(20):  # ARP and route are resolved, pools are warm
        sender.sendto(payload, dest)
        receiver.recvfrom(2048)
    start = time.process_time()
    for _ in range(packets):
        sender.sendto(payload, dest)
        receiver.recvfrom(2048)
    rate = packets / (time.process_time() - start)
    sender.close()
    receiver.close()
    a.close()
    b.close()
    return rate


def measure_udp_kernel(packets: int, *, size: int = 64) -> float:
    """Return datagrams per CPU second of the standard library's sockets on loopback (user and
    system time)."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        dest = receiver.getsockname()
        payload = bytes(size)
        start = time.process_time()
        for _ in range(packets):
            sender.sendto(payload, dest)
            receiver.recvfrom(2048)
        return packets / (time.process_time() - start)


def measure_tcp(total_bytes: int, *, write_bytes: int = 1 << 20) -> float:
    """Return Gbit of payload per CPU second over one connection, MSS 1460, checksums and copies
    real."""
    from e1000emu.lab import pump, two_hosts
    from stack.socket import create_connection, create_server

    a, b = two_hosts()
    listener = create_server(b, (B, 5001))
    client = create_connection(a, (B, 5001))
    server, _ = listener.accept()
    block = memoryview(bytearray(write_bytes))
    pieces = iter([block] * (total_bytes // write_bytes))
    start = time.process_time()
    received = pump(client, server, lambda: next(pieces, None), lambda piece: None)
    rate = received * 8 / (time.process_time() - start) / 1e9
    for sock in (client, server, listener):
        sock.close()
    a.close()
    b.close()
    return rate


def measure_tcp_kernel(total_bytes: int, *, write_bytes: int = 1 << 18) -> float:
    """Return Gbit per CPU second of the standard library's TCP on loopback, both ends in this
    thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            client.setblocking(False)
            block = memoryview(bytearray(write_bytes))
            buffer = bytearray(1 << 20)
            sent = received = 0
            start = time.process_time()
            while received < total_bytes:
                while sent < total_bytes:
                    try:
                        sent += client.send(block[: min(write_bytes, total_bytes - sent)])
                    except BlockingIOError:
                        break
                received += server.recv_into(buffer)
            return received * 8 / (time.process_time() - start) / 1e9


def collect(*, quick: bool = False) -> list[dict[str, object]]:
    """Return the rows `udp_64B_single` and `tcp_bulk` of `e1000emu bench`."""
    rounds = 3 if quick else 5
    # 64 MiB would measure the first touch of the memory more than the path
    packets, volume = (3000 if quick else 20000), 256 << 20
    udp, udp_kernel, tcp, tcp_kernel = [], [], [], []
    for _ in range(rounds):
        udp.append(measure_udp(packets))
        udp_kernel.append(measure_udp_kernel(packets))
        tcp.append(measure_tcp(volume))
        tcp_kernel.append(measure_tcp_kernel(volume))
    return [
        {
            "name": "udp_64B_single",
            "value": median(udp),
            "unit": "packets/cpu-s",
            "peer": "Linux loopback, stdlib sendto+recvfrom",
            "peer_value": median(udp_kernel),
            "ratio": median(udp) / median(udp_kernel),
        },
        {
            "name": "tcp_bulk",
            "value": median(tcp),
            "unit": "Gbit/cpu-s",
            "peer": "Linux loopback (MTU 65536, offloads on), stdlib",
            "peer_value": median(tcp_kernel),
            "ratio": median(tcp) / median(tcp_kernel),
        },
    ]


def bench_stack__udp_single__64B() -> None:
    """Print UDP packets per CPU second beside the kernel's."""
    ours, kernel = measure_udp(10000), measure_udp_kernel(10000)
    print(
        f"udp 64 B single: {ours / 1e3:.1f} k/cpu-s, kernel {kernel / 1e3:.1f} k, "
        f"ratio {ours / kernel:.2f}"
    )


def bench_stack__tcp_bulk__1MiB_writes() -> None:
    """Print TCP Gbit per CPU second beside the kernel's."""
    ours, kernel = measure_tcp(256 << 20), measure_tcp_kernel(256 << 20)
    print(
        f"tcp bulk: {ours:.1f} Gbit/cpu-s, kernel loopback {kernel:.1f}, ratio {ours / kernel:.2f}"
    )
