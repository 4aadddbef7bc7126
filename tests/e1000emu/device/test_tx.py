"""Transmit at the doorbell: push-back, bounded pumping, causes, explanations, hostile rings."""

from __future__ import annotations

import struct

import pytest

from e1000emu.device.nic import Nic
from e1000emu.device.tx import BATCH_FRAMES, ROUNDS
from e1000emu.testing.bench import Bench
from e1000emu.testing.guest import GuestRings, Popts, Tucmd, TxCmd
from fastpath.nic import macpath as port
from tests.e1000emu.common import RX_ON, frame, off, post_tso, rd, running, wr
from tests.e1000emu.witness import witness

CMD = TxCmd.EOP | TxCmd.IFCS | TxCmd.RS


def ring(bench: Bench) -> None:
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)


def usable(bench: Bench) -> None:
    """Check the device's promise to hostile drivers: it works after CTRL.RST."""
    bench.guest.up(mac=bytes.fromhex("525400123456"), rctl=RX_ON)
    bench.clock.run_for(10_000_000)
    bench.link.take()
    bench.guest.post_legacy(frame(77))
    ring(bench)
    assert bench.link.take() == [frame(77)]
    bench.link.inject(frame(88))
    assert bench.guest.receive()[0].data == frame(88)


@witness(
    "TDBAL.TDBAL",
    "TDLEN.LEN",
    "TDH.TDH",
    "TDT.TDT",
    "TCTL.EN",
    "ICR.TXDW",
    "ICR.TXQE",
    "ICR.TXD_LOW",
)
def test_frame_leaves_at_the_doorbell_and_dd_is_written(bench: Bench) -> None:
    index = bench.guest.post_legacy(frame(100))
    assert bench.link.frames == []
    ring(bench)
    assert bench.link.take() == [frame(100)]
    assert bench.memory.read(bench.guest.tx.address(index) + 12, 1)[0] & 1
    assert rd(bench.nic, "TDH") == rd(bench.nic, "TDT") == 1
    assert rd(bench.nic, "ICR") == 0x8003  # TXDW, TXQE, TXD_LOW


def test_a_batch_is_one_call_of_the_link(bench: Bench) -> None:
    for _ in range(100):
        bench.guest.post_legacy(frame())
    before = bench.link.batches
    ring(bench)
    assert bench.link.batches == before + 1
    assert len(bench.link.take()) == 100


def test_push_back_keeps_frames_and_tx_ready_goes_on(bench: Bench) -> None:
    bench.link.room = 3
    for i in range(10):
        bench.guest.post_legacy(frame(60 + i))
    ring(bench)
    assert len(bench.link.frames) == 3
    assert rd(bench.nic, "TDH") == 3
    bench.link.open_room(4)
    assert len(bench.link.frames) == 7
    bench.link.open_room(None)
    assert [len(f) for f in bench.link.take()] == list(range(60, 70))
    assert rd(bench.nic, "TDH") == 10


def test_nothing_leaves_before_the_transmitter_is_on(bench: Bench) -> None:
    wr(bench.nic, "TCTL", 0)
    bench.guest.post_legacy(frame())
    ring(bench)
    assert bench.link.frames == []
    assert bench.nic.misuse.count("tx-disabled") == 1
    wr(bench.nic, "TCTL", 0x0004010A)
    assert len(bench.link.take()) == 1


def test_what_stops_the_transmitter_is_told_at_once(bench: Bench) -> None:
    nic, tx = bench.nic, bench.nic.tx
    assert tx.stopped_by == 0
    tctl, length = rd(nic, "TCTL"), rd(nic, "TDLEN")
    wr(nic, "TCTL", 0)
    assert tx.stopped_by == port.TX_DISABLED
    wr(nic, "TDLEN", 0)
    assert tx.stopped_by == port.TX_DISABLED | port.TX_NO_RING
    wr(nic, "TDLEN", length)
    wr(nic, "TCTL", tctl)
    nic.memory.enabled = False
    assert tx.stopped_by == port.TX_NO_MASTER
    nic.memory.enabled = True
    tx.pause(bench.clock.now_ns() + 1000)
    assert tx.stopped_by == port.TX_XOFF
    nic.pause()
    assert tx.stopped_by == port.TX_XOFF | port.TX_STILL
    nic.resume()
    bench.clock.run_for(1000)
    bench.link.set_carrier(False)
    assert tx.stopped_by == port.TX_NO_LINK
    assert port.TX_NO_WIRE == port.TX_NO_LINK | port.TX_XOFF | port.TX_STILL


