"""What each TCP sysctl does: `PROBES[name]`, rows as in core_and_ip.py."""

from __future__ import annotations

import contextlib
import errno as codes
from itertools import pairwise
from typing import Any

from stack.core.rows import replace
from stack.core.sock import lock_sock, release_sock
from stack.core.sockopt import sock_setsockopt
from stack.core.uapi import MSG_OOB, SO_KEEPALIVE, SO_RCVBUF, SOL_SOCKET
from stack.inet.tcp_cong import tcp_register_congestion_control, tcp_reno
from stack.inet.tcp_sock import TCP_NODELAY, TCP_QUICKACK, TCPHDR_PSH
from stack.inet.tcp_sockopt import tcpi_pacing_rate
from tests.stack.inet.tcpnet import (
    ACK,
    MS,
    RST,
    SYN,
    A,
    B,
    Segment,
    Sock,
    TcpNet,
    build_segment,
    transfer,
)
from tests.stack.knobs import fastopen
from tests.stack.knobs.rig import Rig, S, err, flows, makes_a_probe, marked, push, syns

M32 = 0xFFFFFFFF
ECN = 0xC0


def mute(net: TcpNet) -> list[Segment]:
    """Nothing crosses any more; what is sent from now on."""
    net.filter = lambda _: False
    del net.log[:]
    return net.log


def seconds(log: list[Segment]) -> list[float]:
    """Times after the first, to tenths of a second."""
    return [round((s.time_ns - log[0].time_ns) / S, 1) for s in log]


@makes_a_probe
def syn_option(rig: Rig, kind: int) -> bool:
    with rig.tcp() as net:
        net.pair()
        return syns(net)[0].opt(kind) is not None


def flood(net: TcpNet, count: int) -> int:
    """SYNs from many ports that never go on; SYN-ACKs that come at once."""
    net.filter = lambda s: s.src != B
    for n in range(count):
        net.inject(build_segment(A, 10_000 + n, 80, 1000 * n, 0, SYN), net.b)
        net.run(MS)
    return len({s.dport for s in net.log if s.flags & (SYN | ACK) == SYN | ACK})


def tcp_abort_on_overflow(rig: Rig) -> bool:
    with rig.tcp() as net:
        listener = net.listening(200)
        clients = [net.socket(net.a) for _ in range(2)]
        for client in clients:
            client.connect(B, 80)
        net.run(7 * MS)
        listener.sk.sk_max_ack_backlog = 0
        net.run(20 * MS)
        return any(s.flags & RST for s in net.log)


def tcp_app_win(rig: Rig) -> bool:
    with rig.tcp() as net:
        _, server = net.pair()
        return server.sk.window_clamp > server.sk.sk_rcvbuf // 3


def in_window_rsts(net: TcpNet, b: Sock, count: int) -> int:
    """RSTs that are not exactly next in sequence; challenge ACKs that answer."""
    sk = b.sk
    for n in range(count):
        segment = build_segment(
            A, sk.inet_dport, 80, (sk.rcv_nxt + 10 + n) & M32, sk.snd_nxt, RST | ACK
        )
        net.inject(segment, net.b)
    net.run(MS)
    return int(net.b.mib.linux.TCPChallengeACK)


def tcp_challenge_ack_limit(rig: Rig) -> bool:
    with rig.tcp(sysctl={"tcp_invalid_ratelimit": 0}) as net:
        _, b = net.pair()
        return in_window_rsts(net, b, 10) == 10


def tcp_invalid_ratelimit(rig: Rig) -> int:
    with rig.tcp() as net:
        _, b = net.pair()
        return in_window_rsts(net, b, 5)


def tcp_congestion_control(rig: Rig) -> str:
    with Rig({}, rig.live).tcp() as net:
        other = replace(tcp_reno, name="other")
        tcp_register_congestion_control(net.a, other)
        net.a.sysctl.tcp_congestion_control = rig.sysctl["tcp_congestion_control"]
        return bytes(net.socket(net.a).getsockopt(13)).rstrip(b"\0").decode()


def tcp_allowed_congestion_control(rig: Rig) -> tuple[str, str]:
    """What choosing reno and cubic says to a user who is not root; the default is always open."""
    with rig.tcp() as net:
        net.a.uid = 1000
        answers = []
        for name in ("reno", "cubic"):
            try:
                net.socket(net.a).setsockopt(13, name)
                answers.append("")
            except OSError as error:
                answers.append(codes.errorcode[error.errno or 0])
        return answers[0], answers[1]


