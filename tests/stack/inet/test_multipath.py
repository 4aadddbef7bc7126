"""Routes with several next hops: by what one is chosen, and how often (stack/inet/multipath.py)."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import GRE, ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from stack.core.fib_rules import fib_rule, fib_rule_add
from stack.core.uapi import AF_INET
from stack.inet.flow import flowi
from stack.inet.multipath import HASH_BITS, fib_rebalance, fib_select_hop
from stack.ipv4.arp import arp_req_set
from stack.ipv4.route import ip_route_output_flow
from tests.stack.ipv4.net import ME, PEER, Net, ip4, one_host
from tests.stack.ipv6.net import Net6, one_host6, static_neigh
from tests.support import examples

MAC = b"\x02\0\0\0\1"
WAYS = 3


def router(weights: tuple[int, ...] = (1, 1, 1), **sysctl: int) -> Net:
    """A router whose default route has a next hop on each of the wires 1 to 3."""
    outs = tuple(f"10.{i + 1}.0.1/24" for i in range(WAYS))
    sysctl = {"ip_forward": 1, "icmp_ratelimit": 0, **sysctl}
    net = one_host(addrs=(f"{ME}/24", *outs), sysctl=sysctl)
    hops = []
    for i, weight in enumerate(weights):
        arp_req_set(net.wires[i + 1].dev, ip4(f"10.{i + 1}.0.2"), MAC + bytes((i,)))
        hops.append((f"10.{i + 1}.0.2", None, weight))
    net.host.route_add("default", nexthops=hops)
    return net


def router6(weights: tuple[int, ...] = (1, 1, 1), **sysctl: int) -> Net6:
    """The same with IPv6."""
    outs = tuple(f"2001:db8:{i + 1}::1/64" for i in range(WAYS))
    given = {"net.ipv6.conf.all.forwarding": 1, "net.ipv6.icmp.ratelimit": 0}
    given |= {f"net.ipv6.{name}": value for name, value in sysctl.items()}
    net = one_host6(addrs=("2001:db8::1/64", *outs), sysctl=given)
    for i, weight in enumerate(weights):
        gw = f"2001:db8:{i + 1}::2"
        static_neigh(net.wires[i + 1].dev, gw, MAC + bytes((i,)))
        net.host.route_add("::/0", via=gw, weight=weight, append=bool(i))
    return net


def way(net: Net | Net6, packet: Any) -> int:
    """Over which wire a packet goes on."""
    net.inject(packet)
    sent = [i for i in range(len(net.wires)) for _ in net.ip_sent(wire=i)]
    assert len(sent) == 1
    return sent[0]


def flow(rng: Random, six: bool = False) -> tuple[str, str]:
    if six:
        return f"2001:db8:77::{rng.randrange(1, 1 << 16):x}", f"fd00::{rng.getrandbits(16):x}"
    return f"172.16.{rng.randrange(256)}.{rng.randrange(1, 255)}", f"8.8.{rng.randrange(256)}.7"


@settings(max_examples=examples(100))
@given(st.lists(st.integers(0, 256), min_size=1, max_size=8), st.integers(0, (1 << 31) - 1))
def test_every_hash_has_a_next_hop_and_shares_are_the_weights(weights: list[int], h: int) -> None:
    if not any(weights):
        assert fib_select_hop(weights, h) == -1
        return
    bounds = fib_rebalance(weights)
    assert max(bounds) == (1 << HASH_BITS) - 1
    last = -1
    for weight, bound in zip(weights, bounds, strict=True):
        if weight:
            assert abs((bound - last) - (weight << HASH_BITS) / sum(weights)) <= 1
            last = bound
        else:
            assert bound == -1
    assert weights[fib_select_hop(weights, h)] > 0


@settings(max_examples=examples(6), deadline=None)
@given(st.tuples(*[st.integers(1, 9)] * WAYS), st.integers(0, 99), st.booleans())
def test_flows_part_in_proportion(weights: tuple[int, ...], seed: int, six: bool) -> None:
    net: Net | Net6 = router6(weights) if six else router(weights)
    rng, seen, flows = Random(seed), Counter[int](), 400
    for _ in range(flows):
        src, dst = flow(rng, six)
        packet = (IPv6 if six else IP)(src=src, dst=dst) / UDP(sport=1, dport=2)
        seen[way(net, packet)] += 1
    for i, weight in enumerate(weights):
        share = weight / sum(weights)
        spread = (flows * share * (1 - share)) ** 0.5
        assert abs(seen[i + 1] - flows * share) < 5 * spread, seen


def ways(net: Net | Net6, packets: list[Any]) -> int:
    """Over how many wires packets go."""
    return len({way(net, packet) for packet in packets})


PORTS = [UDP(sport=1000 + i, dport=2) for i in range(24)]


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("policy", "fields", "by_ports", "by_inner"),
    [(0, 7, 1, 1), (1, 7, 3, 1), (2, 7, 1, 3), (3, 7, 1, 1), (3, 0x10, 3, 1), (3, 0x80, 1, 3)],
)
def test_what_the_policies_look_at(
    six: bool, policy: int, fields: int, by_ports: int, by_inner: int
) -> None:
    knobs = {"fib_multipath_hash_policy": policy, "fib_multipath_hash_fields": fields}
    net: Net | Net6 = router6(**knobs) if six else router(**knobs)
    layer, (src, dst) = (IPv6 if six else IP), flow(Random(1), six)
    outer = layer(src=src, dst=dst)
    assert ways(net, [outer / ports / Raw(bytes(8)) for ports in PORTS]) == by_ports
    for tunnel in (outer, outer / GRE(), outer / GRE(key_present=1, key=7)):
        inner = [tunnel / IP(src="1.2.3.4", dst=f"5.6.7.{i}") / UDP() for i in range(24)]
        assert ways(net, inner) == by_inner


def test_fragments_have_no_ports() -> None:
    net = router(fib_multipath_hash_policy=1)
    src, dst = flow(Random(1))
    assert ways(net, [IP(src=src, dst=dst, flags="MF") / p / Raw(bytes(8)) for p in PORTS]) == 1
    net6 = router6(fib_multipath_hash_policy=1)
    src, dst = flow(Random(1), True)
    whole = IPv6(src=src, dst=dst) / IPv6ExtHdrFragment(m=1)
    assert ways(net6, [whole / p / Raw(bytes(8)) for p in PORTS]) == 1


def test_flow_labels_part_flows_of_ipv6() -> None:
    src, dst = flow(Random(1), True)
    packets = [IPv6(src=src, dst=dst, fl=i) / UDP() for i in range(24)]
    assert ways(router6(), packets) == 3
    assert ways(router6(fib_multipath_hash_policy=1), packets) == 1


@settings(max_examples=examples(5), deadline=None)
@given(st.integers(0, 999))
def test_both_directions_and_errors_take_one_way(seed: int) -> None:
    rng = Random(seed)
    net, net6 = router(), router6()
    for _ in range(20):
        src, dst = flow(rng)
        there = way(net, IP(src=src, dst=dst) / TCP())
        assert way(net, IP(src=dst, dst=src) / TCP()) == there
        about = IPerror(src=dst, dst=src) / UDPerror()
        error = IP(src="9.9.9.9", dst=dst) / ICMP(type=3, code=4) / about
        assert way(net, error) == there
        src, dst = flow(rng, True)
        there = way(net6, IPv6(src=src, dst=dst) / UDP())
        inner = IPv6(src=dst, dst=src) / UDP()
        for kind in (ICMPv6PacketTooBig(), ICMPv6TimeExceeded()):
            assert way(net6, IPv6(src="fd99::9", dst=dst) / kind / inner) == there


def test_our_own_error_takes_the_way_of_the_flow_that_it_is_about() -> None:
    rng = Random(3)
    net = router()
    for _ in range(20):
        src, dst = flow(rng)
        assert way(net, IP(src=src, dst=dst, ttl=9) / UDP()) == way(
            net, IP(src=src, dst=dst, ttl=1) / UDP()
        )


def test_own_packets_part_by_the_policy_and_prefer_their_source() -> None:
    net = router()
    host = net.host

    def routes(**keys: Any) -> set[int]:
        flows = [flowi(AF_INET, ip4("8.8.8.8"), 0, 0, 0, 17, 53, 1000 + i) for i in range(24)]
        for fl4 in flows:
            for name, value in keys.items():
                setattr(fl4, name, value)
        return {ip_route_output_flow(host, fl4).dev.ifindex for fl4 in flows}

    assert len(routes()) == 1
    host.sysctl.fib_multipath_hash_policy = 1
    assert len(routes()) == 3
    assert routes(saddr=ip4("10.2.0.1")) == {net.wires[2].dev.ifindex}
    fib_rule_add(host, host.fib.ops, fib_rule(9, table=9, mark=1, mark_mask=1))
    host.sysctl.fib_multipath_hash_policy = 0
    assert len(routes()) == 1


def test_a_seed_chooses_otherwise() -> None:
    net = router()
    packets = [IP(src=f"172.16.1.{i}", dst="8.8.8.8") / UDP() for i in range(1, 40)]
    first = [way(net, packet) for packet in packets]
    assert first == [way(net, packet) for packet in packets]
    net.host.sysctl.fib_multipath_hash_seed = 5
    assert first != [way(net, packet) for packet in packets]


def test_a_next_hop_that_does_not_answer_is_passed_over() -> None:
    outs = ("10.1.0.1/24", "10.2.0.1/24")
    net = one_host(addrs=(f"{ME}/24", *outs), sysctl={"ip_forward": 1})
    net.host.sysctl.fib_multipath_use_neigh = 1
    arp_req_set(net.wires[1].dev, ip4("10.1.0.2"), MAC + b"\0")
    net.host.route_add("default", nexthops=[("10.1.0.2", None, 1), ("10.2.0.2", None, 1)])
    packets = [IP(src=PEER, dst=f"8.8.8.{i}") / UDP() for i in range(20)]
    for packet in packets:  # nobody answers for 10.2.0.2
        net.inject(packet)
    net.run(5_000_000_000)
    for wire in net.wires:
        wire.sent.clear()
    assert {way(net, packet) for packet in packets} == {1}
