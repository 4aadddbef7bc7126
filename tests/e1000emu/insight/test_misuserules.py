"""Every rule of misuse: something breaks it, and a driver that is right breaks none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e1000emu import MisuseError
from e1000emu.device.flash import FlashPort
from e1000emu.insight.misuserules import RULE_NUMBER, RULES
from e1000emu.registers.regs import check_table
from e1000emu.testing.bench import BENCH_MAC, Bench, make_bench
from tests.e1000emu.common import RX_ON, frame, off, rd, running, wr

EN, RCTL_EN = 0x0010_3FFA, 2
PCI_COMMAND, PMCSR, MSI = 4, 0xE0, 0xF0


def post(b: Bench, **fields: int) -> None:
    b.guest.post_legacy(frame(), **fields)
    b.guest.kick()


def post_at(b: Bench, address: int) -> None:
    b.guest.post_legacy(None, address=address, length=60)
    b.guest.kick()


def config(b: Bench, offset: int, value: int, size: int = 2) -> None:
    b.nic.slot.config_write(offset, value, size)


def _tx_wait(b: Bench) -> None:
    """Descriptors wait in the ring: the hardware owns them."""
    b.link.room = 0
    post(b)
    post(b)


def _abort_ring(b: Bench) -> None:
    wr(b.nic, "TDBAH", 0x55)
    post(b)


def _rx_abort_ring(b: Bench) -> None:
    wr(b.nic, "RDBAH", 0x55)
    b.link.inject(frame())


def _rx_abort_data(b: Bench) -> None:
    last = rd(b.nic, "RDT")
    b.link.inject(frame())
    b.memory.write64(b.guest.rx.address(last), 0x55 << 32)
    wr(b.nic, "RDT", 0)
    b.link.inject(*[frame()] * last)


def _d3(b: Bench) -> None:
    config(b, PMCSR, 3)
    b.nic.slot.bar_read(0, 0, 4)


def _d3_without_pme(b: Bench) -> None:
    wr(b.nic, "WUFC", 2)
    config(b, PMCSR, 3)


def _msi(b: Bench) -> None:
    config(b, MSI + 2, 1)
    wr(b.nic, "IMS", 4)
    wr(b.nic, "ICS", 4)


def _intx_off(b: Bench) -> None:
    config(b, PCI_COMMAND, 0x407)
    wr(b.nic, "IMS", 4)
    wr(b.nic, "ICS", 4)


def _decode_off(b: Bench) -> None:
    config(b, PCI_COMMAND, 4)
    b.nic.slot.bar_read(0, 0, 4)


def _bus_master_off(b: Bench) -> None:
    config(b, PCI_COMMAND, 3)
    post(b)


def _no_address(b: Bench) -> None:
    wr(b.nic, "RCTL", 0)
    wr(b.nic, "RAH", 0)
    wr(b.nic, "RCTL", RCTL_EN)


def _early(b: Bench, ring: str, control: str, value: int) -> None:
    wr(b.nic, control, 0)
    wr(b.nic, ring, 0)
    wr(b.nic, control, value)


def _io(b: Bench) -> None:
    b.nic.slot.bar_write(2, 0, 0x80000, 4)
    b.nic.slot.bar_read(2, 4, 4)


def _eerd_while_granted(b: Bench) -> None:
    wr(b.nic, "EECD", 0x40)
    wr(b.nic, "EERD", 1)


def _phy_in_reset(b: Bench) -> None:
    wr(b.nic, "CTRL", rd(b.nic, "CTRL") | 1 << 31)
    wr(b.nic, "MDIC", 0x0820_0000)


def _tso(b: Bench) -> None:
    b.guest.post_context(tucmd=0x24, paylen=100, hdrlen=0, mss=0)
    b.guest.post_data(bytes(100), dcmd=0x2D)
    b.guest.kick()


def _tso_pad(b: Bench) -> None:
    wr(b.nic, "TSPMT", 15_000 << 16)
    b.guest.post_context(tucmd=0x24, paylen=1460, hdrlen=54, mss=1460)
    b.guest.kick()


def _mixed(b: Bench) -> None:
    b.guest.post_legacy(frame(), cmd=2)
    b.guest.post_data(frame())
    b.guest.kick()


def _rx_given(b: Bench) -> None:
    """The ring is set up anew, two descriptors at first."""
    wr(b.nic, "RCTL", 0)
    b.guest.setup_rx(RX_ON, fill=2)


def _rx_owned(b: Bench) -> None:
    _rx_given(b)
    b.memory.write64(b.guest.rx.address(1), 0x1234)
    wr(b.nic, "RDT", 5)


def _rx_dd_left(b: Bench) -> None:
    _rx_given(b)
    b.memory.write(b.guest.rx.address(3) + 12, b"\x03")
    wr(b.nic, "RDT", 5)


def _rx_overrun(b: Bench) -> None:
    _rx_given(b)
    wr(b.nic, "RDT", 10)
    wr(b.nic, "RDT", 4)


def _tx_owned(b: Bench) -> None:
    _tx_wait(b)
    b.memory.write(b.guest.tx.address(0) + 8, b"\x01")
    post(b)


def _tx_dd_left(b: Bench) -> None:
    post(b)
    post(b)
    wr(b.nic, "TDT", 1)  # once round the ring, with what was sent before


def _tx_overrun(b: Bench) -> None:
    _tx_wait(b)
    wr(b.nic, "TDT", 1)


def _irq_stays(b: Bench) -> None:
    wr(b.nic, "IMS", 4)
    wr(b.nic, "ICS", 4)
    b.clock.run_for(6_000_000_000)


def _ics_as_ack(b: Bench) -> None:
    wr(b.nic, "IMS", 4)
    for _ in range(4):
        wr(b.nic, "ICS", 4)


def _no_rs(b: Bench) -> None:
    for _ in range(64):
        post(b, cmd=3)


def _fc_type(b: Bench) -> None:
    wr(b.nic, "FCT", 0)
    wr(b.nic, "CTRL", rd(b.nic, "CTRL") | 1 << 27)


def _fc_thresholds(b: Bench) -> None:
    wr(b.nic, "FCRTL", 0x800)
    wr(b.nic, "FCRTH", 0x400)


def _rar0_group(b: Bench) -> None:
    wr(b.nic, "RAL", 1)
    wr(b.nic, "RAH", 1 << 31)


def _not_pending(b: Bench) -> None:
    wr(b.nic, "IMS", 4)
    wr(b.nic, "ICR", 0x80)


def _table(b: Bench) -> None:
    b.nic.slot.bar_write(0, off("VFTA") + 1, 1, 1)


def _rx_before_dd(b: Bench) -> None:
    b.link.inject(frame())
    b.memory.read(b.guest.rx.address(0) + 8, 2)


def _tx_before_dd(b: Bench) -> None:
    post(b)
    b.clock.run_for(0)
    wr(b.nic, "TDT", 0)
    b.clock.run_for(0)
    wr(b.nic, "TDT", 1)
    b.clock.run_for(0)


def _flash_write(b: Bench) -> None:
    FlashPort(b.nic.regs, b.nic.misuse, b.clock, b"x").write(0x5555, 0xAA, 1)


def _w(register: str, value: int) -> Callable[[Bench], object]:
    return lambda b: wr(b.nic, register, value)


CASES: dict[str, Callable[[Bench], object]] = {
    "bus-master-off": _bus_master_off,
    "decode-off": _decode_off,
    "power-state": _d3,
    "wake-no-pme": _d3_without_pme,
    "msi-address": _msi,
    "intx-off": _intx_off,
    "io-size": lambda b: b.nic.slot.bar_read(2, 0, 2),
    "io-address": _io,
    "access-size": lambda b: b.nic.slot.bar_read(0, 8, 1),
    "table-size": _table,
    "unknown-register": lambda b: b.nic.mmio_read(0x5818),
    "reserved-bits": _w("RCTL", RX_ON | 1 << 24),
    "read-only": _w("STATUS", 0),
    "eeprom-not-granted": _w("EECD", 2),
    "eerd-while-granted": _eerd_while_granted,
    "eerd-range": _w("EERD", 0xFF01),
    "flash-write": _flash_write,
    "phy-address": _w("MDIC", 0x0840_0000),
    "phy-in-reset": _phy_in_reset,
    "phy-op": _w("MDIC", 0x0C20_0000),
    "mdic-ready-written": _w("MDIC", 0x1820_0000),
    "ctrl-speed": _w("CTRL", 0xB40),
    "lbm-without-phy": _w("RCTL", RX_ON | 0xC0),
    "rx-abort": _rx_abort_ring,
    "rx-data-abort": _rx_abort_data,
    "rx-no-address": _no_address,
    "rx-ring": _w("RDT", 300),
    "rx-early": lambda b: _early(b, "RDLEN", "RCTL", RX_ON),
    "rx-ring-moved": _w("RDLEN", 0x80),
    "rx-head-written": _w("RDH", 7),
    "rctl-reserved": _w("RCTL", RX_ON | 1 << 25),
    "rar-no-av": _w("RAH", 0x5634),
    "rar0-group": _rar0_group,
    "pba-range": _w("PBA", 64),
    "fc-thresholds": _fc_thresholds,
    "fc-type": _fc_type,
    "rx-owned": _rx_owned,
    "rx-dd-left": _rx_dd_left,
    "rx-tail-overrun": _rx_overrun,
    "rx-tail-size": _w("RDT", 256),
    "rx-before-dd": _rx_before_dd,
    "tx-abort": _abort_ring,
    "tx-data-abort": lambda b: post_at(b, 9 << 32),
    "tx-disabled": lambda b: (wr(b.nic, "TCTL", 0), post(b)),
    "tx-dropped": _mixed,
    "tx-link-down": lambda b: (b.link.set_carrier(False), post(b)),
    "tx-ring": lambda b: (wr(b.nic, "TDLEN", 0), post(b)),
    "tx-tso": _tso,
    "tx-tso-pad": _tso_pad,
    "tx-early": lambda b: _early(b, "TDLEN", "TCTL", EN),
    "tx-ring-moved": _w("TDBAL", 0x20_0000),
    "tx-head-written": _w("TDH", 7),
    "tctl-collision": lambda b: (wr(b.nic, "TCTL", 0), wr(b.nic, "TCTL", 10)),
    "tipg-low": _w("TIPG", 0),
    "ring-align": _w("RDBAL", 0x20_0008),
    "ring-length": _w("TDLEN", 0x81),
    "tx-no-rs": _no_rs,
    "tx-no-eop": lambda b: post(b, cmd=8),
    "tx-owned": _tx_owned,
    "tx-dd-left": _tx_dd_left,
    "tx-tail-overrun": _tx_overrun,
    "tx-tail-size": _w("TDT", 256),
    "tx-before-dd": _tx_before_dd,
    "icr-not-pending": _not_pending,
    "ics-as-ack": _ics_as_ack,
    "irq-unacknowledged": _irq_stays,
    "itr-low": _w("ITR", 4),
    "tadv-alone": _w("TADV", 64),
}  # fmt: skip

OPTIONS: dict[str, dict[str, Any]] = {
    "msi-address": {"model": "82545EM"},
    "rx-before-dd": {"writeback_ns": 1000},
    "tx-before-dd": {"writeback_ns": 1000},
}


def bench_for(name: str) -> Bench:
    bench = running(**OPTIONS.get(name, {}))
    bench.nic.watch.audit(True)
    assert bench.nic.misuse.events() == []
    return bench


def test_there_is_a_case_for_each_rule() -> None:
    assert list(CASES) == [rule.name for rule in RULES]
    assert len(RULE_NUMBER) == len(RULES) >= 30
    assert list(check_table()) == []


@pytest.mark.parametrize("name", CASES)
def test_each_rule_is_broken_by_its_case(name: str) -> None:
    bench = bench_for(name)
    CASES[name](bench)
    (event,) = (e for e in bench.nic.misuse.events() if e.name == name)
    rule = RULES[RULE_NUMBER[name]]
    assert event.count >= 1
    assert (event.section, event.register) == (rule.sdm, rule.where)
    assert rule.condition
    assert set(rule.follows) <= set(RULE_NUMBER)
    assert (event.descriptor is None) == (rule.told.descriptor < 0)
    assert "{" not in event.last


# The others are found when somebody asks, or by an engine's counter.
AT_ONCE = [r.name for r in RULES if r.when != "asked" and r.name not in ("tx-tso", "tx-dropped")]


@pytest.mark.parametrize("name", AT_ONCE)
def test_strict_raises_at_the_access(name: str) -> None:
    bench = bench_for(name)
    bench.nic.misuse.strict = True
    with pytest.raises(MisuseError) as caught:
        CASES[name](bench)
    assert any(event.count for event in bench.nic.misuse.events())
    assert ": " in str(caught.value)


def test_a_driver_that_is_right_breaks_no_rule() -> None:
    bench = make_bench()
    bench.nic.misuse.strict = True
    for _ in range(3):
        bench.guest.up(mac=BENCH_MAC, ims=0x84)
        bench.clock.run_for(5_000_000_000)
        for size in range(60, 1514, 9):
            bench.guest.send(frame(size))
            bench.link.inject(frame(size))
            rd(bench.nic, "ICR")
            bench.guest.receive()
    assert bench.nic.misuse.events() == []
    assert bench.nic.misuse.cases() == []


def test_rules_of_rings_cost_nothing_unless_strict(bench: Bench) -> None:
    _rx_owned(bench)
    _tx_owned(bench)
    assert bench.nic.misuse.events() == []


def test_a_driver_that_polls_may_set_rs_now_and_then(bench: Bench) -> None:
    for i in range(200):
        post(bench, cmd=0xB if i % 32 == 31 else 3)
        assert bench.nic.misuse.events() == []


def test_a_ring_that_nobody_can_read_is_left_alone(bench: Bench) -> None:
    bench.nic.misuse.strict = True
    bench.nic.misuse.strict = False
    wr(bench.nic, "TCTL", 0)
    wr(bench.nic, "TDBAH", 0x55)
    aborts = bench.dma.aborts
    wr(bench.nic, "TCTL", EN)
    bench.nic.watch.audit(True)
    bench.nic.watch.rings.doorbell("tx", 4)
    assert bench.nic.misuse.events() == []
    assert bench.dma.aborts == aborts


# --- the ring's size as a tail ------------------------------------------------------------------


@pytest.mark.parametrize(("tail", "rule"), [("TDT", "tx-tail-size"), ("RDT", "rx-tail-size")])
def test_a_tail_of_the_rings_size_is_named(tail: str, rule: str) -> None:
    bench = running(tx_count=16, rx_count=16)
    assert bench.nic.explain() == []
    wr(bench.nic, tail, 16)
    assert rd(bench.nic, tail) == 16
    (event,) = bench.nic.misuse.events()
    assert (event.name, event.count, event.descriptor) == (rule, 1, rd(bench.nic, tail[0] + "DH"))
    said = bench.nic.explain()
    assert any(f"{tail} is the ring's size, which is no index" in line for line in said)
    assert any(line.startswith(f"Misuse: {rule} x1: {tail}=16 of 16 descriptors") for line in said)
    bench.nic.misuse.strict = True
    with pytest.raises(MisuseError, match="wrap"):
        wr(bench.nic, tail, 16)


def test_a_tail_of_the_rings_size_works_as_it_does_on_silicon() -> None:
    """OS/2 writes RDT = RDLEN / 16; what lies between head and the ring's end is meant."""
    bench = running(tx_count=16, rx_count=16)
    for _ in range(5):
        post(bench)
    bench.guest.reap()
    for _ in range(11):
        bench.guest.post_legacy(frame())
    wr(bench.nic, "TDT", 16)
    assert (len(bench.link.take()), rd(bench.nic, "TDH")) == (16, 0)
    wr(bench.nic, "RDT", 16)
    assert bench.link.inject(*[frame()] * 16) == 16
    assert len(bench.guest.receive(refill=False)) == 16


