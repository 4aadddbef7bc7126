"""fastpath.nic.rxring: what a receive queue must do, and what hostile ones must not."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.batch import (
    FB_ALIGN_ERR,
    FB_BAD_CRC,
    FB_CARRIER_EXT,
    FB_HAS_FCS,
    FB_SYMBOL_ERR,
    FrameBatch,
)
from fastpath.nic.rxring import (
    RX_ABORT,
    RX_DATA_ABORT,
    RXDMT0,
    RXO,
    RXSEQ,
    RXT0,
    SRPD,
    crc32,
    crc32_set_level,
)
from tests.fastpath.rings import MAC, PEER, Rx, check, eth, ipv4, ipv6, pseudo6, tagged, tcp, udp

EN, SBP, UPE, LPE, BAM, SECRC, BSEX = 1 << 1, 1 << 2, 1 << 3, 1 << 5, 1 << 15, 1 << 26, 1 << 25
IPOFL, TUOFL, IPV6OFL = 1 << 8, 1 << 9, 1 << 10
DD, END, IXSM, VP, TCPCS, IPCS, PIF = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
CE, SE, CXE, TCPE, IPE, RXE = 0x01, 0x02, 0x10, 0x20, 0x40, 0x80
BODY = bytes(range(256)) * 80


@pytest.fixture
def rx() -> Rx:
    return Rx()


def sum16(data: bytes) -> int:
    return ~check(data) & 0xFFFF


@pytest.mark.parametrize("level", [0, 1, 2])
@given(st.binary(max_size=1600), st.integers(0, 0xFFFFFFFF))
def test_crc_equals_zlib(level: int, data: bytes, crc: int) -> None:
    crc32_set_level(level)
    assert crc32(data, crc) == zlib.crc32(data, crc)
    crc32_set_level()


def test_frame_arrives_with_length_and_status(rx: Rx) -> None:
    frame = eth(BODY[:100])
    got = rx.one(frame)
    assert got.data == frame
    assert (got.status, got.errors, got.special) == (DD | END | IXSM, 0, 0)
    assert rx.engine.take_causes() == RXT0
    assert rx.engine.take_causes() == 0


def test_fcs_bytes_are_written_unless_secrc(rx: Rx) -> None:
    frame = eth(BODY[:100])
    assert rx.one(frame).data == frame
    rx.regs["RCTL"] &= ~SECRC
    assert rx.one(frame).data == frame + zlib.crc32(frame).to_bytes(4, "little")


def test_given_fcs_is_checked_and_kept(rx: Rx) -> None:
    rx.regs["RCTL"] &= ~SECRC
    frame = eth(BODY[:100])
    fcs = zlib.crc32(frame).to_bytes(4, "little")
    assert rx.one(frame + fcs, FB_HAS_FCS).data == frame + fcs
    rx.receive(frame + b"\0\0\0\0", flags=FB_HAS_FCS)
    assert rx.reap() == []
    assert rx.stats["CRCERRS"] == 1


def test_disabled_receiver_drops(rx: Rx) -> None:
    rx.regs["RCTL"] &= ~EN
    assert rx.receive(eth(BODY[:60]), eth(BODY[:60])) == 2
    assert rx.reap() == []
    assert rx.engine.frames_dropped_disabled == 2
    assert not any(rx.stats.as_dict().values())


def test_filtered_frames_count_in_the_totals_only(rx: Rx) -> None:
    rx.receive(eth(BODY[:60], dst=PEER))
    assert rx.reap() == []
    assert {k: v for k, v in rx.stats.as_dict().items() if v} == {"TPR": 1, "TOR": 78}
    assert rx.engine.frames_filtered == 1
    rx.regs["RCTL"] |= UPE
    assert rx.one(eth(BODY[:60], dst=PEER)).status & PIF


# Sizes

SIZES = {0: 2048, 1: 1024, 2: 512, 3: 256}


@pytest.mark.parametrize("bsex", [0, BSEX])
@pytest.mark.parametrize("code", SIZES)
def test_buffer_sizes(code: int, bsex: int) -> None:
    rx = Rx(count=128)
    rx.regs["RCTL"] |= code << 16 | bsex | LPE
    size = SIZES[code] * (16 if bsex and code else 1)
    frame = eth(BODY[: 16384 - 18])
    rx.receive(frame)
    got = rx.reap()
    assert [len(d.data) for d in got[:-1]] == [size] * (len(got) - 1)
    assert b"".join(d.data for d in got) == frame


def test_multi_descriptor_frame_has_status_in_the_last(rx: Rx) -> None:
    rx.regs["RCTL"] |= 3 << 16
    frame = tagged(eth(BODY[:600]), 5)
    rx.vme = True
    rx.receive(frame)
    first, second, third = rx.reap()
    stored = frame[:12] + frame[16:]
    assert (first.status, second.status, third.status) == (DD, DD, DD | END | VP | IXSM)
    assert (first.special, second.special, third.special) == (0, 0, 5)
    assert (first.csum, second.csum, third.csum) == (0xFFFF ^ sum16(stored), 0, 0)


def test_null_descriptor_is_given_back_empty(rx: Rx) -> None:
    for i in (0, 2):
        rx.ram.write(rx.ring + 16 * i, bytes(16))
    rx.regs["RCTL"] |= 3 << 16
    rx.receive(eth(BODY[:300]))
    assert [(len(d.data), d.status & END) for d in rx.reap()] == [(0, 0), (256, 0), (0, 0), (58, 2)]


@pytest.mark.parametrize(
    ("size", "lpe", "counter"),
    [
        (1518, 0, None),
        (1519, 0, "ROC"),
        (1519, LPE, None),
        (16380, LPE, None),
        (16381, LPE, "ROC"),
    ],
)
def test_length_limits(rx: Rx, size: int, lpe: int, counter: str | None) -> None:
    rx.regs["RCTL"] |= lpe
    frame = eth(BODY[: size - 14])
    rx.receive(frame)
    got = b"".join(d.data for d in rx.reap())
    if counter is None:
        assert got == frame
        assert rx.stats["GPRC"] == 1
    else:
        assert got == b""
        assert (rx.stats[counter], rx.stats["RLEC"], rx.stats["GPRC"]) == (1, 1, 0)
        rx.regs["RCTL"] |= SBP
        rx.receive(frame)
        assert b"".join(d.data for d in rx.reap()) == frame


def test_jabber_is_oversize_with_bad_crc(rx: Rx) -> None:
    rx.receive(eth(BODY[:2000]), flags=FB_BAD_CRC)
    assert (rx.stats["RJC"], rx.stats["ROC"], rx.stats["CRCERRS"]) == (1, 0, 1)


def test_short_frames_are_padded_by_default(rx: Rx) -> None:
    frame = eth(b"hi")
    assert rx.one(frame).data == frame.ljust(60, b"\0")
    assert rx.stats["PRC64"] == 1


def test_runts_are_counted_and_dropped_when_told(rx: Rx) -> None:
    rx.engine.pad_runts = False
    rx.receive(eth(b"hi"))
    assert rx.reap() == []
    assert (rx.stats["RUC"], rx.stats["RLEC"]) == (1, 1)
    rx.receive(eth(b"hi"), flags=FB_BAD_CRC)
    assert rx.stats["RFC"] == 1
    rx.regs["RCTL"] |= SBP
    assert rx.one(eth(b"hi")).data == eth(b"hi")


@pytest.mark.parametrize("size", [1, 4, 5, 13, 14, 17])
def test_row_5_tiny_frames_with_tag_stripping(rx: Rx, size: int) -> None:
    rx.vme = True
    rx.regs["RCTL"] |= SBP | UPE | 1 << 18
    frame = (MAC + PEER + b"\x81\0\0\1\x08\0")[:size]
    rx.receive(frame, flags=FB_HAS_FCS)
    rx.engine.pad_runts = False
    rx.receive(frame)
    for got in rx.reap():
        assert len(got.data) <= size


# VLAN


def test_vme_strips_the_tag(rx: Rx) -> None:
    frame = eth(BODY[:100])
    got = rx.one(tagged(frame, 0xABCD))
    assert (got.data, got.status & VP, got.special) == (tagged(frame, 0xABCD), 0, 0)
    rx.vme = True
    got = rx.one(tagged(frame, 0xABCD))
    assert (got.data, got.status & VP, got.special) == (frame, VP, 0xABCD)
    assert rx.one(frame).status & VP == 0
    rx.regs["RCTL"] &= ~SECRC
    got = rx.one(tagged(frame, 1))
    assert got.data == frame + zlib.crc32(tagged(frame, 1)).to_bytes(4, "little")


def test_vet_chooses_the_tag_type(rx: Rx) -> None:
    rx.vme = True
    rx.regs["VET"] = 0x88A8
    frame = eth(BODY[:100])
    assert rx.one(tagged(frame, 1)).data == tagged(frame, 1)
    assert rx.one(tagged(frame, 1, 0x88A8)).data == frame


# Checksums

GOOD = {
    "udp4": eth(ipv4(udp(BODY[:101]), 17)),
    "tcp4": eth(ipv4(tcp(BODY[:1000]), 6)),
    "tcp4 empty": eth(ipv4(tcp(b""), 6)),
    "udp6": eth(ipv6(udp(BODY[:50], pseudo6), 17), 0x86DD),
    "tcp6": eth(ipv6(tcp(BODY[:51], pseudo=pseudo6), 6), 0x86DD),
    "snap": MAC + PEER + b"\0\x60\xaa\xaa\x03\0\0\0\x08\0" + ipv4(udp(BODY[:40]), 17),
    "tagged": tagged(eth(ipv4(udp(BODY[:40]), 17)), 9),
    "hop6": eth(ipv6(b"\x11\0" + bytes(6) + udp(BODY[:50], pseudo6), 0), 0x86DD),
}


@pytest.mark.parametrize("vme", [False, True])
@pytest.mark.parametrize("name", GOOD)
def test_right_checksums_are_reported(rx: Rx, name: str, vme: bool) -> None:
    rx.regs["RXCSUM"] = IPOFL | TUOFL | IPV6OFL
    rx.vme = vme
    got = rx.one(GOOD[name])
    assert got.errors == 0
    assert got.status & (IPCS | TCPCS | IXSM) == (TCPCS if name.endswith("6") else IPCS | TCPCS)


@pytest.mark.parametrize("name", GOOD)
def test_every_flipped_bit_of_the_segment_is_seen(rx: Rx, name: str) -> None:
    rx.regs["RXCSUM"] = TUOFL | IPV6OFL
    frame = GOOD[name]
    for at in (len(frame) - 1, len(frame) - 2):
        bad = bytearray(frame)
        bad[at] ^= 0x10
        got = rx.one(bytes(bad))
        assert got.errors == TCPE
        assert got.status & (IPCS | TCPCS | IXSM) == TCPCS


def test_bad_ip_header_is_seen(rx: Rx) -> None:
    rx.regs["RXCSUM"] = IPOFL
    bad = bytearray(GOOD["tcp4"])
    bad[22] ^= 1  # TTL
    got = rx.one(bytes(bad))
    assert (got.errors, got.status & (IPCS | TCPCS | IXSM)) == (IPE, IPCS)


def test_ipv6_is_summed_only_with_its_bit(rx: Rx) -> None:
    rx.regs["RXCSUM"] = TUOFL
    assert rx.one(GOOD["tcp6"]).status & (IXSM | TCPCS) == IXSM


def test_offload_off_sets_ixsm(rx: Rx) -> None:
    assert rx.one(GOOD["tcp4"]).status & (IXSM | IPCS | TCPCS) == IXSM


UNCHECKED = {
    "arp": eth(BODY[:46], 0x0806),
    "fragment": eth(ipv4(udp(BODY[:40]), 17, frag=0x2000)),
    "tail fragment": eth(ipv4(udp(BODY[:40]), 17, frag=5)),
    "no udp check": eth(ipv4(struct.pack(">HHHH", 1, 2, 28, 0) + BODY[:20], 17)),
    "udp length": eth(ipv4(struct.pack(">HHHH", 1, 2, 99, 7) + BODY[:20], 17)),
    "short tcp": eth(ipv4(bytes(19), 6)),
    "icmp": eth(ipv4(BODY[:40], 1)),
    "total 0": eth(ipv4(udp(BODY[:40]), 17, total=0)),
    "total below header": eth(ipv4(udp(BODY[:40]), 17, total=19)),
    "total past frame": eth(ipv4(udp(BODY[:40]), 17, total=2000)),
    "ihl 4": eth(b"\x44" + ipv4(udp(BODY[:40]), 17)[1:]),
    "version 6": eth(b"\x65" + ipv4(udp(BODY[:40]), 17)[1:]),
    "v6 past frame": eth(ipv6(udp(BODY[:60], pseudo6), 17)[:80], 0x86DD),
    "v6 endless options": eth(ipv6(b"\0\xff" + bytes(60), 0), 0x86DD),
    "v6 routing": eth(ipv6(b"\x11\0" + bytes(6) + udp(BODY[:50], pseudo6), 43), 0x86DD),
}


@pytest.mark.parametrize("name", UNCHECKED)
def test_what_hardware_does_not_check_is_left_to_software(rx: Rx, name: str) -> None:
    rx.regs["RXCSUM"] = IPOFL | TUOFL | IPV6OFL
    got = rx.one(UNCHECKED[name])
    assert got.status & TCPCS == 0
    assert got.errors & TCPE == 0


def test_padding_is_not_part_of_the_segment(rx: Rx) -> None:
    rx.regs["RXCSUM"] = IPOFL | TUOFL | IPV6OFL
    frame = eth(ipv4(udp(b"odd"), 17)) + b"\xde\xad\xbe\xef" * 4
    got = rx.one(frame)
    assert (got.errors, got.status & TCPCS, got.data) == (0, TCPCS, frame)
    assert got.csum == 0xFFFF ^ sum16(frame)


@pytest.mark.parametrize("secrc", [0, SECRC])
@pytest.mark.parametrize("vme", [False, True])
@pytest.mark.parametrize("offload", [0, TUOFL])
@pytest.mark.parametrize("pcss", [0, 1, 11, 12, 13, 14, 15, 16, 33, 34, 35, 61, 117, 118, 119, 255])
def test_packet_checksum(rx: Rx, pcss: int, offload: int, vme: bool, secrc: int) -> None:
    rx.regs["RCTL"] = rx.regs["RCTL"] & ~SECRC | secrc
    rx.regs["RXCSUM"] = pcss | offload
    rx.vme = vme
    for frame in (eth(ipv4(udp(BODY[:76]), 17)), tagged(eth(ipv4(udp(BODY[:75]), 17)), 3)):
        got = rx.one(frame)
        assert got.csum == 0xFFFF ^ sum16(got.data[pcss:])
        assert got.errors == 0


@pytest.mark.parametrize("pcss", [14, 15, 30])
@pytest.mark.parametrize("size", [60, 128, 129, 1000])
def test_packet_checksum_of_zeros_is_not_that_of_a_sum_of_ffff(
    rx: Rx, size: int, pcss: int
) -> None:
    rx.regs["RXCSUM"] = pcss
    rx.regs["RCTL"] |= SECRC
    assert rx.one(eth(bytes(size - 14), 0)).csum == 0xFFFF
    assert rx.one(eth(bytes(size - 20) + b"\xff\xff" + bytes(4), 0)).csum == 0


# Rings, FIFO, causes


def test_rdt_equal_rdh_means_no_descriptor(rx: Rx) -> None:
    rx.regs["RDT"] = rx.regs["RDH"]
    assert rx.engine.free_descriptors() == 0
    assert rx.receive(eth(BODY[:60])) == 1
    assert rx.reap() == []
    assert (rx.stats["RNBC"], rx.stats["MPC"], rx.engine.fifo_frames) == (1, 0, 1)
    assert rx.stats["GPRC"] == 1
    assert rx.engine.ready()


def test_fifo_waits_then_drains_in_order(rx: Rx) -> None:
    frames = [eth(bytes([i]) * 100) for i in range(20)]
    assert rx.receive(*frames) == 20
    assert rx.engine.fifo_frames == 5
    got = rx.reap()
    rx.refill(15)
    assert rx.engine.kick() == 5
    assert [d.data for d in got + rx.reap()] == frames
    assert rx.engine.fifo_used == 0
    assert rx.engine.ready()


def test_full_fifo_loses_frames_with_mpc_and_rxo(rx: Rx) -> None:
    rx.engine.fifo_bytes = 3000
    rx.regs["RDT"] = rx.regs["RDH"]
    assert rx.receive(*[eth(BODY[:1000])] * 5) == 5
    assert (rx.stats["RNBC"], rx.stats["MPC"], rx.stats["GPRC"]) == (5, 3, 2)
    assert rx.engine.take_causes() == RXO
    assert rx.engine.frames_missed == 3
    rx.engine.flush_fifo()
    assert rx.engine.fifo_frames == 0


def test_fifo_that_never_empties_keeps_the_order(rx: Rx) -> None:
    seen: list[int] = []
    for i in range(5000):
        rx.receive(eth(struct.pack(">I", i) * 25))
        if i >= 40:
            got = rx.reap()
            seen += [struct.unpack_from(">I", d.data, 14)[0] for d in got]
            rx.refill(1 if i > 60 else 0)
            rx.engine.kick()
    assert seen == list(range(len(seen)))
    assert len(seen) > 4900
    assert rx.stats["MPC"] == 0


def test_holding_link_keeps_what_the_fifo_has_no_room_for(rx: Rx) -> None:
    rx.engine.fifo_bytes = 3000
    frames = [eth(bytes([i]) * 1000) for i in range(20)]
    assert rx.receive(*frames, hold=True) == 17
    assert (rx.stats["RNBC"], rx.stats["MPC"]) == (2, 0)
    assert (rx.stats["TPR"], rx.engine.fifo_frames) == (17, 2)
    assert not rx.engine.ready()
    assert not rx.engine.takes(1014)
    got = rx.reap()
    rx.refill(15)
    assert rx.engine.takes(1014)
    assert rx.receive(*frames[17:], hold=True) == 3
    assert [d.data for d in got + rx.reap()] == frames
    assert rx.engine.ready()


def test_a_frame_larger_than_the_fifo_is_lost_to_a_holding_link_too(rx: Rx) -> None:
    rx.engine.fifo_bytes = 1024
    assert rx.engine.takes(1100)
    assert rx.receive(eth(BODY[:1100]), eth(BODY[:100]), hold=True) == 2
    assert (rx.stats["MPC"], rx.stats["RNBC"], rx.stats["GPRC"]) == (1, 0, 1)
    assert [d.data for d in rx.reap()] == [eth(BODY[:100])]
    assert rx.engine.take_causes() & RXO


def test_no_fifo_no_frames(rx: Rx) -> None:
    rx.engine.fifo_bytes = 0
    assert rx.receive(eth(BODY[:60]), hold=True) == 1
    assert (rx.stats["MPC"], rx.reap()) == (1, [])
    assert rx.engine.buffer.pointers() == (0, 0, 0, 0, 0)


def test_part_of_a_frame_is_in_memory_while_the_rest_waits(rx: Rx) -> None:
    rx.regs["RCTL"] |= 3 << 16
    rx.regs["RDT"] = 3
    assert rx.receive(eth(BODY[:1000]), hold=True) == 1
    head, tail, saved_head, saved_tail, frames = rx.engine.buffer.pointers()
    assert (head, saved_head, frames) == ((16 + 768) // 8, 0, 1)
    assert tail == saved_tail == 2 * ((1018 + 16 + 15) // 16)
    rx.regs["RDT"] = 4
    assert rx.engine.kick() == 1
    assert b"".join(d.data for d in rx.reap()) == eth(BODY[:1000])
    assert rx.engine.buffer.pointers() == (tail,) * 4 + (0,)


def test_what_waits_is_in_the_packet_buffer(rx: Rx) -> None:
    rx.regs["RDT"] = rx.regs["RDH"]
    frames = [eth(BODY[:100]), tagged(eth(BODY[:61]), 7)]
    rx.receive(*frames)
    memory = rx.engine.buffer.memory()
    for frame in frames:
        wire = frame + zlib.crc32(frame).to_bytes(4, "little")
        at = memory.index(wire)
        assert memory[at - 16 : at] == len(wire).to_bytes(16, "little")


def test_holding_link_may_lose_what_is_filtered(rx: Rx) -> None:
    rx.engine.fifo_bytes = 96
    rx.regs["RDT"] = rx.regs["RDH"]
    assert rx.receive(eth(BODY[:60]), hold=True) == 1
    assert rx.receive(eth(BODY[:60], dst=PEER), eth(BODY[:60]), hold=True) == 1


@pytest.mark.parametrize("hold", [False, True])
def test_frame_larger_than_the_ring_goes_piece_by_piece(hold: bool) -> None:
    rx = Rx(count=8)
    rx.regs["RCTL"] |= 3 << 16 | LPE
    frame = eth(BODY[:6000])
    assert rx.receive(frame, hold=hold) == 1
    got = b""
    for _ in range(10):
        part = rx.reap()
        got += b"".join(d.data for d in part)
        rx.refill(len(part))
        rx.engine.kick()
        if part and part[-1].status & END:
            break
    assert got == frame
    assert rx.engine.fifo_frames == 0


@pytest.mark.parametrize(("rdmts", "left"), [(0, 8), (1, 4), (2, 2)])
def test_rxdmt0_at_the_threshold(rx: Rx, rdmts: int, left: int) -> None:
    rx.regs["RCTL"] |= rdmts << 8
    for i in range(15):
        rx.receive(eth(BODY[:60]))
        assert bool(rx.engine.take_causes() & RXDMT0) is (15 - i - 1 == left)


def test_srpd_for_small_packets(rx: Rx) -> None:
    rx.regs["RSRPD"] = 100
    rx.receive(eth(BODY[:86]))
    assert rx.engine.take_causes() == RXT0 | SRPD
    rx.receive(eth(BODY[:87]))
    assert rx.engine.take_causes() == RXT0


def test_ring_wraps(rx: Rx) -> None:
    for i in range(50):
        frame = eth(bytes([i]) * 80)
        assert rx.one(frame).data == frame


def test_row_23_tail_equal_to_size_is_the_rest_of_the_ring(rx: Rx) -> None:
    rx.regs["RDT"] = 16
    rx.ram.write(rx.ring + 15 * 16, struct.pack("<QQ", rx.buffer(15), 0))
    assert rx.receive(*[eth(BODY[:60])] * 20) == 20
    assert len(rx.reap()) == 16
    assert rx.regs["RDH"] == 0


@pytest.mark.parametrize("size", [0, 16, 112])
def test_row_16_small_ring_is_off(rx: Rx, size: int) -> None:
    rx.regs["RDLEN"] = size
    assert rx.receive(eth(BODY[:60])) == 1
    assert rx.reap() == []
    assert rx.stats["RNBC"] == 1


def test_row_2_head_or_tail_beyond_the_ring(rx: Rx) -> None:
    for head, tail in ((16, 3), (0xFFFF, 0xFFFF), (0, 17)):
        rx.regs["RDH"], rx.regs["RDT"] = head, tail
        assert rx.receive(eth(BODY[:60])) == 1
    assert rx.reap() == []


def test_row_21_all_ones_in_rctl(rx: Rx) -> None:
    rx.regs["RCTL"] = 0xFFFFFFFF
    rx.regs["RDH"] = rx.regs["RDT"] = 0xFFFF
    rx.regs["RDLEN"] = 0xFFF80
    assert rx.receive(eth(BODY[:60])) == 1
    rx.regs["RDH"], rx.regs["RDT"], rx.regs["RDLEN"] = 0, 15, 256
    rx.regs["RCTL"] &= ~BSEX & ~(1 << 18)
    rx.engine.kick()
    assert len(rx.reap()) == 1


def test_row_22_ring_at_the_top_of_the_address_space(rx: Rx) -> None:
    rx.base = (1 << 64) - 32
    assert rx.receive(eth(BODY[:60])) == 1
    assert rx.engine.free_descriptors() == 0


def test_row_13_ring_moves_while_receiving(rx: Rx) -> None:
    rx.receive(eth(BODY[:60]))
    rx.base = rx.ring + 128
    rx.regs["RDLEN"] = 128
    rx.regs["RDH"], rx.regs["RDT"] = 0, 7
    assert rx.receive(*[eth(BODY[:60])] * 3) == 3
    rx.reap()
    rx.next = 8
    assert len(rx.reap()) == 3


def test_row_24_bus_master_off_means_no_dma(rx: Rx) -> None:
    rx.dma.enabled = False
    rx.receive(eth(BODY[:60]))
    assert rx.dma.aborts == 0
    rx.dma.enabled = True
    assert rx.engine.kick() == 1
    assert len(rx.reap()) == 1


def test_ring_outside_memory_is_an_abort(rx: Rx) -> None:
    rx.base = 1 << 40
    assert rx.receive(eth(BODY[:60]), eth(BODY[:60])) == 2
    assert rx.engine.take_causes() & RX_ABORT
    assert rx.dma.aborts == 1
    assert rx.engine.fifo_frames == 2


def test_buffer_outside_memory_loses_the_bytes(rx: Rx) -> None:
    rx.ram.write64(rx.ring, 1 << 40)
    rx.receive(eth(BODY[:60]))
    assert rx.engine.take_causes() == RXT0 | RX_DATA_ABORT
    assert rx.ram.read(rx.ring + 12, 1)[0] & DD
    assert rx.engine.data_aborts == 1


def test_ring_and_buffers_across_regions() -> None:
    rx = Rx()
    rx.dma.remove(rx.ram.base, rx.ram.size_bytes)
    view = rx.ram.buffer
    cuts = [0, rx.ring + 40, rx.buffer(1) + 33, rx.ram.size_bytes]
    for a, b in itertools.pairwise(cuts):
        rx.dma.add(a, view[a:b])
    frames = [eth(bytes([i]) * 100) for i in range(6)]
    rx.receive(*frames)
    assert [d.data for d in rx.reap()] == frames
    assert rx.dma.aborts == 0


def test_read_only_buffer_is_an_abort() -> None:
    rx = Rx()
    rom = bytes(4096)
    rx.dma.add(1 << 32, rom, writable=False)
    rx.ram.write64(rx.ring, 1 << 32)
    rx.receive(eth(BODY[:60]))
    assert rom == bytes(4096)
    assert rx.dma.aborts == 1


# Errors


@pytest.mark.parametrize(
    ("flag", "counters", "errors"),
    [
        (FB_BAD_CRC, {"CRCERRS"}, CE),
        (FB_ALIGN_ERR, {"ALGNERRC"}, CE),
        (FB_SYMBOL_ERR, {"RXERRC"}, SE | RXE),
        (FB_CARRIER_EXT, {"CEXTERR"}, CXE),
    ],
)
def test_line_errors(rx: Rx, flag: int, counters: set[str], errors: int) -> None:
    frame = eth(BODY[:100])
    rx.receive(frame, flags=flag)
    assert rx.reap() == []
    assert {k for k, v in rx.stats.as_dict().items() if v} == counters | {"TPR", "TOR"}
    assert bool(rx.engine.take_causes() & RXSEQ) is (flag == FB_SYMBOL_ERR)
    rx.regs["RCTL"] |= SBP
    got = rx.one(frame, flag)
    assert (got.data, got.errors) == (frame, errors)
    assert rx.stats["GPRC"] == 0


def test_statistics_of_good_frames(rx: Rx) -> None:
    group = b"\x01\0\x5e\0\0\1"
    rx.regs["RCTL"] |= 1 << 4
    sizes = [60, 61, 124, 252, 508, 1020, 1518]
    for size in sizes:
        rx.one(eth(BODY[: size - 14]))
    for dst in (group, group, b"\xff" * 6):
        rx.one(eth(BODY[:46], dst=dst))
    for name, count in zip(
        ("64", "127", "255", "511", "1023", "1522"), (4, 1, 1, 1, 1, 2), strict=True
    ):
        assert rx.stats["PRC" + name] == count
    total = sum(sizes) + 28 + 3 * 64
    assert (rx.stats["GPRC"], rx.stats["TPR"]) == (10, 10)
    assert (rx.stats["GORC"], rx.stats["TOR"]) == (total, total)
    assert (rx.stats["MPRC"], rx.stats["BPRC"]) == (2, 1)


# State


def test_state_carries_the_fifo(rx: Rx) -> None:
    rx.regs["RCTL"] |= 3 << 16
    rx.regs["RDT"] = 2
    frames = [eth(BODY[:1000]), eth(BODY[:60])]
    rx.receive(*frames)
    first = rx.reap()
    state = rx.engine.state()
    rx.engine.reset()
    assert rx.engine.fifo_frames == 0
    rx.engine.load(state)
    assert rx.engine.state() == state
    rx.refill(10)
    assert rx.engine.kick() == 2
    assert b"".join(d.data for d in first + rx.reap()) == b"".join(frames)


def test_reset_keeps_registers_and_options(rx: Rx) -> None:
    rx.engine.pad_runts = False
    rx.receive(eth(BODY[:60]))
    rx.engine.reset()
    e = rx.engine
    assert (e.base, e.len, e.head, e.tail, e.causes) == (rx.ring, 256, 1, 15, 0)
    assert (e.pad_runts, e.fifo_bytes) == (False, 48 << 10)
    assert rx.filter.verdict(eth(b""), 0)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        ({"waiting": [(0, 1, b"fcs")]}, ValueError),
        ({"waiting": [(0, 1, bytes(1 << 15))]}, ValueError),
        ({"waiting": [(0, 1, bytes(1500))] * 40}, ValueError),
        ({"waiting": [(0, 1)]}, ValueError),
        ({"waiting": 5}, TypeError),
        ({"fifo_bytes": 1 << 17}, ValueError),
        ({"fifo_off": 1 << 20}, ValueError),
        ({"fifo_bytes": 1 << 17, "chip": bytes(16)}, ValueError),
        ({"chip": bytes(15)}, ValueError),
        ({"causes": -1}, OverflowError),
        ({"at": "here"}, TypeError),
    ],
)
def test_damaged_state_is_refused(rx: Rx, damage: dict[str, Any], error: type[Exception]) -> None:
    rx.regs["RDT"] = 0
    rx.receive(eth(BODY[:60]))
    state = rx.engine.state()
    with pytest.raises(error):
        rx.engine.load(state | damage)
    assert rx.engine.state() == state


def test_start_index_is_honoured(rx: Rx) -> None:
    batch = FrameBatch([eth(bytes([i]) * 60) for i in range(3)])
    assert rx.engine.receive(batch, 2) == 3
    assert [d.data[14] for d in rx.reap()] == [2]
    assert rx.engine.receive(batch, 7) == 7
    with pytest.raises(IndexError):
        rx.engine.receive(batch, -1)


def test_causes_of_broadcast_without_bam(rx: Rx) -> None:
    rx.regs["RCTL"] &= ~BAM
    rx.receive(eth(BODY[:60], dst=b"\xff" * 6))
    assert rx.engine.causes == 0
