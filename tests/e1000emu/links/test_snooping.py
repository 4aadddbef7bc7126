"""Snooping of IGMP and MLD by a switch (RFC 4541). The frames are scapy's."""

from __future__ import annotations

import pytest
from scapy.layers.igmp import IGMP, IGMPv3_MR, IGMPv3_MR_Group
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLDone,
    ICMPv6MLQuery,
    ICMPv6MLReport,
    ICMPv6MLReport2,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from e1000emu.clock import VirtualClock
from e1000emu.links import Patch, Switch
from tests.e1000emu.links.ports import RecordingPort

V4, V4_MAC = "239.1.2.3", "01:00:5e:01:02:03"
V6, V6_MAC = "ff15::1:2", "33:33:00:01:00:02"
HOP = IPv6ExtHdrHopByHop(options=[RouterAlert()])
IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = 2, 3, 4, 5, 6


def igmp(kind: int, group: str = V4, to: str = "") -> Packet:
    return IP(src="10.0.0.1", dst=to or group, ttl=1) / IGMP(type=kind, gaddr=group)


def igmp3(record: int, *sources: str) -> Packet:
    other = IGMPv3_MR_Group(rtype=1, maddr="239.9.9.9")
    entry = IGMPv3_MR_Group(rtype=record, maddr=V4, srcaddrs=list(sources))
    return IP(src="10.0.0.1", dst="224.0.0.22", ttl=1) / IGMPv3_MR(records=[other, entry])


def mld2(record: int, *sources: str) -> Packet:
    other = ICMPv6MLDMultAddrRec(rtype=1, dst="ff15::99", auxdata=b"1234", auxdata_len=1)
    entry = ICMPv6MLDMultAddrRec(rtype=record, dst=V6, sources=list(sources))
    return ip6("ff02::16") / HOP / ICMPv6MLReport2(records=[other, entry])


def ip6(dst: str) -> Packet:
    return IPv6(src="fe80::1", dst=dst, hlim=1)


JOIN4 = {"v1": igmp(0x12), "v2": igmp(0x16), "v3": igmp3(TO_EX), "v3is": igmp3(IS_EX),
         "v3source": igmp3(ALLOW, "10.0.0.9")}  # fmt: skip
LEAVE4 = {"v2": igmp(0x17, to="224.0.0.2"), "v3": igmp3(TO_IN)}
JOIN6 = {"v1": ip6(V6) / HOP / ICMPv6MLReport(mladdr=V6), "v2": mld2(TO_EX), "v2is": mld2(IS_EX),
         "v2source": mld2(TO_IN, "2001:db8::9")}  # fmt: skip
LEAVE6 = {"v1": ip6("ff02::2") / HOP / ICMPv6MLDone(mladdr=V6), "v2": mld2(TO_IN)}
DATA = {4: IP(dst=V4) / UDP() / b"data", 6: IPv6(dst=V6) / UDP() / b"data"}
GROUPS = {4: V4_MAC, 6: V6_MAC}


