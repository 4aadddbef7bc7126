"""STP: which bridge is the root, which ports block; BPDUs, timers, and changes of the topology."""

from __future__ import annotations

import errno
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.api.links import bridge_link, ip_link
from stack.bridge.br_private import (
    BR_GROUP_ADDR,
    BR_KERNEL_STP,
    BR_STATE_BLOCKING,
    BR_STATE_DISABLED,
    BR_STATE_FORWARDING,
    BR_STATE_LEARNING,
    BR_STATE_LISTENING,
    br_port_get,
    net_bridge,
)
from stack.bridge.br_stp_bpdu import CONFIG, LLC, TCN_BPDU, TICK_NS, br_config_bpdu
from stack.core.dev import dev_close, dev_open
from stack.host import Host
from tests.stack.core.wire import QUIET6, assert_no_leak
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

BRIDGE_ID = st.binary(min_size=8, max_size=8)
TIMES = st.integers(0, 0xFFFF).map(lambda ticks: ticks * TICK_NS)
PORT_ID = 0x8001


def bpdu(root: bytes, **changes: object) -> br_config_bpdu:
    """What a neighbour that is the root says."""
    given: dict[str, object] = {
        "root": root,
        "root_path_cost": 0,
        "bridge_id": root,
        "port_id": PORT_ID,
        "message_age": 0,
        "max_age": 20 * SECOND,
        "hello_time": 2 * SECOND,
        "forward_delay": 15 * SECOND,
    }
    return br_config_bpdu(**given | changes)  # type: ignore[arg-type]


def bridge_id(priority: int, number: int) -> bytes:
    return priority.to_bytes(2, "big") + station(number)


BETTER, WORSE = bridge_id(0x1000, 1), bridge_id(0xF000, 1)


def llc(data: bytes, *, to: bytes = BR_GROUP_ADDR, sap: bytes = LLC) -> bytes:
    """A frame of 802.3 with a BPDU, padded as Ethernet pads it."""
    pdu = sap + data
    return (to + station(9) + len(pdu).to_bytes(2, "big") + pdu).ljust(60, b"\0")


def bpdus(frames: list[bytes]) -> list[br_config_bpdu | None]:
    """The configuration BPDUs among frames, None for a notice of a change."""
    found: list[br_config_bpdu | None] = []
    for data in frames:
        if data[:6] == BR_GROUP_ADDR:
            assert data[14:17] == LLC
            assert int.from_bytes(data[12:14], "big") == len(data) - 14
            found.append(br_config_bpdu.parse(data[17:]))
    return found


def states(br: net_bridge) -> dict[str, int]:
    return {p.dev.name: p.state for p in br.port_list}


# --- the format -----------------------------------------------------------------------------------


@given(
    st.builds(
        br_config_bpdu,
        *(BRIDGE_ID, st.integers(0, 0xFFFFFFFF), BRIDGE_ID, st.integers(0, 0xFFFF)),
        *(TIMES, TIMES, TIMES, TIMES, st.booleans(), st.booleans()),
    )
)
def test_a_bpdu_is_read_as_it_was_written(made: br_config_bpdu) -> None:
    data = made.emit()
    assert len(data) == CONFIG.size
    assert br_config_bpdu.parse(data) == made
    assert br_config_bpdu.parse(data + bytes(8)) == made


@given(st.binary(max_size=CONFIG.size - 1))
def test_a_short_bpdu_is_none(data: bytes) -> None:
    assert br_config_bpdu.parse(data) is None


def test_scapy_builds_the_same_bytes() -> None:
    l2 = pytest.importorskip("scapy.layers.l2")
    switch = Switch(2, stp=True, priority=0x3000, hello_time=3, max_age=10, forward_delay=8.5)
    switch.run_for(3.1)
    sent = sent_by(switch.wires)[1]
    own = port_address(0).hex(":")
    flags = {"rootid": 0x3000, "rootmac": own, "bridgeid": 0x3000, "bridgemac": own}
    times = {"age": 0, "maxage": 10, "hellotime": 3, "fwddelay": 8.5}
    want = (
        l2.Dot3(dst="01:80:c2:00:00:00", src=port_address(1).hex(":"), len=38)
        / l2.LLC(dsap=0x42, ssap=0x42, ctrl=3)
        / l2.STP(pathcost=0, portid=0x8002, **flags, **times)
    )
    assert sent[0] == bytes(want)


# --- one bridge and what it hears -----------------------------------------------------------------


