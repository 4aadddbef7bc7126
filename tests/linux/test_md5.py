"""TCP's MD5 signatures (RFC 2385) with a Linux kernel at the other end: its client, its server."""

from __future__ import annotations

import errno
import itertools
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.linux.peer import IPV4, Family, Wire, pattern, receive_all
from tests.support import missing

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("need_linux", "need_md5")]

TCP_MD5SIG, TCP_MD5SIG_EXT = 14, 32
FLAG_PREFIX = 1
KEY = b"a secret of the two"
_ports = itertools.count(31000)


@pytest.fixture
def need_md5(wire: Wire) -> None:
    """A kernel that was built without signatures can judge none."""
    with wire.peer.socket() as sock:
        try:
            set_key(sock, "10.0.0.1", KEY)
        except OSError as exc:
            if exc.errno != errno.ENOPROTOOPT:
                raise
            missing("this kernel signs nothing", "use one with CONFIG_TCP_MD5SIG")


def set_key(sock: Any, addr: str, key: bytes, *, prefix: int | None = None) -> None:
    """Set the key for a host, or for a prefix; b"" takes it away."""
    if sock.family == socket.AF_INET:
        name = struct.pack("=H2x4s120x", socket.AF_INET, socket.inet_aton(addr))
    else:
        name = struct.pack("=H6x16s104x", socket.AF_INET6, socket.inet_pton(socket.AF_INET6, addr))
    flags = FLAG_PREFIX if prefix is not None else 0
    value = name + struct.pack("=BBHi80s", flags, prefix or 0, len(key), 0, key)
    option = TCP_MD5SIG if prefix is None else TCP_MD5SIG_EXT
    sock.setsockopt(socket.IPPROTO_TCP, option, value)


class Ends:
    """A listener and a client: one of the kernel, the other of ours."""

    def __init__(self, wire: Wire, family: Family, we_connect: bool) -> None:
        def made(ours: bool) -> Any:
            where = wire if ours else wire.peer
            return where.socket(family=family.af)

        self.client_addr = family.ours if we_connect else family.linux
        self.server_addr = family.linux if we_connect else family.ours
        self.server, self.client = made(not we_connect), made(we_connect)
        self.name = self.server_addr, next(_ports)
        self.server.bind(self.name)
        self.server.listen(8)

    def connect(self) -> Any:
        self.client.connect(self.name)
        return self.server.accept()[0]

    def close(self, *more: Any) -> None:
        for sock in (*more, self.client, self.server):
            sock.close()


both_ways = pytest.mark.parametrize("we_connect", [True, False], ids=["we connect", "linux does"])


@both_ways
def test_signed_data_arrives_both_ways(wire: Wire, family: Family, we_connect: bool) -> None:
    ends = Ends(wire, family, we_connect)
    set_key(ends.server, ends.client_addr, KEY)
    set_key(ends.client, ends.server_addr, KEY)
    conn = ends.connect()
    data = pattern(300_000)
    for source, sink in ((ends.client, conn), (conn, ends.client)):
        worker = wire.spawn(source.sendall, data)
        assert receive_all(sink, len(data)) == data
        worker.result()
    # with another key, while the connection is there
    set_key(ends.client, ends.server_addr, b"another")
    set_key(conn, ends.client_addr, b"another")
    worker = wire.spawn(lambda: (ends.client.sendall(data), ends.client.close()))
    assert receive_all(conn) == data
    worker.result()
    conn.close()
    ends.close()


@both_ways
@pytest.mark.parametrize(
    ("server_key", "client_key"), [(KEY, b"another"), (KEY, b""), (b"", KEY)],
    ids=["other key", "not signed", "not expected"],
)  # fmt: skip
def test_no_connection_with_a_wrong_signature(
    wire: Wire, family: Family, we_connect: bool, server_key: bytes, client_key: bytes
) -> None:
    ends = Ends(wire, family, we_connect)
    if server_key:
        set_key(ends.server, ends.client_addr, server_key)
    if client_key:
        set_key(ends.client, ends.server_addr, client_key)
    ends.client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        ends.client.connect(ends.name)
    ends.server.settimeout(0.05)
    with pytest.raises(TimeoutError):
        ends.server.accept()
    ends.close()


@both_ways
def test_keys_of_prefixes(wire: Wire, family: Family, we_connect: bool) -> None:
    """The longest prefix counts, and a key that is taken away leaves the shorter."""
    ends = Ends(wire, family, we_connect)
    whole = 32 if family is IPV4 else 128
    set_key(ends.server, ends.client_addr, KEY, prefix=family.prefix_len)
    set_key(ends.server, ends.client_addr, b"not this", prefix=0)
    set_key(ends.server, ends.client_addr, b"nor this", prefix=whole)
    set_key(ends.server, ends.client_addr, b"", prefix=whole)
    set_key(ends.client, ends.server_addr, KEY)
    conn = ends.connect()
    conn.sendall(b"hello")
    assert receive_all(ends.client, 5) == b"hello"
    ends.close(conn)


@both_ways
def test_a_reset_is_signed(wire: Wire, family: Family, we_connect: bool) -> None:
    """Of a connection, and in answer to a segment for which there is none any more."""
    ends = Ends(wire, family, we_connect)
    set_key(ends.server, ends.client_addr, KEY)
    set_key(ends.client, ends.server_addr, KEY)
    conn = ends.connect()
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()
    with pytest.raises(ConnectionResetError):
        ends.client.recv(1)
    ends.client.close()
    # The server's port is closed, but a SYN that it cannot answer finds its keys in no listener.
    again = wire.socket(family=family.af) if we_connect else wire.peer.socket(family=family.af)
    set_key(again, ends.server_addr, KEY)
    ends.server.close()
    again.settimeout(0.3)
    with pytest.raises(TimeoutError):
        again.connect(ends.name)
    again.close()


@both_ways
def test_a_peer_of_ipv4_at_a_socket_of_ipv6(wire: Wire, we_connect: bool) -> None:
    """The key's address is v4-mapped."""
    where, there = (wire, wire.peer) if we_connect else (wire.peer, wire)
    names = (IPV4.linux, IPV4.ours) if we_connect else (IPV4.ours, IPV4.linux)
    server, client = there.socket(family=socket.AF_INET6), where.socket(family=socket.AF_INET6)
    port = next(_ports)
    server.bind(("::", port))
    server.listen(1)
    set_key(server, f"::ffff:{names[1]}", KEY)
    set_key(client, f"::ffff:{names[0]}", KEY)
    client.connect((f"::ffff:{names[0]}", port))
    conn, peer = server.accept()
    assert peer[0] == f"::ffff:{names[1]}"
    client.sendall(b"hello")
    assert receive_all(conn, 5) == b"hello"
    for sock in (conn, client, server):
        sock.close()


def test_each_segment_is_signed(tmp_path: Path, family: Family) -> None:
    path = tmp_path / "md5.pcap"
    with Wire(ipv6=True, capture=path) as wire:
        for we_connect in (True, False):
            ends = Ends(wire, family, we_connect)
            set_key(ends.server, ends.client_addr, KEY)
            set_key(ends.client, ends.server_addr, KEY)
            conn = ends.connect()
            conn.sendall(b"hello")
            ends.client.shutdown(socket.SHUT_WR)
            assert receive_all(conn) == b""
            conn.close()
            assert receive_all(ends.client) == b"hello"
            ends.close()

    def frames(what: str) -> list[str]:
        command = ["tshark", "-r", str(path), "-Y", what]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert frames("tcp.option_kind == 19")
    assert frames("tcp and not tcp.option_kind == 19") == []
