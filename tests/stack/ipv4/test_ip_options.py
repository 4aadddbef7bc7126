"""stack/ipv4/ip_options.py"""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.packet import Raw

from e1000emu.clock import VirtualClock
from fastpath.base.csum import ip_compute_csum
from stack.core.uapi import IP_OPTIONS, IPPROTO_ICMP, SOL_IP
from stack.host import Host
from stack.inet.inet_sock import ip_options
from stack.inet.tcp_sock import TCP_MAXSEG
from stack.ipv4.ip_options import (
    IPOPT_COPY,
    OptionError,
    __ip_options_echo,
    ip_options_build,
    ip_options_compile,
    ip_options_fragment,
    ip_options_get,
    ip_options_undo,
)
from stack.ipv4.route import ip_route_output
from stack.socket import AF_INET, SOCK_DGRAM, SOCK_RAW, Socket
from tests.stack.ipv4.net import GW, ME, PEER, SEC, Net, at, ip4, one_host, udp_socket
from tests.support import errno_of, examples

A = bytes([10, 0, 0, 2])
B = bytes([10, 9, 9, 9])
C = bytes([10, 8, 8, 8])


def compiled(host: Host, area: bytes, *, received: bool, spec_dst: int = 0) -> ip_options:
    """A parsed area."""
    opt = ip_options(area)
    ip_options_compile(host, opt, received, spec_dst)
    return opt


@pytest.mark.parametrize(
    ("area", "pointer"),
    [
        (b"\x07", 20),
        (b"\x07\x01\0\0", 20),
        (b"\x07\x09\x04\0", 20),
        (b"\x07\x02\0\0", 21),
        (b"\x07\x07\x03\0\0\0\0\0", 22),
        (b"\x07\x06\x04\0\0\0\0\0", 22),
        (b"\x07\x07\x04\0\0\0\0\x07\x07\x04\0\0\0\0\0\0", 27),
        (b"\x83\x07\x03\0\0\0\0\0", 22),
        (b"\x83\x07\x04\0\0\0\0\x89\x07\x04\0\0\0\0\0\0", 27),
        (b"\x44\x03\x05\0", 21),
        (b"\x44\x08\x04\x00\0\0\0\0", 22),
        (b"\x44\x08\x05\x01\0\0\0\0", 22),
        (b"\x44\x04\x05\xf0", 23),
        (b"\x94\x03\0\0", 21),
    ],
)
def test_malformed_options_point_at_the_byte(net: Net, area: bytes, pointer: int) -> None:
    with pytest.raises(OptionError) as info:
        compiled(net.host, area, received=True)
    assert info.value.pointer == pointer


def test_parameter_problem_is_sent_for_them(net: Net) -> None:
    packet = IP(src=PEER, dst=ME, options=[IPOption(b"\x07\x07\x03\0\0\0\0")]) / UDP(dport=1)
    net.inject(packet)
    (reply,) = net.ip_sent()
    assert (reply[ICMP].type, reply[ICMP].ptr) == (12, 22)
    assert net.host.mib.ip.InHdrErrors == 1
    assert net.host.skb_small.in_use == 0


def test_record_route_and_timestamp_are_filled(net: Net) -> None:
    area = b"\x07\x07\x04\0\0\0\0" + b"\x44\x0c\x05\x01" + bytes(8) + b"\x01"
    opt = compiled(net.host, area, received=True, spec_dst=ip4(ME))
    assert bytes(opt.data[3:7]) == bytes([10, 0, 0, 1])
    assert opt.data[2] == 8
    assert bytes(opt.data[11:15]) == bytes([10, 0, 0, 1])
    stamp = int.from_bytes(opt.data[15:19], "big")
    assert stamp == 12 * 3_600_000 + net.clock.now_ns() // 10**6  # a VirtualClock starts at noon
    assert opt.is_changed
    assert opt.rr_needaddr
    assert (opt.rr, opt.ts) == (20, 27)


@pytest.mark.parametrize(
    ("epoch_s", "uptime_s", "since_midnight_s"),
    [(0, 5, 5), (86_400 * 20_000 + 86_399, 0, 86_399), (86_400 * 20_000 + 86_399, 2, 1)],
)
def test_time_stamps_are_milliseconds_since_midnight_ut(
    epoch_s: int, uptime_s: int, since_midnight_s: int
) -> None:
    """RFC 791: of the wall clock, whatever the uptime."""
    clock = VirtualClock(uptime_s * SEC, epoch_ns=epoch_s * SEC + 7_000_000)
    with Host("h", clock=clock, drivers=False) as host:
        opt = compiled(host, b"\x44\x08\x05\x00\0\0\0\0", received=True)
        stamp = int.from_bytes(opt.data[4:8], "big")
    assert stamp == since_midnight_s * 1000 + 7


