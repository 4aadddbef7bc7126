"""What a connection takes: bytes of an idle end, and what is made only when it is needed."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import ExitStack

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack import COMPILED
from stack.core.sock import NO_PACKETS
from stack.core.wait import NOBODY
from stack.host import Host
from stack.inet.inet_hashtables import inet_bind_bucket
from stack.inet.inet_sock import NO_GROUPS
from stack.inet.tcp_sock import NO_BLOCKS, NO_RANGES, NO_SKBS
from stack.socket import AF_INET, AF_INET6, SO_KEEPALIVE, SOL_SOCKET, Socket

CONNECTIONS = 300
ADDRESS = ("10.0.0.2", 80)


def listening(host: Host, stack: ExitStack, address: tuple[str, int] = ADDRESS) -> Socket:
    family = AF_INET6 if ":" in address[0] else AF_INET
    listener = stack.enter_context(Socket(host, family))
    listener.bind(address)
    listener.listen(4)
    return listener


def connected(host: Host, listener: Socket) -> tuple[Socket, Socket]:
    client = Socket(host, listener.family)
    client.connect(listener.getsockname())
    return client, listener.accept()[0]


@pytest.mark.skipif(not COMPILED, reason="the sources' objects are larger")
@pytest.mark.parametrize(
    ("address", "most_bytes"), [("10.0.0.2", 3600), ("2001:db8::2", 4000)], ids=["v4", "v6"]
)
def test_an_idle_end_takes_no_more_than_this(address: str, most_bytes: int) -> None:
    """Of one end, with its part of the tables that it stands in."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(host) for host in two_hosts(VirtualClock()))
        if ":" in address:
            a.ifconfig("eth0", "2001:db8::1/64")
            b.ifconfig("eth0", address + "/64")
            a.clock.run_for(3_000_000_000)  # duplicate address detection
        listener = listening(b, stack, (address, 80))
        made = [connected(a, listener) for _ in range(10)]
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            made += [connected(a, listener) for _ in range(CONNECTIONS)]
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        for client, server in made:
            client.close()
            server.close()
    assert used / (2 * CONNECTIONS) <= most_bytes


def test_what_stands_for_nothing_yet_stays_empty() -> None:
    """Whoever puts something in takes a queue or list of the socket's own."""
    with ExitStack() as stack:
        impair = {"loss": 0.05, "reorder": 0.2, "duplicate": 0.05}
        hosts = two_hosts(VirtualClock(), impair=impair, latency_ns=2_000_000, seed=3)
        a, b = (stack.enter_context(host) for host in hosts)
        client, server = connected(a, listening(b, stack))
        stack.enter_context(client)
        stack.enter_context(server)
        client.setblocking(False)
        server.setblocking(False)
        data = bytes(range(256)) * 2000
        sent, got = 0, b""
        while len(got) < len(data):
            for step in range(8):
                try:
                    if step % 2:
                        got += server.recv(65536)
                    elif sent < len(data):
                        sent += client.send(data[sent : sent + 65536])
                except BlockingIOError:
                    pass
            a.clock.run_for(1_000_000)
        assert got == data
        assert server.sk.out_of_order_queue is not NO_SKBS
        assert server.sk.selective_acks is not NO_BLOCKS
        assert client.sk.sacked_ranges is not NO_RANGES
        assert b.mib.linux.TCPOFOQueue > 0
    assert (len(NO_PACKETS), NO_SKBS, NO_BLOCKS, NO_RANGES.edges) == (0, [], [], [])
    assert (NOBODY, NO_GROUPS) == ([], [])


def test_timers_that_few_need_are_made_when_they_are_armed() -> None:
    with ExitStack() as stack:
        a, b = (stack.enter_context(host) for host in two_hosts(VirtualClock()))
        client, server = connected(a, listening(b, stack))
        stack.enter_context(client)
        stack.enter_context(server)
        for sk in (client.sk, server.sk):
            assert sk.sk_timer is None
            assert sk.pacing_timer is None
        client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        assert client.sk.sk_timer.pending
        client.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 0)
        assert not client.sk.sk_timer.pending
        server.send(b"x")
        assert client.recv(1) == b"x"


def test_a_route_with_metrics_beyond_all_bounds_connects() -> None:
    """They count as the largest (net/ipv4/metrics.c), which fields of the socket can hold."""
    with ExitStack() as stack:
        a, b = (stack.enter_context(host) for host in two_hosts(VirtualClock()))
        a.route_add("10.0.0.2/32", dev="eth0", mtu=1 << 40, advmss=1 << 40)
        client, server = connected(a, listening(b, stack))
        stack.enter_context(client)
        stack.enter_context(server)
        client.send(b"x")
        assert server.recv(1) == b"x"
        assert client.sk.advmss == 65535 - 40 - 12


def test_owners_of_a_port() -> None:
    bucket = inet_bind_bucket(80)
    assert bucket.is_free()
    one, two, three = object(), object(), object()
    bucket.add(one)
    bucket.add(one)
    assert list(bucket.owners()) == [one]
    bucket.add(two)
    bucket.add(three)
    assert list(bucket.owners()) == [one, two, three]
    for owner in (two, one):
        bucket.remove(owner)
        assert not bucket.is_free()
    assert list(bucket.owners()) == [three]
    bucket.remove(three)
    assert bucket.is_free()
    with pytest.raises(KeyError):
        bucket.remove(one)
    bucket.add(two)
    assert list(bucket.owners()) == [two]
    bucket.remove(two)
    assert bucket.is_free()
    with pytest.raises(KeyError):
        bucket.remove(two)
