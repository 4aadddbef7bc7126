"""Frames of the transmit engine judged by scapy; its frames judged by the receive engine."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.fastpath.rings import (
    EOP,
    IFCS,
    IPV4,
    IXSM,
    RS,
    TSE,
    TXSM,
    VLE,
    Rx,
    Tx,
    check,
    context,
    data,
)
from tests.fastpath.rings import TCP as TUCMD_TCP
from tests.support import examples

MAC, PEER = "52:54:00:12:34:56", "02:00:00:00:00:01"
TCPCS, IPCS, TCPE = 0x20, 0x40, 0x20


def build(v6: bool, tcp: bool, payload: bytes) -> Packet:
    l3 = IPv6(src="fd00::1", dst="fd00::2") if v6 else IP(src="10.0.0.1", dst="10.0.0.2", id=77)
    l4 = TCP(sport=1, dport=2, seq=0xFFFFFF00, ack=9, flags="PAF") if tcp else UDP(sport=1, dport=2)
    return Ether(src=PEER, dst=MAC) / l3 / l4 / Raw(payload)


def rechecked(frame: bytes) -> bytes:
    """The frame with every length and check computed anew by scapy."""
    packet = Ether(frame)
    for layer, names in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",)),
                         (UDP, ("len", "chksum"))):  # fmt: skip
        if layer in packet:
            for name in names:
                delattr(packet[layer], name)
    return bytes(packet)


def offloaded(packet: Packet, v6: bool, tcp: bool, *, whole: bool) -> bytes:
    """What a driver puts into memory: seed in the check field, IP check 0."""
    raw = bytearray(bytes(packet))
    l4 = 54 if v6 else 34
    addresses = raw[22:54] if v6 else raw[26:34]
    length = len(raw) - l4 if whole else 0
    pseudo = bytes(addresses) + length.to_bytes(4, "big") + (6 if tcp else 17).to_bytes(4, "big")
    at = l4 + (16 if tcp else 6)
    raw[at : at + 2] = (check(pseudo) ^ 0xFFFF).to_bytes(2, "big")
    if not v6:
        raw[24:26] = b"\0\0"
    return bytes(raw)


@settings(max_examples=examples(60))
@given(
    st.booleans(), st.booleans(), st.integers(1, 5000), st.integers(1, 1460), st.booleans(),
    st.integers(1, 200),
)  # fmt: skip
def test_segments_are_what_scapy_would_send(v6, tcp, size, mss, tag, cut) -> None:
    if size // mss > 200:
        mss = size // 200 + 1
    tx = Tx()
    payload = bytes(i * 11 & 0xFF for i in range(size))
    raw = offloaded(build(v6, tcp, payload), v6, tcp, whole=False)
    l4 = 54 if v6 else 34
    hdrlen = l4 + (20 if tcp else 8)
    cmd = TSE | (TUCMD_TCP if tcp else 0) | (0 if v6 else IPV4)
    tx.vme = tag
    tx.post(
        context(tu=(l4, l4 + (16 if tcp else 6), 0), paylen=size, hdrlen=hdrlen, mss=mss, cmd=cmd)
    )
    cut = min(cut, len(raw) - 1)
    popts = TXSM | (0 if v6 else IXSM)
    dcmd = TSE | IFCS | (VLE if tag else 0)
    tx.post(data(tx.put(raw[:cut]), cut, dcmd, popts=popts, tag=5))
    frames = tx.send(data(tx.put(raw[cut:]), len(raw) - cut, dcmd | EOP | RS))
    assert len(frames) == -(-size // mss)
    got = b""
    for i, frame in enumerate(frames):
        assert rechecked(frame) == frame
        packet = Ether(frame)
        assert (Dot1Q in packet) is tag
        if not v6:
            assert packet[IP].id == 77 + i
        if tcp:
            assert packet[TCP].seq == (0xFFFFFF00 + i * mss) & 0xFFFFFFFF
            assert ("F" in packet[TCP].flags) is (i == len(frames) - 1)
            assert ("P" in packet[TCP].flags) is (i == len(frames) - 1)
        got += bytes(packet[TCP if tcp else UDP].payload)
    assert got == payload


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("size", [0, 1, 18, 100, 101, 1400, 1439])
def test_checksum_offload_both_ways(v6: bool, tcp: bool, size: int) -> None:
    tx, rx = Tx(), Rx()
    rx.regs["RXCSUM"] = 0x700
    packet = build(v6, tcp, (bytes(range(256)) * 6)[:size])
    raw = offloaded(packet, v6, tcp, whole=True)
    l4 = 54 if v6 else 34
    cmd = (TUCMD_TCP if tcp else 0) | (0 if v6 else IPV4)
    tx.post(context(tu=(l4, l4 + (16 if tcp else 6), 0), cmd=cmd))
    popts = TXSM | (0 if v6 else IXSM)
    (frame,) = tx.send(data(tx.put(raw), len(raw), popts=popts))
    assert frame == bytes(packet)
    assert rechecked(frame) == frame
    got = rx.one(frame)
    assert got.errors == 0
    assert got.status & TCPCS
    assert bool(got.status & IPCS) is not v6
    bad = bytearray(frame)
    bad[l4] ^= 0x40
    assert rx.one(bytes(bad)).errors == TCPE
