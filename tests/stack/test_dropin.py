"""A host's sockets behind the standard library's `socket` and `ssl` (stack.dropin)."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import select
import selectors
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import RealClock, VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.lab import two_hosts
from stack.api.tls import TlsSocket
from stack.dropin import dropin, main
from stack.host import Host
from stack.socket import SOCK_DGRAM, Socket, socketpair
from tests.support import require

KERNEL = socket.socket
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def clock() -> Iterator[RealClock]:
    with_thread = RealClock().start()
    yield with_thread
    with_thread.close()


@pytest.fixture(scope="module")
def hosts(clock: RealClock) -> Iterator[tuple[Host, Host]]:
    a, b = two_hosts(clock)
    with a, b:
        yield a, b


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Files: a certificate of 10.0.0.2, and its key."""
    path = tmp_path_factory.mktemp("tls")
    key, cert = path / "key.pem", path / "certificate.pem"
    subprocess.run(
        [
            *(require.tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", "/CN=b", "-addext", "subjectAltName=DNS:b,IP:10.0.0.2"),
            *("-keyout", key, "-out", cert),
        ],
        check=True,
        capture_output=True,
    )
    return os.fspath(cert), os.fspath(key)


def contexts(certificate: tuple[str, str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and a client's that trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    return server, ssl.create_default_context(cafile=certificate[0])


class Handler(http.server.BaseHTTPRequestHandler):
    """Says the path back, and what was posted."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        body = self.path.encode() + body
        assert isinstance(self.connection, Socket | TlsSocket)
        self.send_header("x-peer", str(self.client_address[1]))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *args: object) -> None:
        pass


@contextlib.contextmanager
def serving(host: Host, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """An HTTP server of the standard library on `host`; its port."""
    with dropin(host):
        server = http.server.ThreadingHTTPServer(("", 0), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_names_are_the_hosts_in_the_block_and_the_kernels_after_it(a, b):
    before = dict(vars(socket))
    wrapped = ssl.SSLContext.sslsocket_class
    with dropin(a):
        with socket.socket() as of_a, dropin(b), socket.socket(type=SOCK_DGRAM) as of_b:
            assert (of_a.net, of_b.net) == (a, b)
            assert isinstance(of_a, socket.socket)
            assert socket.gethostname() == "b"
        assert socket.gethostname() == "a"
        index = socket.if_nametoindex("eth0")
        assert (index, "eth0") in socket.if_nameindex()
        assert socket.if_indextoname(index) == "eth0"
        with pytest.raises(RuntimeError, match="seen"), dropin(b):
            raise RuntimeError("seen")
        assert socket.gethostname() == "a"
    assert dict(vars(socket)) == before
    assert ssl.SSLContext.sslsocket_class is wrapped


def test_af_unix_stays_the_kernels_unless_asked_for(a):
    with dropin(a):
        for pair in (socket.socketpair(), socket.socketpair(socket.AF_UNIX)):
            for end in pair:
                assert type(end) is KERNEL
                assert isinstance(end, socket.socket)
                end.close()
        with socket.socket(socket.AF_UNIX) as sock:
            assert type(sock) is KERNEL
            # a descriptor of the kernel's
            with socket.socket(fileno=os.dup(sock.fileno())) as other:
                assert type(other) is KERNEL
    with dropin(a, kernel=()):
        for end in socket.socketpair():
            assert isinstance(end, Socket)
            end.close()


def test_a_class_of_ones_own_and_a_descriptor_given_away(a):
    with dropin(a):

        class Mine(socket.socket):
            def hello(self) -> str:
                return "hello"

        with Mine(socket.AF_INET, socket.SOCK_DGRAM) as mine:
            mine.bind(("127.0.0.1", 0))
            port = mine.getsockname()[1]
            assert mine.hello() == "hello"
            number = mine.detach()
        with socket.socket(fileno=number) as again:
            assert isinstance(again, Socket)
            assert again.getsockname() == ("127.0.0.1", port)


def test_wrong_arguments_are_named(hosts):
    with pytest.raises(E1000Error, match="dropin"), dropin("a"):
        pass
    with pytest.raises(E1000Error, match="kernel"), dropin(hosts[0], kernel=("unix",)):
        pass
    assert socket.socket is KERNEL


def test_blocking_calls_in_virtual_time():
    a, b = two_hosts(VirtualClock(), latency_ns=1_000_000_000)
    with a, b:
        with dropin(b):
            server = socket.socket(type=socket.SOCK_DGRAM)
        server.bind(("", 7))
        with dropin(a), socket.socket(type=socket.SOCK_DGRAM) as client:
            began = a.clock.now_ns()
            client.sendto(b"hello", ("10.0.0.2", 7))
            data, peer = server.recvfrom(100)
            assert data == b"hello"
            assert peer[0] == "10.0.0.1"
            assert a.clock.now_ns() - began >= 1_000_000_000
        server.close()


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_requests_and_urllib(a, b, certificate, tls):
    server, client = contexts(certificate)
    with serving(b, server if tls else None) as port, dropin(a):
        url = f"http{'s' * tls}://10.0.0.2:{port}/"
        with urllib.request.urlopen(f"{url}one", timeout=30, context=client) as answer:
            assert answer.read() == b"/one"
        ports = set()
        with requests.Session() as session:
            session.trust_env = False
            session.verify = certificate[0]
            for size in (0, 1000, 3_000_000):  # one connection, kept
                body = os.urandom(size)
                answer = session.post(f"{url}two", data=body, timeout=30)
                assert answer.content == b"/two" + body
                ports.add(answer.headers["x-peer"])
            assert len(ports) == 1
        if tls:
            with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                requests.get(url, timeout=30)


def test_asyncio(a, b):
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    async def run() -> bytes:
        with dropin(b):
            server = await asyncio.start_server(echo, "10.0.0.2", 7)
        with dropin(a):
            reader, writer = await asyncio.open_connection("10.0.0.2", 7)
        assert isinstance(writer.get_extra_info("socket")._sock, Socket)
        writer.write(b"x" * 1_000_000)
        writer.write_eof()
        got = await reader.read()
        writer.close()
        server.close()
        await server.wait_closed()
        return got

    # the loop's own sockets are the kernel's: made within, too
    with dropin(a):
        assert asyncio.run(run()) == b"x" * 1_000_000


# --- TLS ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def tls_pair(host: Host, certificate: tuple[str, str], **options: Any) -> Iterator[Any]:
    """A client and a server of TLS, their handshake done."""
    server, client = contexts(certificate)
    one, two = socketpair(host)
    with dropin(host):
        far = server.wrap_socket(two, server_side=True, do_handshake_on_connect=False)
        near = client.wrap_socket(
            one, server_hostname="b", do_handshake_on_connect=False, **options
        )
    thread = threading.Thread(target=far.do_handshake)
    thread.start()
    near.do_handshake()
    thread.join()
    with near, far:
        yield near, far


def test_tls_says_what_an_sslsocket_says(hosts, certificate):
    with tls_pair(hosts[0], certificate) as (near, far):
        assert near.version() == far.version() == "TLSv1.3"
        assert near.cipher() == far.cipher()
        assert ("DNS", "b") in near.getpeercert()["subjectAltName"]
        assert near.getpeercert(binary_form=True)
        assert far.getpeercert() is None
        assert near.selected_alpn_protocol() is None
        assert (near.server_side, far.server_side) == (False, True)
        assert near.send(b"hello") == 5
        assert far.recv(2) == b"he"
        assert far.pending() == 3
        assert far.recv(100) == b"llo"
        for call in (near.sendto, near.recvfrom):
            with pytest.raises(ValueError, match="not allowed"):
                call(b"", ("10.0.0.2", 1))
        for call in (near.sendmsg, near.recvmsg, near.dup):
            with pytest.raises(NotImplementedError):
                call()
        with pytest.raises(ValueError, match="non-zero flags"):
            near.recv(1, socket.MSG_PEEK)


def test_tls_ends_with_and_without_a_word(hosts, certificate):
    with tls_pair(hosts[0], certificate) as (near, far):
        thread = threading.Thread(target=far.unwrap)
        thread.start()
        plain = near.unwrap()
        thread.join()
        plain.send(b"plain")
        assert far.recv(100) == b"plain"
    with tls_pair(hosts[0], certificate) as (near, far):
        far.close()
        assert near.recv(100) == b""
    with tls_pair(hosts[0], certificate, suppress_ragged_eofs=False) as (near, far):
        far.close()
        with pytest.raises(ssl.SSLEOFError):
            near.recv(100)


def test_tls_timeouts(hosts, certificate):
    with tls_pair(hosts[0], certificate) as (near, far):
        near.settimeout(0.05)
        with pytest.raises(TimeoutError):
            near.recv(1)
        near.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            near.recv(1)
        far.send(b"x")
        assert select.select([near], [], [], 30)[0] == [near]


def test_tls_reads_and_writes_in_two_threads(hosts, certificate):
    data = os.urandom(2_000_000)
    with tls_pair(hosts[0], certificate) as (near, far):
        writers = [threading.Thread(target=end.sendall, args=(data,)) for end in (near, far)]
        for writer in writers:
            writer.start()
        for end in (near, far):
            with end.makefile("rb") as file:
                assert file.read(len(data)) == data
        for writer in writers:
            writer.join()


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=6), st.integers(1, 70_000))
def test_tls_that_never_blocks_loses_and_repeats_nothing(hosts, certificate, sizes, step):
    """One thread moves both ends by a selector, as a server with an event loop does."""
    data = os.urandom(sum(sizes))
    with tls_pair(hosts[0], certificate) as (near, far), selectors.DefaultSelector() as waits:
        for end in (near, far):
            end.setblocking(False)
            waits.register(end, selectors.EVENT_READ | selectors.EVENT_WRITE)
        left, got = [data[sum(sizes[:i]) :][:size] for i, size in enumerate(sizes)], b""
        while len(got) < len(data):
            assert waits.select(30)
            if left:
                with contextlib.suppress(ssl.SSLWantWriteError):
                    left[0] = left[0][near.send(left[0]) :]
                    left = left if left[0] else left[1:]
            with contextlib.suppress(ssl.SSLWantReadError):
                while True:
                    got += far.recv(step)
        assert got == data


def test_tls_sends_what_was_left_with_any_next_call(hosts, certificate):
    data = os.urandom(1_000_000)
    with tls_pair(hosts[0], certificate) as (near, far):
        near.setblocking(False)
        far.setblocking(False)
        with pytest.raises(ssl.SSLWantWriteError):
            near.send(data)
        got = b""
        while len(got) < len(data):
            with contextlib.suppress(ssl.SSLWantReadError):
                got += far.recv(65536)
            with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
                near.recv(1)
        assert got == data
        assert near.send(data) == len(data)  # the call that had to be repeated: nothing goes twice
        with pytest.raises(ssl.SSLWantReadError):
            far.recv(1)


# --- the command -------------------------------------------------------------------------------

LAB = """
from e1000emu.clock import RealClock
from e1000emu.lab import two_hosts

def build():
    return two_hosts(RealClock().start())
"""
SCRIPT = """
import socket, sys
print(socket.gethostname(), sys.argv, __name__)
with socket.create_server(("", 80)) as server, socket.create_connection(("127.0.0.1", 80)) as one:
    print(server.accept()[0].getpeername()[0], server.net.name)
"""


def command(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "mylab.py").write_text(textwrap.dedent(LAB))
    (tmp_path / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, "-m", "stack.dropin", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.fspath(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_runs_a_program_on_a_host(tmp_path):
    done = command(tmp_path, "--hosts", "mylab:build", "--host", "b", "script.py", "--x", "1")
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "b ['script.py', '--x', '1'] __main__",
        "127.0.0.1 b",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["script.py"], "--hosts"),
        (["--hosts", "mylab", "script.py"], "MODULE:FUNCTION"),
        (["--hosts", "nolab:build", "script.py"], "nolab"),
        (["--hosts", "mylab:nothing", "script.py"], "nothing"),
        (["--hosts", "mylab:build", "--host", "c", "script.py"], "there are a, b"),
    ],
)
def test_the_command_names_what_is_wrong(tmp_path, monkeypatch, capsys, words, said):
    (tmp_path / "mylab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mylab", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code
    assert said in f"{ended.value.code} {capsys.readouterr().err}"
