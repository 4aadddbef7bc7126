"""The page of differences between our device, silicon and QEMU's e1000.

The gaps are declared in the tables (e1000emu/registers/coverage.py), the rulings in
tests/qemu/rulings.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from e1000emu.registers.coverage import gaps, shares

RULINGS = Path(__file__).resolve().parent.parent / "tests" / "qemu" / "rulings.toml"
SPACES = {
    "bar0": "registers",
    "phy": "PHY",
    "pci": "PCI configuration space",
    "eeprom": "EEPROM words",
}

INTRO = """# Where we differ from silicon and from QEMU, and why

Written by `docs/generate.py` from the device's own tables and from
`tests/qemu/rulings.toml`.

## From silicon

The device follows Intel's manual (317453), except in the following.

### By design

"""

DESIGN = (
    (
        "time",
        "each access takes clocks of the bus",
        "accesses and DMA take no time, unless the NIC has [a "
        "bus](measure.md#a-bus-that-takes-time); delays that the manual specifies (PHY, EEPROM "
        "writes, interrupt moderation, a link's rate) do",
        "a bus's traffic is not a property of the part; without it every run is the same",
    ),
    (
        "write-backs of one run of the transmit engine",
        "each is an event of its own",
        "one event for all of them; a super-frame to a link that takes them (another NIC in the "
        "process) counts as one frame",
        "the run takes no time, so all its write-backs are simultaneous, and ITR, TIDV, TADV and "
        'TXD_LOW give the same result; only `moderation="adaptive"`, which no datasheet has, '
        "counts frames. With threads it counts them as the wire does",
    ),
    (
        "a bus, `Nic(bus=…)`",
        "all of the part's traffic crosses the bus",
        "sent frames and their descriptors cross it; write-backs and received frames take no "
        "time. The bytes of a frame are read when their transfer ends, those of a descriptor when"
        " it begins",
        "write-backs are posted; a real bus that also carries received frames is slower than this",
    ),
    (
        "TSMT above what the FIFO holds",
        "13.4.45 does not say",
        "an empty FIFO takes a burst as large as it has room for",
        "TSMT is what the DMA *attempts*; the manual warns of waiting for ever only for TSPBP",
    ),
    (
        "TSPBP too small for the headers",
        "13.4.45 leaves it to software",
        "the next segment waits until there is room",
        "the FIFO must not overflow",
    ),
    (
        "the far end of a fibre",
        "its /C/ ordered sets arrive over the fibre",
        "two fibre boards on a `pair` receive each other's base page. On any other link, and "
        "opposite any other part, each NIC has its own model of the far end (clause 37, set by "
        "`FarEnd`). TXCONFIG bit 15 (next page) is sent as written, but no next page follows",
        "a TAP or a switch carries only frames; no driver of these boards uses next pages",
    ),
    (
        "CTRL.RFCE and TFCE of a fibre board",
        "8.7.3: set by software; 13.4.23: negotiated, and taken from CTRL when the link is forced",
        "set to the negotiated values when TXCW.ANE has brought the link up; software may change "
        "them afterwards",
        "Linux's and FreeBSD's drivers expect this, and write them only for a forced link",
    ),
    (
        "SEC",
        "errors in the sequence of symbols",
        "/C/ that come while the link is up, with ICR.RXSEQ",
        "a link's frames have no symbols; this is the one sequence error that a far end can cause",
    ),
    (
        "RPS of the 82544",
        "status when the frame is sent",
        "status when it is in the FIFO, as with RS",
        "without a bus both happen at once",
    ),
    (
        "fetching descriptors",
        "an empty cache is refilled at once, one below PTHRESH when memory has HTHRESH "
        "descriptors; it holds 64",
        "the same on a clock; where threads or messages serve a guest, it is refilled at the next"
        " frame",
        "a driver that adds descriptors there does not wait for the thread that fetches them",
    ),
    (
        "a full receive FIFO",
        "the frame is lost (MPC, RXO)",
        "the same on links that cannot wait; other links hold their frames until there is room",
        "a cable within a process, or a TAP, need not lose what it can keep",
    ),
    (
        "a link's rate",
        "10, 100 or 1000 Mbit/s",
        "as fast as the machine can, unless the link has a rate (`pair(rate_bps=…)`): then exact "
        "to the nanosecond, with TIPG and AIT",
        "most users of an emulator want the frames, not their spacing",
    ),
    (
        "autonegotiation",
        "one to three seconds, by the cable",
        "`autoneg_ns`: a second for a guest, 0 for a host of ours",
        "there is no cable to negotiate over, so a host of ours need not wait",
    ),
    (
        "interrupts of a guest",
        "by ITR and the delay registers",
        '`moderation="adaptive"` also combines them while many frames come; `"datasheet"` does '
        "not, and is the default in process",
        "an interrupt costs a guest [four round trips](embed.md#what-an-access-costs)",
    ),
    (
        "runts from the link",
        "dropped, RUC",
        "padded to 60 bytes; `Nic(pad_runts=False)` drops and counts them",
        "virtual links do not pad frames",
    ),
    (
        "management: what MANC's filters take",
        "described in application notes that the manual refers to (13.7.38)",
        "what the bits' names in e1000_hw.h suggest: UDP to 26Fh and 298h over IPv4 or IPv6 "
        "(IPV4_EN, IPV6_EN), ARP requests and responses, and neighbour solicitations. Frames to "
        "any address match, also behind a VLAN tag and, with SNAP_EN, an LLC/SNAP header. The "
        "address filters come first (broadcast passes whatever BAM is), and RCTL.EN need not be "
        "set",
        "the frame formats are those of 6.4.3; the manuals of the 82598 (5.3.10) and the I210 "
        "(10.5.9) say that RCV_TCO_EN enables all of it and that the address filters come first",
    ),
    (
        "management: who gets the frames",
        "the manual does not say",
        "only the controller, since EN_MNG2HOST exists in later parts only. All statistics count "
        "them",
        "drivers clear ARP_EN to end the *interception* of ARP; the I210 counts them too (8.18)",
    ),
    (
        "management: MANC after a reset",
        "the manual does not say",
        "with a controller, MANC is kept except at power-on and the link stays up (SLU), also "
        "with TCO_RESET. Without a controller MANC is cleared",
        "the 82575's management registers are cleared only at power-on (14.7)",
    ),
    (
        "management: the controller's interface",
        "SMBus; the manual does not give its buffer's size",
        "whole frames at once, a buffer of 1 KiB; what it sends does not cross a bus "
        "(`Nic(bus=…)`)",
        "nothing here observes the bytes of an SMBus; ASF, which needs no controller, is left out",
    ),
    (
        "SWSM (5B50h)",
        "no such register",
        "stores what is written: the semaphore of later parts, always granted",
        "U-Boot takes the semaphore on every part, and gives up if it cannot",
    ),
    (
        "accesses of 1, 2, 3 or 8 bytes, or not aligned",
        "13.2.1 specifies only aligned 32 bits",
        "a write changes the bytes that it enables, as on PCI; the other bytes keep their value "
        "and clear, set or start nothing. A read reads every register that it touches as a whole,"
        " with its side effects: one byte of ICR clears all causes. IODATA ignores writes under "
        "32 bits (13.2.2). Each such access is the misuse `access-size`",
        "a driver that writes a byte means that byte; a PCI read returns all bytes of a dword, "
        "and the driver has to know that reading has side effects",
    ),
    (
        "what the manual leaves open, or forbids",
        "anything",
        "nothing harmful, and an event that names the remedy: [rules of misuse](misuse.md)",
        "the driver's author wants to know",
    ),
)
"""Rows of four cells: what, on silicon, here, why."""


QEMU = """
## From QEMU's e1000

