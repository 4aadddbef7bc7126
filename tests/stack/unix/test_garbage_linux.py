"""The collector of descriptors in circles against the kernel's: same calls, same answers."""

from __future__ import annotations

import array
import errno
import socket as linux
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.socket import SO_PASSRIGHTS
from stack.unix.garbage import UNIX_INFLIGHT_SANE_USER
from tests.support import examples

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel to compare with")

KINDS = (linux.SOCK_STREAM, linux.SOCK_DGRAM, linux.SOCK_SEQPACKET)
SETTLED_NS = 1_000_000
PATIENCE_S = 30
"""The kernel's collector is a work queue's: it runs soon, on another processor perhaps."""


class Kernel:
    """The kernel's sockets."""

    def socket(self, kind: int) -> Any:
        return linux.socket(linux.AF_UNIX, kind)

    def socketpair(self, kind: int) -> tuple[Any, Any]:
        return linux.socketpair(linux.AF_UNIX, kind)

    def number(self, sock: Any) -> int:
        return int(sock.fileno())

    def collect(self, done: Callable[[], bool]) -> None:
        """Wait until it is done, or until three circles made since have gone: it never will be."""
        for _ in range(3):
            one, two = self.socketpair(linux.SOCK_STREAM)
            watch = Watch(self, one)
            pass_on(self, one, two)
            two.close()
            one.close()
            end = time.monotonic() + PATIENCE_S
            while not watch.ended():
                assert time.monotonic() < end, "the kernel never collects"
                self.socket(linux.SOCK_STREAM).close()  # when it was at work, it has not seen it
                time.sleep(0.001)
            watch.close()
            if done():
                break


class Ours:
    """A host's."""

    def __init__(self) -> None:
        self.host = Host("h", clock=VirtualClock())

    def socket(self, kind: int) -> Any:
        return self.host.socket(linux.AF_UNIX, kind)

    def socketpair(self, kind: int) -> tuple[Any, Any]:
        return self.host.socketpair(linux.AF_UNIX, kind)

    def number(self, sock: Any) -> int:
        return int(sock.host_fd)

    def collect(self, done: Callable[[], bool]) -> None:
        self.socket(linux.SOCK_STREAM).close()
        self.host.clock.run_for(SETTLED_NS)


World = Kernel | Ours


def pass_on(world: World, sender: Any, *socks: Any, data: bytes = b"x", flags: int = 0) -> Any:
    """Send descriptors; how much went, or the errno."""
    numbers = array.array("i", [world.number(sock) for sock in socks]).tobytes()
    return outcome(sender.sendmsg, [data], [(linux.SOL_SOCKET, linux.SCM_RIGHTS, numbers)], flags)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call returns, or its errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, error.errno)


def both(scenario: Callable[..., Any], *args: Any) -> Any:
    """What the scenario comes to, in both worlds."""
    theirs = scenario(Kernel(), *args)
    ours = Ours()
    with ours.host:
        mine = scenario(ours, *args)
    assert ours.host.unx.user_inflight == 0
    assert not ours.host.unx.vertices
    for pool in (ours.host.skb_small, ours.host.skb_small_head, ours.host.skb_pages):
        assert pool.in_use == 0
    assert mine == theirs
    return theirs


class Watch:
    """A socket in a message of `sender`'s, whose peer sees it end with the message."""

    def __init__(self, world: World, sender: Any) -> None:
        self.sock, held = world.socketpair(linux.SOCK_STREAM)
        self.sock.setblocking(False)
        pass_on(world, sender, held)
        held.close()

    def ended(self) -> bool:
        return bool(outcome(self.sock.recv, 1) == b"")

    def close(self) -> None:
        self.sock.close()


