"""Receive at the link and the doorbell: filters, FIFO, holding links, causes, hostile rings."""

from __future__ import annotations

import struct

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from e1000emu.device.nic import Nic
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import BENCH_MAC, Bench
from e1000emu.testing.guest import RCTL_BSIZE, GuestRings, Rctl, RxErrors, RxStatus
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.base.dma import HostMemory
from tests.e1000emu.common import BROADCAST, PEER, RX_ON, frame, rd, running, until_held, wr
from tests.e1000emu.device.test_phy import phy_read, phy_write
from tests.e1000emu.device.test_tx import usable
from tests.e1000emu.witness import witness

RXT0, RXO, RXDMT0 = 0x80, 0x40, 0x10
FIFO_BYTES = 48 * 1024


@witness("RCTL.EN", "RCTL.SECRC", "RDBAL.RDBAL", "RDLEN.LEN", "RDH.RDH", "RDT.RDT", "ICR.RXT0")
def test_frame_lands_in_memory_and_raises_rxt0(bench: Bench) -> None:
    bench.link.inject(frame(100))
    (got,) = bench.guest.receive()
    assert got.data == frame(100)
    assert rd(bench.nic, "ICR") & RXT0
    assert rd(bench.nic, "RDH") == 1


@pytest.mark.parametrize(
    ("rctl", "dst", "taken"),
    [
        (0, BENCH_MAC, True),
        (0, PEER, False),
        (0, BROADCAST, False),
        pytest.param(Rctl.BAM, BROADCAST, True, marks=witness("RCTL.BAM")),
        pytest.param(Rctl.UPE, PEER, True, marks=witness("RCTL.UPE")),
        (0, bytes.fromhex("01005e000001"), False),
        (Rctl.MPE, bytes.fromhex("01005e000001"), True),
    ],
)
def test_filters_by_control_bits(bench: Bench, rctl: int, dst: bytes, taken: bool) -> None:
    bench.guest.setup_rx(Rctl.EN | Rctl.SECRC | rctl)
    bench.link.inject(frame(dst=dst))
    assert bool(bench.guest.receive()) == taken


@witness("MTA.BITS", "VFTA.BITS", "RCTL.VFE")
def test_multicast_table_and_vlan_table(bench: Bench) -> None:
    nic, group = bench.nic, bytes.fromhex("01005e000001")
    value = (group[5] << 8 | group[4]) >> 4 & 0xFFF
    nic.mmio_write(0x5200 + 4 * (value >> 5), 1 << (value & 31))
    bench.link.inject(frame(dst=group))
    assert len(bench.guest.receive()) == 1
    tagged = frame()[:12] + bytes.fromhex("81000005") + frame()[12:]
    bench.guest.setup_rx(RX_ON | Rctl.VFE)
    bench.link.inject(tagged)
    assert bench.guest.receive() == []
    nic.mmio_write(0x5600, 1 << 5)
    bench.link.inject(tagged)
    assert len(bench.guest.receive()) == 1


@witness("RAL.RAL", "RAH.RAH", "RAH.AV")
def test_address_without_av_matches_nothing(bench: Bench, nic: Nic) -> None:
    nic.mmio_write(0x5408, int.from_bytes(PEER[:4], "little"))
    nic.mmio_write(0x540C, int.from_bytes(PEER[4:], "little"))
    bench.link.inject(frame(dst=PEER))
    assert bench.guest.receive() == []
    nic.mmio_write(0x540C, 1 << 31 | int.from_bytes(PEER[4:], "little"))
    bench.link.inject(frame(dst=PEER))
    assert len(bench.guest.receive()) == 1


def test_fcs_is_stored_unless_stripped(bench: Bench) -> None:
    import zlib

    bench.guest.setup_rx(RX_ON & ~Rctl.SECRC)
    bench.link.inject(frame(100))
    (got,) = bench.guest.receive()
    assert got.data == frame(100) + zlib.crc32(frame(100)).to_bytes(4, "little")


def test_receiver_off_drops(bench: Bench) -> None:
    wr(bench.nic, "RCTL", 0)
    assert bench.link.inject(frame(), hold=True) == 1
    wr(bench.nic, "RCTL", int(RX_ON))
    assert bench.guest.receive() == []


