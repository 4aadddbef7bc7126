"""Retransmission, probing, delayed ACK and keepalive, to the ms under the virtual clock."""

from __future__ import annotations

import contextlib
import errno
import itertools

import pytest

from stack.core.uapi import SOL_SOCKET
from stack.inet import tcp_sock as opt
from stack.ipv4.tcp_ipv4 import tcp_prot
from tests.stack.inet.tcpnet import ACK, FIN, MS, RST, SYN, A, B, S, TcpNet


def from_a(net: TcpNet, start: int = 0) -> list:
    return [s for s in net.log[start:] if s.src == A]


def gaps_ms(segments: list) -> list[int]:
    return [round((b.time_ns - a.time_ns) / MS) for a, b in itertools.pairwise(segments)]


def test_syn_is_retransmitted_linear_then_exponential() -> None:
    """RFC 6298 2.1 with tcp_syn_linear_timeouts 4, as Linux since 6.5; then ETIMEDOUT."""
    with TcpNet() as net:
        net.filter = lambda segment: False
        client = net.client()
        net.run(400 * S)
        assert gaps_ms(net.log) == [1000, 1000, 1000, 1000, 1000, 2000, 4000, 8000, 16000, 32000]
        assert all(s.flags == SYN for s in net.log)
        assert client.state == "CLOSE"
        assert client.sk.sk_err == errno.ETIMEDOUT


def test_few_syn_retries_take_as_long_as_doubling_ones() -> None:
    """TCP_SYNCNT 1 on Linux 6.18: SYNs after 0, 1 and 2 s, ETIMEDOUT after 1 + 2 s."""
    with TcpNet() as net:
        net.filter = lambda segment: False
        client = net.socket(net.a)
        client.setsockopt(7, 1)  # TCP_SYNCNT
        client.connect(B, 80)
        net.run(2900 * MS)
        assert client.state == "SYN_SENT"
        net.run(200 * MS)
        assert gaps_ms(net.log) == [1000, 1000]
        assert client.sk.sk_err == errno.ETIMEDOUT


def test_synack_is_retransmitted_with_doubling() -> None:
    with TcpNet() as net:
        listener = net.listening(5)
        net.filter = lambda s: s.src == A and s.flags == SYN and len(net.log) < 2
        client = net.client()
        client.sk.icsk_syn_retries = 1
        net.run(120 * S)
        synacks = [s for s in net.log if s.flags == SYN | ACK]
        assert gaps_ms(synacks) == [1000, 2000, 4000, 8000, 16000]
        assert len(listener.sk.icsk_accept_queue.pending) == 0
        assert not net.b.tcp_hashinfo.ehash


def test_the_longest_timeout_is_a_synacks_too() -> None:
    """tcp_reqsk_timeout: tcp_rto_max_ms, or the listener's TCP_RTO_MAX_MS."""
    with TcpNet(sysctl_b={"tcp_rto_max_ms": 3000}) as net:
        net.listening(5)
        net.filter = lambda s: s.src == A and s.flags == SYN and len(net.log) < 2
        client = net.client()
        client.sk.icsk_syn_retries = 1
        net.run(120 * S)
        synacks = [s for s in net.log if s.flags == SYN | ACK]
        assert gaps_ms(synacks) == [1000, 2000, 3000, 3000, 3000]


def test_data_rto_is_200_ms_at_least_and_doubles() -> None:
    """RFC 6298 5.5; Linux's minimum of 200 ms on top of the smoothed round trip."""
    with TcpNet(latency_ns=5 * MS, sysctl={"tcp_early_retrans": 0}) as net:
        client, _server = net.pair()
        start = len(net.log)
        net.filter = lambda s: s.src != A
        client.send(b"x" * 100)
        net.run(30 * S)
        sent = from_a(net, start)
        assert len({s.seq for s in sent}) == 1
        assert gaps_ms(sent)[:6] == [210, 420, 840, 1680, 3360, 6720]


def test_rto_grows_to_two_minutes_then_gives_up() -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        net.filter = lambda s: s.src != A
        client.send(b"x")
        net.run(1500 * S)
        assert client.state == "CLOSE"
        assert client.sk.sk_err == errno.ETIMEDOUT
        assert max(gaps_ms(from_a(net, 3))) == 120_000
        assert net.a.mib.linux.TCPAbortOnTimeout == 1


def test_user_timeout_cuts_it_short() -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        client.setsockopt(opt.TCP_USER_TIMEOUT, 2500)
        net.filter = lambda s: s.src != A
        start = net.clock.now_ns()
        client.send(b"x")
        assert net.run_until(lambda: client.state == "CLOSE", 100 * S)
        assert 2400 * MS <= net.clock.now_ns() - start <= 3200 * MS
        assert client.sk.sk_err == errno.ETIMEDOUT


