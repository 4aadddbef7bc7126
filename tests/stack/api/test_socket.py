"""The standard library's socket interface over two hosts, two drivers, two NICs and a wire."""

from __future__ import annotations

import errno
import hashlib
import math
import socket as stdlib
import threading

import pytest

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.lab import two_hosts
from stack.host import Host
from stack.socket import (
    AF_INET,
    IPPROTO_TCP,
    MSG_DONTWAIT,
    MSG_PEEK,
    MSG_WAITFORONE,
    POLLIN,
    POLLOUT,
    SHUT_WR,
    SO_REUSEADDR,
    SO_TYPE,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    Socket,
    create_connection,
    create_server,
    inet_aton,
    inet_ntoa,
    wait_any,
)
from tests.hosts import real_hosts


def test_constants_are_linux_ones():
    assert (AF_INET, SOCK_STREAM, SOCK_DGRAM) == (2, 1, 2)
    assert (SOL_SOCKET, SO_REUSEADDR, SO_TYPE) == (1, 2, 3)
    assert IPPROTO_TCP == stdlib.IPPROTO_TCP


@pytest.mark.parametrize("text", ["10.0.0.1", "0.0.0.0", "255.255.255.255", "127.0.0.1"])
def test_addresses_go_to_numbers_and_back(text):
    assert inet_ntoa(inet_aton(text)) == text


@pytest.mark.parametrize("text", ["10.0.0", "10.0.0.256", "a.b.c.d", "1.2.3.4.5", "-1.0.0.0", "x"])
def test_bad_addresses_are_refused(text):
    with pytest.raises(OSError, match="IPv4"):
        inet_aton(text)


def test_udp_there_and_back(a, b):
    with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
        server.bind(("", 7))
        assert server.getsockname() == ("0.0.0.0", 7)
        assert client.sendto(b"ping", ("10.0.0.2", 7)) == 4
        data, addr = server.recvfrom(100)
        assert (data, addr[0]) == (b"ping", "10.0.0.1")
        server.sendto(b"pong", addr)
        assert client.recv(100) == b"pong"
        buffer = bytearray(10)
        client.connect(("10.0.0.2", 7))
        client.send(b"again")
        assert server.recvfrom_into(buffer)[0] == 5
        assert buffer[:5] == b"again"
        assert client.getpeername() == ("10.0.0.2", 7)


def test_messages_in_several_buffers(a, b):
    with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
        server.bind(("", 7))
        assert client.sendmsg([b"one", b"two"], (), 0, ("10.0.0.2", 7)) == 6
        data, anc, flags, addr = server.recvmsg(100)
        assert (data, anc, flags, addr[0]) == (b"onetwo", [], 0, "10.0.0.1")


def test_batches_of_datagrams(a, b):
    with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
        server.bind(("", 7))
        texts = [b"%d" % n * n for n in range(1, 6)]
        assert client.sendmmsg([(text, ("10.0.0.2", 7)) for text in texts]) == 5
        buffers = [bytearray(100) for _ in range(8)]
        got = server.recvmmsg(buffers, MSG_WAITFORONE)
        while len(got) < 5:
            got += server.recvmmsg(buffers[len(got) :], MSG_WAITFORONE)
        assert [bytes(buffers[i][:n]) for i, (n, _) in enumerate(got)] == texts
        assert {addr for _, addr in got} == {("10.0.0.1", client.getsockname()[1])}
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recvmmsg(buffers)


def tcp_pair(a, b, port=80):
    server = create_server(b, ("", port))
    client = create_connection(a, ("10.0.0.2", port))
    conn, addr = server.accept()
    assert addr == client.getsockname()
    server.close()
    return client, conn


def test_tcp_connect_send_half_close(hosts):
    client, conn = tcp_pair(*hosts)
    with client, conn:
        client.sendall(b"hello")
        assert conn.recv(100, MSG_PEEK) == b"hello"
        assert conn.recv(100) == b"hello"
        client.shutdown(SHUT_WR)
        assert conn.recv(100) == b""
        conn.sendall(b"still open")
        assert client.recv(5) == b"still"
        assert client.recv(100) == b" open"


def test_a_refused_connection(a):
    with pytest.raises(ConnectionRefusedError):
        create_connection(a, ("10.0.0.2", 81))
    with a.socket() as sock:
        assert sock.connect_ex(("10.0.0.2", 81)) == errno.ECONNREFUSED


def test_a_megabyte_arrives_whole(hosts):
    client, conn = tcp_pair(*hosts)
    data = hashlib.shake_256(b"seed").digest(1 << 20)
    clock = hosts[0].clock
    with client, conn:
        task = clock.spawn(lambda: (client.sendall(data), client.shutdown(SHUT_WR)))
        out = bytearray()
        while block := conn.recv(100_000):
            out += block
        task.join()
        assert bytes(out) == data


