"""A table of NETLINK_ROUTE requests to the kernel of this machine and to a host: the same answers.

Compared are errno, text and place of each error, and of each answer its type, flags, structure and
attributes in their order. `LEFT_OUT` names the attributes that a world chooses by itself or that
only one has. `FOR_ALL` and the differences of each test name the requests that are answered
otherwise; one that differs no more fails the test too.
"""

from __future__ import annotations

import socket as stdlib
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import neigh_create, neigh_update
from stack.core.uapi import AF_BRIDGE, NUD_PERMANENT
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from stack.netlink.rt_attrs import BR_MDB_ENTRY
from tests.stack.netlink import route_rows
from tests.stack.netlink.requests import ADDR, LINK, NEIGH, ROUTE, RULE, generated
from tests.stack.netlink.table import TYPE_MASK, compared, sides, walk
from tests.stack.packet.kernelnet import KernelNet
from tests.support import eventually, require

pytestmark = pytest.mark.netns

RTN_MULTICAST = 5
IFA_F_TENTATIVE = 0x40
MS = 1_000_000
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
NEIGHBOURS = ("10.0.0.9", "fd00::9")
QDISC, CLASS, FILTER, NETCONF, MDB, STATS, CHAIN, NEXTHOP = 36, 40, 44, 80, 84, 92, 100, 104
HEADS = {
    LINK: 16,
    ADDR: 8,
    ROUTE: 12,
    NEIGH: 12,
    RULE: 12,
    QDISC: 20,
    CLASS: 20,
    FILTER: 20,
    NETCONF: 4,
    MDB: 8,
    STATS: 12,
    CHAIN: 20,
    NEXTHOP: 8,
}
"""Bytes of the structure of each group of messages."""
LEFTOVER = "Linux tells of bytes left over even where it takes them; the errno is the same"
COUNTS = "what has been counted until now"
NEWER = "not told here"
ASKS = "whether routers were asked for: the kernel does that when it likes"
SIZES = "the loopback here takes larger packets"
LEFT_OUT: dict[tuple[int, ...], str] = {
    (LINK, 7): COUNTS,
    (LINK, 23): COUNTS,
    (LINK, 35): COUNTS,
    (LINK, 47): COUNTS,
    (LINK, 48): COUNTS,
    **{(LINK, number): SIZES for number in (41, 58, 59)},
    **{(LINK, number): NEWER for number in (62, 63, 64, 65, 66, 67, 68, 69)},
    (LINK, 12, 1): ASKS,
    (LINK, 12, 2): NEWER,
    (LINK, 12, 3): COUNTS,
    (LINK, 12, 6): COUNTS,
    (LINK, 26, 10, 1): ASKS,
    (LINK, 26, 10, 2): NEWER,
    (LINK, 26, 10, 3): COUNTS,
    (LINK, 26, 10, 6): COUNTS,
    (LINK, 26, 2, 1): NEWER,
    (STATS, 1): COUNTS,
    (ADDR, 11): "who made an address is not kept",
}
"""Attributes by group and numbers -> why they are not compared."""
NESTED = {(LINK, 12), (LINK, 18), (LINK, 18, 2), (LINK, 18, 5), (LINK, 26), (LINK, 26, 2)}
NESTED |= {(LINK, 26, 10)}
"""What is in these is compared part by part."""
PARTS: dict[tuple[int, ...], slice] = {
    (ADDR, 6): slice(0, 8),  # the lifetimes, not when the address was made
    (NEIGH, 3): slice(12, 12),  # ages
    (ROUTE, 12): slice(8, 16),  # lifetime and error, not use
    (LINK, 12, 5): slice(0, 4),  # not when it was configured, nor the random reachable time
    (LINK, 26, 10, 5): slice(0, 4),
}
"""Of these a part is compared."""


def view(data: bytes, at: int, path: tuple[int, ...]) -> list[Any]:
    """The attributes that are compared, in their order."""
    found: list[Any] = []
    for number, payload in walk(data, at):
        here = (*path, number & TYPE_MASK)
        if here in LEFT_OUT:
            continue
        if here == (ADDR, 8):
            payload = bytes([payload[0] & ~IFA_F_TENTATIVE]) + payload[1:]
        inner: Any = payload[PARTS.get(here, slice(None))]
        found.append((number, view(payload, 0, here) if here in NESTED else inner))
    return found


def groups_of_bridges(payload: bytes) -> list[Any]:
    """What MDB messages tell of groups, but for the time left and for those of the local link,
    which bridges join when they like."""
    found = []
    for number, mdb in walk(payload, HEADS[MDB]):
        for _, entry in walk(mdb):
            infos = [info for _, info in walk(entry)] if number == 1 else []
            for info in infos:
                if not info[8:].startswith((b"\xff\x02", b"\xe0\0\0")):
                    told = [(n, data) for n, data in walk(info, BR_MDB_ENTRY.size) if n != 1]
                    found.append((info[: BR_MDB_ENTRY.size], told))
    return found


