"""fastpath.nic.txring: what a transmit queue must do, and what hostile ones must not."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest

from fastpath.base.batch import FB_HAS_FCS, FrameBatch
from fastpath.base.dma import HostMemory
from fastpath.nic.txring import (
    RUN_ABORT,
    RUN_DATA_ABORT,
    RUN_DELAYED,
    RUN_MORE,
    RUN_OFF,
    TXD_LOW,
    TXDW,
    TXQE,
)
from tests.fastpath.rings import (
    EOP,
    IC,
    IDE,
    IFCS,
    IPV4,
    IXSM,
    RPS,
    RS,
    TCP,
    TSE,
    TXSM,
    V4,
    V6,
    VLE,
    Tx,
    check,
    context,
    data,
    eth,
    ipv4,
    ipv6,
    legacy,
    pseudo4,
    pseudo6,
    tcp,
    udp,
)

BODY = bytes(range(256)) * 64
EMPTY = TXQE | TXD_LOW
"""The ring is empty, and so is the descriptor cache: LWTHRESH 0 (SDM 13.4.43)."""


@pytest.fixture
def tx() -> Tx:
    return Tx()


# Plain frames


def test_legacy_frame_leaves_unchanged_and_is_written_back(tx: Tx) -> None:
    frame = eth(BODY[:100])
    tx.post(legacy(tx.put(frame), len(frame)))
    assert tx.run() == TXDW | EMPTY
    assert tx.take() == [frame]
    assert tx.regs["TDH"] == 1
    assert tx.done(0)


def test_rs_decides_about_write_back(tx: Tx) -> None:
    frame = eth(BODY[:100])
    tx.post(legacy(tx.put(frame), len(frame), EOP | IFCS))
    assert tx.run() == EMPTY
    assert not tx.done(0)


def test_write_back_keeps_the_rest_of_the_descriptor(tx: Tx) -> None:
    raw = legacy(tx.put(eth(BODY[:60])), 74, EOP | IFCS | RS | VLE, css=0x5A, tag=0xBEEF)
    tx.send(raw)
    assert tx.ram.read(tx.ring, 16) == raw[:12] + b"\x01" + raw[13:]


def test_rps_is_rs_on_the_82544_only(tx: Tx) -> None:
    frame = eth(BODY[:60])
    for index, rps in enumerate((False, True)):
        tx.engine.rps = rps
        tx.send(legacy(tx.put(frame), len(frame), EOP | IFCS | RPS))
        assert tx.done(index) is rps


def test_ide_delays_the_cause(tx: Tx) -> None:
    tx.post(legacy(tx.put(BODY), 60, EOP | IFCS | RS | IDE))
    assert tx.run() == RUN_DELAYED | EMPTY
    assert tx.done(0)


def test_wthresh_writes_every_descriptor_back(tx: Tx) -> None:
    tx.engine.hold = 1
    tx.send(legacy(tx.put(BODY), 60, EOP | IFCS))
    assert tx.done(0)


def test_txd_low_when_pending_falls_to_the_threshold(tx: Tx) -> None:
    tx.regs["TXDCTL"] = 1 << 25  # LWTHRESH = 1: eight descriptors
    addr = tx.put(BODY)
    tx.post(*[legacy(addr, 60, EOP | IFCS)] * 10)
    assert tx.engine.run(tx.batch, 1) == RUN_MORE
    assert tx.engine.run(tx.batch, 1) == RUN_MORE | TXD_LOW
    assert tx.engine.run(tx.batch, 1) == RUN_MORE
    assert tx.run() == TXQE  # below the threshold already


def test_txd_low_with_threshold_0_when_the_last_is_fetched(tx: Tx) -> None:
    addr = tx.put(BODY)
    tx.post(*[legacy(addr, 60, EOP | IFCS)] * 3)
    assert tx.engine.run(tx.batch, 2) == RUN_MORE
    assert tx.run() == TXQE | TXD_LOW


def test_frame_over_many_descriptors(tx: Tx) -> None:
    frame = eth(BODY[:1486])
    big = Tx(count=128)
    pieces = [frame[i : i + 15] for i in range(0, len(frame), 15)]
    assert len(pieces) > 80
    raw = [legacy(big.put(p), len(p), 0) for p in pieces[:-1]]
    assert big.send(*raw, legacy(big.put(pieces[-1]), len(pieces[-1]))) == [frame]


def test_unfinished_frame_waits_for_its_rest(tx: Tx) -> None:
    frame = eth(BODY[:200])
    tx.post(legacy(tx.put(frame[:50]), 50, 0))
    assert tx.run() == EMPTY
    assert tx.take() == []
    assert tx.engine.mid_frame()
    assert tx.send(legacy(tx.put(frame[50:]), len(frame) - 50)) == [frame]
    assert not tx.engine.mid_frame()


def test_a_moved_ring_forgets_the_beginning(tx: Tx) -> None:
    tx.send(legacy(tx.put(BODY), 50, 0))
    tx.engine.ring_moved()
    assert tx.send(legacy(tx.put(BODY[:60]), 60)) == [BODY[:60]]


def test_ring_wraps(tx: Tx) -> None:
    for i in range(40):
        frame = bytes([i]) * 64
        assert tx.send(legacy(tx.put(frame), 64)) == [frame]
    assert tx.regs["TDH"] == 40 % 16


def test_buffer_across_two_regions() -> None:
    tx = Tx()
    tx.dma.remove(tx.ram.base, tx.ram.size_bytes)
    middle = tx.bufs + 100
    view = tx.ram.buffer
    tx.dma.add(0, view[:middle])
    tx.dma.add(middle, view[middle:])
    frame = eth(BODY[:300])
    tx.ram.write(middle - 50, frame)
    assert tx.send(legacy(middle - 50, len(frame))) == [frame]
    assert tx.dma.aborts == 0


def test_ring_across_two_regions() -> None:
    tx = Tx()
    tx.dma.remove(tx.ram.base, tx.ram.size_bytes)
    middle = tx.ring + 40  # inside a descriptor
    view = tx.ram.buffer
    tx.dma.add(0, view[:middle])
    tx.dma.add(middle, view[middle:])
    frames = [eth(bytes([i]) * 80) for i in range(6)]
    assert tx.send(*[legacy(tx.put(f), len(f)) for f in frames]) == frames
    assert all(tx.done(i) for i in range(6))


# FCS, padding, VLAN


def test_ifcs_clear_marks_the_frame(tx: Tx) -> None:
    tx.post(legacy(tx.put(BODY), 64, EOP | RS))
    tx.run()
    assert tx.batch.flags(0) == FB_HAS_FCS
    assert tx.stats["PTC64"] == 1


@pytest.mark.parametrize(("psp", "length"), [(0, 20), (8, 60)])
def test_psp_pads_with_zeros(tx: Tx, psp: int, length: int) -> None:
    tx.regs["TCTL"] |= psp
    assert tx.send(legacy(tx.put(BODY), 20)) == [BODY[:20].ljust(length, b"\0")]


def test_psp_leaves_frames_with_own_fcs_alone(tx: Tx) -> None:
    tx.regs["TCTL"] |= 8
    assert tx.send(legacy(tx.put(BODY), 20, EOP)) == [BODY[:20]]


@pytest.mark.parametrize("kind", [legacy, data])
def test_vle_inserts_the_tag_of_the_last_descriptor(tx: Tx, kind) -> None:
    tx.vme = True
    tx.regs["VET"] = 0x88A8
    frame = eth(BODY[:100])
    first = kind(tx.put(frame[:40]), 40, VLE, tag=0x1111)
    last = kind(tx.put(frame[40:]), len(frame) - 40, EOP | IFCS | VLE, tag=0x2222)
    assert tx.send(first, last) == [frame[:12] + b"\x88\xa8\x22\x22" + frame[12:]]
    assert tx.send(kind(tx.put(frame), len(frame), EOP | IFCS, tag=5)) == [frame]


def test_vle_needs_ctrl_vme(tx: Tx) -> None:
    frame = eth(BODY[:100])
    assert tx.send(legacy(tx.put(frame), len(frame), EOP | IFCS | VLE, tag=5)) == [frame]


# Checksums


def test_legacy_checksum_uses_css_of_the_first_descriptor(tx: Tx) -> None:
    frame = eth(bytes(20) + BODY[:100])
    cmd = EOP | IFCS | IC
    first = legacy(tx.put(frame[:40]), 40, 0, css=14)
    last = legacy(tx.put(frame[40:]), len(frame) - 40, cmd, css=99, cso=24)
    want = frame[:24] + check(frame[14:]).to_bytes(2, "big") + frame[26:]
    assert tx.send(first, last) == [want]


@pytest.mark.parametrize(("css", "cso"), [(120, 20), (20, 119), (20, 255), (255, 255)])
def test_checksum_outside_the_frame_writes_nothing(tx: Tx, css: int, cso: int) -> None:
    raw = legacy(tx.put(BODY), 120, EOP | IFCS | IC, css=css, cso=cso)
    assert tx.send(raw) == [BODY[:120]]
    assert tx.engine.csum_skips == 1


def test_offload_of_udp_gives_right_checks(tx: Tx) -> None:
    packet = ipv4(udp(BODY[:100]), 17)
    want = eth(packet)
    seed = check(pseudo4(17, 108)) ^ 0xFFFF
    raw = bytearray(want)
    raw[24:26] = b"\0\0"
    raw[40:42] = seed.to_bytes(2, "big")
    tx.post(context(tu=(34, 40, 0)))
    assert tx.send(data(tx.put(bytes(raw)), len(raw), popts=IXSM | TXSM)) == [want]


def test_udp_check_of_zero_goes_out_as_ffff(tx: Tx) -> None:
    tx.post(context(ip=(0, 0, 1), tu=(20, 20, 0)))
    frame = bytes(20) + b"\0\0" + b"\xff\xff"
    assert tx.send(data(tx.put(frame), 24, popts=TXSM)) == [bytes(20) + b"\xff\xff\xff\xff"]
    tx.post(context(ip=(0, 0, 1), tu=(20, 20, 0), cmd=TCP))
    assert tx.send(data(tx.put(frame), 24, popts=TXSM)) == [bytes(20) + b"\0\0\xff\xff"]


@pytest.mark.parametrize("css", [20, 21])
@pytest.mark.parametrize("size", [60, 128, 129, 1000])
def test_check_of_zeros_is_not_that_of_a_sum_of_ffff(tx: Tx, size: int, css: int) -> None:
    head = BODY[1 : css + 1]
    for rest in (bytes(size - css), b"\0\0\xff\xff" + bytes(size - css - 4)):
        for cmd in (0, TCP):
            want = 0 if any(rest) and cmd else 0xFFFF
            tx.post(context(ip=(0, 0, 1), tu=(css, css, 0), cmd=cmd))
            [got] = tx.send(data(tx.put(head + rest), size, popts=TXSM))
            assert got == head + want.to_bytes(2, "big") + rest[2:]


def test_frames_of_one_descriptor_stop_where_a_run_does(tx: Tx) -> None:
    sent = [eth(BODY[i : i + size]) for i, size in enumerate((46, 20, 500, 46, 1000, 46))]
    kinds = [data(tx.put(f), len(f)) for f in sent]
    kinds[3] = legacy(tx.put(sent[3]), len(sent[3]))
    tx.post(*kinds[:4], context(), *kinds[4:])
    got: list[bytes] = []
    for limit in (2, 1, 2, 9):
        tx.engine.run(tx.batch, limit)
        got += tx.take()
        assert len(got) == min(len(sent), tx.regs["TDH"] - (tx.regs["TDH"] > 4))
        assert [tx.done(i) for i in range(7)] == [i < tx.regs["TDH"] and i != 4 for i in range(7)]
    assert got == sent
    assert tx.stats["GPTC"] == 5


def test_frames_of_memory_that_answers_by_messages(tx: Tx) -> None:
    frame = eth(ipv4(udp(BODY[:500]), 17))
    tx.post(context(tu=(34, 40, 0)), *[data(tx.put(frame), len(frame))] * 3)
    mapped, tx.ram = tx.ram, HostMemory(1 << 20)
    tx.ram.write(0, mapped.read(0, 1 << 20))
    tx.dma.remove(mapped.base, 1 << 20)
    mapped.write(0, bytes(1 << 20))  # nobody is to look there any more
    tx.dma.set_message_dma(tx.ram.read, tx.ram.write)
    tx.run()
    assert tx.take() == [frame] * 3
    assert [tx.done(i) for i in range(4)] == [False, True, True, True]


@pytest.mark.parametrize("end", [1, 13, 10000])
def test_checksum_end_before_start_or_past_the_frame(tx: Tx, end: int) -> None:
    tx.post(context(ip=(14, 24, end)))
    frame = eth(BODY[:100])
    out = tx.send(data(tx.put(frame), len(frame), popts=IXSM))
    if end < 14:
        assert out == [frame]
    else:
        assert out == [frame[:24] + check(frame[14:]).to_bytes(2, "big") + frame[26:]]


def test_popts_of_the_first_descriptor_count(tx: Tx) -> None:
    frame = eth(BODY[:100])
    tx.post(context(ip=(14, 24, 0)))
    halves = data(tx.put(frame[:50]), 50, 0), data(tx.put(frame[50:]), 64, popts=IXSM)
    assert tx.send(*halves) == [frame]


def test_two_contexts_live_side_by_side(tx: Tx) -> None:
    frame = eth(BODY[:100])
    tx.post(context(ip=(14, 24, 0)))
    tx.post(context(ip=(20, 30, 0), cmd=TSE, hdrlen=54, mss=10, paylen=10))
    out = tx.send(data(tx.put(frame), len(frame), popts=IXSM))
    assert out == [frame[:24] + check(frame[14:]).to_bytes(2, "big") + frame[26:]]


# Segmentation


def super_frame(
    v6: bool, proto: int, payload: bytes, flags: int = 0xFF, options: bytes = b""
) -> bytes:
    """What the driver gives: lengths zero, pseudo header without length in the check field."""
    pseudo = (V6 + struct.pack(">II", 0, proto)) if v6 else pseudo4(proto, 0)
    seed = (check(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    if proto == 6:
        doff = 0x50 + (len(options) // 4 << 4)
        l4 = struct.pack(">HHIIBBH", 7, 9, 1000, 5, doff, flags, 0x1000) + seed + b"\0\0" + options
    else:
        l4 = struct.pack(">HHH", 7, 9, 0) + seed
    if v6:
        l3 = struct.pack(">IHBB", 0x60000000, 0, proto, 64) + V6
    else:
        l3 = struct.pack(">BBHHHBBHII", 0x45, 0, 0, 0xFFFF, 0, 64, proto, 0, *V4)
    return eth(l3 + l4 + payload, 0x86DD if v6 else 0x0800)


def expected(v6: bool, proto: int, payload: bytes, mss: int, flags: int = 0xFF) -> list[bytes]:
    out = []
    for i, at in enumerate(range(0, len(payload), mss)):
        part = payload[at : at + mss]
        last = at + mss >= len(payload)
        pseudo = pseudo6 if v6 else pseudo4
        if proto == 6:
            bits = flags & (0xFF if last else ~0x09) & (0xFF if i == 0 else ~0x80)
            l4 = tcp(part, seq=1000 + at, flags=bits, pseudo=pseudo)
        else:
            l4 = udp(part, pseudo)
        out.append(
            eth(ipv6(l4, proto), 0x86DD) if v6 else eth(ipv4(l4, proto, ident=0xFFFF + i & 0xFFFF))
        )
    return out


def segment_context(v6: bool, proto: int, paylen: int, mss: int, opt: int = 0) -> bytes:
    l4 = 54 if v6 else 34
    hdrlen = l4 + (20 if proto == 6 else 8) + opt
    tucso = l4 + (16 if proto == 6 else 6)
    cmd = TSE | (TCP if proto == 6 else 0) | (0 if v6 else IPV4)
    return context(
        ip=(14, 24, 33), tu=(l4, tucso, 0), paylen=paylen, hdrlen=hdrlen, mss=mss, cmd=cmd
    )


@pytest.mark.parametrize("size", [1, 99, 100, 101, 200, 999, 1000])
@pytest.mark.parametrize("proto", [6, 17])
@pytest.mark.parametrize("v6", [False, True])
def test_segmentation(tx: Tx, v6: bool, proto: int, size: int) -> None:
    raw = super_frame(v6, proto, BODY[:size])
    tx.post(segment_context(v6, proto, size, 100))
    popts = TXSM | (0 if v6 else IXSM)
    out = tx.send(data(tx.put(raw), len(raw), EOP | IFCS | TSE | RS, popts=popts))
    assert out == expected(v6, proto, BODY[:size], 100)
    assert (tx.stats["TSCTC"], tx.stats["TSCTFC"]) == (1, 0)
    assert not tx.engine.mid_frame()


def test_segmentation_over_odd_pieces(tx: Tx) -> None:
    big = Tx(count=256)
    payload = BODY[:2000]
    raw = super_frame(False, 6, payload)
    cuts = [0, 1, 13, 14, 37, 54, 55, 100, 101, 777, 778, 1500, len(raw)]
    big.post(segment_context(False, 6, 2000, 333))
    for a, b in itertools.pairwise(cuts):
        big.post(data(big.put(raw[a:b]), b - a, TSE | IFCS, popts=IXSM | TXSM))
        big.run()
    big.post(data(0, 0, EOP | TSE | IFCS))
    big.run()
    assert big.take() == expected(False, 6, payload, 333)


def test_segmentation_pauses_at_the_frame_limit(tx: Tx) -> None:
    payload = BODY[:1000]
    raw = super_frame(False, 6, payload)
    tx.post(segment_context(False, 6, 1000, 100))
    tx.post(data(tx.put(raw), len(raw), EOP | IFCS | TSE | RS, popts=IXSM | TXSM))
    got: list[bytes] = []
    for i in range(10):
        flags = tx.engine.run(tx.batch, 1)
        assert len(tx.batch) == 1
        assert bool(flags & RUN_MORE) is (i < 9)
        assert tx.done(1) is (i == 9)
        got += tx.take()
        state = tx.engine.state()
        tx.engine.reset()
        tx.engine.load(state)
    assert got == expected(False, 6, payload, 100)


def test_a_run_pauses_when_its_batch_has_so_many_bytes(tx: Tx) -> None:
    payload = BODY[:1000]
    raw = super_frame(False, 6, payload)
    limit = 256  # two segments of 154 bytes, each on 64 bytes of its own
    tx.post(segment_context(False, 6, 1000, 100))
    tx.post(data(tx.put(raw), len(raw), EOP | IFCS | TSE | RS, popts=IXSM | TXSM))
    got: list[bytes] = []
    for i in range(5):
        flags = tx.engine.run(tx.batch, 256, max_bytes=limit)
        assert len(tx.batch) == 2
        assert bool(flags & RUN_MORE) is (i < 4)
        got += tx.take()
    assert got == expected(False, 6, payload, 100)


def test_segmentation_tags_every_frame_from_the_first_descriptor(tx: Tx) -> None:
    tx.vme = True
    raw = super_frame(False, 6, BODY[:250])
    tx.post(segment_context(False, 6, 250, 100))
    first = data(tx.put(raw[:60]), 60, TSE | VLE | IFCS, popts=IXSM | TXSM, tag=0x123)
    last = data(tx.put(raw[60:]), len(raw) - 60, TSE | EOP, tag=0x456)
    want = expected(False, 6, BODY[:250], 100)
    assert tx.send(first, last) == [f[:12] + b"\x81\0\x01\x23" + f[12:] for f in want]


def test_context_in_the_middle_is_ignored_by_the_running_frame(tx: Tx) -> None:
    raw = super_frame(False, 6, BODY[:250])
    tx.post(segment_context(False, 6, 250, 100))
    tx.post(data(tx.put(raw[:60]), 60, TSE | IFCS, popts=IXSM | TXSM))
    tx.post(context(cmd=TSE, hdrlen=255, mss=1, paylen=3))
    out = tx.send(data(tx.put(raw[60:]), len(raw) - 60, TSE | EOP))
    assert out == expected(False, 6, BODY[:250], 100)


def test_header_of_255_bytes(tx: Tx) -> None:
    options = bytes(200)
    raw = bytearray(super_frame(False, 17, options + bytes(13) + BODY[:50]))
    tx.post(context(tu=(34, 40, 0), hdrlen=255, mss=40, paylen=50, cmd=TSE | IPV4))
    out = tx.send(data(tx.put(bytes(raw)), len(raw), EOP | IFCS | TSE))
    assert [len(f) for f in out] == [295, 265]
    assert [f[255:] for f in out] == [BODY[:40], BODY[40:50]]


def test_big_tcp_payload_of_the_largest_context(tx: Tx) -> None:
    ram = Tx(count=64)
    payload = BODY * 4  # 64 KiB per descriptor
    addr = ram.put(payload)
    raw = super_frame(False, 6, b"")
    total = 15 * len(payload)
    ram.post(segment_context(False, 6, total, 1460))
    ram.post(data(ram.put(raw), 54, TSE | IFCS, popts=IXSM | TXSM))
    ram.post(*[data(addr, len(payload), TSE | IFCS)] * 14)
    out = ram.send(data(addr, len(payload), TSE | IFCS | EOP | RS))
    assert out == expected(False, 6, payload * 15, 1460)


# Hostile rings (numbers are the rows of the design's table)

BAD_CONTEXTS = {
    "1 mss 0": {"hdrlen": 54, "mss": 0, "paylen": 100},
    "1 hdrlen 0": {"hdrlen": 0, "mss": 100, "paylen": 100},
    "1 both 0": {"hdrlen": 0, "mss": 0, "paylen": 0},
    "paylen 0": {"hdrlen": 54, "mss": 100, "paylen": 0},
    "8 header 1": {"hdrlen": 1, "mss": 100, "paylen": 100},
    "8 header below TCP": {"hdrlen": 53, "mss": 100, "paylen": 100},
    "8 TUCSS past header": {"hdrlen": 54, "mss": 100, "paylen": 100, "tu": (200, 50, 0)},
    "8 IPCSS past header": {"hdrlen": 54, "mss": 100, "paylen": 100, "ip": (200, 24, 0)},
    "10 TUCSO past header": {"hdrlen": 54, "mss": 100, "paylen": 100, "tu": (34, 53, 0)},
    "10 IPCSO past header": {"hdrlen": 54, "mss": 100, "paylen": 100, "ip": (14, 255, 33)},
    "6 segment above the limit": {"hdrlen": 54, "mss": 0xFFFF, "paylen": 0xFFFFF},
}


@pytest.mark.parametrize("name", BAD_CONTEXTS)
def test_impossible_context_drops_the_frame_and_counts(tx: Tx, name: str) -> None:
    tx.post(context(cmd=TSE | TCP | IPV4, **BAD_CONTEXTS[name]))
    first = data(tx.put(BODY), 80, TSE, popts=IXSM | TXSM)
    assert tx.send(first, data(tx.put(BODY), 80, TSE | EOP | RS)) == []
    assert tx.stats["TSCTFC"] == 1
    assert tx.stats["TSCTC"] == 0
    assert tx.done(2)
    assert tx.send(legacy(tx.put(BODY), 60)) == [BODY[:60]]


def test_row_1_ring_full_of_empty_segmentation(tx: Tx) -> None:
    tx.post(*[data(tx.put(BODY), 100, TSE)] * 15)
    assert tx.run() & TXQE
    assert tx.take() == []
    assert tx.stats["TSCTFC"] == 1


@pytest.mark.parametrize("head", [16, 17, 0xFFFF])
def test_row_2_head_beyond_the_ring_stops(tx: Tx, head: int) -> None:
    tx.regs["TDH"] = head
    tx.regs["TDT"] = 3
    assert tx.run() == RUN_OFF
    assert tx.engine.ring_errors == 1
    assert tx.engine.pending() == 0


def test_row_2_tail_beyond_the_ring_stops(tx: Tx) -> None:
    tx.regs["TDT"] = 17
    assert tx.run() == RUN_OFF
    tx.regs["TDT"] = 16  # the size itself is index 0
    tx.regs["TDH"] = 15
    assert tx.run() == EMPTY


@pytest.mark.parametrize("size", [0, 16, 112])
def test_row_16_ring_below_eight_descriptors_is_off(tx: Tx, size: int) -> None:
    tx.regs["TDLEN"] = size
    tx.regs["TDT"] = 1
    assert tx.run() == RUN_OFF


def test_row_22_ring_at_the_top_of_the_address_space(tx: Tx) -> None:
    tx.base = (1 << 64) - 16
    tx.regs["TDT"] = 3
    assert tx.run() == RUN_OFF | RUN_ABORT
    assert tx.dma.aborts == 1


def test_ring_outside_memory_is_an_abort(tx: Tx) -> None:
    tx.base = 1 << 40
    tx.regs["TDT"] = 3
    assert tx.run() == RUN_ABORT
    assert (tx.regs["TDH"], tx.engine.desc_aborts, tx.dma.aborts) == (0, 1, 1)


def test_row_24_bus_master_off_does_nothing(tx: Tx) -> None:
    tx.dma.enabled = False
    tx.post(legacy(tx.put(BODY), 60))
    assert tx.run() == RUN_OFF
    assert tx.dma.aborts == 0
    tx.dma.enabled = True
    assert tx.send() == [BODY[:60]]


def test_buffer_outside_memory_sends_ones(tx: Tx) -> None:
    tx.post(legacy(1 << 40, 64))
    assert tx.run() == RUN_DATA_ABORT | TXDW | EMPTY
    assert tx.take() == [b"\xff" * 64]
    assert tx.dma.aborts == 1


def test_row_12_mixed_descriptors_drop_the_frame(tx: Tx) -> None:
    addr = tx.put(BODY)
    for first in (legacy(addr, 40, 0), data(addr, 40, 0)):
        for last in (legacy(addr, 40), data(addr, 40)):
            out = tx.send(first, last)
            assert out == ([BODY[:40] * 2] if first[11] & 0x20 == last[11] & 0x20 else [])
    assert tx.engine.mixed_drops == 2


def test_row_12_legacy_inside_segmentation_fails_the_context(tx: Tx) -> None:
    raw = super_frame(False, 6, BODY[:250])
    tx.post(segment_context(False, 6, 250, 100))
    tx.post(data(tx.put(raw[:160]), 160, TSE | IFCS, popts=IXSM | TXSM))
    out = tx.send(legacy(tx.put(BODY), 60), legacy(tx.put(BODY), 61))
    assert out == [*expected(False, 6, BODY[:250], 100)[:1], BODY[:61]]
    assert tx.stats["TSCTFC"] == 1


@pytest.mark.parametrize("make", [legacy, data])
def test_row_18_frame_without_end_is_capped(tx: Tx, make) -> None:
    addr = tx.put(BODY)
    for _ in range(20):
        tx.post(*[make(addr, 16000, 0)] * 10)
        tx.run()
    assert tx.take() == []
    assert tx.engine.oversize_drops == 1
    assert tx.send(make(addr, 60), make(addr, 61)) == [BODY[:61]]


@pytest.mark.parametrize("make", [legacy, data])
def test_row_19_zero_length_and_null_address_send_nothing(tx: Tx, make) -> None:
    out = tx.send(make(tx.put(BODY), 0), make(0, 0), make(0, 100))
    assert out == []
    assert [tx.done(i) for i in range(3)] == [True] * 3
    assert tx.engine.empty_frames == 3
    piece = make(tx.put(BODY), 60, 0)
    assert tx.send(make(0, 9, 0), piece, make(0, 0, 0), piece, make(0, 7)) == [BODY[:60] * 2]
    assert tx.stats["TOT"] == 124


def test_row_6_empty_data_then_new_context(tx: Tx) -> None:
    tx.post(segment_context(False, 6, 100, 100), data(0, 0, TSE | EOP))
    tx.post(context(cmd=TSE | TCP | IPV4, hdrlen=0xFF, mss=1, paylen=0xFFFFF))
    tx.post(data(tx.put(BODY), 10, TSE), data(0, 0, TSE | EOP))
    assert tx.send(legacy(tx.put(BODY), 60)) == [BODY[:60]]
    assert tx.stats["TSCTFC"] == 2


@pytest.mark.parametrize("paylen", [150, 350])
def test_row_25_paylen_other_than_the_data(tx: Tx, paylen: int) -> None:
    raw = super_frame(False, 6, BODY[:250])
    tx.post(segment_context(False, 6, paylen, 100))
    out = tx.send(data(tx.put(raw), len(raw), TSE | IFCS | EOP, popts=IXSM | TXSM))
    assert out == expected(False, 6, BODY[: min(paylen, 250)], 100)
    assert (tx.stats["TSCTC"], tx.stats["TSCTFC"]) == (0, 1)


def test_open_segment_of_an_earlier_run_is_ended_by_an_empty_descriptor(tx: Tx) -> None:
    raw = super_frame(False, 6, BODY[:250])
    tx.post(segment_context(False, 6, 300, 100))
    tx.send(data(tx.put(raw), len(raw), TSE | IFCS, popts=IXSM | TXSM))
    assert tx.engine.mid_frame()
    last = tx.send(data(0, 0, TSE | EOP))
    assert last == expected(False, 6, BODY[:250], 100)[2:]
    assert tx.stats["TSCTFC"] == 1


def test_millions_of_segments_are_bounded_by_the_limit(tx: Tx) -> None:
    tx.post(segment_context(False, 6, 0xFFFFF, 1))
    tx.post(*[data(tx.put(BODY), 16000, TSE, popts=IXSM | TXSM)] * 10)
    flags = tx.engine.run(tx.batch, 64)
    assert flags & RUN_MORE
    assert len(tx.batch) == 64


def test_unknown_descriptor_type_is_consumed(tx: Tx) -> None:
    raw = bytearray(data(tx.put(BODY), 60))
    raw[10] = 0x70
    assert tx.send(bytes(raw)) == []
    assert tx.done(0)


def test_disabled_transmitter_does_nothing(tx: Tx) -> None:
    tx.regs["TCTL"] = 0
    tx.post(legacy(tx.put(BODY), 60))
    assert tx.run() == RUN_OFF
    tx.regs["TCTL"] = 2
    assert tx.send() == [BODY[:60]]


@pytest.mark.parametrize("limit", [0, -5])
def test_no_room_means_no_work(tx: Tx, limit: int) -> None:
    tx.post(legacy(tx.put(BODY), 60))
    assert tx.engine.run(tx.batch, limit) == RUN_OFF
    assert tx.regs["TDH"] == 0


# Statistics, state


def test_statistics_count_lengths_with_fcs(tx: Tx) -> None:
    sizes = [60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514]
    addr = tx.put(BODY)
    for size in sizes:
        tx.send(legacy(addr, size))
    for name, count in zip(
        ("64", "127", "255", "511", "1023", "1522"), (1, 2, 2, 2, 2, 2), strict=True
    ):
        assert tx.stats["PTC" + name] == count
    total = sum(sizes) + 4 * len(sizes)
    assert (tx.stats["GPTC"], tx.stats["TPT"]) == (11, 11)
    assert (tx.stats["GOTC"], tx.stats["TOT"]) == (total, total)


def test_short_packets_count_in_tot_only(tx: Tx) -> None:
    tx.send(legacy(tx.put(BODY), 20))
    assert {k: v for k, v in tx.stats.as_dict().items() if v} == {"TOT": 24}


def test_multicast_and_broadcast_are_told_apart(tx: Tx) -> None:
    for dst in (b"\xff" * 6, b"\x01\0\x5e\0\0\1", b"\xff\xff\xff\xff\xff\xfe"):
        tx.send(legacy(tx.put(eth(BODY[:60], dst=dst)), 74))
    assert (tx.stats["BPTC"], tx.stats["MPTC"]) == (1, 2)


def test_reset_forgets_all_but_the_registers(tx: Tx) -> None:
    tx.send(context(ip=(14, 24, 0)), legacy(tx.put(BODY), 50, 0))
    e = tx.engine
    e.reset()
    assert (e.base, e.len, e.head, e.tail, e.mid_frame()) == (tx.ring, 256, 2, 2, False)
    frame = eth(BODY[:60])
    # offsets of the empty context sum the whole frame into its first two bytes
    want = check(frame).to_bytes(2, "big") + frame[2:]
    assert tx.send(data(tx.put(frame), len(frame), popts=IXSM)) == [want]


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        ({"partial": b"short"}, ValueError),
        ({"have": 1 << 20, "partial": bytes(1 << 20)}, ValueError),
        ({"phase": 5}, ValueError),
        ({"phase": 3, "hdr_have": 99}, ValueError),
        ({"max_frame": 1 << 20}, ValueError),
        ({"css": 1 << 40}, OverflowError),
        ({"hdr": b"short"}, IndexError),
        ({"hdr": "text"}, TypeError),
        ({"ctx": []}, IndexError),
        ({"fctx": {}}, ValueError),
    ],
)
def test_damaged_state_is_refused(tx: Tx, damage: dict[str, Any], error: type[Exception]) -> None:
    tx.send(legacy(tx.put(BODY), 50, 0))
    state = tx.engine.state()
    with pytest.raises(error):
        tx.engine.load(state | damage)
    assert tx.engine.state() == state


def test_state_carries_the_unfinished_frame(tx: Tx) -> None:
    tx.send(legacy(tx.put(BODY[:50]), 50, 0))
    state = tx.engine.state()
    other = Tx()
    other.engine.load(state)
    assert other.engine.state() == state
    assert other.send(legacy(other.put(BODY[50:99]), 49)) == [BODY[:99]]


def test_max_frame_is_bounded(tx: Tx) -> None:
    with pytest.raises(ValueError, match="max_frame"):
        tx.engine.max_frame = 1 << 20
    tx.engine.max_frame = 100
    assert tx.send(legacy(tx.put(BODY), 101), legacy(tx.put(BODY), 100)) == [BODY[:100]]


def test_batch_may_hold_frames_already(tx: Tx) -> None:
    tx.batch = FrameBatch([b"before"])
    assert tx.send(legacy(tx.put(BODY), 60)) == [b"before", BODY[:60]]
