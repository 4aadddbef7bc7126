"""The descriptor that shows a socket's readiness, beside sockets of the kernel."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import socket as kernel
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.core.bsd_socket import sockfd_lookup
from stack.core.readyfd import HUB_USERS, ready_fd
from stack.core.uapi import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from stack.host import Host
from stack.socket import (
    IPPROTO_TCP,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_ERROR,
    SO_LINGER,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_NODELAY,
    Socket,
    create_connection,
    create_server,
)
from tests.support import examples, missing

ALL = POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP
MS = 1_000_000
RESET = (1).to_bytes(4, "little") + bytes(4)  # struct linger: close with a reset


def bits(fd: object) -> int:
    """What poll(2) reports of a descriptor, or of an object with one."""
    poll = select.poll()
    poll.register(fd, ALL)
    return next((found for _, found in poll.poll(0)), 0) & ALL


def watch(sock: Socket) -> int:
    """The descriptor of a socket, whatever its clock."""
    return ready_fd(sock.net, sockfd_lookup(sock.net, sock.host_fd)).open()


def unwatch(sock: Socket, fd: int) -> None:
    ready_fd(sock.net, sockfd_lookup(sock.net, sock.host_fd)).close(fd)


def open_fds() -> set[int]:
    """Of this process, now that what is forgotten is gone."""
    gc.collect()
    listed = map(int, os.listdir("/proc/self/fd"))
    return {fd for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")}  # not the listing's own


@pytest.fixture(scope="module")
def hosts():
    a, b = two_hosts()
    yield a, b
    a.close()
    b.close()


class Ours:
    """A connection between two hosts on a virtual clock; `mine` is watched, `peer` acts."""

    def __init__(self, hosts):
        a, b = hosts
        self.clock = a.clock
        listener = create_server(b, ("10.0.0.2", 0))
        self.mine = create_connection(a, listener.getsockname())
        self.peer, _ = listener.accept()
        listener.close()
        self.fd = watch(self.mine)

    def bits(self):
        self.clock.run_for(2000 * MS)
        shown = bits(self.fd)
        assert shown == self.mine.poll() & ALL
        return shown

    def close(self):
        unwatch(self.mine, self.fd)
        self.mine.close()
        self.peer.close()


class Kernels:
    """The same over the kernel's loopback."""

    def __init__(self):
        listener = kernel.create_server(("127.0.0.1", 0))
        self.mine = kernel.create_connection(listener.getsockname())
        self.peer, _ = listener.accept()
        listener.close()

    def bits(self, expected=None):
        """What the kernel shows; it may take a moment to deliver on a loaded machine."""
        for _ in range(200):
            shown = bits(self.mine)
            if expected is None or shown == expected:
                break
            time.sleep(0.01)
        return shown

    def close(self):
        self.mine.close()
        self.peer.close()


def fill(sock, settle):
    """Send until nothing is taken any more."""
    more = True
    while more:
        more = False
        settle()
        with contextlib.suppress(BlockingIOError):
            while sock.send(bytes(1 << 20)):
                more = True


def drain(sock, settle):
    """Read until nothing comes any more."""
    more = True
    while more:
        more = False
        settle()
        with contextlib.suppress(BlockingIOError):
            while sock.recv(1 << 20):
                more = True


def act(pair, what):
    """Do one thing to a pair of sockets; the errno it met."""
    mine, peer = pair.mine, pair.peer
    try:
        match what:
            case "peer sends":
                peer.send(b"hello")
            case "I send":
                mine.send(b"hello")
            case "I fill":
                fill(mine, pair.bits)
            case "peer drains":
                drain(peer, pair.bits)
            case "I drain":
                drain(mine, pair.bits)
            case "I read one":
                mine.recv(1)
            case "peer ends":
                peer.shutdown(SHUT_WR)
            case "I end":
                mine.shutdown(SHUT_WR)
            case "I end reading":
                mine.shutdown(SHUT_RD)
            case "I end both":
                mine.shutdown(SHUT_RDWR)
            case "peer resets":
                peer.setsockopt(SOL_SOCKET, SO_LINGER, RESET)
                peer.close()
            case "I ask for the error":
                return mine.getsockopt(SOL_SOCKET, SO_ERROR)
    except OSError as exc:
        return exc.errno
    return 0


ACTIONS = (
    *("peer sends", "I send", "I fill", "peer drains", "I drain", "I read one", "peer ends"),
    *("I end", "I end reading", "I end both", "peer resets", "I ask for the error"),
)


@given(st.lists(st.sampled_from(ACTIONS), max_size=12))
@settings(max_examples=examples(60), deadline=None)
def test_it_shows_what_the_kernel_shows_of_a_connection(hosts, actions):
    ours, kernels = Ours(hosts), Kernels()
    try:
        for pair in (ours, kernels):
            for sock in (pair.mine, pair.peer):
                sock.setblocking(False)
                # what is sent has come when `send` returns: it does not wait for an ACK, which the
                # kernel delays and our two seconds do not
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                for option in (SO_SNDBUF, SO_RCVBUF):  # which then stay as they are
                    sock.setsockopt(SOL_SOCKET, option, 65536)
        done = []
        for what in actions:
            done.append(what)
            errors = act(ours, what), act(kernels, what)
            shown = ours.bits()
            if "I fill" not in done:  # when a full buffer takes more again is each one's own affair
                assert errors[0] == errors[1], done
                assert shown == kernels.bits(shown), done
    finally:
        ours.close()
        kernels.close()


