"""Listeners, requests, TIME_WAIT and lookups: the parts around a connection."""

from __future__ import annotations

import errno
import gc

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.lab import two_hosts
from fastpath.base.csum import ip_compute_csum
from stack.core.drop_reason import (
    SKB_DROP_REASON_TCP_LISTEN_OVERFLOW,
    SKB_DROP_REASON_TCP_RFC7323_TSECR,
)
from stack.core.sock import lock_sock, release_sock
from stack.core.uapi import POLLIN, SO_DONTROUTE
from stack.host import Host
from stack.inet import tcp_sock as opt
from stack.inet.inet_connection_sock import inet_csk_accept, request_sock
from stack.inet.tcp import tcp_poll
from stack.inet.tcp_sock import tcp_sock
from stack.ipv4.tcp_ipv4 import tcp_prot
from stack.socket import AF_INET, SOCK_STREAM, SOL_SOCKET, Socket, create_connection, create_server
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST, SYN, A, B, S, Sock, TcpNet, build_segment
from tests.support import errno_of

M32 = 0xFFFFFFFF


def finish(net: TcpNet, *socks: Sock) -> None:
    net.finish(*socks)
    for host in (net.a, net.b):
        assert not host.tcp_hashinfo.ehash
        assert not host.tcp_hashinfo.bhash


class Script:
    """Raw segments from a to a listener on b; a's own stack does not see the answers."""

    def __init__(self, net: TcpNet) -> None:
        self.net = net
        net.filter = lambda s: False  # nothing reaches anyone by itself

    def send(self, flags: int, seq: int, ack: int = 0, **kw) -> list:  # type: ignore[no-untyped-def]
        start = len(self.net.log)
        self.net.inject(build_segment(A, 4000, 80, seq, ack, flags, **kw))
        self.net.run(10_000)
        return self.net.log[start:]


def test_request_answers_a_repeated_syn_and_wrong_segments() -> None:
    """RFC 9293 3.10.7.4 in SYN-RECEIVED, with the request as state."""
    with TcpNet(sysctl={"tcp_syncookies": 0}) as net:
        listener = net.listening()
        script = Script(net)
        (first,) = script.send(SYN, 1000)
        assert first.flags == SYN | ACK
        net.run(600 * MS)
        (again,) = script.send(SYN, 1000)
        assert (again.seq, again.ack) == (first.seq, 1001)
        (reset,) = script.send(ACK, 1001, first.seq + 5)
        assert (reset.flags, reset.seq) == (RST, first.seq + 5)
        net.run(600 * MS)  # past tcp_invalid_ratelimit
        (out,) = script.send(ACK, 900_000_000, first.seq + 1)
        assert (out.flags, out.ack) == (ACK, 1001)
        assert len(listener.sk.icsk_accept_queue.pending) == 1
        script.send(RST, 1001)
        assert len(listener.sk.icsk_accept_queue.pending) == 0
        assert net.b.mib.linux.EmbryonicRsts == 1
        finish(net, listener)


def test_a_reset_of_a_request_must_name_the_next_number() -> None:
    """RFC 5961 3.2 in SYN-RECEIVED (RFC 9293 3.10.7.4): elsewhere in the window, a challenge."""
    with TcpNet(sysctl={"tcp_syncookies": 0}) as net:
        listener = net.listening()
        script = Script(net)
        (synack,) = script.send(SYN, 1000)
        (answer,) = script.send(RST, 1002)
        assert (answer.flags, answer.seq, answer.ack) == (ACK, synack.seq + 1, 1001)
        assert script.send(RST, 1003) == []  # limited
        net.run(2 * S)
        del net.log[:]
        (answer,) = script.send(RST | ACK, 1002, 100)  # whatever it acknowledges
        assert (answer.flags, answer.seq, answer.ack) == (ACK, synack.seq + 1, 1001)
        assert script.send(RST, 900_000_000) == []
        assert len(listener.sk.icsk_accept_queue.pending) == 1
        assert (net.b.mib.linux.TCPChallengeACK, net.b.mib.linux.EmbryonicRsts) == (2, 0)
        assert script.send(RST, 1001) == []
        assert len(listener.sk.icsk_accept_queue.pending) == 0
        assert net.b.mib.linux.EmbryonicRsts == 1
        finish(net, listener)


def timestamps(value: int, echoed: int) -> bytes:
    return b"\x01\x01\x08\x0a" + value.to_bytes(4, "big") + echoed.to_bytes(4, "big")


