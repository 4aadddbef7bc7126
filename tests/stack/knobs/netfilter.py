"""What each sysctl of net.netfilter does: `PROBES[name]`, as in core_and_ip.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scapy.layers.inet import TCP
from scapy.layers.inet6 import ICMPv6EchoRequest

from stack import proc
from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET6, IPPROTO_ICMPV6, SOCK_DGRAM
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get
from stack.netfilter.nf_conntrack_life import nf_ct_expires
from tests.stack.ipv4.net import Net
from tests.stack.knobs.rig import BEYOND, ICMP, IP, PEER, UDP, Raw, Rig, makes_a_probe

THERE, BACK = 0, 1


def tracking(rig: Rig) -> Net:
    """A router that tracks what crosses it."""
    net = rig.router()
    for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
        nf_ct_netns_get(net.host, pf)
    return net


def listing(net: Net) -> list[list[str]]:
    """The lines of /proc/net/nf_conntrack, in words."""
    return [line.split() for line in proc.read(net.host, "nf_conntrack").splitlines()]


def left(net: Net) -> int:
    """Seconds that the only connection has left."""
    (line,) = listing(net)
    proc_seconds = int(line[4])
    (one,) = (one for one in net.host.ct.hash.values() if not one.dir)
    exact = nf_ct_expires(one.ct)
    assert proc_seconds == exact // NSEC_PER_SEC
    return -(-exact // NSEC_PER_SEC)


def udp_packet(way: int = THERE, sport: int = 1000, **fields: Any) -> Any:
    a, b = (PEER, BEYOND) if way == THERE else (BEYOND, PEER)
    ports = (sport, 53) if way == THERE else (53, sport)
    return IP(src=a, dst=b) / UDP(sport=ports[0], dport=ports[1], **fields) / Raw(b"x")


def udp_timeout(rig: Rig) -> int:
    net = tracking(rig)
    net.inject(udp_packet())
    return left(net)


def udp_stream(rig: Rig) -> int:
    net = tracking(rig)
    for _ in range(3):
        net.inject(udp_packet())
        net.inject(udp_packet(BACK), wire=1)
        net.run(1_500_000_000)
    net.inject(udp_packet())
    return left(net)


def icmp_timeout(rig: Rig) -> int:
    net = tracking(rig)
    net.inject(IP(src=PEER, dst=BEYOND) / ICMP(id=7))
    return left(net)


def icmpv6_timeout(rig: Rig) -> int:
    net = tracking(rig)
    ping = net.host.socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6)
    ping.connect(("::1", 0))
    ping.send(bytes(ICMPv6EchoRequest()))
    return left(net)


def generic_timeout(rig: Rig) -> int:
    net = tracking(rig)
    net.inject(IP(src=PEER, dst=BEYOND, proto=132) / Raw(bytes(20)))
    return left(net)


def tcp(net: Net, segments: Iterable[tuple[int, str, int, int, int]]) -> None:
    """Segments (way, flags, seq, ack, bytes) of one connection."""
    for way, flags, seq, ack, size in segments:
        a, b = (PEER, BEYOND) if way == THERE else (BEYOND, PEER)
        ports = (1000, 80) if way == THERE else (80, 1000)
        segment = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack, window=8000)
        net.inject(IP(src=a, dst=b) / segment / Raw(bytes(size)), wire=way)


OPEN = ((THERE, "S", 100, 0, 0), (BACK, "SA", 500, 101, 0), (THERE, "A", 101, 501, 0))
FIN1 = ((THERE, "FA", 101, 501, 0),)
ACK1 = ((BACK, "A", 501, 102, 0),)
FIN2 = ((BACK, "FA", 501, 102, 0),)
ACK2 = ((THERE, "A", 102, 502, 0),)


@makes_a_probe
def after(rig: Rig, *parts: Iterable[tuple[int, str, int, int, int]]) -> int:
    """A probe: the seconds left after these segments."""
    net = tracking(rig)
    for part in parts:
        tcp(net, part)
    return left(net)


def many_retransmissions(rig: Rig) -> int:
    net = tracking(rig)
    tcp(net, OPEN)
    tcp(net, [(THERE, "A", 101, 501, 0)] * 5)
    return left(net)


def passed(net: Net, *segment: Any) -> bool:
    """Whether a segment was let through as one of a connection."""
    before = net.host.ct.stat.invalid
    tcp(net, [segment])
    return bool(net.host.ct.stat.invalid == before)


def liberal(rig: Rig) -> bool:
    net = tracking(rig)
    tcp(net, OPEN)
    return passed(net, THERE, "A", 9_000_000, 501, 10)


def invalid_rst(rig: Rig) -> bool:
    net = tracking(rig)
    tcp(net, OPEN)
    tcp(net, ((THERE, "A", 101, 501, 1000), (BACK, "A", 501, 1101, 0)))
    return passed(net, THERE, "R", 101, 0, 0)


def loose(rig: Rig) -> int:
    net = tracking(rig)
    tcp(net, [(THERE, "A", 101, 501, 0)])
    return len(listing(net))


def checksum(rig: Rig) -> int:
    net = tracking(rig)
    net.inject(udp_packet(chksum=1))
    return len(listing(net))


def acct(rig: Rig) -> bool:
    net = tracking(rig)
    net.inject(udp_packet())
    return "packets=1" in listing(net)[0]


def events(rig: Rig) -> bool:
    """Whether a connection has events while nobody listens."""
    net = tracking(rig)
    net.inject(udp_packet())
    return any(one.ct.ecache is not None for one in net.host.ct.hash.values())


def limit(rig: Rig) -> int:
    """Of five flows, those that are kept."""
    net = tracking(rig)
    for sport in range(1000, 1005):
        net.inject(udp_packet(sport=sport))
    return len(listing(net))


def max_retrans(rig: Rig) -> int:
    return many_retransmissions(rig)


PROBES: dict[str, Any] = {
    "nf_conntrack_acct": (acct, {0: False, 1: True}),
    "nf_conntrack_checksum": (checksum, {1: 0, 0: 1}),
    "nf_conntrack_events": (events, {2: False, 1: True, 0: False}),
    "nf_conntrack_generic_timeout": (generic_timeout, {600: 600, 60: 60}),
    "nf_conntrack_icmp_timeout": (icmp_timeout, {30: 30, 7: 7}),
    "nf_conntrack_icmpv6_timeout": (icmpv6_timeout, {30: 30, 7: 7}),
    "nf_conntrack_max": (limit, {1024: 5, 3: 3, 0: 5}),
    "nf_conntrack_tcp_be_liberal": (liberal, {0: False, 1: True}),
    "nf_conntrack_tcp_ignore_invalid_rst": (invalid_rst, {0: False, 1: True}),
    "nf_conntrack_tcp_loose": (loose, {1: 1, 0: 0}),
    "nf_conntrack_tcp_max_retrans": (max_retrans, {3: 300, 100: 432000}),
    "nf_conntrack_tcp_timeout_close": (
        after(OPEN, [(THERE, "RA", 101, 501, 0)]),
        {10: 10, 20: 20},
    ),
    "nf_conntrack_tcp_timeout_close_wait": (after(OPEN, FIN1, ACK1), {60: 60, 20: 20}),
    "nf_conntrack_tcp_timeout_established": (after(OPEN), {432000: 432000, 600: 600}),
    "nf_conntrack_tcp_timeout_fin_wait": (after(OPEN, FIN1), {120: 120, 20: 20}),
    "nf_conntrack_tcp_timeout_last_ack": (after(OPEN, FIN1, ACK1, FIN2), {30: 30, 20: 20}),
    "nf_conntrack_tcp_timeout_max_retrans": (many_retransmissions, {300: 300, 20: 20}),
    "nf_conntrack_tcp_timeout_syn_recv": (after(OPEN[:2]), {60: 60, 20: 20}),
    "nf_conntrack_tcp_timeout_syn_sent": (after(OPEN[:1]), {120: 120, 20: 20}),
    "nf_conntrack_tcp_timeout_time_wait": (
        after(OPEN, FIN1, ACK1, FIN2, ACK2),
        {120: 120, 20: 20},
    ),
    "nf_conntrack_tcp_timeout_unacknowledged": (
        after(OPEN, [(THERE, "PA", 101, 501, 10)]),
        {300: 300, 20: 20},
    ),
    "nf_conntrack_udp_timeout": (udp_timeout, {30: 30, 7: 7}),
    "nf_conntrack_udp_timeout_stream": (udp_stream, {120: 120, 20: 20}),
}