def test_a_frame_that_is_not_of_the_ring_leaves_by_the_same_gate(bench: Bench) -> None:
    before = bench.nic.tx.batches
    wr(bench.nic, "TCTL", rd(bench.nic, "TCTL") | 1 << 22)  # SWXOFF
    bench.guest.post_legacy(frame())
    ring(bench)
    assert len(bench.link.take()) == 2
    assert bench.nic.tx.batches == before + 2


def test_what_was_fetched_of_a_frame_waits_for_the_transmitter(bench: Bench) -> None:
    """TCTL.EN off and on between the descriptors of a frame (SDM 13.4.33: the FIFO keeps it)."""
    whole = frame(200)
    bench.guest.post_legacy(whole[:80], cmd=0)
    ring(bench)
    wr(bench.nic, "TCTL", 0)
    bench.guest.post_legacy(whole[80:])
    ring(bench)
    assert bench.link.frames == []
    wr(bench.nic, "TCTL", 0x0004010A)
    assert bench.link.take() == [whole]


def test_ring_registers_take_effect_whenever_written(bench: Bench) -> None:
    """TCTL.EN before TDBAL, TDBAH, TDLEN, or rewritten while on (device.md 29)."""
    guest, nic = bench.guest, bench.nic
    guest.reset()
    guest.link_up()
    wr(nic, "TCTL", 0x0004010A)
    wr(nic, "TDLEN", guest.tx.size_bytes)
    wr(nic, "TDBAH", guest.tx.base >> 32)
    wr(nic, "TDBAL", guest.tx.base)
    guest.post_legacy(frame())
    ring(bench)
    assert len(bench.link.take()) == 1
    other = bench.memory.alloc(16 * 16, 128)
    bench.memory.write(other, bytes(256))
    wr(nic, "TDH", 0)
    wr(nic, "TDT", 0)
    wr(nic, "TDBAL", other)
    wr(nic, "TDLEN", 256)
    where = bench.memory.alloc(64)
    bench.memory.write(where, frame(61))
    bench.memory.write(other, struct.pack("<QHBBBBH", where, 61, 0, int(CMD), 0, 0, 0))
    wr(nic, "TDT", 1)
    assert bench.link.take() == [frame(61)]


def test_doorbell_from_inside_the_link_does_not_nest(bench: Bench) -> None:
    """A link that makes the driver send again at once gets rounds, not recursion."""
    nic, guest, link = bench.nic, bench.guest, bench.link
    depth = deepest = 0
    left = 500
    original = link.transmit

    def transmit(batch: object) -> None:
        nonlocal depth, deepest, left
        depth += 1
        deepest = max(deepest, depth)
        original(batch)  # type: ignore[arg-type]
        if left:
            left -= 1
            guest.post_legacy(frame())
            ring(bench)
        depth -= 1

    link.transmit = transmit  # type: ignore[method-assign, assignment]
    nic.tx._link = link
    guest.post_legacy(frame())
    ring(bench)
    assert deepest == 1
    assert len(link.frames) == ROUNDS
    bench.clock.run_until_idle()
    assert len(link.frames) == 501


def test_interrupt_handler_may_send(bench: Bench) -> None:
    nic, guest = bench.nic, bench.guest
    left = 50

    def handler() -> None:
        nonlocal left
        rd(nic, "ICR")
        if left:
            left -= 1
            guest.post_legacy(frame())
            ring(bench)

    bench.line.on_rise = handler
    wr(nic, "IMS", 1)
    guest.post_legacy(frame())
    ring(bench)
    bench.clock.run_until_idle()
    assert len(bench.link.frames) == 51


def test_more_frames_than_a_batch(bench: Bench) -> None:
    big = running(tx_count=4096)
    for _ in range(BATCH_FRAMES * 3):
        big.guest.post_legacy(frame(), address=big.memory.base, length=60)
    ring(big)
    big.clock.run_until_idle()
    assert len(big.link.frames) == BATCH_FRAMES * 3
    assert big.link.batches == 3


