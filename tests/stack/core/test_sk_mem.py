"""stack/core/sk_mem.py: who gets memory below, between and above a protocol's limits."""

from __future__ import annotations

from typing import Any

from stack.core import sk_mem as m
from stack.core.bsd_socket import sockfd_lookup, sys_socket
from stack.core.uapi import AF_INET, SOCK_DGRAM, SOCK_STREAM
from stack.host import Host

PAGE = m.SK_MEM_QUANTUM


def new_sk(host: Host, kind: int = SOCK_STREAM) -> Any:
    return sockfd_lookup(host, sys_socket(host, AF_INET, kind)).sk


def limits(host: Host, protocol: str, low: int, pressure: int, high: int) -> Any:
    """Set a protocol's limits in quanta."""
    mem = host.prot_mem[protocol]
    mem.sysctl_mem = [low * PAGE, pressure * PAGE, high * PAGE]
    return mem


def test_quanta_are_reserved_and_given_back(host: Host) -> None:
    sk = new_sk(host)
    mem = limits(host, "TCP", 10, 20, 30)
    assert m.sk_wmem_schedule(sk, PAGE + 1)
    assert mem.memory_allocated == sk.sk_forward_alloc == 2 * PAGE
    m.sk_mem_charge(sk, PAGE + 1)
    m.sk_mem_uncharge(sk, PAGE + 1)
    assert mem.memory_allocated == sk.sk_forward_alloc == 0
    m.sk_forced_mem_schedule(sk, 100 * PAGE)
    assert mem.memory_allocated == 100 * PAGE
    m.sk_mem_reclaim_final(sk)
    assert mem.memory_allocated == 0


def test_a_sock_with_one_packet_at_a_time_keeps_its_quantum(host: Host) -> None:
    sk = new_sk(host)
    for _ in range(3):
        assert m.sk_wmem_schedule(sk, 2304)
        m.sk_mem_charge(sk, 2304)
        m.sk_mem_uncharge(sk, 2304)
        assert sk.sk_forward_alloc == sk.sk_mem.memory_allocated == PAGE


def test_pressure_begins_above_the_second_limit_and_ends_below_the_first(host: Host) -> None:
    sk = new_sk(host)
    mem = limits(host, "TCP", 10, 20, 30)
    assert m.sk_wmem_schedule(sk, 15 * PAGE)
    assert not m.sk_under_memory_pressure(sk)
    host.clock.run_for(5_000_000)
    assert m.sk_wmem_schedule(sk, 25 * PAGE)
    assert m.sk_under_memory_pressure(sk)
    assert host.mib.linux.TCPMemoryPressures == 1
    host.clock.run_for(7_000_000)
    sk.sk_forward_alloc -= 14 * PAGE
    m.sk_mem_reclaim(sk)
    assert mem.memory_allocated == 14 * PAGE
    assert m.sk_under_memory_pressure(sk)
    sk.sk_forward_alloc = 5 * PAGE
    m.sk_mem_reclaim(sk)
    assert not m.sk_under_memory_pressure(sk)
    assert host.mib.linux.TCPMemoryPressuresChrono == 7


def test_under_pressure_whoever_has_less_than_a_share_gets_more(host: Host) -> None:
    """__sk_mem_raise_allocated: high > sockets_allocated * what sk uses."""
    small, big = new_sk(host), new_sk(host)
    mem = limits(host, "TCP", 10, 20, 40)
    big.sk_wmem_queued = 25 * PAGE
    m.sk_forced_mem_schedule(big, 25 * PAGE)
    small.sk_wmem_queued = 2 * PAGE
    small.sk_sndbuf = big.sk_sndbuf = 1 << 20
    small.sk_flags |= m.SOCK_SNDBUF_LOCK
    big.sk_flags |= m.SOCK_SNDBUF_LOCK
    assert m.sk_wmem_schedule(small, 4 * PAGE)
    assert m.sk_under_memory_pressure(small)
    big.sk_forward_alloc = 0
    assert not m.sk_wmem_schedule(big, PAGE)
    assert mem.memory_allocated == 29 * PAGE


def test_under_pressure_the_least_is_for_everybody(host: Host) -> None:
    """tcp_wmem[0] and tcp_rmem[0]."""
    socks = [new_sk(host) for _ in range(50)]
    limits(host, "TCP", 10, 20, 40)
    m.sk_forced_mem_schedule(socks[0], 30 * PAGE)
    socks[1].sk_wmem_queued = PAGE - 1
    assert m.sk_wmem_schedule(socks[1], PAGE)
    socks[2].sk_wmem_queued = socks[2].sk_rmem_alloc = 4 * PAGE
    socks[2].sk_flags |= m.SOCK_SNDBUF_LOCK
    socks[2].sk_sndbuf = 1 << 20
    assert not m.sk_wmem_schedule(socks[2], PAGE)
    assert not m.sk_rmem_schedule(socks[2], None, PAGE)
    socks[2].sk_rmem_alloc = 0
    assert m.sk_rmem_schedule(socks[2], None, PAGE)


def test_above_the_hard_limit_nobody_gets_more_and_send_buffers_shrink(host: Host) -> None:
    sk = new_sk(host)
    mem = limits(host, "TCP", 10, 20, 40)
    m.sk_forced_mem_schedule(sk, 40 * PAGE)
    sk.sk_forward_alloc = 0
    assert not m.sk_rmem_schedule(sk, None, 1)
    sk.sk_sndbuf, sk.sk_wmem_queued = 100 * PAGE, 20 * PAGE
    sk.sk_flags |= m.SOCK_SNDBUF_LOCK
    assert not m.sk_wmem_schedule(sk, PAGE)
    assert sk.sk_sndbuf == 100 * PAGE
    sk.sk_flags &= ~m.SOCK_SNDBUF_LOCK
    assert not m.sk_wmem_schedule(sk, PAGE)
    assert sk.sk_sndbuf == 10 * PAGE
    assert mem.memory_allocated == 40 * PAGE


def test_a_protocol_without_pressure_stops_at_its_first_limit(host: Host) -> None:
    """UDP: udp_mem[0] holds but for udp_rmem_min a socket, and that up to udp_mem[2]."""
    full, other = new_sk(host, SOCK_DGRAM), new_sk(host, SOCK_DGRAM)
    mem = limits(host, "UDP", 10, 20, 12)
    assert m.sk_rmem_schedule(full, None, 10 * PAGE)
    full.sk_rmem_alloc = 10 * PAGE
    full.sk_forward_alloc = 0
    assert not m.sk_rmem_schedule(full, None, 1)
    assert not mem.memory_pressure
    assert m.sk_rmem_schedule(other, None, 2 * PAGE)
    assert not m.sk_rmem_schedule(other, None, 3 * PAGE)
    host.sysctl.udp_rmem_min = other.sk_rmem_alloc = 1
    mem.memory_allocated -= PAGE
    other.sk_forward_alloc = 0
    assert not m.sk_rmem_schedule(other, None, PAGE)
