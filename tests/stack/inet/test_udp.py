"""stack/inet/udp.py"""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from stack.core.bsd_socket import (
    sockfd_lookup,
    sys_bind,
    sys_close,
    sys_connect,
    sys_getpeername,
    sys_getsockname,
    sys_getsockopt,
    sys_poll_one,
    sys_recvfrom,
    sys_recvmsg,
    sys_send,
    sys_sendmsg,
    sys_sendto,
    sys_setsockopt,
    sys_shutdown,
    sys_socket,
)
from stack.core.ioctl import sys_ioctl
from stack.core.iov import msghdr
from stack.core.uapi import (
    AF_INET,
    IP_MTU_DISCOVER,
    IP_OPTIONS,
    IP_PKTINFO,
    IP_PMTUDISC_DO,
    IP_RECVERR,
    IP_RECVTOS,
    IP_RECVTTL,
    IP_TOS,
    IP_TTL,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    SHUT_RD,
    SHUT_RDWR,
    SIOCINQ,
    SIOCOUTQ,
    SO_BROADCAST,
    SO_NO_CHECK,
    SO_PEEK_OFF,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_TIMESTAMPNS,
    SOCK_DGRAM,
    SOL_IP,
    SOL_SOCKET,
    SOL_UDP,
    UDP_CORK,
    UDP_GRO,
    UDP_SEGMENT,
)
from tests.stack.ipv4.net import FAR, GW, ME, PEER, Net, at, ip4, one_host, show, udp_socket
from tests.support import errno_of, examples


def recv(net: Net, fd: int, size: int = 65536, flags: int = MSG_DONTWAIT):
    buf = bytearray(size)
    n, name = sys_recvfrom(net.host, fd, buf, flags)
    return bytes(buf[: min(n, size)]), n, name


def test_sendto_emits_a_datagram_scapy_accepts(net: Net, fd: int) -> None:
    assert sys_sendto(net.host, fd, b"hello", 0, at(PEER, 7)) == 5
    (packet,) = net.ip_sent()
    assert (packet.src, packet.dst, packet.ttl, packet.tos) == (ME, PEER, 64, 0)
    assert packet.flags == "DF"
    assert (packet[UDP].sport, packet[UDP].dport) == (5000, 7)
    assert bytes(packet[UDP].payload) == b"hello"
    assert net.host.mib.udp.OutDatagrams == 1


@settings(max_examples=examples(30))
@given(size=st.integers(0, 9000), port=st.integers(1, 65535), ttl=st.integers(1, 255))
def test_any_size_port_and_ttl_is_well_formed(size: int, port: int, ttl: int) -> None:
    net = one_host()
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_TTL, ttl)
    data = bytes(i % 251 for i in range(size))
    sys_sendto(net.host, fd, data, 0, at(PEER, port))
    packets = net.ip_sent()
    joined = b"".join(bytes(p.payload) for p in packets)
    assert all(p.ttl == ttl for p in packets)
    whole = UDP(joined)
    assert whole.dport == port
    assert joined[8:] == data


def test_received_datagram_reaches_its_socket_with_name(net: Net, fd: int) -> None:
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"abc")
    assert sys_poll_one(net.host, fd) & POLLIN
    data, n, name = recv(net, fd)
    assert (data, n, show(name)) == (b"abc", 3, (PEER, 9))
    assert net.host.mib.udp.InDatagrams == 1
    with pytest.raises(BlockingIOError):
        recv(net, fd)


def test_blocking_recv_waits_for_the_datagram(net: Net, fd: int) -> None:
    frame = (
        net.wire.dev.dev_addr
        + b"\x02\0\0\0\0\x02\x08\0"
        + bytes(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"late")
    )
    net.clock.call_at(net.clock.now_ns() + 1_000_000, lambda: net.wire.receive(frame))
    assert recv(net, fd, flags=0)[0] == b"late"