def test_a_tail_set_before_the_ring_is_none_of_its_size() -> None:
    bench = make_bench()
    for name in ("TDT", "RDT"):
        wr(bench.nic, name, 0)
        wr(bench.nic, name, 7)
    assert not {"tx-tail-size", "rx-tail-size"} & {e.name for e in bench.nic.misuse.events()}


# --- RS, ICS --------------------------------------------------------------------------------------


def test_one_descriptor_without_rs_is_told_to_who_asks(bench: Bench) -> None:
    post(bench, cmd=3)
    assert bench.nic.misuse.events() == []  # a driver may set it on each 32nd
    said = "Transmit: none of the 1 descriptors sent so far has RS: no DD was written, TXDW stays"
    assert any(line.startswith(said) for line in bench.nic.explain())
    post(bench, cmd=0xB)
    assert not any("RS" in line for line in bench.nic.explain())


def _handle(b: Bench, mask: int = 0xFFFFFFFF) -> int:
    causes = rd(b.nic, "ICR")
    wr(b.nic, "ICS", causes & mask)
    return causes


def test_ics_as_the_acknowledge_of_icr_is_named(bench: Bench) -> None:
    wr(bench.nic, "IMS", 1)
    post(bench)
    assert _handle(bench) & 1
    assert bench.line.level
    assert "ICS got what ICR had given" in "".join(bench.nic.explain())
    assert bench.nic.misuse.count("ics-as-ack") == 0
    assert _handle(bench) & 1
    assert bench.nic.misuse.count("ics-as-ack") == 1
    rd(bench.nic, "ICR")
    assert "ICS got" not in "".join(bench.nic.explain()[:1])
    bench.nic.misuse.strict = True
    post(bench)
    _handle(bench)
    with pytest.raises(MisuseError, match="ICS sets causes"):
        _handle(bench)


