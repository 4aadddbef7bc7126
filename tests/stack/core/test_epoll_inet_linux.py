"""epoll over UDP and TCP of loopback against the kernel's: the same calls, the same events."""

from __future__ import annotations

import fcntl
import functools
import os
import select
import socket as linux
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from e1000emu.clock import VirtualClock
from stack.core import eventpoll as ep
from stack.core.bsd_socket import sys_close, sys_poll_one
from stack.core.fcntl import sys_dup
from stack.core.ioctl import sys_ioctl
from stack.core.uapi import SIOCINQ
from stack.host import Host
from stack.socket import Socket
from tests.stack.core.test_files_linux import linux_ctl, linux_wait, outcome
from tests.support import examples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")

INDEX = st.integers(0, 99)
SHOWN = 0x23FF
MS = 1_000_000
LONGEST_DELAY_NS = 300 * MS
"""Of an acknowledgement: 200 ms."""


def together(rows: list[tuple[int, int]]) -> dict[int, int]:
    """All events of each file, by what was registered with it."""
    events: dict[int, int] = {}
    for bits, data in rows:
        events[data] = events.get(data, 0) | bits
    return events


def linux_inq(sock: linux.socket) -> int:
    return int.from_bytes(fcntl.ioctl(sock, SIOCINQ, bytes(4)), "little")


def step(method: Callable[..., None]) -> Callable[..., None]:
    """A rule's method, whose calls are noted in `steps`."""

    @functools.wraps(method)
    def noted(self: Inet, **given: Any) -> None:
        self.steps.append((method, given))
        method(self, **given)

    return noted