def test_txd_low_at_the_threshold(bench: Bench, nic: Nic) -> None:
    wr(nic, "TXDCTL", 1 << 25)
    rd(nic, "ICR")
    for _ in range(20):
        bench.guest.post_legacy(frame())
    ring(bench)
    assert rd(nic, "ICR") & 0x8000


@witness("TSCTC.COUNT")
def test_tso_through_the_doorbell(bench: Bench) -> None:
    """A TCP super-packet leaves as segments of MSS and no empty tail (device.md fact 4)."""
    ip = bytes.fromhex("45000000000140004006000001020304050607 08".replace(" ", ""))
    tcp = bytes.fromhex("04d2162e000000000000000050181000000000 00".replace(" ", ""))
    header = frame(14, kind=0x0800) + ip + tcp
    post_tso(bench, header + bytes(2920), mss=1460, flags=TxCmd.RS)
    ring(bench)
    assert [len(f) for f in bench.link.take()] == [1514, 1514]
    assert rd(bench.nic, "TSCTC") == 1


# --- hostile (device.md section 3), at MMIO level


@pytest.mark.parametrize("tdlen", [0, 16, 64])
def test_tiny_ring_is_off(bench: Bench, tdlen: int) -> None:
    wr(bench.nic, "TDLEN", tdlen)
    wr(bench.nic, "TDT", 1)
    assert bench.link.frames == []
    assert bench.nic.misuse.count("tx-ring") == 1
    usable(bench)


@pytest.mark.parametrize(("head", "tail"), [(0xFFFF, 3), (300, 3), (3, 0xFFFF), (0xFFFF, 0xFFFE)])
def test_head_or_tail_beyond_the_ring_stops(bench: Bench, head: int, tail: int) -> None:
    wr(bench.nic, "TDH", head)
    wr(bench.nic, "TDT", tail)
    bench.clock.run_for(1_000_000)
    assert len(bench.link.frames) == 0
    usable(bench)


def test_ring_at_the_end_of_the_address_space(bench: Bench) -> None:
    wr(bench.nic, "TDBAH", 0xFFFFFFFF)
    wr(bench.nic, "TDBAL", 0xFFFFFFF0)
    wr(bench.nic, "TDT", 200)
    bench.clock.run_for(1_000_000)
    assert bench.link.frames == []
    usable(bench)


def test_buffer_outside_memory_sends_ones_and_says_so(bench: Bench) -> None:
    bench.guest.post_legacy(None, address=1 << 50, length=60)
    ring(bench)
    assert bench.link.take() == [b"\xff" * 60]
    assert bench.nic.misuse.count("tx-data-abort") == 1
    usable(bench)


def test_zero_length_and_null_descriptors_are_done_and_send_nothing(bench: Bench) -> None:
    index = bench.guest.post_legacy(None, address=0, length=0)
    bench.guest.post_legacy(frame(70))
    ring(bench)
    assert bench.link.take() == [frame(70)]
    assert bench.memory.read(bench.guest.tx.address(index) + 12, 1)[0] & 1
    usable(bench)


def test_chain_without_eop_round_the_ring(bench: Bench) -> None:
    for _ in range(255):
        bench.guest.post_legacy(frame(1000), cmd=TxCmd.IFCS | TxCmd.RS)
    ring(bench)
    bench.clock.run_for(1_000_000)
    assert bench.link.frames == []
    usable(bench)


@pytest.mark.parametrize(("hdrlen", "mss"), [(0, 0), (0, 1460), (54, 0), (1, 1), (255, 1), (20, 7)])
def test_ring_of_bad_tso_contexts_is_bounded(
    bench: Bench, hdrlen: int, mss: int, guest: GuestRings
) -> None:
    for _ in range(120):
        guest.post_context(
            ipcss=14,
            ipcso=24,
            ipcse=33,
            tucss=34,
            tucso=50,
            paylen=0xFFFFF,
            tucmd=Tucmd.TCP | Tucmd.IP | Tucmd.TSE | Tucmd.DEXT,
            hdrlen=hdrlen,
            mss=mss,
        )
        guest.post_data(frame(60), dcmd=TxCmd.TSE | TxCmd.DEXT | CMD)
    ring(bench)
    bench.clock.run_for(1_000_000)
    assert rd(bench.nic, "TDH") == rd(bench.nic, "TDT")
    usable(bench)


