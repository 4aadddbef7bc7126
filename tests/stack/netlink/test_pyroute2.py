"""pyroute2 is a client of ours: links, addresses, routes, rules, neighbours, disciplines, ethtool.

It runs on a host as an unmodified program. The same script runs in a namespace of the kernel. What
pyroute2 reads in both is compared, attribute by attribute.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import require

pytestmark = pytest.mark.netns

HEAD = """
import pyroute2
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
def attrs(message, *names):
    return [message.get_attr(name) for name in names]
def refused(call, *args, **words):
    try:
        print("taken", call(*args, **words) is not None)
    except NetlinkError as error:
        print("refused", error.code)
ip = IPRoute()
ip.link("add", ifname="v0", kind="veth", peer="v1", address="02:00:00:00:00:01")
one, = ip.link_lookup(ifname="v0")
two, = ip.link_lookup(ifname="v1")
ip.link("set", index=two, address="02:00:00:00:00:02")
ip.link("set", index=one, state="up"); ip.link("set", index=two, state="up")
ip.addr("add", index=one, address="10.0.0.1", prefixlen=24, broadcast="10.0.0.255")
ip.addr("add", index=one, address="fd00::1", prefixlen=64, flags=2)
"""
SCRIPTS = {
    "links": """
ip.link("set", index=one, mtu=1400, txqlen=77)
for link in ip.get_links():
    print(attrs(link, "IFLA_IFNAME", "IFLA_MTU", "IFLA_ADDRESS", "IFLA_TXQLEN"), link["flags"] & 1)
refused(ip.link, "add", ifname="v0", kind="veth", peer="v2")
refused(ip.link, "set", index=99, state="up")
refused(ip.link, "set", index=one, mtu=10)
ip.link("add", ifname="br0", kind="bridge")
bridge, = ip.link_lookup(ifname="br0")
ip.link("set", index=two, master=bridge)
print(ip.get_links(two)[0].get_attr("IFLA_MASTER") == bridge)
ip.link("set", index=two, master=0)
ip.link("del", index=bridge)
print(ip.link_lookup(ifname="br0"), len(ip.get_links()))
""",
    "addresses": """
for addr in ip.get_addr(family=2):
    print(attrs(addr, "IFA_ADDRESS", "IFA_LOCAL", "IFA_BROADCAST", "IFA_LABEL"), addr["prefixlen"])
print(sorted(a.get_attr("IFA_ADDRESS") for a in ip.get_addr(family=10, index=one)
    if a.get_attr("IFA_ADDRESS").startswith("fd")))
refused(ip.addr, "add", index=one, address="10.0.0.1", prefixlen=24)
refused(ip.addr, "del", index=one, address="10.0.0.9", prefixlen=24)
refused(ip.addr, "add", index=99, address="10.0.0.9", prefixlen=24)
ip.flush_addr(index=one)
print([a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=one)])
""",
    "routes": """
ip.route("add", dst="10.1.0.0/16", gateway="10.0.0.9")
ip.route("add", dst="10.2.0.0/16", oif=one, metrics={"mtu": 1300}, priority=7, table=100)
ip.route("add", dst="10.3.0.0/16", multipath=[{"gateway": "10.0.0.2", "hops": 3},
    {"gateway": "10.0.0.3"}])
ip.route("add", dst="fd01::/48", gateway="fd00::9")
names = "RTA_DST", "RTA_GATEWAY", "RTA_PRIORITY", "RTA_TABLE", "RTA_PREFSRC"
for table in (254, 100):
    for route in ip.get_routes(family=2, table=table):
        hops = [(one.get_attr("RTA_GATEWAY"), one["hops"])
            for one in route.get_attr("RTA_MULTIPATH") or ()]
        mtu = route.get_attr("RTA_METRICS")
        print(attrs(route, *names), route["dst_len"], hops, mtu and mtu.get_attr("RTAX_MTU"))
print([attrs(r, "RTA_DST", "RTA_GATEWAY") for r in ip.get_routes(family=10, table=254)
    if (r.get_attr("RTA_DST") or "").startswith("fd01")])
