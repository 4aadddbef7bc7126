"""The rules of misuse as data: driver mistakes, SDM sections and remedies.

One row per rule. `condition` defines when a case is recorded. `says` is the text of a case: a
format for up to four recorded numbers (`misuse.Misuse.note`). `when` is when the device checks a
rule. *access*: at the access that breaks it. *run*: when an engine processes a ring. *asked*: only
in `Misuse.events` or `e1000emu explain`, so it costs nothing otherwise. *audit*: when a strict
device compares the descriptor rings, at each doorbell. "SDM" is 317453 (see regs.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from e1000emu.registers.regs import reg

__all__ = ["REMEDIES", "RULES", "RULE_NUMBER", "Rule", "Told", "cited"]


@dataclass(frozen=True, slots=True)
class Told:
    """How to format the numbers of a case, and which of them is a descriptor's index."""

    says: str
    descriptor: int = -1


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str
    where: str
    """The register or structure that the rule is about."""
    sdm: str
    when: str
    condition: str
    """When a case is recorded."""
    told: Told
    remedy: str
    follows: tuple[str, ...] = ()
    """Rules whose breach causes this one: it is listed below them."""


def _rule(
    name: str,
    where: str,
    when: str,
    condition: str,
    says: str,
    remedy: str,
    *,
    sdm: str = "",
    index: int = -1,
    follows: tuple[str, ...] = (),
) -> Rule:
    """Create a row; its section is the register's own unless it is given."""
    told = Told(says, index)
    return Rule(name, where, sdm or reg(where).sdm, when, condition, told, remedy, follows)


ACCESS, RUN, ASKED, AUDIT = "access", "run", "asked", "audit"
_TX_RING, _RX_RING = "TDH={0} TDT={1} TDLEN={2:#x}", "RDT={0} RDLEN={1:#x} RDH={2}"
_MOVED = "{0:#x} was {1:#x}, written {2:#x} with the head at {3}"

# fmt: off
_BUS = (
    _rule("bus-master-off", "COMMAND", RUN,
        "descriptors wait in the transmit ring while bit 2 of COMMAND is 0",
        _TX_RING,
        "set bit 2 of the PCI command register before the rings are started", sdm="4.1", index=0),
    _rule("decode-off", "COMMAND", ACCESS,
        "in D0, a window is accessed that COMMAND does not enable or that does not exist",
        "BAR {0} offset {1:#x}",
        "set the memory or I/O enable bit of the PCI command register first", sdm="4.1"),
    _rule("power-state", "PMCSR", ACCESS,
        "a window is accessed in D3hot",
        "BAR {0} offset {1:#x}",
        "the function is in D3hot: write D0 to PMCSR first", sdm="6.3.3"),
    _rule("wake-no-pme", "WUC", ACCESS,
        "PMCSR goes from D0 to D3hot with WUFC not 0 and PME_EN 0",
        "D3hot entered with WUFC={0:#x} and PME_EN=0",
        "set PME_EN in PMCSR or WUC before D3, or clear WUFC: nothing can wake the host"),
    _rule("msi-address", "MSI_ADDRESS", RUN,
        "MSI is on, a message is due, and MSI_ADDRESS is 0",
        "a message was due with MSI_ADDRESS=0",
        "write address and data of the message before its enable bit", sdm="PCI 2.3, 6.8.1"),
    _rule("intx-off", "COMMAND", ASKED,
        "in D0 a cause is pending and unmasked, COMMAND bit 10 is 1 and MSI is off",
        "ICR={0:#x} IMS={1:#x}, INTA# kept low by COMMAND={2:#x}",
        "clear bit 10 of the PCI command register, or enable MSI", sdm="PCI 2.3, 6.2.2"),
    _rule("io-size", "IOADDR", ACCESS,
        "IOADDR or IODATA is accessed with other than 32 bits, or at another offset; the flash "
        "accepts any size",
        "access of {0} bytes at {1:#x}",
        "access IOADDR and IODATA with 32 bits at offsets 0 and 4", sdm="13.2.2"),
    _rule("io-address", "IOADDR", ACCESS,
        "IODATA is accessed while IOADDR selects neither a register nor an existing flash",
        "IOADDR={0:#x}",
        "IOADDR selects registers from 0 to 1FFFF, and from 80000 on a flash, if the board has one",
        sdm="13.2.2"),
    _rule("access-size", "BAR 0", ACCESS,
        "BAR 0 is read or written with other than 32 bits, or unaligned",
        "access of {0} bytes at {1:#x}",
        "access registers with 32 bits at addresses divisible by 4", sdm="13.2.1"),
    _rule("table-size", "VFTA", ACCESS,
        "MTA, RAL, RAH or VFTA is written with other than 32 bits, or unaligned",
        "access of {0} bytes at {1:#x}",
        "access MTA, RAL, RAH and VFTA with 32 bits: on silicon the other bytes may change"),
    _rule("unknown-register", "BAR 0", ACCESS,
        "an offset of BAR 0 without a register on this part is read or written",
        "offset {0:#x}, written {1:#x}",
        "no such register on this part; reads gave 0, writes were ignored", sdm="13.3"),
    _rule("reserved-bits", "BAR 0", ACCESS,
        "1 is written to a reserved bit; except in TDBAL, RDBAL, TDLEN and RDLEN, which have rules "
        "of their own, and in IMC, ICR and WUS, which drivers clear with all ones",
        "{0:#x} written {1:#x}: reserved bits {2:#x}",
        "write reserved bits as 0 (or as they were read): other parts give them a meaning",
        sdm="13.3"),
    _rule("read-only", "BAR 0", ACCESS,
        "a register without writable bits is written",
        "{0:#x} written {1:#x}",
        "the register is read-only: the write changed nothing", sdm="13.3"),
)

