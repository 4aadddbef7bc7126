"""Payload that stays in the caller's memory (MSG_ZEROCOPY)."""

from collections.abc import Callable
from typing import Any, final

from fastpath.base.skbuff import SkbPool, sk_buff

@final
class zc_page:
    """Consecutive bytes of a caller's buffer, exported until `finish`."""

    @property
    def mapped(self) -> bool:
        """`dma` is an address under which a device finds the bytes."""
    @property
    def dma(self) -> int:
        """Bus address, 0 when no device was shown the bytes."""
    @property
    def size(self) -> int:
        """Number of bytes."""
    @property
    def memory(self) -> memoryview:
        """The bytes themselves, as a read-only view."""
    def finish(self) -> ubuf_info:
        """Give the caller's buffer back; the ubuf_info that the bytes belonged to.

        Raises RuntimeError while a packet holds the bytes, and when that was done already.
        """

@final
class ubuf_info:
    """struct ubuf_info_msgzc: the sends `id` … `id` + `len` - 1 of a socket, `bytelen` bytes.

    `refs` counts each sending call and each page that is still in use. Pages without holders are
    appended to the list `done`; `kick` is called when it was empty before, and must only arrange
    for their `finish`, soon.
    """

    sk: Any
    done: list[zc_page]
    kick: Callable[[], object]
    skb: sk_buff | None
    """The notification to be."""
    id: int
    len: int
    bytelen: int
    refs: int
    zerocopy: bool
    """No byte had to be copied after all."""
    def __init__(
        self, sk: Any, done: list[zc_page], kick: Callable[[], object], first: int, bytelen: int
    ) -> None: ...
    def add(self, skb: sk_buff, buffer: Any, off: int, n: int) -> int:
        """Append `n` bytes of `buffer` from `off` to `skb` as a fragment; how many found room.

        truesize grows by them. Raises ValueError when the bytes are not there. Call `end_add` when
        the sending call is over.
        """
    def end_add(self) -> None:
        """No more fragments come from the buffer of the last `add`."""

def skb_zcopy(skb: sk_buff) -> ubuf_info | None:
    """Return the ubuf_info of the first fragment in a caller's memory, None without one."""

def skb_copy_ubufs(skb: sk_buff, pages: SkbPool) -> bool:
    """Copy what lies in callers' memory to `pages` (net/core/skbuff.c); their ubuf_infos say so.

    False without buffers for it: then the packet is of no use any more, and must be freed.
    truesize stays, because owners were charged with it.
    """

def skb_orphan_frags(skb: sk_buff, pages: SkbPool) -> bool:
    """`skb_copy_ubufs` when something of `skb` is in a caller's memory (linux/skbuff.h)."""

def skb_zcopy_map(skb: sk_buff, mapper: Callable[[memoryview], int]) -> bool:
    """Map all fragments in callers' memory for a device; False when one has no bus address.

    `mapper(memory)` returns the address under which a device finds a read-only buffer, 0 for none.
    """
