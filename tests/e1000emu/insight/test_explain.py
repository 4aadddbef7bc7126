"""The device says why nothing moves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e1000emu.testing.bench import Bench, make_bench
from tests.e1000emu.common import RX_ON, frame, rd, running, wr
from tests.e1000emu.device.test_flow import pause
from tests.e1000emu.device.test_phy import phy_write


def post(bench: Bench) -> None:
    bench.guest.post_legacy(frame())
    wr(bench.nic, "TDT", bench.guest.tx.next_to_use)


def _bus_master(b: Bench) -> None:
    b.nic.slot.config_write(4, 3, 2)


def _d3(b: Bench) -> None:
    b.nic.slot.config_write(0xE0, 3, 2)


def _unplug(b: Bench) -> None:
    b.link.set_carrier(False)
    post(b)


def _phy_reset(b: Bench) -> None:
    wr(b.nic, "CTRL", rd(b.nic, "CTRL") | 1 << 31)


def _paused(b: Bench) -> None:
    wr(b.nic, "CTRL", rd(b.nic, "CTRL") | 1 << 27)
    b.link.inject(pause(0xFFFF))
    post(b)


def _no_room(b: Bench) -> None:
    b.link.room = 0
    post(b)


def _unread_ring(b: Bench) -> None:
    wr(b.nic, "TDBAH", 0x55)
    post(b)


def _no_eop(b: Bench) -> None:
    b.guest.post_legacy(frame(), cmd=0)
    wr(b.nic, "TDT", b.guest.tx.next_to_use)
    b.link.room = 0
    post(b)


def _fifo(b: Bench) -> None:
    b.guest.setup_rx(RX_ON, fill=0)
    b.link.inject(frame())


def _throttled(b: Bench) -> None:
    wr(b.nic, "ITR", 0xFFFF)
    wr(b.nic, "IMS", 4)
    for _ in range(2):
        wr(b.nic, "ICS", 4)
        rd(b.nic, "ICR")
    wr(b.nic, "ICS", 4)


def _intx_off(b: Bench) -> None:
    b.nic.slot.config_write(4, 0x407, 2)
    wr(b.nic, "IMS", 4)
    wr(b.nic, "ICS", 4)


def _no_address(b: Bench) -> None:
    for i in range(16):
        b.nic.mmio_write(0x5404 + 8 * i, 0)
    wr(b.nic, "RCTL", 2)


CASES: dict[str, tuple[Callable[[Bench], object], str]] = {
    "bus master": (_bus_master, "Bus mastering is off"),
    "d3": (_d3, "D3hot"),
    "cable": (_unplug, "cable is unplugged"),
    "waits for link": (_unplug, "TDH=0 TDT=1 of 256 descriptors; they wait for the link"),
    "phy reset": (_phy_reset, "PHY_RST"),
    "phy power": (lambda b: phy_write(b.nic, 0, 0x1940), "powered down"),
    "negotiates": (lambda b: phy_write(b.nic, 0, 0x9140), "negotiates"),
    "slu": (lambda b: wr(b.nic, "CTRL", 1), "CTRL.SLU is 0"),
    "loopback": (lambda b: wr(b.nic, "RCTL", RX_ON | 0x40), "Loopback is on"),
    "tctl": (lambda b: (wr(b.nic, "TCTL", 0), post(b)), "wait for TCTL.EN"),
    "tdlen": (lambda b: (wr(b.nic, "TDLEN", 0), post(b)), "TDLEN is too short"),
    "pause": (_paused, "PAUSE"),
    "room": (_no_room, "takes no more frames"),
    "ring": (_unread_ring, "check TDBAL"),
    "eop": (_no_eop, "no EOP"),
    "rctl": (lambda b: wr(b.nic, "RCTL", 0), "RCTL.EN is 0"),
    "rdlen": (lambda b: wr(b.nic, "RDLEN", 0), "RDLEN is too short"),
    "no descriptor": (_fifo, "none is free"),
    "fifo": (_fifo, "1 frames wait in the FIFO"),
    "no address": (_no_address, "no RAH has AV"),
    "masked": (lambda b: wr(b.nic, "ICS", 4), "LSC is set in ICR, but IMS does not enable it"),
    "itr": (_throttled, "throttling"),
    "intx": (_intx_off, "keeps its line low"),
    "misuse": (lambda b: b.nic.mmio_read(0x5818), "Misuse: unknown-register x1"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_reason_is_named(name: str) -> None:
    act, words = CASES[name]
    bench = running()
    act(bench)
    assert any(words in line for line in bench.nic.explain()), bench.nic.explain()


def test_a_device_that_works_has_nothing_to_say(bench: Bench) -> None:
    post(bench)
    rd(bench.nic, "ICR")
    assert bench.nic.explain() == []


def test_a_device_nobody_touched_says_what_is_missing() -> None:
    text = " ".join(make_bench().nic.explain())
    assert "RCTL.EN is 0" in text
    assert "No link" in text
