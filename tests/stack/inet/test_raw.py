"""stack/inet/raw.py"""

from __future__ import annotations

import errno
import struct

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.api.socket import Socket
from stack.core.bsd_socket import (
    sockfd_lookup,
    sys_bind,
    sys_close,
    sys_connect,
    sys_getsockopt,
    sys_recvfrom,
    sys_recvmsg,
    sys_send,
    sys_sendto,
    sys_setsockopt,
    sys_socket,
)
from stack.core.ioctl import sys_ioctl
from stack.core.iov import msghdr
from stack.core.uapi import (
    AF_INET,
    AF_INET6,
    ICMP_FILTER,
    IP_HDRINCL,
    IP_PKTINFO,
    IP_RECVERR,
    IPPROTO_ICMP,
    IPPROTO_RAW,
    IPPROTO_UDP,
    IPV6_CHECKSUM,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_TRUNC,
    SIOCINQ,
    SO_RCVBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOL_IP,
    SOL_IPV6,
    SOL_RAW,
    SOL_SOCKET,
)
from tests.stack.ipv4.net import ME, PEER, Net, at, show, udp_socket
from tests.support import errno_of


def raw_socket(net: Net, protocol: int) -> int:
    return sys_socket(net.host, AF_INET, SOCK_RAW, protocol)


def recv(net: Net, fd: int, size: int = 4096) -> tuple[bytes, tuple]:
    buf = bytearray(size)
    n, name = sys_recvfrom(net.host, fd, buf, MSG_DONTWAIT)
    return bytes(buf[:n]), name


def test_raw_socket_and_handler_both_get_the_packet(net: Net) -> None:
    raw = raw_socket(net, IPPROTO_UDP)
    other = raw_socket(net, IPPROTO_UDP)
    udp = udp_socket(net, 5000)
    packet = bytes(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"both")
    net.inject(packet)
    for fd in (raw, other):
        data, name = recv(net, fd)
        assert data == packet
        assert show(name) == (PEER, 0)
    assert recv(net, udp)[0] == b"both"
    assert net.host.skb_small.in_use == 0


def test_unknown_protocol_with_raw_socket_is_not_unreachable(net: Net) -> None:
    raw = raw_socket(net, 200)
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(b"mine"))
    assert recv(net, raw)[0][20:] == b"mine"
    assert net.ip_sent() == []
    sys_close(net.host, raw)
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(b"mine"))
    assert net.ip_sent()[0][ICMP].code == 2


def test_send_payload_gets_an_ip_header(net: Net) -> None:
    raw = raw_socket(net, 200)
    assert sys_sendto(net.host, raw, b"payload", 0, at(PEER, 0)) == 7
    (packet,) = net.ip_sent()
    assert (packet.proto, packet.src, bytes(packet.payload)) == (200, ME, b"payload")
    sys_sendto(net.host, raw, bytes(5000), 0, at(PEER, 0))
    assert sum(len(p.payload) for p in net.ip_sent()) == 5000
    assert net.host.skb_pages.in_use == 0


def test_header_included_is_completed(net: Net) -> None:
    raw = raw_socket(net, IPPROTO_RAW)
    assert sys_getsockopt(net.host, raw, SOL_IP, IP_HDRINCL) == 1
    mine = bytearray(bytes(IP(src="0.0.0.0", dst=PEER, proto=99, id=0, ttl=7) / Raw(b"data")))
    mine[2:4] = b"\0\0"
    mine[10:12] = b"\0\0"
    sys_sendto(net.host, raw, bytes(mine), 0, at(PEER, 0))
    (packet,) = net.ip_sent()
    assert (packet.src, packet.ttl, packet.proto, packet.len) == (ME, 7, 99, 24)
    assert packet.id != 0
    spoof = bytes(IP(src="1.2.3.4", dst=PEER, proto=99, id=5) / Raw(b"data"))
    sys_sendto(net.host, raw, spoof, 0, at(PEER, 0))
    assert (lambda p: (p.src, p.id))(net.ip_sent()[0]) == ("1.2.3.4", 5)


@pytest.mark.parametrize(
    ("data", "err"),
    [
        (bytes(19), errno.EINVAL),
        (b"\x44" + bytes(30), errno.EINVAL),
        (b"\x4f" + bytes(30), errno.EINVAL),
        (b"\x45" + bytes(1500), errno.EMSGSIZE),
    ],
)
def test_bad_included_headers(net: Net, data: bytes, err: int) -> None:
    raw = raw_socket(net, IPPROTO_RAW)
    assert errno_of(sys_sendto, net.host, raw, data, 0, at(PEER, 0)) == err
    assert net.host.skb_small.in_use == 0


