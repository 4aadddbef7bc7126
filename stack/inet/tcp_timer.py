"""net/ipv4/tcp_timer.c: retransmission, probing, delayed ACK and keepalive.

A connection has five timers, whose functions TCP_TIMERS names:

    tcp_write_timer -> tcp_write_timer_handler, by `icsk_pending`:
        ICSK_TIME_RETRANS       tcp_retransmit_timer    RTO: give up (tcp_write_timeout), or
                                                        tcp_enter_loss, resend, back off
        ICSK_TIME_PROBE0        tcp_probe_timer         the peer's window is closed
        ICSK_TIME_LOSS_PROBE    tcp_send_loss_probe
        ICSK_TIME_REO_TIMEOUT   tcp_rack_reo_timeout
    tcp_delack_timer -> tcp_delack_timer_handler        the delayed ACK
    tcp_compressed_ack_kick     the ACK for several segments out of order
    tcp_keepalive_timer         probes a silent peer; ends an orphan's FIN_WAIT2
    tcp_pace_kick               pacing lets the next packets go

A timer that finds the socket owned by a caller sets a flag in `tsq_flags`; tcp_release_cb does
the work on its release. State: `icsk_pending` and `icsk_timeout` (what the write timer is
armed for, and when), `icsk_rto`, `icsk_backoff`, `icsk_retransmits`, `rto_stamp`. Whoever arms a
timer calls inet_csk_reset_xmit_timer or tcp_reset_xmit_timer. Read tcp_retransmit_timer first.
"""

from __future__ import annotations

from functools import partial

from stack.core.dst import dst_entry
from stack.core.sock import __release_sock, sk_dst_reset, sock_owned_by_user
from stack.core.sock_flags import SOCK_DEAD, SOCK_KEEPOPEN
from stack.core.softirq import tasklet_struct
from stack.core.tcp_states import (
    TCP_CLOSE,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCPF_CLOSE,
    TCPF_LISTEN,
    TCPF_SYN_RECV,
    TCPF_SYN_SENT,
)
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import mod_timer, timer_list
from stack.core.uapi import AF_INET6
from stack.inet import tcp_ack, tcp_const
from stack.inet.inet_connection_sock import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_PROBE0,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    icsk_timer_handlers,
    inet_csk_delete_keepalive_timer,
    inet_csk_in_pingpong_mode,
    inet_csk_init_xmit_timers,
    inet_csk_reset_keepalive_timer,
    inet_rtx_syn_ack,
    request_sock,
)
from stack.inet.tcp_close import tcp_check_oom
from stack.inet.tcp_ctl import (
    tcp_send_ack,
    tcp_send_active_reset,
    tcp_send_fin,
    tcp_send_probe0,
    tcp_write_wakeup,
)
from stack.inet.tcp_data import tcp_sack_compress_send_ack
from stack.inet.tcp_done import tcp_done, tcp_write_err
from stack.inet.tcp_fastopen import tcp_fastopen_active_detect_blackhole
from stack.inet.tcp_output import tcp_push_pending_frames, tcp_reset_xmit_timer
from stack.inet.tcp_retransmit import (
    tcp_retransmit_skb,
    tcp_send_loss_probe,
    tcp_xmit_retransmit_queue,
)
from stack.inet.tcp_rtt import tcp_set_rto
from stack.inet.tcp_sock import (
    TCP_DEFERRED_ALL,
    TCPF_ACK_DEFERRED,
    TCPF_DELACK_TIMER_DEFERRED,
    TCPF_MTU_REDUCED_DEFERRED,
    TCPF_TSQ_DEFERRED,
    TCPF_WRITE_TIMER_DEFERRED,
    TSQF_QUEUED,
    TCP_CA_Disorder,
    TCP_CA_Loss,
    TCP_CA_Recovery,
    keepalive_intvl_when,
    keepalive_probes,
    keepalive_time_elapsed,
    keepalive_time_when,
    tcp_fin_time,
    tcp_mstamp_refresh,
    tcp_packets_in_flight,
    tcp_sock,
    tcp_stream_is_thin,
)
from stack.inet.tcp_timewait import tcp_time_wait
from stack.inet.tcp_window import tcp_mtu_probing
from stack.machine import Machine

TCP_THIN_LINEAR_RETRIES = 6


def tcp_init_xmit_timers(sk: tcp_sock) -> None:
    """Set the functions of the socket's timers."""
    inet_csk_init_xmit_timers(sk, TCP_TIMERS)


