"""VRFs: tables of their own, what sockets of which device get, groups, taps, leaked routes.

The kernel of the tests' machine has no VRF, so that Linux's documentation of it is the judge
(Documentation/networking/vrf.rst, ip-sysctl.rst), with a second host and scapy's frames.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack.core.netdevice import ETH_P_ALL, ETH_P_IP, ETH_P_IPV6
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_PRE_ROUTING,
    nf_register_net_hook,
)
from stack.core.rtnetlink import rtnl_delete_link
from stack.host import Host
from stack.inet.af_ops import inet_ehash_entries
from stack.ipv4.fib import fib_dump
from stack.socket import (
    AF_INET,
    AF_INET6,
    AF_PACKET,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
)
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.stack.links.switch import refused

V4, V6 = AF_INET, AF_INET6
ADDRESSES = {V4: ("10.0.0.1", "10.0.0.2"), V6: ("2001:db8::1", "2001:db8::2")}
RED = 10
SO_BINDTODEVICE = 25
IP_PKTINFO, IPPROTO_IP = 8, 0
IPPROTO_IPV6, IPV6_MULTICAST_IF, IPV6_PKTINFO = 41, 17, 50


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts on one wire; eth0 of the first is a port of its VRF `red`, of table 10."""
    a, b = two_hosts(VirtualClock(), sysctl=QUIET6)
    a.add_vrf("red", RED)
    a.set_master("eth0", "red")
    for host, addr in zip((a, b), ADDRESSES[V6], strict=True):
        host.ifconfig("eth0", f"{addr}/64")
    b.clock.run_for(3_000_000_000)  # addresses are used after duplicate address detection
    yield a, b
    assert_no_leak(a, b)


def opened(
    host: Host, family: int, kind: int = SOCK_DGRAM, proto: int = 0, device: str = ""
) -> Any:
    """A socket, in a VRF or not, that gives up after 2 s."""
    sock = host.socket(family, kind, proto)
    sock.settimeout(2)
    if device:
        sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, device.encode() + b"\0")
    return sock


def server(host: Host, family: int, port: int, device: str = "") -> Any:
    """A listener of any address."""
    sock = opened(host, family, SOCK_STREAM, device=device)
    sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    sock.bind(("", port))
    sock.listen(5)
    return sock


def device_of(sock: Any) -> str:
    """What a socket is bound to."""
    return bytes(sock.getsockopt(SOL_SOCKET, SO_BINDTODEVICE, 16)).rstrip(b"\0").decode()


def table(host: Host, number: int) -> set[tuple[str, int]]:
    """The networks of a table, and their lengths."""
    rows = fib_dump(host, number)
    return {(".".join(map(str, row["dst"].to_bytes(4, "big"))), row["plen"]) for row in rows}


OWN = {("10.0.0.0", 24), ("10.0.0.1", 32), ("10.0.0.255", 32)}


def test_routes_of_a_port_move_to_the_table_and_back(a):
    assert table(a, RED) == OWN
    assert not table(a, 254)
    assert not table(a, 255) & OWN
    a.set_master("eth0", None)
    assert not table(a, RED)
    assert table(a, 254) == {("10.0.0.0", 24)}
    assert table(a, 255) >= OWN - {("10.0.0.0", 24)}
    a.set_master("eth0", "red")
    a.ifconfig("eth0", "10.5.0.1/16")
    assert ("10.5.0.0", 16) in table(a, RED)
    a.addr_del("eth0", "10.5.0.1/16")
    assert table(a, RED) == OWN


def test_a_port_forgets_its_neighbours_and_its_addresses_of_ipv6(a, b):
    with opened(b, V4) as tx, opened(a, V4, device="red") as rx:
        rx.bind(("10.0.0.1", 9))
        tx.sendto(b"x", ("10.0.0.1", 9))
        rx.recv(9)
        rx.sendto(b"x", ("10.0.0.2", 9))
    assert a.arp_tbl.hash
    assert [ifa.addr & 0xF for ifa in a.dev("eth0").ip6_ptr.addr_list] == [1]
    a.set_master("eth0", None)
    assert not a.arp_tbl.hash
    assert not a.dev("eth0").ip6_ptr.addr_list  # as with every interface that goes down
    assert a.dev("red").ip6_ptr.addr_list == []  # a VRF has no link


