"""Losses, timers and windows of TCP where this stack once did otherwise than the kernel."""

from __future__ import annotations

import pytest

from stack.core.bsd_socket import sys_close, sys_recv, sys_sendto
from stack.core.drop_reason import drop_names
from stack.core.tcp_states import TCP_ESTABLISHED
from stack.core.uapi import MSG_DONTWAIT
from stack.inet import tcp_sock as opt
from stack.inet.inet_connection_sock import ICSK_TIME_REO_TIMEOUT
from stack.inet.tcp_ack import tcp_enter_loss, tcp_rack_reo_timeout
from stack.inet.tcp_data import tcp_epollin_ready
from stack.inet.tcp_output import TCP_FRAG_IN_RTX_QUEUE, tcp_fragment, tcp_probe0_when
from stack.inet.tcp_recovery import tcp_rack_update_reo_wnd
from stack.inet.tcp_window import __tcp_select_window as select_window
from tests.stack.inet.tcpnet import (
    ACK,
    FIN,
    MS,
    PSH,
    RST,
    SYN,
    A,
    B,
    S,
    Segment,
    TcpNet,
    build_segment,
)
from tests.stack.inet.test_tcp_fastopen import BOTH, PORT, Pair, sk_of
from tests.stack.inet.test_tcp_input import end, established, ts, with_timestamps
from tests.stack.inet.test_tcp_states import Peer

SACK_OK = bytes((2, 4, 5, 180, 4, 2, 1, 1))
"""Options of a SYN: an MSS of 1460, and SACK."""


# --- timestamps ---------------------------------------------------------------------------


@pytest.mark.parametrize(("idle_s", "taken"), [(2100, False), (2200, True)])
def test_a_timestamp_is_forgotten_when_a_clock_of_microseconds_wraps(
    idle_s: int, taken: bool
) -> None:
    """TCP_PAWS_WRAP: 2147 s, not the 24 days of a clock of milliseconds."""
    peer, echo = with_timestamps()
    peer.net.run(idle_s * S)
    peer.give(ACK, peer.rcv, peer.snd, payload=b"old!", options=ts(900, echo))
    assert peer.sock.readable == taken
    peer.give(RST, peer.rcv + 4 * taken, options=ts(1001, echo))
    peer.close()


def test_an_ack_that_data_overtook_may_be_an_rto_old_by_a_clock_of_1200_hz() -> None:
    peer, echo = with_timestamps()
    ticks = peer.sock.sk.icsk_rto // MS * 11 // 10
    assert peer.give(ACK, peer.rcv, peer.snd, options=ts(2000 + ticks, echo)) == []
    assert peer.give(ACK, peer.rcv, peer.snd, options=ts(2000, echo)) == []
    assert peer.net.a.mib.linux.PAWSEstab == 0
    peer.give(RST, peer.rcv, options=ts(3000 + ticks, echo))
    peer.close()


def test_data_with_the_echo_of_an_earlier_ack_measures_no_round_trip() -> None:
    """The peer thought about its answer: that time is not the network's."""
    peer, _ = with_timestamps()
    sk = peer.sock.sk
    peer.sock.send(b"question")
    (question,) = peer.take()
    echo = int.from_bytes(question.opt(8)[:4], "big")
    peer.net.run(10 * MS)
    peer.give(ACK, peer.rcv, peer.snd + 8, options=ts(1001, echo))
    before = sk.rcv_rtt_est_rtt_us
    peer.net.run(500 * MS)
    peer.give(ACK, peer.rcv, peer.snd + 8, payload=bytes(1400), options=ts(1002, echo))
    assert sk.rcv_rtt_est_rtt_us == before
    peer.give(RST, peer.rcv + 1400, options=ts(1003, echo))
    peer.close()


# --- acknowledgements ---------------------------------------------------------------------


def test_the_end_of_a_write_of_whole_segments_is_acknowledged_when_it_is_read() -> None:
    peer = established()
    sk = peer.sock.sk
    peer.give(ACK, peer.rcv, peer.snd, payload=bytes(1000))
    assert peer.sock.recv() == bytes(1000)
    peer.net.run(100 * MS)
    sk.icsk_ack_quick = 0
    sk.icsk_ack_rcv_mss = 1000
    peer.take()
    assert peer.give(ACK | PSH, peer.rcv + 1000, peer.snd, payload=bytes(1000)) == []
    assert peer.sock.recv() == bytes(1000)
    assert [s.ack for s in peer.take()] == [peer.rcv + 2000]
    end(peer)


