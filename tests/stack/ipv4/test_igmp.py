"""stack/ipv4/igmp.py"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption_Router_Alert
from scapy.packet import Raw

from stack.core.bsd_socket import sys_close, sys_recvfrom, sys_sendto, sys_setsockopt
from stack.core.dev import dev_close, dev_open
from stack.core.uapi import (
    IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP,
    IP_BLOCK_SOURCE,
    IP_DROP_MEMBERSHIP,
    IP_DROP_SOURCE_MEMBERSHIP,
    IP_MULTICAST_ALL,
    IP_MULTICAST_IF,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IP_UNBLOCK_SOURCE,
    MSG_DONTWAIT,
    SOL_IP,
)
from stack.inet.mc_filter import CHANGE_TO_EXCLUDE, MODE_IS_EXCLUDE, mc_time_code
from stack.ipv4.igmp import igmpv3_sendpack
from tests.stack.ipv4.net import ME, PEER, SEC, Net, at, ip4, mac, one_host, udp_socket
from tests.support import errno_of, examples

GROUP = "239.1.2.3"


def raw(text: str) -> bytes:
    return ip4(text).to_bytes(4, "big")


def mreq(group: str = GROUP, addr: str = ME) -> bytes:
    return raw(group) + raw(addr)


def igmp(kind: int, code: int, group: str = "0.0.0.0", more: bytes = b"") -> Raw:
    """An IGMP message with its checksum."""
    from fastpath.base.csum import ip_compute_csum

    body = bytearray(bytes((kind, code, 0, 0)) + raw(group) + more)
    body[2:4] = ip_compute_csum(bytes(body)).to_bytes(2, "big")
    return Raw(bytes(body))


def reports(net: Net) -> list[Any]:
    """IGMPv3 report packets sent, checked for TTL, options, destination."""
    out = []
    for packet in net.ip_sent():
        assert packet.proto == 2
        assert packet.ttl == 1
        assert packet.options[0].option == 20
        again = IP(bytes(packet))
        out.append(again)
    return out


def records(packet: Any) -> list[tuple[int, str, list[str]]]:
    """(type, group, sources) of a version 3 report (RFC 3376 4.2)."""
    from fastpath.base.csum import ip_compute_csum

    data = bytes(packet.payload)
    assert data[0] == 0x22
    assert ip_compute_csum(data) == 0
    out, at = [], 8
    for _ in range(int.from_bytes(data[6:8], "big")):
        count = int.from_bytes(data[at + 2 : at + 4], "big")
        addrs = [".".join(map(str, data[i : i + 4])) for i in range(at + 4, at + 8 + 4 * count, 4)]
        out.append((data[at], addrs[0], addrs[1:]))
        at += 8 + 4 * count
    assert at == len(data)
    return out


def test_join_and_leave_are_reported_twice(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(3 * SEC)
    sent = reports(net)
    assert [records(p) for p in sent] == [[(4, GROUP, [])]] * 2
    assert {p.dst for p in sent} == {"224.0.0.22"}
    assert bytes.fromhex("01005e010203") in net.wire.dev.mc
    sys_setsockopt(net.host, fd, SOL_IP, IP_DROP_MEMBERSHIP, mreq())
    net.run(3 * SEC)
    assert [records(p) for p in reports(net)] == [[(3, GROUP, [])]] * 2
    assert bytes.fromhex("01005e010203") not in net.wire.dev.mc


def test_group_datagrams_reach_members_only(net: Net) -> None:
    member, other = udp_socket(net, 5000), udp_socket(net, 5001)
    packet = IP(src=PEER, dst=GROUP) / UDP(sport=1, dport=5000) / b"news"
    group_mac = bytes.fromhex("01005e010203")
    net.inject(packet, dst=group_mac)
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, member, bytearray(9), MSG_DONTWAIT)
    sys_setsockopt(net.host, member, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.inject(packet, dst=group_mac)
    assert sys_recvfrom(net.host, member, bytearray(9), MSG_DONTWAIT)[0] == 4
    assert net.host.mib.ipext.InMcastPkts == 1
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, other, bytearray(9), MSG_DONTWAIT)


def test_multicast_all_off_limits_to_own_groups(net: Net) -> None:
    member, bystander = udp_socket(net, 5000), udp_socket(net, 5001)
    sys_setsockopt(net.host, member, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    packet = IP(src=PEER, dst=GROUP) / UDP(sport=1, dport=5001) / b"x"
    net.inject(packet, dst=bytes.fromhex("01005e010203"))
    assert sys_recvfrom(net.host, bystander, bytearray(9), MSG_DONTWAIT)[0] == 1
    sys_setsockopt(net.host, bystander, SOL_IP, IP_MULTICAST_ALL, 0)
    net.inject(packet, dst=bytes.fromhex("01005e010203"))
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, bystander, bytearray(9), MSG_DONTWAIT)


def test_sending_to_a_group(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_MULTICAST_IF, raw(ME))
    sys_sendto(net.host, fd, b"x", 0, at(GROUP, 9))
    frame = net.wire.sent[-1]
    assert mac(frame[:6]) == "01:00:5e:01:02:03"
    (packet,) = net.ip_sent()
    assert (packet.src, packet.ttl) == (ME, 1)
    sys_setsockopt(net.host, fd, SOL_IP, IP_MULTICAST_TTL, 9)
    sys_sendto(net.host, fd, b"x", 0, at(GROUP, 9))
    assert net.ip_sent()[0].ttl == 9


def test_own_group_datagrams_come_back_unless_switched_off(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_IP, IP_MULTICAST_IF, raw(ME))
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    sys_sendto(net.host, fd, b"echo", 0, at(GROUP, 5000))
    net.run(1000)
    assert sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)[0] == 4
    sys_setsockopt(net.host, fd, SOL_IP, IP_MULTICAST_LOOP, 0)
    sys_sendto(net.host, fd, b"echo", 0, at(GROUP, 5000))
    net.run(1000)
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)


def test_general_query_is_answered_with_all_groups(net: Net) -> None:
    fd = udp_socket(net)
    for group in (GROUP, "239.9.9.9"):
        sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq(group))
    net.run(5 * SEC)
    net.frames()
    query = IP(src=PEER, dst="224.0.0.1", ttl=1, proto=2, options=[IPOption_Router_Alert()]) / igmp(
        0x11, 10, "0.0.0.0", bytes.fromhex("027d0000")
    )
    net.inject(query, dst=bytes.fromhex("01005e000001"))
    net.run(2 * SEC)
    (packet,) = reports(net)
    assert sorted(records(packet)) == [(2, GROUP, []), (2, "239.9.9.9", [])]


def test_version_2_router(net: Net) -> None:
    fd = udp_socket(net)
    query = IP(src=PEER, dst="224.0.0.1", ttl=1, proto=2) / igmp(0x11, 10)
    net.inject(query, dst=bytes.fromhex("01005e000001"))
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(25 * SEC)
    sent = reports(net)
    assert [(p.dst, bytes(p.payload)[0]) for p in sent] == [(GROUP, 0x16)] * 2
    sys_close(net.host, fd)
    net.run(SEC)
    (leave,) = reports(net)
    assert (leave.dst, bytes(leave.payload)[0]) == ("224.0.0.2", 0x17)
    assert bytes(leave.payload)[4:8] == raw(GROUP)


def test_another_members_report_spares_ours(net: Net) -> None:
    net.host.sysctl.force_igmp_version = 2
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.inject(
        IP(src=PEER, dst=GROUP, ttl=1, proto=2) / igmp(0x16, 0, GROUP),
        dst=bytes.fromhex("01005e010203"),
    )
    net.run(30 * SEC)
    assert reports(net) == []


def test_a_unicast_report_spares_nothing(net: Net) -> None:
    """The router may not have received it (net/ipv4/igmp.c)."""
    net.host.sysctl.force_igmp_version = 2
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.inject(IP(src=PEER, dst=ME, ttl=1, proto=2) / igmp(0x16, 0, GROUP))
    net.run(30 * SEC)
    assert [bytes(p.payload)[0] for p in reports(net)] == [0x16] * 2


def ask(net: Net, code: int, more: bytes = b"", group: str = "0.0.0.0") -> None:
    """A router's query."""
    packet = IP(src=PEER, dst="224.0.0.1", ttl=1, proto=2) / igmp(0x11, code, group, more)
    net.inject(packet, dst=bytes.fromhex("01005e000001"))


