# ruff: noqa: A002 - max is the kernel's word
"""The driver's side of the 8254x descriptor rings (SDM 3.2, 3.3; e1000_main.c).

Compiled. `mem` is the host's RAM as in SkbPool. The ring never touches registers: the driver writes
`dma`, `size_bytes`, `next_to_use` and the returned tails to the device.
"""

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
) -> Callable[[sk_buff], object] | None:
    """Call `destructor` once for successive sk_buffs of one owner that a ring frees.

    For a destructor that only returns truesize to the owner (sock_wfree): the last sk_buff of a run
    gets the truesize of all, the others lose their destructor. None: a call for each. Returns the
    previous setting.
    """

@final
class TxRing:
    """Transmit ring of `count` 16-byte descriptors (a multiple of 8)."""

    def __init__(self, mem: Any, count: int) -> None: ...
    dma: int
    size_bytes: int
    count: int
    next_to_use: int  # the value for TDT
    next_to_clean: int
    def unused(self) -> int:
        """Descriptors free now; one stays unused so that head == tail means empty."""

    def desc_needed(self, skb: sk_buff, max_per_desc: int = 4096) -> int:
        """Data descriptors map() will take for skb (without context descriptor)."""

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
    ) -> bool:
        """Write a context descriptor (DTYP 0, DEXT added to `cmd` = TUCMD bits); False when full.

        An unchanged context is written again: whether it is needed is the driver's decision.
        """

    def map(
        self,
        skb: sk_buff,
        popts: int = 0,
        cmd: int = 0x0B,
        vlan: int = -1,
        max_per_desc: int = 4096,
    ) -> int:
        """Write data descriptors for all of skb; takes ownership unless -1 (no room) is returned.

        `cmd` is ORed into every descriptor except that EOP and RS go to the last only; DEXT|DTYP=1
        are added; `vlan` >= 0 adds VLE and the tag. `popts` sits in each descriptor (the first
        counts). Returns descriptors used.
        """

    def map_legacy(
        self,
        skb: sk_buff,
        cmd: int = 0x0B,
        cso: int = 0,
        css: int = 0,
        vlan: int = -1,
        max_per_desc: int = 4096,
    ) -> int:
        """The same with legacy descriptors (IC in `cmd` = 0x04 with cso/css)."""

    def clean(self, budget: int = 0, out: list[sk_buff] | None = None) -> tuple[int, int]:
        """Free the sk_buffs whose last descriptor has DD: (packets, bytes); 0 = no limit.

        A TSO packet counts as gso_segs packets and the bytes that were on the wire. With `out`, the
        sk_buffs are appended to it instead of freed (dev_kfree_skb_irq).
        """

    csum_start: int
    csum_offset: int
    """The device's checksum context, -1 when there is none; the driver sets them."""
    def pending(self) -> int:
        """sk_buffs mapped and not yet cleaned."""

    def reset(self) -> None:
        """Free every mapped sk_buff, zero the ring, next_to_use = next_to_clean = 0."""

    def desc(self, index: int) -> bytes:
        """The 16 bytes of a descriptor (diagnosis)."""

@final
class RxRing:
    """Receive ring with one pool buffer per descriptor.

    A frame of at most `copybreak` bytes in one descriptor is copied into a buffer of `small`, and
    its descriptor keeps its own. When `small` is empty the frame goes up as others do.
    """

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
    def refill(self, max: int = 1 << 30) -> int:
        """Fill empty descriptors (one slot stays unused); the new RDT, -1 when none was."""

    def clean(
        self,
        budget: int,
        out: list[sk_buff],
        gro: GroTable | None = None,
        rx_csum: bool = True,
        vlan_strip: bool = True,
        strip_fcs: bool = True,
        accept_errors: bool = False,
    ) -> int:
        """Take up to `budget` received frames off the ring; frames taken.

        Appends sk_buffs to `out`: data at the Ethernet header, mac_header set, len without FCS when
        strip_fcs (the length in the descriptor includes it), ip_summed from the status bits, vlan_*
        set. With `gro`, plain in-order TCP/UDP frames are merged; what the table still holds comes
        out of ``gro.flush(out)`` (call it before napi_complete). Merged sk_buffs look the same:
        data at the Ethernet header of the first frame.
        """

    def poll(
        self,
        budget: int,
        out: list[sk_buff],
        gro: GroTable | None,
        rx_csum: bool,
        vlan_strip: bool,
        accept_errors: bool,
        low: int,
    ) -> int:
        """`clean` as a NAPI poll wants it: 1 when more than `budget` frames may wait (else what
        `gro` held has come out), plus 2 when at least `low` descriptors are empty.
        """

    def empty(self) -> int:
        """Descriptors without a buffer that `refill` would fill."""

    def pending(self) -> bool:
        """True when the next descriptor has DD set."""

    def reset(self) -> None:
        """Return every buffer to its pool, zero the ring."""

    def desc(self, index: int) -> builtins.bytes: ...
