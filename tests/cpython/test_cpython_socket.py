"""Classes of CPython's Lib/test/test_socket.py, run over sockets of this stack.

CLASSES lists what is run, LEFT_OUT the tests of those classes that are not, each with its reason.
"""

from __future__ import annotations

import array
import os
import sys
import types
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import RealClock
from stack.core.socket import sys_close
from stack.host import Host
from stack.socket import MSG_PEEK, SOCK_DGRAM, Socket
from tests.cpython import world

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests are Linux's here")

AF_UNIX = (
    "TestUnixDomain",
    "TestLinuxAbstractNamespace",
    "BasicSocketPairTest",
    "SendmsgUnixStreamTest",
    "RecvmsgUnixStreamTest",
    "RecvmsgIntoUnixStreamTest",
    "RecvmsgSCMRightsStreamTest",
    "RecvmsgIntoSCMRightsStreamTest",
)
CLASSES = AF_UNIX

NOT_BUILT = "needs what the machine that runs the tests may not have"
LEFT_OUT: dict[str, str] = {}


class Files:
    """What SCMRightsTest passes: datagram sockets, each with its number to read, for files."""

    def newFDs(self: Any, n: int) -> list[int]:
        fds = []
        for number in range(n):
            one, two = self.host.socketpair(type=SOCK_DGRAM)
            two.send(str(number).encode())
            two.close()
            self.addCleanup(one.close)
            fds.append(one.host_fd)
        return fds

    def checkFDs(self: Any, fds: list[int]) -> None:
        for number, fd in enumerate(fds):
            got = Socket.from_host_fd(self.host, fd).recv(1024, MSG_PEEK)
            assert got == str(number).encode()

    def closeRecvmsgFDs(self: Any, result: Any) -> None:
        for level, kind, data in result[1]:
            if (level, kind) == (1, 1):
                fds = array.array("i")
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
                for fd in fds:
                    sys_close(self.host, fd)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    clock = RealClock().start()
    with Host("cpython", clock=clock) as host:
        yield host
    clock.stop()


@pytest.fixture(scope="module")
def module(host: Host) -> types.ModuleType:
    made = world.load(host)
    made.SCMRightsTest.newFDs = Files.newFDs
    made.SCMRightsTest.checkFDs = Files.checkFDs
    made.SCMRightsTest.closeRecvmsgFDs = Files.closeRecvmsgFDs
    made.SCMRightsTest.host = host
    made.os = Os(host)
    made.os_helper = OsHelper(host, made.os_helper)
    return made


class Os(types.ModuleType):
    """`os`, with the names of the host's sockets in the place of files."""

    def __init__(self, host: Host) -> None:
        super().__init__("os")
        self.__dict__.update(vars(os))
        self.close = lambda fd: sys_close(host, fd)


class OsHelper(types.ModuleType):
    """`test.support.os_helper`, which removes what was bound."""

    def __init__(self, host: Host, real: types.ModuleType) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(vars(real))
        self.unlink = host.unlink


def names_of(name: str) -> list[str]:
    """The names of a class's tests, found without running anything of it."""
    try:
        from test import test_socket
    except ImportError:
        return ["all"]
    return unittest.TestLoader().getTestCaseNames(getattr(test_socket, name))


@pytest.mark.parametrize(
    ("cls", "test"), [(name, test) for name in CLASSES for test in names_of(name)]
)
def test_as_cpython(module: types.ModuleType, cls: str, test: str) -> None:
    reason = LEFT_OUT.get(f"{cls}.{test}") or LEFT_OUT.get(test)
    if reason:
        pytest.skip(reason)
    result = unittest.TestResult()
    getattr(module, cls)(test).run(result)
    problems = [text for _, text in (*result.failures, *result.errors)]
    assert not problems, "\n".join(problems)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    assert result.testsRun == 1


def test_what_is_left_out_exists() -> None:
    known = {test for name in CLASSES for test in names_of(name)}
    full = {f"{name}.{test}" for name in CLASSES for test in names_of(name)}
    assert known == {"all"} or set(LEFT_OUT) <= known | full
