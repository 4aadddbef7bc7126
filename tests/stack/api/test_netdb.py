"""Names on a host of ours: its hosts table, and a name server of scapy's layers on another host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e1000emu.lab import two_hosts
from stack import aio
from stack.api.netdb import NI_DGRAM, NI_NAMEREQD, NI_NOFQDN, NI_NUMERICHOST, NI_NUMERICSERV
from stack.clients.dnsname import name_from_text
from stack.clients.resolvconf import HostsTable, ResolvConf
from stack.host import Host
from stack.socket import (
    AF_INET,
    AF_INET6,
    SOCK_DGRAM,
    SOCK_STREAM,
    create_connection,
    create_server,
    getaddrinfo,
    gethostbyaddr,
    gethostbyname,
    gethostbyname_ex,
    getnameinfo,
)
from tests.stack.clients.dns_server import Server

ZONE = {
    "b.example.org.": [("A", "10.0.0.2")],
    "alias.example.org.": [("CNAME", "b.example.org.")],
    "dual.example.org.": [("A", "10.0.0.2"), ("AAAA", "2001:db8::2")],
    "dead.example.org.": [("A", "10.0.0.77"), ("A", "10.0.0.2")],
    "2.0.0.10.in-addr.arpa.": [("PTR", "b.example.org.")],
}
CONF = "nameserver 10.0.0.2\nsearch example.org\n"


@dataclass
class World:
    """Host a asks, host b serves names."""

    a: Host
    b: Host
    server: Server


def serve(host: Host, server: Server) -> None:
    """Answer over UDP and TCP, in tasks of the simulation."""

    def datagrams() -> None:
        with host.socket(AF_INET, SOCK_DGRAM) as sock:
            sock.bind(("", 53))
            while True:
                data, name = sock.recvfrom(4096)
                reply = server.answer(data)
                if reply is not None:
                    sock.sendto(reply, name)

    def streams() -> None:
        with create_server(host, ("", 53)) as listener:
            while True:
                conn, _ = listener.accept()
                with conn:
                    server.streams += 1
                    size = int.from_bytes(conn.recv(2), "big")
                    reply = server.answer(conn.recv(size), tcp=True) or b""
                    conn.sendall(len(reply).to_bytes(2, "big") + reply)

    clock: Any = host.clock
    clock.spawn(datagrams)
    clock.spawn(streams)


@pytest.fixture
def world() -> Iterator[World]:
    a, b = two_hosts()
    server = Server(dict(ZONE))
    serve(b, server)
    a.names.conf = ResolvConf.parse(CONF)
    with a, b:
        yield World(a, b, server)
        a.clock.close()


def test_name_is_looked_up_in_the_search_list(world: World) -> None:
    rows = getaddrinfo(world.a, "b", 80, 0, SOCK_STREAM)
    assert rows == [(AF_INET, SOCK_STREAM, 6, "", ("10.0.0.2", 80))]
    assert {m.qd[0].qname for m in world.server.seen} == {b"b.example.org."}


def test_both_families_and_the_slot_that_orders_them(world: World) -> None:
    world.a.names.sort = lambda net, addresses: sorted(addresses, key=lambda a: -a.family)
    rows = getaddrinfo(world.a, "dual", None, 0, SOCK_STREAM)
    assert [row[4] for row in rows] == [("2001:db8::2", 0, 0, 0), ("10.0.0.2", 0)]
    rows = getaddrinfo(world.a, "dual", None, AF_INET6, SOCK_STREAM)
    assert [row[0] for row in rows] == [AF_INET6]


def test_what_cannot_be_reached_comes_last(world: World) -> None:
    world.server.zone["far.example.org."] = [("A", "192.0.2.9"), ("A", "10.0.0.2")]
    rows = getaddrinfo(world.a, "far", None, 0, SOCK_STREAM)
    assert [row[4][0] for row in rows] == ["10.0.0.2", "192.0.2.9"]


def test_truncated_answer_comes_by_our_tcp(world: World) -> None:
    world.server.truncate = True
    assert gethostbyname(world.a, "b.example.org") == "10.0.0.2"
    assert world.server.streams == 1


def test_unknown_name(world: World) -> None:
    with pytest.raises(socket.gaierror) as caught:
        getaddrinfo(world.a, "nowhere.example.org", 80)
    assert caught.value.errno == socket.EAI_NONAME


def test_closed_port_and_dead_server_end(world: World) -> None:
    world.a.names.conf = ResolvConf.parse("nameserver 10.0.0.1\nnameserver 10.0.0.99\n")
    with pytest.raises(socket.gaierror) as caught:
        getaddrinfo(world.a, "b.example.org", 80)
    assert caught.value.errno == socket.EAI_AGAIN
    # the closed port of our own host answers at once, the dead one never
    assert world.a.clock.now_ns() < 30_000_000_000


def test_no_socket_is_left_behind(world: World) -> None:
    before = len(world.a.fdtable.fd)
    gethostbyname(world.a, "b")
    with pytest.raises(socket.gaierror):
        gethostbyname(world.a, "nowhere")
    assert len(world.a.fdtable.fd) == before


def test_ports_differ_from_lookup_to_lookup(world: World) -> None:
    ports = set()
    world.b.on_drop = None
    sock = world.b.socket(AF_INET, SOCK_DGRAM)
    sock.bind(("10.0.0.2", 5353))
    for _ in range(8):
        probe = world.a.socket(AF_INET, SOCK_DGRAM)
        probe.connect(("10.0.0.2", 5353))
        ports.add(probe.getsockname()[1])
        probe.close()
    assert len(ports) >= 7


def test_connect_by_name_tries_each_address(world: World) -> None:
    with create_server(world.b, ("10.0.0.2", 80)) as listener:
        with create_connection(world.a, ("dead", 80)) as client:
            conn, _ = listener.accept()
            assert client.getpeername() == ("10.0.0.2", 80)
            conn.close()
        with world.a.socket() as sock:
            sock.connect(("alias.example.org", 80))
            assert sock.getpeername() == ("10.0.0.2", 80)


def test_sendto_by_name(world: World) -> None:
    with world.b.socket(AF_INET, SOCK_DGRAM) as to, world.a.socket(AF_INET, SOCK_DGRAM) as sock:
        to.bind(("", 9999))
        sock.sendto(b"hello", ("b", 9999))
        assert to.recvfrom(100)[0] == b"hello"


def test_bad_texts_are_gaierrors(world: World) -> None:
    for text in ("not a name", "a..b", "x" * 70):
        with pytest.raises(socket.gaierror), world.a.socket() as sock:
            sock.connect((text, 80))


def test_hosts_table_needs_no_server(world: World) -> None:
    world.a.names.hosts = HostsTable.parse("10.0.0.2 bee bumble\n")
    assert gethostbyname(world.a, "bumble") == "10.0.0.2"
    assert gethostbyname_ex(world.a, "bumble") == ("bee", ["bumble"], ["10.0.0.2"])
    assert gethostbyaddr(world.a, "10.0.0.2") == ("bee", ["bumble"], ["10.0.0.2"])
    assert getnameinfo(world.a, ("10.0.0.2", 80), 0) == ("bee", "http")
    assert world.server.seen == []


def test_gethostbyname_and_its_relatives(world: World) -> None:
    assert gethostbyname(world.a, "10.1") == "10.0.0.1"
    assert gethostbyname(world.a, "") == "0.0.0.0"
    name, aliases, addresses = gethostbyname_ex(world.a, "alias.example.org")
    assert (name, aliases, addresses) == ("b.example.org", ["alias.example.org"], ["10.0.0.2"])
    assert gethostbyaddr(world.a, "10.0.0.2") == ("b.example.org", [], ["10.0.0.2"])
    with pytest.raises(socket.herror):
        gethostbyaddr(world.a, "10.0.0.3")


@pytest.mark.parametrize(
    ("address", "flags", "wanted"),
    [
        (("10.0.0.2", 80), 0, ("b.example.org", "http")),
        (("10.0.0.2", 80), NI_NOFQDN, ("b", "http")),
        (("10.0.0.2", 80), NI_NUMERICHOST | NI_NUMERICSERV, ("10.0.0.2", "80")),
        (("10.0.0.3", 514), NI_DGRAM, ("10.0.0.3", "syslog")),
        (("10.0.0.3", 514), 0, ("10.0.0.3", "514")),
        (("::1", 22), NI_NUMERICHOST, ("::1", "ssh")),
        (("fe80::1", 22, 0, 1), NI_NUMERICHOST, ("fe80::1%lo", "ssh")),
    ],
)
def test_getnameinfo(world: World, address: Any, flags: int, wanted: tuple[str, str]) -> None:
    assert getnameinfo(world.a, address, flags) == wanted


def test_getnameinfo_that_must_find_a_name(world: World) -> None:
    with pytest.raises(socket.gaierror) as caught:
        getnameinfo(world.a, ("10.0.0.3", 80), NI_NAMEREQD)
    assert caught.value.errno == socket.EAI_NONAME
    with pytest.raises(socket.gaierror):
        getnameinfo(world.a, ("name", 80), 0)


def test_in_a_loop(world: World) -> None:
    async def main() -> Any:
        rows = await aio.getaddrinfo(world.a, "b", 80, type=SOCK_STREAM)
        assert await aio.getaddrinfo(world.a, "127.0.0.1", 80, type=SOCK_DGRAM)
        assert await aio.getnameinfo(world.a, ("10.0.0.2", 80)) == ("b.example.org", "http")
        with pytest.raises(socket.gaierror):
            await aio.getaddrinfo(world.a, "nowhere", 80)
        listener = await aio.start_server(world.b, lambda r, w: w.close(), "10.0.0.2", 80)
        _, writer = await aio.open_connection(world.a, "alias.example.org", 80)
        peer = writer.get_extra_info("peername")
        writer.close()
        listener.close()
        return rows, peer

    rows, peer = aio.run(main(), clock=world.a.clock)
    assert rows == [(AF_INET, SOCK_STREAM, 6, "", ("10.0.0.2", 80))]
    assert peer == ("10.0.0.2", 80)


def test_lookup_that_is_cancelled_leaves_no_socket(world: World) -> None:
    import asyncio

    world.server.silent = True
    before = len(world.a.fdtable.fd)

    async def main() -> None:
        task = asyncio.create_task(aio.getaddrinfo(world.a, "b", 80))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    aio.run(main(), clock=world.a.clock)
    assert len(world.a.fdtable.fd) == before


def test_search_list_of_a_namespace_is_its_own(world: World) -> None:
    assert world.b.names.conf.servers == ()
    assert world.a.names.conf.search == (name_from_text("example.org"),)
