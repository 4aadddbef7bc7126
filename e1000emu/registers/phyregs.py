"""The PHY's register table: every number, bit, value after reset and access rule, once.

Registers 0 to 15 are those of IEEE 802.3 clauses 22, 28 and 40, under the names that drivers
use; 16 to 30 are the 88E1011's own (SDM 13.4.7 and chapter 11). `Phy` takes its reset values, write
masks and bits from here. A bit called RSVn stores what is written, and the SDM gives it no meaning.
"""

from __future__ import annotations

from collections.abc import Iterator

from e1000emu.registers.fields import Access, Field, Reg, bit, check_fields, field, rsv, whole

RW, RO, RC, SC, SW = Access.RW, Access.RO, Access.RC, Access.SC, Access.SW

_ANALOGUE = "stores what is written; the cable's analogue side is not modelled"
_NO_CABLE = "the cable's analogue side is not modelled"
_JABBER = "jabber is a frame of more than 20 ms, 25,000 bytes at 10 Mb/s: none is so long"
_ONE_CLOCK = "the FIFO joins two clocks, and here is only one"
_CLOCK_PIN = "the clock on a pin, outside the chip"
_NOT_LOOKED_AT = "a wire to the MAC, which ignores it in full duplex"
_PHY_LEDS = "stores what is written; the PHY's own LED pins are not connected"

# fmt: off
_ABILITIES = (
    ("10HD", 5, "10BASE-T half duplex"),
    ("10FD", 6, "10BASE-T full duplex"),
    ("100HD", 7, "100BASE-TX half duplex"),
    ("100FD", 8, "100BASE-TX full duplex"),
)

_INTERRUPTS = (
    ("JABBER", 0, "a station sends without end", _JABBER),
    ("POLARITY", 1, "the polarity of a pair changed", _NO_CABLE),
    ("ENERGY", 4, "energy on the wire came or went", ""),
    ("DOWNSHIFT", 5, "the speed was reduced after failed attempts", ""),
    ("MDI_CROSSOVER", 6, "the crossover changed", ""),
    ("FIFO", 7, "a FIFO ran over or empty", _ONE_CLOCK),
    ("FALSE_CARRIER", 8, "a false carrier", _NO_CABLE),
    ("SYMBOL_ERROR", 9, "a frame with a symbol error (RX_ER) came", ""),
    ("LINK", 10, "the link came or went", ""),
    ("AN_DONE", 11, "autonegotiation is complete", ""),
    ("PAGE", 12, "a page was received", ""),
    ("DUPLEX", 13, "the duplex mode changed", ""),
    ("SPEED", 14, "the speed changed", ""),
    ("AN_ERROR", 15, "autonegotiation found no common mode", ""),
)


def _row(number: int, name: str, title: str, *fields: Field) -> Reg:
    return Reg(name, number, title, "13.4.7", fields, step=1, group="phy")


