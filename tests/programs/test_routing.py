"""BIRD and FRR, routing daemons, on two hosts: what protocols bring into the tables of routes.

They run on two hosts in virtual time, and on two namespaces of the kernel. OSPF and Babel are raw
and multicast, RIP and BFD are UDP, BGP is TCP; routes go by rtnetlink, FRR's over next hops.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.api.programs import spawn
from stack.host import Host
from tests.linux.peer import Peer
from tests.support import eventually, require

pytestmark = pytest.mark.netns

COMMON = """
log stderr all;
router id 10.0.0.{me};
protocol device {{ scan time 1; }}
protocol kernel {{ ipv4 {{ export where source != RTS_DEVICE; }}; scan time 1; }}
protocol kernel {{ ipv6 {{ export where source != RTS_DEVICE; }}; scan time 1; }}
protocol static {{ ipv4; route 10.{me}0.0.0/16 blackhole; }}
protocol static {{ ipv6; route fd0{me}::/32 unreachable; }}
"""
OWN = "import all; export where source = RTS_STATIC;"
PROTOCOLS = {
    "OSPF": f"""
protocol ospf v2 {{{{ ipv4 {{{{ {OWN} }}}};
    area 0 {{{{ interface "eth0" {{{{ hello 1; dead 4; wait 2; }}}}; }}}}; }}}}
protocol ospf v3 {{{{ ipv6 {{{{ {OWN} }}}};
    area 0 {{{{ interface "eth0" {{{{ hello 1; dead 4; wait 2; }}}}; }}}}; }}}}
""",
    "RIP": f"""
protocol rip {{{{ ipv4 {{{{ {OWN} }}}}; interface "eth0" {{{{ update time 1; }}}}; }}}}
protocol rip ng {{{{ ipv6 {{{{ {OWN} }}}}; interface "eth0" {{{{ update time 1; }}}}; }}}}
""",
    "Babel": f"""
protocol babel {{{{ ipv4 {{{{ {OWN} }}}}; ipv6 {{{{ {OWN} }}}};
    interface "eth0" {{{{ type wired; hello interval 1 s; }}}}; }}}}
""",
    "BGP with BFD": f"""
protocol bfd {{{{ interface "eth0" {{{{ interval 200 ms; }}}}; }}}}
protocol bgp {{{{ local 10.0.0.{{me}} as 6500{{me}}; neighbor 10.0.0.{{you}} as 6500{{you}};
    connect delay time 1; hold time 6; bfd yes; ipv4 {{{{ {OWN} next hop self; }}}}; }}}}
protocol bgp {{{{ local fd00::{{me}} as 6500{{me}}; neighbor fd00::{{you}} as 6500{{you}};
    connect delay time 1; hold time 6; bfd yes; ipv6 {{{{ {OWN} next hop self; }}}}; }}}}
""",
    "BGP with a password": f"""
protocol bgp {{{{ local 10.0.0.{{me}} as 6500{{me}}; neighbor 10.0.0.{{you}} as 6500{{you}};
    password "secret"; connect delay time 1; ipv4 {{{{ {OWN} next hop self; }}}}; }}}}
protocol bgp {{{{ local fd00::{{me}} as 6500{{me}}; neighbor {{neighbor}} as 6500{{you}};
    password "of all"; connect delay time 1; ipv6 {{{{ {OWN} next hop self; }}}}; }}}}
""",
}
STATIC = {
    "zebra": "hostname r{me}",
    "staticd": "ip route 10.{me}0.0.0/16 blackhole\nipv6 route fd0{me}::/32 blackhole",
}
DAEMONS = {
    "OSPF": {
        "ospfd": """
router ospf
 ospf router-id 10.0.0.{me}
 redistribute static
 network 10.0.0.0/24 area 0
exit
interface eth0
 ip ospf hello-interval 1
 ip ospf dead-interval 4
 ip ospf network point-to-point
""",
        "ospf6d": """
router ospf6
 ospf6 router-id 10.0.0.{me}
 redistribute static
exit
interface eth0
 ipv6 ospf6 area 0
 ipv6 ospf6 hello-interval 1
 ipv6 ospf6 dead-interval 4
 ipv6 ospf6 network point-to-point
""",
    },
    "BGP with passwords": {
        "bgpd": """
router bgp 6500{me}
 bgp router-id 10.0.0.{me}
 no bgp ebgp-requires-policy
 neighbor 10.0.0.{you} remote-as 6500{you}
 neighbor 10.0.0.{you} password one
 neighbor 10.0.0.{you} timers connect 1
 neighbor fd00::{you} remote-as 6500{you}
 neighbor fd00::{you} password another
 neighbor fd00::{you} timers connect 1
 address-family ipv4 unicast
  redistribute static
  no neighbor fd00::{you} activate
 exit-address-family
 address-family ipv6 unicast
  redistribute static
  neighbor fd00::{you} activate
