"""The PHY through MDIC: identity, negotiation that takes time, latches, power-down, loopback."""

from __future__ import annotations

from typing import Any

import pytest

from e1000emu.device.nic import Nic
from e1000emu.device.phy import AUTONEG_NS, FORCED_LINK_NS, PAGE_NS
from e1000emu.errors import ArgumentError
from e1000emu.links import FarEnd
from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.witness import BMSR_ABILITIES, witness

MDIC, STATUS, CTRL, ICR, CTRL_EXT = 0x20, 0x08, 0x00, 0xC0, 0x18
READY, ERROR, INT = 1 << 28, 1 << 30, 1 << 29
LU, SLU = 2, 0x40


def phy_read(nic: Nic, n: int, phy: int = 1) -> int:
    nic.mmio_write(MDIC, 2 << 26 | phy << 21 | n << 16)
    value = nic.mmio_read(MDIC)
    assert value & READY
    return value & 0xFFFF | (value & ERROR)


def phy_write(nic: Nic, n: int, data: int, phy: int = 1) -> int:
    nic.mmio_write(MDIC, 1 << 26 | phy << 21 | n << 16 | data)
    value = nic.mmio_read(MDIC)
    assert value & READY
    return value & ERROR


@pytest.fixture
def bench() -> Bench:
    made = make_bench()
    made.nic.mmio_write(CTRL, SLU)
    return made


def far(bench: Bench, **says: Any) -> None:
    """Let the far end say this, and the PHY negotiate anew."""
    bench.link.far_end = FarEnd(**says)
    bench.link.set_carrier(False)
    bench.link.set_carrier(True)


def settle(bench: Bench) -> None:
    bench.clock.run_for(AUTONEG_NS + 1)


@witness(
    "MDIC.DATA",
    "MDIC.REGADD",
    "MDIC.PHYADD",
    "MDIC.OP",
    "MDIC.R",
    "MDIC.E",
    "PHY:PHYID1.OUI_MSB",
    "PHY:PHYID2.OUI_LSB",
    "PHY:PHYID2.MODEL",
    "PHY:PHYID2.REVISION",
)
def test_identity_at_address_1_only(bench: Bench) -> None:
    assert (phy_read(bench.nic, 2), phy_read(bench.nic, 3)) == (0x0141, 0x0C20)
    for address in (0, 2, 31):
        assert phy_read(bench.nic, 2, address) & ERROR
    assert bench.nic.misuse.count("phy-address") == 3


def test_unknown_operation_is_an_error(bench: Bench) -> None:
    for op in (0, 3):
        bench.nic.mmio_write(MDIC, op << 26 | 1 << 21)
        assert bench.nic.mmio_read(MDIC) & (READY | ERROR) == READY | ERROR


@witness("MDIC.I", "ICR.MDAC")
def test_mdic_interrupt_bit_raises_mdac(bench: Bench) -> None:
    bench.nic.mmio_read(ICR)
    bench.nic.mmio_write(MDIC, 2 << 26 | 1 << 21 | INT)
    assert bench.nic.mmio_read(ICR) & 0x200
    bench.nic.mmio_write(MDIC, 2 << 26 | 1 << 21)
    assert not bench.nic.mmio_read(ICR) & 0x200


@witness(
    "ICR.LSC",
    "PHY:BMSR.LSTATUS",
    "PHY:BMSR.ANEGCOMPLETE",
    "PHY:PSSR.LINK",
    "PHY:PSSR.RESOLVED",
    "PHY:ANER.LP_ANABLE",
    "PHY:GTSR.REMOTE_OK",
    "PHY:GTSR.LOCAL_OK",
    "PHY:ESTATUS.1000T_HD",
    "PHY:ESTATUS.1000T_FD",
    "PHY:ESTATUS.1000X_HD",
    "PHY:ESTATUS.1000X_FD",
)
def test_link_comes_after_autonegotiation(bench: Bench, nic: Nic) -> None:
    bench.clock.run_for(AUTONEG_NS - 1)
    assert not nic.mmio_read(STATUS) & LU
    assert not phy_read(nic, 1) & 0x24
    bench.clock.run_for(1)
    assert nic.mmio_read(STATUS) & 0xC3 == 0x83
    assert nic.mmio_read(ICR) & 4
    phy_read(nic, 1)
    assert phy_read(nic, 1) & 0x24 == 0x24
    assert phy_read(nic, 17) & 0xEC00 == 0xAC00
    assert phy_read(nic, 5) & 0x41E1 == 0x41E1
    assert phy_read(nic, 10) & 0x3800 == 0x3800
    assert phy_read(nic, 6) & 3 == 3
    assert phy_read(nic, 6) & 3 == 1
    assert phy_read(nic, 15) == 0x3000


