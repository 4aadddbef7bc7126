"""The DHCPv4 client on a host of ours, in virtual time; a server of scapy's layers on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e1000emu.lab import two_hosts
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_state import State
from stack.core.uapi import SO_BINDTODEVICE
from stack.host import Host
from stack.services.run_dhcp4 import Dhcp4Runner
from stack.socket import AF_INET, SO_BROADCAST, SOCK_DGRAM, SOL_SOCKET
from tests.stack.clients.dhcp4_server import Server, kind
from tests.stack.clients.simulation import SECOND


@dataclass
class World:
    """Host a wants an address, b has the server, 10.0.0.1."""

    a: Host
    b: Host
    server: Server
    runner: Dhcp4Runner


def serve(host: Host, server: Server) -> None:
    """Answer by broadcast, as the flag asks, or to the client's address."""

    def main() -> None:
        with host.socket(AF_INET, SOCK_DGRAM) as sock:
            sock.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
            sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
            sock.bind(("", 67))
            while True:
                data, name = sock.recvfrom(2048)
                reply = server.answer(data)
                if reply is not None:
                    broadcast = name[0] == "0.0.0.0"
                    sock.sendto(reply, ("255.255.255.255" if broadcast else name[0], 68))

    clock: Any = host.clock
    clock.spawn(main)


@pytest.fixture
def world() -> Iterator[World]:
    a, b = two_hosts(addrs=("10.0.0.99/24", "10.0.0.1/24"))
    a.addr_del("eth0", "10.0.0.99/24")
    server = Server()
    serve(b, server)
    with a, b:
        config = Dhcp4Config(probes=1, hostname="a")
        yield World(a, b, server, Dhcp4Runner(a, a.dev("eth0"), config=config))
        a.clock.close()


def addresses(host: Host) -> list[str]:
    in_dev = host.dev("eth0").ip_ptr
    assert in_dev is not None
    return [
        ".".join(map(str, ifa.ifa_local.to_bytes(4, "big"))) + f"/{ifa.ifa_prefixlen}"
        for ifa in in_dev.ifa_list
    ]


def test_an_interface_without_an_address_gets_one(world: World) -> None:
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    assert addresses(world.a) == ["10.0.0.50/24"]
    assert [kind(m) for m in world.server.seen] == [1, 3]
    assert world.a.names.current.servers[0].addr == 0x0A000001
    assert world.a.names.current.search == ((b"example", b"org"),)
    with world.a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.connect(("192.0.2.1", 9))  # over the default route
        assert sock.getsockname()[0] == "10.0.0.50"


def test_a_client_whose_port_is_taken_leaves_nothing(world: World) -> None:
    before = len(world.a.machine._on_close)
    with world.a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.bind(("", 68))
        for _ in range(2):
            with pytest.raises(OSError, match="Address already in use"):
                world.runner.start()
        assert len(world.a.machine._on_close) == before
    world.runner.start()
    assert world.runner.wait(30 * SECOND)


@pytest.mark.slow
def test_renewal_over_a_day_and_release_in_the_end(world: World) -> None:
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    clock: Any = world.a.clock
    clock.run_until(clock.now_ns() + 24 * 3600 * SECOND)
    assert addresses(world.a) == ["10.0.0.50/24"]
    assert 40 <= len(world.server.seen) <= 60
    renewals = world.server.seen[2:]
    assert {m.ciaddr for m in renewals} == {"10.0.0.50"}
    world.runner.stop()
    assert addresses(world.a) == []
    clock.run_until(clock.now_ns() + SECOND)
    assert world.server.released == ["10.0.0.50"]
    assert world.a.names.current.servers == ()
    with (
        pytest.raises(OSError, match="Network is unreachable"),
        world.a.socket(AF_INET, SOCK_DGRAM) as sock,
    ):
        sock.connect(("192.0.2.1", 9))


def test_server_that_is_gone_costs_the_address_at_the_end_of_the_lease(world: World) -> None:
    changes: list[Any] = []
    world.runner._changed = changes.append
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    world.server.silent = True
    clock: Any = world.a.clock
    clock.run_until(clock.now_ns() + 3590 * SECOND)
    assert addresses(world.a) == ["10.0.0.50/24"]
    clock.run_until(clock.now_ns() + 20 * SECOND)
    assert addresses(world.a) == []
    assert changes[-1] is None
    world.server.silent = False
    assert world.runner.wait(100 * SECOND)
    assert addresses(world.a) == ["10.0.0.50/24"]


def test_address_of_another_host_is_declined(world: World) -> None:
    world.b.ifconfig("eth0", "10.0.0.50/24")
    world.runner.start()
    assert world.runner.wait(60 * SECOND)
    assert world.server.declined == ["10.0.0.50"]
    assert addresses(world.a) == ["10.0.0.51/24"]


def test_nak_takes_the_address_and_its_routes_away(world: World) -> None:
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    world.server.pool = ["10.0.0.60"]
    world.server.bound.clear()
    clock: Any = world.a.clock
    clock.run_until(clock.now_ns() + 1900 * SECOND)
    assert addresses(world.a) == ["10.0.0.60/24"]


def test_classless_routes_of_gateways_anywhere(world: World) -> None:
    value = bytes.fromhex("180a4d00 0a000007  00 0a630001".replace(" ", ""))
    world.server.extra = [(121, value), ("interface-mtu", 1400)]
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    assert world.a.dev("eth0").mtu == 1400
    assert len(world.runner._routes) == 2
    world.runner.stop(release=False)
    assert world.a.dev("eth0").mtu == 1500
    assert world.runner._routes == []


def test_closing_the_host_closes_the_client(world: World) -> None:
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    world.a.close()
    assert world.runner._sockets == {}
    world.runner.stop()


def test_two_clients_of_one_interface_do_not_start_again(world: World) -> None:
    world.runner.start()
    world.runner.start()
    assert world.runner.wait(30 * SECOND)
    assert world.runner.core.state is State.BOUND
