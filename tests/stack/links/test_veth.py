"""veth: a wire of software between namespaces; dummy. Super-packets cross whole."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

import pytest

from e1000emu.clock import VirtualClock
from fastpath.base.skbuff import CHECKSUM_PARTIAL
from stack import proc
from stack.api.links import ip_link
from stack.api.netns import Namespace
from stack.core.dev import dev_close, dev_open, dev_set_mac_address, dev_set_mtu
from stack.core.ethtool import ethtool_get_drvinfo, ethtool_get_stats, ethtool_set_features
from stack.core.netdevice import ETH_P_ALL, netif_carrier_ok
from stack.host import Host
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, create_connection, create_server
from tests.stack.core.wire import QUIET6, assert_no_leak, heard
from tests.stack.links.switch import refused


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host("host", clock=VirtualClock(), drivers=False, sysctl=QUIET6)
    yield made
    assert_no_leak(made)


@pytest.fixture
def blue(host: Host) -> Namespace:
    made = host.netns_add("blue", sysctl=QUIET6)
    host.add_veth("veth0", (made, "veth1"), up=True)
    host.ifconfig("veth0", "10.0.0.1/24")
    made.ifconfig("veth1", "10.0.0.2/24")
    return made


def stream(client_net, server_net, addr, size=1_000_000) -> None:
    """A connection over which `size` bytes go, all of which arrive."""
    listener = create_server(server_net, (addr, 80), family=AF_INET6 if ":" in addr else AF_INET)
    client = create_connection(client_net, (addr, 80))
    server, _ = listener.accept()
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    client.setblocking(False)
    got = bytearray()
    sent = 0
    while len(got) < size:
        with suppress(BlockingIOError):
            sent += client.send(data[sent:]) if sent < size else 0
        got += server.recv(1 << 20)
    assert got == data
    for sock in (client, server, listener):
        sock.close()


def tapped(net, name) -> list[tuple[int, int, int]]:
    """(bytes, segments, ip_summed) of what a device receives from now on."""

    def look(skb):
        return skb.len, skb.gso_segs, skb.ip_summed

    return heard(net, ETH_P_ALL, look, net.dev(name), ignore_outgoing=True)


def test_a_stream_crosses_namespaces_in_super_packets_without_a_checksum(host, blue):
    seen = tapped(blue, "veth1")
    stream(host, blue, "10.0.0.2")
    assert max(length for length, _, _ in seen) > 10 * 1500
    assert {summed for length, _, summed in seen if length > 100} == {CHECKSUM_PARTIAL}
    assert sum(length for length, _, _ in seen) > 1_000_000
    a, b = host.dev("veth0").stats, blue.dev("veth1").stats
    assert (a.tx_packets, a.tx_bytes) == (b.rx_packets, b.rx_bytes)
    assert (a.rx_packets, a.rx_bytes) == (b.tx_packets, b.tx_bytes)
    assert a.tx_bytes > 1_000_000
    row = next(line for line in proc.read(host, "dev").splitlines() if "veth0:" in line).split()
    assert (int(row[1]), int(row[9])) == (a.rx_bytes, a.tx_bytes)


def test_who_turns_segmentation_off_gets_segments(host, blue):
    ethtool_set_features(host.dev("veth0"), {"tso": False, "gso": False})
    seen = tapped(blue, "veth1")
    stream(host, blue, "10.0.0.2", 100_000)
    assert max(length for length, _, _ in seen) == 1500
    ethtool_set_features(host.dev("veth0"), {"tx": False})
    seen.clear()
    stream(host, blue, "10.0.0.2", 10_000)
    assert CHECKSUM_PARTIAL not in {summed for _, _, summed in seen}


def test_the_carrier_is_there_when_both_ends_are_up(host):
    blue = host.netns_add("blue")
    dev = host.add_veth("veth0", (blue, "veth1"))
    peer = blue.dev("veth1")
    for step, want in (
        (lambda: dev_open(dev), False),
        (lambda: dev_open(peer), True),
        (lambda: dev_close(dev), False),
        (lambda: dev_open(dev), True),
        (lambda: dev_close(peer), False),
    ):
        step()
        host.clock.run_for(1)
        assert netif_carrier_ok(dev) is netif_carrier_ok(peer) is want
    assert "veth0@if2: <NO-CARRIER,UP," in ip_link(host)


def test_what_does_not_fit_the_peer_is_dropped_there(host, blue):
    assert dev_set_mtu(blue.dev("veth1"), 1000) == 0
    with (
        host.socket(AF_INET, SOCK_DGRAM) as sender,
        blue.socket(AF_INET, SOCK_DGRAM) as receiver,
    ):
        receiver.bind(("10.0.0.2", 9))
        receiver.settimeout(1)
        for size in (972 + 4, 972 + 5):  # a tag's room is left
            sender.sendto(bytes(size), ("10.0.0.2", 9))
        assert len(receiver.recv(2000)) == 976
        with pytest.raises(TimeoutError):
            receiver.recv(2000)
    assert blue.dev("veth1").stats.rx_dropped == 1
    assert host.dev("veth0").stats.tx_dropped == 1


def test_either_end_takes_the_other_along_and_so_does_its_namespace(host):
    blue = host.netns_add("blue")
    for ends in (("veth0", host), ("veth1", blue)):
        host.add_veth("veth0", (blue, "veth1"), up=True)
        name, net = ends
        net.del_link(name)
        assert list(host.dev_by_name) == list(blue.dev_by_name) == ["lo"]
    host.add_veth("veth0", (blue, "veth1"), up=True)
    blue.close()
    assert list(host.dev_by_name) == ["lo"]


def test_packets_on_their_way_go_with_the_pair(host, blue):
    host.machine.softirq_count += 1  # what is sent stays in the backlog
    with host.socket(AF_INET, SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.0.0.2", 9))
    host.del_link("veth0")
    host.machine.softirq_count -= 1
    assert not host.machine.softnet_data.input_pkt_queue.qlen


def test_names_addresses_and_errors(host):
    other = Host("other", clock=host.clock, drivers=False)
    dev = host.add_veth(mac=b"\x02\0\0\0\0\1", peer_mac=b"\x02\0\0\0\0\2", mtu=9000)
    assert sorted(host.dev_by_name) == ["lo", "veth0", "veth1"]
    assert (dev.dev_addr, dev.priv.peer.dev_addr) == (b"\x02\0\0\0\0\1", b"\x02\0\0\0\0\2")
    assert (dev.mtu, dev.priv.peer.mtu) == (9000, 9000)
    with refused(errno.EEXIST):
        host.add_veth("a", "veth0")
    with refused(errno.EEXIST):
        host.add_veth("veth0", "b")
    assert sorted(host.dev_by_name) == ["lo", "veth0", "veth1"]
    with refused(errno.EXDEV):
        host.add_veth("a", (other, "b"))
    with refused(errno.EADDRNOTAVAIL):
        host.add_veth("a", "b", mac=b"\x01\0\0\0\0\0")
    with pytest.raises(ValueError, match="1 to 15 characters"):
        host.add_veth("a" * 16)
    with refused(errno.EOPNOTSUPP):
        host.del_link("lo")
    with refused(errno.ENODEV):
        host.del_link("none")
    assert ethtool_get_stats(dev)["peer_ifindex"] == dev.priv.peer.ifindex
    assert ethtool_get_drvinfo(host.dev("veth0")).driver == "veth"
    assert dev_set_mac_address(dev, b"\x01\0\0\0\0\0") == -errno.EADDRNOTAVAIL
    other.close()


def test_random_addresses_are_the_seeds(host):
    macs = []
    for _ in range(2):
        one = Host("h", clock=VirtualClock(), drivers=False, seed=7)
        macs.append(one.add_veth().dev_addr)
        one.close()
    assert macs[0] == macs[1]
    assert macs[0][0] & 3 == 2


def test_an_end_moves_to_another_namespace_and_works_there(host, blue):
    red = host.netns_add("red", sysctl=QUIET6)
    blue.set_netns("veth1", red)
    red.ifconfig("veth1", "10.0.0.3/24", up=True)
    host.clock.run_for(1000)
    stream(host, red, "10.0.0.3", 5000)
    assert "veth0@if" in ip_link(host)


def test_a_dummy_counts_what_it_is_given_and_keeps_an_address(host):
    host.add_dummy(up=True)
    host.ifconfig("dummy0", "10.7.0.1/24")
    with host.socket(AF_INET, SOCK_DGRAM) as sock, host.socket(AF_INET, SOCK_DGRAM) as back:
        sock.sendto(b"12345678", ("10.7.0.9", 9))  # no ARP: it leaves at once
        back.bind(("10.7.0.1", 9))
        sock.sendto(b"ours", ("10.7.0.1", 9))
        assert back.recv(9) == b"ours"
    stats = host.dev("dummy0").stats
    assert (stats.tx_packets, stats.tx_bytes, stats.rx_packets) == (1, 14 + 28 + 8, 0)
    assert ethtool_get_drvinfo(host.dev("dummy0")).driver == "dummy"
    assert dev_set_mtu(host.dev("dummy0"), 100_000) == 0
    with refused(errno.EEXIST):
        host.add_dummy("dummy0")
    host.del_link("dummy0")
    assert list(host.dev_by_name) == ["lo"]
