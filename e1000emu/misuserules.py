"""The rules of misuse as data: what a driver can do wrong, where the SDM says so, what to do.

One row per rule. `says` is the text of a case: a format for up to four numbers that were noted
(`misuse.Misuse.note`). `when` tells when a rule is looked at: at the *access* that breaks it, by a
*run* of an engine, when somebody *asks* (`Misuse.events`, `e1000emu explain`), which costs nothing
before, or by an *audit* of the descriptor rings at each doorbell, which only a strict device does.
"SDM" is 317453 (see regs.py); where it says nothing, PCI 2.3 or IEEE 802.3 is named.
"""

from __future__ import annotations

from dataclasses import dataclass

from e1000emu.regs import reg

__all__ = ["REMEDIES", "RULES", "RULE_NUMBER", "Rule", "Told", "cited"]


@dataclass(frozen=True, slots=True)
class Told:
    """What the numbers of a case mean: a format, and which of them is a descriptor's index."""

    says: str
    descriptor: int = -1


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str
    where: str
    """The register, or the structure, that it is about."""
    sdm: str
    when: str
    told: Told
    remedy: str


def _rule(
    name: str, where: str, when: str, says: str, remedy: str, *, sdm: str = "", index: int = -1
) -> Rule:
    """Make a row; its section is the register's own unless it is given."""
    return Rule(name, where, sdm or reg(where).sdm, when, Told(says, index), remedy)


ACCESS, RUN, ASKED, AUDIT = "access", "run", "asked", "audit"
_TX_RING, _RX_RING = "TDH={0} TDT={1} TDLEN={2:#x}", "RDT={0} RDLEN={1:#x} RDH={2}"
_MOVED = "{0:#x} was {1:#x}, written {2:#x} with the head at {3}"

# fmt: off
_BUS = (
    _rule("bus-master-off", "COMMAND", RUN, _TX_RING,
        "set bit 2 of the PCI command register before the rings are started", sdm="4.1", index=0),
    _rule("decode-off", "COMMAND", ACCESS, "BAR {0} offset {1:#x}",
        "set the memory or I/O enable bit of the PCI command register first", sdm="4.1"),
    _rule("power-state", "PMCSR", ACCESS, "BAR {0} offset {1:#x}",
        "the function is in D3hot: write D0 to PMCSR first", sdm="6.3.3"),
    _rule("wake-no-pme", "WUC", ACCESS, "D3hot entered with WUFC={0:#x} and PME_EN=0",
        "set PME_EN in PMCSR or WUC before D3, or clear WUFC: nothing can wake the host"),
    _rule("msi-address", "MSI_ADDRESS", RUN, "a message was due with MSI_ADDRESS=0",
        "write address and data of the message before its enable bit", sdm="PCI 2.3, 6.8.1"),
    _rule("intx-off", "COMMAND", ASKED, "ICR={0:#x} IMS={1:#x}, INTA# kept low by COMMAND={2:#x}",
        "clear bit 10 of the PCI command register, or enable MSI", sdm="PCI 2.3, 6.2.2"),
    _rule("io-size", "IOADDR", ACCESS, "access of {0} bytes at {1:#x}",
        "access IOADDR and IODATA with 32 bits at offsets 0 and 4", sdm="13.2.2"),
    _rule("io-address", "IOADDR", ACCESS, "IOADDR={0:#x}",
        "IOADDR selects registers from 0 to 1FFFF, and from 80000 on a flash, if the board has one",
        sdm="13.2.2"),
    _rule("access-size", "BAR 0", ACCESS, "access of {0} bytes at {1:#x}",
        "access registers with 32 bits at addresses divisible by 4", sdm="13.2.1"),
    _rule("table-size", "VFTA", ACCESS, "access of {0} bytes at {1:#x}",
        "access MTA, RAL, RAH and VFTA with 32 bits: on silicon the other bytes may change"),
    _rule("unknown-register", "BAR 0", ACCESS, "offset {0:#x}, written {1:#x}",
        "no such register on this part; reads gave 0, writes were ignored", sdm="13.3"),
    _rule("reserved-bits", "BAR 0", ACCESS, "{0:#x} written {1:#x}: reserved bits {2:#x}",
        "write reserved bits as 0 (or as they were read): other parts give them a meaning",
        sdm="13.3"),
    _rule("read-only", "BAR 0", ACCESS, "{0:#x} written {1:#x}",
        "the register is read-only: the write changed nothing", sdm="13.3"),
)

