"""Which ARP requests are answered: our host's answers beside a Linux kernel's."""

from __future__ import annotations

import itertools
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from e1000emu.lab import two_hosts
from stack.core.uapi import AF_PACKET, RT_SCOPE_HOST, SOCK_RAW
from stack.host import Host
from stack.ipv4.devinet import inet_addr_add
from tests.linux.peer import LINUX, OURS, Wire

pytestmark = pytest.mark.netns

ADDRESSES = [  # interface, address, peer, whether its scope is host
    ("eth", "10.9.0.129/25", None, False),
    ("eth", "10.9.0.150/32", "10.9.0.9/32", False),
    ("eth", "10.9.0.151/26", None, True),
    ("lo", "10.8.0.1/32", None, False),
    ("lo", "10.7.0.1/24", None, True),
]
ASKED = ["10.9.0.1", "10.9.0.129", "10.9.0.150", "10.9.0.151", "10.8.0.1", "10.7.0.1", "10.9.0.66"]
ASKING = ["0.0.0.0", "10.9.0.2", "10.9.0.200", "10.9.0.9"]


class Asker:
    """Sends ARP requests from a host's packet socket."""

    def __init__(self, host: Host) -> None:
        self.mac = host.dev_by_name["eth0"].dev_addr
        self.sock: Any = host.socket(AF_PACKET, SOCK_RAW, 3)
        self.sock.bind(("eth0", 3))
        self.sock.settimeout(20)
        self.serial = 0

    def answered(self, mac: bytes, sip: str, tip: str) -> bool:
        """Whether a reply comes before the answer to an echo request sent behind the request."""
        self.serial += 1
        ours = Ether(src=self.mac, dst=mac)
        self.sock.send(bytes(ours / ARP(op=1, hwsrc=self.mac, psrc=sip, pdst=tip)))
        self.sock.send(bytes(ours / IP(src=OURS, dst=LINUX) / ICMP(id=7, seq=self.serial)))
        found = False
        while True:
            frame = Ether(self.sock.recv(2000))
            if ARP in frame and frame[ARP].op == 2 and frame[ARP].psrc == tip:
                found = True
            if ICMP in frame and frame[ICMP].type == 0 and frame[ICMP].seq == self.serial:
                return found

    def table(self, mac: bytes) -> dict[tuple[str, str], bool]:
        """What is answered of all senders and targets."""
        cases = itertools.product(ASKING, ASKED)
        return {(sip, tip): self.answered(mac, sip, tip) for sip, tip in cases}


@pytest.fixture(scope="module")
def askers(wire: Wire) -> Any:
    """An asker before the kernel, and one before a host of ours with the same addresses."""
    for name, addr, peer, host_scope in ADDRESSES:
        dev = wire.tap.name if name == "eth" else "lo"
        words = ["addr", "add", addr.split("/")[0] if peer else addr]
        words += ["peer", peer] if peer else []
        wire.peer.ip(*words, "dev", dev, *(["scope", "host"] if host_scope else []))
    mac = wire.host.dev_by_name["eth0"].dev_addr
    wire.peer.ip("neigh", "replace", OURS, "lladdr", mac.hex(":"), "dev", wire.tap.name)
    theirs = wire.peer.run("cat", f"/sys/class/net/{wire.tap.name}/address").stdout.decode().strip()
    judged, asking = two_hosts(addrs=(f"{LINUX}/24", f"{OURS}/24"))
    with judged, asking:
        for name, addr, peer, host_scope in ADDRESSES:
            inet_addr_add(
                judged.dev_by_name["lo" if name == "lo" else "eth0"],
                int(ip_interface(addr).ip),
                ip_interface(addr).network.prefixlen,
                peer=int(ip_address(peer.split("/")[0])) if peer else None,
                scope=RT_SCOPE_HOST if host_scope else None,
            )
        own = judged.dev_by_name["eth0"].dev_addr
        yield Asker(wire.host), bytes.fromhex(theirs.replace(":", "")), Asker(asking), own, judged


@pytest.mark.parametrize("level", range(9))
def test_arp_ignore_as_linux(wire: Wire, askers: Any, level: int) -> None:
    of_linux, linux_mac, of_ours, our_mac, judged = askers
    wire.peer.write("/proc/sys/net/ipv4/conf/all/arp_ignore", level)
    judged.sysctl.arp_ignore = level
    linux = of_linux.table(linux_mac)
    assert of_ours.table(our_mac) == linux
    assert any(linux.values()) is (level != 8)