@witness("MPC.COUNT", "RNBC.COUNT", "ICR.RXO")
def test_no_descriptor_waits_in_the_fifo_then_is_missed(bench: Bench) -> None:
    guest, nic = bench.guest, bench.nic
    guest.setup_rx(RX_ON, fill=0)
    rd(nic, "ICR")
    count = FIFO_BYTES // 1000 + 10
    for _ in range(count):
        bench.link.inject(frame(1000))
    missed = rd(nic, "MPC")
    assert 0 < missed < count
    assert rd(nic, "RNBC") == count
    assert rd(nic, "ICR") & RXO
    assert nic.rx.engine.fifo_used <= FIFO_BYTES
    assert rd(nic, "RDH") == 0
    wr(nic, "RDT", 200)
    assert len(guest.receive(refill=False)) == count - missed
    assert nic.rx.engine.fifo_frames == 0


def test_holding_link_keeps_what_does_not_fit_into_the_fifo(bench: Bench) -> None:
    guest, nic = bench.guest, bench.nic
    guest.setup_rx(RX_ON, fill=2)
    taken = until_held(bench)
    assert taken == 2 + FIFO_BYTES // 1024
    assert (nic.stats["RNBC"], nic.stats["MPC"]) == (taken - 2, 0)
    assert bench.link.rx_ready_calls == 0
    wr(nic, "RDT", 4)  # the FIFO is nearly full still
    assert bench.link.rx_ready_calls == 0
    wr(nic, "RDT", 40)
    assert bench.link.rx_ready_calls == 1
    assert len(guest.receive(refill=False)) == 40
    wr(nic, "RDT", 60)
    assert bench.link.rx_ready_calls == 1


def test_bus_master_and_ring_registers_let_a_held_link_go_on(bench: Bench, nic: Nic) -> None:
    nic.slot.config_write(4, 3, 2)
    assert until_held(bench)
    nic.slot.config_write(4, 7, 2)
    assert bench.link.rx_ready_calls == 1
    size = rd(nic, "RDLEN")
    wr(nic, "RDLEN", 0)
    assert until_held(bench)
    wr(nic, "RDLEN", size)
    assert bench.link.rx_ready_calls == 2
    assert bench.link.inject(frame(), hold=True) == 1


def test_link_loss_frees_a_held_batch(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON, fill=1)
    until_held(bench)
    bench.link.set_carrier(False)
    assert bench.link.rx_ready_calls == 1
    assert bench.link.inject(frame(), hold=True) == 1


@pytest.mark.parametrize(
    ("rdmts", "at"),
    [
        (0, 128),
        pytest.param(1, 64, marks=witness("RCTL.RDMTS", "ICR.RXDMT0")),
        pytest.param(2, 32, marks=witness("RCTL.RDMTS")),
    ],
)
def test_rxdmt0_at_the_fraction(bench: Bench, rdmts: int, at: int) -> None:
    bench.guest.setup_rx(RX_ON | rdmts << 8)
    rd(bench.nic, "ICR")
    for _ in range(255 - at - 1):
        bench.link.inject(frame())
    assert not rd(bench.nic, "ICR") & RXDMT0
    bench.link.inject(frame())
    assert rd(bench.nic, "ICR") & RXDMT0


@witness("RSRPD.SIZE", "ICR.SRPD")
def test_small_packet_cause(bench: Bench) -> None:
    wr(bench.nic, "RSRPD", 64)
    rd(bench.nic, "ICR")
    bench.link.inject(frame(200))
    assert not rd(bench.nic, "ICR") & 0x10000
    bench.link.inject(frame(60))
    assert rd(bench.nic, "ICR") & 0x10000


