"""Duplicate address detection and MLD on an IPv6 LAN, in virtual time: `ipv6_lan.py [N [flat]]`.

    python examples/ipv6_lan.py           # 100 hosts, seconds
    python examples/ipv6_lan.py 2000      # half a minute
    python examples/ipv6_lan.py 500 flat  # the square of the hosts: each report reaches every port

Each host has a link-local address and one of 2001:db8::/64; each tenth is then given an address
that its neighbour has. The switch reads MLD reports: a solicitation goes to the ports whose hosts
want its group, a report to routers alone. With `flat` it floods both. A port without a host, a
monitor that counts as a router, hears all.
"""

import logging
import resource
import struct
import sys
import time
from collections import Counter
from ipaddress import IPv6Address
from typing import Any

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic, close_hosts, mac_address
from e1000emu.links import Switch
from e1000emu.ports import Link
from fastpath.base.batch import FrameBatch
from stack.core.dev import dev_get_stats
from stack.host import Host
from stack.ipv6.if_inet6 import IFA_F_DADFAILED, IFA_F_TENTATIVE

SECOND_NS = 1_000_000_000
PREFIX = int(IPv6Address("2001:db8::"))
ICMPV6, HOP_BY_HOP = 58, 0
MLD_REPORT, NEIGHBOUR_SOLICITATION = 143, 135


class Monitor:
    """A port that counts ICMPv6 messages by type."""

    def __init__(self, link: Link) -> None:
        self.types: Counter[int] = Counter()
        link.attach(self)

    def receive(self, batch: FrameBatch, start: int, hold: bool) -> int:
        """Count frames. Borrows `batch` until return."""
        for n in range(start, len(batch)):
            frame = bytes(batch[n])
            (kind,) = struct.unpack_from("!H", frame, 12)
            if kind == 0x86DD and frame[20] in (ICMPV6, HOP_BY_HOP):
                # MLD has a header of router alert of 8 bytes in front
                self.types[frame[54 if frame[20] == ICMPV6 else 62]] += 1
        return len(batch)

    def link_changed(self, up: bool, speed_mbps: int, full_duplex: bool) -> None:
        """No matter."""

    def tx_ready(self) -> None:
        """It sends nothing."""


logging.getLogger("stack").setLevel(logging.ERROR)  # each duplicate is a warning
count = int(sys.argv[1]) if len(sys.argv) > 1 else 100
flat = "flat" in sys.argv[2:]
cpu = time.process_time()
clock = VirtualClock()
switch = Switch(clock, multicast_snooping=not flat)
monitor = Monitor(switch.port(multicast_router=True))
hosts = []
for number in range(1, count + 1):
    host = Host(name=f"h{number}", clock=clock, seed=number)
    add_nic(host, switch.port(), mac=mac_address(number), up=False)
    hosts.append(host)
print(f"{count} hosts: {time.process_time() - cpu:.1f} s of processor time")

cpu, began_ns = time.process_time(), clock.now_ns()
for number, host in enumerate(hosts, 1):
    host.ifconfig("eth0", f"{IPv6Address(PREFIX + number)}/64", up=True)
clock.run_for(10 * SECOND_NS)


def addresses_of(host: Host) -> list[Any]:
    """The IPv6 addresses of interface eth0."""
    idev = host.dev("eth0").ip6_ptr
    return list(idev.addr_list) if idev is not None else []


def flagged(flag: int) -> int:
    """How many addresses of interfaces eth0 have the flag."""
    return sum(bool(ifp.flags & flag) for host in hosts for ifp in addresses_of(host))


addresses = sum(len(addresses_of(host)) for host in hosts)
print(f"addresses: {addresses}, tentative {flagged(IFA_F_TENTATIVE)}")
print(f"false duplicates: {flagged(IFA_F_DADFAILED)}")
thieves = range(0, count - 1, 10)
for number in thieves:
    hosts[number].ifconfig("eth0", f"{IPv6Address(PREFIX + number + 2)}/64")
clock.run_for(10 * SECOND_NS)
print(f"duplicates: {flagged(IFA_F_DADFAILED)} of {len(thieves)} found")

cpu = time.process_time() - cpu
sent = sum(host.mib.icmp6msg.outtype.get(MLD_REPORT, 0) for host in hosts)
print(f"MLD reports: {sent} sent, {monitor.types[MLD_REPORT]} heard by the monitor")
heard = switch.ports[0].stats.rx_frames
delivered = sum(port.stats.rx_frames for port in switch.ports)
received = sum(dev_get_stats(host.dev("eth0")).rx_packets for host in hosts)
print(f"frames: the monitor heard {heard}, a port {delivered / (count + 1):.0f}, of which ", end="")
print(f"the host took {received / count:.0f}")
print(f"virtual time: {(clock.now_ns() - began_ns) / SECOND_NS:.1f} s")
print(f"processor time: {cpu:.1f} s, {cpu / delivered * 1e6:.1f} us for a frame at a port")
print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most")
close_hosts(hosts)
clock.close()
