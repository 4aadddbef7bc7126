"""Classes of CPython's Lib/test/test_socket.py, run over sockets of this stack.

tests/cpython/table.py lists what is run, and what is not with its reason.
"""

from __future__ import annotations

import array
import os
import signal
import sys
import types
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import RealClock
from stack import COMPILED
from stack.core.bsd_socket import sys_close
from stack.host import Host
from stack.socket import MSG_PEEK, SOCK_DGRAM, Socket
from tests.cpython import world
from tests.cpython.table import CLASSES_LEFT_OUT, LEFT_OUT, SINCE, classes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tests are Linux's here")


def close(host: Host, fd: int) -> None:
    """close(2) of a number of the host's."""
    with host.lock:
        sys_close(host, fd)


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
                    close(self.host, fd)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    # The tests' alarms are the main thread's. One that the clock's thread took could be handled
    # after the test's end: by pytest-timeout's handler, for SIGALRM is its signal too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    clock = RealClock().start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
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
    made.SendfileUsingSendTest.meth_from_sock = lambda test, sock: sock.sendfile
    made.os = Os(host)
    made.os_helper = OsHelper(host, made.os_helper)
    return made


class Os(types.ModuleType):
    """`os`, with the numbers of the host's sockets in the place of files; pipes are pairs."""

    def __init__(self, host: Host) -> None:
        super().__init__("os")
        self.__dict__.update(vars(os))
        self.close = lambda fd: close(host, fd)
        self.read = lambda fd, size: Socket.from_host_fd(host, fd).recv(size)
        self.write = lambda fd, data: Socket.from_host_fd(host, fd).send(data)
        self.pipe = lambda: tuple(sock.host_fd for sock in host.socketpair())


class OsHelper(types.ModuleType):
    """`test.support.os_helper`, which removes what was bound."""

    def __init__(self, host: Host, real: types.ModuleType) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(vars(real))
        self.unlink = lambda path: os.unlink(path) if os.path.exists(path) else host.unlink(path)


def names_of(name: str) -> list[str]:
    """The names of a class's tests, found without running anything of it."""
    try:
        from test import test_socket
    except ImportError:
        return []
    cls = getattr(test_socket, name, None)
    return [] if cls is None else list(unittest.TestLoader().getTestCaseNames(cls))


def joined(case: unittest.TestCase) -> unittest.TestCase:
    """The case, with its client's thread at its end before anything is cleaned up.

    A client that registers `self.cli.close` does so, as the threads happen to run, after the wait
    for that client was registered. What is last is done first, and the socket goes while the client
    still asks for its name.
    """
    tear_down = case.tearDown

    def wait() -> None:
        tear_down()
        if (done := getattr(case, "done", None)) is not None:
            done.wait()

    case.tearDown = wait  # type: ignore[method-assign]
    return case


@pytest.mark.parametrize(
    ("cls", "test"), [(name, test) for name in classes() for test in names_of(name)]
)
def test_as_cpython(module: types.ModuleType, cls: str, test: str) -> None:
    reason = LEFT_OUT.get(f"{cls}.{test}") or LEFT_OUT.get(test)
    if reason:
        pytest.skip(reason)
    if cls.startswith("Interrupted") and not COMPILED:
        pytest.skip("a signal's handler raises, and uncompiled any line of the stack may be where")
    kind: Any = module.socket.socket
    kind.used = 0
    result = unittest.TestResult()
    unittest.TestSuite([joined(getattr(module, cls)(test))])(result)
    module.socket.setdefaulttimeout(None)
    problems = [text for _, text in (*result.failures, *result.errors)]
    assert not problems, "\n".join(problems)
    if result.skipped:
        pytest.skip(result.skipped[0][1])
    assert result.testsRun == 1
    assert kind.used > 1, "the test asked the stack for nothing: its place is in LEFT_OUT"


def test_what_is_left_out_exists() -> None:
    known = {test for name in classes() for test in names_of(name)}
    full = {f"{name}.{test}" for name in classes() for test in names_of(name)}
    if not known:
        pytest.skip("this Python came without its own tests (test.test_socket)")
    expected = {test for test in LEFT_OUT if sys.version_info >= SINCE.get(test, (3, 11))}
    assert expected <= known | full


def test_every_class_is_in_the_table(module: types.ModuleType) -> None:
    there = {
        name
        for name, cls in vars(module).items()
        if isinstance(cls, type)
        and issubclass(cls, unittest.TestCase)
        and unittest.TestLoader().getTestCaseNames(cls)
    }
    assert there - {*classes(), *CLASSES_LEFT_OUT} == set()