@pytest.mark.parametrize("off", [-1, 0, 600, 601])
def test_a_request_takes_the_timestamps_of_its_own_syn_acks_only(off: int) -> None:
    """RFC 7323 3.2: what an ACK echoes came from us: from the first SYN-ACK to the last."""
    with TcpNet(sysctl={"tcp_syncookies": 0}) as net:
        listener = net.listening()
        script = Script(net)
        (first,) = script.send(SYN, 1000, options=timestamps(7, 0))
        net.run(600 * MS)
        (last,) = script.send(SYN, 1000, options=timestamps(7, 0))
        sent = [int.from_bytes((s.opt(8) or b"")[:4], "big") for s in (first, last)]
        assert (sent[1] - sent[0]) & M32 == 600
        net.run(600 * MS)  # past tcp_invalid_ratelimit
        echoed = timestamps(8, (sent[0] + off) & M32)
        answers = script.send(ACK, 1001, first.seq + 1, options=echoed)
        good = 0 <= off <= 600
        assert [s.flags for s in answers] == ([] if good else [ACK])
        assert net.b.mib.linux.TSEcrRejected == (not good)
        reason = SKB_DROP_REASON_TCP_RFC7323_TSECR
        assert net.b.drop_reasons.get(reason, 0) == (not good)
        assert len(listener.sk.icsk_accept_queue.pending) == (not good)  # else it is a child
        finish(net, listener)


def test_a_segment_that_finds_the_accept_queue_full_is_dropped_for_that() -> None:
    with TcpNet(sysctl={"tcp_syncookies": 0}) as net:
        listener = net.listening()
        script = Script(net)
        (synack,) = script.send(SYN, 1000)
        listener.sk.sk_ack_backlog, before = 9, listener.sk.sk_ack_backlog
        assert script.send(ACK, 1001, synack.seq + 1) == []
        assert net.b.mib.linux.ListenOverflows == 1
        assert net.b.drop_reasons == {SKB_DROP_REASON_TCP_LISTEN_OVERFLOW: 1}
        listener.sk.sk_ack_backlog = before
        finish(net, listener)


@pytest.mark.parametrize("flags", [RST, SYN, SYN | ACK])
def test_an_orphan_in_fin_wait_2_is_not_ended_by_a_guess(flags: int) -> None:
    """RFC 5961 3.2, 4.2: a RST that is in the window but not exact, a SYN: challenge ACKs."""
    with TcpNet() as net:
        listener = net.listening()
        script = Script(net)
        (synack,) = script.send(SYN, 1000)
        script.send(ACK, 1001, synack.seq + 1)
        server = listener.accept()
        server.close()
        fin = net.log[-1]
        assert fin.flags & FIN
        script.send(ACK, 1001, fin.seq + 1)
        (tw,) = [s for s in net.b.tcp_hashinfo.ehash.values() if not hasattr(s, "sk_mem")]
        (answer,) = script.send(flags, 1002, fin.seq + 1)
        assert (answer.flags, answer.ack) == (ACK, 1001)
        assert script.send(flags, 1002, fin.seq + 1) == []  # limited
        assert tw in net.b.tcp_hashinfo.ehash.values()
        script.send(RST, 1001)
        assert not net.b.tcp_hashinfo.ehash
        finish(net, listener)


def test_data_on_the_third_ack_is_kept() -> None:
    with TcpNet() as net:
        listener = net.listening()
        script = Script(net)
        (synack,) = script.send(SYN, 1000)
        script.send(ACK | FIN, 1001, synack.seq + 1, payload=b"early")
        server = listener.accept()
        assert server.recv() == b"early"
        assert server.recv() == b""
        assert server.state == "CLOSE_WAIT"
        finish(net, server, listener)


def test_syn_with_fin_is_dropped() -> None:
    with TcpNet() as net:
        listener = net.listening()
        assert Script(net).send(SYN | FIN, 1000) == []
        finish(net, listener)


def test_icmp_error_drops_a_request() -> None:
    with TcpNet() as net:
        listener = net.listening()
        script = Script(net)
        (synack,) = script.send(SYN, 1000)
        quoted = build_segment(B, 80, 4000, synack.seq, 0, SYN)
        icmp = bytearray(b"\x03\x01\0\0\0\0\0\0" + quoted[:28])
        icmp[2:4] = ip_compute_csum(icmp).to_bytes(2, "big")
        ip = bytearray(
            b"\x45\0"
            + (20 + len(icmp)).to_bytes(2, "big")
            + b"\0\0\0\0\x40\x01\0\0"
            + A.to_bytes(4, "big")
            + B.to_bytes(4, "big")
        )
        ip[10:12] = ip_compute_csum(ip).to_bytes(2, "big")
        net.inject(bytes(ip + icmp))
        assert len(listener.sk.icsk_accept_queue.pending) == 0
        finish(net, listener)


def test_listening_twice_on_a_port() -> None:
    with TcpNet() as net:
        one = net.listening()
        two = net.socket(net.b)
        two.sk.sk_reuse = 1
        with pytest.raises(OSError, match="Address already in use"):
            two.bind(80)
        finish(net, one, two)


