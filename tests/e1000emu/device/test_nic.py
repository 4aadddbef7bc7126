"""The whole device: resets, access widths, the I/O BAR, loopback, LEDs, reports."""

from __future__ import annotations

import pytest

from e1000emu import E1000Error, MisuseError
from e1000emu.clock import RealClock, VirtualClock
from e1000emu.device.nic import Nic
from e1000emu.links import pair
from e1000emu.memory import host_memory
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from e1000emu.testing.guest import GuestRings
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from tests.e1000emu.common import PEER, RX_ON, frame, off, rd, until_held, wr
from tests.e1000emu.witness import witness

RST = 1 << 26


def send(bench: Bench, data: bytes) -> None:
    bench.guest.post_legacy(data)
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)


# --- CTRL.RST


@witness("CTRL.RST")
def test_ctrl_rst_clears_itself_and_the_rings(bench: Bench, nic: Nic) -> None:
    send(bench, frame())
    bench.link.inject(frame())
    wr(nic, "CTRL", rd(nic, "CTRL") | RST)
    assert not rd(nic, "CTRL") & RST
    names = "RCTL TCTL TDBAL TDLEN TDH TDT RDLEN RDH RDT IMS ICR"
    for name in names.split():
        assert rd(nic, name) == 0, name
    assert rd(nic, "STATUS") & 2  # the PHY keeps its link, and the EEPROM has set SLU
    assert rd(nic, "GPRC") == 0


def test_ctrl_rst_keeps_configuration_space(nic: Nic) -> None:
    nic.slot.config_write(0x10, 0xFEBC0000, 4)
    wr(nic, "CTRL", RST)
    assert nic.slot.config_read(0x10, 4) == 0xFEBC0000
    assert nic.slot.config_read(4, 2) == 7


def test_ctrl_rst_clears_av_and_reloads_entry_0(bench: Bench, nic: Nic) -> None:
    bench.guest.set_mac(PEER, 0)
    bench.guest.set_mac(PEER, 3)
    wr(nic, "CTRL", RST)
    assert nic.mmio_read(0x5404 + 8 * 3) >> 31 == 0
    assert nic.mac == bytes.fromhex("525400123456")
    assert nic.filters.valid(0)


def test_ctrl_rst_keeps_tables_pba_and_wake_up(nic: Nic) -> None:
    for name, value in (("MTA", 5), ("VFTA", 6), ("PBA", 40), ("WUFC", 2)):
        wr(nic, name, value)
    wr(nic, "CTRL", RST)
    assert rd(nic, "MTA") == 5
    assert rd(nic, "VFTA") == 6
    assert rd(nic, "PBA") & 0xFFFF == 40
    assert nic.rx.engine.fifo_bytes == 40 * 1024
    assert rd(nic, "WUFC") == 2
    nic.power_on_reset()
    assert rd(nic, "MTA") == 0
    assert rd(nic, "PBA") == 0x00100030
    assert rd(nic, "WUFC") == 0


def test_ctrl_rst_leaves_the_phy_alone(nic: Nic) -> None:
    wr(nic, "CTRL", RST)
    assert nic.phy.link.up
    wr(nic, "CTRL", 0x40)
    assert nic.link_up


def test_unfinished_frame_goes_with_the_reset(bench: Bench) -> None:
    bench.guest.post_legacy(frame(), cmd=0x02)  # no EOP
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)
    bench.guest.up()
    bench.clock.run_for(10)
    send(bench, frame(64))
    assert bench.link.take() == [frame(64)]


def test_reset_through_the_io_bar(nic: Nic) -> None:
    nic.slot.bar_write(2, 0, 0xFFF00000 | off("CTRL"), 4)
    assert nic.slot.bar_read(2, 0, 4) == 0
    nic.slot.bar_write(2, 4, RST, 4)
    assert rd(nic, "RCTL") == 0


