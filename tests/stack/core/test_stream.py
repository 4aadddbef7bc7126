"""stack/core/stream.py"""

from __future__ import annotations

import errno
from typing import Any

import pytest

from stack.core import sock, stream
from stack.core.bsd_socket import sockfd_lookup, sys_socket
from stack.core.tcp_states import (
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_SYN_SENT,
)
from stack.core.uapi import AF_INET, SEND_SHUTDOWN, SOCK_DGRAM
from stack.host import Host


@pytest.fixture
def sk(host: Host) -> Any:
    return sockfd_lookup(host, sys_socket(host, AF_INET, SOCK_DGRAM)).sk


def test_stream_write_space_rule(sk: Any) -> None:
    sk.sk_sndbuf = 9000
    sk.sk_wmem_queued = 6000
    assert stream.sk_stream_is_writeable(sk)
    sk.sk_wmem_queued = 6002
    assert not stream.sk_stream_is_writeable(sk)
    sk.sk_prot.stream_memory_free, saved = lambda sk, wake: False, sk.sk_prot.stream_memory_free
    sk.sk_wmem_queued = 0
    assert not stream.sk_stream_memory_free(sk)
    sk.sk_prot.stream_memory_free = saved


def test_stream_wait_memory(host: Host, sk: Any) -> None:
    sk.sk_sndbuf = 100
    sk.sk_wmem_queued = 100
    sock.lock_sock(sk)
    with pytest.raises(BlockingIOError):
        stream.sk_stream_wait_memory(sk, 0)
    host.clock.call_at(host.clock.now_ns() + 10, lambda: setattr(sk, "sk_wmem_queued", 0))
    assert stream.sk_stream_wait_memory(sk, 1000) == 990
    sk.sk_wmem_queued = 100
    with pytest.raises(BlockingIOError):
        stream.sk_stream_wait_memory(sk, 1000)
    sk.sk_shutdown = SEND_SHUTDOWN
    with pytest.raises(BrokenPipeError):
        stream.sk_stream_wait_memory(sk, 1000)
    sock.release_sock(sk)
    sk.sk_wmem_queued = 0


def test_broken_pipe_gives_way_to_the_pending_error(sk: Any) -> None:
    sk.sk_err = errno.ECONNRESET
    assert isinstance(stream.sk_stream_error(sk, 0, errno.EPIPE), ConnectionResetError)
    assert isinstance(stream.sk_stream_error(sk, 0, errno.EPIPE), BrokenPipeError)


def test_wait_connect(host: Host, sk: Any) -> None:
    sk.sk_state = TCP_SYN_SENT
    sock.lock_sock(sk)
    with pytest.raises(BlockingIOError):
        stream.sk_stream_wait_connect(sk, 0)
    host.clock.call_at(host.clock.now_ns() + 10, lambda: setattr(sk, "sk_state", TCP_ESTABLISHED))
    assert stream.sk_stream_wait_connect(sk, 100) == 90
    sk.sk_state = TCP_CLOSE
    with pytest.raises(BrokenPipeError):
        stream.sk_stream_wait_connect(sk, 100)
    sock.release_sock(sk)


def test_wait_close_ends_with_the_state(host: Host, sk: Any) -> None:
    sk.sk_state = TCP_FIN_WAIT1
    sock.lock_sock(sk)
    stream.sk_stream_wait_close(sk, 50)
    assert host.clock.now_ns() == 50
    host.clock.call_at(60, lambda: setattr(sk, "sk_state", TCP_FIN_WAIT2))
    stream.sk_stream_wait_close(sk, 1000)
    assert host.clock.now_ns() == 60
    sk.sk_state = TCP_CLOSE
    sock.release_sock(sk)
