"""sk_buffs and copies; the rows are in `rows/skbuff.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import skbuff
from .sized import sized


@sized(skbuff.alloc_free)
def bench_skb__alloc__free(measured: Measured, size: str) -> None:
    measured(skbuff.alloc_free, size)


@sized(skbuff.alloc_free_twin)
def bench_skb__twin__alloc_free(measured: Measured, size: str) -> None:
    measured(skbuff.alloc_free_twin, size)


@sized(skbuff.push)
def bench_skb__push__tcp_ip_eth(measured: Measured, size: str) -> None:
    measured(skbuff.push, size)


@sized(skbuff.push6)
def bench_skb__push__tcp_ip6_eth(measured: Measured, size: str) -> None:
    measured(skbuff.push6, size)


@sized(skbuff.push6_twin)
def bench_skb__twin__push6(measured: Measured, size: str) -> None:
    measured(skbuff.push6_twin, size)


@sized(skbuff.push_twin)
def bench_skb__twin__push(measured: Measured, size: str) -> None:
    measured(skbuff.push_twin, size)


@sized(skbuff.copy_in)
def bench_skb__copy__in(measured: Measured, size: str) -> None:
    measured(skbuff.copy_in, size)


@sized(skbuff.copy_out)
def bench_skb__copy__out(measured: Measured, size: str) -> None:
    measured(skbuff.copy_out, size)


@sized(skbuff.copy_plain)
def bench_skb__peer__memcpy(measured: Measured, size: str) -> None:
    measured(skbuff.copy_plain, size)
