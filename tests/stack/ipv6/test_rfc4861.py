"""Conformance to RFC 4861 (neighbour discovery): messages in, messages out, by section."""

from __future__ import annotations

from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6NDOptMTU, ICMPv6NDOptRDNSS, ICMPv6NDOptRouteInfo

from stack.inet.flow import flowi
from stack.ipv6.addr import format_addr6, parse_addr6
from stack.ipv6.route import ip6_route_output
from tests.stack.ipv6.conformance import fragment
from tests.stack.ipv6.conformance_nd import (
    ALL_NODES,
    ME,
    OTHER_MAC,
    PEER,
    PEER_LL,
    PREFIX,
    ROUTER_LL,
    ROUTER_MAC,
    SEC,
    NdRow,
    Net6,
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
    run_nd,
    solicited,
)

MAC_ME, MAC_PEER, MAC_OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:77"
FORWARD = {"net.ipv6.conf.all.forwarding": 1}
NA_ME = f"NA {ME} SO to {PEER} with address"
REACHED: list[Any] = [ping(), na()]  # a question that is answered
ASK, REPLY = f"NS {PEER}", f"reply to {MAC_PEER}"
HOP, BAD, CODE, SMALL, NOT = (
    "IPV6_NDISC_HOP_LIMIT",
    "IPV6_NDISC_BAD_OPTIONS",
    "IPV6_NDISC_BAD_CODE",
    "PKT_TOO_SMALL",
    "NOT_SPECIFIED",
)


def knob(name: str) -> Any:
    """A parameter of the interface."""
    return lambda net: getattr(net.wire.dev.ip6_ptr.cnf, name)


def parms(name: str) -> Any:
    return lambda net: getattr(net.wire.dev.ip6_ptr.nd_parms, name)


def gateway(dest: str) -> Any:
    """The next hop that the routes name for a destination."""

    def look(net: Net6) -> str:
        rt = ip6_route_output(net.host, None, flowi(10, parse_addr6(dest)))
        return "none" if rt.error else format_addr6(rt.rt6i_gateway)

    return look


def in_fragment(packet: bytes) -> bytes:
    """The packet as the only fragment of itself."""
    body = fragment(58, 0, False, 7, packet[40:])
    return packet[:4] + len(body).to_bytes(2, "big") + b"\x2c" + packet[7:40] + body