def test_the_first_vrf_adds_the_rules_and_nobody_takes_them_back(a):
    rules = a.fib.ops, a.ipv6.fib6.ops
    for ops in rules:
        assert [(r.pref, r.l3mdev, r.proto) for r in ops.rules if r.l3mdev] == [(1000, 1, 2)]
    a.add_vrf("blue", 20)
    assert not rtnl_delete_link(a.dev("red"))
    assert not rtnl_delete_link(a.dev("blue"))
    for ops in rules:
        assert sum(r.l3mdev for r in ops.rules) == 1
    assert a.dev("eth0").master is None
    assert table(a, 254) == {("10.0.0.0", 24)}


def test_what_cannot_be_a_port(a):
    a.add_vrf("blue", 20)
    with refused(errno.EOPNOTSUPP):
        a.set_master("lo", "red")
    with refused(errno.EINVAL):
        a.set_master("blue", "red")
    a.set_master("eth0", "blue")  # it moves
    assert a.dev("eth0").master is a.dev("blue")
    a.add_bridge("br0")
    with refused(errno.EINVAL):
        a.set_master("red", "br0")
    with refused(errno.EEXIST):
        a.add_vrf("red", 30)
    a.set_master("br0", "red")  # a bridge can


@pytest.mark.parametrize("family", [V4, V6])
def test_datagrams_reach_sockets_of_the_vrf_only(a, b, family):
    own, far = ADDRESSES[family]
    with opened(a, family, device="red") as vrf, opened(b, family) as peer:
        vrf.bind((own, 9))
        peer.sendto(b"in", (own, 9))
        data, whom = vrf.recvfrom(9)
        assert (data, whom[0]) == (b"in", far)
        vrf.sendto(b"out", whom)
        assert peer.recvfrom(9)[0] == b"out"
    with opened(a, family) as plain:
        with refused(errno.EADDRNOTAVAIL):
            plain.bind((own, 9))
        with refused(errno.ENETUNREACH):
            plain.sendto(b"x", (far, 9))
    with opened(a, family) as plain, opened(a, family, device="eth0") as port:
        plain.bind(("", 9))
        with opened(b, family) as peer:
            peer.connect((own, 9))
            peer.send(b"x")
            with refused(errno.ECONNREFUSED):  # udp_l3mdev_accept is 0
                peer.recv(9)
            a.sysctl.udp_l3mdev_accept = 1
            peer.send(b"y")
            assert plain.recv(9) == b"y"
            a.sysctl.udp_l3mdev_accept = 0
        port.bind((own, 10))
        with opened(b, family) as peer:
            peer.sendto(b"to the port", (own, 10))
            assert port.recv(99) == b"to the port"


@pytest.mark.parametrize("family", [V4, V6])
def test_connections_of_a_vrf(a, b, family):
    own, far = ADDRESSES[family]
    with server(a, family, 80, "red") as listener, opened(b, family, SOCK_STREAM) as peer:
        peer.connect((own, 80))
        child, _ = listener.accept()
        assert device_of(child) == "red"
        peer.sendall(b"x" * 50_000)
        with child:
            child.settimeout(2)
            left = 50_000
            while left:
                left -= len(child.recv(4096))
    with server(b, family, 81) as listener, opened(a, family, SOCK_STREAM, device="red") as sock:
        sock.connect((far, 81))
        assert listener.accept()[1][0] == own
    with opened(a, family, SOCK_STREAM) as sock, refused(errno.ENETUNREACH):
        sock.connect((far, 81))