def test_mixed_descriptors_in_one_frame(bench: Bench, guest: GuestRings) -> None:
    guest.post_legacy(frame(60), cmd=TxCmd.IFCS)
    guest.post_data(frame(60), dcmd=TxCmd.DEXT | CMD)
    guest.post_data(frame(60), dcmd=TxCmd.DEXT | TxCmd.IFCS)
    guest.post_context(hdrlen=9, mss=9)
    guest.post_legacy(frame(60), cmd=CMD)
    ring(bench)
    assert rd(bench.nic, "TDH") == rd(bench.nic, "TDT")
    usable(bench)


def test_buffer_at_own_registers_cannot_reach_them(bench: Bench) -> None:
    """DMA to the BAR's address is a master abort unless the host maps it (device.md 17)."""
    bench.nic.slot.config_write(0x10, 0xFEBC0000, 4)
    bench.guest.post_legacy(None, address=0xFEBC0000 + off("TDT"), length=60)
    ring(bench)
    assert bench.link.take() == [b"\xff" * 60]
    usable(bench)


def test_message_dma_that_rings_the_doorbell_does_not_nest(bench: Bench) -> None:
    """A host whose DMA callback writes our registers (device.md 17, 28)."""
    nic, guest = bench.nic, bench.guest

    def read(addr: int, n: int) -> bytes:
        wr(nic, "TDT", guest.tx.next_to_use)
        wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 26)
        return b"\x55" * n

    bench.dma.set_message_dma(read, lambda addr, data: None)
    guest.post_legacy(None, address=1 << 40, length=60)
    ring(bench)
    assert len(bench.link.take()) <= 1
    assert rd(nic, "TCTL") == 0
    bench.dma.set_message_dma(None, None)
    usable(bench)


def test_empty_data_with_eop_after_a_context_then_a_smaller_limit(
    bench: Bench, guest: GuestRings
) -> None:
    """The shape of the 2018 guest escape (device.md 6): lengths must not wrap at 16 bits."""
    tse = Tucmd.TCP | Tucmd.IP | Tucmd.TSE | Tucmd.DEXT
    guest.post_context(paylen=0x4188, hdrlen=54, mss=0x4188, tucmd=tse)
    guest.post_data(b"", address=bench.memory.base, length=0, dcmd=TxCmd.TSE | TxCmd.DEXT | CMD)
    guest.post_context(paylen=0x0F, hdrlen=5, mss=0x0F, tucmd=tse)
    guest.post_data(bytes(0x4188), dcmd=TxCmd.TSE | TxCmd.DEXT | TxCmd.IFCS)
    guest.post_data(bytes(100), dcmd=TxCmd.TSE | TxCmd.DEXT | CMD)
    ring(bench)
    bench.clock.run_for(1_000_000)
    assert all(len(f) <= 16384 for f in bench.link.frames)
    usable(bench)


@pytest.mark.parametrize(("start", "at", "end"), [(14, 250, 0), (50, 24, 20), (255, 255, 1)])
def test_checksum_fields_outside_the_frame_write_nothing(
    bench: Bench, start: int, at: int, end: int, guest: GuestRings
) -> None:
    """Offsets past the frame, ends before starts (device.md 10, 11)."""
    guest.post_context(
        ipcss=start, ipcso=at, ipcse=end, tucss=start, tucso=at, tucse=end, tucmd=Tucmd.DEXT
    )
    guest.post_data(frame(60), dcmd=TxCmd.DEXT | CMD, popts=Popts.IXSM | Popts.TXSM)
    guest.post_legacy(frame(60), cmd=CMD | TxCmd.IC, css=start, cso=at)
    ring(bench)
    sent = bench.link.take()
    assert [len(f) for f in sent] == [60, 60]
    if at >= 60:
        assert sent == [frame(60)] * 2
    usable(bench)


