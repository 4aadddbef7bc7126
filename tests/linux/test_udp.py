"""UDP between our sockets and a Linux kernel's."""

from __future__ import annotations

import errno
import socket
import struct
import time

import pytest

from stack.core.uapi import SO_TIMESTAMPNS
from tests.linux.peer import Family, Wire, pattern
from tests.support import errno_of, require

pytestmark = pytest.mark.netns


@pytest.mark.parametrize("size", [0, 1, 64, 1452, 1453, 1472, 1473, 9000, 65507])
def test_datagrams_arrive_whole_both_ways(wire: Wire, family: Family, size: int) -> None:
    data = pattern(size, seed=size)
    ours, theirs = (
        wire.socket(socket.SOCK_DGRAM, family=family.af),
        wire.peer.socket(socket.SOCK_DGRAM, family=family.af),
    )
    with theirs:
        ours.bind((family.ours, 0))
        theirs.bind((family.linux, 0))
        theirs.sendto(data, ours.getsockname())
        got, source = ours.recvfrom(70000)
        assert got == data
        assert source == theirs.getsockname()
        ours.sendto(data, theirs.getsockname())
        got, source = theirs.recvfrom(70000)
        assert got == data
        assert source == ours.getsockname()
    ours.close()


def test_many_datagrams_keep_their_order(wire: Wire, family: Family) -> None:
    ours, theirs = (
        wire.socket(socket.SOCK_DGRAM, family=family.af),
        wire.peer.socket(socket.SOCK_DGRAM, family=family.af),
    )
    with theirs:
        ours.bind((family.ours, 0))
        theirs.bind((family.linux, 0))
        for first in range(0, 2000, 50):
            for i in range(first, first + 50):
                theirs.sendto(i.to_bytes(4, "big") * 16, ours.getsockname())
            for i in range(first, first + 50):
                assert ours.recv(100) == i.to_bytes(4, "big") * 16
                ours.sendto(i.to_bytes(4, "big"), theirs.getsockname())
            for i in range(first, first + 50):
                assert theirs.recv(100) == i.to_bytes(4, "big")
    ours.close()


def test_closed_port_answers_refused_both_ways(wire: Wire, family: Family) -> None:
    with wire.peer.socket(socket.SOCK_DGRAM, family=family.af) as theirs:
        theirs.connect((family.ours, 9))
        theirs.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            theirs.recv(10)
    ours = wire.socket(socket.SOCK_DGRAM, family=family.af)
    ours.connect((family.linux, 9))
    ours.send(b"x")
    assert errno_of(ours.recv, 10) == errno.ECONNREFUSED
    ours.close()


def test_netcat_sends_us_a_datagram(wire: Wire, family: Family) -> None:
    nc = require.tool("nc.openbsd", "netcat-openbsd")
    ours = wire.socket(socket.SOCK_DGRAM, family=family.af)
    ours.bind((family.ours, 4000))
    wire.peer.run(nc, "-u", "-w", "1", family.ours, "4000", stdin=b"hello\n")
    assert ours.recv(100) == b"hello\n"
    ours.close()


@pytest.mark.parametrize("reader", ["linux", "ours"])
def test_a_time_stamp_is_of_the_arrival_not_of_the_reading(
    wire: Wire, family: Family, reader: str
) -> None:
    ours = wire.socket(socket.SOCK_DGRAM, family=family.af)
    with wire.peer.socket(socket.SOCK_DGRAM, family=family.af) as theirs:
        ours.bind((family.ours, 0))
        theirs.bind((family.linux, 0))
        here, there = (theirs, ours) if reader == "linux" else (ours, theirs)
        here.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sent = time.time_ns()
        there.sendto(b"when", here.getsockname())
        here.recv(10, socket.MSG_PEEK)
        came = time.time_ns()
        time.sleep(0.05)  # a stamp of the reading would be later than `came`
        _, [(_, kind, data)], _, _ = here.recvmsg(10, 100)
        sec, nsec = struct.unpack("=qq", data)
        assert kind == SO_TIMESTAMPNS
        assert sent <= sec * 10**9 + nsec <= came
    ours.close()
