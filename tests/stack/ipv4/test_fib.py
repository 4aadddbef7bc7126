"""stack/ipv4/fib.py"""

from __future__ import annotations

import errno
from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.core import uapi
from stack.core.dev import dev_close, dev_open
from stack.core.netdevice import net_device
from stack.host import Host
from stack.ipv4.devinet import inet_make_mask
from stack.ipv4.fib import (
    MASKS,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    fib_alias,
    fib_dump,
    fib_info,
    fib_lookup,
    fib_nh,
    fib_result,
    fib_table,
    fib_table_lookup,
    format_addr,
    inet_addr_type,
    inet_select_addr,
    ip_dev_find,
    ip_route_add,
    ip_route_del,
    parse_addr,
    parse_prefix,
)
from tests.stack.ipv4.net import GW, ME, PEER, Net, ip4
from tests.support import errno_of, examples

prefixes = st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 32)).map(
    lambda t: (t[0] & MASKS[t[1]], t[1])
)


@settings(max_examples=examples(100))
@given(st.sets(prefixes, max_size=30), st.lists(st.integers(0, 0xFFFFFFFF), max_size=20))
def test_lookup_is_longest_prefix_match(routes: set, addrs: list[int]) -> None:
    table = fib_table(RT_TABLE_MAIN)
    dev = net_device(Host("host", clock=VirtualClock()), "fake")
    dev.ifindex, dev.flags = 2, 1
    for dst, plen in routes:
        info = fib_info([fib_nh(dev)], rtype=uapi.RTN_UNICAST, scope=uapi.RT_SCOPE_LINK)
        table.insert(fib_alias(dst, plen, 0, uapi.RTN_UNICAST, info, RT_TABLE_MAIN))
    probes = addrs + [dst for dst, _ in routes] + [dst ^ 1 for dst, _ in routes]
    for addr in probes:
        fits = [(plen, dst) for dst, plen in routes if addr & MASKS[plen] == dst]
        res = fib_table_lookup(table, addr)
        if not fits:
            assert res == -errno.EAGAIN
        else:
            assert isinstance(res, fib_result)
            assert (res.prefixlen, res.prefix) == max(fits)
    assert len(table) == len(routes)
    for fa in list(table.aliases()):
        table.remove(fa)
    assert table.lens == []


@given(st.integers(0, 32))
def test_masks(plen: int) -> None:
    assert inet_make_mask(plen) == int(IPv4Network((0, plen)).netmask)


@given(st.integers(0, 0xFFFFFFFF))
def test_address_text_round_trip(addr: int) -> None:
    assert parse_addr(format_addr(addr)) == addr


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.256", "1.2.3.4/33", "a.b.c.d", "1.2.3.-4"])
def test_bad_prefixes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_prefix(text)


def test_address_makes_local_broadcast_and_link_routes(net: Net) -> None:
    main = [(format_addr(r["dst"]), r["plen"]) for r in fib_dump(net.host, RT_TABLE_MAIN)]
    assert main == [("10.0.0.0", 24)]
    local = {
        (format_addr(r["dst"]), r["type"])
        for r in fib_dump(net.host, RT_TABLE_LOCAL)
        if r["dev"] == "eth0"
    }
    assert local == {
        (ME, uapi.RTN_LOCAL),
        ("10.0.0.255", uapi.RTN_BROADCAST),
    }
    for addr, kind in (
        (ME, uapi.RTN_LOCAL),
        (PEER, uapi.RTN_UNICAST),
        ("10.0.0.255", uapi.RTN_BROADCAST),
        ("224.1.2.3", uapi.RTN_MULTICAST),
        ("10.0.0.0", uapi.RTN_UNICAST),
        ("127.5.6.7", uapi.RTN_LOCAL),
        ("255.255.255.255", uapi.RTN_BROADCAST),
    ):
        assert inet_addr_type(net.host, ip4(addr)) == kind, addr
    assert ip_dev_find(net.host, ip4(ME)) is net.wire.dev
    assert ip_dev_find(net.host, ip4(PEER)) is None


def test_removing_the_address_removes_its_routes(net: Net) -> None:
    ip_route_add(net.host, "default", via=GW)
    net.host.addr_del("eth0", f"{ME}/24")
    assert fib_dump(net.host, RT_TABLE_MAIN) == []
    assert inet_addr_type(net.host, ip4(ME)) == uapi.RTN_UNICAST


def test_second_address_of_a_subnet_keeps_what_it_needs(net: Net) -> None:
    net.host.ifconfig("eth0", "10.0.0.5/24")
    net.host.addr_del("eth0", "10.0.0.5/24")
    assert inet_addr_type(net.host, ip4("10.0.0.255")) == uapi.RTN_BROADCAST
    assert inet_addr_type(net.host, ip4(ME)) == uapi.RTN_LOCAL
    assert inet_addr_type(net.host, ip4("10.0.0.5")) == uapi.RTN_UNICAST
    assert [r["plen"] for r in fib_dump(net.host)] == [24]


def test_device_down_takes_routes_and_up_brings_link_routes_back(net: Net) -> None:
    ip_route_add(net.host, "default", via=GW)
    dev_close(net.wire.dev)
    assert fib_dump(net.host) == []
    assert fib_lookup(net.host, ip4(PEER)) == -errno.ENETUNREACH
    dev_open(net.wire.dev)
    assert [(r["plen"], r["scope"]) for r in fib_dump(net.host)] == [(24, uapi.RT_SCOPE_LINK)]


