"""The standard library over our sockets: select, selectors, asyncio, http, socketserver, urllib."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import http.client
import http.server
import io
import os
import select
import selectors
import socketserver
import ssl
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from e1000emu.clock import AsyncioClock, ClockError, RealClock, VirtualClock
from e1000emu.lab import two_hosts
from stack import aio
from stack.host import Host
from stack.socket import (
    AF_INET,
    SHUT_WR,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    Socket,
    create_connection,
    create_server,
)
from tests.support import require

DATA = bytes(range(256)) * 8192  # 2 MiB: more than the buffers hold


@pytest.fixture(scope="module")
def clock():
    with_thread = RealClock().start()
    yield with_thread
    with_thread.close()


@pytest.fixture
def host(clock):
    """A host in real time that talks to itself: no link has to come up."""
    with Host("solo", clock=clock) as host:
        yield host
        # a threading server's handlers are daemons: nobody has waited for the last one to close
        deadline = time.monotonic() + 30
        while host.fdtable.fd and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not host.fdtable.fd, "a socket was left open"


def pair_of(host):
    listener = create_server(host, ("127.0.0.1", 0))
    client = create_connection(host, listener.getsockname())
    conn, _ = listener.accept()
    listener.close()
    return client, conn


# --- select ------------------------------------------------------------------------------------


def test_select_waits_for_data_from_another_thread(host):
    client, conn = pair_of(host)
    with client, conn:
        assert select.select([client], [client], [client], 0) == ([], [client], [])
        timer = threading.Timer(0.05, conn.send, (b"hello",))
        timer.start()
        assert select.select([client], [], [], 30) == ([client], [], [])
        assert client.recv(10) == b"hello"
        assert select.select([client], [], [], 0) == ([], [], [])
        timer.join()


@pytest.mark.parametrize(
    "selector",
    [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector],
)
def test_one_thread_serves_many_by_a_selector(host, selector):
    """An echo server and its clients in one thread, every socket non-blocking."""
    received = {}
    with selector() as sel:
        listener = create_server(host, ("127.0.0.1", 7))
        listener.setblocking(False)
        sel.register(listener, selectors.EVENT_READ, "accept")
        for number in range(20):
            client = Socket(host, AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
            assert client.gettimeout() == 0
            client.connect_ex(("127.0.0.1", 7))
            sel.register(client, selectors.EVENT_WRITE, bytes([number]) * 100_000)
        while len(received) < 20:
            for key, events in sel.select(30):
                sock, todo = key.fileobj, key.data
                if todo == "accept":
                    conn, _ = sock.accept()
                    conn.setblocking(False)
                    sel.register(conn, selectors.EVENT_READ, "echo")
                elif todo == "echo":
                    data = sock.recv(65536)
                    if data:
                        sock.setblocking(True)
                        sock.sendall(data)
                        sock.setblocking(False)
                    else:
                        sel.unregister(sock)
                        sock.close()
                elif events & selectors.EVENT_WRITE:
                    rest = todo[sock.send(todo) :]
                    if not rest:
                        sock.shutdown(SHUT_WR)
                    sel.modify(
                        sock, selectors.EVENT_WRITE if rest else selectors.EVENT_READ, rest or []
                    )
                else:
                    data = sock.recv(65536)
                    todo.append(data)
                    if not data:
                        received[sock] = b"".join(todo)
                        sel.unregister(sock)
                        sock.close()
        sel.unregister(listener)
        listener.close()
    assert sorted(received.values()) == [bytes([n]) * 100_000 for n in range(20)]


# --- clocks that cannot ------------------------------------------------------------------------


def test_a_virtual_clock_says_what_to_do_instead():
    with Host(clock=VirtualClock()) as host:
        sock = Socket(host, type=SOCK_DGRAM)
        for ask in (
            sock.fileno,
            lambda: select.select([sock], [], [], 1),
            lambda: selectors.DefaultSelector().register(sock, selectors.EVENT_READ),
        ):
            with pytest.raises(ClockError, match=r"aio\.run\(.*wait_any.*RealClock\(\)\.start\(\)"):
                ask()

        async def watched():
            await asyncio.get_running_loop().sock_recv(sock, 1)

        sock.setblocking(False)
        with pytest.raises(ClockError, match=r"aio\.run"):
            asyncio.run(watched())
        file = sock.makefile("rb")  # which io may ask, too
        with pytest.raises(io.UnsupportedOperation, match="VirtualClock"):
            file.fileno()


def test_a_real_clock_that_nobody_runs_says_so():
    clock = RealClock()
    with Host(clock=clock) as host:
        sock = Socket(host, type=SOCK_DGRAM)
        with pytest.raises(ClockError, match="start"):
            sock.fileno()
        clock.start()
        assert sock.fileno() == sock.fileno() > 2
        sock.close()
        assert sock.fileno() == -1
    clock.close()


@pytest.mark.parametrize("clock_of", [VirtualClock, RealClock], ids=["virtual", "real, stopped"])
def test_coroutines_of_stack_aio_do_not_sleep_for_ever_under_plain_asyncio(clock_of):
    clock = clock_of()
    with Host(clock=clock) as host:
        server = create_server(host, ("127.0.0.1", 7))

        async def accept():
            server.setblocking(False)
            await aio.sock_accept(server)

        with pytest.raises(ClockError, match=r"a coroutine that waits: .*start\(\)"):
            asyncio.run(accept())
    clock.close()


def test_a_host_of_another_loop_is_refused():
    with asyncio.Runner() as runner, Host(clock=AsyncioClock(runner.get_loop())) as host:
        sock = Socket(host, type=SOCK_DGRAM)

        async def main():
            sock.fileno()

        with pytest.raises(ClockError, match="another loop"):
            asyncio.run(main())
        runner.run(main())


# --- asyncio -----------------------------------------------------------------------------------


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def streams(server_host, client_host, address):
    """asyncio's own streams over two of our sockets: an echo of 2 MiB."""
    server = await asyncio.start_server(echo, sock=create_server_at(server_host, address))
    sock = Socket(client_host, AF_INET, SOCK_STREAM)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    reader, writer = await asyncio.open_connection(sock=sock)
    assert writer.get_extra_info("peername") == address
    assert writer.get_extra_info("socket").type == SOCK_STREAM

    async def send():
        for at in range(0, len(DATA), 65536):
            writer.write(DATA[at : at + 65536])
            await writer.drain()
        writer.write_eof()

    sending = asyncio.create_task(send())
    got = await reader.read()
    await sending
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    return hashlib.sha256(got).digest()


