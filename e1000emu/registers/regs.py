"""THE register table of the 8254x: every offset, bit, reset value and access rule, once.

Everything that knows a register takes it from here: the arrays of the compiled register file,
resets, snapshots, `repr`, the reference page (`registers.regdoc`), misuse checks, generated tests.
Each of the 32 bits of every register is a named field, a declared gap (``todo``: the bit stores,
but its effect is not modelled) or reserved.  Behaviour is bound by name, never by a function.

Values are those of the 82540EM; `Model.reset_overrides` (models.py) holds what differs elsewhere.
"SDM" is Intel's PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual
(317453), whose chapter 13 this file follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from e1000emu.registers.fields import (
    Access,
    Field,
    Reg,
    RegAt,
    bit,
    check_fields,
    field,
    rsv,
    tell,
    whole,
)

__all__ = [
    "BAR0_BYTES",
    "STATISTICS",
    "TABLE",
    "Access",
    "Field",
    "Reg",
    "RegAt",
    "at_offset",
    "check_table",
    "decode",
    "describe",
    "reg",
]

BAR0_BYTES = 0x20000

RW, RO, RC, W1C, WO, SC = (
    Access.RW,
    Access.RO,
    Access.RC,
    Access.W1C,
    Access.WO,
    Access.SC,
)
RC_W1C, W1S, SW = Access.RC_W1C, Access.W1S, Access.SW


def _low(
    name: str, doc: str = "", reset: int = 0, access: Access = RW, hi: int = 15
) -> tuple[Field, ...]:
    """Return the fields of a register that has one, from bit 0 up to `hi`."""
    return field(name, hi, 0, access, reset, doc), rsv(31, hi + 1)


# --- general ------------------------------------------------------------------------------------

LINK_MODE_TBI = 3
"""CTRL_EXT.LINK_MODE of a board with optics."""

# fmt: off
_CTRL = (
    bit("FD", 0, RW, 1, "full duplex, when FRCDPLX forces it; loaded from EEPROM word 0Ah",
        on_change="link_unit.follow"),
    rsv(2, 1),
    bit("LRST", 3, RW, 0, "link reset, of TBI and SerDes alone; from EEPROM word 0Ah",
        on_change="link_unit.follow"),
    rsv(4),
    bit("ASDE", 5, RW, 0, "take the speed by auto-detection rather than from the PHY",
        todo="it detects the speed from the PHY's clock, and the MAC has the speed anyway"),
    bit("SLU", 6, RW, 0,
        "set link up: the MAC believes the PHY's link; of TBI: the link is forced unless TXCW.ANE; "
        "1 after a reset when the EEPROM enables APM", on_change="link_unit.follow"),
    bit("ILOS", 7, RW, 0, "invert the loss-of-signal input; loaded from EEPROM word 0Ah",
        todo="the polarity of a wire on boards with an external transceiver"),
    field("SPEED", 9, 8, RW, 2, "0 = 10, 1 = 100, 2 = 1000 Mb/s, when FRCSPD forces it",
        on_change="link_unit.follow"),
    rsv(10),
    *tell("link_unit.follow",
        bit("FRCSPD", 11, RW, 0, "force the MAC's speed to SPEED"),
        bit("FRCDPLX", 12, RW, 0, "force the MAC's duplex to FD")),
    rsv(17, 13),
    *tell("pins.update",
        bit("SDP0_DATA", 18, RW, 0, "software definable pin 0: its level, as input the board's"),
        bit("SDP1_DATA", 19, RW, 0, "software definable pin 1: its level, as input the board's")),
    bit("ADVD3WUC", 20, RW, 0, "advertise wake-up from D3cold",
        todo="the board's auxiliary supply, outside the chip"),
    bit("EN_PHY_PWR_MGMT", 21, RW, 0, "PHY power management", todo="analogue"),
    bit("SDP0_IODIR", 22, RW, 0, "pin 0 is an output", on_change="pins.update"),
    bit("SDP1_IODIR", 23, RW, 0, "pin 1 is an output", on_change="pins.update"),
    rsv(25, 24),
    bit("RST", 26, SC, 0, "reset the device, except PCI configuration and the PHY; clears itself",
        on_change="request_reset", alone=True),
    bit("RFCE", 27, RW, 0, "obey received PAUSE frames", on_change="flow.update"),
    bit("TFCE", 28, RW, 0, "send PAUSE frames by the FCRTL/FCRTH thresholds",
        on_change="flow.update"),
    rsv(29),
    bit("VME", 30, RW, 0, "VLAN mode: insert on VLE, strip on receive"),
    bit("PHY_RST", 31, RW, 0, "hold the PHY in reset while 1", on_change="link_unit.hold_phy"),
)
# fmt: on

_INTERRUPT_BITS = (
    ("TXDW", 0, "transmit descriptor written back"),
    ("TXQE", 1, "transmit queue empty"),
    ("LSC", 2, "link status change"),
    ("RXSEQ", 3, "receive sequence error"),
    ("RXDMT0", 4, "receive descriptors below the minimum threshold"),
    ("RSV5", 5, "reserved, but ICS sets it and it interrupts (ethtool -t)"),
    ("RXO", 6, "receiver overrun"),
    ("RXT0", 7, "receiver timer"),
    ("RSV8", 8, "reserved, but ICS sets it and it interrupts (ethtool -t)"),
    ("MDAC", 9, "MDIO access complete"),
    ("RXCFG", 10, "receiving /C/ ordered sets"),
    ("RSV11", 11, "SDP4 of the 82544; elsewhere reserved, but ICS sets it and it interrupts"),
    ("PHYINT", 12, "PHY interrupt"),
    ("GPI_SDP6", 13, "general purpose interrupt on SDP6"),
    ("GPI_SDP7", 14, "general purpose interrupt on SDP7"),
    ("TXD_LOW", 15, "transmit descriptors at the low threshold"),
    ("SRPD", 16, "small receive packet detected"),
)


def _causes(access: Access) -> tuple[Field, ...]:
    return (*(bit(name, n, access, 0, doc) for name, n, doc in _INTERRUPT_BITS), rsv(31, 17))


_LED_MODES = (
    "what lights it: 0 link 10/1000, 1 link 100/1000, 2 link up, 3 activity, 4 link/activity, "
    "5/6/7 link 10/100/1000, 8 PCI-X, 9 full duplex, 10 collision, 11 bus speed, 12 bus size, "
    "13 paused, 14 on, 15 off"
)


def _led(n: int, mode: int, blink: int) -> tuple[Field, ...]:
    at = 8 * n
    return (
        field(f"LED{n}_MODE", at + 3, at, RW, mode, _LED_MODES),
        rsv(at + 4),
        bit(f"LED{n}_BLINK_RATE", at + 5, RW, 0, "1 = 83 ms on and off, 0 = 200 ms"),
        bit(f"LED{n}_IVRT", at + 6, RW, 0, "invert the output"),
        bit(f"LED{n}_BLINK", at + 7, RW, blink, "blink while lit"),
    )


# fmt: off
_GENERAL = (
    Reg("CTRL", 0x0000, "Device Control", "13.4.1", _CTRL, decoded=True),
    Reg("CTRL_DUP", 0x0004, "Device Control (shadow)", "13.4.1", _CTRL, alias_of="CTRL"),
    Reg("STATUS", 0x0008, "Device Status", "13.4.2", (
        bit("FD", 0, RO, 0, "the link is full duplex"),
        bit("LU", 1, RO, 0, "link up: the PHY has link and CTRL.SLU is set; of TBI: negotiated, or "
            "forced with light"),
        field("FUNC_ID", 3, 2, RO, 0, "which LAN port of a device with two"),
        bit("TXOFF", 4, RO, 0, "transmission is paused by a received PAUSE"),
        bit("TBIMODE", 5, RO, 0, "TBI or SerDes rather than a copper PHY"),
        field("SPEED", 7, 6, RO, 2, "0 = 10, 1 = 100, 2 or 3 = 1000 Mb/s"),
        field("ASDV", 9, 8, RO, 0, "speed that auto-detection measured (CTRL_EXT.ASDCHK)"),
        rsv(10),
        bit("PCI66", 11, RO, 0, "the bus runs at 66 MHz"),
        bit("BUS64", 12, RO, 0, "the bus is 64 bits wide"),
        bit("PCIX_MODE", 13, RO, 0, "the bus runs in PCI-X mode"),
        field("PCIXSPD", 15, 14, RO, 0, "PCI-X bus speed"),
        rsv(31, 16),
    )),
    Reg("EECD", 0x0010, "EEPROM/Flash Control & Data", "13.4.3", (
        bit("SK", 0, RW, 0, "clock to the EEPROM"),
        bit("CS", 1, RW, 0, "chip select"),
        bit("DI", 2, RW, 0, "data to the EEPROM"),
        bit("DO", 3, RO, 1, "data from the EEPROM; ready when CS is high after a write"),
        field("FWE", 5, 4, RW, 1, "writes to the flash: 1 = lost, 2 = go through"),
        bit("EE_REQ", 6, RW, 0, "software asks for the EEPROM"),
        bit("EE_GNT", 7, RO, 0, "software has the EEPROM"),
        bit("EE_PRES", 8, RO, 1, "an EEPROM is there"),
        bit("EE_SIZE", 9, RO, 0, "0 = 64 words, 1 = 256 words"),
        rsv(31, 10),
    ), on_read="eeprom", on_write="eeprom"),
    Reg("EERD", 0x0014, "EEPROM Read", "13.4.4", (
        bit("START", 0, SC, 0, "read the word at ADDR"),
        rsv(3, 1),
        bit("DONE", 4, RO, 0, "DATA is valid"),
        rsv(7, 5),
        field("ADDR", 15, 8, RW, 0, "word address"),
        field("DATA", 31, 16, RO, 0, "the word"),
    ), on_write="eeprom.write_eerd"),
    Reg("CTRL_EXT", 0x0018, "Extended Device Control", "13.4.6", (
        bit("GPI0_EN", 0, RW, 0, "SDP4, when it is an input, raises ICR bit 11", needs="SDP4",
            on_change="pins.update"),
        bit("PHYINT_EN", 1, RW, 0, "PHY interrupt raises ICR.PHYINT"),
        *tell("pins.update",
            bit("GPI2_EN", 2, RW, 0, "SDP6, when it is an input, raises ICR.GPI_SDP6"),
            bit("GPI3_EN", 3, RW, 0, "SDP7, when it is an input, raises ICR.GPI_SDP7"),
            bit("SDP4_DATA", 4, RW, 0, "software definable pin 4, of the 82544 alone",
                needs="SDP4")),
        bit("PHYINT", 5, RO, 0, "level of the PHY's interrupt"),
        *tell("pins.update",
            bit("SDP6_DATA", 6, RW, 0, "software definable pin 6: its level, as input the board's"),
            bit("SDP7_DATA", 7, RW, 0, "software definable pin 7: its level, as input the board's"),
            bit("SDP4_IODIR", 8, RW, 0, "pin 4 is an output", needs="SDP4"),
            rsv(9),
            bit("SDP6_IODIR", 10, RW, 0, "pin 6 is an output"),
            bit("SDP7_IODIR", 11, RW, 0, "pin 7 is an output")),
        bit("ASDCHK", 12, SC, 0, "measure the speed into STATUS.ASDV",
            on_change="link_unit.detect_speed"),
        bit("EE_RST", 13, SC, 0, "reset and load the EEPROM again", on_change="load_eeprom"),
        rsv(14),
        bit("SPD_BYPS", 15, RW, 0, "take CTRL.SPEED at once, whatever the PHY says",
            on_change="link_unit.update"),
        rsv(16),
        bit("RO_DIS", 17, RW, 0, "no relaxed ordering",
            todo="an attribute of transactions on a PCI-X bus"),
        rsv(20, 18),
        bit("VREG_PD", 21, RW, 0, "voltage regulator off", todo="analogue"),
        field("LINK_MODE", 23, 22, RW, 0, "0 = copper PHY, 3 = TBI; the board's strap sets it",
            on_change="link_unit.update"),
        rsv(31, 24),
    )),
    # The serial flash of the 82541 and 82547; these parts have a parallel one (flash.py).
    Reg("FLA", 0x001C, "Flash Access", "13.4.5",
        (rsv(31, 0),)),
    Reg("MDIC", 0x0020, "MDI Control", "13.4.7", (
        field("DATA", 15, 0, RW, 0, "value written or read"),
        field("REGADD", 20, 16, RW, 0, "PHY register"),
        field("PHYADD", 25, 21, RW, 0, "PHY address, 1 = the internal one"),
        field("OP", 27, 26, RW, 0, "1 = write, 2 = read"),
        bit("R", 28, RW, 1, "ready: set at the end, clear it to start"),
        bit("I", 29, RW, 0, "raise ICR.MDAC at the end"),
        bit("E", 30, RO, 0, "no such PHY, or no such operation"),
        rsv(31),
    ), on_write="mdic.write_mdic"),
    Reg("FCAL", 0x0028, "Flow Control Address Low", "13.4.8", (
        whole("FCAL", "first four bytes of the PAUSE address, 01:80:C2:00", RW, 0x00C28001),
    ), group="flow control"),
    Reg("FCAH", 0x002C, "Flow Control Address High", "13.4.9",
        _low("FCAH", "last two bytes, 00:01", 0x0100), group="flow control"),
    Reg("FCT", 0x0030, "Flow Control Type", "13.4.10",
        _low("FCT", "EtherType of MAC control frames", 0x8808), group="flow control"),
    Reg("VET", 0x0038, "VLAN Ether Type", "13.4.11",
        _low("VET", "tag type recognised and inserted", 0x8100), decoded=True),
    Reg("FCTTV", 0x0170, "Flow Control Transmit Timer Value", "13.4.12",
        _low("TTV", "pause time sent, in times of 64 bytes"), group="flow control"),
    Reg("TXCW", 0x0178, "Transmit Configuration Word", "13.4.13", tell(
        "link_unit.follow_optics",
        field("TXCONFIG", 15, 0, RW, 0, "/C/ word sent"),
        rsv(29, 16),
        bit("TXC", 30, RW, 0, "send /C/ ordered sets, when software negotiates (ANE = 0)"),
        bit("ANE", 31, RW, 0, "hardware autonegotiation"),
    )),
    Reg("RXCW", 0x0180, "Receive Configuration Word", "13.4.14", (
        field("RXCONFIG", 15, 0, RO, 0, "/C/ word received; with ANE what the far end offers"),
        rsv(25, 16),
        bit("RXNOCARRIER", 26, RO, 0, "idles or /C/ come, and no frame"),
        bit("RXINVALID", 27, RC, 0, "invalid symbol"),
        bit("RXCHANGE", 28, RC, 0, "the word has changed"),
        bit("RXC", 29, RO, 0, "receiving /C/ ordered sets"),
        bit("RXSYNCH", 30, RO, 0, "the receiver is synchronised; a loss shows until it is read"),
        bit("ANC", 31, RO, 0, "autonegotiation complete"),
    ), on_read="link_unit.read_rxcw"),
    Reg("LEDCTL", 0x0E00, "LED Control", "13.4.15", (
        *_led(0, 2, 0),
        *_led(1, 3, 1),
        *_led(2, 6, 0),
        *_led(3, 7, 0),
    )),
    Reg("PBA", 0x1000, "Packet Buffer Allocation", "13.4.16", (
        field("RXA", 15, 0, RW, 48, "receive FIFO in KiB, 64 at most; taken at the next reset",
            legal=range(8, 57), breaks="pba-range", on_change="rx.divide_buffer"),
        field("TXA", 31, 16, RO, 16, "transmit FIFO in KiB: what RXA leaves of 64"),
    ), survives="rst"),
)
# fmt: on

# --- interrupts ---------------------------------------------------------------------------------

# fmt: off
_INTERRUPTS = (
    Reg("ICR", 0x00C0, "Interrupt Cause Read", "13.4.17", _causes(RC_W1C),
        on_read="interrupts", on_write="interrupts", hot=True, group="interrupts"),
    Reg("ITR", 0x00C4, "Interrupt Throttling", "13.4.18",
        _low("INTERVAL", "least time between interrupts, in units of 256 ns; 0 = off"),
        on_write="interrupts", hot=True, group="interrupts"),
    Reg("ICS", 0x00C8, "Interrupt Cause Set", "13.4.19", _causes(WO),
        on_write="interrupts", hot=True, group="interrupts"),
    Reg("IMS", 0x00D0, "Interrupt Mask Set/Read", "13.4.20", _causes(W1S),
        on_write="interrupts", hot=True, group="interrupts"),
    Reg("IMC", 0x00D8, "Interrupt Mask Clear", "13.4.21", _causes(WO),
        on_write="interrupts", hot=True, group="interrupts"),
)
# fmt: on

# --- receive ------------------------------------------------------------------------------------


# fmt: off
def _ring(side: str, what: str, offset: int, section: int) -> tuple[Reg, ...]:
    """Return base, length and head of the ring of `side`, "R" or "T"."""
    rows = (
        (f"{side}DBAL", 0x00, "Base Low",
            (rsv(3, 0), field(f"{side}DBAL", 31, 4, RW, 0, "16-byte aligned"))),
        (f"{side}DBAH", 0x04, "Base High", (whole(f"{side}DBAH"),)),
        (f"{side}DLEN", 0x08, "Length",
            (rsv(6, 0), field("LEN", 19, 7, RW, 0, "bytes of the ring, in units of 128"),
             rsv(31, 20))),
        (f"{side}DH", 0x10, "Head", _low(f"{side}DH")),
    )
    return tuple(
        Reg(name, offset + at, f"{what} Descriptor {title}", f"13.4.{section + n}", fields,
            on_write=f"{side.lower()}x.write_ring", group=what.lower())
        for n, (name, at, title, fields) in enumerate(rows)
    )


_RECEIVE = (
    Reg("RCTL", 0x0100, "Receive Control", "13.4.22", (
        rsv(0),
        bit("EN", 1, RW, 0, "receiver on", on_change="rx.update_enable"),
        bit("SBP", 2, RW, 0, "store bad packets"),
        bit("UPE", 3, RW, 0, "unicast promiscuous"),
        bit("MPE", 4, RW, 0, "multicast promiscuous"),
        bit("LPE", 5, RW, 0, "take frames over 1522 bytes, up to 16384"),
        field("LBM", 7, 6, RW, 0, "loopback: 0 = none, 1 = MAC, 3 = transceiver",
            legal=(0, 1, 3), breaks="rctl-reserved", on_change="link_unit.update_path"),
        field("RDMTS", 9, 8, RW, 0, "RXDMT0 at 1/2, 1/4, 1/8 of the ring free",
            legal=(0, 1, 2), breaks="rctl-reserved"),
        rsv(11, 10),
        field("MO", 13, 12, RW, 0, "multicast hash from address bits 47:36, 46:35, 45:34, 43:32"),
        rsv(14),
        bit("BAM", 15, RW, 0, "accept broadcast"),
        field("BSIZE", 17, 16, RW, 0, "buffer 2048, 1024, 512, 256 bytes; times 16 with BSEX"),
        bit("VFE", 18, RW, 0, "filter VLAN tags by VFTA"),
        bit("CFIEN", 19, RW, 0, "compare the tag's CFI with CFI"),
        bit("CFI", 20, RW, 0, "the CFI that is accepted"),
        rsv(21),
        bit("DPF", 22, RW, 0, "discard PAUSE frames sent to the station's address"),
        bit("PMCF", 23, RW, 0, "pass MAC control frames other than PAUSE to the host"),
        rsv(24),
        bit("BSEX", 25, RW, 0, "buffer size times 16"),
        bit("SECRC", 26, RW, 0, "strip the CRC"),
        rsv(31, 27),
    ), decoded=True, group="receive"),
    Reg("FCRTL", 0x2160, "Flow Control Receive Threshold Low", "13.4.23", tell(
        "flow.update",
        rsv(2, 0),
        field("RTL", 15, 3, RW, 0, "XON when the FIFO falls below this, in units of 8 bytes"),
        rsv(30, 16),
        bit("XONE", 31, RW, 0, "send XON"),
    ), group="flow control"),
    Reg("FCRTH", 0x2168, "Flow Control Receive Threshold High", "13.4.24", (
        rsv(2, 0),
        field("RTH", 15, 3, RW, 0, "XOFF when the FIFO rises above this, in units of 8 bytes",
            on_change="flow.update"),
        rsv(30, 16),
        bit("XFCE", 31, RW, 0, "external flow control pins", todo="no such pins"),
    ), group="flow control"),
    *_ring("R", "Receive", 0x2800, 25),
    Reg("RDT", 0x2818, "Receive Descriptor Tail", "13.4.29",
        _low("RDT", "doorbell: one past the last free descriptor"),
        on_write="rx", hot=True, group="receive"),
    Reg("RDTR", 0x2820, "Receive Interrupt Delay Timer", "13.4.30", (
        field("DELAY", 15, 0, RW, 0, "quiet time before RXT0, in units of 1.024 us; 0 = at once"),
        rsv(30, 16),
        bit("FPD", 31, WO, 0, "flush: raise RXT0 now"),
    ), on_write="interrupts", group="receive"),
    Reg("RXDCTL", 0x2828, "Receive Descriptor Control", "13.4.46", tell(
        "rx.update_write_back",
        field("PTHRESH", 5, 0, RW, 0, "fetch when the chip has fewer descriptors, or none"),
        rsv(7, 6),
        field("HTHRESH", 13, 8, RW, 0, "for PTHRESH: memory must have so many"),
        rsv(15, 14),
        field("WTHRESH", 21, 16, RW, 1, "descriptors written back together, or by RDTR and RADV"),
        rsv(23, 22),
        bit("GRAN", 24, RW, 1, "the thresholds count descriptors, else cache lines"),
        rsv(31, 25),
    ), group="receive"),
    Reg("RADV", 0x282C, "Receive Interrupt Absolute Delay Timer", "13.4.31",
        _low("DELAY", "longest wait for RXT0, in units of 1.024 us; 0 = off"), group="receive"),
    Reg("RSRPD", 0x2C00, "Receive Small Packet Detect", "13.4.32",
        _low("SIZE", "frames up to this size raise SRPD; 0 = off", hi=11),
        decoded=True, group="receive"),
    Reg("RXCSUM", 0x5000, "Receive Checksum Control", "13.4.47", (
        field("PCSS", 7, 0, RW, 0, "where the packet checksum starts"),
        bit("IPOFL", 8, RW, 0, "check IPv4 header checksums"),
        bit("TUOFL", 9, RW, 0, "check TCP and UDP checksums"),
        bit("IPV6OFL", 10, RW, 0, "also over IPv6"),
        rsv(31, 11),
    ), decoded=True, group="receive"),
    Reg("MTA", 0x5200, "Multicast Table Array", "13.5.1", (
        whole("BITS", "accepted hash values, 32 of 4096"),
    ), count=128, group="filters", survives="rst"),
    Reg("RAL", 0x5400, "Receive Address Low", "13.5.2", (
        whole("RAL", "first four bytes, the first in bits 7:0"),
    ), count=16, step=8, decoded=True, group="filters", survives="rst"),
    Reg("RAH", 0x5404, "Receive Address High", "13.5.3", (
        field("RAH", 15, 0, RW, 0, "last two bytes"),
        field("AS", 17, 16, RW, 0, "0 = compare the destination, 1 = the source address"),
        rsv(30, 18),
        bit("AV", 31, RW, 0, "the entry counts; a reset clears it, then the EEPROM sets entry 0's"),
    ), count=16, step=8, decoded=True, group="filters", survives="rst"),
    Reg("VFTA", 0x5600, "VLAN Filter Table Array", "13.5.4", (
        whole("BITS", "accepted VLAN ids, 32 of 4096"),
    ), count=128, group="filters", survives="rst"),
)
# fmt: on

# --- transmit -----------------------------------------------------------------------------------

# fmt: off
_TRANSMIT = (
    Reg("TCTL", 0x0400, "Transmit Control", "13.4.33", (
        rsv(0),
        bit("EN", 1, RW, 0, "transmitter on", on_change="tx.update_enable"),
        rsv(2),
        bit("PSP", 3, RW, 0, "pad short packets to 64 bytes"),
        field("CT", 11, 4, RW, 0, "how often a frame that collides is sent again, half duplex"),
        field("COLD", 21, 12, RW, 0, "collision distance",
            todo="symbols that extend a frame on the wire, outside the chip"),
        bit("SWXOFF", 22, SC, 0, "send one XOFF now", on_change="flow.send_xoff"),
        rsv(23),
        bit("RTLC", 24, RW, 0, "send again after a late collision, half duplex"),
        rsv(31, 25),
    ), decoded=True, group="transmit"),
    Reg("TIPG", 0x0410, "Transmit Inter-Packet Gap", "13.4.34", (
        field("IPGT", 9, 0, RW, 8, "gap between frames in byte times, less 4",
            legal=range(6, 1024), breaks="tipg-low", on_change="link_unit.update_gap"),
        field("IPGR1", 19, 10, RW, 8, "first part of IPGR2's gap: a carrier in it restarts it"),
        field("IPGR2", 29, 20, RW, 6, "gap after others' frames in byte times, less 6"),
        rsv(31, 30),
    ), group="transmit"),
    Reg("AIT", 0x0458, "Adaptive IFS Throttle", "13.4.35",
        (field("AIFS", 15, 0, RW, 0,
            "gap in units of 8 ns: the longer one of it and IPGT counts, on the 82544 their sum",
            on_change="link_unit.update_gap"),
         rsv(31, 16)), group="transmit"),
    Reg("TXDMAC", 0x3000, "TX DMA Control", "13.4.42", (
        bit("DPP", 0, RW, 0, "disable packet prefetching"),
        rsv(31, 1),
    ), group="transmit"),
    *_ring("T", "Transmit", 0x3800, 36),
    Reg("TDT", 0x3818, "Transmit Descriptor Tail", "13.4.40",
        _low("TDT", "doorbell: one past the last descriptor"),
        on_write="tx", hot=True, group="transmit"),
    Reg("TIDV", 0x3820, "Transmit Interrupt Delay Value", "13.4.41", (
        field("IDV", 15, 0, RW, 0, "wait before TXDW of descriptors with IDE; units of 1.024 us"),
        rsv(30, 16),
        bit("FPD", 31, WO, 0, "flush: raise TXDW now"),
    ), on_write="interrupts", group="transmit"),
    Reg("TXDCTL", 0x3828, "Transmit Descriptor Control", "13.4.43", (
        *tell("tx.update_write_back",
            field("PTHRESH", 5, 0, RW, 0, "fetch when the chip has fewer descriptors, or none"),
            rsv(7, 6),
            field("HTHRESH", 13, 8, RW, 0, "for PTHRESH: memory must have so many"),
            rsv(15, 14),
            field("WTHRESH", 21, 16, RW, 0, "descriptors written back together, from one with RS "
                "on, or by TIDV and TADV; 0: each with RS"),
            rsv(23, 22),
            bit("GRAN", 24, RW, 0, "the thresholds count descriptors, else cache lines")),
        field("LWTHRESH", 31, 25, RW, 0, "TXD_LOW below 8 times this many descriptors"),
    ), decoded=True, group="transmit"),
    Reg("TADV", 0x382C, "Transmit Absolute Interrupt Delay Value", "13.4.44",
        _low("IDV", "longest wait for TXDW, in units of 1.024 us; 0 = off"), group="transmit"),
    Reg("TSPMT", 0x3830, "TCP Segmentation Pad and Minimum Threshold", "13.4.45", (
        field("TSMT", 15, 0, RW, 0x0400, "bytes of a burst, at least"),
        field("TSPBP", 31, 16, RW, 0x0100, "bytes of the FIFO that bursts leave free, for headers"),
    ), group="transmit"),
)
# fmt: on

# --- wake-up, management ------------------------------------------------------------------------

# fmt: off
_WAKE_EVENTS = (
    ("LNKC", "link change"),
    ("MAG", "magic packet"),
    ("EX", "directed exact match"),
    ("MC", "directed multicast"),
    ("BC", "broadcast"),
    ("ARP", "ARP request"),
    ("IPV4", "directed IPv4"),
    ("IPV6", "directed IPv6"),
)

_WAKEUP = (
    Reg("WUC", 0x5800, "Wakeup Control", "13.6.1", (
        bit("APME", 0, RW, 0, "wake on a magic packet in every power state; from the EEPROM",
            on_change="wakeup.update"),
        bit("PME_EN", 1, RW, 0, "PME# may be driven", same_as="PMCSR.PME_EN"),
        bit("PME_STATUS", 2, W1C, 0, "something woke the host up", same_as="PMCSR.PME_STATUS"),
        bit("APMPME", 3, RW, 0, "a magic packet asserts PME# without PME_EN; from the EEPROM",
            on_change="wakeup.update"),
        rsv(31, 4),
    ), group="wake-up", survives="rst"),
    Reg("WUFC", 0x5808, "Wakeup Filter Control", "13.6.2", (
        *(bit(name, n, RW, 0, doc) for n, (name, doc) in enumerate(_WAKE_EVENTS)),
        rsv(14, 8),
        bit("IGNORE_TCO", 15, RW, 0, "frames that the management filters take wake nobody"),
        *(bit(f"FLX{n}", 16 + n, RW, 0, f"flexible filter {n}") for n in range(4)),
        rsv(31, 20),
    ), group="wake-up", survives="rst"),
    Reg("WUS", 0x5810, "Wakeup Status", "13.6.3", (
        *(bit(name, n, W1C, 0, "woken by it") for n, (name, _) in enumerate(_WAKE_EVENTS)),
        rsv(15, 8),
        *(bit(f"FLX{n}", 16 + n, W1C, 0, "woken by it") for n in range(4)),
        rsv(31, 20),
    ), group="wake-up", survives="rst"),
    Reg("MANC", 0x5820, "Management Control", "13.4", (
        bit("SMBUS_EN", 0, RO, 0, "a controller is at the SMBus; the board says so"),
        bit("ASF_EN", 1, RO, 0, "the part itself answers alerts: not on these boards"),
        bit("R_ON_FORCE", 2, RO, 0, "the controller may reset the part; the board says so"),
        rsv(7, 3),
        bit("RMCP_EN", 8, RW, 0, "take UDP to port 26Fh, if IPV4_EN or IPV6_EN selects its IP"),
        bit("0298_EN", 9, RW, 0, "take UDP to port 298h, if IPV4_EN or IPV6_EN selects its IP"),
        bit("IPV4_EN", 10, RW, 0, "the ports are looked for in IPv4"),
        bit("IPV6_EN", 11, RW, 0, "the ports are looked for in IPv6"),
        bit("SNAP_EN", 12, RW, 0, "frames of the other filters may have an LLC/SNAP header"),
        bit("ARP_EN", 13, RW, 0, "take ARP requests, for whatever address"),
        bit("NEIGHBOR_EN", 14, RW, 0, "take neighbour solicitations, for whatever address"),
        bit("ARP_RES_EN", 15, RW, 0, "take ARP responses"),
        bit("TCO_RESET", 16, RO, 0, "the controller has reset the part"),
        bit("RCV_TCO_EN", 17, RW, 0, "frames that the filters take go to the controller alone; "
            "without it the filters take nothing", on_change="management.update"),
        bit("REPORT_STATUS", 18, RO, 0, "the controller hears of a change of link"),
        # Drivers name RCV_ALL, EN_MAC_ADDR_FILTER, EN_MNG2HOST and more here. These came with the
        # 82541 and the 82571; the first e1000_hw.h, of these parts, names no bit up to 23.
        rsv(31, 19),
    ), group="management"),
    # These parts lack the register. U-Boot takes the 82571's semaphore on every part before it
    # reads the EEPROM, and gives up when the bit does not stay set. Nothing else shares the EEPROM
    # here.
    Reg("SWSM", 0x5B50, "Software Semaphore", "none: 82571 and later", (
        bit("SMBI", 0, SW, 0, "for drivers among themselves"),
        bit("SWESMBI", 1, SW, 0, "software holds the EEPROM; always granted"),
        rsv(31, 2),
    ), group="management"),
    Reg("IPAV", 0x5838, "IP Address Valid", "13.6.4", (
        *(bit(f"V4{n}", n, RW, 0, f"IPv4 address {n} valid") for n in range(4)),
        rsv(15, 4),
        bit("V60", 16, RW, 0, "IPv6 address valid"),
        rsv(31, 17),
    ), group="wake-up"),
    Reg("IP4AT", 0x5840, "IPv4 Address Table", "13.6.5", (
        whole("IPADD", "address, first byte in bits 7:0"),
    ), count=4, step=8, group="wake-up"),
    Reg("IP6AT", 0x5880, "IPv6 Address Table", "13.6.6",
        (whole("IPADD", "four bytes of the address"),), count=4, group="wake-up"),
    Reg("WUPL", 0x5900, "Wakeup Packet Length", "13.6.7",
        _low("LEN", "bytes of the frame that woke the host, 2047 at most", access=RO, hi=11),
        group="wake-up", survives="rst"),
    Reg("WUPM", 0x5A00, "Wakeup Packet Memory", "13.6.8", (
        whole("WUPD", "first 128 bytes of the frame that woke the host", RO, 0),
    ), count=32, group="wake-up", survives="rst"),
    Reg("FFLT", 0x5F00, "Flexible Filter Length Table", "13.6.9",
        _low("LEN", "bytes compared; a shorter frame never passes", hi=10),
        count=4, step=8, group="wake-up"),
    Reg("FFMT", 0x9000, "Flexible Filter Mask Table", "13.6.10",
        _low("MASK", "which filters compare the byte", hi=3), count=128, step=8, group="wake-up"),
    Reg("FFVT", 0x9800, "Flexible Filter Value Table", "13.6.11", (
        whole("VALUES", "the byte of each of the four filters"),
    ), count=128, step=8, group="wake-up"),
)
# fmt: on

# --- statistics: name, meaning; they are 4 bytes apart from 4000h where no gap is named -------

_NO_CARRIER = "the PHY's carrier sense never fails: stays 0"
_STATISTICS: tuple[tuple[str, int, str, str], ...] = (
    ("CRCERRS", 0x4000, "frames with a wrong CRC, 64 bytes or more", ""),
    ("ALGNERRC", 0x4004, "frames with an alignment error (10/100 only)", ""),
    ("SYMERRS", 0x4008, "bad symbols, of TBI alone", ""),
    ("RXERRC", 0x400C, "frames with RX_ER from the PHY", ""),
    ("MPC", 0x4010, "frames missed: the receive FIFO was full", ""),
    ("SCC", 0x4014, "frames sent after one collision", ""),
    ("ECOL", 0x4018, "frames that collided 16 times", ""),
    ("MCC", 0x401C, "frames sent after several collisions", ""),
    ("LATECOL", 0x4020, "late collisions", ""),
    ("COLC", 0x4028, "collisions that were not late", ""),
    ("DC", 0x4030, "transmissions deferred by others, a PAUSE or a link that is down", ""),
    ("TNCRS", 0x4034, "transmissions without carrier sense", _NO_CARRIER),
    ("SEC", 0x4038, "sequence errors, of TBI alone: /C/ while the link is up", ""),
    ("CEXTERR", 0x403C, "carrier extension errors", ""),
    ("RLEC", 0x4040, "length errors: undersize or oversize", ""),
    ("XONRXC", 0x4048, "XON frames received", ""),
    ("XONTXC", 0x404C, "XON frames sent", ""),
    ("XOFFRXC", 0x4050, "XOFF frames received", ""),
    ("XOFFTXC", 0x4054, "XOFF frames sent", ""),
    ("FCRUC", 0x4058, "flow control frames of an unsupported kind received", ""),
    ("PRC64", 0x405C, "good frames received of 64 bytes", ""),
    ("PRC127", 0x4060, "good frames received of 65 to 127 bytes", ""),
    ("PRC255", 0x4064, "good frames received of 128 to 255 bytes", ""),
    ("PRC511", 0x4068, "good frames received of 256 to 511 bytes", ""),
    ("PRC1023", 0x406C, "good frames received of 512 to 1023 bytes", ""),
    ("PRC1522", 0x4070, "good frames received of 1024 bytes and more", ""),
    ("GPRC", 0x4074, "good frames received", ""),
    ("BPRC", 0x4078, "good broadcast frames received", ""),
    ("MPRC", 0x407C, "good multicast frames received", ""),
    ("GPTC", 0x4080, "good frames sent", ""),
    ("GORCL", 0x4088, "good octets received, low half; read before GORCH", ""),
    ("GORCH", 0x408C, "good octets received, high half; clears both", ""),
    ("GOTCL", 0x4090, "good octets sent, low half; read before GOTCH", ""),
    ("GOTCH", 0x4094, "good octets sent, high half; clears both", ""),
    ("RNBC", 0x40A0, "frames that found no free descriptor and waited in the FIFO", ""),
    ("RUC", 0x40A4, "frames under 64 bytes with a good CRC", ""),
    ("RFC", 0x40A8, "frames under 64 bytes with a wrong CRC", ""),
    ("ROC", 0x40AC, "frames over the limit with a good CRC", ""),
    ("RJC", 0x40B0, "frames over the limit with a wrong CRC", ""),
    ("MGTPRC", 0x40B4, "good frames that the management filters took", ""),
    ("MGTPDC", 0x40B8, "of these, dropped: over 200 bytes, or the controller's FIFO was full", ""),
    ("MGTPTC", 0x40BC, "frames that the management controller sent", ""),
    ("TORL", 0x40C0, "octets received, good or bad, low half", ""),
    ("TORH", 0x40C4, "octets received, good or bad, high half; clears both", ""),
    ("TOTL", 0x40C8, "octets sent, good or bad, low half", ""),
    ("TOTH", 0x40CC, "octets sent, good or bad, high half; clears both", ""),
    ("TPR", 0x40D0, "frames received, good or bad", ""),
    ("TPT", 0x40D4, "frames sent", ""),
    ("PTC64", 0x40D8, "frames sent of 64 bytes", ""),
    ("PTC127", 0x40DC, "frames sent of 65 to 127 bytes", ""),
    ("PTC255", 0x40E0, "frames sent of 128 to 255 bytes", ""),
    ("PTC511", 0x40E4, "frames sent of 256 to 511 bytes", ""),
    ("PTC1023", 0x40E8, "frames sent of 512 to 1023 bytes", ""),
    ("PTC1522", 0x40EC, "frames sent of 1024 bytes and more", ""),
    ("MPTC", 0x40F0, "multicast frames sent", ""),
    ("BPTC", 0x40F4, "broadcast frames sent", ""),
    ("TSCTC", 0x40F8, "TCP segmentation contexts sent", ""),
    ("TSCTFC", 0x40FC, "TCP segmentation contexts that failed", ""),
)

STATISTICS: tuple[str, ...] = tuple(name for name, *_ in _STATISTICS)
"""Names of the statistics registers in the order of their offsets."""

_PAIRS = ("GORC", "GOTC", "TOR", "TOT")
_COUNTERS = tuple(dict.fromkeys(name[:-1] if name[:-1] in _PAIRS else name for name in STATISTICS))
"""The counters in the order of the SDM's sections; the halves of one share a section."""

