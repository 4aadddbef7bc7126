"""stack.socket and stack.aio with both families: tuples, servers, scopes, streams over ::1."""

from __future__ import annotations

import pytest

from stack import aio
from stack.inet.tcp_sock import TCP_MAXSEG
from stack.socket import (
    AF_INET,
    AF_INET6,
    IPPROTO_TCP,
    SOCK_DGRAM,
    Socket,
    create_connection,
    create_server,
    has_dualstack_ipv6,
)
from tests.stack.ipv6.net import ME, PEER_LL, Net6, one_host6


@pytest.fixture
def net() -> Net6:
    return one_host6()


def test_one_server_for_both_families(net: Net6) -> None:
    host = net.host
    assert has_dualstack_ipv6(host)
    server = create_server(host, ("", 8000), family=AF_INET6, dualstack_ipv6=True)
    for target in ("127.0.0.1", "::1", ME):
        client = create_connection(host, (target, 8000))
        conn, who = server.accept()
        assert who[0] in (target, f"::ffff:{target}")
        client.sendall(b"x")
        assert conn.recv(9) == b"x"
        client.close()
        conn.close()


def test_a_mapped_peer_gets_segments_of_ipv4s_size(net: Net6) -> None:
    net.host.ifconfig("lo", mtu=1500)
    server = create_server(net.host, ("", 8000), family=AF_INET6, dualstack_ipv6=True)
    sizes = []
    for target in ("127.0.0.1", "::1"):
        client = create_connection(net.host, (target, 8000))
        conn, _ = server.accept()
        ends = [sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) for sock in (client, conn)]
        assert ends[0] == ends[1]
        sizes.append(ends[0])
        client.close()
        conn.close()
    assert sizes[0] == sizes[1] + 20


def test_a_server_of_ipv6_leaves_ipv4_alone(net: Net6) -> None:
    create_server(net.host, ("", 8000), family=AF_INET6)
    create_server(net.host, ("", 8000))
    with pytest.raises(ValueError, match="requires AF_INET6"):
        create_server(net.host, ("", 8001), dualstack_ipv6=True)


def test_addresses_of_the_wrong_shape(net: Net6) -> None:
    six = Socket(net.host, AF_INET6, SOCK_DGRAM)
    four = Socket(net.host, AF_INET, SOCK_DGRAM)
    for sock, address, error in (
        (six, ("::1",), TypeError),
        (six, ("::1", 1, 2, 3, 4), TypeError),
        (six, ("::1", 70000), OverflowError),
        (six, ("::1", 1, 1 << 20), OverflowError),
        (six, ("fe80::1%nowhere", 1), OSError),
        (four, ("127.0.0.1", 1, 0, 0), TypeError),
    ):
        with pytest.raises(error):
            sock.bind(address)


def test_a_scope_by_name_or_number(net: Net6) -> None:
    dev = net.wire.dev
    for address in (
        (f"{PEER_LL}%{dev.name}", 9),
        (f"{PEER_LL}%{dev.ifindex}", 9),
        (PEER_LL, 9, 0, dev.ifindex),
    ):
        sock = Socket(net.host, AF_INET6, SOCK_DGRAM)
        sock.connect(address)
        assert sock.getpeername() == (PEER_LL, 9, 0, dev.ifindex)


def test_asyncio_serves_both_families(net: Net6) -> None:
    host = net.host

    async def answer(reader, writer) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def main() -> list[bytes]:
        server = await aio.start_server(host, answer, None, 8000)
        got = []
        for target in ("127.0.0.1", "::1"):
            reader, writer = await aio.open_connection(host, target, 8000)
            writer.write(target.encode() + b"\n")
            got.append(await reader.readline())
            writer.close()
        server.close()
        return got

    assert aio.run(main(), clock=host.clock) == [b"127.0.0.1\n", b"::1\n"]