def test_timeouts_in_virtual_time(a):
    with a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.bind(("", 9))
        sock.settimeout(1.5)
        assert sock.gettimeout() == 1.5
        start = a.now()
        with pytest.raises(TimeoutError):
            sock.recv(10)
        assert a.now() - start == 1_500_000_000
        sock.setblocking(False)
        assert not sock.getblocking()
        with pytest.raises(BlockingIOError):
            sock.recv(10)
        sock.setblocking(True)
        with pytest.raises(BlockingIOError):
            sock.recv(10, MSG_DONTWAIT)


def test_accept_and_connect_time_out(a, b):
    with create_server(b, ("", 80)) as server:
        server.settimeout(0.25)
        with pytest.raises(TimeoutError):
            server.accept()
    with pytest.raises(OSError, match=r"timed out|No route|unreachable"):
        create_connection(a, ("10.0.0.99", 80), timeout=0.5)


def test_connect_ex_says_what_the_standard_library_says(a):
    with a.socket() as sock:
        sock.settimeout(0.5)
        assert sock.connect_ex(("10.0.0.99", 80)) == errno.EAGAIN
        with pytest.raises(stdlib.gaierror):
            sock.connect_ex(("no.such.name.invalid", 80))


def test_timeouts_are_rounded_up_and_limited(a):
    with a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.bind(("", 9))
        sock.settimeout(1e-10)
        start = a.clock.now_ns()
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert a.clock.now_ns() > start
        for value in (math.inf, 1e300, 1 << 70):
            with pytest.raises(OverflowError):
                sock.settimeout(value)
            assert sock.gettimeout() == 1e-10


def test_options(a):
    with a.socket() as sock:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        assert sock.getsockopt(SOL_SOCKET, SO_REUSEADDR) == 1
        assert sock.getsockopt(SOL_SOCKET, SO_TYPE) == SOCK_STREAM
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        assert sock.getsockopt(IPPROTO_TCP, TCP_NODELAY, 4) == (1).to_bytes(4, "little")


@pytest.mark.parametrize("room", [None, 0, 1, 3, 4, 8, 100, 1024, 1025, -1])
def test_getsockopt_as_the_standard_library(hosts, room):
    options = {
        "type": (SOL_SOCKET, SO_TYPE),
        "linger": (SOL_SOCKET, stdlib.SO_LINGER),
        "timeout": (SOL_SOCKET, stdlib.SO_RCVTIMEO),
        "cookie, of 8 bytes": (SOL_SOCKET, 57),
        "mark": (SOL_SOCKET, stdlib.SO_MARK),
        "congestion control": (IPPROTO_TCP, stdlib.TCP_CONGESTION),
        "info": (IPPROTO_TCP, stdlib.TCP_INFO),
        "of no such number": (IPPROTO_TCP, 9999),
    }
    vary = {"cookie, of 8 bytes", "info"}

    def asked(sock, name):
        level, option = options[name]
        try:
            value = sock.getsockopt(level, option, *([] if room is None else [room]))
        except OSError as error:
            return error.errno, str(error) if error.errno is None else ""
        return len(value) if name in vary and isinstance(value, bytes) else value

    a, _b = hosts
    with a.socket() as ours, stdlib.socket() as theirs:
        for sock in (ours, theirs):
            sock.setsockopt(IPPROTO_TCP, stdlib.TCP_CONGESTION, b"reno")
        theirs_says = {name: asked(theirs, name) for name in options}
        assert {name: asked(ours, name) for name in options} == theirs_says


def test_errors_of_the_caller(a):
    with a.socket(AF_INET, SOCK_DGRAM) as sock:
        with pytest.raises(TypeError, match="pair"):
            sock.bind("10.0.0.1")
        with pytest.raises(OverflowError, match="port"):
            sock.bind(("", 70000))
        with pytest.raises(OSError, match="not an address of this host"):
            sock.bind(("10.9.9.9", 1))
        with pytest.raises(ValueError, match="nbytes"):
            sock.recv_into(bytearray(2), 3)
        with pytest.raises(ValueError, match="Timeout"):
            sock.settimeout(-1)
    assert sock.fileno() == -1
    sock.close()
    with pytest.raises(OSError, match="not an open socket"):
        sock.send(b"x")


def test_files_over_a_connection(hosts):
    client, conn = tcp_pair(*hosts)
    with client, conn:
        with client.makefile("w", newline="\n") as out:
            out.write("line one\nline two\n")
        client.shutdown(SHUT_WR)
        with conn.makefile("r") as lines:
            assert lines.read().splitlines() == ["line one", "line two"]
        raw = conn.makefile("rwb", buffering=0)
        raw.write(b"raw")
        conn.close()  # the file keeps it
        assert conn.host_fd >= 0
        raw.close()
        conn.close()
        assert client.recv(10) == b"raw"
        with pytest.raises(ValueError, match="mode"):
            client.makefile("x")


