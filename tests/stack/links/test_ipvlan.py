"""ipvlan: slaves with addresses of their own and the master's MAC address, by mode and flag.

The kernel of the tests' machine has no ipvlan, so that its documentation is the judge
(Documentation/networking/ipvlan.rst), with a second host and scapy's frames.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Ether

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from fastpath.net.hdr import ip_hdr, ipv6_hdr
from stack.api.netns import Namespace
from stack.core.dev import (
    dev_close,
    dev_open,
    dev_set_allmulti,
    dev_set_mac_address,
    dev_set_mtu,
    unregister_netdevice,
)
from stack.core.link_watch import netif_carrier_off, netif_carrier_on
from stack.core.netdevice import IFF_ALLMULTI, IFF_NOARP, net_device, netif_carrier_ok
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
)
from stack.drivers.ipvlan_core import IPVLAN_QBACKLOG_LIMIT
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, IPPROTO_UDP, SOCK_DGRAM
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.stack.links.switch import BROADCAST, Switch, refused, station
from tests.stack.links.test_macvlan import reached
from tests.stack.links.test_veth import stream

V4, V6 = AF_INET, AF_INET6
MODES = ("l2", "l3", "l3s")


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a NIC each, on one wire; the second knows the way to networks of slaves."""
    a, b = two_hosts(VirtualClock(), sysctl=QUIET6)
    for host, number in ((a, 1), (b, 2)):
        host.ifconfig("eth0", f"fe80::{number}/64")  # asks for neighbours
        host.ifconfig("eth0", f"2001:db8::{number}/64")
    b.route_add("10.1.0.0/16", "10.0.0.1")
    b.route_add("2001:db8:1::/48", "2001:db8::1")
    b.clock.run_for(3_000_000_000)
    yield a, b
    assert_no_leak(a, b)


def slave(host: Host, name: str, mode: str, number: int, flag: str = "bridge") -> Namespace:
    """A namespace with a slave on eth0: in mode l2 on eth0's networks, else on one of its own."""
    net = host.netns_add(name, sysctl=QUIET6)
    host.add_ipvlan("ip%d", "eth0", mode, flag)
    dev = max(host.dev_base_head, key=lambda dev: dev.ifindex)
    old = dev.name
    host.set_netns(old, net)
    if mode == "l2":
        net.ifconfig(old, f"10.0.0.{number}/24", up=True)
        net.ifconfig(old, f"2001:db8::{number}/64")
    else:
        net.ifconfig(old, f"10.1.{number}.{number}/24", up=True)
        net.ifconfig(old, f"2001:db8:1:{number}::{number}/64")
        for family in ("0.0.0.0/0", "::/0"):
            net.route_add(family, dev=old)
    host.clock.run_for(3_000_000_000)
    return net


def address(mode: str, number: int, family: int = V4) -> str:
    """What `slave` gave it."""
    if mode == "l2":
        return f"10.0.0.{number}" if family == V4 else f"2001:db8::{number}"
    return f"10.1.{number}.{number}" if family == V4 else f"2001:db8:1:{number}::{number}"


