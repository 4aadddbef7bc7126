"""`e1000emu up`, `ping` and `get` against a Linux kernel, as a user starts them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e1000emu.capture import read_capture
from tests.linux.peer import LINUX, OURS, Peer, judged, pattern, receive_all
from tests.support import require

pytestmark = pytest.mark.netns
E1000EMU = (sys.executable, "-m", "e1000emu")


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A namespace whose kernel has a TAP that waits for a program to open it."""
    require.netns()
    require.tun()
    made = Peer()
    try:
        made.ip("tuntap", "add", "dev", made.tap_name, "mode", "tap")
        made.ip("link", "set", "lo", "up")
        made.ip("addr", "add", f"{LINUX}/24", "dev", made.tap_name)
        made.ip("link", "set", made.tap_name, "up")
        yield made
    finally:
        made.close()


def link(peer: Peer) -> tuple[str, ...]:
    return ("--link", f"tap:{peer.tap_name}", "--addr", f"{OURS}/24")


def start_up(peer: Peer, *options: str) -> subprocess.Popen[bytes]:
    """Start `e1000emu up` and wait until it answers."""
    ping = require.tool("ping", "iputils-ping")
    process = peer.start(*E1000EMU, "up", *link(peer), *options)
    for _ in range(60):
        if peer.run(ping, "-c", "1", "-W", "1", OURS, check=False).returncode == 0:
            return process
        if process.poll() is not None:
            break
    process.kill()
    out, err = process.communicate()
    raise AssertionError(f"up does not answer:\n{out.decode()}\n{err.decode()}")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_up_serves_until_a_signal_ends_it(peer: Peer, tmp_path: Path, stop: signal.Signals) -> None:
    curl = require.tool("curl")
    body = pattern(5_000_000)
    (tmp_path / "file.bin").write_bytes(body)
    capture = tmp_path / "up.pcapng"
    process = start_up(
        peer,
        "--serve",
        f"echo:7,discard:9,chargen:19,http:80:{tmp_path}",
        "--capture",
        str(capture),
    )
    got = peer.run(curl, "-sS", "--noproxy", "*", f"http://{OURS}/file.bin").stdout
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    with peer.socket() as echo:
        echo.connect((OURS, 7))
        sender = threading.Thread(
            target=lambda: (echo.sendall(body), echo.shutdown(socket.SHUT_WR))
        )
        sender.start()
        assert receive_all(echo) == body
        sender.join()
    with peer.socket() as chargen:
        chargen.connect((OURS, 19))
        assert chargen.recv(20).startswith(b" !\"#$%&'()*+,-./0123"[:1])
    process.send_signal(stop)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    assert sum(1 for _ in read_capture(capture)) > 1000
    require.tool("tshark")
    assert list(judged(capture)) == []


def test_ping_status_tells_whether_it_was_answered(peer: Peer) -> None:
    done = peer.run(*E1000EMU, "ping", LINUX, *link(peer), "-c", "3", "-i", "0.05", "-s", "4000")
    assert done.returncode == 0
    done = peer.run(
        *(*E1000EMU, "ping", "10.9.0.77", *link(peer), "-c", "2", "-i", "0.05", "-W", "1"),
        check=False,
    )
    assert done.returncode not in (0, None)
    assert b"Traceback" not in done.stderr


def test_get_fetches_a_file_whole(peer: Peer, tmp_path: Path) -> None:
    body = pattern(20_000_000, seed=6)
    (tmp_path / "data").write_bytes(body)
    listener = peer.socket()
    listener.bind((LINUX, 8080))
    listener.listen(8)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.HTTPServer((LINUX, 8080), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    listener.settimeout(None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"http://{LINUX}:8080/data"
        out = tmp_path / "out"
        done = peer.run(*E1000EMU, "get", url, *link(peer), "-o", str(out), "--json")
        assert out.read_bytes() == body
        assert isinstance(json.loads(done.stdout), dict)
        assert peer.run(*E1000EMU, "get", url, *link(peer)).stdout == body
        missing = peer.run(*E1000EMU, "get", f"http://{LINUX}:8080/no", *link(peer), check=False)
        assert missing.returncode != 0
        assert b"404" in missing.stderr
    finally:
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a directory without a log."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_tap_that_is_in_use_is_said_in_one_line(peer: Peer) -> None:
    process = start_up(peer)
    time.sleep(0.1)
    second = peer.run(*E1000EMU, "ping", LINUX, *link(peer), check=False)
    assert second.returncode != 0
    lines = second.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert "in use" in lines[0]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
