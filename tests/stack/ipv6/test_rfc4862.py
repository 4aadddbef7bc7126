"""Conformance to RFC 4862 (addresses by themselves): messages in, messages out, by section.

With RFC 4429 (optimistic), 7527 (loops), 7217 (stable), 8981 (temporary), 7559 (solicitations).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from stack.core.dev import dev_close, dev_open
from stack.core.netdevice import LINK_STATE_NOCARRIER
from stack.ipv6.addr import format_addr6, parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_DEPRECATED, IFA_F_TEMPORARY
from tests.stack.ipv6.conformance_nd import (
    ALL_NODES,
    EUI,
    OTHER_MAC,
    PREFIX,
    SEC,
    NdRow,
    Net6,
    addresses,
    globals_,
    make,
    na,
    ns,
    prefix,
    ra,
    run_nd,
    sent,
    solicited,
)

LL = f"fe80::{EUI}"
AUTO = f"{PREFIX}{EUI}"
HOUR = 3600
DAD = [f"NS {LL} dad"]
UP = [*DAD, "RS with address"]
NOT = "NOT_SPECIFIED"
CONF = "net.ipv6.conf.default."


def at_once(**more: int) -> dict[str, Any]:
    """No random delay before the detection; no solicitation of routers."""
    return {
        f"{CONF}router_solicitation_delay": 0,
        f"{CONF}router_solicitations": 0,
        **{CONF + name: value for name, value in more.items()},
    }


def lifetimes(net: Net6) -> tuple[int, int] | None:
    """(valid, preferred) seconds left of the address that the prefix made."""
    for ifp in net.wire.dev.ip6_ptr.addr_list:
        if format_addr6(ifp.addr) == AUTO:
            age = (net.clock.now_ns() - ifp.tstamp) // SEC
            return ifp.valid_lft - age, ifp.prefered_lft - age
    return None


def two(valid: int, then: int) -> list[Any]:
    """An advertisement with one valid lifetime, and a minute later with another."""
    first = prefix(validlifetime=valid, preferredlifetime=min(valid, 60))
    second = prefix(validlifetime=then, preferredlifetime=min(then, 60))
    return [ra(first, life=0), 60 * SEC, ra(second, life=0)]


def add(text: str) -> Any:
    return lambda net: inet6_addr_add(net.wire.dev, parse_addr6(text), 64)


def looped_back(net: Net6) -> None:
    """The last solicitation comes back, as over a loop in the link layer."""
    frame = [f for f in net.wire.sent if f[54] == 135][-1]
    net.wire.receive(frame)
    net.clock.run_for(1000)


DUP = ns(target=LL, src="::", lladdr=None)
ROWS = [
    # 5.3, 5.4: the link-local address
    NdRow("5.3", "an interface that goes up makes a link-local address and detects duplicates",
          [SEC // 2], DAD, fresh=True, sysctl=at_once(), seen=addresses, is_={LL: "tentative"}),
    NdRow("5.4", "after RetransTimer without an answer it is ours", [2 * SEC], DAD, fresh=True,
          sysctl=at_once(), seen=addresses, is_={LL: ""}),
    NdRow("5.4", "DupAddrDetectTransmits solicitations", [5 * SEC], DAD * 3, fresh=True,
          sysctl=at_once(dad_transmits=3), seen=addresses, is_={LL: ""}),
    NdRow("5.1", "DupAddrDetectTransmits 0: none", [SEC], [], fresh=True,
          sysctl=at_once(dad_transmits=0), seen=addresses, is_={LL: ""}),
    NdRow("5.1", "accept_dad 0: none", [SEC], [], fresh=True,
          sysctl={**at_once(accept_dad=0), "net.ipv6.conf.all.accept_dad": 0}, seen=addresses,
          is_={LL: ""}),
    NdRow("RFC 4861 6.3.7", "then routers are asked for", [2 * SEC], UP, fresh=True,
          sysctl={f"{CONF}router_solicitation_delay": 0}),
    NdRow("5.4", "a permanent address goes through it too", [add("2001:db8:7::1"), 2 * SEC],
          ["NS 2001:db8:7::1 dad"], seen=lambda net: addresses(net)["2001:db8:7::1"], is_="",
          sysctl=at_once()),
    # 5.4.3, 5.4.4: somebody else
    NdRow("5.4.3", "another one detects for the same address: taken", [SEC // 2, DUP, 2 * SEC],
          DAD, fresh=True, sysctl=at_once(), seen=addresses, is_={LL: "tentative failed"}),
    NdRow("5.4.4", "an advertisement for it: taken",
          [SEC // 2, na(target=LL, src=LL, dst=ALL_NODES, flags="O", lladdr=OTHER_MAC), SEC], DAD,
          [NOT], fresh=True, sysctl=at_once(), seen=addresses, is_={LL: "tentative failed"}),
    NdRow("5.4.3", "a question for a tentative address is not answered",
          [SEC // 2, ns(target=LL, src="fe80::2")], DAD, fresh=True, sysctl=at_once()),
    NdRow("5.4.4", "after it the address is defended, not given up",
          [2 * SEC, na(target=LL, src=LL, dst=ALL_NODES, flags="O", lladdr=OTHER_MAC), SEC], DAD,
          [NOT], fresh=True, sysctl=at_once(), seen=addresses, is_={LL: ""}),
    NdRow("5.4.3", "a later detection of another one is answered to all",
          [2 * SEC, DUP], [*DAD, f"NA {LL} O to {ALL_NODES} with address"], fresh=True,
          sysctl=at_once()),
    NdRow("5.4.5", "accept_dad 2: with the MAC's own address IPv6 stops", [SEC // 2, DUP, SEC],
          DAD, ["IPV6DISABLED"], fresh=True, sysctl=at_once(accept_dad=2),
          seen=lambda net: (addresses(net), net.wire.dev.ip6_ptr.cnf.disable_ipv6), is_=({}, 1)),
    NdRow("5.4.5", "of a prefix's address the duplicate is removed",
          [2 * SEC, ra(prefix(), life=0), SEC // 2, ns(target=AUTO, src="::", lladdr=None), SEC],
          [*DAD, f"NS {AUTO} dad"], fresh=True, sysctl=at_once(), seen=globals_, is_=[]),
    NdRow("RFC 7527 4.1", "one's own solicitation that comes back is no duplicate",
          [SEC // 2, looped_back, 2 * SEC], DAD, fresh=True, sysctl=at_once(), seen=addresses,
          is_={LL: ""}),
    NdRow("RFC 7527 4.1", "without nonces it is", [SEC // 2, looped_back, 2 * SEC], DAD, fresh=True,
          sysctl={**at_once(enhanced_dad=0), "net.ipv6.conf.all.enhanced_dad": 0}, seen=addresses,
          is_={LL: "tentative failed"}),
    # 5.5.3: prefixes
    NdRow("5.5.3", "a prefix makes an address", [ra(prefix(), life=0), 3 * SEC],
          [f"NS {AUTO} dad"], seen=globals_, is_=[AUTO]),
    NdRow("5.5.3 a", "not without the A flag", [ra(prefix(A=0), life=0), 3 * SEC], [],
          seen=globals_, is_=[]),
    NdRow("5.5.3 b", "not of the link-local prefix", [ra(prefix("fe80::"), life=0), 3 * SEC], [],
          seen=globals_, is_=[]),
    NdRow("5.5.3 c", "not when it would be preferred longer than valid",
          [ra(prefix(validlifetime=10, preferredlifetime=11), life=0), 3 * SEC], [],
          seen=globals_, is_=[]),
    NdRow("5.5.3 d", "not with valid lifetime 0",
          [ra(prefix(validlifetime=0, preferredlifetime=0), life=0), 3 * SEC], [], seen=globals_,
          is_=[]),
    NdRow("5.5.3 d", "not when prefix and identifier are not 128 bits",
          [ra(prefix(plen=63), life=0), ra(prefix(plen=65), life=0), 3 * SEC], [], seen=globals_,
          is_=[]),
    NdRow("5.5.3", "autoconf 0: none", [ra(prefix(), life=0), 3 * SEC], [], seen=globals_, is_=[],
          sysctl={f"{CONF}autoconf": 0}),
    NdRow("5.5.3", "accept_ra 0: none", [ra(prefix(), life=0), 3 * SEC], [], seen=globals_, is_=[],
          sysctl={f"{CONF}accept_ra": 0}),
    NdRow("5.5.3 e", "a longer valid lifetime is taken", two(HOUR, 3 * HOUR), [f"NS {AUTO} dad"],
          seen=lifetimes, is_=(3 * HOUR, 60)),
    NdRow("5.5.3 e", "more than two hours is taken, shorter or not", two(10 * HOUR, 3 * HOUR),
          [f"NS {AUTO} dad"], seen=lifetimes, is_=(3 * HOUR, 60)),
    NdRow("5.5.3 e", "below two hours, with more left: two hours", two(10 * HOUR, 60),
          [f"NS {AUTO} dad"], seen=lifetimes, is_=(2 * HOUR, 60)),
    NdRow("5.5.3 e", "with less than two hours left a shorter one is ignored", two(HOUR, 30),
          [f"NS {AUTO} dad"], seen=lifetimes, is_=(HOUR - 60, 30)),
    NdRow("5.5.3 e", "lifetime 0 does not remove an address at once", two(HOUR, 0),
          [f"NS {AUTO} dad"], seen=lifetimes, is_=(HOUR - 60, 0)),
    NdRow("5.5.4", "it is deprecated after its preferred lifetime",
          [ra(prefix(preferredlifetime=100), life=0), 102 * SEC], [f"NS {AUTO} dad"],
          seen=lambda net: addresses(net)[AUTO], is_="deprecated"),
    NdRow("5.5.4", "a new advertisement makes it preferred again",
          [ra(prefix(preferredlifetime=100), life=0), 102 * SEC, ra(prefix(), life=0)],
          [f"NS {AUTO} dad"], seen=lambda net: addresses(net)[AUTO], is_=""),
    NdRow("5.5.4", "it is removed after its valid lifetime",
          [ra(prefix(validlifetime=200, preferredlifetime=100), life=0), 202 * SEC],
          [f"NS {AUTO} dad"], seen=globals_, is_=[]),
    # RFC 4429
    NdRow("RFC 4429 3.3", "an optimistic address answers, without override",
          [2 * SEC, ra(prefix(), life=0), SEC // 2, ns(target=AUTO, src="fe80::2")],
          [f"NS {AUTO} dad", f"NA {AUTO} S to fe80::2 with address"],
          sysctl={**at_once(optimistic_dad=1)}),
    NdRow("RFC 4429 3.1", "not without the router's link-layer address",
          [2 * SEC, ra(prefix(), life=0, lladdr=None), SEC // 2], [f"NS {AUTO} dad"],
          sysctl=at_once(optimistic_dad=1), seen=lambda net: addresses(net)[AUTO],
          is_="tentative"),
    NdRow("RFC 4429 3.3", "it can fail as any other",
          [2 * SEC, ra(prefix(), life=0), SEC // 2, ns(target=AUTO, src="::", lladdr=None), SEC],
          [f"NS {AUTO} dad"], sysctl=at_once(optimistic_dad=1), seen=globals_, is_=[]),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rfc_4862(row: NdRow) -> None:
    run_nd(row).host.close()


def test_names_are_unique() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) >= 35


def test_solicitations_of_routers_back_off_for_ever() -> None:
    """RFC 7559 2: 4 s, doubling to an hour, each a tenth more or less, until a router answers."""
    net = make(fresh=True, sysctl={})
    at = []
    for _ in range(5 * HOUR):
        net.run(SEC)
        if "RS with address" in sent(net):
            at.append(net.clock.now_ns() // SEC)
    gaps = [b - a for a, b in pairwise(at)]
    assert 3 <= gaps[0] <= 5
    for before, after in pairwise(gaps):
        assert min(1.8 * before - 2, 3200) <= after <= min(2.2 * before + 2, 3970)
    assert max(gaps) > 3200
    net.inject(ra())
    net.run(3 * HOUR * SEC)
    assert "RS with address" not in sent(net)


def test_a_fixed_number_of_solicitations() -> None:
    net = make(fresh=True, sysctl={f"{CONF}router_solicitations": 3})
    net.run(HOUR * SEC)
    assert sent(net).count("RS with address") == 3


def test_the_first_solicitation_comes_at_a_random_time_within_a_second() -> None:
    """RFC 4862 5.4.2"""
    times = set()
    for seed in range(8):
        net = make(fresh=True, sysctl={})
        net.host.machine.random.seed(seed)
        dev_close(net.wire.dev)
        sent(net)
        start = net.clock.now_ns()
        dev_open(net.wire.dev)
        while not sent(net):
            net.run(SEC // 100)
        times.add(net.clock.now_ns() - start)
    assert max(times) <= SEC + SEC // 50
    assert len(times) > 4


def test_stable_addresses() -> None:
    """RFC 7217: the same in the same place, another in another place, another after a conflict."""
    secret = {f"{CONF}addr_gen_mode": 2, f"{CONF}stable_secret": "2001:db8::1234", **at_once()}
    seen = []
    for text in (PREFIX, PREFIX, "2001:db8:6::"):
        net = make(fresh=True, sysctl=secret)
        net.run(2 * SEC)
        net.inject(ra(prefix(text), life=0))
        net.run(2 * SEC)
        (addr,) = globals_(net)
        seen.append(parse_addr6(addr) & (1 << 64) - 1)
        assert EUI not in addr
    assert seen[0] == seen[1] != seen[2]
    net.inject(ra(prefix(PREFIX), life=0))
    net.run(SEC // 2)
    first = next(a for a in globals_(net) if a.startswith("2001:db8:5:"))
    net.inject(ns(target=first, src="::", lladdr=None))
    net.run(4 * SEC)
    second = next(a for a in globals_(net) if a.startswith("2001:db8:5:"))
    assert second != first
    net.inject(ra(prefix(PREFIX), life=0))
    net.run(2 * SEC)
    assert sum(a.startswith("2001:db8:5:") for a in globals_(net)) == 1


def temporaries(net: Net6) -> list[tuple[str, bool]]:
    """Temporary addresses and whether each is deprecated."""
    return [
        (format_addr6(i.addr), bool(i.flags & IFA_F_DEPRECATED))
        for i in net.wire.dev.ip6_ptr.addr_list
        if i.flags & IFA_F_TEMPORARY
    ]


def test_temporary_addresses_follow_each_other() -> None:
    """RFC 8981 3.4: the next is made before the last is deprecated; old ones end."""
    conf = at_once(use_tempaddr=2, temp_prefered_lft=HOUR, temp_valid_lft=2 * HOUR)
    net = make(fresh=False, sysctl={**conf, f"{CONF}max_desync_factor": 60})
    advertised = ra(prefix(validlifetime=86400, preferredlifetime=86400), life=0)
    net.inject(advertised)
    net.run(3 * SEC)
    ((first, old),) = temporaries(net)
    assert first.startswith(PREFIX[:-1])
    assert not old
    seen = {first}
    for _ in range(90):
        net.run(60 * SEC)
        net.inject(advertised)
        assert any(not deprecated for _, deprecated in temporaries(net))
        seen |= {addr for addr, _ in temporaries(net)}
    assert len(seen) >= 2
    assert dict(temporaries(net)).get(first) is True
    for _ in range(60):
        net.run(60 * SEC)
        net.inject(advertised)
    assert first not in dict(temporaries(net))
    assert len(temporaries(net)) <= 3


def test_a_duplicate_temporary_address_is_replaced() -> None:
    net = make(fresh=False, sysctl=at_once(use_tempaddr=1))
    net.inject(ra(prefix(), life=0))
    net.run(SEC // 2)
    ((first, _),) = temporaries(net)
    net.inject(ns(target=first, src="::", lladdr=None, dst=solicited(first)))
    net.run(3 * SEC)
    ((second, _),) = temporaries(net)
    assert second != first


def test_an_interface_without_a_carrier_waits() -> None:
    net = make(fresh=True, sysctl=at_once())
    dev = net.wire.dev
    dev_close(dev)
    sent(net)
    dev.state |= LINK_STATE_NOCARRIER
    dev_open(dev)
    net.run(5 * SEC)
    assert sent(net) == []


def test_down_and_up_begins_anew() -> None:
    net = make(fresh=True, sysctl=at_once())
    net.run(3 * SEC)
    net.inject(ra(prefix()))
    net.run(3 * SEC)
    assert globals_(net) == [AUTO]
    dev_close(net.wire.dev)
    assert (addresses(net), list(net.host.ipv6.fib6.tables[254].routes())) == ({}, [])
    sent(net)
    dev_open(net.wire.dev)
    net.run(3 * SEC)
    assert addresses(net) == {LL: ""}
    assert sent(net) == DAD
    net.host.close()
