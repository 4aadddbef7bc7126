"""fastpath.nic.tap_gso: against its twin, scapy as the foreign judge, and hostile headers."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from fastpath._ref import tap_gso as ref
from fastpath._ref.csum import csum_fold, csum_partial
from fastpath._ref.gso import pseudo_header
from fastpath.base.batch import FB_GSO_TCPV4, FB_GSO_TCPV6, FrameBatch
from fastpath.nic import tap_gso
from tests.fastpath.frames import tcp, udp
from tests.support import examples

TS = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2"
NONE, TCPV4, TCPV6, UDP_L4, ECN = 0, 1, 4, 5, 0x80


def header(
    flags: int = 1,
    kind: int = NONE,
    hdr_len: int = 0,
    size: int = 0,
    start: int = 34,
    off: int = 16,
) -> bytes:
    return struct.pack("=BBHHHH", flags, kind, hdr_len, size, start, off)


def partial(frame: bytes, l3: int, l4: int, off: int) -> bytes:
    """The frame as a kernel gives it: the pseudo header's sum where the checksum goes."""
    pseudo = pseudo_header(frame[l3:], 6 if off == 16 else 17, len(frame) - l4)
    seed = ~csum_fold(csum_partial(pseudo)) & 0xFFFF
    return frame[: l4 + off] + seed.to_bytes(2, "big") + frame[l4 + off + 2 :]


def super_packet(n: int, size: int, v6: bool, is_udp: bool, **kw: Any) -> bytes:
    """A GSO packet with `n` bytes of payload, header in front."""
    payload = bytes(i * 31 + (i >> 8) & 0xFF for i in range(n))
    l4, off = 54 if v6 else 34, 6 if is_udp else 16
    frame = udp(payload, v6=v6) if is_udp else tcp(payload, v6=v6, **kw)
    kind = UDP_L4 if is_udp else TCPV6 if v6 else TCPV4
    return header(1, kind, l4 + (8 if is_udp else 20), size, l4, off) + partial(frame, 14, l4, off)


def both(packet: bytes, min_bytes: int = 60) -> tuple[list[bytes], str]:
    """Cut by the compiled code and by the twin; they must agree."""
    batch, twin = FrameBatch(), FrameBatch()
    reason = tap_gso.segment(packet, batch, min_bytes)
    assert (reason, list(batch)) == (ref.segment(packet, twin, min_bytes), list(twin))
    return list(batch), reason


