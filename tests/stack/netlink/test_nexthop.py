"""Packets over next hops that are objects; what `ip nexthop` tells is in test_iproute.py."""

from __future__ import annotations

import errno

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from stack.core.dev import dev_close
from stack.core.uapi import AF_INET, AF_INET6
from stack.ipv4.fib import RT_SCOPE_LINK, fib_lookup, fib_result, ip_route_add
from stack.ipv6.route_config import ip6_route_add
from stack.netlink.nexthop import nexthop, nexthop_add, nexthop_remove, nexthop_replace
from tests.stack.inet.test_multipath import router, router6, way
from tests.stack.ipv4.net import Net, ip4
from tests.stack.ipv6.net import Net6, ip6


def objects(net: Net | Net6, six: bool) -> list[nexthop]:
    """An object for the router on each of the wires 1 to 3, and a group of them."""
    found = []
    for i in (1, 2, 3):
        gw = ip6(f"2001:db8:{i}::2") if six else ip4(f"10.{i}.0.2")
        family = AF_INET6 if six else AF_INET
        found.append(nexthop(i, family, 0, 0, RT_SCOPE_LINK, net.wires[i].dev, gw))
    group = nexthop(9)
    group.members = [(found[0], 1), (found[1], 1)]
    for nh in (*found, group):
        nexthop_add(net.host, nh)
    return [*found, group]


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_routes_follow_their_object(six: bool) -> None:
    net: Net | Net6 = router6() if six else router()
    one, two, three, group = objects(net, six)
    host = net.host
    if six:
        ip6_route_add(host, "fd00:9::/32", nhobj=group)
        packets = [IPv6(src="fd77::1", dst=f"fd00:9::{i + 1:x}") / UDP() for i in range(30)]
    else:
        ip_route_add(host, "9.0.0.0/8", nhobj=group)
        packets = [IP(src="172.16.1.1", dst=f"9.1.1.{i + 1}") / UDP() for i in range(30)]
    assert {way(net, packet) for packet in packets} == {1, 2}
    new = nexthop(9)
    new.members = [(three, 1), (two, 1)]
    nexthop_replace(host, group, new)
    assert {way(net, packet) for packet in packets} == {2, 3}
    nexthop_remove(host, two)
    assert {way(net, packet) for packet in packets} == {3}
    nexthop_replace(host, three, one)
    assert {way(net, packet) for packet in packets} == {1}
    dev_close(net.wires[1].dev)  # takes with it what goes over it, and then the group
    assert host.fib.nexthops == {}
    others = {way(net, packet) for packet in packets}
    assert others == {2, 3}  # by the default route
    assert host.ipv6.rt6_exceptions == 0
    assert host.skb_small.in_use == 0


def test_one_that_discards() -> None:
    net = router()
    host = net.host
    discards = nexthop(5, AF_INET, blackhole=True, dev=host.loopback_dev)
    nexthop_add(host, discards)
    ip_route_add(host, "9.0.0.0/8", nhobj=discards)
    assert fib_lookup(host, ip4("9.1.1.1")) == -errno.EINVAL
    nexthop_replace(
        host, discards, nexthop(5, AF_INET, 0, 0, 253, net.wires[1].dev, ip4("10.1.0.2"))
    )
    assert isinstance(fib_lookup(host, ip4("9.1.1.1")), fib_result)
    assert way(net, IP(src="172.16.1.1", dst="9.1.1.1") / UDP()) == 1
