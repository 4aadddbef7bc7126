from typing import final

from fastpath.nic.regfile import RegFile

ACCEPT: int
PIF: int
BROADCAST: int
MULTICAST: int
VLAN: int

@final
class RxFilter:
    n_rar: int
    """Entries that exist: 16 (15 on 82544 and older)."""
    regs: RegFile
    def __init__(self, regs: RegFile) -> None: ...
    def verdict(self, frame: bytes, rctl: int, vet: int = 0x8100) -> int: ...