`tests/qemu/test_differential.py` runs the same programs on our three parts and, through its qtest
socket, on the e1000, e1000-82545em and e1000-82544gc of QEMU 7.2. The programs try each register,
interrupts, PHY and EEPROM, descriptors of every kind, filters, checksums, and more that hypothesis
makes. For every disagreement this table says which side Intel's manual supports; a row that no
disagreement needs fails the test. [Embed](embed.md#our-driver-on-qemus-card) says what the
differences mean for a driver.

| part | in | what | right | SDM | why |
|---|---|---|---|---|---|
"""


def _design() -> Iterator[str]:
    yield "| what | silicon | here | why |\n|---|---|---|---|\n"
    for row in DESIGN:
        yield f"| {' | '.join(row)} |\n"


def _shares() -> Iterator[str]:
    yield "\n### Not modelled\n\n| | named bits | modelled |\n|---|---|---|\n"
    for share in shares():
        yield f"| {SPACES[share.space]} | {share.named:,} | {share.percent:.1f} % |\n"


def _gaps() -> Iterator[str]:
    """Yield a row for each reason, in the order of the tables."""
    by_reason: dict[tuple[str, str], list[str]] = defaultdict(list)
    for gap in gaps():
        by_reason[gap.space, gap.why].append(f"{gap.register}.{gap.name}")
    yield "\nNamed bits that store what is written and have no other effect "
    yield "(`e1000emu regs --coverage`):\n\n"
    yield "| where | bits | why |\n|---|---|---|\n"
    for (space, why), names in by_reason.items():
        yield f"| {SPACES[space]} | {', '.join(names)} | {why} |\n"


def _rulings() -> Iterator[str]:
    for ruling in tomllib.loads(RULINGS.read_text())["ruling"]:
        part, where, what = (
            re.sub(r"\.[*+]|\\d\+", "…", ruling.get(key, "all")).replace("|", ", ")
            for key in ("model", "program", "place")
        )
        cells = (part, where, what, ruling["right"], ruling["sdm"], ruling["why"])
        yield f"| {' | '.join(cells)} |\n"


def markdown() -> str:
    """Return docs/hardware.md."""
    return "".join([INTRO, *_design(), *_shares(), *_gaps(), QEMU, *_rulings()])