@pytest.mark.parametrize(("rto_min_ms", "delay_ms"), [(200, 40), (20, 19), (1, 1)])
def test_an_ack_waits_less_than_the_shortest_rto(rto_min_ms: int, delay_ms: int) -> None:
    """So that no RTO of a peer with the same setting expires."""
    peer = established()
    sk = peer.sock.sk
    sk.icsk_rto_min = rto_min_ms * MS
    peer.give(ACK, peer.rcv, peer.snd, payload=bytes(500))
    peer.sock.recv()
    peer.net.run(100 * MS)
    sk.icsk_ack_quick, sk.icsk_ack_ato = 0, 40 * MS
    peer.take()
    peer.give(ACK, peer.rcv + 500, peer.snd, payload=b"x")
    assert sk.icsk_ack_timeout - sk.icsk_ack_lrcvtime == delay_ms * MS
    end(peer)


def test_an_answer_to_another_syn_has_a_named_reason() -> None:
    peer = Peer()
    peer.open()
    (reset,) = peer.give(SYN | ACK, peer.iss, peer.isn + 77)
    assert reset.flags == RST
    assert drop_names(peer.net.a) == {"SKB_DROP_REASON_TCP_INVALID_ACK_SEQUENCE": 1}
    peer.give(RST | ACK, peer.iss, peer.isn + 1)
    peer.close()


# --- losses -------------------------------------------------------------------------------


def test_a_dsack_widens_the_reordering_window_once_a_round_trip() -> None:
    peer = established()
    sk = peer.sock.sk
    sk.delivered = 10

    def dsack(prior_delivered: int) -> int:
        sk.rack_dsack_seen = True
        sk.rs_prior_mstamp, sk.rs_prior_delivered = 1, prior_delivered
        tcp_rack_update_reo_wnd(sk)
        return int(sk.rack_reo_wnd_steps)

    assert [dsack(5), dsack(9), dsack(10)] == [2, 2, 3]
    peer.net.a.sysctl["net.ipv4.tcp_recovery"] = 3  # a window that stays
    sk.delivered = 20
    assert dsack(20) == 3
    sk.rs_prior_mstamp = 0
    end(peer)


def test_a_timeout_with_a_probe_of_the_mtu_in_flight_is_no_frto() -> None:
    peer = established()
    sk = peer.sock.sk
    peer.sock.send(bytes(3000))
    sk.mtup_probe_size = 1500
    tcp_enter_loss(sk)
    assert not sk.frto
    sk.mtup_probe_size = 0
    end(peer)


def test_the_reordering_timer_leaves_the_time_of_the_rto() -> None:
    peer = established()
    sk = peer.sock.sk
    peer.sock.send(bytes(1000))
    sent = sk.tcp_rtx_queue.peek().tx_tstamp_ns
    peer.net.run(50 * MS)
    sk.tcp_mstamp = peer.net.clock.now_ns()
    sk.icsk_pending = ICSK_TIME_REO_TIMEOUT
    tcp_rack_reo_timeout(sk)
    assert sk.icsk_timeout == sent + sk.icsk_rto
    end(peer)


def sack(*blocks: tuple[int, int]) -> bytes:
    return bytes((1, 1, 5, 2 + 8 * len(blocks))) + b"".join(
        edge.to_bytes(4, "big") for block in blocks for edge in block
    )


def test_sack_blocks_of_an_old_ack_repair_and_leave_the_window() -> None:
    """Reduction goes by ACKs in order. The blocks begin a recovery, whose repair is sent."""
    with TcpNet(sysctl={"tcp_timestamps": 0}, gso=False) as net:
        client, server = net.pair()
        client.send(bytes(3000))
        net.run(S)
        server.recv_all()
        net.filter = lambda segment: segment.src != A
        una, sk = client.sk.snd_una, client.sk
        client.send(bytes(10 * 1460))
        net.run(20 * MS)
        cwnd = sk.snd_cwnd
        port = sk.inet_num
        blocks = sack((una + 1460, una + 8 * 1460))
        net.inject(build_segment(B, 80, port, sk.rcv_nxt, una - 100, ACK, options=blocks))
        assert (sk.icsk_ca_state, sk.snd_cwnd) == (opt.TCP_CA_Recovery, cwnd)
        assert sk.retrans_out
        net.finish()


