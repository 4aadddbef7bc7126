"""TCP Small Queues, autocorking, pacing: what a socket has in its host's own queues."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest

from stack.core.bsd_socket import sockfd_lookup
from stack.core.sockopt import sock_setsockopt
from stack.core.uapi import (
    AF_INET,
    SO_LINGER,
    SO_MAX_PACING_RATE,
    SOCK_DGRAM,
    SOL_SOCKET,
    SOL_UDP,
    UDP_SEGMENT,
)
from stack.host import Host
from stack.inet.tcp_sock import TCP_NODELAY
from tests.stack.inet.tcpnet import MS, S, Sock
from tests.stack.inet.test_tcp_nic import connected, finish

RATE = 1_250_000  # bytes a second, of the sender's queue
TOTAL = 1_500_000


def slow(host: Any, **opt: Any) -> None:
    host.qdisc_add("eth0", "tbf", **{"rate": RATE, "burst": 3028, "limit": 4 << 20, **opt})


def send_on(sock: Sock, data: bytes, sent: int) -> int:
    """Send of `data` behind `sent` bytes what the socket takes; how much it has then taken."""
    with contextlib.suppress(BlockingIOError):
        while sent < len(data):
            sent += sock.send(data[sent : sent + 65536])
    return sent


def bulk(cut: bool, gso: int = 65536, **sysctl: int) -> tuple[int, int]:
    """Send TOTAL bytes through a slow queue, as super-packets or in segments that it cuts.

    Returns the bytes that were in the queue and in flight at most in the second half.
    """
    net, (client,), (server,) = connected(sysctl=sysctl)
    slow(net.a, **({} if cut else {"burst": 1 << 17}))
    client.sk.sk_gso_max_size = gso
    pattern = bytes(range(250)) * (TOTAL // 250)
    sent = charged = in_flight = 0
    got = bytearray()
    for _ in range(4000):
        sent = send_on(client, pattern, sent)
        net.clock.run_for(MS)
        while server.readable and len(got) < TOTAL:
            got += server.recv(1 << 20)
        if len(got) > TOTAL // 2:  # the first round trips were short, and so the rate high
            charged = max(charged, client.sk.sk_wmem_alloc)
            in_flight = max(in_flight, (client.sk.snd_nxt - client.sk.snd_una) & 0xFFFFFFFF)
        if len(got) == TOTAL:
            break
    assert got == pattern
    net.clock.run_for(S)
    assert client.sk.sk_wmem_alloc == 0
    assert not net.a.machine.tsq_head
    finish(net, [client, server])
    return charged, in_flight


@pytest.mark.parametrize("cut", [True, False])
def test_a_few_packets_wait_in_the_queue_and_the_rest_in_the_socket(cut: bool) -> None:
    """net/ipv4/tcp_output.c tcp_small_queue_check: at most two super-packets and the next one."""
    charged, in_flight = bulk(cut)
    assert 0 < charged < 3 * 70_000
    assert in_flight < 3 * 65_536


def test_the_sysctl_sets_the_most() -> None:
    _, many = bulk(True, 8192)
    _, few = bulk(True, 8192, tcp_limit_output_bytes=1)
    assert few < 2 * 8192 < many < 4 * 8192


@pytest.mark.parametrize("corking", [1, 0])
def test_small_packets_are_joined_while_another_is_in_the_queue(corking: int) -> None:
    """tcp_should_autocork, whatever TCP_NODELAY says."""
    net, (client,), (server,) = connected(sysctl={"tcp_autocorking": corking})
    slow(net.a, burst=1514)
    client.setsockopt(TCP_NODELAY, 1)
    client.send(bytes(1000))
    client.send(bytes(1000))  # waits for tokens
    before = client.sk.data_segs_out
    for n in range(6):
        client.send(bytes([n]) * 10)
    net.clock.run_for(S)
    assert server.recv(1 << 16)[2000:] == b"".join(bytes([n]) * 10 for n in range(6))
    assert client.sk.data_segs_out - before == (1 if corking else 6)
    assert net.a.mib.linux.TCPAutoCorking == corking
    finish(net, [client, server])


def test_a_queue_that_is_thrown_away_lets_the_connection_go_on() -> None:
    """What is freed without being sent is lost to TCP like any packet."""
    net, (client,), (server,) = connected()
    slow(net.a)
    pattern = bytes(range(250)) * 800
    sent = 0
    got = b""
    for turn in range(400):
        sent = send_on(client, pattern, sent)
        net.clock.run_for(5 * MS)
        if turn in (3, 6):
            net.a.qdisc_del("eth0")
            slow(net.a)
        while server.readable and len(got) < len(pattern):
            got += server.recv(1 << 20)
    assert got == pattern
    finish(net, [client, server])


def test_a_closed_connection_is_not_called() -> None:
    net, (client,), (server,) = connected()
    slow(net.a)
    client.send(bytes(200_000))
    net.clock.run_for(MS)
    assert client.sk.sk_wmem_alloc
    sock_setsockopt(client.sock, SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    finish(net, [client, server])


def test_the_segments_of_a_datagram_are_charged_until_they_are_sent(a: Host) -> None:
    """net/ipv4/udp_offload.c __udp_gso_segment: a queue that cuts a super-packet owes its bytes."""
    slow(a, rate=125_000, burst=1514)
    with a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setsockopt(SOL_UDP, UDP_SEGMENT, 1000)
        sock.connect(("10.0.0.2", 9))
        sock.send(bytes(10_000))
        sk = sockfd_lookup(a, sock._fd).sk
        charged = []
        while sk.sk_wmem_alloc:
            charged.append(sk.sk_wmem_alloc)
            a.clock.run_for(8 * MS)
        assert charged[1:] == sorted(charged[1:], reverse=True)  # cut by now
        assert len(set(charged)) >= 8
        assert charged[0] > 9000


def trickle(net: Any, client: Sock, server: Sock, size: int) -> list[int]:
    """Send `size` bytes: how many frames left in each millisecond until all had come."""
    stats = net.a.dev("eth0").stats
    data = bytes(size)
    frames: list[int] = []
    got = sent = 0
    while got < size and len(frames) < 3000:
        sent = send_on(client, data, sent)
        before = stats.tx_packets
        net.clock.run_for(MS)
        frames.append(stats.tx_packets - before)
        got += len(server.recv_all())
    assert got == size
    return frames


@pytest.mark.parametrize("discipline", ["fq", "pfifo_fast"])
def test_fq_spaces_the_packets_of_a_connection(discipline: str) -> None:
    """SK_PACING_FQ: a share of the window per round trip, instead of bursts."""
    net, (client,), (server,) = connected(latency_ns=20 * MS)
    net.a.qdisc_add("eth0", discipline)
    burst = max(trickle(net, client, server, 400_000)[:120])  # three round trips
    assert burst <= 4 if discipline == "fq" else burst >= 20
    finish(net, [client, server])


def test_fq_paces_below_the_limit_of_the_socket() -> None:
    net, (client,), (server,) = connected()
    net.a.qdisc_add("eth0", "fq")
    sock_setsockopt(client.sock, SOL_SOCKET, SO_MAX_PACING_RATE, 1_000_000)
    assert 380 < len(trickle(net, client, server, 400_000)) < 450
    assert net.a.qdisc_show("eth0")[0]["drops"] == 0
    finish(net, [client, server])
