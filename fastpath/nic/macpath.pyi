from collections.abc import Callable
from typing import Any

from fastpath.base.batch import FrameBatch
from fastpath.nic.cable import FrameSink
from fastpath.nic.irqblock import IrqBlock, WriteBack
from fastpath.nic.regfile import RegFile, RegHook
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine

BATCH_FRAMES: int
"""Frames of one engine run, at most."""
CREDIT_DOORBELL: int
CREDIT_MAX: int
TX_DISABLED: int
"""In `TxPort.stopped_by`: TCTL.EN is 0."""
TX_NO_MASTER: int
"""PCI's bus mastering is off."""
TX_NO_RING: int
"""TDLEN is too short, or an index lies beyond the ring."""
TX_NO_LINK: int
"""There is no link, and no loopback."""
TX_XOFF: int
"""A PAUSE frame has come."""
TX_STILL: int
"""The device is paused or halted."""
TX_RESTING: int
"""The credit is used up."""
TX_NO_WIRE: int
"""Those of them that also stop frames which are not of the ring."""
ROUNDS: int
"""Engine runs of one `pump`, at most; then the clock's other events come first."""
WATCH_MAGIC: int
"""A batch with a magic packet for the controller is shown to `_asleep`."""
WATCH_WAKE: int
"""In `RxPort.watching`: every batch is shown to the subclass's `_asleep`, which says whether it
ends there."""
WATCH_MANAGEMENT: int
"""Every batch goes to the subclass's `_managed(batch, start, hold)`, which gives what is not for
the controller to `_pass_on`."""

class MacState:
    in_engine: bool
    reset_pending: bool
    memory_on: bool
    halted: bool
    """The device is unplugged: frames that come over the link are lost."""
    bottom_half: bool
    """Rings run after the event that asks for it (`_later`); a bus access never waits for one."""
    still: bool
    """The device is paused or halted: no engine runs, no frame comes in or goes out."""

class BarWindow:
    def _bind(self, regs: RegFile, mac: MacState) -> None: ...
    def bar_read(self, bar: int, off: int, size: int) -> int: ...
    def bar_write(self, bar: int, off: int, value: int, size: int) -> None: ...

class TxPort(RegHook):
    engine: TxEngine
    open: bool
    """The MAC may send: link up, or loopback."""
    paused: bool
    """A received PAUSE holds the transmitter."""
    @property
    def stopped_by(self) -> int: ...
    put_off: bool
    """Somebody asked to send while the device was paused."""
    @property
    def busy(self) -> bool: ...
    def go_on(self) -> None: ...
    loop: Any
    """Where frames go instead of the link (MAC or PHY loopback)."""
    credit: int
    """Frames that may be sent before time has to pass; a doorbell gives some."""
    resting: bool
    """The credit is used up: nothing is sent until time has passed."""
    doorbells: int
    batches: int
    finish_reset: Any
    """Called when a reset waits for the engine to return."""
    faults: Any
    """Those of the hardware, which a worker asks too; or None."""
    _link: Any
    _pumping: bool
    _again: bool
    def _bind(
        self, engine: TxEngine, mac: MacState, irq: IrqBlock, finish_reset: Callable[[], object]
    ) -> None: ...
    def _use(self, link: Any) -> None: ...
    fetch: Any
    """Its `go()` says when the engine has a descriptor's bytes; None: it has them at once."""
    def step(self, batch: FrameBatch, frames: int, *, end: int = -1, descs: int = 65536) -> int: ...
    def room(self) -> int: ...
    def deliver(self, batch: FrameBatch) -> None: ...
    def settle(self, flags: int, frames: int) -> None: ...
    def pump(self) -> None: ...

class RxPort(RegHook):
    engine: RxEngine
    open: bool
    """Frames from the link reach the MAC: link up and no loopback."""
    put_off: bool
    """Somebody asked to go on while the device was paused."""
    def go_on(self) -> None: ...
    xoff_sent: bool
    """The far end was told to stop and not yet to go on."""
    doorbells: int
    batches: int
    finish_reset: Any
    """Called when a reset waits for the engine to return."""
    fifo_changed: Any
    """Called when the FIFO has crossed a threshold."""
    entry: Any
    """Takes the frames that a worker leaves to Python, as `receive`."""
    _link: Any
    _held: bool
    watching: int
    """WATCH_*: whom Python shows the frames before the engine has them."""
    def _bind(
        self, engine: RxEngine, mac: MacState, irq: IrqBlock, finish_reset: Callable[[], object]
    ) -> None: ...
    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int: ...
    stage: Any
    """Fetches descriptors before a run, when memory is reached by messages (`ports.Stage`)."""
    @property
    def pause_due(self) -> bool: ...
    def _store(self, batch: FrameBatch, hold: bool) -> int: ...
    def _pass_on(self, batch: FrameBatch, start: int, hold: bool) -> int: ...
    def _report(self) -> None: ...
    def settle(self, causes: int) -> None: ...
    def kick(self) -> None: ...

class HeldBack(WriteBack):
    def __init__(self, tx: TxPort, rx: RxPort) -> None: ...

class RxSink(FrameSink):
    def __init__(self, rx: RxPort) -> None: ...