def test_default_gateway(net: Net) -> None:
    assert fib_lookup(net.host, ip4("192.0.2.1")) == -errno.ENETUNREACH
    ip_route_add(net.host, "default", via=GW, metric=5)
    res = fib_lookup(net.host, ip4("192.0.2.1"))
    assert isinstance(res, fib_result)
    assert res.nh is not None
    assert (res.nh.nh_gw, res.nh.nh_dev) == (ip4(GW), net.wire.dev)
    ip_route_del(net.host, "default")
    assert fib_lookup(net.host, ip4("192.0.2.1")) == -errno.ENETUNREACH


@pytest.mark.parametrize(
    ("kwargs", "err"),
    [
        ({"prefix": "10.1.0.0/16", "via": "172.16.0.1"}, errno.ENETUNREACH),
        ({"prefix": "10.1.0.1/16", "via": GW}, errno.EINVAL),
        ({"prefix": "10.1.0.0/16"}, errno.ENODEV),
        ({"prefix": "10.1.0.0/16", "dev": "eth9"}, errno.ENODEV),
        ({"prefix": "10.1.0.0/16", "via": GW, "src": PEER}, errno.EINVAL),
    ],
)
def test_route_add_errors(net: Net, kwargs: dict, err: int) -> None:
    assert errno_of(ip_route_add, net.host, **kwargs) == err


def test_with_our_own_address_as_gateway_the_destinations_are_on_the_link(net: Net) -> None:
    """net/ipv4/fib_semantics.c fib_check_nh_v4_gw: its scope is RT_SCOPE_HOST, as Linux has it."""
    ip_route_add(net.host, "10.1.0.0/16", via=ME)
    res = fib_lookup(net.host, ip4("10.1.0.9"))
    assert isinstance(res, fib_result)
    assert res.nh is not None
    assert (res.nh.nh_dev, res.nh.nh_scope) == (net.wire.dev, uapi.RT_SCOPE_HOST)


def test_a_gateway_behind_a_gateway_is_refused(net: Net) -> None:
    """net/ipv4/fib_semantics.c: the next hop must be a neighbour (scope link)."""
    ip_route_add(net.host, "10.20.0.0/16", via=GW)
    with pytest.raises(OSError, match="Nexthop has invalid gateway") as info:
        ip_route_add(net.host, "10.30.0.0/16", via="10.20.0.5")
    assert info.value.errno == errno.ENETUNREACH


def test_double_route_is_refused_and_replace_replaces(net: Net) -> None:
    ip_route_add(net.host, "10.1.0.0/16", via=GW)
    with pytest.raises(FileExistsError):
        ip_route_add(net.host, "10.1.0.0/16", via=PEER)
    ip_route_add(net.host, "10.1.0.0/16", via=PEER, replace=True)
    rows = [r for r in fib_dump(net.host) if r["plen"] == 16]
    assert [format_addr(r["gw"]) for r in rows] == [PEER]
    ip_route_add(net.host, "10.1.0.0/16", via=GW, metric=10)
    res = fib_lookup(net.host, ip4("10.1.2.3"))
    assert isinstance(res, fib_result)
    assert res.nh is not None
    assert res.nh.nh_gw == ip4(PEER)
    with pytest.raises(ProcessLookupError):
        ip_route_del(net.host, "10.9.0.0/16")


@pytest.mark.parametrize(
    ("rtype", "err"),
    [
        (uapi.RTN_BLACKHOLE, errno.EINVAL),
        (uapi.RTN_UNREACHABLE, errno.EHOSTUNREACH),
        (uapi.RTN_PROHIBIT, errno.EACCES),
    ],
)
def test_special_routes_answer_with_their_errno(net: Net, rtype: int, err: int) -> None:
    ip_route_add(net.host, "10.1.0.0/16", rtype=rtype)
    assert fib_lookup(net.host, ip4("10.1.2.3")) == -err


def test_tos_routes_are_preferred_for_their_tos(net: Net) -> None:
    ip_route_add(net.host, "10.1.0.0/16", via=GW)
    ip_route_add(net.host, "10.1.0.0/16", via=PEER, tos=0x10)
    gws = []
    for tos in (0, 0x10):
        res = fib_lookup(net.host, ip4("10.1.2.3"), tos)
        assert isinstance(res, fib_result)
        assert res.nh is not None
        gws.append(format_addr(res.nh.nh_gw))
    assert gws == [GW, PEER]


def test_source_address_selection(net: Net) -> None:
    net.host.ifconfig("eth0", "172.16.0.1/16")
    dev = net.wire.dev
    assert format_addr(inet_select_addr(dev, ip4("172.16.5.5"), 0)) == "172.16.0.1"
    assert format_addr(inet_select_addr(dev, ip4("10.0.0.9"), 0)) == ME
    assert format_addr(inet_select_addr(dev, ip4("8.8.8.8"), 0)) == ME
    lo = net.host.dev("lo")
    assert format_addr(inet_select_addr(lo, 0, 0)) == ME
    assert format_addr(inet_select_addr(lo, 0, uapi.RT_SCOPE_HOST)) == "127.0.0.1"


def test_with_route_localnet_addresses_of_the_host_count_as_the_links(net: Net) -> None:
    lo = net.host.dev("lo")
    assert format_addr(inet_select_addr(lo, 0, uapi.RT_SCOPE_LINK)) == ME
    net.host.sysctl["net.ipv4.conf.lo.route_localnet"] = 1
    assert format_addr(inet_select_addr(lo, 0, uapi.RT_SCOPE_LINK)) == "127.0.0.1"
