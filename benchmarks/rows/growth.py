"""Whether the cost of a packet grows with the number of flows and connections.

A row is the same work with 1 ... 10,000 flows or connections. They are used in turn, so that caches
hold no more of them than with real traffic. Each was used once before, so that routes are known and
buffers allocated; the cost of that first use is shown beside the rate. Sizes are measured in turn.
`e1000emu bench` reports a row if its cost grows more than `growth` times from the first size to the
last, after division by the growth of the peer's cost. Peers are the kernel's sockets through the
standard library, in the same number. Routes and neighbours are in `tables.py`.
"""

from __future__ import annotations

import gc
import itertools
import os
import resource
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket

from . import Row, Unavailable, Work, clock, number, row
from .ends import OURS, Ends, hosts, kernel_listener, loopback, open_files
from .kernel import LOOPBACK
from .tcp import connected, listening, receive_all

COUNTS = (1, 10, 100, 1000, 10_000)
QUICK_COUNTS = (1, 10_000)
OPERATIONS = 1024
"""Of one run, whatever there is beside them."""
PAYLOAD = bytes(64)
FAN = 64
"""Datagrams of a batch, each to another flow."""
FAN_COUNTS = (100, 1000, 10_000)
"""Fewer than FAN flows would have several datagrams each, which are sent as one super-packet."""
SPARE_FILES = 100
"""Descriptors left over for what a row opens besides its flows."""
NEARLY = 0.9
"""A machine that allows 20,000 open files has 9,950 flows beside our 10,000."""
BOUND = 1.5
"""The cost has grown if at the last size it is more than this multiple of that at the first."""
MANY = 1000
"""With at least so many the memory of one is shown; with fewer it cannot be measured."""


def sizes(unit: str, counts: tuple[int, ...]) -> tuple[str, ...]:
    """Return 1flows, 10flows ..."""
    return tuple(f"{count}{unit}" for count in counts)


def room_for(count: int) -> int:
    """Return a host's RAM in which each used socket can keep a page within udp_mem."""
    return (128 << 20) if count <= MANY else (1 << 30)


def many(
    count: int, make: Callable[[], tuple[Socket, Socket]], stack: ExitStack
) -> tuple[list[tuple[Socket, Socket]], dict[str, float]]:
    """Make so many connections; return them and, with MANY or more, the memory of one end.

    The memory is what Python's allocators gave for the first MANY: sockets and all they own.
    """
    made: list[tuple[Socket, Socket]] = []

    def more(upto: int) -> None:
        while len(made) < upto:
            made.append(make())
            for end in made[-1]:
                stack.enter_context(end)

    if count < MANY:
        more(count)
        return made, {}
    more(1)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        more(MANY)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    more(count)
    return made, {"bytes_an_end": used / (2 * (MANY - 1))}


def _udp_flows(family: int, size: str) -> Iterator[Work]:
    """One datagram of each flow in turn; a flow has a socket at either end."""
    count = int(number(size))
    with hosts(family, ram_bytes=room_for(count)) as (a, b), ExitStack() as stack:
        flows = []
        for port in range(10_000, 10_000 + count):
            receiver = stack.enter_context(Socket(b, family, SOCK_DGRAM))
            sender = stack.enter_context(Socket(a, family, SOCK_DGRAM))
            receiver.bind((OURS[family], port))
            sender.connect((OURS[family], port))
            flows.append((sender, receiver))
        yield _datagrams(flows)


def _datagrams(
    flows: list[tuple[Socket, Socket]] | list[tuple[socket.socket, socket.socket]],
) -> Work:
    """A datagram of each flow, then the work: one of each in turn."""
    first = first_use(len(flows), lambda: [(tx.send(PAYLOAD), rx.recv(2048)) for tx, rx in flows])
    turns = itertools.cycle(flows)

    def run() -> None:
        for sender, receiver in itertools.islice(turns, OPERATIONS):
            sender.send(PAYLOAD)
            receiver.recv(2048)

    return Work(run, OPERATIONS, facts=lambda: first)


def first_use(count: int, use: Callable[[], object]) -> dict[str, float]:
    """Use each of `count` once; return what one took: CPU nanoseconds."""
    start = clock()
    use()
    return {"first_use_ns": (clock() - start) / count * 1e9}