@pytest.mark.parametrize(
    ("mangle", "counter", "reason"),
    [
        (lambda p: p[:20] + p[20:24] + b"\0\x07" + p[26:], "InErrors", "PKT_TOO_SMALL"),
        (lambda p: p[:20] + p[20:24] + b"\xff\xff" + p[26:], "InErrors", "PKT_TOO_SMALL"),
        (lambda p: p[:26] + b"\x12\x34" + p[28:], "InCsumErrors", "UDP_CSUM"),
    ],
)
def test_malformed_datagrams_are_dropped_with_reason(
    net: Net, mangle, counter: str, reason: str, fd: int
) -> None:
    packet = bytes(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"abcd")
    net.inject(mangle(packet))
    assert getattr(net.host.mib.udp, counter) == 1
    assert net.drops() == {f"SKB_DROP_REASON_{reason}": 1}
    with pytest.raises(BlockingIOError):
        recv(net, fd)


def test_short_packet_without_whole_header(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME, proto=17) / Raw(b"\0\1\2"))
    assert net.host.mib.udp.InErrors == 1


def test_zero_checksum_is_accepted(net: Net, fd: int) -> None:
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000, chksum=0) / b"nocheck")
    assert recv(net, fd)[0] == b"nocheck"


def test_so_no_check_sends_zero_checksum(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_NO_CHECK, 1)
    sys_sendto(net.host, fd, b"x", 0, at(PEER, 7))
    assert net.ip_sent()[0][UDP].chksum == 0


def test_padding_behind_the_datagram_is_cut(net: Net, fd: int) -> None:
    udp = bytes(UDP(sport=9, dport=5000, chksum=0, len=11) / b"abc")
    net.inject(IP(src=PEER, dst=ME, proto=17) / Raw(udp + b"PADDING"))
    assert recv(net, fd)[0] == b"abc"


def test_no_socket_answers_port_unreachable(net: Net) -> None:
    sent = IP(src=PEER, dst=ME, id=77) / UDP(sport=9, dport=4242) / b"anyone?"
    net.inject(sent)
    (packet,) = net.ip_sent()
    assert (packet[ICMP].type, packet[ICMP].code) == (3, 3)
    assert bytes(packet[ICMP].payload) == bytes(sent)
    assert net.host.mib.udp.NoPorts == 1
    assert net.drops() == {"SKB_DROP_REASON_NO_SOCKET": 1}


def test_broadcast_without_socket_is_not_answered(net: Net) -> None:
    net.inject(IP(src=PEER, dst="10.0.0.255") / UDP(sport=9, dport=4242), dst=b"\xff" * 6)
    assert net.ip_sent() == []
    assert net.host.mib.udp.IgnoredMulti == 1


def test_broadcast_reaches_every_socket_that_fits(net: Net) -> None:
    fds = []
    for _ in range(3):
        fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
        sys_setsockopt(net.host, fd, SOL_SOCKET, SO_REUSEADDR, 1)
        sys_bind(net.host, fd, at(0, 5000))
        fds.append(fd)
    net.inject(
        IP(src=PEER, dst="255.255.255.255") / UDP(sport=9, dport=5000) / b"all", dst=b"\xff" * 6
    )
    assert [recv(net, fd)[0] for fd in fds] == [b"all"] * 3
    small, pages = net.host.skb_small.in_use, net.host.skb_pages.in_use
    assert (small, pages) == (0, 0)


def test_sending_to_a_broadcast_needs_permission(net: Net) -> None:
    fd = udp_socket(net)
    with pytest.raises(PermissionError):
        sys_sendto(net.host, fd, b"x", 0, at("10.0.0.255", 7))
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_BROADCAST, 1)
    sys_sendto(net.host, fd, b"x", 0, at("10.0.0.255", 7))
    frame = net.frames()[0]
    assert frame[:6] == b"\xff" * 6


