"""Debian's ip makes, shows and changes bonds on a host of ours.

The kernel of the tests has no bonding. What ip prints of attributes is its own, so the lines here
say with which numbers and in which order they came; errors are those of Linux's bond_options.c.
tests/guest/test_bond.py compares both with a guest's Linux.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from fastpath.base import seccomp
from stack.host import Host
from tests.hosts import run_script

pytestmark = pytest.mark.skipif(not seccomp.available(), reason="needs Linux's seccomp")
VETHS = """
ip link add v0 address 02:00:00:00:00:01 type veth peer name p0
ip link add v1 address 02:00:00:00:00:02 type veth peer name p1
ip link set p0 up; ip link set p1 up
"""


@pytest.fixture
def host() -> Iterator[Host]:
    with Host("h", clock=VirtualClock(), drivers=False) as host:
        yield host


def script(host: Host, text: str) -> str:
    """What a shell script prints, errors too."""
    return run_script(host, text, stderr=subprocess.STDOUT)


def line(text: str, word: str) -> str:
    """The line of `ip -d link` that begins with a word."""
    found = [one.strip() for one in text.splitlines() if one.strip().startswith(f"{word} ")]
    assert len(found) == 1, text
    return found[0].partition(" addrgenmode")[0]


DEFAULTS = (
    "bond mode balance-rr miimon 0 updelay 0 downdelay 0 peer_notify_delay 0 use_carrier 1 "
    "arp_interval 0 arp_missed_max 2 arp_validate none arp_all_targets any primary_reselect always "
    "fail_over_mac none xmit_hash_policy layer2 resend_igmp 1 num_grat_arp 1 all_slaves_active 0 "
    "min_links 0 lp_interval 1 packets_per_slave 1 lacp_active on lacp_rate slow ad_select stable "
    "tlb_dynamic_lb 1"
)


def test_the_defaults_are_those_of_linux(host: Host) -> None:
    assert line(script(host, "ip link add type bond; ip -d link show bond0"), "bond") == DEFAULTS


def test_every_option_is_set_and_told(host: Host) -> None:
    told = script(
        host,
        "ip link add bond0 type bond mode active-backup miimon 100 updelay 250 downdelay 300 "
        "peer_notify_delay 200 primary_reselect better fail_over_mac active xmit_hash_policy "
        "encap2+3 resend_igmp 5 num_grat_arp 3 all_slaves_active 1 min_links 1 lp_interval 7 "
        "ad_select count; ip -d link show bond0",
    )
    expected = DEFAULTS
    for was, now in (
        ("balance-rr", "active-backup"),
        ("miimon 0 updelay 0 downdelay 0", "miimon 100 updelay 200 downdelay 300"),
        ("peer_notify_delay 0", "peer_notify_delay 200"),
        ("primary_reselect always", "primary_reselect better"),
        ("fail_over_mac none", "fail_over_mac active"),
        ("hash_policy layer2", "hash_policy encap2+3"),
        ("resend_igmp 1", "resend_igmp 5"),
        ("num_grat_arp 1 all_slaves_active 0", "num_grat_arp 3 all_slaves_active 1"),
        ("min_links 0 lp_interval 1", "min_links 1 lp_interval 7"),
        ("ad_select stable", "ad_select count"),
    ):
        assert was in expected
        expected = expected.replace(was, now)
    assert line(told, "bond") == expected


def test_slaves_are_shown_with_their_state(host: Host) -> None:
    told = script(
        host,
        VETHS
        + """
        ip link add bond0 type bond mode active-backup miimon 100
        ip link set v0 master bond0; ip link set v1 master bond0; ip link set bond0 up
        ip link set bond0 type bond primary v1; ip link set v0 type bond_slave prio 7
        ip -d link show v0; ip link show bond0; ip -d link show bond0; ip -br link show master bond0
        """,
    )
    assert line(told, "bond_slave") == (
        "bond_slave state BACKUP mii_status UP link_failure_count 0 "
        "perm_hwaddr 02:00:00:00:00:01 queue_id 0 prio 7"
    )
    assert "<BROADCAST,MULTICAST,MASTER,UP,LOWER_UP>" in told
    assert "<BROADCAST,MULTICAST,SLAVE,UP,LOWER_UP>" in told
    assert line(told, "bond").startswith("bond mode active-backup active_slave v1 miimon 100 ")
    assert " primary v1 primary_reselect always " in told
    assert [row.split("@")[0] for row in told.splitlines() if row.startswith("v")] == ["v0", "v1"]


def test_aggregators_and_port_states_are_shown(host: Host) -> None:
    script(
        host,
        VETHS
        + """
        ip link add bond0 type bond mode 802.3ad lacp_rate fast ad_user_port_key 3 \\
            ad_actor_sys_prio 9
        ip link add bond1 address 02:00:00:00:00:99 type bond mode 802.3ad
        for i in 0 1; do ip link set p$i down
        ip link set v$i master bond0; ip link set p$i master bond1; done
        ip link set bond0 up; ip link set bond1 up
        """,
    )
    host.clock.run_for(10_000_000_000)
    told = script(host, "ip -d link show bond0; ip -d link show v1")
    assert line(told, "bond").endswith(
        "lacp_active on lacp_rate fast ad_select stable ad_aggregator 1 ad_num_ports 2 "
        "ad_actor_key 207 ad_partner_key 15 ad_partner_mac 02:00:00:00:00:99 ad_actor_sys_prio 9 "
        "ad_user_port_key 3 ad_actor_system 00:00:00:00:00:00 tlb_dynamic_lb 1"
    )
    assert "state ACTIVE mii_status UP" in line(told, "bond_slave")
    words = "ad_actor_oper_port_state_str <active,short_timeout,aggregating,in_sync,collecting,"
    assert "ad_aggregator_id 1 ad_actor_oper_port_state 63 " + words + "distributing>" in told
    assert "ad_partner_oper_port_state 61 " in told


SLAVES = "unable to set option because the bond device has slaves."
REFUSED = {
    "set bond0 type bond mode 802.3ad": SLAVES,
    "set bond0 type bond num_grat_arp 3 fail_over_mac active": SLAVES,
    "set bond0 type bond lacp_rate fast": "option not supported in mode.",
    "set bond0 type bond arp_interval 100 arp_ip_target 10.0.0.1": (
        "ARP monitoring cannot be used with MII monitoring."
    ),
    "set bond0 master bond0": "Cannot enslave bond to itself.",
    "set p0 master bond0": "Device can not be enslaved while up.",
    "set v0 type bond_slave queue_id 3": "invalid option value.",
    "add bond1 type bond mode 802.3ad ad_actor_sys_prio 0": "invalid option value.",
    "add bond1 type bond peer_notify_delay 300001 miimon 1": "integer out of range.",
}
BOND = """
ip link add bond0 type bond mode active-backup miimon 100
ip link set v0 master bond0; ip link set bond0 up
"""


@pytest.mark.parametrize("command", REFUSED)
def test_what_is_refused_has_linuxs_text(host: Host, command: str) -> None:
    script(host, VETHS + BOND)
    assert script(host, f"ip link {command}; echo $?") == f"Error: {REFUSED[command]}\n2\n"
    assert "bond1" not in host.dev_by_name


def test_a_vlan_above_is_neither_master_nor_slave(host: Host) -> None:
    vlans = (
        "ip link add link bond0 name a type vlan id 5; ip link add link v0 name b type vlan id 5"
    )
    told = script(host, VETHS + BOND + vlans + "; ip -o link show type vlan | grep -o '<.*>'")
    assert told == "<BROADCAST,MULTICAST>\n" * 2


def test_another_master_releases_the_slave(host: Host) -> None:
    told = script(host, VETHS + BOND + "ip link add br0 type bridge; ip link set v0 master br0")
    assert told == ""
    assert host.dev_by_name["v0"].master is host.dev_by_name["br0"]
