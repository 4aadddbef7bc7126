"""Rings of packet sockets: what the kernel puts into the memory, and says of bad requests."""

from __future__ import annotations

import select
import struct
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.stack.packet.kernelnet import A, B, World, outcome
from tests.support import examples

pytestmark = [pytest.mark.netns, pytest.mark.sends_bad_frames]

SOL_PACKET, ETH_P_ALL, TX_RING = 263, 3, 13
RX_RING, STATISTICS, COPY_THRESH, VERSION, HDRLEN, RESERVE, LOSS, TX_HAS_OFF = (
    *(5, 6, 7, 10, 11, 12, 14, 19),
)
PAGE = 4096
NOBODYS = 1 << 3 | 1 << 7 | 1 << 29
"""Bits of a status that devices differ in: who looked at a checksum, who took the time."""
TIMES = {0: (20, 28), 1: (16, 24), 2: (4, 12)}
"""Where a frame's header has its time."""

SIZES = st.sampled_from([0, 1, 16, 64, 80, 2048, PAGE - 16, PAGE, PAGE + 16, 2 * PAGE, 1 << 31,
                         (1 << 32) - PAGE, (1 << 32) - 1])  # fmt: skip
COUNTS = st.sampled_from([0, 1, 2, 3, 4, 64, (1 << 28) + 1, (1 << 32) - 1])
REQUESTS = st.tuples(SIZES, COUNTS, SIZES, COUNTS, st.sampled_from([0, 60_000]),
                     st.sampled_from([0, 1, 8, 3000, 1 << 31, (1 << 32) - 1]),
                     st.integers(0, 2))  # fmt: skip
GOOD = (PAGE, 2, 2048, 4, 60_000, 0, 0)
SHORT = st.sampled_from([28, 28, 16, 15, 27, 0])
STEPS = st.one_of(
    st.tuples(st.just("ring"), st.just(GOOD), st.just(28)),
    st.tuples(st.just("ring"), REQUESTS, SHORT),
    st.tuples(st.just("tx ring"), st.just(GOOD), st.just(28)),
    st.tuples(st.just("tx ring"), REQUESTS, SHORT),
    st.tuples(st.just("set"), st.sampled_from([VERSION, RESERVE, LOSS, TX_HAS_OFF, COPY_THRESH]),
              st.sampled_from([0, 1, 2, 3, 16, 100, -1])),
    st.tuples(st.just("get"), st.sampled_from([VERSION, RESERVE, LOSS, TX_HAS_OFF, STATISTICS])),
    st.tuples(st.just("map"), st.sampled_from([PAGE, 2 * PAGE, 2 * PAGE - 1, 3 * PAGE, 4 * PAGE]),
              st.sampled_from([0, 0, PAGE])),
    st.just(("unmap",)),
)  # fmt: skip


def step(world: World, sock: Any, maps: list[Any], what: str, *args: Any) -> Any:
    match what:
        case "ring":
            request, size = args
            return sock.setsockopt(SOL_PACKET, RX_RING, struct.pack("=7I", *request)[:size])
        case "tx ring":
            request, size = args
            return sock.setsockopt(SOL_PACKET, TX_RING, struct.pack("=7I", *request)[:size])
        case "set":
            return sock.setsockopt(SOL_PACKET, args[0], args[1])
        case "get":
            return sock.getsockopt(SOL_PACKET, args[0], 12)
        case "map":
            maps.append(world.mapped(sock, *args))
        case "unmap" if maps:
            maps.pop().close()
    return None


@settings(max_examples=examples(200))
@example(steps=[("ring", (PAGE, 1 << 28, PAGE, 1 << 28, 0, 0, 0), 28)])
@example(steps=[("ring", GOOD, 28), ("map", 2 * PAGE, 0), ("ring", (0,) * 7, 28), ("unmap",),
                ("ring", GOOD, 28), ("ring", (0, 0, 0, 1, 0, 0, 0), 28), ("ring", (0,) * 7, 28),
                ("ring", GOOD, 28)])  # fmt: skip
@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_requests_are_refused_as_by_the_kernel(
    kernel: World, ours: World, steps: list[tuple[Any, ...]]
) -> None:
    results = []
    for world in (kernel, ours):
        maps: list[Any] = []
        with world.open(0, 3, 0) as sock:
            results.append([
                outcome(lambda one=one: step(world, sock, maps, *one)) for one in steps  # type: ignore[misc]  # noqa: B023
            ])  # fmt: skip
            for area in maps:
                area.close()
    assert results[1] == results[0]