@witness("CTRL.SLU")
def test_without_slu_the_mac_sees_no_link() -> None:
    bench = make_bench()
    settle(bench)
    bench.nic.mmio_write(CTRL, 0)
    assert bench.nic.phy.link.up
    assert not bench.nic.mmio_read(STATUS) & LU
    bench.nic.mmio_write(CTRL, SLU)
    assert bench.nic.mmio_read(STATUS) & LU


def test_bmsr_link_latches_low(bench: Bench) -> None:
    settle(bench)
    nic = bench.nic
    assert not phy_read(nic, 1) & 4
    assert phy_read(nic, 1) & 4
    bench.link.set_carrier(False)
    bench.link.set_carrier(True)
    settle(bench)
    assert nic.link_up
    assert not phy_read(nic, 1) & 4
    assert phy_read(nic, 1) & 4


def test_pulled_cable_raises_lsc_and_drops_the_link(bench: Bench) -> None:
    settle(bench)
    nic = bench.nic
    nic.mmio_read(ICR)
    nic.mmio_write(0xD0, 4)
    bench.link.set_carrier(False)
    assert bench.line.level
    assert not nic.mmio_read(STATUS) & LU
    assert nic.mmio_read(ICR) == 4
    assert not bench.line.level


def test_no_cable_no_link() -> None:
    bench = make_bench()
    bench.nic.mmio_write(CTRL, SLU)
    bench.link.set_carrier(False)
    bench.clock.run_for(10 * AUTONEG_NS)
    assert not bench.nic.link_up


@pytest.mark.parametrize(
    ("speed", "code"),
    [
        pytest.param(10, 0, marks=witness("PHY:PSSR.SPEED")),
        pytest.param(100, 1, marks=witness("PHY:PSSR.SPEED", "CTRL_EXT.ASDCHK", "STATUS.ASDV")),
        (1000, 2),
    ],
)
def test_negotiates_the_best_common_speed(bench: Bench, speed: int, code: int) -> None:
    bench.link.set_carrier(True, speed_mbps=speed)
    settle(bench)
    assert bench.nic.mmio_read(STATUS) >> 6 & 3 == code
    assert phy_read(bench.nic, 17) >> 14 == code
    bench.nic.mmio_write(CTRL_EXT, 0x1000)
    assert bench.nic.mmio_read(STATUS) >> 8 & 3 == code


@witness("PHY:PSSR.DPLX")
def test_negotiates_what_is_advertised(bench: Bench, nic: Nic) -> None:
    phy_write(nic, 9, 0)
    phy_write(nic, 4, 0x0081)
    phy_write(nic, 0, 0x1200)
    settle(bench)
    assert nic.mmio_read(STATUS) & 0xC3 == 0x42
    assert not phy_read(nic, 17) & 0x2000


def test_nothing_in_common_is_no_link(bench: Bench, nic: Nic) -> None:
    phy_write(nic, 9, 0)
    phy_write(nic, 4, 0x0001)
    phy_write(nic, 0, 0x1200)
    settle(bench)
    assert not nic.link_up
    assert phy_read(nic, 19) & 0x8000