def test_more_specific_socket_wins(net: Net) -> None:
    wild = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    exact = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    connected = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    for fd, addr in ((wild, 0), (exact, ip4(ME)), (connected, 0)):
        sys_setsockopt(net.host, fd, SOL_SOCKET, SO_REUSEADDR, 1)
        sys_bind(net.host, fd, at(addr, 5000))
    sys_connect(net.host, connected, at(PEER, 9))
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"to connected")
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=10, dport=5000) / b"to exact")
    assert recv(net, connected)[0] == b"to connected"
    assert recv(net, exact)[0] == b"to exact"
    sys_close(net.host, exact)
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=10, dport=5000) / b"to wild")
    assert recv(net, wild)[0] == b"to wild"


def test_reuseport_spreads_flows_and_keeps_each_on_one_socket(net: Net) -> None:
    fds = []
    for _ in range(4):
        fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
        sys_setsockopt(net.host, fd, SOL_SOCKET, SO_REUSEPORT, 1)
        sys_bind(net.host, fd, at(0, 5000))
        fds.append(fd)
    for _ in range(2):
        for sport in range(1000, 1040):
            net.inject(IP(src=PEER, dst=ME) / UDP(sport=sport, dport=5000) / b"f")
    where: dict[int, set[int]] = {}
    for fd in fds:
        while True:
            try:
                _, _, name = recv(net, fd)
            except BlockingIOError:
                break
            where.setdefault(name.port, set()).add(fd)
    assert all(len(v) == 1 for v in where.values())
    assert len(set().union(*where.values())) > 1


def test_bind_conflicts(net: Net) -> None:
    udp_socket(net, 5000)
    fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    with pytest.raises(OSError, match="in use") as info:
        sys_bind(net.host, fd, at(ME, 5000))
    assert info.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="not an address") as info:
        sys_bind(net.host, fd, at(PEER, 5001))
    assert info.value.errno == errno.EADDRNOTAVAIL
    sys_bind(net.host, fd, at(ME, 5001))
    with pytest.raises(OSError, match="bound") as info:
        sys_bind(net.host, fd, at(ME, 5002))
    assert info.value.errno == errno.EINVAL


def test_ephemeral_ports_are_in_range_and_unique(net: Net) -> None:
    net.host.sysctl.ip_local_port_range = (40000, 40009)
    ports = set()
    for _ in range(10):
        fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
        sys_sendto(net.host, fd, b"", 0, at(PEER, 7))
        ports.add(sys_getsockname(net.host, fd).port)
    assert ports == set(range(40000, 40010))
    fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    with pytest.raises(BlockingIOError):
        sys_sendto(net.host, fd, b"", 0, at(PEER, 7))


def test_connect_fixes_peer_and_filters(net: Net, fd: int) -> None:
    sys_connect(net.host, fd, at(PEER, 9))
    assert show(sys_getsockname(net.host, fd)) == (ME, 5000)
    assert show(sys_getpeername(net.host, fd)) == (PEER, 9)
    sys_send(net.host, fd, b"one")
    assert net.ip_sent()[0][UDP].dport == 9
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=10, dport=5000) / b"stranger")
    assert net.host.mib.udp.NoPorts == 1
    sys_connect(net.host, fd, None)
    with pytest.raises(OSError, match="not connected") as info:
        sys_getpeername(net.host, fd)
    assert info.value.errno == errno.ENOTCONN
    with pytest.raises(OSError, match="destination") as info:
        sys_send(net.host, fd, b"x")
    assert info.value.errno == errno.EDESTADDRREQ
    assert show(sys_getsockname(net.host, fd)) == ("0.0.0.0", 5000)


def test_unreachable_destination_raises_enetunreach(net: Net) -> None:
    fd = udp_socket(net)
    with pytest.raises(OSError, match="Network is unreachable") as info:
        sys_sendto(net.host, fd, b"x", 0, at(FAR, 7))
    assert info.value.errno == errno.ENETUNREACH
    assert net.host.mib.ip.OutNoRoutes >= 1