def test_checksum_offload_is_switched_by_rxcsum(bench: Bench) -> None:
    ip = bytearray.fromhex("4500002e00010000401100000a0000010a000002")
    total = sum(int.from_bytes(ip[i : i + 2], "big") for i in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip[10:12] = (~total & 0xFFFF).to_bytes(2, "big")
    data = frame(14, kind=0x0800) + bytes(ip) + bytes(26)
    bench.link.inject(data)
    assert bench.guest.receive()[0].status & 0x44 == 0x04
    wr(bench.nic, "RXCSUM", 0x300)
    bench.link.inject(data)
    (got,) = bench.guest.receive()
    assert got.status & 0x44 == 0x40
    assert not got.errors
    bench.link.inject(data[:15] + b"\1" + data[16:])
    assert bench.guest.receive()[0].errors & 0x40


def test_enabling_without_any_address_is_noted(nic: Nic) -> None:
    wr(nic, "RCTL", 0)
    for i in range(16):
        nic.mmio_write(0x5404 + 8 * i, 0)
    wr(nic, "RCTL", 2)
    assert nic.misuse.count("rx-no-address") == 1


@witness("RCTL.LPE")
def test_jumbo_over_several_descriptors(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON | Rctl.LPE)
    bench.link.inject(frame(9000))
    (got,) = bench.guest.receive()
    assert got.data == frame(9000)
    assert got.descriptors == 5


# --- hostile (device.md section 3)


@pytest.mark.parametrize("rdlen", [0, 16, 64])
def test_tiny_ring_is_off(bench: Bench, rdlen: int) -> None:
    wr(bench.nic, "RDLEN", rdlen)
    wr(bench.nic, "RDT", 1)
    bench.link.inject(frame())
    assert bench.guest.receive() == []
    usable(bench)


@pytest.mark.parametrize(("head", "tail"), [(0xFFFF, 3), (300, 3), (3, 0xFFFF), (0xFFFF, 0xFFFE)])
def test_head_or_tail_beyond_the_ring(bench: Bench, head: int, tail: int) -> None:
    wr(bench.nic, "RDH", head)
    wr(bench.nic, "RDT", tail)
    for _ in range(5):
        bench.link.inject(*[frame(1000)] * 300)
    usable(bench)


def test_tail_equal_to_ring_size_is_accepted(bench: Bench) -> None:
    wr(bench.nic, "RDT", 256)
    bench.link.inject(*[frame()] * 10)
    assert len(bench.guest.receive(refill=False)) == 10
    usable(bench)


def test_base_and_length_while_the_receiver_is_on(bench: Bench, nic: Nic) -> None:
    wr(nic, "RDBAH", 0x77)
    assert nic.misuse.count("rx-abort") == 1, "descriptors are fetched at once"
    bench.link.inject(frame())
    assert nic.misuse.count("rx-abort") == 2
    wr(nic, "RDBAH", 0)
    wr(nic, "RDLEN", 0xFFFFFFFF)
    bench.link.inject(frame())
    usable(bench)


def test_all_ones_in_rctl(bench: Bench) -> None:
    wr(bench.nic, "RCTL", 0xFFFFFFFF)
    for size in (1, 14, 60, 1514, 9000):
        bench.link.inject(frame(size))
    usable(bench)


@pytest.mark.parametrize("bits", range(8))
def test_every_buffer_size_has_some_meaning(bench: Bench, bits: int) -> None:
    rctl = Rctl.EN | Rctl.LPE | Rctl.SECRC | (bits & 3) << 16 | (bits >> 2) << 25
    bench.guest.setup_rx(rctl)
    bench.link.inject(frame(200))
    assert bench.guest.receive()[0].data == frame(200)
    usable(bench)


def test_ring_at_the_end_of_the_address_space(bench: Bench) -> None:
    wr(bench.nic, "RDBAL", 0xFFFFFFF0)
    wr(bench.nic, "RDBAH", 0xFFFFFFFF)
    bench.link.inject(*[frame()] * 300)
    usable(bench)


def test_oversize_frame_is_dropped_and_counted(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON)
    bench.link.inject(frame(1600))
    assert bench.guest.receive() == []
    assert bench.nic.stats["ROC"] == 1
    usable(bench)


def test_buffer_outside_memory_is_noted(bench: Bench) -> None:
    bench.memory.write(bench.guest.rx.address(0), (1 << 50).to_bytes(8, "little"))
    wr(bench.nic, "RDH", 0)  # forgets what was fetched
    bench.link.inject(frame(), frame(61))
    assert bench.nic.misuse.count("rx-data-abort") == 1
    usable(bench)


@pytest.mark.parametrize("size", [1, 13, 14, 17])
def test_runts_with_vlan_mode_read_nothing_past_the_frame(
    bench: Bench, size: int, nic: Nic
) -> None:
    wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 30)
    bench.guest.setup_rx(RX_ON | Rctl.VFE | Rctl.UPE | Rctl.MPE | Rctl.SBP)
    bench.link.inject((frame()[:12] + bytes.fromhex("8100"))[:size].ljust(size, b"\x81"))
    usable(bench)


