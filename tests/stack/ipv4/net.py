"""One host with a recording interface: frames are put in by hand and what it sends is read back.

    net = one_host()
    net.inject(IP(src=PEER, dst=ME) / UDP(...))
    reply = net.ip_sent()[-1]

Packets are built and judged by scapy: `ip_sent` refuses wrong lengths and checksums.
"""

from __future__ import annotations

from typing import Any

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.utils import checksum

from e1000emu.clock import VirtualClock
from stack.core.dev import dev_open
from stack.core.drop_reason import drop_names
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, SOCK_DGRAM
from stack.host import Host
from stack.ipv4.arp import arp_req_set
from stack.ipv4.fib import format_addr, parse_addr
from tests.stack.core.wire import QUIET6, WireDevice, add_wire_device

ME = "10.0.0.1"
PEER = "10.0.0.2"
GW = "10.0.0.254"
FAR = "192.0.2.7"
ME_MAC = b"\x02\x00\x00\x00\x00\x01"
PEER_MAC = b"\x02\x00\x00\x00\x00\x02"
GW_MAC = b"\x02\x00\x00\x00\x00\xfe"
SEC = 1_000_000_000


def ip4(text: str) -> int:
    """Host-order int of a dotted quad."""
    return parse_addr(text)


def at(addr: str | int, port: int = 0) -> sockaddr:
    """The IPv4 socket address of (text or host-order int, port)."""
    return sockaddr(AF_INET, ip4(addr) if isinstance(addr, str) else addr, port)


def mac(addr: bytes) -> str:
    """Text form of a MAC address."""
    return ":".join(f"{b:02x}" for b in addr)


class Net:
    """A host and its interfaces; `wire` is the first one."""

    def __init__(self, host: Host, wires: list[WireDevice]) -> None:
        self.host = host
        self.wires = wires
        self.wire = wires[0]
        self.clock = host.clock

    def inject(
        self, packet: Any, *, wire: int = 0, dst: bytes | None = None, src: bytes = PEER_MAC
    ) -> None:
        """Let an IP packet (scapy or bytes) arrive; runs what follows at once."""
        device = self.wires[wire]
        frame = (dst or device.dev.dev_addr) + src + b"\x08\x00" + bytes(packet)
        device.receive(frame.ljust(60, b"\0"))
        self.clock.run_for(1000)

    def ip_sent(self, *, wire: int = 0) -> list[Any]:
        """IP packets sent since the last call, checked; ARP is left out."""
        out = []
        for frame in self.frames(wire=wire):
            packet = Ether(frame)
            if ARP in packet:
                continue
            assert IP in packet
            check_ip(packet[IP])
            out.append(packet[IP])
        return out

    def frames(self, *, wire: int = 0) -> list[bytes]:
        """Raw frames sent since the last call."""
        device = self.wires[wire]
        out = list(device.sent)
        device.sent.clear()
        return out

    def run(self, ns: int) -> None:
        """Let time pass."""
        self.clock.run_for(ns)

    def drops(self) -> dict[str, int]:
        """Drop counts by name."""
        return drop_names(self.host)


def check_ip(packet: Any) -> None:
    """Lengths and checksums as scapy computes them."""
    raw = bytes(packet)
    assert packet.version == 4
    assert packet.len == len(raw), f"tot_len {packet.len} in {len(raw)} bytes"
    again = IP(raw)
    del again.chksum
    assert IP(bytes(again)).chksum == packet.chksum, "IP checksum"
    if packet.frag or packet.flags & 1:
        return
    if ICMP in packet:  # not made again: scapy would mend what an error quotes
        assert checksum(raw[packet.ihl * 4 :]) == 0, "ICMP"
    if UDP in packet:
        fresh = IP(raw)
        if fresh[UDP].chksum:
            del fresh[UDP].chksum
            assert IP(bytes(fresh))[UDP].chksum == packet[UDP].chksum, "UDP"
            assert packet[UDP].len == len(bytes(packet[UDP]))


def one_host(
    *, addrs: tuple[str, ...] = (f"{ME}/24",), sysctl: dict[str, Any] | None = None
) -> Net:
    """A host with one interface per address, neighbours PEER and GW known on the first."""
    clock = VirtualClock()
    host = Host(name="h", clock=clock, drivers=False, sysctl={**QUIET6, **(sysctl or {})})
    wires = []
    for i, addr in enumerate(addrs):
        wire = add_wire_device(host, b"\x02\x00\x00\x00\x00" + bytes([i + 1]))
        assert dev_open(wire.dev) == 0
        host.ifconfig(wire.dev.name, addr)
        wires.append(wire)
    dev = wires[0].dev
    arp_req_set(dev, ip4(PEER), PEER_MAC)
    arp_req_set(dev, ip4(GW), GW_MAC)
    clock.run_for(10 * SEC)
    for wire in wires:
        wire.sent.clear()
    return Net(host, wires)


def udp_socket(net: Net, port: int = 0, addr: str = "0.0.0.0", family: int = AF_INET) -> int:
    """A UDP descriptor, bound when `port` or `addr` is given."""
    from stack.core.bsd_socket import sys_bind, sys_socket

    fd = sys_socket(net.host, family, SOCK_DGRAM)
    if port or addr != "0.0.0.0":
        sys_bind(net.host, fd, at(addr, port))
    return fd


def show(addr: sockaddr) -> tuple[str, int]:
    """(text, port) of an address as calls return it."""
    return format_addr(addr.addr), addr.port
