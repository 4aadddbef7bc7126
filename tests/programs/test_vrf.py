"""VRFs by Debian's `ip`: iproute2 prints what Linux's documentation shows of them.

The kernel of the tests' machine has no VRF. What is expected is written from
Documentation/networking/vrf.rst and iproute2's ip-vrf(8), with our addresses;
tests/guest/test_links.py has a guest's Linux print it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable

import pytest

from tests.hosts import real_host, run_script
from tests.support import require

MADE = """
ip link add red address 02:00:00:00:00:0a type vrf table 10
ip link add blue address 02:00:00:00:00:0b type vrf table 20
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link set red up; ip link set v1 up; ip link set v0 up master red
ip addr add 10.0.0.1/24 brd + dev v0; ip addr add 2001:db8::1/64 dev v0 nodad
"""
WANTED = {
    "ip rule": """\
0: from all lookup local
1000: from all lookup [l3mdev-table]
32766: from all lookup main
32767: from all lookup default
""",
    "ip -6 rule": """\
0: from all lookup local
1000: from all lookup [l3mdev-table]
32766: from all lookup main
""",
    "ip -d rule show prio 1000": "1000: from all lookup [l3mdev-table] proto kernel\n",
    "ip vrf show": """\
Name Table
-----------------------
red 10
blue 20
""",
    "ip vrf show blue": "blue 20\n",
    "ip -j vrf": '[{"name":"red","table":10},{"name":"blue","table":20}]\n',
    "ip link show red": """\
2: red: <NOARP,MASTER,UP,LOWER_UP> mtu 65575 qdisc noqueue state UP mode DEFAULT group default \
qlen 1000
link/ether 02:00:00:00:00:0a brd ff:ff:ff:ff:ff:ff
""",
    "ip -d link show red | grep -o 'minmtu.*maxmtu [0-9]*\\|vrf table 10'": """\
minmtu 1280 maxmtu 65575
vrf table 10
""",
    "ip -d link show v0 | grep -o 'vrf_slave table 10'": "vrf_slave table 10\n",
    "ip -o link show type vrf | cut -d ' ' -f 2,3": """\
red: <NOARP,MASTER,UP,LOWER_UP>
blue: <NOARP,MASTER>
""",
    "ip -br link show vrf red": """\
v0@v1 UP 02:00:00:00:00:01 <BROADCAST,MULTICAST,UP,LOWER_UP>
""",
    "ip -br -4 addr show vrf red": "v0@v1 UP 10.0.0.1/24\n",
    """ip neigh add 10.0.0.9 lladdr 02:00:00:00:00:99 dev v0; ip neigh show vrf red;
    ip neigh show vrf blue""": "10.0.0.9 dev v0 lladdr 02:00:00:00:00:99 PERMANENT\n",
    "ip route show vrf red": "10.0.0.0/24 dev v0 proto kernel scope link src 10.0.0.1\n",
    "ip route show table 10": """\
10.0.0.0/24 dev v0 proto kernel scope link src 10.0.0.1
local 10.0.0.1 dev v0 proto kernel scope host src 10.0.0.1
broadcast 10.0.0.255 dev v0 proto kernel scope link src 10.0.0.1
""",
    "ip -6 route show table 10 | grep -v fe80": """\
local 2001:db8::1 dev v0 proto kernel metric 0 pref medium
2001:db8::/64 dev v0 proto kernel metric 256 pref medium
multicast ff00::/8 dev v0 proto kernel metric 256 pref medium
""",
    "ip route show": "",
    """ip route add vrf red default via 10.0.0.254
    ip route add vrf red unreachable default metric 4278198272
    ip route add vrf red blackhole 10.9.0.0/16; ip route show vrf red""": """\
default via 10.0.0.254 dev v0
unreachable default metric 4278198272
10.0.0.0/24 dev v0 proto kernel scope link src 10.0.0.1
blackhole 10.9.0.0/16
""",
    "ip route get 192.0.2.1 vrf red": """\