def test_forced_speed_acts_on_reset_only(bench: Bench, nic: Nic) -> None:
    settle(bench)
    phy_write(nic, 0, 0x2100)
    assert nic.link_up
    assert nic.link_unit.speed_mbps == 1000
    phy_write(nic, 0, 0xA100)
    assert not nic.link_up
    bench.clock.run_for(FORCED_LINK_NS)
    assert nic.link_up
    assert nic.link_unit.speed_mbps == 100
    assert phy_read(nic, 0) == 0x2100


@witness("PHY:BMCR.PDOWN")
def test_power_down_drops_the_link_and_power_up_negotiates(bench: Bench, nic: Nic) -> None:
    settle(bench)
    phy_write(nic, 0, 0x1940)
    assert not nic.link_up
    bench.clock.run_for(10 * AUTONEG_NS)
    assert not nic.link_up
    phy_write(nic, 0, 0x1140)
    settle(bench)
    assert nic.link_up


@witness(
    "PHY:BMCR.ISOLATE",
    "STATUS.LU",
)
def test_isolated_the_mac_sees_no_link(bench: Bench, nic: Nic) -> None:
    settle(bench)
    phy_write(nic, 0, phy_read(nic, 0) | 1 << 10)
    assert not nic.mmio_read(STATUS) & LU
    phy_read(nic, 1)
    assert phy_read(nic, 1) & 4, "the PHY has its link"
    phy_write(nic, 0, phy_read(nic, 0) & ~(1 << 10))
    assert nic.mmio_read(STATUS) & LU


@pytest.mark.parametrize(
    ("gtcr", "master"),
    [
        pytest.param(0x0E00, 1, marks=witness("PHY:GTSR.MS_MASTER")),
        pytest.param(0x0A00, 0, marks=witness("PHY:GTCR.REPEATER")),
        (0x1E00, 1),
        pytest.param(0x1600, 0, marks=witness("PHY:GTCR.MS_VALUE", "PHY:GTCR.MS_MANUAL")),
        (0x1A00, 1),
    ],
)
def test_master_by_hand_or_by_preference(bench: Bench, gtcr: int, master: int, nic: Nic) -> None:
    """IEEE 802.3 table 40-5; the far end takes what is left."""
    phy_write(nic, 9, gtcr)
    phy_write(nic, 0, 0x1340)
    settle(bench)
    assert phy_read(nic, 10) >> 14 == master
    phy_write(nic, 9, gtcr ^ 0x1C00)
    assert phy_read(nic, 10) >> 14 == master, "settled when it was negotiated"
    state = nic.state()
    phy_write(nic, 0, 0x1340)
    settle(bench)
    nic.load_state(state)
    assert phy_read(nic, 10) >> 14 == master


@witness(
    "PHY:PSCR.MDI_MODE",
    "PHY:PSSR.MDIX",
    "PHY:PISR.MDI_CROSSOVER",
    "PHY:BMCR.RESET",
)
def test_mdi_mode_crosses_the_pairs_at_a_reset(bench: Bench, nic: Nic) -> None:
    settle(bench)
    assert phy_read(nic, 17) & 0x40
    phy_read(nic, 19)
    phy_write(nic, 16, phy_read(nic, 16) & ~0x60)
    assert phy_read(nic, 17) & 0x40
    phy_write(nic, 0, phy_read(nic, 0) | 0x8000)
    assert not phy_read(nic, 17) & 0x40
    assert phy_read(nic, 19) & 0x0040
    settle(bench)
    phy_write(nic, 0, phy_read(nic, 0) | 0x8000)
    assert not phy_read(nic, 19) & 0x0040, "it has not changed"
    phy_write(nic, 16, phy_read(nic, 16) | 0x20)
    phy_write(nic, 0, phy_read(nic, 0) | 0x8000)
    assert phy_read(nic, 17) & 0x40


