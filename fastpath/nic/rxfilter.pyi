from typing import final

from fastpath.nic.regfile import RegFile

ACCEPT: int
PIF: int
BROADCAST: int
MULTICAST: int
VLAN: int

@final
class RxFilter:
    """Address and VLAN filters (SDM 13.4.22 RCTL, 13.5.1-13.5.4) by RAL/RAH 0..15, MTA and VFTA as
    they stand in `regs`; a change acts from the next engine run on."""

    n_rar: int
    """Entries that exist: 16 (15 on 82544 and older)."""
    regs: RegFile
    def __init__(self, regs: RegFile) -> None: ...
    def verdict(self, frame: bytes, rctl: int, vet: int = 0x8100) -> int:
        """ACCEPT | PIF | BROADCAST | MULTICAST | VLAN bits of one frame (14 bytes or more; shorter:
        0)."""
