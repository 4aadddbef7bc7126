"""Descriptor layouts: rows of members and bits, numpy dtypes over a ring, a line of text for each.

For tools that look at rings (dumps, traces, tests) and for the reference; the engines read the same
bytes in C.  All descriptors are 16 bytes, little endian (SDM 3.2.3, 3.3.3, 3.3.6, 3.3.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from e1000emu.registers.fields import Access, Field, bit, check_fields, field, rsv

if TYPE_CHECKING:
    from e1000emu.device.nic import Nic

__all__ = [
    "DESCRIPTOR_BYTES",
    "LAYOUTS",
    "RX",
    "TX_CONTEXT",
    "TX_DATA",
    "TX_LEGACY",
    "Layout",
    "Member",
    "check_layouts",
    "describe_rx",
    "describe_tx",
    "dump_rx",
    "dump_tx",
    "tx_kind",
]

DESCRIPTOR_BYTES = 16


@dataclass(frozen=True, slots=True)
class Member:
    """One number of a descriptor; `fields` claim its bits; without fields it is one field.

    Members with several fields have the manual's names joined: `paylen_dtyp_tucmd`.
    """

    name: str
    type: str
    """The numpy type, which gives the size: "<u2"."""
    doc: str = ""
    fields: tuple[Field, ...] = ()
    device: bool = False
    """Written by the device; else by the driver."""

    @property
    def bits(self) -> int:
        """Return the size."""
        return np.dtype(self.type).itemsize * 8


@dataclass(frozen=True, slots=True)
class Layout:
    """One kind of descriptor: its members in the order of their bytes."""

    name: str
    title: str
    sdm: str
    members: tuple[Member, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """Return the layout as a numpy structure."""
        return np.dtype([(m.name, m.type) for m in self.members])

    @property
    def fields(self) -> tuple[Field, ...]:
        """Return every field at its place in the 128 bits, with RO where the device writes."""
        found, at = [], 0
        for m in self.members:
            access = Access.RO if m.device else Access.RW
            for f in m.fields or (Field("", 0, m.bits - 1, access, 0, m.doc),):
                name = f"{m.name}.{f.name}" if f.name and m.bits == 8 else f.name
                if f.access is not Access.RSV:
                    f = replace(f, name=(name or m.name).upper(), access=access)
                found.append(replace(f, lo=f.lo + at, hi=f.hi + at))
            at += m.bits
        return tuple(found)

    def flags(self, member: str, lo: int = 0) -> tuple[str, ...]:
        """Return the names of a member's single bits from `lo` up, "" where one has none."""
        (m,) = (m for m in self.members if m.name == member)
        names = {f.lo: f.name.rpartition(".")[2] for f in m.fields if f.lo == f.hi}
        return tuple(names.get(n, "") for n in range(lo, m.bits))


# fmt: off
def _bits(prefix: str, lo: int, *rows: tuple[str, str]) -> tuple[Field, ...]:
    """Return bits from `lo` up, one for each (name, doc); a row without a name is reserved."""
    return tuple(
        bit(prefix + name, n, doc=doc) if name else rsv(n) for n, (name, doc) in enumerate(rows, lo)
    )


_EOP = ("EOP", "end of packet")
_RS = ("RS", "report status: write DD back when done")
_RPS = ("RPS", "report packet sent; 82544 only")
_VLE = ("VLE", "insert SPECIAL as VLAN tag, when CTRL.VME")
_IDE = ("IDE", "delay the interrupt by TIDV")
_ADDR = Member("addr", "<u8", "address of the buffer")
_TAG = Member("special", "<u2", fields=(
    field("VLAN", 11, 0, doc="VLAN identifier"),
    bit("CFI", 12, doc="canonical form"),
    field("PRI", 15, 13, doc="priority")))
