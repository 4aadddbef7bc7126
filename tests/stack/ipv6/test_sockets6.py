"""AF_INET6 sockets on the wire: UDP, raw and ping, options and control messages; scapy judges."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from typing import Any

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.packet import Raw
from scapy.utils import checksum

from stack.core import uapi
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_ICMPV6,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    SOL_IPV6,
)
from stack.host import Host
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.ipv6.ip6_flowlabel import IPV6_FL_F_CREATE, IPV6_FL_S_ANY, in6_flowlabel_req
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM, Socket
from tests.stack.ipv6.net import ME, ME_LL, PEER, PEER_LL, Net6, ip6
from tests.support import errno_of, require

RECV = {
    uapi.IPV6_RECVPKTINFO: uapi.IPV6_PKTINFO,
    uapi.IPV6_RECVHOPLIMIT: uapi.IPV6_HOPLIMIT,
    uapi.IPV6_RECVTCLASS: uapi.IPV6_TCLASS,
    uapi.IPV6_FLOWINFO: uapi.IPV6_FLOWINFO,
    uapi.IPV6_RECVHOPOPTS: uapi.IPV6_HOPOPTS,
    uapi.IPV6_RECVDSTOPTS: uapi.IPV6_DSTOPTS,
    uapi.IPV6_RECVORIGDSTADDR: uapi.IPV6_ORIGDSTADDR,
}


def udp6(net: Net6, port: int = 0, addr: str = "::") -> Socket:
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM)
    sock.setblocking(False)
    if port:
        sock.bind((addr, port))
    return sock


@pytest.fixture
def sock(net: Net6) -> Socket:
    """A UDP socket bound to port 5000."""
    return udp6(net, 5000)


def test_a_datagram_out_and_one_in(net: Net6, sock: Socket) -> None:
    assert sock.getsockname() == ("::", 5000, 0, 0)
    assert sock.sendto(b"hello", (PEER, 7)) == 5
    (packet,) = net.ip_sent()
    assert (packet.src, packet.dst, packet.hlim) == (ME, PEER, 64)
    assert (packet[UDP].sport, packet[UDP].dport) == (5000, 7)
    assert bytes(packet[UDP].payload) == b"hello"
    net.inject(IPv6(src=PEER, dst=ME) / UDP(sport=7, dport=5000) / b"answer")
    assert sock.recvfrom(99) == (b"answer", (PEER, 7, 0, 0))
    assert net.host.mib.udp6.InDatagrams == net.host.mib.udp6.OutDatagrams == 1
    assert not net.host.mib.udp.OutDatagrams


def test_the_second_datagram_the_same_way_has_its_headers_ready(net: Net6, sock: Socket) -> None:
    for i in range(4):
        sock.sendto(bytes([i]) * (i + 1), (PEER, 7))
    sock.setsockopt(SOL_IPV6, uapi.IPV6_UNICAST_HOPS, 9)
    sock.sendto(b"last", (PEER, 7))
    sent = net.ip_sent()
    assert [bytes(p[UDP].payload) for p in sent] == [b"\0", b"\1\1", b"\2\2\2", b"\3" * 4, b"last"]
    assert [p.hlim for p in sent] == [64] * 4 + [9]
    assert len({p.fl for p in sent}) == 1
    assert net.host.mib.ip6.OutRequests >= 5


def test_connect_names_and_disconnect(net: Net6) -> None:
    sock = udp6(net)
    sock.connect((PEER, 9))
    assert sock.getpeername() == (PEER, 9, 0, 0)
    assert sock.getsockname()[0] == ME
    sock.send(b"x")
    assert net.ip_sent()[0][UDP].dport == 9
    net.inject(IPv6(src=GW_OTHER, dst=ME) / UDP(sport=9, dport=sock.getsockname()[1]) / b"no")
    with pytest.raises(BlockingIOError):
        sock.recv(9)


GW_OTHER = "2001:db8::fe"


def test_a_link_local_peer_needs_its_interface(net: Net6) -> None:
    sock = udp6(net)
    with pytest.raises(OSError, match="scope id") as info:
        sock.connect((PEER_LL, 9))
    assert info.value.errno == errno.EINVAL
    index = net.wire.dev.ifindex
    sock.connect((PEER_LL, 9, 0, index))
    assert sock.getpeername() == (PEER_LL, 9, 0, index)
    assert sock.getsockname()[0] == ME_LL
    other = udp6(net)
    other.sendto(b"x", (f"{PEER_LL}%{net.wire.dev.name}", 9))
    assert net.ip_sent()[-1].src == ME_LL


def test_nobody_has_the_port(net: Net6) -> None:
    net.inject(IPv6(src=PEER, dst=ME) / UDP(sport=7, dport=4999) / b"x")
    (reply,) = net.ip_sent()
    assert reply[ICMPv6DestUnreach].code == 4
    assert net.host.mib.udp6.NoPorts == 1


def test_a_datagram_without_checksum_is_dropped(net: Net6, sock: Socket) -> None:
    net.inject(IPv6(src=PEER, dst=ME) / UDP(sport=7, dport=5000, chksum=0) / b"x")
    with pytest.raises(BlockingIOError):
        sock.recv(9)
    assert net.host.mib.udp6.InCsumErrors == 1


def test_so_no_check_is_ipv4s(net: Net6) -> None:
    sock = udp6(net)
    sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_NO_CHECK, 1)
    sock.setsockopt(uapi.IPPROTO_UDP, uapi.UDP_SEGMENT, 4)
    for data in (b"x", b"segments"):
        sock.sendto(data, (PEER, 7))
    sent = net.ip_sent()
    assert [bytes(p[UDP].payload) for p in sent] == [b"x", b"segm", b"ents"]
    for packet in sent:
        chksum = packet[UDP].chksum
        del packet[UDP].chksum
        assert chksum == IPv6(bytes(packet))[UDP].chksum


def test_every_control_message_of_a_datagram(net: Net6, sock: Socket) -> None:
    for option in RECV:
        sock.setsockopt(SOL_IPV6, option, 1)
        assert sock.getsockopt(SOL_IPV6, option) == 1
    packet = (
        IPv6(src=PEER, dst=ME, tc=0x28, fl=0x12345, hlim=77)
        / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")])
        / IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0\0\0\0")])
        / UDP(sport=7, dport=5000)
        / b"data"
    )
    net.inject(packet)
    data, anc, _, name = sock.recvmsg(99, 999)
    assert (data, name) == (b"data", (PEER, 7, 0, 0))
    got = {kind: value for level, kind, value in anc if level == SOL_IPV6}
    assert sorted(got) == sorted(RECV.values())
    me = bytes(packet)[24:40]
    assert got[uapi.IPV6_PKTINFO] == me + struct.pack("=i", net.wire.dev.ifindex)
    assert got[uapi.IPV6_HOPLIMIT] == struct.pack("=i", 77)
    assert got[uapi.IPV6_TCLASS] == struct.pack("=i", 0x28)
    assert (
        got[uapi.IPV6_FLOWINFO]
        == bytes(packet)[0:4][0:1].replace(b"\x62", b"\x02") + bytes(packet)[1:4]
    )
    assert got[uapi.IPV6_HOPOPTS] == bytes(packet)[40:48]
    assert got[uapi.IPV6_DSTOPTS] == bytes(packet)[48:56]
    assert got[uapi.IPV6_ORIGDSTADDR] == struct.pack("=H2sI16sI", 10, b"\x13\x88", 0, me, 0)


def test_control_messages_out(net: Net6, sock: Socket) -> None:
    hop = b"\0\0\x01\x04\0\0\0\0"
    sock.sendmsg(
        [b"x"],
        [
            (SOL_IPV6, uapi.IPV6_HOPLIMIT, struct.pack("=i", 3)),
            (SOL_IPV6, uapi.IPV6_TCLASS, struct.pack("=i", 0x44)),
            (SOL_IPV6, uapi.IPV6_HOPOPTS, hop),
            (SOL_IPV6, uapi.IPV6_DSTOPTS, hop),
        ],
        0,
        (PEER, 7),
    )
    (packet,) = net.ip_sent()
    assert (packet.hlim, packet.tc) == (3, 0x44)
    assert IPv6ExtHdrHopByHop in packet
    assert IPv6ExtHdrDestOpt in packet
    for bad in (
        (SOL_IPV6, uapi.IPV6_HOPLIMIT, struct.pack("=i", 256)),
        (SOL_IPV6, uapi.IPV6_TCLASS, struct.pack("=i", -2)),
        (SOL_IPV6, uapi.IPV6_PKTINFO, b"short"),
        (SOL_IPV6, uapi.IPV6_RTHDR, bytes(24)),
        (SOL_IPV6, 199, b"\0\0\0\0"),
    ):
        assert errno_of(sock.sendmsg, [b"x"], [bad], 0, (PEER, 7)) == errno.EINVAL


def test_big_datagrams_are_fragmented_and_dontfrag_tells_the_mtu(net: Net6, sock: Socket) -> None:
    sock.sendto(bytes(4000), (PEER, 7))
    sent = net.ip_sent()
    assert len(sent) == 3
    assert all(IPv6ExtHdrFragment in p for p in sent)
    sock.setsockopt(SOL_IPV6, uapi.IPV6_DONTFRAG, 1)
    sock.setsockopt(SOL_IPV6, uapi.IPV6_RECVPATHMTU, 1)
    with pytest.raises(OSError, match="Message too long"):
        sock.sendto(bytes(4000), (PEER, 7))
    data, anc, _, _ = sock.recvmsg(9, 99)
    ((level, kind, value),) = anc
    assert (data, level, kind) == (b"", SOL_IPV6, uapi.IPV6_PATHMTU)
    assert struct.unpack("=I", value[28:])[0] == 1500


def test_errors_come_by_the_queue(net: Net6) -> None:
    sock = udp6(net)
    sock.setsockopt(SOL_IPV6, uapi.IPV6_RECVERR, 1)
    sock.connect((PEER, 9))
    sock.send(b"lost")
    (out,) = net.ip_sent()
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6DestUnreach(code=4) / out)
    with pytest.raises(ConnectionRefusedError):
        sock.recv(9)
    data, anc, flags, name = sock.recvmsg(99, 99, MSG_ERRQUEUE)
    assert (data, name, flags & MSG_ERRQUEUE) == (b"lost", (PEER, 9, 0, 0), MSG_ERRQUEUE)
    ((level, kind, value),) = anc
    assert (level, kind) == (SOL_IPV6, uapi.IPV6_RECVERR)
    err, origin, etype, code = struct.unpack_from("=IBBB", value)
    assert (err, origin, etype, code) == (errno.ECONNREFUSED, uapi.SO_EE_ORIGIN_ICMP6, 1, 4)
    assert value[16:18] == struct.pack("=H", AF_INET6)


def test_a_packet_too_big_is_learnt(net: Net6) -> None:
    sock = udp6(net)
    sock.connect((PEER, 9))
    sock.send(bytes(1400))
    (out,) = net.ip_sent()
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6PacketTooBig(mtu=1280) / bytes(out)[:1200])
    with pytest.raises(OSError, match="Message too long"):
        sock.send(b"tell")
    sock.send(b"first")
    assert sock.getsockopt(SOL_IPV6, uapi.IPV6_MTU) == 1280


def test_corked_datagrams(net: Net6, sock: Socket) -> None:
    sock.connect((PEER, 7))
    sock.setsockopt(uapi.SOL_UDP, uapi.UDP_CORK, 1)
    for piece in (b"one ", b"two ", b"three"):
        sock.send(piece)
    assert net.ip_sent() == []
    sock.setsockopt(uapi.SOL_UDP, uapi.UDP_CORK, 0)
    (packet,) = net.ip_sent()
    assert bytes(packet[UDP].payload) == b"one two three"


def test_a_v4_mapped_piece_of_an_ipv6_datagram_is_refused(net: Net6, sock: Socket) -> None:
    """udp_sendmsg of Linux: EINVAL while a datagram of the other family is being collected."""
    sock.sendto(b"one ", uapi.MSG_MORE, (PEER, 7))
    with pytest.raises(OSError, match="Invalid argument"):
        sock.sendto(b"mapped", ("::ffff:10.0.0.2", 7))
    sock.sendto(b"two", (PEER, 7))
    (packet,) = net.ip_sent()
    assert bytes(packet[UDP].payload) == b"one two"


def test_a_datagram_above_the_flow_s_room_takes_its_route(net: Net6, sock: Socket) -> None:
    """Small ones leave with prebuilt headers, a large one by the general way, then small again."""
    for size in (10, 3000, 20):
        sock.sendto(bytes(size), (PEER, 7))
    sock.sendto(bytes(30), (PEER, 8))
    first, *fragments, last, other = net.ip_sent()
    assert (len(first[UDP].payload), len(last[UDP].payload)) == (10, 20)
    assert [IPv6ExtHdrFragment in packet for packet in fragments] == [True] * 3
    assert (other[UDP].dport, len(other[UDP].payload)) == (8, 30)


def test_segmented_sends(net: Net6, sock: Socket) -> None:
    sock.setsockopt(uapi.SOL_UDP, uapi.UDP_SEGMENT, 1000)
    sock.sendto(b"a" * 2500, (PEER, 7))
    assert [len(p[UDP].payload) for p in net.ip_sent()] == [1000, 1000, 500]


def test_raw_sockets_take_payloads(net: Net6) -> None:
    raw = Socket(net.host, AF_INET6, SOCK_RAW, 200)
    raw.setblocking(False)
    raw.sendto(b"payload", (PEER, 0))
    (packet,) = net.ip_sent()
    assert (packet.nh, bytes(packet.payload)) == (200, b"payload")
    net.inject(IPv6(src=PEER, dst=ME, nh=200) / b"answer")
    assert raw.recvfrom(99) == (b"answer", (PEER, 0, 0, 0))


def test_raw_icmp6_checksums_and_filter(net: Net6) -> None:
    raw = Socket(net.host, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)
    raw.setblocking(False)
    assert raw.getsockopt(SOL_IPV6, uapi.IPV6_CHECKSUM) == 2
    raw.sendto(b"\x80\0\0\0\0\1\0\1ping", (PEER, 0))
    (packet,) = net.ip_sent()  # its checksum was judged
    assert packet[ICMPv6EchoRequest].id == 1
    block_all_but_reply = bytearray(b"\xff" * 32)
    block_all_but_reply[129 // 8] &= ~(1 << 129 % 8)
    raw.setsockopt(uapi.SOL_ICMPV6, uapi.ICMPV6_FILTER, bytes(block_all_but_reply))
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6EchoRequest(id=5))
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6EchoReply(id=6, seq=1, data=b"r"))
    assert raw.recv(99)[:1] == b"\x81"
    with pytest.raises(BlockingIOError):
        raw.recv(99)


def test_a_raw_udp_checksum_of_zero_is_sent_as_ones(net: Net6) -> None:
    """RFC 8200 8.1: 0 in a UDP header would say that there is no checksum."""
    raw = Socket(net.host, AF_INET6, SOCK_RAW, IPPROTO_UDP)
    raw.setsockopt(SOL_IPV6, uapi.IPV6_CHECKSUM, 6)
    bare = IPv6(src=ME, dst=PEER) / UDP(sport=1, dport=2) / bytes(2)
    rest = UDP(IPv6(bytes(bare))[UDP].build()).chksum  # as payload it makes the sum 0
    raw.sendto(struct.pack(">4H", 1, 2, 10, 0) + struct.pack(">H", rest), (PEER, 0))
    (packet,) = net.ip_sent()
    assert packet[UDP].chksum == 0xFFFF


def test_a_whole_packet_with_hdrincl(net: Net6) -> None:
    raw = Socket(net.host, AF_INET6, SOCK_RAW, 255)
    mine = bytes(IPv6(src=ME, dst=PEER, hlim=5) / UDP(sport=1, dport=2) / b"x")
    raw.sendto(mine, (PEER, 0))
    assert bytes(net.ip_sent()[0]) == mine


def test_ping_sockets(net: Net6) -> None:
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)
    sock.setblocking(False)
    sock.sendto(b"\x80\0\0\0\0\0\0\7data", (PEER, 0))
    (packet,) = net.ip_sent()
    echo = packet[ICMPv6EchoRequest]
    assert (echo.seq, echo.data) == (7, b"data")
    assert sock.getsockname()[1] == echo.id
    net.inject(IPv6(src=PEER, dst=ME) / ICMPv6EchoReply(id=echo.id, seq=7, data=b"data"))
    data, name = sock.recvfrom(99)
    assert (data[:1], data[8:], name[0]) == (b"\x81", b"data", PEER)


def test_ping_sockets_get_answers_to_probes(net: Net6) -> None:
    """RFC 8335: an extended echo reply (161) has an 8-bit sequence number and a state behind it."""
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)
    sock.setblocking(False)
    sock.bind(("::", 77))
    reply = struct.pack("!BBHHBB", 161, 0, 0, 77, 1, 2)
    pseudo = ip6(PEER).to_bytes(16, "big") + ip6(ME).to_bytes(16, "big") + bytes((0, 0, 0, 8))
    sum_ = checksum(pseudo + bytes((0, 0, 0, 58)) + reply)
    reply = reply[:2] + sum_.to_bytes(2, "big") + reply[4:]
    net.inject(IPv6(src=PEER, dst=ME, nh=58) / Raw(reply))
    assert sock.recv(99) == reply


def test_a_ping_socket_sends_by_the_interface_that_it_was_given(net: Net6) -> None:
    """RFC 3542 6.1: IPV6_PKTINFO as an option names it, so a link-local address needs no scope."""
    sock = Socket(net.host, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)
    request = b"\x80\0\0\0\0\0\0\7data"
    with pytest.raises(OSError, match="needs its interface"):
        sock.sendto(request, (PEER_LL, 0))
    info = bytes(16) + struct.pack("=i", net.wire.dev.ifindex)
    sock.setsockopt(SOL_IPV6, uapi.IPV6_PKTINFO, info)
    sock.sendto(request, (PEER_LL, 0))
    (packet,) = net.ip_sent()
    assert (packet.src, packet.dst) == (ME_LL, PEER_LL)


@pytest.mark.parametrize(
    ("option", "value", "bad"),
    [
        (uapi.IPV6_UNICAST_HOPS, 33, 256),
        (uapi.IPV6_MULTICAST_HOPS, 12, 300),
        (uapi.IPV6_MULTICAST_LOOP, 0, 2),
        (uapi.IPV6_MTU_DISCOVER, 3, 6),
        (uapi.IPV6_TCLASS, 0x20, 256),
        (uapi.IPV6_MINHOPCOUNT, 200, 256),
        (uapi.IPV6_ADDR_PREFERENCES, 0x401, 0x003),
    ],
)
def test_options_keep_what_fits(net: Net6, option: int, value: int, bad: int) -> None:
    sock = udp6(net)
    sock.setsockopt(SOL_IPV6, option, value)
    assert sock.getsockopt(SOL_IPV6, option) == value
    assert errno_of(sock.setsockopt, SOL_IPV6, option, bad) == errno.EINVAL


def test_v6only_and_the_port_of_ipv4(net: Net6) -> None:
    only = Socket(net.host, AF_INET6, SOCK_STREAM)
    only.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, 1)
    only.bind(("::", 80))
    with pytest.raises(OSError, match="before bind"):
        only.setsockopt(SOL_IPV6, uapi.IPV6_V6ONLY, 0)
    four = Socket(net.host, AF_INET, SOCK_STREAM)
    four.bind(("", 80))
    both = Socket(net.host, AF_INET6, SOCK_STREAM)
    with pytest.raises(OSError, match="in use"):
        both.bind(("::", 80))


def test_a_connected_socket_becomes_ipv4s(net: Net6) -> None:
    rx = Socket(net.host, AF_INET, SOCK_DGRAM)
    rx.bind(("127.0.0.1", 7000))
    sock = udp6(net)
    sock.connect(("::ffff:127.0.0.1", 7000))
    assert sock.getpeername() == ("::ffff:127.0.0.1", 7000, 0, 0)
    sock.setsockopt(SOL_IPV6, uapi.IPV6_ADDRFORM, AF_INET)
    assert sock.sk.sk_family == AF_INET
    sock.send(b"x")
    assert rx.recv(9) == b"x"


def test_closing_a_socket_gives_everything_back(net: Net6) -> None:
    socks: list[Any] = [udp6(net, 5000), Socket(net.host, AF_INET6, SOCK_RAW, 200)]
    socks.append(Socket(net.host, AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6))
    socks[2].sendto(b"\x80\0\0\0\0\0\0\7", (PEER, 0))
    for sock in socks:
        sock.close()
    assert net.host.udp_table.ports == {}
    assert net.host.raw_hash == {}
    assert net.host.ping_table == {}
    assert MSG_DONTWAIT


def test_super_packets_cross_and_are_merged_or_split(a: Host, b: Host) -> None:
    for host, text in ((a, ME), (b, PEER)):
        inet6_addr_add(host.dev_by_name["eth0"], ip6(text), 64, flags=IFA_F_NODAD)
    merged, plain = (Socket(b, AF_INET6, SOCK_DGRAM) for _ in range(2))
    sender = Socket(a, AF_INET6, SOCK_DGRAM)
    for sock, port in ((merged, 5000), (plain, 5001)):
        sock.bind((PEER, port))
        sock.settimeout(1)
    merged.setsockopt(uapi.SOL_UDP, uapi.UDP_GRO, 1)
    sender.setsockopt(uapi.SOL_UDP, uapi.UDP_SEGMENT, 1000)
    data = bytes(range(250)) * 60
    sender.sendto(data, (PEER, 5000))
    got, anc, _, _ = merged.recvmsg(65536, 99)
    assert got == data
    assert anc == [(uapi.SOL_UDP, uapi.UDP_GRO, struct.pack("=i", 1000))]
    sender.sendto(data, (PEER, 5001))
    assert b"".join(plain.recv(2000) for _ in range(15)) == data


def test_an_atomic_fragment_has_a_size_too(net: Net6, sock: Socket) -> None:
    """RFC 6946: a packet whole in one fragment; IPV6_RECVFRAGSIZE tells its length."""
    sock.setsockopt(SOL_IPV6, uapi.IPV6_RECVFRAGSIZE, 1)
    net.inject(
        IPv6(src=PEER, dst=ME) / IPv6ExtHdrFragment(nh=17) / UDP(sport=7, dport=5000) / b"data"
    )
    data, control, _, _ = sock.recvmsg(99, 99)
    assert data == b"data"
    assert control == [(SOL_IPV6, uapi.IPV6_RECVFRAGSIZE, struct.pack("=i", 40 + 8 + 12))]


@pytest.mark.parametrize("option", [uapi.IPV6_JOIN_ANYCAST, uapi.IPV6_FLOWLABEL_MGR])
def test_who_gave_up_the_capability_is_no_administrator(
    net: Net6, sock: Socket, option: int
) -> None:
    """Joins of any anycast address, and labels that linger for longer than 150 s."""
    require.root()
    anycast = ip6("2001:db8::abc").to_bytes(16, "big") + struct.pack("=i", net.wire.dev.ifindex)
    label = in6_flowlabel_req(
        dst=ip6(PEER), label=0x123, share=IPV6_FL_S_ANY, flags=IPV6_FL_F_CREATE, linger=200
    )
    value = anycast if option == uapi.IPV6_JOIN_ANYCAST else label.pack()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=65534) as nobody:
        net.host.caller = nobody.pid
        with pytest.raises(PermissionError):
            sock.setsockopt(SOL_IPV6, option, value)
        assert nobody.stdin is not None
        nobody.stdin.close()
    net.host.caller = os.getpid()
    sock.setsockopt(SOL_IPV6, option, value)


@pytest.mark.parametrize("family", [AF_INET, AF_INET6])
def test_a_bound_socket_has_no_other_interface_for_unicast(net: Net6, family: int) -> None:
    """As on the kernel: EINVAL even for the interface that it is bound to; 0 is none."""
    level, option = (uapi.SOL_IP, uapi.IP_UNICAST_IF)
    if family == AF_INET6:
        level, option = SOL_IPV6, uapi.IPV6_UNICAST_IF
    sock = Socket(net.host, family, SOCK_DGRAM)
    sock.setsockopt(uapi.SOL_SOCKET, uapi.SO_BINDTODEVICE, net.wire.dev.name.encode())
    for name in (net.wire.dev.name, "lo"):
        with pytest.raises(OSError, match="bound") as info:
            sock.setsockopt(level, option, struct.pack("!i", net.host.dev(name).ifindex))
        assert info.value.errno == errno.EINVAL
    sock.setsockopt(level, option, 0)
