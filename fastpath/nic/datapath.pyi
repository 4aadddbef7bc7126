from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, final

from fastpath.base.batch import FrameBatch
from fastpath.lifecycle import RunState
from fastpath.nic.irqblock import EventLine, IrqBlock
from fastpath.nic.macpath import RxPort, TxPort
from fastpath.nic.regfile import RegFile
from fastpath.nic.wire import FrameQueue

NOTICE_TX: int
"""The transmit engine met something rare: its RUN_* flags say what."""
NOTICE_RX: int
"""The receive engine met an address that no memory answers."""
NOTICE_CONTROL: int
"""A MAC control frame waits: call `DataPath.receive_control`."""
NOTICE_LINK: int
"""Reading the TAP failed; it is not read again before `DataPath.read_again`."""
NOTICE_FIFO: int
"""The receive FIFO's level has changed while flow control watches it."""

def short_slice() -> None: ...

class _Tape(Protocol):
    """Records the steps of a `DataPath`.  Every method is called with the path held."""

    def send(self, batch: FrameBatch, room: int) -> int:
        """Do `run_tx`."""
    def store(self, batch: FrameBatch, start: int) -> tuple[int, int]:
        """Do `run_rx`."""
    def tick(self) -> None:
        """Do `run_tick`."""
    def read(self, regs: RegFile, off: int) -> int | None:
        """Do `run_read`."""
    def write(self, regs: RegFile, off: int, value: int) -> bool:
        """Do `run_write`."""
    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Do `run_receive`."""
    def call(self, name: str, fn: Callable[[], Any]) -> Any:
        """Do `fn()`, and record it under this name."""

class _Faults(Protocol):
    """Decides how steps of the rings fail.  Called with the path held, and the GIL."""

    def send(self, batch: FrameBatch, room: int, now: int) -> int:
        """Do `step_sending`, or set `tx_due` and return 0."""
    def store(self, batch: FrameBatch, start: int, now: int) -> tuple[int, int]:
        """Do `step_storing`."""

class DataPath:
    tx: TxPort
    rx: RxPort
    irq: IrqBlock
    queue: FrameQueue
    turns: int
    sleeps: int
    wakes: int
    tx_batches: int
    rx_batches: int
    tx_due: int
    """The ring does not send before then, because of a fault; 0: at any time."""
    def __init__(self, tx: TxPort, rx: RxPort, irq: IrqBlock, queue: FrameQueue) -> None: ...
    def fileno(self) -> int: ...
    def attach(self, line: EventLine, tape: _Tape | None = None) -> None: ...
    def inject(self, faults: _Faults | None) -> None: ...
    # The steps that a tape records and a replay repeats, with the path held, at the time `now`.
    def run_tx(self, batch: FrameBatch, room: int, now: int) -> int: ...
    def run_rx(self, batch: FrameBatch, start: int, now: int) -> tuple[int, int]: ...
    def run_receive(self, batch: FrameBatch, start: int, hold: bool) -> int: ...
    # The same without faults, for the faults themselves to call.
    def step_sending(self, batch: FrameBatch, room: int, now: int) -> int: ...
    def step_storing(self, batch: FrameBatch, start: int, now: int) -> tuple[int, int]: ...
    def must_filter(self, batch: FrameBatch) -> bool: ...
    def run_tick(self, now: int) -> None: ...
    def run_read(self, regs: RegFile, off: int, now: int) -> int | None: ...
    def run_write(self, regs: RegFile, off: int, value: int, now: int) -> bool: ...
    @property
    def run_state(self) -> RunState: ...
    def pause(self) -> tuple[FrameBatch, int] | None: ...
    def resume(self) -> None: ...
    def halt(self) -> None: ...
    def __enter__(self) -> DataPath: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def run(self) -> None: ...
    def step(self) -> bool: ...
    def close(self) -> None: ...
    def take_notices(self) -> tuple[int, int, int, int]: ...
    def receive_control(self) -> None: ...
    def read_again(self) -> None: ...
    def counters(self) -> dict[str, int]: ...

MESSAGE_READ: int
MESSAGE_WRITE: int
MESSAGE_UNMASK: int
"""What a form of a `MessageTable` asks for."""

@final
class MessageTable:
    def __init__(
        self, *, header_bytes: int, size_at: int, quiet_at: int, quiet_bits: int
    ) -> None: ...
    def add(
        self,
        kind: int,
        *,
        match: bytes,
        mask: bytes,
        echo: bytes,
        answer: bytes,
        offset_at: int = 0,
        value_at: int = 0,
    ) -> None: ...
    def read(self, message: bytes, value: int = 0) -> tuple[int, int, int, bytes] | None: ...

POLLING: dict[str, tuple[int, str]]
"""Parameter of `Polling` -> its value and the reason for it."""

class Polling:
    spin_ns: int
    one_way_spin_ns: int
    crowd_ns: int
    crowded_ns: int
    small_send: int
    """The parameters: `POLLING` says what each is."""
    def __init__(self, **chosen: int) -> None:
        """Take what is given, else the values of `POLLING`.  Raises: ArgumentError."""

class BusPump:
    polling: Polling
    sends: int
    solo: bool
    """While in `recv`, work the rings and the wire in this thread; that of `run` waits."""
    messages: int
    """Messages served here."""
    reads: int
    writes: int
    posted: int
    receives: int
    """System calls that brought something."""
    sleeps: int
    def __init__(
        self,
        fd: int,
        regs: RegFile,
        path: DataPath,
        table: MessageTable,
        polling: Polling | None = None,
    ) -> None:
        """Serve the socket `fd` (borrowed), and there the messages that `table` knows."""
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def take_unsent(self) -> bytes: ...
    def recv(self, serve: bool = True) -> tuple[bytes, list[int], bool, int]: ...
