"""Damaged packets against a busy host: dropped, answered or delivered, never worse."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_LSRR, IPOption_RR, IPOption_Timestamp
from scapy.packet import Raw

from fastpath.base.csum import ip_compute_csum
from stack.core.bsd_socket import (
    sys_bind,
    sys_connect,
    sys_listen,
    sys_recvfrom,
    sys_set_nonblocking,
    sys_setsockopt,
    sys_socket,
)
from stack.core.uapi import (
    IP_ADD_MEMBERSHIP,
    IP_PKTINFO,
    IP_RECVERR,
    IP_RECVOPTS,
    IP_RETOPTS,
    IPPROTO_ICMP,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    SOL_IP,
)
from tests.stack.ipv4.net import ME, PEER, Net, at, ip4, one_host
from tests.support import examples

INNER_UDP = bytes(IP(src=ME, dst=PEER) / UDP(sport=5000, dport=9) / b"12345678")
INNER_TCP = bytes(IP(src=ME, dst=PEER) / TCP(sport=80, dport=9) / b"12345678")
INNER_PING = bytes(IP(src=ME, dst=PEER) / ICMP(id=77))
QUERY = b"\x11\x0a\0\0" + bytes(4) + b"\x02\x7d\0\0"

SEEDS = [
    bytes(p)
    for p in (
        IP(src=PEER, dst=ME) / UDP(sport=9, dport=5000) / Raw(b"x" * 40),
        IP(src=PEER, dst=ME) / TCP(sport=9, dport=80, flags="S", options=[("MSS", 1460)]),
        IP(src=PEER, dst=ME) / TCP(sport=9, dport=80, flags="A", ack=5, seq=3) / b"data",
        IP(src=PEER, dst=ME) / ICMP(id=77) / Raw(b"y" * 40),
        IP(src=PEER, dst=ME) / ICMP(type=0, id=77),
        IP(src=PEER, dst=ME) / ICMP(type=13),
        IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / Raw(INNER_UDP),
        IP(src=PEER, dst=ME) / ICMP(type=3, code=4, nexthopmtu=600) / Raw(INNER_UDP),
        IP(src=PEER, dst=ME) / ICMP(type=3, code=4, nexthopmtu=600) / Raw(INNER_TCP),
        IP(src=PEER, dst=ME) / ICMP(type=11) / Raw(INNER_PING),
        IP(src=PEER, dst=ME) / ICMP(type=12, ptr=3) / Raw(INNER_UDP),
        IP(src=PEER, dst=ME) / ICMP(type=5, gw="10.0.0.9") / Raw(INNER_UDP),
        IP(src=PEER, dst="224.0.0.1", proto=2) / Raw(QUERY),
        IP(src=PEER, dst="239.1.2.3") / UDP(sport=9, dport=5000) / b"group",
        IP(src=PEER, dst="10.0.0.255") / UDP(sport=9, dport=5000) / b"all",
        IP(src=PEER, dst=ME, proto=17, flags=1, id=5) / Raw(b"z" * 64),
        IP(src=PEER, dst=ME, proto=17, frag=8, id=5) / Raw(b"z" * 64),
        IP(src=PEER, dst=ME, proto=200) / Raw(b"unknown"),
        IP(src=PEER, dst="10.1.0.9", ttl=1) / UDP(),
        IP(src=PEER, dst="10.1.0.9", options=[IPOption_RR(routers=["0.0.0.0"] * 4)]) / UDP(),
        IP(src=PEER, dst=ME, options=[IPOption_LSRR(routers=["10.1.0.9"])]) / UDP(dport=5000),
        IP(src=PEER, dst=ME, options=[IPOption_Timestamp(flg=1)]) / UDP(dport=5000),
    )
]

changes = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=5)


def busy() -> Net:
    """A forwarding host with sockets of every kind."""
    net = one_host(
        addrs=(f"{ME}/24", "10.1.0.1/24"), sysctl={"ip_forward": 1, "accept_source_route": 1}
    )
    host = net.host
    udp, ping, raw, tcp = (
        sys_socket(host, 2, kind, proto)
        for kind, proto in ((2, 0), (2, IPPROTO_ICMP), (3, IPPROTO_ICMP), (1, 0))
    )
    sys_bind(host, udp, at(0, 5000))
    sys_bind(host, ping, at(0, 77))
    sys_bind(host, tcp, at(0, 80))
    sys_listen(host, tcp, 5)
    group = ip4("239.1.2.3").to_bytes(4, "big") + ip4(ME).to_bytes(4, "big")
    sys_setsockopt(host, udp, SOL_IP, IP_ADD_MEMBERSHIP, group)
    for fd in (udp, ping, raw):
        for opt in (IP_PKTINFO, IP_RECVERR, IP_RECVOPTS, IP_RETOPTS):
            sys_setsockopt(host, fd, SOL_IP, opt, 1)
    client = sys_socket(host, 2, 1)
    sys_set_nonblocking(host, client, True)
    with suppress(BlockingIOError):
        sys_connect(host, client, at(PEER, 9))
    return net


@settings(max_examples=examples(120))
@given(
    st.lists(
        st.tuples(st.sampled_from(SEEDS), changes, st.integers(0, 60), st.booleans()), max_size=8
    )
)
def test_no_damage_crashes_or_leaks(packets: list[tuple]) -> None:
    if not _NET:
        _NET.append(busy())
    net = _NET[0]
    for seed, edits, cut, mend in packets:
        packet = bytearray(seed)
        for where, value in edits:
            packet[where % len(packet)] = value
        if cut:
            packet = packet[: max(len(packet) - cut, 1)]
        if mend and len(packet) >= 20:
            hlen = min((packet[0] & 15) * 4, len(packet))
            packet[10:12] = b"\0\0"
            packet[10:12] = ip_compute_csum(bytes(packet[:hlen])).to_bytes(2, "big")
            if packet[9] in (1, 2) and len(packet) >= hlen + 4 and hlen >= 20:
                packet[hlen + 2 : hlen + 4] = b"\0\0"
                total = ip_compute_csum(bytes(packet[hlen:]))
                packet[hlen + 2 : hlen + 4] = total.to_bytes(2, "big")
        net.inject(bytes(packet))
    for fd in tuple(net.host.fdtable.fd):
        for flags in (MSG_DONTWAIT, MSG_DONTWAIT | MSG_ERRQUEUE):
            with suppress(OSError):
                while sys_recvfrom(net.host, fd, bytearray(100), flags)[0]:
                    pass
    net.run(70 * 10**9)
    net.frames()
    net.frames(wire=1)
    assert net.host.ipv4.frags.mem == 0
    assert net.host.skb_pages.in_use == 0
    assert net.host.skb_small.in_use <= 8, "packets of TCP handshakes at most"


_NET: list[Net] = []
