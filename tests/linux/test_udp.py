"""UDP between our sockets and a Linux kernel's."""

from __future__ import annotations

import errno
import socket

import pytest

from tests.linux.peer import LINUX, OURS, Wire, pattern

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("size", [0, 1, 64, 1472, 1473, 9000, 65507])
def test_datagrams_arrive_whole_both_ways(wire: Wire, size: int) -> None:
    data = pattern(size, seed=size)
    ours, theirs = wire.socket(socket.SOCK_DGRAM), wire.peer.socket(socket.SOCK_DGRAM)
    with theirs:
        ours.bind((OURS, 0))
        theirs.bind((LINUX, 0))
        theirs.sendto(data, ours.getsockname())
        got, source = ours.recvfrom(70000)
        assert got == data
        assert source == theirs.getsockname()
        ours.sendto(data, theirs.getsockname())
        got, source = theirs.recvfrom(70000)
        assert got == data
        assert source == ours.getsockname()
    ours.close()


def test_many_datagrams_keep_their_order(wire: Wire) -> None:
    ours, theirs = wire.socket(socket.SOCK_DGRAM), wire.peer.socket(socket.SOCK_DGRAM)
    with theirs:
        ours.bind((OURS, 0))
        theirs.bind((LINUX, 0))
        for first in range(0, 2000, 50):
            for i in range(first, first + 50):
                theirs.sendto(i.to_bytes(4, "big") * 16, ours.getsockname())
            for i in range(first, first + 50):
                assert ours.recv(100) == i.to_bytes(4, "big") * 16
                ours.sendto(i.to_bytes(4, "big"), theirs.getsockname())
            for i in range(first, first + 50):
                assert theirs.recv(100) == i.to_bytes(4, "big")
    ours.close()


def test_closed_port_answers_refused_both_ways(wire: Wire) -> None:
    with wire.peer.socket(socket.SOCK_DGRAM) as theirs:
        theirs.connect((OURS, 9))
        theirs.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            theirs.recv(10)
    ours = wire.socket(socket.SOCK_DGRAM)
    ours.connect((LINUX, 9))
    ours.send(b"x")
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno is looked at below
        ours.recv(10)
    assert caught.value.errno == errno.ECONNREFUSED
    ours.close()


def test_netcat_sends_us_a_datagram(wire: Wire) -> None:
    from tests.support import require

    nc = require.tool("nc.openbsd", "netcat-openbsd")
    ours = wire.socket(socket.SOCK_DGRAM)
    ours.bind((OURS, 4000))
    wire.peer.run(nc, "-u", "-w", "1", OURS, "4000", stdin=b"hello\n")
    assert ours.recv(100) == b"hello\n"
    ours.close()
