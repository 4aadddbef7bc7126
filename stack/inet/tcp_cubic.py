"""net/ipv4/tcp_cubic.c: CUBIC (RFC 9438) with HyStart++ (RFC 9406), the default as on Linux.

After a loss the window follows W(t) = C (t - K)^3 + W_max: concave up to the window of the last
loss, flat there, convex beyond. Below what Reno would reach (W_est) it follows Reno. All
arithmetic is in integers: windows in segments, K and t in 1/1024 s, C and beta in 1/1024.

Where this leaves Linux, and why:

- **HyStart++ instead of HyStart.** Linux looks for the end of slow start by trains of ACKs and by
  one delay threshold, and leaves at once. Both take a jittery delay for a full queue, and trains of
  ACKs say little after GRO, which is always on here. RFC 9406 uses the delay only, and tests it:
  conservative slow start grows at a quarter rate for five round trips, returning to slow start
  if the delay goes away. Only a connection's first slow start is watched (RFC 9406 4.3).
  RFC 9406's limit of 8 segments an ACK for senders without pacing is left out: one ACK answers a
  whole super-packet here, and Linux has no such limit either.
- **Reno's share grows by a whole segment a round trip** once W_est has reached the window before
  the loss (RFC 9438 4.3); Linux keeps 3 (1 - beta) / (1 + beta).
- **The curve is read once a round trip**, where that is shorter than Linux's 1/32 s: W_est of a
  fast path would lag behind Reno by several round trips.
- **Undo restores the curve**, not only the window (RFC 9438 4.9): W_max, K, W_est and the epoch.
- **The window does not grow for time in which it was not used** (RFC 9438 4.2, 5.8). Linux
  subtracts idle times only; here times in which the application limits sending count as well.

As on Linux and not in RFC 9438: before the first loss the window grows by at least a twentieth a
round trip, since the plateau is not known yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastpath.errors import whole_number
from stack.core.rows import i32, narrow, row, state, u32, wide
from stack.core.time64 import NSEC_PER_MSEC, NSEC_PER_SEC
from stack.inet.tcp_cong import (
    tcp_cong_avoid_ai,
    tcp_congestion_ops,
    tcp_is_cwnd_limited,
    tcp_reno_undo_cwnd,
    tcp_slow_start,
)
from stack.inet.tcp_sock import (
    CA_EVENT_TX_START,
    TCP_INFINITE_SSTHRESH,
    TCP_CA_Loss,
    before,
    tcp_sock,
)

BICTCP_HZ = 10  # times are in 1 / 2**10 s
BETA_SCALE = 1024
UPDATE_NS = NSEC_PER_SEC // 32  # how often the curve is read while the window stays, at least

# RFC 9406 4.3
MIN_RTT_THRESH_US = 4000
MAX_RTT_THRESH_US = 16000
RTT_DIVISOR_SHIFT = 3
N_RTT_SAMPLE = 8
CSS_GROWTH_DIVISOR = 4
CSS_ROUNDS = 5
RTT_NEVER = 1 << 62


@dataclass(slots=True)
class cubic_params:
    """The module's parameters, with Linux's names, units and defaults.

    beta: the window after a loss, in 1/1024 of the one before (0.7).
    bic_scale: C in 10/1024 segments a s^3: 41 makes 410/1024 (0.4).
    fast_convergence: a flow with a loss below its last plateau yields bandwidth (RFC 9438 4.7).
    tcp_friendliness: never slower than Reno (RFC 9438 4.3).
    hystart: leave the first slow start before a loss (HyStart++).
    hystart_low_window: not below this many segments.
    initial_ssthresh: where the first slow start ends, without hystart; 0: at the first loss.
    """

    beta: int = 717
    bic_scale: int = 41
    fast_convergence: bool = True
    tcp_friendliness: bool = True
    hystart: bool = True
    hystart_low_window: int = 16
    initial_ssthresh: int = 0
    cube_rtt_scale: wide = field(init=False)
    cube_factor: wide = field(init=False)
    beta_scale: int = field(init=False)

    def __post_init__(self) -> None:
        whole_number("cubic_params", "beta", self.beta, 1, BETA_SCALE - 1)
        whole_number("cubic_params", "bic_scale", self.bic_scale, 1, 1 << 16)
        whole_number("cubic_params", "hystart_low_window", self.hystart_low_window, 0)
        whole_number("cubic_params", "initial_ssthresh", self.initial_ssthresh, 0)
        # cube_rtt_scale: C in 1/1024 segment per s^3. cube_factor: its inverse for times in
        # 1/1024 s. beta_scale: 8 times the windows ACKed until Reno with our beta adds a segment.
        self.cube_rtt_scale = self.bic_scale * 10
        self.cube_factor = (1 << (10 + 3 * BICTCP_HZ)) // self.cube_rtt_scale
        self.beta_scale = 8 * (BETA_SCALE + self.beta) // 3 // (BETA_SCALE - self.beta)


@state
class bictcp:
    """One connection's CUBIC (the kernel's `struct bictcp`). Windows in segments, times in ns."""

    params: cubic_params
    cwnd_prior: u32 = row(0)
    """The window before the last reduction."""
    ack_stamp: int = row(0)
    """Time of the last ACK."""
    undo: tuple[int, int, int, int, int, int, int] = row((0, 0, 0, 0, 0, 0, 0))
    end_seq: u32 = row(0)

    # Reset by a timeout (bictcp_reset).
    cnt: u32 = row(0)
    """Segments ACKed until the window grows by one."""
    last_max_cwnd: u32 = row(0)
    """W_max."""
    last_cwnd: u32 = row(0)
    last_time: int = row(0)
    bic_origin_point: u32 = row(0)
    """The plateau of this epoch."""
    bic_K: int = row(0)
    """From the epoch's start to the plateau, 1/1024 s."""
    delay_min: int = row(0)
    """us"""
    epoch_start: int = row(0)
    """Start of this epoch of congestion avoidance; 0: none."""
    ack_cnt: i32 = row(0)
    tcp_cwnd: u32 = row(0)
    """W_est."""

    # Reset when slow start is watched anew (bictcp_hystart_reset).
    curr_rtt: int = row(RTT_NEVER)
    """Least of this round, us."""
    last_rtt: int = row(RTT_NEVER)
    """Least of the round before."""
    sample_cnt: i32 = row(0)
    css_round: i32 = row(0)
    """0: plain slow start; else the round of conservative slow start."""
    css_baseline: int = row(RTT_NEVER)


