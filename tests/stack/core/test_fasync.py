"""O_ASYNC and SIGURG against the kernel: the same programs get the same signals."""

from __future__ import annotations

import fcntl as std_fcntl
import os
import signal as std_signal
import socket as linux
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.api import fcntl, select
from stack.api.signal import SIGIO, SIGRTMIN, SIGURG, getpid, siginfo, signal
from stack.core.signal import SI_KERNEL, SIGQUEUE_MAX
from stack.core.uapi import FIOASYNC, FIOGETOWN, FIOSETOWN, SIOCGPGRP, SIOCSPGRP
from stack.host import Host

kernel = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")
MS = 1_000_000
RT = SIGRTMIN + 3  # not one of glibc's own


class Ours:
    """Calls on a host; `signals` gives [(signal, code, band)] since it was last asked."""

    def __init__(self) -> None:
        self.host = Host("h", clock=VirtualClock())
        self.got: list[tuple[int, int, int]] = []
        self.counts: list[int] = []
        for number in (SIGIO, SIGURG, RT):
            signal(self.host, number, self.handle)

    def handle(self, number: int, info: siginfo) -> None:
        self.got.append((number, info.si_code, info.si_band))

    def socket(self, family: int, kind: int) -> Any:
        return self.host.socket(family, kind)

    def socketpair(self, kind: int) -> Any:
        return self.host.socketpair(type=kind)

    def watch(self, sock: Any, sig: int) -> None:
        fcntl.fcntl(self.host, sock, fcntl.F_SETOWN, getpid())
        fcntl.fcntl(self.host, sock, fcntl.F_SETSIG, sig)
        flags = fcntl.fcntl(self.host, sock, fcntl.F_GETFL)
        fcntl.fcntl(self.host, sock, fcntl.F_SETFL, flags | fcntl.O_ASYNC)

    def drop(self) -> None:
        self.host.clock.run_for(10 * MS)
        self.got = []

    def signals(self) -> list[tuple[int, int, int]]:
        self.host.clock.run_for(10 * MS)
        found, self.got = self.got, []
        self.counts.append(len(found))
        return found

    def close(self) -> None:
        self.host.close()


class Linux:
    """The same on the kernel. The signals are blocked and taken by this thread alone.

    `due` says how many to wait for each time: loopback may take as long as it likes. What comes in
    excess of that shows up soon, or with the next ones.
    """

    def __init__(self, due: Iterator[int]) -> None:
        self.due = due
        self.set = {SIGIO, SIGURG, RT}
        self.before = std_signal.pthread_sigmask(std_signal.SIG_BLOCK, self.set)

    def socket(self, family: int, kind: int) -> Any:
        return linux.socket(family, kind)

    def socketpair(self, kind: int) -> Any:
        return linux.socketpair(linux.AF_UNIX, kind)

    def watch(self, sock: Any, sig: int) -> None:
        owner = struct.pack("=ii", fcntl.F_OWNER_TID, threading.get_native_id())
        std_fcntl.fcntl(sock, fcntl.F_SETOWN_EX, owner)
        std_fcntl.fcntl(sock, fcntl.F_SETSIG, sig)
        flags = std_fcntl.fcntl(sock, std_fcntl.F_GETFL)
        std_fcntl.fcntl(sock, std_fcntl.F_SETFL, flags | os.O_ASYNC)

    def drop(self) -> None:
        while std_signal.sigtimedwait(self.set, 0.02) is not None:
            pass

    def signals(self) -> list[tuple[int, int, int]]:
        found: list[tuple[int, int, int]] = []
        due = next(self.due, 0)
        while (
            info := std_signal.sigtimedwait(self.set, 30 if len(found) < due else 0.02)
        ) is not None:
            found.append((info.si_signo, info.si_code, info.si_band))
        return found

    def close(self) -> None:
        self.signals()
        std_signal.pthread_sigmask(std_signal.SIG_SETMASK, self.before)


