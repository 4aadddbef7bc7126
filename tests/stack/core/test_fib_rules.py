"""Rules of policy routing: which table answers, beside a plain reading of the rules."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from fastpath.errors import ArgumentError
from stack.core.fib_rules import fib_rule, fib_rule_add, fib_rule_del
from stack.inet.flow import flowi
from stack.ipv4.fib import RT_RULES, __fib_lookup, fib_lookup, fib_result
from stack.ipv4.route import ip_route_output_flow, rtable
from tests.stack.ipv4.net import GW, PEER, Net, ip4, one_host
from tests.support import errno_of, examples

TABLES = (100, 101, 102)
NETS = ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24")
ADDRS = ("10.1.2.3", "10.1.9.9", "10.200.0.1", "192.0.2.77", "8.8.8.8")
ROUTES = {TABLES[0]: 0, TABLES[1]: 8}
"""The length of the prefixes that each table has; the third has none."""


def router() -> Net:
    """A host with the tables of `ROUTES`."""
    net = one_host()
    for table, plen in ROUTES.items():
        for prefix in ("0.0.0.0/0",) if not plen else ("10.0.0.0/8", "192.0.0.0/8", "8.0.0.0/8"):
            net.host.route_add(prefix, via=GW, table=table)
    return net


ROUTER = router()


@pytest.fixture
def net() -> Iterator[Net]:
    net = one_host()
    yield net
    net.host.close()


few = st.sampled_from
rules = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "src": few(NETS),
            "dst": few(NETS),
            "mark": few((1, 2, 3)),
            "mask": few((1, 2, 0xFF)),
            "iif": few(("lo", "eth0", "gone")),
            "oif": few(("eth0", "gone")),
            "tos": few((0x10, 0x08)),
            "ipproto": few((6, 17)),
            "sport": few((53, (50, 60))),
            "dport": few((80, (0, 79), (81, 65535))),
            "uidrange": few(((0, 10), (1, 1))),
            "invert": few((True, False)),
            "suppress_prefixlength": few((0, 8, 16)),
            "priority": st.integers(1, 20),
            "what": few((*TABLES, "nop", "blackhole", "unreachable", "prohibit", "goto")),
        },
    ),
    max_size=8,
)
flows = st.fixed_dictionaries(
    {
        "daddr": few(ADDRS),
        "saddr": few((*ADDRS, "0.0.0.0")),
        "mark": st.integers(0, 3),
        "tos": few((0, 0x10, 0x08)),
        "proto": few((6, 17, 1)),
        "sport": few((53, 55, 61)),
        "dport": few((79, 80, 81)),
        "iif": few(("lo", "eth0")),
    }
)


def words_of(rule: dict[str, Any]) -> dict[str, Any]:
    """The row as `rule_add` takes it."""
    words = dict(rule)
    what = words.pop("what", TABLES[0])
    if what == "goto":
        return words | {"goto": words.setdefault("priority", 5) + 3}
    return words | ({"action": what} if isinstance(what, str) else {"table": what})


def holds(rule: dict[str, Any], flow: dict[str, Any]) -> bool:
    """Whether every condition that the row has is true of the flow."""

    def among(value: int, ends: Any) -> bool:
        return value in (range(ends[0], ends[1] + 1) if isinstance(ends, tuple) else (ends,))

    mask = rule.get("mask", 0xFFFFFFFF if "mark" in rule else 0)
    found = (
        all(
            ip_address(flow[field]) in ip_network(rule.get(word, "0.0.0.0/0"))
            for word, field in (("src", "saddr"), ("dst", "daddr"))
        )
        and (flow["mark"] & mask) == (rule.get("mark", 0) & mask)
        and rule.get("iif", flow["iif"]) == flow["iif"]
        and "oif" not in rule
        and rule.get("tos", flow["tos"]) == flow["tos"]
        and rule.get("ipproto", flow["proto"]) == flow["proto"]
        and among(flow["sport"], rule.get("sport", flow["sport"]))
        and among(flow["dport"], rule.get("dport", flow["dport"]))
        and among(0, rule.get("uidrange", 0))
    )
    return found != rule.get("invert", False)


def decided(rows: list[dict[str, Any]], flow: dict[str, Any], routes: dict[int, int]) -> Any:
    """What the rules say: a table's number, or an errno. `routes`: prefix length by table."""
    errors = {"blackhole": errno.EINVAL, "unreachable": errno.ENETUNREACH, "prohibit": errno.EACCES}
    at = 0
    while at < len(rows):
        rule = rows[at]
        at += 1
        what = rule.get("what", TABLES[0])
        if what == "nop" or not holds(rule, flow):
            continue
        if what == "goto":
            later = [i for i, r in enumerate(rows) if r["priority"] == rule["priority"] + 3]
            at = later[0] if later else at
        elif what in errors:
            return errors[what]
        elif what in routes and routes[what] > rule.get("suppress_prefixlength", -1):
            return what
    return errno.ENETUNREACH