def _udp_fan(family: int, size: str) -> Iterator[Work]:
    """sendmmsg() of 64 datagrams, each to another flow; each received by its own socket."""
    count = int(number(size))
    with (
        hosts(family, ram_bytes=room_for(count)) as (a, b),
        ExitStack() as stack,
        Socket(a, family, SOCK_DGRAM) as sender,
    ):
        flows = []
        for port in range(10_000, 10_000 + count):
            receiver = stack.enter_context(Socket(b, family, SOCK_DGRAM))
            receiver.bind((OURS[family], port))
            flows.append(((PAYLOAD, (OURS[family], port)), receiver))
        turns = itertools.cycle(flows)

        def run(rounds: int = OPERATIONS // FAN) -> None:
            for _ in range(rounds):
                batch = list(itertools.islice(turns, FAN))
                if sender.sendmmsg([message for message, _ in batch]) != FAN:
                    raise RuntimeError("udp: a datagram was not sent")
                for _, receiver in batch:
                    receiver.recv(2048)

        rounds = -(-count // FAN)
        first = first_use(rounds * FAN, lambda: run(rounds))
        yield Work(run, OPERATIONS, facts=lambda: first)


def _kernel_udp_flows(size: str) -> Iterator[Work]:
    """One datagram of each flow in turn through the standard library."""
    count, facts = affordable(int(number(size)))
    with loopback() as ends, ExitStack() as stack:
        flows = []
        for _ in range(count):
            with ends.b:
                receiver = stack.enter_context(socket.socket(AF_INET, SOCK_DGRAM))
            with ends.a:
                sender = stack.enter_context(socket.socket(AF_INET, SOCK_DGRAM))
            receiver.bind((ends.address[AF_INET], 0))
            sender.connect(receiver.getsockname())
            flows.append((sender, receiver))
        work = _datagrams(flows)
        first = work.facts() if work.facts is not None else {}
        work.facts = lambda: {**first, **facts}
        yield work


def _kernel_udp_fan(size: str) -> Iterator[Work]:
    """One sender to many receivers through the standard library, which has no sendmmsg()."""
    count = int(number(size))
    open_files(count + SPARE_FILES)
    with loopback() as ends, ExitStack() as stack:
        with ends.a:
            sender = stack.enter_context(socket.socket(AF_INET, SOCK_DGRAM))
        flows = []
        for _ in range(count):
            with ends.b:
                receiver = stack.enter_context(socket.socket(AF_INET, SOCK_DGRAM))
            receiver.bind((ends.address[AF_INET], 0))
            flows.append((receiver.getsockname(), receiver))
        turns = itertools.cycle(flows)

        def run(rounds: int = OPERATIONS // FAN) -> None:
            for _ in range(rounds):
                batch = list(itertools.islice(turns, FAN))
                for address, _ in batch:
                    sender.sendto(PAYLOAD, address)
                for _, receiver in batch:
                    receiver.recv(2048)

        rounds = -(-count // FAN)
        first = first_use(rounds * FAN, lambda: run(rounds))
        yield Work(run, OPERATIONS, facts=lambda: first)


def affordable(count: int) -> tuple[int, dict[str, float]]:
    """Return how many of `count` connections this process may have, at two descriptors each.

    Fewer than `count` is reported. Raises: Unavailable, when it is far fewer.
    """
    try:
        open_files(2 * count + SPARE_FILES)
    except Unavailable:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        some = (hard - len(os.listdir("/proc/self/fd")) - SPARE_FILES) // 2
        if some < NEARLY * count:
            raise
        open_files(2 * some + SPARE_FILES)
        return some, {"instead": some}
    return count, {}


def _tcp_flows(family: int, size: str) -> Iterator[Work]:
    """A round trip over each connection in turn."""
    count = int(number(size))
    with (
        hosts(family, ram_bytes=room_for(count)) as (a, b),
        listening(b, family) as listener,
        ExitStack() as stack,
    ):
        flows, facts = many(count, lambda: connected(a, listener, family), stack)
        yield _trips(flows, facts)


def _round_trips(
    flows: list[tuple[Socket, Socket]] | list[tuple[socket.socket, socket.socket]],
) -> Callable[[], None]:
    turns = itertools.cycle(flows)
    size = len(PAYLOAD)

    def run() -> None:
        for client, server in itertools.islice(turns, OPERATIONS):
            client.send(PAYLOAD)
            receive_all(server, size)
            server.send(PAYLOAD)
            receive_all(client, size)

    return run


def _trips(
    flows: list[tuple[Socket, Socket]] | list[tuple[socket.socket, socket.socket]],
    facts: dict[str, float],
) -> Work:
    """A round trip over each connection, then the work: one over each in turn."""
    run = _round_trips(flows)
    rounds = -(-len(flows) // OPERATIONS)
    first = first_use(rounds * OPERATIONS, lambda: [run() for _ in range(rounds)])
    return Work(run, OPERATIONS, facts=lambda: {**facts, **first})


def _idle(family: int, size: str) -> Iterator[Work]:
    """Round trips over one connection, beside so many idle ones."""
    count = int(number(size))
    with (
        hosts(family, ram_bytes=room_for(count)) as (a, b),
        listening(b, family) as listener,
        ExitStack() as stack,
    ):
        active = connected(a, listener, family)
        _, facts = many(count, lambda: connected(a, listener, family), stack)
        with active[0], active[1]:
            yield Work(_round_trips([active]), OPERATIONS, facts=lambda: facts)


def _kernel_connections(
    ends: Ends, count: int, stack: ExitStack
) -> list[tuple[socket.socket, socket.socket]]:
    flows = []
    with kernel_listener(ends, AF_INET) as listener, ends.a:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(listener.getsockname()))
            server = stack.enter_context(listener.accept()[0])
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            flows.append((client, server))
    return flows


def _kernel_tcp_flows(size: str) -> Iterator[Work]:
    """A round trip over each connection in turn through the standard library."""
    with loopback() as ends, ExitStack() as stack:
        count, facts = affordable(int(number(size)))
        yield _trips(_kernel_connections(ends, count, stack), facts)


def _kernel_idle(size: str) -> Iterator[Work]:
    """Round trips over one connection beside idle ones through the standard library."""
    with loopback() as ends, ExitStack() as stack:
        count, facts = affordable(int(number(size)))
        flows = _kernel_connections(ends, 1 + count, stack)
        yield Work(_round_trips(flows[:1]), OPERATIONS, facts=lambda: facts)


def growing(
    name: str,
    group: str,
    unit: str,
    start: Callable[[str], Iterator[Work]],
    *,
    peer: str | None = None,
    quick: bool = True,
    counts: tuple[int, ...] = COUNTS,
    quick_counts: tuple[int, ...] = QUICK_COUNTS,
) -> Row:
    """Make a row over 1 ... 10,000 of `unit`; of a peer growth is shown and not judged."""
    made = row(
        name,
        group=group,
        unit="k/s",
        sizes=sizes(unit, counts),
        quick=sizes(unit, quick_counts) if quick else (),
        peer=peer,
        growth=BOUND if peer is None else 0.0,
    )
    return made(start)


FAN_OUT: dict[str, Any] = {
    "counts": FAN_COUNTS,
    "quick_counts": (FAN_COUNTS[0], FAN_COUNTS[-1]),
}
ROWS = (
    growing("stack__udp__flows", "udp_flows", "flows", partial(_udp_flows, AF_INET)),
    growing("stack__udp6__flows", "udp_flows", "flows", partial(_udp_flows, AF_INET6)),
    growing("stack__peer__udp_flows", "udp_flows", "flows", _kernel_udp_flows, peer=LOOPBACK),
    growing("stack__udp__fan", "udp_fan", "flows", partial(_udp_fan, AF_INET), **FAN_OUT),
    growing("stack__udp6__fan", "udp_fan", "flows", partial(_udp_fan, AF_INET6), **FAN_OUT),
    growing("stack__peer__udp_fan", "udp_fan", "flows", _kernel_udp_fan, peer=LOOPBACK, **FAN_OUT),
    growing("stack__tcp__flows", "tcp_flows", "flows", partial(_tcp_flows, AF_INET)),
    growing("stack__tcp6__flows", "tcp_flows", "flows", partial(_tcp_flows, AF_INET6), quick=False),
    growing("stack__peer__tcp_flows", "tcp_flows", "flows", _kernel_tcp_flows, peer=LOOPBACK),
    growing("stack__tcp__idle", "tcp_idle", "conns", partial(_idle, AF_INET)),
    growing("stack__tcp6__idle", "tcp_idle", "conns", partial(_idle, AF_INET6), quick=False),
    growing("stack__peer__tcp_idle", "tcp_idle", "conns", _kernel_idle, peer=LOOPBACK),
)