def test_bound_and_connected_sockets_filter(net: Net) -> None:
    bound, connected = raw_socket(net, 200), raw_socket(net, 200)
    sys_bind(net.host, bound, at("127.0.0.1", 0))
    sys_connect(net.host, connected, at("10.0.0.3", 0))
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(b"x"))
    for fd in (bound, connected):
        with pytest.raises(BlockingIOError):
            recv(net, fd)
    net.inject(IP(src="10.0.0.3", dst=ME, proto=200) / Raw(b"y"))
    assert recv(net, connected)[0][20:] == b"y"
    assert errno_of(sys_bind, net.host, raw_socket(net, 200), at(PEER, 0)) == errno.EADDRNOTAVAIL


def test_icmp_filter(net: Net) -> None:
    raw = raw_socket(net, IPPROTO_ICMP)
    sys_setsockopt(net.host, raw, SOL_RAW, ICMP_FILTER, struct.pack("=I", 1 << 8))
    assert sys_getsockopt(net.host, raw, SOL_RAW, ICMP_FILTER) == 1 << 8
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=8))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=0))
    assert ICMP(recv(net, raw)[0][20:]).type == 0
    with pytest.raises(BlockingIOError):
        recv(net, raw)
    assert (
        errno_of(sys_setsockopt, net.host, raw_socket(net, 200), SOL_RAW, ICMP_FILTER, 0)
        == errno.EOPNOTSUPP
    )


def test_truncation_pktinfo_and_ioctl(net: Net) -> None:
    raw = raw_socket(net, 200)
    sys_setsockopt(net.host, raw, SOL_IP, IP_PKTINFO, 1)
    net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(b"0123456789"))
    assert sys_ioctl(net.host, raw, SIOCINQ) == 30
    msg = msghdr(None, [bytearray(25)], [])
    assert sys_recvmsg(net.host, raw, msg, MSG_DONTWAIT | MSG_TRUNC) == 30
    assert msg.msg_flags & MSG_TRUNC
    ((_, kind, data),) = msg.msg_control
    assert kind == IP_PKTINFO
    assert data[4:8] == bytes([10, 0, 0, 1])


def test_errors_reach_connected_sockets_and_error_queues(net: Net) -> None:
    raw = raw_socket(net, 200)
    sys_connect(net.host, raw, at(PEER, 0))
    sys_send(net.host, raw, b"12345678")
    (sent,) = net.ip_sent()
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=2) / Raw(bytes(sent)))
    assert errno_of(recv, net, raw) == errno.ENOPROTOOPT
    sys_setsockopt(net.host, raw, SOL_IP, IP_RECVERR, 1)
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=12, ptr=1) / Raw(bytes(sent)))
    msg = msghdr(None, [bytearray(99)], [])
    assert sys_recvmsg(net.host, raw, msg, MSG_ERRQUEUE) == 8
    assert struct.unpack_from("=I", msg.msg_control[0][2])[0] == errno.EPROTO


def test_full_receive_buffer_drops(net: Net) -> None:
    raw = raw_socket(net, 200)
    sys_setsockopt(net.host, raw, SOL_SOCKET, SO_RCVBUF, 2048)
    for _ in range(30):
        net.inject(IP(src=PEER, dst=ME, proto=200) / Raw(bytes(500)))
    sk = sockfd_lookup(net.host, raw).sk
    assert sk.sk_drops > 0
    assert net.drops()["SKB_DROP_REASON_SOCKET_RCVBUFF"] == sk.sk_drops
    sys_close(net.host, raw)
    assert net.host.raw_hash == {}
    assert net.host.skb_small.in_use == 0


def test_argument_errors(net: Net) -> None:
    raw = raw_socket(net, 200)
    assert errno_of(sys_send, net.host, raw, b"x") == errno.EDESTADDRREQ
    with pytest.raises(PermissionError):
        sys_sendto(net.host, raw, b"x", 0, at("10.0.0.255", 0))
    assert errno_of(sys_sendto, net.host, raw, bytes(70000), 0, at(PEER, 0)) == errno.EMSGSIZE


@pytest.mark.parametrize("family", [AF_INET, AF_INET6], ids=["IPv4", "IPv6"])
def test_a_card_leaves_the_checksum_of_a_raw_datagram_alone(family: int) -> None:
    """Linux has the card fill in what has a UDP header of its own making only."""
    clock = VirtualClock()
    a, b = two_hosts(clock)
    there = ("10.0.0.2", 700)
    with a, b:
        if family == AF_INET6:
            there = ("fd00::2", 700)
            a.ifconfig("eth0", "fd00::1/64")
            b.ifconfig("eth0", "fd00::2/64")
            clock.run_for(3_000_000_000)  # nobody else has them
        with (
            Socket(a, family, SOCK_RAW, IPPROTO_UDP) as raw,
            Socket(b, family, SOCK_DGRAM) as udp,
        ):
            udp.bind(there)
            header = struct.pack("!HHHH", 600, 700, 13, 0)
            if family == AF_INET6:
                raw.setsockopt(SOL_IPV6, IPV6_CHECKSUM, 6)
            raw.sendto(header + b"hello", (there[0], 0))
            udp.settimeout(5)
            data, source = udp.recvfrom(99)
            assert (data, source[1]) == (b"hello", 600)