@witness(
    "PHY:PSCR.ENERGY_DETECT",
    "PHY:PSSR.ENERGY_DETECT",
    "PHY:PISR.ENERGY",
    "PHY:PIER.ENERGY",
    "CTRL_EXT.PHYINT",
)
def test_a_silent_wire_puts_the_phy_to_sleep(bench: Bench, nic: Nic) -> None:
    settle(bench)
    phy_read(nic, 19)
    phy_write(nic, 18, 0x0010)
    bench.link.set_carrier(False)
    assert phy_read(nic, 17) & 0x10
    assert nic.mmio_read(CTRL_EXT) & 0x20, "the PHY's interrupt line"
    assert phy_read(nic, 19) & 0x10
    bench.link.set_carrier(True)
    assert not phy_read(nic, 17) & 0x10
    assert phy_read(nic, 19) & 0x10
    phy_write(nic, 16, phy_read(nic, 16) & ~0x0300)  # not to look for that
    bench.link.set_carrier(False)
    assert not phy_read(nic, 17) & 0x10
    assert not phy_read(nic, 19) & 0x10


@witness(
    "PHY:PSSR.PAGE_RCVD",
    "PHY:ANER.PAGE_RX",
)
def test_a_page_received_shows_in_both_registers(bench: Bench, nic: Nic) -> None:
    assert not phy_read(nic, 17) & 0x1000
    settle(bench)
    assert phy_read(nic, 17) & 0x1000
    assert phy_read(nic, 6) & 2
    assert not phy_read(nic, 17) & 0x1000


@witness("CTRL.PHY_RST")
def test_phy_rst_pin_restores_defaults(bench: Bench, nic: Nic) -> None:
    settle(bench)
    phy_write(nic, 4, 0x0021)
    nic.mmio_write(CTRL, SLU | 1 << 31)
    assert not nic.link_up
    assert phy_read(nic, 2) & ERROR
    assert nic.misuse.count("phy-in-reset") == 1
    nic.mmio_write(CTRL, SLU)
    assert phy_read(nic, 4) == 0x0DE1
    settle(bench)
    assert nic.link_up


@witness("PHY:BMCR.LOOPBACK")
def test_loopback_needs_no_carrier(bench: Bench, nic: Nic) -> None:
    bench.link.set_carrier(False)
    phy_write(nic, 0, 0x4140)
    assert nic.link_up
    phy_write(nic, 0, 0x0140)
    assert not nic.link_up


@witness("PHY:PAGE.NUMBER")
def test_page_window_keeps_what_is_written(nic: Nic) -> None:
    for page, value in ((0x1F, 0x8FFC), (0x1A, 0x8FF0)):
        phy_write(nic, 29, page)
        phy_write(nic, 30, value)
    phy_write(nic, 29, 0x1F)
    assert phy_read(nic, 30) == 0x8FFC


@witness(
    "CTRL_EXT.PHYINT_EN",
    "ICR.PHYINT",
)
def test_phy_interrupt_reaches_icr_when_enabled(bench: Bench, nic: Nic) -> None:
    nic.mmio_write(CTRL_EXT, 2)
    phy_write(nic, 18, 0x0400)
    settle(bench)
    assert nic.mmio_read(ICR) & 0x1000
    assert nic.mmio_read(CTRL_EXT) & 0x20
    assert phy_read(nic, 19) & 0x0400
    assert not nic.mmio_read(CTRL_EXT) & 0x20
    assert phy_read(nic, 19) == 0


@pytest.mark.parametrize("n", range(32))
def test_any_write_to_any_register_is_harmless(bench: Bench, n: int) -> None:
    for value in (0, 0xFFFF, 0x5A5A):
        assert not phy_write(bench.nic, n, value)
        assert not phy_read(bench.nic, n) & ERROR
    phy_write(bench.nic, 0, 0x9140)
    assert phy_read(bench.nic, 2) == 0x0141


def test_register_file_reads_31_registers_after_reset(bench: Bench) -> None:
    assert phy_read(bench.nic, 0) == 0x1140
    assert phy_read(bench.nic, 16) == 0x0360
    assert phy_read(bench.nic, 21) == 0
    assert phy_read(bench.nic, 31) == 0


