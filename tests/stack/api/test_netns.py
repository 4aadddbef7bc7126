"""Several network namespaces on one machine; interfaces that move between them."""

from __future__ import annotations

import errno
import struct
from contextlib import suppress

import pytest

from e1000emu import VirtualClock, pair
from e1000emu.errors import ArgumentError
from e1000emu.lab import add_nic, two_hosts
from stack import aio, proc
from stack.core.dev import alloc_netdev_mqs, dev_open, register_netdev
from stack.core.dev_netns import dev_change_net_namespace
from stack.core.ethtool import ethtool_get_drvinfo
from stack.core.netdevice import net_device_ops
from stack.core.sysctl_net_core import SysctlError
from stack.core.uapi import SO_TIMESTAMPNS
from stack.ethernet.eth import ether_setup
from stack.host import Host
from stack.socket import (
    AF_INET,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
    create_connection,
    create_server,
)
from stack.tools.trace import Tracer

SECOND = 1_000_000_000


def udp(net, addr=None, timeout=1.0):
    sock = net.socket(AF_INET, SOCK_DGRAM)
    sock.settimeout(timeout)
    if addr is not None:
        sock.bind(addr)
    return sock


def unreachable(fn, *args):
    with pytest.raises(OSError, match="Errno 101"):
        fn(*args)


def test_a_new_namespace_has_its_own_lo_which_is_down(a):
    blue = a.netns_add("blue")
    assert list(blue.dev_by_name) == ["lo"]
    assert blue.dev("lo") is not a.dev("lo")
    assert (blue.dev("lo").ifindex, a.dev("lo").ifindex) == (1, 1)
    with udp(blue) as sock:
        unreachable(sock.sendto, b"x", ("127.0.0.1", 9))
    blue.ifconfig("lo", up=True)
    with udp(blue, ("127.0.0.1", 9)) as sock:
        sock.sendto(b"x", ("127.0.0.1", 9))
        assert sock.recv(10) == b"x"
    with udp(a, ("127.0.0.1", 9)) as other, pytest.raises(TimeoutError):
        other.recv(10)


def test_namespaces_of_the_same_addresses_do_not_see_each_other():
    """Two wires, one network each, the same addresses on both: blue's peer is not the host's."""
    clock = VirtualClock()
    wires = [pair(clock), pair(clock)]
    a, b, c = (Host(name, clock=clock) for name in "abc")
    with a, b, c:
        add_nic(a, wires[0][0], wait=False)
        add_nic(a, wires[1][0], wait=False)
        add_nic(b, wires[0][1], addr="10.0.0.2/24", wait=False)
        add_nic(c, wires[1][1], mac=b"\x02\0\0\0\0\x0c", addr="10.0.0.2/24", wait=False)
        blue = a.netns_add("blue")
        a.set_netns("eth1", blue)
        for net, name in ((a, "eth0"), (blue, "eth1")):
            net.ifconfig(name, "10.0.0.1/24", up=True)
            assert net.wait_carrier(name)
        answers = {b"b": udp(b, ("", 7)), b"c": udp(c, ("", 7))}
        for net, who in ((a, b"b"), (blue, b"c")):
            with udp(net, ("10.0.0.1", 7)) as sock:  # the same port, twice
                sock.sendto(b"for " + who, ("10.0.0.2", 7))
                assert answers[who].recv(10) == b"for " + who
                answers[who].sendto(who, ("10.0.0.1", 7))
                assert sock.recv(10) == who
        # each has its own neighbour, counters and routes
        assert [n.ha for n in a.arp_tbl] != [n.ha for n in blue.arp_tbl]
        assert (a.mib.udp.OutDatagrams, blue.mib.udp.OutDatagrams) == (1, 1)
        assert a.fib is not blue.fib


