"""TCP over IPv6 and between the families: two hosts, no NIC, a wire that can be bad."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig, IPv6

from fastpath.base.skbuff import sk_buff
from stack.core.rows import rows_of
from stack.core.sockaddr import sockaddr
from stack.core.uapi import AF_INET, AF_INET6, IPV6_DSTOPTS, SOL_IPV6
from stack.inet.icsk_af_ops import inet_connection_sock_af_ops
from stack.ipv6.addr import ipv6_addr_set_v4mapped, parse_addr6
from stack.ipv6.af_inet6 import inet6_getname
from stack.ipv6.tcp_ipv6 import ipv6_mapped, ipv6_specific, tcp_v6_rcv, tcpv6_protocol
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST, SYN, A, B, S, Segment, Sock, transfer
from tests.stack.inet.test_tcp_chaos import nothing_is_left
from tests.stack.ipv6.tcpnet6 import A6, B6, TcpNet6, TcpNetBoth
from tests.support import errno_of

DATA = bytes(range(256)) * 1200


def sent_by_a(net: TcpNet6) -> list[Segment]:
    return [s for s in net.log if s.src == A6]


def test_handshake_says_the_mss_of_ipv6_and_scales() -> None:
    with TcpNet6() as net:
        net.pair()
        syn, synack = net.log[0], net.log[1]
        assert (syn.flags, synack.flags) == (SYN, SYN | ACK)
        for segment in (syn, synack):
            assert segment.opt(2) == (1500 - 40 - 20).to_bytes(2, "big")
            assert segment.opt(3) is not None
        assert net.b.mib.tcp.PassiveOpens == 1
        assert net.a.mib.ip6.OutRequests
        assert not net.a.mib.ip.OutRequests


@pytest.mark.parametrize("gso", [False, True])
@pytest.mark.parametrize("up", [False, True])
def test_bulk(gso: bool, up: bool) -> None:
    with TcpNet6(gso=gso) as net:
        client, server = net.pair()
        tx, rx = (client, server) if up else (server, client)
        assert transfer(net, tx, rx, DATA) == DATA
        assert all(len(s.frame) <= 1514 for s in net.log) or gso


@pytest.mark.parametrize(
    "wire",
    [
        {"loss": 0.05},
        {"reorder": 0.3},
        {"duplicate": 0.3},
        {"loss": 0.1, "reorder": 0.2, "duplicate": 0.1},
        {"loss": 0.05, "sysctl": {"tcp_sack": 0}},
        {"loss": 0.05, "sysctl": {"tcp_timestamps": 0}},
    ],
)
def test_bulk_over_a_bad_wire(wire: dict[str, Any]) -> None:
    with TcpNet6(seed=7, **wire) as net:
        net.keep_log = False
        client, server = net.pair()
        assert transfer(net, client, server, DATA) == DATA


@pytest.mark.parametrize("seed", range(16))
def test_nothing_is_left(seed: int) -> None:
    nothing_is_left(1000 + seed, TcpNet6)


def test_zero_window_is_probed_and_opens_again() -> None:
    with TcpNet6(sysctl_b={"tcp_rmem": (4096, 8192, 8192)}) as net:
        client, server = net.pair()
        sent = 0
        while True:
            try:
                sent += client.send(DATA[sent : sent + 5000])
            except BlockingIOError:
                net.run(5 * S)
                if net.a.mib.linux.TCPWinProbe >= 2:
                    break
        assert any(s.window == 0 for s in net.log if s.src == B6)
        got = b""
        while len(got) < sent:
            got += server.recv_all()
            net.run(S)
        assert got == DATA[:sent]


def test_half_close() -> None:
    with TcpNet6() as net:
        client, server = net.pair()
        client.shutdown(2)
        net.run(S)
        assert (server.recv(), client.state) == (b"", "FIN_WAIT2")
        server.send(b"still there")
        net.run(S)
        assert client.recv() == b"still there"
        server.shutdown(2)
        net.run(S)
        assert server.state == "CLOSE"
        # TIME_WAIT answers a retransmitted FIN, over IPv6.
        assert net.a.tcp_death_row.tw_refcount == 1


def test_an_extension_header_makes_segments_smaller_after_the_peers_fin_too() -> None:
    with TcpNet6() as net:
        client, server = net.pair()
        client.shutdown(2)
        assert net.run_until(lambda: server.state == "CLOSE_WAIT", 10 * S)
        unknown = b"\x1e\x0c" + bytes(12)  # RFC 4727: an option that a receiver skips
        server.setsockopt(IPV6_DSTOPTS, b"\0\1" + unknown, SOL_IPV6)
        server.send(bytes(20_000))
        net.run(S)
        assert client.recv_all() == bytes(20_000)


def test_nobody_listens_is_a_reset() -> None:
    with TcpNet6() as net:
        client = net.client(81)
        net.run(S)
        assert net.log[-1].flags == RST | ACK
        assert (client.state, client.sk.sk_err) == ("CLOSE", errno.ECONNREFUSED)
        assert net.b.mib.tcp.OutRsts == 1


def test_syn_cookie_over_ipv6() -> None:
    with TcpNet6(sysctl_b={"tcp_syncookies": 2}) as net:
        client, server = net.pair()
        assert net.b.mib.linux.SyncookiesRecv == 1
        # The largest of the table's values that the client's 1440 allows: 1500 - 60.
        assert server.sk.rx_opt.mss_clamp == 1440
        assert transfer(net, client, server, DATA[:50000]) == DATA[:50000]


def test_syn_ack_is_sent_again() -> None:
    with TcpNet6() as net:
        listener = net.listening()
        lost = iter([False])
        net.filter = lambda s: next(lost, True) if s.flags == SYN | ACK else True
        net.client()
        assert net.run_until(lambda: listener.readable, 20 * S)
        assert net.b.mib.linux.TCPSynRetrans + net.a.mib.linux.TCPSynRetrans >= 1


def inject6(net: TcpNet6, to_a: bool, packet: Any) -> None:
    """A packet arrives at host a or b."""
    wire = net.wires[0 if to_a else 1]
    assert wire.peer is not None
    wire.receive(wire.dev.dev_addr + wire.peer.dev.dev_addr + b"\x86\xdd" + bytes(packet))
    net.run(MS)


def test_packet_too_big_makes_segments_smaller() -> None:
    with TcpNet6(gso=False) as net:
        client, server = net.pair()
        net.filter = lambda s: len(s.frame) <= 14 + 1300
        client.send(DATA[:4000])
        net.run(MS)
        large = max(sent_by_a(net), key=lambda s: len(s.frame))
        assert len(large.frame) == 1514
        router = IPv6(src="2001:db8::99", dst="2001:db8::1")
        inject6(net, True, router / ICMPv6PacketTooBig(mtu=1300) / large.frame[14:1246])
        assert client.sk.icsk_pmtu_cookie == 1300
        net.run(3 * S)
        assert server.recv_all() == DATA[:4000]
        # Another connection to the same host knows it from the beginning.
        net.filter = None
        second, _ = net.pair(81)
        assert second.sk.mss_cache == 1300 - 60 - 12


def test_packet_too_big_below_1280_is_ignored() -> None:
    """Linux: no router may ask for less, so the report is not believed at all."""
    with TcpNet6(gso=False) as net:
        client, _server = net.pair()
        net.filter = lambda s: False
        client.send(DATA[:2000])
        net.run(MS)
        quoted = sent_by_a(net)[-1].frame[14:]
        router = IPv6(src="2001:db8::99", dst="2001:db8::1")
        inject6(net, True, router / ICMPv6PacketTooBig(mtu=600) / quoted[:1200])
        assert client.sk.icsk_pmtu_cookie == 1500
        net.filter = None
        net.run(10 * S)


@pytest.mark.parametrize(
    ("code", "err"), [(0, errno.ENETUNREACH), (1, errno.EACCES), (3, errno.EHOSTUNREACH)]
)
def test_unreachable_ends_a_connection_that_is_being_set_up(code: int, err: int) -> None:
    with TcpNet6() as net:
        net.filter = lambda s: False
        client = net.client()
        net.run(MS)
        quoted = net.log[-1].frame[14:]
        router = IPv6(src="2001:db8::99", dst="2001:db8::1")
        inject6(net, True, router / ICMPv6DestUnreach(code=code) / quoted)
        assert (client.state, client.sk.sk_err) == ("CLOSE", err)


def test_unreachable_that_quotes_a_wrong_number_is_not_believed() -> None:
    with TcpNet6() as net:
        net.filter = lambda s: False
        client = net.client()
        net.run(MS)
        quoted = bytearray(net.log[-1].frame[14:])
        quoted[44] ^= 0x80
        router = IPv6(src="2001:db8::99", dst="2001:db8::1")
        inject6(net, True, router / ICMPv6DestUnreach(code=0) / bytes(quoted))
        assert client.state == "SYN_SENT"
        assert net.a.mib.linux.OutOfWindowIcmps == 1


def test_link_local_needs_a_scope_and_binds_the_child() -> None:
    with TcpNet6() as net:
        listener = net.listening()
        client = net.socket(net.a)
        peer = parse_addr6("fe80::2")
        with pytest.raises(OSError, match=r"Invalid argument|EINVAL") as error:
            client.connect(peer, 80)
        assert error.value.errno == errno.EINVAL
        client.scope_id = net.wires[0].dev.ifindex
        client.connect(peer, 80)
        assert net.run_until(lambda: listener.readable)
        server = listener.accept()
        assert server.sk.sk_bound_dev_if == net.wires[1].dev.ifindex
        assert server.sk.inet_daddr == parse_addr6("fe80::1")
        named = inet6_getname(server.sock, None, 0, 1)
        assert named == sockaddr(
            AF_INET6, parse_addr6("fe80::1"), client.sk.inet_sport, 0, net.wires[1].dev.ifindex
        )
        assert transfer(net, client, server, DATA[:9000]) == DATA[:9000]


def test_group_is_no_peer() -> None:
    with TcpNet6() as net, pytest.raises(OSError) as error:  # noqa: PT011 - the number is judged
        net.socket(net.a).connect(parse_addr6("ff02::1"), 80)
    assert error.value.errno == errno.ENETUNREACH


def test_loopback() -> None:
    with TcpNet6() as net:
        listener = net.socket(net.a)
        listener.bind(80)
        listener.listen(4)
        client = net.socket(net.a)
        client.connect(1, 80)
        assert net.run_until(lambda: listener.readable)
        server = listener.accept()
        assert transfer(net, client, server, DATA) == DATA
        net.finish()
        assert not net.log


# --- both families ------------------------------------------------------------------------


def test_v4_mapped_peer_is_spoken_to_in_ipv4() -> None:
    with TcpNetBoth() as net:
        listener = Sock(net, net.b)
        listener.bind(80)
        listener.listen(4)
        client = net.socket(net.a)
        client.connect(ipv6_addr_set_v4mapped(B), 80)
        assert net.run_until(lambda: listener.readable)
        server = listener.accept()
        assert client.sk.icsk_af_ops is ipv6_mapped
        assert client.sk.sk_family == AF_INET6
        assert (client.sk.sk_af.family, client.sk.inet_daddr) == (AF_INET, B)
        named = inet6_getname(client.sock, None, 0, 1)
        assert named.addr == ipv6_addr_set_v4mapped(B)
        assert transfer(net, client, server, DATA) == DATA
        net.finish()
        assert {s.src for s in net.log} == {A, B}


def test_listener_of_both_families_takes_either_and_its_children_differ() -> None:
    with TcpNetBoth() as net:
        listener = net.listening()
        old, new = Sock(net, net.a), net.socket(net.a)
        old.connect(B, 80)
        new.connect(B6, 80)
        servers = []
        for _ in range(2):
            assert net.run_until(lambda: listener.readable)
            servers.append(listener.accept())
        by_family = {s.sk.sk_af.family: s for s in servers}
        assert by_family[AF_INET].sk.icsk_af_ops is ipv6_mapped
        assert by_family[AF_INET6].sk.icsk_af_ops is ipv6_specific
        assert {s.sk.sk_family for s in servers} == {AF_INET6}
        assert transfer(net, old, by_family[AF_INET], DATA) == DATA
        assert transfer(net, new, by_family[AF_INET6], DATA) == DATA


def test_cookie_of_the_other_family() -> None:
    with TcpNetBoth(sysctl_b={"tcp_syncookies": 2}) as net:
        listener = net.listening()
        client = Sock(net, net.a)
        client.connect(B, 80)
        assert net.run_until(lambda: listener.readable)
        server = listener.accept()
        assert (server.sk.sk_af.family, server.sk.icsk_af_ops) == (AF_INET, ipv6_mapped)
        assert transfer(net, client, server, DATA[:9000]) == DATA[:9000]


def test_v6only_listener_resets_ipv4() -> None:
    with TcpNetBoth() as net:
        listener = net.socket(net.b)
        listener.sk.sk_ipv6only = True
        listener.bind(80)
        listener.listen(4)
        client = Sock(net, net.a)
        client.connect(B, 80)
        net.run(S)
        assert client.sk.sk_err == errno.ECONNREFUSED


def test_v6only_socket_does_not_connect_to_a_mapped_address() -> None:
    with TcpNetBoth() as net:
        client = net.socket(net.a)
        client.sk.sk_ipv6only = True
        assert errno_of(client.connect, ipv6_addr_set_v4mapped(B), 80) == errno.ENETUNREACH
        assert client.sk.icsk_af_ops is ipv6_specific


def test_early_demux_gives_a_connection_its_packets_and_their_route(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, Any]] = []

    def spy(skb: sk_buff) -> int:
        seen.append((skb.sk, skb.dst))
        return tcp_v6_rcv(skb)

    monkeypatch.setattr(tcpv6_protocol, "handler", spy)
    with TcpNet6() as net:
        client, server = net.pair()
        seen.clear()
        client.send(b"x")
        net.run(MS * 20)
        assert seen[0] == (server.sk, server.sk.sk_rx_dst)
        assert seen[0][1] is not None
        # A route that holds no more is looked up again, and the new one remembered.
        old = server.sk.sk_rx_dst
        old.kill()
        client.send(b"y")
        net.run(MS * 20)
        assert server.recv_all() == b"xy"


def test_every_slot_of_both_tables_is_filled() -> None:
    for table in (ipv6_specific, ipv6_mapped):
        for name in rows_of(inet_connection_sock_af_ops):
            assert getattr(table, name) is not None, name
    assert (ipv6_specific.net_header_len, ipv6_mapped.net_header_len) == (40, 20)


def test_time_wait_answers_with_the_sockets_class_and_label() -> None:
    with TcpNet6() as net:
        client, server = net.pair()
        client.sk.pinet6.tclass, client.sk.pinet6.flow_label = 0x40, 0x12345
        client.close()
        net.run(S)
        server.close()
        net.run(S)
        fin = [s for s in net.log if s.src == B6 and s.flags & FIN][-1]
        seen = len(net.log)
        net.wires[0].receive(fin.frame)
        net.run(S)
        assert net.log[seen].flags == ACK  # which b, whose socket is gone, answers by RST
        assert net.log[seen].frame[14:18].hex() == "64012345"
        net.run(200 * S)
