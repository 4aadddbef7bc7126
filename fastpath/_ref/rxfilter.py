"""Address and VLAN filters in plain Python: the twin of ``fastpath.nic.rxfilter``."""

from __future__ import annotations

from typing import Any

from fastpath._ref.e1000_hw import Registers

ACCEPT, PIF, BROADCAST, MULTICAST, VLAN = 1, 2, 4, 8, 16

RCTL_UPE = 1 << 3
RCTL_MPE = 1 << 4
RCTL_BAM = 1 << 15
RCTL_VFE = 1 << 18
RCTL_CFIEN = 1 << 19
RCTL_CFI = 1 << 20
RAH_AV = 1 << 31

# RCTL.MO: which twelve bits of the address index the table (SDM 13.5.1)
_MO_SHIFT = (4, 3, 2, 0)


class RxFilter:
    """RAL/RAH, MTA and VFTA."""

    def __init__(self, file: Any) -> None:
        self.regs = Registers(file)
        self.n_rar = 16

    def _addresses(self, select: int) -> list[bytes]:
        entries = [
            (self.regs.array("RAL", i, 8), self.regs.array("RAH", i, 8)) for i in range(self.n_rar)
        ]
        return [
            ral.to_bytes(4, "little") + (rah & 0xFFFF).to_bytes(2, "little")
            for ral, rah in entries
            if rah & RAH_AV and rah >> 16 & 3 == select
        ]

    def verdict(self, frame: bytes, rctl: int, vet: int = 0x8100) -> int:
        """ACCEPT | PIF | BROADCAST | MULTICAST | VLAN of one frame."""
        if len(frame) < 14:
            return 0
        head = bytes(frame[:18]).ljust(18, b"\0")
        da, sa = head[:6], head[6:12]
        kind = 0
        if da == b"\xff" * 6:
            kind = BROADCAST
        elif da[0] & 1:
            kind = MULTICAST
        out = 0
        if da in self._addresses(0) or (kind == BROADCAST and rctl & RCTL_BAM):
            out = ACCEPT
        elif kind:
            index = int.from_bytes(da[4:6], "little") >> _MO_SHIFT[rctl >> 12 & 3] & 0xFFF
            if rctl & RCTL_MPE or self.regs.array("MTA", index >> 5) >> (index & 31) & 1:
                out = ACCEPT | PIF
        elif rctl & RCTL_UPE:
            out = ACCEPT | PIF
        if not out and sa in self._addresses(1):
            out = ACCEPT
        if not out:
            return kind
        if int.from_bytes(head[12:14], "big") == vet:
            tci = int.from_bytes(head[14:16], "big")
            vid = tci & 0xFFF
            kind |= VLAN
            unknown = rctl & RCTL_VFE and not self.regs.array("VFTA", vid >> 5) >> (vid & 31) & 1
            wrong_cfi = rctl & RCTL_CFIEN and (tci >> 12 & 1) != bool(rctl & RCTL_CFI)
            if unknown or wrong_cfi:
                out &= ~ACCEPT
        return out | kind