# --- one by one ----------------------------------------------------------------------------------


def settle(host):
    host.clock.run_for(MS)


def test_a_listener_is_readable_while_a_connection_waits(host):
    listener = create_server(host, ("", 80))
    fd = watch(listener)
    assert bits(fd) == 0
    client = create_connection(host, ("127.0.0.1", 80))
    assert bits(fd) == POLLIN
    conn, _ = listener.accept()
    assert bits(fd) == 0
    for sock in (client, conn, listener):
        sock.close()
    assert bits(fd) & POLLHUP, "who watches a socket that is closed behind his back is woken"


def test_what_is_accepted_from_a_watched_listener_is_not_watched(host):
    listener = create_server(host, ("", 80))
    watch(listener)
    client = create_connection(host, ("127.0.0.1", 80))
    conn, _ = listener.accept()
    plain, other = (sockfd_lookup(host, s.host_fd) for s in (conn, client))
    assert plain.ops is other.ops
    assert plain.ready is None


def test_a_connection_refused_and_made_again(host):
    sock = Socket(host)
    fd = watch(sock)
    assert bits(fd) == POLLIN | POLLOUT  # Linux: POLLHUP | POLLOUT
    sock.setblocking(False)
    assert sock.connect_ex(("127.0.0.1", 80)) in (0, 111, 115)
    settle(host)
    assert bits(fd) == ALL
    assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == 111
    assert bits(fd) == ALL & ~POLLERR
    create_server(host, ("", 80))
    sock.connect_ex(("127.0.0.1", 80))  # clears what is left of the first
    sock.connect_ex(("127.0.0.1", 80))
    settle(host)
    assert bits(fd) == POLLOUT == sock.poll() & ALL


def test_an_icmp_error_shows_until_it_is_taken(host):
    sock = Socket(host, type=SOCK_DGRAM)
    sock.connect(("127.0.0.1", 9))
    fd = watch(sock)
    assert bits(fd) == POLLOUT
    sock.send(b"nobody listens")
    settle(host)
    assert bits(fd) == POLLOUT | POLLERR
    with pytest.raises(ConnectionRefusedError):
        sock.recv(1)
    assert bits(fd) == POLLOUT


def test_an_error_does_not_hide_what_can_be_read(host):
    one, two = (Socket(host, type=SOCK_DGRAM) for _ in range(2))
    one.bind(("127.0.0.1", 1))
    two.bind(("127.0.0.1", 2))
    one.connect(("127.0.0.1", 2))
    fd = watch(one)
    two.sendto(b"first", ("127.0.0.1", 1))
    two.close()
    one.send(b"x")
    settle(host)
    assert bits(fd) == POLLIN | POLLOUT | POLLERR
    assert one.getsockopt(SOL_SOCKET, SO_ERROR) == 111
    assert bits(fd) == POLLIN | POLLOUT
    assert one.recv(10) == b"first"
    assert bits(fd) == POLLOUT


def test_nobody_gets_data_in_or_out_by_the_descriptor(host):
    sock = Socket(host, type=SOCK_DGRAM)
    sock.bind(("127.0.0.1", 1))
    fd = watch(sock)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"lost")
    with open(__file__, "rb") as file, pytest.raises(BrokenPipeError):
        os.sendfile(fd, file.fileno(), 0, 100)
    with pytest.raises(BlockingIOError):
        os.read(fd, 1)
    stranger = kernel.socket(kernel.AF_UNIX, kernel.SOCK_DGRAM)
    name = sockfd_lookup(host, sock.host_fd).ready.name
    with stranger, pytest.raises(PermissionError):
        stranger.sendto(b"wake up", name)
    assert bits(fd) == POLLOUT


def test_epoll_sees_changes_of_a_descriptor_it_knows(host):
    sock, peer = (Socket(host, type=SOCK_DGRAM) for _ in range(2))
    sock.bind(("127.0.0.1", 1))
    with contextlib.closing(select.epoll()) as epoll:
        fd = watch(sock)
        epoll.register(fd, POLLIN)
        for _ in range(3):
            assert epoll.poll(0) == []
            peer.sendto(b"x", ("127.0.0.1", 1))
            settle(host)
            assert epoll.poll(0) == [(fd, POLLIN)]
            sock.recv(1)


# --- numbers ---------------------------------------------------------------------------------