V3 = bytes.fromhex("027d0000")


def late(net: Net) -> None:
    """Random delays are as long as they can be."""
    net.host.random.randrange = lambda limit: limit - 1  # type: ignore[method-assign,assignment]


def test_a_second_query_may_hurry_the_answer(net: Net) -> None:
    """RFC 3376 5.2: the earlier of two answers is sent, and one is enough."""
    sys_setsockopt(net.host, udp_socket(net), SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(5 * SEC)
    net.frames()
    late(net)
    ask(net, 100, V3)
    ask(net, 10, V3)
    ask(net, 100, V3)
    net.run(SEC)
    assert len(reports(net)) == 1
    net.run(10 * SEC)
    assert reports(net) == []


def test_times_while_there_is_a_version_2_router(net: Net) -> None:
    """Its presence lasts 2 * 125 + 10 s; a query of version 3 has that version's code of times."""
    in_dev = net.wire.dev.ip_ptr
    sys_setsockopt(net.host, udp_socket(net), SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(5 * SEC)
    late(net)
    ask(net, 255)
    assert in_dev.igmp.mr_v2_seen - net.clock.now_ns() == pytest.approx(260 * SEC, abs=SEC)
    net.run(30 * SEC)
    net.frames()
    ask(net, 0x80 | 0x1F, V3)  # 31 << 4 tenths of a second
    net.run(40 * SEC)
    assert reports(net) == []
    net.run(10 * SEC)
    assert len(reports(net)) == 1


def test_source_membership_filters_and_is_reported(net: Net, fd: int) -> None:
    src = mreq() + raw(PEER)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, src)
    net.run(3 * SEC)
    assert records(reports(net)[0]) == [(5, GROUP, [PEER])]
    for sender, count in ((PEER, 1), ("10.0.0.3", 0)):
        net.inject(
            IP(src=sender, dst=GROUP) / UDP(sport=1, dport=5000) / b"x",
            dst=bytes.fromhex("01005e010203"),
        )
        got = 0
        with suppress(BlockingIOError):
            got = sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)[0]
        assert got == count
    sys_setsockopt(net.host, fd, SOL_IP, IP_DROP_SOURCE_MEMBERSHIP, src)
    net.run(3 * SEC)
    assert records(reports(net)[0]) == [(6, GROUP, [PEER])]


