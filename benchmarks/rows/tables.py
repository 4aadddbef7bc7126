"""Whether the cost of a packet grows with the number of routes or neighbours, 1 ... 10,000.

Each datagram goes to the next of 10,000 destinations, whatever the number of routes or neighbours,
so that only the tables differ between sizes. All routes lead to the second host, which accepts the
whole network as its own (a local route, "AnyIP"). As root the peer is the
kernel with the same tables, over a veth pair and through the standard library.

So for dumps: a table or so many sockets are asked for over netlink, as `ip route` and `ss` do. The
figure counts what was told, so that a dump that takes quadratic time shows.
"""

from __future__ import annotations

import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN
from stack.core.neighbour import neigh_create, neigh_update
from stack.core.uapi import NUD_PERMANENT, RTN_LOCAL
from stack.host import Host
from stack.ipv4.fib import parse_addr
from stack.ipv6.addr import parse_addr6
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, Socket

from . import Work, number
from .ends import OURS, Namespace, hosts, open_files, veth_offloads
from .growth import OPERATIONS, PAYLOAD, growing

PORT = 9001
DESTINATIONS = 10_000
VETH = "Linux veth"


EVERYWHERE = {AF_INET: "11.0.0.0/8", AF_INET6: "2001:db9::/32"}
NEAR = {AF_INET: "10.7.0.0/16", AF_INET6: "2001:db8:7::/64"}


def far(family: int, index: int) -> tuple[str, str]:
    """Return the index-th destination's prefix and address."""
    if family == AF_INET6:
        return f"2001:db9:{index:x}::/48", f"2001:db9:{index:x}::7"
    high, low = divmod(index, 256)
    return f"11.{high}.{low}.0/24", f"11.{high}.{low}.7"


def near(family: int, index: int) -> str:
    """Return the index-th neighbour's address."""
    if family == AF_INET6:
        return f"2001:db8:7::{index + 1:x}"
    high, low = divmod(index + 1, 256)
    return f"10.7.{high}.{low}"


