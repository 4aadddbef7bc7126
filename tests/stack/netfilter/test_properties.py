"""Random packets through conntrack and NAT; scapy makes them and judges what comes out."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from stack.ipv4.arp import arp_req_set
from stack.netfilter import firewall, nat
from tests.stack.ipv4.net import ME, PEER, Net, ip4, one_host
from tests.support import examples

OUT, BEYOND = "10.1.0.1", "10.1.0.2"
SERVERS = ["10.1.0.2", "10.1.0.3"]
CLIENTS = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
FEW = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=examples(40))


def router() -> Net:
    """eth0 is inside; eth1 outside, masqueraded; port 8080 of it is handed to a client."""
    net = one_host(addrs=(f"{ME}/24", f"{OUT}/24"), sysctl={"ip_forward": 1, "icmp_ratelimit": 0})
    for addr in SERVERS:
        arp_req_set(net.wires[1].dev, ip4(addr), b"\x02\0\0\0\1\2")
    for addr in CLIENTS:
        arp_req_set(net.wires[0].dev, ip4(addr), b"\x02\0\0\0\0\2")
    nat.masquerade(net.host, oif="eth1")
    nat.dnat(net.host, f"{CLIENTS[1]}:80", iif="eth1", proto="tcp", dport=8080)
    return net


ports = st.sampled_from([1, 511, 600, 1023, 1024, 5000, 5001, 65535])


@st.composite
def requests(draw: Any) -> Any:
    """A packet that begins a connection, from inside to outside."""
    src, dst = draw(st.sampled_from(CLIENTS)), draw(st.sampled_from(SERVERS))
    data = Raw(draw(st.binary(max_size=64)))
    kind = draw(st.sampled_from(["udp", "udp0", "tcp", "icmp", "sctp"]))
    ip = IP(src=src, dst=dst, id=draw(st.integers(0, 65535)), ttl=draw(st.integers(2, 255)))
    if kind == "tcp":
        syn = TCP(
            sport=draw(ports), dport=draw(ports), flags="S", seq=draw(st.integers(0, 2**32 - 1))
        )
        return ip / syn / data
    if kind == "icmp":
        return ip / ICMP(id=draw(st.integers(0, 3)), seq=1) / data
    if kind == "sctp":
        return IP(src=src, dst=dst, proto=132) / data
    sums = {} if kind == "udp" else {"chksum": 0}
    return ip / UDP(sport=draw(ports), dport=draw(ports), **sums) / data


def answer(packet: Any) -> Any:
    """What the other end sends back to a packet as it arrived there."""
    ip = IP(src=packet.dst, dst=packet.src, proto=packet.proto)
    if TCP in packet:
        t = packet[TCP]
        size = len(bytes(t.payload))
        flags = TCP(sport=t.dport, dport=t.sport, flags="SA", seq=7, ack=(t.seq + 1 + size) % 2**32)
        return ip / flags
    if UDP in packet:
        return ip / UDP(sport=packet[UDP].dport, dport=packet[UDP].sport) / Raw(b"answer")
    if ICMP in packet:
        return ip / ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq) / Raw(b"answer")
    return ip / Raw(b"answer")


def ends(packet: Any) -> tuple[Any, ...]:
    """Protocol, addresses and ports, as the packet has them."""
    if TCP in packet or UDP in packet:
        layer = packet[TCP] if TCP in packet else packet[UDP]
        return packet.proto, packet.src, layer.sport, packet.dst, layer.dport
    if ICMP in packet:
        ident = packet[ICMP].id
        return packet.proto, packet.src, ident, packet.dst, ident
    return packet.proto, packet.src, 0, packet.dst, 0


def clear(net: Net) -> None:
    for wire in net.wires:
        wire.sent.clear()


@FEW
@given(st.lists(requests(), min_size=1, max_size=12))
def test_answers_come_back_to_who_asked(packets: list[Any]) -> None:
    """Every connection leaves with a tuple of its own; its answer, and an error about it, arrive
    with the client's own address and port."""
    net = router()
    out: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for packet in packets:
        clear(net)
        net.inject(packet)
        sent = net.ip_sent(wire=1)
        inside = ends(packet)
        if not sent:  # SCTP and its like have no ports: the second client must wait
            assert packet.proto == 132
            continue
        (there,) = sent
        outside = ends(there)
        assert there.src == OUT
        assert (outside[0], outside[3]) == (inside[0], inside[3])
        assert outside[4] == inside[4] or packet.proto == 1  # one identifier, for both ends
        assert there.ttl == packet.ttl - 1
        assert out.setdefault(outside, inside) == inside
        clear(net)
        net.inject(
            IP(src=there.dst, dst=OUT) / ICMP(type=3, code=1) / Raw(bytes(there)[:28]), wire=1
        )
        (told,) = net.ip_sent(wire=0)
        assert told.dst == packet.src
        quoted = IP(bytes(told[ICMP].payload))
        assert (quoted.src, quoted.dst, quoted.proto) == (packet.src, packet.dst, packet.proto)
        if quoted.proto in (6, 17):
            assert bytes(quoted)[20:24] == bytes(IP(bytes(packet)))[20:24]  # the ports
        elif quoted.proto == 1:
            assert bytes(quoted)[24:26] == bytes(IP(bytes(packet)))[24:26]  # the identifier
        clear(net)
        net.inject(answer(there), wire=1)
        (back,) = net.ip_sent(wire=0)
        assert ends(back) == (inside[0], inside[3], inside[4], inside[1], inside[2])
    tuples = [one.tuple for one in net.host.ct.hash.values()]
    assert len(set(tuples)) == len(tuples)
    net.host.close()
    assert net.host.skb_small.in_use == 0


@FEW
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]),
            st.sampled_from([1, 6, 17, 132, 0, 255]),
            st.binary(max_size=80),
            st.integers(0, 0x3FFF),
            st.booleans(),
        ),
        max_size=25,
    )
)
def test_garbage_harms_nobody(packets: list[tuple[int, int, bytes, int, bool]]) -> None:
    """Any bytes behind a right IP header, fragments too, in both directions and to the router."""
    net = router()
    firewall.drop(net.host, "input", state="invalid")
    firewall.reject(net.host, "forward", state="invalid", with_="tcp reset")
    for way, proto, data, frag, ours in packets:
        src, dst = (PEER, BEYOND) if not way else (BEYOND, OUT)
        if ours:
            dst = ME if not way else OUT
        fields = {"frag": frag & 0x1FFF, "flags": "MF" if frag & 0x2000 else 0} if frag & 1 else {}
        net.inject(bytes(IP(src=src, dst=dst, proto=proto, **fields) / Raw(data)), wire=way)
    net.run(60_000_000_000)
    net.host.close()
    assert net.host.skb_small.in_use == 0
    assert net.host.skb_pages.in_use == 0


@FEW
@given(requests(), st.integers(0, 200), st.binary(max_size=4))
def test_damaged_quotes_are_never_believed(packet: Any, cut: int, noise: bytes) -> None:
    """ICMP errors that quote a piece of a packet, with bytes changed: nothing breaks, and what is
    let in has right sums."""
    net = router()
    net.inject(packet)
    sent = net.ip_sent(wire=1)
    if sent:
        quoted = bytearray(bytes(sent[0])[:cut])
        quoted[: len(noise)] = noise
        error = IP(src=sent[0].dst, dst=OUT) / ICMP(type=11, code=0) / Raw(bytes(quoted))
        net.inject(bytes(error), wire=1)
        for told in net.ip_sent(wire=0):
            assert told.dst == packet.src
    net.host.close()
    assert net.host.skb_small.in_use == 0
