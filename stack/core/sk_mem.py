"""Memory accounting of a protocol's sockets: limits, pressure, reservations.

net/core/sock.c, include/net/sock.h. A sock reserves whole quanta ahead (`sk_forward_alloc`) and
charges its packets to them. `proto_mem` counts the quanta of all socks against three limits. Up to
the first every sock gets memory, above the second only socks below their share do, and above the
third none does. All amounts are bytes; the kernel counts pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff
from stack.core.rows import row, state
from stack.core.sock_flags import SOCK_SNDBUF_LOCK
from stack.core.uapi import SOCK_STREAM
from stack.net import Net

if TYPE_CHECKING:
    from stack.core.sock import sock

SK_MEM_QUANTUM = 4096
SK_MEM_SEND = 0
SK_MEM_RECV = 1
SOCK_MIN_SNDBUF = 4608


@state
class proto_mem:
    """What `struct proto` counts per network: memory_allocated (bytes here), sockets, orphans."""

    memory_allocated: int = row(0)
    sockets_allocated: int = row(0)
    orphan_count: int = row(0)
    memory_pressure: int = row(0)
    """When pressure began (ns), 0 without pressure."""
    sysctl_mem: list[int] = row(make=lambda: [48 << 20, 64 << 20, 96 << 20])


def proto_mem_of_ram(net: Net, num: int, shift: int) -> proto_mem:
    """Limits of a protocol whose sockets hold receive buffers: `num` / 2 ** `shift` of the RAM.

    This is the first limit, which decides for a protocol without memory pressure. A driver's
    receive buffers take a quarter of the RAM. All protocols and the reassembly queue together stay
    below that, so that unread sockets cannot hold all receive buffers.
    """
    low = max(net.ram.size_bytes * num >> shift, 1 << 18)
    mem = proto_mem()
    mem.sysctl_mem = [low, low * 4 // 3, low * 2]
    return mem


def sysctl_min(sk: sock, name: str) -> int:
    """sk_get_wmem0, sk_get_rmem0: bytes that every sock may queue unless the hard limit is hit.

    It is the first or only number of the sysctl `name`.
    """
    value = getattr(sk.net.sysctl, name) if name else SK_MEM_QUANTUM
    return value[0] if isinstance(value, tuple) else value


def sk_under_memory_pressure(sk: sock) -> bool:
    """include/net/sock.h"""
    return not sk.sk_freed and bool(sk.sk_mem.memory_pressure)


def sk_enter_memory_pressure(sk: sock) -> None:
    """net/core/sock.c"""
    enter = sk.sk_prot.enter_memory_pressure
    if enter is not None:
        enter(sk)


def sk_leave_memory_pressure(sk: sock) -> None:
    """net/core/sock.c"""
    leave = sk.sk_prot.leave_memory_pressure
    if leave is not None:
        leave(sk)


def sk_stream_moderate_sndbuf(sk: sock) -> None:
    """include/net/sock.h: memory is short: cut the send buffer to half of what is queued now."""
    if not sk.sk_flags & SOCK_SNDBUF_LOCK:
        sk.sk_sndbuf = max(min(sk.sk_sndbuf, sk.sk_wmem_queued >> 1), SOCK_MIN_SNDBUF)


def __sk_mem_schedule(sk: sock, size_bytes: int, kind: int) -> bool:
    """net/core/sock.c: reserve quanta for `size_bytes` more; `kind` is SK_MEM_SEND or _RECV."""
    if sk.sk_freed:
        return False
    amount = (size_bytes + SK_MEM_QUANTUM - 1) & ~(SK_MEM_QUANTUM - 1)
    sk.sk_forward_alloc += amount
    if __sk_mem_raise_allocated(sk, amount, kind):
        return True
    sk.sk_forward_alloc -= amount
    return False


def __sk_mem_raise_allocated(sk: sock, amount: int, kind: int) -> bool:
    """net/core/sock.c: count `amount` to the protocol, if the limits let sk have it.

    Between the first and the last limit a sock gets memory up to its guaranteed minimum or an equal
    share of the whole. The kernel also gives to a stream sock over its send buffer, since some
    callers cannot wait; here those call sk_forced_mem_schedule. Beyond the last limit
    tcp_check_oom closes orphans.
    """
    mem = sk.sk_mem
    mem.memory_allocated = allocated = mem.memory_allocated + amount
    low, pressure, high = mem.sysctl_mem
    if allocated <= low:
        if mem.memory_pressure:
            sk_leave_memory_pressure(sk)
        return True
    if allocated > pressure and not mem.memory_pressure:
        sk_enter_memory_pressure(sk)
    prot = sk.sk_prot
    if allocated <= high:
        if kind == SK_MEM_RECV:
            if sk.sk_rmem_alloc < sysctl_min(sk, prot.sysctl_rmem):
                return True
        else:
            used = sk.sk_wmem_queued if sk.sk_type == SOCK_STREAM else sk.sk_wmem_alloc
            if used < sysctl_min(sk, prot.sysctl_wmem):
                return True
        if prot.enter_memory_pressure is not None:  # sk_has_memory_pressure
            if not mem.memory_pressure:
                return True
            used = sk.sk_wmem_queued + sk.sk_rmem_alloc + sk.sk_forward_alloc
            if high > mem.sockets_allocated * (used + SK_MEM_QUANTUM - 1):
                return True
    if kind == SK_MEM_SEND and sk.sk_type == SOCK_STREAM:
        sk_stream_moderate_sndbuf(sk)
    mem.memory_allocated -= amount
    return False


def __sk_mem_reduce_allocated(sk: sock, amount: int) -> None:
    """net/core/sock.c: return `amount` bytes to the protocol."""
    mem = sk.sk_mem
    mem.memory_allocated = allocated = mem.memory_allocated - amount
    if mem.memory_pressure and allocated < mem.sysctl_mem[0]:
        sk_leave_memory_pressure(sk)


def sk_wmem_schedule(sk: sock, size_bytes: int) -> bool:
    """include/net/sock.h: reserve `size_bytes` of forward allocation to send."""
    return size_bytes <= sk.sk_forward_alloc or __sk_mem_schedule(
        sk, size_bytes - sk.sk_forward_alloc, SK_MEM_SEND
    )


def sk_rmem_schedule(sk: sock, skb: sk_buff | None, size_bytes: int) -> bool:
    """include/net/sock.h: reserve `size_bytes` of forward allocation to receive."""
    return size_bytes <= sk.sk_forward_alloc or __sk_mem_schedule(
        sk, size_bytes - sk.sk_forward_alloc, SK_MEM_RECV
    )


def sk_forced_mem_schedule(sk: sock, size_bytes: int) -> None:
    """net/ipv4/tcp_output.c: memory for a FIN, regardless of limits."""
    delta = size_bytes - sk.sk_forward_alloc
    if delta > 0:
        amount = (delta + SK_MEM_QUANTUM - 1) & ~(SK_MEM_QUANTUM - 1)
        sk.sk_forward_alloc += amount
        sk.sk_mem.memory_allocated += amount


def sk_mem_charge(sk: sock, size_bytes: int) -> None:
    """include/net/sock.h: use forward allocation."""
    sk.sk_forward_alloc -= size_bytes


def sk_mem_uncharge(sk: sock, size_bytes: int) -> None:
    """include/net/sock.h: return to forward allocation; more than a quantum goes back at once.

    The kernel keeps less than a page. Here a whole quantum stays, so that a sock with one packet
    queued at a time does not reserve and return a quantum for each.
    """
    sk.sk_forward_alloc = left = sk.sk_forward_alloc + size_bytes
    if left > SK_MEM_QUANTUM:
        sk_mem_reclaim(sk)


def sk_mem_reclaim(sk: sock) -> None:
    """include/net/sock.h: return whole quanta of forward allocation to the protocol."""
    amount = sk.sk_forward_alloc & ~(SK_MEM_QUANTUM - 1)
    if amount > 0:
        sk.sk_forward_alloc -= amount
        __sk_mem_reduce_allocated(sk, amount)


def sk_mem_reclaim_final(sk: sock) -> None:
    """include/net/sock.h: return everything at destruction."""
    if sk.sk_forward_alloc:
        amount, sk.sk_forward_alloc = sk.sk_forward_alloc, 0
        __sk_mem_reduce_allocated(sk, amount)