def test_tcp_listeners_of_one_port_in_two_namespaces(a):
    blue = a.netns_add("blue")
    blue.ifconfig("lo", up=True)
    for net in (a, blue):
        with net.socket(AF_INET, SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 80))
            listener.listen()
            with net.socket(AF_INET, SOCK_STREAM) as client:
                client.connect(("127.0.0.1", 80))
                server, _peer = listener.accept()
                client.sendall(net.name.encode())
                assert server.recv(10) == net.name.encode()
                server.close()
        with net.socket(AF_INET, SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.1", 80))


def test_an_interface_moves_without_addresses_routes_and_neighbours(a, b):
    dev = a.dev("eth0")
    a.route_add("default", via="10.0.0.2")
    with udp(a) as sock, udp(b, ("", 7)) as peer:
        sock.sendto(b"x", ("10.0.0.2", 7))
        assert peer.recv(10) == b"x"
    sent, mac, mtu = dev.stats.tx_packets, dev.dev_addr, dev.mtu
    assert len(list(a.arp_tbl)) == 1
    blue = a.netns_add("blue")
    assert a.set_netns("eth0", blue) is dev
    assert dev.net is blue
    assert blue.dev("eth0") is dev
    assert "eth0" not in a.dev_by_name
    assert not list(a.arp_tbl)
    with pytest.raises(OSError, match="no interface"):
        a.dev("eth0")
    with udp(a) as sock:
        unreachable(sock.sendto, b"x", ("10.0.0.2", 7))
    assert not dev.ip_ptr.ifa_list
    assert (dev.stats.tx_packets, dev.dev_addr, dev.mtu) == (sent, mac, mtu)
    blue.ifconfig("eth0", "10.0.0.1/24", up=True)
    assert blue.wait_carrier("eth0")
    with udp(blue) as sock, udp(b, ("", 7)) as peer:
        sock.sendto(b"y", ("10.0.0.2", 7))
        assert peer.recv(10) == b"y"
    # and back
    blue.set_netns("eth0", a)
    a.ifconfig("eth0", "10.0.0.1/24", up=True)
    assert a.wait_carrier("eth0")
    with udp(a) as sock, udp(b, ("", 7)) as peer:
        sock.sendto(b"z", ("10.0.0.2", 7))
        assert peer.recv(10) == b"z"


def test_an_interface_moves_while_traffic_flows(a, b):
    """Datagrams and a stream are under way; what is queued goes, what is connected finds no way."""
    blue = a.netns_add("blue")
    with a.socket(AF_INET, SOCK_STREAM) as client, b.socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("", 80))
        listener.listen()
        client.connect(("10.0.0.2", 80))
        server, _peer = listener.accept()
        connected = udp(a)
        connected.connect(("10.0.0.2", 9))
        client.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                client.send(bytes(65536))
                connected.send(bytes(1000))
        a.set_netns("eth0", blue)
        unreachable(connected.send, b"x")
        b.clock.run_for(5 * SECOND)
        blue.ifconfig("eth0", "10.0.0.1/24", up=True)
        assert blue.wait_carrier("eth0")
        # The stream's segments arrive in blue, where nobody knows it: the peer is told.
        server.setblocking(True)
        server.settimeout(300)
        server.sendall(b"still there?")
        a.clock.run_for(SECOND)
        with pytest.raises(ConnectionResetError):
            server.sendall(b"x")
        connected.close()
    assert blue.mib.tcp.OutRsts >= 1


def test_options_that_ask_for_the_wall_time_work_in_every_namespace(a):
    blue = a.netns_add("blue")
    blue.ifconfig("lo", up=True)
    with udp(blue, ("127.0.0.1", 9)) as sock:
        sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.sendto(b"x", ("127.0.0.1", 9))
        _data, cmsgs, _flags, _sender = sock.recvmsg(10, 100)
        assert cmsgs[0][:2] == (SOL_SOCKET, SO_TIMESTAMPNS)
        sec, nsec = struct.unpack("qq", cmsgs[0][2])
        assert abs(sec * SECOND + nsec - a.realtime_ns()) < SECOND


@pytest.mark.uncompiled
def test_the_faces_of_a_host_take_a_namespace(a, b):
    """asyncio, servers of one line, the texts of /proc/net and a trace of a moved interface."""
    blue = a.netns_add("blue")
    a.set_netns("eth0", blue)
    blue.ifconfig("eth0", "10.0.0.1/24", up=True)
    assert blue.wait_carrier("eth0")

    async def main():
        async def serve(reader, writer):
            writer.write(await reader.read(10))
            writer.close()

        await aio.start_server(blue, serve, "10.0.0.1", 80)
        reader, writer = await aio.open_connection(b, "10.0.0.1", 80)
        writer.write(b"hello")
        return await reader.read(10)

    assert aio.run(main(), clock=a.clock) == b"hello"
    with create_server(blue, ("10.0.0.1", 81)) as server:
        client = create_connection(b, ("10.0.0.1", 81))
        conn = server.accept()[0]
        with client, conn, Tracer() as trace:
            client.sendall(b"x")
            assert conn.recv(1) == b"x"
        assert {"e1000_intr", "tcp_v4_rcv", "sock_def_readable"} <= set(trace.names())
        assert "0100000A:0051" in proc.read(blue, "tcp")
        assert "0100000A:0051" not in proc.read(a, "tcp")
    assert "eth0:" in proc.read(blue, "dev")
    assert "eth0:" not in proc.read(a, "dev")
    assert ethtool_get_drvinfo(blue.dev("eth0")).driver == "e1000"


