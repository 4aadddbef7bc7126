"""The PCI function's configuration space as rows: header and capabilities (SDM 4.1, 6.3).

A row is a register of `step` bytes. All parts have the header; the model says which capabilities
follow it (`models.Model.capabilities`), and `config_rows` chains them. `PciFunction` takes its
reset values and masks from here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from e1000emu.registers.fields import Access, Field, Reg, bit, check_fields, field, rsv, tell, whole

RW, RO, W1C, SW = Access.RW, Access.RO, Access.W1C, Access.SW

CONFIG_BYTES = 256
FLASH_WINDOWS = ("BAR1", "ROM")
WIDE_FLASH_WINDOWS = ("BAR2", "BAR3", "ROM")
WIDE_TYPE = 2
"""BAR0.TYPE of a window that may be anywhere: the next BAR is its upper half (PCI 2.3, 6.2.5.1)."""
_PARITY = "parity belongs to the bus, outside the chip"
_SPLIT = "split transactions belong to the bus, outside the chip"
_NUMBERS = "configuration writes, QEMU's too, arrive without the numbers of bus and device"
_LATENCY = "bus time is outside the chip: accesses take no time"


def _row(offset: int, size: int, name: str, title: str, *fields: Field, sdm: str = "4.1") -> Reg:
    return Reg(name, offset, title, sdm, fields, step=size, group="pci")


def _value(doc: str, reset: int = 0, bits: int = 16, access: Access = RO, todo: str = "") -> Field:
    return whole("VALUE", doc, access, reset, todo, bits=bits)


def _memory_window(what: str) -> tuple[Field, ...]:
    return (
        field("SIZE", 15, 4, RO, 0, "64 KiB; a larger flash takes one to three bits of ADDRESS"),
        field("ADDRESS", 31, 16, RW, 0, f"where {what}; reads 0 without a flash"),
    )


def _memory_bar(wide: bool) -> Reg:
    place = "anywhere; BAR1 goes on" if wide else "anywhere below 4 GiB"
    return _row(
        0x10,
        4,
        "BAR0",
        "Memory Base Address",
        bit("SPACE", 0, RO, 0, "0 = memory"),
        field("TYPE", 2, 1, RO, WIDE_TYPE if wide else 0, place),
        bit("PREFETCH", 3, RO, 0, "reads have side effects"),
        field("SIZE", 16, 4, RO, 0, "128 KiB"),
        field("ADDRESS", 31, 17, RW, 0, "where the registers are"),
    )


def _flash_bar(wide: bool) -> Reg:
    place = "anywhere; BAR3 goes on" if wide else "anywhere below 4 GiB"
    return _row(
        0x18 if wide else 0x14,
        4,
        "BAR2" if wide else "BAR1",
        "Flash Base Address",
        bit("SPACE", 0, RO, 0, "0 = memory"),
        field("TYPE", 2, 1, RO, WIDE_TYPE if wide else 0, place),
        bit("PREFETCH", 3, RO, 0, "a busy chip returns its status instead of data"),
        *_memory_window("the flash is"),
    )


def _io_bar(wide: bool) -> Reg:
    return _row(
        0x20 if wide else 0x18,
        4,
        "BAR4" if wide else "BAR2",
        "I/O Base Address",
        bit("SPACE", 0, RO, 1, "1 = I/O"),
        field("SIZE", 2, 1, RO, 0, "8 bytes"),
        field("ADDRESS", 31, 3, RW, 0, "where IOADDR and IODATA are"),
    )


def _upper_bar(offset: int, name: str, title: str, doc: str) -> Reg:
    return _row(offset, 4, name, f"{title}, upper half", _value(doc, bits=32, access=RW))


def _empty_bar(offset: int, name: str) -> Reg:
    return _row(offset, 4, name, "Base Address", _value("no such region: reads 0", bits=32))


# fmt: off
HEADER: tuple[Reg, ...] = (
    _row(0x00, 2, "VENDOR_ID", "Vendor Id", _value("from the EEPROM's word 0Eh", 0x8086)),
    _row(0x02, 2, "DEVICE_ID", "Device Id", _value("the model's; from the EEPROM's word 0Dh")),
    _row(0x04, 2, "COMMAND", "Command",
        *tell("pci.apply",
            bit("IO", 0, RW, 0, "the I/O BAR answers"),
            bit("MEMORY", 1, RW, 0, "the memory BAR answers"),
            bit("MASTER", 2, RW, 0, "the device reads and writes memory")),
        bit("SPECIAL", 3, RO, 0, "sees special cycles"),
        bit("MWI", 4, RW, 0, "may write and invalidate", todo=_LATENCY),
        bit("VGA", 5, RO, 0, "snoops palette writes"),
        bit("PARITY", 6, RW, 0, "reports parity errors", todo=_PARITY),
        bit("STEPPING", 7, RO, 0, "steps addresses"),
        bit("SERR", 8, RW, 0, "may drive SERR#", todo=_PARITY),
        bit("FAST_B2B", 9, RO, 0, "fast transfers to different targets"),
        bit("INTX_OFF", 10, RW, 0, "INTA# stays high", on_change="pci.apply"),
        rsv(15, 11)),
    _row(0x06, 2, "STATUS", "Status",
        rsv(2, 0),
        bit("INTERRUPT", 3, RO, 0, "an interrupt waits, even if INTX_OFF keeps INTA# high"),
        bit("CAPABILITIES", 4, RO, 1, "CAP_POINTER leads to a list"),
        bit("66MHZ", 5, RO, 1, "can run at 66 MHz"),
        rsv(6),
        bit("FAST_B2B", 7, RO, 0, "takes fast transfers"),
        bit("MASTER_PARITY", 8, W1C, 0, "a parity error as master", todo=_PARITY),
        field("DEVSEL", 10, 9, RO, 1, "answers with medium speed"),
        bit("TARGET_ABORTED", 11, W1C, 0, "the device aborted an access as target",
            todo="the device never does"),
        bit("TARGET_ABORT", 12, W1C, 0, "a target aborted an access of the device",
            todo="memory never aborts"),
        bit("MASTER_ABORT", 13, W1C, 0, "nobody answered an access of the device"),
        bit("SERR", 14, W1C, 0, "the device drove SERR#", todo=_PARITY),
        bit("PARITY", 15, W1C, 0, "the device detected a parity error", todo=_PARITY)),
    _row(0x08, 1, "REVISION", "Revision", _value("the model's", bits=8)),
    _row(0x09, 3, "CLASS", "Class", _value("an Ethernet controller", 0x020000, bits=24)),
    _row(0x0C, 1, "CACHE_LINE", "Cache Line Size",
        *tell("update_write_back",
            _value("in dwords; TXDCTL and RXDCTL count in lines without GRAN", bits=8, access=RW))),
    _row(0x0D, 1, "LATENCY", "Latency Timer",
        field("LOW", 1, 0, RO, 0, "granularity of 4 clocks"),
        field("CLOCKS", 7, 2, RW, 0, "clocks that a transfer may take on the bus", todo=_LATENCY)),
    _row(0x0E, 1, "HEADER_TYPE", "Header Type", _value("one function, a device", bits=8)),
    _row(0x0F, 1, "BIST", "Built-in Self Test", _value("none", bits=8)),
    _memory_bar(wide=False),
    _flash_bar(wide=False),
    _io_bar(wide=False),
    _empty_bar(0x1C, "BAR3"),
    _empty_bar(0x20, "BAR4"),
    _empty_bar(0x24, "BAR5"),
    _row(0x28, 4, "CARDBUS", "CardBus CIS Pointer", _value("none", bits=32)),
    _row(0x2C, 2, "SUBSYSTEM_VENDOR", "Subsystem Vendor Id",
        _value("from the EEPROM's word 0Ch", 0x8086)),
    _row(0x2E, 2, "SUBSYSTEM_ID", "Subsystem Id",
        _value("from the EEPROM's word 0Bh")),
    _row(0x30, 4, "ROM", "Expansion ROM Base Address",
        bit("ENABLE", 0, RW, 0, "the window answers, with COMMAND.MEMORY; 0 without a flash"),
        rsv(3, 1),
        *_memory_window("the flash is too")),
    _row(0x34, 1, "CAP_POINTER", "Capabilities Pointer", _value("the first one", bits=8)),
    _row(0x3C, 1, "INTERRUPT_LINE", "Interrupt Line", _value("for software", bits=8, access=SW)),
    _row(0x3D, 1, "INTERRUPT_PIN", "Interrupt Pin", _value("INTA#", 1, bits=8)),
    _row(0x3E, 1, "MIN_GRANT", "Minimum Grant", _value("in units of 250 ns", 0xFF, bits=8)),
    _row(0x3F, 1, "MAX_LATENCY", "Maximum Latency", _value("in units of 250 ns", bits=8)),
)
"""The 64 bytes that every PCI function begins with."""

WIDE_BARS: tuple[Reg, ...] = (
    _memory_bar(wide=True),
    _upper_bar(0x14, "BAR1", "Memory Base Address", "bits 63 to 32 of where the registers are"),
    _flash_bar(wide=True),
    _upper_bar(0x1C, "BAR3", "Flash Base Address", "bits 63 to 32 of where the flash is"),
    _io_bar(wide=True),
)
"""The rows that replace the BARs when windows have 64 bits; BAR5 stays empty.