PARTNERS = [
    # speed, full duplex: ANLPAR, GTSR (with us as master)
    (1000, True, 0x45E1, 0x7C00),
    (100, True, 0x45E1, 0),
    (10, True, 0x4461, 0),
    (100, False, 0x40A1, 0),
    (10, False, 0x4021, 0),
]


@witness(
    "PHY:ANLPAR.SELECTOR",
    "PHY:ANLPAR.10HD",
    "PHY:ANLPAR.ACK",
    "PHY:ANLPAR.100T4",
    "PHY:BMSR.LSTATUS",
    *(f"PHY:BMSR.{name}" for name in BMSR_ABILITIES),
    "PHY:ANER.NP_ABLE",
    "PHY:PSSR.CABLE_LENGTH",
)
@pytest.mark.parametrize(
    ("speed", "full", "anlpar", "gtsr"),
    [
        pytest.param(
            *PARTNERS[0],
            marks=witness(
                "PHY:ANLPAR.10FD",
                "PHY:ANLPAR.100HD",
                "PHY:ANLPAR.100FD",
                "PHY:ANLPAR.PAUSE",
                "PHY:GTSR.LP_1000HD",
                "PHY:GTSR.LP_1000FD",
            ),
        ),
        *PARTNERS[1:],
    ],
)
def test_what_both_ends_can(
    bench: Bench, speed: int, full: bool, anlpar: int, gtsr: int, nic: Nic
) -> None:
    """IEEE 802.3 22.2.4.2, 28.2.4.1.4, 40.5.1.1."""
    bench.link.set_carrier(True, speed_mbps=speed, full_duplex=full)
    settle(bench)
    phy_read(nic, 1)
    assert phy_read(nic, 1) == 0x796D
    assert phy_read(nic, 5) == anlpar
    assert phy_read(nic, 10) == gtsr
    assert phy_read(nic, 6) == 7
    assert not phy_read(nic, 17) >> 7 & 7


MODES = {
    # register, bit: speed, full duplex
    "ANAR.10HD": (4, 5, 10, False),
    "ANAR.10FD": (4, 6, 10, True),
    "ANAR.100HD": (4, 7, 100, False),
    "ANAR.100FD": (4, 8, 100, True),
    "GTCR.1000HD": (9, 8, 1000, False),
    "GTCR.1000FD": (9, 9, 1000, True),
}


@witness("PHY:{mode}", "PHY:BMCR.ANRESTART")
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_is_agreed_on_when_it_alone_is_offered(bench: Bench, mode: str) -> None:
    number, bit, speed, full = MODES[mode]
    nic = bench.nic
    settle(bench)
    for n in (4, 9):
        phy_write(nic, n, (n == 4) | (1 << bit if n == number else 0))
    phy_write(nic, 0, 0x1340)
    assert not nic.mmio_read(STATUS) & LU
    settle(bench)
    status = nic.mmio_read(STATUS)
    code = {10: 0, 100: 1, 1000: 2}[speed]
    assert status & 0xC3 == LU | full | code << 6
    # and without it the far end takes nothing
    phy_write(nic, number, 1 if number == 4 else 0)
    phy_write(nic, 0, 0x1340)
    settle(bench)
    assert not nic.mmio_read(STATUS) & LU


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param(1 << 10, marks=witness("PHY:PSSR.RX_PAUSE", "PHY:PSSR.TX_PAUSE")),
        pytest.param(0, marks=witness("PHY:ANAR.PAUSE")),
    ],
)
def test_pause_is_agreed_on_when_it_is_offered(bench: Bench, offer: int) -> None:
    phy_write(bench.nic, 4, 0x09E1 | offer)
    phy_write(bench.nic, 0, 0x1340)
    settle(bench)
    assert phy_read(bench.nic, 17) & 0xC == (0xC if offer else 0)


