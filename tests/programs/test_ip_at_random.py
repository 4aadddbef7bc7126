"""Random commands of `ip` come to the same on a host as in the kernel (ip_at_random.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.ip_at_random import commands, script
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

RULES = (
    (r"(expires|valid_lft|preferred_lft) \d+sec", r"\1 Nsec"),
    (r"refcnt \d+ reachable \d+", "reachable"),
    (r"(?m) used \d+/\d+/\d+| ref \d+| proto kernel_l[ol]", ""),
    (r"(?m) [gt]s?r?o_\w+ \d+| num[tr]xqueues \d+|minmtu \d+ +maxmtu \d+ ", ""),
    # Bridges have attributes that hosts do not tell.
    (r"(?m)^    bridge forward_delay.*?(addrgenmode \w+ .*|$)", r"\1"),
    # The kernel keeps a proxy without a device when its namespace ends, for one that comes to lie
    # at the same place in memory.
    (r"(?m)^\S+ +proxy.*\n", ""),
    # Where their own messages about groups went.
    (r"(?m)^(\[NEIGH\])?(Deleted )?(ff0|22[45]\.0).*NOARP.*\n", ""),
    # Of a link that goes up the kernel tells before its worker has seen the carrier.
    (
        r"(?m)^(\[LINK\].*?)(NO-CARRIER,)?(\w[\w,-]*?)(,LOWER_UP|,M-DOWN)?>(.*) state \w+",
        r"\1\3>\5",
    ),
)
LINKS = (
    *RULES,
    (r"(?m)^\[LINK\].*\n( .*\n|\n)*", ""),
    (r"(?m)^\[NEIGH\](Deleted )?dev .*\n", ""),
)
"""Not each change of a flag or name is told of here, nor of the addresses of bridges."""
SEEDS = {
    "route": (116, 203),
    "nexthop": (103, 115),
    "addr": (104, 205),
    "rule": (102, 106),
    "neigh": (102, 104),
    "link": (101, 107),
}
"""Each of them found something once."""
FOUND = """
ip neigh add 10.0.0.4 lladdr 02:00:00:00:00:99 nud reachable dev w0
ip neigh replace 10.0.0.4 managed dev w0
ip neigh add 10.0.0.5 managed nud permanent dev w0
ip neigh add proxy 10.0.0.5 managed dev w0
ip neigh add 10.0.0.5 lladdr 02:00:00:00:00:99 router extern_learn dev w0
ip neigh replace 10.0.0.5 lladdr 02:00:00:00:00:99 dev w0
ip neigh del 10.0.0.5 dev w0
sysctl -w net.ipv4.neigh.w0.interval_probe_time_ms=0
sysctl -w net.ipv6.neigh.w0.interval_probe_time_ms=2000
ip -6 route add 2001:db8:c::/48 via 2001:db8::2 expires 1000
ip -6 route del 2001:db8:c::/48
ip -6 route add 2001:db8:c::/48 dev lo expires 1000
ip -6 route add 2001:db8:d::/48 nexthop via 2001:db8::2 nexthop via 2001:db8:1::2
ip -6 route append 2001:db8:d::/48 dev v0
ip -6 route append 2001:db8:d::/48 via 2001:db8::3
ip -6 route replace 2001:db8:d::/48 dev w0
ip link set v0 down
ip link set v0 up
ip -6 route get ff02::5 from 2001:db8::77 iif v1
ip route show table default
ip rule add from 10.0.0.7/24 table 7
ip addr add 2001:db8::5/64 nodad optimistic dev v0
ip route add 10.5.0.0/16 dev v0 src 10.0.0.1
ip addr del 10.0.0.1/24 dev v0
"""
"""Rows of what was found, and of neighbours whose probes would end by time."""


@pytest.mark.parametrize(
    ("theme", "seed"), [(theme, seed) for theme, seeds in SEEDS.items() for seed in seeds]
)
def test_commands_come_to_the_same(peer: Peer, tmp_path: Path, theme: str, seed: int) -> None:
    row = Row(script(commands(seed, theme)), LINKS if theme == "link" else RULES)
    both(peer, tmp_path, row, {"net.ipv4.ip_forward": 0})


def test_what_was_found_comes_to_the_same(peer: Peer, tmp_path: Path) -> None:
    row = Row(script(FOUND.strip().splitlines()), RULES)
    both(peer, tmp_path, row, {"net.ipv4.ip_forward": 0})
