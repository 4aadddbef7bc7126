"""`e1000emu get` against servers that keep HTTP's rules and servers that do not."""

from __future__ import annotations

import asyncio
import fcntl
import io
import json
import os
import random
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from e1000emu import RealClock
from e1000emu.cli.errors import ArgumentError
from e1000emu.cli.get import OutputError, fetch, parse_url
from e1000emu.cli.servespec import parse_serve
from e1000emu.cli.services import _resource
from e1000emu.errors import E1000Error
from e1000emu.lab import two_hosts
from stack.socket import AF_INET, SOCK_STREAM, Socket
from tests.e1000emu.cli.test_cli import run

Fetch = Callable[..., bytes]
PORT = 8080
OK = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def served() -> Iterator[Fetch]:
    """`served(answer, url=...)`: fetch `url` from a server that says `answer` and closes."""
    clock = RealClock().start()
    with clock.lock:
        client, server = two_hosts(clock, autoneg_ns=1_000_000)
        listener = Socket(server, AF_INET, SOCK_STREAM)
        listener.bind(("10.0.0.2", PORT))
        listener.listen(4)

    def get(answer: bytes, url: str = f"http://10.0.0.2:{PORT}/", out: object = None) -> bytes:
        requests: list[bytes] = []

        def serve() -> None:
            with clock.lock:
                connection, _ = listener.accept()
                with connection:
                    requests.append(connection.recv(65536))
                    # Who has read enough to know better closes before the end of a long one.
                    with suppress(ConnectionResetError):
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        body = io.BytesIO() if out is None else out
        try:
            with clock.lock:
                fetch(client, parse_url(url), body, 60.0)
        finally:
            thread.join()
            get.request = requests[0]  # type: ignore[attr-defined]
            get.body = body.getvalue() if out is None else b""  # type: ignore[attr-defined]
        return get.body  # type: ignore[attr-defined,no-any-return]

    yield get
    with clock.lock:
        listener.close()
        client.close()
        server.close()
    clock.stop()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            b"hello world",
        ),
    ],
)
def test_get_reads_every_kind_of_body(served: Fetch, answer: bytes, body: bytes) -> None:
    assert served(answer) == body


@pytest.mark.parametrize(
    ("answer", "words", "kept"),
    [
        (OK + b"Content-Length: 9\r\n\r\nabc", "6 bytes missing", b"abc"),
        (
            OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nff\r\n x",
            "the answer ended early; try",
            b"hello",
        ),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello", "ended early", b""),
        (bytes(range(256)), "not an HTTP answer", b""),
        (b"", "not an HTTP answer", b""),
        (OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n", "not an HTTP answer", b""),
        (OK + b"X: a\r\n" * 1000 + b"\r\n", "not an HTTP answer", b""),
        (b"HTTP/1.1 404 gone \x1b[31m\r\n\r\n", r"404 gone \?\[31m", b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.2:999999/\r\n\r\n", "Port out of", b""),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_get_explains_a_bad_answer(served: Fetch, answer: bytes, words: str, kept: bytes) -> None:
    with pytest.raises(E1000Error, match=words):
        served(answer)
    assert served.body[: len(kept)] == kept  # type: ignore[attr-defined]


def test_get_quotes_what_a_request_line_may_not_hold(served: Fetch) -> None:
    served(OK + b"Content-Length: 0\r\n\r\n", f"http://10.0.0.2:{PORT}/\u00e4 b%20c?q=%41&r=1")
    assert served.request.startswith(  # type: ignore[attr-defined]
        b"GET /%C3%A4%20b%20c?q=%41&r=1 HTTP/1.1\r\n"
    )


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/a.txt", 200),
        ("/", 404),
        ("/%00", 400),
        ("//[", 400),
        ("/%ff%fe", 404),
        ("/" + "x" * 5000, 404),
        ("/../secret", 404),
        ("/%2e%2e/secret", 404),
        ("/loop", 404),
        ("/out", 404),
    ],
)
def test_the_http_service_answers_every_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, status: int
) -> None:
    """An exception would end `up` with all its services: any peer could ask for that."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("hello")
    (tmp_path / "secret").write_text("secret")
    (root / "loop").symlink_to(root / "loop")
    (root / "out").symlink_to(tmp_path / "secret")
    sent: list[bytes] = []

    async def keep(conn: object, data: bytes) -> None:
        sent.append(bytes(data))

    monkeypatch.setattr("stack.aio.sock_sendall", keep)
    (service,) = parse_serve(f"http:80:{root}")
    asyncio.run(_resource(None, service, "GET", target, True))
    assert sent[0].startswith(b"HTTP/1.1 %d " % status)
    assert b"secret" not in b"".join(sent)


def test_get_tells_the_disk_from_the_network(served: Fetch) -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError):
        served(OK + b"Content-Length: 5\r\n\r\nhello", out=Full())


@pytest.mark.parametrize(
    "url", ["http://10.0.0.2:99999/", "http://[/", "10.0.0.2", "https://10.0.0.2/"]
)
def test_get_refuses_what_is_no_url(url: str) -> None:
    with pytest.raises(E1000Error, match="http://HOST"):
        parse_url(url)


def test_get_can_be_tried_without_a_network(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "file").write_bytes(content)
    link = ("--addr", "10.9.0.2/24", "--link", f"stack:10.9.0.1/24,serve=http:80:{tmp_path}")
    got = tmp_path / "got"
    done = run("get", "http://10.9.0.1/file", *link, "-o", str(got), "--json")
    assert done.returncode == 0, done.stderr
    assert got.read_bytes() == content
    report = json.loads(done.stdout)
    assert (report["status"], report["bytes"]) == (200, len(content))
    done = run("get", "http://10.9.0.1/none", *link)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "e1000emu: http://10.9.0.1/none: 404 Not Found\n"


def test_standard_output_gets_the_rest_when_a_write_is_stopped_half_way(tmp_path: Path) -> None:
    """PYTHONUNBUFFERED makes standard output a file whose write() may take a part only."""
    body = random.Random(3).randbytes(1_000_000)
    (tmp_path / "data").write_bytes(body)
    words = ("get", "http://10.9.0.1/data", "--addr", "10.9.0.2/24", "--link")
    process = subprocess.Popen(
        [sys.executable, "-m", "e1000emu", *words, f"stack:10.9.0.1/24,serve=http:80:{tmp_path}"],
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    assert process.stdout is not None
    room = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)
    filled = bytes(4)
    while int.from_bytes(filled, sys.byteorder) < room:
        assert process.poll() is None
        time.sleep(0.01)
        filled = fcntl.ioctl(process.stdout, termios.FIONREAD, filled)
    process.send_signal(signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    process.send_signal(signal.SIGCONT)
    assert process.stdout.read() == body
    assert process.wait() == 0


def test_a_redirection_to_what_is_no_url_is_not_the_callers_mistake(served: Fetch) -> None:
    with pytest.raises(E1000Error, match=r"redirected to 'ftp:") as caught:
        served(b"HTTP/1.1 302 Found\r\nLocation: ftp://10.0.0.2/\r\n\r\n")
    assert not isinstance(caught.value, ArgumentError)