@pytest.mark.parametrize("family", [V4, V6])
def test_listeners_without_a_device(a, b, family):
    """Sysctl tcp_l3mdev_accept: a VRF may share a port with the rest, or the rest serves it."""
    own, _ = ADDRESSES[family]
    with server(a, family, 80) as plain, server(a, family, 80, "red") as red:
        with opened(b, family, SOCK_STREAM) as peer:
            peer.connect((own, 80))
            child, _ = red.accept()
            child.close()
        red.close()
        with opened(b, family, SOCK_STREAM) as peer, refused(errno.ECONNREFUSED):
            peer.connect((own, 80))
        a.sysctl.tcp_l3mdev_accept = 1
        with opened(b, family, SOCK_STREAM) as peer:
            peer.connect((own, 80))
            child, _ = plain.accept()
            assert device_of(child) == "red"
            child.close()


@pytest.mark.parametrize("family", [V4, V6])
def test_the_vrf_is_the_loopback_device_of_its_addresses(a, family):
    own, _ = ADDRESSES[family]
    before = a.dev("lo").stats.rx_packets
    with server(a, family, 80, "red") as listener, opened(a, family, SOCK_STREAM) as sock:
        with refused(errno.ENETUNREACH):
            sock.connect((own, 80))
        with opened(a, family, SOCK_STREAM, device="red") as sock2:
            sock2.connect((own, 80))
            child, whom = listener.accept()
            assert whom[0] == own
            sock2.sendall(b"self")
            with child:
                assert child.recv(9) == b"self"
    red = a.dev("red").stats
    assert red.tx_packets == red.rx_packets > 3
    assert (red.tx_dropped, red.tx_errors, a.dev("lo").stats.rx_packets) == (0, 0, before)


def echo(family: int) -> bytes:
    """An echo request, for IPv4 with its checksum."""
    if family == V6:
        return struct.pack("!BBHHH", 128, 0, 0, 1, 1)
    return struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)


@pytest.mark.parametrize(("family", "proto"), [(V4, IPPROTO_ICMP), (V6, IPPROTO_ICMPV6)])
def test_echo_requests_are_answered_in_the_vrf(a, b, family, proto):
    own, far = ADDRESSES[family]
    with opened(b, family, SOCK_RAW, proto) as peer:
        peer.sendto(echo(family), (own, 0))
        wanted = 129 if family == V6 else 0
        while True:
            data, whom = peer.recvfrom(99)
            if data[20 if family == V4 else 0] == wanted:
                break
        assert whom[0] == own
    vrf, any_ = (opened(a, family, SOCK_RAW, proto, name) for name in ("red", ""))
    with vrf, any_:
        vrf.sendto(echo(family), (far, 0))
        assert vrf.recvfrom(99)[1][0] == far
        assert any_.recvfrom(99)[1][0] == far  # raw_l3mdev_accept is 1
        a.sysctl.raw_l3mdev_accept = 0
        vrf.sendto(echo(family), (far, 0))
        assert vrf.recvfrom(99)[1][0] == far
        with pytest.raises(TimeoutError):
            any_.recvfrom(99)
    kind = SOCK_DGRAM
    with opened(a, family, kind, proto, "red") as ping:
        ping.sendto(echo(family), (far, 0))
        assert ping.recvfrom(99)[1][0] == far


def test_control_messages_name_the_port(a, b):
    with opened(a, V4, device="red") as vrf, opened(b, V4) as peer:
        vrf.setsockopt(IPPROTO_IP, IP_PKTINFO, 1)
        vrf.bind(("", 9))
        peer.sendto(b"x", ("10.0.0.1", 9))
        _, ((_, _, data),), _, _ = vrf.recvmsg(9, 99)
        assert struct.unpack("=i", data[:4]) == (a.dev("eth0").ifindex,)


