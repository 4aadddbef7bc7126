"""802.1Q: tags beside the packet and in it, with the NIC's offload and without; scapy reads all."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.all import IP, UDP, Dot1Q, Ether

from e1000emu.capture import read_capture
from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, pair
from e1000emu.registers.regs import reg
from stack import proc
from stack.api.links import ip_link
from stack.core.dev import dev_close, dev_open, dev_set_mac_address, dev_set_mtu
from stack.core.ethtool import ethtool_get_drvinfo, ethtool_get_settings, ethtool_set_features
from stack.core.netdevice import IFF_PROMISC, IFF_UP, NETIF_F_TSO, netif_carrier_ok
from stack.host import Host
from stack.socket import AF_INET, SOCK_DGRAM
from tests.stack.core.wire import QUIET6, assert_no_leak, heard, wired_pair
from tests.stack.links.switch import refused
from tests.stack.links.test_veth import stream


class Cable:
    """Two hosts with a NIC each; `frames()` are those that a sent, as scapy reads them."""

    def __init__(self, path: Path) -> None:
        self.clock = VirtualClock()
        self.path = path
        ends = pair(self.clock)
        self.capture = Capture(ends[0], path)
        self.hosts = []
        for name, link in (("a", self.capture), ("b", ends[1])):
            host = Host(name, clock=self.clock, sysctl=QUIET6)
            add_nic(host, link, mac=b"\x02\0\0\0\0" + name.encode(), wait=False)
            self.hosts.append(host)
        self.a, self.b = self.hosts
        for host in self.hosts:
            assert host.wait_carrier("eth0")

    def both(self, offload: bool) -> None:
        """rxvlan on both hosts; inserting goes with it (CTRL.VME)."""
        for host in self.hosts:
            ethtool_set_features(host.dev("eth0"), {"rxvlan": offload})

    def vlan(self, name: str, link: str, vlan_id: int, addr: str = "", **options) -> None:
        """The same VLAN on both, a's address ends in 1, b's in 2."""
        for number, host in enumerate(self.hosts, 1):
            host.add_vlan(name, link, vlan_id, up=True, **options)
            if addr:
                host.ifconfig(name, f"{addr}.{number}/24")

    def datagram(self, to: str, payload: bytes = b"x" * 32, priority: int = 0) -> bytes:
        """A datagram from a to b; what b got."""
        with self.a.socket(AF_INET, SOCK_DGRAM) as tx, self.b.socket(AF_INET, SOCK_DGRAM) as rx:
            rx.bind((to, 9))
            rx.settimeout(1)
            if priority:
                tx.setsockopt(1, 12, priority)  # SO_PRIORITY
            tx.sendto(payload, (to, 9))
            return rx.recv(65536)

    def frames(self) -> list:
        """Every frame on the wire so far."""
        self.capture.writer.flush()
        return [Ether(record.data) for record in read_capture(self.path)]


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    made = Cable(tmp_path / "wire.pcapng")
    yield made
    assert_no_leak(*made.hosts)


@pytest.mark.parametrize("offload", [True, False])
def test_tags_on_the_wire_are_the_same_with_offload_and_without(cable, offload):
    cable.both(offload)
    cable.vlan("eth0.5", "eth0", 5, "10.5.0", egress_qos={6: 3})
    assert cable.datagram("10.5.0.2", priority=6) == b"x" * 32
    (sent,) = [one for one in cable.frames() if UDP in one]
    assert (sent[Dot1Q].vlan, sent[Dot1Q].prio, sent[Dot1Q].type) == (5, 3, 0x0800)
    assert (sent[Ether].src, sent[Ether].type) == ("02:00:00:00:00:61", 0x8100)
    assert sent[IP].dst == "10.5.0.2"
    assert bytes(sent[UDP].payload)[:32] == b"x" * 32
    tagged = [one for one in cable.frames() if IP in one or one.haslayer("ARP")]
    assert all(Dot1Q in one for one in tagged)
    stats = cable.b.dev("eth0.5").stats
    assert stats.rx_packets == 2  # the datagram, and the answer or question of ARP
    assert stats.rx_bytes == (28 + 32) + 42  # the NIC fills short frames up to 60 bytes


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("tso", [True, False])
def test_a_stream_through_a_vlan(cable, offload, tso):
    """Cut by the NIC behind a tag that it inserts, behind one in the frame, and by software."""
    cable.both(offload)
    ethtool_set_features(cable.a.dev("eth0"), {"tso": tso})
    cable.vlan("v", "eth0", 4094, "10.9.0")
    stream(cable.a, cable.b, "10.9.0.2", 200_000)
    segments = [one for one in cable.frames() if one.haslayer("TCP")]
    assert {one[Dot1Q].vlan for one in segments} == {4094}
    assert max(len(one) for one in segments) == 1518
    for one in segments[:5] + segments[-5:]:
        again = Ether(bytes(one))
        del again[IP].chksum, again["TCP"].chksum
        assert bytes(Ether(bytes(again))) == bytes(one)  # scapy's sums


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("outer", ["802.1Q", "802.1ad"])
def test_a_vlan_on_a_vlan(cable, offload, outer):
    cable.both(offload)
    cable.vlan("s", "eth0", 100, protocol=outer)
    cable.vlan("c", "s", 7, "10.7.0", mtu=1496)  # the NIC takes frames of 1522 bytes, no more
    assert cable.datagram("10.7.0.2") == b"x" * 32
    (sent,) = [one for one in cable.frames() if UDP in one]
    assert sent.type == (0x8100 if outer == "802.1Q" else 0x88A8)
    layers = [sent.getlayer("Dot1Q" if outer == "802.1Q" else "Dot1AD"), sent[Dot1Q]]
    inner = sent.getlayer(Dot1Q, 2 if outer == "802.1Q" else 1)
    assert (layers[0].vlan, inner.vlan) == (100, 7)
    stream(cable.a, cable.b, "10.7.0.2", 100_000)
    assert max(len(one) for one in cable.frames()) == 1518


def test_ids_do_not_see_each_other_and_the_untagged_net_sees_neither(cable):
    cable.a.ifconfig("eth0", "10.0.0.1/24")
    cable.b.ifconfig("eth0", "10.0.0.2/24")
    cable.vlan("v5", "eth0", 5, "10.5.0")
    cable.b.add_vlan("v6", "eth0", 6, up=True)
    assert cable.datagram("10.0.0.2") == b"x" * 32
    assert cable.datagram("10.5.0.2") == b"x" * 32
    cable.b.addr_del("v5", "10.5.0.2/24")
    cable.b.ifconfig("v6", "10.5.0.2/24")
    cable.datagram("10.5.0.2")  # an address is the host's, whichever device it is on
    assert cable.b.dev("v6").stats.rx_packets == 0
    assert cable.b.dev("v5").stats.rx_packets > 1


def test_the_filter_of_the_nic_knows_the_ids(cable):
    nic = cable.b.nics["eth0"]

    def vfta() -> set[int]:
        words = [nic.regs.peek(offset) for offset in reg("VFTA").offsets]
        return {number for number in range(4096) if words[number >> 5] >> (number & 31) & 1}

    assert vfta() == set()
    cable.vlan("v5", "eth0", 5, "10.5.0")
    cable.vlan("v900", "eth0", 900)
    assert vfta() == {0, 5, 900}
    dev_close(cable.b.dev("eth0"))
    dev_open(cable.b.dev("eth0"))
    assert vfta() == {0, 5, 900}  # a reset empties it
    cable.b.del_link("v900")
    assert vfta() == {0, 5}
    # A frame of an id that nobody has does not come in; promiscuous, it does, for others.
    cable.a.add_vlan("v6", "eth0", 6, up=True)
    cable.a.ifconfig("v6", "10.6.0.1/24")
    before = cable.b.dev("eth0").stats.rx_packets
    with cable.a.socket(AF_INET, SOCK_DGRAM) as tx:
        tx.sendto(b"x", ("10.6.0.2", 9))
        cable.clock.run_for(1_000_000)
        assert cable.b.dev("eth0").stats.rx_packets == before


def test_a_priority_tag_is_nobodys_vlan(cable):
    cable.a.ifconfig("eth0", "10.0.0.1/24")
    cable.b.ifconfig("eth0", "10.0.0.2/24")
    cable.vlan("v0", "eth0", 0, "10.8.0", egress_qos={6: 6})
    assert cable.datagram("10.8.0.2", priority=6) == b"x" * 32  # a device of id 0 takes it
    cable.b.del_link("v0")
    cable.b.ifconfig("eth0", "10.8.0.2/24")
    assert cable.datagram("10.8.0.2", priority=6) == b"x" * 32  # else the real one does
    sent = [one for one in cable.frames() if UDP in one]
    assert [(one[Dot1Q].vlan, one[Dot1Q].prio) for one in sent] == [(0, 6), (0, 6)]


def test_a_priority_tag_around_a_vlans_tag():
    clock, a, b, _wa, wb = wired_pair(inet=True)
    b.add_vlan("v5", wb.dev, 5, up=True)
    datagram = Ether(dst=wb.dev.dev_addr.hex(":"), src="02:00:00:00:00:09") / Dot1Q(vlan=0, prio=4)
    datagram = datagram / Dot1Q(vlan=5) / IP(src="10.0.0.9", dst="10.0.0.2") / UDP(dport=9) / b"in"
    b.ifconfig("v5", "10.0.0.2/24")
    with b.socket(AF_INET, SOCK_DGRAM) as rx:
        rx.bind(("10.0.0.2", 9))
        rx.settimeout(1)
        wb.receive(bytes(datagram))
        assert rx.recv(10) == b"in"
    short = bytes(datagram)[:17]
    wb.receive(short)
    clock.run_for(1000)
    assert_no_leak(a, b)


def test_the_ingress_map_sets_the_priority():
    clock, a, b, _wa, wb = wired_pair()
    b.add_vlan("v5", wb.dev, 5, up=True, ingress_qos={3: 6})
    seen = heard(b, 0x88B5, lambda skb: (skb.dev.name, skb.priority, skb.vlan_proto))
    for prio in (3, 4):
        wb.receive(
            bytes(
                Ether(dst=wb.dev.dev_addr.hex(":")) / Dot1Q(vlan=5, prio=prio, type=0x88B5) / b"xx"
            )
        )
    clock.run_for(1000)
    assert seen == [("v5", 6, 0), ("v5", 0, 0)]
    assert_no_leak(a, b)


def test_mtu_follows_the_real_device(cable):
    dev = cable.a.add_vlan("v", "eth0", 5)
    assert dev.mtu == 1500
    assert dev_set_mtu(dev, 1501) == -errno.ERANGE
    cable.a.ifconfig("eth0", mtu=9000)
    assert dev.mtu == 1500
    assert dev_set_mtu(dev, 8000) == 0
    cable.a.ifconfig("eth0", mtu=1400)
    assert dev.mtu == 1400
    with refused(errno.EINVAL):
        cable.a.add_vlan("w", "eth0", 6, mtu=1401)
    assert cable.a.add_vlan("w", "eth0", 6, mtu=1300).mtu == 1300


def test_a_vlan_goes_down_and_up_with_its_real_device(cable):
    host, eth0 = cable.a, cable.a.dev("eth0")
    v, loose = (
        host.add_vlan("v", "eth0", 5, up=True),
        host.add_vlan("l", "eth0", 6, loose_binding=True),
    )
    dev_open(loose)
    dev_close(eth0)
    assert (v.flags & IFF_UP, loose.flags & IFF_UP) == (0, IFF_UP)
    assert dev_open(v) == -errno.ENETDOWN
    dev_open(eth0)
    assert v.flags & IFF_UP
    assert not netif_carrier_ok(v)  # the link takes its time
    assert "v@eth0: <NO-CARRIER,UP" in ip_link(host)
    assert host.wait_carrier("eth0")
    cable.clock.run_for(1)
    assert netif_carrier_ok(v)
    shown = ip_link(host)
    assert "v@eth0: <UP,BROADCAST,RUNNING,MULTICAST,LOWER_UP>" in shown
    assert "vlan protocol 802.1Q id 5 <REORDER_HDR>" in shown


def test_addresses_and_promiscuity_reach_the_real_device(cable):
    host, eth0 = cable.a, cable.a.dev("eth0")
    v = host.add_vlan("v", "eth0", 5, mac=b"\x02\0\0\0\0\x55", up=True)
    assert b"\x02\0\0\0\0\x55" in eth0.uc
    assert dev_set_mac_address(v, b"\x02\0\0\0\0\x56") == 0
    assert list(eth0.uc) == [b"\x02\0\0\0\0\x56"]
    assert dev_set_mac_address(v, bytes(6)) == -errno.EADDRNOTAVAIL
    # Of the group of all, in both families, one for each.
    assert set(v.mc) <= set(eth0.mc)
    host.add_bridge("br0", ["v"])
    assert eth0.flags & IFF_PROMISC
    dev_close(v)
    assert not eth0.flags & IFF_PROMISC
    assert list(eth0.uc) == []
    dev_open(v)
    host.del_link("br0")
    assert not eth0.flags & IFF_PROMISC
    w = host.add_vlan("w", "eth0", 6, up=True)
    assert dev_set_mac_address(eth0, b"\x02\0\0\0\0\x77") == 0
    assert b"\x02\0\0\0\0\x61" in eth0.uc  # w keeps the old one
    assert w.dev_addr == b"\x02\0\0\0\0\x61"
    host.del_link("v")
    host.del_link("w")
    assert list(eth0.uc) == []


def test_features_are_what_the_real_device_offers_behind_a_tag(cable):
    v = cable.a.add_vlan("v", "eth0", 5)
    assert v.features & NETIF_F_TSO
    assert v.hard_header_len == 14
    ethtool_set_features(cable.a.dev("eth0"), {"rxvlan": False})
    assert v.hard_header_len == 18
    assert v.gso_max_size == cable.a.dev("eth0").gso_max_size
    assert ethtool_get_drvinfo(cable.a.dev("v")).driver == "802.1Q VLAN Support"
    assert ethtool_get_settings(cable.a.dev("v")).speed == 1000
    ethtool_set_features(cable.a.dev("eth0"), {"sg": False})
    assert not v.features & NETIF_F_TSO
    assert "v: " in proc.read(cable.a, "dev")


def test_errors(cable):
    host = cable.a
    host.add_vlan("v", "eth0", 5)
    for number, link, vlan_id, protocol in (
        (errno.EEXIST, "eth0", 5, "802.1Q"),
        (errno.ERANGE, "eth0", 4095, "802.1Q"),
        (errno.ERANGE, "eth0", -1, "802.1Q"),
        (errno.EPROTONOSUPPORT, "eth0", 6, "802.3"),
        (errno.EOPNOTSUPP, "lo", 6, "802.1Q"),
        (errno.ENODEV, "eth9", 6, "802.1Q"),
    ):
        with refused(number):
            host.add_vlan("w", link, vlan_id, protocol=protocol)
    with refused(errno.EEXIST):
        host.add_vlan("v", "eth0", 7)
    with refused(errno.EADDRNOTAVAIL):
        host.add_vlan("w", "eth0", 7, mac=b"\x01\0\0\0\0\0")
    assert list(host.dev("eth0").vlan_info.vid_list.values()) == [1, 1]  # 0 and 5
    host.add_vlan("w", "eth0", 5, protocol="802.1ad")  # another tag
    deep = "w"
    for number in range(6):  # with eth0 and w eight upon each other
        host.add_vlan(f"d{number}", deep, 1)
        deep = f"d{number}"
    with refused(errno.EMLINK):
        host.add_vlan("d6", deep, 1)
    assert host.dev(deep).vlan_info is None


def test_a_real_device_takes_its_vlans_along_also_to_the_end(cable):
    host = cable.a
    blue = host.netns_add("blue")
    host.add_veth("veth0", "veth1", up=True)
    host.add_vlan("v", "veth0", 5, up=True)
    host.add_vlan("vv", "v", 5, up=True)
    host.set_netns("v", blue)  # its real device stays
    assert blue.dev("v").priv.real_dev is host.dev("veth0")
    host.set_netns("veth0", blue)
    assert "v" in blue.dev_by_name
    host.del_link("veth1")
    assert (list(host.dev_by_name), list(blue.dev_by_name)) == (["lo", "eth0"], ["lo"])
