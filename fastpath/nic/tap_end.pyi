from typing import Any

from fastpath.base.batch import FrameBatch
from fastpath.nic.cable import LinkStats
from fastpath.nic.tap_gso import TapQueue

class TapEnd:
    clock: Any
    port: Any
    stats: LinkStats
    queue: TapQueue
    _carrier: bool
    _batch: FrameBatch | None
    _at: int
    _held: bool
    _reading: bool
    _batch_frames: int
    _queue_frames: int
    _unsent: list[list[Any]]
    _unsent_frames: int
    def tx_room(self) -> int: ...
    def transmit(self, batch: FrameBatch) -> None: ...
    def _readable(self) -> None: ...