def unix_stream(world: Any) -> Iterator[Any]:
    one, two = world.socketpair(linux.SOCK_STREAM)
    world.watch(one, RT)
    yield
    two.send(b"x")
    yield "data"
    two.send(b"y")
    two.send(b"z")
    yield "two more, queued"
    one.recv(99)
    yield "read"
    two.shutdown(linux.SHUT_WR)
    yield "half closed"
    two.close()
    yield "closed"
    one.close()


def unix_datagrams(world: Any) -> Iterator[Any]:
    one, two = world.socketpair(linux.SOCK_DGRAM)
    world.watch(one, SIGIO)
    yield
    two.send(b"x")
    two.send(b"y")
    yield "two, one signal, which says what"
    world.watch(one, 0)
    two.send(b"z")
    yield "and without F_SETSIG nothing but its number"
    one.close()
    two.close()


def udp(world: Any) -> Iterator[Any]:
    one, two = (world.socket(linux.AF_INET, linux.SOCK_DGRAM) for _ in range(2))
    for sock in (one, two):
        sock.bind(("127.0.0.1", 0))
    one.connect(two.getsockname())
    two.connect(one.getsockname())
    world.watch(one, RT)
    yield
    two.send(b"x")
    yield "a datagram"
    two.send(b"")
    yield "an empty one"
    two.close()
    one.send(b"x")
    yield "an error"
    one.close()