# --- retransmission -----------------------------------------------------------------------


def tcp_clamp_rto_to_user_timeout(sk: tcp_sock) -> int:
    """The RTO, limited so that TCP_USER_TIMEOUT takes effect in time."""
    user_timeout = sk.icsk_user_timeout
    if not user_timeout:
        return sk.icsk_rto
    elapsed: int = sk.net.clock.now_ns() - sk.rto_stamp
    remaining = user_timeout - elapsed
    return min(sk.icsk_rto, max(remaining, 1))


def tcp_orphan_retries(sk: tcp_sock, alive: bool) -> int:
    """How often an orphan retransmits."""
    retries: int = sk.net.sysctl.tcp_orphan_retries
    if sk.sk_err_soft and not alive:
        retries = 0
    if retries == 0 and alive:
        retries = 8
    return retries


def tcp_out_of_resources(sk: tcp_sock, do_reset: bool) -> bool:
    """Kill the orphan sk if the host has too many orphans or too little memory; True if killed.

    An orphan that is idle for long or had an ICMP error counts more, so it is killed sooner. The
    peer gets a RST if we sent data recently, if its window is closed, or with `do_reset`.
    """
    idle = sk.net.clock.now_ns() - sk.lsndtime
    shift = int(idle > 2 * sk.icsk_rto_max or not do_reset) + bool(sk.sk_err_soft)
    if not tcp_check_oom(sk, shift):
        return False
    if do_reset or idle <= tcp_const.TCP_TIMEWAIT_LEN or (not sk.snd_wnd and not sk.packets_out):
        tcp_send_active_reset(sk)
    tcp_done(sk)
    sk.net.mib.linux.TCPAbortOnMemory += 1
    return True


