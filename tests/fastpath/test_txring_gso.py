"""Super-frames of fastpath.nic.txring: cut up, they are the segments, and are counted as those.

The judge is the plain-Python engine, which always segments, with the same ring in memory of its
own; what cuts is the twin of fastpath.nic.tap_gso.
"""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import tap_gso as ref_vnet
from fastpath.base.batch import FB_GSO_TCPV4, FB_GSO_TCPV6, FB_GSO_UDP, FrameBatch
from fastpath.nic.txring import RUN_MORE
from fastpath.nic.wire import wire_count
from tests.fastpath.rings import (
    EOP,
    IFCS,
    IPV4,
    IXSM,
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
    legacy,
    pseudo4,
)
from tests.support import examples

GSO = FB_GSO_TCPV4 | FB_GSO_TCPV6 | FB_GSO_UDP
BODY = bytes((i * 7 + (i >> 8) * 13) & 0xFF for i in range(1 << 17))
COUNTERS = ["mixed_drops", "oversize_drops", "tso_fails", "empty_frames", "csum_skips"]
TS = b"\x01\x01\x08\x0a\0\0\0\1\0\0\0\2"


def cut(batch: FrameBatch, psp: bool) -> list[bytes]:
    """The frames of a wire."""
    out = []
    for i, frame in enumerate(batch):
        flags, mark = batch.flags(i), batch.mark(i)
        if not flags & GSO:
            out.append(frame)
            continue
        mss, hdrlen, l4 = mark & 0xFFFF, mark >> 16 & 0xFF, mark >> 24
        kind = 5 if flags & FB_GSO_UDP else 1 if flags & FB_GSO_TCPV4 else 4
        v4 = frame[12:14] == b"\x08\0"
        head = ref_vnet.HEADER.pack(1, kind, hdrlen, mss, l4, 6 if kind == 5 else 16)
        frames, reason = ref_vnet.cut(head + frame)
        assert reason == ""
        assert len(frames) > 1
        ip = int.from_bytes(frame[16:18] if v4 else frame[18:20], "big")
        assert ip == len(frame) - (14 if v4 else 54)
        if v4:
            assert check(frame[14:l4]) == 0
        if kind == 5:
            assert int.from_bytes(frame[l4 + 4 : l4 + 6], "big") == len(frame) - l4
        out += [f.ljust(60, b"\0") if psp else f for f in frames]
    return out