def tcp(world: Any) -> Iterator[Any]:
    listener = world.socket(linux.AF_INET, linux.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    world.watch(listener, RT)
    one = world.socket(linux.AF_INET, linux.SOCK_STREAM)
    world.watch(one, RT)
    yield "on, before anything"
    one.setblocking(False)
    one.connect_ex(listener.getsockname())
    yield "connected, on both ends"
    two, _ = listener.accept()
    two.send(b"x")
    yield "data"
    two.shutdown(linux.SHUT_WR)
    yield "end of data"
    one.shutdown(linux.SHUT_WR)
    yield "end of both"
    for sock in (one, two, listener):
        sock.close()


def connected(world: Any) -> tuple[Any, Any, Any]:
    """A listener of TCP, and the two ends of a connection with it."""
    listener = world.socket(linux.AF_INET, linux.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    one = world.socket(linux.AF_INET, linux.SOCK_STREAM)
    one.connect(listener.getsockname())
    two, _ = listener.accept()
    return listener, one, two


def tcp_full(world: Any) -> Iterator[Any]:
    """Whoever found no room hears when there is some."""
    listener, one, two = connected(world)
    one.setblocking(False)
    world.watch(one, SIGIO)
    yield
    sent = 0
    try:
        while True:
            sent += one.send(bytes(65536))
    except BlockingIOError:
        pass
    world.drop()  # what falls in between is the window's affair
    while sent:
        sent -= len(two.recv(1 << 20))
    yield "room"
    for sock in (one, two, listener):
        sock.close()


def tcp_urgent(world: Any) -> Iterator[Any]:
    listener, one, two = connected(world)
    world.watch(one, 0)
    yield
    two.send(b"!", linux.MSG_OOB)
    yield "urgent"
    for sock in (one, two, listener):
        sock.close()


def unix_urgent(world: Any) -> Iterator[Any]:
    one, two = world.socketpair(linux.SOCK_STREAM)
    world.watch(one, RT)
    yield
    two.send(b"!", linux.MSG_OOB)
    yield "urgent"
    one.close()
    two.close()


def duplicates(world: Any) -> Iterator[Any]:
    """O_ASYNC belongs to the open file: closing one number leaves it."""
    one, two = world.socketpair(linux.SOCK_STREAM)
    world.watch(one, RT)
    copy = one.dup()
    one.close()
    two.send(b"x")
    yield "still"
    copy.close()
    two.close()
    yield "no more"


@kernel
@pytest.mark.parametrize(
    "program",
    [unix_stream, unix_datagrams, udp, tcp, tcp_full, tcp_urgent, unix_urgent, duplicates],
)
def test_signals_are_the_kernels(program: Callable[[Any], Iterator[Any]]) -> None:
    seen = []
    ours = Ours()
    for world in (ours, Linux(iter(ours.counts))):
        try:
            seen.append([(what, world.signals()) for what in program(world)])
        finally:
            world.close()
    assert seen[0] == seen[1]
    assert any(signals for _, signals in seen[0])


def test_siginfo_names_the_descriptor_and_a_reader_that_sleeps_needs_none() -> None:
    with Host("h", clock=VirtualClock()) as host:
        one, two = host.socketpair()
        got: list[siginfo] = []
        assert signal(host, RT, lambda number, info: got.append(info)) is None
        fcntl.fcntl(host, one, fcntl.F_SETOWN, getpid())
        fcntl.fcntl(host, one, fcntl.F_SETSIG, RT)
        fcntl.ioctl(host, one, FIOASYNC, 1)
        two.send(b"x")
        assert not got  # not before time goes on
        assert one.recv(1) == b"x"
        host.clock.run_for(MS)
        assert [(i.si_fd, i.si_band & select.POLLIN) for i in got] == [(one.host_fd, 1)]
        assert "si_fd" in repr(got[0])
        before = signal(host, RT, None)
        two.send(b"x")
        host.clock.run_for(MS)
        assert len(got) == 1
        signal(host, RT, before)
        server = host.socket()
        server.bind(("127.0.0.1", 1))
        server.listen()
        client = host.socket()
        client.connect(("127.0.0.1", 1))
        connection, _ = server.accept()
        fcntl.fcntl(host, client, fcntl.F_SETOWN, getpid())
        fcntl.fcntl(host, client, fcntl.F_SETSIG, RT)
        fcntl.ioctl(host, client, FIOASYNC, 1)
        host.clock.call_at(host.clock.now_ns() + MS, lambda: connection.send(b"y"))
        assert client.recv(1) == b"y"
        host.clock.run_for(MS)
        assert len(got) == 1


def test_too_many_signals_become_sigio() -> None:
    with Host("h", clock=VirtualClock()) as host:
        one, two = host.socketpair(type=linux.SOCK_SEQPACKET)
        got: list[siginfo] = []
        for number in (RT, SIGIO):
            signal(host, number, lambda number, info: got.append(info))
        fcntl.fcntl(host, one, fcntl.F_SETOWN, getpid())
        fcntl.fcntl(host, one, fcntl.F_SETSIG, RT)
        fcntl.ioctl(host, one, FIOASYNC, 1)
        one.setblocking(False)
        for _ in range(SIGQUEUE_MAX + 5):
            two.send(b"x")
            one.recv(1)
        host.clock.run_for(MS)
        assert len(got) == SIGQUEUE_MAX + 1
        assert (got[0].si_signo, got[0].si_code) == (SIGIO, SI_KERNEL)


def test_owners() -> None:
    with Host("h", clock=VirtualClock()) as host:
        one, _ = host.socketpair()
        number = (1).to_bytes(4, "little")
        assert fcntl.ioctl(host, one, FIOGETOWN) == 0
        fcntl.ioctl(host, one, SIOCSPGRP, number)
        assert fcntl.ioctl(host, one, SIOCGPGRP, bytes(4)) == number
        fcntl.ioctl(host, one, FIOSETOWN, (-1 & 0xFFFFFFFF).to_bytes(4, "little"))
        assert fcntl.fcntl(host, one, fcntl.F_GETOWN) == -1
        owner = fcntl.fcntl(host, one, fcntl.F_GETOWN_EX, bytes(8))
        assert owner == struct.pack("=ii", fcntl.F_OWNER_PGRP, 1)
        fcntl.fcntl(host, one, fcntl.F_SETOWN_EX, struct.pack("=ii", fcntl.F_OWNER_TID, 1))
        assert fcntl.fcntl(host, one, fcntl.F_GETOWN_EX, owner)[:4] == bytes(4)
        for wrong in (struct.pack("=ii", 3, 1), struct.pack("=ii", 0, 2), b"1234"):
            with pytest.raises(OSError, match=r"."):
                fcntl.fcntl(host, one, fcntl.F_SETOWN_EX, wrong)
        for number in (0, 9, 19, 65, -1):
            with pytest.raises(OSError, match=r"."):
                signal(host, number, print)
