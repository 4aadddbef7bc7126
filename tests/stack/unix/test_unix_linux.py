"""AF_UNIX against the kernel's own: the same random calls on both, the same answers from both."""

from __future__ import annotations

import array
import fcntl
import os
import select
import shutil
import socket as linux
import struct
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from e1000emu.clock import VirtualClock
from stack.core.ioctl import sys_ioctl
from stack.core.uapi import SIOCATMARK, SIOCINQ, SIOCOUTQ, SO_PASSRIGHTS, SO_PEEK_OFF
from stack.host import Host
from stack.socket import Socket
from tests.support import examples, outcome

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")

KINDS = [linux.SOCK_STREAM, linux.SOCK_DGRAM, linux.SOCK_SEQPACKET]
SIZES = st.one_of(
    st.integers(0, 5),
    st.sampled_from([192, 193, 704, 705, 1729, 3776, 3777, 8000, 16064, 16065, 36544, 36545]),
    st.integers(0, 250_000),
)
READS = st.one_of(st.integers(0, 6), st.sampled_from([4000, 70000, 300_000]))
SEND_FLAGS = st.sampled_from([0, 0, 0, 0, linux.MSG_OOB, linux.MSG_DONTWAIT, linux.MSG_NOSIGNAL])
READ_FLAGS = st.sampled_from(
    [
        *(0, 0, 0, 0, linux.MSG_PEEK, linux.MSG_TRUNC, linux.MSG_WAITALL, linux.MSG_OOB),
        *(linux.MSG_PEEK | linux.MSG_TRUNC, linux.MSG_OOB | linux.MSG_PEEK),
        *(linux.MSG_PEEK | linux.MSG_WAITALL,),
    ]
)
POLLS = select.POLLIN | select.POLLPRI | select.POLLOUT | 0x2000 | 0x40 | 0x80 | 0x100 | 0x200
INDEX = st.integers(0, 999)
serial = count()


def takes(option: int) -> bool:
    """Does this kernel know the option?"""
    with linux.socket(linux.AF_UNIX) as sock:
        try:
            sock.getsockopt(linux.SOL_SOCKET, option)
        except OSError:
            return False
    return True


PASSRIGHTS = SO_PASSRIGHTS if takes(SO_PASSRIGHTS) else linux.SO_PASSCRED


class Pair:
    """One socket of each world."""

    def __init__(self, theirs: linux.socket, ours: Socket) -> None:
        self.theirs = theirs
        self.ours = ours
        theirs.setblocking(False)
        ours.setblocking(False)


