"""The driver-side rings against a device written here in plain Python."""

import os
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastpath._ref import rings_driver as ref
from fastpath.base import skbuff as S
from fastpath.base.csum import csum_fold, csum_partial, csum_tcpudp_nofold
from fastpath.base.dma import HostMemory
from fastpath.base.skbuff import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_TCPV4,
    SkbPool,
    alloc_skb,
    kfree_skb,
    sk_buff,
    skb_add_data,
    skb_from_bytes,
    skb_get,
    skb_push_data,
    skb_to_bytes,
)
from fastpath.net import rings_driver
from fastpath.net.gro import GroTable
from fastpath.net.rings_driver import RxRing, TxRing, free_in_runs
from tests.support import examples

DD, EOP, IXSM, VP, TCPCS, IPCS = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40


class Host:
    """RAM and pools, and a look that nothing of them is lost."""

    def __init__(self, buf_bytes: int = 2048, count: int = 256) -> None:
        self.mem = HostMemory(16 << 20)
        self.small = SkbPool(self.mem, 2048, 256)
        self.pages = SkbPool(self.mem, 32768, 32)
        self.rx = SkbPool(self.mem, buf_bytes, count)

    def idle(self) -> bool:
        return not (self.small.in_use or self.pages.in_use or self.rx.in_use)


@pytest.fixture
def h() -> Iterator[Host]:
    made = Host()
    yield made
    assert made.idle()


def tcp_frame(
    seq: int,
    payload: bytes,
    *,
    ack: int = 7,
    flags: int = 0x10,
    window: int = 500,
    ident: int = 0,
    options: bytes = b"",
    sport: int = 1000,
    ttl: int = 64,
    bad: bool = False,
) -> bytes:
    """Ethernet, IPv4 and TCP with right checksums (`bad` spoils TCP's)."""
    total = 40 + len(options) + len(payload)
    ip = bytearray(
        struct.pack(
            "!BBHHHBBHII", 0x45, 0, total, ident & 0xFFFF, 0x4000, ttl, 6, 0, 0x0A000001, 0x0A000002
        )
    )
    struct.pack_into("!H", ip, 10, csum_fold(csum_partial(bytes(ip))))
    tcp = bytearray(
        struct.pack(
            "!HHIIBBHHH",
            sport,
            80,
            seq & 0xFFFFFFFF,
            ack,
            (20 + len(options)) << 2,
            flags,
            window,
            0,
            0,
        )
        + options
        + payload
    )
    acc = csum_tcpudp_nofold(0x0A000001, 0x0A000002, len(tcp), 6, 0)
    check = csum_fold(csum_partial(bytes(tcp), acc))
    struct.pack_into("!H", tcp, 16, check ^ (0x5555 if bad else 0))
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\x00" + bytes(ip) + bytes(tcp)


class RxDevice:
    """Fills the ring as a NIC does, FCS included."""

    def __init__(self, host: Host, ring: RxRing) -> None:
        self.mem, self.ring, self.head = host.mem, ring, 0

    def receive(self, frame: bytes, status: int = 0, errors: int = 0, special: int = 0) -> None:
        data = frame + b"FCS!"
        size = self.ring.buf_bytes
        pieces = [data[i : i + size] for i in range(0, len(data), size)]
        for i, piece in enumerate(pieces):
            at = self.ring.dma + 16 * self.head
            addr = self.mem.read64(at)
            self.mem.write(addr, piece)
            last = i == len(pieces) - 1
            tail = (DD | EOP | status, errors, special) if last else (DD, 0, 0)
            self.mem.write(at + 8, struct.pack("<HHBBH", len(piece), 0, *tail))
            self.head = (self.head + 1) % self.ring.count


def tx_frames(host: Host, ring: TxRing, head: int, tail: int) -> list[tuple[bytes, bytes]]:
    """What a device would send between head and tail: (bytes, last descriptor); sets DD."""
    out, data = [], b""
    while head != tail:
        d = host.mem.read(ring.dma + 16 * head, 16)
        addr, word, upper = struct.unpack("<QII", d)
        if not (word >> 29 & 1 and (word >> 20 & 0xF) == 0):  # not a context descriptor
            n = word & 0xFFFFF if word >> 29 & 1 else word & 0xFFFF
            data += host.mem.read(addr, n)
            if word >> 24 & 1:
                assert word >> 27 & 1, "RS on the last descriptor"
                out.append((data, d))
                data = b""
                host.mem.write(ring.dma + 16 * head + 12, bytes([upper & 0xFF | 1]))
            else:
                assert not word >> 27 & 1
        head = (head + 1) % ring.count
    return out


