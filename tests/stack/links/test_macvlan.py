"""macvlan: hosts in namespaces with addresses of their own on a NIC, its filter, groups, ends.

tests/programs/test_link_kinds.py compares frames and counters with the kernel's.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from fastpath.errors import ArgumentError
from stack.api.links import ip_link
from stack.api.netns import Namespace
from stack.core.dev import dev_close, dev_open, dev_set_mac_address, dev_set_mtu
from stack.core.netdevice import IFF_PROMISC, net_device, netif_carrier_ok
from stack.host import Host
from stack.socket import AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.stack.links.switch import BROADCAST, Switch, frame, refused, station
from tests.stack.links.test_veth import stream

GROUP = bytes.fromhex("01005e010203")
PACKET_ADD_MEMBERSHIP, PACKET_MR_MULTICAST = 1, 0


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a NIC each, on one wire."""
    made = two_hosts(VirtualClock(), sysctl=QUIET6)
    yield made
    assert_no_leak(*made)


def guest(host: Host, name: str, mode: str, number: int) -> Namespace:
    """A namespace with a macvlan on eth0, its address 10.0.0.NUMBER."""
    net = host.netns_add(name, sysctl=QUIET6)
    host.add_macvlan("m", "eth0", mode)
    host.set_netns("m", net)
    net.ifconfig("m", f"10.0.0.{number}/24", up=True)
    return net


def reached(source: Namespace, dest: Namespace, addr: str) -> bool:
    """A datagram from one namespace to the other comes."""
    with source.socket(AF_INET, SOCK_DGRAM) as tx, dest.socket(AF_INET, SOCK_DGRAM) as rx:
        rx.bind((addr, 9))
        rx.settimeout(5)
        tx.sendto(b"x", (addr, 9))
        try:
            return rx.recv(9) == b"x"
        except TimeoutError:
            return False


@pytest.mark.parametrize(
    ("mode", "across"), [("bridge", True), ("vepa", False), ("private", False)]
)
def test_guests_reach_the_wire_and_each_other_by_mode(a, b, mode, across):
    one, two = guest(a, "one", mode, 11), guest(a, "two", mode, 12)
    assert reached(one, b, "10.0.0.2")
    assert reached(b, two, "10.0.0.12")
    assert reached(one, two, "10.0.0.12") is across
    assert not reached(a, one, "10.0.0.11")  # never the lower device itself
    assert reached(a, b, "10.0.0.2")


@pytest.mark.parametrize("mode", ["bridge", "passthru"])
def test_streams_go_in_super_packets(a, b, mode):
    one = guest(a, "one", mode, 11)
    stream(one, b, "10.0.0.2", 300_000)
    stream(b, one, "10.0.0.11", 300_000)
    assert one.dev("m").stats.tx_packets < 200  # segments are cut by the NIC, not before
    if mode == "bridge":
        two = guest(a, "two", mode, 12)
        wire = a.dev("eth0").stats.tx_packets
        stream(one, two, "10.0.0.12", 300_000)
        assert a.dev("eth0").stats.tx_packets - wire < 5  # ARP alone


def test_the_filter_of_the_nic_has_the_addresses(a):
    eth0 = a.dev("eth0")
    one = a.add_macvlan("m", "eth0", mac=station(1), up=True)
    assert station(1) in eth0.uc
    assert dev_set_mac_address(one, station(2)) == 0
    assert list(eth0.uc) == [station(2)]
    assert not eth0.flags & IFF_PROMISC
    dev_close(one)
    assert not len(eth0.uc)
    a.del_link("m")
    assert eth0.rx_handler is None
    a.add_macvlan("p", "eth0", "passthru", up=True)
    assert eth0.flags & IFF_PROMISC
    a.del_link("p")
    assert not eth0.flags & IFF_PROMISC


class Port:
    """A wire with macvlans, as bytes: what each of them receives."""

    def __init__(self) -> None:
        switch = Switch(1, inet=True)
        self.host, self.wire, self.clock = switch.host, switch.wires[0], switch.clock
        self.host.del_link("br0")
        self.sockets: dict[str, object] = {}

    def add(self, name: str, mode: str, number: int, **options: object) -> net_device:
        dev = self.host.add_macvlan(name, "eth0", mode, mac=station(number), up=True, **options)
        sock = self.host.socket(AF_PACKET, SOCK_RAW, 0x88B5)
        sock.bind((name, 0x88B5))
        sock.setblocking(False)
        self.sockets[name] = sock
        return dev

    def join(self, name: str) -> None:
        index = self.host.dev(name).ifindex
        mreq = struct.pack("=iHH8s", index, PACKET_MR_MULTICAST, 6, GROUP)
        self.sockets[name].setsockopt(263, PACKET_ADD_MEMBERSHIP, mreq)

    def got(self, data: bytes) -> set[str]:
        """Who receives a frame from the wire."""
        self.wire.receive(data)
        self.clock.run_for(1000)
        found = set()
        for name, sock in self.sockets.items():
            try:
                assert sock.recv(2000) == data
                found.add(name)
            except BlockingIOError:
                continue
        return found

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        assert_no_leak(self.host)


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


