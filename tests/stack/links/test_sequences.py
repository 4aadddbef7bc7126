"""Devices made, joined, moved and deleted in any order leave nothing behind."""

from __future__ import annotations

import gc
import re
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.api.links import bridge_fdb, bridge_link, ip_link
from stack.api.netns import Namespace
from stack.core.netdevice import NETREG_REGISTERED, net_device
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM
from tests.stack.core.wire import add_wire_device, assert_no_leak
from tests.support import examples

NAMES = [f"d{i}" for i in range(5)]
name = st.sampled_from([*NAMES, "eth0", "eth1"])
net = st.sampled_from([0, 0, 0, 1, 2])
START = (
    ("bridge", 0, "d0"),
    ("veth", 0, "d1", 1, "d2"),
    ("vlan", 0, "d3", "eth0", 5),
    ("master", 0, "d1", "d0"),
    ("master", 0, "d3", "d0"),
    ("up", 0, "eth0"),
)
"""So that steps drawn at random find something to be done to."""
STEP = st.one_of(
    st.tuples(st.just("dummy"), net, name),
    st.tuples(st.just("veth"), net, name, net, name),
    st.tuples(st.just("vlan"), net, name, name, st.sampled_from([1, 2, 5])),
    st.tuples(st.just("bridge"), net, name),
    st.tuples(st.just("master"), net, name, st.one_of(st.none(), name)),
    st.tuples(st.just("up"), net, name),
    st.tuples(st.just("down"), net, name),
    st.tuples(st.just("addr"), net, name, st.integers(1, 3)),
    st.tuples(st.just("move"), net, name, net),
    st.tuples(st.just("del"), net, name),
    st.tuples(st.just("send"), net, st.integers(1, 3)),
    st.tuples(st.just("run"), st.sampled_from([0.001, 1.0, 400.0])),
    st.tuples(st.just("end"), st.integers(1, 2)),
)


class Play:
    """A host with two wired devices and two more namespaces, to which the steps are done."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.host = Host("host", clock=self.clock, drivers=False)
        self.wires = [add_wire_device(self.host, b"\x02\0\0\0\0" + bytes([i])) for i in (1, 2)]
        self.nets: list[Namespace] = [self.host, *map(self.host.netns_add, ("blue", "red"))]

    def dummy(self, at: int, name: str) -> None:
        self.nets[at].add_dummy(name)

    def veth(self, at: int, name: str, peer: int, peer_name: str) -> None:
        self.nets[at].add_veth(name, (self.nets[peer], peer_name), up=True)

    def vlan(self, at: int, name: str, link: str, vlan_id: int) -> None:
        self.nets[at].add_vlan(name, link, vlan_id)

    def bridge(self, at: int, name: str) -> None:
        self.nets[at].add_bridge(name, up=True)

    def master(self, at: int, name: str, master: str | None) -> None:
        self.nets[at].set_master(name, master)

    def up(self, at: int, name: str) -> None:
        self.nets[at].ifconfig(name, up=True)

    def down(self, at: int, name: str) -> None:
        self.nets[at].ifconfig(name, up=False)

    def addr(self, at: int, name: str, number: int) -> None:
        self.nets[at].ifconfig(name, f"10.0.{number}.{at + 1}/24")
        self.nets[at].ifconfig(name, f"2001:db8:{number}::{at + 1}/64")

    def move(self, at: int, name: str, to: int) -> None:
        self.nets[at].set_netns(name, self.nets[to])

    def delete(self, at: int, name: str) -> None:
        self.nets[at].del_link(name)

    def send(self, at: int, number: int) -> None:
        with self.nets[at].socket(AF_INET, SOCK_DGRAM) as sock:
            sock.sendto(b"x", (f"10.0.{number}.{(at + 1) % 3 + 1}", 9))

    def run(self, seconds: float) -> None:
        self.clock.run_for(int(seconds * 1e9))

    def end(self, at: int) -> None:
        self.nets[at].close()
        self.nets[at] = self.host.netns_add(self.nets[at].name + "'")

    def check(self) -> None:
        """Whoever is named somewhere is registered, and both sides of a relation know of it."""
        for one in self.nets:
            ip_link(one)
            bridge_fdb(one)
            bridge_link(one)
            assert set(one.dev_by_name.values()) == set(one.dev_base_head)
            for dev in one.dev_base_head:
                assert (dev.net, dev.reg_state) == (one, NETREG_REGISTERED)
                assert dev.master is None or dev.master in dev.upper
                for upper in dev.upper:
                    assert upper.reg_state == NETREG_REGISTERED
                    assert dev in upper.lower
                for lower in dev.lower:
                    assert lower.reg_state == NETREG_REGISTERED
                    assert dev in lower.upper


@pytest.fixture(scope="module", autouse=True)
def only_ours() -> None:
    """What the tests before have left in memory is not looked through for each example."""
    gc.collect()
    gc.freeze()


def devices() -> int:
    """How many interfaces this process has."""
    gc.collect()
    return sum(isinstance(one, net_device) for one in gc.get_objects())


@settings(max_examples=examples(30), deadline=None)
@given(steps=st.lists(STEP, min_size=3, max_size=25))
def test_no_order_of_steps_leaves_a_reference(steps):
    play = Play()
    there = devices()
    for kind, *args in (*START, *steps):
        with suppress(OSError):  # Linux refuses as well; what there is stays whole
            getattr(play, "delete" if kind == "del" else kind)(*args)
        play.check()
    for one in play.nets:
        for dev in list(one.dev_base_head):
            if dev.rtnl_link_ops is not None and dev.reg_state == NETREG_REGISTERED:
                one.del_link(dev.name)
    play.check()
    kinds = Counter(dev.name for one in play.nets for dev in one.dev_base_head)
    assert kinds.pop("lo") == 3
    # "dev%d": its namespace ended, and where it came back its name was another's.
    assert all(re.fullmatch(r"eth[01]|dev\d", name) for name in kinds)
    assert kinds.total() == 2
    for wire in play.wires:
        dev = wire.dev
        assert (dev.upper, dev.lower, dev.master, dev.rx_handler) == ([], [], None, None)
        assert (dev.promiscuity, dev.allmulti, list(dev.uc)) == (0, 0, [])
        assert dev.vlan_info is None
    play.clock.run_for(700 * 10**9)  # timers and neighbours that knew them
    assert devices() == there
    assert_no_leak(play.host)