@pytest.mark.parametrize(
    ("bmcr", "status"),
    [
        pytest.param(0x0100, 0x03, marks=witness("PHY:BMCR.ANENABLE", "PHY:BMCR.SPEED_MSB")),
        pytest.param(0x2100, 0x43, marks=witness("PHY:BMCR.SPEED_LSB")),
        pytest.param(0x2000, 0x42, marks=witness("PHY:BMCR.FULLDPLX")),
        pytest.param(0x0140, 0x83, marks=witness("STATUS.FD")),
        (0x0040, 0x82),
    ],
)
def test_without_negotiation_speed_and_duplex_are_what_software_says(
    bench: Bench, bmcr: int, status: int
) -> None:
    phy_write(bench.nic, 0, bmcr | 0x8000)
    bench.clock.run_for(FORCED_LINK_NS)
    assert bench.nic.mmio_read(STATUS) & 0xC3 == status


PHY_EVENTS = {
    "LINK": 10, "AN_DONE": 11, "PAGE": 12, "DUPLEX": 13, "SPEED": 14, "AN_ERROR": 15,
    "MDI_CROSSOVER": 6, "DOWNSHIFT": 5,
}  # fmt: skip


@witness("PHY:PIER.{event}", "PHY:PISR.{event}")
@pytest.mark.parametrize("event", PHY_EVENTS)
def test_each_event_of_the_phy_interrupts(bench: Bench, event: str) -> None:
    nic, bit = bench.nic, 1 << PHY_EVENTS[event]
    phy_read(nic, 19)
    phy_write(nic, 18, bit)
    if event == "MDI_CROSSOVER":
        phy_write(nic, 16, phy_read(nic, 16) & ~0x60)
        phy_write(nic, 0, 0x9140)
    else:
        if event == "AN_ERROR":
            phy_write(nic, 4, 1)
            phy_write(nic, 9, 0)
        if event == "DOWNSHIFT":
            phy_write(nic, 20, 0)
            far(bench, pairs=2)
        assert not nic.mmio_read(CTRL_EXT) & 0x20
        settle(bench)
    assert nic.mmio_read(CTRL_EXT) & 0x20
    assert phy_read(nic, 19) & bit
    assert not nic.mmio_read(CTRL_EXT) & 0x20


# What a far end says (`links.FarEnd`).


@witness("PHY:BMSR.RFAULT", "PHY:ANLPAR.RFAULT")
def test_a_far_end_tells_of_a_fault(bench: Bench, nic: Nic) -> None:
    far(bench, remote_fault=True)
    assert not phy_read(nic, 1) & 0x10
    settle(bench)
    assert phy_read(nic, 5) & 0x2000
    assert [phy_read(nic, 1) & 0x10 for _ in range(2)] == [0x10, 0], "until it is read"
    assert nic.mmio_read(STATUS) & LU


@witness("PHY:ANAR.100T4", "PHY:ANAR.RFAULT")
def test_a_far_end_hears_our_base_page(bench: Bench) -> None:
    heard: list[int] = []
    phy_write(bench.nic, 4, 0x2201 | 0x0DE0)
    far(bench, on_page=heard.append)
    settle(bench)
    assert heard == [0x2201 | 0x0DE0]


@witness("PHY:ANAR.SELECTOR")
def test_nothing_is_agreed_on_in_another_tongue(bench: Bench, nic: Nic) -> None:
    far(bench, selector=2)
    settle(bench)
    assert not nic.mmio_read(STATUS) & LU
    assert phy_read(nic, 19) & 0x8000
    phy_write(nic, 4, phy_read(nic, 4) + 1)
    phy_write(nic, 0, 0x1340)
    settle(bench)
    assert nic.mmio_read(STATUS) & LU
    assert phy_read(nic, 5) & 31 == 2