def test_names_indexes_and_machines(a, b):
    add_nic(a, pair(a.clock)[0], wait=False)
    blue, red = a.netns_add("blue"), a.netns_add("red")
    with pytest.raises(OSError, match="already"):
        a.netns_add("blue")
    assert a.netns("red") is red
    with pytest.raises(OSError, match="no namespace 'green'; there are: a, blue, red"):
        a.netns("green")
    with pytest.raises(OSError, match="lo: netns blue") as caught:
        a.set_netns("lo", blue)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="eth0: netns b") as caught:
        a.set_netns("eth0", b)
    assert caught.value.errno == errno.EXDEV
    first, second = a.dev("eth0"), a.dev("eth1")
    a.set_netns("eth0", blue)
    assert first.ifindex == 2
    assert dev_change_net_namespace(first, blue) == 0  # is there
    third = add_nic(a, pair(a.clock)[0], wait=False)
    assert a.dev("eth0") is not first  # the name was free again
    assert len(a.nics) == 3
    assert third in a.nics.values()
    with pytest.raises(OSError, match="eth0: netns blue") as caught:
        a.set_netns("eth0", blue)
    assert caught.value.errno == errno.EEXIST
    moved = a.set_netns("eth0", blue, "eth%d")
    assert (moved.name, moved.ifindex) == ("eth1", 4)
    a.set_netns("eth1", red)
    assert (second.name, second.ifindex) == ("eth1", 3)
    red.set_netns("eth1", blue, "wan0")
    assert set(blue.dev_by_name) == {"lo", "eth0", "eth1", "wan0"}
    assert {dev.ifindex for dev in blue.dev_base_head} == {1, 2, 3, 4}


def test_an_index_that_is_taken_is_given_anew(a):
    blue = a.netns_add("blue")
    dummy = alloc_netdev_mqs(blue, None, "dummy%d", ether_setup)
    assert register_netdev(dummy) == 0
    assert dummy.ifindex == 2
    dev = a.set_netns("eth0", blue)
    assert dev.ifindex == 3
    assert blue.dev_by_index[3] is dev


def test_a_namespace_that_ends_gives_hardware_back_and_ends_the_rest(a, b):
    add_nic(a, pair(a.clock)[0], wait=False)
    blue = a.netns_add("blue")
    dummy = alloc_netdev_mqs(blue, None, "dummy%d", ether_setup)
    dummy.netdev_ops = net_device_ops(ndo_start_xmit=lambda skb, dev: 0)
    dummy.virtual = True
    assert register_netdev(dummy) == 0
    assert dev_open(dummy) == 0
    first = a.set_netns("eth0", blue)
    second = a.set_netns("eth1", blue)
    third = add_nic(a, pair(a.clock)[0], wait=False)  # takes the name eth0
    blue.ifconfig("eth0", "10.0.0.1/24", up=True)
    assert blue.wait_carrier("eth0")
    with blue.socket(AF_INET, SOCK_STREAM) as client, b.socket(AF_INET, SOCK_STREAM) as listener:
        listener.bind(("", 80))
        listener.listen()
        client.connect(("10.0.0.2", 80))
        blue.close()
        blue.close()
        assert first.net is second.net is a
        assert (first.name, second.name) == ("dev0", "eth1")
        assert not first.flags & 1
        assert dummy.reg_state != 1
        assert a.dev("dev0") is first
        assert third is not None
        assert blue not in a.machine.net_namespace_list
        with pytest.raises(OSError, match="no namespace"):
            a.netns("blue")
    a.ifconfig("dev0", "10.0.0.1/24", up=True)
    assert a.wait_carrier("dev0")
    with udp(a) as sock, udp(b, ("", 7)) as peer:
        sock.sendto(b"x", ("10.0.0.2", 7))
        assert peer.recv(10) == b"x"


