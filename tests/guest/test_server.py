"""`e1000emu vfio-user` as a process of its own: guests come and go, garbage comes, it is killed.

The first server serves the tests in their order, each after what the one before left behind.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.guest import GuestImage
from tests.guest.setup import (
    DATA_PORT,
    GUEST,
    LINUX,
    WAIT_S,
    all_traffic,
    boot,
    configure,
    driver_of,
    ping,
    self_test,
    trouble,
    wait_carrier,
)
from tests.linux.peer import Peer
from tests.support import require

pytestmark = [pytest.mark.netns, pytest.mark.slow]


MODEL = "82540EM"


class Server:
    """The command in a namespace of its own, in front of a TAP there."""

    def __init__(self, directory: Path, model: str) -> None:
        self.peer = Peer()
        self.path = directory / "nic"
        self._said = directory / "said"
        try:
            tap = self.peer.tap_name
            self.peer.ip("tuntap", "add", "dev", tap, "mode", "tap")
            self.peer.ip("addr", "add", f"{LINUX}/24", "dev", tap)
            self.peer.ip("link", "set", tap, "up")
            command = ["ip", "netns", "exec", self.peer.name, sys.executable, "-m", "e1000emu"]
            command += ["vfio-user", "--socket", str(self.path), "--link", f"tap:{tap}"]
            command += ["--model", model, "--json"]
            with open(self._said, "wb") as said:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
                )
            assert self.process.stdout is not None
            line = self.process.stdout.readline()
            assert line, self.said()
            self.ready: dict[str, Any] = json.loads(line)
        except BaseException:
            self.peer.close()
            raise

    def said(self) -> str:
        return self._said.read_text()

    def wait_said(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.said().count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in:\n{self.said()}"
            time.sleep(0.05)

    def end(self) -> dict[str, Any]:
        """Ask it to end and return its last report."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=WAIT_S)
        assert self.process.returncode == 0
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
        return report

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.peer.close()


@pytest.fixture(scope="module")
def server(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for most guests and others of this file."""
    require.taps()
    made = Server(tmp_path_factory.mktemp("server"), MODEL)
    yield made
    made.close()


def garbage() -> list[bytes]:
    rng = random.Random(7)
    version = vu.pack(1, 1, bytes(4))
    return [
        rng.randbytes(4096),
        bytes(4096),
        b"\xff" * 4096,
        b"GET / HTTP/1.1\r\nHost: nic\r\n\r\n",
        vu.pack(1, 9, vu.REGION_ACCESS.pack(0, 0, 4)),  # before VERSION
        version[:7],  # and no more of it
        version + vu.pack(2, 4711, rng.randbytes(40)),
        version + vu.pack(2, 9, vu.REGION_ACCESS.pack(1 << 63, 0, 4)),
        version + vu.pack(2, 10, vu.REGION_ACCESS.pack(0, 99, 8) + bytes(8)),
        version + vu.pack(2, 2, rng.randbytes(32)),
        version + rng.randbytes(60_000),
    ]


def test_garbage_is_refused_with_a_word_and_the_server_lives(server):
    for number, data in enumerate(garbage()):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT_S)
            client.connect(os.fspath(server.path))
            server.wait_said("client connected", number + 1)
            try:
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                while client.recv(1 << 16):
                    pass
            except (ConnectionResetError, BrokenPipeError):
                pass  # it need not read to the end what it has refused
        server.wait_said("client gone", number + 1)
    assert server.process.poll() is None
    said = server.said()
    assert "refused:" in said
    assert "Traceback" not in said


def test_qemu_that_is_killed_makes_room_for_the_next(image, server):
    before = server.said().count("client gone")
    with boot(image, server.path, MODEL) as guest:
        works(guest, server)
        guest.spawn(f"ping -f {LINUX}")
        ping(guest, count=10)
        os.kill(guest.pid, signal.SIGKILL)
        server.wait_said("client gone", before + 1)


@pytest.mark.parametrize(
    "options",
    [{"x-send-queued": True}, {"x-no-posted-writes": True}],
    ids=["send-queued", "no-posted-writes"],
)
def test_the_next_qemu_works_whatever_its_options(image, server, options):
    before = server.said().count("client gone")
    with boot(image, server.path, MODEL, options) as guest:
        works(guest, server)
        self_test(guest)
        wait_carrier(guest)
        ping(guest)
        assert trouble(guest) == []
        guest.shutdown()
    server.wait_said("client gone", before + 1)


def works(guest, server):
    """Try traffic of each kind, and that nobody else gets in meanwhile."""
    configure(guest)
    all_traffic(guest, server.peer)
    before = server.said().count("a second client was turned away")
    with socket.socket(socket.AF_UNIX) as second:
        second.settimeout(WAIT_S)
        second.connect(os.fspath(server.path))
        assert second.recv(1) == b""
    server.wait_said("a second client was turned away", before + 1)
    ping(guest)
    assert trouble(guest) == []


def test_the_last_report_has_them_all(server):
    report = server.end()
    assert report["clients"] == server.said().count("client connected") >= 3
    assert report["tx_frames"] > 100
    assert report["rx_frames"] > 0
    assert not server.path.exists()


@pytest.mark.parametrize(
    ("model", "direction", "how"),
    [("82545EM", "sends", signal.SIGKILL), ("82544GC", "receives", signal.SIGTERM)],
    ids=["killed", "ended"],
)
def test_guest_survives_a_server_that_goes_in_mid_traffic(image, model, tmp_path, direction, how):
    require.taps()
    port = DATA_PORT + 1
    made = Server(tmp_path, model)
    try:
        with boot(image, made.path, model) as guest:
            configure(guest)
            if direction == "sends":
                with made.peer.socket() as listener:
                    listener.bind((LINUX, port))
                    listener.listen(1)
                    listener.settimeout(WAIT_S)
                    stream = guest.spawn(f"cat /dev/zero >/dev/tcp/{LINUX}/{port}")
                    sock, _ = listener.accept()
                with sock:
                    sock.settimeout(WAIT_S)
                    for _ in range(50):  # it flows
                        assert sock.recv(1 << 16)
                    made.process.send_signal(how)
                    made.process.wait(WAIT_S)
            else:
                stream = guest.spawn(f"busybox nc -l -p {port} >/dev/null")
                guest.run(f"until ss -ltn | grep -q :{port}; do sleep 0.1; done").check()
                with made.peer.socket() as sock:
                    sock.settimeout(WAIT_S)
                    sock.connect((GUEST, port))
                    for _ in range(50):
                        sock.sendall(bytes(1 << 16))
                    made.process.send_signal(how)
                    made.process.wait(WAIT_S)
            assert guest.run("echo alive").check().stdout == "alive\n"
            assert "eth0" in guest.run("ip -s link show eth0").check().stdout
            # the driver, whose reads are all ones now, must come to an end with what it is asked
            guest.run("ethtool -S eth0")
            guest.run("ip link set eth0 down").check()
            stream.kill()
            guest.run(f"rmmod {driver_of(model)}").check()
            assert guest.run("echo alive").check().stdout == "alive\n"
            guest.shutdown()
    finally:
        made.close()
