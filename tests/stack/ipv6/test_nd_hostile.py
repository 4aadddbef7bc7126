"""Hostile neighbour discovery: floods, exhaustion, spoofing: bounded, each drop with its name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6NDOptDNSSL, ICMPv6NDOptRDNSS, ICMPv6NDOptRouteInfo

from stack.core.uapi import NUD_REACHABLE
from stack.ipv6.addr import format_addr6
from stack.ipv6.addrconf_prefix import MAX_RA_ROUTES
from stack.ipv6.if_inet6 import IFA_F_TEMPORARY, IFA_F_TENTATIVE
from stack.ipv6.ndisc_router import MAX_DNS
from tests.stack.ipv6.conformance_nd import (
    EUI,
    ME,
    OTHER_MAC,
    ROUTER_LL,
    SEC,
    addresses,
    globals_,
    make,
    na,
    neigh,
    ns,
    ping,
    prefix,
    ra,
    redirect,
    reseal,
    routes,
    rs,
    sent,
)
from tests.stack.ipv6.test_rfc4862 import CONF, at_once
from tests.support import examples

MANY = 1200


def host6(i: int) -> str:
    """The i-th station of the link."""
    return f"2001:db8::a:{i:x}"


def test_a_flood_of_router_advertisements() -> None:
    """Routers, prefixes, routes and name servers without end: each kind has its limit."""
    net = make(fresh=False, sysctl={f"{CONF}accept_ra_rt_info_max_plen": 64, **at_once()})
    for i in range(600):
        options = [
            prefix(f"2001:db8:{i + 0x100:x}::"),
            ICMPv6NDOptRouteInfo(prefix=f"2001:db9:{i:x}::", plen=48),
            ICMPv6NDOptRDNSS(dns=[f"2001:db8::{i:x}"], lifetime=600),
            ICMPv6NDOptDNSSL(searchlist=[f"d{i}.example"], lifetime=600),
        ]
        net.inject(ra(*options, src=f"fe80::1:{i:x}"))
    net.run(2 * SEC)
    idev = net.wire.dev.ip6_ptr
    assert len(idev.addr_list) <= idev.cnf.max_addresses
    assert len(routes(net)) <= MAX_RA_ROUTES
    assert len(idev.nd.dns_servers) == len(idev.nd.dns_search) == MAX_DNS
    assert len(net.host.ipv6.nd_tbl) <= net.host.ipv6.nd_tbl.gc_thresh3
    assert idev.nd.ra_refused > 1000
    net.host.close()


@pytest.mark.parametrize(
    "frame",
    [
        lambda i: ping(src="2001:db8:9::1", dst=host6(i)),
        lambda i: ns(src=host6(i)),
        lambda i: ra(src=f"fe80::1:{i:x}"),
    ],
    ids=["packets through us to stations that are not there", "solicitations", "advertisements"],
)
def test_the_neighbour_table_is_bounded(frame: Callable[[int], bytes]) -> None:
    conf = {"net.ipv6.conf.all.forwarding": 1, f"{CONF}accept_ra": 2}
    for number, size in enumerate((16, 64, 128), 1):
        conf[f"net.ipv6.neigh.default.gc_thresh{number}"] = size
    net = make(fresh=False, sysctl=conf)
    net.inject(ping())
    net.inject(na())
    tbl = net.host.ipv6.nd_tbl
    for i in range(200):
        net.inject(frame(i))
        assert len(tbl) <= tbl.gc_thresh3 == 128
    # Who is known and in use stays.
    assert tbl.stats.table_fulls > 0
    known = tbl.hash[int("20010db8000000000000000000000002", 16) << 16 | net.wire.dev.ifindex]
    assert known.nud_state & NUD_REACHABLE
    net.run(20 * SEC)
    net.wire.sent.clear()
    for i in range(10):
        net.inject(ping(src=host6(200 + i)))
    assert len([s for s in sent(net) if s.startswith("NS")]) >= 10  # there is room again
    net.host.close()


def test_answers_that_wait_are_bounded_by_the_memory_of_their_sender() -> None:
    """Echo requests from stations that are not there: ICMPv6's own socket has a send buffer."""
    net = make(fresh=False, sysctl={"icmp_msgs_per_sec": 10**6, "icmp_msgs_burst": 10**5})
    for i in range(MANY):
        net.inject(ping(src=host6(i)))
    assert len(net.host.ipv6.nd_tbl) < 800
    net.run(10 * SEC)
    sent(net)
    net.inject(ns())
    net.inject(ping())
    assert any(text.startswith("reply") for text in sent(net))
    net.host.close()


def test_thresholds_are_sysctls() -> None:
    net = make(fresh=False, sysctl={"net.ipv6.neigh.default.gc_thresh3": 40})
    for i in range(200):
        net.inject(ping(src=host6(i)))
    assert len(net.host.ipv6.nd_tbl) <= 40
    net.host.sysctl["net.ipv6.neigh.default.gc_thresh3"] = 60
    for i in range(200, 300):
        net.inject(ping(src=host6(i)))
    assert 40 < len(net.host.ipv6.nd_tbl) <= 60
    net.host.close()


def test_packets_that_wait_for_one_answer_are_bounded_in_bytes() -> None:
    net = make(fresh=False, sysctl={})
    net.wire.dev.ip6_ptr.nd_parms.queue_len_bytes = 10_000
    for _ in range(200):
        net.inject(ping())
    n = net.host.ipv6.nd_tbl.hash[
        int("20010db8000000000000000000000002", 16) << 16 | net.wire.dev.ifindex
    ]
    assert n.arp_queue_len_bytes <= 10_000
    assert net.drops()["SKB_DROP_REASON_NEIGH_QUEUEFULL"] > 150
    net.host.close()


