"""Super-packets and unsummed checksums cross bridge, veth and VLAN whole, and are finished where
the device below cannot; what leaves a NIC is judged by tshark (tests/stack/conftest.py)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import pair
from fastpath.base.skbuff import CHECKSUM_PARTIAL
from stack.core.ethtool import ethtool_set_features
from stack.core.netdevice import ETH_P_ALL
from stack.host import Host
from tests.stack.core.wire import QUIET6, assert_no_leak, heard
from tests.stack.links.test_veth import stream

SIZE = 600_000


class Container:
    """A namespace behind a veth and a bridge with a NIC, as containers have it; b is outside."""

    def __init__(self) -> None:
        clock = VirtualClock()
        ends = pair(clock)
        self.a, self.b = (Host(name, clock=clock, sysctl=QUIET6) for name in "ab")
        for number, host in enumerate((self.a, self.b)):
            add_nic(host, ends[number], mac=b"\x02\0\0\0\0" + bytes([number]), wait=False)
        self.inside = self.a.netns_add("inside", sysctl=QUIET6)
        self.a.add_veth("veth0", (self.inside, "eth0"), up=True)
        self.a.add_bridge("br0", ["eth0", "veth0"], up=True)
        for host in (self.a, self.b):
            host.wait_carrier("eth0")
        clock.run_for(1)

    def tap(self, net, name: str) -> list[tuple[int, int, int]]:
        """(bytes, gso_size, ip_summed) of every packet that a device sends or receives."""
        return heard(
            net, ETH_P_ALL, lambda skb: (skb.len, skb.gso_size, skb.ip_summed), net.dev(name)
        )


@pytest.fixture
def net() -> Iterator[Container]:
    made = Container()
    yield made
    assert_no_leak(made.a, made.b)


@pytest.fixture(params=["", "vlan"])
def addrs(request, net: Container) -> tuple[str, str]:
    """Of the inside and of b: on the devices themselves, or on VLANs upon them."""
    inside, b = "eth0", "eth0"
    if request.param:
        net.inside.add_vlan("v", "eth0", 9, up=True)
        net.b.add_vlan("v", "eth0", 9, up=True)
        inside = b = "v"
    net.inside.ifconfig(inside, "10.0.0.1/24")
    net.b.ifconfig(b, "10.0.0.2/24")
    return "10.0.0.1", "10.0.0.2"


def test_a_stream_out_is_cut_by_the_nic(net, addrs):
    bridge, nic = net.tap(net.a, "br0"), net.tap(net.a, "eth0")
    stream(net.inside, net.b, addrs[1], SIZE)
    assert [length for length, _, _ in bridge] == [28]  # the question of ARP; nothing of the rest
    assert max(length for length, _, _ in nic) > 10_000
    assert {summed for length, gso, summed in nic if gso} == {CHECKSUM_PARTIAL}
    assert sum(1 for length, _, _ in nic if length > 1000) < SIZE // 1448


@pytest.mark.parametrize("off", [("tso",), ("tso", "gso"), ("tso", "gso", "tx"), ("sg",)])
def test_a_stream_out_is_finished_in_software_where_the_nic_may_not(net, addrs, off):
    for name in off:
        ethtool_set_features(net.a.dev("eth0"), {name: False})
    veth, nic = net.tap(net.a, "veth0"), net.tap(net.a, "eth0")
    stream(net.inside, net.b, addrs[1], SIZE)
    assert max(length for length, _, _ in veth) > 10_000
    assert max(length for length, _, _ in nic) <= 1518
    if "tx" in off:
        assert CHECKSUM_PARTIAL not in {summed for length, _, summed in nic if length > 1000}
    else:
        assert CHECKSUM_PARTIAL in {summed for _, _, summed in nic}


def test_a_stream_in_is_merged_once_and_crosses_whole(net, addrs):
    inside = net.tap(net.inside, "eth0")
    stream(net.b, net.inside, addrs[0], SIZE)
    assert max(length for length, _, _ in inside) > 3000
    assert sum(1 for length, _, _ in inside if length > 1000) < SIZE // 1448
    ethtool_set_features(net.a.dev("eth0"), {"gro": False})
    inside.clear()
    stream(net.b, net.inside, addrs[0], SIZE)
    assert max(length for length, _, _ in inside) <= 1504
