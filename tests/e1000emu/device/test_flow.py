"""PAUSE both ways: by the FIFO level, by SWXOFF, and obeyed on receipt."""

from __future__ import annotations

from zlib import crc32

import pytest

from e1000emu.device.nic import Nic
from e1000emu.testing.bench import BENCH_MAC, Bench
from e1000emu.testing.guest import Rctl
from fastpath.base.batch import FB_HAS_FCS
from tests.e1000emu.common import PEER, RX_ON, frame, rd, running, wr
from tests.e1000emu.witness import witness

PAUSE_ADDRESS = bytes.fromhex("0180c2000001")
RFCE, TFCE = 1 << 27, 1 << 28
TXOFF = 0x10


def pause(quanta: int, *, dst: bytes = PAUSE_ADDRESS, opcode: int = 1) -> bytes:
    body = opcode.to_bytes(2, "big") + quanta.to_bytes(2, "big")
    return (dst + PEER + bytes.fromhex("8808") + body).ljust(60, b"\0")


@pytest.fixture
def bench() -> Bench:
    made = running()
    wr(made.nic, "CTRL", rd(made.nic, "CTRL") | RFCE)
    return made


def send(bench: Bench) -> int:
    bench.guest.post_legacy(frame())
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    return len(bench.link.take())


@witness("CTRL.RFCE", "STATUS.TXOFF", "XOFFRXC.COUNT")
def test_pause_stops_for_its_time_exactly(bench: Bench) -> None:
    nic, clock = bench.nic, bench.clock
    bench.link.inject(pause(100))
    assert rd(nic, "STATUS") & TXOFF
    assert send(bench) == 0
    clock.run_for(100 * 512 - 1)
    assert bench.link.frames == []
    clock.run_for(1)
    assert len(bench.link.take()) == 1
    assert not rd(nic, "STATUS") & TXOFF
    assert rd(nic, "XOFFRXC") == 1


@witness("XONRXC.COUNT")
def test_xon_ends_a_pause(bench: Bench) -> None:
    bench.link.inject(pause(0xFFFF))
    assert send(bench) == 0
    bench.link.inject(pause(0))
    assert len(bench.link.take()) == 1
    assert rd(bench.nic, "XONRXC") == 1


def test_pause_to_the_station_address_counts_too(bench: Bench) -> None:
    bench.link.inject(pause(5, dst=BENCH_MAC))
    assert bench.nic.tx.paused


def test_without_rfce_nothing_stops() -> None:
    bench = running()
    bench.link.inject(pause(0xFFFF))
    assert send(bench) == 1
    assert bench.guest.receive() == []


def test_clearing_rfce_ends_a_pause(bench: Bench) -> None:
    bench.link.inject(pause(0xFFFF))
    wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") & ~RFCE)
    assert send(bench) == 1


def test_reset_ends_a_pause(bench: Bench) -> None:
    bench.link.inject(pause(0xFFFF))
    bench.guest.up(mac=BENCH_MAC)
    bench.clock.run_for(10_000_000)
    assert send(bench) == 1
    assert not rd(bench.nic, "STATUS") & TXOFF


def test_control_frames_between_others_keep_the_order(bench: Bench) -> None:
    data = [frame(60 + i) for i in range(6)]
    mix = [data[0], pause(1), data[1], data[2], pause(0), pause(1), *data[3:]]
    assert bench.link.inject(*mix, hold=True) == len(mix)
    assert [f.data for f in bench.guest.receive()] == data
    assert bench.nic.stats["XOFFRXC"] == 2
    assert bench.nic.stats["TPR"] == 9


def test_held_batch_does_not_count_a_control_frame_twice(bench: Bench) -> None:
    from fastpath.base.batch import FrameBatch

    bench.guest.setup_rx(RX_ON, fill=2)
    bench.nic.rx.engine.fifo_bytes = 96  # one frame
    sizes = (60, 0, 61, 62, 63, 0, 64)
    batch = FrameBatch([frame(size) if size else pause(1) for size in sizes])
    done = bench.nic.receive(batch, 0, True)
    assert done == 4
    bench.guest.receive()
    while done < len(batch):
        done = bench.nic.receive(batch, done, True)
        bench.guest.receive()
    assert bench.nic.stats["XOFFRXC"] == 2