The manual has both widths (SDM 4.1); the order is that of boards. In a PCI-X slot lspci shows an
82544EI with region 0 of 64 bits, its flash as region 2, of 64 bits, and I/O ports as region 4. It
shows an 82545EM without a flash with 0 and 4, and an 82546EB the same in a slot for PCI.
"""

CAPABILITIES: dict[str, tuple[Reg, ...]] = {
    "PM": (
        _row(0xDC, 1, "PM_ID", "Power Management", _value("its id", 1, bits=8), sdm="6.3.3"),
        _row(0xDD, 1, "PM_NEXT", "Next Capability", _value("0 = the last", bits=8), sdm="6.3.3"),
        _row(0xDE, 2, "PMC", "Power Management Capabilities",
            field("VERSION", 2, 0, RO, 2, "of PCI Power Management 1.1"),
            bit("CLOCK", 3, RO, 0, "PME# needs no clock"),
            rsv(4),
            bit("DSI", 5, RO, 1, "needs initialisation by its driver"),
            field("AUX", 8, 6, RO, 0, "current from the auxiliary supply"),
            bit("D1", 9, RO, 0, "has D1"),
            bit("D2", 10, RO, 0, "has D2"),
            field("PME", 15, 11, RO, 0b11001, "PME# from D0, D3hot, D3cold"), sdm="6.3.3"),
        _row(0xE0, 2, "PMCSR", "Power Management Control and Status",
            field("STATE", 1, 0, RW, 0, "0 = D0, 3 = D3hot; there are no others", legal=(0, 3),
                on_change="pci.change_power"),
            rsv(7, 2),
            bit("PME_EN", 8, RW, 0, "PME# may be driven", on_change="wakeup.update"),
            field("DATA_SELECT", 12, 9, RW, 0, "of PM_DATA: 0 and 4 = D0, 3 and 7 = D3",
                on_change="pci.show_power"),
            field("DATA_SCALE", 14, 13, RO, 1, "of PM_DATA: 1 = 0.1 W, 0 = no such data"),
            bit("PME_STATUS", 15, W1C, 0, "a wake-up event came",
                on_change="wakeup.update"), sdm="6.3.3"),
        _row(0xE2, 1, "PM_BRIDGE", "Bridge Extensions", _value("no bridge", bits=8), sdm="6.3.3"),
        _row(0xE3, 1, "PM_DATA", "Power Consumption",
            _value("what DATA_SELECT selects of the EEPROM's word 22h", bits=8), sdm="6.3.3.6"),
    ),
    "PCI-X": (
        _row(0xE4, 1, "PCIX_ID", "PCI-X", _value("its id", 7, bits=8)),
        _row(0xE5, 1, "PCIX_NEXT", "Next Capability", _value("0 = the last", bits=8)),
        _row(0xE6, 2, "PCIX_COMMAND", "PCI-X Command",
            bit("DPERE", 0, RW, 0, "recovers from parity errors", todo=_PARITY),
            bit("ERO", 1, RW, 1, "relaxed ordering", todo=_SPLIT),
            field("MMRBC", 3, 2, RW, 0, "longest read: 512 << n bytes"),
            field("OST", 6, 4, RW, 0, "split transactions under way", todo=_SPLIT),
            rsv(15, 7)),
        _row(0xE8, 4, "PCIX_STATUS", "PCI-X Status",
            field("FUNCTION", 2, 0, RO, 0, "of the last configuration write"),
            field("DEVICE", 7, 3, RO, 0x1F, "unknown before the first", todo=_NUMBERS),
            field("BUS", 15, 8, RO, 0xFF, "unknown before the first", todo=_NUMBERS),
            bit("64BIT", 16, RO, 1, "a bus of 64 bits"),
            bit("133MHZ", 17, RO, 1, "can run at 133 MHz"),
            bit("DISCARDED", 18, W1C, 0, "a split completion was lost", todo=_SPLIT),
            bit("UNEXPECTED", 19, W1C, 0, "a split completion nobody waited for", todo=_SPLIT),
            bit("BRIDGE", 20, RO, 0, "complexity of a bridge"),
            field("DMMRBC", 22, 21, RO, 2, "reads 2048 bytes at most"),
            field("DMOST", 25, 23, RO, 0, "one split transaction at a time"),
            field("DMCRS", 28, 26, RO, 1, "2 KiB of reads under way at most"),
            bit("ERROR", 29, W1C, 0, "a split completion reported an error", todo=_SPLIT),
            rsv(31, 30)),
    ),
    "MSI": (
        _row(0xF0, 1, "MSI_ID", "Message Signalled Interrupts", _value("its id", 5, bits=8)),
        _row(0xF1, 1, "MSI_NEXT", "Next Capability", _value("0 = the last", bits=8)),
        _row(0xF2, 2, "MSI_CONTROL", "Message Control",
            bit("ENABLE", 0, RW, 0, "a message instead of INTA#", on_change="pci.apply"),
            field("CAPABLE", 3, 1, RO, 0, "one message"),
            field("ALLOCATED", 6, 4, SW, 0, "log2 of the messages granted; one is asked for"),
            bit("64BIT", 7, RO, 1, "MSI_ADDRESS_HIGH is there"),
            rsv(15, 8)),
        _row(0xF4, 4, "MSI_ADDRESS", "Message Address",
            field("DWORD", 1, 0, RO, 0, "a whole dword is written"),
            field("ADDRESS", 31, 2, RW, 0, "where the message goes")),
        _row(0xF8, 4, "MSI_ADDRESS_HIGH", "Message Upper Address",
            _value("bits 63 to 32", bits=32, access=RW)),
        _row(0xFC, 2, "MSI_DATA", "Message Data", _value("what is written", bits=16, access=RW)),
    ),
}
"""By name: the rows of each capability, its id and the offset of the next first."""
# fmt: on

PCI_TABLE: tuple[Reg, ...] = (*HEADER, *(r for rows in CAPABILITIES.values() for r in rows))


def config_rows(
    capabilities: tuple[str, ...], flash_bytes: int = 0, wide: bool = False
) -> tuple[Reg, ...]:
    """Return the rows of a function with these capabilities, each leading to the next.

    The windows to the flash are of `flash_bytes`, a power of two from 64 KiB on; 0: there are none.
    With `wide` those of memory and flash have addresses of 64 bits (`WIDE_BARS`).
    """
    chain = [CAPABILITIES[name] for name in capabilities]
    starts = [rows[0].offset for rows in chain] + [0]
    header = tuple(_with_value(r, starts[0]) if r.name == "CAP_POINTER" else r for r in HEADER)
    if wide:
        instead = {r.name: r for r in WIDE_BARS}
        header = tuple(instead.get(r.name, r) for r in header)
    windows = WIDE_FLASH_WINDOWS if wide else FLASH_WINDOWS
    header = tuple(_sized(r, flash_bytes) if r.name in windows else r for r in header)
    linked = [
        (rows[0], _with_value(rows[1], after), *rows[2:])
        for rows, after in zip(chain, starts[1:], strict=True)
    ]
    return (*header, *(r for rows in linked for r in rows))


def same_fields(r: Reg) -> tuple[Reg, list[tuple[Field, Field]]]:
    """Return the row that holds fields of BAR 0's register `r`, and each of these with its own.

    Raises: ValueError, they are of several rows.
    """
    places = {f: f.same_as.partition(".") for f in r.fields if f.same_as}
    (row,) = (row for row in PCI_TABLE if row.name in {name for name, _, _ in places.values()})
    return row, [(f, row.field(name)) for f, (_, _, name) in places.items()]


def _with_value(r: Reg, value: int) -> Reg:
    return replace(r, fields=(replace(r.fields[0], reset=value),))


def _sized(r: Reg, size: int) -> Reg:
    """Return the row of a window of `size` bytes, 0 for none."""
    if not size:
        return replace(r, fields=(_value("no flash: reads 0", bits=32),))
    lowest = size.bit_length() - 1
    hi, lo = {"SIZE": lowest - 1}, {"ADDRESS": lowest}
    fields = (replace(f, hi=hi.get(f.name, f.hi), lo=lo.get(f.name, f.lo)) for f in r.fields)
    return replace(r, fields=tuple(fields))


def check_pci_table() -> Iterator[str]:
    """Yield the errors of the table."""
    taken: set[int] = set()
    for r in PCI_TABLE:
        yield from check_fields(r.name, r.fields, 8 * r.step)
        own = set(range(r.offset, r.offset + r.step))
        if own & taken or max(own) >= CONFIG_BYTES:
            yield f"{r.name}: bytes {sorted(own)} are another's or beyond the space"
        taken |= own
