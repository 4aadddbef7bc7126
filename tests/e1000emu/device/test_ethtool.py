"""The five tests of `ethtool -t eth0 offline` as Linux's e1000 does them, register by register.

Sequences follow the description of e1000_ethtool.c in the project's design notes; no driver code
runs here.  Each test begins with the driver's reset, which goes through the I/O BAR.
"""

from __future__ import annotations

import struct

import pytest

from e1000emu.device.nic import Nic
from e1000emu.registers.regs import reg
from e1000emu.testing.bench import Bench, make_bench
from e1000emu.testing.guest import TxCmd
from tests.e1000emu.common import off, rd, wr
from tests.e1000emu.device.test_eeprom import Bitbang
from tests.e1000emu.device.test_phy import phy_read, phy_write

ALL = 0xFFFFFFFF
PATTERNS = (0x5A5A5A5A, 0xA5A5A5A5, 0, ALL)
MILLISECOND = 1_000_000


def io_write(nic: Nic, name: str, value: int) -> None:
    nic.slot.bar_write(2, 0, off(name), 4)
    nic.slot.bar_write(2, 4, value, 4)


def reset_hw(bench: Bench) -> None:
    nic = bench.nic
    wr(nic, "IMC", ALL)
    wr(nic, "RCTL", 0)
    wr(nic, "TCTL", 8)
    rd(nic, "STATUS")
    bench.clock.run_for(10 * MILLISECOND)
    io_write(nic, "CTRL", rd(nic, "CTRL") | 1 << 26)
    bench.clock.run_for(5 * MILLISECOND)
    wr(nic, "MANC", rd(nic, "MANC") & ~0x2000)
    wr(nic, "IMC", ALL)
    rd(nic, "ICR")


@pytest.fixture
def bench() -> Bench:
    made = make_bench()
    wr(made.nic, "CTRL", 0x40)
    made.clock.run_for(5_000 * MILLISECOND)
    return made


# --- link -----------------------------------------------------------------------------------------


def test_link(bench: Bench) -> None:
    phy_read(bench.nic, 1)
    assert phy_read(bench.nic, 1) & 4
    assert rd(bench.nic, "STATUS") & 2


# --- registers ------------------------------------------------------------------------------------

PATTERN_TESTS = (
    ("FCAL", ALL, ALL),
    ("FCAH", 0x0000FFFF, ALL),
    ("FCT", 0x0000FFFF, ALL),
    ("VET", 0x0000FFFF, ALL),
    ("RDTR", 0x0000FFFF, ALL),
    ("RDBAH", ALL, ALL),
    ("RDLEN", 0x000FFF80, 0x000FFFFF),
    ("RDH", 0x0000FFFF, 0x0000FFFF),
    ("RDT", 0x0000FFFF, 0x0000FFFF),
    ("FCRTH", 0x0000FFF8, 0x0000FFF8),
    ("FCTTV", 0x0000FFFF, 0x0000FFFF),
    ("TIPG", 0x3FFFFFFF, 0x3FFFFFFF),
    ("TDBAH", ALL, ALL),
    ("TDLEN", 0x000FFF80, 0x000FFFFF),
)
LATER_PATTERN_TESTS = (
    ("RDBAL", 0xFFFFFFF0, ALL),
    ("TXCW", 0xC000FFFF, 0x0000FFFF),
    ("TDBAL", 0xFFFFFFF0, ALL),
    ("TIDV", 0x0000FFFF, 0x0000FFFF),
)


def pattern_test(nic: Nic, offset: int, mask: int, write: int) -> None:
    for pattern in PATTERNS:
        nic.mmio_write(offset, write & pattern)
        got = nic.mmio_read(offset)
        assert got == write & pattern & mask, f"{offset:#x}: {got:#x} after {write & pattern:#x}"


def set_and_check(nic: Nic, name: str, mask: int, write: int) -> None:
    wr(nic, name, write & mask)
    assert rd(nic, name) & mask == write & mask


def test_registers(bench: Bench, nic: Nic) -> None:
    reset_hw(bench)
    before = rd(nic, "STATUS") & 0xFFFFF833
    wr(nic, "STATUS", 0xFFFFF833)
    assert rd(nic, "STATUS") & 0xFFFFF833 == before
    wr(nic, "STATUS", before)
    for name, mask, write in PATTERN_TESTS:
        pattern_test(nic, off(name), mask, write)
    set_and_check(nic, "RCTL", ALL, 0)
    set_and_check(nic, "RCTL", 0x06DFB3FE, 0x003FFFFB)
    set_and_check(nic, "TCTL", ALL, 0)
    set_and_check(nic, "RCTL", 0x06DFB3FE, ALL)
    for name, mask, write in LATER_PATTERN_TESTS:
        pattern_test(nic, off(name), mask, write)
    for i in range(15):
        pattern_test(nic, reg("RAH").offsets[i], 0x8003FFFF, ALL)
    for offset in reg("MTA").offsets:
        pattern_test(nic, offset, ALL, ALL)
    # The receiver is on now with the wildest ring there is; frames must not hurt.
    for size in (14, 60, 1514, 9000):
        bench.link.inject(bytes([0xFF] * size))
    reset_hw(bench)
    assert rd(nic, "RCTL") == 0
    assert rd(nic, "RDBAH") == 0
    assert rd(nic, "RDLEN") == 0
    assert rd(nic, "FCAL") == 0x00C28001


def test_registers_again_with_receive_address_15(bench: Bench) -> None:
    reset_hw(bench)
    pattern_test(bench.nic, reg("RAH").offsets[15], 0x8003FFFF, ALL)
    pattern_test(bench.nic, reg("RAL").offsets[15], ALL, ALL)


# --- EEPROM ---------------------------------------------------------------------------------------


