"""stack/core/sock.py"""

from __future__ import annotations

import errno
from typing import Any

import pytest

from fastpath.base.bpf import bpf_prog
from fastpath.base.skbuff import alloc_skb, kfree_skb
from stack.core import sk_mem as m
from stack.core import sock as s
from stack.core import sock_flags
from stack.core.bsd_socket import sockfd_lookup, sys_close, sys_socket
from stack.core.sock import (
    sk_data_ready,
    sk_error_report,
    sk_sleep,
    sk_state_change,
    sk_write_space,
)
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import AF_INET, SEND_SHUTDOWN, SOCK_DGRAM
from stack.host import Host


@pytest.fixture
def sk(host: Host) -> Any:
    return sockfd_lookup(host, sys_socket(host, AF_INET, SOCK_DGRAM)).sk


def test_flags(sk: Any) -> None:
    assert not sk.sk_flags & sock_flags.SOCK_BROADCAST
    s.sock_valbool_flag(sk, sock_flags.SOCK_BROADCAST, True)
    s.sock_valbool_flag(sk, sock_flags.SOCK_KEEPOPEN, True)
    s.sock_reset_flag(sk, sock_flags.SOCK_KEEPOPEN)
    assert sk.sk_flags & sock_flags.SOCK_BROADCAST
    assert not sk.sk_flags & sock_flags.SOCK_KEEPOPEN
    s.sock_valbool_flag(sk, sock_flags.SOCK_BROADCAST, False)
    assert not sk.sk_flags & sock_flags.SOCK_BROADCAST


def test_flag_masks_are_distinct() -> None:
    masks = [
        v
        for n, v in vars(sock_flags).items()
        if n.startswith("SOCK_")
        and isinstance(v, int)
        and not n.startswith(("SOCK_MIN", "SOCK_STREAM", "SOCK_DGRAM", "SOCK_WAKE_"))
    ]
    assert len(set(masks)) == len(masks)
    assert all(m & (m - 1) == 0 for m in masks)


def test_packets_for_an_owned_sock_wait_in_the_backlog(host: Host, sk: Any) -> None:
    seen = []
    sk.sk_backlog_rcv = lambda sk, skb: seen.append(skb.len) or kfree_skb(skb) or 0
    s.lock_sock(sk)
    assert s.sock_owned_by_user(sk)
    for n in (1, 2, 3):
        skb = alloc_skb(host.skb_small, 10)
        assert skb is not None
        from fastpath.base.skbuff import skb_put

        skb_put(skb, n)
        assert s.sk_add_backlog(sk, skb, sk.sk_rcvbuf) == 0
    assert seen == []
    s.release_sock(sk)
    assert seen == [1, 2, 3]
    assert sk.sk_backlog_len == 0
    assert not s.sock_owned_by_user(sk)
    assert host.skb_small.in_use == 0


def test_backlog_has_a_limit(host: Host, sk: Any) -> None:
    skb = alloc_skb(host.skb_small, 10)
    assert skb is not None
    sk.sk_rmem_alloc = 5000
    assert s.sk_add_backlog(sk, skb, 4999) == -errno.ENOBUFS
    sk.sk_rmem_alloc = 0
    kfree_skb(skb)


def test_lock_sock_waits_for_the_owner(host: Host, sk: Any) -> None:
    s.lock_sock(sk)
    host.clock.call_at(host.clock.now_ns() + 500, lambda: s.release_sock(sk))
    s.lock_sock(sk)
    assert host.clock.now_ns() >= 500
    s.release_sock(sk)


def test_wait_event_times_out_and_reports_what_is_left(host: Host, sk: Any) -> None:
    s.lock_sock(sk)
    assert s.sk_wait_event(sk, 1000, lambda sk, seen: False) == 0
    assert host.clock.now_ns() == 1000
    done = []
    host.clock.call_at(1400, lambda: done.append(1))
    assert s.sk_wait_event(sk, 1000, lambda sk, seen: bool(seen), done) == 600
    assert s.sock_owned_by_user(sk)
    s.release_sock(sk)


def test_waits_within_a_wait_have_their_own_entries(host: Host) -> None:
    """The entry of the last wait is used again, but not while somebody has it."""
    came: list[str] = []
    order: list[str] = []

    def wait(name: str, timeo_ns: int) -> int:
        sk = sockfd_lookup(host, sys_socket(host, AF_INET, SOCK_DGRAM)).sk
        left = s.wait_event(sk, timeo_ns, lambda _, seen: seen in came, name)
        order.append(name)
        return left

    assert wait("first", 1) == 0
    host.clock.call_at(10, lambda: wait("inner", 1 << 40))
    host.clock.call_at(20, lambda: came.append("outer"))
    host.clock.call_at(30, lambda: came.append("inner"))
    assert wait("outer", 1 << 40) == (1 << 40) - 29
    assert order == ["first", "inner", "outer"]
    host.clock.call_at(host.clock.now_ns() + 5, lambda: came.append("last"))
    assert wait("last", 100) == 95