def test_spoofed_redirects_change_nothing_and_true_ones_are_bounded() -> None:
    net = make(fresh=False, sysctl={"net.ipv6.route.max_size": 50})
    net.inject(ra())
    for i in range(300):
        net.inject(redirect("fe80::666", f"2001:db8:9::{i:x}", src="fe80::667"))
    assert net.host.ipv6.rt6_exceptions == 0
    for i in range(300):
        net.inject(redirect("fe80::666", f"2001:db8:9::{i:x}"))
    assert net.host.ipv6.rt6_exceptions <= 50
    net.host.close()


def test_an_attacker_who_claims_every_stable_address() -> None:
    """RFC 7217: after idgen_retries conflicts there is no address, and quiet."""
    secret = {f"{CONF}addr_gen_mode": 2, f"{CONF}stable_secret": "2001:db8::77", **at_once()}
    net = make(fresh=True, sysctl=secret)
    seen = set()
    for _ in range(60):
        net.run(SEC // 4)
        for text in sent(net):
            if text.endswith(" dad"):
                target = text.split()[1]
                seen.add(target)
                net.inject(ns(target=target, src="::", lladdr=None))
    assert len(seen) == 1 + net.host.ipv6.sysctl.idgen_retries
    assert all("tentative" in state for state in addresses(net).values())
    net.host.close()


def test_an_attacker_who_claims_every_temporary_address() -> None:
    """RFC 8981 3.4: after regen_max_retry tries there are none any more."""
    net = make(fresh=False, sysctl=at_once(use_tempaddr=2))
    net.inject(ra(prefix(), life=0))
    for _ in range(60):
        net.run(SEC // 4)
        for ifp in tuple(net.wire.dev.ip6_ptr.addr_list):
            if ifp.flags & IFA_F_TEMPORARY and ifp.flags & IFA_F_TENTATIVE:
                net.inject(ns(target=format_addr6(ifp.addr), src="::", lladdr=None))
    idev = net.wire.dev.ip6_ptr
    assert not any(i.flags & IFA_F_TEMPORARY for i in idev.addr_list)
    assert idev.cnf.use_tempaddr == -1
    assert globals_(net) == [f"2001:db8:5::{EUI}"]
    net.host.close()


def test_an_advertisement_cannot_take_a_neighbour_over_without_override() -> None:
    net = make(fresh=False, sysctl={})
    net.inject(ping())
    net.inject(na())
    for _ in range(50):
        net.inject(na(lladdr=OTHER_MAC, flags=""))
    assert neigh()(net)[1] == 2
    net.host.close()


def test_a_flood_of_solicitations_at_a_router() -> None:
    """RFC 4861 6.2.6: one multicast every three seconds, whoever asks."""
    net = make(fresh=True, sysctl={"net.ipv6.conf.all.forwarding": 1, **at_once()})
    net.run(3 * SEC)
    service = net.host.radvd("eth0")
    net.run(2 * SEC)
    sent(net)
    for i in range(300):
        net.inject(rs(src=f"fe80::9:{i:x}"))
        net.run(SEC // 30)
    assert 3 <= sum(text.startswith("RA") for text in sent(net)) <= 4
    service.stop()
    assert sent(net).count("RA 0") == 3
    net.host.close()


def test_lifetime_zero_from_a_stranger_takes_no_router_away() -> None:
    net = make(fresh=False, sysctl={})
    net.inject(ra())
    net.inject(ra(src="fe80::bad", life=0))
    assert routes(net) == [f"::/0 via {ROUTER_LL}"]
    net.host.close()


MESSAGES = (ns(), na(), ra(prefix()), rs(), redirect("fe80::5", "2001:db8:9::1"))


@settings(max_examples=examples(150), deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(MESSAGES) - 1),
            st.lists(st.tuples(st.integers(44, 90), st.binary(min_size=1, max_size=4)), max_size=3),
            st.integers(0, 60),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_any_changed_message_is_taken_or_dropped(
    changes: list[tuple[int, list[tuple[int, bytes]], int]], router: bool
) -> None:
    """With a right checksum, so that the parsers see every byte."""
    net = make(fresh=False, sysctl={"net.ipv6.conf.all.forwarding": int(router)})
    for which, edits, cut in changes:
        packet = MESSAGES[which]
        if cut:
            body = packet[40 : max(48, len(packet) - cut)]
            packet = packet[:4] + len(body).to_bytes(2, "big") + packet[6:40] + body
        for at, new in edits:
            if at + len(new) <= len(packet):
                packet = reseal(packet, at, new)
        net.inject(reseal(packet, 40, packet[40:41]))
    net.run(5 * SEC)
    sent(net)
    net.inject(ns())
    assert any(text.startswith(f"NA {ME}") for text in sent(net))
    net.host.close()


def test_an_advertisement_of_a_route_that_the_administrator_has() -> None:
    net = make(fresh=False, sysctl={f"{CONF}accept_ra_rt_info_max_plen": 64})
    net.host.route_add("2001:db9::/48", via=ROUTER_LL, dev=net.wire.dev.name, metric=1024)
    before = routes(net)
    net.inject(ra(ICMPv6NDOptRouteInfo(prefix="2001:db9::", plen=48, rtlifetime=60), life=0))
    assert routes(net) == before
    net.run(SEC)
    net.inject(ra(ICMPv6NDOptRouteInfo(prefix="2001:dba::", plen=48, rtlifetime=60), life=0))
    assert len(routes(net)) == len(before) + 1
    net.host.close()