def routes_to(family: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield so many prefixes and gateways: one for all destinations, else one for each."""
    yield EVERYWHERE[family], OURS[family]
    for index in range(count - 1):
        yield far(family, index)[0], OURS[family]


def routes_over(family: int, count: int) -> Iterator[tuple[str, str]]:
    """Yield a route for each destination, over so many neighbours in turn."""
    for index in range(DESTINATIONS):
        yield far(family, index)[0], near(family, index % count)


def in_turn(family: int, sender: Any, receiver: Any) -> Callable[..., None]:
    """Return what sends a datagram to each destination in turn, OPERATIONS unless told."""
    turns = itertools.cycle([(far(family, index)[1], PORT) for index in range(DESTINATIONS)])

    def run(packets: int = OPERATIONS) -> None:
        for dest in itertools.islice(turns, packets):
            sender.sendto(PAYLOAD, dest)
            receiver.recv(2048)

    return run


def _to_each(a: Host, b: Host, family: int) -> Iterator[Work]:
    """Send a datagram to each destination in turn; the other host takes them all."""
    b.route_add(EVERYWHERE[family], dev="lo", rtype=RTN_LOCAL)
    with Socket(a, family, SOCK_DGRAM) as sender, Socket(b, family, SOCK_DGRAM) as receiver:
        receiver.bind(("::" if family == AF_INET6 else "0.0.0.0", PORT))

        run = in_turn(family, sender, receiver)
        run(DESTINATIONS)
        yield Work(run, OPERATIONS)


def _routes(family: int, size: str) -> Iterator[Work]:
    """A lookup among so many routes for each datagram, measured by sending datagrams."""
    with hosts(family) as (a, b):
        for prefix, gateway in routes_to(family, int(number(size))):
            a.route_add(prefix, via=gateway)
        yield from _to_each(a, b, family)


def add_neighbours(a: Host, b: Host, family: int, count: int) -> None:
    """Make permanent entries of `a` that all have the address of `b`."""
    dev, mac = a.dev("eth0"), b.dev("eth0").dev_addr
    parse = parse_addr6 if family == AF_INET6 else parse_addr
    table = dev.net.ipv6.nd_tbl if family == AF_INET6 else dev.net.arp_tbl
    table.gc_thresh3 = 2 * count + 1024
    a.route_add(NEAR[family], dev="eth0")
    for index in range(count):
        entry = neigh_create(table, parse(near(family, index)), dev)
        if entry is None:
            raise RuntimeError("neighbours: the table is full")
        neigh_update(entry, mac, NUD_PERMANENT, NEIGH_UPDATE_F_ADMIN)


def _neighbours(family: int, size: str) -> Iterator[Work]:
    """Datagrams to so many neighbours in turn, whose entries are permanent."""
    count = int(number(size))
    with hosts(family) as (a, b):
        add_neighbours(a, b, family, count)
        for prefix, gateway in routes_over(family, count):
            a.route_add(prefix, via=gateway)
        yield from _to_each(a, b, family)


def _kernel(tables: Callable[[int, str], list[list[str]]], size: str) -> Iterator[Work]:
    """The same by the kernel: `tables(count, mac)` are the commands of `ip` that fill them."""
    with veth_offloads() as ends:
        assert isinstance(ends.a, Namespace)
        assert isinstance(ends.b, Namespace)
        ends.b.ip(["route", "add", "local", EVERYWHERE[AF_INET], "dev", "lo"])
        ends.a.ip(*tables(int(number(size)), ends.b.address("veth0")))
        with ends.b:
            receiver = socket.socket(AF_INET, SOCK_DGRAM)
        with ends.a:
            sender = socket.socket(AF_INET, SOCK_DGRAM)
        with receiver, sender:
            receiver.bind(("0.0.0.0", PORT))
            yield Work(in_turn(AF_INET, sender, receiver), OPERATIONS)


def _kernel_routes(count: int, mac: str) -> list[list[str]]:
    return [["route", "add", to, "via", gateway] for to, gateway in routes_to(AF_INET, count)]


def _kernel_near(count: int, mac: str) -> list[list[str]]:
    known = ["dev", "veth0", "nud", "permanent"]
    return [
        ["route", "add", NEAR[AF_INET], "dev", "veth0"],
        *(["neigh", "add", near(AF_INET, i), "lladdr", mac, *known] for i in range(count)),
    ]


def _kernel_neighbours(count: int, mac: str) -> list[list[str]]:
    return [
        *_kernel_near(count, mac),
        *(["route", "add", to, "via", gateway] for to, gateway in routes_over(AF_INET, count)),
    ]


# --- dumps ---------------------------------------------------------------------------------------

NLMSGHDR = struct.Struct("=IHHII")
NLMSG_DONE, REQUEST_DUMP = 3, 0x301
DUMPS = {
    "routes": (socket.NETLINK_ROUTE, 26, struct.pack("=B11x", AF_INET)),
    "neighs": (socket.NETLINK_ROUTE, 30, struct.pack("=B11x", AF_INET)),
    "socks": (4, 20, struct.pack("=BBxxI48x", AF_INET, socket.IPPROTO_UDP, 0xFFFFFFFF)),
}
"""Protocol, message and its body: RTM_GETROUTE, RTM_GETNEIGH, SOCK_DIAG_BY_FAMILY of UDP."""
DUMPED = (100, 1000, 10_000)
"""With fewer the cost of a dump itself is most of it."""


def dumped(sock: Any, kind: int, body: bytes) -> int:
    """Ask for all objects, and return how many are told."""
    sock.sendto(NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, REQUEST_DUMP, 1, 0) + body, (0, 0))
    told = 0
    while True:
        data, at = sock.recv(1 << 17), 0
        while at < len(data):
            size, kind, *_ = NLMSGHDR.unpack_from(data, at)
            if kind == NLMSG_DONE:
                return told
            told, at = told + 1, at + (size + 3 & ~3)


def bound(sock: Any, index: int) -> None:
    """Bind one socket of many."""
    sock.bind((f"127.0.{index // 10_000}.1", 10_000 + index % 10_000))


def _dump(what: str, size: str) -> Iterator[Work]:
    """A host tells of so many routes, neighbours or sockets."""
    protocol, kind, body = DUMPS[what]
    count = int(number(size))
    with ExitStack() as stack:
        a, b = stack.enter_context(hosts(AF_INET))
        if what == "routes":
            for prefix, gateway in routes_to(AF_INET, count):
                a.route_add(prefix, via=gateway)
        elif what == "neighs":
            add_neighbours(a, b, AF_INET, count)
        else:
            for index in range(count):
                bound(stack.enter_context(Socket(a, AF_INET, SOCK_DGRAM)), index)
        asks = stack.enter_context(a.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
        yield Work(lambda: dumped(asks, kind, body), dumped(asks, kind, body))


def _kernel_dump(what: str, size: str) -> Iterator[Work]:
    """The same by the kernel."""
    protocol, kind, body = DUMPS[what]
    tables = {"routes": _kernel_routes, "neighs": _kernel_near}
    count = int(number(size))
    with ExitStack() as stack:
        ends = stack.enter_context(veth_offloads())
        assert isinstance(ends.a, Namespace)
        assert isinstance(ends.b, Namespace)
        if what in tables:
            ends.a.ip(*tables[what](count, ends.b.address("veth0")))
        else:
            open_files(count)
        with ends.a:
            asks = stack.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol))
            for index in range(0 if what in tables else count):
                bound(stack.enter_context(socket.socket(AF_INET, SOCK_DGRAM)), index)
        yield Work(lambda: dumped(asks, kind, body), dumped(asks, kind, body))


ROWS = (
    growing("stack__udp__routes", "udp_routes", "routes", partial(_routes, AF_INET)),
    growing("stack__udp6__routes", "udp_routes", "routes", partial(_routes, AF_INET6)),
    growing(
        "stack__peer__udp_routes",
        "udp_routes",
        "routes",
        partial(_kernel, _kernel_routes),
        peer=VETH,
    ),
    growing("stack__udp__neighs", "udp_neighs", "neighs", partial(_neighbours, AF_INET)),
    growing("stack__udp6__neighs", "udp_neighs", "neighs", partial(_neighbours, AF_INET6)),
    growing(
        "stack__peer__udp_neighs",
        "udp_neighs",
        "neighs",
        partial(_kernel, _kernel_neighbours),
        peer=VETH,
    ),
    *(
        growing(
            f"stack__{whose}__dump_{what}",
            f"dump_{what}",
            what,
            partial(dump, what),
            peer=peer,
            counts=DUMPED,
            quick_counts=(DUMPED[0], DUMPED[-1]),
        )
        for what in DUMPS
        for whose, peer, dump in (("netlink", None, _dump), ("peer", "Linux netlink", _kernel_dump))
    ),
)
