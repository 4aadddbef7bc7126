"""stack/ipv4/route.py"""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from fastpath.base.skbuff import alloc_skb, kfree_skb
from stack.core import uapi
from stack.core.dev import dev_set_mtu
from stack.core.drop_reason import SKB_DROP_REASON_IP_RPFILTER
from stack.core.netdevice import ETH_P_IP
from stack.core.uapi import AF_INET
from stack.inet.flow import flowi
from stack.ipv4.route import (
    __ip_rt_update_pmtu,
    ip_route_connect,
    ip_route_output,
    ip_route_output_flow,
    ip_route_output_key,
    ipv4_default_advmss,
    ipv4_mtu,
    rtable,
    update_or_create_fnhe,
)
from stack.ipv4.route_input import ip_route_input
from stack.ipv4.rt_cache import RT_CACHE_MAX
from tests.stack.ipv4.net import FAR, GW, ME, PEER, SEC, Net, at, ip4, one_host
from tests.support import errno_of


def test_output_fills_source_and_device(net: Net) -> None:
    fl4 = flowi(AF_INET, ip4(PEER))
    rt = ip_route_output_key(net.host, fl4)
    assert (fl4.saddr, fl4.flowi_oif) == (ip4(ME), net.wire.dev.ifindex)
    assert (rt.rt_type, rt.dev, rt.rt_gw4, rt.rt_uses_gateway) == (
        uapi.RTN_UNICAST,
        net.wire.dev,
        0,
        False,
    )


@pytest.mark.parametrize(
    ("dst", "rtype", "dev"),
    [
        (ME, uapi.RTN_LOCAL, "lo"),
        ("127.0.0.1", uapi.RTN_LOCAL, "lo"),
        ("0.0.0.0", uapi.RTN_LOCAL, "lo"),
        ("10.0.0.255", uapi.RTN_BROADCAST, "eth0"),
    ],
)
def test_types_of_destinations(net: Net, dst: str, rtype: int, dev: str) -> None:
    rt = ip_route_output(net.host, ip4(dst))
    assert (rt.rt_type, rt.dev.name) == (rtype, dev)


def test_multicast_needs_a_route_or_an_interface(net: Net) -> None:
    assert errno_of(ip_route_output, net.host, ip4("239.1.1.1")) == errno.ENETUNREACH
    rt = ip_route_output(net.host, ip4("239.1.1.1"), oif=net.wire.dev.ifindex)
    assert rt.rt_type == uapi.RTN_MULTICAST
    assert rt.rt_src == ip4(ME)
    rt = ip_route_output(net.host, ip4("239.1.1.1"), ip4(ME))
    assert rt.dev is net.wire.dev


def test_gateway_route(net: Net) -> None:
    net.host.route_add("default", via=GW, mtu=1400, advmss=900)
    rt = ip_route_output(net.host, ip4(FAR))
    assert (rt.rt_gw4, rt.rt_uses_gateway) == (ip4(GW), True)
    assert ipv4_mtu(rt) == 1400
    assert rt.metrics["advmss"] == 900


@pytest.mark.parametrize(
    ("dst", "src", "oif", "err"),
    [
        (PEER, "224.0.0.1", 0, errno.EINVAL),
        (PEER, "10.0.0.99", 0, errno.ENETUNREACH),
        (FAR, "0.0.0.0", 0, errno.ENETUNREACH),
        (PEER, "0.0.0.0", 99, errno.ENODEV),
    ],
)
def test_output_errors(net: Net, dst: str, src: str, oif: int, err: int) -> None:
    assert errno_of(ip_route_output, net.host, ip4(dst), ip4(src), oif=oif) == err


def test_a_named_device_is_on_link_even_without_route(net: Net) -> None:
    rt = ip_route_output(net.host, ip4(FAR), oif=net.wire.dev.ifindex)
    assert rt.dev is net.wire.dev
    assert rt.rt_gw4 == 0


def test_prohibited_destination(net: Net) -> None:
    net.host.route_add("192.0.2.0/24", rtype=uapi.RTN_PROHIBIT)
    with pytest.raises(PermissionError):
        ip_route_output(net.host, ip4(FAR))