def test_ioaddr_survives_ctrl_rst_and_not_a_reset_of_the_bus(nic: Nic) -> None:
    """SDM 13.2.2.1."""
    for reset, kept in (("request_reset", 0x100), ("reset", 0), ("power_on_reset", 0)):
        nic.io_write(0, 0x100)
        getattr(nic, reset)()
        assert nic.io_read(0) == kept


def test_reset_requested_by_dma_waits_for_the_engine(bench: Bench, nic: Nic) -> None:
    """CTRL.RST written from inside a transmit (device.md 28)."""
    nic.shared.in_engine = True
    wr(nic, "CTRL", RST)
    assert rd(nic, "RCTL") != 0
    nic.shared.in_engine = False
    send(bench, frame())
    assert rd(nic, "RCTL") == 0
    assert not nic.shared.reset_pending


def test_reset_frees_a_link_that_holds(bench: Bench) -> None:
    guest, nic = bench.guest, bench.nic
    guest.setup_rx(RX_ON, fill=1)
    assert until_held(bench)
    wr(nic, "CTRL", RST)
    assert bench.link.rx_ready_calls == 1


def test_device_works_after_each_kind_of_reset(bench: Bench, nic: Nic) -> None:
    for reset in (
        lambda: wr(nic, "CTRL", RST),
        lambda: wr(nic, "CTRL_EXT", 1 << 13),
        nic.reset,
        nic.power_on_reset,
    ):
        reset()
        nic.slot.config_write(4, 7, 2)
        bench.guest.up(mac=nic.mac)
        bench.clock.run_for(5_000_000_000)
        send(bench, frame(100))
        assert bench.link.take() == [frame(100)]
        bench.link.inject(frame(90))
        assert bench.guest.receive()[0].data == frame(90)


# --- widths, unknown registers, I/O BAR


@pytest.mark.parametrize("size", [1, 2, 3])
def test_narrow_reads_see_their_bytes(size: int, nic: Nic) -> None:
    wr(nic, "FCAL", 0x44332211)
    for shift in range(5 - size):
        want = 0x44332211 >> 8 * shift & (1 << 8 * size) - 1
        assert nic.mmio_read(off("FCAL") + shift, size) == want
        assert nic.slot.bar_read(0, off("FCAL") + shift, size) == want
    assert nic.misuse.count("access-size") == 2 * (5 - size)


def test_narrow_writes_merge_and_wide_ones_split(nic: Nic) -> None:
    wr(nic, "FCAL", 0x44332211)
    nic.mmio_write(off("FCAL") + 1, 0xEE, 1)
    assert rd(nic, "FCAL") == 0x4433EE11
    nic.slot.bar_write(0, off("FCAL") + 2, 0xABCD, 2)
    assert rd(nic, "FCAL") == 0xABCDEE11
    nic.mmio_write(off("TDBAL"), 0x11_2233_4450, 8)
    assert (rd(nic, "TDBAL"), rd(nic, "TDBAH")) == (0x22334450, 0x11)
    assert nic.mmio_read(off("TDBAL"), 8) == 0x11_2233_4450


@pytest.mark.parametrize(
    ("offset", "size"), [(0x1FFFE, 4), (0x1FFFF, 8), (0x20000, 4), (1 << 40, 8), (0, 0)]
)
def test_accesses_at_the_edges_are_harmless(bench: Bench, offset: int, size: int) -> None:
    bench.nic.slot.bar_write(0, offset, 0xFFFFFFFFFFFFFFFF, size)
    assert bench.nic.slot.bar_read(0, offset, size) >= 0


def test_unknown_registers_read_zero_and_are_counted(nic: Nic) -> None:
    wr_offset = 0x5818
    nic.mmio_write(wr_offset, 0x1234)
    assert nic.mmio_read(wr_offset) == 0
    event = nic.misuse.events()[0]
    assert (event.name, event.count) == ("unknown-register", 2)
    assert "0x5818" in event.last