def masked(data: bytes, at: int, version: int, hdrlen: int) -> bytes:
    """A frame's header without its time and the bits that devices differ in."""
    header = bytearray(data[at : at + hdrlen])
    first, behind = TIMES[version]
    header[first:behind] = bytes(behind - first)
    place = 20 if version == 2 else 0
    status = int.from_bytes(header[place : place + 4], "little") & ~NOBODYS
    header[place : place + 4] = status.to_bytes(4, "little")
    return bytes(header)


def slots(ring: Any, version: int, frame_size: int) -> list[bytes]:
    """The slots of a ring of version 1 or 2."""
    data = ring[:]
    return [
        masked(data, at, version, 32) + data[at + 32 : at + frame_size]
        for at in range(0, len(data), frame_size)
    ]


def blocks(ring: Any, size: int) -> list[tuple[Any, ...]]:
    """The blocks of a ring of version 3: their headers without times, and their frames.

    Bytes between, and those behind an address of 6 in its 8, are what earlier frames left there.
    """
    found = []
    for start in range(0, len(ring), size):
        data = ring[start : start + size]
        fields = struct.unpack_from("=IIIIIIQ", data)
        at, frames = fields[4], []
        for _ in range(fields[3] if fields[2] else 0):
            header = masked(data, at, 2, 48)
            following, snaplen, mac = struct.unpack_from("=I8xI8xH", header)
            end = following or fields[5] - at
            frame = data[at + mac : at + mac + snaplen]
            halen = data[at + 48 + 11]
            frames.append((header, end, data[at + 48 : at + 48 + 12 + halen], frame))
            at += following
        found.append((fields, frames))
    return found


@settings(max_examples=examples(60))
@given(
    version=st.integers(0, 2),
    kind=st.sampled_from([2, 3, 3]),
    reserve=st.sampled_from([0, 0, 4, 100]),
    priv=st.sampled_from([0, 13]),
    copy=st.booleans(),
    frames=st.lists(
        st.tuples(st.sampled_from([60, 61, 200, 700, 1514]), st.sampled_from([A, B, b"\xff" * 6]),
                  st.sampled_from([b"\x88\xb5", b"\x81\x00\x20\x05\x88\xb5"]), st.booleans()),
        min_size=1, max_size=14),
)  # fmt: skip
def test_the_memory_as_the_kernel_fills_it(
    kernel: World, ours: World, version: int, kind: int, reserve: int, priv: int, copy: bool,
    frames: list[tuple[int, bytes, bytes, bool]],
) -> None:  # fmt: skip
    results = []
    for world in (kernel, ours):
        said: list[Any] = []
        with world.open(1, kind, 0) as sock, world.open(0, 3, 0) as sender:
            sender.bind(("eth0", 0))
            sock.setsockopt(SOL_PACKET, VERSION, version)
            sock.setsockopt(SOL_PACKET, RESERVE, reserve)
            sock.setsockopt(SOL_PACKET, COPY_THRESH, copy)
            request = struct.pack("=7I", PAGE, 2, 512, 16, 60_000, priv, 0)
            sock.setsockopt(SOL_PACKET, RX_RING, request)
            ring = world.mapped(sock, 2 * PAGE, 0)
            sock.bind(("eth0", ETH_P_ALL))
            sock.setblocking(False)
            for n, (size, to, tag, free) in enumerate(frames):
                sender.send((to + A + tag + bytes((n,)) * size)[:size])
                world.settle()
                said.append(readable(sock))
                said.append(slots(ring, version, 512) if version < 2 else blocks(ring, PAGE))
                if free:
                    for at in range(8, 2 * PAGE, PAGE) if version == 2 else range(0, 2 * PAGE, 512):
                        ring[at : at + 4] = bytes(4)
                if copy:
                    got = outcome(lambda: sock.recv(2000))
                    said.append(got)
            said.append(sock.getsockopt(SOL_PACKET, STATISTICS, 12))
            ring.close()
        results.append(said)
    assert results[1] == results[0]