def test_a_port_listens_then_learns_then_forwards() -> None:
    switch = Switch(2, stp=True, forward_delay=4)
    assert states(switch.br) == dict.fromkeys(("eth0", "eth1"), BR_STATE_LISTENING)
    assert switch.send(0, frame(BROADCAST, station(1))) == []
    switch.run_for(3.9)
    assert switch.learned() == {}
    switch.run_for(0.2)
    assert states(switch.br) == dict.fromkeys(("eth0", "eth1"), BR_STATE_LEARNING)
    assert switch.send(0, frame(BROADCAST, station(1))) == []
    assert switch.learned() == {station(1): 0}
    switch.run_for(4)
    assert states(switch.br) == dict.fromkeys(("eth0", "eth1"), BR_STATE_FORWARDING)
    assert switch.send(0, frame(BROADCAST, station(1))) == [1]
    with refused(errno.EBUSY):  # STP decides
        switch.host.bridge_port("eth0", state="blocking")
    assert_no_leak(switch.host)


def test_the_root_says_so_every_hello_time_with_its_times() -> None:
    switch = Switch(1, stp=True, hello_time=5, priority=7)
    switch.run_for(0.1)
    first = bpdus(sent_by(switch.wires)[0])
    own = b"\0\7" + port_address(0)
    told = bpdu(own, hello_time=5 * SECOND)
    assert first == []  # nothing to say before the first hello
    switch.run_for(20)
    got = bpdus(sent_by(switch.wires)[0])
    assert got == [told] * 4
    switch.run_for(15)
    got = bpdus(sent_by(switch.wires)[0])
    assert [one.topology_change for one in got if one] == [False, True, True]  # it forwards
    switch.run_for(40)
    sent_by(switch.wires)
    switch.run_for(20)
    assert bpdus(sent_by(switch.wires)[0]) == [told] * 4


def test_a_better_root_is_taken_and_told_to_others_with_the_way_to_it() -> None:
    switch = Switch(3, stp=True)
    switch.host.bridge_port("eth0", cost=7)
    switch.run_for(41.5)
    sent_by(switch.wires)
    told = bpdu(BETTER, message_age=SECOND, hello_time=3 * SECOND, max_age=9 * SECOND)
    switch.wires[0].receive(llc(told.emit()))
    br = switch.br
    assert (br.designated_root, br.root_port, br.root_path_cost) == (BETTER, 1, 7)
    assert (br.hello_time, br.max_age) == (3 * SECOND, 9 * SECOND)
    notice, *rest = bpdus(sent_by(switch.wires[:1])[0])
    assert (notice, rest) == (None, [])  # ports forward: the root has to know
    for number in (1, 2):
        (got,) = bpdus(sent_by(switch.wires[number : number + 1])[0])
        assert got is not None
        assert (got.root, got.root_path_cost, got.bridge_id) == (BETTER, 7, br.bridge_id)
        assert got.message_age == SECOND + TICK_NS
        assert got.port_id == 0x8000 | number + 1
    # The notice is sent again until somebody acknowledges it.
    switch.run_for(4.5)
    assert len(sent_by(switch.wires)[0]) == 2
    ack = bpdu(BETTER, topology_change_ack=True, topology_change=True)
    switch.wires[0].receive(llc(ack.emit()))
    assert br.topology_change
    switch.run_for(4.5)
    assert bpdus(sent_by(switch.wires)[0]) == []
    # Nothing comes for max_age: this bridge is the root again.
    switch.run_for(30)
    assert (br.designated_root, br.root_port, br.root_path_cost) == (br.bridge_id, 0, 0)
    assert (br.hello_time, br.max_age) == (2 * SECOND, 20 * SECOND)
    assert_no_leak(switch.host)


def test_of_two_ways_to_the_root_one_is_blocked() -> None:
    switch = Switch(2, stp=True)
    switch.run_for(40)
    for number in (0, 1):
        switch.wires[number].receive(llc(bpdu(BETTER, port_id=0x8001 + number).emit()))
    assert states(switch.br) == {"eth0": BR_STATE_FORWARDING, "eth1": BR_STATE_BLOCKING}
    switch.host.bridge_port("eth1", cost=1)
    assert switch.br.root_port == 2
    assert states(switch.br) == {"eth0": BR_STATE_BLOCKING, "eth1": BR_STATE_LISTENING}
    assert "state blocking priority 32 cost 100" in bridge_link(switch.host)
    assert "root_port 2 root_path_cost 1" in ip_link(switch.host)


