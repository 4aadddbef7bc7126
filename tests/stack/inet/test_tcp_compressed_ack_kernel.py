"""Which segments out of order are ACKed at once, and how: this machine's kernel and ours.

The same segments go to both. A TUN hands them to the kernel's TCP within the write, so what can be
read then is the answer. The timer has no part in it: the peer's timestamps tell of a round trip of
half an hour, and the sysctls let ACKs be held back for a minute. The kernel must not know a round
trip of its own. So the peer answers its second SYN-ACK, and without timestamps.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import socket as stdlib
import struct
from contextlib import suppress
from typing import Any, Protocol

import pytest

from stack.core.sockopt import sock_setsockopt
from stack.inet.tcp_sock import TCP_QUICKACK, TCP_WINDOW_CLAMP, s32
from tests.stack.inet.tcpnet import ACK, PSH, SYN, A, S, Segment, TcpNet, build_segment
from tests.stack.inet.tcpnet import parse_segment as parse
from tests.stack.packet.kernelnet import KernelNet
from tests.support import require

pytestmark = pytest.mark.netns

M32 = 0xFFFFFFFF
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
ISS = 5000
SPORT, PORT = 40_000, 80
SIZE, SEGMENTS = 600, 40
SO_RCVBUFFORCE = 33
RCVBUF, WINDOW = 4 << 20, 40_000
"""Bytes. The window shall always be the same: one that grows makes Linux ACK at once."""
AGE_MS = 2_000_000
"""How old the timestamps are that the peer echoes."""
SYSCTL = {"tcp_comp_sack_delay_ns": 60 * S, "tcp_comp_sack_nr": 6}

Block = tuple[int, int]
Answer = list[tuple[int, list[Block]]]
"""ACKs in answer to one segment: bytes acknowledged, and SACK blocks, in segments."""


class World(Protocol):
    """A host B, of which the test is the peer."""

    server: Any

    def give(self, packet: bytes) -> list[Segment]:
        """B takes an IP packet; what TCP sends at once."""

    def wait(self) -> Segment:
        """The next segment that B sends by itself."""

    def accept(self) -> None:
        """Accept the connection as `server`."""

    def set(self, option: int, value: int) -> None:
        """Set an option of TCP on `server`."""

    def read(self) -> None:
        """The application reads all that is there. What TCP sends at that is forgotten."""

    def compressed(self) -> int:
        """TCPAckCompressed."""


class Kernel:
    """This machine's kernel in a namespace, behind a TUN: what it is given, it answers at once."""

    def __init__(self) -> None:
        self.net = KernelNet()
        self.tun = self.net.call(os.open, "/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        self.net.run("ip addr add 10.0.0.2/24 dev tun0", "ip link set tun0 up")
        for name, value in SYSCTL.items():
            self.net.run(f"echo {value} >/proc/sys/net/ipv4/{name}")
        self.listener = self.net.socket(stdlib.AF_INET, stdlib.SOCK_STREAM)
        self.listener.setsockopt(stdlib.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
        self.listener.bind(("10.0.0.2", PORT))
        self.listener.listen()
        self.server: Any = None

    def sent(self) -> list[Segment]:
        """What came since the last time."""
        found: list[Segment] = []
        while True:
            try:
                packet = os.read(self.tun, 2000)
            except BlockingIOError:
                return found
            segment = parse(bytes(12) + b"\x08\0" + packet, 0) if packet[0] == 0x45 else None
            if segment is not None:
                found.append(segment)

    def give(self, packet: bytes) -> list[Segment]:
        os.write(self.tun, packet)
        return self.sent()

    def wait(self) -> Segment:
        while True:
            ready, _, _ = select.select([self.tun], [], [], 60)
            assert ready, "the kernel sends nothing"
            if found := self.sent():
                return found[0]

    def accept(self) -> None:
        self.server, _ = self.listener.accept()
        self.server.setblocking(False)

    def set(self, option: int, value: int) -> None:
        self.server.setsockopt(stdlib.IPPROTO_TCP, option, value)

    def read(self) -> None:
        with suppress(BlockingIOError):
            while self.server.recv(1 << 20):
                pass
        self.sent()

    def compressed(self) -> int:
        found = self.net.run("cat /proc/thread-self/net/netstat")
        names, values = (line.split() for line in found.splitlines()[:2])
        return int(values[names.index("TCPAckCompressed")])

    def close(self) -> None:
        for sock in (self.server, self.listener):
            if sock is not None:
                sock.close()
        os.close(self.tun)
        self.net.close()


class Ours:
    """Our host in virtual time."""

    def __init__(self) -> None:
        self.net = TcpNet(sysctl=SYSCTL | {"tcp_comp_sack_rtt_percent": 5})
        self.net.filter = lambda _: False
        self.listener = self.net.socket(self.net.b)
        sock_setsockopt(self.listener.sock, stdlib.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
        self.listener.bind(PORT)
        self.listener.listen()
        self.server: Any = None

    def give(self, packet: bytes) -> list[Segment]:
        start = len(self.net.log)
        self.net.inject(packet, self.net.b)
        self.net.run(100_000)
        return self.net.log[start:]

    def wait(self) -> Segment:
        start = len(self.net.log)
        assert self.net.run_until(lambda: len(self.net.log) > start)
        return self.net.log[start]

    def accept(self) -> None:
        self.server = self.listener.accept()

    def set(self, option: int, value: int) -> None:
        self.server.setsockopt(option, value)

    def read(self) -> None:
        self.server.recv_all()

    def compressed(self) -> int:
        return int(self.net.b.mib.linux.TCPAckCompressed)

    def close(self) -> None:
        for sock in (self.server, self.listener):
            if sock is not None:
                sock.close()
        self.net.run(400 * S)
        self.net.close()


class Peer:
    """The test's end of one connection."""

    def __init__(self, world: World) -> None:
        self.world = world
        options = bytes.fromhex("020405b4 0402 080a0000000100000000 030307 01")
        (first,) = world.give(build_segment(A, SPORT, PORT, ISS, 0, SYN, options=options))
        assert first.flags == SYN | ACK
        again = world.wait()
        assert again.seq == first.seq
        stamp = first.opt(8)
        assert stamp is not None
        self.tsval = int.from_bytes(stamp[:4], "big")
        self.irs = first.seq
        self.start = (ISS + 1) & M32
        world.give(build_segment(A, SPORT, PORT, ISS + 1, self.irs + 1, ACK))
        world.accept()

    def give(self, number: int) -> Answer:
        """Send a segment; the ACKs that come at once."""
        self.tsval = (self.tsval + 1) & M32  # each echo is a new sample of the round trip
        echo = (self.tsval - AGE_MS) & M32
        options = b"\1\1\x08\x0a" + (2).to_bytes(4, "big") + echo.to_bytes(4, "big")
        ports_and_numbers = SPORT, PORT, self.start + number * SIZE, self.irs + 1
        packet = build_segment(
            A, *ports_and_numbers, ACK | PSH, payload=bytes(SIZE), options=options
        )
        return [self.of(segment) for segment in self.world.give(packet)]

    def of(self, segment: Segment) -> tuple[int, list[Block]]:
        """An ACK in units of segments."""

        def unit(number: int) -> int:
            whole, rest = divmod(s32(number - self.start), SIZE)
            assert not rest
            return whole

        return unit(segment.ack), [(unit(low), unit(high)) for low, high in segment.sacks]


def pattern(seed: int) -> list[int]:
    """Numbers of segments in an order of the seed's choice, some twice, all in the end."""
    rng = random.Random(seed)
    order = list(range(SEGMENTS))
    kind = seed % 4
    if kind == 0:  # one hole at the beginning
        order.append(order.pop(0))
    elif kind == 1:  # every other, then the rest
        order = order[1::2] + order[::2]
    elif kind == 2:  # the network reorders
        order.sort(key=lambda n: n + rng.randrange(12))
    else:
        rng.shuffle(order)
    found: list[int] = []
    for number in order:
        found.append(number)
        expected = next(n for n in range(SEGMENTS + 1) if n not in found)
        # Whether Linux sees that a segment behind another one is there depends on its tree.
        again = [n for n in found if n < expected or n - 1 not in found]
        if again and rng.random() < 0.1:
            found.append(rng.choice(again))
    return found


PATTERNS = 40


def once(world: World, peer: Peer, seed: int) -> tuple[list[Answer], int]:
    """The ACKs of a pattern by segment, and how many were spared."""
    peer.give(-1)  # an old segment is ACKed at once, so that no ACK is owed
    world.set(TCP_QUICKACK, 0)  # ACKs may wait; an old segment ends that for sixteen ACKs
    before = world.compressed()
    acks = [peer.give(number) for number in pattern(seed)]
    spared = world.compressed() - before
    world.read()
    peer.start += SEGMENTS * SIZE
    return acks, spared


def settled(world: World, peer: Peer, seed: int) -> tuple[list[Answer], int]:
    """What a pattern gives twice in a row: Linux's timer of delayed ACKs goes off at any time."""
    previous = None
    for _ in range(100):
        found = once(world, peer, seed)
        if found == previous:
            return found
        previous = found
    raise AssertionError(f"pattern {seed} is never answered alike twice")


def answers(world: World) -> list[tuple[list[Answer], int]]:
    """Of each pattern."""
    peer = Peer(world)
    peer.give(0)
    world.set(TCP_WINDOW_CLAMP, WINDOW)
    for number in range(1, 4 * SEGMENTS):  # the window has become smaller
        peer.give(number)
        world.read()
    peer.start += 4 * SEGMENTS * SIZE
    return [settled(world, peer, seed) for seed in range(PATTERNS)]


def test_the_same_segments_are_answered_at_once_as_linux_does() -> None:
    """__tcp_ack_snd_check, tcp_sack_new_ofo_skb, tcp_event_ack_sent: ACKs and their blocks."""
    require.taps()
    both = []
    for world in (Kernel(), Ours()):
        try:
            both.append(answers(world))
        finally:
            world.close()
    theirs, ours = both
    for seed, (expected, found) in enumerate(zip(theirs, ours, strict=True)):
        sent = list(zip(pattern(seed), expected[0], found[0], strict=True))
        assert found == expected, f"pattern {seed}: {sent}"
    assert sum(spared for _, spared in ours) > 100
