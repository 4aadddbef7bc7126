"""epoll, select, poll, read, write, dup and fcntl against the kernel's: the same calls on both."""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import socket as linux
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from e1000emu.clock import VirtualClock
from stack.core import eventpoll as ep
from stack.core.bsd_socket import sys_close, sys_shutdown, sys_socketpair
from stack.core.fcntl import sys_dup, sys_dup2, sys_fcntl
from stack.core.ioctl import sys_ioctl
from stack.core.pipe import sys_pipe2
from stack.core.read_write import sys_read, sys_readv, sys_write, sys_writev
from stack.core.select import core_sys_select, sys_poll
from stack.core.splice import sys_splice, sys_tee
from stack.core.uapi import FIONREAD
from stack.host import Host
from tests.linux.calls.kernel import checked
from tests.support import examples, outcome

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")

F_SETPIPE_SZ = 1031
libc = ctypes.CDLL(None, use_errno=True)
INDEX = st.integers(0, 999)
KINDS = st.sampled_from([linux.SOCK_STREAM, linux.SOCK_DGRAM, linux.SOCK_SEQPACKET])
BITS = [
    *(ep.POLLIN, ep.POLLOUT, ep.POLLIN | ep.POLLOUT, 0x40, 0x100, 0x2, 0x2000, 0x2001, 0),
    *(ep.POLLIN | 0x2000 | 0x2,),
]
EPOLL_BITS = st.tuples(
    st.sampled_from(BITS),
    st.sampled_from([0, 0, ep.EPOLLET, ep.EPOLLET, ep.EPOLLONESHOT, ep.EPOLLEXCLUSIVE]),
    st.sampled_from([0, 0, 0, ep.EPOLLET, ep.EPOLLWAKEUP]),
).map(lambda bits: bits[0] | bits[1] | bits[2])
SIZES = st.sampled_from([0, 1, 5, 100, 5000, 200_000])
READS = st.sampled_from([0, 1, 3, 100, 300_000])


def linux_ctl(epfd: int, op: int, fd: int, events: int, data: int) -> None:
    event = ctypes.create_string_buffer(struct.pack("=IQ", events, data))
    checked(libc.epoll_ctl(epfd, op, fd, event))


def linux_wait(epfd: int, maxevents: int) -> list[tuple[int, int]]:
    room = ctypes.create_string_buffer(12 * max(maxevents, 1))
    got = checked(libc.epoll_wait(epfd, room, maxevents, 0))
    return list(struct.iter_unpack("=IQ", room.raw[: 12 * got]))


def linux_poll(fds: list[tuple[int, int]]) -> list[tuple[int, int]]:
    room = ctypes.create_string_buffer(b"".join(struct.pack("=ihh", *fd, 0) for fd in fds))
    checked(libc.poll(room, len(fds), 0))
    rows = struct.iter_unpack("=ihh", room.raw[: 8 * len(fds)])
    return [(fd, bits) for fd, _, bits in rows if bits]


