"""The DHCPv6 client on a host of ours, in virtual time; a server of scapy's layers on another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e1000emu.lab import two_hosts
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.ipv6.mcast import ipv6_dev_mc_inc
from stack.services.run_dhcp6 import Dhcp6Runner
from stack.socket import AF_INET6, SOCK_DGRAM, Socket
from tests.stack.clients.dhcp6_server import Server, kind
from tests.stack.clients.simulation import SECOND

GROUP = parse_addr6("ff02::1:2")


@dataclass
class World:
    """Host a wants an address, b has the server."""

    a: Host
    b: Host
    server: Server

    @property
    def addresses(self) -> list[str]:
        """Of a's interface, without link-local ones."""
        idev = self.a.dev("eth0").ip6_ptr
        assert idev is not None
        return [f"{ifp.addr:x}"[-4:] for ifp in idev.addr_list if ifp.addr >> 118 != 0x3FA]

    def run(self, seconds: float) -> None:
        clock: Any = self.a.clock
        clock.run_until(clock.now_ns() + int(seconds * SECOND))


def serve(host: Host, server: Server) -> None:
    def main() -> None:
        with host.lock:
            ipv6_dev_mc_inc(host.dev("eth0"), GROUP)
        with Socket(host, AF_INET6, SOCK_DGRAM) as sock:
            sock.bind(("::", 547))
            while True:
                data, name = sock.recvfrom(2048)
                assert name[0].startswith("fe80::")
                assert name[1] == 546
                reply = server.answer(data)
                if reply is not None:
                    sock.sendto(reply, name)

    clock: Any = host.clock
    clock.spawn(main)


@pytest.fixture
def world() -> Iterator[World]:
    a, b = two_hosts()
    server = Server()
    serve(b, server)
    with a, b:
        yield World(a, b, server)
        a.clock.close()


def test_a_client_whose_port_is_taken_leaves_nothing(world: World) -> None:
    world.run(5)
    before = len(world.a.machine._on_close)
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"))
    with Socket(world.a, AF_INET6, SOCK_DGRAM) as sock:
        sock.bind(("::", 546))
        for _ in range(2):
            with pytest.raises(OSError, match="Address already in use"):
                runner.start()
            assert len(world.a.machine._on_close) == before
    runner.start()
    assert runner.wait(30 * SECOND)


def test_link_local_address_is_waited_for_then_an_address_leased(world: World) -> None:
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"))
    runner.start()
    assert runner.wait(30 * SECOND)
    assert world.addresses == ["0050"]
    assert [kind(m) for m in world.server.seen] == ["solicit", "request"]
    assert world.a.names.current.servers[0].addr == parse_addr6("2001:db8::1")
    world.run(3600)
    assert world.addresses == ["0050"]
    assert {kind(m) for m in world.server.seen[2:]} == {"renew"}
    runner.stop()
    assert world.addresses == []
    world.run(10)
    assert world.server.released == ["2001:db8::50"]
    assert world.a.names.current.servers == ()


def test_address_of_another_host_is_declined(world: World) -> None:
    world.b.ifconfig("eth0", "2001:db8::50/64")
    world.run(5)
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"))
    runner.start()
    world.run(30)
    assert world.server.declined == ["2001:db8::50"]
    assert world.addresses == ["0051"]


def test_server_that_is_gone_costs_the_address_in_the_end(world: World) -> None:
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"))
    runner.start()
    assert runner.wait(30 * SECOND)
    world.server.silent = True
    world.run(1190)
    assert world.addresses == ["0050"]
    world.run(20)
    assert world.addresses == []
    assert runner.lease is None


def test_information_only(world: World) -> None:
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"), stateless=True)
    runner.start()
    assert runner.wait(30 * SECOND)
    assert world.addresses == []
    assert world.a.names.current.search == ((b"example", b"org"),)


def test_rapid_commit(world: World) -> None:
    world.server.rapid = True
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"), rapid_commit=True)
    runner.start()
    assert runner.wait(30 * SECOND)
    assert len(world.server.seen) == 1


def test_closing_the_host_closes_the_client(world: World) -> None:
    runner = Dhcp6Runner(world.a, world.a.dev("eth0"))
    runner.start()
    assert runner.wait(30 * SECOND)
    world.a.close()
    assert runner._sock is None
    runner.stop()
