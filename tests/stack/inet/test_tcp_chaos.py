"""Many sockets, random calls, a bad wire, hosts short of memory: nothing may be left afterwards."""

from __future__ import annotations

import contextlib
import random

import pytest

from stack.core.uapi import MSG_MORE
from stack.ipv4.tcp_ipv4 import tcp_prot
from tests.stack.inet.tcpnet import S, Sock, TcpNet

PAUSES = (10**5, 10**6, 10**7, 10**8, 10**9, 5 * 10**9)


def random_net(rng: random.Random, kind: type[TcpNet] = TcpNet) -> TcpNet:
    """A wire and two hosts, any of them bad."""
    return kind(
        seed=rng.getrandbits(30),
        loss=rng.choice([0, 0.01, 0.05, 0.2]),
        reorder=rng.choice([0, 0.05, 0.3]),
        duplicate=rng.choice([0, 0.05, 0.3]),
        gso=rng.random() < 0.7,
        latency_ns=rng.choice([0, 1000, 10**6, 10**7]),
        ram_bytes=rng.choice([1 << 20, 8 << 20, 64 << 20]),
        sysctl={
            "tcp_sack": rng.randrange(2),
            "tcp_timestamps": rng.randrange(3),
            "tcp_syncookies": rng.randrange(3),
            "tcp_fin_timeout": rng.choice([1, 60, 100]),
            "tcp_abort_on_overflow": rng.randrange(2),
            "tcp_rfc1337": rng.randrange(2),
            "tcp_tw_reuse": rng.randrange(3),
            "ip_local_port_range": rng.choice([(32768, 60999), (5000, 5006)]),
            "tcp_rmem": (4096, rng.choice([8192, 65536, 1 << 20]), rng.choice([65536, 6 << 20])),
            "tcp_wmem": (4096, rng.choice([8192, 65536, 1 << 20]), rng.choice([65536, 6 << 20])),
        },
    )


def one_step(net: TcpNet, rng: random.Random, listener: Sock, socks: list[Sock]) -> None:
    """One random call. OSErrors are what a caller has to expect."""
    what = rng.random()
    if what < 0.12 and len(socks) < 12:
        client = net.socket(net.a)
        socks.append(client)
        client.connect(net.peer_addr, 80)
    elif what < 0.25:
        socks.append(listener.accept())
    elif not socks:
        net.run(rng.choice(PAUSES))
    elif what < 0.5:
        data = rng.randbytes(rng.choice([1, 100, 5000, 60_000]))
        rng.choice(socks).send(data, rng.choice([0, 0, MSG_MORE]))
    elif what < 0.72:
        rng.choice(socks).recv(rng.choice([1, 100, 100_000]))
    elif what < 0.75:
        rng.choice(socks).shutdown(2)
    elif what < 0.79:
        sock = socks.pop(rng.randrange(len(socks)))
        if rng.random() < 0.3:
            sock.sk.sk_flags |= 1 << 4  # SOCK_LINGER
            sock.sk.sk_lingertime = 0
        sock.close(rng.choice([0, 0, S]))
    elif what < 0.80:
        tcp_prot.disconnect(rng.choice(socks).sk, 0)
    elif what < 0.82:
        rng.choice(socks).setsockopt(rng.choice([1, 3]), rng.randrange(2))
    else:
        net.run(rng.choice(PAUSES))


@pytest.mark.parametrize("seed", range(60))
def test_nothing_is_left(seed: int) -> None:
    nothing_is_left(seed, TcpNet)


def nothing_is_left(seed: int, kind: type[TcpNet]) -> None:
    """Random calls on random nets of a kind; then every table of both hosts is empty."""
    rng = random.Random(seed)
    with random_net(rng, kind) as net:
        net.keep_log = False
        listener = net.socket(net.b)
        listener.bind(80)
        listener.listen(rng.choice([1, 4, 16]))
        socks: list[Sock] = []
        for _ in range(rng.randrange(20, 200)):
            with contextlib.suppress(OSError):
                one_step(net, rng, listener, socks)
        net.loss = net.reorder = net.duplicate = 0
        for sock in [*socks, listener]:
            sock.close()
        net.run(4000 * S)
        for host in (net.a, net.b):
            tables = host.tcp_hashinfo
            assert not tables.ehash
            assert not tables.bhash
            assert not tables.lhash2
            mem = host.prot_mem.get("TCP")
            if mem is not None:
                assert mem.memory_allocated == 0
                assert mem.orphan_count == 0
                assert mem.sockets_allocated == 0
            assert host.machine.timers.active == 0
            assert host.tcp_death_row.tw_refcount == 0
            assert host.mib.tcp.CurrEstab == 0
