"""Congestion control and loss recovery; no byte lost, doubled or out of order on any wire."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stack.inet import tcp_sock as opt
from stack.inet.tcp_cong import tcp_congestion_ops, tcp_register_congestion_control, tcp_reno
from tests.stack.inet.tcpnet import ACK, MS, SYN, A, S, Segment, TcpNet, build_segment, transfer
from tests.support import examples

MSS = 1448
SACK_OK = b"\4\2"
GOLDEN = Path(__file__).parent / "golden_goodput.txt"


def drop_nth(net: TcpNet, *numbers: int, side: int = A) -> list:
    """Lose the n-th (from 0) data segments of first transmission; returns the list it fills."""
    seen: set[int] = set()
    lost: list = []
    high = [None]

    def judge(s):  # type: ignore[no-untyped-def]
        if s.src != side or not s.payload or s.seq in seen:
            return None
        index = len(seen)
        seen.add(s.seq)
        high[0] = s.seq
        if index in numbers:
            lost.append(s)
            return False
        return None

    net.filter = judge
    return lost


def test_initial_window_is_ten_segments() -> None:
    """RFC 6928."""
    with TcpNet(latency_ns=50 * MS) as net:
        client, _server = net.pair()
        start = len(net.log)
        client.send(b"x" * 100_000)
        assert len([s for s in net.log[start:] if s.payload]) == 10


def test_slow_start_doubles_each_round_trip() -> None:
    """Where the receiver's window is no bound."""
    with TcpNet(latency_ns=50 * MS, sysctl={"tcp_rmem": (4096, 4 << 20, 6 << 20)}) as net:
        client, server = net.pair()
        client.send(b"x" * 900_000)
        windows = []
        for _ in range(4):
            windows.append(client.sk.snd_cwnd)
            net.run(100 * MS)
            server.recv_all()
        assert windows[:3] == [10, 20, 40]
        assert 60 <= windows[3] <= 80  # the last ACKs may be delayed


def test_congestion_avoidance_adds_one_segment_per_round_trip() -> None:
    sysctl = {
        "tcp_congestion_control": "reno",
        "tcp_wmem": (4096, 1 << 20, 1 << 20),
        "tcp_rmem": (4096, 4 << 20, 6 << 20),
    }
    with TcpNet(latency_ns=50 * MS, sysctl=sysctl) as net:
        client, _server = net.pair()
        client.sk.snd_ssthresh = 10
        client.sk.snd_cwnd = 10
        data = b"x" * 900_000
        client.send(data)
        net.run(1000 * MS)
        assert 18 <= client.sk.snd_cwnd <= 21


@pytest.mark.parametrize("sack", [0, 1])
def test_one_loss_is_repaired_without_a_timeout(sack: int) -> None:
    """RFC 5681 3.2 / RFC 6582, RFC 8985."""
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_sack": sack}) as net:
        client, server = net.pair()
        lost = drop_nth(net, 12)
        data = bytes(i % 251 for i in range(60 * MSS))
        assert transfer(net, client, server, data) == data
        assert len(lost) == 1
        linux = net.a.mib.linux
        assert linux.TCPTimeouts == 0
        assert linux.TCPFastRetrans == 1
        assert net.a.mib.tcp.RetransSegs == 1
        assert (linux.TCPSackRecovery, linux.TCPRenoRecovery) == (sack, 1 - sack)


@pytest.mark.parametrize("sack", [0, 1])
def test_several_losses_in_one_window(sack: int) -> None:
    """NewReno: a partial ACK retransmits the next hole each round trip; SACK all at once."""
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_sack": sack}) as net:
        client, server = net.pair()
        drop_nth(net, 31, 33, 36, 40)
        data = bytes(i % 251 for i in range(120 * MSS))
        assert transfer(net, client, server, data) == data
        linux = net.a.mib.linux
        assert linux.TCPTimeouts == 0
        assert net.a.mib.tcp.RetransSegs == 4
        assert linux.TCPRenoRecovery + linux.TCPSackRecovery == 1


