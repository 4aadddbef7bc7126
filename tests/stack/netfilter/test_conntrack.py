"""Connection tracking: states by packets that scapy makes, malformed ones, the table's limits."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, ICMPerror, IPerror, UDPerror
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.packet import Raw

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from stack import proc
from stack.core.netfilter import (
    NF_ACCEPT,
    NF_INET_FORWARD,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_CONNTRACK_DEFRAG,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    nf_register_net_hook,
)
from stack.host import Host
from stack.ipv4.arp import arp_req_set
from stack.netfilter import firewall
from stack.netfilter import nf_conntrack_proto_tcp as tcp_proto
from stack.netfilter.match import ct_state_of
from stack.netfilter.nf_conntrack import (
    IP_CT_ESTABLISHED,
    IP_CT_ESTABLISHED_REPLY,
    IP_CT_NEW,
    IP_CT_RELATED,
    IP_CT_RELATED_REPLY,
    IP_CT_UNTRACKED,
    IPS_ASSURED,
    IPS_SEEN_REPLY,
)
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get, nf_ct_netns_put
from stack.netfilter.nf_conntrack_tuple import nf_ct_invert_tuple
from tests.stack.ipv4.net import PEER, Net, ip4, one_host

OUT, BEYOND = "10.1.0.1", "10.1.0.2"
THERE, BACK = 0, 1
ESTABLISHED, NEW, RELATED, INVALID, UNTRACKED = "established", "new", "related", "invalid", "untr"
NAMES = {1: INVALID, 2: ESTABLISHED, 4: RELATED, 8: NEW, 64: UNTRACKED}


class Tracked:
    """A router between PEER and BEYOND that tracks; `state(packet)` says what a packet is to it."""

    def __init__(self, **sysctl: int) -> None:
        knobs = {"ip_forward": 1, "icmp_ratelimit": 0} | sysctl
        self.net: Net = one_host(addrs=("10.0.0.1/24", f"{OUT}/24"), sysctl=knobs)
        self.host = self.net.host
        arp_req_set(self.net.wires[1].dev, ip4(BEYOND), b"\x02\0\0\0\1\2")
        for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
            nf_ct_netns_get(self.host, pf)
        self.seen: list[str] = []
        self.infos: list[int] = []
        nf_register_net_hook(self.host, NF_INET_FORWARD, self.look)

    def look(self, skb: Any, state: Any) -> int:
        self.seen.append(NAMES[ct_state_of(skb)])
        self.infos.append(skb.nfctinfo)
        return NF_ACCEPT

    def state(self, packet: Any, way: int = THERE) -> str:
        self.seen.clear()
        self.net.inject(packet, wire=way)
        assert len(self.seen) <= 1
        return self.seen[0] if self.seen else "not forwarded"

    def table(self) -> list[Any]:
        return [one.ct for one in self.host.ct.hash.values() if not one.dir]


@pytest.fixture
def tracked() -> Iterator[Tracked]:
    made = Tracked()
    yield made
    made.host.close()
    assert made.host.skb_small.in_use == 0


def ends(way: int) -> dict[str, str]:
    return {"src": PEER, "dst": BEYOND} if way == THERE else {"src": BEYOND, "dst": PEER}


def udp(way: int = THERE, sport: int = 1000, dport: int = 53, **fields: Any) -> Any:
    ports = (sport, dport) if way == THERE else (dport, sport)
    return IP(**ends(way)) / UDP(sport=ports[0], dport=ports[1], **fields) / Raw(b"data")


def seg(
    way: int, flags: str, seq: int = 0, ack: int = 0, size: int = 0, options: Any = (), **more: Any
) -> Any:
    ports = (1000, 80) if way == THERE else (80, 1000)
    fields = {"window": 8000, "options": list(options)} | more
    tcp = TCP(sport=ports[0], dport=ports[1], flags=flags, seq=seq, ack=ack, **fields)
    return IP(**ends(way)) / tcp / Raw(bytes(size))


# --- UDP, ICMP, others --------------------------------------------------------------------------


def test_udp_new_answered_stream(tracked: Tracked) -> None:
    assert tracked.state(udp()) == NEW
    assert tracked.state(udp()) == NEW
    assert tracked.state(udp(BACK), BACK) == ESTABLISHED
    assert tracked.state(udp()) == ESTABLISHED
    assert tracked.infos == [
        IP_CT_NEW,
        IP_CT_NEW,
        IP_CT_ESTABLISHED_REPLY,
        IP_CT_ESTABLISHED,
    ]
    (ct,) = tracked.table()
    assert ct.status & IPS_SEEN_REPLY
    assert not ct.status & IPS_ASSURED
    tracked.net.run(2_100_000_000)
    tracked.state(udp())
    assert ct.status & IPS_ASSURED


def test_a_listing_as_linux_prints_it(tracked: Tracked) -> None:
    tracked.state(udp())
    assert proc.read(tracked.host, "nf_conntrack") == (
        f"ipv4     2 udp      17 29 src={PEER} dst={BEYOND} sport=1000 dport=53 [UNREPLIED] "
        f"src={BEYOND} dst={PEER} sport=53 dport=1000 mark=0 zone=0 use=2\n"
    )
    names, values = proc.read(tracked.host, "stat/nf_conntrack").splitlines()
    stat = dict(zip(names.split(), values.split(), strict=True))
    assert stat["entries"] == "00000001"
    assert stat["insert"] == "00000001"
    assert tracked.host.sysctl.nf_conntrack_count == 1


def test_time_ends_connections(tracked: Tracked) -> None:
    tracked.state(udp())
    tracked.net.run(29_000_000_000)
    assert len(tracked.table()) == 1
    tracked.net.run(3_000_000_000)
    assert tracked.table() == []
    assert tracked.host.sysctl.nf_conntrack_count == 0
    assert tracked.state(udp(BACK), BACK) == NEW


def test_a_socket_that_sends_to_itself() -> None:
    """Both directions have one tuple: it is found as the reply, and its time ends, too."""
    with Host("h", clock=VirtualClock()) as host, host.socket(type=socket.SOCK_DGRAM) as sock:
        nf_ct_netns_get(host, NFPROTO_IPV4)
        sock.bind(("127.0.0.1", 99))
        for unreplied in (True, False):
            sock.sendto(b"x", ("127.0.0.1", 99))
            assert ("UNREPLIED" in proc.read(host, "nf_conntrack")) == unreplied
        host.clock.run_for(400_000_000_000)
        assert (proc.read(host, "nf_conntrack"), host.ct.count) == ("", 0)


def test_icmp_queries(tracked: Tracked) -> None:
    ping = IP(**ends(THERE)) / ICMP(id=7, seq=1)
    pong = IP(**ends(BACK)) / ICMP(type=0, id=7, seq=1)
    assert tracked.state(pong, BACK) == INVALID  # nobody asked
    assert tracked.state(ping) == NEW
    assert tracked.state(pong, BACK) == ESTABLISHED
    other = IP(**ends(BACK)) / ICMP(type=0, id=8)
    assert tracked.state(other, BACK) == INVALID
    assert tracked.state(IP(**ends(THERE)) / ICMP(type=40)) == INVALID


def test_a_protocol_that_is_not_known(tracked: Tracked) -> None:
    there = IP(**ends(THERE), proto=132) / Raw(bytes(20))
    assert tracked.state(there) == NEW
    assert tracked.state(IP(**ends(BACK), proto=132) / Raw(bytes(20)), BACK) == ESTABLISHED


def unreachable(way: int, inner: Any, **outer: Any) -> Any:
    """An ICMP error that quotes `inner`, sent by who is at the end of `way`."""
    quoted = bytes(inner)[:28]
    return IP(**(ends(way) | outer)) / ICMP(type=3, code=1) / Raw(quoted)


def test_errors_are_related_to_what_they_quote(tracked: Tracked) -> None:
    packet = udp()
    tracked.state(packet)
    assert tracked.state(unreachable(BACK, packet), BACK) == RELATED
    assert tracked.infos[-1] == IP_CT_RELATED_REPLY
    assert tracked.state(unreachable(BACK, packet, src="10.1.0.9"), BACK) == RELATED
    answer = udp(BACK)
    tracked.state(answer, BACK)
    assert tracked.state(unreachable(THERE, answer)) == RELATED
    assert tracked.infos[-1] == IP_CT_RELATED


def test_errors_about_nothing_or_to_another_are_invalid(tracked: Tracked) -> None:
    packet = udp()
    tracked.state(packet)
    assert tracked.state(unreachable(BACK, udp(sport=1001)), BACK) == INVALID
    assert tracked.state(unreachable(BACK, packet, dst="10.0.0.3"), BACK) in (
        INVALID,
        "not forwarded",
    )
    for cut in (0, 8, 19, 20, 24, 27):
        error = IP(**ends(BACK)) / ICMP(type=3, code=1) / Raw(bytes(packet)[:cut])
        assert tracked.state(error, BACK) == INVALID, cut


# --- TCP ----------------------------------------------------------------------------------------


def test_the_table_is_the_kernels_in_what_it_promises() -> None:
    """Its size, and the few transitions that the rest of the code is built on."""
    table = tcp_proto.TCP_CONNTRACKS
    assert [len(rows) for rows in table] == [6, 6]
    assert {len(row) for rows in table for row in rows} == {10}
    for rows in table:
        assert set(rows[5]) == {10}  # no flags: INVALID
        assert set(rows[4][1:]) == {8}  # a reset: CLOSE
    syn, synack, _, ack = table[0][:4]
    assert (syn[0], synack[0], ack[0]) == (1, 10, 3)
    assert (table[1][1][1], table[0][3][2]) == (2, 3)


def names(tracked: Tracked) -> str:
    (ct,) = tracked.table()
    return tcp_proto.TCP_CONNTRACK_NAMES[ct.tcp.state]


def open_connection(tracked: Tracked) -> None:
    assert tracked.state(seg(THERE, "S", 100)) == NEW
    assert names(tracked) == "SYN_SENT"
    assert tracked.state(seg(BACK, "SA", 500, 101), BACK) == ESTABLISHED
    assert names(tracked) == "SYN_RECV"
    assert tracked.state(seg(THERE, "A", 101, 501)) == ESTABLISHED
    assert names(tracked) == "ESTABLISHED"


def test_a_connection_opens_and_closes(tracked: Tracked) -> None:
    open_connection(tracked)
    (ct,) = tracked.table()
    assert ct.status & IPS_ASSURED
    tracked.state(seg(THERE, "FA", 101, 501))
    assert names(tracked) == "FIN_WAIT"
    tracked.state(seg(BACK, "A", 501, 102), BACK)
    assert names(tracked) == "CLOSE_WAIT"
    tracked.state(seg(BACK, "FA", 501, 102), BACK)
    assert names(tracked) == "LAST_ACK"
    tracked.state(seg(THERE, "A", 102, 502))
    assert names(tracked) == "TIME_WAIT"
    assert tracked.state(seg(THERE, "S", 900)) == NEW  # opened again
    assert names(tracked) == "SYN_SENT"
    assert len(tracked.table()) == 1


def test_a_refused_connection_is_forgotten_at_once(tracked: Tracked) -> None:
    tracked.state(seg(THERE, "S", 100))
    tracked.state(seg(BACK, "RA", 0, 101), BACK)
    assert tracked.table() == []


@pytest.mark.parametrize("flags", ["", "SF", "SR", "F", "FR", "SFRPAU", "FPU", "PU", "SRA"])
def test_flags_nobody_may_send_are_invalid(tracked: Tracked, flags: str) -> None:
    assert tracked.state(seg(THERE, flags, 100)) == INVALID
    assert tracked.table() == []


def test_segments_out_of_the_window_are_invalid(tracked: Tracked) -> None:
    open_connection(tracked)
    assert tracked.state(seg(THERE, "A", 101, 501, 100)) == ESTABLISHED
    assert tracked.state(seg(THERE, "A", 101 + 20000, 501, 100)) == INVALID
    assert tracked.state(seg(THERE, "A", 101, 501 + 90000, 100)) == INVALID
    assert tracked.state(seg(BACK, "A", 501, 102), BACK) == ESTABLISHED
    assert tracked.state(seg(BACK, "R", 77, 0), BACK) == INVALID
    assert names(tracked) == "ESTABLISHED"


def test_a_reset_that_does_not_match_exactly_leaves_it_open(tracked: Tracked) -> None:
    """RFC 5961: the receiver will challenge it."""
    open_connection(tracked)
    tracked.state(seg(THERE, "A", 101, 501, 100))
    tracked.state(seg(BACK, "A", 501, 201), BACK)
    assert tracked.state(seg(BACK, "R", 900), BACK) == ESTABLISHED
    assert names(tracked) == "ESTABLISHED"
    assert tracked.state(seg(BACK, "R", 501), BACK) == ESTABLISHED
    assert names(tracked) == "CLOSE"


def test_window_scales_count_when_both_offer_them(tracked: Tracked) -> None:
    scaled = [("WScale", 7)]
    tracked.state(seg(THERE, "S", 100, options=scaled))
    tracked.state(seg(BACK, "SA", 500, 101, options=scaled), BACK)
    tracked.state(seg(THERE, "A", 101, 501, window=1000))
    assert tracked.state(seg(BACK, "A", 501, 101, window=1000), BACK) == ESTABLISHED
    assert tracked.state(seg(THERE, "A", 101 + 100_000, 501, 100)) == ESTABLISHED
    assert tracked.state(seg(THERE, "A", 101 + 300_000, 501, 100)) == INVALID


def test_simultaneous_open(tracked: Tracked) -> None:
    tracked.state(seg(THERE, "S", 100))
    tracked.state(seg(BACK, "S", 500), BACK)
    assert names(tracked) == "SYN_SENT2"
    tracked.state(seg(THERE, "SA", 100, 501))
    assert names(tracked) == "SYN_RECV"
    tracked.state(seg(BACK, "A", 501, 101), BACK)
    assert names(tracked) == "ESTABLISHED"


def test_sequence_numbers_wrap(tracked: Tracked) -> None:
    top = (1 << 32) - 50
    tracked.state(seg(THERE, "S", top))
    tracked.state(seg(BACK, "SA", top, top + 1), BACK)
    tracked.state(seg(THERE, "A", top + 1, top + 1, 100))
    assert tracked.state(seg(BACK, "A", top + 1, 51), BACK) == ESTABLISHED
    assert tracked.state(seg(THERE, "A", 51, top + 1, 10)) == ESTABLISHED


# --- what must not harm --------------------------------------------------------------------------


def test_bad_sums_and_lengths_are_invalid(tracked: Tracked) -> None:
    assert tracked.state(udp(chksum=1)) == INVALID
    assert tracked.state(udp(len=7)) == INVALID
    assert tracked.state(udp(len=100)) == INVALID
    assert tracked.state(udp(chksum=0)) == NEW  # none is none
    assert tracked.state(seg(THERE, "S", 1, chksum=1)) == INVALID
    assert tracked.state(seg(THERE, "S", 1, dataofs=4)) == INVALID
    assert tracked.state(seg(THERE, "S", 1, dataofs=15)) == INVALID
    assert tracked.state(IP(**ends(THERE)) / ICMP(chksum=1)) == INVALID
    for proto, size in ((6, 19), (6, 0), (17, 7), (1, 7)):
        assert tracked.state(IP(**ends(THERE), proto=proto) / Raw(bytes(size))) == INVALID


def test_fragments_are_put_together_and_cut_again(tracked: Tracked) -> None:
    whole = IP(**ends(THERE), id=9) / UDP(sport=1000, dport=53) / Raw(bytes(range(200)) * 15)
    data = bytes(IP(bytes(whole)))[20:]
    pieces = []
    for at in range(0, len(data), 1000):
        more = at + 1000 < len(data)
        header = IP(**ends(THERE), id=9, proto=17, frag=at // 8, flags="MF" if more else "")
        pieces.append(header / Raw(data[at : at + 1000]))
    for piece in (pieces[2], pieces[0], pieces[3]):
        assert tracked.state(piece) == "not forwarded"
    assert tracked.state(pieces[1]) == NEW
    sent = tracked.net.wires[1].sent
    got = {}
    for frame in sent:
        packet = IP(frame[14:])
        got[packet.frag * 8] = bytes(packet)[20 : packet.len]
    joined = b"".join(got[at] for at in sorted(got))
    assert joined == data
    assert len(got) > 1
    assert max(len(part) for part in got.values()) <= 1000  # no larger than they came


@pytest.mark.parametrize("ip", [4, 6])
def test_fragments_that_are_not_tracked_stay_as_they_are(ip: int) -> None:
    """nf_defrag_ipv4.c, nf_defrag_ipv6_hooks.c: a hook before them may say so."""

    def untrack(skb: Any, state: Any) -> int:
        skb.nfctinfo = IP_CT_UNTRACKED
        return NF_ACCEPT

    a, b = two_hosts(sysctl={"net.ipv6.conf.default.accept_dad": 0})
    for host, last in ((a, 1), (b, 2)):
        host.ifconfig("eth0", f"2001:db8::{last}/64")
    b.clock.run_for(5_000_000_000)
    pf, name = (NFPROTO_IPV4, "10.0.0.2") if ip == 4 else (NFPROTO_IPV6, "2001:db8::2")
    nf_ct_netns_get(b, pf)
    nf_register_net_hook(b, NF_INET_PRE_ROUTING, untrack, pf, NF_IP_PRI_CONNTRACK_DEFRAG - 1)
    seen: list[int] = []

    def look(skb: Any, state: Any) -> int:
        seen.append(skb.len)
        return NF_ACCEPT

    nf_register_net_hook(b, NF_INET_PRE_ROUTING, look, pf, 1000)
    sock = a.socket(socket.AF_INET if ip == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    sock.sendto(bytes(4000), (name, 7))
    b.clock.run_for(1_000_000_000)
    assert len([one for one in seen if one > 100]) == 3  # without the neighbours' messages
    sock.close()
    a.close()
    b.close()


def test_a_full_table_drops_what_nobody_answered(tracked: Tracked) -> None:
    tracked.host.sysctl.nf_conntrack_max = 10
    for sport in range(5):
        tracked.state(udp(sport=2000 + sport))
        tracked.state(udp(BACK, sport=2000 + sport), BACK)
    tracked.net.run(3_000_000_000)
    for sport in range(5):
        tracked.state(udp(sport=2000 + sport))  # assured
    for sport in range(50):
        assert tracked.state(udp(sport=3000 + sport)) == NEW
    assert len(tracked.table()) == 10
    assert tracked.host.ct.stat.early_drop == 45
    ports = sorted(ct.orig.tuple[3] for ct in tracked.table())
    assert ports == [2000, 2001, 2002, 2003, 2004, 3045, 3046, 3047, 3048, 3049]
    for sport in range(3045, 3050):
        tracked.state(udp(BACK, sport=sport), BACK)
    tracked.net.run(3_000_000_000)
    for sport in range(3045, 3050):
        tracked.state(udp(sport=sport))
    assert tracked.state(udp(sport=4000)) == "not forwarded"
    assert tracked.host.ct.stat.drop == 1


def test_loopback_is_tracked_once(a: Host, b: Host) -> None:
    for pf in (NFPROTO_IPV4, NFPROTO_IPV6):
        nf_ct_netns_get(a, pf)
    states: list[int] = []

    def look(skb: Any, state: Any) -> int:
        states.append(skb.nfctinfo)
        return NF_ACCEPT

    nf_register_net_hook(a, NF_INET_PRE_ROUTING, look, NFPROTO_IPV4, 1000)
    server = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 7))
    client = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.sendto(b"x", ("127.0.0.1", 7))
    data, peer = server.recvfrom(10)
    firewall.notrack(a, "prerouting")  # too late: nft_notrack_eval leaves it as it is
    server.sendto(data, peer)
    assert client.recv(10) == b"x"
    firewall.flush(a)
    assert states == [IP_CT_NEW, IP_CT_ESTABLISHED_REPLY]
    assert a.ct.count == 1
    assert a.ct.stat.insert == 1
    nf_ct_netns_put(a, NFPROTO_IPV4)
    assert a.nf_hooks[0][0].hook is look
    for sock in (client, server):
        sock.close()


def test_ipv6_is_tracked_and_neighbours_are_not() -> None:
    a, b = two_hosts(sysctl={"net.ipv6.conf.default.accept_dad": 0})
    nf_ct_netns_get(b, NFPROTO_IPV6)
    seen = []

    def look(skb: Any, state: Any) -> int:
        seen.append(NAMES[ct_state_of(skb)])
        return NF_ACCEPT

    nf_register_net_hook(b, NF_INET_PRE_ROUTING, look, NFPROTO_IPV6, 1000)
    a.ifconfig("eth0", "2001:db8::1/64")
    b.ifconfig("eth0", "2001:db8::2/64")
    a.clock.run_for(5_000_000_000)
    seen.clear()
    ping = a.socket(socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
    ping.settimeout(5)
    ping.connect(("2001:db8::2", 0))
    for size in (10, 4000):  # whole, and in fragments
        ping.send(bytes(ICMPv6EchoRequest(data=bytes(size))))
        assert len(ping.recv(5000)) == size + 8
    assert seen[0] == UNTRACKED  # the neighbour solicitation
    assert seen.count(NEW) == 1
    assert set(seen) == {UNTRACKED, NEW, ESTABLISHED}
    ping.close()
    a.close()
    b.close()


def test_inverses() -> None:
    there = (2, 6, 1, 1000, 2, 80)
    assert nf_ct_invert_tuple(there) == (2, 6, 2, 80, 1, 1000)
    assert nf_ct_invert_tuple((2, 1, 1, 77, 2, 8 << 8)) == (2, 1, 2, 77, 1, 0)
    assert nf_ct_invert_tuple((10, 58, 1, 77, 2, 128 << 8)) == (10, 58, 2, 77, 1, 129 << 8)
    assert nf_ct_invert_tuple((2, 1, 1, 77, 2, 3 << 8)) is None
    assert nf_ct_invert_tuple((10, 58, 1, 0, 2, 135 << 8)) is None


# --- rules ---------------------------------------------------------------------------------------


def test_rules_by_state_and_tuple(tracked: Tracked) -> None:
    host = tracked.host
    firewall.policy(host, "forward", "drop")
    kept = firewall.accept(host, "forward", state="established,related")
    firewall.accept(host, "forward", iif="eth0", proto="udp", dport=53, saddr="10.0.0.0/24")
    sent = tracked.net.wires[1].sent

    def through(packet: Any, way: int = THERE) -> bool:
        for wire in tracked.net.wires:
            wire.sent.clear()
        tracked.net.inject(packet, wire=way)
        return bool(tracked.net.wires[1 - way].sent)

    assert not through(udp(BACK), BACK)
    assert not through(udp(dport=54))
    assert through(udp())
    assert through(udp(BACK), BACK)
    assert kept.packets == 1
    assert through(unreachable(BACK, udp()), BACK)
    firewall.reject(host, "forward", proto="tcp", with_="tcp reset")
    assert not through(seg(THERE, "S", 100))
    reset = tracked.net.ip_sent(wire=0)[-1][TCP]
    assert (reset.flags, reset.ack, reset.sport) == ("RA", 101, 80)
    firewall.reject(host, "forward", proto="udp", dport=54)
    assert not through(udp(dport=54))
    (told,) = tracked.net.ip_sent(wire=0)
    assert (told[ICMP].type, told[ICMP].code, told[UDPerror].dport) == (3, 3, 54)
    assert told[IPerror].dst == BEYOND
    assert ICMPerror not in told
    firewall.flush(host)
    assert firewall.rules(host) == []
    assert through(udp(dport=54))
    assert sent


def test_notrack_and_negation(tracked: Tracked) -> None:
    host = tracked.host
    rule = firewall.notrack(host, "prerouting", proto="udp", dport="50-60")
    assert tracked.state(udp()) == UNTRACKED
    assert tracked.state(udp(dport=61)) == NEW
    firewall.delete(host, rule)
    assert tracked.state(udp()) == NEW
    other = firewall.notrack(host, "prerouting", mark="!0")  # all have mark 0
    assert tracked.state(udp()) == NEW
    firewall.delete(host, other)
    firewall.drop(host, "forward", saddr="!10.0.0.0/24")
    firewall.drop(host, "forward", iif="!eth0", proto="tcp")
    assert [r.text for r in firewall.rules(host)] == [
        "saddr !10.0.0.0/24 drop",
        "iif !eth0 proto tcp drop",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"port": 80}, "asks for"),
        ({"saddr": "10.0.0.1", "daddr": "::1"}, "IPv4 or about IPv6"),
        ({"dport": 80}, "need proto"),
        ({"proto": "tpc"}, "'tpc'"),
        ({"proto": "tcp", "dport": "90-80"}, "ports are"),
        ({"state": "old"}, "'old'"),
        ({"saddr": "10.0.0.300"}, "10.0.0.300"),
        ({"ip": "ipx"}, "'ipx'"),
        ({"ip": "!ip"}, "'!ip'"),
        ({"mark": -1}, "32 bits"),
    ],
)
def test_words_that_mean_nothing_are_named(
    tracked: Tracked, words: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        firewall.accept(tracked.host, "forward", **words)
    with pytest.raises(ValueError, match="chain 'forwards'"):
        firewall.accept(tracked.host, "forwards")
    with pytest.raises(ValueError, match="in chains"):
        firewall.reject(tracked.host, "prerouting")
