"""stack/inet/ping.py"""

from __future__ import annotations

import errno
import struct

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from stack.core.bsd_socket import (
    sys_bind,
    sys_close,
    sys_connect,
    sys_getsockname,
    sys_recvfrom,
    sys_recvmsg,
    sys_send,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
)
from stack.core.iov import msghdr
from stack.core.uapi import (
    AF_INET,
    IP_RECVERR,
    IP_RECVTTL,
    IP_TRANSPARENT,
    IP_TTL,
    IPPROTO_ICMP,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    SOCK_DGRAM,
    SOL_IP,
)
from tests.stack.ipv4.net import FAR, ME, PEER, Net, at, show
from tests.support import errno_of


def ping_socket(net: Net) -> int:
    return sys_socket(net.host, AF_INET, SOCK_DGRAM, IPPROTO_ICMP)


def echo(seq: int, data: bytes = b"") -> bytes:
    return struct.pack("!BBHHH", 8, 0, 0, 0xDEAD, seq) + data


def test_request_gets_the_sockets_identifier_and_a_checksum(net: Net) -> None:
    fd = ping_socket(net)
    sys_sendto(net.host, fd, echo(3, b"abc"), 0, at(PEER, 0))
    (packet,) = net.ip_sent()
    ident = sys_getsockname(net.host, fd).port
    assert (packet[ICMP].type, packet[ICMP].id, packet[ICMP].seq) == (8, ident, 3)
    assert bytes(packet[ICMP].payload) == b"abc"
    assert net.host.mib.icmp.OutEchos == 1


def test_reply_comes_to_its_socket_only(net: Net) -> None:
    one, two = ping_socket(net), ping_socket(net)
    for fd in (one, two):
        sys_sendto(net.host, fd, echo(1), 0, at(PEER, 0))
    first, second = net.ip_sent()
    assert first[ICMP].id != second[ICMP].id
    net.inject(IP(src=PEER, dst=ME, ttl=9) / ICMP(type=0, id=second[ICMP].id, seq=1) / b"hi")
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, one, bytearray(9), MSG_DONTWAIT)
    sys_setsockopt(net.host, two, SOL_IP, IP_RECVTTL, 1)
    buf = bytearray(100)
    n, name = sys_recvfrom(net.host, two, buf, MSG_DONTWAIT)
    assert show(name) == (PEER, 0)
    assert (buf[0], bytes(buf[8:n])) == (0, b"hi")
    assert net.host.skb_small.in_use == 0


def test_ttl_of_the_reply_is_reported(net: Net) -> None:
    fd = ping_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_RECVTTL, 1)
    sys_bind(net.host, fd, at(0, 77))
    net.inject(IP(src=PEER, dst=ME, ttl=9) / ICMP(type=0, id=77, seq=1))
    msg = msghdr(None, [bytearray(99)], [])
    sys_recvmsg(net.host, fd, msg, MSG_DONTWAIT)
    assert msg.msg_control == [(SOL_IP, IP_TTL, struct.pack("=i", 9))]


@pytest.mark.parametrize(
    ("data", "err"),
    [(b"short", errno.EINVAL), (b"\0" * 8, errno.EINVAL), (b"\x08\x01" + bytes(6), errno.EINVAL)],
)
def test_only_echo_requests_may_be_sent(net: Net, data: bytes, err: int) -> None:
    assert errno_of(sys_sendto, net.host, ping_socket(net), data, 0, at(PEER, 0)) == err


def test_bind_conflict_and_bad_address(net: Net) -> None:
    one = ping_socket(net)
    sys_bind(net.host, one, at(0, 77))
    assert sys_getsockname(net.host, one) == at(0, 77)
    assert errno_of(sys_bind, net.host, ping_socket(net), at(PEER, 78)) == errno.EADDRNOTAVAIL
    sys_close(net.host, one)
    assert net.host.ping_table == {}
    sys_bind(net.host, ping_socket(net), at(ME, 77))


def test_a_transparent_socket_sends_from_any_address(net: Net) -> None:
    fd = ping_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_TRANSPARENT, 1)
    sys_bind(net.host, fd, at(FAR, 5))
    sys_sendto(net.host, fd, echo(1), 0, at(PEER, 0))
    (packet,) = net.ip_sent()
    assert (packet.src, packet[ICMP].id) == (FAR, 5)


def test_group_range_may_forbid_them(net: Net) -> None:
    net.host.sysctl.ping_group_range = (1, 0)
    with pytest.raises(PermissionError):
        ping_socket(net)
    assert net.host.prot_mem["PING"].sockets_allocated == 0


def test_errors_about_requests(net: Net) -> None:
    fd = ping_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_RECVERR, 1)
    sys_connect(net.host, fd, at(PEER, 0))
    sys_send(net.host, fd, echo(1, b"xyz"))
    (sent,) = net.ip_sent()
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=1) / Raw(bytes(sent)))
    msg = msghdr(None, [bytearray(99)], [])
    n = sys_recvmsg(net.host, fd, msg, MSG_ERRQUEUE)
    assert bytes(msg.buf[8:n]) == b"xyz"
    assert struct.unpack_from("=I", msg.msg_control[0][2])[0] == errno.EHOSTUNREACH


def test_big_pings_are_fragmented(net: Net) -> None:
    fd = ping_socket(net)
    sys_sendto(net.host, fd, echo(1, bytes(65507)), 0, at(PEER, 0))
    parts = net.ip_sent()
    assert len(parts) == 45
    assert (
        errno_of(sys_sendto, net.host, fd, echo(1, bytes(65508)), 0, at(PEER, 0)) == errno.EMSGSIZE
    )
    assert net.host.skb_pages.in_use == 0
