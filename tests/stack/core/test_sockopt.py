"""stack/core/sockopt.py and stack/ipv4/ip_sockglue.py: options and control messages."""

from __future__ import annotations

import errno
import struct

import pytest

from e1000emu.clock import EPOCH_NS
from stack.core import uapi as u
from stack.core.bsd_socket import (
    sockfd_lookup,
    sys_bind,
    sys_getsockopt,
    sys_recv,
    sys_sendmsg,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
)
from stack.core.ioctl import sys_ioctl
from stack.core.iov import msghdr
from stack.core.sockopt import put_cmsg, sock_timeout_ns, sock_timeval
from stack.host import Host
from tests.stack.ipv4.net import at
from tests.support import errno_of

LO = 0x7F000001


@pytest.fixture
def fd(host: Host) -> int:
    return sys_socket(host, u.AF_INET, u.SOCK_DGRAM)


@pytest.mark.parametrize(
    ("opt", "value"),
    [
        (u.SO_REUSEADDR, 1),
        (u.SO_REUSEPORT, 1),
        (u.SO_BROADCAST, 1),
        (u.SO_KEEPALIVE, 1),
        (u.SO_DONTROUTE, 1),
        (u.SO_OOBINLINE, 1),
        (u.SO_DEBUG, 1),
        (u.SO_NO_CHECK, 1),
        (u.SO_PRIORITY, 5),
        (u.SO_MARK, 77),
        (u.SO_RCVLOWAT, 9),
        (u.SO_TIMESTAMP, 1),
        (u.SO_TIMESTAMPNS, 1),
        (u.SO_RXQ_OVFL, 1),
        (u.SO_PEEK_OFF, 3),
        (u.SO_SELECT_ERR_QUEUE, 1),
        (u.SO_BINDTOIFINDEX, 1),
    ],
)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_int_options_read_back(host: Host, fd: int, opt: int, value: int, as_bytes: bool) -> None:
    given = struct.pack("=i", value) if as_bytes else value
    sys_setsockopt(host, fd, u.SOL_SOCKET, opt, given)
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, opt) == value
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, opt, 4) == struct.pack("=i", value)


@pytest.mark.parametrize(
    ("opt", "value"),
    [
        (u.IP_TOS, 0x10),
        (u.IP_TTL, 5),
        (u.IP_MTU_DISCOVER, 2),
        (u.IP_RECVERR, 1),
        (u.IP_PKTINFO, 1),
        (u.IP_RECVTTL, 1),
        (u.IP_RECVTOS, 1),
        (u.IP_RECVOPTS, 1),
        (u.IP_RETOPTS, 1),
        (u.IP_ORIGDSTADDR, 1),
        (u.IP_CHECKSUM, 1),
        (u.IP_RECVFRAGSIZE, 1),
        (u.IP_MULTICAST_TTL, 7),
        (u.IP_MULTICAST_LOOP, 0),
        (u.IP_MULTICAST_ALL, 0),
        (u.IP_FREEBIND, 1),
        (u.IP_TRANSPARENT, 1),
        (u.IP_MINTTL, 3),
        (u.IP_BIND_ADDRESS_NO_PORT, 1),
        (u.IP_LOCAL_PORT_RANGE, 40100 << 16 | 40000),
        (u.IP_UNICAST_IF, 1 << 24),
    ],
)
def test_ip_options_read_back(host: Host, fd: int, opt: int, value: int) -> None:
    sys_setsockopt(host, fd, u.SOL_IP, opt, value)
    assert sys_getsockopt(host, fd, u.SOL_IP, opt) == value