def test_reuseport_spreads_connections() -> None:
    with TcpNet() as net:
        listeners = []
        for _ in range(3):
            sock = net.socket(net.b)
            sock.sk.sk_reuseport = True
            sock.bind(80)
            sock.listen(64)
            listeners.append(sock)
        clients = [net.socket(net.a) for _ in range(30)]
        for client in clients:
            client.connect(B, 80)
        net.run(100 * MS)
        counts = [s.sk.sk_ack_backlog for s in listeners]
        assert sum(counts) == 30
        assert min(counts) > 0
        servers = [s.accept() for s in listeners for _ in range(s.sk.sk_ack_backlog)]
        finish(net, *clients, *servers, *listeners)


def test_the_more_specific_listener_wins() -> None:
    with TcpNet() as net:
        anyone = net.socket(net.b)
        anyone.sk.sk_reuseport = True
        anyone.bind(80)
        anyone.listen(4)
        exact = net.socket(net.b)
        exact.sk.sk_reuseport = True
        exact.bind(80, B)
        exact.listen(4)
        client = net.client()
        net.run(50 * MS)
        assert exact.readable
        assert not anyone.readable
        finish(net, client, anyone, exact)


def test_blocking_accept_sleeps_until_a_connection_comes() -> None:
    with TcpNet() as net:
        listener = net.listening()
        client = net.socket(net.a)
        net.clock.call_at(net.clock.now_ns() + 3 * S, lambda: client.connect(B, 80))
        start = net.clock.now_ns()
        server = Sock(net, net.b, inet_csk_accept(listener.sk, 0))
        assert net.clock.now_ns() - start >= 3 * S
        finish(net, client, server, listener)


def test_accept_gives_up_after_the_receive_timeout() -> None:
    with TcpNet() as net:
        listener = net.listening()
        listener.sk.sk_rcvtimeo_ns = 2 * S
        with pytest.raises(BlockingIOError):
            inet_csk_accept(listener.sk, 0)
        other = net.socket(net.b)
        assert errno_of(inet_csk_accept, other.sk, 0) == errno.EINVAL
        finish(net, listener, other)


def test_keepalive_is_inherited() -> None:
    with TcpNet() as net:
        listener = net.listening()
        listener.setsockopt(opt.TCP_KEEPIDLE, 5)
        listener.sk.sk_flags |= 1 << 3  # SOCK_KEEPOPEN
        client = net.client()
        net.run(50 * MS)
        server = listener.accept()
        start = len(net.log)
        net.run(6 * S)
        assert [s.src for s in net.log[start:]] == [B, A]
        finish(net, client, server, listener)


def test_timers_wait_for_the_owner() -> None:
    """A socket held by a caller when its timers expire works them off on release."""
    with TcpNet(sysctl={"tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        net.filter = lambda s: False
        client.send(b"x")
        start = len(net.log)
        lock_sock(client.sk)
        net.run(S)
        assert len(net.log) == start
        release_sock(client.sk)
        assert len(net.log) == start + 1
        net.filter = None
        net.run(5 * S)
        assert server.recv() == b"x"
        finish(net, client, server)


def test_packets_for_an_owned_socket_wait_in_the_backlog() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        lock_sock(server.sk)
        client.send(b"patience")
        net.run(20 * MS)
        assert not server.sk.sk_receive_queue.qlen
        assert len(server.sk.sk_backlog) == 1
        release_sock(server.sk)
        assert server.recv() == b"patience"
        finish(net, client, server)


def test_backlog_is_bounded() -> None:
    with TcpNet(sysctl={"tcp_rmem": (4096, 65536, 65536), "tcp_wmem": (4096, 8192, 8192)}) as net:
        client, server = net.pair()
        lock_sock(server.sk)
        for _ in range(400):
            net.inject(
                build_segment(
                    A,
                    client.sk.inet_num,
                    80,
                    server.sk.rcv_nxt,
                    server.sk.snd_nxt,
                    ACK,
                    payload=b"z" * 1000,
                )
            )
        assert net.b.mib.linux.TCPBacklogDrop > 0
        release_sock(server.sk)
        finish(net, client, server)


def test_long_fin_wait2_first_keeps_the_socket() -> None:
    """TCP_LINGER2 beyond a minute: the full socket waits, then the small one."""
    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_LINGER2, 100)
        client.close()
        net.run(10 * S)
        (there,) = net.a.tcp_hashinfo.ehash.values()
        assert there is client.sk
        net.run(50 * S)
        (there,) = net.a.tcp_hashinfo.ehash.values()
        assert there is not client.sk
        net.run(100 * S)
        assert not net.a.tcp_hashinfo.ehash
        finish(net, server)


def test_negative_linger2_resets_in_fin_wait2() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_LINGER2, -1)
        client.shutdown(2)
        net.run(50 * MS)
        client.close()
        net.run(50 * MS)
        assert server.state == "CLOSE"
        assert net.a.mib.linux.TCPAbortOnLinger == 1
        finish(net, server)