def test_icmp_error_becomes_the_connected_sockets_error(net: Net, fd: int) -> None:
    sys_connect(net.host, fd, at(PEER, 9))
    sys_send(net.host, fd, b"x")
    (sent,) = net.ip_sent()
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / Raw(bytes(sent)))
    assert sys_poll_one(net.host, fd) & POLLERR
    with pytest.raises(ConnectionRefusedError):
        recv(net, fd)
    with pytest.raises(BlockingIOError):
        recv(net, fd)


def test_error_queue_holds_what_failed(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_IP, IP_RECVERR, 1)
    sys_sendto(net.host, fd, b"payload", 0, at(PEER, 9))
    (sent,) = net.ip_sent()
    net.inject(IP(src=GW, dst=ME) / ICMP(type=11, code=0) / Raw(bytes(sent)))
    msg = msghdr(None, [bytearray(100)], [])
    n = sys_recvmsg(net.host, fd, msg, MSG_ERRQUEUE)
    assert n == 7
    assert msg.msg_flags & MSG_ERRQUEUE
    assert show(msg.msg_name) == (PEER, 9)
    ((level, kind, data),) = msg.msg_control
    assert (level, kind) == (SOL_IP, IP_RECVERR)
    err, origin, etype, code = struct.unpack_from("=IBBB", data)
    assert (err, origin, etype, code) == (errno.EHOSTUNREACH, 2, 11, 0)
    assert data[20:24] == bytes([10, 0, 0, 254])
    with pytest.raises(BlockingIOError):
        sys_recvmsg(net.host, fd, msg, MSG_ERRQUEUE)


def test_pmtu_error_shrinks_the_path_and_do_refuses(net: Net, fd: int) -> None:
    sys_connect(net.host, fd, at(PEER, 9))
    sys_setsockopt(net.host, fd, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    sys_send(net.host, fd, bytes(1472))
    (sent,) = net.ip_sent()
    net.inject(IP(src=GW, dst=ME) / ICMP(type=3, code=4, nexthopmtu=1000) / Raw(bytes(sent)[:28]))
    assert errno_of(recv, net, fd) == errno.EMSGSIZE
    assert sys_getsockopt(net.host, fd, SOL_IP, 14) == 1000
    assert errno_of(sys_send, net.host, fd, bytes(973)) == errno.EMSGSIZE
    sys_send(net.host, fd, bytes(972))
    assert net.ip_sent()[0].len == 1000
    net.run(601 * 10**9)
    assert sys_getsockopt(net.host, fd, SOL_IP, 14) == 1500


def test_pmtu_want_fragments_after_learning(net: Net, fd: int) -> None:
    sys_sendto(net.host, fd, bytes(1472), 0, at(PEER, 9))
    (sent,) = net.ip_sent()
    net.inject(IP(src=GW, dst=ME) / ICMP(type=3, code=4, nexthopmtu=576) / Raw(bytes(sent)[:28]))
    sys_sendto(net.host, fd, bytes(1472), 0, at(PEER, 9))
    packets = net.ip_sent()
    assert len(packets) == 3
    assert all(p.len <= 576 for p in packets)


def test_too_long_datagrams_are_refused(net: Net) -> None:
    fd = udp_socket(net)
    for size in (65508, 70000):
        assert errno_of(sys_sendto, net.host, fd, bytes(size), 0, at(PEER, 7)) == errno.EMSGSIZE
    assert sys_sendto(net.host, fd, bytes(65507), 0, at(PEER, 7)) == 65507
    assert net.host.skb_pages.in_use == 0


def test_argument_errors(net: Net) -> None:
    fd = udp_socket(net)
    for args, err in (
        ((b"x", MSG_OOB, at(PEER, 7)), errno.EOPNOTSUPP),
        ((b"x", 0, at(PEER, 0)), errno.EINVAL),
        ((b"x", 0, None), errno.EDESTADDRREQ),
    ):
        assert errno_of(sys_sendto, net.host, fd, *args) == err


def test_truncation_is_flagged_and_msg_trunc_tells_the_length(net: Net, fd: int) -> None:
    for _ in range(2):
        net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"0123456789")
    msg = msghdr(None, [bytearray(4)])
    assert sys_recvmsg(net.host, fd, msg, MSG_DONTWAIT) == 4
    assert msg.msg_flags & MSG_TRUNC
    assert recv(net, fd, 4, MSG_DONTWAIT | MSG_TRUNC)[:2] == (b"0123", 10)