def test_a_worse_root_is_told_better_and_a_notice_is_acknowledged() -> None:
    switch = Switch(2, stp=True)
    switch.run_for(60.5)
    sent_by(switch.wires)
    switch.run_for(1.2)  # the hold timer is over
    switch.wires[0].receive(llc(bpdu(WORSE).emit()))
    (answer,) = bpdus(sent_by(switch.wires)[0])
    assert answer is not None
    assert answer.root == switch.br.bridge_id
    switch.run_for(70)
    sent_by(switch.wires)
    assert not switch.br.topology_change
    switch.wires[0].receive(llc(TCN_BPDU))
    switch.run_for(2)
    got = [one for one in bpdus(sent_by(switch.wires)[0]) if one is not None]
    assert got[0].topology_change
    assert [one.topology_change_ack for one in got] == [True, *[False] * (len(got) - 1)]
    switch.run_for(36)
    assert not switch.br.topology_change


def test_addresses_age_in_the_forward_delay_after_a_change() -> None:
    switch = Switch(2, stp=True)
    switch.run_for(70)
    switch.send(0, frame(BROADCAST, station(1)))
    switch.run_for(20)
    assert switch.learned() == {station(1): 0}
    switch.wires[1].receive(llc(TCN_BPDU))
    assert switch.br.ageing_time == 30 * SECOND
    switch.run_for(0.5)
    assert switch.learned() == {station(9): 1}
    switch.run_for(40)
    assert switch.br.ageing_time == 300 * SECOND


@pytest.mark.parametrize(
    "wrong",
    [
        llc(bpdu(BETTER).emit()[:34]),
        llc(bpdu(BETTER, message_age=21 * SECOND).emit()),
        llc(bpdu(BETTER).emit(), to=BR_GROUP_ADDR[:5] + b"\x0d"),
        llc(bpdu(BETTER).emit(), sap=b"\x42\x43\x03"),
        llc(b"\0\0\1" + bpdu(BETTER).emit()[3:]),
        llc(b"\0\0\0\2" + bpdu(BETTER).emit()[4:]),
        llc(b"\0\0\0"),
        llc(b""),
        llc(bpdu(BETTER).emit())[:30],
        BR_GROUP_ADDR + station(9) + bytes(48),
    ],
)
def test_what_is_no_bpdu_changes_nothing(wrong: bytes) -> None:
    if len(wrong) == 60 and wrong[12:14] == (37).to_bytes(2, "big"):
        wrong = wrong[:51]
    switch = Switch(1, stp=True)
    switch.wires[0].receive(wrong)
    assert switch.br.root_port == 0
    assert_no_leak(switch.host)


def test_a_guarded_port_is_disabled_and_a_root_block_keeps_the_root() -> None:
    switch = Switch(2, stp=True)
    switch.run_for(40)
    switch.host.bridge_port("eth0", guard=True)
    switch.host.bridge_port("eth1", root_block=True)
    switch.wires[1].receive(llc(bpdu(BETTER).emit()))
    assert switch.br.root_port == 0
    assert states(switch.br) == {"eth0": BR_STATE_FORWARDING, "eth1": BR_STATE_LISTENING}
    switch.wires[0].receive(llc(bpdu(BETTER).emit()))
    assert states(switch.br)["eth0"] == BR_STATE_DISABLED


def test_without_stp_bpdus_pass_and_nobody_sends_any() -> None:
    switch = Switch(2)
    assert switch.send(0, llc(bpdu(BETTER).emit())) == [1]
    switch.run_for(100)
    assert sent_by(switch.wires) == [[], [llc(bpdu(BETTER).emit())]]
    assert switch.br.root_port == 0


def test_settings_have_linuxs_limits() -> None:
    host = Host("host", clock=VirtualClock(), drivers=False, sysctl=QUIET6)
    for word, low, high in (("forward_delay", 2, 30), ("hello_time", 1, 10), ("max_age", 6, 40)):
        times: Any
        for times in ({word: low - 0.01}, {word: high + 0.01}):
            with refused(errno.ERANGE):
                host.add_bridge("br0", stp=True, **times)
            assert "br0" not in host.dev_by_name
        for times in ({word: low}, {word: high}):
            host.add_bridge("br0", stp=True, **times)
            host.del_link("br0")
    host.add_bridge("br0", forward_delay=0)  # without STP it means nothing
    host.add_veth("v0", "v1")
    host.set_master("v0", "br0")
    for cost in (0, 65536):
        with refused(errno.ERANGE):
            host.bridge_port("v0", cost=cost)
    with refused(errno.ERANGE):
        host.bridge_port("v0", priority=64)
    host.bridge_port("v0", priority=63, cost=65535)
    p = br_port_get(host.dev("v0"))
    assert p is not None
    assert (p.port_id, p.path_cost) == (63 << 10 | 1, 65535)
    assert_no_leak(host)


