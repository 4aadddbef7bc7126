"""select, unistd and fcntl of stack.api: the standard library's calls for a host's sockets."""

from __future__ import annotations

import asyncio
import errno
import fcntl as std_fcntl
import os as std_os
import select as std_select
import socket as std_socket
import sys

import pytest

from e1000emu.clock import VirtualClock
from stack import aio
from stack.api import fcntl, select, unistd
from stack.api.aio_select import epoll_wait
from stack.core.ioctl import sys_ioctl
from stack.core.uapi import FIOASYNC, FIOGETOWN, FIONBIO, FIONREAD, SIOCATMARK, SIOCOUTQ
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM, create_server
from tests.support import errno_of


def test_select_gives_back_the_objects_it_was_given(host):
    one, two = host.socketpair()
    three, _ = host.socketpair()
    two.send(b"x")
    assert select.select(host, [one, two], [two.host_fd], [three]) == ([one], [two.host_fd], [])
    before = host.clock.now_ns()
    assert select.select(host, [three], [], [], 1.5) == ([], [], [])
    assert select.select(host, [], [], [], 0.5) == ([], [], [])
    assert host.clock.now_ns() - before == 2_000_000_000
    with pytest.raises(ValueError, match="non-negative"):
        select.select(host, [], [], [], -1)
    with pytest.raises(TypeError):
        select.select(host, [None], [], [])
    one.close()
    with pytest.raises(ValueError, match="negative"):
        select.select(host, [one], [], [])
    with pytest.raises(OSError, match="77") as info:
        select.select(host, [77], [], [])
    assert info.value.errno == errno.EBADF


def test_poll(host):
    one, two = host.socketpair()
    poll = select.poll(host)
    poll.register(one)
    poll.register(two, select.POLLIN)
    assert poll.poll() == [(one.host_fd, select.POLLOUT)]
    poll.modify(one, select.POLLIN)
    assert poll.poll(250.5) == []
    assert host.clock.now_ns() % 1_000_000_000 == 250_500_000
    one.send(b"x")
    assert poll.poll(-1) == [(two.host_fd, select.POLLIN)]
    poll.unregister(two)
    with pytest.raises(KeyError):
        poll.unregister(two)
    with pytest.raises(FileNotFoundError):
        poll.modify(two, 1)
    for wrong in (-1, 1 << 16):
        with pytest.raises((OverflowError, ValueError)):
            poll.register(two, wrong)
    number = one.host_fd
    one.close()
    assert poll.poll(0) == [(number, select.POLLNVAL)]


