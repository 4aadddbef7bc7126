from typing import Any

from fastpath.nic.moderation import Moderation
from fastpath.nic.regfile import RegFile, RegHook

NEVER_NS: int
"""The last assertion, when there was none."""
REGISTERS: dict[str, int]
"""Byte offsets of the registers that the block reads, by name."""

class Worker: ...

class WriteBack:
    """Descriptors that wait for a delay to end (WTHRESH)."""

class EventLine:
    fd: int
    """The eventfd, -1 without."""
    level: bool
    masked: bool
    automask: bool
    fired: int
    unmasks: int
    edges: int
    """How often the level has changed."""
    def set_level(self, level: bool) -> None: ...
    def attach(self, fd: int) -> None: ...
    def trigger(self) -> None: ...
    def let(self) -> None: ...

class LineFaults:
    def __init__(
        self,
        seed_lost: int = 0,
        seed_late: int = 0,
        lost: float = 0.0,
        late: float = 0.0,
        late_ns: int = 1,
    ) -> None:
        """Probabilities, the seeds of their streams, and how late a rise is at most."""

class IrqBlock(RegHook):
    """Causes, masks, delays, throttling and the level of the interrupt line, fed with the time.

    SDM 3.2.7, 3.4.3, 13.4.17-13.4.21. It serves ICR, ICS, IMS, IMC, ITR and the flush bits of RDTR
    and TIDV, and its registers are its state. On a clock or for several threads (`_go_threaded`)
    it is the same machine; all times are in ns.
    """

    asserted: bool
    """What the device asks for, before the PCI interrupt-disable bit."""
    assertions: int
    """Rising edges of the line since the Nic was made."""
    reads: int
    """Reads of ICR that gave causes, since the Nic was made."""
    last_read: int
    """What the latest of them gave."""
    last_read_ns: int
    out: bool
    """The level of the line."""
    disabled: bool
    """PCI command bit 10, or the function is not in D0: the line stays low."""
    threaded: bool
    """Several threads call; the line is an eventfd."""
    policy: Moderation
    """How causes are held back beyond ITR."""
    _line: Any
    _clock: Any
    @property
    def causes(self) -> int: ...
    @property
    def masks(self) -> int: ...
    def _bind(self, regs: RegFile, clock: Any, line: Any) -> None: ...
    def hold_descriptors(self, owed: WriteBack) -> None: ...
    def _go_threaded(self, line: EventLine, worker: Worker) -> None: ...
    def _fail(self, faults: LineFaults) -> None: ...
    def _failed(self) -> tuple[list[tuple[int, str]], int, int]:
        """Return (failed, lost, late) of rises since the last call.

        `failed` lists time in ns and "irq_lost" or "irq_late" of the latest 1024; the others count.
        """
    def _set_policy(self, policy: Moderation) -> None: ...
    def cause(self, bits: int) -> None: ...
    def _set_disabled(self, disabled: bool) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def _stop(self) -> None: ...
    flushed: int
    """RXT0, TXDW: a flush that waits for `thaw`."""
    def _again(self) -> None: ...
    def _flush(self, bits: int) -> None: ...
    def _times(self) -> tuple[int, int, int, int, int]: ...
    def _go_on(
        self, asserted: bool, last_ns: int, rx: int, rx_abs: int, tx: int, tx_abs: int
    ) -> None: ...
    def _received_at(self, bits: int, frames: int, now: int, ring: int = 65536) -> None: ...
    def _sent_at(self, bits: int, delayed: bool, frames: int, now: int, ring: int = 0) -> None: ...
    def _read_at(self, off: int, now: int) -> int: ...
    def _write_at(self, off: int, value: int, now: int) -> None: ...
    def _tick_at(self, now: int) -> None: ...
    def _room_at(self, burst: int, now: int) -> int: ...
    def _gather_at(self, now: int) -> int: ...
    def _next_due(self) -> int: ...
