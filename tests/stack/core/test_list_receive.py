"""Packets that are passed up as a list come to the same as one by one.

The same frames, of many flows of both families, arrive at two hosts in the same batches. At one
NAPI passes up what a poll brings as lists, at the other each packet by itself, as
net.core.gro_normal_batch = 1 does in Linux.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from fastpath.base.skbuff import PACKET_OUTGOING, kfree_skb, skb_copy_bits
from stack.core.dev_receive import dev_add_pack, netdev_rx_handler_register
from stack.core.drop_reason import drop_names
from stack.core.napi import napi_gro_enable
from stack.core.netdevice import ETH_P_ALL, RX_HANDLER_CONSUMED, RX_HANDLER_PASS, packet_type
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_IN,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
)
from stack.ipv6.addr import parse_addr6
from stack.ipv6.addrconf import inet6_addr_add
from stack.ipv6.if_inet6 import IFA_F_NODAD
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM, Socket
from tests.stack.ipv4.net import ME, PEER, PEER_MAC, Net, mac, one_host
from tests.stack.ipv4.test_mutated import SEEDS
from tests.support import examples

ME6, PEER6, FAR6 = "2001:db8::1", "2001:db8::2", "2001:db8:1::9"
ME_MAC = "02:00:00:00:00:01"
PORTS = (5000, 5001, 5002, 5003)
ESTABLISHED = 2
ISN = 1000


def frame(packet: Any, dst: str = ME_MAC) -> bytes:
    return bytes(Ether(dst=dst, src=mac(PEER_MAC)) / packet).ljust(60, b"\0")


def v4(**how: Any) -> Any:
    return IP(src=PEER, dst=ME, **how)


def v6(**how: Any) -> Any:
    return IPv6(**{"src": PEER6, "dst": ME6, **how})


FRAMES = [
    *(frame(v4() / UDP(sport=s, dport=p) / Raw(b"%d" % s * 9)) for p in PORTS for s in (7, 8)),
    *(frame(v6() / UDP(sport=s, dport=p) / Raw(b"%d" % s * 9)) for p in PORTS for s in (7, 8)),
    frame(v4() / UDP(sport=7, dport=9)),  # nobody has that port
    frame(v6() / UDP(sport=7, dport=9)),
    frame(v4() / UDP(sport=7, dport=5000, chksum=1) / b"bad sum"),
    frame(v6() / UDP(sport=7, dport=5000, chksum=1) / b"bad sum"),
    frame(v4(chksum=1) / UDP(sport=7, dport=5000)),
    frame(v4(len=4000) / UDP(sport=7, dport=5000)),
    frame(v6(plen=4000) / UDP(sport=7, dport=5000)),
    frame(v4(flags=1, id=3) / UDP(sport=7, dport=5000, len=32, chksum=0) / Raw(b"f" * 16)),
    frame(v4(frag=3, id=3, proto=17) / Raw(b"g" * 8)),
    frame(v6() / IPv6ExtHdrFragment(m=1, id=3, nh=17) / Raw(b"f" * 16)),
    frame(v6() / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"ab")]) / UDP(sport=7, dport=5000)),
    frame(v6() / IPv6ExtHdrHopByHop(options=[PadN(otype=0x80)]) / UDP(sport=7, dport=5000)),
    frame(v4() / ICMP(id=5) / b"ping"),
    frame(v6() / ICMPv6EchoRequest(id=5) / b"ping"),
    frame(v6() / ICMPv6ND_NS(tgt=ME6)),
    frame(ARP(op=1, psrc=PEER, pdst=ME, hwsrc=mac(PEER_MAC)), "ff:ff:ff:ff:ff:ff"),
    frame(v6(dst=FAR6) / UDP(sport=7, dport=9)),  # to be forwarded
    frame(v6(dst=FAR6, hlim=1) / UDP(sport=7, dport=9)),
    frame(v4() / UDP(sport=7, dport=5000), "02:00:00:00:00:77"),  # somebody else's
    frame(Dot1Q(vlan=5) / v4() / UDP(sport=7, dport=5000)),
    frame(Dot1Q(vlan=0) / v4() / UDP(sport=7, dport=5000) / b"priority"),
    bytes.fromhex("02000000000102000000000288b6").ljust(60, b"\1"),
    *(frame(IP(seed)) for seed in SEEDS),
    *(
        frame(v4() / TCP(sport=4000 + c, dport=80, flags=flags, seq=ISN + 1 + at, ack=1) / load)
        for c in range(ESTABLISHED)
        for flags, at, load in (
            ("PA", 0, b"one "),
            ("PA", 4, b"two "),
            ("A", 0, b""),
            ("FA", 8, b""),
            ("RA", 0, b""),
            ("S", 20, b""),
        )
    ),
    frame(v4() / TCP(sport=4900, dport=80, flags="S", seq=77)),
    frame(v4() / TCP(sport=4900, dport=80, flags="A", seq=78, ack=1)),
    frame(v4() / TCP(sport=4900, dport=80, flags="PA", seq=78, ack=1) / b"first"),
    frame(v6() / TCP(sport=4900, dport=80, flags="S", seq=77)),
]


class Side:
    """A host that gets the frames; `state` is what must be the same."""

    def __init__(self, batch: int, gro: bool) -> None:
        self.net: Net = one_host(
            addrs=(f"{ME}/24", "10.1.0.1/24"),
            sysctl={
                "ip_forward": 1,
                "accept_source_route": 1,
                "net.ipv6.conf.all.forwarding": 1,
                "icmp_ratelimit": 0,
                "icmp_msgs_per_sec": 0,
                "net.ipv6.icmp.ratelimit": 0,
                "net.core.gro_normal_batch": batch,
            },
        )
        host, wire = self.net.host, self.net.wire
        for number, wired in enumerate(self.net.wires):
            address = parse_addr6((ME6, "2001:db8:1::1")[number])
            inet6_addr_add(wired.dev, address, 64, flags=IFA_F_NODAD)
        if gro:
            napi_gro_enable(wire.napi)
        self.log: list[Any] = []
        self.socks = [Socket(host, AF_INET, SOCK_DGRAM) for _ in PORTS]
        for sock, port in zip(self.socks, PORTS, strict=True):
            sock.bind(("", port))
        self.socks += [Socket(host, AF_INET6, SOCK_DGRAM) for _ in PORTS[:3]]
        for sock, port in zip(self.socks[4:], PORTS, strict=False):
            sock.setsockopt(41, 26, 1)  # IPV6_V6ONLY
            sock.bind(("::", port))
        self.socks[1].connect((PEER, 7))
        listener = Socket(host, AF_INET6, SOCK_STREAM)
        listener.bind(("::", 80))
        listener.listen(9)
        self.socks.append(listener)
        for sock in self.socks:
            sock.setblocking(False)
        self.acks: dict[int, int] = {}
        self.accepted: list[Socket] = []
        for c in range(ESTABLISHED):
            port = 4000 + c
            self.arrive([frame(v4() / TCP(sport=port, dport=80, flags="S", seq=ISN))])
            self.learn()
            self.arrive([self.answer(frame(self.bare(port)))])
            self.accepted.append(listener.accept()[0])
            self.accepted[-1].setblocking(False)
        self.sent()

    @staticmethod
    def bare(port: int) -> Any:
        return v4() / TCP(sport=port, dport=80, flags="A", seq=ISN + 1, ack=1)

    def learn(self) -> None:
        """Keep the initial sequence numbers of connections that the host answered."""
        for out in self.net.wire.sent:
            packet = Ether(out)
            if TCP in packet and packet[TCP].flags == "SA":
                self.acks[packet[TCP].dport] = packet[TCP].seq

    def answer(self, raw: bytes) -> bytes:
        """A frame of a connection, acknowledging what its host said."""
        packet = Ether(raw)
        if IP not in packet or packet[IP].proto != 6 or packet[TCP].sport not in self.acks:
            return raw
        if packet[TCP].flags == "S":
            return raw
        again = packet[IP].copy()
        again[TCP].ack = self.acks[packet[TCP].sport] + 1
        del again.chksum, again[TCP].chksum, again.len
        body = bytes(again[TCP].payload).rstrip(b"\0") if packet[TCP].flags != "PA" else None
        if body is not None:
            again[TCP].remove_payload()
        return frame(again)

    def arrive(self, frames: list[bytes]) -> None:
        """One poll finds these frames."""
        wire = self.net.wire
        wire.inbox += frames[:-1]
        wire.receive(frames[-1])
        self.net.clock.run_for(1000)

    def watch(self, how: str) -> None:
        host, dev = self.net.host, self.net.wire.dev
        if how == "tap":
            dev_add_pack(host, packet_type(ETH_P_ALL, self.seen))
        elif how == "second":
            dev_add_pack(host, packet_type(0x0800, self.seen))
        elif how == "hooks":
            for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
                nf_register_net_hook(host, NF_INET_PRE_ROUTING, self.judge, pf)
                nf_register_net_hook(host, NF_INET_LOCAL_IN, lambda *_: NF_ACCEPT, pf)
        elif how == "handler":
            netdev_rx_handler_register(dev, self.handler, None)

    def seen(self, skb: Any, dev: Any, *_: Any) -> int:
        if skb.pkt_type != PACKET_OUTGOING:  # those are in `sent`
            data = skb_copy_bits(skb, 0, min(len(skb), 60))
            self.log.append(("tap", dev.name, skb.pkt_type, data))
        kfree_skb(skb)
        return 0

    def judge(self, skb: Any, state: Any) -> int:
        self.log.append(("hook", state.hook, state.indev.name, len(skb)))
        return NF_DROP if len(skb) % 5 == 0 else NF_ACCEPT

    def handler(self, skb: Any) -> int:
        if len(skb) % 7:
            return RX_HANDLER_PASS
        self.log.append(("handler", len(skb)))
        kfree_skb(skb)
        return RX_HANDLER_CONSUMED

    def act(self, what: str, number: int) -> None:
        """What an application does between two batches."""
        sock = self.accepted[number % len(self.accepted)]
        with suppress(OSError):
            if what == "close":
                sock.close()
            elif what == "shut":
                sock.shutdown(1)
            elif what == "read":
                self.log.append(sock.recv(100))
            elif what == "connect":
                self.socks[number % 3].connect((PEER, 7 + number % 2))

    def sent(self) -> dict[Any, list[bytes]]:
        """What went out, by flow: replies of two flows to one batch have no order.

        Without IPv4's identifications, which are given out in that order.
        """
        flows: dict[Any, list[bytes]] = defaultdict(list)
        for number, wire in enumerate(self.net.wires):
            for out in wire.sent:
                data = bytearray(out)
                if data[12:14] == b"\x08\x00":
                    data[18:20] = data[24:26] = b"\0\0"
                    key = bytes(data[26:38]) if data[23] != 1 else bytes(data[26:])
                else:
                    key = bytes(data[22:58]) if data[20] != 58 else bytes(data[22:])
                flows[number, bytes(data[12:14]), key].append(bytes(data))
            wire.sent.clear()
        return flows

    def state(self) -> Any:
        host = self.net.host
        mibs = ("ip", "ipext", "icmp", "udp", "tcp", "linux", "ip6", "icmp6", "udp6")
        held = []
        for sock in (*self.socks, *self.accepted):
            with suppress(OSError):  # closed
                sk = sock.sk
                held.append((sk.sk_rmem_alloc, sk.sk_drops, sk.sk_err, sk.sk_state))
        return (
            {name: getattr(host.mib, name).nonzero() for name in mibs},
            [wire.dev.stats.nonzero() for wire in self.net.wires],
            drop_names(host),
            held,
            sorted(key[1:] for key in host.tcp_hashinfo.ehash),
        )

    def read(self) -> Any:
        """What each socket has to read, in order."""
        out: list[Any] = []
        for sock in self.socks[: len(PORTS) + 3]:
            with suppress(OSError):
                while True:
                    out.append((self.socks.index(sock), sock.recvfrom(2000)))
        for number, sock in enumerate(self.accepted):
            with suppress(OSError):
                out.append((number, sock.recv(2000)))
        return out

    def end(self) -> None:
        for sock in (*self.socks, *self.accepted):
            sock.close()


steps = st.one_of(
    st.lists(st.integers(0, len(FRAMES) - 1), min_size=1, max_size=40),
    st.lists(st.integers(0, 15), min_size=2, max_size=70),
    st.tuples(
        st.sampled_from(["close", "shut", "read", "connect"]), st.integers(0, ESTABLISHED - 1)
    ),
)


def run(program: list[Any], batch: int, gro: bool, watch: str) -> list[Any]:
    side = Side(batch, gro)
    side.watch(watch)
    found: list[Any] = []
    for step in program:
        if isinstance(step, tuple):
            side.act(*step)
        else:
            side.arrive([side.answer(FRAMES[i]) for i in step])
        found.append((step, dict(side.sent()), side.state()))
    found.append(side.read())
    side.net.clock.run_for(40_000_000_000)
    found.append((dict(side.sent()), side.state(), side.log))
    side.end()
    return found


@settings(max_examples=examples(25), deadline=None)
@given(
    program=st.lists(steps, min_size=1, max_size=6),
    gro=st.booleans(),
    watch=st.sampled_from(["", "", "", "tap", "second", "hooks", "handler"]),
    batch=st.sampled_from([8, 64]),
)
def test_a_list_comes_to_the_same_as_its_packets(
    program: list[Any], gro: bool, watch: str, batch: int
) -> None:
    assert run(program, batch, gro, watch) == run(program, 1, gro, watch)
