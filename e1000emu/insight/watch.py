"""Detects misuse: in register writes that the register file reports, and in the rings.

The register file (fastpath/nic/regfile.pyx) reports writes that set reserved bits or give a field a
value that is not `legal`, by the register table. It also reports writes to the few registers below,
none of which is written per packet. Rules with a cost per packet are
checked on request or, in a strict device, at each doorbell (`Rings`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from e1000emu.insight.watched import watched_by_offset
from e1000emu.registers.regs import at_offset, reg

if TYPE_CHECKING:
    from e1000emu.device.interrupts import Interrupts
    from e1000emu.device.pci import PciFunction
    from e1000emu.device.regview import Registers
    from e1000emu.device.rx import Rx
    from e1000emu.device.tx import Tx
    from e1000emu.insight.misuse import Misuse
    from e1000emu.insight.unmodelled import Unmodelled
    from e1000emu.ports import Clock
    from e1000emu.registers.models import Model
    from fastpath.base.dma import DmaTable
    from fastpath.nic.pktbuf import PacketBuffer

    Rule = Callable[["Watch", int, int, int], None]

CTRL, RCTL, TCTL, ICR = reg("CTRL"), reg("RCTL"), reg("TCTL"), reg("ICR")
RAL, RAH, TDT, RDT = reg("RAL"), reg("RAH"), reg("TDT"), reg("RDT")
DOORBELLS = {TDT.offset: "tx", RDT.offset: "rx"}
RCTL_EN, TCTL_EN = RCTL.mask("EN"), TCTL.mask("EN")
RCTL_BSIZE, RCTL_BSEX = RCTL.mask("BSIZE"), RCTL.mask("BSEX")
TCTL_CT, TCTL_COLD = TCTL.mask("CT"), TCTL.mask("COLD")
CTRL_FRCSPD, CTRL_SPEED = CTRL.mask("FRCSPD"), CTRL.field("SPEED")
CTRL_FLOW = CTRL.mask("RFCE", "TFCE")
MDIC_READY, MDIC_OP = reg("MDIC").mask("R"), reg("MDIC").mask("OP")
RTH, RTL = reg("FCRTH").field("RTH"), reg("FCRTL").field("RTL")
RAH_AV, RAH_ADDRESS = RAH.mask("AV"), RAH.mask("RAH")
TSPMT, TSPBP = reg("TSPMT"), reg("TSPMT").field("TSPBP")
FIFO_WORD_BYTES, TSO_MARGIN = 8, 80
GROUP_BIT = 1
ALL_ONES = 0xFFFFFFFF
ITR_LOW = 31
SET_AGAIN = 3
ANSWER_NS, ANSWERED = 1_000_000, 2
"""An interrupt handler writes ICS this soon after it has read ICR; a watchdog (Linux: every 2 s)
does not."""
UNACKNOWLEDGED_NS = 5_000_000_000
RINGS = ("TDBAL", "TDBAH", "TDLEN", "RDBAL", "RDBAH", "RDLEN")
COMMAND, COMMAND_INTX_OFF = 0x04, 0x400

DESCRIPTOR_BYTES = 16
RS_SEEN_IN = 64
"""Descriptors in a row of which one should have RS: drivers that save write-backs set every 32nd.
"""
STATUS_AT, STATUS_DD = 12, 1
TX_RS = 0x08


class Parts(NamedTuple):
    """The blocks that are checked."""

    model: Model
    regs: Registers
    misuse: Misuse
    unmodelled: Unmodelled
    interrupts: Interrupts
    clock: Clock
    memory: DmaTable
    buffer: PacketBuffer
    tx: Tx
    rx: Rx
    pci: PciFunction


def peek_memory(nic: Parts, address: int, n: int) -> bytes:
    """Return `n` bytes of memory, or none if reading would have side effects."""
    if nic.tx.stage is not None or not nic.memory.enabled:
        return b""
    for start, size, *_ in nic.memory.regions():
        if start <= address and address + n <= start + size:
            return nic.memory.read(address, n)
    return b""


def tso_pad(nic: Parts) -> tuple[int, ...]:
    """Return HDRLEN, MSS, TSPBP and the FIFO's bytes when one of its segments has no room beside
    the pad (SDM 13.4.45); nothing when it has, or is too long in any case."""
    engine, fifo = nic.tx.engine, nic.buffer.tx_words * FIFO_WORD_BYTES
    context = engine.state()["ctx"][1]
    header, mss, pad = context["hdrlen"], context["mss"], TSPBP.get(nic.regs.peek(TSPMT.offset))
    fits = mss and header + mss <= engine.max_frame
    return (header, mss, pad, fifo) if fits and header + mss + pad + TSO_MARGIN >= fifo else ()


class Rings:
    """The descriptors of both rings that the hardware owns, as posted (strict devices)."""

    def __init__(self, nic: Parts) -> None:
        self._nic = nic
        self._given: dict[str, dict[int, bytes]] = {"tx": {}, "rx": {}}

    def forget(self, which: str) -> None:
        """Clear the state of a changed or disabled ring."""
        self._given[which].clear()

    def doorbell(self, which: str, tail: int) -> None:
        """Compare the owned descriptors before the tail is written, and check the new ones."""
        nic, note, peek = self._nic, self._nic.misuse.note, self._nic.regs.peek
        engine = nic.tx.engine if which == "tx" else nic.rx.engine
        enabled = peek(TCTL.offset) & TCTL_EN if which == "tx" else peek(RCTL.offset) & RCTL_EN
        count, head, old = engine.len >> 4, engine.head, engine.tail
        given = self._given[which]
        ring = peek_memory(nic, engine.base, count * DESCRIPTOR_BYTES)
        if not enabled or not ring or max(head, old, tail) >= count:
            given.clear()
            return
        owned = (old - head) % count
        for i in list(given):
            if (i - head) % count >= owned:
                del given[i]  # the hardware has finished it
            elif ring[i * DESCRIPTOR_BYTES :][:DESCRIPTOR_BYTES] != given[i]:
                del given[i]
                note(f"{which}-owned", i, head, old)
        new = (tail - old) % count
        if owned + new >= count:
            note(f"{which}-tail-overrun", old, tail, head)
            return
        for k in range(new):
            i = (old + k) % count
            given[i] = ring[i * DESCRIPTOR_BYTES :][:DESCRIPTOR_BYTES]
            status = given[i][STATUS_AT]
            if status & STATUS_DD:
                note(f"{which}-dd-left", i, status)


class Watch:
    """Checks writes of registers, and on request the rings and interrupts."""

    def __init__(self, nic: Parts) -> None:
        self._nic = nic
        self._regs = nic.regs
        self._note = nic.misuse.note
        self.rings = Rings(nic)
        nic.regs.file.on_watched = self._told
        self._audited = False
        self._set_again = (0, 0)
        self._answered = (0, 0)
        """The number of the last read of ICR whose value went to ICS, and how many in a row."""
        self._rows = watched_by_offset(nic.model.lacks, nic.model.features)
        self._derive()
        nic.misuse.on_strict = self.audit
        self.audit(nic.misuse.strict)

    def audit(self, on: bool) -> None:
        """Compare the rings at each doorbell from now on: strict devices."""
        if on != self._audited:
            self._audited = on
            for tail in (TDT, RDT):
                row = self._rows.get(tail.offset)
                told = row.told if row is not None else 0
                self._nic.regs.file.watch(tail.offset // 4, told, every=on)
            self.rings.forget("tx")
            self.rings.forget("rx")

    def _told(self, offset: int, old: int, value: int) -> None:
        """Check a write before its effect."""
        row = self._rows.get(offset)
        if row is not None and row.read_only:
            self._note("read-only", offset, value)
            return
        if offset in DOORBELLS:
            if self._audited:
                self.rings.doorbell(DOORBELLS[offset], value)
        elif row is not None and (rule := RULES.get(row.name)) is not None:
            rule(self, offset, old, value)
        if row is not None and row.limits:
            for name in {f.breaks for f in row.limits if f.get(value) not in f.legal}:
                self._note(name, value)
        reserved = value & row.reserved if row is not None else 0
        if row is not None and row.told & ~row.reserved:
            self._nic.unmodelled.add("bar0", offset, value)
        if reserved:
            self._note("reserved-bits", offset, value, reserved)

    # --- one register each -----------------------------------------------------------------------

    def _ctrl(self, offset: int, old: int, new: int) -> None:
        if new & CTRL_FRCSPD and CTRL_SPEED.get(new) == 3:
            self._note("ctrl-speed", new)

    def _mdic(self, offset: int, old: int, new: int) -> None:
        if new & MDIC_READY and new & MDIC_OP:
            self._note("mdic-ready-written", new)

    def _fcrth(self, offset: int, old: int, new: int) -> None:
        low = self._regs["FCRTL"]
        if RTH.get(new) and RTL.get(low) >= RTH.get(new):
            self._note("fc-thresholds", low, new)

    def _rctl(self, offset: int, old: int, new: int) -> None:
        if new & ~old & RCTL_EN and not self._nic.rx.engine.len:
            self._note("rx-early", new, self._nic.rx.engine.len)
        if new & RCTL_BSEX and not new & RCTL_BSIZE:
            self._note("rctl-reserved", new)
        if not new & RCTL_EN:
            self.rings.forget("rx")

    def _tctl(self, offset: int, old: int, new: int) -> None:
        if new & ~old & TCTL_EN:
            if not self._nic.tx.engine.len:
                self._note("tx-early", new, 0)
            if not new & (TCTL_CT | TCTL_COLD):
                self._note("tctl-collision", new)
        if not new & TCTL_EN:
            self.rings.forget("tx")

    def _rdh(self, offset: int, old: int, new: int) -> None:
        head = self._nic.rx.engine.head
        if self._regs["RCTL"] & RCTL_EN and new != head:
            self._note("rx-head-written", new, head)

    def _tdh(self, offset: int, old: int, new: int) -> None:
        head = self._nic.tx.engine.head
        if self._regs["TCTL"] & TCTL_EN and new != head:
            self._note("tx-head-written", new, head)

    def _ring(self, offset: int, old: int, new: int) -> None:
        peek, found = self._regs.peek, at_offset(offset)
        assert found is not None
        ring, stored = found.reg, found.reg.stored_mask
        if ring.name.startswith("TD"):
            moved, head, on = "tx", self._nic.tx.engine.head, peek(TCTL.offset) & TCTL_EN
        else:
            moved, head, on = "rx", self._nic.rx.engine.head, peek(RCTL.offset) & RCTL_EN
        if on and new & stored != old:
            self.rings.forget(moved)
            self._note(f"{moved}-ring-moved", ring.offset, old, new, head)
        if new & ALL_ONES & ~stored:
            odd = "ring-length" if ring.name.endswith("LEN") else "ring-align"
            self._note(odd, ring.offset, new)

    def _rah(self, offset: int, old: int, new: int) -> None:
        index = RAH.offsets.index(offset)
        low = RAL.offsets[index]
        if new & RAH_ADDRESS and not new & RAH_AV:
            self._note("rar-no-av", index, new)
        elif not index and new & RAH_AV and self._regs.peek(low) & GROUP_BIT:
            self._note("rar0-group", self._regs.peek(low), new)

    def _icr(self, offset: int, old: int, new: int) -> None:
        # with everything masked, or by all ones, a driver clears unwanted causes
        if new != ALL_ONES and self._nic.interrupts.masks:
            self._note("icr-not-pending", old, new)

    def ics_answers(self) -> bool:
        """Return whether the last value of ICR was written to ICS, which sets its causes again."""
        return bool(self._answered[1]) and self._answered[0] == self._nic.interrupts.reads

    def _ics(self, offset: int, old: int, new: int) -> None:
        irq = self._nic.interrupts
        read, times = self._answered
        late = self._nic.clock.now_ns() - irq.last_read_ns > ANSWER_NS
        if new and new == irq.last_read and not late and read != irq.reads:
            # Once may be a driver that repeats the interrupt that it has just had (ethtool -t).
            times = times + 1 if read == irq.reads - 1 else 1
            self._answered = irq.reads, times
            if times >= ANSWERED:
                self._note("ics-as-ack", new, irq.causes)
        if not (irq.asserted and new and new == irq.causes & irq.masks):
            return
        # One such write is a driver that raises an interrupt which has just come by itself (Linux
        # raises LSC when it opens). Repeated within one assertion, it is a driver that tries to
        # clear it.
        since, times = self._set_again
        times = times + 1 if since == irq.assertions else 1
        self._set_again = irq.assertions, times
        if times >= SET_AGAIN:
            self._note("ics-as-ack", new, irq.causes)

    def _tadv(self, offset: int, old: int, new: int) -> None:
        tidv = self._regs["TIDV"] & 0xFFFF
        if new & 0xFFFF and not tidv:
            self._note("tadv-alone", tidv, new & 0xFFFF)

    # --- checked on request ----------------------------------------------------------------------

    def _derive(self) -> None:
        nic, misuse = self._nic, self._nic.misuse
        irq, regs = nic.interrupts, nic.regs

        def intx_off() -> int:
            awake = not nic.pci.power_state
            command = nic.pci.get(COMMAND, 2)
            return int(awake and irq.asserted and irq.disabled and command & COMMAND_INTX_OFF != 0)

        misuse.derive(
            "intx-off", intx_off, lambda: (irq.causes, irq.masks, nic.pci.get(COMMAND, 2))
        )
        misuse.derive(
            "irq-unacknowledged",
            lambda: int(self._high_ns() >= UNACKNOWLEDGED_NS),
            lambda: (irq.causes, irq.masks, self._high_ns() // 1_000_000),
        )
        # a driver that adapts ITR writes it at every interrupt
        misuse.derive(
            "itr-low",
            lambda: int(0 < regs["ITR"] & 0xFFFF < ITR_LOW),
            lambda: (regs["ITR"] & 0xFFFF,),
        )
        misuse.derive(
            "fc-type",
            lambda: int(
                bool(regs["CTRL"] & CTRL_FLOW)
                and not (regs["FCT"] and regs["FCAL"] and regs["FCAH"])
            ),
            lambda: (regs["CTRL"], regs["FCT"], regs["FCAL"], regs["FCAH"]),
        )
        misuse.derive("tx-tso-pad", lambda: int(bool(tso_pad(nic))), lambda: tso_pad(nic))
        misuse.derive(
            "tx-no-eop",
            lambda: int(nic.tx.engine.mid_frame() and nic.tx.engine.head == nic.tx.engine.tail),
            lambda: (nic.tx.engine.head,),
        )
        misuse.derive(
            "tx-no-rs",
            lambda: int(self._without_rs() > 0),
            lambda: (self._without_rs(), nic.tx.engine.head),
        )

    def _high_ns(self) -> int:
        """Time since the line rose."""
        irq = self._nic.interrupts
        if not irq.asserted or irq.disabled:
            return 0
        return self._nic.clock.now_ns() - irq._times()[0]

    def _without_rs(self) -> int:
        enough = min((self._nic.tx.engine.len >> 4) - 1, RS_SEEN_IN)
        n = self.without_rs()
        return n if 0 < enough <= n else 0

    def without_rs(self) -> int:
        """Count the descriptors that were sent since the ring's start; 0 if one of them has RS."""
        nic, e = self._nic, self._nic.tx.engine
        if e.head != e.tail or not 0 < e.head < e.len >> 4:
            return 0
        ring = peek_memory(nic, e.base, e.head * DESCRIPTOR_BYTES)
        if any(command & (TX_RS | nic.model.rps << 4) for command in ring[11::DESCRIPTOR_BYTES]):
            return 0
        return len(ring) // DESCRIPTOR_BYTES


RULES: dict[str, Rule] = {
    "CTRL": Watch._ctrl, "MDIC": Watch._mdic, "FCRTH": Watch._fcrth, "RCTL": Watch._rctl,
    "RDH": Watch._rdh, "TCTL": Watch._tctl, "TDH": Watch._tdh, "ICR": Watch._icr,
    "ICS": Watch._ics, "TADV": Watch._tadv, "RAH": Watch._rah,
    **dict.fromkeys(RINGS, Watch._ring),
}  # fmt: skip
"""The rules of one register each, by its name."""
