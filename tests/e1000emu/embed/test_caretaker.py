"""A client whose server ends, or is killed, reads the end of the stream and no reset."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from e1000emu.embed.vfio_user.caretaker import Caretaker, hang_up

TIMEOUT_S = 60


@pytest.fixture
def ends():
    one, two = socket.socketpair()
    one.settimeout(TIMEOUT_S)
    with one, two:
        yield one, two


def test_unread_bytes_reset_the_peer_when_a_socket_is_just_closed(ends):
    """What all this is about; when it fails, Linux has changed and the rest is not needed."""
    client, server = ends
    client.send(b"nobody reads this")
    server.close()
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_hang_up_ends_the_stream_whatever_was_unread(ends):
    client, server = ends
    client.send(b"nobody reads this" * 5000)
    server.send(b"an answer")
    hang_up(server)
    assert client.recv(100) == b"an answer"
    assert client.recv(100) == b""
    hang_up(server)  # a second time does no harm


def test_hang_up_when_the_peer_is_gone(ends):
    client, server = ends
    client.close()
    hang_up(server)
    assert server.fileno() < 0


def killed_server(client: socket.socket, server: socket.socket, with_caretaker: bool) -> None:
    """Let a process serve `server`, have bytes unread there, and kill it."""
    code = f"""
import signal, socket, sys
from e1000emu.embed.vfio_user.caretaker import Caretaker
sock = socket.socket(fileno={server.fileno()})
if {with_caretaker}:
    caretaker = Caretaker()  # without a name it would be gone at once, and hang up
    caretaker.hold(sock)
sock.send(b"ready")
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=(server.fileno(),))
    server.close()
    assert client.recv(5) == b"ready"
    client.send(b"nobody reads this")
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_killed_server_ends_the_stream(ends):
    client, server = ends
    killed_server(client, server, True)
    assert client.recv(1) == b""


def test_killed_server_without_a_caretaker_resets_the_peer(ends):
    client, server = ends
    killed_server(client, server, False)
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_caretaker_lets_go_of_a_connection_that_has_ended(ends):
    client, server = ends
    with Caretaker() as caretaker:
        caretaker.hold(server)
        server.send(b"1")
        assert client.recv(1) == b"1"
        held = f"/proc/{caretaker.pid}/fd"
        deadline = time.monotonic() + TIMEOUT_S
        before = 0
        while before < 5:  # 0, 1, 2, its socket and ours
            before = len(os.listdir(held))
            assert time.monotonic() < deadline
        hang_up(server)
        assert client.recv(1) == b""
        while len(os.listdir(held)) >= before:
            assert time.monotonic() < deadline


def test_caretaker_that_is_gone_stops_nobody(ends):
    client, server = ends
    caretaker = Caretaker()
    os.kill(caretaker.pid, signal.SIGKILL)
    caretaker._process.wait()
    for _ in range(3):
        caretaker.hold(server)
    server.send(b"on")
    assert client.recv(2) == b"on"
    caretaker.close()
    caretaker.close()


def test_many_clients_come_and_go():
    with Caretaker() as caretaker:
        for _ in range(300):
            client, server = socket.socketpair()
            caretaker.hold(server)
            client.send(b"x")
            hang_up(server)
            client.settimeout(TIMEOUT_S)
            assert client.recv(1) == b""
            client.close()
