"""ipvlan and VRF of a guest's Linux beside those of a host of ours.

Both make the same devices by the same `ip`, and each is the other's peer. What the tests of
tests/programs expect of `ip` is printed by the guest's kernel, too.
"""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from e1000emu.guest import Completed
from tests.guest.setup import DATA_PORT, GUEST, WAIT_S, fields, ping
from tests.guest.test_ipsec import on_host
from tests.guest.test_stack import GUEST6, OURS, OURS6, Beside, OnStack, lan, streams
from tests.programs import test_ipvlan, test_vrf
from tests.stack.core.wire import QUIET6
from tests.support import require

__all__ = ["lan"]

pytestmark = pytest.mark.slow


class Behind(Beside):
    """Both ends as seen from a namespace or a VRF: `words` of the guest run a command there."""

    def __init__(self, lan: OnStack, host: Any, words: str, vrf: str = "") -> None:
        self.host = host
        self.guest: Any = self  # of it `run` is all that is needed
        self._outer = lan.guest
        self._words = words
        self._vrf = vrf

    def run(self, command: str, **options: Any) -> Completed:
        return self._outer.run(f"{self._words} bash -c {shlex.quote(command)}", **options)

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> Any:
        sock = super().socket(kind, family)
        if self._vrf:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._vrf.encode())
        return sock


@pytest.fixture(scope="module", autouse=True)
def modules(lan: OnStack) -> None:
    require.tool("ip", "iproute2")
    lan.guest.run("modprobe -a 8021q ipvlan veth vrf").check()


@pytest.mark.parametrize("table", [test_vrf, test_ipvlan], ids=["vrf", "ipvlan"])
def test_linux_prints_what_we_expect_of_ip(lan: OnStack, table: ModuleType) -> None:
    script = test_vrf.one_by_one("ip link set lo up\n" + table.MADE, table.WANTED)
    lan.guest.run("cat >/tmp/script", stdin=script.encode()).check()
    # What a shell of busybox starts would be busybox's own ip.
    text = lan.guest.run("unshare -n /usr/bin/bash /tmp/script", timeout_s=WAIT_S).stdout
    found = test_vrf.answers(text)
    assert dict(zip(table.WANTED, found, strict=True)) == table.WANTED


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture(params=["l2", "l3", "l3s"])
def slaves(lan: OnStack, request: pytest.FixtureRequest) -> Iterator[Behind]:
    """A slave of ipvlan on both eth0, each in a namespace: on one network, or routed to."""
    mode: str = request.param
    net = lan.host.netns_add("inner", sysctl=QUIET6)
    lan.host.add_ipvlan("iv0", "eth0", mode)
    lan.host.set_netns("iv0", net)
    there = 0 if mode == "l2" else 1
    networks = [("10.80.0", "fd80::"), (f"10.80.{there}", f"fd80:0:0:{there}::")]
    (ours, ours6), (theirs, theirs6) = networks
    net.ifconfig("iv0", f"{ours}.1/24", up=True)
    net.ifconfig("iv0", f"{ours6}1/64")
    commands = [
        "ip netns add inner",
        f"ip link add link eth0 name iv0 netns inner type ipvlan mode {mode}",
        f"ip -n inner addr add {theirs}.2/24 dev iv0",
        f"ip -n inner addr add {theirs6}2/64 dev iv0 nodad",
        "ip -n inner link set iv0 up",
    ]
    routes = {f"{theirs}.0/24": GUEST, f"{theirs6}/64": GUEST6} if there else {}
    for to, via in routes.items():
        lan.host.route_add(to, via)
    if routes:
        for to in ("0.0.0.0/0", "::/0"):
            net.route_add(to, dev="iv0")
        commands += [
            f"ip route add {ours}.0/24 via {OURS}",
            f"ip route add {ours6}/64 via {OURS6}",
            "ip -n inner route add default dev iv0",
            "ip -n inner -6 route add default dev iv0",
        ]
    lan.guest.run("set -e\n" + "\n".join(commands)).check()
    yield Behind(lan, net, "ip netns exec inner")
    lan.guest.run("ip netns del inner").check()
    if routes:
        lan.guest.run(f"ip route del {ours}.0/24; ip route del {ours6}/64").check()
    for to, via in routes.items():
        lan.host.route_del(to, via)
    net.close()


