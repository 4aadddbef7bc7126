# ruff: noqa: A002 - as in the kernel
from collections.abc import Iterable
from typing import final

from typing_extensions import Buffer

from fastpath.base.skbuff import sk_buff

BPF_MAXINSNS: int  # 4096
BPF_MEMWORDS: int  # 16
SKF_AD_OFF: int
SKF_NET_OFF: int
SKF_LL_OFF: int

@final
class bpf_prog:
    @property
    def filter(self) -> bytes:
        """Its instructions as struct sock_filter."""
    @property
    def len(self) -> int:
        """How many there are."""
    @property
    def size_bytes(self) -> int:
        """What Linux charges a socket for it."""
    def __init__(
        self, filter: bytes | Iterable[tuple[int, int, int, int]], seed: int = 1
    ) -> None: ...
    def __len__(self) -> int: ...

def bpf_prog_run(prog: bpf_prog, skb: sk_buff, off: int = 0) -> int: ...
def bpf_filter(prog: bpf_prog, data: Buffer, wirelen: int = -1) -> int: ...