_EEPROM_PHY = (
    _rule("eeprom-not-granted", "EECD", ACCESS, "EECD={0:#x} without EE_REQ",
        "set EECD.EE_REQ and wait for EE_GNT before moving the pins"),
    _rule("eerd-while-granted", "EERD", ACCESS, "EERD={0:#x}",
        "clear EECD.EE_REQ before using EERD"),
    _rule("eerd-range", "EERD", ACCESS, "EERD word {0:#x}",
        "the EEPROM has fewer words; the address wrapped"),
    _rule("flash-write", "EECD", ACCESS, "a write to the flash at {0:#x} with FWE={1}",
        "write 2 to EECD.FWE before the flash is programmed or erased"),
    _rule("phy-address", "MDIC", ACCESS, "MDIC={0:#x}, PHY {1}",
        "the internal PHY answers at address 1"),
    _rule("phy-in-reset", "MDIC", ACCESS, "MDIC={0:#x}",
        "clear CTRL.PHY_RST and wait before using MDIC"),
    _rule("phy-op", "MDIC", ACCESS, "MDIC={0:#x}, OP {1}", "MDIC.OP is 1 (write) or 2 (read)"),
    _rule("mdic-ready-written", "MDIC", ACCESS, "MDIC={0:#x}",
        "write MDIC with R clear: with R set no operation starts"),
    _rule("ctrl-speed", "CTRL", ACCESS, "CTRL={0:#x}",
        "FRCSPD needs SPEED 0, 1 or 2: 3 is reserved"),
    _rule("lbm-without-phy", "RCTL", ACCESS, "RCTL={0:#x}",
        "LBM=3 needs the PHY's own loopback (BMCR bit 14) on a copper part"),
)

_RECEIVE = (
    _rule("rx-abort", "RDBAL", RUN, "RDBA={0:#x} RDH={1}",
        "the receive ring lies outside the memory the device may reach: check RDBAL/RDBAH",
        index=1),
    _rule("rx-data-abort", "receive descriptor", RUN, "before RDH={0}",
        "a receive buffer lies outside the memory the device may write", sdm="3.2.3", index=0),
    _rule("rx-no-address", "RAH", ACCESS, "RCTL={0:#x}",
        "no RAH has AV set and no promiscuous or broadcast bit: nothing will arrive"),
    _rule("rx-ring", "RDT", ACCESS, _RX_RING,
        "RDLEN must be at least 128 and a multiple of 128, RDH and RDT inside the ring", index=0),
    _rule("rx-early", "RCTL", ACCESS, "RCTL={0:#x} with RDLEN={1:#x}",
        "write RDBAL, RDBAH, RDLEN, RDH and RDT before RCTL.EN (SDM 14.4)", sdm="14.4"),
    _rule("rx-ring-moved", "RDBAL", ACCESS, _MOVED,
        "clear RCTL.EN before RDBAL, RDBAH or RDLEN change", sdm="14.4", index=3),
    _rule("rx-head-written", "RDH", ACCESS, "RDH={0} was {1}",
        "RDH is the hardware's while RCTL.EN is set: write it after a reset only", index=1),
    _rule("rctl-reserved", "RCTL", ACCESS, "RCTL={0:#x}",
        "BSIZE 0 with BSEX, RDMTS 3 and LBM 2 are reserved: use another coding"),
    _rule("rar-no-av", "RAH", ACCESS, "RAH[{0}]={1:#x}",
        "set AV (bit 31) together with the last two bytes: an entry without it matches nothing"),
    _rule("rar0-group", "RAH", ACCESS, "RAL[0]={0:#x} RAH[0]={1:#x}",
        "entry 0 is the station's address and must not be a group address"),
    _rule("pba-range", "PBA", ACCESS, "PBA={0:#x}",
        "leave room for both: RXA from 8 to 56 KiB of the 64"),
    _rule("fc-thresholds", "FCRTH", ACCESS, "FCRTL={0:#x} FCRTH={1:#x}",
        "FCRTL must be below FCRTH, else no XON follows an XOFF in time"),
    _rule("fc-type", "FCT", ASKED, "CTRL={0:#x} FCT={1:#x} FCAL={2:#x} FCAH={3:#x}",
        "write FCAL=00C28001, FCAH=0100, FCT=8808 before CTRL.RFCE or TFCE"),
    _rule("rx-owned", "receive descriptor", AUDIT, "descriptor {0}, between RDH={1} and RDT={2}",
        "a descriptor is the hardware's from RDT's write until DD: do not write it meanwhile",
        sdm="3.2.6", index=0),
    _rule("rx-dd-left", "receive descriptor", AUDIT, "descriptor {0} given with status {1:#x}",
        "clear the status before the descriptor is given, and write it before RDT (a barrier)",
        sdm="3.2.3.1", index=0),
    _rule("rx-tail-overrun", "RDT", AUDIT, "RDT from {0} to {1} with RDH={2}",
        "RDT may not reach or pass RDH: the ring is full at one less than its size", index=1),
)

