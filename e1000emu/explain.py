"""Why nothing moves: the state of a Nic in sentences, for people in front of a silent driver.

"Detected Tx Unit Hang" is what users of emulated e1000s meet most often; the device knows the
reason, so it says it (`Nic.explain`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from e1000emu.regs import decode, reg

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = ["explain"]

MIN_RING = 8
CTRL_SLU = reg("CTRL").mask("SLU")
RCTL_EN, TCTL_EN = reg("RCTL").mask("EN"), reg("TCTL").mask("EN")
RCTL_ANY = reg("RCTL").mask("UPE", "MPE", "BAM")


def explain(nic: Nic) -> list[str]:
    """Return one sentence for each thing that keeps frames or interrupts back, and each misuse."""
    return [
        *_bus(nic),
        *_link(nic),
        *_transmit(nic),
        *_receive(nic),
        *_interrupts(nic),
        *_said(nic),
    ]


def _bus(nic: Nic) -> Iterator[str]:
    if nic.pci.power_state:
        yield "The function is in D3hot: write D0 to PMCSR (configuration offset E0)."
    elif not nic.memory.enabled:
        yield "Bus mastering is off: set bit 2 of the PCI command register."
    if nic.memory.aborts:
        yield f"{nic.memory.aborts} DMA accesses fell outside the memory the device may reach."


def _link(nic: Nic) -> Iterator[str]:
    phy, ctrl = nic.phy, nic.regs["CTRL"]
    if nic.tx.loop is not None:
        yield "Loopback is on: frames return and the wire is not used."
    elif not nic.link_up:
        if not phy.cable_up:
            yield "No link: the cable is unplugged or nothing is at its far end."
        elif phy.held_in_reset:
            yield "No link: CTRL.PHY_RST holds the PHY in reset."
        elif phy.powered_down:
            yield "No link: the PHY is powered down (BMCR bit 11)."
        elif not phy.link.up:
            yield "No link yet: the PHY negotiates, or has found no common mode."
        elif not ctrl & CTRL_SLU:
            yield "No link: the PHY has one, but CTRL.SLU is 0."


def _transmit(nic: Nic) -> Iterator[str]:
    e = nic.tx.engine
    if e.head == e.tail:
        return
    count = e.len >> 4
    where = f"Transmit: TDH={e.head} TDT={e.tail} of {count} descriptors"
    if not e.tctl & TCTL_EN:
        yield f"{where}; they wait for TCTL.EN."
    elif count < MIN_RING or e.head >= count or e.tail > count:
        yield f"{where}; the ring is off: TDLEN is too short, or TDH or TDT is outside the ring."
    elif nic.tx.paused:
        yield f"{where}; they wait: a PAUSE frame stopped the transmitter (STATUS.TXOFF)."
    elif not nic.tx.open:
        yield f"{where}; they wait for the link."
    elif e.desc_aborts:
        yield f"{where}; the ring at {e.base:#x} cannot be read: check TDBAL and TDBAH."
    elif nic.link.tx_room() <= 0:
        yield f"{where}; they wait: the link takes no more frames now."
    if e.mid_frame():
        yield "Transmit: a frame is begun and has no EOP yet."


def _receive(nic: Nic) -> Iterator[str]:
    e = nic.rx.engine
    if not e.rctl & RCTL_EN:
        yield "Receive: RCTL.EN is 0; frames are dropped."
        return
    count = e.len >> 4
    where = f"Receive: RDH={e.head} RDT={e.tail} of {count} descriptors"
    if count < MIN_RING or e.head >= count or e.tail > count:
        yield f"{where}; the ring is off: RDLEN is too short, or RDH or RDT is outside the ring."
    elif not e.free_descriptors():
        yield f"{where}; none is free (RDT = RDH means none): frames wait, then are missed."
    if not e.rctl & RCTL_ANY and not nic.filters.any_address():
        yield "Receive: no RAH has AV and no promiscuous bit is set; no frame passes the filter."
    if e.fifo_frames:
        yield f"Receive: {e.fifo_frames} frames wait in the FIFO for descriptors."


def _interrupts(nic: Nic) -> Iterator[str]:
    i = nic.interrupts
    causes = decode(reg("ICR"), i.causes)
    enabled = i.causes & nic.regs["IMS"]
    if i.asserted and i.disabled:
        yield f"Interrupt: {causes} wait, but the PCI function keeps its line low."
    elif i.causes and not enabled:
        yield f"Interrupt: {causes} wait behind their masks; write IMS."
    elif enabled and not i.asserted:
        yield f"Interrupt: {causes} wait for the throttling interval (ITR)."


def _said(nic: Nic) -> Iterator[str]:
    for event in nic.misuse.events():
        yield f"Misuse: {event}."
