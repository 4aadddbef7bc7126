from collections.abc import Callable
from typing import Any

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import DmaTable
from fastpath.nic.cable import LinkStats

MAX_FRAME_BYTES: int
"""The longest frame that the shared object hands to `push`."""
QUEUE_FRAMES: int
"""Frames that wait for `poll`, at most; then the transmitter waits."""

class CallbackLine:
    level: bool
    def connect(self, fn: int, opaque: int) -> None: ...
    def set_level(self, level: bool) -> None: ...

class CallbackLink:
    """A `Link` whose far end is a C program.

    Frames cross as arrays of ``struct { const void *data; size_t len; }``, given by address.
    """

    carrier: bool
    speed_mbps: int
    stats: LinkStats
    port: Any
    def attach(self, port: Any) -> None: ...
    def detach(self) -> None: ...
    def tx_room(self) -> int: ...
    def transmit(self, batch: FrameBatch) -> None: ...
    def rx_ready(self) -> None: ...
    def connect_tx(self, fn: int, opaque: int) -> None:
        """Give frames to ``void (*)(void *opaque, const frame *, size_t n)`` as they are sent.

        Those that wait are given at once; 0 keeps frames for `poll`.
        """
    def connect_ready(self, fn: int, opaque: int) -> None:
        """Call ``void (*)(void *opaque)`` when the NIC takes frames after `push` took less."""
    def set_carrier(self, up: bool, speed_mbps: int) -> None: ...
    def poll(self, frames: int, room: int) -> int:
        """Fill an array of `room` frames with what was sent; it stays valid until the next
        `poll`."""
    def push(self, frames: int, n: int) -> int:
        """Hand `n` frames to the NIC; return how many it took. Borrows them until return."""

def connect_dma(table: DmaTable, read: int, write: int, opaque: int) -> None:
    """Serve addresses outside every region by two C functions (0: master abort).

    ``int (*read)(void *opaque, uint64_t addr, void *to, size_t n)``, and `write` with ``const void
    *from``; they return 0, or another value for a master abort. They are called with or without
    the GIL. Raises BufferError while an engine runs.
    """

class CNic:
    """One NIC as the entries see it, borrowed by address (`id`).

    `slot` has the BARs and configuration space, `clock` the methods `now_ns`, `advance` and
    `next_event_ns`; `on_error(exception)` keeps the text and returns the code.
    """
    def __init__(
        self,
        slot: Any,
        link: CallbackLink,
        clock: Any,
        on_error: Callable[[BaseException], int],
    ) -> None: ...

def entries() -> list[int]: ...
