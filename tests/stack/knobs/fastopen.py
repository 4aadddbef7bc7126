"""What each knob of TCP Fast Open does: probes for the rows of tcp.py and sockopts.py."""

from __future__ import annotations

import contextlib
from typing import Any

from stack.core.bsd_socket import sys_connect, sys_setsockopt, sys_socket
from stack.core.uapi import AF_INET, SOCK_NONBLOCK, SOCK_STREAM
from tests.stack.inet.tcpnet import SYN, A, B, S
from tests.stack.inet.test_tcp_fastopen import (
    BOTH,
    KEYS,
    SOL_TCP,
    TCP_FASTOPEN_CONNECT,
    TCP_FASTOPEN_KEY,
    TO_B,
    Pair,
)
from tests.stack.knobs.rig import Rig

TCP_FASTOPEN_NO_COOKIE = 34
KEY_TEXTS = tuple("-".join(f"{n:08x}" for n in range(i, i + 4)) for i in (1, 5))


def data_in_syn(pair: Pair) -> int:
    """Bytes that a new client's SYN carries."""
    pair.net.log.clear()
    pair.send(b"hello")
    return len(pair.syns[0].payload)


def taken(pair: Pair) -> bool:
    """Whether the SYN-ACK acknowledges the data of a new client's SYN."""
    data_in_syn(pair)
    pair.net.run(S)
    return pair.synacks[0].ack == pair.syns[0].seq + 6


def tcp_fastopen(rig: Rig) -> int:
    with rig.tcp() as net:
        pair = Pair(net)
        pair.learn()
        return data_in_syn(pair)


def tcp_fastopen_key(rig: Rig) -> bool:
    """A cookie holds after the first of KEY_TEXTS was written."""
    with rig.tcp(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        net.b.sysctl.tcp_fastopen_key = KEY_TEXTS[0]
        return taken(pair)


def tcp_fastopen_blackhole_timeout_sec(rig: Rig) -> int:
    """After a connection none of whose data came through."""
    with rig.tcp(sysctl=BOTH) as net:
        pair = Pair(net)
        pair.learn()
        net.filter = lambda s: s.src == B or bool(s.flags & SYN and not s.payload)
        pair.send(b"hello")
        net.run(20 * S)
        net.filter = lambda s: s.src == A
        return data_in_syn(pair)


def fastopen(backlog: Any) -> int:
    """TCP_FASTOPEN; None: the listener does without."""
    with Rig(BOTH, False).tcp() as net:
        pair = Pair(net, 8 if backlog is None else backlog)
        if backlog is None:
            sys_setsockopt(net.b, pair.listener, SOL_TCP, 23, 0)
        pair.learn()
        return data_in_syn(pair)


def fastopen_connect(value: Any) -> int:
    """SYNs that are out when connect returns."""
    with Rig(BOTH, False).tcp() as net:
        Pair(net).learn()
        fd = sys_socket(net.a, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
        if value is not None:
            sys_setsockopt(net.a, fd, SOL_TCP, TCP_FASTOPEN_CONNECT, value)
        with contextlib.suppress(BlockingIOError):
            sys_connect(net.a, fd, TO_B)
        return len(net.log)


def fastopen_key(key: bytes) -> bool:
    """A cookie made with the key holds after the first of KEYS was set."""
    with Rig(BOTH, False).tcp() as net:
        pair = Pair(net)
        sys_setsockopt(net.b, pair.listener, SOL_TCP, TCP_FASTOPEN_KEY, key)
        pair.learn()
        sys_setsockopt(net.b, pair.listener, SOL_TCP, TCP_FASTOPEN_KEY, KEYS[0])
        return taken(pair)


def fastopen_no_cookie(value: Any) -> bool:
    """Whether a client without a cookie sends data with its SYN."""
    with Rig(BOTH, False).tcp() as net:
        pair = Pair(net)
        fd = sys_socket(net.a, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
        if value is not None:
            sys_setsockopt(net.a, fd, SOL_TCP, TCP_FASTOPEN_NO_COOKIE, value)
        pair.write(fd, b"hello")
        return bool(pair.syns[0].payload)
