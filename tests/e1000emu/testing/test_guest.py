"""GuestRings against the emulated part: what every device test builds on."""

from __future__ import annotations

import pytest

from e1000emu.testing import (
    GuestRings,
    Int,
    Popts,
    Rctl,
    Reg,
    RxErrors,
    RxStatus,
    Tctl,
    Tucmd,
    TxCmd,
)
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench

PEER = b"\x02\0\0\0\0\x09"
SECOND = 1_000_000_000


def up(**sizes: int) -> Bench:
    bench = make_bench(**sizes)
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(3 * SECOND)
    return bench


@pytest.fixture
def bench() -> Bench:
    return up()


def frame_to_us(payload: bytes) -> bytes:
    return BENCH_MAC + PEER + b"\x88\xb5" + payload


def frame_from_us(payload: bytes) -> bytes:
    return PEER + BENCH_MAC + b"\x88\xb5" + payload


def test_reset_clears_what_was_set(guest: GuestRings) -> None:
    assert guest.read(Reg.RCTL) & Rctl.EN
    guest.reset()
    assert not guest.read(Reg.RCTL) & Rctl.EN
    assert guest.read(Reg.TDT) == 0


def test_send_gives_each_frame_to_the_link_and_reaps_it(bench: Bench) -> None:
    frames = [frame_from_us(bytes([number]) * 60) for number in range(10)]
    assert bench.guest.send(*frames) == 10
    assert bench.link.take() == frames
    assert bench.guest.tx_unused() == 255


def test_send_more_frames_than_the_ring_holds() -> None:
    bench = up(tx_count=16)
    frames = [frame_from_us(bytes([number]) * 60) for number in range(100)]
    assert bench.guest.send(*frames) == 100
    assert bench.link.take() == frames


def test_memory_of_sent_frames_comes_back(bench: Bench) -> None:
    before = bench.memory.allocated_bytes
    for _ in range(50):
        bench.guest.send(*[frame_from_us(bytes(500))] * 20)
    assert bench.memory.allocated_bytes == before


def test_frame_in_pieces_is_one_frame(bench: Bench) -> None:
    frame = frame_from_us(bytes(range(200)))
    bench.guest.post_pieces([frame[:1], frame[1:20], frame[20:]])
    bench.guest.kick()
    assert bench.link.take() == [frame]


def test_context_and_data_descriptors_fill_a_checksum_in(bench: Bench, guest: GuestRings) -> None:
    body = bytes(20) + b"\x01\x02\x03\x04" + bytes(40)
    guest.post_context(tucss=14, tucso=30, tucmd=Tucmd.DEXT)
    guest.post_data(frame_from_us(body), popts=Popts.TXSM)
    guest.kick()
    (sent,) = bench.link.take()
    total = sum(int.from_bytes(sent[i : i + 2], "big") for i in range(14, len(sent), 2))
    assert total % 0xFFFF == 0
    assert sent[30:32] != b"\0\0"


def test_vlan_fields_of_a_legacy_descriptor(bench: Bench, guest: GuestRings) -> None:
    guest.write(Reg.CTRL, guest.read(Reg.CTRL) | 1 << 30)
    guest.write(Reg.VET, 0x8100)
    guest.send(
        frame_from_us(bytes(60)), cmd=TxCmd.EOP | TxCmd.IFCS | TxCmd.RS | TxCmd.VLE, special=9
    )
    (sent,) = bench.link.take()
    assert sent[12:16] == bytes.fromhex("81000009")


def test_receive_collects_frames_and_refills() -> None:
    bench = up(rx_count=16)
    got = []
    for number in range(100):
        assert bench.link.inject(frame_to_us(bytes([number]) * 60)) == 1
        got += bench.guest.receive()
    assert [frame.data for frame in got] == [frame_to_us(bytes([n]) * 60) for n in range(100)]
    assert all(frame.ok and frame.status & RxStatus.EOP for frame in got)
    assert got[0].errors == RxErrors(0)


def test_receive_joins_a_frame_of_several_descriptors() -> None:
    bench = make_bench(rx_buffer_bytes=256, rx_count=16)
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(3 * SECOND)
    frame = frame_to_us(bytes(number & 0xFF for number in range(1000)))
    bench.link.inject(frame)
    (got,) = bench.guest.receive()
    assert got.data == frame
    assert got.descriptors == 4


def test_receive_without_refill_runs_dry() -> None:
    bench = up(rx_count=8)
    for _ in range(20):
        bench.link.inject(frame_to_us(bytes(60)))
    assert len(bench.guest.receive(refill=False)) == 7
    assert bench.guest.receive(refill=False) == []


def test_setup_rx_with_a_partial_fill() -> None:
    bench = make_bench(rx_count=16)
    bench.guest.up(mac=BENCH_MAC)
    bench.guest.write(Reg.RCTL, 0)
    bench.guest.setup_rx(fill=3)
    bench.clock.run_for(3 * SECOND)
    for _ in range(5):
        bench.link.inject(frame_to_us(bytes(60)))
    assert len(bench.guest.receive(refill=False)) == 3


def test_interrupts_arrive_on_the_recording_line(bench: Bench, guest: GuestRings) -> None:
    guest.read(Reg.ICR)
    bench.line.clear()
    guest.write(Reg.IMS, Int.RXT0)
    bench.link.inject(frame_to_us(bytes(60)))
    assert bench.line.level
    assert guest.read(Reg.ICR) & Int.RXT0
    assert not bench.line.level
    assert bench.line.rises == 1


def test_raw_descriptors_are_written_untouched(bench: Bench) -> None:
    raw = bytes(range(16))
    index = bench.guest.post_raw(raw)
    assert bench.memory.read(bench.guest.tx.address(index), 16) == raw
    assert bench.guest.post_raw(raw, index=5) == 5
    assert bench.guest.tx.next_to_use == 1


def test_wrong_values_are_passed_on_not_corrected(bench: Bench, guest: GuestRings) -> None:
    guest.write(Reg.TCTL, Tctl.EN | Tctl.PSP)
    guest.post_legacy(b"x" * 60, address=0xFFFF_FFFF_FFFF_F000)
    guest.kick()
    assert bench.dma.aborts > 0


@pytest.mark.parametrize("size", [256, 512, 1024, 2048, 4096, 8192, 16384])
def test_every_buffer_size_has_its_bits(size: int) -> None:
    bench = make_bench(rx_buffer_bytes=size, rx_count=8)
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(3 * SECOND)
    frame = frame_to_us(bytes(240))
    bench.link.inject(frame)
    assert [got.data for got in bench.guest.receive()] == [frame]


def test_close_gives_all_memory_back() -> None:
    bench = make_bench()
    bench.guest.close()
    empty = bench.memory.allocated_bytes
    guest = GuestRings(bench.nic.slot, bench.memory)
    guest.up(mac=BENCH_MAC)
    guest.post_legacy(b"x" * 100)
    guest.close()
    assert bench.memory.allocated_bytes == empty == 0
