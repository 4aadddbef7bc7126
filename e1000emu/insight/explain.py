"""Explains a Nic's state in sentences, for users whose driver hangs.

"Detected Tx Unit Hang" is the most frequent complaint of users of emulated e1000s. The device knows
the reason and reports it (`Nic.explain`, `e1000emu explain hang`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from e1000emu.device.management import FILTERS
from e1000emu.registers.eeprommap import EEPROM_CHECKSUM, MAPPED_WORDS
from e1000emu.registers.regs import LINK_MODE_TBI, decode, reg
from fastpath.errors import check_methods
from fastpath.nic.macpath import WATCH_MANAGEMENT

if TYPE_CHECKING:
    from e1000emu.device.board import Board

__all__ = ["Reason", "explain", "idle", "mark", "reasons"]

MIN_RING = 8
CTRL_SLU, CTRL_LRST = reg("CTRL").mask("SLU"), reg("CTRL").mask("LRST")
TXCW_ANE = reg("TXCW").mask("ANE")
RCTL_EN, TCTL_EN = reg("RCTL").mask("EN"), reg("TCTL").mask("EN")
RCTL_ANY = reg("RCTL").mask("UPE", "MPE", "BAM")
MANC = reg("MANC")
FILTER_BITS = MANC.mask(*FILTERS)
TXDW, RXT0 = reg("ICR").mask("TXDW"), reg("ICR").mask("RXT0")


@dataclass(frozen=True, slots=True)
class Reason:
    """A reason that blocks frames or interrupts."""

    text: str
    """The state with its values, and usually the awaited event."""
    sdm: str
    """The section of Intel's SDM (317453) with the rule."""
    remedy: str
    """A remedy for the driver or the device's user."""


def check_nic(where: str, nic: object) -> None:
    """Raise ArgumentTypeError unless `nic` has the members of a Nic."""
    check_methods(where, "nic", nic, ("tx", "rx", "pci", "misuse"), "a Nic")


def explain(nic: Board) -> list[str]:
    """Return one sentence for each reason that blocks frames or interrupts, and each misuse."""
    check_nic("explain", nic)
    said = [reason.text for reason in reasons(nic)]
    return said + [f"{mark(e.because)}{e}." for e in nic.misuse.events()]


def mark(because: str) -> str:
    """Return an event's prefix: consequences are indented below their cause."""
    return "  and so: " if because else "Misuse: "


def reasons(nic: Board) -> list[Reason]:
    """Return what blocks frames or interrupts, from the bus outwards; empty if nothing does."""
    check_nic("reasons", nic)
    blocks = (_bus, _eeprom, _link, _transmit, _receive, _interrupts)
    return [reason for block in blocks for reason in block(nic)]


def idle(nic: Board) -> list[Reason]:
    """Return what a working device waits for if its driver has posted nothing."""
    check_nic("idle", nic)
    out = []
    e = nic.tx.engine
    if nic.regs["TCTL"] & TCTL_EN and e.head == e.tail:
        out.append(
            Reason(
                f"Transmit: TDH = TDT = {e.tail}: nothing is posted.",
                reg("TDT").sdm,
                "write the descriptor, then TDT one past it; the device sends what lies between",
            )
        )
    if not nic.interrupts.masks:
        out.append(
            Reason(
                "Interrupt: IMS is 0: no cause can interrupt.",
                reg("IMS").sdm,
                "write the causes to IMS, or poll the descriptors' DD",
            )
        )
    return out


def _bus(nic: Board) -> Iterator[Reason]:
    if nic.pci.gone:
        yield Reason(
            "The device is gone from its slot: every read gives ones.",
            "PCI Hot-Plug 1.1",
            "remove the driver (echo 1 > remove) and rescan the bus when it is back",
        )
    elif nic.pci.power_state:
        yield Reason(
            "The function is in D3hot: write D0 to PMCSR (configuration offset E0).",
            "6.3.3",
            "write 0 to the low two bits of PMCSR and set the device up anew",
        )
    elif nic.paused_because:
        yield Reason(
            f"The device is paused: {nic.paused_because}.",
            "4.1",
            "let whoever paused it resume it (Nic.resume)",
        )
    elif not nic.memory.enabled:
        yield Reason(
            "Bus mastering is off: set bit 2 of the PCI command register.",
            "4.1",
            "pci_set_master(), before the rings are started",
        )
    if nic.memory.aborts:
        yield Reason(
            f"{nic.memory.aborts} DMA accesses fell outside the memory the device may reach.",
            "4.1",
            "give bus addresses, not virtual ones, in the rings' bases and in the descriptors",
        )


def _eeprom(nic: Board) -> Iterator[Reason]:
    total = sum(nic.eeprom.words[:MAPPED_WORDS]) & 0xFFFF
    if total != EEPROM_CHECKSUM:
        yield Reason(
            f"EEPROM: words 0 to 3F sum to {total:04X}, not {EEPROM_CHECKSUM:04X}.",
            "5.6",
            "a driver refuses the address; write the words anew and word 3F so that the sum fits",
        )