192.0.2.1 via 10.0.0.254 dev v0 table 10 src 10.0.0.1 uid 0
cache
""",
    "ip route get 192.0.2.1 oif v0": """\
192.0.2.1 via 10.0.0.254 dev v0 table 10 src 10.0.0.1 uid 0
cache
""",
    "ip route get 10.0.0.1 vrf red": """\
local 10.0.0.1 dev red table 10 src 10.0.0.1 uid 0
cache <local>
""",
    "ip route get 10.0.0.1 from 10.0.0.7 iif v0": """\
local 10.0.0.1 from 10.0.0.7 dev red table 10
cache <local> iif v0
""",
    "ip route get 10.9.0.1 vrf red; ip route get 192.0.2.1": """\
RTNETLINK answers: Invalid argument
RTNETLINK answers: Network is unreachable
""",
    "ip -6 route get 2001:db8::9 vrf red": """\
2001:db8::9 from :: dev v0 table 10 proto kernel src 2001:db8::1 metric 256 pref medium
""",
    "ip -6 route get 2001:db8::1 vrf red": """\
local 2001:db8::1 from :: dev red table 10 proto kernel src 2001:db8::1 metric 0 pref medium
""",
    "ip link set blue master red; ip link set lo master red": """\
Error: Can not enslave an L3 master device to a VRF.
Error: Can not enslave loopback device to a VRF.
""",
    """ip link add x type vrf; ip link add x type vrf table 0
    ip link add x address 01:00:00:00:00:00 type vrf table 5""": """\
Error: VRF table id is missing.
Error: Invalid VRF table id.
Error: Invalid hardware address.
""",
    "ip link set v0 nomaster; ip route show; ip route show table 10": """\
10.0.0.0/24 dev v0 proto kernel scope link src 10.0.0.1
unreachable default metric 4278198272
blackhole 10.9.0.0/16
""",
    "ip link del red; ip link del blue; ip vrf; ip rule show prio 1000": """\
Name Table
-----------------------
No VRF has been configured
1000: from all lookup [l3mdev-table]
""",
    "ip rule del prio 1000; ip link add red type vrf table 10; ip rule": """\
0: from all lookup local
32766: from all lookup main
32767: from all lookup default
""",
}
"""What is printed, by the command, in their order on one host; spaces are as one."""


def one_by_one(made: str, commands: Iterable[str]) -> str:
    """A script of the shell: `made`, then the commands; `answers` cuts what it prints."""
    return made + "".join(f"{words}\necho %%\n" for words in commands)


def answers(text: str) -> list[str]:
    """What each command printed; spaces are as one."""
    return re.sub(r"(?m)^ +| +$", "", re.sub(r"[ \t]+", " ", text)).split("%%\n")[:-1]


def printed(made: str, commands: Iterable[str]) -> list[str]:
    """What each command prints on one new host, once `made` has run."""
    require.tool("ip", "iproute2")
    said: list[str] = []
    with real_host() as host:
        script = one_by_one(made, commands)
        out = run_script(host, script, log=said.append, stderr=subprocess.STDOUT)
    assert said == []
    return answers(out)


def test_ip_prints_what_linux_documents() -> None:
    found = printed(MADE, WANTED)
    assert dict(zip(WANTED, found, strict=True)) == WANTED


@pytest.mark.parametrize("family", [4, 6])
def test_programs_bind_to_a_vrf(family: int) -> None:
    """Debian's ping with -I, between two VRFs of one host."""
    require.tool("ip", "iproute2")
    require.tool("ping", "iputils-ping")
    to = {4: "10.0.0.1", 6: "2001:db8::1"}[family]
    script = f"""{MADE}
ip link set blue up; ip link set v1 master blue; ip addr add 10.0.0.2/24 dev v1
ip addr add 2001:db8::2/64 dev v1 nodad; ip addr add 2001:db8::1/64 dev v0 nodad
ping -{family} -n -c 3 -i 0.2 -W 20 -I blue {to}
"""
    with real_host() as host:
        out = run_script(host, script, stderr=subprocess.STDOUT)
    assert "3 received" in out, out
