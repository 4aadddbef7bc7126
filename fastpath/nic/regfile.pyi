from collections.abc import Callable, Iterator
from typing import Any, final

REGISTERS: dict[str, int]
"""Byte offsets, by name, of registers that compiled blocks look into
(fastpath/nic/e1000_hw.pxd)."""
FIELDS: dict[str, int]
"""Bits of the fields that they look at: "RCTL.EN"."""
STAT_REGISTERS: tuple[str, ...]
"""The 58 statistics registers (SDM 13.7), halves of the 64-bit ones apart: GORCL, GORCH, …"""

@final
class Stats:
    def __init__(self) -> None: ...
    def __getitem__(self, name: str, /) -> int:
        """The whole counter by base name, not cleared: stats["GPRC"], stats["GORC"] (64-bit)."""
    def __setitem__(self, name: str, value: int, /) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def add(self, name: str, n: int = 1) -> None:
        """Count events of the control plane (XONRXC, XOFFTXC, COLC, LATECOL, …)."""
    def read_register(self, name: str) -> int:
        """What a 32-bit read of that register gives, with its side effect (clears; a high half
        clears both)."""
    def peek_register(self, name: str) -> int:
        """The same without the side effect."""
    def as_dict(self) -> dict[str, int]: ...
    def __buffer__(self, flags: int, /) -> memoryview:
        """The counters themselves, read-only, 8 bytes each in the order of the iteration."""
    def reset(self) -> None: ...
    def state(self) -> bytes: ...

class RegHook:
    """A compiled block that serves registers; its subclasses are in `fastpath.nic.irqblock` and
    `fastpath.nic.macpath`."""

class RegFile:
    """Dword registers with masks and late hooks; one without a hook never enters
    Python.

    Undefined registers read 0, ignore writes and are counted; `on_unknown(offset, is_write,
    value)` sees each. Offsets are bytes and rounded down to a dword; beyond the file they count
    as undefined.
    """

    on_unknown: Callable[[int, bool, int], object] | None
    on_watched: Callable[[int, int, int], object] | None
    """Takes offset, value and what is about to be written, of writes that `watch` names."""
    unknown_reads: int
    unknown_writes: int
    def __init__(self, n_dwords: int, layout: RegFile | None = None) -> None:
        """`layout`: a file whose definitions and watches this one has too, with the names of hooks
        until `bind`. The layout cannot be changed from now on.

        Raises: ValueError, its size is another.
        """
    def __len__(self) -> int: ...
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
        on_read: Callable[[int], int] | RegHook | str | None = None,
        on_write: Callable[[int, int], object] | RegHook | str | None = None,
        hot: bool = False,
        decoded: bool = False,
        reset_level: int = 0,
        count: int = 1,
    ) -> None:
        """Define `count` dwords from `index` on by what reads and writes do to each of their bits.

        Reading gives ``value & rmask`` and clears the bits of `rc`; where there is a read hook,
        ``on_read(value)`` does that and returns what the read gives (then masked). Writing stores
        the bits of `rw`, clears those of `w1c` and sets those of `w1s` that are written 1; other
        bits stay. The write hook runs after the store as ``on_write(old, new)``, with `new` as
        stored. The bits of `w1c` and of `act` (write-only and self-clearing ones, never stored) are
        as they were written. A hook may be a compiled block; with `hot` that serves the register
        without the GIL too (`fastpath.nic.datapath`). In a layout it is a name. `decoded`: somebody
        keeps the value in another form and makes it anew after a change (`fastpath.nic.rxfilter`).
        `reset_level`: `reset(level)` restores registers whose reset_level <= level. Raises:
        ValueError, a bit is in two of `rw`, `w1c`, `w1s`, `act`; the hooks are of two kinds; `hot`
        without a compiled one; not all of `count` are in the file.
        """
    def watch(self, index: int, told: int = 0, absent: int = 0, *, every: bool = False) -> None:
        """Call `on_watched` before a write to dword `index` takes effect. It is called if 1 is
        written to a bit of `told`, or to a bit of `absent` that is 0, or (`every`) in any case.

        Replaces what was watched of the dword; defining it again watches nothing. Raises
        ValueError while `on_watched` is None.
        """
    def define_stat(self, index: int, stats: Stats, name: str) -> None: ...
    def alias(self, index: int, target: int) -> None:
        """Serve dword `index` as dword `target` (some registers are mirrored at old offsets)."""
    def bind(self, hooks: dict[str, Any], stats: Stats) -> None:
        """Put hooks in the place of their names, and `stats` in that of the layout's counters.

        Raises: ValueError as `define`.
        """
    def defined(self, index: int) -> bool: ...
    def read32(self, off: int) -> int: ...
    def write32(self, off: int, value: int) -> None: ...
    def write_part(self, off: int, value: int, mask: int) -> None:
        """Write those bytes of the register that `mask` covers (a bus's byte enables).

        It is the write of 32 bits whose other bytes change nothing: they are what the register
        stores, and 0 where writing 1 clears, sets or acts.
        """
    def peek(self, off: int) -> int: ...
    def poke(self, off: int, value: int) -> None: ...
    def set_bits(self, off: int, mask: int) -> int: ...
    def clear_bits(self, off: int, mask: int) -> int: ...
    def reset(self, level: int = 0) -> None: ...
    def state(self) -> bytes: ...
    def load(self, data: bytes) -> None:
        """Restore values (raw, no hooks). ValueError when the size differs."""
