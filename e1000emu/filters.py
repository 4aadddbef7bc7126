"""Address and VLAN filters: RAL/RAH, MTA and VFTA as written into the compiled filter (SDM 13.5).

The registers read from the register file; the filter keeps its own copy for the receive engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e1000emu.regs import reg
from fastpath.rxfilter import RxFilter

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["Filters"]

RAL, RAH, MTA, VFTA = reg("RAL"), reg("RAH"), reg("MTA"), reg("VFTA")
RAH_AV = RAH.mask("AV")


class Filters:
    """The control plane of `RxFilter`."""

    def __init__(self, nic: Nic) -> None:
        self._regs = nic.regs
        self.engine: RxFilter = RxFilter()
        self.engine.n_rar = nic.model.n_rar

    def write_ral(self, i: int, old: int, new: int) -> None:
        """Entry `i`, first four bytes."""
        self.engine.set_ral(i, new)

    def write_rah(self, i: int, old: int, new: int) -> None:
        """Entry `i`, last two bytes, address select and valid bit."""
        self.engine.set_rah(i, new)

    def write_mta(self, i: int, old: int, new: int) -> None:
        """32 bits of the multicast hash."""
        self.engine.set_mta(i, new)

    def write_vfta(self, i: int, old: int, new: int) -> None:
        """32 VLAN ids."""
        self.engine.set_vfta(i, new)

    def any_address(self) -> bool:
        """Return whether an entry is valid."""
        return any(self.engine.rah(i) & RAH_AV for i in range(RAH.count))

    def mac(self, i: int = 0) -> bytes:
        """Return the address in entry `i`."""
        low, high = self._regs.peek(RAL.offsets[i]), self._regs.peek(RAH.offsets[i])
        return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")

    def set_mac(self, mac: bytes) -> None:
        """Load entry 0 from the EEPROM: address and AV (SDM p326)."""
        self._regs.poke(RAL.offset, int.from_bytes(mac[:4], "little"))
        self._regs.poke(RAH.offset, int.from_bytes(mac[4:6], "little") | RAH_AV)
        self.sync()

    def reset(self) -> None:
        """CTRL.RST: every AV goes; the tables are RAM and keep their contents (SDM p326)."""
        for offset in RAH.offsets:
            self._regs.clear_bits(offset, RAH_AV)
        self.sync()

    def sync(self) -> None:
        """Bring the compiled filter in step with the registers."""
        peek, engine = self._regs.peek, self.engine
        for i, offset in enumerate(RAL.offsets):
            engine.set_ral(i, peek(offset))
            engine.set_rah(i, peek(offset + 4))
        for i, offset in enumerate(MTA.offsets):
            engine.set_mta(i, peek(offset))
        for i, offset in enumerate(VFTA.offsets):
            engine.set_vfta(i, peek(offset))
