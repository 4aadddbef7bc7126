# ruff: noqa: A002 - max is the kernel's word
import builtins
from collections.abc import Callable
from typing import Any, final

from fastpath.base.skbuff import SkbPool, sk_buff
from fastpath.net.gro import GroTable

TXD_CMD_EOP: int  # 0x01
TXD_CMD_IFCS: int  # 0x02
TXD_CMD_TSE: int  # 0x04
TXD_CMD_RS: int  # 0x08
TXD_CMD_DEXT: int  # 0x20
TXD_CMD_VLE: int  # 0x40
TXD_CMD_IDE: int  # 0x80
TXD_POPTS_IXSM: int  # 0x01
TXD_POPTS_TXSM: int  # 0x02
TUCMD_TCP: int  # 0x01
TUCMD_IP: int  # 0x02
TUCMD_TSE: int  # 0x04

def free_in_runs(
    destructor: Callable[[sk_buff], object] | None,
) -> Callable[[sk_buff], object] | None: ...

@final
class TxRing:
    def __init__(self, mem: Any, count: int) -> None: ...
    dma: int
    size_bytes: int
    count: int
    next_to_use: int  # the value for TDT
    next_to_clean: int
    def unused(self) -> int: ...
    def desc_needed(self, skb: sk_buff, max_per_desc: int = 4096) -> int: ...
    def put_context(
        self,
        ipcss: int,
        ipcso: int,
        ipcse: int,
        tucss: int,
        tucso: int,
        tucse: int,
        paylen: int,
        hdrlen: int,
        mss: int,
        cmd: int,
    ) -> bool: ...
    def map(
        self,
        skb: sk_buff,
        popts: int = 0,
        cmd: int = 0x0B,
        vlan: int = -1,
        max_per_desc: int = 4096,
    ) -> int: ...
    def clean(self, budget: int = 0, out: list[sk_buff] | None = None) -> tuple[int, int, int]: ...

    csum_start: int
    csum_offset: int
    """The device's checksum context, -1 when there is none; the driver sets them."""
    def pending(self) -> int: ...
    def reset(self) -> None: ...
    def desc(self, index: int) -> bytes: ...

@final
class RxRing:
    def __init__(
        self,
        mem: Any,
        count: int,
        pool: SkbPool,
        buf_bytes: int,
        small: SkbPool | None = None,
        copybreak: int = 0,
    ) -> None: ...
    dma: int
    size_bytes: int
    count: int
    buf_bytes: int
    headroom: int  # before each frame: pool.buf_bytes - buf_bytes, at most 128
    pool: SkbPool
    small: SkbPool | None
    copybreak: int
    small_headroom: int  # before a copied frame: small.buf_bytes - copybreak, at most 128
    next_to_use: int
    next_to_clean: int
    frames: int  # delivered (good) frames, every one of a merged sk_buff counted
    bytes: int
    # error counters
    crc_errors: int  # CE
    frame_errors: int  # SE, SEQ, RXE, CXE
    length_errors: int  # runts, over-long chains
    alloc_failed: int  # refill found the pool empty
    hw_csum_good: int
    hw_csum_err: int
    def refill(self, max: int = 1 << 30) -> int: ...
    def clean(
        self,
        budget: int,
        out: list[sk_buff],
        gro: GroTable | None = None,
        rx_csum: bool = True,
        vlan_strip: bool = True,
        strip_fcs: bool = True,
        accept_errors: bool = False,
    ) -> int: ...
    def poll(
        self,
        budget: int,
        out: list[sk_buff],
        gro: GroTable | None,
        rx_csum: bool,
        vlan_strip: bool,
        accept_errors: bool,
        low: int,
    ) -> int: ...
    def empty(self) -> int: ...
    def pending(self) -> bool: ...
    def reset(self) -> None: ...
    def desc(self, index: int) -> builtins.bytes: ...