PHY_TABLE: tuple[Reg, ...] = (
    _row(0, "BMCR", "Control",
        rsv(5, 0),
        bit("SPEED_MSB", 6, RW, 1, "with SPEED_LSB, without autonegotiation: 0 = 10, 1 = 100, "
            "2 = 1000 Mb/s"),
        bit("CTST", 7, RW, 0, "collision test", todo=_NOT_LOOKED_AT),
        bit("FULLDPLX", 8, RW, 1, "full duplex, without autonegotiation"),
        bit("ANRESTART", 9, SC, 0, "negotiate anew"),
        bit("ISOLATE", 10, RW, 0, "cut the PHY off from the MAC: it sees no link"),
        bit("PDOWN", 11, RW, 0, "power down: the link goes"),
        bit("ANENABLE", 12, RW, 1, "negotiate speed, duplex and pause"),
        bit("SPEED_LSB", 13, RW, 0, "see SPEED_MSB"),
        bit("LOOPBACK", 14, RW, 0, "the MAC's frames come back; nothing goes to the cable"),
        bit("RESET", 15, SC, 0, "put the settings in force and bring the link up anew")),
    _row(1, "BMSR", "Status",
        bit("ERCAP", 0, RO, 1, "has the registers above 1"),
        bit("JCD", 1, RO, 0, "jabber", todo=_JABBER),
        bit("LSTATUS", 2, RO, 0, "the link is up; the first read after a loss gives 0"),
        bit("ANEGCAPABLE", 3, RO, 1, "can negotiate"),
        bit("RFAULT", 4, RO, 0, "the far end has reported a fault; a read clears it"),
        bit("ANEGCOMPLETE", 5, RO, 0, "autonegotiation is complete"),
        bit("NOPREAMBLE", 6, RO, 1, "takes management frames without preamble"),
        rsv(7),
        bit("ESTATEN", 8, RO, 1, "has register 15"),
        bit("100T2_HD", 9, RO, 0, "100BASE-T2 half duplex"),
        bit("100T2_FD", 10, RO, 0, "100BASE-T2 full duplex"),
        bit("10HD", 11, RO, 1, "10BASE-T half duplex"),
        bit("10FD", 12, RO, 1, "10BASE-T full duplex"),
        bit("100HD", 13, RO, 1, "100BASE-TX half duplex"),
        bit("100FD", 14, RO, 1, "100BASE-TX full duplex"),
        bit("100T4", 15, RO, 0, "100BASE-T4")),
    _row(2, "PHYID1", "Identifier, upper half",
        whole("OUI_MSB", "bits 3 to 18 of Marvell's OUI", RO, 0x0141, bits=16)),
    _row(3, "PHYID2", "Identifier, lower half",
        field("REVISION", 3, 0, RO, 0, "revision"),
        field("MODEL", 9, 4, RO, 2, "model: the 88E1011 inside the 82540"),
        field("OUI_LSB", 15, 10, RO, 3, "bits 19 to 24 of the OUI")),
    _row(4, "ANAR", "Autonegotiation Advertisement",
        field("SELECTOR", 4, 0, RW, 1, "1 = IEEE 802.3: nothing is agreed on with another one"),
        *(bit(name, n, RW, 1, f"offer {doc}") for name, n, doc in _ABILITIES),
        bit("100T4", 9, RW, 0, "advertise 100BASE-T4, which the PHY does not have"),
        bit("PAUSE", 10, RW, 1, "offer PAUSE, obeyed and sent"),
        bit("ASM_DIR", 11, RW, 1, "offer PAUSE in one direction"),
        rsv(12),
        bit("RFAULT", 13, RW, 0, "report a fault to the far end"),
        rsv(14),
        bit("NP", 15, RW, 0, "next pages will follow")),
    _row(5, "ANLPAR", "Autonegotiation Link Partner Ability",
        field("SELECTOR", 4, 0, RO, 0, "1 = IEEE 802.3, once negotiated"),
        *(bit(name, n, RO, 0, f"the far end offers {doc}") for name, n, doc in _ABILITIES),
        bit("100T4", 9, RO, 0, "the far end offers 100BASE-T4"),
        bit("PAUSE", 10, RO, 0, "the far end offers PAUSE"),
        bit("ASM_DIR", 11, RO, 0, "the far end offers PAUSE in one direction"),
        rsv(12),
        bit("RFAULT", 13, RO, 0, "the far end reports a fault"),
        bit("ACK", 14, RO, 0, "the far end has received our page"),
        bit("NP", 15, RO, 0, "the far end has next pages")),
    _row(6, "ANER", "Autonegotiation Expansion",
        bit("LP_ANABLE", 0, RO, 0, "the far end negotiates"),
        bit("PAGE_RX", 1, RC, 0, "a page was received"),
        bit("NP_ABLE", 2, RO, 1, "the PHY can send next pages"),
        bit("LP_NPABLE", 3, RO, 0, "the far end can send next pages"),
        bit("PDF", 4, RO, 0, "parallel detection fault", todo=_NO_CABLE),
        rsv(15, 5)),
    _row(7, "ANNPTR", "Autonegotiation Next Page Transmit",
        field("MESSAGE", 10, 0, RW, 1, "code of the page; a write sends it"),
        bit("TOGGLE", 11, RO, 0, "alternates"),
        bit("ACK2", 12, RW, 0, "this end will act on the far end's message"),
        bit("MP", 13, RW, 1, "a message page"),
        rsv(14),
        bit("NP", 15, RW, 0, "more pages follow")),
    _row(8, "ANLPNP", "Autonegotiation Link Partner Next Page",
        whole("PAGE", "what the far end sent", RO, bits=16)),
    _row(9, "GTCR", "1000BASE-T Control",
        rsv(7, 0),
        bit("1000HD", 8, RW, 1, "offer 1000BASE-T half duplex"),
        bit("1000FD", 9, RW, 1, "offer 1000BASE-T full duplex"),
        bit("REPEATER", 10, RW, 1, "prefer to be master"),
        bit("MS_VALUE", 11, RW, 1, "1 = master, 0 = slave, if MS_MANUAL is set"),
        bit("MS_MANUAL", 12, RW, 0, "MS_VALUE decides between master and slave"),
        field("TEST", 15, 13, RW, 0, "test mode", todo=_ANALOGUE)),
    _row(10, "GTSR", "1000BASE-T Status",
        field("IDLE_ERRORS", 7, 0, RO, 0, "idle errors", todo=_NO_CABLE),
        rsv(9, 8),
        bit("LP_1000HD", 10, RO, 0, "the far end offers 1000BASE-T half duplex"),
        bit("LP_1000FD", 11, RO, 0, "the far end offers 1000BASE-T full duplex"),
        bit("REMOTE_OK", 12, RO, 0, "the far end's receiver works"),
        bit("LOCAL_OK", 13, RO, 0, "our receiver works"),
        bit("MS_MASTER", 14, RO, 0, "resolved to be master"),
        bit("MS_FAULT", 15, RO, 0, "both ends insist on being master, or both on slave: no link")),
    _row(15, "ESTATUS", "Extended Status",
        rsv(11, 0),
        bit("1000T_HD", 12, RO, 1, "1000BASE-T half duplex"),
        bit("1000T_FD", 13, RO, 1, "1000BASE-T full duplex"),
        bit("1000X_HD", 14, RO, 0, "1000BASE-X half duplex"),
        bit("1000X_FD", 15, RO, 0, "1000BASE-X full duplex")),
    _row(16, "PSCR", "PHY Specific Control",
        bit("JABBER_DISABLE", 0, RW, 0, "do not look for jabber", todo=_JABBER),
        bit("POLARITY_REVERSAL", 1, RW, 0, "leave the polarity as it is", todo=_ANALOGUE),
        bit("SQE_TEST", 2, RW, 0, "test signal quality after each frame", todo=_NOT_LOOKED_AT),
        bit("RSV3", 3, SW),
        bit("CLK125_DISABLE", 4, RW, 0, "switch the 125 MHz clock off", todo=_CLOCK_PIN),
        field("MDI_MODE", 6, 5, RW, 3, "0 = MDI, 1 = MDI-X, 2 = automatic at 1000, 3 = automatic"),
        bit("EXT_DIST", 7, RW, 0, "lower threshold for longer 10BASE-T cables", todo=_ANALOGUE),
        field("ENERGY_DETECT", 9, 8, RW, 3, "2 and 3: sleep while the wire is silent"),
        bit("FORCE_LINK_GOOD", 10, RW, 0, "report a forced link at 10 or 100 Mb/s as up"),
        bit("ASSERT_CRS_ON_TX", 11, RW, 0, "carrier sense while sending", todo=_NOT_LOOKED_AT),
        field("RX_FIFO", 13, 12, RW, 0, "depth of the receive FIFO", todo=_ONE_CLOCK),
        field("TX_FIFO", 15, 14, RW, 0, "depth of the transmit FIFO", todo=_ONE_CLOCK)),
    _row(17, "PSSR", "PHY Specific Status",
        bit("JABBER", 0, RO, 0, "jabber", todo=_JABBER),
        bit("REV_POLARITY", 1, RO, 0, "a pair is reversed", todo=_NO_CABLE),
        bit("RX_PAUSE", 2, RO, 0, "PAUSE is obeyed"),
        bit("TX_PAUSE", 3, RO, 0, "PAUSE is sent"),
        bit("ENERGY_DETECT", 4, RO, 1, "asleep: the wire is silent"),
        bit("DOWNSHIFT", 5, RO, 0, "slower than negotiated, because the cable has two pairs"),
        bit("MDIX", 6, RO, 1, "crossed over"),
        field("CABLE_LENGTH", 9, 7, RO, 0, "0 = up to 50 m, in steps of 30 m to 4 = above 140 m"),
        bit("LINK", 10, RO, 0, "the link is up"),
        bit("RESOLVED", 11, RO, 0, "speed and duplex are settled"),
        bit("PAGE_RCVD", 12, RO, 0, "a page was received, as in ANER"),
        bit("DPLX", 13, RO, 1, "full duplex"),
        field("SPEED", 15, 14, RO, 2, "0 = 10, 1 = 100, 2 = 1000 Mb/s")),
    _row(18, "PIER", "PHY Interrupt Enable",
        *(bit(name, n, RW, 0, f"interrupt when: {doc}", todo)
          for name, n, doc, todo in _INTERRUPTS),
        field("RSV3_2", 3, 2, SW)),
    _row(19, "PISR", "PHY Interrupt Status",
        *(bit(name, n, RC, 0, doc, todo) for name, n, doc, todo in _INTERRUPTS),
        rsv(3, 2)),
    _row(20, "EPSCR", "Extended PHY Specific Control",
        field("RSV3_0", 3, 0, SW),
        field("TX_CLK", 6, 4, RW, 6, "clock to the MAC: 6 = 2.5, 7 = 25 MHz", todo=_CLOCK_PIN),
        bit("RSV7", 7, SW),
        field("SLAVE_DOWNSHIFT", 9, 8, RW, 1,
            "attempts as a slave before a lower speed is tried; 0: it never is"),
        field("MASTER_DOWNSHIFT", 11, 10, RW, 3,
            "attempts as a master before a lower speed is tried, less one"),
        field("RSV14_12", 14, 12, SW),
        bit("DOWN_NO_IDLE", 15, RW, 0, "link down after 1 ms without idle", todo=_ANALOGUE)),
    _row(21, "RXERR", "Receive Error Counter",
        whole("ERRORS", "frames with RX_ER since the last read; sticks at FFFF", RC, bits=16)),
    _row(22, "R22", "88E1011 Register 22", whole("RSV15_0", "", SW, bits=16)),
    _row(23, "R23", "88E1011 Register 23", whole("RSV15_0", "", SW, bits=16)),
    _row(24, "LEDCR", "LED Control", whole("LEDS", "stretching, blinking and use of the PHY's LEDs",
        RW, 0x4100, todo=_PHY_LEDS, bits=16)),
    _row(25, "LEDMAN", "LED Override", whole("LEDS", "set by software", todo=_PHY_LEDS, bits=16)),
    _row(26, "EPSCR2", "Extended PHY Specific Control 2",
        whole("ANALOGUE", "output levels", RW, 0x000A, todo=_ANALOGUE, bits=16)),
    _row(27, "EPSSR", "Extended PHY Specific Status",
        whole("STATUS", "of fiber and serial interfaces", RO, todo="copper only", bits=16)),
    _row(29, "PAGE", "Page of Register 30",
        field("NUMBER", 7, 0, RW, 0, "which of its words register 30 shows"),
        rsv(15, 8)),
    _row(30, "PAGE_DATA", "Calibration Word",
        whole("DATA", "one word for each PAGE; drivers set some before loopback and tests", RW,
            todo="stores what is written; it calibrates analogue parts", bits=16)),
)
"""All of them; a number that is missing reads 0 and ignores writes."""
# fmt: on

_BY_NAME = {r.name: r for r in PHY_TABLE}


def phy_reg(name: str) -> Reg:
    """Return the row called `name`.  Raises: KeyError."""
    return _BY_NAME[name]


def check_phy_table() -> Iterator[str]:
    """Yield the errors of the table."""
    numbers = [r.offset for r in PHY_TABLE]
    if sorted(set(numbers)) != numbers or not all(0 <= n < 32 for n in numbers):
        yield f"numbers {numbers}"
    for r in PHY_TABLE:
        yield from check_fields(r.name, r.fields, 16)
