"""TCP between our sockets and a Linux kernel's, on a clean link."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from stack.core import uapi
from tests.linux.peer import IPV4, IPV6, Family, Wire, judged, pattern, receive_all, stream
from tests.support import eventually, require

pytestmark = pytest.mark.netns

BIG = 200 * 1000 * 1000
_ports = iter(range(5000, 60000))


@pytest.mark.parametrize("from_us", [True, False], ids=["we connect", "linux connects"])
@pytest.mark.parametrize("size", [0, 1, 1440, 1441, 1460, 1461, 3_000_000])
def test_bytes_arrive_both_ways(wire: Wire, family: Family, from_us: bool, size: int) -> None:
    ours, theirs = wire.connected(family, from_us=from_us)
    up, down = pattern(size, 1), pattern(size, 2)
    worker = wire.spawn(stream, theirs, ours, down)
    stream(ours, theirs, up)
    worker.result()
    ours.close()
    theirs.close()


def http_server(wire: Wire, family: Family, port: int, body: bytes) -> Any:
    """Serve `body` once over HTTP from our stack."""
    listener = wire.listen(port, family)

    def serve() -> None:
        conn, _ = listener.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            request += conn.recv(4096)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        conn.sendall(head.encode())
        conn.sendall(body)
        conn.shutdown(socket.SHUT_WR)
        receive_all(conn)
        conn.close()
        listener.close()

    return wire.spawn(serve)


@pytest.mark.slow
def test_curl_fetches_200_mb_whole(wire: Wire, family: Family) -> None:
    curl = require.tool("curl")
    body = pattern(BIG)
    port = next(_ports)
    server = http_server(wire, family, port, body)
    url = f"http://{family.in_url(family.ours)}:{port}/"
    got = wire.peer.run(curl, "-gsS", "--noproxy", "*", url, timeout=280)
    assert len(got.stdout) == BIG
    assert hashlib.sha256(got.stdout).digest() == hashlib.sha256(body).digest()
    server.result()


@pytest.mark.slow
def test_200_mb_up_and_back_through_echo(wire: Wire, family: Family) -> None:
    ours, theirs = wire.connected(family, from_us=False)
    data = pattern(1 << 20, seed=3)
    rounds = BIG // len(data)

    def echo() -> int:
        buffer = memoryview(bytearray(1 << 18))
        total = 0
        while n := ours.recv_into(buffer):
            ours.sendall(buffer[:n])
            total += n
        ours.shutdown(socket.SHUT_WR)
        return total

    def send() -> None:
        for i in range(rounds):
            theirs.sendall(i.to_bytes(8, "big") + data[8:])
        theirs.shutdown(socket.SHUT_WR)

    worker, sender = wire.spawn(echo), wire.spawn(send)
    buffer = bytearray()
    for i in range(rounds):
        while len(buffer) < len(data):
            part = theirs.recv(1 << 20)
            assert part, f"the echo ended in round {i}"
            buffer += part
        assert buffer[:8] == i.to_bytes(8, "big")
        assert buffer[8 : len(data)] == data[8:]
        del buffer[: len(data)]
    assert theirs.recv(1) == b""
    sender.result()
    assert worker.result() == rounds * len(data)
    ours.close()
    theirs.close()


def test_connection_refused_both_ways(wire: Wire, family: Family) -> None:
    with wire.peer.socket(family=family.af) as theirs, pytest.raises(ConnectionRefusedError):
        theirs.connect((family.ours, 9))
    ours = wire.socket(family=family.af)
    with pytest.raises(ConnectionRefusedError):
        ours.connect((family.linux, 9))
    ours.close()


@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_half_close_lets_the_other_half_go_on(wire: Wire, family: Family, first: str) -> None:
    ours, theirs = wire.connected(family, from_us=True)
    closer, other = (ours, theirs) if first == "ours" else (theirs, ours)
    closer.sendall(b"question")
    closer.shutdown(socket.SHUT_WR)
    assert receive_all(other) == b"question"
    answer = pattern(300_000)
    sender = wire.spawn(lambda: (other.sendall(answer), other.close()))
    assert receive_all(closer) == answer
    sender.result()
    closer.close()


@pytest.mark.parametrize("reader", ["ours", "theirs"])
def test_zero_window_stops_the_sender_and_ends(wire: Wire, family: Family, reader: str) -> None:
    ours, theirs = wire.connected(family, from_us=True)
    slow, fast = (ours, theirs) if reader == "ours" else (theirs, ours)
    counters = wire.host.mib.linux
    probes, closings = counters.TCPWinProbe, counters.TCPToZeroWindowAdv
    data = pattern(20_000_000, seed=4)
    done = threading.Event()
    sender = wire.spawn(lambda: (fast.sendall(data), done.set(), fast.shutdown(socket.SHUT_WR)))
    if reader == "ours":
        eventually(lambda: counters.TCPToZeroWindowAdv > closings, "a closed window of ours")
    else:
        eventually(lambda: counters.TCPWinProbe > probes, "a probe of ours")
    assert not done.is_set()
    assert receive_all(slow) == data
    sender.result()
    slow.close()
    fast.close()


def test_reset_reaches_the_other_side(wire: Wire, family: Family) -> None:
    import struct

    for from_us in (True, False):
        ours, theirs = wire.connected(family, from_us=from_us)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        with pytest.raises(ConnectionResetError):
            ours.recv(10)
        ours.close()
        ours, theirs = wire.connected(family, from_us=from_us)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ours.close()
        with theirs, pytest.raises(ConnectionResetError):
            theirs.recv(10)


def test_netcat_talks_to_us_and_we_to_netcat(wire: Wire, family: Family) -> None:
    nc = require.tool("nc.openbsd", "netcat-openbsd")
    port = next(_ports)
    listener = wire.listen(port, family)
    client = wire.peer.start(nc, "-N", family.ours, str(port))
    ours, _ = listener.accept()
    assert client.stdin is not None
    client.stdin.write(b"hello from nc\n")
    client.stdin.close()
    client.stdin = None
    assert receive_all(ours) == b"hello from nc\n"
    ours.sendall(b"hello back\n")
    ours.close()
    listener.close()
    out, _ = client.communicate(timeout=100)
    assert out == b"hello back\n"

    port = next(_ports)
    server = wire.peer.start(nc, "-l", "-N", family.linux, str(port))
    ours = wire.socket(family=family.af)
    wire.peer.wait_for_listener(port)
    ours.connect((family.linux, port))
    ours.sendall(b"to nc\n")
    ours.shutdown(socket.SHUT_WR)
    out, _ = server.communicate(timeout=100)
    assert out == b"to nc\n"
    ours.close()


def test_urgent_small_writes_and_nodelay(wire: Wire, family: Family) -> None:
    ours, theirs = wire.connected(family, from_us=True)
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for i in range(300):
        ours.sendall(bytes([i & 0xFF]))
        assert theirs.recv(1) == bytes([i & 0xFF])
        theirs.sendall(bytes([i & 0xFF]))
        assert ours.recv(1) == bytes([i & 0xFF])
    ours.close()
    theirs.close()


def test_many_connections_at_once(wire: Wire, family: Family) -> None:
    port = next(_ports)
    listener = wire.listen(port, family)

    def serve() -> None:
        for _ in range(40):
            conn, _ = listener.accept()
            conn.settimeout(60)
            wire.spawn(lambda c=conn: (c.sendall(receive_all(c)), c.close()))

    server = wire.spawn(serve)
    socks = []
    for i in range(40):
        sock = wire.peer.socket(family=family.af)
        sock.connect((family.ours, port))
        sock.sendall(f"connection {i}".encode())
        socks.append(sock)
    for sock in socks:
        sock.shutdown(socket.SHUT_WR)
    for i, sock in enumerate(socks):
        assert receive_all(sock) == f"connection {i}".encode()
        sock.close()
    server.result()
    listener.close()


@pytest.mark.parametrize(
    ("family", "mtu"),
    # IPv6 has no links of less than 1280 (RFC 8200, 5)
    [(IPV4, 576), *((f, mtu) for f in (IPV4, IPV6) for mtu in (1280, 1500, 9000, 16110))],
    ids=str,
)
def test_mtu_of_the_wire_is_kept(need_linux: None, family: Family, mtu: int) -> None:
    data = pattern(1_500_000, seed=mtu)
    with Wire(mtu=mtu, ipv6=family is IPV6) as wire:
        for from_us in (True, False):
            ours, theirs = wire.connected(family, from_us=from_us)
            stream(theirs, ours, data)
            stream(ours, theirs, data)
            ours.close()
            theirs.close()


def test_every_frame_of_a_clean_exchange_is_well_formed(
    need_linux: None, family: Family, tmp_path: Path
) -> None:
    require.tool("tshark")
    path = tmp_path / "clean.pcapng"
    data = pattern(400_000, seed=12)
    with Wire(capture=path, ipv6=True) as wire:
        ours, theirs = wire.connected(family, from_us=False)
        stream(theirs, ours, data)
        ours.sendall(data)
        ours.close()
        assert receive_all(theirs) == data
        theirs.close()
        with wire.peer.socket(family=family.af) as refused, pytest.raises(ConnectionRefusedError):
            refused.connect((family.ours, 9))
    assert list(judged(path)) == []


def test_ip_pktoptions_of_an_accepted_socket(wire: Wire) -> None:
    """The TTL and TOS of the handshake's last packet, on either side the same messages."""
    tos = 0x28
    found = []
    with wire.peer.socket() as far, wire.peer.socket() as near:
        near.bind((IPV4.linux, 0))
        near.listen(1)
        listener, client = wire.listen(0), wire.socket()
        for server, caller in (near, client), (listener, far):
            server.setsockopt(socket.SOL_IP, uapi.IP_RECVTTL, 1)
            server.setsockopt(socket.SOL_IP, uapi.IP_RECVTOS, 1)
            caller.setsockopt(socket.SOL_IP, socket.IP_TOS, tos)
            caller.connect(server.getsockname())
            accepted, _ = server.accept()
            data = accepted.getsockopt(socket.SOL_IP, uapi.IP_PKTOPTIONS, 100)
            # Linux leaves the padding as it was.
            found.append([struct.unpack_from("=Qiii", data, at) for at in range(0, len(data), 24)])
            accepted.close()
        listener.close()
        client.close()
    linux, ours = found
    assert ours == linux
    assert (20, socket.SOL_IP, socket.IP_TOS, tos) in linux


