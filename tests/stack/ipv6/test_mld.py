"""stack/ipv6/mld.py, mcast.py, mcast_sockopt.py: RFC 3810 and 2710, the listener's side."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLQuery2,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)

from stack.core.dev import dev_close, dev_open
from stack.core.uapi import (
    AF_INET6,
    IPPROTO_IPV6,
    IPV6_JOIN_GROUP,
    IPV6_LEAVE_GROUP,
    MCAST_BLOCK_SOURCE,
    MCAST_JOIN_GROUP,
    MCAST_JOIN_SOURCE_GROUP,
    MCAST_LEAVE_SOURCE_GROUP,
    MCAST_MSFILTER,
    MCAST_UNBLOCK_SOURCE,
    SOCK_DGRAM,
)
from stack.ipv6.addr import ipv6_eth_mc_map
from tests.stack.ipv6.conformance_nd import ME_LL, SEC, make
from tests.stack.ipv6.net import Net6, ip6
from tests.support import errno_of

GROUP = "ff05::1:3"
ROUTER = "fe80::fe"
A, B = "2001:db8::aa", "2001:db8::bb"
MSEC = 1_000_000
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = range(1, 7)


@pytest.fixture
def net() -> Net6:
    return make(fresh=False, sysctl={})


def mreq(group: str = GROUP, ifindex: int = 2) -> bytes:
    return ip6(group).to_bytes(16, "big") + struct.pack("=i", ifindex)


def storage(addr: str) -> bytes:
    raw = struct.pack("=HHI", AF_INET6, 0, 0) + ip6(addr).to_bytes(16, "big")
    return raw.ljust(128, b"\0")


def source_req(source: str, group: str = GROUP) -> bytes:
    return struct.pack("=ii", 2, 0) + storage(group) + storage(source)


def msfilter(mode: int, *sources: str) -> bytes:
    head = struct.pack("=ii", 2, 0) + storage(GROUP) + struct.pack("=II", mode, len(sources))
    return head + b"".join(map(storage, sources))


def socket6(net: Net6) -> Any:
    return net.host.socket(AF_INET6, SOCK_DGRAM)


@pytest.fixture
def sock(net: Net6) -> Iterator[Any]:
    with socket6(net) as made:
        yield made


def option(sock: Any, name: int, value: bytes) -> None:
    sock.setsockopt(IPPROTO_IPV6, name, value)


def reports(net: Net6) -> list[Any]:
    """What was sent: version 2 records, or (version 1) what it is. Each packet is checked."""
    out: list[Any] = []
    for packet in net.all_sent():
        if not packet.haslayer(IPv6ExtHdrHopByHop):
            continue
        assert packet.hlim == 1
        assert packet[IPv6ExtHdrHopByHop].options[0].value == 0  # router alert: MLD
        assert packet.src in (ME_LL, "::")
        if ICMPv6MLReport2 in packet:
            assert packet.dst == "ff02::16"
            records = []
            record = packet[ICMPv6MLReport2].records[0]
            while isinstance(record, ICMPv6MLDMultAddrRec):
                records.append((record.rtype, record.dst, sorted(record.sources)))
                record = record.payload
            out.append(sorted(records))
        elif ICMPv6MLReport in packet:
            assert packet.dst == packet[ICMPv6MLReport].mladdr
            out.append(f"report {packet.dst}")
        else:
            assert packet.dst == "ff02::2"
            out.append(f"done {packet[ICMPv6MLDone].mladdr}")
    return out


def query(net: Net6, message: Any, *, src: str = ROUTER, hlim: int = 1, alert: bool = True) -> None:
    packet: Any = IPv6(src=src, dst="ff02::1", hlim=hlim)
    if alert:
        packet /= IPv6ExtHdrHopByHop(options=[RouterAlert()])
    net.inject(packet / message)


def general(mrd: int = 1000, **fields: Any) -> Any:
    return ICMPv6MLQuery2(mrd=mrd, **fields)


def test_join_and_leave_are_reported_twice(net: Net6, sock: Any) -> None:
    """RFC 3810 6.1: Robustness Variable times, the repetition within a second."""
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(2 * MSEC)
    assert reports(net) == [[(TO_EX, GROUP, [])]]
    net.run(SEC)
    assert reports(net) == [[(TO_EX, GROUP, [])]]
    assert ipv6_eth_mc_map(ip6(GROUP)) in net.wire.dev.mc
    net.run(10 * SEC)
    assert reports(net) == []
    option(sock, IPV6_LEAVE_GROUP, mreq())
    net.run(3 * SEC)
    assert reports(net) == [[(TO_IN, GROUP, [])]] * 2
    assert ipv6_eth_mc_map(ip6(GROUP)) not in net.wire.dev.mc


def test_the_last_of_two_listeners_leaves(net: Net6) -> None:
    one, two = socket6(net), socket6(net)
    for sock in (one, two):
        option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(3 * SEC)
    assert len(reports(net)) == 2
    one.close()
    net.run(3 * SEC)
    assert reports(net) == []
    two.close()
    net.run(3 * SEC)
    assert reports(net) == [[(TO_IN, GROUP, [])]] * 2


def test_sources_are_reported_and_filter(net: Net6, sock: Any) -> None:
    """RFC 3810 5.2.12, 6.1"""
    option(sock, MCAST_JOIN_SOURCE_GROUP, source_req(A))
    net.run(3 * SEC)
    assert reports(net) == [[(ALLOW, GROUP, [A])]] * 2
    option(sock, MCAST_JOIN_SOURCE_GROUP, source_req(B))
    net.run(3 * SEC)
    assert reports(net) == [[(ALLOW, GROUP, [B])]] * 2
    option(sock, MCAST_LEAVE_SOURCE_GROUP, source_req(A))
    net.run(3 * SEC)
    assert reports(net) == [[(BLOCK, GROUP, [A])]] * 2
    other = socket6(net)
    option(other, IPV6_JOIN_GROUP, mreq())
    net.run(3 * SEC)
    assert reports(net) == [[(TO_EX, GROUP, [])]] * 2
    option(other, MCAST_BLOCK_SOURCE, source_req(A))
    net.run(3 * SEC)
    assert reports(net) == [[(BLOCK, GROUP, [A])]] * 2
    option(other, MCAST_UNBLOCK_SOURCE, source_req(A))
    net.run(3 * SEC)
    assert reports(net) == [[(ALLOW, GROUP, [A])]] * 2
    option(other, MCAST_MSFILTER, msfilter(1, A))
    net.run(3 * SEC)
    assert reports(net) == [[(TO_IN, GROUP, [A, B])]] * 2
    other.close()


def test_changes_of_the_same_moment_share_a_report(net: Net6, sock: Any) -> None:
    for i in range(30):
        option(sock, IPV6_JOIN_GROUP, mreq(f"ff05::2:{i:x}"))
    net.run(2 * MSEC)
    (records,) = reports(net)
    assert len(records) == 30


def test_a_report_larger_than_the_mtu_is_several(net: Net6, sock: Any) -> None:
    for i in range(100):
        option(sock, IPV6_JOIN_GROUP, mreq(f"ff05::2:{i:x}"))
    net.run(2 * MSEC)
    several = reports(net)
    assert sum(map(len, several)) == 100
    assert 2 <= len(several) <= 3


def test_general_query_is_answered_once_within_its_time(net: Net6, sock: Any) -> None:
    """RFC 3810 6.2"""
    for group in (GROUP, "ff05::9"):
        option(sock, IPV6_JOIN_GROUP, mreq(group))
    option(sock, MCAST_JOIN_SOURCE_GROUP, source_req(A, "ff05::a"))
    net.run(5 * SEC)
    reports(net)
    for _ in range(20):  # a flood of queries: one answer
        query(net, general(2000))
    net.run(2 * SEC)
    (records,) = reports(net)
    wanted = [(IS_EX, GROUP, []), (IS_EX, "ff05::9", []), (IS_IN, "ff05::a", [A])]
    assert [r for r in records if not r[1].startswith("ff02::1:ff")] == sorted(wanted)
    assert ("ff02::1" in [r[1] for r in records]) is False


def test_a_second_query_may_hurry_the_answer(net: Net6, sock: Any) -> None:
    """RFC 3810 6.2: the earlier of two answers is sent, and one is enough."""
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(5 * SEC)
    reports(net)
    net.host.random.randrange = lambda limit: limit - 1  # type: ignore[method-assign,assignment]
    for delay in (10000, 1000, 10000):
        query(net, general(delay))
    net.run(SEC)
    assert len(reports(net)) == 1
    net.run(10 * SEC)
    assert reports(net) == []


def test_specific_queries(net: Net6, sock: Any) -> None:
    option(sock, MCAST_JOIN_SOURCE_GROUP, source_req(A))
    net.run(3 * SEC)
    reports(net)
    query(net, general(1000, mladdr=GROUP))
    net.run(SEC)
    assert reports(net) == [[(IS_IN, GROUP, [A])]]
    query(net, general(1000, mladdr=GROUP, sources=[A, B]))
    net.run(SEC)
    assert reports(net) == [[(IS_IN, GROUP, [A])]]
    query(net, general(1000, mladdr=GROUP, sources=[B]))
    query(net, general(1000, mladdr="ff05::77"))
    net.run(2 * SEC)
    assert reports(net) == []


@pytest.mark.parametrize(
    "wrong",
    [{"src": "2001:db8::fe"}, {"hlim": 2}, {"alert": False}],
    ids=["source not link-local", "hop limit not 1", "no router alert"],
)
def test_a_query_that_is_not_valid_is_dropped(net: Net6, wrong: dict[str, Any]) -> None:
    """RFC 3810 6.2"""
    query(net, general(), **wrong)
    net.run(3 * SEC)
    assert reports(net) == []
    assert net.drops()["SKB_DROP_REASON_MLD_INHDR"] == 1


def test_malformed_queries_are_dropped(net: Net6) -> None:
    for message in (
        ICMPv6MLQuery2(mladdr="2001:db8::1"),
        ICMPv6MLQuery2(sources=[A]),
        ICMPv6MLQuery2(mladdr=GROUP, sources_number=9, sources=[A]),
    ):
        query(net, message)
    net.run(3 * SEC)
    assert net.drops()["SKB_DROP_REASON_MLD_INHDR"] == 3
    assert reports(net) == []


def test_the_queriers_variables_are_taken(net: Net6) -> None:
    """RFC 3810 9.1: the robustness of the querier; 6.1: so many reports of a change."""
    query(net, general(QRV=4, QQIC=10))
    net.run(3 * SEC)
    reports(net)
    mld = net.wire.dev.ip6_ptr.mld
    assert (mld.qrv, mld.qi, mld.qri) == (4, 10 * SEC, SEC)
    sock = socket6(net)
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(10 * SEC)
    assert len(reports(net)) == 4


def test_version_1_while_such_a_router_is_about(net: Net6, sock: Any) -> None:
    """RFC 3810 8.2.1, 9.12; RFC 2710 4"""
    query(net, ICMPv6MLQuery(mrd=1000))
    net.run(2 * SEC)
    reports(net)
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(20 * SEC)
    assert reports(net) == [f"report {GROUP}"] * 2
    option(sock, IPV6_LEAVE_GROUP, mreq())
    net.run(SEC)
    assert reports(net) == [f"done {GROUP}"]
    # Robustness times the query interval, and the response interval: 2 * 125 + 10 s
    net.run(260 * SEC)
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(3 * SEC)
    assert reports(net) == [[(TO_EX, GROUP, [])]] * 2


def test_a_version_1_query_may_allow_more_than_33_seconds(net: Net6, sock: Any) -> None:
    """RFC 2710 3.4: 16 bits of ms; only the code of version 2 has another meaning above 0x7fff."""
    query(net, ICMPv6MLQuery(mrd=1000))
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(20 * SEC)
    reports(net)
    net.host.random.randrange = lambda limit: limit - 1  # type: ignore[method-assign,assignment]
    query(net, ICMPv6MLQuery(mrd=60000, mladdr=GROUP))
    net.run(50 * SEC)
    assert reports(net) == []
    net.run(11 * SEC)
    assert reports(net) == [f"report {GROUP}"]


def test_another_listeners_report_spares_ours(net: Net6) -> None:
    """RFC 2710 4: in version 1; whoever did not report last does not say goodbye."""
    query(net, ICMPv6MLQuery(mrd=1000))
    sock = socket6(net)
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(MSEC)
    reports(net)
    heard = IPv6(src="fe80::2", dst=GROUP, hlim=1) / IPv6ExtHdrHopByHop(options=[RouterAlert()])
    net.inject(heard / ICMPv6MLReport(mladdr=GROUP))
    net.run(20 * SEC)
    assert f"report {GROUP}" not in reports(net)
    sock.close()
    net.run(SEC)
    assert reports(net) == []


def test_force_version(net: Net6) -> None:
    net.wire.dev.ip6_ptr.cnf.force_mld_version = 2
    query(net, ICMPv6MLQuery(mrd=1000))
    net.run(2 * SEC)
    assert net.drops()["SKB_DROP_REASON_MLD_INHDR"] == 1
    net.wire.dev.ip6_ptr.cnf.force_mld_version = 1
    reports(net)
    sock = socket6(net)
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(MSEC)
    assert reports(net) == [f"report {GROUP}"]


def test_groups_survive_down_and_up(net: Net6, sock: Any) -> None:
    option(sock, IPV6_JOIN_GROUP, mreq())
    net.run(3 * SEC)
    dev_close(net.wire.dev)
    assert ipv6_eth_mc_map(ip6(GROUP)) not in net.wire.dev.mc
    reports(net)
    dev_open(net.wire.dev)
    net.run(3 * SEC)
    assert [r for r in reports(net) if (TO_EX, GROUP, []) in r]


def test_before_there_is_an_address_reports_come_from_none() -> None:
    """RFC 3590: from ::, and again from the link-local address when that can be used."""
    net = make(fresh=True, sysctl={})
    net.run(5 * SEC)
    seen = [p.src for p in net.all_sent() if ICMPv6MLReport2 in p]
    assert seen[0] == "::"
    assert "fe80::ff:fe00:1" in seen
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (IPV6_JOIN_GROUP, mreq("2001:db8::1"), errno.EINVAL),
        (IPV6_JOIN_GROUP, mreq(ifindex=99), errno.ENODEV),
        (IPV6_JOIN_GROUP, b"short", errno.EINVAL),
        (IPV6_LEAVE_GROUP, mreq(), errno.EADDRNOTAVAIL),
        (MCAST_BLOCK_SOURCE, source_req(A), errno.EINVAL),
        (MCAST_JOIN_GROUP, struct.pack("=ii", 2, 0) + bytes(128), errno.EADDRNOTAVAIL),
        (MCAST_MSFILTER, msfilter(0, A), errno.EINVAL),
        (MCAST_MSFILTER, msfilter(7, A), errno.EINVAL),
        (MCAST_MSFILTER, msfilter(0, *[A] * 65), errno.ENOBUFS),
    ],
)
def test_errors(name: int, value: bytes, error: int, sock: Any) -> None:
    assert errno_of(option, sock, name, value) == error


def test_twice_the_same_group_is_an_error_and_sources_have_a_limit(sock: Any) -> None:
    option(sock, IPV6_JOIN_GROUP, mreq())
    with pytest.raises(OSError, match="already a member"):
        option(sock, IPV6_JOIN_GROUP, mreq())
    for i in range(64):
        option(sock, MCAST_BLOCK_SOURCE, source_req(f"2001:db8::{i + 1:x}"))
    with pytest.raises(OSError, match="mld_max_msf"):
        option(sock, MCAST_BLOCK_SOURCE, source_req("2001:db8::ffff"))
    sock.close()
