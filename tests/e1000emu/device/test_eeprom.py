"""EECD and EERD as a driver uses them; the chip alone is in tests/fastpath/test_microwire.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers.models import MODELS
from e1000emu.testing.bench import Bench, make_bench
from fastpath.nic.microwire import WRITE_NS
from tests.e1000emu.witness import witness

EECD, EERD = 0x10, 0x14
SK, CS, DI, DO, REQ, GNT = 1, 2, 4, 8, 0x40, 0x80


@pytest.fixture
def bench() -> Bench:
    return make_bench()


class Bitbang:
    """The Linux driver's Microwire sequence over EECD, from the description of its steps."""

    def __init__(self, nic: Nic, address_bits: int = 6) -> None:
        self.nic = nic
        self.bits = address_bits

    def eecd(self, clear: int = 0, set_: int = 0) -> int:
        value = self.nic.mmio_read(EECD) & ~clear | set_
        self.nic.mmio_write(EECD, value)
        return value

    def acquire(self) -> None:
        assert self.eecd(0, REQ) & REQ
        assert self.nic.mmio_read(EECD) & GNT
        self.eecd(DI | SK)
        self.eecd(0, CS)

    def release(self) -> None:
        self.eecd(CS | DI)
        self.eecd(0, SK)
        self.eecd(SK)
        self.eecd(REQ)
        assert not self.nic.mmio_read(EECD) & GNT

    def standby(self) -> None:
        self.eecd(CS | SK)
        self.eecd(0, SK)
        self.eecd(0, CS)
        self.eecd(SK)

    def out(self, value: int, count: int) -> None:
        for i in reversed(range(count)):
            self.eecd(DI, DI if value >> i & 1 else 0)
            self.eecd(0, SK)
            self.eecd(SK)
        self.eecd(DI)

    def inp(self, count: int = 16) -> int:
        value = 0
        for _ in range(count):
            self.eecd(0, SK)
            value = value << 1 | bool(self.nic.mmio_read(EECD) & DO)
            self.eecd(SK)
        return value

    def read(self, word: int, count: int = 1) -> list[int]:
        self.acquire()
        self.out(0b110, 3)
        self.out(word, self.bits)
        got = [self.inp() for _ in range(count)]
        self.release()
        return got

    def enable(self, on: bool = True) -> None:
        self.out(0b10011 if on else 0b10000, 5)
        self.out(0, self.bits - 2)
        self.standby()

    def command(self, opcode: int, address: int, data: int | None = None) -> None:
        self.out(opcode, 3)
        self.out(address, self.bits)
        if data is not None:
            self.out(data, 16)
        self.standby()

    def ready(self) -> bool:
        return bool(self.nic.mmio_read(EECD) & DO)


@witness("EECD.EE_PRES")
@witness("EECD.SK", "EECD.CS", "EECD.DI", "EECD.DO", "EECD.EE_REQ", "EECD.EE_GNT")
@pytest.mark.parametrize("words", [64, pytest.param(256, marks=witness("EECD.EE_SIZE"))])
def test_bitbang_reads_every_word(words: int) -> None:
    bench = make_bench(model=replace(MODELS["82540EM"], eeprom_words=words))
    bus = Bitbang(bench.nic, 6 if words == 64 else 8)
    assert bool(bench.nic.mmio_read(EECD) & 0x200) == (words == 256)
    assert bench.nic.mmio_read(EECD) & 0x100
    got = [bus.read(i)[0] for i in range(words)]
    assert got == bench.nic.eeprom.words
    assert sum(got[:64]) & 0xFFFF == 0xBABA


def test_sequential_read_goes_on_and_wraps(bench: Bench) -> None:
    words = bench.nic.eeprom.words
    assert Bitbang(bench.nic).read(62, 4) == [words[62], words[63], words[0], words[1]]


def test_write_needs_ewen_and_reports_busy_then_ready(bench: Bench) -> None:
    bus, words = Bitbang(bench.nic), bench.nic.eeprom.words
    bus.acquire()
    bus.command(0b101, 0x10, 0x1234)
    assert words[0x10] == 0xFFFF
    bus.enable()
    bus.command(0b101, 0x10, 0x1234)
    assert not bus.ready()
    bench.clock.run_for(WRITE_NS - 1)
    assert not bus.ready()
    bench.clock.run_for(1)
    assert bus.ready()
    assert words[0x10] == 0x1234
    bus.standby()
    bus.enable(False)
    bus.command(0b101, 0x10, 0x5678)
    assert words[0x10] == 0x1234
    bus.release()
    assert bus.read(0x10) == [0x1234]


def test_busy_chip_takes_no_command(bench: Bench) -> None:
    bus, words = Bitbang(bench.nic), bench.nic.eeprom.words
    bus.acquire()
    bus.enable()
    bus.command(0b101, 0x10, 0x1111)
    bus.command(0b101, 0x11, 0x2222)
    assert words[0x11] == 0xFFFF
    bench.clock.run_for(WRITE_NS)
    bus.standby()
    bus.command(0b101, 0x11, 0x2222)
    assert words[0x11] == 0x2222