def test_window_halves_once_per_loss_episode() -> None:
    with TcpNet(latency_ns=20 * MS) as net:
        client, server = net.pair()
        drop_nth(net, 40, 42, 44)
        data = b"x" * (200 * MSS)
        cwnds = []
        original = tcp_reno.ssthresh
        client.sk.icsk_ca_ops = tcp_congestion_ops(
            name="probe",
            ssthresh=lambda sk: (cwnds.append(sk.snd_cwnd), original(sk))[1],
            undo_cwnd=tcp_reno.undo_cwnd,
            cong_avoid=tcp_reno.cong_avoid,
        )
        assert transfer(net, client, server, data) == data
        assert len(cwnds) == 1
        assert client.sk.snd_ssthresh == max(cwnds[0] // 2, 2)


def test_a_burst_is_one_moment_for_rack() -> None:
    """RFC 8985 6.2: three SACKs above a hole retransmit it at once, not by the reorder timer.

    What is sent in one burst differs by nanoseconds, which round-trip times do not have.
    """
    with TcpNet(latency_ns=20 * MS) as net:
        client, server = net.pair()
        lost = drop_nth(net, 0, 1, 2, 3)
        client.send(b"x" * (10 * MSS))
        net.run(41 * MS)
        seqs = {gone.seq for gone in lost}
        resent = [s.time_ns for s in net.log if s.src == A and s.payload and s.seq in seqs][4:]
        assert resent == [next(s.time_ns for s in net.log if s.sacks) + 20 * MS] * 4
        assert client.sk.lost_out == len(lost)
        net.run(S)
        assert server.recv_all() == b"x" * (10 * MSS)


def test_limited_transmit_sends_new_data_on_the_first_duplicates() -> None:
    """RFC 3042: two duplicate ACKs each release a segment beyond the window."""
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_sack": 0}, gso=False) as net:
        client, server = net.pair()
        drop_nth(net, 0)
        client.send(b"x" * (30 * MSS))
        net.run(41 * MS)
        sent = {s.seq for s in net.log if s.src == A and s.payload}
        assert len(sent) > 10
        assert net.a.mib.linux.TCPTimeouts == 0
        net.run(S)
        assert len(server.recv_all()) == 30 * MSS


def test_timeout_collapses_the_window() -> None:
    with TcpNet(sysctl={"tcp_frto": 0, "tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        client.send(b"x" * (20 * MSS))
        net.run(100 * MS)
        server.recv_all()
        net.filter = lambda s: s.src != A
        client.send(b"y" * (10 * MSS))
        net.run(250 * MS)
        assert client.sk.icsk_ca_state == opt.TCP_CA_Loss
        assert client.sk.snd_cwnd == 1
        net.filter = None
        net.run(5 * S)
        assert len(server.recv_all()) == 10 * MSS
        assert client.sk.icsk_ca_state == opt.TCP_CA_Open


def test_spurious_timeout_is_undone_by_frto() -> None:
    """RFC 5682: a delay spike; the window comes back and nothing more is resent."""
    with TcpNet(sysctl={"tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        client.send(b"x" * (40 * MSS))
        net.run(100 * MS)
        server.recv_all()
        before = client.sk.snd_cwnd
        net.latency_ns = 150 * MS  # the round trip is now longer than the RTO of 210 ms
        client.send(b"y" * (20 * MSS))
        net.run(3 * S)
        assert net.a.mib.linux.TCPTimeouts >= 1
        assert client.sk.snd_cwnd >= before
        assert client.sk.icsk_ca_state == opt.TCP_CA_Open
        assert net.a.mib.tcp.RetransSegs <= 3
        assert len(server.recv_all()) == 20 * MSS


def test_reordering_is_not_taken_for_loss_for_long() -> None:
    """RACK learns from DSACK and from late arrivals; the reduction is undone."""
    with TcpNet(latency_ns=20 * MS, reorder=0.02, seed=3) as net:
        client, server = net.pair()
        data = b"r" * (1500 * MSS)
        assert transfer(net, client, server, data) == data
        linux = net.a.mib.linux
        assert linux.TCPTimeouts == 0
        assert linux.TCPSACKReorder + linux.TCPTSReorder > 0
        assert net.a.mib.tcp.RetransSegs < 120


def test_sack_blocks_name_what_arrived() -> None:
    """RFC 2018 4: the block of the newest segment first; RFC 2883: duplicates by D-SACK."""
    with TcpNet(latency_ns=20 * MS, gso=False) as net:
        client, _server = net.pair()
        base = client.sk.write_seq
        drop_nth(net, 1, 4)
        client.send(b"x" * (8 * MSS))
        net.run(39 * MS)
        blocks = [s.sacks for s in net.log if s.sacks]
        first = base + 2 * MSS
        assert blocks[0] == [(first, first + MSS)]
        newest = blocks[-1]
        assert newest[0][0] == base + 5 * MSS
        assert newest[1] == (base + 2 * MSS, base + 4 * MSS)


def test_dsack_reports_a_duplicate() -> None:
    with TcpNet(duplicate=1.0) as net:
        client, server = net.pair()
        client.send(b"once")
        net.run(50 * MS)
        assert server.recv_all() == b"once"
        assert net.b.mib.linux.TCPDSACKOldSent >= 1
        assert any(s.sacks and s.sacks[0][1] <= s.ack for s in net.log)


def test_dsack_names_the_first_of_several_blocks_that_came_again() -> None:
    """RFC 2883 4: one block of what arrived twice, not all from the first to the last."""
    with TcpNet(sysctl={"tcp_syncookies": 0}, gso=False) as net:
        net.listening()
        net.filter = lambda s: False

        def arrives(flags: int, seq: int, ack: int = 0, data: bytes = b"") -> Segment:
            net.inject(build_segment(A, 4000, 80, seq, ack, flags, payload=data, options=SACK_OK))
            net.run(10_000)
            return net.log[-1]

        ack = arrives(SYN, 1000).seq + 1
        arrives(ACK, 1001, ack)
        start = 1001
        for first, last in ((1000, 3000), (4000, 5000)):
            arrives(ACK, start + first, ack, bytes(last - first))
        answer = arrives(ACK, start, ack, bytes(5500))
        assert answer.ack == start + 5500
        assert answer.sacks == [(start + 1000, start + 3000)]


@pytest.mark.parametrize("accepted", [False, True])
def test_a_buffer_grows_with_what_waits_behind_a_hole_once_accepted(accepted: bool) -> None:
    """As Linux 6.17: only of a connection that somebody reads."""
    with TcpNet(latency_ns=5 * MS, sysctl={"tcp_rmem": (4096, 32768, 32 << 20)}) as net:
        listener = net.listening()
        client = net.client()
        net.run(50 * MS)
        child = listener.sk.icsk_accept_queue.rskq_accept_head[0].sk
        listener.accept() if accepted else None
        drop_nth(net, 0)
        client.send(bytes(60_000))
        net.run_until(lambda: child.out_of_order_queue)
        net.run(MS)
        assert (child.sk_rcvbuf > 32768) == accepted


def test_sack_reneging_is_survived() -> None:
    """RFC 2018 8: a receiver may drop what it SACKed; the sender must be able to resend it."""
    with TcpNet(latency_ns=20 * MS, sysctl={"tcp_early_retrans": 0}) as net:
        client, server = net.pair()
        drop_nth(net, 0)
        data = bytes(i % 251 for i in range(10 * MSS))
        client.send(data)
        net.run(25 * MS)
        assert server.sk.out_of_order_queue
        from stack.inet.tcp_data import tcp_ofo_purge, tcp_sack_reset

        tcp_ofo_purge(server.sk)
        tcp_sack_reset(server.sk)
        got = b""
        for _ in range(200):
            net.run(50 * MS)
            got += server.recv_all()
        assert got == data


def test_shrunken_window_does_not_stop_retransmission() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        net.filter = lambda s: s.src != A
        client.send(b"x" * 5000)
        client.sk.snd_wnd = 1000
        net.run(S)
        net.filter = None
        net.run(5 * S)
        assert len(server.recv_all()) == 5000


def test_congestion_control_is_a_table() -> None:
    """A module that is registered can be chosen by name, per socket and as the default."""
    with TcpNet() as net:
        calls = []
        mine = tcp_congestion_ops(
            name="steady",
            ssthresh=lambda sk: sk.snd_cwnd,
            undo_cwnd=lambda sk: sk.snd_cwnd,
            cong_avoid=lambda sk, ack, acked: calls.append(acked),
        )
        assert tcp_register_congestion_control(net.a, mine) == 0
        assert tcp_register_congestion_control(net.a, mine) < 0
        net.a.sysctl.tcp_congestion_control = "steady"
        client, server = net.pair()
        assert client.getsockopt(opt.TCP_CONGESTION).rstrip(b"\0") == b"steady"
        assert server.getsockopt(opt.TCP_CONGESTION).rstrip(b"\0") == b"cubic"
        data = b"s" * 100_000
        assert transfer(net, client, server, data) == data
        assert calls
        assert client.sk.snd_cwnd == 10


# --- any wire -----------------------------------------------------------------------------


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.15]),
    reorder=st.sampled_from([0.0, 0.05, 0.3]),
    duplicate=st.sampled_from([0.0, 0.05, 0.3]),
    size=st.integers(1, 120_000),
    chunk=st.sampled_from([1, 700, 1448, 10_000, 65_536]),
    sack=st.booleans(),
    timestamps=st.booleans(),
    gso=st.booleans(),
    latency_us=st.sampled_from([0, 100, 10_000]),
)
def test_no_byte_is_lost_doubled_or_moved(  # type: ignore[no-untyped-def]
    seed, loss, reorder, duplicate, size, chunk, sack, timestamps, gso, latency_us
) -> None:
    rng = random.Random(seed)
    if chunk == 1:
        size = min(size, 3000)
    data = rng.randbytes(size)
    with TcpNet(
        seed=seed,
        loss=loss,
        reorder=reorder,
        duplicate=duplicate,
        gso=gso,
        latency_ns=latency_us * 1000,
        sysctl={"tcp_sack": int(sack), "tcp_timestamps": int(timestamps)},
    ) as net:
        net.keep_log = False
        client, server = net.pair()
        assert transfer(net, client, server, data, chunk=chunk) == data
        back = rng.randbytes(min(size, 20_000))
        if server.sk.sk_state == 8:  # CLOSE_WAIT: the other direction is still open
            assert transfer(net, server, client, back, chunk=chunk) == back
        for host in (net.a, net.b):
            assert host.mib.tcp.InCsumErrors == 0
        net.finish(client, server)
        for host in (net.a, net.b):
            assert not host.tcp_hashinfo.ehash
            assert not host.tcp_hashinfo.bhash
            assert host.prot_mem["TCP"].memory_allocated == 0
            assert host.prot_mem["TCP"].orphan_count == 0
            assert host.prot_mem["TCP"].sockets_allocated == 0
            assert host.machine.timers.active == 0


@pytest.mark.uncompiled
@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 30), st.sampled_from([0.0, 0.1]))
def test_books_of_the_scoreboard_balance(seed: int, reorder: float) -> None:
    """packets_out, sacked_out, lost_out, retrans_out equal what the queue says at each ACK."""
    from stack.inet import tcp_input

    original = tcp_input.tcp_ack
    checked = [0]

    def checking(sk, skb, flag):  # type: ignore[no-untyped-def]
        result = original(sk, skb, flag)
        counts = {"packets": 0, "sacked": 0, "lost": 0, "retrans": 0}
        for q in sk.tcp_rtx_queue:
            n = q.tcp_gso_segs
            counts["packets"] += n
            counts["sacked"] += n if q.sacked & 1 else 0
            counts["retrans"] += n if q.sacked & 2 else 0
            counts["lost"] += n if q.sacked & 4 else 0
        assert sk.packets_out == counts["packets"]
        assert sk.lost_out == counts["lost"]
        assert sk.retrans_out == counts["retrans"]
        if sk.rx_opt.sack_ok:
            assert sk.sacked_out == counts["sacked"]
        assert sk.sacked_out + sk.lost_out <= sk.packets_out
        assert sk.sk_wmem_queued >= 0
        checked[0] += 1
        return result

    tcp_input.tcp_ack = checking
    try:
        rng = random.Random(seed)
        with TcpNet(
            seed=seed,
            loss=rng.choice([0.02, 0.08]),
            reorder=reorder,
            duplicate=0.02,
            sysctl={"tcp_sack": seed & 1},
        ) as net:
            net.keep_log = False
            client, server = net.pair()
            data = rng.randbytes(300_000)
            assert transfer(net, client, server, data) == data
            assert client.sk.sk_wmem_queued == 0 or client.sk.packets_out
        assert checked[0] > 50
    finally:
        tcp_input.tcp_ack = original