def test_eeprom(bench: Bench) -> None:
    reset_hw(bench)
    bus = Bitbang(bench.nic)
    assert sum(bus.read(i)[0] for i in range(0x40)) & 0xFFFF == 0xBABA


# --- interrupts -----------------------------------------------------------------------------------


def test_interrupts(bench: Bench) -> None:
    nic, line, clock = bench.nic, bench.line, bench.clock
    reset_hw(bench)
    test_icr = 0

    def handler() -> None:
        nonlocal test_icr
        test_icr |= rd(nic, "ICR")

    line.on_rise = handler
    wr(nic, "IMC", ALL)
    clock.run_for(10 * MILLISECOND)
    for i in range(10):
        mask = 1 << i
        test_icr = 0
        wr(nic, "IMC", mask)
        wr(nic, "ICS", mask)
        clock.run_for(10 * MILLISECOND)
        assert not test_icr & mask, f"cause {i} came through its mask"

        test_icr = 0
        wr(nic, "IMS", mask)
        wr(nic, "ICS", mask)
        clock.run_for(10 * MILLISECOND)
        assert test_icr & mask, f"cause {i} did not come"

        test_icr = 0
        wr(nic, "IMC", ~mask & 0x7FFF)
        wr(nic, "ICS", ~mask & 0x7FFF)
        clock.run_for(10 * MILLISECOND)
        assert test_icr == 0, f"another cause than {i} came"
    wr(nic, "IMC", ALL)
    clock.run_for(10 * MILLISECOND)
    assert not line.level


# --- loopback -------------------------------------------------------------------------------------

COUNT, FRAME_BYTES = 256, 1024


def loop_frame() -> bytes:
    body = bytearray(b"\xff" * FRAME_BYTES)
    half = FRAME_BYTES // 2
    body[half : FRAME_BYTES - 1] = b"\xaa" * (FRAME_BYTES - 1 - half)
    body[half + 10] = 0xBE
    body[half + 12] = 0xAF
    return bytes(body)


@pytest.mark.parametrize("recycle", [False, True])
@pytest.mark.parametrize("carrier", [True, False])
def test_loopback(bench: Bench, carrier: bool, recycle: bool) -> None:
    """The driver never moves RDT again and finds old frames once the ring is full; `recycle` does.

    Either way transmit must not stop when receive has no descriptors left.
    """
    nic, ram, clock = bench.nic, bench.memory, bench.clock
    bench.link.set_carrier(carrier)
    reset_hw(bench)
    phy_write(nic, 0, 0x1140)
    tx_ring, rx_ring = ram.alloc(16 * COUNT, 4096), ram.alloc(16 * COUNT, 4096)
    data = loop_frame()
    tx_buffers = [ram.alloc(2048) for _ in range(COUNT)]
    rx_buffers = [ram.alloc(2048) for _ in range(COUNT)]
    wr(nic, "TDBAL", tx_ring & ALL)
    wr(nic, "TDBAH", tx_ring >> 32)
    wr(nic, "TDLEN", 16 * COUNT)
    wr(nic, "TDH", 0)
    wr(nic, "TDT", 0)
    wr(nic, "TCTL", 0x0004010A)
    cmd = TxCmd.EOP | TxCmd.IFCS | TxCmd.RPS
    for i in range(COUNT):
        descriptor = struct.pack("<QHBBBBH", tx_buffers[i], FRAME_BYTES, 0, int(cmd), 0, 0, 0)
        ram.write(tx_ring + 16 * i, descriptor)
        ram.write(tx_buffers[i], data)
        ram.write(rx_ring + 16 * i, struct.pack("<QQ", rx_buffers[i], 0))
        ram.write(rx_buffers[i], bytes(2048))
    wr(nic, "RCTL", rd(nic, "RCTL") & ~2)
    wr(nic, "RDBAL", rx_ring & ALL)
    wr(nic, "RDBAH", rx_ring >> 32)
    wr(nic, "RDLEN", 16 * COUNT)
    wr(nic, "RDH", 0)
    wr(nic, "RDT", 0)
    wr(nic, "RCTL", 0x8002)

    phy_write(nic, 16, 0x0808)
    phy_write(nic, 0, 0x9140)
    phy_write(nic, 0, 0x8140)
    phy_write(nic, 0, 0x4140)
    ctrl = rd(nic, "CTRL") & ~0x300
    wr(nic, "CTRL", ctrl | 0x800 | 0x1000 | 0x200 | 1 | 0x80 | 0x40)
    for page, value in ((0x1F, 0x8FFC), (0x1A, 0x8FF0)):
        phy_write(nic, 29, page)
        phy_write(nic, 30, value)
    clock.run_for(MILLISECOND // 2)
    assert rd(nic, "STATUS") & 2

    wr(nic, "RDT", COUNT - 1)
    k = lap = 0
    for _ in range(2 * (COUNT // 64) + 2):
        k = (k + 64) % COUNT
        wr(nic, "TDT", k)
        clock.run_for(200 * MILLISECOND)
        assert rd(nic, "TDH") == k
        good = 0
        for _ in range(64 if recycle else COUNT):
            got = ram.read(rx_buffers[lap], FRAME_BYTES)
            good += got == data
            if recycle:
                ram.write(rx_buffers[lap], bytes(2048))
                wr(nic, "RDT", lap)
            lap = (lap + 1) % COUNT
            if good == 64:
                break
        assert good == 64
    assert bench.link.frames == []
    phy_write(nic, 0, 0x9140)
    reset_hw(bench)
    wr(nic, "CTRL", rd(nic, "CTRL") | 0x40)
    clock.run_for(5_000 * MILLISECOND)
    assert bool(rd(nic, "STATUS") & 2) == carrier