_STATS = tuple(
    Reg(
        name,
        offset,
        title[0].upper() + title[1:],
        f"13.7.{1 + _COUNTERS.index(name if name in _COUNTERS else name[:-1])}",
        (whole("COUNT", "sticks at FFFFFFFF", RC, 0, todo),),
        group="statistics",
    )
    for name, offset, title, todo in _STATISTICS
)

# --- diagnostics --------------------------------------------------------------------------------


def _fifo(name: str, offset: int, title: str, n: int, high: int) -> Reg:
    doc = "frames in it" if name.endswith("PC") else "its place in the FIFO, in words of 8 bytes"
    return Reg(
        name,
        offset,
        title,
        f"13.8.{n}",
        _low(name, doc, hi=high),
        on_read="buffer",
        on_write="buffer",
        group="diagnostics",
    )


_DIAGNOSTICS = (
    _fifo("RDFH", 0x2410, "Receive Data FIFO Head", 1, 12),
    _fifo("RDFT", 0x2418, "Receive Data FIFO Tail", 2, 12),
    _fifo("RDFHS", 0x2420, "Receive Data FIFO Head Saved", 3, 12),
    _fifo("RDFTS", 0x2428, "Receive Data FIFO Tail Saved", 4, 12),
    _fifo("RDFPC", 0x2430, "Receive Data FIFO Packet Count", 5, 12),
    _fifo("TDFH", 0x3410, "Transmit Data FIFO Head", 6, 10),
    _fifo("TDFT", 0x3418, "Transmit Data FIFO Tail", 7, 10),
    _fifo("TDFHS", 0x3420, "Transmit Data FIFO Head Saved", 8, 10),
    _fifo("TDFTS", 0x3428, "Transmit Data FIFO Tail Saved", 9, 10),
    _fifo("TDFPC", 0x3430, "Transmit Data FIFO Packet Count", 10, 12),
    Reg(
        "PBM",
        0x10000,
        "Packet Buffer Memory",
        "13.8.11",
        (whole("DATA", "the 64 KiB packet buffer: receive FIFO, then transmit FIFO"),),
        count=16384,
        on_read="buffer",
        on_write="buffer",
        group="diagnostics",
        survives="rst",
    ),
)

