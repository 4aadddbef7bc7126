from collections.abc import Iterable
from typing import final

from fastpath.base.batch import FrameBatch
from fastpath.base.dma import HostMemory
from fastpath.nic.rxring import RxEngine
from fastpath.nic.txring import TxEngine

class Ring:
    def __init__(self, mem: HostMemory, count: int = 256, buf_bytes: int = 2048) -> None: ...
    @property
    def dma(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def tail(self) -> int: ...

@final
class TxGen(Ring):
    cmd: int
    offload: bool
    posted: int
    done: int
    def load(self, frames: Iterable[bytes]) -> None: ...
    def set_context(
        self,
        tx: TxEngine,
        ipcss: int = 14,
        ipcso: int = 24,
        ipcse: int = 33,
        tucss: int = 34,
        tucso: int = 40,
        tucse: int = 0,
        tucmd: int = 2,
    ) -> None: ...
    def post(self, want: int) -> int: ...
    def reap(self) -> int: ...

@final
class RxSink(Ring):
    frames: int
    descriptors: int
    octets: int
    csum_ok: int
    errors: int
    def reap(self, budget: int = ...) -> int: ...
    def frame(self, back: int = 1) -> bytes: ...

def attach(
    gen: TxGen | None, tx: TxEngine | None, sink: RxSink | None, rx: RxEngine | None
) -> None: ...
def pump(
    gen: TxGen, tx: TxEngine, batch: FrameBatch, rx: RxEngine, sink: RxSink, rounds: int, burst: int
) -> int: ...
