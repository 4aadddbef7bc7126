"""Packets of IPv6 that wait for a multicast route: how many, and how long.

What a daemon sets and hears, and where packets go, tests/programs/test_mroute6.py has beside the
kernel. Figures: net/ipv6/ip6mr.c, 10 s and four packets of a sender.
"""

from __future__ import annotations

import struct
from typing import Any

from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from stack.core import uapi as u
from stack.socket import AF_INET6, SOCK_RAW, Socket
from tests.stack.ipv6.net import ME, OUT, PEER, Net6, one_host6
from tests.stack.knobs.mroute import GROUP6, mf6c, mif

S = 1_000_000_000


def daemon() -> tuple[Net6, Socket]:
    """A router of two wires whose daemon has told of them."""
    forwarding = {"net.ipv6.conf.all.forwarding": 1}
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"), sysctl=forwarding)
    sock = Socket(net.host, AF_INET6, SOCK_RAW, u.IPPROTO_ICMPV6)
    sock.setblocking(False)
    sock.setsockopt(u.SOL_IPV6, u.MRT6_INIT, 1)
    for number in (0, 1):
        sock.setsockopt(u.SOL_IPV6, u.MRT6_ADD_MIF, mif(number, number + 2))
    heard(sock)
    return net, sock


def heard(sock: Socket) -> list[int]:
    """Types of the messages to the daemon."""
    got = []
    while True:
        try:
            data = sock.recv(999)
        except BlockingIOError:
            return got
        if not data[0]:
            got.append(data[1])


def packet(number: int) -> Any:
    return IPv6(src=PEER, dst=GROUP6, hlim=9, nh=59) / Raw(bytes((number,)))


def sent(net: Net6) -> list[int]:
    """Which of the packets left by the second wire."""
    return [f[54] for f in net.frames(wire=1) if f[20] == 59]


def test_four_packets_wait_and_leave_in_their_order() -> None:
    net, sock = daemon()
    for number in range(7):
        net.inject(packet(number))
    assert heard(sock) == [1]
    assert sent(net) == []
    sock.setsockopt(u.SOL_IPV6, u.MRT6_ADD_MFC, mf6c(PEER, GROUP6, 0, 1))
    assert sent(net) == [0, 1, 2, 3]
    net.host.close()


def test_what_waits_is_dropped_after_ten_seconds_and_asked_for_again() -> None:
    net, sock = daemon()
    net.inject(packet(0))
    net.run(9 * S)
    net.inject(packet(1))
    assert heard(sock) == [1]
    net.run(2 * S)
    net.inject(packet(2))
    assert heard(sock) == [1]
    sock.setsockopt(u.SOL_IPV6, u.MRT6_ADD_MFC, mf6c(PEER, GROUP6, 0, 1))
    assert sent(net) == [2]
    net.host.close()


def test_without_room_at_the_daemons_socket_nothing_waits() -> None:
    net, sock = daemon()
    sock.setsockopt(u.SOL_SOCKET, u.SO_RCVBUF, 1)
    for last in range(1, 99):
        net.inject(IPv6(src=f"2001:db8::{last:x}", dst=GROUP6, hlim=9, nh=59) / Raw(b"x"))
    waiting = len(net.host.ipv6.mrt.mfc_unres_queue)
    assert 0 < waiting < 98
    assert len(heard(sock)) == waiting
    net.host.close()


def test_the_first_byte_of_a_message_is_that_of_no_icmpv6() -> None:
    net, sock = daemon()
    net.inject(packet(0))
    data, where = sock.recvfrom(999)
    kind, number, pad = struct.unpack_from("=BHI", data, 1)
    assert (data[0], kind, number, pad, len(data)) == (0, 1, 0, 0, 80)
    assert where[0] == PEER
    net.host.close()