@pytest.mark.parametrize(
    ("ours", "theirs", "send_obey"),
    [  # PAUSE + ASM_DIR of each; 802.3 table 28B-3
        pytest.param((0, 1), (1, 1), (1, 0), marks=witness("PHY:ANLPAR.ASM_DIR")),
        ((1, 1), (0, 1), (0, 1)),
        pytest.param((1, 0), (0, 1), (0, 0), marks=witness("PHY:ANAR.ASM_DIR")),
        ((1, 1), (0, 0), (0, 0)),
        ((0, 1), (0, 1), (0, 0)),
        ((0, 1), (1, 0), (0, 0)),
        ((1, 0), (1, 1), (1, 1)),
        ((0, 0), (1, 1), (0, 0)),
    ],
)  # fmt: skip
def test_pause_may_be_for_one_direction(
    bench: Bench,
    ours: tuple[int, int],
    theirs: tuple[int, int],
    send_obey: tuple[int, int],
    nic: Nic,
) -> None:
    phy_write(nic, 4, 0x01E1 | ours[0] << 10 | ours[1] << 11)
    assert phy_read(nic, 4) >> 10 & 3 == ours[0] | ours[1] << 1
    far(bench, pause=bool(theirs[0]), asm_dir=bool(theirs[1]))
    settle(bench)
    assert phy_read(nic, 5) >> 10 & 3 == theirs[0] | theirs[1] << 1
    assert (phy_read(nic, 17) >> 3 & 1, phy_read(nic, 17) >> 2 & 1) == send_obey


@witness(
    "PHY:ANAR.NP",
    "PHY:ANLPAR.NP",
    "PHY:ANER.LP_NPABLE",
    "PHY:ANLPNP.PAGE",
    *(f"PHY:ANNPTR.{name}" for name in ("MESSAGE", "TOGGLE", "ACK2", "MP", "NP")),
)
def test_next_pages_go_both_ways(bench: Bench) -> None:
    """IEEE 802.3 28.2.3.4: the toggle bit alternates, a null page answers who has more."""
    nic, heard = bench.nic, list[int]()
    phy_write(nic, 4, 0x8DE1)
    far(bench, next_pages=(0x2345, 0x0123), asm_dir=True, on_page=heard.append)
    settle(bench)
    assert not nic.mmio_read(STATUS) & LU, "it waits for software's page"
    assert phy_read(nic, 5) & 0x8000
    assert phy_read(nic, 6) & 0xB == 0xB
    assert phy_read(nic, 6) & 2 == 0
    seen, toggles = [], []
    for page in (0xB005, 0x9006, 0x2001):
        toggles.append(phy_read(nic, 7) >> 11 & 1)
        phy_write(nic, 7, page)
        assert phy_read(nic, 7) & ~0x800 == page
        bench.clock.run_for(PAGE_NS - 1)
        assert not phy_read(nic, 6) & 2
        bench.clock.run_for(1)
        assert phy_read(nic, 6) & 2
        seen.append(phy_read(nic, 8))
    assert toggles == [0, 1, 0], "base page had bit 11 set"
    assert heard == [0x8DE1, 0xB005, 0x9806, 0x2001]
    assert seen == [0xA345, 0x0923, 0x2001]
    assert nic.mmio_read(STATUS) & LU


def test_a_snapshot_between_next_pages(bench: Bench, nic: Nic) -> None:
    phy_write(nic, 4, 0x8DE1)
    far(bench, next_pages=(0x2345, 0x2001))
    settle(bench)
    copy = make_bench()
    copy.clock.run_for(bench.clock.now_ns())
    copy.link.far_end = bench.link.far_end
    copy.nic.load_state(nic.state())
    for made in (bench, copy):
        phy_write(made.nic, 7, 0xA005)
    copy.nic.load_state(nic.state())
    for made in (bench, copy):
        made.clock.run_for(PAGE_NS)
        assert phy_read(made.nic, 8) == 0xAB45
        assert phy_read(made.nic, 7) & 0x800
        phy_write(made.nic, 7, 0x2001)
        made.clock.run_for(PAGE_NS)
        assert made.nic.mmio_read(STATUS) & LU


@witness("PHY:GTSR.MS_FAULT")
@pytest.mark.parametrize("master", [True, False])
def test_both_ends_insist_on_the_same_part(bench: Bench, master: bool, nic: Nic) -> None:
    phy_write(nic, 9, 0x1300 | master << 11)
    far(bench, master=master)
    settle(bench)
    assert phy_read(nic, 10) & 0x8000
    assert not nic.mmio_read(STATUS) & LU
    far(bench, master=not master)
    settle(bench)
    assert not phy_read(nic, 10) & 0x8000
    assert nic.mmio_read(STATUS) & LU