def test_a_bridge_that_goes_down_or_away_says_nothing_more() -> None:
    switch = Switch(1, stp=True)
    switch.run_for(3)
    assert sent_by(switch.wires)[0]
    dev_close(switch.bridge)
    switch.run_for(10)
    assert sent_by(switch.wires) == [[]]
    dev_open(switch.bridge)
    switch.run_for(3)
    assert sent_by(switch.wires)[0]
    switch.host.del_link("br0")
    switch.run_for(10)
    assert sent_by(switch.wires) == [[]]
    assert_no_leak(switch.host)


# --- several bridges ------------------------------------------------------------------------------


class Bridges:
    """Bridges b0, b1 ... of one host, and veths between them: (bridge, bridge, cost)."""

    def __init__(self, count: int, wires: list[tuple[int, int, int]]) -> None:
        self.clock = VirtualClock()
        self.host = host = Host("host", clock=self.clock, drivers=False, sysctl=QUIET6)
        self.bridges = [
            host.add_bridge(f"b{number}", mac=b"\2\0\0\0\2" + bytes([number]), stp=True).priv
            for number in range(count)
        ]
        self.wires = wires
        for number, (one, other, cost) in enumerate(wires):
            ends = f"w{number}a", f"w{number}b"
            host.add_veth(*ends, up=True)
            for end, bridge in zip(ends, (one, other), strict=True):
                host.set_master(end, f"b{bridge}")
                host.bridge_port(end, cost=cost)
        for br in self.bridges:
            dev_open(br.dev)

    def run_for(self, seconds: float) -> None:
        self.clock.run_for(int(seconds * SECOND))

    def passing(self) -> list[tuple[int, int]]:
        """The wires that both ends forward on."""
        found = []
        for number, (one, other, _) in enumerate(self.wires):
            if f"w{number}a" not in self.host.dev_by_name:
                continue
            ports = [br_port_get(self.host.dev(f"w{number}{end}")) for end in "ab"]
            if all(p and p.state == BR_STATE_FORWARDING for p in ports):
                found.append((one, other))
        return found


def test_a_loop_of_three_bridges_is_broken_and_heals() -> None:
    net = Bridges(3, [(0, 1, 4), (1, 2, 4), (2, 0, 4)])
    net.run_for(35)
    assert net.passing() == [(0, 1), (2, 0)]
    assert [br.root_path_cost for br in net.bridges] == [0, 4, 4]
    # A broadcast goes to each bridge once, and ends there.
    host = net.host
    host.add_veth("in0", "in1", up=True)
    host.set_master("in1", "b1")
    net.run_for(35)
    host.ifconfig("in0", "10.0.0.1/24")
    before = host.dev("w0a").stats.rx_packets, host.dev("w2a").stats.rx_packets
    with host.socket(2, 2) as sock:
        sock.setsockopt(1, 6, 1)  # SO_BROADCAST
        sock.sendto(b"once", ("10.0.0.255", 9))
    net.clock.run_for(1000)
    assert host.dev("w0a").stats.rx_packets == before[0] + 1
    assert host.dev("w2a").stats.rx_packets == before[1] + 1
    host.del_link("w2a")
    net.run_for(20 + 2 * 15 + 3)
    assert net.passing() == [(0, 1), (1, 2)]
    assert [br.root_path_cost for br in net.bridges] == [0, 4, 8]
    assert {br.stp_enabled for br in net.bridges} == {BR_KERNEL_STP}


@pytest.mark.parametrize("seed", range(examples(8)))
def test_any_net_becomes_a_tree_of_the_cheapest_ways(seed: int) -> None:
    random = Random(seed)
    count = random.randint(2, 6)
    wires = [(random.randrange(n), n, random.randint(1, 50)) for n in range(1, count)]
    wires += [
        (*sorted(random.sample(range(count), 2)), random.randint(1, 50))  # type: ignore[misc]
        for _ in range(random.randint(1, 5))
    ]
    net = Bridges(count, wires)
    net.run_for(60)
    distance = {0: 0}
    for _ in range(count):
        for one, other, cost in wires:
            for near, far in ((one, other), (other, one)):
                if near in distance:
                    way = distance[near] + cost
                    distance[far] = min(way, distance.get(far, way))
    assert [br.root_path_cost for br in net.bridges] == [distance[n] for n in range(count)]
    passing = net.passing()
    assert len(passing) == count - 1  # as many as a tree has, and
    reached = {0}
    for _ in passing:
        reached |= {n for wire in passing if reached & set(wire) for n in wire}
    assert reached == set(range(count))
