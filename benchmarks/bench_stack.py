"""The whole path, UDP and TCP; what is measured stands in `rows/stack.py`."""

from __future__ import annotations

from .conftest import Measured
from .rows import stack
from .sized import sized


@sized(stack.udp_single)
def bench_stack__udp__single(measured: Measured, size: str) -> None:
    measured(stack.udp_single, size)


@sized(stack.udp6_single)
def bench_stack__udp6__single(measured: Measured, size: str) -> None:
    measured(stack.udp6_single, size)


@sized(stack.udp_batch)
def bench_stack__udp__mmsg64(measured: Measured, size: str) -> None:
    measured(stack.udp_batch, size)


@sized(stack.udp6_batch)
def bench_stack__udp6__mmsg64(measured: Measured, size: str) -> None:
    measured(stack.udp6_batch, size)


@sized(stack.udp_kernel)
def bench_stack__peer__udp_single(measured: Measured, size: str) -> None:
    measured(stack.udp_kernel, size)


@sized(stack.tcp_bulk)
def bench_stack__tcp__bulk(measured: Measured, size: str) -> None:
    measured(stack.tcp_bulk, size)


@sized(stack.tcp6_bulk)
def bench_stack__tcp6__bulk(measured: Measured, size: str) -> None:
    measured(stack.tcp6_bulk, size)


@sized(stack.tcp_kernel)
def bench_stack__peer__tcp_bulk(measured: Measured, size: str) -> None:
    measured(stack.tcp_kernel, size)
