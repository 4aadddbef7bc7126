"""802.3ad: two hosts aggregate; the receive machine as the standard's; frames by scapy, tshark.

Figures are IEEE 802.1AX-2008's: the states of 5.4.12 to 5.4.15, the times of 5.4.4, the frames of
5.4.2 and 5.5.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stack.api.links import ip_link
from stack.bonding import bond_3ad
from stack.bonding.bond_3ad import (
    LACP_STATE_AGGREGATION,
    LACP_STATE_DEFAULTED,
    LACP_STATE_EXPIRED,
    LACP_STATE_LACP_ACTIVITY,
    LACP_STATE_LACP_TIMEOUT,
    LACP_STATE_SYNCHRONIZATION,
    MUX_COLLECTING_DISTRIBUTING,
    ad_rx_machine,
    lacpdu,
    lacpdu_parse,
    port,
    port_params,
)
from stack.bonding.bonding import bonding
from stack.core.netdevice import netif_carrier_ok
from stack.socket import AF_INET, SOCK_DGRAM
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.bonds import IP, Cabled, heard, port_mac, slave_of
from tests.support import examples, require

SLOW = b"\x88\x09"
GROUP = b"\x01\x80\xc2\x00\x00\x02"
ALL_IN_USE = 0x3D  # active, long timeout, aggregating, in step, collecting, distributing


@pytest.fixture
def two() -> Iterator[Cabled]:
    made = Cabled(2)
    yield made
    assert_no_leak(*made.hosts)


def usable(bond: bonding) -> list[str]:
    return [one.dev.name for one in bond.usable_slaves]


def port_of(bond: bonding, name: str) -> port:
    info = slave_of(bond, name).ad
    assert info is not None
    return info.port


def lacpdus(frames: list[bytes]) -> list[bytes]:
    return [frame for frame in frames if frame[12:14] == SLOW]


# --- two hosts ------------------------------------------------------------------------------------


def test_two_hosts_aggregate_and_traffic_is_spread(two: Cabled) -> None:
    bonds = two.both("802.3ad", xmit_hash_policy="layer3+4")
    assert [bond.params.miimon for bond in bonds] == [100, 100]
    two.run_for(10)
    for i, bond in enumerate(bonds):
        assert usable(bond) == ["eth0", "eth1"]
        for name in two.names:
            p = port_of(bond, name)
            assert p.mux_state == MUX_COLLECTING_DISTRIBUTING
            assert p.actor.port_state == p.partner.port_state == ALL_IN_USE
            assert p.partner.system == bonds[1 - i].dev.dev_addr == port_mac(1 - i, 0)
            assert p.actor.key == 7 << 1 | 1, "10 Gb/s, full duplex"
    with two.a.socket(AF_INET, SOCK_DGRAM) as sock, two.b.socket(AF_INET, SOCK_DGRAM) as peer:
        peer.bind((IP[1], 9))
        before = [one.dev.stats.tx_packets for one in bonds[0].slave_list]
        for source in range(5000, 5032):
            with two.a.socket(AF_INET, SOCK_DGRAM) as sock:
                sock.bind((IP[0], source))
                sock.sendto(b"x", (IP[1], 9))
                assert peer.recv(9) == b"x"
        after = [one.dev.stats.tx_packets for one in bonds[0].slave_list]
        assert all(now - then >= 8 for now, then in zip(after, before, strict=True))


def test_a_bond_that_is_opened_has_an_aggregator_at_once(two: Cabled) -> None:
    """bond_open lets the selection wait for one tick only; the first slave, for a second."""
    bond = two.bond(0, "802.3ad")
    two.run_for(0.25)
    assert netif_carrier_ok(bond.dev)


def test_a_link_that_goes_is_left_out_and_taken_back(two: Cabled) -> None:
    bonds = two.both("802.3ad")
    two.run_for(10)
    two.plug(1, False, 0.3)
    assert [usable(bond) for bond in bonds] == [["eth0"], ["eth0"]]
    assert all(netif_carrier_ok(bond.dev) for bond in bonds)
    two.plug(1, True, 10)
    assert [usable(bond) for bond in bonds] == [["eth0", "eth1"]] * 2


def test_a_partner_that_falls_silent_is_out_after_the_short_timeout(two: Cabled) -> None:
    bonds = two.both("802.3ad", lacp_rate="fast")
    two.run_for(10)
    assert usable(bonds[0]) == ["eth0", "eth1"]
    # The cable still has a carrier, but the far end says nothing: CURRENT, EXPIRED, DEFAULTED.
    dev = two.b.dev_by_name["eth1"]
    dev.netdev_ops, kept = type(dev.netdev_ops)(), dev.netdev_ops
    p = port_of(bonds[0], "eth1")
    two.run_for(4)
    assert p.rx_state == bond_3ad.RX_EXPIRED
    assert usable(bonds[0]) == ["eth0"]
    two.run_for(4)
    assert p.rx_state == bond_3ad.RX_DEFAULTED
    dev.netdev_ops = kept
    two.run_for(10)
    assert usable(bonds[0]) == ["eth0", "eth1"]


def test_a_mismatched_partner_is_held_out(two: Cabled) -> None:
    one = two.bond(0, "802.3ad")
    other = two.bond(1, "802.3ad", ["eth0"])
    second = two.b.add_bond("bond1", ["eth1"], mode="802.3ad", up=True).priv
    two.run_for(15)
    assert usable(one) == usable(other) == ["eth0"]
    assert usable(second) == [], "its partner is not in step"
    assert not port_of(one, "eth1").actor.port_state & LACP_STATE_SYNCHRONIZATION
    aggregators = {port_of(one, name).aggregator.aggregator_identifier for name in two.names}
    assert len(aggregators) == 2
    # When the first link goes, the other aggregator is used.
    two.plug(0, False, 10)
    assert usable(one) == usable(second) == ["eth1"]


def test_another_key_is_another_aggregator(two: Cabled) -> None:
    one, other = two.both("802.3ad", ad_user_port_key=5)
    two.run_for(10)
    assert port_of(one, "eth0").actor.key == 5 << 6 | 15
    assert usable(one) == ["eth0", "eth1"]
    with two.b.lock:
        port_of(other, "eth1").actor.key = 99
        port_of(other, "eth1").selected = False
    two.run_for(10)
    assert usable(one) == ["eth0"]


@pytest.mark.parametrize(("select", "expected"), [("stable", "eth0"), ("bandwidth", "eth1")])
def test_ad_select(select: str, expected: str) -> None:
    net = Cabled(3)
    one = net.bond(0, "802.3ad", ad_select=select)
    net.bond(1, "802.3ad", ["eth0"])
    net.b.add_bond("bond1", ["eth1", "eth2"], mode="802.3ad", up=True)
    for cable in (1, 2):
        net.plug(cable, False)
    net.run_for(10)
    assert usable(one) == ["eth0"]
    for cable in (1, 2):
        net.plug(cable, True)
    net.run_for(15)
    assert usable(one)[0] == expected
    assert_no_leak(*net.hosts)


def test_min_links(two: Cabled) -> None:
    bond, _ = two.both("802.3ad", min_links=2)
    two.run_for(10)
    assert netif_carrier_ok(bond.dev)
    two.plug(0, False, 1)
    assert not netif_carrier_ok(bond.dev)
    two.plug(0, True, 10)
    assert netif_carrier_ok(bond.dev)


def test_a_partner_without_lacp_gets_one_link(two: Cabled) -> None:
    bond = two.bond(0, "802.3ad")
    two.b.ifconfig("eth0", f"{IP[1]}/24", up=True)
    two.b.ifconfig("eth1", up=True)
    two.run_for(20)
    assert usable(bond) == ["eth0"]
    with two.a.socket(AF_INET, SOCK_DGRAM) as sock, two.b.socket(AF_INET, SOCK_DGRAM) as peer:
        peer.bind((IP[1], 9))
        sock.sendto(b"x", (IP[1], 9))
        assert peer.recv(9) == b"x"


def test_two_passive_ends_say_nothing_and_one_active_end_suffices(two: Cabled) -> None:
    one, _ = two.both("802.3ad", lacp_active="off")
    two.run_for(5)
    sock = two.watch(0, "eth0")
    two.run_for(60)
    assert lacpdus(heard(sock)) == []
    sock.close()
    two.b.del_link("bond0")
    two.bond(1, "802.3ad")
    two.run_for(15)
    assert usable(one) == ["eth0", "eth1"]


def test_a_released_slave_tells_its_partner_and_the_rest_stays(two: Cabled) -> None:
    one, other = two.both("802.3ad")
    two.run_for(10)
    sock = two.watch(1, "eth0")
    two.a.set_master("eth0", None)  # the one whose aggregator both are in
    assert usable(one) == ["eth1"]
    assert netif_carrier_ok(one.dev)
    two.run_for(0.05)
    last = lacpdu_parse(lacpdus(heard(sock))[-1][14:])
    assert last is not None
    assert not last.actor.port_state & (LACP_STATE_AGGREGATION | LACP_STATE_SYNCHRONIZATION)
    two.run_for(5)
    assert usable(one) == usable(other) == ["eth1"]
    sock.close()


def test_rates(two: Cabled) -> None:
    """The partner's timeout is ours to keep: 1 s for short, 30 s for long (5.4.4)."""
    two.bond(0, "802.3ad", lacp_rate="fast")
    two.bond(1, "802.3ad", lacp_rate="slow")
    two.run_for(20)
    for host, source, low, high in ((0, 0, 3, 5), (1, 1, 110, 130)):
        sock = two.watch(host, "eth0")
        frames = []
        for _ in range(4):
            two.run_for(30)
            frames += heard(sock)
        mine = [f for f in lacpdus(frames) if f[6:12] == port_mac(source, 0)]
        assert low <= len(mine) <= high
        sock.close()