@pytest.mark.parametrize("kind", KINDS)
def test_plain_messages_go_with_the_circle(kind: int) -> None:
    """`b` waits in its own queue, plain messages before and behind it."""

    def scenario(world: World) -> list[Any]:
        a, b = world.socketpair(kind)
        a.setblocking(False)
        watch = Watch(world, a)
        said = [a.send(b"plain"), pass_on(world, a, b), a.send(b"plain")]
        b.close()
        said.append(outcome(a.recv, 10))  # nobody has looked yet
        world.collect(watch.ended)
        said += [watch.ended(), outcome(a.recv, 10), outcome(a.send, b"x"), outcome(a.send, b"x")]
        a.close()
        watch.close()
        return said

    said = both(scenario)
    if kind != linux.SOCK_DGRAM:
        assert said == [5, 1, 5, "EAGAIN", True, b"", "EPIPE", "EPIPE"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_somebody_holds_stays_with_all_its_messages(kind: int) -> None:
    def scenario(world: World) -> list[Any]:
        a, b = world.socketpair(kind)
        a.setblocking(False)
        b.setblocking(False)
        said = [a.send(b"1"), pass_on(world, a, b), a.send(b"2")]
        world.collect(lambda: True)
        said += [outcome(b.recv, 1) for _ in range(4)]
        a.close()
        b.close()
        return said

    both(scenario)


def test_a_connection_that_nobody_accepts_and_its_messages() -> None:
    def scenario(world: World) -> list[Any]:
        listener = world.socket(linux.SOCK_STREAM)
        listener.bind("\0collected" if isinstance(world, Ours) else "")
        listener.listen()
        client = world.socket(linux.SOCK_STREAM)
        client.setblocking(False)
        client.connect(listener.getsockname())
        other = world.socket(linux.SOCK_STREAM)
        other.setblocking(False)
        other.connect(listener.getsockname())
        watch = Watch(world, client)
        said = [client.send(b"plain"), pass_on(world, client, listener), other.send(b"plain")]
        listener.close()
        world.collect(watch.ended)
        said += [outcome(client.recv, 10), outcome(client.recv, 10), outcome(client.send, b"x")]
        said += [outcome(other.recv, 10), outcome(other.recv, 10), outcome(other.send, b"x")]
        for sock in (client, other, watch):
            sock.close()
        return said

    both(scenario)


def test_an_accepted_connection_is_read_by_itself() -> None:
    def scenario(world: World) -> list[Any]:
        listener = world.socket(linux.SOCK_STREAM)
        listener.bind("\0accepted" if isinstance(world, Ours) else "")
        listener.listen()
        client = world.socket(linux.SOCK_STREAM)
        client.connect(listener.getsockname())
        said = [pass_on(world, client, listener)]
        server, _ = listener.accept()
        listener.close()
        world.collect(lambda: True)
        data, control, *_ = server.recvmsg(10, 100)
        said += [data, [(level, kind, len(rest)) for level, kind, rest in control]]
        client.close()
        server.close()
        return said

    both(scenario)


EDGES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=10)


@settings(max_examples=examples(60), deadline=None)
@example([(0, 2), (1, 2), (2, 1), (2, 0)], set(), linux.SOCK_STREAM)
@given(EDGES, st.sets(st.integers(0, 4)), st.sampled_from(KINDS))
def test_any_graph_loses_the_same_sockets(
    edges: list[tuple[int, int]], kept: set[int], kind: int
) -> None:
    """A descriptor of each edge's first is in a message to the second; some sockets stay open.

    Linux takes the lowest number that a member of a circle reaches for the circle's name, so it
    keeps circles within circles for ever (up to 6.18 at least). There only ours is judged.
    """
    missed = []

    def scenario(world: World) -> list[Any]:
        pairs = [world.socketpair(kind) for _ in range(5)]
        for at, (one, _) in enumerate(pairs):
            one.setblocking(False)
            if at % 2:
                one.send(b"before")
        watches = [Watch(world, one) for one, _ in pairs]
        for which, receiver in edges:
            pass_on(world, pairs[receiver][0], pairs[which][1])
        for at, (_, two) in enumerate(pairs):
            if at not in kept:
                two.close()
        living = reachable(edges, kept)
        ends = [watch for at, watch in enumerate(watches) if at not in living]
        world.collect(lambda: all(watch.ended() for watch in ends))
        left = {at for at in range(5) if not watches[at].ended()}
        if isinstance(world, Kernel):
            assert left >= living
            missed.extend(left - living)
        else:
            assert left == living
        said = [(outcome(one.recv, 9), outcome(one.send, b"x")) for one, _ in pairs]
        for one, two in pairs:
            one.close()
            two.close()
        world.collect(lambda: True)
        for watch in watches:
            watch.close()
        return [] if missed else said

    both(scenario)