def test_the_ends_of_an_overfull_retransmit_queue_can_be_cut() -> None:
    """Else a retransmission, which is cut to a segment, would fail until the connection ends."""
    with TcpNet() as net:
        client, _server = net.pair()
        net.filter = lambda segment: segment.src != A
        client.sk.snd_cwnd = 40
        client.send(bytes(30 * 1448))
        sk = client.sk
        sndbuf, queued = sk.sk_sndbuf, sk.sk_wmem_queued
        sk.sk_sndbuf, sk.sk_wmem_queued = 4096, queued + (4 << 20)
        head = sk.tcp_rtx_queue.peek()
        assert head.tcp_gso_segs > 2
        assert tcp_fragment(sk, TCP_FRAG_IN_RTX_QUEUE, head, 1448, 1448) == 0
        sk.sk_sndbuf, sk.sk_wmem_queued = sndbuf, sk.sk_wmem_queued - (4 << 20)
        net.finish()


def test_counters_of_retransmissions_count_segments() -> None:
    """TCPFastRetrans and TCPSlowStartRetrans: a super-packet is several."""
    with TcpNet() as net:
        client, server = net.pair()
        client.send(bytes(20 * 1448))
        net.run(S)
        server.recv_all()
        lost = [client.sk.snd_nxt + i * 1448 for i in range(12)]

        def once(segment: Segment) -> bool:
            if segment.src != A or segment.seq not in lost:
                return True
            lost.remove(segment.seq)
            return False

        net.filter = once
        client.send(bytes(12 * 1448))
        net.run(2 * S)
        linux = net.a.mib.linux
        assert not lost
        # One each was sent by the timeout and as loss probe.
        counted = linux.TCPFastRetrans + linux.TCPSlowStartRetrans
        assert counted == net.a.mib.tcp.RetransSegs - 2 == 10
        net.finish()


def test_a_flow_that_waits_for_a_larger_packet_uses_its_window() -> None:
    """tcp_tso_should_defer says what limits it, so that the window may grow in this round trip."""
    with TcpNet(latency_ns=10 * MS) as net:
        client, _server = net.pair()
        net.filter = lambda segment: segment.src != A
        sk = client.sk
        client.send(bytes(5 * 1448))
        net.run(15 * MS)
        sk.snd_cwnd, sk.snd_wnd = 14, 1 << 20
        sk.cwnd_usage_seq, sk.is_cwnd_limited = sk.snd_una, False
        client.send(bytes(12 * 1448))
        assert sk.packets_out == 13  # a packet of one segment would be small
        assert sk.is_cwnd_limited
        net.finish()


# --- probes and memory --------------------------------------------------------------------


def test_window_probes_double_ten_times_at_most() -> None:
    peer = established()
    sk = peer.sock.sk
    sk.icsk_rto = sk.icsk_rto_min = 5 * MS
    sk.icsk_backoff = 15
    assert tcp_probe0_when(sk, sk.icsk_rto_max) == 5 * MS << 10
    end(peer)


def test_without_memory_readers_wake_early_and_the_window_shrinks() -> None:
    peer = established()
    sk = peer.sock.sk
    peer.give(ACK, peer.rcv, peer.snd, payload=b"few bytes")
    assert not tcp_epollin_ready(sk, 1000)
    sk.sk_mem.memory_pressure = 1
    assert tcp_epollin_ready(sk, 1000)
    sk.rcv_ssthresh = sk.window_clamp
    used = sk.sk_rcvbuf * 3 // 4 - sk.sk_rmem_alloc
    sk.sk_rmem_alloc += used
    select_window(sk)
    assert sk.rcv_ssthresh == 4 * sk.advmss
    sk.sk_rmem_alloc -= used
    sk.sk_mem.memory_pressure = 0
    peer.sock.recv()
    end(peer)


# --- Fast Open ----------------------------------------------------------------------------


def fast_open_client(net: TcpNet) -> tuple[Pair, int]:
    """A connection whose SYN had a cookie and data, with nothing received."""
    pair = Pair(net)
    pair.learn()
    fd = pair.send(b"hello")
    net.run(20 * MS)
    sk = sk_of(net.a, fd)
    assert (sk.sk_state, sk.syn_fastopen, sk.data_segs_in) == (TCP_ESTABLISHED, True, 0)
    return pair, fd


TIMEOUT = {"tcp_fastopen_blackhole_timeout_sec": 60}