def test_the_host_ends_with_all_its_namespaces():
    clock = VirtualClock()
    a, b = two_hosts(clock)
    before = a.ram.allocated_bytes
    blue = a.netns_add("blue")
    a.set_netns("eth0", blue)
    blue.ifconfig("eth0", "10.0.0.1/24", up=True)
    assert blue.wait_carrier("eth0")
    sock = udp(blue, ("", 9))
    with udp(b) as peer:
        peer.sendto(b"x", ("10.0.0.1", 9))
        clock.run_for(SECOND)
    a.close()
    assert blue.closed
    assert a.machine.net_namespace_list == []
    assert not blue.fdtable.fd
    with pytest.raises(OSError, match="Errno 9"):
        sock.recv(1)
    assert a.ram.allocated_bytes < before
    b.close()
    clock.run_until_idle()


def test_sysctls_are_a_namespaces_own_except_those_of_the_machine(a):
    blue = a.netns_add("blue", sysctl={"tcp_sack": 0})
    assert (a.sysctl.tcp_sack, blue.sysctl.tcp_sack) == (1, 0)
    blue.sysctl.ip_forward = 1
    assert a.sysctl.ip_forward == 0
    a.sysctl.netdev_budget = 10
    assert a.machine.net_hotdata.netdev_budget == 10
    for name in ("netdev_budget", "net.core.dev_weight", "tcp_mem"):
        with pytest.raises(SysctlError, match="whole machine"):
            blue.sysctl[name] = 1
        with pytest.raises(SysctlError, match="whole machine"):
            blue.sysctl[name]
    with pytest.raises(SysctlError, match="whole machine"):
        a.netns_add("red", sysctl={"tcp_mem": "1 2 3"})
    assert "netdev_budget" not in dict(blue.sysctl.items())
    assert "netdev_budget" in dict(a.sysctl.items())
    assert blue.prot_mem is a.prot_mem  # as in Linux: memory is the machine's


@pytest.mark.parametrize(
    ("call", "prefix", "words", "told"),
    [
        ("route_add", "10.9.0.0/16", {"gateway": "10.0.0.2"}, "IPv4: .*; write via='10.0.0.2'"),
        ("route_add", "fd00::/8", {"gateway": "fe80::1"}, "IPv6: .*; write via='fe80::1'"),
        ("route_add", "10.9.0.0/16", {"device": "lo"}, "device='lo'; write dev='lo'"),
        ("route_add", "10.9.0.0/16", {"pref": "low"}, "IPv4: no argument pref=.low.; there are"),
        ("route_add", "fd00::/8", {"tos": 3}, "IPv6: no argument tos=3; there are: advmss, "),
        ("route_del", "10.9.0.0/16", {"gw": "10.0.0.2"}, "route_del of IPv4: no argument gw="),
        ("route_add", "10.9.0.0/16", {"dev": "lo", "table": 0}, "table=0 is out of range"),
        ("route_del", "10.9.0.0/16", {"table": 1 << 32}, "table=4294967296 is out of range"),
        ("route_add", "fd00::/8", {"dev": "lo", "table": -1}, "table=-1 is out of range"),
        ("route_del", "fd00::/8", {"table": "main"}, "table='main' is a str, not an int"),
    ],
)
def test_a_wrong_word_for_a_route_is_told_the_right_one(call, prefix, words, told):
    with Host("h", clock=VirtualClock()) as host:
        host.ifconfig("lo", up=True)
        with pytest.raises(ArgumentError, match=told):
            getattr(host, call)(prefix, **words)


@pytest.mark.parametrize(
    ("prefix", "tables"),
    [("10.9.0.0/16", (100, 253, 254, 255, (1 << 32) - 1)), ("fd00::/8", (100, 254, 255))],
)
def test_tables_take_routes(prefix, tables):
    with Host("h", clock=VirtualClock()) as host:
        host.ifconfig("lo", up=True)
        for table in tables:
            host.route_add(prefix, dev="lo", table=table)
            host.route_del(prefix, table=table)


def test_a_wrong_word_for_a_nic_is_told_the_right_ones():
    with pytest.raises(ArgumentError, match="no argument colour='red'; there are: autoneg_ns, bus"):
        two_hosts(colour="red")


def test_disciplines_stay_behind(a):
    a.qdisc_add("eth0", "tbf", rate=125_000, burst=3000, limit=10_000)
    a.qdisc_add("eth0", "clsact", parent="ingress")
    blue = a.netns_add("blue")
    dev = a.set_netns("eth0", blue)
    assert blue.qdisc_show("eth0") == []
    assert dev_open(dev) == 0
    assert [q["kind"] for q in blue.qdisc_show("eth0")] == ["pfifo_fast"]