def tcp_model_timeout(sk: tcp_sock, boundary: int, rto_base: int) -> int:
    """Time that `boundary` retransmissions take, doubling from rto_base up to RTO_MAX, ns."""
    rto_max = sk.icsk_rto_max
    thresh = (rto_max // rto_base).bit_length() - 1
    if boundary <= thresh:
        return ((2 << boundary) - 1) * rto_base
    return ((2 << thresh) - 1) * rto_base + (boundary - thresh) * rto_max


def retransmits_timed_out(sk: tcp_sock, boundary: int, timeout: int) -> bool:
    """True when retransmitting has lasted for `timeout` ns (0: as `boundary` retries take)."""
    if not sk.icsk_retransmits:
        return False
    if not timeout:
        rto_base = (
            NSEC_PER_SEC
            if (1 << sk.sk_state) & (TCPF_SYN_SENT | TCPF_SYN_RECV)
            else tcp_const.TCP_RTO_MIN
        )
        timeout = tcp_model_timeout(sk, boundary, rto_base)
    elapsed: int = sk.net.clock.now_ns() - sk.rto_stamp
    return elapsed >= timeout


def dst_negative_advice(sk: tcp_sock) -> None:
    """include/net/sock.h: drop the cached route of a silent peer if it may be the cause.

    IPv4's is dropped when ICMP changed it or it is obsolete (ipv4_negative_advice), IPv6's unless
    it has a lifetime that has not ended (ip6_negative_advice).
    """
    dst: dst_entry | None = sk.sk_dst_cache
    if dst is None:
        return
    learned = dst.expires != 0
    if dst.ops is not None and dst.ops.family == AF_INET6:
        if learned and sk.net.clock.now_ns() < dst.expires:
            return
        sk_dst_reset(sk)
    elif learned or dst.obsolete > 0:
        sk_dst_reset(sk)


def tcp_write_timeout(sk: tcp_sock) -> bool:
    """End the connection if it retransmitted for too long; True if so."""
    sysctl = sk.net.sysctl
    expired = False
    if (1 << sk.sk_state) & (TCPF_SYN_SENT | TCPF_SYN_RECV):
        if sk.icsk_retransmits:
            dst_negative_advice(sk)
        retry_until = sk.icsk_syn_retries or sysctl.tcp_syn_retries
        max_retransmits = retry_until
        if sk.sk_state == TCP_SYN_SENT:
            max_retransmits += sysctl.tcp_syn_linear_timeouts
        # The linear retries take none of the time that doubling ones would.
        expired = sk.icsk_retransmits >= max_retransmits
    else:
        if retransmits_timed_out(sk, sysctl.tcp_retries1, 0):
            tcp_mtu_probing(sk)
            dst_negative_advice(sk)
        retry_until = sysctl.tcp_retries2
        if sk.sk_flags & SOCK_DEAD:
            alive = sk.icsk_rto < sk.icsk_rto_max
            retry_until = tcp_orphan_retries(sk, alive)
            do_reset = alive or not retransmits_timed_out(sk, retry_until, 0)
            if tcp_out_of_resources(sk, do_reset):
                return True
    if not expired:
        expired = retransmits_timed_out(sk, retry_until, sk.icsk_user_timeout)
    tcp_fastopen_active_detect_blackhole(sk, expired)
    if expired:
        tcp_write_err(sk)
    return expired


def tcp_rtx_probe0_timed_out(sk: tcp_sock, rtx_delta: int) -> bool:
    """The peer shrank its window to 0 over data in flight: whether this has lasted too long."""
    user_timeout = sk.icsk_user_timeout
    if user_timeout:
        return sk.retrans_stamp != 0 and sk.net.clock.now_ns() - sk.retrans_stamp >= user_timeout
    timeout = sk.icsk_rto_max * 2
    return sk.net.clock.now_ns() - sk.rcv_tstamp > timeout and rtx_delta > timeout


def tcp_update_rto_stats(sk: tcp_sock) -> None:
    """A timeout: count it, and note when the first in a row was."""
    if not sk.icsk_retransmits:
        sk.total_rto_recoveries += 1
        sk.rto_recovery_start = sk.net.clock.now_ns()
        if sk.sk_state != TCP_SYN_SENT:
            # RFC 9293 3.8.3 counts from the first retransmission without progress. retrans_stamp
            # may be older: it is the start of the whole recovery.
            sk.rto_stamp = sk.rto_recovery_start
    sk.icsk_retransmits += 1
    sk.total_rto += 1


def tcp_fastopen_synack_timer(sk: tcp_sock, req: request_sock) -> None:
    """A Fast Open child's SYN-ACK was not acknowledged: retransmit it, or give up."""
    sk.net.mib.linux.TCPTimeouts += 1
    most = sk.icsk_syn_retries or sk.net.sysctl.tcp_synack_retries + 1
    if req.num_timeout >= most:
        tcp_write_err(sk)
        return
    if sk.icsk_retransmits == 1:
        tcp_ack.tcp_enter_loss(sk)
    inet_rtx_syn_ack(sk, req)  # the application may have the socket: retry after an error
    req.num_timeout += 1
    tcp_update_rto_stats(sk)
    if not sk.retrans_stamp:
        sk.retrans_stamp = sk.tcp_mstamp or 1
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, req.timeout << req.num_timeout)