@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
def test_slaves_of_ipvlan_reach_each_other(slaves: Behind, family: int) -> None:
    """Echoes and streams between a slave of ours and one of the guest's."""
    ours = "10.80.0.1" if family == V4 else "fd80::1"
    for size in (0, 3000):
        ping(slaves.guest, ours, size=size, whole=False)
    streams(slaves, family, ours)


VRFS = {"red": 20, "blue": 30}
"""The id of the VLAN of each; the addresses are the same in both."""


def make_vrfs(number: int) -> str:
    """The shell's script for one end, whose addresses end with `number`."""
    lines = ["set -e"]
    for name, vid in VRFS.items():
        dev = f"eth0.{vid}"
        lines += [
            f"ip link add {name} type vrf table {vid}; ip link set {name} up",
            f"ip link add link eth0 name {dev} type vlan id {vid}; ip link set {dev} master {name}",
            f"ip link set {dev} up; ip addr add 10.82.0.{number}/24 dev {dev}",
            f"ip addr add fd82::{number}/64 dev {dev} nodad",
            f"ip route add vrf {name} unreachable default metric 4278198272",
        ]
    return "\n".join(lines)


@pytest.fixture(scope="module")
def vrfs(lan: OnStack) -> Iterator[None]:
    on_host(lan, make_vrfs(1))
    lan.guest.run(make_vrfs(7)).check()
    yield
    gone = "; ".join(f"ip link del eth0.{vid}; ip link del {name}" for name, vid in VRFS.items())
    on_host(lan, gone)
    lan.guest.run(gone).check()


@pytest.mark.usefixtures("vrfs")
@pytest.mark.parametrize("family", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("name", VRFS)
def test_vrfs_with_the_same_addresses_are_apart(lan: OnStack, name: str, family: int) -> None:
    """Echoes and streams of a VRF pass by its VLAN only; without a VRF nobody is reached."""
    ours = "10.82.0.1" if family == V4 else "fd82::1"
    streamed = f"tcp.port == {DATA_PORT} && vlan"

    def seen() -> list[str]:
        lan.writer.flush()
        return [row[0] for row in fields(lan.capture, streamed, "vlan.id")]

    before = len(seen())
    inside = Behind(lan, lan.host, f"ip vrf exec {name}", name)
    for size in (0, 3000):
        ping(inside.guest, ours, size=size, whole=False)
    streams(inside, family, ours)
    assert set(seen()[before:]) == {str(VRFS[name])}
    assert lan.guest.run(f"ping -c 1 -W 1 {ours}").returncode != 0


SHOWN = (
    "ip vrf show; ip -d rule show; ip -6 -d rule show",
    "ip route show vrf red; ip route show table 30; ip route show | grep 10.82; echo no more",
    *(f"ip -6 route show {which} | grep -v 'local fe80'" for which in ("vrf red", "table 30")),
    *(f"ip route get {to}" for to in ("10.82.0.9 vrf red", "10.82.0.9 oif eth0.30")),
    *(f"ip route get {to} vrf blue" for to in ("192.0.2.1", "fd82::9", "2001:db8:7::1")),
    "ip -o link show vrf red | grep -o '<.*>'",
    "ip -o -d link show eth0.30 | grep -o 'vrf_slave.*30'",
    "ip -o -d link show red | grep -o '<.*> mtu [0-9]*'",
    "ip -o -d link show red | grep -o 'minmtu.*maxmtu [0-9]*\\|vrf table [0-9]*'",
)


@pytest.mark.usefixtures("vrfs")
@pytest.mark.parametrize("words", SHOWN)
def test_ip_shows_a_vrf_of_ours_as_one_of_linux(lan: OnStack, words: str) -> None:
    script = f"{{ {words}; }} 2>&1 || true"
    ours, theirs = on_host(lan, script), lan.guest.run(script).stdout
    theirs = theirs.replace("10.82.0.7", "10.82.0.1").replace("fd82::7", "fd82::1")
    assert ours.split() == theirs.split() != []
