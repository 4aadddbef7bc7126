"""Register arrays and statistics in plain Python: the twin of ``fastpath.nic.regfile``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

_WIDE = ("GORC", "GOTC", "TOR", "TOT")
NAMES = """
    CRCERRS ALGNERRC SYMERRS RXERRC MPC SCC ECOL MCC LATECOL COLC DC TNCRS SEC CEXTERR RLEC
    XONRXC XONTXC XOFFRXC XOFFTXC FCRUC PRC64 PRC127 PRC255 PRC511 PRC1023 PRC1522 GPRC BPRC
    MPRC GPTC GORC GOTC RNBC RUC RFC ROC RJC MGTPRC MGTPDC MGTPTC TOR TOT TPR TPT PTC64
    PTC127 PTC255 PTC511 PTC1023 PTC1522 MPTC BPTC TSCTC TSCTFC
"""
_BASE = NAMES.split()
STAT_REGISTERS = tuple(
    register
    for name in _BASE
    for register in ((name + "L", name + "H") if name in _WIDE else (name,))
)
_TOP64 = (1 << 64) - 1


class Stats:
    """Counters: 64-bit inside, read as 32 bits that stick at FFFFFFFF (SDM 13.7)."""

    def __init__(self) -> None:
        self._v = dict.fromkeys(_BASE, 0)

    def __getitem__(self, name: str) -> int:
        return self._v[name]

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` events; sticks at the top."""
        self._v[name] = min(self._v[name] + n, _TOP64)

    def peek_register(self, name: str) -> int:
        """The value of a read, without effects."""
        if name in self._v:
            return min(self._v[name], 0xFFFFFFFF)
        value = self._v[name[:-1]]
        return value >> 32 if name[-1] == "H" else value & 0xFFFFFFFF

    def read_register(self, name: str) -> int:
        """Read with the side effect: clears; a low half does not, a high half clears both."""
        value = self.peek_register(name)
        if name in self._v:
            self._v[name] = 0
        elif name[-1] == "H":
            self._v[name[:-1]] = 0
        return value

    def as_dict(self) -> dict[str, int]:
        """Every counter."""
        return dict(self._v)

    def state(self) -> bytes:
        """All counters as bytes."""
        return b"".join(v.to_bytes(8, "little") for v in self._v.values())


@dataclass(slots=True)
class _Reg:
    reset: int
    value: int
    rmask: int
    rw: int
    w1c: int
    w1s: int
    rc: int
    act: int
    reset_level: int
    on_read: Any
    on_write: Any


