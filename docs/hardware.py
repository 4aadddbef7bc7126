"""The page that says where our device leaves silicon, and where QEMU's e1000 leaves ours.

The gaps are declared in the tables (e1000emu/coverage.py), the rulings in tests/qemu/rulings.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from e1000emu.coverage import gaps, shares

RULINGS = Path(__file__).resolve().parent.parent / "tests" / "qemu" / "rulings.toml"
SPACES = {
    "bar0": "registers",
    "phy": "PHY",
    "pci": "PCI configuration space",
    "eeprom": "EEPROM words",
}

INTRO = """# Where we differ from silicon and from QEMU, and why

Written by `docs/generate.py` from the tables that the device works by and from
`tests/qemu/rulings.toml`.

## From silicon

The manual (Intel's 317453) is what the device is built by. It leaves it in these ways.

### By design

"""

DESIGN = (
    (
        "time",
        "each access takes clocks of the bus",
        "accesses and DMA take no time, but for what [a bus](measure.md#a-bus-that-takes-time) is "
        "given; delays that the manual gives (PHY, EEPROM writes, moderation, the pacing of a link "
        "with a rate) do",
        "a bus's traffic is no property of the part; runs are the same each time",
    ),
    (
        "write-backs of one run of the transmit engine",
        "each is an event of its own",
        "one event for all of them, in which a super-frame for a link that takes them (another NIC "
        "in the process) is one frame",
        "the run takes no time, so all are at one instant, and ITR, TIDV, TADV and TXD_LOW come to "
        'the same; frames are counted by `moderation="adaptive"` alone, which is no datasheet\'s. '
        "With threads it counts them as the wire does",
    ),
    (
        "a bus, `Nic(bus=…)`",
        "all that the part does crosses it",
        "what is sent does, with its descriptors; write-backs and received frames take no time. A "
        "descriptor's bytes are read when its transfer ends, those of a descriptor when it begins",
        "write-backs are posted; a bus that also receives is slower than this one says",
    ),
    (
        "TSMT above what the FIFO holds",
        "13.4.45 does not say",
        "an empty FIFO takes a burst of what it has room for",
        "the DMA *attempts* so much; that it would wait for ever only TSPBP is said to bring about",
    ),
    (
        "TSPBP too small for the headers",
        "13.4.45 leaves it to software",
        "the next segment waits until there is room",
        "a FIFO is never overfull",
    ),
    (
        "the far end of a fibre",
        "its /C/ ordered sets come by the fibre",
        "two fibre boards on a `pair` hear each other's base page; on any other link, and beside "
        "anything else, each NIC has its own model of the far end (clause 37, what `FarEnd` says). "
        "Next pages (TXCONFIG bit 15) are sent as they are written and followed by none",
        "frames are all that a TAP or a switch carries; no driver of these boards uses next pages",
    ),
    (
        "CTRL.RFCE and TFCE of a fibre board",
        "8.7.3: software's; 13.4.23: negotiated, and CTRL's when the link is forced",
        "set to what was negotiated when TXCW.ANE has brought the link up; software may change "
        "them then",
        "Linux's and FreeBSD's drivers say so and write them for a forced link alone",
    ),
    (
        "SEC",
        "sequence errors of symbols",
        "/C/ that come while the link is up, with ICR.RXSEQ",
        "a link's frames have no symbols; this is the one sequence that a far end can break",
    ),
    (
        "RPS of the 82544",
        "status when the frame is sent",
        "status when it is in the FIFO, as with RS",
        "without a bus the two are one moment",
    ),
    (
        "fetching descriptors",
        "an empty cache at once, one below PTHRESH when memory has HTHRESH of them; 64 at most",
        "the same on a clock; where threads or messages serve a guest, at the next frame",
        "who gives descriptors there does not wait for the thread that fetches them",
    ),
    (
        "a full receive FIFO",
        "the frame is lost (MPC, RXO)",
        "so on links that cannot wait; a link that can holds its frames until there is room",
        "a cable within a process, or a TAP, need not lose what it can keep",
    ),
    (
        "a link's rate",
        "10, 100 or 1000 Mbit/s",
        "as fast as the machine goes, unless the link is given a rate (`pair(rate_bps=…)`): then "
        "to the nanosecond, with TIPG and AIT",
        "who emulates mostly wants frames, not their spacing",
    ),
    (
        "autonegotiation",
        "one to three seconds, by the cable",
        "what `autoneg_ns` says: a second for a guest, none for a host of ours",
        "a host of ours need not wait for what is not there",
    ),
    (
        "interrupts of a guest",
        "by ITR and the delay registers",
        '`moderation="adaptive"` also gathers them while frames come thick; `"datasheet"` does '
        "not, and is the default in process",
        "an interrupt costs a guest [four round trips](embed.md#what-an-access-costs)",
    ),
    (
        "runts from the link",
        "dropped, RUC",
        "padded to 60 bytes; `Nic(pad_runts=False)` drops and counts them",
        "virtual links leave the padding away",
    ),
    (
        "management: what MANC's filters take",
        "told in application notes that the manual refers to (13.7.38)",
        "by the names in e1000_hw.h: UDP to 26Fh and 298h over IPv4 or IPv6 as IPV4_EN and IPV6_EN "
        "say, ARP requests and responses and neighbour solicitations for whatever address, through "
        "a tag, with SNAP_EN an LLC/SNAP header; after the address filters, of which broadcast "
        "passes whatever BAM says, and without RCTL.EN",
        "forms of 6.4.3; that RCV_TCO_EN switches all, and address filters come first, is said of "
        "the 82598 (5.3.10) and the I210 (10.5.9)",
    ),
    (
        "management: whose the frames are",
        "the manual does not say",
        "the controller's alone: EN_MNG2HOST is a later part's. All statistics count them",
        "drivers clear ARP_EN to end the *interception* of ARP; the I210 counts them too (8.18)",
    ),
    (
        "management: MANC after a reset",
        "the manual does not say",
        "with a controller kept but at power-on, and the link stays up (SLU); TCO_RESET too. "
        "Without one MANC is cleared, as ever",
        "the 82575's management registers are cleared at power-on alone (14.7)",
    ),
    (
        "management: the controller's interface",
        "SMBus; its buffer's size is not told",
        "whole frames at once, 1 KiB of them; what it sends does not cross a bus (`Nic(bus=…)`)",
        "nobody here watches the bytes of an SMBus; ASF, which needs no controller, is left out",
    ),
    (
        "SWSM (5B50h)",
        "no such register",
        "stores: the semaphore of later parts, always granted",
        "U-Boot takes it on every part, and gives up without",
    ),
    (
        "accesses of 1, 2, 3 or 8 bytes, or not aligned",
        "13.2.1 specifies 32 bits alone, aligned",
        "a write changes the bytes that it enables, as on PCI: the others keep what they store, "
        "and clear, set or start nothing. A read is of each whole register that it touches, with "
        "its effect: one byte of ICR clears all causes. IODATA ignores writes under 32 bits "
        "(13.2.2). Each is the misuse `access-size`",
        "a driver that writes a byte means that byte; a read on PCI gives all bytes of a dword, "
        "and that reading has effects is the driver's to know",
    ),
    (
        "what the manual leaves open, or forbids",
        "anything",
        "nothing bad, and an event with the remedy: [rules of misuse](misuse.md)",
        "a driver's author wants to know",
    ),
)
"""What, on silicon, here, why."""


QEMU = """
## From QEMU's e1000

`tests/qemu/test_differential.py` runs the same programs (each register, interrupts, PHY and EEPROM,
descriptors of every kind, filters, checksums, and more that hypothesis makes) on our three parts
and, through its qtest socket, on the e1000, e1000-82545em and e1000-82544gc of QEMU 7.2. Every
disagreement has a ruling by Intel's manual here, and a ruling that nothing needs any more fails the
test. What that means for a driver is in [Embed](embed.md#our-driver-on-qemus-card).

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
    yield "\nNamed bits that store and do no more (`e1000emu regs --coverage`):\n\n"
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
