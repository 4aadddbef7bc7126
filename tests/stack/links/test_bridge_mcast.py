"""IGMP and MLD snooping: hostile messages, timers and queriers of a bridge."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath.base.csum import csum_ipv6_magic, csum_partial, ip_compute_csum
from stack.bridge.br_mdb import br_mdb_add, mdb_error
from stack.bridge.br_multicast import (
    br_multicast_set_port_router,
    br_multicast_set_querier,
    br_multicast_toggle,
)
from stack.bridge.br_private import MDB_RTR_TYPE_TEMP, MDB_RTR_TYPE_TEMP_QUERY, br_port_get
from stack.core.netdevice import IFF_PROMISC
from stack.inet.mc_filter import mc_time_code
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.switch import Switch, frame, port_address, sent_by, station
from tests.support import examples

G, H = b"\xef\x01\x01\x01", b"\xef\x01\x01\x02"
G6 = b"\xff\x0e" + bytes(13) + b"\x01"
ALLHOSTS = b"\xe0\0\0\x01"
QUERY, REPORT, LEAVE, REPORT3 = 0x11, 0x16, 0x17, 0x22


def mac4(group: bytes) -> bytes:
    return b"\x01\x00\x5e" + bytes([group[1] & 127]) + group[2:]


def ip4(dst: bytes, body: bytes, *, proto: int = 2, src: bytes = b"\x0a\0\0\x09") -> bytes:
    """A frame with an IPv4 packet, its checksum right."""
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 1, proto, 0, src, dst)
    head = head[:10] + ip_compute_csum(head).to_bytes(2, "big") + head[12:]
    return frame(mac4(dst), station(9), head + body, 0x0800)


def igmp(kind: int, group: bytes, rest: bytes = b"", code: int = 0) -> bytes:
    """An IGMP message, its checksum right."""
    body = bytes((kind, code, 0, 0)) + group + rest
    return body[:2] + ip_compute_csum(body).to_bytes(2, "big") + body[4:]


def ip6(dst: bytes, body: bytes, src: bytes = b"\xfe\x80" + bytes(13) + b"\x09") -> bytes:
    """A frame with an ICMPv6 message behind the router alert option, its checksum right."""
    if len(body) >= 4:
        found = csum_ipv6_magic(
            int.from_bytes(src, "big"),
            int.from_bytes(dst, "big"),
            len(body),
            58,
            csum_partial(body, 0),
        )
        body = body[:2] + found.to_bytes(2, "big") + body[4:]
    data = b"\x3a\0\x05\x02\0\0\0\0" + body
    head = b"\x60\0\0\0" + len(data).to_bytes(2, "big") + b"\0\x01" + src + dst
    return frame(b"\x33\x33" + dst[12:], station(9), head + data, 0x86DD)


def data(group: bytes = G) -> bytes:
    return ip4(group, b"data", proto=17)


def querier(switch: Switch, port: int = 3, src: bytes = b"\x0a\0\0\x04") -> None:
    """Another host asks, by IGMPv2."""
    switch.send(port, ip4(ALLHOSTS, igmp(QUERY, bytes(4), code=1), src=src))
    switch.run_for(0.2)  # the answers are in


def groups(switch: Switch) -> dict[bytes, list[int]]:
    """The ports of each group; -1 is the host."""
    devs = [wire.dev for wire in switch.wires]
    return {
        addr: sorted([devs.index(pg.port.dev) for pg in mp.ports] + [-1] * mp.host_joined)
        for addr, mp in switch.br.multicast_ctx.mdb.items()
    }


def routers(switch: Switch) -> list[int]:
    devs = [wire.dev for wire in switch.wires]
    return sorted(devs.index(p.dev) for p in switch.br.multicast_ctx.pf[0].mc_router_list)


def test_a_group_goes_to_its_ports_and_to_the_querier_until_the_reports_are_old() -> None:
    switch = Switch(4)
    switch.send(1, ip4(G, igmp(REPORT, G)))
    assert switch.send(0, data()) == [1, 2, 3]  # nobody asks, so that not all report
    querier(switch)
    assert switch.send(0, data()) == [1, 3]
    assert switch.send(0, data(H)) == [3]  # nobody wants it: to routers only
    switch.run_for(200)
    switch.send(2, ip4(G, igmp(REPORT, G)))
    switch.run_for(50)
    assert (groups(switch), routers(switch)) == ({G: [1, 2]}, [3])
    switch.run_for(20)  # 260 s after the report at port 1, 255 s after the query
    assert (groups(switch), routers(switch)) == ({G: [2]}, [])
    assert switch.send(0, data()) == [1, 2, 3]
    switch.run_for(200)
    assert groups(switch) == {}
    assert_no_leak(switch.host)


def test_a_promiscuous_bridge_counts_only_groups_that_are_for_the_host() -> None:
    switch = Switch(4)
    switch.send(1, ip4(G, igmp(REPORT, G)))
    querier(switch)
    switch.bridge.flags |= IFF_PROMISC
    stats = switch.bridge.stats
    before = stats.multicast, stats.rx_packets
    for group in (G, H):
        switch.send(0, data(group))
    assert (stats.multicast, stats.rx_packets) == (before[0], before[1] + 2)
    switch.send(0, frame(b"\x01\0\x5e\0\0\x01", station(1)))  # no IP: to all
    assert stats.multicast == before[0] + 1
    assert_no_leak(switch.host)


def test_a_leave_ends_a_group_in_two_seconds_unless_another_querier_decides() -> None:
    switch = Switch(4)
    switch.send(1, ip4(G, igmp(REPORT, G)))
    switch.send(1, ip4(b"\xe0\0\0\x02", igmp(LEAVE, G)))
    switch.run_for(1.9)
    assert groups(switch) == {G: [1]}
    switch.run_for(0.2)
    assert groups(switch) == {}
    querier(switch)
    switch.send(1, ip4(G, igmp(REPORT, G)))
    switch.send(1, ip4(b"\xe0\0\0\x02", igmp(LEAVE, G)))
    switch.run_for(10)
    assert groups(switch) == {G: [1]}
    switch.send(3, ip4(G, igmp(QUERY, G, code=10)))  # the querier asks: 2 s
    switch.run_for(2.1)
    assert groups(switch) == {}


def test_a_querier_asks_at_start_and_then_each_query_interval() -> None:
    switch = Switch(2)
    switch.run_for(1)
    sent_by(switch.wires)
    br_multicast_set_querier(switch.br, 1)
    times = []
    for second in range(400):
        switch.run_for(1)
        found = [len(frames) for frames in sent_by(switch.wires)]
        assert found in ([0, 0], [1, 1])
        if found == [1, 1]:
            times.append(second)
    assert times == [0, 31, 156, 281]  # 31.25 s in ticks of 4 ms, then 125 s
    switch.send(1, ip4(G, igmp(REPORT, G)))
    sent_by(switch.wires)
    switch.wires[1].receive(ip4(b"\xe0\0\0\x02", igmp(LEAVE, G)))
    queries = [one for one in sent_by(switch.wires)[1] if one[38:39] == bytes((QUERY,))]
    assert [one[42:46] for one in queries] == [G]  # RFC 2236 3: Last Member Query


def test_the_lowest_address_is_the_querier_and_silence_ends_that() -> None:
    switch = Switch(3)
    br_multicast_set_querier(switch.br, 1)
    ctx = switch.br.multicast_ctx
    switch.run_for(20)
    querier(switch, 1, b"\x0a\0\0\x09")
    assert ctx.pf[0].querier_addr == b"\x0a\0\0\x09"  # this bridge asked from 0.0.0.0
    querier(switch, 2, b"\x0a\0\0\x0a")
    assert (ctx.pf[0].querier_addr, routers(switch)) == (b"\x0a\0\0\x09", [1])
    querier(switch, 2, b"\x0a\0\0\x08")
    assert (ctx.pf[0].querier_addr, routers(switch)) == (b"\x0a\0\0\x08", [1, 2])
    sent_by(switch.wires)
    switch.run_for(254)
    assert sent_by(switch.wires) == [[], [], []]
    switch.run_for(2)
    assert [len(frames) for frames in sent_by(switch.wires)] == [1, 1, 1]


def test_a_port_of_a_temporary_router_is_one_until_the_timer_expires() -> None:
    switch = Switch(2)
    p = br_port_get(switch.wires[1].dev)
    assert p is not None
    assert br_multicast_set_port_router(p, MDB_RTR_TYPE_TEMP) == 0
    switch.run_for(200)
    assert br_multicast_set_port_router(p, MDB_RTR_TYPE_TEMP) == 0  # again 255 s
    switch.run_for(200)
    assert routers(switch) == [1]
    switch.run_for(60)
    assert (routers(switch), p.multicast_router) == ([], MDB_RTR_TYPE_TEMP_QUERY)


def test_reports_beyond_hash_max_end_snooping_and_a_port_may_have_a_limit_of_its_own() -> None:
    switch = Switch(2)
    p = br_port_get(switch.wires[1].dev)
    assert p is not None
    p.mdb_max_entries = 3
    for number in range(9):
        group = b"\xef\x01\x02" + bytes([number])
        switch.send(1, ip4(group, igmp(REPORT, group)))
    assert (p.mdb_n_entries, len(p.br.multicast_ctx.mdb)) == (3, 9)
    with pytest.raises(mdb_error, match="mcast_max_groups=3"):
        br_mdb_add(switch.br, p, G, True)
    switch.br.multicast_ctx.hash_max = 20
    for number in range(40):
        group = b"\xef\x01\x03" + bytes([number])
        switch.send(0, ip4(group, igmp(REPORT, group)))
    assert len(groups(switch)) == 20
    assert not switch.br.multicast_ctx.enabled
    br_multicast_toggle(switch.br, 1)
    assert switch.br.multicast_ctx.enabled
    assert_no_leak(switch.host)


def test_a_bridge_that_goes_leaves_no_timer_behind() -> None:
    switch = Switch(3)
    br_multicast_set_querier(switch.br, 1)
    querier(switch, 2)
    for group in (G, H):
        switch.send(1, ip4(group, igmp(REPORT, group)))
    switch.host.del_link("br0")
    switch.run_for(1000)
    assert_no_leak(switch.host)


@given(st.integers(0, 255))
def test_response_codes_are_those_of_the_rfc(code: int) -> None:
    """RFC 3376 4.1.1: 0 to 127 as they are, then four bits of mantissa and three of exponent."""
    if code < 128:
        assert mc_time_code(code) == code
    else:
        assert mc_time_code(code) == (16 + code % 16) * 2 ** (code // 16 % 8 + 3)


RECORDS = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.integers(0, 255),
        st.integers(0, 4),
        st.sampled_from([G, H, b"\xe0\0\0\x05", bytes(4)]),
        st.binary(max_size=20),
    ),
    max_size=5,
)


@st.composite
def reports(draw: st.DrawFn) -> bytes:
    """IGMPv3 reports whose lengths and counts are nearly right."""
    records = draw(RECORDS)
    count = draw(st.sampled_from([len(records), len(records) + 1, 0xFFFF]))
    body = b"".join(
        bytes((kind, aux, 0, n)) + group + rest for kind, aux, n, group, rest in records
    )
    return igmp(REPORT3, b"\0\0" + count.to_bytes(2, "big"), body)


HOSTILE = st.one_of(
    reports(),
    st.builds(
        igmp,
        st.sampled_from([QUERY, REPORT, LEAVE, 0x12, 0x30, 0x99]),
        st.sampled_from([G, H, bytes(4)]),
        st.binary(max_size=12),
        st.integers(0, 255),
    ),
    st.binary(max_size=40),
)


@given(st.lists(st.tuples(st.integers(0, 2), HOSTILE, st.integers(0, 70)), max_size=20))
def test_hostile_igmp_fills_no_more_than_the_table(
    messages: list[tuple[int, bytes, int]],
) -> None:
    switch = Switch(3)
    switch.br.multicast_ctx.hash_max = 2
    for port, body, cut in messages:
        whole = ip4(G, body)
        switch.wires[port].receive(whole[: max(len(whole) - cut, 14)] if cut < 20 else whole)
        switch.run_for(0.5)
        assert len(groups(switch)) <= 2
        assert all(ports == sorted(set(ports)) for ports in groups(switch).values())
    switch.run_for(600)
    assert groups(switch) == {}
    assert_no_leak(switch.host)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([130, 131, 132, 143, 151]), st.binary(max_size=64), st.booleans()
        ),
        max_size=20,
    )
)
def test_hostile_mld_fills_no_more_than_the_table(messages: list[tuple[int, bytes, bool]]) -> None:
    switch = Switch(2)
    switch.br.multicast_ctx.hash_max = 3
    for kind, rest, cut in messages:
        whole = ip6(G6, bytes((kind, 0, 0, 0)) + rest)
        switch.wires[0].receive(whole[:-3] if cut else whole)
        assert len(groups(switch)) <= 3
    switch.run_for(600)
    assert groups(switch) == {}
    assert_no_leak(switch.host)


@pytest.mark.parametrize("count", [examples(300)])
def test_a_port_that_leaves_takes_its_groups_with_it(count: int) -> None:
    switch = Switch(3)
    for number in range(count):
        group = b"\xef\x01" + number.to_bytes(2, "big")
        switch.send(number % 3, ip4(group, igmp(REPORT, group)))
    switch.host.set_master("eth1", None)
    assert all(1 not in ports for ports in groups(switch).values())
    switch.run_for(0.1)
    assert len(groups(switch)) == count - count // 3
    assert port_address(0) == switch.bridge.dev_addr
