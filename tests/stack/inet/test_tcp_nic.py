"""TCP over driver, rings and wire: super-packets cut by the NIC, merged by GRO, lost in between."""

from __future__ import annotations

import contextlib
import random
from types import SimpleNamespace
from typing import Any

import pytest

from e1000emu.lab import two_hosts
from tests.stack.inet.tcpnet import MS, B, S, Sock, transfer

PORT = 20001  # no dissector of tshark, which judges these frames, claims it


def connected(count: int = 1, **options: Any) -> tuple[Any, list[Sock], list[Sock]]:
    """(net, clients, servers) over two emulated NICs."""
    a, b = two_hosts(**options)
    net: Any = SimpleNamespace(a=a, b=b, clock=a.clock, socks=[])
    listener = Sock(net, b)
    listener.bind(PORT)
    listener.listen(count)
    clients = [Sock(net, a) for _ in range(count)]
    for client in clients:
        client.connect(B, PORT)
    servers: dict[int, Sock] = {}
    for _ in range(1000):
        a.clock.run_for(10 * MS)
        while listener.readable:
            server = listener.accept()
            servers[server.sk.inet_dport] = server
        if len(servers) == count:
            break
    listener.close()
    return net, clients, [servers[c.sk.inet_num] for c in clients]


def finish(net: Any, socks: list[Sock]) -> None:
    """Close; nothing of either host's memory may be left in use by TCP."""
    for sock in socks:
        sock.close()
    net.clock.run_for(600 * S)
    for host in (net.a, net.b):
        assert not host.tcp_hashinfo.ehash
        assert host.prot_mem["TCP"].memory_allocated == 0
        assert host.mib.tcp.InCsumErrors == 0
        host.close()
        assert host.skb_small.in_use == 0
        assert host.skb_pages.in_use == 0


@pytest.mark.parametrize("sack", [0, 1])
@pytest.mark.parametrize(
    "impair",
    [
        {},
        {"loss": 0.01},
        {"loss": 0.02, "reorder": 0.02, "duplicate": 0.02},
    ],
    ids=["clean", "loss", "mixed"],
)
def test_bulk_survives_the_wire(impair: dict[str, float], sack: int) -> None:
    data = random.Random(5).randbytes(3_000_000)
    net, (client,), (server,) = connected(
        impair=impair or None, latency_ns=50_000, sysctl={"tcp_sack": sack}, seed=3
    )
    assert transfer(net, client, server, data, chunk=1 << 18) == data
    answer = data[:500_000]
    assert transfer(net, server, client, answer, chunk=10_000) == answer
    finish(net, [client, server])


def test_super_packets_go_down_and_come_up() -> None:
    """A clean bulk flow crosses the stack in pieces near the device's limit (performance.md 7)."""
    net, (client,), (server,) = connected()
    data = bytes(4 << 20)
    assert transfer(net, client, server, data, chunk=1 << 20, close=False) == data
    sent, acks = net.a.mib.tcp.OutSegs, net.a.mib.tcp.InSegs
    data = bytes(32 << 20)
    assert transfer(net, client, server, data, chunk=1 << 20, close=False) == data
    assert net.a.mib.tcp.RetransSegs == 0
    assert (net.a.mib.tcp.OutSegs - sent) / (net.a.mib.tcp.InSegs - acks) > 100
    finish(net, [client, server])


def test_unread_sockets_do_not_make_the_host_deaf() -> None:
    """Receive buffers of the ring that nobody reads are limited by tcp_mem."""
    count = 12
    net, clients, servers = connected(count, ram_bytes=32 << 20)
    data = bytes(100_000)
    got = [0] * count
    for _ in range(4000):
        for i in range(count):
            with contextlib.suppress(BlockingIOError):
                clients[i].send(data)
            if i % 2:
                with contextlib.suppress(BlockingIOError):
                    got[i] += len(servers[i].recv(100_000))
        net.clock.run_for(5 * MS)
        if min(got[1::2]) > 400_000:
            break
    assert min(got[1::2]) > 400_000
    finish(net, [*clients, *servers])