OTHER = bytes.fromhex("02000000aa01")
STORED = [
    # destination, opcode, RCTL, CTRL.RFCE: does the host get it (SDM 8.7.4)?
    *((BENCH_MAC, 1, rctl, True, True) for rctl in (0, Rctl.PMCF, Rctl.UPE)),
    pytest.param(BENCH_MAC, 1, Rctl.DPF, True, False, marks=witness("RCTL.DPF")),
    (PAUSE_ADDRESS, 1, 0, True, False),
    (PAUSE_ADDRESS, 1, Rctl.PMCF, True, False),
    (PAUSE_ADDRESS, 1, Rctl.MPE, True, True),
    (PAUSE_ADDRESS, 1, Rctl.MPE | Rctl.DPF, True, True),
    (PAUSE_ADDRESS, 2, 0, True, False),
    (PAUSE_ADDRESS, 2, Rctl.DPF, True, False),
    pytest.param(PAUSE_ADDRESS, 2, Rctl.PMCF, True, True, marks=witness("RCTL.PMCF")),
    (PAUSE_ADDRESS, 2, Rctl.PMCF, False, False),
    (BENCH_MAC, 2, 0, True, True),
    (OTHER, 2, Rctl.PMCF, True, False),
    (OTHER, 2, Rctl.UPE, True, True),
    *((OTHER, opcode, Rctl.UPE, False, True) for opcode in (1, 2)),
    *((PAUSE_ADDRESS, opcode, Rctl.MPE | Rctl.DPF, False, True) for opcode in (1, 2)),
    *((BENCH_MAC, opcode, Rctl.DPF, False, True) for opcode in (1, 2)),
]


@pytest.mark.parametrize(("dst", "opcode", "rctl", "rfce", "stored"), STORED)
def test_which_control_frames_the_host_gets(
    bench: Bench, dst: bytes, opcode: int, rctl: int, rfce: bool, stored: bool
) -> None:
    if not rfce:
        wr(bench.nic, "CTRL", rd(bench.nic, "CTRL") & ~RFCE)
    bench.guest.setup_rx(RX_ON | rctl)
    sent = [pause(1, dst=dst, opcode=opcode), frame(61)]
    bench.link.inject(*sent)
    assert [f.data for f in bench.guest.receive()] == sent[not stored :]
    assert bench.nic.tx.paused == (rfce and opcode == 1 and dst != OTHER)
    assert bench.nic.stats["FCRUC"] == (rfce and opcode != 1 and dst != OTHER)
    assert bench.nic.stats["TPR"] == 2


@witness("FCRUC.COUNT")
def test_other_control_frames_are_unsupported(bench: Bench) -> None:
    bench.link.inject(pause(1, opcode=2))
    assert rd(bench.nic, "FCRUC") == 1
    assert not bench.nic.tx.paused


def test_damaged_pause_is_an_error_not_an_order(bench: Bench) -> None:
    bench.link.inject(pause(0xFFFF), flags=[2])
    assert not bench.nic.tx.paused


@witness("CTRL.TFCE", "FCRTH.RTH", "FCRTL.XONE", "FCTTV.TTV", "XOFFTXC.COUNT", "XONTXC.COUNT")
def test_xoff_over_the_high_mark_and_xon_under_the_low() -> None:
    bench = running()
    nic, guest = bench.nic, bench.guest
    wr(nic, "FCRTH", 0x2000)
    wr(nic, "FCRTL", 0x80001000)
    wr(nic, "FCTTV", 0x1234)
    wr(nic, "CTRL", rd(nic, "CTRL") | TFCE)
    guest.setup_rx(RX_ON, fill=0)
    for _ in range(12):
        bench.link.inject(frame(1000))
    (xoff,) = bench.link.take()
    assert xoff == pause(0x1234).replace(PEER, BENCH_MAC)
    assert rd(nic, "XOFFTXC") == 1
    # A packet, and no good one: those are the ring's.
    assert [rd(nic, name) for name in ("TPT", "TOTL", "GPTC", "PTC64", "MPTC")] == [1, 64, 0, 0, 0]
    wr(nic, "RDT", 200)
    (xon,) = bench.link.take()
    assert xon == pause(0).replace(PEER, BENCH_MAC)
    assert rd(nic, "XONTXC") == 1


