"""Offsets of registers, and the bits read by engines: the twin of ``fastpath.nic.e1000_hw``."""

from __future__ import annotations

REGISTERS = {
    "CTRL": 0x0000,
    "FCT": 0x0030,
    "VET": 0x0038,
    "RCTL": 0x0100,
    "TCTL": 0x0400,
    "FCRTL": 0x2160,
    "FCRTH": 0x2168,
    "RDBAL": 0x2800,
    "RDBAH": 0x2804,
    "RDLEN": 0x2808,
    "RDH": 0x2810,
    "RDT": 0x2818,
    "RSRPD": 0x2C00,
    "TDBAL": 0x3800,
    "TDBAH": 0x3804,
    "TDLEN": 0x3808,
    "TDH": 0x3810,
    "TDT": 0x3818,
    "TIDV": 0x3820,
    "TXDCTL": 0x3828,
    "RXCSUM": 0x5000,
    "MTA": 0x5200,
    "RAL": 0x5400,
    "RAH": 0x5404,
    "VFTA": 0x5600,
}
"""Byte offsets in BAR 0."""
CTRL_RFCE, CTRL_TFCE, CTRL_VME = 1 << 27, 1 << 28, 1 << 30
FCRTL_RTL = FCRTH_RTH = 0xFFF8
TCTL_EN, TCTL_PSP = 0x2, 0x8


class Registers:
    """The registers that engines read, by name."""

    def __init__(self, file: object) -> None:
        self.file = file

    def __getitem__(self, name: str) -> int:
        value: int = self.file.peek(REGISTERS[name])  # type: ignore[attr-defined]
        return value

    def __setitem__(self, name: str, value: int) -> None:
        self.file.poke(REGISTERS[name], value)  # type: ignore[attr-defined]

    def array(self, name: str, i: int, step: int = 4) -> int:
        """Return element `i` of an array of registers `step` bytes apart."""
        value: int = self.file.peek(REGISTERS[name] + step * i)  # type: ignore[attr-defined]
        return value