def test_tx_map_describes_all_bytes_and_clean_frees_after_dd(h: Host) -> None:
    ring = TxRing(h.mem, 64)
    skb = alloc_skb(h.small, 0, 128)
    body = bytes(range(256)) * 400
    assert skb_add_data(skb, h.pages, body, 0, len(body)) == len(body)
    skb_push_data(skb, b"H" * 54)
    need = ring.desc_needed(skb)
    before = ring.unused()
    assert ring.map(skb, 3, 0x0B, vlan=0x123) == need
    assert ring.unused() == before - need
    assert ring.clean() == (0, 0, 0)
    ((data, last),) = tx_frames(h, ring, 0, ring.next_to_use)
    assert data == b"H" * 54 + body
    _, word, upper = struct.unpack("<QII", last)
    assert word >> 24 == 0x20 | 0x40 | 0x0B  # DEXT, VLE, EOP|IFCS|RS
    assert word >> 20 & 0xF == 1
    assert upper >> 16 == 0x123
    assert upper >> 8 & 0xFF == 3
    assert ring.clean() == (1, len(data), len(data))
    assert skb.users == 0


def test_tx_context_layout(h: Host) -> None:
    ring = TxRing(h.mem, 8)
    assert ring.put_context(14, 24, 33, 34, 50, 0, 100000, 66, 1448, 0x07)
    d = ring.desc(0)
    assert d[:8] == struct.pack("<BBHBBH", 14, 24, 33, 34, 50, 0)
    word, sta, hdrlen, mss = struct.unpack("<IBBH", d[8:])
    assert word == 100000 | 0x27 << 24
    assert (sta, hdrlen, mss) == (0, 66, 1448)
    with pytest.raises(ValueError, match="does not fit"):
        ring.put_context(0, 0, 0, 0, 0, 0, 1 << 20, 0, 0, 0)


def test_tx_full_ring_refuses_and_keeps_ownership_with_caller(h: Host) -> None:
    ring = TxRing(h.mem, 8)
    skbs = [skb_from_bytes(h.small, bytes([i]) * 60) for i in range(8)]
    assert [ring.map(s) for s in skbs] == [1] * 7 + [-1]
    assert not ring.put_context(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    assert skbs[7].users == 1
    kfree_skb(skbs[7])
    assert [d for d, _ in tx_frames(h, ring, 0, ring.next_to_use)] == [
        bytes([i]) * 60 for i in range(7)
    ]
    assert ring.clean(3) == (3, 180, 180)
    assert ring.clean() == (4, 240, 240)


def test_tx_clean_counts_tso_as_on_the_wire(h: Host) -> None:
    ring = TxRing(h.mem, 32)
    skb = skb_from_bytes(h.small, tcp_frame(1, b"x" * 1000))
    skb.transport_header = skb.data_offset + 34
    skb.gso_size, skb.gso_segs, skb.gso_type, skb.ip_summed = (
        400,
        3,
        SKB_GSO_TCPV4,
        CHECKSUM_PARTIAL,
    )
    ring.put_context(14, 24, 33, 34, 50, 0, 1000, 54, 400, 7)
    ring.map(skb)
    tx_frames(h, ring, 0, ring.next_to_use)
    assert ring.clean() == (3, 1054 + 2 * 54, 1054)


def test_tx_destructor_may_map_again_during_clean(h: Host) -> None:
    ring = TxRing(h.mem, 8)
    again: list[int] = []

    def destructor(_: object) -> None:
        again.append(ring.map(skb_from_bytes(h.small, b"z" * 60)))

    skb = skb_from_bytes(h.small, b"a" * 60)
    skb.destructor = destructor
    ring.map(skb)
    tx_frames(h, ring, 0, ring.next_to_use)
    assert ring.clean() == (1, 60, 60)
    assert again == [1]
    assert ring.pending() == 1
    ring.reset()


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["runs", "runs", "other", ""]), st.integers(0, 1))),
    st.integers(0, 9),
    st.booleans(),
)
def test_tx_owners_of_a_run_are_told_once(
    packets: list[tuple[str, int]], budget: int, defer: bool
) -> None:
    h = Host()
    ring = TxRing(h.mem, 256)
    owners = [object(), object()]
    calls: list[tuple[str, int, int]] = []

    def destructor(name: str) -> Callable[[sk_buff], None]:
        return lambda skb: calls.append((name, owners.index(skb.sk), skb.truesize))

    functions = {"runs": destructor("runs"), "other": destructor("other"), "": None}
    want = []
    for i, (name, owner) in enumerate(packets):
        skb = skb_from_bytes(h.small, b"x" * 60)
        skb.sk, skb.destructor = owners[owner], functions[name]
        skb.truesize += i
        want.append((name, owner, skb.truesize))
        ring.map(skb)
    tx_frames(h, ring, 0, ring.next_to_use)
    before = free_in_runs(functions["runs"])
    try:
        out: list[sk_buff] | None = [] if defer else None
        n = min(budget, len(packets)) if budget else len(packets)
        assert ring.clean(budget, out) == (n, 60 * n, 60 * n)
        assert calls == ([] if defer else ref.freed(want[:n]))
        calls.clear()
        ring.clean()
        assert calls == ref.freed(want[n:])
    finally:
        assert free_in_runs(before) is functions["runs"]
    for skb in out or ():
        kfree_skb(skb)
    assert h.idle()