def tcp_retransmit_timer(sk: tcp_sock) -> None:
    """The RTO expired (RFC 6298 5.4-5.7): collapse the window, resend the oldest, back off."""
    if sk.fastopen_rsk is not None:
        # Nothing else is retransmitted before the SYN-ACK is acknowledged.
        tcp_fastopen_synack_timer(sk, sk.fastopen_rsk)
        return
    if not sk.packets_out:
        return
    skb = sk.tcp_rtx_queue.peek()
    if skb is None:
        return
    linux = sk.net.mib.linux
    if (
        not sk.snd_wnd
        and not sk.sk_flags & SOCK_DEAD
        and not (1 << sk.sk_state) & (TCPF_SYN_SENT | TCPF_SYN_RECV)
    ):
        rtx_delta = sk.net.clock.now_ns() - (sk.retrans_stamp or skb.tx_tstamp_ns)
        if tcp_rtx_probe0_timed_out(sk, rtx_delta):
            tcp_write_err(sk)
            return
        tcp_ack.tcp_enter_loss(sk)
        tcp_retransmit_skb(sk, skb, 1)
        sk_dst_reset(sk)
    else:
        linux.TCPTimeouts += 1
        if tcp_write_timeout(sk):
            return
        if sk.icsk_retransmits == 0:
            if sk.icsk_ca_state == TCP_CA_Recovery:
                if sk.rx_opt.sack_ok:
                    linux.TCPSackRecoveryFail += 1
                else:
                    linux.TCPRenoRecoveryFail += 1
            elif sk.icsk_ca_state == TCP_CA_Loss:
                linux.TCPLossFailures += 1
            elif sk.icsk_ca_state == TCP_CA_Disorder or sk.sacked_out:
                if sk.rx_opt.sack_ok:
                    linux.TCPSackFailures += 1
                else:
                    linux.TCPRenoFailures += 1
        tcp_ack.tcp_enter_loss(sk)
        tcp_update_rto_stats(sk)
        skb = sk.tcp_rtx_queue.peek()
        assert skb is not None  # packets are out
        if tcp_retransmit_skb(sk, skb, 1) != 0:
            # Nothing was sent (no buffer, no route): retry soon, without backoff.
            tcp_reset_xmit_timer(
                sk, ICSK_TIME_RETRANS, min(sk.icsk_rto, tcp_const.TCP_RESOURCE_PROBE_INTERVAL)
            )
            return
    if (
        sk.sk_state == TCP_ESTABLISHED
        and (sk.thin_lto or sk.net.sysctl.tcp_thin_linear_timeouts)
        and tcp_stream_is_thin(sk)
        and sk.icsk_retransmits <= TCP_THIN_LINEAR_RETRIES
    ):
        # Too few packets are in flight for fast retransmit, so the first timeouts are not doubled.
        sk.icsk_backoff = 0
        tcp_set_rto(sk)
    elif sk.sk_state != TCP_SYN_SENT or sk.total_rto > sk.net.sysctl.tcp_syn_linear_timeouts:
        sk.icsk_backoff += 1
        sk.icsk_rto = min(sk.icsk_rto << 1, sk.icsk_rto_max)
    tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, tcp_clamp_rto_to_user_timeout(sk))
    if retransmits_timed_out(sk, sk.net.sysctl.tcp_retries1 + 1, 0):
        sk_dst_reset(sk)  # perhaps another route works


def tcp_ld_RTO_revert(sk: tcp_sock, seq: int) -> None:
    """net/ipv4/tcp_ipv4.c: a retransmission found no route, so its loss is no congestion: back off
    once less (RFC 6069)."""
    skb = sk.tcp_rtx_queue.peek()
    if sock_owned_by_user(sk) or seq != sk.snd_una or skb is None:
        return
    if not sk.icsk_retransmits or not sk.icsk_backoff:
        return
    sk.icsk_backoff -= 1
    if sk.srtt_us:
        tcp_set_rto(sk)
    else:
        sk.icsk_rto = tcp_const.TCP_TIMEOUT_INIT
    sk.icsk_rto = min(sk.icsk_rto << min(sk.icsk_backoff, 20), sk.icsk_rto_max)
    tcp_mstamp_refresh(sk)
    remaining = sk.icsk_rto - (sk.tcp_mstamp - skb.tx_tstamp_ns)
    if remaining > 0:
        tcp_reset_xmit_timer(sk, ICSK_TIME_RETRANS, remaining)
    else:
        tcp_retransmit_timer(sk)


def tcp_probe_timer(sk: tcp_sock) -> None:
    """The window is 0 and data waits."""
    skb = sk.sk_write_queue.peek()
    if sk.packets_out or skb is None:
        sk.icsk_probes_out = 0
        sk.icsk_probes_tstamp = 0
        if not sk.packets_out and sk.sk_state in (TCP_FIN_WAIT1, TCP_CLOSING, TCP_LAST_ACK):
            tcp_send_fin(sk)  # it had no buffer before
        return
    now = sk.net.clock.now_ns()
    if not sk.icsk_probes_tstamp:
        sk.icsk_probes_tstamp = now or 1
    elif sk.icsk_user_timeout and now - sk.icsk_probes_tstamp >= sk.icsk_user_timeout:
        tcp_write_err(sk)
        return
    max_probes = sk.net.sysctl.tcp_retries2
    if sk.sk_flags & SOCK_DEAD:
        alive = sk.icsk_rto << min(sk.icsk_backoff, 20) < sk.icsk_rto_max
        max_probes = tcp_orphan_retries(sk, alive)
        if not alive and sk.icsk_backoff >= max_probes:
            tcp_write_err(sk)
            return
        if tcp_out_of_resources(sk, True):
            return
    if sk.icsk_probes_out >= max_probes:
        tcp_write_err(sk)
    else:
        tcp_send_probe0(sk)


