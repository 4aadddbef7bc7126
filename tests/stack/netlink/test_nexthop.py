"""Packets over next hops that are objects; what `ip nexthop` tells is in test_iproute.py."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from stack.core.dev import dev_close
from stack.core.uapi import AF_INET, AF_INET6, RT_SCOPE_LINK
from stack.ipv4.fib import fib_lookup, fib_result, ip_route_add
from stack.ipv6.route_config import ip6_route_add
from stack.netlink.nexthop import nexthop, nexthop_add, nexthop_remove, nexthop_replace
from stack.netlink.nh_res import NEVER, nh_res_table_alloc, nh_res_table_upkeep, nh_res_wants
from tests.stack.inet.test_multipath import router, router6, way
from tests.stack.ipv4.net import Net, ip4
from tests.stack.ipv6.net import Net6, ip6
from tests.support import examples

SECOND = 10**9


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


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_flows_of_a_resilient_group_stay_while_they_are_busy(six: bool) -> None:
    net: Net | Net6 = router6() if six else router()
    one, two, three, _ = objects(net, six)
    host = net.host
    group = nexthop(10)
    group.members = [(one, 1), (two, 1)]
    table = group.res = nh_res_table_alloc(8)
    table.idle_timer = 5 * SECOND
    nexthop_add(host, group)
    if six:
        ip6_route_add(host, "fd00:9::/32", nhobj=group)
        packets = [IPv6(src="fd77::1", dst=f"fd00:9::{i + 1:x}") / UDP() for i in range(60)]
    else:
        ip_route_add(host, "9.0.0.0/8", nhobj=group)
        packets = [IP(src="172.16.1.1", dst=f"9.1.1.{i + 1}") / UDP() for i in range(60)]
    net.clock.run_for(SECOND)
    before = [way(net, packet) for packet in packets]
    assert set(before) == {1, 2}
    assert min(table.used) > min(table.migrated)  # every bucket has carried a packet
    new = nexthop(10)
    new.members = [(one, 1), (two, 1), (three, 2)]
    nexthop_replace(host, group, new)
    assert [way(net, packet) for packet in packets] == before
    # The member that goes loses its flows at once; those of the other stay.
    nexthop_remove(host, one)
    after = [way(net, packet) for packet in packets]
    assert [now for now, then in zip(after, before, strict=True) if then == 2] == [
        2
    ] * before.count(2)
    assert 1 not in after
    assert 3 in after
    # All have been idle for long enough now, so the timer has balanced the table.
    net.clock.run_for(6 * SECOND)
    wants = nh_res_wants(8, group.members)
    assert [table.buckets.count(member) for member, _ in group.members] == wants == [3, 5]
    assert {way(net, packet) for packet in packets} == {2, 3}
    nexthop_remove(host, group)
    assert table.upkeep_dw is not None
    assert not table.upkeep_dw.pending


WEIGHTS = st.lists(st.integers(0, 40), min_size=4, max_size=4).filter(any)


@settings(max_examples=examples(100))
@given(
    st.integers(1, 64),
    st.lists(st.tuples(WEIGHTS, st.sets(st.integers(0, 63)), st.integers(0, 30)), min_size=1),
    st.sampled_from((0, 20)),
)
def test_only_as_many_buckets_move_as_weights_need(count, changes, unbalanced) -> None:
    """Over changes of weights, use and time; when all are idle the table is balanced."""
    objects = [nexthop(i + 1) for i in range(4)]
    table = nh_res_table_alloc(count)
    table.idle_timer, table.unbalanced_timer = 10, unbalanced
    now = 100
    for weights, used, later in changes:
        members = [(nh, w) for nh, w in zip(objects, weights, strict=True) if w]
        old = list(table.buckets)
        wants = nh_res_wants(count, members)
        assert sum(wants) == count
        moved, deadline = nh_res_table_upkeep(table, members, now)
        have = [table.buckets.count(nh) for nh, _ in members]
        assert sum(have) == count
        assert [at for at in range(count) if table.buckets[at] is not old[at]] == moved
        ids = {nh.id for nh, _ in members}
        forced = [nh for nh in old if nh is None or nh.id not in ids]
        surplus = sum(
            max(old.count(nh) - want, 0) for (nh, _), want in zip(members, wants, strict=True)
        )
        assert len(forced) <= len(moved) <= len(forced) + surplus
        assert (deadline == NEVER) == (have == wants) == (table.unbalanced_since < 0)
        assert deadline > now
        for at in used:
            if at < count:
                table.used[at] = now + 1
        now += 1 + later
    moved, deadline = nh_res_table_upkeep(table, members, now + 1000)
    assert deadline == NEVER
    assert [table.buckets.count(nh) for nh, _ in members] == nh_res_wants(count, members)
