"""fastpath.nic.tap_gro: what is merged is what was cut, and nothing else is."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastpath._ref import tap_gro as ref
from fastpath._ref import tap_gso as ref_vnet
from fastpath.base.batch import FB_BAD_CRC, FB_GSO_TCPV4, FB_HAS_FCS, FrameBatch
from fastpath.nic import tap_gro, tap_gso
from tests.fastpath.frames import tcp
from tests.fastpath.test_tap_gso import TCPV4, TCPV6, TS, header, super_packet
from tests.support import examples

modules = pytest.mark.parametrize("module", [tap_gso, ref_vnet], ids=["compiled", "twin"])


def merged(frames: list[bytes], start: int = 0, flags: dict[int, int] | None = None) -> Any:
    """Merged by the compiled code and by the twin; they must agree."""
    batch = FrameBatch()
    for i, frame in enumerate(frames):
        batch.append(frame, (flags or {}).get(i, 0))
    found = tap_gro.merged(batch, start)
    assert found == ref.merged(batch, start)
    return found


def cut(n: int, size: int, v6: bool = False, **kw: Any) -> list[bytes]:
    """The frames of a super-packet with `n` bytes of payload."""
    frames, reason = ref_vnet.cut(super_packet(n, size, v6, False, **kw))
    assert reason == ""
    return frames


def again(found: Any, v6: bool) -> list[bytes]:
    """What the kernel cuts the merged packet into."""
    _, l4, mss, packet = found
    frames, reason = ref_vnet.cut(header(1, TCPV6 if v6 else TCPV4, 0, mss, l4) + packet)
    assert reason == ""
    return frames


@settings(max_examples=examples(60))
@given(
    n=st.integers(200, 9000),
    size=st.integers(100, 1500),
    v6=st.booleans(),
    flags=st.sampled_from([0x10, 0x18, 0x19, 0x50]),
    options=st.sampled_from([b"", TS]),
    seq=st.sampled_from([1, 0xFFFFFFF0]),
)
@example(n=65000, size=1448, v6=False, flags=0x10, options=TS, seq=5)
def test_what_was_cut_is_merged_and_cut_again_the_same(
    n: int, size: int, v6: bool, flags: int, options: bytes, seq: int
) -> None:
    frames = cut(n, size, v6, flags=flags, options=options, seq=seq)[:64]
    found = merged(frames)
    assert found[0] == len(frames)
    if len(frames) > 1:
        assert again(found, v6) == frames


@settings(max_examples=examples(300))
@given(
    v6=st.booleans(),
    where=st.integers(0, 5),
    at=st.integers(0, 140),
    bit=st.integers(0, 7),
    start=st.integers(0, 5),
)
def test_a_changed_bit_ends_the_run(v6: bool, where: int, at: int, bit: int, start: int) -> None:
    """The frame that carries it goes alone, as it is: the kernel must see what is wrong with it."""
    frames = cut(600, 100, v6, options=TS)
    spoiled = bytearray(frames[where])
    spoiled[at % len(spoiled)] ^= 1 << bit
    frames[where] = bytes(spoiled)
    found = merged(frames, start)
    assert found[0] <= (where - start if where > start else 6 - start if where < start else 1)
    if found[0] > 1:
        assert again(found, v6) == frames[start : start + found[0]]


@given(order=st.permutations(range(5)), v6=st.booleans())
def test_only_what_follows_in_sequence_is_merged(order: list[int], v6: bool) -> None:
    frames = cut(500, 100, v6)
    found = merged([frames[i] for i in order])
    run = 1
    while run < 5 and order[run] == order[run - 1] + 1:
        run += 1
    # the last of the five ends a run when it comes first: it has the end of the super-packet
    assert found[0] == run


@pytest.mark.parametrize(
    ("change", "run"),
    [
        ({"flags": 0x18}, 3),  # PSH: the reader is to have it now
        ({"flags": 0x11}, 3),
        ({"flags": 0x90}, 2),  # CWR is said once
        ({"flags": 0x30}, 2),
        ({"flags": 0x14}, 2),
        ({"flags": 0x12}, 2),
        ({"flags": 0x50}, 2),
        ({"ack": 8}, 2),
        ({"window": 9}, 2),
        ({"sport": 7}, 2),
        ({"payload": bytes(99)}, 3),
        ({"payload": bytes(101)}, 2),
        ({"payload": b""}, 2),
        ({"options": TS}, 2),
        ({"ident": 9}, 2),
        ({"ttl": 3}, 2),
        ({"tos": 3}, 2),
        ({"df": False}, 2),
        ({"frag_off": 8}, 2),
        ({}, 4),
    ],
)
def test_each_field_that_differs_ends_the_run(change: dict[str, Any], run: int) -> None:
    def one(k: int, **kw: Any) -> bytes:
        known = {"payload": bytes([k]) * 100, "seq": 1000 + 100 * k, "ident": 40 + k, "ack": 7}
        return tcp(**{**known, **kw})

    frames = [one(0), one(1), one(2, **change), one(3)]
    assert merged(frames)[0] == run


def test_frames_with_an_fcs_merge_without_it_and_broken_ones_do_not() -> None:
    frames = cut(500, 100)
    with_fcs = [f + b"fcs!" for f in frames]
    assert merged(with_fcs, 0, dict.fromkeys(range(5), FB_HAS_FCS)) == merged(frames)
    assert merged(frames, 0, {2: FB_BAD_CRC})[0] == 2
    assert merged(frames, 0, {1: FB_GSO_TCPV4})[0] == 1
    padded = cut(203, 100)
    padded[2] = padded[2].ljust(60, b"\0")
    assert merged(padded)[0] == 2
    with pytest.raises(IndexError, match="frame 5 of a batch of 5"):
        merged(frames, 5)


@given(packet=st.binary(max_size=120), tail=st.binary(max_size=80))
def test_random_bytes_are_merged_or_left_alike(packet: bytes, tail: bytes) -> None:
    base = tcp(bytes(40))
    merged([packet or b"x", packet + tail or b"x"])
    merged([base[:34] + packet + tail or b"x", base])


@modules
@pytest.mark.parametrize("v6", [False, True])
def test_a_tap_is_given_one_packet_for_segments_that_follow_each_other(
    module: Any, v6: bool
) -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setblocking(False)
    frames = cut(20_000, 1000, v6, flags=0x18)
    batch = FrameBatch([b"first".ljust(60), *frames, b"last".ljust(60)])
    with far, near:
        queue = module.TapQueue(near.fileno(), 10)
        assert queue.write(batch) == (22, 0, 0)
        assert (queue.writes, queue.tx_packets, queue.tx_frames) == (3, 3, 22)
        assert queue.tx_bytes == sum(map(len, batch))
        assert far.recv(70000) == bytes(10) + batch[0]
        got = far.recv(70000)
        assert ref_vnet.cut(got) == (frames, "")
        assert far.recv(70000) == bytes(10) + batch[21]
        for kw in ({"header_bytes": 10, "merge": False}, {"header_bytes": 0}):
            queue = module.TapQueue(near.fileno(), **kw)
            assert queue.write(batch)[0] == 22
            assert (queue.writes, queue.tx_packets) == (22, 22)
            for _ in range(22):
                far.recv(2000)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        queue = module.TapQueue(near.fileno(), 10)
        at, dropped, error = queue.write(FrameBatch([b"x" * 1500] * 10 + frames))
        assert (dropped, error) == (0, errno.EAGAIN)
        assert at <= 10, "a packet that has no room waits whole"