def tcp_write_timer_handler(sk: tcp_sock) -> None:
    """Handle the write timer's event (icsk_pending)."""
    if (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN) or not sk.icsk_pending:
        return
    now = sk.net.clock.now_ns()
    if sk.icsk_timeout > now:
        mod_timer(sk.icsk_retransmit_timer, sk.icsk_timeout)
        return
    tcp_mstamp_refresh(sk)
    event = sk.icsk_pending
    if event == ICSK_TIME_REO_TIMEOUT:
        tcp_ack.tcp_rack_reo_timeout(sk)
    elif event == ICSK_TIME_LOSS_PROBE:
        tcp_send_loss_probe(sk)
    elif event == ICSK_TIME_RETRANS:
        sk.icsk_pending = 0
        tcp_retransmit_timer(sk)
    elif event == ICSK_TIME_PROBE0:
        sk.icsk_pending = 0
        tcp_probe_timer(sk)


def tcp_write_timer(timer: timer_list) -> None:
    sk = timer.data
    if not sk.icsk_pending:
        return
    if not sock_owned_by_user(sk):
        tcp_write_timer_handler(sk)
    else:
        sk.tsq_flags |= TCPF_WRITE_TIMER_DEFERRED


# --- delayed ACK --------------------------------------------------------------------------


