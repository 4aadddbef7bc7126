"""Routes of IPv6: longest match, metrics, preferred routers (RFC 4191), equal routes, expiry."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack import proc
from stack.core.uapi import AF_INET6, NUD_FAILED, RTN_PROHIBIT, RTN_THROW, RTN_UNREACHABLE
from stack.inet.flow import flowi
from stack.ipv6.addr import MASKS6, format_addr6
from stack.ipv6.ip6_fib import fib6_lookup
from stack.ipv6.nd_options import (
    ICMPV6_ROUTER_PREF_HIGH,
    ICMPV6_ROUTER_PREF_LOW,
    ICMPV6_ROUTER_PREF_MEDIUM,
)
from stack.ipv6.route import ip6_route_output_flow
from stack.ipv6.route_config import fib6_dump
from stack.ipv6.route_learned import (
    rt6_add_dflt_router,
    rt6_get_dflt_router,
    rt6_purge_dflt_routers,
    rt6_route_rcv,
)
from tests.stack.ipv6.net import FAR, GW, ME, OUT, PEER, SEC, Net6, ip6, neighbour_of, one_host6
from tests.support import errno_of, examples

R1, R2, R3 = "fe80::a1", "fe80::a2", "fe80::a3"


def way(net: Net6, to: str = FAR, **flow: Any) -> str:
    """Next hop of a flow, or the errno."""
    fl6 = flowi(AF_INET6, ip6(to), **flow)
    try:
        rt = ip6_route_output_flow(net.host, fl6)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return format_addr6(rt.rt6i_gateway) if rt.rt6i_gateway else rt.dev.name


def refused(net: Net6, *args: Any, **how: Any) -> str:
    return errno.errorcode[errno_of(net.host.route_add, *args, **how)]


def test_longest_prefix_wins() -> None:
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"))
    assert way(net) == "ENETUNREACH"
    net.host.route_add("default", via=GW)
    assert way(net) == GW
    net.host.route_add("2001:db8:ffff::/48", dev="eth1")
    assert way(net) == "eth1"
    net.host.route_add(f"{FAR}/128", via=PEER)
    assert way(net) == PEER
    net.host.route_del(f"{FAR}/128")
    assert way(net) == "eth1"


def test_lower_metric_wins_and_the_other_takes_over(net: Net6) -> None:
    net.host.route_add("::/0", via=GW, metric=100)
    net.host.route_add("::/0", via=PEER, metric=50)
    assert way(net) == PEER
    net.host.route_del("::/0", via=PEER)
    assert way(net) == GW


@pytest.mark.parametrize(
    ("rtype", "why"),
    [(RTN_UNREACHABLE, "EHOSTUNREACH"), (RTN_PROHIBIT, "EACCES"), (RTN_THROW, "ENETUNREACH")],
)
def test_types_that_lead_nowhere(rtype: int, why: str, net: Net6) -> None:
    net.host.route_add("2001:db8:ffff::/48", rtype=rtype)
    assert way(net) == why


@pytest.mark.parametrize(
    ("args", "how", "why"),
    [
        (("::/0",), {"via": ME}, "EINVAL"),
        (("::/0",), {"via": "ff02::1", "dev": "eth0"}, "EINVAL"),
        (("::/0",), {"via": R1}, "EINVAL"),
        (("::/0",), {"via": FAR}, "EHOSTUNREACH"),
        (("::/0",), {"dev": "eth7"}, "ENODEV"),
        (("::/0",), {"dev": "eth0", "src": PEER}, "EINVAL"),
    ],
)
def test_what_ip_route_add_refuses(args: Any, how: dict[str, str], why: str) -> None:
    assert refused(one_host6(), *args, **how) == why


def test_a_route_that_is_there_is_refused_or_replaced(net: Net6) -> None:
    net.host.route_add("::/0", via=GW)
    assert refused(net, "::/0", via=GW) == "EEXIST"
    assert refused(net, "::/0", via=PEER) == "EEXIST"
    net.host.route_add("::/0", via=PEER, replace=True)
    assert way(net) == PEER
    assert [r["metric"] for r in fib6_dump(net.host) if not r["plen"]] == [1024]


def test_equal_routes_share_flows_and_keep_each_on_its_way(net: Net6) -> None:
    net.host.route_add("::/0", via=GW)
    net.host.route_add("::/0", via=PEER, append=True)
    ways = [way(net, f"2001:db8:ffff::{n:x}") for n in range(1, 100)]
    assert set(ways) == {GW, PEER}
    assert 20 < ways.count(GW) < 80
    assert ways == [way(net, f"2001:db8:ffff::{n:x}") for n in range(1, 100)]


def test_router_with_the_higher_preference_is_taken(net: Net6) -> None:
    """RFC 4191 3.2"""
    dev = net.wire.dev
    rt6_add_dflt_router(net.host, ip6(R1), dev, ICMPV6_ROUTER_PREF_LOW)
    rt6_add_dflt_router(net.host, ip6(R2), dev, ICMPV6_ROUTER_PREF_HIGH)
    rt6_add_dflt_router(net.host, ip6(R3), dev, ICMPV6_ROUTER_PREF_MEDIUM)
    assert way(net) == R2


def test_a_router_that_does_not_answer_is_the_last_choice(net: Net6) -> None:
    """RFC 4191 3.5, RFC 4861 6.3.6"""
    dev = net.wire.dev
    rt6_add_dflt_router(net.host, ip6(R1), dev, ICMPV6_ROUTER_PREF_LOW)
    rt6_add_dflt_router(net.host, ip6(R2), dev, ICMPV6_ROUTER_PREF_HIGH)

    neighbour_of(dev, R2).nud_state = NUD_FAILED
    net.host.ipv6.rt_cache_flush()
    assert way(net) == R1
    neighbour_of(dev, R1).nud_state = NUD_FAILED
    assert way(net) == R2


def test_a_routers_routes_end_with_their_lifetime(net: Net6) -> None:
    """RFC 4861 6.3.4, RFC 4191 3.1"""
    dev, gw = net.wire.dev, ip6(R1)
    rt6_add_dflt_router(net.host, gw, dev, lifetime_s=1800)
    rt6_route_rcv(net.host, dev, ip6("2001:db8:ffff::"), 48, ICMPV6_ROUTER_PREF_MEDIUM, 60, ip6(R2))
    assert way(net) == R2
    net.run(61 * SEC)
    assert way(net) == R1
    net.run(1800 * SEC)
    assert way(net) == "ENETUNREACH"
    assert rt6_get_dflt_router(net.host, gw, dev) is None


def test_route_information_of_lifetime_0_takes_the_route_back(net: Net6) -> None:
    """RFC 4191 3.1"""
    dev, prefix = net.wire.dev, ip6("2001:db8:ffff::")
    rt6_route_rcv(net.host, dev, prefix, 48, ICMPV6_ROUTER_PREF_HIGH, 600, ip6(R1))
    assert way(net) == R1
    rt6_route_rcv(net.host, dev, prefix, 48, ICMPV6_ROUTER_PREF_HIGH, 0, ip6(R1))
    assert way(net) == "ENETUNREACH"


def test_a_host_that_becomes_a_router_forgets_the_routers(net: Net6) -> None:
    rt6_add_dflt_router(net.host, ip6(R1), net.wire.dev)
    net.host.route_add("2001:db8:5::/48", via=GW)
    rt6_purge_dflt_routers(net.host)
    assert way(net) == "ENETUNREACH"
    assert way(net, "2001:db8:5::1") == GW


def test_a_bound_interface_is_kept_to() -> None:
    net = one_host6(addrs=(f"{ME}/64", f"{OUT}/64"))
    net.host.route_add("::/0", via=GW)
    assert way(net, flowi_oif=net.wires[1].dev.ifindex) == "ENETUNREACH"
    assert way(net, "fe80::77", flowi_oif=net.wires[1].dev.ifindex) == "eth1"
    assert way(net, flowi_oif=99) == "ENETUNREACH"  # as Linux


@settings(max_examples=examples(60), deadline=None)
@given(
    routes=st.dictionaries(
        st.tuples(st.integers(0, 255), st.integers(0, 128)), st.integers(1, 5), max_size=12
    ),
    to=st.integers(0, 255),
)
def test_lookup_equals_a_linear_search(routes: dict[tuple[int, int], int], to: int) -> None:
    """Any set of prefixes: the longest that matches is found."""
    net = one_host6()
    base = ip6("2001:db8:8000::")
    table = {}
    for (low, plen), metric in routes.items():
        dst = (base | low << 40 | low) & MASKS6[plen]
        table.setdefault((dst, plen), metric)
    for (dst, plen), metric in table.items():
        if plen == 64 and dst == ip6("2001:db8::"):
            continue
        net.host.route_add(f"{format_addr6(dst)}/{plen}", via=GW, metric=metric)
    target = base | to << 40 | to
    fits = [plen for dst, plen in table if target & MASKS6[plen] == dst]
    found = fib6_lookup(net.host, target)
    assert (found.fib6_plen if found else None) == (max(fits) if fits else None)


def test_the_table_is_shown_as_proc_net_ipv6_route(net: Net6) -> None:
    net.host.route_add("2001:db8:ffff::/48", via=GW, metric=7)
    lines = proc.read(net.host, "ipv6_route").splitlines()
    assert all(len(line) == 149 for line in lines)
    (line,) = (each for each in lines if each.startswith("20010db8ffff"))
    assert line.split()[1] == "30"
    assert line.split()[4:6] == [f"{ip6(GW):032x}", "00000007"]
