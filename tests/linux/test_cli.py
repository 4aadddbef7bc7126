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
from tests.linux.peer import IPV4, IPV6, LINUX, LINUX6, Family, Peer, judged, pattern, receive_all
from tests.support import require

pytestmark = pytest.mark.netns
E1000EMU = (sys.executable, "-m", "e1000emu")


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A namespace whose kernel has a TAP that waits for a program to open it."""
    require.taps()
    made = Peer()
    try:
        made.ip("tuntap", "add", "dev", made.tap_name, "mode", "tap")
        made.bring_up(made.tap_name, ipv6=True)
        yield made
    finally:
        made.close()


def link(peer: Peer, family: Family) -> tuple[str, ...]:
    return ("--link", f"tap:{peer.tap_name}", "--addr", family.our_addr)


def start_up(peer: Peer, family: Family, *options: str) -> subprocess.Popen[bytes]:
    """Start `e1000emu up` and wait until it answers."""
    ping = require.tool("ping", "iputils-ping")
    process = peer.start(*E1000EMU, "up", *link(peer, family), *options)
    for _ in range(60):
        if peer.run(ping, "-c", "1", "-W", "1", family.ours, check=False).returncode == 0:
            return process
        if process.poll() is not None:
            break
    process.kill()
    out, err = process.communicate()
    raise AssertionError(f"up does not answer:\n{out.decode()}\n{err.decode()}")


@pytest.mark.parametrize(
    ("family", "stop"), [(IPV4, signal.SIGINT), (IPV6, signal.SIGTERM)], ids=str
)
def test_up_serves_until_a_signal_ends_it(
    peer: Peer, family: Family, tmp_path: Path, stop: signal.Signals
) -> None:
    curl = require.tool("curl")
    body = pattern(5_000_000)
    (tmp_path / "file.bin").write_bytes(body)
    capture = tmp_path / "up.pcapng"
    process = start_up(
        peer,
        family,
        "--serve",
        f"echo:7,discard:9,chargen:19,http:80:{tmp_path}",
        "--capture",
        str(capture),
    )
    url = f"http://{family.in_url(family.ours)}/file.bin"
    got = peer.run(curl, "-gsS", "--noproxy", "*", url).stdout
    assert hashlib.sha256(got).digest() == hashlib.sha256(body).digest()
    with peer.socket(family=family.af) as echo:
        echo.connect((family.ours, 7))
        sender = threading.Thread(
            target=lambda: (echo.sendall(body), echo.shutdown(socket.SHUT_WR))
        )
        sender.start()
        assert receive_all(echo) == body
        sender.join()
    with peer.socket(family=family.af) as chargen:
        chargen.connect((family.ours, 19))
        assert chargen.recv(20).startswith(b" !\"#$%&'()*+,-./0123"[:1])
    process.send_signal(stop)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err.decode()
    assert b"Traceback" not in err
    assert sum(1 for _ in read_capture(capture)) > 1000
    require.tool("tshark")
    assert list(judged(capture)) == []


def test_ping_status_tells_whether_it_was_answered(peer: Peer, family: Family) -> None:
    words = (*E1000EMU, "ping", f"-{family.name[-1]}", *link(peer, family), "-i", "1")
    done = peer.run(*words, family.linux, "-c", "3", "-s", "4000")
    assert done.returncode == 0
    assert b"3 received" in done.stdout
    done = peer.run(
        *(*words, family.nobody, "-c", "2", "-W", "1"),
        check=False,
    )
    assert done.returncode not in (0, None)
    assert b"Traceback" not in done.stderr


def test_get_fetches_a_file_whole(peer: Peer, family: Family, tmp_path: Path) -> None:
    body = pattern(20_000_000, seed=6)
    (tmp_path / "data").write_bytes(body)
    listener = peer.socket(family=family.af)
    listener.bind((family.linux, 8080))
    listener.listen(8)
    handler = functools.partial(Quiet, directory=str(tmp_path))
    server = http.server.HTTPServer((family.linux, 8080), handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    listener.settimeout(None)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        site = f"http://{family.in_url(family.linux)}:8080"
        url = f"{site}/data"
        out = tmp_path / "out"
        done = peer.run(*E1000EMU, "get", url, *link(peer, family), "-o", str(out), "--json")
        assert out.read_bytes() == body
        assert isinstance(json.loads(done.stdout), dict)
        assert peer.run(*E1000EMU, "get", url, *link(peer, family)).stdout == body
        missing = peer.run(*E1000EMU, "get", f"{site}/no", *link(peer, family), check=False)
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
    process = start_up(peer, IPV4)
    time.sleep(0.1)
    second = peer.run(*E1000EMU, "ping", LINUX, *link(peer, IPV4), check=False)
    assert second.returncode != 0
    lines = second.stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert "in use" in lines[0]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)


def test_slaac_commands_take_their_addresses_from_radvd(peer: Peer, tmp_path: Path) -> None:
    """`--slaac` with a router that nobody told us of: ping it, fetch through it, be reached."""
    radvd = require.tool("radvd")
    peer.write("/proc/sys/net/ipv6/conf/all/forwarding", 1)
    conf = tmp_path / "radvd.conf"
    conf.write_text(
        f"interface {peer.tap_name} {{ AdvSendAdvert on; MinRtrAdvInterval 3; "
        "MaxRtrAdvInterval 4; prefix 2001:db8:9::/64 { }; };"
    )
    words = ("-n", "-C", str(conf), "-m", "stderr", "-p", str(tmp_path / "pid"))
    peer.start(radvd, *words)
    slaac = ("--link", f"tap:{peer.tap_name}", "--slaac")
    # Beyond the router: an address of no network of ours.
    peer.ip("addr", "add", "2001:db8:ffff::1/128", "dev", "lo")
    for dest in (LINUX6, "2001:db8:ffff::1"):
        done = peer.run(*E1000EMU, "ping", *slaac, "-c", "2", "-i", "1", dest, check=False)
        assert b"2 received" in done.stdout, done.stdout + done.stderr
    process = peer.start(*E1000EMU, "up", *slaac, "--serve", "echo:7", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["event"] == "ready"
    (addr,) = [a.split("/")[0] for a in ready["addrs"] if a.startswith("2001:db8:9:")]
    with peer.socket(family=socket.AF_INET6) as echo:
        echo.connect((addr, 7))
        echo.sendall(b"hello")
        assert receive_all(echo, 5) == b"hello"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err.decode()