_TX_STA = Member("sta", "u1", device=True, fields=(
    *_bits("", 0, ("DD", "done; written back for RS"),
           ("EC", "too many collisions; half duplex only, never set"),
           ("LC", "late collision; half duplex only, never set"),
           ("TU", "underrun; 82544 only, never set")),
    rsv(7, 4)))

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (
    Layout("rxdesc", "Receive Descriptor", "3.2.3", (
        _ADDR,
        Member("length", "<u2", "bytes in this buffer", device=True),
        Member("checksum", "<u2", "packet checksum from RXCSUM.PCSS on", device=True),
        Member("status", "u1", device=True, fields=_bits("", 0,
            ("DD", "done"), _EOP, ("IXSM", "ignore the checksum bits"),
            ("VP", "a VLAN tag; stripped into SPECIAL when CTRL.VME"), ("", ""),
            ("TCPCS", "TCP or UDP checksum was checked"), ("IPCS", "IP checksum was checked"),
            ("PIF", "passed an inexact filter: software must check"))),
        Member("errors", "u1", device=True, fields=_bits("", 0,
            ("CE", "CRC or alignment error"), ("SE", "symbol error"), ("SEQ", "sequence error"),
            ("", ""), ("CXE", "carrier extension error"), ("TCPE", "TCP or UDP checksum is wrong"),
            ("IPE", "IP checksum is wrong"), ("RXE", "the PHY reported an error"))),
        Member("special", "<u2", fields=_TAG.fields, device=True))),
    Layout("txdesc.legacy", "Legacy Transmit Descriptor", "3.3.3", (
        _ADDR,
        Member("length", "<u2", "bytes in this buffer"),
        Member("cso", "u1", "checksum offset: where the sum is put"),
        Member("cmd", "u1", fields=_bits("", 0,
            _EOP, ("IFCS", "insert the FCS"), ("IC", "insert a checksum at CSO"),
            _RS, _RPS, ("DEXT", "0: a legacy descriptor"), _VLE, _IDE)),
        _TX_STA,
        Member("css", "u1", "checksum start: the first byte that is summed"),
        _TAG)),
    Layout("txdesc.context", "TCP/IP Context Descriptor", "3.3.6", (
        Member("ipcss", "u1", "IP checksum start"),
        Member("ipcso", "u1", "IP checksum offset"),
        Member("ipcse", "<u2", "IP checksum end, 0 = to the end of the packet"),
        Member("tucss", "u1", "TCP or UDP checksum start"),
        Member("tucso", "u1", "TCP or UDP checksum offset"),
        Member("tucse", "<u2", "TCP or UDP checksum end, 0 = to the end of the packet"),
        Member("paylen_dtyp_tucmd", "<u4", fields=(
            field("PAYLEN", 19, 0, doc="bytes of the payload to segment, without headers"),
            field("DTYP", 23, 20, doc="0: a context descriptor"),
            *_bits("TUCMD.", 24,
                ("TCP", "segment as TCP, else UDP"), ("IP", "IPv4, else IPv6"),
                ("TSE", "segment"), _RS, ("", ""), ("DEXT", "1"), ("", ""), _IDE))),
        _TX_STA,
        Member("hdrlen", "u1", "bytes of the headers, which each segment repeats"),
        Member("mss", "<u2", "payload bytes of a segment"))),
    Layout("txdesc.data", "TCP/IP Data Descriptor", "3.3.7", (
        _ADDR,
        Member("dtalen_dtyp_dcmd", "<u4", fields=(
            field("DTALEN", 19, 0, doc="bytes in this buffer"),
            field("DTYP", 23, 20, doc="1: a data descriptor"),
            *_bits("DCMD.", 24,
                _EOP, ("IFCS", "insert the FCS"), ("TSE", "segment by the context"),
                _RS, _RPS, ("DEXT", "1"), _VLE, _IDE))),
        _TX_STA,
        Member("popts", "u1", fields=(
            *_bits("", 0, ("IXSM", "insert the IP checksum"),
                   ("TXSM", "insert the TCP or UDP checksum")),
            rsv(7, 2))),
        _TAG)),
)}
"""Every layout by the name that `e1000emu regs` takes."""
# fmt: on

_RX, _LEGACY = LAYOUTS["rxdesc"], LAYOUTS["txdesc.legacy"]
_CONTEXT, _DATA = LAYOUTS["txdesc.context"], LAYOUTS["txdesc.data"]

RX = _RX.dtype
"""Receive descriptor (SDM 3.2.3)."""
TX_LEGACY = _LEGACY.dtype
"""Legacy transmit descriptor (SDM 3.3.3)."""
TX_CONTEXT = _CONTEXT.dtype
"""TCP/IP context descriptor (SDM 3.3.6): PAYLEN 19:0, DTYP 23:20, TUCMD 31:24."""
TX_DATA = _DATA.dtype
"""TCP/IP data descriptor (SDM 3.3.7): DTALEN 19:0, DTYP 23:20, DCMD 31:24."""

DEXT = 1 << _LEGACY.flags("cmd").index("DEXT")
DTYP_CONTEXT, DTYP_DATA = 0, 1

