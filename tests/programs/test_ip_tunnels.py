"""Debian's ip makes tunnels on our hosts, and shows them as it shows the kernel's.

The kernel of this machine has none of these kinds. So the table has what ip(8) shows of one that
has them.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from stack.api.programs import spawn
from tests.hosts import real_host
from tests.support import require

pytestmark = pytest.mark.netns

V4 = "local 10.0.0.1 remote 10.0.0.2"
V6 = "local fd00::1 remote fd00::2"
TUNNELS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "ipip": (f"{V4} ttl 5", 1480, {"ttl": 5, "pmtudisc": True, "remote": "10.0.0.2"}),
    "sit": (f"{V4} mode ip6ip", 1480, {"proto": "ip6ip", "ttl": 0, "local": "10.0.0.1"}),
    "gre": (
        f"{V4} key 5 csum seq tos inherit",
        1464,
        {"tos": "0x1", "ikey": "0.0.0.5", "okey": "0.0.0.5", "iseq": True, "ocsum": True},
    ),
    "gretap": (f"{V4} nopmtudisc ignore-df", 1462, {"pmtudisc": False, "ignore_df": True}),
    "ip6tnl": (
        f"{V6} mode any tclass 0x20 flowlabel 0x12345",
        1452,
        {"proto": "any", "encap_limit": 4, "ttl": 64, "tclass": "0x20"},
    ),
    "ip6gre": (f"{V6} key 7 encaplimit none", 1452, {"ip6_tnl_f_ign_encap_limit": True}),
    "ip6gretap": (f"{V6} hoplimit 9 dev e0", 1434, {"ttl": 9, "link": "e0"}),
}
"""Kind: words, MTU, what `ip -d -j link` tells of it among others."""


def test_ip_makes_shows_changes_and_deletes_tunnels() -> None:
    require.tool("ip", "iproute2")
    script = """
        ip link add e0 type veth peer name e1; ip link set e0 up; ip link set e1 up
        ip addr add 10.0.0.1/24 dev e0; ip addr add fd00::1/64 dev e0 nodad
    """
    for kind, (words, _, _) in TUNNELS.items():
        script += f"ip link add t-{kind} type {kind} {words} || exit 1\n"
    script += """
        ip link add x type gre local 10.0.0.1 remote 10.0.0.2 key 5 2>/dev/null && exit 2
        ip link add x type ipip external 2>/dev/null && exit 3
        ip link set t-ipip type ipip remote 10.0.0.3 ttl 7 || exit 4
        ip link set t-ipip type ipip remote 0.0.0.0 2>/dev/null && exit 5
        ip link set t-ipip type ipip remote 239.1.1.1 2>/dev/null && exit 6
        ip link set e1 mtu 1400; ip link set t-ipip type ipip dev e1 || exit 7
        [ $(cat /sys/class/net/t-ipip/mtu) = 1380 ] || exit 8
        ip link set t-ipip mtu 1000 type ipip dev e0
        [ $(cat /sys/class/net/t-ipip/mtu) = 1000 ] || exit 9
        ip link set t-ipip type ipip dev e1; ip link set t-ipip type ipip dev e0
        ip link set e1 mtu 1500
        ip -d -j link show; ip link del t-gre && ip -d -j link show t-ipip
        ip link show t-gre 2>/dev/null; exit 0
    """
    with (
        real_host() as host,
        spawn(host, ["sh", "-c", script], stdout=subprocess.PIPE) as program,
    ):
        out, _ = program.communicate(timeout=120)
        assert program.returncode == 0
        assert "t-gre" not in host.dev_by_name
    first, second = out.decode().splitlines()
    shown = {link["ifname"]: link for link in json.loads(first)}
    for kind, (_, mtu, want) in TUNNELS.items():
        link = shown[f"t-{kind}"]
        info = link["linkinfo"]
        assert (info["info_kind"], link["mtu"]) == (kind, mtu)
        data = {**info["info_data"], "link": link.get("link")}
        if kind == "ipip":
            assert (data["remote"], data["ttl"]) == ("10.0.0.3", 7)
            continue
        assert {word: data.get(word) for word in want} == want, (kind, data)
    (changed,) = json.loads(second)
    assert changed["broadcast"] == "10.0.0.3"