def test_erase_and_write_all(bench: Bench) -> None:
    bus, words = Bitbang(bench.nic), bench.nic.eeprom.words
    bus.acquire()
    bus.enable()
    bus.command(0b111, 0x0D)
    bench.clock.run_for(20_000_000)
    assert words[0x0D] == 0xFFFF
    bus.standby()
    bus.command(0b100, 0b010000, 0xABCD)  # WRAL
    bench.clock.run_for(20_000_000)
    assert set(words) == {0xABCD}
    bus.standby()
    bus.command(0b100, 0b100000)  # ERAL
    bench.clock.run_for(20_000_000)
    assert set(words) == {0xFFFF}


def test_erased_eeprom_loads_no_address(bench: Bench) -> None:
    bench.nic.eeprom.words[:] = [0xFFFF] * 64
    bench.nic.power_on_reset()
    assert not bench.nic.filters.any_address()
    assert bench.nic.pci.config_read(0, 4) == 0x100E8086


@witness("CTRL_EXT.EE_RST")
def test_new_address_comes_with_ee_rst(bench: Bench) -> None:
    bench.nic.eeprom.words[:3] = [0x2211, 0x4433, 0x6655]
    bench.nic.eeprom.words[0] &= 0xFFFE
    bench.nic.mmio_write(0x18, 0x2000)
    assert bench.nic.mac == bytes([0x10, 0x22, 0x33, 0x44, 0x55, 0x66])
    assert not bench.nic.mmio_read(0x18) & 0x2000


def test_pins_are_dead_without_grant(bench: Bench) -> None:
    nic = bench.nic
    nic.mmio_write(EECD, CS)
    assert nic.misuse.count("eeprom-not-granted") == 1
    assert not nic.mmio_read(EECD) & GNT


def test_the_82544_has_no_grant() -> None:
    nic = make_bench(model="82544GC").nic
    nic.mmio_write(EECD, REQ)
    assert not nic.mmio_read(EECD) & GNT
    nic.mmio_write(EECD, 0)
    value = 0
    for bit in "110" + f"{2:06b}" + "0" * 16:  # start, READ, address, and 16 clocks for the data
        di = DI if bit == "1" else 0
        nic.mmio_write(EECD, CS | di)
        nic.mmio_write(EECD, CS | di | SK)
        value = value << 1 | bool(nic.mmio_read(EECD) & DO)
    assert value & 0xFFFF == nic.eeprom.words[2]
    assert nic.misuse.count("eeprom-not-granted") == 0


@witness("EERD.START", "EERD.ADDR", "EERD.DONE", "EERD.DATA")
def test_eerd_reads_every_word_and_wraps_past_the_end(nic: Nic) -> None:
    for i in range(64):
        nic.mmio_write(EERD, i << 8 | 1)
        value = nic.mmio_read(EERD)
        assert value & 0x11 == 0x10
        assert value >> 16 == nic.eeprom.words[i]
    nic.mmio_write(EERD, 0xFF << 8 | 1)
    assert nic.mmio_read(EERD) >> 16 == nic.eeprom.words[63]
    assert nic.misuse.count("eerd-range") == 1


def test_eerd_waits_while_software_has_the_chip(nic: Nic) -> None:
    nic.mmio_write(EECD, REQ)
    nic.mmio_write(EERD, 1)
    assert not nic.mmio_read(EERD) & 0x10
    assert nic.misuse.count("eerd-while-granted") == 1


def test_eerd_started_while_software_had_the_chip_ends_with_the_release() -> None:
    bench, other = make_bench(), make_bench()
    nic = bench.nic
    nic.mmio_write(EECD, REQ)
    nic.mmio_write(EERD, 2 << 8 | 1)
    other.nic.load_state(nic.state())
    for waiting in (nic, other.nic):
        waiting.mmio_write(EECD, REQ | CS)
        assert not waiting.mmio_read(EERD) & 0x10
        waiting.mmio_write(EECD, 0)
        assert waiting.mmio_read(EERD) == nic.eeprom.words[2] << 16 | 2 << 8 | 0x10


def test_eerd_that_waits_is_forgotten_by_a_reset_and_by_the_next_write(nic: Nic) -> None:
    for forget in (lambda: nic.mmio_write(EERD, 3 << 8), nic.reset):
        nic.mmio_write(EECD, REQ)
        nic.mmio_write(EERD, 2 << 8 | 1)
        forget()
        nic.mmio_write(EECD, 0)
        assert not nic.mmio_read(EERD) & 0x10


def test_thousand_clocks_without_select_do_nothing(nic: Nic) -> None:
    before = list(nic.eeprom.words)
    for _ in range(1000):
        nic.mmio_write(EECD, REQ | SK | DI)
        nic.mmio_write(EECD, REQ)
    assert nic.eeprom.words == before