def test_backoff_ends_with_the_first_ack() -> None:
    with TcpNet(sysctl={"tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        net.filter = lambda s: s.src != A
        client.send(b"x" * 100)
        net.run(3 * S)
        assert client.sk.icsk_backoff >= 3
        net.filter = None
        net.run(5 * S)
        assert client.sk.icsk_backoff == 0
        assert client.sk.icsk_rto < 3 * S
        assert server.recv() == b"x" * 100


def test_karn_without_timestamps_takes_no_sample_from_a_retransmission() -> None:
    with TcpNet(sysctl={"tcp_timestamps": 0, "tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        srtt = client.sk.srtt_us
        dropped = []

        def lose_first(s):  # type: ignore[no-untyped-def]
            if s.src == A and s.payload and not dropped:
                dropped.append(s)
                return False
            return None

        net.filter = lose_first
        client.send(b"x" * 100)
        net.run(S)
        assert server.readable
        assert client.sk.srtt_us == srtt


def test_tail_loss_probe_comes_before_the_rto() -> None:
    """RFC 8985 7: two round trips (plus the worst delayed ACK for a single segment)."""
    with TcpNet(latency_ns=5 * MS) as net:
        client, server = net.pair()
        client.send(b"w" * 20_000)
        net.run(100 * MS)
        server.recv()
        start = len(net.log)
        lost = []

        def lose_last_two(s):  # type: ignore[no-untyped-def]
            if s.src == A and s.payload and len(lost) < 2 and s.seq in last:
                lost.append(s)
                return False
            return None

        last = [(client.sk.write_seq + i * 1448) & 0xFFFFFFFF for i in (2, 3)]
        net.filter = lose_last_two
        client.send(b"x" * (4 * 1448))
        sent_at = net.clock.now_ns()
        net.run(S)
        assert len(lost) == 2
        again = [s for s in from_a(net, start) if s.seq == last[1]][1]
        assert 20 * MS <= again.time_ns - sent_at <= 60 * MS
        assert net.a.mib.linux.TCPLossProbes == 1
        assert net.a.mib.linux.TCPTimeouts == 0
        assert len(server.recv_all()) == 4 * 1448


def test_delayed_ack_after_40_ms() -> None:
    """RFC 9293 3.8.6.3; Linux's minimum delay is 40 ms."""
    with TcpNet() as net:
        client, server = net.pair()
        for _ in range(20):  # leave quick ACK mode
            client.send(b"x" * 1448)
            net.run(100 * MS)
            server.recv()
        server.sk.icsk_ack_quick = 0
        start = len(net.log)
        client.send(b"lonely")
        net.run(200 * MS)
        data, ack = net.log[start:][:2]
        assert ack.src == B
        assert 40 * MS <= ack.time_ns - data.time_ns - 5 * MS <= 42 * MS
        assert net.b.mib.linux.DelayedACKs >= 1


def test_second_full_segment_is_acked_at_once() -> None:
    """While the window can stay as it is: else the ACK waits for the reader, as in Linux."""
    with TcpNet(gso=False, sysctl={"tcp_rmem": (4096, 4 << 20, 6 << 20)}) as net:
        client, server = net.pair()
        client.setsockopt(opt.TCP_NODELAY, 1)
        for _ in range(30):
            client.send(b"x" * 1448)
            net.run(100 * MS)
            server.recv()
        server.sk.icsk_ack_quick = 0
        start = len(net.log)
        client.send(b"x" * 2896)
        net.run(20 * MS)
        assert any(s.src == B for s in net.log[start:])


def test_ack_rides_on_the_answer() -> None:
    """A dialogue: after the first exchange no pure ACKs from the server."""
    with TcpNet() as net:
        client, server = net.pair()
        for _ in range(5):
            client.send(b"question")
            net.run(10 * MS)
            assert server.recv() == b"question"
            server.send(b"answer")
            net.run(10 * MS)
            assert client.recv() == b"answer"
        start = len(net.log)
        client.send(b"question")
        net.run(10 * MS)
        server.recv()
        server.send(b"answer")
        net.run(10 * MS)
        client.recv()
        assert not [s for s in net.log[start:] if s.src == B and not s.payload]


def test_zero_window_probes_until_it_opens() -> None:
    """RFC 9293 3.8.6.1: probes back off exponentially and never stop while they are answered."""
    with TcpNet(sysctl={"tcp_rmem": (4096, 32768, 32768)}) as net:
        client, server = net.pair()
        sent = 0
        payload = bytes(range(256)) * 1000
        for _ in range(20):
            with contextlib.suppress(BlockingIOError):
                sent += client.send(payload[sent : sent + 20_000])
            net.run(50 * MS)
        assert client.sk.snd_wnd == 0
        start = len(net.log)
        net.run(60 * S)
        probes = from_a(net, start)
        gaps = gaps_ms(probes)
        assert len(probes) >= 6
        assert all(b >= 1.9 * a for a, b in itertools.pairwise(gaps))
        assert all(not s.payload for s in probes)
        assert client.state == "ESTABLISHED"
        got = bytearray()
        while len(got) < sent:
            got += server.recv_all()
            net.run(100 * MS)
        assert bytes(got) == payload[:sent]


def test_lost_window_update_is_healed_by_a_probe() -> None:
    with TcpNet(sysctl={"tcp_rmem": (4096, 32768, 32768)}) as net:
        client, server = net.pair()
        data = b"z" * 60_000
        client.send(data)
        net.run(500 * MS)
        assert client.sk.snd_wnd == 0
        net.filter = lambda s: False
        got = bytearray(server.recv_all())
        net.run(MS)
        net.filter = None
        for _ in range(100):
            net.run(200 * MS)
            got += server.recv_all()
        assert bytes(got) == data


def test_zero_window_ends_when_probes_stay_unanswered() -> None:
    with TcpNet(sysctl={"tcp_rmem": (4096, 32768, 32768), "tcp_retries2": 5}) as net:
        client, _server = net.pair()
        client.send(b"z" * 60_000)
        net.run(500 * MS)
        assert client.sk.snd_wnd == 0
        net.filter = lambda s: s.src != A
        net.run(200 * S)
        assert client.state == "CLOSE"
        assert client.sk.sk_err == errno.ETIMEDOUT


def test_keepalive_probes_and_gives_up() -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        client.setsockopt(opt.TCP_KEEPIDLE, 10)
        client.setsockopt(opt.TCP_KEEPINTVL, 3)
        client.setsockopt(opt.TCP_KEEPCNT, 4)
        tcp_prot.keepalive(client.sk, 1)
        client.sk.sk_flags |= 1 << 3  # SOCK_KEEPOPEN
        start = len(net.log)
        net.run(25 * S)
        assert client.state == "ESTABLISHED"
        answered = net.log[start:]
        assert len(answered) == 4  # two probes, two answers
        assert answered[0].seq == (client.sk.snd_una - 1) & 0xFFFFFFFF
        net.filter = lambda s: s.src != A
        start = len(net.log)
        net.run(60 * S)
        probes = [s for s in from_a(net, start) if not s.flags & RST]
        assert gaps_ms(probes) == [3000, 3000, 3000]
        assert client.sk.sk_err == errno.ETIMEDOUT
        assert SOL_SOCKET == 1


def test_idle_connection_has_no_timer() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.send(b"x")
        net.run(S)
        server.recv()
        net.run(S)
        assert net.a.machine.timers.active == 0
        assert net.b.machine.timers.active == 0


@pytest.mark.parametrize("state_ms", [0, 300])
def test_fin_is_retransmitted(state_ms: int) -> None:
    with TcpNet() as net:
        client, server = net.pair()
        net.run(state_ms * MS)
        start = len(net.log)
        net.filter = lambda s: s.src != A
        client.close()
        net.run(2 * S)
        fins = from_a(net, start)
        assert len(fins) >= 3
        assert all(s.flags & FIN for s in fins)
        net.filter = None
        net.run(5 * S)
        assert server.state == "CLOSE_WAIT"


def test_orphan_gives_up_after_eight_retries() -> None:
    with TcpNet() as net:
        client, _server = net.pair()
        net.filter = lambda s: s.src != A
        client.close()
        net.run(300 * S)
        assert not list(net.a.tcp_hashinfo.ehash)
        assert net.a.prot_mem["TCP"].orphan_count == 0


def test_time_wait_lasts_a_minute_and_a_retransmitted_fin_restarts_it() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        client.close()
        net.run(20 * MS)
        server.close()
        net.run(20 * MS)
        assert len(net.a.tcp_hashinfo.ehash) == 1
        net.run(59 * S)
        assert len(net.a.tcp_hashinfo.ehash) == 1
        fin = next(s for s in net.log if s.src == B and s.flags & FIN)
        from tests.stack.inet.tcpnet import build_segment

        ts = fin.opt(8)
        net.filter = lambda s: False  # b knows nothing of it any more: its RST would end TIME_WAIT
        net.inject(
            build_segment(
                B, 80, fin.dport, fin.seq, fin.ack, FIN | ACK, options=b"\1\1\x08\x0a" + ts
            )
        )
        net.run(30 * S)
        assert len(net.a.tcp_hashinfo.ehash) == 1
        net.run(31 * S)
        assert not net.a.tcp_hashinfo.ehash
        assert (net.a.mib.linux.TW, net.a.mib.linux.TWKilled) == (1, 0)