class RegFile:
    """Dword registers with masks and hooks."""

    def __init__(self, n_dwords: int, layout: RegFile | None = None) -> None:
        self._regs: list[_Reg | tuple[Stats, str] | None] = [None] * n_dwords
        self._target = list(range(n_dwords))
        self._idle = [0] * n_dwords  # raw value of registers without a definition
        self.on_unknown: Callable[[int, bool, int], object] | None = None
        self.on_watched: Callable[[int, int, int], object] | None = None
        self._watched: dict[int, tuple[int, int, bool]] = {}
        self.unknown_reads = 0
        self.unknown_writes = 0
        self._lent = False
        if layout is not None:
            if len(layout) != n_dwords:
                raise ValueError("RegFile: layout")
            layout._lent = True
            self._regs = [replace(r) if isinstance(r, _Reg) else r for r in layout._regs]
            self._target = list(layout._target)
            self._watched = dict(layout._watched)
            self.reset(0xFF)

    def __len__(self) -> int:
        return len(self._regs)

    def bind(self, hooks: dict[str, Any], stats: Stats) -> None:
        """Replace names by hooks and counters."""
        for i, reg in enumerate(self._regs):
            if isinstance(reg, _Reg):
                reg.on_read = hooks.get(reg.on_read, reg.on_read)
                reg.on_write = hooks.get(reg.on_write, reg.on_write)
            elif reg is not None:
                self._regs[i] = (stats, reg[1])

    def _change(self) -> None:
        if self._lent:
            raise ValueError("RegFile: a layout")

    def define(
        self,
        index: int,
        reset: int = 0,
        *,
        rmask: int = 0xFFFFFFFF,
        rw: int = 0,
        w1c: int = 0,
        w1s: int = 0,
        rc: int = 0,
        act: int = 0,
        on_read: Callable[[int], int] | str | None = None,
        on_write: Callable[[int, int], object] | str | None = None,
        decoded: bool = False,
        reset_level: int = 0,
        count: int = 1,
    ) -> None:
        """Define `count` dwords from `index` on."""
        self._change()
        if not 0 <= index < len(self._regs):
            raise IndexError(index)
        for i in range(index, index + count):
            self._regs[i] = _Reg(
                reset, reset, rmask, rw, w1c, w1s, rc, act, reset_level, on_read, on_write
            )
            self._target[i] = i
            self._watched.pop(i, None)

    def watch(self, index: int, told: int = 0, absent: int = 0, *, every: bool = False) -> None:
        """Report writes of dword `index` to `on_watched`."""
        if self.on_watched is None:
            raise ValueError("RegFile.watch: on_watched")
        self._watched[index] = (told, absent, every)

    def _watch(self, index: int, value: int) -> None:
        told, absent, every = self._watched.get(index, (0, 0, False))
        old = self._value(index * 4)
        if self.on_watched and (every or value & told or value & absent & ~old):
            self.on_watched(index * 4, old, value)

    def define_stat(self, index: int, stats: Stats, name: str) -> None:
        """Serve dword `index` from a counter register."""
        self._regs[index] = (stats, name)
        self._target[index] = index
        self._watched.pop(index, None)

    def alias(self, index: int, target: int) -> None:
        """Serve dword `index` as dword `target`."""
        self._change()
        self._target[index] = self._target[target]

    def defined(self, index: int) -> bool:
        """Whether dword `index` is defined."""
        return self._regs[self._target[index]] is not None

    def _unknown(self, off: int, write: bool, value: int) -> int:
        if write:
            self.unknown_writes += 1
        else:
            self.unknown_reads += 1
        if self.on_unknown is not None:
            self.on_unknown(off, write, value)
        return 0

    def read32(self, off: int) -> int:
        """Read with side effects."""
        reg = self._regs[self._target[off >> 2]] if off >> 2 < len(self._regs) else None
        if reg is None:
            return self._unknown(off, False, 0)
        if isinstance(reg, tuple):
            return reg[0].read_register(reg[1])
        value = reg.value
        if reg.on_read is not None:
            value = reg.on_read(value)
        else:
            reg.value &= ~reg.rc
        return value & reg.rmask

    def write32(self, off: int, value: int) -> None:
        """Write with side effects."""
        reg = self._regs[self._target[off >> 2]] if off >> 2 < len(self._regs) else None
        if off >> 2 < len(self._regs):
            self._watch(self._target[off >> 2], value)
        if reg is None:
            self._unknown(off, True, value)
            return
        if isinstance(reg, tuple):
            return
        old = reg.value
        new = (old & ~reg.rw) | (value & reg.rw)
        new &= ~(value & reg.w1c)
        new |= value & reg.w1s
        reg.value = new
        if reg.on_write is not None:
            reg.on_write(old, (new & ~reg.w1c) | (value & (reg.w1c | reg.act)))

    def write_part(self, off: int, value: int, mask: int) -> None:
        """Write the bytes that `mask` covers."""
        value &= mask
        reg = self._regs[self._target[off >> 2]] if off >> 2 < len(self._regs) else None
        if isinstance(reg, _Reg):
            stored = reg.value
            if reg.on_read is not None and reg.rw & ~mask and not reg.rc:
                stored = reg.on_read(stored)
            value |= stored & reg.rw & ~mask
        self.write32(off, value)

    def _value(self, off: int) -> int:
        index = self._target[off >> 2]
        reg = self._regs[index]
        return reg.value if isinstance(reg, _Reg) else self._idle[index]

    def peek(self, off: int) -> int:
        """Stored value, raw."""
        return self._value(off)

    def poke(self, off: int, value: int) -> None:
        """Store raw."""
        index = self._target[off >> 2]
        reg = self._regs[index]
        if isinstance(reg, _Reg):
            reg.value = value
        else:
            self._idle[index] = value

    def set_bits(self, off: int, mask: int) -> int:
        """Raw OR."""
        self.poke(off, self._value(off) | mask)
        return self._value(off)

    def clear_bits(self, off: int, mask: int) -> int:
        """Raw AND NOT."""
        self.poke(off, self._value(off) & ~mask)
        return self._value(off)

    def reset(self, level: int = 0) -> None:
        """Restore reset values up to `level`."""
        for reg in self._regs:
            if isinstance(reg, _Reg) and reg.reset_level <= level:
                reg.value = reg.reset

    def state(self) -> bytes:
        """Values as bytes."""
        values = [
            reg.value if isinstance(reg, _Reg) else idle
            for reg, idle in zip(self._regs, self._idle, strict=True)
        ]
        return b"".join(value.to_bytes(4, "little") for value in values)