class Calls(RuleBasedStateMachine):
    """Every rule makes one call in both worlds. A file is a pair of descriptors."""

    def __init__(self) -> None:
        super().__init__()
        self.host = Host("h", clock=VirtualClock())
        self.files: list[tuple[int, int]] = []
        self.sets: list[tuple[int, int]] = []
        self.pipes: list[tuple[int, int]] = []
        self.streams: list[tuple[int, int]] = []
        self.serial = 0

    def teardown(self) -> None:
        for theirs, ours in self.files:
            os.close(theirs)
            sys_close(self.host, ours)
        assert not self.host.fdtable.fd
        assert self.host.epoll.watches == 0
        self.host.close()
        for pool in (self.host.skb_small, self.host.skb_small_head, self.host.skb_pages):
            assert pool.in_use == 0

    def pick(self, index: int) -> tuple[int, int]:
        return self.files[index % len(self.files)]

    def pick_set(self, index: int) -> tuple[int, int]:
        """An epoll, if there is one."""
        return self.sets[index % len(self.sets)] if self.sets else self.pick(index)

    @property
    def kinds(self) -> tuple[list[tuple[int, int]], ...]:
        return self.sets, self.pipes, self.streams

    def both(self, theirs: Callable[[], Any], ours: Callable[[], Any]) -> Any:
        expected, got = outcome(theirs), outcome(ours)
        assert got == expected
        return expected

    # --- files

    @rule(kind=KINDS)
    def socketpair(self, kind: int) -> None:
        if len(self.files) < 14:
            theirs = linux.socketpair(linux.AF_UNIX, kind | linux.SOCK_NONBLOCK)
            ours = sys_socketpair(self.host, linux.AF_UNIX, kind | linux.SOCK_NONBLOCK)
            made = list(zip((s.detach() for s in theirs), ours, strict=True))
            self.files += made
            if kind == linux.SOCK_STREAM:
                self.streams += made

    @rule()
    def epoll_create(self) -> None:
        if len(self.sets) < 8:
            made = checked(libc.epoll_create1(0)), ep.sys_epoll_create1(self.host)
            self.files.append(made)
            self.sets.append(made)

    @precondition(lambda self: self.files)
    @rule(index=INDEX)
    def close(self, index: int) -> None:
        pair = self.pick(index)
        for known in (self.files, *self.kinds):
            if pair in known:
                known.remove(pair)
        os.close(pair[0])
        sys_close(self.host, pair[1])

    @precondition(lambda self: self.files)
    @rule(index=INDEX)
    def dup(self, index: int) -> None:
        theirs, ours = pair = self.pick(index)
        if len(self.files) < 16:
            made = os.dup(theirs), sys_dup(self.host, ours)
            self.files.append(made)
            for known in self.kinds:
                if pair in known:
                    known.append(made)

    @precondition(lambda self: self.files)
    @rule(one=INDEX, two=INDEX)
    def dup2(self, one: int, two: int) -> None:
        source, target = self.pick(one), self.pick(two)
        os.dup2(source[0], target[0])
        assert sys_dup2(self.host, source[1], target[1]) == target[1]
        for known in self.kinds:
            if target in known and source not in known:
                known.remove(target)
            elif source in known and target not in known:
                known.append(target)

    @rule(flags=st.sampled_from([os.O_NONBLOCK, os.O_NONBLOCK | os.O_CLOEXEC]))
    def pipe(self, flags: int) -> None:
        if len(self.files) < 14:
            made = list(zip(os.pipe2(flags), sys_pipe2(self.host, flags), strict=True))
            self.files += made
            self.pipes += made

    @precondition(lambda self: self.pipes)
    @rule(index=INDEX, size=st.sampled_from([1, 4096, 4097, 16384, 65536, 0, -1]))
    def pipe_size(self, index: int, size: int) -> None:
        theirs, ours = self.pipes[index % len(self.pipes)]
        self.both(
            lambda: fcntl.fcntl(theirs, F_SETPIPE_SZ, size),
            lambda: sys_fcntl(self.host, ours, F_SETPIPE_SZ, size),
        )

    # --- data

    @precondition(lambda self: self.files)
    @rule(one=INDEX, two=INDEX, size=READS, flags=st.sampled_from([2, 2, 6, 16]))
    def splice(self, one: int, two: int, size: int, flags: int) -> None:
        self.spliced(self.pick(one), self.pick(two), size, flags)

    @precondition(lambda self: self.pipes)
    @rule(one=INDEX, two=INDEX, size=READS)
    def splice_pipe(self, one: int, two: int, size: int) -> None:
        self.spliced(self.pipes[one % len(self.pipes)], self.pick(two), size, 2)

    @precondition(lambda self: self.pipes)
    @rule(one=INDEX, two=INDEX, size=READS)
    def splice_to_pipe(self, one: int, two: int, size: int) -> None:
        self.spliced(self.pick(one), self.pipes[two % len(self.pipes)], size, 2)

    def spliced(self, one: tuple[int, int], two: tuple[int, int], size: int, flags: int) -> None:
        """Not from streams: what of them a pipe's slots hold depends on the packets they are in."""
        if one not in self.streams and two not in self.streams:
            self.both(
                lambda: checked(libc.splice(one[0], None, two[0], None, size, flags)),
                lambda: sys_splice(self.host, one[1], None, two[1], None, size, flags),
            )

    @precondition(lambda self: self.pipes)
    @rule(one=INDEX, two=INDEX, size=READS)
    def tee(self, one: int, two: int, size: int) -> None:
        source, target = self.pipes[one % len(self.pipes)], self.pipes[two % len(self.pipes)]
        self.both(
            lambda: checked(libc.tee(source[0], target[0], size, 2)),
            lambda: sys_tee(self.host, source[1], target[1], size, 2),
        )

    @precondition(lambda self: self.pipes)
    @rule(index=INDEX)
    def inq(self, index: int) -> None:
        theirs, ours = self.pipes[index % len(self.pipes)]
        self.both(
            lambda: int.from_bytes(fcntl.ioctl(theirs, FIONREAD, bytes(4)), "little"),
            lambda: sys_ioctl(self.host, ours, FIONREAD),
        )

    @precondition(lambda self: self.files)
    @rule(index=INDEX, size=SIZES)
    def write(self, index: int, size: int) -> None:
        theirs, ours = self.pick(index)
        data = bytes(size)
        self.both(lambda: os.write(theirs, data), lambda: sys_write(self.host, ours, data))

    @precondition(lambda self: self.files)
    @rule(index=INDEX, sizes=st.lists(SIZES, max_size=3))
    def writev(self, index: int, sizes: list[int]) -> None:
        theirs, ours = self.pick(index)
        data = [bytes(size) for size in sizes]
        self.both(lambda: os.writev(theirs, data), lambda: sys_writev(self.host, ours, data))

    @precondition(lambda self: self.files)
    @rule(index=INDEX, size=READS)
    def read(self, index: int, size: int) -> None:
        theirs, ours = self.pick(index)
        self.both(
            lambda: len(os.read(theirs, size)),
            lambda: sys_read(self.host, ours, bytearray(size)),
        )

    @precondition(lambda self: self.files)
    @rule(index=INDEX, sizes=st.lists(READS, max_size=3))
    def readv(self, index: int, sizes: list[int]) -> None:
        theirs, ours = self.pick(index)
        self.both(
            lambda: os.readv(theirs, [bytearray(size) for size in sizes]),
            lambda: sys_readv(self.host, ours, [bytearray(size) for size in sizes]),
        )

    @precondition(lambda self: self.files)
    @rule(index=INDEX, how=st.integers(0, 2))
    def shutdown(self, index: int, how: int) -> None:
        theirs, ours = self.pick(index)
        self.both(
            lambda: checked(libc.shutdown(theirs, how)) or None,
            lambda: sys_shutdown(self.host, ours, how),
        )

    # --- readiness

    @precondition(lambda self: self.sets)
    @rule(
        index=INDEX,
        what=INDEX,
        op=st.sampled_from([1, 1, 1, 1, 2, 3, 3, 4]),
        events=EPOLL_BITS,
    )
    def epoll_ctl(self, index: int, what: int, op: int, events: int) -> None:
        theirs, ours = self.pick_set(index)
        their_fd, our_fd = self.pick(what)
        self.serial += 1
        self.both(
            lambda: linux_ctl(theirs, op, their_fd, events, self.serial),
            lambda: ep.sys_epoll_ctl(self.host, ours, op, our_fd, events, self.serial),
        )

    @precondition(lambda self: self.sets)
    @rule(one=INDEX, two=INDEX, events=EPOLL_BITS)
    def nest(self, one: int, two: int, events: int) -> None:
        self.serial += 1
        outer, inner = self.pick_set(one), self.pick_set(two)
        self.both(
            lambda: linux_ctl(outer[0], 1, inner[0], events, self.serial),
            lambda: ep.sys_epoll_ctl(self.host, outer[1], 1, inner[1], events, self.serial),
        )

    @precondition(lambda self: self.files)
    @rule(index=INDEX, maxevents=st.sampled_from([1, 2, 3, 20, 0, -1]))
    def epoll_wait(self, index: int, maxevents: int) -> None:
        theirs, ours = self.pick_set(index)
        self.both(
            lambda: linux_wait(theirs, maxevents),
            lambda: ep.sys_epoll_wait(self.host, ours, maxevents, 0),
        )

    @precondition(lambda self: self.files)
    @rule(asked=st.lists(st.tuples(INDEX, st.sampled_from([*BITS, 0x3FF, 0x23FF])), max_size=6))
    def poll(self, asked: list[tuple[int, int]]) -> None:
        chosen = [(*self.pick(index), bits) for index, bits in asked]
        theirs = linux_poll([(fd, bits) for fd, _, bits in chosen])
        ours = sys_poll(self.host, [(fd, bits) for _, fd, bits in chosen], 0)
        assert [bits for _, bits in ours] == [bits for _, bits in theirs]

    @precondition(lambda self: self.files)
    @rule(asked=st.tuples(*[st.lists(INDEX, max_size=4)] * 3))
    def select(self, asked: tuple[list[int], ...]) -> None:
        chosen = [[self.pick(index) for index in indices] for indices in asked]
        theirs = select.select(*([fd for fd, _ in pairs] for pairs in chosen), 0)
        sets = [[fd for _, fd in pairs] for pairs in chosen]
        ours = core_sys_select(self.host, 1 << 16, *sets, 0)
        for pairs, their_fds, our_fds in zip(chosen, theirs, ours, strict=True):
            assert {f for f, g in pairs if g in our_fds} == set(their_fds)

    # --- fcntl

    @precondition(lambda self: self.files)
    @rule(
        index=INDEX,
        cmd=st.sampled_from([1, 2, 3, 9, 10, 11, 1032, 77]),
        arg=st.sampled_from([0, 1, 2, 29, 34, 64, 65, -1]),
    )
    def fcntl(self, index: int, cmd: int, arg: int) -> None:
        theirs, ours = self.pick(index)
        if cmd == fcntl.F_GETFD:  # Python sets it on what it makes
            fcntl.fcntl(theirs, fcntl.F_SETFD, 0)
            sys_fcntl(self.host, ours, fcntl.F_SETFD, 0)
        self.both(
            lambda: fcntl.fcntl(theirs, cmd, arg), lambda: sys_fcntl(self.host, ours, cmd, arg)
        )

    @precondition(lambda self: self.files)
    @rule(index=INDEX, flags=st.sampled_from([0, os.O_APPEND, 0o20000, os.O_DIRECT, 0o100]))
    def setfl(self, index: int, flags: int) -> None:
        theirs, ours = self.pick(index)
        flags |= os.O_NONBLOCK
        self.both(
            lambda: fcntl.fcntl(theirs, fcntl.F_SETFL, flags),
            lambda: sys_fcntl(self.host, ours, fcntl.F_SETFL, flags),
        )
        self.both(
            lambda: fcntl.fcntl(theirs, fcntl.F_GETFL),
            lambda: sys_fcntl(self.host, ours, fcntl.F_GETFL),
        )


TestCalls = Calls.TestCase
TestCalls.settings = settings(
    max_examples=examples(60),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