def test_drivers_that_ask_for_an_interrupt_are_left_alone(bench: Bench) -> None:
    """Linux's watchdog writes ICS each 2 s; `ethtool -t` sets each cause, and reads it, twice."""
    wr(bench.nic, "IMS", 0x10)
    for _ in range(5):
        bench.clock.run_for(2_000_000_000)
        wr(bench.nic, "ICS", 0x10)
        assert rd(bench.nic, "ICR") == 0x10
    for n in range(10):
        bit = 1 << n
        wr(bench.nic, "IMC", 0xFFFFFFFF)
        wr(bench.nic, "ICS", bit)
        wr(bench.nic, "IMS", bit)
        assert rd(bench.nic, "ICR") & bit
        wr(bench.nic, "ICS", bit)
        assert rd(bench.nic, "ICR") & bit
        wr(bench.nic, "IMC", 0xFFFFFFFF)
        wr(bench.nic, "ICS", ~bit & 0x7FFF)
        rd(bench.nic, "ICR")
    assert bench.nic.misuse.count("ics-as-ack") == 0


# --- causes and consequences ----------------------------------------------------------------------


def _misaligned(b: Bench, register: str) -> None:
    wr(b.nic, "TCTL", 0)
    wr(b.nic, "RCTL", 0)
    wr(b.nic, register, rd(b.nic, register) + 8)
    wr(b.nic, "TCTL", EN)


