"""The same netlink messages to this machine's kernel and to a host: the same kinds of answers.

Compared are the kinds of messages that answer, and the errno of errors and of the ends of dumps.
`DIFFERENCES` names each that is not the same, with the reason.
"""

from __future__ import annotations

import re
import socket as stdlib
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from stack.core.neigh_table import NEIGH_UPDATE_F_ADMIN, NEIGH_UPDATE_F_OVERRIDE
from stack.core.neighbour import neigh_create, neigh_update
from stack.core.uapi import NUD_PERMANENT
from stack.host import Host
from stack.ipv6.addr import parse_addr6
from tests.stack.netlink.requests import Asker, generated
from tests.stack.packet.kernelnet import KernelNet
from tests.support import require

pytestmark = pytest.mark.netns

MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
NEIGHBOURS = ("10.0.0.9", "fd00::9")
DIFFERENCES = {
    r"del 24 family 10 RTA_TABLE of .*": "the kernel may be built with one IPv6 table for all",
    r"new 16 family 0 IFLA_NET_NS_FD nested": "no descriptor is a namespace of a host, 0 neither",
}
"""Patterns of the names of requests."""


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelNet]:
    require.netns()
    require.tool("ip", "iproute2")
    net = KernelNet()
    net.run(f"ip link add v0 address {MACS[0]} type veth peer name v1 address {MACS[1]}")
    net.run("ip link set v0 up", "ip link set v1 up", "ip addr add 10.0.0.1/24 dev v0")
    net.run("ip route add 10.1.0.0/16 via 10.0.0.9")
    for neighbour in NEIGHBOURS:
        net.run(f"ip neigh add {neighbour} lladdr {MACS[1]} dev v0")
    yield net
    net.close()


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("h", clock=VirtualClock()) as host:
        host.add_veth("v0", "v1", mac=mac(MACS[0]), peer_mac=mac(MACS[1]), up=True)
        host.ifconfig("v0", "10.0.0.1/24")
        host.route_add("10.1.0.0/16", via="10.0.0.9")
        dev = host.dev("v0")
        for table, addr in ((host.arp_tbl, 0x0A000009), (host.ipv6.nd_tbl, parse_addr6("fd00::9"))):
            assert table is not None
            n = neigh_create(table, addr, dev)
            assert n is not None
            flags = NEIGH_UPDATE_F_ADMIN | NEIGH_UPDATE_F_OVERRIDE
            assert neigh_update(n, mac(MACS[1]), NUD_PERMANENT, flags) == 0
        yield host


def collapsed(found: list[Any]) -> list[Any]:
    """Equal neighbours once: how many interfaces and routes there are is not compared."""
    return [one for at, one in enumerate(found) if not at or found[at - 1] != one]


def test_answers_are_those_of_the_kernel(kernel: KernelNet, host: Host) -> None:
    theirs = Asker(kernel.call(stdlib.socket, stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
    ours = Asker(host.socket(stdlib.AF_NETLINK, stdlib.SOCK_RAW, 0))
    asked, different = 0, []
    for request in generated():
        asked += 1
        want, got = collapsed(theirs.ask(request)), collapsed(ours.ask(request))
        if want == got:
            continue
        if any(re.fullmatch(pattern, request.name) for pattern in DIFFERENCES):
            continue
        different.append(f"{request.name} {request.strict}: kernel {want}, here {got}")
    assert asked > 7000
    assert different == []
    theirs.sock.close()
    ours.sock.close()