def _link(nic: Board) -> Iterator[Reason]:
    phy, tbi, ctrl = nic.phy, nic.tbi, nic.regs["CTRL"]
    if nic.tx.loop is not None:
        yield Reason(
            "Loopback is on: frames return and the wire is not used.",
            reg("RCTL").sdm,
            "clear RCTL.LBM and the PHY's BMCR bit 14",
        )
    elif not nic.link_unit.up:
        if not phy.cable_up:
            text = "No link: the cable is unplugged or nothing is at its far end."
            remedy = "plug the cable in; wait for ICR.LSC, then look at STATUS.LU"
        elif nic.regs.field("CTRL_EXT", "LINK_MODE") != (LINK_MODE_TBI if tbi else 0):
            text = "No link: CTRL_EXT.LINK_MODE is of another board."
            remedy = "leave CTRL_EXT.LINK_MODE as the EEPROM has loaded it"
        elif tbi is not None and ctrl & CTRL_LRST:
            text = "No link: CTRL.LRST holds the link unit in reset."
            remedy = "write TXCW, then clear CTRL.LRST"
        elif tbi is not None and nic.regs["TXCW"] & TXCW_ANE:
            text = "No link yet: the hardware negotiates (TXCW.ANE)."
            remedy = "wait; if RXCW.RXC stays 0 the far end does not: clear ANE and set CTRL.SLU"
        elif tbi is not None:
            text = "No link: nobody negotiates and CTRL.SLU does not force it, or TXCW.TXC is set."
            remedy = "set TXCW.ANE, or clear TXCW.TXC and set CTRL.SLU and FD"
        elif phy.held_in_reset:
            text = "No link: CTRL.PHY_RST holds the PHY in reset."
            remedy = "clear CTRL.PHY_RST after 10 ms"
        elif phy.powered_down:
            text = "No link: the PHY is powered down (BMCR bit 11)."
            remedy = "clear BMCR bit 11 and restart autonegotiation (bits 12 and 9)"
        elif not phy.link.up:
            text = "No link yet: the PHY negotiates, or has found no common mode."
            remedy = "wait; if it stays so, compare what both ends advertise (PHY registers 4, 9)"
        elif not ctrl & CTRL_SLU:
            text = "No link: the PHY has one, but CTRL.SLU is 0."
            remedy = "set CTRL.SLU"
        else:
            return
        yield Reason(text, reg("STATUS").sdm, remedy)


def _transmit(nic: Board) -> Iterator[Reason]:
    e = nic.tx.engine
    if e.head == e.tail:
        n = nic.watch.without_rs()
        if n and not nic.misuse.count("tx-no-rs"):
            yield Reason(
                f"Transmit: none of the {n} descriptors sent so far has RS: no DD was written, "
                "TXDW stays 0.",
                "3.3.3.1",
                "set RS in the descriptor whose DD or TXDW is waited for",
            )
        return
    count = e.len >> 4
    where = f"Transmit: TDH={e.head} TDT={e.tail} of {count} descriptors"
    if not nic.regs["TCTL"] & TCTL_EN:
        yield Reason(f"{where}; they wait for TCTL.EN.", reg("TCTL").sdm, "set TCTL.EN")
    elif count < MIN_RING or e.head >= count or e.tail > count:
        yield Reason(
            f"{where}; the ring is off: TDLEN is too short, or TDH or TDT is outside the ring.",
            reg("TDLEN").sdm,
            "TDLEN is in bytes: 16 for each descriptor, in steps of 128; TDT counts descriptors",
        )
    elif e.tail == count:
        yield Reason(
            f"{where}; TDT is the ring's size, which is no index: the device takes it for 0.",
            reg("TDT").sdm,
            "wrap TDT to 0 when it reaches the ring's size",
        )
    elif nic.tx.paused:
        yield Reason(
            f"{where}; they wait: a PAUSE frame stopped the transmitter (STATUS.TXOFF).",
            "8.7.4",
            "it ends by itself; clear CTRL.RFCE to ignore a peer that does not stop pausing",
        )
    elif not nic.tx.open:
        yield Reason(
            f"{where}; they wait for the link.", reg("STATUS").sdm, "bring the link up, see above"
        )
    elif e.desc_aborts or nic.misuse.count("tx-abort"):
        yield Reason(
            f"{where}; the ring at {e.base:#x} cannot be read: check TDBAL and TDBAH.",
            reg("TDBAL").sdm,
            "write the ring's bus address to TDBAL and TDBAH, 16-byte aligned",
        )
    elif nic.link.tx_room() <= 0:
        yield Reason(
            f"{where}; they wait: the link takes no more frames now.",
            "3.4",
            "nothing: they leave when the far end reads",
        )
    elif nic.tx.dma is not None and nic.tx.dma.idle and nic.misuse.count("tx-tso-pad"):
        yield Reason(
            f"{where}; they wait: TSPBP leaves a segment no room in the FIFO.",
            reg("TSPMT").sdm,
            "make TSPMT.TSPBP smaller, or PBA.RXA",
        )
    elif nic.tx.dma is not None:
        yield Reason(
            f"{where}; they wait for the bus ({nic.tx.dma.bus.name}), or for room in the FIFO, "
            f"where {nic.tx.dma.waiting} frames are.",
            reg("TSPMT").sdm,
            "nothing: they leave when the bus has brought them and the wire has had those before",
        )
    elif nic.tx.resting:
        yield Reason(
            f"{where}; they wait for the wire: far more was posted than it carries.",
            "3.4",
            "nothing: they leave at ten times the rate of a gigabit wire",
        )
    if e.mid_frame():
        yield Reason(
            "Transmit: a frame is begun and has no EOP yet.",
            "3.3.3.1",
            "set EOP in the frame's last descriptor",
        )