def test_what_follows_from_a_misaligned_ring_stands_below_it(bench: Bench) -> None:
    _misaligned(bench, "TDBAL")
    wr(bench.nic, "TDT", 256)
    wr(bench.nic, "TDT", 0)
    post(bench, cmd=8)
    events = bench.nic.misuse.events()
    order = [(event.name, event.because) for event in events]
    at = order.index(("ring-align", ""))
    assert order[at + 1] == ("tx-no-eop", "ring-align")
    said = bench.nic.explain()
    at = next(i for i, line in enumerate(said) if "ring-align" in line)
    assert said[at].startswith("Misuse: ring-align")
    assert said[at + 1].startswith("  and so: tx-no-eop x1: TDH=TDT=1 inside a frame")
    assert str(events[1 + [e.name for e in events].index("ring-align")]).endswith(
        "follows from ring-align"
    )


def test_the_other_ring_is_no_cause(bench: Bench) -> None:
    _misaligned(bench, "RDBAL")
    post(bench, cmd=8)
    assert {(e.name, e.because) for e in bench.nic.misuse.events()} == {
        ("ring-align", ""),
        ("tx-no-eop", ""),
    }


def test_no_rule_follows_from_itself() -> None:
    def behind(name: str) -> set[str]:
        causes = set(RULES[RULE_NUMBER[name]].follows)
        return causes.union(*map(behind, causes))

    assert all(rule.name not in behind(rule.name) for rule in RULES)