def test_tx_who_holds_a_sent_packet_keeps_it_charged(h: Host) -> None:
    ring = TxRing(h.mem, 16)
    calls: list[int] = []
    owner = object()
    before = free_in_runs(wfree := lambda skb: calls.append(skb.truesize))
    skbs = [skb_from_bytes(h.small, b"x" * 60) for _ in range(3)]
    size = skbs[0].truesize
    try:
        for skb in skbs:
            skb.sk, skb.destructor = owner, wfree
            ring.map(skb)
        skb_get(skbs[1])
        tx_frames(h, ring, 0, ring.next_to_use)
        assert ring.clean() == (3, 180, 180)
        assert calls == [size, size]
        kfree_skb(skbs[1])
        assert calls == [size, size, size]
    finally:
        free_in_runs(before)


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.integers(0, 70000), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([1000, 4096, 16384, (1 << 20) - 1]),
)
def test_tx_any_mix_arrives_in_order(packets: list[tuple[int, int, bool]], step: int) -> None:
    h = Host()
    ring = TxRing(h.mem, 128)
    head, sent, got = 0, [], []
    for i, (linear, paged, ctx) in enumerate(packets):
        skb = skb_from_bytes(h.small, bytes([i]) * linear)
        skb_add_data(skb, h.pages, bytes([i + 1]) * paged, 0, paged)
        want = skb_to_bytes(skb)
        if ctx:
            ring.put_context(14, 24, 33, 34, 50, 0, 0, 0, 0, 0)
        if ring.map(skb, max_per_desc=step) < 0:
            got += [d for d, _ in tx_frames(h, ring, head, ring.next_to_use)]
            head = ring.next_to_use
            ring.clean()
            if ring.map(skb, max_per_desc=step) < 0:
                kfree_skb(skb)
                continue
        sent.append(want)
    got += [d for d, _ in tx_frames(h, ring, head, ring.next_to_use)]
    assert got == sent
    ring.clean()
    assert ring.pending() == 0
    assert h.idle()


def rx(host: Host, count: int = 16, buf_bytes: int = 2048) -> tuple[RxRing, RxDevice]:
    ring = RxRing(host.mem, count, host.rx, buf_bytes)
    assert ring.empty() == count - 1
    assert ring.refill() == count - 1
    assert ring.empty() == 0
    return ring, RxDevice(host, ring)


def free_all(out: list) -> list[bytes]:
    data = [skb_to_bytes(s) for s in out]
    for s in out:
        kfree_skb(s)
    out.clear()
    return data


