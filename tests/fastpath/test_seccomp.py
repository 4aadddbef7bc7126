"""The memory and descriptors of other programs.

What answers calls is tested with programs, tests/programs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base import seccomp
from tests.support import end_of_memory, errno_of

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
ME = os.getpid()


def test_memory_that_is_not_there():
    for call in (
        lambda: seccomp.read_memory(ME, 8, 1),
        lambda: seccomp.write_memory(ME, 8, b"x"),
        lambda: seccomp.read_memory(ME, (1 << 64) - 8, 16),
    ):
        assert errno_of(call) == errno.EFAULT
    with pytest.raises(OSError):  # noqa: PT011 - no such process
        seccomp.read_memory(1 << 22, 4096, 1)
    with pytest.raises(ValueError, match="give 0 to"):
        seccomp.read_memory(ME, 4096, 1 << 40)
    assert seccomp.read_memory(ME, 8, 0) == b""


@given(st.binary(max_size=64), st.integers(0, 80), st.integers(-8, 1 << 12))
def test_memory_is_moved_up_to_the_end_of_a_mapping(data, count, beyond):
    """Negative `beyond` begins before the data."""
    first = min(beyond, 0)
    with end_of_memory(bytes(len(data))) as addr:
        try:
            seccomp.write_memory(ME, addr, data)
            same = seccomp.read_memory(ME, addr, len(data)) == data
            found = bytes(seccomp.read_memory(ME, addr + first, count))
        except OSError as exc:
            found = exc.errno
    assert same
    there = bytes(-first) + data
    assert found == (there[:count] if count <= len(there) else errno.EFAULT)


def test_descriptors_of_others_and_of_nobody():
    read, write = os.pipe()
    with os.fdopen(seccomp.get_fd(ME, write), "wb") as file:
        file.write(b"x")
    assert os.read(read, 10) == b"x"
    for tid, number, code in ((ME, 9999, errno.EBADF), (1 << 22, 0, errno.EINVAL)):
        assert errno_of(seccomp.get_fd, tid, number) in (code, errno.ESRCH)
    os.close(read)
    os.close(write)


@contextlib.contextmanager
def children(count):
    """Processes that have what this one has, as (their numbers)."""
    pids = []
    try:
        for _ in range(count):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def test_what_is_known_of_threads_goes_with_them():
    listener = seccomp.Listener(-1)
    before = len(os.listdir("/proc/self/fd"))
    mine, other = socket.socketpair()
    with mine, other, open(os.devnull) as file:
        inode = os.fstat(mine.fileno()).st_ino
        with children(20) as pids:  # more than are remembered
            for pid in pids * 2:
                assert listener.inode(pid, mine.fileno()) == inode
                assert listener.inode(pid, file.fileno()) == -1
                assert listener.inode(pid, 9999) == -1
                assert listener.status(pid, mine.fileno(), inode) == os.O_RDWR
                assert listener.status(pid, file.fileno(), inode) == -1
                assert listener.status(pid, other.fileno(), inode) == -1
            assert len(os.listdir("/proc/self/fd")) <= before + 3 + 2 * 4
            last = pids[-1]
        assert listener.inode(last, mine.fileno()) == -1
        assert listener.status(last, mine.fileno(), inode) == -1
    listener.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_listener_without_descriptor_closes_none():
    listener = seccomp.Listener.__new__(seccomp.Listener)
    assert listener.fileno() == -1


@given(st.lists(st.integers(1, 9000), max_size=4))
def test_a_socket_is_drained_whatever_is_in_it(sizes):
    listener = seccomp.Listener(-1)
    mine, other = socket.socketpair()
    with mine, other:
        mine.setblocking(False)
        for size in sizes:
            other.send(bytes(size))
        inode = os.fstat(mine.fileno()).st_ino
        assert not listener.drain(ME, other.fileno(), inode)
        assert not listener.drain(ME, 9999, inode)
        assert listener.drain(ME, mine.fileno(), inode)
        with pytest.raises(BlockingIOError):
            mine.recv(1)
        assert listener.status(ME, mine.fileno(), inode) == os.O_RDWR | os.O_NONBLOCK
    listener.close()


def eventually(task: seccomp.Task, states: str) -> None:
    """Look until the thread has one of the states, and has not run for a millisecond."""
    end = time.monotonic() + 60
    while not (task.look() and task.state in states):
        assert time.monotonic() < end, task.state
        time.sleep(0.001)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_who_sleeps_and_who_has_run_meanwhile(keep, counted):
    before = len(os.listdir("/proc/self/fd"))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        task = seccomp.Task(cat.pid, keep, counted)
        assert (task.tid, task.state) == (cat.pid, "")
        eventually(task, "S")
        assert task.look()
        assert task.look()
        cat.stdin.write(b"x")
        cat.stdin.flush()
        assert cat.stdout.read(1) == b"x"
        assert not task.look()  # asleep again, or not yet
        eventually(task, "S")
        cat.send_signal(signal.SIGSTOP)
        eventually(task, "T")
        assert task.look()
        cat.kill()
        os.waitid(os.P_PID, cat.pid, os.WEXITED | os.WNOWAIT)
        eventually(task, "Z")
        cat.wait()
        assert not task.look()
        assert task.state == ""
        assert not task.look()  # who has ended is never as before
        task.close()
        task.close()
    del task
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_runs_is_never_asleep():
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        try:
            task = seccomp.Task(busy.pid)
            while task.state != "R":
                task.look()
            for _ in range(1000):
                task.look()
                assert task.state in ("R", "D")  # D: it reads in a page of the shell
        finally:
            busy.kill()
