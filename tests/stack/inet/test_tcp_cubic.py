"""CUBIC (RFC 9438) against a model in floating point, and HyStart++ (RFC 9406) on a slow wire."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from fastpath.errors import ArgumentError
from stack.core.snmp import linux_mib
from stack.host import Host
from stack.inet import tcp_input
from stack.inet import tcp_sock as opt
from stack.inet.tcp_cong import tcp_register_congestion_control
from stack.inet.tcp_cubic import (
    CSS_ROUNDS,
    bictcp,
    cubic_params,
    cubic_root,
    cubictcp,
    cubictcp_acked,
    cubictcp_cong_avoid,
    cubictcp_cwnd_event,
    cubictcp_recalc_ssthresh,
    cubictcp_state,
    cubictcp_undo_cwnd,
)
from stack.inet.tcp_sock import tcp_sock
from stack.inet.tcp_sockopt import tcp_info_dict
from stack.proc.ss import ss
from tests.stack.inet.tcpnet import MS, A, S, TcpNet, transfer
from tests.support import examples

HOST = Host("host", clock=VirtualClock())
GOLDEN = Path(__file__).parent / "golden_congestion.txt"
C, BETA = 0.4, 0.7


@given(st.integers(0, 1 << 70))
def test_cubic_root_is_the_integer_root(a: int) -> None:
    r = cubic_root(a)
    assert r**3 <= a < (r + 1) ** 3


@pytest.mark.parametrize("a", [0, 1, 7, 8, 26, 27, (1 << 21) ** 3 - 1, (1 << 21) ** 3])
def test_cubic_root_at_the_edges(a: int) -> None:
    r = cubic_root(a)
    assert r**3 <= a < (r + 1) ** 3


def test_parameters_out_of_range_are_refused() -> None:
    for wrong in ({"beta": 0}, {"beta": 1024}, {"bic_scale": 0}, {"hystart_low_window": -1}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            cubic_params(**wrong)


# --- one sender without a network ---------------------------------------------------------


def sender(cwnd: int, rtt_ms: float, **params: Any) -> Any:
    """What CUBIC reads of a socket, in congestion avoidance with `cwnd` segments."""
    ca = bictcp(cubic_params(**params))
    ca.delay_min = int(rtt_ms * 1000)
    sk = tcp_sock(HOST)
    sk.icsk_ca_priv = ca
    sk.tcp_mstamp = sk.lsndtime = 1000 * S
    sk.is_cwnd_limited = True
    sk.snd_cwnd = sk.snd_ssthresh = sk.prior_cwnd = sk.max_packets_out = cwnd
    sk.snd_cwnd_cnt = 0
    sk.snd_cwnd_clamp = 1 << 30
    sk.snd_una = sk.snd_nxt = 1000
    return sk


def lose(sk: Any) -> None:
    """Fast recovery, from its beginning to its end."""
    sk.prior_cwnd = sk.snd_cwnd
    sk.snd_ssthresh = cubictcp_recalc_ssthresh(sk)
    sk.snd_cwnd = sk.snd_ssthresh
    sk.snd_cwnd_cnt = 0


def round_trip(sk: Any, rtt_ns: int, model: Model | None = None) -> None:
    """One window is acknowledged, spread over the round trip."""
    left = sk.snd_cwnd
    step = max(left // 40, 1)
    start, done, all_ = sk.tcp_mstamp, 0, left
    while left:
        n = min(step, left)
        left -= n
        done += n
        sk.tcp_mstamp = start + rtt_ns * done // all_
        cubictcp_cong_avoid(sk, 0, n)
        if model is not None:
            model.ack(n, sk.tcp_mstamp)


class Model:
    """RFC 9438 4.2 to 4.4, as it stands there, in floating point. Times s, windows segments."""

    def __init__(self, w_max: float, cwnd: float, rtt_s: float) -> None:
        self.w_max, self.cwnd, self.rtt = w_max, cwnd, rtt_s
        self.cwnd_prior = w_max
        self.k = ((w_max - cwnd) / C) ** (1 / 3) if w_max > cwnd else 0.0
        self.origin = max(w_max, cwnd)
        self.w_est = cwnd
        self.epoch: float | None = None

    def w_cubic(self, t: float) -> float:
        return C * (t - self.k) ** 3 + self.origin

    def ack(self, segments: int, now_ns: int) -> None:
        now = now_ns / S
        if self.epoch is None:
            self.epoch = now
        t = now - self.epoch
        alpha = 3 * (1 - BETA) / (1 + BETA) if self.w_est < self.cwnd_prior else 1.0
        self.w_est += alpha * segments / self.cwnd
        target = min(max(self.w_cubic(t + self.rtt), self.cwnd), 1.5 * self.cwnd)
        if self.w_cubic(t) < self.w_est:
            self.cwnd = max(self.cwnd, self.w_est)
        else:
            self.cwnd += (target - self.cwnd) / self.cwnd * segments


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(12, 8000), st.sampled_from([2, 10, 35, 80, 200, 400]))
def test_window_over_time_is_that_of_the_model(w_max: int, rtt_ms: int) -> None:
    """Through the concave region, the plateau and as far beyond: within 3 % and two segments."""
    sk = sender(w_max, rtt_ms)
    lose(sk)
    model = Model(w_max, sk.snd_cwnd, rtt_ms / 1000)
    end = sk.tcp_mstamp + int(2 * max(model.k, 1.0) * S)
    rounds = 0
    while sk.tcp_mstamp < end and rounds < 400:
        round_trip(sk, rtt_ms * MS, model)
        rounds += 1
        assert abs(sk.snd_cwnd - model.cwnd) <= 0.03 * model.cwnd + 2, rounds


def test_concave_then_flat_then_convex() -> None:
    """RFC 9438 4.4, 4.5: steps shrink up to W_max at K, and grow beyond."""
    sk = sender(3000, 100)
    lose(sk)
    assert sk.snd_cwnd == 2100
    k_s = (3000 * (1 - BETA) / C) ** (1 / 3)
    windows = [sk.snd_cwnd]
    while sk.tcp_mstamp < 1000 * S + 2 * k_s * S:
        round_trip(sk, 100 * MS)
        windows.append(sk.snd_cwnd)
    steps = [b - a for a, b in itertools.pairwise(windows)]
    plateau = round(k_s / 0.1)
    assert abs(windows[plateau] - 3000) <= 15
    assert sum(steps[:10]) > 10 * sum(steps[plateau - 10 : plateau])
    assert sum(steps[-10:]) > 10 * sum(steps[plateau : plateau + 10])
    assert sk.icsk_ca_priv.bic_K == pytest.approx(k_s * 1024, rel=0.001)
    symmetric = windows[2 * plateau] - 3000
    assert symmetric == pytest.approx(900, rel=0.1)


def test_reno_friendly_region() -> None:
    """RFC 9438 4.3: at a short round trip the window grows as Reno's, by 0.53 segments, then 1."""
    sk = sender(40, 2)
    lose(sk)
    assert sk.snd_cwnd == 28
    for _ in range(20):
        round_trip(sk, 2 * MS)
    assert sk.snd_cwnd == pytest.approx(28 + 20 * 0.53, abs=2)
    while sk.snd_cwnd < 42:
        round_trip(sk, 2 * MS)
    before = sk.snd_cwnd
    for _ in range(20):
        round_trip(sk, 2 * MS)
    assert sk.snd_cwnd - before == pytest.approx(20, abs=3)