def reachable(edges: list[tuple[int, int]], kept: set[int]) -> set[int]:
    """The sockets that are open, and those that can be received through them."""
    found = set(kept)
    while more := {which for which, receiver in edges if receiver in found} - found:
        found |= more
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rights_are_refused_by_option(kind: int) -> None:
    """SO_PASSRIGHTS (Linux 6.16)."""

    def scenario(world: World) -> list[Any]:
        a, b = world.socketpair(kind)
        a.setblocking(False)
        b.setblocking(False)
        said = [outcome(b.getsockopt, 1, SO_PASSRIGHTS)]
        for value in (0, 1, 0):
            said.append(outcome(b.setsockopt, 1, SO_PASSRIGHTS, value))
            said += [outcome(b.getsockopt, 1, SO_PASSRIGHTS), pass_on(world, a, a)]
            said += [pass_on(world, a, a, data=b"yz", flags=linux.MSG_OOB), a.send(b"plain")]
            said.append(pass_on(world, a, a, data=b"long" * 20_000))
        while not isinstance(got := outcome(b.recvmsg, 100_000, 100), str):
            said.append((len(got[0]), [(level, kind, len(rest)) for level, kind, rest in got[1]]))
        a.close()
        b.close()
        return said

    if linux.socketpair()[0].getsockopt(1, SO_PASSRIGHTS) != 1:
        pytest.skip("a kernel before 6.16")
    both(scenario)


def test_a_connection_has_its_listeners_option() -> None:
    def scenario(world: World) -> list[Any]:
        listener = world.socket(linux.SOCK_STREAM)
        listener.bind("\0option" if isinstance(world, Ours) else "")
        listener.listen()
        listener.setsockopt(1, SO_PASSRIGHTS, 0)
        client = world.socket(linux.SOCK_STREAM)
        client.connect(listener.getsockname())
        listener.setsockopt(1, SO_PASSRIGHTS, 1)
        said = [pass_on(world, client, client)]
        server, _ = listener.accept()
        said += [server.getsockopt(1, SO_PASSRIGHTS), pass_on(world, client, client)]
        said.append(pass_on(world, server, client))
        for sock in (server, client, listener):
            sock.close()
        return said

    assert both(scenario) == ["EPERM", 0, "EPERM", 1]


def test_who_has_many_descriptors_on_the_way_waits_for_the_collector() -> None:
    """Linux's UNIX_INFLIGHT_SANE_USER: circles are freed before more is sent."""
    with Host("h", clock=VirtualClock()) as host:
        world = Ours.__new__(Ours)
        world.host = host
        one, two = host.socketpair(type=linux.SOCK_DGRAM)
        living = [host.socketpair() for _ in range(2)]
        for (_, sender), (held, _) in zip(living, reversed(living), strict=True):
            pass_on(world, sender, held)  # a circle that stays: somebody holds it
        while host.unx.user_inflight < UNIX_INFLIGHT_SANE_USER:
            a, b = host.socketpair()
            pass_on(world, a, *[b] * 253)
            a.close()
            b.close()
        before = host.unx.user_inflight
        pass_on(world, one, two)  # finds that there are circles
        host.clock.run_for(SETTLED_NS)
        assert host.unx.user_inflight < 10 < before
