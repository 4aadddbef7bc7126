"""A VLAN between us and Linux over a TAP, with our NIC's tags and with tags in the frame."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.all import ARP, Dot1Q, Ether

from e1000emu.capture import read_capture
from stack.core.ethtool import ethtool_set_features
from tests.linux.peer import (
    IPV4,
    IPV6,
    Family,
    Peer,
    Wire,
    judged,
    pattern,
    stream,
    wait_for_addresses,
)
from tests.support import require

pytestmark = pytest.mark.netns

VLAN = 10
FAMILIES = (
    replace(IPV4, linux="10.10.0.1", ours="10.10.0.2"),
    replace(IPV6, linux="2001:db8:10::1", ours="2001:db8:10::2"),
)
"""Addresses of the VLAN."""
FAMILY = pytest.mark.parametrize("family", FAMILIES, ids=str)
AF_PACKET, ETH_P_ALL, SOL_PACKET, PACKET_AUXDATA = 17, 3, 263, 8


class Tagged(Wire):
    """A wire with VLAN 10 on both ends; Linux's is `vlan`, when its kernel has 802.1Q."""

    def __init__(self, capture: Path, offload: bool, *, kernel: bool) -> None:
        super().__init__(ipv6=True, capture=capture)
        try:
            ethtool_set_features(self.host.dev("eth0"), {"rxvlan": offload})
            self.host.add_vlan("eth0.10", "eth0", VLAN, up=True)
            for family in FAMILIES:
                self.host.ifconfig("eth0.10", family.our_addr)
            wait_for_addresses(self.host)
            if kernel:
                self._linux_vlan()
        except BaseException:
            self.close()
            raise

    def _linux_vlan(self) -> None:
        peer, tap = self.peer, self.peer.tap_name
        try:
            words = ("link", tap, "name", "v10", "type", "vlan", "id", str(VLAN))
            peer.ip("link", "add", *words)
        except subprocess.CalledProcessError as error:
            # Not the machine's fault in CI: tests/guest/test_stack.py has a Linux that can.
            pytest.skip(f"this kernel has no VLAN devices (CONFIG_VLAN_8021Q): {error.stderr}")
        peer.write("/proc/sys/net/ipv6/conf/v10/accept_dad", 0)
        peer.ip("link", "set", "v10", "up")
        for family in FAMILIES:
            nodad = ("nodad",) if family.af == socket.AF_INET6 else ()
            peer.ip("addr", "add", f"{family.linux}/{family.prefix_len}", "dev", "v10", *nodad)


@pytest.fixture(scope="module", params=[True, False], ids=["tags by the NIC", "tags in the frame"])
def tagged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tagged]:
    """One wire for all; in the end tshark judges every frame."""
    require.taps()
    require.tool("tshark")
    path = tmp_path_factory.mktemp("vlan") / "wire.pcapng"
    with Tagged(path, request.param, kernel=True) as made:
        yield made
    assert list(judged(path)) == []


@FAMILY
def test_linux_pings_us_through_the_vlan(tagged: Tagged, family: Family) -> None:
    for size in (56, 1452, 8000):
        assert tagged.peer.ping(family.ours, size=size) >= 3


@FAMILY
def test_streams_through_the_vlan_both_ways(tagged: Tagged, family: Family) -> None:
    data = pattern(3_000_000)
    ours, theirs = tagged.connected(family, from_us=True)
    stream(ours, theirs, data)
    stream(theirs, ours, data)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("offload", [True, False], ids=["tags by the NIC", "tags in the frame"])
def test_a_kernel_without_vlans_sees_and_sends_our_tags(
    need_linux: None, tmp_path: Path, offload: bool
) -> None:
    """By a packet socket, for which the kernel takes tags apart and puts them together itself."""
    with Tagged(tmp_path / "wire.pcapng", offload, kernel=False) as wire:
        mac = mac_of(wire.peer)
        with wire.peer.socket(socket.SOCK_RAW, 0, family=AF_PACKET) as raw:
            raw.bind((wire.peer.tap_name, ETH_P_ALL))
            raw.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            ours = wire.socket(socket.SOCK_DGRAM)
            ours.sendto(b"for the vlan", ("10.10.0.1", 9))
            asked, tci = _next(raw, b"\x08\x06")
            assert tci & 0xFFF == VLAN
            question = Ether(asked)[ARP]
            assert (question.psrc, question.pdst) == ("10.10.0.2", "10.10.0.1")
            answer = (
                Ether(dst=question.hwsrc, src=mac)
                / Dot1Q(vlan=VLAN)
                / ARP(op=2, hwsrc=mac, psrc="10.10.0.1", hwdst=question.hwsrc, pdst="10.10.0.2")
            )
            raw.send(bytes(answer))
            sent, tci = _next(raw, b"\x08\x00")
            assert tci & 0xFFF == VLAN
            assert sent.rstrip(b"\0").endswith(b"for the vlan")
            ours.close()
    tags = [Ether(record.data) for record in read_capture(tmp_path / "wire.pcapng")]
    assert {one[Dot1Q].vlan for one in tags if Dot1Q in one} == {VLAN}


def mac_of(peer: Peer) -> str:
    """The address of the peer's TAP."""
    return peer.run("cat", f"/sys/class/net/{peer.tap_name}/address").stdout.decode().strip()


def _next(raw: socket.socket, ethertype: bytes) -> tuple[bytes, int]:
    """The next frame of that type that came with a tag, and its tag."""
    while True:
        data, control, _flags, address = raw.recvmsg(2000, 200)
        aux = next(value for level, kind, value in control if level == SOL_PACKET)
        tci, tpid = int.from_bytes(aux[16:18], "little"), int.from_bytes(aux[18:20], "little")
        if data[12:14] == ethertype and tpid == 0x8100 and address[2] != 4:
            return data, tci