def test_epoll_is_the_standard_library_s(host):
    """The server of select's documentation."""
    server = create_server(host, ("127.0.0.1", 80))
    server.setblocking(False)
    clients = [host.socket() for _ in range(3)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", 80))
    answered = 0
    with select.epoll(host) as ep:
        ep.register(server, select.EPOLLIN)
        connections = {}
        while answered < 3:
            for number, event in ep.poll(1, maxevents=2):
                if number == server.host_fd:
                    connection, _ = server.accept()
                    connection.setblocking(False)
                    connections[connection.host_fd] = connection
                    ep.register(connection, select.EPOLLIN)
                    clients[len(connections) - 1].send(b"request")
                elif event & select.EPOLLIN:
                    assert unistd.read(host, number, 1024) == b"request"
                    ep.modify(number, select.EPOLLOUT)
                elif event & select.EPOLLOUT:
                    unistd.writev(host, number, [b"ans", b"wer"])
                    ep.unregister(number)
                    connections[number].close()
                    answered += 1
    assert ep.closed
    for client in clients:
        client.setblocking(True)
        assert client.recv(99) == b"answer"
    for call in (ep.poll, ep.fileno, lambda: ep.register(server)):
        with pytest.raises(ValueError, match="closed epoll"):
            call()
    ep.close()
    with pytest.raises(ValueError, match="sizehint"):
        select.epoll(host, 0)
    with select.epoll(host) as ep, pytest.raises(ValueError, match="maxevents"):
        ep.poll(0, 0)


def test_read_and_write_block_on_the_hosts_clock(host):
    one, two = host.socketpair()
    host.clock.call_at(host.clock.now_ns() + 5, lambda: two.send(b"hello"))
    assert unistd.read(host, one.host_fd, 3) == b"hel"
    room = bytearray(1), bytearray(5)
    assert unistd.readv(host, one.host_fd, room) == 2
    assert room[0] + room[1] == b"lo\0\0\0\0"
    unistd.set_blocking(host, one.host_fd, False)
    assert not unistd.get_blocking(host, one.host_fd)
    assert not one.getblocking() or one.gettimeout() is None  # the object does not know
    with pytest.raises(BlockingIOError):
        unistd.read(host, one.host_fd, 3)
    assert unistd.write(host, one.host_fd, b"back") == 4
    two.close()
    with pytest.raises(ConnectionResetError):
        unistd.read(host, one.host_fd, 3)
    assert unistd.read(host, one.host_fd, 3) == b""
    with pytest.raises(BrokenPipeError):
        unistd.write(host, one.host_fd, b"x")


def test_duplicates_share_the_open_file(host):
    one, two = host.socketpair()
    copy = unistd.dup(host, one.host_fd)
    assert not unistd.get_inheritable(host, copy)
    unistd.set_inheritable(host, copy, True)
    assert unistd.get_inheritable(host, copy)
    assert unistd.dup2(host, copy, 40, inheritable=False) == 40
    assert fcntl.fcntl(host, 40, fcntl.F_GETFD) == fcntl.FD_CLOEXEC
    assert fcntl.fcntl(host, 40, fcntl.F_DUPFD, 41) == 41
    assert fcntl.fcntl(host, 41, fcntl.F_DUPFD_CLOEXEC, 7) == 7
    unistd.set_blocking(host, 41, False)
    with pytest.raises(BlockingIOError):
        one.recv(1)
    for fd in (one.host_fd, copy, 40):
        unistd.close(host, fd)
    assert two.poll() & select.POLLHUP == 0
    unistd.close(host, 41)
    unistd.close(host, 7)
    assert two.poll() & select.POLLHUP
    # The gap that 40 left is used again, lowest first, and never one that is taken.
    taken = set(host.fdtable.fd)
    made = [unistd.dup(host, two.host_fd) for _ in range(60)]
    assert made == sorted(set(range(3, 200)) - taken)[:60]


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
def test_errors_of_dup_and_fcntl_are_the_kernels(host):
    limit = 1 << 16
    ours, _ = host.socketpair()
    theirs, other = std_socket.socketpair()
    import resource

    top = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    calls = [
        (lambda os, fd, top: os.dup2(*fd(9999), 5), None),
        (lambda os, fd, top: os.dup2(*fd(), top), None),
        (lambda os, fd, top: os.dup2(*fd(), -1), None),
        (lambda os, fd, top: os.dup(*fd(9999)), None),
        (lambda os, fd, top: os.close(*fd(9999)), None),
        (lambda os, fd, top: os.read(*fd(9999), 1), None),
        (lambda os, fd, top: os.writev(*fd(), [b""] * 1025), None),
        (lambda os, fd, top: os.readv(*fd(), [bytearray(1)] * 1025), None),
    ]
    for call, _ in calls:
        answers = []
        for os, fd, most in (
            (std_os, lambda n=None: (theirs.fileno() if n is None else n,), top),
            (unistd, lambda n=None: (host, ours.host_fd if n is None else n), limit),
        ):
            try:
                call(os, fd, most)
                answers.append(None)
            except OSError as error:
                answers.append(error.errno)
        assert answers[0] == answers[1] is not None
    for cmd, arg in (
        (0, -1),
        (0, 1 << 31 >> 1),
        (8, 99_999_999),
        (10, 65),
        (8, -99_999_999),
        (1234, 0),
    ):
        with pytest.raises(OSError, match=r".") as info:
            std_fcntl.fcntl(theirs, cmd, arg)
        assert errno_of(fcntl.fcntl, host, ours, cmd, arg) == info.value.errno
    theirs.close()
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
def test_ioctl_takes_and_gives_what_the_kernel_does(host):
    ours, our_peer = host.socketpair()
    theirs, their_peer = std_socket.socketpair()
    our_peer.send(b"12345")
    their_peer.send(b"12345")
    for request in (FIONREAD, SIOCOUTQ, SIOCATMARK, FIOGETOWN):
        for arg in (b"abcdefgh", bytes(4)):
            assert fcntl.ioctl(host, ours, request, arg) == std_fcntl.ioctl(theirs, request, arg)
        room, same = bytearray(4), bytearray(4)
        assert fcntl.ioctl(host, ours, request, room) == std_fcntl.ioctl(theirs, request, same)
        assert room == same
    for request in (FIONBIO, FIOASYNC):
        on = (1).to_bytes(4, "little")
        assert fcntl.ioctl(host, ours, request, on) == std_fcntl.ioctl(theirs, request, on)
    flags = std_fcntl.fcntl(theirs, std_fcntl.F_GETFL)
    assert fcntl.fcntl(host, ours, fcntl.F_GETFL) == flags
    for request in (0x1234, 0x5401):
        with pytest.raises(OSError, match=r".") as info:
            std_fcntl.ioctl(theirs, request, bytes(8))
        assert errno_of(fcntl.ioctl, host, ours, request, bytes(8)) == info.value.errno
    assert fcntl.ioctl(host, ours, FIONREAD, b"12") == std_fcntl.ioctl(theirs, FIONREAD, b"12")
    assert errno_of(sys_ioctl, host, ours.host_fd, FIONREAD, bytearray(2)) == errno.EFAULT
    assert fcntl.ioctl(host, ours, FIONREAD) == 5
    theirs.close()
    their_peer.close()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
def test_a_datagram_of_nothing(host):
    """write() sends an empty one, writev() of nothing does not, read() of nothing takes none."""
    kernel = std_socket.socket(AF_INET, SOCK_DGRAM), std_socket.socket(AF_INET, SOCK_DGRAM)
    own = host.socket(AF_INET, SOCK_DGRAM), host.socket(AF_INET, SOCK_DGRAM)
    seen = []
    for pair, call, poll in (
        (kernel, lambda name, sock, *rest: getattr(std_os, name)(sock.fileno(), *rest), None),
        (own, lambda name, sock, *rest: getattr(unistd, name)(host, sock.host_fd, *rest), host),
    ):
        one, two = pair
        two.bind(("127.0.0.1", 0))
        one.connect(two.getsockname())
        row = [call("writev", one, []), call("writev", one, [b""])]
        row.append(call("write", one, b""))
        if poll is None:
            std_select.select([two], [], [], 10)
        else:
            select.select(host, [two], [], [], 10)
        row += [call("read", two, 0), call("readv", two, []), call("read", two, 9)]
        two.setblocking(False)
        try:
            row.append(call("read", two, 9))
        except BlockingIOError as error:
            row.append(error.errno)
        seen.append(row)
        one.close()
        two.close()
    assert seen[0] == seen[1]
    assert seen[0][-1] == errno.EAGAIN


def test_epoll_in_coroutines():
    """One coroutine serves, the other asks; the loop's time is the host's."""
    clock = VirtualClock()
    with Host("h", clock=clock) as host:
        one, two = host.socketpair()
        one.setblocking(False)

        async def serve(ep: select.epoll) -> list[bytes]:
            got = []
            while len(got) < 3:
                for number, events in await epoll_wait(ep):
                    assert (number, events) == (one.host_fd, select.EPOLLIN)
                    got.append(one.recv(9))
            return got

        async def ask() -> None:
            for word in (b"a", b"b", b"c"):
                await asyncio.sleep(0.25)
                two.send(word)

        async def main() -> list[bytes]:
            with select.epoll(host) as ep:
                ep.register(one, select.EPOLLIN)
                answers, _ = await asyncio.gather(serve(ep), ask())
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await epoll_wait(ep)
            return answers

        before = clock.now_ns()
        assert aio.run(main(), clock=clock) == [b"a", b"b", b"c"]
        assert clock.now_ns() - before == 1_000_000_000