def test_io_bar_is_32_bits_wide_or_ignored(bench: Bench) -> None:
    slot = bench.nic.slot
    slot.bar_write(2, 0, off("VET"), 4)
    assert slot.bar_read(2, 4, 4) == 0x8100
    slot.bar_write(2, 4, 0x9100, 2)
    slot.bar_write(2, 5, 0x91, 1)
    assert slot.bar_read(2, 4, 4) == 0x8100
    slot.bar_write(2, 4, 0x9100, 4)
    assert slot.bar_read(2, 4, 4) == 0x9100
    slot.bar_write(2, 0, 0x80000, 4)
    assert slot.bar_read(2, 4, 4) == 0
    slot.bar_write(2, 4, 1, 4)
    assert bench.nic.misuse.count("io-address") == 2
    assert slot.bar_read(2, 1, 1) == 0
    assert slot.bar_read(2, 2, 2) == 8


def test_strict_raises_with_the_remedy() -> None:
    _, dma = host_memory(1 << 20)
    nic = Nic(
        memory=dma, irq=RecordingLine(), link=RecordingLink(), clock=VirtualClock(), strict=True
    )
    with pytest.raises(MisuseError, match="no such register"):
        nic.mmio_read(0x5818)


def test_bad_model_and_mac_are_refused() -> None:
    _, dma = host_memory(1 << 20)
    for bad in ({"model": "82541"}, {"mac": b"123"}):
        with pytest.raises(E1000Error):
            Nic(
                memory=dma,
                irq=RecordingLine(),
                link=RecordingLink(),
                clock=VirtualClock(),
                **bad,
            )


# --- loopback, VLAN mode


@witness("RCTL.LBM")
def test_mac_loopback_needs_no_link_and_sends_nothing(bench: Bench, nic: Nic) -> None:
    bench.link.set_carrier(False)
    bench.guest.setup_rx(RX_ON | 0x40)
    send(bench, frame(100))
    assert bench.link.take() == []
    assert bench.guest.receive()[0].data == frame(100)
    assert not rd(nic, "STATUS") & 2


def test_wire_is_deaf_in_loopback(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON | 0x40)
    bench.link.inject(frame())
    assert bench.guest.receive() == []
    bench.guest.setup_rx(RX_ON)
    bench.link.inject(frame())
    assert len(bench.guest.receive()) == 1


def test_transceiver_loopback_without_phy_stays_on_the_wire(bench: Bench) -> None:
    bench.guest.setup_rx(RX_ON | 0xC0)
    assert bench.nic.misuse.count("lbm-without-phy") == 1
    send(bench, frame())
    assert len(bench.link.take()) == 1


@witness("CTRL.VME", "VET.VET")
def test_vme_and_vet_reach_both_engines(bench: Bench, nic: Nic) -> None:
    wr(nic, "VET", 0x88A8)
    wr(nic, "CTRL", rd(nic, "CTRL") | 1 << 30)
    bench.guest.post_legacy(frame(), cmd=0x4B, special=0x0123)
    wr(nic, "TDT", bench.guest.tx.next_to_use)
    (sent,) = bench.link.take()
    assert sent[12:16] == bytes.fromhex("88a80123")
    bench.link.inject(frame()[:12] + bytes.fromhex("88a80456") + frame()[12:])
    (got,) = bench.guest.receive()
    assert got.special == 0x0456
    assert got.data == frame()


# --- reports


def test_counters_name_everything(bench: Bench) -> None:
    send(bench, frame())
    bench.link.inject(frame(), frame(dst=PEER))
    counters = bench.nic.counters()
    assert counters["gptc"] == counters["gprc"] == 1
    assert counters["gotc"] == 64
    assert counters["tpr"] == 2
    assert counters["rx_frames_filtered"] == 1
    assert counters["tx_doorbells"] >= 1
    assert all(isinstance(v, int) for v in counters.values())
    assert bench.nic.counters()["gptc"] == 1


def test_repr_tells_model_address_and_link(bench: Bench) -> None:
    assert repr(bench.nic).startswith("<Nic 82540EM 52:54:00:12:34:56 link up")


def test_close_unplugs(bench: Bench) -> None:
    bench.nic.halt()
    assert bench.link.port is None
    bench.clock.run_for(10_000_000_000)