def test_full_timestamp_counts_overflow(net: Net) -> None:
    opt = compiled(net.host, b"\x44\x08\x09\x00\0\0\0\0", received=True)
    assert opt.data[3] == 0x10


def test_bytes_behind_end_are_cleared(net: Net) -> None:
    opt = compiled(net.host, b"\x01\0\xaa\xbb", received=True)
    assert bytes(opt.data) == b"\x01\0\0\0"


def test_users_source_route_keeps_its_first_hop_apart(net: Net) -> None:
    area = b"\x83\x0b\x04" + A + B + b"\0"
    opt = ip_options_get(net.host, area)
    assert opt is not None
    assert opt.faddr == int.from_bytes(A, "big")
    rt = ip_route_output(net.host, ip4(PEER))
    built, daddr = ip_options_build(opt, int.from_bytes(C, "big"), rt, ip4(ME))
    assert daddr == opt.faddr
    assert built == b"\x83\x0b\x04" + B + C + b"\0"
    assert ip_options_undo(opt) == area


def test_user_options_are_padded_and_limited(net: Net) -> None:
    opt = ip_options_get(net.host, b"\x01")
    assert opt is not None
    assert bytes(opt.data) == b"\x01\0\0\0"
    assert ip_options_get(net.host, b"") is None
    for bad in (bytes(41), b"\x83\x03\x04", b"\x07\x07\x03\0\0\0\0"):
        assert errno_of(ip_options_get, net.host, bad) == errno.EINVAL


def test_source_route_is_reversed(net: Net) -> None:
    from fastpath.base.skbuff import skb_from_bytes, skb_reset_network_header

    packet = bytes(IP(src=PEER, dst=ME))
    skb = skb_from_bytes(net.host.skb_small, packet, 64)
    assert skb is not None
    skb_reset_network_header(skb)
    sopt = compiled(net.host, b"\x83\x0b\x0c" + C + B + b"\0", received=True)
    reply = __ip_options_echo(net.host, skb, sopt)
    assert reply is not None
    assert reply.faddr == int.from_bytes(B, "big")
    assert bytes(reply.data[:7]) == b"\x83\x0b\x04" + C
    own = compiled(net.host, b"\x83\x0b\x0c" + A + B + b"\0", received=True)
    reply = __ip_options_echo(net.host, skb, own)
    assert reply is not None
    assert reply.data[1] == 7


@pytest.mark.parametrize(("kind", "protocol"), [(SOCK_RAW, 200), (SOCK_DGRAM, IPPROTO_ICMP)])
def test_a_strict_source_route_goes_by_no_router(net: Net, kind: int, protocol: int) -> None:
    """ip_sendmsg_scope: the first hop of a strict route must be on a link of ours."""
    net.host.route_add("0.0.0.0/0", via=GW)
    sock = Socket(net.host, AF_INET, kind, protocol)
    echo = b"\x08" + bytes(7)
    for option, hop, sent in (
        (0x83, "198.51.100.1", 1),
        (0x89, PEER, 1),
        (0x89, "198.51.100.1", 0),
    ):
        area = bytes((option, 7, 4)) + ip4(hop).to_bytes(4, "big") + b"\0"
        sock.setsockopt(SOL_IP, IP_OPTIONS, area)
        if sent:
            sock.sendto(echo, ("198.51.100.2", 9))
        else:
            with pytest.raises(OSError, match="Network is unreachable"):
                sock.sendto(echo, ("198.51.100.2", 9))
        assert [packet.dst for packet in net.ip_sent()] == [hop] * sent


def test_later_fragments_carry_copied_options_only() -> None:
    area = b"\x07\x07\x04\0\0\0\0" + b"\x83\x07\x04\1\2\3\4" + b"\0\0"
    assert ip_options_fragment(area) == b"\x01" * 7 + b"\x83\x07\x04\1\2\3\4" + b"\0\0"


def test_fragments_of_a_packet_with_options(net: Net) -> None:
    from stack.core.bsd_socket import sys_sendto, sys_setsockopt

    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_OPTIONS, b"\x07\x07\x04\0\0\0\0\x01")
    sys_sendto(net.host, fd, bytes(4000), 0, at(PEER, 9))
    packets = net.ip_sent()
    assert len(packets) == 3
    assert bytes(packets[0])[20:23] == b"\x07\x07\x08"
    assert bytes(packets[1])[20:28] == b"\x01" * 8
    assert sum(len(p.payload) for p in packets) == 4008