FAR = "2001:db8:9::1"
SHORT_NS = reseal(ns(lladdr=None)[:4] + b"\0\x10" + ns(lladdr=None)[6:56], 41, b"\0")
ROWS = [
    # 7.1.1 validation of solicitations
    NdRow("7.1.1", "a solicitation is answered", [ns()], [NA_ME]),
    NdRow("7.1.1", "hop limit below 255 came over a router", [ns(hlim=254)], [], [HOP]),
    NdRow("7.1.1", "the code is 0", [reseal(ns(), 41, b"\1")], [], [CODE]),
    NdRow("7.1.1", "shorter than 24 bytes", [SHORT_NS], [], [SMALL]),
    NdRow("7.1.1", "the target is no group", [ns(target="ff02::5", dst=solicited(ME))], [], [NOT]),
    NdRow("7.1.1", "an option of length 0", [reseal(ns(), 65, b"\0")], [], [BAD]),
    NdRow("7.1.1", "an option that runs over the end", [reseal(ns(), 65, b"\2")], [], [BAD]),
    NdRow("7.1.1", "from :: only to a solicited-node group",
          [ns(src="::", dst=ALL_NODES, lladdr=None)], [], [NOT]),
    NdRow("7.1.1", "from :: without link-layer address", [ns(src="::")], [], [BAD]),
    NdRow("7.1.1", "a wrong checksum", [ns()[:42] + b"\1\2" + ns()[44:]], [], ["ICMP_CSUM"]),
    NdRow("RFC 6980 5", "not in a fragment", [in_fragment(ns())], [], ["IPV6_NDISC_FRAG"]),
    NdRow("RFC 6980 5", "unless suppress_frag_ndisc is 0", [in_fragment(ns())], [NA_ME],
          sysctl={"net.ipv6.conf.default.suppress_frag_ndisc": 0}),
    # 7.2.3, 7.2.4
    NdRow("7.2.3", "the target must be ours",
          [ns(target="2001:db8::99", dst=solicited(ME))], [], ["IPV6_NDISC_NS_OTHERHOST"]),
    NdRow("7.2.3", "the sender is learnt as stale, and used for the answer", [ns()], [NA_ME],
          seen=neigh(), is_=("DELAY", 2, "")),
    NdRow("7.2.3", "without an option by multicast nobody is learnt or answered",
          [ns(lladdr=None)], [], seen=neigh(), is_=None),
    NdRow("7.2.3", "from :: nobody is learnt", [ns(src="::", lladdr=None)],
          [f"NA {ME} O to {ALL_NODES} with address"], seen=neigh("::"), is_=None),
    NdRow("7.2.4", "to a unicast solicitation no address is needed",
          [*REACHED, ns(dst=ME)], [ASK, REPLY, f"NA {ME} S to {PEER}"]),
    NdRow("7.2.4", "a router says that it is one", [ns()],
          [f"NA {ME} RSO to {PEER} with address"], sysctl=FORWARD),
    NdRow("7.2.3", "a new address of the sender is believed", [ns(), ns(lladdr=OTHER_MAC)],
          [NA_ME, NA_ME], seen=neigh(), is_=("DELAY", 0x77, "")),
    # 7.1.2 validation of advertisements
    NdRow("7.1.2", "hop limit", [ping(), na(hlim=64)], [ASK], [HOP]),
    NdRow("7.1.2", "code", [ping(), reseal(na(), 41, b"\1")], [ASK], [CODE]),
    NdRow("7.1.2", "the target is no group", [ping(), na(target="ff02::5")], [ASK], [NOT]),
    NdRow("7.1.2", "to a group it is not solicited", [ping(), na(dst=ALL_NODES)], [ASK], [NOT]),
    NdRow("7.1.2", "options of length 0", [ping(), reseal(na(), 65, b"\0")], [ASK], [BAD]),
    # 7.2.2 sending solicitations
    NdRow("7.2.2", "three times, a second apart, then unreachable", [ping(), 5 * SEC],
          [ASK] * 3, ["NEIGH_FAILED"], seen=neigh(), is_=("FAILED", 0, "")),
    NdRow("7.2.2", "packets wait for the answer", [ping(), ping(), na()], [ASK, REPLY, REPLY]),
    # 7.2.5 receipt of advertisements
    NdRow("7.2.5", "nobody asked: no entry is made", [na(flags="O", dst=ALL_NODES)], [], [NOT],
          seen=neigh(), is_=None),
    NdRow("7.2.5", "solicited: reachable", REACHED, [ASK, REPLY], seen=neigh(),
          is_=("REACHABLE", 2, "")),
    NdRow("7.2.5", "unsolicited: stale, and used",
          [ping(), na(flags="O", dst=ALL_NODES)], [ASK, REPLY], seen=neigh(), is_=("DELAY", 2, "")),
    NdRow("7.2.5", "incomplete and without an address: ignored", [ping(), na(lladdr=None)], [ASK],
          seen=neigh(), is_=("INCOMPLETE", 0, "")),
    NdRow("7.2.5", "override: the address is replaced", [*REACHED, na(lladdr=OTHER_MAC)],
          [ASK, REPLY], seen=neigh(), is_=("REACHABLE", 0x77, "")),
    NdRow("7.2.5", "no override: reachable becomes stale, the address stays",
          [*REACHED, na(lladdr=OTHER_MAC, flags="S")], [ASK, REPLY], seen=neigh(),
          is_=("STALE", 2, "")),
    NdRow("7.2.5", "no override: a stale entry stays as it is",
          [ns(), na(lladdr=OTHER_MAC, flags="S")], [NA_ME], seen=neigh(), is_=("DELAY", 2, "")),
    NdRow("7.2.5", "no override, the same address: reachable", [ns(), na(flags="S")], [NA_ME],
          seen=neigh(), is_=("REACHABLE", 2, "")),
    NdRow("7.2.5", "override, unsolicited, another address: stale",
          [*REACHED, na(lladdr=OTHER_MAC, flags="O")], [ASK, REPLY], seen=neigh(),
          is_=("STALE", 0x77, "")),
    NdRow("7.2.5", "unsolicited with the same address changes nothing",
          [*REACHED, na(flags="O")], [ASK, REPLY], seen=neigh(), is_=("REACHABLE", 2, "")),
    NdRow("7.2.5", "the router flag is kept", [*REACHED, na(flags="RSO")], [ASK, REPLY],
          seen=neigh(), is_=("REACHABLE", 2, "router")),
    NdRow("7.2.5", "a router that is none any more loses its routes",
          [ra(), na(target=ROUTER_LL, src=ROUTER_LL, lladdr=ROUTER_MAC, flags="SO")], [],
          seen=routes, is_=[]),
    # 7.3 unreachability detection
    NdRow("7.3.3", "reachable ages to stale", [*REACHED, 100 * SEC], [ASK, REPLY], seen=neigh(),
          is_=("STALE", 2, "")),
    NdRow("7.3.3", "a stale entry is used at once; delay, then probes by unicast",
          [ns(), ping(), 6_500_000_000], [NA_ME, REPLY, f"NS {PEER} to it", f"NS {PEER} to it"]),
    NdRow("7.3.3", "an answer to a probe makes it reachable", [ns(), ping(), 5_100_000_000, na()],
          [NA_ME, REPLY, f"NS {PEER} to it"], seen=neigh(), is_=("REACHABLE", 2, "")),
    NdRow("7.3.3", "three probes without an answer end it", [ns(), ping(), 9 * SEC],
          [NA_ME, REPLY, *[f"NS {PEER} to it"] * 3], seen=neigh(), is_=("FAILED", 2, "")),
    NdRow("7.3.3", "an unsolicited advertisement is no proof",
          [ns(), ping(), 5_100_000_000, na(flags="O")], [NA_ME, REPLY, f"NS {PEER} to it"],
          seen=neigh(), is_=("PROBE", 2, "")),
    # 6.1 validation of router messages
    NdRow("6.1.2", "from a link-local address", [ra(src="2001:db8::fe")], [], [NOT],
          seen=routes, is_=[]),
    NdRow("6.1.2", "hop limit 255", [ra(hlim=64)], [], [HOP], seen=routes, is_=[]),
    NdRow("6.1.2", "code 0", [reseal(ra(), 41, b"\1")], [], [CODE], seen=routes, is_=[]),
    NdRow("6.1.2", "no option of length 0", [reseal(ra(), 57, b"\0")], [], [BAD], seen=routes,
          is_=[]),
    NdRow("6.1.1", "a host ignores solicitations for routers", [rs()], [], [NOT]),
    NdRow("6.1.1", "hop limit 255", [rs(hlim=1)], [], [HOP], sysctl=FORWARD),
    NdRow("6.1.1", "from :: without link-layer address", [rs(src="::")], [], [BAD],
          sysctl=FORWARD),
    NdRow("6.2.6", "the soliciting host is learnt", [rs()], [], sysctl=FORWARD,
          seen=neigh(PEER_LL), is_=("STALE", 2, "")),
    NdRow("6.2.6", "without an option nobody's address is known", [rs(lladdr=None)], [],
          sysctl=FORWARD, seen=neigh(PEER_LL), is_=("NONE", 0, "")),
    # 6.3.4 processing of advertisements
    NdRow("6.3.4", "a default router", [ra()], [], seen=routes, is_=[f"::/0 via {ROUTER_LL}"]),
    NdRow("6.3.4", "it is a neighbour, and a router", [ra()], [], seen=neigh(ROUTER_LL),
          is_=("STALE", 0xFE, "router")),
    NdRow("6.3.4", "router lifetime 0 takes it back", [ra(), ra(life=0)], [], seen=routes, is_=[]),
    NdRow("6.3.4", "router lifetime 0 makes none", [ra(life=0)], [], seen=routes, is_=[]),
    NdRow("6.3.5", "it ends with its lifetime", [ra(life=60), 120 * SEC], [], seen=routes, is_=[]),
    NdRow("6.3.4", "hop limit", [ra(chlim=42)], [], seen=knob("hop_limit"), is_=42),
    NdRow("6.3.4", "hop limit 0 says nothing", [ra(chlim=0)], [], seen=knob("hop_limit"), is_=64),
    NdRow("6.3.4", "retransmission timer", [ra(retranstimer=2500)], [],
          seen=parms("retrans_time"), is_=2_500_000_000),
    NdRow("6.3.4", "reachable time", [ra(reachabletime=12000)], [],
          seen=parms("base_reachable_time"), is_=12 * SEC),
    NdRow("6.3.4", "the MTU of the link", [ra(ICMPv6NDOptMTU(mtu=1400))], [], seen=knob("mtu"),
          is_=1400),
    NdRow("6.3.4", "no MTU below 1280", [ra(ICMPv6NDOptMTU(mtu=1279))], [], seen=knob("mtu"),
          is_=1500),
    NdRow("6.3.4", "no MTU above the device's", [ra(ICMPv6NDOptMTU(mtu=9000))], [],
          seen=knob("mtu"), is_=1500),
    NdRow("6.3.4", "an on-link prefix", [ra(prefix(A=0), life=0)], [], seen=routes,
          is_=[f"{PREFIX}/64"]),
    NdRow("6.3.4", "without the L flag it says nothing of the link", [ra(prefix(A=0, L=0), life=0)],
          [], seen=routes, is_=[]),
    NdRow("6.3.4", "valid lifetime 0 takes it back",
          [ra(prefix(A=0), life=0),
           ra(prefix(A=0, validlifetime=0, preferredlifetime=0), life=0)], [], seen=routes, is_=[]),
    NdRow("6.3.4", "the link-local prefix is ignored", [ra(prefix("fe80::"), life=0)], [],
          seen=routes, is_=[]),
    NdRow("6.3.5", "a prefix ends with its lifetime",
          [ra(prefix(A=0, validlifetime=30, preferredlifetime=30), life=0), 90 * SEC], [],
          seen=routes, is_=[]),
    NdRow("6.3.4", "a router itself takes no advertisements", [ra(prefix())], [], sysctl=FORWARD,
          seen=routes, is_=[]),
    NdRow("6.3.4", "accept_ra 2: it does", [ra()], [], seen=routes, is_=[f"::/0 via {ROUTER_LL}"],
          sysctl={**FORWARD, "net.ipv6.conf.default.accept_ra": 2}),
    NdRow("RFC 4191 2.2", "the preference of a router", [ra(prf=1)], [], seen=routes,
          is_=[f"::/0 via {ROUTER_LL} high"]),
    NdRow("RFC 4191 2.2", "the reserved preference is medium", [ra(prf=2)], [], seen=routes,
          is_=[f"::/0 via {ROUTER_LL}"]),
    NdRow("RFC 4191 2.3", "a route",
          [ra(ICMPv6NDOptRouteInfo(prefix="2001:db8:9::", plen=48, prf=3), life=0)], [],
          sysctl={"net.ipv6.conf.default.accept_ra_rt_info_max_plen": 64}, seen=routes,
          is_=[f"2001:db8:9::/48 via {ROUTER_LL} low"]),
    NdRow("RFC 4191 3.2", "of two routers the preferred one",
          [ra(prf=3), ra(prf=1, src="fe80::fd", lladdr=OTHER_MAC)], [], seen=gateway(FAR),
          is_="fe80::fd"),
    NdRow("RFC 8106 5.3", "name servers", [ra(ICMPv6NDOptRDNSS(dns=["2001:db8::53"]))], [],
          seen=lambda net: list(net.wire.dev.ip6_ptr.nd.dns_servers),
          is_=[parse_addr6("2001:db8::53")]),
    # 8 redirects
    NdRow("8.3", "a better router", [ra(), redirect(PEER_LL, FAR)], [], seen=gateway(FAR),
          is_=PEER_LL),
    NdRow("8.3", "a destination on the link", [ra(), redirect(FAR, FAR)], [], seen=gateway(FAR),
          is_=FAR),
    NdRow("8.1", "hop limit 255", [ra(), redirect(PEER_LL, FAR, hlim=254)], [], [HOP],
          seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.1", "from a link-local address", [ra(), redirect(PEER_LL, FAR, src=PEER)], [], [NOT],
          seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.1", "only the present first hop may say so",
          [ra(), redirect(PEER_LL, FAR, src="fe80::666")], [], seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.1", "the destination is no group", [ra(), redirect(PEER_LL, "ff02::9")], [],
          seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.1", "the target is link-local or the destination", [ra(), redirect(PEER, FAR)], [],
          seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.1", "no option of length 0",
          [ra(), reseal(redirect(PEER_LL, FAR, lladdr=OTHER_MAC), 81, b"\0")], [], [BAD],
          seen=gateway(FAR), is_=ROUTER_LL),
    NdRow("8.3", "the target's address is learnt as stale",
          [ra(), redirect(PEER_LL, FAR, lladdr=OTHER_MAC)], [], seen=neigh(PEER_LL),
          is_=("STALE", 0x77, "router")),
    NdRow("8.3", "a router obeys none", [redirect(PEER_LL, FAR)], [], sysctl=FORWARD,
          seen=gateway(FAR), is_="none"),
    NdRow("8.3", "accept_redirects 0", [ra(), redirect(PEER_LL, FAR)], [], seen=gateway(FAR),
          is_=ROUTER_LL, sysctl={"net.ipv6.conf.default.accept_redirects": 0}),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_rfc_4861(row: NdRow) -> None:
    run_nd(row).host.close()


def test_the_table_is_long_enough() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) >= 75
