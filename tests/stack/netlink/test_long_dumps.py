"""Dumps of 10,000 routes, neighbours, sockets and connections cost as many steps as there are rows.

Steps are counted, not time: each call of a function while the dump is read, of Python and of C.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import neigh_create, neigh_update
from stack.core.uapi import MSG_TRUNC, NUD_PERMANENT
from stack.host import Host
from stack.netlink.ctnetlink import create
from stack.netlink.nlattr import Attrs
from tests.stack.netlink.requests import DUMP, HDR, NLMSG_DONE, REQUEST, Request

AF_NETLINK, RAW, DONTWAIT = 16, 3, 0x40
FEW, MANY = 1000, 10_000
MAC = bytes.fromhex("020000000009")


def add_routes(host: Host, first: int, last: int) -> None:
    for number in range(first, last):
        host.route_add(f"10.{64 + number // 256}.{number % 256}.0/24", dev="d0")


def add_routes6(host: Host, first: int, last: int) -> None:
    for number in range(first, last):
        host.route_add(f"fd00:{number:x}::/48", dev="d0")


def add_neighbours(host: Host, first: int, last: int) -> None:
    dev = host.dev("d0")
    for number in range(first, last):
        n = neigh_create(host.arp_tbl, 0x0A800000 + number, dev)
        assert n is not None
        flags = NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE
        assert neigh_update(n, MAC, NUD_PERMANENT, flags) == 0


def add_sockets(host: Host, first: int, last: int) -> None:
    for number in range(first, last):
        host.socket(2, 2).bind(("10.0.0.1", 1024 + number))


def add_connections(host: Host, first: int, last: int) -> None:
    tb = Attrs()
    tb["CTA_TIMEOUT"] = 1000
    for number in range(first, last):
        a, b = 0x0A000000 + number, 0x0A000001
        create(host, tb, (2, 17, a, 5, b, 6), (2, 17, b, 6, a, 5))


SOCK_DIAG = struct.pack("=BBBBI", 2, 17, 0, 0, 0xFFFFFFFF) + bytes(48)
ROWS: dict[str, tuple[Callable[[Host, int, int], None], int, int, bytes]] = {
    "routes": (add_routes, 0, 26, bytes([2]) + bytes(11)),
    "routes of IPv6": (add_routes6, 0, 26, bytes([10]) + bytes(11)),
    "neighbours": (add_neighbours, 0, 30, bytes([2]) + bytes(11)),
    "sockets": (add_sockets, 4, 20, SOCK_DIAG),
    "connections": (add_connections, 12, 0x101, bytes(4)),
}


def read(sock: Any, kind: int, body: bytes) -> tuple[int, int, int]:
    """Messages of a dump, calls that it took, and the most bytes that waited."""
    steps = messages = most = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal steps
        steps += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        sock.sendto(Request("", kind, REQUEST | DUMP, body).message(1), (0, 0))
        while True:
            data, at = sock.recv(1 << 16), 0
            most = max(most, len(data))
            while at < len(data):
                size, found, *_ = HDR.unpack_from(data, at)
                if found == NLMSG_DONE:
                    return messages, steps, most
                messages += 1
                at += size + 3 & ~3
    finally:
        sys.setprofile(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_steps_of_a_dump_grow_as_its_rows(name: str) -> None:
    add, protocol, kind, body = ROWS[name]
    with Host("h", clock=VirtualClock(), sysctl={"nf_conntrack_max": 2 * MANY}) as host:
        host.arp_tbl.gc_thresh3 = host.arp_tbl.gc_thresh2 = 2 * MANY
        host.add_dummy("d0", up=True)
        host.ifconfig("d0", "10.0.0.1/8")
        sock = host.socket(AF_NETLINK, RAW, protocol)
        add(host, 0, FEW)
        few, few_steps, _ = read(sock, kind, body)
        add(host, FEW, MANY)
        many, many_steps, most = read(sock, kind, body)
        assert many - few == MANY - FEW
        assert many_steps / many < 1.2 * few_steps / few
        assert most <= 32768


def test_a_reader_with_4096_bytes_has_all_of_a_dump() -> None:
    """getifaddrs(3) begins with such a buffer, and gives up when a packet is longer."""
    with Host("h", clock=VirtualClock()) as host:
        for number in range(40):
            host.add_dummy(f"d{number}")
        sock = host.socket(AF_NETLINK, RAW, 0)
        sock.sendto(Request("", 18, REQUEST | DUMP, bytes(16)).message(1), (0, 0))
        links, ended = 0, False
        while not ended:
            data, _, flags, _ = sock.recvmsg(4096)
            assert not flags & MSG_TRUNC
            at = 0
            while at < len(data):
                size, found, *_ = HDR.unpack_from(data, at)
                ended = found == NLMSG_DONE
                links += not ended
                at += size + 3 & ~3
        assert links == 41  # with lo


def test_a_socket_that_does_not_read_holds_what_its_buffer_has() -> None:
    """Floods of dumps, requests and messages of groups end in errors, not in memory."""
    with Host("h", clock=VirtualClock()) as host:
        host.add_dummy("d0", up=True)
        host.ifconfig("d0", "10.0.0.1/8")
        add_routes(host, 0, FEW)
        sock = host.socket(AF_NETLINK, RAW, 0)
        sock.bind((0, 0x7FFFFFFF))
        sock.setsockopt(1, 8, 8192)  # SOL_SOCKET, SO_RCVBUF
        for number in range(2000):
            with contextlib.suppress(OSError):
                sock.sendto(Request("", 26, REQUEST | DUMP, bytes(12)).message(number), (0, 0))
        add_routes(host, FEW, 2 * FEW)
        held, found = 0, 0
        while True:
            try:
                held += len(sock.recv(1 << 16, DONTWAIT))
                found += 1
            except BlockingIOError:
                break
            except OSError:
                continue
        assert 0 < found < 500
        assert held < 1 << 18
