"""stack/ipv6/addrconf*.py, ndisc.py, anycast.py: what an administrator does; proxies; /proc."""

from __future__ import annotations

import errno

import pytest

from e1000emu.clock import VirtualClock
from fastpath.errors import ArgumentError
from stack import proc
from stack.core.dev import dev_close, dev_open, dev_set_mtu
from stack.core.neigh_gc import pneigh_create, pneigh_delete
from stack.core.netdevice import NETDEV_DOWN, NETDEV_UP
from stack.core.uapi import RTM_DELADDR, RTM_NEWADDR
from stack.host import Host
from stack.ipv6.addr import format_addr6, ipv6_eth_mc_map
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.addrconf_addr import register_inet6addr_notifier, unregister_inet6addr_notifier
from stack.ipv6.addrconf_prefix import inet6_set_iftoken
from stack.ipv6.if_inet6 import (
    IFA_F_DADFAILED,
    IFA_F_DEPRECATED,
    IFA_F_NODAD,
    IFA_F_TEMPORARY,
    inet6_ifaddr,
)
from tests.stack.core.wire import add_wire_device
from tests.stack.ipv6.conformance_nd import (
    ALL_NODES,
    ME,
    ME_LL,
    PEER,
    SEC,
    addresses,
    make,
    na,
    ns,
    ping,
    prefix,
    ra,
    redirect,
    routes,
    sent,
)
from tests.stack.ipv6.net import Net6, ip6
from tests.support import errno_of

FORWARD = {"net.ipv6.conf.all.forwarding": 1}
CONF = "net.ipv6.conf.default."


@pytest.fixture
def net() -> Net6:
    return make(fresh=False, sysctl={})


def test_ifconfig_and_addr_del_of_both_families(net: Net6) -> None:
    host, name = net.host, net.wire.dev.name
    host.ifconfig(name, "10.0.0.1/24")
    host.ifconfig(name, "2001:db8:7::1/64")
    net.run(3 * SEC)
    assert addresses(net)["2001:db8:7::1"] == ""
    (route,) = [r for r in host.ipv6.fib6.tables[254].routes() if r.fib6_dst == ip6("2001:db8:7::")]
    assert (route.fib6_plen, route.fib6_metric) == (64, 256)
    host.addr_del(name, "2001:db8:7::1/64")
    host.addr_del(name, "10.0.0.1/24")
    assert "2001:db8:7::1" not in addresses(net)
    assert not [r for r in host.ipv6.fib6.tables[254].routes() if r.fib6_dst == ip6("2001:db8:7::")]
    with pytest.raises(OSError, match="does not have") as info:
        host.addr_del(name, "2001:db8:7::1/64")
    assert info.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (f"{ME}/64", errno.EEXIST),
        ("ff02::1/64", errno.EADDRNOTAVAIL),
        ("::1/128", errno.EADDRNOTAVAIL),
        ("::/64", errno.EADDRNOTAVAIL),
    ],
)
def test_addresses_that_cannot_be(net: Net6, text: str, error: int) -> None:
    assert errno_of(net.host.ifconfig, net.wire.dev.name, text) == error


@pytest.mark.parametrize("text", ["2001:db8::1", "2001:db8::g/64", "2001:db8::1/129"])
def test_text_that_is_no_address(net: Net6, text: str) -> None:
    with pytest.raises(ArgumentError, match="2001:db8::"):
        net.host.ifconfig(net.wire.dev.name, text)


def test_the_prefix_route_stays_for_the_second_address(net: Net6) -> None:
    host, name = net.host, net.wire.dev.name
    for last in (1, 2):
        host.ifconfig(name, f"2001:db8:7::{last}/64")
    host.addr_del(name, "2001:db8:7::1/64")

    def there() -> bool:
        dump = host.ipv6.fib6.tables[254].routes()
        return any(r.fib6_dst == ip6("2001:db8:7::") for r in dump)

    assert there()
    host.addr_del(name, "2001:db8:7::2/64")
    assert not there()