UNREACHABLE = {IPV4: "10.66.0.0/16", IPV6: "fd66::/64"}
BEHIND = {IPV4: "10.66.0.1", IPV6: "fd66::1"}
MSG_ERRQUEUE = socket.MSG_ERRQUEUE
TCP_CLOSE = 7
"""The first byte of struct tcp_info when a connect has ended."""
RECVERR = {IPV4: (socket.SOL_IP, 11), IPV6: (socket.IPPROTO_IPV6, 25)}


def what_comes_of_connect(sock: Any, family: Family, recverr: bool) -> list[Any]:
    """Connect to where no route leads: the error queue, the error; then the error of the call."""
    if recverr:
        sock.setsockopt(*RECVERR[family], 1)
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.connect((BEHIND[family], 80))
    found: list[Any] = []
    eventually(lambda: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE)
    with contextlib.suppress(BlockingIOError):
        data, ((level, kind, told),), flags, name = sock.recvmsg(64, 256, MSG_ERRQUEUE)
        offender = told[16:18]  # but for its address, which is that of the other side
        found.append((len(data), data[2:4], level, kind, told[:16], offender, flags, name))
    found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
    with pytest.raises(OSError, match=r".") as wrong:
        sock.send(b"x")
    found.append(wrong.value.errno)
    return found