def readable(sock: Any) -> bool:
    """What poll(2) says."""
    if hasattr(sock, "net"):
        return bool(sock.poll() & select.POLLIN)
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_a_block_is_handed_over_when_its_time_has_come(kernel: World, ours: World) -> None:
    results = []
    for world in (kernel, ours):
        with world.open(1, 3, 0) as sock, world.open(0, 3, 0) as sender:
            sender.bind(("eth0", 0))
            sock.setsockopt(SOL_PACKET, VERSION, 2)
            sock.setsockopt(SOL_PACKET, RX_RING, struct.pack("=7I", PAGE, 2, 2048, 4, 20, 0, 0))
            ring = world.mapped(sock, 2 * PAGE, 0)
            sock.bind(("eth0", ETH_P_ALL))
            said: list[Any] = []
            for n in range(3):
                sender.send(B + A + b"\x88\xb5" + bytes((n,)) * 50)
                status = 8 + n % 2 * PAGE
                while not ring[status]:
                    world.settle()
                    time.sleep(0.001)
                said.append((readable(sock), blocks(ring, PAGE)[n % 2]))
                ring[status] = 0
            results.append(said)
            ring.close()
    assert results[1] == results[0]


LENGTH_AT, STATUS_AT, MAC_AT = (8, 4, 16), (0, 0, 20), (16, 12, 24)
SLOTS = st.lists(
    st.tuples(st.sampled_from([0, 13, 14, 60, 200, 460, 481, 1514, 1519, 9000, 1 << 30]),
              st.sampled_from([0, 1, 1, 1, 1, 2, 4]), st.sampled_from([0, 32, 48, 100, 3000])),
    min_size=1, max_size=8)  # fmt: skip


@settings(max_examples=examples(60))
@given(version=st.integers(0, 2), kind=st.sampled_from([2, 3]), loss=st.booleans(),
       has_off=st.booleans(), both=st.booleans(), found=SLOTS)  # fmt: skip
def test_a_ring_is_sent_as_by_the_kernel(
    kernel: World, ours: World, version: int, kind: int, loss: bool, has_off: bool, both: bool,
    found: list[tuple[int, int, int]],
) -> None:  # fmt: skip
    """Slots of any length, status and offset: frames, results and what the slots say then."""
    results = []
    for world in (kernel, ours):
        said: list[Any] = []
        with world.open(0, kind, 0) as sock, world.open(1, 3, 0x88B5) as receiver:
            receiver.bind(("eth0", 0x88B5))
            receiver.setblocking(False)
            sock.setsockopt(SOL_PACKET, VERSION, version)
            sock.setsockopt(SOL_PACKET, LOSS, loss)
            sock.setsockopt(SOL_PACKET, TX_HAS_OFF, has_off)
            request = struct.pack("=7I", PAGE, 2, 512, 16, 0, 0, 0)
            sock.setsockopt(SOL_PACKET, TX_RING, request)
            if both:
                sock.setsockopt(SOL_PACKET, RX_RING, request)
            ring = world.mapped(sock, (4 if both else 2) * PAGE, 0)
            first = 2 * PAGE * both
            to = ("eth0", 0x88B5, 0, 0, B)
            for n, (length, status, offset) in enumerate(found):
                at = first + 512 * n
                ring[at + 32 : at + 512] = (B + A + b"\x88\xb5" + bytes((n + 1,)) * 500)[:480]
                ring[at : at + 48] = bytes(48) if version == 2 else ring[at : at + 48]
                struct.pack_into("=I", ring, at + LENGTH_AT[version], length)
                struct.pack_into("=HH", ring, at + MAC_AT[version], offset, offset)
                struct.pack_into("=I", ring, at + STATUS_AT[version], status)
            for _ in range(3):
                said.append(outcome(lambda: sock.sendto(b"", 0x40, to)))  # noqa: B023
                world.settle()
                time.sleep(0.002 if world is kernel else 0)
                places = range(first + STATUS_AT[version], first + 2 * PAGE, 512)
                said.append([struct.unpack_from("=I", ring, at)[0] for at in places])
            for _ in found:
                got = outcome(lambda: receiver.recv(2000))
                # A NIC pads short frames.
                said.append(got.rstrip(b"\0") if isinstance(got, bytes) else got)
            ring.close()
        results.append(said)
    assert results[1] == results[0]