@settings(max_examples=examples(15), deadline=None)
@given(steps=st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.integers(0, 60)), max_size=8))
def test_whatever_was_unplugged_all_that_has_a_link_is_used(steps) -> None:
    net = Cabled(3)
    bonds = net.both("802.3ad", lacp_rate="fast")
    plugged = [True] * 3
    for cable, connected, wait in steps:
        net.plug(cable, connected)
        plugged[cable] = connected
        net.run_for(wait / 10)
        for bond in bonds:
            for one in bond.usable_slaves:
                p = port_of(bond, one.dev.name)
                assert one.link == 0
                assert p.aggregator is not None
                assert p.aggregator.is_active
                assert p.mux_state == MUX_COLLECTING_DISTRIBUTING or not p.partner.port_state & 4
    net.run_for(15)
    expected = [name for name, there in zip(net.names, plugged, strict=True) if there]
    for bond in bonds:
        assert usable(bond) == expected
        assert netif_carrier_ok(bond.dev) == bool(expected)
        ports = [port_of(bond, name) for name in expected]
        assert len({id(p.aggregator) for p in ports}) <= 1
    assert_no_leak(*net.hosts)


# --- the receive machine against the standard's diagram (5.4.12) ----------------------------------


class Receive:
    """Figure 5-10 and its functions in words: a twin that shares nothing with the code."""

    def __init__(self, activity: bool, short: bool) -> None:
        self.state = "PORT_DISABLED"
        self.short = short
        self.left: float = 0
        self.expired = False
        self.defaulted = True
        self.in_step = False
        self.selected = True
        self.known: tuple[int, ...] | None = None

    def port(self, enabled: bool) -> None:
        if not enabled:
            self.state, self.left, self.in_step = "PORT_DISABLED", 0, False
        elif self.state == "PORT_DISABLED":
            self._expire()

    def _expire(self) -> None:
        self.state, self.left, self.expired, self.in_step = "EXPIRED", 30, True, False

    def tick(self) -> None:
        if not self.left:
            return
        self.left -= 1
        if self.left:
            return
        if self.state == "CURRENT":
            self._expire()
        elif self.state == "EXPIRED":
            self.state, self.expired, self.defaulted = "DEFAULTED", False, True
            if self.known is not None:
                self.selected, self.known = False, None
            self.in_step = False

    def hear(self, who: tuple[int, ...], matches: bool, step: bool, individual: bool) -> None:
        if self.state == "PORT_DISABLED":
            return
        if self.known != (*who, individual):
            self.selected = False
        self.known = (*who, individual)
        self.state, self.expired, self.defaulted = "CURRENT", False, False
        self.in_step = step and (matches or individual)
        self.left = 30 if self.short else 900


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("port"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([1, 10, 29, 30, 31, 300, 899, 900])),
        st.tuples(
            st.just("hear"),
            st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
    ),
    max_size=25,
)
NAMES = {
    bond_3ad.RX_PORT_DISABLED: "PORT_DISABLED",
    bond_3ad.RX_EXPIRED: "EXPIRED",
    bond_3ad.RX_DEFAULTED: "DEFAULTED",
    bond_3ad.RX_CURRENT: "CURRENT",
}