def test_wait_data_ends_on_data_error_and_shutdown(host: Host, sk: Any) -> None:
    sk.sk_state = TCP_ESTABLISHED
    s.lock_sock(sk)
    assert s.sk_wait_data(sk, 100, None) == 0
    host.clock.call_at(host.clock.now_ns() + 10, lambda: setattr(sk, "sk_err", 5))
    assert s.sk_wait_data(sk, 100, None) == 90
    sk.sk_err = 0
    s.release_sock(sk)


def test_callbacks_can_be_replaced_and_still_go_through_the_named_method(sk: Any) -> None:
    calls = []
    sk.data_ready = lambda sk: calls.append("ready")
    sk_data_ready(sk)
    sk_sleep(sk).add(lambda: calls.append("woken"))
    sk_state_change(sk)
    sk_error_report(sk)
    sk_write_space(sk)
    assert calls == ["ready", "woken", "woken", "woken"]


def test_send_buffer_accounting_and_wait(host: Host, sk: Any) -> None:
    sk.sk_sndbuf = 5000
    held = []
    while sk.sk_wmem_alloc < sk.sk_sndbuf:
        held.append(s.sock_alloc_send_skb(sk, 100, True))
    with pytest.raises(BlockingIOError):
        s.sock_alloc_send_skb(sk, 100, True)
    skb = held.pop()
    host.clock.call_at(host.clock.now_ns() + 50, lambda: kfree_skb(skb))
    held.append(s.sock_alloc_send_skb(sk, 100, False))
    assert host.clock.now_ns() == 50
    sk.sk_shutdown = SEND_SHUTDOWN
    with pytest.raises(BrokenPipeError):
        s.sock_alloc_send_skb(sk, 100, False)
    sk.sk_shutdown = 0
    sk.sk_err = errno.ECONNRESET
    with pytest.raises(ConnectionResetError):
        s.sock_alloc_send_skb(sk, 100, False)
    for skb in held:
        kfree_skb(skb)
    assert sk.sk_wmem_alloc == 0


def test_receive_queue_limits_and_releases_memory(host: Host, sk: Any) -> None:
    sk.sk_rcvbuf = 10000
    count = 0
    while True:
        skb = alloc_skb(host.skb_small, 100)
        assert skb is not None
        if s.sock_queue_rcv_skb(sk, skb):
            kfree_skb(skb)
            break
        count += 1
    assert count > 1
    assert sk.sk_drops == 1
    assert sk.sk_mem.memory_allocated >= sk.sk_rmem_alloc
    while (skb := sk.sk_receive_queue.dequeue()) is not None:
        kfree_skb(skb)
    assert sk.sk_rmem_alloc == 0
    m.sk_mem_reclaim(sk)
    assert sk.sk_mem.memory_allocated == 0


def test_filter_refuses(host: Host, sk: Any) -> None:
    sk.sk_filter = bpf_prog([(6, 0, 0, 0)])
    skb = alloc_skb(host.skb_small, 100)
    assert skb is not None
    assert s.sock_queue_rcv_skb(sk, skb) == -errno.EPERM
    kfree_skb(skb)


def test_clone_shares_settings_but_no_queue(sk: Any) -> None:
    sk.sk_priority = 3
    sk.tos = 0x10
    sk.sk_mark = 9
    sk.sk_err = 5
    child = s.sk_clone_lock(sk)
    assert (child.tos, child.sk_mark, child.sk_err) == (0x10, 9, 0)
    assert child.sk_receive_queue is not sk.sk_receive_queue
    assert child.sk_lock_owned
    assert child.sk_cookie != sk.sk_cookie
    s.sk_free(child)


def test_freeing_twice_is_harmless(host: Host, sk: Any) -> None:
    s.sk_free(sk)
    s.sk_free(sk)
    assert host.prot_mem["UDP"].sockets_allocated == 0


def test_pending_error_is_taken_once(sk: Any) -> None:
    sk.sk_err = errno.EHOSTUNREACH
    assert s.sock_error(sk) == -errno.EHOSTUNREACH
    assert s.sock_error(sk) == 0


def test_rcvlowat(sk: Any) -> None:
    sk.sk_rcvlowat = 5
    assert [s.sock_rcvlowat(sk, w, n) for w, n in ((0, 10), (0, 3), (1, 10), (0, 0))] == [
        5,
        3,
        10,
        1,
    ]


def test_a_forgotten_host_disappears_quietly(host: Host) -> None:
    import gc

    fd = sys_socket(host, AF_INET, SOCK_DGRAM)
    sk = sockfd_lookup(host, fd).sk
    skb = alloc_skb(host.skb_small, 100)
    assert skb is not None
    assert s.sock_queue_rcv_skb(sk, skb) == 0
    del sk, skb
    gc.collect()
    sys_close(host, fd)
    assert host.skb_small.in_use == 0