def test_blocked_source(net: Net, fd: int) -> None:
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    packet = IP(src=PEER, dst=GROUP) / UDP(sport=1, dport=5000) / b"x"
    sys_setsockopt(net.host, fd, SOL_IP, IP_BLOCK_SOURCE, mreq() + raw(PEER))
    net.inject(packet, dst=bytes.fromhex("01005e010203"))
    with pytest.raises(BlockingIOError):
        sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)
    sys_setsockopt(net.host, fd, SOL_IP, IP_UNBLOCK_SOURCE, mreq() + raw(PEER))
    net.inject(packet, dst=bytes.fromhex("01005e010203"))
    assert sys_recvfrom(net.host, fd, bytearray(9), MSG_DONTWAIT)[0] == 1


@pytest.mark.parametrize(
    ("opt", "value", "err"),
    [
        (IP_ADD_MEMBERSHIP, mreq("10.1.1.1"), errno.EINVAL),
        (IP_ADD_MEMBERSHIP, mreq(GROUP, "10.9.9.9"), errno.ENODEV),
        (IP_ADD_MEMBERSHIP, b"123", errno.EINVAL),
        (IP_DROP_MEMBERSHIP, mreq(), errno.EADDRNOTAVAIL),
        (IP_BLOCK_SOURCE, mreq() + bytes(4), errno.EINVAL),
    ],
)
def test_membership_errors(net: Net, opt: int, value: bytes, err: int) -> None:
    assert errno_of(sys_setsockopt, net.host, udp_socket(net), SOL_IP, opt, value) == err