def test_a_socket_of_the_vrf_may_name_its_ports(a, b):
    """IPV6_MULTICAST_IF, and IPV6_PKTINFO as an option and as a control message."""
    port = a.dev("eth0").ifindex
    info = bytes(16) + struct.pack("=i", port)
    with opened(a, V6, device="red") as vrf, opened(b, V6) as peer:
        peer.bind((ADDRESSES[V6][1], 9))
        vrf.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_IF, port)
        vrf.sendmsg([b"control"], [(IPPROTO_IPV6, IPV6_PKTINFO, info)], 0, (ADDRESSES[V6][1], 9))
        vrf.setsockopt(IPPROTO_IPV6, IPV6_PKTINFO, info)
        vrf.sendto(b"option", (ADDRESSES[V6][1], 9))
        assert [peer.recv(9), peer.recv(9)] == [b"control", b"option"]
        other = a.dev("lo").ifindex
        with refused(errno.EINVAL):
            vrf.setsockopt(IPPROTO_IPV6, IPV6_MULTICAST_IF, other)
        with refused(errno.EINVAL):
            vrf.setsockopt(IPPROTO_IPV6, IPV6_PKTINFO, bytes(16) + struct.pack("=i", other))


@pytest.mark.parametrize(("family", "proto"), [(V4, ETH_P_IP), (V6, ETH_P_IPV6)])
def test_taps_on_the_vrf_see_what_its_ports_carry(a, b, family, proto):
    own, far = ADDRESSES[family]
    with opened(a, AF_PACKET, SOCK_RAW) as tap, opened(a, family, device="red") as vrf:
        tap.bind(("red", ETH_P_ALL))
        vrf.bind((own, 9))
        with opened(b, family) as peer:
            peer.bind((far, 9))
            peer.sendto(b"to the VRF", (own, 9))
            vrf.recv(99)
            vrf.sendto(b"from the VRF", (far, 9))
            peer.recv(99)
        seen = [tap.recv(999) for _ in range(2)]
        assert [one.split(b"\0")[-1][-8:] for one in seen] == [b" the VRF"] * 2
        assert [int.from_bytes(one[12:14], "big") for one in seen] == [proto] * 2


@pytest.mark.parametrize("hook", [NF_INET_PRE_ROUTING, NF_INET_LOCAL_OUT])
def test_hooks_meet_packets_on_the_vrf_too(a, b, hook):
    devices, verdict = [], [NF_ACCEPT]

    def look(skb, state):
        dev = state.indev or state.outdev
        devices.append(dev.name)
        return verdict[0] if dev.name == "red" else NF_ACCEPT

    with opened(a, V4, device="red") as vrf, opened(b, V4) as peer:
        vrf.bind(("10.0.0.1", 9))
        peer.bind(("10.0.0.2", 9))
        nf_register_net_hook(a, hook, look)
        ways = ((peer, "10.0.0.1", vrf), (vrf, "10.0.0.2", peer))
        tx, addr, rx = ways[hook == NF_INET_LOCAL_OUT]
        tx.sendto(b"x", (addr, 9))
        assert rx.recv(9) == b"x"
        assert sorted(devices) == ["eth0", "red"]
        verdict[0] = NF_DROP
        try:
            tx.sendto(b"x", (addr, 9))
        except PermissionError:
            assert hook == NF_INET_LOCAL_OUT
        with pytest.raises(TimeoutError):
            rx.recv(9)


def test_a_route_to_the_vrf_leads_into_its_table(a, b):
    """Route leaking: another table's route over the VRF is looked up again in the VRF's."""
    a.route_add("10.0.0.2/32", dev="red")
    with opened(b, V4) as peer, opened(a, V4) as plain:
        peer.bind(("10.0.0.2", 9))
        plain.sendto(b"leaked", ("10.0.0.2", 9))
        assert peer.recvfrom(9)[0] == b"leaked"
    assert a.dev("red").stats.tx_packets == 1
    a.route_add("10.66.0.0/16", dev="red")
    a.route_add("default", rtype=7, table=RED)
    with opened(a, V4) as plain:
        plain.sendto(b"lost", ("10.66.0.1", 9))
    assert a.dev("red").stats.tx_dropped == 1