def plain(kind: int, flags: int, payload: bytes) -> Any:
    """A message without what a world chooses."""
    group = 16 + (kind - 16) // 4 * 4
    size = HEADS.get(group, 4)
    if group == ROUTE and payload[0] == stdlib.AF_INET6 and payload[7] == RTN_MULTICAST:
        return None  # of each device, in the order in which the devices had carriers
    if group == QDISC and payload[11] & 0x80:
        payload = payload[:8] + bytes(4) + payload[12:]  # a handle that nobody gave
    if group == MDB:
        return kind, flags, payload[:size], groups_of_bridges(payload)
    if group == ADDR:  # the kernel's duplicate address detection ends when it likes
        payload = payload[:2] + bytes([payload[2] & ~IFA_F_TENTATIVE]) + payload[3:]
    if group == NEIGH and payload[11] == RTN_MULTICAST:
        return None  # where their own messages about groups went
    if group == NEIGH and payload[0] == AF_BRIDGE and payload[4] == route_rows.BR1:
        return None  # the kernel joins groups before there is a carrier
    return kind, flags, payload[:size], *view(payload, size, (group,))


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@pytest.fixture
def kernel() -> Iterator[KernelNet]:
    require.netns()
    require.tool("ip", "iproute2")
    net = KernelNet()
    net.run("sysctl -qw net.ipv6.conf.default.disable_ipv6=0 net.ipv6.conf.default.accept_dad=0")
    net.run("sysctl -qw net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.lo.addr_gen_mode=1")
    one = "numtxqueues 1 numrxqueues 1"
    peer = f"peer name v1 address {MACS[1]} {one}"
    net.run(f"ip link add v0 address {MACS[0]} {one} type veth {peer}")
    net.run("ip link set v0 up", "ip link set v1 up", "ip addr add 10.0.0.1/24 brd + dev v0")
    net.run("ip route add 10.1.0.0/16 via 10.0.0.9")
    for neighbour in NEIGHBOURS:
        net.run(f"ip neigh add {neighbour} lladdr {MACS[1]} dev v0")
    eventually(lambda: net.run("ip -o link show up").count(" state UP ") == 2, "both ends' carrier")
    yield net
    net.close()


@pytest.fixture
def host() -> Iterator[Host]:
    knobs = {"net.ipv6.conf.default.accept_dad": 0, "net.ipv6.conf.default.addr_gen_mode": 1}
    with Host("h", clock=VirtualClock(), sysctl=knobs) as host:
        host.add_veth("v0", "v1", mac=mac(MACS[0]), peer_mac=mac(MACS[1]), up=True)
        host.ifconfig("v0", "10.0.0.1/24")
        host.ifconfig("v1", up=True)
        host.wait_carrier("v0")
        host.route_add("10.1.0.0/16", via="10.0.0.9")
        dev = host.dev("v0")
        for table, addr in ((host.arp_tbl, 0x0A000009), (host.ipv6.nd_tbl, parse_addr6("fd00::9"))):
            assert table is not None
            n = neigh_create(table, addr, dev)
            assert n is not None
            flags = NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE
            assert neigh_update(n, mac(MACS[1]), NUD_PERMANENT, flags) == 0
        yield host


# --- requests of each group, right and wrong ------------------------------------------------------

RULE_DIFFERENCES = {
    r".* (one byte behind|length [30]|too long)": LEFTOVER,
    r"new 16 family 0 IFLA_NET_NS_FD nested": "no descriptor is a namespace of a host, 0 neither",
}


def test_what_a_rule_generates(kernel: KernelNet, host: Host) -> None:
    theirs, ours = sides(kernel, host, stdlib.NETLINK_ROUTE, plain)
    assert compared(theirs, ours, generated(), RULE_DIFFERENCES) > 7000


# --- requests that make and take away -------------------------------------------------------------

DIFFERENCES: dict[str, dict[str, str]] = {
    "mdb": {
        r"mdb del of Ethernet  of 4 port 4 state 0 .*": "the last port takes the host along",
    },
    "tc": {
        r"qdisc \w+ bfifo short 0xfffffff1 0x0": "options are read before the parent is judged",
    },
    "neigh": {},
    "neightbl": {
        r"arp of [02] dev None": "a host has defaults, which the first namespace of Linux has",
    },
    "route": {
        r"route (new|del) 2 type 1[01] scope 255 ": "types that no lookup knows are refused",
        r"route del 10 flag 0x200": "exceptions of a route are not deleted by request",
    },
    "nexthop": {
        r"nexthop (\w+ )?fdb( dump)?": "next hops of forwarding databases are not served",
    },
}
UNORDERED = ("neigh", "fdb")
"""Groups whose objects are in tables that a world has a random order for."""


@pytest.mark.parametrize("group", route_rows.GROUPS)
def test_requests_of_a_group(kernel: KernelNet, host: Host, group: str) -> None:
    theirs, ours = sides(kernel, host, stdlib.NETLINK_ROUTE, plain)
    theirs.ordered = ours.ordered = group not in UNORDERED
    ours.settle = lambda: host.clock.run_for(MS)
    rows = route_rows.GROUPS[group]()
    assert compared(theirs, ours, rows, DIFFERENCES.get(group, {})) > 30