def test_a_token_is_the_lower_half_of_the_addresses_of_advertisements(net: Net6) -> None:
    """`ip token set`: those of the old one end, and a router is asked for its prefixes."""
    idev = net.wire.dev.ip6_ptr
    idev.cnf.router_solicitations = 3
    seen: list[set[str]] = []
    for token in ("::7", "::8:9", "::"):
        sent(net)
        inet6_set_iftoken(idev, ip6(token))
        assert len(sent(net)) == (token != "::")  # a solicitation
        net.inject(ra(prefix("2001:db8:9::")))
        net.run(3 * SEC)
        seen.append({addr for addr in addresses(net) if addr.startswith("2001:db8:9:")})
    assert seen[:2] == [{"2001:db8:9::7"}, {"2001:db8:9::8:9"}]
    assert len(seen[2]) == 1
    assert not seen[2] & (seen[0] | seen[1])


def test_lifetimes_of_an_administrators_address(net: Net6) -> None:
    inet6_addr_add(
        net.wire.dev, ip6("2001:db8:7::1"), 64, valid_lft=20, preferred_lft=10, flags=IFA_F_NODAD
    )
    net.run(SEC)
    assert addresses(net)["2001:db8:7::1"] == ""
    net.run(10 * SEC)
    assert addresses(net)["2001:db8:7::1"] == "deprecated"
    net.run(10 * SEC)
    assert "2001:db8:7::1" not in addresses(net)


def test_an_address_of_a_peer_needs_128_bits(net: Net6) -> None:
    addr, peer = ip6("2001:db8:7::1"), ip6("2001:db8:7::2")
    ifa = inet6_addr_add(net.wire.dev, addr, 128, peer=peer, flags=IFA_F_NODAD)
    assert ifa.peer_addr == peer


def test_listeners_hear_of_addresses(net: Net6) -> None:
    heard: list[tuple[int, str]] = []

    def listen(event: int, ifp: object) -> None:
        heard.append((event, format_addr6(ifp.addr)))  # type: ignore[attr-defined]

    register_inet6addr_notifier(net.host, listen)
    net.host.ifconfig(net.wire.dev.name, "2001:db8:7::1/64")
    net.host.addr_del(net.wire.dev.name, "2001:db8:7::1/64")
    unregister_inet6addr_notifier(net.host, listen)
    net.host.ifconfig(net.wire.dev.name, "2001:db8:7::1/64")
    assert heard == [(NETDEV_UP, "2001:db8:7::1"), (NETDEV_DOWN, "2001:db8:7::1")]


def monitored(net: Net6) -> list[tuple[str, str]]:
    """What `ip monitor` hears of global IPv6 addresses from now on: change, and state of each."""
    heard: list[tuple[str, str]] = []
    names = {RTM_NEWADDR: "new", RTM_DELADDR: "deleted"}
    words = (
        (IFA_F_DADFAILED, "duplicate"),
        (IFA_F_DEPRECATED, "deprecated"),
        (IFA_F_TEMPORARY, "temporary"),
    )

    def hear(kind: int, about: object, _flags: int) -> None:
        if isinstance(about, inet6_ifaddr) and about.addr >> 125 == 1:
            heard.append((names[kind], "".join(word for f, word in words if about.flags & f)))

    net.host.rtnl = hear
    return heard


def test_monitors_hear_of_the_end_of_lifetimes(net: Net6) -> None:
    heard = monitored(net)
    net.inject(ra(prefix(validlifetime=20, preferredlifetime=10), life=0))
    net.run(3 * SEC)
    assert heard[-1] == ("new", "")
    heard.clear()
    net.run(7 * SEC)
    assert heard == [("new", "deprecated")]
    net.inject(ra(prefix(validlifetime=20, preferredlifetime=10), life=0))
    assert heard[1:] == [("new", "")]