@pytest.mark.parametrize(
    ("level", "opt", "value", "err"),
    [
        (u.SOL_SOCKET, 9999, 1, errno.ENOPROTOOPT),
        (u.SOL_SOCKET, u.SO_TYPE, 1, errno.ENOPROTOOPT),
        (u.SOL_SOCKET, u.SO_REUSEADDR, b"\1", errno.EINVAL),
        (u.SOL_SOCKET, u.SO_RCVTIMEO, b"short", errno.EINVAL),
        (u.SOL_SOCKET, u.SO_RCVTIMEO, struct.pack("=qq", 1, 1_000_000), errno.EDOM),
        (u.SOL_SOCKET, u.SO_LINGER, b"123", errno.EINVAL),
        (u.SOL_SOCKET, u.SO_BINDTODEVICE, b"nope\0", errno.ENODEV),
        (u.SOL_IP, 9999, 1, errno.ENOPROTOOPT),
        (u.SOL_IP, u.IP_TTL, 256, errno.EINVAL),
        (u.SOL_IP, u.IP_TTL, 0, errno.EINVAL),
        (u.SOL_IP, u.IP_MTU_DISCOVER, 6, errno.EINVAL),
        (u.SOL_IP, u.IP_MULTICAST_TTL, 256, errno.EINVAL),
        (u.SOL_IP, u.IP_HDRINCL, 1, errno.ENOPROTOOPT),
        (u.SOL_IP, u.IP_MINTTL, 300, errno.EINVAL),
        (u.SOL_IP, u.IP_ROUTER_ALERT, 1, errno.EINVAL),
        (u.SOL_IP, u.IP_MULTICAST_IF, b"12", errno.EINVAL),
        (u.SOL_IP, u.IP_UNICAST_IF, 99, errno.EADDRNOTAVAIL),
        (u.SOL_IP, u.IP_LOCAL_PORT_RANGE, 40000 << 16 | 40100, errno.EINVAL),
        (555, 1, 1, errno.ENOPROTOOPT),
    ],
)
def test_option_errors(host: Host, fd: int, level: int, opt: int, value: object, err: int) -> None:
    assert errno_of(sys_setsockopt, host, fd, level, opt, value) == err


def test_buffers_are_doubled_and_bounded(host: Host, fd: int) -> None:
    for opt in (u.SO_SNDBUF, u.SO_RCVBUF):
        sys_setsockopt(host, fd, u.SOL_SOCKET, opt, 10000)
        assert sys_getsockopt(host, fd, u.SOL_SOCKET, opt) == 20000
        sys_setsockopt(host, fd, u.SOL_SOCKET, opt, 1 << 30)
        assert sys_getsockopt(host, fd, u.SOL_SOCKET, opt) == 2 * 212992
        sys_setsockopt(host, fd, u.SOL_SOCKET, opt, 0)
        assert 2000 < sys_getsockopt(host, fd, u.SOL_SOCKET, opt) < 5000
    sys_setsockopt(host, fd, u.SOL_SOCKET, u.SO_RCVBUFFORCE, 1 << 24)
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_RCVBUF) == 1 << 25


def test_structs(host: Host, fd: int) -> None:
    linger = struct.pack("=ii", 1, 7)
    sys_setsockopt(host, fd, u.SOL_SOCKET, u.SO_LINGER, linger)
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_LINGER, 8) == linger
    timeval = struct.pack("=qq", 2, 500_000)
    sys_setsockopt(host, fd, u.SOL_SOCKET, u.SO_SNDTIMEO, timeval)
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_SNDTIMEO) == timeval
    sys_setsockopt(host, fd, u.SOL_SOCKET, u.SO_BINDTODEVICE, b"lo\0")
    assert sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_BINDTODEVICE) == b"lo\0"
    assert len(sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_MEMINFO)) == 36
    assert len(sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_COOKIE)) == 8


def test_what_a_socket_is(host: Host, fd: int) -> None:
    values = [
        sys_getsockopt(host, fd, u.SOL_SOCKET, opt)
        for opt in (u.SO_TYPE, u.SO_PROTOCOL, u.SO_DOMAIN, u.SO_ACCEPTCONN, u.SO_ERROR)
    ]
    assert values == [u.SOCK_DGRAM, u.IPPROTO_UDP, u.AF_INET, 0, 0]
    sockfd_lookup(host, fd).sk.sk_err = 111
    assert [sys_getsockopt(host, fd, u.SOL_SOCKET, u.SO_ERROR) for _ in range(2)] == [111, 0]


