"""The Microwire EEPROM, bit by bit through EECD (the EEPROM half of e1000_hw.c; SDM 5.2, 13.4.3).

Parts: 93C46 (64 words, 6 address bits) and 93C66 (256 words, 8 address bits); EECD.SIZE selects.
"""

from __future__ import annotations

from stack.core.pci import udelay
from stack.drivers.e1000 import defs as d
from stack.drivers.e1000.e1000 import E1000_WRITE_FLUSH, E1000HwError, e1000_hw, er32, ew32

EE_DELAY_USEC = 2
"""Half a clock of SK in us. A 93C46 allows 1 MHz at 3.3 V; with the kernel's 50 us probe takes
0.2 s."""
WRITE_ATTEMPTS = 200  # times 50 us: a word takes up to 10 ms to burn


def e1000_init_eeprom_params(hw: e1000_hw) -> None:
    """e1000_hw.c: read the size of the EEPROM from EECD."""
    eeprom = hw.eeprom
    eeprom.opcode_bits = 3
    if er32(hw, d.E1000_EECD) & d.E1000_EECD_SIZE:
        eeprom.word_size = 256
        eeprom.address_bits = 8
    else:
        eeprom.word_size = 64
        eeprom.address_bits = 6


def e1000_raise_ee_clk(hw: e1000_hw, eecd: int) -> int:
    """e1000_hw.c: SK high; return the new EECD."""
    eecd |= d.E1000_EECD_SK
    ew32(hw, d.E1000_EECD, eecd)
    E1000_WRITE_FLUSH(hw)
    udelay(hw.machine, EE_DELAY_USEC)
    return eecd


def e1000_lower_ee_clk(hw: e1000_hw, eecd: int) -> int:
    """e1000_hw.c: SK low; return the new EECD."""
    eecd &= ~d.E1000_EECD_SK
    ew32(hw, d.E1000_EECD, eecd)
    E1000_WRITE_FLUSH(hw)
    udelay(hw.machine, EE_DELAY_USEC)
    return eecd


def e1000_shift_out_ee_bits(hw: e1000_hw, data: int, count: int) -> None:
    """e1000_hw.c: send the low `count` bits of `data`, most significant first."""
    eecd = er32(hw, d.E1000_EECD) & ~d.E1000_EECD_DO
    for bit in range(count - 1, -1, -1):
        eecd &= ~d.E1000_EECD_DI
        if data >> bit & 1:
            eecd |= d.E1000_EECD_DI
        ew32(hw, d.E1000_EECD, eecd)
        E1000_WRITE_FLUSH(hw)
        udelay(hw.machine, EE_DELAY_USEC)
        eecd = e1000_raise_ee_clk(hw, eecd)
        eecd = e1000_lower_ee_clk(hw, eecd)
    ew32(hw, d.E1000_EECD, eecd & ~d.E1000_EECD_DI)


def e1000_shift_in_ee_bits(hw: e1000_hw, count: int) -> int:
    """e1000_hw.c: clock `count` bits out of the EEPROM."""
    eecd = er32(hw, d.E1000_EECD) & ~(d.E1000_EECD_DO | d.E1000_EECD_DI)
    data = 0
    for _ in range(count):
        e1000_raise_ee_clk(hw, eecd)
        eecd = er32(hw, d.E1000_EECD) & ~d.E1000_EECD_DI
        data = data << 1 | (1 if eecd & d.E1000_EECD_DO else 0)
        e1000_lower_ee_clk(hw, eecd)
    return data


def e1000_acquire_eeprom(hw: e1000_hw) -> None:
    """e1000_hw.c: request the EEPROM (82544 has no arbiter) and select it.

    Raises: E1000HwError: the request is not granted.
    """
    eecd = er32(hw, d.E1000_EECD)
    if hw.mac_type > d.e1000_82544:
        ew32(hw, d.E1000_EECD, eecd | d.E1000_EECD_REQ)
        eecd = er32(hw, d.E1000_EECD)
        attempts = 0
        while not eecd & d.E1000_EECD_GNT:
            if attempts >= d.E1000_EEPROM_GRANT_ATTEMPTS:
                ew32(hw, d.E1000_EECD, eecd & ~d.E1000_EECD_REQ)
                raise E1000HwError("EEPROM", "could not acquire EEPROM grant")
            attempts += 1
            udelay(hw.machine, 5)
            eecd = er32(hw, d.E1000_EECD)
    eecd &= ~(d.E1000_EECD_DI | d.E1000_EECD_SK)
    ew32(hw, d.E1000_EECD, eecd)
    ew32(hw, d.E1000_EECD, eecd | d.E1000_EECD_CS)


def e1000_standby_eeprom(hw: e1000_hw) -> None:
    """e1000_hw.c: end a command: CS low for one clock, CS high again."""
    eecd = er32(hw, d.E1000_EECD) & ~(d.E1000_EECD_CS | d.E1000_EECD_SK)
    ew32(hw, d.E1000_EECD, eecd)
    E1000_WRITE_FLUSH(hw)
    udelay(hw.machine, EE_DELAY_USEC)
    eecd = e1000_raise_ee_clk(hw, eecd)
    eecd |= d.E1000_EECD_CS
    ew32(hw, d.E1000_EECD, eecd)
    E1000_WRITE_FLUSH(hw)
    udelay(hw.machine, EE_DELAY_USEC)
    e1000_lower_ee_clk(hw, eecd)