def test_rx_poll_is_clean_and_flush(h: Host) -> None:
    ring, dev = rx(h)
    gro, out = GroTable(), []
    ring.refill()
    assert ring.poll(4, out, gro, True, True, False, 16) == 0
    assert ring.poll(4, out, None, True, True, False, 0) == 2
    with pytest.raises(TypeError):
        ring.clean(4, None)  # type: ignore[arg-type]
    for mark in range(3):
        dev.receive(bytes([mark]) * 60)
    assert ring.poll(1, out, None, True, True, False, 16) == 1
    assert len(out) == 1
    assert ring.poll(4, out, gro, True, True, False, 3) == 2
    assert [skb_to_bytes(skb)[0] for skb in out] == [0, 1, 2]
    for skb in out:
        kfree_skb(skb)
    out.clear()
    ring.reset()


def test_rx_merges_into_a_table_made_without_arguments(h: Host) -> None:
    ring, dev = rx(h)
    dev.receive(tcp_frame(1, b"x" * 100))
    gro, out = GroTable.__new__(GroTable), []
    gro.tcp = True
    assert ring.clean(64, out, gro) == 1
    assert gro.flush(out) == 1
    assert free_all(out) == [tcp_frame(1, b"x" * 100)]
    ring.reset()


def test_rx_delivers_frames_with_status(h: Host) -> None:
    ring, dev = rx(h)
    f = tcp_frame(1, b"abc")
    dev.receive(f)
    dev.receive(f, TCPCS | IPCS)
    dev.receive(f, TCPCS | IPCS, 0x20)
    dev.receive(f, VP | IXSM, 0, 0x2005)
    dev.receive(f, 0, 0x01)
    out: list = []
    assert ring.pending()
    assert ring.clean(64, out) == 5
    assert [s.ip_summed for s in out] == [
        CHECKSUM_NONE,
        CHECKSUM_UNNECESSARY,
        CHECKSUM_NONE,
        CHECKSUM_NONE,
    ]
    assert [s.vlan_tci for s in out] == [0, 0, 0, 0x2005]
    assert out[3].vlan_present
    assert all(s.mac_header == s.data_offset for s in out)
    assert (ring.crc_errors, ring.hw_csum_good, ring.hw_csum_err, ring.frames) == (1, 1, 1, 4)
    assert free_all(out) == [f] * 4
    assert ring.refill() == 4
    ring.reset()


@pytest.mark.parametrize("length", [2044, 2045, 2046, 2047, 2048, 4092, 4096, 9000])
def test_rx_frame_over_several_descriptors(length: int, h: Host) -> None:
    ring, dev = rx(h)
    f = bytes(i * 7 & 0xFF for i in range(length))
    dev.receive(f)
    out: list = []
    assert ring.clean(64, out, GroTable()) == 1
    assert free_all(out) == [f]
    dev.receive(f)
    assert ring.clean(64, out, strip_fcs=False) == 1
    assert free_all(out) == [f + b"FCS!"]
    ring.reset()


def test_rx_hostile_descriptors_lose_only_the_frame() -> None:
    h = Host(buf_bytes=2048)
    ring, dev = rx(h, buf_bytes=1024)
    at = ring.dma
    h.mem.write(at + 8, struct.pack("<HHBBH", 1025, 0, DD, 0, 0))  # longer than the buffer
    h.mem.write(at + 24, struct.pack("<HHBBH", 10, 0, DD | EOP, 0, 0))  # its end is discarded
    h.mem.write(at + 40, struct.pack("<HHBBH", 17, 0, DD | EOP, 0, 0))  # runt
    h.mem.write(at + 56, struct.pack("<HHBBH", 0xFFFF, 0, DD | EOP, 0xFF, 0xFFFF))
    h.mem.write(at + 72, struct.pack("<HHBBH", 0, 0, DD, 0, 0))
    h.mem.write(at + 88, struct.pack("<HHBBH", 3, 0, DD | EOP, 0, 0))
    out: list = []
    assert ring.clean(64, out, GroTable()) == 4
    assert out == []
    assert ring.length_errors == 4
    dev.head = 6
    f = tcp_frame(9, b"fine")
    dev.receive(f)
    assert ring.clean(64, out) == 1
    assert free_all(out) == [f]
    for i in range(16):  # DD everywhere, also where the driver has no buffer
        h.mem.write(at + 16 * i + 12, b"\x03")
    ring.clean(1000, out)
    assert ring.clean(1000, out) == 0
    ring.reset()
    free_all(out)
    assert h.idle()