def test_poll_says_what_would_not_block(hosts):
    client, conn = tcp_pair(*hosts)
    with client, conn:
        assert client.poll() & POLLOUT
        assert not conn.poll() & POLLIN
        assert wait_any(hosts[0], [(conn, POLLIN)], timeout=0.1) == []
        client.send(b"x")
        assert wait_any(hosts[0], [(conn, POLLIN)], timeout=1.0) == [(conn, POLLIN)]


def test_talking_to_oneself_over_loopback(a):
    with a.socket(AF_INET, SOCK_DGRAM) as one, a.socket(AF_INET, SOCK_DGRAM) as two:
        two.bind(("127.0.0.1", 5000))
        one.sendto(b"self", ("127.0.0.1", 5000))
        data, addr = two.recvfrom(10)
        assert (data, addr[0]) == (b"self", "127.0.0.1")
        one.sendto(b"mine", ("10.0.0.1", 5000))  # bound to 127.0.0.1: refused
    server = create_server(a, ("127.0.0.1", 80))
    client = create_connection(a, ("127.0.0.1", 80))
    conn, _ = server.accept()
    with server, client, conn:
        client.sendall(bytes(300_000))
        got = 0
        while got < 300_000:
            got += len(conn.recv(65536))


def test_a_connected_socket_sends_elsewhere_and_then_to_its_peer(a, b):
    with a.socket(AF_INET, SOCK_DGRAM) as one, b.socket(AF_INET, SOCK_DGRAM) as peer:
        peer.bind(("10.0.0.2", 9000))
        one.connect(("10.0.0.2", 9000))
        for data in (b"before", b"after", b"at last"):
            one.send(data)
            assert peer.recv(10) == data
            one.sendto(b"loopback", ("127.0.0.1", 5))  # by another route


def test_blocking_calls_from_threads_in_real_time():
    """A RealClock in its own thread; client and server are ordinary blocking threads."""
    with real_hosts(autoneg_ns=1_000_000) as (a, b):
        server = create_server(b, ("", 80))
        result = []

        def serve():
            conn, _ = server.accept()
            with conn:
                while data := conn.recv(65536):
                    conn.sendall(data.upper())
                result.append("eof")

        thread = threading.Thread(target=serve)
        thread.start()
        with create_connection(a, ("10.0.0.2", 80), timeout=20) as client:
            for text in (b"first", b"second" * 1000):
                client.sendall(text)
                got = b""
                while len(got) < len(text):
                    got += client.recv(65536)
                assert got == text.upper()
            client.shutdown(SHUT_WR)
            assert client.recv(1) == b""
        thread.join(20)
        assert result == ["eof"]
        server.close()


def test_real_time_without_a_thread():
    """Whoever waits runs the loop."""
    clock = RealClock()
    a, b = two_hosts(clock, autoneg_ns=1_000_000)
    try:
        with a.socket(AF_INET, SOCK_DGRAM) as client, b.socket(AF_INET, SOCK_DGRAM) as server:
            server.bind(("", 7))
            server.settimeout(20)
            client.sendto(b"real", ("10.0.0.2", 7))
            assert server.recv(10) == b"real"
            server.settimeout(0.01)
            with pytest.raises(TimeoutError):
                server.recv(10)
    finally:
        a.close()
        b.close()
        clock.close()


def test_the_same_seed_gives_the_same_capture(tmp_path):
    def run(number):
        path = tmp_path / f"{number}.pcapng"
        a, b = two_hosts(
            VirtualClock(),
            seed=42,
            capture=path,
            impair={"loss": 0.03, "reorder": 0.05, "delay_ns": 100_000},
        )
        client, conn = tcp_pair(a, b)
        data = bytes(200_000)
        task = a.clock.spawn(lambda: (client.sendall(data), client.close()))
        got = 0
        while block := conn.recv(65536):
            got += len(block)
        assert got == len(data)
        task.join()
        conn.close()
        a.clock.run_for(5_000_000_000)
        end = a.now()
        a.close()
        b.close()
        return end, path.read_bytes()

    assert run(1) == run(2)


def test_closing_a_host_closes_its_sockets(a: Host, b: Host):
    client, conn = tcp_pair(a, b)
    client.sendall(b"unread")
    udp = Socket(b, AF_INET, SOCK_DGRAM)
    udp.bind(("", 9))
    a.close()
    b.close()
    for host in (a, b):
        assert host.skb_small.in_use == 0
        assert host.skb_pages.in_use == 0
    conn.close()
    udp.close()