def test_a_default_route_that_ends_the_lookup(a):
    """Without a default route of the VRF the lookup goes on with the main table."""
    a.add_vrf("blue", 20)
    a.route_add("10.9.0.0/16", dev="red")
    with opened(a, V4, device="blue") as vrf:
        assert vrf.sendto(b"x", ("10.9.0.1", 9)) == 1
        a.route_add("default", rtype=7, metric=4278198272, table=20)
        with refused(errno.EHOSTUNREACH):
            vrf.sendto(b"x", ("10.9.0.1", 9))


def test_two_vrfs_have_the_same_addresses():
    a, b = two_hosts(VirtualClock(), sysctl=QUIET6)
    for number, name in ((10, "red"), (20, "blue")):
        a.add_vrf(name, number)
        a.add_veth(f"v{name}", f"p{name}", up=True)
        a.set_master(f"v{name}", name)
        a.ifconfig(f"v{name}", "10.1.0.1/24")
    with opened(a, V4, device="red") as red, opened(a, V4, device="blue") as blue:
        for sock, data in ((red, b"red"), (blue, b"blue")):
            sock.bind(("10.1.0.1", 9))
            sock.sendto(data, ("10.1.0.1", 9))
        assert (red.recv(9), blue.recv(9)) == (b"red", b"blue")
    assert_no_leak(a, b)


def test_groups_and_link_local_addresses_are_of_the_port(a, b):
    a.ifconfig("eth0", "fe80::1/64")
    b.ifconfig("eth0", "fe80::2/64")
    b.clock.run_for(3_000_000_000)
    far, near = b.dev("eth0").ifindex, a.dev("eth0").ifindex
    with opened(a, V6, device="red") as vrf, opened(b, V6) as peer:
        vrf.bind(("", 9))
        peer.bind(("", 9))
        peer.sendto(b"x", ("fe80::1", 9, 0, far))
        assert vrf.recvfrom(9)[0] == b"x"
        port = opened(a, V6, device="eth0")
        port.sendto(b"y", ("fe80::2", 9, 0, near))
        port.close()
        assert peer.recv(9) == b"y"
    with opened(a, V4, device="red") as vrf, opened(b, V4) as peer:
        group = bytes((224, 1, 2, 3))
        vrf.setsockopt(0, 35, group + bytes(4) + struct.pack("=i", near))
        vrf.bind(("224.1.2.3", 9))
        peer.bind(("10.0.0.2", 9))
        peer.sendto(b"g", ("224.1.2.3", 9))
        assert vrf.recv(9) == b"g"


def test_rules_may_name_a_vrf_for_its_ports(hosts):
    """A rule's iif or oif that is a VRF means what goes in or out by its ports."""
    from stack.core.fib_rules import fib_rule, fib_rule_next
    from stack.inet.flow import flowi

    a, _ = hosts
    ops = a.fib.ops
    ops.rest = [fib_rule(5, table=30, iifname="red")]
    eth0, red = a.dev("eth0").ifindex, a.dev("red").ifindex
    assert fib_rule_next(a, ops, 0, flowi(V4), eth0) == 0
    assert fib_rule_next(a, ops, 0, flowi(V4), 1) == -1
    assert fib_rule_next(a, ops, 0, flowi(V4, flowi_oif=red), 1) == 0
    ops.rest = [fib_rule(5, table=30, oifname="red")]
    assert fib_rule_next(a, ops, 0, flowi(V4, flowi_oif=eth0), 1) == 0
    ops.rest = [fib_rule(5, table=30, oifname="eth0")]
    assert fib_rule_next(a, ops, 0, flowi(V4, flowi_oif=eth0), 1) == 0
    assert fib_rule_next(a, ops, 0, flowi(V4, flowi_oif=red), 1) == -1


