"""Redirects obeyed (RFC 4861 8.3): what rt6_do_redirect makes of a message that passed 8.1."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptRedirectedHdr,
    IPv6,
)

from fastpath.base.skbuff import skb_copy_bits, skb_pull, skb_transport_offset
from stack.core.uapi import AF_INET6
from stack.inet.flow import flowi
from stack.ipv6.addr import format_addr6
from stack.ipv6.icmp import icmpv6_notify
from stack.ipv6.route import ip6_route_output_flow
from stack.ipv6.route_learned import ip6_redirect_no_header
from tests.stack.ipv6.net import FAR, GW, ME, SEC, Net6, ip6, neighbour_of, one_host6

ROUTER, BETTER = "fe80::fe", "fe80::77"
BETTER_MAC = "02:00:00:00:00:77"


def give(skb: Any) -> int:
    """As ndisc_redirect_rcv: to whom the quoted packet belonged, or without one."""
    at = skb_transport_offset(skb)
    for off in range(at + 40, skb.len - 8, 8):
        if bytes_at(skb, off) == 4:
            skb_pull(skb, off + 8)
            return icmpv6_notify(skb, 137, 0, 0)
    ip6_redirect_no_header(skb, skb.dev.net, skb.dev.ifindex)
    return 0


def bytes_at(skb: Any, off: int) -> int:
    return skb_copy_bits(skb, off, 1)[0]


def host(via: str = ROUTER, **sysctl: int) -> Net6:
    given = {f"net.ipv6.conf.default.{name}": value for name, value in sysctl.items()}
    net = one_host6(sysctl=given)
    net.host.route_add("::/0", via=via, dev="eth0")
    net.host.ipv6.nd.ndisc_rcv = give
    return net


def redirect(net: Net6, target: str = BETTER, src: str = ROUTER, header: bool = True) -> None:
    message = ICMPv6ND_Redirect(tgt=target, dst=FAR) / ICMPv6NDOptDstLLAddr(lladdr=BETTER_MAC)
    if header:
        message /= ICMPv6NDOptRedirectedHdr(pkt=IPv6(src=ME, dst=FAR) / ICMPv6EchoReply())
    net.inject(IPv6(src=src, dst=ME, hlim=255) / message)


def next_hop(net: Net6, to: str = FAR) -> str:
    rt = ip6_route_output_flow(net.host, flowi(AF_INET6, ip6(to)))
    return format_addr6(rt.rt6i_gateway)


@pytest.mark.parametrize("header", [True, False])
def test_a_redirect_of_our_router_is_obeyed_for_that_destination(header: bool) -> None:
    net = host()
    assert next_hop(net) == ROUTER
    redirect(net, header=header)
    assert next_hop(net) == BETTER
    assert next_hop(net, "2001:db8:ffff::8") == ROUTER
    assert neighbour_of(net.wire.dev, BETTER).ha.hex(":") == BETTER_MAC


def test_flush_forgets_it() -> None:
    net = host()
    redirect(net)
    net.host.sysctl["net.ipv6.route.flush"] = 1
    assert next_hop(net) == ROUTER


def test_a_target_that_is_the_destination_is_on_link() -> None:
    net = host()
    redirect(net, target=FAR)
    assert next_hop(net) == FAR
    assert neighbour_of(net.wire.dev, FAR).ha.hex(":") == BETTER_MAC


@pytest.mark.parametrize(
    "how",
    [{"src": "fe80::66"}, {"target": GW}, {"target": "ff02::1"}],
    ids=["not our router", "a target that is no link-local address", "a group"],
)
def test_what_is_ignored(how: dict[str, str]) -> None:
    net = host()
    redirect(net, **how)
    assert next_hop(net) == ROUTER


@pytest.mark.parametrize("sysctl", [{"accept_redirects": 0}, {"forwarding": 1}])
def test_what_turns_them_off(sysctl: dict[str, int]) -> None:
    net = host(**sysctl)
    redirect(net)
    assert next_hop(net) == ROUTER


def test_a_second_redirect_by_the_better_router_is_obeyed_too() -> None:
    net = host()
    redirect(net)
    redirect(net, target="fe80::78", src=BETTER)
    assert next_hop(net) == "fe80::78"
    redirect(net, target="fe80::79", src="fe80::66")
    assert next_hop(net) == "fe80::78"
    net.run(SEC)