_EEPROM_PHY = (
    _rule("eeprom-not-granted", "EECD", ACCESS,
        "EECD is written with CS while EE_REQ is 0, on a part that grants access",
        "EECD={0:#x} without EE_REQ",
        "set EECD.EE_REQ and wait for EE_GNT before moving the pins"),
    _rule("eerd-while-granted", "EERD", ACCESS,
        "EERD.START is written while EECD.EE_GNT is 1",
        "EERD={0:#x}",
        "clear EECD.EE_REQ before using EERD"),
    _rule("eerd-range", "EERD", ACCESS,
        "EERD reads a word beyond the last one",
        "EERD word {0:#x}",
        "the EEPROM has fewer words; the address wrapped"),
    _rule("flash-write", "EECD", ACCESS,
        "the flash is written while EECD.FWE is not 2",
        "a write to the flash at {0:#x} with FWE={1}",
        "write 2 to EECD.FWE before the flash is programmed or erased"),
    _rule("phy-address", "MDIC", ACCESS,
        "MDIC starts an operation at an address other than 1, or on a board without a PHY",
        "MDIC={0:#x}, PHY {1}",
        "the internal PHY answers at address 1"),
    _rule("phy-in-reset", "MDIC", ACCESS,
        "MDIC starts an operation while CTRL.PHY_RST is 1",
        "MDIC={0:#x}",
        "clear CTRL.PHY_RST and wait before using MDIC"),
    _rule("phy-op", "MDIC", ACCESS,
        "MDIC starts an operation with OP 0 or 3",
        "MDIC={0:#x}, OP {1}", "MDIC.OP is 1 (write) or 2 (read)"),
    _rule("mdic-ready-written", "MDIC", ACCESS,
        "MDIC is written with R and an OP",
        "MDIC={0:#x}",
        "write MDIC with R clear: with R set no operation starts"),
    _rule("ctrl-speed", "CTRL", ACCESS,
        "CTRL is written with FRCSPD and SPEED 3",
        "CTRL={0:#x}",
        "FRCSPD needs SPEED 0, 1 or 2: 3 is reserved"),
    _rule("lbm-without-phy", "RCTL", ACCESS,
        "RCTL.LBM is 3 on a copper part whose PHY is not in loopback",
        "RCTL={0:#x}",
        "LBM=3 needs the PHY's own loopback (BMCR bit 14) on a copper part"),
)

