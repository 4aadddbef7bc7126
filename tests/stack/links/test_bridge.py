"""The bridge: learning, ageing, flooding against a plain model; ports, addresses, its device."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.api.links import bridge_fdb, bridge_link, ip_link
from stack.bridge.br_fdb import br_fdb_external_learn_add, has_expired
from stack.bridge.br_private import BR_STATE_DISABLED, BR_STATE_FORWARDING, br_port_get
from stack.core.dev import dev_close, dev_open, dev_set_mac_address, dev_set_mtu
from stack.core.drop_reason import drop_names
from stack.core.ethtool import ethtool_get_drvinfo
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import (
    IFF_ALLMULTI,
    IFF_PROMISC,
    NETIF_F_HW_VLAN_CTAG_TX,
    NETIF_F_TSO,
    dev_get_flags,
    netif_carrier_ok,
)
from stack.host import Host
from stack.socket import AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW
from tests.stack.core.wire import QUIET6, assert_no_leak, heard
from tests.stack.links.switch import (
    BROADCAST,
    SECOND,
    Switch,
    frame,
    port_address,
    refused,
    sent_by,
    station,
)
from tests.support import examples

GROUP = b"\x01\x80\xc2\x00\x00"


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch(3)
    yield made
    assert_no_leak(made.host)


# --- against a plain model ----------------------------------------------------------------------

AGEING = 10.05  # seconds; times below are multiples of 0.2: nothing ages just when a frame comes
ADDRESSES = [
    *(station(i) for i in range(4)),
    port_address(0),
    port_address(1),
    BROADCAST,
    b"\x33\x33\x00\x00\x00\x01",
    b"\x01\x00\x5e\x00\x00\xfb",
    *(GROUP + bytes([i]) for i in (0, 1, 2, 0x0E, 0x10)),
    bytes(6),
]
TAGS = [b"", b"\x81\x00\x20\x05", b"\x88\xa8\x00\x07\x81\x00\x00\x08", b"\x81\x00\x00\x00"]
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(ADDRESSES),
        st.sampled_from(ADDRESSES),
        st.sampled_from(TAGS),
        st.sampled_from([0, 0, 0.2, 3.0, 9.0, 11.0]),
    ),
    max_size=30,
)


class Model:
    """What IEEE 802.1D 7.7 to 7.9 says, without a word of the code."""

    def __init__(self, ports: int) -> None:
        self.ports = range(ports)
        self.own = {port_address(i) for i in self.ports}
        self.seen: dict[bytes, tuple[int, float]] = {}

    def learned(self, now: float) -> dict[bytes, int]:
        return {a: port for a, (port, at) in self.seen.items() if at + AGEING > now}

    def send(self, now: float, port: int, dst: bytes, src: bytes) -> list[int]:
        if src[0] & 1 or not any(src):
            return []
        local = dst[:5] == GROUP and 0 < dst[5] < 16
        if local and dst[5] == 1:
            return []
        if src not in self.own:
            self.seen[src] = port, now
        others = [other for other in self.ports if other != port]
        if local or dst in self.own:
            return []
        if dst[0] & 1:
            return others
        known = self.learned(now).get(dst)
        return others if known is None else [known] if known != port else []


@settings(max_examples=examples(60), deadline=None)
@given(ports=st.integers(1, 5), events=EVENTS)
def test_frames_go_where_a_plain_model_says(ports, events):
    switch = Switch(ports, ageing_time=AGEING)
    model = Model(ports)
    now = 0.0
    for port, dst, src, tag, wait in events:
        switch.run_for(wait)
        now += wait
        port %= ports
        data = dst + src + tag + b"\x88\xb5" + b"y" * 46
        assert switch.send(port, data) == model.send(now, port, dst, src), (dst, src)
        assert switch.learned() == model.learned(now)
    assert_no_leak(switch.host)


# --- one by one -----------------------------------------------------------------------------------


def test_a_station_that_moves_is_found_at_its_new_port(switch):
    assert switch.send(0, frame(BROADCAST, station(1))) == [1, 2]
    assert switch.send(2, frame(station(1), station(2))) == [0]
    switch.send(1, frame(BROADCAST, station(1)))
    assert switch.send(2, frame(station(1), station(2))) == [1]


def test_hairpin_isolation_and_floods_are_switches_of_a_port(switch):
    host = switch.host
    switch.send(0, frame(BROADCAST, station(1)))
    assert switch.send(0, frame(station(1), station(2))) == []
    host.bridge_port("eth0", hairpin=True)
    assert switch.send(0, frame(station(1), station(2))) == [0]
    host.bridge_port("eth0", hairpin=False, isolated=True)
    host.bridge_port("eth1", isolated=True)
    assert switch.send(0, frame(BROADCAST, station(1))) == [2]
    assert switch.send(2, frame(BROADCAST, station(3))) == [0, 1]
    host.bridge_port("eth0", isolated=False)
    host.bridge_port("eth1", isolated=False, flood=False)
    assert switch.send(2, frame(station(9), station(3))) == [0]
    host.bridge_port("eth1", flood=True, mcast_flood=False)
    assert switch.send(2, frame(b"\x01\0\0\0\0\0", station(3))) == [0]
    host.bridge_port("eth1", mcast_flood=True, bcast_flood=False)
    assert switch.send(2, frame(BROADCAST, station(3))) == [0]
    host.bridge_port("eth2", learning=False)
    switch.send(2, frame(BROADCAST, station(7)))
    assert station(7) not in switch.learned()
    with pytest.raises(OSError, match="no flag 'colour'"):
        host.bridge_port("eth1", colour=True)
    with pytest.raises(OSError, match="no port of a bridge"):
        host.bridge_port("lo", learning=True)


def test_states_of_a_port_say_what_it_does(switch):
    host = switch.host
    p = br_port_get(host.dev("eth0"))
    host.bridge_port("eth0", state="learning")
    assert switch.send(0, frame(station(5), station(1))) == []
    assert switch.learned() == {station(1): 0}
    assert switch.send(1, frame(station(1), station(2))) == []
    host.bridge_port("eth0", state="listening")
    assert switch.send(0, frame(station(5), station(4))) == []
    assert station(4) not in switch.learned()
    host.bridge_port("eth0", state="blocking")  # without STP nobody keeps it so
    assert p.state == BR_STATE_FORWARDING
    assert drop_names(host)["SKB_DROP_REASON_BRIDGE_INGRESS_STP_STATE"] == 2
    for bad in (-1, 5):
        with refused(errno.EINVAL):
            host.bridge_port("eth0", state=bad)
    dev_close(host.dev("eth0"))
    assert p.state == BR_STATE_DISABLED
    with refused(errno.ENETDOWN):
        host.bridge_port("eth0", state="forwarding")


def test_what_was_learned_goes_with_the_carrier_of_its_port(switch):
    switch.send(0, frame(BROADCAST, station(1)))
    netif_carrier_off(switch.wires[0].dev)
    switch.run_for(0.001)
    assert switch.learned() == {}
    assert switch.send(1, frame(BROADCAST, station(2))) == [2]
    netif_carrier_on(switch.wires[0].dev)
    switch.run_for(0.001)
    assert switch.send(1, frame(BROADCAST, station(2))) == [0, 2]
    for wire in switch.wires:
        netif_carrier_off(wire.dev)
    switch.run_for(0.001)
    assert not netif_carrier_ok(switch.bridge)


def test_addresses_age_faster_after_a_change_of_topology(switch):
    switch.br.topology_change = True
    switch.send(0, frame(BROADCAST, station(1)))
    switch.run_for(14)
    assert switch.learned() == {station(1): 0}
    switch.run_for(290)  # its collector had planned for the other age
    assert switch.learned() == {}


def test_ageing_time_0_learns_nothing_and_floods_always():
    switch = Switch(3, ageing_time=0)
    switch.send(0, frame(BROADCAST, station(1)))
    assert switch.learned() == {}
    assert switch.send(1, frame(station(1), station(2))) == [0, 2]
    assert_no_leak(switch.host)


def test_entries_that_are_set_stay_and_a_limit_keeps_learned_ones_few():
    switch = Switch(3, fdb_max_learned=2)
    host = switch.host
    host.fdb_add("02:00:00:00:01:09", "eth2")
    host.fdb_add(station(8), "eth1", static=False)  # a program's do not count as learned
    assert switch.send(0, frame(station(9), station(1))) == [2]
    switch.send(0, frame(BROADCAST, station(2)))
    switch.send(0, frame(BROADCAST, station(3)))
    assert switch.learned() == {station(9): 2, station(8): 1, station(1): 0, station(2): 0}
    switch.run_for(301)
    assert switch.learned() == {station(9): 2}
    switch.send(1, frame(BROADCAST, station(9)))  # a static one that roams, and stays static
    switch.run_for(301)
    assert switch.learned() == {station(9): 1}
    for each in (1, 2, 3):
        switch.send(1, frame(BROADCAST, station(each)))
    assert switch.learned() == {station(9): 1, station(1): 1, station(2): 1}
    host.fdb_add(station(1), "eth1", static=False)  # a program takes one over
    switch.send(1, frame(BROADCAST, station(3)))
    assert station(3) in switch.learned()
    host.fdb_flush("br0")
    assert switch.learned() == {station(9): 1}
    for wrong in ("00:00:00:00:00:00", "xy"):
        with refused(errno.EINVAL):
            host.fdb_add(wrong, "eth1")
    with refused(errno.ENOENT):
        host.fdb_del(station(1), "eth1")
    assert_no_leak(host)


def test_what_a_program_has_learned_stays_until_a_frame_shows_it_elsewhere(switch):
    br, port = switch.br, switch.br.port_list[-1]
    br_fdb_external_learn_add(br, port, station(9))
    switch.run_for(301)
    assert switch.learned() == {station(9): 0}
    assert not has_expired(br, br.fdb_hash[station(9)])
    switch.send(1, frame(BROADCAST, station(9)))
    assert switch.learned() == {station(9): 1}
    switch.run_for(301)
    assert switch.learned() == {}
    assert br.fdb_n_learned == 0


def test_group_addresses_stay_on_their_segment_and_reach_the_port_itself():
    switch = Switch(2, inet=True, group_fwd_mask=1 << 14)
    with switch.host.socket(AF_PACKET, SOCK_RAW, 0xCC88) as lldp:  # htons(0x88CC)
        lldp.bind(("eth0", 0x88CC))
        lldp.settimeout(1)
        for last in range(16):
            data = frame(GROUP + bytes([last]), station(1), proto=0x88CC)
            assert switch.send(0, data) == ([1] if last in (0, 14) else []), last
        switch.br.group_fwd_mask = 0
        data = frame(GROUP + b"\x0e", station(1), proto=0x88CC)
        assert switch.send(0, data) == []
        heard = [lldp.recv(100) for _ in range(14)]
    assert [one[5] for one in heard] == [*range(2, 14), 15, 14]
    assert drop_names(switch.host)["SKB_DROP_REASON_MAC_IEEE_MAC_CONTROL"] == 1
    for wrong in (1, 4, 1 << 16):
        with refused(errno.ERANGE):
            switch.host.add_bridge("br1", group_fwd_mask=wrong)
    assert_no_leak(switch.host)


def test_the_hosts_own_address_on_the_bridge():
    switch = Switch(3, inet=True)
    host = switch.host
    host.ifconfig("br0", "10.0.0.1/24")
    host.route_add("224.0.0.0/4", dev="br0")
    assert host.dev("br0").dev_addr == port_address(0)  # the lowest of the ports'
    # Somebody behind eth1 asks for it: ARP is answered there alone.
    who = (
        b"\x00\x01\x08\x00\x06\x04\x00\x01" + station(1) + b"\x0a\0\0\2" + bytes(6) + b"\x0a\0\0\1"
    )
    switch.wires[1].receive(frame(BROADCAST, station(1), who + bytes(18), 0x0806))
    sent = sent_by(switch.wires)
    for frames in sent:  # the bridge joins 224.0.0.106 (RFC 4286)
        assert frames.pop(0)[30:34] == b"\xe0\0\0\x16"
    assert [len(frames) for frames in sent] == [1, 1, 1]  # the question passed on; the answer
    answer = sent[1][0]
    assert answer[:14] == station(1) + port_address(0) + b"\x08\x06"
    assert answer[28:32] == b"\x0a\0\0\1"
    with host.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.sendto(b"to a station", ("10.0.0.2", 9))
        sent = sent_by(switch.wires)
        assert [len(frames) for frames in sent] == [0, 1, 0]
        # To the group of all: out by each port.
        sock.sendto(b"to a group", ("224.0.0.1", 9))
        assert [len(frames) for frames in sent_by(switch.wires)] == [1, 1, 1]
    stats = host.dev("br0").stats
    assert (stats.tx_packets, stats.rx_packets) == (4, 1)
    assert_no_leak(host)


def test_a_promiscuous_bridge_hears_what_it_passes_on():
    switch = Switch(2)
    got = heard(switch.host, 0x88B5, lambda skb: skb.dev.name, switch.bridge)
    switch.send(0, frame(BROADCAST, station(1)))
    switch.send(1, frame(station(1), station(2)))
    assert got == ["br0"]
    switch.host.dev("br0").flags |= IFF_PROMISC
    assert switch.send(1, frame(station(1), station(2))) == [0]
    assert got == ["br0", "br0"]
    assert_no_leak(switch.host)


def test_a_frame_that_no_port_takes_is_dropped_for_that(switch):
    for n in range(3):
        switch.host.bridge_port(f"eth{n}", flood=False)
    assert switch.send(0, frame(station(9), station(1))) == []
    assert drop_names(switch.host) == {"SKB_DROP_REASON_NO_TX_TARGET": 1}
    assert switch.send(1, frame(station(1), station(2))) == [0]
    assert switch.send(0, frame(station(1), station(3))) == []  # it came from there
    assert drop_names(switch.host)["SKB_DROP_REASON_NOT_SPECIFIED"] == 1


def test_frames_that_a_port_cannot_take_are_dropped_there(switch):
    switch.send(0, frame(BROADCAST, station(1)))
    dev_set_mtu(switch.wires[0].dev, 600)
    assert switch.bridge.mtu == 600  # the smallest of the ports'
    assert switch.send(1, frame(station(1), station(2), bytes(604))) == [0]
    assert switch.send(1, frame(station(1), station(2), bytes(605))) == []
    assert switch.wires[0].dev.stats.tx_dropped == 1
    assert drop_names(switch.host)["SKB_DROP_REASON_PKT_TOO_BIG"] == 1
    dev_set_mtu(switch.bridge, 1000)
    dev_set_mtu(switch.wires[0].dev, 700)
    assert switch.bridge.mtu == 1000  # it was set


def test_addresses_of_bridge_and_ports(switch):
    host, br0 = switch.host, switch.bridge
    assert br0.dev_addr == port_address(0)
    assert dev_set_mac_address(switch.wires[2].dev, b"\x02\0\0\0\0\0") == 0
    assert br0.dev_addr == b"\x02\0\0\0\0\0"
    assert host.dev("br0").priv.fdb_hash[b"\x02\0\0\0\0\0"].is_local
    assert port_address(2) not in switch.br.fdb_hash
    assert dev_set_mac_address(br0, b"\x02\0\0\0\0\x77") == 0
    assert dev_set_mac_address(switch.wires[1].dev, b"\x02\0\0\0\0\x01") == 0
    assert br0.dev_addr == b"\x02\0\0\0\0\x77"  # it was set
    # Two ports have one address: the entry outlives the first.
    host.set_master("eth0", None)
    assert switch.br.fdb_hash[port_address(0)].dst.dev.name == "eth1"
    host.set_master("eth1", None)
    assert port_address(0) not in switch.br.fdb_hash
    assert dev_set_mac_address(br0, b"\x01\0\0\0\0\0") == -errno.EADDRNOTAVAIL


def test_who_may_be_a_port(switch):
    host = switch.host
    host.add_bridge("br1")
    host.add_dummy("dummy0")
    blue = host.netns_add("blue")
    host.add_veth("veth0", (blue, "veth1"))

    with refused(errno.EINVAL):
        host.set_master("lo", "br0")
    with refused(errno.ELOOP):
        host.set_master("br1", "br0")
    for bridge in ("br1", "br0", "br0"):  # it moves
        host.set_master("eth0", bridge)
        assert host.dev("eth0").master is host.dev(bridge)
    with refused(errno.EOPNOTSUPP):
        host.set_master("dummy0", "eth0")
    with refused(errno.ENODEV):
        host.set_master("none", "br0")
    with refused(errno.ENODEV):
        host.set_master("dummy0", "none")
    host.add_vlan("br0.5", "br0", 5)
    with refused(errno.ELOOP):  # it would stand on itself
        host.set_master("br0.5", "br0")
    host.set_master("br0.5", "br1")
    host.set_master("dummy0", "br1")
    host.set_master("dummy0", None)
    host.set_master("dummy0", None)
    with pytest.raises(OSError, match="no interface 'eth9'"):
        host.add_bridge("br9", ["eth9"])
    with refused(errno.EBUSY):
        host.add_bridge("br9", ["dummy0", "eth0"])
    assert "br9" not in host.dev_by_name
    assert host.dev("dummy0").master is None
    with refused(errno.EEXIST):
        host.add_bridge("br0")


def test_a_port_is_promiscuous_while_it_is_one_and_leaves_with_its_namespace(switch):
    host = switch.host
    dev = host.dev("eth0")
    assert dev.flags & (IFF_PROMISC | IFF_ALLMULTI) == IFF_PROMISC | IFF_ALLMULTI
    assert not dev_get_flags(dev) & (IFF_PROMISC | IFF_ALLMULTI)  # what the user has set
    blue = host.netns_add("blue")
    host.set_netns("eth0", blue)
    assert dev.master is None
    assert dev.rx_handler is None
    assert not dev_get_flags(dev) & (IFF_PROMISC | IFF_ALLMULTI)
    assert [p.dev.name for p in switch.br.port_list] == ["eth2", "eth1"]
    with refused(errno.EINVAL):
        host.set_netns("br0", blue)


def test_a_bridge_that_is_down_takes_nothing_and_up_again_learns_anew(switch):
    switch.send(0, frame(BROADCAST, station(1)))
    dev_close(switch.bridge)
    assert switch.send(0, frame(BROADCAST, station(1))) == []
    assert switch.learned() == {}
    dev_open(switch.bridge)
    assert switch.send(0, frame(BROADCAST, station(1))) == [1, 2]


def test_the_listings(switch):
    host = switch.host
    switch.send(0, frame(BROADCAST, station(1)))
    host.fdb_add(station(2), "eth1")
    switch.run_for(2)
    assert bridge_fdb(host).splitlines() == [
        "02:00:00:00:00:01 dev eth0 master br0 permanent",
        "02:00:00:00:00:02 dev eth1 master br0 permanent",
        "02:00:00:00:00:03 dev eth2 master br0 permanent",
        "02:00:00:00:01:01 dev eth0 master br0",
        "02:00:00:00:01:02 dev eth1 master br0 static",
    ]
    assert "02:00:00:00:01:01 dev eth0 used 2/2 master br0\n" in bridge_fdb(
        host, "br0", statistics=True
    )
    assert bridge_fdb(host, "br7") == ""
    ends = [line.split(" state ")[1] for line in bridge_link(host).splitlines()]
    assert ends == ["forwarding priority 32 cost 100"] * 3
    shown = ip_link(host)
    assert "eth1: <UP,BROADCAST,RUNNING,MULTICAST" in shown
    assert "qdisc pfifo_fast master br0 state UP" in shown
    assert (
        "bridge forward_delay 1500 hello_time 200 max_age 2000 ageing_time 30000 stp_state 0 "
        "priority 32768 bridge_id 8000.2:0:0:0:0:1 designated_root 8000.2:0:0:0:0:1 root_port 0 "
        "root_path_cost 0 topology_change 0 group_fwd_mask 0x0\n" in shown
    )
    assert ethtool_get_drvinfo(host.dev("br0")).driver == "bridge"
    assert host.dev("br0").features & NETIF_F_HW_VLAN_CTAG_TX


def test_a_bridge_has_what_one_port_has_and_segments_for_the_others(switch):
    host = switch.host
    assert not switch.bridge.features & NETIF_F_TSO  # the wires have no offloads at all
    host.add_veth("veth0", "veth1", up=True)
    host.set_master("veth0", "br0")
    assert switch.bridge.features & NETIF_F_TSO
    assert switch.bridge.gso_max_size == min(wire.dev.gso_max_size for wire in switch.wires)
    host.del_link("veth1")
    assert not switch.bridge.features & NETIF_F_TSO


def test_times_and_numbers_are_checked():
    switch = Switch(1)
    with refused(errno.ERANGE):
        switch.host.add_bridge("br1", ageing_time=-1)
    with pytest.raises(ValueError, match="1 to 15 characters"):
        switch.host.add_bridge("a-bridge-with-a-long-name")
    with refused(errno.EADDRNOTAVAIL):
        switch.host.add_bridge("br1", mac=b"\x01\0\0\0\0\0")
    for addr in ("02:00", b"\x02", "no"):
        with refused(errno.EINVAL):
            switch.host.fdb_add(addr, "eth0")
    assert switch.clock.now_ns() < SECOND
    assert_no_leak(switch.host)


def test_a_loop_of_bridges_is_a_storm_that_ends_with_the_loop():
    """Nobody looks for loops, as in Linux without STP; the clock goes on, and so does the host."""
    host = Host("host", clock=VirtualClock(), drivers=False, sysctl=QUIET6)
    host.add_bridge("br0", up=True)
    host.add_bridge("br1", up=True)
    for i in range(2):
        host.add_veth(f"a{i}", f"b{i}", up=True)
        host.set_master(f"a{i}", "br0")
        host.set_master(f"b{i}", "br1")
    host.ifconfig("br0", "10.0.0.1/24")
    host.clock.run_for(1000)
    with host.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setsockopt(1, 6, 1)  # SO_BROADCAST
        sock.sendto(b"round and round", ("10.0.0.255", 9))
    host.clock.run_for(10_000)
    sent = host.dev("a0").stats.tx_packets
    assert sent > 500
    host.del_link("a1")
    host.clock.run_for(SECOND)
    before = host.dev("a0").stats.tx_packets
    host.clock.run_for(SECOND)
    assert host.dev("a0").stats.tx_packets == before
    assert_no_leak(host)