@pytest.mark.parametrize("recverr", [False, True])
def test_an_icmp_error_that_ends_a_connect(need_linux: None, family: Family, recverr: bool) -> None:
    """IPv4 keeps it in the error queue whatever IP_RECVERR says, IPv6 only with IPV6_RECVERR."""
    with Wire(ipv6=True) as wire:
        wire.host.sysctl["ip_forward"] = wire.host.sysctl["net.ipv6.conf.all.forwarding"] = 1
        wire.peer.write("/proc/sys/net/ipv4/ip_forward", 1)
        wire.peer.write("/proc/sys/net/ipv6/conf/all/forwarding", 1)
        network = UNREACHABLE[family]
        wire.peer.ip("route", "add", "unreachable", network)
        wire.host.route_add(network, via=family.linux)
        with wire.socket(family=family.af) as sock:
            ours = what_comes_of_connect(sock, family, recverr)
        wire.host.route_del(network)
        wire.host.route_add(network, rtype=uapi.RTN_UNREACHABLE)
        wire.peer.ip("route", "del", "unreachable", network)
        wire.peer.ip("route", "add", network, "via", family.ours)
        with wire.peer.socket(family=family.af) as sock:
            theirs = what_comes_of_connect(sock, family, recverr)
    assert (len(ours) == 3) == (recverr or family is IPV4)
    assert ours == theirs