def _receive(nic: Board) -> Iterator[Reason]:
    e = nic.rx.engine
    if not nic.regs["RCTL"] & RCTL_EN:
        yield Reason(
            "Receive: RCTL.EN is 0; frames are dropped.",
            reg("RCTL").sdm,
            "set RCTL.EN when the ring has its buffers",
        )
        return
    count = e.len >> 4
    where = f"Receive: RDH={e.head} RDT={e.tail} of {count} descriptors"
    if count < MIN_RING or e.head >= count or e.tail > count:
        yield Reason(
            f"{where}; the ring is off: RDLEN is too short, or RDH or RDT is outside the ring.",
            reg("RDLEN").sdm,
            "RDLEN is in bytes: 16 for each descriptor, in steps of 128; RDT counts descriptors",
        )
    elif e.tail == count:
        yield Reason(
            f"{where}; RDT is the ring's size, which is no index: the device takes it for the end.",
            reg("RDT").sdm,
            "wrap RDT to 0 when it reaches the ring's size",
        )
    elif aborts := nic.misuse.count("rx-abort"):
        yield Reason(
            f"{where}; the ring at {e.base:#x} could not be read {aborts} times.",
            reg("RDBAL").sdm,
            "write the ring's bus address to RDBAL and RDBAH, 16-byte aligned",
        )
    elif not e.free_descriptors():
        yield Reason(
            f"{where}; none is free (RDT = RDH means none): frames wait, then are missed.",
            "3.2.6",
            "give descriptors: RDT one past the last free one; a full ring is one less than its "
            "size",
        )
    if not nic.regs["RCTL"] & RCTL_ANY and not nic.filters.any_address():
        yield Reason(
            "Receive: no RAH has AV and no promiscuous bit is set; no frame passes the filter.",
            reg("RAH").sdm,
            "write the station's address to RAL[0] and RAH[0], with AV (bit 31)",
        )
    if e.fifo_frames:
        yield Reason(
            f"Receive: {e.fifo_frames} frames wait in the FIFO for descriptors.",
            "3.2.6",
            "give descriptors (RDT)",
        )
    if nic.rx.watching & WATCH_MANAGEMENT and nic.regs["MANC"] & FILTER_BITS:
        yield Reason(
            f"Receive: MANC ({decode(MANC, nic.regs['MANC'] & FILTER_BITS)}) gives frames to the "
            "board's management controller; the driver does not get them.",
            "13.7.38",
            "clear the bits of MANC whose frames the driver wants, ARP_EN mostly",
        )


def _interrupts(nic: Board) -> Iterator[Reason]:
    i = nic.interrupts
    causes = decode(reg("ICR"), i.causes)
    if i.asserted and i.disabled:
        yield Reason(
            f"Interrupt: {causes} wait, but the PCI function keeps its line low.",
            "4.1",
            "clear bit 10 of the PCI command register, or wake the function up",
        )
    elif i.causes and not i.causes & i.masks:
        yield Reason(
            f"Interrupt: {causes} is set in ICR, but IMS does not enable it.",
            reg("IMS").sdm,
            "write IMS; a driver that masks in its handler unmasks when it is done",
        )
    elif i.causes & i.masks and not i.asserted:
        yield Reason(
            f"Interrupt: {causes} wait for the throttling interval (ITR).",
            reg("ITR").sdm,
            "nothing; a smaller ITR interrupts sooner, in units of 256 ns",
        )
    elif i.asserted:
        again = nic.watch.ics_answers()
        yield Reason(
            f"Interrupt: the line is high for {causes}; nobody has read ICR since."
            + " ICS got what ICR had given, which sets it again." * again,
            reg("ICR").sdm,
            "leave ICS alone: the read of ICR has acknowledged"
            if again
            else "read ICR in the handler; if it never runs, look at the host's interrupt routing",
        )
    _, rx, rx_absolute, tx, tx_absolute = i._times()
    for name, register, waits in (
        ("RXT0", "RDTR", rx or rx_absolute),
        ("TXDW", "TIDV", tx or tx_absolute),
    ):
        if waits:
            yield Reason(
                f"Interrupt: {name} waits for its delay ({register}).",
                reg(register).sdm,
                f"nothing; {register}.FPD raises it now, a smaller value sooner",
            )