def test_a_crossing_that_is_told_after_tfce_was_cleared_sends_nothing() -> None:
    bench = running()
    nic, guest = bench.nic, bench.guest
    wr(nic, "FCRTH", 0x2000)
    guest.setup_rx(RX_ON, fill=0)
    for _ in range(12):
        bench.link.inject(frame(1000))
    nic.noticed(0, 0, fifo=True)  # as a worker's notice, handled late
    assert bench.link.take() == []
    assert not nic.flow.xoff_sent
    wr(nic, "CTRL", rd(nic, "CTRL") | TFCE)
    assert len(bench.link.take()) == 1
    assert nic.flow.xoff_sent


@witness("TCTL.SWXOFF")
def test_swxoff_sends_one_and_clears_itself(bench: Bench, nic: Nic) -> None:
    wr(nic, "FCTTV", 7)
    wr(nic, "TCTL", rd(nic, "TCTL") | 1 << 22)
    assert not rd(nic, "TCTL") & 1 << 22
    assert bench.link.take() == [pause(7).replace(PEER, BENCH_MAC)]


@witness("FCRTL.RTL")
def test_xon_comes_when_the_fifo_is_under_the_low_mark_not_when_it_is_empty() -> None:
    bench = running()
    nic, guest = bench.nic, bench.guest
    wr(nic, "FCRTH", 0x2000)
    wr(nic, "FCRTL", 0x80001000)
    wr(nic, "CTRL", rd(nic, "CTRL") | TFCE)
    guest.setup_rx(RX_ON, fill=0)
    for _ in range(12):
        bench.link.inject(frame(1000))
    bench.link.take()
    wr(nic, "RDT", 7)
    assert bench.link.take() == []
    wr(nic, "RDT", 9)
    assert len(bench.link.take()) == 1
    assert nic.rx.engine.fifo_frames == 3


@witness("FCAL.FCAL", "FCAH.FCAH", "FCT.FCT")
def test_address_and_type_of_pause_frames_are_what_software_says(bench: Bench) -> None:
    """SDM 13.4.8 to 13.4.10, both ways."""
    nic, address, kind = bench.nic, bytes.fromhex("0390a0b0c0d0"), bytes.fromhex("8809")
    wr(nic, "FCAL", int.from_bytes(address[:4], "little"))
    wr(nic, "FCAH", int.from_bytes(address[4:], "little"))
    wr(nic, "FCT", int.from_bytes(kind, "big"))
    wr(nic, "TCTL", rd(nic, "TCTL") | 1 << 22)
    assert bench.link.take() == [address + BENCH_MAC + kind + bytes.fromhex("0001") + bytes(44)]
    bench.link.inject(pause(100))
    assert send(bench) == 1, "the standard's is another frame now"
    bench.link.inject(address + PEER + kind + bytes.fromhex("00010064") + bytes(42))
    assert send(bench) == 0
    assert rd(nic, "XOFFRXC") == 1


@pytest.mark.parametrize("good", [True, False])
def test_a_pause_with_a_wrong_fcs_stops_nothing(bench: Bench, good: bool) -> None:
    data = pause(0xFFFF, dst=BENCH_MAC)
    wr(bench.nic, "RCTL", rd(bench.nic, "RCTL") | Rctl.DPF)
    fcs = crc32(data) if good else 0
    bench.link.inject(data + fcs.to_bytes(4, "little"), flags=[FB_HAS_FCS])
    assert bench.nic.tx.paused == good
    assert (rd(bench.nic, "XOFFRXC"), rd(bench.nic, "CRCERRS")) == (good, not good)
    assert rd(bench.nic, "TORL") == 64