def create_server_at(host, address):
    server = create_server(host, address)
    server.setblocking(False)
    return server


EXPECTED = hashlib.sha256(DATA).digest()


def test_asyncio_streams_in_real_time(host):
    assert asyncio.run(streams(host, host, ("127.0.0.1", 7))) == EXPECTED


def test_asyncio_streams_in_virtual_time(a: Host, b: Host):
    with a, b:
        run = functools.partial(aio.run, clock=a.clock)
        assert run(streams(b, a, ("10.0.0.2", 7))) == EXPECTED


def test_asyncio_streams_on_the_loop_of_the_hosts():
    with asyncio.Runner() as runner, Host(clock=AsyncioClock(runner.get_loop())) as host:
        assert runner.run(streams(host, host, ("127.0.0.1", 7))) == EXPECTED


def test_sleeping_beside_registered_sockets_takes_no_time():
    clock = VirtualClock()

    async def main():
        loop = asyncio.get_running_loop()
        sock = Socket(host, type=SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 1))
        waiting = asyncio.create_task(loop.sock_recvfrom(sock, 100))
        await asyncio.sleep(3600)
        assert not waiting.done()
        await loop.sock_sendto(sock, b"x", ("127.0.0.1", 1))
        assert await waiting == (b"x", ("127.0.0.1", 1))
        return loop.time()

    with Host(clock=clock) as host:
        assert aio.run(main(), clock=clock) == pytest.approx(3600, abs=1)


def test_asyncio_socket_calls_and_datagrams(host):
    class Upper(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            self.transport.sendto(data.upper(), addr)

    async def main():
        loop = asyncio.get_running_loop()
        sock = Socket(host, type=SOCK_DGRAM)
        sock.bind(("127.0.0.1", 9))
        transport, _ = await loop.create_datagram_endpoint(Upper, sock=sock)
        mine = Socket(host, type=SOCK_DGRAM | SOCK_NONBLOCK)
        await loop.sock_sendto(mine, b"hello", ("127.0.0.1", 9))
        answer = await loop.sock_recvfrom(mine, 100)
        mine.close()
        transport.close()

        listener = create_server_at(host, ("127.0.0.1", 7))
        client = Socket(host, type=SOCK_STREAM | SOCK_NONBLOCK)
        (conn, _), _ = await asyncio.gather(
            loop.sock_accept(listener), loop.sock_connect(client, ("127.0.0.1", 7))
        )
        refused = Socket(host, type=SOCK_STREAM | SOCK_NONBLOCK)
        with pytest.raises(ConnectionRefusedError):
            await loop.sock_connect(refused, ("127.0.0.1", 8))
        buffer = bytearray(len(DATA))
        sending = asyncio.create_task(loop.sock_sendall(client, DATA))
        got = 0
        while got < len(DATA):
            got += await loop.sock_recv_into(conn, memoryview(buffer)[got:])
        await sending
        for each in (listener, client, conn, refused):
            each.close()
        return answer, hashlib.sha256(buffer).digest()

    assert asyncio.run(main()) == ((b"HELLO", ("127.0.0.1", 9)), EXPECTED)


def test_asyncio_sendfile_sends_the_file(host, tmp_path):
    """The kernel's sendfile cannot write to the descriptor, so asyncio reads and sends."""
    path = tmp_path / "data"
    path.write_bytes(DATA)

    async def main():
        async def serve(reader, writer):
            with path.open("rb") as file:
                await asyncio.get_running_loop().sendfile(writer.transport, file)
            writer.close()

        server = await asyncio.start_server(serve, sock=create_server_at(host, ("127.0.0.1", 7)))
        sock = Socket(host, type=SOCK_STREAM | SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 7))
        reader, writer = await asyncio.open_connection(sock=sock)
        got = await reader.read()
        writer.close()
        server.close()
        await server.wait_closed()
        return hashlib.sha256(got).digest()

    assert asyncio.run(main()) == EXPECTED