_RX_STATUS, _RX_ERRORS = _RX.flags("status"), _RX.flags("errors")
_LEGACY_CMD = _LEGACY.flags("cmd")
_DATA_CMD = _DATA.flags("dtalen_dtyp_dcmd", 24)
_CONTEXT_CMD = _CONTEXT.flags("paylen_dtyp_tucmd", 24)
_TX_STATUS, _POPTS = _LEGACY.flags("sta"), _DATA.flags("popts")


def check_layouts() -> Iterator[str]:
    """Yield the errors of the layouts."""
    for layout in LAYOUTS.values():
        yield from check_fields(layout.name, layout.fields, DESCRIPTOR_BYTES * 8)


def _names(value: int, names: tuple[str, ...]) -> str:
    words = [name or f"bit{i}" for i, name in enumerate(names) if value >> i & 1]
    return "|".join(words) or "0"


def tx_kind(raw: bytes) -> str:
    """Return "legacy", "context" or "data" for the 16 bytes of a transmit descriptor."""
    if not raw[11] & DEXT:
        return "legacy"
    return {DTYP_CONTEXT: "context", DTYP_DATA: "data"}.get(raw[10] >> 4, "unknown")


def describe_tx(raw: bytes) -> str:
    """Return a transmit descriptor as one line.  Raises: ValueError unless 16 bytes."""
    _check(raw)
    kind = tx_kind(raw)
    if kind == "legacy":
        d = np.frombuffer(raw, TX_LEGACY)[0]
        text = f"legacy  {int(d['addr']):#x}+{d['length']} {_names(int(d['cmd']), _LEGACY_CMD)}"
        if int(d["cmd"]) & 4:
            text += f" css={d['css']} cso={d['cso']}"
    elif kind == "context":
        d = np.frombuffer(raw, TX_CONTEXT)[0]
        word = int(d["paylen_dtyp_tucmd"])
        text = (
            f"context ip={d['ipcss']}/{d['ipcso']}/{d['ipcse']} "
            f"tu={d['tucss']}/{d['tucso']}/{d['tucse']} paylen={word & 0xFFFFF} "
            f"hdrlen={d['hdrlen']} mss={d['mss']} {_names(word >> 24, _CONTEXT_CMD)}"
        )
    else:
        d = np.frombuffer(raw, TX_DATA)[0]
        word = int(d["dtalen_dtyp_dcmd"])
        text = (
            f"{kind:7} {int(d['addr']):#x}+{word & 0xFFFFF} {_names(word >> 24, _DATA_CMD)} "
            f"popts={_names(int(d['popts']), _POPTS)}"
        )
    if raw[11] & 0x40 and kind != "context":
        text += f" vlan={int(d['special']):#06x}"
    return f"{text} sta={_names(int(d['sta']) & 15, _TX_STATUS)}"


def describe_rx(raw: bytes) -> str:
    """Return a receive descriptor as one line.  Raises: ValueError unless 16 bytes."""
    _check(raw)
    d = np.frombuffer(raw, RX)[0]
    if not d["status"]:
        return f"free    {int(d['addr']):#x}"
    text = f"done    {int(d['addr']):#x}+{d['length']} {_names(int(d['status']), _RX_STATUS)}"
    if d["errors"]:
        text += f" errors={_names(int(d['errors']), _RX_ERRORS)}"
    if int(d["status"]) & 8:
        text += f" vlan={int(d['special']):#06x}"
    return f"{text} csum={int(d['checksum']):#06x}"


def _check(raw: bytes) -> None:
    if len(raw) != DESCRIPTOR_BYTES:
        raise ValueError(f"a descriptor has 16 bytes, not {len(raw)}")


def dump_tx(nic: Nic) -> Iterator[str]:
    """Yield every descriptor of the transmit ring, head and tail marked."""
    engine = nic.tx.engine
    yield from _dump(nic, engine.base, engine.len, engine.head, engine.tail, True)


def dump_rx(nic: Nic) -> Iterator[str]:
    """Yield every descriptor of the receive ring, head and tail marked."""
    engine = nic.rx.engine
    yield from _dump(nic, engine.base, engine.len, engine.head, engine.tail, False)


def _dump(nic: Nic, base: int, size: int, head: int, tail: int, tx: bool) -> Iterator[str]:
    for i in range(size // DESCRIPTOR_BYTES):
        address = (base & ~15) + i * DESCRIPTOR_BYTES & 0xFFFFFFFFFFFFFFFF
        raw = nic.memory.read(address, DESCRIPTOR_BYTES)
        mark = ("H" if i == head else " ") + ("T" if i == tail else " ")
        yield f"{i:5} {mark} {describe_tx(raw) if tx else describe_rx(raw)}"
