"""Descriptor layouts: numpy dtypes over a ring, and one line of text for each descriptor.

For tools that look at rings (dumps, traces, tests); the engines read the same bytes in C.  All
descriptors are 16 bytes, little endian (SDM 3.2.3, 3.3.3, 3.3.6, 3.3.7).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from e1000emu.nic import Nic

__all__ = [
    "DESCRIPTOR_BYTES",
    "RX",
    "TX_CONTEXT",
    "TX_DATA",
    "TX_LEGACY",
    "describe_rx",
    "describe_tx",
    "dump_rx",
    "dump_tx",
    "tx_kind",
]

DESCRIPTOR_BYTES = 16

RX = np.dtype(
    [
        ("addr", "<u8"),
        ("length", "<u2"),
        ("checksum", "<u2"),
        ("status", "u1"),
        ("errors", "u1"),
        ("special", "<u2"),
    ]
)
"""Receive descriptor (SDM 3.2.3)."""

TX_LEGACY = np.dtype(
    [
        ("addr", "<u8"),
        ("length", "<u2"),
        ("cso", "u1"),
        ("cmd", "u1"),
        ("sta", "u1"),
        ("css", "u1"),
        ("special", "<u2"),
    ]
)
"""Legacy transmit descriptor (SDM 3.3.3)."""

TX_CONTEXT = np.dtype(
    [
        ("ipcss", "u1"),
        ("ipcso", "u1"),
        ("ipcse", "<u2"),
        ("tucss", "u1"),
        ("tucso", "u1"),
        ("tucse", "<u2"),
        ("paylen_dtyp_tucmd", "<u4"),
        ("sta", "u1"),
        ("hdrlen", "u1"),
        ("mss", "<u2"),
    ]
)
"""TCP/IP context descriptor (SDM 3.3.6): PAYLEN 19:0, DTYP 23:20, TUCMD 31:24."""

TX_DATA = np.dtype(
    [
        ("addr", "<u8"),
        ("dtalen_dtyp_dcmd", "<u4"),
        ("sta", "u1"),
        ("popts", "u1"),
        ("special", "<u2"),
    ]
)
"""TCP/IP data descriptor (SDM 3.3.7): DTALEN 19:0, DTYP 23:20, DCMD 31:24."""

DEXT = 0x20
DTYP_CONTEXT, DTYP_DATA = 0, 1

_RX_STATUS = ("DD", "EOP", "IXSM", "VP", "", "TCPCS", "IPCS", "PIF")
_RX_ERRORS = ("CE", "SE", "SEQ", "", "CXE", "TCPE", "IPE", "RXE")
_LEGACY_CMD = ("EOP", "IFCS", "IC", "RS", "RPS", "DEXT", "VLE", "IDE")
_DATA_CMD = ("EOP", "IFCS", "TSE", "RS", "RPS", "DEXT", "VLE", "IDE")
_CONTEXT_CMD = ("TCP", "IP", "TSE", "RS", "", "DEXT", "", "IDE")
_TX_STATUS = ("DD", "EC", "LC", "TU")
_POPTS = ("IXSM", "TXSM")


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