@pytest.mark.parametrize("real", [True, False], ids=["real time", "virtual time"])
def test_asyncio_tls(clock, real, tmp_path):
    """asyncio does TLS in memory, so it needs no socket of the kernel."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *(require.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=b", "-addext", "subjectAltName=DNS:b"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )

    async def main():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        listener = create_server_at(host, ("127.0.0.1", 443))
        server = await asyncio.start_server(echo, sock=listener, ssl=context)
        sock = Socket(host, type=SOCK_STREAM | SOCK_NONBLOCK)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", 443))
        trusted = ssl.create_default_context(cafile=os.fspath(certificate))
        reader, writer = await asyncio.open_connection(sock=sock, ssl=trusted, server_hostname="b")
        writer.write(DATA[:100_000])
        got = await reader.readexactly(100_000)
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return got

    with Host(clock=clock if real else VirtualClock()) as host:
        run = asyncio.run if real else functools.partial(aio.run, clock=host.clock)
        assert run(main()) == DATA[:100_000]


# --- http --------------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, and says back what is posted."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


def serving(kind, host, address, handler):
    """A server of the standard library on a socket of `host`, in a thread."""
    server = kind(address, handler, bind_and_activate=False)
    server.socket.close()
    server.socket = create_server(host, address)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()

    def stop():
        server.shutdown()
        server.server_close()
        thread.join()

    return stop


class Connection(http.client.HTTPConnection):
    """An HTTP connection from `host`."""

    def __init__(self, host, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._create_connection = functools.partial(create_connection, host)


@pytest.mark.parametrize("kind", [http.server.HTTPServer, http.server.ThreadingHTTPServer])
def test_an_http_server_and_clients(host, tmp_path, kind):
    (tmp_path / "data").write_bytes(DATA)
    stop = serving(
        kind, host, ("127.0.0.1", 80), functools.partial(Handler, directory=os.fspath(tmp_path))
    )
    try:

        def get(number):
            connection = Connection(host, "127.0.0.1", timeout=30)
            connection.request("GET", "/data")
            body = connection.getresponse().read()
            connection.request("POST", "/", body=b"%d" % number + DATA[:100_000])
            answer = connection.getresponse().read()
            connection.close()
            assert answer == (b"%d" % number + DATA[:100_000])[::-1]
            return hashlib.sha256(body).digest()

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(get, range(8))) == [EXPECTED] * 8

        class Http(urllib.request.HTTPHandler):
            def http_open(self, request):
                return self.do_open(functools.partial(Connection, host), request)

        opener = urllib.request.OpenerDirector()
        opener.add_handler(Http())
        with opener.open("http://127.0.0.1/data", timeout=30) as answer:
            assert hashlib.sha256(answer.read()).digest() == EXPECTED
        with opener.open("http://127.0.0.1/data") as answer:  # the default timeout's sentinel
            assert answer.read(100) == DATA[:100]
    finally:
        stop()


def test_a_socketserver_between_two_hosts(clock):
    class Shout(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(line.upper())

    a, b = two_hosts(clock)
    with a, b:
        stop = serving(socketserver.ThreadingTCPServer, b, ("10.0.0.2", 9), Shout)
        try:
            sock = create_connection(a, ("10.0.0.2", 9), timeout=30)
            with sock, sock.makefile("rw") as file:
                for word in ("one\n", "two\n"):
                    file.write(word)
                    file.flush()
                    assert file.readline() == word.upper()
        finally:
            stop()


def test_a_socket_closed_under_its_file_is_closed_with_the_file(host):
    """As http.client does it with a response that ends the connection."""
    client, conn = pair_of(host)
    file = client.makefile("rb")
    client.close()
    conn.send(b"still there")
    assert file.read(11) == b"still there"
    file.close()
    assert conn.recv(1) == b""
    conn.close()