_RECEIVE = (
    _rule("rx-abort", "RDBAL", RUN,
        "no memory exists at the address of a receive descriptor",
        "RDBA={0:#x} RDH={1}",
        "the receive ring lies outside the memory the device may reach: check RDBAL/RDBAH",
        index=1,
        follows=("ring-length", "rx-ring-moved")),
    _rule("rx-data-abort", "receive descriptor", RUN,
        "no memory exists at the buffer address of a receive descriptor",
        "before RDH={0}",
        "a receive buffer lies outside the memory the device may write", sdm="3.2.3", index=0,
        follows=("ring-align", "rx-ring-moved", "rx-head-written", "rx-owned")),
    _rule("rx-no-address", "RAH", ACCESS,
        "RCTL.EN goes from 0 to 1 with UPE, MPE and BAM 0 and no RAH that has AV",
        "RCTL={0:#x}",
        "no RAH has AV set, no promiscuous or broadcast bit is set: nothing will be received"),
    _rule("rx-ring", "RDT", ACCESS,
        "RDT is written with a value above the number of descriptors, or not 0 while RDLEN has "
        "fewer than 8",
        _RX_RING,
        "RDLEN must be at least 128 and a multiple of 128, RDH and RDT inside the ring", index=0,
        follows=("ring-length",)),
    _rule("rx-early", "RCTL", ACCESS,
        "RCTL.EN goes from 0 to 1 while RDLEN is 0 (Linux does this for wake-up, without a ring)",
        "RCTL={0:#x} with RDLEN={1:#x}",
        "write RDBAL, RDBAH, RDLEN, RDH and RDT before RCTL.EN (SDM 14.4)", sdm="14.4"),
    _rule("rx-ring-moved", "RDBAL", ACCESS,
        "RDBAL, RDBAH or RDLEN is written with another value while RCTL.EN is 1",
        _MOVED,
        "clear RCTL.EN before RDBAL, RDBAH or RDLEN change", sdm="14.4", index=3),
    _rule("rx-head-written", "RDH", ACCESS,
        "RDH is written with another value while RCTL.EN is 1",
        "RDH={0} was {1}",
        "RDH is the hardware's while RCTL.EN is set: write it after a reset only", index=1),
    _rule("rctl-reserved", "RCTL", ACCESS,
        "RCTL is written with BSEX and BSIZE 0, with RDMTS 3 or with LBM 2",
        "RCTL={0:#x}",
        "BSIZE 0 with BSEX, RDMTS 3 and LBM 2 are reserved: use another coding"),
    _rule("rar-no-av", "RAH", ACCESS,
        "RAH is written with an address's bytes and AV 0",
        "RAH[{0}]={1:#x}",
        "set AV (bit 31) together with the last two bytes: an entry without it matches nothing"),
    _rule("rar0-group", "RAH", ACCESS,
        "RAH[0] is written with AV while RAL[0] has a group address",
        "RAL[0]={0:#x} RAH[0]={1:#x}",
        "entry 0 is the station's address and must not be a group address"),
    _rule("pba-range", "PBA", ACCESS,
        "PBA is written with RXA below 8 or above 56",
        "PBA={0:#x}",
        "leave room for both: RXA from 8 to 56 KiB of the 64"),
    _rule("fc-thresholds", "FCRTH", ACCESS,
        "FCRTH is written with an RTH that is not 0 and not above FCRTL.RTL",
        "FCRTL={0:#x} FCRTH={1:#x}",
        "FCRTL must be below FCRTH, else no XON follows an XOFF in time"),
    _rule("fc-type", "FCT", ASKED,
        "CTRL.RFCE or TFCE is 1 while FCT, FCAL or FCAH is 0",
        "CTRL={0:#x} FCT={1:#x} FCAL={2:#x} FCAH={3:#x}",
        "write FCAL=00C28001, FCAH=0100, FCT=8808 before CTRL.RFCE or TFCE"),
    _rule("rx-owned", "receive descriptor", AUDIT,
        "at a write of RDT a descriptor from RDH to the old RDT has changed since it was given",
        "descriptor {0}, between RDH={1} and RDT={2}",
        "a descriptor is the hardware's from RDT's write until DD: do not write it meanwhile",
        sdm="3.2.6", index=0,
        follows=("rx-tail-overrun", "rx-before-dd")),
    _rule("rx-dd-left", "receive descriptor", AUDIT,
        "at a write of RDT a descriptor that is given has DD set",
        "descriptor {0} given with status {1:#x}",
        "clear the status before the descriptor is given, and write it before RDT (a barrier)",
        sdm="3.2.3.1", index=0),
    _rule("rx-tail-overrun", "RDT", AUDIT,
        "RDT moves so far that it reaches or passes RDH",
        "RDT from {0} to {1} with RDH={2}",
        "RDT may not reach or pass RDH: the ring is full at one less than its size", index=1,
        follows=("rx-tail-size",)),
    _rule("rx-tail-size", "RDT", ACCESS,
        "RDT is written with the number of descriptors of the ring, which has 8 or more",
        "RDT={0} of {0} descriptors, RDH={1}",
        "indices go from 0 to one less than the size: wrap RDT to 0; the device took it for the "
        "ring's end", index=1),
    _rule("rx-before-dd", "receive descriptor", ACCESS,
        "on a bench with `writeback_ns` the driver reads the length or the buffer of a descriptor, "
        "or gives it again, before its write-back. A real device cannot see reads of memory",
        "descriptor {0}, {1} ns before its DD",
        "wait for DD in the status; length and data count after it", sdm="3.2.3.1", index=0),
)