def sends(source: Namespace, dest: Namespace, addr: str, family: int) -> bool:
    """A datagram from one namespace to the other comes, and its answer."""
    with source.socket(family, SOCK_DGRAM) as tx, dest.socket(family, SOCK_DGRAM) as rx:
        rx.bind((addr, 9))
        for sock in (tx, rx):
            sock.settimeout(5)
        try:
            tx.sendto(b"x", (addr, 9))
            rx.sendto(*rx.recvfrom(9))
            return bool(tx.recv(9) == b"x")
        except (TimeoutError, OSError):
            return False


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize("mode", MODES)
def test_slaves_reach_the_wire_and_each_other(a, b, mode, family):
    one, two = slave(a, "one", mode, 11), slave(a, "two", mode, 12)
    outside = "10.0.0.2" if family == V4 else "2001:db8::2"
    sent = a.dev("eth0").stats.tx_packets
    assert sends(one, two, address(mode, 12, family), family)
    assert a.dev("eth0").stats.tx_packets - sent <= 2  # mode l2 asks for the neighbour
    assert sends(one, b, outside, family)
    assert sends(b, two, address(mode, 12, family), family)
    assert sends(b, a, "10.0.0.1" if family == V4 else "2001:db8::1", family)
    master = a.dev("eth0").dev_addr
    assert [dev.dev_addr for dev in (one.dev("ip0"), two.dev("ip0"))] == [master, master]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_who_reaches_whom_is_as_in_linux(a, b, mode, flag):
    """Debian's kernel 6.12 in QEMU answered pings so; slaves do not reach their master."""
    one, two = slave(a, "one", mode, 11, flag), slave(a, "two", mode, 12, flag)
    pairs = ((one, b, "10.0.0.2"), (b, two, address(mode, 12)), (one, two, address(mode, 12)))
    assert [sends(*pair, V4) for pair in pairs] == [True, True, flag == "bridge"]
    assert not sends(one, a, "10.0.0.1", V4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_flags_keep_slaves_apart(a, b, mode, flag):
    one, two = slave(a, "one", mode, 11, flag), slave(a, "two", mode, 12, flag)
    assert reached(one, b, "10.0.0.2")
    assert reached(b, two, address(mode, 12))
    drops = one.dev("ip0").stats.tx_dropped
    assert not reached(one, two, address(mode, 12))
    if mode != "l2":  # there the question for the neighbour has no answer already
        assert (one.dev("ip0").stats.tx_dropped > drops) is (flag == "private")


@pytest.mark.parametrize("mode", MODES)
def test_streams_go_in_super_packets(a, b, mode):
    one, two = slave(a, "one", mode, 11), slave(a, "two", mode, 12)
    stream(one, b, "10.0.0.2", 300_000)
    assert one.dev("ip0").stats.tx_packets < 200  # segments are cut by the NIC, not before
    stream(b, one, address(mode, 11), 300_000)
    wire = a.dev("eth0").stats.tx_packets
    stream(one, two, address(mode, 12), 300_000)
    assert a.dev("eth0").stats.tx_packets - wire < 5


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize(("mode", "seen"), [("l2", False), ("l3", False), ("l3s", True)])
def test_hooks_of_the_master_see_what_l3s_receives(a, b, mode, seen, family):
    one = slave(a, "one", mode, 11)
    found: list[int] = []
    pf = NFPROTO_IPV4 if family == V4 else NFPROTO_IPV6

    def note(skb: Any, nf: Any) -> int:
        if (ip_hdr(skb).protocol if pf == NFPROTO_IPV4 else ipv6_hdr(skb).nexthdr) == IPPROTO_UDP:
            found.append(nf.hook)
        return NF_ACCEPT

    for hook in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN):
        nf_register_net_hook(a, hook, note, pf)
    assert sends(b, one, address(mode, 11, family), family)
    assert found == ([NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN] if seen else [])
    nf_register_net_hook(a, NF_INET_LOCAL_IN, lambda skb, nf: NF_DROP, pf)
    assert sends(b, one, address(mode, 11, family), family) is not seen


@pytest.mark.parametrize(("mode", "seen"), [("l2", 0), ("l3", 1), ("l3s", 1)])
def test_hooks_of_the_master_see_what_slaves_of_l3_send(a, b, mode, seen):
    one = slave(a, "one", mode, 11)
    found = []
    nf_register_net_hook(a, NF_INET_LOCAL_OUT, lambda skb, nf: found.append(nf) or NF_ACCEPT)
    assert reached(one, b, "10.0.0.2")
    assert len(found) == seen


def test_mode_and_flags_are_the_masters(a):
    one = a.add_ipvlan("one", "eth0", "l2", up=True)
    assert not one.flags & IFF_NOARP
    two = a.add_ipvlan("two", one, "l3s", "vepa", up=True)  # on a slave: beside it
    assert two.lower == [a.dev("eth0")]
    assert (one.priv.port.mode, one.priv.port.flags) == (2, 2)
    assert one.flags & two.flags & IFF_NOARP
    assert len(a.nf_hooks[NF_INET_LOCAL_IN]) == 1
    a.add_ipvlan("three", "eth0", "l3")
    assert not a.nf_hooks[NF_INET_LOCAL_IN]
    assert one.priv.port.flags == 0


@pytest.mark.parametrize(("family", "addr"), [(V4, "10.9.0.1/24"), (V6, "2001:db8:9::1/64")])
def test_an_address_is_on_one_slave_only(a, family, addr):
    net = a.netns_add("other", sysctl=QUIET6)
    one, two = (a.add_ipvlan(name, "eth0", up=True) for name in ("one", "two"))
    a.set_netns("two", net)
    a.ifconfig("one", addr)
    with refused(errno.EADDRINUSE):
        net.ifconfig("two", addr)
    assert len(one.priv.port.hlhead) == 1
    dev_close(one)  # which ends addresses of IPv6
    assert not one.priv.port.hlhead
    if family == V4:
        with refused(errno.EADDRINUSE):
            net.ifconfig("two", "10.9.0.1/16")
        a.addr_del("one", addr)
    dev_open(two)
    net.ifconfig("two", addr)
    assert list(two.priv.port.hlhead.values()) == [two.priv]