def test_peek_leaves_the_datagram(net: Net, fd: int) -> None:
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"look")
    for _ in range(3):
        assert recv(net, fd, flags=MSG_PEEK | MSG_DONTWAIT)[0] == b"look"
    assert recv(net, fd)[0] == b"look"
    assert net.host.skb_small.in_use == 0


def test_peek_off_walks_through_the_datagram(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_PEEK_OFF, 0)
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"abcdef")
    assert recv(net, fd, 2, MSG_PEEK | MSG_DONTWAIT)[0] == b"ab"
    assert recv(net, fd, 2, MSG_PEEK | MSG_DONTWAIT)[0] == b"cd"
    assert recv(net, fd, 9, MSG_PEEK | MSG_DONTWAIT)[0] == b"ef"
    assert recv(net, fd)[0] == b"abcdef"


def test_scattered_buffers_both_ways(net: Net, fd: int) -> None:
    msg = msghdr(at(PEER, 9), [b"ab", b"", bytearray(b"cd"), memoryview(b"ef")])
    assert sys_sendmsg(net.host, fd, msg) == 6
    assert bytes(net.ip_sent()[0][UDP].payload) == b"abcdef"
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"abcdef")
    parts = [bytearray(1), bytearray(3), bytearray(5)]
    assert sys_recvmsg(net.host, fd, msghdr(None, parts), MSG_DONTWAIT) == 6
    assert [bytes(p) for p in parts] == [b"a", b"bcd", b"ef\0\0\0"]


def test_control_messages_on_receive(net: Net, fd: int) -> None:
    for opt in (IP_PKTINFO, IP_RECVTTL, IP_RECVTOS):
        sys_setsockopt(net.host, fd, SOL_IP, opt, 1)
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_TIMESTAMPNS, 1)
    net.inject(IP(src=PEER, dst=ME, ttl=33, tos=0x20) / UDP(sport=9, dport=5000) / b"x")
    msg = msghdr(None, [bytearray(10)], [])
    sys_recvmsg(net.host, fd, msg, MSG_DONTWAIT)
    got = {(level, kind): data for level, kind, data in msg.msg_control}
    assert struct.unpack("=i", got[SOL_IP, IP_TTL])[0] == 33
    assert got[SOL_IP, IP_TOS] == b"\x20"
    ifindex, spec, addr = struct.unpack("=i4s4s", got[SOL_IP, IP_PKTINFO])
    assert ifindex == net.wire.dev.ifindex
    assert spec == addr == bytes([10, 0, 0, 1])
    assert (SOL_SOCKET, SO_TIMESTAMPNS) in got


def test_control_messages_on_send(net: Net) -> None:
    net.host.ifconfig("eth0", "10.0.0.77/24")
    fd = udp_socket(net)
    info = struct.pack("=i4s4s", 0, bytes([10, 0, 0, 77]), bytes(4))
    control = [
        (SOL_IP, IP_PKTINFO, info),
        (SOL_IP, IP_TTL, struct.pack("=i", 3)),
        (SOL_IP, IP_TOS, struct.pack("=i", 0x10)),
    ]
    sys_sendmsg(net.host, fd, msghdr(at(PEER, 9), [b"x"], control))
    (packet,) = net.ip_sent()
    assert (packet.src, packet.ttl, packet.tos) == ("10.0.0.77", 3, 0x10)
    for bad in ((SOL_IP, IP_TTL, struct.pack("=i", 0)), (SOL_IP, IP_PKTINFO, b"short")):
        assert (
            errno_of(sys_sendmsg, net.host, fd, msghdr(at(PEER, 9), [b"x"], [bad])) == errno.EINVAL
        )