class Calls(RuleBasedStateMachine):
    """Every rule makes one call in both worlds."""

    def __init__(self) -> None:
        super().__init__()
        # Who we are for Linux, too: what it says of the sender is compared.
        self.host = Host("h", clock=VirtualClock(), uid=os.getuid(), gid=os.getgid())
        self.dir = tempfile.mkdtemp(prefix="u")
        self.prefix = f"\0{os.getpid()}-{next(serial)}-".encode()
        self.pairs: list[Pair] = []
        self.autos: dict[bytes, str] = {}
        self.written = 0

    def teardown(self) -> None:
        for pair in self.pairs:
            pair.theirs.close()
            pair.ours.close()
        self.host.close()
        shutil.rmtree(self.dir)
        for pool in (self.host.skb_small, self.host.skb_small_head, self.host.skb_pages):
            assert pool.in_use == 0
        assert self.host.unx.user_inflight == 0

    # --- helpers

    def pick(self, index: int) -> Pair:
        return self.pairs[index % len(self.pairs)]

    def same(self, theirs: Any, ours: Any) -> Any:
        assert ours == theirs
        return theirs

    def both(self, theirs: Callable[[], Any], ours: Callable[[], Any]) -> Any:
        return self.same(outcome(theirs), outcome(ours))

    def data(self, size: int) -> bytes:
        self.written += 1
        return (b"%d," % self.written * (size // 2 + 1))[:size]

    def name(self, index: int) -> str | bytes:
        index %= 9
        if index < 4:
            return f"{self.dir}/n{index}"
        if index < 7:
            return self.prefix + b"%d" % index
        return f"{self.dir}/n0/" if index == 7 else f"{self.dir}/n1/below"

    def shown(self, world: str, name: Any) -> Any:
        """A name; those that a world chose itself count as one each."""
        if isinstance(name, bytes) and len(name) == 6:
            return ("auto", len(name))
        return name

    def add(self, theirs: linux.socket, ours: Socket) -> None:
        self.pairs.append(Pair(theirs, ours))

    # --- rules

    @rule(kind=st.sampled_from(KINDS))
    def socketpair(self, kind: int) -> None:
        if len(self.pairs) > 12:
            return
        a, b = linux.socketpair(linux.AF_UNIX, kind)
        x, y = self.host.socketpair(linux.AF_UNIX, kind)
        self.add(a, x)
        self.add(b, y)

    @rule(kind=st.sampled_from(KINDS))
    def socket(self, kind: int) -> None:
        if len(self.pairs) > 12:
            return
        self.add(linux.socket(linux.AF_UNIX, kind), self.host.socket(linux.AF_UNIX, kind))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, name=INDEX)
    def bind(self, index: int, name: int) -> None:
        pair = self.pick(index)
        name %= 8  # a net's folders are made where they are missing
        self.both(
            lambda: pair.theirs.bind(self.name(name)), lambda: pair.ours.bind(self.name(name))
        )

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX)
    def autobind(self, index: int) -> None:
        pair = self.pick(index)
        self.both(lambda: pair.theirs.bind(""), lambda: pair.ours.bind(""))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, backlog=st.integers(0, 3))
    def listen(self, index: int, backlog: int) -> None:
        pair = self.pick(index)
        self.both(lambda: pair.theirs.listen(backlog), lambda: pair.ours.listen(backlog))

    @rule(kind=st.sampled_from(KINDS), name=INDEX)
    def listener(self, kind: int, name: int) -> None:
        """A listener or a bound datagram socket, which random calls seldom make."""
        if len(self.pairs) > 12:
            return
        self.socket(kind)
        pair = self.pairs[-1]
        name %= 7
        for call, args in (("bind", (self.name(name),)), ("listen", (2,))):
            self.both(
                lambda call=call, args=args: getattr(pair.theirs, call)(*args),
                lambda call=call, args=args: getattr(pair.ours, call)(*args),
            )

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, name=INDEX)
    def connect(self, index: int, name: int) -> None:
        pair = self.pick(index)
        self.both(
            lambda: pair.theirs.connect(self.name(name)),
            lambda: pair.ours.connect(self.name(name)),
        )

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX)
    def accept(self, index: int) -> None:
        pair = self.pick(index)
        theirs, ours = outcome(pair.theirs.accept), outcome(pair.ours.accept)
        if isinstance(theirs, str) or isinstance(ours, str):
            assert ours == theirs
            return
        self.same(self.shown("theirs", theirs[1]), self.shown("ours", ours[1]))
        self.add(theirs[0], ours[0])

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, size=SIZES, flags=SEND_FLAGS)
    def send(self, index: int, size: int, flags: int) -> None:
        pair = self.pick(index)
        data = self.data(size)
        self.both(lambda: pair.theirs.send(data, flags), lambda: pair.ours.send(data, flags))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, size=st.integers(0, 300), name=INDEX)
    def sendto(self, index: int, size: int, name: int) -> None:
        pair = self.pick(index)
        data = self.data(size)
        self.both(
            lambda: pair.theirs.sendto(data, self.name(name)),
            lambda: pair.ours.sendto(data, self.name(name)),
        )

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, size=READS, flags=READ_FLAGS)
    def recv(self, index: int, size: int, flags: int) -> None:
        pair = self.pick(index)
        flags &= ~linux.MSG_TRUNC  # Python returns so much then, from beyond its buffer
        theirs = outcome(lambda: pair.theirs.recvfrom(size, flags))
        ours = outcome(lambda: pair.ours.recvfrom(size, flags))
        if isinstance(theirs, tuple) and isinstance(ours, tuple):
            theirs = theirs[0], self.shown("theirs", theirs[1])
            ours = ours[0], self.shown("ours", ours[1])
        self.same(theirs, ours)

    @precondition(lambda self: self.pairs)
    @rule(
        index=INDEX,
        size=READS,
        room=st.sampled_from([0, 8, 16, 18, 20, 24, 28, 32, 48, 60, 200]),
        flags=READ_FLAGS,
    )
    def recvmsg(self, index: int, size: int, room: int, flags: int) -> None:
        pair = self.pick(index)
        one, two = bytearray(size), bytearray(size)
        theirs = outcome(lambda: pair.theirs.recvmsg_into([one], room, flags))
        ours = outcome(lambda: pair.ours.recvmsg_into([two], room, flags))
        if isinstance(theirs, str) or isinstance(ours, str):
            assert ours == theirs
            return
        assert one == two
        got = [
            (n, self.control(anc), flags, self.shown("", name))
            for n, anc, flags, name in (theirs, ours)
        ]
        assert got[1] == got[0]
        for (_, kind, data), (_, _, mine) in zip(theirs[1], ours[1], strict=True):
            if kind == linux.SCM_RIGHTS:
                for fd, number in zip(array.array("i", data), array.array("i", mine), strict=True):
                    self.add(linux.socket(fileno=fd), Socket.from_host_fd(self.host, number))

    def control(self, found: list[tuple[int, int, bytes]]) -> list[Any]:
        """Control messages, with what differs between the worlds taken out."""
        out: list[Any] = []
        for level, kind, data in found:
            if kind == linux.SCM_RIGHTS:
                out.append((level, kind, len(data)))
            else:
                pid = struct.pack("i", os.getpid())
                data = struct.pack("i", 1) + data[4:] if data[:4] == pid else data
                out.append((level, kind, data))
        return out

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, fds=st.integers(0, 3), size=st.integers(0, 3), extra=st.integers(0, 9))
    def send_fds(self, index: int, fds: int, size: int, extra: int) -> None:
        """Ends of new pairs; circles are test_gc's."""
        pair = self.pick(index)
        ends = [linux.socketpair() for _ in range(fds)]
        mine = [self.host.socketpair() for _ in range(fds)]
        data = self.data(size)
        theirs: list[Any] = [(1, 1, array.array("i", [a.fileno() for a, _ in ends]).tobytes())]
        ours: list[Any] = [(1, 1, array.array("i", [a.host_fd for a, _ in mine]).tobytes())]
        if extra == 1:  # another level: not looked at
            theirs.append((2, 1, b"abc"))
            ours.append((2, 1, b"abc"))
        elif extra == 2:
            theirs.append((1, 99, b""))
            ours.append((1, 99, b""))
        elif extra == 3:
            theirs.append((1, 1, struct.pack("i", 999999)))
            ours.append((1, 1, struct.pack("i", 999999)))
        elif extra == 4:
            who = os.getuid(), os.getgid()
            theirs.append((1, 2, struct.pack("iII", os.getpid(), *who)))
            ours.append((1, 2, struct.pack("iII", 1, *who)))
        elif extra == 5:
            theirs.append((1, 2, b"1234"))
            ours.append((1, 2, b"1234"))
        elif extra == 6:
            theirs.append((1, 1, theirs[0][2] + b"\0"))
            ours.append((1, 1, ours[0][2] + b"\0"))
        self.both(
            lambda: pair.theirs.sendmsg([data], theirs), lambda: pair.ours.sendmsg([data], ours)
        )
        for (a, b), (x, y) in zip(ends, mine, strict=True):
            a.close()
            x.close()
            if len(self.pairs) < 12:
                self.add(b, y)
            else:
                b.close()
                y.close()

    @precondition(lambda self: self.pairs)
    @rule(
        index=INDEX,
        option=st.sampled_from(
            [
                *((linux.SO_SNDBUF, v) for v in (1, 5000, 100_000)),
                *((SO_PEEK_OFF, v) for v in (-1, 0, 3)),
                *((linux.SO_PASSCRED, v) for v in (0, 1, 1)),
                *((PASSRIGHTS, v) for v in (0, 1, 1)),
                *((linux.SO_OOBINLINE, v) for v in (0, 1)),
                *((linux.SO_RCVLOWAT, v) for v in (0, 1, 10)),
                *((linux.SO_RCVBUF, 3000), (linux.SO_PEERCRED, 1), (12345, 1)),
            ]
        ),
    )
    def setsockopt(self, index: int, option: tuple[int, int]) -> None:
        pair = self.pick(index)
        name, value = option
        self.both(
            lambda: pair.theirs.setsockopt(1, name, value),
            lambda: pair.ours.setsockopt(1, name, value),
        )

    @precondition(lambda self: self.pairs)
    @rule(
        index=INDEX,
        name=st.sampled_from(
            [
                *(linux.SO_ERROR, linux.SO_TYPE, linux.SO_DOMAIN, linux.SO_PROTOCOL),
                *(linux.SO_ACCEPTCONN, linux.SO_SNDBUF, linux.SO_RCVBUF, linux.SO_PASSCRED),
                *(SO_PEEK_OFF, linux.SO_RCVLOWAT, PASSRIGHTS),
            ]
        ),
    )
    def getsockopt(self, index: int, name: int) -> None:
        pair = self.pick(index)
        self.both(lambda: pair.theirs.getsockopt(1, name), lambda: pair.ours.getsockopt(1, name))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX)
    def peercred(self, index: int) -> None:
        pair = self.pick(index)
        pid, *who = struct.unpack("3i", pair.theirs.getsockopt(1, linux.SO_PEERCRED, 12))
        theirs = [1 if pid == os.getpid() else pid, *who]
        assert [*struct.unpack("3i", pair.ours.getsockopt(1, linux.SO_PEERCRED, 12))] == theirs

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, how=st.integers(0, 3))
    def shutdown(self, index: int, how: int) -> None:
        pair = self.pick(index)
        self.both(lambda: pair.theirs.shutdown(how), lambda: pair.ours.shutdown(how))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX)
    def close(self, index: int) -> None:
        pair = self.pairs.pop(index % len(self.pairs))
        pair.theirs.close()
        pair.ours.close()

    @precondition(lambda self: self.pairs)
    @rule(name=INDEX)
    def unlink(self, name: int) -> None:
        path = self.name(name)
        if isinstance(path, str):
            self.both(lambda: os.unlink(path), lambda: self.host.unlink(path))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, call=st.sampled_from(["getsockname", "getpeername"]))
    def names(self, index: int, call: str) -> None:
        pair = self.pick(index)
        theirs, ours = outcome(getattr(pair.theirs, call)), outcome(getattr(pair.ours, call))
        self.same(self.shown("theirs", theirs), self.shown("ours", ours))

    @precondition(lambda self: self.pairs)
    @rule(index=INDEX, cmd=st.sampled_from([SIOCINQ, SIOCOUTQ, SIOCATMARK]))
    def ioctl(self, index: int, cmd: int) -> None:
        pair = self.pick(index)

        def theirs() -> int:
            return int(struct.unpack("i", fcntl.ioctl(pair.theirs, cmd, bytes(4)))[0])

        self.both(theirs, lambda: sys_ioctl(self.host, pair.ours.host_fd, cmd))

    @invariant()
    def polls(self) -> None:
        poll = select.poll()
        for pair in self.pairs:
            poll.register(pair.theirs, POLLS)
        bits = dict(poll.poll(0))
        theirs = [bits.get(pair.theirs.fileno(), 0) for pair in self.pairs]
        assert [pair.ours.poll() for pair in self.pairs] == theirs


Calls.TestCase.settings = settings(
    max_examples=examples(100),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCalls = Calls.TestCase