def test_routes_are_cached_until_something_changes(net: Net) -> None:
    one = ip_route_output(net.host, ip4(PEER))
    assert ip_route_output(net.host, ip4(PEER)) is one
    net.host.route_add("192.0.2.0/24", via=GW)
    two = ip_route_output(net.host, ip4(PEER))
    assert two is not one
    assert one.ops.check(one, 0) is None
    assert two.ops.check(two, 0) is two
    dev_set_mtu(net.wire.dev, 1400)
    assert ipv4_mtu(ip_route_output(net.host, ip4(PEER))) == 1400


def test_the_cache_is_bounded(net: Net) -> None:
    net.host.route_add("default", via=GW)
    for i in range(RT_CACHE_MAX + 100):
        ip_route_output(net.host, 0xC0000000 + i)
    assert len(net.host.ipv4.rt_cache_out) <= RT_CACHE_MAX
    assert sum(len(v) for v in net.host.ipv4.rt_by_daddr.values()) <= RT_CACHE_MAX


def test_pmtu_exception_expires_and_never_grows(net: Net) -> None:
    host = net.host
    rt = ip_route_output(host, ip4(PEER))
    __ip_rt_update_pmtu(rt, ip4(PEER), 1200)
    small = ip_route_output(host, ip4(PEER))
    assert (ipv4_mtu(small), small.rt_mtu_locked) == (1200, False)
    __ip_rt_update_pmtu(small, ip4(PEER), 1400)
    assert ipv4_mtu(ip_route_output(host, ip4(PEER))) == 1200
    __ip_rt_update_pmtu(small, ip4(PEER), 100)
    tiny = ip_route_output(host, ip4(PEER))
    assert (ipv4_mtu(tiny), tiny.rt_mtu_locked) == (552, True)
    assert ipv4_mtu(ip_route_output(host, ip4(GW))) == 1500
    net.run(600 * SEC)
    assert ipv4_mtu(ip_route_output(host, ip4(PEER))) == 1500
    assert ipv4_default_advmss(ip_route_output(host, ip4(PEER))) == 1460


def test_connect_looks_up_twice_and_keeps_the_source(net: Net) -> None:
    from stack.core.bsd_socket import sockfd_lookup
    from tests.stack.ipv4.net import udp_socket

    sk = sockfd_lookup(net.host, udp_socket(net)).sk
    fl4 = flowi(AF_INET)
    rt = ip_route_connect(fl4, ip4(PEER), 0, 0, 17, 1, 2, sk)
    assert (fl4.saddr, fl4.daddr, fl4.fl_dport) == (ip4(ME), ip4(PEER), 2)
    assert ip_route_output_flow(net.host, fl4, sk).rt_type == rt.rt_type


@pytest.mark.parametrize(("mode", "answered"), [(0, True), (1, False), (2, True)])
def test_reverse_path_filter(mode: int, answered: bool) -> None:
    net = one_host(addrs=(f"{ME}/24", "10.1.0.1/24"), sysctl={"rp_filter": mode})
    net.inject(IP(src=PEER, dst="10.1.0.1") / ICMP(), wire=1)
    assert bool(net.ip_sent(wire=0)) == answered
    assert net.host.mib.linux.IPReversePathFilter == (0 if answered else 1)


def test_loose_reverse_path_needs_some_route() -> None:
    net = one_host(sysctl={"rp_filter": 2})
    net.inject(IP(src=FAR, dst=ME) / ICMP())
    assert net.host.mib.linux.IPReversePathFilter == 1


@pytest.mark.parametrize(("mode", "forwarded"), [(0, 1), (1, 0), (2, 0)])
def test_reverse_path_through_an_interface_without_an_address(mode: int, forwarded: int) -> None:
    """Also the loose filter drops what a route brings to another interface than this one."""
    addrs = (f"{ME}/24", "10.1.0.1/24")
    net = one_host(addrs=addrs, sysctl={"rp_filter": mode, "ip_forward": 1})
    net.host.addr_del("eth1", "10.1.0.1/24")
    net.host.route_add("192.0.2.0/24", via=GW)
    net.inject(IP(src=PEER, dst=FAR) / UDP(sport=1, dport=2), wire=1)
    assert len(net.ip_sent()) == forwarded
    assert net.host.mib.linux.IPReversePathFilter == 1 - forwarded