@settings(max_examples=examples(150), deadline=None)
@given(events=EVENTS, short=st.booleans())
def test_the_receive_machine_follows_the_standards_table(events, short) -> None:
    ours = port_params(1, b"\2\0\0\0\0\1", 15, 255, 1, LACP_STATE_LACP_ACTIVITY)
    ours.port_state |= LACP_STATE_AGGREGATION | (LACP_STATE_LACP_TIMEOUT if short else 0)
    p = port(
        None,
    )  # type: ignore[arg-type]  # no other machine runs
    p.actor, p.lacp_enabled = ours, True
    ad_rx_machine(None, p)
    p.begin = False
    p.selected = True
    twin = Receive(True, short)
    for kind, *rest in events:
        if kind == "port":
            if p.is_enabled == rest[0]:
                continue
            p.is_enabled = rest[0]
            ad_rx_machine(None, p)
            twin.port(rest[0])
        elif kind == "wait":
            for _ in range(rest[0]):
                ad_rx_machine(None, p)
                twin.tick()
        else:
            who, matches, step, individual = rest
            state = LACP_STATE_LACP_ACTIVITY
            state |= LACP_STATE_SYNCHRONIZATION if step else 0
            state |= 0 if individual else LACP_STATE_AGGREGATION
            system, key, number = who
            actor = port_params(9, bytes([4, 0, 0, 0, 0, system]), key, 255, number, state)
            partner = port_params(1, ours.system, 15, 255, 1 if matches else 2, ours.port_state)
            ad_rx_machine(lacpdu(actor, partner), p)
            twin.hear(who, matches, step, individual)
        assert NAMES[p.rx_state] == twin.state
        assert bool(p.actor.port_state & LACP_STATE_EXPIRED) == twin.expired
        assert bool(p.actor.port_state & LACP_STATE_DEFAULTED) == twin.defaulted
        assert bool(p.partner.port_state & LACP_STATE_SYNCHRONIZATION) == twin.in_step
        if twin.state != "PORT_DISABLED":
            assert p.rx_timer == twin.left
        assert p.selected == twin.selected
        p.selected = twin.selected = True  # the selection logic has found an aggregator


