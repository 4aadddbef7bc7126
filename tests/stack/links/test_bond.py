"""Bonds without LACP: failover, who is active, addresses, hashes, counters, what Linux refuses.

Expected values are those of Linux's Documentation/networking/bonding.rst, worked out here anew.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from fastpath.base.skbuff import kfree_skb, skb_from_bytes
from stack.api.links import ip_link
from stack.bonding.bond_options import bond_opt_set
from stack.bonding.bond_xmit import bond_xmit_hash
from stack.bonding.bonding import BOND_LINK_UP
from stack.core.dev import dev_get_stats, dev_set_mac_address, dev_set_mtu
from stack.core.netdevice import NETIF_F_TSO, netif_carrier_ok
from stack.core.uapi import IP_ADD_MEMBERSHIP
from stack.host import Host
from stack.socket import (
    AF_INET,
    IPPROTO_IP,
    SOCK_DGRAM,
    create_connection,
    create_server,
)
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.bonds import IP, SECOND, Cabled, active, heard, port_mac, slave_of
from tests.stack.links.switch import refused
from tests.support import examples


@pytest.fixture
def two() -> Iterator[Cabled]:
    made = Cabled(2)
    yield made
    assert_no_leak(*made.hosts)


def blast(net: Cabled, count: int = 1, size: int = 100, ports: tuple[int, ...] = (9,)) -> None:
    """Datagrams from a to b."""
    with net.a.socket(AF_INET, SOCK_DGRAM) as sock:
        for i in range(count):
            sock.sendto(bytes(size), (IP[1], ports[i % len(ports)]))
        net.run_for(0.01)


# --- active-backup --------------------------------------------------------------------------------


def test_a_failover_loses_no_connection(two: Cabled) -> None:
    bonds = two.both("active-backup", miimon=100)
    two.run_for(1)
    assert [active(bond) for bond in bonds] == ["eth0", "eth0"]
    listener = create_server(two.b, (IP[1], 80))
    client = create_connection(two.a, (IP[1], 80))
    server, _ = listener.accept()
    data = bytes(range(256)) * 20_000
    client.setblocking(False)
    got, sent, cut = bytearray(), 0, False
    while len(got) < len(data):
        with suppress(BlockingIOError):
            sent += client.send(data[sent : sent + 100_000])
        got += server.recv(1 << 20)
        if not cut and len(got) > len(data) // 2:
            cut = True
            two.plug(0, False)
    assert got == data
    assert [active(bond) for bond in bonds] == ["eth1", "eth1"]
    assert slave_of(bonds[0], "eth0").link_failure_count == 1
    for sock in (client, server, listener):
        sock.close()


def test_a_failover_is_announced_num_grat_arp_times(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", miimon=100, num_grat_arp=3, peer_notif_delay=200)
    two.run_for(5)
    sock = two.watch(0, "eth1")
    two.plug(0, False)
    begin = two.clock.now_ns()
    seen = []
    for _ in range(20):
        two.run_for(0.1)
        seen += [(two.clock.now_ns() - begin) // 100_000_000] * len(heard(sock))
    assert active(bond) == "eth1"
    # With the failover, and twice more 200 ms apart.
    assert len(seen) == 3
    assert [later - earlier for earlier, later in pairwise(seen)] == [2, 2]
    sock.close()


def test_gratuitous_arp_and_unsolicited_advertisement_come_from_the_new_slave() -> None:
    net = Cabled(2, **{"net.ipv6.conf.default.accept_dad": 0})
    net.bond(0, "active-backup", miimon=100)
    net.a.ifconfig("bond0", "fd00::1/64")
    net.run_for(5)
    net.b.ifconfig("eth1", up=True)
    sock = net.watch(1, "eth1")
    net.plug(0, False)
    net.run_for(1)
    frames = heard(sock)
    arps = [f for f in frames if f[12:14] == b"\x08\x06"]
    assert len(arps) == 1
    assert arps[0][:12] == b"\xff" * 6 + port_mac(0, 0)
    assert arps[0][28:32] == arps[0][38:42] == bytes([10, 0, 0, 1])
    advertised = [f for f in frames if f[12:14] == b"\x86\xdd" and f[54] == 136]
    assert advertised
    assert advertised[0][62:78] == b"\xfd" + bytes(14) + b"\x01"
    sock.close()
    assert_no_leak(*net.hosts)


@pytest.mark.parametrize(
    ("reselect", "back"), [("always", "eth0"), ("better", "eth1"), ("failure", "eth1")]
)
def test_primary_reselect(two: Cabled, reselect: str, back: str) -> None:
    bond = two.bond(0, "active-backup", miimon=50, primary="eth0", primary_reselect=reselect)
    two.run_for(1)
    assert active(bond) == "eth0"
    two.plug(0, False, 1)
    assert active(bond) == "eth1"
    two.plug(0, True, 1)
    assert active(bond) == back
    two.plug(1, False, 1)
    assert active(bond) == "eth0"


def test_delays_count_whole_ticks(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", miimon=100, updelay=300, downdelay=250)
    assert (bond.params.updelay, bond.params.downdelay) == (3, 2)
    two.run_for(2)
    first = slave_of(bond, "eth0")
    two.plug(0, False, 0.299)
    assert active(bond) == "eth0"
    two.run_for(0.101)
    assert active(bond) == "eth1"
    two.plug(0, True, 0.2)
    two.plug(0, False, 1)  # a flap within updelay
    two.plug(0, True, 0.301)
    assert first.link != 0
    two.run_for(0.2)
    assert first.link == 0
    assert first.link_failure_count == 1


def test_a_new_miimon_keeps_the_ticks_of_the_delays(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", miimon=100, updelay=300, downdelay=200)
    two.run_for(2)
    with two.a.lock:
        bond_opt_set(bond, "miimon", 50)
    assert (bond.params.updelay, bond.params.downdelay) == (3, 2)
    two.plug(0, False)
    with two.a.lock:
        bond_opt_set(bond, "miimon", 0)  # and nobody looks any more
    two.run_for(1)
    assert slave_of(bond, "eth0").link == BOND_LINK_UP


def test_updelay_is_not_waited_for_without_an_active_slave(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", miimon=100, updelay=60_000)
    for cable in (0, 1):
        two.plug(cable, False, 1)
    assert active(bond) is None
    assert not netif_carrier_ok(bond.dev)
    two.plug(1, True, 0.2)
    assert active(bond) == "eth1"
    assert netif_carrier_ok(bond.dev)


def test_without_miimon_nobody_looks(two: Cabled) -> None:
    bond = two.bond(0, "active-backup")
    two.plug(0, False, 10)
    assert active(bond) == "eth0"


@pytest.mark.parametrize("policy", ["none", "active", "follow"])
def test_fail_over_mac(two: Cabled, policy: str) -> None:
    bond = two.bond(0, "active-backup", miimon=100, fail_over_mac=policy)
    macs = [port_mac(0, 0), port_mac(0, 1)]
    slaves = [one.dev for one in bond.slave_list]
    assert bond.dev.dev_addr == macs[0]
    two.run_for(1)
    two.plug(0, False, 1)
    found = [bond.dev.dev_addr, *(dev.dev_addr for dev in slaves)]
    expected = {
        "none": [macs[0], macs[0], macs[0]],
        "active": [macs[1], macs[0], macs[1]],
        "follow": [macs[0], macs[1], macs[0]],
    }
    assert found == expected[policy]


def test_only_the_active_slave_receives(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", miimon=100)
    two.b.ifconfig("eth1", f"{IP[1]}/24", up=True)  # wired to the backup slave
    two.b.ifconfig("eth0", up=True)
    with two.b.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for _ in range(3):
            sock.sendto(b"x", (IP[0], 9))
            two.run_for(1)
    assert two.b.arp_tbl is not None
    assert slave_of(bond, "eth1").dev.stats.rx_packets > 0
    assert not bond.dev.net.arp_tbl.hash, "nothing of it was taken for the bond"


# --- the modes that spread ------------------------------------------------------------------------


def sent(bond) -> list[int]:
    return [one.dev.stats.tx_packets for one in bond.slave_list]


def test_round_robin_takes_turns_and_leaves_out_the_dead() -> None:
    net = Cabled(3)
    bond, _ = net.both("balance-rr", miimon=100)
    net.run_for(1)
    blast(net)  # resolves the neighbour
    before = sent(bond)
    blast(net, 30)
    assert [now - then for now, then in zip(sent(bond), before, strict=True)] == [10, 10, 10]
    net.plug(1, False)
    net.run_for(1)
    before = sent(bond)
    blast(net, 30)
    new = [now - then for now, then in zip(sent(bond), before, strict=True)]
    assert new[1] == 0
    assert sum(new) == 30
    assert_no_leak(*net.hosts)


def test_igmp_of_round_robin_leaves_by_a_slave_that_is_up(two: Cabled) -> None:
    bond = two.bond(0, "balance-rr", miimon=100)
    two.run_for(1)
    two.plug(0, False, 1)
    assert active(bond) == "eth1"
    watch = two.watch(0, "eth1")
    with two.a.socket(AF_INET, SOCK_DGRAM) as member:
        member.setsockopt(IPPROTO_IP, IP_ADD_MEMBERSHIP, bytes((239, 1, 1, 1, 10, 0, 0, 1)))
        two.run_for(1)
    assert any(f[12:14] == b"\x08\0" and f[23] == 2 for f in heard(watch))
    watch.close()
    two.plug(1, False, 1)
    assert active(bond) is None
    two.plug(0, True, 1)
    assert active(bond) == "eth0"
    two.plug(1, True, 1)
    two.a.set_master("eth0", None)
    assert active(bond) == "eth1"


def test_round_robin_sends_packets_per_slave(two: Cabled) -> None:
    bond, _ = two.both("balance-rr", packets_per_slave=4)
    two.run_for(1)
    blast(two)
    bond.rr_tx_counter = 0
    before = sent(bond)
    blast(two, 4)
    assert [now - then for now, then in zip(sent(bond), before, strict=True)] == [4, 0]
    blast(two, 4)
    assert [now - then for now, then in zip(sent(bond), before, strict=True)] == [4, 4]


def test_broadcast_sends_on_all(two: Cabled) -> None:
    bond, _ = two.both("broadcast", miimon=100)
    two.run_for(1)
    blast(two)
    before = sent(bond)
    blast(two, 5)
    assert [now - then for now, then in zip(sent(bond), before, strict=True)] == [5, 5]


def test_xor_keeps_a_flow_on_one_slave_and_spreads_flows(two: Cabled) -> None:
    bond, _ = two.both("balance-xor", miimon=100, xmit_hash_policy="layer3+4")
    two.run_for(1)
    blast(two)
    before = sent(bond)
    blast(two, 20, ports=(7,))
    new = [now - then for now, then in zip(sent(bond), before, strict=True)]
    assert sorted(new) == [0, 20]
    before = sent(bond)
    blast(two, 64, ports=tuple(range(1000, 1064)))
    assert all(now - then > 8 for now, then in zip(sent(bond), before, strict=True))
    two.plug(0, False, 1)
    before = sent(bond)
    blast(two, 64, ports=tuple(range(1000, 1064)))
    assert [now - then for now, then in zip(sent(bond), before, strict=True)] == [0, 64]


def documented_hash(policy: str, frame: bytes) -> int:
    """The formulas of bonding.rst, with numbers as a little-endian machine reads them."""
    from scapy.layers.inet import IP as IPv4
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    packet = Ether(frame)
    layer2 = frame[5] ^ frame[11] ^ packet.type
    layer3 = packet.getlayer(IPv4) or packet.getlayer(IPv6)
    if policy == "encap2+3" and layer3 is not None:
        while layer3.payload.getlayer(IPv4) or layer3.payload.getlayer(IPv6):
            layer3 = layer3.payload.getlayer(IPv4) or layer3.payload.getlayer(IPv6)
    if policy == "layer2" or layer3 is None:
        return layer2
    raw = bytes(layer3)
    ends = raw[12:20] if layer3.version == 4 else raw[8:40]
    value = layer2
    if policy == "layer3+4":
        at = 20 if layer3.version == 4 else 40
        fragment = layer3.version == 4 and (layer3.flags.MF or layer3.frag)
        proto = layer3.proto if layer3.version == 4 else layer3.nh
        with_ports = proto in (6, 17) and not fragment
        value = int.from_bytes(raw[at : at + 4], "little") if with_ports else 0
    for at in range(0, len(ends), 4):
        value ^= int.from_bytes(ends[at : at + 4], "little")
    value ^= value >> 16
    value ^= value >> 8
    return value >> 1 if policy == "layer3+4" else value


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    from scapy.layers.inet import IP as IPv4
    from scapy.layers.inet import TCP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import ARP, GRE, Ether

    def address4() -> str:
        return ".".join(str(draw(st.integers(0, 255))) for _ in range(4))

    def address6() -> str:
        return ":".join(f"{draw(st.integers(0, 65535)):x}" for _ in range(8))

    def network():
        if draw(st.booleans()):
            return IPv6(src=address6(), dst=address6())
        return IPv4(src=address4(), dst=address4(), flags=draw(st.sampled_from(["", "DF", "MF"])))

    macs = [draw(st.binary(min_size=6, max_size=6)).hex(":") for _ in range(2)]
    ether = Ether(dst=macs[0], src=macs[1])
    kind = draw(st.sampled_from(["arp", "udp", "tcp", "ipip", "gre"]))
    ports = {"sport": draw(st.integers(0, 65535)), "dport": draw(st.integers(0, 65535))}
    if kind == "arp":
        return bytes(ether / ARP(psrc=address4(), pdst=address4()))
    upper = (TCP if kind == "tcp" else UDP)(**ports)
    if kind == "ipip":
        outer = IPv4(src=address4(), dst=address4())
        return bytes(ether / outer / network() / upper)
    if kind == "gre":
        outer = IPv4(src=address4(), dst=address4())
        return bytes(ether / outer / GRE() / network() / upper)
    return bytes(ether / network() / upper)


@pytest.fixture(scope="module")
def hashing() -> Iterator[Cabled]:
    made = Cabled(1)
    made.bond(0, "balance-xor")
    yield made
    made.close()


@settings(max_examples=examples(150), deadline=None)
@given(frame=frames(), policy=st.sampled_from(["layer2", "layer2+3", "layer3+4", "encap2+3"]))
def test_hashes_are_the_documented_formulas(hashing: Cabled, frame: bytes, policy: str) -> None:
    words = ("layer2", "layer3+4", "layer2+3", "encap2+3")
    host = hashing.a
    bond = host.dev_by_name["bond0"].priv
    bond.params.xmit_policy = words.index(policy)
    skb = skb_from_bytes(host.skb_small, frame, 64)
    skb.dev = bond.dev
    skb.protocol = int.from_bytes(frame[12:14], "big")
    assert bond_xmit_hash(bond, skb) == documented_hash(policy, frame)
    kfree_skb(skb)


# --- what slaves and bond have of each other ------------------------------------------------------


def test_the_first_slave_gives_its_address_and_all_get_their_own_back(two: Cabled) -> None:
    bond = two.bond(0, "balance-rr")
    devs = [one.dev for one in bond.slave_list]
    assert [dev.dev_addr for dev in (bond.dev, *devs)] == [port_mac(0, 0)] * 3
    assert dev_set_mac_address(bond.dev, b"\2\0\0\0\0\x77") == 0
    assert dev_set_mtu(bond.dev, 1400) == 0
    assert [(dev.dev_addr, dev.mtu) for dev in devs] == [(b"\2\0\0\0\0\x77", 1400)] * 2
    two.a.set_master("eth0", None)
    assert (devs[0].dev_addr, devs[0].mtu) == (port_mac(0, 0), 1500)
    assert not devs[0].flags & 0x801, "neither up nor a slave"
    assert bond.dev.dev_addr == b"\2\0\0\0\0\x77"
    two.a.set_master("eth1", None)
    assert bond.dev.dev_addr not in (port_mac(0, 0), port_mac(0, 1), b"\2\0\0\0\0\x77")
    assert not netif_carrier_ok(bond.dev)


def test_a_device_that_cannot_be_enslaved_leaves_no_address(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", [])
    small = two.a.dev_by_name["eth0"]
    small.max_mtu = 1500
    dev_set_mtu(bond.dev, 2000)
    with refused(errno.EINVAL):
        two.a.set_master("eth0", "bond0")
    assert bond.dev.dev_addr != port_mac(0, 0)
    two.a.set_master("eth1", "bond0")
    assert bond.dev.dev_addr == port_mac(0, 1)


def test_counters_are_summed_and_stay_when_a_slave_goes(two: Cabled) -> None:
    bond, _ = two.both("balance-rr")
    blast(two, 10)
    told = dev_get_stats(bond.dev)
    assert told.tx_packets == sum(one.dev.stats.tx_packets for one in bond.slave_list) > 10
    assert told.rx_packets == sum(one.dev.stats.rx_packets for one in bond.slave_list) > 0
    before = told.tx_packets
    two.a.set_master("eth0", None)
    assert dev_get_stats(bond.dev).tx_packets == before
    two.a.set_master("eth0", "bond0")
    assert dev_get_stats(bond.dev).tx_packets >= before


def test_without_a_slave_frames_are_dropped_and_counted(two: Cabled) -> None:
    bond = two.bond(0, "active-backup", [])
    with two.a.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setblocking(False)
        with suppress(OSError):
            sock.sendto(b"x", (IP[1], 9))
    two.run_for(1)
    assert dev_get_stats(bond.dev).tx_packets == 0


def test_offloads_are_those_of_the_slaves() -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host:
        bond = host.add_bond("bond0")
        assert bond.features & NETIF_F_TSO
        host.add_veth("v0", "v1")
        host.set_master("v0", "bond0")
        assert bond.features & NETIF_F_TSO
        assert bond.gso_max_size == host.dev_by_name["v0"].gso_max_size


def test_a_slave_gets_no_ipv6_address() -> None:
    with Host("h", clock=VirtualClock(), drivers=False) as host:
        host.add_veth("v0", "v1")
        host.add_bond("bond0", ["v0"], up=True)
        host.ifconfig("v1", up=True)
        host.clock.run_for(10 * SECOND)
        assert not host.dev_by_name["v0"].ip6_ptr.addr_list
        assert host.dev_by_name["bond0"].ip6_ptr.addr_list
        assert host.dev_by_name["v1"].ip6_ptr.addr_list


def test_a_vlan_on_a_bond_and_a_bond_in_a_bridge(two: Cabled) -> None:
    two.both("active-backup", miimon=100)
    for host, last in ((two.a, 1), (two.b, 2)):
        host.add_vlan("bond0.7", "bond0", 7, up=True)
        host.ifconfig("bond0.7", f"10.7.0.{last}/24")
    host = two.b
    with two.a.socket(AF_INET, SOCK_DGRAM) as sock, host.socket(AF_INET, SOCK_DGRAM) as peer:
        peer.bind(("10.7.0.2", 9))
        for cut in (0, 1):
            sock.sendto(b"tagged", ("10.7.0.2", 9))
            assert peer.recv(100) == b"tagged"
            two.plug(cut, False, 1)
            two.plug(cut, True, 1)
    two.a.add_bridge("br0", ["bond0"], up=True)
    assert two.a.dev_by_name["bond0"].master is two.a.dev_by_name["br0"]


def test_a_bond_ends_with_its_slaves_free(two: Cabled) -> None:
    two.bond(0, "active-backup", miimon=100)
    told = ip_link(two.a)
    assert "bond mode active-backup miimon 100" in told
    assert told.count("bond_slave state ACTIVE mii_status UP") == 1
    assert told.count("bond_slave state BACKUP mii_status UP") == 1
    two.a.del_link("bond0")
    assert two.a.dev_by_name["eth0"].master is None
    assert "SLAVE" not in ip_link(two.a)
    two.bond(0, "active-backup", miimon=100)  # and again
    two.run_for(1)


def test_what_is_refused(two: Cabled) -> None:
    host = two.a
    host.add_bond("bond0", mode="active-backup")
    host.ifconfig("eth0", up=True)
    with refused(errno.EPERM):
        host.set_master("eth0", "bond0")
    with refused(errno.EPERM):
        host.set_master("bond0", "bond0")
    host.add_tunnel("t0", "gre", remote="10.9.0.2", local="10.9.0.1")
    with refused(errno.EINVAL):
        host.set_master("t0", "bond0")
    host.set_master("eth1", "bond0")
    host.add_bridge("br0")
    for master in ("bond0", "br0", "bond0"):  # it moves
        host.set_master("eth1", master)
        assert host.dev("eth1").master is host.dev(master)
    for wrong, number in (
        ({"mode": "balance-tlb"}, errno.EOPNOTSUPP),
        ({"mode": "balance-rr", "lacp_rate": "fast"}, errno.EACCES),
        ({"mode": "active-backup", "updelay": 100}, errno.EPERM),
        ({"mode": "802.3ad", "ad_actor_sys_prio": 0}, errno.EINVAL),
        ({"num_grat_arp": 256}, errno.EINVAL),
        ({"arp_interval": 100}, errno.EOPNOTSUPP),
        ({"mode": "802.3ad", "coupled_control": 0}, errno.EOPNOTSUPP),
    ):
        with refused(number):
            host.add_bond("bond1", **wrong)
        assert "bond1" not in host.dev_by_name
    with pytest.raises(ValueError, match="no option"):
        host.add_bond("bond1", nothing=1)
