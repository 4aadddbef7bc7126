from typing import Any

from fastpath.batch import FrameBatch
from fastpath.cable import FrameSink
from fastpath.irqblock import IrqBlock, WriteBack
from fastpath.regfile import RegFile, RegHook
from fastpath.rxring import RxEngine
from fastpath.txring import TxEngine

BATCH_FRAMES: int
"""Frames of one engine run, at most."""
CREDIT_DOORBELL: int
CREDIT_MAX: int
ROUNDS: int
"""Engine runs of one `pump`, at most; then the clock's other events come first."""
WATCH_MAGIC: int
"""A batch with a magic packet for the controller is shown to `_asleep`."""
WATCH_WAKE: int
"""In `RxPort.watching`: every batch is shown to the subclass's `_asleep`, which says whether it
ends there."""
WATCH_MANAGEMENT: int
"""Every batch goes to the subclass's `_managed(batch, start, hold)`, which gives what is not for
the controller to `_others`."""

class MacState:
    """What the compiled parts of one Nic share."""

    in_engine: bool
    reset_pending: bool
    memory_on: bool
    halted: bool
    """What comes over the link is lost."""
    bottom_half: bool
    """Rings run after the event that asks for it (`_later`); a bus access never waits for one."""
    still: bool
    """The device is paused or halted: no engine runs, no frame comes in or goes out."""

class Second:
    """A second thread that stores the frames of an engine run while the run continues."""

class BarWindow:
    """Aligned 32-bit accesses to BAR 0; others go to the subclass's `_slow_read`, `_slow_write`."""

    def _bind(self, regs: RegFile, mac: MacState) -> None: ...
    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read from a BAR; all ones when it does not decode."""
    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write to a BAR; vanishes when it does not decode."""

class TxPort(RegHook):
    """The transmit side: doorbell, engine runs, hand-over to the link.

    The subclass has `_rare(flags)`, `_explain()`, `_later()` and `_rest()`, which sets `resting`
    and, some time later, clears it, gives credit and pumps.
    """

    engine: TxEngine
    open: bool
    """The MAC may send: link up, or loopback."""
    put_off: bool
    """Somebody asked to send while the device was paused."""
    @property
    def busy(self) -> bool:
        """Whether frames of the ring are on their way from the engine to the link, or with the
        worker."""
    def go_on(self) -> None:
        """The device runs again: do what was asked for meanwhile."""
    loop: Any
    """Where frames go instead of the link (MAC or PHY loopback)."""
    credit: int
    """Frames that may be sent before time has to pass; a doorbell gives some."""
    resting: bool
    """The credit is used up: nothing is sent until time has passed."""
    doorbells: int
    batches: int
    _nic: Any
    _link: Any
    _pumping: bool
    _again: bool
    _paused_until_ns: int
    def _bind(self, nic: Any, engine: TxEngine, mac: MacState, irq: IrqBlock) -> None: ...
    def _use(self, link: Any) -> None:
        """Send to `link` from now on."""
    second: Second | None
    def _share(self, second: Second | None) -> None:
        """Let `second` store frames that are sent into a cable without delay; None: no thread."""
    def _run(self, batch: FrameBatch, room: int, end: int) -> int:
        """Run the engine once, up to descriptor `end`; `settle` is to follow with the flags and the
        frames."""
    fetch: Any
    """Who says by `go()` when the engine has a descriptor's bytes; None: it has them at once."""
    def run_one(self, batch: FrameBatch) -> int:
        """Run the engine for one descriptor and one frame at most; `settle` is to follow with the
        flags and the frames."""
    def settle(self, flags: int, frames: int) -> None:
        """Raise the causes of `flags`: what the run wrote is in memory."""
    def pump(self) -> None:
        """Send what the ring holds, as far as the link takes it.

        Never nests: a doorbell from inside only asks for another round.
        """

class RxPort(RegHook):
    """The receive side: frames of a link to the engine, causes to the interrupt.

    The subclass has `_with_control(batch, start, first, hold)`, `_unusual(causes)`, `_odd_tail()`,
    `_release()`, `_later()`.
    """

    engine: RxEngine
    open: bool
    """Frames from the link reach the MAC: link up and no loopback."""
    put_off: bool
    """Somebody asked to go on while the device was paused."""
    def go_on(self) -> None:
        """The device runs again: do what was asked for meanwhile."""
    xoff_sent: bool
    """The far end was told to stop and not yet to go on."""
    doorbells: int
    batches: int
    _nic: Any
    _link: Any
    _held: bool
    watching: int
    """WATCH_*: whom Python shows the frames before the engine has them."""
    def _bind(self, nic: Any, engine: RxEngine, mac: MacState, irq: IrqBlock) -> None: ...
    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take frames from the link (LinkPort.receive).  Borrows `batch` until return."""
    stage: Any
    """What fetches descriptors before a run, when memory is reached by messages (`ports.Stage`)."""
    def _run(self, batch: FrameBatch, hold: bool) -> int:
        """Run the engine on all of `batch`; return how many frames it took.  Call `_after` next."""
    def _others(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take frames that no filter in Python keeps; return the index after the last one taken."""
    def _after(self) -> None:
        """Report the causes that engine runs have collected."""
    def settle(self, causes: int) -> None:
        """Raise `causes`: what the run wrote is in memory."""
    def kick(self) -> None:
        """Drain the FIFO and let a holding link continue: descriptors are free, or the receiver is
        on."""

class HeldBack(WriteBack):
    """The descriptors of both rings that WTHRESH holds (SDM 13.4.43, 13.4.46)."""

    def __init__(self, tx: TxPort, rx: RxPort) -> None: ...

class RxSink(FrameSink):
    """The receive side as a cable uses it: frames into memory at once, the causes by an event."""

    def __init__(self, rx: RxPort) -> None: ...
