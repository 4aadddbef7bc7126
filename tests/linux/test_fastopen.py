"""TCP Fast Open (RFC 7413) with a Linux kernel at the other end: as its client and as its server.

Both ends have the same key, so the cookies that one makes can be compared with the other's.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from fastpath.net.inetkey import siphash
from stack.inet.tcp_fastopen import tcp_fastopen_keys_of
from tests.linux.peer import Family, Wire, receive_all
from tests.support import require

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("need_linux")]

MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN, TCP_INFO, TCP_FASTOPEN_CONNECT = 23, 11, 30
TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD = 32, 128
KEY = "00112233-44556677-8899aabb-ccddeeff"
_ports = itertools.count(30000)


@pytest.fixture(scope="module")
def tfo_wire() -> Iterator[Wire]:
    """A wire whose two ends do Fast Open as clients and servers, with one key."""
    require.taps()
    with Wire(ipv6=True, sysctl={"tcp_fastopen": 3, "tcp_fastopen_key": KEY}) as wire:
        wire.peer.write("/proc/sys/net/ipv4/tcp_fastopen", 3)
        wire.peer.write("/proc/sys/net/ipv4/tcp_fastopen_key", KEY)
        yield wire


def listener(wire: Wire, family: Family, ours: bool) -> tuple[Any, tuple[str, int]]:
    """A listener that takes Fast Open, ours or the kernel's, and its address."""
    port = next(_ports)
    if ours:
        sock = wire.socket(family=family.af)
    else:
        sock = wire.peer.socket(family=family.af)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 8)
    name = (family.ours if ours else family.linux, port)
    sock.bind(name)
    sock.listen(8)
    return sock, name


def options(sock: Any) -> int:
    """tcpi_options"""
    return int(sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 8)[5])


def client(wire: Wire, family: Family, ours: bool) -> Any:
    """A socket that connects. It blocks: one with a timeout has EINPROGRESS without a cookie."""
    sock = wire.socket(family=family.af) if ours else wire.peer.socket(family=family.af)
    sock.settimeout(None)
    return sock


@pytest.mark.parametrize("from_us", [True, False], ids=["we connect", "linux connects"])
@pytest.mark.parametrize("deferred", [False, True], ids=["MSG_FASTOPEN", "TCP_FASTOPEN_CONNECT"])
def test_the_second_syn_carries_data(
    tfo_wire: Wire, family: Family, from_us: bool, deferred: bool
) -> None:
    wire = tfo_wire
    server, name = listener(wire, family, not from_us)
    with_data = []
    for i in range(3):
        sock = client(wire, family, from_us)
        data = b"request %d" % i
        if deferred:
            sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            sock.connect(name)
            assert sock.send(data) == len(data)
        else:
            assert sock.sendto(data, MSG_FASTOPEN, name) == len(data)
        conn, _ = server.accept()
        assert conn.recv(100) == data
        conn.sendall(b"answer")
        assert sock.recv(100) == b"answer"
        child = options(conn)
        with_data.append(bool(options(sock) & TCPI_OPT_SYN_DATA))
        assert bool(child & TCPI_OPT_SYN_DATA) == with_data[-1]
        assert bool(child & TCPI_OPT_TFO_CHILD) == with_data[-1]
        sock.close()
        assert receive_all(conn) == b""
        conn.close()
    assert with_data[1:] == [True, True]
    server.close()


def test_linux_and_we_make_the_same_cookie(tfo_wire: Wire, family: Family) -> None:
    wire = tfo_wire
    server, name = listener(wire, family, False)
    sock = client(wire, family, True)
    sock.sendto(b"", MSG_FASTOPEN, name)
    conn, _ = server.accept()
    ends = b"".join(socket.inet_pton(family.af, addr) for addr in (family.ours, family.linux))
    (key,) = tcp_fastopen_keys_of(KEY)
    made = siphash(key, ends).to_bytes(8, "little")
    key_of = (family.af, sock.sk.inet_saddr, sock.sk.inet_daddr)
    assert wire.host.tcp_metrics[key_of].tcpm_fastopen.cookie.val == made
    for end in (sock, conn, server):
        end.close()


@pytest.mark.parametrize("from_us", [True, False], ids=["we connect", "linux connects"])
def test_more_than_a_segment_arrives_whole(tfo_wire: Wire, family: Family, from_us: bool) -> None:
    wire = tfo_wire
    server, name = listener(wire, family, not from_us)
    data = bytes(range(256)) * 400
    for _ in range(2):
        sock = client(wire, family, from_us)
        worker = wire.spawn(lambda s=sock: (s.sendto(data, MSG_FASTOPEN, name), s.close()))
        conn, _ = server.accept()
        assert receive_all(conn) == data
        assert worker.result()[0] == len(data)
        conn.close()
    server.close()