def packet(
    v6: bool, size: int, flags: int = 0x99, options: bytes = b"", seq: int = 0xFFFFFF00
) -> bytes:
    """What the driver gives: lengths zero, pseudo header without length in the check field."""
    pseudo = (V6 + struct.pack(">II", 0, 6)) if v6 else pseudo4(6, 0)
    seed = (check(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    doff = 0x50 + (len(options) // 4 << 4)
    l4 = struct.pack(">HHIIBBH", 7, 9, seq, 5, doff, flags, 0x1000) + seed + b"\0\0" + options
    if v6:
        l3 = struct.pack(">IHBB", 0x60000000, 0, 6, 64) + V6
    else:
        l3 = struct.pack(">BBHHHBBHII", 0x45, 0, 0, 0xFFF0, 0x4000, 64, 6, 0, *V4)
    return eth(l3 + l4 + BODY[:size], 0x86DD if v6 else 0x0800)


def datagrams(v6: bool, size: int) -> bytes:
    """`packet` of UDP."""
    pseudo = (V6 + struct.pack(">II", 0, 17)) if v6 else pseudo4(17, 0)
    seed = (check(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    l4 = struct.pack(">HHH", 7, 9, 0) + seed
    if v6:
        l3 = struct.pack(">IHBB", 0x60000000, 0, 17, 64) + V6
    else:
        l3 = struct.pack(">BBHHHBBHII", 0x45, 0, 0, 0xFFF0, 0x4000, 64, 17, 0, *V4)
    return eth(l3 + l4 + BODY[:size], 0x86DD if v6 else 0x0800)


def uso_context(v6: bool, paylen: int, mss: int, **kw: Any) -> bytes:
    """`tso_context` of UDP."""
    l4 = 54 if v6 else 34
    cmd = TSE | (0 if v6 else IPV4)
    return tso_context(
        v6, paylen, mss, **{"tu": (l4, l4 + 6, 0), "hdrlen": l4 + 8, "cmd": cmd, **kw}
    )


def tso_context(v6: bool, paylen: int, mss: int, opt: int = 0, **kw: Any) -> bytes:
    l4 = 54 if v6 else 34
    cmd = TSE | TCP | (0 if v6 else IPV4)
    fields = {
        "ip": (14, 24, 0 if v6 else 33),
        "tu": (l4, l4 + 16, 0),
        "paylen": paylen,
        "hdrlen": l4 + 20 + opt,
        "mss": mss,
        "cmd": cmd,
    }
    return context(**{**fields, **kw})


class Pair:
    """The compiled engine with a link that takes super-frames, and its twin that segments."""

    def __init__(
        self, gso_max_bytes: int = 65535, gso_udp: bool = True, tctl: int = 2, vme: bool = False
    ) -> None:
        self.ours, self.twin = Tx(count=64), Tx(reference=True, count=64)
        self.ours.engine.gso_max_bytes = gso_max_bytes
        self.ours.engine.gso_udp = gso_udp
        self.psp = bool(tctl & 8)
        for tx in (self.ours, self.twin):
            tx.regs["TCTL"], tx.vme = tctl, vme
        self.supers = 0

    def post(self, *items: Any) -> None:
        """Post descriptors: bytes as they are, (payload, options of `data`) with a buffer."""
        for tx in (self.ours, self.twin):
            raw = []
            for item in items:
                if isinstance(item, bytes):
                    raw.append(item)
                else:
                    payload, cmd, popts = item
                    raw.append(data(tx.put(payload), len(payload), cmd, popts=popts, tag=0x1234))
            tx.post(*raw)

    def run(self, limit: int = 512, snapshot: bool = False) -> list[bytes]:
        flags, ours = RUN_MORE, self.ours
        frames: list[bytes] = []
        total = 0
        while flags & RUN_MORE:
            flags = ours.engine.run(ours.batch, limit)
            total |= flags
            assert len(ours.batch) <= limit
            n, nbytes = wire_count(ours.batch)
            got = cut(ours.batch, False)
            assert (n, nbytes) == (len(got), sum(map(len, got)))
            frames += cut(ours.batch, self.psp)
            self.supers += sum(bool(ours.batch.flags(i) & GSO) for i in range(len(ours.batch)))
            ours.batch.clear()
            if snapshot:
                state = ours.engine.state()
                keep = {name: getattr(ours.engine, name) for name in COUNTERS}
                ours.engine.reset()
                ours.engine.load(state)
                for name, value in keep.items():
                    setattr(ours.engine, name, value)
        assert total & ~RUN_MORE == self.twin.engine.run(self.twin.batch)
        assert frames == self.twin.take()
        self.same()
        return frames

    def same(self) -> None:
        a, b = self.ours, self.twin
        assert a.stats.as_dict() == b.stats.as_dict()
        assert (a.engine.head, a.engine.mid_frame()) == (b.engine.head, b.engine.mid_frame())
        for name in COUNTERS:
            assert getattr(a.engine, name) == getattr(b.engine, name), name


def send(pair: Pair, v6: bool, size: int, mss: int, **kw: Any) -> list[bytes]:
    options = kw.get("options", b"")
    pair.post(tso_context(v6, size, mss, len(options)))
    popts = TXSM | (0 if v6 else IXSM)
    raw = packet(v6, size, **kw)
    pair.post((raw[:16000], IFCS | TSE, popts))
    for at in range(16000, len(raw), 16000):
        pair.post((raw[at : at + 16000], IFCS | TSE, popts))
    pair.post((b"", EOP | IFCS | TSE | RS, popts))
    return pair.run()


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("options", [b"", TS])
@pytest.mark.parametrize(
    ("size", "mss", "supers"),
    [
        (60000, 1448, 1),
        (65000, 1448, 1),
        (66000, 1448, 1),  # the rest is one segment: a plain frame
        (68000, 1448, 2),  # one IP packet ends before 65535
        (131072, 1448, 2),
        (131072, 9000, 2),
        (2897, 1448, 1),
        (1449, 1448, 1),
        (1448, 1448, 0),  # one segment is a plain frame
        (1, 1448, 0),
        (60, 6, 1),  # segments so short that the engine pads them
        (64, 6, 1),
    ],
)
@pytest.mark.parametrize("tctl", [0x2, 0xA])
def test_super_frames_cut_up_are_the_segments(
    v6: bool, options: bytes, size: int, mss: int, supers: int, tctl: int
) -> None:
    pair = Pair(tctl=tctl)
    frames = send(pair, v6, size, mss, options=options)
    assert (len(frames), pair.supers) == (-(-size // mss), supers)
    assert pair.ours.stats["TSCTC"] == 1
    at = (74 if v6 else 54) + len(options)
    assert b"".join(f[at:] for f in frames)[:size] == BODY[:size]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("size", "mss", "supers"),
    [
        (60000, 1448, 1),
        (65000, 1448, 1),
        (131072, 1448, 2),
        (2897, 1448, 1),
        (1448, 1448, 0),  # one datagram is a plain frame
        (200, 1, 4),  # no more than 64 datagrams in one
        (6400, 64, 2),
    ],
)
@pytest.mark.parametrize("tctl", [0x2, 0xA])
def test_udp_super_frames_cut_up_are_the_datagrams(
    v6: bool, size: int, mss: int, supers: int, tctl: int
) -> None:
    for gso_udp in (True, False):
        pair = Pair(tctl=tctl, gso_udp=gso_udp)
        raw = datagrams(v6, size)
        pieces = [raw[at : at + 16000] for at in range(0, len(raw), 16000)]
        popts = TXSM | (0 if v6 else IXSM)
        pair.post(uso_context(v6, size, mss), *((piece, IFCS | TSE, popts) for piece in pieces))
        pair.post((b"", EOP | IFCS | TSE | RS, popts))
        frames = pair.run()
        assert (len(frames), pair.supers) == (-(-size // mss), supers if gso_udp else 0)
        at = 62 if v6 else 42
        assert b"".join(f[at : at + mss] for f in frames)[:size] == BODY[:size]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("patch", "kw"),
    [
        ({"proto": 6}, {}),
        ({"seed": 0xAA}, {}),
        ({}, {"hdrlen": 70}),
        ({}, {"tu": (54, 61, 0)}),
        ({}, {"ip": (13, 24, 33)}),
    ],
)
def test_udp_that_a_link_would_cut_otherwise_is_cut_here(
    v6: bool, patch: dict[str, int], kw: dict[str, Any]
) -> None:
    pair = Pair()
    raw = bytearray(datagrams(v6, 5000))
    if "proto" in patch:
        raw[20 if v6 else 23] = patch["proto"]
    if "seed" in patch:
        raw[60 if v6 else 40] = patch["seed"]
    popts = TXSM | (0 if v6 else IXSM)
    pair.post(uso_context(v6, 5000, 1000, **kw), (bytes(raw), EOP | IFCS | TSE, popts))
    pair.run()
    assert pair.supers == 0


def test_broadcast_and_multicast_are_counted_by_the_segment() -> None:
    for first in (b"\xff" * 6, b"\x01\0\x5e\0\0\1"):
        pair = Pair()
        raw = first + packet(False, 5000)[6:]
        pair.post(tso_context(False, 5000, 1000), (raw, EOP | IFCS | TSE, IXSM | TXSM))
        pair.run()
        stats = pair.ours.stats
        assert (pair.supers, stats["BPTC"] + stats["MPTC"], stats["GPTC"]) == (1, 5, 5)
        assert stats["GOTC"] == 5000 + 5 * (54 + 4)


@pytest.mark.parametrize(
    ("limit", "supers"), [(0, 0), (1, 0), (2039, 0), (2040, 2), (20000, 1), (10**6, 1)]
)
def test_link_says_how_long_a_super_frame_is(limit: int, supers: int) -> None:
    pair = Pair(gso_max_bytes=limit)
    assert len(send(pair, False, 4000, 1000)) == 4
    assert pair.supers == supers


def test_run_ends_after_a_megabyte() -> None:
    pair = Pair()
    for _ in range(12):
        raw = packet(False, 120_000)
        pair.post(tso_context(False, 120_000, 1448), (raw[:60000], IFCS | TSE, IXSM | TXSM))
        pair.post((raw[60000:], EOP | IFCS | TSE | RS, IXSM | TXSM))
    engine, batch = pair.ours.engine, pair.ours.batch
    assert engine.run(batch, 512) & RUN_MORE
    assert 1 << 20 <= batch.nbytes < (1 << 20) + (2 << 16)
    engine.reset()


def test_unfinished_segment_waits_for_its_rest() -> None:
    pair = Pair()
    raw = packet(False, 10_000)
    pair.post(tso_context(False, 10_000, 1000), (raw[:5554], IFCS | TSE, IXSM | TXSM))
    assert len(pair.run()) == 5
    assert pair.supers == 1
    assert pair.ours.engine.mid_frame()
    pair.post((raw[5554:], EOP | IFCS | TSE, IXSM | TXSM))
    assert len(pair.run()) == 5
    assert pair.supers == 2
    assert not pair.ours.engine.mid_frame()


@pytest.mark.parametrize("paylen", [3000, 3500, 4999, 5001, 7000])
def test_paylen_that_lies_fails_as_before(paylen: int) -> None:
    pair = Pair()
    pair.post(tso_context(False, paylen, 1000))
    pair.post((packet(False, 5000), EOP | IFCS | TSE, IXSM | TXSM))
    pair.run()
    assert pair.ours.engine.tso_fails == 1
    assert pair.supers == 1


def test_other_descriptor_inside_ends_the_context() -> None:
    pair = Pair()
    pair.post(tso_context(False, 5000, 1000), (packet(False, 3500), IFCS | TSE, IXSM | TXSM))
    pair.post(legacy(pair.ours.bufs, 60))
    assert len(pair.run()) == 3
    assert pair.supers == 1
    assert pair.ours.engine.tso_fails == 1


V4_UNFIT = {
    "SYN": {47: 0x02},
    "RST": {47: 0x04},
    "URG": {47: 0x20},
    "seed": {50: 0xAA},
    "IP check preset": {24: 1},
    "fragment": {20: 0x20},
    "not TCP": {23: 17},
    "IP options that are not there": {14: 0x46},
    "version": {14: 0x65},
    "EtherType": {12: 0x81},
    "data offset": {46: 0x60},
}


@pytest.mark.parametrize("name", V4_UNFIT)
def test_what_a_link_would_cut_otherwise_is_cut_here(name: str) -> None:
    pair = Pair()
    raw = bytearray(packet(False, 5000))
    for at, value in V4_UNFIT[name].items():
        raw[at] = value
    pair.post(tso_context(False, 5000, 1000), (bytes(raw), EOP | IFCS | TSE, IXSM | TXSM))
    assert len(pair.run()) == 5
    assert pair.supers == 0


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize(
    ("cmd", "popts", "registers", "kw"),
    [
        (EOP | TSE, 3, {}, {}),  # software brings the FCS
        (EOP | IFCS | TSE | VLE, 3, {"vme": True}, {}),
        (EOP | IFCS | TSE, IXSM, {}, {}),
        (EOP | IFCS | TSE, 0, {}, {}),
        (EOP | IFCS | TSE, 3, {}, {"ip": (14, 24, 0)}),
        (EOP | IFCS | TSE, 3, {}, {"ip": (15, 25, 34)}),
        (EOP | IFCS | TSE, 3, {}, {"tu": (34, 52, 0)}),
        (EOP | IFCS | TSE, 3, {}, {"cmd": TSE | IPV4}),
    ],
)
def test_contexts_that_only_the_device_can_cut(
    v6: bool, cmd: int, popts: int, registers: dict[str, Any], kw: dict[str, Any]
) -> None:
    pair = Pair(**registers)
    pair.post(tso_context(v6, 5000, 1000, **kw))
    pair.post((packet(v6, 5000), cmd, popts))
    pair.run()
    assert pair.supers == 0


@settings(max_examples=examples(250))
@given(
    packets=st.lists(
        st.fixed_dictionaries(
            {
                "v6": st.booleans(),
                "udp": st.booleans(),
                "size": st.integers(1, 9000),
                "mss": st.integers(1, 3000),
                "lie": st.sampled_from([0, 0, 0, 0, -1, 1, 700, -700]),
                "flags": st.integers(0, 255).map(lambda f: f & ~0x26) | st.integers(0, 255),
                "options": st.sampled_from([b"", TS]),
                "cuts": st.lists(st.integers(0, 9100), max_size=4),
                "cmd": st.sampled_from([IFCS, IFCS, IFCS, IFCS | VLE, 0]),
                "popts": st.sampled_from([None, None, None, 0, 1, 2, 3]),
                "patch": st.one_of(
                    st.none(), st.none(), st.tuples(st.integers(0, 60), st.integers(0, 255))
                ),
                "split": st.booleans(),
            }
        ),
        min_size=1,
        max_size=5,
    ),
    gso=st.sampled_from([65535, 65535, 65535, 4000, 0]),
    tctl=st.sampled_from([0x2, 0xA]),
    vme=st.booleans(),
    limit=st.sampled_from([1, 2, 512]),
    snapshot=st.booleans(),
)
def test_any_contexts_in_any_pieces_give_the_segments_and_the_counters(
    packets: list[dict[str, Any]], gso: int, tctl: int, vme: bool, limit: int, snapshot: bool
) -> None:
    pair = Pair(gso_max_bytes=gso, tctl=tctl, vme=vme)
    for p in packets:
        v6, size, opt = p["v6"], p["size"], len(p["options"])
        mss = max(p["mss"], size // 200 + 1)
        udp = p["udp"]
        raw = bytearray(datagrams(v6, size) if udp else packet(v6, size, p["flags"], p["options"]))
        if p["patch"] and p["patch"][0] < len(raw):
            raw[p["patch"][0]] = p["patch"][1]
        paylen = max(1, size + p["lie"])
        pair.post(uso_context(v6, paylen, mss) if udp else tso_context(v6, paylen, mss, opt))
        popts = p["popts"] if p["popts"] is not None else TXSM | (0 if v6 else IXSM)
        at = 0
        for end in sorted(c for c in p["cuts"] if c < len(raw)):
            pair.post((bytes(raw[at:end]), p["cmd"] | TSE, popts))
            at = end
            if p["split"]:
                pair.run(limit, snapshot)
        pair.post((bytes(raw[at:]), p["cmd"] | TSE | EOP | RS, popts))
        pair.run(limit, snapshot)