def test_a_reset_out_of_order_disables_fast_open() -> None:
    """A middlebox that does not know such connections sends it, not the peer."""
    with TcpNet(sysctl=BOTH | TIMEOUT) as net:
        _, fd = fast_open_client(net)
        sk = sk_of(net.a, fd)
        net.inject(build_segment(B, PORT, sk.inet_num, sk.rcv_nxt + 7, 0, RST))
        assert (sk.sk_state, net.a.mib.linux.TCPFastOpenBlackhole) == (TCP_ESTABLISHED, 1)
        net.inject(build_segment(B, PORT, sk.inet_num, sk.rcv_nxt, 0, RST))
        net.run(S)


def test_a_fin_out_of_order_after_close_disables_fast_open() -> None:
    with TcpNet(sysctl=BOTH | TIMEOUT) as net:
        pair, fd = fast_open_client(net)
        sk = sk_of(net.a, fd)
        net.filter = lambda segment: False
        sys_close(net.a, fd)
        fin = build_segment(B, PORT, sk.inet_num, sk.rcv_nxt + 9, sk.snd_nxt, ACK | FIN)
        net.inject(fin)
        assert net.a.mib.linux.TCPFastOpenBlackhole == 1
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_a_child_that_closes_before_its_handshake_ends_resends_the_syn_ack() -> None:
    """Its timer is the SYN-ACK's: no loss probe takes it."""
    with TcpNet(sysctl={"tcp_fastopen": 0x203}) as net:
        pair = Pair(net)
        net.filter = lambda segment: False
        net.inject(build_segment(A, 5000, PORT, 1000, 0, SYN, payload=b"data", options=SACK_OK))
        conn = pair.accept()
        sys_sendto(net.b, conn, b"answer", MSG_DONTWAIT, None)
        sys_recv(net.b, conn, bytearray(10), MSG_DONTWAIT)
        sys_close(net.b, conn)
        net.log.clear()
        net.run(1100 * MS)
        assert [s.flags for s in net.log] == [SYN | ACK]
        sys_close(net.b, pair.listener)
        net.run(2000 * S)


def test_the_time_of_a_timeout_ends_with_the_handshake_of_a_child() -> None:
    with TcpNet(sysctl={"tcp_fastopen": 0x203}) as net:
        pair = Pair(net)
        net.filter = lambda segment: segment.src == A
        net.inject(build_segment(A, 5000, PORT, 1000, 0, SYN, payload=b"data"))
        conn = pair.accept()
        child = sk_of(net.b, conn)
        net.run(1500 * MS)
        assert child.total_rto == 1
        net.inject(build_segment(A, 5000, PORT, 1005, child.snd_nxt, ACK))
        assert child.sk_state == TCP_ESTABLISHED
        assert child.total_rto_time
        assert child.rto_recovery_start == 0
        net.inject(build_segment(A, 5000, PORT, 1005, 0, RST))
        sys_close(net.b, conn)
        sys_close(net.b, pair.listener)
        net.run(200 * S)


def test_timeouts_of_a_syn_ack_that_arrived_cost_a_child_no_window() -> None:
    """The ACK echoes the timestamp of the first SYN-ACK, so nothing was lost."""
    with TcpNet(sysctl={"tcp_fastopen": 0x203}) as net:
        pair = Pair(net)
        net.filter = lambda segment: False
        options = SACK_OK + ts(1000, 0)
        net.inject(build_segment(A, 5000, PORT, 1000, 0, SYN, payload=b"data", options=options))
        conn = pair.accept()
        child = sk_of(net.b, conn)
        cwnd = child.snd_cwnd
        sys_sendto(net.b, conn, bytes(3000), MSG_DONTWAIT, None)
        net.run(4 * S)  # two timeouts
        assert child.icsk_ca_state == opt.TCP_CA_Loss
        stamp = pair.synacks[0].opt(8)
        assert stamp is not None
        echo = ts(1001, int.from_bytes(stamp[:4], "big"))
        isn = pair.synacks[0].seq
        net.inject(build_segment(A, 5000, PORT, 1005, isn + 1, ACK, options=echo))
        assert (child.icsk_ca_state, net.b.mib.linux.TCPLossUndo) == (opt.TCP_CA_Open, 1)
        assert child.snd_cwnd >= cwnd
        net.inject(build_segment(A, 5000, PORT, 1005, 0, RST, options=echo))
        sys_close(net.b, conn)
        sys_close(net.b, pair.listener)
        net.run(200 * S)
