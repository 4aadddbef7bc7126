"""The same calls on packet sockets of this machine's kernel and of ours: same results, frames."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fastpath.bpfprogs import Insn, broken, fprog, programs
from tests.stack.packet.kernelnet import A, B, World, outcome
from tests.support import examples

pytestmark = [pytest.mark.netns, pytest.mark.sends_bad_frames]

SOL_PACKET, SOL_SOCKET = 263, 1
ETH_P_ALL = 3
PROTOCOLS = (0, ETH_P_ALL, 0x0800, 0x88B5, 1, 4, 0x8100)
QUEUE = 24  # of the ancillary loads: which queue a packet came by, which is up to the driver
FILTER_AD = tuple(n for n in range(0, 64, 4) if n not in (QUEUE, 36, 56))


def drain(sock: Any, room: int, flags: int, anc: int) -> list[Any]:
    """Everything that waits: (bytes, length, flags, control messages, address) of each."""
    got: list[Any] = []
    for _ in range(64):
        sock.setblocking(False)
        one = outcome(lambda: sock.recvmsg(room, anc, flags & ~2))
        got.append(one)
        if isinstance(one, str):
            break
    return got


# --- filters, on whole frames ------------------------------------------------------------------

BODY = st.binary(min_size=46, max_size=120)
TYPES = st.sampled_from([b"\x08\x00", b"\x88\xb5", b"\x00\x30", b"\x86\xdd", b"\x08\x06"])
TAGS = st.sampled_from([b"", b"", b"\x81\x00\x20\x05", b"\x81\x00\x00\x00"])
TO = st.sampled_from([A, B, b"\xff" * 6, b"\x01\x00\x5e\x00\x00\x01", b"\x02" * 6])


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    kind = draw(TYPES)
    body = draw(BODY)
    if kind == b"\x00\x30" and draw(st.booleans()):  # as Novell has it: ETH_P_802_3
        body = b"\xff\xff" + body[2:]
    if kind == b"\x08\x06":  # nobody is to answer
        body = b"\x00\x02" + body[2:]
    return draw(TO) + A + draw(TAGS) + kind + body


def attach(sock: Any, prog: list[Insn]) -> Any:
    value, alive = fprog(prog)
    result = outcome(lambda: sock.setsockopt(SOL_SOCKET, 26, value))
    del alive
    return result


@settings(max_examples=examples(60))
@given(kind=st.sampled_from([2, 3]), prog=st.one_of(programs(FILTER_AD), broken()),
       data=st.lists(frames(), min_size=1, max_size=4), outgoing=st.booleans())  # fmt: skip
def test_filters_and_addresses_as_the_kernels(kernel: World, ours: World, kind: int,
                                              prog: list[Insn], data: list[bytes],
                                              outgoing: bool) -> None:  # fmt: skip
    results = []
    for world in (kernel, ours):
        with world.open(1, kind, 0) as sock, world.open(0, 3, 0) as sender, \
                world.open(0, kind, ETH_P_ALL) as tap:  # fmt: skip
            sender.bind(("eth0", 0))
            said = [attach(sock, prog)]
            if outgoing:
                said.append(attach(tap, prog))
            sock.setsockopt(SOL_PACKET, 8, 1)
            tap.setsockopt(SOL_PACKET, 8, 1)
            said.append(outcome(lambda: sock.bind(("eth0", ETH_P_ALL))))
            for frame in data:
                said.append(outcome(lambda: sender.send(frame)))  # noqa: B023
            world.settle()
            said += [without_checksum(m) for m in drain(sock, 2000, 0, 100)]
            said += [without_checksum(m) for m in drain(tap, 2000, 0, 100)]
            said.append(sock.getsockopt(SOL_PACKET, 6, 8))
        results.append(said)
    assert results[1] == results[0]


def without_checksum(one: Any) -> Any:
    """A message without the bits that say who looked at a checksum: devices differ in that."""
    if isinstance(one, str):
        return one
    data, anc, flags, name = one
    return data, [(a, b, plain_aux(v)) for a, b, v in anc], flags & ~0x80000000, name


def plain_aux(value: bytes) -> tuple[int, ...]:
    status, *rest = struct.unpack("=IIIHHHH", value)
    return (status & ~(1 << 3 | 1 << 7), *rest)


# --- calls at random ---------------------------------------------------------------------------

INTS = st.one_of(st.sampled_from([0, 1, -1, 2, 4, 3]), st.integers(-(1 << 31), (1 << 31) - 1))
OPTIONS = st.sampled_from([6, 7, 8, 9, 10, 11, 12, 14, 17, 18, 19, 20, 21, 22, 23, 99])
FANOUT = 18
GROUP = 60_000
"""A fanout group that no kernel has chosen: the numbers that it chooses begin at 1."""
BY_CPU = 2 if 0 in os.sched_getaffinity(0) else 5
"""PACKET_FANOUT_CPU, where this can be on CPU 0, the one that our hosts have; else _QM."""
SHORT = st.sampled_from([None, 2, 4, 5, 8, 16])
MREQS = st.tuples(
    st.sampled_from([0, 1, 2, 9]),
    st.integers(0, 4),
    st.sampled_from([0, 5, 6, 8, 20]),
    st.sampled_from([b"\x01\x00\x5e\x00\x00\x05", b"\x02\x00\x00\x00\x00\x07"]),
)


@st.composite
def steps(draw: st.DrawFn) -> tuple[Any, ...]:
    kind = draw(st.integers(0, 13))
    who = draw(st.integers(0, 2))
    if kind <= 1:
        name = draw(st.sampled_from(["eth0", "eth0", "lo", "nowhere"]))
        return "bind", who, name, draw(st.sampled_from(PROTOCOLS))
    if kind <= 3:
        data = draw(frames())
        size = draw(st.sampled_from([None, None, 0, 13, 14, 1500, 1514, 1515, 1518, 1519, 3000]))
        if size is not None:
            data = (data + bytes(3000))[:size]
        to = draw(st.sampled_from([None, None, ("eth0", 0x88B5, 0, 0, B), ("lo", 0x800, 0, 0, A),
                                   ("eth0", 0x800, 0, 0, A),
                                   ("eth0", 0, 4, 1, b"\xff" * 6)]))  # fmt: skip
        return "send", who, data, to
    if kind == 4:
        flags = draw(st.sampled_from([0, 0, 0x20, 2, 0x100, 0x40, 0x2000, 1]))
        return "recv", who, draw(st.sampled_from([10, 2000])), flags
    if kind == 5:
        value = draw(INTS)
        size = draw(SHORT)
        data = struct.pack("=i", value) * 4
        return "set", who, draw(OPTIONS), value if size is None else data[:size]
    if kind == 6:
        return "get", who, draw(OPTIONS)
    if kind == 7:
        index, what, alen, addr = draw(MREQS)
        value = struct.pack("=iHH", index, what, alen) + addr + bytes(2)
        size = draw(st.sampled_from([16, 16, 16, 12, 40]))
        return "set", who, draw(st.sampled_from([1, 1, 2])), (value + bytes(30))[:size]
    if kind == 8:
        return "name", who
    if kind == 9:
        return "up", draw(st.integers(0, 1)), draw(st.booleans())
    if kind >= 12:  # what chooses alike in both worlds: neither by hash nor at random
        way = draw(st.sampled_from([1, 1, BY_CPU, 5, 6, 3, 8, 0x1001, 0x1003, 0x4001, 0x2001]))
        ident = draw(st.sampled_from([0, GROUP]))
        most = draw(st.sampled_from([None, 0, 2, 1, 65537]))
        value = struct.pack("=HH", ident, way)
        value += struct.pack("=I", most) if most is not None else b""
        return "set", who, FANOUT, value
    if kind == 10:
        return "other", who, draw(st.sampled_from(["listen", "accept", "peer", "shut", "conn"]))
    return draw(st.sampled_from([("lock", who), ("detach", who), ("attach", who), ("error", who)]))


def do(world: World, socks: list[Any], step: tuple[Any, ...]) -> Any:
    """One step; what it gave."""
    what, who, *args = step
    sock = socks[who] if what != "up" else None
    match what:
        case "bind":
            return sock.bind(tuple(args))
        case "send":
            data, to = args
            if to is None or to[0] != "lo":  # a NIC pads short frames, veth does not
                least = 46 if int(sock.type) & 15 == 2 else 60 if len(data) >= 14 else 0
                data = data.ljust(least, b"\0")
            if 1 - who % 2 in world.down:
                # Onto a wire that nobody listens at. What veth and taps make of it changes when the
                # kernel's link watch, up to a second later, sees that the carrier is gone.
                return None
            sent = sock.send(data) if to is None else sock.sendto(data, to)
            world.settle()
            return sent
        case "recv":
            room, flags = args
            data, anc, got, name = sock.recvmsg(room, 100, flags)
            aux = [(a, b, plain_aux(v)) for a, b, v in anc if (a, b) == (SOL_PACKET, 8)]
            return data, aux, got & ~0x80000000, name
        case "set":
            return sock.setsockopt(SOL_PACKET, *args)
        case "get":
            size = {6: 8, 21: 24}.get(args[0], 0)  # PACKET_STATISTICS, PACKET_ROLLOVER_STATS
            got = sock.getsockopt(SOL_PACKET, args[0], *([size] if size else []))
            if args[0] == FANOUT and got & 0xFFFF not in (0, GROUP):
                return got >> 16  # PACKET_FANOUT_FLAG_UNIQUEID: the kernel counts since it booted
            return got
        case "name":
            return sock.getsockname()
        case "up":
            world.set_up(who, args[0])
            (world.down.discard if args[0] else world.down.add)(who)
            return None
        case "error":
            return sock.getsockopt(SOL_SOCKET, 4)
        case "lock":
            return sock.setsockopt(SOL_SOCKET, 44, 1), sock.getsockopt(SOL_SOCKET, 44)
        case "detach":
            return sock.setsockopt(SOL_SOCKET, 27, 0)
        case "attach":
            return attach(sock, [(6, 0, 0, 30)])
        case _:
            call = {
                "listen": lambda: sock.listen(1),
                "accept": sock.accept,
                "peer": sock.getpeername,
                "shut": lambda: sock.shutdown(2),
                "conn": lambda: sock.connect(("eth0", 0)),
            }[args[0]]
            return call()


@settings(max_examples=examples(60))
@example(  # an empty datagram has nothing that a socket without filter wants
    kinds=[(3, 0), (2, 0), (2, 3)], program=[("send", 1, b"", ("lo", 0x800, 0, 0, A))]
)
@given(kinds=st.lists(st.tuples(st.sampled_from([2, 3, 3]), st.sampled_from(PROTOCOLS)),
                      min_size=3, max_size=3),
       program=st.lists(steps(), min_size=1, max_size=14))  # fmt: skip
def test_random_calls_as_the_kernels(kernel: World, ours: World, kinds: list[tuple[int, int]],
                                     program: list[tuple[Any, ...]]) -> None:  # fmt: skip
    results = []
    for world in (kernel, ours):
        for end in (0, 1):
            world.set_up(end, True)
        world.down.clear()
        world.settle()
        socks = [world.open(n % 2, *kind) for n, kind in enumerate(kinds)]
        try:
            for sock in socks:
                sock.setblocking(False)
                drain(sock, 2000, 0, 0)  # what came while the links were set up
            said: list[Any] = []
            for step in program:
                said.append((step, outcome(lambda: do(world, socks, step))))  # noqa: B023
            for sock in socks:
                said.append(drain(sock, 2000, 0, 0))
                said.append(sock.getsockopt(SOL_PACKET, 6, 8))
        finally:
            for sock in socks:
                sock.close()
        results.append(said)
    for kernels, mine in zip(*results, strict=True):
        assert mine == kernels


def test_types_of_sockets_and_users(kernel: World, ours: World) -> None:
    for kind in (1, 4, 5, 6):
        said = [outcome(lambda: world.open(0, kind, 3)) for world in (kernel, ours)]  # noqa: B023
        assert said[0] == said[1] == "ESOCKTNOSUPPORT"
    assert outcome(lambda: ours.open(0, 10, 3)) == "ESOCKTNOSUPPORT"  # obsolete: SOCK_PACKET
