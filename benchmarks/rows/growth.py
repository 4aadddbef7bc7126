"""Does the cost of one more packet grow with what there is? Flows and connections.

A row is the same work beside 1 ... 10,000 of something, each used in turn, so that a cache keeps no
more of it than it would of a real mixture. Its sizes are measured in turn, and `e1000emu bench`
names a row whose cost at the last size is more than `growth` times that at the first. Peers are the
kernel's sockets through the standard library over the same number. Routes and neighbours are in
`tables.py`.
"""

from __future__ import annotations

import gc
import itertools
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket

from . import Row, Work, number, row
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
BOUND = 1.5
"""A cost at the last size of more than this many times that at the first is growth."""
MANY = 1000
"""From here on the memory of one is told: with fewer it is lost among the rest."""


def sizes(unit: str, counts: tuple[int, ...]) -> tuple[str, ...]:
    """Return 1flows, 10flows ..."""
    return tuple(f"{count}{unit}" for count in counts)


def room_for(count: int) -> int:
    """Return a host's RAM: a socket that was used keeps a page of what udp_mem allows of it."""
    return (128 << 20) if count <= MANY else (1 << 30)


def many(
    count: int, make: Callable[[], tuple[Socket, Socket]], stack: ExitStack
) -> tuple[list[tuple[Socket, Socket]], dict[str, float]]:
    """Make so many connections; return them and, of many, the memory of an end.

    That is what Python's allocators gave for the first MANY, a socket and all that belongs to it.
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


def _udp_flows(family: int) -> Callable[[str], Iterator[Work]]:
    """One datagram of each flow in turn; a flow has a socket at either end."""

    def start(size: str) -> Iterator[Work]:
        count = int(number(size))
        with hosts(family, ram_bytes=room_for(count)) as (a, b), ExitStack() as stack:
            flows = []
            for port in range(10_000, 10_000 + count):
                receiver = stack.enter_context(Socket(b, family, SOCK_DGRAM))
                sender = stack.enter_context(Socket(a, family, SOCK_DGRAM))
                receiver.bind((OURS[family], port))
                sender.connect((OURS[family], port))
                flows.append((sender, receiver))
            turns = itertools.cycle(flows)

            def run() -> None:
                for sender, receiver in itertools.islice(turns, OPERATIONS):
                    sender.send(PAYLOAD)
                    receiver.recv(2048)

            yield Work(run, OPERATIONS)

    return start


def _udp_fan(family: int) -> Callable[[str], Iterator[Work]]:
    """sendmmsg() of 64 datagrams, each to another flow; each received by its own socket."""

    def start(size: str) -> Iterator[Work]:
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

            def run() -> None:
                for _ in range(OPERATIONS // FAN):
                    batch = list(itertools.islice(turns, FAN))
                    if sender.sendmmsg([message for message, _ in batch]) != FAN:
                        raise RuntimeError("udp: a datagram was not sent")
                    for _, receiver in batch:
                        receiver.recv(2048)

            yield Work(run, OPERATIONS)

    return start


def _kernel_udp_flows(size: str) -> Iterator[Work]:
    """One datagram of each flow in turn through the standard library."""
    count = int(number(size))
    open_files(2 * count + 100)
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
        turns = itertools.cycle(flows)

        def run() -> None:
            for sender, receiver in itertools.islice(turns, OPERATIONS):
                sender.send(PAYLOAD)
                receiver.recv(2048)

        yield Work(run, OPERATIONS)


def _tcp_flows(family: int) -> Callable[[str], Iterator[Work]]:
    """A round trip over each connection in turn."""

    def start(size: str) -> Iterator[Work]:
        count = int(number(size))
        with (
            hosts(family, ram_bytes=room_for(count)) as (a, b),
            listening(b, family) as listener,
            ExitStack() as stack,
        ):
            flows, facts = many(count, lambda: connected(a, listener, family), stack)
            yield Work(_round_trips(flows), OPERATIONS, facts=lambda: facts)

    return start


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


def _idle(family: int) -> Callable[[str], Iterator[Work]]:
    """Round trips over one connection, beside so many that are open and do nothing."""

    def start(size: str) -> Iterator[Work]:
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

    return start


def _kernel_connections(
    ends: Ends, count: int, stack: ExitStack
) -> list[tuple[socket.socket, socket.socket]]:
    open_files(2 * count + 100)
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
        flows = _kernel_connections(ends, int(number(size)), stack)
        yield Work(_round_trips(flows), OPERATIONS)


def _kernel_idle(size: str) -> Iterator[Work]:
    """Round trips over one connection beside idle ones through the standard library."""
    with loopback() as ends, ExitStack() as stack:
        flows = _kernel_connections(ends, 1 + int(number(size)), stack)
        yield Work(_round_trips(flows[:1]), OPERATIONS)


def growing(
    name: str,
    group: str,
    unit: str,
    start: Callable[[str], Iterator[Work]],
    *,
    peer: str | None = None,
    quick: bool = True,
) -> Row:
    """Make a row over 1 ... 10,000 of `unit`; of a peer growth is shown and not judged."""
    made = row(
        name,
        group=group,
        unit="k/s",
        sizes=sizes(unit, COUNTS),
        quick=sizes(unit, QUICK_COUNTS) if quick else (),
        peer=peer,
        growth=BOUND if peer is None else 0.0,
    )
    return made(start)


udp_flows = growing("stack__udp__flows", "udp_flows", "flows", _udp_flows(AF_INET))
udp_flows6 = growing("stack__udp6__flows", "udp_flows", "flows", _udp_flows(AF_INET6))
udp_fan = growing("stack__udp__fan", "udp_flows", "flows", _udp_fan(AF_INET))
kernel_udp_flows = growing(
    "stack__peer__udp_flows", "udp_flows", "flows", _kernel_udp_flows, peer=LOOPBACK
)
tcp_flows = growing("stack__tcp__flows", "tcp_flows", "flows", _tcp_flows(AF_INET))
tcp_flows6 = growing("stack__tcp6__flows", "tcp_flows", "flows", _tcp_flows(AF_INET6), quick=False)
kernel_tcp_flows = growing(
    "stack__peer__tcp_flows", "tcp_flows", "flows", _kernel_tcp_flows, peer=LOOPBACK
)
idle = growing("stack__tcp__idle", "tcp_idle", "conns", _idle(AF_INET))
idle6 = growing("stack__tcp6__idle", "tcp_idle", "conns", _idle(AF_INET6), quick=False)
kernel_idle = growing("stack__peer__tcp_idle", "tcp_idle", "conns", _kernel_idle, peer=LOOPBACK)
ROWS = (
    udp_flows,
    udp_flows6,
    udp_fan,
    kernel_udp_flows,
    tcp_flows,
    tcp_flows6,
    kernel_tcp_flows,
    idle,
    idle6,
    kernel_idle,
)
