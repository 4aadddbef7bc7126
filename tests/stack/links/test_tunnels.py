"""Tunnels: the wire as scapy reads it, what arrives, path MTU, marks, hostile packets."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.all import GRE, IP, UDP, Ether, IPv6, Raw

from e1000emu.capture import read_capture
from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic
from e1000emu.links import Capture, pair
from fastpath.base.skbuff import skb_from_bytes
from stack.core.dev_receive import netif_receive_skb
from stack.core.softirq import local_bh_disable, local_bh_enable
from stack.ethernet.eth import eth_type_trans
from stack.host import Host
from stack.netlink.rt_attrs import IFINFOMSG
from stack.socket import AF_INET, AF_INET6, SOCK_DGRAM
from tests.stack.core.wire import QUIET6, assert_no_leak
from tests.stack.links.switch import refused
from tests.stack.links.test_veth import stream
from tests.support import examples

KINDS = ("ipip", "sit", "gre", "gretap", "ip6tnl", "ip6gre", "ip6gretap")
OUTSIDE4, OUTSIDE6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")
MTU = {
    "ipip": 1480,
    "sit": 1480,
    "gre": 1476,
    "gretap": 1462,
    "ip6tnl": 1452,
    "ip6gre": 1448,
    "ip6gretap": 1434,
}
SOL_IP, SOL_IPV6, IP_TOS, IPV6_TCLASS, IP_TTL, IP_MTU_DISCOVER = 0, 41, 1, 67, 2, 10
IPV6_UNICAST_HOPS = 16
MAC_A, MAC_B = b"\2\0\0\0\0a", b"\2\0\0\0\0b"


class Pair:
    """Two hosts with a NIC each; `frames()` are those of the wire."""

    def __init__(self, path: Path, **sysctl: int) -> None:
        self.clock, self.path = VirtualClock(), path
        ends = pair(self.clock)
        self.capture = Capture(ends[0], path)
        links = (("a", self.capture, MAC_A), ("b", ends[1], MAC_B))
        self.hosts = []
        for name, link, mac in links:
            host = Host(name, clock=self.clock, sysctl={**QUIET6, **sysctl})
            add_nic(host, link, mac=mac, wait=False)
            self.hosts.append(host)
        self.a, self.b = self.hosts
        for at, host in enumerate(self.hosts):
            assert host.wait_carrier("eth0")
            host.ifconfig("eth0", f"{OUTSIDE4[at]}/24")
            host.ifconfig("eth0", f"{OUTSIDE6[at]}/64")
        self.clock.run_for(3 * 10**9)

    def tunnel(self, kind: str, **words) -> None:
        """The same on both hosts, with 192.168.0.1, .2 and fd01::1, ::2 inside."""
        ends = OUTSIDE6 if "6" in kind.removesuffix("ip6ip") and kind != "sit" else OUTSIDE4
        for at, host in enumerate(self.hosts):
            host.add_tunnel("t0", kind, local=ends[at], remote=ends[1 - at], up=True, **words)
            if kind != "sit":
                host.ifconfig("t0", f"192.168.0.{at + 1}/24")
            if kind != "ipip":
                host.ifconfig("t0", f"fd01::{at + 1}/64")
        self.clock.run_for(3 * 10**9)

    def datagram(self, six: bool, payload: bytes = b"x" * 32, tos: int = 0, ttl: int = 0) -> bytes:
        """One from a to b, through the tunnel; what b got."""
        family = AF_INET6 if six else AF_INET
        to = "fd01::2" if six else "192.168.0.2"
        with self.a.socket(family, SOCK_DGRAM) as tx, self.b.socket(family, SOCK_DGRAM) as rx:
            rx.bind((to, 9))
            rx.settimeout(2)
            tx.setsockopt(SOL_IPV6 if six else SOL_IP, IPV6_TCLASS if six else IP_TOS, tos)
            if ttl:
                tx.setsockopt(
                    SOL_IPV6 if six else SOL_IP, IPV6_UNICAST_HOPS if six else IP_TTL, ttl
                )
            tx.sendto(payload, (to, 9))
            return rx.recv(65536)

    def frames(self) -> list:
        """Every frame so far."""
        self.capture.writer.flush()
        return [Ether(record.data) for record in read_capture(self.path)]


@pytest.fixture
def wire(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path / "wire.pcapng")
    yield made
    assert_no_leak(*made.hosts)


def carries(kind: str) -> tuple[bool, ...]:
    """The families inside: IPv4 is False, IPv6 True."""
    return {"ipip": (False,), "sit": (True,)}.get(kind, (False, True))


@pytest.mark.parametrize("kind", KINDS)
def test_datagrams_of_both_families_arrive(wire: Pair, kind: str) -> None:
    wire.tunnel(kind)
    assert wire.a.dev("t0").mtu == MTU[kind]
    for six in carries(kind):
        assert wire.datagram(six) == b"x" * 32
        assert wire.datagram(six, b"y" * 1300) == b"y" * 1300
    sent = [one for one in wire.frames() if UDP in one and one[UDP].dport == 9]
    assert len(sent) == 2 * len(carries(kind))
    outer = IPv6 if "ip6" in kind else IP
    for frame in sent:
        assert frame.getlayer(1).__class__ is outer
        assert (GRE in frame) == ("gre" in kind)
        inside = frame[UDP].underlayer
        assert inside.src in ("192.168.0.1", "fd01::1")
        if "tap" in kind:
            assert frame[GRE].proto == 0x6558
            assert frame[GRE].payload.__class__ is Ether
    rx, tx = wire.b.dev("t0").stats, wire.a.dev("t0").stats
    assert rx.rx_errors == tx.tx_errors == 0
    assert tx.tx_packets >= len(sent)
    assert rx.rx_packets == tx.tx_packets
    assert rx.rx_bytes == tx.tx_bytes


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sit"])
def test_a_stream(wire: Pair, kind: str) -> None:
    wire.tunnel(kind)
    stream(wire.a, wire.b, "192.168.0.2", 200_000)
    assert max(len(one) for one in wire.frames()) <= 1514


@pytest.mark.parametrize("kind", ["gre", "gretap", "ip6gre", "ip6gretap"])
def test_key_sum_and_number_of_gre(wire: Pair, kind: str) -> None:
    wire.tunnel(kind, key=77, csum=True, seq=True)
    assert wire.a.dev("t0").mtu == MTU[kind] - 12
    wire.datagram(False)
    wire.datagram(False)
    sent = [one[GRE] for one in wire.frames() if UDP in one and one[UDP].dport == 9]
    assert [(one.key, one.key_present, one.chksum_present) for one in sent] == [(77, 1, 1)] * 2
    first = sent[0].sequence_number
    assert sent[1].sequence_number == first + 1
    for one in sent:
        was = one.chksum
        del one.chksum
        assert GRE(bytes(one)).chksum == was


def test_the_first_number_of_gre_may_be_any(wire: Pair) -> None:
    wire.tunnel("gre", seq=True)
    sender, receiver = (host.dev("t0").priv for host in wire.hosts)
    receiver.i_seqno, sender.o_seqno = 0, 0x9000_0000
    assert wire.datagram(False) == b"x" * 32
    assert receiver.i_seqno == 0x9000_0001
    sender.o_seqno = 0x8FFF_FFFF
    with pytest.raises(TimeoutError):
        wire.datagram(False)
    assert receiver.dev.stats.rx_fifo_errors == 1


def test_ttl_and_tos_are_those_inside_or_the_given(wire: Pair) -> None:
    wire.tunnel("gre", ttl=9, tos=0x20)
    wire.datagram(False, tos=0x48, ttl=33)
    wire.a.del_link("t0")
    wire.b.del_link("t0")
    wire.tunnel("gre", tos="inherit")
    wire.datagram(False, tos=0x48, ttl=33)
    first, second = (one for one in wire.frames() if UDP in one and one[UDP].dport == 9)
    assert (first[IP].ttl, first[IP].tos) == (9, 0x20)
    assert (second[IP].ttl, second[IP].tos) == (33, 0x48)


@pytest.mark.parametrize("kind", ["ipip", "sit", "ip6tnl"])
@pytest.mark.parametrize("inner", range(4))
@pytest.mark.parametrize("outer", range(4))
def test_marks_are_combined_as_rfc_6040_says(wire: Pair, kind: str, inner: int, outer: int) -> None:
    """Figure 4 of RFC 6040, but that Linux ignores a mark of ECT(1) on ECT(0) inside CE."""
    wire.tunnel(kind)
    six = kind == "sit"
    inside = (
        IPv6(src="fd01::1", dst="fd01::2", tc=inner)
        if six
        else IP(src="192.168.0.1", dst="192.168.0.2", tos=inner)
    )
    payload = inside / UDP(dport=9) / b"m"
    head = (
        IPv6(src=OUTSIDE6[0], dst=OUTSIDE6[1], tc=outer)
        if kind == "ip6tnl"
        else IP(src=OUTSIDE4[0], dst=OUTSIDE4[1], tos=outer, proto=41 if six else 4)
    )
    family = AF_INET6 if six else AF_INET
    with wire.b.socket(family, SOCK_DGRAM) as rx:
        rx.bind(("::" if six else "0.0.0.0", 9))
        rx.settimeout(0.1)
        rx.setsockopt(SOL_IPV6 if six else SOL_IP, 66 if six else 13, 1)  # RECVTCLASS, RECVTOS
        inject(wire.b, bytes(Ether(src=MAC_A, dst=MAC_B) / head / payload))
        want = {(0, 3): None}.get((inner, outer), 3 if 3 in (inner, outer) and inner else inner)
        if (inner, outer) == (2, 1):
            want = 1
        if want is None:
            with pytest.raises(TimeoutError):
                rx.recvmsg(10, 100)
            assert wire.b.dev("t0").stats.rx_frame_errors == 1
        else:
            _, control, _, _ = rx.recvmsg(10, 100)
            assert int.from_bytes(control[0][2][:1], "little") == want


def inject(host: Host, frame: bytes) -> None:
    """A frame that eth0 receives."""
    skb = skb_from_bytes(host.machine.skb_small, frame, 64)
    assert skb is not None
    local_bh_disable(host.machine)
    try:
        eth_type_trans(skb, host.dev("eth0"))
        netif_receive_skb(skb)
    finally:
        local_bh_enable(host.machine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_path_mtu_is_told_to_the_sender(wire: Pair, kind: str) -> None:
    wire.tunnel(kind)
    wire.a.ifconfig("eth0", mtu=1400)
    six = carries(kind)[0]
    family, to = (AF_INET6, "fd01::2") if six else (AF_INET, "192.168.0.2")
    with wire.a.socket(family, SOCK_DGRAM) as tx:
        tx.setsockopt(SOL_IPV6 if six else SOL_IP, 23 if six else IP_MTU_DISCOVER, 2)
        tx.connect((to, 9))
        size = MTU[kind] - (48 if six else 28)
        if "tap" not in kind:
            tx.send(b"z" * size)  # ICMP from the tunnel answers
            with refused(errno.EMSGSIZE):
                tx.send(b"z" * size)
            mtu = tx.getsockopt(SOL_IPV6 if six else SOL_IP, 24 if six else 14)
            assert mtu == MTU[kind] - 100


def test_a_tunnel_into_itself_counts_collisions(wire: Pair) -> None:
    wire.a.add_tunnel("t0", "ipip", remote="192.168.0.9", up=True)
    wire.a.ifconfig("t0", "192.168.0.1/24")
    with wire.a.socket(AF_INET, SOCK_DGRAM) as tx:
        tx.sendto(b"x", ("192.168.0.9", 9))
    assert wire.a.dev("t0").stats.collisions == 1
    wire.a.add_tunnel("t1", "ipip", remote="192.168.1.9", local="192.168.2.1", up=True)
    wire.a.add_tunnel("t2", "ipip", remote="192.168.2.9", local="192.168.1.1", up=True)
    wire.a.ifconfig("t1", "192.168.2.1/24")
    wire.a.ifconfig("t2", "192.168.1.1/24")
    with wire.a.socket(AF_INET, SOCK_DGRAM) as tx:
        tx.sendto(b"x", ("192.168.2.9", 9))
    stats = wire.a.dev("t1").stats
    assert stats.tx_packets + stats.tx_errors + stats.tx_dropped < 20


def test_what_no_tunnel_takes_is_answered_with_port_unreachable(wire: Pair) -> None:
    wire.tunnel("gre")
    for frame in (
        Ether(src=MAC_A, dst=MAC_B)
        / IP(src="10.0.0.1", dst="10.0.0.2")
        / GRE(key_present=1, key=5),
        Ether(src=MAC_A, dst=MAC_B) / IP(src="10.0.0.1", dst="10.0.0.2", proto=4) / IP(),
    ):
        inject(wire.b, bytes(frame))
    wire.clock.run_for(10**9)
    errors = [one for one in wire.frames() if "ICMP" in one and one["ICMP"].type == 3]
    assert [one["ICMP"].code for one in errors] == [3, 3]


def test_wrong_arguments(wire: Pair) -> None:
    a = wire.a
    a.add_tunnel("t0", "gre", remote="10.0.0.2", key=1)
    with refused(errno.EEXIST):
        a.add_tunnel("t1", "gre", remote="10.0.0.2", key=1)
    with refused(errno.EINVAL):
        a.add_tunnel("t1", "gre", ignore_df=True)
    with refused(errno.ENODEV):
        a.add_tunnel("t1", "gre", link="nothere")
    for words in ({"kind": "nokind"}, {"kind": "ipip", "key": 5}, {"kind": "gre", "ttl": 256}):
        with pytest.raises(ValueError, match="add_tunnel"):
            a.add_tunnel("t1", **words)
    assert set(a.dev_by_name) == {"lo", "eth0", "t0"}
    assert IFINFOMSG.size == 16


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    made = Pair(tmp_path_factory.mktemp("hostile") / "wire.pcapng")
    for kind in KINDS:
        ends = OUTSIDE6 if kind.startswith("ip6") else OUTSIDE4
        extra = {"csum": True, "seq": True, "key": 7} if kind == "gretap" else {}
        made.b.add_tunnel(kind, kind, local=ends[1], remote=ends[0], up=True, **extra)
        made.b.add_tunnel(f"{kind}x", kind, up=True)
    yield made
    assert_no_leak(*made.hosts)


@pytest.mark.sends_bad_frames
@settings(max_examples=examples(300), deadline=None)
@given(
    proto=st.sampled_from((4, 41, 47)),
    six=st.booleans(),
    flags=st.sampled_from((0, 0x8000, 0x2000, 0xB000, 0x4000, 0x0001)),
    inside=st.sampled_from((0x0800, 0x86DD, 0x6558, 0x883E, 0)),
    body=st.binary(max_size=120),
    good=st.booleans(),
)
def test_hostile_packets_are_dropped_without_a_leak(
    hostile: Pair, proto: int, six: bool, flags: int, inside: int, body: bytes, good: bool
) -> None:
    if good:  # a packet that parses for longer
        body = bytes(IP(src="192.168.0.9", dst="192.168.0.2") / UDP() / body)
    if proto == 47:
        body = flags.to_bytes(2, "big") + inside.to_bytes(2, "big") + body
    head = (
        IPv6(src=OUTSIDE6[0], dst=OUTSIDE6[1], nh=proto)
        if six
        else IP(src=OUTSIDE4[0], dst=OUTSIDE4[1], proto=proto)
    )
    inject(hostile.b, bytes(Ether(src=MAC_A, dst=MAC_B) / head / Raw(body)))
