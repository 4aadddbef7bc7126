"""Wake-up: the filters for frames while the host sleeps, and PME# (SDM 6.3 and 13.6).

Two mechanisms set PME_STATUS. APM (WUC.APME) waits for a magic packet in any power state. ACPI
wake-up (WUFC, set by the driver) waits in D3hot for frames that match its filters. The receiver
must be on, and a frame must pass the address filters first, except a broadcast magic packet. The
first frame that wakes the host is kept in WUPM until software clears WUS. Until then ACPI wake-up
ignores further frames, and further changes of the link until software clears WUS.LNKC (SDM 6.4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from e1000emu.registers.regs import reg
from fastpath.base.batch import FrameBatch
from fastpath.nic.macpath import WATCH_MAGIC, WATCH_WAKE
from fastpath.nic.rxfilter import ACCEPT, BROADCAST, MULTICAST

if TYPE_CHECKING:
    from e1000emu.device.filters import Filters
    from e1000emu.device.management import Management
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.device.rx import Rx
    from e1000emu.registers.models import Model

PmeCallback = Callable[[bool], None]
"""Takes the level of PME#: True is asserted."""

WUC, WUFC, WUS, WUPL, WUPM = (reg(n) for n in ("WUC", "WUFC", "WUS", "WUPL", "WUPM"))
IPAV, IP4AT, IP6AT = reg("IPAV"), reg("IP4AT"), reg("IP6AT")
FFLT, FFMT, FFVT = reg("FFLT"), reg("FFMT"), reg("FFVT")
APME, APMPME = WUC.mask("APME"), WUC.mask("APMPME")
PME_EN, PME_STATUS = WUC.mask("PME_EN"), WUC.mask("PME_STATUS")
LNKC, MAG, EX, MC = (WUFC.mask(name) for name in ("LNKC", "MAG", "EX", "MC"))
BC, ARP, IPV4, IPV6 = (WUFC.mask(name) for name in ("BC", "ARP", "IPV4", "IPV6"))
IGNORE_TCO = WUFC.mask("IGNORE_TCO")
FLEX = tuple(WUFC.mask(f"FLX{n}") for n in range(4))
IPAV_V60 = IPAV.mask("V60")
CTRL, CTRL_SLU = reg("CTRL"), reg("CTRL").mask("SLU")
RCTL, VET = reg("RCTL"), reg("VET").offset
RCTL_EN = RCTL.mask("EN")
KEPT_BYTES = 128
"""Bytes kept of the frame that wakes: WUPM has 32 dwords."""
LONGEST = 2047
"""WUPL.LEN of this frame and of longer ones (SDM 13.6.7)."""
FLEX_BYTES = 128
"""The bytes that a flexible filter can compare."""
ALL_ONES = b"\xff" * 6
ARP_REQUEST = bytes.fromhex("08060001080006040001")


