"""stack/core/eventpoll.py: nesting, sleeping, exclusive wake-ups."""

from __future__ import annotations

import errno
import os
import resource
import select
import sys
import threading

import pytest

from e1000emu.clock import RealClock, SimulationDeadlock
from stack.api.select import epoll
from stack.core.bsd_socket import sys_close, sys_recv
from stack.core.eventpoll import (
    EP_MAX_NESTS,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLLET,
    EPOLLEXCLUSIVE,
    sys_epoll_create,
    sys_epoll_create1,
    sys_epoll_ctl,
    sys_epoll_pwait,
    sys_epoll_pwait2,
    sys_epoll_wait,
)
from stack.core.fcntl import F_GETFD, sys_fcntl
from stack.core.file import O_CLOEXEC
from stack.core.uapi import POLLIN, POLLOUT
from stack.host import Host
from stack.socket import SOCK_DGRAM, recv_fds, send_fds
from tests.stack.core.test_files_linux import linux_ctl, outcome
from tests.support import errno_of

MS = 1_000_000


def watch(host: Host, ep: int, fd: int, events: int) -> None:
    sys_epoll_ctl(host, ep, EPOLL_CTL_ADD, fd, events, fd)


def test_wrong_arguments(host):
    one, _ = host.socketpair()
    ep = sys_epoll_create1(host, O_CLOEXEC)
    assert sys_fcntl(host, ep, F_GETFD) == 1
    calls = {
        errno.EINVAL: [
            lambda: sys_epoll_create(host, 0),
            lambda: sys_epoll_create1(host, 1),
            lambda: sys_epoll_wait(host, ep, 0, 0),
            lambda: sys_epoll_wait(host, ep, 1 << 30, 0),
            lambda: sys_epoll_wait(host, one.host_fd, 1, 0),
            lambda: sys_epoll_pwait2(host, ep, 1, (0, 1_000_000_000)),
            lambda: sys_epoll_pwait2(host, ep, 1, (-1, 0)),
            lambda: watch(host, ep, ep, POLLIN),
            lambda: watch(host, one.host_fd, ep, POLLIN),
        ],
        errno.EBADF: [
            lambda: watch(host, ep, 99, POLLIN),
            lambda: watch(host, 99, one.host_fd, POLLIN),
            lambda: sys_epoll_wait(host, 99, 1, 0),
        ],
        errno.ENOTSOCK: [lambda: sys_recv(host, ep, bytearray(1))],
    }
    for number, wrong in calls.items():
        for call in wrong:
            assert errno_of(call) == number
    sys_close(host, sys_epoll_create(host, 1))


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
@pytest.mark.parametrize("order", ["inside out", "outside in", "middle last", "circle"])
def test_depth_and_circles_are_refused_as_by_the_kernel(host, order):
    count = EP_MAX_NESTS + 3
    links = [(i, i + 1) for i in range(count - 1)]
    if order == "inside out":
        links.reverse()
    elif order == "middle last":
        links.append(links.pop(count // 2 - 1))
    elif order == "circle":
        links = [(0, 1), (1, 2), (2, 0), (1, 0), (0, 2), (2, 1)]
    theirs = [select.epoll() for _ in range(count)]
    ours = [sys_epoll_create1(host) for _ in range(count)]
    answers = [
        (
            outcome(lambda: linux_ctl(theirs[a].fileno(), 1, theirs[b].fileno(), POLLIN, 0)),  # noqa: B023
            outcome(lambda: watch(host, ours[a], ours[b], POLLIN)),  # noqa: B023
        )
        for a, b in links
    ]
    for ep in theirs:
        ep.close()
    assert [our for _, our in answers] == [their for their, _ in answers]
    assert "errno ELOOP" in dict(answers)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
def test_wakeup_paths_are_limited_as_by_the_kernel(host):
    """A socket in sets that are each in another: 500 such paths, not 501."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"needs 1200 descriptors, RLIMIT_NOFILE allows {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    one, _ = host.socketpair()
    pipe = os.pipe()
    theirs: list[select.epoll] = []
    answers = []
    try:
        for _ in range(505):
            inner, outer = select.epoll(), select.epoll()
            theirs += [inner, outer]
            ours = sys_epoll_create1(host), sys_epoll_create1(host)
            linux_ctl(outer.fileno(), 1, inner.fileno(), POLLIN, 0)
            watch(host, ours[1], ours[0], POLLIN)
            answers.append(
                (
                    outcome(lambda: linux_ctl(inner.fileno(), 1, pipe[0], POLLIN, 0)),  # noqa: B023
                    outcome(lambda: watch(host, ours[0], one.host_fd, POLLIN)),  # noqa: B023
                )
            )
    finally:
        for ep in theirs:
            ep.close()
        for fd in pipe:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [our for _, our in answers] == [their for their, _ in answers]
    assert answers[-1][1] == "errno EINVAL"


def test_a_wait_takes_virtual_time_and_ends_with_the_event(host):
    one, two = host.socketpair()
    ep = sys_epoll_create1(host)
    watch(host, ep, one.host_fd, POLLIN)
    clock = host.clock
    begin = clock.now_ns()
    assert sys_epoll_wait(host, ep, 8, 250) == []
    assert clock.now_ns() - begin == 250 * MS
    assert sys_epoll_pwait2(host, ep, 8, (0, 5)) == []
    assert clock.now_ns() - begin == 250 * MS + 5
    clock.call_at(begin + 900 * MS, lambda: two.send(b"x"))
    assert sys_epoll_pwait(host, ep, 8, 5000) == [(POLLIN, one.host_fd)]
    assert clock.now_ns() - begin == 900 * MS
    one.recv(1)
    with pytest.raises(SimulationDeadlock):
        sys_epoll_wait(host, ep, 8, -1)


def test_a_wait_on_an_outer_set_ends_too(host):
    one, two = host.socketpair()
    inner, outer = epoll(host), epoll(host)
    inner.register(one, POLLIN | EPOLLET)
    outer.register(inner, POLLIN)
    host.clock.call_at(host.clock.now_ns() + MS, lambda: two.send(b"x"))
    assert outer.poll() == [(inner.host_fd, POLLIN)]
    assert inner.poll(0) == [(one.host_fd, POLLIN)]
    assert outer.poll(0) == []
    inner.close()
    assert outer.poll(0.5) == []


def test_a_set_outlives_its_number_while_a_message_holds_it(host):
    one, two = host.socketpair()
    watched, peer = host.socketpair(type=SOCK_DGRAM)
    ep = epoll(host)
    ep.register(watched, POLLIN)
    send_fds(one, [b"x"], [ep.host_fd])
    ep.close()
    peer.send(b"ready")
    _, [number], _, _ = recv_fds(two, 1, 1)
    with epoll.fromfd(host, number) as again:
        assert again.poll(0) == [(watched.host_fd, POLLIN)]
    assert not host.epoll.watches


def test_exclusive_sets_share_out_the_wakeups_of_sleepers(host):
    """Two tasks sleep on sets of their own: one event wakes one of them, not both."""
    one, two = host.socketpair()
    woken: list[int] = []

    def serve(number: int) -> None:
        with epoll(host) as ep:
            ep.register(one, POLLIN | EPOLLEXCLUSIVE | EPOLLET)
            if ep.poll(1.0):
                woken.append(number)

    tasks = [host.clock.spawn(lambda number=number: serve(number)) for number in range(3)]
    host.clock.run_for(MS)
    two.send(b"x")
    host.clock.run_for(2000 * MS)
    assert woken == [0]
    assert all(task.done for task in tasks)


def test_a_thread_is_woken_by_another():
    clock = RealClock()
    clock.start()
    try:
        with Host("h", clock=clock) as host:
            one, two = host.socketpair()
            with epoll(host) as ep:
                ep.register(one, POLLIN)
                found: list[list[tuple[int, int]]] = []
                thread = threading.Thread(target=lambda: found.append(ep.poll(30)))
                thread.start()
                two.send(b"x")
                thread.join()
                assert found == [[(one.host_fd, POLLIN)]]
                ep.modify(one, POLLOUT)
                assert ep.poll() == [(one.host_fd, POLLOUT)]
    finally:
        clock.stop()


def test_deleting_a_ready_item_takes_it_off_the_list(host):
    pairs = [host.socketpair() for _ in range(4)]
    ep = sys_epoll_create1(host)
    for one, two in pairs:
        watch(host, ep, one.host_fd, POLLIN)
        two.send(b"x")
    sys_epoll_ctl(host, ep, EPOLL_CTL_DEL, pairs[1][0].host_fd)
    pairs[3][0].close()
    assert [fd for _, fd in sys_epoll_wait(host, ep, 9, 0)] == [
        pairs[0][0].host_fd,
        pairs[2][0].host_fd,
    ]