def test_input_cache_forgets_when_an_address_goes(net: Net) -> None:
    net.inject(IP(src=PEER, dst=ME) / ICMP())
    assert len(net.ip_sent()) == 1
    net.host.addr_del("eth0", f"{ME}/24")
    net.inject(IP(src=PEER, dst=ME) / ICMP())
    assert net.ip_sent() == []


def input_route(net: Net, saddr: int, daddr: int) -> rtable:
    """The route of a packet that eth0 received."""
    skb = alloc_skb(net.host.skb_small, 64)
    skb.protocol = ETH_P_IP
    assert ip_route_input(skb, daddr, saddr, 0, net.wire.dev) == 0
    rt = skb.dst
    kfree_skb(skb)
    assert isinstance(rt, rtable)
    return rt


def test_spoofed_sources_do_not_cost_the_route_of_a_good_one(net: Net) -> None:
    """One route for each of our addresses, whoever sends: twice what the old cache held."""
    host, me = net.host, ip4(ME)
    good = input_route(net, ip4(PEER), me)
    for i in range(2 * RT_CACHE_MAX):
        assert input_route(net, 0x0B000000 + i, me) is good
    assert input_route(net, ip4(PEER), me) is good
    assert len(host.ipv4.rth_input) == 1


def test_a_source_is_checked_although_its_route_is_kept(net: Net) -> None:
    input_route(net, ip4(PEER), ip4(ME))
    for martian in ("127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", ME):
        skb = alloc_skb(net.host.skb_small, 64)
        skb.protocol = ETH_P_IP
        assert ip_route_input(skb, ip4(ME), ip4(martian), 0, net.wire.dev) != 0, martian
        kfree_skb(skb)
    net.host.sysctl.rp_filter = 1
    skb = alloc_skb(net.host.skb_small, 64)
    skb.protocol = ETH_P_IP
    reason = ip_route_input(skb, ip4(ME), ip4(FAR), 0, net.wire.dev)
    assert reason == SKB_DROP_REASON_IP_RPFILTER
    kfree_skb(skb)


def test_forwarded_packets_share_the_route_of_their_next_hop() -> None:
    net = one_host(addrs=(f"{ME}/24", "10.1.0.1/24"), sysctl={"ip_forward": 1})
    host = net.host
    host.route_add("192.0.2.0/24", via="10.1.0.254")
    first = input_route(net, ip4(PEER), ip4(FAR))
    assert first.rt_gw4 == ip4("10.1.0.254")
    for i in range(100):
        assert input_route(net, 0x0B000000 + i, ip4("192.0.2.0") + i) is first
    update_or_create_fnhe(host, ip4(FAR))  # ICMP taught something about one of them
    assert input_route(net, ip4(PEER), ip4(FAR)) is not first
    assert input_route(net, ip4(PEER), ip4("192.0.2.8")) is first
    host.route_add("192.0.2.128/25", via="10.1.0.253")
    assert input_route(net, ip4(PEER), ip4("192.0.2.200")).rt_gw4 == ip4("10.1.0.253")


def test_unanswered_neighbour_becomes_host_unreachable(net: Net) -> None:
    from stack.core.bsd_socket import sys_connect, sys_recvfrom, sys_send, sys_setsockopt
    from stack.core.uapi import IP_RECVERR, SOL_IP
    from tests.stack.ipv4.net import udp_socket

    fd = udp_socket(net, 5000)
    sys_setsockopt(net.host, fd, SOL_IP, IP_RECVERR, 1)
    sys_connect(net.host, fd, at("10.0.0.99", 9))
    sys_send(net.host, fd, b"x")
    net.run(5 * SEC)
    net.frames()
    assert errno_of(sys_recvfrom, net.host, fd, bytearray(1)) == errno.EHOSTUNREACH
    assert net.host.mib.icmp.OutDestUnreachs == 1


def test_quoted_packet_of_an_unknown_flow_changes_nothing(net: Net) -> None:
    inner = bytes(IP(src=ME, dst=FAR) / UDP(sport=1, dport=2) / Raw(bytes(8)))
    net.inject(IP(src=PEER, dst=ME) / ICMP(type=3, code=4, nexthopmtu=600) / Raw(inner))
    assert net.host.ipv4.fnhe == {}
