"""Converts snapshots of versions 1 and 2 to the current form.

Version 2 has the ring registers with the engines, by name; the heads in its register file are not
those that software reads. Version 1 has the engines as bytes of C structures, described by the
layouts here; its receive engines have the frames that wait as images or as frames.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

from e1000emu.regs import reg
from fastpath.batch import FB_BAD_CRC, FB_CARRIER_EXT, FB_SYMBOL_ERR
from fastpath.rxfilter import ACCEPT, PIF, VLAN

if TYPE_CHECKING:
    from e1000emu.snapshot import NicState

__all__ = ["upgrade"]

TDH, RDH = reg("TDH").offset, reg("RDH").offset
RCTL_SECRC = reg("RCTL").mask("SECRC")
STATUS_VP, STATUS_PIF = 0x08, 0x80
ERROR_FLAGS = ((0x01, FB_BAD_CRC), (0x02, FB_SYMBOL_ERR), (0x10, FB_CARRIER_EXT))
"""A descriptor's error bits and the flags of frames that they come from."""
IMAGES = 1
"""The version of the receive engine in which frames wait as images."""

CONTEXT = ("ipcss", "ipcso", "tucss", "tucso", "ipcse", "tucse", "paylen", "mss", "hdrlen", "tucmd")
CONTEXTS = ("normal", "tso", "frame")
RX_STRUCT = "=Q14I"
RX_FIELDS = (
    *("base", "len", "head", "tail", "rctl", "rxdctl", "rxcsum", "rsrpd", "vet", "vme"),
    *("fifo_bytes", "pad_runts", "ipv6_csum", "causes", "fifo_off"),
)
TX_STRUCT = "=Q9I" + 2 * "4B2HIH2B" + "6I" + "4B2HIH2B" + "8I256s"
TX_FIELDS = (
    *("base", "len", "head", "tail", "tctl", "txdctl", "vet", "vme", "rps", "max_frame"),
    *(f"{name}.{part}" for name in CONTEXTS[:2] for part in CONTEXT),
    *("phase", "have", "css", "popts", "dcmd", "special"),
    *(f"frame.{part}" for part in CONTEXT),
    *("desc_off", "hdr_have", "seg_pay", "seg_sum", "seg_index", "pay_sent", "pay_left", "tso_bad"),
    "hdr",
)
WAITING = struct.Struct("=IIi")
"""Before a frame that waits: bytes without FCS, flags, the filter's verdict."""
IMAGE = struct.Struct("=IHHBBH")
"""Before an image: bytes, packet checksum, special, status, errors, reserved."""


def upgrade(state: NicState) -> None:
    """Convert `state` to the current form.  Raises: ValueError and its like for damage."""
    try:
        tx = _named(state.tx["engine"], TX_STRUCT, TX_FIELDS)
        rx = _named(state.rx["engine"], RX_STRUCT, RX_FIELDS)
        regs = bytearray(state.regs)
        for offset, engine in ((TDH, tx), (RDH, rx)):
            regs[offset : offset + 4] = int(engine.get("head", 0)).to_bytes(4, "little")
        state.regs = bytes(regs)
        state.tx["engine"] = _transmit(tx)
        state.rx["engine"] = _receive(rx)
    except struct.error as error:
        raise ValueError(f"engine: {error}") from None


def _named(engine: Any, layout: str, names: tuple[str, ...]) -> dict[str, Any]:
    """Return an engine's fields by name: those of version 2, or made of version 1's bytes."""
    if isinstance(engine, dict):
        return engine
    size = struct.calcsize(layout)
    named: dict[str, Any] = dict(zip(names, struct.unpack_from(layout, engine, 4), strict=True))
    named["engine_version"] = int.from_bytes(engine[:4], "little")
    named["rest"] = engine[4 + size + -size % 8 :]  # the structure begins with 64 bits
    return named


def _transmit(old: dict[str, Any]) -> dict[str, Any]:
    contexts = [
        {part: old[f"{name}.{part}"] for part in CONTEXT if f"{name}.{part}" in old}
        for name in CONTEXTS
    ]
    new = {name: value for name, value in old.items() if "." not in name}
    if all(len(context) == len(CONTEXT) for context in contexts):
        new["ctx"], new["fctx"] = contexts[:2], contexts[2]
    new["partial"] = old.get("rest", b"")
    return new


def _receive(old: dict[str, Any]) -> dict[str, Any]:
    rest, new = old.get("rest", b""), dict(old)
    if old.get("engine_version") == IMAGES:
        new["waiting"] = list(_images(rest, old))
    elif rest:
        new["at"] = int.from_bytes(rest[:4], "little")
        new["waiting"] = list(_frames(rest[4:]))
    return new


def _frames(data: bytes) -> Any:
    """Yield (flags, verdict, bytes with FCS) of what waits."""
    at = 0
    while at < len(data):
        size, flags, verdict = WAITING.unpack_from(data, at)
        at += WAITING.size
        yield flags, verdict, data[at : at + size + 4]
        at += size + 4
    if at > len(data):
        raise ValueError("engine: damaged FIFO")


def _images(data: bytes, old: dict[str, Any]) -> Any:
    """Yield the same of images, which are as they go to host memory: tag out, FCS perhaps cut."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        length, _csum, special, status, errors, _ = IMAGE.unpack_from(data, at + 4)
        frame, fcs = data[at + 4 + IMAGE.size : at + 4 + size], b""
        at += 4 + size
        if length != len(frame) or not length:
            raise ValueError("engine: damaged FIFO")
        if not old["rctl"] & RCTL_SECRC:
            frame, fcs = frame[:-4], frame[-4:]
        if status & STATUS_VP:
            frame = frame[:12] + (old["vet"] << 16 | special).to_bytes(4, "big") + frame[12:]
        if len(fcs) < 4:
            fcs = zlib.crc32(frame).to_bytes(4, "little")
        flags = sum(flag for bit, flag in ERROR_FLAGS if errors & bit)
        verdict = ACCEPT | (PIF if status & STATUS_PIF else 0) | (VLAN if status & STATUS_VP else 0)
        yield flags, verdict, frame + fcs