def bictcp_reset(ca: bictcp) -> None:
    """Reset all that was learned about the path."""
    ca.cnt = 0
    ca.last_max_cwnd = 0
    ca.last_cwnd = 0
    ca.last_time = 0
    ca.bic_origin_point = 0
    ca.bic_K = 0
    ca.delay_min = 0
    ca.epoch_start = 0
    ca.ack_cnt = 0
    ca.tcp_cwnd = 0


def bictcp_hystart_reset(ca: bictcp) -> None:
    """Reset the measurements of slow start's rounds."""
    ca.curr_rtt = RTT_NEVER
    ca.last_rtt = RTT_NEVER
    ca.sample_cnt = 0
    ca.css_round = 0
    ca.css_baseline = RTT_NEVER


def cubic_state(sk: tcp_sock) -> bictcp:
    """Return the connection's state (inet_csk_ca)."""
    ca: bictcp = sk.icsk_ca_priv
    return ca


def cubic_root(a: wide) -> int:
    """Return the largest r with r^3 <= a, by Newton's iteration from above."""
    if a <= 0:
        return 0
    r: wide = 1 << (a.bit_length() + 2) // 3
    while (closer := (2 * r + a // (r * r)) // 3) < r:
        r = closer
    return narrow(r)


# --- the curve ----------------------------------------------------------------------------


def bictcp_update(ca: bictcp, cwnd: int, acked: int, now: int) -> None:
    """Count `acked` delivered segments and set `cnt`, the ACKed segments per window growth."""
    ca.ack_cnt += acked
    if ca.last_cwnd == cwnd and now - ca.last_time <= min(UPDATE_NS, ca.delay_min * 1000):
        return
    params = ca.params
    ca.last_cwnd = cwnd
    ca.last_time = now
    if not ca.epoch_start:
        ca.epoch_start = now
        ca.ack_cnt = acked
        ca.tcp_cwnd = cwnd
        if ca.last_max_cwnd <= cwnd:
            ca.bic_K = 0
            ca.bic_origin_point = cwnd
        else:
            ca.bic_K = cubic_root(params.cube_factor * (ca.last_max_cwnd - cwnd))
            ca.bic_origin_point = ca.last_max_cwnd
    # Aim one round trip ahead, when the packets sent now are acknowledged.
    t = (now - ca.epoch_start + ca.delay_min * 1000 << 1) // (NSEC_PER_SEC >> BICTCP_HZ - 1)
    offset: wide = t - ca.bic_K  # its cube outgrows 63 bits
    if offset >= 0:
        delta = params.cube_rtt_scale * offset * offset * offset >> (10 + 3 * BICTCP_HZ)
        target = ca.bic_origin_point + delta
    else:
        delta = params.cube_rtt_scale * -offset * offset * offset >> (10 + 3 * BICTCP_HZ)
        target = ca.bic_origin_point - delta
    cnt = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
    if not ca.last_max_cwnd and cnt > 20:
        cnt = 20
    if params.tcp_friendliness:
        if ca.tcp_cwnd < ca.cwnd_prior:
            per_segment = max(cwnd * params.beta_scale >> 3, 1)
        else:
            per_segment = cwnd
        if ca.ack_cnt > per_segment:
            grown = (ca.ack_cnt - 1) // per_segment
            ca.ack_cnt -= grown * per_segment
            ca.tcp_cwnd += grown
        if ca.tcp_cwnd > cwnd:
            cnt = min(cnt, cwnd // (ca.tcp_cwnd - cwnd))
    ca.cnt = narrow(max(cnt, 2))  # at most half a window per round trip (RFC 9438 4.2)


def cubictcp_cong_avoid(sk: tcp_sock, ack: int, acked: int) -> None:
    """`acked` segments were delivered: grow the window."""
    ca = cubic_state(sk)
    now = sk.tcp_mstamp
    if not tcp_is_cwnd_limited(sk):
        if ca.epoch_start:
            ca.epoch_start += now - ca.ack_stamp
        ca.ack_stamp = now
        return
    ca.ack_stamp = now
    if sk.snd_cwnd < sk.snd_ssthresh:
        if ca.css_round:
            tcp_cong_avoid_ai(sk, CSS_GROWTH_DIVISOR, acked)
            return
        acked = tcp_slow_start(sk, acked)
        if not acked:
            return
    bictcp_update(ca, sk.snd_cwnd, acked, now)
    tcp_cong_avoid_ai(sk, ca.cnt, acked)


def cubictcp_recalc_ssthresh(sk: tcp_sock) -> int:
    """On congestion remember the plateau (W_max) and return the reduced window."""
    ca = cubic_state(sk)
    params = ca.params
    cwnd = sk.snd_cwnd
    ca.undo = (
        ca.last_max_cwnd,
        ca.bic_origin_point,
        ca.bic_K,
        ca.epoch_start,
        ca.ack_cnt,
        ca.tcp_cwnd,
        ca.cwnd_prior,
    )
    bictcp_hystart_reset(ca)
    ca.epoch_start = 0
    ca.cwnd_prior = cwnd
    if cwnd < ca.last_max_cwnd and params.fast_convergence:
        ca.last_max_cwnd = cwnd * (BETA_SCALE + params.beta) // (2 * BETA_SCALE)
    else:
        ca.last_max_cwnd = cwnd
    return max(cwnd * params.beta // BETA_SCALE, 2)


def cubictcp_undo_cwnd(sk: tcp_sock) -> int:
    """A reduction proved wrong: restore the curve and return the window before it."""
    ca = cubic_state(sk)
    (
        ca.last_max_cwnd,
        ca.bic_origin_point,
        ca.bic_K,
        ca.epoch_start,
        ca.ack_cnt,
        ca.tcp_cwnd,
        ca.cwnd_prior,
    ) = ca.undo
    ca.last_time = 0
    return tcp_reno_undo_cwnd(sk)


def cubictcp_state(sk: tcp_sock, new_state: int) -> None:
    """After a timeout K = 0 and the plateau is where slow start will end (RFC 9438 4.8)."""
    if new_state == TCP_CA_Loss:
        ca = cubic_state(sk)
        bictcp_reset(ca)
        bictcp_hystart_reset(ca)


def cubictcp_cwnd_event(sk: tcp_sock, event: int) -> None:
    """Sending restarts after a pause: exclude the pause from the curve's time."""
    if event != CA_EVENT_TX_START:
        return
    ca = cubic_state(sk)
    if not ca.epoch_start:
        return
    now = sk.tcp_mstamp
    idle = now - max(sk.lsndtime, ca.ack_stamp)
    if idle > 0:
        ca.epoch_start = min(ca.epoch_start + idle, now)
        ca.ack_stamp = now


def cubictcp_init(sk: tcp_sock) -> None:
    """The connection was established."""
    ca = cubic_state(sk)
    bictcp_reset(ca)
    bictcp_hystart_reset(ca)
    ca.end_seq = sk.snd_nxt
    params = ca.params
    if not params.hystart and params.initial_ssthresh:
        sk.snd_ssthresh = params.initial_ssthresh


# --- HyStart++ ----------------------------------------------------------------------------


def hystart_round(sk: tcp_sock, ca: bictcp) -> None:
    """All packets in flight at the round's start are acknowledged: begin the next round."""
    ca.end_seq = sk.snd_nxt
    ca.last_rtt = ca.curr_rtt
    ca.curr_rtt = RTT_NEVER
    ca.sample_cnt = 0
    if not ca.css_round:
        return
    if ca.css_round < CSS_ROUNDS:
        ca.css_round += 1
        return
    ca.css_round = 0
    sk.snd_ssthresh = sk.snd_cwnd
    linux = sk.net.mib.linux
    linux.TCPHystartDelayDetect += 1
    linux.TCPHystartDelayCwnd += sk.snd_cwnd


def hystart_update(sk: tcp_sock, ca: bictcp, rtt_us: int) -> None:
    """One RTT of the first slow start (RFC 9406 4.2)."""
    if not before(sk.snd_una, ca.end_seq):
        hystart_round(sk, ca)
    if rtt_us < ca.curr_rtt:
        ca.curr_rtt = rtt_us
    ca.sample_cnt += 1
    if ca.sample_cnt < N_RTT_SAMPLE:
        return
    if ca.css_round:
        if ca.curr_rtt < ca.css_baseline:
            # The delay went away, so our own packets did not cause it.
            ca.css_round = 0
            ca.css_baseline = RTT_NEVER
        return
    last = ca.last_rtt
    if last == RTT_NEVER or sk.snd_cwnd < ca.params.hystart_low_window:
        return
    threshold = max(MIN_RTT_THRESH_US, min(last >> RTT_DIVISOR_SHIFT, MAX_RTT_THRESH_US))
    if ca.curr_rtt >= last + threshold:
        ca.css_baseline = ca.curr_rtt
        ca.css_round = 1


def cubictcp_acked(sk: tcp_sock, pkts_acked: int, rtt_us: int) -> None:
    """Take an ACK's RTT: update the path's minimum, and check whether slow start should end."""
    if rtt_us < 0:
        return
    ca = cubic_state(sk)
    # Recovery's own bursts and gaps distort the first samples after it.
    if ca.epoch_start and sk.tcp_mstamp - ca.epoch_start < NSEC_PER_SEC:
        return
    delay = rtt_us or 1
    if not ca.delay_min or delay < ca.delay_min:
        ca.delay_min = delay
    if sk.snd_ssthresh >= TCP_INFINITE_SSTHRESH and ca.params.hystart:
        hystart_update(sk, ca, delay)


def cubictcp_get_info(sk: tcp_sock) -> dict[str, int | str]:
    """What `ss -i` of this host shows: windows in segments, times in ms and us."""
    ca = cubic_state(sk)
    if sk.snd_cwnd < sk.snd_ssthresh:
        phase = "css" if ca.css_round else "slow_start"
    else:
        phase = "avoidance"
    began = ca.epoch_start
    return {
        "phase": phase,
        "w_max": ca.last_max_cwnd,
        "w_est": ca.tcp_cwnd,
        "k_ms": ca.bic_K * 1000 >> BICTCP_HZ,
        "epoch_ms": (sk.net.clock.now_ns() - began) // NSEC_PER_MSEC if began else 0,
        "delay_min_us": ca.delay_min,
    }


def cubictcp(params: cubic_params | None = None, name: str = "cubic") -> tcp_congestion_ops:
    """Return the module's row; with other `params` it can be registered under another `name`."""
    chosen = cubic_params() if params is None else params
    return tcp_congestion_ops(
        name=name,
        priv=lambda: bictcp(chosen),
        init=cubictcp_init,
        ssthresh=cubictcp_recalc_ssthresh,
        cong_avoid=cubictcp_cong_avoid,
        set_state=cubictcp_state,
        undo_cwnd=cubictcp_undo_cwnd,
        cwnd_event=cubictcp_cwnd_event,
        pkts_acked=cubictcp_acked,
        get_info=cubictcp_get_info,
    )