TABLE: tuple[Reg, ...] = tuple(
    sorted(
        (*_GENERAL, *_INTERRUPTS, *_RECEIVE, *_TRANSMIT, *_WAKEUP, *_STATS, *_DIAGNOSTICS),
        key=lambda r: r.offset,
    )
)
"""Every register, by offset."""

_BY_NAME = {r.name: r for r in TABLE}


# --- queries of the table -----------------------------------------------------------------------


def reg(name: str) -> Reg:
    """Return the register called `name` (as the SDM writes it).  Raises: KeyError."""
    return _BY_NAME[name]


@cache
def _by_offset() -> dict[int, RegAt]:
    return {off: RegAt(r, i, off) for r in TABLE for i, off in enumerate(r.offsets)}


def at_offset(offset: int) -> RegAt | None:
    """Return what lies at byte `offset` of BAR 0 (its dword), or None."""
    return _by_offset().get(offset & ~3)


def check_table() -> Iterator[str]:
    """Yield every fault of the table: bits unclaimed or claimed twice, overlaps, bad resets."""
    seen: dict[int, str] = {}
    for r in TABLE:
        yield from check_fields(r.name, r.fields, 32)
        if r.actions and r.on_write:
            yield f"{r.name}: both the register and its fields say what a write does"
        for f in r.fields:
            if f.on_change and f.mask & r.w1c_mask:
                yield f"{r.name}: on_change of a bit that 1 clears"
            if f.legal and not f.breaks:
                yield f"{r.name}: legal without a rule"
        for offset in r.offsets:
            if offset & 3 or not 0 <= offset < BAR0_BYTES:
                yield f"{r.name}: offset {offset:#x}"
            if offset in seen:
                yield f"{r.name}: offset {offset:#x} is {seen[offset]}'s"
            seen[offset] = r.name