class Inet(RuleBasedStateMachine):
    """Some UDP sockets, connected with each other, and TCP connections; one epoll.

    An edge is told by what has happened, delayed ACKs too, and the kernel's time is not ours. So a
    difference counts when it is there with nothing under way at any step (`slow`).
    """

    slow = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Callable[..., None], dict[str, Any]]] = []
        self.host = Host("h", clock=VirtualClock())
        self.pairs: list[tuple[linux.socket, Socket]] = []
        self.listening: list[bool] = []
        self.dups: list[tuple[int, int]] = []
        self.epolls = select.epoll(), ep.sys_epoll_create1(self.host)
        self.serial = 0

    def teardown(self) -> None:
        self.epolls[0].close()
        for theirs, ours in self.pairs:
            theirs.close()
            ours.close()
        for fd, number in self.dups:
            os.close(fd)
            sys_close(self.host, number)
        self.host.close()

    def add(self, theirs: linux.socket, ours: Socket) -> None:
        theirs.setblocking(False)
        ours.setblocking(False)
        self.pairs.append((theirs, ours))

    @initialize(kinds=st.lists(st.sampled_from([1, 2]), min_size=1, max_size=2))
    @step
    def sockets(self, kinds: list[int]) -> None:
        made: list[list[Any]] = []
        for socket in (linux.socket, self.host.socket):
            row: list[Any] = []
            for kind in kinds:
                one, two = socket(linux.AF_INET, kind), socket(linux.AF_INET, kind)
                two.bind(("127.0.0.1", 0))
                if kind == linux.SOCK_DGRAM:
                    one.bind(("127.0.0.1", 0))
                    one.connect(two.getsockname())
                    two.connect(one.getsockname())
                    row += [one, two]
                else:
                    two.listen()
                    one.connect(two.getsockname())
                    row += [one, two.accept()[0], two]
            made.append(row)
        for theirs, ours in zip(*made, strict=True):
            self.add(theirs, ours)
        self.settle()

    def settle(self) -> None:
        """Until both worlds have done what the call set off."""
        self.host.clock.run_for(LONGEST_DELAY_NS if self.slow else MS)
        time.sleep(LONGEST_DELAY_NS / 1e9 if self.slow else 0)
        for theirs, ours in self.pairs:
            if ours.host_fd < 0:
                continue
            poller = select.poll()
            poller.register(theirs, SHOWN)
            expected: Any = None
            got: Any = None
            for _ in range(2000):
                expected = (
                    sys_poll_one(self.host, ours.host_fd) & SHOWN,
                    outcome(lambda ours=ours: sys_ioctl(self.host, ours.host_fd, SIOCINQ)),
                )
                bits = poller.poll(0)
                got = (bits[0][1] if bits else 0), outcome(lambda theirs=theirs: linux_inq(theirs))
                if got == expected:
                    break
                time.sleep(0.001)
                self.host.clock.run_for(MS)  # a delayed ACK takes time here, too
            assert got == expected

    def both(self, theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
        expected, got = outcome(theirs), outcome(ours)
        assert got == expected
        self.settle()

    @rule(index=INDEX, size=st.sampled_from([1, 2, 3000]))
    @step
    def send(self, index: int, size: int) -> None:
        theirs, ours = self.pairs[index % len(self.pairs)]
        self.both(lambda: theirs.send(bytes(size)), lambda: ours.send(bytes(size)))

    @rule(index=INDEX, size=st.sampled_from([1, 2, 100_000]))
    @step
    def recv(self, index: int, size: int) -> None:
        theirs, ours = self.pairs[index % len(self.pairs)]
        self.both(lambda: theirs.recv(size), lambda: ours.recv(size))

    @rule(index=INDEX, how=st.integers(0, 2))
    @step
    def shutdown(self, index: int, how: int) -> None:
        theirs, ours = self.pairs[index % len(self.pairs)]
        self.both(lambda: theirs.shutdown(how), lambda: ours.shutdown(how))

    @rule(index=INDEX)
    @step
    def connect_once_more(self, index: int) -> None:
        """To a listener, if it is one."""
        theirs, ours = self.pairs[index % len(self.pairs)]
        if len(self.pairs) < 12 and theirs.type == linux.SOCK_STREAM:
            their, our = linux.socket(), self.host.socket()
            for one in their, our:  # else a client's port may be chosen again: it joins itself
                one.bind(("127.0.0.2", 0))
            self.add(their, our)
            self.both(
                lambda: their.connect_ex(theirs.getsockname()) in (0, 115),
                lambda: our.connect_ex(ours.getsockname()) in (0, 115),
            )

    @rule(index=INDEX)
    @step
    def accept(self, index: int) -> None:
        theirs, ours = self.pairs[index % len(self.pairs)]
        made: list[Any] = []
        self.both(lambda: made.append(theirs.accept()[0]), lambda: made.append(ours.accept()[0]))
        if made:
            self.add(*made)

    @rule(index=INDEX)
    @step
    def dup_and_close(self, index: int) -> None:
        """The number that epoll knows is closed, the open file is not."""
        theirs, ours = self.pairs[index % len(self.pairs)]
        if len(self.pairs) > 1:
            self.dups.append((os.dup(theirs.fileno()), sys_dup(self.host, ours.host_fd)))
            self.end(index)

    @precondition(lambda self: len(self.pairs) > 1)
    @rule(index=INDEX)
    @step
    def close(self, index: int) -> None:
        self.end(index)

    def end(self, index: int) -> None:
        theirs, ours = self.pairs.pop(index % len(self.pairs))
        theirs.close()
        ours.close()
        self.settle()

    @rule(
        index=INDEX,
        op=st.sampled_from([1, 1, 1, 2, 3]),
        events=st.sampled_from([1, 4, 5, 0x2005, 0x2001, 0x2]),
        mode=st.sampled_from([0, ep.EPOLLET, ep.EPOLLET, ep.EPOLLONESHOT]),
    )
    @step
    def control(self, index: int, op: int, events: int, mode: int) -> None:
        theirs, ours = self.pairs[index % len(self.pairs)]
        if theirs.type == linux.SOCK_DGRAM and mode == ep.EPOLLET:
            events &= ~4  # when a datagram's memory comes back is the device's affair
        self.serial += 1
        one, two = self.epolls
        self.both(
            lambda: linux_ctl(one.fileno(), op, theirs.fileno(), events | mode, self.serial),
            lambda: ep.sys_epoll_ctl(self.host, two, op, ours.host_fd, events | mode, self.serial),
        )

    @rule(maxevents=st.sampled_from([1, 2, 20, 20]))
    @step
    def wait(self, maxevents: int) -> None:
        theirs, ours = self.reported(maxevents)
        if maxevents == 20:  # two sockets' order is that of their packets
            theirs.sort()
            ours.sort()
        if ours != theirs:
            # A delayed ACK, say, was first in one world: the kernel's time is not ours. In the end
            # both have told the same.
            self.host.clock.run_for(LONGEST_DELAY_NS)
            time.sleep(LONGEST_DELAY_NS / 1e9)
            for rows, more in zip((theirs, ours), self.reported(20), strict=True):
                rows += more
        if together(ours) != together(theirs):
            assert not self.slow, f"{ours}, and the kernel {theirs}"
            self.once_more()

    def once_more(self) -> None:
        """The same from the beginning, slowly."""
        again = type(self)()
        again.slow = True
        try:
            for method, given in self.steps:
                method(again, **given)
        finally:
            again.teardown()

    def reported(self, maxevents: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """What the kernel's epoll and ours report now."""
        one, two = self.epolls
        theirs = linux_wait(one.fileno(), maxevents)
        return theirs, ep.sys_epoll_wait(self.host, two, maxevents, 0)


TestInet = Inet.TestCase
TestInet.settings = settings(
    max_examples=examples(60),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