@settings(max_examples=examples(100))
@given(
    n=st.integers(0, 9000),
    size=st.integers(1, 3000),
    v6=st.booleans(),
    is_udp=st.booleans(),
    flags=st.sampled_from([0x10, 0x18, 0x19, 0x99, 0xD8]),
    options=st.sampled_from([b"", TS]),
    seq=st.sampled_from([1, 0xFFFFFFF0]),
    min_bytes=st.sampled_from([0, 60]),
)
def test_segments_equal_the_twins(
    n: int, size: int, v6: bool, is_udp: bool, flags: int, options: bytes, seq: int, min_bytes: int
) -> None:
    size = max(size, n // 300 + 1)
    kw = {} if is_udp else {"flags": flags, "options": options, "seq": seq}
    frames, reason = both(super_packet(n, size, v6, is_udp, **kw), min_bytes)
    assert reason == ""
    assert len(frames) == max(1, -(-n // size))


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("is_udp", [False, True])
def test_scapy_finds_lengths_and_checksums_right(v6: bool, is_udp: bool) -> None:
    kw = {} if is_udp else {"flags": 0x99, "seq": 0xFFFFFF00, "options": TS}
    batch = FrameBatch()
    assert tap_gso.segment(super_packet(64000, 1448, v6, is_udp, **kw), batch) == ""
    l4 = UDP if is_udp else TCP
    data, marks = b"", []
    for i, raw in enumerate(batch):
        got = Ether(raw)
        again = Ether(raw)
        for layer in (IP, l4):
            if layer in again:
                again[layer].chksum = None
                if "len" in again[layer].fields:
                    again[layer].len = None
        if IPv6 in again:
            again[IPv6].plen = None
        assert bytes(again) == raw
        if not is_udp:
            assert got[TCP].seq == (0xFFFFFF00 + 1448 * i) % 2**32
            marks.append(int(got[TCP].flags))
        if not v6:
            assert got[IP].id == (Ether(batch[0])[IP].id + i) & 0xFFFF
        data += bytes(got[l4].payload)
    assert data == bytes(i * 31 + (i >> 8) & 0xFF for i in range(64000))
    if not is_udp:
        assert marks == [0x90, *[0x10] * (len(batch) - 2), 0x19]


@given(
    frame=st.binary(min_size=1, max_size=200),
    start=st.integers(0, 220),
    off=st.sampled_from([0, 6, 16, 190, 65535]),
    flags=st.integers(0, 3),
    hdr_len=st.sampled_from([0, 34, 201, 65535]),
)
def test_checksum_is_completed_as_the_twin_does(
    frame: bytes, start: int, off: int, flags: int, hdr_len: int
) -> None:
    frames, reason = both(header(flags, NONE, hdr_len, 0, start, off) + frame)
    assert (len(frames), bool(reason)) in ((1, False), (0, True))


def test_udp_check_of_zero_becomes_ones() -> None:
    frame = bytearray(udp(b"\0" * 20))
    frame[34:] = b"\xff\xff" + bytes(len(frame) - 36)  # sums to FFFF, so its check is 0
    assert both(header(1, NONE, 0, 0, 34, 6) + bytes(frame))[0][0][40:42] == b"\xff\xff"
    assert both(header(1, NONE, 0, 0, 34, 16) + bytes(frame))[0][0][50:52] == b"\0\0"


@settings(max_examples=examples(300))
@given(
    base=st.sampled_from(
        [super_packet(3000, 1000, v6, is_udp) for v6 in (False, True) for is_udp in (False, True)]
    ),
    keep=st.integers(0, 3200),
    patches=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=6),
)
@example(base=super_packet(300, 100, False, False), keep=10 + 14, patches=[])
def test_hostile_packets_are_cut_or_dropped_alike(
    base: bytes, keep: int, patches: list[tuple[int, int]]
) -> None:
    packet = bytearray(base[: max(11, keep)])
    for at, value in patches:
        if at < len(packet):
            packet[at] = value
    size = int.from_bytes(packet[4:6], "little")
    if 0 < size < 10:  # thousands of segments: nothing that the twin does in time
        packet[4:6] = b"\x0a\0"
    both(bytes(packet))


@settings(max_examples=examples(300))
@given(st.binary(min_size=11, max_size=300))
def test_random_bytes_are_cut_or_dropped_alike(packet: bytes) -> None:
    both(packet)


GOOD = super_packet(3000, 1000, False, False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": 2}, "vnet gso_type"),
        ({"kind": 3}, "vnet gso_type"),  # UFO
        ({"kind": UDP_L4 | ECN}, "vnet gso_type"),
        ({"kind": TCPV6}, "vnet gso headers"),
        ({"size": 0}, "vnet gso_size"),
        ({"hdr_len": 4000}, "vnet hdr_len"),
        ({"flags": 0}, "vnet csum_start"),
        ({"start": 3040}, "vnet csum_start"),
        ({"start": 65535}, "vnet csum_start"),
        ({"start": 38}, "vnet gso headers"),
        ({"off": 6}, "vnet csum_start"),
    ],
)
def test_each_lie_of_a_header_has_its_reason(change: dict[str, int], reason: str) -> None:
    fields = {"flags": 1, "kind": TCPV4, "hdr_len": 54, "size": 1000, "start": 34, "off": 16}
    assert both(header(**fields) + GOOD[10:])[1] == ""
    assert both(header(**{**fields, **change}) + GOOD[10:]) == ([], reason)


@pytest.mark.parametrize("is_udp", [False, True])
def test_headers_that_end_outside_the_packet_are_dropped(is_udp: bool) -> None:
    fields = {"kind": UDP_L4 if is_udp else TCPV4, "size": 8, "off": 6 if is_udp else 16}
    for start in range(40):
        for n in range(1, 80):
            packet = header(**fields, start=start) + GOOD[10 : 10 + n]
            reason = both(packet)[1]
            assert (reason == "") == (start == 34 and n >= 54 and not is_udp)
    for doff in range(16):
        frame = bytearray(GOOD[10 : 10 + 34 + 44])
        frame[46] = doff << 4
        reason = both(header(**{**fields, "off": 16, "kind": TCPV4}) + bytes(frame))[1]
        assert (reason == "") == (5 <= doff <= 11)


def test_ecn_is_accepted_and_vlan_tags_are_stepped_over() -> None:
    fields = {"kind": TCPV4 | ECN, "hdr_len": 54, "size": 1000}
    assert len(both(header(**fields) + GOOD[10:])[0]) == 3
    tagged = GOOD[10:22] + b"\x88\xa8\0\5\x81\0\0\7" + GOOD[22:]
    frames, reason = both(header(kind=TCPV4, size=1000, start=42) + tagged)
    assert (reason, [f[12:22] for f in frames]) == ("", [tagged[12:22]] * 3)


# --- the queue -----------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    # A SOCK_SEQPACKET pair keeps message borders and answers EAGAIN, as a TAP does.
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        a.setblocking(False)
        b.setblocking(False)
        yield a, b


Ends = tuple[socket.socket, socket.socket]
modules = pytest.mark.parametrize("module", [tap_gso, ref])


@modules
def test_read_takes_super_packets_and_plain_ones_in_turn(module: Any, ends: Ends) -> None:
    far, near = ends
    ack = tcp(b"", flags=0x10)
    big = super_packet(30000, 1448, False, False)
    want: list[bytes] = []
    for packet in (header(0) + ack, big, big, header(0) + ack, header(0) + bytes(9000), big):
        far.send(packet)
        want += both(packet)[0]
    queue, batch = module.TapQueue(near.fileno(), 10), FrameBatch()
    assert queue.read(batch, 1000) == (len(want), errno.EAGAIN)
    assert list(batch) == want
    assert (queue.rx_frames, queue.rx_bytes) == (len(want), sum(map(len, want)))
    assert (queue.reads, queue.rx_packets) == (7, 6)


@modules
def test_read_stops_at_its_limit_after_a_whole_super_packet(module: Any, ends: Ends) -> None:
    far, near = ends
    for _ in range(3):
        far.send(super_packet(5000, 1000, False, False))
    queue, batch = module.TapQueue(near.fileno(), 10), FrameBatch()
    assert queue.read(batch, 6) == (10, 0)
    assert queue.read(batch, 6) == (5, errno.EAGAIN)


@modules
def test_read_counts_what_it_drops(module: Any, ends: Ends) -> None:
    far, near = ends
    for packet in (header(), header(kind=3, size=5) + bytes(60), header(start=99) + bytes(60)):
        far.send(packet)
    far.send(header(0) + bytes(66000))
    far.send(header(0) + b"x" * 42)
    queue, batch = module.TapQueue(near.fileno(), 10), FrameBatch()
    assert queue.read(batch, 8)[0] == 1
    assert list(batch) == [b"x" * 42 + bytes(18)]
    want = {"vnet empty": 1, "vnet gso_type": 1, "vnet csum_start": 1, "vnet too long": 1}
    assert queue.take_drops() == want
    assert queue.take_drops() == {}


@modules
@pytest.mark.parametrize("header_bytes", [0, 10, 12])
def test_plain_frames_cross_with_and_without_header(
    module: Any, ends: Ends, header_bytes: int
) -> None:
    far, near = ends
    far.send(bytes(header_bytes) + b"y" * 1514)
    queue, batch = module.TapQueue(near.fileno(), header_bytes), FrameBatch()
    assert queue.read(batch, 8) == (1, errno.EAGAIN)
    assert list(batch) == [b"y" * 1514]
    out = FrameBatch()
    for data, flags in ((b"a" * 60, 0), (b"b" * 60 + b"fcs!", 1), (b"c" * 64, 3), (b"d" * 60, 0)):
        out.append(data, flags)
    assert queue.write(out) == (4, 1, 0)
    got = [far.recv(100) for _ in range(3)]
    assert got == [bytes(header_bytes) + f for f in (b"a" * 60, b"b" * 60, b"d" * 60)]
    assert (queue.writes, queue.tx_packets, queue.rx_packets) == (3, 3, 1)


@modules
def test_super_frame_is_written_once_with_its_header(module: Any, ends: Ends) -> None:
    far, near = ends
    batch = FrameBatch()
    for v6, flags in ((False, 0x18), (True, 0x98)):
        packet = super_packet(9000, 1000, v6, False, flags=flags)
        batch.append(packet[10:], FB_GSO_TCPV6 if v6 else FB_GSO_TCPV4)
        l4 = 54 if v6 else 34
        batch.set_mark(len(batch) - 1, 1000 | (l4 + 20) << 16 | l4 << 24)
    batch.append(b"p" * 60)
    queue = module.TapQueue(near.fileno(), 10)
    assert queue.write(batch, 0) == (3, 0, 0)
    assert (queue.writes, queue.tx_packets, queue.tx_frames) == (3, 3, 19)
    assert far.recv(70000) == header(1, TCPV4, 54, 1000, 34) + batch[0]
    assert far.recv(70000) == header(1, TCPV6 | ECN, 74, 1000, 54) + batch[1]
    assert far.recv(70000) == bytes(10) + b"p" * 60
    plain = module.TapQueue(near.fileno())
    assert plain.write(batch, 0) == (3, 2, 0)


@modules
def test_write_stops_where_the_far_side_is_full(module: Any, ends: Ends) -> None:
    far, near = ends
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    batch = FrameBatch([bytes([i]) * 1500 for i in range(200)])
    queue = module.TapQueue(near.fileno(), 10)
    at, dropped, error = queue.write(batch, 0)
    assert (dropped, error) == (0, errno.EAGAIN)
    assert 0 < at < 200
    assert far.recv(2000)[10:] == batch[0]
    assert (queue.tx_frames, queue.tx_packets, queue.writes) == (at, at, at + 1)
    assert queue.write(batch, at)[0] > at


@modules
def test_errors_of_the_kernel_come_back(module: Any) -> None:
    r, w = os.pipe()
    os.close(w)
    os.close(r)
    queue, batch = module.TapQueue(r), FrameBatch([b"a" * 60])
    assert queue.write(batch, 0) == (1, 1, errno.EBADF)
    assert queue.read(batch, 4) == (0, errno.EBADF)
    with pytest.raises(IndexError, match="frame 2 of a batch of 1"):
        queue.write(batch, 2)


def test_wrong_header_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="header_bytes 9"):
        tap_gso.TapQueue(0, 9)
    with pytest.raises(ValueError, match="min_bytes 1515"):
        tap_gso.TapQueue(0, 0, 1515)
    for packet in (b"", bytes(10), bytes(70000)):
        with pytest.raises(ValueError, match="bytes, padded to"):
            tap_gso.segment(packet, FrameBatch())