def test_link_gone_while_frames_wait_explains_itself(bench: Bench) -> None:
    bench.link.set_carrier(False)
    send(bench, frame())
    assert bench.nic.misuse.count("tx-link-down") == 1
    bench.link.set_carrier(True)
    bench.clock.run_for(2_000_000_000)
    assert len(bench.link.take()) == 1


@witness("CTRL.FRCSPD", "CTRL.FD")
def test_forced_speed_and_duplex_show_in_status() -> None:
    bench = make_bench()
    nic = bench.nic
    wr(nic, "CTRL", 0x1800 | 0x40)
    assert rd(nic, "STATUS") & 0xC1 == 0
    wr(nic, "CTRL", 0x1800 | 0x40 | 0x100 | 1)
    assert rd(nic, "STATUS") & 0xC1 == 0x41


# --- two devices on a cable


def plugged(clock: object, end: object, mac: bytes, **options: int) -> tuple[Nic, GuestRings]:
    ram, dma = host_memory(8 << 20)
    nic = Nic(
        memory=dma,
        irq=RecordingLine(),
        link=end,  # type: ignore[arg-type]
        clock=clock,  # type: ignore[arg-type]
        mac=mac,
        **options,  # type: ignore[arg-type]
    )
    nic.slot.config_write(4, 7, 2)
    guest = GuestRings(nic.slot, ram)
    guest.up(mac=mac)
    return nic, guest


@witness("CTRL_EXT.SPD_BYPS", "CTRL.SPEED")
def test_speed_bypass_takes_ctrl_speed_whatever_the_phy_says(nic: Nic) -> None:
    """CTRL_EXT.SPD_BYPS, SDM 13.4.6."""
    wr(nic, "CTRL", rd(nic, "CTRL") & ~0x300 | 1 << 8)
    assert rd(nic, "STATUS") >> 6 & 3 == 2
    wr(nic, "CTRL_EXT", rd(nic, "CTRL_EXT") | 1 << 15)
    assert rd(nic, "STATUS") >> 6 & 3 == 1
    wr(nic, "CTRL", rd(nic, "CTRL") & ~0x300)
    assert rd(nic, "STATUS") >> 6 & 3 == 0
    wr(nic, "CTRL_EXT", rd(nic, "CTRL_EXT") & ~(1 << 15))
    assert rd(nic, "STATUS") >> 6 & 3 == 2


def test_frames_cross_a_pair_in_order_and_none_is_lost() -> None:
    clock = VirtualClock()
    a, b = pair(clock, queue_frames=64)
    one, sender = plugged(clock, a, PEER)
    two, receiver = plugged(clock, b, BENCH_MAC)
    clock.run_for(2_000_000_000)
    assert one.link_up
    assert two.link_up
    sent = [frame(60 + i % 1400) for i in range(1000)]
    got = []
    for i in range(0, 1000, 250):
        for data in sent[i : i + 250]:
            sender.post_legacy(data)
        wr(one, "TDT", sender.tx.next_to_use)
        for _ in range(20):
            clock.run_for(1_000_000)
            got += [f.data for f in receiver.receive()]
    assert got == sent
    assert two.stats["MPC"] == two.stats["RNBC"] == 0


def test_a_running_real_clock_carries_frames_too() -> None:
    clock = RealClock()
    clock.start()
    try:
        with clock.lock:
            a, b = pair(clock)
            one, sender = plugged(clock, a, PEER, autoneg_ns=1_000_000)
            two, receiver = plugged(clock, b, BENCH_MAC, autoneg_ns=1_000_000)
            assert clock.wait(lambda: one.link_up and two.link_up, 20_000_000_000)
            sender.post_legacy(frame(100))
            wr(one, "TDT", sender.tx.next_to_use)
            assert clock.wait(lambda: two.stats["GPRC"] == 1, 20_000_000_000)
            assert receiver.receive()[0].data == frame(100)
            one.halt()
            two.halt()
    finally:
        clock.stop()
