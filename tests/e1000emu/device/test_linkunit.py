"""The link unit by itself: registers, a cable and a link, with no Nic around them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.device.interrupts import Interrupts
from e1000emu.device.linkunit import LinkUnit
from e1000emu.device.pins import Pins
from e1000emu.device.regview import Registers
from e1000emu.insight.misuse import Misuse
from e1000emu.links import LinkCaps
from e1000emu.links.farend import FarEnd
from e1000emu.registers.models import model
from e1000emu.registers.regs import reg
from e1000emu.testing.recorders import RecordingLine, RecordingLink
from fastpath.nic.regfile import Stats

SECOND = 1_000_000_000
SLU, FRCSPD, FRCDPLX = (reg("CTRL").mask(name) for name in ("SLU", "FRCSPD", "FRCDPLX"))
LSC = reg("ICR").mask("LSC")


class Board:
    """A link unit and what it is given."""

    def __init__(self, name: str = "82540EM", **caps: Any) -> None:
        part, self.clock, self.stats = model(name), VirtualClock(), Stats()
        self.regs = Registers(part)
        self.regs.file.reset(1)
        self.interrupts = Interrupts(self.regs.file, self.clock, RecordingLine())
        self.misuse = Misuse(strict=False, now_ns=self.clock.now_ns)
        self.link = RecordingLink()
        self.told: list[str] = []
        engine = SimpleNamespace(uncounted=False, gso_max_bytes=0, gso_udp=False)
        self.tx: Any = SimpleNamespace(
            engine=engine, dma=None, loop=None, open=False, pump=lambda: self.told.append("pump")
        )
        self.rx: Any = SimpleNamespace(loop=self.loop, open=False, set_open=self.set_open)
        self.caps = LinkCaps(**caps)
        self.unit = LinkUnit(
            link=self.link,
            caps=self.caps,
            clock=self.clock,
            model=part,
            regs=self.regs,
            stats=self.stats,
            interrupts=self.interrupts,
            misuse=self.misuse,
            pins=Pins(self.regs, self.interrupts, part.features, None),
            tx=self.tx,
            rx=self.rx,
            on_flow=lambda: self.told.append("flow"),
            on_path=lambda: None,
            on_link=lambda: self.told.append("link"),
        )
        self.unit.plug_in(SimpleNamespace())  # type: ignore[arg-type]

    def loop(self, batch: object) -> None:
        raise AssertionError

    def set_open(self, is_open: bool) -> None:
        self.rx.open = is_open

    def ctrl(self, value: int) -> None:
        self.regs["CTRL"] = value
        self.unit.follow()

    def up(self) -> Board:
        self.unit.look_at_cable()
        self.ctrl(self.regs["CTRL"] | SLU)
        self.clock.run_for(SECOND)
        return self


def test_the_link_comes_up_after_autonegotiation() -> None:
    board = Board()
    assert not board.unit.up
    board.up()
    assert board.unit.up
    assert (board.unit.speed_mbps, board.unit.full_duplex) == (1000, True)
    assert board.told == ["pump", "link"]
    assert board.tx.open
    assert board.rx.open
    assert board.interrupts.causes & LSC


def test_ctrl_forces_speed_and_duplex() -> None:
    board = Board().up()
    board.ctrl(SLU | FRCSPD | FRCDPLX | 1 << 8)  # SPEED: 100 Mb/s; FD is clear
    assert (board.unit.speed_mbps, board.unit.full_duplex) == (100, False)


@pytest.mark.parametrize("name", ["82540EM", "82545EM-fiber"])
def test_nothing_reaches_a_pulled_cable_until_it_is_plugged_in(name: str) -> None:
    board = Board(name).up()
    board.unit.disconnect()
    assert not board.unit.phy.cable_up
    board.unit.link_changed(True, 1000, True)
    board.unit.look_at_cable()  # a reset of the board
    board.unit.rx_config_changed()
    assert not board.unit.phy.cable_up
    board.unit.connect()
    assert board.unit.phy.cable_up


def test_a_cable_that_is_plugged_in_again_has_what_the_link_says_now() -> None:
    far = SimpleNamespace(full_duplex=True, far_end=None)
    board = Board(negotiation=far).up()
    board.unit.disconnect()
    far.full_duplex, far.far_end = False, FarEnd(pause=False)
    board.unit.connect()
    board.clock.run_for(SECOND)
    assert board.unit.up
    assert not board.unit.full_duplex


def test_loopback_closes_the_way_to_the_wire() -> None:
    board = Board(gso_max_bytes=9000).up()
    assert board.tx.engine.gso_max_bytes == 9000
    board.regs["RCTL"] = 1 << 6
    board.unit.update_path()
    assert board.tx.loop == board.loop
    assert (board.tx.open, board.rx.open) == (True, False)
    assert board.tx.engine.gso_max_bytes == 0


def test_transceiver_loopback_without_one_is_misuse() -> None:
    board = Board().up()
    board.regs["RCTL"] = 3 << 6
    board.unit.update_path()
    assert board.misuse.count("lbm-without-phy") == 1
    assert board.tx.loop is None