def test_without_friendliness_the_curve_alone_counts() -> None:
    sk = sender(40, 2, tcp_friendliness=False)
    lose(sk)
    for _ in range(20):
        round_trip(sk, 2 * MS)
    # 40 ms of a curve whose K is 3.1 s.
    assert sk.snd_cwnd <= 30


def test_fast_convergence_gives_way() -> None:
    """RFC 9438 4.7: a loss below the last plateau sets the next one lower still."""
    for fast, expected in ((True, 700 * (1 + BETA) / 2), (False, 700)):
        sk = sender(1000, 50, fast_convergence=fast)
        lose(sk)
        assert sk.icsk_ca_priv.last_max_cwnd == 1000
        assert sk.snd_cwnd == 700
        lose(sk)
        assert sk.icsk_ca_priv.last_max_cwnd == pytest.approx(expected, abs=1)


@given(st.integers(1, 1 << 20), st.integers(1, 1023))
def test_ssthresh_is_two_segments_at_least(cwnd: int, beta: int) -> None:
    sk = sender(cwnd, 10, beta=beta)
    ssthresh = cubictcp_recalc_ssthresh(sk)
    assert ssthresh == max(cwnd * beta // 1024, 2)
    if cwnd > 2:
        assert ssthresh <= cwnd


def test_growth_is_half_a_window_a_round_trip_at_most() -> None:
    """RFC 9438 4.2: target is at most 1.5 cwnd, however long the epoch lasts."""
    sk = sender(10, 400)
    lose(sk)
    sk.icsk_ca_priv.epoch_start = sk.tcp_mstamp - 100 * S
    for _ in range(10):
        before = sk.snd_cwnd
        round_trip(sk, 400 * MS)
        assert sk.snd_cwnd <= before * 1.5 + 1
    assert sk.snd_cwnd > 200


def test_before_the_first_loss_a_twentieth_a_round_trip() -> None:
    """As Linux: slow start ended without a loss, so nobody knows where the plateau is."""
    sk = sender(1000, 1)
    before = sk.snd_cwnd
    round_trip(sk, 1 * MS)
    assert sk.snd_cwnd == before + before // 20


def test_timeout_starts_a_new_curve_at_the_window_of_then() -> None:
    """RFC 9438 4.8: K = 0 and W_max = the window where congestion avoidance begins."""
    sk = sender(1000, 50)
    lose(sk)
    cubictcp_state(sk, opt.TCP_CA_Loss)
    sk.icsk_ca_priv.delay_min = 50_000
    sk.snd_cwnd = sk.snd_ssthresh = 300
    round_trip(sk, 50 * MS)
    ca = sk.icsk_ca_priv
    assert (ca.bic_K, ca.bic_origin_point) == (0, 300)


def test_undo_goes_on_as_if_nothing_had_been() -> None:
    """RFC 9438 4.9: the window and the curve with it."""
    sk, twin = sender(2000, 50), sender(2000, 50)
    for each in (sk, twin):
        lose(each)
        for _ in range(30):
            round_trip(each, 50 * MS)
    window, ssthresh = sk.snd_cwnd, sk.snd_ssthresh
    lose(sk)
    assert sk.snd_cwnd < window
    sk.snd_cwnd = cubictcp_undo_cwnd(sk)
    sk.snd_ssthresh = ssthresh
    assert sk.snd_cwnd == window
    for _ in range(60):
        for each in (sk, twin):
            round_trip(each, 50 * MS)
        assert abs(sk.snd_cwnd - twin.snd_cwnd) <= 2


def test_an_idle_minute_is_no_time_of_the_curve() -> None:
    """RFC 9438 5.8: without it the window would shoot to what the curve says of now."""
    sk, twin = sender(2000, 50), sender(2000, 50)
    for each in (sk, twin):
        lose(each)
        for _ in range(30):
            round_trip(each, 50 * MS)
    sk.lsndtime = sk.tcp_mstamp
    sk.tcp_mstamp += 60 * S
    cubictcp_cwnd_event(sk, opt.CA_EVENT_TX_START)
    for _ in range(30):
        for each in (sk, twin):
            round_trip(each, 50 * MS)
        assert abs(sk.snd_cwnd - twin.snd_cwnd) <= 2


def test_time_of_an_unused_window_is_no_time_of_the_curve() -> None:
    """RFC 9438 4.2: ACKs while the application is in the way neither grow the window nor age it."""
    sk, twin = sender(2000, 50), sender(2000, 50)
    for each in (sk, twin):
        lose(each)
        for _ in range(30):
            round_trip(each, 50 * MS)
    before = sk.snd_cwnd
    sk.is_cwnd_limited = False
    for _ in range(600):
        round_trip(sk, 50 * MS)
    assert sk.snd_cwnd == before
    sk.is_cwnd_limited = True
    for _ in range(30):
        for each in (sk, twin):
            round_trip(each, 50 * MS)
        assert abs(sk.snd_cwnd - twin.snd_cwnd) <= 2


# --- HyStart++ ----------------------------------------------------------------------------


class Slow:
    """The first slow start, round by round with one RTT each."""

    def __init__(self, cwnd: int = 16, **params: Any) -> None:
        sk = self.sk = sender(cwnd, 0, **params)
        sk.icsk_ca_priv.delay_min = 0
        sk.snd_ssthresh = opt.TCP_INFINITE_SSTHRESH
        self.counters = HOST.mib.linux = linux_mib()

    def round(self, rtt_us: int) -> tuple[int, int]:
        """One round trip with this RTT: (growth of the window, round of CSS after it)."""
        sk = self.sk
        before = sk.snd_cwnd
        sk.snd_nxt = sk.snd_una + before
        for _ in range(before):
            sk.snd_una += 1
            sk.snd_nxt += 1
            sk.tcp_mstamp += rtt_us * 1000 // before
            cubictcp_acked(sk, 1, rtt_us)
            cubictcp_cong_avoid(sk, sk.snd_una, 1)
        return sk.snd_cwnd - before, sk.icsk_ca_priv.css_round


def test_slow_start_doubles_while_the_delay_holds() -> None:
    slow = Slow()
    for _ in range(6):
        before = slow.sk.snd_cwnd
        assert slow.round(20_000) == (before, 0)


def test_a_growing_delay_ends_slow_start_after_five_slower_rounds() -> None:
    """RFC 9406 4.2: CSS grows by a quarter of that, and hands over to congestion avoidance."""
    slow = Slow()
    for _ in range(3):
        slow.round(20_000)
    slow.round(24_000)
    assert slow.sk.icsk_ca_priv.css_round == 1
    for expected in range(2, CSS_ROUNDS + 1):
        before = slow.sk.snd_cwnd
        grown, css = slow.round(24_000)
        assert css == expected
        assert grown == pytest.approx(before / 4, abs=2)
    assert slow.sk.snd_ssthresh == opt.TCP_INFINITE_SSTHRESH
    slow.round(24_000)
    assert slow.sk.snd_ssthresh < opt.TCP_INFINITE_SSTHRESH
    assert slow.counters.TCPHystartDelayDetect == 1
    assert slow.counters.TCPHystartDelayCwnd == slow.sk.snd_ssthresh


@pytest.mark.parametrize(
    ("base", "later", "css"),
    [
        (20_000, 23_900, 0),  # below the least threshold, 4 ms
        (20_000, 24_000, 1),
        (80_000, 89_900, 0),  # an eighth of the RTT
        (80_000, 90_000, 1),
        (400_000, 415_900, 0),  # the most, 16 ms
        (400_000, 416_000, 1),
    ],
)
def test_threshold_of_the_delay(base: int, later: int, css: int) -> None:
    slow = Slow()
    slow.round(base)
    slow.round(base)
    assert slow.round(later)[1] == css


def test_a_moments_delay_is_taken_back() -> None:
    slow = Slow()
    slow.round(20_000)
    slow.round(20_000)
    assert slow.round(30_000)[1] == 1
    assert slow.round(20_000)[1] == 0
    before = slow.sk.snd_cwnd
    assert slow.round(20_000) == (before, 0)


def test_small_windows_are_not_judged() -> None:
    slow = Slow(cwnd=8, hystart_low_window=64)
    slow.round(20_000)
    assert slow.round(30_000)[1] == 0
    assert slow.round(20_000)[1] == 0
    slow.round(20_000)
    assert slow.round(30_000)[1] == 1


@pytest.mark.parametrize("hystart", [True, False])
def test_hystart_leaves_slow_start_before_it_loses(hystart: bool) -> None:
    """20 Mbit/s, 40 ms, a queue of 300 ms: BDP 66 segments. Without it the queue overflows."""
    with TcpNet(
        latency_ns=20 * MS,
        rate_bps=20_000_000,
        gso=False,
        sysctl={"tcp_rmem": (4096, 6 << 20, 6 << 20), "tcp_wmem": (4096, 6 << 20, 6 << 20)},
    ) as net:
        net.keep_log = False
        row = cubictcp(cubic_params(hystart=hystart), "other")
        assert tcp_register_congestion_control(net.a, row) == 0
        net.a.sysctl.tcp_congestion_control = "other"
        limit = 300 * MS

        def full(s: Any) -> Any:
            late = net.free_at[0] - net.clock.now_ns()
            return False if s.src == A and late > limit else None

        net.filter = full
        client, server = net.pair()
        data = bytes(4_000_000)
        assert transfer(net, client, server, data, close=False) == data
        linux = net.a.mib.linux
        if hystart:
            assert client.sk.total_retrans == 0
            assert linux.TCPHystartDelayDetect == 1
            assert 66 <= linux.TCPHystartDelayCwnd <= 66 + 20_000_000 * 0.3 / 12000
        else:
            assert client.sk.total_retrans > 50
            assert linux.TCPHystartDelayDetect == 0


# --- with everything else -----------------------------------------------------------------


def test_the_default_is_cubic_as_in_linux() -> None:
    with TcpNet() as net:
        client, server = net.pair()
        for sock in (client, server):
            assert sock.getsockopt(opt.TCP_CONGESTION).rstrip(b"\0") == b"cubic"
            assert isinstance(sock.sk.icsk_ca_priv, bictcp)
        assert client.sk.icsk_ca_priv is not server.sk.icsk_ca_priv


def test_a_socket_that_never_connects_survives_its_timeouts() -> None:
    """ssthresh is asked for before the connection opens, so the state is there before `init`."""
    with TcpNet(sysctl={"tcp_syn_retries": 2}) as net:
        net.filter = lambda s: False
        client = net.client()
        net.run(60 * S)
        assert client.state == "CLOSE"


def test_spurious_timeout_gives_the_window_and_the_curve_back() -> None:
    """RFC 5682 and RFC 9438 4.9: after a delay spike the plateau is the one of before."""
    with TcpNet(sysctl={"tcp_early_retrans": 0}, latency_ns=5 * MS, gso=False) as net:
        client, server = net.pair()
        sk = client.sk
        once: list[int] = []
        net.filter = lambda s: (
            not (
                s.src == A
                and len(s.payload) > 0
                and sk.snd_cwnd > 40
                and not once
                and not once.append(1)
            )
        )
        assert transfer(net, client, server, bytes(600_000), close=False)
        assert once
        ca = sk.icsk_ca_priv
        plateau, window = ca.last_max_cwnd, sk.snd_cwnd
        assert plateau > 40
        net.run(S)
        net.latency_ns = 150 * MS
        client.send(bytes(30_000))
        net.run(5 * S)
        assert net.a.mib.linux.TCPSpuriousRTOs + net.a.mib.linux.TCPLossUndo >= 1
        assert ca.last_max_cwnd == plateau
        assert sk.snd_cwnd >= min(window, 10)
        assert sk.icsk_ca_state == opt.TCP_CA_Open
        server.recv_all()


@pytest.mark.uncompiled
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(["cubic", "reno"]),
    st.sampled_from([0.0, 0.01, 0.08]),
    st.sampled_from([0.0, 0.05]),
    st.booleans(),
)
def test_window_stays_in_its_bounds(
    seed: int, algorithm: str, loss: float, reorder: float, gso: bool
) -> None:
    """At each ACK: one segment at least, ssthresh two; no more growth than was delivered."""
    original = tcp_input.tcp_ack
    checked = 0

    def checking(sk: Any, skb: Any, flag: int) -> Any:
        nonlocal checked
        window, delivered, state = sk.snd_cwnd, sk.delivered, sk.icsk_ca_state
        undo_marker = sk.undo_marker
        undo = max(sk.prior_cwnd, window) if undo_marker else window
        result = original(sk, skb, flag)
        newly = sk.delivered - delivered
        assert sk.snd_cwnd >= 1
        assert sk.snd_ssthresh >= 2
        assert sk.snd_cwnd <= undo + max(newly, 1) + 1
        steady = state == sk.icsk_ca_state == opt.TCP_CA_Open and not undo_marker
        if steady and window >= sk.snd_ssthresh:
            assert window <= sk.snd_cwnd <= window + newly // 2 + 1
        checked += 1
        return result

    tcp_input.tcp_ack = checking  # type: ignore[assignment]
    try:
        with TcpNet(
            seed=seed,
            loss=loss,
            reorder=reorder,
            gso=gso,
            sysctl={"tcp_congestion_control": algorithm},
        ) as net:
            net.keep_log = False
            client, server = net.pair()
            data = bytes(200_000)
            assert transfer(net, client, server, data) == data
    finally:
        tcp_input.tcp_ack = original  # type: ignore[assignment]
    assert checked > 20