@pytest.mark.parametrize("paylen", [0, 100, 5000, 0xFFFFF])
def test_paylen_that_differs_from_the_data_is_bounded(
    bench: Bench, paylen: int, guest: GuestRings
) -> None:
    """SDM p49: the context ends, TSCTFC counts it (device.md 25)."""
    guest.post_context(
        ipcss=14,
        ipcso=24,
        ipcse=33,
        tucss=34,
        tucso=50,
        paylen=paylen,
        tucmd=Tucmd.TCP | Tucmd.IP | Tucmd.TSE | Tucmd.DEXT,
        hdrlen=54,
        mss=500,
    )
    guest.post_data(frame(54 + 1000, kind=0x0800), dcmd=TxCmd.TSE | TxCmd.DEXT | CMD)
    ring(bench)
    assert rd(bench.nic, "TDH") == rd(bench.nic, "TDT")
    assert sum(len(f) - 54 for f in bench.link.take()) <= 1000
    usable(bench)


def test_a_deferred_doorbell_leaves_the_work_to_the_clock(bench: Bench) -> None:
    bench.nic.defer_doorbells()
    bench.guest.post_legacy(frame(100))
    ring(bench)
    ring(bench)
    assert bench.link.frames == [], "the access did not wait for the frame"
    bench.clock.run_for(0)
    assert bench.link.take() == [frame(100)]


def test_deferred_work_ends_after_each_run(bench: Bench) -> None:
    """What came meanwhile (a message that someone waits for) has its turn between two runs."""
    link, order = bench.link, ""
    transmit = link.transmit

    def record(batch: object) -> None:
        nonlocal order
        order += "run "
        transmit(batch)  # type: ignore[arg-type]
        bench.clock.call_soon(answer)

    def answer() -> None:
        nonlocal order
        order += "answer "

    link.transmit = record  # type: ignore[method-assign]
    link.tx_room = lambda: 1  # type: ignore[method-assign]
    bench.nic.defer_doorbells()
    for _ in range(4):
        bench.guest.post_legacy(frame(100))
    ring(bench)
    bench.clock.run_for(0)
    assert order == "run answer " * 4


@pytest.mark.parametrize("psp", [0, pytest.param(8, marks=witness("TCTL.PSP"))])
def test_short_frames_are_padded_with_psp(bench: Bench, psp: int) -> None:
    wr(bench.nic, "TCTL", 2 | psp)
    bench.guest.post_legacy(frame(40))
    ring(bench)
    assert bench.link.take() == [frame(40).ljust(60 if psp else 40, b"\0")]


@witness("TXDCTL.LWTHRESH")
def test_txd_low_comes_when_less_than_lwthresh_wait(bench: Bench, nic: Nic) -> None:
    """SDM 13.4.43: in units of eight descriptors."""
    wr(nic, "TXDCTL", 2 << 25)
    bench.link.room = 0
    for _ in range(20):
        bench.guest.post_legacy(frame())
    ring(bench)
    rd(nic, "ICR")
    bench.link.open_room(3)
    assert not rd(nic, "ICR") & 0x8000
    bench.link.open_room(2)
    assert rd(nic, "ICR") & 0x8000
    assert (rd(nic, "TDT") - rd(nic, "TDH")) == 15


@witness("{name}.{name}")
@pytest.mark.parametrize("name", ["RDFPC", "TDFPC"])
def test_the_hardware_counts_what_waits_in_a_fifo(bench: Bench, name: str) -> None:
    """SDM 13.8.5, 13.8.10; frames to send wait in the ring, and none in the FIFO."""
    wr(bench.nic, name, 9)
    bench.link.room = 0
    bench.guest.post_legacy(frame())
    ring(bench)
    assert rd(bench.nic, name) == 0


@witness("{name}.{name}")
@pytest.mark.parametrize("name", ["TDFH", "TDFT", "TDFHS", "TDFTS"])
def test_the_transmit_fifos_pointers_move(bench: Bench, name: str) -> None:
    """SDM 13.8.6 to 13.8.9: two frames have gone through, 10 words each."""
    bench.guest.post_legacy(frame(60))
    bench.guest.post_legacy(frame(60))
    ring(bench)
    assert rd(bench.nic, name) == 20