def test_small_buffers_split_a_frame_over_80_descriptors(bench: Bench) -> None:
    bench = running(rx_buffer_bytes=256)
    bench.guest.setup_rx(Rctl.EN | Rctl.LPE | Rctl.SECRC | RCTL_BSIZE[256])
    bench.link.inject(frame(16000))
    (got,) = bench.guest.receive()
    assert got.data == frame(16000)
    assert got.descriptors == 63


def test_a_deferred_tail_leaves_a_held_frame_to_the_clock(bench: Bench) -> None:
    bench.nic.defer_doorbells()
    wr(bench.nic, "RDT", rd(bench.nic, "RDH"))
    bench.link.inject(frame(99))
    before = rd(bench.nic, "RDH")
    wr(bench.nic, "RDT", (before + 16) % (rd(bench.nic, "RDLEN") // 16))
    assert rd(bench.nic, "RDH") == before, "the access did not wait for the frame"
    bench.clock.run_for(0)
    assert rd(bench.nic, "RDH") == before + 1


@pytest.mark.parametrize("pad", [True, pytest.param(False, marks=witness("RUC.COUNT"))])
def test_short_frames_are_padded_or_runts_that_are_counted(bench: Bench, pad: bool) -> None:
    """`Nic(pad_runts=…)`; SDM 13.7.34."""
    link = RecordingLink()
    nic = Nic(memory=bench.dma, irq=RecordingLine(), link=link, clock=bench.clock, pad_runts=pad)
    wr(nic, "CTRL", 1 << 6)
    bench.clock.run_for(5_000_000_000)
    wr(nic, "RCTL", RX_ON)
    link.inject(frame(40, BROADCAST))
    assert (rd(nic, "RUC"), rd(nic, "TPR")) == ((0, 1) if pad else (1, 1))


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(256, marks=witness("RCTL.BSIZE")),
        pytest.param(512, marks=witness("RCTL.BSIZE")),
        pytest.param(1024, marks=witness("RCTL.BSIZE")),
        2048,
        pytest.param(4096, marks=witness("RCTL.BSIZE", "RCTL.BSEX")),
        pytest.param(8192, marks=witness("RCTL.BSIZE", "RCTL.BSEX")),
        pytest.param(16384, marks=witness("RCTL.BSIZE", "RCTL.BSEX")),
    ],
)
def test_a_buffer_takes_as_much_as_rctl_says(size: int) -> None:
    """SDM table 13-67."""
    bench = running(rx_count=64, rx_buffer_bytes=size)
    bench.guest.setup_rx(Rctl.EN | Rctl.LPE | Rctl.SECRC | RCTL_BSIZE[size])
    bench.link.inject(frame(9000))
    lengths = [bench.guest.rx_descriptor(i).length for i in range(-(-9000 // size))]
    assert lengths == [size] * (9000 // size) + [9000 % size] * bool(9000 % size)
    (got,) = bench.guest.receive()
    assert got.data == frame(9000)


@witness("RCTL.SBP")
def test_bad_frames_are_stored_with_their_errors_when_sbp_says(bench: Bench) -> None:
    bench.link.inject(frame(), flags=[2])
    assert bench.guest.receive() == []
    bench.guest.setup_rx(RX_ON | Rctl.SBP)
    bench.link.inject(frame(), flags=[2])
    (got,) = bench.guest.receive()
    assert got.errors == RxErrors.CE


@witness("ICR.RXSEQ")
def test_a_symbol_error_is_a_sequence_error(bench: Bench) -> None:
    bench.link.inject(frame(), flags=[8])
    assert rd(bench.nic, "ICR") & 8


@witness("PHY:RXERR.ERRORS", "PHY:PISR.SYMBOL_ERROR", "PHY:PIER.SYMBOL_ERROR")
def test_the_phy_counts_symbol_errors_and_interrupts(bench: Bench, nic: Nic) -> None:
    phy_read(nic, 19)
    bench.link.inject(frame(), flags=[2])
    phy_write(nic, 18, 1 << 9)
    other = bytes.fromhex("02000000aa01")
    bench.link.inject(frame(), frame(dst=other), frame(), flags=[8, 8, 0])
    assert rd(nic, "CTRL_EXT") & 0x20
    assert phy_read(nic, 19) & 1 << 9
    assert not rd(nic, "CTRL_EXT") & 0x20
    bench.link.inject(frame(), flags=[8])
    wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 26)  # the MAC's reset leaves the PHY alone
    assert (phy_read(nic, 21), phy_read(nic, 21)) == (3, 0)


def test_the_phy_s_counter_sticks(bench: Bench) -> None:
    bench.nic.phy.count_errors(0xFFFE)
    state = bench.nic.state()
    for _ in range(3):
        bench.link.inject(frame(), flags=[8])
    assert phy_read(bench.nic, 21) == 0xFFFF
    bench.nic.load_state(state)
    bench.link.inject(frame(), flags=[8])
    assert (phy_read(bench.nic, 21), phy_read(bench.nic, 21)) == (0xFFFF, 0)


@pytest.mark.parametrize(
    ("mo", "shift"),
    [(0, 4), *(pytest.param(n, s, marks=witness("RCTL.MO")) for n, s in ((1, 3), (2, 2), (3, 0)))],
)
def test_mo_says_which_bits_of_a_group_are_hashed(bench: Bench, mo: int, shift: int) -> None:
    """SDM table 13-65: address bits 47:36, 46:35, 45:34, 43:32."""
    group = bytes.fromhex("01005e00 2cb1")
    index = int.from_bytes(group[4:], "little") >> shift & 0xFFF
    at = reg("MTA").offsets[index >> 5]
    bench.guest.setup_rx(RX_ON | mo << 12)
    bench.link.inject(frame(dst=group))
    assert bench.guest.receive() == []
    bench.nic.mmio_write(at, 1 << (index & 31))
    bench.link.inject(frame(dst=group))
    assert len(bench.guest.receive()) == 1


@pytest.mark.parametrize(
    ("rctl", "taken"),
    [
        (0, [0, 1]),
        pytest.param(Rctl.CFIEN, [0], marks=witness("RCTL.CFIEN")),
        pytest.param(Rctl.CFIEN | Rctl.CFI, [1], marks=witness("RCTL.CFIEN", "RCTL.CFI")),
    ],
)
def test_cfi_is_compared_when_cfien_says(bench: Bench, rctl: int, taken: list[int]) -> None:
    bench.nic.mmio_write(0x5600, 1 << 5)
    bench.guest.setup_rx(RX_ON | Rctl.VFE | rctl)
    tags = [(cfi << 12 | 5).to_bytes(2, "big") for cfi in (0, 1)]
    sent = [frame()[:12] + b"\x81\x00" + tag + frame()[12:] for tag in tags]
    bench.link.inject(*sent)
    assert [f.data for f in bench.guest.receive()] == [sent[cfi] for cfi in taken]


@witness("RAH.AS")
def test_as_1_compares_the_source(bench: Bench) -> None:
    nic, stranger = bench.nic, bytes.fromhex("02000000bb02")
    nic.mmio_write(reg("RAL").offsets[3], int.from_bytes(PEER[:4], "little"))
    nic.mmio_write(reg("RAH").offsets[3], 1 << 31 | 1 << 16 | int.from_bytes(PEER[4:], "little"))
    bench.link.inject(frame(61, dst=PEER, src=stranger), frame(62, dst=stranger, src=PEER))
    assert [len(f.data) for f in bench.guest.receive()] == [62]


def udp(payload: bytes, *, version: int) -> bytes:
    """Return a datagram in a frame, its checksums right; by scapy."""
    ip = IP(src="10.0.0.1", dst="10.0.0.2") if version == 4 else IPv6(src="fe80::1", dst="fe80::2")
    return bytes(Ether(dst=BENCH_MAC.hex(":"), src=PEER.hex(":")) / ip / UDP() / payload)


@pytest.mark.parametrize(
    ("rxcsum", "version", "status"),
    [
        pytest.param(1 << 8, 4, RxStatus.IPCS, marks=witness("RXCSUM.IPOFL")),
        pytest.param(1 << 9, 4, RxStatus.TCPCS, marks=witness("RXCSUM.TUOFL")),
        (1 << 9, 6, RxStatus.IXSM),
        pytest.param(3 << 9, 6, RxStatus.TCPCS, marks=witness("RXCSUM.TUOFL", "RXCSUM.IPV6OFL")),
    ],
)
def test_checksums_are_looked_at_when_rxcsum_says(
    bench: Bench, rxcsum: int, version: int, status: RxStatus
) -> None:
    wr(bench.nic, "RXCSUM", rxcsum)
    good = udp(b"a datagram of some length", version=version)
    bench.link.inject(good, good[:-1] + b"x")
    right, wrong = bench.guest.receive()
    checked = RxStatus.IXSM | RxStatus.IPCS | RxStatus.TCPCS
    assert right.status & checked == wrong.status & checked == status
    assert not right.errors
    assert wrong.errors == (RxErrors.TCPE if status == RxStatus.TCPCS else 0)


@witness("RXCSUM.PCSS")
@pytest.mark.parametrize("start", [14, 34])
def test_the_packet_checksum_begins_at_pcss(bench: Bench, start: int) -> None:
    """Complemented, over the rest of what is stored (SDM 13.4.47)."""
    wr(bench.nic, "RXCSUM", start)
    data = frame(100)
    bench.link.inject(data)
    total = sum(struct.unpack(">43H", data[14:])) - sum(
        struct.unpack(f">{start // 2 - 7}H", data[14:start])
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    (got,) = bench.guest.receive()
    assert got.checksum == ~total & 0xFFFF


@witness("RDBAH.RDBAH", "TDBAH.TDBAH")
def test_rings_above_4_gib(bench: Bench) -> None:
    memory = HostMemory(4 << 20, base=5 << 32)
    bench.dma.add(memory.base, memory.buffer)
    guest = GuestRings(bench.nic.slot, memory)
    guest.setup_tx()
    guest.setup_rx()
    guest.post_legacy(frame(70))
    guest.kick()
    assert bench.link.take() == [frame(70)]
    bench.link.inject(frame(80))
    assert [f.data for f in guest.receive()] == [frame(80)]


@witness("PBA.RXA", "PBA.TXA")
def test_pba_divides_the_packet_buffer_at_the_next_reset(bench: Bench, nic: Nic) -> None:
    wr(nic, "PBA", 8)
    assert rd(nic, "PBA") == 56 << 16 | 8
    bench.guest.up(mac=BENCH_MAC)
    bench.guest.setup_rx(RX_ON, fill=0)
    assert until_held(bench) == 8 * 1024 // 1024


@witness("{name}.{name}")
@pytest.mark.parametrize("name", ["RDFH", "RDFT", "RDFHS", "RDFTS", "RDFPC"])
def test_the_receive_fifos_pointers_move(bench: Bench, name: str) -> None:
    """SDM 13.8.1 to 13.8.5: one frame stored, then two that wait; 10 words each."""
    bench.link.inject(frame(60))
    bench.guest.setup_rx(RX_ON, fill=0)
    bench.link.inject(frame(60), frame(60))
    want = {"RDFH": 10, "RDFT": 30, "RDFHS": 10, "RDFTS": 30, "RDFPC": 2}
    assert rd(bench.nic, name) == want[name]


@witness("PBM.DATA")
def test_the_packet_buffer_shows_and_takes_the_bytes_of_a_frame(bench: Bench) -> None:
    nic, at = bench.nic, reg("PBM").offsets
    bench.guest.setup_rx(RX_ON, fill=0)
    bench.link.inject(frame(60))
    words = b"".join(nic.mmio_read(at[i]).to_bytes(4, "little") for i in range(20))
    assert words[16:76] == frame(60)
    nic.mmio_write(at[4 + 5], 0xEEEEEEEE)
    wr(nic, "RDT", 8)
    (got,) = bench.guest.receive(refill=False)
    assert got.data == frame(60)[:20] + b"\xee" * 4 + frame(60)[24:]