def test_a_group_is_for_those_that_have_joined_it(port):
    for number, mode in enumerate(("private", "vepa", "bridge", "source")):
        port.add(mode, mode, number + 1)
    assert port.got(frame(BROADCAST, station(9))) == {"private", "vepa", "bridge"}
    assert port.got(frame(GROUP, station(9))) == set()
    port.join("vepa")
    assert port.got(frame(GROUP, station(9))) == {"vepa"}
    port.join("bridge")
    assert port.got(frame(GROUP, station(9))) == {"vepa", "bridge"}
    assert GROUP in port.wire.dev.mc
    assert port.got(frame(station(3), station(9))) == {"bridge"}
    assert port.got(frame(station(8), station(9))) == set()


def test_senders_choose_devices_of_mode_source(port):
    port.add("s", "source", 1, sources=[station(7), station(8)])
    port.add("t", "source", 2, sources=[station(8)])
    assert port.got(frame(station(1), station(6))) == set()
    assert port.got(frame(station(6), station(7))) == {"s"}
    assert port.got(frame(BROADCAST, station(8))) == {"s", "t"}
    port.host.del_link("s")
    del port.sockets["s"]
    assert port.got(frame(BROADCAST, station(8))) == {"t"}


def test_frames_for_groups_are_lost_when_too_many_wait(port):
    dev = port.add("m", "vepa", 1)
    state = dev.priv.port
    state.bc_queue_len_used = 2
    for _ in range(5):
        port.wire.receive(frame(BROADCAST, station(9)))
    waiting = len(state.bc_queue)
    assert waiting == 2
    assert port.wire.dev.stats.rx_dropped == 3 + 5  # the lower device has no handler for any
    port.clock.run_for(1000)
    assert (dev.stats.multicast, len(state.bc_queue)) == (2, 0)
    state.bc_cutoff = -1  # none waits
    port.wire.receive(frame(BROADCAST, station(9)))
    assert dev.stats.multicast == 3


def test_it_follows_its_lower_device(port):
    dev = port.add("m", "bridge", 1)
    lower = port.wire.dev
    assert dev_set_mtu(dev, lower.mtu + 1) == -errno.EINVAL
    dev_set_mtu(lower, 1000)
    assert dev.mtu == 1000
    dev_close(lower)
    assert port.got(frame(station(1), station(9))) == set()
    dev_open(lower)
    assert netif_carrier_ok(dev)
    assert "m@eth0: <" in ip_link(port.host)
    assert dev_set_mac_address(dev, lower.dev_addr) == -errno.EADDRINUSE
    other = port.host.add_macvlan("n", "m", mac=station(1))
    assert other.priv.lowerdev is lower  # beside m, not on it
    assert dev_open(other) == -errno.EADDRINUSE


def test_it_ends_with_its_lower_device_in_any_namespace():
    host = Host("h", clock=VirtualClock(), drivers=False, sysctl=QUIET6)
    blue = host.netns_add("blue", sysctl=QUIET6)
    host.add_veth("v0", "v1", up=True)
    host.add_macvlan("m", "v0", "private")
    host.set_netns("m", blue)
    assert blue.dev("m").priv.lowerdev is host.dev("v0")
    host.del_link("v1")
    assert "m" not in blue.dev_by_name
    assert_no_leak(host)


def test_what_cannot_be_is_refused():
    switch = Switch(2)
    host = switch.host
    with refused(errno.EBUSY):
        host.add_macvlan("m", "eth0")
    assert host.dev("eth0").rx_handler is not None
    with refused(errno.EINVAL):
        host.add_macvlan("m", "lo")
    with pytest.raises(ArgumentError, match="no mode 'magic'"):
        host.add_macvlan("m", "eth0", "magic")
    host.del_link("br0")
    host.add_macvlan("m", "eth0")
    with refused(errno.EEXIST):
        host.add_macvlan("m", "eth1")
    assert host.dev("eth1").rx_handler is None
    for mode in ("passthru", "vepa"):
        host.add_macvlan("p", "eth1", "passthru") if mode == "vepa" else None
        with refused(errno.EINVAL):
            host.add_macvlan("q", "eth1" if mode == "vepa" else "eth0", mode)
    with refused(errno.EINVAL):
        host.add_macvlan("q", "eth0", sources=[station(1)])
    assert_no_leak(host)