@given(rules, flows)
@settings(max_examples=examples(300), deadline=None)
def test_the_first_rule_that_holds_decides(given: list[dict[str, Any]], flow: dict) -> None:
    host = ROUTER.host
    ops = host.fib.ops
    for rule in ops.rules[1:]:
        fib_rule_del(host, ops, rule)
    fib_rule_add(host, ops, fib_rule(32766, table=254))
    rows: list[dict[str, Any]] = []
    for row in given:
        pref = max(ops.rules[1].pref - 1, 0)
        try:
            host.rule_add(**words_of(row))
        except FileExistsError:
            continue
        if words_of(row).get("goto"):
            pref = 5
        rows.append({"priority": pref, **row})
    rows.sort(key=lambda row: row["priority"])
    fl4 = flowi(2, ip4(flow["daddr"]), ip4(flow["saddr"]), 0, flow["tos"], flow["proto"])
    fl4.flowi_mark, fl4.fl_sport, fl4.fl_dport = flow["mark"], flow["sport"], flow["dport"]
    iif = host.dev(flow["iif"]).ifindex
    res: Any = fib_lookup(host, ip4(flow["daddr"]), fl4.flowi_tos)
    if res == -errno.ENETUNREACH:
        res = __fib_lookup(host, fl4, iif)
    got = res.table.tb_id if isinstance(res, fib_result) and res.table is not None else -res
    assert got == decided(rows, flow, ROUTES)


def test_a_table_is_found_by_a_rule_only(net: Net) -> None:
    host = net.host
    host.route_add("10.9.0.0/16", via=GW, table=100)
    assert errno_of(ip_route_output_flow, host, flowi(2, ip4("10.9.0.1"))) == errno.ENETUNREACH
    host.rule_add(table=100, mark=7)
    marked = flowi(2, ip4("10.9.0.1"), flowi_mark=7)
    assert ip_route_output_flow(host, marked).rt_gw4 == ip4(GW)
    assert errno_of(ip_route_output_flow, host, flowi(2, ip4("10.9.0.1"))) == errno.ENETUNREACH
    host.rule_del(table=100)
    with pytest.raises(OSError, match=r"."):
        ip_route_output_flow(host, flowi(2, ip4("10.9.0.1"), flowi_mark=7))


def test_a_rule_takes_a_connected_socket_another_way(net: Net) -> None:
    """The socket's cached route is looked up again after a change of the rules."""
    host = net.host
    host.route_add("192.0.2.0/24", via=GW)
    host.route_add("192.0.2.0/24", via=PEER, table=100)
    with host.socket(2, 2) as sock:
        sock.connect(("192.0.2.1", 9))
        said = []
        for change in (lambda: None, lambda: host.rule_add(100), lambda: host.rule_del(100)):
            change()
            rt = ip_route_output_flow(host, flowi(2, ip4("192.0.2.1")))
            sock.send(b"x")
            cached = sock.sk.sk_dst_cache
            assert isinstance(cached, rtable)
            said.append((rt.rt_gw4, cached.rt_gw4))
    assert said == [(ip4(GW),) * 2, (ip4(PEER),) * 2, (ip4(GW),) * 2]


def test_a_received_packet_is_forwarded_by_its_ports(net: Net) -> None:
    host = net.host
    host.sysctl.ip_forward = 1
    host.route_add("192.0.2.0/24", via=GW)
    host.rule_add(action="blackhole", ipproto=17, dport=53)
    packet = IP(src=PEER, dst="192.0.2.1", ttl=9)
    for port in (53, 54, 53):
        net.inject(packet / UDP(sport=5, dport=port))
    assert host.mib.ip.ForwDatagrams == 1
    host.rule_del(action="blackhole", ipproto=17, dport=53)
    net.inject(packet / UDP(sport=5, dport=53))
    assert host.mib.ip.ForwDatagrams == 2


def test_local_packets_follow_the_rule_of_the_local_table(net: Net) -> None:
    host = net.host
    with host.socket(2, 2) as sock:
        sock.bind(("10.0.0.1", 9))
        sock.settimeout(0)

        def arrives() -> bool:
            net.inject(IP(src=PEER, dst="10.0.0.1") / UDP(sport=5, dport=9) / b"x")
            try:
                return sock.recv(9) == b"x"
            except BlockingIOError:
                return False

        assert arrives()
        host.rule_del(255)
        assert not arrives()
        host.rule_add(255, priority=40, src=f"{PEER}/32")
        assert arrives()
        assert arrives()
        host.rule_add(action="blackhole", ipproto=17, dport=9, priority=39)
        assert not arrives()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({}, "give one of table, goto and action"),
        ({"table": 0}, "table"),
        ({"table": 1 << 32}, "table"),
        ({"table": 5, "goto": 7}, "give one of"),
        ({"table": 5, "from_": "10.0.0.0/8"}, "write src="),
        ({"table": 5, "sport": (9, 8)}, "sport"),
        ({"action": "drop"}, "there are: nop"),
        ({"table": 5, "src": "10.0.0.0/33"}, "prefix length"),
        ({"table": 5, "family": 5}, "write 4 or 6"),
    ],
)
def test_what_is_wrong_with_a_rule_is_said(net: Net, words: dict[str, Any], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        net.host.rule_add(**words)
    assert net.host.fib.ops.rules == [fib_rule(p, table=t, proto=2) for p, t in RT_RULES]


def test_a_goto_leads_forward(net: Net) -> None:
    with pytest.raises(OSError, match="Backward goto") as back:
        net.host.rule_add(goto=5, priority=5)
    assert back.value.errno == errno.EINVAL