def test_rx_pool_exhaustion_is_counted_and_recovers() -> None:
    h = Host(count=4)
    ring = RxRing(h.mem, 16, h.rx, 2048)
    assert ring.refill() == 4
    assert ring.alloc_failed == 1
    assert ring.refill() == -1
    dev = RxDevice(h, ring)
    dev.receive(tcp_frame(1, b"q"))
    out: list = []
    ring.clean(9, out)
    free_all(out)
    assert ring.refill() == 5
    ring.reset()
    assert h.idle()


def test_rx_copybreak_leaves_the_ring_its_buffers(h: Host) -> None:
    """e1000_copybreak: frames to that length (FCS included) go up in small buffers."""
    head = SkbPool(h.mem, 640, 8)
    ring = RxRing(h.mem, 16, h.rx, 2048, head, 256)
    assert (ring.copybreak, ring.small, ring.small_headroom) == (256, head, 128)
    assert ring.refill() == 15
    dev = RxDevice(h, ring)
    taken, out = h.rx.gets, []
    frames = [bytes([i]) * n for i, n in enumerate((60, 252, 253, 1514))]
    for frame in frames:
        dev.receive(frame)
    assert ring.clean(10, out) == 4
    assert [s.truesize for s in out] == [640 + 256, 640 + 256, 2048 + 256, 2048 + 256]
    assert [s.headroom for s in out] == [128, 128, 0, 0]
    assert head.in_use == 2
    assert free_all(out) == frames
    assert ring.refill() >= 0
    assert h.rx.gets == taken + 2  # two descriptors kept what they had
    assert ring.empty() == 0
    ring.reset()
    assert h.idle()
    assert not head.in_use


def test_rx_copybreak_without_a_small_buffer_sends_the_large_one_up(h: Host) -> None:
    head = SkbPool(h.mem, 640, 2)
    ring = RxRing(h.mem, 16, h.rx, 2048, head, 256)
    ring.refill()
    dev = RxDevice(h, ring)
    frames = [bytes([i]) * 60 for i in range(5)]
    for frame in frames:
        dev.receive(frame)
    out: list = []
    assert ring.clean(10, out) == 5
    assert [s.truesize for s in out] == [896, 896, 2304, 2304, 2304]
    assert free_all(out) == frames
    assert (ring.alloc_failed, ring.length_errors) == (0, 0)
    ring.reset()
    assert h.idle()
    assert not head.in_use


def test_rx_copybreak_frames_are_merged_as_others_are(h: Host) -> None:
    """GRO of short segments: each holds its small buffer, and that is what it counts."""
    head = SkbPool(h.mem, 640, 64)
    ring = RxRing(h.mem, 32, h.rx, 2048, head, 256)
    ring.refill()
    dev = RxDevice(h, ring)
    gro, out = GroTable(), []
    for i in range(10):
        dev.receive(tcp_frame(1000 + 100 * i, bytes([i]) * 100, ident=i))
    ring.poll(64, out, gro, True, True, False, 64)
    (skb,) = out
    assert skb.gso_segs == 10
    assert skb.truesize == 256 + 10 * 640
    assert skb_to_bytes(skb)[-1000:] == b"".join(bytes([i]) * 100 for i in range(10))
    free_all(out)
    ring.reset()
    assert h.idle()
    assert not head.in_use


def test_rx_copybreak_arguments_are_checked(h: Host) -> None:
    with pytest.raises(ValueError, match="copybreak=-1"):
        RxRing(h.mem, 16, h.rx, 2048, h.small, -1)
    with pytest.raises(ValueError, match="copybreak=2049"):
        RxRing(h.mem, 16, h.rx, 2048, h.small, 2049)
    with pytest.raises(ValueError, match="no pool"):
        RxRing(h.mem, 16, h.rx, 2048, None, 256)
    with pytest.raises(ValueError, match="no pool"):
        RxRing(h.mem, 16, h.rx, 2048, SkbPool(h.mem, 64, 1), 256)


def test_rx_headroom_from_larger_buffers() -> None:
    h = Host(buf_bytes=2048 + 128)
    ring, dev = rx(h, buf_bytes=2048)
    dev.receive(tcp_frame(1, b"q"))
    out: list = []
    ring.clean(9, out)
    assert out[0].headroom == 128
    free_all(out)


