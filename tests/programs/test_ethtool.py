"""Debian's ethtool on our hosts, by netlink and by ioctl, beside the kernel and on the NIC.

Of a veth the kernel of this machine has the same driver, so what ethtool prints is compared. Of the
e1000 it is compared with what the host's own driver says.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.core.ethtool import ethtool_get_features, ethtool_get_ringparam, ethtool_get_stats
from stack.host import Host
from tests.hosts import real_hosts, run_script
from tests.linux.peer import Peer
from tests.programs.test_iproute import VETH, Row, both
from tests.support import require

pytestmark = pytest.mark.netns

OTHER_OFFLOADS = {
    "rx-gro-list": "our GRO makes one packet of several, and no lists of packets",
    "rx-udp-gro-forwarding": "our GRO merges datagrams for this host's sockets alone",
}
"""Offloads that Linux's devices may turn on and ours have not, with the reason."""
OFFLOADS = rf"(?m)^\t?({'|'.join(OTHER_OFFLOADS)}): .*\n"
DEVICES = {
    "veth": "",
    "vxlan": "ip link add t0 type vxlan id 7 remote 10.0.0.2 local 10.0.0.1 dstport 4789 dev v0",
    "bridge": "ip link add t0 type bridge",
    "a bridge's port": "ip link add t0 type bridge; ip link set v0 master t0",
    "macvlan": "ip link add t0 link v0 type macvlan",
    "macvlan in a bridge": """
        ip link add t0 type bridge; ip link add m0 link v0 type macvlan; ip link set m0 master t0
    """,
    "ifb": "ip link add t0 type ifb",
}
"""Kinds of devices that both kernels have, `t0` above `v0` or alone."""
SWITCHED = (
    *("tso", "gso", "gro", "tx", "sg", "rx", "tx-udp-segmentation", "tx-tcp6-segmentation"),
    *("tx-udp_tnl-segmentation", "tx-gre-csum-segmentation", "tx-ipxip4-segmentation"),
    *("tx-nocache-copy", "tx-checksum-ip-generic", "tx-scatter-gather-fraglist", "highdma"),
    *("tx-gso-list", "tx-sctp-segmentation", "txvlan", "tx-vlan-stag-hw-insert", "loopback"),
)
"""Off and on again: what else changes with each, and which are refused."""
ROWS = {
    "settings": Row(
        f"""{VETH}
        for o in "" -g -c -a --show-eee -m -P --show-fec -d -e -T -x --show-priv-flags -n; do
            ethtool $o v0; echo $?
        done 2>&1
        ethtool lo; ethtool -T lo; ethtool -i lo; ethtool nothere; echo $?
        ethtool -P v0; ethtool --json -T v0; ethtool --json v0
        """,
        tools=("ethtool",),
    ),
    "driver, offloads": Row(
        f"""{VETH}
        ethtool -i v0; ethtool -k v0; ethtool -S v0 | head -2
        ethtool -K v0 tso off; ethtool -k v0 | grep ^tcp-seg; ethtool -k v1 | grep ^tcp-seg
        ethtool -K v0 sg off >/dev/null; ethtool -k v0 | grep ^scatter; echo $?
        """,
        ((OFFLOADS, ""), (r"(?m)^Actual changes:\n(.*\n)*?(?=\S|\Z)", "")),
        tools=("ethtool",),
    ),
    "refused": Row(
        f"""{VETH}
        ethtool -G v0 rx 10; ethtool -C v0 rx-usecs 5; ethtool -A v0 rx off; ethtool -s v0 wol g
        ethtool -s v0 speed 100; ethtool -s v0 msglvl drv on; ethtool -s v0 port mii
        ethtool -L v9 rx 1; ethtool -K v0 rx-all on; ethtool -r v0; ethtool --set-eee v0 eee on
        ethtool -K v9 tso on; echo $?
        """,
        tools=("ethtool",),
    ),
    "all interfaces": Row(
        f"""{VETH}
        ethtool -g '*'; ethtool -a '*'; ethtool -T '*'; ethtool '*'
        """,
        tools=("ethtool",),
    ),
}


def offloads(kind: str) -> Row:
    """What `ethtool -k` and `-K` print of a kind of device."""
    dev = "t0" if DEVICES[kind] else "v0"
    words = f"""{VETH}
        {DEVICES[kind]}
        for d in v0 {dev} lo; do ethtool -k $d; done
        for word in {" ".join(SWITCHED)}; do
            for to in off on; do echo "$word $to"; ethtool -K {dev} $word $to; echo $?; done
            ethtool -k {dev}
        done 2>&1
        ethtool -K {dev} tso off gso off tx off; ethtool -k {dev}; ethtool -k v0
    """
    return Row(words, ((OFFLOADS, ""),), tools=("ethtool",))