# --- frames ---------------------------------------------------------------------------------------


def first_lacpdu(two: Cabled) -> bytes:
    two.both("802.3ad", ad_actor_sys_prio=4096)
    two.run_for(10)
    sock = two.watch(0, "eth1")
    two.run_for(31)
    frame = next(f for f in lacpdus(heard(sock)) if f[6:12] == port_mac(0, 1))
    sock.close()
    return frame


def test_scapy_reads_a_lacpdu_and_builds_the_same(two: Cabled) -> None:
    from scapy.contrib.lacp import LACP, SlowProtocol
    from scapy.layers.l2 import Ether

    frame = first_lacpdu(two)
    assert frame[:6] == GROUP
    assert len(frame) == 124, "a LACPDU and the header have 124 bytes (5.4.2.2, without the FCS)"
    read = Ether(frame)
    pdu = read[LACP]
    assert (pdu.actor_system_priority, pdu.actor_system) == (4096, "02:00:00:00:01:01")
    assert (pdu.actor_port_number, pdu.actor_port_priority, pdu.actor_key) == (2, 255, 15)
    assert (pdu.partner_system_priority, pdu.partner_system) == (4096, "02:00:00:00:02:01")
    assert (pdu.actor_state, pdu.partner_state) == (ALL_IN_USE, ALL_IN_USE)
    fields = {name: getattr(pdu, name) for name in pdu.fields}
    built = Ether(dst=read.dst, src=read.src) / SlowProtocol(subtype=1) / LACP(**fields)
    assert bytes(built) == frame