def test_rx_gro_merges_straight_from_descriptors(h: Host) -> None:
    ring, dev = rx(h, 64)
    gro = GroTable()
    body = bytes(range(256)) * 50
    frames = [
        tcp_frame(100 + i, body[i : i + 1000], ident=i // 1000) for i in range(0, 12000, 1000)
    ]
    for f in frames:
        dev.receive(f, TCPCS | IPCS)
    out: list = []
    assert ring.clean(100, out, gro) == 12
    assert out == []
    assert gro.held == 1
    assert gro.flush(out) == 1
    (skb,) = out
    assert (skb.len, skb.gso_size, skb.gso_segs, skb.gso_type) == (
        54 + 12000,
        1000,
        12,
        SKB_GSO_TCPV4,
    )
    assert skb_to_bytes(skb)[54:] == body[:12000]
    free_all(out)
    ring.reset()


def test_rx_gro_verifies_what_the_nic_did_not(h: Host) -> None:
    ring, dev = rx(h, 64)
    gro = GroTable()
    for i in range(4):
        dev.receive(tcp_frame(1 + 100 * i, b"p" * 100, ident=i, bad=i == 2))
    out: list = []
    assert ring.clean(100, out, gro) == 4
    gro.flush(out)
    assert gro.bad_csum == 1
    assert sorted(len(s) for s in out) == [154, 154, 254]
    free_all(out)
    ring.reset()


def test_rx_ring_arguments_are_checked(h: Host) -> None:
    with pytest.raises(ValueError, match="count=12"):
        RxRing(h.mem, 12, h.rx, 2048)
    with pytest.raises(ValueError, match="smaller"):
        RxRing(h.mem, 16, h.rx, 4096)
    with pytest.raises(TypeError):
        rings_driver._ring()
    with pytest.raises(ValueError, match="max_per_desc"):
        TxRing(h.mem, 8).map(skb_from_bytes(h.small, b"x"), max_per_desc=0)


def test_steady_state_neither_loses_nor_allocates() -> None:
    from fastpath.base.skbuff import frag_array_mallocs

    h = Host()
    ring, dev = rx(h, 64)
    gro = GroTable()
    out: list = []

    def once() -> None:
        for i in range(40):
            dev.receive(tcp_frame(1 + 100 * i, b"p" * 100, ident=i), TCPCS | IPCS)
        ring.clean(100, out, gro)
        gro.flush(out)
        free_all(out)
        ring.refill()

    once()
    mallocs, used = frag_array_mallocs(), h.rx.in_use
    for _ in range(50):
        once()
    assert frag_array_mallocs() == mallocs
    assert h.rx.in_use == used == 63
    assert h.rx.gets - h.rx.puts == used


# -- against the twin ------------------------------------------------------------------------------
def pieces_of(skb: S.sk_buff) -> list[tuple[int, int]]:
    linear = [(skb.data_dma, S.skb_headlen(skb))] if S.skb_headlen(skb) else []
    return linear + [skb.frag(i) for i in range(skb.nr_frags)]


@settings(max_examples=examples(40), deadline=None)
@given(st.data())
def test_tx_descriptors_equal_the_twins(data: st.DataObject) -> None:
    h = Host()
    ring, twin = TxRing(h.mem, 32), ref.TxRing(32)
    head = 0
    for _ in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["map", "map", "context", "device", "clean"])):
            case "map":
                skb = alloc_skb(h.small, 0, 64)
                linear, paged = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 40000))
                S.skb_put(skb, linear)
                skb_add_data(skb, h.pages, bytes(paged), 0, paged)
                if not len(skb):
                    kfree_skb(skb)
                    continue
                popts, cmd = data.draw(st.integers(0, 255)), data.draw(st.integers(0, 255))
                vlan = data.draw(st.sampled_from([-1, 0, 0xFFFF]))
                step = data.draw(st.sampled_from([64, 4096, (1 << 20) - 1]))
                want = twin.map(pieces_of(skb), popts, cmd, vlan, step, (1, len(skb)))
                assert ring.map(skb, popts, cmd, vlan, step) == want
                if want < 0:
                    kfree_skb(skb)
            case "context":
                v = data.draw(st.lists(st.integers(0, 255), min_size=10, max_size=10))
                assert ring.put_context(*v) == twin.put_context(
                    tuple(v[:3]), tuple(v[3:6]), v[6], v[7], v[8], v[9]
                )
            case "device":
                for _ in range(data.draw(st.integers(0, 10))):
                    if head == ring.next_to_use:
                        break
                    at = ring.dma + 16 * head + 12
                    h.mem.write(at, bytes([h.mem.read(at, 1)[0] | 1]))
                    twin.done(head)
                    head = (head + 1) % 32
            case "clean":
                assert ring.clean() == twin.clean()
        assert (ring.next_to_use, ring.next_to_clean) == (twin.next_to_use, twin.next_to_clean)
        assert ring.unused() == twin.unused()
        assert [ring.desc(i) for i in range(32)] == twin.ring
    ring.reset()
    assert h.idle()