def e1000_release_eeprom(hw: e1000_hw) -> None:
    """e1000_hw.c: deselect and release the EEPROM to the hardware."""
    eecd = er32(hw, d.E1000_EECD) & ~(d.E1000_EECD_CS | d.E1000_EECD_DI)
    ew32(hw, d.E1000_EECD, eecd)
    eecd = e1000_raise_ee_clk(hw, eecd)
    eecd = e1000_lower_ee_clk(hw, eecd)
    if hw.mac_type > d.e1000_82544:
        ew32(hw, d.E1000_EECD, eecd & ~d.E1000_EECD_REQ)


def _check_range(hw: e1000_hw, offset: int, words: int) -> None:
    if offset < 0 or words < 1 or offset + words > hw.eeprom.word_size:
        raise E1000HwError(
            "EEPROM",
            f"words {offset}..{offset + words - 1} are not in an EEPROM of {hw.eeprom.word_size}",
        )


def e1000_read_eeprom(hw: e1000_hw, offset: int, words: int = 1) -> list[int]:
    """e1000_hw.c: read `words` 16-bit words from word `offset`.

    Raises: E1000HwError: out of range, or the EEPROM is not granted.
    """
    _check_range(hw, offset, words)
    e1000_acquire_eeprom(hw)
    try:
        data = []
        for index in range(words):
            e1000_shift_out_ee_bits(hw, d.EEPROM_READ_OPCODE_MICROWIRE, hw.eeprom.opcode_bits)
            e1000_shift_out_ee_bits(hw, offset + index, hw.eeprom.address_bits)
            data.append(e1000_shift_in_ee_bits(hw, 16))
            e1000_standby_eeprom(hw)
        return data
    finally:
        e1000_release_eeprom(hw)


def e1000_write_eeprom(hw: e1000_hw, offset: int, data: list[int]) -> None:
    """e1000_hw.c: write words from word `offset`. The caller updates the checksum.

    Raises: E1000HwError: out of range, not granted, or a word does not finish.
    """
    _check_range(hw, offset, len(data))
    e1000_acquire_eeprom(hw)
    try:
        e1000_write_eeprom_microwire(hw, offset, data)
    finally:
        e1000_release_eeprom(hw)


def e1000_write_eeprom_microwire(hw: e1000_hw, offset: int, data: list[int]) -> None:
    """e1000_hw.c: enable writing, burn each word and wait for it, disable writing."""
    eeprom = hw.eeprom
    e1000_shift_out_ee_bits(hw, d.EEPROM_EWEN_OPCODE_MICROWIRE, eeprom.opcode_bits + 2)
    e1000_shift_out_ee_bits(hw, 0, eeprom.address_bits - 2)
    e1000_standby_eeprom(hw)
    for index, word in enumerate(data):
        e1000_shift_out_ee_bits(hw, d.EEPROM_WRITE_OPCODE_MICROWIRE, eeprom.opcode_bits)
        e1000_shift_out_ee_bits(hw, offset + index, eeprom.address_bits)
        e1000_shift_out_ee_bits(hw, word & 0xFFFF, 16)
        e1000_standby_eeprom(hw)  # CS low starts the burn; then DO is low while busy
        for _ in range(WRITE_ATTEMPTS):
            if er32(hw, d.E1000_EECD) & d.E1000_EECD_DO:
                break
            udelay(hw.machine, 50)
        else:
            raise E1000HwError("EEPROM", f"EEPROM word {offset + index} write did not complete")
        e1000_standby_eeprom(hw)
    e1000_shift_out_ee_bits(hw, d.EEPROM_EWDS_OPCODE_MICROWIRE, eeprom.opcode_bits + 2)
    e1000_shift_out_ee_bits(hw, 0, eeprom.address_bits - 2)


def e1000_validate_eeprom_checksum(hw: e1000_hw) -> None:
    """e1000_hw.c: words 0..3Fh must sum to BABAh. Raises: E1000HwError: they do not."""
    total = sum(e1000_read_eeprom(hw, 0, d.EEPROM_CHECKSUM_REG + 1)) & 0xFFFF
    if total != d.EEPROM_SUM:
        raise E1000HwError("EEPROM", f"EEPROM checksum is {total:#06x}, not {d.EEPROM_SUM:#06x}")


def e1000_update_eeprom_checksum(hw: e1000_hw) -> None:
    """e1000_hw.c: rewrite word 3Fh so that the sum is right."""
    total = sum(e1000_read_eeprom(hw, 0, d.EEPROM_CHECKSUM_REG))
    e1000_write_eeprom(hw, d.EEPROM_CHECKSUM_REG, [d.EEPROM_SUM - total & 0xFFFF])


def e1000_read_mac_addr(hw: e1000_hw) -> bytes:
    """e1000_hw.c: read words 0..2 (each low byte first) into hw.perm_mac_addr and hw.mac_addr."""
    words = e1000_read_eeprom(hw, 0, 3)
    hw.perm_mac_addr = b"".join(word.to_bytes(2, "little") for word in words)
    hw.mac_addr = hw.perm_mac_addr
    return hw.mac_addr