def test_interface_identifiers_differ_by_the_slaves_number(a):
    mac = a.dev("eth0").dev_addr
    for number in (1, 2):
        net = a.netns_add(f"n{number}")
        dev = a.add_ipvlan(f"ip{number}", "eth0", "l2")
        a.set_netns(dev.name, net)
        dev_open(dev)
        found = [ifp.addr for ifp in dev.ip6_ptr.addr_list]
        iid = mac[:3] + number.to_bytes(2, "big") + mac[3:]
        assert found == [0xFE80 << 112 | int.from_bytes(iid, "big")]


class Port:
    """A wire with slaves, as bytes."""

    def __init__(self) -> None:
        switch = Switch(1, inet=True)
        self.host, self.wire, self.clock = switch.host, switch.wires[0], switch.clock
        self.host.del_link("br0")
        self.master = self.wire.dev
        self.host.ifconfig("eth0", "10.0.0.1/24")
        self.inner = self.host.netns_add("inner", sysctl=QUIET6)

    def add(self, name: str, mode: str, addr: str = "") -> net_device:
        """A slave in the namespace `inner`."""
        dev = self.host.add_ipvlan(name, "eth0", mode)
        self.host.set_netns(name, self.inner)
        dev_open(dev)
        if addr:
            self.inner.ifconfig(name, addr)
        return dev

    def sent(self, data: Any = None) -> list[Any]:
        """What leaves once a frame has come."""
        self.wire.sent.clear()
        if data is not None:
            self.wire.receive(bytes(data))
        self.clock.run_for(1_000_000)
        return [Ether(bytes(frame)) for frame in self.wire.sent]

    def close(self) -> None:
        assert_no_leak(self.host)


@pytest.fixture
def port() -> Iterator[Port]:
    made = Port()
    yield made
    made.close()


def asked(addr: str) -> Any:
    """Who has this address?"""
    mac = station(9)
    return Ether(src=mac, dst=BROADCAST) / ARP(hwsrc=mac, psrc="10.0.0.9", pdst=addr)


def test_mode_l2_answers_for_its_addresses(port):
    mac = port.master.dev_addr
    dev = port.add("one", "l2", "10.0.0.11/24")
    ask = Ether(src=station(9), dst=BROADCAST) / ARP(
        hwsrc=station(9), psrc="10.0.0.9", pdst="10.0.0.11"
    )
    (answer,) = port.sent(ask)
    assert (answer[ARP].op, answer[ARP].psrc, answer.src) == (2, "10.0.0.11", mac.hex(":"))
    ask[ARP].pdst = "10.0.0.12"
    assert not port.sent(ask)
    stats = dev.stats
    assert (stats.multicast, stats.rx_packets) == (2, 2)
    # What a switch sends back is not the slaves' once more.
    echo = ask.copy()
    echo.src, echo[ARP].psrc = mac.hex(":"), "10.0.0.11"
    port.sent(echo)
    assert stats.multicast == 2


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_modes_l3_have_no_groups(port, mode):
    dev = port.add("one", mode, "10.0.0.11/24")
    port.inner.route_add("default", dev="one")
    sock = port.inner.socket(AF_INET, SOCK_DGRAM)
    with sock:
        sock.setsockopt(1, 6, 1)
        for addr in ("224.0.0.1", "10.0.0.255"):
            sock.sendto(b"x", (addr, 9))
        assert not port.sent()
    assert dev.stats.tx_dropped == 2
    mac = port.master.dev_addr.hex(":")
    ask = Ether(src=station(9), dst=BROADCAST) / ARP(
        hwsrc=station(9), psrc="10.0.0.9", pdst="10.0.0.77"
    )
    assert not port.sent(ask)
    ping = Ether(src=station(9), dst=mac) / IP(src="10.0.0.9", dst="10.0.0.11") / ICMP()
    (ask,) = port.sent(ping)  # the answer's way out is the master's: who has 10.0.0.9?
    assert ask[ARP].pdst == "10.0.0.9"
    assert dev.stats.rx_packets == 1


