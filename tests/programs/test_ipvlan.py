"""ipvlan by Debian's `ip`: iproute2 prints what Linux's documentation shows of it.

The kernel of the tests' machine has no ipvlan. What is expected is written from
Documentation/networking/ipvlan.rst and ip-link(8); tests/guest/test_links.py has a guest's Linux
print it.
"""

from __future__ import annotations

from tests.programs.test_vrf import printed

MADE = """
ip link add e0 address 02:00:00:00:00:01 type veth peer name e1 address 02:00:00:00:00:02
ip link set e0 up; ip link set e1 up
seen() {
    ip -d link show $1 | tr -s ' ' | grep -o 'minmtu.*maxmtu [0-9]*\\|ipvlan mode [a-z0-9]* [a-z]*'
}
"""
USED = "Error: Address already assigned to an ipvlan device.\n"
WANTED = {
    "ip link add link e0 name p0 type ipvlan; ip link show p0": """\
4: p0@e0: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN mode DEFAULT group default qlen 1000
link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff
""",
    "seen p0": "minmtu 68 maxmtu 65535\nipvlan mode l3 bridge\n",
    "ip link add link p0 name p1 mtu 1400 type ipvlan mode l2 vepa; seen p0 | tail -1": """\
ipvlan mode l2 vepa
""",
    "ip -j -d link show p1 | grep -o '\"linkinfo.*}}'": """\
"linkinfo":{"info_kind":"ipvlan","info_data":{"mode":"l2","vepa":true}}
""",
    "ip link set p1 type ipvlan mode l3s private; seen p0 | tail -1": "ipvlan mode l3s private\n",
    "ip link set p1 type ipvlan bridge; seen p0 | tail -1": "ipvlan mode l3s bridge\n",
    "ip link set p0 up; ip link show p0 | grep -o '<.*>'": """\
<BROADCAST,MULTICAST,NOARP,UP,LOWER_UP>
""",
    "ip link set p0 type ipvlan mode l2; ip link show p0 | grep -o '<.*>'": """\
<BROADCAST,MULTICAST,UP,LOWER_UP>
""",
    "ip addr add 10.0.0.1/24 dev p0; ip addr add 10.0.0.1/24 dev p1; echo $?": f"{USED}2\n",
    "ip addr add fd00::1/64 dev p0; ip addr add fd00::1/64 dev p1; echo $?": f"{USED}2\n",
    "ip addr del fd00::1/64 dev p0; ip addr add fd00::1/64 dev p1; echo $?": "0\n",
    "ip link add p2 type ipvlan": "RTNETLINK answers: Invalid argument\n",
    "ip link add link e0 name p2 mtu 60 type ipvlan": "Error: mtu less than device minimum.\n",
    "ethtool -i p0 | head -2": "driver: ipvlan\nversion: 0.1\n",
    "ip link set e0 address 02:00:00:00:00:07; ip link show p0 | tail -1": """\
link/ether 02:00:00:00:00:07 brd ff:ff:ff:ff:ff:ff permaddr 02:00:00:00:00:01
""",
    "ip link del e0; ip -br link": "lo UNKNOWN 00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP>\n",
}
"""What is printed, by the command, in their order on one host; spaces are as one."""


def test_ip_prints_what_linux_documents() -> None:
    found = printed(MADE, WANTED)
    assert dict(zip(WANTED, found, strict=True)) == WANTED
