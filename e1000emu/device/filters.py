"""Address and VLAN filters: RAL/RAH, MTA and VFTA (SDM 13.5).

The receive engine's filter reads the registers in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.registers.regs import reg
from fastpath.nic.rxfilter import RxFilter

if TYPE_CHECKING:
    from e1000emu.device.regview import Registers

RAL, RAH = reg("RAL"), reg("RAH")
RAH_AV = RAH.mask("AV")


class Filters:
    """The control plane of `RxFilter`."""

    def __init__(self, regs: Registers, n_rar: int) -> None:
        self._regs = regs
        self.engine: RxFilter = RxFilter(regs.file)
        self.engine.n_rar = n_rar

    def valid(self, i: int) -> bool:
        """Return whether entry `i` counts (RAH.AV)."""
        return bool(self._regs.peek(RAH.offsets[i]) & RAH_AV)

    def any_address(self) -> bool:
        """Return whether an entry is valid."""
        return any(self.valid(i) for i in range(RAH.count))

    def mac(self, i: int = 0) -> bytes:
        """Return the address in entry `i`."""
        low, high = self._regs.peek(RAL.offsets[i]), self._regs.peek(RAH.offsets[i])
        return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")

    def set_mac(self, mac: bytes) -> None:
        """Load entry 0 from the EEPROM: address and AV (SDM p326)."""
        self._regs.poke(RAL.offset, int.from_bytes(mac[:4], "little"))
        self._regs.poke(RAH.offset, int.from_bytes(mac[4:6], "little") | RAH_AV)

    def reset(self) -> None:
        """CTRL.RST clears every AV; the tables are RAM and keep their contents (SDM p326)."""
        for offset in RAH.offsets:
            self._regs.clear_bits(offset, RAH_AV)