_TRANSMIT = (
    _rule("tx-abort", "TDBAL", RUN,
        "no memory exists at the address of a transmit descriptor",
        "TDBA={0:#x} TDH={1}",
        "the transmit ring lies outside the memory the device may reach: check TDBAL/TDBAH",
        index=1,
        follows=("ring-length", "tx-ring-moved")),
    _rule("tx-data-abort", "transmit descriptor", RUN,
        "no memory exists at the buffer address of a transmit descriptor",
        "before TDH={0}",
        "a transmit buffer lies outside the memory the device may read; FF was sent",
        sdm="3.3.3", index=0,
        follows=("ring-align", "tx-ring-moved", "tx-head-written", "tx-owned")),
    _rule("tx-disabled", "TCTL", RUN,
        "descriptors wait when the ring is processed, and TCTL.EN is 0",
        _TX_RING, "set TCTL.EN; the descriptors wait until then",
        index=0),
    _rule("tx-dropped", "transmit descriptor", RUN,
        "a frame is longer than the FIFO holds, has legacy and extended descriptors, or one of "
        "an undefined type",
        "the frames were dropped up to EOP",
        "a descriptor chain was wrong (no EOP, too long, or legacy and data mixed)",
        sdm="3.3.3.1",
        follows=("ring-align", "tx-ring-moved", "tx-head-written", "tx-owned")),
    _rule("tx-link-down", "STATUS", RUN,
        "descriptors wait when the ring is processed, only because STATUS.LU is 0",
        _TX_RING,
        "no link: set CTRL.SLU and wait for STATUS.LU; the descriptors wait until then", index=0),
    _rule("tx-ring", "TDT", RUN,
        "descriptors wait when the ring is processed, and TDLEN has fewer than 8, or TDH or TDT "
        "is outside of it",
        _TX_RING,
        "TDLEN must be at least 128 and a multiple of 128, TDH and TDT inside the ring", index=0,
        follows=("ring-length",)),
    _rule("tx-tso", "transmit descriptor", RUN,
        "the HDRLEN, MSS or PAYLEN of a segmentation context does not match its data",
        "TSCTFC counts them",
        "a TSE context does not match its data: header length, MSS or PAYLEN is wrong",
        sdm="3.3.6",
        follows=("ring-align", "tx-ring-moved", "tx-head-written", "tx-owned")),
    _rule("tx-tso-pad", "TSPMT", ASKED,
        "HDRLEN + MSS + TSPBP + 80 is not below the bytes of the transmit FIFO",
        "HDRLEN={0} MSS={1} TSPBP={2} with a transmit FIFO of {3} bytes",
        "leave the FIFO more than HDRLEN + MSS + TSPBP + 80 bytes: else no segment is fetched"),
    _rule("tx-early", "TCTL", ACCESS,
        "TCTL.EN goes from 0 to 1 while TDLEN is 0",
        "TCTL={0:#x} with TDLEN={1:#x}",
        "write TDBAL, TDBAH, TDLEN, TDH and TDT before TCTL.EN (SDM 14.5)", sdm="14.5"),
    _rule("tx-ring-moved", "TDBAL", ACCESS,
        "TDBAL, TDBAH or TDLEN is written with another value while TCTL.EN is 1",
        _MOVED,
        "clear TCTL.EN before TDBAL, TDBAH or TDLEN change", sdm="14.5", index=3),
    _rule("tx-head-written", "TDH", ACCESS,
        "TDH is written with another value while TCTL.EN is 1",
        "TDH={0} was {1}",
        "TDH is the hardware's while TCTL.EN is set: write it after a reset only", index=1),
    _rule("tctl-collision", "TCTL", ACCESS,
        "TCTL.EN goes from 0 to 1 with CT and COLD 0",
        "TCTL={0:#x}",
        "set CT to 0Fh and COLD to 40h with EN: half duplex has no limits otherwise", sdm="14.5"),
    _rule("tipg-low", "TIPG", ACCESS,
        "TIPG is written with IPGT below 6",
        "TIPG={0:#x}",
        "IPGT is 8 to 10 on a copper part: less is no legal gap between frames"),
    _rule("ring-align", "TDBAL", ACCESS,
        "TDBAL or RDBAL is written with one of its low four bits",
        "{0:#x} written {1:#x}",
        "rings begin at multiples of 16; the lower bits were ignored"),
    _rule("ring-length", "TDLEN", ACCESS,
        "TDLEN or RDLEN is written with bits outside of its field",
        "{0:#x} written {1:#x}",
        "rings have multiples of 128 bytes up to 1 MiB; the other bits were ignored"),
    _rule("tx-no-rs", "transmit descriptor", ASKED,
        "TDH = TDT, and none of the last 64 descriptors (or all but one of a smaller ring) has RS. "
        "Fewer are only mentioned by `explain`, as drivers may set RS on every 32nd",
        "none of {0} descriptors had RS, TDH={1}",
        "set RS where DD is waited for: without it nothing is written back", sdm="3.3.3.1",
        index=1,
        follows=("ring-align", "tx-ring-moved")),
    _rule("tx-no-eop", "transmit descriptor", ASKED,
        "TDH = TDT within a frame",
        "TDH=TDT={0} inside a frame",
        "the last descriptor of a frame needs EOP", sdm="3.3.3.1", index=0,
        follows=("ring-align", "tx-ring-moved", "tx-head-written", "tx-owned")),
    _rule("tx-owned", "transmit descriptor", AUDIT,
        "at a write of TDT a descriptor from TDH to the old TDT has changed since it was given",
        "descriptor {0}, between TDH={1} and TDT={2}",
        "a descriptor is the hardware's from TDT's write until DD: do not write it meanwhile",
        sdm="3.4", index=0,
        follows=("tx-tail-overrun", "tx-before-dd")),
    _rule("tx-dd-left", "transmit descriptor", AUDIT,
        "at a write of TDT a descriptor that is given has DD set",
        "descriptor {0} given with DD set",
        "write the whole descriptor before TDT, with a barrier between: the device read old data",
        sdm="3.3.3.2", index=0),
    _rule("tx-tail-overrun", "TDT", AUDIT,
        "TDT moves so far that it reaches or passes TDH",
        "TDT from {0} to {1} with TDH={2}",
        "TDT may not reach or pass TDH: the ring is full at one less than its size", index=1,
        follows=("tx-tail-size",)),
    _rule("tx-tail-size", "TDT", ACCESS,
        "TDT is written with the number of descriptors of the ring, which has 8 or more",
        "TDT={0} of {0} descriptors, TDH={1}",
        "indices go from 0 to one less than the size: wrap TDT to 0; the device took it for 0",
        index=1),
    _rule("tx-before-dd", "transmit descriptor", ACCESS,
        "on a bench with `writeback_ns` the driver gives a descriptor again before its write-back",
        "descriptor {0}, {1} ns before its DD",
        "wait for DD in the status before a descriptor, or its buffer, is used again",
        sdm="3.3.3.2", index=0),
)

