"""Debian's brctl, and what it reads and writes below /sys/class/net, beside the kernel's bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.support import require

pytestmark = pytest.mark.netns

PORTS = """
ip link add v0 type veth peer name v1; ip link add v2 type veth peer name v3
"""
LACKED = (
    r"multicast_stats_enabled|nf_call_\w+|no_linklocal_learn|backup_port|bridge|neigh_suppress|"
    r"multicast_to_unicast|proxyarp(_wifi)?"
)
"""Files of the kernel's that are not here."""
QUIET = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
ID = (r"\b([0-9a-f]{4})\.[0-9a-f]{12}\b", r"\1.mac")
ROWS = {
    "bridges and ports": Row(
        f"""{PORTS}
        for name in br0 br0 a/b averylongnameofabridge; do brctl addbr $name; echo $?; done
        for port in v0 v2 v0 lo nix; do brctl addif br0 $port; echo $?; done
        brctl addif nix v0; echo $?; brctl addif v0 v1; echo $?
        brctl show; brctl show br0; brctl show nix; echo $?; brctl showmacs nix; echo $?
        brctl delif br0 v2; echo $?; brctl delif br0 v2; echo $?
        ip link set br0 up; brctl delbr br0; echo $?; ip link set br0 down
        for name in br0 br0 v0; do brctl delbr $name; echo $?; done; brctl show
        """,
        (ID,),
    ),
    "the spanning tree": Row(
        f"""{PORTS}
        brctl addbr br0; brctl addif br0 v0 v2
        for name in br0 v0 v1 v2 v3; do ip link set $name up; done; sleep 1
        brctl stp br0 on; brctl setfd br0 4; brctl sethello br0 1; brctl setmaxage br0 6
        brctl setageing br0 100; brctl setbridgeprio br0 65636; brctl setpathcost br0 v0 7
        brctl setportprio br0 v0 3; brctl hairpin br0 v0 on
        brctl setpathcost br0 v1 7; echo $?; brctl setfd br0 90; echo $?
        brctl setportprio br0 v0 300; echo $?; brctl setpathcost br0 v0 0; echo $?
        brctl stp br0 off; brctl showstp br0; brctl showmacs br0 | sort
        """,
        (ID, (r"timer.*|(..:){5}..", ""), (r"(yes|no)\t.*", r"\1")),
    ),
    "files": Row(
        f"""{PORTS}
        brctl addbr br0; brctl addif br0 v0 v2; n=/sys/class/net
        ls $n/br0/bridge $n/br0/brif $n/v0/brport | grep -Exv '{LACKED}'
        for file in $n/br0/bridge/* $n/v0/brport/*; do
            case ${{file##*/}} in *_id|*root|*timer|*_bridge|bridge) continue; esac
            echo $file $(stat -c %A $file) $(cat $file 2>&1)
        done | grep -Ev '/({LACKED}) '
        at() {{ echo "$3" > $n/$1/$2; echo $2 $? $(cat $n/$1/$2); }}
        b=br0/bridge; at $b hash_max 16; at $b group_fwd_mask 16; at $b group_fwd_mask 1
        at $b priority 7; at $b forward_delay x; at $b group_addr 01:80:c2:00:00:0f
        at $b group_addr 1; at $b root_port 1; at $b multicast_query_interval 500
        echo 1 > $n/$b/flush; echo $?
        p=br0/brif/v0; at $p path_cost 8; at $p path_cost 0; at $p state 3
        for file in learning unicast_flood multicast_flood broadcast_flood isolated hairpin_mode \\
            bpdu_guard root_block multicast_fast_leave; do at $p $file 1; at $p $file 0; done
        echo 1 > $n/$p/flush; echo $?; cat $n/br0/brif/v2/port_no $n/br0/brif/v1/port_no
        """,
        ((r"\S*/script: \d+: ", ""),),
    ),
    "links to other interfaces": Row(
        f"""{PORTS}
        brctl addbr br0; brctl addif br0 v0; cd /
        for link in v0/master br0/lower_v0 br0/brif/v0 v0/upper_br0 v0/master/mtu v1/master; do
            readlink /sys/class/net/$link; echo $?
        done
        basename $(readlink -f /sys/class/net/v0/master); cat /sys/class/net/v0/master/mtu
        cat /sys/class/net/v0/upper_br0/lower_v0/mtu; ls -d /sys/class/net/*/master
        ls -d /sys/class/net/*/brport /sys/class/net/*/lower_*
        """
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    require.tool("brctl", "bridge-utils")
    both(peer, tmp_path, ROWS[name], QUIET)