def test_what_the_far_end_insists_on_leaves_the_other_part(bench: Bench) -> None:
    for master in (True, False):
        far(bench, master=master)
        settle(bench)
        assert phy_read(bench.nic, 10) >> 14 == (not master)


@witness("PHY:PSSR.DOWNSHIFT")
@pytest.mark.parametrize(
    ("gtcr", "epscr", "attempts"),
    [
        (0x1B00, 0x0160, 1),
        pytest.param(0x1B00, 0x0560, 2, marks=witness("PHY:EPSCR.MASTER_DOWNSHIFT")),
        (0x1300, 0x0D60, 1),
        pytest.param(0x1300, 0x0F60, 3, marks=witness("PHY:EPSCR.SLAVE_DOWNSHIFT")),
    ],
)
def test_over_two_pairs_it_is_tried_and_then_slower(
    bench: Bench, gtcr: int, epscr: int, attempts: int, nic: Nic
) -> None:
    phy_write(nic, 9, gtcr)
    phy_write(nic, 20, epscr)
    far(bench, pairs=2)
    bench.clock.run_for(attempts * AUTONEG_NS - 1)
    assert not nic.mmio_read(STATUS) & LU
    bench.clock.run_for(1)
    assert nic.mmio_read(STATUS) & 0xC2 == LU | 1 << 6
    assert phy_read(nic, 17) & 0x20
    far(bench)
    settle(bench)
    assert nic.mmio_read(STATUS) & 0xC2 == LU | 2 << 6
    assert not phy_read(nic, 17) & 0x20


def test_a_slave_that_does_not_shift_has_no_link_over_two_pairs(bench: Bench) -> None:
    phy_write(bench.nic, 9, 0x1300)
    phy_write(bench.nic, 20, 0x0C60)
    far(bench, pairs=2)
    bench.clock.run_for(10 * AUTONEG_NS)
    assert not bench.nic.mmio_read(STATUS) & LU


@witness("PHY:PSCR.FORCE_LINK_GOOD")
def test_a_forced_link_is_called_good_without_a_cable(bench: Bench, nic: Nic) -> None:
    bench.link.set_carrier(False)
    phy_write(nic, 0, 0xA100)
    bench.clock.run_for(AUTONEG_NS)
    assert not nic.mmio_read(STATUS) & LU
    phy_write(nic, 16, phy_read(nic, 16) | 0x400)
    bench.clock.run_for(AUTONEG_NS)
    assert nic.mmio_read(STATUS) & LU
    bench.link.set_carrier(True)
    bench.link.set_carrier(False)
    assert nic.mmio_read(STATUS) & LU
    phy_write(nic, 16, phy_read(nic, 16) & ~0x400)
    bench.clock.run_for(AUTONEG_NS)
    assert not nic.mmio_read(STATUS) & LU
    phy_write(nic, 16, phy_read(nic, 16) | 0x400)
    phy_write(nic, 0, 0x8140)
    bench.clock.run_for(AUTONEG_NS)
    assert not nic.mmio_read(STATUS) & LU, "at 1000 Mb/s it says nothing"


def test_a_halted_device_brings_no_link_up(bench: Bench, nic: Nic) -> None:
    phy_write(nic, 16, phy_read(nic, 16) | 0x400)
    phy_write(nic, 0, 0xA100)
    nic.halt()
    assert bench.clock.next_ns() is None
    phy_write(nic, 0, 0xA100)
    bench.clock.run_for(10 * AUTONEG_NS)
    assert not nic.mmio_read(STATUS) & LU


@pytest.mark.parametrize("wrong", [{"selector": 32}, {"pairs": 3}, {"next_pages": (1 << 16,)}])
def test_what_no_far_end_says(wrong: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        FarEnd(**wrong)