class Lan:
    """Four ports of a switch."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.switch = Switch(self.clock, multicast_snooping=True)
        self.ports = [RecordingPort(self.switch.port()) for _ in range(4)]

    def send(self, port: int, packet: Packet, dst: str, src: int = 0, tag: bool = False) -> str:
        """Send from `port`; the numbers of the ports where it arrives."""
        before = [len(p.frames) for p in self.ports]
        header = Ether(src=f"02:00:00:00:00:{src or port + 1:02x}", dst=dst)
        frame = bytes(header / Dot1Q(vlan=5) / packet if tag else header / packet)
        self.ports[port].send(frame)
        self.clock.run_until_idle()
        got = [len(p.frames) - n for p, n in zip(self.ports, before, strict=True)]
        assert set(got) <= {0, 1}
        return "".join(str(n) for n, count in enumerate(got) if count)

    def data(self, family: int = 4, tag: bool = False) -> str:
        return self.send(0, DATA[family], GROUPS[family], tag=tag)


@pytest.mark.parametrize("tag", [False, True])
@pytest.mark.parametrize(
    ("family", "join", "leave"),
    [(4, j, leave) for j in JOIN4 for leave in LEAVE4]
    + [(6, j, leave) for j in JOIN6 for leave in LEAVE6],
)
def test_a_group_goes_to_its_members(family: int, join: str, leave: str, tag: bool) -> None:
    lan, to = Lan(), GROUPS[family]
    joins, leaves = (JOIN4, LEAVE4) if family == 4 else (JOIN6, LEAVE6)
    assert lan.data(family, tag) == ""
    # Other hosts do not hear a report, or they would not send theirs (RFC 4541 2.1.1 1).
    assert lan.send(1, joins[join], to, tag=tag) == ""
    lan.send(2, joins[join], to, tag=tag)
    assert lan.data(family, tag) == "12"
    assert lan.send(1, DATA[family], to) == "2"
    lan.send(1, leaves[leave], to, tag=tag)
    assert lan.data(family, tag) == "2"
    lan.send(2, leaves[leave], to, tag=tag)
    assert lan.data(family, tag) == ""
    assert lan.switch.multicast is not None
    assert len(lan.switch.multicast) == 0


def test_hosts_behind_one_port_leave_apart() -> None:
    lan = Lan()
    lan.send(1, JOIN4["v3"], V4_MAC, src=11)
    lan.send(1, JOIN4["v3"], V4_MAC, src=12)
    lan.send(1, LEAVE4["v3"], V4_MAC, src=11)
    assert lan.data() == "1"


def test_a_group_with_the_same_ethernet_address_stays() -> None:
    lan = Lan()
    lan.send(1, igmp(0x16), V4_MAC)
    lan.send(1, igmp(0x16, "239.129.2.3"), V4_MAC)
    lan.send(1, igmp(0x17, to="224.0.0.2"), V4_MAC)
    assert lan.data() == "1"


def test_blocked_sources_end_no_membership() -> None:
    lan = Lan()
    lan.send(1, igmp3(BLOCK, "10.0.0.9"), V4_MAC)
    assert lan.data() == ""
    lan.send(1, JOIN4["v3"], V4_MAC)
    lan.send(1, igmp3(BLOCK, "10.0.0.9"), V4_MAC)
    assert lan.data() == "1"


@pytest.mark.parametrize(
    ("packet", "dst"),
    [
        (IP(dst="224.0.0.5", proto=89) / b"hello", "01:00:5e:00:00:05"),
        (ip6("ff02::1") / ICMPv6ND_NS(), "33:33:00:00:00:01"),
        (igmp(0x11, "0.0.0.0", "224.0.0.1"), "01:00:5e:00:00:01"),
        (ip6("ff02::1") / HOP / ICMPv6MLQuery(), "33:33:00:00:00:01"),
        (b"\x45", "01:00:5e:01:02:03"),
        (b"\x60" * 46, "01:80:c2:00:00:20"),
    ],
)
def test_what_hosts_need_not_report_is_flooded(packet: Packet, dst: str) -> None:
    assert Lan().send(0, packet, dst) == "123"


@pytest.mark.parametrize("family", [4, 6])
def test_a_querier_gets_reports_and_every_group(family: int) -> None:
    lan = Lan()
    queries = {4: igmp(0x11, "0.0.0.0", "224.0.0.1"), 6: ip6("ff02::1") / HOP / ICMPv6MLQuery()}
    nobody = {4: "0.0.0.0", 6: "::"}
    queries[family].src = nobody[family]
    lan.send(3, queries[family], "33:33:00:00:00:01" if family == 6 else "01:00:5e:00:00:01")
    assert lan.data(family) == ""  # another switch's query: no router is there
    queries[family].src = {4: "10.0.0.254", 6: "fe80::fe"}[family]
    lan.send(3, queries[family], "33:33:00:00:00:01" if family == 6 else "01:00:5e:00:00:01")
    assert lan.data(family) == "3"
    assert lan.send(1, (JOIN4 if family == 4 else JOIN6)["v1"], GROUPS[family]) == "3"
    assert lan.data(family) == "13"
    lan.ports[3].link.detach()
    assert lan.data(family) == "1"


def test_an_unplugged_port_is_no_member() -> None:
    lan = Lan()
    lan.send(1, JOIN4["v3"], V4_MAC)
    lan.ports[1].link.detach()
    assert lan.data() == ""
    assert lan.switch.multicast is not None
    assert len(lan.switch.multicast) == 0


def test_a_port_may_be_declared_a_routers() -> None:
    lan = Lan()
    declared = RecordingPort(lan.switch.port(multicast_router=True))
    lan.data()
    assert len(declared.frames) == 1


def test_what_is_behind_a_patch_may_be_declared_a_host() -> None:
    lan = Lan()
    hub = Switch(lan.clock)
    behind = RecordingPort(hub.port())
    Patch(lan.switch.port(multicast_router=False), hub.port())
    assert lan.data() == ""
    lan.clock.run_until_idle()
    assert behind.frames == []


def test_two_switches_that_snoop_tell_each_other() -> None:
    clock = VirtualClock()
    one, two = (Switch(clock, multicast_snooping=True) for _ in range(2))
    near, far = RecordingPort(one.port()), RecordingPort(two.port())
    Patch(one.port(), two.port())
    far.send(bytes(Ether(src="02:00:00:00:00:01", dst=V4_MAC) / JOIN4["v3"]))
    near.send(data := bytes(Ether(src="02:00:00:00:00:02", dst=V4_MAC) / DATA[4]))
    clock.run_until_idle()
    assert far.frames == [data]


def test_short_and_lying_reports_are_harmless() -> None:
    frames = [bytes(Ether(dst=V4_MAC, src="02:00:00:00:00:09") / p) for p in JOIN4.values()]
    frames += [bytes(Ether(dst=V6_MAC, src="02:00:00:00:00:09") / p) for p in JOIN6.values()]
    lan = Lan()
    for frame in frames:
        for cut in range(14, len(frame)):
            lan.ports[1].send(frame[:cut])
        for at in range(14, len(frame)):
            lan.ports[1].send(frame[:at] + bytes([frame[at] ^ 0xFF]) + frame[at + 1 :])
    lan.clock.run_until_idle()
    lan.ports[1].link.detach()
    assert lan.switch.multicast is not None
    assert len(lan.switch.multicast) == 0