def test_info_shows_the_algorithm_and_its_state() -> None:
    with TcpNet(latency_ns=20 * MS) as net:
        client, server = net.pair()
        info = tcp_info_dict(client.sk)
        assert info["congestion"] == "cubic"
        assert info["congestion_info"]["phase"] == "slow_start"
        once: list[int] = []
        net.filter = lambda s: (
            not (s.src == A and client.sk.snd_cwnd > 60 and not once and not once.append(1))
        )
        assert transfer(net, client, server, bytes(3_000_000), close=False)
        state = tcp_info_dict(client.sk)["congestion_info"]
        assert state["phase"] == "avoidance"
        assert state["w_max"] > 60
        k_ms = 1000 * (0.3 * state["w_max"] / C) ** (1 / 3)
        assert state["k_ms"] == pytest.approx(k_ms, rel=0.1)
        assert 40_000 <= state["delay_min_us"] <= 41_000
        assert f"cubic:(phase:avoidance,w_max:{state['w_max']}," in ss(net.a, info=True)
        client.setsockopt(opt.TCP_CONGESTION, "reno")
        assert "cubic" not in ss(net.a, info=True)
        info = tcp_info_dict(client.sk)
        assert (info["congestion"], info["congestion_info"]) == ("reno", {})


# --- golden table -------------------------------------------------------------------------