def tcp_delack_timer_handler(sk: tcp_sock) -> None:
    """Send the delayed ACK. No data carried it in time, so raise the ATO or leave pingpong mode."""
    if (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        return
    if sk.compressed_ack:
        tcp_mstamp_refresh(sk)
        tcp_sack_compress_send_ack(sk)
        return
    if not sk.icsk_ack_pending & ICSK_ACK_TIMER:
        return
    if sk.icsk_ack_timeout > sk.net.clock.now_ns():
        mod_timer(sk.icsk_delack_timer, sk.icsk_ack_timeout)
        return
    sk.icsk_ack_pending &= ~ICSK_ACK_TIMER
    if sk.icsk_ack_pending & ICSK_ACK_SCHED:
        if not inet_csk_in_pingpong_mode(sk):
            sk.icsk_ack_ato = min(sk.icsk_ack_ato << 1, sk.icsk_rto)
        else:
            sk.icsk_ack_pingpong = 0
            sk.icsk_ack_ato = tcp_const.TCP_ATO_MIN
        tcp_mstamp_refresh(sk)
        tcp_send_ack(sk)
        sk.net.mib.linux.DelayedACKs += 1


def tcp_delack_timer(timer: timer_list) -> None:
    sk = timer.data
    if not sock_owned_by_user(sk):
        tcp_delack_timer_handler(sk)
    else:
        sk.net.mib.linux.DelayedACKLocked += 1
        sk.tsq_flags |= TCPF_DELACK_TIMER_DEFERRED


def tcp_compressed_ack_kick(timer: timer_list) -> None:
    """Send the ACK of segments out of order that was held back (tcp_compress_ack)."""
    sk = timer.data
    if sock_owned_by_user(sk):
        sk.tsq_flags |= TCPF_DELACK_TIMER_DEFERRED
    elif sk.compressed_ack:
        tcp_mstamp_refresh(sk)
        tcp_sack_compress_send_ack(sk)


# --- keepalive (and FIN_WAIT2) ------------------------------------------------------------


def tcp_set_keepalive(sk: tcp_sock, val: int | bool) -> None:
    """SO_KEEPALIVE was switched."""
    if (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        return
    if val and not sk.sk_flags & SOCK_KEEPOPEN:
        inet_csk_reset_keepalive_timer(sk, keepalive_time_when(sk))
    elif not val:
        inet_csk_delete_keepalive_timer(sk)


def tcp_keepalive_timer(timer: timer_list) -> None:
    """Probe a silent peer (RFC 9293 3.8.4); end an orphan's FIN_WAIT2."""
    sk = timer.data
    if sock_owned_by_user(sk):
        inet_csk_reset_keepalive_timer(sk, NSEC_PER_SEC // 20)
        return
    if sk.sk_state in (TCP_LISTEN, TCP_CLOSE):
        return
    tcp_mstamp_refresh(sk)
    if sk.sk_state == TCP_FIN_WAIT2 and sk.sk_flags & SOCK_DEAD:
        if sk.linger2 >= 0:
            tmo = tcp_fin_time(sk) - tcp_const.TCP_TIMEWAIT_LEN
            if tmo > 0:
                tcp_time_wait(sk, TCP_FIN_WAIT2, tmo)
                return
        tcp_send_active_reset(sk)
        tcp_done(sk)
        return
    if not sk.sk_flags & SOCK_KEEPOPEN or sk.sk_state in (TCP_SYN_SENT, TCP_SYN_RECV):
        return
    elapsed = keepalive_time_when(sk)
    if not sk.packets_out and sk.write_seq == sk.snd_nxt:
        elapsed = keepalive_time_elapsed(sk)
        if elapsed >= keepalive_time_when(sk):
            user_timeout = sk.icsk_user_timeout
            if (user_timeout and elapsed >= user_timeout and sk.icsk_probes_out > 0) or (
                not user_timeout and sk.icsk_probes_out >= keepalive_probes(sk)
            ):
                tcp_send_active_reset(sk)
                tcp_write_err(sk)
                return
            if tcp_write_wakeup(sk, "TCPKeepAlive") <= 0:
                sk.icsk_probes_out += 1
                elapsed = keepalive_intvl_when(sk)
            else:
                elapsed = tcp_const.TCP_RESOURCE_PROBE_INTERVAL
        else:
            elapsed = keepalive_time_when(sk) - elapsed
    inet_csk_reset_keepalive_timer(sk, max(elapsed, tcp_const.TCP_TIMEOUT_MIN))


# --- small queues, pacing -----------------------------------------------------------------


def tcp_tsq_handler(sk: tcp_sock) -> None:
    """net/ipv4/tcp_output.c (with tcp_tsq_write): send what tcp_small_queue_check or pacing held
    back."""
    if (1 << sk.sk_state) & (TCPF_CLOSE | TCPF_LISTEN):
        return
    tcp_mstamp_refresh(sk)
    if sk.lost_out > sk.retrans_out and sk.snd_cwnd > tcp_packets_in_flight(sk):
        tcp_xmit_retransmit_queue(sk)
    tcp_push_pending_frames(sk)


def tcp_tsq_workfn(machine: Machine) -> None:
    """net/ipv4/tcp_output.c: let the sockets whose packets were sent continue."""
    head = machine.tsq_head
    for _ in range(len(head)):
        sk: tcp_sock = head.pop(0)
        sk.tsq_flags &= ~TSQF_QUEUED
        if sock_owned_by_user(sk):
            sk.tsq_flags |= TCPF_TSQ_DEFERRED
        else:
            tcp_tsq_handler(sk)


def tcp_tasklet_init(machine: Machine) -> None:
    """net/ipv4/tcp_output.c: a machine's list of these sockets, and what runs tcp_tsq_workfn."""
    machine.tsq_head = []
    machine.tsq_tasklet = tasklet_struct(partial(tcp_tsq_workfn, machine))


def tcp_pace_kick(timer: timer_list) -> None:
    """net/ipv4/tcp_output.c: the pacing timer expired; continue sending (SO_MAX_PACING_RATE)."""
    sk = timer.data
    if sock_owned_by_user(sk):
        sk.tsq_flags |= TCPF_TSQ_DEFERRED
    else:
        tcp_tsq_handler(sk)


# --- deferred work ------------------------------------------------------------------------


def tcp_release_cb(sk: tcp_sock) -> None:
    """net/ipv4/tcp_output.c: run the work that timers, ICMP and the backlog deferred."""
    while flags := sk.tsq_flags & TCP_DEFERRED_ALL:
        sk.tsq_flags &= ~TCP_DEFERRED_ALL
        if flags & TCPF_TSQ_DEFERRED:
            tcp_tsq_handler(sk)
        if flags & TCPF_WRITE_TIMER_DEFERRED:
            tcp_write_timer_handler(sk)
        if flags & TCPF_DELACK_TIMER_DEFERRED:
            tcp_delack_timer_handler(sk)
        if flags & TCPF_MTU_REDUCED_DEFERRED:
            sk.icsk_af_ops.mtu_reduced(sk)
        if flags & TCPF_ACK_DEFERRED and sk.icsk_ack_pending & ICSK_ACK_SCHED:
            tcp_send_ack(sk)
        if sk.sk_backlog.qlen:
            # On loopback the answers to the data just sent are already in the backlog.
            __release_sock(sk)


TCP_TIMERS = icsk_timer_handlers(
    tcp_write_timer,
    tcp_delack_timer,
    tcp_keepalive_timer,
    tcp_pace_kick,
    tcp_compressed_ack_kick,
)
