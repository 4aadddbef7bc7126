"""Hosts with one knob turned, for probes that observe what it does.

A probe is a function of a `Rig`: it builds a net, runs traffic and returns what it saw (a number, a
flag, an errno). `Rig.live` says when the knob is written: as the host is made, or afterwards.
"""

from __future__ import annotations

import errno as codes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from scapy.layers.inet import ICMP, IP, UDP
from scapy.packet import Raw

from e1000emu.clock import VirtualClock
from fastpath.base.skbuff import sk_buff
from stack.core.bsd_socket import sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_LOCAL_OUT,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    nf_register_net_hook,
)
from stack.core.uapi import AF_INET, MSG_DONTWAIT, SOCK_DGRAM, SOCK_STREAM
from stack.host import Host
from stack.ipv4.arp import arp_req_set
from stack.socket import Socket
from tests.stack.inet.tcpnet import S, Segment, Sock, TcpNet
from tests.stack.ipv4.net import FAR, GW, ME, PEER, Net, at, ip4, one_host
from tests.support import errno_of

OUT, BEYOND = "10.1.0.1", "10.1.0.2"
LO = 0x7F000001


class Rig:
    """One knob's value and how it is written; makes nets whose hosts have it."""

    def __init__(self, sysctl: dict[str, Any], live: bool) -> None:
        self.sysctl, self.live = sysctl, live

    def _apply(self, *hosts: Host) -> None:
        if self.live:
            for host in hosts:
                if "ipfrag_high_thresh" in self.sysctl:
                    host.sysctl.ipfrag_low_thresh = 0  # which bounds it
                for name, value in self.sysctl.items():
                    host.sysctl[name] = value

    def given(self, more: dict[str, Any]) -> dict[str, Any]:
        """What the constructor is given."""
        return more if self.live else {**more, **self.sysctl}

    def host(self, **options: Any) -> Host:
        """A host with loopback only."""
        host = Host(name="h", clock=VirtualClock(), drivers=False, sysctl=self.given({}), **options)
        self._apply(host)
        return host

    def ip(self, *addrs: str, **more: Any) -> Net:
        """A host with a wire for each address; scapy is the rest of the world."""
        net = one_host(addrs=addrs or (f"{ME}/24",), sysctl=self.given(more))
        self._apply(net.host)
        return net

    def router(self, **more: Any) -> Net:
        """Two wires, ip_forward, the neighbour BEYOND known on the second."""
        net = self.ip(f"{ME}/24", f"{OUT}/24", **{"ip_forward": 1, **more})
        arp_req_set(net.wires[1].dev, ip4(BEYOND), b"\x02\0\0\0\1\2")
        return net

    @contextmanager
    def tcp(self, *, sysctl: dict[str, Any] | None = None, **options: Any) -> Iterator[TcpNet]:
        """Two hosts on a wire; both have the knob. Sockets are closed by the hosts' end."""
        net = TcpNet(sysctl=self.given(sysctl or {}), **options)
        self._apply(net.a, net.b)
        yield net


def makes_a_probe(body: Callable[..., Any]) -> Callable[..., Callable[[Any], Any]]:
    """Call a function with all arguments but the first, the value; that gives a probe."""
    return lambda *given, **named: lambda value: body(value, *given, **named)


def udp(net: Net, port: int = 5000) -> int:
    """A bound UDP descriptor."""
    fd = sys_socket(net.host, AF_INET, SOCK_DGRAM)
    if port:
        sys_bind(net.host, fd, at(0, port))
    return fd


def udp_host() -> tuple[Net, int]:
    """A host, and a UDP descriptor of it bound to port 5000."""
    net = one_host()
    return net, udp(net)


def datagram(size: int = 10, dport: int = 5000, **ip: Any) -> Any:
    """A UDP packet from PEER to ME."""
    return IP(**{"src": PEER, "dst": ME, **ip}) / UDP(sport=9, dport=dport) / Raw(bytes(size))


def take(host: Host, fd: int) -> int:
    """How many datagrams wait; they are read."""
    count = 0
    while True:
        try:
            sys_recvfrom(host, fd, bytearray(70000), MSG_DONTWAIT)
        except BlockingIOError:
            return count
        count += 1


def waiting(sock: Socket) -> list[int]:
    """The sizes of the datagrams that wait at a socket that does not block; they are read."""
    sizes = []
    with suppress(BlockingIOError):
        while True:
            sizes.append(len(sock.recv(9000)))
    return sizes


def send(host: Host, fd: int, to: str, size: int = 10, port: int = 9) -> None:
    sys_sendto(host, fd, bytes(size), MSG_DONTWAIT, at(to, port))


def err(call: Callable[..., Any], *args: Any) -> str:
    """The name of the errno that a call fails with, "" when it does not."""
    return codes.errorcode.get(errno_of(call, *args), "")


def flows(net: TcpNet) -> tuple[Sock, Sock]:
    """A connection and 200 kB on it."""
    a, b = net.pair()
    push(net, a, b, 200_000)
    return a, b


def push(net: TcpNet, a: Sock, b: Sock, size: int, limit_ns: int = 600 * S) -> int:
    """Send `size` bytes from a to b; bytes that arrived within the limit."""
    sent = got = 0
    end = net.clock.now_ns() + limit_ns
    while got < size and net.clock.now_ns() < end:
        if sent < size:
            with suppress(BlockingIOError):
                sent += a.send(bytes(min(size - sent, 60_000)))
        got += len(b.recv_all())
        if not net.clock.step():
            break
    return got


def syns(net: TcpNet) -> list[Segment]:
    """SYNs (not SYN-ACKs) that crossed."""
    return [s for s in net.log if s.flags & 0x12 == 2]


def marked(host: Any, pf: int = NFPROTO_IPV4) -> list[int]:
    """From now on all that comes has mark 7. Returns the list that the marks sent are added to."""
    seen: list[int] = []

    def come(skb: sk_buff, state: Any) -> int:
        skb.mark = 7
        return NF_ACCEPT

    def leave(skb: sk_buff, state: Any) -> int:
        seen.append(skb.mark)
        return NF_ACCEPT

    nf_register_net_hook(host, NF_INET_PRE_ROUTING, come, pf)
    nf_register_net_hook(host, NF_INET_LOCAL_OUT, leave, pf)
    return seen


__all__ = [
    "AF_INET",
    "BEYOND",
    "FAR",
    "GW",
    "ICMP",
    "IP",
    "LO",
    "ME",
    "OUT",
    "PEER",
    "SOCK_DGRAM",
    "SOCK_STREAM",
    "UDP",
    "Raw",
    "Rig",
    "S",
    "datagram",
    "err",
    "flows",
    "ip4",
    "marked",
    "push",
    "send",
    "syns",
    "sys_setsockopt",
    "take",
    "udp",
    "udp_host",
    "waiting",
]