@pytest.fixture
def twins() -> Iterator[tuple[Host, dict[str, Any]]]:
    """A host with two VRFs, each with a veth to a namespace; addresses are the same in both."""
    a, b = two_hosts(VirtualClock(), sysctl=QUIET6)
    spaces = {}
    for number, name in ((10, "red"), (20, "blue")):
        net = spaces[name] = a.netns_add(name, sysctl=QUIET6)
        a.add_vrf(name, number)
        a.add_veth(f"v{name}", "p", up=True)
        a.set_netns("p", net)
        a.set_master(f"v{name}", name)
        for host, dev, last in ((a, f"v{name}", 1), (net, "p", 2)):
            host.ifconfig(dev, f"10.1.0.{last}/24", up=True)
            host.ifconfig(dev, f"2001:db8:1::{last}/64")
            host.ifconfig(dev, f"fe80::{last}/64")
    a.clock.run_for(3_000_000_000)
    yield a, spaces
    assert_no_leak(a, b)


@pytest.mark.parametrize("family", [V4, V6])
@pytest.mark.parametrize("active", [False, True])
def test_connections_of_two_vrfs_have_the_same_four_tuple(twins, family, active):
    a, spaces = twins
    here, there = ("10.1.0.1", "10.1.0.2") if family == V4 else ("2001:db8:1::1", "2001:db8:1::2")
    pairs = []
    for name, net in spaces.items():
        lis = server(net, family, 80) if active else server(a, family, 80, name)
        host, device = (a, name) if active else (net, "")
        tx = opened(host, family, SOCK_STREAM, device=device)
        tx.bind((here if active else there, 4000))
        tx.connect((there if active else here, 80))
        rx = lis.accept()[0]
        rx.settimeout(2)
        lis.close()
        pairs.append((name, tx, rx) if active else (name, rx, tx))
    hashinfo = a.tcp_hashinfo
    assert sum(map(len, hashinfo.twins.values())) == 1
    assert len(inet_ehash_entries(hashinfo)) == 2
    for _ in range(2):
        for name, ours, theirs in pairs:
            ours.send(name.encode())
            assert theirs.recv(9) == name.encode()
            theirs.send(name.upper().encode())
            assert ours.recv(9) == name.upper().encode()
    # The first ends, TIME_WAIT and all; the other one goes on.
    (_, first, peer), (name, ours, theirs) = pairs
    first.close()
    peer.close()
    for _ in range(2):
        theirs.send(b"still")
        assert ours.recv(9) == b"still"
        a.clock.run_for(70_000_000_000)
    assert not hashinfo.twins
    assert [sk.sk_bound_dev_if for sk in inet_ehash_entries(hashinfo)] == [a.dev(name).ifindex]
    ours.close()
    theirs.close()


def test_a_four_tuple_is_taken_within_a_vrf(twins):
    a, spaces = twins
    socks = []
    with server(spaces["red"], V4, 80), server(spaces["blue"], V4, 80):
        for device in ("red", "red", "blue", "blue"):
            sock = opened(a, V4, SOCK_STREAM, device=device)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.bind(("10.1.0.1", 4000))
            socks.append(sock)
        for sock in socks[::2]:
            sock.connect(("10.1.0.2", 80))
        for sock in socks[1::2]:
            with refused(errno.EADDRNOTAVAIL):
                sock.connect(("10.1.0.2", 80))
        for sock in socks:
            sock.close()


def test_strict_mode_gives_each_vrf_a_table_of_its_own(a):
    """net.vrf.strict_mode (Documentation/networking/vrf.rst): one VRF to a table."""
    other = a.netns_add("other")
    a.add_vrf("blue", RED)
    with refused(errno.EBUSY):
        a.sysctl["net.vrf.strict_mode"] = 1
    assert a.sysctl.strict_mode == 0
    a.del_link("blue")
    a.sysctl["net.vrf.strict_mode"] = 1
    with refused(errno.EBUSY):
        a.add_vrf("blue", RED)
    assert "blue" not in a.dev_by_name
    a.add_vrf("blue", 20)
    for name in ("one", "two"):  # each namespace has its own
        other.add_vrf(name, RED)
    a.sysctl["net.vrf.strict_mode"] = 0
    a.add_vrf("green", RED)
