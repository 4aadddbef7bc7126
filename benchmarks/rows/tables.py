"""Does a packet cost more with many routes or many neighbours? 1 ... 10,000, by real packets.

Each datagram goes over another route or to another neighbour than the one before; all lead to the
second host, which takes whole networks for its own (a local route, "AnyIP"). As root the peer is
the kernel with the same tables, over a veth pair and through the standard library.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator

from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NUD_PERMANENT
from stack.core.neighbour import neigh_create, neigh_update
from stack.host import Host
from stack.ipv4.fib import RTN_LOCAL, parse_addr
from stack.ipv6.addr import parse_addr6
from stack.ipv6.ip6_fib import RTN_LOCAL as RTN6_LOCAL
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket

from . import Work, number
from .ends import OURS, Namespace, hosts, veth_offloads
from .growth import OPERATIONS, PAYLOAD, growing

PORT = 9001
VETH = "Linux veth"


def route(family: int, index: int) -> tuple[str, str]:
    """Return the index-th prefix and an address in it."""
    if family == AF_INET6:
        return f"2001:db9:{index:x}::/48", f"2001:db9:{index:x}::7"
    high, low = divmod(index, 256)
    return f"11.{high}.{low}.0/24", f"11.{high}.{low}.7"


EVERYWHERE = {AF_INET: "11.0.0.0/8", AF_INET6: "2001:db9::/32"}
NEAR = {AF_INET: "10.7.0.0/16", AF_INET6: "2001:db8:7::/64"}


def near(family: int, index: int) -> str:
    """Return the index-th address on the link."""
    if family == AF_INET6:
        return f"2001:db8:7::{index + 1:x}"
    high, low = divmod(index + 1, 256)
    return f"10.7.{high}.{low}"


def _to_each(a: Host, b: Host, family: int, addresses: list[str]) -> Work:
    """Send a datagram to each address in turn; the other host takes them all (AnyIP)."""
    port = 9001
    sender, receiver = Socket(a, family, SOCK_DGRAM), Socket(b, family, SOCK_DGRAM)
    receiver.bind(("::" if family == AF_INET6 else "0.0.0.0", port))
    turns = itertools.cycle([(address, port) for address in addresses])

    def run() -> None:
        for dest in itertools.islice(turns, OPERATIONS):
            sender.sendto(PAYLOAD, dest)
            receiver.recv(2048)

    run()
    return Work(run, OPERATIONS)


def _routes(family: int) -> Callable[[str], Iterator[Work]]:
    """A datagram over each of so many routes in turn: a lookup each, through real packets."""

    def start(size: str) -> Iterator[Work]:
        count = int(number(size))
        local = RTN6_LOCAL if family == AF_INET6 else RTN_LOCAL
        with hosts(family) as (a, b):
            b.route_add(EVERYWHERE[family], dev="lo", rtype=local)
            for index in range(count):
                a.route_add(route(family, index)[0], via=OURS[family])
            yield _to_each(a, b, family, [route(family, i)[1] for i in range(count)])

    return start


def _neighbours(family: int) -> Callable[[str], Iterator[Work]]:
    """A datagram to each of so many neighbours in turn, whose addresses are known for good."""

    def start(size: str) -> Iterator[Work]:
        count = int(number(size))
        local = RTN6_LOCAL if family == AF_INET6 else RTN_LOCAL
        with hosts(family) as (a, b):
            dev, mac = a.dev("eth0"), b.dev("eth0").dev_addr
            parse = parse_addr6 if family == AF_INET6 else parse_addr
            table = dev.net.ipv6.nd_tbl if family == AF_INET6 else dev.net.arp_tbl
            b.route_add(NEAR[family], dev="lo", rtype=local)
            a.route_add(NEAR[family], dev="eth0")
            table.gc_thresh3 = 2 * count + 1024
            for index in range(count):
                entry = neigh_create(table, parse(near(family, index)), dev)
                if entry is None:
                    raise RuntimeError("neighbours: the table is full")
                neigh_update(entry, mac, NUD_PERMANENT, NEIGH_UPDATE_F_ADMIN)
            yield _to_each(a, b, family, [near(family, i) for i in range(count)])

    return start


def _kernel(
    near_or_far: Callable[[int, str], list[str]], address: Callable[[int], str], everywhere: str
) -> Callable[[str], Iterator[Work]]:
    """The same by the kernel: `near_or_far(index, mac)` are the words of `ip` for an entry."""

    def start(size: str) -> Iterator[Work]:
        count = int(number(size))
        with veth_offloads() as ends:
            assert isinstance(ends.a, Namespace)
            assert isinstance(ends.b, Namespace)
            ends.b.ip(["route", "add", "local", everywhere, "dev", "lo"])
            if everywhere == NEAR[AF_INET]:
                ends.a.ip(["route", "add", everywhere, "dev", "veth0"])
            mac = ends.b.address("veth0")
            ends.a.ip(*(near_or_far(index, mac) for index in range(count)))
            with ends.b:
                receiver = socket.socket(AF_INET, SOCK_DGRAM)
            with ends.a:
                sender = socket.socket(AF_INET, SOCK_DGRAM)
            with receiver, sender:
                receiver.bind(("0.0.0.0", PORT))
                turns = itertools.cycle([(address(index), PORT) for index in range(count)])

                def run() -> None:
                    for dest in itertools.islice(turns, OPERATIONS):
                        sender.sendto(PAYLOAD, dest)
                        receiver.recv(2048)

                yield Work(run, OPERATIONS)

    return start


def _kernel_route(index: int, mac: str) -> list[str]:
    return ["route", "add", route(AF_INET, index)[0], "via", OURS[AF_INET]]


def _kernel_neighbour(index: int, mac: str) -> list[str]:
    words = ["neigh", "add", near(AF_INET, index), "lladdr", mac]
    return [*words, "dev", "veth0", "nud", "permanent"]


routes = growing("stack__udp__routes", "udp_routes", "routes", _routes(AF_INET))
routes6 = growing("stack__udp6__routes", "udp_routes", "routes", _routes(AF_INET6))
kernel_routes = growing(
    "stack__peer__udp_routes",
    "udp_routes",
    "routes",
    _kernel(_kernel_route, lambda index: route(AF_INET, index)[1], EVERYWHERE[AF_INET]),
    peer=VETH,
)
neighbours = growing("stack__udp__neighs", "udp_neighs", "neighs", _neighbours(AF_INET))
neighbours6 = growing("stack__udp6__neighs", "udp_neighs", "neighs", _neighbours(AF_INET6))
kernel_neighbours = growing(
    "stack__peer__udp_neighs",
    "udp_neighs",
    "neighs",
    _kernel(_kernel_neighbour, lambda index: near(AF_INET, index), NEAR[AF_INET]),
    peer=VETH,
)
ROWS = (routes, routes6, kernel_routes, neighbours, neighbours6, kernel_neighbours)
