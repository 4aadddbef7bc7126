"""stack/services/router_advertiser.py: RFC 4861 6.2 under any clock."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_RA,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
)

from fastpath.errors import ArgumentError
from stack.clients.action import SetTimer
from stack.ipv6.addr import IN6ADDR_LINKLOCAL_ALLNODES, parse_addr6
from stack.ipv6.nd_messages import RouterAdvertisement
from stack.ipv6.nd_options import dnssl, ndisc_options, prefix_info, rdnss, route_info
from stack.services.router_advertiser import (
    MAX_UNICAST_PER_INTERVAL,
    Advertise,
    AdvertiserConfig,
    Inconsistent,
    RouterAdvertiser,
)

SEC = 1_000_000_000
PREFIX = prefix_info(parse_addr6("2001:db8:1::"), 64)
HOST = parse_addr6("fe80::99")


class Runner:
    """Carries the actions out: a list of (time, destination, message)."""

    def __init__(self, config: AdvertiserConfig, seed: int = 1) -> None:
        self.core = RouterAdvertiser(config, Random(seed), b"\2\0\0\0\0\1")
        self.now = 0
        self.due: int | None = None
        self.sent: list[tuple[int, int, bytes]] = []
        self.log: list[Inconsistent] = []

    def act(self, actions: list[object]) -> None:
        for action in actions:
            if isinstance(action, Advertise):
                self.sent.append((self.now, action.daddr, action.message))
            elif isinstance(action, SetTimer):
                self.due = action.at_ns
            else:
                assert isinstance(action, Inconsistent)
                self.log.append(action)

    def run(self, until: int) -> None:
        while self.due is not None and self.due <= until:
            assert self.due >= self.now
            self.now, self.due = self.due, None
            self.act(list(self.core.timer(self.now)))
        self.now = until


def started(**kw: object) -> Runner:
    runner = Runner(AdvertiserConfig(prefixes=(PREFIX,), **kw))  # type: ignore[arg-type]
    runner.act(list(runner.core.start(0)))
    return runner


def test_the_message_says_what_is_configured() -> None:
    config = AdvertiserConfig(
        prefixes=(PREFIX,),
        routes=(route_info(parse_addr6("2001:db8:ff::"), 48, 1, 600),),
        rdnss=(rdnss((parse_addr6("2001:db8::53"),), 300),),
        dnssl=(dnssl(("example.org",), 300),),
        managed=True,
        link_mtu=1400,
        reachable_time_ms=20000,
        retrans_timer_ms=500,
        hop_limit=32,
        preference=3,
    )
    core = RouterAdvertiser(config, Random(1), b"\2\0\0\0\0\1")
    there = ICMPv6ND_RA(core.message())
    assert (there.chlim, there.M, there.O, there.prf) == (32, 1, 0, 3)
    assert (there.routerlifetime, there.reachabletime, there.retranstimer) == (1800, 20000, 500)
    assert there[ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:01"
    assert there[ICMPv6NDOptMTU].mtu == 1400
    assert there[ICMPv6NDOptPrefixInfo].prefix == "2001:db8:1::"
    assert there[ICMPv6NDOptRouteInfo].prefix == "2001:db8:ff::"
    assert there[ICMPv6NDOptRDNSS].dns == ["2001:db8::53"]
    assert there[ICMPv6NDOptDNSSL].searchlist[0] == "example.org."
    last = ICMPv6ND_RA(core.message(lifetime_s=0))
    assert (last.routerlifetime, last.prf) == (0, 0)
    assert last[ICMPv6NDOptRDNSS].lifetime == last[ICMPv6NDOptRouteInfo].rtlifetime == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_first_three_come_soon_then_at_random_intervals(seed: int) -> None:
    runner = Runner(AdvertiserConfig(prefixes=(PREFIX,)), seed)
    runner.act(list(runner.core.start(0)))
    runner.run(3600 * SEC)
    times = [at for at, _, _ in runner.sent]
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == 0
    assert all(gap <= 16 * SEC for gap in gaps[:2])  # MAX_INITIAL_RTR_ADVERT_INTERVAL
    assert all(198 * SEC <= gap <= 600 * SEC for gap in gaps[2:])
    assert len(set(gaps[2:])) == len(gaps[2:])
    assert {to for _, to, _ in runner.sent} == {IN6ADDR_LINKLOCAL_ALLNODES}


def test_a_solicitation_is_answered_within_half_a_second_but_not_too_often() -> None:
    runner = started()
    runner.run(100 * SEC)
    before = len(runner.sent)
    runner.act(list(runner.core.solicited(HOST, runner.now)))
    runner.run(101 * SEC)
    assert len(runner.sent) == before + 1
    at = runner.sent[-1][0]
    assert 100 * SEC <= at <= 100 * SEC + SEC // 2
    for _ in range(1000):
        runner.act(list(runner.core.solicited(HOST, runner.now)))
    runner.run(103 * SEC)
    assert len(runner.sent) == before + 1  # MIN_DELAY_BETWEEN_RAS
    runner.run(105 * SEC)
    assert len(runner.sent) == before + 2
    assert runner.sent[-1][0] >= at + 3 * SEC


def test_by_unicast_a_flood_of_sources_ends_in_one_multicast() -> None:
    runner = started(unicast=True)
    runner.run(100 * SEC)
    before = len(runner.sent)
    for i in range(500):
        runner.act(list(runner.core.solicited(HOST + i, runner.now)))
    runner.run(110 * SEC)
    sent = runner.sent[before:]
    unicast = [to for _, to, _ in sent if to != IN6ADDR_LINKLOCAL_ALLNODES]
    assert len(unicast) == MAX_UNICAST_PER_INTERVAL
    assert len(sent) == len(unicast) + 1
    # Who asks again because the answer was lost gets one.
    runner.act(list(runner.core.solicited(HOST, runner.now)))
    runner.run(120 * SEC)
    assert len(runner.sent) == before + len(sent) + 1


def test_a_solicitation_without_an_address_is_answered_to_all() -> None:
    runner = started(unicast=True)
    runner.run(100 * SEC)
    runner.act(list(runner.core.solicited(0, runner.now)))
    runner.run(101 * SEC)
    assert runner.sent[-1][1] == IN6ADDR_LINKLOCAL_ALLNODES
    assert runner.sent[-1][0] >= 100 * SEC


def test_a_router_that_goes_says_so_and_falls_silent() -> None:
    runner = started()
    runner.run(50 * SEC)
    actions = runner.core.stop(runner.now)
    assert [ICMPv6ND_RA(a.message).routerlifetime for a in actions if isinstance(a, Advertise)] == [
        0
    ] * 3
    assert runner.core.timer(10**15) == runner.core.solicited(HOST, 10**15) == []
    assert runner.core.stop(runner.now) == []


def test_another_router_that_differs_is_told() -> None:
    runner = started(link_mtu=1500, reachable_time_ms=1000)
    same = runner.core.advertisement()
    assert runner.core.heard(same, ndisc_options(mtu=1500, prefixes=[PREFIX]), 0) == []
    other = RouterAdvertisement(32, True, False, False, 0, 100, 2000, 0)
    options = ndisc_options(
        mtu=1400, prefixes=[prefix_info(PREFIX.prefix, 64, valid=5, prefered=5)]
    )
    runner.act(list(runner.core.heard(other, options, 0)))
    assert [line.what for line in runner.log] == [
        "hop limit",
        "managed flag",
        "reachable time",
        "MTU",
        "preferred lifetime",
        "valid lifetime",
    ]
    # 0 says nothing (RFC 4861 6.2.7)
    silent = RouterAdvertisement(0, False, False, False, 0, 100, 0, 0)
    assert runner.core.heard(silent, ndisc_options(), 0) == []


@pytest.mark.parametrize(
    ("kw", "what"),
    [
        ({"max_interval_s": 3}, "max_interval_s 3"),
        ({"max_interval_s": 1801}, "max_interval_s 1801"),
        ({"max_interval_s": 10, "min_interval_s": 8}, "min_interval_s 8"),
        ({"default_lifetime_s": 9001}, "default_lifetime_s 9001"),
        ({"preference": 2}, "preference 2"),
        ({"prefixes": (prefix_info(0, 64, valid=1, prefered=2),)}, "preferred for longer"),
    ],
)
def test_what_rfc_4861_forbids_is_refused(kw: dict[str, object], what: str) -> None:
    with pytest.raises(ArgumentError, match=what):
        AdvertiserConfig(**kw)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 10 * SEC), st.integers(0, 3)), max_size=40),
    st.booleans(),
    st.integers(0, 9),
)
def test_multicasts_are_never_closer_than_three_seconds(
    events: list[tuple[int, int]], unicast: bool, seed: int
) -> None:
    runner = Runner(AdvertiserConfig(max_interval_s=10, unicast=unicast), seed)
    runner.act(list(runner.core.start(0)))
    for gap, source in events:
        runner.run(runner.now + gap)
        runner.act(list(runner.core.solicited(HOST + source if source else 0, runner.now)))
    runner.run(runner.now + 30 * SEC)
    multicast = [at for at, to, _ in runner.sent if to == IN6ADDR_LINKLOCAL_ALLNODES]
    assert all(b - a >= 3 * SEC for a, b in pairwise(multicast))