print(attrs(ip.route("get", dst="10.1.2.3")[0], "RTA_DST", "RTA_GATEWAY", "RTA_PREFSRC"))
refused(ip.route, "add", dst="10.1.0.0/16", gateway="10.0.0.9")
refused(ip.route, "add", dst="10.9.0.0/16", gateway="1.2.3.4")
refused(ip.route, "del", dst="10.77.0.0/16")
ip.route("replace", dst="10.1.0.0/16", gateway="10.0.0.8")
ip.route("del", dst="10.3.0.0/16")
print([attrs(r, "RTA_DST", "RTA_GATEWAY") for r in ip.get_routes(family=2, table=254)])
""",
    "rules": """
ip.rule("add", table=100, priority=50, src="10.0.0.0/24", fwmark=7)
ip.rule("add", family=10, table=101, priority=51, dst="fd00::/16")
refused(ip.rule, "del", table=77, priority=9)
refused(ip.rule, "add", table=100, priority=50, src="10.0.0.0/24", fwmark=7)
names = "FRA_PRIORITY", "FRA_TABLE", "FRA_SRC", "FRA_DST", "FRA_FWMARK"
for family in (2, 10):
    for rule in ip.get_rules(family=family):
        print(attrs(rule, *names), rule["src_len"], rule["dst_len"], rule["action"])
ip.rule("del", table=100, priority=50)
print(len(ip.get_rules(family=2)))
""",
    "neighbours": """
ip.neigh("add", dst="10.0.0.9", lladdr="02:00:00:00:00:09", ifindex=one, state=0x80)
ip.neigh("add", dst="fd00::9", lladdr="02:00:00:00:00:09", ifindex=one, state=0x80)
for family in (2, 10):
    for n in ip.get_neighbours(family=family, ifindex=one):
        if n["state"] == 0x80:
            print(attrs(n, "NDA_DST", "NDA_LLADDR"), n["state"])
refused(ip.neigh, "add", dst="10.0.0.9", lladdr="02:00:00:00:00:09", ifindex=one, state=0x80)
refused(ip.neigh, "del", dst="10.0.0.77", ifindex=one)
ip.neigh("del", dst="10.0.0.9", ifindex=one)
print(len([n for n in ip.get_neighbours(family=2, ifindex=one) if n["state"] == 0x80]))
""",
    "disciplines": """
ip.tc("add", "tbf", one, 0x10000, rate="220kbit", latency="50ms", burst=1540)
for q in ip.get_qdiscs(index=one):
    print(q.get_attr("TCA_KIND"), hex(q["handle"]))
refused(ip.tc, "add", "tbf", one, 0x10000, rate="220kbit", latency="50ms", burst=1540)
ip.tc("del", index=one, handle=0x10000, root=True)
ip.tc("add", "htb", one, 0x10000, default=0x200000)
ip.tc("add-class", "htb", one, 0x10001, parent=0x10000, rate="256kbit", ceil="256kbit")
print([hex(c["handle"]) for c in ip.get_classes(index=one)])
ip.tc("del", index=one, handle=0x10000, root=True)
print(len(ip.get_qdiscs(index=one)))
""",
    "conntrack and ethtool": """
from pyroute2.ethtool import Ethtool
from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket
tool = Ethtool()
mode = tool.get_link_mode("v0")
print(mode.speed, mode.autoneg, mode.duplex)
coalesce = tool.get_link_info("v0")
print(coalesce)
ct = NFCTSocket()
there = NFCTAttrTuple(saddr="10.1.1.1", daddr="10.1.1.2", proto=17, sport=5, dport=6)
back = NFCTAttrTuple(saddr="10.1.1.2", daddr="10.1.1.1", proto=17, sport=6, dport=5)
ct.entry("add", timeout=100, tuple_orig=there, tuple_reply=back, mark=7)
for entry in ct.dump():
    print(entry.get_attr("CTA_TUPLE_ORIG"), entry.get_attr("CTA_MARK"))
print(ct.count()[0].get_attr("CTA_STATS_GLOBAL_ENTRIES"))
ct.flush()
print(len(list(ct.dump())))
""",
}


@pytest.fixture
def peer() -> Iterator[Peer]:
    require.netns()
    with contextlib.closing(Peer()) as peer:
        peer.ip("link", "set", "lo", "up")
        yield peer


@pytest.mark.parametrize("name", SCRIPTS)
def test_pyroute2_reads_and_sets_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyroute2")
    where = f"import sys\nsys.path[:0] = {sys.path!r}\n"
    row = Row(where + HEAD + SCRIPTS[name], python=True)
    both(peer, tmp_path, row, {"net.ipv4.ip_forward": 0})