def test_limit_and_double_membership(net: Net) -> None:
    net.host.sysctl.igmp_max_memberships = 2
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    assert (
        errno_of(sys_setsockopt, net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
        == errno.EADDRINUSE
    )
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq("239.1.1.2"))
    assert (
        errno_of(sys_setsockopt, net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq("239.1.1.3"))
        == errno.ENOBUFS
    )


def test_groups_survive_down_and_up(net: Net) -> None:
    fd = udp_socket(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(5 * SEC)
    dev_close(net.wire.dev)
    assert bytes.fromhex("01005e010203") not in net.wire.dev.mc
    net.frames()
    dev_open(net.wire.dev)
    net.run(5 * SEC)
    assert bytes.fromhex("01005e010203") in net.wire.dev.mc
    assert records(reports(net)[0]) == [(4, GROUP, [])]


sets = st.sets(st.integers(1, 6)).map(lambda s: tuple(sorted(s)))


def test_two_changes_within_a_second_are_both_repeated(net: Net, fd: int) -> None:
    """RFC 3376 5.1: a source's count goes on when another one follows."""
    other = "10.0.0.9"
    for source in (PEER, other):
        sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, mreq() + raw(source))
    net.run(3 * SEC)
    told = [source for p in reports(net) for _, _, sources in records(p) for source in sources]
    assert sorted(told) == sorted([PEER, other] * 2)


def test_a_source_that_everybody_blocks_is_reported(net: Net, fd: int) -> None:
    """RFC 3376 3.2, 5.1"""
    sys_setsockopt(net.host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net.run(3 * SEC)
    reports(net)
    sys_setsockopt(net.host, fd, SOL_IP, IP_BLOCK_SOURCE, mreq() + raw(PEER))
    net.run(3 * SEC)
    assert [records(p) for p in reports(net)] == [[(6, GROUP, [PEER])]] * 2
    sys_setsockopt(net.host, fd, SOL_IP, IP_UNBLOCK_SOURCE, mreq() + raw(PEER))
    net.run(3 * SEC)
    assert [records(p) for p in reports(net)] == [[(5, GROUP, [PEER])]] * 2


@pytest.mark.parametrize("kind", range(1, 7))
def test_sources_that_do_not_fit_a_report(net: Net, kind: int) -> None:
    """A second record of what is not wanted would replace the first (RFC 3376 4.2.16)."""
    in_dev = net.wires[0].dev.ip_ptr
    sources = tuple(range(0x0A000001, 0x0A000001 + 400))
    assert igmpv3_sendpack(in_dev, [(kind, int.from_bytes(raw(GROUP), "big"), sources)]) == 0
    net.run(SEC)
    found = [len(record[2]) for packet in reports(net) for record in records(packet)]
    assert found == ([365] if kind in (MODE_IS_EXCLUDE, CHANGE_TO_EXCLUDE) else [365, 35])


def test_response_codes() -> None:
    assert [mc_time_code(c) for c in (0, 100, 127, 128, 255)] == [0, 100, 127, 128, 31744]


@settings(max_examples=examples(150))
@given(st.binary(max_size=60), st.sampled_from([0x11, 0x12, 0x16, 0x17, 0x22, 0x99]))
def test_no_igmp_message_crashes(data: bytes, kind: int) -> None:
    from fastpath.base.csum import ip_compute_csum

    if not _FUZZ:
        _FUZZ.append(one_host())
        fd = udp_socket(_FUZZ[0])
        sys_setsockopt(_FUZZ[0].host, fd, SOL_IP, IP_ADD_MEMBERSHIP, mreq())
    net = _FUZZ[0]
    body = bytearray(bytes((kind,)) + data)
    if len(body) >= 4:
        body[2:4] = b"\0\0"
        body[2:4] = ip_compute_csum(bytes(body)).to_bytes(2, "big")
    net.inject(
        IP(src=PEER, dst="224.0.0.1", proto=2) / Raw(bytes(body)), dst=bytes.fromhex("01005e000001")
    )
    net.run(SEC)
    net.frames()
    assert net.host.skb_small.in_use == 0


_FUZZ: list[Net] = []
