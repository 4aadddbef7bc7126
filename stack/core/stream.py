"""Waiting and memory of byte streams (net/core/stream.c, include/net/sock.h)."""

from __future__ import annotations

import errno
from typing import Any

from stack.core import tcp_states
from stack.core.errors import os_error
from stack.core.fasync import SOCK_WAKE_SPACE
from stack.core.sk_mem import sk_mem_reclaim_final
from stack.core.sock import (
    KEY_OUT,
    raise_sock_error,
    sk_set_bit,
    sk_wait_event,
    sk_wake_async,
    sock,
    sock_error,
)
from stack.core.sock_flags import SOCK_FASYNC, SOCK_NOSPACE, SOCKWQ_ASYNC_NOSPACE
from stack.core.uapi import POLL_OUT, SEND_SHUTDOWN
from stack.core.wait import wake_up_poll


def sk_stream_write_space(sk: sock) -> None:
    """net/core/stream.c: sk_write_space of stream protocols: wake at a third of the buffer."""
    if sk_stream_is_writeable(sk) and sk.sk_socket is not None:
        sk.sk_flags &= ~SOCK_NOSPACE
        wake_up_poll(sk.sk_wq, KEY_OUT)
        if sk.sk_flags & SOCK_FASYNC and not sk.sk_shutdown & SEND_SHUTDOWN:
            sk_wake_async(sk, SOCK_WAKE_SPACE, POLL_OUT)


def sk_stream_wspace(sk: sock) -> int:
    """include/net/sock.h: send buffer not yet queued."""
    return sk.sk_sndbuf - sk.sk_wmem_queued


def sk_stream_min_wspace(sk: sock) -> int:
    """include/net/sock.h: the space that must be free before a writer is woken."""
    return sk.sk_wmem_queued >> 1


def sk_stream_memory_free(sk: sock) -> bool:
    """include/net/sock.h: a writer may queue more."""
    if sk.sk_wmem_queued >= sk.sk_sndbuf:
        return False
    prot = sk.sk_prot
    return prot.stream_memory_free is None or prot.stream_memory_free(sk, 0)


def sk_stream_is_writeable(sk: sock) -> bool:
    """include/net/sock.h: poll's view of the same."""
    return sk_stream_wspace(sk) >= sk_stream_min_wspace(sk) and sk_stream_memory_free(sk)


def sk_stream_wait_connect(sk: sock, timeo_ns: int) -> int:
    """net/core/stream.c: wait until connected. Returns the ns left.

    Raises: OSError EPIPE when not connecting, EAGAIN at the timeout, the pending error.
    """
    while True:
        raise_sock_error(sk)
        if not (1 << sk.sk_state) & (tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_SYN_RECV):
            if (1 << sk.sk_state) & (tcp_states.TCPF_ESTABLISHED | tcp_states.TCPF_CLOSE_WAIT):
                return timeo_ns
            raise os_error(errno.EPIPE, "socket is not connected")
        if timeo_ns <= 0:
            raise os_error(errno.EAGAIN, "still connecting")
        sk.sk_write_pending += 1
        try:
            timeo_ns = sk_wait_event(sk, timeo_ns, sk_connect_over)
        finally:
            sk.sk_write_pending -= 1


def sk_connect_over(sk: sock, seen: Any) -> bool:
    """The handshake is over, one way or the other."""
    return bool(
        sk.sk_err or not (1 << sk.sk_state) & (tcp_states.TCPF_SYN_SENT | tcp_states.TCPF_SYN_RECV)
    )


def sk_stream_wait_close(sk: sock, timeo_ns: int) -> None:
    """net/core/stream.c: linger until the FIN exchange is complete, or the timeout."""
    if timeo_ns > 0:
        sk_wait_event(sk, timeo_ns, sk_stream_closed)


def sk_stream_closed(sk: sock, seen: Any) -> bool:
    """net/core/stream.c sk_stream_closing, inverted: what `sk_stream_wait_close` waits for."""
    return not (1 << sk.sk_state) & (
        tcp_states.TCPF_FIN_WAIT1 | tcp_states.TCPF_CLOSING | tcp_states.TCPF_LAST_ACK
    )


def sk_stream_wait_memory(sk: sock, timeo_ns: int) -> int:
    """net/core/stream.c: wait for send memory. Returns the ns left.

    Raises: OSError EPIPE after shutdown or with an error pending, EAGAIN when time is over.
    """
    while True:
        if sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN:
            # A pending error stays: when part was sent the caller returns that, and the next call
            # has to find the error.
            raise os_error(errno.EPIPE, "socket was shut down for sending")
        if sk_stream_memory_free(sk):
            return timeo_ns
        if timeo_ns <= 0:
            sk_set_bit(sk, SOCKWQ_ASYNC_NOSPACE)
            sk.sk_flags |= SOCK_NOSPACE
            raise os_error(errno.EAGAIN, "send buffer full")
        sk.sk_flags |= SOCK_NOSPACE
        sk.sk_write_pending += 1
        try:
            timeo_ns = sk_wait_event(sk, timeo_ns, sk_stream_memory_came)
        finally:
            sk.sk_write_pending -= 1


def sk_stream_memory_came(sk: sock, seen: Any) -> bool:
    """The condition of `sk_stream_wait_memory`."""
    return bool(sk.sk_err or sk.sk_shutdown & SEND_SHUTDOWN or sk_stream_memory_free(sk))


def sk_stream_error(sk: sock, flags: int, err: int) -> OSError:
    """net/core/stream.c: the exception for a failed send (`err` is an errno).

    EPIPE gives way to a pending error, as in the kernel; there is no SIGPIPE here.
    """
    if err == errno.EPIPE:
        err = -sock_error(sk) or errno.EPIPE
    return os_error(err)


def sk_stream_kill_queues(sk: sock) -> None:
    """net/core/stream.c: purge what is left at destruction."""
    sk.sk_receive_queue.purge()
    sk.sk_error_queue.purge()
    sk_mem_reclaim_final(sk)