@pytest.mark.parametrize("cut", [13, 14, 20, 33, 41])
@pytest.mark.parametrize("proto", [0x0800, 0x86DD, 0x0806])
@pytest.mark.parametrize("mode", MODES)
def test_short_and_wrong_headers_are_nobodys(port, mode, proto, cut):
    dev = port.add("one", mode, "10.0.0.11/24")
    mac = port.master.dev_addr
    head = {
        0x0800: bytes(IP(src="10.0.0.9", dst="10.0.0.11", len=9999) / UDP()),
        0x86DD: bytes(IPv6(src="::", dst="ff02::1") / ICMPv6ND_NS(tgt="fe80::1")),
        0x0806: bytes(ARP(pdst="10.0.0.11")),
    }[proto]
    for dest in (mac, BROADCAST):
        port.sent((dest + station(9) + proto.to_bytes(2, "big") + head)[:cut].ljust(14, b"\0"))
    assert dev.stats.rx_packets - dev.stats.multicast == 0
    assert port.sent() == []


def test_frames_for_groups_are_lost_when_too_many_wait(port):
    dev = port.add("one", "l2")
    for _ in range(IPVLAN_QBACKLOG_LIMIT + 3):
        port.wire.receive(BROADCAST + station(9) + b"\x88\xb5" + bytes(46))
    assert len(dev.priv.port.backlog) == IPVLAN_QBACKLOG_LIMIT == 1000
    assert port.master.stats.rx_dropped == 3 + 1003  # the lower device has no handler for any
    port.clock.run_for(1000)
    assert (dev.stats.multicast, len(dev.priv.port.backlog)) == (1000, 0)
    port.wire.receive(BROADCAST + station(9) + b"\x88\xb5" + bytes(46))
    port.inner.del_link("one")  # what waits ends with the port


def test_it_follows_its_master(port):
    dev = port.add("one", "l3", "10.0.0.11/24")
    lower = port.master
    assert dev_set_mtu(dev, lower.mtu + 100) == 0  # a slave's may be anything
    dev_set_mtu(lower, 1000)
    assert dev.mtu == 1000
    assert dev_set_mac_address(dev, station(5)) == -errno.EOPNOTSUPP
    assert dev_set_mac_address(lower, station(6)) == 0
    assert dev.dev_addr == station(6)
    netif_carrier_off(lower)
    port.clock.run_for(1000)
    assert not netif_carrier_ok(dev)
    netif_carrier_on(lower)
    port.clock.run_for(1000)
    assert netif_carrier_ok(dev)
    port.inner.del_link("one")
    assert lower.rx_handler is None
    port.add("two", "l3s")
    other = port.host.netns_add("other", sysctl=QUIET6)
    assert len(port.host.nf_hooks[NF_INET_LOCAL_IN]) == 1
    port.host.set_netns("eth0", other)
    assert not port.host.nf_hooks[NF_INET_LOCAL_IN]
    assert len(other.nf_hooks[NF_INET_LOCAL_IN]) == 1
    unregister_netdevice(lower)
    assert "two" not in port.inner.dev_by_name
    assert not other.nf_hooks[NF_INET_LOCAL_IN]


def test_who_may_be_a_master(port):
    host = port.host
    with refused(errno.EINVAL):
        host.add_ipvlan("one", "lo")
    host.add_macvlan("m", "eth0")
    with refused(errno.EBUSY):
        host.add_ipvlan("one", "eth0")
    host.del_link("m")
    host.add_ipvlan("one", "eth0")
    with refused(errno.EEXIST):
        host.add_ipvlan("one", "eth0")
    with refused(errno.EBUSY):
        host.add_macvlan("m", "eth0")
    with refused(errno.EINVAL):  # IFF_NO_RX_HANDLER
        host.add_macvlan("m", "one")
    with refused(errno.EOPNOTSUPP):  # NETIF_F_VLAN_CHALLENGED
        host.add_vlan("one.5", "one", 5)
    with pytest.raises(ValueError, match="no mode 'l4'; there are: l2, l3, l3s"):
        host.add_ipvlan("two", "eth0", "l4")
    host.del_link("one")
    with refused(errno.EINVAL):
        host.add_ipvlan("one", "lo")
    assert port.master.rx_handler is None


def test_all_groups_are_the_masters_too(port):
    dev = port.add("one", "l2")
    dev_set_allmulti(dev, 1)
    assert port.master.flags & IFF_ALLMULTI
    dev_set_allmulti(dev, -1)
    assert not port.master.flags & IFF_ALLMULTI