_INTERRUPTS = (
    _rule("icr-not-pending", "ICR", ACCESS,
        "1 is written to a bit of ICR that is 0, not all ones are, and IMS is not 0",
        "ICR={0:#x} written {1:#x}",
        "clear only causes that were read as pending (or read ICR, which clears): others are lost"),
    _rule("ics-as-ack", "ICS", ACCESS,
        "within 1 ms of a read of ICR its value is written to ICS, after two reads in a row. Or "
        "ICS is written with exactly the pending causes, three times in one interrupt",
        "ICS written {0:#x} while ICR={1:#x} interrupts",
        "ICS sets causes; read ICR, or write 1s to it, to acknowledge"),
    _rule("irq-unacknowledged", "ICR", ASKED,
        "the line has been high for 5 s",
        "ICR={0:#x} IMS={1:#x}, line high for {2} ms",
        "read ICR in the handler: the line stays high until its causes are cleared or masked",
        follows=("ics-as-ack",)),
    _rule("itr-low", "ITR", ASKED,
        "ITR is 1 to 30",
        "ITR={0}",
        "an interval under 31 (8 us) allows more than 125,000 interrupts a second; 0 is off"),
    _rule("tadv-alone", "TADV", ACCESS,
        "TADV is written, not 0, while TIDV is 0",
        "TIDV={0} TADV={1}",
        "TADV works beside TIDV only, and TIDV=0 is not allowed with IDE"),
)
# fmt: on

RULES: tuple[Rule, ...] = (*_BUS, *_EEPROM_PHY, *_RECEIVE, *_TRANSMIT, *_INTERRUPTS)
"""Every rule."""

RULE_NUMBER: dict[str, int] = {rule.name: n for n, rule in enumerate(RULES)}
"""Index of a rule in `RULES`: its number in the compiled log."""

REMEDIES: dict[str, str] = {rule.name: rule.remedy for rule in RULES}
"""The remedy of each rule."""


def cited(section: str) -> str:
    """Return the section of a rule or reason with its source: Intel's SDM if it names none."""
    return section if " " in section else f"SDM {section}"
