"""A host: its parts, its administration, its end."""

from __future__ import annotations

import errno
import math

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from fastpath.errors import ArgumentError
from stack.core.netdevice import IFF_UP
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM


def test_a_bare_host_has_loopback_and_ipv4():
    with Host(name="solo", clock=VirtualClock()) as host:
        assert list(host.dev_by_name) == ["lo"]
        lo = host.dev("lo")
        assert lo.flags & IFF_UP
        assert [(i.ifa_local, i.ifa_prefixlen) for i in lo.ip_ptr.ifa_list] == [(0x7F000001, 8)]
        assert host.socket(AF_INET, SOCK_DGRAM).host_fd == 3
        assert "solo" in repr(host)


def test_unknown_interfaces_are_named_with_those_there_are():
    with Host(clock=VirtualClock()) as host:
        with pytest.raises(OSError, match="there are: lo") as info:
            host.ifconfig("eth7", "10.0.0.1/24")
        assert info.value.errno == errno.ENODEV


def test_ifconfig_refuses_nonsense():
    with Host(clock=VirtualClock()) as host:
        with pytest.raises(ValueError, match="netmask"):
            host.ifconfig("lo", "10.0.0.1/99")
        with pytest.raises(OSError, match="mtu"):
            host.ifconfig("lo", mtu=-1)
        with pytest.raises(OSError, match="lo"):
            host.ifconfig("lo", "127.0.0.1/8")


@pytest.mark.parametrize(
    ("number", "create"),
    [
        (errno.EINVAL, lambda host: host.add_veth("v0", "v1", mtu=100_000)),
        (errno.EINVAL, lambda host: host.add_tunnel("t0", "ipip", remote="10.0.0.1", mtu=1 << 20)),
        (errno.EINVAL, lambda host: host.add_tap("tap0", pair(host.clock)[0], mtu=100_000)),
        (errno.EINVAL, lambda host: host.add_macvlan("m0", "low", mtu=67)),
        (errno.EINVAL, lambda host: host.add_ipvlan("i0", "low", mtu=67)),
        (errno.EINVAL, lambda host: host.add_ipvlan("i0", "low", mtu=65_536)),
        (errno.ENETDOWN, lambda host: host.add_vlan("low.5", "low", 5, up=True)),
        (errno.ERANGE, lambda host: host.add_bridge("br0", ageing_time=math.inf)),
        (errno.ERANGE, lambda host: host.add_bridge("br0", hello_time=math.inf)),
        (None, lambda host: host.add_bridge("br0", fdb_max_learned=-1)),
        (None, lambda host: host.add_vlan("low.5", "low", 5, mtu="big")),
    ],
)
def test_a_device_that_cannot_be_configured_is_deleted(number, create):
    with Host(clock=VirtualClock()) as host:
        host.add_dummy("low")
        with pytest.raises((OSError, ArgumentError)) as info:
            create(host)
        assert getattr(info.value, "errno", None) == number
        assert list(host.dev_by_name) == ["lo", "low"]


def test_addresses_come_and_go(a: Host, b: Host):
    with a, b:
        a.ifconfig("eth0", "10.1.0.1/16")
        b.ifconfig("eth0", "10.1.0.2/16")
        with a.socket(AF_INET, SOCK_DGRAM) as one, b.socket(AF_INET, SOCK_DGRAM) as two:
            two.bind(("10.1.0.2", 9))
            one.sendto(b"second net", ("10.1.0.2", 9))
            data, addr = two.recvfrom(100)
            assert (data, addr[0]) == (b"second net", "10.1.0.1")
        a.addr_del("eth0", "10.1.0.1/16")
        with pytest.raises(OSError, match="eth0"):
            a.addr_del("eth0", "10.1.0.1/16")
        with (
            a.socket(AF_INET, SOCK_DGRAM) as one,
            pytest.raises(OSError, match="Network is unreachable"),
        ):
            one.sendto(b"x", ("10.1.0.2", 9))