def goodput(algorithm: str, loss: float, rtt_ms: int) -> float:
    """Mbit/s over 150 round trips of a sender that always has data, from 32 segments on."""
    net = TcpNet(
        gso=False,
        latency_ns=rtt_ms * MS // 2,
        loss=loss,
        seed=11,
        sysctl={
            "tcp_congestion_control": algorithm,
            "tcp_rmem": (4096, 6 << 20, 6 << 20),
            "tcp_wmem": (4096, 6 << 20, 6 << 20),
        },
    )
    net.keep_log = False
    client, server = net.pair()
    client.sk.snd_ssthresh = 32
    start = net.clock.now_ns()
    got = 0
    for _ in range(300):
        with contextlib.suppress(BlockingIOError):
            while client.send(bytes(65536)) == 65536:
                pass
        net.run(rtt_ms * MS // 2)
        got += len(server.recv_all())
    seconds = (net.clock.now_ns() - start) / S
    net.finish(client, server)
    net.close()
    return got * 8 / seconds / 1e6


@pytest.mark.slow
def test_golden_goodput_of_loss_and_round_trip() -> None:
    """Kept as text and reviewed as a diff; deterministic (virtual clock, seed).

    To accept a change, write the text that the failure shows into the file.
    """
    rtts = (10, 60, 240)
    lines = ["# goodput in Mbit/s over 150 round trips; rows: loss, columns: round trip in ms"]
    for algorithm in ("reno", "cubic"):
        lines.append(f"{algorithm:8}" + "".join(f"{r:>10}" for r in rtts))
        for loss in (0.001, 0.005, 0.02):
            row = "".join(f"{goodput(algorithm, loss, rtt):10.2f}" for rtt in rtts)
            lines.append(f"{loss:<8}{row}")
    text = "\n".join(lines) + "\n"
    assert GOLDEN.read_text() == text, text