def decode(r: Reg, value: int) -> str:
    """Return `value` with the names of its set fields: ``EN LBM=3 BAM``."""
    words = []
    for f in r.fields:
        got = f.get(value)
        if got:
            name = f.name or f"rsv{f.lo}"
            words.append(name if f.lo == f.hi else f"{name}={got:#x}")
    return " ".join(words)


def describe(key: str | int) -> dict[str, object]:
    """Return all attributes of one register, as plain data (`e1000emu regs`).

    `key` is a name (``"rctl"``, ``"RAL[3]"``) or an offset (``0x100``, ``"0x100"``).
    Raises: KeyError when there is none.
    """
    if isinstance(key, str):
        name, bracket, index = key.strip().upper().removesuffix("]").partition("[")
        if r := _BY_NAME.get(name):
            i = int(index) if index.isdecimal() else -1 if bracket else 0
            if not 0 <= i < r.count:
                raise KeyError(f"{r.name} has {r.count} elements; there is no [{index}]")
            return r.describe(RegAt(r, i, r.offsets[i]).name, r.offsets[i])
        try:
            key = int(name, 0)
        except ValueError:
            raise KeyError(f"no register is called {key!r}; `e1000emu regs` lists all") from None
    found = at_offset(key)
    if found is None:
        raise KeyError(f"no register lies at offset {key:#x}; `e1000emu regs` lists all")
    return found.reg.describe(found.name, found.offset)