def test_monitors_hear_of_temporary_addresses_and_of_duplicates() -> None:
    net = make(fresh=False, sysctl={f"{CONF}use_tempaddr": 1})
    net.inject(ra(prefix(validlifetime=7200, preferredlifetime=3600), life=0))
    net.run(3 * SEC)
    heard = monitored(net)
    net.inject(ra(prefix(validlifetime=7200, preferredlifetime=3600), life=0))
    assert heard == [("new", ""), ("new", "temporary")]
    heard.clear()
    inet6_addr_add(net.wire.dev, ip6("2001:db8:7::1"), 64)
    net.run(SEC // 2)
    net.inject(na("2001:db8:7::1", dst=ALL_NODES, flags="O"))
    net.run(SEC)
    assert heard == [("new", ""), ("new", "duplicate")]
    net.host.close()


def test_keep_addr_on_down() -> None:
    net = make(fresh=False, sysctl={f"{CONF}keep_addr_on_down": 1})
    dev_close(net.wire.dev)
    assert set(addresses(net)) == {ME}
    dev_open(net.wire.dev)
    net.run(3 * SEC)
    assert addresses(net)[ME] == ""
    sent(net)
    net.inject(ns(src=PEER))
    assert len(sent(net)) == 1
    net.host.close()


def test_an_address_added_while_down_has_its_routes_when_up() -> None:
    """As `ip -6 addr add` before `ip link set up` on Linux."""
    net = make(fresh=False, sysctl={})
    dev_close(net.wire.dev)
    net.host.ifconfig(net.wire.dev.name, "2001:db8:7::1/64")
    dev_open(net.wire.dev)
    net.run(3 * SEC)
    assert addresses(net)["2001:db8:7::1"] == ""
    routes = net.host.ipv6.fib6.tables[254].routes()
    assert [r.fib6_plen for r in routes if r.fib6_dst == ip6("2001:db8:7::")] == [64]
    net.host.close()


def test_disable_ipv6_and_back(net: Net6) -> None:
    dev = net.wire.dev
    net.host.sysctl["net.ipv6.conf.all.disable_ipv6"] = 1
    assert addresses(net) == {}
    with pytest.raises(PermissionError, match="disable_ipv6"):
        net.host.ifconfig(dev.name, "2001:db8::5/64")
    net.inject(ns())
    assert sent(net) == []
    dev.ip6_ptr.cnf.addr_gen_mode = 0
    net.host.sysctl["net.ipv6.conf.all.disable_ipv6"] = 0
    net.run(3 * SEC)
    assert addresses(net) == {"fe80::ff:fe00:1": ""}


def test_an_mtu_below_1280_ends_ipv6(net: Net6) -> None:
    dev_set_mtu(net.wire.dev, 1279)
    assert net.wire.dev.ip6_ptr is None
    with pytest.raises(OSError, match="too small for IPv6"):
        net.host.ifconfig(net.wire.dev.name, "2001:db8::5/64")
    dev_set_mtu(net.wire.dev, 1400)
    assert net.wire.dev.ip6_ptr.cnf.mtu == 1400


def test_a_router_answers_for_the_first_address_of_its_subnets() -> None:
    """RFC 4291 2.6.1: subnet-router anycast, without override, after a delay."""
    net = make(fresh=False, sysctl=FORWARD)
    anycast = "2001:db8::"
    net.inject(ns(target=anycast))
    assert sent(net) == []
    net.run(SEC)
    assert sent(net) == [f"NA {anycast} RS to {PEER} with address"]
    net.host.sysctl["net.ipv6.conf.all.forwarding"] = 0
    net.inject(ns(target=anycast))
    net.run(SEC)
    assert sent(net) == ["RS with address"]  # a host again, it looks for routers
    net.host.close()


def test_proxies_answer_late_and_without_override() -> None:
    """RFC 4861 7.2.8; RFC 4389: proxy_ndp and `ip neigh add proxy`."""
    net = make(fresh=False, sysctl={**FORWARD, f"{CONF}proxy_ndp": 1})
    dev, tbl = net.wire.dev, net.host.ipv6.nd_tbl
    other = "2001:db8::77"
    pneigh_create(tbl, ip6(other), dev)
    assert ipv6_eth_mc_map(0xFF02 << 112 | 0x1FF000077) in dev.mc
    net.inject(ns(target=other))
    assert sent(net) == []
    net.run(SEC)
    assert sent(net) == [f"NA {other} S to {PEER} with address"]
    for _ in range(200):
        net.inject(ns(target=other))
    assert len(tbl.proxy_queue) <= dev.ip6_ptr.nd_parms.proxy_qlen
    net.run(2 * SEC)
    assert len(sent(net)) <= dev.ip6_ptr.nd_parms.proxy_qlen
    assert net.drops()["SKB_DROP_REASON_NEIGH_QUEUEFULL"] > 100
    assert pneigh_delete(tbl, ip6(other), dev)
    net.inject(ns(target=other))
    net.run(SEC)
    assert sent(net) == []
    net.host.close()


def test_untracked_advertisements() -> None:
    """RFC 9131: a router may learn from them, when told to."""
    for mode, known in ((0, False), (1, True), (2, True)):
        net = make(fresh=False, sysctl={**FORWARD, f"{CONF}accept_untracked_na": mode})
        net.inject(na(flags="O", dst=ALL_NODES))
        assert bool(net.host.ipv6.nd_tbl.hash.get(ip6(PEER) << 16 | net.wire.dev.ifindex)) is known
        net.host.close()


def test_a_router_redirects_its_neighbours_six_times_and_then_once_a_second() -> None:
    """RFC 4861 8.2"""
    net = make(fresh=False, sysctl=FORWARD)
    better = "2001:db8::99"
    for text in (PEER, better):
        net.inject(ns(src=text))
    sent(net)
    for _ in range(10):
        net.inject(ping(src=PEER, dst=better))
    said = sent(net)
    assert said.count(f"redirect {better} to {better}") == 6
    net.run(2 * SEC)
    sent(net)
    net.inject(ping(src=PEER, dst=better))
    assert f"redirect {better} to {better}" in sent(net)
    assert redirect("fe80::1", "2001:db8::1")
    net.host.close()


def test_becoming_a_router_forgets_what_routers_said(net: Net6) -> None:
    net.inject(ra(prefix()))
    assert any("::/0" in text for text in routes(net))
    net.host.sysctl["net.ipv6.conf.all.forwarding"] = 1
    assert not any("::/0" in text for text in routes(net))
    groups = [format_addr6(group) for group in net.wire.dev.ip6_ptr.mc_list]
    assert "ff02::2" in groups


def test_radvd_needs_a_router(net: Net6) -> None:
    with pytest.raises(OSError, match="forwarding"):
        net.host.radvd(net.wire.dev.name)
    with pytest.raises(OSError, match="no interface"):
        net.host.radvd("eth9")
    net.host.sysctl["net.ipv6.conf.all.forwarding"] = 1
    service = net.host.radvd(net.wire.dev.name)
    with pytest.raises(OSError, match="already"):
        net.host.radvd(net.wire.dev.name)
    service.stop()
    net.host.radvd(net.wire.dev.name).stop()


def test_proc_lists_addresses_and_groups(net: Net6) -> None:
    lines = proc.read(net.host, "if_inet6").splitlines()
    assert [line.split() for line in lines] == [
        [f"{1:032x}", "01", "80", "10", "80", "lo"],
        [f"{ip6(ME):032x}", "02", "40", "00", "82", "eth0"],
        [f"{ip6(ME_LL):032x}", "02", "40", "20", "82", "eth0"],
    ]
    groups = proc.read(net.host, "igmp6")
    assert f"2    eth0            {ip6('ff02::1'):032x}     1 0000000C 0" in groups.splitlines()
    assert proc.read(net.host, "mcfilter6").split()[:2] == ["Idx", "Device"]


def test_two_hosts_find_each_other_without_a_word() -> None:
    """Link-local addresses, solicitation, answer: an echo arrives with nothing configured."""
    clock = VirtualClock()
    hosts = [Host(name=name, clock=clock, drivers=False) for name in "ab"]
    wires = [add_wire_device(h, bytes((2, 0, 0, 0, 0, i + 1))) for i, h in enumerate(hosts)]
    wires[0].peer, wires[1].peer = wires[1], wires[0]
    for wire in wires:
        dev_open(wire.dev)
    clock.run_for(5 * SEC)
    six = hosts[0].socket(10, 2)
    other = hosts[1].socket(10, 2)
    other.bind(("::", 7000))
    six.sendto(b"hello", ("fe80::ff:fe00:2", 7000, 0, wires[0].dev.ifindex))
    data, peer = other.recvfrom(100)
    assert (data, peer[0].split("%")[0]) == (b"hello", "fe80::ff:fe00:1")
    for host in hosts:
        host.close()