class Wakeup:
    """WUC, WUFC, WUS, WUPL, WUPM, the filters' tables, and the level of PME#."""

    def __init__(
        self,
        *,
        model: Model,
        regs: Registers,
        filters: Filters,
        rx: Rx,
        pci: PciFunction,
        management: Management,
        on_pme: PmeCallback | None,
    ) -> None:
        self._model, self._regs, self._filters = model, regs, filters
        self._rx, self._pci, self._management = rx, pci, management
        self._on_pme = on_pme
        self.pme = False
        """PME# is asserted."""

    def load_eeprom(self, words: list[int]) -> None:
        """Load APM from the EEPROM (SDM 5.6)."""
        word, apme = self._model.apm_enable
        self._regs.clear_bits(WUC.offset, APME)
        if words[word] & apme:
            self._regs.set_bits(WUC.offset, APME)
            self._regs.set_bits(CTRL.offset, CTRL_SLU)  # no driver has said yet that a link is
        self.update()

    # --- inputs ----------------------------------------------------------------------------------

    def update(self) -> None:
        """Follow a change of power state, PMCSR or WUC: which filters see frames, and PME#."""
        wuc = self._regs.read32(WUC.offset)
        apm = bool(wuc & APME)
        self._rx.watch(WATCH_WAKE, bool(self._pci.power_state))
        self._rx.watch(WATCH_MAGIC, apm)
        enabled = wuc & PME_EN or (apm and wuc & APMPME)
        pme = bool(wuc & PME_STATUS and enabled)
        if pme != self.pme:
            self.pme = pme
            if self._on_pme is not None:
                self._on_pme(pme)

    def frames(self, batch: FrameBatch, start: int) -> None:
        """Examine the frames of `batch` from `start` on. Borrows it until return."""
        for i in range(start, len(batch)):
            if frame := self._rx.good(batch, i):
                self.frame(frame)

    def frame(self, frame: bytes) -> None:
        """Examine one good frame (without FCS)."""
        peek = self._regs.peek
        if peek(WUFC.offset) & IGNORE_TCO and self._management.passes(frame):
            return
        earlier = peek(WUS.offset) & ~LNKC
        woken = MAG if peek(WUC.offset) & APME and self._magic(frame) else 0
        if self._pci.power_state and not earlier:
            woken |= self._matches(frame) & peek(WUFC.offset)
        if woken:
            if not earlier:
                self._keep(frame)
            self._wake(woken)

    def link_changed(self) -> None:
        """STATUS.LU has changed."""
        if (
            self._pci.power_state
            and self._regs.peek(WUFC.offset) & ~self._regs.peek(WUS.offset) & LNKC
        ):
            self._wake(LNKC)

    def _wake(self, events: int) -> None:
        self._regs.set_bits(WUS.offset, events)
        self._pci.set_pme_status()
        self.update()

    def _keep(self, frame: bytes) -> None:
        poke = self._regs.poke
        poke(WUPL.offset, min(len(frame), LONGEST))
        kept = frame[:KEPT_BYTES].ljust(KEPT_BYTES, b"\0")
        for i, offset in enumerate(WUPM.offsets):
            poke(offset, int.from_bytes(kept[4 * i : 4 * i + 4], "little"))

    # --- the filters (SDM 6.4.3) -----------------------------------------------------------------

    def _verdict(self, frame: bytes) -> int:
        """Return what the address filters say, the receiver being on; 0 when it is off."""
        rctl = self._regs.peek(RCTL.offset)
        if not rctl & RCTL_EN:
            return 0
        return self._filters.engine.verdict(frame, rctl, self._regs.peek(VET))

    def _magic(self, frame: bytes) -> bool:
        """Six times FFh and sixteen times our address, anywhere after the header.

        APM works before any driver has turned the receiver on: our address and broadcast count.
        """
        mac = self._filters.mac(0)
        addressed = frame[:6] in (mac, ALL_ONES) or bool(self._verdict(frame) & ACCEPT)
        return addressed and ALL_ONES + 16 * mac in frame[12:]

    def _matches(self, frame: bytes) -> int:
        """Return the filters of WUFC that the frame matches."""
        found = MAG if self._regs.peek(RCTL.offset) & RCTL_EN and self._magic(frame) else 0
        verdict = self._verdict(frame)
        if not verdict & ACCEPT:
            return found
        if verdict & BROADCAST:
            found |= BC
        elif verdict & MULTICAST:
            found |= MC
        elif self._exact(frame[:6]):
            found |= EX
        at = 12
        if int.from_bytes(frame[12:14], "big") == self._regs.peek(VET) & 0xFFFF:
            at = 16
        return found | self._protocol(frame, at) | self._flexible(frame)

    def _exact(self, address: bytes) -> bool:
        filters = self._filters
        return any(
            filters.valid(i) and filters.mac(i) == address for i in range(filters.engine.n_rar)
        )

    def _protocol(self, frame: bytes, at: int) -> int:
        """Return ARP, IPV4 or IPV6 when the frame asks for, or goes to, an address of ours."""
        kind = frame[at : at + 2]
        packet = frame[at + 2 :]
        if frame[at : at + 10] == ARP_REQUEST:
            return ARP if packet[24:28] in self._ipv4_addresses() else 0
        if kind == b"\x08\x00" and packet[:1] and packet[0] >> 4 == 4:
            return IPV4 if packet[16:20] in self._ipv4_addresses() else 0
        if kind == b"\x86\xdd" and packet[:1] and packet[0] >> 4 == 6:
            peek = self._regs.peek
            ours = b"".join(peek(offset).to_bytes(4, "little") for offset in IP6AT.offsets)
            return IPV6 if peek(IPAV.offset) & IPAV_V60 and packet[24:40] == ours else 0
        return 0

    def _ipv4_addresses(self) -> list[bytes]:
        peek = self._regs.peek
        valid = peek(IPAV.offset)
        return [
            peek(offset).to_bytes(4, "little")
            for n, offset in enumerate(IP4AT.offsets)
            if valid & IPAV.mask(f"V4{n}")
        ]

    def _flexible(self, frame: bytes) -> int:
        """Compare the bytes that FFMT marks with FFVT, up to FFLT: a shorter frame never passes."""
        peek = self._regs.peek
        wanted = peek(WUFC.offset)
        found = 0
        for n, event in enumerate(FLEX):
            length = peek(FFLT.offsets[n]) & 0x7FF
            if not wanted & event or not length or len(frame) < length:
                continue
            if all(
                frame[i] == peek(FFVT.offsets[i]) >> 8 * n & 0xFF
                for i in range(min(length, FLEX_BYTES))
                if peek(FFMT.offsets[i]) >> n & 1
            ):
                found |= event
        return found