@pytest.mark.parametrize(
    ("value", "ns"),
    [(0, 1 << 62), (1.5, 1_500_000_000), (-1, 0), (struct.pack("=qq", -1, 0), 0)],
)
def test_timeouts(value: object, ns: int) -> None:
    assert sock_timeout_ns(value) == ns
    assert len(sock_timeval(ns)) == 16


def test_control_messages_are_cut_to_the_room() -> None:
    msg = msghdr(None, bytearray(1), [])
    msg.msg_controllen = 60
    put_cmsg(msg, 1, 2, b"12345678")
    put_cmsg(msg, 1, 3, b"x" * 40)
    put_cmsg(msg, 1, 4, b"y")
    assert msg.msg_control == [(1, 2, b"12345678"), (1, 3, b"x" * 20)]
    assert msg.msg_flags & u.MSG_CTRUNC
    none = msghdr(None, bytearray(1))
    put_cmsg(none, 1, 2, b"")
    assert none.msg_flags & u.MSG_CTRUNC


def test_stamp_of_the_last_packet(host: Host, fd: int) -> None:
    sys_bind(host, fd, at(LO, 7))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            sys_ioctl(host, fd, u.SIOCGSTAMP)
    host.clock.run_for(3_000_000_000)
    sys_sendto(host, fd, b"x", 0, at(LO, 7))
    sys_recv(host, fd, bytearray(1))
    assert sys_ioctl(host, fd, u.SIOCGSTAMP) == (EPOCH_NS // 10**9 + 3, 0)  # wall time


def test_multicast_interface_option(host: Host, fd: int) -> None:
    sys_setsockopt(host, fd, u.SOL_IP, u.IP_MULTICAST_IF, LO.to_bytes(4, "big"))
    assert sys_getsockopt(host, fd, u.SOL_IP, u.IP_MULTICAST_IF) == LO.to_bytes(4, "big")
    sys_setsockopt(host, fd, u.SOL_IP, u.IP_MULTICAST_IF, bytes(4))
    assert sys_getsockopt(host, fd, u.SOL_IP, u.IP_MULTICAST_IF) == bytes(4)
    assert (
        errno_of(sys_setsockopt, host, fd, u.SOL_IP, u.IP_MULTICAST_IF, b"\1\2\3\4")
        == errno.EADDRNOTAVAIL
    )


def test_mtu_is_for_connected_sockets(host: Host, fd: int) -> None:
    assert errno_of(sys_getsockopt, host, fd, u.SOL_IP, u.IP_MTU) == errno.ENOTCONN


def test_router_alert_chain(host: Host) -> None:
    raw = sys_socket(host, u.AF_INET, u.SOCK_RAW, 46)
    sys_setsockopt(host, raw, u.SOL_IP, u.IP_ROUTER_ALERT, 1)
    assert sys_getsockopt(host, raw, u.SOL_IP, u.IP_ROUTER_ALERT) == 1
    assert errno_of(sys_setsockopt, host, raw, u.SOL_IP, u.IP_ROUTER_ALERT, 1) == errno.EADDRINUSE
    sys_setsockopt(host, raw, u.SOL_IP, u.IP_ROUTER_ALERT, 0)
    assert sys_getsockopt(host, raw, u.SOL_IP, u.IP_ROUTER_ALERT) == 0


def test_many_control_messages_count_to_optmem_max(host: Host, fd: int) -> None:
    few = [(u.SOL_IP, u.IP_TTL, 9)]
    many = [(u.SOL_IP, u.IP_TTL, struct.pack("=i", 9))] * 10
    sys_bind(host, fd, at(LO, 7))
    host.sysctl.optmem_max = 100
    assert sys_sendmsg(host, fd, msghdr(at(LO, 7), b"x", few)) == 1
    with pytest.raises(OSError, match="optmem_max") as info:
        sys_sendmsg(host, fd, msghdr(at(LO, 7), b"x", many))
    assert info.value.errno == errno.ENOBUFS
    host.sysctl.optmem_max = 1000
    assert sys_sendmsg(host, fd, msghdr(at(LO, 7), b"x", many)) == 1
    assert sockfd_lookup(host, fd).sk.sk_omem_alloc == 0