@settings(max_examples=examples(300))
@given(st.binary(max_size=40), st.booleans())
def test_parser_accepts_or_refuses_any_bytes(data: bytes, received: bool) -> None:
    net = _net()
    pointer = 20
    opt = None
    try:
        opt = compiled(net.host, data, received=received, spec_dst=1)
    except OptionError as exc:
        pointer = exc.pointer
    assert 20 <= pointer < 20 + max(len(data), 1) + 3
    if opt is None:
        return
    assert len(opt.data) == len(data)
    again = ip_options_fragment(bytes(opt.data))
    assert len(again) == len(data)
    if received:
        echo = __ip_options_echo(net.host, _skb(net), opt)
        assert echo is None or (len(echo.data) <= 40 and len(echo.data) % 4 == 0)


@settings(max_examples=examples(150))
@given(st.binary(min_size=1, max_size=40))
def test_packets_with_any_options_never_crash(data: bytes) -> None:
    net = _net()
    area = (data + bytes(-len(data) % 4))[:40]
    # scapy reads what it is told to write, so the header is laid out here.
    header = bytearray(bytes(IP(src=PEER, dst=ME, proto=1, len=20 + len(area) + 9))) + area
    header[0] = 0x45 + len(area) // 4
    header[10:12] = b"\0\0"
    header[10:12] = ip_compute_csum(bytes(header)).to_bytes(2, "big")
    net.inject(bytes(header) + bytes(ICMP() / Raw(b"x")))
    net.frames()
    assert net.host.skb_small.in_use == 0


def test_copy_bit() -> None:
    assert IPOPT_COPY == 0x80
    assert ip_options(b"\x83").optlen == 1


_NETS: list[Net] = []
_SKBS: list = []


def _net() -> Net:
    if not _NETS:
        _NETS.append(one_host(sysctl={"accept_source_route": 1}))
    return _NETS[0]


def _skb(net: Net):
    from fastpath.base.skbuff import skb_from_bytes, skb_reset_network_header

    if not _SKBS:
        other = one_host()
        skb = skb_from_bytes(other.host.skb_small, bytes(IP(src=PEER, dst=ME)), 64)
        assert skb is not None
        skb_reset_network_header(skb)
        _SKBS.append(skb)
    return _SKBS[0]


@pytest.mark.parametrize("cookies", [0, 2])
@pytest.mark.parametrize(
    ("given", "answered", "kept"),
    [
        # What Linux 6.18 answers: a route that is recorded goes on.
        ("070b0400000000000000000000", "070b0c0a0000010a00000100", "070b080a0000010000000000"),
        ("070b080a0000090000000000", "070b0c0a0000090a00000100", "070b0c0a0000090a00000100"),
        ("0707080a00000900", "0707080a00000900", "0707080a00000900"),
        ("01010101", "", ""),
    ],
)
def test_tcp_answers_a_syn_with_its_options(
    net: Net, given: str, answered: str, kept: str, cookies: int
) -> None:
    net.host.sysctl["tcp_syncookies"] = cookies
    with net.host.socket() as listener:
        listener.bind((ME, 80))
        listener.listen()
        head = IP(src=PEER, dst=ME, flags="DF", options=IPOption(bytes.fromhex(given)[:12]))
        net.inject(head / TCP(sport=5000, dport=80, flags="S", seq=1000, options=[("MSS", 1000)]))
        synack = net.ip_sent()[-1]
        assert bytes(synack)[20 : synack.ihl * 4].hex() == answered
        acked = {"seq": 1001, "ack": synack[TCP].seq + 1}
        net.inject(IP(src=PEER, dst=ME) / TCP(sport=5000, dport=80, flags="A", **acked))
        server, _ = listener.accept()
        with server:
            server.send(b"x" * 1000)
            data = net.ip_sent()[-1]
            options = bytes(data)[20 : data.ihl * 4].hex()
            if cookies:  # forgotten, and the last ACK has none
                answered = kept = ""
            assert options == answered
            assert server.getsockopt(SOL_IP, IP_OPTIONS, 40).hex() == kept
            mss = 536 if cookies else 1000  # 536: the largest below that a cookie can tell
            assert server.getsockopt(6, TCP_MAXSEG) == mss - len(answered) // 2
            net.inject(IP(src=PEER, dst=ME) / TCP(sport=5000, dport=80, flags="R", **acked))