def test_msg_more_and_cork_collect_one_datagram(net: Net) -> None:
    fd = udp_socket(net)
    sys_sendto(net.host, fd, b"one ", MSG_MORE, at(PEER, 9))
    sys_sendto(net.host, fd, b"two ", MSG_MORE, None)
    assert net.ip_sent() == []
    sys_sendto(net.host, fd, b"three", 0, None)
    (packet,) = net.ip_sent()
    assert bytes(packet[UDP].payload) == b"one two three"
    sys_connect(net.host, fd, at(PEER, 9))
    sys_setsockopt(net.host, fd, SOL_UDP, UDP_CORK, 1)
    for i in range(400):
        sys_send(net.host, fd, bytes([i % 256]) * 10)
    sys_setsockopt(net.host, fd, SOL_UDP, UDP_CORK, 0)
    data = b"".join(bytes(p.payload) for p in net.ip_sent())[8:]
    assert data == b"".join(bytes([i % 256]) * 10 for i in range(400))
    assert sockfd_lookup(net.host, fd).sk.sk_wmem_alloc == 0


def test_closing_a_corked_socket_frees_its_datagram(net: Net) -> None:
    fd = udp_socket(net)
    sys_sendto(net.host, fd, bytes(5000), MSG_MORE, at(PEER, 9))
    sys_close(net.host, fd)
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0
    assert net.ip_sent() == []


def test_receive_buffer_limit_counts_drops(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_SOCKET, SO_RCVBUF, 4096)
    for _ in range(50):
        net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / bytes(1000))
    sk = sockfd_lookup(net.host, fd).sk
    assert sk.sk_drops == net.host.mib.udp.RcvbufErrors > 0
    while True:
        try:
            recv(net, fd)
        except BlockingIOError:
            break
    assert sk.sk_rmem_alloc == 0
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"again")
    assert recv(net, fd)[0] == b"again"


@pytest.mark.parametrize("flags", [MSG_DONTWAIT, MSG_DONTWAIT | MSG_MORE], ids=["plain", "corked"])
def test_no_room_to_send_is_counted(net: Net, fd: int, flags: int) -> None:
    sk = sockfd_lookup(net.host, fd).sk
    sk.sk_wmem_alloc += 2 * sk.sk_sndbuf
    for count in (1, 2):
        with pytest.raises(BlockingIOError):
            sys_sendto(net.host, fd, b"x", flags, at(PEER, 7))
        assert net.host.mib.udp.SndbufErrors == count
    sk.sk_wmem_alloc -= 2 * sk.sk_sndbuf
    sys_sendto(net.host, fd, b"x", 0, at(PEER, 7))
    assert net.host.mib.udp.SndbufErrors == 2


def test_memory_is_returned_at_close(net: Net, fd: int) -> None:
    for _ in range(20):
        net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / bytes(500))
    sys_close(net.host, fd)
    assert net.host.skb_small.in_use == 0
    assert net.host.prot_mem["UDP"].memory_allocated == 0
    assert net.host.prot_mem["UDP"].sockets_allocated == 0