def test_orphans_above_the_limit_are_reset() -> None:
    with TcpNet(sysctl={"tcp_max_orphans": 0}) as net:
        client, server = net.pair()
        client.close()
        net.run(50 * MS)
        assert net.a.mib.linux.TCPAbortOnMemory == 1
        assert not net.a.tcp_hashinfo.ehash
        finish(net, server)


def test_small_socket_in_fin_wait2_takes_the_fin() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.close()
        net.run(50 * MS)
        (tw,) = net.a.tcp_hashinfo.ehash.values()
        assert tw.tw_substate == 5
        server.close()
        net.run(50 * MS)
        assert tw.tw_substate == 6
        assert not net.b.tcp_hashinfo.ehash
        linux = net.a.mib.linux
        assert linux.TW + linux.TWKilled == 1  # counted when it began, not when it ends
        finish(net, server)


def test_abort_from_outside() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        tcp_prot.diag_destroy(client.sk, errno.ECONNABORTED)
        net.run(50 * MS)
        assert client.sk.sk_err == errno.ECONNABORTED
        assert server.state == "CLOSE"
        finish(net, client, server)


def test_rcvlowat_holds_the_reader_back() -> None:
    from stack.inet.tcp import tcp_set_rcvlowat

    with TcpNet() as net:
        client, server = net.pair()
        tcp_set_rcvlowat(server.sk, 1000)
        client.send(b"x" * 999)
        net.run(50 * MS)
        assert not tcp_poll(None, server.sock, None) & POLLIN
        client.send(b"x")
        net.run(50 * MS)
        assert tcp_poll(None, server.sock, None) & POLLIN
        tcp_set_rcvlowat(server.sk, 10 << 20)
        assert server.sk.sk_rcvlowat == server.host.sysctl.tcp_rmem[2] >> 1
        server.recv()
        finish(net, client, server)


def test_sequence_of_a_listener_is_not_guessable_and_moves_with_time() -> None:
    """RFC 6528."""
    from stack.core.secure_seq import secure_tcp_seq

    with TcpNet() as net:
        one = secure_tcp_seq(net.a, A, B, 1, 2)
        assert one != secure_tcp_seq(net.a, A, B, 1, 3)
        assert one != secure_tcp_seq(net.b, A, B, 1, 2)
        net.run(64_000)
        assert (secure_tcp_seq(net.a, A, B, 1, 2) - one) & M32 == 1000


def test_a_closed_connection_leaves_nothing_to_the_garbage_collector() -> None:
    """Sockets, requests and timers go when they are done, not when a collection finds them."""
    clock = VirtualClock()
    a, b = two_hosts(clock=clock)

    def left() -> int:
        return sum(isinstance(found, tcp_sock | request_sock) for found in gc.get_objects())

    with a, b, create_server(b, ("10.0.0.2", 80)) as listener:
        with create_connection(a, ("10.0.0.2", 80)):
            listener.accept()[0].close()
        clock.run_for(1_000_000)
        gc.collect()
        gc.disable()
        try:
            before = left()
            for _ in range(10):
                with create_connection(a, ("10.0.0.2", 80)) as client:
                    server = listener.accept()[0]
                    client.send(b"question")
                    assert server.recv(100) == b"question"
                    server.close()
            clock.run_for(1_000_000)
            assert left() == before
        finally:
            gc.enable()


@pytest.mark.parametrize("link_only", [False, True])
def test_a_listener_that_is_not_to_route_answers_on_its_links_alone(
    link_only: bool, a: Host, b: Host
) -> None:
    """SO_DONTROUTE counts for SYN-ACKs too (inet_csk_route_req: ip_sock_rt_scope)."""
    with a, b, Socket(b, AF_INET, SOCK_STREAM) as server, Socket(a, AF_INET, SOCK_STREAM) as client:
        a.ifconfig("lo", "192.168.5.1/32")
        b.route_add("192.168.5.0/24", via="10.0.0.1")
        server.setsockopt(SOL_SOCKET, SO_DONTROUTE, link_only)
        server.bind(("10.0.0.2", 80))
        server.listen(1)
        client.bind(("192.168.5.1", 0))
        client.settimeout(2.0)
        if link_only:
            with pytest.raises(TimeoutError):
                client.connect(("10.0.0.2", 80))
            assert b.mib.ip.OutNoRoutes >= 1
        else:
            client.connect(("10.0.0.2", 80))
            assert server.accept()[1][0] == "192.168.5.1"
