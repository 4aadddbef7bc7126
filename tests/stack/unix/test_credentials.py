"""struct ucred with numbers that need all 32 bits, against the kernel's."""

from __future__ import annotations

import socket as linux
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import ArgumentError
from stack.core.scm import PID
from stack.core.uapi import SCM_CREDENTIALS, SO_PASSCRED, SO_PEERCRED
from stack.host import Host
from stack.socket import AF_UNIX, SOCK_STREAM, SOL_SOCKET, socketpair
from tests.support import require

IDS = [(0, 0), (70_000, 65_536), (2**31 + 5, 2**31), (2**32 - 2, 2**32 - 2)]

PROGRAM = f"""
import os, socket, struct, sys
uid, gid = map(int, sys.argv[1:])
os.setresgid(gid, gid, gid)
os.setresuid(uid, uid, uid)
a, b = socket.socketpair()
b.setsockopt(socket.SOL_SOCKET, {SO_PASSCRED}, 1)
a.send(b"x")
said = struct.pack("=iII", os.getpid(), uid, gid)
a.sendmsg([b"y"], [(socket.SOL_SOCKET, {SCM_CREDENTIALS}, said)])
got = [a.getsockopt(socket.SOL_SOCKET, {SO_PEERCRED}, 12)]
got += [b.recvmsg(1, 100)[1][0][2] for _ in range(2)]
print(*[data[4:].hex() for data in got])
"""


def ours(uid: int, gid: int) -> list[bytes]:
    """The peer's credentials, those of a plain message, those that a message says."""
    with Host("h", clock=VirtualClock(), drivers=False, uid=uid, gid=gid) as host:
        a, b = socketpair(host, AF_UNIX, SOCK_STREAM)
        with a, b:
            b.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
            a.send(b"x")
            said = struct.pack("=iII", PID, uid, gid)
            a.sendmsg([b"y"], [(SOL_SOCKET, SCM_CREDENTIALS, said)])
            peer = a.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
            assert isinstance(peer, bytes)
            return [peer, *(b.recvmsg(1, 100)[1][0][2] for _ in range(2))]


@pytest.mark.parametrize(("uid", "gid"), IDS)
def test_credentials_are_whole(uid: int, gid: int) -> None:
    assert ours(uid, gid) == [struct.pack("=iII", PID, uid, gid)] * 3


@pytest.mark.parametrize(("uid", "gid"), IDS)
def test_credentials_are_the_kernels(uid: int, gid: int) -> None:
    require.root()
    program = [sys.executable, "-I", "-c", PROGRAM, str(uid), str(gid)]
    said = subprocess.run(program, check=True, capture_output=True, text=True).stdout
    assert said.split() == [data[4:].hex() for data in ours(uid, gid)]


def at_the_end(pair: Callable[[], Any], room: int) -> Any:
    """What a stream's reader with SO_PASSCRED gets when its peer has closed."""
    a, b = pair()
    with b:
        b.setsockopt(SOL_SOCKET, SO_PASSCRED, 1)
        a.close()
        return b.recvmsg(10, room)[:3]


@pytest.mark.parametrize("room", [100, 24, 20, 16])
def test_the_end_of_a_stream_has_credentials_of_zeros(room: int) -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host:
        ours = at_the_end(host.socketpair, room)
    assert ours == at_the_end(linux.socketpair, room)


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32])
def test_a_number_that_no_user_has_is_refused(number: int) -> None:
    with pytest.raises(ArgumentError, match="uid"):
        Host("h", clock=VirtualClock(), drivers=False, uid=number)
    with pytest.raises(ArgumentError, match="gid"):
        Host("h", clock=VirtualClock(), drivers=False, gid=number)