# --- golden table -------------------------------------------------------------------------


def goodput(loss: float, window: int, sack: int) -> float:
    """Mbit/s of 2 MB over 20 ms round trip."""
    net = TcpNet(
        latency_ns=10 * MS,
        loss=loss,
        seed=11,
        sysctl={
            "tcp_congestion_control": "reno",
            "tcp_sack": sack,
            "tcp_rmem": (4096, 2 * window, 2 * window),
            "tcp_wmem": (4096, 1 << 20, 6 << 20),
        },
    )
    net.keep_log = False
    client, server = net.pair()
    data = b"g" * 2_000_000
    start = net.clock.now_ns()
    assert transfer(net, client, server, data) == data
    seconds = (net.clock.now_ns() - start) / S
    net.finish(client, server)
    net.close()
    return len(data) * 8 / seconds / 1e6


@pytest.mark.slow
def test_golden_goodput() -> None:
    """Reno: loss x window -> goodput, kept as text: a change of behaviour shows as a diff.

    Deterministic (virtual clock, fixed seed). To accept a change, delete the file and run again.

    With the smallest window some loss is better than none, as with a Linux receiver. Without loss
    an ACK leaves while segments wait for their reader, and the window offered stays at 19040 of
    20480 bytes. A loss brings an ACK with an empty queue, and no offer is taken back.
    """
    lines = ["# goodput in Mbit/s, 2 MB over a round trip of 20 ms; rows: loss, columns: window"]
    windows = (16384, 65536, 262144, 1048576)
    for sack in (1, 0):
        lines.append(f"sack={sack}  " + "".join(f"{w:>10}" for w in windows))
        for loss in (0.0, 0.001, 0.01, 0.03, 0.1):
            row = "".join(f"{goodput(loss, w, sack):10.2f}" for w in windows)
            lines.append(f"{loss:<7}" + row)
    text = "\n".join(lines) + "\n"
    if not GOLDEN.exists():
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