@settings(max_examples=examples(80), deadline=None)
@given(st.data())
def test_rx_of_any_descriptor_contents_equals_the_twin(data: st.DataObject) -> None:
    h = Host()
    copybreak = data.draw(st.sampled_from([0, 59, 60, 512]))
    ring = RxRing(h.mem, 16, h.rx, 512, h.small if copybreak else None, copybreak)
    ring.refill()
    number = data.draw(st.integers(0, 15))
    for i in range(number):
        at = ring.dma + 16 * i
        n = data.draw(st.sampled_from([0, 3, 17, 18, 19, 60, 511, 512, 513, 0xFFFF]))
        status = data.draw(st.integers(0, 255)) | (1 if data.draw(st.integers(0, 9)) else 0)
        errors = data.draw(st.sampled_from([0, 0, 0, 1, 2, 4, 0x10, 0x20, 0x40, 0x80, 0xFF]))
        special = data.draw(st.integers(0, 0xFFFF))
        h.mem.write(h.mem.read64(at), bytes([i * 16 + j & 0xFF for j in range(512)]))
        h.mem.write(at + 8, struct.pack("<HHBBH", n, 0, status, errors, special))
    fcs = data.draw(st.booleans())
    want = ref.rx_clean(h.mem, ring.dma, 16, 0, 15, 512, strip_fcs=fcs, copybreak=copybreak)
    out: list = []
    assert ring.clean(1000, out, strip_fcs=fcs) == want.taken
    assert [S.skb_to_bytes(s) for s in out] == [f.data for f in want.frames]
    assert h.small.in_use == sum(f.copied for f in want.frames)
    assert [s.ip_summed == CHECKSUM_UNNECESSARY for s in out] == [f.verified for f in want.frames]
    assert [s.vlan_tci if s.vlan_present else None for s in out] == [f.vlan for f in want.frames]
    got = (ring.crc_errors, ring.frame_errors, ring.length_errors)
    assert got == (want.crc_errors, want.frame_errors, want.length_errors)
    free_all(out)
    ring.reset()
    assert h.idle()


# -- memory shared with somebody else's address space ----------------------------------------------
def test_rings_and_buffers_in_a_shared_file_at_a_foreign_base() -> None:
    """What QEMU's memory-backend-file gives: the device has a mapping of its own."""
    size, base = 4 << 20, 0x1_4000_0000
    fd = os.memfd_create("guest")
    os.ftruncate(fd, size)
    h = Host.__new__(Host)
    h.mem = HostMemory(size, base=base, fd=fd)
    h.small, h.pages, h.rx = (SkbPool(h.mem, n, 32) for n in (2048, 32768, 2048))
    far = Host.__new__(Host)
    far.mem = HostMemory(size, base=base, fd=fd)  # never allocates, only reads and writes
    tx = TxRing(h.mem, 16)
    skb = skb_from_bytes(h.small, b"head")
    skb_add_data(skb, h.pages, b"x" * 50000, 0, 50000)
    tx.map(skb)
    assert base <= tx.dma < base + size
    assert [d for d, _ in tx_frames(far, tx, 0, tx.next_to_use)] == [b"head" + b"x" * 50000]
    assert tx.clean() == (1, 50004, 50004)
    ring = RxRing(h.mem, 16, h.rx, 2048)
    ring.refill()
    dev = RxDevice(far, ring)
    frames = [tcp_frame(1 + 100 * i, b"p" * 100, ident=i) for i in range(5)]
    for f in frames:
        dev.receive(f)
    out: list = []
    gro = GroTable()
    assert ring.clean(99, out, gro) == 5
    gro.flush(out)
    assert [(s.len, s.gso_segs) for s in out] == [(554, 5)]
    free_all(out)
    ring.reset()
    assert h.idle()
    os.close(fd)
