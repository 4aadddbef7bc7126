"""Register accesses of a driver in Python, beside the register file's plain-Python twin."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from e1000emu.registers.regs import reg
from fastpath._ref import regfile as ref_regfile
from fastpath.nic import regfile

from . import Row, Work, row
from .device import Nics
from .skbuff import TWIN, repeated

REPEAT = 500
SIZES = ("4B",)


def _read(name: str, size: str) -> Iterator[Work]:
    nic, offset = Nics(60, burst=1).nics[0], reg(name).offset
    yield Work(repeated(lambda: nic.mmio_read(offset), REPEAT), REPEAT)


def _write(name: str, value: int, size: str) -> Iterator[Work]:
    nic, offset = Nics(60, burst=1).nics[0], reg(name).offset
    yield Work(repeated(lambda: nic.mmio_write(offset, value), REPEAT), REPEAT)


def _twin(module: Any, write: bool, size: str) -> Iterator[Work]:
    file = module.RegFile(1024)
    file.define(8, rw=0xFFFF)
    access = (lambda: file.write32(32, 5)) if write else (lambda: file.read32(32))
    yield Work(repeated(access, REPEAT), REPEAT)


def _row(name: str, group: str, start: Any, peer: str | None = None) -> Row:
    return row(name, group=group, unit="ns", sizes=SIZES, peer=peer)(start)


ROWS = (
    _row("mmio__read__stored", "mmio_read", partial(_read, "STATUS")),
    _row("mmio__read__icr", "mmio_read", partial(_read, "ICR")),
    _row("mmio__read__regfile", "mmio_read", partial(_twin, regfile, False)),
    _row("mmio__twin__read", "mmio_read", partial(_twin, ref_regfile, False), TWIN),
    _row("mmio__write__stored", "mmio_write", partial(_write, "RDTR", 5)),
    _row("mmio__write__ims", "mmio_write", partial(_write, "IMS", 0)),
    _row("mmio__write__regfile", "mmio_write", partial(_twin, regfile, True)),
    _row("mmio__twin__write", "mmio_write", partial(_twin, ref_regfile, True), TWIN),
)