_TRANSMIT = (
    _rule("tx-abort", "TDBAL", RUN, "TDBA={0:#x} TDH={1}",
        "the transmit ring lies outside the memory the device may reach: check TDBAL/TDBAH",
        index=1),
    _rule("tx-data-abort", "transmit descriptor", RUN, "before TDH={0}",
        "a transmit buffer lies outside the memory the device may read; FF was sent",
        sdm="3.3.3", index=0),
    _rule("tx-disabled", "TCTL", RUN, _TX_RING, "set TCTL.EN; the descriptors wait until then",
        index=0),
    _rule("tx-dropped", "transmit descriptor", RUN, "the frames were dropped up to EOP",
        "a descriptor chain was wrong (no EOP, too long, or legacy and data mixed)",
        sdm="3.3.3.1"),
    _rule("tx-link-down", "STATUS", RUN, _TX_RING,
        "no link: set CTRL.SLU and wait for STATUS.LU; the descriptors wait until then", index=0),
    _rule("tx-ring", "TDT", RUN, _TX_RING,
        "TDLEN must be at least 128 and a multiple of 128, TDH and TDT inside the ring", index=0),
    _rule("tx-tso", "transmit descriptor", RUN, "TSCTFC counts them",
        "a TSE context does not fit its data: header length, MSS or PAYLEN is wrong",
        sdm="3.3.6"),
    _rule("tx-tso-pad", "TSPMT", ASKED,
        "HDRLEN={0} MSS={1} TSPBP={2} with a transmit FIFO of {3} bytes",
        "leave the FIFO more than HDRLEN + MSS + TSPBP + 80 bytes: else no segment is fetched"),
    _rule("tx-early", "TCTL", ACCESS, "TCTL={0:#x} with TDLEN={1:#x}",
        "write TDBAL, TDBAH, TDLEN, TDH and TDT before TCTL.EN (SDM 14.5)", sdm="14.5"),
    _rule("tx-ring-moved", "TDBAL", ACCESS, _MOVED,
        "clear TCTL.EN before TDBAL, TDBAH or TDLEN change", sdm="14.5", index=3),
    _rule("tx-head-written", "TDH", ACCESS, "TDH={0} was {1}",
        "TDH is the hardware's while TCTL.EN is set: write it after a reset only", index=1),
    _rule("tctl-collision", "TCTL", ACCESS, "TCTL={0:#x}",
        "set CT to 0Fh and COLD to 40h with EN: half duplex has no limits otherwise", sdm="14.5"),
    _rule("tipg-low", "TIPG", ACCESS, "TIPG={0:#x}",
        "IPGT is 8 to 10 on a copper part: less is no legal gap between frames"),
    _rule("ring-align", "TDBAL", ACCESS, "{0:#x} written {1:#x}",
        "rings begin at multiples of 16; the lower bits were ignored"),
    _rule("ring-length", "TDLEN", ACCESS, "{0:#x} written {1:#x}",
        "rings have multiples of 128 bytes up to 1 MiB; the other bits were ignored"),
    _rule("tx-no-rs", "transmit descriptor", ASKED, "none of {0} descriptors had RS, TDH={1}",
        "set RS where DD is waited for: without it nothing is written back", sdm="3.3.3.1",
        index=1),
    _rule("tx-no-eop", "transmit descriptor", ASKED, "TDH=TDT={0} inside a frame",
        "the last descriptor of a frame needs EOP", sdm="3.3.3.1", index=0),
    _rule("tx-owned", "transmit descriptor", AUDIT, "descriptor {0}, between TDH={1} and TDT={2}",
        "a descriptor is the hardware's from TDT's write until DD: do not write it meanwhile",
        sdm="3.4", index=0),
    _rule("tx-dd-left", "transmit descriptor", AUDIT, "descriptor {0} given with DD set",
        "write the whole descriptor before TDT, with a barrier between: the device sees the old",
        sdm="3.3.3.2", index=0),
    _rule("tx-tail-overrun", "TDT", AUDIT, "TDT from {0} to {1} with TDH={2}",
        "TDT may not reach or pass TDH: the ring is full at one less than its size", index=1),
)

_INTERRUPTS = (
    _rule("icr-not-pending", "ICR", ACCESS, "ICR={0:#x} written {1:#x}",
        "clear only causes that were read as pending (or read ICR, which clears): others get lost"),
    _rule("ics-as-ack", "ICS", ACCESS, "ICS written {0:#x} while ICR={1:#x} interrupts",
        "ICS sets causes; read ICR, or write 1s to it, to acknowledge"),
    _rule("irq-unacknowledged", "ICR", ASKED, "ICR={0:#x} IMS={1:#x}, line high for {2} ms",
        "read ICR in the handler: the line stays high until its causes are cleared or masked"),
    _rule("itr-low", "ITR", ASKED, "ITR={0}",
        "an interval under 31 (8 us) allows more than 125,000 interrupts a second; 0 is off"),
    _rule("tadv-alone", "TADV", ACCESS, "TIDV={0} TADV={1}",
        "TADV works beside TIDV only, and TIDV=0 is not allowed with IDE"),
)
# fmt: on

RULES: tuple[Rule, ...] = (*_BUS, *_EEPROM_PHY, *_RECEIVE, *_TRANSMIT, *_INTERRUPTS)
"""Every rule."""

RULE_NUMBER: dict[str, int] = {rule.name: n for n, rule in enumerate(RULES)}
"""Where in `RULES` a rule is: its number in the compiled log."""

REMEDIES: dict[str, str] = {rule.name: rule.remedy for rule in RULES}
"""What to do about each."""


def cited(section: str) -> str:
    """Return the section of a rule or reason with its source: Intel's SDM where it names none."""
    return section if " " in section else f"SDM {section}"