def test_tshark_finds_nothing_wrong_with_a_lacpdu(two: Cabled, tmp_path: Path) -> None:
    require.tool("tshark")
    frame = first_lacpdu(two)
    path = tmp_path / "lacp.pcap"
    head = struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    path.write_bytes(head + struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)
    fields = ("lacp.actor.sysid", "lacp.actor.key", "lacp.partner.port", "lacp.partner.state")
    argv = ["tshark", "-r", str(path), "-T", "fields", "-e", "_ws.malformed", "-e", "_ws.expert"]
    for field in fields:
        argv += ["-e", field]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert told.rstrip("\n").split("\t") == ["", "", "02:00:00:00:01:01", "15", "2", "0x3d"]


def test_a_marker_is_answered(two: Cabled) -> None:
    from scapy.contrib.lacp import MarkerProtocol, SlowProtocol
    from scapy.layers.l2 import Ether

    two.bond(0, "802.3ad")
    two.b.ifconfig("eth0", up=True)
    sock = two.watch(1, "eth0")
    marker = MarkerProtocol(requester_port=3, requester_system="02:00:00:00:00:99")
    marker.requester_transaction_id = 0x1234
    ask = bytes(
        Ether(dst=GROUP.hex(":"), src="02:00:00:00:00:99") / SlowProtocol(subtype=2) / marker
    )
    sock.send(ask)
    two.run_for(0.05)
    answers = [f for f in lacpdus(heard(sock)) if f[14] == 2 and f[6:12] == port_mac(0, 0)]
    assert len(answers) == 1
    assert answers[0][:6] == GROUP
    assert answers[0][16] == 2, "marker response"
    assert answers[0][17:] == ask[17 : len(answers[0])]
    sock.close()


@settings(max_examples=examples(100), deadline=None)
@given(data=st.binary(max_size=130))
def test_any_bytes_are_a_lacpdu_or_nothing(data: bytes) -> None:
    found = lacpdu_parse(data)
    assert (found is not None) == (len(data) >= 110 and data[0] == 1)


def test_hostile_slow_frames_change_nothing(two: Cabled) -> None:
    one, _ = two.both("802.3ad")
    two.run_for(10)
    sock = two.watch(1, "eth0")
    begin = ip_link(two.a)
    for payload in (b"", b"\1", b"\2", b"\2" * 40, b"\1" * 60, b"\3" * 110, b"\xff" * 110):
        sock.send(GROUP + b"\2\0\0\0\0\x99" + SLOW + payload)
        two.run_for(0.2)
    two.run_for(1)
    assert usable(one) == ["eth0", "eth1"]
    assert ip_link(two.a) == begin
    sock.close()