def test_down_and_up_again(a: Host, b: Host):
    with a, b:
        a.ifconfig("eth0", up=False)
        with a.socket(AF_INET, SOCK_DGRAM) as one:
            with pytest.raises(OSError, match="Network is unreachable"):
                one.sendto(b"x", ("10.0.0.2", 9))
            a.ifconfig("eth0", up=True)
            assert a.wait_carrier("eth0")
            with b.socket(AF_INET, SOCK_DGRAM) as two:
                two.bind(("", 9))
                one.sendto(b"back", ("10.0.0.2", 9))
                assert two.recv(10) == b"back"


def test_a_router_between_two_networks():
    clock = VirtualClock()
    left, router, right = (Host(name=n, clock=clock) for n in ("left", "router", "right"))
    l0, l1 = pair(clock)
    r0, r1 = pair(clock)
    add_nic(left, l0, addr="10.1.0.2/24", mac=b"\x52\x54\x00\x00\x00\x01", wait=False)
    add_nic(router, l1, addr="10.1.0.1/24", mac=b"\x52\x54\x00\x00\x00\x02", wait=False)
    add_nic(router, r0, addr="10.2.0.1/24", mac=b"\x52\x54\x00\x00\x00\x03", wait=False)
    add_nic(right, r1, addr="10.2.0.2/24", mac=b"\x52\x54\x00\x00\x00\x04", wait=False)
    for host, name in ((left, "eth0"), (router, "eth0"), (router, "eth1"), (right, "eth0")):
        assert host.wait_carrier(name)
    router.sysctl.ip_forward = 1
    left.route_add("default", via="10.1.0.1")
    right.route_add("default", via="10.2.0.1")
    with left.socket(AF_INET, SOCK_DGRAM) as one, right.socket(AF_INET, SOCK_DGRAM) as two:
        two.bind(("", 9))
        one.sendto(b"through", ("10.2.0.2", 9))
        data, addr = two.recvfrom(100)
        assert (data, addr[0]) == (b"through", "10.1.0.2")
        two.sendto(b"and back", addr)
        assert one.recv(100) == b"and back"
    assert router.mib.ip.ForwDatagrams == 2
    left.route_del("default", via="10.1.0.1")
    for host in (left, router, right):
        host.close()
        assert host.skb_small.in_use == 0


def test_sysctls_given_at_birth_win():
    with Host(clock=VirtualClock(), sysctl={"ip_default_ttl": 33, "tcp_timestamps": 0}) as host:
        assert host.sysctl.ip_default_ttl == 33
        assert host.sysctl.tcp_timestamps == 0
        assert ("ip_default_ttl", 33) in host.sysctl.items()


def test_close_calls_its_hooks_once_in_reverse_order():
    host = Host(clock=VirtualClock())
    log = []
    host.on_close(lambda: log.append("first"))
    host.on_close(lambda: log.append("second"))
    host.on_closed(lambda: log.append("after"))
    host.close()
    host.close()
    assert log == ["second", "first", "after"]


def test_hosts_share_nothing():
    clock = VirtualClock()
    with Host(name="x", clock=clock) as x, Host(name="y", clock=clock) as y:
        assert x.mib is not y.mib
        assert x.ram.buffer is not y.ram.buffer
        assert x.random.random() != y.random.random()
        with x.socket(AF_INET, SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 5))
            with y.socket(AF_INET, SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 5))


def test_idle_hours_leak_nothing(a: Host, b: Host):
    with a, b:
        a.clock.run_for(3_600_000_000_000)
        heaps = len(a.machine.timers.heap), len(a.machine.timers_deferrable.heap)
        in_use = a.skb_small.in_use
        a.clock.run_for(3 * 3_600_000_000_000)
        assert (len(a.machine.timers.heap), len(a.machine.timers_deferrable.heap)) == heaps
        assert a.skb_small.in_use == in_use
        assert a.mib.ip.InReceives == 0
