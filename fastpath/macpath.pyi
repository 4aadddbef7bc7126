from typing import Any

from fastpath.batch import FrameBatch
from fastpath.cable import FrameSink
from fastpath.regfile import RegFile, RegHook
from fastpath.rxring import RxEngine
from fastpath.txring import TxEngine

REG_ICR: int
REG_ICS: int
REG_IMS: int
REG_IMC: int
REG_TDT: int
REG_RDT: int
BATCH_FRAMES: int
"""Frames of one engine run, at most."""
CREDIT_DOORBELL: int
CREDIT_MAX: int
ROUNDS: int
"""Engine runs of one `pump`, at most; then the clock's other events come first."""

class MacState:
    """What the compiled parts of one Nic share."""

    in_engine: bool
    reset_pending: bool
    memory_on: bool

class Beside:
    """A thread that works the rings beside the one that serves registers."""

class Second:
    """A second thread that stores what one engine run has cut while the run goes on."""

class EventLine:
    """An interrupt line (`ports.InterruptLine`) that writes an eventfd at each rise.

    With `automask` it masks itself then: the holder of the eventfd says `let` when it wants the
    next, and gets it at once when the level is still high. Without, each rise is a message (MSI).
    """

    fd: int
    """The eventfd, -1 without."""
    level: bool
    masked: bool
    automask: bool
    fired: int
    unmasks: int
    def set_level(self, level: bool) -> None:
        """Take the NIC's level."""
    def attach(self, fd: int) -> None:
        """Write this eventfd from now on (-1: none), unmasked.  Borrows `fd`."""
    def trigger(self) -> None:
        """Write the eventfd whatever the level: its holder tests its own path."""
    def let(self) -> None:
        """Unmask."""

class BarWindow:
    """Aligned 32-bit accesses to BAR 0; others go to the subclass's `_slow_read`, `_slow_write`."""

    def _bind(self, regs: RegFile, mac: MacState) -> None: ...
    def bar_read(self, bar: int, off: int, size: int) -> int:
        """Read from a BAR; all ones when it does not decode."""
    def bar_write(self, bar: int, off: int, value: int, size: int) -> None:
        """Write to a BAR; vanishes when it does not decode."""

class IrqCause(RegHook):
    """ICR, IMS and the level of the interrupt line (SDM 13.4.17-13.4.21).

    The subclass has `_throttle(due_ns)`, `_delay_rx()` and `_stop_tx_delay()`.
    """

    asserted: bool
    """What the device asks for, before the PCI interrupt-disable bit."""
    assertions: int
    """Rising edges of the line since the Nic was made."""
    disabled: bool
    """PCI command bit 10, or the function is not in D0: the line stays low."""
    masks: int
    """IMS."""
    tx_delayed: bool
    beside: bool
    """Other threads raise causes and read ICR too; moderation is the compiled part's alone."""
    floor_max_ns: int
    """The longest that frames wait for an interrupt beyond what ITR asks."""
    floor_ns: int
    """How long they wait now."""
    _line: Any
    _clock: Any
    _timer: Any
    _interval_ns: int
    _last_ns: int
    _rdtr: int
    _radv: int
    _tidv: int
    _tadv: int
    @property
    def causes(self) -> int:
        """ICR, without the side effect of reading it."""
    def _bind(self, regs: RegFile, icr: int, ims: int) -> None: ...
    def cause(self, bits: int) -> None:
        """Set causes (ICR bits) and let the line follow."""
    def received(self, bits: int) -> None:
        """Frames were stored: raise `bits`, RXT0 among them after its delay (SDM 3.2.7.1)."""
    def transmitted(self, bits: int) -> None:
        """Raise transmit causes at once; TXDW makes a running delay pointless."""
    def _update(self) -> None:
        """Let the line be what ICR, IMS, ITR and the PCI function say; nothing else does."""
    def _drive(self) -> None:
        """Let the line be what `asserted` and `disabled` say."""
    def _go_beside(self, line: EventLine, timer: Beside) -> None:
        """From now on other threads raise causes and read ICR: drive `line`, tell `timer`."""
    def _deadlines(self) -> tuple[int, int, int, int]:
        """(receive, absolute receive, transmit, absolute transmit) in ns; 0 = idle."""
    def _set_deadlines(self, rx: int, rx_abs: int, tx: int, tx_abs: int) -> None:
        """Take back what `_deadlines` returned, or stop everything with zeros."""
    def _received_at(self, bits: int, frames: int, now: int, ring: int = 65536) -> None: ...
    def _sent_at(self, bits: int, delayed: bool, frames: int, now: int, ring: int = 0) -> None: ...
    def _read_icr_at(self, now: int) -> int: ...
    def _masks_at(self, ims: int, imc: int, now: int) -> None: ...
    def _room_at(self, burst: int, now: int) -> int: ...
    def _tick_at(self, now: int) -> None: ...
    def _next_due(self) -> int: ...
    def _flush(self, bits: int) -> None:
        """FPD: expire the receive (RXT0) or transmit (TXDW) delay now, when it runs."""

class TxPort(RegHook):
    """The transmit side: doorbell, engine runs, hand-over to the link.

    The subclass has `_rare(flags)`, `_explain()`, `_later()` and `_rest()`, which sets `resting`
    and, some time later, clears it, gives credit and pumps.
    """

    engine: TxEngine
    open: bool
    """The MAC may send: link up, or loopback."""
    deferred: bool
    """A doorbell only asks the clock for `_later`; the bus access never waits for the engine."""
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
    def _bind(self, nic: Any, engine: TxEngine, mac: MacState, irq: IrqCause) -> None: ...
    def _use(self, link: Any) -> None:
        """Send to `link` from now on."""
    second: Second | None
    def _share(self, second: Second | None) -> None:
        """Let `second` store what is sent into a cable without delay; None: nobody."""
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
    deferred: bool
    """RDT only asks the clock for `_later`."""
    xoff_sent: bool
    """The far end was told to stop and not yet to go on."""
    doorbells: int
    batches: int
    _nic: Any
    _link: Any
    _held: bool
    _watch_fifo: bool
    _watch_control: bool
    _watch_wake: bool
    """Every batch is shown to the subclass's `_asleep`, which says whether it ends there."""
    _control_type: int
    def _bind(self, nic: Any, engine: RxEngine, mac: MacState, irq: IrqCause) -> None: ...
    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Take frames from the link (LinkPort.receive).  Borrows `batch` until return."""
    def _after(self, causes: int) -> None:
        """Act on what an engine run left in its causes."""
    def kick(self) -> None:
        """Descriptors are free, or the receiver is on: drain the FIFO, let a holding link go on."""

class RxSink(FrameSink):
    """The receive side as a cable uses it: frames into memory at once, the causes by an event."""

    off: bool
    """Take nothing: something else stands before the engine."""
    def __init__(self, rx: RxPort) -> None: ...