@pytest.mark.parametrize("kind", DEVICES)
def test_offloads_are_those_of_linux(peer: Peer, tmp_path: Path, kind: str) -> None:
    require.tool("ethtool", "ethtool")
    both(peer, tmp_path, offloads(kind), {"net.ipv4.ip_forward": 0})


@pytest.mark.parametrize("name", ROWS)
def test_ethtool_prints_what_it_prints_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    require.tool("ethtool", "ethtool")
    both(peer, tmp_path, ROWS[name], {"net.ipv4.ip_forward": 0})


# --- the NIC ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    require.tool("ethtool", "ethtool")
    with real_hosts() as (a, _):
        yield a


def run(host: Host, script: str) -> str:
    """What a script on the host prints, errors too."""
    said: list[str] = []
    out = run_script(host, script, log=said.append, stderr=subprocess.STDOUT)
    assert said == []
    return out


def test_the_driver_and_its_counters(host: Host) -> None:
    said = run(host, "ethtool -i eth0")
    assert "driver: e1000\n" in said
    assert "supports-register-dump: yes\n" in said
    stats = ethtool_get_stats(host.dev("eth0"))
    lines = run(host, "ethtool -S eth0").splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == list(stats)


def test_every_offload_is_listed_as_the_driver_has_it(host: Host) -> None:
    shown = run(host, "ethtool -k eth0")
    listed = dict(re.findall(r"(?m)^\t?(\S+): (.*?)\s*$", shown))
    old = {
        "rx-checksum": "rx-checksumming",
        "rx-vlan-hw-parse": "rx-vlan-offload",
        "tx-vlan-hw-insert": "tx-vlan-offload",
        "rx-gro": "generic-receive-offload",
        "tx-generic-segmentation": "generic-segmentation-offload",
        "rx-hashing": "receive-hashing",
        "rx-lro": "large-receive-offload",
    }
    for name, (on, fixed) in ethtool_get_features(host.dev("eth0")).items():
        if name == "netns-local":  # no feature any more since Linux 6.12
            continue
        words = ("on" if on else "off") + (" [fixed]" if fixed else "")
        assert listed[old.get(name, name)] == words, name


def test_rings_moderation_pause_and_messages(host: Host) -> None:
    said = run(
        host,
        """
        ethtool -G eth0 rx 512 tx 256 && ethtool -g eth0 | grep '^[RT]X:'
        ethtool -C eth0 rx-usecs 50 && ethtool -c eth0 | grep ^rx-usecs:
        ethtool -A eth0 autoneg off rx off tx off && ethtool -a eth0 | grep '^[RT]X:'
        ethtool -s eth0 wol g msglvl hw on && ethtool eth0 | grep -A1 'message level\\|Wake-on: '
        ethtool -K eth0 tso off && ethtool -k eth0 | grep ^tcp-seg
        """,
    )
    ring = ethtool_get_ringparam(host.dev("eth0"))
    assert (ring.rx_pending, ring.tx_pending) == (512, 256)
    for line in (
        *("RX:\t\t4096", "RX:\t\t512", "TX:\t\t256", "rx-usecs: 50", "RX:\t\toff", "TX:\t\toff"),
        *("(8199)", "drv probe link hw", "Wake-on: g", "tcp-segmentation-offload: off"),
    ):
        assert line in said, said


def test_speed_of_the_link(host: Host) -> None:
    said = run(host, "ethtool -s eth0 speed 100 duplex full; ethtool eth0")
    assert "Advertised link modes:  100baseT/Full\n" in said
    assert "Port: Twisted Pair\n" in said


def test_wrong_values_are_named(host: Host) -> None:
    said = run(
        host,
        "ethtool -G eth0 rx 99999; ethtool -C eth0 tx-usecs 3; ethtool --set-eee eth0 eee on; "
        "ethtool -L eth0 rx 2; ethtool -s eth0 wol a",
    )
    for line in (
        "requested ring size exceeds maximum",
        "cannot modify an unsupported parameter",
        "cannot enable unsupported WoL mode",
    ):
        assert line in said, said


def test_dumps_by_ioctl(host: Host) -> None:
    said = run(host, "ethtool -d eth0; ethtool -e eth0 offset 0 length 6 raw on | wc -c")
    assert "0x00000: CTRL (Device control register)" in said
    assert said.endswith("\n6\n")


def test_a_monitor_hears_what_changes(host: Host, tmp_path: Path) -> None:
    wait = "until grep -q '%s' heard; do sleep 0.1; done; "
    said = run(
        host,
        f"cd {tmp_path}; stdbuf -oL ethtool --monitor eth0 >heard & M=$!; {wait % 'listening'}"
        f"ethtool -K eth0 gro off; ethtool -G eth0 rx 256; ethtool -s eth0 wol d; "
        f"{wait % 'Wake-on: d'}kill $M; cat heard",
    )
    assert "Ring parameters for eth0" in said
    assert "generic-receive-offload: off" in said
    assert "Wake-on: d" in said
