from collections.abc import Callable
from typing import Any, final

from fastpath.base.skbuff import SkbPool, sk_buff

@final
class zc_page:
    @property
    def mapped(self) -> bool: ...
    @property
    def dma(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def memory(self) -> memoryview: ...
    def finish(self) -> ubuf_info: ...

@final
class ubuf_info:
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
    def add(self, skb: sk_buff, buffer: Any, off: int, n: int) -> int: ...
    def end_add(self) -> None: ...

def skb_zcopy(skb: sk_buff) -> ubuf_info | None: ...
def skb_copy_ubufs(skb: sk_buff, pages: SkbPool) -> bool: ...
def skb_orphan_frags(skb: sk_buff, pages: SkbPool) -> bool: ...
def skb_zcopy_map(skb: sk_buff, mapper: Callable[[memoryview], int]) -> bool: ...