def test_gso_segments_reach_the_wire_as_datagrams(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_UDP, UDP_SEGMENT, 500)
    data = bytes(i % 251 for i in range(2750))
    sys_sendto(net.host, fd, data, 0, at(PEER, 9))
    packets = net.ip_sent()
    assert [len(p[UDP].payload) for p in packets] == [500] * 5 + [250]
    assert b"".join(bytes(p[UDP].payload) for p in packets) == data
    assert len({p.id for p in packets}) in (1, 6)
    assert errno_of(sys_setsockopt, net.host, fd, SOL_UDP, UDP_SEGMENT, 1 << 17) == errno.EINVAL
    sys_setsockopt(net.host, fd, SOL_UDP, UDP_SEGMENT, 1473)
    assert errno_of(sys_sendto, net.host, fd, bytes(5000), 0, at(PEER, 9)) == errno.EMSGSIZE
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


@pytest.mark.parametrize("connected", [False, True])
def test_segments_by_the_flow_are_those_of_the_general_path(net: Net, connected: bool) -> None:
    """With the socket's option a flow is used, with a control message the path without one."""
    fds = [udp_socket(net), udp_socket(net)]
    for fd in fds if connected else ():
        sys_connect(net.host, fd, at(PEER, 9))
    for size, length in (
        (500, 0), (500, 500), (500, 501), (500, 2750), (1472, 2944), (1473, 1473), (1473, 1474),
        (1, 128), (1, 129), (512, 65507), (512, 65508), (1400, 65507), (60000, 1000), (700, 1400),
    ):  # fmt: skip
        data = bytes(i % 251 for i in range(length))
        sys_setsockopt(net.host, fds[0], SOL_UDP, UDP_SEGMENT, size)
        results = []
        for fd, control in ((fds[0], None), (fds[1], [(SOL_UDP, UDP_SEGMENT, size)])):
            msg = msghdr(None if connected else at(PEER, 9), data, control)
            before = net.host.mib.udp.OutDatagrams
            try:
                sent: int | None = sys_sendmsg(net.host, fd, msg)
            except OSError as exc:
                sent = exc.errno
            net.run(10)
            packets = net.ip_sent()  # without the UDP header of what is no later fragment
            pieces = [(bytes(p.payload)[0 if p.frag else 8 :], p.flags, p.frag) for p in packets]
            results.append((sent, net.host.mib.udp.OutDatagrams - before, pieces))
        assert results[0] == results[1], (size, length)
        assert b"".join(piece[0] for piece in results[0][2]) in (data, b"")
    assert net.host.skb_small.in_use == net.host.skb_pages.in_use == 0


def test_udp_options(net: Net) -> None:
    fd = udp_socket(net)
    for opt in (UDP_CORK, UDP_GRO):
        sys_setsockopt(net.host, fd, SOL_UDP, opt, 1)
        assert sys_getsockopt(net.host, fd, SOL_UDP, opt) == 1
    assert errno_of(sys_setsockopt, net.host, fd, SOL_UDP, 9999, 1) == errno.ENOPROTOOPT


def test_ioctl_and_poll(net: Net, fd: int) -> None:
    assert sys_poll_one(net.host, fd) & POLLOUT
    assert sys_ioctl(net.host, fd, SIOCINQ) == 0
    net.inject(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / b"12345")
    assert sys_ioctl(net.host, fd, SIOCINQ) == 5
    assert sys_ioctl(net.host, fd, SIOCOUTQ) == 0
    assert errno_of(sys_ioctl, net.host, fd, 0xDEAD) == errno.ENOTTY


def test_shutdown(net: Net, fd: int) -> None:
    assert errno_of(sys_shutdown, net.host, fd, SHUT_RD) == errno.ENOTCONN
    sys_connect(net.host, fd, at(PEER, 9))
    sys_shutdown(net.host, fd, SHUT_RD)
    assert recv(net, fd, flags=0)[1] == 0
    with pytest.raises(BlockingIOError):
        recv(net, fd)
    assert errno_of(sys_shutdown, net.host, fd, 7) == errno.EINVAL
    sys_shutdown(net.host, fd, SHUT_RDWR)
    assert sys_poll_one(net.host, fd) & POLLHUP
    with pytest.raises(BrokenPipeError):
        sys_send(net.host, fd, b"x")