@pytest.fixture
def many_descriptors():
    """Room for a thousand sockets and more: the usual soft limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        missing(f"at most {hard} descriptors for a process", "ulimit -Hn 4096, as root")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_are_given_back(many_descriptors):
    before = open_fds()
    with Host("solo", clock=VirtualClock()) as host:
        socks = [Socket(host, type=SOCK_DGRAM) for _ in range(1000)]
        numbers = [watch(sock) for sock in socks]
        assert len(set(numbers)) == 1000
        hubs = -(-1000 // HUB_USERS)
        assert len(open_fds() - before) == 1000 + hubs
        for sock, number in zip(socks, numbers, strict=True):
            unwatch(sock, number)
        assert len(open_fds() - before) == 1  # the hub for the next
        assert all(sockfd_lookup(host, s.host_fd).ready is None for s in socks)
    assert open_fds() == before


def test_a_thousand_ready_sockets_wake_one_select(host, many_descriptors):
    poll = select.epoll()
    reader = Socket(host, type=SOCK_DGRAM)
    socks = [Socket(host, type=SOCK_DGRAM) for _ in range(1000)]
    for number, sock in enumerate(socks):
        sock.bind(("127.0.0.1", 1000 + number))
        poll.register(watch(sock), POLLIN)
        reader.sendto(b"x", sock.getsockname())
    settle(host)
    assert len(poll.poll(0, 2000)) == 1000
    poll.close()


def test_sockets_forgotten_with_their_host_leave_nothing_open():
    before = open_fds()
    host = Host("solo", clock=VirtualClock())
    socks = [Socket(host, type=SOCK_DGRAM) for _ in range(5)]
    for sock in socks:
        sock._descriptor()
    host.close()
    del sock, socks, host
    assert open_fds() == before


def test_the_collector_may_begin_with_the_kernels_socket(host):
    ready = ready_fd(host, sockfd_lookup(host, Socket(host, type=SOCK_DGRAM).host_fd))
    first, second = ready.open(), ready.open()
    ready._unwatch()
    ready._unix.close()
    stranger = os.open(os.devnull, os.O_RDONLY)
    assert stranger == first
    ready.__del__()
    os.close(stranger)  # EBADF if it was taken for one of ours
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(second)
    ready._fds.clear()


def test_dup_has_a_number_of_its_own_and_the_same_readiness(host):
    before = open_fds()
    one = Socket(host, type=SOCK_DGRAM)
    one.bind(("127.0.0.1", 1))
    two = one.dup()
    first, second = one._descriptor(), two._descriptor()
    assert first != second
    one.sendto(b"x", ("127.0.0.1", 1))
    settle(host)
    assert bits(first) == bits(second) == POLLIN | POLLOUT
    one.close()
    assert bits(second) == POLLIN | POLLOUT
    assert two.recv(1) == b"x"
    assert bits(second) == POLLOUT
    two.close()
    host.ready_hub = None
    assert open_fds() == before


def test_detached_and_taken_up_again(host):
    one = Socket(host, type=SOCK_DGRAM)
    one.bind(("127.0.0.1", 1))
    one.settimeout(5)
    number = one.detach()
    assert one.fileno() == -1
    assert number in open_fds()
    two = Socket(host, fileno=number)
    assert (two.type, two.getsockname(), two.gettimeout()) == (SOCK_DGRAM, ("127.0.0.1", 1), 5)
    assert two._descriptor() == number
    for wrong in (number, 0, 12345):
        with pytest.raises(OSError, match="no descriptor that a Socket of host h gave away"):
            Socket(host, fileno=wrong)
    two.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_a_detached_number_that_became_another_file_is_refused(host):
    number = Socket(host, type=SOCK_DGRAM).detach()
    with open(os.devnull) as other:
        os.dup2(other.fileno(), number)
        with pytest.raises(OSError, match="gave away"):
            Socket(host, fileno=number)
    os.close(number)


def test_a_forked_child_does_not_change_what_the_parent_sees(host):
    sock = Socket(host, type=SOCK_DGRAM)
    sock.bind(("127.0.0.1", 1))
    fd = watch(sock)
    sock.sendto(b"x", ("127.0.0.1", 1))
    settle(host)
    child = os.fork()
    if not child:
        code = 1
        try:
            assert sock.recv(1) == b"x"
            assert bits(fd) == POLLOUT
            sock.sendto(b"y", ("127.0.0.1", 1))
            settle(host)
            assert bits(fd) == POLLIN | POLLOUT
            host.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert bits(fd) == POLLIN | POLLOUT
    assert sock.recv(1) == b"x"
    assert bits(fd) == POLLOUT


def test_without_descriptors_left_it_errs_on_the_side_of_ready(host):
    sock = Socket(host, type=SOCK_DGRAM)
    sock.connect(("127.0.0.1", 9))
    listener = create_server(host, ("", 80))
    fd = watch(sock)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()), hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            [watch(listener) for _ in range(2000)]
        sock.send(b"nobody listens")
        settle(host)
        assert bits(fd) == POLLIN | POLLOUT
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert sock.getsockopt(SOL_SOCKET, SO_ERROR) == 111
    assert bits(fd) == POLLOUT