""",
    },
}
FRR = "/usr/lib/frr"
ROUTES = "ip route show; ip -6 route show"

Commands = Callable[[int], list[list[str]]]
"""What is started on an end (1, 2), in this order."""


def bird(path: Path, protocol: str) -> Commands:
    def commands(me: int) -> list[list[str]]:
        neighbor = ("range fd00::/64", "fd00::1")[me - 1]
        text = (COMMON + PROTOCOLS[protocol]).format(me=me, you=3 - me, neighbor=neighbor)
        (path / f"{me}.conf").write_text(text)
        return [["bird", "-f", "-c", f"{path}/{me}.conf", "-s", f"{path}/{me}.control"]]

    return commands


def frr(path: Path, protocol: str) -> Commands:
    """Its daemons give root up for a user of their own, to whom their files belong."""

    def commands(me: int) -> list[list[str]]:
        files = path / str(me)
        files.mkdir()
        shutil.chown(files, "frr", "frr")
        found = []
        for name, text in {**STATIC, **DAEMONS[protocol]}.items():
            (files / f"{name}.conf").write_text(text.format(me=me, you=3 - me) + "\n")
            words = f"{FRR}/{name} -f {files}/{name}.conf -z {files}/zserv -i {files}/{name}.pid"
            words += f" --vty_socket {files} -A 127.0.0.1 --log file:{files}/{name}.log"
            # One that finds no zebra tries again in ten seconds.
            wait = "" if name == "zebra" else f"until [ -S {files}/zserv ]; do sleep 0.1; done; "
            found.append(["sh", "-c", f"{wait}exec {words}"])
        return found

    return commands


@pytest.fixture
def peers() -> Iterator[list[Peer]]:
    """Two namespaces with a cable between them, as the two hosts have it."""
    require.netns()
    pair = [Peer(), Peer()]
    try:
        pair[0].ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
                   "netns", pair[1].name)  # fmt: skip
        for me, peer in enumerate(pair, 1):
            peer.write("/proc/sys/net/ipv6/conf/eth0/accept_dad", 0)
            peer.ip("link", "set", "lo", "up")
            # the end of the link-local address, by which both know the other's routes
            peer.ip("link", "set", "eth0", "address", f"52:54:00:12:34:5{5 + me}", "up")
            peer.ip("addr", "add", f"10.0.0.{me}/24", "dev", "eth0")
            peer.ip("addr", "add", f"fd00::{me}/64", "dev", "eth0")
        yield pair
    finally:
        for peer in pair:
            peer.close()


def learned(text: str) -> bool:
    """Whether the routes of the other end are there, of both families."""
    return "10.20.0.0/16 via" in text and "fd02::/32 via" in text


def told(routes: str) -> str:
    """Routes without the numbers of next hops, which follow the order of events."""
    return re.sub(r"nhid \d+ ", "", routes)


def on_linux(peers: list[Peer], commands: Commands) -> tuple[str, str]:
    """The first end's routes while the daemons run on both, and afterwards."""
    running = [
        subprocess.Popen(["ip", "netns", "exec", peer.name, *argv])
        for me, peer in enumerate(peers, 1)
        for argv in commands(me)
    ]

    def routes() -> str:
        return told(peers[0].run("sh", "-c", ROUTES).stdout.decode())

    try:
        eventually(lambda: learned(routes()), "the other end's routes", program=running[0])
        return routes(), ended(running, routes)
    finally:
        for daemon in running:
            daemon.kill()
            daemon.wait()


def ended(running: list[Any], routes: Callable[[], str]) -> str:
    """End the daemons; the routes that are left."""
    for daemon in reversed(running):
        daemon.terminate()
        assert daemon.wait(60) == 0
    return routes()


def on_ours(hosts: tuple[Host, Host], commands: Commands) -> tuple[str, str]:
    """The same on hosts in virtual time."""
    clock = hosts[0].clock
    said: list[str] = []

    def routes() -> str:
        asked = ["sh", "-c", ROUTES]
        with spawn(hosts[0], asked, stdout=subprocess.PIPE, log=said.append) as program:
            return told(program.communicate()[0].decode())

    running = [
        spawn(host, argv, log=said.append)
        for me, host in enumerate(hosts, 1)
        for argv in commands(me)
    ]
    for _ in range(60):
        clock.run_for(1_000_000_000)
        if learned(routes()):
            break
    found = routes()
    left = ended(running, routes)
    assert said == []
    return found, left


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bird(peers: list[Peer], tmp_path: Path, protocol: str) -> None:
    require.tool("bird", "bird2")
    same_routes(peers, bird(tmp_path, protocol))


@pytest.mark.parametrize("protocol", DAEMONS)
def test_frr(peers: list[Peer], protocol: str) -> None:
    require.tool(f"{FRR}/zebra", "frr")
    with tempfile.TemporaryDirectory() as name:  # pytest's is for its user alone
        path = Path(name)
        path.chmod(0o755)
        for world in ("linux", "ours"):
            (path / world).mkdir()
        same_routes(peers, frr(path / "linux", protocol), frr(path / "ours", protocol))


def same_routes(peers: list[Peer], commands: Commands, ours: Commands | None = None) -> None:
    """`ours`: the commands on hosts of ours, if they are not the same."""
    want = on_linux(peers, commands)
    a, b = hosts = two_hosts(VirtualClock(), latency_ns=1_000_000)
    with a, b:
        for me, host in enumerate(hosts, 1):
            host.sysctl["net.ipv6.conf.eth0.accept_dad"] = 0
            host.ifconfig("eth0", f"fd00::{me}/64")
        got = on_ours(hosts, ours or commands)
    assert learned(got[0])
    assert got == want
    assert not learned(want[1])