def ofo(net: TcpNet, b: Sock, count: int) -> list[int]:
    """When b ACKs segments behind a gap, us after the first of them, which come at once.

    Its round trip is 1 ms.
    """
    sk = b.sk
    b.setsockopt(TCP_QUICKACK, 0)
    sk.rcv_rtt_est_rtt_us, sk.srtt_us = 8000, 0
    log, start = mute(net), net.clock.now_ns()
    for n in range(1, 1 + count):
        seq = (sk.rcv_nxt + 500 * n) & M32
        segment = build_segment(A, sk.inet_dport, 80, seq, sk.snd_nxt, ACK, payload=bytes(500))
        net.inject(segment, net.b)
    net.run(100 * MS)
    return [(s.time_ns - start) // 1000 for s in log]


@makes_a_probe
def tcp_comp_sack(rig: Rig, **others: int) -> tuple[int, int]:
    """When the ACK leaves that is held back, us, and how many before it."""
    with rig.tcp(sysctl=others) as net:
        times = ofo(net, net.pair()[1], 8)
        return times[-1], len(times) - 1


def tcp_backlog_ack_defer(rig: Rig) -> int:
    """How many ACKs answer eight segments that came while a caller had the socket."""
    with rig.tcp() as net:
        sk = net.pair()[1].sk
        log = mute(net)
        lock_sock(sk)
        for n in range(8):
            seq = (sk.rcv_nxt + 500 * n) & M32
            segment = build_segment(A, sk.inet_dport, 80, seq, sk.snd_nxt, ACK, payload=bytes(500))
            net.inject(segment, net.b)
        net.run(MS)
        assert log == []
        release_sock(sk)
        net.run(100 * MS)
        return len(log)


def tcp_dsack(rig: Rig) -> bool:
    with rig.tcp(duplicate=0.5) as net:
        flows(net)
        return net.b.mib.linux.TCPDSACKOldSent > 0


def lose(net: TcpNet, a: Sock, b: Sock, which: int, size: int = 40_000) -> list[Segment]:
    """Lose the n-th data segment of `size` bytes once; what a sends from then on."""
    data: list[Segment] = []
    lost: list[Segment] = []

    def drop(segment: Segment) -> bool:
        if segment.src == A and segment.payload:
            data.append(segment)
            if len(data) == which + 1 and not lost:
                lost.append(segment)
                return False
        return True

    net.filter = drop
    push(net, a, b, size, 5 * S)
    again = [s for s in data if s.seq == lost[0].seq]
    return [lost[0], *again[1:]]


def tcp_early_retrans(rig: Rig) -> int:
    with rig.tcp(gso=False) as net:
        a, b = flows(net)
        lose(net, a, b, 4, 5 * 1448)
        return int(net.a.mib.linux.TCPLossProbes)


def ace(segment: Segment) -> int:
    """AE, CWR and ECE."""
    return (segment.frame[46] & 1) << 2 | segment.flags >> 6


def tcp_ecn(rig: Rig) -> tuple[int, int]:
    """ACE fields: (what a SYN asks for, what one that asks for all is granted)"""
    with rig.tcp() as net:
        net.pair()
        asks = ace(syns(net)[0])
    with rig.tcp() as net:
        net.a.sysctl.tcp_ecn = 3
        net.pair()
        synack = next(s for s in net.log if s.flags & (SYN | ACK) == SYN | ACK)
    return asks, ace(synack)


def accecn_options(rig: Rig, **sysctl: int) -> tuple[int, int]:
    """(ACKs with the AccECN option, all ACKs) of a transfer that is well under way."""
    with rig.tcp(gso=False, sysctl={"tcp_ecn": 3} | sysctl) as net:
        a, b = net.pair()
        transfer(net, a, b, bytes(200_000), close=False)
        start = len(net.log)
        transfer(net, a, b, bytes(200_000), close=False)
        acks = [s.opt(174) is not None for s in net.log[start:] if not s.payload]
        return sum(acks), len(acks)


def tcp_ecn_option(rig: Rig) -> str:
    some, all_of_them = accecn_options(rig)
    return "all" if some == all_of_them else "some" if some else "none"


def tcp_ecn_option_beacon(rig: Rig) -> bool:
    """Whether some are sent though nothing changes."""
    return accecn_options(rig, tcp_ecn_option=1)[0] > 0


def tcp_ecn_fallback(rig: Rig) -> bool:
    with rig.tcp(sysctl={"tcp_ecn": 1}) as net:
        mute(net)
        net.socket(net.a).connect(B, 80)
        net.run(2 * S)
        return net.log[1].flags & ECN == 0


def tcp_fin_timeout(rig: Rig) -> int:
    with rig.tcp() as net:
        a, _ = net.pair()
        a.close()
        net.run(20 * S)
        return len(net.a.tcp_hashinfo.ehash)


def tcp_frto(rig: Rig) -> bool:
    """A pause on the wire looks like a loss; without timestamps F-RTO alone finds out."""
    with rig.tcp(sysctl={"tcp_timestamps": 0, "tcp_early_retrans": 0}) as net:
        a, b = net.pair()
        push(net, a, b, 30_000)
        a.sk.snd_cwnd = a.sk.snd_cwnd_clamp = 20  # so that there is new data to send
        net.latency_ns = 150 * MS  # the round trip is longer now than the RTO
        with contextlib.suppress(BlockingIOError):
            for _ in range(4):
                a.send(bytes(60_000))
        net.run(3 * S)
        return net.a.mib.linux.TCPSpuriousRTOs > 0


def keepalive(rig: Rig, **sysctl: int) -> tuple[list[float], bool]:
    """Times of the probes, and whether the connection lives after 200 s."""
    base = {"tcp_keepalive_time": 10, "tcp_keepalive_intvl": 5, "tcp_keepalive_probes": 3}
    with rig.tcp(sysctl={**base, **sysctl}) as net:
        for name in base:
            if name not in rig.sysctl:
                net.a.sysctl[name] = base[name]
        a, _ = net.pair()
        _keep(a)
        start = net.clock.now_ns()
        log = mute(net)
        net.run(200 * S)
        probes = [round((s.time_ns - start) / S) for s in log if not s.flags & RST]
        return probes, a.state == "ESTABLISHED"


def _keep(sock: Sock) -> None:
    sock_setsockopt(sock.sock, SOL_SOCKET, SO_KEEPALIVE, 1)


def slow_queue(net: TcpNet) -> Any:
    """A connection whose sender has a queue of 10 Mbit/s."""
    a, _ = net.pair()
    net.a.qdisc_add("eth0", "tbf", rate=1_250_000, burst=3028, limit=1 << 20)
    a.setsockopt(TCP_NODELAY, 1)
    return a


def tcp_autocorking(rig: Rig) -> int:
    with rig.tcp() as net:
        a = slow_queue(net)
        a.send(bytes(4000))
        before = a.sk.data_segs_out
        for _ in range(3):
            a.send(b"x")
        net.run(S)
        return int(a.sk.data_segs_out - before)


def tcp_limit_output_bytes(rig: Rig) -> int:
    """Packets in the queue and in flight."""
    with rig.tcp() as net:
        a = slow_queue(net)
        a.sk.sk_gso_max_size = 4096
        with contextlib.suppress(BlockingIOError):
            while True:
                a.send(bytes(4096))
        return int(a.sk.tcp_rtx_queue.qlen)


def tcp_max_orphans(rig: Rig) -> bool:
    with rig.tcp() as net:
        a, _ = flows(net)
        a.send(bytes(10_000))
        a.close()
        net.run(S // 2)
        return any(s.flags & RST for s in net.log)


def tcp_max_reordering(rig: Rig) -> bool:
    with rig.tcp(reorder=0.2, latency_ns=10 * MS, gso=False, seed=3) as net:
        a, b = net.pair()
        push(net, a, b, 1_000_000)
        return a.sk.reordering > 4


def tcp_max_syn_backlog(rig: Rig) -> int:
    with rig.tcp(sysctl={"tcp_syncookies": 0}) as net:
        net.listening(200)
        return flood(net, 20)


def tcp_max_tw_buckets(rig: Rig) -> int:
    with rig.tcp() as net:
        for _ in range(3):
            a, b = net.pair()
            a.close()
            net.run(50 * MS)
            b.close()
            net.run(50 * MS)
        return int(net.a.tcp_death_row.tw_refcount)


def tcp_mem(rig: Rig) -> bool:
    """Megabytes that nobody reads are taken."""
    with rig.tcp(sysctl={"tcp_rmem": (4096, 4 << 20, 6 << 20)}) as net:
        a, b = net.pair()
        for _ in range(200):
            with contextlib.suppress(BlockingIOError):
                a.send(bytes(60_000))
            net.run(5 * MS)
        return b.sk.sk_rmem_alloc > 500_000


def tcp_min_rtt_wlen(rig: Rig) -> bool:
    with rig.tcp(latency_ns=5 * MS) as net:
        a, b = flows(net)
        net.latency_ns = 50 * MS
        net.run(20 * S)
        push(net, a, b, 200_000)
        return a.sk.min_rtt_us < 50_000


def tcp_min_snd_mss(rig: Rig) -> int:
    with rig.tcp(gso=False) as net:
        listener = net.listening(200)
        listener.setsockopt(2, 100)
        a = net.client()
        net.run(50 * MS)
        a.send(bytes(3000))
        net.run(50 * MS)
        return max(len(s.payload) for s in net.log)


def turns(net: TcpNet, a: Sock, b: Sock, seconds: int, size: int = 30_000) -> None:
    """Send so many bytes each second, and read them."""
    for _ in range(seconds):
        with contextlib.suppress(BlockingIOError):
            a.send(bytes(size))
        net.run(S)
        with contextlib.suppress(BlockingIOError):
            b.recv(1 << 20)


@makes_a_probe
def hole(rig: Rig, most: int, size: int = 30_000, **others: int) -> int:
    """The payload of segments after a while on a path that drops packets above `most` bytes."""
    with rig.tcp(gso=False, sysctl=others) as net:
        a, b = net.pair()
        a.setsockopt(1, 1)  # TCP_NODELAY
        net.filter = lambda s: len(s.frame) - 14 <= most
        turns(net, a, b, 40, size)
        return int(a.sk.mss_cache)


def tcp_base_mss(rig: Rig) -> int:
    with rig.tcp(gso=False, sysctl={"tcp_mtu_probing": 2}) as net:
        a, _ = net.pair()
        a.send(bytes(3000))
        net.run(50 * MS)
        return max(len(s.payload) for s in net.log)


def tcp_probe_interval(rig: Rig) -> bool:
    """Whether a path that got better is used half a minute later."""
    with rig.tcp(gso=False, sysctl={"tcp_mtu_probing": 2}) as net:
        a, b = net.pair()
        net.filter = lambda s: len(s.frame) - 14 <= 1200
        turns(net, a, b, 10)
        net.filter = None
        net.run(30 * S)
        turns(net, a, b, 10)
        return int(a.sk.mss_cache) > 1200


def tcp_min_tso_segs(rig: Rig) -> int:
    """The first super-packet of a slow flow: its last segment asks for delivery."""
    with rig.tcp(latency_ns=50 * MS) as net:
        a, _ = net.pair()
        mss = a.sk.mss_cache
        del net.log[:]
        a.send(bytes(10 * mss))
        net.run(1 * MS)
        return next(n for n, seg in enumerate(net.log, 1) if seg.flags & TCPHDR_PSH)


@makes_a_probe
def pacing_ratio(rig: Rig, ssthresh: int) -> int:
    """What TCP_INFO says of the pacing rate: percent of a window per round trip."""
    with rig.tcp(latency_ns=50 * MS) as net:
        sk = net.pair()[0].sk
        sk.snd_ssthresh = ssthresh
        window = sk.snd_cwnd * sk.mss_cache * 1_000_000 / (sk.srtt_us / 8)
        return round(100 * tcpi_pacing_rate(sk) / window)


def tcp_moderate_rcvbuf(rig: Rig) -> bool:
    with rig.tcp(sysctl={"tcp_rmem": (4096, 65536, 6 << 20)}) as net:
        a, b = net.pair()
        push(net, a, b, 3_000_000)
        return b.sk.sk_rcvbuf > 65536


def tcp_notsent_lowat(rig: Rig) -> bool:
    with rig.tcp() as net:
        a, _ = net.pair()
        mute(net)
        a.send(bytes(30_000))
        return a.writable


def tcp_orphan_retries(rig: Rig) -> int:
    with rig.tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = flows(net)
        mute(net)
        a.send(b"x")
        a.close()
        net.run(600 * S)
        return int(net.a.mib.tcp.RetransSegs)


def tcp_pingpong_thresh(rig: Rig) -> bool:
    """After an answer the ACK of the next data waits; else a growing window is told at once."""
    with rig.tcp(sysctl={"tcp_rmem": (4096, 4 << 20, 6 << 20)}) as net:
        a, b = flows(net)
        for _ in range(2):
            a.send(b"question")
            net.run(8 * MS)
            b.recv_all()
            b.send(b"answer")
            net.run(200 * MS)
            a.recv_all()
        del net.log[:]
        a.send(b"question")
        net.run(30 * MS)
        return not any(s.src == B for s in net.log)


def loss_to_repair_ms(rig: Rig, **options: Any) -> float:
    with rig.tcp(gso=False, latency_ns=40 * MS, **options) as net:
        a, b = flows(net)
        lost, again = lose(net, a, b, 2, 30_000)[:2]
        return round((again.time_ns - lost.time_ns) / MS)


def metrics_saved(rig: Rig) -> tuple[bool, bool]:
    """Whether a round-trip time, and ssthresh, are kept of a connection past slow start."""
    with rig.tcp() as net:
        a, b = flows(net)
        a.sk.snd_ssthresh = a.sk.snd_cwnd
        a.close()
        net.run(50 * MS)
        b.close()
        net.run(50 * MS)
        kept = list(net.a.tcp_metrics.values())
        return any(tm.rtt for tm in kept), any(tm.ssthresh for tm in kept)


def tcp_reordering(rig: Rig) -> int:
    with rig.tcp(gso=False, sysctl={"tcp_sack": 0}) as net:
        a, b = flows(net)
        lose(net, a, b, 1, 10_000)
        return int(net.a.mib.linux.TCPRenoRecovery)


def tcp_retrans_collapse(rig: Rig) -> int:
    with rig.tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = flows(net)
        a.setsockopt(1, 1)
        mute(net)
        for _ in range(5):
            a.send(bytes(10))
        net.run(S)
        return len([s for s in net.log if s.seq == net.log[0].seq][-1].payload)


def rto_gaps(rig: Rig) -> list[float]:
    """Seconds between the first transmissions of a byte that nobody answers."""
    with rig.tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = flows(net)
        log = mute(net)
        a.send(b"x")
        net.run(20 * S)
        return [(y.time_ns - x.time_ns) / S for x, y in pairwise(log)]


def tcp_rto_max_ms(rig: Rig) -> bool:
    return max(rto_gaps(rig)) > 1.1


def tcp_rto_min_us(rig: Rig) -> bool:
    return rto_gaps(rig)[0] >= 0.2


def tcp_retries1(rig: Rig) -> bool:
    """The route is looked up anew after the first timeout."""
    with rig.tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = flows(net)
        mute(net)
        a.send(b"x")
        for _ in range(30):
            net.run(S // 10)
            if a.sk.sk_dst_cache is None:
                return True
        return False


def tcp_retries2(rig: Rig) -> str:
    with rig.tcp() as net:
        a, _ = flows(net)
        mute(net)
        a.send(b"x")
        net.run(30 * S)
        return a.state


def tcp_rfc1337(rig: Rig) -> int:
    with rig.tcp() as net:
        a, b = net.pair()
        a.close()
        net.run(50 * MS)
        b.close()
        net.run(50 * MS)
        (tw,) = net.a.tcp_hashinfo.ehash.values()
        net.inject(build_segment(B, 80, tw.inet_num, tw.tw_rcv_nxt, 0, RST), net.a)
        net.run(MS)
        return len(net.a.tcp_hashinfo.ehash)


def tcp_rmem(rig: Rig) -> bool:
    with rig.tcp() as net:
        net.pair()
        window = max(s.window for s in net.log)
        return window > 20_000


def tcp_slow_start_after_idle(rig: Rig) -> bool:
    with rig.tcp() as net:
        a, _ = flows(net)
        before = a.sk.snd_cwnd
        net.run(60 * S)
        a.send(b"x")
        return a.sk.snd_cwnd < before


def tcp_stdurg(rig: Rig) -> str:
    with rig.tcp() as net:
        a, b = net.pair()
        a.send(b"xy", MSG_OOB)
        net.run(20 * MS)
        try:
            return b.recv(1, MSG_OOB).decode()
        except OSError as error:
            return type(error).__name__


def tcp_syn_linear_timeouts(rig: Rig) -> list[float]:
    with rig.tcp() as net:
        mute(net)
        net.socket(net.a).connect(B, 80)
        net.run(8 * S)
        return seconds(net.log)


def tcp_syn_retries(rig: Rig) -> int:
    with rig.tcp(sysctl={"tcp_syn_linear_timeouts": 0}) as net:
        mute(net)
        net.socket(net.a).connect(B, 80)
        net.run(200 * S)
        return len(net.log)


def tcp_synack_retries(rig: Rig) -> int:
    with rig.tcp() as net:
        net.listening(200)
        flood(net, 1)
        net.run(100 * S)
        return len([s for s in net.log if s.flags & SYN and s.src == B])


def tcp_syncookies(rig: Rig) -> tuple[bool, bool]:
    """Cookies with room in the queue, and when it is full."""
    with rig.tcp() as net:
        net.listening(4)
        flood(net, 1)
        early = net.b.mib.linux.SyncookiesSent > 0
        flood(net, 20)
        return early, net.b.mib.linux.SyncookiesSent > 0


def tcp_thin_linear_timeouts(rig: Rig) -> bool:
    """The timer doubles from one retransmission to the next."""
    with rig.tcp(sysctl={"tcp_early_retrans": 0}) as net:
        a, _ = thin(net)
        return doubles(net, a)


def thin(net: TcpNet) -> tuple[Sock, Sock]:
    """A connection that has left its first slow start."""
    a, b = flows(net)
    a.sk.snd_ssthresh = 10
    return a, b


def doubles(net: TcpNet, a: Sock) -> bool:
    log = mute(net)
    a.send(b"x")
    net.run(10 * S)
    times = seconds(log)
    return times[3] - times[2] > 1.5 * (times[2] - times[1])


def schedule(rig: Rig) -> list[tuple[int, int]]:
    with rig.tcp(latency_ns=5 * MS, rate_bps=50_000_000) as net:
        a, b = net.pair()
        push(net, a, b, 600_000)
        return [(s.time_ns, s.seq) for s in net.log]


def tcp_tso_win_divisor(rig: Rig) -> bool:
    """Segments leave at the times that the default makes."""
    return schedule(rig) == schedule(Rig({"tcp_tso_win_divisor": 3}, False))


def tcp_tw_reuse(rig: Rig) -> str:
    with rig.tcp(sysctl={"ip_local_port_range": (4000, 4000)}) as net:
        a, b = net.pair()
        a.close()
        net.run(50 * MS)
        b.close()
        net.run(2 * S)
        net.listening(200)
        return err(net.socket(net.a).connect, B, 80)


def tcp_tw_reuse_delay(rig: Rig) -> str:
    """After two seconds."""
    return tcp_tw_reuse(Rig({"tcp_tw_reuse": 1, **rig.sysctl}, rig.live))


def tcp_fwmark_accept(rig: Rig) -> tuple[int, int]:
    """The mark of the SYN-ACK, and of the accepted socket, when what comes has mark 7."""
    with rig.tcp() as net:
        seen = marked(net.b)
        server = net.pair()[1]
        return seen[0], server.sk.sk_mark


def tcp_reflect_tos(rig: Rig) -> tuple[int, int]:
    """The class of the SYN-ACK, and of the accepted socket, to a client with IPTOS_LOWDELAY."""
    with rig.tcp() as net:
        listener = net.listening()
        client = net.socket(net.a)
        client.sk.tos = 0x10
        client.connect(B, 80)
        net.run(50 * MS)
        (answer,) = [s.tos for s in net.log if s.flags == SYN | ACK]
        return answer, listener.accept().sk.tos


def tcp_wmem(rig: Rig) -> bool:
    with rig.tcp() as net:
        a, _ = net.pair()
        mute(net)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 60_000:
                sent += a.send(bytes(5000))
        return sent >= 60_000


def tcp_shrink_window(rig: Rig) -> bool:
    """Whether a server whose buffer is made smaller takes back what it offered."""
    with rig.tcp() as net:
        client, server = net.pair()
        client.send(bytes(500))
        net.run(100 * MS)
        sock_setsockopt(server.sock, SOL_SOCKET, SO_RCVBUF, 8000)
        scale, edges = server.sk.rx_opt.rcv_wscale, list[int]()
        del net.log[:]
        for _ in range(5):
            client.send(bytes(500))
            net.run(100 * MS)
        edges = [s.ack + (s.window << scale) for s in net.log if s.src == B]
        return any(edge < edges[0] for edge in edges[1:])


def tcp_workaround_signed_windows(rig: Rig) -> bool:
    with rig.tcp(sysctl={"tcp_window_scaling": 0}) as net:
        flows(net)
        return max(s.window for s in net.log) > 32767


PROBES: dict[str, tuple[Any, dict[Any, Any]]] = {
    "tcp_abort_on_overflow": (tcp_abort_on_overflow, {0: False, 1: True}),
    "tcp_app_win": (tcp_app_win, {31: True, 1: False}),
    "tcp_challenge_ack_limit": (tcp_challenge_ack_limit, {0x7FFFFFFF: True, 2: False}),
    "tcp_allowed_congestion_control": (
        tcp_allowed_congestion_control,
        {"reno cubic": ("", ""), "cubic": ("EPERM", "")},
    ),
    "tcp_backlog_ack_defer": (tcp_backlog_ack_defer, {1: 1, 0: 8}),
    "tcp_comp_sack_delay_ns": (
        tcp_comp_sack(tcp_comp_sack_rtt_percent=500),
        {1_000_000: (1010, 3), 2_000_000: (2010, 3)},
    ),
    "tcp_comp_sack_nr": (tcp_comp_sack(), {44: (340, 3), 2: (340, 4), 0: (0, 7)}),
    "tcp_comp_sack_rtt_percent": (tcp_comp_sack(), {33: (340, 3), 5: (60, 3)}),
    "tcp_comp_sack_slack_ns": (tcp_comp_sack(), {10_000: (340, 3), 100_000: (430, 3)}),
    "tcp_congestion_control": (
        tcp_congestion_control,
        {"cubic": "cubic", "reno": "reno", "other": "other"},
    ),
    "tcp_dsack": (tcp_dsack, {1: True, 0: False}),
    "tcp_early_retrans": (tcp_early_retrans, {3: 1, 0: 0}),
    "tcp_ecn": (tcp_ecn, {2: (0, 1), 0: (0, 0), 1: (3, 1), 3: (7, 2), 4: (3, 2), 5: (0, 2)}),
    "tcp_ecn_fallback": (tcp_ecn_fallback, {1: True, 0: False}),
    "tcp_ecn_option": (tcp_ecn_option, {2: "all", 1: "some", 0: "none"}),
    "tcp_ecn_option_beacon": (tcp_ecn_option_beacon, {3: True, 0: False}),
    "tcp_fastopen": (fastopen.tcp_fastopen, {1: 0, 3: 5}),
    "tcp_fastopen_blackhole_timeout_sec": (
        fastopen.tcp_fastopen_blackhole_timeout_sec,
        {0: 5, 60: 0},
    ),
    "tcp_fastopen_key": (
        fastopen.tcp_fastopen_key,
        dict(zip(fastopen.KEY_TEXTS, (True, False), strict=True)),
    ),
    "tcp_fin_timeout": (tcp_fin_timeout, {60: 1, 5: 0}),
    "tcp_frto": (tcp_frto, {2: True, 0: False}),
    "tcp_invalid_ratelimit": (tcp_invalid_ratelimit, {500: 1, 0: 5}),
    "tcp_keepalive_time": (keepalive, {7200: ([], True), 20: ([20, 25, 30], False)}),
    "tcp_keepalive_intvl": (keepalive, {75: ([10, 85, 160], True), 9: ([10, 19, 28], False)}),
    "tcp_keepalive_probes": (
        keepalive,
        {9: ([10 + 5 * n for n in range(9)], False), 1: ([10], False)},
    ),
    "tcp_base_mss": (tcp_base_mss, {1024: 1024, 512: 512}),
    "tcp_mtu_probe_floor": (hole(500, 1000, tcp_mtu_probing=1), {48: 256, 600: 600}),
    "tcp_mtu_probing": (hole(1200), {0: 1448, 1: 1147, 2: 1147}),
    "tcp_probe_interval": (tcp_probe_interval, {600: False, 20: True}),
    "tcp_probe_threshold": (hole(1200, tcp_mtu_probing=2), {8: 1147, 300: 1024}),
    "tcp_autocorking": (tcp_autocorking, {1: 1, 0: 3}),
    "tcp_limit_output_bytes": (tcp_limit_output_bytes, {4 << 20: 4, 1: 2}),
    "tcp_max_orphans": (tcp_max_orphans, {4096: False, 0: True}),
    "tcp_max_reordering": (tcp_max_reordering, {300: True, 4: False}),
    "tcp_max_syn_backlog": (tcp_max_syn_backlog, {1024: 20, 8: 7}),
    "tcp_max_tw_buckets": (tcp_max_tw_buckets, {4096: 3, 1: 1}),
    "tcp_mem": (tcp_mem, {(1536, 2048, 3072): True, (8, 16, 24): False}),
    "tcp_min_rtt_wlen": (tcp_min_rtt_wlen, {300: True, 5: False}),
    "tcp_min_snd_mss": (tcp_min_snd_mss, {48: 88, 300: 288}),
    "tcp_min_tso_segs": (tcp_min_tso_segs, {2: 2, 4: 4}),
    "tcp_pacing_ss_ratio": (pacing_ratio(1000), {200: 200, 300: 300}),
    "tcp_pacing_ca_ratio": (pacing_ratio(10), {120: 120, 50: 50}),
    "tcp_tso_rtt_log": (tcp_min_tso_segs, {9: 2, 17: 5}),
    "tcp_moderate_rcvbuf": (tcp_moderate_rcvbuf, {1: True, 0: False}),
    "tcp_no_metrics_save": (metrics_saved, {0: (True, False), 1: (False, False)}),
    "tcp_no_ssthresh_metrics_save": (metrics_saved, {1: (True, False), 0: (True, True)}),
    "tcp_notsent_lowat": (tcp_notsent_lowat, {M32: True, 1000: False}),
    "tcp_orphan_retries": (tcp_orphan_retries, {0: 8, 2: 3}),
    "tcp_pingpong_thresh": (tcp_pingpong_thresh, {1: True, 100: False}),
    "tcp_recovery": (loss_to_repair_ms, {1: 80, 4: 103}),
    "tcp_reordering": (tcp_reordering, {3: 1, 30: 0}),
    "tcp_retrans_collapse": (tcp_retrans_collapse, {1: 50, 0: 10}),
    "tcp_retries1": (tcp_retries1, {3: False, 0: True}),
    "tcp_retries2": (tcp_retries2, {15: "ESTABLISHED", 3: "CLOSE"}),
    "tcp_rfc1337": (tcp_rfc1337, {0: 0, 1: 1}),
    "tcp_rmem": (tcp_rmem, {(4096, 131072, 6 << 20): True, (4096, 8192, 8192): False}),
    "tcp_rto_max_ms": (tcp_rto_max_ms, {120_000: True, 1000: False}),
    "tcp_rto_min_us": (tcp_rto_min_us, {200_000: True, 10_000: False, 1: False}),
    "tcp_sack": (syn_option(4), {1: True, 0: False}),
    "tcp_fwmark_accept": (tcp_fwmark_accept, {0: (0, 0), 1: (7, 7)}),
    "tcp_reflect_tos": (tcp_reflect_tos, {0: (0, 0), 1: (0x10, 0x10)}),
    "tcp_tw_reuse_delay": (tcp_tw_reuse_delay, {1000: "", 5000: "EADDRNOTAVAIL"}),
    "tcp_shrink_window": (tcp_shrink_window, {0: False, 1: True}),
    "tcp_slow_start_after_idle": (tcp_slow_start_after_idle, {1: True, 0: False}),
    "tcp_stdurg": (tcp_stdurg, {0: "y", 1: "BlockingIOError"}),
    "tcp_syn_linear_timeouts": (
        tcp_syn_linear_timeouts,
        {4: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0], 0: [0.0, 1.0, 3.0, 7.0]},
    ),
    "tcp_syn_retries": (tcp_syn_retries, {6: 7, 2: 3}),
    "tcp_synack_retries": (tcp_synack_retries, {5: 6, 1: 2}),
    "tcp_syncookies": (tcp_syncookies, {1: (False, True), 0: (False, False), 2: (True, True)}),
    "tcp_thin_linear_timeouts": (tcp_thin_linear_timeouts, {0: True, 1: False}),
    "tcp_timestamps": (syn_option(8), {1: True, 0: False}),
    "tcp_tso_win_divisor": (tcp_tso_win_divisor, {3: True, 8: False}),
    "tcp_tw_reuse": (tcp_tw_reuse, {2: "EADDRNOTAVAIL", 1: ""}),
    "tcp_window_scaling": (syn_option(3), {1: True, 0: False}),
    "tcp_wmem": (tcp_wmem, {(4096, 1 << 20, 6 << 20): True, (4096, 8192, 8192): False}),
    "tcp_workaround_signed_windows": (tcp_workaround_signed_windows, {0: True, 1: False}),
}