def test_ip_options_go_out_with_datagrams(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_OPTIONS, b"\x07\x07\x04\0\0\0\0\0")
    sys_sendto(net.host, fd, b"x", 0, at(PEER, 9))
    (packet,) = net.ip_sent()
    assert packet.ihl == 7
    assert bytes(packet)[20:28] == b"\x07\x07\x08" + bytes([10, 0, 0, 1]) + b"\0"


def test_datagram_to_own_address_comes_back_over_loopback(net: Net) -> None:
    rx = udp_socket(net, 5000)
    tx = udp_socket(net)
    sys_sendto(net.host, tx, b"self", 0, at(ME, 5000))
    assert net.frames() == []
    net.run(1000)
    data, _, name = recv(net, rx)
    assert data == b"self"
    assert show(name)[0] == ME


def test_merged_datagrams_are_split_unless_the_reader_wants_them_whole() -> None:
    from e1000emu.lab import two_hosts

    a, b = two_hosts()
    there = next(i.ifa_local for i in b.dev("eth0").ip_ptr.ifa_list)
    tx, rx, plain = (sys_socket(h, AF_INET, SOCK_DGRAM) for h in (a, b, b))
    sys_bind(b, rx, at(0, 5000))
    sys_bind(b, plain, at(0, 5001))
    sys_setsockopt(b, rx, SOL_UDP, UDP_GRO, 1)
    b.ifconfig("eth0", up=False)
    b.ifconfig("eth0", up=True)
    a.wait_carrier("eth0")
    b.wait_carrier("eth0")
    sys_setsockopt(a, tx, SOL_UDP, UDP_SEGMENT, 1000)
    data = bytes(i % 251 for i in range(20500))
    sys_sendto(a, tx, data, 0, at(there, 5000))
    msg = msghdr(None, [bytearray(65536)], [])
    assert sys_recvmsg(b, rx, msg) == 20500
    assert msg.msg_control == [(SOL_UDP, UDP_GRO, struct.pack("=i", 1000))]
    assert bytes(msg.buf[:20500]) == data
    sys_sendto(a, tx, data, 0, at(there, 5001))
    parts = []
    while sum(map(len, parts)) < len(data):
        buf = bytearray(2000)
        n, _ = sys_recvfrom(b, plain, buf)
        parts.append(bytes(buf[:n]))
    assert [len(p) for p in parts] == [1000] * 20 + [500]
    assert b"".join(parts) == data
    assert b.skb_small.in_use == b.skb_pages.in_use == 0


@settings(max_examples=examples(150))
@given(st.binary(max_size=120), st.integers(0, 65535))
def test_no_bytes_after_the_ip_header_crash_udp(data: bytes, dport: int) -> None:
    net = _fuzz_net()
    net.inject(IP(src=PEER, dst=ME, proto=17) / Raw(data))
    net.inject(IP(src=PEER, dst=ME, proto=17) / Raw(b"\0\7" + dport.to_bytes(2, "big") + data))


_FUZZ: list[Net] = []


def _fuzz_net() -> Net:
    if not _FUZZ:
        _FUZZ.append(one_host())
        udp_socket(_FUZZ[0], 7)
    return _FUZZ[0]


def test_unread_sockets_cannot_take_all_buffers(net: Net) -> None:
    fds = [udp_socket(net, 5000 + i) for i in range(60)]
    packets = [bytes(IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000 + i) / b"x") for i in range(60)]
    for _ in range(40):
        for packet in packets:
            net.inject(packet)
    host = net.host
    mem = host.prot_mem["UDP"]
    assert mem.memory_allocated <= mem.sysctl_mem[2] + 60 * 4096
    assert host.mib.udp.MemErrors > 0
    assert host.skb_small.available > host.skb_small.count // 2
    for fd in fds:
        sys_close(host, fd)
    assert mem.memory_allocated == 0
    assert host.skb_small.in_use == 0
